# SPDX-License-Identifier: MIT
"""Publishing to a broker without waking up a task for it, as Redis and NATS do; in memory here."""

import asyncio
from typing import Any, Callable, List, Sequence, Tuple

import pytest
from coroutines import in_loop, until
from memory_broker import Hub, MemoryBroker, Node

from pyws import History
from pyws._core import aio, link
from pyws._core.limits import TimeLimit
from pyws._core.transports import Direct

pytest.importorskip("websockets")

Messages = Sequence[Tuple[bytes, bytes]]


class DirectBroker(MemoryBroker, Direct):
    """A broker in memory that publishes directly; one call at a time.

    Attributes:
        done: How many calls of `begin_publish` were confirmed.
    """

    def __init__(self, hub: Hub) -> None:
        super().__init__(hub)
        self.done = 0
        self._is_publishing = False
        self._task: Any = None

    async def _answer(self) -> None:
        assert not self._is_publishing
        await super()._answer()

    async def connect(self, link: Any) -> None:
        self._is_publishing = False
        await super().connect(link)

    def begin_publish(self, messages: Messages, done: Callable[[], object]) -> None:
        assert not self._is_publishing
        self._fail()
        self.calls.append(("begin_publish", [data[16:].decode() for _, data in messages]))
        self._is_publishing = True
        self._task = asyncio.get_running_loop().create_task(self._publish(messages, done))

    async def _publish(self, messages: Messages, done: Callable[[], object]) -> None:
        await super()._answer()
        for topic, data in messages:
            self.hub.published.append((topic, data))
            self.hub.send(topic, data)
        self._is_publishing = False
        self.done += 1
        done()

    async def close(self) -> None:
        if self._task is not None:
            self._task.cancel()
        await super().close()

    @property
    def direct(self) -> List[List[str]]:
        """The messages of each call of `begin_publish`."""
        return [messages for name, messages in self.calls if name == "begin_publish"]

    @property
    def names(self) -> List[str]:
        return [name for name, _ in self.calls]


def pair(**options: Any) -> Tuple[Hub, Node, Node]:
    hub = Hub()
    return hub, Node(DirectBroker(hub), **options), Node(DirectBroker(hub))


def published(hub: Hub) -> List[str]:
    return [data[16:].decode() for _, data in hub.published]


@in_loop
async def test_the_messages_of_a_turn_are_published_at_its_end_in_one_call() -> None:
    _, one, other = pair()
    async with one.running(), other.running():
        await other.client("a", "topic")
        await other.settled()
        await one.settled()
        next_turn: List[List[List[str]]] = []

        def publish() -> None:
            asyncio.get_running_loop().call_soon(lambda: next_turn.append(one.broker.direct))
            for number in range(3):
                one.app.publish("topic", str(number))
            assert not one.broker.direct

        one.app.defer(publish)
        await until(lambda: next_turn)
        assert next_turn == [[["0", "1", "2"]]]
        assert await other.first("a") == "0"
        await one.settled()
        assert one.broker.names == ["begin_publish"]
        assert one.stats["published"] == 3
        assert one.stats["queued"] == one.stats["lag"] == 0


@in_loop
async def test_the_messages_of_a_task_are_published_in_one_call() -> None:
    _, one, _ = pair()
    async with one.running():
        await one.settled()
        for number in range(3):
            one.app.publish("topic", str(number))
        assert not one.broker.direct
        await one.settled()
        assert one.broker.direct == [["0", "1", "2"]]


@in_loop
async def test_what_is_published_meanwhile_comes_next_in_order() -> None:
    hub, one, _ = pair()
    async with one.running():
        await one.settled()
        hub.freeze()
        one.app.publish("topic", "first")
        await until(lambda: one.broker.direct)
        for number in range(1001):
            one.app.publish("topic", str(number))
            if number % 100 == 0:
                await asyncio.sleep(0)
        hub.thaw()
        await one.settled()
        assert [len(batch) for batch in one.broker.direct] == [1, 500, 500, 1]
        assert published(hub) == ["first", *map(str, range(1001))]
        assert "publish" not in one.broker.names
        assert one.stats["published"] == 1002


@in_loop
async def test_other_calls_wait_until_messages_are_published_and_come_before_the_next() -> None:
    hub, one, _ = pair()
    async with one.running():
        await one.client("a")
        await one.settled()
        hub.freeze()
        one.app.publish("topic", "1")
        await until(lambda: one.broker.direct)
        one.sockets["a"].subscribe("topic")
        asking = asyncio.ensure_future(one.app.count("elsewhere"))
        await asyncio.sleep(0)
        one.app.publish("topic", "2")
        assert one.broker.names == ["begin_publish"]
        hub.thaw()
        await one.settled()
        names = one.broker.names
        assert names[:2] == ["begin_publish", "subscribe"]
        assert one.broker.calls[1] == ("subscribe", [b"topic"])
        assert published(hub)[0] == "1"
        assert published(hub)[-1] == "2"
        assert await asking == 0


