# SPDX-License-Identifier: MIT
"""The calls that `App.call_later` delays: a heap over the one alarm that the library has.

The alarm is set to the first call that is due, and switched off without one: an idle server sleeps.
What is above (the thread check, reports, the alarm itself) comes as functions.
"""

from __future__ import annotations

import heapq
import time
from collections import deque
from contextvars import Context, copy_context
from itertools import count
from typing import Any, Callable, Tuple

from .mistakes import check_result

__all__ = ["Timer", "Timers"]

_FEW = 64  # cancelled calls in the heap that are not worth a clean-up
# Nanoseconds until the alarm is set again: a signal handler may raise in place of a callback, and
# ctypes may have no memory for it.
PATIENCE = 1_000_000_000

Failed = Callable[[str, BaseException, Any, Context], None]
Entry = Tuple[int, int, "Timer"]  # due (ns), order of the calls, call


class Timer:
    """A call that `App.call_later` has delayed."""

    __slots__ = ("_args", "_context", "_fn", "_in_heap", "_timers")

    def __init__(self, timers: Timers, fn: Callable[..., Any], args: Tuple[Any, ...]) -> None:
        self._timers = timers
        self._fn: Callable[..., Any] | None = fn  # None: it ran, was cancelled, or never will
        self._args = args
        self._context = copy_context()
        self._in_heap = False

    def cancel(self) -> None:
        """Prevent the call; does nothing if it has run already.

        Raises:
            RuntimeError: This is not the thread of the app.
        """
        self._timers.check_thread()
        if self._fn is not None:
            self._forget()
            if self._in_heap:
                self._timers.cancelled_one()

    def _forget(self) -> None:
        self._fn, self._args = None, ()


class Timers:
    """All delayed calls of one app."""

    def __init__(
        self,
        check_thread: Callable[[], None],
        failed: Failed,
        set_alarm: Callable[[int | None], None],
    ) -> None:
        """
        Args:
            check_thread: Raises RuntimeError in a thread other than the app's.
            failed: Reports the exception of a call: what failed, the exception, function, context.
            set_alarm: Has `run` called after so many nanoseconds; None switches the alarm off.
        """
        self.check_thread = check_thread
        self._failed = failed
        self._set_alarm = set_alarm
        self.heap: list[Entry] = []
        self._order = count()  # calls due at the same time keep their order
        self.cancelled = 0  # of those in the heap
        self._set_to = 0  # what the alarm is set to; 0: it is off

    def add(self, delay: int, fn: Callable[..., Any], args: tuple[Any, ...]) -> Timer:
        """Run ``fn(*args)`` after `delay` nanoseconds."""
        timer = Timer(self, fn, args)
        self._push((time.monotonic_ns() + delay, next(self._order), timer))
        self._set()
        return timer

    def run(self) -> None:
        """The alarm went off: run what is due now; a call added meanwhile waits for its turn."""
        self._set_to = 0
        now = time.monotonic_ns()
        due: deque[Entry] = deque()
        try:
            while self.heap and self.heap[0][0] <= now:
                due.append(self._pop())
            while due:
                self._run(due.popleft()[2])
        finally:
            for entry in due:  # a signal handler of the program has raised
                self._push(entry)
            self._set()

    def _run(self, timer: Timer) -> None:
        fn, args = timer._fn, timer._args
        if fn is None:
            return
        timer._forget()
        try:
            result = timer._context.run(fn, *args)
            check_result("a function of call_later", fn, result)
        except BaseException as error:
            self._failed("a function of call_later", error, fn, timer._context)

    def clear(self) -> None:
        """`App.run` is over: what waits will never run."""
        for _, _, timer in self.heap:
            timer._forget()
            timer._in_heap = False
        self.heap.clear()
        self.cancelled = 0
        self._set()

    def move(self) -> None:
        """The app has a new server, whose alarm is off: set that one."""
        self._set_to = 0
        self._set()

    def cancelled_one(self) -> None:
        """Remove the cancelled calls once they are the majority; the alarm ignores them."""
        self.cancelled += 1
        if self.cancelled > max(_FEW, len(self.heap) // 2):
            self.heap = [item for item in self.heap if item[2]._fn is not None]
            heapq.heapify(self.heap)
            self.cancelled = 0
        self._set()

    def _push(self, entry: Entry) -> None:
        timer = entry[2]
        heapq.heappush(self.heap, entry)
        timer._in_heap = True
        self.cancelled += timer._fn is None

    def _pop(self) -> Entry:
        entry = heapq.heappop(self.heap)
        timer = entry[2]
        timer._in_heap = False
        self.cancelled -= timer._fn is None
        return entry

    def _set(self) -> None:
        """Set the alarm to the first call, unless it is set to that already.

        It is set again if it should have gone off long ago. See PATIENCE.
        """
        while self.heap and self.heap[0][2]._fn is None:
            self._pop()
        due = self.heap[0][0] if self.heap else 0
        if due == self._set_to and (not due or time.monotonic_ns() <= due + PATIENCE):
            return
        self._set_to = due
        self._set_alarm(max(due - time.monotonic_ns(), 0) if due else None)
