# SPDX-License-Identifier: MIT
"""Close and the closing handshake (group 7), with the complete table of close codes."""

from __future__ import annotations

from typing import Callable, Sequence

from .. import wire
from ..case import MAY, MUST, SHOULD, Run, Test, add, case
from ..session import TAKEN, Session
from ..verdicts import Cut, Failed, Informational, Limited, NonStrict
from ..wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Frame, close_payload
from .control import EARLY, IS_FAILED, LIMIT, LIMITS, WAIT
from .steps import BY_FRAME, VALIDATED, F, deliver, expect_ended, failed, octets, text

# ---- 7.1: the closing handshake -----------------------------------------------------------------

CLOSING = "RFC 6455 5.5.1"
RESPOND = (
    "If an endpoint receives a Close frame and did not previously send a Close frame, the endpoint "
    "MUST send a Close frame in response."
)
NO_MORE_DATA = (
    "The application MUST NOT send any more data frames after sending a Close frame. [6.1:] The "
    "endpoint MUST ensure the WebSocket connection is in the OPEN state"
)
TCP_FIRST = (
    "After both sending and receiving a Close message, an endpoint considers the WebSocket "
    "connection closed and MUST close the underlying TCP connection."
)
TCP_AT_ONCE = "The server MUST close the underlying TCP connection immediately"
CLOSED = "a Close with 1000, and nothing else"
NORMAL = F(close_payload(1000), CLOSE)


def expect_last(session: Session, code: int | None = 1000) -> None:
    """Expect a Close and nothing after it, or raise Failed.

    Raises NonStrict for another code, see `Session.expect_close`, and for other control frames
    after it, which only section 1.4 mentions, and that "is non-normative".
    """
    frame = session.read("a Close")
    while frame.opcode == PONG:
        session.test.lax = "a Ping or Pong was answered unnecessarily"
        frame = session.read("a Close")
    if frame.opcode != CLOSE:
        raise Failed(f"expected a Close, but received {frame}")
    if not session.connection.at_end() and session.connection.buffer:
        more = session.read("the end of TCP")
        raise (NonStrict if more.opcode >= CLOSE else Failed)(f"received {more} after the Close")
    session.expect_end()
    if not session.is_answer(frame.close_code, code):
        raise NonStrict(f"expected a Close with {code}, but received {frame}")


def closed(ahead: Sequence[F], behind: Sequence[F], how: int | None = None) -> Run:
    """Send a Close with 1000 among other frames, and expect only its answer."""

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, [*ahead, NORMAL, *behind], how)
        try:
            expect_last(session)
        except Cut as error:
            # A reset, for what was not read, may have overtaken the Close.
            if behind and session.connection.over and session.connection.over.reset:
                raise Informational(str(error)) from None
            raise

    return run


def expect_close_and_end(session: Session) -> None:
    """Expect a Close with any code, then the end of TCP, or raise Failed."""
    frame = session.read("a Close")
    if frame.opcode != CLOSE:
        raise Failed(f"expected a Close, but received {frame}")
    session.require_end()


@case(
    "7.1.1",
    CLOSING,
    MUST,
    TCP_FIRST,
    sends="a text message and, after its echo, a Close with 1000",
    expects="the echo, a Close with 1000, then the end of TCP",
)
def message_then_close(test: Test) -> None:
    session = test.open()
    session.send(session.message(b"Hello World!"))
    session.expect_message(b"Hello World!")
    deliver(session, [NORMAL])
    expect_close_and_end(session)


HELLO = F(b"Hello World!")
OPEN = F(b"fragment1", fin=False)
MORE = F(b"fragment2", CONTINUATION)
BEHIND: list[tuple[str, str, Sequence[F]]] = [
    ("7.1.2", "a second Close", [F(b"", CLOSE)]),
    ("7.1.3", "a Ping", [F(b"", PING)]),
    ("7.1.9", "a frame of an unknown opcode", [F(b"", 3)]),
    ("7.1.10", "text that is not UTF-8", [F(b"\xff")]),
    ("7.1.11", "half a frame", [F(b"half", length=100)]),
]
for id, what, behind in BEHIND:
    sends = f"a Close with 1000, followed by {what}"
    expects = f"{CLOSED}; NON-STRICT: another code, or an answer to the later frame"
    add(id, CLOSING, MUST, RESPOND, sends, expects, closed([], behind))