@in_loop
async def test_b4_a_broker_that_does_not_confirm_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(link, "TIMEOUT", 0.1)
    hub, one, _ = pair()
    async with one.running():
        await one.settled()
        hub.freeze()
        one.app.publish("topic", "lost")
        one.app.publish("topic", "lost")
        await until(lambda: one.broker.direct)
        one.app.publish("topic", "waits")
        await until(lambda: one.ups == [True, False])
        assert one.stats["lost"] == 2
        assert one.stats["published"] == 0
        hub.thaw()
        await until(lambda: one.ups == [True, False, True])
        await one.settled()
        assert published(hub) == ["waits"]
        assert (one.stats["published"], one.stats["lost"]) == (1, 2)


@in_loop
async def test_a_time_limit_ends_with_each_call() -> None:
    late: List[TimeoutError] = []
    limit = TimeLimit(0.05, late.append)
    for _ in range(3):
        limit.begin()
        limit.end()
        await asyncio.sleep(0.1)
    assert not late
    limit.begin()
    await until(lambda: late)
    assert str(late[0]) == "it has not answered for 0.05 s"


@in_loop
async def test_b4_what_is_under_way_when_the_connection_ends_is_lost() -> None:
    hub, one, _ = pair()
    async with one.running():
        await one.settled()
        for turn in range(1, 4):
            hub.freeze()
            one.app.publish("topic", "lost")
            await until(lambda: one.broker.direct.count(["lost"]) == turn)  # noqa: B023
            one.app.publish("topic", f"waits {turn}")
            hub.crash()
            await until(lambda: not one.ups[-1])
            assert one.stats["lost"] == turn
            hub.is_down = False
            hub.thaw()
            await until(lambda: one.ups[-1])
            one.app._runtime.relay._end_hold()  # type: ignore[union-attr]
            await one.settled()
            assert published(hub)[-1] == f"waits {turn}"
        assert (one.stats["published"], one.stats["lost"]) == (3, 3)


@in_loop
async def test_an_exception_means_that_the_connection_is_lost(
    caplog: pytest.LogCaptureFixture,
) -> None:
    hub, one, _ = pair()
    async with one.running():
        await one.settled()
        one.broker.fails = RuntimeError("the handler is closed")
        one.app.publish("topic", "lost")
        await until(lambda: one.ups == [True, False, True])
        one.app.publish("topic", "after")
        await one.settled()
        assert (one.stats["published"], one.stats["lost"]) == (1, 1)
        assert published(hub) == ["after"]
    assert "RuntimeError: the handler is closed" in caplog.text


@in_loop
async def test_the_end_waits_until_messages_are_published(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aio, "_GRACE", 60.0)
    hub, one, _ = pair()
    async with one.running():
        await one.settled()
        hub.freeze()
        one.app.publish("topic", "1")
        await until(lambda: one.broker.direct)
        one.app.publish("topic", "2")
        asyncio.get_running_loop().call_later(0.1, hub.thaw)
    assert published(hub) == ["1", "2"]
    assert one.stats["lost"] == 0


@in_loop
async def test_the_end_does_not_wait_long_and_counts_what_is_lost(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(aio, "_GRACE", 0.1)
    hub, one, _ = pair()
    async with one.running():
        await one.settled()
        hub.freeze()
        one.app.publish("topic", "1")
        await until(lambda: one.broker.direct)
        one.app.publish("topic", "2")
        one.app.close(timeout=0.1)
    hub.thaw()
    assert one.stats["lost"] == 2
    assert one.stats["published"] == one.stats["queued"] == 0


@in_loop
async def test_messages_with_history_keep_their_place_among_others() -> None:
    hub, one, _ = pair()
    one = Node(DirectBroker(hub), {"history": History("kept")})
    async with one.running():
        await one.settled()
        expected: List[str] = []
        for turn in range(10):
            for topic in ("plain", "kept", "kept", "plain")[turn % 3 :]:
                one.app.publish(topic, f"{len(expected)}")
                expected.append(f"{len(expected)}")
            if turn % 2:
                await asyncio.sleep(0)
        await one.settled()
        found: List[str] = []
        for name, messages in one.broker.calls:
            if name == "begin_publish":
                found += messages
            elif name in ("publish", "append"):
                found += [one[1][16:].decode() for one in messages]
        assert found == expected
        assert {"begin_publish", "append"} <= set(one.broker.names)
