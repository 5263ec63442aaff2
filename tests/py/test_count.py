# SPDX-License-Identifier: MIT
"""B6: ``await app.count`` with brokers, which counts the subscribers of all apps there."""

import asyncio
import os
import random
import signal
import struct
from contextlib import AsyncExitStack, ExitStack
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from common import show_figures
from coroutines import in_loop, until
from memory_broker import Hub, MemoryBroker, Node
from nats_server import NatsServer
from peer import eventually
from redis_server import RedisServer
from test_bus import PROGRAM, Client
from worker_programs import start

from pyws._core import counting, envelope

pytest.importorskip("websockets")

ORIGIN, NUMBER, PROCESS = b"stranger", b"question", b"process1"


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing ends because of the time."""
    monkeypatch.setattr(counting, "QUIET", 20.0)
    monkeypatch.setattr(counting, "LONGEST_WAIT", 20.0)


@pytest.fixture(params=[RedisServer, NatsServer])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    with request.param(tmp_path) as one:
        yield one


def nodes_at(hub: Hub, count: int) -> List[Node]:
    return [Node(MemoryBroker(hub)) for _ in range(count)]


async def run_all(stack: AsyncExitStack, nodes: List[Node]) -> None:
    for node in nodes:
        await stack.enter_async_context(node.running())


def kinds(hub: Hub) -> List[int]:
    return [data[5] for _, data in hub.published]


# ---- a broker in memory -------------------------------------------------------------------------


@pytest.mark.parametrize("counts", [False, True])
@in_loop
async def test_b6_all_apps_are_counted(counts: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    hub = Hub()
    hub.counts = counts
    if counts:  # the last answer ends it
        monkeypatch.setattr(counting, "LONGEST_WAIT", 20.0)
    nodes = nodes_at(hub, 3)
    async with AsyncExitStack() as stack:
        await run_all(stack, nodes)
        for node, names in zip(nodes, ("a", "bc", "")):
            for name in names:
                await node.client(name, "room")
        for node in nodes:
            await node.settled()
        for node in nodes:
            assert await node.app.count("room") == 3
            assert await node.app.count("empty") == 0
        assert [node.app.num_subscribers("room") for node in nodes] == [1, 2, 0]
        assert await nodes[0].got("a") == []  # a question is no message
        for node in nodes:
            assert node.stats["ignored"] == node.stats["received"] == 0


@in_loop
async def test_a_question_goes_only_where_subscribers_are(patient: None) -> None:
    """B3: others learn nothing of it."""
    hub = Hub()
    hub.counts = True
    one, other, outsider = nodes_at(hub, 3)
    async with one.running(), other.running(), outsider.running():
        await other.client("a", "room")
        await other.settled()
        assert one.broker.topics == outsider.broker.topics == set()
        assert await one.app.count("room") == 1
        assert [name for name, _ in one.broker.calls] == ["subscribe", "publish"]
        assert [name for name, _ in other.broker.calls] == ["subscribe", "publish"]
        assert outsider.broker.calls == []
        assert kinds(hub) == [envelope.QUESTION, envelope.ANSWER]
        assert await one.app.count("room") == 1  # is subscribed to the answers by now
        assert [name for name, _ in one.broker.calls] == ["subscribe", "publish", "publish"]


@in_loop
async def test_questions_of_one_time_are_one(patient: None) -> None:
    hub = Hub()
    hub.counts = True
    one, other = nodes_at(hub, 2)
    async with one.running(), other.running():
        await other.client("a", *(f"room {number}" for number in range(20)))
        await other.settled()
        topics = [f"room {number % 40}" for number in range(2000)]
        found = await asyncio.gather(*(one.app.count(topic) for topic in topics))
        assert found == [int(number % 40 < 20) for number in range(2000)]
        assert kinds(hub).count(envelope.QUESTION) == 40
        assert kinds(hub).count(envelope.ANSWER) == 20


@in_loop
async def test_more_questions_than_fit_in_one_call(patient: None) -> None:
    hub = Hub()
    hub.counts = True
    one, other = nodes_at(hub, 2)
    async with one.running(), other.running():
        other.app.ws("/many/:name", max_topics=5000, open=lambda ws: other.sockets.update(m=ws))
        import websockets

        async with websockets.connect(f"{other.place.url}/many/x"):
            for number in range(900):
                other.sockets["m"].subscribe(str(number))
            await other.settled()
            found = await asyncio.gather(*(one.app.count(str(number)) for number in range(1200)))
            assert found == [1] * 900 + [0] * 300
        for broker in (one.broker, other.broker):
            assert max(len(what) for name, what in broker.calls if name == "publish") == 500
        assert one.stats["published"] == other.stats["published"] == 0


@in_loop
async def test_answers_come_before_messages_that_wait(patient: None) -> None:
    """A queue of thousands of messages makes no count slow."""
    hub = Hub()
    hub.counts = True
    one, other = nodes_at(hub, 2)
    async with one.running(), other.running():
        await other.client("a", "room")
        await other.settled()
        for number in range(5000):
            one.app.publish("room", str(number))
            other.app.publish("elsewhere", str(number))
        assert await one.app.count("room") == 1
        assert len(hub.published) < 5000


@in_loop
async def test_without_a_broker_it_is_the_count_of_the_app() -> None:
    """Before the app runs, and while the broker is away."""
    hub = Hub()
    one, other = nodes_at(hub, 2)
    assert await one.app.count("room") == 0
    hub.is_down = True
    async with one.running(up=False), other.running(up=False):
        await until(lambda: one.ups == [False])
        await one.client("a", "room")
        await other.client("b", "room")
        assert await one.app.count("room") == 1
        hub.is_down = False
        await until(lambda: one.ups[-1] and other.ups[-1])
        await until(lambda: other.broker.topics and one.broker.topics)
        assert await one.app.count("room") == 2
        hub.crash()
        await until(lambda: one.ups[-1] is False)
        assert await one.app.count("room") == 1
    assert await one.app.count("room") == 0


@in_loop
async def test_a_count_during_a_crash_ends_at_once(patient: None) -> None:
    hub = Hub()
    one, other = nodes_at(hub, 2)
    async with one.running(), other.running():
        await one.client("a", "room")
        await one.settled()
        hub.freeze()
        task = asyncio.ensure_future(one.app.count("room"))
        calls = len(one.broker.calls)
        await until(lambda: len(one.broker.calls) > calls)
        hub.crash()
        assert await task == 1
        hub.thaw()


@in_loop
async def test_a_frozen_broker_does_not_keep_it_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "LONGEST_WAIT", 0.05)
    hub = Hub()
    one, other = nodes_at(hub, 2)
    async with one.running(), other.running():
        for node in (one, other):
            await node.client("a", "room")
            await node.settled()
        hub.freeze()
        assert await one.app.count("room") == 1
        assert one.ups == [True]
        hub.thaw()
        await one.settled()


@in_loop
async def test_a_count_may_be_cancelled(patient: None) -> None:
    """The others who asked at the same time get their answer."""
    hub = Hub()
    hub.counts = True
    one, other = nodes_at(hub, 2)
    async with one.running(), other.running():
        await other.client("a", "room")
        await other.settled()
        tasks = [asyncio.ensure_future(one.app.count("room")) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[0].cancel()
        assert await tasks[1] == await tasks[2] == 1
        assert tasks[0].cancelled()


# ---- what arrives -------------------------------------------------------------------------------


def answer(number: bytes, process: bytes, count: int, origin: bytes = ORIGIN) -> bytes:
    return envelope.pack_answer(origin, number, process, count)


@in_loop
async def test_another_program_may_ask() -> None:
    """As docs/scaling.md says."""
    hub = Hub()
    (one,) = nodes_at(hub, 1)
    async with one.running():
        await one.client("a", "room")
        await one.settled()
        hub.send(b"room", b"pyws\1\3\0\0" + bytes(8) + NUMBER + b"my answers")
        await until(lambda: hub.published)
        ((topic, data),) = hub.published
        assert topic == b"my answers"
        assert data[:8] == b"pyws\1\4\0\0"
        number, _, count = struct.unpack(">8s8sQ", data[16:])
        assert (number, count) == (NUMBER, 1)


@in_loop
async def test_each_process_counts_once_and_workers_by_the_bus(patient: None) -> None:
    hub = Hub()
    (one,) = nodes_at(hub, 1)
    async with one.running():
        relay: Any = one.app._runtime.relay
        task = asyncio.ensure_future(one.app.count("room"))
        await until(lambda: hub.published)
        number, reply = hub.published[0][1][16:24], hub.published[0][1][24:]
        for _ in range(3):
            hub.send(reply, answer(number, PROCESS, 5))
        hub.send(reply, answer(number, b"a worker", 100, relay._origin))
        hub.send(reply, answer(number, b"process2", 7))
        relay._counting.asked([relay._counting._questions[number]], [3])
        assert await task == 12
        hub.send(reply, answer(number, b"process3", 7))  # late
        assert one.stats["ignored"] == 0


@in_loop
async def test_garbage_as_answers_is_ignored_and_counted(
    patient: None, caplog: pytest.LogCaptureFixture
) -> None:
    hub = Hub()
    hub.counts = True
    one, other = nodes_at(hub, 2)
    chance = random.Random(6)
    async with one.running(), other.running():
        for node in (one, other):
            await node.client("a", "room")
            await node.settled()
        assert await one.app.count("room") == 2
        reply = one.app._runtime.relay._counting.reply  # type: ignore[union-attr]
        good = answer((2).to_bytes(8, "big"), PROCESS, 1)
        garbage = [
            b"",
            good[:-1],
            good + b"x",
            good[:6] + b"\x01" + good[7:],
            answer(bytes(8), PROCESS, 1),
            answer((1000).to_bytes(8, "big"), PROCESS, 1),
            answer((1).to_bytes(8, "big"), PROCESS, 2**32 + 1),
        ]
        for data in garbage:
            hub.send(reply, data)
        hub.send(b"room", answer((1).to_bytes(8, "big"), PROCESS, 1))
        hub.send(b"room", envelope.pack_question(ORIGIN, NUMBER, b""))
        hub.send(b"room", envelope.pack_question(ORIGIN, NUMBER, bytes(257)))
        assert one.stats["ignored"] == len(garbage) + 3
        for _ in range(1000):
            hub.send(reply, bytes(chance.randrange(256) for _ in range(chance.randrange(60))))
        assert one.stats["ignored"] == len(garbage) + 1003
        assert await one.app.count("room") == 2
        assert await one.got("a") == []
        lines = [text for text in caplog.messages if "was ignored" in text]
        assert lines == [
            f'a message of the broker MemoryBroker at topic "{reply.decode()}" was ignored, '
            "it is not of pyws (logged once)",
            'a message of the broker MemoryBroker at topic "room" was ignored, '  # of the other app
            "it is an answer to no question of this process (logged once)",
        ]


@in_loop
async def test_a_flood_of_questions_is_bounded() -> None:
    hub = Hub()
    (one,) = nodes_at(hub, 1)
    async with one.running():
        await one.client("a", "room")
        await one.settled()
        for _ in range(1500):
            hub.send(b"room", envelope.pack_question(ORIGIN, NUMBER, b"flood"))
        assert one.stats["ignored"] == 500
        await one.settled()
        assert kinds(hub) == [envelope.ANSWER] * 1000


# ---- Redis and NATS -----------------------------------------------------------------------------


@in_loop
async def test_b6_two_apps_at_a_server(server: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(counting, "LONGEST_WAIT", 20.0)
    monkeypatch.setattr(counting, "QUIET", 20.0 if isinstance(server, RedisServer) else 1.0)
    topics = ["room", "", "*", "\0", "x" * 5000]
    one, other = Node(server.url), Node(server.url)
    async with one.running(), other.running():
        await one.client("a", "room")
        for name in "bcd":
            await other.client(name, *topics)
        for node in (one, other):
            await node.settled()
        for node in (one, other):
            counts = await asyncio.gather(*(node.app.count(topic) for topic in topics))
            assert counts == [4, 3, 3, 3, 3]
            assert await node.app.count("nowhere") == 0
        server.kill()
        await until(lambda: one.ups[-1] is other.ups[-1] is False)
        assert await one.app.count("room") == 1
        server.start()
        await until(lambda: one.ups[-1] is other.ups[-1] is True)
        await until(lambda: other.is_settled)
        assert await one.app.count("room") == 4
        assert one.stats["ignored"] == other.stats["ignored"] == 0


def connect_to_all(stack: ExitStack, port: int, workers: int) -> List[Client]:
    """One client of each worker."""
    found: Dict[int, Client] = {}
    while len(found) < workers:
        client = Client(port, "/ask")
        stack.enter_context(client)
        found.setdefault(client.pid, client)
    return list(found.values())


def test_b6_workers_and_a_stopped_process(server: Any) -> None:
    """Two apps of two workers each: each process counts once, unless it is stopped."""
    text = PROGRAM.replace("WORKERS", "2").replace("ASYNCIO", "True")
    text = "app = App(broker=sys.argv[1])\n" + text
    with start(text, server.url) as one, start(text, server.url) as other, ExitStack() as stack:
        clients = [
            client
            for program in (one, other)
            for client in connect_to_all(stack, int(program.line()), 2)
        ]
        eventually(lambda: all(client.do("stats")["broker_up"] for client in clients))
        for client in clients[1:]:
            assert client.do("subscribe", "room") == 1
        for client in clients:
            eventually(lambda: client.do("count", "room") == 3)  # noqa: B023
            assert client.do("subscribers", "room") == (client is not clients[0])
        stopped = clients[3].pid
        os.kill(stopped, signal.SIGSTOP)
        try:
            for client in clients[:3]:
                eventually(lambda: client.do("count", "room") == 2)  # noqa: B023
        finally:
            os.kill(stopped, signal.SIGCONT)
        for client in clients:
            eventually(lambda: client.do("count", "room") == 3)  # noqa: B023
        stats = [client.do("stats") for client in clients]
        assert [one["broker_ignored"] for one in stats] == [0] * 4
        show_figures("subscribers of two apps with two workers each are counted", 3, 3, 0)
