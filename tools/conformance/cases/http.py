"""HTTP hygiene (RFC 9110, RFC 9112), group P: a server that reads requests in another way than a
proxy before it lets strangers smuggle requests, or frames, past that proxy.

P.1 Content-Length, P.2 Transfer-Encoding, P.3 lines and fields, P.4 the request line, P.5 sizes,
P.6 other protocols on this port, P.7 what stands behind a request, P.8 responses, P.9 chunked
bodies.

All requests are opening handshakes but for one fault, so that they say something about servers that
do nothing else. Much of HTTP leaves a choice: what a server may take or refuse is OK when it is
refused, and INFORMATIONAL when it is taken.
"""

from __future__ import annotations

import time
from typing import Sequence

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
    Skipped,
    Test,
    add,
    case,
)
from ..wire import Connection, Ended, Response, TimedOut
from .heads import (
    Change,
    Make,
    accepted,
    answer,
    ask,
    changed,
    expect_accepted,
    expect_error,
    expect_one_answer,
    handshake,
    is_silent,
    left_open,
    may_be_refused,
    not_upgraded,
    plain,
    read_body,
    refused,
    swapped,
    tokens,
    with_line,
    with_request_line,
)

IS_ACCEPTED = "101, and the connection echoes"
IS_REFUSED = "400 or another error status, not 101"
IS_CLOSED = "400 or another error status, then the end of the connection"
EITHER = "400 or another error status; 101 is told, it is allowed"
TAKEN_TOO = "101; an error status is told, it is allowed"

# ---- P.1: Content-Length ------------------------------------------------------------------------

LENGTH = (
    "If a message is received without Transfer-Encoding and with an invalid Content-Length header "
    "field, then the message framing is invalid and the recipient MUST treat it as an "
    "unrecoverable error"
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
    "a handshake with two fields Content-Length, 0 and 5",
    IS_CLOSED,
    refused(changed({"Content-Length": ["0", "5"]}), 400, closes=True),
)


def body_of(length: int) -> Run:
    """A handshake with a body of that length: refused, or what comes behind it is the body."""

    def run(test: Test) -> None:
        connection, response = ask(test, handshake(test, {"Content-Length": str(length)}))
        if response.status != 101:
            return expect_error(response, 400, 413)
        session = Session(test, connection, response)
        session.send(session.message(b"in the body"))
        if session.comes(0.3) and connection.buffer[:1] == b"\x81":
            raise Failed("the handshake was accepted, and its body is taken for frames")
        raise NonStrict("the handshake was accepted, and what its body may be is not answered")

    return run


