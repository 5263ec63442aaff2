# SPDX-License-Identifier: MIT
"""A raw WebSocket client for tests: every byte is chosen by the test, every wait is bounded.

On a port of `secure_ports` it speaks TLS, which PYWS_TEST_TLS=1 leads to.
"""

import os
import socket
import struct
import time
from typing import Callable, Dict, List, NamedTuple, Optional, Set, Tuple

from common import TIMEOUT

secure_ports: Set[int] = set()  # where servers of this process, or of its programs, speak TLS
KEY = "dGhlIHNhbXBsZSBub25jZQ=="  # RFC 6455 section 1.3


class Frame(NamedTuple):
    fin: bool
    opcode: int
    payload: bytes

    @property
    def close_code(self) -> int:
        return struct.unpack("!H", self.payload[:2])[0] if self.payload else 1005


def frame(payload: bytes = b"", opcode: int = 1, fin: bool = True) -> bytes:
    """A masked client frame (RFC 6455 section 5.2)."""
    mask = os.urandom(4)
    length = len(payload)
    if length < 126:
        head = struct.pack("!BB", fin << 7 | opcode, 0x80 | length)
    elif length < 65536:
        head = struct.pack("!BBH", fin << 7 | opcode, 0x80 | 126, length)
    else:
        head = struct.pack("!BBQ", fin << 7 | opcode, 0x80 | 127, length)
    pad = mask * (length // 4 + 1)
    masked = int.from_bytes(payload, "big") ^ int.from_bytes(pad[:length], "big")
    return head + mask + masked.to_bytes(length, "big")


def close_frame(code: int, reason: bytes = b"") -> bytes:
    return frame(struct.pack("!H", code) + reason, 8)


def handshake(path: str = "/", headers: Optional[List[Tuple[str, str]]] = None) -> bytes:
    lines = [
        f"GET {path} HTTP/1.1",
        "Host: localhost",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Key: {KEY}",
        "Sec-WebSocket-Version: 13",
        *(f"{name}: {value}" for name, value in headers or []),
    ]
    return "\r\n".join([*lines, "", ""]).encode()


def secured(connection: socket.socket) -> socket.socket:
    """The connection with TLS, after its handshake."""
    from authority import authority

    try:
        return authority().client_context().wrap_socket(connection, server_hostname="127.0.0.1")
    except BaseException:
        connection.close()
        raise


class Response(NamedTuple):
    status: int
    headers: Dict[str, str]
    body: bytes


class Peer:
    """A TCP connection to 127.0.0.1."""

    def __init__(self, port: int) -> None:
        connection = socket.create_connection(("127.0.0.1", port), TIMEOUT)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._begin(secured(connection) if port in secure_ports else connection)

    @classmethod
    def over(cls, connection: socket.socket) -> "Peer":
        """A peer that uses a connection to somewhere else."""
        peer = cls.__new__(cls)
        peer._begin(connection)
        return peer

    def _begin(self, connection: socket.socket) -> None:
        self.socket = connection
        if connection.family != socket.AF_UNIX:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.buffer = b""

    def __enter__(self) -> "Peer":
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def finish(self) -> None:
        """Send FIN, and go on reading: SSLSocket.shutdown would read without TLS from then on."""
        socket.socket.shutdown(self.socket, socket.SHUT_WR)

    def reset(self) -> None:
        """End the connection with RST instead of FIN."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def fill(self) -> bool:
        data = self.socket.recv(1 << 20)
        self.buffer += data
        return bool(data)

    def read(self, size: int) -> bytes:
        while len(self.buffer) < size:
            if not self.fill():
                raise EOFError(f"the server closed after {self.buffer!r}")
        data, self.buffer = self.buffer[:size], self.buffer[size:]
        return data

    def response(self) -> Response:
        while b"\r\n\r\n" not in self.buffer:
            if not self.fill():
                raise EOFError(f"the server closed after {self.buffer!r}")
        head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        first, *lines = head.decode("latin-1").split("\r\n")
        headers: Dict[str, str] = {}
        for line in lines:
            name, value = line.split(": ", 1)
            name = name.lower()
            headers[name] = f"{headers[name]}, {value}" if name in headers else value
        status = int(first.split()[1])
        length = int(headers.get("content-length", "0"))
        return Response(status, headers, self.read(length))

    def frame(self) -> Frame:
        first, second = self.read(2)
        length = second & 127
        if length == 126:
            (length,) = struct.unpack("!H", self.read(2))
        elif length == 127:
            (length,) = struct.unpack("!Q", self.read(8))
        return Frame(bool(first & 128), first & 15, self.read(length))

    def at_end(self) -> bool:
        """The server has closed; False when more bytes come."""
        try:
            return not self.buffer and not self.fill()
        except ConnectionResetError:
            return True


def upgraded(
    port: int, path: str = "/", headers: Optional[List[Tuple[str, str]]] = None, more: bytes = b""
) -> Peer:
    """A peer behind its opening handshake; `more` travels in the same segment."""
    peer = Peer(port)
    peer.send(handshake(path, headers) + more)
    response = peer.response()
    assert response.status == 101, response
    return peer


def request(port: int, text: str) -> Response:
    """One plain request; `text` is its head without the final empty line."""
    with Peer(port) as peer:
        peer.send(text.replace("\n", "\r\n").encode() + b"\r\nHost: localhost\r\n\r\n")
        return peer.response()


def eventually(condition: Callable[[], object]) -> None:
    """Wait until `condition()` holds; fails after a bounded time."""
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        time.sleep(0.005)
