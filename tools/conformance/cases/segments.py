# SPDX-License-Identifier: MIT
"""Every split of frames, group S: S.2 splits frames, S.4 puts many frames into one segment and one
message into many segments.

Short frames are split at every position over a single connection. Frames that end the connection
use many connections.
"""

from __future__ import annotations

from typing import Sequence

from .. import wire
from ..case import MUST, SHOULD, Run, Test, add, case
from ..session import Session
from ..verdicts import Cut, Failed, Informational, Skipped
from ..wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT
from .flow import FRAMES, RECEIVING, expect_last_close
from .heads import expect_served
from .splits import HUNDRED, MIXED, MIXED_ANSWERS, PATIENCE, PIECES, each_cut, expect_all
from .steps import F, expect_pong_and_echo, octets, text

PAUSE = 0.002  # seconds between two writes, so that they arrive separately

# ---- S.2: frames --------------------------------------------------------------------------------

CHARACTERS = "aäß€𐍈z".encode()
"""Characters of one to four bytes in UTF-8."""


def cut_at(session: Session, data: bytes, *cuts: int) -> None:
    """Send data in parts."""
    ends = [0, *cuts, len(data)]
    for start, end in zip(ends, ends[1:]):
        session.send(data[start:end])
        session.test.pause(PAUSE)


def expect_each(
    session: Session, payload: bytes, opcode: int, places: Sequence[tuple[int, ...]]
) -> None:
    """Send a message with each list of splits, each after the previous echo, or raise Failed.

    If the peer is far away, several are in flight, so that the case ends in time.
    """
    data = session.frame(payload, opcode)
    ahead = int(session.test.settings.manners.round_trip / 0.01)
    for number in range(len(places) + ahead):
        if number < len(places):
            cut_at(session, data, *places[number])
        if number >= ahead:
            session.expect_message(payload, opcode)


def echoed_at(payload: bytes, opcode: int, cuts: Sequence[int] = ()) -> Run:
    """Send a message in two writes, split at every position, or at the given ones."""

    def run(test: Test) -> None:
        session = test.open()
        places = cuts or range(1, len(session.frame(payload, opcode)))
        expect_each(session, payload, opcode, [(place,) for place in places])
        session.close()

    return run


for number, what, opcode, payload in (
    (1, "an empty text message", TEXT, b""),
    (2, "a text message of 1 byte", TEXT, b"x"),
    (3, "a text message of 13 bytes", TEXT, b"Hello, world!"),
    (4, "characters of one to four bytes", TEXT, CHARACTERS),
    (5, "a binary message of 125 bytes", BINARY, octets(125)),
    (6, "a binary message of 126 bytes", BINARY, octets(126)),
    (7, "a text message of 200 bytes", TEXT, text(200)),
):
    add(
        f"S.2.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"{what} in two writes, split at every position",
        "its echo each time",
        echoed_at(payload, opcode),
    )
add(
    "S.2.8", RECEIVING, MUST, FRAMES,
    "a binary message of 65536 bytes in two writes, split at each of the first 20 octets, in the "
    "middle, and at each of the last 3",
    "its echo each time", echoed_at(octets(65536), BINARY, [*range(1, 21), 32768, -3, -2, -1]),
)  # fmt: skip


@case(
    "S.2.9",
    RECEIVING,
    MUST,
    FRAMES,
    sends="a text message of 130 bytes in three writes, every pair of splits in its first 9 octets",
    expects="its echo each time",
)
def header_in_three(test: Test) -> None:
    session = test.open()
    places = [(first, second) for second in range(2, 10) for first in range(1, second)]
    expect_each(session, text(130), TEXT, places)
    session.close()


def sequence_at(frames: Sequence[F], answers: Sequence[tuple[int, bytes]]) -> Run:
    """Send frames in two writes, split at every position; for answers see `expect_all`."""

    def run(test: Test) -> None:
        session = test.open()
        data = b"".join(frame.bytes(session) for frame in frames)
        for cut in range(1, len(data)):
            cut_at(session, data, cut)
            expect_all(session, answers)
        session.close()

    return run


for number, what, frames, answers in (
    (10, "a Ping of 5 bytes", (F(b"alive", PING),), ((PONG, b"alive"),)),
    (11, "a Pong and a message", (F(b"x", PONG), F(b"after")), ((TEXT, b"after"),)),
    (12, "a message in three fragments", PIECES, ((TEXT, b"Hello"),)),
    (13, "a message whose fragments split characters",
     (F(CHARACTERS[:2], fin=False), F(CHARACTERS[2:9], CONTINUATION, fin=False),
      F(CHARACTERS[9:], CONTINUATION)), ((TEXT, CHARACTERS),)),
    (14, "empty fragments", (F(fin=False), F(b"", CONTINUATION, fin=False), F(b"", CONTINUATION)),
     ((TEXT, b""),)),
    (15, "two messages", (F(b"first"), F(b"second", BINARY)),
     ((TEXT, b"first"), (BINARY, b"second"))),
    (16, "messages, a Pong and a Ping", MIXED, MIXED_ANSWERS),
):  # fmt: skip
    add(
        f"S.2.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"{what} in two writes, split at every position",
        "the same answers each time",
        sequence_at(frames, answers),
    )


