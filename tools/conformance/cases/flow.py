"""Backpressure and slow readers (group B), and floods of what is small (group F).

B: a peer that asks for much and reads nothing, or little at a time, must neither bring the server
down nor hold up others. What a server does about it is its own affair: it may stop reading, drop
answers as a whole, or close that connection; the last two are told, as INFORMATIONAL. But what
comes has to come whole and in order.

F: many frames that carry next to nothing; another connection is served all the same. What a flood
costs in memory cannot be seen from here.

The numbers are chosen so that a case takes less than two seconds of a server that does 5000 frames
a second.
"""

from __future__ import annotations

import selectors
import socket
import time
from typing import Callable, Sequence

from .. import wire
from ..case import MUST, SHOULD, Cut, Failed, Informational, Run, Session, Test, add, case
from ..wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Connection,
    Ended,
    Frame,
    TimedOut,
)
from .heads import ask, expect_served, handshake

FRAMES = "Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2."
PONG_RULE = (
    "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response, unless it "
    "already received a Close frame."
)
NEWEST = (
    "If an endpoint receives a Ping frame and has not yet sent Pong frame(s) in response to "
    "previous Ping frame(s), the endpoint MAY elect to send a Pong frame for only the most "
    "recently processed Ping frame."
)
LIMITS = (
    "Implementations that have implementation- and/or platform-specific limitations regarding the "
    "frame size or total message size after reassembly from multiple frames MUST protect "
    "themselves against exceeding those limits."
)
FLOW = (
    "A server SHOULD sustain persistent connections, when possible, and allow the underlying "
    "transport's flow-control mechanisms to resolve temporary overloads"
)
RECEIVING = "RFC 6455 6.2"

# ---- what the cases do --------------------------------------------------------------------------


class Silent(Failed):
    """Nothing came in time."""


def read_or_limit(session: Session, wanted: str) -> Frame:
    """The next frame but Pings. Failed; Informational when the server closes, or just ends TCP:
    that is its limit for floods."""
    try:
        frame = session.read(wanted)
    except Cut as error:
        raise Informational(str(error)) from None
    if frame.opcode == CLOSE:
        session.expect_end()
        raise Informational(f"closed: {frame}")
    return frame


def numbered(count: int, size: int) -> list[bytes]:
    """Messages that can be told from each other."""
    return [(b"%d " % i).ljust(size, b".") for i in range(count)]


def narrow(connection: Connection) -> None:
    """Make the kernel keep little of what is not read, but not less than a segment of loopback."""
    connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)


def stuff(session: Session, data: bytes) -> bytes:
    """Send without reading, until the server takes no more: what is left."""
    connection = session.connection
    session.test.trace.add("sent", data, session.connection.number)
    view, at = memoryview(data), 0
    with selectors.DefaultSelector() as selector:
        selector.register(connection.socket, selectors.EVENT_WRITE)
        while at < len(data) and selector.select(session.test.seconds(0.2)):
            at += connection.give(view[at : at + 65536])
    return data[at:]


def sip(connection: Connection, size: int, deadline: float) -> None:
    """Receive so many bytes at most. Ended, TimedOut."""
    connection.socket.settimeout(connection.left(deadline))
    try:
        data = connection.socket.recv(size)
    except socket.timeout:
        raise TimedOut("nothing came in time") from None
    except OSError:
        raise Ended(reset=True) from None
    if not data:
        raise Ended(reset=False)
    connection.trace.add("received", data, connection.number)
    connection.buffer += data


def read_slowly(session: Session, size: int, pause: float, seconds: float) -> None:
    """Receive a little at a time for a while; what came stays in the buffer."""
    end = time.monotonic() + session.test.seconds(seconds)
    try:
        while time.monotonic() < end:
            sip(session.connection, size, end)
            time.sleep(session.test.seconds(pause))
    except (Ended, TimedOut):
        pass


def next_message(session: Session, wanted: str) -> bytes | None:
    """The next one, Pongs left out; None when the server closes. Failed when nothing comes."""
    while session.comes(session.test.settings.timeout):
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
            return session.read_rest(frame, wanted)[2]
    raise Silent(f"expected {wanted}, but nothing came in time")


def echoes(session: Session, payloads: Sequence[bytes]) -> int:
    """Read echoes up to the last, or to the end of the connection: how many came.

    Failed when one is broken or not in order; some may be left out.
    """
    at = count = 0
    while at < len(payloads):
        came = next_message(session, f"the echo of {wire.shown(payloads[at])} or of a later one")
        if came is None:
            break
        while at < len(payloads) and payloads[at] != came:
            at += 1
        if at == len(payloads):
            raise Failed(f"broken, or not in order: {wire.shown(came)}")
        at, count = at + 1, count + 1
    return count