for number, power in ((14, 64), (15, 63), (16, 128)):
    add(
        f"P.1.{number}",
        "RFC 9110 8.6",
        MUST,
        OVERFLOW,
        f"a handshake whose Content-Length is 2 to the power of {power}; after a 101 a frame",
        "400, 413 or another error status; NON-STRICT: 101, and the frame is not echoed",
        body_of(2**power),
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
        left_open(changed({"Content-Length": lengths}), "it is taken for one Content-Length: 0"),
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
    """A handshake with a body that holds a frame: it is refused, or the body is skipped."""

    def run(test: Test) -> None:
        connection, response = ask(test, handshake(test, change) + body)
        if response.status != 101:
            return expect_error(response)
        session = Session(test, connection, response)
        session.send(session.message(b"real"))
        if session.read_message("the echo of a message behind the body")[2] != b"real":
            raise Failed("what stands in the body was taken for frames")
        raise Informational("the handshake was accepted, and its body skipped")

    return run


for number, what, change, body in (
    (1, "with Content-Length, its body a frame", {"Content-Length": str(len(HIDDEN))}, HIDDEN),
    (2, "chunked, its body a frame", {"Transfer-Encoding": "chunked"}, CHUNKED),
    (3, "in Chunked, its body a frame", {"Transfer-Encoding": "Chunked"}, CHUNKED),
):
    add(
        f"P.2.{number}",
        "RFC 9112 9.3",
        MUST,
        BODY,
        f"a handshake {what}",
        "an error status; or 101, and no echo of the frame in the body",
        body_is_no_frame(change, body),
    )


def chunks(change: Change) -> Make:
    """A handshake, and the end of a chunked body."""
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
for number, quote, what, codings, length in (
    (4, BOTH, "with Content-Length: 5 and Transfer-Encoding: chunked", "chunked", "5"),
    (5, BOTH, "with Content-Length: 0 and Transfer-Encoding: chunked", "chunked", "0"),
    (6, NOT_LAST, "with Transfer-Encoding: identity", "identity", None),
    (7, NOT_LAST, "with Transfer-Encoding: chunked, identity", "chunked, identity", None),
    (8, NOT_LAST, "with Transfer-Encoding: chunked, gzip", "chunked, gzip", None),
    (9, NOT_LAST, "with Transfer-Encoding: xchunked", "xchunked", None),
    (10, NOT_LAST, "with Transfer-Encoding: chunked and x-7f3a", ["chunked", "x-7f3a"], None),
    (11, NOT_LAST, "with Transfer-Encoding: chunked foo", "chunked foo", None),
    (12, NOT_LAST, "with a vertical tab before chunked", "\x0bchunked", None),
    (13, NOT_LAST, "with chunked in quotes", '"chunked"', None),
):
    add(
        f"P.2.{number}",
        "RFC 9112 6.1" if quote is BOTH else "RFC 9112 6.3",
        MUST,
        quote,
        f"a handshake {what}",
        IS_CLOSED,
        refused(
            chunks({"Content-Length": length, "Transfer-Encoding": codings}), 400, 501, closes=True
        ),
    )
for number, what, coding in (
    (14, "chunked, chunked", "chunked, chunked"),
    (15, "chunked in two fields", ["chunked", "chunked"]),
):
    add(
        f"P.2.{number}",
        "RFC 9112 6.1",
        SHOULD,
        "A sender MUST NOT apply the chunked transfer coding more than once to a message body",
        f"a handshake with Transfer-Encoding: {what}",
        IS_REFUSED,
        refused(chunks({"Transfer-Encoding": coding}), 400, 501),
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
    expects="any response but 101, then the end of the connection",
)
def chunked_in_10(test: Test) -> None:
    connection, response = ask(test, old_chunks(test))
    if response.status == 101:
        raise Failed("the handshake was accepted")
    expect_one_answer(connection, response)


# ---- P.3: lines and fields ----------------------------------------------------------------------

COLON = (
    "A server MUST reject, with a response status code of 400 (Bad Request), any received request "
    "message that contains whitespace between a header field name and colon."
)
for number, what, line in (
    (1, "a space before a colon", b"X-Name : value"),
    (2, "a tab before a colon", b"X-Name\t: value"),
    (3, "a space before the colon of Content-Length", b"Content-Length : 5"),
    (4, "a space before the colon of Transfer-Encoding", b"Transfer-Encoding : chunked"),
):
    add(
        f"P.3.{number}",
        "RFC 9112 5.1",
        MUST,
        COLON,
        f"a handshake with {what}",
        "an error status; 400 fits best",
        refused(with_line(line), 400),
    )

FOLD = (
    'A server that receives an obs-fold in a request message that is not within a "message/http" '
    "container MUST either reject the message by sending a 400 (Bad Request), preferably with a "
    "representation explaining that obsolete line folding is unacceptable, or replace each "
    "received obs-fold with one or more SP octets prior to interpreting the field value or "
    "forwarding the message downstream."
)
BEFORE_FIRST = (
    "A recipient that receives whitespace between the start-line and the first header field MUST "
    "either reject the message as invalid or consume each whitespace-preceded line without further "
    "processing of it"
)
CR = (
    "A recipient of such a bare CR MUST consider that element to be invalid or replace each bare "
    "CR with SP before processing the element or forwarding the message."
)
NUL = (
    "a recipient of CR, LF, or NUL within a field value MUST either reject the message or replace "
    "each of those characters with SP before further processing or forwarding of that message."
)
LF = (
    "Although the line terminator for the start-line and fields is the sequence CRLF, a recipient "
    "MAY recognize a single LF as a line terminator and ignore any preceding CR."
)
NO_UPGRADE: Change = {"Upgrade": None}


def first_line(line: bytes, change: Change = {}) -> Make:  # noqa: B006, read only
    """These bytes between the request line and the first field."""
    return swapped(b" HTTP/1.1\r\n", b" HTTP/1.1\r\n" + line, change)


# What tells how a server has read it: taken in the forbidden way, the handshake would be good.
for number, section, quote, what, make in (
    (5, "RFC 9112 5.2", FOLD, "Upgrade: websocket only in a folded line of another field",
     with_line(b"X-Name: value\r\n Upgrade: websocket", NO_UPGRADE)),
    (6, "RFC 9112 5.2", FOLD, "Upgrade: websocket only behind a fold with a tab",
     with_line(b"X-Name: value\r\n\tUpgrade: websocket", NO_UPGRADE)),
    (7, "RFC 9112 2.2", BEFORE_FIRST, "Upgrade: websocket only in an indented first line",
     first_line(b" Upgrade: websocket\r\n", NO_UPGRADE)),
    (8, "RFC 9112 2.2", CR, "Upgrade: websocket only behind a bare CR in another field",
     with_line(b"X-Name: value\rUpgrade: websocket", NO_UPGRADE)),
    (9, "RFC 9112 2.2", CR, "a bare CR within the number of Sec-WebSocket-Version",
     changed({"Sec-WebSocket-Version": "1\r3"})),
    (10, "RFC 9112 2.2", CR, "a bare CR within the word websocket",
     changed({"Upgrade": "web\rsocket"})),
    (11, "RFC 9110 5.5", NUL, "a NUL within the number of Sec-WebSocket-Version",
     changed({"Sec-WebSocket-Version": "1\x003"})),
    (12, "RFC 9110 5.5", NUL, "websocket, a NUL and more in Upgrade",
     changed({"Upgrade": "websocket\0x"})),
    (13, "RFC 9110 5.5", NUL, "a NUL at the end of Upgrade in Connection",
     changed({"Connection": "Upgrade\0x"})),
):  # fmt: skip
    add(
        f"P.3.{number}",
        section,
        MUST,
        quote,
        f"a handshake with {what}",
        "any response but 101",
        not_upgraded(make),
    )
OTHER_CTL = (
    "Field values containing other CTL characters are also invalid; however, recipients MAY retain "
    "such characters for the sake of robustness"
)
for number, section, quote, what, make in (
    (14, "RFC 9112 5.2", FOLD, "a folded field of no importance",
     with_line(b"X-Name: one\r\n two")),
    (15, "RFC 9112 5.2", FOLD, "a fold within the list of Connection",
     changed({"Connection": "keep-alive,\r\n Upgrade"})),
    (16, "RFC 9112 2.2", BEFORE_FIRST, "an indented line before the first field",
     first_line(b" X-Name: value\r\n")),
    (17, "RFC 9112 2.2", CR, "a bare CR in a field of no importance",
     with_line(b"X-Name: one\rtwo")),
    (18, "RFC 9110 5.5", NUL, "a NUL in a field of no importance",
     with_line(b"X-Name: one\0two")),
    (19, "RFC 9112 2.2", LF, "LF for all ends of lines", swapped(b"\r\n", b"\n")),
    (20, "RFC 9112 2.2", LF, "LF at the end of one field",
     swapped(b"Upgrade: websocket\r\n", b"Upgrade: websocket\n")),
    (21, "RFC 9112 2.2", LF, "LF at the end of the request line",
     swapped(b"HTTP/1.1\r\n", b"HTTP/1.1\n")),
    (22, "RFC 9112 2.2", LF, "LF in the place of the last CRLF",
     lambda test: handshake(test)[:-2] + b"\n"),
    (23, "RFC 9112 2.2", LF, "CR CR LF at the end of one field",
     swapped(b"websocket\r\n", b"websocket\r\r\n")),
    (24, "RFC 9110 5.5", OTHER_CTL, "the control character 01 in a field of no importance",
     with_line(b"X-Name: one\x01two")),
    (25, "RFC 9110 5.5", OTHER_CTL, "the control character 7F in a field of no importance",
     with_line(b"X-Name: one\x7ftwo")),
):  # fmt: skip
    add(
        f"P.3.{number}",
        section,
        MAY,
        quote,
        f"a handshake with {what}",
        EITHER,
        left_open(make, "the server puts up with it"),
    )
GRAMMAR = (
    "When a server listening only for HTTP request messages, or processing what appears from the "
    "start-line to be an HTTP request message, receives a sequence of octets that does not match "
    "the HTTP-message grammar aside from the robustness exceptions listed above, the server SHOULD "
    "respond with a 400 (Bad Request) response and close the connection."
)
for number, what, make in (
    (26, "with a line that has no colon", with_line(b"nothing but words")),
    (27, "with a field that has no name", with_line(b": value")),
    (28, "with parentheses in the name of a field", with_line(b"X(Name): value")),
    (29, "with a space in the name of a field", with_line(b"X Name: value")),
    (30, "with a letter beyond ASCII in the name of a field", with_line(b"X-N\xe4me: value")),
    (31, "with a NUL in the name of a field", with_line(b"X-N\0me: value")),
    (32, "with a NUL behind the name Upgrade", swapped(b"Upgrade: web", b"Upgrade\0: web")),
    (33, "with a slash in the name of a field", with_line(b"X/Name: value")),
    (34, "with a space before the method", lambda test: b" " + handshake(test)),
    (35, "with a NUL before the method", lambda test: b"\0" + handshake(test)),
):
    add(f"P.3.{number}", "RFC 9112 2.2", SHOULD, GRAMMAR, f"a handshake {what}", IS_CLOSED,
        refused(make, 400, closes=True))  # fmt: skip

EMPTY_LINE = (
    "In the interest of robustness, a server that is expecting to receive and parse a request-line "
    "SHOULD ignore at least one empty line (CRLF) received prior to the request-line."
)
add(
    "P.3.36", "RFC 9112 2.2", SHOULD, EMPTY_LINE, "an empty line, then a handshake", IS_ACCEPTED,
    accepted(lambda test: b"\r\n" + handshake(test)),
)  # fmt: skip
for number, what, lines in ((37, "three empty lines", b"\r\n" * 3), (38, "a lone LF", b"\n")):

    def behind(test: Test, lines: bytes = lines) -> bytes:
        return lines + handshake(test)

    add(
        f"P.3.{number}",
        "RFC 9112 2.2",
        MAY,
        EMPTY_LINE,
        f"{what}, then a handshake",
        EITHER,
        left_open(behind, "the server ignores it"),
    )

# ---- P.4: the request line ----------------------------------------------------------------------

INVALID_LINE = (
    "Recipients of an invalid request-line SHOULD respond with either a 400 (Bad Request) error or "
    "a 301 (Moved Permanently) redirect with the request-target properly encoded."
)
WORDS = (
    "recipients MAY instead parse on whitespace-delimited word boundaries and, aside from the CRLF "
    "terminator, treat any form of whitespace as the SP separator while ignoring preceding or "
    "trailing whitespace"
)


def refused_or_moved(make: Make) -> Run:
    """An error status, or a redirect."""

    def run(test: Test) -> None:
        response = ask(test, make(test))[1]
        if response.status != 301:
            expect_error(response, 400, 404, 405, 501, 505)

    return run


for number, what, words in (
    (1, "without a version", "GET {0}"),
    (2, "without a target", "GET HTTP/1.1"),
    (3, "with nothing but a method", "GET"),
    (4, "with a space in the target", "GET /a b HTTP/1.1"),
    (5, "with a NUL in the target", "GET /a\0b HTTP/1.1"),
    (6, "with a control character in the target", "GET /a\x01b HTTP/1.1"),
    (7, "with a letter beyond ASCII in the target", "GET /\xe4 HTTP/1.1"),
    (8, "with a fragment in the target", "GET {0}#fragment HTTP/1.1"),
    (9, "with a target that has no slash", "GET chat HTTP/1.1"),
    (10, "in authority-form, which is for CONNECT", "GET {1} HTTP/1.1"),
    (11, "in asterisk-form, which is for OPTIONS", "GET * HTTP/1.1"),
    (12, "with http/1.1 in small letters", "GET {0} http/1.1"),
    (13, "with HTTP/1.x", "GET {0} HTTP/1.x"),
    (14, "with HTTP/1", "GET {0} HTTP/1"),
    (15, "with HTTP/1.10", "GET {0} HTTP/1.10"),
    (16, "with HTTP/11.1", "GET {0} HTTP/11.1"),
    (17, "with HTTP 1.1", "GET {0} HTTP 1.1"),
    (18, "with XTTP/1.1", "GET {0} XTTP/1.1"),
    (19, "with words behind the version", "GET {0} HTTP/1.1 more"),
    (20, "with a slash in the method", "GE/T {0} HTTP/1.1"),
):
    add(
        f"P.4.{number}",
        "RFC 9112 3.2",
        SHOULD,
        INVALID_LINE,
        f"a handshake with a request line {what}",
        "400 or another error status, or a redirect",
        refused_or_moved(with_request_line(words)),
    )
for number, what, words in (
    (21, "with two spaces before the target", "GET  {0} HTTP/1.1"),
    (22, "with a tab for a space", "GET\t{0} HTTP/1.1"),
    (23, "with a space behind the version", "GET {0} HTTP/1.1 "),
    (24, "with a bare CR for a space", "GET {0}\rHTTP/1.1"),
):
    add(
        f"P.4.{number}",
        "RFC 9112 3",
        MAY,
        WORDS,
        f"a handshake with a request line {what}",
        EITHER,
        left_open(with_request_line(words), "the server splits it at any whitespace"),
    )
ABSOLUTE = (
    "A server MUST accept the absolute-form in requests even though most HTTP/1.1 clients will "
    "only send the absolute-form to a proxy."
)
for number, level, what, words in (
    (25, MUST, "in absolute-form, with http", "GET http://{1}{0} HTTP/1.1"),
    (26, SHOULD, "in absolute-form, the scheme in capitals", "GET HTTP://{1}{0} HTTP/1.1"),
    (27, MAY, "in absolute-form, with another host", "GET http://another.example{0} HTTP/1.1"),
    (28, MAY, "in absolute-form, with ws", "GET ws://{1}{0} HTTP/1.1"),
):
    make = with_request_line(words)
    add(
        f"P.4.{number}",
        "RFC 9112 3.2.2",
        level,
        ABSOLUTE,
        f"a handshake with a request line {what}",
        TAKEN_TOO if level == MAY else IS_ACCEPTED,
        may_be_refused(make) if level == MAY else accepted(make),
    )
add(
    "P.4.29",
    "RFC 9112 3.2.2",
    SHOULD,
    ABSOLUTE,
    "a handshake in absolute-form with an empty host",
    IS_REFUSED,
    refused_or_moved(with_request_line("GET http://{0} HTTP/1.1")),
)

# ---- P.5: sizes ---------------------------------------------------------------------------------

LONG_LINE = (
    "It is RECOMMENDED that all HTTP senders and recipients support, at a minimum, request-line "
    "lengths of 8000 octets."
)
TOO_LONG = (
    "A server that receives a request-target longer than any URI it wishes to parse MUST respond "
    "with a 414 (URI Too Long) status code"
)
TOO_LARGE = (
    "A server that receives a request header field line, field value, or set of fields larger than "
    "it wishes to process MUST respond with an appropriate 4xx (Client Error) status code."
)
LIMITED = (
    "Recipients ought to carefully limit the extent to which they process other protocol elements, "
    "including (but not limited to) request methods, response status phrases, field names, numeric "
    "values, and chunk lengths."
)


def long_line(length: int) -> Make:
    """A request line of so many octets, most of them in a query."""

    def make(test: Test) -> bytes:
        resource = test.settings.target.resource
        start = resource + ("&" if "?" in resource else "?")
        filler = length - len(f"GET {start} HTTP/1.1")
        return handshake(test, resource=start + "q" * filler)

    return make


def fields_of(sizes: Sequence[int]) -> Make:
    """A handshake with so many more fields, their values of these sizes."""
    return changed({f"X-Field-{i}": "v" * size for i, size in enumerate(sizes)})


add(
    "P.5.1", "RFC 9112 3", SHOULD, LONG_LINE, "a handshake with a request line of 8000 octets",
    IS_ACCEPTED, accepted(long_line(8000)),
)  # fmt: skip
for number, what, make in (
    (2, "a cookie of 4096 bytes", changed({"Cookie": "c=" + "v" * 4094})),
    (3, "50 more fields", fields_of([20] * 50)),
    (4, "a key of many blanks around it", swapped(b"Key: ", b"Key: " + b" " * 500)),
):
    add(
        f"P.5.{number}",
        "RFC 6265 6.1" if number == 2 else "RFC 9110 5.4",
        SHOULD,
        "At least 4096 bytes per cookie"
        if number == 2
        else "HTTP does not place a predefined limit on the length of each field line, field "
        "value, or on the length of a header or trailer section as a whole",
        f"a handshake with {what}",
        IS_ACCEPTED,
        accepted(make),
    )


def asked_much(test: Test, data: bytes) -> Response:
    """Send that, and receive meanwhile; the head of the answer. NonStrict without one."""
    connection = test.connect()
    try:
        connection.pour(data)
    except (Ended, TimedOut):
        pass
    return answer(connection)


def refused_if_too_large(make: Make, *statuses: int) -> Run:
    """An error status; a server that takes so much may accept it."""

    def run(test: Test) -> None:
        response = asked_much(test, make(test))
        if response.status == 101:
            raise Informational("the server takes so much")
        expect_error(response, *statuses)

    return run


for number, quote, what, make, statuses in (
    (5, TOO_LONG, "a request line of 64 KiB", long_line(1 << 16), (414, 431)),
    (6, TOO_LONG, "a request line of 1 MiB", long_line(1 << 20), (414, 431)),
    (7, TOO_LARGE, "a field of 64 KiB", fields_of([1 << 16]), (431, 400)),
    (8, TOO_LARGE, "a field of 1 MiB", fields_of([1 << 20]), (431, 400)),
    (9, TOO_LARGE, "1000 more fields", fields_of([1] * 1000), (431, 400)),
    (10, TOO_LARGE, "100 more fields of 1000 bytes", fields_of([1000] * 100), (431, 400)),
    (11, TOO_LARGE, "10000 more fields", fields_of([0] * 10000), (431, 400)),
    (12, TOO_LARGE, "the name of a field of 64 KiB", with_line(b"X" * (1 << 16) + b": v"),
     (431, 400)),
    (13, LIMITED, "a method of 64 KiB",
     lambda test: handshake(test, method="G" * (1 << 16)), (400, 405, 414, 431, 501)),
):  # fmt: skip
    if quote is TOO_LONG:
        section = "RFC 9112 3"
    else:
        section = "RFC 9110 5.4" if quote is TOO_LARGE else "RFC 9110 17.5"
    add(
        f"P.5.{number}",
        section,
        SHOULD if quote is LIMITED else MUST,
        quote,
        f"a handshake with {what}",
        "414, 431 or another error status; 101 is told, a server may take so much",
        refused_if_too_large(make, *statuses),
    )
for number, what, start in (
    (14, "a request line that never ends", "GET /"),
    (15, "a field that never ends", "GET / HTTP/1.1\r\nHost: x\r\nX-Name: "),
    (16, "empty lines and no request", "\r\n"),
    (17, "a method that never ends", "G"),
):
    filler = b"\r\n" * (1 << 19) if number == 16 else b"a" * (1 << 20)

    def endless(test: Test, data: bytes = start.encode() + filler) -> None:
        try:
            expect_error(asked_much(test, data))
        except NonStrict:
            return

    add(
        f"P.5.{number}",
        "RFC 9110 17.5",
        SHOULD,
        LIMITED,
        f"1 MiB of {what}",
        "an error status, or just the end of the connection",
        endless,
    )


def endless_fields(test: Test) -> None:
    data = handshake(test)[:-2] + b"X-Name: value\r\n" * 70000
    try:
        expect_error(asked_much(test, data))
    except NonStrict:
        return


add(
    "P.5.18", "RFC 9110 17.5", SHOULD, LIMITED, "1 MiB of small fields, and no end of them",
    "an error status, or just the end of the connection", endless_fields,
)  # fmt: skip

# ---- P.6: other protocols -----------------------------------------------------------------------


def client_hello() -> bytes:
    """Of TLS 1.2 with one cipher suite, as much as a server needs to see what it is."""
    body = b"\x03\x03" + bytes(range(32)) + b"\0" + b"\0\x02\xc0\x2f" + b"\x01\0" + b"\0\0"
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello


def turned_away(data: bytes) -> Run:
    """An error status, or just the end of the connection, at once."""

    def run(test: Test) -> None:
        if test.settings.target.tls:
            raise Skipped("for a server without TLS")
        try:
            expect_error(ask(test, data)[1])
        except NonStrict:
            return
        except Failed as error:
            raise NonStrict(str(error)) from None

    return run


for number, what, data in (
    (1, "the ClientHello of TLS", client_hello()),
    (2, "the preface of HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"),
    (3, "the banner of SSH", b"SSH-2.0-OpenSSH_9.0\r\n"),
    (4, "a greeting of SMTP", b"EHLO one.example\r\n"),
    (5, "a command of Redis", b"*1\r\n$4\r\nPING\r\n"),
    (6, "zero bytes", b"\0" * 64),
    (7, "a WebSocket frame without a handshake", wire.frame(b"hello")),
    (8, "a request of HTTP/0.9", b"GET /\r\n"),
    (9, "random bytes", bytes(i * 167 % 256 for i in range(1, 256))),
):
    add(
        f"P.6.{number}",
        "RFC 9112 2.2",
        SHOULD,
        GRAMMAR,
        what,
        "400 or another error status, or just the end of the connection",
        turned_away(data),
    )
MAJOR = (
    "A server can send a 505 (HTTP Version Not Supported) response if it wishes, for any reason, "
    "to refuse service of the client's major protocol version."
)
for number, version in ((10, "HTTP/2.0"), (11, "HTTP/3.0"), (12, "HTTP/0.0")):
    add(
        f"P.6.{number}",
        "RFC 9110 6.2",
        SHOULD,
        MAJOR,
        f"a handshake with {version}",
        "505 or another error status, not 101",
        refused(changed({}, version=version), 505, 400, 426),
    )

# ---- P.7: what stands behind a request ----------------------------------------------------------

AFTER_CLOSE = (
    'A server that sends a "close" connection option MUST initiate closure of the connection (see '
    'below) after it sends the response containing the "close" connection option. The server '
    "MUST NOT process any further requests received on that connection."
)


@case(
    "P.7.1",
    "RFC 9112 6.3",
    MUST,
    "If the unrecoverable error is in a request message, the server MUST respond with a 400 (Bad "
    "Request) status code and then close the connection.",
    sends="a handshake with two different Content-Length, and a good one in the same segment",
    expects="one error response, then the end of the connection",
)
def behind_bad_framing(test: Test) -> None:
    bad = handshake(test, {"Content-Length": ["0", "7"]})
    connection, response = ask(test, bad + handshake(test))
    expect_one_answer(connection, response)
    expect_error(response, 400)


def only_if_open(test: Test, first: bytes, second: bytes) -> None:
    """What comes behind the first request is answered only if its response keeps the connection."""
    connection, response = ask(test, first + second)
    expect_error(response)
    if "close" in tokens(response, "Connection"):
        return expect_one_answer(connection, response)
    read_body(connection, response)
    try:
        later = answer(connection)
    except NonStrict:
        return
    raise Informational(f"the connection was kept, and the second request got {later.status}")


for number, what, change in (
    (2, "whose key is bad", {"Sec-WebSocket-Key": "x"}),
    (3, "whose version is 99", {"Sec-WebSocket-Version": "99"}),
    (4, "with a space before a colon", {"X-Name ": "x"}),
):

    def refused_first(test: Test, change: Change = change) -> None:
        only_if_open(test, handshake(test, change), handshake(test))

    add(
        f"P.7.{number}",
        "RFC 9112 9.6",
        MUST,
        AFTER_CLOSE,
        f"a handshake {what}, and a good one in the same segment",
        "an error with Connection: close, and nothing behind it; if the connection is kept, the "
        "second answer is told",
        refused_first,
    )


@case(
    "P.7.5",
    "RFC 6455 4.2.2",
    MUST,
    "the server MUST abort the WebSocket handshake described in this section",
    sends="a handshake whose version is 99, and a frame in the same segment",
    expects="an error status, and no frame behind it",
)
def frame_behind_refusal(test: Test) -> None:
    data = handshake(test, {"Sec-WebSocket-Version": "99"}) + wire.frame(b"smuggled")
    connection, response = ask(test, data)
    expect_error(response)
    read_body(connection, response)
    session = Session(test, connection, response)
    session.comes(0.2)
    if connection.buffer and not connection.buffer.startswith(b"HTTP/1."):
        raise Failed(f"behind the response came {wire.shown(bytes(connection.buffer))}")


FRAMES = "Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2."
for number, method in ((6, "GET"), (7, "POST")):

    def request_behind_101(test: Test, method: str = method) -> None:
        session = expect_accepted(test, handshake(test) + plain(test, method=method))
        session.expect_failure(1002)

    # The first octet of either method has reserved bits set.
    add(
        f"P.7.{number}",
        "RFC 6455 6.2",
        MUST,
        FRAMES,
        f"a handshake and a {method} in the same segment",
        "101, then the connection is failed with 1002: it is no frame, and no request any more",
        request_behind_101,
    )


@case(
    "P.7.8",
    "RFC 9112 9.3.2",
    MUST,
    "it MUST send the corresponding responses in the same order that the requests were received.",
    sends="a plain GET and a handshake in the same segment",
    expects="the answer to the GET, then 101, or the end of the connection",
)
def handshake_behind_get(test: Test) -> None:
    connection, response = ask(test, plain(test) + handshake(test))
    if response.status == 101:
        raise Failed("the second request was answered first")
    read_body(connection, response)
    try:
        second = answer(connection)
    except NonStrict:
        return
    if "close" in tokens(response, "Connection"):
        raise Failed(f"{second.status} came behind a response with Connection: close")
    if second.status != 101:
        raise Failed(f"the handshake was answered with {second.status}")


def body_is_no_request(make: Make) -> Run:
    """A request whose body is a whole handshake: never is that answered."""

    def run(test: Test) -> None:
        connection, response = ask(test, make(test))
        if response.status == 101:
            raise Failed("the handshake in the body was accepted")
        read_body(connection, response)
        Session(test, connection, response).comes(0.2)
        if connection.buffer.startswith(b"HTTP/"):
            raise Failed("what stands in the body was answered as a request")

    return run


def with_body(test: Test, method: str, upgrade: bool, chunked: bool) -> bytes:
    """A request whose body is a whole handshake."""
    body = handshake(test)
    framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))
    target = test.settings.target
    fields = [("Host", target.authority), framing]
    if upgrade:
        fields = [*wire.upgrade_fields(target, wire.random_key(test.random)), framing]
    if chunked:
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    return test.request(fields, method=method) + body


