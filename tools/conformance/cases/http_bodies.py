# SPDX-License-Identifier: MIT
"""HTTP hygiene (RFC 9110, RFC 9112), group P: if a server parses requests differently than a proxy
in front of it, attackers can smuggle requests or frames past that proxy.

P.1 Content-Length, P.2 Transfer-Encoding. P.3 to P.6, which are about heads, are in http_heads.py.
P.7 to P.9, which use more than one request or response, are in exchanges.py.

All requests are opening handshakes with one fault, so that they also test servers that serve
nothing else. HTTP often leaves a choice: if a server may accept or refuse a request, refusing is OK
and accepting is INFORMATIONAL. A connection that stays open after an error that must end it counts
separately (`Test.closing`); P.7.1 tests that.
"""

from __future__ import annotations

from .. import wire
from ..case import MAY, MUST, SHOULD, Run, Test, add, case
from ..verdicts import Closed, Cut, Failed, Informational, Late, NonStrict, Skipped
from ..wire import TEXT
from .heads import (
    Change,
    Make,
    ask,
    changed,
    expect_one_answer,
    handshake,
    left_open,
    may_be_refused,
    not_upgraded,
    refused,
)

IS_ACCEPTED = "101, and the connection echoes"
IS_REFUSED = "400 or another error status, not 101"
IS_CLOSED = "400 or another error status, then the end of the connection"
EITHER = "400 or another error status; INFORMATIONAL: 101, which is allowed"
TAKEN_TOO = "101; INFORMATIONAL: an error status, which is allowed"

# ---- P.1: Content-Length ------------------------------------------------------------------------

LENGTH = (
    "If a message is received without Transfer-Encoding and with an invalid Content-Length header "
    "field, then the message framing is invalid and the recipient MUST treat it as an "
    "unrecoverable error [...] If the unrecoverable error is in a request message, the server MUST "
    "respond with a 400 (Bad Request) status code and then close the connection."
)
OVERFLOW = (
    "Since there is no predefined limit to the length of content, a recipient MUST anticipate "
    "potentially large decimal numerals and prevent parsing errors due to integer conversion "
    "overflows"
)
for number, value in enumerate(
    ("x", "-1", "+0", "0x0", "1_0", "1.0", "0 0", "", "0, 1", "1e1", "0;", "\xb2"), 1
):
    add(
        f"P.1.{number}",
        "RFC 9112 6.3",
        MUST,
        LENGTH,
        f"a handshake with Content-Length: {value}",
        IS_CLOSED,
        refused(changed({"Content-Length": value}), 400, closes=True),
    )
add(
    "P.1.13",
    "RFC 9112 6.3",
    MUST,
    LENGTH,
    "a handshake with two Content-Length fields, 0 and 5",
    IS_CLOSED,
    refused(changed({"Content-Length": ["0", "5"]}), 400, closes=True),
)


def overflowing(length: int) -> Run:
    """Send a handshake with a body of that length; it must be refused, or the body skipped."""

    def run(test: Test) -> None:
        if not is_echoed_behind(test, length):
            return
        if is_echoed_behind(test, 1000):
            raise Skipped("a body of 1000 bytes is also parsed as frames, see P.2.1")
        raise Failed("the handshake was accepted, and its body is parsed as frames")

    return run


def is_echoed_behind(test: Test, length: int) -> bool:
    """Return whether a frame in the body of a handshake is echoed.

    Raises NonStrict or Informational for other results, unless an error status refused it.
    """
    try:
        connection, response = ask(test, handshake(test, {"Content-Length": str(length)}))
    except Late:
        raise Informational("there is no response: the server waits for the body") from None
    if response.status == 101:
        session = test.session(connection, response)
        session.send(session.message(b"in the body"))
        if not session.answers(0.3) or not session.ahead or session.ahead.opcode != TEXT:
            raise NonStrict("the handshake was accepted, and its possible body is not answered")
    elif response.status < 400:
        raise Informational(f"{response.status}, whatever the body is")
    connection.close()
    return response.status == 101


for number, power in ((14, 64), (15, 63), (16, 128)):
    add(
        f"P.1.{number}",
        "RFC 9110 8.6",
        MUST,
        OVERFLOW,
        f"a handshake whose Content-Length is 2 to the power of {power}, and a frame after a 101",
        "400, 413 or another error status; NON-STRICT: 101, and the frame is not echoed; "
        "INFORMATIONAL: no answer before the body",
        overflowing(2**power),
    )
SAME = (
    "a recipient of a Content-Length header field value consisting of the same decimal value "
    'repeated as a comma-separated list (e.g, "Content-Length: 42, 42") MAY either reject the '
    "message as invalid or replace that invalid field value with a single instance of the decimal "
    "value"
)
for number, what, lengths in (
    (17, "Content-Length: 0, 0", ["0, 0"]),
    (18, "Content-Length: 0 twice", ["0", "0"]),
):
    add(
        f"P.1.{number}",
        "RFC 9110 8.6",
        MAY,
        SAME,
        f"a handshake with {what}",
        EITHER,
        left_open(
            changed({"Content-Length": lengths}), "it is accepted as a single Content-Length: 0"
        ),
    )
add(
    "P.1.19",
    "RFC 9112 6.3",
    MAY,
    "If a valid Content-Length header field is present without Transfer-Encoding, its decimal "
    "value defines the expected message body length in octets.",
    "a handshake with Content-Length: 0",
    TAKEN_TOO,
    may_be_refused(changed({"Content-Length": "0"})),
)

# ---- P.2: bodies and Transfer-Encoding ----------------------------------------------------------

