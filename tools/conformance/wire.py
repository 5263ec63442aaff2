# SPDX-License-Identifier: MIT
"""Bytes on the wire: frames (RFC 6455 section 5.2), the opening handshake, and a connection with a
deadline for every wait and a record of every byte.

This module does not decide what is correct; the cases do. If it cannot continue, it raises `Ended`,
`TimedOut` or `Garbled`. The trace of the connection contains everything received so far.
"""

from __future__ import annotations

import base64
import hashlib
import marshal
import random
import selectors
import socket
import ssl
import struct
import time
import zlib
from typing import NamedTuple, NoReturn, Sequence, Tuple
from urllib.parse import urlsplit

from .secure import Secure, client_context

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
RECORDED = 256  # bytes that a trace keeps of one read or write
HEAD = 1024  # the same if it begins with an HTTP head
BLOCK = 65536  # bytes masked at a time
HURRY = 3.0  # seconds for the pieces of one write, not counting the pauses between them
LONGEST = 32 << 20  # bytes of the largest frame to read: a hostile peer must not fill the memory


class Ended(Exception):
    """The peer ended the connection with FIN or RST, or its TLS failed."""

    def __init__(self, reset: bool, failure: str = "") -> None:
        text = "the connection was reset" if reset else "the connection was closed"
        super().__init__(f"TLS failed: {failure}" if failure else text)
        self.reset = reset
        self.failure = failure


class TimedOut(Exception):
    """A timeout expired; the text says which one."""


class Garbled(Exception):
    """The peer sent something that is not an HTTP response or a readable frame, or too much."""


# ---- frames -------------------------------------------------------------------------------------


class Frame(NamedTuple):
    """A received frame."""

    fin: bool
    rsv: int
    opcode: int
    payload: bytes
    masked: bool = False
    minimal: bool = True

    @property
    def close_code(self) -> int | None:
        """The code of a Close frame, or None."""
        return struct.unpack("!H", self.payload[:2])[0] if len(self.payload) >= 2 else None

    def __str__(self) -> str:
        names = {0: "Continuation", 1: "Text", 2: "Binary", 8: "Close", 9: "Ping", 10: "Pong"}
        name = names.get(self.opcode, f"opcode {self.opcode}")
        marks = ("" if self.fin else " FIN=0") + (f" RSV={self.rsv:03b}" if self.rsv else "")
        if self.opcode == CLOSE and self.close_code is not None:
            return f"{name} {self.close_code} {shown(self.payload[2:])}{marks}"
        return f"{name} {shown(self.payload)}{marks}"


def shown(data: bytes, limit: int = 40) -> str:
    """Return readable text for some bytes."""
    text = repr(bytes(data[:limit]))[1:]
    return text if len(data) <= limit else f"{text}... ({len(data)} bytes)"


def masked(payload: bytes, key: bytes, head: bytes = b"") -> bytes:
    """Return `head` and the payload XORed with the masking key (RFC 6455 section 5.3)."""
    if len(payload) <= BLOCK:
        return head + masked_block(payload, key)
    data = bytearray(head)
    for i in range(0, len(payload), BLOCK):
        data += masked_block(payload[i : i + BLOCK], key)
    return bytes(data)


