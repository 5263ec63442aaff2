# SPDX-License-Identifier: MIT
"""The descriptors of `App.add_reader` and `App.add_writer`.

The library has one watch for a descriptor. Here it gets two calls, one for each event. What is
above (reports, the watch itself) comes as functions.
"""

from __future__ import annotations

import os
import time
from contextlib import suppress
from contextvars import copy_context
from typing import Any, Callable, Dict

from .mistakes import check_result
from .timers import Failed

__all__ = ["READABLE", "WRITABLE", "Watches"]

READABLE, WRITABLE = 1, 2  # WS_READABLE and WS_WRITABLE of ws.h

MOST_REPORTS = 10  # of failures in a row, after which reports become rare
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 60.0  # seconds between them then

_NAMES = {READABLE: "a function of add_reader", WRITABLE: "a function of add_writer"}


class Call:
    """What runs when a descriptor is ready for one event."""

    __slots__ = ("args", "context", "failures", "fn", "pause", "silent_until")

    def __init__(self, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self.fn = fn
        self.args = args
        self.context = copy_context()
        self.failures = 0  # in a row
        self.silent_until = 0.0  # further ones are not reported before (time.monotonic)
        self.pause = 0.0  # seconds between two reports


class Watch:
    """A descriptor, and what runs for it."""

    __slots__ = ("calls", "file")

    def __init__(self, file: tuple[int, int]) -> None:
        self.file = file  # what its number led to when it was watched first
        self.calls: Dict[int, Call] = {}  # by event


class Watches:
    """All descriptors that one app watches."""

    def __init__(self, failed: Failed, set_watch: Callable[[int, int], None]) -> None:
        """
        Args:
            failed: Reports the exception of a call: what failed, the exception, function, context.
            set_watch: Has `run` called for these events of a descriptor. Raises OSError.
        """
        self._failed = failed
        self._set_watch = set_watch
        self._all: Dict[int, Watch] = {}  # by descriptor

    def descriptors(self) -> list[int]:
        """The numbers of all that are watched, perhaps also of some that were closed meanwhile."""
        return list(self._all)

    def add(self, fd: int, event: int, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Run ``fn(*args)`` whenever this event is there, instead of what ran until now.

        Raises:
            OSError: The descriptor cannot be watched; `errno` says why.
        """
        watch = self._all.pop(fd, None)
        status = os.fstat(fd)
        file = status.st_dev, status.st_ino
        if watch is None or watch.file != file:  # what the number led to before was closed
            watch = Watch(file)
        self._set_watch(fd, event | sum(watch.calls))
        watch.calls[event] = Call(fn, args)
        self._all[fd] = watch

    def remove(self, fd: int, event: int) -> bool:
        """Run nothing for this event any more; returns whether something did."""
        if self._call(fd, event) is None:
            return False
        calls = self._all[fd].calls
        del calls[event]
        if not calls:
            del self._all[fd]
        with suppress(OSError):  # it was closed
            self._set_watch(fd, sum(calls))
        return True

    def _call(self, fd: int, event: int) -> Call | None:
        watch = self._all.get(fd)
        return watch.calls.get(event) if watch is not None else None

    def run(self, fd: int, ready: int) -> None:
        """The library calls: the descriptor is ready for these events."""
        due = [(event, self._call(fd, event)) for event in (READABLE, WRITABLE) if event & ready]
        for event, call in due:
            if call is None or self._call(fd, event) is not call:
                continue  # the other one has removed or replaced it
            try:
                result = call.context.run(call.fn, *call.args)
                check_result(_NAMES[event], call.fn, result)
                call.failures = 0
            except BaseException as error:
                self._report(_NAMES[event], call, error)

    def _report(self, what: str, call: Call, error: BaseException) -> None:
        """Report what a call has raised.

        It runs in every turn of the loop as long as the descriptor is ready. If it fails each time,
        the reports become rare: after 1, 2, 4 ... seconds.
        """
        call.failures += 1
        if call.failures > MOST_REPORTS and isinstance(error, Exception):
            now = time.monotonic()
            if call.failures == MOST_REPORTS + 1:
                call.pause = FIRST_PAUSE
            elif now < call.silent_until:
                return
            else:
                call.pause = min(2 * call.pause, LONGEST_PAUSE)
            call.silent_until = now + call.pause
            what = f"{what} ({call.failures:,} times in a row)"
        self._failed(what, error, call.fn, call.context)

    def clear(self) -> None:
        """`App.run` is over: nothing is watched any more."""
        for fd in self.descriptors():
            self._set_watch(fd, 0)
        self._all.clear()

    def move(self) -> None:
        """The app has a new server, which watches nothing yet."""
        for fd, watch in self._all.items():
            with suppress(OSError):  # it was closed
                self._set_watch(fd, sum(watch.calls))
