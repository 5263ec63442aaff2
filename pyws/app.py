"""The server: routes, listening, the loop, threads, and its end."""

from __future__ import annotations

import atexit
import errno
import math
import os
import sys
import threading
import warnings
from collections import deque
from contextvars import Context, copy_context
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, AsyncContextManager, Callable, Mapping, NoReturn

from . import options
from ._core import bridge, callbacks, calls, fork, mistakes
from ._core.callbacks import Route
from ._core.calls import thread_ident
from ._core.contexts import run_in
from ._core.logs import Traffic, log_failure, logger, server_logger
from ._core.signals import GOING_AWAY, Signals
from ._core.timers import Timer, Timers
from ._native import fail, lib
from .errors import ErrorCode
from .http import Response
from .options import AppListenOptions, AppOptions, Behavior, Handler
from .websocket import WebSocket, pack_publication

if TYPE_CHECKING:
    from ._core.aio import Host
    from ._core.workers import Crew

    Deferred = tuple[Context, Handler, tuple[Any, ...]]  # the context, what to call, its arguments

__all__ = ["App"]

_PATTERNS = (
    'must be a path like "/chat/:room" or "/files/*" whose parts are literal, ":name" (each name '
    'once), or "*" (only the last part)'
)


_MISSING: Any = object()  # an argument that was left out


