# SPDX-License-Identifier: MIT
"""permessage-deflate (RFC 7692) for a client that tests a server: offers and the check of their
answers, compression with the agreed parameters, decompression that detects messages of the server
that exceed them, and DEFLATE data (RFC 1951) built by hand.
"""

from __future__ import annotations

import re
import zlib
from typing import Dict, NamedTuple, Optional, Tuple, Union

from .case import Test
from .session import TAKEN, Session, is_refusable
from .verdicts import Closed, Cut, Failed, Limited, Refused, Skipped, Unimplemented
from .wire import BINARY, TEXT, Frame, shown

NAME = "permessage-deflate"
TAIL = b"\x00\x00\xff\xff"  # the sender removes it and the receiver appends it (RFC 7692 7.2.1)
RSV1 = 4
HUFFMAN_ONLY, RLE, FIXED = 2, 3, 4  # strategies of zlib.h, which not every Python defines

SERVER_NO_CONTEXT = "server_no_context_takeover"
CLIENT_NO_CONTEXT = "client_no_context_takeover"
SERVER_BITS = "server_max_window_bits"
CLIENT_BITS = "client_max_window_bits"
FLAGS = (SERVER_NO_CONTEXT, CLIENT_NO_CONTEXT)
BITS = (SERVER_BITS, CLIENT_BITS)

Parameters = Dict[str, Optional[str]]


# ---- negotiation (RFC 7692 section 7.1) ---------------------------------------------------------


class Malformed(Exception):
    """A value of Sec-WebSocket-Extensions that RFC 6455 section 9.1 does not allow."""


class Extension(NamedTuple):
    """One element of Sec-WebSocket-Extensions."""

    name: str
    parameters: list[tuple[str, str | None]]


_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_PART = re.compile(
    rf"[ \t]*(?P<name>{_TOKEN})"
    rf'(?:[ \t]*=[ \t]*(?:(?P<token>{_TOKEN})|"(?P<quoted>(?:\\.|[^"\\])*)"))?'
    r"[ \t]*(?P<end>[;,]|$)"
)


def parse(value: str) -> list[Extension]:
    """Parse a whole field value, or raise Malformed."""
    extensions: list[Extension] = []
    at, end = 0, ","
    while end:
        part = _PART.match(value, at)
        if not part:
            raise Malformed(value)
        given = part["token"]
        if part["quoted"] is not None:
            given = re.sub(r"\\(.)", r"\1", part["quoted"])
        if end == ";":
            extensions[-1].parameters.append((part["name"].lower(), given))
        elif given is None:
            extensions.append(Extension(part["name"].lower(), []))
        else:
            raise Malformed(value)
        at, end = part.end(), part["end"]
    return extensions


def fault(extension: Extension, in_offer: bool) -> str | None:
    """Return what violates RFC 7692 section 7.1 in the parameters, or None."""
    seen = set()
    for name, value in extension.parameters:
        if name in seen:
            return f"{name} is repeated"
        seen.add(name)
        if name in FLAGS:
            if value is not None:
                return f"{name} must not have the value {value!r}"
        elif name not in BITS:
            return f"{name} is not a known parameter"
        elif value is None:
            if not in_offer or name == SERVER_BITS:
                return f"{name} has no value"
        elif not re.fullmatch("[89]|1[0-5]", value):
            return f"the value of {name} is {value!r}, not 8 to 15"
    return None


def misfit(offer: Parameters, answer: Parameters) -> str | None:
    """Return why an answer does not match an offer, or None; both are valid by themselves."""
    if SERVER_NO_CONTEXT in offer and SERVER_NO_CONTEXT not in answer:
        return f"{SERVER_NO_CONTEXT} was offered and is missing"
    if CLIENT_BITS in answer and CLIENT_BITS not in offer:
        return f"{CLIENT_BITS} was not offered"
    most, got = offer.get(SERVER_BITS), answer.get(SERVER_BITS)
    if most is None:
        return None
    if got is None and most != "15":
        return f"{SERVER_BITS}={most} was offered and is missing"
    if got is not None and int(got) > int(most):
        return f"{SERVER_BITS}={got} is more than the offered {most}"
    return None


