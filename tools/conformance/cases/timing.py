# SPDX-License-Identifier: MIT
"""Time and broken connections, group T: half-open handshakes (T.1), half-closed connections (T.3),
and resets at awkward moments (T.4). T.2 and T.5 are in ends.py.

No RFC says how long a server has to wait. Cases about that are INFORMATIONAL and tagged "slow",
because they take as long as the server's timeouts, but at most PATIENCE seconds. Serving other
connections in the meantime is required.
"""

from __future__ import annotations

import time
from typing import Callable

from .. import wire
from ..case import MAY, MUST, SHOULD, Run, Test, add, case
from ..session import Session
from ..verdicts import Failed, Informational, NonStrict, Skipped, refusal
from ..wire import BINARY, CLOSE, PING, Connection, Ended, TimedOut
from .flow import (
    FRAMES,
    RECEIVING,
    SEVERAL,
    Echoes,
    expect_beside,
    may_close,
    numbered,
    refused_handshake,
)
from .heads import KEY, ask, ended, handshake, plain, read_body, tokens
from .splits import OCTETS, send_part

PATIENCE = 12.0
"""Seconds after which a connection without progress should be closed."""
SLOW = ["slow"]
RESTS = (
    "Servers will usually have some timeout value beyond which they will no longer maintain an "
    "inactive connection."
)
MONITOR = (
    "Implementations SHOULD constantly monitor open connections for a received closure signal and "
    "respond to it as appropriate, since prompt closure of both sides of a connection enables "
    "allocated system resources to be reclaimed."
)
ONE_RESPONSE = (
    "A single request can have multiple associated responses: zero or more ... responses with "
    'status codes in the "informational" (1xx) range, followed by exactly one ... response with a '
    "status code in one of the other ranges."
)

# ---- T.1: incomplete handshakes -----------------------------------------------------------------


def expect_cut(test: Test, connection: Connection) -> None:
    """Expect the end of the connection, perhaps after 408 or another error, or raise Failed."""
    if not ended(connection, test.seconds(PATIENCE)):
        raise Failed(f"the connection is still open after {test.seconds(PATIENCE):g} s")
    data = bytes(connection.buffer)
    if data and not data.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")):
        raise Failed(f"received {wire.shown(data)}")


def cut_off(sends: Callable[[Test], bytes]) -> Run:
    """Send this and nothing else."""

    def run(test: Test) -> None:
        connection = test.connect()
        connection.send(sends(test))
        expect_cut(test, connection)

    return run


for number, what, sends in (
    (1, "nothing", lambda test: b""),
    (2, "a handshake without its last CRLF", lambda test: handshake(test)[:-2]),
):
    add(
        f"T.1.{number}",
        "RFC 9112 9.5",
        MAY,
        RESTS,
        f"{what}, then silence",
        f"the end of the connection within {PATIENCE:g} s, perhaps after a 408",
        cut_off(sends),
        SLOW,
    )


@case(
    "T.1.3",
    "RFC 9112 9.5",
    MAY,
    RESTS,
    sends="an endless request head, one octet every 0.25 s",
    expects=f"the end of the connection within {PATIENCE:g} s: octets do not extend the timeout",
    tags=SLOW,
)
def drip(test: Test) -> None:
    connection = test.connect()
    connection.send(b"GET / HTTP/1.1\r\nX-Drip: ")
    end = time.monotonic() + test.seconds(PATIENCE)
    while time.monotonic() < end:
        try:
            connection.send(b"x")
            connection.fill(connection.deadline(test.seconds(0.25)))
        except TimedOut:
            continue
        except Ended:
            return
    raise Failed(f"the connection is still open after {test.seconds(PATIENCE):g} s")


def gives_up(sends: Callable[[Test], bytes]) -> Run:
    """Send this and FIN, and expect that the server ends the connection too."""

    def run(test: Test) -> None:
        connection = test.connect()
        connection.send(sends(test))
        connection.finish()
        if not ended(connection, test.timeout):
            raise Failed("the connection stays open")
        if connection.buffer and not connection.buffer.startswith(b"HTTP/1."):
            raise Failed(f"received {wire.shown(bytes(connection.buffer))}")

    return run


