"""Redis as a broker: a real redis-server of the system, started by the tests.

Where it is not installed the tests are skipped; with CI=true they fail instead.
"""

import asyncio
import logging
import os
import random
import shutil
import signal
import subprocess
import sys
from collections import Counter
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest
from chromium import unavailable
from common import TIMEOUT
from coroutines import in_loop, until
from memory_broker import Node
from peer import eventually
from redis_server import RedisServer, free_port
from test_bus import PROGRAM as BUS_PROGRAM
from test_bus import Client
from worker_programs import start

from pyws import App
from pyws._core import envelope

pytest.importorskip("websockets")
try:
    from pyws._core import redis_broker
except ImportError:
    unavailable("redis and hiredis are not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that tests leave as it is."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as one:
        yield one


@pytest.fixture
def own(tmp_path: Path) -> Iterator[RedisServer]:
    """A server that the test may kill."""
    with RedisServer(tmp_path) as one:
        yield one


def lines_of(caplog: pytest.LogCaptureFixture) -> List[str]:
    return [one.getMessage() for one in caplog.records if one.levelno > logging.DEBUG]


# ---- messages -----------------------------------------------------------------------------------


async def exchange(url: str) -> None:
    one, other = Node(url), Node(url)
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


@in_loop
async def test_b1_two_apps(server: RedisServer) -> None:
    await exchange(server.url)


def test_two_apps_in_uvloop(server: RedisServer) -> None:
    uvloop = pytest.importorskip("uvloop")
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(exchange(server.url), 30))
    finally:
        loop.close()


@in_loop
async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(tmp_path, "--unixsocket", str(path)):
        await exchange(f"redis+unix://{path}")


@in_loop
async def test_tls(tmp_path: Path) -> None:
    openssl = shutil.which("openssl") or unavailable("no openssl here")
    key, certificate = str(tmp_path / "key"), str(tmp_path / "certificate")
    command = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate]
    subprocess.run(command, check=True, stderr=subprocess.DEVNULL, timeout=TIMEOUT)
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", certificate, "--tls-key-file", key]
    options += ["--tls-ca-cert-file", certificate, "--tls-auth-clients", "no"]
    with RedisServer(tmp_path, *options):
        url = f"127.0.0.1:{port}?ssl_ca_certs={certificate}"
        await exchange(f"rediss://{url}")
        await exchange(f"valkeys://{url}")
        stranger = Node(f"rediss://127.0.0.1:{port}")
        async with stranger.running(up=False):
            await until(lambda: stranger.ups == [False])


@in_loop
async def test_b2_order_and_once_against_a_model(server: RedisServer) -> None:
    chance = random.Random(16)
    nodes = [Node(server.url + "?prefix=model:") for _ in range(2)]
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


@in_loop
async def test_topics_and_messages_may_contain_anything(server: RedisServer) -> None:
    one, other = Node(server.url), Node(server.url)
    topics = ["\0", "a\0b", "*", "h?llo[ab]", "\\", " ", "", "é" * 5000, "x" * 65536, "\r\n$1\r\n"]
    topics += ["news*", "news.art", "PUBLISH x y"]
    async with one.running(), other.running():
        await other.client("a", *topics)
        await other.settled()
        messages: List[Any] = []
        for topic in topics:
            messages += [b"\0" * 3, topic, b"\r\n+OK\r\n", b"", "x" * 65536, os.urandom(1 << 20)]
            for message in messages[-6:]:
                one.app.publish(topic, message)
            one.app.publish(topic + "a", "to no one")
        one.app.publish("news.b", "to no one")
        await until(lambda: other.stats["received"] == len(messages))
        assert await other.got("a") == messages
        assert one.stats["lost"] == 0


