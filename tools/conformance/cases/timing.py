"""Time, and connections that break off, group T: half-open handshakes (T.1), the end of TCP after
the closing handshake (T.2), half-closed connections (T.3), resets at awkward moments (T.4), and a
Close while data is under way (T.5).

No RFC says how long a server has to wait for whom. What is left to it (and tagged "slow": it takes
as long as the server's own timeouts, but PATIENCE seconds at most) is INFORMATIONAL; that others
are served meanwhile is not.
"""

from __future__ import annotations

import time
from typing import Callable

from .. import wire
from ..case import (
    MAY,
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
from ..wire import BINARY, CLOSE, CONTINUATION, PING, Connection, Ended, TimedOut
from .flow import echoes, numbered
from .heads import (
    KEY,
    ask,
    ended,
    expect_accepted,
    expect_served,
    handshake,
    plain,
    read_body,
    read_to_end,
    tokens,
)

PATIENCE = 12.0
"""Seconds after which a connection that never gets anywhere should be gone."""
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
FRAMES = "Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2."
RECEIVING = "RFC 6455 6.2"
AT_ONCE = "The server MUST close the underlying TCP connection immediately"
CLEAN = (
    "An endpoint SHOULD use a method that cleanly closes the TCP connection, as well as the TLS "
    "session, if applicable, discarding any trailing bytes that may have been received."
)
INITIATE = (
    "when a server is instructed to _Close the WebSocket Connection_ it SHOULD initiate a TCP "
    "Close immediately"
)
ANSWER = (
    "If an endpoint receives a Close frame and did not previously send a Close frame, the endpoint "
    "MUST send a Close frame in response."
)
NOTHING_MORE = "The application MUST NOT send any more data frames after sending a Close frame."

# ---- T.1: handshakes that get nowhere -----------------------------------------------------------


def expect_cut(test: Test, connection: Connection) -> None:
    """The server ends it after a while; if it says anything, then 408 or another error. Failed."""
    if not ended(connection, test.seconds(PATIENCE)):
        raise Failed(f"the connection is still open after {test.seconds(PATIENCE):g} s")
    data = bytes(connection.buffer)
    if data and not data.startswith((b"HTTP/1.1 4", b"HTTP/1.0 4")):
        raise Failed(f"this came: {wire.shown(data)}")


def cut_off(sends: Callable[[Test], bytes]) -> Run:
    """That, and no more."""

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
        f"{what}, and then one waits",
        f"the end of the connection, perhaps behind a 408, within {PATIENCE:g} s",
        cut_off(sends),
        SLOW,
    )


@case(
    "T.1.3",
    "RFC 9112 9.5",
    MAY,
    RESTS,
    sends="a request head that never ends, an octet every 0.25 s",
    expects=f"the end of the connection within {PATIENCE:g} s: drops do not extend the time",
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
    """That, then FIN: the server ends the connection, too."""

    def run(test: Test) -> None:
        connection = test.connect()
        connection.send(sends(test))
        connection.finish()
        if not ended(connection, test.timeout):
            raise Failed("the connection stays open")
        if connection.buffer and not connection.buffer.startswith(b"HTTP/1."):
            raise Failed(f"this came: {wire.shown(bytes(connection.buffer))}")

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
        "the end of the connection at once, perhaps behind a response",
        gives_up(sends),
    )


@case(
    "T.1.9",
    "RFC 6455 4.2.2",
    MUST,
    "the server considers the WebSocket connection to be established",
    sends="a handshake in five parts, with 0.1 s between them",
    expects="101, and the connection echoes",
)
def unhurried(test: Test) -> None:
    data = handshake(test)
    connection = test.connect()
    for part in (data[:3], data[3:40], data[40:90], data[90:-1]):
        connection.send(part)
        time.sleep(test.seconds(0.1))
    connection.send(data[-1:])
    session = Session(test, connection, test.expect_response(connection))
    session.send(session.message(b"at last"))
    session.expect_message(b"at last")
    session.close()


@case(
    "T.1.10",
    RECEIVING,
    MUST,
    FRAMES,
    sends="nothing for 0.5 s behind the 101, then a message",
    expects="its echo",
)
def silent_client(test: Test) -> None:
    session = expect_accepted(test, handshake(test))
    time.sleep(test.seconds(0.5))
    session.send(session.message(b"awake"))
    session.expect_message(b"awake")
    session.close()


