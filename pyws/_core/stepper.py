# SPDX-License-Identifier: MIT
"""Coroutines that begin inside a callback, and are asyncio tasks from their first step on.

A task of asyncio runs the first step of its coroutine in the next turn of the loop, and an eager
task (Python 3.12) costs one task for each coroutine. A `Stepper` has a task that waits. A callback
makes that the current task and runs the first step of a coroutine. Most coroutines have ended then,
and the task serves the next one. Otherwise the task runs the other steps. So the current task,
which timeouts and cancel scopes keep, is the same one in all steps of a coroutine.
"""

from __future__ import annotations

import asyncio
import sys
from asyncio import tasks
from contextvars import Context
from typing import TYPE_CHECKING, Any, Callable, Coroutine
from weakref import getweakrefcount

from .._native import lib
from . import bridge, sockets
from .contexts import run_in
from .runtime import Host
from .sockets import Socket

__all__ = [
    "AWAITS",
    "RAISED",
    "RETURNED",
    "Parking",
    "ReusableTask",
    "Stepper",
    "cancellation",
    "current_task",
    "enter_task",
    "leave_task",
    "without_task",
]

enter_task, leave_task = tasks._enter_task, tasks._leave_task
_reference_count: Callable[[Any], int] | None = getattr(sys, "getrefcount", None)

# The current task of a loop. Before Python 3.12, asyncio.current_task is not a builtin.
_current_tasks: Any = getattr(tasks, "_current_tasks", None)
current_task: Callable[[Any], Any] = (
    asyncio.current_task if sys.version_info >= (3, 12) else _current_tasks.get
)

# PyPy cannot count references, and its tasks set their own attributes as a program does.
_CAN_REUSE = _reference_count is not None and asyncio.Task.__module__ == "_asyncio"

_NOTHING = object()
RAISED, RETURNED, AWAITS = -1, 0, 1  # what a step of a coroutine has come to, in C


def without_task(loop: asyncio.AbstractEventLoop, fn: Callable[..., Any], *args: Any) -> Any:
    """Return ``fn(*args)``, run while no task is the current one.

    A step of one task can run inside another one, where a handler ends another socket.
    """
    outer: Any = asyncio.current_task(loop)
    if outer is None:
        return fn(*args)
    try:  # a signal handler may raise as soon as it has left
        leave_task(loop, outer)
        return fn(*args)
    finally:
        if current_task(loop) is None:
            enter_task(loop, outer)


def reference_count(task: Any) -> int:
    """How many references there are to a task."""
    return _reference_count(task) + getweakrefcount(task) if _reference_count is not None else 0


class ReusableTask(asyncio.Task[None] if TYPE_CHECKING else asyncio.Task):  # type: ignore[misc]
    """A task that notes whether a coroutine has left something in it.

    Attributes:
        has_changed: An attribute was set.
    """

    has_changed = False

    def __setattr__(self, name: str, value: Any) -> None:
        super().__setattr__(name, value)
        if name != "_log_destroy_pending":
            super().__setattr__("has_changed", True)

        # C has to know as well.
        stepper: Any = self.get_coro()
        if stepper.shared is not None and self.has_changed:
            stepper.shared.changed = True

    def set_name(self, value: object) -> None:
        """Change the name."""
        self.has_changed = True
        super().set_name(value)


def cancellation(error: BaseException) -> Exception:
    """What to report instead: CancelledError could cancel something else of the program."""
    failure = RuntimeError("the handler was cancelled")
    failure.__cause__ = error
    return failure