def laxness(offer: Parameters, answer: Parameters) -> str | None:
    """Return what should be in this answer although nothing depends on it, or None.

    No window has more than 15 bits.
    """
    if offer.get(SERVER_BITS) == "15" and SERVER_BITS not in answer:
        return f"{SERVER_BITS}=15 was offered and is missing"
    return None


def liberty(offer: Parameters, answer: Parameters) -> str | None:
    """Return what the RFC allows in this answer although a client may not expect it, or None.

    A value of client_max_window_bits in an offer is a hint. Section 7.2.1 says which window the
    client uses if the answer has a larger one.
    """
    hint, got = offer.get(CLIENT_BITS), answer.get(CLIENT_BITS)
    if hint is not None and got is not None and int(got) > int(hint):
        return f"{CLIENT_BITS}={got} is more than the hint of {hint}"
    return None


class Terms(NamedTuple):
    """The agreed parameters."""

    server_no_context: bool
    client_no_context: bool
    server_bits: int
    client_bits: int
    lax: str | None = None
    """See `laxness`."""
    free: str | None = None
    """See `liberty`."""


def agree(offers: str, answer: str | None) -> Terms | None:
    """Return the terms of an answer (None if it declines all offers), or raise Failed."""
    if answer is None:
        return None
    told = f"Sec-WebSocket-Extensions: {answer}"
    try:
        answered = parse(answer)
    except Malformed:
        raise Failed(f"{told} is malformed") from None
    if len(answered) != 1 or answered[0].name != NAME:
        raise Failed(f"{told} is not a single answer to {offers}")
    problem = fault(answered[0], in_offer=False)
    if problem:
        raise Failed(f"{told}: {problem}")
    parameters = dict(answered[0].parameters)
    problem = "the offer has to be declined"
    found: list[Terms] = []
    for element in parse(offers):
        if element.name == NAME and not fault(element, in_offer=True):
            offer = dict(element.parameters)
            reason = misfit(offer, parameters)
            if reason is None:
                found.append(_terms(offer, parameters))
            problem = reason or problem
    if not found:
        raise Failed(f"{told} does not answer {offers}: {problem}")
    return min(found, key=lambda terms: (terms.lax is not None, terms.free is not None))


def _terms(offer: Parameters, answer: Parameters) -> Terms:
    return Terms(
        SERVER_NO_CONTEXT in answer,
        CLIENT_NO_CONTEXT in answer,
        int(answer.get(SERVER_BITS) or 15),
        int(answer.get(CLIENT_BITS) or 15),
        laxness(offer, answer),
        liberty(offer, answer),
    )


# ---- messages -----------------------------------------------------------------------------------


class Deflater:
    """Compresses the client's messages."""

    def __init__(self, terms: Terms, level: int = 6, memory: int = 8, strategy: int = 0) -> None:
        self.fresh = terms.client_no_context
        # zlib has no raw deflate with the smallest window. Data without matches needs no window.
        if terms.client_bits == 8:
            strategy = HUFFMAN_ONLY
        bits = max(terms.client_bits, 9)
        self.blank = zlib.compressobj(level, zlib.DEFLATED, -bits, memory, strategy)
        self.stream = self.blank

    def message(self, payload: bytes) -> bytes:
        """Compress a whole message and remove its tail (RFC 7692 7.2.1)."""
        if not payload:
            return b"\x00"  # RFC 7692 7.2.3.6
        if self.fresh:
            self.stream = self.blank.copy()
        data = self.stream.compress(payload) + self.stream.flush(zlib.Z_SYNC_FLUSH)
        return data[: -len(TAIL)]


