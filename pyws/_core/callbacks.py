"""What C calls: one static callback per kind of event, which lives for ever.

A callback finds its App, Route or WebSocket in a table by what C hands back: a number, or the
address of the connection or request. `sockets` holds a connection from its open event until its
closing handshake is over. No exception leaves a callback.
"""

from __future__ import annotations

import functools
import sys
import weakref
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Callable

from .. import _native
from .._native import lib
from ..enums import OpCode, SendStatus
from ..http import Request, Response, header_text
from ..options import Behavior, Handler
from ..websocket import WebSocket
from . import bridge, calls, mistakes
from .contexts import run_in
from .logs import logger

if TYPE_CHECKING:
    from ..app import App

__all__ = ["Route"]

_TEXT, _BINARY, _OPCODES = OpCode.TEXT, OpCode.BINARY, {int(code): code for code in OpCode}

# Handlers that run inside each other, because one ends the connection of the next. Far below where
# Python has no stack left: then the callbacks of this module could not run either.
DEEPEST = 20

numbers = count(1)  # what C hands back as `user`; never 0
apps: weakref.WeakValueDictionary[int, App] = weakref.WeakValueDictionary()
routes: weakref.WeakValueDictionary[int, Route] = weakref.WeakValueDictionary()
sockets: dict[int, WebSocket] = {}  # address of the ws_conn -> its object
responses: dict[int, Response] = {}  # address of the ws_request -> its response


class Route:
    """One registered pattern: what its callbacks need."""

    __slots__ = (
        "__weakref__",
        "app",
        "behavior",
        "bridge",
        "handler",
        "number",
        "pattern",
        "warned",
    )

    def __init__(self, app: App, pattern: str, behavior: Behavior, handler: Handler | None) -> None:
        self.app = app
        self.pattern = pattern
        self.behavior = behavior
        self.handler = handler  # of plain HTTP, or `upgrade`
        self.warned = False  # of a value that a handler has returned
        self.number = next(numbers)
        if app._bridge is not None:
            self.bridge = bridge.new_bridge_route(app._bridge, behavior.message, ON_CLOSED)
            self.number = bridge.address_of(self.bridge)
        routes[self.number] = self

    def native(self) -> dict[str, Any]:
        """The fields of the library's ws_behavior, for a route of WebSockets."""
        handlers = {"on_" + name: fn for name, fn in OPTIONAL.items() if self.has(name)}
        for event, function in self.behavior.natives.items():
            address = calls.function_address(function)
            assert address
            handlers["on_" + event] = calls.c_function("on_" + event, address)
        return {**ALWAYS, **handlers, **self.behavior.native(), "user": self.number}

    def has(self, event: str) -> bool:
        """There is a handler for it in Python."""
        return getattr(self.behavior, event) is not None


# ---- the server ---------------------------------------------------------------------------------


def _log(user: int, level: int, line: Any, length: int) -> None:
    try:
        logger.log(level, "%s", line[:length].decode("ascii", "replace"))
    except BaseException as error:
        complain(error)


def complain(error: BaseException) -> None:
    """The last resort where the log does not work."""
    with suppress(Exception):
        sys.stderr.write(f"pyws: logging failed: {error!r}\n")


def _on_response(
    request: int, status: int, length: int, why: Any, why_length: int, number: int
) -> None:
    app = apps.get(number)
    if app is not None and app._traffic and not app._inert:
        reason = why[:why_length].decode() if why else None
        report = functools.partial(app._traffic.answered, request, status, length, reason)
        res = responses.get(request)  # None: no handler has run for it
        if res is None:
            app._report("logging", report)
        else:
            run_in(res._context, app._report, "logging", report)


def _on_deferred(number: int) -> None:
    app = apps.get(number)
    if app is None:
        return
    with app._lock:
        app._wakes = False
        waiting = len(app._deferred)
    app._run_deferred(waiting)


def _on_alarm(number: int) -> None:
    app = apps.get(number)
    if app is not None:
        app._timers.run()


# ---- requests -----------------------------------------------------------------------------------


def _on_upgrade(request: int, number: int) -> None:
    _serve(request, routes[number], True)


def _on_request(request: int, number: int) -> None:
    _serve(request, routes[number], False)


def _serve(ptr: int, route: Route, upgrade: bool) -> None:
    """Give a request to its handler; see that it is answered, now or later."""
    app = route.app
    req = Request(app, ptr)
    res = responses[ptr] = Response(app, ptr, req, route, upgrade)
    try:
        assert route.handler is not None
        args = (res, req, route.pattern) if upgrade else (res, req)
        result = run_in(res._context, route.handler, *args)
        if result is not None:
            returned(route, "upgrade" if upgrade else "", route.handler, result)
        if (res._abort_handler or res._later) and not res._responded and not res._aborted:
            res._defer(ON_ABORTED, route.number)
    except BaseException as error:
        app._handler_failed(res._what(), error, res, route.handler, res._context)
        res._fail()
    if not res._deferred:  # without an answer, the library logs that and sends a 500
        app._release(res)


