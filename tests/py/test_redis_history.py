# SPDX-License-Identifier: MIT
"""Messages that Redis keeps: with a real redis-server of the system, started by the tests."""

import asyncio
from pathlib import Path
from typing import Any, Callable, Iterator

import pytest
from chromium import unavailable
from coroutines import in_loop, until
from keeping_checks import (
    CHECKS,
    HISTORY,
    Member,
    any_id_against_a_model,
    connect_error,
    data_of,
    numbers,
    starts_again,
)
from memory_broker import Node
from redis_server import RedisServer, free_port

from pyws import History
from pyws.brokers import Refused

try:
    from pyws._core import redis_history
    from pyws._core.redis_broker import RedisBroker
except ImportError:
    unavailable("redis and hiredis are not installed")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    """A server that tests leave as it is."""
    with RedisServer(tmp_path_factory.mktemp("redis")) as one:
        yield one


@pytest.fixture
def make(server: RedisServer, request: pytest.FixtureRequest) -> Callable[[], RedisBroker]:
    """A function that makes connections with a prefix of this test."""
    return lambda: RedisBroker(f"{server.url}?prefix={request.node.name}:")


# ---- what is kept -------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@in_loop
async def test_what_is_kept(make: Any, check: Any) -> None:
    await check(make)


@in_loop
async def test_any_id_against_a_model(make: Any) -> None:
    await any_id_against_a_model(make)


@in_loop
async def test_quiet_topics_stay_complete(server: RedisServer) -> None:
    """Also if all messages are older than `seconds`: nothing was missed."""
    short = History("*", messages=100, seconds=1)
    async with Member(lambda: RedisBroker(server.url), short) as one:
        await one.append(b"quiet", b"0", b"1", history=short)
        last = (await one.read(b"quiet", None, short)).id
        await asyncio.sleep(1.1)
        assert server.command("EXISTS", "pyws:history:quiet") == 0
        page = await one.read(b"quiet", last, short)
        assert (page.id, data_of(page), page.complete) == (last, [], True)
        await one.append(b"quiet", b"2", history=short)
        page = await one.read(b"quiet", last, short)
        assert (data_of(page), page.complete) == ([b"2"], True)


@in_loop
async def test_redis_forgets(server: RedisServer) -> None:
    """No key lives without an end, and a stream has no more entries than are wanted."""
    few = History("*", messages=3, seconds=100)
    server.command("SELECT", 0)
    async with Member(lambda: RedisBroker(server.url + "?prefix=forget:"), few) as one:
        await one.append(b"topic", *[b"x"] * 500, history=few)
        await one.read(b"other", None, few)
    assert server.command("XLEN", "forget:history:topic") == 3
    assert 99_000 < server.command("PTTL", "forget:history:topic") <= 100_000
    assert server.command("EXISTS", "forget:history:other") == 0
    for topic in ("topic", "other"):
        day = redis_history.DAY + 100_000
        assert day - 1000 < server.command("PTTL", f"forget:last:{topic}") <= day


@in_loop
async def test_an_app_without_history_gets_kept_messages(make: Any) -> None:
    """As while a version that has a history replaces one that has none."""
    other = Member(make)
    other.broker.histories = ()
    async with Member(make) as one, other:
        await other.broker.subscribe([b"topic"])
        await one.append(b"topic", b"pyws", b"")
        await one.broker.publish([(b"topic", b"plain"), (b"topic", b"")])
        await until(lambda: len(other.got) == 4)
        page = await one.read(b"topic", b"0")
        kept = [(b"topic", data, id) for id, data in page.messages]
        assert other.got == [*kept, (b"topic", b"plain", b""), (b"topic", b"", b"")]


