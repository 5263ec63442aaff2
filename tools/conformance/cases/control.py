"""Control frames: Ping and Pong (group 2), Close and the closing handshake (group 7) with the whole
table of close codes.
"""

from __future__ import annotations

from typing import Callable, Sequence

from .. import wire
from ..case import (
    MAY,
    MUST,
    SHOULD,
    Cut,
    Failed,
    Informational,
    NonStrict,
    Run,
    Session,
    Test,
    add,
    case,
)
from ..wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, close_payload
from .steps import BY_FRAME, F, deliver, failed, failed_early, octets, text

IS_FAILED = "the connection is failed with 1002"

# ---- 2: Ping and Pong ---------------------------------------------------------------------------

PINGS = "RFC 6455 5.5.2"
ANSWER = (
    "Upon receipt of a Ping frame, an endpoint MUST send a Pong frame in response, unless it "
    "already received a Close frame."
)
SOON = "It SHOULD respond with Pong frame as soon as is practical."
PONGS = "RFC 6455 5.5.3"
SAME = (
    'A Pong frame sent in response to a Ping frame must have identical "Application data" as found '
    "in the message body of the Ping frame being replied to."
)
UNASKED = "A response to an unsolicited Pong frame is not expected."
LIMIT = (
    "All control frames MUST have a payload length of 125 bytes or less and MUST NOT be fragmented."
)
NEWEST = (
    "the endpoint MAY elect to send a Pong frame for only the most recently processed Ping frame"
)


def ponged(payload: bytes, how: int | None = None, ahead: Sequence[F] = ()) -> Run:
    """A Ping, perhaps behind other frames, is answered, and nothing else is."""

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, [*ahead, F(payload, PING)], how)
        session.expect_pong(payload)
        session.close()

    return run


def expect_pongs(session: Session, payloads: Sequence[bytes]) -> None:
    """Pongs for Pings that were sent without waiting. Failed.

    Informational: some are left out; or so many Pings are beyond a limit of the server, which ends
    the connection.
    """
    count, place = 0, -1
    while place < len(payloads) - 1:
        try:
            frame = session.read(f"a Pong with {payloads[-1]!r}")
        except Cut as error:
            raise (Informational(str(error)) if len(payloads) >= FLOOD else error) from None
        if frame.opcode == CLOSE and len(payloads) >= FLOOD:
            session.expect_end()
            raise Informational(f"{count} Pings were answered, then {frame} came")
        if frame.opcode != PONG or frame.payload not in payloads[place + 1 :]:
            raise Failed(f"expected the next Pong, but {frame} came")
        count, place = count + 1, payloads.index(frame.payload)
    session.close()
    if count < len(payloads):
        raise Informational(f"{count} of {len(payloads)} Pings were answered: {NEWEST}")


def many_pings(count: int, how: int | None = None) -> Run:
    def run(test: Test) -> None:
        session = test.open()
        payloads = [b"ping %d" % i for i in range(count)]
        deliver(session, [F(payload, PING) for payload in payloads], how)
        expect_pongs(session, payloads)

    return run


def unanswered(*payloads: bytes) -> Run:
    """Pongs that nobody asked for; only the Close behind them is answered."""

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, [F(payload, PONG) for payload in payloads])
        session.close()

    return run


ONE_PONG = "a Pong with the same payload"
ONLY_CLOSE = "nothing, then the answer to the Close"
ALL_PONGS = "Pongs for all, in order; INFORMATIONAL: for some and the last"
FLOOD = 100
"""Pings at once that a server may take for a flood."""

PING_CASES = [
    ("2.1", ANSWER, "a Ping without payload", ponged(b"")),
    ("2.2", ANSWER, "a Ping with text", ponged(b"Hello, world!")),
    ("2.3", ANSWER, "a Ping with bytes that are no UTF-8", ponged(b"\x00\xff\xfe\xfd\xfc\x00\xff")),
    ("2.4", ANSWER, "a Ping of 125 bytes", ponged(b"\xfe" * 125)),
    ("2.6", ANSWER, "a Ping of 125 bytes, octet by octet", ponged(b"\xfe" * 125, 1)),
]
for id, rule, sends, run in PING_CASES:
    add(id, PINGS, MUST, rule, sends, ONE_PONG, run)

