# SPDX-License-Identifier: MIT
"""Brokers that are away, and brokers with mistakes: what waits, and what log lines say."""

import asyncio
import socket
from typing import Any, List, Sequence, Tuple

import pytest
from broker_checks import lines_of
from coroutines import in_loop, in_thread, until
from memory_broker import Hub, MemoryBroker, Node
from nats_server import NatsServer

from pyws import App, publish_to
from pyws._core import aio, link
from pyws._core.outages import reason_of
from pyws.brokers import Broker

pytest.importorskip("websockets")


# ---- after an outage ----------------------------------------------------------------------------


class Late(MemoryBroker):
    """It does not come back before it may."""

    may_connect = True

    async def connect(self, link: Any) -> None:
        if not self.may_connect:
            raise ConnectionError("not yet")
        await super().connect(link)


@in_loop
async def test_b4_messages_wait_until_other_apps_are_back() -> None:
    """Whoever is back first would otherwise publish to no one; nothing overtakes."""
    hub = Hub()
    one, other = Node(MemoryBroker(hub)), Node(Late(hub))
    async with one.running(), other.running():
        await other.client("a", "topic")
        await other.settled()
        hub.crash()
        await until(lambda: one.ups[-1] is other.ups[-1] is False)
        one.app.publish("topic", "during")
        other.broker.may_connect = False
        hub.is_down = False
        await until(lambda: one.ups[-1])
        one.app.publish("topic", "after")
        other.broker.may_connect = True
        await until(lambda: other.ups[-1])
        one.app.publish("topic", "later")
        await one.settled()
        assert await other.got("a") == ["during", "after", "later"]
        assert one.app._runtime.relay._hold is None  # type: ignore[union-attr]
        one.app.publish("topic", "at once")
        assert await other.first("a") == "at once"


@in_loop
async def test_the_wait_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """By twice the time of the outage, by the longest delay, by half of the queue, by the end."""
    monkeypatch.setattr(link, "CONNECT_TIME", 3600)
    hub = Hub()
    one = Node(MemoryBroker(hub), broker_queue=65536)
    async with one.running():
        relay: Any = one.app._runtime.relay
        for away, delay, longest in ((0, 0.2, 0.4), (1, 0.2, 2), (1000, 5, 5)):
            relay._delay = delay
            relay._begin_hold(away)
            rest = relay._hold.when() - asyncio.get_running_loop().time()
            assert longest - 0.3 < rest - 3600 <= longest + 0.001
            relay._hold.cancel()
        one.app.publish("topic", "x")
        await asyncio.sleep(0.01)
        assert hub.published == []
        while not hub.published:
            assert one.app.stats()["broker_queued"] < 40000
            one.app.publish("topic", "x" * 1000)
            await asyncio.sleep(0)
        await until(lambda: one.app.stats()["broker_queued"] <= 32768)
        one.app.publish("topic", "last")
    assert hub.published[-1][1].endswith(b"last")
    assert one.stats["lost"] == 0


@in_loop
async def test_a_wait_ends_with_its_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "CONNECT_TIME", 3600)
    hub = Hub()
    one = Node(MemoryBroker(hub))
    before = asyncio.all_tasks()
    async with one.running():
        for count in (1, 2):
            hub.crash()
            await until(lambda: not one.ups[-1])
            relay: Any = one.app._runtime.relay
            assert relay._hold is None
            hub.is_down = False
            await until(lambda: one.ups[-1])
            assert relay._hold is not None
            one.app.publish("topic", str(count))
    assert relay._hold is None
    assert [data[16:] for _, data in hub.published] == [b"1", b"2"]
    assert asyncio.all_tasks() == before


