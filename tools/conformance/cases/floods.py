# SPDX-License-Identifier: MIT
"""Floods, group F: many frames with little or no data (F.1), and many connections (F.2).

The server has to serve another connection during a flood. The cases cannot see how much memory a
flood takes. A server may limit the number of connections, but it has to serve new ones after they
have closed.

The counts are chosen so that a case takes less than two seconds with a server that handles 5000
frames per second.
"""

from __future__ import annotations

from typing import Callable, Sequence

from .. import wire
from ..case import MUST, Run, Test, add
from ..session import Session
from ..verdicts import Busy, Cut, Failed, Informational, Late, Skipped
from ..wire import CLOSE, CONTINUATION, PING, PONG, TEXT
from .flow import (
    FRAMES,
    NOT_SERVED,
    PONG_RULE,
    RECEIVING,
    SEVERAL,
    expect_beside,
    expect_pongs,
    expect_served_soon,
    may_close,
    numbered,
    read_or_limit,
    refused_handshake,
)
from .heads import expect_served, handshake

FRAGMENTED = "Clients and servers MUST support receiving both fragmented and unfragmented messages."
BETWEEN = (
    "An endpoint MUST be capable of handling control frames in the middle of a fragmented message."
)
PATIENCE = 3.0
"""A factor for the time of an answer, because a flood has to be handled first."""

# ---- F.1: frames with little data ---------------------------------------------------------------


def flood(make: Callable[[Session], bytes], after: Callable[[Session], None]) -> Run:
    """Flood one connection, expect an echo on another, then check the answers to the flood."""

    def run(test: Test) -> None:
        test.patience = PATIENCE
        other, session = test.open(), test.open()
        session.pour(make(session))
        other.send(other.message(b"beside a flood"))
        other.expect_message(b"beside a flood")
        with may_close():
            after(session)
        other.close()

    return run


def fragments(part: bytes, count: int, end: bool = True) -> Callable[[Session], bytes]:
    """Return a text message in that many frames, and perhaps a last one."""

    def make(session: Session) -> bytes:
        more = session.frame(part, CONTINUATION, fin=False) * (count - 1)
        last = session.frame(b"", CONTINUATION) if end else b""
        return session.frame(part, TEXT, fin=False) + more + last

    return make


def repeated(payload: bytes, opcode: int, count: int) -> Callable[[Session], bytes]:
    return lambda session: session.frame(payload, opcode) * count


def same_echoes(payload: bytes, count: int) -> Callable[[Session], None]:
    """Expect that many equal echoes, or raise Informational if some are missing."""

    def after(session: Session) -> None:
        for i in range(count):
            if not session.answers():
                raise Informational(f"received {i} of {count} echoes")
            session.expect_message(payload)
        session.close()

    return after


def one_echo(payload: bytes) -> Callable[[Session], None]:
    """Expect one echo, or raise Informational if the server closes instead."""

    def after(session: Session) -> None:
        frame = read_or_limit(session, "one echo")
        came = session.read_rest(frame, "one echo")
        if came != (TEXT, 0, payload):
            raise Failed(f"expected the echo of {wire.shown(payload)}, but received {frame}")
        session.close()

    return after


def unfinished(session: Session) -> None:
    """Expect nothing, as the message does not end, or raise Failed.

    Raises Informational if the server closes, or echoes fragments as they arrive.
    """
    try:
        frame = read_or_limit(session, "nothing", session.test.seconds(0.1))
    except Late:
        return session.close()
    if frame.opcode in (TEXT, CONTINUATION) and not frame.fin:
        raise Informational(f"the server echoes fragments as they arrive: {frame}")
    raise Failed(f"expected nothing, but received {frame}")


def echo_behind_pongs(session: Session) -> None:
    """Expect the echo of a message, or raise Failed, or NonStrict if the Pongs are answered."""
    frame = read_or_limit(session, "the echo after the Pongs", every=True)
    while frame.opcode == PONG:
        session.test.lax = f"expected no answer to a Pong, but received {frame}"
        frame = read_or_limit(session, "the echo after the Pongs", every=True)
    if session.read_rest(frame, "the echo after the Pongs") != (TEXT, 0, b"behind"):
        raise Failed(f"expected the echo of 'behind', but received {frame}")
    session.close()


def many_pongs(session: Session) -> bytes:
    return session.frame(b"pong!", PONG) * 10000 + session.message(b"behind")


def pongs(payloads: Sequence[bytes]) -> Callable[[Session], None]:
    return lambda session: expect_pongs(session, payloads)


def pings(payloads: Sequence[bytes]) -> Callable[[Session], bytes]:
    return lambda session: b"".join(session.frame(payload, PING) for payload in payloads)


def pings_between(session: Session) -> bytes:
    """Return 2000 fragments, each followed by a Ping."""
    pair = session.frame(b"x", CONTINUATION, fin=False) + session.frame(b"", PING)
    start = session.frame(b"", TEXT, fin=False)
    return start + pair * 2000 + session.frame(b"", CONTINUATION)


def pongs_and_echo(session: Session) -> None:
    """Expect Pongs, and the echo before, among or after them, or raise Failed or Informational."""
    wanted = {PONG, TEXT}
    while wanted:
        frame = read_or_limit(session, "Pongs and an echo")
        wanted.discard(frame.opcode)
        if frame.opcode != PONG and session.read_rest(frame, "an echo") != (TEXT, 0, b"x" * 2000):
            raise Failed(f"expected the echo of 2000 bytes, but received {frame}")


