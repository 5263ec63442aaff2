# SPDX-License-Identifier: MIT
"""Topics whose last messages a broker keeps, for clients that come back.

docs/scaling.md explains what is promised.
"""

from __future__ import annotations

from typing import Any, FrozenSet, Iterable, NamedTuple, NoReturn, Optional, Sequence, Tuple, Union

from ._core import values

__all__ = ["PAGE", "PAGE_BYTES", "History", "Page", "check_history", "history_of"]

MOST_MESSAGES = 1_000_000
PAGE = 100  # messages in one Page
PAGE_BYTES = 256 * 1024  # of messages, after which a page ends although it has fewer


class History:
    """Topics that have history, and how much of it: a setting of `App.ws`.

    The broker keeps the last messages of these topics, and a client that connects again gets those
    that it has missed: docs/scaling.md. Objects are equal if their values are, and never change.

    Attributes:
        topics: What it was made with, as a tuple.
        messages: How many messages of each topic are kept.
        seconds: For how long.
    """

    __slots__ = ("_beginnings", "_names", "messages", "seconds", "topics")

    topics: Tuple[str, ...]
    messages: int
    seconds: float
    _names: FrozenSet[bytes]
    _beginnings: Tuple[bytes, ...]

    def __init__(
        self, topics: Union[str, Sequence[str]], *, messages: int = 1000, seconds: float = 3600
    ) -> None:
        """
        Args:
            topics: A topic, or several. A "*" at the end stands for anything: "chat/*" means all
                topics that begin with "chat/", and "*" all topics.
            messages: How many messages of each topic are kept, from 1 to 1,000,000.
            seconds: For how long, from 1 to 4,000,000 seconds.

        Raises:
            TypeError, ValueError: An argument is wrong.
        """
        if isinstance(topics, bytes) or not hasattr(topics, "__iter__"):
            raise TypeError(
                f"topics must be a str or a list of str, not {values.type_name(topics)}"
            )
        given = (topics,) if isinstance(topics, str) else values.strings("topics", topics)
        if not given:
            raise ValueError("topics must not be empty")
        names, beginnings = set(), []
        for one in given:
            if "*" in one[:-1]:
                raise ValueError(f"topics: a * may only be at the end, not as in {one!r}")
            name = values.encode("topics", one)
            if one.endswith("*"):
                beginnings.append(name[:-1])
            else:
                names.add(name)
        self._set("topics", tuple(given))
        self._set("messages", values.integer("messages", messages, 1, MOST_MESSAGES))
        self._set("seconds", values.duration("seconds", seconds, 1))
        self._set("_names", frozenset(names))
        self._set("_beginnings", tuple(beginnings))

    def _set(self, name: str, value: Any) -> None:
        object.__setattr__(self, name, value)

    def matches(self, topic: Union[str, bytes]) -> bool:
        """Whether `topic` is one of the topics, or begins as one that ends with "*".

        Args:
            topic: Any str, or bytes in UTF-8.
        """
        name = topic if isinstance(topic, bytes) else values.topic(topic)
        return name in self._names or name.startswith(self._beginnings)

    # ---- a value --------------------------------------------------------------------------------

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"{name} cannot be set: History objects never change")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"{name} cannot be deleted: History objects never change")

    def __eq__(self, other: object) -> bool:
        return _values(self) == _values(other) if isinstance(other, History) else NotImplemented

    def __hash__(self) -> int:
        return hash(_values(self))

    def __repr__(self) -> str:
        shown = repr(self.topics[0] if len(self.topics) == 1 else self.topics)
        return f"History({shown}, messages={self.messages}, seconds={self.seconds:g})"

    def __reduce__(self) -> Tuple[Any, ...]:
        return _copy, _values(self)


def _values(one: History) -> Tuple[Any, ...]:
    return one.topics, one.messages, one.seconds


def _copy(topics: Tuple[str, ...], messages: int, seconds: float) -> History:
    return History(topics, messages=messages, seconds=seconds)


def check_history(name: str, value: Any) -> History:
    """The check of the setting `history`. Raises TypeError."""
    if not isinstance(value, History):
        example = f", as in {name}=History({value!r})" if isinstance(value, str) else ""
        raise TypeError(f"{name} must be a History, not {values.type_name(value)}{example}")
    return value


def history_of(histories: Iterable[History], topic: bytes) -> Optional[History]:
    """The first of `histories` that matches a topic; None if the topic has no history."""
    for one in histories:
        if one.matches(topic):
            return one
    return None


class Page(NamedTuple):
    """What `pyws.brokers.Broker.read` returns for one topic.

    Attributes:
        id: The position where the page ends, from which the next one begins: the id of its last
            message; without messages, an id that no message after it is as small as.
        messages: Id and data of each message, the oldest one first.
        complete: False if messages before those of the page may be missing, because they are not
            kept any more.
        more: Whether there are more messages after the page.
    """

    id: bytes
    messages: Sequence[Tuple[bytes, bytes]] = ()
    complete: bool = True
    more: bool = False
