# SPDX-License-Identifier: MIT
"""Echo server with Starlette, on uvicorn with uvloop, or with --granian on granian.

Messages to /broadcast go to all clients there.
"""

import sys
from typing import Any, Set

import uvloop  # type: ignore[import-not-found, unused-ignore]
from serving import serve_granian, serve_uvicorn
from starlette.applications import (  # type: ignore[import-not-found, unused-ignore]
    Starlette,
)
from starlette.routing import (  # type: ignore[import-not-found, unused-ignore]
    WebSocketRoute,
)

members: Set[Any] = set()


async def echo(ws: Any) -> None:
    await ws.accept()
    while True:
        event = await ws.receive()
        if event["type"] == "websocket.disconnect":
            return
        text = event.get("text")
        await (ws.send_bytes(event["bytes"]) if text is None else ws.send_text(text))


async def spread(ws: Any) -> None:
    await ws.accept()
    members.add(ws)
    try:
        async for text in ws.iter_text():
            for member in list(members):
                await member.send_text(text)
    finally:
        members.discard(ws)


APP = Starlette(routes=[WebSocketRoute("/broadcast", spread), WebSocketRoute("/{path:path}", echo)])


if __name__ == "__main__":
    uvloop.run(serve_granian(APP) if "--granian" in sys.argv else serve_uvicorn(APP))
