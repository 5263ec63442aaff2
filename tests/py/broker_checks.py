# SPDX-License-Identifier: MIT
"""What holds with every broker, for the tests with real ones."""

import asyncio
import logging
import os
import random
import shutil
import signal
import subprocess
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Set, Tuple

import pytest
from chromium import unavailable
from common import TIMEOUT, show_figures
from coroutines import until
from memory_broker import Node
from peer import eventually, frame, upgraded
from test_bus import PROGRAM as BUS_PROGRAM
from test_bus import Client
from worker_programs import start

from pyws._core import link


def lines_of(caplog: pytest.LogCaptureFixture) -> List[str]:
    return [one.getMessage() for one in caplog.records if one.levelno > logging.DEBUG]


def certificate(folder: Path) -> Tuple[str, str]:
    """Paths of a key and of its certificate for 127.0.0.1."""
    openssl = shutil.which("openssl") or unavailable("no openssl here")
    key, file = str(folder / "key"), str(folder / "certificate")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", file]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=TIMEOUT)
    return key, file


def nodes_of(broker: Any) -> Tuple[Node, Node]:
    """Two apps with the same broker: a URL, or a function that makes objects."""
    if callable(broker):
        return Node(broker()), Node(broker())
    return Node(broker), Node(broker)


async def exchange(broker: Any) -> None:
    """Two apps: each message arrives in order, once, and only where there is a subscriber."""
    one, other = nodes_of(broker)
    async with one.running(), other.running():
        await one.client("a", "topic")
        await other.client("a", "topic")
        for node in (one, other):
            await node.settled()
        for number in range(1000):
            one.app.publish("topic", str(number))
        await until(lambda: other.stats["received"] == 1000)
        assert await one.got("a") == await other.got("a") == [str(n) for n in range(1000)]
        await one.settled()
        assert one.stats["published"] == 1000
        other.sockets["a"].unsubscribe("topic")
        await other.settled()
        one.app.publish("topic", "unheard")
        await one.settled()
        assert await one.first("a") == "unheard"
        assert other.stats["received"] == 1000
        for node in (one, other):
            assert node.stats["lost"] == node.stats["ignored"] == node.stats["reconnects"] == 0


def in_uvloop(url: str) -> None:
    """The same in uvloop, or skip."""
    uvloop = pytest.importorskip("uvloop")
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(exchange(url), 30))
    finally:
        loop.close()


async def order_against_a_model(url: str) -> None:
    """Two apps, 20 topics, two publishers: every subscriber gets what a model says."""
    chance = random.Random(16)
    nodes = [Node(url) for _ in range(2)]
    topics = [f"topic {number}" for number in range(20)]
    async with nodes[0].running(), nodes[1].running():
        for node in nodes:
            await node.client("a", *chance.sample(topics, 12))
            await node.settled()
        expected: List[List[str]] = [[], []]
        for number in range(5000):
            sender, topic = chance.randrange(2), chance.choice(topics)
            nodes[sender].app.publish(topic, f"{sender} {topic} {number}")
            for node, messages in zip(nodes, expected):
                if node.sockets["a"].is_subscribed(topic):
                    messages.append(f"{sender} {topic} {number}")
            if number % 100 == 0:
                await asyncio.sleep(0.001)
        for node, other, messages in zip(nodes, nodes[::-1], expected):
            from_other = [one for one in messages if one[0] != str(nodes.index(node))]
            await until(lambda: node.stats["received"] == len(from_other))  # noqa: B023
            found = await node.got("a")
            assert sorted(found) == sorted(messages)
            for digit in "01":
                own = [one for one in messages if one[0] == digit]
                assert [one for one in found if one[0] == digit] == own
            await other.settled()