def _on_aborted(ptr: int, number: int) -> None:
    res = responses[ptr]
    res._aborted = True
    try:
        if res._later:  # its handler goes on, and has not done anything wrong
            res._request.preserve()
        if res._abort_handler is not None:
            result = run_in(res._context, res._abort_handler, res)
            mistakes.check_result("the aborted handler", res._abort_handler, result)
    except BaseException as error:
        hook = res._abort_handler
        res._app._handler_failed("the aborted handler", error, res, hook, res._context)
    res._app._release(res)


def returned(route: Route, event: str, handler: Any, result: Any) -> None:
    """A handler has returned something. TypeError: what does its work would never run."""
    what = f"the {event} handler of {route.pattern}" if event else f"the handler of {route.pattern}"
    warning = mistakes.unexpected(what, handler, result)
    if warning and not route.warned:
        route.warned = True
        logger.warning("%s", warning)


# ---- connections --------------------------------------------------------------------------------


def _on_open(conn: int, number: int) -> None:
    route = routes[number]
    res = responses.get(lib.ws_conn_request(conn))  # None: there was no upgrade handler
    context = route.app._context.copy() if res is None else res._context
    ws = sockets[conn] = WebSocket(route.app, route, conn, context)
    lib.ws_conn_set_user(conn, id(ws))
    outer = sys.exc_info()[1]
    try:
        _greet(ws, lib.ws_conn_request(conn))
        if ws._app._traffic:
            report = functools.partial(ws._app._traffic.opened, ws)
            run_in(context, ws._app._report, "logging", report)
        if route.behavior.open is not None:
            result = run_in(context, route.behavior.open, ws)
            if result is not None:
                returned(route, "open", route.behavior.open, result)
    except BaseException as error:
        detach(error, outer)
        route.app._socket_failed(ws, "open", error)


def _greet(ws: WebSocket, request: int) -> None:
    """Keep what the socket needs of its opening handshake."""
    behavior, res = ws._route.behavior, responses.get(request)
    ws._path = header_text(calls.text(lib.ws_request_path, request) or b"")
    ws._subprotocol = ws._compression = ws._headers = None
    if behavior.subprotocols or res is not None:
        subprotocol = calls.text(lib.ws_request_subprotocol, request)
        ws._subprotocol = None if subprotocol is None else header_text(subprotocol)
    if behavior.compression:
        ws._compression = calls.short_text(lib.ws_conn_compression, ws._conn) or None
    if ws._app.app_options.keep_headers:
        ws._headers = Request(ws._app, request).get_headers()
    if res is not None:
        ws._user_data, res._socket = res._user_data, ws


def _on_message(conn: int, data: Any, length: int, opcode: int, number: int) -> None:
    ws = sockets[conn]
    if ws._app._inert:  # the child of a fork has come back from a handler
        return
    try:
        handler: Any = ws._route.behavior.message
        if opcode == 1:
            result = run_in(ws._context, handler, ws, data[:length].decode(), _TEXT)
        else:
            result = run_in(ws._context, handler, ws, data[:length], _BINARY)
    except BaseException as error:
        _message_failed(ws, error)
    else:
        if result is not None:
            _message_returned(ws, result)


def _message_returned(ws: WebSocket, result: Any) -> None:
    try:
        returned(ws._route, "message", ws._route.behavior.message, result)
    except BaseException as error:
        _message_failed(ws, error)


def _message_failed(ws: WebSocket, error: BaseException) -> None:
    try:
        ws._app._socket_failed(ws, "message", error)
    except BaseException as again:  # from a signal handler of the program's
        try:
            ws._app._socket_failed(ws, "message", error)
        finally:
            ws._app._stash(again)


def _on_dropped(conn: int, data: Any, length: int, opcode: int, number: int) -> None:
    def arguments() -> tuple[str | bytes, OpCode]:
        payload: bytes = data[:length]
        return payload.decode("utf-8", "replace") if opcode == _TEXT else payload, _OPCODES[opcode]

    _call(sockets[conn], "dropped", arguments)


def _on_drain(conn: int, number: int) -> None:
    _call(sockets[conn], "drain", lambda: ())


def _on_ping(conn: int, data: Any, length: int, number: int) -> None:
    _call(sockets[conn], "ping", lambda: (data[:length],))