def masked_block(payload: bytes, key: bytes) -> bytes:
    pad = (key * (len(payload) // 4 + 1))[: len(payload)]
    value = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
    return value.to_bytes(len(payload), "big")


def header(first: int, length: int, key: bytes | None, form: int | None = None) -> bytes:
    """Return a frame header; `form` 7, 16 or 64 forces that encoding of the length."""
    if form is None:
        form = 7 if length < 126 else 16 if length < 65536 else 64
    bit = 0x80 if key is not None else 0
    if form == 7:
        head = struct.pack("!BB", first, bit | length)
    elif form == 16:
        head = struct.pack("!BBH", first, bit | 126, length)
    else:
        head = struct.pack("!BBQ", first, bit | 127, length)
    return head + (key or b"")


def frame(
    payload: bytes = b"",
    opcode: int = TEXT,
    fin: bool = True,
    rsv: int = 0,
    key: bytes | None = b"\x37\xfa\x21\x3d",
    length: int | None = None,
    form: int | None = None,
) -> bytes:
    """Return a client's frame; a key of None means unmasked, `length` is a false length."""
    first = fin << 7 | rsv << 4 | opcode
    head = header(first, len(payload) if length is None else length, key, form)
    return head + payload if key is None else masked(payload, key, head)


def close_payload(code: int | None, reason: bytes = b"") -> bytes:
    """Return the body of a Close frame; it is empty if the code is None."""
    return b"" if code is None else struct.pack("!H", code) + reason


def is_close_payload(payload: bytes) -> bool:
    """Return whether a Close frame may have this body (RFC 6455 sections 5.5.1, 7.4 and IANA)."""
    if not payload:
        return True
    code = int.from_bytes(payload[:2], "big")
    known = 1000 <= code <= 1014 and code not in (1004, 1005, 1006)
    try:
        payload[2:].decode("utf-8")
    except UnicodeDecodeError:
        return False
    return len(payload) >= 2 and (known or 3000 <= code <= 4999)


# ---- targets and handshakes ---------------------------------------------------------------------


class Target(NamedTuple):
    """The address of a server: ws://host:port/path or wss://..."""

    host: str
    port: int
    resource: str
    tls: bool
    fields: tuple[tuple[str, str], ...] = ()
    """Additional header fields of every request, for example for a login."""
    secrets: tuple[str, ...] = ()
    """Parts of requests that must not appear in reports."""
    context: ssl.SSLContext | None = None
    """The context for TLS; None trusts the system's certificates."""
    cut: bool = False
    """Whether to send the records of TLS in parts of a few bytes (--cut-records)."""

    @classmethod
    def parse(cls, url: str) -> Target:
        """Parse a URL, or raise ValueError if its scheme is not ws, wss, http or https."""
        parts = urlsplit(url)
        if parts.scheme not in ("ws", "wss", "http", "https") or not parts.hostname:
            raise ValueError(f"{url!r} is not ws://HOST[:PORT][/PATH] or wss://...")
        tls = parts.scheme in ("wss", "https")
        try:
            port = (443 if tls else 80) if parts.port is None else parts.port
        except ValueError:  # it is not a number, or too large
            port = 0
        if port == 0:
            raise ValueError(f"{url!r}: the port must be 1 to 65535")
        resource = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        return cls(parts.hostname, port, resource, tls)

    @property
    def authority(self) -> str:
        """The value of Host (RFC 6455 section 4.1)."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return host if self.port == (443 if self.tls else 80) else f"{host}:{self.port}"

    def __str__(self) -> str:
        text = f"{'wss' if self.tls else 'ws'}://{self.authority}{self.resource}"
        return hidden(text.encode("utf-8", "replace"), self.secrets).decode("utf-8", "replace")


Fields = Sequence[Tuple[str, str]]


def hidden(data: bytes, secrets: Sequence[str]) -> bytes:
    """Replace each octet of a secret by an asterisk."""
    for secret in secrets:
        octets = secret.encode("latin-1", "replace")
        data = data.replace(octets, b"*" * len(octets))
    return data


def accept_value(key: str) -> str:
    """Return Sec-WebSocket-Accept for a key (RFC 6455 section 4.2.2)."""
    return base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()


class Response(NamedTuple):
    """An HTTP response head."""

    status: int
    reason: str
    fields: list[tuple[str, str]]
    head: bytes = b""
    """The raw head without its final empty line."""

    def all(self, name: str) -> list[str]:
        """Return the values of all fields with that name, ignoring case."""
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def get(self, name: str) -> str | None:
        """Return the values of all fields with that name as one list, or None."""
        values = self.all(name)
        return ", ".join(values) if values else None


def parse_response(head: bytes) -> Response:
    """Parse a head without its final empty line, or raise Garbled if it is not a response."""
    lines = head.decode("latin-1").split("\r\n")
    parts = lines[0].split(" ", 2)
    if len(parts) < 2 or not parts[0].startswith("HTTP/1.") or not parts[1].isdigit():
        raise Garbled(f"not an HTTP/1 status line: {shown(head)}")
    fields = []
    for line in lines[1:]:
        name, colon, value = line.partition(":")
        if not colon:
            raise Garbled(f"not a header field: {line!r}")
        fields.append((name, value.strip(" \t")))
    return Response(int(parts[1]), parts[2] if len(parts) > 2 else "", fields, head)


# ---- a connection -------------------------------------------------------------------------------


class Event(NamedTuple):
    """An entry of a trace."""

    at: float
    """Seconds since the start of the case."""
    what: str
    """"sent", "received", or "note"."""
    data: bytes
    """The bytes, truncated to RECORDED or HEAD, or the text of a note."""
    length: int
    connection: int = 0
    """The number of the connection in the case, starting at 1; 0 for a note about none."""


class Trace:
    """The traffic on all connections of one case."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.deadline = float("inf")
        """The time when the case must end, whatever the peer keeps sending."""
        self.longest = LONGEST
        """The size limit of a frame or message; twice as many bytes may be buffered."""
        self.secrets: Sequence[str] = ()
        """Texts that are recorded as asterisks."""
        self.connections = 0
        self.limit = 400
        self._events: list[Event] = []
        self._packed = b""

    @property
    def events(self) -> list[Event]:
        """The reads, writes and notes; a change of the list counts only until `pack`."""
        if self._packed:
            return [Event(*fields) for fields in marshal.loads(zlib.decompress(self._packed))]
        return self._events

    def pack(self) -> None:
        """Compress the events when the case is over.

        A run keeps the traces of all its cases, and they take ten times as much otherwise.
        """
        fields = [tuple(event) for event in self.events]
        self._packed = zlib.compress(marshal.dumps(fields), 1) if fields else b""
        self._events = []

    def add(self, what: str, data: bytes | bytearray | memoryview, connection: int = 0) -> None:
        events = self._events
        if len(events) < self.limit:
            at = time.monotonic() - self.began
            most = HEAD if data[:5] in (b"HTTP/", b"GET /") else RECORDED
            kept = bytes(data[:most])
            if self.secrets:  # replace them before truncation could split one
                longest = max(map(len, self.secrets))
                kept = hidden(bytes(data[: most + longest]), self.secrets)[:most]
            events.append(Event(at, what, kept, len(data), connection))
        elif len(events) == self.limit:
            text = b"the rest is not recorded"
            events.append(Event(events[-1].at, "note", text, len(text)))

    def last(self) -> str:
        """Describe what was received last."""
        events = self.events
        if len(events) > self.limit:
            return f"more than {self.limit} reads and writes"
        received = [event for event in events if event.what == "received"]
        if not received:
            return "nothing was received"
        data, length = received[-1].data, received[-1].length
        return f"received last: {shown(data)}" + (f" of {length}" if length > len(data) else "")

    def note(self, text: str, connection: int = 0) -> None:
        self.add("note", text.encode(), connection)


def secured(connected: socket.socket, target: Target, timeout: float) -> Secure:
    """Perform the TLS handshake with a server, or close the socket and raise OSError."""
    try:
        secure = Secure(connected, target.context or client_context(), target.host)
        secure.cut = target.cut
        secure.handshake(timeout)
    except BaseException:
        connected.close()
        raise
    return secure


class Connection:
    """A TCP (or TLS) connection to the peer under test."""

    def __init__(self, target: Target, timeout: float, trace: Trace) -> None:
        """Connect within `timeout` seconds, or raise OSError."""
        self.timeout = timeout
        self.trace = trace
        self.target = target
        self.buffer = bytearray()
        self.begin()
        self.socket: socket.socket | Secure
        connected = socket.create_connection((target.host, target.port), timeout)
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket = secured(connected, target, timeout) if target.tls else connected

    def begin(self) -> None:
        """Initialize the state of a new connection."""
        self.trace.connections += 1
        self.number = self.trace.connections
        self.active = time.monotonic()
        """The time of the last transfer in either direction."""
        self.over: Ended | None = None
        """How the peer ended the connection, if it did. This exception is not raised: its traceback
        would keep alive everything that the case used."""
        self.was_reset = False
        """A write found a reset, which later reads would report as a normal end."""

    def close(self) -> None:
        self.socket.close()

    @property
    def is_open(self) -> bool:
        """Whether this side has not closed the connection."""
        return self.socket.fileno() >= 0

    def reset(self) -> None:
        """Drop the connection with RST."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def finish(self) -> None:
        """Send FIN, with TLS after close_notify.

        If the connection was reset, this does nothing, and the next read finds out.
        """
        try:
            self.socket.shutdown(socket.SHUT_WR)
        except OSError:
            self.trace.note("the peer accepts no more data", self.number)

    @property
    def tls(self) -> str:
        """The version and cipher suite of TLS, or an empty string without TLS."""
        if isinstance(self.socket, Secure):
            return f"{self.socket.version}, {self.socket.cipher}"
        return ""

    @property
    def ends_both_directions(self) -> bool:
        """Whether `finish` requires the peer to discard what it would still send.

        That is so with TLS 1.2 (RFC 5246 section 7.2.1), but not with TLS 1.3 (RFC 8446 6.1).
        """
        return isinstance(self.socket, Secure) and self.socket.version != "TLSv1.3"

    @property
    def truncated(self) -> bool:
        """Whether the peer has ended TCP without ending TLS (RFC 8446 section 6.1)."""
        return isinstance(self.socket, Secure) and self.socket.over and not self.socket.notified

    # ---- sending ----

    def send(self, data: bytes, pieces: int | None = None, pause: float = 0.0) -> None:
        """Send data, optionally in pieces of the given size, or raise Ended, TimedOut or Garbled.

        A peer may stop reading until its own data is read. This method therefore also receives, so
        that neither side waits for the other. If the pieces take more than HURRY seconds, the
        machine is too slow for them, and the rest is sent in one write.
        """
        self.trace.add("sent", data, self.number)
        rest = memoryview(data)
        step = pieces or max(len(data), 1)
        began = time.monotonic()
        while rest:
            self.active = time.monotonic()
            if self.active - began > HURRY and len(rest) > step:
                self.trace.note(f"the machine is slow: the last {len(rest)} bytes in one write")
                step = len(rest)
            part, rest = rest[:step], rest[step:]
            while part:
                sent = self.give(part)
                part = part[sent:]
                if not sent:
                    self.await_room(self.timeout)
            self.flush()
            if pause:
                time.sleep(pause)
                began += pause

    def flush(self) -> None:
        """Wait until what TLS has encrypted is sent, or raise Ended, TimedOut or Garbled."""
        while isinstance(self.socket, Secure) and self.socket.unsent:
            self.await_room(self.timeout)
            self.give(memoryview(b""))

    def pour(
        self, data: bytes | memoryview, pieces: int = 65536, timeout: float | None = None
    ) -> None:
        """Send much data, and receive at the same time, or raise Ended, TimedOut or Garbled.

        Returns early if the next received frame is a Close. The timeout applies to a period in
        which nothing is sent or received.
        """
        self.trace.add("sent", data, self.number)
        view, at = memoryview(data), 0
        self.active = time.monotonic()
        while at < len(data) and self.buffer[:1] != b"\x88":
            self.await_room(self.timeout if timeout is None else timeout)
            at += self.give(view[at : at + pieces])
        if at >= len(data):
            self.flush()

    def await_room(self, timeout: float) -> None:
        """Wait until the peer accepts more or sends data, or raise Ended, TimedOut or Garbled.

        A peer may send a lot before it reads again.
        """
        with selectors.DefaultSelector() as selector:
            selector.register(self.socket, selectors.EVENT_READ | selectors.EVENT_WRITE)
            events = selector.select(self.left(self.active + timeout))
        if not events:
            raise TimedOut(f"the peer read nothing for {self.idle():.1f} s")
        if events[0][1] & selectors.EVENT_READ:
            self.take()

    def give(self, data: memoryview) -> int:
        """Send what can be sent without waiting, or raise Ended."""
        self.socket.settimeout(0)
        try:
            sent = self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError:
            self.was_reset = True
            raise Ended(reset=True) from None
        self.active = time.monotonic()
        return sent

    # ---- receiving ----

    def take(self) -> None:
        """Receive the available bytes, with TLS perhaps none, or raise Ended or Garbled."""
        try:
            self.fill(self.deadline(0.01))
        except TimedOut:
            pass

    def idle(self) -> float:
        """Return the seconds since anything was sent or received."""
        return time.monotonic() - self.active

    def late(self) -> TimedOut:
        """Return the error for an expired wait."""
        idle = self.idle()
        if idle < 0.05:
            return TimedOut("received only incomplete data in time")
        return TimedOut(f"received nothing for {idle:.1f} s")

    def left(self, deadline: float) -> float:
        """Return the seconds until the deadline or the end of the case, or raise TimedOut."""
        now = time.monotonic()
        if now >= self.trace.deadline:
            limit = self.trace.deadline - self.trace.began
            raise TimedOut(f"the time limit of {limit:g} s for the case expired")
        if now >= deadline:
            raise self.late()
        return min(deadline, self.trace.deadline) - now

    def fill(self, deadline: float, most: int = 65536) -> None:
        """Receive more bytes, or raise Ended, TimedOut or Garbled."""
        if self.over:
            raise Ended(self.over.reset, self.over.failure)
        if len(self.buffer) > 2 * self.trace.longest:
            raise Garbled(f"the peer sent more than {2 * self.trace.longest} unexpected bytes")
        self.socket.settimeout(self.left(deadline))
        try:
            data = self.socket.recv(most)
        except socket.timeout:
            raise self.late() from None
        except ssl.SSLError as error:
            self.end("TLS failed", reset=True, failure=error.reason or str(error))
        except OSError:
            self.end("reset", reset=True)
        if not data:
            self.end("reset" if self.was_reset else "end of file", self.was_reset)
        self.active = time.monotonic()
        self.trace.add("received", data, self.number)
        self.buffer += data

    def end(self, what: str, reset: bool, failure: str = "") -> NoReturn:
        """Remember how the connection ended, and raise Ended."""
        self.trace.note(f"{what}: {failure}" if failure else what, self.number)
        self.over = Ended(reset, failure)
        raise Ended(reset, failure) from None

    def deadline(self, timeout: float | None = None) -> float:
        return time.monotonic() + (self.timeout if timeout is None else timeout)

    def read(self, n: int, timeout: float | None = None) -> bytes:
        """Read exactly n bytes, or raise Ended or TimedOut."""
        deadline = self.deadline(timeout)
        while len(self.buffer) < n:
            self.fill(deadline)
        if len(self.buffer) == n:  # saves a copy of a large message
            data = bytes(self.buffer)
            self.buffer = bytearray()
            return data
        data = bytes(self.buffer[:n])
        del self.buffer[:n]
        return data

    def read_response(self, timeout: float | None = None) -> Response:
        """Read the head of a final response or a 101, or raise Ended, TimedOut or Garbled.

        Skips other 1xx responses, which may precede it (RFC 9110 section 15.2).
        """
        deadline = self.deadline(timeout)
        while True:
            response = self.read_head(deadline)
            if response.status == 101 or not 100 <= response.status < 200:
                return response
            self.trace.note(f"skipped the interim response {response.status}", self.number)

    def read_head(self, deadline: float) -> Response:
        """Read the next response head, whatever its status, or raise Ended, TimedOut or Garbled."""
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > 65536:
                raise Garbled("a response head of more than 64 KiB")
            self.fill(deadline)
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        return parse_response(head)

    def read_frame(self, timeout: float | None = None) -> Frame:
        """Read and unmask a frame, or raise Ended, Garbled, or TimedOut, which allows a retry."""
        deadline = self.deadline(timeout)
        taken = b""

        def take(n: int) -> bytes:
            nonlocal taken
            try:
                data = self.read(n, max(deadline - time.monotonic(), 0.0))
            except TimedOut:
                self.buffer[:0] = taken
                raise
            taken += data[:8]  # enough for a header, so that the last frame is read only once
            return data

        first, second = take(2)
        length, minimal = second & 127, True
        if length == 126:
            (length,) = struct.unpack("!H", take(2))
            minimal = length > 125
        elif length == 127:
            (length,) = struct.unpack("!Q", take(8))
            minimal = length > 65535
        if length > self.trace.longest:
            raise Garbled(f"received the header of a frame of {length} bytes")
        key = take(4) if second & 128 else None
        payload = take(length)
        if key is not None:
            payload = masked(payload, key)
        return Frame(
            bool(first & 128), first >> 4 & 7, first & 15, payload, key is not None, minimal
        )

    def at_end(self, timeout: float | None = None) -> bool:
        """Return whether the peer ends TCP without sending more bytes."""
        try:
            if not self.buffer:
                self.fill(self.deadline(timeout))
        except Ended:
            return True
        except TimedOut:
            return False
        return False


def random_key(generator: random.Random) -> str:
    """Return a random Sec-WebSocket-Key."""
    return base64.b64encode(bytes(generator.randrange(256) for _ in range(16))).decode()


def upgrade_fields(target: Target, key: str) -> list[tuple[str, str]]:
    """Return the fields of an opening handshake (RFC 6455 section 4.1) and those of the target."""
    return with_fields(
        target,
        [
            ("Host", target.authority),
            ("Upgrade", "websocket"),
            ("Connection", "Upgrade"),
            ("Sec-WebSocket-Key", key),
            ("Sec-WebSocket-Version", "13"),
        ],
    )


def with_fields(target: Target, fields: Fields) -> list[tuple[str, str]]:
    """Return the fields with those of the target, which replace others of the same name."""
    given = {name.lower() for name, _ in target.fields}
    return [field for field in fields if field[0].lower() not in given] + list(target.fields)


def request(resource: str, fields: Fields, method: str = "GET", version: str = "HTTP/1.1") -> bytes:
    """Return a request head."""
    lines = [f"{method} {resource} {version}"] + [f"{name}: {value}" for name, value in fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")
