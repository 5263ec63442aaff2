# SPDX-License-Identifier: MIT
"""The connection of an app to its broker, as the modules see it that stand below link.py."""

from __future__ import annotations

from typing import Any, Callable

__all__ = ["Relay"]


class Relay:
    """What `link.Relay` implements."""

    def get_keeper(self) -> Any:
        """The `history.Keeper` that reads what the broker keeps.

        Raises:
            ValueError: It keeps nothing.
            RuntimeError: The app runs already.
        """
        raise NotImplementedError

    def keep(self, history: Any) -> None:
        """Let the broker keep messages, those of a History."""
        raise NotImplementedError

    def add_listener(self, fn: Callable[[bool], Any]) -> None:
        """Call ``fn(up)`` when the connection comes and goes."""
        raise NotImplementedError

    def begin(self) -> None:
        """Relay what is published from now on. Raises RuntimeError."""
        raise NotImplementedError

    async def end(self, seconds: float) -> None:
        """Wait until everything is published, but not longer than this, and disconnect."""
        raise NotImplementedError

    def leave(self) -> None:
        """Relay nothing any more."""
        raise NotImplementedError

    async def count(self, topic: bytes) -> int:
        """How many subscribers a topic has in the other apps that answer in time."""
        raise NotImplementedError

    def turn(self, turn: Callable[..., Any], *args: Any) -> None:
        """Run a turn of the server."""
        raise NotImplementedError

    def descriptors(self) -> list[int]:
        """What a forked child must close."""
        raise NotImplementedError

    def numbers(self) -> dict[str, int]:
        """What `App.stats` says of the broker."""
        raise NotImplementedError
