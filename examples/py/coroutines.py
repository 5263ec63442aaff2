# SPDX-License-Identifier: MIT
"""Coroutine handlers: a delayed echo, and the time of day for all clients every second.

Connect to ws://127.0.0.1:9001/. A slow handler of one client does not delay other clients.
"""

import argparse
import asyncio
import time
from typing import Optional, Union

from pyws import App, OpCode, WebSocket

app = App()
clock: "Optional[asyncio.Task[None]]" = None


async def tell_the_time() -> None:
    while True:
        app.publish("time", time.strftime("%H:%M:%S"))
        await asyncio.sleep(1)


async def on_open(ws: WebSocket) -> None:
    global clock
    ws.subscribe("time")
    if clock is None:  # the first client
        clock = asyncio.get_running_loop().create_task(tell_the_time())


async def on_message(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
    await asyncio.sleep(0.5)  # like a database query
    ws.send(message, opcode)


parser = argparse.ArgumentParser(description="Echo slowly, and tell the time.")
parser.add_argument("--port", type=int, default=9001, help="0 picks a free one")
app.ws("/*", open=on_open, message=on_message)
app.listen(
    {"host": "127.0.0.1", "port": parser.parse_args().port},
    lambda place: print(f"listening on {place}", flush=True),
)
app.run()