BODY = (
    "A server MUST read the entire request message body or close the connection after sending its "
    "response; otherwise, the remaining data on a persistent connection would be misinterpreted as "
    "the next request."
)
HIDDEN = wire.frame(b"smuggled")
CHUNKED = b"%x\r\n%s\r\n0\r\n\r\n" % (len(HIDDEN), HIDDEN)
END_OF_CHUNKS = b"0\r\n\r\n"


def body_is_no_frame(change: Change, body: bytes) -> Run:
    """Send a handshake whose body contains a frame; it must be refused, or the body skipped."""

    def run(test: Test) -> None:
        try:
            connection, response = ask(test, handshake(test, change) + body)
        except Late as error:  # nothing is misinterpreted
            raise NonStrict(str(error)) from None
        if response.status != 101:
            return
        session = test.session(connection, response)
        session.send(session.message(b"real"))
        try:
            first = session.read_message("the echo of a message after the body")[2]
        except (Closed, Cut) as error:  # "or close the connection"
            raise NonStrict(f"the handshake was accepted, then {error}") from None
        if first != b"real":
            raise Failed("the body was parsed as frames")
        raise Informational("the handshake was accepted, and its body skipped")

    return run


for number, what, change, body in (
    (1, "with Content-Length, whose body is a frame", {"Content-Length": str(len(HIDDEN))}, HIDDEN),
    (2, "with chunked coding, whose body is a frame", {"Transfer-Encoding": "chunked"}, CHUNKED),
    (
        3,
        "with Chunked coding (capital C), whose body is a frame",
        {"Transfer-Encoding": "Chunked"},
        CHUNKED,
    ),
):
    add(
        f"P.2.{number}",
        "RFC 9112 9.3",
        MUST,
        BODY,
        f"a handshake {what}",
        "a response other than 101, or 101 without an echo of that frame; NON-STRICT: no answer",
        body_is_no_frame(change, body),
    )


def chunks(change: Change) -> Make:
    """Return a handshake and the end of a chunked body."""
    return lambda test: handshake(test, change) + END_OF_CHUNKS


BOTH = (
    "A server MAY reject a request that contains both Content-Length and Transfer-Encoding or "
    "process such a request in accordance with the Transfer-Encoding alone. Regardless, the server "
    "MUST close the connection after responding to such a request to avoid the potential attacks."
)
NOT_LAST = (
    "If a Transfer-Encoding header field is present in a request and the chunked transfer coding "
    "is not the final encoding, the message body length cannot be determined reliably; the server "
    "MUST respond with the 400 (Bad Request) status code and then close the connection."
)
NOT_KNOWN = (
    "A server that receives a request message with a transfer coding it does not understand SHOULD "
    "respond with 501 (Not Implemented)."
)
for number, length in ((4, "5"), (5, "0")):
    add(
        f"P.2.{number}",
        "RFC 9112 6.1",
        MUST,
        BOTH,
        f"a handshake with Content-Length: {length} and Transfer-Encoding: chunked",
        "any response except 101, then the end of the connection",
        not_upgraded(chunks({"Content-Length": length, "Transfer-Encoding": "chunked"}), ends=True),
    )
for number, what, codings in (
    (6, "with Transfer-Encoding: identity", "identity"),
    (7, "with Transfer-Encoding: chunked, identity", "chunked, identity"),
    (8, "with Transfer-Encoding: chunked, gzip", "chunked, gzip"),
    (9, "with Transfer-Encoding: xchunked", "xchunked"),
    (10, "with Transfer-Encoding: chunked and x-7f3a", ["chunked", "x-7f3a"]),
    (11, "with Transfer-Encoding: chunked foo", "chunked foo"),
    (12, "with a vertical tab before chunked", "\x0bchunked"),
    (13, "with chunked in quotes", '"chunked"'),
):
    add(
        f"P.2.{number}",
        "RFC 9112 6.3",
        MUST,
        NOT_LAST,
        f"a handshake {what}",
        IS_CLOSED,
        refused(chunks({"Transfer-Encoding": codings}), 400, 501, closes=True),
    )
for number, what, coding in (
    (14, "chunked, chunked", "chunked, chunked"),
    (15, "chunked in two fields", ["chunked", "chunked"]),
):
    add(
        f"P.2.{number}",
        "RFC 9112 6.1",
        MAY,
        "A sender MUST NOT apply the chunked transfer coding more than once to a message body",
        f"a handshake with Transfer-Encoding: {what}",
        "400 or another error status; INFORMATIONAL: 101, because that sentence is for clients",
        left_open(chunks({"Transfer-Encoding": coding}), "the body is parsed as chunked"),
    )
add(
    "P.2.16",
    "RFC 9112 6.1",
    SHOULD,
    NOT_KNOWN,
    "a handshake with Transfer-Encoding: x-7f3a, chunked",
    "501 or another error status, not 101",
    refused(chunks({"Transfer-Encoding": "x-7f3a, chunked"}), 501, 400),
)


def old_chunks(test: Test) -> bytes:
    return handshake(test, {"Transfer-Encoding": "chunked"}, version="HTTP/1.0") + END_OF_CHUNKS


@case(
    "P.2.17",
    "RFC 9112 6.1",
    MUST,
    "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header "
    "field MUST treat the message as if the framing is faulty, even if a Content-Length is "
    "present, and close the connection after processing the message.",
    sends="a chunked handshake of HTTP/1.0",
    expects="any response except 101, then the end of the connection",
)
def chunked_in_10(test: Test) -> None:
    connection, response = ask(test, old_chunks(test))
    if response.status == 101:
        raise Failed("the handshake was accepted")
    expect_one_answer(test, connection, response, ends=True)