LONG_CONTROL = [
    ("2.5", "a Ping of 126 bytes", [F(b"\xfe" * 126, PING)]),
    ("2.12", "a Pong of 126 bytes", [F(b"\xfe" * 126, PONG)]),
    ("2.13", "a Ping of 65536 bytes", [F(b"\xfe" * 65536, PING)]),
    ("2.14", "a Pong of 65536 bytes", [F(b"\xfe" * 65536, PONG)]),
]
for id, sends, frames in LONG_CONTROL:
    add(id, "RFC 6455 5.5", MUST, LIMIT, sends, IS_FAILED, failed(frames, 1002))
add(
    "2.15",
    "RFC 6455 5.5",
    MUST,
    LIMIT,
    "only the header of a Ping of 126 bytes; its payload never comes",
    f"{IS_FAILED}; INFORMATIONAL: the server waits for the payload",
    failed_early(F(b"", PING, length=126), Informational, 1002),
)

add("2.7", PONGS, MUST, UNASKED, "a Pong without payload, a Close", ONLY_CLOSE, unanswered(b""))
add("2.8", PONGS, MUST, UNASKED, "a Pong with text, a Close", ONLY_CLOSE, unanswered(b"unasked"))
add(
    "2.9",
    PINGS,
    MUST,
    ANSWER,
    "a Pong that nobody asked for, then a Ping",
    "a Pong for the Ping, nothing for the Pong",
    ponged(b"ping", ahead=[F(b"unasked", PONG)]),
)
add("2.10", PINGS, MUST, ANSWER, "10 Pings in one write", ALL_PONGS, many_pings(10))
add("2.11", PINGS, MUST, ANSWER, "10 Pings octet by octet", ALL_PONGS, many_pings(10, 1))
add(
    "2.16",
    PINGS,
    MUST,
    ANSWER,
    "100 Pings in one write",
    f"{ALL_PONGS}, or the connection is ended",
    many_pings(FLOOD),
)
add("2.17", PINGS, MUST, ANSWER, "20 Pings, a write for each", ALL_PONGS, many_pings(20, BY_FRAME))
add(
    "2.18",
    PONGS,
    MUST,
    UNASKED,
    "Pongs of all lengths from 0 to 125, a Close",
    ONLY_CLOSE,
    unanswered(*(octets(length) for length in range(126))),
)


@case(
    "2.19",
    PONGS,
    MUST,
    SAME,
    sends="Pings of all lengths from 0 to 125, each after the Pong of the last",
    expects="a Pong with the same payload for each",
)
def every_length(test: Test) -> None:
    session = test.open()
    for length in range(126):
        session.send(session.frame(octets(length), PING))
        session.expect_pong(octets(length))
    session.close()


@case(
    "2.20",
    PINGS,
    MUST,
    SOON,
    sends="a Ping, a text message, and a Ping in one write",
    expects="two Pongs and the echo; NON-STRICT: the echo first",
)
def pings_around_message(test: Test) -> None:
    session = test.open()
    deliver(session, [F(b"one", PING), F(b"text"), F(b"two", PING)])
    came = [session.read("two Pongs and an echo") for _ in range(3)]
    answers = [(frame.opcode, frame.payload) for frame in came]
    if sorted(answers) != [(TEXT, b"text"), (PONG, b"one"), (PONG, b"two")]:
        raise Failed(f"expected two Pongs and an echo, but {', '.join(map(str, came))} came")
    session.close()
    if answers[0][0] == TEXT:
        raise NonStrict("a Ping was answered after the message that came later")


@case(
    "2.21",
    PINGS,
    MUST,
    ANSWER,
    sends="the header of a Ping, later half of its payload, later the other half",
    expects="nothing until the Ping is complete, then its Pong",
)
def ping_in_parts(test: Test) -> None:
    session = test.open()
    data = session.frame(text(100), PING)
    session.send(data[:6])
    session.expect_silence(0.1)
    session.send(data[6:50])
    session.expect_silence(0.1)
    session.send(data[50:])
    session.expect_pong(text(100))
    session.close()


EARLY = "RFC 6455 4.1"
WAIT = (
    "Once the client's opening handshake has been sent, the client MUST wait for a response from "
    "the server before sending any further data."
)