def order_and_once_with_workers(
    url: str, subscriptions: Callable[[Iterable[str]], Dict[str, int]]
) -> None:
    """B2: 8 publishers, 100 topics, two apps of two workers each; the local bus takes part.

    Args:
        url: The broker.
        subscriptions: Says how many connections have subscribed to each topic at the broker.
    """
    chance = random.Random(16)
    text = BUS_PROGRAM.replace("WORKERS", "2").replace("ASYNCIO", "False")
    text = "app = App(broker=sys.argv[1])\n" + text
    with start(text, url) as one, start(text, url) as other, ExitStack() as stack:
        clients: List[Client] = []
        for program in (one, other):
            port = int(program.line())
            pids: Set[int] = set()
            while len(pids) < 2 or len(clients) % 8:
                client = Client(port, "/bus")
                stack.enter_context(client)
                clients.append(client)
                pids.add(client.pid)
        assert len({client.pid for client in clients}) == 4
        chosen = [chance.sample(range(100), 30) for _ in clients]
        for client, numbers in zip(clients, chosen):
            client.do("subscribe", "end", *(f"topic {number}" for number in numbers))
        eventually(lambda: all(client.do("stats")["broker_up"] for client in clients))
        pairs = {(one.pid, number) for one, numbers in zip(clients, chosen) for number in numbers}
        wanted = Counter(f"topic {number}" for _, number in pairs)
        wanted["end"] = 4
        eventually(lambda: subscriptions(wanted) == wanted)
        writers = clients[:4] + clients[-4:]
        sent: Dict[Tuple[int, int], List[str]] = {}
        for turn in range(200):
            for writer, client in enumerate(writers):
                topic = chance.randrange(100)
                message = f"{writer} {topic} {turn}"
                client.ask("publish", f"topic {topic}", message)
                sent.setdefault((writer, topic), []).append(message)
        for client in writers:
            for _ in range(200):
                client.answer()
            client.do("publish", "end", "end")
        for client, numbers in zip(clients, chosen):
            got: Dict[Tuple[int, int], List[str]] = {}
            ends = 0
            while ends < len(writers):
                message = client.next()
                ends += message == "end"
                if message != "end":
                    writer, topic = map(int, message.split()[:2])
                    got.setdefault((writer, topic), []).append(message)
            assert got == {key: texts for key, texts in sent.items() if key[1] in numbers}
        stats = {client.pid: client.do("stats") for client in clients}
        assert all(numbers["broker_lost"] == 0 for numbers in stats.values())
        assert all(numbers["broker_ignored"] == 0 for numbers in stats.values())
        assert sum(numbers["broker_published"] for numbers in stats.values()) == 8 * 201


async def end_of_a_topic(url: str) -> None:
    """B6: it ends the connections of other apps."""
    one, other = Node(url), Node(url)
    async with one.running(), other.running():
        client = await other.client("a", "room")
        await other.settled()
        one.app.end("room", 4000, "closed")
        await asyncio.wait_for(client.wait_closed(), 20)
        assert (client.close_code, client.close_reason) == (4000, "closed")


async def anything_arrives(broker: Any, topics: List[str], largest: int, text: int = 65536) -> None:
    """Topics and messages of any bytes arrive as they are, and nowhere else.

    Args:
        broker: A URL, or a function that makes objects.
        topics: The topics.
        largest, text: Bytes of the largest message, and of the largest text.
    """
    one, other = nodes_of(broker)
    async with one.running(), other.running():
        await other.client("a", *topics)
        await other.settled()
        messages: List[Any] = []
        for topic in topics:
            messages += [b"\0" * 3, topic[:100], b"\r\n+OK\r\n", b""]
            messages += ["x" * text, os.urandom(largest)]
            for message in messages[-6:]:
                one.app.publish(topic, message)
            one.app.publish(topic + "a", "to no one")
        one.app.publish("news.b", "to no one")
        await until(lambda: other.stats["received"] == len(messages))
        assert await other.got("a") == messages
        assert one.stats["lost"] == 0


class Load:
    """Publishes numbers, without a pause that anything could prolong."""

    def __init__(self, node: Node, size: int = 100) -> None:
        self.node = node
        self.size = size
        self.sent = 0
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        while True:
            for _ in range(10):
                self.node.app.publish("topic", f"{self.sent:{self.size}}")
                self.sent += 1
            await asyncio.sleep(0.001)

    async def end(self) -> int:
        self.task.cancel()
        await asyncio.wait([self.task])
        return self.sent


async def received_more(node: Node) -> None:
    """Wait until an app has received a hundred more messages."""
    received = node.stats["received"]
    await until(lambda: node.stats["received"] > received + 100)


async def restarted_under_load(server: Any, one: Node, other: Node) -> None:
    """The server is killed while `other` receives, and started again; both apps notice."""
    await received_more(other)
    server.kill()
    for node in (one, other):
        await until(lambda: node.ups[-1] is False)  # noqa: B023
    server.start()
    for node in (one, other):
        await until(lambda: node.ups[-1] is True)  # noqa: B023