for number, what, method, upgrade, chunked in (
    (9, "a POST with Content-Length", "POST", False, False),
    (10, "a chunked POST", "POST", False, True),
    (11, "a GET with Content-Length", "GET", False, False),
    (12, "a chunked GET", "GET", False, True),
    (13, "a handshake by POST with Content-Length", "POST", True, False),
):

    def hidden(
        test: Test, method: str = method, upgrade: bool = upgrade, chunked: bool = chunked
    ) -> bytes:
        return with_body(test, method, upgrade, chunked)

    add(
        f"P.7.{number}",
        "RFC 9112 9.3",
        MUST,
        BODY,
        f"{what}, its body a whole handshake",
        "one response, and none to what stands in the body",
        body_is_no_request(hidden),
    )

# ---- P.8: responses -----------------------------------------------------------------------------


@case(
    "P.8.1",
    "RFC 9112 9.3",
    MUST,
    "In order to remain persistent, all messages on a connection need to have a self-defined "
    "message length (i.e., one not defined by closure of the connection), as described in Section "
    "6.",
    sends="a handshake without a key",
    expects="a response that is whole: by Content-Length, chunked, or by the end of the connection",
)
def framed(test: Test) -> None:
    connection, response = ask(test, handshake(test, {"Sec-WebSocket-Key": None}))
    if len(set(response.all("Content-Length"))) > 1:
        raise Failed("the response has several Content-Length")
    if response.get("Content-Length") is not None and response.get("Transfer-Encoding"):
        raise Failed("the response has both Content-Length and Transfer-Encoding")
    read_body(connection, response)