@in_loop
async def test_plain_messages_arrive_between(make: Any) -> None:
    """Garbage, too, which is for the link to find out."""
    async with Member(make) as one:
        await one.broker.subscribe([b"topic"])
        plain = [b"", b"pyws", b"1", b"1-", b"1-2", b"a-2\nx", b"1-2-3\nx", b"1" * 99 + b"-1\nx"]
        for data in plain:
            await one.append(b"topic", data)
            await one.broker.publish([(b"topic", data)])
        await until(lambda: len(one.got) == 2 * len(plain))
        assert [data for _, data, _ in one.got[::2]] == plain
        assert [(data, id) for _, data, id in one.got[1::2]] == [(data, b"") for data in plain]


# ---- what Redis loses ---------------------------------------------------------------------------


@pytest.mark.parametrize("lost", ["history", "last", "history last"])
@in_loop
async def test_a_key_is_lost(server: RedisServer, lost: str) -> None:
    """As by eviction. It is never complete without what is missing, and goes on."""
    url = server.url + f"?prefix={lost.replace(' ', '')}:"
    async with Member(lambda: RedisBroker(url)) as one:
        begin = (await one.read(b"topic", None)).id
        await one.append(b"topic", b"0", b"1")
        (first, _), _ = (await one.read(b"topic", begin)).messages
        for name in lost.split():
            server.command("DEL", f"{lost.replace(' ', '')}:{name}:topic")
        for after in (begin, first):
            page = await one.read(b"topic", after)
            assert (data_of(page), page.complete) == ([], False)
        await one.append(b"topic", b"2")
        page = await one.read(b"topic", first)
        assert (data_of(page), page.complete) == ([b"2"], False)
        assert numbers(page.id) > numbers(first)
        await one.append(b"topic", b"3")
        page = await one.read(b"topic", page.id)
        assert (data_of(page), page.complete) == ([b"3"], True)


@pytest.mark.parametrize("keeps", [False, True], ids=["in memory", "in a file"])
@in_loop
async def test_redis_starts_again(tmp_path: Path, keeps: bool) -> None:
    options = ["--appendonly", "yes", "--appendfsync", "always"] if keeps else []
    with RedisServer(tmp_path, *options) as own:
        await starts_again(own, lambda: RedisBroker(own.url), keeps)


@pytest.mark.parametrize(
    "words",
    [
        ("SET", "last:topic", "garbage"),
        ("SET", "last:topic", "9" * 100 + "-1"),
        ("HSET", "last:topic", "a", "b"),
        ("SET", "history:topic", "garbage"),
        ("XADD", "history:topic", "999999999999999-0", "a", "b"),
        ("XADD", "history:topic", "*", "a", "b"),
    ],
    ids=["text", "numbers", "hash", "no stream", "later", "other fields"],
)
@in_loop
async def test_keys_of_another_user_are_no_obstacle(
    server: RedisServer, request: pytest.FixtureRequest, words: Any
) -> None:
    """The connection goes on, as it carries all other topics, too."""
    prefix = f"{request.node.name}:"
    async with Member(lambda: RedisBroker(f"{server.url}?prefix={prefix}")) as one:
        await one.append(b"topic", b"1", b"2")
        position = (await one.read(b"topic", None)).id
        command, key, *rest = words
        if command != "XADD":
            server.command("DEL", prefix + key)
        server.command(command, prefix + key, *rest)
        await one.rest(b"topic", position)
        await one.append(b"topic", b"3")
        page = await one.rest(b"topic", position)
        assert data_of(page)[-1:] == [b"3"]
        position = (await one.read(b"topic", None)).id
        await one.append(b"topic", b"4")
        page = await one.rest(b"topic", position)
        assert (data_of(page), page.complete) == ([b"4"], True)


@in_loop
async def test_the_script_is_lost(server: RedisServer) -> None:
    """As after a failover: the connection is made again, which loads it."""
    one = Member(lambda: RedisBroker(server.url))
    await one.broker.connect(one)
    server.command("SCRIPT", "FLUSH")
    with pytest.raises(ConnectionError, match="NOSCRIPT"):
        await one.append(b"topic", b"0")
    assert len(one.errors) == 1
    await one.broker.close()
    one.errors.clear()
    async with one:
        await one.append(b"topic", b"0")


