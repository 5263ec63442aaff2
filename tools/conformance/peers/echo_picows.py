# SPDX-License-Identifier: MIT
"""Echo server with the part of `picows` that reads whole messages and supports compression.

It uses its defaults and a limit of 16 MiB for messages. With the other part, this program would
have to do itself what the cases test: assemble fragments and check their text.
"""

import asyncio
from typing import Any

from picows.websockets import serve  # type: ignore[import-not-found, unused-ignore]


async def echo(connection: Any) -> None:
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    async with serve(echo, "127.0.0.1", 0, max_size=16 * 1024 * 1024) as server:
        port = next(iter(server.sockets)).getsockname()[1]
        print(f"listening on 127.0.0.1:{port}", flush=True)
        await server.serve_forever()


asyncio.run(main())
