# SPDX-License-Identifier: MIT
"""Echo server with pyws. Messages to /broadcast go to all clients there.

budget.py uses two more routes: /upgrade has an upgrade handler, and messages to /app are published
by the app instead of a socket. GET /page is answered with a text, POST /upload with the length of
its body.
With --coroutine, the handler is a coroutine function; with --session, a session echoes. With --cert
FILE and --key FILE, it speaks TLS.
"""

import sys
from typing import Any, Union

import secure

from pyws import App, AppListenOptions, CompressOptions, OpCode, Request, Response, WebSocket

DEFLATE = "--deflate" in sys.argv
TOPIC = "all"


def echo(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
    ws.send(message, opcode)


async def echo_in_coroutine(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
    ws.send(message, opcode)


async def session(ws: WebSocket) -> None:
    async for message in ws:
        ws.send(message)


def echo_compressed(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
    ws.send(message, opcode, compress=True)


def join(ws: WebSocket) -> None:
    ws.subscribe(TOPIC)


def spread(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
    ws.publish(TOPIC, message, opcode)


def opened(ws: WebSocket) -> None:
    """A handler that does nothing, so that its call is measured."""


def closed(ws: WebSocket, code: int, message: str) -> None:
    """The same."""


def accept(res: Response, req: Request, context: Any) -> None:
    res.upgrade(req.get_header("sec-websocket-key"), "", "", context, None)


def page(res: Response, req: Request) -> None:
    res.end("Hello, world!")


def upload(res: Response, req: Request) -> None:
    def on_data(res: Response, chunk: bytes, is_last: bool) -> None:
        if is_last:
            res.end(str(len(chunk)))

    res.on_data(on_data)


def main() -> None:
    app = App()
    echoing = echo_in_coroutine if "--coroutine" in sys.argv else echo

    def spread_by_app(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
        app.publish(TOPIC, message, opcode)

    shared = CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR
    if "--session" in sys.argv:
        app.ws("/*", session, max_payload_length=1024 * 1024, open=opened, close=closed)
    else:
        app.ws(
            "/*",
            {
                "compression": shared if DEFLATE else CompressOptions.DISABLED,
                "max_payload_length": 1024 * 1024,
                "open": opened,
                "message": echo_compressed if DEFLATE else echoing,
                "close": closed,
            },
        )
    app.get("/page", page)
    app.post("/upload", upload)
    app.ws("/upgrade", {"upgrade": accept, "open": opened, "close": closed})
    app.ws("/broadcast", {"open": join, "message": spread})
    app.ws("/app", {"open": join, "message": spread_by_app})
    app.listen(
        AppListenOptions(host="127.0.0.1", port=0, ssl=secure.context()),
        lambda place: print(f"listening on 127.0.0.1:{place.port}", flush=True),
    )
    app.run()


if __name__ == "__main__":
    main()
