# SPDX-License-Identifier: MIT
"""Topics: subscribing, publishing, counting, slow subscribers, handlers that interfere."""

import gc
import time
from typing import Any, Callable, Dict, List, Tuple

import peer
import pytest
from common import TIMEOUT
from room import Room
from websockets.sync.client import connect

from pyws import App, CompressOptions, OpCode, SendStatus, WebSocket
from pyws._native import lib

# ---- subscribing --------------------------------------------------------------------------------

NAMES = ["news", "", "a\0b", "\0", "\u20ac/\U0001f600", " ", "x" * 1024, "\u20ac" * 341, "#", "*"]


def test_t64_any_str_is_a_topic(serve: Callable[..., Any]) -> None:
    with Room(serve) as room:
        (ws,) = room.sockets
        for number, name in enumerate(NAMES):
            assert room.call(ws.is_subscribed, name) is False
            assert room.call(ws.unsubscribe, name) is False
            assert room.call(ws.subscribe, name) is True
            assert room.call(ws.subscribe, name) is True
            assert room.call(ws.is_subscribed, name) is True
            assert room.count(name) == 1
            assert len(room.call(ws.get_topics)) == number + 1
        topics = room.call(ws.get_topics)
        assert sorted(topics) == sorted(NAMES)
        for name in NAMES:
            assert room.call(room.app.publish, name, name)
            assert room.clients[0].frame() == (True, 1, name.encode())
            assert room.call(ws.unsubscribe, name) is True
            assert room.call(ws.unsubscribe, name) is False
            assert not room.call(ws.is_subscribed, name)
            assert room.count(name) == 0
        assert room.call(ws.get_topics) == []


def test_for_each_topic_walks_over_a_snapshot(serve: Callable[..., Any]) -> None:
    seen: List[str] = []
    with Room(serve) as room:
        (ws,) = room.sockets

        def replace(topic: str) -> None:
            seen.append(topic)
            ws.unsubscribe(topic)
            ws.subscribe(topic + "!")

        names = [str(number) for number in range(50)]
        for name in names:
            room.call(ws.subscribe, name)
        room.call(ws.for_each_topic, replace)
        assert sorted(seen) == sorted(names)
        assert sorted(room.call(ws.get_topics)) == sorted(name + "!" for name in names)
        with pytest.raises(ZeroDivisionError):
            room.call(ws.for_each_topic, lambda topic: 1 / 0)
        for wrong in (None, "x"):
            with pytest.raises(TypeError, match="fn must be callable"):
                room.call(ws.for_each_topic, wrong)


def test_t73_wrong_names(serve: Callable[..., Any]) -> None:
    with Room(serve, max_topic_length=10) as room:
        (ws,) = room.sockets
        app = room.app
        of_socket: List[Callable[..., Any]] = [ws.subscribe, ws.unsubscribe, ws.is_subscribed]
        publishers: List[Callable[..., Any]] = [
            lambda topic: ws.publish(topic, "x"),
            lambda topic: app.publish(topic, "x"),
            app.num_subscribers,
        ]

        def refused() -> None:
            for call in of_socket + publishers:
                for wrong in (None, 5, ["news"], bytearray(b"x")):
                    with pytest.raises(TypeError, match="topic must be a str or bytes, not "):
                        room.call(call, wrong)
                with pytest.raises(ValueError, match="topic cannot be encoded"):
                    room.call(call, "\ud800")
                with pytest.raises(ValueError, match="topic must be UTF-8, not "):
                    room.call(call, b"\xff")
            for call in of_socket:
                for name in ("x" * 11, "\u20ac" * 4):
                    with pytest.raises(ValueError, match="more than max_topic_length, 10"):
                        room.call(call, name)
            for call in publishers:
                assert not room.call(call, "x" * 100_000)

        refused()
        for name in ("x" * 10, "\u20ac" * 3):
            assert room.call(ws.subscribe, name)
        room.call(ws.end)
        refused()


