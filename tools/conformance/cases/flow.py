# SPDX-License-Identifier: MIT
"""Backpressure and slow readers, group B.

A peer that asks for much data and reads little or nothing must neither crash the server nor delay
other connections. The server may stop reading, drop whole answers, or close that connection; the
last two are INFORMATIONAL. But every answer that it sends has to be complete and in order.

The counts are chosen so that a case takes less than two seconds with a server that handles 5000
frames per second.
"""

from __future__ import annotations

import selectors
import socket
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Sequence

from .. import wire
from ..case import MUST, Run, Test, add, case
from ..session import TAKEN, Session
from ..verdicts import Busy, Closed, Cut, Failed, Informational, Judged, Late, NonStrict, Skipped
from ..wire import BINARY, CLOSE, PING, PONG, TEXT, Connection, Ended, Frame, Garbled, TimedOut
from .heads import expect_served, handshake
from .steps import exchange

FRAMES = "Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2."
PONG_RULE = (
    "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response, unless it "
    "already received a Close frame."
)
ANSWER = (
    "If an endpoint receives a Close frame and did not previously send a Close frame, the endpoint "
    "MUST send a Close frame in response."
)
RECEIVING = "RFC 6455 6.2"
SEVERAL = ["several"]

# ---- bodies of the cases ------------------------------------------------------------------------


@contextmanager
def may_close() -> Iterator[None]:
    """Raise Informational if the server closes the connection or ends TCP instead."""
    try:
        yield
    except (Closed, Cut, Ended) as error:
        raise Informational(str(error)) from None


def read_or_limit(
    session: Session, wanted: str, timeout: float | None = None, every: bool = False
) -> Frame:
    """Return what `Session.read` returns, or raise Failed.

    Raises Informational if the server closes or ends TCP, which is its limit for floods.
    """
    with may_close():
        frame = session.read(wanted, timeout, every)
    if frame.opcode == CLOSE:
        session.expect_end()
        raise Informational(f"closed: {frame}")
    return frame


class Numbered(Sequence[bytes]):
    """Distinct messages, built on demand because they would fill the memory together."""

    def __init__(self, count: int, size: int) -> None:
        self.numbers = range(count)
        self.size = size

    def __len__(self) -> int:
        return len(self.numbers)

    def __getitem__(self, at: Any) -> Any:
        if isinstance(at, slice):
            return [self.made(number) for number in self.numbers[at]]
        return self.made(self.numbers[at])

    def made(self, number: int) -> bytes:
        return (b"%d " % number).ljust(self.size, b".")


def numbered(count: int, size: int) -> list[bytes]:
    """Return all messages as a single block."""
    return list(Numbered(count, size))


def binary(session: Session, payloads: Sequence[bytes]) -> bytearray:
    """Return these payloads as Binary messages."""
    data = bytearray()
    for payload in payloads:
        data += session.message(payload, BINARY)
    return data


