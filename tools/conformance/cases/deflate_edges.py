# SPDX-License-Identifier: MIT
"""Edges of permessage-deflate (RFC 7692; group D).

D.1 to D.3 are in deflate_offers.py. This file has D.4 reserved bits, D.5 DEFLATE data of every
shape, and D.6 compressed messages in fragments. D.7 and D.8 are in deflate_windows.py, and D.9 to
D.12 in deflate_hostile.py.

If the RFC leaves a choice to the server, the case is INFORMATIONAL and reports the choice. Add new
rows at the end of a table, because the ids are row numbers; there are gaps for more rows.
"""

from __future__ import annotations

import functools
from typing import Callable, List

from ..case import Test
from ..deflate import FIXED, HUFFMAN_ONLY, RLE, RSV1, TAIL, Blocks, Channel, Deflater, open_channel
from ..session import Session
from ..verdicts import Closed, Failed, Informational, NonStrict
from ..wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload
from .compression import noise, words
from .deflate_steps import (
    HELLO,
    INFLATE,
    JOIN,
    NOT_NEGOTIATED,
    PLAIN,
    VALIDATED,
    Quote,
    beginning,
    finish,
    fragments,
    how,
    named,
    put,
    split,
    stored,
    take_or_refuse,
)

# ---- D.4: reserved bits -------------------------------------------------------------------------

NOT_FIRST = (
    "RFC 7692 6.1",
    'An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and non-first '
    "fragments of a data message. An endpoint receiving such a frame MUST _Fail the WebSocket "
    "Connection_.",
)
OPCODES = (
    "RFC 6455 5.2",
    "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket "
    "Connection_.",
)
MASKED = (
    "RFC 6455 5.1",
    "The server MUST close the connection upon receiving a frame that is not masked.",
)
Frames = Callable[[Session], bytes]

# No Ping is empty, because an unsolicited Pong would look like its answer.
WITHOUT: list[tuple[str, Frames]] = [
    ("a Text frame with RSV1", lambda s: s.frame(HELLO, TEXT, rsv=RSV1)),
    ("a Binary frame with RSV1", lambda s: s.frame(HELLO, BINARY, rsv=RSV1)),
    ("an empty Text frame with RSV1", lambda s: s.frame(b"", TEXT, rsv=RSV1)),
    ("a Ping with RSV1", lambda s: s.frame(b"not plain", PING, rsv=RSV1)),
]