class App:
    """A WebSocket and HTTP server.

    Its methods belong to one thread: the one in `run`, `serve` or `serving`, or while nothing runs
    the one that made it.
    Only `defer` may be called from any thread; the others raise RuntimeError there.
    """

    def __init__(
        self, options: AppOptions | Mapping[str, Any] | None = None, **none: NoReturn
    ) -> None:
        """TypeError, ValueError: a setting is wrong. MemoryError, OSError: no server.

        There are no further arguments: ``App(AppOptions(max_connections=1000))``.
        """
        for name in AppOptions.known(none):
            raise TypeError(f"App() has no {name!r}, did you mean App(AppOptions({name}=...))?")
        self.app_options = AppOptions.of(options)
        self._server = 0
        self._bridge = callbacks.new_bridge()
        self._bridge_address = 0 if self._bridge is None else bridge.address_of(self._bridge)
        self._creator = thread_ident()
        self._own(self._creator)
        self._running = False
        self._context = copy_context()  # what those of sockets and requests are copied from
        self._host: Host | None = None  # while it runs in an asyncio loop
        self._crew: Crew | None = None  # while its workers run, and this process only watches them
        self._places: list[AppListenOptions] = []  # where it listens, until run() has returned
        self._has_run = False  # since it began to listen
        self._traffic: Traffic | None = None  # while it runs, and log lines of it are wanted
        self._inert = ""  # why nothing works in this process, if so
        self._is_worker = False
        self._nested = 0  # handlers that run inside each other
        self._coroutines = False  # are among the handlers
        self._finished = False  # run() has returned, nothing is deferred any more
        self._lock = threading.RLock()  # guards the four members around it against defer
        self._deferred: deque[Deferred] = deque()
        self._wakes = False  # C will call _on_deferred
        self._routes: list[Route] = []
        self._added: list[Callable[[], Any]] = []  # what registers them, for another server
        self._error_handler: Handler | None = None
        self._stashed: BaseException | None = None
        self._number = next(callbacks.numbers)
        callbacks.apps[self._number] = self
        self._timers = Timers(self, callbacks.ON_ALARM)
        self._server = calls.new_server(callbacks.LOG, self._bridge, self.app_options.native())

    __reduce_ex__ = options.no_copy

    def __enter__(self) -> App:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Drop all connections and free the server. RuntimeError from inside `run`."""
        if self._inert:
            return
        self._leave_closed_loop()
        self._check_thread()
        if self._running:
            raise RuntimeError("the app is running: call close() and leave the block after run()")
        self._free()

    def __del__(self) -> None:
        if getattr(self, "_server", 0) and not sys.is_finalizing():  # C could call into nothing
            self._free()

    # ---- routes ---------------------------------------------------------------------------------

    def ws(self, pattern: str, behavior: Mapping[str, Any] | None = _MISSING, **more: Any) -> App:
        """Take WebSocket connections on `pattern`; settings and handlers as a dict or keywords.

        A pattern is a path whose parts are literal, ":name", or "*" at the end; the most specific
        route wins. TypeError, ValueError: a wrong setting, a wrong pattern, or one taken already.

        Settings and their defaults:

        compression: CompressOptions, a compressor | a decompressor; DISABLED
        max_payload_length: bytes of the largest message; 16 * 1024
        max_backpressure: bytes waiting for a slow client, more is dropped, 0: no limit; 64 * 1024
        close_on_backpressure_limit: close with 1008 instead of dropping a message; False
        close_timeout: seconds for the client to answer a Close; 5
        close_on_error: close with 1011 when a handler raises; True
        subprotocols: names that it speaks, the first of the client's list is selected; ()
        origins: values of Origin that are let in, as browsers send them ("https://example.org"),
            and None for clients that send none; None in place of the list: all; None
        idle_timeout: seconds of silence (no byte received) until the client is dropped with
            "idle timeout", code 1006, 0: never; 120
        ping_interval: seconds of silence until a Ping is sent, and again after each further
            interval, 0: none, None: a third of idle_timeout before its end, at most 16; None
        ping_timeout: seconds of silence after a Ping until the client is dropped with
            "ping timeout", code 1006, 0 or None: only idle_timeout counts; None
        send_pings_automatically: send Pings, False: none, as with ping_interval=0; True
        reset_idle_timeout_on_send: what is sent, and taken by the kernel, ends a silence; False
        max_lifetime: minutes from open until end(1000, "please reconnect"), 0: no end; 0
        max_topics: topics of one connection, beyond it subscribe() returns False; 1000
        max_topic_length: bytes of a topic's name in UTF-8, a longer one: ValueError; 1024
        max_pending_messages: while this many messages, or max_payload_length bytes of them, wait
            for a coroutine handler, the socket is not read; 16

        Handlers, each of them optional, functions or coroutine functions (``async def``):

        upgrade(res, req, socket_context): answer the opening handshake; without it, accept
        open(ws): the connection is there
        message(ws, message, opcode): str with OpCode.TEXT, bytes with OpCode.BINARY
        drain(ws): the queue of a slow client is empty again
        dropped(ws, message, opcode): a message above max_backpressure was not sent
        ping(ws, data): a Ping came; the Pong is sent by itself
        pong(ws, data): a Pong came
        subscription(ws, topic, subscriptions, subscriptions_before): ws has subscribed to a topic,
            unsubscribed, or is closing (before its close event); the topic's subscribers in the
            whole app, now and before
        close(ws, code, reason): the connection is over

        message, drain, dropped, ping, pong and subscription may also be C functions (of ctypes, or
        objects with an `address`, as numba's), which C calls without Python: see
        docs/native_handlers.md.

        Events of one socket run in order, one at a time; those of different sockets do not wait for
        each other. While a coroutine handler of a socket is under way, all later events of that
        socket wait, those of plain functions, too: so ``ws.end()`` returns before a close handler
        that is a coroutine, or that has to wait for one. Messages that wait when this side ends the
        connection are discarded; after a Close of the client they still come. What a coroutine
        sends between two awaits leaves in one write. A handler that gets asyncio.CancelledError,
        but for the end of `run` or `serve`, has failed. RuntimeError: the app runs already, and
        without an asyncio loop.

        All handlers of a socket run in one contextvars.Context, a copy of the one that `run`,
        `serve` or `serving` was called in. What one of them sets is there for the later ones, and
        for no other socket. Where a handler of A ends B, and B's close handler ends A, the close
        handler of A runs in a copy of its context.
        """
        if behavior is _MISSING and not more:
            raise TypeError(
                f"app.ws({pattern!r}) has no handlers: app.ws({pattern!r}, message=on_message), or "
                "a dict with them, {} for none; it is not a decorator"
            )
        checked = Behavior(None if behavior is _MISSING else behavior, more)
        if checked.compression and not lib.ws_compression_available():
            raise RuntimeError(
                f"compression needs zlib, and {lib.path} was built without it "
                "(meson setup -Ddeflate=enabled)"
            )
        path = self._check_pattern(pattern)
        coroutines = [name for name in options.HANDLERS if _is_coroutine(getattr(checked, name))]
        if coroutines:
            self._check_coroutines()
        if coroutines and coroutines != ["upgrade"]:
            from ._core.aio import enqueue

            enqueue(checked)
        route = Route(self, pattern, checked, self._request_handler(checked.upgrade, pattern))
        settings = route.native()
        self._add(route, lambda: calls.add_route(self._server, path, settings))
        return self

    def get(self, pattern: str, handler: Handler) -> App:
        """Answer GET, and HEAD with it, by ``handler(res, req)``. TypeError, ValueError.

        All that runs for one request runs in a contextvars.Context of its own, as with `ws`.
        """
        return self._http("GET", pattern, handler)

    def post(self, pattern: str, handler: Handler) -> App:
        """Answer POST. TypeError, ValueError."""
        return self._http("POST", pattern, handler)

    def put(self, pattern: str, handler: Handler) -> App:
        """Answer PUT. TypeError, ValueError."""
        return self._http("PUT", pattern, handler)

    def patch(self, pattern: str, handler: Handler) -> App:
        """Answer PATCH. TypeError, ValueError."""
        return self._http("PATCH", pattern, handler)

    def delete(self, pattern: str, handler: Handler) -> App:
        """Answer DELETE. TypeError, ValueError."""
        return self._http("DELETE", pattern, handler)

    def options(self, pattern: str, handler: Handler) -> App:
        """Answer OPTIONS. TypeError, ValueError."""
        return self._http("OPTIONS", pattern, handler)

    def head(self, pattern: str, handler: Handler) -> App:
        """Answer HEAD. TypeError, ValueError."""
        return self._http("HEAD", pattern, handler)

    def any(self, pattern: str, handler: Handler) -> App:
        """Answer every method that has no handler of its own. TypeError, ValueError."""
        return self._http("*", pattern, handler)

    def _http(self, method: str, pattern: str, handler: Handler) -> App:
        mistakes.check_handler("handler", handler, mistakes.REQUEST_PARAMETERS)
        path = self._check_pattern(pattern)
        route = Route(self, pattern, Behavior(None, {}), self._request_handler(handler, pattern))
        verb = method.encode()
        self._add(
            route,
            lambda: lib.ws_server_http(
                self._server, verb, path, callbacks.ON_REQUEST, route.number
            ),
        )
        return self

    def _request_handler(self, handler: Handler | None, pattern: str) -> Handler | None:
        """`handler`, or what runs it where it is a coroutine function."""
        if not _is_coroutine(handler):
            return handler
        self._check_coroutines()
        from ._core.aio import Later

        assert handler is not None
        return Later(handler, pattern)

    def _check_coroutines(self) -> None:
        """There are coroutine handlers: `run` needs a loop for them. RuntimeError: too late."""
        if self._running and self._host is None:
            raise RuntimeError("coroutine handlers must be there before run()")
        self._coroutines = True

    def _check_pattern(self, pattern: Any) -> bytes:
        self._check_server()
        path = options.c_string("pattern", pattern)
        mistakes.check_pattern(pattern)
        return path

    def _add(self, route: Route, add: Callable[[], Any]) -> None:
        """Run `add`, and say of which pattern the library does not approve."""
        self._routes.append(route)  # first: from then on C knows its address
        try:
            add()
        except Exception as error:
            self._routes.remove(route)
            if not isinstance(error, ValueError):
                raise
            invalid = lib.ws_strerror(ErrorCode.EINVAL).decode()
            why = _PATTERNS if str(error) == invalid else error
            raise ValueError(f"pattern {route.pattern!r}: {why}") from None
        self._added.append(add)

    # ---- life -----------------------------------------------------------------------------------

    def listen(
        self,
        where: int | AppListenOptions | Mapping[str, Any],
        callback: Callable[[AppListenOptions], Any] | None = None,
    ) -> App:
        """Listen on a port, or where the options say; may be called again for further places.

        where: a port (0: the kernel picks one, see `port`), options, or a dict of them; they are
        never changed. ``callback(options)`` runs at once with a copy of them that has the real
        port; what it raises comes out here, and nothing listens there then. OSError with errno: the
        place cannot be had, and nothing of it stays open. TypeError, ValueError: wrong options.
        """
        place = AppListenOptions.of(where)
        if callback is not None:
            mistakes.check_arity("callback", options.function("callback", callback), ("place",))
        self._leave_closed_loop()
        self._check_server()
        try:
            place.port = self._listen(place)
        except OSError as error:
            why = _refusal(place, error)
            raise OSError(error.errno, f"cannot listen on {place}: {why}") from None
        self._places.append(place)
        server_logger.info("listening on %s", place)
        before, self._finished, self._has_run = self._finished, False, self._running
        if callback is not None:
            others = len(self._places) - 1
            try:
                result = callback(AppListenOptions.of(place))
                mistakes.check_result("the callback of listen", callback, result)
            except BaseException:
                self._unlisten(others)
                self._finished = before
                raise
        return self

    def _unlisten(self, others: int) -> None:
        """Listen at so many of the places only; they may be gone already."""
        for place in self._places[others:]:
            server_logger.info("no longer listening on %s", place)
            if self._server:
                lib.ws_server_unlisten(self._server)
        del self._places[others:]

    def _listen(self, place: AppListenOptions) -> int:
        """Take a place; the port. A descriptor stays the caller's, C gets a duplicate."""
        settings = place.native()
        if place.fd is None:
            return calls.listen(self._server, settings)
        settings["fd"] = os.dup(place.fd)
        try:
            return calls.listen(self._server, settings)
        except BaseException:
            os.close(settings["fd"])
            raise

    @property
    def port(self) -> int:
        """The port of the first TCP place that `listen` took; 0 while there is none.

        It is 0 again once `run` has returned. Any thread may read it.
        """
        return next((place.port for place in self._places[:] if place.port), 0)

    def run(self, workers: int = 1) -> None:
        """Serve until `close`, SIGINT or SIGTERM; then every connection has ended.

        In the main thread the first SIGINT or SIGTERM shuts down gracefully; a SIGINT after that
        drops everything and raises KeyboardInterrupt. What handlers raise beyond Exception
        (KeyboardInterrupt, SystemExit) shuts down, too, and comes out here. With coroutine handlers
        this is an asyncio loop of its own (``asyncio.run``); those that are not done when the
        timeout of `close` is over are cancelled. Without coroutine handlers it is a loop of
        pyws's own, in whose thread asyncio.get_event_loop() raises RuntimeError, as it does after
        ``asyncio.run``: what such a loop was given would never run. RuntimeError: it runs already,
        listens nowhere, or an asyncio loop runs in this thread. OSError: the loop failed.

        workers: so many processes share the places of `listen`, each with this program's handlers
        and with connections, topics and counters of its own; one that ends is replaced. This
        process serves nobody itself: it starts them (os.fork), watches them, and ends when they
        have ended. What was deferred or put off before runs in each worker. RuntimeError: other
        threads are alive, or an asyncio loop runs here. TypeError, ValueError: not 1 to 1024.
        """
        if options.integer("workers", workers, 1, 1024) > 1:
            from ._core.workers import supervise

            supervise(self, workers)
            return
        self._check_idle()
        mistakes.refuse_running_loop()
        if self._coroutines:
            from ._core import aio

            aio.run(self)
            return
        self._begin(None)
        result = 0
        try:
            with mistakes.no_event_loop(logger.warning):
                result = self._loop()
        finally:
            self._finish()
        self._raise_stashed()
        if result < 0:
            self._check_process()  # a forked child has come back from a handler
            fail(result)

    async def serve(
        self,
        where: int | AppListenOptions | Mapping[str, Any] | None = None,
        *,
        signals: bool = False,
    ) -> None:
        """Serve as `run` does, in the asyncio loop that is running.

        Cancelled, it shuts down gracefully within 5 seconds, then raises CancelledError. Cancelled
        again, it drops all connections. A further cancellation that follows in the same turns of
        the loop, as from a cancel scope of anyio, does not count as another one.

        Args:
            where: As for `listen`; None where the app listens already.
            signals: Handle SIGINT and SIGTERM as `run` does, and restore their handlers at the
                end. A signal is for all apps of the loop that say so. Without it they are the
                program's own, and a SIGTERM that the program does not handle ends the process
                without a Close to anyone. Works in the main thread alone; elsewhere it does
                nothing.

        Raises:
            RuntimeError: The app runs already, or listens nowhere.
            OSError, TypeError, ValueError: As `listen`.
            KeyboardInterrupt: With `signals`, after a second SIGINT.
        """
        from ._core import aio

        await aio.serve(self, where, signals)

    def serving(
        self, where: int | AppListenOptions | Mapping[str, Any] | None = None
    ) -> AsyncContextManager[App]:
        """``async with app.serving(port):`` serves during the block, as `serve` does.

        It shuts down at the end of the block, which waits for that. Signals are the program's
        own: no signal ends the block. Errors as for `serve`.
        """
        self._check_idle()
        from ._core import aio

        return aio.serving(self, where)

    def _leave_closed_loop(self) -> None:
        """Where the asyncio loop that it ran in was closed under it: end here what goes on.

        The connections are dropped; their close handlers run, except those that are coroutines.
        """
        host = self._host
        if host is None or self._inert or not host.is_lost():
            return
        self._host = None
        self._own(thread_ident())
        host.leave()
        logger.error(
            "the asyncio loop was closed while the app ran in it, all connections are dropped: "
            "cancel serve(), or call app.close(), and wait for its end before"
        )
        lib.ws_server_shutdown(self._server, GOING_AWAY[0], None, 0, 0)
        lib.ws_server_run(self._server)
        self._finish()

    def _check_idle(self) -> None:
        self._leave_closed_loop()
        self._check_process()
        if self._running:
            raise RuntimeError("the app is already running: by run(), serve() or serving()")
        self._check_alive()

    def _begin(self, host: Host | None, listens: bool = True) -> None:
        """From now on this thread runs the app. RuntimeError: something does so already.

        listens: it must do so already.
        """
        with self._lock:
            self._check_idle()
            if listens and not self._places:
                raise RuntimeError(
                    "the app listens nowhere: call app.listen(port), or pass a port to serve()"
                )
            self._running, self._finished, self._has_run = True, False, True
            self._own(thread_ident())
        self._host = host
        self._context = copy_context()
        self._watch_traffic()
        server_logger.info("serving")

    def _watch_traffic(self) -> None:
        """Find out whether anybody wants log lines of connections; otherwise they cost nothing."""
        traffic = Traffic(self.app_options.access_log)
        self._traffic = traffic if traffic else None
        function = callbacks.ON_RESPONSE if traffic else None
        calls.set_on_response(self._server, function, self._number)

    def _raise_stashed(self) -> None:
        stashed, self._stashed = self._stashed, None
        if stashed is not None:
            raise stashed

    def _loop(self) -> int:
        """Turns until the server has shut down; the result of ws_server_run."""
        signals = Signals(self)
        with signals:
            while True:
                try:
                    signals.act()
                    result: int = lib.ws_server_run(self._server)
                    if result <= 0:
                        return result
                except BaseException as error:  # from a signal handler of the program's
                    self._stash(error)

    def _finish(self) -> None:
        """Refuse further defers, run the accepted ones, give the app back to its thread."""
        with self._lock:
            self._finished = True
        while self._deferred:
            self._run_deferred(len(self._deferred))
        self._timers.clear()
        self._host = None
        self._places.clear()
        with self._lock:
            self._running = False
            self._own(0 if self._inert else self._creator)
        if not self._inert:
            server_logger.info("stopped serving")

    def close(self, code: int = 1001, reason: str = GOING_AWAY[1], timeout: float = 5.0) -> None:
        """Shut down: no new connections, a Close to every open one, then `run` returns.

        timeout: seconds until what has not ended is dropped. TypeError, ValueError.
        """
        number, data = options.shutdown_arguments(code, reason)
        limit = options.milliseconds(options.seconds("timeout", timeout))
        if self._crew is not None:  # called by a signal handler of the parent's
            self._crew.stop(limit / 1000)
            return
        self._leave_closed_loop()
        self._check_server()
        self._shutdown(number, data, limit)

    def _shutdown(self, code: int, reason: bytes, limit: int) -> None:
        """limit: milliseconds."""
        lib.ws_server_shutdown(self._server, code, reason, len(reason), limit)
        if self._host is not None:
            self._host.stop_within(limit / 1000)

    def _free(self) -> None:
        if self._inert:
            return
        with self._lock:  # defer must not touch the server any more
            self._finished = True
            server, self._server = self._server, 0
        self._timers.clear()
        if server:
            lib.ws_server_free(server)
        while self._deferred:
            self._run_deferred(len(self._deferred))
        if self._places and not self._has_run:
            places, self._places = ", ".join(str(place) for place in self._places), []
            message = f"an app listened on {places} and was never run: app.run() is missing"
            warnings.warn(message, ResourceWarning, stacklevel=3, source=self)

    def _own(self, thread: int) -> None:
        """From now on calls belong to this thread."""
        self._owner = thread
        if self._bridge is not None:
            self._bridge.owner = thread

    def _check_thread(self) -> None:
        """RuntimeError in a thread that is not the owner."""
        if thread_ident() != self._owner:
            self._check_process()
            raise RuntimeError(
                "this call belongs to the thread of app.run(); "
                "from another thread use app.defer(fn, *args)"
            )

    def _check_server(self) -> None:
        self._check_thread()
        self._check_alive()

    def _check_process(self) -> None:
        """RuntimeError in a process that is not to use the app."""
        if self._inert:
            raise RuntimeError(self._inert)

    def _check_alive(self) -> None:
        if not self._server:
            raise RuntimeError("this app is over: its server has been freed")

    # ---- topics ---------------------------------------------------------------------------------

    def publish(
        self, topic: str, message: Any, opcode: int | None = None, compress: bool = False
    ) -> bool:
        """Send one message to every subscriber of `topic`; True when at least one gets it.

        message, opcode and compress: as for `WebSocket.send`, TEXT and BINARY only. A subscriber
        whose queue is full (max_backpressure) drops it, the others get it. Subscribers are those of
        this process, not of other workers. TypeError, ValueError.
        """
        name = options.topic(topic)
        data, number = pack_publication(message, opcode, compress)
        self._check_server()
        return bool(lib.ws_server_publish(self._server, name, len(name), data, len(data), number))

    def num_subscribers(self, topic: str) -> int:
        """How many connections of this app, in this process, have subscribed to `topic`.

        TypeError, ValueError.
        """
        name = options.topic(topic)
        self._check_server()
        return int(lib.ws_server_subscribers(self._server, name, len(name)))

    # ---- work -----------------------------------------------------------------------------------

    def call_later(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Timer:
        """Run ``fn(*args)`` once, after `seconds`, in the thread of `run`; ``cancel()`` the result.

        It runs in a copy of the contextvars.Context of this call. Calls that are due at the same
        time run in the order in which they were made. What is not due when `run` returns never
        runs; what is put off afterwards belongs to the next `run`. An exception is reported as that
        of a handler. TypeError, ValueError.
        """
        delay = options.seconds("seconds", seconds)
        options.function("fn", fn)
        self._leave_closed_loop()
        self._check_server()
        return self._timers.add(math.ceil(delay * 1_000_000_000), fn, args)

    def defer(self, fn: Callable[..., Any], *args: Any) -> None:
        """Run ``fn(*args)`` in the thread of `run`, soon, in order; callable from any thread.

        As with asyncio it runs in a copy of the contextvars.Context of this call.
        What is accepted runs before `run` returns. RuntimeError: it has returned.
        """
        options.function("fn", fn)
        with self._lock:
            if self._finished:
                raise RuntimeError(self._inert or "run() has returned, nothing can be deferred")
            self._postpone(fn, *args)

    def _postpone(self, fn: Callable[..., Any], *args: Any) -> None:
        """As `defer`, also while everything ends: `_finish` and `_free` run what is left."""
        with self._lock:
            self._deferred.append((copy_context(), fn, args))
            if self._wakes or not self._server:
                return
            result = lib.ws_server_defer(self._server, callbacks.ON_DEFERRED, self._number)
            # WS_ESTOPPED: the shutdown is over, run() will do it before it returns.
            self._wakes = result == 0
            if result < 0 and result != ErrorCode.ESTOPPED:
                self._deferred.pop()
                fail(result)

    def _run_deferred(self, number: int) -> None:
        """Run the next `number` deferred calls; those that they defer come later."""
        for _ in range(number):
            context, fn, args = self._deferred.popleft()
            try:
                mistakes.check_result("a deferred function", fn, context.run(fn, *args))
            except BaseException as error:
                self._handler_failed("a deferred function", error, None, fn, context)

    def on_error(self, handler: Callable[[BaseException, Any], Any]) -> App:
        """Call ``handler(error, source)`` for every exception of a handler, after it was logged.

        source: the WebSocket or the Response that it was about, None for a function of `defer` or
        `call_later`.
        """
        self._check_thread()
        mistakes.check_arity("handler", options.function("handler", handler), ("error", "source"))
        self._error_handler = handler
        return self

    def stats(self) -> dict[str, int]:
        """Counters: accepted, opened, closed, refused, turns, blocked; now: memory and
        compression_memory, a part of it (bytes), connections, open. All are of this process."""
        self._check_server()
        return calls.stats(self._server)

    # ---- failures -------------------------------------------------------------------------------

    def _handler_failed(
        self,
        what: str,
        error: BaseException,
        source: WebSocket | Response | None,
        handler: Any,
        context: Context,
    ) -> None:
        """Report in its context what a handler raised; beyond Exception, keep it and shut down."""
        if not isinstance(error, Exception):
            self._stash(error)
            return
        facts = {} if source is None else source._facts()
        log = partial(log_failure, what, error, handler, facts)
        run_in(context, self._report, "logging", log)
        if self._error_handler is not None:
            hook = partial(_run_hook, self._error_handler, error, source)
            run_in(context, self._report, "the error handler", hook)

    def _report(self, what: str, report: Callable[[], Any]) -> None:
        """Run a part of `_handler_failed` that is itself the program's code, and may fail."""
        try:
            report()
        except Exception as error:
            try:
                logger.error("exception in %s", what, exc_info=error)
            except Exception:
                callbacks.complain(error)
        except BaseException as error:
            self._stash(error)

    def _stash(self, error: BaseException) -> None:
        """Keep the first such exception for `run`, and shut down."""
        if self._stashed is None:
            self._stashed = error
        if self._server and not self._finished:
            self._shutdown(GOING_AWAY[0], GOING_AWAY[1].encode(), 5000)

    def _socket_failed(self, ws: WebSocket, event: str, error: BaseException) -> None:
        handler = getattr(ws._route.behavior, event)
        self._handler_failed(f"the {event} handler", error, ws, handler, ws._context)
        if ws._route.behavior.close_on_error and not self._inert:
            ws.end(1011, f"the {event} handler failed")

    def _release(self, response: Response) -> None:
        """A request is over."""
        callbacks.responses.pop(response._ptr, None)
        response._over()

    # ---- other processes ------------------------------------------------------------------------

    def _rest(self, why: str) -> None:
        """From now on nothing of it works in this process, and nothing of it runs here."""
        self._inert = why
        self._finished = True
        self._own(0)

    def _abandon(self) -> None:
        """This is the child of a fork: let go of the server, which is the parent's."""
        if not self._server or (self._inert and self._crew is None):
            return
        busy = self._running and self._crew is None  # the child may be inside a call of C
        if self._crew is not None:
            self._crew.let_go()
        self._crew, self._lock = None, threading.RLock()  # another thread may have held it
        self._rest(fork.FORKED)
        self._deferred, self._timers = deque(), Timers(self, callbacks.ON_ALARM)
        epoll_fd = lib.ws_server_fd(self._server)
        fork.let_go([*fork.watched(epoll_fd), epoll_fd], busy)
        if self._host is not None:
            fork.let_go(self._host.forget(), True)

    def _renew(self, deferred: deque[Deferred], timers: Timers, listeners: list[int]) -> None:
        """This is a worker: have a server of its own, with what was there before the fork."""
        self._inert, self._finished, self._running = "", False, False
        self._is_worker = True
        self._creator = thread_ident()
        self._own(self._creator)
        self._wakes, self._nested, self._stashed = False, 0, None
        self._server = calls.new_server(callbacks.LOG, self._bridge, self.app_options.native())
        for add in self._added:
            add()
        for fd in listeners:
            calls.listen(self._server, {"fd": fd})
        self._timers, timers._set_to = timers, 0
        timers._set()
        for context, fn, args in deferred:
            context.run(self._postpone, fn, *args)


def _run_hook(hook: Handler, error: BaseException, source: Any) -> None:
    mistakes.check_result("the error handler", hook, hook(error, source))


_NO_LISTENER = {
    errno.EBADF: "it is not open",
    errno.ENOTSOCK: "it is not a socket",
    errno.ESOCKTNOSUPPORT: "it is not a stream socket",
    errno.EISCONN: "it is a connection, not a listening socket",
    errno.EDESTADDRREQ: "it is not bound to an address",
}


def _refusal(place: AppListenOptions, error: OSError) -> str | None:
    """Why it is not possible to listen there."""
    if place.fd is not None:
        return _NO_LISTENER.get(error.errno or 0, error.strerror)
    if error.errno == errno.ENOENT and not place.path:  # the resolver's word for it
        return "unknown host"
    return error.strerror


def _is_coroutine(handler: Handler | None) -> bool:
    return handler is not None and options.is_coroutine_handler(handler)


# ---- the end ------------------------------------------------------------------------------------


def _free_all() -> None:
    """At exit, while callbacks still work. A server in the midst of `run` is left alone."""
    for app in list(callbacks.apps.values()):
        app._leave_closed_loop()
        if not app._running:
            app._free()


atexit.register(_free_all)