MESSAGES_BEHIND: list[tuple[str, str, Sequence[F]]] = [
    ("7.1.4", "a text message", [HELLO]),
    ("7.1.7", "a binary message", [F(octets(100), BINARY)]),
    ("7.1.8", "three messages and three Pings", [HELLO, F(b"ping", PING)] * 3),
]
for id, what, behind in MESSAGES_BEHIND:
    sends = f"a Close with 1000, followed by {what}"
    add(id, f"{CLOSING} and 6.1", MUST, NO_MORE_DATA, sends, CLOSED, closed([], behind))


def within_message(now: Sequence[F], late: Sequence[F]) -> Run:
    """Send a Close after the beginning of a message.

    The rest may be sent with it. If the peer stays silent, it gets the rest, to see whether it
    waits for it.
    """

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, [OPEN, NORMAL, *now])
        waits = not session.answers()
        if waits:
            deliver(session, late)
        frame = session.read("a Close")
        if (frame.opcode, frame.payload) == (TEXT, b"fragment1fragment2"):
            waits = True
            frame = session.read("a Close")
        if frame.opcode != CLOSE:
            raise Failed(f"expected a Close, but received {frame}")
        session.expect_end()
        if waits:
            raise NonStrict("the Close was answered only at the end of the message around it")
        if not session.is_answer(frame.close_code):
            raise NonStrict(f"expected a Close with 1000, but received {frame}")

    return run


WITHIN: list[tuple[str, str, Run]] = [
    ("7.1.5", ", followed by the other half", within_message([MORE], [])),
    ("7.1.15", "", within_message([], [MORE])),
]
for id, what, run in WITHIN:
    sends = f"the first half of a text message, a Close with 1000{what}"
    expects = "a Close with 1000; NON-STRICT: only at the end of the message"
    add(id, CLOSING, MUST, RESPOND, sends, expects, run)

LONG_MESSAGE = text(256 * 1024)


@case(
    "7.1.6",
    CLOSING,
    MUST,
    RESPOND,
    sends="text of 256 KiB, a short text, a Close with 1000, and a Ping, all in one write",
    expects="two echoes and the Close; INFORMATIONAL: the Close without them",
)
def long_message_then_close(test: Test) -> None:
    session = test.open()
    frames = [F(LONG_MESSAGE), HELLO, NORMAL, F(b"", PING)]
    session.pour(b"".join(frame.bytes(session) for frame in frames))
    expect_echoes_and_close(session, [LONG_MESSAGE, HELLO.payload])


def expect_echoes_and_close(session: Session, payloads: Sequence[bytes]) -> None:
    """Expect echoes, then the answer to a Close with 1000, or raise Failed.

    Informational when that comes before them: an endpoint "MAY delay sending a Close frame until
    its current message is sent" (RFC 6455 section 5.5.1), and need not.
    """
    for count, payload in enumerate([*payloads, b""]):
        frame = read_echo_or_close(session, len(payload))
        if frame.opcode == CLOSE or count == len(payloads):
            break
        if (frame.opcode, frame.payload) != (TEXT, payload):
            raise Failed(f"expected the echo of {wire.shown(payload)}, but received {frame}")
    if frame.opcode != CLOSE:
        raise Failed(f"expected a Close, but received {frame}")
    session.expect_end()
    if not session.is_answer(frame.close_code):
        raise NonStrict(f"expected a Close with 1000, but received {frame}")
    if count < len(payloads):
        raise Informational(f"{count} of {len(payloads)} messages before the Close were echoed")


def read_echo_or_close(session: Session, size: int) -> Frame:
    """Read the answer to a message that may be too large, or to a Close with 1000."""
    wanted = "an echo or a Close"
    try:
        frame = session.read_but_pongs(wanted, session.test.timeout * (2 + size / 2**20))
    except Cut as error:
        raise (Limited(str(error)) if size > TAKEN else error) from None
    if frame.close_code is not None and not session.is_answer(frame.close_code):
        session.allow_limit(frame, size)
    return frame


@case(
    "7.1.12",
    CLOSING,
    MUST,
    RESPOND,
    sends="two text messages, a Close with 1000, all in one write",
    expects="two echoes, then a Close with 1000; INFORMATIONAL: the Close without them",
)
def messages_and_close(test: Test) -> None:
    session = test.open()
    deliver(session, [HELLO, HELLO, NORMAL])
    expect_echoes_and_close(session, [HELLO.payload] * 2)