def narrow(connection: Connection) -> None:
    """Make the kernel's receive buffer small, but not smaller than a segment of loopback."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


def stuff(session: Session, data: bytes | bytearray) -> memoryview:
    """Send without reading until the server stops reading for a while; returns what is left.

    Nothing is left if the server has ended TCP, which the next read finds out.
    """
    connection, wait = session.connection, session.test.seconds(0.2)
    session.test.trace.add("sent", data, connection.number)
    view, at = memoryview(data), 0
    with selectors.DefaultSelector() as selector:
        selector.register(connection.socket, selectors.EVENT_WRITE)
        while at < len(data) and selector.select(connection.left(connection.deadline(wait))):
            try:
                at += connection.give(view[at : at + 65536])
            except Ended:
                session.test.trace.note("the peer accepts no more data")
                return view[:0]
    return view[at:]


def read_slowly(session: Session, size: int, pause: float, seconds: float) -> None:
    """Receive in small pieces for a while; received data stays in the buffer."""
    end = time.monotonic() + session.test.seconds(seconds)
    try:
        while time.monotonic() < end:
            session.connection.fill(end, size)
            session.test.pause(pause)
    except (Ended, TimedOut):
        pass


def next_message(session: Session, wanted: str) -> bytes | None:
    """Return the next message except Pongs (None: a Close), or raise Failed or Late."""
    while session.comes():
        try:
            frame = session.connection.read_frame()
        except Ended:
            return None
        session.check(frame)
        if frame.opcode == CLOSE:
            session.expect_end()
            return None
        if frame.opcode == PING:
            session.send(session.frame(frame.payload, PONG))
        elif frame.opcode != PONG:
            try:
                return session.read_rest(frame, wanted)[2]
            except (Closed, Cut):
                return None
    raise Late(f"expected {wanted}, but received nothing in time")


class Echoes:
    """Echoes that are expected in order; some may be missing."""

    def __init__(self, session: Session, payloads: Sequence[bytes], *more: bytes) -> None:
        self.session = session
        self.payloads = payloads
        self.more = more
        self.at = 0
        self.count = 0

    @property
    def wanted(self) -> bytes:
        at = self.at - len(self.payloads)
        return self.payloads[self.at] if at < 0 else self.more[at]

    def read(self) -> bool:
        """Read echoes up to the last one; returns whether it came before the connection ended.

        Raises Late if the peer pauses, after which this can be called again, and Failed for an echo
        that is corrupt or out of order.
        """
        total = len(self.payloads) + len(self.more)
        while self.at < total:
            wanted = f"the echo of {wire.shown(self.wanted)} or of a later one"
            came = next_message(self.session, wanted)
            if came is None:
                return False
            while self.at < total and self.wanted != came:
                self.at += 1
            if self.at == total:
                raise Failed(f"corrupt or out of order: {wire.shown(came)}")
            self.at, self.count = self.at + 1, self.count + 1
        return True


def expect_echoes(session: Session, payloads: Sequence[bytes]) -> None:
    """Expect that the server continues, or raise Failed, or Informational if echoes are missing.

    A last message is sent again if necessary, because the first answer may be dropped too.
    """
    last = b"the last one"
    session.comes(0.1)
    session.send(session.message(last, BINARY))
    echoes = Echoes(session, payloads, last)
    try:
        echoes.read()
    except Late:
        session.send(session.message(last, BINARY))
        if echoes.read():
            raise Informational("the last echoes are missing or late") from None
        raise Informational("the connection is closed before the last echo") from None
    if echoes.count <= len(payloads):
        raise Informational(f"received {echoes.count} of {len(payloads) + 1} echoes")


def expect_echoes_and_close(session: Session, payloads: Sequence[bytes]) -> None:
    """Expect echoes in order, then the answer to a Close, or raise Failed or NonStrict.

    The number of echoes depends on the server's speed. If much is unread, it may also give up
    before it reads the Close.
    """
    at = came = 0
    while True:
        try:
            frame = session.read("echoes and a Close")
            if frame.opcode == CLOSE:
                break
            payload = session.read_rest(frame, "an echo")[2]
        except Cut as error:
            # The server may not have read the Close.
            if came < len(payloads) and sum(map(len, payloads)) > TAKEN:
                return session.test.trace.note(
                    f"received {came} of {len(payloads)} echoes; {error}"
                )
            raise
        while at < len(payloads) and payloads[at] != payload:
            at += 1
        if at == len(payloads):
            raise Failed(f"corrupt or out of order: {wire.shown(payload)}")
        at, came = at + 1, came + 1
    expect_nothing_behind(session)
    session.test.trace.note(f"received {came} of {len(payloads)} echoes before {frame}")
    if came == len(payloads) and not session.is_answer(frame.close_code):
        raise NonStrict(f"expected a Close with 1000, but received {frame}")


def expect_last_close(session: Session, code: int) -> None:
    """Expect a Close with that code and nothing after it, or raise Failed or NonStrict."""
    frame = session.read(f"a Close with {code}")
    if frame.opcode != CLOSE:
        raise Failed(f"expected a Close with {code}, but received {frame}")
    expect_nothing_behind(session)
    if not session.is_answer(frame.close_code, code):
        raise NonStrict(f"expected a Close with {code}, but received {frame}")


def expect_nothing_behind(session: Session) -> None:
    """Expect no data after the Close of the server (RFC 6455 section 5.5.1), or raise Failed.

    Raises NonStrict for control frames, which that section does not mention.
    """
    if session.comes() and session.connection.buffer:
        frame = session.connection.read_frame()
        told = f"received {frame} after the Close of the server"
        raise Failed(told) if frame.opcode < CLOSE else NonStrict(told)
    session.expect_end()


def expect_pongs(session: Session, payloads: Sequence[bytes]) -> None:
    """Expect the Pong of the last Ping (RFC 6455 section 5.5.3), or raise Failed.

    Raises Informational for Pongs that answer no Ping or are out of order, because an endpoint may
    send unsolicited ones.
    """
    wanted = f"a Pong with {wire.shown(payloads[-1])}"
    places = {payload: at for at, payload in enumerate(payloads)}
    at, odd = -1, ""
    while at < len(payloads) - 1:
        frame = read_or_limit(session, wanted)
        if frame.opcode != PONG:
            raise Failed(f"expected {wanted}, but received {frame}")
        place = places.get(frame.payload, -1)
        if place <= at:
            odd = odd or f"unexpected or out of order: {frame}"
        at = max(at, place)
    if odd:
        raise Informational(odd)


NOT_SERVED = (Failed, NonStrict, Busy, Ended, TimedOut, Garbled, OSError)


def expect_served_soon(test: Test) -> None:
    """Wait until the server has noticed that others have closed, or raise Failed.

    Whatever else the last attempt came to, such as NonStrict, is raised as it is.
    """
    deadline = time.monotonic() + test.timeout
    while True:
        try:
            return expect_served(test)
        except NOT_SERVED as error:
            if time.monotonic() > deadline:
                if isinstance(error, Judged) and not isinstance(error, Failed):
                    raise
                raise Failed(f"after the others have closed: {error}") from None
        test.connections[-1].close()
        test.pause(0.1)


def expect_beside(bystander: Session) -> None:
    """Expect that a new connection is served after others were reset, or raise Failed.

    A connection that was open before must also still echo, and is closed.
    """
    bystander.test.pause(0.05)
    expect_served_soon(bystander.test)
    bystander.send(bystander.message(b"still here"))
    bystander.expect_message(b"still here")
    bystander.close()


def refused_handshake(test: Test) -> Connection:
    """Send a handshake without a key, and expect a refusal or the end of TCP.

    Raises Skipped if the server accepts it, which other cases test.
    """
    connection = test.connect()
    connection.send(handshake(test, {"Sec-WebSocket-Key": None}))
    try:
        status = connection.read_response().status
    except Ended:
        return connection
    except (TimedOut, Garbled) as error:
        raise Skipped(f"a handshake without a key is not refused: {error}") from None
    if status == 101:
        raise Skipped("a handshake without a key is accepted")
    return connection


# ---- B.1: nothing is read -----------------------------------------------------------------------


def unread(count: int, size: int, after: Callable[[Session, Sequence[bytes]], None]) -> Run:
    """Send messages and read nothing, check that another connection is served, then `after`."""

    def run(test: Test) -> None:
        session = test.open()
        narrow(session.connection)
        payloads = Numbered(count, size)
        left = stuff(session, binary(session, payloads))
        expect_served(test)
        session.pour(left)
        del left  # free the sent data before reading the echoes
        after(session, payloads)

    return run


for number, count, size, tags in (
    (1, 250, 16000, SEVERAL),
    (2, 1000, 1000, SEVERAL),
    (3, 4000, 20, SEVERAL),
    (4, 64, 16384, SEVERAL),
    (10, 1500, 16000, ["limits", *SEVERAL]),
):
    add(
        f"B.1.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"{count} messages of {size} bytes without reading the echoes; meanwhile another "
        "connection is opened, echoes, and is closed; then all echoes are read",
        "the other connection is served; the echoes arrive in order, or the connection is closed",
        unread(count, size, expect_echoes),
        tags,
    )


def close_and_read(session: Session, payloads: Sequence[bytes]) -> None:
    session.pour(session.frame(wire.close_payload(1000), CLOSE))
    expect_echoes_and_close(session, payloads)


add(
    "B.1.5",
    "RFC 6455 5.5.1",
    MUST,
    ANSWER,
    "128 messages of 16000 bytes without reading the echoes; meanwhile another connection is "
    "used; then a Close is sent, and everything is read",
    "the other connection is served; any number of echoes in order, and a Close",
    unread(128, 16000, close_and_read),
    SEVERAL,
)


@case(
    "B.1.6",
    RECEIVING,
    MUST,
    FRAMES,
    sends="128 messages of 16000 bytes without reading the echoes; then the connection is reset, "
    "and another open one and a new one are used",
    expects="the other connections echo",
    tags=SEVERAL,
)
def unread_and_reset(test: Test) -> None:
    bystander, session = test.open(), test.open()
    narrow(session.connection)
    payloads = numbered(128, 16000)
    stuff(session, binary(session, payloads))
    session.connection.reset()
    expect_beside(bystander)


@case(
    "B.1.7",
    RECEIVING,
    MUST,
    FRAMES,
    sends="64 messages of 8000 bytes on each of 8 connections without reading; meanwhile another "
    "connection is used; then all echoes are read",
    expects="the other connection is served; the echoes arrive in order, or connections are closed",
    tags=SEVERAL,
)
def many_unread(test: Test) -> None:
    sessions = [test.open() for _ in range(8)]
    payloads = numbered(64, 8000)
    rests = []
    for session in sessions:
        narrow(session.connection)
        rests.append(stuff(session, binary(session, payloads)))
    expect_served(test)
    missing = None
    for session, rest in zip(sessions, rests):
        session.pour(rest)
        try:
            expect_echoes(session, payloads)
        except Informational as error:
            missing = error
    if missing:
        raise missing


@case(
    "B.1.8",
    "RFC 6455 5.5.2",
    MUST,
    PONG_RULE,
    sends="4000 Pings of 125 bytes without reading the Pongs; meanwhile another connection is "
    "used; then all Pongs are read",
    expects="the other connection is served; Pongs in order, including the last one, or the end "
    "of the connection",
    tags=SEVERAL,
)
def unread_pongs(test: Test) -> None:
    session = test.open()
    narrow(session.connection)
    payloads = numbered(4000, 125)
    left = stuff(session, b"".join(session.frame(payload, PING) for payload in payloads))
    expect_served(test)
    session.pour(left)
    expect_pongs(session, payloads)


@case(
    "B.1.9",
    "RFC 6455 5.5.2",
    MUST,
    PONG_RULE,
    sends="64 messages of 16000 bytes and a Ping, then a pause before reading",
    expects="the Pong among echoes, or the end of the connection",
)
def ping_behind_echoes(test: Test) -> None:
    session = test.open()
    narrow(session.connection)
    data = b"".join(session.message(payload, BINARY) for payload in numbered(64, 16000))
    session.pour(stuff(session, data + session.frame(b"still there?", PING)))
    while True:
        frame = read_or_limit(session, "a Pong among echoes")
        if (frame.opcode, frame.payload) == (PONG, b"still there?"):
            return
        if frame.opcode != PONG:
            with may_close():
                session.read_rest(frame, "a Pong among echoes")


# ---- B.2: reading in small pieces ---------------------------------------------------------------


def slow(count: int, length: int, size: int, pause: float, seconds: float) -> Run:
    """Send messages, read slowly in small pieces for a while, then read the rest."""

    def run(test: Test) -> None:
        session = test.open()
        narrow(session.connection)
        payloads = numbered(count, length)
        left = stuff(session, binary(session, payloads))
        read_slowly(session, size, pause, seconds)
        session.pour(left)
        expect_echoes(session, payloads)

    return run


for number, count, length, size, pause, seconds in (
    (1, 64, 16000, 4096, 0.005, 0.8),
    (2, 16, 16000, 100, 0.001, 0.5),
    (3, 1, 16384, 1, 0.0, 0.5),
    (4, 500, 100, 50, 0.001, 0.5),
):
    add(
        f"B.2.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"{count} messages of {length} bytes; the echoes are read {size} bytes at a time for "
        f"{seconds} s, then as fast as they arrive",
        "the echoes in order, or the connection is closed",
        slow(count, length, size, pause, seconds),
    )


@case(
    "B.2.5",
    RECEIVING,
    MUST,
    FRAMES,
    sends="a message of 16384 bytes; 5 bytes of its echo are read, then nothing for 0.4 s",
    expects="the rest of the echo, or the connection is closed",
)
def stop_within_frame(test: Test) -> None:
    session = test.open()
    narrow(session.connection)
    session.send(session.message(b"x" * 16384))
    with may_close():
        session.connection.fill(session.connection.deadline(), 5)
        test.pause(0.4)
        session.expect_message(b"x" * 16384)
    session.close()


@case(
    "B.2.6",
    RECEIVING,
    MUST,
    FRAMES,
    sends="64 messages of 16000 bytes on a connection that reads slowly; 200 small ones, one after "
    "another, on one that reads immediately",
    expects="the echo of each small one",
    tags=SEVERAL,
)
def beside_a_slow_reader(test: Test) -> None:
    slow_one, quick = test.open(), test.open()
    narrow(slow_one.connection)
    payloads = numbered(64, 16000)
    stuff(slow_one, binary(slow_one, payloads))
    for first in range(0, 200, 20):
        read_slowly(slow_one, 4096, 0.0, 0.002)
        exchange(quick, [(b"quick %d" % i, TEXT) for i in range(first, first + 20)])
    quick.close()


@case(
    "B.2.7",
    RECEIVING,
    MUST,
    FRAMES,
    sends="a message of 1 MiB; the echo is read 64 KiB at a time, slowly for 0.5 s",
    expects="the complete echo, or the connection is closed",
    tags=["limits"],
)
def large_slowly(test: Test) -> None:
    session = test.open()
    narrow(session.connection)
    payload = b"0123456789abcdef" * 65536
    session.pour(session.message(payload, BINARY))
    read_slowly(session, 65536, 0.02, 0.5)
    with may_close():
        session.expect_large(payload, BINARY)
    session.close()
