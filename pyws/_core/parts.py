# SPDX-License-Identifier: MIT
"""An answer that is sent in parts: how far it is, and who waits for it."""

from __future__ import annotations

from typing import Any, Callable

from .waits import resolve

__all__ = ["UNKNOWN_LENGTH", "Parts"]

UNKNOWN_LENGTH = 2**64 - 1  # WS_UNKNOWN_LENGTH


class Parts:
    """An answer in parts.

    Attributes:
        length: The length of its body; None if it is not known.
        begun: Its head was sent.
        offset: Bytes of the body that were taken.
        rest: What is to be sent before the end, once there is room for it; None: nothing.
        blocked: The kernel takes no more.
        is_awaited: Something of the program will continue it, though its handler ends.
        on_writable: What runs when the kernel takes more.
        at_end: What runs when it has ended, with whether it was aborted.
    """

    __slots__ = (
        "_waiters",
        "at_end",
        "begun",
        "blocked",
        "is_awaited",
        "length",
        "offset",
        "on_writable",
        "rest",
    )

    def __init__(self) -> None:
        self.length: int | None = None
        self.begun = self.blocked = self.is_awaited = False
        self.offset = 0
        self.rest: bytes | None = None
        self.on_writable: Callable[..., Any] | None = None
        self.at_end: list[Callable[[bool], Any]] = []
        self._waiters: list[Any] = []  # futures

    def wait(self) -> Any:
        """A future of `unblock` or `end`, whose result is whether it was not aborted."""
        import asyncio  # it takes long to import

        future = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        return future

    def unblock(self, aborted: bool = False) -> None:
        """The kernel takes more, or nothing more is sent."""
        self.blocked = False
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            resolve(future, not aborted)

    def end(self, aborted: bool) -> None:
        """The answer has ended."""
        self.on_writable = None
        self.unblock(aborted)
        functions, self.at_end = self.at_end, []
        for function in functions:
            function(aborted)
