# SPDX-License-Identifier: MIT
"""Apps that are connected by a message broker, which is in memory here."""

import asyncio
import logging
import os
import random
import re
from typing import Any, Dict, List, Tuple

import pytest
from coroutines import in_loop, until
from memory_broker import Hub, MemoryBroker, Node

from pyws import App, AppOptions
from pyws._core import envelope, link
from pyws._core.places import public_url
from pyws._native import lib
from pyws.brokers import Broker

pytest.importorskip("websockets")


def pair(**options: Any) -> Tuple[Hub, Node, Node]:
    hub = Hub()
    return hub, Node(MemoryBroker(hub), **options), Node(MemoryBroker(hub), **options)


# ---- messages -----------------------------------------------------------------------------------


@in_loop
async def test_b1_what_one_app_publishes_reaches_the_subscribers_of_another() -> None:
    _, one, other = pair()
    async with one.running(), other.running():
        await other.client("a", "news", "alt")
        await other.settled()
        assert one.app.publish("news", "text") is False  # no subscriber here
        one.app.publish("news", b"\x00\xff")
        one.app.publish("alt", {"a": 1}, compress=True)
        await until(lambda: other.stats["received"] == 3)
        assert await other.got("a") == ["text", b"\x00\xff", '{"a":1}']
        await one.settled()
        assert one.stats["published"] == 3
        assert one.stats["received"] == other.stats["published"] == 0


@in_loop
async def test_a_socket_publishes_like_an_app() -> None:
    _, one, other = pair()
    async with one.running(), other.running():
        for node in (one, other):
            await node.client("a", "topic")
            await node.settled()
        one.sockets["a"].publish("topic", "to others", exclude_self=True)
        one.sockets["a"].publish("topic", "to all")
        await until(lambda: other.stats["received"] == 2)
        assert await one.got("a") == ["to all"]
        assert await other.got("a") == ["to others", "to all"]


@in_loop
async def test_b2_what_an_app_publishes_does_not_come_back() -> None:
    hub, one, _ = pair()
    async with one.running():
        await one.client("a", "topic")
        await one.settled()
        one.app.publish("topic", "once")
        await until(lambda: len(hub.published) == 1)
        assert await one.got("a") == ["once"]
        assert one.stats["ignored"] == one.stats["received"] == 0


@in_loop
async def test_b2_order_and_once_against_a_model() -> None:
    """Each subscriber gets what it should, once, in the order of each publisher."""
    chance = random.Random(16)
    hub = Hub()
    nodes = [Node(MemoryBroker(hub)) for _ in range(3)]
    topics = [f"topic {number}" for number in range(7)]
    async with nodes[0].running(), nodes[1].running(), nodes[2].running():
        names = [(node, str(number)) for node in nodes for number in range(4)]
        for node, name in names:
            await node.client(name)
        for _ in range(6):
            for node, name in names:
                for topic in topics:
                    if chance.random() < 0.3:
                        ws = node.sockets[name]
                        (ws.unsubscribe if ws.is_subscribed(topic) else ws.subscribe)(topic)
            for node in nodes:
                await node.settled()
            expected: Dict[Tuple[Node, str], List[str]] = {one: [] for one in names}
            for number in range(200):
                node, topic = chance.choice(nodes), chance.choice(topics)
                message = f"{nodes.index(node)} {number}"
                node.app.publish(topic, message)
                for receiver, name in names:
                    if receiver.sockets[name].is_subscribed(topic):
                        expected[receiver, name].append(message)
                if chance.random() < 0.2:
                    await asyncio.sleep(0)
            for node in nodes * 2:  # once all have published, all deliver
                await node.settled()
            for node, name in names:
                found = await node.got(name)
                assert sorted(found) == sorted(expected[node, name])
                for number in range(len(nodes)):
                    own = [one for one in found if one[0] == str(number)]
                    assert own == [one for one in expected[node, name] if one[0] == str(number)]
        assert all(node.stats["lost"] == node.stats["ignored"] == 0 for node in nodes)