def test_t53_max_topics(serve: Callable[..., Any], caplog: pytest.LogCaptureFixture) -> None:
    with Room(serve, clients=2, max_topics=3) as room:
        one, two = room.sockets
        results = [room.call(one.subscribe, str(number)) for number in range(10)]
        assert results == [True] * 3 + [False] * 7
        assert room.call(one.subscribe, "0")
        assert room.call(two.subscribe, "9")
        assert [room.count(str(number)) for number in (2, 3, 9)] == [1, 0, 1]
        lines = [record.getMessage() for record in caplog.records]
        assert len(lines) == 1
        assert "max_topics" in lines[0]
        assert room.call(one.unsubscribe, "0")
        assert room.call(one.subscribe, "8")
        assert not room.call(one.subscribe, "0")


def test_topics_belong_to_the_app(serve: Callable[..., Any]) -> None:
    def configure(app: App) -> None:
        app.ws("/a", open=lambda ws: ws.subscribe("news"))
        app.ws("/b", open=lambda ws: ws.subscribe("news"))
        app.ws("/c", message=lambda ws, message, opcode: ws.publish("news", message))

    server, other = serve(configure), serve(configure)
    paths = [(server, "/a"), (server, "/b"), (server, "/c"), (other, "/a")]
    a, b, c, stranger = (peer.upgraded(to.port, path) for to, path in paths)
    with a, b, c, stranger:
        peer.eventually(lambda: server.call(server.app.num_subscribers, "news") == 2)
        peer.eventually(lambda: other.call(other.app.num_subscribers, "news") == 1)
        c.send(peer.frame(b"to all routes"))
        assert a.frame() == b.frame() == (True, 1, b"to all routes")
        other.call(other.app.publish, "news", "only this app")
        assert stranger.frame().payload == b"only this app"


# ---- publishing ---------------------------------------------------------------------------------

PUBLISHED: List[Tuple[Tuple[Any, ...], int, bytes]] = [
    (("text \u20ac",), 1, b"text \xe2\x82\xac"),
    (("",), 1, b""),
    ((b"\0\xff",), 2, b"\0\xff"),
    ((bytearray(b"\0\1"),), 2, b"\0\1"),
    ((memoryview(b"abcd")[1:3],), 2, b"bc"),
    (({"a": [1, None]},), 1, b'{"a":[1,null]}'),
    ((1.5,), 1, b"1.5"),
    ((True,), 1, b"true"),
    (("text", OpCode.BINARY), 2, b"text"),
    ((b"bytes", OpCode.TEXT), 1, b"bytes"),
    ((b"x", 1), 1, b"x"),
    (("plain where nothing was negotiated", None, True), 1, b"plain where nothing was negotiated"),
    ((b"x" * 70_000,), 2, b"x" * 70_000),
]


@pytest.mark.parametrize(("arguments", "opcode", "payload"), PUBLISHED)
def test_publish_takes_what_send_takes(
    serve: Callable[..., Any], arguments: Any, opcode: int, payload: bytes
) -> None:
    with Room(serve, clients=2) as room:
        room.subscribe(0, 1)
        assert room.call(room.app.publish, "news", *arguments) is True
        assert room.call(room.sockets[0].publish, "news", *arguments) is True
        for client in room.clients:
            assert client.frame() == client.frame() == (True, opcode, payload)


REFUSED: List[Tuple[Tuple[Any, ...], type]] = [
    ((None,), TypeError),
    ((object(),), TypeError),
    ((float("nan"),), ValueError),
    (("\ud800",), ValueError),
    ((b"\xff", OpCode.TEXT), ValueError),
    ((memoryview(b"abcd")[::2],), ValueError),
    (("x", OpCode.CONTINUATION), ValueError),
    (("x", OpCode.PING), ValueError),
    (("x", OpCode.PONG), ValueError),
    (("x", OpCode.CLOSE), ValueError),
    (("x", 3), ValueError),
    (("x", 0x101), ValueError),
    (("x", True), TypeError),
    (("x", "TEXT"), TypeError),
    (("x", None, 1), TypeError),
    (("x", None, None), TypeError),
]


