# SPDX-License-Identifier: MIT
"""Whole messages (RFC 6455 sections 5.2 and 5.4) that a server must echo: of every size and with
every masking key (group 1), large ones split in every way (9, tagged "limits"), and small ones
split in every way (10). Frames that are wrong are in framing.py.
"""

from __future__ import annotations

from typing import Sequence

from ..case import MUST, Run, Test, add, case
from ..session import Session
from ..verdicts import Informational, Limited
from ..wire import BINARY, CONTINUATION, PING, TEXT, frame
from .steps import HOW, F, deliver, echoed, exchange, octets, text

FRAMING = "RFC 6455 5.2"
RECEIVING = "RFC 6455 6.2"
PARSED = "Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2."
LENGTHS = "RFC 6455 5.2 and 6.2"
ECHO = "its echo, complete and of the same type"
IS_FAILED = "the connection is failed with 1002"
NAMES = {TEXT: "text", BINARY: "binary"}
HELLO = b"Hello, world!"

# ---- 1.1 and 1.2: sizes -------------------------------------------------------------------------

SHORT = "if 0-125, that is the payload length"
MEDIUM = (
    "If 126, the following 2 bytes interpreted as a 16-bit unsigned integer are the payload length."
)
LONG = (
    "If 127, the following 8 bytes interpreted as a 64-bit unsigned integer (the most significant "
    "bit MUST be 0) are the payload length."
)


def length_rule(length: int) -> str:
    rule = SHORT if length < 126 else MEDIUM if length < 65536 else LONG
    return f"{rule} [6.2:] {PARSED}"


def content(length: int, opcode: int) -> bytes:
    return text(length) if opcode == TEXT else octets(length)


def add_size(id: str, length: int, opcode: int, how: int | None = None) -> None:
    chops = f", in {HOW.get(how, f'pieces of {how} octets')}" if how else ""
    add(
        id,
        LENGTHS,
        MUST,
        length_rule(length),
        f"a {NAMES[opcode]} message of {length} bytes{chops}",
        ECHO,
        echoed(content(length, opcode), opcode, how),
    )


for group, opcode in ((1, TEXT), (2, BINARY)):
    for number, size in enumerate((0, 125, 126, 127, 128, 65535, 65536), 1):
        add_size(f"1.{group}.{number}", size, opcode)
    add_size(f"1.{group}.8", 65536, opcode, 997)
    # After the ids of the Autobahn suite: each form of the length, octet by octet.
    add_size(f"1.{group}.9", 5, opcode, 1)
    add_size(f"1.{group}.10", 126, opcode, 1)


def add_every_length(id: str, opcode: int) -> None:
    @case(
        id,
        RECEIVING,
        MUST,
        PARSED,
        sends=f"{NAMES[opcode]} messages of 0 to 300 bytes, one after another",
        expects="an echo of each",
    )
    def every_length(test: Test) -> None:
        session = test.open()
        exchange(session, [(content(length, opcode), opcode) for length in range(301)])
        session.close()


add_every_length("1.1.11", TEXT)
add_every_length("1.2.11", BINARY)


@case(
    "1.1.12",
    LENGTHS,
    MUST,
    length_rule(65536),
    sends="the header of a text message of 65536 bytes octet by octet, then its payload at once",
    expects="its echo",
)
def long_header_in_octets(test: Test) -> None:
    session = test.open()
    data = session.frame(text(65536))
    head = len(data) - 65536
    session.send(data[:head], 1)
    session.send(data[head:])
    session.expect_large(text(65536))
    session.close()


@case(
    "1.2.12",
    RECEIVING,
    MUST,
    "Upon receiving a data frame (Section 5.6), the endpoint MUST note the /type/ of the data as "
    "defined by the opcode (frame-opcode) from Section 5.2.",
    sends="the same bytes as text and as binary, alternating four times",
    expects="echoes of the same types, in that order",
)
def types_in_turn(test: Test) -> None:
    session = test.open()
    deliver(session, [F(HELLO, opcode) for opcode in (TEXT, BINARY) * 4])
    for opcode in (TEXT, BINARY) * 4:
        session.expect_message(HELLO, opcode)
    session.close()


@case(
    "1.2.13",
    RECEIVING,
    MUST,
    PARSED,
    sends="100 short text messages in one write",
    expects="100 echoes in the same order",
)
def many_in_one_write(test: Test) -> None:
    session = test.open()
    messages = [b"message %d" % i for i in range(100)]
    deliver(session, [F(message) for message in messages])
    for message in messages:
        session.expect_message(message)
    session.close()


# ---- 1.3: masking keys --------------------------------------------------------------------------

UNMASK = (
    "A server MUST remove masking for data frames received from a client as described in "
    "Section 5.3."
)
KEYS = [
    ("a masking key of zeros", [b"\0\0\0\0"]),
    ("a masking key of 255s", [b"\xff\xff\xff\xff"]),
    ("masking keys with one bit set, each bit in turn", [(1 << i).to_bytes(4, "big")
                                                        for i in range(32)]),
]  # fmt: skip


