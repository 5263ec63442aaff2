# SPDX-License-Identifier: MIT
"""What holds with every broker that keeps messages: each check gets a function that makes one."""

import asyncio
import os
import random
import shutil
import time
from pathlib import Path
from typing import Any, Awaitable, Callable, Dict, List, Optional, Tuple

import pytest
from coroutines import until

from pyws import History, Link
from pyws.brokers import Broker, Page

Make = Callable[[], Broker]
HISTORY = History("*", messages=1000, seconds=1000)


def numbers(id: bytes) -> Tuple[int, ...]:
    """What ids are compared by."""
    return tuple(map(int, id.split(b"-")))


class Member(Link):
    """A broker that is connected, and what it has received."""

    def __init__(self, make: Make, *histories: History) -> None:
        self.broker = make()
        self.broker.histories = histories or (HISTORY,)
        self.got: List[Tuple[bytes, bytes, bytes]] = []
        self.errors: List[BaseException] = []

    async def __aenter__(self) -> "Member":
        await self.broker.connect(self)
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.broker.close()
        assert self.errors == []

    def receive(self, topic: bytes, data: bytes, id: bytes = b"") -> None:
        self.got.append((topic, data, id))

    def lost(self, error: BaseException) -> None:
        self.errors.append(error)

    async def append(self, topic: bytes, *data: bytes, history: History = HISTORY) -> None:
        await self.broker.append([(topic, one, history) for one in data])

    async def read(self, topic: bytes, after: Optional[bytes], history: History = HISTORY) -> Page:
        (page,) = await self.broker.read([(topic, after, history)])
        return page

    async def rest(self, topic: bytes, after: bytes, history: History = HISTORY) -> Page:
        """All pages after an id, as one."""
        page = await self.read(topic, after, history)
        messages, complete = list(page.messages), page.complete
        while page.more:
            page = await self.read(topic, page.id, history)
            messages += page.messages
            complete = complete and page.complete
        return Page(page.id, messages, complete)


def data_of(page: Page) -> List[bytes]:
    return [data for _, data in page.messages]


async def order_of_all(make: Make) -> None:
    """Everyone, the publisher too, sees one order, with the ids that are read later."""
    topics = [b"order/%d" % number for number in range(3)]
    async with Member(make) as one, Member(make) as other:
        for member in (one, other):
            await member.broker.subscribe(topics)
        begins = {topic: (await one.read(topic, None)).id for topic in topics}
        for turn in range(20):
            await asyncio.gather(
                *(
                    member.broker.append(
                        [(topics[(turn + n) % 3], b"%d %d" % (turn, n), HISTORY) for n in range(9)]
                    )
                    for member in (one, other)
                )
            )
        await until(lambda: len(one.got) == len(other.got) == 360)
        for topic in topics:
            mine = [(id, data) for name, data, id in one.got if name == topic]
            assert mine == [(id, data) for name, data, id in other.got if name == topic]
            ids = [numbers(id) for id, _ in mine]
            assert ids == sorted(set(ids))
            assert ids[0] > numbers(begins[topic])
            page = await other.rest(topic, begins[topic])
            assert list(page.messages) == mine
            assert page.complete
            assert numbers((await one.read(topic, None)).id) >= numbers(page.id)


async def pages(make: Make) -> None:
    """More than fits in a page, small and large; many topics at once."""
    async with Member(make) as one:
        begin = (await one.read(b"pages", None)).id
        texts = [b"%d" % number for number in range(250)]
        await one.append(b"pages", *texts)
        page = await one.read(b"pages", begin)
        assert data_of(page) == texts[:100]
        assert page.more and page.complete and page.id == page.messages[-1][0]
        page = await one.read(b"pages", page.messages[97][0])
        assert data_of(page) == texts[98:198]
        page = await one.read(b"pages", page.id)
        assert data_of(page) == texts[198:]
        assert not page.more
        for after in (page.id, (await one.read(b"pages", None)).id):
            page = await one.read(b"pages", after)
            assert (data_of(page), page.complete, page.more) == ([], True, False)
            assert numbers(page.id) >= numbers(after)
        begin = (await one.read(b"large", None)).id
        texts = [bytes([number]) * 60_000 for number in range(30)]
        for text in texts:
            await one.append(b"large", text)
        assert data_of(await one.rest(b"large", begin)) == texts
        names = [b"many/%d" % number for number in range(100)]
        begins = [page.id for page in await one.broker.read([(n, None, HISTORY) for n in names])]
        await one.broker.append([(name, b"x" + name, HISTORY) for name in names])
        found = await one.broker.read([(n, id, HISTORY) for n, id in zip(names, begins)])
        assert [data_of(page) for page in found] == [[b"x" + name] for name in names]
        assert all(page.complete for page in found)