def test_t73_wrong_publications_reach_nobody(serve: Callable[..., Any]) -> None:
    with Room(serve) as room:
        (ws,) = room.sockets
        room.subscribe(0)

        def refused() -> None:
            for arguments, kind in REFUSED:
                for publish in (room.app.publish, ws.publish):
                    with pytest.raises(kind):
                        room.call(publish, "news", *arguments)
            for wrong in (1, None, "yes"):
                with pytest.raises(TypeError, match="exclude_self must be True or False"):
                    room.call(ws.publish, "news", "x", None, False, wrong)

        refused()
        room.call(ws.publish, "news", "fine")
        assert room.clients[0].frame() == (True, 1, b"fine")
        room.call(ws.close)
        refused()


def test_publish_tells_whether_anybody_gets_it(serve: Callable[..., Any]) -> None:
    with Room(serve, clients=2) as room:
        one, two = room.sockets
        assert room.call(room.app.publish, "news", "x") is False
        assert room.call(one.publish, "news", "x") is False
        room.subscribe(0)
        assert room.call(one.publish, "news", "to myself") is True
        assert room.call(lambda: one.publish("news", "x", exclude_self=True)) is False
        assert room.call(lambda: two.publish("news", "from two", exclude_self=True)) is True
        room.subscribe(1)
        assert room.call(lambda: two.publish("news", "again", exclude_self=True)) is True
        room.call(room.app.publish, "news", "to all")
        for text in (b"to myself", b"from two", b"again", b"to all"):
            assert room.clients[0].frame().payload == text
        assert room.clients[1].frame().payload == b"to all"


def test_published_and_sent_keep_their_order(serve: Callable[..., Any]) -> None:
    """Section 4: publish then send, publish then end(), published before unsubscribe (T63)."""
    with Room(serve) as room:
        (ws,) = room.sockets
        room.subscribe(0)

        def work() -> None:
            for number in range(20):
                ws.send(f"{number} sent")
                room.app.publish("news", f"{number} published")
                ws.publish("news", b"x" * 20_000)
            ws.unsubscribe("news")
            assert not room.app.publish("news", "too late")
            ws.subscribe("news")
            ws.publish("news", "last words")
            ws.end(4000, "bye")
            assert not ws.publish("news", "closed")
            assert not room.app.publish("news", "closed")

        room.call(work)
        (client,) = room.clients
        for number in range(20):
            assert client.frame() == (True, 1, b"%d sent" % number)
            assert client.frame() == (True, 1, b"%d published" % number)
            assert client.frame() == (True, 2, b"x" * 20_000)
        assert client.frame().payload == b"last words"
        assert client.frame() == (True, 8, b"\x0f\xa0bye")


def test_published_and_fragments(serve: Callable[..., Any]) -> None:
    """SPEC 1.2: a publish between fragments waits for the last one."""
    with Room(serve) as room:
        (ws,) = room.sockets
        room.subscribe(0)

        def work() -> None:
            ws.send_first_fragment("a")
            assert room.app.publish("news", "held")
            assert ws.get_buffered_amount() >= 6
            ws.send_last_fragment("b")

        room.call(work)
        frames = [room.clients[0].frame() for _ in range(3)]
        assert frames == [(False, 1, b"a"), (True, 0, b"b"), (True, 1, b"held")]


@pytest.mark.skipif(not lib.ws_compression_available(), reason="built without compression")
def test_publish_compressed(serve: Callable[..., Any]) -> None:
    text = "publish this, and publish this again; " * 50
    server = serve(
        open=lambda ws: ws.subscribe("news"), compression=CompressOptions.SHARED_COMPRESSOR
    )
    with connect(server.url) as one, connect(server.url, compression=None) as two:
        peer.eventually(lambda: server.call(server.app.num_subscribers, "news") == 2)
        for compress in (True, False, True):
            assert server.call(server.app.publish, "news", text, None, compress)
            assert one.recv(TIMEOUT) == two.recv(TIMEOUT) == text
    with peer.upgraded(server.port, "/", [("Sec-WebSocket-Extensions", "permessage-deflate")]) as c:
        peer.eventually(lambda: server.call(server.app.num_subscribers, "news") == 1)
        server.call(server.app.publish, "news", text, None, True)
        assert len(c.frame().payload) < 100


