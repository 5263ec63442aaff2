# SPDX-License-Identifier: MIT
"""P2: sessions and coroutine handlers for which as many messages wait as may."""

import time
from typing import Any, List, Optional

import peer
import pytest
from coroutines import PING, PONG, Gate, Serve, texts
from peer import close_frame, frame, upgraded

from pyws import App, OpCode, WebSocket


@pytest.mark.parametrize("kind", ["session", "coroutine"])
def test_p2_pings_are_answered_while_as_many_messages_wait_as_may(serve: Serve, kind: str) -> None:
    """A Ping waits only where one message more stands before it."""
    gate = Gate()
    sockets: List[WebSocket] = []

    async def session(ws: WebSocket) -> None:
        sockets.append(ws)
        await gate.wait()
        async for message in ws:
            ws.send(message)

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        await gate.wait()
        ws.send(message)

    def configure(app: App) -> None:
        if kind == "session":
            app.ws("/*", session, max_pending_messages=4)
        else:
            app.ws("/*", open=sockets.append, message=on_message, max_pending_messages=4)

    server = serve(configure)
    fits = 4 if kind == "session" else 5  # a handler has taken one
    sent = [b"%d" % i for i in range(fits + 1)]
    with upgraded(server.port) as client:
        client.send(b"".join(map(frame, sent[:-1])))
        peer.eventually(lambda: sockets and sockets[0]._paused)
        for _ in range(30):
            client.send(frame(b"p", PING))
            assert client.frame() == (True, PONG, b"p")
        client.send(frame(sent[-1]) + frame(b"later", PING))
        time.sleep(0.05)
        server.call(sockets[0].send, "no Pong")
        assert client.frame().payload == b"no Pong"
        gate.open()
        received = texts(client, fits + 2)
        assert [text for text in received if text != b"later"] == sent
        assert not sockets[0]._paused


@pytest.mark.parametrize("kind", ["session", "coroutine"])
@pytest.mark.parametrize("code", [3001, None])
def test_p2_the_end_is_seen_while_as_many_messages_wait_as_may(
    serve: Serve, kind: str, code: Optional[int]
) -> None:
    """What was received before is still handled."""
    gate = Gate()
    sockets: List[WebSocket] = []
    seen: List[Any] = []

    async def session(ws: WebSocket) -> None:
        sockets.append(ws)
        await gate.wait()
        async for message in ws:
            seen.append(message)
        seen.append("over")

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        await gate.wait()
        seen.append(message)

    def configure(app: App) -> None:
        if kind == "session":
            app.ws("/*", session, max_pending_messages=4)
        else:
            app.ws(
                "/*",
                open=sockets.append,
                message=on_message,
                close=lambda ws, code, reason: seen.append("over"),
                max_pending_messages=4,
            )

    server = serve(configure)
    sent = [b"%d" % i for i in range(4 if kind == "session" else 5)]
    with upgraded(server.port) as client:
        client.send(b"".join(map(frame, sent)))
        peer.eventually(lambda: sockets and sockets[0]._paused)
        if code:
            client.send(close_frame(code))
            assert client.frame().close_code == code
        else:
            client.reset()
        peer.eventually(lambda: sockets[0].closed)
        assert seen == []
        gate.open()
        peer.eventually(lambda: seen[-1:] == ["over"])
    assert seen == [text.decode() for text in sent] + ["over"]
    info = sockets[0].close_info
    assert info is not None and info.received == ((code, "") if code else None)


def test_p2_a_paused_socket_of_a_session_that_is_full(serve: Serve) -> None:
    """`pause` stops Pings, too, and `resume` leads back to what it was."""
    gate = Gate()
    sockets: List[WebSocket] = []

    async def session(ws: WebSocket) -> None:
        sockets.append(ws)
        await gate.wait()
        async for message in ws:
            ws.send(message)

    server = serve(lambda app: app.ws("/*", session, max_pending_messages=2))
    with upgraded(server.port, more=frame(b"0") + frame(b"1")) as client:
        peer.eventually(lambda: sockets and sockets[0]._paused)
        for held in (False, True):
            server.call(sockets[0].pause)
            client.send(frame(b"p", PING))
            time.sleep(0.05)
            server.call(sockets[0].send, "first")
            server.call(sockets[0].resume)
            assert client.frame().payload == b"first"
            if not held:
                assert client.frame() == (True, PONG, b"p")
                client.send(frame(b"2"))
                time.sleep(0.05)
        assert len(sockets[0]._waits.session.messages) == 2  # type: ignore[union-attr]
        gate.open()
        received = texts(client, 4)
        assert [text for text in received if text != b"p"] == [b"0", b"1", b"2"]