async def completeness(make: Make) -> None:
    """Every id that is known has an answer; every other one is not complete."""
    few = History("*", messages=5, seconds=1000)
    async with Member(make, few) as one:
        begin = (await one.read(b"few", None)).id
        page = await one.read(b"few", begin, few)
        assert (data_of(page), page.complete, page.more) == ([], True, False)
        await one.append(b"few", b"0", b"1", b"2", history=few)
        page = await one.read(b"few", begin, few)
        assert (data_of(page), page.complete) == ([b"0", b"1", b"2"], True)
        ids = [id for id, _ in page.messages]
        page = await one.read(b"few", ids[1], few)
        assert (data_of(page), page.complete) == ([b"2"], True)
        await one.append(b"few", b"3", b"4", b"5", b"6", history=few)
        last = (await one.read(b"few", None)).id
        rest = [b"2", b"3", b"4", b"5", b"6"]
        for after in (begin, ids[0], b"0", b"0-0", b"7", b"junk", b"", b"1-2-3-4-5", b"9" * 50):
            page = await one.read(b"few", after, few)
            assert (data_of(page), page.complete) == (rest, False), after
            assert page.id == page.messages[-1][0]
        page = await one.read(b"few", ids[2], few)
        assert (data_of(page), page.complete) == (rest[1:], True)
        assert (data_of(await one.read(b"few", last, few))) == []
        future = b"%d-0" % (numbers(last)[0] + 10**6)
        page = await one.read(b"few", future, few)
        assert (data_of(page), page.complete) == (rest, False)


async def bounds(
    make: Make,
    wait: Callable[[float], Awaitable[None]] = asyncio.sleep,
    clock: Callable[[], float] = time.time,
    exact: bool = True,
) -> None:
    """What is too old is not given, and missed by those who have not got it.

    Args:
        make: Makes a broker.
        wait, clock: The time of the messages.
        exact: Whether those who have missed nothing always hear so.
    """
    short = History("*", messages=100, seconds=1)
    appended: List[Tuple[float, float, bytes]] = []
    async with Member(make, short) as one:
        begin = (await one.read(b"short", None, short)).id
        for pause in (0.6, 0.6, 0, 0.3, 1.2):
            before = clock()
            await one.append(b"short", b"%d" % len(appended), history=short)
            appended.append((before, clock(), b"%d" % len(appended)))
            for seconds in (0, pause):
                await wait(seconds)
                begun = clock()
                page = await one.read(b"short", begin, short)
                got, ended = data_of(page), clock()
                least = [data for before, _, data in appended if ended - before < 0.95]
                most = [data for _, after, data in appended if begun - after < 1.05]
                assert set(least) <= set(got) <= set(most)
                missed = [data for _, _, data in appended]
                assert got == missed[len(missed) - len(got) :]
                if exact or page.complete:
                    assert page.complete is (got == missed)
        assert (got, page.complete) == ([], False)


