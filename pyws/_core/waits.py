# SPDX-License-Identifier: MIT
"""What waits for a connection in asyncio."""

from __future__ import annotations

from typing import Any, Protocol

__all__ = ["AnyReader", "Waits", "resolve"]


class AnyReader(Protocol):
    """A connection that takes labels, as `readers.Reader` implements it."""

    def subscribe(self, topic: bytes) -> bool | None:
        """The connection subscribes. None: it can do so at once, and `subscribed` follows.

        True: the subscription will begin, after what the client has missed. False: it has
        max_topics topics, with those that will begin.
        """

    def subscribed(self, topic: bytes) -> None:
        """A subscription has begun: send the position of the topic."""

    def cancel(self, topic: bytes) -> bool:
        """The connection unsubscribes: whether that ends the wait for what it has missed."""

    def end(self) -> None:
        """The connection is closed."""


class Waits:
    """Made when there is something.

    Attributes:
        closed: A future of those who wait until the closing handshake is over.
        drained: The futures of those who wait until nothing is queued.
        tasks: The tasks that `create_task` has started.
        session: The session that is under way, or None.
        reader: What knows its position in topics with history, or None.
    """

    __slots__ = ("closed", "drained", "reader", "session", "tasks")

    def __init__(self) -> None:
        self.closed: Any = None
        self.drained: list[Any] = []
        self.tasks: set[Any] = set()
        self.session: Any = None
        self.reader: AnyReader | None = None


def resolve(future: Any, result: Any) -> None:
    """Set the result of an asyncio.Future that may be None, or cancelled."""
    if future is not None and not future.done():
        future.set_result(result)
