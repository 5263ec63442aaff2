# SPDX-License-Identifier: MIT
"""Message brokers, which carry published messages to other machines.

`AppOptions(broker=...)` takes the URL of a broker, or an object of a subclass of `Broker`.
docs/scaling.md explains what is promised, and has the format of the messages.
"""

from __future__ import annotations

import abc
from typing import Any, Optional, Sequence, Tuple, Union

from ._core.values import type_name
from .history import History, Page

__all__ = ["Broker", "Link", "Page", "Refused"]


class Refused(ConnectionError):
    """`Broker.append` raises it: the broker is there, but does not keep the messages.

    It has no memory left, for example. They count as lost, are not appended again, and hold up no
    others, unlike with other exceptions: the connection goes on.

    Attributes:
        messages: How many of them it has not kept; None means all.
    """

    def __init__(self, why: str, messages: Optional[int] = None) -> None:
        """
        Args:
            why: For the log.
            messages: How many it has not kept.
        """
        super().__init__(why)
        self.messages = messages


class Link(abc.ABC):
    """What a `Broker` reports to. pyws makes it, one for each app.

    Its methods belong to the asyncio loop that the methods of the broker run in, and never block.
    """

    @abc.abstractmethod
    def receive(self, topic: bytes, data: bytes, id: bytes = b"") -> None:
        """The broker has sent this message: deliver it to the subscribers in this process.

        What this app itself has published by `Broker.publish` is left out here, as are messages
        that are not of pyws.

        Args:
            topic: The topic, as `Broker.subscribe` got it.
            data: The data, as `Broker.publish` or `Broker.append` got it.
            id: The id of a message that is kept; otherwise empty.
        """

    @abc.abstractmethod
    def lost(self, error: BaseException) -> None:
        """The connection to the broker is lost.

        The method of the broker that is under way is cancelled, `Broker.close` is called, and later
        `Broker.connect` again. Only the first call for each connection counts.

        Args:
            error: Why, for the log.
        """

    def refused(self, error: BaseException) -> None:
        """The broker has refused a message or a subscription, and the connection goes on.

        It is logged. In a program that calls `pyws.publish_to`, this call raises ConnectionError.

        Args:
            error: Why.
        """
        raise NotImplementedError


