"""Coroutine handlers, and the server as a part of an asyncio loop; imported only for these.

The loop watches the server's descriptor: a turn of the server is one callback of it. What happens
to a socket whose route has coroutine handlers goes through its `Queue`: a task that runs them one
after the other, and that is there only while something waits.
"""

from __future__ import annotations

import asyncio
import time
import types
from collections import deque
from contextlib import asynccontextmanager, nullcontext
from typing import TYPE_CHECKING, Any, AsyncIterator, Callable, Coroutine, Generator

from .. import options
from .._native import lib
from ..websocket import BY_QUEUE, BY_USER
from .callbacks import returned
from .calls import thread_ident
from .contexts import is_entered, run_in
from .logs import logger
from .signals import Signals

if TYPE_CHECKING:
    from contextvars import Context

    from ..app import App
    from ..http import Request, Response
    from ..options import Behavior, Handler
    from ..websocket import WebSocket

__all__ = ["Host", "Later", "Queue", "enqueue", "run", "serve", "serving"]

_GRACE = 1.0  # seconds for close handlers, and for handlers that are cancelled
_RECEIVED = frozenset(("message", "ping", "pong"))
_USELESS = frozenset((*_RECEIVED, "drain"))  # once this side has ended the connection

# ---- the loop -----------------------------------------------------------------------------------


class Host:
    """The asyncio loop that an App runs in, and the tasks of its handlers there."""

    def __init__(self, app: App) -> None:
        self._app = app
        self._loop = asyncio.get_running_loop()
        self._tasks: dict[asyncio.Task[None], Queue | None] = {}  # None: it is of a request
        self._over: asyncio.Future[None] = self._loop.create_future()  # there are no more turns
        self._stops = False  # handlers may be cancelled soon
        self._deadline = float("inf")
        self._alarm: asyncio.TimerHandle | None = None
        self._echo: asyncio.Handle | None = None  # there was a cancellation in these turns

    def is_lost(self) -> bool:
        """The loop was closed while the app ran in it."""
        return self._loop.is_closed()

    def forget(self) -> list[int]:
        """This is a forked child, which must not wait for what is the parent's.

        Returns the descriptor that the loop waits with. uvloop makes its own in the child.
        """
        fileno = getattr(getattr(self._loop, "_selector", None), "fileno", None)
        if self._loop.is_closed():
            return []
        if fileno is None:
            self._loop.stop()
            return []
        return [fileno()]

    def leave(self) -> None:
        """What its tasks were about to do will not be done."""
        for queue in self._tasks.values():
            if queue is not None:
                queue.drop()

    def start(self, coroutine: Coroutine[Any, Any, None], queue: Queue | None = None) -> None:
        """Run it in a task; `serve` waits for its end."""
        task = self._loop.create_task(coroutine)
        self._tasks[task] = queue
        task.add_done_callback(self._ended)

    def _ended(self, task: asyncio.Task[None]) -> None:
        queue = self._tasks.pop(task)
        if queue is not None:
            queue.on_end()

    def stop_within(self, seconds: float) -> None:
        """The app shuts down: cancel the tasks that are still there when this time is over."""
        self._stops = True
        deadline = time.monotonic() + seconds
        if deadline < self._deadline:
            self._deadline = deadline
            self._set_alarm(seconds)

    def _set_alarm(self, seconds: float) -> None:
        if self._alarm is not None:
            self._alarm.cancel()
        self._alarm = self._loop.call_later(seconds, self._cancel_all)

    def _cancel_all(self) -> None:
        """Until all is over: where a handler is cancelled the close handler comes next."""
        for task, queue in self._tasks.items():
            if queue is None or not queue.is_spared():
                task.cancel()
        self._set_alarm(_GRACE)

    async def serve(self, signals: bool) -> None:
        """Turns until the server has shut down and all tasks have ended.

        Cancelled, it shuts down and waits on; cancelled once more, later, it drops everything.
        """
        descriptor = lib.ws_server_fd(self._app._server)
        self._loop.add_reader(descriptor, self._turn, descriptor)
        cancelled: BaseException | None = None
        with Signals(self._app, self._loop) if signals else nullcontext():
            while not self._over.done() or self._tasks:
                try:
                    await asyncio.wait([*self._tasks] if self._over.done() else [self._over])
                except asyncio.CancelledError as error:
                    if cancelled is None:
                        self._app.close(timeout=5)
                    elif self._echo is None:
                        self._app.close(timeout=0)
                    cancelled = error
                    self._await_echo()
        if self._alarm is not None:
            self._alarm.cancel()
        if self._echo is not None:
            self._echo.cancel()
        if cancelled is not None:
            raise cancelled
        self._over.result()

    def _await_echo(self, turns: int = 3) -> None:
        """What is cancelled again within so many turns of the loop was cancelled once.

        A cancel scope of anyio cancels in each turn whatever is still in it.
        """
        if self._echo is not None:
            self._echo.cancel()
        self._echo = self._loop.call_soon(self._await_echo, turns - 1) if turns else None

    def _turn(self, descriptor: int) -> None:
        if self._over.done():
            return
        if self._app._owner not in (thread_ident(), 0):  # 0: the child of a fork
            self._move()
        try:
            if lib.ws_server_step(self._app._server, 0):
                return
            self._over.set_result(None)
        except OSError as error:
            self._over.set_exception(error)
            self.stop_within(0)
        except BaseException as error:  # from a signal handler of the program's
            self._app._stash(error)
            self._loop.call_soon(self._turn, descriptor)
            return
        self._loop.remove_reader(descriptor)

    def _move(self) -> None:
        """Another thread runs the loop than before: calls of the app belong to that one now."""
        logger.warning("the asyncio loop of a server has moved to another thread, and it with it")
        self._app._own(thread_ident())

    def cancelled(self, report: Callable[..., Any], *about: Any) -> None:
        """A handler was cancelled; it has failed, unless that is because everything ends.

        Of all tasks that are cancelled at once the one that serves may be the last to know.
        """
        self._loop.call_soon(lambda: None if self._stops else report(*about))


