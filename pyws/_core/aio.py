"""Coroutine handlers, and the server as a part of an asyncio loop; imported only for these.

The loop watches the server's descriptor, and a turn of the server is one callback of it. The events
of a socket whose route has coroutine handlers go through its `Queue`: a task that runs one handler
after the other, and that exists only while something waits.
"""

from __future__ import annotations

import asyncio
import time
import types
from collections import deque
from contextlib import asynccontextmanager, nullcontext
from contextvars import Context
from typing import Any, AsyncIterator, Callable, Coroutine, Generator, TypeVar

from .._native import lib
from . import requests, sockets, values
from .calls import thread_ident
from .contexts import is_entered, run_in
from .logs import logger
from .requests import Exchange
from .routes import returned
from .runtime import Host as AnyHost
from .runtime import Runtime
from .settings import Behavior
from .signals import Signals
from .sockets import BY_QUEUE, BY_USER, Socket
from .values import Handler

__all__ = ["Host", "Later", "Queue", "run", "serve", "serving", "wrap_handlers"]

T = TypeVar("T")
Listen = Callable[[], Any]  # begins to listen, where `serve` was given an address

_GRACE = 1.0  # seconds for close handlers, and for handlers that are cancelled
_RECEIVED = frozenset(("message", "ping", "pong"))
_USELESS = frozenset((*_RECEIVED, "drain"))  # once this side has ended the connection

# ---- the loop -----------------------------------------------------------------------------------


