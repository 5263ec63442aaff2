# SPDX-License-Identifier: MIT
"""Clients that know ids, of apps whose topics have history."""

import asyncio
import json
import random
from typing import (
    Any,
    Awaitable,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    Union,
)
from urllib.parse import quote

from memory_broker import Hub, MemoryBroker, Node

from pyws import History, WebSocketOptionsDict

HISTORY = History(["chat*", "room"], messages=100, seconds=3600)


class Labelled(NamedTuple):
    """A message with a label."""

    topic: str
    id: str
    message: Union[str, bytes]


class Notice(NamedTuple):
    """A label alone."""

    topic: str
    id: str
    complete: bool


def parsed(message: Union[str, bytes]) -> Union[str, bytes, Labelled, Notice]:
    """What a client that takes labels makes of a message."""
    text = message if isinstance(message, str) else message.decode("latin-1")
    if not text.startswith("\0"):
        return message
    label, line_feed, _ = text[1:].partition("\n")
    assert line_feed
    rest = message[len(label) + 2 :]
    if not label:
        return rest
    facts = json.loads(label)
    if len(facts) == 3:
        assert rest == "", "a notice is a text that is only a label"
        return Notice(facts["topic"], facts["id"], facts["complete"])
    assert list(facts) == ["topic", "id"]
    return Labelled(facts["topic"], facts["id"], rest)


def numbers(id: str) -> Tuple[int, ...]:
    return tuple(map(int, id.split("-")))


class Place(Node):
    """An app whose topics "chat..." and "room" have history."""

    def __init__(self, broker: Any, history: History = HISTORY, **more: Any) -> None:
        settings: WebSocketOptionsDict = more.pop("route", {})
        settings["history"] = history
        super().__init__(broker, settings, **more)

    async def come(self, name: str, *topics: str, ids: Optional[Dict[str, str]] = None) -> "Reader":
        """A client connects, with ids if it takes labels, and subscribes."""
        query = "" if ids is None else "?history=" + quote(json.dumps(ids))
        import websockets

        client = await websockets.connect(
            f"{self.place.url}/{name}{query}",
            max_size=None,
            compression=None,
            open_timeout=30,
            close_timeout=0.5,  # it waits so long if much has not been read
        )
        self.clients[name] = client
        for topic in topics:
            assert self.sockets[name].subscribe(topic)
        return Reader(client)


class Reader:
    """What a client gets, after the labels were removed."""

    def __init__(self, client: Any) -> None:
        self.client = client
        self.last: Dict[str, str] = {}

    async def next(self) -> Any:
        message = parsed(await asyncio.wait_for(self.client.recv(), 20))
        if isinstance(message, (Labelled, Notice)):
            self.last[message.topic] = message.id
        return message

    async def take(self, count: int) -> List[Any]:
        return [await self.next() for _ in range(count)]

    async def messages(self, count: int) -> List[Any]:
        """The next labelled messages, without labels."""
        found = await self.take(count)
        assert all(isinstance(one, Labelled) for one in found), found
        return [one.message for one in found]

    async def leave(self) -> Dict[str, str]:
        """Disconnect; returns the last ids."""
        await self.client.close()
        return self.last


def places(count: int = 2, history: History = HISTORY, **more: Any) -> Tuple[Any, ...]:
    """A hub, and apps that are connected to it."""
    hub = Hub()
    return (hub, *(Place(MemoryBroker(hub), history, **more) for _ in range(count)))


async def check_one_order(readers: Sequence[Reader], plain: Reader, count: int) -> None:
    """All get what two publishers, "one" and "two", have sent, in the order of its ids.

    Args:
        readers: Clients that take labels.
        plain: One that takes none.
        count: How many messages each publisher has numbered, from 0.
    """
    found = [await reader.take(2 * count) for reader in readers]
    for messages in found[1:]:
        assert messages == found[0]
    ids = [numbers(one.id) for one in found[0]]
    assert ids == sorted(set(ids))
    texts = [one.message for one in found[0]]
    assert await plain.take(2 * count) == texts
    for word in ("one", "two"):
        own = [text for text in texts if text.startswith(word)]
        assert own == [f"{word} {number}" for number in range(count)]


# ---- clients that come and go -------------------------------------------------------------------


async def wander(
    chance: random.Random,
    connect: Callable[[Dict[str, str]], Awaitable[Any]],
    topics: Sequence[str],
    is_over: asyncio.Event,
    longest: float = 0.1,
    ends: Sequence[str] = ("end",),
) -> Dict[str, List[str]]:
    """A client that reconnects again and again.

    Args:
        chance: When it does.
        connect: Makes a connection with these last ids, which subscribes to all topics.
        topics: The topics.
        is_over: It stays, and ends when all messages have come.
        longest: Seconds of a connection.
        ends: The last messages of each topic, one of each publisher.

    Returns:
        All messages of each topic, without those that came twice.
    """
    got: Dict[str, List[str]] = {topic: [] for topic in topics}
    seen: Dict[str, Set[str]] = {topic: set() for topic in topics}
    last: Dict[str, str] = {}
    clock = asyncio.get_running_loop().time
    while True:
        connection = await connect(last)
        deadline = clock() + chance.random() * longest
        while clock() < deadline or is_over.is_set():
            if is_over.is_set() and all(seen[topic].issuperset(ends) for topic in topics):
                await connection.close()
                return got
            try:
                text = await asyncio.wait_for(connection.recv(), max(deadline - clock(), 0.05))
            except asyncio.TimeoutError:
                continue
            message = parsed(text)
            if isinstance(message, Notice):
                assert message.complete
                # Nothing between what it has and what follows.
                id = last.setdefault(message.topic, message.id)
                assert numbers(message.id) <= numbers(id)
                continue
            assert isinstance(message, Labelled)
            topic, payload = message.topic, str(message.message)
            if numbers(message.id) > numbers(last[topic]):
                last[topic] = message.id
                if payload not in seen[topic]:
                    seen[topic].add(payload)
                    got[topic].append(payload)
        await connection.close()
        await asyncio.sleep(chance.random() * longest / 2)


def check_messages(got: List[str], sent: List[str], least: int) -> None:
    """What a client got: all that was sent since it came first, in the order of each publisher.

    Args:
        got: Without duplicates.
        sent: Messages that begin with the name of a publisher and a space.
        least: How many these must be.
    """
    assert len(got) >= least
    for publisher in {text.split()[0] for text in sent}:
        wanted = [text for text in sent if text.split()[0] == publisher]
        found = [text for text in got if text.split()[0] == publisher]
        assert found == wanted[len(wanted) - len(found) :]