def _on_pong(conn: int, data: Any, length: int, number: int) -> None:
    _call(sockets[conn], "pong", lambda: (data[:length],))


def _on_subscription(
    conn: int, topic: Any, length: int, now: int, before: int, number: int
) -> None:
    _call(sockets[conn], "subscription", lambda: (topic[:length].decode(), now, before))


def _on_close(conn: int, code: int, reason: Any, length: int, number: int) -> None:
    ws = sockets[conn]
    try:
        text = reason[:length].decode("utf-8", "replace")
        by_peer = lib.ws_conn_closed_by_peer(conn)
        ws._end_here(conn, code, text, by_peer)
        if ws._app._traffic:
            report = functools.partial(ws._app._traffic.closed, ws, code, text)
            run_in(ws._context, ws._app._report, "logging", report)
        if ws._queue is not None:
            ws._queue.on_close(not by_peer)
        if ws._app._nested < DEEPEST:
            _run_close(ws)
        else:  # later, but not never
            ws._app._postpone(_run_close, ws)
    except BaseException as error:  # from a signal handler of the program's
        ws._app._stash(error)


def _run_close(ws: WebSocket) -> None:
    event, ws._close_event = ws._close_event, None
    if event is not None and ws._route.behavior.close is not None:
        _call(ws, "close", lambda: event)
    if ws._queue is None:  # else: after the last event in it
        ws._user_data = None


def _on_closed(conn: int, clean: bool, code: int, reason: Any, length: int, number: int) -> None:
    ws = sockets.pop(conn)
    if ws._close_info is None:  # _on_close had no stack, or was interrupted
        ws._end_here(conn, 1006, "the close event was interrupted", not clean)
    if ws._close_event is not None:
        ws._app._postpone(_run_close, ws)
    ws._closing_is_over(clean, code, reason[:length].decode("utf-8", "replace"))


def _call(ws: WebSocket, event: str, arguments: Callable[[], Any]) -> None:
    """Run a handler of an event that may happen inside another handler."""
    app = ws._app
    if app._inert:  # the child of a fork
        return
    app._nested += 1
    outer = sys.exc_info()[1]
    try:
        if app._nested > DEEPEST:
            raise RecursionError(f"handlers run inside each other, more than {DEEPEST} deep")
        handler = getattr(ws._route.behavior, event)
        result = run_in(ws._context, handler, ws, *arguments())
        if result is not None:
            returned(ws._route, event, handler, result)
    except BaseException as error:
        detach(error, outer)
        app._socket_failed(ws, event, error)
    finally:
        app._nested -= 1


def detach(error: BaseException, outer: BaseException | None) -> None:
    """What was being handled around a handler is no context of what the handler raises."""
    inner, links = error, 100  # a program may have made a circle of them
    while inner.__context__ is not None and inner.__context__ is not outer and links:
        inner, links = inner.__context__, links - 1
    if inner.__context__ is outer:
        inner.__context__ = None


# ---- for C --------------------------------------------------------------------------------------

LOG = _native.log_function(_log)
ON_DEFERRED = _native.plain_function(_on_deferred)
ON_ALARM = _native.plain_function(_on_alarm)
ON_RESPONSE = _native.response_function(_on_response)
ON_REQUEST = _native.request_function(_on_request)
ON_ABORTED = _native.request_function(_on_aborted)
ON_CLOSED = _native.closed_function(_on_closed)
ALWAYS: dict[str, Any] = {
    "on_open": _native.conn_function(_on_open),
    "on_close": _native.close_function(_on_close),
    "on_closed": ON_CLOSED,
}
OPTIONAL: dict[str, Any] = {
    "upgrade": _native.request_function(_on_upgrade),
    "message": _native.message_function(_on_message),
    "drain": _native.conn_function(_on_drain),
    "dropped": _native.message_function(_on_dropped),
    "ping": _native.control_function(_on_ping),
    "pong": _native.control_function(_on_pong),
    "subscription": _native.subscription_function(_on_subscription),
}


def new_bridge() -> Any:
    """For one App; None without the bridge."""
    if not lib.bridge:
        return None
    return bridge.new_bridge(
        [SendStatus(value) for value in range(3)],
        (False, True),
        text=OpCode.TEXT,
        binary=OpCode.BINARY,
        compress=sys.intern("compress"),
        send="_send",
        failed=_message_failed,
        returned=_message_returned,
    )


if lib.bridge:
    OPTIONAL["message"] = bridge.bridge_function(_native.message_function, "on_message")
    ALWAYS["on_closed"] = bridge.bridge_function(_native.closed_function, "on_closed")