for number, what, sends in (
    (4, "nothing", lambda test: b""),
    (5, "half a request line", lambda test: b"GET /"),
    (6, "a handshake without its last CRLF", lambda test: handshake(test)[:-2]),
    (7, "a whole handshake", handshake),
    (8, "a handshake with half a key", lambda test: handshake(test).partition(KEY[:9].encode())[0]),
):
    add(
        f"T.1.{number}",
        "RFC 9112 9.5",
        SHOULD,
        MONITOR,
        f"{what}, then FIN",
        "the immediate end of the connection, perhaps after a response",
        gives_up(sends),
    )


@case(
    "T.1.9",
    "RFC 9112 2.2",
    MUST,
    OCTETS,
    sends="a handshake in five parts, with pauses of 0.1 s",
    expects="101, and the connection echoes; INFORMATIONAL: the server does not wait that long",
)
def unhurried(test: Test) -> None:
    data = handshake(test)
    connection = test.connect()
    for part in (data[:3], data[3:40], data[40:90], data[90:-1]):
        send_part(connection, part)
        test.pause(0.1)
    send_part(connection, data[-1:])
    try:
        response = connection.read_response()
    except Ended as error:
        raise Informational(f"{error} less than 0.5 s after its beginning") from None
    if response.status == 408:
        raise Informational("received 408 less than 0.5 s after the beginning of the request")
    if response.status != 101:
        raise refusal(response.status)
    session = test.session(connection, response)
    session.send(session.message(b"at last"))
    session.expect_message(b"at last")
    session.close()


@case(
    "T.1.10",
    RECEIVING,
    MUST,
    FRAMES,
    sends="nothing for 0.5 s after the 101, then a message",
    expects="its echo; INFORMATIONAL: the connection is closed because it is idle",
)
def silent_client(test: Test) -> None:
    session = test.open()
    test.pause(0.5)
    session.send(session.message(b"awake"))
    with may_close():
        session.expect_message(b"awake")
    session.close()


# A connection that is kept open after a response. Either side may end it.


def asked_plainly(test: Test) -> tuple[Connection, bool]:
    """Send a plain GET and read its whole response; returns whether the connection is kept open.

    Raises Skipped if there is no such response, which other cases test.
    """
    try:
        connection, response = ask(test, plain(test))
        if response.status == 101:
            raise Failed("a request without Upgrade was answered with 101")
        read_body(connection, response)
    except (Failed, NonStrict) as error:
        raise Skipped(f"a plain GET: {error}") from None
    kept = response.get("Content-Length") or response.get("Transfer-Encoding")
    return connection, bool(kept) and "close" not in tokens(response, "Connection")


@case(
    "T.1.11",
    "RFC 9110 15",
    SHOULD,
    ONE_RESPONSE,
    sends="a plain GET and, after its response, nothing",
    expects=f"the end of the connection within {PATIENCE:g} s, perhaps after a 408; "
    "INFORMATIONAL: it stays open",
    tags=SLOW,
)
def idle_behind_response(test: Test) -> None:
    connection, _ = asked_plainly(test)
    is_over = ended(connection, test.seconds(PATIENCE))
    data = bytes(connection.buffer)
    if data and not data.startswith((b"HTTP/1.1 408", b"HTTP/1.0 408")):
        raise Failed(f"unrequested data after the response: {wire.shown(data)}")
    if not is_over:
        raise Informational(f"the connection is still open after {test.seconds(PATIENCE):g} s")


@case(
    "T.1.12",
    "RFC 9112 9.3",
    MUST,
    'A server that does not support persistent connections MUST send the "close" connection option '
    "in every response message that does not have a 1xx (Informational) status code.",
    sends="a plain GET; if the connection is kept open, a handshake 0.5 s after the response",
    expects="101; INFORMATIONAL: another response, or the end of the connection",
)
def handshake_on_kept(test: Test) -> None:
    connection, kept = asked_plainly(test)
    if not kept:
        return
    test.pause(0.5)
    try:
        connection.send(handshake(test))
        response = connection.read_response()
    except Ended:
        raise Informational("the connection ended less than 0.5 s after a response") from None
    if response.status != 101:
        raise Informational(f"the handshake was answered with {response.status}")


@case(
    "T.1.13",
    "RFC 9112 9.5",
    SHOULD,
    MONITOR,
    sends="a plain GET and, after its response, FIN",
    expects="the immediate end of the connection, and nothing before it",
)
def finished_behind_response(test: Test) -> None:
    connection, _ = asked_plainly(test)
    connection.finish()
    if not ended(connection, test.timeout):
        raise Failed("the connection stays open")
    if connection.buffer:
        raise Failed(f"received {wire.shown(bytes(connection.buffer))}")