def masked_with(keys: Sequence[bytes]) -> Run:
    def run(test: Test) -> None:
        session = test.open()
        for key in keys:
            session.send(frame(text(40), TEXT, key=key))
        for _ in keys:
            session.expect_message(text(40))
        session.close()

    return run


for number, (what, keys) in enumerate(KEYS, 1):
    add(f"1.3.{number}", RECEIVING, MUST, UNMASK, f"text with {what}", ECHO, masked_with(keys))


@case(
    "1.3.4",
    RECEIVING,
    MUST,
    UNMASK,
    sends="binary messages of 0 to 40 bytes, each with another key, in pieces of 3 octets",
    expects="an echo of each: the key starts again with every frame",
)
def keys_and_lengths(test: Test) -> None:
    session = test.open()
    messages = [octets(length) for length in range(41)]
    keys = [bytes(test.random.randrange(256) for _ in range(4)) for _ in messages]
    data = b"".join(frame(m, BINARY, key=k) for m, k in zip(messages, keys))
    session.send(data, 3)
    for message in messages:
        session.expect_message(message, BINARY)
    session.close()


@case(
    "1.3.5",
    RECEIVING,
    MUST,
    UNMASK,
    sends="a text message in frames of 5 bytes, each with another key",
    expects="its echo",
)
def key_for_each_fragment(test: Test) -> None:
    session = test.open()
    parts = [text(40)[i : i + 5] for i in range(0, 40, 5)]
    for i, part in enumerate(parts):
        key = bytes(test.random.randrange(256) for _ in range(4))
        session.send(frame(part, CONTINUATION if i else TEXT, fin=i == 7, key=key))
    session.expect_message(text(40))
    session.close()


@case(
    "1.3.6",
    "RFC 6455 5.1",
    MUST,
    "A server MUST NOT mask any frames that it sends to the client.",
    sends="messages with each form of the length, a Ping, and a Close",
    expects="frames without masking",
)
def server_masks_nothing(test: Test) -> None:
    session = test.open()  # the Session checks MASK of every frame
    for length in (0, 125, 126, 4096):
        session.send(session.message(octets(length), BINARY))
        session.expect_message(octets(length), BINARY)
    session.send(session.frame(b"ping", PING))
    session.expect_pong(b"ping")
    session.close()


# ---- 9: limits ----------------------------------------------------------------------------------

ASSEMBLED = "Clients and servers MUST support receiving both fragmented and unfragmented messages."
IN_FULL = "its echo; INFORMATIONAL: the server's limit is lower and it closes with 1009"
MANY = 65536
"""The number of fragments from which a server may refuse a message."""
KIB, MIB = 2**10, 2**20


def sized(count: int) -> str:
    return (
        f"{count // MIB} MiB"
        if count >= MIB
        else f"{count // KIB} KiB"
        if count >= KIB
        else (f"{count} bytes")
    )


def poured(opcode: int, total: int, size: int = 0, pieces: int = 65536) -> Run:
    """Send a message of `total` bytes in frames of `size` (0: one) and writes of `pieces`."""

    def run(test: Test) -> None:
        session = test.open()
        part, count = row(opcode, size or 4096), total // (size or 4096)
        make = fragmented if size else whole
        session.pour(make(session, part, count, opcode), pieces)
        try:
            session.expect_large(part * count, opcode)
        except Limited as error:
            if error.code != 1008 or not size or total // size < MANY:
                raise
            raise Informational(
                f"{total // size} fragments were answered with Close 1008"
            ) from None
        session.close()

    return run


def row(opcode: int, size: int) -> bytes:
    """Return a payload that is the same in every fragment of that size."""
    return text(size) if opcode == TEXT else octets(size)


# Building a message makes no copies of it, because several cases run at a time.


def whole(session: Session, part: bytes, count: int, opcode: int) -> bytes:
    """Yield a frame of `count` equal parts whose size is a multiple of the masking key's."""
    first = session.frame(part, opcode, length=count * len(part))
    return b"".join([first, *[first[-len(part) :]] * (count - 1)])


def fragmented(session: Session, part: bytes, count: int, opcode: int) -> bytes:
    """Yield one frame for each part; all middle ones are equal."""
    if count == 1:
        return session.frame(part, opcode)
    first = session.frame(part, opcode, fin=False)
    middle = session.frame(part, CONTINUATION, fin=False)
    return b"".join([first, *[middle] * (count - 2), session.frame(part, CONTINUATION)])


def add_limit(id: str, section: str, rule: str, sends: str, run: Run) -> None:
    add(id, section, MUST, rule, sends, IN_FULL, run, ["limits"])


for group, opcode in ((1, TEXT), (2, BINARY)):
    for number, total in enumerate((64 * KIB, 256 * KIB, MIB, 4 * MIB, 8 * MIB, 16 * MIB), 1):
        add_limit(
            f"9.{group}.{number}",
            LENGTHS,
            length_rule(total),
            f"a {NAMES[opcode]} message of {sized(total)}",
            poured(opcode, total),
        )
    for number in range(9):
        size = 64 * 4**number
        add_limit(
            f"9.{group + 2}.{number + 1}",
            "RFC 6455 5.4",
            ASSEMBLED,
            f"a {NAMES[opcode]} message of 4 MiB in frames of {sized(size)}",
            poured(opcode, 4 * MIB, size),
        )
    for number in range(6):
        add_limit(
            f"9.{group + 4}.{number + 1}",
            LENGTHS,
            length_rule(MIB),
            f"a {NAMES[opcode]} message of 1 MiB in pieces of {64 << number} octets",
            poured(opcode, MIB, pieces=64 << number),
        )