class Host(AnyHost):
    """The asyncio loop that an app runs in, and the tasks of its handlers there."""

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._loop = asyncio.get_running_loop()
        self.tasks: dict[asyncio.Task[None], Queue | None] = {}  # None for those of requests
        self._last_turn: asyncio.Future[None] = self._loop.create_future()  # the server has ended
        self.stops = False  # handlers may be cancelled soon
        self._deadline = float("inf")
        self._alarm: asyncio.TimerHandle | None = None
        self._echo: asyncio.Handle | None = None  # there was a cancellation in these turns

    def is_lost(self) -> bool:
        """Whether the loop was closed while the app ran in it."""
        return self._loop.is_closed()

    def forget(self) -> list[int]:
        """This is a forked child, which must not wait for what is the parent's.

        Returns:
            The descriptor that the loop waits with; none for uvloop, which makes its own here.
        """
        fileno = getattr(getattr(self._loop, "_selector", None), "fileno", None)
        if self._loop.is_closed():
            return []
        if fileno is None:
            self._loop.stop()
            return []
        return [fileno()]

    def leave(self) -> None:
        """The tasks will never run again: what waits in their queues is left out."""
        for queue in self.tasks.values():
            if queue is not None:
                queue.drop()

    def start(self, coroutine: Coroutine[Any, Any, None], queue: Queue | None = None) -> None:
        """Run a coroutine in a task; `serve` waits for its end."""
        task = self._loop.create_task(coroutine)
        self.tasks[task] = queue
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        queue = self.tasks.pop(task)
        if queue is not None:
            queue.on_end()

    def stop_within(self, seconds: float) -> None:
        """The app shuts down: cancel the tasks that are left after this time."""
        self.stops = True
        deadline = time.monotonic() + seconds
        if deadline < self._deadline:
            self._deadline = deadline
            self._set_alarm(seconds)

    def _set_alarm(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(seconds, self._cancel_all)

    def _cancel_all(self) -> None:
        """Cancel all tasks, repeatedly: after a cancelled handler the close handler comes next."""
        for task, queue in self.tasks.items():
            if queue is None or not queue.is_spared():
                task.cancel()
        self._set_alarm(_GRACE)

    async def serve(self, signals: bool) -> None:
        """Run turns until the server has shut down and all tasks have ended.

        When cancelled, it shuts down and still waits; when cancelled again, later, it drops all
        connections.

        Args:
            signals: Handle SIGINT and SIGTERM.
        """
        descriptor = lib.ws_server_fd(self._runtime.server)
        self._loop.add_reader(descriptor, self._turn, descriptor)
        cancelled: BaseException | None = None
        with Signals(self._runtime, self._loop) if signals else nullcontext():
            while not self._last_turn.done() or self.tasks:
                try:
                    tasks = [*self.tasks] if self._last_turn.done() else [self._last_turn]
                    await asyncio.wait(tasks)
                except asyncio.CancelledError as error:
                    if cancelled is None:
                        self._runtime.go_away()
                    elif self._echo is None:
                        self._runtime.go_away(0)
                    cancelled = error
                    self._await_echo()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._echo is not None:
            self._echo.cancel()
        if cancelled is not None:
            raise cancelled
        self._last_turn.result()

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


def _cancellation(error: BaseException) -> Exception:
    """What to report instead: CancelledError could cancel something else of the program."""
    failure = RuntimeError("the handler was cancelled")
    failure.__cause__ = error
    return failure


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


async def _serve(runtime: Runtime, host: Host, signals: bool = False) -> None:
    try:
        await host.serve(signals)
    finally:
        if runtime.host is host:  # otherwise its loop was closed, and the app may run elsewhere
            runtime.finish()
            runtime.raise_stashed()


async def _run(runtime: Runtime) -> None:
    await _serve(runtime, _begin(runtime, None), True)


def run(runtime: Runtime) -> None:
    """`App.run`, in an event loop of its own."""
    runtime.check_idle()
    failure = None
    try:
        asyncio.run(_run(runtime))
    except Exception as error:
        failure = error
    if failure is not None:
        runtime.raise_stashed()
        runtime.check_process()  # a forked child has come back from a handler
        raise failure


async def serve(runtime: Runtime, listen: Listen | None, signals: bool) -> None:
    """`App.serve`; `listen` begins to listen, None if the app listens already."""
    await _serve(runtime, _begin(runtime, listen), signals)


@asynccontextmanager
async def serving(runtime: Runtime, listen: Listen | None, app: T) -> AsyncIterator[T]:
    """`App.serving`; the block gets `app`."""
    task = asyncio.get_running_loop().create_task(_serve(runtime, _begin(runtime, listen)))
    try:
        await asyncio.sleep(0)  # the task has begun, so that it ends well when it is cancelled
        yield app
    finally:
        if not task.done():
            runtime.go_away()
        await task


# ---- events of sockets --------------------------------------------------------------------------


def wrap_handlers(behavior: Behavior) -> None:
    """Pass the events of a route with coroutine handlers through the queues of its sockets."""
    for event in values.HANDLERS:
        handler = getattr(behavior, event)
        if handler is not None and event != "upgrade":
            setattr(behavior, event, _Queued(event, handler))


class _Queued:
    """A handler that waits for its turn."""

    __slots__ = ("__wrapped__", "event", "handler", "is_coroutine")

    def __init__(self, event: str, handler: Handler) -> None:
        self.event = event
        self.handler = self.__wrapped__ = handler
        self.is_coroutine = values.is_coroutine_handler(handler)

    def __call__(self, ws: Socket, *args: Any) -> Any:
        queue = sockets.queue_of(ws)
        if queue is None:
            if not self.is_coroutine:
                return self.handler(ws, *args)
            queue = Queue(ws)
            sockets.set_queue(ws, queue)
        queue.add(self, args)
        return None


class Queue:
    """Events of one socket, from the first one for a coroutine until none is left.

    What was received and waits is bounded: once max_pending_messages, or max_payload_length bytes,
    wait, the socket is not read until half of that is left.

    Attributes:
        events: The events that wait, each with its handler.
        received: How many of them are messages, Pings and Pongs.
    """

    __slots__ = ("_bytes", "_limits", "_runs", "_runtime", "_spare", "_ws", "events", "received")

    def __init__(self, ws: Socket) -> None:
        self._ws = ws
        self._runtime = sockets.runtime_of(ws)
        self._limits = sockets.route_of(ws).behavior
        self.events: deque[tuple[_Queued, tuple[Any, ...]]] = deque()
        self.received = self._bytes = 0
        self._runs = False  # there is a task
        self._spare = False  # the close handler has just begun

    def add(self, handler: _Queued, args: tuple[Any, ...]) -> None:
        """An event happened."""
        limits = self._limits
        if handler.event in _RECEIVED:
            self.received += 1
            self._bytes += _size(args[0])
            full = self.received >= limits.max_pending_messages
            if full or self._bytes >= limits.max_payload_length:
                sockets.pause(self._ws, BY_QUEUE)
        elif handler.event in ("drain", "dropped"):
            limit = 1 if handler.event == "drain" else limits.max_pending_messages
            if sum(waiting is handler for waiting, _ in self.events) >= limit:
                return
        self.events.append((handler, args))
        self.start()

    def start(self) -> None:
        """Start the task, if something waits, may be handed out, and no task runs."""
        if self._runs or self._is_held():
            return
        host = self._runtime.host
        if host is None:
            logger.error("no event loop runs: handlers of %r are left out", self._ws)
            self.events.clear()
            self._leave()
            return
        self._runs = True
        host.start(self._run(), self)

    def drop(self) -> None:
        """The task will never continue, and nothing that happens next waits for it."""
        self.events.clear()
        self._runs = False
        self._leave()

    def on_close(self, local: bool) -> None:
        """The socket is closed, the close event follows."""
        if local:
            self.events = deque(item for item in self.events if item[0].event not in _USELESS)
        self.start()

    def _is_held(self) -> bool:
        """Whether the program has paused the socket, so that nothing received is handed out."""
        if not self.events or not sockets.is_paused(self._ws, BY_USER):
            return False
        return self.events[0][0].event in _RECEIVED

    def is_spared(self) -> bool:
        """True once while the close handler runs, which must not be cancelled at once."""
        spare, self._spare = self._spare, False
        return spare

    async def _run(self) -> None:
        await _steps(self._work(), sockets.context_of(self._ws), self._ws)

    async def _work(self) -> None:
        ws = self._ws
        while self.events and not self._is_held():
            handler, args = self.events.popleft()
            if handler.event in _RECEIVED:
                self._took(args[0])
            self._spare = handler.event == "close"
            try:
                result = handler.handler(ws, *args)
                if handler.is_coroutine:
                    result = await result
                if result is not None:
                    returned(sockets.route_of(ws), handler.event, handler, result)
            except GeneratorExit:  # the loop is gone
                raise
            except asyncio.CancelledError as error:
                host = self._runtime.host
                if host is not None:
                    failure = _cancellation(error)
                    host.cancelled(sockets.failed, ws, handler.event, failure)
                return  # `on_end` continues, once it is known why
            except BaseException as error:
                sockets.failed(ws, handler.event, error)

    def _took(self, message: Any) -> None:
        limits = self._limits
        self.received -= 1
        self._bytes -= _size(message)
        few = self.received <= limits.max_pending_messages // 2
        if few and self._bytes <= limits.max_payload_length // 2:
            sockets.resume(self._ws, BY_QUEUE)

    def on_end(self) -> None:
        """The task has ended, or was cancelled before it had begun."""
        self._runs = False
        if self.events:
            self.start()
        else:
            self._leave()

    def _leave(self) -> None:
        sockets.set_queue(self._ws, None)


def _size(message: str | bytes) -> int:
    """Bytes of a message."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode())


@types.coroutine
def _steps(
    work: Coroutine[Any, Any, None], context: Context, ws: Socket | None = None
) -> Generator[Any, Any, None]:
    """Await `work` in this context; what it sends to `ws` between two awaits leaves in one write.

    Python before 3.11 cannot create a task in a given context. With asyncio.eager_task_factory a
    task begins at once, inside a handler: then it waits until that handler has left the context.
    """
    if is_entered(context):
        yield
    resume: Callable[[Any], Any] = work.send
    argument: Any = None
    while True:
        conn = 0 if ws is None else sockets.conn_of(ws)
        if conn:
            lib.ws_conn_cork(conn)
        try:
            awaited = run_in(context, resume, argument)
        except StopIteration:
            return
        finally:
            if conn:  # even if it was closed: its memory lasts until the next turn
                lib.ws_conn_uncork(conn)
        try:
            argument = yield awaited
            resume = work.send
        except GeneratorExit:  # freed with its task; `work` may be closed by then, so no throw()
            run_in(context, work.close)
            raise
        except BaseException as error:
            argument, resume = error, work.throw


# ---- requests -----------------------------------------------------------------------------------


class Later:
    """A coroutine handler of requests: the response is marked as deferred before it begins."""

    __slots__ = ("__wrapped__", "_handler", "_pattern")

    def __init__(self, handler: Handler, pattern: str) -> None:
        self._handler = self.__wrapped__ = handler
        self._pattern = pattern

    def __call__(self, res: Exchange, req: Any, *context: Any) -> None:
        host = requests.answer_later(res)
        host.start(self._begin(host, res, req, context))

    async def _begin(self, host: AnyHost, res: Exchange, req: Any, context: Any) -> None:
        await _steps(self._answer(host, res, req, context), requests.context_of(res))

    async def _answer(self, host: AnyHost, res: Exchange, req: Any, context: Any) -> None:
        try:
            result = await self._handler(res, req, *context)
            if result is not None:
                requests.handler_returned(res, self, result)
        except GeneratorExit:
            raise
        except asyncio.CancelledError as error:
            host.cancelled(requests.handler_failed, res, _cancellation(error), self)
        except BaseException as error:
            requests.handler_failed(res, error, self)
        else:
            if requests.is_unanswered(res):
                logger.error("the handler of %s did not answer the request", self._pattern)
                requests.fail_request(res)