# ---- the subscription handler -------------------------------------------------------------------


def test_s15_subscription_handler(serve: Callable[..., Any]) -> None:
    seen: List[Tuple[Any, ...]] = []
    with Room(serve, clients=2, subscription=lambda *args: seen.append(args)) as room:
        one, two = room.sockets
        for call in (one.subscribe, one.subscribe, two.subscribe, one.unsubscribe, one.unsubscribe):
            room.call(call, "\u20ac")
        room.call(two.subscribe, "")
        assert seen == [
            (one, "\u20ac", 1, 0),
            (two, "\u20ac", 2, 1),
            (one, "\u20ac", 1, 2),
            (two, "", 1, 0),
        ]
        assert {tuple(map(type, args)) for args in seen} == {(WebSocket, str, int, int)}


ENDINGS: Dict[str, Callable[[Room], Any]] = {
    "end": lambda room: room.call(room.sockets[0].end, 1000),
    "close": lambda room: room.call(room.sockets[0].close),
    "peer": lambda room: room.clients[0].send(peer.close_frame(1000)),
    "eof": lambda room: room.clients[0].socket.close(),
    "reset": lambda room: room.clients[0].reset(),
    "broken rule": lambda room: room.clients[0].send(b"\xff\xff"),
}


@pytest.mark.parametrize("how", sorted(ENDINGS))
def test_s15_s42_subscriptions_end_before_close(serve: Callable[..., Any], how: str) -> None:
    seen: List[Any] = []

    def on_subscription(ws: WebSocket, topic: str, now: int, before: int) -> None:
        assert room.app.num_subscribers(topic) == now
        if ws is room.sockets[0] and now < before:
            seen.append((topic, now, before))
            for call in (ws.subscribe, ws.unsubscribe, ws.is_subscribed):
                assert call(topic) is False
            assert room.app.publish("other", f"left {topic}")

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        if ws is not room.sockets[0]:
            return
        seen.append("close")
        assert ws.get_topics() == []
        for call in (ws.subscribe, ws.unsubscribe, ws.is_subscribed):
            assert call("both") is False
        assert ws.publish("other", "x") is False
        assert room.app.num_subscribers("both") == 1
        assert room.app.publish("other", "in close")
        seen.append("end of close")

    with Room(serve, clients=2, subscription=on_subscription, close=on_close) as room:
        for topic in ("alone", "both"):
            room.subscribe(0, topic=topic)
        for topic in ("both", "other"):
            room.subscribe(1, topic=topic)
        ENDINGS[how](room)
        peer.eventually(lambda: "end of close" in seen)
        assert sorted(seen[:2]) == [("alone", 0, 1), ("both", 1, 2)]
        assert seen[2:] == ["close", "end of close"]
        texts = [room.clients[1].frame().payload for _ in range(3)]
        assert sorted(texts[:2]) == [b"left alone", b"left both"]
        assert texts[2] == b"in close"
        assert room.call(room.sockets[0].get_topics) == []


