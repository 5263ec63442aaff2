# SPDX-License-Identifier: MIT
"""NATS as a broker: a real nats-server of the system, started by the tests.

Where it is not installed the tests are skipped; with CI=true they fail instead.
"""

import asyncio
import hashlib
import os
import signal
import sys
from collections import Counter
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List, Tuple
from urllib.parse import unquote_to_bytes

import pytest
from broker_checks import (
    WORKERS,
    anything_arrives,
    certificate,
    end_of_a_topic,
    exchange,
    forked_child,
    frozen_under_load,
    given_up_while_frozen,
    in_uvloop,
    killed_and_restarted,
    lines_of,
    order_against_a_model,
    order_and_once_with_workers,
    silence_is_noticed,
)
from chromium import unavailable
from common import TIMEOUT
from coroutines import in_loop, until
from memory_broker import Node
from nats_server import NatsServer, Outlet
from peer import eventually, frame, upgraded
from worker_programs import pid_of, start

from pyws import App
from pyws._core import envelope, transports
from pyws.brokers import Link

pytest.importorskip("websockets")
try:
    import nats

    from pyws._core import nats_broker
    from pyws._core.nats_broker import NatsBroker, Wire, subject_of
except ImportError:
    unavailable("nats-py is not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server that tests leave as it is."""
    with NatsServer(tmp_path_factory.mktemp("nats")) as one:
        yield one


@pytest.fixture
def own(tmp_path: Path) -> Iterator[NatsServer]:
    """A server that the test may kill."""
    with NatsServer(tmp_path) as one:
        yield one


async def stranger(server: NatsServer) -> Any:
    """Another program, which uses nats-py as it is."""
    return await nats.connect(server.url)


# ---- subjects -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topic", "subject"),
    [
        (b"news", "pyws.topic.news"),
        (b"news.art", "pyws.topic.news%2Eart"),
        (b"a b", "pyws.topic.a%20b"),
        (b"*", "pyws.topic.%2A"),
        (b">", "pyws.topic.%3E"),
        (b"\0", "pyws.topic.%00"),
        (b"\r\nPUB x 0\r\n", "pyws.topic.%0D%0APUB%20x%200%0D%0A"),
        ("é".encode(), "pyws.topic.%C3%A9"),
        (b"Az09-_~", "pyws.topic.Az09-_~"),
        (b"x" * 1000, "pyws.topic." + "x" * 1000),
        (b"x" * 1001, "pyws.sha256." + hashlib.sha256(b"x" * 1001).hexdigest()),
        (b"", "pyws.sha256." + hashlib.sha256().hexdigest()),
    ],
)
def test_subjects(topic: bytes, subject: str) -> None:
    """As docs/scaling.md says: other languages must make the same ones."""
    assert subject_of("pyws", topic) == subject


def test_subjects_can_be_reversed() -> None:
    for byte in range(256):
        topic = bytes([byte])
        kind, text = subject_of("a.b", topic).split(".")[2:]
        assert kind == "topic"
        assert unquote_to_bytes(text) == topic


# ---- messages -----------------------------------------------------------------------------------


@in_loop
async def test_b1_two_apps(server: NatsServer) -> None:
    await exchange(server.url)


def test_two_apps_in_uvloop(server: NatsServer) -> None:
    in_uvloop(server.url)


@in_loop
async def test_b2_order_and_once_against_a_model(server: NatsServer) -> None:
    await order_against_a_model(server.url + "?prefix=model")


def test_b2_order_and_once_with_workers(own: NatsServer) -> None:
    def subscriptions(topics: Iterable[str]) -> Dict[str, int]:
        found = Counter(own.subjects())
        return {topic: found[subject_of("pyws", topic.encode())] for topic in topics}

    order_and_once_with_workers(own.url, subscriptions)


@in_loop
async def test_b6_the_end_of_a_topic(server: NatsServer) -> None:
    await end_of_a_topic(server.url)