# A connection that is kept behind a response. Who ends it there cannot be wrong.


def asked_plainly(test: Test) -> tuple[Connection, bool]:
    """A plain GET, and its whole response: whether the connection is kept. Failed, NonStrict."""
    connection, response = ask(test, plain(test))
    if response.status == 101:
        raise Failed("a request without Upgrade was answered with 101")
    read_body(connection, response)
    kept = response.get("Content-Length") or response.get("Transfer-Encoding")
    return connection, bool(kept) and "close" not in tokens(response, "Connection")


@case(
    "T.1.11",
    "RFC 9112 9.2",
    MUST,
    "More than one response message per request only occurs when one or more informational "
    "responses ... precede a final response to the same request.",
    sends="a plain GET, and nothing behind its response",
    expects=f"the end of the connection within {PATIENCE:g} s, perhaps behind a 408; "
    "INFORMATIONAL: it stays open",
    tags=SLOW,
)
def idle_behind_response(test: Test) -> None:
    connection, _ = asked_plainly(test)
    is_over = ended(connection, test.seconds(PATIENCE))
    data = bytes(connection.buffer)
    if data and not data.startswith((b"HTTP/1.1 408", b"HTTP/1.0 408")):
        raise Failed(f"nobody has asked for what came behind the response: {wire.shown(data)}")
    if not is_over:
        raise Informational(f"the connection is still open after {test.seconds(PATIENCE):g} s")


@case(
    "T.1.12",
    "RFC 9112 9.3.2",
    MUST,
    "it MUST send the corresponding responses in the same order that the requests were received.",
    sends="a plain GET; if its response keeps the connection, 0.5 s later a handshake",
    expects="101; or the end of the connection",
)
def handshake_on_kept(test: Test) -> None:
    connection, kept = asked_plainly(test)
    if not kept:
        return
    time.sleep(test.seconds(0.5))
    try:
        connection.send(handshake(test))
        response = connection.read_response()
    except Ended:
        raise Informational("the connection is ended less than 0.5 s behind a response") from None
    if response.status != 101:
        raise Failed(f"the handshake was answered with {response.status}")


@case(
    "T.1.13",
    "RFC 9112 9.5",
    SHOULD,
    MONITOR,
    sends="a plain GET, and FIN behind its response",
    expects="the end of the connection at once, and nothing ahead of it",
)
def finished_behind_response(test: Test) -> None:
    connection, _ = asked_plainly(test)
    connection.finish()
    if not ended(connection, test.timeout):
        raise Failed("the connection stays open")
    if connection.buffer:
        raise Failed(f"this came: {wire.shown(bytes(connection.buffer))}")


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
    test.open().close()


def expect_fin(connection: Connection) -> bytes:
    """FIN, no reset: what came before it. NonStrict, Failed."""
    try:
        return read_to_end(connection)
    except Ended:
        raise NonStrict("the connection was reset") from None
    except TimedOut:
        raise Failed("the server does not end TCP") from None


def clean(behind: bytes) -> Run:
    """A Close and that are sent: a Close and FIN come."""

    def run(test: Test) -> None:
        session = test.open()
        session.send(session.frame(wire.close_payload(1000), CLOSE))
        session.send(behind, pieces=4096)
        data = expect_fin(session.connection)
        if data != b"\x88\x02\x03\xe8":
            raise Failed(f"expected a Close with 1000, but {wire.shown(data)} came")

    return run


for number, what, behind in (
    (2, "a Close", b""),
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
        "a Close with the same code, then FIN, no reset",
        clean(behind),
    )


@case(
    "T.2.6",
    "RFC 6455 5.5.1",
    MUST,
    ANSWER,
    sends="a Close, and FIN behind it",
    expects="a Close with the same code, then the end of TCP",
)
def close_and_fin(test: Test) -> None:
    session = test.open()
    session.send(session.frame(wire.close_payload(1000), CLOSE))
    session.connection.finish()
    session.expect_close(1000)


@case(
    "T.2.7",
    "RFC 6455 7.1.1",
    SHOULD,
    INITIATE,
    sends="a frame with reserved bits; the Close that comes is not answered",
    expects="the end of TCP at once, without waiting for an answer",
)
def fails_at_once(test: Test) -> None:
    session = test.open()
    session.send(session.frame(b"x", rsv=7))
    if not ended(session.connection, test.timeout):
        raise Failed("the connection stays open")


