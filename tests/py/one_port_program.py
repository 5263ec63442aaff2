# SPDX-License-Identifier: MIT
"""The server of test_one_port.py: files, uploads, events and a chat on one port.

    python one_port_program.py FOLDER EVENTS

Uploads and event streams stop in their midst until someone posts to /go, so that all of them are
under way at that moment. /held tells which are. EVENTS is how many a stream has before it ends.
"""

import asyncio
import hashlib
import sys
from typing import AsyncIterator, Dict, List

from pyws import App, AppOptions, OpCode, Request, Response, WebSocket

FOLDER, HALF = sys.argv[1], int(sys.argv[2])
MEBIBYTE = 1 << 20

held: List[str] = []
sockets: List["WebSocket[None]"] = []
gates: Dict[str, asyncio.Event] = {}
app = App(
    AppOptions(
        # Only the test decides how long something takes.
        body_timeout=600,
        upgrade_timeout=600,
        keep_alive_timeout=600,
        max_body_size=64 * MEBIBYTE,
    )
)


def gate() -> asyncio.Event:
    """Made in the loop, which Python 3.8 asks for."""
    if not gates:
        gates["go"] = asyncio.Event()
    return gates["go"]


async def hold(what: str) -> None:
    held.append(what)
    await gate().wait()


async def upload(res: Response, req: Request) -> None:
    who, digest, size = req.parameters["who"], hashlib.sha256(), 0
    async for chunk in req.stream():
        if size < MEBIBYTE <= size + len(chunk):
            await hold(f"upload of {who}")
        digest.update(chunk)
        size += len(chunk)
    res.send({"who": who, "size": size, "sha256": digest.hexdigest()}, 201)


async def events(res: Response, req: Request) -> None:
    """The first half, then the client has to come back for the other one."""
    who = req.parameters["who"]
    async with res.events(retry=0.01) as stream:
        start = int(stream.last_id or "0")
        for number in range(start + 1, start + HALF + 1):
            if number == HALF // 2:
                await hold(f"events of {who}")
            await stream.send({"who": who, "number": number}, id=str(number))
        if start:
            await stream.send("no more", event="end")


async def numbers(res: Response, req: Request) -> None:
    """An answer in parts, of which the first one comes before the gate is open."""
    who = req.parameters["who"]

    async def lines() -> AsyncIterator[str]:
        for number in range(100_000):
            if number == 1:
                await hold(f"numbers of {who}")
            yield f"{number}\n"

    await res.stream(lines())


def on_open(ws: "WebSocket[None]") -> None:
    sockets.append(ws)
    ws.subscribe("chat")


def on_message(ws: "WebSocket[None]", message: "str | bytes", opcode: OpCode) -> None:
    app.publish("chat", message, opcode)


def on_close(ws: "WebSocket[None]", code: int, reason: "str | bytes") -> None:
    sockets.remove(ws)


def tell_held(res: Response, req: Request) -> None:
    res.send({"held": sorted(held), "sockets": len(sockets)})


async def go(res: Response, req: Request) -> None:
    gate().set()
    tell_held(res, req)


app.static("/", FOLDER)
app.put("/upload/:who", upload)
app.get("/events/:who", events)
app.get("/numbers/:who", numbers)
app.get("/held", tell_held)
app.post("/go", go)
app.ws("/chat", open=on_open, message=on_message, close=on_close, max_backpressure=0)
app.listen(0, host="127.0.0.1", callback=lambda place: print(place.port, flush=True))
app.run()
