# SPDX-License-Identifier: MIT
"""The WebSocket object: events, sending, backpressure."""

import math
import threading
import weakref
from typing import Any, Callable, Dict, List

import peer
import pytest
from common import TIMEOUT
from handlers import echo, open_socket
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect

from pyws import OpCode, SendStatus, WebSocket

# ---- messages -----------------------------------------------------------------------------------


def test_s9_text_is_str_and_binary_is_bytes(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        seen.append((message, opcode, type(opcode)))
        ws.send(message, opcode)

    server = serve(message=on_message)
    with connect(server.url) as client:
        for message in ("h\u00e9llo \U0001f600", b"\0\xff\0", "", b"", "a\0b"):
            client.send(message)
            assert client.recv(TIMEOUT) == message
    assert [item[:2] for item in seen] == [
        ("h\u00e9llo \U0001f600", OpCode.TEXT),
        (b"\0\xff\0", OpCode.BINARY),
        ("", OpCode.TEXT),
        (b"", OpCode.BINARY),
        ("a\0b", OpCode.TEXT),
    ]
    assert {item[2] for item in seen} == {OpCode}


def test_s9_fragments_arrive_whole(serve: Callable[..., Any]) -> None:
    server = serve(message=echo)
    with connect(server.url) as client:
        client.send(["a", "\u20ac", "c"])
        assert client.recv(TIMEOUT) == "a\u20acc"


def test_s13_payload_limit_is_exact(serve: Callable[..., Any]) -> None:
    limit = 16 * 1024 * 1024
    closed: List[Any] = []
    server = serve(
        message=lambda ws, message, opcode: ws.send(str(len(message))),
        close=lambda ws, code, reason: closed.append((code, reason)),
        max_payload_length=limit,
    )
    with connect(server.url, compression=None) as client:
        client.send(bytes(limit))
        assert client.recv(TIMEOUT) == str(limit)
        with pytest.raises(ConnectionClosed) as caught:
            client.send(bytes(limit + 1))
            client.recv(TIMEOUT)
        assert caught.value.rcvd is not None
        assert caught.value.rcvd.code == 1009
    peer.eventually(lambda: closed)
    assert closed[0][0] == 1009
    assert str(limit) in closed[0][1]


def test_s6_s23_open_may_send(serve: Callable[..., Any]) -> None:
    order: List[str] = []

    def on_open(ws: WebSocket) -> None:
        order.append("open")
        assert ws.send("Hello, world!") == SendStatus.SUCCESS

    server = serve(open=on_open, message=lambda ws, message, opcode: order.append(message))
    with peer.upgraded(server.port, more=peer.frame(b"early")) as client:
        assert client.frame() == (True, 1, b"Hello, world!")
    peer.eventually(lambda: len(order) == 2)
    assert order == ["open", "early"]


def test_ping_and_pong_handlers(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []
    _server, _ws, client = open_socket(
        serve,
        open=lambda ws: ws.ping(b"are you there"),
        ping=lambda ws, data: seen.append(("ping", data)),
        pong=lambda ws, data: seen.append(("pong", data)),
    )
    with client:
        assert client.frame() == (True, 9, b"are you there")
        client.send(peer.frame(b"yes", 10) + peer.frame(b"\0\xff", 9))
        assert client.frame() == (True, 10, b"\0\xff")
    assert seen == [("pong", b"yes"), ("ping", b"\0\xff")]


def test_s25_one_object_per_connection(serve: Callable[..., Any]) -> None:
    seen: Dict[str, List[WebSocket]] = {name: [] for name in ("open", "message", "ping", "close")}
    server = serve(
        {name: lambda ws, *args, name=name: seen[name].append(ws) for name in seen},
    )
    with connect(server.url) as client:
        client.send("x")
        assert client.ping().wait(TIMEOUT)
    peer.eventually(lambda: seen["close"])
    (ws,) = seen["open"]
    assert all(found == [ws] and found[0] is ws for found in seen.values())
    assert {ws: 5}[ws] == 5
    assert weakref.ref(ws)() is ws
    with pytest.raises(AttributeError):
        ws.unknown = 5  # type: ignore[attr-defined]


def test_s25_ids_and_paths(serve: Callable[..., Any]) -> None:
    seen: List[WebSocket] = []
    server = serve(open=seen.append)
    for path in ("/a", "/a%20b?x=1"):
        with peer.upgraded(server.port, path):
            pass
    peer.eventually(lambda: len(seen) == 2)
    assert [ws.path for ws in seen] == ["/a", "/a%20b"]
    assert seen[0].id != seen[1].id
    assert 0 not in (seen[0].id, seen[1].id)
    assert "WebSocket" in repr(seen[0])


# ---- send ---------------------------------------------------------------------------------------

SENT = [
    # arguments, opcode on the wire, payload
    (("text \u20ac",), 1, b"text \xe2\x82\xac"),
    ((b"\0\1",), 2, b"\0\1"),
    ((bytearray(b"\0\1"),), 2, b"\0\1"),
    ((memoryview(b"abcd")[1:3],), 2, b"bc"),
    ((memoryview(b"abcd").cast("H"),), 2, b"abcd"),
    (({"a": [1, None]},), 1, b'{"a":[1,null]}'),
    (([1, "x"],), 1, b'[1,"x"]'),
    (((1, 2),), 1, b"[1,2]"),
    ((5,), 1, b"5"),
    ((1.5,), 1, b"1.5"),
    ((True,), 1, b"true"),
    (("text", OpCode.BINARY), 2, b"text"),
    ((b"bytes", OpCode.TEXT), 1, b"bytes"),
    ((bytearray(b"caf\xc3\xa9"), OpCode.TEXT), 1, b"caf\xc3\xa9"),
    ((b"x", 1), 1, b"x"),
    (({}, OpCode.BINARY), 2, b"{}"),
    (("", OpCode.TEXT, False, True), 1, b""),
    (("later", OpCode.TEXT, True), 1, b"later"),
    (("data", OpCode.PING), 9, b"data"),
    ((b"x" * 125, OpCode.PONG), 10, b"x" * 125),
    ((OpCode.TEXT,), 1, b"1"),
]


@pytest.mark.parametrize(("arguments", "opcode", "payload"), SENT)
def test_s29_send(serve: Callable[..., Any], arguments: Any, opcode: int, payload: bytes) -> None:
    server, ws, client = open_socket(serve)
    with client:
        status = server.call(ws.send, *arguments)
        assert status is SendStatus.SUCCESS
        assert client.frame() == (True, opcode, payload)


def test_send_takes_subclasses(serve: Callable[..., Any]) -> None:
    class Text(str):
        pass

    class Data(bytes):
        pass

    server, ws, client = open_socket(serve)
    with client:
        server.call(ws.send, Text("text"), 1)
        server.call(ws.send, Data(b"data"))
        assert [client.frame()[1:], client.frame()[1:]] == [(1, b"text"), (2, b"data")]


REFUSED = [
    ((None,), TypeError),
    ((object(),), TypeError),
    (({1, 2},), TypeError),
    (({"a": object()},), TypeError),
    ((1j,), TypeError),
    ((math.nan,), ValueError),
    (([math.inf],), ValueError),
    (("\ud800",), ValueError),
    (("\ud800", OpCode.TEXT), ValueError),
    (("\ud800", OpCode.BINARY), ValueError),
    ((b"\xff", OpCode.TEXT), ValueError),
    ((b"\xed\xa0\x80", OpCode.TEXT), ValueError),
    ((bytearray(b"\xff"), OpCode.TEXT), ValueError),
    ((memoryview(b"abcd")[::2],), ValueError),
    (("x", OpCode.CLOSE), ValueError),
    (("x", 3), ValueError),
    (("x", -1), ValueError),
    (("x", 2**64), ValueError),
    (("x", 1.0), TypeError),
    (("x", "TEXT"), TypeError),
    (("x", True), TypeError),
    (("x" * 126, OpCode.PING), ValueError),
    ((b"x" * 126, OpCode.PONG), ValueError),
    (("x", OpCode.PING, True), ValueError),
    (("x", OpCode.PONG, False, False), ValueError),
    (("x", OpCode.TEXT, "yes"), TypeError),
    (("x", OpCode.TEXT, 1), TypeError),
    (("x", OpCode.TEXT, None), TypeError),
    (("x", OpCode.TEXT, False, 1), TypeError),
    (("x", OpCode.TEXT, False, None), TypeError),
]


def test_t73_wrong_arguments_send_nothing(serve: Callable[..., Any]) -> None:
    server, ws, client = open_socket(serve)
    with client:
        for arguments, kind in REFUSED:
            with pytest.raises(kind):
                server.call(ws.send, *arguments)
        with pytest.raises(ValueError, match=r"end\(code, reason\)"):
            server.call(ws.send, "x", OpCode.CLOSE)
        with pytest.raises(ValueError, match="contiguous"):
            server.call(ws.send, memoryview(b"abcd")[::2])
        server.call(ws.send, "fine")
        assert client.frame() == (True, 1, b"fine")
    peer.eventually(lambda: ws.closed)
    for arguments, kind in REFUSED:
        with pytest.raises(kind):
            server.call(ws.send, *arguments)


def test_f18_fragments(serve: Callable[..., Any]) -> None:
    server, ws, client = open_socket(serve)
    with client:
        assert server.call(ws.send_first_fragment, "a") == SendStatus.SUCCESS
        assert server.call(ws.send_fragment, "\u20ac".encode()[:1]) == SendStatus.SUCCESS
        assert server.call(ws.send_fragment, "\u20ac".encode()[1:]) == SendStatus.SUCCESS
        assert server.call(ws.send_last_fragment) == SendStatus.SUCCESS
        server.call(ws.send, b"x", None, False, False)
        server.call(ws.send, b"\xff", OpCode.CONTINUATION, False, False)
        server.call(ws.send, "z", OpCode.CONTINUATION)
        assert [client.frame() for _ in range(7)] == [
            (False, 1, b"a"),
            (False, 0, b"\xe2"),
            (False, 0, b"\x82\xac"),
            (True, 0, b""),
            (False, 2, b"x"),
            (False, 0, b"\xff"),
            (True, 0, b"z"),
        ]


def test_fragments_in_the_wrong_order(serve: Callable[..., Any]) -> None:
    server, ws, client = open_socket(serve)
    with client:
        for method in (ws.send_fragment, ws.send_last_fragment):
            with pytest.raises(RuntimeError, match="order"):
                server.call(method, "x")
        server.call(ws.send_first_fragment, b"x")
        with pytest.raises(RuntimeError, match="order"):
            server.call(ws.send_first_fragment, b"x")
        for arguments, kind in [
            (("x", OpCode.PING), ValueError),
            (("x", OpCode.CONTINUATION), ValueError),
            (("x", OpCode.CLOSE), ValueError),
            ((b"\xff", OpCode.TEXT), ValueError),
            (("x", OpCode.TEXT, 1), TypeError),
            ((None,), TypeError),
        ]:
            with pytest.raises(kind):
                server.call(ws.send_first_fragment, *arguments)
        server.call(ws.send_last_fragment, b"y")
        assert [client.frame(), client.frame()] == [(False, 2, b"x"), (True, 0, b"y")]


def test_text_fragments_are_validated_over_their_borders(serve: Callable[..., Any]) -> None:
    server, ws, client = open_socket(serve)
    with client:
        server.call(ws.send_first_fragment, b"\xe2\x82", OpCode.TEXT)
        with pytest.raises(ValueError, match="UTF-8"):
            server.call(ws.send_fragment, b"x")
        with pytest.raises(ValueError, match="UTF-8"):
            server.call(ws.send_last_fragment, b"")
        server.call(ws.send_last_fragment, b"\xac")
        assert [client.frame(), client.frame()] == [(False, 1, b"\xe2\x82"), (True, 0, b"\xac")]


def test_cork(serve: Callable[..., Any]) -> None:
    server, ws, client = open_socket(serve)

    def work(same: WebSocket) -> None:
        assert same is ws
        for number in range(3):
            assert ws.send(str(number)) == SendStatus.SUCCESS
        assert ws.get_buffered_amount() == 0, "nothing was refused"

    with client:
        server.call(ws.cork, work)
        assert [client.frame().payload for _ in range(3)] == [b"0", b"1", b"2"]
        assert server.call(ws.cork_send, "x", OpCode.BINARY) is SendStatus.SUCCESS
        assert client.frame() == (True, 2, b"x")
        with pytest.raises(ZeroDivisionError):
            server.call(ws.cork, lambda ws: 1 / 0)
        server.call(ws.send, "still there")
        assert client.frame().payload == b"still there"
        server.call(ws.cork_end, 4000, "bye")
        assert client.frame() == (True, 8, b"\x0f\xa0bye")
        for wrong in (None, 5):
            with pytest.raises(TypeError):
                server.call(ws.cork, wrong)


def test_messages_before_a_reset_are_handled(serve: Callable[..., Any]) -> None:
    """3,000 messages and a Close in one go, then the client leaves with unread answers (T36)."""
    left = threading.Event()
    seen: List[str] = []
    closed: List[Any] = []

    def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        assert left.wait(TIMEOUT)
        seen.append(message)
        ws.send(message)

    server = serve(
        message=on_message, close=lambda ws, code, reason: closed.append((code, reason, ws.closed))
    )
    client = peer.upgraded(server.port)
    client.send(
        b"".join(peer.frame(b"%d" % i) for i in range(3000)) + peer.close_frame(4000, b"bye")
    )
    client.reset()
    left.set()
    peer.eventually(lambda: closed)
    assert seen == [str(i) for i in range(3000)]
    assert closed == [(4000, "bye", True)]


def test_s28_a_loop_of_sends_ends_where_the_peer_is_gone(serve: Callable[..., Any]) -> None:
    left = threading.Event()
    closed: List[Any] = []

    def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        assert left.wait(TIMEOUT)
        while ws.get_buffered_amount() < 50_000:
            ws.send(b"x" * 1000)

    server = serve(message=on_message, close=lambda ws, *args: closed.append(args))
    client = peer.upgraded(server.port)
    client.send(peer.frame(b"go") * 20)
    client.reset()
    left.set()
    peer.eventually(lambda: closed)
    assert closed == [(1006, "connection reset by peer")]


# ---- backpressure -------------------------------------------------------------------------------


def test_s28_s29_s31_s33_backpressure_and_drain(serve: Callable[..., Any]) -> None:
    drained: List[int] = []
    server, ws, client = open_socket(
        serve, max_backpressure=0, drain=lambda ws: drained.append(ws.get_buffered_amount())
    )
    with client:
        chunk = b"x" * 65536

        def fill() -> int:
            assert ws.get_buffered_amount() == 0
            for sent in range(1, 2000):
                if ws.send(chunk) == SendStatus.BACKPRESSURE:
                    assert ws.get_buffered_amount() > 0
                    return sent
            raise AssertionError("the kernel takes everything")

        sent = server.call(fill)
        assert not drained
        received = [client.frame() for _ in range(sent)]
        assert received == [(True, 2, chunk)] * sent
        peer.eventually(lambda: drained)
        assert drained == [0]
        assert server.call(ws.get_buffered_amount) == 0


def test_s34_s35_s37_dropped_above_the_limit(serve: Callable[..., Any]) -> None:
    dropped: List[Any] = []
    limit = 100_000
    server, ws, client = open_socket(
        serve,
        max_backpressure=limit,
        dropped=lambda ws, message, opcode: dropped.append((message, opcode)),
    )
    with client:

        def fill() -> List[SendStatus]:
            statuses: List[SendStatus] = []
            while not statuses or statuses[-1] != SendStatus.DROPPED:
                before = ws.get_buffered_amount()
                statuses.append(ws.send("x" * 50_000))
            assert ws.get_buffered_amount() == before
            assert before <= limit
            return statuses

        statuses = server.call(fill)
        assert dropped == [("x" * 50_000, OpCode.TEXT)]
        assert type(dropped[0][1]) is OpCode
        assert SendStatus.BACKPRESSURE in statuses
        for _ in statuses[:-1]:
            assert len(client.frame().payload) == 50_000
        server.call(ws.send, "end")
        assert client.frame().payload == b"end"


def test_text_after_a_dropped_first_fragment(serve: Callable[..., Any]) -> None:
    """Half a character of it, which was dropped, has no other half."""
    server, ws, client = open_socket(serve, max_backpressure=100_000)

    def send() -> None:
        while ws.send("x" * 50_000) != SendStatus.DROPPED:
            pass
        half = b"x" * 100_000 + b"\xe2"
        assert ws.send_first_fragment(half, OpCode.TEXT) == SendStatus.DROPPED
        assert ws.send_fragment("a") == SendStatus.DROPPED
        assert ws.send_last_fragment("b") == SendStatus.DROPPED
        with pytest.raises(RuntimeError, match="order"):
            ws.send_fragment("c")

    with client:
        server.call(send)
