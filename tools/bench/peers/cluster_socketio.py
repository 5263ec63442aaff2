# SPDX-License-Identifier: MIT
"""python-socketio with its AsyncRedisManager, on uvicorn: sys.argv[1] is the URL of Redis.

Clients that connect with ``role=subscribe`` join the room; the event "m" goes to that room.
"""

import sys
from typing import Any

import socketio  # type: ignore[import-not-found, unused-ignore]
import uvloop  # type: ignore[import-not-found, unused-ignore]
from serving import serve_uvicorn

ROOM = "all"


async def main() -> None:
    manager = socketio.AsyncRedisManager(sys.argv[1])
    # A task for each event would lose the order of the messages of a client.
    server = socketio.AsyncServer(async_mode="asgi", client_manager=manager, async_handlers=False)

    async def connect(sid: str, environ: Any, auth: Any) -> None:
        if "role=subscribe" in environ["QUERY_STRING"]:
            await server.enter_room(sid, ROOM)

    async def spread(sid: str, text: str) -> None:
        await server.emit("m", text, room=ROOM)

    server.on("connect", connect)
    server.on("m", spread)
    await serve_uvicorn(socketio.ASGIApp(server))


if __name__ == "__main__":
    uvloop.run(main())