@in_loop
async def test_topics_and_messages_may_contain_anything(server: NatsServer) -> None:
    topics = ["\0", "a\0b", "*", ">", "a.*.b", "a.>", ".", "..", "\\", " ", "", "\t", "\r\n"]
    topics += ["é" * 5000, "x" * 65536, "x" * 1000, "x" * 1001, "\r\nPUB pyws.topic.x 0\r\n\r\n"]
    topics += ["%", "%00", "topic", "news", "news.*", "NEWS", "_INBOX.x", "$SYS.>"]
    await anything_arrives(server.url, topics, 300_000)


@in_loop
async def test_b3_only_topics_with_subscribers(server: NatsServer) -> None:
    one, other = Node(server.url + "?prefix=b3"), Node(server.url + "?prefix=b3")
    async with one.running(), other.running():
        await other.client("a", "wanted")
        await other.settled()
        for number in range(100):
            one.app.publish(f"unwanted {number}", "x")
        one.app.publish("wanted", "x")
        await one.settled()
        assert await other.first("a") == "x"
        assert [s for s in server.subjects() if s.startswith("b3")] == ["b3.topic.wanted"]
        subscribed = [c for c in server.connections() if c.get("subscriptions_list")]
        assert [c["out_msgs"] for c in subscribed] == [1]
        assert other.stats["received"] == 1
        await other.clients["a"].close()
        await until(lambda: not [s for s in server.subjects() if s.startswith("b3")])


@in_loop
async def test_b3_100000_topics(server: NatsServer) -> None:
    """All are subscribed to, and none is left."""
    one = Node(server.url + "?prefix=many")
    one.app.ws("/many/*", max_topics=100_000, open=lambda ws: one.sockets.update(many=ws))
    async with one.running():
        import websockets

        client = await websockets.connect(f"{one.place.url}/many/x")
        for number in range(100_000):
            one.sockets["many"].subscribe(str(number))
            if number % 1000 == 0:
                await asyncio.sleep(0)
        await until(lambda: one.stats["up"] and one.is_settled)

        def subscriptions() -> int:
            return max(int(one["subscriptions"]) for one in server.connections(False))

        assert subscriptions() == 100_000
        await client.close()
        await until(lambda: subscriptions() == 0)


@in_loop
async def test_garbage_is_ignored_and_counted(server: NatsServer) -> None:
    one, other = Node(server.url), await stranger(server)
    async with one.running():
        await one.client("a", "topic")
        await one.settled()
        for data in (b"", b"hello", os.urandom(100), b"pyws\x01\x01\x01\x00", b"x" * 100_000):
            await other.publish("pyws.topic.topic", data)
        data = envelope.head(envelope.NO_ORIGIN, 1) + "von außen".encode()  # docs/scaling.md
        await other.publish("pyws.topic.topic", data, reply="reply", headers={"a": "b"})
        assert await one.first("a") == "von außen"
        assert one.stats["ignored"] == 5
        assert one.stats["received"] == 1
    await other.close()


@in_loop
async def test_apps_with_other_prefixes_hear_nothing(server: NatsServer) -> None:
    one, other, third = (Node(f"{server.url}?prefix={p}") for p in ("a", "b", "a"))
    async with one.running(), other.running(), third.running():
        for node in (other, third):
            await node.client("a", "topic")
            await node.settled()
        one.app.publish("topic", "x")
        await until(lambda: third.stats["received"] == 1)
        other.app.publish("topic", "y")
        await other.settled()
        assert await other.got("a") == ["y"]
        assert await third.got("a") == ["x"]


