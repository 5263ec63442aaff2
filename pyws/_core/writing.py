# SPDX-License-Identifier: MIT
"""The methods of `Response` that send an answer in parts."""

from __future__ import annotations

from typing import (
    Any,
    AsyncIterable,
    Callable,
    Iterable,
    Optional,
    Tuple,
    TypeVar,
    Union,
)

from ..enums import SendStatus
from . import values
from .events import EventStream, retry_line
from .facts import fact, headers_of
from .hints import Message
from .messages import pack
from .parts import Parts
from .requests import DROPPED, SUCCESS, Exchange, field_names

__all__ = ["PartsOfResponse"]

AnyResponse = TypeVar("AnyResponse", bound="PartsOfResponse")

_STATUS = tuple(SendStatus(value) for value in range(3))
_PIECE = 64 * 1024  # bytes that `try_end` gives to the kernel at once
_TURN = 256 * 1024  # bytes after which `stream` lets others run
_MAX_LENGTH = 2**63 - 1


class PartsOfResponse(Exchange):
    """The methods of `Response` for that."""

    __slots__ = ()

    def content_length(self: AnyResponse, length: int) -> AnyResponse:
        """Say how long the body of an answer in parts will be; otherwise it is sent in chunks.

        Args:
            length: Bytes. The parts must have as many in all, except in the answer to HEAD.

        Returns:
            The response itself.

        Raises:
            TypeError, ValueError: `length` is wrong.
            RuntimeError: The first part was sent, or called from another thread.
        """
        self._runtime.check_thread()
        number = values.integer("length", length, 0, _MAX_LENGTH)
        parts = self._make_parts()
        if parts.begun:
            raise RuntimeError("content_length() belongs before the first write()")
        parts.length = number
        return self

    def write(self, chunk: Message) -> SendStatus:
        """Send a part of the answer; the first call sends the head. `end` sends the last part.

        Args:
            chunk: str or bytes-like; dict, list, tuple and numbers are sent as JSON.

        Returns:
            SUCCESS. BACKPRESSURE: the chunk will be sent, but the client reads slowly: wait for
            `drained`, or for `on_writable`. DROPPED: nothing was sent, because the client has left,
            or more than max_response_backpressure (1 MiB) would wait for it.

        Raises:
            RuntimeError: The request is answered already, or called from another thread.
            TypeError, ValueError: The chunk cannot be sent, or exceeds `content_length`. Nothing
                was sent.
        """
        self._runtime.check_thread()
        data, _ = pack(chunk, self._runtime.json)
        if self._is_answered():
            raise RuntimeError("this request is answered already")
        return _STATUS[DROPPED if self._aborted else self._write(data)]

    async def drained(self) -> bool:
        """Wait until the client has taken what was written: ``if not await res.drained(): ...``.

        It is for coroutines in the loop that the app runs in, and returns at once unless `write`
        has returned something other than SUCCESS.

        Returns:
            False once the client has left.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        parts = self._parts
        if parts is not None and parts.blocked and self._ptr:
            taken: bool = await parts.wait()
            return taken
        return not self._aborted

    def on_writable(self: AnyResponse, fn: Callable[[AnyResponse, int], object]) -> AnyResponse:
        """Run a function whenever the client has taken what was written.

        That happens after `write` has returned something other than SUCCESS, or `try_end` False.
        The answer may then be continued there: for that, no `on_aborted` is needed.

        Args:
            fn: ``fn(res, offset)``, with the number of bytes of the body that were written. It is a
                plain function, and works without asyncio.

        Returns:
            The response itself.

        Raises:
            TypeError: `fn` is not a plain function.
            RuntimeError: Called from another thread.
        """
        values.function("fn", fn)
        self._runtime.check_thread()
        parts = self._make_parts()
        parts.on_writable, parts.is_awaited = fn, True
        return self

    def get_write_offset(self) -> int:
        """How many bytes of the body were written.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        return 0 if self._parts is None else self._parts.offset

    def try_end(self, data: Message, total: Optional[int] = None) -> Tuple[bool, bool]:
        """Send as much of `data` as the client takes now, and end the answer with the last byte.

        ::

            def on_writable(res, offset):
                res.try_end(data[offset:], len(data))

            ok, done = res.try_end(data, len(data))
            if not ok:
                res.on_writable(on_writable)

        Args:
            data: As for `write`; when called again, what was not written yet.
            total: The length of the whole body; None: that of `data`.

        Returns:
            Whether everything was taken, and whether the answer is complete. (False, True) if the
            client has left.

        Raises:
            RuntimeError: The request is answered already, or called from another thread.
            TypeError, ValueError: An argument is wrong.
        """
        self._runtime.check_thread()
        packed, _ = pack(data, self._runtime.json)
        if self._is_answered():
            raise RuntimeError("this request is answered already")
        parts = self._make_parts()
        if not parts.begun:
            length = len(packed) if total is None else total
            parts.length = values.integer("total", length, 0, _MAX_LENGTH)
        status = SUCCESS
        for begin in range(0, len(packed) or 1, _PIECE):
            status = self._write(packed[begin : begin + _PIECE])
            if status != SUCCESS:
                break
        if self._aborted or not self._ptr:
            return False, True
        if parts.offset == parts.length:
            self._finish(b"")
            return True, True
        return status == SUCCESS, False

    async def stream(self, source: Union[AsyncIterable[Message], Iterable[Message]]) -> bool:
        """Send all chunks of `source`, as fast as the client takes them, and end the answer.

        If the client leaves, what `source` waits for is cancelled, and it is closed.

        Args:
            source: What ``async for`` or ``for`` iterates over; each chunk as for `write`.

        Returns:
            False if the client has left.

        Raises:
            RuntimeError, TypeError, ValueError: As for `write`.
            BaseException: What `source` raises. The answer is then not complete, and if it is the
                handler that ends with this, the connection is dropped.
        """
        self._runtime.check_thread()
        if isinstance(source, (str, bytes, bytearray, memoryview, dict)) or not (
            hasattr(source, "__aiter__") or hasattr(source, "__iter__")
        ):
            what = values.type_name(source)
            raise TypeError(f"source must be an iterable of chunks, not {what}")
        if self._is_answered():
            raise RuntimeError("this request is answered already")
        import asyncio  # it takes long to import

        task = asyncio.get_running_loop().create_task(self._send_all(source))
        self._make_parts().at_end.append(lambda aborted: aborted and task.cancel())
        if self._aborted:
            task.cancel()
        try:
            await asyncio.wait([task])
        finally:  # this one may be cancelled itself
            if not task.done():
                task.cancel()
                await asyncio.wait([task])
        if task.cancelled() and self._aborted:
            return False
        return task.result()

    def events(self, retry: Optional[float] = None, *, keep_alive: float = 15) -> EventStream:
        """Begin an answer of server-sent events, which browsers get with an EventSource.

        ::

            async with res.events() as events:
                while await events.send(await next_price()):
                    pass

        The head says that the type is text/event-stream, and that caches must not keep it. The
        answer to HEAD ends with its head.

        Args:
            retry: Seconds after which the client should connect again; None leaves that to it.
            keep_alive: Seconds between comments that keep the connection alive, from 0.001 on. They
                also show that a client has left, so they cannot be turned off.

        Returns:
            The stream of events.

        Raises:
            TypeError, ValueError: An argument is wrong.
            RuntimeError: The request is answered already, or called from another thread.
        """
        self._runtime.check_thread()
        seconds = values.duration("keep_alive", keep_alive, 0.001)
        first = b"" if retry is None else retry_line(values.duration("retry", retry))
        parts = self._make_parts()
        if self._is_answered() or parts.begun:
            raise RuntimeError("this request is answered already")
        written = field_names(self)
        for name, value in _OF_EVENTS:
            if name.decode().lower() not in written:
                self._add_header(name, value)
        parts.is_awaited = True
        last_id = headers_of(self._request).get("last-event-id") if self._ptr else None
        is_head = self._ptr and fact(self._request, "method") == "HEAD"
        stream = EventStream(self, parts, self._runtime, last_id, seconds)
        self._begin()
        if self._aborted:
            parts.end(True)
        elif is_head:
            self._finish(b"")
        elif first:
            self._write(first)
        return stream

    def _make_parts(self) -> Parts:
        if self._parts is None:
            self._parts = Parts()
        return self._parts

    async def _send_all(self, source: Any) -> bool:
        """Send all chunks, and end. False if the client has left."""
        try:
            if hasattr(source, "__aiter__"):
                async for chunk in source:
                    if not await self._send_one(chunk):
                        return False
            else:
                turn = 0
                for chunk in source:
                    if not await self._send_one(chunk):
                        return False
                    if self.get_write_offset() - turn >= _TURN:
                        turn = self.get_write_offset()
                        await _pause()
        finally:
            if hasattr(source, "aclose"):
                await source.aclose()
            elif hasattr(source, "close"):
                source.close()
        if not (self._aborted or self._is_answered()):
            self._answer(b"", None)
        return not self._aborted

    async def _send_one(self, chunk: Any) -> bool:
        status = self.write(chunk)
        while status is not SendStatus.SUCCESS:
            if self._aborted or not await self.drained():
                return False
            if status is SendStatus.BACKPRESSURE:
                break
            status = self.write(chunk)
        return True

    def end(self) -> Any:
        """`Response` has it."""
        raise NotImplementedError


_OF_EVENTS = (
    (b"Content-Type", b"text/event-stream"),
    (b"Cache-Control", b"no-cache"),
    (b"X-Accel-Buffering", b"no"),  # or nginx would collect events
)


async def _pause() -> None:
    """Let others run."""
    import asyncio

    await asyncio.sleep(0)
