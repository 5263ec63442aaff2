# SPDX-License-Identifier: MIT
"""What every part of broken_server.py stands on: the connection as a stream of bytes, the errors,
and what a part knows of its server.
"""

import fcntl
import select
import socket
import struct
import sys
import termios
import threading
import time
from typing import Callable, FrozenSet, Iterable, Optional, Type, TypeVar

from broken_switches import LIMITS, SWITCHES

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
LIMIT = 16 << 20  # bytes of a message, before and after decompression
LOW_LIMIT = 32 << 10  # with a switch
TCP_CLOSE = 7  # of a socket that was reset: linux/tcp_states.h
LINGER_SECONDS = 1.0  # for the peer to take what was sent last
T = TypeVar("T")


class Gone(Exception):
    """The peer has ended the connection, or does not read any more."""


class Refused(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, *fields: str) -> None:
        super().__init__(status)
        self.status = status
        self.fields = fields


class Failure(Exception):
    """_Fail the WebSocket Connection_ (RFC 6455 section 7.1.7) with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Stream:
    """A socket with a buffer."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.buffer = bytearray()
        self.deadline = float("inf")
        self.is_open = False  # the opening handshake is over
        self.requests = 0
        self.pings = 0  # since there was nothing left in the buffer
        self.reads = 0  # for the frame that is read now
        self.was_reset = False
        self.has_taken = False  # others with it
        self.loses = 0.0  # after so many seconds without room for what is to be sent
        self.on_data: Callable[[], object] = lambda: None

    def fill(self) -> None:
        """Wait for more. Gone."""
        self.pings = 0
        self.reads += 1
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Gone
        try:
            self.socket.settimeout(None if left == float("inf") else left)
            data = self.socket.recv(65536)
        except OSError as error:
            self.was_reset = isinstance(error, ConnectionError)
            raise Gone from None
        if not data:
            raise Gone
        self.on_data()
        self.buffer += data

    def peek(self) -> int:
        while not self.buffer:
            self.fill()
        return self.buffer[0]

    def some(self, most: int) -> bytes:
        """What is there, at least one byte."""
        self.peek()
        data = bytes(self.buffer[:most])
        del self.buffer[:most]
        return data

    def read(self, n: int) -> bytes:
        while len(self.buffer) < n:
            self.fill()
        return self.some(n) if n else b""

    def skip(self, n: int) -> None:
        while n:
            n -= len(self.some(min(n, 65536)))

    def line(self, most: int) -> Optional[bytes]:
        """With its LF; None when it is longer."""
        at = 0
        while True:
            end = self.buffer.find(b"\n", at)
            if end >= 0 and end < most:
                return self.some(end + 1)
            if len(self.buffer) >= most:
                return None
            at = len(self.buffer)
            self.fill()

    def write(self, data: bytes) -> None:
        try:
            if self.loses and not select.select([], [self.socket], [], self.loses)[1]:
                data = data[:-1]
            self.socket.settimeout(30)
            self.socket.sendall(data)
        except OSError as error:
            self.was_reset = isinstance(error, ConnectionError)
            raise Gone from None

    def end(self) -> None:
        """End TCP so that the peer can read what was sent last: no RST ahead of it."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
            self.deadline = time.monotonic() + LINGER_SECONDS
            while True:
                self.buffer.clear()
                self.fill()
        except Gone:
            pass
        except OSError:
            self.was_reset = True
        self.socket.close()

    def reset(self) -> None:
        """End TCP by RST, but not before the peer's side has got all that was sent."""
        end = time.monotonic() + 10 * LINGER_SECONDS
        while time.monotonic() < end and self.unsent():
            time.sleep(0.001)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def is_dead(self) -> bool:
        """Whether the kernel has given up TCP, though the thread of it may not know yet."""
        try:
            return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE
        except OSError:
            return False

    def unsent(self) -> int:
        """Bytes that are not yet acknowledged."""
        buffer = bytearray(4)
        fcntl.ioctl(self.socket, termios.TIOCOUTQ, buffer)
        return int.from_bytes(buffer, sys.byteorder)


def xor(data: bytes, key: bytes, offset: int = 0) -> bytes:
    """Masked or unmasked (RFC 6455 section 5.3), from that byte of the payload on."""
    key = key[offset % 4 :] + key[: offset % 4]
    pad = (key * (len(data) // 4 + 1))[: len(data)]
    value = int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")
    return value.to_bytes(len(data), "big")


class Switchboard:
    """What the parts of a server know of it: its switches, and what all its connections share."""

    def __init__(self, switches: Iterable[str] = ()) -> None:
        """Raises ValueError if there is no such switch."""
        self.switches: FrozenSet[str] = frozenset(switches)
        unknown = self.switches - set(SWITCHES) - set(LIMITS)
        if unknown:
            raise ValueError(f"no switch: {', '.join(sorted(unknown))}")
        self.port = 0  # of 127.0.0.1
        self.window = b""  # with a switch, of all connections
        self.ended = threading.Event()

    def part(self, kind: Type[T]) -> Type[T]:
        """The class that does the work of this one: of an unusual server another one."""
        return kind

    def broken(self, switch: str) -> bool:
        """Whether a switch is on."""
        assert switch in SWITCHES or switch in LIMITS, switch
        return switch in self.switches

    def crash(self) -> None:
        """End so that what is left is a port on which nothing listens."""
        raise NotImplementedError

    def drop_others(self, stream: Optional[Stream]) -> None:
        """End all connections but this one."""
        raise NotImplementedError


class Part:
    """What knows which switches are on."""

    def __init__(self, server: Switchboard) -> None:
        self.server = server
        self.broken = server.broken
