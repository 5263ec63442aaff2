# SPDX-License-Identifier: MIT
"""The server as a part of an asyncio loop; imported only for this.

The loop watches the server's descriptor, and a turn of the server is one callback of it.
"""

from __future__ import annotations

import asyncio
import time
from contextlib import asynccontextmanager, nullcontext, suppress
from contextvars import copy_context
from inspect import CORO_CREATED, getcoroutinestate
from typing import Any, AsyncIterator, Callable, Coroutine, Sequence, TypeVar

from .._native import lib
from .bridge import enable_steps, set_spare
from .calls import thread_ident
from .coroutines import on_awaits, on_raised, on_returned
from .life import Life
from .logs import logger
from .relays import Relay
from .runtime import Host as AnyHost
from .runtime import Runtime
from .signals import Signals
from .stepper import ReusableTask, Stepper, enter_task, leave_task

__all__ = ["Host", "run", "serve", "serving"]

T = TypeVar("T")
Listen = Callable[[], Any]  # begins to listen, where `serve` was given an address

_GRACE = 1.0  # seconds for close handlers, and for handlers that are cancelled

# ---- the loop -----------------------------------------------------------------------------------


class Host(AnyHost):
    """The asyncio loop that an app runs in, and the tasks of its handlers there."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._loop = self.loop = asyncio.get_running_loop()
        self.home = copy_context()
        self.has_steps = runtime.bridge is not None and enable_steps(
            runtime.bridge,
            ReusableTask,
            loop=self._loop,
            enter_task=enter_task,
            leave_task=leave_task,
            outcome=(on_raised, on_returned, on_awaits),
        )
        self._offered: Stepper | None = None  # whose task C may run handlers as
        self.tasks: dict[asyncio.Task[None], Stepper] = {}  # those with work
        self._spares: dict[type[Stepper], Stepper] = {}  # with idle tasks
        self._last_turn: asyncio.Future[None] = self._loop.create_future()  # the server has ended
        self.stops = False  # handlers may be cancelled soon
        self.ready: asyncio.Future[None] = self._loop.create_future()  # connections are accepted
        self._hook: asyncio.Task[None] | None = None  # runs the start or stop functions
        self._cancelled: BaseException | None = None  # `serve` was cancelled
        self._deadline = float("inf")
        self._limit = 0.0  # the last deadline that was set
        self._alarm: asyncio.TimerHandle | None = None
        self._echo: asyncio.Handle | None = None  # there was a cancellation in these turns

    def is_lost(self) -> bool:
        """Whether the loop was closed while the app ran in it."""
        return self._loop.is_closed()

    def forget(self) -> list[int]:
        """This is a forked child, which must not wait for what is the parent's.

        Returns:
            The descriptor that the loop waits with (none for uvloop, which makes its own here), and
            that of the broker.
        """
        relay = self._runtime.relay
        return [*self._forget_loop(), *(relay.descriptors() if relay is not None else ())]

    def _forget_loop(self) -> list[int]:
        fileno = getattr(getattr(self._loop, "_selector", None), "fileno", None)
        if self._loop.is_closed():
            return []
        if fileno is None:
            self._loop.stop()
            return []
        return [fileno()]

    def leave(self) -> None:
        """The tasks will never run again: what waits in their queues is left out."""
        self.retract()
        if self._runtime.relay is not None:
            self._runtime.relay.leave()
        for stepper in self.tasks.values():
            stepper.drop()

    def take(self, kind: Callable[[AnyHost], T]) -> T:
        """A stepper of this kind whose task is idle; `give_back` returns it."""
        spare: Any = self._spares.pop(kind, None)  # type: ignore[call-overload]
        return spare if spare is not None and spare.is_usable() else kind(self)

    def give_back(self, stepper: Any) -> None:
        """A stepper has run a coroutine without its task."""
        kind = type(stepper)
        if not stepper.is_clean():
            stepper.end()
        elif self._offered is None and self.has_steps and stepper.can_serve_bridge():
            self._offered = stepper
            set_spare(self._runtime.bridge, stepper.share())
        elif kind not in self._spares:
            self._spares[kind] = stepper
        else:
            stepper.end()

    def release(self, stepper: Any) -> None:
        """A stepper has run its work; the task of one that did without it can serve again."""
        if not stepper.drop_work():
            stepper.end()
            return
        del self.tasks[stepper.task]
        stepper.task.remove_done_callback(self._ended)
        self.give_back(stepper)

    def withdraw(self) -> Any:
        """The stepper that C ran a handler as; C must not do so any more."""
        stepper, self._offered = self._offered, None
        set_spare(self._runtime.bridge, None)
        assert stepper is not None
        stepper.share(False)
        return stepper

    def retract(self) -> None:
        """C must not run handlers as a task of this loop any more: the loop may be freed."""
        if self._offered is not None:
            self.withdraw()

    def adopt(self, stepper: Any) -> None:
        """The task of a stepper has work; `serve` waits for its end."""
        self.tasks[stepper.task] = stepper
        stepper.task.add_done_callback(self._ended)

    def create_task(self, ws: Any, coroutine: Any, name: str | None) -> Any:
        """Start a task that belongs to a socket; returns it."""
        from .session import SocketTask

        return SocketTask(self).begin(ws, coroutine, name)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self.tasks.pop(task).on_end()

    def stop_within(self, seconds: float) -> None:
        """The app shuts down: cancel the tasks that are left after this time."""
        self.stops = True
        deadline = time.monotonic() + seconds
        if deadline < self._deadline:
            self._deadline = self._limit = deadline
            self._set_alarm(seconds)

    def _set_alarm(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(seconds, self._cancel_all)

    def _cancel_all(self) -> None:
        """Cancel all tasks, repeatedly: after a cancelled handler the close handler comes next."""
        for task, stepper in self.tasks.items():
            if not stepper.is_spared():
                task.cancel()
        if self._hook is not None:
            self._hook.cancel()
        self._set_alarm(_GRACE)

    async def serve(self, life: Life, signals: bool) -> None:
        """Run turns until the server has shut down and all tasks have ended.

        When cancelled, it shuts down and still waits; when cancelled again, later, it drops all
        connections.

        Args:
            life: What runs before the first turn and after the last one.
            signals: Handle SIGINT and SIGTERM.
        """
        relay = self._runtime.relay
        with Signals(self._runtime, self._loop) if signals else nullcontext():
            if relay is not None:
                relay.begin()
            await self._start(life)
            if life.failure is None:
                self._accept()
                await self._wait(self._unfinished)
                await self._stop(life)
            if relay is not None:
                await self._end_relay(relay)
        self._clean_up()
        if self._cancelled is not None:
            raise self._cancelled
        if life.failure is None:
            self._last_turn.result()
        elif not isinstance(life.failure, asyncio.CancelledError):
            raise life.failure
        elif not self.stops:
            raise RuntimeError("an on_start function was cancelled") from life.failure

    async def _start(self, life: Life) -> None:
        if life.is_empty:
            life.start()
            return
        await self._run_hook(life.start_all())
        if life.failure is not None:
            self._runtime.give_up()

    async def _stop(self, life: Life) -> None:
        self._runtime.run_all_deferred()  # close handlers may be among them
        await self._wait(self._unfinished)
        if not life.is_empty:
            self._end_alarm()
            await self._run_hook(life.stop_all())

    async def _end_relay(self, relay: Relay) -> None:
        """Wait for the broker, which has a time limit of its own."""
        seconds = self._rest()
        self._end_alarm()
        with suppress(asyncio.CancelledError):  # by a second signal, before it began
            await self._run_hook(relay.end(seconds))

    def _end_alarm(self) -> None:
        """The time limit of handlers is none of hooks, unless another one is set later."""
        if self._alarm is not None:
            self._alarm.cancel()
        self._deadline = float("inf")

    async def _run_hook(self, functions: Coroutine[Any, Any, None]) -> None:
        """Run start or stop functions in a task of their own, in the context of the app."""
        hook = self._hook = self._runtime.context.run(self._loop.create_task, functions)
        await self._wait(lambda: [] if hook.done() else [hook])
        self._hook = None
        hook.result()

    def _rest(self) -> float:
        """Seconds until the end of a shutdown, for what is still to be sent to the broker."""
        return max(self._limit - time.monotonic(), _GRACE) if self.stops else _GRACE

    def _accept(self) -> None:
        descriptor = lib.ws_server_fd(self._runtime.server)
        relay = self._runtime.relay
        if relay is None:
            self._loop.add_reader(descriptor, self._turn, descriptor)
        else:
            self._loop.add_reader(descriptor, relay.turn, self._turn, descriptor)
        self.ready.set_result(None)

    def _unfinished(self) -> Sequence[asyncio.Future[None]]:
        return [*self.tasks] if self._last_turn.done() else [self._last_turn]

    async def _wait(self, what: Callable[[], Sequence[asyncio.Future[None]]]) -> None:
        """Wait until `what` returns no more futures."""
        while futures := what():
            try:
                await asyncio.wait(futures)
            except asyncio.CancelledError as error:
                if self._cancelled is None:
                    self._runtime.go_away()
                    if self._hook is not None and not self.ready.done():
                        self._hook.cancel()
                elif self._echo is None:
                    self._runtime.go_away(0)
                self._cancelled = error
                self._await_echo()

    def _clean_up(self) -> None:
        if self._offered is not None:
            self.withdraw().end()
        for stepper in self._spares.values():
            stepper.end()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._echo is not None:
            self._echo.cancel()

    def _await_echo(self, turns: int = 3) -> None:
        """Treat further cancellations within this many turns of the loop as the same one.

        A cancel scope of anyio cancels the tasks that are still in it again in each turn.
        """
        if self._echo is not None:
            self._echo.cancel()
        self._echo = self._loop.call_soon(self._await_echo, turns - 1) if turns else None

    def _turn(self, descriptor: int) -> None:
        if self._last_turn.done():
            return
        if self._runtime.owner not in (thread_ident(), 0):  # 0: the child of a fork
            self._move()
        try:
            if lib.ws_server_step(self._runtime.server, 0):
                return
            self._runtime.end_lost()  # tasks may wait for it
            self._last_turn.set_result(None)
        except OSError as error:
            self._last_turn.set_exception(error)
            self.stop_within(0)
        except BaseException as error:  # from a signal handler of the program
            self._runtime.stash(error)
            self._loop.call_soon(self._turn, descriptor)
            return
        self._loop.remove_reader(descriptor)

    def _move(self) -> None:
        """Another thread runs the loop than before: calls of the app belong to it now."""
        logger.warning("the asyncio loop of a server has moved to another thread, and it with it")
        self._runtime.own(thread_ident())

    def cancelled(self, report: Callable[..., Any], *about: Any) -> None:
        """Report the cancellation of a handler, unless it was cancelled because the app ends.

        When all tasks are cancelled at once, the one that serves may be the last to know.
        """
        self._loop.call_soon(lambda: None if self.stops else report(*about))


def _begin(runtime: Runtime, listen: Listen | None) -> Host:
    host = Host(runtime)
    runtime.begin(host, listens=listen is None)
    try:
        if listen is not None:
            listen()
    except BaseException:
        runtime.finish()
        raise
    return host


async def _serve(runtime: Runtime, host: Host, life: Life, signals: bool = False) -> None:
    try:
        await host.serve(life, signals)
    finally:
        host.retract()
        if runtime.host is host:  # otherwise its loop was closed, and the app may run elsewhere
            if runtime.relay is not None:
                runtime.relay.leave()
            runtime.finish()
            runtime.raise_stashed()


async def _run(runtime: Runtime, life: Life) -> None:
    await _serve(runtime, _begin(runtime, None), life, True)


def run(runtime: Runtime, life: Life) -> None:
    """`App.run`, in an event loop of its own."""
    runtime.check_idle()
    failure = None
    running = _run(runtime, life)
    try:
        asyncio.run(running)
    except Exception as error:
        failure = error
    finally:
        if getcoroutinestate(running) == CORO_CREATED:  # a Ctrl-C came before it began
            running.close()
    if failure is not None:
        runtime.raise_stashed()
        runtime.check_process()  # a forked child has come back from a handler
        raise failure


async def serve(runtime: Runtime, life: Life, listen: Listen | None, signals: bool) -> None:
    """`App.serve`; `listen` begins to listen, None if the app listens already."""
    await _serve(runtime, _begin(runtime, listen), life, signals)


@asynccontextmanager
async def serving(runtime: Runtime, life: Life, listen: Listen | None, app: T) -> AsyncIterator[T]:
    """`App.serving`; the block gets `app`."""
    host = _begin(runtime, listen)
    task = asyncio.get_running_loop().create_task(_serve(runtime, host, life))
    try:
        await asyncio.wait([task, host.ready], return_when=asyncio.FIRST_COMPLETED)
        if host.ready.done():
            yield app
    finally:
        if not host.ready.done():  # the start functions have failed, or take too long
            task.cancel()
        elif not task.done():
            runtime.go_away()
        await task
