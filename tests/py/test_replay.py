# SPDX-License-Identifier: MIT
"""Topics with history: ids, and what clients that come back have missed; broker in memory."""

import asyncio
from typing import Any, List

import pytest
from coroutines import Place as Listening
from coroutines import in_loop, until
from memory_broker import Hub, MemoryBroker
from replays import HISTORY, Labelled, Notice, check_one_order, numbers, parsed, places

from pyws import App, History
from pyws._core import history
from pyws.brokers import Broker

pytest.importorskip("websockets")

# ---- ids ----------------------------------------------------------------------------------------


@in_loop
async def test_everyone_gets_messages_from_the_broker_in_one_order() -> None:
    _, one, other = places()
    async with one.running(), other.running():
        readers = [await node.come("a", "room", ids={}) for node in (one, other)]
        plain = await other.come("b", "room")
        for reader in readers:
            assert await reader.next() == Notice("room", "0", True)
        for node in (one, other):
            await node.settled()
        for number in range(100):
            assert one.app.publish("room", f"one {number}") is True
            assert other.sockets["a"].publish("room", f"two {number}") is True
            await asyncio.sleep(0)
        await check_one_order(readers, plain, 100)
        assert one.stats["kept"] == other.stats["kept"] == 100
        assert one.stats["received"] == other.stats["received"] == 200
        assert one.stats["published"] == one.stats["lost"] == one.stats["replayed"] == 0


@in_loop
async def test_other_topics_have_no_ids() -> None:
    _, one, other = places()
    async with one.running(), other.running():
        reader = await other.come("a", "news", "chatter", ids={})
        assert await reader.next() == Notice("chatter", "0", True)
        await other.settled()
        one.app.publish("news", "plain")
        assert await reader.next() == "plain"
        one.app.publish("news", "\0looks like a label\n")
        one.app.publish("news", b"\0")
        other.sockets["a"].send("\0{}\n")
        assert await reader.next() == "\0{}\n"
        assert await reader.take(2) == ["\0looks like a label\n", b"\0"]
        one.app.publish("chatter", "\0x\ny")
        one.app.publish("chatter", b"")
        one.app.publish("chatter", b"\xff\n", compress=True)
        assert await reader.messages(3) == ["\0x\ny", b"", b"\xff\n"]


@in_loop
async def test_a_socket_that_publishes_gets_it_too() -> None:
    _, one = places(1)
    async with one.running():
        reader = await one.come("a", "room", ids={})
        one.sockets["a"].publish("room", "mine", exclude_self=True)
        assert await reader.take(2) == [Notice("room", "0", True), Labelled("room", "1", "mine")]


@in_loop
async def test_what_is_published_after_subscribing_arrives_once() -> None:
    """Even in the same handler, long before the broker knows of the subscription."""
    hub, one = places(1)
    hub.append(b"room", b"older")
    async with one.running():
        reader = await one.come("a", "room", ids={})
        one.app.publish("room", "first")
        one.sockets["a"].publish("room", "second")
        assert await reader.take(3) == [
            Notice("room", "1", True),
            Labelled("room", "2", "first"),
            Labelled("room", "3", "second"),
        ]


# ---- coming back --------------------------------------------------------------------------------


@pytest.mark.parametrize("missed", [0, 1, 50, 100, 450])
@in_loop
async def test_a_client_comes_back_to_another_process(missed: int) -> None:
    _, one, other = places(history=History("room", messages=500))
    async with one.running(), other.running():
        reader = await one.come("a", "room", ids={})
        one.app.publish("room", "before")
        assert (await reader.take(2))[1] == Labelled("room", "1", "before")
        ids = await reader.leave()
        for number in range(missed):
            one.app.publish("room", str(number))
        await one.settled()
        back = await other.come("a", "room", ids=ids)
        assert other.sockets["a"].is_subscribed("room") is False
        assert await back.next() == Notice("room", "1", True)
        assert await back.messages(missed) == [str(number) for number in range(missed)]
        await until(lambda: other.sockets["a"].is_subscribed("room"))
        one.app.publish("room", "after")
        assert await back.messages(1) == ["after"]
        assert other.stats["replayed"] == missed
        assert other.stats["incomplete"] == 0


