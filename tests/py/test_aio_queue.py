# SPDX-License-Identifier: MIT
"""Coroutine handlers: the bounded queue of a socket whose handler is busy, and its end."""

import asyncio
import socket
import time
from typing import Any, Dict, List, Optional, Tuple

import peer
import pytest
from coroutines import PING, PONG, Gate, Serve, ending, texts
from peer import close_frame, frame, upgraded

from pyws import OpCode, SendStatus, WebSocket

# ---- bounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, size, waiting",
    [
        ({"max_pending_messages": 4}, 1, 4),
        ({"max_pending_messages": 1}, 1, 1),
        ({}, 1, 16),
        ({"max_payload_length": 1000}, 600, 2),
        ({"max_payload_length": 1000}, 1000, 1),
    ],
)
def test_the_queue_is_bounded(
    serve: Serve, settings: Dict[str, Any], size: int, waiting: int
) -> None:
    gate = Gate()
    sockets: List[WebSocket] = []
    seen: List[str] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        seen.append(message)
        await gate.wait()

    def waits() -> int:
        """How many wait behind the first one, when no more are read."""
        queue = sockets and gate.entered and sockets[0]._paused and sockets[0]._queue
        return queue.received if queue else 0

    server = serve(open=sockets.append, message=on_message, **settings)
    sent = [str(i % 10) * size for i in range(60)]
    with upgraded(server.port) as client:
        client.send(b"".join(frame(text.encode()) for text in sent))
        peer.eventually(waits)
        before = waits()
        assert before in (waiting - 1, waiting)
        for _ in range(3):  # what the program does does not change that
            server.call(sockets[0].pause)
            server.call(sockets[0].resume)
            time.sleep(0.01)
            assert waits() == before
        gate.open()
        client.send(frame(b"p", PING))
        assert client.frame().opcode == PONG
        peer.eventually(lambda: len(seen) == 60)
    assert seen == sent


@pytest.mark.parametrize("code", [1000, None])
def test_messages_before_a_reset_are_handled(serve: Serve, code: Optional[int]) -> None:
    """The socket is paused, as more messages wait than may, when its peer resets the connection."""
    gate = Gate()
    sockets: List[WebSocket] = []
    seen: List[str] = []
    closed: List[Tuple[int, str]] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        ws.send(message)
        await gate.wait()
        seen.append(message)

    server = serve(
        open=sockets.append,
        message=on_message,
        close=lambda ws, code, reason: closed.append((code, reason)),
    )
    client = upgraded(server.port)
    client.send(
        b"".join(frame(b"%d" % i) for i in range(100)) + (close_frame(code) if code else b"")
    )
    peer.eventually(lambda: sockets and sockets[0]._paused)
    client.reset()
    peer.eventually(lambda: server.call(sockets[0].send, "x") is SendStatus.DROPPED)
    assert not sockets[0].closed
    gate.open()
    peer.eventually(lambda: closed)
    assert seen == [str(i) for i in range(100)]
    assert closed == [(1000, "") if code else (1006, "connection reset by peer")]


def test_a_flood_of_pings_is_bounded_too(serve: Serve) -> None:
    gate = Gate()
    sockets: List[WebSocket] = []
    pings: List[bytes] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        await gate.wait()

    server = serve(
        open=sockets.append, message=on_message, ping=lambda ws, data: pings.append(data)
    )
    with upgraded(server.port) as client:
        client.send(frame(b"x") + b"".join(frame(b"%d" % i, PING) for i in range(100)))
        peer.eventually(lambda: gate.entered and sockets[0]._paused)
        time.sleep(0.05)
        assert sockets[0]._queue and 15 <= len(sockets[0]._queue.events) <= 16
        gate.open()
        peer.eventually(lambda: len(pings) == 100)
    assert pings == [b"%d" % i for i in range(100)]