@case(
    "P.8.2",
    "RFC 9110 9.3.2",
    MUST,
    "The HEAD method is identical to GET except that the server MUST NOT send content in the "
    "response.",
    sends="a plain HEAD",
    expects="a response head, and nothing behind it",
)
def head(test: Test) -> None:
    connection, response = ask(test, plain(test, method="HEAD"))
    Session(test, connection, response).comes(0.1)
    if connection.buffer:
        raise Failed(f"behind the head came {wire.shown(bytes(connection.buffer))}")


@case(
    "P.8.3",
    "RFC 9110 6.6.1",
    SHOULD,
    "An origin server with a clock (as defined in Section 5.6.7) MUST generate a Date header field "
    "in all 2xx (Successful), 3xx (Redirection), and 4xx (Client Error) responses",
    sends="a handshake without a key",
    expects="one Date like Sun, 06 Nov 1994 08:49:37 GMT; a server without a clock has none",
)
def date(test: Test) -> None:
    response = ask(test, handshake(test, {"Sec-WebSocket-Key": None}))[1]
    dates = response.all("Date")
    if len(dates) != 1 or len(dates[0]) != 29 or not dates[0].endswith(" GMT"):
        raise Failed(f"Date: {', '.join(dates)}")


@case(
    "P.8.4",
    "RFC 9112 9.6",
    MUST,
    'A server that receives a "close" connection option MUST initiate closure of the connection '
    '(see below) after it sends the final response to the request that contained the "close" '
    "connection option.",
    sends="a plain GET with Connection: close, and a handshake in the same segment",
    expects="one response, then the end of the connection",
)
def close_asked(test: Test) -> None:
    fields = [("Host", test.settings.target.authority), ("Connection", "close")]
    connection, response = ask(test, test.request(fields) + handshake(test))
    expect_one_answer(connection, response)


