# SPDX-License-Identifier: MIT
"""Server-sent events: an answer that goes on for as long as the client stays (HTML, 9.2)."""

from __future__ import annotations

import re
from typing import Any, Optional, Protocol

from ..enums import SendStatus
from . import values
from .hints import Message
from .messages import pack
from .parts import Parts
from .waits import resolve

__all__ = ["EventStream"]

_LINE_END = re.compile("\r\n|\r|\n")


class _Answer(Protocol):
    """What an `EventStream` needs of its Response."""

    def write(self, chunk: Message) -> SendStatus: ...

    def end(self) -> Any: ...

    async def drained(self) -> bool: ...


class EventStream:
    """Events for one client, which are sent until it leaves; made by `Response.events`.

    It ends with the block of an ``async with``. All methods belong to the thread of ``app.run()``.

    Attributes:
        last_id: The id of the last event that the client has got before, or None.
    """

    __slots__ = (
        "__weakref__",
        "_closing",
        "_json",
        "_parts",
        "_res",
        "_seconds",
        "_timer",
        "_timers",
        "last_id",
    )

    def __init__(
        self, res: _Answer, parts: Parts, runtime: Any, last_id: Optional[str], seconds: float
    ) -> None:
        self._res = res
        self._parts: Parts | None = parts  # None: it has ended
        self._json = runtime.json
        self._timers = runtime.timers
        self._seconds = seconds
        self._timer: Any = None
        self._closing: Any = None  # a future of those who wait for the end
        self.last_id = last_id
        parts.at_end.append(self._ended)
        self._set_timer()

    @property
    def is_closed(self) -> bool:
        """Whether the client has left, or the stream was ended."""
        return self._parts is None

    def write(
        self, data: Message, event: Optional[str] = None, id: Optional[str] = None
    ) -> SendStatus:
        """Send an event without waiting; this is for functions that are no coroutines, too.

        Args:
            data: A str, or bytes in UTF-8; dict, list, tuple and numbers are sent as JSON.
            event: Its type; None means "message".
            id: Its id, which the client names when it comes back; None: it has none.

        Returns:
            DROPPED if the client has left, or reads too slowly. Otherwise as for `Response.write`.

        Raises:
            TypeError, ValueError: An argument is wrong. Nothing was sent.
            RuntimeError: Called from another thread.
        """
        text = _event(self._text(data), event, id)
        return SendStatus.DROPPED if self._parts is None else self._res.write(text)

    async def send(
        self, data: Message, event: Optional[str] = None, id: Optional[str] = None
    ) -> bool:
        """Send an event, and wait while the client reads slowly: ``await events.send(data)``.

        Args:
            data, event, id: As for `write`.

        Returns:
            False once the client has left.

        Raises:
            TypeError, ValueError, RuntimeError: As for `write`.
        """
        status = self.write(data, event, id)
        while status is not SendStatus.SUCCESS:
            if self._parts is None or not await self._res.drained():
                return False
            if status is SendStatus.BACKPRESSURE:
                break
            status = self.write(data, event, id)
        return True

    async def closed(self) -> None:
        """Wait until the client has left, or the stream was ended."""
        if self._parts is not None:
            import asyncio

            if self._closing is None:
                self._closing = asyncio.get_running_loop().create_future()
            await asyncio.shield(self._closing)

    def end(self) -> None:
        """End the answer. A browser comes back soon, unless its page has closed the EventSource."""
        if self._parts is not None:
            self._res.end()

    async def __aenter__(self) -> EventStream:
        return self

    async def __aexit__(self, error: object, *more: object) -> None:
        if error is None:
            self.end()

    def _text(self, data: Any) -> str:
        if isinstance(data, str):
            return data
        return values.decode("data", pack(data, self._json)[0])

    def _set_timer(self) -> None:
        self._timer = self._timers.add(int(self._seconds * 1e9), self._keep_alive, ())

    def _keep_alive(self) -> None:
        """Write something: proxies end connections that are silent, and peers vanish silently."""
        if self._parts is not None:
            if not self._parts.blocked:
                self._res.write(b":\n\n")
            self._set_timer()

    def _ended(self, aborted: bool) -> None:
        self._parts = None
        self._timer.cancel()
        resolve(self._closing, None)


def _event(data: str, event: Any, id: Any) -> str:
    fields = [("event", event), ("id", id)]
    lines = [f"{name}: {_line(name, value)}\n" for name, value in fields if value is not None]
    lines += [f"data: {line}\n" for line in _LINE_END.split(data)]
    return "".join(lines) + "\n"


def _line(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str or None, not {values.type_name(value)}")
    if any(character in value for character in "\r\n\0"):
        raise ValueError(f"{name} must not contain CR, LF or NUL: {value!r}")
    return value


def retry_line(seconds: float) -> bytes:
    """What tells a client how long to wait before it connects again."""
    return b"retry: %d\n\n" % round(seconds * 1000)