@case(
    "2.22",
    EARLY,
    MAY,
    WAIT,
    sends="a Ping together with the opening handshake: not allowed, but what proxies can lead to",
    expects="a Pong behind the response; INFORMATIONAL: anything else",
)
def ping_with_handshake(test: Test) -> None:
    session = test.open(ahead=wire.frame(b"early", PING))
    session.expect_pong(b"early")
    session.close()


# ---- 7.1: the closing handshake -----------------------------------------------------------------

CLOSING = "RFC 6455 5.5.1"
RESPOND = (
    "If an endpoint receives a Close frame and did not previously send a Close frame, the endpoint "
    "MUST send a Close frame in response."
)
DISCARD = (
    "after receiving a control frame indicating the connection should be closed, a peer discards "
    "any further data received"
)
TCP_FIRST = (
    "The server MUST close the underlying TCP connection immediately; the client SHOULD wait for "
    "the server to close the connection"
)
CLOSED = "a Close with 1000, then the end of TCP, and nothing else"
NORMAL = F(close_payload(1000), CLOSE)


def closed(ahead: Sequence[F], behind: Sequence[F], how: int | None = None) -> Run:
    """A Close with 1000 among other frames that are not answered."""

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, [*ahead, NORMAL, *behind], how)
        session.expect_close(1000)

    return run


@case(
    "7.1.1",
    CLOSING,
    MUST,
    RESPOND,
    sends="a text message and, after its echo, a Close with 1000",
    expects="the echo, a Close with 1000, then the end of TCP",
)
def message_then_close(test: Test) -> None:
    session = test.open()
    session.send(session.message(b"Hello World!"))
    session.expect_message(b"Hello World!")
    session.close()


HELLO = F(b"Hello World!")
OPEN = F(b"fragment1", fin=False)
MORE = F(b"fragment2", CONTINUATION)
BEHIND: list[tuple[str, str, Sequence[F], Sequence[F]]] = [
    ("7.1.2", "a second Close", [], [F(b"", CLOSE)]),
    ("7.1.3", "a Ping", [], [F(b"", PING)]),
    ("7.1.4", "a text message", [], [HELLO]),
    ("7.1.5", "the second half of a message that was open", [OPEN], [MORE]),
    ("7.1.7", "a binary message", [], [F(octets(100), BINARY)]),
    ("7.1.8", "three messages and three Pings", [], [HELLO, F(b"ping", PING)] * 3),
    ("7.1.9", "a frame of an unknown opcode", [], [F(b"", 3)]),
    ("7.1.10", "text that is no UTF-8", [], [F(b"\xff")]),
    ("7.1.11", "half a frame", [], [F(b"half", length=100)]),
]
for id, what, ahead, behind in BEHIND:
    sends = f"a Close with 1000, and behind it {what}"
    add(id, "RFC 6455 1.4", MUST, DISCARD, sends, CLOSED, closed(ahead, behind))

LONG_MESSAGE = text(256 * 1024)


@case(
    "7.1.6",
    "RFC 6455 5.5.1",
    MUST,
    "An endpoint MAY delay sending a Close frame until its current message is sent",
    sends="text of 256 KiB, a short text, a Close with 1000, and a Ping, all at once",
    expects="two echoes and the Close; NON-STRICT: the Close without them",
)
def long_message_then_close(test: Test) -> None:
    session = test.open()
    frames = [F(LONG_MESSAGE), HELLO, NORMAL, F(b"", PING)]
    session.pour(b"".join(frame.bytes(session) for frame in frames))
    expect_echoes_and_close(session, [LONG_MESSAGE, HELLO.payload])


def expect_echoes_and_close(session: Session, payloads: Sequence[bytes]) -> None:
    """Echoes, then the answer to a Close with 1000. NonStrict: the Close comes too early."""
    for number, payload in enumerate(payloads):
        frame = session.read("an echo or a Close")
        session.allow_limit(frame, len(payload))
        if frame.opcode == CLOSE:
            if frame.close_code != 1000:
                raise Failed(f"expected a Close with 1000, but {frame} came")
            session.expect_end()
            raise NonStrict(f"{number} of {len(payloads)} messages ahead of the Close were echoed")
        if session.read_rest(frame, "an echo") != (TEXT, 0, payload):
            raise Failed(f"expected the echo of {wire.shown(payload)}, but {frame} came")
    session.expect_close(1000)


