# SPDX-License-Identifier: MIT
"""Starlette with broadcaster, on uvicorn: sys.argv[1] is the URL of Redis.

Messages to /publish go to the clients of /subscribe.
"""

import sys
from typing import Any

import uvloop  # type: ignore[import-not-found, unused-ignore]
from broadcaster import Broadcast  # type: ignore[import-not-found, unused-ignore]
from serving import serve_uvicorn
from starlette.applications import (  # type: ignore[import-not-found, unused-ignore]
    Starlette,
)
from starlette.routing import (  # type: ignore[import-not-found, unused-ignore]
    WebSocketRoute,
)

TOPIC = "all"
broadcast = Broadcast(sys.argv[1])


async def publish(ws: Any) -> None:
    await ws.accept()
    async for text in ws.iter_text():
        await broadcast.publish(channel=TOPIC, message=text)


async def subscribe(ws: Any) -> None:
    await ws.accept()
    async with broadcast.subscribe(channel=TOPIC) as subscriber:
        async for event in subscriber:
            await ws.send_text(event.message)


async def main() -> None:
    await broadcast.connect()
    routes = [WebSocketRoute("/publish", publish), WebSocketRoute("/subscribe", subscribe)]
    # broadcaster 0.3.1 stops listening if its first subscription is not confirmed at once. Another
    # one lets it listen again.
    async with broadcast.subscribe(channel="first"), broadcast.subscribe(channel="second"):
        await serve_uvicorn(Starlette(routes=routes))
    await broadcast.disconnect()


if __name__ == "__main__":
    uvloop.run(main())