MISUSES: list[tuple[Quote, str, Frames]] = [
    (
        NOT_FIRST,
        "RSV1 on a fragment in the middle of a compressed message",
        lambda s: beginning(s) + s.frame(HELLO[3:5], CONTINUATION, fin=False, rsv=RSV1),
    ),
    (
        NOT_FIRST,
        "RSV1 on the last fragment of a compressed message",
        lambda s: beginning(s) + s.frame(HELLO[3:], CONTINUATION, rsv=RSV1),
    ),
    (
        NOT_FIRST,
        "RSV1 on an empty last fragment",
        lambda s: beginning(s) + s.frame(b"", CONTINUATION, rsv=RSV1),
    ),
    (
        NOT_FIRST,
        "RSV1 on the second fragment of a message that began without it",
        lambda s: s.frame(b"Hel", fin=False) + s.frame(HELLO[3:], CONTINUATION, rsv=RSV1),
    ),
    (
        NOT_FIRST,
        "RSV1 on a Continuation with no message to continue",
        lambda s: s.frame(HELLO, CONTINUATION, rsv=RSV1),
    ),
    (NOT_FIRST, "a Ping with RSV1", lambda s: s.frame(HELLO, PING, rsv=RSV1)),
    (NOT_FIRST, "a Ping of one byte with RSV1", lambda s: s.frame(b"?", PING, rsv=RSV1)),
    (NOT_FIRST, "a Pong with RSV1", lambda s: s.frame(HELLO, PONG, rsv=RSV1)),
    (NOT_FIRST, "a Close with RSV1", lambda s: s.frame(close_payload(1000), CLOSE, rsv=RSV1)),
    (
        NOT_FIRST,
        "a Ping with RSV1 within a compressed message",
        lambda s: beginning(s) + s.frame(b"within", PING, rsv=RSV1),
    ),
    (NOT_NEGOTIATED, "a Text frame with RSV2", lambda s: s.frame(b"Hello", rsv=2)),
    (NOT_NEGOTIATED, "a Text frame with RSV3", lambda s: s.frame(b"Hello", rsv=1)),
    (NOT_NEGOTIATED, "a compressed Text frame with RSV2", lambda s: s.frame(HELLO, rsv=RSV1 | 2)),
    (NOT_NEGOTIATED, "a compressed Text frame with RSV3", lambda s: s.frame(HELLO, rsv=RSV1 | 1)),
    (NOT_NEGOTIATED, "a Text frame with all three bits", lambda s: s.frame(HELLO, rsv=7)),
    (
        NOT_NEGOTIATED,
        "RSV2 on the second fragment of a compressed message",
        lambda s: beginning(s) + s.frame(HELLO[3:], CONTINUATION, rsv=2),
    ),
    (OPCODES, "a frame of opcode 3 with RSV1", lambda s: s.frame(HELLO, 3, rsv=RSV1)),
    (OPCODES, "a frame of opcode 11 with RSV1", lambda s: s.frame(b"", 11, rsv=RSV1)),
    (
        MASKED,
        "an unmasked compressed Text frame",
        lambda s: s.frame(HELLO, TEXT, rsv=RSV1, key=None),
    ),
    (
        VALIDATED,
        "a compressed message within an unfinished one",
        lambda s: beginning(s) + s.frame(HELLO, TEXT, rsv=RSV1),
    ),
    (
        VALIDATED,
        "an uncompressed message within an unfinished compressed one",
        lambda s: beginning(s) + s.frame(b"Hello", TEXT),
    ),
]


def check_misuse(test: Test, frames: Frames, offered: bool) -> None:
    session = open_channel(test).session if offered else test.open()
    session.send(frames(session))
    session.expect_failure(1002)


for _number, (_told, _frames) in enumerate(WITHOUT, 1):
    put(
        f"D.4.{_number}",
        NOT_NEGOTIATED,
        sends=f"{_told}, without offering an extension",
        expects="the connection is failed with 1002",
        run=functools.partial(check_misuse, frames=_frames, offered=False),
    )

for _number, (_quote, _told, _frames) in enumerate(MISUSES, 11):
    put(
        f"D.4.{_number}",
        _quote,
        sends=_told,
        expects="the connection is failed with 1002",
        run=functools.partial(check_misuse, frames=_frames, offered=True),
    )


# ---- D.5: DEFLATE data of every shape -----------------------------------------------------------

FIXED_HELLO = Blocks().fixed(b"Hello").message()

