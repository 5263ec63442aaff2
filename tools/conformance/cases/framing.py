# SPDX-License-Identifier: MIT
"""The parts of a frame (RFC 6455 section 5.2) that must not be wrong: reserved bits (group 3),
opcodes, masking, and invalid lengths (4). Valid ones are in messages.py.
"""

from __future__ import annotations

from typing import Sequence

from ..case import MUST, SHOULD, Run, Test, add, case
from ..session import Session
from ..verdicts import Informational, NonStrict
from ..wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, frame
from .messages import FRAMING, HELLO, IS_FAILED, LENGTHS, content, length_rule
from .steps import (
    BY_FRAME,
    HOW,
    VALIDATED,
    F,
    deliver,
    expect_ended,
    failed,
    failed_after,
    failed_early,
    octets,
)

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
