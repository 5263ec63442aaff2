# SPDX-License-Identifier: MIT
"""A message broker in memory, whose connections tests may break, freeze and look into."""

import asyncio
import time
from contextlib import asynccontextmanager
from typing import (
    Any,
    AsyncIterator,
    Callable,
    Dict,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
)

from coroutines import Place, until

from pyws import App, History, WebSocket, WebSocketOptionsDict
from pyws.brokers import Broker, Link, Page
from pyws.history import PAGE

END = "<end>"


class Kept(NamedTuple):
    """A message that was appended."""

    number: int
    data: bytes
    time: float

    @property
    def id(self) -> bytes:
        return b"%d" % self.number


class Hub:
    """What all brokers of a test are connected to.

    Attributes:
        members: Those that are connected.
        is_down: No one can connect.
        frozen: It answers no more until this is None again.
        published: All that was published, with those that were at fault.
        appended: For each topic all that was ever appended, also what is not kept any more.
        last_number: The number of the last message that was appended, to any topic.
        first_number: What comes before this is lost, and even how much it was.
        clock: Seconds, for the age of messages.
    """

    def __init__(self) -> None:
        self.members: List[MemoryBroker] = []
        self.is_down = False
        self.frozen: Optional[asyncio.Future[None]] = None
        self.published: List[Tuple[bytes, bytes]] = []
        self.appended: Dict[bytes, List[Kept]] = {}
        self.last_number = self.first_number = 0
        self.clock: Callable[[], float] = time.monotonic
        self.counts = False  # whether publish_counted returns numbers

    def crash(self) -> None:
        """All connections are lost, and no one can connect."""
        self.is_down = True
        for member in list(self.members):
            self.members.remove(member)
            assert member.link
            member.link.lost(ConnectionError("the broker has crashed"))

    def freeze(self) -> None:
        self.frozen = asyncio.get_running_loop().create_future()

    def thaw(self) -> None:
        assert self.frozen
        self.frozen.set_result(None)
        self.frozen = None

    def send(self, topic: bytes, data: bytes, id: bytes = b"") -> None:
        for member in self.members:
            if topic in member.topics:
                assert member.link
                member.link.receive(topic, data, id)

    def append(self, topic: bytes, data: bytes) -> None:
        self.last_number += 1
        message = Kept(self.last_number, data, self.clock())
        self.appended.setdefault(topic, []).append(message)
        self.send(topic, data, message.id)

    def forget(self) -> None:
        """Lose all that is kept, as a broker that is started again without its files."""
        self.first_number = self.last_number + 1
        self.appended.clear()

    def read(self, topic: bytes, after: Optional[bytes], history: History) -> Page:
        """One page, with a `complete` that is exact, except that nothing is known of lost data."""
        messages = self.appended.get(topic, [])
        last = messages[-1].number if messages else self.last_number
        if after is None:
            return Page(b"%d" % last)
        position = int(after) if after.isdigit() else -1
        is_known = self.first_number - 1 <= position <= self.last_number
        missed = [one for one in messages if not is_known or one.number > position]
        oldest = self.clock() - history.seconds
        found = [one for one in missed[-history.messages :] if one.time >= oldest]
        page = found[:PAGE]
        return Page(
            page[-1].id if page else after if is_known else b"%d" % last,
            [(one.id, one.data) for one in page],
            is_known and len(found) == len(missed),
            len(found) > len(page),
        )