SHAPES: list[tuple[str, bytes, bytes]] = [
    ("the example of RFC 7692 7.2.3.1", HELLO, b"Hello"),
    ("a stored block (RFC 7692 7.2.3.3)", Blocks().stored(b"Hello").message(), b"Hello"),
    ("a block with BFINAL (RFC 7692 7.2.3.4)", bytes.fromhex("f348cdc9c9070000"), b"Hello"),
    ("two blocks (RFC 7692 7.2.3.5)", bytes.fromhex("f248050000 00ffffcac9c90700"), b"Hello"),
    ("an empty message: 00 (RFC 7692 7.2.3.6)", b"\x00", b""),
    ("an empty message: an empty fixed block", Blocks().fixed().message(), b""),
    ("an empty message: an empty stored block", Blocks().stored().message(), b""),
    (
        "an empty message: an empty block with BFINAL",
        Blocks().fixed(final=True).align().message(),
        b"",
    ),
    ("padding bits of 1 before the tail", Blocks().bits(0, 3).align(0xFF).data(), b""),
    ("five stored blocks of one byte", stored(b"Hello", 1).message(), b"Hello"),
    (
        "empty stored blocks between others",
        Blocks().stored().fixed(b"Hel").stored().stored().stored(b"lo").stored().message(),
        b"Hello",
    ),
    (
        "empty fixed blocks between others",
        Blocks().fixed().fixed().fixed(b"Hel").fixed().fixed(b"lo").fixed().message(),
        b"Hello",
    ),
    (
        "a block that refers back to the previous one",
        Blocks().stored(b"Hello, ").fixed((5, 7)).message(),
        b"Hello, Hello",
    ),
    (
        "a block with BFINAL, then another one (RFC 7692 7.2.1)",
        Blocks().fixed(b"Hel", final=True).align().fixed(b"lo").message(),
        b"Hello",
    ),
    (
        "three blocks with BFINAL",
        Blocks()
        .fixed(b"He", final=True)
        .align()
        .stored(b"ll", final=True)
        .fixed(b"o", final=True)
        .align()
        .message(),
        b"Hello",
    ),
    (
        "a stored block with BFINAL",
        Blocks().stored(b"Hello", final=True).message(),
        b"Hello",
    ),
    (
        "references of every length at distance 1",
        Blocks().fixed(b"x", *((n, 1) for n in range(3, 259))).message(),
        b"x" * (1 + sum(range(3, 259))),
    ),
    (
        "references that overlap their own output",
        Blocks().fixed(b"abc", (258, 3), (100, 2), (3, 258)).message(),
        (b"abc" * 87)[:261] + b"bc" * 50 + (b"abc" * 87 + b"bc" * 50)[361 - 258 : 364 - 258],
    ),
    ("every literal byte", Blocks().fixed(bytes(range(256))).message(), bytes(range(256))),
    ("a message that consists of the tail 00 00 ff ff", Blocks().stored(TAIL).message(), TAIL),
    ("a message of many tails", Blocks().stored(TAIL * 100).message(), TAIL * 100),
    (
        "a message that ends with 00 and the tail",
        Blocks().fixed(b"Hello\x00" + TAIL).message(),
        b"Hello\x00" + TAIL,
    ),
]


def check_data(test: Test, data: bytes, payload: bytes) -> None:
    """Send data as Binary, and as Text if it is valid text."""
    channel = open_channel(test)
    opcodes = (BINARY, TEXT) if payload.isascii() else (BINARY,)
    for opcode in opcodes:
        channel.send_data(data, opcode)
        channel.expect(payload, opcode)
    finish(channel)


for _number, (_told, _data, _payload) in enumerate(SHAPES, 1):
    put(
        f"D.5.{_number}",
        INFLATE,
        sends=f"compressed data of this shape: {_told}",
        expects="the echo of the inflated data, and of a message after it",
        run=functools.partial(check_data, data=_data, payload=_payload),
    )

COMPRESSORS = [
    ("level 0 (stored blocks)", 0, 8, 0),
    ("level 1", 1, 8, 0),
    ("level 9", 9, 8, 0),
    ("the least memory (many small blocks)", 6, 1, 0),
    ("the most memory (few large blocks)", 9, 9, 0),
    ("no references (Huffman codes only)", 6, 8, HUFFMAN_ONLY),
    ("references of distance 1 only", 6, 8, RLE),
    ("fixed codes only", 6, 8, FIXED),
]


def check_compressor(test: Test, level: int, memory: int, strategy: int) -> None:
    """Send messages of several kinds with the same window."""
    channel = open_channel(test)
    channel.deflater = Deflater(channel.terms, level, memory, strategy)
    for payload in (
        words(test.random, 800).encode(),
        b"",
        b"a" * 3000,
        words(test.random, 800).encode(),
    ):
        channel.echo(payload)
    channel.echo(noise(test.random, 3000), BINARY)
    channel.close()


for _number, (_told, *_settings) in enumerate(COMPRESSORS, 41):
    _level, _memory, _strategy = _settings
    put(
        f"D.5.{_number}",
        INFLATE,
        sends=f"messages compressed with {_told}",
        expects="their echoes",
        run=functools.partial(check_compressor, level=_level, memory=_memory, strategy=_strategy),
    )