async def anything_is_kept(make: Make, largest: int = 1 << 20) -> None:
    """Topics and data of any bytes, with ids that do not mix."""
    topics = [b"", b"\0", b"a\0b", b"*", b">", b"a.b", b" ", b"\r\n$1\r\n", "é".encode() * 5000]
    topics += [b"x" * 65536, bytes(range(256)), b"history:a", b"last:a", b"1-1\nx", b"%2E"]
    texts = [b"", b"\0" * 3, b"1-1\n1-1\n", b"\r\n+OK\r\n", bytes(range(256)), os.urandom(65536)]
    texts.append(os.urandom(largest))
    async with Member(make) as one:
        await one.broker.subscribe(topics)
        asked = await one.broker.read([(topic, None, HISTORY) for topic in topics])
        begins = [page.id for page in asked]
        for topic in topics:
            await one.append(topic, *texts)
        await until(lambda: len(one.got) == len(topics) * len(texts))
        for topic, begin in zip(topics, begins):
            page = await one.rest(topic, begin)
            assert data_of(page) == texts
            assert page.complete
            mine = [(id, data) for name, data, id in one.got if name == topic]
            assert mine == list(page.messages)
        await one.broker.unsubscribe(topics)
        await one.append(topics[0], b"unheard")
        assert len(one.got) == len(topics) * len(texts)


CHECKS = (order_of_all, pages, completeness, bounds, anything_is_kept)


async def any_id_against_a_model(make: Make, exact: bool = True) -> None:
    """Readers that have got anything: what they miss is complete, or they are told.

    Args:
        make: Makes a broker.
        exact: Whether they are told only then.
    """
    chance = random.Random(16)
    history = History("*", messages=20, seconds=1000)
    topics = [b"model/%d" % number for number in range(5)]
    async with Member(make, history) as one, Member(make, history) as other:
        await one.broker.subscribe(topics)
        appended = dict.fromkeys(topics, 0)
        kinds = {True: 0, False: 0}
        positions: Dict[bytes, List[Tuple[bytes, int]]] = {topic: [] for topic in topics}
        for turn in range(150):
            batch = [(chance.choice(topics), b"%d" % turn, history) for _ in range(turn % 8)]
            if batch:
                await chance.choice((one, other)).broker.append(batch)
            for topic, _, _ in batch:
                appended[topic] += 1
            await until(lambda: len(one.got) == sum(appended.values()))
            topic = chance.choice(topics)
            ids = [(id, data) for name, data, id in one.got if name == topic]
            positions[topic].append(((await one.read(topic, None)).id, len(ids)))
            index = chance.randrange(len(ids)) if ids else 0
            known = [(ids[index][0], index + 1)] if ids else []
            for after, seen in (chance.choice(positions[topic]), *known):
                page = await other.rest(topic, after, history)
                assert list(page.messages) == ids[seen:][-20:]
                nothing_missing = len(ids) - seen <= 20
                kinds[page.complete] += 1
                if exact or not nothing_missing or 0 < len(ids) - seen < 20:
                    assert page.complete is nothing_missing
        assert min(kinds.values()) > 20


async def starts_again(server: Any, make: Make, keeps: bool, folder: Optional[Path] = None) -> None:
    """The server is killed: without what it kept nothing is complete.

    Args:
        server: The server.
        make: Makes a broker that is connected to it.
        keeps: Whether it still has everything.
        folder: What is removed before it starts again.
    """
    one = Member(make)
    await one.broker.connect(one)
    begin = (await one.read(b"topic", None)).id
    empty = (await one.read(b"empty", None)).id
    await one.append(b"topic", b"0", b"1")
    page = await one.read(b"topic", begin)
    server.kill()
    await until(lambda: one.errors != [])
    await one.broker.close()
    if folder:
        shutil.rmtree(folder)
    server.start()
    async with Member(make) as other:
        await other.append(b"topic", b"2")
        await other.append(b"empty", b"2")
        page = await other.read(b"topic", page.messages[0][0])
        assert (data_of(page), page.complete) == ([b"1", b"2"] if keeps else [b"2"], keeps)
        page = await other.read(b"empty", empty)
        assert (data_of(page), page.complete) == ([b"2"], keeps)


async def connect_error(kind: Callable[[str], Broker], url: str) -> str:
    """Why a broker cannot connect."""
    one = Member(lambda: kind(url))
    with pytest.raises(ConnectionError) as info:
        await one.broker.connect(one)
    await one.broker.close()
    return str(info.value)