def expect_echoes(session: Session, payloads: Sequence[bytes]) -> None:
    """The server takes up again. Informational unless it has echoed all. Failed.

    A last message is sent twice if need be: the answer to the first may be left out as well.
    """
    last = b"the last one"
    session.comes(0.1)
    session.send(session.message(last, BINARY))
    try:
        count = echoes(session, [*payloads, last])
    except Silent:
        session.send(session.message(last, BINARY))
        if echoes(session, [last]) == 1:
            raise Informational("the last echoes are left out") from None
        raise Informational("the connection is closed before the last echo") from None
    if count <= len(payloads):
        raise Informational(f"{count} of {len(payloads) + 1} echoes came")


# ---- B.1: nothing is read -----------------------------------------------------------------------


def unread(count: int, size: int, after: Callable[[Session, list[bytes]], None]) -> Run:
    """So many messages, and nothing is read; another connection is served; then `after`."""

    def run(test: Test) -> None:
        session = test.open()
        narrow(session.connection)
        payloads = numbered(count, size)
        data = b"".join(session.message(payload, BINARY) for payload in payloads)
        left = stuff(session, data)
        expect_served(test)
        session.pour(left)
        after(session, payloads)

    return run


for number, count, size, tags in (
    (1, 250, 16000, []),
    (2, 1000, 1000, []),
    (3, 4000, 20, []),
    (4, 64, 16384, []),
    (10, 1500, 16000, ["limits"]),
):
    add(
        f"B.1.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"{count} messages of {size} bytes, and none of the echoes is read; meanwhile another "
        "connection is opened, echoes, and is closed; then all is read",
        "the other connection is served; the echoes come in order, or the connection is closed",
        unread(count, size, expect_echoes),
        tags,
    )


def close_and_read(session: Session, payloads: list[bytes]) -> None:
    session.pour(session.frame(wire.close_payload(1000), CLOSE))
    count = echoes(session, [*payloads, b"never sent"])
    if count < len(payloads):
        raise Informational(f"{count} of {len(payloads)} echoes came")


def drop(session: Session, payloads: list[bytes]) -> None:
    session.connection.reset()
    expect_served(session.test)


for number, what, expects, then in (
    (5, "then a Close is sent, and all is read",
     "echoes in order, then the end of the connection", close_and_read),
    (6, "then the connection is reset, and another one opened", "the other one echoes", drop),
):  # fmt: skip
    add(
        f"B.1.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"128 messages of 16000 bytes, and none of the echoes is read; {what}",
        expects,
        unread(128, 16000, then),
    )


@case(
    "B.1.7",
    RECEIVING,
    MUST,
    FRAMES,
    sends="64 messages of 8000 bytes on each of 8 connections, and nothing is read; meanwhile "
    "another connection is used; then all is read",
    expects="the other connection is served; the echoes come in order, or connections are closed",
)
def many_unread(test: Test) -> None:
    sessions = [test.open() for _ in range(8)]
    payloads = numbered(64, 8000)
    rests = []
    for session in sessions:
        narrow(session.connection)
        data = b"".join(session.message(payload, BINARY) for payload in payloads)
        rests.append(stuff(session, data))
    expect_served(test)
    told = ""
    for session, rest in zip(sessions, rests):
        session.pour(rest)
        try:
            expect_echoes(session, payloads)
        except Informational as error:
            told = str(error)
    if told:
        raise Informational(told)


def expect_pongs(session: Session, payloads: Sequence[bytes]) -> None:
    """Pongs in the order of the Pings, some left out, but not the last. Failed, Informational."""
    wanted = f"a Pong with {wire.shown(payloads[-1])}, or an earlier one"
    at = 0
    while at < len(payloads):
        frame = read_or_limit(session, wanted)
        while at < len(payloads) and payloads[at] != frame.payload:
            at += 1
        if frame.opcode != PONG or at == len(payloads):
            raise Failed(f"not due, or not in order: {frame}")
        at += 1


@case(
    "B.1.8",
    "RFC 6455 5.5.3",
    MUST,
    NEWEST,
    sends="4000 Pings of 125 bytes, and none of the Pongs is read; meanwhile another connection is "
    "used; then all is read",
    expects="the other connection is served; Pongs in order, the last one among them, or the "
    "connection is ended",
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
    sends="64 messages of 16000 bytes and a Ping, and nothing is read for a while",
    expects="the Pong, among echoes in order; or the connection is ended",
)
def ping_behind_echoes(test: Test) -> None:
    session = test.open()
    narrow(session.connection)
    data = b"".join(session.message(payload, BINARY) for payload in numbered(64, 16000))
    session.pour(stuff(session, data + session.frame(b"still there?", PING)))
    while True:
        frame = read_or_limit(session, "a Pong")
        if (frame.opcode, frame.payload) == (PONG, b"still there?"):
            return
        session.read_rest(frame, "a Pong among echoes")


