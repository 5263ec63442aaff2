# SPDX-License-Identifier: MIT
"""The end of connections, group T: the end of TCP after the closing handshake, and after a failure
(T.2), and a Close while data is under way (T.5).

Whether a server that ends TCP with unread data sends a reset depends on how fast it reads, so no
case tests that. But everything that it sent before has to arrive.
"""

from __future__ import annotations

import time

from .. import wire
from ..case import MAY, MUST, SHOULD, Run, Test, add, case
from ..session import Session
from ..verdicts import Cut, Failed, NonStrict, Skipped
from ..wire import BINARY, CLOSE, CONTINUATION, PING, PONG, Ended
from .flow import ANSWER, SEVERAL, expect_echoes_and_close, expect_last_close, numbered
from .heads import ended
from .timing import PATIENCE, SLOW

AT_ONCE = "The server MUST close the underlying TCP connection immediately"
CLEAN = (
    "An endpoint SHOULD use a method that cleanly closes the TCP connection, as well as the TLS "
    "session, if applicable, discarding any trailing bytes that may have been received."
)
INITIATE = (
    "when a server is instructed to _Close the WebSocket Connection_ it SHOULD initiate a TCP "
    "Close immediately"
)
NOTHING_MORE = "The application MUST NOT send any more data frames after sending a Close frame."

# ---- T.2: the end of TCP ------------------------------------------------------------------------


@case(
    "T.2.1",
    "RFC 6455 5.5.1",
    MUST,
    AT_ONCE,
    sends="a Close",
    expects="a Close, then the end of TCP, initiated by the server",
)
def server_ends(test: Test) -> None:
    session = test.open()
    session.send(session.frame(wire.close_payload(1000), CLOSE))
    session.expect_close(1000)
    session.require_end()


@case(
    "T.2.2",
    "RFC 6455 7.1.1",
    SHOULD,
    CLEAN,
    sends="a Close",
    expects="a Close with the same code, then FIN and no reset, with TLS after close_notify",
)
def ends_cleanly(test: Test) -> None:
    session = test.open()
    session.send(session.frame(wire.close_payload(1000), CLOSE))
    session.expect_close(1000)
    over = session.connection.over
    if over and over.reset:
        raise NonStrict("the connection was reset although nothing was sent after the Close")
    if over and session.connection.truncated:
        raise NonStrict("TLS ended without close_notify")


def closes_readably(behind: bytes) -> Run:
    """Send a Close and more data, and expect that no reset destroys the answering Close.

    Little data goes in the same write: whether a server that reads nothing after the Close resets
    the connection must not depend on when it reads.
    """

    def run(test: Test) -> None:
        session = test.open()
        session.pour(session.frame(wire.close_payload(1000), CLOSE) + behind, pieces=4096)
        expect_last_close(session, 1000)

    return run


for number, what, behind in (
    (3, "a Close and a message in one write", wire.frame(b"too late")),
    (4, "a Close, followed by 256 KiB of messages", wire.frame(b"x" * 1018) * 256),
    (5, "a Close and junk in one write", b"\xff" * 1000),
):
    add(
        f"T.2.{number}",
        "RFC 6455 7.1.1",
        SHOULD,
        CLEAN,
        what,
        "a Close with the same code, not lost to a reset, and nothing after it",
        closes_readably(behind),
    )


@case(
    "T.2.6",
    "RFC 6455 5.5.1",
    MUST,
    ANSWER,
    sends="a Close, followed by FIN",
    expects="a Close with the same code; NON-STRICT: only the end of TCP, as the peer may not read "
    "a Close, which TLS 1.2 requires",
)
def close_and_fin(test: Test) -> None:
    session = test.open()
    session.send(session.frame(wire.close_payload(1000), CLOSE))
    session.connection.finish()
    try:
        session.expect_close(1000)
    except Cut as error:
        if session.connection.ends_both_directions:
            return
        raise NonStrict(str(error)) from None


def fails(test: Test) -> tuple[Session, bool]:
    """Make the server fail a connection; returns the session and whether it sent a Close.

    Raises Skipped if it does not fail the connection, which other cases test.
    """
    session = test.open()
    session.send(session.frame(b"x", rsv=7))
    try:
        frame = session.read("the connection to be failed")
    except Cut:
        return session, False
    except Failed as error:
        raise Skipped(str(error)) from None
    if frame.opcode != CLOSE:
        raise Skipped(f"expected the connection to be failed, but received {frame}")
    return session, True


def fails_within(patience: float | None) -> Run:
    """Expect the end of TCP within that time, although the Close is not answered."""

    def run(test: Test) -> None:
        session, _ = fails(test)
        seconds = test.timeout if patience is None else test.seconds(patience)
        if not ended(session.connection, seconds):
            raise Failed(f"the connection is still open after {seconds:g} s")

    return run


for number, patience, when, tags in (
    (7, None, "immediately, without waiting for an answer", []),
    (8, PATIENCE, f"within {PATIENCE:g} s", SLOW),
):
    add(
        f"T.2.{number}",
        "RFC 6455 7.1.1",
        SHOULD,
        INITIATE,
        "a frame with reserved bits; the server's Close is not answered",
        f"the end of TCP {when}",
        fails_within(patience),
        tags,
    )


