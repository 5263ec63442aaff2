# SPDX-License-Identifier: MIT
"""Ping and Pong (group 2)."""

from __future__ import annotations

from typing import Sequence

from .. import wire
from ..case import MAY, MUST, SHOULD, Run, Test, add, case
from ..session import Session
from ..verdicts import Cut, Failed, Informational, Late, NonStrict, Verdict
from ..wire import CLOSE, PING, PONG, TEXT, close_payload
from .steps import BY_FRAME, VALIDATED, F, deliver, failed, failed_early, octets, text

IS_FAILED = "the connection is failed with 1002"

# ---- 2: Ping and Pong ---------------------------------------------------------------------------

PINGS = "RFC 6455 5.5.2"
ANSWER = (
    "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response, unless it "
    "already received a Close frame."
)
PONGS = "RFC 6455 5.5.3"
SAME = (
    'A Pong frame sent in response to a Ping frame must have identical "Application data" as found '
    "in the message body of the Ping frame being replied to."
)
UNASKED = "A response to an unsolicited Pong frame is not expected."
LIMIT = (
    "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be "
    f"fragmented. {VALIDATED}"
)
LIMITS = "RFC 6455 5.5 and 10.7"
NEWEST = (
    "the endpoint MAY elect to send a Pong frame for only the most recently processed Ping frame"
)


def ponged(payload: bytes, how: int | None = None, ahead: Sequence[F] = ()) -> Run:
    """Send frames that end with a Ping, and expect only its Pong."""

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, [*ahead, F(payload, PING)], how)
        session.expect_pong(payload)
        session.close()

    return run


def expect_pongs(session: Session, payloads: Sequence[bytes]) -> None:
    """Expect Pongs for Pings that were sent without waiting, or raise Failed.

    Raises Informational if some are missing, or if the server ends the connection because so many
    Pings exceed its limit.
    """
    count, place = 0, -1
    while place < len(payloads) - 1:
        try:
            frame = session.read(f"a Pong with {payloads[-1]!r}")
        except Cut as error:
            raise (Informational(str(error)) if len(payloads) >= FLOOD else error) from None
        if frame.opcode == CLOSE and len(payloads) >= FLOOD:
            session.expect_end()
            raise Informational(f"{count} Pings were answered, then {frame} arrived")
        if frame.opcode != PONG or frame.payload not in payloads[place + 1 :]:
            raise Failed(f"expected the next Pong, but received {frame}")
        count, place = count + 1, payloads.index(frame.payload)
    session.close()
    if count < len(payloads):
        raise Informational(f"{count} of {len(payloads)} Pings were answered: {NEWEST}")


def many_pings(count: int, how: int | None = None) -> Run:
    def run(test: Test) -> None:
        session = test.open()
        payloads = [b"ping %d" % i for i in range(count)]
        deliver(session, [F(payload, PING) for payload in payloads], how)
        expect_pongs(session, payloads)

    return run


def unanswered(*payloads: bytes) -> Run:
    """Send unsolicited Pongs; only the Close after them is answered."""

    def run(test: Test) -> None:
        session = test.open()
        close = F(close_payload(1000), CLOSE)
        deliver(session, [*(F(payload, PONG) for payload in payloads), close])
        try:
            frame = session.read("a Close", every=True)
        except (Cut, Late) as error:
            return test.close_fault(Verdict.FAILED, str(error))
        answer = frame.close_code is None or session.is_answer(frame.close_code)
        if frame.opcode != CLOSE or not answer:
            raise Failed(f"expected only the answer to the Close, but received {frame}")
        session.expect_end()

    return run


ONE_PONG = "a Pong with the same payload"
ONLY_PONG = "a Pong for the Ping, nothing for the Pong"
ONLY_CLOSE = "nothing, then the answer to the Close"
ALL_PONGS = "Pongs for all, in order; INFORMATIONAL: for some, including the last"
FLOOD = 100
"""The number of simultaneous Pings that a server may consider a flood."""

PING_CASES = [
    ("2.1", ANSWER, "a Ping without payload", ponged(b"")),
    ("2.2", ANSWER, "a Ping with text", ponged(b"Hello, world!")),
    (
        "2.3",
        ANSWER,
        "a Ping with bytes that are not UTF-8",
        ponged(b"\x00\xff\xfe\xfd\xfc\x00\xff"),
    ),
    ("2.4", ANSWER, "a Ping of 125 bytes", ponged(b"\xfe" * 125)),
    ("2.6", ANSWER, "a Ping of 125 bytes, octet by octet", ponged(b"\xfe" * 125, 1)),
]
for id, rule, sends, run in PING_CASES:
    add(id, PINGS, MUST, rule, sends, ONE_PONG, run)

LONG_CONTROL = [
    ("2.5", "a Ping of 126 bytes", [F(b"\xfe" * 126, PING)]),
    ("2.12", "a Pong of 126 bytes", [F(b"\xfe" * 126, PONG)]),
    ("2.13", "a Ping of 65536 bytes", [F(b"\xfe" * 65536, PING)]),
    ("2.14", "a Pong of 65536 bytes", [F(b"\xfe" * 65536, PONG)]),
]
for id, sends, frames in LONG_CONTROL:
    add(id, LIMITS, MUST, LIMIT, sends, IS_FAILED, failed(frames, 1002))
