# SPDX-License-Identifier: MIT
"""The body of a request: what has arrived of it, and who waits for it."""

from __future__ import annotations

import types
from typing import Any, Callable, Generator

from .._native import lib
from ..errors import ClientDisconnect
from .waits import resolve

__all__ = ["AS_FORM", "BY_FUNCTION", "IN_PIECES", "UNREAD", "WHOLE", "Body"]

# How it is read, for error messages, too.
WHOLE, IN_PIECES, AS_FORM, BY_FUNCTION = "body()", "stream()", "form()", "on_data()"
UNREAD = ""

_NO_LIMIT = 2**63
_AHEAD = 64 * 1024  # bytes that may wait for a stream; C reads so much at once


class Body:
    """The body of a request that someone reads.

    Attributes:
        how: How it is read, one of the five above.
        on_chunk: The function of on_data(), until the request is over.
        kept: What was made of it, by the name of the method.
        is_complete: Everything has arrived.
    """

    __slots__ = (
        "_aborted",
        "_address",
        "_held",
        "_is_awaited",
        "_limit",
        "_paused",
        "_status",
        "_stepper",
        "_waiters",
        "how",
        "is_complete",
        "kept",
        "on_chunk",
    )

    def __init__(
        self,
        address: Callable[[], int] | None,
        how: str,
        on_chunk: Callable[..., Any] | None = None,
        stepper: Any = None,
        status: int = 0,
    ) -> None:
        """
        Args:
            address: Returns the address of the ws_request, 0 once that is over; None if it was
                aborted before anyone read the body.
            how, on_chunk: See the attributes.
            stepper: The Stepper of the handler of the request; None if that is no coroutine.
            status: As for `end`.
        """
        self._address = address or int
        self.how = how
        self.on_chunk = on_chunk
        self.kept: dict[str, Any] = {}
        self.is_complete = False
        self._held: bytes | bytearray = b""
        self._limit = _NO_LIMIT  # bytes after which someone waits for no more
        self._paused = False
        self._aborted = address is None
        self._status = status or None
        self._stepper = stepper
        self._is_awaited = False  # by the handler itself
        self._waiters: list[Any] = []  # the futures of other tasks

    def add(self, data: bytes, last: bool) -> None:
        """A piece has arrived."""
        if not self._held:
            self._held = data
        elif data:  # there may be thousands of short ones
            if isinstance(self._held, bytes):
                self._held = bytearray(self._held)
            self._held += data
        self.is_complete = last
        if self.how == WHOLE and not last and len(self._held) <= self._limit:
            return
        self._wake()
        if self._is_awaited:
            self._stepper.resume()
        if self.how != WHOLE and not self.is_complete and len(self._held) >= _AHEAD:
            self.pause()

    def end(self, aborted: bool, status: int = 0) -> None:
        """The request is over.

        Args:
            aborted: It was not answered by the program.
            status: The status that C answers with; 0 if it does not.
        """
        self._address = int  # it refers to the Request, which refers to this
        self._aborted = aborted
        self._status = status or None
        self.on_chunk = None
        self._wake()
        if self._is_awaited and not self._stepper.host.is_lost():
            self._stepper.host.loop.call_soon(self._tell)

    def pause(self) -> None:
        """Read no more of it until `resume`."""
        self._paused = True
        ptr = self._address()
        if ptr and not self.is_complete:
            lib.ws_request_pause_body(ptr)

    def resume(self) -> None:
        """Read on."""
        paused, self._paused = self._paused, False
        ptr = self._address()
        if paused and ptr and not self.is_complete:
            lib.ws_request_resume_body(ptr)

    async def whole(self, limit: int = _NO_LIMIT) -> bytes:
        """All of it; if that is more than `limit`, what has arrived by then.

        Raises:
            ClientDisconnect, RuntimeError: As `Request.body` does.
        """
        self._limit = min(limit, self._limit)
        while not self.is_complete and len(self._held) <= limit:
            await self._wait()
        if not isinstance(self._held, bytes):
            self._held = bytes(self._held)
        return self._held

    async def piece(self) -> bytes:
        """What has arrived since the last call; b"" at the end. Raises as `whole`."""
        while not (self._held or self.is_complete):
            await self._wait()
        data, self._held = bytes(self._held), b""
        if self._paused:
            self.resume()
        return data

    @types.coroutine
    def _wait(self) -> Generator[Any, None, None]:
        if self._aborted:
            raise ClientDisconnect(self._status)
        if not self._address():
            raise RuntimeError("the request was answered before its body was complete")
        if self._stepper is not None and self._stepper.is_current():
            self._is_awaited = True
            try:
                yield self._stepper.parking
            finally:
                self._is_awaited = False
            return
        import asyncio  # it takes long to import

        future = asyncio.get_running_loop().create_future()
        self._waiters.append(future)
        yield from future

    def _tell(self) -> None:
        """The request is over: the handler, which waits, learns of that."""
        if self._is_awaited and self._stepper.is_idle:
            self._stepper.wake()

    def _wake(self) -> None:
        waiters, self._waiters = self._waiters, []
        for future in waiters:
            resolve(future, None)