@case(
    "7.1.12",
    CLOSING,
    MUST,
    RESPOND,
    sends="two text messages, a Close with 1000, all in one write",
    expects="two echoes, then a Close with 1000; NON-STRICT: the Close without them",
)
def messages_and_close(test: Test) -> None:
    session = test.open()
    deliver(session, [HELLO, HELLO, NORMAL])
    expect_echoes_and_close(session, [HELLO.payload] * 2)


@case(
    "7.1.13",
    PINGS,
    MUST,
    ANSWER,
    sends="a Ping and a Close with 1000, in one write",
    expects="a Pong, then a Close with 1000",
)
def ping_and_close(test: Test) -> None:
    session = test.open()
    deliver(session, [F(b"last", PING), NORMAL])
    session.expect_pong(b"last")
    session.expect_close(1000)


CLOSES: list[tuple[str, str, Sequence[F], int | None]] = [
    ("7.1.14", "a Close with 1000 octet by octet", [], 1),
    ("7.1.15", "a Close with 1000 in the middle of a message", [OPEN], None),
    ("7.1.16", "a Pong that nobody asked for, then a Close with 1000", [F(b"", PONG)], BY_FRAME),
]
for id, sends, ahead, how in CLOSES:
    add(id, CLOSING, MUST, RESPOND, sends, CLOSED, closed(ahead, [], how))


@case(
    "7.1.17",
    EARLY,
    MAY,
    WAIT,
    sends="a Close with 1000 together with the opening handshake, which is not allowed",
    expects="a Close with 1000 behind the response; INFORMATIONAL: anything else",
)
def close_with_handshake(test: Test) -> None:
    session = test.open(ahead=wire.frame(NORMAL.payload, CLOSE))
    session.expect_close(1000)


@case(
    "7.1.18",
    CLOSING,
    MUST,
    TCP_FIRST,
    sends="a Close with 1000, and nothing more while TCP stays open here",
    expects="a Close with 1000, and at once the end of TCP",
)
def server_ends_first(test: Test) -> None:
    closed([], [])(test)


@case(
    "7.1.19",
    CLOSING,
    MUST,
    RESPOND,
    sends="a Close with 1000 and, right behind it, the end of this side of TCP (half-close)",
    expects="a Close with 1000 all the same, then the end of TCP",
)
def close_then_half_close(test: Test) -> None:
    session = test.open()
    deliver(session, [NORMAL])
    session.connection.finish()
    session.expect_close(1000)


def half_closed(prepare: Callable[[Session], None]) -> Run:
    """The end of TCP without a Close: the peer ends its side too, with or without a Close."""

    def run(test: Test) -> None:
        session = test.open()
        prepare(session)
        session.connection.finish()
        while not session.connection.at_end():
            if not session.connection.buffer:
                raise Failed("the server keeps a connection whose other side has ended")
            frame = session.connection.read_frame()
            session.check(frame)
            if frame.opcode != CLOSE:
                raise Failed(f"expected a Close or the end of TCP, but {frame} came")

    return run


def send_half_frame(session: Session) -> None:
    session.send(session.frame(b"half", length=100))


def send_fragment(session: Session) -> None:
    deliver(session, [OPEN])


HALF_CLOSES: list[tuple[str, str, Callable[[Session], None]]] = [
    ("7.1.20", "nothing", lambda session: None),
    ("7.1.21", "half a frame", send_half_frame),
    ("7.1.22", "the first fragment of a message", send_fragment),
]
for id, what, prepare in HALF_CLOSES:
    add(
        id,
        "RFC 6455 7.1.4",
        SHOULD,
        "When the underlying TCP connection is closed, it is said that _The WebSocket Connection "
        "is Closed_",
        f"{what}, then the end of this side of TCP, without a Close",
        "the end of TCP, with or without a Close ahead, but nothing else",
        half_closed(prepare),
    )


@case(
    "7.1.23",
    "RFC 6455 7.1.4",
    MAY,
    "When the underlying TCP connection is closed, it is said that _The WebSocket Connection "
    "is Closed_",
    sends="a text message, then the end of this side of TCP",
    expects="its echo; INFORMATIONAL: none",
)
def message_then_half_close(test: Test) -> None:
    session = test.open()
    session.send(session.message(b"Hello"))
    session.connection.finish()
    session.expect_message(b"Hello")


