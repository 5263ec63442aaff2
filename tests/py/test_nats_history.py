# SPDX-License-Identifier: MIT
"""Messages that NATS keeps: with a real nats-server of the system, started by the tests."""

import asyncio
import json
import re
import time
from datetime import datetime, timezone
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

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
from nats_server import NatsServer, Outlet

from pyws import History
from pyws.brokers import Refused

try:
    from pyws._core.nats_broker import KeepingWire, NatsBroker
    from pyws._core.nats_history import DAY, Stream, new_stream
except ImportError:
    unavailable("nats-py is not installed")


def jetstream(folder: Path, settings: str = "") -> NatsServer:
    return NatsServer(folder, f'jetstream {{ store_dir: "{folder}/store" }}\n{settings}')


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[NatsServer]:
    """A server that tests leave as it is."""
    with jetstream(tmp_path_factory.mktemp("nats")) as one:
        yield one


@pytest.fixture
def make(server: NatsServer, request: pytest.FixtureRequest) -> Callable[[], NatsBroker]:
    """A function that makes connections with a prefix of this test."""
    prefix = re.sub(r"\W", "_", request.node.name)
    return lambda: NatsBroker(f"{server.url}?prefix={prefix}")


async def api(server: NatsServer, place: str, request: Any) -> Any:
    """The answer of JetStream to a request."""
    import nats

    client = await nats.connect(server.url)
    try:
        answer = await client.request(f"$JS.API.{place}", json.dumps(request).encode())
        return json.loads(answer.data)
    finally:
        await client.close()


async def config_of(server: NatsServer, name: str) -> Any:
    return (await api(server, f"STREAM.INFO.{name}", {}))["config"]


# ---- what is kept -------------------------------------------------------------------------------


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
@in_loop
async def test_what_is_kept(make: Any, check: Any) -> None:
    await check(make)


@in_loop
async def test_any_id_against_a_model(make: Any) -> None:
    await any_id_against_a_model(make, exact=False)


@in_loop
async def test_quiet_topics_stay_complete(make: Any) -> None:
    """A position is good for `seconds`, whatever becomes of the message before it."""
    few = History("*", messages=2, seconds=1000)
    async with Member(make, few) as one:
        for number in range(3):
            begin = (await one.read(b"quiet", None)).id
            page = await one.read(b"quiet", begin)
            assert (data_of(page), page.complete) == ([], True)
            await one.append(b"loud", *[b"x"] * 10)
            page = await one.read(b"quiet", begin)
            assert (data_of(page), page.complete) == ([], True)
            await one.append(b"quiet", b"%d" % number)
            page = await one.read(b"quiet", begin)
            assert (data_of(page), page.complete) == ([b"%d" % number], True)


@in_loop
async def test_quiet_topics_whose_messages_are_too_old(make: Any) -> None:
    """They show that nothing was missed, and are not returned; as many as they are."""
    short = History("*", messages=500, seconds=1)
    async with Member(make, short) as one:
        await one.append(b"topic", *[b"old"] * 300, history=short)
        await one.append(b"other", *[b"old"] * 50, history=short)
        page = await one.read(b"topic", None, short)
        last, first = page.id, (await one.rest(b"topic", b"0", HISTORY)).messages[0][0]
        await asyncio.sleep(1.1)
        page = await one.read(b"topic", last, short)
        assert (page.id, data_of(page), page.complete) == (last, [], True)
        page = await one.read(b"topic", first, short)
        assert (data_of(page), page.complete) == ([], False)
        assert numbers(page.id) >= numbers(last)
        begun = time.monotonic()
        await one.append(b"topic", b"0", b"1", history=short)
        for id, complete in ((first, False), (last, True), (b"0", False)):
            queries: List[Any] = []
            record(one.broker, queries)
            page = await one.read(b"topic", id, short)
            if time.monotonic() - begun < 0.9:
                assert (data_of(page), page.complete) == ([b"0", b"1"], complete)
            assert len(queries) < 30