@case(
    "P.8.5",
    "RFC 9112 9.3",
    MUST,
    "The connection will close after the current response.",
    sends="a plain GET of HTTP/1.0",
    expects="one response, then the end of the connection",
)
def old_client(test: Test) -> None:
    connection, response = ask(test, plain(test, version="HTTP/1.0"))
    expect_one_answer(connection, response)


@case(
    "P.8.6",
    "RFC 9112 9.6",
    MAY,
    "To avoid the TCP reset problem, servers typically close a connection in stages.",
    sends="a request of no good grammar, and 256 KiB behind it, before anything is read",
    expects="the error response, whole; NON-STRICT when a reset swallows it",
)
def error_is_readable(test: Test) -> None:
    connection = test.connect()
    connection.send(swapped(b"Host:", b"Host :")(test))
    try:
        connection.send(b"x" * (1 << 18), pieces=4096)
    except (Ended, TimedOut):
        pass
    response = answer(connection)
    try:
        read_body(connection, response)
    except Failed as error:
        raise NonStrict(str(error)) from None
    expect_error(response)


@case(
    "P.8.7",
    "RFC 9110 10.1.1",
    MUST,
    "A server MAY omit sending a 100 (Continue) response if it has already received some or all of "
    "the content for the corresponding request, or if the framing indicates that there is no "
    "content.",
    sends="a handshake with Expect: 100-continue, which has no content",
    expects="101, perhaps behind a 100; or 417",
)
def expect_continue(test: Test) -> None:
    connection, response = ask(test, handshake(test, {"Expect": "100-continue"}))
    if response.status == 100:
        response = answer(connection)
    if response.status == 417:
        raise Informational("the server meets no expectations")
    if response.status != 101:
        raise Failed(f"the handshake was refused with {response.status}")


