# SPDX-License-Identifier: MIT
"""Client with `websockets`, for --listen: python client_websockets.py URL NAME."""

import asyncio
import sys

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import WebSocketException
from websockets.typing import Subprotocol

URL, NAME = sys.argv[1].rstrip("/"), sys.argv[2]


def to(path: str) -> connect:
    protocols = [Subprotocol("chat"), Subprotocol("superchat")]
    return connect(URL + path, max_size=None, subprotocols=protocols, proxy=None)


async def echo(connection: ClientConnection) -> None:
    async for message in connection:
        await connection.send(message)


async def main() -> None:
    async with to("/getCaseCount") as connection:
        count = int(await connection.recv())
    for number in range(1, count + 1):
        try:
            async with to(f"/runCase?case={number}&agent={NAME}") as connection:
                await echo(connection)
        except (OSError, WebSocketException):
            pass  # many cases expect this
    async with to(f"/updateReports?agent={NAME}"):
        pass


asyncio.run(main())
