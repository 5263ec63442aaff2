# SPDX-License-Identifier: MIT
"""The WebSocket object: closing, and what holds after the end."""

import gc
import weakref
from typing import Any, Callable, List

import peer
import pytest
from common import TIMEOUT
from handlers import open_socket
from websockets.sync.client import connect

from pyws import OpCode, SendStatus, WebSocket

# ---- closing ------------------------------------------------------------------------------------


def closing(serve: Callable[..., Any], **behavior: Any) -> Any:
    closed: List[Any] = []

    def on_close(*args: Any) -> None:
        closed.append(args)

    return (*open_socket(serve, close=on_close, **behavior), closed)


@pytest.mark.parametrize(
    ("sent", "code", "reason"),
    [
        (peer.close_frame(1000, b"bye"), 1000, "bye"),
        (peer.close_frame(4999, "\u20ac".encode()), 4999, "\u20ac"),
        (peer.close_frame(3000), 3000, ""),
        (peer.frame(b"", 8), 1005, ""),
        (b"", 1006, ""),
    ],
    ids=["1000", "4999", "3000", "no code", "no frame"],  # frames have random masks
)
def test_s7_close_handler(serve: Callable[..., Any], sent: bytes, code: int, reason: str) -> None:
    _server, ws, client, closed = closing(serve)
    with client:
        client.send(sent)
        client.finish()
        peer.eventually(lambda: closed)
    assert len(closed) == 1
    assert closed[0][0] is ws
    assert closed[0][1] == code
    assert type(closed[0][1]) is int
    assert type(closed[0][2]) is str
    if sent:
        assert closed[0][2] == reason


@pytest.mark.parametrize(
    ("arguments", "wire", "seen"),
    [
        ((), b"\x03\xe8", (1000, "")),
        ((4000, "bye"), b"\x0f\xa0bye", (4000, "bye")),
        ((1000, b"bytes"), b"\x03\xe8bytes", (1000, "bytes")),
        ((0,), b"", (1005, "")),
        ((1005,), b"", (1005, "")),
        ((1000, "x" * 122 + "\u20ac"), b"\x03\xe8" + b"x" * 122, (1000, "x" * 122)),
    ],
)
def test_s27_t35_end(serve: Callable[..., Any], arguments: Any, wire: bytes, seen: Any) -> None:
    server, ws, client, closed = closing(serve)

    def work() -> None:
        ws.send("last words")
        ws.end(*arguments)
        assert closed == [(ws, *seen)]
        assert ws.closed
        ws.end(1000, "again")
        ws.close()

    with client:
        server.call(work)
        assert client.frame().payload == b"last words"
        assert client.frame() == (True, 8, wire)
        client.send(peer.frame(wire, 8))
        assert client.at_end()
    assert len(closed) == 1


@pytest.mark.parametrize("code", [999, 1004, 1006, 1015, 2999, 5000, True, "1000", None])
def test_t35_end_refuses(serve: Callable[..., Any], code: Any) -> None:
    server, ws, client, closed = closing(serve)
    with client:
        with pytest.raises((TypeError, ValueError)):
            server.call(ws.end, code)
        with pytest.raises(ValueError, match="UTF-8|encoded"):
            server.call(ws.end, 1000, "\ud800")
        assert not closed
        server.call(ws.send, "open")
        assert client.frame().payload == b"open"


def test_s27_close_is_hard(serve: Callable[..., Any]) -> None:
    server, ws, client, closed = closing(serve)

    def work() -> None:
        ws.terminate()
        assert [args[1] for args in closed] == [1006]
        ws.close()

    with client:
        server.call(work)
        assert client.at_end()
    assert len(closed) == 1


@pytest.mark.parametrize("how", ["end", "close"])
def test_s26_t61_no_message_after_the_end(serve: Callable[..., Any], how: str) -> None:
    messages: List[str] = []
    closed: List[int] = []

    def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        messages.append(message)
        getattr(ws, how)()
        assert closed == [1]

    server = serve(message=on_message, close=lambda ws, code, reason: closed.append(1))
    frames = b"".join(peer.frame(text) for text in (b"one", b"two", b"three"))
    with peer.upgraded(server.port) as client:
        client.send(frames)
        peer.eventually(lambda: closed)
        server.call(lambda: None)
    assert messages == ["one"]
    assert closed == [1]


def test_s26_none_after_end_in_open(serve: Callable[..., Any]) -> None:
    messages: List[str] = []
    server = serve(
        open=lambda ws: ws.end(4001, "no"),
        message=lambda ws, message, opcode: messages.append(message),
    )
    with peer.upgraded(server.port, more=peer.frame(b"early")) as client:
        assert client.frame() == (True, 8, b"\x0f\xa1no")
        client.send(peer.close_frame(4001))
        assert client.at_end()
    assert not messages