INJECTED = "%0d%0aX-Injected:%20yes%0d%0a%0d%0a"
for number, what, without, resource in (
    (8, "in the path", False, f"/{INJECTED}"),
    (9, "in the query", False, f"/?{INJECTED}"),
    (10, "in the path of a plain request", True, f"/{INJECTED}"),
):

    def injected(test: Test, without: bool = without, resource: str = resource) -> None:
        make = changed(NO_UPGRADE if without else {}, resource=resource)
        connection, response = ask(test, make(test))
        if response.get("X-Injected") is not None:
            raise Failed("what the client wrote has become a header field of the response")
        if response.status != 101:
            read_body(connection, response)

    add(
        f"P.8.{number}",
        "RFC 9110 5.5",
        MUST,
        "Field values containing CR, LF, or NUL characters are invalid and dangerous",
        f"a request with percent-encoded CR and LF {what}",
        "a response without a field that the client has made up",
        injected,
    )


@case(
    "P.8.11",
    "RFC 9112 4",
    SHOULD,
    "status-line = HTTP-version SP status-code SP [ reason-phrase ]",
    sends="a handshake without a key",
    expects="a status line with HTTP/1.1, and Connection: close",
)
def error_line(test: Test) -> None:
    connection, response = ask(test, handshake(test, {"Sec-WebSocket-Key": None}))
    first = next(e.data for e in test.trace.events if e.what == "received")
    if not first.startswith(b"HTTP/1.1 ") or first[12:13] != b" ":
        raise Failed(f"the status line is {wire.shown(first.split(bytes(2))[0])}")
    read_body(connection, response)
    if "close" not in tokens(response, "Connection"):
        raise Informational("the connection is kept after a refused handshake")


