"""The end of connections, group T: the end of TCP after the closing handshake, and after a failure
(T.2), and a Close while data is under way (T.5).

Whether a server that ends TCP with unread data sends a reset depends on how soon it reads, so no
case is about that; but what it has sent before has to arrive.
"""

from __future__ import annotations

import time

from .. import wire
from ..case import (
    MAY,
    MUST,
    SHOULD,
    Cut,
    Failed,
    NonStrict,
    Run,
    Session,
    Skipped,
    Test,
    add,
    case,
)
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
    expects="a Close, then the end of TCP, which the server begins",
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
    expects="a Close with the same code, then FIN, no reset",
)
def ends_cleanly(test: Test) -> None:
    session = test.open()
    session.send(session.frame(wire.close_payload(1000), CLOSE))
    session.expect_close(1000)
    over = session.connection.over
    if over and over.reset:
        raise NonStrict("the connection was reset, though nothing was sent behind the Close")


def closes_readably(behind: bytes) -> Run:
    """A Close and that are sent: the Close that comes is not lost to a reset, whether there is one
    or not, which depends on how soon the server has read the rest."""

    def run(test: Test) -> None:
        session = test.open()
        session.send(session.frame(wire.close_payload(1000), CLOSE))
        session.pour(behind, pieces=4096)
        expect_last_close(session, 1000)

    return run


for number, what, behind in (
    (3, "a Close, and a message behind it", wire.frame(b"too late")),
    (4, "a Close, and 256 KiB of messages behind it", wire.frame(b"x" * 1018) * 256),
    (5, "a Close, and junk behind it", b"\xff" * 1000),
):
    add(
        f"T.2.{number}",
        "RFC 6455 7.1.1",
        SHOULD,
        CLEAN,
        what,
        "a Close with the same code, which no reset takes away, and nothing behind it",
        closes_readably(behind),
    )


@case(
    "T.2.6",
    "RFC 6455 5.5.1",
    MUST,
    ANSWER,
    sends="a Close, and FIN behind it",
    expects="a Close with the same code; NON-STRICT: the end of TCP alone, as nobody may be there "
    "to read the Close",
)
def close_and_fin(test: Test) -> None:
    session = test.open()
    session.send(session.frame(wire.close_payload(1000), CLOSE))
    session.connection.finish()
    try:
        session.expect_close(1000)
    except Cut as error:
        raise NonStrict(str(error)) from None


def fails(test: Test) -> tuple[Session, bool]:
    """A connection that the server fails, for a frame with reserved bits, and whether by a Close.
    Skipped when it does not: it is other cases that are about that."""
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
    """TCP ends in that time, by default that of an answer, though the Close is not answered."""

    def run(test: Test) -> None:
        session, _ = fails(test)
        seconds = test.timeout if patience is None else test.seconds(patience)
        if not ended(session.connection, seconds):
            raise Failed(f"the connection is still open after {seconds:g} s")

    return run


for number, patience, when, tags in (
    (7, None, "at once, without waiting for an answer", []),
    (8, PATIENCE, f"within {PATIENCE:g} s", SLOW),
):
    add(
        f"T.2.{number}",
        "RFC 6455 7.1.1",
        SHOULD,
        INITIATE,
        "a frame with reserved bits; the Close that comes is not answered",
        f"the end of TCP {when}",
        fails_within(patience),
        tags,
    )


def fails_readably(pieces: int, count: int) -> Run:
    """A bad frame and more behind it: the Close that tells why is not lost to a reset.

    Whether there is a reset depends on how soon the server has read the rest.
    """

    def run(test: Test) -> None:
        session, has_close = fails(test)
        if not has_close:
            raise Skipped("the server fails connections without a Close")
        session.connection.close()
        session = test.open()
        session.send(session.frame(b"x", rsv=7))
        session.pour(session.message(b"x" * pieces) * count, pieces=4096)
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
        f"a frame with reserved bits; on another connection that and {what} behind it, before "
        "anything is read",
        "a Close on the one as on the other, which no reset takes away",
        fails_readably(pieces, count),
    )


@case(
    "T.2.11",
    "RFC 6455 7.1.1",
    MAY,
    "An endpoint MAY close the connection via any means available when necessary, such as when "
    "under attack.",
    sends="a Close; behind the closing handshake an octet every 0.25 s, and no FIN",
    expects=f"a reset within {PATIENCE:g} s: what lingers is dropped in the end",
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
    raise Failed(f"the server still takes data after {test.seconds(PATIENCE):g} s")


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
    sends="a Close, then nothing is read for 0.3 s",
    expects="the Close is still there to be read",
)
def read_late(test: Test) -> None:
    session = test.open()
    session.send(session.frame(wire.close_payload(1000, b"bye"), CLOSE))
    test.pause(0.3)
    session.expect_close(1000)


# ---- T.5: a Close while data is under way -------------------------------------------------------


def closed_behind(count: int, size: int, wait: float) -> Run:
    """Messages and a Close in one go; nothing is read for a while."""

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
        f"{count} messages of {size} bytes and a Close in one go"
        + (", and nothing is read for a while" if wait else ""),
        "echoes in order, as many as the server is quick to send, a Close with the same code, and "
        "nothing behind it",
        closed_behind(count, size, wait),
    )


@case(
    "T.5.4",
    "RFC 6455 5.5.1",
    MUST,
    ANSWER,
    sends="two fragments of a message that does not end, and a Close",
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
    expects="one Close, and no data behind it; NON-STRICT: control frames",
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
    sends="a Close, octet by octet, with 0.02 s between them",
    expects="a Close with the same code, and not before the last octet",
)
def close_in_octets(test: Test) -> None:
    session = test.open()
    data = session.frame(wire.close_payload(1000), CLOSE)
    session.send(data[:-1], pieces=1, pause=0.02 * test.settings.scale)
    while session.comes(0.02):
        frame = session.connection.read_frame()
        if frame.opcode not in (PING, PONG):  # an answer has to wait until this frame is over
            raise Failed(f"expected nothing before the end of the Close, but received {frame}")
    session.send(data[-1:])
    session.expect_close(1000)
