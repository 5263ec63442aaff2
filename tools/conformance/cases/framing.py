"""Frames (RFC 6455 section 5.2): whole messages of every size and masking keys (group 1), reserved
bits (3), opcodes, masking, and invalid lengths (4), large messages split in every way (9, tagged
"limits"), and small ones split in every way (10).
"""

from __future__ import annotations

from typing import Sequence

from ..case import (
    MUST,
    SHOULD,
    Informational,
    Limited,
    NonStrict,
    Run,
    Session,
    Test,
    add,
    case,
)
from ..wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from .steps import (
    BY_FRAME,
    HOW,
    VALIDATED,
    F,
    deliver,
    echoed,
    exchange,
    expect_ended,
    failed,
    failed_after,
    failed_early,
    octets,
    text,
)

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


# ---- 3: reserved bits ---------------------------------------------------------------------------

RESERVED = (
    "If a nonzero value is received and none of the negotiated extensions defines the meaning of "
    "such a nonzero value, the receiving endpoint MUST _Fail the WebSocket Connection_."
)
AFTER_ECHO = "the echo of the first message, then the connection is failed with 1002"
BINARY_DATA = b"\x00\xff\xfe\xfd\xfc\xfb\x00\xff"


def wrong(
    id: str,
    rule: str,
    sends: str,
    *frames: F,
    how: int | None = None,
    level: str = MUST,
    section: str = FRAMING,
) -> None:
    """Add a case that sends frames which are not allowed together."""
    add(id, section, level, rule, sends, IS_FAILED, failed(frames, 1002, how=how))


def wrong_after(id: str, rule: str, sends: str, bad: F, how: int | None = None) -> None:
    """Add a case that sends a message, a frame that is not allowed, and a Ping."""
    add(
        id,
        FRAMING,
        MUST,
        rule,
        f"a text message, {sends}, and a Ping, {HOW[how]}",
        AFTER_ECHO,
        failed_after(HELLO, [F(HELLO), bad, F(b"ping", PING)], 1002, how=how),
    )


wrong("3.1", RESERVED, "a text message with RSV 001", F(HELLO, rsv=1))
wrong_after("3.2", RESERVED, "one with RSV 010", F(HELLO, rsv=2))
wrong_after("3.3", RESERVED, "one with RSV 011", F(HELLO, rsv=3), BY_FRAME)
wrong_after("3.4", RESERVED, "one with RSV 100", F(HELLO, rsv=4), 1)
wrong("3.5", RESERVED, "a binary message with RSV 101", F(BINARY_DATA, BINARY, rsv=5))
wrong("3.6", RESERVED, "a Ping with RSV 110", F(HELLO, PING, rsv=6))
wrong("3.7", RESERVED, "a Close with RSV 111", F(b"", CLOSE, rsv=7))
wrong("3.8", RESERVED, "a text message with RSV 100, without an extension", F(HELLO, rsv=4))
wrong("3.9", RESERVED, "an empty text message with RSV 001", F(b"", rsv=1))
wrong("3.10", RESERVED, "a Pong with RSV 001", F(HELLO, PONG, rsv=1))
wrong("3.11", RESERVED, "a Ping with RSV 100", F(HELLO, PING, rsv=4))
wrong("3.12", RESERVED, "a first fragment with RSV 010", F(HELLO, fin=False, rsv=2))
for number, rsv in ((13, 1), (14, 2), (15, 4)):
    wrong(
        f"3.{number}",
        RESERVED,
        f"a text message whose second fragment has RSV {rsv:03b}",
        F(b"Hello, ", fin=False),
        F(b"world!", CONTINUATION, rsv=rsv),
    )
add(
    "3.16",
    FRAMING,
    MUST,
    RESERVED,
    "only the header of a text frame with RSV 001, without its payload",
    f"{IS_FAILED}; INFORMATIONAL: the server waits for the payload",
    failed_early(F(b"", rsv=1, length=100), Informational, 1002),
)

# ---- 4.1 and 4.2: opcodes -----------------------------------------------------------------------

UNKNOWN = (
    "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket Connection_."
)
UNKNOWN_DATA = b"payload of an unknown opcode"

