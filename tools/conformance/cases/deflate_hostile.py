# SPDX-License-Identifier: MIT
"""Compressed messages that are corrupt, bombs, or of unusual size (RFC 7692 section 7.2, RFC 6455
sections 8.1, 10.4 and 10.7; group D): D.9 corrupt data; D.10 UTF-8 inside compressed text; D.11
bombs and floods; D.12 sizes.

Add new rows at the end of a table, because the ids are row numbers; there are gaps for more rows.
"""

from __future__ import annotations

import functools
import zlib

from ..case import MUST, SHOULD, Test, add
from ..deflate import TAIL, Blocks, Channel, open_channel
from ..verdicts import Closed, Informational, NonStrict
from ..wire import BINARY, PING, PONG, TEXT, Ended, TimedOut
from .compression import noise
from .deflate_steps import (
    AGAIN,
    HELLO,
    INFLATE,
    JOIN,
    VALIDATED,
    beside,
    expect_refusal,
    finish,
    fragments,
    how,
    named,
    put,
    taking_over,
)

# ---- D.9: corrupt data --------------------------------------------------------------------------


def dynamic(literals: int, distances: int, lengths: list[int], *codes: tuple[int, int]) -> bytes:
    """Return a block with dynamic Huffman codes (RFC 1951 3.2.7).

    It has the given counts, lengths of the code lengths' codes, then codes and the bits after them.
    """
    blocks = Blocks().bits(2 << 1, 3).bits(literals, 5).bits(distances, 5)
    blocks.bits(len(lengths) - 4, 4)
    for length in lengths:
        blocks.bits(length, 3)
    for value, count in codes:
        blocks.bits(value, count)
    return blocks.message()


BROKEN = [
    ("a block of the reserved type 3", Blocks().bits(3 << 1, 3).message()),
    ("a block of the reserved type 3 after a valid one", Blocks().fixed(b"x").bits(6, 3).message()),
    ("a stored block whose length and its complement differ", b"\x00\x05\x00\xfa\xfeHello\x00"),
    ("the invalid length symbol 286", Blocks().fixed(b"Hello").bits(2, 3).symbol(286).message()),
    (
        "the invalid distance symbol 30",
        Blocks().bits(2, 3).symbol(72).symbol(257).code(30, 5).message(),
    ),
    (
        "the invalid distance symbol 31",
        Blocks().bits(2, 3).symbol(72).symbol(257).code(31, 5).message(),
    ),
    ("a reference without preceding data", Blocks().fixed((3, 1)).message()),
    ("a reference one byte too far back", Blocks().fixed(b"Hello", (5, 6)).message()),
    ("a reference 32768 bytes back", Blocks().fixed(b"Hello", (5, 32768)).message()),
    ("too many literal codes", dynamic(30, 0, [1, 1, 1, 1])),
    ("too many distance codes", dynamic(0, 30, [1, 1, 1, 1])),
    ("an oversubscribed code", dynamic(0, 0, [1, 1, 1, 1])),
    ("an incomplete code", dynamic(0, 0, [0, 0, 1, 0])),
    ("a repetition without a previous code", dynamic(0, 0, [1, 0, 0, 1], (1, 1), (0, 2))),
    (
        "no code for the end of the block",
        dynamic(0, 0, [0, 0, 1, 1], (1, 1), (127, 7), (1, 1), (109, 7)),
    ),
    ("100 bytes of 00", bytes(100)),
    ("100 bytes of ff", b"\xff" * 100),
    ("uncompressed text with RSV1", b"This is not compressed at all."),
    ("a zlib stream", zlib.compress(b"Hello")),
    ("a gzip header", bytes.fromhex("1f8b0800000000000003") + HELLO),
]


def check_broken(test: Test, data: bytes) -> None:
    """Send corrupt data; another connection, if the server serves several, must continue."""
    other, channel = beside(test), open_channel(test)
    channel.send_data(data, BINARY)
    expect_refusal(channel.session)
    finish(other)