@in_loop
async def test_b3_the_broker_knows_only_topics_that_have_subscribers() -> None:
    """Also if a topic comes and goes while the broker does not look."""
    hub, one, _ = pair()
    async with one.running():
        await one.client("a", "kept", "left")
        await one.client("b", "left")
        await one.settled()
        assert one.broker.topics == {b"kept", b"left"}
        one.sockets["a"].unsubscribe("left")
        await one.settled()
        assert one.broker.topics == {b"kept", b"left"}
        await one.clients["b"].close()
        await until(lambda: one.broker.topics == {b"kept"})
        before = len(one.broker.calls)
        one.sockets["a"].subscribe("brief")
        one.sockets["a"].unsubscribe("brief")
        one.sockets["a"].unsubscribe("kept")
        one.sockets["a"].subscribe("kept")
        await one.settled()
        assert one.broker.calls[before:] == []
        one.sockets["a"].publish("elsewhere", "x")  # not subscribed, but published
        await until(lambda: len(hub.published) == 1)


@in_loop
async def test_subscriptions_go_before_messages_of_the_same_time() -> None:
    _, one, _ = pair()
    async with one.running():
        await one.client("a")
        one.app.publish("topic", "1")
        one.sockets["a"].subscribe("topic")
        await until(lambda: len(one.broker.calls) == 2)
        assert [name for name, _ in one.broker.calls] == ["subscribe", "publish"]


@in_loop
async def test_topics_and_messages_may_contain_anything() -> None:
    _, one, other = pair()
    topics = ["\0", "a\0b", "*", "h?llo[ab]", "\\", " ", "", "é" * 5000, "x" * 65536]
    topics += ["a.b.>", "\r\n"]
    async with one.running(), other.running():
        await other.client("a", *topics)
        await other.settled()
        messages: List[Any] = []
        for topic in topics:
            messages += [
                b"\0" * 3,
                topic,
                "pyws\x01\x01\x01\0",
                b"",
                "x" * 65536,
                os.urandom(70000),
            ]
            for message in messages[-6:]:
                one.app.publish(topic, message)
        await until(lambda: other.stats["received"] == len(messages))
        assert await other.got("a") == messages


@in_loop
async def test_many_topics_go_in_portions() -> None:
    _, one, _ = pair()
    one.app.ws("/many/:name", max_topics=5000, open=lambda ws: one.sockets.update(many=ws))
    async with one.running():
        await one.client("a")
        import websockets

        one.clients["many"] = await websockets.connect(f"{one.place.url}/many/x")
        for number in range(2500):
            one.sockets["many"].subscribe(str(number))
        await one.settled()
        sizes = [len(topics) for name, topics in one.broker.calls if name == "subscribe"]
        assert sum(sizes) == 2500
        assert max(sizes) <= 1000


@in_loop
async def test_a_burst_is_delivered_later_and_in_order() -> None:
    """Also the messages before the end of the topic."""
    hub, one, _ = pair()
    async with one.running():
        client = await one.client("a", "topic")
        await one.settled()
        for number in range(100):
            hub.send(b"topic", envelope.head(ORIGIN, 1) + b"%d" % number)
        hub.send(b"topic", envelope.pack_end(ORIGIN, 4000, b"over"))
        assert one.stats["received"] < 101
        await until(lambda: one.stats["received"] == 101)
        messages = [await one.first("a") for _ in range(100)]
        assert messages == [str(number) for number in range(100)]
        await asyncio.wait_for(client.wait_closed(), 20)
        assert client.close_code == 4000


# ---- garbage ------------------------------------------------------------------------------------

ORIGIN = b"12345678"
GOOD = envelope.head(ORIGIN, 1) + b"good"
GARBAGE = [
    b"",
    b"pyws",
    b"hello, is anybody there?",
    GOOD[:15],
    b"pyws\x02" + GOOD[5:],  # another version
    b"Pyws" + GOOD[4:],
    GOOD[:5] + b"\x03" + GOOD[6:],  # another kind
    GOOD[:6] + b"\x08" + GOOD[7:],  # another opcode
    GOOD[:7] + b"\x02" + GOOD[8:],  # another flag
    envelope.head(ORIGIN, 1) + b"\xff",  # no UTF-8
    envelope.pack_end(ORIGIN, 1000, b"")[:17],
    envelope.pack_end(ORIGIN, 0xFFFF, b""),
    envelope.pack_end(ORIGIN, 1000, b"\xff"),
]