@in_loop
async def test_nothing_is_read_where_nothing_is_missed() -> None:
    _, one = places(1)
    async with one.running():
        first = await one.come("a", "room", ids={})
        one.app.publish("room", "x")
        await first.take(2)
        await one.settled()
        calls = len(one.broker.calls)
        back = await one.come("b", "room", ids=first.last)
        assert await back.next() == Notice("room", "1", True)
        assert one.sockets["b"].is_subscribed("room")
        assert len(one.broker.calls) == calls


@in_loop
async def test_what_is_not_kept_any_more_is_reported() -> None:
    _, one, other = places(history=History("room", messages=10))
    async with one.running(), other.running():
        reader = await one.come("a", "room", ids={})
        one.app.publish("room", "before")
        await reader.take(2)
        ids = await reader.leave()
        for number in range(11):
            one.app.publish("room", str(number))
        await one.settled()
        back = await other.come("a", "room", ids=ids)
        assert await back.next() == Notice("room", "1", False)
        assert await back.messages(10) == [str(number) for number in range(1, 11)]
        assert other.stats["incomplete"] == 1


@pytest.mark.parametrize("id", ["99999999999", "5-5-5-5", "0"])
@in_loop
async def test_an_id_that_was_never_given(id: str) -> None:
    """All that is kept comes, as not complete, and after a position that is older."""
    hub, one = places(1)
    hub.last_number, hub.first_number = 10, 5
    hub.append(b"room", b"")
    async with one.running():
        one.app.publish("room", "kept")
        await one.settled()
        back = await one.come("a", "room", ids={"room": id})
        notice = await back.next()
        assert notice.complete is False
        assert numbers(notice.id) < (11,)
        assert await back.messages(1) == ["kept"]


@in_loop
async def test_a_last_id_is_used_once() -> None:
    hub, one = places(1)
    for _ in range(3):
        hub.append(b"room", b"pyws\1\1\1\0" + bytes(8) + b"old")
    async with one.running():
        back = await one.come("a", "room", ids={"room": "2"})
        ws = one.sockets["a"]
        assert await back.take(2) == [Notice("room", "2", True), Labelled("room", "3", "old")]
        await until(lambda: ws.is_subscribed("room"))
        assert ws.unsubscribe("room")
        assert ws.subscribe("room") and ws.is_subscribed("room")
        assert await back.next() == Notice("room", "3", True)


@in_loop
async def test_the_subscription_follows_what_was_missed() -> None:
    """With its handler; unsubscribe before that cancels it."""
    events: List[Any] = []
    route = {"subscription": lambda ws, topic, now, before: events.append((topic, now, before))}
    hub, one = places(1, route=route)
    for _ in range(3):
        hub.append(b"room", b"pyws\1\1\1\0" + bytes(8) + b"old")
    async with one.running():
        hub.freeze()
        await one.come("a", ids={"room": "1", "chat": "0"})
        ws = one.sockets["a"]
        assert ws.subscribe("room") is True
        assert ws.subscribe("room") is True
        assert ws.subscribe("chat") is True
        assert (ws.is_subscribed("room"), ws.get_topics(), events) == (False, [], [])
        assert ws.unsubscribe("chat") is True
        assert ws.unsubscribe("chat") is False
        hub.thaw()
        await until(lambda: ws.get_topics() == ["room"])
        await one.settled()
        assert events == [("room", 1, 0)]
        assert one.broker.topics == {b"room"}
        assert ws.unsubscribe("room") is True
        await one.settled()
        assert one.broker.topics == set()


@in_loop
async def test_max_topics_counts_what_has_not_begun() -> None:
    hub, one = places(1, route={"max_topics": 2})
    async with one.running():
        hub.freeze()
        await one.come("a", "x", ids={"chat 1": "1", "chat 2": "1"})
        ws = one.sockets["a"]
        assert ws.subscribe("chat 1") is True
        assert ws.subscribe("chat 2") is False
        ws.unsubscribe("x")
        assert ws.subscribe("chat 2") is True
        hub.thaw()
        await until(lambda: sorted(ws.get_topics()) == ["chat 1", "chat 2"])


