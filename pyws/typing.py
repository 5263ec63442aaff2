# SPDX-License-Identifier: MIT
"""The types of handlers, of messages, and of options that are written as a dict.

Programs need them for annotations alone, and import them from `pyws`.
"""

from __future__ import annotations

from typing import Any, Callable, Coroutine, Optional, Protocol, TypedDict, Union

from ._core.hints import (
    AnyOpCode,
    CookieOptionsDict,
    FileDescriptor,
    HeaderValue,
    Items,
    Message,
    StrPath,
    TlsContexts,
)
from ._core.timers import Timer
from .brokers import Broker
from .enums import OpCode, SendStatus
from .history import History
from .http import Request, Response
from .websocket import WebSocket

__all__ = [
    "AnyOpCode",
    "AppListenOptionsDict",
    "AppOptionsDict",
    "CloseHandler",
    "CookieOptionsDict",
    "DrainHandler",
    "DroppedHandler",
    "ErrorHandler",
    "FileDescriptor",
    "HandlerResult",
    "HeaderValue",
    "Message",
    "MessageHandler",
    "NativeHandler",
    "OpenHandler",
    "PingHandler",
    "PongHandler",
    "RequestErrorHandler",
    "RequestHandler",
    "SessionHandler",
    "SubscriptionHandler",
    "TlsContexts",
    "UpgradeHandler",
    "WebSocketOptionsDict",
]

# What a handler returns is ignored. That of anything else is a mistake, and logged: who returns an
# answer means to send it.
Ignored = Union[bool, SendStatus, Response, Timer, None]
HandlerResult = Union[Ignored, Coroutine[Any, Any, Ignored]]
"""What a plain function, or a coroutine function, may return as a handler."""

SessionHandler = Callable[[WebSocket[Any]], Coroutine[Any, Any, Ignored]]
"""``async def session(ws)``"""
ErrorHandler = Callable[[BaseException, Union[WebSocket[Any], Response, None]], object]
"""``handler(error, source)`` of `App.on_error`"""
RequestErrorHandler = Callable[[BaseException, Optional[Response], Optional[Request]], object]
"""``handler(error, res, req)`` of `App.set_error_handler`"""


class NativeHandler(Protocol):
    """A C function, such as numba makes; those of ctypes are callable, too."""

    @property
    def address(self) -> int:
        """Where the machine code is."""


# ---- made by tools/settings_page.py -------------------------------------------------------------

UpgradeHandler = Callable[[Response, Request, Any], HandlerResult]
"""``upgrade(res, req, socket_context)``"""
OpenHandler = Callable[[WebSocket[Any]], HandlerResult]
"""``open(ws)``"""
MessageHandler = Union[
    Callable[[WebSocket[Any], Union[str, bytes], OpCode], HandlerResult],
    NativeHandler,
]
"""``message(ws, message, opcode)``"""
DrainHandler = Union[Callable[[WebSocket[Any]], HandlerResult], NativeHandler]
"""``drain(ws)``"""
DroppedHandler = Union[
    Callable[[WebSocket[Any], Union[str, bytes], OpCode], HandlerResult],
    NativeHandler,
]
"""``dropped(ws, message, opcode)``"""
PingHandler = Union[Callable[[WebSocket[Any], bytes], HandlerResult], NativeHandler]
"""``ping(ws, data)``"""
PongHandler = Union[Callable[[WebSocket[Any], bytes], HandlerResult], NativeHandler]
"""``pong(ws, data)``"""
SubscriptionHandler = Union[Callable[[WebSocket[Any], str, int, int], HandlerResult], NativeHandler]
"""``subscription(ws, topic, subscriptions, subscriptions_before)``"""
CloseHandler = Callable[[WebSocket[Any], int, str], HandlerResult]
"""``close(ws, code, reason)``"""
RequestHandler = Callable[[Response, Request], HandlerResult]
"""``handler(res, req)``"""


class WebSocketOptionsDict(TypedDict, total=False):
    """The settings and handlers of `App.ws` as a dict."""

    compression: int
    max_payload_length: int
    max_backpressure: int
    close_on_backpressure_limit: bool
    close_timeout: float
    close_on_error: bool
    subprotocols: Items[str]
    origins: Optional[Items[Optional[str]]]
    idle_timeout: float
    ping_interval: Optional[float]
    ping_timeout: Optional[float]
    send_pings_automatically: bool
    reset_idle_timeout_on_send: bool
    max_lifetime: float
    max_topics: int
    max_topic_length: int
    max_pending_messages: int
    history: Optional[History]
    keep_request: bool
    upgrade: UpgradeHandler
    open: OpenHandler
    message: MessageHandler
    drain: DrainHandler
    dropped: DroppedHandler
    ping: PingHandler
    pong: PongHandler
    subscription: SubscriptionHandler
    close: CloseHandler
    session: SessionHandler


class AppOptionsDict(TypedDict, total=False):
    """The settings of `App` as a dict."""

    max_connections: int
    max_memory: int
    max_header_size: int
    max_headers: int
    max_body_size: int
    body_timeout: float
    max_response_backpressure: int
    handshake_timeout: float
    keep_alive_timeout: float
    upgrade_timeout: float
    trusted_proxies: Optional[Items[str]]
    max_connections_per_address: int
    max_handshakes_per_second_per_address: int
    keep_headers: bool
    access_log: bool
    drain_on_signal: float
    json_dumps: Optional[Callable[[Any], Union[str, bytes]]]
    json_loads: Optional[Callable[[Union[str, bytes]], Any]]
    broker: Optional[Union[str, Broker]]
    broker_queue: int


class AppListenOptionsDict(TypedDict, total=False):
    """The settings of `App.listen` as a dict."""

    port: int
    host: Optional[str]
    path: Optional[StrPath]
    mode: int
    backlog: int
    reuse_port: bool
    proxy_protocol: bool
    fd: Optional[int]
    ssl: Optional[TlsContexts]
    cert_file: Optional[StrPath]
    key_file: Optional[StrPath]
    key_password: Optional[Union[str, bytes]]
    device: Optional[str]
    domain: Optional[StrPath]