@in_loop
async def test_garbage_is_ignored_and_counted(caplog: pytest.LogCaptureFixture) -> None:
    hub, one, _ = pair()
    chance = random.Random(1)
    async with one.running():
        await one.client("a", "topic\n")
        await one.settled()
        for garbage in GARBAGE:
            hub.send(b"topic\n", garbage)
        for _ in range(2000):
            changed = bytearray(GOOD + b"\xff")
            changed[chance.randrange(len(GOOD))] = chance.randrange(256)
            hub.send(b"topic\n", bytes(changed))
        number = len(GARBAGE) + 2000
        await until(lambda: one.stats["ignored"] + one.stats["received"] == number)
        assert one.stats["ignored"] > 2000
        hub.send(b"topic\n", GOOD)
        await until(lambda: one.stats["ignored"] + one.stats["received"] == number + 1)
        assert (await one.got("a"))[-1] == "good"
        lines = [
            record.getMessage() for record in caplog.records if "ignored" in record.getMessage()
        ]
        assert len(lines) == 1
        assert "topic\\n" in lines[0]


def test_envelopes() -> None:
    for code in (1, 2, 0x101, 0x102):
        assert envelope.unpack(envelope.head(ORIGIN, code) + b"data") == (ORIGIN, code, b"data")
    end = envelope.pack_end(ORIGIN, 4000, b"bye")
    assert envelope.unpack(end) == (ORIGIN, 0, b"\x0f\xa0bye")
    assert end == b"pyws\x01\x02\x00\x00" + ORIGIN + b"\x0f\xa0bye"
    assert GOOD == b"pyws\x01\x01\x01\x00" + ORIGIN + b"good"
    assert envelope.new_origin() != envelope.new_origin()
    for garbage in GARBAGE[:9]:
        assert envelope.unpack(garbage) is None


# ---- failures -----------------------------------------------------------------------------------


@in_loop
async def test_b4_messages_wait_while_the_broker_is_away(caplog: pytest.LogCaptureFixture) -> None:
    """Local delivery goes on, subscriptions are restored, one line each is logged."""
    caplog.set_level(logging.INFO)
    hub, one, other = pair()
    async with one.running(), other.running():
        await one.client("a", "here")
        await other.client("a", "there")
        await other.settled()
        hub.crash()
        await until(lambda: one.ups == other.ups == [True, False])
        await until(lambda: min(one.broker.attempts, other.broker.attempts) > 1)
        caplog.clear()
        one.app.publish("here", "local")
        assert await one.first("a") == "local"
        one.app.publish("there", "1")
        other.sockets["a"].subscribe("new")
        other.sockets["a"].subscribe("brief")
        other.sockets["a"].unsubscribe("brief")
        assert one.stats["up"] == 0
        await until(lambda: one.broker.attempts > 3)
        assert [r.getMessage() for r in caplog.records if r.levelno > logging.DEBUG] == []
        one.app.publish("there", "2")
        await asyncio.sleep(0.02)
        assert one.stats["lag"] >= 10
        hub.is_down = False
        await until(lambda: other.ups == [True, False, True])
        assert other.broker.topics == {b"there", b"new"}
        one.app.publish("new", "3")
        await until(lambda: one.stats["queued"] == 0)
        assert one.ups == [True, False, True]
        for node in (one, other):
            assert node.stats["reconnects"] == 1
            assert node.stats["lost"] == node.stats["lag"] == 0
            assert node.stats["up"] == 1
        assert one.stats["published"] == 4
        lines = [r.getMessage() for r in caplog.records if r.levelno > logging.DEBUG]
        assert len([line for line in lines if "is back" in line]) == len(lines) == 2


@in_loop
async def test_b4_a_queue_that_is_full_loses_and_counts(caplog: pytest.LogCaptureFixture) -> None:
    hub, one, other = pair(broker_queue=65536)
    async with one.running(), other.running():
        await one.client("a", "topic")
        await other.client("b", "topic")
        for node in (one, other):
            await node.settled()
        hub.freeze()
        for number in range(500):
            one.app.publish("topic", f"{number:500}")
        assert one.stats["queued"] <= 65536
        lost = one.stats["lost"]
        assert 420 > lost > 380
        assert len(await one.got("a")) == 500
        hub.thaw()
        await until(lambda: one.stats["queued"] == 0)
        assert one.stats["published"] == 500 - lost
        await until(lambda: other.stats["received"] == 500 - lost)
        found = await other.got("b")
        assert [int(text) for text in found] == list(range(500 - lost))  # the first ones
        one.app.publish("topic", "x" * 65536)  # more than the queue
        assert one.stats["lost"] == lost + 1
        await asyncio.sleep(0)
    lines = [r.getMessage() for r in caplog.records if "broker_queue" in r.getMessage()]
    assert len(lines) == 2