def _cancellation(error: BaseException) -> Exception:
    """What to report instead: nothing else of the program shall be cancelled by it."""
    failure = RuntimeError("the handler was cancelled")
    failure.__cause__ = error
    return failure


def _begin(app: App, where: Any) -> Host:
    host = Host(app)
    app._begin(host, listens=where is None)
    try:
        if where is not None:
            app.listen(where)
    except BaseException:
        app._finish()
        raise
    return host


async def _serve(app: App, host: Host, signals: bool = False) -> None:
    try:
        await host.serve(signals)
    finally:
        if app._host is host:  # else: its loop was closed, and the app may run elsewhere
            app._finish()
            app._raise_stashed()


async def _run(app: App) -> None:
    await _serve(app, _begin(app, None), True)


def run(app: App) -> None:
    """`App.run`, in an event loop of its own."""
    app._check_idle()
    failure = None
    try:
        asyncio.run(_run(app))
    except Exception as error:
        failure = error
    if failure is not None:
        app._raise_stashed()
        app._check_process()  # a forked child has come back from a handler
        raise failure


async def serve(app: App, where: Any, signals: bool) -> None:
    """`App.serve`."""
    await _serve(app, _begin(app, where), signals)


@asynccontextmanager
async def serving(app: App, where: Any) -> AsyncIterator[App]:
    """`App.serving`."""
    task = asyncio.get_running_loop().create_task(_serve(app, _begin(app, where)))
    try:
        await asyncio.sleep(0)  # it has begun: from now on it ends well when it is cancelled
        yield app
    finally:
        if not task.done():
            app.close()
        await task


# ---- events of sockets --------------------------------------------------------------------------


def enqueue(behavior: Behavior) -> None:
    """Lead the events of a route with coroutine handlers through the queues of its sockets."""
    for event in options.HANDLERS:
        handler = getattr(behavior, event)
        if handler is not None and event != "upgrade":
            setattr(behavior, event, _Queued(event, handler))


class _Queued:
    """A handler that waits for its turn."""

    __slots__ = ("__wrapped__", "event", "handler", "is_coroutine")

    def __init__(self, event: str, handler: Handler) -> None:
        self.event = event
        self.handler = self.__wrapped__ = handler
        self.is_coroutine = options.is_coroutine_handler(handler)

    def __call__(self, ws: WebSocket, *args: Any) -> Any:
        if ws._queue is None:
            if not self.is_coroutine:
                return self.handler(ws, *args)
            ws._queue = Queue(ws)
        ws._queue.add(self, args)
        return None