@in_loop
async def test_each_reason_of_an_outage_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    hub = Hub()

    class Failing(MemoryBroker):
        async def connect(self, link: Any) -> None:
            self.attempts += 1
            if reasons:
                raise reasons[0]
            await super().connect(link)

    reasons: List[Exception] = []
    one = Node(Failing(hub))
    async with one.running():
        hub.crash()
        hub.is_down = False
        for reason in ("refused", "wrong password", "refused", "unknown host"):
            reasons[:] = [OSError(reason)]
            attempts = one.broker.attempts
            one.app._runtime.relay._delay = 0.0  # type: ignore[union-attr]
            await until(lambda: one.broker.attempts > attempts + 1)  # noqa: B023
        reasons.clear()
        await until(lambda: one.ups[-1])
    lines = [line for line in lines_of(caplog) if "the broker" in line]
    begin = "the broker Failing "
    assert lines[:4] == [
        f"{begin}is away, trying again; messages for it wait (broker_queue): "
        "the broker has crashed",
        f"{begin}is still away, now for another reason: refused",
        f"{begin}is still away, now for another reason: wrong password",
        f"{begin}is still away, now for another reason: unknown host",
    ]
    assert len(lines) == 5
    assert "is back" in lines[4]


@in_loop
async def test_reasons_that_always_differ(caplog: pytest.LogCaptureFixture) -> None:
    class Failing(MemoryBroker):
        async def connect(self, link: Any) -> None:
            self.attempts += 1
            app._runtime.relay._delay = 0.0  # type: ignore[union-attr]
            raise OSError(f"port {self.attempts}")

    broker = Failing(Hub())
    app = App(broker=broker)
    async with app.serving({"host": "127.0.0.1"}):
        await until(lambda: broker.attempts > 15)
    assert len([line for line in lines_of(caplog) if "port" in line]) == 10