@in_loop
async def test_garbage_is_ignored_and_counted(server: RedisServer) -> None:
    one = Node(server.url)
    async with one.running():
        await one.client("a", "topic")
        await one.settled()
        for data in (b"", b"hello", os.urandom(100), b"pyws\x01\x01\x01\x00", b"x" * 100_000):
            assert server.command("PUBLISH", "pyws:topic", data) == 1
        data = envelope.head(envelope.NO_ORIGIN, 1) + "von außen".encode()
        assert server.command("PUBLISH", "pyws:topic", data) == 1  # as docs/scaling.md says
        assert await one.first("a") == "von außen"
        assert one.stats["ignored"] == 5
        assert one.stats["received"] == 1


@in_loop
async def test_apps_with_other_prefixes_hear_nothing(server: RedisServer) -> None:
    one, other, third = (
        Node(server.url + f"/{n}?prefix={p}") for n, p in ((0, "a:"), (0, ""), (5, "a:"))
    )
    async with one.running(), other.running(), third.running():
        for node in (other, third):
            await node.client("a", "topic")
            await node.settled()
        one.app.publish("topic", "x")
        await until(lambda: third.stats["received"] == 1)  # numbers of databases mean nothing
        other.app.publish("topic", "y")
        await other.settled()
        assert await other.got("a") == ["y"]
        assert await third.got("a") == ["x"]
        assert server.command("PUBLISH", "topic", b"") == 1


@in_loop
async def test_b3_100000_topics(server: RedisServer) -> None:
    """All are subscribed to, and none is left."""
    one = Node(server.url + "?prefix=many:")
    one.app.ws("/many/*", max_topics=100_000, open=lambda ws: one.sockets.update(many=ws))
    async with one.running():
        import websockets

        client = await websockets.connect(f"{one.place.url}/many/x")
        for number in range(100_000):
            one.sockets["many"].subscribe(str(number))
            if number % 1000 == 0:
                await asyncio.sleep(0)
        await until(lambda: one.stats["up"] and one.is_settled)
        pattern = ("PUBSUB", "CHANNELS", "many:*")
        assert len(server.command(*pattern)) == 100_000
        await client.close()
        await until(lambda: one.app.stats()["topics"] == 0 and one.is_settled)
        assert server.command(*pattern) == []


# ---- failures -----------------------------------------------------------------------------------


