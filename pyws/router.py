# SPDX-License-Identifier: MIT
"""Routes: what a program registers for paths."""

from __future__ import annotations

import os
import weakref
from functools import partial
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    NoReturn,
    Optional,
    Sequence,
    Tuple,
    TypeVar,
    Union,
    overload,
)

from ._core import callbacks, calls, foreign, mistakes, values
from ._core.before import accept, chained, hooks_of
from ._core.decorators import Decorator
from ._core.hints import Items, StrPath, Unpack  # noqa: F401  # Items is in inherited annotations
from ._core.routes import Route
from ._core.runtime import Runtime
from ._core.served import Static, add_slash, check_max_age
from ._core.settings import Behavior, RouteSettings
from ._core.values import Handler
from ._native import lib
from .errors import ErrorCode
from .history import History  # noqa: F401  # is in inherited annotations
from .options import MAX_BODY, named_options
from .typing import (
    CloseHandler,
    DrainHandler,
    DroppedHandler,
    MessageHandler,
    OpenHandler,
    PingHandler,
    PongHandler,
    RequestHandler,
    SessionHandler,
    SubscriptionHandler,
    UpgradeHandler,
    WebSocketOptionsDict,
)

__all__ = ["Router", "WebSocketOptions"]

AnyRouter = TypeVar("AnyRouter", bound="Router")
AnyHandler = TypeVar("AnyHandler", bound=RequestHandler)
AnySession = TypeVar("AnySession", bound=SessionHandler)

_PATTERNS = (
    'must be a path like "/chat/:room" or "/files/*" whose parts are literal, ":name" (each name '
    'once), or "*" (only the last part)'
)

_MISSING: Any = values.LeftOut()  # an argument that was left out


@named_options(foreign.OTHERS_OF_ROUTE)
class WebSocketOptions(RouteSettings):
    """The settings and handlers of a route: ``app.ws(pattern, WebSocketOptions(...))``.

    They are those of `App.ws`, and may be used for several routes.

    Raises:
        TypeError: A value is of a wrong type or given by position, or there is no such setting.
        ValueError: A value is out of range, or has no effect.
    """

    upgrade: Optional[UpgradeHandler] = None
    open: Optional[OpenHandler] = None
    message: Optional[MessageHandler] = None
    drain: Optional[DrainHandler] = None
    dropped: Optional[DroppedHandler] = None
    ping: Optional[PingHandler] = None
    pong: Optional[PongHandler] = None
    subscription: Optional[SubscriptionHandler] = None
    close: Optional[CloseHandler] = None
    session: Optional[SessionHandler] = None

    def __post_init__(self) -> None:
        """Check all values. Raises TypeError, ValueError."""
        Behavior(self, {})