@in_loop
async def test_messages_that_are_too_long_for_the_broker(caplog: pytest.LogCaptureFixture) -> None:
    hub, one, _ = pair()
    async with one.running():
        await one.client("a", "topic")
        await one.settled()
        one.app.publish("topic", "x" * 1000)  # it waits when the limit becomes known
        one.broker.max_size = 1000
        for text in ("x" * 984, "x" * 985, "x" * 1000, "y"):
            one.app.publish("topic", text)
        await until(lambda: len(hub.published) == 2)
        assert [len(text) for text in await one.got("a")] == [1000, 984, 985, 1000, 1]
        assert one.stats["lost"] == 3
        assert one.stats["queued"] == 0
    lines = [r.getMessage() for r in caplog.records if "is lost" in r.getMessage()]
    assert len(lines) == 1
    assert "of 1001 bytes is lost" in lines[0]
    assert lines[0].endswith("takes at most 1000 (logged once)")


@in_loop
async def test_a_batch_that_fails_is_lost_and_counted() -> None:
    hub, one, _ = pair()
    async with one.running():
        one.broker.fails = OSError("broken pipe")
        for number in range(7):
            one.app.publish("topic", str(number))
        await until(lambda: one.ups == [True, False, True])
        assert one.stats["lost"] == 7
        assert one.stats["published"] == one.stats["queued"] == 0
        one.app.publish("topic", "after")
        await until(lambda: len(hub.published) == 1)


@in_loop
async def test_b4_a_broker_that_does_not_answer_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "TIMEOUT", 0.1)
    hub, one, _ = pair()
    async with one.running():
        await one.client("a", "topic")
        await one.settled()
        hub.freeze()
        one.app.publish("topic", "lost")
        one.app.publish("topic", "lost")
        assert await one.got("a") == ["lost", "lost"]
        await until(lambda: one.ups == [True, False])
        assert one.stats["lost"] == 2
        one.app.publish("topic", "waits")
        hub.thaw()
        await until(lambda: one.ups == [True, False, True])
        await one.settled()
        assert one.stats["published"] == 1
        assert one.broker.closed >= 1


@in_loop
async def test_a_broker_that_is_not_there_yet(caplog: pytest.LogCaptureFixture) -> None:
    hub, one, _ = pair()
    hub.is_down = True
    async with one.running(up=False):
        await until(lambda: one.ups == [False])
        await one.client("a", "topic")
        one.app.publish("topic", "1")
        assert await one.got("a") == ["1"]
        hub.is_down = False
        await until(lambda: one.ups == [False, True])
        await one.settled()
        assert hub.published
    assert "MemoryBroker cannot be reached" in caplog.text
    assert "no broker is here" in caplog.text


@in_loop
async def test_b4_waits_grow_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    """Backoff with jitter: 0.1 to 5 seconds."""
    waits: List[float] = []

    async def pause(self: Any, seconds: float) -> None:
        waits.append(seconds)
        await asyncio.sleep(0)

    monkeypatch.setattr(link.Relay, "_pause", pause)
    hub, one, _ = pair()
    hub.is_down = True
    async with one.running(up=False):
        await until(lambda: len(waits) >= 40)
        hub.is_down = False
    for number, wait in enumerate(waits[:40]):
        longest = min(0.1 * 2**number, 5.0)
        assert longest / 2 <= wait <= longest
    assert len(set(waits[10:40])) > 10


# ---- the life of an app -------------------------------------------------------------------------