async def killed_and_restarted(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    """B4: under load, twice. Local delivery is complete, and all losses are counted."""
    caplog.set_level(logging.INFO)
    one, other = Node(server.url), Node(server.url)
    async with one.running(), other.running():
        for node in (one, other):
            await node.client("a", "topic")
            await node.settled()
        load = Load(one)
        for turn in range(1, 3):
            await restarted_under_load(server, one, other)
            assert one.stats["reconnects"] == other.stats["reconnects"] == turn
        await received_more(other)
        sent = await load.end()
        await one.settled()
        here = [int(text) for text in await one.got("a")]
        assert here == list(range(sent))  # local delivery was complete
        assert one.stats["published"] + one.stats["lost"] == sent
        there = [int(text) for text in await other.got("a")]
        assert there == sorted(set(there))  # in order, none twice
        assert len(there) == other.stats["received"] <= sent
        show_figures("the broker is killed twice", sent, len(there), one.stats["lost"])
        lines = [line for line in lines_of(caplog) if "the broker" in line]
        assert len([line for line in lines if "is away" in line]) == 4
        assert len([line for line in lines if "is back" in line]) == 4
        assert one.ups == other.ups == [True, False, True, False, True]


async def frozen_under_load(server: Any) -> None:
    """B4: what waits is bounded, and arrives when the broker goes on."""
    limit = 1 << 20
    one, other = Node(server.url, broker_queue=limit), Node(server.url)
    async with one.running(), other.running():
        for node in (one, other):
            await node.client("a", "topic")
            await node.settled()
        server.stop()
        load = Load(one, 1000)
        await until(lambda: one.stats["lost"] > 500)
        assert one.stats["queued"] <= limit
        assert one.stats["up"] == 1
        sent = await load.end()
        assert [int(text) for text in await one.got("a")] == list(range(sent))
        server.go_on()
        await one.settled()
        assert one.stats["published"] + one.stats["lost"] == sent
        await until(lambda: other.stats["received"] == one.stats["published"])
        there = len(await other.got("a"))
        assert there == one.stats["published"]
        assert one.ups == [True]
        show_figures("the broker is frozen, 1 MiB may wait", sent, there, one.stats["lost"])


async def given_up_while_frozen(server: Any, monkeypatch: Any) -> None:
    """B2: what a connection had sent before it was given up comes first, or never."""
    monkeypatch.setattr(link, "TIMEOUT", 0.5)
    one, other = Node(server.url), Node(server.url)
    async with one.running(), other.running():
        await other.client("a", "topic")
        await other.settled()
        texts = (f"{number} {'x' * 1000}" for number in range(10_000))
        for _ in range(3):
            server.stop()
            for _ in range(400):
                one.app.publish("topic", next(texts))
            await until(lambda: not one.ups[-1])
            for _ in range(400):
                one.app.publish("topic", next(texts))
            server.go_on()
            await until(lambda: one.ups[-1] and other.ups[-1])
            await one.settled()
            await other.settled()
        one.app.publish("topic", "10000")
        got: List[int] = []
        while not got or got[-1] != 10_000:
            got.append(int((await other.first("a")).split()[0]))
        assert len(got) > 1200
        assert got == sorted(set(got))


async def silence_is_noticed(server: Any) -> None:
    """B4: nothing is published, so that only a PING finds out."""
    one = Node(server.url)
    async with one.running():
        await asyncio.sleep(1)
        assert one.ups == [True]
        server.stop()
        await until(lambda: one.ups == [True, False])
        server.go_on()
        await until(lambda: one.ups == [True, False, True])


WORKERS = """
    app = App(broker=sys.argv[1])
    app.ws("/*", open=lambda ws: (ws.subscribe("topic"), ws.send(str(os.getpid()))),
           message=lambda ws, m, o: app.publish("topic", m))
    app.on_broker(lambda up: print("up", os.getpid()))
    listen()
    app.run(workers=2)
"""


FORK = """
    app = App(broker=sys.argv[1])
    app.ws("/*", open=lambda ws: ws.send("open"), message=lambda ws, m, o: fork(ws))

    def fork(ws):
        before = os.readlink(f"/proc/self/fd/{app._runtime.relay.descriptors()[0]}")
        child = os.fork()
        if child == 0:
            links = [os.path.join("/proc/self/fd", name) for name in os.listdir("/proc/self/fd")]
            os._exit(before in [os.readlink(link) for link in links if os.path.islink(link)])
        _, status = os.waitpid(child, 0)
        ws.send(f"{before.split(':')[0]} {status}")

    app.on_broker(lambda up: print("up", up))
    listen()
    app.run()
"""


def forked_child(url: str) -> None:
    """A child of a handler does not keep the connection to the broker alive."""
    with start(FORK, url) as program:
        port = int(program.line())
        assert program.line() == "up True"
        with upgraded(port) as peer:
            assert peer.frame().payload == b"open"
            peer.send(frame(b"fork"))
            assert peer.frame().payload == b"socket 0"
            peer.send(frame(b"fork"))  # the parent's is alive
            assert peer.frame().payload == b"socket 0"
        assert program.stop(signal.SIGTERM) == 0
        assert program.rest() == ""