class Broker(abc.ABC):
    """A connection to a message broker: derive from it to use one that pyws does not know.

    The broker has channels, one for each topic, and sends each message to all connections that have
    subscribed to its channel. All methods run in the asyncio loop of the app, one at a time, and
    return once the broker has accepted what they were given. An exception means that the connection
    is lost, as does a method that takes longer than 10 seconds, which is cancelled. pyws does the
    rest: it queues messages, connects again, and then subscribes to all topics again.

    A broker may also keep the last messages of topics that have history; then it sets `keeps`, and
    has `append` and `read`. A kept message has an id: decimal numbers, joined by "-". In each topic
    the ids increase, compared number by number, and they are the same wherever they are read. They
    must not begin anew when messages are lost, or the connection is.

    ``str(broker)`` is what log lines call it. One object serves one app.

    Attributes:
        max_size: The longest data that the broker accepts, in bytes, which `connect` may set.
            Longer messages count as lost. 0 means no limit.
        keeps: Whether it keeps messages.
        histories: What has history, which pyws sets before `connect`. Empty: `append` and `read`
            are not called.
    """

    max_size: int = 0
    keeps: bool = False
    histories: Sequence[History] = ()

    @abc.abstractmethod
    async def connect(self, link: Link) -> None:
        """Connect. From now on pass what arrives to `link`.

        Args:
            link: Where messages go, and the report that the connection is lost. It is always the
                same one.
        """

    @abc.abstractmethod
    async def subscribe(self, topics: Sequence[bytes]) -> None:
        """Subscribe to topics, which may contain any byte, zero bytes too; at most 1,000."""

    @abc.abstractmethod
    async def unsubscribe(self, topics: Sequence[bytes]) -> None:
        """Unsubscribe from topics; at most 1,000."""

    @abc.abstractmethod
    async def publish(self, messages: Sequence[Tuple[bytes, bytes]]) -> None:
        """Publish messages in this order, each a topic and its data; at most 500, or one large one.

        If it raises, or is cancelled, all of them count as lost. They are not published again,
        because some may have arrived.
        """

    async def append(self, messages: Sequence[Tuple[bytes, bytes, History]]) -> None:
        """Keep messages in this order, and pass them to the subscribers of their topics with ids.

        They reach all subscribers in the order of their ids, those of this connection, too. If it
        raises, or is cancelled, the same messages are appended again later, so that some may be
        kept twice; not so if it raises `Refused`.

        Args:
            messages: Topic, data and bounds of each one; at most 500, or one large one. Of a topic,
                the last `History.messages` are kept, none longer than `History.seconds`.
        """
        raise NotImplementedError(f"{type(self).__name__} keeps no messages")

    async def read(
        self, requests: Sequence[Tuple[bytes, Optional[bytes], History]]
    ) -> Sequence[Page]:
        """Read messages that are kept.

        Args:
            requests: At most 100. Each is a topic, the id after which messages are wanted, and the
                bounds, beyond which none is returned. Without an id (None) no messages are wanted,
                only the position of the last one. The id may be one that this broker has never
                given: then all that is kept is returned, as not complete.

        Returns:
            For each request, the oldest messages after the id: at most 100, and fewer if they are
            large.
        """
        raise NotImplementedError(f"{type(self).__name__} keeps no messages")

    async def publish_counted(
        self, messages: Sequence[Tuple[bytes, bytes]]
    ) -> Optional[Sequence[int]]:
        """Publish messages, and find out how many connections each one was sent to.

        It may be left out, as it only makes ``await app.count(topic)`` faster.

        Args:
            messages: As for `publish`.

        Returns:
            For each message the number of connections, this one among them if the message comes
            back; None if the broker does not say that.
        """
        await self.publish(messages)
        return None

    @abc.abstractmethod
    async def close(self) -> None:
        """Close the connection. It is called after each `connect`, even if that has failed."""

    def fileno(self) -> int:
        """The descriptor of the connection, which children of a fork close; -1 without one."""
        return -1

    def __str__(self) -> str:
        return type(self).__name__


# ---- URLs ---------------------------------------------------------------------------------------

SCHEMES = {
    # scheme: the extra of pyws-server whose packages it needs
    "redis": "redis",
    "rediss": "redis",
    "redis+unix": "redis",
    "valkey": "redis",
    "valkeys": "redis",
    "valkey+unix": "redis",
    "nats": "nats",
    "tls": "nats",
}


def check_broker(name: str, value: Any) -> Union[str, Broker]:
    """The check of the setting `broker`. Raises TypeError, ValueError."""
    if isinstance(value, Broker):
        return value
    if isinstance(value, type) and issubclass(value, Broker):
        raise TypeError(
            f"{name} must be an object, not the class {value.__name__}: {value.__name__}(...)"
        )
    if not isinstance(value, str):
        raise TypeError(
            f'{name} must be a URL like "redis://127.0.0.1:6379" or an object of a subclass of '
            f"pyws.brokers.Broker, not {type_name(value)}"
        )
    scheme, separator, _ = value.partition("://")
    begins = repr(scheme + separator)
    if separator and scheme.lower() in SCHEMES and scheme not in SCHEMES:
        raise ValueError(f"{name} must begin with {begins.lower()} in lower case, not {begins}")
    if not separator or scheme not in SCHEMES:
        known = ", ".join(f"{one}://" for one in SCHEMES)
        what = f"not {begins}" if separator else "but has no scheme"
        raise ValueError(f"{name} must be a URL that begins with one of {known}, {what}")
    return value
