# SPDX-License-Identifier: MIT
"""Topics with history, in one process.

Their messages come from the broker, those of this process, too. A `Channel` is such a topic that
this process needs. All messages up to its *frontier* are delivered here, or were kept before it was
needed; those after it will be delivered. So a subscription that begins now continues from there.

When a channel is new, its position is read first and becomes the frontier, then the process
subscribes to it at the broker, and then it *catches up*: what the broker has kept after the
frontier is read and delivered, while what arrives is held. Then it is live. After the connection
was lost it catches up again, from where it was.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from typing import Any, Callable, Iterable, Iterator, List, Optional, Protocol, Sequence, Tuple
from weakref import WeakSet

from ..brokers import Page
from ..history import History, history_of
from . import envelope
from .messages import is_text

__all__ = [
    "LABELLED",
    "NOTICE",
    "Channel",
    "Keeper",
    "Kept",
    "Replay",
    "is_newer",
    "position_before",
    "unpacked",
]

LABELLED, NOTICE = 0x200, 0x400  # WS_LABELLED, WS_NOTICE
MOST_READS = 50  # pages in one call of Broker.read
MOST_POSITIONS = 100  # in one call of Broker.read, without messages
MOST_HELD = 16 * 1024 * 1024  # bytes of what arrives during reads; what is beyond is read again
MOST_SENT = 2000  # messages for replays until the rest of the program may run
OVERHEAD = 200  # bytes for each of them: its objects

_TEXT = 1  # WS_TEXT

Kept = Tuple[bytes, int, bytes]  # id, opcode with the flag of the library, payload
Request = Tuple[bytes, Optional[bytes], History]  # of Broker.read


def is_newer(id: bytes, other: bytes) -> bool:
    """Whether a message with this id comes after the other one. Raises ValueError."""
    return _numbers(id) > _numbers(other)


def _numbers(id: bytes) -> tuple[int, ...]:
    return tuple(map(int, id.split(b"-")))


def position_before(page: Page, after: bytes) -> bytes:
    """A position before all messages of a page: that of the request, unless it makes no sense."""
    if not page.messages:
        return page.id
    return after if is_newer(page.messages[0][0], after) else b"0"


def unpacked(id: bytes, data: bytes) -> Kept | None:
    """A message that was read; None if clients must not get it, since other programs keep, too."""
    found = envelope.unpack(data)
    if found is None or found[1] <= 0 or (found[1] & _TEXT and not is_text(found[2])):
        return None
    return id, found[1], found[2]


class Replay(Protocol):
    """What reads messages for one connection, as `readers.Replay` implements it.

    Attributes:
        channel: The topic.
        after: The id after which messages are wanted.
    """

    channel: Channel
    after: bytes

    @property
    def is_over(self) -> bool:
        """Whether the subscription has begun, or is not wanted any more."""

    def on_page(self, page: Page) -> None:
        """The messages that were asked for by `Keeper.request`."""


class Newcomer(Protocol):
    """A connection that takes labels, as `readers.Reader` implements it."""

    def on_position(self, channel: Channel) -> None:
        """The position of a topic is known, to which it has subscribed without an id."""


class Channel:
    """A topic with history.

    Attributes:
        topic, history: The topic, and how much of it is kept.
        frontier: See the module; None while the position is not known yet.
        is_live: What arrives is delivered at once.
        arrived: What a channel that is not live holds, or what a live one has delivered during a
            read for replays. None: there is no such read, or it was too much.
        has_subscribers: Connections of this process have subscribed.
        holds: Replays that need the channel.
        waiting: Replays that wait until it is live (a dict for its order).
        newcomers: Those who wait for the position.
    """

    __slots__ = (
        "_head",
        "arrived",
        "frontier",
        "has_subscribers",
        "history",
        "holds",
        "is_live",
        "newcomers",
        "topic",
        "waiting",
    )

    def __init__(self, topic: bytes, history: History) -> None:
        self.topic = topic
        self.history = history
        self.frontier: bytes | None = None
        self.is_live = False
        self.arrived: list[Kept] | None = []
        self.has_subscribers = False
        self.holds = 0
        self.waiting: dict[Replay, None] = {}
        self.newcomers: WeakSet[Newcomer] = WeakSet()
        name = json.dumps(topic.decode("utf-8", "replace"))
        self._head = f'\0{{"topic":{name},"id":"'.encode()

    @property
    def is_needed(self) -> bool:
        """Whether the process must be subscribed at the broker."""
        return self.has_subscribers or self.holds > 0

    def label(self, id: bytes) -> bytes:
        """What a message with this id begins with, for connections that take labels."""
        return self._head + id + b'"}\n'

    def notice(self, id: bytes, complete: bool) -> bytes:
        """A message that is only a label: a position."""
        return self._head + id + (b'","complete":true}\n' if complete else b'","complete":false}\n')

    def passes(self, id: bytes) -> bool:
        """Move the frontier; returns whether it is a message that was not delivered yet."""
        assert self.frontier is not None
        if not is_newer(id, self.frontier):
            return False
        self.frontier = id
        return True


class Keeper:
    """The channels of one process."""

    def __init__(
        self,
        deliver: Callable[[Channel, Kept], None],
        announce: Callable[[bytes, bytes], None],
        need: Callable[[bytes, bool], None],
        wake: Callable[[], None],
    ) -> None:
        """
        Args:
            deliver: Passes a message to the subscribers in this process.
            announce: Passes a notice, of a topic, to those of them who take labels.
            need: A topic is needed at the broker, or not any more.
            wake: There is something to read.
        """
        self._deliver = deliver
        self._announce = announce
        self._need = need
        self._wake = wake
        self.histories: list[History] = []
        self.replayed = self.incomplete = 0
        self.reset()

    def reset(self) -> None:
        """A run of the app begins."""
        self._channels: dict[bytes, Channel] = {}
        self._behind: dict[bytes, Channel] = {}  # subscribed at the broker, and not live
        self._requests: dict[tuple[bytes, bytes], dict[Replay, None]] = {}  # by topic and id
        self._reading: list[Any] = []  # channels, or keys of requests, that are being read
        self._held = 0  # bytes of what has arrived, in all channels

    def find(self, topic: bytes) -> History | None:
        """How much of a topic is kept; None for a topic without history."""
        channel = self._channels.get(topic)
        return history_of(self.histories, topic) if channel is None else channel.history

    # ---- what is needed -------------------------------------------------------------------------

    def channel(self, topic: bytes) -> Channel | None:
        """The channel of a topic; None if it has no history."""
        channel = self._channels.get(topic)
        if channel is None:
            history = history_of(self.histories, topic)
            if history is not None:
                channel = self._channels[topic] = Channel(topic, history)
        return channel

    def on_topic(self, topic: bytes, exists: bool) -> None:
        """A topic has got its first subscriber here, or lost its last one."""
        channel = self.channel(topic)
        if channel is None:
            self._need(topic, exists)
        elif channel.has_subscribers is not exists:
            was_needed, channel.has_subscribers = channel.is_needed, exists
            self._compare(channel, was_needed)

    def hold(self, channel: Channel) -> None:
        """A replay needs the channel, perhaps before it has subscribers."""
        was_needed = channel.is_needed
        channel.holds += 1
        self._compare(channel, was_needed)

    def release(self, channel: Channel) -> None:
        """A replay needs the channel no longer."""
        channel.holds -= 1
        self._compare(channel, True)

    def _compare(self, channel: Channel, was_needed: bool) -> None:
        if channel.is_needed is not was_needed:
            self._need(channel.topic, channel.is_needed)

    def forget(self, topic: bytes) -> None:
        """The topic is not subscribed at the broker any more, or never was."""
        channel = self._channels.pop(topic, None)
        self._behind.pop(topic, None)
        if channel is not None:
            self._take_arrived(channel, None)

    def request(self, replay: Replay) -> None:
        """Read a page for a replay; its channel is held."""
        channel = replay.channel
        if channel.is_live:
            self._requests.setdefault((channel.topic, replay.after), {})[replay] = None
            self._wake()
        else:
            channel.waiting[replay] = None

    def cancel(self, replay: Replay) -> None:
        """A replay wants no page any more."""
        channel = replay.channel
        channel.waiting.pop(replay, None)
        key = (channel.topic, replay.after)
        replays = self._requests.get(key, {})
        replays.pop(replay, None)
        if not replays and key not in self._reading:
            self._requests.pop(key, None)

    # ---- the connection -------------------------------------------------------------------------

    def positions(self, topics: Sequence[bytes]) -> Iterator[list[Request]]:
        """Reads to be done before the process subscribes to topics, in portions."""
        found = [self._channels[topic] for topic in topics if topic in self._channels]
        new = [channel for channel in found if channel.frontier is None]
        for start in range(0, len(new), MOST_POSITIONS):
            portion = new[start : start + MOST_POSITIONS]
            yield [(channel.topic, None, channel.history) for channel in portion]

    def on_positions(self, requests: Iterable[Request], pages: Iterable[Page]) -> None:
        """The answer to one of these."""
        for (topic, _, _), page in zip(requests, pages):
            channel = self._channels.get(topic)
            if channel is not None and channel.frontier is None:
                channel.frontier = page.id
                newcomers, channel.newcomers = [*channel.newcomers], WeakSet()
                for one in newcomers:
                    one.on_position(channel)

    def subscribed(self, topics: Iterable[bytes]) -> None:
        """The process has subscribed to these at the broker."""
        for topic in topics:
            channel = self._channels.get(topic)
            if channel is not None and channel.frontier is not None and not channel.is_live:
                self._behind[topic] = channel

    def disconnected(self) -> None:
        """The connection is lost: all that was live is so no longer."""
        for channel in self._channels.values():
            channel.is_live = False
            self._take_arrived(channel, [])
        for (topic, _), replays in self._requests.items():
            if replays:
                self._channels[topic].waiting.update(replays)
        self._requests.clear()
        self._behind.clear()
        self._reading = []

    # ---- reading --------------------------------------------------------------------------------

    @property
    def has_requests(self) -> bool:
        """Whether there is something to read."""
        return bool(self._behind or self._requests)

    def next_requests(self) -> list[Request]:
        """The next reads: of channels that are behind, or for replays if there are none.

        `on_pages` follows, or `disconnected`.
        """
        requests: list[Request] = []
        if self._behind:
            self._reading = [*self._behind.values()][:MOST_READS]
            for channel in self._reading:
                requests.append((channel.topic, channel.frontier, channel.history))
            return requests
        self._reading = [*self._requests][:MOST_READS]
        for topic, after in self._reading:
            channel = self._channels[topic]
            self._take_arrived(channel, [])
            requests.append((topic, after, channel.history))
        return requests

    async def on_pages(self, pages: Sequence[Page]) -> None:
        """The answer to these. If it is cancelled, replays without a page wait for another one."""
        reading, self._reading = self._reading, []
        if reading and isinstance(reading[0], Channel):
            self._catch_up([*zip(reading, pages)])
            return
        rest = deque(
            (replay, page)
            for key, page in zip(reading, pages)
            for replay in self._requests.pop(key, ())
        )
        sent = 0
        try:
            while rest:
                sent += 1 + len(rest[0][1].messages)
                if sent > MOST_SENT:
                    sent = 0
                    await asyncio.sleep(0)
                replay, page = rest.popleft()
                replay.on_page(page)
        finally:
            for topic, _ in reading:
                channel = self._channels.get(topic)
                if channel is not None and channel.is_live:
                    self._take_arrived(channel, None)
            for replay, _ in rest:
                if not replay.is_over:
                    self.request(replay)

    def _catch_up(self, answers: List[Tuple[Channel, Page]]) -> None:
        for channel, page in answers:
            if self._behind.get(channel.topic) is not channel:
                continue
            assert channel.frontier is not None
            if not page.complete:
                channel.frontier = position_before(page, channel.frontier)
                self.incomplete += 1
                self._announce(channel.topic, channel.notice(channel.frontier, False))
            for id, data in page.messages:
                self._pass_on(channel, id, data)
            channel.passes(page.id)
            if page.more:
                continue
            if channel.arrived is None:  # too much was to be held: read again
                channel.arrived = []
                continue
            self._go_live(channel)

    def _pass_on(self, channel: Channel, id: bytes, data: bytes) -> None:
        """Deliver a message that was read."""
        if channel.passes(id):
            message = unpacked(id, data)
            if message is not None:
                self._deliver(channel, message)

    def _go_live(self, channel: Channel) -> None:
        for message in self._take_arrived(channel, None):
            if channel.passes(message[0]):
                self._deliver(channel, message)
        channel.is_live = True
        self._behind.pop(channel.topic, None)
        waiting, channel.waiting = channel.waiting, {}
        for replay in waiting:
            self.request(replay)

    # ---- messages that arrive -------------------------------------------------------------------

    def receive(self, topic: bytes, message: Kept) -> bool:
        """A message with an id has arrived; returns False if the topic is not known here.

        Raises:
            ValueError: The id is wrong.
        """
        channel = self._channels.get(topic)
        if channel is None:
            return False
        if channel.frontier is None:  # nothing here needs what came before the position
            return True
        if channel.is_live:
            if not channel.passes(message[0]):
                return True
            self._deliver(channel, message)
        if channel.arrived is not None:
            channel.arrived.append(message)
            self._held += len(message[2]) + OVERHEAD
            if self._held > MOST_HELD:
                self._take_arrived(channel, None)
        return True

    def _take_arrived(self, channel: Channel, now: list[Kept] | None) -> list[Kept]:
        """What has arrived, after which it is something else."""
        arrived, channel.arrived = channel.arrived or [], now
        self._held -= sum(len(message[2]) + OVERHEAD for message in arrived)
        return arrived
