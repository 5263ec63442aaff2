# SPDX-License-Identifier: MIT
"""The functions that C calls: one static ctypes callback for each kind of event, never freed.

A callback finds its runtime, route, socket or request in a table by what C passes back: a key, or
the address of the connection or request. What is to be done is in `sockets` and `requests`; here
are the tables for C, and where the objects of programs are made.
"""

from __future__ import annotations

import functools
import sys
from typing import Any

from .. import _native
from .._native import lib
from ..enums import OpCode, SendStatus
from ..http import Request, Response
from ..websocket import WebSocket
from . import bridge, calls, requests, sockets
from .contexts import run_in
from .requests import context_of, current_exchange
from .routes import Route, routes
from .runtime import runtimes

__all__ = [
    "ALWAYS",
    "ON_FALLBACK",
    "ON_REQUEST",
    "ON_RESPONSE",
    "OPTIONAL",
    "c_fields",
    "new_bridge",
]


def _on_upgrade(ptr: int, key: int) -> None:
    _serve(ptr, routes[key], True)


def _on_request(ptr: int, key: int) -> None:
    _serve(ptr, routes[key], False)


def _on_fallback(ptr: int, status: int, key: int) -> None:
    route = runtimes[key].fallbacks[status].route
    req = Request(route.runtime, ptr)
    requests.serve_fallback(Response(route, req, False), req, status)


def _serve(ptr: int, route: Route, upgrades: bool) -> None:
    req = Request(route.runtime, ptr)
    requests.serve(Response(route, req, upgrades), req)


def _on_response(
    request: int, status: int, length: int, why: Any, why_length: int, key: int
) -> None:
    runtime = runtimes.get(key)
    if runtime is not None and runtime.traffic and not runtime.refusal:
        reason = why[:why_length].decode() if why else None
        line = functools.partial(runtime.traffic.answered, request, status, length, reason)
        exchange = current_exchange(runtime, request)  # None: no handler has run for it
        if exchange is None:
            runtime.report("logging", line)
        else:
            run_in(context_of(exchange), runtime.report, "logging", line)


def _on_open(conn: int, key: int) -> None:
    route = routes[key]
    ws: WebSocket[Any] = WebSocket(route.runtime, conn)
    sockets.enter(ws, conn)
    try:
        bridge.track_socket(ws, conn)
        sockets.opened(ws, route, lib.ws_conn_request(conn), None)
    finally:
        sockets.forget_unless_begun(ws, conn)  # bridge.c does the same


# ---- for C --------------------------------------------------------------------------------------

ON_RESPONSE = _native.response_function(_on_response)
ON_REQUEST = _native.request_function(_on_request)
ON_FALLBACK = _native.fallback_function(_on_fallback)
ALWAYS: dict[str, Any] = {
    "on_open": _native.conn_function(_on_open),
    "on_close": _native.close_function(sockets.on_close),
    "on_closed": _native.closed_function(sockets.on_closed),
    "on_drain": _native.conn_function(sockets.on_drain),  # also for `drained`
}
OPTIONAL: dict[str, Any] = {
    "upgrade": _native.request_function(_on_upgrade),
    "message": _native.message_function(sockets.on_message),
    "dropped": _native.message_function(sockets.on_dropped),
    "ping": _native.control_function(sockets.on_ping),
    "pong": _native.control_function(sockets.on_pong),
    "subscription": _native.subscription_function(sockets.on_subscription),
}


def c_fields(route: Route) -> dict[str, Any]:
    """The fields of the library's ws_behavior, for a route of WebSockets."""
    handlers = {"on_" + name: fn for name, fn in OPTIONAL.items() if route.has(name)}
    for event, function in route.behavior.c_handlers.items():
        address = calls.function_address(function)
        assert address
        handlers["on_" + event] = calls.c_function("on_" + event, address)
    fields = {**route.behavior.c_fields(), "user": route.key, "user_is_place": not lib.bridge}
    return {**ALWAYS, **handlers, **fields}


def new_bridge() -> Any:
    """The ws_bridge of one app; None without the bridge."""
    if not lib.bridge:
        return None
    return bridge.new_bridge(
        [SendStatus(value) for value in range(3)],
        (False, True),
        [sys.intern(name) for name in ("opcode", "compress", "exclude_self")],
        text=OpCode.TEXT,
        binary=OpCode.BINARY,
        send="_send",
        publish="_publish",
        socket_type=WebSocket,
        sockets=sockets.sockets,
        opened=sockets.opened,
        closing=sockets.closing,
        closed=sockets.closed,
        failed=sockets.message_failed,
        returned=sockets.message_returned,
        request_type=Request,
        response_type=Response,
        end="_end",
        ended="_ended",
        handled=requests.handled,
        raised=requests.raised,
    )


if lib.bridge:
    if bridge.can_make(Request, Response):
        bridge.install_fast_path(Response, "end", "_end")
        bridge.install_fast_path(Response, "_respond", "_respond_by_ctypes", "respond")
        ON_REQUEST = bridge.bridge_function(_native.request_function, "on_request")
    OPTIONAL["message"] = bridge.bridge_function(_native.message_function, "on_message")
    ALWAYS["on_open"] = bridge.bridge_function(_native.conn_function, "on_open")
    ALWAYS["on_close"] = bridge.bridge_function(_native.close_function, "on_close")
    ALWAYS["on_closed"] = bridge.bridge_function(_native.closed_function, "on_closed")
