"""The server: routes, listening, running, topics, deferred calls."""

from __future__ import annotations

import errno
import math
import os
import sys
from functools import partial
from types import TracebackType
from typing import Any, AsyncContextManager, Callable, Mapping, NoReturn

from ._core import callbacks, calls, fork, mistakes, values
from ._core.logs import logger, server_logger
from ._core.messages import pack_publication
from ._core.routes import Route
from ._core.runtime import SHUTDOWN_REASON, Runtime, State
from ._core.settings import Behavior
from ._core.signals import Signals
from ._core.timers import Timer
from ._core.values import Handler
from ._native import fail, lib
from .errors import ErrorCode
from .options import AppListenOptions, AppOptions

__all__ = ["App"]

_PATTERNS = (
    'must be a path like "/chat/:room" or "/files/*" whose parts are literal, ":name" (each name '
    'once), or "*" (only the last part)'
)

_MISSING: Any = values.LeftOut()  # an argument that was left out


class App:
    """A WebSocket and HTTP server.

    Its methods belong to one thread: the one in `run`, `serve` or `serving`, or while nothing runs
    the one that made it. Only `defer` may be called from any thread; the others raise RuntimeError
    there.
    """

    def __init__(
        self, options: AppOptions | Mapping[str, Any] | None = None, **none: NoReturn
    ) -> None:
        """Make a server, which does not listen yet.

        Args:
            options: AppOptions, or a dict of them: ``App(AppOptions(max_connections=1000))``.
            none: There are no further arguments.

        Raises:
            TypeError, ValueError: A setting is wrong.
            MemoryError, OSError: There is no memory or descriptor for a server.
        """
        for name in AppOptions.known(none):
            raise TypeError(f"App() has no {name!r}, did you mean App(AppOptions({name}=...))?")
        self.app_options = AppOptions.of(options)
        self._routes: list[Route] = []
        self._registrations: list[Callable[[], Any]] = []  # adds them to a server
        self._has_coroutines = False  # are among the handlers
        self._runtime = Runtime(self.app_options, callbacks.new_bridge(), callbacks.ON_RESPONSE)

    __reduce_ex__ = values.no_copy

    def __enter__(self) -> App:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
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
        runtime: Runtime | None = getattr(self, "_runtime", None)
        if runtime is not None and not sys.is_finalizing():  # C could call into nothing
            runtime.free()

    # ---- routes ---------------------------------------------------------------------------------

    def ws(self, pattern: str, behavior: Mapping[str, Any] | None = _MISSING, **more: Any) -> App:
        """Accept WebSocket connections on a path.

        Args:
            pattern: A path whose parts are literal, ":name", or "*" at the end; the most specific
                route wins.
            behavior: Settings and handlers as a dict, see below.
            more: Settings and handlers as keywords, which win.

        Returns:
            The app itself.

        Raises:
            TypeError, ValueError: A setting, a handler or the pattern is wrong, or the pattern is
                taken.
            RuntimeError: Compression needs zlib; coroutine handlers come after `run` began without
                an asyncio loop; or called from another thread.

        Settings and their defaults:

        compression: The compressor and the decompressor of permessage-deflate, joined by |.
            Default: DISABLED.
        max_payload_length: The longest message that is accepted; a longer one ends the connection
            with 1009. Default: 16 KiB.
        max_backpressure: What may wait for a slow client; messages beyond it are dropped. 0 means
            no limit. Default: 64 KiB.
        close_on_backpressure_limit: Close with 1008 instead of dropping a message. Default: False.
        close_timeout: How long the client may take to answer a Close frame. Default: 5 seconds.
        close_on_error: Close with 1011 when a handler raises. Default: True.
        subprotocols: The subprotocols that the route speaks; the first one of the client's list is
            selected. Default: ().
        origins: The values of Origin that are accepted, as browsers send them
            ("https://example.org"); None in the list stands for clients that send none. None
            instead of a list accepts all. Default: None.
        idle_timeout: How long no byte may arrive before the connection is dropped with 1006, "idle
            timeout". 0 means forever. Default: 120 seconds.
        ping_interval: How long no byte may arrive before a Ping is sent, and another one after each
            further interval. 0 sends none. None means idle_timeout less a third of it, at most 16
            seconds less. Default: None.
        ping_timeout: How long no byte may arrive after a Ping before the connection is dropped with
            1006, "ping timeout". 0 or None leaves that to idle_timeout. Default: None.
        send_pings_automatically: Send Pings; False is the same as ping_interval=0. Default: True.
        reset_idle_timeout_on_send: Data that the kernel takes counts as activity, too. Default:
            False.
        max_lifetime: How long a connection may live before it is closed with 1000, "please
            reconnect". 0 means forever. Default: 0 minutes.
        max_topics: Topics of one connection; beyond it, subscribe() returns False. Default: 1000
            topics.
        max_topic_length: The longest name of a topic in UTF-8; a longer one raises ValueError.
            Default: 1 KiB.
        max_pending_messages: While this many messages, or max_payload_length bytes of them, wait
            for a coroutine handler, the socket is not read. Default: 16 messages.

        Handlers, each of them optional, functions or coroutine functions (``async def``):

        upgrade(res, req, socket_context): Answer the opening handshake; without it, it is accepted.
        open(ws): The connection is open.
        message(ws, message, opcode): A str with OpCode.TEXT, bytes with OpCode.BINARY.
        drain(ws): The queue of a slow client is empty again.
        dropped(ws, message, opcode): A message was not sent because of max_backpressure.
        ping(ws, data): A Ping came; pyws answers it by itself.
        pong(ws, data): A Pong came.
        subscription(ws, topic, subscriptions, subscriptions_before): ws has subscribed to a topic
            or unsubscribed, or it is closing (then this comes before its close event). The numbers
            are the subscribers that the topic has in the app, now and before.
        close(ws, code, reason): The connection has ended.

        message, drain, dropped, ping, pong and subscription may also be C functions (of ctypes, or
        objects with an `address` like those of numba), which C calls without Python: see
        docs/native_handlers.md.

        Events of one socket run in order, one at a time; those of different sockets do not wait for
        each other. While a coroutine handler of a socket runs, all later events of that socket
        wait, even those of plain functions: so ``ws.end()`` returns before a close handler that is
        a coroutine, or that has to wait for one. When this side ends the connection, messages that
        wait are discarded; after a Close frame of the client they are still handled. What a
        coroutine sends between two awaits leaves in one write. A handler that gets
        asyncio.CancelledError has failed, unless `run` or `serve` ends.

        All handlers of a socket run in one contextvars.Context, a copy of the one that `run`,
        `serve` or `serving` was called in. What one of them sets is there for the later ones, and
        for no other socket. If a handler of A ends B, and the close handler of B ends A, the close
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
        coroutines = [name for name in values.HANDLERS if _is_coroutine(getattr(checked, name))]
        if coroutines:
            self._check_coroutines(coroutines[0], pattern)
        if coroutines and coroutines != ["upgrade"]:
            from ._core.aio import wrap_handlers

            wrap_handlers(checked)
        runtime, handler = self._runtime, self._request_handler("upgrade", checked.upgrade, pattern)
        route = Route(runtime, pattern, checked, handler, callbacks.ON_CLOSED)
        fields = callbacks.c_fields(route)
        self._add(route, lambda: calls.add_route(runtime.server, path, fields))
        return self

    def get(self, pattern: str, handler: Handler) -> App:
        """Answer GET, and HEAD with it.

        Everything that runs for one request runs in a contextvars.Context of its own, as with `ws`.

        Args:
            pattern: A path, as for `ws`.
            handler: ``handler(res, req)`` is called for each request, and answers with a method of
                `res`; it may be a coroutine function.

        Returns:
            The app itself.

        Raises:
            TypeError, ValueError: The handler is wrong, or the pattern is wrong or taken.
            RuntimeError: As for `ws`.
        """
        return self._http("GET", pattern, handler)

    def post(self, pattern: str, handler: Handler) -> App:
        """Answer POST; arguments, result and errors as for `get`."""
        return self._http("POST", pattern, handler)

    def put(self, pattern: str, handler: Handler) -> App:
        """Answer PUT; arguments, result and errors as for `get`."""
        return self._http("PUT", pattern, handler)

    def patch(self, pattern: str, handler: Handler) -> App:
        """Answer PATCH; arguments, result and errors as for `get`."""
        return self._http("PATCH", pattern, handler)

    def delete(self, pattern: str, handler: Handler) -> App:
        """Answer DELETE; arguments, result and errors as for `get`."""
        return self._http("DELETE", pattern, handler)

    def options(self, pattern: str, handler: Handler) -> App:
        """Answer OPTIONS; arguments, result and errors as for `get`."""
        return self._http("OPTIONS", pattern, handler)

    def head(self, pattern: str, handler: Handler) -> App:
        """Answer HEAD; arguments, result and errors as for `get`."""
        return self._http("HEAD", pattern, handler)

    def any(self, pattern: str, handler: Handler) -> App:
        """Answer all methods without a handler of their own; arguments as for `get`."""
        return self._http("*", pattern, handler)

    def _http(self, method: str, pattern: str, handler: Handler) -> App:
        mistakes.check_handler("handler", handler, mistakes.REQUEST_PARAMETERS)
        path = self._check_pattern(pattern)
        runtime, handler_ = self._runtime, self._request_handler("handler", handler, pattern)
        route = Route(runtime, pattern, Behavior(None, {}), handler_, callbacks.ON_CLOSED)
        verb, on_request = method.encode(), callbacks.ON_REQUEST
        self._add(
            route,
            lambda: lib.ws_server_http(runtime.server, verb, path, on_request, route.key),
        )
        return self

    def _request_handler(self, name: str, handler: Handler | None, pattern: str) -> Handler | None:
        """`handler`, or what runs it if it is a coroutine function."""
        if not _is_coroutine(handler):
            return handler
        self._check_coroutines(name, pattern)
        from ._core.aio import Later

        assert handler is not None
        return Later(handler, pattern)

    def _check_coroutines(self, name: str, pattern: str) -> None:
        """Note that `run` needs a loop for coroutines. Raises RuntimeError if that is too late.

        Args:
            name: The name of a handler that is a coroutine function, for error messages.
            pattern: The path that it is for.
        """
        if self._runtime.is_busy and self._runtime.host is None:
            raise RuntimeError(
                f"{name} of {pattern!r} is a coroutine function, but run() already runs without "
                "asyncio: add it before run()"
            )
        self._has_coroutines = True

    def _check_pattern(self, pattern: Any) -> bytes:
        self._runtime.check_server()
        path = values.c_string("pattern", pattern)
        mistakes.check_pattern(pattern)
        return path

    def _add(self, route: Route, add: Callable[[], Any]) -> None:
        """Run `add`; its errors name the pattern that the library refuses."""
        self._routes.append(route)  # first: once it is added, C knows its address
        try:
            add()
        except Exception as error:
            self._routes.remove(route)
            if not isinstance(error, ValueError):
                raise
            invalid = lib.ws_strerror(ErrorCode.EINVAL).decode()
            why = _PATTERNS if str(error) == invalid else error
            raise ValueError(f"pattern {route.pattern!r}: {why}") from None
        self._registrations.append(add)

    # ---- life -----------------------------------------------------------------------------------

    def listen(
        self,
        where: int | AppListenOptions | Mapping[str, Any],
        callback: Callable[[AppListenOptions], Any] | None = None,
    ) -> App:
        """Listen on a port, or where the options say; may be called again for further addresses.

        Args:
            where: A port (0 lets the kernel choose one, see `port`), options, or a dict of them.
                They are never changed.
            callback: ``callback(options)`` runs at once, with a copy of the options that has the
                real port. If it raises, the exception propagates, and nothing listens there.

        Returns:
            The app itself.

        Raises:
            OSError: It is not possible to listen there, `errno` says why. Nothing of it stays open.
            TypeError, ValueError: The options are wrong.
            RuntimeError: Called from another thread.
        """
        address = AppListenOptions.of(where)
        if callback is not None:
            mistakes.check_arity("callback", values.function("callback", callback), ("options",))
        runtime = self._runtime
        runtime.leave_closed_loop()
        runtime.check_server()
        try:
            address.port = self._listen(address)
        except OSError as error:
            why = _refusal(address, error)
            raise OSError(error.errno, f"cannot listen on {address}: {why}") from None
        runtime.addresses.append(address)
        server_logger.info("listening on %s", address)
        before = runtime.state
        if before is State.STOPPED:  # it may run again
            runtime.set_state(State.IDLE)
        if callback is not None:
            others = len(runtime.addresses) - 1
            try:
                result = callback(AppListenOptions.of(address))
                mistakes.check_result("the callback of listen", callback, result)
            except BaseException:
                self._unlisten(others)
                if before is State.STOPPED and runtime.state is State.IDLE:
                    runtime.set_state(before)
                raise
        return self

    def _unlisten(self, others: int) -> None:
        """Keep the first so many addresses; the callback may have removed them already."""
        runtime = self._runtime
        for address in runtime.addresses[others:]:
            server_logger.info("no longer listening on %s", address)
            if runtime.server:
                lib.ws_server_unlisten(runtime.server)
        del runtime.addresses[others:]

    def _listen(self, address: AppListenOptions) -> int:
        """Listen; returns the port. A descriptor stays the caller's, C gets a duplicate."""
        fields = address.c_fields()
        if address.fd is None:
            return calls.listen(self._runtime.server, fields)
        fields["fd"] = os.dup(address.fd)
        try:
            return calls.listen(self._runtime.server, fields)
        except BaseException:
            os.close(fields["fd"])
            raise

    @property
    def port(self) -> int:
        """The first TCP port that `listen` has bound; 0 without one, or once `run` has returned.

        Any thread may read it.
        """
        return next((address.port for address in self._runtime.addresses[:] if address.port), 0)

    def run(self, workers: int = 1) -> None:
        """Serve until `close`, SIGINT or SIGTERM; then every connection has ended.

        In the main thread the first SIGINT or SIGTERM shuts down gracefully; a SIGINT after that
        drops everything and raises KeyboardInterrupt. An exception of a handler that is no
        Exception (KeyboardInterrupt, SystemExit) shuts down, too, and is raised here.

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
                thread; with workers, also if other threads are alive.
            OSError: The loop failed.
            TypeError, ValueError: `workers` is wrong.
        """
        if values.integer("workers", workers, 1, 1024) > 1:
            from ._core.workers import supervise

            supervise(self._runtime, workers, self._add_all, self.run)
            return
        runtime = self._runtime
        runtime.check_idle()
        mistakes.refuse_running_loop()
        if self._has_coroutines:
            from ._core import aio

            aio.run(runtime)
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

    def _add_all(self) -> None:
        """This is a worker, with a new server: add all routes to it."""
        for add in self._registrations:
            add()

    def _loop(self) -> int:
        """Run turns until the server has shut down; returns the result of ws_server_run."""
        runtime = self._runtime
        signals = Signals(runtime)
        with signals:
            while True:
                try:
                    signals.act()
                    result: int = lib.ws_server_run(runtime.server)
                    if result <= 0:
                        return result
                except BaseException as error:  # from a signal handler of the program
                    runtime.stash(error)

    async def serve(
        self,
        where: int | AppListenOptions | Mapping[str, Any] | None = None,
        *,
        signals: bool = False,
    ) -> None:
        """Serve as `run` does, in the asyncio loop that is running.

        When cancelled, it shuts down gracefully within 5 seconds, then raises CancelledError. When
        cancelled again, it drops all connections. A further cancellation in the same turns of the
        loop, as by a cancel scope of anyio, does not count as another one.

        Args:
            where: As for `listen`; None if the app listens already.
            signals: Handle SIGINT and SIGTERM as `run` does, and restore their handlers at the
                end. A signal is for all apps of the loop that say so. Otherwise signals are the
                program's own, and a SIGTERM that the program does not handle ends the process
                without a Close frame to anyone. It has no effect outside the main thread.

        Raises:
            RuntimeError: The app runs already, or listens nowhere.
            OSError, TypeError, ValueError: As for `listen`.
            KeyboardInterrupt: With `signals`, after a second SIGINT.
        """
        from ._core import aio

        await aio.serve(self._runtime, self._listener(where), signals)

    def serving(
        self, where: int | AppListenOptions | Mapping[str, Any] | None = None
    ) -> AsyncContextManager[App]:
        """Serve during a block, as `serve` does: ``async with app.serving(port):``.

        At the end of the block it shuts down, and waits for that. Signals are the program's own: no
        signal ends the block.

        Args:
            where: As for `serve`.

        Returns:
            A context manager that gives the app.

        Raises:
            RuntimeError, OSError, TypeError, ValueError: As for `serve`.
        """
        self._runtime.check_idle()
        from ._core import aio

        return aio.serving(self._runtime, self._listener(where), self)

    def _listener(
        self, where: int | AppListenOptions | Mapping[str, Any] | None
    ) -> Callable[[], Any] | None:
        return None if where is None else partial(self.listen, where)

    def close(self, code: int = 1001, reason: str = SHUTDOWN_REASON, timeout: float = 5.0) -> None:
        """Shut down: no new connections, a Close frame to every open one, then `run` returns.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 section 7.4).
            reason: The reason in the Close frames.
            timeout: Seconds until what has not ended is dropped.

        Raises:
            TypeError, ValueError: An argument is wrong.
            RuntimeError: Called from another thread.
        """
        status, data = values.shutdown_arguments(code, reason)
        limit = values.milliseconds(values.duration("timeout", timeout))
        self._runtime.close(status, data, limit)

    # ---- topics ---------------------------------------------------------------------------------

    def publish(
        self, topic: str, message: Any, opcode: int | None = None, compress: bool = False
    ) -> bool:
        """Send one message to every subscriber of `topic` in this process.

        A subscriber whose queue is full (max_backpressure) does not get it.

        Args:
            topic: Any str.
            message, opcode, compress: As for `WebSocket.send`; TEXT and BINARY only.

        Returns:
            True if at least one subscriber gets it.

        Raises:
            TypeError, ValueError: An argument is wrong. Nothing was sent.
            RuntimeError: Called from another thread.
        """
        name = values.topic(topic)
        data, code = pack_publication(message, opcode, compress)
        runtime = self._runtime
        runtime.check_server()
        return bool(lib.ws_server_publish(runtime.server, name, len(name), data, len(data), code))

    def num_subscribers(self, topic: str) -> int:
        """How many connections of this app, in this process, have subscribed to `topic`.

        Args:
            topic: Any str.

        Raises:
            TypeError, ValueError: The topic is wrong.
            RuntimeError: Called from another thread.
        """
        name = values.topic(topic)
        self._runtime.check_server()
        return int(lib.ws_server_subscribers(self._runtime.server, name, len(name)))

    # ---- work -----------------------------------------------------------------------------------

    def call_later(self, seconds: float, fn: Callable[..., Any], *args: Any) -> Timer:
        """Run ``fn(*args)`` once, after a time, in the thread of `run`.

        It runs in a copy of the contextvars.Context of this call. Calls that are due at the same
        time run in the order in which they were made. What is not due when `run` returns never
        runs; what is delayed afterwards belongs to the next `run`. An exception is reported like
        that of a handler.

        Args:
            seconds: The time, at least 0.
            fn: A plain function.
            args: Its arguments.

        Returns:
            The call; its ``cancel()`` prevents it.

        Raises:
            TypeError, ValueError: An argument is wrong.
            RuntimeError: Called from another thread.
        """
        delay = values.duration("seconds", seconds)
        values.function("fn", fn)
        self._runtime.leave_closed_loop()
        self._runtime.check_server()
        return self._runtime.timers.add(math.ceil(delay * 1_000_000_000), fn, args)

    def defer(self, fn: Callable[..., Any], *args: Any) -> None:
        """Run ``fn(*args)`` in the thread of `run`, soon; may be called from any thread.

        Calls run in the order in which they were made, each in a copy of the contextvars.Context of
        its call, as with asyncio. What is accepted runs before `run` returns.

        Args:
            fn: A plain function.
            args: Its arguments.

        Raises:
            TypeError: `fn` is not a plain function.
            RuntimeError: `run` has returned.
        """
        values.function("fn", fn)
        self._runtime.defer(fn, *args)

    def on_error(self, handler: Callable[[BaseException, Any], Any]) -> App:
        """Call ``handler(error, source)`` for every exception of a handler, after it was logged.

        Args:
            handler: A plain function. Its `source` is the WebSocket or the Response that the
                exception was about; None for a function of `defer` or `call_later`.

        Returns:
            The app itself.

        Raises:
            TypeError: `handler` is not a plain function of two arguments.
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        mistakes.check_arity("handler", values.function("handler", handler), ("error", "source"))
        self._runtime.error_handler = handler
        return self

    def stats(self) -> dict[str, int]:
        """Numbers about this process.

        Returns:
            Counters since the start: accepted, opened, closed, refused, turns, blocked. Now: memory
            and its part compression_memory (bytes), connections, open.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_server()
        return calls.stats(self._runtime.server)


_NO_LISTENER = {
    errno.EBADF: "it is not open",
    errno.ENOTSOCK: "it is not a socket",
    errno.ESOCKTNOSUPPORT: "it is not a stream socket",
    errno.EISCONN: "it is a connection, not a listening socket",
    errno.EDESTADDRREQ: "it is not bound to an address",
}


def _refusal(address: AppListenOptions, error: OSError) -> str | None:
    """Why it is not possible to listen there."""
    if address.fd is not None:
        return _NO_LISTENER.get(error.errno or 0, error.strerror)
    if error.errno == errno.ENOENT and not address.path:  # the resolver means this by it
        return "unknown host"
    return error.strerror


def _is_coroutine(handler: Handler | None) -> bool:
    return handler is not None and values.is_coroutine_handler(handler)


fork.register()