@case(
    "7.1.13",
    CLOSING,
    MUST,
    RESPOND,
    sends="a Ping and a Close with 1000, in one write",
    expects="a Pong, then a Close with 1000; INFORMATIONAL: no Pong",
)
def ping_and_close(test: Test) -> None:
    session = test.open()
    deliver(session, [F(b"last", PING), NORMAL])
    frame = session.read("a Pong")
    if frame.opcode == CLOSE:
        raise Informational("the Close had been received before the Ping was answered")
    if (frame.opcode, frame.payload) != (PONG, b"last"):
        raise Failed(f"expected a Pong, but received {frame}")
    session.expect_close(1000)


CLOSES: list[tuple[str, str, Sequence[F], int | None]] = [
    ("7.1.14", "a Close with 1000 octet by octet", [], 1),
    ("7.1.16", "an unsolicited Pong, then a Close with 1000", [F(b"", PONG)], BY_FRAME),
]
for id, sends, ahead, how in CLOSES:
    add(id, CLOSING, MUST, RESPOND, sends, CLOSED, closed(ahead, [], how))


@case(
    "7.1.17",
    EARLY,
    MAY,
    WAIT,
    sends="a Close with 1000 together with the opening handshake, which is not allowed",
    expects="a Close with 1000 after the response; INFORMATIONAL: anything else",
)
def close_with_handshake(test: Test) -> None:
    session = test.open(ahead=wire.frame(NORMAL.payload, CLOSE))
    session.expect_close(1000)


@case(
    "7.1.18",
    CLOSING,
    MUST,
    TCP_AT_ONCE,
    sends="a Close with 1000, while this side leaves TCP open",
    expects="a Close and immediately the end of TCP",
    tags=["server"],
)
def server_ends_first(test: Test) -> None:
    session = test.open()
    deliver(session, [NORMAL])
    expect_close_and_end(session)


@case(
    "7.1.19",
    CLOSING,
    MUST,
    RESPOND,
    sends="a Close with 1000 and immediately after it FIN (half-close)",
    expects="a Close with 1000; NON-STRICT: only the end of TCP, which TLS 1.2 requires",
)
def close_then_half_close(test: Test) -> None:
    session = test.open()
    deliver(session, [NORMAL])
    session.connection.finish()
    try:
        session.expect_close(1000)
    except Cut:  # the server may have seen the end of TCP first
        if session.connection.ends_both_directions:
            return
        raise NonStrict("TCP ended, and the Close was not answered") from None


def half_closed(prepare: Callable[[Session], None]) -> Run:
    """End TCP without a Close, and expect that the peer ends it too, with or without a Close."""

    def run(test: Test) -> None:
        session = test.open()
        prepare(session)
        session.connection.finish()
        expect_ended(session)

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
        "RFC 6455 7.1.1",
        SHOULD,
        "An endpoint SHOULD use a method that cleanly closes the TCP connection",
        f"{what}, then FIN without a Close",
        "the end of TCP, with or without a Close before it, and nothing else",
        half_closed(prepare),
    )


@case(
    "7.1.23",
    "RFC 6455 7.1.4",
    MAY,
    "When the underlying TCP connection is closed, it is said that _The WebSocket Connection "
    "is Closed_",
    sends="a text message, then FIN",
    expects="its echo; INFORMATIONAL: no echo",
)
def message_then_half_close(test: Test) -> None:
    session = test.open()
    session.send(session.message(b"Hello"))
    session.connection.finish()
    session.expect_message(b"Hello")


# ---- 7.3: the body of a Close -------------------------------------------------------------------

BODY = (
    "If there is a body, the first two bytes of the body MUST be a 2-byte unsigned integer (in "
    "network byte order) representing a status code with value /code/ defined in Section 7.4. "
) + VALIDATED
BAD_BODY = f"{CLOSING} and 10.7"