for _number, (_told, _data) in enumerate(BROKEN, 1):
    put(
        f"D.9.{_number}",
        VALIDATED,
        sends=f"corrupt compressed data: {_told}",
        expects="the connection is failed with 1007 or 1002, and another one continues; "
        "NON-STRICT: it stays open, and nothing is delivered",
        run=functools.partial(check_broken, data=_data),
    )

_TEXT = b"one two three two one two three " * 8
_WHOLE = zlib.compressobj(9, zlib.DEFLATED, -15)
_WHOLE_DATA = _WHOLE.compress(_TEXT) + _WHOLE.flush(zlib.Z_SYNC_FLUSH)

CUT_OFF = (
    "RFC 6455 10.7",
    "If the invalid data was received after a successful WebSocket handshake, the endpoint SHOULD "
    "send a Close frame with an appropriate status code",
)

INCOMPLETE = [
    (
        "a stored block that is shorter than its length",
        Blocks().raw(b"\x00\x64\x00\x9b\xffHello").data(),
    ),
    ("a stored block that lacks its last 4 bytes", b"\x00\x09\x00\xf6\xffHello"),
    ("only the first byte of a stored block's length", b"\x00\x05"),
    ("compressed text without its last 8 bytes", _WHOLE_DATA[:-12]),
    ("compressed text without its second half", _WHOLE_DATA[: len(_WHOLE_DATA) // 2]),
    ("a fixed block without its end", HELLO[:4]),
    (
        "garbage after a block with BFINAL",
        Blocks().stored(b"Hello", final=True).raw(b"\xff" * 9).data(),
    ),
]

for _number, (_told, _data) in enumerate(INCOMPLETE, 41):
    put(
        f"D.9.{_number}",
        CUT_OFF,
        sends=f"truncated or overlong compressed data: {_told}",
        expects="the connection is failed with 1007 or 1002, and another one continues",
        run=functools.partial(check_broken, data=_data),
        level=SHOULD,
    )


# ---- D.10: UTF-8 inside compressed text ---------------------------------------------------------

UTF8 = (
    "RFC 6455 8.1",
    "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not,"
    " in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_.",
)

NOT_UTF8 = [
    ("the byte ff", b"\xff"),
    ("ff after valid text", b"good text " * 100 + b"\xff"),
    ("ff between valid text", b"good text " * 600 + b"\xff" + b"good text " * 600),
    ("a character truncated at the end", "good text ä".encode()[:-1]),
    ("a four-byte character truncated at the end", "good text 😀".encode()[:-1]),
    ("a character truncated in the middle", b"\xe2\x82 good text"),
    ("a lone continuation byte", b"good \x80 text"),
    ("a surrogate", b"\xed\xa0\x80"),
    ("an overlong form", b"\xc0\xaf"),
    ("a code point above 10ffff", b"\xf4\x90\x80\x80"),
]


def check_not_utf8(test: Test, payload: bytes, size: int | None = None) -> None:
    """Send the payload as Binary, where it is valid, and then as Text."""
    channel = open_channel(test)
    channel.echo(payload, BINARY)
    channel.send(payload, TEXT, size)
    channel.session.expect_failure(1007)


for _number, (_told, _payload) in enumerate(NOT_UTF8, 1):
    put(
        f"D.10.{_number}",
        UTF8,
        sends=f"a compressed Binary, then a compressed Text message: {_told}",
        expects="the echo of the first one, then the connection is failed with 1007",
        run=functools.partial(check_not_utf8, payload=_payload),
    )

put(
    "D.10.20",
    UTF8,
    sends="a compressed Text message with the byte ff, in fragments of 2 bytes",
    expects="the connection is failed with 1007",
    run=functools.partial(check_not_utf8, payload=b"good text \xff more", size=2),
)


@named(
    "D.10.21",
    UTF8,
    "an uncompressed Text message with the byte ff, although compression was negotiated",
    "the connection is failed with 1007",
)
def plain_not_utf8(test: Test) -> None:
    session = open_channel(test).session
    session.send(session.message(b"good text \xff"))
    session.expect_failure(1007)


@named(
    "D.10.22",
    UTF8,
    "a Binary message with ff, then a Text message that is a reference to it",
    "the echo of the first one, then the connection is failed with 1007",
)
def refers_to_not_utf8(test: Test) -> None:
    channel = taking_over(test)
    channel.send_data(Blocks().fixed(b"ab\xffcd").message(), BINARY)
    channel.expect(b"ab\xffcd", BINARY)
    channel.send_data(AGAIN)
    channel.session.expect_failure(1007)


@named(
    "D.10.23",
    INFLATE,
    "compressed text whose characters are split by blocks, references and fragments",
    "the echo",
)
def cut_characters(test: Test) -> None:
    channel = open_channel(test)
    text = "ä€😀".encode()
    blocks = Blocks()
    for byte in text:
        blocks.stored(bytes([byte]))
    data = blocks.fixed((4, 9), (5, 9), (9, 9)).message()
    for size in (None, 1, 3):
        channel.send_data(data, TEXT, size)
        channel.expect(text * 3)
    finish(channel)


@named(
    "D.10.24",
    INFLATE,
    "compressed text with NUL, a byte order mark, noncharacters and characters of every length",
    "its echo",
)
def strange_text(test: Test) -> None:
    channel = open_channel(test)
    text = "\0\ufeff\ufffe\uffff\x7f\x80\u07ff\u0800\ud7ff\ue000\U00010000\U0010ffff"
    channel.echo(text.encode())
    channel.close()


# ---- D.11: bombs and floods ---------------------------------------------------------------------

LIMIT = (
    "RFC 6455 10.4",
    "Implementations that have implementation- and/or platform-specific limitations regarding the "
    "frame size or total message size after reassembly from multiple frames MUST protect "
    "themselves against exceeding those limits.",
)
MIB = 1 << 20


@functools.lru_cache(maxsize=None)
def zeros() -> bytes:
    """Return a MiB of zeros that does not depend on earlier data."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(bytes(MIB)) + stream.flush(zlib.Z_FULL_FLUSH)


def first_opcode(channel: Channel, seconds: float) -> int | None:
    """Return the opcode of the next frame except Pings and Pongs (None: TCP ended).

    This does not wait for the payload of a large message.
    """
    session, connection = channel.session, channel.session.connection
    deadline = connection.deadline(seconds)
    try:
        while True:
            while not connection.buffer:
                connection.fill(deadline)
            if connection.buffer[0] & 15 not in (PING, PONG):
                return connection.buffer[0] & 15
            frame = connection.read_frame()
            if frame.opcode == PING:
                session.send(session.frame(frame.payload, PONG))
    except Ended:
        return None


def check_bomb(test: Test, mib: int, opcode: int, size: int | None) -> None:
    """Send a bomb; another connection must be served, however long that takes."""
    other, channel = beside(test), open_channel(test)
    channel.send_data((zeros() * mib)[: -len(TAIL)], opcode, size)
    try:
        got = first_opcode(channel, max(test.timeout, test.seconds(15)))
    except TimedOut:
        channel.session.connection.reset()
        finish(other)
        raise Informational("neither a Close nor the echo arrived in time") from None
    if got in (TEXT, BINARY):
        channel.session.connection.reset()
        finish(other)
        raise Informational(f"the server accepts messages of {mib} MiB")
    channel.session.expect_failure(1009)
    finish(other)


BOMBS = [
    (16, BINARY, None),
    (64, BINARY, None),
    (64, TEXT, None),
    (64, BINARY, 1000),
    (256, BINARY, None),
]

for _number, (_mib, _opcode, _size) in enumerate(BOMBS, 1):
    _kind = "Text" if _opcode == TEXT else "Binary"
    _cut_told = f" in fragments of {_size} bytes" if _size else ""
    add(
        f"D.11.{_number}",
        LIMIT[0],
        MUST,
        LIMIT[1],
        sends=f"{_mib} KiB of data{_cut_told} that inflate to a {_kind} message of {_mib} MiB",
        expects="the connection is failed with 1009, and another one continues; INFORMATIONAL: "
        "the server accepts messages of that size",
        run=functools.partial(check_bomb, mib=_mib, opcode=_opcode, size=_size),
        tags=("deflate", "limits"),
    )


def taken(channel: Channel, message: bytes, *codes: int) -> None:
    """Send "Hello" in a form that is more expensive than it looks, or raise Failed.

    Raises Informational if the server refuses it with one of these codes, and NonStrict for 1008.
    """
    channel.session.send(message)
    try:
        channel.expect(b"Hello")
    except Closed as closed:
        told = f"the server protects itself: it closes {how(closed)}"
        if closed.code in codes:
            raise Informational(told) from None
        if closed.code == 1008:
            raise NonStrict(told) from None
        raise


@named(
    "D.11.10",
    INFLATE,
    'a message of 2000 empty stored blocks, and "Hello"',
    "the echo of Hello; INFORMATIONAL: the server considers it a bomb and closes with 1009",
)
def stored_flood(test: Test) -> None:
    channel = open_channel(test)
    taken(channel, channel.frames(Blocks().stored().data() * 2000 + HELLO), 1009)
    finish(channel)


@named(
    "D.11.11",
    INFLATE,
    'a message of 4000 empty blocks with BFINAL, and "Hello"',
    "the echo of Hello; INFORMATIONAL: the server considers it a bomb and closes with 1009",
)
def final_flood(test: Test) -> None:
    channel = open_channel(test)
    taken(channel, channel.frames(Blocks().fixed(final=True).data() * 4000 + HELLO), 1009)
    finish(channel)


@named(
    "D.11.12",
    JOIN,
    "a compressed message with 3000 empty fragments",
    "its echo; INFORMATIONAL: it exceeds a limit of the server",
)
def fragment_flood(test: Test) -> None:
    test.patience = 3.0  # for servers that need long for each frame
    channel = open_channel(test)
    parts = [HELLO[:3]] + [b""] * 3000 + [HELLO[3:]]
    taken(channel, b"".join(fragments(channel, parts)), 1008, 1009)
    finish(channel)


@named(
    "D.11.13",
    INFLATE,
    "400 compressed empty messages and one that is not empty, in one write",
    "400 empty messages and the last one",
)
def message_flood(test: Test) -> None:
    channel = open_channel(test)
    channel.session.send(channel.frames(b"\x00") * 400 + channel.frames(HELLO))
    for _ in range(400):
        channel.expect(b"")
    channel.expect(b"Hello")
    finish(channel)


@named(
    "D.11.14",
    INFLATE,
    "a message of 100000 zeros in 120 bytes of data, which is large but not a bomb",
    "its echo",
)
def harmless(test: Test) -> None:
    channel = open_channel(test)
    channel.echo(bytes(100000), BINARY)
    channel.close()


# ---- D.12: sizes --------------------------------------------------------------------------------

SIZES = (0, 1, 2, 125, 126, 127, 128, 255, 256, 4095, 4096, 32767, 32768, 32769, 65535, 65536)


def check_size(test: Test, size: int) -> None:
    """Send a message of noise and one that compresses to almost nothing."""
    channel = open_channel(test)
    channel.echo(noise(test.random, size), BINARY)
    channel.echo(b"=" * size, TEXT)
    channel.close()


for _number, _size in enumerate(SIZES, 1):
    put(
        f"D.12.{_number}",
        INFLATE,
        sends=f"{_size} bytes of noise as Binary, and the same number of equal letters as Text",
        expects="their echoes",
        run=functools.partial(check_size, size=_size),
    )


def check_wire_size(test: Test, size: int) -> None:
    """Send a stored block and the start of another, which have 6 bytes of overhead."""
    channel = open_channel(test)
    payload = noise(test.random, size - 6)
    channel.send_data(Blocks().stored(payload).message(), BINARY)
    channel.expect(payload, BINARY)
    finish(channel)


for _number, _size in enumerate((125, 126, 127, 65535, 65536), 31):
    put(
        f"D.12.{_number}",
        INFLATE,
        sends=f"a message whose compressed data has exactly {_size} bytes",
        expects="its echo",
        run=functools.partial(check_wire_size, size=_size),
    )