@pytest.mark.parametrize("plain", [True, False])
def test_p3_dropped_and_drain_events_do_not_pile_up(serve: Serve, plain: bool) -> None:
    """A plain drain handler runs at once; those that wait are one event."""
    gate = Gate()
    sockets: List[WebSocket] = []
    counts = {"dropped": 0, "drain": 0}

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        await gate.wait()

    def count(name: str) -> Any:
        def add(*args: Any) -> None:
            counts[name] += 1

        return add

    async def on_drain(ws: WebSocket) -> None:
        counts["drain"] += 1

    server = serve(
        open=sockets.append,
        message=on_message,
        dropped=count("dropped"),
        drain=count("drain") if plain else on_drain,
        max_backpressure=1000,
    )
    size = 8 * 2**20
    with upgraded(server.port, more=frame(b"x")) as client:
        # Else the kernel might learn to hold the second one whole.
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        peer.eventually(lambda: gate.entered)
        for _ in range(2):
            assert server.call(sockets[0].send, bytes(size)) == SendStatus.BACKPRESSURE
            for _ in range(30):
                assert server.call(sockets[0].send, "more") == SendStatus.DROPPED
            assert len(client.frame().payload) == size
            peer.eventually(lambda: server.call(sockets[0].get_buffered_amount) == 0)
        assert counts == {"dropped": 0, "drain": 2 if plain else 0}
        gate.open()
        peer.eventually(lambda: counts == {"dropped": 16, "drain": 2 if plain else 1})


def test_the_idle_clock_stands_still_while_the_socket_is_not_read(serve: Serve) -> None:
    gate = Gate()
    closed: List[Any] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        await gate.wait()
        ws.send(message)

    server = serve(
        message=on_message,
        close=lambda ws, code, reason: closed.append((code, reason)),
        idle_timeout=0.3,
        send_pings_automatically=False,
        max_pending_messages=2,
    )
    with upgraded(server.port) as client:
        client.send(b"".join(frame(b"%d" % i) for i in range(5)))
        peer.eventually(lambda: gate.entered)
        time.sleep(0.8)
        assert closed == []
        gate.open()
        assert texts(client, 5) == [b"%d" % i for i in range(5)]
        assert client.at_end()  # now it counts
    peer.eventually(lambda: closed == [(1006, "idle timeout")])


@pytest.mark.parametrize(
    "settings, size",
    [({"max_pending_messages": 8}, 1), ({"max_payload_length": 800}, 100)],
    ids=["messages", "bytes"],
)
def test_reading_goes_on_when_half_of_the_queue_is_left(
    serve: Serve, settings: Dict[str, int], size: int
) -> None:
    """The Ping that follows one message more is read then, neither earlier nor later."""
    gate = Gate()
    sockets: List[WebSocket] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        ws.send(message[0])
        await gate.wait()
        for _ in range(20):  # turns of the loop
            await asyncio.sleep(0)

    server = serve(open=sockets.append, message=on_message, **settings)
    with upgraded(server.port, more=frame(b"0")) as client:
        assert client.frame().payload == b"0"
        waiting = b"".join(frame(b"%d" % i * size) for i in range(1, 10))
        client.send(waiting + frame(b"p", PING))
        peer.eventually(lambda: sockets[0]._paused)
        assert sockets[0]._queue and sockets[0]._queue.received == 8
        gate.open()
        expected = [b"1", b"2", b"3", b"4", b"p", b"5", b"6", b"7", b"8", b"9"]
        assert texts(client, 10) == expected


def test_pause_holds_what_was_received_already(serve: Serve) -> None:
    sockets: List[WebSocket] = []
    seen: List[str] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        await asyncio.sleep(0.01)
        seen.append(message)
        ws.pause()

    server = serve(open=sockets.append, message=on_message)
    with upgraded(server.port) as client:
        client.send(b"".join(frame(b"%d" % i) for i in range(40)))
        for i in range(5):
            peer.eventually(lambda: len(seen) > i)  # noqa: B023
            time.sleep(0.03)
            assert len(seen) == i + 1
            server.call(sockets[0].resume)
        server.call(sockets[0].end)
        assert client.frame().close_code == 1000
    peer.eventually(lambda: sockets[0]._queue is None)
    assert seen == [str(i) for i in range(len(seen))]
    assert len(seen) <= 6


# ---- the end of sockets -------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["end", "close"])
def test_s27_messages_that_wait_are_discarded_after_a_local_end(serve: Serve, how: str) -> None:
    server, gate, seen, sockets = ending(serve)
    with upgraded(server.port, more=frame(b"a") + frame(b"b") + frame(b"p", PING)) as client:
        peer.eventually(lambda: sockets and sockets[0]._queue)
        peer.eventually(lambda: gate.entered)
        ws = sockets[0]
        assert server.call(lambda: (getattr(ws, how)(), ws.closed, ws.user_data)[1:]) == (
            True,
            "data",
        )
        assert server.call(ws.send, "late") == SendStatus.DROPPED
        gate.open()
        peer.eventually(lambda: len(seen) == 2)
        client.send(frame(b"c"))
    code = (1000, "") if how == "end" else (1006, "closed by the server")
    assert seen == [("a", True, "data"), (*code, True, "data")]
    peer.eventually(lambda: ws._queue is None)
    assert server.call(ws.get_user_data) is None