def answered(payload: bytes, *codes: int | None, known: bool = True) -> Run:
    """Send a Close with this body, and expect one of the codes, or raise Failed or NonStrict.

    If the RFC does not define the code (`known` is False), another one is Informational.
    """

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, [F(payload, CLOSE)])
        frame = session.read("a Close")
        if frame.opcode != CLOSE:
            raise Failed(f"expected a Close, but received {frame}")
        session.expect_end()
        session.connection.close()  # the server may allow one connection at a time
        if frame.close_code not in codes:
            kind = NonStrict if known else Informational
            raise kind(f"the Close was answered with {frame}")

    return run


def add_body(id: str, what: str, payload: bytes) -> None:
    add(
        id,
        CLOSING,
        MUST,
        RESPOND,
        f"a Close with {what}",
        "a Close with the same code or 1000; NON-STRICT: with another code",
        answered(payload, 1000, int.from_bytes(payload[:2], "big") if payload else None),
    )


def add_bad_body(id: str, what: str, payload: bytes, rule: str = BODY) -> None:
    run = failed([F(payload, CLOSE)], 1002)
    section = BAD_BODY if rule == BODY else LIMITS
    add(id, section, MUST, rule, f"a Close with {what}", IS_FAILED, run)


add_body("7.3.1", "no body", b"")
add_bad_body("7.3.2", "one byte, 'a'", b"a")
add_body("7.3.3", "only a code, 1000", close_payload(1000))
add_body("7.3.4", "1000 and a reason", close_payload(1000, b"Hello World!"))
add_body("7.3.5", "1000 and a reason of 123 bytes", close_payload(1000, text(123)))
add_bad_body("7.3.6", "1000 and a reason of 124 bytes", close_payload(1000, text(124)), rule=LIMIT)
add_body("7.3.7", "1000 and 41 characters of three bytes", close_payload(1000, "€".encode() * 41))
add_body("7.3.8", "1000 and a reason of NULs", close_payload(1000, bytes(10)))
add_bad_body("7.3.9", "one byte, the first one of 1000", b"\x03")
add_bad_body("7.3.10", "1000 and 65534 more bytes", close_payload(1000, text(65534)), rule=LIMIT)


@case(
    "7.3.11",
    CLOSING,
    MUST,
    RESPOND,
    sends="Closes with 1000 and reasons of 1, 2, 3, 61, 62, 121 and 122 bytes, one per connection",
    expects="a Close with 1000 for each; NON-STRICT: with another code",
)
def reasons(test: Test) -> None:
    for length in (1, 2, 3, 61, 62, 121, 122):
        answered(close_payload(1000, text(length)), 1000)(test)


@case(
    "7.3.12",
    LIMITS,
    MUST,
    LIMIT,
    sends="a Close with 1000 and FIN 0",
    expects=IS_FAILED,
)
def fragmented_close(test: Test) -> None:
    failed([F(close_payload(1000), CLOSE, fin=False)], 1002)(test)


# ---- 7.5: reasons that are not UTF-8 ------------------------------------------------------------

NOT_UTF8 = (
    "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is "
    "not, in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_. "
) + VALIDATED
BAD_REASONS = [
    ("a surrogate", "κόσμε".encode() + b"\xed\xa0\x80edited"),
    ("a truncated character", b"caf\xc3"),
    ("an overlong slash", b"\xc0\xaf"),
    ("U+110000", b"\xf4\x90\x80\x80"),
    ("a lone continuation octet", b"\x80"),
    ("the octet FF", b"\xff"),
    ("a truncated character at 123 bytes", b"*" * 121 + b"\xe2\x82"),
]
for number, (what, reason) in enumerate(BAD_REASONS, 1):
    add(
        f"7.5.{number}",
        "RFC 6455 8.1 and 10.7",
        MUST,
        NOT_UTF8,
        f"a Close with 1000 and a reason that is not UTF-8: {what}",
        "the connection is failed with 1007 or 1002",
        failed([F(close_payload(1000, reason), CLOSE)], 1007, 1002),
    )

# ---- 7.7, 7.9, 7.13: codes ----------------------------------------------------------------------

VALID = (1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999)
for number, code in enumerate(VALID, 1):
    add_body(f"7.7.{number}", f"the code {code}", close_payload(code))


def several(codes: Callable[[Test], Sequence[int]], run: Callable[[int], Run]) -> Run:
    """Test several codes, each on its own connection."""

    def all_of_them(test: Test) -> None:
        for code in codes(test):
            test.trace.note(f"code {code}")
            run(code)(test)

    return all_of_them