@case(
    "P.8.12",
    "RFC 9112 3.2.4",
    MAY,
    'the client MUST send only "*" (%x2A) as the request-target',
    sends="OPTIONS * HTTP/1.1",
    expects="a whole response",
)
def options(test: Test) -> None:
    connection, response = ask(test, plain(test, method="OPTIONS", resource="*"))
    read_body(connection, response)


# ---- P.9: chunked bodies ------------------------------------------------------------------------

DECODE = "A recipient MUST be able to parse and decode the chunked transfer coding."
EXTENSIONS = "A recipient MUST ignore unrecognized chunk extensions."
LARGE_SIZES = (
    "recipients MUST anticipate potentially large hexadecimal numerals and prevent parsing errors "
    "due to integer conversion overflows or precision loss due to integer representation."
)
PLAIN_BODY = b"5\r\nhello\r\n0\r\n\r\n"
SERVED = (
    "the response to the handshake behind it is 101; INFORMATIONAL: the server ends the connection "
    "behind every chunked body"
)
NOT_SERVED = "an error, or the end of the connection: the handshake is not found behind it"


def post_chunks(test: Test, body: bytes, pause: float = 0.0) -> Connection:
    """A POST with this body, and a handshake behind it. pause: before each octet of the body."""
    connection = test.connect()
    head = plain(test, method="POST")[:-2] + b"Transfer-Encoding: chunked\r\n\r\n"
    try:
        if pause:
            connection.send(head)
            time.sleep(pause)
            connection.send(body, 1, pause)
            connection.send(handshake(test))
        else:
            connection.send(head + body + handshake(test))
    except Ended:
        pass  # a response may have come before
    return connection


