# SPDX-License-Identifier: MIT
"""Topics with history while the broker fails, or the connection to it; broker in memory."""

import asyncio
import random
from collections import defaultdict
from typing import Any, Dict, List

import pytest
from coroutines import in_loop, until
from replays import Labelled, Notice, Place, Reader, check_messages, places, wander

from pyws import History
from pyws._core import history, link

pytest.importorskip("websockets")


def is_up(node: Place) -> bool:
    return node.ups[-1]


# ---- publishing ---------------------------------------------------------------------------------


@in_loop
async def test_messages_wait_while_the_broker_is_away() -> None:
    """In their order, before the first connection, too."""
    hub, one, other = places()
    hub.is_down = True
    async with one.running(False), other.running(False):
        reader = await other.come("a", "room", ids={})
        for number in range(10):
            assert other.app.publish("room", f"a {number}") is True
        await until(lambda: one.ups == other.ups == [False])
        hub.is_down = False
        await until(lambda: is_up(other) and is_up(one))
        assert await reader.next() == Notice("room", "0", True)
        assert await reader.messages(10) == [f"a {number}" for number in range(10)]
        hub.crash()
        for number in range(10):
            one.app.publish("room", f"b {number}")
        await until(lambda: not is_up(one))
        assert one.stats["queued"] > 0
        hub.is_down = False
        assert await reader.messages(10) == [f"b {number}" for number in range(10)]
        for node in (one, other):
            await node.settled()
            assert node.stats["kept"] == 10
            assert node.stats["lost"] == node.stats["queued"] == 0


@in_loop
async def test_what_was_not_confirmed_is_sent_again() -> None:
    """At least once, in order: duplicates are whole batches, with ids of their own."""
    _, one = places(1)
    async with one.running():
        reader = await one.come("a", "room", ids={})
        assert await reader.next() == Notice("room", "0", True)
        one.broker.fails_late = ConnectionError("the confirmation is lost")
        for number in range(3):
            one.app.publish("room", str(number))
        assert await reader.messages(6) == ["0", "1", "2", "0", "1", "2"]
        await one.settled()
        one.broker.fails = ConnectionError("nothing is kept")
        one.app.publish("room", "3")
        assert await reader.messages(1) == ["3"]
        await one.settled()
        assert one.stats["kept"] == 4
        assert one.stats["lost"] == one.stats["queued"] == 0


@in_loop
async def test_kinds_do_not_mix_and_keep_their_order() -> None:
    hub, one = places(1)
    async with one.running():
        hub.freeze()
        one.app.publish("news", "first")  # is under way
        await until(lambda: one.broker.calls)
        for topic in ("room", "chat", "news", "news", "room"):
            one.app.publish(topic, topic)
        hub.thaw()
        await one.settled()
        calls = [(what, [one[0] for one in args]) for what, args in one.broker.calls]
        assert calls == [
            ("publish", [b"news"]),
            ("append", [b"room", b"chat"]),
            ("publish", [b"news", b"news"]),
            ("append", [b"room"]),
        ]


@in_loop
async def test_a_full_queue_loses_what_comes_then() -> None:
    """Here, too: a later message must not come before those that wait."""
    hub, one = places(1, broker_queue=65536)
    async with one.running():
        reader = await one.come("a", "room", ids={})
        assert await reader.next() == Notice("room", "0", True)
        hub.freeze()
        for number in range(100):
            one.app.publish("room", f"{number:1000}")
        await until(lambda: one.stats["lost"] > 0)
        lost = one.stats["lost"]
        assert 40 <= lost <= 60
        hub.thaw()
        got = await reader.messages(100 - lost)
        assert [int(text) for text in got] == list(range(100 - lost))
        one.app.publish("room", "again")
        assert await reader.messages(1) == ["again"]


@in_loop
async def test_what_waits_is_kept_before_the_app_ends() -> None:
    hub, one = places(1)
    async with one.running():
        hub.freeze()
        one.app.publish("room", "last")
        asyncio.get_running_loop().call_later(0.05, hub.thaw)
    assert [message.data[16:] for message in hub.appended[b"room"]] == [b"last"]
    assert one.app.stats()["broker_lost"] == 0


@in_loop
async def test_what_cannot_be_kept_until_the_end_is_lost() -> None:
    hub, one = places(1)
    async with one.running():
        hub.freeze()
        one.app.publish("room", "under way")
        await until(lambda: one.broker.calls)
        one.app.publish("room", "waits")
        one.app.close(timeout=0.1)
    assert hub.appended == {}
    assert one.app.stats()["broker_lost"] == 2


# ---- catching up --------------------------------------------------------------------------------