for group, first, kind in ((1, 3, "data"), (2, 11, "control")):
    wrong(f"4.{group}.1", UNKNOWN, f"an empty frame of {kind} opcode {first}", F(b"", first))
    wrong(
        f"4.{group}.2",
        UNKNOWN,
        f"a frame of {kind} opcode {first + 1}",
        F(UNKNOWN_DATA, first + 1),
    )
    some = f"frame of {kind} opcode"
    wrong_after(f"4.{group}.3", UNKNOWN, f"an empty {some} {first + 2}", F(b"", first + 2))
    wrong_after(f"4.{group}.4", UNKNOWN, f"a {some} {first + 3}", F(HELLO, first + 3))
    wrong_after(f"4.{group}.5", UNKNOWN, f"a {some} {first + 4}", F(HELLO, first + 4), 1)
    for number in range(5):
        wrong(
            f"4.{group}.{number + 6}",
            UNKNOWN,
            f"the first fragment of a text message, then a {some} {first + number}",
            F(HELLO, fin=False),
            F(b"", first + number),
        )
    wrong(f"4.{group}.11", UNKNOWN, f"a {some} {first} with FIN 0", F(HELLO, first, fin=False))

# ---- 4.3: unmasked frames -----------------------------------------------------------------------

UNMASKED = "The server MUST close the connection upon receiving a frame that is not masked."
IS_CLOSED = "the connection is closed; INFORMATIONAL: with a code other than 1002, or none"
UNMASKED_FRAMES = [
    ("a text message", [F(HELLO)]),
    ("an empty text message", [F(b"")]),
    ("a binary message of 126 bytes", [F(octets(126), BINARY)]),
    ("a Ping", [F(b"ping", PING)]),
    ("a Pong", [F(b"", PONG)]),
    ("a Close with 1000", [F(b"\x03\xe8", CLOSE)]),
]


def failed_unmasked(masked: Sequence[F], bad: F) -> Run:
    def run(test: Test) -> None:
        session = test.open()
        deliver(session, masked)
        session.send(frame(bad.payload, bad.opcode, fin=bad.fin, key=None))
        if bad.opcode == CLOSE and is_taken(session):
            test.lax = "the Close was answered as if it were valid"
        expect_closed(session)

    return run


def is_taken(session: Session) -> bool:
    """Return whether the frame is the answer to a valid Close."""
    came = session.ahead if session.answers() else None
    return came is not None and came.opcode == CLOSE and session.is_ordinary(came.close_code)


def expect_closed(session: Session) -> None:
    """Expect the end of the connection; a Close with 1002 before it is only a MAY here."""
    try:
        session.expect_failure(1002)
    except NonStrict as error:
        raise Informational(str(error)) from None


def add_unmasked(id: str, sends: str, masked: Sequence[F], bad: F) -> None:
    run = failed_unmasked(masked, bad)
    add(id, "RFC 6455 5.1", MUST, UNMASKED, sends, IS_CLOSED, run)


for number, (what, frames) in enumerate(UNMASKED_FRAMES, 1):
    add_unmasked(f"4.3.{number}", f"{what}, unmasked", [], frames[0])
add_unmasked(
    "4.3.7",
    "a text message in two fragments, the second one unmasked",
    [F(HELLO, fin=False)],
    F(HELLO, CONTINUATION),
)


@case(
    "4.3.8",
    "RFC 6455 5.1",
    MUST,
    UNMASKED,
    sends="a masked text message and, after its echo, the same message unmasked, and again masked",
    expects=f"the echo of the first message, then {IS_CLOSED}",
)
def unmasked_after_masked(test: Test) -> None:
    session = test.open()
    session.send(session.frame(HELLO))
    session.expect_message(HELLO)
    session.send(frame(HELLO, key=None) + session.frame(HELLO))
    expect_closed(session)


# ---- 4.4: lengths that are not minimally encoded ------------------------------------------------

MINIMAL = (
    "in all cases, the minimal number of bytes MUST be used to encode the length [10.7:] If the "
    "invalid data was received after a successful WebSocket handshake, the endpoint SHOULD send a "
    "Close frame with an appropriate status code"
)
TOO_LONG: list[tuple[int, int, int, str]] = [
    (TEXT, 0, 16, "a text message"),
    (TEXT, 1, 16, "a text message"),
    (TEXT, 125, 16, "a text message"),
    (TEXT, 0, 64, "a text message"),
    (TEXT, 125, 64, "a text message"),
    (TEXT, 126, 64, "a text message"),
    (BINARY, 16000, 64, "a binary message"),
    (PING, 0, 16, "a Ping"),
    (PING, 125, 16, "a Ping"),
    (PONG, 5, 64, "a Pong"),
]
# The first sentence binds the sender, and the meaning of such a frame is clear: a SHOULD.
for number, (opcode, size, form, what) in enumerate(TOO_LONG, 1):
    wrong(
        f"4.4.{number}",
        MINIMAL,
        f"{what} whose length {size} is encoded in {form} bits, and a Ping",
        F(content(size, opcode), opcode, form=form),
        F(b"ping", PING),  # nothing answers a Pong, so it would seem to be refused
        level=SHOULD,
        section=f"{FRAMING} and 10.7",
    )