@in_loop
async def test_a_client_leaves_while_it_waits() -> None:
    hub, one = places(1)
    async with one.running():
        hub.freeze()
        for number in range(20):
            reader = await one.come(str(number), "room", "chat", ids={"room": "5", "chat": "7"})
            await reader.leave()
        await until(lambda: not one.app.connections)
        hub.thaw()
        await one.settled()
        relay: Any = one.app._runtime.relay
        keeper = relay._keeper
        assert keeper._channels == keeper._requests == keeper._behind == {}
        assert one.broker.topics == set()


@in_loop
async def test_a_slow_client_gets_all_of_it() -> None:
    """What was missed is much more than may wait for it; meanwhile others publish."""
    _, one, other = places(
        history=History("room", messages=10_000),
        route={"max_backpressure": 64 * 1024, "close_on_backpressure_limit": True},
    )
    async with one.running(), other.running():
        for number in range(300):
            one.app.publish("room", f"{number:05}" + "x" * 20_000)
        await one.settled()
        import websockets

        client = await websockets.connect(
            f"{other.place.url}/a?history=%7B%22room%22:%220%22%7D",
            max_size=None,
            compression=None,
            max_queue=1,
        )
        ws = other.sockets["a"]
        assert ws.subscribe("room")
        await until(lambda: ws.get_buffered_amount() > 0)
        for number in range(300, 400):
            one.app.publish("room", f"{number:05}" + "x" * 20_000)
        await one.settled()
        assert not ws.is_subscribed("room")
        got = [await asyncio.wait_for(client.recv(), 20) for _ in range(401)]
        texts = [str(text).partition("\n")[2][:5] for text in got[1:]]
        assert texts == [f"{number:05}" for number in range(400)]
        await until(lambda: ws.is_subscribed("room"))
        await client.close()


@in_loop
async def test_many_clients_come_back_at_once() -> None:
    """Those with the same id share a read."""
    _, one = places(1)
    async with one.running():
        for number in range(10):
            one.app.publish("room", str(number))
        await one.settled()
        readers = [await one.come(str(number), ids={"room": "4"}) for number in range(30)]
        calls = len(one.broker.calls)
        for number in range(30):
            assert one.sockets[str(number)].subscribe("room")
        for reader in readers:
            assert await reader.next() == Notice("room", "4", True)
            assert await reader.messages(6) == ["4", "5", "6", "7", "8", "9"]
        reads = [what for what, _ in one.broker.calls[calls:] if what == "read"]
        assert len(reads) <= 4


@in_loop
async def test_what_other_programs_keep_must_be_valid() -> None:
    """It is left out, live, from the past, and when the process catches up."""
    hub, one = places(1)
    head = b"pyws\1\1\1\0" + bytes(8)
    wrong = [
        b"",
        b"x",
        head + b"\xff",
        head[:4] + b"\2" + head[5:],
        head[:5] + b"\2\0\0" + head[8:],
    ]

    def keep(text: bytes) -> None:
        for data in (*wrong, head + text, *wrong):
            hub.append(b"room", data)

    keep(b"first")
    async with one.running():
        reader = await one.come("a", "room", ids={"room": "0"})
        assert (await reader.take(2))[1].message == "first"
        await until(lambda: one.sockets["a"].is_subscribed("room"))
        keep(b"second")
        assert await reader.messages(1) == ["second"]
        hub.members.remove(one.broker)
        one.broker.link.lost(ConnectionError("cut"))
        keep(b"third")
        assert await reader.messages(1) == ["third"]
        one.app.publish("room", "end")
        assert await reader.messages(1) == ["end"]


@in_loop
async def test_sessions_and_coroutine_handlers_come_back_like_others() -> None:
    async def session(ws: Any) -> None:
        assert ws.subscribe("room")
        async for message in ws:
            ws.publish("room", message)

    hub = Hub()
    app = App(broker=MemoryBroker(hub))
    app.ws("/", session, history=HISTORY)
    import websockets

    place = Listening(app)
    async with app.serving():
        for number in range(3):
            query = "" if number == 0 else f"?history=%7B%22room%22:%22{number}%22%7D"
            async with websockets.connect(f"{place.url}/{query}") as client:
                if number:
                    notice = parsed(await asyncio.wait_for(client.recv(), 20))
                    assert notice == Notice("room", str(number), True)
                await client.send(f"message {number}")
                got = parsed(await asyncio.wait_for(client.recv(), 20))
                wanted = f"message {number}"
                assert got == (Labelled("room", str(number + 1), wanted) if number else wanted)


