"""Every split, group S: TCP hands over bytes in any portions, so where they are cut must not change
what a server does. S.1 cuts the request head, S.2 frames, S.3 puts frames into the segment of the
handshake, S.4 puts many frames into one segment, and one message into many.

Short frames are cut at every place, one connection for all. What needs a connection for each cut
(a handshake, a Close, an error) is done on many connections side by side, the handshake at those
places where parsers go wrong: around each line end, colon and space, and at every 16th octet.

Frames may not come with the handshake at all (RFC 6455 section 4.1: a client has to wait for the
answer), but whoever merges segments on the way makes them. S.3 is therefore no more than SHOULD.
"""

from __future__ import annotations

import time
from typing import Callable, Iterable, Sequence

from .. import wire
from ..case import (
    MUST,
    SHOULD,
    Failed,
    Informational,
    NonStrict,
    Run,
    Session,
    Test,
    add,
    case,
)
from ..wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Ended
from .heads import ACCEPT, Make, answer, expect_served, handshake, swapped, with_line
from .steps import F, expect_pong_and_echo, octets, text

OCTETS = (
    "A recipient MUST parse an HTTP message as a sequence of octets in an encoding that is a "
    "superset of US-ASCII"
)
FRAMES = "Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2."
RECEIVING = "RFC 6455 6.2"
PAUSE = 0.002  # seconds between two writes, so that they come apart
APART = 0.1  # seconds for all writes of a head: of few, each waits the longer
TOGETHER = 16  # connections side by side
PATIENCE = 4.0
"""Times the time for an answer, where a busy server has so many connections to serve."""

# ---- where to cut -------------------------------------------------------------------------------


def places(head: bytes) -> list[int]:
    """Where a head is cut."""
    around = {at + side for at, octet in enumerate(head) if octet in b"\r\n: " for side in (0, 1)}
    return sorted(at for at in around | set(range(16, len(head), 16)) if 0 < at < len(head))


def each_cut(
    test: Test, data: bytes, cuts: Iterable[int], opened: Callable[[], wire.Connection]
) -> Iterable[tuple[int, wire.Connection]]:
    """Connections that got the data in two writes, one for each cut, many side by side."""
    cuts = list(cuts)
    for first in range(0, len(cuts), TOGETHER):
        some = [(cut, opened()) for cut in cuts[first : first + TOGETHER]]
        for cut, connection in some:
            send_part(connection, data[:cut])
        time.sleep(test.seconds(0.01))
        for cut, connection in some:
            send_part(connection, data[cut:])
        yield from some
        for _, connection in some:
            connection.close()


def send_part(connection: wire.Connection, data: bytes) -> None:
    """What the server has ended already, its answer tells."""
    try:
        connection.send(data)
    except Ended:
        pass


def cut_at(session: Session, data: bytes, *cuts: int) -> None:
    """Send it in parts."""
    ends = [0, *cuts, len(data)]
    for start, end in zip(ends, ends[1:]):
        session.send(data[start:end])
        time.sleep(session.test.seconds(PAUSE))


# ---- S.1: the request head ----------------------------------------------------------------------


def opens(test: Test, connection: wire.Connection) -> Session:
    """The handshake that was sent on it succeeds. Failed."""
    response = answer(connection)
    if response.status != 101 or response.get("Sec-WebSocket-Accept") != ACCEPT:
        raise Failed(f"the handshake was answered with {response.status}")
    return Session(test, connection, response)


def head_in_parts(parts: Callable[[bytes], Sequence[bytes]]) -> Run:
    """A handshake in these writes."""

    def run(test: Test) -> None:
        connection = test.connect()
        writes = parts(handshake(test))
        for part in writes:
            connection.send(part)
            time.sleep(test.seconds(max(PAUSE, APART / len(writes))))
        session = opens(test, connection)
        session.send(session.message(b"opened"))
        session.expect_message(b"opened")
        session.close()

    return run


def chops(size: int) -> Callable[[bytes], Sequence[bytes]]:
    return lambda data: [data[i : i + size] for i in range(0, len(data), size)]


for number, what, parts in (
    (1, "octet by octet", chops(1)),
    (2, "in chops of 2", chops(2)),
    (3, "in chops of 3", chops(3)),
    (4, "in chops of 7", chops(7)),
    (5, "in chops of 64", chops(64)),
    (6, "line by line", lambda data: data.splitlines(keepends=True)),
    (7, "line by line, each LF in the write of the next line",
     lambda data: [line + b"\r" if i == 0 else b"\n" + line + b"\r" if line else b"\n\r"
                   for i, line in enumerate(data[:-4].split(b"\r\n"))] + [b"\n\r", b"\n"]),
    (8, "whole, but for its last four octets, which come one by one",
     lambda data: [data[:-4], b"\r", b"\n", b"\r", b"\n"]),
    (9, "its first octet alone, then the rest", lambda data: [data[:1], data[1:]]),
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
    sends="handshakes in two writes: cut at each line end, colon and space, and every 16 octets",
    expects="101 each time",
)
def two_parts(test: Test) -> None:
    test.patience = PATIENCE
    data = handshake(test)
    for cut, connection in each_cut(test, data, places(data), test.connect):
        try:
            opens(test, connection)
        except (Failed, NonStrict) as error:
            raise Failed(f"cut at {cut}: {error}") from None