# ---- 7.3: the body of a Close -------------------------------------------------------------------

BODY = (
    "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer (in "
    "network byte order) representing a status code"
)
REASON = "Following the 2-byte integer, the body MAY contain UTF-8-encoded data with value /reason/"


def answered(payload: bytes, *codes: int | None) -> Run:
    """This body is answered with a Close that has one of the codes; NonStrict: another one."""

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, [F(payload, CLOSE)])
        frame = session.read("a Close")
        if frame.opcode != CLOSE:
            raise Failed(f"expected a Close, but {frame} came")
        session.expect_end()
        if frame.close_code not in codes:
            raise NonStrict(f"the Close was answered with {frame}")

    return run


def add_body(id: str, what: str, payload: bytes, quote: str = REASON) -> None:
    add(
        id,
        CLOSING,
        MUST,
        quote,
        f"a Close with {what}",
        "a Close with the same code or 1000, then the end of TCP; NON-STRICT: with another code",
        answered(payload, 1000, int.from_bytes(payload[:2], "big") if payload else None),
    )


def add_bad_body(id: str, what: str, payload: bytes, rule: str = BODY) -> None:
    run = failed([F(payload, CLOSE)], 1002)
    section = CLOSING if rule == BODY else "RFC 6455 5.5"
    add(id, section, MUST, rule, f"a Close with {what}", IS_FAILED, run)


add_body("7.3.1", "no body", b"", RESPOND)
add_bad_body("7.3.2", "one byte, 'a'", b"a")
add_body("7.3.3", "a code alone, 1000", close_payload(1000), BODY)
add_body("7.3.4", "1000 and a reason", close_payload(1000, b"Hello World!"))
add_body("7.3.5", "1000 and a reason of 123 bytes", close_payload(1000, text(123)))
add_bad_body("7.3.6", "1000 and a reason of 124 bytes", close_payload(1000, text(124)), rule=LIMIT)
add_body("7.3.7", "1000 and 41 characters of three bytes", close_payload(1000, "€".encode() * 41))
add_body("7.3.8", "1000 and a reason of NULs", close_payload(1000, bytes(10)))
add_bad_body("7.3.9", "one byte, as 1000 begins with it", b"\x03")
add_bad_body("7.3.10", "1000 and 65534 bytes more", close_payload(1000, text(65534)), rule=LIMIT)


@case(
    "7.3.11",
    CLOSING,
    MUST,
    REASON,
    sends="Closes with 1000 and reasons of 1, 2, 3, 61, 62, 121 and 122 bytes, one a connection",
    expects="a Close with 1000 for each, then the end of TCP",
)
def reasons(test: Test) -> None:
    for length in (1, 2, 3, 61, 62, 121, 122):
        answered(close_payload(1000, text(length)), 1000)(test)


@case(
    "7.3.12",
    "RFC 6455 5.5",
    MUST,
    LIMIT,
    sends="a Close with 1000 and FIN 0",
    expects=IS_FAILED,
)
def fragmented_close(test: Test) -> None:
    failed([F(close_payload(1000), CLOSE, fin=False)], 1002)(test)


# ---- 7.5: reasons that are no UTF-8 -------------------------------------------------------------

NOT_UTF8 = (
    "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is "
    "not, in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_."
)
BAD_REASONS = [
    ("a surrogate", "κόσμε".encode() + b"\xed\xa0\x80edited"),
    ("a character that is cut short", b"caf\xc3"),
    ("an overlong slash", b"\xc0\xaf"),
    ("U+110000", b"\xf4\x90\x80\x80"),
    ("a continuation octet alone", b"\x80"),
    ("the octet FF", b"\xff"),
    ("a character that is cut short at 123 bytes", b"*" * 121 + b"\xe2\x82"),
]
for number, (what, reason) in enumerate(BAD_REASONS, 1):
    add(
        f"7.5.{number}",
        "RFC 6455 8.1",
        MUST,
        NOT_UTF8,
        f"a Close with 1000 and a reason that is no UTF-8: {what}",
        "the connection is failed with 1007 or 1002",
        failed([F(close_payload(1000, reason), CLOSE)], 1007, 1002),
    )