@in_loop
async def test_a_message_that_is_too_large(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It is lost for others, counted, and the connection lives on."""
    most = 4096
    size = most - envelope.HEADER
    with NatsServer(tmp_path, f"max_payload: {most}") as own:
        one, other = Node(own.url), Node(own.url)
        async with one.running(), other.running():
            for node in (one, other):
                await node.client("a", "topic")
                await node.settled()
            for text in ("x" * size, "x" * (size + 1), "x" * 100_000, "last"):
                one.app.publish("topic", text)
            await one.settled()
            assert one.stats["lost"] == 2
            assert one.stats["published"] == 2
            assert await other.first("a") == "x" * size
            assert await other.first("a") == "last"
            assert [len(text) for text in await one.got("a")] == [size, size + 1, 100_000, 4]
            assert one.ups == [True]
    line = f"a message of {most + 1} bytes is lost, the broker {own.url} takes at most {most}"
    assert [one for one in lines_of(caplog) if "takes at most" in one] == [line + " (logged once)"]


# ---- failures -----------------------------------------------------------------------------------


@in_loop
async def test_b4_the_broker_is_killed_and_comes_back(
    own: NatsServer, caplog: pytest.LogCaptureFixture
) -> None:
    await killed_and_restarted(own, caplog)


@in_loop
async def test_b4_the_broker_is_frozen_under_load(own: NatsServer) -> None:
    await frozen_under_load(own)


@in_loop
async def test_b2_what_was_given_up_does_not_come_later(
    own: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await given_up_while_frozen(own, monkeypatch)


@in_loop
async def test_a_silent_broker_is_noticed(own: NatsServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transports, "LOOK_INTERVAL", 0.1)
    await silence_is_noticed(own)


@in_loop
async def test_topics_are_subscribed_to_again(own: NatsServer) -> None:
    """Those that came and went meanwhile, too."""
    one = Node(own.url)
    async with one.running():
        await one.client("a", "first", "second")
        await one.settled()
        own.kill()
        await until(lambda: one.ups == [True, False])
        one.sockets["a"].unsubscribe("first")
        one.sockets["a"].subscribe("third")
        own.start()
        await until(lambda: one.ups == [True, False, True])
        assert own.subjects() == ["pyws.topic.second", "pyws.topic.third"]
        other = await stranger(own)
        await other.publish("pyws.topic.third", envelope.head(envelope.NO_ORIGIN, 1) + b"again")
        await other.flush()
        assert await one.first("a") == "again"
        await other.close()


@in_loop
async def test_a_server_of_a_cluster_may_be_away(own: NatsServer) -> None:
    one = Node(f"nats://127.0.0.1:1,127.0.0.1:{own.port},127.0.0.1:2")
    async with one.running():
        assert len([c for c in own.connections() if c.get("name") == "pyws"]) == 1


# ---- logins, TLS, errors that say what to do ----------------------------------------------------


@in_loop
async def test_a_wrong_password(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with NatsServer(tmp_path, 'authorization: {user: "m@e", password: "r/ght:"}') as own:
        place = f"127.0.0.1:{own.port}"
        for login in ("", "wrong-secret@", "m%40e:wrong-secret@"):
            caplog.clear()
            one = Node(f"nats://{login}{place}")
            async with one.running(up=False):
                await until(lambda: one.ups == [False])  # noqa: B023
            line = next(line for line in lines_of(caplog) if "cannot be reached" in line)
            assert f"nats://{place} " in line
            assert "check the user and the password, or the token, in the URL" in line
            assert "secret" not in caplog.text
        one = Node(f"nats://m%40e:r%2Fght%3A@{place}")
        async with one.running():
            pass


@in_loop
async def test_a_token(tmp_path: Path) -> None:
    with NatsServer(tmp_path, 'authorization: {token: "t@ken"}') as own:
        async with Node(f"nats://t%40ken@127.0.0.1:{own.port}").running():
            pass


@in_loop
async def test_a_user_who_may_not(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """The server refuses single commands, and the rest goes on."""
    mine = 'permissions: {publish: "pyws.topic.mine", subscribe: "pyws.topic.mine"}'
    users = f"users: [{{user: u, password: p, {mine}}}]"
    with NatsServer(tmp_path, f"authorization: {{{users}}}") as own:
        one = Node(f"nats://u:p@127.0.0.1:{own.port}")
        async with one.running():
            await one.client("a", "mine", "yours")
            await one.settled()
            assert own.subjects() == ["pyws.topic.mine"]
            for topic in ("yours", "his", "mine"):
                one.app.publish(topic, "x")
            await one.settled()
            assert one.ups == [True]
    for what in ("Publish", "Subscription"):
        lines = [line for line in lines_of(caplog) if f"Permissions Violation for {what}" in line]
        assert len(lines) == 1
        assert "pyws.topic.yours" in lines[0]


@in_loop
async def test_tls(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key, file = certificate(tmp_path)
    with NatsServer(tmp_path, f'tls: {{cert_file: "{file}", key_file: "{key}"}}') as own:
        place = f"127.0.0.1:{own.port}"
        await exchange(f"tls://{place}?ca={file}")
        one = Node(f"tls://{place}")
        async with one.running(up=False):
            await until(lambda: one.ups == [False])
        assert "CERTIFICATE_VERIFY_FAILED" in caplog.text


@in_loop
async def test_tls_is_not_left_out(own: NatsServer, caplog: pytest.LogCaptureFixture) -> None:
    """A server, or somebody in between, that offers no TLS does not get the password."""
    one = Node(f"tls://me:secret@127.0.0.1:{own.port}")
    async with one.running(up=False):
        await until(lambda: one.ups == [False])
    assert "it offers no TLS" in caplog.text
    await until(lambda: own.connections() == [])


@in_loop
async def test_something_else_listens_there(caplog: pytest.LogCaptureFixture) -> None:
    begin = b'INFO {"max_payload": 1000}\r\n'
    for answer, hint in (
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "does not speak the protocol of NATS, but HTTP"),
        (b"hello\r\n", "it does not speak the protocol of NATS"),
        (b"-ERR 'maximum connections exceeded'\r\n", "cannot be reached"),
        (b"x" * 100_000, "cannot be reached"),
        (b"", "cannot be reached"),
        (begin + b"nonsense\r\n", "does not speak the protocol of NATS"),
        (begin + b"PONG\r\nnonsense\r\n", "does not speak the protocol of NATS"),
        (begin + b"PONG\r\nMSG a\r\n", "does not speak the protocol of NATS"),
        (begin + b"PONG\r\nMSG a 1 x\r\n", "does not speak the protocol of NATS"),
        (begin + b"PONG\r\n\r\n", "does not speak the protocol of NATS"),
        (begin + b"PONG\r\nPONG\r\n", "does not speak the protocol of NATS"),
        (begin + b"PONG\r\n" + b"x" * 100_000, "does not speak the protocol of NATS"),
        (begin + b"PONG\r\n-ERR 'Stale Connection'\r\n", "Stale Connection"),
    ):

        async def serve(reader: Any, writer: Any, answer: bytes = answer) -> None:
            writer.write(answer)
            if answer:
                await reader.read()
            writer.close()

        caplog.clear()
        async with await asyncio.start_server(serve, "127.0.0.1", 0) as listener:
            port = listener.sockets[0].getsockname()[1]
            one = Node(f"nats://127.0.0.1:{port}")
            async with one.running(up=False):
                await until(lambda: one.ups[-1:] == [False])  # noqa: B023
        assert hint in caplog.text, answer


@pytest.mark.parametrize(
    ("rest", "why"),
    [
        ("host:port", "port"),
        ("host:99999999", "[Pp]ort"),
        ("", "a host is missing"),
        ("host,", "a host is missing"),
        ("host/4", "there is nothing at a path, like '/4'"),
        ("host?nonsense=1", "there is no option 'nonsense', only prefix, credentials, ca"),
        ("host?prefix=a..b", "prefix must be letters, digits, .* not 'a..b'"),
        ("host?prefix=", "prefix must be"),
        ("host?prefix=*", "prefix must be"),
        ("host?credentials=/none", "/none"),
        ("host?ca=/none", "/none"),
    ],
)
def test_a_wrong_url(rest: str, why: str) -> None:
    with pytest.raises(ValueError, match=f"^the broker nats://h?.*{why}") as info:
        App(broker=f"nats://me:secret@{rest}")
    assert "secret" not in str(info.value)


def test_a_missing_package(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [name for name in sys.modules if name.startswith("nats.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.delitem(sys.modules, "pyws._core.nats_broker")
    monkeypatch.setitem(sys.modules, "nats", None)
    with pytest.raises(ImportError, match=r'nats://h .*pip install "pyws-server\[nats\]"') as info:
        App(broker="nats://me:secret@h")
    assert "secret" not in str(info.value)


# ---- what arrives may be cut anywhere -----------------------------------------------------------


class Bin(Link):
    """A link that keeps everything."""

    def __init__(self) -> None:
        self.got: List[Tuple[bytes, bytes]] = []
        self.errors: List[BaseException] = []

    def receive(self, topic: bytes, data: bytes, id: bytes = b"") -> None:
        self.got.append((topic, data))

    def lost(self, error: BaseException) -> None:
        self.errors.append(error)


STREAM = (
    b"MSG s 1 5\r\nMSG 1\r\nINFO {}\r\nMSG s 1 reply 0\r\n\r\nPING\r\n+OK\r\nMSG s 3 1\r\nx\r\n"
    b"HMSG s 2 12 14\r\nNATS/1.0\r\n\r\n\r\n\r\nPONG\r\n"
    b"HMSG s 2 reply 12 12\r\nNATS/1.0\r\n\r\n\r\n"
)
EXPECTED = [(b"one", b"MSG 1"), (b"one", b""), (b"two", b"\r\n"), (b"two", b"")]


async def pieces_arrive(pieces: List[bytes]) -> None:
    link, transport = Bin(), Outlet()
    wire: Any = Wire(link, False)
    wire._transport = transport
    wire.topics.update({b"1": b"one", b"2": b"two"})
    wire.begin()
    done = wire.ask([b"SUB s 1\r\n"])
    for piece in pieces:
        wire.data_received(piece)
    await until(lambda: len(link.got) == len(EXPECTED) * (len(link.got) // len(EXPECTED) or 1))
    await asyncio.wait_for(done, TIMEOUT)
    assert link.got == EXPECTED
    assert transport.written == b"SUB s 1\r\nPING\r\nPONG\r\n"
    assert not link.errors
    wire.close()


@in_loop
async def test_what_arrives_may_be_cut_anywhere() -> None:
    await pieces_arrive([STREAM])
    await pieces_arrive([bytes([byte]) for byte in STREAM])
    for cut in range(1, len(STREAM)):
        await pieces_arrive([STREAM[:cut], STREAM[cut:]])


@in_loop
async def test_many_messages_let_the_loop_run() -> None:
    """A thousand that arrive at once are delivered in several turns of the loop."""
    link, turns = Bin(), 0
    wire: Any = Wire(link, False)
    wire._transport = Outlet()
    wire.topics[b"1"] = b"one"
    wire.begin()
    wire.data_received(b"MSG s 1 1\r\nx\r\n" * 1000)
    while len(link.got) < 1000:
        assert len(link.got) % nats_broker.MOST_AT_ONCE == 0
        await asyncio.sleep(0)
        turns += 1
    assert turns >= 9
    wire.close()


# ---- processes ----------------------------------------------------------------------------------


def test_b1_each_worker_has_its_connection(own: NatsServer) -> None:
    with start(WORKERS, own.url) as program:
        port = int(program.line())
        ready = {program.line() for _ in range(2)}
        assert len(ready) == 2
        assert f"up {program.process.pid}" not in ready
        eventually(lambda: len(own.connections()) == 2)
        with upgraded(port) as peer:
            victim = pid_of(peer)
            os.kill(victim, signal.SIGKILL)
            assert program.line() not in ready  # the next one
        eventually(lambda: len(own.connections()) == 2)
        with upgraded(port) as peer:
            pid_of(peer)
            eventually(lambda: own.subjects() == ["pyws.topic.topic"])
            peer.send(frame(b"hello"))
            assert peer.frame().payload == b"hello"
        assert program.stop(signal.SIGTERM) == 0
    eventually(lambda: own.connections() == [])


def test_a_forked_child_does_not_keep_the_connection(server: NatsServer) -> None:
    forked_child(server.url)


@in_loop
async def test_a_loop_of_its_own_for_each_run(server: NatsServer) -> None:
    """The same app may run again, in another loop, as the same broker object serves it."""
    one = Node(server.url)
    async with one.running():
        pass
    broker: Any = NatsBroker(server.url)
    for _ in range(2):
        link = Bin()
        await broker.connect(link)
        await broker.subscribe([b"x"])
        await broker.publish([(b"x", b"own messages do not come back")])
        await broker.unsubscribe([b"x"])
        await broker.close()
        assert not link.got
        assert not link.errors