# ---- B.2: little is read at a time --------------------------------------------------------------


def slow(count: int, length: int, size: int, pause: float, seconds: float) -> Run:
    """So many messages, and so many bytes read at a time for a while; then the rest."""

    def run(test: Test) -> None:
        session = test.open()
        narrow(session.connection)
        payloads = numbered(count, length)
        left = stuff(session, b"".join(session.message(p, BINARY) for p in payloads))
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
        f"{seconds} s, then as fast as they come",
        "the echoes in order, or the connection is closed",
        slow(count, length, size, pause, seconds),
    )


@case(
    "B.2.5",
    "RFC 9112 9.5",
    SHOULD,
    FLOW,
    sends="a message of 16384 bytes; of its echo 5 bytes are read, then nothing for 0.4 s",
    expects="then the rest",
)
def stop_within_frame(test: Test) -> None:
    session = test.open()
    narrow(session.connection)
    session.send(session.message(b"x" * 16384))
    sip(session.connection, 5, session.connection.deadline())
    time.sleep(test.seconds(0.4))
    session.expect_message(b"x" * 16384)
    session.close()


@case(
    "B.2.6",
    RECEIVING,
    MUST,
    FRAMES,
    sends="64 messages of 16000 bytes on a connection that reads slowly; 200 small ones, one after "
    "another, on one that reads at once",
    expects="the echo of each small one",
)
def beside_a_slow_reader(test: Test) -> None:
    slow_one, quick = test.open(), test.open()
    narrow(slow_one.connection)
    payloads = numbered(64, 16000)
    stuff(slow_one, b"".join(slow_one.message(payload, BINARY) for payload in payloads))
    for i in range(200):
        if i % 20 == 0:
            read_slowly(slow_one, 4096, 0.0, 0.002)
        quick.send(quick.message(b"quick %d" % i))
        quick.expect_message(b"quick %d" % i)
    quick.close()


@case(
    "B.2.7",
    "RFC 9112 9.5",
    SHOULD,
    FLOW,
    sends="a message of 1 MiB; the echo is read 64 KiB at a time, for 0.5 s slowly",
    expects="the echo, whole",
    tags=["limits"],
)
def large_slowly(test: Test) -> None:
    session = test.open()
    narrow(session.connection)
    payload = b"0123456789abcdef" * 65536
    session.pour(session.message(payload, BINARY))
    read_slowly(session, 65536, 0.02, 0.5)
    session.expect_large(payload, BINARY)
    session.close()


# ---- F.1: frames that carry little --------------------------------------------------------------


def flood(make: Callable[[Session], bytes], after: Callable[[Session], None]) -> Run:
    """A flood on one connection, an echo on another, then what the flood has to bring."""

    def run(test: Test) -> None:
        other, session = test.open(), test.open()
        session.pour(make(session))
        other.send(other.message(b"beside a flood"))
        other.expect_message(b"beside a flood")
        try:
            after(session)
        except Failed:
            if session.connection.buffer[:1] == b"\x88":
                raise Informational("the server closes the connection") from None
            raise
        other.close()

    return run


def fragments(part: bytes, count: int, end: bool = True) -> Callable[[Session], bytes]:
    """A text message in so many frames, and perhaps a last one."""

    def make(session: Session) -> bytes:
        more = session.frame(part, CONTINUATION, fin=False) * (count - 1)
        last = session.frame(b"", CONTINUATION) if end else b""
        return session.frame(part, TEXT, fin=False) + more + last

    return make


def repeated(payload: bytes, opcode: int, count: int) -> Callable[[Session], bytes]:
    return lambda session: session.frame(payload, opcode) * count


def same_echoes(payload: bytes, count: int) -> Callable[[Session], None]:
    """So many equal messages come back; Informational when some are left out."""

    def after(session: Session) -> None:
        for i in range(count):
            if not session.comes(session.test.settings.timeout):
                raise Informational(f"{i} of {count} echoes came")
            session.expect_message(payload)
        session.close()

    return after


def one_echo(payload: bytes) -> Callable[[Session], None]:
    """One message comes back; Informational when the server closes instead."""

    def after(session: Session) -> None:
        frame = read_or_limit(session, "one echo")
        came = session.read_rest(frame, "one echo")
        if came != (TEXT, 0, payload):
            raise Failed(f"expected the echo of {wire.shown(payload)}, but {frame} came")
        session.close()

    return after


def silence(session: Session) -> None:
    """Nothing comes. Failed, or Informational when the server closes."""
    if session.comes(0.1):
        frame = read_or_limit(session, "nothing")
        raise Failed(f"expected nothing, but {frame} came")
    session.close()


def pongs(payloads: Sequence[bytes]) -> Callable[[Session], None]:
    return lambda session: expect_pongs(session, payloads)


