# SPDX-License-Identifier: MIT
"""Echo server with `websockets`, on uvloop and with `broadcast`, as its page on performance says.

Messages to /broadcast go to all clients there.
"""

import asyncio
import sys
from typing import Any, List, Set

import secure
import uvloop  # type: ignore[import-not-found, unused-ignore]
from websockets.asyncio.server import ServerConnection, broadcast, serve
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory

members: Set[ServerConnection] = set()


async def handle(connection: ServerConnection) -> None:
    request = connection.request
    if request is not None and request.path == "/broadcast":
        await spread(connection)
        return
    async for message in connection:
        await connection.send(message)


async def spread(connection: ServerConnection) -> None:
    members.add(connection)
    try:
        async for message in connection:
            broadcast(members, message)
    finally:
        members.discard(connection)


def extensions() -> List[Any]:
    """Compress each message by itself, like a shared compressor."""
    if "--deflate" not in sys.argv:
        return []
    alone: Any = {"server_no_context_takeover": True, "client_no_context_takeover": True}
    return [ServerPerMessageDeflateFactory(**alone)]


async def main() -> None:
    options: Any = {"compression": None, "extensions": extensions(), "max_size": 1024 * 1024}
    options["ssl"] = secure.context()
    async with serve(handle, "127.0.0.1", 0, **options) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"listening on 127.0.0.1:{port}", flush=True)
        await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