class Parking:
    """What the task of a stepper waits for while callbacks run the steps; to asyncio, a future.

    Attributes:
        is_busy: A callback is running a step.
        is_due: The task was cancelled meanwhile, and knows it.
        cancelled: The task was cancelled while it waited.
        shared: What C knows of the stepper, or None.
    """

    __slots__ = (
        "_asyncio_future_blocking",
        "_context",
        "_loop",
        "_message",
        "_wakeup",
        "cancelled",
        "is_busy",
        "is_due",
        "shared",
    )

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._wakeup: Callable[[Any], Any] | None = None  # runs a step of the task that waits
        self._context: Context | None = None
        self._message: Any = None  # of the cancellation, by which anyio knows its own ones
        self._asyncio_future_blocking = False
        self.cancelled = self.is_busy = self.is_due = False
        self.shared: Any = None

    def park(self) -> Parking:
        """Return what the coroutine of the task must yield to wait here."""
        self._asyncio_future_blocking = True
        return self

    @property
    def has_task(self) -> bool:
        """Whether the task waits here; it does not before its first step."""
        return self._wakeup is not None

    def wake(self) -> None:
        """Run a step of the task, if it waits here, while no task is the current one."""
        wakeup, self._wakeup = self._wakeup, None
        self.is_due = False
        if wakeup is not None:
            assert self._context is not None
            run_in(self._context, wakeup, self)

    # What the task calls.

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """The loop of the task."""
        return self._loop

    def add_done_callback(
        self, wakeup: Callable[[Any], Any], *, context: Context | None = None
    ) -> None:
        """The task waits here."""
        self._wakeup, self._context = wakeup, context

    def cancel(self, msg: Any = None) -> bool:
        """The task is being cancelled. False makes it remember that until its next step."""
        shared = self.shared
        if shared is not None and shared.busy:
            self.is_due = shared.changed = True
            return False
        if self._wakeup is None or self.cancelled or self.is_busy:
            self.is_due = self.is_busy
            return False
        if shared is not None:
            shared.coroutine = None
        self.cancelled, self._message = True, msg
        self._loop.call_soon(self.wake)
        return True

    def result(self) -> None:
        """Raise what ended the wait."""
        if self.cancelled:
            self.cancelled = False
            message, self._message = self._message, None
            raise asyncio.CancelledError(*() if message is None else (message,))