class Load:
    """Publishes numbers, without a pause that anything could prolong."""

    def __init__(self, node: Node, size: int = 100) -> None:
        self.node = node
        self.size = size
        self.sent = 0
        self.slowest = 0.0
        self.task = asyncio.ensure_future(self._run())

    async def _run(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            for _ in range(10):
                began = loop.time()
                self.node.app.publish("topic", f"{self.sent:{self.size}}")
                self.slowest = max(self.slowest, loop.time() - began)
                self.sent += 1
            await asyncio.sleep(0.001)

    async def end(self) -> int:
        self.task.cancel()
        await asyncio.wait([self.task])
        return self.sent


@in_loop
async def test_b4_the_broker_is_killed_and_comes_back(
    own: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    one, other = Node(own.url), Node(own.url)
    async with one.running(), other.running():
        for node in (one, other):
            await node.client("a", "topic")
            await node.settled()
        load = Load(one)
        for turn in range(1, 3):
            received = other.stats["received"]
            await until(lambda: other.stats["received"] > received + 100)  # noqa: B023
            own.kill()
            for node in (one, other):
                await until(lambda: node.ups[-1] is False)  # noqa: B023
            own.start()
            for node in (one, other):
                await until(lambda: node.ups[-1] is True)  # noqa: B023
                assert node.stats["reconnects"] == turn
        received = other.stats["received"]
        await until(lambda: other.stats["received"] > received + 100)
        sent = await load.end()
        await one.settled()
        here = [int(text) for text in await one.got("a")]
        assert here == list(range(sent))  # local delivery was complete
        assert one.stats["published"] + one.stats["lost"] == sent
        there = [int(text) for text in await other.got("a")]
        assert there == sorted(set(there))  # in order, none twice
        assert len(there) == other.stats["received"] <= sent
        lines = [line for line in lines_of(caplog) if "the broker" in line]
        assert len([line for line in lines if "is away" in line]) == 4
        assert len([line for line in lines if "is back" in line]) == 4
        assert one.ups == other.ups == [True, False, True, False, True]


@in_loop
async def test_b4_the_broker_is_frozen_under_load(own: RedisServer) -> None:
    limit = 1 << 20
    one, other = Node(own.url, broker_queue=limit), Node(own.url)
    async with one.running(), other.running():
        for node in (one, other):
            await node.client("a", "topic")
            await node.settled()
        own.stop()
        load = Load(one, 1000)
        await until(lambda: one.stats["lost"] > 500)
        assert one.stats["queued"] <= limit
        assert one.stats["up"] == 1
        sent = await load.end()
        assert [int(text) for text in await one.got("a")] == list(range(sent))
        own.go_on()
        await one.settled()
        assert one.stats["published"] + one.stats["lost"] == sent
        await until(lambda: other.stats["received"] == one.stats["published"])
        assert len(await other.got("a")) == one.stats["published"]
        assert one.ups == [True]


@in_loop
async def test_a_silent_broker_is_noticed(
    own: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is published: PING alone finds out."""
    monkeypatch.setattr(redis_broker, "LOOK_INTERVAL", 0.1)
    one = Node(own.url)
    async with one.running():
        await asyncio.sleep(1)
        assert one.ups == [True]
        own.stop()
        await until(lambda: one.ups == [True, False])
        own.go_on()
        await until(lambda: one.ups == [True, False, True])


@in_loop
async def test_a_client_that_the_server_drops(server: RedisServer) -> None:
    """As Redis does with those that read too slowly (client-output-buffer-limit)."""
    one = Node(server.url)
    async with one.running():
        await one.client("a", "topic")
        await one.settled()
        server.command("CLIENT", "KILL", "TYPE", "pubsub")
        await until(lambda: one.ups == [True, False, True])
        data = envelope.head(envelope.NO_ORIGIN, 1) + b"again"
        server.command("PUBLISH", "pyws:topic", data)
        assert await one.first("a") == "again"


# ---- errors that say what to do -----------------------------------------------------------------


@in_loop
async def test_a_wrong_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with RedisServer(tmp_path, "--requirepass", "right") as own:
        place = f"127.0.0.1:{own.port}"
        for login in ("", ":wrong-secret@", "me:wrong-secret@"):
            caplog.clear()
            one = Node(f"redis://{login}{place}")
            async with one.running(up=False):
                await until(lambda: one.ups == [False])  # noqa: B023
            line = next(line for line in lines_of(caplog) if "cannot be reached" in line)
            assert f"redis://{place} " in line
            assert "check the user and the password in the URL" in line
            assert "secret" not in caplog.text
        one = Node(f"redis://:right@{place}")
        async with one.running():
            pass


@in_loop
async def test_a_user_who_may_not(server: RedisServer, caplog: pytest.LogCaptureFixture) -> None:
    server.command("ACL", "SETUSER", "shy", "on", ">p", "+@all", "resetchannels", "&pyws:mine*")
    one = Node(f"redis://shy:p@127.0.0.1:{server.port}")
    async with one.running():
        await one.client("a", "mine")
        await one.settled()
        one.app.publish("mine", "x")
        await one.settled()
        assert one.stats["published"] == 1
        one.app.publish("yours", "x")
        await until(lambda: one.ups[:3] == [True, False, True])
        assert one.stats["lost"] == 1
    assert "NOPERM" in caplog.text


@in_loop
async def test_no_server(caplog: pytest.LogCaptureFixture) -> None:
    port = free_port()
    one = Node(f"redis://127.0.0.1:{port}")
    async with one.running(up=False):
        await until(lambda: one.ups == [False])
    assert f"redis://127.0.0.1:{port} cannot be reached" in caplog.text


@in_loop
async def test_something_else_listens_there(caplog: pytest.LogCaptureFixture) -> None:
    for answer, hint in (
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "cannot be reached"),
        (b"-ERR unknown command 'HELLO'\r\n", "Redis 6 or newer is needed"),
    ):

        async def serve(reader: Any, writer: Any, answer: bytes = answer) -> None:
            await reader.read(100)
            writer.write(answer * 5)
            await reader.read()
            writer.close()

        caplog.clear()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            one = Node(f"redis://127.0.0.1:{port}")
            async with one.running(up=False):
                await until(lambda: one.ups == [False])  # noqa: B023
        assert hint in caplog.text


@pytest.mark.parametrize(
    "rest", ["host:port", "host:99999999/0", "host?nonsense=1", "host?ssl_cert_reqs=none"]
)
def test_a_wrong_url(rest: str) -> None:
    with pytest.raises(ValueError, match="^the broker redis://h") as info:
        App(broker=f"redis://me:secret@{rest}")
    assert "secret" not in str(info.value)


@pytest.mark.parametrize("package", ["redis", "hiredis"])
def test_a_missing_package(package: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "pyws._core.redis_broker")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(
        ImportError, match=r'redis://h .*pip install "pyws-server\[redis\]"'
    ) as info:
        App(broker="redis://me:secret@h")
    assert "secret" not in str(info.value)


# ---- processes ----------------------------------------------------------------------------------

WORKERS = """
    app = App(broker=sys.argv[1])
    app.ws("/*", open=lambda ws: (ws.subscribe("topic"), ws.send(str(os.getpid()))),
           message=lambda ws, m, o: app.publish("topic", m))
    app.on_broker(lambda up: print("up", os.getpid()))
    listen()
    app.run(workers=2)
"""


def test_b1_each_worker_has_its_connection(own: RedisServer) -> None:
    def connections() -> int:
        clients: bytes = own.command("CLIENT", "LIST")
        return len([one for one in clients.splitlines() if b"cmd=client|list" not in one])

    with start(WORKERS, own.url) as program:
        port = int(program.line())
        ready = {program.line() for _ in range(2)}
        assert len(ready) == 2
        assert f"up {program.process.pid}" not in ready
        eventually(lambda: connections() == 2)
        victim = int(ready.pop().split()[1])
        os.kill(victim, signal.SIGKILL)
        assert program.line() not in ready  # the next one
        eventually(lambda: connections() == 2)
        assert port
        assert program.stop(signal.SIGTERM) == 0
    assert connections() == 0


def test_b2_order_and_once_with_workers(own: RedisServer) -> None:
    """8 publishers, 100 topics, two apps of two workers each; the local bus takes part."""
    chance = random.Random(16)
    text = BUS_PROGRAM.replace("WORKERS", "2").replace("ASYNCIO", "False")
    text = "app = App(broker=sys.argv[1])\n" + text
    with start(text, own.url) as one, start(text, own.url) as other, ExitStack() as stack:
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
        wanted = Counter(f"pyws:topic {number}".encode() for _, number in pairs)
        wanted[b"pyws:end"] = 4
        eventually(lambda: subscriptions(own, *wanted) == wanted)
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


def subscriptions(server: RedisServer, *channels: bytes) -> Dict[bytes, int]:
    """How many connections have subscribed to each of them."""
    found: List[Any] = server.command("PUBSUB", "NUMSUB", *channels)
    return dict(zip(found[::2], found[1::2]))


@in_loop
async def test_b6_the_end_of_a_topic(server: RedisServer) -> None:
    one, other = Node(server.url), Node(server.url)
    async with one.running(), other.running():
        client = await other.client("a", "room")
        await other.settled()
        one.app.end("room", 4000, "closed")
        await asyncio.wait_for(client.wait_closed(), 20)
        assert (client.close_code, client.close_reason) == (4000, "closed")
