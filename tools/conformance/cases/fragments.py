# SPDX-License-Identifier: MIT
"""Fragmentation (group 5): messages in several frames, control frames between them, and frames in
the wrong order.
"""

from __future__ import annotations

from typing import Sequence

from ..case import MUST, Test, add, case
from ..wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload
from .steps import (
    BY_FRAME,
    HOW,
    VALIDATED,
    F,
    deliver,
    expect_pong_and_echo,
    failed,
    failed_after,
    joined,
    octets,
    text,
)

SECTION = "RFC 6455 5.4"
BROKEN = f"{SECTION} and 10.7"
CONTROL = f"Control frames themselves MUST NOT be fragmented. {VALIDATED}"
SUPPORT = "Clients and servers MUST support receiving both fragmented and unfragmented messages."
BETWEEN = (
    "An endpoint MUST be capable of handling control frames in the middle of a fragmented message."
)
NOT_MIXED = (
    "The fragments of one message MUST NOT be interleaved between the fragments of another message "
    "unless an extension has been negotiated that can interpret the interleaving. " + VALIDATED
)
CONSISTS = (
    "A fragmented message consists of a single frame with the FIN bit clear and an opcode other "
    "than 0, followed by zero or more frames with the FIN bit clear and the opcode set to 0, and "
    "terminated by a single frame with the FIN bit set and an opcode of 0. " + VALIDATED
)
IS_FAILED = "the connection is failed with 1002"
ECHO = "its echo"
WRITES = (None, BY_FRAME, 1)  # the three ways of delivery in the Autobahn suite


def start(payload: bytes, opcode: int = TEXT) -> F:
    return F(payload, opcode, fin=False)


def middle(payload: bytes) -> F:
    return F(payload, CONTINUATION, fin=False)


def last(payload: bytes) -> F:
    return F(payload, CONTINUATION)


def wrong(id: str, rule: str, sends: str, *frames: F, how: int | None = None) -> None:
    add(id, BROKEN, MUST, rule, sends, IS_FAILED, failed(frames, 1002, how=how))


ONE, TWO = start(b"fragment1"), last(b"fragment2")
PLAIN = F(b"Hello, world!")

# ---- control frames in fragments ----------------------------------------------------------------

for id, opcode, name in (("5.1", PING, "Ping"), ("5.2", PONG, "Pong")):
    wrong(id, CONTROL, f"a {name} in two fragments", start(b"fragment1", opcode), TWO)

# ---- two fragments with a Ping between them -----------------------------------------------------


def add_two(number: int, how: int | None) -> None:
    add(
        f"5.{number}",
        SECTION,
        MUST,
        SUPPORT,
        f"a text message in two fragments, {HOW[how]}",
        ECHO,
        joined([ONE, TWO], b"fragment1fragment2", how=how),
    )


def add_ping_between(number: int, how: int | None) -> None:
    @case(
        f"5.{number}",
        SECTION,
        MUST,
        BETWEEN,
        sends=f"a text message in two fragments, a Ping between them, {HOW[how]}",
        expects="a Pong, then the echo of the message; NON-STRICT: the Pong after it",
    )
    def ping_between(test: Test) -> None:
        session = test.open()
        deliver(session, [ONE, F(b"ping payload", PING), TWO], how)
        expect_pong_and_echo(session, b"ping payload", b"fragment1fragment2")
        session.close()


for number, how in enumerate(WRITES):
    add_two(3 + number, how)
    add_ping_between(6 + number, how)

# ---- continuations without a message ------------------------------------------------------------

for number, how in enumerate(WRITES):
    wrong(
        f"5.{9 + number}",
        CONSISTS,
        f"a continuation with FIN 1 while no message is open, then a text message, {HOW[how]}",
        last(b"nothing to continue"),
        PLAIN,
        how=how,
    )
    wrong(
        f"5.{12 + number}",
        CONSISTS,
        f"a continuation with FIN 0 while no message is open, then a text message, {HOW[how]}",
        middle(b"nothing to continue"),
        PLAIN,
        how=how,
    )
