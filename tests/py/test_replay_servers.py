# SPDX-License-Identifier: MIT
"""Topics with history at real servers: Redis, and NATS with JetStream, started by the tests."""

import asyncio
import json
import os
import random
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set
from urllib.parse import quote

import pytest
from broker_checks import Load, received_more, restarted_under_load
from common import ROOT, show_figures
from coroutines import in_loop, until
from nats_server import NatsServer
from peer import Peer, close_frame, frame, upgraded
from program import Program
from redis_server import RedisServer
from replays import (
    Labelled,
    Notice,
    Place,
    Reader,
    check_messages,
    check_one_order,
    numbers,
    parsed,
    wander,
)
from worker_programs import start

from pyws import History
from pyws._core import link

pytest.importorskip("websockets")
pytest.importorskip("redis")
pytest.importorskip("nats")

KINDS = ("redis", "nats")
EVERYTHING = History("*", messages=100_000)


def new_server(kind: str, folder: Path, durable: bool = False) -> Any:
    """A server; if it is durable, a confirmed message survives a kill."""
    if kind == "redis":
        files = ("--appendonly", "yes", "--appendfsync", "always") if durable else ()
        return RedisServer(folder, *files)
    # What a nats-server has not synchronized yet outlives it, though not the machine.
    return NatsServer(folder, f'jetstream {{ store_dir: "{folder}/store" }}')


@pytest.fixture(scope="module")
def servers(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Dict[str, Any]]:
    """Servers that tests leave as they are."""
    with ExitStack() as stack:
        folders = {kind: tmp_path_factory.mktemp(kind) for kind in KINDS}
        yield {kind: stack.enter_context(new_server(kind, folders[kind])) for kind in KINDS}


@pytest.fixture(params=KINDS)
def url(servers: Dict[str, Any], request: pytest.FixtureRequest) -> str:
    """A broker, with a prefix of this test."""
    prefix = "".join(letter for letter in request.node.name if letter.isalnum())
    return f"{servers[request.param].url}?prefix={prefix}"


@pytest.fixture(params=KINDS)
def own(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Any]:
    """A server that the test may kill, and that loses nothing then."""
    with new_server(request.param, tmp_path, durable=True) as one:
        yield one


async def position(reader: Reader, topic: str) -> str:
    """The first thing that a client without ids gets."""
    notice = await reader.next()
    assert isinstance(notice, Notice)
    assert (notice.topic, notice.complete) == (topic, True)
    return notice.id


# ---- ids ----------------------------------------------------------------------------------------


@in_loop
async def test_b8_one_order_for_all(url: str) -> None:
    one, other = Place(url, EVERYTHING), Place(url, EVERYTHING)
    async with one.running(), other.running():
        readers = [await node.come("a", "room", ids={}) for node in (one, other)]
        plain = await other.come("b", "room")
        for reader in readers:
            await position(reader, "room")
        for number in range(500):
            one.app.publish("room", f"one {number}")
            other.sockets["b"].publish("room", f"two {number}")
            if number % 20 == 0:
                await asyncio.sleep(0.001)
        await check_one_order(readers, plain, 500)
        assert one.stats["kept"] == other.stats["kept"] == 500
        assert one.stats["lost"] == other.stats["ignored"] == 0


