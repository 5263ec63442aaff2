# SPDX-License-Identifier: MIT
"""pyws: a WebSocket server for Linux.

from pyws import App

app = App()
app.ws("/*", message=lambda ws, message, opcode: ws.send(message, opcode))
app.listen(9001)
app.run()
"""

import typing as _typing

from ._core.timers import Timer
from ._native import VERSION as __version__
from ._native import lib as _lib
from .app import App
from .brokers import Broker, Link, Page
from .enums import CompressOptions, OpCode, SendStatus
from .errors import BadRequest, ClientDisconnect, ConnectionClosed
from .history import History
from .http import EventStream, Form, Parameters, Query, Request, Response, UploadFile
from .options import AppListenOptions, AppOptions
from .publishing import end_at, publish_to
from .router import Router, WebSocketOptions
from .typing import (
    AnyOpCode,
    AppListenOptionsDict,
    AppOptionsDict,
    CloseHandler,
    CookieOptionsDict,
    DrainHandler,
    DroppedHandler,
    ErrorHandler,
    FileDescriptor,
    HandlerResult,
    HeaderValue,
    Message,
    MessageHandler,
    NativeHandler,
    OpenHandler,
    PingHandler,
    PongHandler,
    RequestErrorHandler,
    RequestHandler,
    SessionHandler,
    SubscriptionHandler,
    TlsContexts,
    UpgradeHandler,
    WebSocketOptionsDict,
)
from .websocket import CloseFrame, CloseInfo, TlsInfo, WebSocket

__all__ = [
    "AnyOpCode",
    "App",
    "AppListenOptions",
    "AppListenOptionsDict",
    "AppOptions",
    "AppOptionsDict",
    "BadRequest",
    "Broker",
    "ClientDisconnect",
    "CloseFrame",
    "CloseHandler",
    "CloseInfo",
    "CompressOptions",
    "ConnectionClosed",
    "CookieOptionsDict",
    "DrainHandler",
    "DroppedHandler",
    "ErrorHandler",
    "EventStream",
    "FileDescriptor",
    "Form",
    "HandlerResult",
    "HeaderValue",
    "History",
    "Link",
    "Message",
    "MessageHandler",
    "NativeHandler",
    "OpCode",
    "OpenHandler",
    "Page",
    "Parameters",
    "PingHandler",
    "PongHandler",
    "Query",
    "Request",
    "RequestErrorHandler",
    "RequestHandler",
    "Response",
    "Router",
    "SendStatus",
    "SessionHandler",
    "SubscriptionHandler",
    "Timer",
    "TlsContexts",
    "TlsInfo",
    "UpgradeHandler",
    "UploadFile",
    "WebSocket",
    "WebSocketOptions",
    "WebSocketOptionsDict",
    "__version__",
    "end_at",
    "library_path",
    "publish_to",
]

library_path: str = _lib.path  # the path of the C library, as given to the system's loader


if not _typing.TYPE_CHECKING:  # checkers would accept any name

    def __getattr__(name):
        from ._core.foreign import NOT_IN_PACKAGE

        if name in NOT_IN_PACKAGE:  # `from pyws import` hides the message of an AttributeError
            raise ImportError(f"pyws has no {name}: {NOT_IN_PACKAGE[name]}")
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
