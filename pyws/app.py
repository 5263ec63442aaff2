# SPDX-License-Identifier: MIT
"""The server: listening, running, topics, deferred calls."""

from __future__ import annotations

import sys
from functools import partial
from types import TracebackType
from typing import (
    Any,
    AsyncContextManager,
    Callable,
    Collection,
    Dict,
    Optional,
    Type,
    TypeVar,
    Union,
)

from . import http, websocket
from ._core import callbacks, calls, foreign, fork, mistakes, values
from ._core.bridge import Documented, install_fast_path
from ._core.connections import Connections, find
from ._core.fallbacks import Fallbacks
from ._core.hints import AnyOpCode, Message, Unpack
from ._core.life import Life
from ._core.listening import Listening
from ._core.logs import logger
from ._core.messages import Json, pack_publication
from ._core.metrics import metrics_text
from ._core.runtime import SHUTDOWN_REASON, Runtime
from ._core.signals import Signals
from ._core.topics import Topics
from ._core.work import Work
from ._native import fail, lib
from .http import Response
from .options import AppListenOptions, AppOptions
from .typing import AppListenOptionsDict, AppOptionsDict, ErrorHandler, RequestErrorHandler
from .websocket import WebSocket

__all__ = ["App"]

Fn = TypeVar("Fn", bound=Callable[[], Any])
BrokerFn = TypeVar("BrokerFn", bound=Callable[[bool], object])

_WHERE = 'where to listen is said before, app.listen(8000, host="127.0.0.1")'