@case(
    "S.2.17",
    RECEIVING,
    MUST,
    FRAMES,
    sends="a Ping between two fragments in two writes, split at every position",
    expects="the Pong and the echo each time",
)
def ping_between(test: Test) -> None:
    session = test.open()
    frames = (F(b"Hel", fin=False), F(b"?", PING), F(b"lo", CONTINUATION))
    data = b"".join(frame.bytes(session) for frame in frames)
    for cut in range(1, len(data)):
        cut_at(session, data, cut)
        expect_pong_and_echo(session, b"?", b"Hello")
    session.close()


@case(
    "S.2.18",
    RECEIVING,
    MUST,
    FRAMES,
    sends="messages, a Pong and a Ping octet by octet, with a pause after each",
    expects="the echoes in order, and the Pong",
)
def mixed_octets(test: Test) -> None:
    session = test.open()
    data = b"".join(frame.bytes(session) for frame in MIXED)
    session.send(data, pieces=1, pause=PAUSE * test.settings.scale)
    expect_all(session, MIXED_ANSWERS)
    session.close()


def end_of(session: Session) -> str:
    """Return how the server ends the connection, or raise Failed if it does not."""
    wanted = "a Close or the end of TCP"
    try:
        frame = session.read(wanted)
    except Cut:
        return "the end of TCP"
    if frame.opcode != CLOSE:
        raise Failed(f"expected {wanted}, but received {frame}")
    return "a Close without a code" if frame.close_code is None else f"a Close {frame.close_code}"


def ended_at(frames: Sequence[bytes]) -> Run:
    """Expect that frames end a connection in two writes as they do in one, for each split.

    Raises NonStrict if the end differs, and Skipped if the frames in one write do not end the
    connection. Long frames are split at their first octets.
    """

    def run(test: Test) -> None:
        test.patience = PATIENCE
        sessions: dict[wire.Connection, Session] = {}

        def opened() -> wire.Connection:
            session = test.open()
            sessions[session.connection] = session
            return session.connection

        data = b"".join(frames)
        connection = opened()
        connection.send(data)
        try:
            whole = end_of(sessions[connection])
        except Failed as error:
            raise Skipped(f"in one write: {error}") from None
        connection.close()
        for cut, connection in each_cut(test, data, range(1, min(len(data), 32)), opened):
            try:
                parts = end_of(sessions[connection])
            except Failed as error:
                raise Failed(f"{whole} in one write; split at {cut}: {error}") from None
            if parts != whole:
                test.lax = test.lax or f"{whole} in one write, {parts} when split at {cut}"

    return run


for number, what, ending in (
    (19, "a Close with a code and a reason", [(wire.close_payload(1000, b"done"), CLOSE)]),
    (20, "a frame with a reserved bit", [(b"x", TEXT, True, 4)]),
    (21, "a frame with opcode 3", [(b"x", 3)]),
    (22, "a continuation without a message", [(b"x", CONTINUATION)]),
    (23, "a fragment of a Ping", [(b"x", PING, False)]),
    (24, "a Ping of 126 bytes", [(b"x" * 126, PING)]),
    (25, "a message within another", [(b"x", TEXT, False), (b"y", TEXT)]),
    (26, "a Close with half a code", [(b"\x03", CLOSE)]),
    (27, "a Close with code 999", [(wire.close_payload(999), CLOSE)]),
    (28, "a text that is not UTF-8", [(b"a\xc0\xafb", TEXT)]),
    (29, "a text that ends within a character", [(b"ab\xe2\x82", TEXT)]),
    (30, "a Close whose reason is not UTF-8", [(b"\x03\xe8\xff", CLOSE)]),
    (31, "an unmasked frame", [(b"x", TEXT, True, 0, None)]),
):
    add(
        f"S.2.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"{what} in one write, then in two writes, split at every position up to the 31st",
        "the connection ends in the same way each time",
        ended_at([wire.frame(*frame) for frame in ending]),
    )

# ---- S.4: many frames in one segment, one message in many ---------------------------------------


def served(payloads: Sequence[bytes], how: int | None, size: int | None, pause: float = 0.0) -> Run:
    """Send text messages in fragments of `size` bytes and writes of `how` bytes."""

    def run(test: Test) -> None:
        session = test.open()
        data = b"".join(session.message(payload, size=size) for payload in payloads)
        session.send(data, how or None, pause * test.settings.scale)
        for payload in payloads:
            session.expect_message(payload)
        session.close()

    return run