def record(broker: Any, queries: List[Any]) -> None:
    """Note what the broker asks JetStream."""
    answers = KeepingWire.answers

    async def recorded(requests: Any) -> Any:
        queries.extend(requests)
        return await answers(broker._wire, requests)

    broker._wire.answers = recorded


@in_loop
async def test_plain_messages_arrive_between(make: Any) -> None:
    async with Member(make, History("kept")) as one:
        await one.broker.subscribe([b"kept", b"other"])
        for topic in (b"kept", b"other"):
            await one.broker.publish([(topic, b"echo")])  # which does not come back
        async with Member(make, History("kept")) as other:
            await other.broker.publish([(b"kept", b"0"), (b"other", b"1")])
            await other.append(b"kept", b"2")
            await until(lambda: len(one.got) == 3)
            assert sorted(one.got)[0] == (b"kept", b"0", b"")
            assert sorted(one.got)[2] == (b"other", b"1", b"")
            assert sorted(one.got)[1][2] != b""
        await one.broker.unsubscribe([b"kept", b"other"])
        await one.append(b"kept", b"3")
        assert len(one.got) == 3


# ---- the stream ---------------------------------------------------------------------------------


@in_loop
async def test_limits_of_the_stream_only_grow(server: NatsServer) -> None:
    def make() -> NatsBroker:
        return NatsBroker(server.url + "?prefix=a.limits")

    wanted = (0, 0)
    for messages, seconds in ((10, 4000), (5, 5000), (20, 1), (1, 1)):
        histories = [History("a", messages=messages), History("b", messages=1, seconds=seconds)]
        async with Member(make, *histories):
            wanted = max(wanted[0], messages), max(wanted[1], seconds + DAY)
            config = await config_of(server, "a_limits_history")
            assert (config["max_msgs_per_subject"], config["max_age"] // 10**9) == wanted
    config["max_bytes"] = 10**8  # what somebody else has set stays
    await api(server, "STREAM.UPDATE.a_limits_history", config)
    async with Member(make, History("a", messages=30)):
        found = await config_of(server, "a_limits_history")
        assert found == {**config, "max_msgs_per_subject": 30}
    await api(server, "STREAM.UPDATE.a_limits_history", {**found, "max_msgs_per_subject": -1})
    async with Member(make, History("a", messages=30)):  # no limit is large enough
        assert (await config_of(server, "a_limits_history"))["max_msgs_per_subject"] == -1


@in_loop
async def test_many_begin_at_the_same_time(make: Any) -> None:
    members = [Member(make, History("*", messages=10 + n // 5)) for n in range(10)]
    await asyncio.gather(*(one.broker.connect(one) for one in members))
    for one in members:
        await one.append(b"topic", b"x")
        await one.broker.close()
        assert one.errors == []


@in_loop
async def test_other_histories_keep_less(make: Any) -> None:
    """The stream has the limits of the largest one, but nobody gets what is too old for him."""
    short = History("short", messages=100, seconds=1)
    async with Member(make, short, HISTORY) as one:
        begin = (await one.read(b"short", None, short)).id
        await one.append(b"short", b"0", history=short)
        await asyncio.sleep(1.1)
        page = await one.read(b"short", begin, short)
        assert (data_of(page), page.complete) == ([], False)
        page = await one.read(b"short", begin, HISTORY)
        assert (data_of(page), page.complete) == ([b"0"], True)


@in_loop
async def test_another_limit_of_the_stream(server: NatsServer) -> None:
    """A position proves nothing if the server may delete messages for any reason."""
    async with Member(lambda: NatsBroker(server.url + "?prefix=limited")):
        config = await config_of(server, "limited_history")
    await api(server, "STREAM.UPDATE.limited_history", {**config, "max_msgs": 3})
    async with Member(lambda: NatsBroker(server.url + "?prefix=limited")) as one:
        begin = (await one.read(b"topic", None)).id
        await one.append(b"topic", b"0", b"1")
        page = await one.read(b"topic", begin)
        assert (data_of(page), page.complete) == ([b"0", b"1"], False)
        page = await one.read(b"topic", page.messages[0][0])
        assert (data_of(page), page.complete) == ([b"1"], True)
        await one.append(b"other", b"2", b"3")
        page = await one.read(b"topic", begin)
        assert (data_of(page), page.complete) == ([b"1"], False)


# ---- what NATS loses ----------------------------------------------------------------------------


@pytest.mark.parametrize("keeps", [False, True], ids=["without files", "with files"])
@in_loop
async def test_nats_starts_again(tmp_path: Path, keeps: bool) -> None:
    lost = None if keeps else tmp_path / "store"
    with jetstream(tmp_path) as own:
        await starts_again(own, lambda: NatsBroker(own.url), keeps, lost)


@in_loop
async def test_the_stream_is_deleted(server: NatsServer) -> None:
    """The connection is made again, which makes a stream with other ids."""
    one = Member(lambda: NatsBroker(server.url + "?prefix=deleted"))
    await one.broker.connect(one)
    await one.append(b"topic", b"0", b"1")
    last = (await one.read(b"topic", None)).id
    await api(server, "STREAM.DELETE.deleted_history", {})
    with pytest.raises(ConnectionError, match="no JetStream answers"):
        await one.append(b"topic", b"2")
    await one.broker.close()
    one.errors.clear()
    async with one:
        await one.append(b"topic", b"2")
        page = await one.read(b"topic", last)
        assert (data_of(page), page.complete) == ([b"2"], False)


@in_loop
async def test_the_stream_is_made_anew_by_somebody_else(server: NatsServer) -> None:
    """Its numbers begin anew, which ends the connections that know the old one."""
    one = Member(lambda: NatsBroker(server.url + "?prefix=anew"))
    await one.broker.connect(one)
    await one.broker.subscribe([b"topic"])
    await one.append(b"topic", b"0", b"1")
    config = await config_of(server, "anew_history")
    await api(server, "STREAM.DELETE.anew_history", {})
    await api(server, "STREAM.CREATE.anew_history", config)
    with pytest.raises(ConnectionError, match="has not passed on all"):
        await one.append(b"topic", b"2")
        await until(lambda: one.errors != [])
        raise one.errors[0]
    await one.broker.close()


@in_loop
async def test_publishers_at_the_same_moment_do_not_end_the_connection(make: Any) -> None:
    """The server may pass on what they publish in another order than it keeps it."""
    import nats

    async def publish(who: int) -> None:
        for number in range(0, 600, 20):
            for at in range(number, number + 20):
                await clients[who].publish(f"{prefix}.history.topic.topic", b"%d:%d" % (who, at))
            await clients[who].flush()

    async with Member(make) as one:
        await one.broker.subscribe([b"topic"])
        broker: Any = one.broker
        prefix = broker._prefix
        clients = [await nats.connect(broker._servers) for _ in range(6)]
        await one.read(b"topic", b"0")
        await asyncio.gather(*map(publish, range(6)))
        await until(lambda: one.errors != [] or len(one.got) == 3600)
        for client in clients:
            await client.close()
        assert one.errors == []
        keys = [tuple(map(int, id.split(b"-"))) for _, _, id in one.got]
        assert keys == sorted(set(keys))


@in_loop
async def test_a_server_that_is_full(tmp_path: Path) -> None:
    """Some of the messages may be kept; the connection goes on."""
    store = f"jetstream {{store_dir: '{tmp_path / 'store'}', max_file_store: 1MB}}"
    with NatsServer(tmp_path, store) as own:
        async with Member(lambda: NatsBroker(own.url)) as one:
            await one.broker.subscribe([b"topic"])
            refused = sent = 0
            while not refused:
                assert sent < 1000
                sent += 7
                try:
                    await one.append(b"topic", *[b"x" * 10_000] * 7)
                except Refused as error:
                    assert "insufficient resources" in str(error)
                    refused = error.messages or 0
                    assert 0 < refused <= 7
            await one.broker.publish([(b"topic", b"plain")])
            await until(lambda: len(one.got) == sent - refused)


# ---- errors that say what to do -----------------------------------------------------------------


@in_loop
async def test_a_server_without_jetstream(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as own:
        assert "is it enabled there (nats-server -js)?" in await connect_error(NatsBroker, own.url)
        one = Member(lambda: NatsBroker(own.url))
        one.broker.histories = ()
        async with one:  # everything else works there
            pass


@in_loop
async def test_another_stream_of_that_name(server: NatsServer) -> None:
    config = {"name": "x_y_history", "subjects": ["x_y.history.>"], "num_replicas": 1}
    await api(server, "STREAM.CREATE.x_y_history", {**config, "storage": "file"})
    error = await connect_error(NatsBroker, server.url + "?prefix=x_y")
    assert "the stream x_y_history has republish None, but history needs {'src': 'x_y." in error
    error = await connect_error(NatsBroker, server.url + "?prefix=x.y")
    assert "has subjects ['x_y.history.>'], but history needs ['x.y.history.>']" in error


@in_loop
async def test_a_user_who_may_not(tmp_path: Path) -> None:
    places = ["INFO", "CREATE", "UPDATE", "MSG.GET"]
    wanted = ", ".join(f'"$JS.API.STREAM.{place}.pyws_history"' for place in places)
    settings = f"""authorization {{ users: [
        {{ user: shy, password: p, permissions: {{ publish: "pyws.>", subscribe: "pyws.>" }} }}
        {{ user: bold, password: p, permissions: {{
            publish: ["pyws.>", {wanted}], subscribe: "pyws.>" }} }}
    ] }}"""
    with jetstream(tmp_path, settings) as own:
        place = f"127.0.0.1:{own.port}"
        error = await connect_error(NatsBroker, f"nats://shy:p@{place}")
        assert "$JS.API.STREAM.INFO.pyws_history" in error
        async with Member(lambda: NatsBroker(f"nats://bold:p@{place}")) as one:
            await one.broker.subscribe([b"topic"])
            begin = (await one.read(b"topic", None)).id
            await one.append(b"topic", b"0")
            assert data_of(await one.read(b"topic", begin)) == [b"0"]
            await until(lambda: len(one.got) == 1)


@in_loop
async def test_a_stream_that_is_full(server: NatsServer) -> None:
    async with Member(lambda: NatsBroker(server.url + "?prefix=full")) as one:
        config = await config_of(server, "full_history")
        await api(server, "STREAM.UPDATE.full_history", {**config, "max_msg_size": 5})
        with pytest.raises(ConnectionError, match="message size exceeds maximum allowed"):
            await one.append(b"topic", b"12345", b"123456")


# ---- what arrives may be cut anywhere, and be anything ------------------------------------------

INFO = {
    "created": "2026-11-29T04:00:57.219167221Z",
    "config": {"max_msgs_per_subject": 5, "max_age": 10**9, "max_msgs": -1, "max_bytes": -1},
}
EPOCH = 1795924857219


def kept(number: int, before: int, data: bytes) -> bytes:
    head = b"NATS/1.0\r\nNats-Stream: s\r\nNats-Sequence: %d\r\nNats-Last-Sequence: %d\r\n\r\n"
    head %= number, before
    sizes = len(head), len(head) + len(data)
    return b"HMSG pyws.kept.topic.x 1k %d %d\r\n%b%b\r\n" % (*sizes, head, data)


class Bench(Member):
    """A wire without a server, that has subscribed to a topic."""

    def __init__(self) -> None:
        super().__init__(lambda: NatsBroker("nats://x"))
        self.wire: Any = KeepingWire(self, False)
        self.wire._transport = self.outlet = Outlet()
        self.wire.stream = Stream("s", INFO)
        self.wire.topics[b"1"] = self.wire.kept[b"1k"] = b"x"
        self.wire.listen("inbox.")
        self.wire.begin()


@in_loop
async def test_kept_messages_in_pieces() -> None:
    data = kept(5, 0, b"\r\nMSG") + b"MSG s 1 5\r\nplain\r\n" + kept(9, 5, b"") + kept(10, 9, b"x")
    data += b"MSG s 1k 5\r\nfalse\r\nHMSG s 1k 12 13\r\nNATS/1.0\r\n\r\n.\r\n"
    ids = [b"%d-%d" % (EPOCH, number) for number in (5, 9, 10)]
    wanted = [(b"\r\nMSG", ids[0]), (b"plain", b""), (b"", ids[1]), (b"x", ids[2])]
    wanted += [(b"false", b""), (b".", b"")]
    for cuts in [range(1, len(data)), *([cut] for cut in range(1, len(data)))]:
        bench = Bench()
        start = 0
        for cut in (*cuts, len(data)):
            bench.wire.data_received(data[start:cut])
            start = cut
        assert [(data, id) for _, data, id in bench.got] == wanted
        assert bench.errors == []
        bench.wire.close()


@pytest.mark.parametrize(
    "rest",
    [kept(5, 0, b""), kept(4, 3, b""), kept(7, 6, b"x" * (5 << 20))],
    ids=["twice", "earlier", "too much after one that is missing"],
)
@in_loop
async def test_what_the_server_has_not_passed_on(rest: bytes) -> None:
    """The app connects again then, and reads what was missed."""
    bench = Bench()
    bench.wire.data_received(kept(5, 0, b"0"))
    bench.wire.data_received(rest)
    assert [data for _, data, _ in bench.got] == [b"0"]
    assert len(bench.errors) == 1
    assert "has not passed on all that it keeps" in str(bench.errors[0])


@in_loop
async def test_an_earlier_message_does_not_come() -> None:
    bench = Bench()
    for data in (kept(5, 0, b"0"), kept(7, 6, b"2")):
        bench.wire.data_received(data)
    bench.wire._check()
    bench.wire.data_received(kept(8, 7, b"3"))
    assert bench.errors == []
    bench.wire._check()
    assert "has not passed on all that it keeps" in str(bench.errors[0])
    assert [data for _, data, _ in bench.got] == [b"0"]


@in_loop
async def test_the_first_messages_in_any_order() -> None:
    """All that follow what was read since the subscription will come."""
    for end in (4, 3):
        bench = Bench()
        bench.wire.ends[b"x"] = end
        for message in (kept(7, 6, b"2"), kept(6, 5, b"1"), kept(5, 3, b"0")):
            bench.wire.data_received(message)
        assert [data for _, data, _ in bench.got] == [b"0", b"1", b"2"]
        assert bench.errors == []
        bench.wire.close()


@in_loop
async def test_messages_of_several_publishers_in_any_order() -> None:
    """The server passes them on after it has unlocked the stream."""
    bench = Bench()
    bench.wire.kept[b"2k"] = b"y"
    bench.wire.data_received(kept(5, 0, b"0"))
    others = [kept(8, 7, b"3"), kept(6, 5, b"1"), kept(7, 6, b"2")]
    others.append(kept(4, 3, b"y").replace(b" 1k ", b" 2k ", 1))
    for message in others:
        bench.wire.data_received(message)
    bench.wire._check()
    bench.wire._check()
    assert bench.errors == []
    got = [(topic, data) for topic, data, _ in bench.got]
    assert got == [(b"x", b"%d" % number) for number in range(4)] + [(b"y", b"y")]
    bench.wire.close()


@in_loop
async def test_what_waits_for_an_earlier_message_is_forgotten_with_its_topic() -> None:
    bench = Bench()
    for data in (kept(5, 0, b"0"), kept(7, 6, b"2")):
        bench.wire.data_received(data)
    assert bench.wire.forget(b"1k")
    bench.wire._check()
    bench.wire._check()
    assert (bench.errors, bench.wire._early, bench.wire._early_size) == ([], {}, 0)
    bench.wire.close()


@in_loop
async def test_answers_in_any_order() -> None:
    bench = Bench()
    asking = asyncio.ensure_future(bench.wire.answers([("a", b"1"), ("b", b"2"), ("c", b"")]))
    await asyncio.sleep(0)
    wanted = (
        b"SUB inbox.* a\r\nPUB a inbox.1 1\r\n1\r\nPUB b inbox.2 1\r\n2\r\nPUB c inbox.3 0\r\n\r\n"
    )
    assert bench.outlet.written == wanted
    for number in (2, 7, 2, 3, 1):  # one is unknown, one comes twice
        bench.wire.data_received(b"MSG inbox.%d a 1\r\n%d\r\n" % (number, number))
    assert await asyncio.wait_for(asking, 5) == [b"1", b"2", b"3"]
    assert bench.got == []
    asking = asyncio.ensure_future(bench.wire.answers([("a", b"1")]))
    await asyncio.sleep(0)
    bench.wire.data_received(b"HMSG inbox.4 a 16 16\r\nNATS/1.0 503\r\n\r\n\r\n")
    with pytest.raises(ConnectionError, match="no JetStream answers"):
        await asking
    with pytest.raises(ConnectionError, match="no JetStream answers"):
        await bench.wire.answers([("a", b"1")])


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (b"", "it answers b''"),
        (b"{}", "it does not confirm|what JetStream does not"),
        (b"[]", r"it answers b'\[\]'"),
        (b"{" * 100_000, "it answers b'{{{"),
        (b'{"error":{"code":503,"description":"no room"}}', "JetStream.*: no room"),
    ],
)
@in_loop
async def test_answers_that_are_wrong(answer: bytes, error: str) -> None:
    for call in ("append", "read"):
        bench = Bench()
        broker: Any = bench.broker
        broker._wire = bench.wire
        method: Callable[..., Any] = getattr(bench, call)
        asking = asyncio.ensure_future(method(b"topic", b"x"))
        await asyncio.sleep(0)
        for number in range(1, bench.outlet.written.count(b"PUB ") + 1):
            line = b"MSG inbox.%d a %d\r\n" % (number, len(answer))
            bench.wire.data_received(line + answer + b"\r\n")
        with pytest.raises(ConnectionError, match=error):
            await asyncio.wait_for(asking, 5)
        bench.wire.close()


def answer_to(query: Any, last: int, messages: List[int]) -> Any:
    """What JetStream answers when it has these messages of a subject, and `last` ones of all."""
    place, request = query
    if place.startswith("STREAM.INFO"):
        return {"state": {"last_seq": last}}
    wanted = json.loads(request)
    found = [one for one in messages if one >= wanted.get("seq", 0)]
    if not found:
        return {"error": {"code": 404, "err_code": 10037}}
    number = found[-1 if "last_by_subj" in wanted else 0]
    time = datetime.now(timezone.utc).isoformat().partition("+")[0] + "Z"
    return {"message": {"seq": number, "time": time}}


@pytest.mark.parametrize("after", [None, b"%d-50-1" % EPOCH, b"1-1", b"junk"])
@pytest.mark.parametrize("when", range(1, 7))
def test_messages_that_come_during_a_read(when: int, after: Optional[bytes]) -> None:
    """They come after the position, or are in the page: they are announced later than that."""
    asking = Stream("s", INFO).read("subject", after, HISTORY)
    queries, asked = next(asking), 0
    page = None
    while page is None:
        answers = []
        for query in queries:
            come = 3 if asked >= when else 0
            answers.append(answer_to(query, 50 + come, [51, 53][:come]))
            asked += 1
        try:
            queries = asking.send(answers)
        except StopIteration as end:
            page = end.value
    ids = [numbers(id) for id, _ in page.messages]
    assert ids == [(EPOCH, 51), (EPOCH, 53)][: len(ids)]
    assert ids or numbers(page.id) < (EPOCH, 51)


def test_two_processes_make_the_stream() -> None:
    """The other one was faster."""
    asking = new_stream("pyws", [HISTORY])
    places: List[str] = [place for place, _ in next(asking)]
    for code in (10059, 10058):
        answer = {"error": {"code": 400, "err_code": code, "description": "x"}}
        places += [place for place, _ in asking.send([answer])]
    assert [place.split(".")[1] for place in places] == ["INFO", "CREATE", "INFO"]