@in_loop
async def test_the_rest_is_sent_at_a_shutdown() -> None:
    hub = Hub()
    one = Node(MemoryBroker(hub))
    one.app.on_stop(lambda: one.app.publish("topic", "stopped"))
    async with one.running():
        await one.client("a")
        one.app.ws("/late", close=lambda ws, code, reason: one.app.publish("topic", "closed"))
        import websockets

        late = await websockets.connect(f"{one.place.url}/late")
        one.app.publish("topic", "1")
        one.app.close(timeout=1)
        await late.wait_closed()
    texts = [data[16:] for _, data in hub.published]
    assert texts == [b"1", b"closed", b"stopped"]
    assert not hub.members
    assert one.broker.closed == 1


@in_loop
async def test_a_frozen_broker_does_not_keep_a_shutdown_waiting(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub = Hub()
    one = Node(MemoryBroker(hub))
    loop = asyncio.get_running_loop()
    before = asyncio.all_tasks()
    async with one.running():
        hub.freeze()
        one.app.publish("topic", "1")
        await asyncio.sleep(0.01)
        one.app.publish("topic", "2")
        one.app.close(timeout=0)
        began = loop.time()
    assert loop.time() - began < 9
    assert one.stats["lost"] == 2
    assert "2 messages" in caplog.text
    assert asyncio.all_tasks() == before


@in_loop
async def test_an_app_runs_again() -> None:
    hub = Hub()
    one = Node(MemoryBroker(hub))
    before = asyncio.all_tasks()
    for number in range(3):
        async with one.app.serving({"host": "127.0.0.1"}):
            await until(lambda: one.ups == [True] * (number + 1))  # noqa: B023
            one.app.publish("topic", "x")
            await until(lambda: one.stats["published"] == number + 1)  # noqa: B023
    one.app.publish("topic", "between")  # no one relays it
    assert one.stats["queued"] == one.stats["lost"] == 0
    assert asyncio.all_tasks() == before


@in_loop
async def test_a_start_function_that_fails() -> None:
    hub = Hub()
    one = Node(MemoryBroker(hub))

    @one.app.on_start
    async def fail() -> None:
        one.app.publish("topic", "early")
        await asyncio.sleep(0.01)
        raise OSError("no database")

    before = asyncio.all_tasks()
    with pytest.raises(OSError, match="no database"):
        await one.app.serve({"host": "127.0.0.1"})
    assert asyncio.all_tasks() == before
    assert not hub.members
    assert [data[16:] for _, data in hub.published] == [b"early"]


@in_loop
async def test_serve_is_cancelled_twice() -> None:
    hub = Hub()
    one = Node(MemoryBroker(hub))
    hub.freeze()
    before = asyncio.all_tasks()
    task = asyncio.ensure_future(one.app.serve({"host": "127.0.0.1"}))
    await until(lambda: one.broker.attempts)
    one.app.publish("topic", "x")
    task.cancel()
    await asyncio.sleep(0.1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 20)
    assert asyncio.all_tasks() == before
    assert one.stats["lost"] == 1


def test_run_without_coroutine_handlers() -> None:
    """An app with a broker runs in asyncio."""
    hub = Hub()
    app = App(broker=MemoryBroker(hub))
    app.listen(0, host="127.0.0.1")
    seen: List[Any] = []

    @app.on_broker
    def on_broker(up: bool) -> None:
        seen.append((up, asyncio.get_running_loop()))
        app.publish("topic", "x")
        app.close()

    app.run()
    assert [up for up, _ in seen] == [True]
    assert len(hub.published) == 1


def test_a_loop_that_is_closed_while_the_app_runs() -> None:
    hub = Hub()
    one = Node(MemoryBroker(hub))
    loop = asyncio.new_event_loop()

    async def begin() -> None:
        tasks.append(loop.create_task(one.app.serve({"host": "127.0.0.1"})))
        await until(lambda: one.ups == [True])
        hub.freeze()
        one.app.publish("topic", "x")
        await asyncio.sleep(0.01)

    tasks: List[Any] = []
    loop.run_until_complete(begin())
    tasks += asyncio.all_tasks(loop)
    for task in tasks:
        task._log_destroy_pending = False
    loop.close()
    one.app.publish("topic", "y")
    one.app.call_later(1, print)  # finds out
    assert one.stats["lost"] == 2
    tasks.clear()


# ---- ends of topics -----------------------------------------------------------------------------


@in_loop
async def test_b6_the_end_of_a_topic_ends_its_connections_everywhere() -> None:
    _, one, other = pair()
    async with one.running(), other.running():
        await one.client("a", "room")
        await other.client("b", "room")
        await other.client("c", "elsewhere")
        for node in (one, other):
            await node.settled()
        reason = "gone: ü".encode()
        lib.ws_server_end_topic(one.app._runtime.server, b"room", 4, 4001, reason, len(reason))
        for client in (one.clients["a"], other.clients["b"]):
            await asyncio.wait_for(client.wait_closed(), 10)
            assert (client.close_code, client.close_reason) == (4001, "gone: ü")
        assert await other.got("c") == []


# ---- on_broker, stats, settings -----------------------------------------------------------------


@in_loop
async def test_what_an_on_broker_function_raises_is_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub, one, _ = pair()

    @one.app.on_broker
    def fail(up: bool) -> None:
        raise ValueError("oops")

    errors: List[Any] = []
    one.app.on_error(lambda error, source: errors.append((error, source)))
    async with one.running():
        one.app.publish("topic", "x")
        await until(lambda: hub.published)
    assert "exception in an on_broker function" in caplog.text
    assert [(str(error), source) for error, source in errors] == [("oops", None)]


def test_on_broker_takes_plain_functions_of_one_argument() -> None:
    app = App()

    async def coroutine(up: bool) -> None: ...

    with pytest.raises(TypeError, match="plain function"):
        app.on_broker(coroutine)
    with pytest.raises(TypeError, match="on_broker"):
        app.on_broker(lambda: None)  # type: ignore[type-var]
    with pytest.raises(TypeError):
        app.on_broker(1)  # type: ignore[type-var]
    app.on_broker(print)


@in_loop
async def test_metrics() -> None:
    _, one, _ = pair()
    assert not any("broker" in key for key in App().stats())
    assert "broker" not in App().metrics()
    async with one.running():
        one.app.publish("topic", "x")
        await one.settled()
        text = one.app.metrics()
    for name, value in (("published_total", "1"), ("up", "1"), ("lost_total", "0")):
        assert re.search(rf"^pyws_broker_{name} {value}$", text, re.M)
    assert re.search(r"^pyws_broker_lag_seconds 0(\.0)?$", text, re.M)


@pytest.mark.parametrize(
    ("value", "kind", "match"),
    [
        (1, TypeError, r'broker must be a URL like "redis://.*" or an object .*, not int'),
        (b"redis://x", TypeError, "not bytes"),
        (MemoryBroker, TypeError, "not the class MemoryBroker"),
        ("", ValueError, "broker must be a URL that begins with one of redis://.*no scheme"),
        ("localhost:6379", ValueError, "no scheme"),
        ("http://me:secret@host", ValueError, "nats://.*, not 'http://'"),
        (
            "REDIS://host",
            ValueError,
            "^broker must begin with 'redis://' in lower case, not 'REDIS://'",
        ),
        ("redis:/me:secret@host", ValueError, ".*tls://, but has no scheme$"),
    ],
)
def test_wrong_brokers(value: Any, kind: Any, match: str) -> None:
    with pytest.raises(kind, match=match) as info:
        App(broker=value)
    assert "secret" not in str(info.value)


def test_a_password_is_never_shown() -> None:
    options = AppOptions(broker="redis://me:secret@host:1/0?password=secret")
    assert "secret" not in repr(options)
    assert public_url("redis://me:secret@host:1/0?password=secret") == "redis://host:1/0"
    assert public_url("redis+unix://:p@/run/redis.sock?db=1") == "redis+unix:///run/redis.sock"
    assert public_url("nats://a:b@c@host") == "nats://host"
    for end in "/?#":  # not percent-encoded
        assert public_url(f"redis://me:sec{end}ret@host:1/0") == "redis://host:1/0"
        assert public_url(f"nats://sec{end}ret@host") == "nats://host"
    assert public_url("redis://host:1?prefix=a@b") == "redis://host:1"
    assert public_url("redis+unix:///run/a@b.sock") == "redis+unix:///run/a@b.sock"


def test_the_queue_has_a_size() -> None:
    with pytest.raises(ValueError, match="broker_queue must be from 65536 to"):
        App(broker_queue=1)


def test_a_broker_must_be_complete() -> None:
    class Half(Broker):
        async def connect(self, link: Any) -> None: ...

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]