@case(
    "T.2.8",
    "RFC 6455 7.1.7",
    MUST,
    "the server MUST _Close the WebSocket Connection_, and SHOULD log the problem.",
    sends="a frame with reserved bits; the Close that comes is never answered",
    expects=f"the end of TCP within {PATIENCE:g} s",
    tags=SLOW,
)
def fails_in_time(test: Test) -> None:
    session = test.open()
    session.send(session.frame(b"x", rsv=7))
    if not ended(session.connection, test.seconds(PATIENCE)):
        raise Failed(f"the connection is still open after {test.seconds(PATIENCE):g} s")


def fails_readably(pieces: int, count: int) -> Run:
    """A bad frame and more behind it: the Close that tells why is not lost to a reset."""

    def run(test: Test) -> None:
        session = test.open()
        session.send(session.frame(b"x", rsv=7))
        session.send(session.message(b"x" * pieces) * count, pieces=4096)
        data = expect_fin(session.connection)
        if data[:1] != b"\x88" or data[2:4] != b"\x03\xea":
            raise NonStrict(f"expected a Close with 1002, but {wire.shown(data)} came")

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
        f"a frame with reserved bits and {what} behind it, before anything is read",
        "a Close with 1002, then FIN, no reset",
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
        time.sleep(test.seconds(0.25))
    raise Failed(f"the server still takes data after {test.seconds(PATIENCE):g} s")


@case(
    "T.2.12",
    "RFC 6455 5.5.1",
    MUST,
    AT_ONCE,
    sends="a Close on each of 20 connections, before any answer is read",
    expects="a Close and the end of TCP on each",
)
def many_close(test: Test) -> None:
    sessions = [test.open() for _ in range(20)]
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
    expects="the Close is still there to be read, and the end of TCP behind it",
)
def read_late(test: Test) -> None:
    session = test.open()
    session.send(session.frame(wire.close_payload(1000, b"bye"), CLOSE))
    time.sleep(test.seconds(0.3))
    session.expect_close(1000)


# ---- T.3: half-closed connections ---------------------------------------------------------------


def half_closed(make: Callable[[Session], bytes]) -> Run:
    """That, then FIN: the server ends the connection; if a Close comes, it is a good one."""

    def run(test: Test) -> None:
        session = test.open()
        session.send(make(session))
        session.connection.finish()
        while True:
            try:
                frame = session.connection.read_frame()
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
        f"behind the handshake {what}, then FIN",
        "the end of the connection at once",
        half_closed(make),
    )


def echoes_before_end(count: int, size: int) -> Run:
    """Messages, then FIN: echoes in order, then the end. Informational unless all come."""

    def run(test: Test) -> None:
        session = test.open()
        payloads = numbered(count, size)
        session.pour(b"".join(session.message(payload, BINARY) for payload in payloads))
        session.connection.finish()
        came = echoes(session, [*payloads, b"never sent"])
        if came < count:
            raise Informational(f"{came} of {count} echoes came")

    return run


