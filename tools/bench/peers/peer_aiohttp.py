# SPDX-License-Identifier: MIT
"""Echo server with `aiohttp` on uvloop. Messages to /broadcast go to all clients there."""

import asyncio
import sys
from typing import Any, Set

import secure
import uvloop  # type: ignore[import-not-found, unused-ignore]
from aiohttp import WSMsgType, web  # type: ignore[import-not-found, unused-ignore]

DEFLATE = "--deflate" in sys.argv
members: Set[Any] = set()


async def open_socket(request: Any) -> Any:
    socket = web.WebSocketResponse(max_msg_size=1024 * 1024, compress=DEFLATE)
    await socket.prepare(request)
    return socket


async def echo(request: Any) -> Any:
    socket = await open_socket(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            await socket.send_str(message.data)
        elif message.type == WSMsgType.BINARY:
            await socket.send_bytes(message.data)
    return socket


async def spread(request: Any) -> Any:
    socket = await open_socket(request)
    members.add(socket)
    try:
        async for message in socket:
            for member in list(members):
                await member.send_str(message.data)
    finally:
        members.discard(socket)
    return socket


async def main() -> None:
    app = web.Application()
    app.router.add_get("/broadcast", spread)
    app.router.add_get("/{path:.*}", echo)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=secure.context()).start()
    print(f"listening on 127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
