# SPDX-License-Identifier: MIT
"""P3: `await ws.drained()`, and drain handlers while a coroutine handler is under way."""

import asyncio
import socket
from typing import Any, List

import peer
import pytest
from coroutines import Serve
from peer import close_frame, frame, upgraded

from pyws import App, OpCode, SendStatus, WebSocket

# Less than what is encrypted at once: only the kernel keeps a part of it waiting, over TLS, too.
CHUNK, COUNT = bytes(60 * 1024), 200


async def send_all(ws: WebSocket) -> None:
    for _ in range(COUNT):
        if ws.send(CHUNK) is SendStatus.BACKPRESSURE:
            assert await ws.drained()
            assert ws.get_buffered_amount() == 0


async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    await send_all(ws)
    ws.end()


async def session(ws: WebSocket) -> None:
    await ws.recv()
    await send_all(ws)


async def with_task(ws: WebSocket) -> None:
    await ws.recv()
    await ws.create_task(send_all(ws))


@pytest.mark.parametrize("how", ["handler", "session", "task"])
def test_p3_drained_returns_true_once_the_queue_is_empty(serve: Serve, how: str) -> None:
    """All of 200 chunks arrive, though the client reads slowly."""

    def configure(app: App) -> None:
        if how == "handler":
            app.ws("/*", message=on_message)
        else:
            app.ws("/*", session if how == "session" else with_task)

    server = serve(configure)
    with upgraded(server.port) as client:
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        client.send(frame(b"go"))
        for _ in range(COUNT):
            assert len(client.frame().payload) == len(CHUNK)
        assert client.frame().close_code == 1000


def test_p3_drained_returns_false_once_the_socket_has_closed(serve: Serve) -> None:
    results: List[Any] = []
    filled: List[WebSocket] = []

    async def fill(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        assert await ws.drained() is True
        while ws.send(CHUNK) is SendStatus.SUCCESS:
            pass
        filled.append(ws)
        others = [asyncio.ensure_future(ws.drained()) for _ in range(3)]
        await asyncio.sleep(0)
        others[1].cancel()
        if message == "end":
            asyncio.get_running_loop().call_soon(ws.end)
        results.append(await ws.drained())
        results.extend(await asyncio.gather(*others, return_exceptions=True))
        results.append(await ws.drained())

    server = serve(message=fill)
    for text in (b"end", b"reset"):
        del results[:], filled[:]
        client = upgraded(server.port)
        client.send(frame(text))
        peer.eventually(lambda: filled)
        if text == b"reset":
            client.reset()
        peer.eventually(lambda: len(results) == 5)
        assert isinstance(results.pop(2), asyncio.CancelledError)
        assert results == [False] * 4
        client.socket.close()


@pytest.mark.parametrize("plain", [True, False])
def test_p3_a_plain_drain_handler_runs_while_a_coroutine_waits(serve: Serve, plain: bool) -> None:
    seen: List[str] = []
    gates: List[Any] = []

    def on_drain(ws: WebSocket) -> None:
        seen.append("drain")
        for gate in gates:
            gate.set()

    async def on_drain_later(ws: WebSocket) -> None:
        on_drain(ws)

    async def fill(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        gates.append(asyncio.Event())
        while ws.send(CHUNK) is SendStatus.SUCCESS:
            pass
        if plain:
            await gates[0].wait()
        else:
            assert await ws.drained()
        seen.append("end")
        ws.send("end")

    server = serve(message=fill, drain=on_drain if plain else on_drain_later)
    with upgraded(server.port) as client:
        client.send(frame(b"go"))
        while len(client.frame().payload) > 3:
            pass
        client.send(close_frame(1000))
        assert client.frame().close_code == 1000
    peer.eventually(lambda: len(seen) == 2)
    assert seen == (["drain", "end"] if plain else ["end", "drain"])


def test_p3_drained_where_the_drain_handler_is_a_c_function(serve: Serve) -> None:
    import ctypes

    errors: List[str] = []
    kind = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p)

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        with pytest.raises(RuntimeError, match="the drain handler is a C function") as error:
            await ws.drained()
        errors.append(str(error.value))

    server = serve(message=on_message, drain=kind(lambda conn, user: None))
    with upgraded(server.port, more=frame(b"x")):
        peer.eventually(lambda: errors)
