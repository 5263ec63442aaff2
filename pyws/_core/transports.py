# SPDX-License-Identifier: MIT
"""What the connections to Redis and NATS have in common."""

from __future__ import annotations

import abc
import asyncio
import socket
import struct
from typing import Any, Callable, Sequence

__all__ = ["Connection", "Direct", "drop"]

BUFFER_SIZE = 64 * 1024
LOOK_INTERVAL = 2.5  # seconds; a PING is sent if nothing has arrived in such a time
MOST_SILENT = 4  # such times in a row after which the connection is lost


def drop(transport: Any) -> None:
    """End a connection at once, by a reset.

    The kernel discards what it has not sent. Otherwise it might send that much later, when the
    network works again, among what comes on the next connection.
    """
    own = transport.get_extra_info("socket")
    if own is not None and own.fileno() >= 0:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


class Direct(abc.ABC):
    """A broker that can publish without a task that waits for it.

    Waking up a task and a future would cost as much as the rest of a message.
    """

    @abc.abstractmethod
    def begin_publish(
        self, messages: Sequence[tuple[bytes, bytes]], done: Callable[[], object]
    ) -> None:
        """Publish as `Broker.publish` does, while no method of the broker is under way.

        Args:
            messages: As for `Broker.publish`.
            done: Called once the broker has accepted them, unless the connection is lost before.
        """


class Connection(asyncio.BufferedProtocol):
    """A connection that ends once, with a reason, and notices that its peer is silent.

    It has a buffer that everything is read into: for a Protocol, asyncio makes an object of 256 KiB
    for each read, and the C library maps memory for each of them.
    """

    def __init__(self, transport: Any) -> None:
        """
        Args:
            transport: What it writes to; None if it is not connected yet.
        """
        self._loop = asyncio.get_running_loop()
        self._transport = transport
        self._buffer = memoryview(bytearray(BUFFER_SIZE))
        self._error: BaseException | None = None  # why it has ended
        self._is_paused = False
        self._silent = 0  # looks in a row that found nothing new
        self._waiter: asyncio.Future[None] | None = None  # of the call that waits for the peer
        self._watch: asyncio.TimerHandle | None = None

    # ---- for the classes of brokers -------------------------------------------------------------

    def data_received(self, data: bytes | memoryview) -> None:
        """Something has arrived; the memory is used again."""
        raise NotImplementedError

    def _ping(self) -> None:
        """Send something that the peer answers."""
        raise NotImplementedError

    def _check(self) -> None:
        """Fail, in each look, if the peer does not do what it should."""

    def _on_end(self, error: BaseException) -> None:
        """The connection has ended."""

    def _report(self, error: BaseException) -> None:
        """The connection was lost."""
        raise NotImplementedError

    # ---- what they do alike ---------------------------------------------------------------------

    def fileno(self) -> int:
        """The descriptor of the socket; -1 once it is closed."""
        one = self._transport.get_extra_info("socket") if self._transport is not None else None
        return -1 if one is None else int(one.fileno())

    def close(self) -> None:
        """Drop the connection."""
        self._end(ConnectionError("it was closed"))

    def get_buffer(self, sizehint: int) -> memoryview:
        """The transport calls: where may it write what it reads?"""
        return self._buffer

    def buffer_updated(self, nbytes: int) -> None:
        """The transport calls: so much has arrived."""
        self._silent = 0
        self.data_received(self._buffer[:nbytes])

    def connection_lost(self, error: Exception | None) -> None:
        """The transport calls: the connection has ended."""
        self._fail(error or ConnectionError("it has closed the connection"))

    def _new_waiter(self) -> asyncio.Future[None]:
        """What one call waits for: `_finish`, or the end of the connection, which it raises."""
        waiter = self._waiter = self._loop.create_future()
        if self._error is not None:
            waiter.set_exception(self._error)
        return waiter

    def _finish(self) -> None:
        """The peer has done all that the call has asked for."""
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def _watch_silence(self) -> None:
        self._watch = self._loop.call_later(LOOK_INTERVAL, self._look)

    def _look(self) -> None:
        """Find out whether the peer is alive.

        A program that is held up for a long time does not look meanwhile, so that it does not take
        its own silence for that of the peer.
        """
        self._silent += 1
        if self._silent > MOST_SILENT:
            self._fail(TimeoutError("it does not answer a PING"))
            return
        if self._silent == 2:  # nothing has come since the last look
            self._ping()
        self._watch_silence()
        self._check()

    def _pause(self, pause: bool) -> None:
        """Read nothing more from the socket until what was read has been handled."""
        if pause is not self._is_paused:
            self._is_paused = pause
            (self._transport.pause_reading if pause else self._transport.resume_reading)()

    def _fail(self, error: BaseException) -> None:
        """The connection is of no use any more."""
        if self._error is None:
            self._end(error)
            self._report(error)

    def _end(self, error: BaseException) -> None:
        if self._error is not None:
            return
        self._error = error
        if self._watch is not None:
            self._watch.cancel()
        if self._transport is not None:
            drop(self._transport)
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_exception(error)
            self._waiter.exception()  # the one who waits may be cancelled
        self._on_end(error)