@pytest.mark.parametrize("missed", [0, 1, 100, 250])
@in_loop
async def test_a_process_catches_up_after_its_connection_was_lost(missed: int) -> None:
    """For clients with ids and without, before what comes next."""
    hub, one, other = places(history=History("*", messages=1000))
    async with one.running(), other.running():
        reader = await one.come("a", "room", "empty", ids={})
        plain = await one.come("b", "room")
        assert len(await reader.take(2)) == 2
        other.app.publish("room", "before")
        assert await reader.messages(1) == [await plain.next()] == ["before"]
        hub.members.remove(one.broker)
        one.broker.link.lost(ConnectionError("cut"))
        for number in range(missed):
            other.app.publish("room", str(number))
        await other.settled()
        await until(lambda: one.ups == [True, False, True])
        other.app.publish("room", "after")
        wanted = [*(str(number) for number in range(missed)), "after"]
        assert await reader.messages(missed + 1) == wanted
        assert [await plain.next() for _ in range(missed + 1)] == wanted
        assert one.stats["incomplete"] == one.stats["replayed"] == 0


@in_loop
async def test_a_process_that_cannot_catch_up_says_so() -> None:
    hub, one, other = places(history=History("room", messages=5))
    async with one.running(), other.running():
        reader = await one.come("a", "room", ids={})
        plain = await one.come("b", "room")
        other.app.publish("room", "before")
        await reader.take(2)
        hub.members.remove(one.broker)
        one.broker.link.lost(ConnectionError("cut"))
        for number in range(6):
            other.app.publish("room", str(number))
        assert await reader.next() == Notice("room", "1", False)
        assert await reader.messages(5) == ["1", "2", "3", "4", "5"]
        assert [await plain.next() for _ in range(6)] == ["before", "1", "2", "3", "4", "5"]
        assert one.stats["incomplete"] == 1


@in_loop
async def test_an_operator_learns_that_messages_are_missing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    """One line for each connection, not one for each topic."""
    hub, one, other = places(history=History("*", messages=5))
    async with one.running(), other.running():
        reader = await one.come("a", "x", "y", ids={})
        await reader.take(2)
        for turn in (1, 2):
            hub.members.remove(one.broker)
            one.broker.link.lost(ConnectionError("cut"))
            for _ in range(6):
                for topic in "xy":
                    other.app.publish(topic, "m")
            await reader.take(12)  # of each topic, the notice and five messages
            lines = [record.getMessage() for record in caplog.records]
            found = [line for line in lines if "not keep any more" in line]
            assert len(found) == turn
            assert found[-1][:18] in ('subscribers of "x"', 'subscribers of "y"')
            assert "missed messages that the broker MemoryBroker does not keep" in found[-1]


@in_loop
async def test_a_broker_that_has_lost_its_messages() -> None:
    hub, one, other = places()
    async with one.running(), other.running():
        reader = await one.come("a", "room", ids={})
        other.app.publish("room", "before")
        await reader.take(2)
        ids = dict(reader.last)
        hub.crash()
        hub.append(b"room", b"that no one gets")
        hub.forget()
        hub.is_down = False
        assert await reader.next() == Notice("room", "2", False)
        other.app.publish("room", "after")
        assert await reader.messages(1) == ["after"]
        late = await other.come("a", "room", ids=ids)
        notice = await late.next()
        assert notice.complete is False
        assert await late.messages(1) == ["after"]


@in_loop
async def test_a_client_comes_back_while_the_broker_is_away() -> None:
    hub, one, other = places()
    async with one.running(), other.running():
        reader = await one.come("a", "room", ids={})
        one.app.publish("room", "before")
        await reader.take(2)
        ids = await reader.leave()
        hub.crash()
        await until(lambda: not is_up(one) and not is_up(other))
        one.app.publish("room", "missed")
        back = await other.come("a", "room", ids=ids)
        fresh = await other.come("b", "room", ids={})
        hub.is_down = False
        assert await back.next() == Notice("room", "1", True)
        assert await back.messages(1) == ["missed"]
        await until(lambda: other.sockets["a"].is_subscribed("room"))
        one.app.publish("room", "after")
        assert await back.messages(1) == ["after"]
        found = await fresh.next()
        assert isinstance(found, Notice)
        while found[2] != "after":
            found = await fresh.next()