PINGS = numbered(4000, 5)
LONG_PINGS = numbered(2000, 125)
for number, section, quote, what, make, expects, after in (
    (1, "RFC 6455 5.4", FRAGMENTED, "a message in 10000 empty fragments", fragments(b"", 10000),
     "one empty message", one_echo(b"")),
    (2, "RFC 6455 5.4", FRAGMENTED, "10000 empty fragments of a message that does not end",
     fragments(b"", 10000, end=False), "nothing", unfinished),
    (3, "RFC 6455 5.4", FRAGMENTED, "a message in 10000 fragments of 1 byte",
     fragments(b"x", 10000), "one message", one_echo(b"x" * 10000)),
    (4, "RFC 6455 5.5.2", PONG_RULE, "4000 Pings of 5 bytes", pings(PINGS),
     "Pongs, including the last one", pongs(PINGS)),
    (5, "RFC 6455 5.5.2", PONG_RULE, "2000 Pings of 125 bytes", pings(LONG_PINGS),
     "Pongs, including the last one", pongs(LONG_PINGS)),
    (6, RECEIVING, FRAMES, "10000 Pongs of 5 bytes and a message", many_pongs,
     "the echo of the message; NON-STRICT: Pongs", echo_behind_pongs),
    (7, RECEIVING, FRAMES, "2000 messages of 1 byte", repeated(b"x", TEXT, 2000),
     "2000 echoes", same_echoes(b"x", 2000)),
    (8, RECEIVING, FRAMES, "2000 empty messages", repeated(b"", TEXT, 2000),
     "2000 echoes", same_echoes(b"", 2000)),
    (9, "RFC 6455 5.4", BETWEEN, "2000 fragments of 1 byte, a Ping after each",
     pings_between, "Pongs and one message", pongs_and_echo),
):  # fmt: skip
    add(
        f"F.1.{number}",
        section,
        MUST,
        quote,
        f"{what}, and immediately after them a message on another connection",
        f"the echo there, and here {expects}, or the server closes this connection",
        flood(make, after),
        SEVERAL,
    )

# ---- F.2: many connections ----------------------------------------------------------------------


def crowd(count: int, come: Callable[[Test], object]) -> Run:
    """Open that many connections, then another one, and one more after all have closed.

    The server may be too busy for the additional one while the others are open.
    """

    def run(test: Test) -> None:
        busy = ""
        try:
            for _ in range(count):
                come(test)
            expect_served(test)
        except NOT_SERVED as error:
            busy = f"with {len(test.connections)} connections: {error}"
        for connection in test.connections:
            connection.close()
        if busy:
            expect_served_soon(test)
            raise Informational(busy)

    return run


def one_by_one(count: int, come: Callable[[Test], object]) -> Run:
    """Open that many connections one after another, then one more."""

    def run(test: Test) -> None:
        come(test)
        for _ in range(count - 1):
            try:
                come(test)
            except Busy:
                raise
            except Skipped as error:
                raise Failed(f"different from before: {error}") from None
        expect_served(test)

    return run


def beside(count: int, come: Callable[[Test], object]) -> Run:
    """Do the same while another connection is open, which must continue to work."""

    def run(test: Test) -> None:
        bystander = test.open()
        for _ in range(count):
            come(test)
        expect_beside(bystander)

    return run


def connects(test: Test) -> None:
    test.connect()


def half_asks(test: Test) -> None:
    test.connect().send(b"GET / HTTP/1.1\r\nHost: ")


def opens(test: Test) -> None:
    test.open()


def comes_and_goes(test: Test) -> None:
    test.connect().close()


def opens_and_closes(test: Test) -> None:
    """Raise Skipped if the server does not answer a Close, which would take too long."""
    session = test.open()
    session.send(session.frame(wire.close_payload(1000), CLOSE))
    try:
        session.read("a Close")
    except Cut:
        pass
    except Late as error:
        raise Skipped(str(error)) from None
    session.connection.close()


def opens_and_resets(test: Test) -> None:
    test.open().connection.reset()


def is_refused(test: Test) -> None:
    refused_handshake(test).close()


def asks_and_resets(test: Test) -> None:
    connection = test.connect()
    connection.send(handshake(test))
    connection.reset()


ONE_MORE = "another connection is opened, echoes, and is closed"
AT_A_TIME = f"{ONE_MORE}; INFORMATIONAL: only after the others have closed"
BESIDE = f"a connection that was open before still echoes, and {ONE_MORE}"
for number, many, count, what, come, expects, tags in (
    (1, crowd, 64, "connections on which nothing is sent", connects, AT_A_TIME, SEVERAL),
    (2, one_by_one, 64, "connections that open and close", comes_and_goes, ONE_MORE, []),
    (3, crowd, 64, "connections with half a request", half_asks, AT_A_TIME, SEVERAL),
    (4, crowd, 64, "idle open connections", opens, AT_A_TIME, SEVERAL),
    (5, one_by_one, 50, "connections with both handshakes, one after another", opens_and_closes,
     ONE_MORE, []),
    (6, beside, 64, "open connections that are reset", opens_and_resets, BESIDE, SEVERAL),
    (7, one_by_one, 50, "handshakes without a key; SKIPPED unless they are refused", is_refused,
     ONE_MORE, []),
    (8, beside, 64, "handshakes, each reset before its response is read", asks_and_resets, BESIDE,
     SEVERAL),
):  # fmt: skip
    add(
        f"F.2.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"{count} {what}, then another connection",
        expects,
        many(count, come),
        tags,
    )