def fails_readably(pieces: int, count: int) -> Run:
    """Send a bad frame and more data, and expect that no reset destroys the server's Close."""

    def run(test: Test) -> None:
        session, has_close = fails(test)
        if not has_close:
            raise Skipped("the server fails connections without a Close")
        session.connection.close()
        session = test.open()
        bad = session.frame(b"x", rsv=7)
        session.pour(bad + session.message(b"x" * pieces) * count, pieces=4096)
        frame = session.read("a Close")
        if frame.opcode != CLOSE:
            raise Failed(f"expected a Close, but received {frame}")

    return run


for number, what, pieces, count in (
    (9, "a message", 5, 1),
    (10, "256 KiB of messages", 1000, 256),
):
    add(
        f"T.2.{number}",
        "RFC 6455 7.1.1",
        SHOULD,
        CLEAN,
        f"a frame with reserved bits; on another connection the same followed by {what}, before "
        "anything is read",
        "a Close on both connections, not lost to a reset",
        fails_readably(pieces, count),
    )


@case(
    "T.2.11",
    "RFC 6455 7.1.1",
    MAY,
    "An endpoint MAY close the connection via any means available when necessary, such as when "
    "under attack.",
    sends="a Close; after the closing handshake an octet every 0.25 s, without FIN",
    expects=f"a reset within {PATIENCE:g} s: a lingering connection is dropped in the end",
    tags=SLOW,
)
def lingers(test: Test) -> None:
    session = test.open()
    session.close()
    end = time.monotonic() + test.seconds(PATIENCE)
    while time.monotonic() < end:
        try:
            session.connection.send(b"x")
        except Ended:
            return
        test.pause(0.25)
    raise Failed(f"the server still accepts data after {test.seconds(PATIENCE):g} s")


@case(
    "T.2.12",
    "RFC 6455 5.5.1",
    MUST,
    ANSWER,
    sends="a Close on each of 12 connections, before any answer is read",
    expects="a Close with the same code on each",
    tags=SEVERAL,
)
def many_close(test: Test) -> None:
    sessions = [test.open() for _ in range(12)]
    for session in sessions:
        session.send(session.frame(wire.close_payload(1001), CLOSE))
    for session in sessions:
        session.expect_close(1001)


@case(
    "T.2.13",
    "RFC 6455 5.5.1",
    MUST,
    ANSWER,
    sends="a Close, then a pause of 0.3 s before reading",
    expects="the Close can still be read",
)
def read_late(test: Test) -> None:
    session = test.open()
    session.send(session.frame(wire.close_payload(1000, b"bye"), CLOSE))
    test.pause(0.3)
    session.expect_close(1000)


# ---- T.5: a Close while data is in flight -------------------------------------------------------


def closed_behind(count: int, size: int, wait: float) -> Run:
    """Send messages and a Close in one write, and read nothing for a while."""

    def run(test: Test) -> None:
        session = test.open()
        payloads = numbered(count, size)
        data = b"".join(session.message(payload, BINARY) for payload in payloads)
        session.pour(data + session.frame(wire.close_payload(1000), CLOSE))
        test.pause(wait)
        expect_echoes_and_close(session, payloads)

    return run


for number, count, size, wait in (
    (1, 100, 20, 0.0),
    (2, 16, 16000, 0.0),
    (3, 64, 16000, 0.2),
):
    add(
        f"T.5.{number}",
        "RFC 6455 5.5.1",
        MUST,
        f"{NOTHING_MORE} [...] {ANSWER}",
        f"{count} messages of {size} bytes and a Close in one write"
        + (", then a pause before reading" if wait else ""),
        "any number of echoes in order, then a Close with the same code, and nothing after it",
        closed_behind(count, size, wait),
    )


@case(
    "T.5.4",
    "RFC 6455 5.5.1",
    MUST,
    ANSWER,
    sends="two fragments of an incomplete message, and a Close",
    expects="a Close with the same code",
)
def within_message(test: Test) -> None:
    session = test.open()
    session.send(session.frame(b"one", fin=False))
    session.send(session.frame(b"two", CONTINUATION, fin=False))
    session.send(session.frame(wire.close_payload(1000), CLOSE))
    session.expect_close(1000)


@case(
    "T.5.5",
    "RFC 6455 5.5.1",
    MUST,
    f"{NOTHING_MORE} [...] {ANSWER}",
    sends="a Close, then a message, a Ping and another Close, each in its own write",
    expects="one Close, and no data after it; NON-STRICT: control frames",
)
def goes_on_talking(test: Test) -> None:
    session = test.open()
    session.send(session.frame(wire.close_payload(1000), CLOSE))
    for behind in (session.frame(b"x"), session.frame(b"x", PING), session.frame(b"", CLOSE)):
        test.pause(0.01)
        session.send(behind)
    expect_last_close(session, 1000)


@case(
    "T.5.6",
    "RFC 6455 5.5.1",
    MUST,
    ANSWER,
    sends="a Close octet by octet, with pauses of 0.02 s",
    expects="a Close with the same code, but not before the last octet",
)
def close_in_octets(test: Test) -> None:
    session = test.open()
    data = session.frame(wire.close_payload(1000), CLOSE)
    session.send(data[:-1], pieces=1, pause=0.02 * test.settings.scale)
    while session.comes(0.02):
        frame = session.connection.read_frame()
        if frame.opcode not in (PING, PONG):  # an answer has to wait until this frame is complete
            raise Failed(f"expected nothing before the end of the Close, but received {frame}")
    session.send(data[-1:])
    session.expect_close(1000)
