# SPDX-License-Identifier: MIT
"""Client with `aiohttp`, for --listen: python client_aiohttp.py URL NAME."""

import asyncio
import sys

import aiohttp  # type: ignore[import-not-found, unused-ignore]
from aiohttp import WSMsgType

URL, NAME = sys.argv[1].rstrip("/"), sys.argv[2]


async def echo(session: aiohttp.ClientSession, path: str) -> None:
    protocols = ("chat", "superchat")
    async with session.ws_connect(
        URL + path, protocols=protocols, compress=15, max_msg_size=0
    ) as connection:
        async for message in connection:
            if message.type == WSMsgType.TEXT:
                await connection.send_str(message.data)
            elif message.type == WSMsgType.BINARY:
                await connection.send_bytes(message.data)


async def main() -> None:
    # A connection that is left open after a refused handshake is not used for the next case.
    connector = aiohttp.TCPConnector(force_close=True)
    async with aiohttp.ClientSession(connector=connector) as session:
        async with session.ws_connect(f"{URL}/getCaseCount") as connection:
            count = int(await connection.receive_str())
        for number in range(1, count + 1):
            try:
                await echo(session, f"/runCase?case={number}&agent={NAME}")
            except (OSError, ValueError, TypeError, aiohttp.ClientError):
                pass  # many cases expect this
        async with session.ws_connect(f"{URL}/updateReports?agent={NAME}"):
            pass


asyncio.run(main())