@foreign.explained(foreign.NOT_IN_APP)
class App(Listening, Fallbacks, Topics, Work, metaclass=Documented):
    """A WebSocket and HTTP server.

    Its methods belong to one thread: the one in `run`, `serve` or `serving`, or while nothing runs
    the one that made it. Only `defer` may be called from any thread; the others raise RuntimeError
    there.
    """

    def __init__(
        self,
        options: Union[AppOptions, AppOptionsDict, None] = None,
        **more: Unpack[AppOptionsDict],
    ) -> None:
        """Make a server, which does not listen yet: ``App(max_connections=1000)``.

        Args:
            options: AppOptions, or a dict of them.
            more: Settings as keywords, which win.

        Raises:
            TypeError, ValueError: A setting is wrong.
            MemoryError, OSError: There is no memory or descriptor for a server.
            ImportError: The package that talks to the broker is missing.
        """
        self.app_options = AppOptions.of(options, more)
        bridge, on_response = callbacks.new_bridge(), callbacks.ON_RESPONSE
        super().__init__(Runtime(self, self.app_options, bridge, on_response))
        self._connect_broker()
        self._life = Life(self._runtime)
        self._bridge_address = self._runtime.bridge_address  # for bridge.c

    def _connect_broker(self) -> None:
        """Make what connects to the broker, if there is one. Raises ImportError, ValueError."""
        if self.app_options.broker is None:
            return
        from ._core.link import Relay

        options = self.app_options
        self._runtime.relay = Relay(self._runtime, self.app_options.broker, options.broker_queue)

    __reduce_ex__ = values.no_copy

    def __enter__(self) -> App:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional[TracebackType],
    ) -> None:
        """Drop all connections and free the server.

        Raises:
            RuntimeError: The app is running, or called from another thread.
        """
        runtime = self._runtime
        if runtime.refusal:
            return
        runtime.leave_closed_loop()
        runtime.check_thread()
        if runtime.is_busy:
            raise RuntimeError("the app is running: call close() and leave the block after run()")
        runtime.free()

    def __del__(self) -> None:
        runtime: Optional[Runtime] = getattr(self, "_runtime", None)
        if runtime is not None and not sys.is_finalizing():  # C could call into nothing
            runtime.free()

    # ---- life -----------------------------------------------------------------------------------

    @mistakes.explain_calls(_WHERE)
    def run(self, workers: int = 1) -> None:
        """Serve until `close`, SIGINT or SIGTERM; then every connection has ended.

        In the main thread the first SIGINT or SIGTERM shuts down gracefully, after a drain if the
        app has drain_on_signal; a SIGINT after that drops everything and raises KeyboardInterrupt.
        An exception of a handler that is no Exception (KeyboardInterrupt, SystemExit) shuts down,
        too, and is raised here.

        With coroutine handlers this is an asyncio loop of its own (``asyncio.run``); those that are
        still running when the timeout of `close` is over are cancelled. Without coroutine handlers
        it is a loop of the library, and asyncio.get_event_loop() raises RuntimeError in its thread,
        as it does after ``asyncio.run``: what such a loop was given would never run.

        Args:
            workers: How many processes share the addresses of `listen`, 1 to 1024. Each has the
                handlers of this program, and connections, topics and counters of its own; one that
                ends is replaced. With more than one, this process serves no one itself: it starts
                them (os.fork), watches over them, and ends when they have ended. Calls that were
                deferred or delayed before run in each worker.

        Raises:
            RuntimeError: The app runs already, listens nowhere, or an asyncio loop runs in this
                thread; with workers, also if other threads are alive, or one of the first workers
                cannot start.
            OSError: The loop failed.
            TypeError, ValueError: `workers` is wrong.
            Exception: What an `on_start` function has raised.
        """
        self._check_complete()
        try:
            values.integer("workers", workers, 1, 1024)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{error}: {_WHERE}") from None
        if workers > 1:
            from ._core.workers import supervise

            supervise(self._runtime, self._life, workers, self._add_all, self.run)
            return
        runtime = self._runtime
        runtime.check_idle()
        mistakes.refuse_running_loop()
        if self._has_coroutines or runtime.relay is not None:
            from ._core import aio

            aio.run(runtime, self._life)
            return
        runtime.begin(None)
        result = 0
        try:
            with mistakes.no_event_loop(logger.warning):
                result = self._loop()
        finally:
            runtime.finish()
        runtime.raise_stashed()
        if result < 0:
            runtime.check_process()  # a forked child has come back from a handler
            fail(result)

    def _loop(self) -> int:
        """Run turns until the server has shut down; returns the result of ws_server_run."""
        runtime, result = self._runtime, 1
        with Signals(runtime) as signals:
            self._life.start()
            while result > 0:
                try:
                    signals.act()
                    result = lib.ws_server_run(runtime.server)
                except BaseException as error:  # from a signal handler of the program
                    runtime.stash(error)
            self._life.stop()
        return result

    async def serve(
        self,
        where: Union[int, AppListenOptions, AppListenOptionsDict, None] = None,
        *,
        signals: bool = False,
        **more: Unpack[AppListenOptionsDict],
    ) -> None:
        """Serve as `run` does, in the asyncio loop that is running.

        When cancelled, it shuts down gracefully within 5 seconds, then raises CancelledError. When
        cancelled again, it drops all connections. A further cancellation in the same turns of the
        loop, as by a cancel scope of anyio, does not count as another one.

        Args:
            where: As for `listen`. The app must listen already if neither this nor a keyword says
                where.
            more: Options as keywords, as for `listen`: ``app.serve(8000, host="127.0.0.1")``.
            signals: Handle SIGINT and SIGTERM as `run` does, and restore their handlers at the
                end. A signal is for all apps of the loop that say so. Otherwise signals are the
                program's own, and a SIGTERM that the program does not handle ends the process
                without a Close frame to anyone. It has no effect outside the main thread.

        Raises:
            RuntimeError: The app runs already, or listens nowhere.
            OSError, TypeError, ValueError: As for `listen`.
            KeyboardInterrupt: With `signals`, after a second SIGINT.
            Exception: What an `on_start` function has raised.
        """
        self._check_complete()
        from ._core import aio

        await aio.serve(self._runtime, self._life, self._listener(where, more), signals)

    def serving(
        self,
        where: Union[int, AppListenOptions, AppListenOptionsDict, None] = None,
        **more: Unpack[AppListenOptionsDict],
    ) -> AsyncContextManager[App]:
        """Serve during a block, as `serve` does: ``async with app.serving(port):``.

        At the end of the block it shuts down, and waits for that. Signals are the program's own: no
        signal ends the block.

        Args:
            where: As for `serve`.
            more: As for `serve`.

        Returns:
            A context manager that gives the app.

        Raises:
            RuntimeError, OSError, TypeError, ValueError, Exception: As for `serve`.
        """
        self._check_complete()
        self._runtime.check_idle()
        from ._core import aio

        return aio.serving(self._runtime, self._life, self._listener(where, more), self)

    def _listener(self, where: Any, more: AppListenOptionsDict) -> Optional[Callable[[], Any]]:
        if where is None and not more:
            return None
        return partial(self.listen, *(() if where is None else (where,)), **more)

    def on_start(self, fn: Fn) -> Fn:
        """Run ``fn()`` before the first connection is accepted; may be used as a decorator.

        Start functions run in the order in which they were added, once in each `run`, `serve` or
        `serving`, and with workers in each of them. If one raises, the following ones do not run,
        nor do the stop functions, nothing listens any more, and the exception propagates from
        `run`, `serve` or `serving`. With workers see docs/workers.md.

        They run in one contextvars.Context, of which the contexts of all handlers are copies: what
        they set there is there for the handlers.

        Args:
            fn: A function or a coroutine function (then `run` uses an asyncio loop).

        Returns:
            `fn`.

        Raises:
            TypeError: `fn` is no function without arguments.
            RuntimeError: The app is running already, or called from another thread.
        """
        self._has_coroutines |= self._life.add_start(fn)
        return fn

    def on_stop(self, fn: Fn) -> Fn:
        """Run ``fn()`` after the last connection has closed; may be used as a decorator.

        Stop functions run in the reverse order, once at the end of each `run`, `serve` or
        `serving`, and with workers in each of them, if the start functions have succeeded. What one
        of them raises is reported as with a handler, and the others still run. Only a second SIGINT
        or a second cancellation of `serve` interrupts those that are coroutine functions.

        Args:
            fn: A function or a coroutine function (then `run` uses an asyncio loop).

        Returns:
            `fn`.

        Raises:
            TypeError: `fn` is no function without arguments.
            RuntimeError: Called from another thread, or `fn` is a coroutine function and `run` has
                begun without an asyncio loop.
        """
        self._has_coroutines |= self._life.add_stop(fn)
        return fn

    def on_broker(self, fn: BrokerFn) -> BrokerFn:
        """Call ``fn(up)`` when the broker connects and disconnects; may be used as a decorator.

        The first call in each `run` (with workers: in each worker) is True once the broker is
        connected and knows all topics, or False when the first attempt has failed. A function that
        is added later is called at the next change; ``app.stats()["broker_up"]`` is 1 if the
        broker is connected now. Without a broker, it is never called.

        Args:
            fn: A plain function. An exception is reported like that of a handler.

        Returns:
            `fn`.

        Raises:
            TypeError: `fn` is not a plain function of one argument.
            RuntimeError: Called from another thread.
        """
        self._runtime.check_server()
        mistakes.check_arity("the on_broker function", values.function("fn", fn), ("up",))
        if self._runtime.relay is not None:
            self._runtime.relay.add_listener(fn)
        return fn

    def close(
        self,
        code: int = 1001,
        reason: Union[str, bytes] = SHUTDOWN_REASON,
        timeout: float = 5.0,
        drain: float = 0.0,
    ) -> None:
        """Shut down: no new connections, a Close frame to every open one, then `run` returns.

        With `drain` clients may finish first: for so long only the listening ends, HTTP connections
        end after their current response, and new handshakes on them get a 503. The Close frames
        follow when that time is over. `run` returns as soon as the last connection has ended. A
        second call without `drain`, SIGINT and SIGTERM end the time at once; with drain_on_signal
        the first signal gives clients that time instead.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 section 7.4).
            reason: The reason in the Close frames.
            timeout: Seconds from the Close frames until what has not ended is dropped.
            drain: Seconds before the Close frames.

        Raises:
            TypeError, ValueError: An argument is wrong.
            RuntimeError: Called from another thread.
        """
        status, data = values.shutdown_arguments(code, reason)
        limit = values.milliseconds(values.duration("timeout", timeout))
        self._runtime.close(status, data, limit, values.duration("drain", drain))

    # ---- connections ----------------------------------------------------------------------------

    @property
    def connections(self) -> Collection[WebSocket[Any]]:
        """The open WebSocket connections of this app in this process.

        A view, with ``len``, ``in`` and iteration. An iteration visits those that were open at its
        beginning and still are, so that sockets may open and close meanwhile.

        Raises:
            RuntimeError: Used in another thread.
        """
        self._runtime.check_server()
        return Connections(self._runtime)

    def find(self, id: int) -> Optional[WebSocket[Any]]:
        """The open connection with this id, or None if it has closed, or never existed.

        Args:
            id: The `id` of a WebSocket of this process. Ids are never used again.

        Raises:
            TypeError: It is not an int.
            RuntimeError: Called from another thread.
        """
        number = values.whole("id", id, "an int, the id of a WebSocket")
        self._runtime.check_server()
        socket: Optional[WebSocket[Any]] = find(self._runtime, number)
        return socket

    # ---- topics ---------------------------------------------------------------------------------

    def publish(
        self,
        topic: Union[str, bytes],
        message: Message,
        opcode: Optional[AnyOpCode] = None,
        compress: bool = False,
    ) -> bool:
        """Send one message to every subscriber of `topic`, in all workers and at all machines.

        Other machines are those of apps with the same `broker` (docs/scaling.md). While the app
        does not run, a message reaches no one.

        A subscriber whose queue is full (max_backpressure) does not get it. Other workers get what
        this one publishes in the same order, each message at most once; docs/workers.md says when
        one is lost.

        Args:
            topic: Any str, or bytes in UTF-8.
            message, opcode, compress: As for `WebSocket.send`; TEXT and BINARY only.

        Returns:
            True if at least one subscriber in this process gets it, or another worker has
            subscribers of the topic, or has just started and may have some. None in this process
            gets it once a shutdown has begun to close the connections. Also True if the topic has
            history: then the broker gets it first (docs/history.md).

        Raises:
            TypeError, ValueError: An argument is wrong. Nothing was sent.
            RuntimeError: Called from another thread.
        """
        name = values.topic(topic)
        data, code = pack_publication(message, opcode, compress, self._runtime.json)
        runtime = self._runtime
        runtime.check_server()
        return bool(lib.ws_server_publish(runtime.server, name, len(name), data, len(data), code))

    # ---- errors, numbers, JSON ------------------------------------------------------------------

    def on_error(self, handler: ErrorHandler) -> App:
        """Call ``handler(error, source)`` for every exception of a handler, after it was logged.

        Args:
            handler: A plain function. Its `source` is the WebSocket or the Response that the
                exception was about; None for a function of `defer` or `call_later`. It may answer
                with the Response; otherwise the client gets 500.

        Returns:
            The app itself.

        Raises:
            TypeError: `handler` is not a plain function of two arguments.
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        hint = "; for handler(error, res, req) there is app.set_error_handler()"
        values.function("handler", handler)
        mistakes.check_arity("handler", handler, ("error", "source"), hint)
        self._runtime.error_handler = handler
        return self

    def set_error_handler(self, handler: RequestErrorHandler) -> App:
        """As `on_error`, for functions that take the Response and the Request.

        Args:
            handler: ``handler(error, res, req)``, a plain function. `res` and `req` are None where
                the exception was not about a request. It may answer; otherwise the client gets 500.

        Returns:
            The app itself.

        Raises:
            TypeError: `handler` is not a plain function of three arguments.
            RuntimeError: Called from another thread.
        """
        values.function("handler", handler)
        mistakes.check_arity("handler", handler, ("error", "res", "req"))

        def on_error(error: BaseException, source: Any) -> Any:
            if isinstance(source, Response):
                return handler(error, source, source.request)
            return handler(error, None, None)

        return self.on_error(on_error)

    def json_serializer(self, serializer: Any) -> App:
        """Write and read JSON with another library: ``app.json_serializer(orjson)``.

        The same as AppOptions(json_dumps=serializer.dumps, json_loads=serializer.loads).

        Args:
            serializer: An object with the functions `dumps`, which returns str or bytes, and
                `loads`.

        Returns:
            The app itself.

        Raises:
            TypeError: It does not have these functions.
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        functions = []
        for name in ("dumps", "loads"):
            if not hasattr(serializer, name):
                raise TypeError(f"serializer must have dumps and loads, not only {serializer!r}")
            functions.append(values.function("serializer." + name, getattr(serializer, name)))
        self._runtime.json = Json(*functions)
        return self

    def stats(self) -> Dict[str, int]:
        """Numbers about this process.

        Returns:
            Counters since the start: accepted, opened, closed, refused, limited, turns, blocked,
            messages_in, messages_out, bytes_in, bytes_out, dropped, backpressure. Now: memory and
            its part compression_memory (bytes), connections, open, topics. Those of what workers
            send each other begin with ``bus_``, and with a broker there are broker_up,
            broker_published and so on. docs/metrics.md explains them.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_server()
        numbers = calls.counts(self._runtime.server).numbers
        relay = self._runtime.relay
        return numbers if relay is None else {**numbers, **relay.numbers()}

    def metrics(self) -> str:
        """The numbers of `stats`, and some more, in the text format of Prometheus.

        Returns:
            A text of version 0.0.4 of that format, to be sent with the content type
            "text/plain; version=0.0.4; charset=utf-8". docs/metrics.md lists what it has.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_server()
        relay = self._runtime.relay
        broker = {} if relay is None else relay.numbers()
        return metrics_text(calls.counts(self._runtime.server), self._runtime.worker, broker)


# What their annotations name, and their modules cannot import.
vars(http)["App"] = vars(websocket)["App"] = App

fork.register()


if lib.bridge:
    install_fast_path(App, "publish", "_publish", "publish_app")