class MemoryBroker(Broker):
    """A connection to a Hub.

    Attributes:
        calls: The methods that were called, with their arguments.
        fails: What the next `publish`, `append` or `read` raises, without doing anything.
        fails_late: What the next `append` raises after it has kept the messages.
    """

    keeps = True

    def __init__(self, hub: Hub) -> None:
        self.hub = hub
        self.link: Optional[Link] = None
        self.topics: Set[bytes] = set()
        self.attempts = self.closed = 0
        self.calls: List[Tuple[str, Any]] = []
        self.fails: Optional[Exception] = None
        self.fails_late: Optional[Exception] = None

    async def _answer(self) -> None:
        while self.hub.frozen is not None:
            await asyncio.shield(self.hub.frozen)
        await asyncio.sleep(0)
        if self not in self.hub.members:
            raise ConnectionError("not connected")

    async def connect(self, link: Link) -> None:
        self.attempts += 1
        while self.hub.frozen is not None:
            await asyncio.shield(self.hub.frozen)
        if self.hub.is_down:
            raise ConnectionError("no broker is here")
        self.link, self.topics = link, set()
        self.hub.members.append(self)

    async def subscribe(self, topics: Sequence[bytes]) -> None:
        self.calls.append(("subscribe", list(topics)))
        await self._answer()
        self.topics.update(topics)

    async def unsubscribe(self, topics: Sequence[bytes]) -> None:
        self.calls.append(("unsubscribe", list(topics)))
        await self._answer()
        self.topics.difference_update(topics)

    async def publish(self, messages: Sequence[Tuple[bytes, bytes]]) -> None:
        self.calls.append(("publish", list(messages)))
        await self._answer()
        self._fail()
        for topic, data in messages:
            self.hub.published.append((topic, data))
            self.hub.send(topic, data)

    def _fail(self) -> None:
        if self.fails is not None:
            error, self.fails = self.fails, None
            raise error

    async def append(self, messages: Sequence[Tuple[bytes, bytes, History]]) -> None:
        self.calls.append(("append", list(messages)))
        await self._answer()
        self._fail()
        for topic, data, _ in messages:
            self.hub.append(topic, data)
        if self.fails_late is not None:
            error, self.fails_late = self.fails_late, None
            raise error

    async def read(
        self, requests: Sequence[Tuple[bytes, Optional[bytes], History]]
    ) -> Sequence[Page]:
        self.calls.append(("read", list(requests)))
        await self._answer()
        self._fail()
        return [self.hub.read(*one) for one in requests]

    async def publish_counted(
        self, messages: Sequence[Tuple[bytes, bytes]]
    ) -> Optional[Sequence[int]]:
        await self.publish(messages)
        if not self.hub.counts:
            return None
        return [sum(topic in one.topics for one in self.hub.members) for topic, _ in messages]

    async def close(self) -> None:
        self.closed += 1
        if self in self.hub.members:
            self.hub.members.remove(self)


class Node:
    """An app with a broker, and what its clients get."""

    def __init__(
        self, broker: Any, settings: Optional[WebSocketOptionsDict] = None, **options: Any
    ) -> None:
        self.broker = broker
        self.app = App(broker=broker, **options)
        route: WebSocketOptionsDict = {"max_backpressure": 0, "max_topic_length": 100_000}
        self.app.ws("/:name", {**route, "open": self._open, **(settings or {})})
        self.sockets: Dict[str, WebSocket[Any]] = {}
        self.clients: Dict[str, Any] = {}
        self.ups: List[bool] = []
        self.app.on_broker(self.ups.append)

    def _open(self, ws: WebSocket[Any]) -> None:
        self.sockets[ws.parameters["name"]] = ws

    async def client(self, name: str, *topics: str) -> Any:
        """Connect a client, and subscribe it."""
        import websockets

        client = await websockets.connect(
            f"{self.place.url}/{name}", max_size=None, compression=None, open_timeout=30
        )
        self.clients[name] = client
        for topic in topics:
            assert self.sockets[name].subscribe(topic)
        return client

    async def got(self, name: str) -> List[Any]:
        """All messages that a client has got until now."""
        relay: Any = self.app._runtime.relay
        await until(lambda: not relay._arrived)  # a burst is delivered in the next turn
        self.sockets[name].send(END)
        messages: List[Any] = []
        while True:
            message = await asyncio.wait_for(self.clients[name].recv(), 20)
            if message == END:
                return messages
            messages.append(message)

    async def first(self, name: str) -> Any:
        """The next message that a client gets."""
        return await asyncio.wait_for(self.clients[name].recv(), 20)

    @property
    def stats(self) -> Dict[str, int]:
        found = self.app.stats()
        start = len("broker_")
        return {key[start:]: found[key] for key in found if key.startswith("broker_")}

    @asynccontextmanager
    async def running(self, up: bool = True) -> AsyncIterator["Node"]:
        self.place = Place(self.app)
        async with self.app.serving():
            if up:
                await until(lambda: self.ups[-1:] == [True])
            yield self
            for client in self.clients.values():
                await client.close()

    @property
    def is_settled(self) -> bool:
        """Whether the broker knows all topics, and has everything; what came is delivered."""
        relay: Any = self.app._runtime.relay
        return relay._waiter is not None and not relay._arrived and not relay._outbox.size

    async def settled(self) -> None:
        await until(lambda: self.is_settled)