@case(
    "S.1.11",
    "RFC 9112 2.2",
    MUST,
    OCTETS,
    sends="16 handshakes, each in four writes, cut at random",
    expects="101 each time",
)
def random_parts(test: Test) -> None:
    test.patience = PATIENCE
    data = handshake(test)
    cuts = [sorted(test.random.sample(range(1, len(data)), 3)) for _ in range(16)]
    connections = [test.connect() for _ in cuts]
    for i in range(4):
        for connection, (a, b, c) in zip(connections, cuts):
            connection.send((data[:a], data[a:b], data[b:c], data[c:])[i])
        time.sleep(test.seconds(PAUSE))
    for connection in connections:
        opens(test, connection)


def status_of(connection: wire.Connection) -> int:
    """Of the response; 0 when the connection is ended without one."""
    try:
        return answer(connection).status
    except NonStrict:
        return 0


def same_refusal(make: Make) -> Run:
    """The status is the same for the request as a whole and for its parts."""

    def run(test: Test) -> None:
        test.patience = PATIENCE
        data = make(test)
        connection = test.connect()
        connection.send(data)
        whole = status_of(connection)
        if whole == 101:
            raise Failed("the handshake was accepted")
        for cut, connection in each_cut(test, data, places(data)[::3], test.connect):
            status = status_of(connection)
            if status != whole:
                raise Failed(f"{whole} as a whole, {status} when cut at {cut}")

    return run


for number, what, make in (
    (12, "without a key", swapped(b"Sec-WebSocket-Key", b"X-Key")),
    (13, "with version 99", swapped(b"Version: 13", b"Version: 99")),
    (14, "with a space before a colon", swapped(b"Host:", b"Host :")),
    (15, "with a NUL in a field name", with_line(b"X-\0: value")),
    (16, "with two different Content-Length",
     with_line(b"Content-Length: 0\r\nContent-Length: 7")),
):  # fmt: skip
    add(
        f"S.1.{number}",
        "RFC 9112 2.2",
        MUST,
        OCTETS,
        f"a handshake {what}, as a whole, then in two writes, cut at a third of the places",
        "the same error status each time",
        same_refusal(make),
    )

# ---- S.2: frames --------------------------------------------------------------------------------

CHARACTERS = "aäß€𐍈z".encode()
"""Of one to four bytes in UTF-8."""


def echoed_at(payload: bytes, opcode: int, cuts: Sequence[int] = ()) -> Run:
    """A message in two writes, at every place, or at these."""

    def run(test: Test) -> None:
        session = test.open()
        data = session.frame(payload, opcode)
        for cut in cuts or range(1, len(data)):
            cut_at(session, data, cut)
            session.expect_message(payload, opcode)
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
        f"{what} in two writes, cut at every place",
        "its echo each time",
        echoed_at(payload, opcode),
    )
add(
    "S.2.8", RECEIVING, MUST, FRAMES,
    "a binary message of 65536 bytes in two writes, cut at each of the first 20 octets, in the "
    "middle, and at each of the last 3",
    "its echo each time", echoed_at(octets(65536), BINARY, [*range(1, 21), 32768, -3, -2, -1]),
)  # fmt: skip


@case(
    "S.2.9",
    RECEIVING,
    MUST,
    FRAMES,
    sends="a text message of 130 bytes in three writes, every two cuts in its first 9 octets",
    expects="its echo each time",
)
def header_in_three(test: Test) -> None:
    session = test.open()
    data = session.frame(text(130))
    for second in range(2, 10):
        for first in range(1, second):
            cut_at(session, data, first, second)
            session.expect_message(text(130))
    session.close()


def sequence_at(frames: Sequence[F], answers: Sequence[tuple[int, bytes]]) -> Run:
    """These frames in two writes, cut at every place; these answers come, see `expect_all`."""

    def run(test: Test) -> None:
        session = test.open()
        data = b"".join(frame.bytes(session) for frame in frames)
        for cut in range(1, len(data)):
            cut_at(session, data, cut)
            expect_all(session, answers)
        session.close()

    return run


def expect_all(session: Session, answers: Sequence[tuple[int, bytes]]) -> None:
    """The echoes in this order; a Pong may come before echoes that were due earlier. Failed."""
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
            raise Failed(f"not due, or not in order: {frame}")