def test_s20_s25_t61_t62_a_closed_socket_is_safe(serve: Callable[..., Any]) -> None:
    inside: List[Any] = []

    def look(ws: Any) -> List[Any]:
        return [
            ws.closed,
            bool(ws),
            ws.send("x"),
            ws.send("x", OpCode.BINARY, True, False),
            ws.send_first_fragment("x"),
            ws.send_fragment("x"),
            ws.send_last_fragment("x"),
            ws.ping(),
            ws.cork_send("x"),
            ws.get_buffered_amount(),
            ws.end(),
            ws.cork_end(),
            ws.close(),
            ws.cork(lambda ws: None),
            ws.get_remote_address(),
            len(ws.get_remote_address_bytes()),
            ws.subscribe("x"),
            ws.unsubscribe("x"),
            ws.is_subscribed("x"),
            ws.publish("x", "y"),
            ws.get_topics(),
            ws.for_each_topic(lambda topic: 1 / 0),
            ws.pause(),
            ws.resume(),
            ws.latency,
        ]

    server, ws, client = open_socket(
        serve, close=lambda ws, code, reason: inside.append((look(ws), ws.remote_port))
    )
    dropped = SendStatus.DROPPED
    expected: List[Any] = [True, False, *[dropped] * 7, 0, None, None, None, None, "127.0.0.1", 4]
    expected += [False, False, False, False, [], None, None, None, None]
    with client:
        assert not ws.closed
        assert bool(ws)
        port = client.socket.getsockname()[1]
        server.call(ws.end)
        assert inside == [(expected, port)]
        assert server.call(look, ws) == expected
        assert server.call(ws.get_user_data) is None
        ws_repr = repr(ws)
        assert "closed" in ws_repr


def test_remote_address(serve: Callable[..., Any]) -> None:
    server, ws, client = open_socket(serve)
    with client:
        assert server.call(ws.get_remote_address) == "127.0.0.1"
        assert server.call(ws.get_remote_address_bytes) == b"\x7f\0\0\1"
        assert server.call(lambda: ws.remote_port) == client.socket.getsockname()[1]


def test_c9_t68_opens_and_closes_balance(serve: Callable[..., Any]) -> None:
    counts = {"open": 0, "close": 0}

    def count(name: str) -> Callable[..., None]:
        def handler(*args: Any) -> None:
            counts[name] += 1

        return handler

    server = serve(open=count("open"), close=count("close"))
    endings = (b"", peer.close_frame(1000), peer.frame(b"\xff"), b"\xff\xff", peer.frame(b"x")[:3])
    for number in range(50):
        with peer.upgraded(server.port, more=endings[number % len(endings)]):
            pass
    peer.eventually(lambda: counts["close"] == 50)
    assert counts == {"open": 50, "close": 50}
    stats = server.call(server.app.stats)
    assert (stats["opened"], stats["closed"], stats["open"]) == (50, 50, 0)


def test_t70_handlers_of_collected_objects(serve: Callable[..., Any]) -> None:
    class Room:
        def __init__(self) -> None:
            self.seen: List[Any] = []

        def open(self, ws: WebSocket) -> None:
            gc.collect()
            ws.send("hello")

        def message(self, ws: WebSocket, message: Any, opcode: OpCode) -> None:
            gc.collect()
            ws.send(message, opcode)

        def close(self, ws: WebSocket, code: int, reason: str) -> None:
            gc.collect()

    def configure(app: Any) -> None:
        room = Room()
        app.ws("/*", open=room.open, message=room.message, close=room.close)

    server = serve(configure)
    gc.collect()
    for _ in range(3):
        with connect(server.url) as client:
            assert client.recv(TIMEOUT) == "hello"
            client.send("x")
            assert client.recv(TIMEOUT) == "x"


def test_t70_sockets_are_collected(serve: Callable[..., Any]) -> None:
    references: List[Any] = []
    server = serve(open=lambda ws: references.append(weakref.ref(ws)))
    with peer.upgraded(server.port):
        peer.eventually(lambda: references)
        gc.collect()
        assert references[0]() is not None

    def gone() -> bool:
        gc.collect()
        return references[0]() is None

    peer.eventually(gone)


def test_s25_direct_calls_from_another_thread_are_refused(serve: Callable[..., Any]) -> None:
    _server, ws, client = open_socket(serve)
    calls: List[Callable[[], Any]] = [
        lambda: ws.send("x"),
        lambda: ws.send_first_fragment("x"),
        lambda: ws.end(),
        lambda: ws.close(),
        lambda: ws.ping(),
        lambda: ws.cork(lambda ws: None),
        lambda: ws.get_buffered_amount(),
        lambda: ws.get_remote_address(),
        lambda: ws.remote_port,
        lambda: setattr(ws, "user_data", 5),
    ]
    with client:
        for call in calls:
            with pytest.raises(RuntimeError, match="defer"):
                call()