@in_loop
async def test_b8_any_topic_and_message(url: str) -> None:
    topics = ["", "a b*", "x.y>", "\0\r\n", "é{1}", "t" * 2000]
    messages: List[Any] = ["", b"", "\0\n", b"\0\n\xff", "é" * 30_000, os.urandom(65536)]
    route = {"max_topic_length": 5000}
    one, other = (Place(url, EVERYTHING, route={**route}) for _ in range(2))
    async with one.running(), other.running():
        reader = await other.come("a", *topics, ids={})
        starts = {}
        for _ in topics:
            notice = await reader.next()
            starts[notice.topic] = notice.id
        assert sorted(starts) == sorted(topics)
        for topic in topics:
            for message in messages:
                one.app.publish(topic, message)
            one.app.publish(topic + "!", "to no one")
        found = await reader.take(len(topics) * len(messages))
        assert [(one.topic, one.message) for one in found] == [
            (topic, message) for topic in topics for message in messages
        ]
        back = await one.come("b", *topics, ids=starts)
        again = defaultdict(list)
        for _ in range(len(topics) * (len(messages) + 1)):
            message = await back.next()
            if isinstance(message, Notice):
                assert (message.id, message.complete) == (starts[message.topic], True)
            else:
                again[message.topic].append(message)
        assert [one for topic in topics for one in again[topic]] == found


# ---- coming back --------------------------------------------------------------------------------


@pytest.mark.parametrize("missed", [0, 1, 250])
@in_loop
async def test_b8_a_client_comes_back_to_another_process(url: str, missed: int) -> None:
    url += str(missed)
    one, other = Place(url, EVERYTHING), Place(url, EVERYTHING)
    async with one.running(), other.running():
        reader = await one.come("a", "room", ids={})
        await position(reader, "room")
        one.app.publish("room", "before")
        assert await reader.messages(1) == ["before"]
        ids = await reader.leave()
        for number in range(missed):
            one.app.publish("room", str(number))
        await one.settled()
        back = await other.come("a", "room", ids=ids)
        assert await back.next() == Notice("room", ids["room"], True)
        assert await back.messages(missed) == [str(number) for number in range(missed)]
        await until(lambda: other.sockets["a"].is_subscribed("room"))
        one.app.publish("room", "after")
        assert await back.messages(1) == ["after"]


@in_loop
async def test_b8_a_client_comes_back_before_the_first_message(url: str) -> None:
    one, other = Place(url), Place(url)
    async with one.running(), other.running():
        reader = await one.come("a", "room", ids={})
        await position(reader, "room")
        ids = await reader.leave()
        one.app.publish("room", "first")
        await one.settled()
        back = await other.come("a", "room", ids=ids)
        assert await back.next() == Notice("room", ids["room"], True)
        assert await back.messages(1) == ["first"]


@in_loop
async def test_b8_what_is_not_kept_any_more_is_reported(url: str) -> None:
    history = History("room", messages=10)
    one, other = Place(url, history), Place(url, history)
    async with one.running(), other.running():
        reader = await one.come("a", "room", ids={})
        for missed, complete in ((9, True), (11, False)):
            one.app.publish("room", "before")
            while await reader.next() != Labelled("room", reader.last["room"], "before"):
                pass
            ids = await reader.leave()
            for number in range(missed):
                one.app.publish("room", str(number))
            await one.settled()
            reader = await other.come("a", "room", ids=ids)
            assert await reader.next() == Notice("room", ids["room"], complete)
            wanted = [str(number) for number in range(missed)][-10:]
            assert await reader.messages(len(wanted)) == wanted
            await reader.leave()
            reader = await one.come("a", "room", ids={})
            await reader.next()


# ---- when the broker fails ----------------------------------------------------------------------


async def collect(reader: Reader, last: int) -> List[int]:
    """The numbers that a client gets until the last one, without duplicates, in order."""
    got: List[int] = []
    seen: Set[int] = set()
    while last not in seen:
        message = await reader.next()
        if isinstance(message, Notice):
            assert message.complete
            continue
        number = int(message.message if isinstance(message, Labelled) else message)
        if number not in seen:
            seen.add(number)
            got.append(number)
    return got