for number, what, payloads, how, size, pause in (
    (1, "100 messages in one write", HUNDRED, None, None, 0.0),
    (2, "100 messages in writes of 7 octets", HUNDRED, 7, None, 0.0),
    (3, "100 empty messages in one write", [b""] * 100, None, None, 0.0),
    (4, "a message in 1000 fragments in one write", [text(1000)], None, 1, 0.0),
    (5, "10 messages in fragments of 3 bytes, in writes of 5", HUNDRED[:10], 5, 3, 0.0),
    (6, "a message of 4096 bytes octet by octet", [text(4096)], 1, None, 0.0),
    (7, "a message of 16000 bytes in writes of 160 octets", [text(16000)], 160, None, 0.001),
    (8, "characters of one to four bytes, 12000 bytes in writes of 5 octets",
     [CHARACTERS * 1000], 5, None, 0.0),
    (9, "a message in 64 fragments, each in its own write", [text(640)], 16, 10, 0.001),
):  # fmt: skip
    add(
        f"S.4.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        what,
        "the echoes, complete and in order",
        served(payloads, how, size, pause),
    )


@case(
    "S.4.10",
    RECEIVING,
    MUST,
    FRAMES,
    sends="50 messages of 0 to 300 bytes, text and binary, in writes of random lengths",
    expects="the echoes, complete and in order",
)
def random_writes(test: Test) -> None:
    session = test.open()
    messages = [(text(test.random.randrange(301)), test.random.choice((TEXT, BINARY)))
                for _ in range(50)]  # fmt: skip
    data = b"".join(session.message(payload, opcode) for payload, opcode in messages)
    while data:
        length = test.random.choice((1, 2, 3, 5, 8, 130, 700))
        session.send(data[:length])
        data = data[length:]
    for payload, opcode in messages:
        session.expect_message(payload, opcode)
    session.close()


@case(
    "S.4.11",
    "RFC 6455 5.5.1",
    MUST,
    "the endpoint MUST send a Close frame in response.",
    sends="a message and a Close in one write",
    expects="the echo, and a Close with the same code",
)
def message_and_close(test: Test) -> None:
    session = test.open()
    close = session.frame(wire.close_payload(1000), CLOSE)
    session.send(session.message(b"last words") + close)
    frame = session.read("the echo or a Close")
    if frame.opcode == CLOSE:
        session.expect_end()
        raise Informational("the connection is closed before the message is echoed")
    if session.read_rest(frame, "the echo") != (TEXT, 0, b"last words"):
        raise Failed(f"expected the echo, but received {frame}")
    session.expect_close(1000)


BEHIND = (
    "after receiving a control frame indicating the connection should be closed, a peer discards "
    "any further data received."
)
for number, what, behind in (
    (12, "a message", F(b"too late")),
    (13, "a Ping", F(b"too late", PING)),
    (14, "another Close", F(wire.close_payload(1001), CLOSE)),
    (15, "a frame with reserved bits", F(b"too late", rsv=7)),
    (16, "half a frame", F(b"too late", length=100)),
):

    def discarded(test: Test, behind: F = behind) -> None:
        session = test.open()
        close = session.frame(wire.close_payload(1000), CLOSE)
        session.send(close + behind.bytes(session))
        expect_last_close(session, 1000)

    add(
        f"S.4.{number}",
        "RFC 6455 1.4",
        SHOULD,
        BEHIND,
        f"a Close and {what} in one write",
        "a Close with the same code and nothing else",
        discarded,
    )
for number, what, at in (
    (17, "in the head of a frame", 1),
    (18, "in the masking key", 4),
    (19, "in the payload", 9),
    (20, "between two fragments", 11),
):

    def paused(test: Test, at: int = at) -> None:
        session = test.open()
        data = session.message(b"HelloHello", size=5)
        session.send(data[:at])
        expect_served(test)
        test.pause(0.1)
        session.send(data[at:])
        session.expect_message(b"HelloHello")
        session.close()

    add(
        f"S.4.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"a message with a pause {what}, during which another connection is opened and echoes",
        "both echoes",
        paused,
        ["several"],
    )


@case(
    "S.4.21",
    RECEIVING,
    MUST,
    FRAMES,
    sends="two messages on 16 connections, each octet to all connections before the next octet",
    expects="the echoes on each connection",
    tags=["several"],
)
def interleaved(test: Test) -> None:
    test.patience = PATIENCE
    sessions = [test.open() for _ in range(16)]
    payloads = [b"one of %d" % i for i in range(16)]
    data = [s.message(p) + s.message(p[::-1]) for s, p in zip(sessions, payloads)]
    for i in range(max(map(len, data))):
        for session, frames in zip(sessions, data):
            session.send(frames[i : i + 1])
    for session, payload in zip(sessions, payloads):
        session.expect_message(payload)
        session.expect_message(payload[::-1])