class Inflater:
    """Decompresses the server's messages."""

    def __init__(self, terms: Terms) -> None:
        self.fresh = terms.server_no_context
        self.bits = terms.server_bits
        # zlib detects a reference beyond its window only if the output buffer is not larger than
        # the window. No reference can reach beyond the largest window.
        self.step = min((1 << self.bits) >> 4, 256) if self.bits < 15 else 65536
        self.window = b""
        self.stream = zlib.decompressobj(-self.bits)

    def restart(self, window: bytes) -> None:
        self.window = window[-(1 << self.bits) :]
        if self.window:
            self.stream = zlib.decompressobj(-self.bits, zdict=self.window)
        else:
            self.stream = zlib.decompressobj(-self.bits)

    def message(self, data: bytes, limit: int) -> bytes:
        """Decompress a whole message of at most `limit` bytes, or raise Failed."""
        if self.fresh:
            self.restart(b"")
        out = bytearray()
        try:
            for i in range(0, len(data), self.step):
                self.feed(data[i : i + self.step], out, limit)
            self.feed(TAIL, out, limit)
        except zlib.error as error:
            raise Failed(f"the server's compressed message is invalid: {error}") from None
        if not self.at_boundary():
            raise Failed("the server's compressed message does not end with an empty stored block")
        self.window = (self.window + out)[-(1 << self.bits) :]
        return bytes(out)

    def feed(self, data: bytes, out: bytearray, limit: int) -> None:
        """Decompress data, or raise zlib.error or Failed."""
        while True:
            piece = self.stream.decompress(data, self.step)
            out += piece
            if len(out) > limit:
                raise Failed(f"the server's compressed message has more than {limit} bytes")
            data = self.stream.unconsumed_tail
            if self.stream.eof:  # a block with BFINAL set (RFC 7692 7.2.3.4)
                data = self.stream.unused_data
                self.restart(self.window + bytes(out))
                if not data:
                    return
            elif len(piece) < self.step:
                return

    def at_boundary(self) -> bool:
        """Return whether a block could begin here, by trying an empty one with BFINAL set."""
        probe = self.stream.copy()
        try:
            return probe.decompress(b"\x03\x00") == b"" and probe.eof
        except zlib.error:
            return False


class Channel:
    """A session whose messages are compressed."""

    def __init__(self, session: Session, terms: Terms) -> None:
        """Start a session, or raise Failed if the server's greetings cannot be decompressed."""
        self.session = session
        self.terms = terms
        session.test.lax = terms.lax or session.test.lax
        self.deflater = Deflater(terms)
        self.inflater = Inflater(terms)
        for _, rsv, data in session.greetings:  # later messages may refer to them
            if rsv:
                self.inflater.message(data, session.test.trace.longest)

    def frames(self, data: bytes, opcode: int = TEXT, size: int | None = None) -> bytes:
        """Build a message of compressed data in frames of `size` bytes."""
        return self.session.message(data, opcode, size, rsv=RSV1)

    def send(self, payload: bytes, opcode: int = TEXT, size: int | None = None) -> None:
        """Compress and send a message."""
        self.session.send(self.frames(self.deflater.message(payload), opcode, size))

    def send_data(self, data: bytes, opcode: int = TEXT, size: int | None = None) -> None:
        """Send compressed data, which does not enter the window of `deflater`."""
        self.session.send(self.frames(data, opcode, size))

    def expect(
        self,
        payload: bytes,
        opcode: int = TEXT,
        timeout: float | None = None,
        first: Frame | None = None,
    ) -> None:
        """Expect the echo of a message, compressed or not; `first` is its first frame, if read.

        Raises Failed, Skipped if the server closes because a large message is too large, and
        Limited if that may be the reason.
        """
        wanted = f"the echo of {shown(payload)}"
        size = len(payload) + 16  # compression may make it longer
        try:
            first = first or self.session.read(wanted, timeout)
            got, rsv, data = self.session.read_rest(first, wanted, timeout)
        except Closed as error:
            if error.code == 1009 and len(payload) >= 4096:
                raise Skipped(f"the server accepts no message of {len(payload)} bytes") from None
            if is_refusable(size, error.code):
                raise Limited(str(error), error.code) from None
            raise
        except Cut as error:
            raise (Limited(str(error)) if size > TAKEN else error) from None
        if rsv:
            data = self.inflater.message(data, len(payload) + 4096)
        if (got, data) != (opcode, payload):
            came = f"{'Binary' if got == BINARY else 'Text'} {shown(data)}"
            raise Failed(f"expected {wanted} with opcode {opcode}, but received {came}")

    def echo(self, payload: bytes, opcode: int = TEXT, size: int | None = None) -> None:
        """Send a message and expect its echo, or raise Failed."""
        self.send(payload, opcode, size)
        self.expect(payload, opcode)

    def close(self) -> None:
        self.session.close()