@in_loop
async def test_b8_the_broker_is_killed_and_loses_nothing(own: Any) -> None:
    """Twice under load: those who stay and those who come back have everything."""
    one, other = Place(own.url, EVERYTHING), Place(own.url, EVERYTHING)
    async with one.running(), other.running():
        readers = [await node.come("a", "topic", ids={}) for node in (one, other)]
        plain = await other.come("b", "topic")
        away = await other.come("c", "topic", ids={})
        for reader in (*readers, away):
            await position(reader, "topic")
        ids = await away.leave()
        for node in (one, other):
            await node.settled()
        load = Load(one)
        for _ in range(2):
            await restarted_under_load(own, one, other)
        await received_more(other)
        sent = await load.end()
        await one.settled()
        back = await one.come("d", "topic", ids=ids)
        for reader in (*readers, plain, back):
            assert await collect(reader, sent - 1) == list(range(sent))
        assert one.stats["kept"] == sent
        assert one.stats["lost"] == one.stats["incomplete"] == other.stats["incomplete"] == 0
        twice = other.stats["received"] - sent
        show_figures(f"history: the broker is killed twice, {twice} came twice", sent, sent, 0)


@in_loop
async def test_b8_the_broker_is_frozen(own: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Until its connections are given up: what it had got may be kept twice."""
    monkeypatch.setattr(link, "TIMEOUT", 0.5)
    one, other = Place(own.url, EVERYTHING), Place(own.url, EVERYTHING)
    async with one.running(), other.running():
        readers = [await node.come("a", "topic", ids={}) for node in (one, other)]
        for reader in readers:
            await position(reader, "topic")
        load = Load(one)
        for _ in range(2):
            await received_more(other)
            own.stop()
            await until(lambda: one.ups[-1] is False)
            own.go_on()
            await until(lambda: one.ups[-1] and other.ups[-1])
        sent = await load.end()
        await one.settled()
        for reader in readers:
            assert await collect(reader, sent - 1) == list(range(sent))
        assert one.stats["lost"] == one.stats["incomplete"] == other.stats["incomplete"] == 0


@pytest.mark.parametrize("kind", KINDS)
@in_loop
async def test_b8_a_broker_that_has_lost_its_data(kind: str, tmp_path: Path) -> None:
    with new_server(kind, tmp_path) as own:
        one, other = Place(own.url, EVERYTHING), Place(own.url, EVERYTHING)
        async with one.running(), other.running():
            reader = await one.come("a", "room", ids={})
            await position(reader, "room")
            one.app.publish("room", "before")
            assert await reader.messages(1) == ["before"]
            ids = dict(reader.last)
            own.kill()
            if kind == "nats":
                store = tmp_path / "store"
                store.rename(tmp_path / "old")
            own.start()
            notice = await reader.next()
            assert notice.complete is False
            await until(lambda: one.ups[-1] and other.ups[-1])
            other.app.publish("room", "after")
            assert await reader.messages(1) == ["after"]
            back = await other.come("b", "room", ids=ids)
            notice = await back.next()
            assert notice.complete is False
            assert numbers(notice.id) < numbers(reader.last["room"])
            assert await back.messages(1) == ["after"]


# ---- everything ---------------------------------------------------------------------------------

PROGRAM = """
    import json
    from pyws import History

    topics = ["topic 1", "topic 2", "topic 3"]
    app = App(broker=sys.argv[1])

    def on_open(ws):
        for topic in topics if "history" in ws.query else ():
            ws.subscribe(topic)

    def on_message(ws, message, opcode):
        topic, text = json.loads(message)
        ws.publish(topic, text)
        ws.send("published")

    history = History("topic *", messages=100_000)
    app.ws("/", open=on_open, message=on_message, history=history, max_backpressure=0)
    app.on_broker(lambda up: print("up", up))
    listen()
    app.run(workers=2)
"""


@pytest.mark.parametrize("trouble", ["none", "kill"])
@in_loop
async def test_b8_at_least_once_with_workers(own: Any, trouble: str) -> None:
    """8 publishers, two apps of two workers each, clients that reconnect at random."""
    import websockets

    chance = random.Random(16)
    topics = ["topic 1", "topic 2", "topic 3"]
    sent: Dict[str, List[str]] = defaultdict(list)
    with start(PROGRAM, own.url) as one, start(PROGRAM, own.url) as other:
        ports = [int(program.line()) for program in (one, other)]
        for program in (one, other):
            assert {program.line() for _ in range(2)} == {"up True"}

        def new_connection(query: str) -> Any:
            address = f"ws://127.0.0.1:{chance.choice(ports)}/{query}"
            return websockets.connect(address, compression=None, close_timeout=0.5, max_size=None)

        async def connect(last: Dict[str, str]) -> Any:
            return await new_connection("?history=" + quote(json.dumps(last)))

        async def publish(name: str) -> None:
            connection = await new_connection("")
            for number in range(100 + len(topics)):
                is_end = number >= 100
                topic = topics[number - 100] if is_end else chance.choice(topics)
                text = f"{name} end" if is_end else f"{name} {number}"
                await connection.send(json.dumps([topic, text]))
                assert await asyncio.wait_for(connection.recv(), 20) == "published"
                sent[topic].append(text)
                await asyncio.sleep(0.005 * chance.random())
            await connection.close()

        is_over = asyncio.Event()
        anchor = await connect({})
        for _ in topics:
            notice = parsed(await asyncio.wait_for(anchor.recv(), 20))
            assert isinstance(notice, Notice)
        ends = [f"p{number} end" for number in range(8)]
        runs = [wander(chance, connect, topics, is_over, 0.3, ends) for _ in range(8)]
        clients = [asyncio.ensure_future(run) for run in runs]
        publishers = [asyncio.ensure_future(publish(f"p{number}")) for number in range(8)]
        if trouble == "kill":
            await asyncio.sleep(0.2)
            own.kill()
            await asyncio.sleep(0.1)
            own.start()
        await asyncio.gather(*publishers)
        is_over.set()
        for got in await asyncio.gather(*clients):
            for topic in topics:
                check_messages(got[topic], sent[topic], 10)
        await anchor.close()


def test_b8_the_chat_of_the_examples(url: str) -> None:
    """Two of them; who was away has the texts and the announcements that came meanwhile."""
    chat, options = str(ROOT / "examples" / "py" / "chat.py"), ("--broker", url, "--history", "50")
    with Program(chat, "--port", "0", *options) as one, Program(
        chat, "--port", "0", *options
    ) as other:
        ports = [int(program.line().rpartition(":")[2]) for program in (one, other)]

        def come(port: int, name: str, ids: Dict[str, str]) -> Peer:
            return upgraded(port, f"/room?name={name}&history=" + quote(json.dumps(ids)))

        def until_text(peer: Peer, ids: Dict[str, str], wanted: str) -> List[str]:
            """Texts until the wanted one, which comes last."""
            texts: List[str] = []
            while wanted not in texts:
                message = parsed(peer.frame().payload.decode())
                assert isinstance(message, (Labelled, Notice))
                ids[message.topic] = message.id
                if isinstance(message, Labelled):
                    texts.append(json.loads(message.message).get("text", "-"))
            return texts

        ids: Dict[str, str] = {}
        with come(ports[0], "ann", ids) as ann, come(ports[1], "bob", {}) as bob:
            ann.send(frame(b"hello"))
            until_text(ann, ids, "hello")
            ann.send(close_frame(1000))
            for text in ("one", "two", "three"):
                bob.send(frame(text.encode()))
            until_text(bob, {}, "three")
        with come(ports[1], "ann", ids) as ann:
            ann.send(frame(b"I am back"))
            texts = [text for text in until_text(ann, ids, "I am back") if text != "-"]
            assert texts == ["one", "two", "three", "I am back"]


def test_the_chat_keeps_nothing_without_a_broker() -> None:
    with Program(str(ROOT / "examples" / "py" / "chat.py"), "--history", "50") as program:
        assert program.wait() == 2
        assert "--history needs --broker" in program.error_text()