class Queue:
    """Events of one socket, from the first one for a coroutine until none is left.

    What was received and waits is bounded: from max_pending_messages, or max_payload_length bytes,
    on the socket is not read, until half of that is left.
    """

    __slots__ = ("_bytes", "_events", "_received", "_runs", "_spare", "_ws")

    def __init__(self, ws: WebSocket) -> None:
        self._ws = ws
        self._events: deque[tuple[_Queued, tuple[Any, ...]]] = deque()
        self._received = self._bytes = 0  # what waits of it
        self._runs = False  # there is a task
        self._spare = False  # the close handler has just begun

    def add(self, handler: _Queued, args: tuple[Any, ...]) -> None:
        """An event happened."""
        limits = self._ws._route.behavior
        if handler.event in _RECEIVED:
            self._received += 1
            self._bytes += _size(args[0])
            full = self._received >= limits.max_pending_messages
            if full or self._bytes >= limits.max_payload_length:
                self._ws._pause(BY_QUEUE)
        elif handler.event in ("drain", "dropped"):
            limit = 1 if handler.event == "drain" else limits.max_pending_messages
            if sum(waiting is handler for waiting, _ in self._events) >= limit:
                return
        self._events.append((handler, args))
        self.start()

    def start(self) -> None:
        """Work on, if there is something to do and nothing is under way."""
        if self._runs or self._is_held():
            return
        host = self._ws._app._host
        if host is None:
            logger.error("no event loop runs: handlers of %r are left out", self._ws)
            self._events.clear()
            self._leave()
            return
        self._runs = True
        host.start(self._run(), self)

    def drop(self) -> None:
        """Its task will never go on; what happens next does not wait for it."""
        self._events.clear()
        self._runs = False
        self._leave()

    def on_close(self, local: bool) -> None:
        """The socket is closed, the close event follows."""
        if local:
            self._events = deque(item for item in self._events if item[0].event not in _USELESS)
        self.start()

    def _is_held(self) -> bool:
        """The program has paused the socket, so that nothing received is handed out."""
        ws = self._ws
        if not ws._conn or not ws._paused & BY_USER or not self._events:
            return False
        return self._events[0][0].event in _RECEIVED

    def is_spared(self) -> bool:
        """True once while the close handler is under way: it shall not be cancelled at once."""
        spare, self._spare = self._spare, False
        return spare

    async def _run(self) -> None:
        await _steps(self._work(), self._ws._context, self._ws)

    async def _work(self) -> None:
        ws = self._ws
        app = ws._app
        while self._events and not self._is_held():
            handler, args = self._events.popleft()
            if handler.event in _RECEIVED:
                self._took(args[0])
            self._spare = handler.event == "close"
            try:
                result = handler.handler(ws, *args)
                if handler.is_coroutine:
                    result = await result
                if result is not None:
                    returned(ws._route, handler.event, handler, result)
            except GeneratorExit:  # the loop is gone
                raise
            except asyncio.CancelledError as error:
                if app._host is not None:
                    failure = _cancellation(error)
                    app._host.cancelled(app._socket_failed, ws, handler.event, failure)
                return  # `on_end` goes on, once it is known why
            except BaseException as error:
                app._socket_failed(ws, handler.event, error)

    def _took(self, message: Any) -> None:
        limits = self._ws._route.behavior
        self._received -= 1
        self._bytes -= _size(message)
        few = self._received <= limits.max_pending_messages // 2
        if few and self._bytes <= limits.max_payload_length // 2:
            self._ws._resume(BY_QUEUE)

    def on_end(self) -> None:
        """The task is over; perhaps it was cancelled before it had begun."""
        self._runs = False
        if self._events:
            self.start()
        else:
            self._leave()

    def _leave(self) -> None:
        self._ws._queue = None
        if self._ws.closed:
            self._ws._user_data = None


def _size(message: str | bytes) -> int:
    """Bytes of a message."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode())


@types.coroutine
def _steps(
    work: Coroutine[Any, Any, None], context: Context, ws: WebSocket | None = None
) -> Generator[Any, Any, None]:
    """Await `work` in this context; what it sends to `ws` between two awaits leaves in one write.

    Python before 3.11 cannot create a task in a given context. A task may begin at once, inside a
    handler (asyncio.eager_task_factory): then it waits until that handler has left the context.
    """
    if is_entered(context):
        yield
    resume: Callable[[Any], Any] = work.send
    argument: Any = None
    while True:
        conn = ws._conn if ws is not None else 0
        if conn:
            lib.ws_conn_cork(conn)
        try:
            awaited = run_in(context, resume, argument)
        except StopIteration:
            return
        finally:
            if conn:  # also when it was closed: its memory lasts until the next turn
                lib.ws_conn_uncork(conn)
        try:
            argument = yield awaited
            resume = work.send
        except BaseException as error:
            argument, resume = error, work.throw


# ---- requests -----------------------------------------------------------------------------------


class Later:
    """A coroutine handler of requests: the response is taken for later before it begins."""

    __slots__ = ("__wrapped__", "_handler", "_pattern")

    def __init__(self, handler: Handler, pattern: str) -> None:
        self._handler = self.__wrapped__ = handler
        self._pattern = pattern

    def __call__(self, res: Response, req: Request, *context: Any) -> None:
        host = res._app._host
        assert host is not None
        res._later = True
        host.start(self._begin(host, res, req, context))

    async def _begin(self, host: Host, res: Response, req: Request, context: Any) -> None:
        await _steps(self._answer(host, res, req, context), res._context)

    async def _answer(self, host: Host, res: Response, req: Request, context: Any) -> None:
        try:
            result = await self._handler(res, req, *context)
            if result is not None:
                returned(res._route, "upgrade" if res._upgrades else "", self, result)
        except GeneratorExit:
            raise
        except asyncio.CancelledError as error:
            host.cancelled(self._failed, res, _cancellation(error))
        except BaseException as error:
            self._failed(res, error)
        else:
            if not (res._responded or res._aborted or res._abort_handler):
                logger.error("the handler of %s did not answer the request", self._pattern)
                res._fail()

    def _failed(self, res: Response, error: BaseException) -> None:
        res._app._handler_failed(res._what(), error, res, self, res._context)
        res._fail()
