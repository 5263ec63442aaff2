# SPDX-License-Identifier: MIT
"""A time limit for one thing after another, which needs no timer for each of them."""

from __future__ import annotations

import asyncio
import time
from typing import Awaitable, Callable, TypeVar

__all__ = ["TimeLimit"]

T = TypeVar("T")


class TimeLimit:
    """Calls a function if something takes too long: a timer looks after it from time to time."""

    def __init__(self, seconds: float, late: Callable[[TimeoutError], object]) -> None:
        """
        Args:
            seconds: How long something may take.
            late: Called when it has not ended after that time.
        """
        self._loop = asyncio.get_running_loop()
        self._seconds = seconds
        self._late = late
        self._since: float | None = None  # when it began (time.monotonic)
        self._alarm: asyncio.TimerHandle | None = None

    def begin(self) -> None:
        """Something begins."""
        self._since = time.monotonic()
        if self._alarm is None:
            self._alarm = self._loop.call_later(self._seconds, self._look)

    def end(self) -> None:
        """It has ended."""
        self._since = None

    async def wait(self, call: Awaitable[T]) -> T:
        """Await something that begins now."""
        self.begin()
        try:
            return await call
        finally:
            self.end()

    def cancel(self) -> None:
        """Look no more."""
        if self._alarm is not None:
            self._alarm.cancel()

    def _look(self) -> None:
        self._alarm = None
        if self._since is None:
            return
        rest = self._since + self._seconds - time.monotonic()
        if rest > 0:
            self._alarm = self._loop.call_later(rest, self._look)
        else:
            self._late(TimeoutError(f"it has not answered for {self._seconds:g} s"))