MIXED = (F(b"one"), F(b"two", BINARY), F(b"", PONG), F(b"!", PING), F(b"three"))
MIXED_ANSWERS = ((TEXT, b"one"), (BINARY, b"two"), (PONG, b"!"), (TEXT, b"three"))
PIECES = (F(b"He", fin=False), F(b"l", CONTINUATION, fin=False), F(b"lo", CONTINUATION))
for number, what, frames, answers in (
    (10, "a Ping of 5 bytes", (F(b"alive", PING),), ((PONG, b"alive"),)),
    (11, "a Pong and a message", (F(b"x", PONG), F(b"after")), ((TEXT, b"after"),)),
    (12, "a message in three fragments", PIECES, ((TEXT, b"Hello"),)),
    (13, "a message, the fragments of which part characters",
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
        f"{what} in two writes, cut at every place",
        "the same answers each time",
        sequence_at(frames, answers),
    )


@case(
    "S.2.17",
    RECEIVING,
    MUST,
    FRAMES,
    sends="a Ping between two fragments in two writes, cut at every place",
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
    sends="messages, a Pong and a Ping octet by octet, with a pause behind each",
    expects="the echoes in order, and the Pong",
)
def mixed_octets(test: Test) -> None:
    session = test.open()
    data = b"".join(frame.bytes(session) for frame in MIXED)
    session.send(data, pieces=1, pause=test.seconds(PAUSE))
    expect_all(session, MIXED_ANSWERS)
    session.close()


def closed_at(make: Callable[[Session], bytes], judge: Callable[[Session], None]) -> Run:
    """On a connection for each cut: what is sent ends the connection, in the same way each time.

    Long frames are cut at their first octets.
    """

    def run(test: Test) -> None:
        test.patience = PATIENCE
        sessions: list[Session] = []

        def opened() -> wire.Connection:
            session = test.open()
            session.key = bytes(4)
            sessions.append(session)
            return session.connection

        opened()
        data = make(sessions[0])
        cuts = range(1, min(len(data), 2 * TOGETHER))
        for cut, connection in each_cut(test, data, cuts, opened):
            session = next(s for s in sessions if s.connection is connection)
            try:
                judge(session)
            except Failed as error:
                raise Failed(f"cut at {cut}: {error}") from None

    return run


add(
    "S.2.19", RECEIVING, MUST, FRAMES, "a Close with a code and a reason, cut at every place",
    "a Close with the same code, then the end of TCP, each time",
    closed_at(
        lambda session: session.frame(wire.close_payload(1000, b"done"), CLOSE),
        lambda session: session.expect_close(1000),
    ),
)  # fmt: skip
for number, what, bad, code in (
    (20, "a frame with a reserved bit", (F(b"x", rsv=4),), 1002),
    (21, "a frame with opcode 3", (F(b"x", 3),), 1002),
    (22, "a continuation of nothing", (F(b"x", CONTINUATION),), 1002),
    (23, "a fragment of a Ping", (F(b"x", PING, fin=False),), 1002),
    (24, "a Ping of 126 bytes", (F(b"x" * 126, PING),), 1002),
    (25, "a message within another", (F(b"x", fin=False), F(b"y")), 1002),
    (26, "a Close with half a code", (F(b"\x03", CLOSE),), 1002),
    (27, "a Close with code 999", (F(wire.close_payload(999), CLOSE),), 1002),
    (28, "a text that is no UTF-8", (F(b"a\xc0\xafb"),), 1007),
    (29, "a text that ends within a character", (F(b"ab\xe2\x82"),), 1007),
    (30, "a Close whose reason is no UTF-8", (F(b"\x03\xe8\xff", CLOSE),), 1007),
):

    def make_bad(session: Session, bad: Sequence[F] = bad) -> bytes:
        return b"".join(frame.bytes(session) for frame in bad)

    def fails(session: Session, code: int = code) -> None:
        session.expect_failure(code)

    add(
        f"S.2.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"{what} in two writes, cut at every place up to the 31st",
        f"the connection is failed with {code} each time",
        closed_at(make_bad, fails),
    )
add(
    "S.2.31", RECEIVING, MUST, FRAMES, "a frame without a mask in two writes, cut at every place",
    "the connection is failed with 1002 each time",
    closed_at(
        lambda session: wire.frame(b"x", key=None), lambda session: session.expect_failure(1002)
    ),
)  # fmt: skip

# ---- S.3: frames in the segment of the handshake ------------------------------------------------

BEGINS = "At this point, the server may begin sending (and receiving) data."


def ahead(test: Test, frames: bytes, pieces: int | None = None) -> Session:
    """A handshake, and frames without waiting for its answer."""
    return test.open(ahead=frames, pieces=pieces)


def early(frames: Sequence[F], answers: Sequence[tuple[int, bytes]], how: int | None) -> Run:
    """These frames come with the handshake."""

    def run(test: Test) -> None:
        data = b"".join(
            wire.frame(f.payload, f.opcode, f.fin, f.rsv, length=f.length) for f in frames
        )
        session = ahead(test, data, how)
        expect_all(session, answers)
        session.close()

    return run


HUNDRED = [b"message %d" % i for i in range(100)]
EARLY: Sequence[tuple[int, str, Sequence[F], Sequence[tuple[int, bytes]], int | None]] = (
    (1, "a message", (F(b"early"),), ((TEXT, b"early"),), None),
    (2, "a Ping", (F(b"early", PING),), ((PONG, b"early"),), None),
    (3, "messages, a Pong and a Ping", MIXED, MIXED_ANSWERS, None),
    (4, "a message in three fragments", PIECES, ((TEXT, b"Hello"),), None),
    (5, "100 messages", [F(m) for m in HUNDRED], [(TEXT, m) for m in HUNDRED], None),
    (6, "a message of 16000 bytes", (F(text(16000)),), ((TEXT, text(16000)),), None),
    (7, "a message, all octet by octet", (F(b"early"),), ((TEXT, b"early"),), 1),
    (8, "messages, a Pong and a Ping, all in chops of 7", MIXED, MIXED_ANSWERS, 7),
)
for number, what, sent, due, how in EARLY:
    add(
        f"S.3.{number}",
        "RFC 6455 4.2.2",
        SHOULD,
        BEGINS,
        f"a handshake and, without waiting for its answer, {what}",
        "101, then the answers to all the frames",
        early(sent, due, how),
    )


@case(
    "S.3.9",
    "RFC 6455 4.2.2",
    SHOULD,
    BEGINS,
    sends="a handshake and half a message; after the 101 the rest",
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
    sends="a handshake and a frame without a mask in one segment",
    expects="101, then the connection is failed with 1002; an error status is NON-STRICT",
)
def bad_ahead(test: Test) -> None:
    try:
        session = ahead(test, wire.frame(b"early", key=None))
    except Failed as error:
        raise NonStrict(str(error)) from None
    session.expect_failure(1002)


@case(
    "S.3.13",
    "RFC 6455 4.2.2",
    SHOULD,
    BEGINS,
    sends="a handshake and a message in two writes, cut at each of the last 6 octets of the head, "
    "behind it, and at each octet of the frame",
    expects="101 and the echo each time",
)
def cut_between(test: Test) -> None:
    test.patience = PATIENCE
    head, data = handshake(test), wire.frame(b"early")
    cuts = range(len(head) - 6, len(head) + len(data))
    for cut, connection in each_cut(test, head + data, cuts, test.connect):
        try:
            opens(test, connection).expect_message(b"early")
        except (Failed, NonStrict) as error:
            raise Failed(f"cut at {cut - len(head)} from the end of the head: {error}") from None


# ---- S.4: many frames in one segment, one message in many ---------------------------------------


def served(payloads: Sequence[bytes], how: int | None, size: int | None, pause: float = 0.0) -> Run:
    """Text messages, in fragments of `size` bytes, all of them in writes of `how` bytes."""

    def run(test: Test) -> None:
        session = test.open()
        data = b"".join(session.message(payload, size=size) for payload in payloads)
        session.send(data, how or None, test.seconds(pause))
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
        "the echoes, whole and in order",
        served(payloads, how, size, pause),
    )


@case(
    "S.4.10",
    RECEIVING,
    MUST,
    FRAMES,
    sends="50 messages of 0 to 300 bytes, text and binary, in writes of random lengths",
    expects="the echoes, whole and in order",
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
    expects="the echo, a Close with the same code, and the end of TCP",
)
def message_and_close(test: Test) -> None:
    session = test.open()
    close = session.frame(wire.close_payload(1000), CLOSE)
    session.send(session.message(b"last words") + close)
    frame = session.read("the echo or a Close")
    if frame.opcode == CLOSE:
        session.expect_end()
        raise Informational("the connection is closed before the message is echoed")
    if frame.payload != b"last words":
        raise Failed(f"expected the echo, but {frame} came")
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
        session.expect_close(1000)

    add(
        f"S.4.{number}",
        "RFC 6455 1.4",
        SHOULD,
        BEHIND,
        f"a Close and {what} in one write",
        "a Close with the same code, then the end of TCP, and nothing else",
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
        time.sleep(test.seconds(0.1))
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
    )


@case(
    "S.4.21",
    RECEIVING,
    MUST,
    FRAMES,
    sends="two messages on 16 connections, each octet to all of them before the next one",
    expects="the echoes on each: what is half received is kept apart",
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