# ---- 7.7, 7.9, 7.13: codes ----------------------------------------------------------------------

USED = "representing a status code with value /code/ defined in Section 7.4"
VALID = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
for number, code in enumerate(VALID, 1):
    add_body(f"7.7.{number}", f"the code {code}", close_payload(code), USED)


def several(codes: Callable[[Test], Sequence[int]], run: Callable[[int], Run]) -> Run:
    """A connection for each of some codes."""

    def all_of_them(test: Test) -> None:
        for code in codes(test):
            test.trace.note(f"code {code}")
            run(code)(test)

    return all_of_them


def some(first: int, last: int) -> Callable[[Test], Sequence[int]]:
    return lambda test: sorted(test.random.sample(range(first, last + 1), 12))


def answered_code(code: int) -> Run:
    return answered(close_payload(code), 1000, code)


def failed_code(code: int) -> Run:
    return failed([F(close_payload(code), CLOSE)], 1002)


# Registered with IANA after the RFC; a server of the RFC's time need not know them.
for number, code in enumerate((1012, 1013, 1014), 14):
    add(
        f"7.7.{number}",
        "RFC 6455 7.4.2",
        MAY,
        "Status codes in the range 1000-2999 are reserved for definition by this protocol, its "
        "future revisions, and extensions specified in a permanent and readily available public "
        "specification.",
        f"a Close with the code {code}, registered after the RFC",
        "a Close with the same code or 1000; INFORMATIONAL: the connection is failed",
        answered_code(code),
    )
for number, (first, last) in enumerate(((3000, 3999), (4000, 4999)), 17):
    add(
        f"7.7.{number}",
        CLOSING,
        MUST,
        USED,
        f"Closes with 12 random codes from {first} to {last}, each on a connection",
        "a Close with the same code or 1000 for each; NON-STRICT: with another code",
        several(some(first, last), answered_code),
    )

NEVER_SENT = (
    "is a reserved value and MUST NOT be set as a status code in a Close control frame by an "
    "endpoint"
)
NOT_USED = "Status codes in the range 0-999 are not used."
INVALID = [
    (0, "7.4.2", NOT_USED),
    (999, "7.4.2", NOT_USED),
    (1004, "7.4.1", "The specific meaning might be defined in the future."),
    (1005, "7.4.1", NEVER_SENT),
    (1006, "7.4.1", NEVER_SENT),
    (1016, "5.5.1", USED),
    (1100, "5.5.1", USED),
    (2000, "5.5.1", USED),
    (2999, "5.5.1", USED),
    (1015, "7.4.1", NEVER_SENT),
    (1, "7.4.2", NOT_USED),
    (232, "7.4.2", NOT_USED),
    (1017, "5.5.1", USED),
]
for number, (code, section, quote) in enumerate(INVALID, 1):
    sends = f"a Close with the code {code}"
    add(f"7.9.{number}", f"RFC 6455 {section}", MUST, quote, sends, IS_FAILED, failed_code(code))
for number, (first, last, section, quote) in enumerate(
    [(0, 999, "7.4.2", NOT_USED), (1016, 2999, "5.5.1", USED)], 14
):
    add(
        f"7.9.{number}",
        f"RFC 6455 {section}",
        MUST,
        quote,
        f"Closes with 12 random codes from {first} to {last}, each on a connection",
        IS_FAILED,
        several(some(first, last), failed_code),
    )


def told(code: int) -> Run:
    """What the peer does with such a code is its own affair; but it ends the connection."""

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, [F(close_payload(code), CLOSE)])
        try:
            frame = session.connection.read_frame()
        except wire.Ended:
            raise Informational("TCP was ended without a Close") from None
        session.check(frame)
        if frame.opcode != CLOSE:
            raise Failed(f"expected a Close or the end of TCP, but {frame} came")
        session.expect_end()
        if frame.close_code != 1002:
            raise Informational(f"the Close was answered with {frame}")

    return run


for number, code in enumerate((5000, 65535, 9999, 32768), 1):
    add(
        f"7.13.{number}",
        "RFC 6455 7.4.2",
        MAY,
        "Status codes in the range 4000-4999 are reserved for private use",
        f"a Close with the code {code}, of which the RFC says nothing",
        "the connection is failed with 1002; INFORMATIONAL: another answer",
        told(code),
    )