add(
    "5.15",
    BROKEN,
    MUST,
    CONSISTS,
    "a text message in two fragments, a continuation with FIN 0, and a text message, in one write",
    "the echo of the first message, then the connection is failed with 1002",
    failed_after(b"fragment1fragment2", [ONE, TWO, middle(b"fragment3"), F(b"fragment4")], 1002),
)
TWICE = "then a text message in two fragments, and all of it again"
REST = [start(b"fragment2"), last(b"fragment3")]
wrong(
    "5.16",
    CONSISTS,
    f"a continuation with FIN 0 while no message is open, {TWICE}",
    *[middle(b"fragment1"), *REST] * 2,
)
wrong(
    "5.17",
    CONSISTS,
    f"a continuation with FIN 1 while no message is open, {TWICE}",
    *[last(b"fragment1"), *REST] * 2,
)
wrong(
    "5.18",
    CONSISTS,
    "a text message in two fragments that both have the text opcode",
    ONE,
    F(b"fragment2"),
)


# ---- Pings that must be answered before the message ends ----------------------------------------


def add_pings(id: str, how: int | None) -> None:
    @case(
        id,
        SECTION,
        MUST,
        BETWEEN,
        sends="two fragments and a Ping, after the Pong two more and a Ping, the last fragment, "
        + HOW[how],
        expects="a Pong while the message is incomplete, a Pong for the second Ping, the echo",
    )
    def pings(test: Test) -> None:
        session = test.open()
        deliver(session, [ONE, middle(b"fragment2"), F(b"pongme 1!", PING)], how)
        session.expect_pong(b"pongme 1!")
        session.expect_silence(0.1)
        second = [middle(b"fragment3"), middle(b"fragment4"), F(b"pongme 2!", PING)]
        deliver(session, [*second, last(b"fragment5")], how)
        whole = b"fragment1fragment2fragment3fragment4fragment5"
        expect_pong_and_echo(session, b"pongme 2!", whole)
        session.close()


add_pings("5.19", None)
add_pings("5.20", BY_FRAME)

# ---- 5.21 and later: not in the Autobahn suite --------------------------------------------------

wrong("5.21", CONTROL, "a Ping with FIN 0 and nothing else", start(b"ping", PING))
wrong(
    "5.22",
    CONTROL,
    "a Close in two fragments",
    F(close_payload(1000), CLOSE, fin=False),
    last(b"reason"),
)
wrong(
    "5.23",
    CONTROL,
    "a Ping with FIN 0 between the fragments of a message",
    ONE,
    start(b"ping", PING),
    TWO,
)
MIXES: list[tuple[str, Sequence[F]]] = [
    ("text message, then the beginning of another one", [ONE, start(b"fragment2")]),
    ("text message, then a binary message", [ONE, F(b"binary", BINARY)]),
    ("text message, then a whole binary one", [ONE, start(b"binary", BINARY), last(b"")]),
    ("binary message, then a text message", [start(octets(9), BINARY), PLAIN]),
    ("text message, a Pong, and the beginning of another", [ONE, F(b"", PONG), start(b"")]),
    ("text message, empty, then a text message", [start(b""), PLAIN]),
]
for number, (what, frames) in enumerate(MIXES, 24):
    wrong(f"5.{number}", NOT_MIXED, f"the beginning of a {what}", *frames)
wrong("5.30", CONSISTS, "an empty continuation with FIN 1 while no message is open", last(b""))
add(
    "5.31",
    BROKEN,
    MUST,
    CONSISTS,
    "a whole text message, then a continuation with FIN 1",
    "the echo, then the connection is failed with 1002",
    failed_after(PLAIN.payload, [PLAIN, last(b"more")], 1002),
)