# ---- errors that say what to do -----------------------------------------------------------------


@in_loop
async def test_a_user_who_may_not(server: RedisServer) -> None:
    server.command("ACL", "SETUSER", "shy", "on", ">p", "+@all", "resetchannels", "&pyws:*")
    url = f"redis://shy:p@127.0.0.1:{server.port}"
    error = await connect_error(RedisBroker, url)
    assert "key" in error and "history needs ~pyws:*" in error
    server.command("ACL", "SETUSER", "shy", "~pyws:*", "-eval")
    assert "'eval'" in await connect_error(RedisBroker, url)
    commands = ["EVAL", "EVALSHA", "TIME", "GET", "SET", "DEL", "PEXPIRE", "XADD", "XRANGE"]
    commands += ["PUBLISH", "SUBSCRIBE", "UNSUBSCRIBE", "PING", "HELLO"]
    wanted = [f"+{one.lower()}" for one in commands]
    server.command("ACL", "SETUSER", "shy", "-@all", *wanted)  # as docs/scaling.md says
    async with Member(lambda: RedisBroker(url)) as one:
        await one.broker.subscribe([b"topic"])
        begin = (await one.read(b"topic", None)).id
        await one.append(b"topic", b"0")
        assert data_of(await one.read(b"topic", begin)) == [b"0"]


@in_loop
async def test_a_cluster(tmp_path: Path) -> None:
    options = ["--cluster-enabled", "yes", "--cluster-port", str(free_port())]
    with RedisServer(tmp_path, *options) as own:
        own.command("CLUSTER", "ADDSLOTSRANGE", 0, 16383)
        one = Member(lambda: RedisBroker(own.url))
        await until(lambda: b"cluster_state:ok" in own.command("CLUSTER", "INFO"))
        error = await connect_error(RedisBroker, own.url)
        assert "history needs a Redis that is no cluster" in error
        one.broker.histories = ()
        await one.broker.connect(one)  # everything else works there
        await one.broker.close()


@in_loop
async def test_a_server_that_is_full(tmp_path: Path) -> None:
    """Nothing is kept in part."""
    with RedisServer(tmp_path) as own:
        one = Member(lambda: RedisBroker(own.url))
        await one.broker.connect(one)
        begin = (await one.read(b"topic", None)).id
        own.command("CONFIG", "SET", "maxmemory", "1")
        for _ in range(2):
            with pytest.raises(Refused, match="OOM") as info:
                await one.append(b"topic", b"0", b"1")
            assert info.value.messages is None
        assert data_of(await one.read(b"topic", begin)) == []
        own.command("CONFIG", "SET", "maxmemory", "0")
        await one.broker.append([(b"topic", b"0", HISTORY)])
        assert data_of(await one.read(b"topic", begin)) == [b"0"]
        assert one.errors == []
        await one.broker.close()


@in_loop
async def test_a_server_that_is_full_holds_up_nothing_else(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What it does not keep is lost and counted; the connection goes on."""
    with RedisServer(tmp_path) as own:
        one = Node(own.url, {"history": History("kept")})
        async with one.running():
            await one.client("a", "kept", "plain", "other")
            one.app.publish("kept", "before")
            assert await one.first("a") == "before"
            own.command("CONFIG", "SET", "maxmemory", "1")
            for number in range(10):
                one.app.publish("kept", f"lost {number}")
                one.app.publish("plain", f"{number}")
                await one.settled()
            assert await one.got("a") == [f"{number}" for number in range(10)]
            await one.client("b", "new")
            await one.settled()
            assert (one.stats["published"], one.stats["kept"], one.stats["lost"]) == (10, 1, 10)
            own.command("CONFIG", "SET", "maxmemory", "0")
            one.app.publish("kept", "after")
            assert await one.first("a") == "after"
            assert one.ups == [True]
    assert len([line for line in caplog.messages if "OOM command not allowed" in line]) == 1