# Data that a client must not send, or of unknown meaning; no sentence says how a server reacts.
ODDITIES: list[tuple[str, bytes, bytes]] = [
    ("the tail 00 00 ff ff was not removed", FIXED_HELLO + TAIL, b"Hello"),
    ("no data at all", b"", b""),
    (
        "a block with BFINAL that is not followed by another block",
        Blocks().fixed(b"Hello", final=True).data(),
        b"Hello",
    ),
    (
        "a reference back into a block with BFINAL",
        Blocks().stored(b"Hello, ", final=True).fixed((5, 7)).message(),
        b"Hello, Hello",
    ),
]


def check_oddity(test: Test, data: bytes, payload: bytes) -> None:
    """Expect that data is accepted or refused, but nothing else is delivered.

    The result of the next message may then be the fault of both sides.
    """
    channel = open_channel(test)
    take_or_refuse(channel, data, payload)
    try:
        finish(channel)
    except Closed as closed:
        told = f"the server accepts it, but refuses the next message {how(closed)}"
        raise Informational(told) from None
    except Failed as error:
        raise NonStrict(f"the server accepts it, but not the next message: {error}") from None
    raise Informational("the server accepts it")


for _number, (_told, _data, _payload) in enumerate(ODDITIES, 61):
    put(
        f"D.5.{_number}",
        INFLATE,
        sends=f"compressed data of this shape: {_told}",
        expects="the echo of the inflated data, or a failed connection; NON-STRICT: the next "
        "message is not echoed, or TCP ends without a Close frame",
        run=functools.partial(check_oddity, data=_data, payload=_payload),
    )


# ---- D.6: compressed messages in fragments ------------------------------------------------------

AMID = (
    "RFC 6455 5.4",
    "An endpoint MUST be capable of handling control frames in the middle of a fragmented message",
)
Cutting = Callable[[bytes], List[bytes]]

CUTS: list[tuple[str, Cutting]] = [
    *((f"fragments of {n} bytes", functools.partial(split, size=n)) for n in (1, 2, 3, 16, 126)),
    ("an empty first fragment", lambda data: [b"", data]),
    ("an empty last fragment", lambda data: [data, b""]),
    ("many empty first fragments", lambda data: [b""] * 50 + [data]),
    ("many empty last fragments", lambda data: [data] + [b""] * 50),
    ("an empty fragment after each byte", lambda data: [x for b in data for x in (b"%c" % b, b"")]),
    ("the last byte in its own fragment", lambda data: [data[:-1], data[-1:]]),
]


def check_cut(test: Test, cut: Cutting) -> None:
    channel = open_channel(test)
    for _ in range(3):
        text = words(test.random, 60).encode()
        parts = cut(channel.deflater.message(text))
        channel.session.send(b"".join(fragments(channel, parts)))
        channel.expect(text)
    channel.close()


for _number, (_told, _cut) in enumerate(CUTS, 1):
    put(
        f"D.6.{_number}",
        JOIN,
        sends=f"three compressed text messages, each in {_told}",
        expects="their echoes",
        run=functools.partial(check_cut, cut=_cut),
    )


@named("D.6.20", JOIN, "a compressed message in two fragments, split at every byte", "the echoes")
def every_cut(test: Test) -> None:
    channel = open_channel(test)
    data = Blocks().stored(b"Hello, ").fixed((5, 7), b"\xc3\xa4!").message()
    for i in range(len(data) + 1):
        channel.session.send(b"".join(fragments(channel, [data[:i], data[i:]])))
        channel.expect("Hello, Helloä!".encode())
    channel.close()


def expect_amid(channel: Channel, pings: list[bytes], payload: bytes) -> None:
    """Expect a Pong for each Ping, then the echo of a message, or raise Failed.

    Raises NonStrict if a Pong follows the echo: "as soon as is practical" (RFC 6455 5.5.2). Raises
    Informational if Pongs are missing, because only the last pending Ping must be answered.
    """
    session, waiting = channel.session, list(pings)
    echoed = late = left_out = False
    while waiting or not echoed:
        frame = session.read(f"a Pong with {waiting[-1]!r}" if waiting else "the echo")
        if frame.opcode == PONG and frame.payload in waiting:
            at = waiting.index(frame.payload)
            late, left_out = late or echoed, left_out or at > 0
            del waiting[: at + 1]
        elif echoed:
            raise Failed(f"expected a Pong with {waiting[-1]!r}, but received {frame}")
        else:
            channel.expect(payload, first=frame)
            echoed = True
    if late:
        raise NonStrict("a Ping was answered after the message that ended later")
    if left_out:
        raise Informational("not all of several Pings were answered, which RFC 6455 5.5.2 allows")


