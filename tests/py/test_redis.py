# SPDX-License-Identifier: MIT
"""Redis as a broker: a real redis-server of the system, started by the tests.

Where it is not installed the tests are skipped; with CI=true they fail instead.
"""

import asyncio
import os
import signal
import sys
from pathlib import Path
from typing import Any, Dict, Iterable, Iterator, List

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
from coroutines import in_loop, until
from memory_broker import Node
from peer import eventually, frame, upgraded
from redis_server import RedisServer, free_port
from worker_programs import start

from pyws import App
from pyws._core import envelope, transports

pytest.importorskip("websockets")
try:
    import pyws._core.redis_broker  # noqa: F401
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


# ---- messages -----------------------------------------------------------------------------------


@in_loop
async def test_b1_two_apps(server: RedisServer) -> None:
    await exchange(server.url)


def test_two_apps_in_uvloop(server: RedisServer) -> None:
    in_uvloop(server.url)


@in_loop
async def test_a_unix_socket(tmp_path: Path) -> None:
    path = tmp_path / "redis.sock"
    with RedisServer(tmp_path, "--unixsocket", str(path)):
        await exchange(f"redis+unix://{path}")


@in_loop
async def test_tls(tmp_path: Path) -> None:
    key, file = certificate(tmp_path)
    port = free_port()
    options = ["--tls-port", str(port), "--tls-cert-file", file, "--tls-key-file", key]
    options += ["--tls-ca-cert-file", file, "--tls-auth-clients", "no"]
    with RedisServer(tmp_path, *options):
        url = f"127.0.0.1:{port}?ssl_ca_certs={file}"
        await exchange(f"rediss://{url}")
        await exchange(f"valkeys://{url}")
        stranger = Node(f"rediss://127.0.0.1:{port}")
        async with stranger.running(up=False):
            await until(lambda: stranger.ups == [False])


@in_loop
async def test_b2_order_and_once_against_a_model(server: RedisServer) -> None:
    await order_against_a_model(server.url + "?prefix=model:")


@in_loop
async def test_topics_and_messages_may_contain_anything(server: RedisServer) -> None:
    topics = ["\0", "a\0b", "*", "h?llo[ab]", "\\", " ", "", "é" * 5000, "x" * 65536, "\r\n$1\r\n"]
    topics += ["news*", "news.art", "PUBLISH x y"]
    await anything_arrives(server.url, topics, 1 << 20)


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


@in_loop
async def test_b4_the_broker_is_killed_and_comes_back(
    own: RedisServer, caplog: pytest.LogCaptureFixture
) -> None:
    await killed_and_restarted(own, caplog)


@in_loop
async def test_b4_the_broker_is_frozen_under_load(own: RedisServer) -> None:
    await frozen_under_load(own)


@in_loop
async def test_b2_what_was_given_up_does_not_come_later(
    own: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    await given_up_while_frozen(own, monkeypatch)


@in_loop
async def test_a_silent_broker_is_noticed(
    own: RedisServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is published: PING alone finds out."""
    monkeypatch.setattr(transports, "LOOK_INTERVAL", 0.1)
    await silence_is_noticed(own)


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
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "the protocol of Redis, but probably HTTP"),
        (b"hello\r\n", "it does not speak the protocol of Redis"),
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
    def subscriptions(topics: Iterable[str]) -> Dict[str, int]:
        channels = [f"pyws:{topic}" for topic in topics]
        found: List[Any] = own.command("PUBSUB", "NUMSUB", *channels)
        return dict(zip(topics, found[1::2]))

    order_and_once_with_workers(own.url, subscriptions)


@in_loop
async def test_b6_the_end_of_a_topic(server: RedisServer) -> None:
    await end_of_a_topic(server.url)


def test_a_forked_child_does_not_keep_the_connection(server: RedisServer) -> None:
    forked_child(server.url)


RETURNS = """
    app = App(broker=sys.argv[1])

    def message(ws, message, opcode):
        app.publish("topic", message)
        child = os.fork()
        if child:
            _, status = os.waitpid(child, 0)
            ws.send(str(os.WEXITSTATUS(status)))

    app.ws("/*", open=lambda ws: ws.send("open"), message=message)
    app.on_broker(lambda up: print("up", up))
    listen()
    try:
        app.run()
    except RuntimeError:
        os._exit(7)
"""


def test_b2_a_forked_child_publishes_nothing_again(own: RedisServer) -> None:
    """It has returned from the handler, in the midst of a turn."""
    with start(RETURNS, own.url) as program:
        port = int(program.line())
        assert program.line() == "up True"
        with upgraded(port) as peer:
            assert peer.frame().payload == b"open"
            for _ in range(3):
                peer.send(frame(b"x"))
                assert peer.frame().payload == b"7"
        assert program.stop(signal.SIGTERM) == 0
    assert own.command("INFO", "commandstats")["cmdstat_publish"]["calls"] == 3
