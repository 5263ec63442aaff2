# SPDX-License-Identifier: MIT
"""examples/brokers/postgres.py: a broker of 50 lines, with the PostgreSQL of the system.

Where it is not installed the tests are skipped; with CI=true they fail instead.
"""

import ast
import asyncio
import importlib.util
from typing import Any, Iterator, List, Tuple

import pytest
from broker_checks import anything_arrives, exchange, lines_of
from chromium import unavailable
from common import ROOT
from coroutines import in_loop, in_thread, until
from memory_broker import Node
from postgres_server import PostgresServer

from pyws import publish_to
from pyws._core import envelope
from pyws.brokers import Link

pytest.importorskip("websockets")
EXAMPLE = ROOT / "examples" / "brokers" / "postgres.py"


def load() -> Any:
    spec = importlib.util.spec_from_file_location("postgres", str(EXAMPLE))
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(module)
    except ImportError as error:
        unavailable(f"no psycopg here: {error}")
    return module


PostgresBroker = load().PostgresBroker


@pytest.fixture(scope="module")
def server() -> Iterator[PostgresServer]:
    with PostgresServer() as one:
        yield one


def test_it_is_short() -> None:
    """docs/scaling.md says so: without comments, imports and empty lines."""
    tree = ast.parse(EXAMPLE.read_text(encoding="utf-8"))
    code = [node for node in tree.body if not isinstance(node, (ast.Import, ast.ImportFrom))]
    lines = {node.lineno for top in code for node in ast.walk(top) if hasattr(node, "lineno")}
    assert 20 < len(lines) <= 50


@in_loop
async def test_two_apps(server: PostgresServer) -> None:
    await exchange(lambda: PostgresBroker(server.url))


@in_loop
async def test_topics_and_messages_may_contain_anything(server: PostgresServer) -> None:
    topics = ["\0", "a b", '"', "'; --", "", "x" * 65536, "é"]
    await anything_arrives(lambda: PostgresBroker(server.url), topics, 5000, 5000)


class Bin(Link):
    """A link that keeps everything."""

    def __init__(self) -> None:
        self.got: List[Tuple[bytes, bytes]] = []

    def receive(self, topic: bytes, data: bytes, id: bytes = b"") -> None:
        self.got.append((topic, data))

    def lost(self, error: BaseException) -> None:
        raise AssertionError(error)


@in_loop
async def test_nothing_is_lost_while_subscriptions_change(server: PostgresServer) -> None:
    """Nor left out because it is the same as another message."""
    one, other = PostgresBroker(server.url), PostgresBroker(server.url)
    link = Bin()
    await one.connect(Bin())
    await other.connect(link)
    await other.subscribe([b"x"])

    async def change() -> None:
        for number in range(100):
            await other.subscribe([b"%d" % number, b"a%d" % number])
            await other.unsubscribe([b"%d" % number])

    task = asyncio.ensure_future(change())
    sent = 0
    while not task.done():
        await one.publish([(b"x", b"same")] * 10)
        sent += 10
    await task
    await until(lambda: len(link.got) == sent)
    assert set(link.got) == {(b"x", b"same")}
    for broker in (one, other):
        await broker.close()


@in_loop
async def test_the_longest_message(
    server: PostgresServer, caplog: pytest.LogCaptureFixture
) -> None:
    most = PostgresBroker.max_size - envelope.HEADER
    one, other = Node(PostgresBroker(server.url)), Node(PostgresBroker(server.url))
    async with one.running(), other.running():
        for node in (one, other):
            await node.client("a", "topic")
            await node.settled()
        for size in (most, most + 1, 8000, 1):
            one.app.publish("topic", bytes(size))
        await one.settled()
        assert one.stats["lost"] == 2
        assert await other.first("a") == bytes(most)
        assert await other.first("a") == bytes(1)
        assert one.ups == [True]
    lines = [line for line in lines_of(caplog) if "takes at most 5994" in line]
    assert len(lines) == 1


@in_loop
async def test_publish_to(server: PostgresServer) -> None:
    node = Node(PostgresBroker(server.url))
    async with node.running():
        await node.client("a", "topic")
        await node.settled()
        await in_thread(publish_to, PostgresBroker(server.url), "topic", {"a": 1})
        assert await node.first("a") == '{"a":1}'
    with pytest.raises(ConnectionError, match="^the broker PostgresBroker: .*/none"):
        await in_thread(publish_to, PostgresBroker("postgresql:///x?host=/none"), "topic", "x")


@in_loop
async def test_it_comes_back() -> None:
    with PostgresServer() as own:
        one, other = Node(PostgresBroker(own.url)), Node(PostgresBroker(own.url))
        async with one.running(), other.running():
            for node in (one, other):
                await node.client("a", "topic")
                await node.settled()
            own.kill()
            for node in (one, other):
                await until(lambda: node.ups == [True, False])  # noqa: B023
            own.start()
            for node in (one, other):
                await until(lambda: node.ups == [True, False, True])  # noqa: B023
            one.app.publish("topic", "again")
            assert await other.first("a") == "again"