class Stepper(Coroutine[Any, Any, None]):
    """The coroutine of a task some of whose steps run inside callbacks.

    All steps run in one context, although Python before 3.11 cannot create a task in a given one.

    Attributes:
        host: The loop, and all tasks there.
        task: The task.
        parking: What the task waits for while it is idle.
        is_idle: Nothing waits for a step of the task.
        context: What the steps of the task run in.
        ws: The socket whose messages leave in one write after such a step, if any.
        shared: What C knows of it, so that it can run steps; None if it does not.
    """

    __slots__ = (
        "__weakref__",
        "_first",
        "_has_run",
        "_references",
        "_work",
        "context",
        "host",
        "is_idle",
        "parking",
        "shared",
        "task",
        "ws",
    )

    for_bridge = False  # C may run handlers as its task

    def __init__(self, host: Host) -> None:
        self.host = host
        self.shared: Any = None
        self.context: Context | None = None
        self.ws: Socket | None = None
        self.renew()

    def renew(self) -> None:
        """Make a new task, which is idle."""
        self.is_idle = True
        self._work: Coroutine[Any, Any, None] | None = None
        self._first: Any = _NOTHING  # what the work has awaited in a callback
        self._has_run = False  # the task itself has run a step of the work
        self.parking = Parking(self.host.loop)
        task = self.task = run_in(self.host.home, self._new_task)
        # As long as it is idle, it is no one's business.
        task._log_destroy_pending = False
        tasks._unregister_task(task)
        self._references = reference_count(task)

    def _new_task(self) -> Any:
        loop = self.host.loop
        if _CAN_REUSE and loop.get_task_factory() is None:
            return ReusableTask(self, loop=loop)
        return loop.create_task(self)

    def is_clean(self) -> bool:
        """Whether the task may serve another coroutine: the last one did not keep or change it."""
        task = self.task
        if type(task) is not ReusableTask or not self._references:
            return False
        references = reference_count(task)
        return references == self._references and not (
            task.has_changed or task._must_cancel or self.parking.cancelled
        )

    def share(self, shares: bool = True) -> Any:
        """Tell C of this; it can run steps from now on, or not any more. Returns `shared`."""
        self.shared = bridge.new_stepper(self.task, self.parking) if shares else None
        self.parking.shared = self.shared
        return self.shared

    def can_serve_bridge(self) -> bool:
        """Whether C may run handlers as the task, which is idle."""
        return self.for_bridge and self.parking.has_task

    def is_usable(self) -> bool:
        """Whether nothing has ended the task while it was idle."""
        return not (self.parking.cancelled or self.task.done())

    def is_current(self) -> bool:
        """Whether the current task is that of this stepper."""
        return current_task(self.host.loop) is self.task

    # ---- in callbacks ---------------------------------------------------------------------------

    def step(self, resume: Callable[[Any], Any], value: Any) -> Any:
        """Run a step of a coroutine inside a callback, as the task.

        Args:
            resume: The coroutine's send.
            value: What to send to it.

        Returns:
            What the coroutine awaits.

        Raises:
            StopIteration: The coroutine has returned.
            BaseException: What the coroutine has raised.
        """
        loop, parking = self.host.loop, self.parking
        if current_task(loop) is not None:
            return without_task(loop, self.step, resume, value)
        try:  # a signal handler may raise as soon as it has entered
            enter_task(loop, self.task)
            parking.is_busy = True
            return resume(value)
        finally:
            parking.is_busy = False
            if current_task(loop) is self.task:
                leave_task(loop, self.task)

    def advance(self, value: Any) -> None:
        """Run a step of the work inside a callback, while it is idle."""
        assert self._work is not None
        try:
            awaited = self.step(self._work.send, value)
        except StopIteration:
            self.end_task()
        else:
            self.wait(awaited)

    def resume(self) -> None:
        """Have a callback go on with the work, unless the task was cancelled."""
        if self.is_idle and not self.parking.cancelled:
            assert self.context is not None
            run_in(self.context, self.advance, None)

    def wait(self, awaited: Any) -> None:
        """A step that has run inside a callback awaits this."""
        if awaited is not self.parking or self.parking.is_due:
            self.wait_for(awaited)
        else:
            self.set_idle()

    def wait_for(self, awaited: Any) -> None:
        """Have the task wait for what its work has awaited in a callback, and continue then."""
        self._first = awaited
        without_task(self.host.loop, self.wake)  # if the task has not begun yet, it will

    def start(self, work: Coroutine[Any, Any, None]) -> None:
        """Have the task run `work` from the next turn of the loop on."""
        self.set_work(work)
        self.host.loop.call_soon(self.wake)

    def wake(self) -> None:
        """Run a step of the task, while no task is the current one."""
        if self.shared is not None:
            self.shared.coroutine = None
        self.is_idle = False
        self.parking.wake()

    def set_work(self, work: Coroutine[Any, Any, None]) -> None:
        """From now on the task is that of `work`."""
        self._work = work
        self._has_run = False
        tasks._register_task(self.task)
        self.task._log_destroy_pending = True
        self.host.adopt(self)

    def drop_work(self) -> bool:
        """Callbacks have run all steps of the work: the task is idle again.

        Returns:
            False if the task has run some, so that it cannot serve another coroutine.
        """
        self._work = None
        if self._has_run:
            return False
        tasks._unregister_task(self.task)
        self.task._log_destroy_pending = False
        return True

    def end_task(self) -> None:
        """A callback has run the last step of the work."""
        self._work = None
        self.end()

    def end(self) -> None:
        """End an idle task, which has no work."""
        without_task(self.host.loop, self.wake)

    # ---- as the coroutine of the task -----------------------------------------------------------

    def send(self, value: Any) -> Any:
        """A step of the task."""
        if self.is_idle:
            return self.parking.park()
        if self._first is not _NOTHING:
            first, self._first = self._first, _NOTHING
            return self._wait_for_it(first)
        if self._work is None:
            raise StopIteration
        return self._run(self._work.send, value)

    def throw(self, kind: Any, value: Any = None, traceback: Any = None) -> Any:
        """A step of the task that begins with an exception."""
        error = kind if isinstance(kind, BaseException) else value or kind()
        self.is_idle = False
        if self._work is None:
            raise error
        first, self._first = self._first, _NOTHING
        # As a task does that was cancelled before it could wait.
        cancel = getattr(first, "cancel", None)
        if cancel is not None and isinstance(error, asyncio.CancelledError) and cancel():
            return first
        return self._run(self._work.throw, error)

    def close(self) -> None:
        """The task is freed, with its loop."""
        work = getattr(self, "_work", None)
        if work is not None:
            assert self.context is not None
            run_in(self.context, work.close)

    __del__ = close

    def __await__(self) -> Stepper:
        return self

    def __iter__(self) -> Stepper:
        return self

    def __next__(self) -> Any:
        return self.send(None)

    def _run(self, resume: Callable[[Any], Any], argument: Any) -> Any:
        """What is sent to `ws` between two awaits leaves in one write."""
        assert self.context is not None
        self._has_run = True
        conn = 0 if self.ws is None else sockets.conn_of(self.ws)
        if conn:
            lib.ws_conn_cork(conn)
        try:
            awaited = run_in(self.context, resume, argument)
        finally:
            if conn:  # even if it was closed: its memory lasts until the next turn
                lib.ws_conn_uncork(conn)
        return self._wait_for_it(awaited)

    def _wait_for_it(self, awaited: Any) -> Any:
        """What the task must yield to wait for what its work has awaited."""
        if awaited is not self.parking:
            return awaited
        self.set_idle()
        return self.parking.park()

    def set_idle(self) -> None:
        """The work waits for a callback to resume it."""
        self.is_idle = True
        if self.shared is not None:
            self.shared.coroutine = id(self._work)

    # ---- for the host ---------------------------------------------------------------------------

    def on_end(self) -> None:
        """The task has ended."""

    def drop(self) -> None:
        """The task will never continue."""

    def is_spared(self) -> bool:
        """Whether the task must not be cancelled now, though the app ends."""
        return False