add(
    "2.15",
    LIMITS,
    MUST,
    LIMIT,
    "only the header of a Ping of 126 bytes, without its payload",
    f"{IS_FAILED}; INFORMATIONAL: the server waits for the payload",
    failed_early(F(b"", PING, length=126), Informational, 1002),
)

# An answer to a Pong may also be an unsolicited Pong, which any side MAY send: a SHOULD.
add("2.7", PONGS, SHOULD, UNASKED, "a Pong without payload, a Close", ONLY_CLOSE, unanswered(b""))
add("2.8", PONGS, SHOULD, UNASKED, "a Pong with text, a Close", ONLY_CLOSE, unanswered(b"unasked"))


@case(
    "2.9",
    PINGS,
    MUST,
    ANSWER,
    sends="an unsolicited Pong, then a Ping",
    expects=f"{ONLY_PONG}; NON-STRICT: also a Pong for the Pong",
)
def ping_after_pong(test: Test) -> None:
    session = test.open()
    deliver(session, [F(b"unasked", PONG), F(b"ping", PING)])
    frame = session.read("a Pong", every=True)
    while frame.opcode == PONG and frame.payload != b"ping":
        if frame.payload == b"unasked":
            test.lax = "a Pong was answered with a Pong"
        frame = session.read("a Pong", every=True)
    if frame.opcode != PONG:
        raise Failed(f"expected a Pong for the Ping, but received {frame}")
    session.close()


add("2.10", PINGS, MUST, ANSWER, "10 Pings in one write", ALL_PONGS, many_pings(10))
add("2.11", PINGS, MUST, ANSWER, "10 Pings octet by octet", ALL_PONGS, many_pings(10, 1))
add(
    "2.16",
    PINGS,
    MUST,
    ANSWER,
    "100 Pings in one write",
    f"{ALL_PONGS}, or the end of the connection",
    many_pings(FLOOD),
)
add("2.17", PINGS, MUST, ANSWER, "20 Pings in one write each", ALL_PONGS, many_pings(20, BY_FRAME))
add(
    "2.18",
    PONGS,
    SHOULD,
    UNASKED,
    "Pongs of all lengths from 0 to 125, a Close",
    ONLY_CLOSE,
    unanswered(*(octets(length) for length in range(126))),
)


@case(
    "2.19",
    PONGS,
    MUST,
    SAME,
    sends="Pings of all lengths from 0 to 125 (fewer to a distant server), each after the previous "
    "Pong",
    expects="a Pong with the same payload for each",
)
def every_length(test: Test) -> None:
    session = test.open()
    step = 1 + int(test.settings.manners.round_trip / 0.05)
    for length in [*range(0, 125, step), 125]:
        session.send(session.frame(octets(length), PING))
        session.expect_pong(octets(length))
    session.close()


@case(
    "2.20",
    PINGS,
    MUST,
    ANSWER,
    sends="a Ping, a text message, and a Ping in one write",
    expects="two Pongs and the echo; NON-STRICT: the echo first; INFORMATIONAL: one Pong",
)
def pings_around_message(test: Test) -> None:
    session = test.open()
    deliver(session, [F(b"one", PING), F(b"text"), F(b"two", PING)])
    answers: list[tuple[int, bytes]] = []
    while not {(TEXT, b"text"), (PONG, b"two")} <= set(answers):
        frame = session.read("two Pongs and an echo")
        if (frame.opcode, frame.payload) not in ((PONG, b"one"), (TEXT, b"text"), (PONG, b"two")):
            raise Failed(f"expected two Pongs and an echo, but received {frame}")
        answers.append((frame.opcode, frame.payload))
    session.close()
    if answers[0][0] == TEXT:
        raise NonStrict("a Ping was answered after a later message")
    if answers[0] != (PONG, b"one"):
        raise Informational(f"one of two Pings was answered: {NEWEST}")


@case(
    "2.21",
    PINGS,
    MUST,
    ANSWER,
    sends="the header of a Ping, then half of its payload, then the other half, with pauses",
    expects="nothing until the Ping is complete, then its Pong",
)
def ping_in_parts(test: Test) -> None:
    session = test.open()
    data = session.frame(text(100), PING)
    with session.in_parts():
        session.send(data[:6])
        session.expect_silence(0.1)
        session.send(data[6:50])
        session.expect_silence(0.1)
        session.send(data[50:])
    session.expect_pong(text(100))
    session.close()


EARLY = "RFC 6455 4.1"
WAIT = (
    "Once the client's opening handshake has been sent, the client MUST wait for a response from "
    "the server before sending any further data."
)


@case(
    "2.22",
    EARLY,
    MAY,
    WAIT,
    sends="a Ping in the segment of the handshake, which is not allowed, but proxies can cause it",
    expects="a Pong after the response; INFORMATIONAL: anything else",
)
def ping_with_handshake(test: Test) -> None:
    session = test.open(ahead=wire.frame(b"early", PING))
    session.expect_pong(b"early")
    session.close()
