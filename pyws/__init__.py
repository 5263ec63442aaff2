"""pyws: a WebSocket server for Linux.

from pyws import App

app = App()
app.ws("/*", {"message": lambda ws, message, opcode: ws.send(message, opcode)})
app.listen(9001)
app.run()
"""

from ._native import VERSION as __version__
from ._native import lib as _lib
from .app import App
from .enums import CompressOptions, OpCode, SendStatus
from .http import Parameters, Query, Request, Response
from .options import AppListenOptions, AppOptions
from .websocket import CloseInfo, WebSocket

__all__ = [
    "App",
    "AppListenOptions",
    "AppOptions",
    "CloseInfo",
    "CompressOptions",
    "OpCode",
    "Parameters",
    "Query",
    "Request",
    "Response",
    "SendStatus",
    "WebSocket",
    "__version__",
    "library_path",
]

library_path: str = _lib.path  # the path of the C library, as given to the system's loader