def test_in_uvloop() -> None:
    uvloop = pytest.importorskip("uvloop")

    async def come_back() -> None:
        _, one, other = places()
        async with one.running(), other.running():
            reader = await one.come("a", "room", ids={})
            one.app.publish("room", "before")
            await reader.take(2)
            ids = await reader.leave()
            one.app.publish("room", "missed")
            await one.settled()
            back = await other.come("a", "room", ids=ids)
            assert (await back.take(2))[1] == Labelled("room", "2", "missed")

    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(asyncio.wait_for(come_back(), 30))
    finally:
        loop.close()


@in_loop
async def test_others_are_served_while_many_come_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Also if the connection to the broker is lost between two of them."""
    monkeypatch.setattr(history, "MOST_SENT", 50)
    begun: List[int] = []  # at which tick each subscription began

    def on_subscription(ws: Any, topic: str, now: int, before: int) -> None:
        if now < before:
            return
        begun.append(ticks)
        if now == 5 and one.broker in hub.members:
            hub.members.remove(one.broker)
            one.broker.link.lost(ConnectionError("cut"))

    hub, one = places(1, route={"subscription": on_subscription})
    ticks = 0

    async def tick() -> None:
        nonlocal ticks
        while len(begun) < 20:
            ticks += 1
            await asyncio.sleep(0)

    async with one.running():
        for number in range(50):
            one.app.publish("room", str(number))
        await one.settled()
        readers = [await one.come(str(number), ids={"room": "1"}) for number in range(20)]
        for number in range(20):
            assert one.sockets[str(number)].subscribe("room")
        await tick()
        one.app.publish("room", "after")
        for reader in readers:
            assert await reader.next() == Notice("room", "1", True)
            assert await reader.messages(50) == [*map(str, range(1, 50)), "after"]
        assert len(set(begun)) >= 8
        assert one.ups == [True, False, True]


# ---- parameters ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "query",
    [
        "",
        "?histor=%7B%7D",
        "?history",
        "?history=",
        "?history=5",
        "?history=%7B%22room%22:5%7D",
        "?history=%7B%22room%22:%22x%22%7D",
        "?history=%7B%22room%22:%22-1%22%7D",
        "?history=" + 2000 * "%5B",
        "?history=%7B%22room%22:%22" + 100 * "1" + "%22%7D",
    ],
    ids=range(10),
)
@in_loop
async def test_a_client_that_says_nothing_valid_gets_no_labels(query: str) -> None:
    import websockets

    _, one = places(1)
    async with one.running():
        client = await websockets.connect(f"{one.place.url}/a{query}")
        assert one.sockets["a"].subscribe("room")
        one.app.publish("room", "plain")
        assert await asyncio.wait_for(client.recv(), 20) == "plain"
        await client.close()


def test_history_needs_a_broker_that_keeps() -> None:
    class Simple(MemoryBroker):
        keeps = False

    with pytest.raises(ValueError, match="history needs a broker, as in App"):
        App().ws("/", {}, history=HISTORY)
    with pytest.raises(ValueError, match="history needs a broker that keeps messages, unlike Simp"):
        App(broker=Simple(Hub())).ws("/", {}, history=HISTORY)
    with pytest.raises(TypeError, match=r"history must be a History, not str, as in history=Hist"):
        App(broker=MemoryBroker(Hub())).ws("/", {}, history="chat/*")  # type: ignore[arg-type]


def test_all_routes_of_an_app_count() -> None:
    broker: Broker = MemoryBroker(Hub())
    app = App(broker=broker)
    first, second = History("a*", messages=1), History(["ab", "b"], messages=2)
    app.ws("/first", {}, history=first)
    app.ws("/second", {}, history=second)
    app.ws("/third", {}, history=first)
    assert broker.histories == (first, second)


@in_loop
async def test_a_route_with_history_comes_before_run() -> None:
    _, one = places(1)
    async with one.running():
        with pytest.raises(RuntimeError, match="must be added before the app runs"):
            one.app.ws("/late", {}, history=HISTORY)
        one.app.ws("/late", message=print)