wrong(
    "4.4.11",
    MINIMAL,
    "a Close with 1000 whose length 2 is encoded in 16 bits",
    F(b"\x03\xe8", CLOSE, form=16),
    level=SHOULD,
    section=f"{FRAMING} and 10.7",
)
wrong(
    "4.4.12",
    MINIMAL,
    "a text message whose second fragment encodes its length 5 in 16 bits",
    F(HELLO, fin=False),
    F(b"again", CONTINUATION, form=16),
    level=SHOULD,
    section=f"{FRAMING} and 10.7",
)

# ---- 4.5: impossible and huge lengths -----------------------------------------------------------

TOP_BIT = f"the most significant bit MUST be 0 {VALIDATED}"
for number, (what, bad) in enumerate(
    [
        ("the header of a text message of 2**63 bytes", F(length=1 << 63)),
        ("the header of a binary message of 2**64-1 bytes", F(b"", BINARY, length=(1 << 64) - 1)),
        ("a text message of 2**63+5 bytes, of which 5 are sent", F(b"Hello", length=(1 << 63) + 5)),
        ("a Ping of 2**63+4 bytes, of which 4 are sent", F(b"ping", PING, length=(1 << 63) + 4)),
        (
            "a Close of 2**63+2 bytes, of which 2 are sent",
            F(b"\x03\xe8", CLOSE, length=(1 << 63) + 2),
        ),
    ],
    1,
):
    expects = f"{IS_FAILED} or 1009; NON-STRICT: the server waits for the impossible payload"
    run = failed_early(bad, NonStrict, 1002, 1009)
    add(f"4.5.{number}", f"{FRAMING} and 10.7", MUST, TOP_BIT, what, expects, run)

PROTECT = (
    "Implementations that have implementation- and/or platform-specific limitations regarding the "
    "frame size or total message size after reassembly from multiple frames MUST protect "
    "themselves against exceeding those limits."
)
IS_TOO_BIG = (
    "the connection is failed with 1009, and nothing is echoed; INFORMATIONAL: the server waits"
)


for number, (what, bad) in enumerate(
    [
        ("the header of a text message of 2**63-1 bytes", F(length=(1 << 63) - 1)),
        ("the header of a binary message of 2**62 bytes", F(b"", BINARY, length=1 << 62)),
        ("a text message of 2**32+5 bytes, of which 5 are sent", F(b"Hello", length=(1 << 32) + 5)),
        ("a text message of 2**48 bytes, of which 5 are sent", F(b"Hello", length=1 << 48)),
    ],
    6,
):
    run = failed_early(bad, Informational, 1009)
    add(f"4.5.{number}", LENGTHS, MUST, length_rule(65536), what, IS_TOO_BIG, run)
add(
    "4.5.10",
    "RFC 6455 10.4",
    MUST,
    PROTECT,
    "2**63-1 bytes of text after a first fragment of 13 bytes: the sum exceeds 63 bits",
    IS_TOO_BIG,
    failed_early(
        F(b"", CONTINUATION, length=(1 << 63) - 1),
        Informational,
        1009,
        ahead=[F(HELLO, fin=False)],
    ),
)

# ---- 4.6: after a failure -----------------------------------------------------------------------

NO_MORE = (
    "An endpoint MUST NOT continue to attempt to process data (including a responding Close frame) "
    "from the remote endpoint after being instructed to _Fail the WebSocket Connection_."
)


@case(
    "4.6.1",
    "RFC 6455 7.1.7",
    MUST,
    NO_MORE,
    sends="a frame of opcode 3, then text, a Ping, and a Close with 1000, in one write",
    expects=f"{IS_FAILED}; nothing after that frame is answered",
)
def nothing_after_failure(test: Test) -> None:
    session = test.open()
    behind = [F(HELLO), F(HELLO, PING), F(b"\x03\xe8", CLOSE)]
    deliver(session, [F(b"", 3), *behind])
    session.expect_failure(1002)


@case(
    "4.6.2",
    "RFC 6455 7.1.1",
    SHOULD,
    "when a server is instructed to _Close the WebSocket Connection_ it SHOULD initiate a TCP "
    "Close immediately",
    sends="a frame of opcode 3; the server's Close is not answered",
    expects="the server ends TCP anyway",
)
def ends_without_answer(test: Test) -> None:
    session = test.open()
    deliver(session, [F(b"", 3)])
    expect_ended(session)


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