WHOLES: list[tuple[str, Sequence[F], bytes, int]] = [
    (
        "a binary message in three fragments",
        [start(octets(300), BINARY), middle(octets(300)), last(octets(300))],
        octets(300) * 3,
        BINARY,
    ),
    (
        "a text message whose first fragment is empty",
        [start(b""), last(b"fragment2")],
        b"fragment2",
        TEXT,
    ),
    (
        "a text message whose last fragment is empty",
        [ONE, last(b"")],
        b"fragment1",
        TEXT,
    ),
    (
        "a text message in 1000 fragments, all empty except one",
        [start(b""), *[middle(b"")] * 499, middle(b"one"), *[middle(b"")] * 498, last(b"")],
        b"one",
        TEXT,
    ),
    (
        "a text message with a fragment of each form of the length",
        [start(text(5)), middle(text(126)), middle(text(10000)), last(text(125))],
        text(5) + text(126) + text(10000) + text(125),
        TEXT,
    ),
    (
        "a text message in three fragments, with a Pong after each except the last",
        [ONE, F(b"a", PONG), middle(b"fragment2"), F(b"", PONG), last(b"fragment3")],
        b"fragment1fragment2fragment3",
        TEXT,
    ),
]
for number, (what, frames, payload, opcode) in enumerate(WHOLES, 32):
    add(f"5.{number}", SECTION, MUST, SUPPORT, what, ECHO, joined(frames, payload, opcode))


@case(
    "5.38",
    SECTION,
    MUST,
    SUPPORT,
    sends="a 12-byte text message in two fragments, split at each position in turn",
    expects="an echo of each",
)
def every_two(test: Test) -> None:
    session = test.open()
    data = text(12)
    for i in range(13):
        deliver(session, [start(data[:i]), last(data[i:])])
    for _ in range(13):
        session.expect_message(data)
    session.close()


@case(
    "5.39",
    SECTION,
    MUST,
    SUPPORT,
    sends="an 8-byte binary message in three fragments, split at each pair of positions in turn",
    expects="an echo of each",
)
def every_three(test: Test) -> None:
    session = test.open()
    data = octets(8)
    places = [(i, j) for i in range(9) for j in range(i, 9)]
    for i, j in places:
        deliver(session, [start(data[:i], BINARY), middle(data[i:j]), last(data[j:])])
    for _ in places:
        session.expect_message(data, BINARY)
    session.close()


@case(
    "5.40",
    SECTION,
    MUST,
    SUPPORT,
    sends="text in fragments, binary in one frame, binary in fragments, and text in one frame",
    expects="four echoes of the same types: no state of a message affects the next",
)
def types_in_turn(test: Test) -> None:
    session = test.open()
    data = octets(9)
    deliver(session, [ONE, TWO, F(data, BINARY), start(data, BINARY), last(data), PLAIN])
    session.expect_message(b"fragment1fragment2")
    session.expect_message(data, BINARY)
    session.expect_message(data * 2, BINARY)
    session.expect_message(PLAIN.payload)
    session.close()


@case(
    "5.41",
    SECTION,
    MUST,
    BETWEEN,
    sends="the first fragment of a message, ten Pings of 125 bytes, each after the previous Pong, "
    "and the last fragment",
    expects="ten Pongs, then the echo",
)
def large_pings_between(test: Test) -> None:
    session = test.open()
    deliver(session, [ONE])
    for i in range(10):
        deliver(session, [F(bytes([i]) * 125, PING)])
        session.expect_pong(bytes([i]) * 125)
    deliver(session, [TWO])
    session.expect_message(b"fragment1fragment2")
    session.close()


@case(
    "5.42",
    SECTION,
    MUST,
    SUPPORT,
    sends="the first fragment of a message and, after a long pause, the last one",
    expects="nothing between them, then the echo",
)
def pause_between(test: Test) -> None:
    session = test.open()
    deliver(session, [ONE])
    session.expect_silence(0.2)
    deliver(session, [TWO])
    session.expect_message(b"fragment1fragment2")
    session.close()