@in_loop
async def test_the_connection_is_lost_during_a_replay() -> None:
    hub, one, other = places(history=History("room", messages=1000))
    async with one.running(), other.running():
        for number in range(500):
            one.app.publish("room", str(number))
        await one.settled()
        for turn in range(5):
            back = await other.come(str(turn), ids={"room": "10"})
            assert other.sockets[str(turn)].subscribe("room")
            await asyncio.sleep(turn / 1000)
            await until(lambda: other.broker in hub.members)
            hub.members.remove(other.broker)
            other.broker.link.lost(ConnectionError("cut"))
            assert await back.next() == Notice("room", "10", True)
            assert await back.messages(490) == [str(number) for number in range(10, 500)]
            await until(lambda: other.sockets[str(turn)].is_subscribed("room"))  # noqa: B023
            await back.leave()


@in_loop
async def test_what_arrives_during_a_read_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """What is beyond is read again."""
    monkeypatch.setattr(history, "MOST_HELD", 2000)
    hub, one, other = places(history=History("room", messages=1000))
    async with one.running(), other.running():
        reader = await one.come("a", "room", ids={})
        assert await reader.next() == Notice("room", "0", True)
        hub.members.remove(one.broker)
        one.broker.link.lost(ConnectionError("cut"))

        usual = one.broker.read

        async def slow(requests: Any) -> Any:
            """Much arrives between the read and its answer."""
            pages = await usual(requests)
            for number in range(20):
                hub.append(b"room", b"pyws\1\1\1\0" + bytes(8) + b"live %d" % number)
            one.broker.read = usual
            return pages

        one.broker.read = slow
        assert await reader.messages(20) == [f"live {number}" for number in range(20)]
        relay: Any = one.app._runtime.relay
        assert relay._keeper._held == 0


# ---- everything ---------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(3))
@in_loop
async def test_b8_at_least_once_in_order_against_a_model(seed: int, monkeypatch: Any) -> None:
    """Publishers, clients and connections to the broker that come and go at random."""
    monkeypatch.setattr(link, "FIRST_DELAY", 0.01)
    monkeypatch.setattr(link, "LONGEST_DELAY", 0.02)
    chance = random.Random(seed)
    topics = ["chat 1", "chat 2", "room"]
    hub, *nodes = places(3, history=History("*", messages=100_000))
    sent: Dict[str, List[str]] = defaultdict(list)

    async def connect(last: Dict[str, str]) -> Any:
        node = chance.choice(nodes)
        name = str(chance.random())
        await node.come(name, *topics, ids=last)
        return node.clients.pop(name)

    async def trouble() -> None:
        while not is_over.is_set():
            await asyncio.sleep(chance.random() / 20)
            node = chance.choice(nodes)
            what = chance.randrange(4)
            if what == 0 and node.broker in hub.members:
                hub.members.remove(node.broker)
                node.broker.link.lost(ConnectionError("cut"))
            elif what == 1:
                node.broker.fails = ConnectionError("refused")
            elif what == 2:
                node.broker.fails_late = ConnectionError("not confirmed")
            elif hub.frozen is None:
                hub.freeze()
                await asyncio.sleep(chance.random() / 50)
                hub.thaw()

    is_over = asyncio.Event()
    async with nodes[0].running(), nodes[1].running(), nodes[2].running():
        anchor = await nodes[0].come("anchor", *topics, ids={})
        starts = {notice.topic: notice.id for notice in await anchor.take(3)}
        assert len(starts) == 3
        runs = [wander(chance, connect, topics, is_over) for _ in range(6)]
        clients = [asyncio.ensure_future(run) for run in runs]
        await until(lambda: all(node.app.stats()["open"] for node in nodes))
        await asyncio.sleep(0.05)
        troubles = asyncio.ensure_future(trouble())
        for number in range(1000):
            node, topic = chance.choice(nodes), chance.choice(topics)
            text = f"{nodes.index(node)} {number}"
            node.app.publish(topic, text)
            sent[topic].append(text)
            if number % 5 == 0:
                await asyncio.sleep(0.002)
        is_over.set()
        await troubles
        for node in nodes:
            node.broker.fails = node.broker.fails_late = None
            await node.settled()
        for topic in topics:
            nodes[0].app.publish(topic, "end")
        for got in await asyncio.gather(*clients):
            for topic in topics:
                check_messages(got[topic], sent[topic], 100)
        await check_the_anchor(anchor, topics, sent)


async def check_the_anchor(anchor: Reader, topics: List[str], sent: Dict[str, List[str]]) -> None:
    """The client that has never left has all messages."""
    got: Dict[str, Dict[str, None]] = {topic: {} for topic in topics}
    while not all("end" in got[topic] for topic in topics):
        message = await anchor.next()
        assert isinstance(message, Labelled)
        got[message.topic][str(message.message)] = None
    for topic in topics:
        check_messages([*got[topic]], sent[topic], len(sent[topic]))