def pings(payloads: Sequence[bytes]) -> Callable[[Session], bytes]:
    return lambda session: b"".join(session.frame(payload, PING) for payload in payloads)


def pings_between(session: Session) -> bytes:
    """A Ping behind each of 2000 fragments."""
    pair = session.frame(b"x", CONTINUATION, fin=False) + session.frame(b"", PING)
    start = session.frame(b"", TEXT, fin=False)
    return start + pair * 2000 + session.frame(b"", CONTINUATION)


def pongs_and_echo(session: Session) -> None:
    """Pongs, and the echo among or behind them. Failed, Informational."""
    while True:
        frame = read_or_limit(session, "Pongs and an echo")
        if frame.opcode != PONG:
            break
    if session.read_rest(frame, "an echo")[2] != b"x" * 2000:
        raise Failed(f"expected the echo of 2000 bytes, but {frame} came")


PINGS = numbered(4000, 5)
LONG_PINGS = numbered(2000, 125)
for number, section, quote, what, make, expects, after in (
    (1, "RFC 6455 10.4", LIMITS, "a message in 10000 empty fragments", fragments(b"", 10000),
     "one empty message", one_echo(b"")),
    (2, "RFC 6455 10.4", LIMITS, "10000 empty fragments of a message that does not end",
     fragments(b"", 10000, end=False), "nothing", silence),
    (3, "RFC 6455 10.4", LIMITS, "a message in 10000 fragments of 1 byte", fragments(b"x", 10000),
     "one message", one_echo(b"x" * 10000)),
    (4, "RFC 6455 5.5.2", PONG_RULE, "4000 Pings of 5 bytes", pings(PINGS),
     "Pongs in order, the last one among them", pongs(PINGS)),
    (5, "RFC 6455 5.5.2", PONG_RULE, "2000 Pings of 125 bytes", pings(LONG_PINGS),
     "Pongs in order, the last one among them", pongs(LONG_PINGS)),
    (6, "RFC 6455 5.5.3", "A response to an unsolicited Pong frame is not expected.",
     "10000 Pongs of 5 bytes", repeated(b"pong!", PONG, 10000), "nothing", silence),
    (7, RECEIVING, FRAMES, "2000 messages of 1 byte", repeated(b"x", TEXT, 2000),
     "2000 echoes", same_echoes(b"x", 2000)),
    (8, RECEIVING, FRAMES, "2000 empty messages", repeated(b"", TEXT, 2000),
     "2000 echoes", same_echoes(b"", 2000)),
    (9, "RFC 6455 5.5.2", PONG_RULE, "2000 fragments of 1 byte, a Ping behind each",
     pings_between, "Pongs and one message", pongs_and_echo),
):  # fmt: skip
    add(
        f"F.1.{number}",
        section,
        MUST,
        quote,
        f"{what}, and right behind them a message on another connection",
        f"the echo there, and here {expects}; or the server closes this connection",
        flood(make, after),
    )

# ---- F.2: many connections ----------------------------------------------------------------------


def crowd(count: int, come: Callable[[Test], None]) -> Run:
    """So many do something, then another connection is served."""

    def run(test: Test) -> None:
        for _ in range(count):
            come(test)
        expect_served(test)

    return run


def connects(test: Test) -> None:
    test.connect()


def comes_and_goes(test: Test) -> None:
    test.connect().close()


def half_asks(test: Test) -> None:
    test.connect().send(b"GET / HTTP/1.1\r\nHost: ")


def opens(test: Test) -> None:
    test.open()


def opens_and_closes(test: Test) -> None:
    session = test.open()
    session.close()
    session.connection.close()


def opens_and_resets(test: Test) -> None:
    test.open().connection.reset()


def is_refused(test: Test) -> None:
    connection, response = ask(test, handshake(test, {"Sec-WebSocket-Key": "none"}))
    if response.status == 101:
        raise Failed("the handshake was accepted")
    connection.close()


def asks_and_resets(test: Test) -> None:
    connection = test.connect()
    connection.send(handshake(test))
    connection.reset()


for number, count, what, come in (
    (1, 64, "connections on which nothing is sent", connects),
    (2, 64, "connections that come and go", comes_and_goes),
    (3, 64, "connections with half a request", half_asks),
    (4, 64, "open connections that do nothing", opens),
    (5, 50, "connections with both handshakes, one after another", opens_and_closes),
    (6, 64, "open connections that are reset", opens_and_resets),
    (7, 50, "handshakes that are refused", is_refused),
    (8, 64, "handshakes, each reset before its answer is read", asks_and_resets),
):
    add(
        f"F.2.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"{count} {what}, then another connection",
        "the other connection is opened, echoes, and is closed",
        crowd(count, come),
    )
