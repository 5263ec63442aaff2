# SPDX-License-Identifier: MIT
"""Every split, group S: TCP delivers bytes in arbitrary portions, so splits must not change what a
server does. S.1 splits the request head, S.3 puts frames into the segment of the handshake. S.2 and
S.4, which are only about frames, are in segments.py.

Splits that need a connection each (of a handshake, a Close, an error) use many connections at a
time. Handshakes are split where parsers may fail: around each line end, colon and space, and at
every 16th octet.

A client must not send frames with the handshake (RFC 6455 section 4.1: it has to wait for the
response), but middleboxes that merge segments can have this effect. S.3 is therefore only SHOULD.
"""

from __future__ import annotations

from typing import Callable, Iterable, Sequence, TypeVar

from .. import wire
from ..case import MUST, SHOULD, Run, Test, add, case
from ..session import Session
from ..verdicts import Cut, Failed, Late, NonStrict, Skipped, refusal
from ..wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Ended
from .heads import ACCEPT, Make, answer, handshake, swapped, with_line
from .steps import F, text

OCTETS = (
    "A recipient MUST parse an HTTP message as a sequence of octets in an encoding that is a "
    "superset of US-ASCII"
)
FRAMES = "Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2."
RECEIVING = "RFC 6455 6.2"
PAUSE = 0.002  # seconds between two writes, so that they arrive separately
APART = 0.1  # seconds for all writes of a head, divided among them
TOGETHER = 16  # concurrent connections, if the server supports them
PATIENCE = 4.0
"""A factor for the time of an answer while a server handles that many connections."""

T = TypeVar("T")

# ---- positions of splits ------------------------------------------------------------------------


def places(head: bytes) -> list[int]:
    """Return the positions where a head is split."""
    around = {at + side for at, octet in enumerate(head) if octet in b"\r\n: " for side in (0, 1)}
    return sorted(at for at in around | set(range(16, len(head), 16)) if 0 < at < len(head))


def each_cut(
    test: Test, data: bytes, cuts: Iterable[int], opened: Callable[[], wire.Connection]
) -> Iterable[tuple[int, wire.Connection]]:
    """Yield connections that got the data in two writes, one for each split."""
    cuts = list(cuts)
    together = 1 if test.settings.manners.one_connection else TOGETHER
    for first in range(0, len(cuts), together):
        some = [(cut, opened()) for cut in cuts[first : first + together]]
        for cut, connection in some:
            send_part(connection, data[:cut])
        test.pause(0.01)
        for cut, connection in some:
            send_part(connection, data[cut:])
        yield from some
        for _, connection in some:
            connection.close()


def send_part(connection: wire.Connection, data: bytes) -> None:
    """Send data; if the server has ended the connection, its answer shows why."""
    try:
        connection.send(data)
    except Ended:
        pass


# ---- S.1: the request head ----------------------------------------------------------------------


def opens(test: Test, connection: wire.Connection) -> Session:
    """Expect that the handshake sent on a connection succeeds, or raise Failed."""
    response = test.expect_response(connection)
    if response.status != 101:
        raise refusal(response.status)
    if response.get("Sec-WebSocket-Accept") != ACCEPT:
        raise Failed("Sec-WebSocket-Accept does not match the key")
    return test.session(connection, response)


def head_in_parts(parts: Callable[[bytes], Sequence[bytes]]) -> Run:
    """Send a handshake in these writes."""

    def run(test: Test) -> None:
        connection = test.connect()
        writes = parts(handshake(test))
        for part in writes:
            send_part(connection, part)
            test.pause(max(PAUSE, APART / len(writes)))
        session = opens(test, connection)
        session.send(session.message(b"opened"))
        session.expect_message(b"opened")
        session.close()

    return run


def chops(size: int) -> Callable[[bytes], Sequence[bytes]]:
    return lambda data: [data[i : i + size] for i in range(0, len(data), size)]


for number, what, parts in (
    (1, "octet by octet", chops(1)),
    (2, "in pieces of 2 octets", chops(2)),
    (3, "in pieces of 3 octets", chops(3)),
    (4, "in pieces of 7 octets", chops(7)),
    (5, "in pieces of 64 octets", chops(64)),
    (6, "line by line", lambda data: data.splitlines(keepends=True)),
    (7, "line by line, each LF in the write of the next line",
     lambda data: [line + b"\r" if i == 0 else b"\n" + line + b"\r" if line else b"\n\r"
                   for i, line in enumerate(data[:-4].split(b"\r\n"))] + [b"\n\r", b"\n"]),
    (8, "in one write except for its last four octets, which are sent one by one",
     lambda data: [data[:-4], b"\r", b"\n", b"\r", b"\n"]),
    (9, "with the first octet in its own write", lambda data: [data[:1], data[1:]]),
):  # fmt: skip
    add(
        f"S.1.{number}",
        "RFC 9112 2.2",
        MUST,
        OCTETS,
        f"a handshake {what}",
        "101, and the connection echoes",
        head_in_parts(parts),
    )


