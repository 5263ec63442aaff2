# SPDX-License-Identifier: MIT
"""Decorators that wait for the functions below them."""

from __future__ import annotations

from typing import Any, Callable, NoReturn

__all__ = ["Decorator"]


class Decorator:
    """Registers the function that it is written above, and returns it."""

    def __init__(
        self, waiting: list[Decorator], remedy: str, register: Callable[[Any], Any]
    ) -> None:
        """
        Args:
            waiting: The decorators of the app that wait for their functions.
            remedy: What is wrong, and what to do, if it is never used.
            register: Takes the function.
        """
        self.waiting = waiting
        self.remedy = remedy
        self.register = register
        waiting.append(self)

    def __call__(self, function: Any) -> Any:
        if self in self.waiting:
            self.waiting.remove(self)
        self.register(function)
        return function

    def __getattr__(self, name: str) -> NoReturn:
        raise AttributeError(self.remedy)