# ---- T.3: half-closed connections ---------------------------------------------------------------


def half_closed(make: Callable[[Session], bytes]) -> Run:
    """Send this and FIN, and expect the end of the connection, perhaps after a valid Close."""

    def run(test: Test) -> None:
        session = test.open()
        session.send(make(session))
        session.connection.finish()
        deadline = session.connection.deadline()
        while True:
            try:
                frame = session.connection.read_frame(max(deadline - time.monotonic(), 0.0))
            except Ended:
                return
            except TimedOut:
                raise Failed("the connection stays open") from None
            session.check(frame)

    return run


for number, what, make in (
    (1, "nothing", lambda session: b""),
    (2, "half the head of a frame", lambda session: session.frame(b"x" * 200)[:3]),
    (3, "half a frame", lambda session: session.frame(b"half of it")[:-5]),
    (4, "a fragment", lambda session: session.frame(b"fragment", fin=False)),
    (5, "half a Close", lambda session: session.frame(b"\x03\xe8", CLOSE)[:-1]),
    (6, "a Ping", lambda session: session.frame(b"x", PING)),
):
    add(
        f"T.3.{number}",
        "RFC 9112 9.5",
        SHOULD,
        MONITOR,
        f"{what} after the handshake, then FIN",
        "the immediate end of the connection",
        half_closed(make),
    )


def echoes_before_end(count: int, size: int) -> Run:
    """Send messages and FIN, and expect any number of echoes in order, then the end."""

    def run(test: Test) -> None:
        session = test.open()
        payloads = numbered(count, size)
        session.pour(b"".join(session.message(payload, BINARY) for payload in payloads))
        session.connection.finish()
        echoes = Echoes(session, payloads, b"never sent")
        echoes.read()
        test.trace.note(f"received {echoes.count} of {count} echoes")

    return run


for number, count, size in ((7, 1, 5), (8, 64, 16000)):
    add(
        f"T.3.{number}",
        "RFC 9112 9.5",
        SHOULD,
        MONITOR,
        f"{count} messages of {size} bytes, then FIN, before an echo is read",
        "any number of echoes in order, then the end of the connection",
        echoes_before_end(count, size),
    )

# ---- T.4: resets --------------------------------------------------------------------------------


def at_connect(test: Test) -> Connection:
    return test.connect()


def in_head(test: Test) -> Connection:
    connection = test.connect()
    connection.send(handshake(test)[:50])
    return connection


def before_answer(test: Test) -> Connection:
    connection = test.connect()
    connection.send(handshake(test))
    return connection


def with_data(make: Callable[[Session], bytes]) -> Callable[[Test], Connection]:
    """Open a connection and send this."""

    def run(test: Test) -> Connection:
        session = test.open()
        session.send(make(session))
        return session.connection

    return run


def after_close(test: Test) -> Connection:
    session = test.open()
    session.close()
    return session.connection


for number, what, moment in (
    (1, "right after connecting", at_connect),
    (2, "within a request head", in_head),
    (3, "before the 101 is read", before_answer),
    (4, "after a refusal", refused_handshake),
    (5, "right after the handshake", with_data(lambda s: b"")),
    (6, "within the head of a frame", with_data(lambda s: s.frame(b"x" * 200)[:3])),
    (7, "within a payload", with_data(lambda s: s.frame(b"x" * 200)[:100])),
    (8, "within a fragmented message", with_data(lambda s: s.frame(b"x", fin=False))),
    (9, "before an echo is read", with_data(lambda s: s.message(b"x" * 100))),
    (10, "before 16 echoes of 16000 bytes are read",
     with_data(lambda s: s.message(b"x" * 16000) * 16)),
    (11, "before a Pong is read", with_data(lambda s: s.frame(b"x", PING))),
    (12, "before the answer to a Close is read",
     with_data(lambda s: s.frame(wire.close_payload(1000), CLOSE))),
    (13, "after a frame that makes it fail", with_data(lambda s: s.frame(b"x", rsv=7))),
    (14, "after the closing handshake", after_close),
):  # fmt: skip

    def broken(test: Test, moment: Callable[[Test], Connection] = moment) -> None:
        bystander = test.open()
        for _ in range(4):
            moment(test).reset()
        expect_beside(bystander)

    add(
        f"T.4.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"4 connections that are reset one after another: {what}",
        "another open connection still echoes, and a new one can be opened and echoes",
        broken,
        SEVERAL,
    )
