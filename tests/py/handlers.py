# SPDX-License-Identifier: MIT
"""Handlers that many tests register, and what they do with them."""

from typing import Any, Callable, List

from peer import eventually, upgraded

from pyws import OpCode, Request, Response, WebSocket


class Oops(Exception):
    """What handlers raise."""


def fail(*args: object) -> None:
    raise Oops("in the handler")


def echo(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    ws.send(message, opcode)


def accept(
    res: Response, req: Request, socket_context: Any, user_data: Any = None, protocol: Any = ""
) -> None:
    """An upgrade handler that does what happens without one."""
    if protocol == "":
        protocol = req.get_header("sec-websocket-protocol")
    res.upgrade(
        req.get_header("sec-websocket-key"),
        protocol,
        req.get_header("sec-websocket-extensions"),
        socket_context,
        user_data,
    )


def open_socket(serve: Callable[..., Any], **behavior: Any) -> Any:
    """A server, the server's WebSocket and a raw peer."""
    sockets: List[WebSocket] = []
    handler = behavior.pop("open", lambda ws: None)

    def on_open(ws: WebSocket) -> None:
        sockets.append(ws)
        handler(ws)

    server = serve(open=on_open, **behavior)
    client = upgraded(server.port)
    eventually(lambda: sockets)
    return server, sockets[0], client