def test_s27_messages_before_a_close_of_the_peer_are_delivered(serve: Serve) -> None:
    server, gate, seen, sockets = ending(serve)
    packet = frame(b"a") + frame(b"b") + frame(b"c") + close_frame(4000, b"bye")
    with upgraded(server.port, more=packet) as client:
        assert client.frame().close_code == 4000
        assert server.call(lambda: (sockets[0].closed, sockets[0].user_data)) == (True, "data")
        gate.open()
        peer.eventually(lambda: len(seen) == 4)
    assert seen == [
        ("a", True, "data"),
        ("b", True, "data"),
        ("c", True, "data"),
        (4000, "bye", True, "data"),
    ]
    peer.eventually(lambda: server.call(sockets[0].get_user_data) is None)


def test_user_data_lasts_for_the_queue_without_a_close_handler(serve: Serve) -> None:
    server, gate, seen, sockets = ending(serve, close=None)
    with upgraded(server.port, more=frame(b"a") + frame(b"b") + close_frame(1000)) as client:
        assert client.frame().close_code == 1000
        gate.open()
        peer.eventually(lambda: sockets[0]._queue is None)
    assert seen == [("a", True, "data"), ("b", True, "data")]
    assert server.call(sockets[0].get_user_data) is None


def test_s27_a_plain_close_handler_runs_before_end_returns(serve: Serve) -> None:
    """Unless a coroutine is under way: then it waits, as all events of the socket do."""
    order: List[str] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        ws.end()
        order.append("message ends")

    def end(ws: WebSocket, data: bytes) -> None:
        ws.end()
        order.append("ping ends")

    server = serve(
        message=on_message, ping=end, close=lambda ws, code, reason: order.append("close")
    )
    with upgraded(server.port, more=frame(b"x", PING)) as client:
        assert client.frame().opcode == PONG
        assert client.frame().close_code == 1000
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().close_code == 1000
    peer.eventually(lambda: len(order) == 4)
    assert order == ["close", "ping ends", "message ends", "close"]


@pytest.mark.parametrize("how", ["peer", "end", "close", "reset"])
def test_wait_closed(serve: Serve, how: str) -> None:
    infos: List[Any] = []
    tasks: List[Any] = []

    async def wait(ws: WebSocket) -> None:
        infos.append(await ws.wait_closed())
        assert ws.close_info is infos[-1]

    async def on_open(ws: WebSocket) -> None:
        tasks.extend(asyncio.ensure_future(wait(ws)) for _ in range(2))

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        if how in ("end", "close"):
            getattr(ws, how)()
        await wait(ws)

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        await wait(ws)
        await wait(ws)  # it is over
        infos.append("end")

    server = serve(open=on_open, message=on_message, close=on_close)
    with upgraded(server.port) as client:
        client.send(frame(b"x"))
        if how == "peer":
            client.send(close_frame(4000, b"bye"))
        if how in ("peer", "end"):
            code = client.frame().close_code
            time.sleep(0.02)
            assert (len(infos), code) == ((0, 1000) if how == "end" else (len(infos), 4000))
            client.send(close_frame(1000, b"mine"))
    peer.eventually(lambda: len(infos) == 6)
    infos.remove("end")
    info = infos[0]
    assert all(other is info for other in infos)
    assert info.clean is (how in ("peer", "end"))
    received = {"peer": (4000, "bye"), "end": (1000, "mine")}.get(how)
    assert info.received == received
    assert info.local is (how in ("end", "close"))


def test_a_cancelled_wait_closed_does_not_disturb_others(serve: Serve) -> None:
    infos: List[Any] = []

    async def on_message(ws: WebSocket, *args: Any) -> None:
        tasks = [asyncio.ensure_future(ws.wait_closed()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        ws.close()
        infos.extend(await asyncio.gather(*tasks, return_exceptions=True))

    server = serve(message=on_message)
    with upgraded(server.port, more=frame(b"x")):
        peer.eventually(lambda: infos)
    assert isinstance(infos.pop(1), asyncio.CancelledError)
    assert infos[0] is infos[1]
    assert infos[0].clean is False


def test_wait_closed_in_another_thread(serve: Serve) -> None:
    sockets: List[WebSocket] = []
    server = serve(open=sockets.append)
    with upgraded(server.port):
        peer.eventually(lambda: sockets)
        with pytest.raises(RuntimeError, match="defer"):
            print(sockets[0].wait_closed())