def some(first: int, last: int) -> Callable[[Test], Sequence[int]]:
    return lambda test: sorted(test.random.sample(range(first, last + 1), 12))


def answered_code(code: int, known: bool = True) -> Run:
    return answered(close_payload(code), 1000, code, known=known)


# Registered with IANA after the RFC, so a server need not know them.
for number, code in enumerate((1012, 1013, 1014), 14):
    add(
        f"7.7.{number}",
        CLOSING,
        MUST,
        RESPOND,
        f"a Close with the code {code}, registered after the RFC",
        "a Close with the same code or 1000; INFORMATIONAL: with another code",
        answered_code(code, known=False),
    )
for number, (first, last) in enumerate(((3000, 3999), (4000, 4999)), 17):
    add(
        f"7.7.{number}",
        CLOSING,
        MUST,
        RESPOND,
        f"Closes with 12 random codes from {first} to {last}, each on its own connection",
        "a Close with the same code or 1000 for each; NON-STRICT: with another code",
        several(some(first, last), answered_code),
    )

NEVER_SENT = (
    "is a reserved value and MUST NOT be set as a status code in a Close control frame by an "
    f"endpoint. {VALIDATED}"
)
NOT_USED = f"Status codes in the range 0-999 are not used. {VALIDATED}"
INVALID = [
    (0, "7.4.2", NOT_USED),
    (999, "7.4.2", NOT_USED),
    (1005, "7.4.1", NEVER_SENT),
    (1006, "7.4.1", NEVER_SENT),
    (1015, "7.4.1", NEVER_SENT),
    (1, "7.4.2", NOT_USED),
    (232, "7.4.2", NOT_USED),
]
NUMBERS = (1, 2, 4, 5, 10, 11, 12)


def failed_code(code: int) -> Run:
    def run(test: Test) -> None:
        session = test.open()
        deliver(session, [F(close_payload(code), CLOSE)])
        session.expect_failure(1002, refused=True)
        session.connection.close()

    return run


for number, (code, section, quote) in zip(NUMBERS, INVALID):
    where, sends = f"RFC 6455 {section} and 10.7", f"a Close with the code {code}"
    add(f"7.9.{number}", where, MUST, quote, sends, IS_FAILED, failed_code(code))
add(
    "7.9.14",
    "RFC 6455 7.4.2 and 10.7",
    MUST,
    NOT_USED,
    "Closes with 12 random codes from 0 to 999, each on its own connection",
    IS_FAILED,
    several(some(0, 999), failed_code),
)


def not_repeated(code: int) -> Run:
    """Test a code reserved for future use, which the server must not send itself."""

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, [F(close_payload(code), CLOSE)])
        session.expect_failure(1002)
        session.connection.close()

    return run


IS_NOT_REPEATED = f"{IS_FAILED}; NON-STRICT: another answer without that code"
for number, code in ((3, 1004), (6, 1016), (7, 1100), (8, 2000), (9, 2999), (13, 1017)):
    sends = f"a Close with the code {code}, which is reserved"
    add(f"7.9.{number}", BAD_BODY, MUST, BODY, sends, IS_NOT_REPEATED, not_repeated(code))
add(
    "7.9.15",
    BAD_BODY,
    MUST,
    BODY,
    "Closes with 12 random codes from 1016 to 2999, which are reserved, each on its own connection",
    IS_NOT_REPEATED,
    several(some(1016, 2999), not_repeated),
)


def told(code: int) -> Run:
    """Test a code for which the RFC does not define the behavior."""

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, [F(close_payload(code), CLOSE)])
        try:
            frame = session.read("a Close or the end of TCP")
        except Cut:
            raise Informational("TCP ended without a Close") from None
        if frame.opcode != CLOSE:
            raise Failed(f"expected a Close or the end of TCP, but received {frame}")
        if frame.close_code != 1002:
            raise Informational(f"the Close was answered with {frame}")

    return run


for number, code in enumerate((5000, 65535, 9999, 32768), 1):
    add(
        f"7.13.{number}",
        "RFC 6455 7.4.2",
        MAY,
        "Status codes in the range 4000-4999 are reserved for private use",
        f"a Close with the code {code}, which the RFC does not mention",
        "the connection is failed with 1002; INFORMATIONAL: another answer",
        told(code),
    )