@named(
    "D.6.21",
    AMID,
    "Pings between the fragments of a compressed message",
    "their Pongs, then the echo",
)
def pings_between(test: Test) -> None:
    channel = open_channel(test)
    frames = fragments(channel, split(HELLO, 1))
    pings = [b"ping %d" % i for i in range(len(frames) - 1)]
    sent = frames[0]
    for ping, frame in zip(pings, frames[1:]):
        sent += channel.session.frame(ping, PING) + frame
    channel.session.send(sent)
    expect_amid(channel, pings, b"Hello")
    channel.close()


@named(
    "D.6.22",
    AMID,
    "Pings, Pongs and empty fragments between the fragments of a compressed message",
    "a Pong for each Ping, then the echo",
)
def everything_between(test: Test) -> None:
    channel = open_channel(test)
    session = channel.session
    frames = fragments(channel, split(HELLO, 3))
    pings = [b"ping %d" % i for i in range(2 * (len(frames) - 1))]
    sent = frames[0]
    for i, frame in enumerate(frames[1:]):
        sent += session.frame(pings[2 * i], PING) + session.frame(b"", PONG)
        sent += session.frame(b"", CONTINUATION, fin=False)
        sent += session.frame(pings[2 * i + 1], PING) + frame
    session.send(sent)
    expect_amid(channel, pings, b"Hello")
    channel.close()


@named(
    "D.6.23",
    AMID,
    "a Ping between two fragments, the rest of the compressed message 0.1 s after the Pong",
    "the Pong immediately, the echo after the rest; NON-STRICT: both after the rest",
)
def pong_at_once(test: Test) -> None:
    channel = open_channel(test)
    session = channel.session
    session.send(beginning(session) + session.frame(b"now", PING))
    at_once = session.answers(1.0)
    if at_once:
        session.expect_pong(b"now")
        session.expect_silence(0.1)
    session.send(session.frame(HELLO[3:], CONTINUATION))
    if not at_once:
        expect_amid(channel, [b"now"], b"Hello")
        raise NonStrict("the Ping was answered after the message had ended")
    channel.expect(b"Hello")
    channel.close()


@named(
    "D.6.24",
    (
        "RFC 6455 5.5.1",
        "If an endpoint receives a Close frame and did not previously send a Close frame, the "
        "endpoint MUST send a Close frame in response.",
    ),
    "a Close after the first fragment of a compressed message",
    "a Close frame and no message",
)
def close_amid(test: Test) -> None:
    session = open_channel(test).session
    session.send(beginning(session) + session.frame(close_payload(1000), CLOSE))
    session.expect_close(1000)


@named("D.6.25", JOIN, "a fragmented compressed message, byte by byte over TCP", "the echo")
def bytewise(test: Test) -> None:
    channel = open_channel(test)
    text = "Grüße, schöne 😀 Welt. ".encode() * 4
    frames = channel.frames(channel.deflater.message(text), TEXT, 10)
    channel.session.send(frames, pieces=1)
    channel.expect(text)
    channel.close()


@named(
    "D.6.26",
    PLAIN,
    "30 messages in one write, alternating compressed, plain, and compressed in fragments",
    "all echoes in order",
)
def in_one_write(test: Test) -> None:
    channel = open_channel(test)
    session = channel.session
    texts = [words(test.random, 1 + i).encode() for i in range(30)]
    frames = b""
    for i, text in enumerate(texts):
        if i % 3 == 1:
            frames += session.message(text, TEXT, 7)
        else:
            frames += channel.frames(channel.deflater.message(text), TEXT, 5 if i % 3 else None)
    session.send(frames)
    for text in texts:
        channel.expect(text)
    channel.close()