@in_loop
async def test_b4_the_rest_is_sent_when_clients_have_used_the_time_of_a_shutdown(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What waits for the broker gets some more, up to a second."""
    monkeypatch.setattr(aio, "_GRACE", 60.0)
    hub = Hub()
    one = Node(MemoryBroker(hub))
    async with one.running():
        hub.freeze()
        one.app.publish("topic", "1")
        one.app.close(timeout=0.1)
        await asyncio.sleep(0.3)
        one.app.publish("topic", "2")
        hub.thaw()
        await until(lambda: not hub.members)
    assert [data[16:] for _, data in hub.published] == [b"1", b"2"]
    assert one.stats["lost"] == 0


# ---- mistakes in a Broker -----------------------------------------------------------------------


class LibraryError(Exception):
    """What a package for a broker raises."""


LibraryError.__module__ = "library"


@pytest.mark.parametrize("where", ["connect", "subscribe", "publish"])
@pytest.mark.parametrize(
    ("error", "text", "trace"),
    [
        (AttributeError("no attribute 'x'"), ": AttributeError: no attribute 'x'", True),
        (AssertionError(), ": AssertionError", True),
        (LibraryError("gone"), ": LibraryError: gone", False),
        (ConnectionError("gone"), ": gone", False),
        (TimeoutError(), ": TimeoutError", False),
        (asyncio.TimeoutError(), ": TimeoutError", False),
    ],
)
@in_loop
async def test_a_mistake_is_shown_as_one(
    where: str, error: Exception, text: str, trace: bool, caplog: pytest.LogCaptureFixture
) -> None:
    class Mine(MemoryBroker):
        async def connect(self, link: Any) -> None:
            self._at("connect")
            await super().connect(link)

        async def subscribe(self, topics: Sequence[bytes]) -> None:
            self._at("subscribe")
            await super().subscribe(topics)

        async def publish(self, messages: Sequence[Tuple[bytes, bytes]]) -> None:
            self._at("publish")
            await super().publish(messages)

        def _at(self, place: str) -> None:
            if place == where:
                raise error

    one = Node(Mine(Hub()))
    async with one.running(up=False):
        await one.client("a", "topic")
        if where == "publish":
            one.app.publish("topic", "x")
        await until(lambda: False in one.ups)
    records = [one for one in caplog.records if "trying again" in one.getMessage()]
    assert records[0].getMessage().endswith(f"(broker_queue){text}")
    assert bool(records[0].exc_info) is trace
    if trace:
        assert "in _at" in caplog.text


@in_loop
async def test_wrong_arguments_of_a_link() -> None:
    one = Node(MemoryBroker(Hub()))
    async with one.running():
        link: Any = one.broker.link
        for topic, data, kinds in (
            ("topic", "data", "str and str"),
            (b"topic", "data", "bytes and str"),
            ("topic", b"data", "str and bytes"),
            (b"topic", bytearray(b"data"), "bytes and bytearray"),
        ):
            with pytest.raises(TypeError) as info:
                link.receive(topic, data)
            text = f"Link.receive() needs topic and data as bytes, not {kinds}"
            assert str(info.value) == text
        with pytest.raises(TypeError, match="Link.lost.. needs the exception .* not str"):
            link.lost("gone")
        assert one.ups == [True]
        assert one.stats["ignored"] == 0


@in_loop
async def test_one_object_serves_one_app() -> None:
    broker = MemoryBroker(Hub())
    one, other = Node(broker), Node(broker)
    async with one.running():
        with pytest.raises(RuntimeError, match="another app that runs uses the same object"):
            await other.app.serve({"host": "127.0.0.1"})
        one.app.publish("topic", "x")
        await one.settled()
    async with other.running():  # one after the other is possible
        other.app.publish("topic", "x")
    assert len(broker.hub.published) == 2


def test_a_class_is_no_object() -> None:
    with pytest.raises(TypeError) as info:
        App(broker=MemoryBroker)  # type: ignore[arg-type]
    assert str(info.value) == (
        "broker must be an object, not the class MemoryBroker: MemoryBroker(...)"
    )


@in_loop
async def test_a_max_size_that_is_no_number(caplog: pytest.LogCaptureFixture) -> None:
    broker: Any = MemoryBroker(Hub())
    broker.max_size = None
    with pytest.raises(TypeError, match="max_size of the broker MemoryBroker must be an int"):
        App(broker=broker)

    class Mine(MemoryBroker):
        async def connect(self, link: Any) -> None:
            await super().connect(link)
            self.max_size: Any = "1 MiB"

    one = Node(Mine(Hub()))
    async with one.running(up=False):
        await until(lambda: one.ups == [False])
    assert "TypeError: max_size of the broker Mine must be an int, not str" in caplog.text


# ---- refused messages ---------------------------------------------------------------------------


@in_loop
async def test_what_is_refused_is_an_error_of_publish_to(caplog: pytest.LogCaptureFixture) -> None:
    class Strict(MemoryBroker):
        async def publish(self, messages: Sequence[Tuple[bytes, bytes]]) -> None:
            assert self.link
            self.link.refused(PermissionError("you may not"))
            await super().publish(messages)

    broker: Broker = Strict(Hub())
    with pytest.raises(ConnectionError, match="^the broker Strict: you may not$"):
        await in_thread(publish_to, broker, "topic", "x")
    one = Node(Strict(Hub()))
    async with one.running():
        one.app.publish("topic", "x")
        await one.settled()
        assert one.ups == [True]
    assert lines_of(caplog)[-1].startswith("the broker Strict: you may not (logged once")


@in_loop
async def test_a_nats_user_who_may_not_publish(tmp_path: Any) -> None:
    users = 'users: [{user: u, password: p, permissions: {publish: "pyws.topic.mine"}}]'
    with NatsServer(tmp_path, f"authorization: {{{users}}}") as own:
        url = f"nats://u:p@127.0.0.1:{own.port}"
        await in_thread(publish_to, url, "mine", "x")
        with pytest.raises(ConnectionError) as info:
            await in_thread(publish_to, url, "yours", "x")
        assert str(info.value) == (
            f"the broker nats://127.0.0.1:{own.port}: "
            'Permissions Violation for Publish to "pyws.topic.yours"'
        )


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ConnectionRefusedError(111, "Connect call failed ('::1', 1)"), "Connection refused"),
        (
            OSError(
                "Multiple exceptions: [Errno 111] Connect call failed ('::1', 1, 0, 0), "
                "[Errno 111] Connect call failed ('127.0.0.1', 1)"
            ),
            "Connection refused",
        ),
        (
            OSError("Multiple exceptions: [Errno 101] x ('::1', 1), [Errno 111] y ('1', 1)"),
            "Network is unreachable, Connection refused",
        ),
        (socket.gaierror(-2, "Name or service not known"), "Name or service not known"),
        (OSError("in words"), "in words"),
        (FileNotFoundError(2, "No", "/file"), "[Errno 2] No: '/file'"),
        (TimeoutError(), "TimeoutError"),
        (TimeoutError("too late"), "too late"),
        (ValueError("x"), "ValueError: x"),
        (ValueError(), "ValueError"),
    ],
)
def test_what_errors_say(error: Exception, text: str) -> None:
    assert reason_of(error) == text