class Router:
    """Registers routes, below a prefix and with functions that run before their handlers.

    ``app.router(prefix)`` makes one; `App` is one without a prefix. Its methods belong to the same
    thread as those of `App`.
    """

    def __init__(
        self,
        runtime: Runtime,
        root: Optional[Router] = None,
        prefix: str = "",
        before: Sequence[Handler] = (),
    ) -> None:
        if not isinstance(runtime, Runtime):
            raise TypeError("a router is made by a method: app.router(prefix)")
        self._runtime = runtime
        self._root = None if root is None else weakref.ref(root)
        self._prefix = prefix
        self._before = before  # what runs before each handler
        self._has_coroutines = False  # are among the handlers; of the app alone
        self._routes: list[Route] = [] if root is None else root._routes
        self._registrations: list[Callable[[], Any]] = []  # adds them to a server
        self._waiting: list[Decorator] = []  # for their functions
        if root is not None:
            self._registrations, self._waiting = root._registrations, root._waiting

    def _add_all(self) -> None:
        """This is a worker, with a new server: add all routes to it."""
        for add in self._registrations:
            add()
        self._set_fallback()

    def _set_fallback(self) -> None:
        """`App` has more to add."""

    if TYPE_CHECKING:

        def __call__(self, session: AnySession) -> AnySession:
            """What `ws` returns is a decorator if there are settings alone.

            Overloads of `ws` could say that, but then checkers report of a mistake only that no
            overload matches, and not which key or handler is wrong.
            """

    else:

        def __call__(self, *args: Any, **more: Any) -> NoReturn:
            raise TypeError(
                f"{type(self).__name__} is no function, and no ASGI application: app.run() serves. "
                "app.ws(pattern, ...) with a handler or a dict returns the app, not a decorator: "
                "give it the session as well, app.ws(pattern, session, upgrade=on_upgrade), or "
                "settings as keywords, @app.ws(pattern, **settings)"
            )

    def _check_complete(self) -> None:
        """Raise RuntimeError if a decorator is written above nothing."""
        for decorator in self._waiting:
            raise RuntimeError(decorator.remedy)

    # ---- routes ---------------------------------------------------------------------------------

    def router(
        self,
        prefix: str,
        *,
        before: Union[RequestHandler, Sequence[RequestHandler]] = (),
    ) -> Router:
        """Make a router: routes below a prefix, with functions that run before their handlers.

        It has the methods `ws`, `get`, `post`, `put`, `patch`, `delete`, `options`, `head`, `any`,
        `static` and `router`. The pattern "" is the prefix itself.

        Args:
            prefix: A path like "/api" or "/teams/:team"; "" for `before` alone.
            before: ``before(res, req)``, or several of them: functions or coroutine functions that
                run before each handler of the router, also before the upgrade handler of a
                WebSocket route, and after those of the routers around it. Once one has answered,
                nothing further runs. What it finds out is kept as ``req.user_data``. One that has
                not answered must return None or True.

        Returns:
            The router.

        Raises:
            TypeError, ValueError: An argument is wrong.
            RuntimeError: Called from another thread.
        """
        self._runtime.check_server()
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str, not {values.type_name(prefix)}")
        mistakes.check_pattern(prefix)
        if prefix and (prefix[0] != "/" or prefix[-1] == "/" or "*" in prefix):
            right = "/" + prefix.strip("/*")
            remedy = f"; did you mean {right!r}?" if prefix.strip("/*") else ', or "" for none'
            raise ValueError(f'prefix must be like "/api", not {prefix!r}{remedy}')
        hooks = (*self._before, *hooks_of(before))
        return Router(self._runtime, self._app(), self._prefix + prefix, hooks)

    def static(
        self: AnyRouter,
        prefix: str,
        directory: StrPath,
        *,
        index: Optional[str] = "index.html",
        max_age: Optional[int] = 0,
        precompressed: bool = True,
    ) -> AnyRouter:
        """Serve the files of a directory: ``app.static("/assets", "dist/assets")``.

        A GET or HEAD below the prefix gets the file at that place in the directory, as with
        `Response.send_file`. A directory without a slash at the end is redirected to the one with
        it (301), and has `index`. Nothing outside of the directory is served, whatever the path and
        symbolic links say, nor are names that begin with a dot, FIFOs and devices: all these are
        404s, as is what this process may not read. Other routes below the prefix win if their
        patterns are more specific.

        Args:
            prefix: A path like "/assets", or "/"; in a router, "" is its prefix itself.
            directory: An existing directory. It may be replaced later, as by a symbolic link that
                leads to the next version.
            index: The file of a directory itself; None: directories are not served.
            max_age: For how many seconds clients may use a file without asking again; 0: they
                always ask, and get a 304 if nothing has changed. None: nothing is said about that.
            precompressed: Send "app.js.br" or "app.js.gz" instead of "app.js" to clients that take
                it, if there is one that is not older.

        Returns:
            The app or router itself.

        Raises:
            TypeError, ValueError: An argument is wrong, or the prefix is taken.
            RuntimeError: Called from another thread.
        """
        self._runtime.check_server()
        if not isinstance(prefix, str):
            raise TypeError(f"prefix must be a str, not {values.type_name(prefix)}")
        is_whole = prefix == "" and self._prefix != ""
        if (prefix[:1] != "/" and not is_whole) or "*" in prefix:
            raise ValueError(f'prefix must be a path like "/assets", not {prefix!r}')
        path = os.fsencode(os.path.abspath(os.fsdecode(directory)))
        if not os.path.isdir(path):
            raise ValueError(f"directory must be an existing directory, not {directory!r}")
        if index is not None and (not isinstance(index, str) or not index or "/" in index):
            raise ValueError(f'index must be the name of a file, as "index.html", not {index!r}')
        values.flag("precompressed", precompressed)
        pattern = prefix.rstrip("/") + "/*"
        depth = (self._prefix + pattern).count("/")
        handler = Static(depth, path, index, check_max_age(max_age), precompressed)
        self.get(pattern, handler)
        if index is not None and (pattern != "/*" or is_whole):
            self.get(prefix.rstrip("/"), add_slash)
        return self

    def _app(self) -> Router:
        """The router without a prefix. Raises RuntimeError after it was freed."""
        app = self if self._root is None else self._root()
        if app is None:
            raise RuntimeError("the app was freed")
        return app

    def ws(
        self: AnyRouter,
        pattern: str = _MISSING,
        behavior: Union[WebSocketOptionsDict, WebSocketOptions, SessionHandler] = _MISSING,
        *,
        path: str = _MISSING,
        **more: Unpack[WebSocketOptionsDict],
    ) -> AnyRouter:
        """Accept WebSocket connections on a path.

        There are three forms: settings and handlers as a dict (or `WebSocketOptions`), the same as
        keywords, and a session, which may also be written below a decorator::

            app.ws("/echo", {"message": on_message, "max_payload_length": 1024})
            app.ws("/echo", message=on_message, max_payload_length=1024)

            @app.ws("/echo", max_payload_length=1024)
            async def echo(ws): ...

        Args:
            pattern: A path whose parts are literal, ":name", or "*" at the end; the most specific
                route wins.
            behavior: Settings and handlers as a dict, see below, or as `WebSocketOptions`; or a
                session, a coroutine function ``session(ws)``.
            path: Another name of `pattern`.
            more: Settings and handlers as keywords, which win.

        Returns:
            The app itself; a decorator for a session if there is neither `behavior` nor a handler.

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
            for a coroutine handler or a session, no further message is read; Pings are answered
            until one has come. Default: 16 messages.
        history: Topics whose last messages the broker keeps, for clients that come back:
            `History(topics)`. It needs a broker that keeps messages: Redis, Valkey or NATS.
            Default: None.
        keep_request: Keep the opening handshake, with its header fields and cookies, as ws.request
            and ws.headers. Default: False.

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
        session(ws): The same as a session in the place of `behavior`, see below.

        message, drain, dropped, ping, pong and subscription may also be C functions (of ctypes, or
        objects with an `address` like those of numba), which C calls without Python: see
        docs/native_handlers.md.

        A coroutine handler begins at once, as a plain function does, and is a task of asyncio from
        its first step on. If it ends without waiting for anything, it costs no turn of the loop.

        Events of one socket run in order, one at a time; those of different sockets do not wait for
        each other. While a coroutine handler of a socket runs, all later events of that socket
        wait, even those of plain functions: so ``ws.end()`` returns before a close handler that is
        a coroutine, or that has to wait for one. Only a drain handler that is a plain function runs
        at once. When this side ends the connection, messages that wait are discarded; after a Close
        frame of the client they are still handled. What a coroutine sends between two awaits leaves
        in one write. A handler that gets asyncio.CancelledError has failed, unless `run` or `serve`
        ends.

        A session begins after the open handler. It gets the messages by ``async for message in ws``
        or ``await ws.recv()``; a message handler and a session exclude each other. While the
        session does not receive, up to max_pending_messages wait, and then the socket is not read;
        Pings that come before are answered. When the session returns, the connection is closed with
        1000; when it raises, with 1011. When the connection closes, the iteration ends and `recv`
        raises ConnectionClosed, after the messages that came before a Close frame of the client. A
        session that waits for something else is cancelled close_timeout seconds after the
        connection has closed, or after the last message that it has received since. The other
        handlers do not wait for the session: each runs when its event happens.

        All handlers of a socket, its session, and the tasks of `WebSocket.create_task` run in one
        contextvars.Context, a copy of the one that `run`,
        `serve` or `serving` was called in. What one of them sets is there for the later ones, and
        for no other socket. If a handler of A ends B, and the close handler of B ends A, the close
        handler of A runs in a copy of its context.
        """
        if (pattern is _MISSING) == (path is _MISSING):
            raise TypeError("ws() needs a pattern, once: app.ws(pattern, message=on_message)")
        pattern = path if pattern is _MISSING else pattern
        given: Any = None if behavior is _MISSING else behavior
        if callable(behavior):
            checked = Behavior(None, {**more, "session": behavior})
        else:
            checked = Behavior(given, more)
        if behavior is _MISSING and not checked.has_handlers():
            self._check_pattern(pattern)
            remedy = (
                f"app.ws({pattern!r}) has no handlers: app.ws({pattern!r}, message=on_message), or "
                f"a dict with them, {{}} for none; @app.ws({pattern!r}) needs a session below it, "
                "async def session(ws)"
            )
            decorator: Any = Decorator(
                self._waiting, remedy, lambda session: self.ws(pattern, session, **more)
            )
            return decorator  # type: ignore[no-any-return]
        if checked.compression and not lib.ws_compression_available():
            raise RuntimeError(
                f"compression needs zlib, and {lib.path} was built without it "
                "(meson setup -Ddeflate=enabled)"
            )
        sent, pattern = self._check_pattern(pattern)
        if self._before:
            checked.upgrade = chained(self._before, checked.upgrade or accept)
        coroutines = [name for name in values.HANDLERS if _is_coroutine(getattr(checked, name))]
        if checked.session is not None:
            from ._core.session import wrap_session

            wrap_session(checked)
            self._check_coroutines("session", pattern)
        if coroutines:
            self._check_coroutines(coroutines[0], pattern)
        if coroutines and coroutines != ["upgrade"]:
            from ._core.coroutines import wrap_handlers

            wrap_handlers(checked)
        runtime, handler = self._runtime, self._request_handler("upgrade", checked.upgrade, pattern)
        route = Route(runtime, pattern, checked, handler)
        keeper = None if checked.history is None else self._get_keeper(checked)
        fields = callbacks.c_fields(route)
        self._add(route, lambda: calls.add_route(runtime.server, sent, fields))
        if runtime.relay is not None and keeper is not None:
            from ._core.readers import begin

            runtime.relay.keep(checked.history)
            route.greet = partial(begin, keeper)
        return self

    def _get_keeper(self, behavior: Behavior) -> Any:
        """What reads messages that the broker keeps, for a route. Raises ValueError."""
        relay = self._runtime.relay
        if relay is None:
            raise ValueError('history needs a broker, as in App(broker="redis://127.0.0.1:6379")')
        if "drain" in behavior.c_handlers:
            raise ValueError("history does not go with a drain handler that is a C function")
        return relay.get_keeper()

    @overload
    def get(
        self, pattern: str, *, max_body_size: Optional[int] = None
    ) -> Callable[[AnyHandler], AnyHandler]: ...
    @overload
    def get(
        self: AnyRouter,
        pattern: str,
        handler: RequestHandler,
        *,
        max_body_size: Optional[int] = None,
    ) -> AnyRouter: ...
    def get(
        self, pattern: str, handler: Any = _MISSING, *, max_body_size: Optional[int] = None
    ) -> Any:
        """Answer GET, and HEAD with it.

        Everything that runs for one request runs in a contextvars.Context of its own, as with `ws`.

        Args:
            pattern: A path, as for `ws`.
            handler: ``handler(res, req)`` is called for each request, and answers with a method of
                `res`; it may be a coroutine function.
            max_body_size: The longest body of a request in bytes; None means that of AppOptions.

        Returns:
            The app itself; without `handler` a decorator: ``@app.get("/")``.

        Raises:
            TypeError, ValueError: The handler is wrong, or the pattern is wrong or taken.
            RuntimeError: As for `ws`.
        """
        return self._http("get", "GET", pattern, handler, max_body_size)

    @overload
    def post(
        self, pattern: str, *, max_body_size: Optional[int] = None
    ) -> Callable[[AnyHandler], AnyHandler]: ...
    @overload
    def post(
        self: AnyRouter,
        pattern: str,
        handler: RequestHandler,
        *,
        max_body_size: Optional[int] = None,
    ) -> AnyRouter: ...
    def post(
        self, pattern: str, handler: Any = _MISSING, *, max_body_size: Optional[int] = None
    ) -> Any:
        """Answer POST; arguments, result and errors as for `get`."""
        return self._http("post", "POST", pattern, handler, max_body_size)

    @overload
    def put(
        self, pattern: str, *, max_body_size: Optional[int] = None
    ) -> Callable[[AnyHandler], AnyHandler]: ...
    @overload
    def put(
        self: AnyRouter,
        pattern: str,
        handler: RequestHandler,
        *,
        max_body_size: Optional[int] = None,
    ) -> AnyRouter: ...
    def put(
        self, pattern: str, handler: Any = _MISSING, *, max_body_size: Optional[int] = None
    ) -> Any:
        """Answer PUT; arguments, result and errors as for `get`."""
        return self._http("put", "PUT", pattern, handler, max_body_size)

    @overload
    def patch(
        self, pattern: str, *, max_body_size: Optional[int] = None
    ) -> Callable[[AnyHandler], AnyHandler]: ...
    @overload
    def patch(
        self: AnyRouter,
        pattern: str,
        handler: RequestHandler,
        *,
        max_body_size: Optional[int] = None,
    ) -> AnyRouter: ...
    def patch(
        self, pattern: str, handler: Any = _MISSING, *, max_body_size: Optional[int] = None
    ) -> Any:
        """Answer PATCH; arguments, result and errors as for `get`."""
        return self._http("patch", "PATCH", pattern, handler, max_body_size)

    @overload
    def delete(
        self, pattern: str, *, max_body_size: Optional[int] = None
    ) -> Callable[[AnyHandler], AnyHandler]: ...
    @overload
    def delete(
        self: AnyRouter,
        pattern: str,
        handler: RequestHandler,
        *,
        max_body_size: Optional[int] = None,
    ) -> AnyRouter: ...
    def delete(
        self, pattern: str, handler: Any = _MISSING, *, max_body_size: Optional[int] = None
    ) -> Any:
        """Answer DELETE; arguments, result and errors as for `get`."""
        return self._http("delete", "DELETE", pattern, handler, max_body_size)

    @overload
    def options(
        self, pattern: str, *, max_body_size: Optional[int] = None
    ) -> Callable[[AnyHandler], AnyHandler]: ...
    @overload
    def options(
        self: AnyRouter,
        pattern: str,
        handler: RequestHandler,
        *,
        max_body_size: Optional[int] = None,
    ) -> AnyRouter: ...
    def options(
        self, pattern: str, handler: Any = _MISSING, *, max_body_size: Optional[int] = None
    ) -> Any:
        """Answer OPTIONS; arguments, result and errors as for `get`."""
        return self._http("options", "OPTIONS", pattern, handler, max_body_size)

    @overload
    def head(
        self, pattern: str, *, max_body_size: Optional[int] = None
    ) -> Callable[[AnyHandler], AnyHandler]: ...
    @overload
    def head(
        self: AnyRouter,
        pattern: str,
        handler: RequestHandler,
        *,
        max_body_size: Optional[int] = None,
    ) -> AnyRouter: ...
    def head(
        self, pattern: str, handler: Any = _MISSING, *, max_body_size: Optional[int] = None
    ) -> Any:
        """Answer HEAD; arguments, result and errors as for `get`."""
        return self._http("head", "HEAD", pattern, handler, max_body_size)

    @overload
    def any(
        self, pattern: str, *, max_body_size: Optional[int] = None
    ) -> Callable[[AnyHandler], AnyHandler]: ...
    @overload
    def any(
        self: AnyRouter,
        pattern: str,
        handler: RequestHandler,
        *,
        max_body_size: Optional[int] = None,
    ) -> AnyRouter: ...
    def any(
        self, pattern: str, handler: Any = _MISSING, *, max_body_size: Optional[int] = None
    ) -> Any:
        """Answer all methods without a handler of their own; arguments as for `get`."""
        return self._http("any", "*", pattern, handler, max_body_size)

    def _http(
        self, name: str, method: str, pattern: str, handler: Any, max_body_size: Optional[int]
    ) -> Any:
        if max_body_size is not None:
            max_body_size = values.integer("max_body_size", max_body_size, 0, MAX_BODY)
        if handler is _MISSING:
            self._check_pattern(pattern)
            remedy = (
                f"app.{name}({pattern!r}) has no handler: write @app.{name}({pattern!r}) above it, "
                f"or app.{name}({pattern!r}, handler)"
            )
            return Decorator(
                self._waiting,
                remedy,
                lambda fn: self._http(name, method, pattern, fn, max_body_size),
            )
        mistakes.check_handler("handler", handler, mistakes.REQUEST_PARAMETERS)
        path, pattern = self._check_pattern(pattern)
        handler = chained(self._before, handler)
        runtime, handler_ = self._runtime, self._request_handler("handler", handler, pattern)
        route = Route(runtime, pattern, Behavior(None, {}), handler_, max_body_size)
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
        from ._core.coroutines import Later

        assert handler is not None
        return Later(handler)

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
        self._app()._expect_coroutines()

    def _expect_coroutines(self) -> None:
        self._has_coroutines = True

    def _check_pattern(self, pattern: Any) -> Tuple[bytes, str]:
        """The whole pattern, below the prefix, for C and as text. Raises TypeError, ValueError."""
        self._runtime.check_server()
        if self._prefix and isinstance(pattern, str):
            if pattern and pattern != "*" and pattern[0] != "/":
                raise ValueError(
                    f'pattern {pattern!r}: in a router it begins with "/", or it is "" for the '
                    f"prefix {self._prefix!r} itself"
                )
            pattern = self._prefix + ("/*" if pattern == "*" else pattern)
        path = values.c_string("pattern", pattern)
        mistakes.check_pattern(pattern)
        return path, pattern

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


_METHODS = ("any", "delete", "get", "head", "options", "patch", "post", "put")
foreign.explain_arguments(Router, _METHODS, foreign.OTHERS_OF_REQUESTS)
foreign.explain_arguments(Router, ("router",), foreign.NO_OTHERS)
foreign.explain_arguments(Router, ("static",), foreign.OTHERS_OF_STATIC)


def _is_coroutine(handler: Handler | None) -> bool:
    return handler is not None and values.is_coroutine_handler(handler)