def test_t71_a_failing_subscription_handler(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    closed: List[Any] = []

    def fail(*args: Any) -> None:
        raise KeyError("oops")

    with Room(serve, subscription=fail, close=lambda ws, *args: closed.append(args)) as room:
        assert room.call(room.sockets[0].subscribe, "news") is False
        assert closed == [(1011, "the subscription handler failed")]
        assert room.clients[0].frame().close_code == 1011
        assert room.count() == 0
    assert caplog.text.count("exception in the subscription handler") == 2


def test_t63_handlers_that_change_subscriptions(serve: Callable[..., Any]) -> None:
    """Subscribing and unsubscribing, oneself and others, inside of on_subscription."""

    def on_subscription(ws: WebSocket, topic: str, now: int, before: int) -> None:
        if topic == "a" and now > before:
            ws.unsubscribe("a")
        elif topic == "a":
            for other in room.sockets:
                other.subscribe("b")
        elif topic == "b" and now == 3:
            room.app.publish("b", "three")
        elif topic == "c" and now > before:
            ws.end(4000)

    with Room(serve, clients=3, subscription=on_subscription) as room:
        assert room.call(room.sockets[0].subscribe, "a") is False
        assert [room.count(topic) for topic in "abc"] == [0, 3, 0]
        for client in room.clients:
            assert client.frame() == (True, 1, b"three")
        assert room.call(room.sockets[1].subscribe, "c") is False
        assert [room.count(topic) for topic in "abc"] == [0, 2, 0]
        assert room.clients[1].frame().close_code == 4000


# ---- slow subscribers ---------------------------------------------------------------------------

LIMIT = 64 * 1024


def test_s36_t52_a_slow_subscriber_is_bounded(serve: Callable[..., Any]) -> None:
    """The one that does not read drops; the others get everything, in order."""
    dropped: List[Tuple[WebSocket, str]] = []
    drained: List[WebSocket] = []
    behavior = {
        "max_backpressure": LIMIT,
        "dropped": lambda ws, message, opcode: dropped.append((ws, message[:8])),
        "drain": drained.append,
    }
    with Room(serve, clients=3, **behavior) as room:
        slow, *fast = room.sockets
        room.subscribe(0, 1, 2)
        rounds = 0
        while len(dropped) < 20:
            text = f"{rounds:8}" + "x" * 30_000
            assert room.call(room.app.publish, "news", text)
            for client in room.clients[1:]:
                assert client.frame() == (True, 1, text.encode())
            assert room.call(slow.get_buffered_amount) <= LIMIT + len(text) + 14
            rounds += 1
            assert rounds < 5000, "the kernel takes everything"
        assert {ws for ws, _ in dropped} == {slow}
        assert [room.call(ws.get_buffered_amount) for ws in fast] == [0, 0]
        missed = {int(text) for _, text in dropped}
        for number in range(rounds):
            if number not in missed:
                assert int(room.clients[0].frame().payload[:8]) == number
        peer.eventually(lambda: slow in drained)
        assert room.call(slow.send, "again") == SendStatus.SUCCESS
        assert room.clients[0].frame().payload == b"again"


def test_s36_only_slow_subscribers(serve: Callable[..., Any]) -> None:
    """publish() is False when everybody dropped it."""
    with Room(serve, max_backpressure=1000) as room:
        room.subscribe(0)
        for _ in range(10_000):
            if not room.call(room.app.publish, "news", b"x" * 30_000):
                break
        else:
            raise AssertionError("never dropped")


def test_s36_close_on_backpressure_limit(serve: Callable[..., Any]) -> None:
    closed: List[Any] = []
    with Room(
        serve,
        clients=2,
        max_backpressure=LIMIT,
        close_on_backpressure_limit=True,
        close=lambda ws, code, reason: closed.append((ws, code)),
    ) as room:
        room.subscribe(0, 1)
        for _ in range(5000):
            room.call(room.app.publish, "news", b"x" * 30_000)
            assert len(room.clients[1].frame().payload) == 30_000
            if closed:
                break
        assert closed == [(room.sockets[0], 1008)]
        assert room.count() == 1


def test_t60_t63_dropped_closes_the_others_in_a_publish(serve: Callable[..., Any]) -> None:
    """A handler inside a publish publishes, leaves the topic, and closes all other sockets."""
    seen: List[str] = []
    closed: List[WebSocket] = []

    def on_dropped(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        if seen:
            seen.append("again")
            return
        seen.append("dropped")
        ws.unsubscribe("news")
        room.app.publish("news", "from dropped")
        for number, other in enumerate(room.sockets):
            if other is not ws:
                (other.close if number % 2 else other.end)()
        assert not room.app.publish("news", "nobody is left")
        assert room.app.num_subscribers("news") == 0

    behavior = {
        "max_backpressure": LIMIT,
        "dropped": on_dropped,
        "close": lambda ws, code, reason: closed.append(ws),
    }
    with Room(serve, clients=12, **behavior) as room:
        slow = room.sockets[5]
        room.subscribe(*range(12))

        def fill() -> None:
            while slow.send(b"x" * 30_000) != SendStatus.BACKPRESSURE:
                pass
            while slow.get_buffered_amount() + 30_004 <= LIMIT:
                slow.send(b"x" * 30_000)
            room.app.publish("news", b"y" * 50_000)

        room.call(fill)
        peer.eventually(lambda: len(closed) == 11)
        assert seen == ["dropped"]
        assert slow not in closed
        assert len(set(closed)) == 11
        for number in range(0, 12, 2):  # who was subscribed at the time of the publish got it
            client = room.clients[number]
            frames = [client.frame() for _ in range(3)]
            assert [len(frame.payload) for frame in frames] == [50_000, len("from dropped"), 2]
            assert frames[-1].close_code == 1000


def test_t60_a_handler_closes_every_other_socket(serve: Callable[..., Any]) -> None:
    """In a loop over all sockets that sends to each; their messages wait in the same batch."""
    closed: List[WebSocket] = []
    messages: List[WebSocket] = []

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        messages.append(ws)
        ws.publish("news", "goodbye")
        for other in room.sockets:
            if other is not ws:
                other.close()
                assert other.send("x") == SendStatus.DROPPED
        ws.unsubscribe("news")
        ws.send("done")

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        closed.append(ws)
        for other in room.sockets:  # closes the ones that on_message is about to close
            if other is not messages[0]:
                other.close()

    with Room(serve, clients=40, message=on_message, close=on_close) as room:
        room.subscribe(*range(40))

        def flood() -> None:  # the server is busy here: all messages are there when it reads
            for client in room.clients:
                client.send(peer.frame(b"x"))
            time.sleep(0.05)

        room.call(flood)
        peer.eventually(lambda: len(closed) == 39)
        assert len(messages) == 1
        winner = room.sockets.index(messages[0])
        frames = [room.clients[winner].frame(), room.clients[winner].frame()]
        assert frames == [(True, 1, b"goodbye"), (True, 1, b"done")]
        assert len(set(closed)) == 39
        assert room.count() == 0


# ---- lifetimes ----------------------------------------------------------------------------------


def test_s42_t53_everything_is_freed_on_close(serve: Callable[..., Any]) -> None:
    memory: List[int] = []
    server = serve(
        open=lambda ws: [ws.subscribe(f"{number}/{ws.id}") for number in range(500)],
        message=lambda ws, message, opcode: [ws.send(b"x" * 60_000) for _ in range(100)],
    )
    for _ in range(5):
        clients = [peer.upgraded(server.port, more=peer.frame(b"x")) for _ in range(4)]
        peer.eventually(lambda: server.call(server.app.stats)["open"] == 4)
        for client in clients:
            client.reset()
        peer.eventually(lambda: server.call(server.app.stats)["connections"] == 0)
        memory.append(server.call(server.app.stats)["memory"])
    assert memory[-1] <= memory[0]


def test_t65_subscribers_that_reset(serve: Callable[..., Any]) -> None:
    with Room(serve, clients=50, open=lambda ws: ws.subscribe("news")) as room:
        for client in room.clients[:-1]:
            client.reset()
        for number in range(20):
            assert room.call(room.app.publish, "news", b"%d" % number * 15_000)
            assert room.clients[-1].frame().payload == b"%d" % number * 15_000
        room.wait_for_count(1)


def test_t70_collected_while_subscribed(serve: Callable[..., Any]) -> None:
    with Room(serve, open=lambda ws: ws.subscribe("news")) as room:
        room.sockets[:] = [None]  # type: ignore[list-item]
        gc.collect()
        assert room.call(room.app.publish, "news", "alive")
        assert room.clients[0].frame().payload == b"alive"
