"""The calls that `App.call_later` puts off: a heap over the one alarm that the library has.

The alarm is set to the first call that is due, and to nothing without one: an idle server sleeps.
"""

from __future__ import annotations

import heapq
import time
from contextvars import copy_context
from itertools import count
from typing import TYPE_CHECKING, Any, Callable

from . import mistakes
from .calls import set_alarm

if TYPE_CHECKING:
    from ..app import App

__all__ = ["Timer", "Timers"]

_FEW = 64  # cancelled calls in the heap that are not worth a clean-up


class Timer:
    """A call that `App.call_later` has put off."""

    __slots__ = ("_args", "_context", "_fn", "_timers", "_waits")

    def __init__(self, timers: Timers, fn: Callable[..., Any], args: tuple[Any, ...]) -> None:
        self._timers = timers
        self._fn: Callable[..., Any] | None = fn  # None: it ran, was cancelled, or never will
        self._args = args
        self._context = copy_context()
        self._waits = True  # is in the heap

    def cancel(self) -> None:
        """Do not run it; nothing when it has run already. RuntimeError from another thread."""
        self._timers.check_thread()
        if self._fn is not None:
            self._forget()
            if self._waits:
                self._timers.cancelled_one()

    def _forget(self) -> None:
        self._fn, self._args = None, ()


class Timers:
    """All such calls of one App."""

    def __init__(self, app: App, alarm: Any) -> None:
        """alarm: what the library is to call, with the App's number; it leads to `run`."""
        self.check_thread = app._check_thread
        self._app = app
        self._alarm = alarm
        self._heap: list[tuple[int, int, Timer]] = []  # due (ns), number, call
        self._numbers = count()  # calls due at the same time keep their order
        self._cancelled = 0  # of those in the heap
        self._set_to = 0  # what the alarm is set to; 0: it is not set

    def add(self, delay: int, fn: Callable[..., Any], args: tuple[Any, ...]) -> Timer:
        """Run ``fn(*args)`` after `delay` nanoseconds."""
        timer = Timer(self, fn, args)
        heapq.heappush(self._heap, (time.monotonic_ns() + delay, next(self._numbers), timer))
        self._set()
        return timer

    def run(self) -> None:
        """The alarm went off: run what is due now; a call added meanwhile waits for its turn."""
        self._set_to = 0
        now = time.monotonic_ns()
        due = []
        while self._heap and self._heap[0][0] <= now:
            due.append(self._pop())
        for timer in due:
            fn, args = timer._fn, timer._args
            if fn is None:
                continue
            timer._forget()
            try:
                result = timer._context.run(fn, *args)
                mistakes.check_result("a function of call_later", fn, result)
            except BaseException as error:
                what = "a function of call_later"
                self._app._handler_failed(what, error, None, fn, timer._context)
        self._set()

    def clear(self) -> None:
        """`App.run` is over: what waits will never run."""
        for _, _, timer in self._heap:
            timer._forget()
            timer._waits = False
        self._heap.clear()
        self._cancelled = 0
        self._set()

    def cancelled_one(self) -> None:
        """Drop the cancelled ones when they are the most; the alarm is not for those."""
        self._cancelled += 1
        if self._cancelled > max(_FEW, len(self._heap) // 2):
            self._heap = [item for item in self._heap if item[2]._fn is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0
        self._set()

    def _pop(self) -> Timer:
        timer = heapq.heappop(self._heap)[2]
        timer._waits = False
        self._cancelled -= timer._fn is None
        return timer

    def _set(self) -> None:
        """Set the alarm to the first call, if that is a new one."""
        while self._heap and self._heap[0][2]._fn is None:
            self._pop()
        due = self._heap[0][0] if self._heap else 0
        if due == self._set_to or not self._app._server:
            return
        self._set_to = due
        delay = max(due - time.monotonic_ns(), 0)
        set_alarm(self._app._server, delay, self._alarm if due else None, self._app._number)