def open_channel(test: Test, offers: str = NAME) -> Channel:
    """Perform an opening handshake with these offers, or raise Failed.

    Raises Unimplemented if the server declines them or refuses the handshake because of them, which
    D.1 tests.
    """
    try:
        session = test.open(offers)
    except Refused as error:
        if not 400 <= error.status < 500:
            raise
        raise Unimplemented(f"the server refuses {offers} with {error.status}") from None
    terms = agree(offers, session.response.get("Sec-WebSocket-Extensions"))
    if terms is None:
        raise Unimplemented(f"the server declines {offers}")
    return Channel(session, terms)


def require(test: Test) -> None:
    """Raise Unimplemented if the server does not support the extension."""
    open_channel(test).session.connection.close()


# ---- DEFLATE data built by hand (RFC 1951) ------------------------------------------------------


def _bases(first: int, group: int, count: int) -> list[tuple[int, int]]:
    """Return base values and extra bits of symbols, `group` per number of bits (RFC 1951 3.2.5)."""
    bases = []
    for i in range(count):
        extra = max(i // group - 1, 0)
        bases.append((first, extra))
        first += 1 << extra
    return bases


_LENGTHS = _bases(3, 4, 28)  # symbols 257 to 284; 285 is 258 (RFC 1951 3.2.5)
_DISTANCES = _bases(1, 2, 30)

Token = Union[bytes, Tuple[int, int]]
"""Literal bytes, or a reference: length 3 to 258 and distance 1 to 32768."""


class Blocks:
    """Builds DEFLATE data block by block."""

    def __init__(self) -> None:
        self.done = bytearray()
        self.value = self.count = 0

    def bits(self, value: int, count: int) -> Blocks:
        """Add bits, lowest bit first."""
        self.value |= value << self.count
        self.count += count
        while self.count >= 8:
            self.done.append(self.value & 255)
            self.value >>= 8
            self.count -= 8
        return self

    def align(self, padding: int = 0) -> Blocks:
        """Fill up the current byte with these bits."""
        spare = -self.count % 8
        return self.bits(padding & ((1 << spare) - 1), spare)

    def raw(self, data: bytes) -> Blocks:
        """Add whole bytes at the next byte boundary."""
        self.align()
        self.done += data
        return self

    def stored(self, data: bytes = b"", final: bool = False) -> Blocks:
        """Add a stored block."""
        sizes = len(data).to_bytes(2, "little") + (len(data) ^ 0xFFFF).to_bytes(2, "little")
        return self.bits(int(final), 3).raw(sizes + data)

    def fixed(self, *tokens: Token, final: bool = False) -> Blocks:
        """Add a block with the fixed Huffman codes."""
        self.bits(int(final) | 1 << 1, 3)
        for token in tokens:
            if isinstance(token, bytes):
                for byte in token:
                    self.symbol(byte)
            else:
                self.reference(*token)
        return self.symbol(256)

    def symbol(self, symbol: int) -> Blocks:
        """Add a literal, a length, or the end of the block (RFC 1951 3.2.6)."""
        if symbol < 144:
            return self.code(0x30 + symbol, 8)
        if symbol < 256:
            return self.code(0x190 + symbol - 144, 9)
        if symbol < 280:
            return self.code(symbol - 256, 7)
        return self.code(0xC0 + symbol - 280, 8)

    def code(self, code: int, count: int) -> Blocks:
        """Add a Huffman code, highest bit first."""
        return self.bits(int(f"{code:0{count}b}"[::-1], 2), count)

    def reference(self, length: int, distance: int) -> Blocks:
        """Add a reference to earlier bytes."""
        if length == 258:
            self.symbol(285)
        else:
            i = max(i for i in range(28) if _LENGTHS[i][0] <= length)
            base, extra = _LENGTHS[i]
            self.symbol(257 + i).bits(length - base, extra)
        i = max(i for i in range(30) if _DISTANCES[i][0] <= distance)
        base, extra = _DISTANCES[i]
        return self.code(i, 5).bits(distance - base, extra)

    def data(self) -> bytes:
        """Return the data, which must end at a byte boundary."""
        return bytes(self.align().done)

    def message(self) -> bytes:
        """Return the data and the start of the empty stored block whose rest is the tail."""
        return self.bits(0, 3).data()