@case(
    "S.1.10",
    "RFC 9112 2.2",
    MUST,
    OCTETS,
    sends="handshakes in two writes, split at each line end, colon and space, and every 16 octets",
    expects="101 each time",
)
def two_parts(test: Test) -> None:
    test.patience = PATIENCE
    data = handshake(test)
    for cut, connection in each_cut(test, data, places(data), test.connect):
        try:
            opens(test, connection)
        except Failed as error:
            raise Failed(f"split at {cut}: {error}") from None


@case(
    "S.1.11",
    "RFC 9112 2.2",
    MUST,
    OCTETS,
    sends="16 handshakes, each in four writes, split at random",
    expects="101 each time",
    tags=["several"],
)
def random_parts(test: Test) -> None:
    test.patience = PATIENCE
    data = handshake(test)
    cuts = [sorted(test.random.sample(range(1, len(data)), 3)) for _ in range(16)]
    connections = [test.connect() for _ in cuts]
    for i in range(4):
        for connection, (a, b, c) in zip(connections, cuts):
            send_part(connection, (data[:a], data[a:b], data[b:c], data[c:])[i])
        test.pause(PAUSE)
    for connection in connections:
        opens(test, connection)


def status_of(connection: wire.Connection) -> int:
    """Return the status of the response (0: the connection ended), or raise Failed."""
    try:
        return answer(connection).status
    except NonStrict:
        return 0


def told(status: int) -> str:
    return f"status {status}" if status else "the end of TCP"


def same_answer(make: Make) -> Run:
    """Expect that a request in parts is refused or accepted as in one write.

    Raises NonStrict for another status, and Skipped if the request in one write is not answered.
    """

    def run(test: Test) -> None:
        test.patience = PATIENCE
        data = make(test)
        connection = test.connect()
        send_part(connection, data)
        try:
            whole = status_of(connection)
        except Failed as error:
            raise Skipped(f"in one write: {error}") from None
        connection.close()
        for cut, connection in each_cut(test, data, places(data)[::3], test.connect):
            status = status_of(connection)
            differ = f"{told(whole)} in one write, {told(status)} when split at {cut}"
            if (status == 101) != (whole == 101):
                raise Failed(differ)
            if status != whole:
                test.lax = test.lax or differ

    return run


for number, what, make in (
    (12, "without a key", swapped(b"Sec-WebSocket-Key", b"X-Key")),
    (13, "with version 99", swapped(b"Version: 13", b"Version: 99")),
    (14, "with a space before a colon", swapped(b"Host:", b"Host :")),
    (15, "with a NUL in a field name", with_line(b"X-\0: value")),
    (16, "with two different Content-Length fields",
     with_line(b"Content-Length: 0\r\nContent-Length: 7")),
):  # fmt: skip
    add(
        f"S.1.{number}",
        "RFC 9112 2.2",
        MUST,
        OCTETS,
        f"a handshake {what} in one write, then in two writes, split at a third of the positions",
        "the same answer each time; NON-STRICT: another error",
        same_answer(make),
    )

# ---- S.3: frames in the segment of the handshake ------------------------------------------------

MIXED = (F(b"one"), F(b"two", BINARY), F(b"", PONG), F(b"!", PING), F(b"three"))
MIXED_ANSWERS = ((TEXT, b"one"), (BINARY, b"two"), (PONG, b"!"), (TEXT, b"three"))
PIECES = (F(b"He", fin=False), F(b"l", CONTINUATION, fin=False), F(b"lo", CONTINUATION))
HUNDRED = [b"message %d" % i for i in range(100)]
BEGINS = "At this point, the server may begin sending (and receiving) data."


def expect_all(session: Session, answers: Sequence[tuple[int, bytes]]) -> None:
    """Expect echoes in order, where a Pong may precede earlier echoes, or raise Failed."""
    echoes = [answer for answer in answers if answer[0] != PONG]
    pongs = [answer for answer in answers if answer[0] == PONG]
    for _ in answers:
        frame = session.read("an echo or a Pong")
        came = (frame.opcode, frame.payload)
        if frame.opcode in (TEXT, BINARY):
            opcode, _, payload = session.read_rest(frame, "an echo")
            came = (opcode, payload)
        due = pongs if frame.opcode == PONG else echoes
        if not due or came != due.pop(0):
            raise Failed(f"unexpected or out of order: {frame}")


def ahead(test: Test, frames: bytes, chop: int | None = None) -> Session:
    """Send a handshake, and frames without waiting for the response.

    The frames are in one write with the last octet of the handshake. Otherwise the server's speed
    would decide what arrives together. The octets before it are sent in writes of `chop` octets.
    """
    if chop is None:
        return test.open(ahead=frames)
    connection = test.connect()
    data = handshake(test)
    connection.send(data[:-1], chop, PAUSE * test.settings.scale)
    connection.send(data[-1:] + frames)
    return opens(test, connection)


