# SPDX-License-Identifier: MIT
"""What the tests of coroutine handlers share: tests that run in a loop, a gate, a program."""

import asyncio
import functools
import threading
import time
from typing import Any, Callable, Coroutine, List, Tuple

from common import TIMEOUT
from conftest import Server
from peer import Peer

from pyws import App, OpCode, Request, Response, WebSocket

Serve = Callable[..., Server]
PING, PONG = 9, 10


class Gate:
    """An asyncio.Event that other threads may set; `entered` counts who came to it."""

    def __init__(self) -> None:
        self.entered = 0
        self.opened = threading.Event()

    def open(self) -> None:
        self.opened.set()

    async def wait(self) -> None:
        self.entered += 1
        while not self.opened.is_set():
            await asyncio.sleep(0.002)


def host_of(app: App) -> Any:
    """The event loop that an app runs in, and its tasks."""
    return app._runtime.host


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 30))

    return run


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.002)


async def in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, functools.partial(fn, *args))


class Place:
    """Where an app listens: for `serve`, `serving` and `listen`."""

    def __init__(self, app: App) -> None:
        self.port = 0
        app.listen({"host": "127.0.0.1"}, self._listening)

    def _listening(self, place: Any) -> None:
        self.port = place.port

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


async def echo(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    await asyncio.sleep(0)
    ws.send(message, opcode)


def texts(client: Peer, count: int) -> List[bytes]:
    return [client.frame().payload for _ in range(count)]


def ending(serve: Serve, **more: Any) -> Tuple[Server, Gate, List[Any], List[WebSocket]]:
    """A server whose first message waits at a gate, and whose close handler is a coroutine."""
    gate = Gate()
    seen: List[Any] = []
    sockets: List[WebSocket] = []

    def on_open(ws: WebSocket) -> None:
        sockets.append(ws)
        ws.user_data = "data"

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        await gate.wait()
        seen.append((message, ws.closed, ws.user_data))

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        await asyncio.sleep(0.01)
        seen.append((code, reason, ws.closed, ws.user_data))

    handlers = {"open": on_open, "message": on_message, "close": on_close, **more}
    server = serve(**{name: handler for name, handler in handlers.items() if handler is not None})
    return server, gate, seen, sockets


async def accept(res: Response, req: Request, context: Any, user_data: Any = None) -> None:
    await asyncio.sleep(0.001)
    key = req.get_header("sec-websocket-key") or ""
    res.write_header("X-Later", "yes")
    res.upgrade(key, None, None, context, user_data)


def echoing(**more: Any) -> Tuple[App, List[Any]]:
    app = App()
    closed: List[Any] = []

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        await asyncio.sleep(0)
        closed.append(code)

    app.ws("/*", {"message": echo, "close": on_close, "close_timeout": 0.2, **more})  # type: ignore[arg-type]
    return app, closed