def round_trips(opcode: int, length: int) -> Run:
    def run(test: Test) -> None:
        session = test.open()
        exchange(session, [(content(length, opcode), opcode)] * 1000)
        session.close()

    return run


for group, opcode in ((7, TEXT), (8, BINARY)):
    for number, length in enumerate((0, 16, 64, 256, 1024, 4096), 1):
        add(
            f"9.{group}.{number}",
            RECEIVING,
            MUST,
            PARSED,
            f"1000 {NAMES[opcode]} messages of {length} bytes, each after the previous echo (to "
            "a distant server, several at a time)",
            "1000 echoes",
            round_trips(opcode, length),
            ["limits"],
        )

add_limit(
    "9.9.1",
    "RFC 6455 5.4",
    ASSEMBLED,
    "a text message of 64 KiB in frames of one byte",
    poured(TEXT, 64 * KIB, 1),
)
add_limit(
    "9.9.2",
    LENGTHS,
    length_rule(4 * MIB),
    "a binary message of 4 MiB in pieces of 1021 octets",
    poured(BINARY, 4 * MIB, pieces=1021),
)


@case(
    "9.9.3",
    LENGTHS,
    MUST,
    length_rule(MIB),
    sends="eight messages of 1 MiB, text and binary alternating, each after the previous echo",
    expects=IN_FULL,
    tags=["limits"],
)
def large_in_turn(test: Test) -> None:
    session = test.open()
    for opcode in (TEXT, BINARY) * 4:
        part = row(opcode, 4096)
        session.pour(whole(session, part, 256, opcode))
        session.expect_large(part * 256, opcode)
    session.close()


# ---- 10: every split ----------------------------------------------------------------------------

FRAGMENTS = "RFC 6455 5.4"

for number, opcode in enumerate((TEXT, BINARY), 1):
    add(
        f"10.1.{number}",
        FRAGMENTS,
        MUST,
        ASSEMBLED,
        f"a {NAMES[opcode]} message of 65536 bytes in frames of 1300",
        IN_FULL,
        echoed(content(65536, opcode), opcode, size=1300),
    )

for number, size in enumerate((1, 2, 3, 4, 5, 7, 8, 13, 125, 126, 127, 499, 500, 999), 1):
    add(
        f"10.2.{number}",
        FRAGMENTS,
        MUST,
        ASSEMBLED,
        f"a text message of 1000 bytes in frames of {size}",
        ECHO,
        echoed(text(1000), size=size),
    )


def around(power: int) -> Run:
    def run(test: Test) -> None:
        session = test.open()
        lengths = (2**power - 1, 2**power, 2**power + 1)
        exchange(session, [(octets(length), BINARY) for length in lengths])
        session.close()

    return run


for power in range(1, 14):
    add(
        f"10.3.{power}",
        LENGTHS,
        MUST,
        length_rule(2**power),
        f"binary messages of {2**power - 1}, {2**power} and {2**power + 1} bytes",
        "an echo of each",
        around(power),
    )

for number, pieces in enumerate((1, 2, 3, 5, 7, 11, 13, 64, 101), 1):
    add(
        f"10.4.{number}",
        FRAGMENTS,
        MUST,
        ASSEMBLED,
        f"a text message of 1000 bytes in frames of 100, in pieces of {pieces} octets",
        ECHO,
        echoed(text(1000), how=pieces, size=100),
    )


@case(
    "10.5.1",
    FRAGMENTS,
    MUST,
    ASSEMBLED,
    sends="a text message of 50 bytes in frames of one byte, each followed by an empty frame",
    expects=ECHO,
)
def empty_between(test: Test) -> None:
    session = test.open()
    parts = [part for octet in text(50) for part in (bytes([octet]), b"")]
    frames = [F(part, CONTINUATION if i else TEXT, fin=i == 99) for i, part in enumerate(parts)]
    deliver(session, frames)
    session.expect_message(text(50))
    session.close()


@case(
    "10.5.2",
    FRAGMENTS,
    MUST,
    ASSEMBLED,
    sends="ten messages in frames of random sizes, in pieces of random sizes",
    expects="ten echoes",
)
def random_cuts(test: Test) -> None:
    session = test.open()
    for number in range(10):
        opcode = test.random.choice((TEXT, BINARY))
        payload = content(test.random.randrange(2000), opcode)
        data = session.message(payload, opcode, test.random.randrange(1, 300))
        test.trace.note(f"message {number}")
        while data:
            cut = test.random.randrange(1, 400)
            session.send(data[:cut])
            data = data[cut:]
        session.expect_message(payload, opcode)
    session.close()