def early(frames: Sequence[F], answers: Sequence[tuple[int, bytes]], how: int | None) -> Run:
    """Send these frames with the handshake."""

    def run(test: Test) -> None:
        data = b"".join(
            wire.frame(f.payload, f.opcode, f.fin, f.rsv, length=f.length) for f in frames
        )
        session = ahead(test, data, how)
        session.pings.update(f.payload for f in frames if f.opcode == PING)
        expect_all(session, answers)
        session.close()

    return run


EARLY: Sequence[tuple[int, str, Sequence[F], Sequence[tuple[int, bytes]], int | None]] = (
    (1, "a message", (F(b"early"),), ((TEXT, b"early"),), None),
    (2, "a Ping", (F(b"early", PING),), ((PONG, b"early"),), None),
    (3, "messages, a Pong and a Ping", MIXED, MIXED_ANSWERS, None),
    (4, "a message in three fragments", PIECES, ((TEXT, b"Hello"),), None),
    (5, "100 messages", [F(m) for m in HUNDRED], [(TEXT, m) for m in HUNDRED], None),
    (6, "a message of 16000 bytes", (F(text(16000)),), ((TEXT, text(16000)),), None),
    (7, "a message in the write of the last octet; the others one by one", (F(b"early"),),
     ((TEXT, b"early"),), 1),
    (8, "messages, a Pong and a Ping in the write of the last octet; the others in pieces of 7",
     MIXED, MIXED_ANSWERS, 7),
)  # fmt: skip
for number, what, sent, due, how in EARLY:
    add(
        f"S.3.{number}",
        "RFC 6455 4.2.2",
        SHOULD,
        BEGINS,
        f"a handshake and, without waiting for the response, {what}",
        "101, then the answers to all the frames",
        early(sent, due, how),
    )


@case(
    "S.3.9",
    "RFC 6455 4.2.2",
    SHOULD,
    BEGINS,
    sends="a handshake and half a message; the rest after the 101",
    expects="101, then the echo",
)
def half_ahead(test: Test) -> None:
    data = wire.frame(b"early bird")
    for cut in (1, 2, 5, 9):
        session = ahead(test, data[:cut])
        session.send(data[cut:])
        session.expect_message(b"early bird")
        session.close()


@case(
    "S.3.10",
    "RFC 6455 4.2.2",
    SHOULD,
    BEGINS,
    sends="a handshake and a Close in one segment",
    expects="101, a Close with the same code, and the end of TCP",
)
def close_ahead(test: Test) -> None:
    ahead(test, wire.frame(wire.close_payload(1000), CLOSE)).expect_close(1000)


@case(
    "S.3.11",
    "RFC 6455 4.2.2",
    SHOULD,
    BEGINS,
    sends="a handshake, a message and a Close in one segment",
    expects="101, the echo, a Close with the same code, and the end of TCP",
)
def message_and_close_ahead(test: Test) -> None:
    session = ahead(test, wire.frame(b"early") + wire.frame(wire.close_payload(1000), CLOSE))
    session.expect_message(b"early")
    session.expect_close(1000)


@case(
    "S.3.12",
    "RFC 6455 5.1",
    MUST,
    "The server MUST close the connection upon receiving a frame that is not masked.",
    sends="a handshake and an unmasked frame in one segment",
    expects="101, then the connection is failed with 1002; NON-STRICT: an error status, or the "
    "frame is lost because it arrived too early",
)
def bad_ahead(test: Test) -> None:
    try:
        session = ahead(test, wire.frame(b"early", key=None))
    except Failed as error:
        raise NonStrict(str(error)) from None
    try:
        frame = session.read("a Close with 1002")
    except (Cut, Late) as error:
        raise NonStrict(str(error)) from None
    if frame.opcode != CLOSE:
        raise Failed(f"the frame was accepted: received {frame}")
    session.send(session.frame(frame.payload[:2], CLOSE))
    session.expect_end()
    if frame.close_code != 1002:
        raise NonStrict(f"expected a Close with 1002, but received {frame}")


@case(
    "S.3.13",
    "RFC 6455 4.2.2",
    SHOULD,
    BEGINS,
    sends="a handshake and a message in two writes, split at each of the last 6 octets of the head,"
    " after it, and at each octet of the frame",
    expects="101 and the echo each time",
)
def cut_between(test: Test) -> None:
    test.patience = PATIENCE
    head, data = handshake(test), wire.frame(b"early")
    cuts = range(len(head) - 6, len(head) + len(data))
    for cut, connection in each_cut(test, head + data, cuts, test.connect):
        try:
            opens(test, connection).expect_message(b"early")
        except Failed as error:
            raise Failed(f"split at {cut - len(head)} from the end of the head: {error}") from None