def behind_chunks(test: Test, connection: Connection) -> Response | None:
    """The second response; None: the connection is ended, as any server may do behind a body
    (RFC 9112 section 9.3), or nothing comes."""
    response = answer(connection)
    if response.status == 101:
        raise Failed("the POST itself was answered with 101")
    if "close" in tokens(response, "Connection"):
        expect_one_answer(connection, response)
        return None
    read_body(connection, response)
    try:
        return connection.read_response(test.seconds(0.3))
    except (Ended, TimedOut):
        return None


def chunks_are_read(body: bytes, pause: float = 0.0) -> Run:
    """What a server does with the simplest of chunked bodies, it does with this one."""

    def run(test: Test) -> None:
        simplest = behind_chunks(test, post_chunks(test, PLAIN_BODY))
        response = behind_chunks(test, post_chunks(test, body, test.seconds(pause)))
        if response is not None and response.status == 101:
            return
        if simplest is None and response is None:
            raise Informational("the connection is ended behind a chunked body, whatever is in it")
        if simplest is not None and simplest.status != 101:
            raise Failed(f"behind the simplest chunked body a handshake got {simplest.status}")
        came = "no answer" if response is None else str(response.status)
        raise Failed(f"a handshake behind this body got {came}")

    return run


def chunks_are_refused(body: bytes, large: bool = False) -> Run:
    """The end of the body is not found where somebody else might look for it.

    large: what is behind the head may be the beginning of a body that the server waits for.
    """

    def run(test: Test) -> None:
        connection = post_chunks(test, body)
        if large and is_silent(connection, test.seconds(0.5)):
            return
        response = behind_chunks(test, connection)
        if response is not None and response.status == 101:
            raise Failed("the body was read all the same, and the handshake behind it accepted")

    return run


for number, quote, section, what, body, pause in (
    (1, DECODE, "7.1", "of two chunks", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 0.0),
    (2, DECODE, "7.1", "whose size has zeros ahead, and capitals",
     b"00A\r\n0123456789\r\n000\r\n\r\n", 0.0),
    (3, EXTENSIONS, "7.1.1", "with chunk extensions",
     b'5;name=value;flag;quoted="a \\" ; b"\r\nhello\r\n0;last\r\n\r\n', 0.0),
    (4, DECODE, "7.1.2", "with trailers",
     b"5\r\nhello\r\n0\r\nX-One: 1\r\nX-Two: 2\r\n\r\n", 0.0),
    (5, DECODE, "7.1", "that comes octet by octet, slowly", PLAIN_BODY, 0.01),
):  # fmt: skip
    add(
        f"P.9.{number}",
        f"RFC 9112 {section}",
        MUST,
        quote,
        f"a chunked POST with a body {what}, and a handshake behind it",
        SERVED,
        chunks_are_read(body, pause),
    )
for number, power in ((11, 32), (12, 64)):
    add(
        f"P.9.{number}",
        "RFC 9112 7.1",
        MUST,
        LARGE_SIZES,
        f"a chunked POST whose chunk has 2**{power} + 5 octets by its size, and 5 in truth, and a "
        "handshake behind it",
        NOT_SERVED,
        chunks_are_refused(b"%x\r\nhello\r\n0\r\n\r\n" % (2**power + 5), large=True),
    )
for number, what, body in (
    (13, "whose size is 5x", b"5x\r\nhello\r\n0\r\n\r\n"),
    (14, "whose size is 0x5", b"0x5\r\nhello\r\n0\r\n\r\n"),
    (15, "whose size is +5", b"+5\r\nhello\r\n0\r\n\r\n"),
    (16, "whose size is -5", b"-5\r\nhello\r\n0\r\n\r\n"),
    (17, "whose size is xyz", b"xyz\r\n\r\n"),
    (18, "whose size is empty", b"\r\n\r\n"),
    (19, "without CRLF at its end", b"5\r\nhelloXX0\r\n\r\n"),
    (20, "whose size ends with LF alone", b"5\nhello\r\n0\r\n\r\n"),
):
    add(
        f"P.9.{number}",
        "RFC 9112 2.2",
        SHOULD,
        GRAMMAR,
        f"a chunked POST with a chunk {what}, and a handshake behind it",
        NOT_SERVED,
        chunks_are_refused(body),
    )
