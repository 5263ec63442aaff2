# SPDX-License-Identifier: MIT
"""Messages on their way to a broker: a queue with a bound."""

from __future__ import annotations

import time
from collections import deque
from typing import Deque, Iterator, NamedTuple, Optional, Sequence

from ..history import History

__all__ = ["Outbox", "Waiting", "portions"]

OVERHEAD = 200  # bytes for each waiting message: its objects and its place in the queue
MOST_MESSAGES = 500  # in one call of Broker.publish, or append
MOST_TOPICS = 1000  # in one call of Broker.subscribe
MOST_BYTES = 512 * 1024  # of messages, with OVERHEAD, in one call, unless one is longer


class Waiting(NamedTuple):
    """A message that waits.

    Attributes:
        topic: Its topic.
        data: The envelope.
        since: When it was published (time.monotonic).
        history: How much of the topic is kept; None for a topic without history.
    """

    topic: bytes
    data: bytes
    since: float
    history: Optional[History]


class Outbox:
    """The queue, and the messages that the broker has got and not confirmed.

    Attributes:
        limit: The bytes that may wait.
        size: The bytes of all messages, with OVERHEAD for each.
        under_way: The messages that the broker has got.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.size = 0
        self.under_way: Sequence[Waiting] = ()
        self._queue: Deque[Waiting] = deque()
        self._size_under_way = 0

    def __len__(self) -> int:
        """How many messages wait, those that are under way not included."""
        return len(self._queue)

    @property
    def is_kept_next(self) -> bool:
        """Whether the first message that waits has history."""
        return bool(self._queue) and self._queue[0].history is not None

    def put(self, topic: bytes, data: bytes, history: History | None) -> bool:
        """Append a message; returns whether there is room for it."""
        size = len(topic) + len(data) + OVERHEAD
        if self.size + size > self.limit:
            return False
        self.size += size
        self._queue.append(Waiting(topic, data, time.monotonic(), history))
        return True

    def take(self, longest: int) -> tuple[Sequence[Waiting], list[Waiting]]:
        """Take messages for one call: all of them are kept by the broker, or none is.

        Args:
            longest: The longest data that the broker takes; 0 means no limit. It may not have been
                known when a message was put here.

        Returns:
            The messages, which are under way now, and those that are too long and leave the queue.
        """
        queue = self._queue
        batch: list[Waiting] = []
        too_long: list[Waiting] = []
        size = 0
        while queue and len(batch) < MOST_MESSAGES:
            one = queue[0]
            if 0 < longest < len(one.data):
                too_long.append(queue.popleft())
                self.size -= _size_of(one)
                continue
            more = _size_of(one)
            if batch and (
                size + more > MOST_BYTES or bool(one.history) is not bool(batch[0].history)
            ):
                break
            size += more
            batch.append(queue.popleft())
        self.under_way, self._size_under_way = batch, size
        return batch, too_long

    def arrived(self) -> None:
        """The messages that were under way have arrived, or are lost."""
        self.size -= self._size_under_way
        self.under_way, self._size_under_way = (), 0

    def give_back(self) -> None:
        """The messages that were under way are to be sent again, before all others."""
        self._queue.extendleft(reversed(self.under_way))
        self.under_way, self._size_under_way = (), 0

    def clear(self) -> int:
        """Drop everything; returns how many messages that were."""
        lost = len(self._queue) + len(self.under_way)
        self._queue.clear()
        self.under_way, self.size, self._size_under_way = (), 0, 0
        return lost

    def lag(self) -> float:
        """For how many seconds the oldest message has waited."""
        waiting = self.under_way or self._queue
        return time.monotonic() - waiting[0].since if waiting else 0.0


def _size_of(one: Waiting) -> int:
    return len(one.topic) + len(one.data) + OVERHEAD


def portions(topics: list[bytes]) -> Iterator[list[bytes]]:
    """Topics for one call each."""
    rest = iter(topics)
    batch: list[bytes] = []
    size = 0
    for topic in rest:
        if batch and (len(batch) == MOST_TOPICS or size + len(topic) > MOST_BYTES):
            yield batch
            batch, size = [], 0
        batch.append(topic)
        size += len(topic)
    if batch:
        yield batch