for number, count, size in ((7, 1, 5), (8, 64, 16000)):
    add(
        f"T.3.{number}",
        "RFC 9112 9.5",
        SHOULD,
        MONITOR,
        f"{count} messages of {size} bytes, then FIN, before an echo is read",
        "echoes in order, then the end of the connection; fewer are told",
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


def after_refusal(test: Test) -> Connection:
    return ask(test, handshake(test, {"Sec-WebSocket-Key": "none"}))[0]


def with_data(make: Callable[[Session], bytes]) -> Callable[[Test], Connection]:
    """Open, and that is sent."""

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
    (1, "just made", at_connect),
    (2, "within a request head", in_head),
    (3, "before the 101 is read", before_answer),
    (4, "behind a refusal", after_refusal),
    (5, "just opened", with_data(lambda s: b"")),
    (6, "within the head of a frame", with_data(lambda s: s.frame(b"x" * 200)[:3])),
    (7, "within a payload", with_data(lambda s: s.frame(b"x" * 200)[:100])),
    (8, "within a fragmented message", with_data(lambda s: s.frame(b"x", fin=False))),
    (9, "before an echo is read", with_data(lambda s: s.message(b"x" * 100))),
    (10, "before 16 echoes of 16000 bytes are read",
     with_data(lambda s: s.message(b"x" * 16000) * 16)),
    (11, "before a Pong is read", with_data(lambda s: s.frame(b"x", PING))),
    (12, "before the answer to a Close is read",
     with_data(lambda s: s.frame(wire.close_payload(1000), CLOSE))),
    (13, "behind a frame that fails it", with_data(lambda s: s.frame(b"x", rsv=7))),
    (14, "behind the closing handshake", after_close),
):  # fmt: skip

    def broken(test: Test, moment: Callable[[Test], Connection] = moment) -> None:
        bystander = test.open()
        for _ in range(4):
            moment(test).reset()
        bystander.send(bystander.message(b"still here"))
        bystander.expect_message(b"still here")
        expect_served(test)
        bystander.close()

    add(
        f"T.4.{number}",
        RECEIVING,
        MUST,
        FRAMES,
        f"4 connections, one after another, are reset when {what}",
        "a connection beside them still echoes, and a new one is opened and echoes",
        broken,
    )

# ---- T.5: a Close while data is under way -------------------------------------------------------


def closed_behind(count: int, size: int, wait: float) -> Run:
    """Messages and a Close in one go; nothing is read for a while."""

    def run(test: Test) -> None:
        session = test.open()
        payloads = numbered(count, size)
        data = b"".join(session.message(payload, BINARY) for payload in payloads)
        session.pour(data + session.frame(wire.close_payload(1000), CLOSE))
        time.sleep(test.seconds(wait))
        came = expect_echoes_and_close(session, payloads)
        if came < count:
            raise Informational(f"{came} of {count} echoes came before the Close")

    return run


def expect_echoes_and_close(session: Session, payloads: list[bytes]) -> int:
    """Echoes in order, then a Close with 1000, then nothing: how many echoes. Failed."""
    at = came = 0
    while True:
        frame = session.read("echoes and a Close")
        if frame.opcode == CLOSE:
            break
        payload = session.read_rest(frame, "an echo")[2]
        while at < len(payloads) and payloads[at] != payload:
            at += 1
        if at == len(payloads):
            raise Failed(f"broken, or not in order: {wire.shown(payload)}")
        at, came = at + 1, came + 1
    if frame.close_code != 1000:
        raise Failed(f"expected a Close with 1000, but {frame} came")
    session.expect_end()
    return came


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
        "echoes in order, a Close with the same code, and nothing behind it; fewer are told",
        closed_behind(count, size, wait),
    )


@case(
    "T.5.4",
    "RFC 6455 5.5.1",
    MUST,
    ANSWER,
    sends="two fragments of a message that does not end, and a Close",
    expects="a Close with the same code, then the end of TCP",
)
def within_message(test: Test) -> None:
    session = test.open()
    session.send(session.frame(b"one", fin=False))
    session.send(session.frame(b"two", CONTINUATION, fin=False))
    session.close()


@case(
    "T.5.5",
    "RFC 6455 5.5.1",
    MUST,
    f"{NOTHING_MORE} [...] {ANSWER}",
    sends="a Close, then a message, a Ping and another Close, each in its own write",
    expects="one Close, then the end of TCP, and no answer to the rest",
)
def goes_on_talking(test: Test) -> None:
    session = test.open()
    session.send(session.frame(wire.close_payload(1000), CLOSE))
    for behind in (session.frame(b"x"), session.frame(b"x", PING), session.frame(b"", CLOSE)):
        time.sleep(test.seconds(0.01))
        session.send(behind)
    session.expect_close(1000)


@case(
    "T.5.6",
    "RFC 6455 5.5.1",
    MUST,
    ANSWER,
    sends="a Close, octet by octet, with 0.02 s between them",
    expects="a Close with the same code and the end of TCP, and neither before the last octet",
)
def close_in_octets(test: Test) -> None:
    session = test.open()
    data = session.frame(wire.close_payload(1000), CLOSE)
    for i in range(len(data) - 1):
        session.send(data[i : i + 1])
        if session.comes(0.02):
            raise Failed(f"something came behind {i + 1} of {len(data)} octets of a Close")
    session.send(data[-1:])
    session.expect_close(1000)
