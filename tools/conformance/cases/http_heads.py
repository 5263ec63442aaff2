# SPDX-License-Identifier: MIT
"""HTTP hygiene, group P: the heads of requests.

P.3 lines and fields, P.4 the request line, P.5 sizes, P.6 other protocols on this port. What
applies to all of group P is in http_bodies.py.
"""

from __future__ import annotations

from typing import Sequence

from .. import wire
from ..case import MAY, MUST, SHOULD, Run, Test, add
from ..verdicts import Failed, Informational, NonStrict
from ..wire import Ended, Response, TimedOut
from .heads import (
    Change,
    Make,
    accepted,
    answer,
    ask,
    changed,
    expect_error,
    handshake,
    left_open,
    may_be_refused,
    not_upgraded,
    offered,
    refused,
    swapped,
    with_line,
    with_request_line,
)
from .http_bodies import EITHER, IS_ACCEPTED, IS_CLOSED, TAKEN_TOO

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
        "an error status, best 400",
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
    """Return a handshake with these bytes between the request line and the first field."""
    return swapped(b" HTTP/1.1\r\n", b" HTTP/1.1\r\n" + line, change)


# These show how a server parsed it: parsed the forbidden way, the handshake would be valid.
for number, section, quote, what, make in (
    (5, "RFC 9112 5.2", FOLD, "Upgrade: websocket only in a folded line of another field",
     with_line(b"X-Name: value\r\n Upgrade: websocket", NO_UPGRADE)),
    (6, "RFC 9112 5.2", FOLD, "Upgrade: websocket only after a fold with a tab",
     with_line(b"X-Name: value\r\n\tUpgrade: websocket", NO_UPGRADE)),
    (7, "RFC 9112 2.2", BEFORE_FIRST, "Upgrade: websocket only in an indented first line",
     first_line(b" Upgrade: websocket\r\n", NO_UPGRADE)),
    (8, "RFC 9112 2.2", CR, "Upgrade: websocket only after a bare CR in another field",
     with_line(b"X-Name: value\rUpgrade: websocket", NO_UPGRADE)),
    (9, "RFC 9112 2.2", CR, "a bare CR within Sec-WebSocket-Version",
     changed({"Sec-WebSocket-Version": "1\r3"})),
    (10, "RFC 9112 2.2", CR, "a bare CR within the word websocket",
     changed({"Upgrade": "web\rsocket"})),
    (11, "RFC 9110 5.5", NUL, "a NUL within Sec-WebSocket-Version",
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
        "any response except 101",
        not_upgraded(make),
    )
OTHER_CTL = (
    "Field values containing other CTL characters are also invalid; however, recipients MAY retain "
    "such characters for the sake of robustness"
)
for number, section, quote, what, make in (
    (14, "RFC 9112 5.2", FOLD, "a folded unimportant field",
     with_line(b"X-Name: one\r\n two")),
    (15, "RFC 9112 5.2", FOLD, "a fold within the list of Connection",
     changed({"Connection": "keep-alive,\r\n Upgrade"})),
    (16, "RFC 9112 2.2", BEFORE_FIRST, "an indented line before the first field",
     first_line(b" X-Name: value\r\n")),
    (17, "RFC 9112 2.2", CR, "a bare CR in an unimportant field",
     with_line(b"X-Name: one\rtwo")),
    (18, "RFC 9110 5.5", NUL, "a NUL in an unimportant field",
     with_line(b"X-Name: one\0two")),
    (19, "RFC 9112 2.2", LF, "LF for all line ends", swapped(b"\r\n", b"\n")),
    (20, "RFC 9112 2.2", LF, "LF at the end of one field",
     swapped(b"Upgrade: websocket\r\n", b"Upgrade: websocket\n")),
    (21, "RFC 9112 2.2", LF, "LF at the end of the request line",
     swapped(b"HTTP/1.1\r\n", b"HTTP/1.1\n")),
    (22, "RFC 9112 2.2", LF, "LF in place of the last CRLF",
     lambda test: handshake(test)[:-2] + b"\n"),
    (23, "RFC 9112 2.2", LF, "CR CR LF at the end of one field",
     swapped(b"websocket\r\n", b"websocket\r\r\n")),
    (24, "RFC 9110 5.5", OTHER_CTL, "the control character 01 in an unimportant field",
     with_line(b"X-Name: one\x01two")),
    (25, "RFC 9110 5.5", OTHER_CTL, "the control character 7F in an unimportant field",
     with_line(b"X-Name: one\x7ftwo")),
):  # fmt: skip
    add(
        f"P.3.{number}",
        section,
        MAY,
        quote,
        f"a handshake with {what}",
        EITHER,
        left_open(make, "the server tolerates it"),
    )
GRAMMAR = (
    "When a server listening only for HTTP request messages, or processing what appears from the "
    "start-line to be an HTTP request message, receives a sequence of octets that does not match "
    "the HTTP-message grammar aside from the robustness exceptions listed above, the server SHOULD "
    "respond with a 400 (Bad Request) response and close the connection."
)
for number, what, make in (
    (26, "with a line without a colon", with_line(b"nothing but words")),
    (27, "with a field without a name", with_line(b": value")),
    (28, "with parentheses in a field name", with_line(b"X(Name): value")),
    (29, "with a space in a field name", with_line(b"X Name: value")),
    (30, "with a non-ASCII letter in a field name", with_line(b"X-N\xe4me: value")),
    (31, "with a NUL in a field name", with_line(b"X-N\0me: value")),
    (32, "with a NUL after the name Upgrade", swapped(b"Upgrade: web", b"Upgrade\0: web")),
    (33, "with a slash in a field name", with_line(b"X/Name: value")),
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
    """Expect an error status or a redirect."""

    def run(test: Test) -> None:
        response = ask(test, make(test))[1]
        if response.status != 301:
            expect_error(response, 400, 404, 405, 501, 505)

    return run


for number, what, words in (
    (1, "without a version", "GET {0}"),
    (2, "without a target", "GET HTTP/1.1"),
    (3, "with only a method", "GET"),
    (4, "with a space in the target", "GET /a b HTTP/1.1"),
    (5, "with a NUL in the target", "GET /a\0b HTTP/1.1"),
    (6, "with a control character in the target", "GET /a\x01b HTTP/1.1"),
    (7, "with a non-ASCII letter in the target", "GET /\xe4 HTTP/1.1"),
    (8, "with a fragment in the target", "GET {0}#fragment HTTP/1.1"),
    (9, "with a target without a slash", "GET chat HTTP/1.1"),
    (10, "in authority-form, which is for CONNECT", "GET {1} HTTP/1.1"),
    (11, "in asterisk-form, which is for OPTIONS", "GET * HTTP/1.1"),
    (12, "with http/1.1 in lowercase", "GET {0} http/1.1"),
    (13, "with HTTP/1.x", "GET {0} HTTP/1.x"),
    (14, "with HTTP/1", "GET {0} HTTP/1"),
    (15, "with HTTP/1.10", "GET {0} HTTP/1.10"),
    (16, "with HTTP/11.1", "GET {0} HTTP/11.1"),
    (17, "with HTTP 1.1", "GET {0} HTTP 1.1"),
    (18, "with XTTP/1.1", "GET {0} XTTP/1.1"),
    (19, "with words after the version", "GET {0} HTTP/1.1 more"),
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
add(
    "P.3.34", "RFC 9112 3", MAY, WORDS, "a handshake with a space before the method", EITHER,
    left_open(lambda test: b" " + handshake(test), "the server ignores it"),
)  # fmt: skip
for number, what, words in (
    (21, "with two spaces before the target", "GET  {0} HTTP/1.1"),
    (22, "with a tab instead of a space", "GET\t{0} HTTP/1.1"),
    (23, "with a space after the version", "GET {0} HTTP/1.1 "),
    (24, "with a bare CR instead of a space", "GET {0}\rHTTP/1.1"),
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
    (25, MUST, "in absolute-form, with http or https", "GET {2}://{1}{0} HTTP/1.1"),
    (26, SHOULD, "in absolute-form, with the scheme in uppercase", "GET {3}://{1}{0} HTTP/1.1"),
    (27, MAY, "in absolute-form, with another host", "GET {2}://another.example{0} HTTP/1.1"),
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
    "RFC 9112 3.2",
    SHOULD,
    INVALID_LINE,
    "a handshake in absolute-form with an empty host",
    "400 or another error status, or a redirect",
    refused_or_moved(with_request_line("GET {2}://{0} HTTP/1.1")),
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
    """Return a request line of that many octets, most of them in a query."""

    def make(test: Test) -> bytes:
        resource = test.settings.target.resource
        start = resource + ("&" if "?" in resource else "?")
        filler = length - len(f"GET {start} HTTP/1.1")
        return handshake(test, resource=start + "q" * filler)

    return make


def fields_of(sizes: Sequence[int]) -> Make:
    """Return a handshake with additional fields whose values have these sizes."""
    return changed({f"X-Field-{i}": "v" * size for i, size in enumerate(sizes)})


add(
    "P.5.1", "RFC 9112 3", SHOULD, LONG_LINE, "a handshake with a request line of 8000 octets",
    IS_ACCEPTED, accepted(long_line(8000)),
)  # fmt: skip
NO_LIMIT = (
    "HTTP does not place a predefined limit on the length of each field line, field value, or on "
    "the length of a header or trailer section as a whole"
)


def with_cookie(test: Test) -> bytes:
    """Return a handshake with a cookie of 4096 bytes after the user's."""
    cookies = [value for name, value in offered(test) if name.lower() == "cookie"]
    return handshake(test, {"Cookie": "; ".join([*cookies, "c=" + "v" * 4094])})


for number, what, make in (
    (2, "a cookie of 4096 bytes", with_cookie),
    (3, "50 more fields", fields_of([20] * 50)),
    (4, "many spaces before the key", swapped(b"Key: ", b"Key: " + b" " * 500)),
):
    add(
        f"P.5.{number}",
        "RFC 9110 5.4",
        MAY,
        NO_LIMIT,
        f"a handshake with {what}",
        "101; INFORMATIONAL: an error status, as a server may have limits",
        may_be_refused(make),
    )


def asked_much(test: Test, data: bytes) -> Response:
    """Send this while receiving, and return the response head, or raise NonStrict."""
    connection = test.connect()
    try:
        connection.pour(data)
    except (Ended, TimedOut):
        pass
    return answer(connection)


def refused_if_too_large(make: Make, statuses: Sequence[int]) -> Run:
    """Expect one of these statuses; a server without such a limit may accept the request."""

    def run(test: Test) -> None:
        response = asked_much(test, make(test))
        if response.status < 400:
            raise Informational(f"the server accepts this size, and answers {response.status}")
        expect_error(response, *statuses)

    return run


CLIENT_ERRORS = range(400, 500)


for number, quote, what, make in (
    (5, TOO_LONG, "a request line of 64 KiB", long_line(1 << 16)),
    (6, TOO_LONG, "a request line of 1 MiB", long_line(1 << 20)),
    (7, TOO_LARGE, "a field of 64 KiB", fields_of([1 << 16])),
    (8, TOO_LARGE, "a field of 1 MiB", fields_of([1 << 20])),
    (9, TOO_LARGE, "1000 more fields", fields_of([1] * 1000)),
    (10, TOO_LARGE, "100 more fields of 1000 bytes", fields_of([1000] * 100)),
    (11, TOO_LARGE, "10000 more fields", fields_of([0] * 10000)),
    (12, TOO_LARGE, "a field name of 64 KiB", with_line(b"X" * (1 << 16) + b": v")),
):
    add(
        f"P.5.{number}",
        "RFC 9112 3" if quote is TOO_LONG else "RFC 9110 5.4",
        MUST,
        quote,
        f"a handshake with {what}",
        f"{'414' if quote is TOO_LONG else '431 or another 4xx'}; INFORMATIONAL: 101, as a "
        "server may accept that",
        refused_if_too_large(make, (414, 431) if quote is TOO_LONG else CLIENT_ERRORS),
    )
add(
    "P.5.13",
    "RFC 9112 3",
    SHOULD,
    "A server that receives a method longer than any that it implements SHOULD respond with a 501 "
    "(Not Implemented) status code.",
    "a handshake with a method of 64 KiB",
    "501 or another error status, not 101",
    refused_if_too_large(
        lambda test: handshake(test, method="G" * (1 << 16)), (400, 405, 414, 431, 501)
    ),
)
for number, what, start in (
    (14, "an endless request line", "GET /"),
    (15, "an endless field", "GET / HTTP/1.1\r\nHost: x\r\nX-Name: "),
    (16, "endless empty lines", "\r\n"),
    (17, "an endless method", "G"),
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
        "an error status, or only the end of the connection",
        endless,
    )


def endless_fields(test: Test) -> None:
    data = handshake(test)[:-2] + b"X-Name: value\r\n" * 70000
    try:
        expect_error(asked_much(test, data))
    except NonStrict:
        return


add(
    "P.5.18", "RFC 9110 17.5", SHOULD, LIMITED, "1 MiB of endless small fields",
    "an error status, or only the end of the connection", endless_fields,
)  # fmt: skip

# ---- P.6: other protocols -----------------------------------------------------------------------


def client_hello() -> bytes:
    """Return a ClientHello of TLS 1.2 with one cipher suite, enough to be recognized."""
    body = b"\x03\x03" + bytes(range(32)) + b"\0" + b"\0\x02\xc0\x2f" + b"\x01\0" + b"\0\0"
    hello = b"\x01" + len(body).to_bytes(3, "big") + body
    return b"\x16\x03\x01" + len(hello).to_bytes(2, "big") + hello


def turned_away(data: bytes) -> Run:
    """Expect an error status or the end of the connection immediately."""

    def run(test: Test) -> None:
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
        "400 or another error status, or only the end of the connection",
        turned_away(data),
    )
MAJOR = (
    "A server can send a 505 (HTTP Version Not Supported) response if it wishes, for any reason, "
    "to refuse service of the client's major protocol version."
)
for number, version in ((10, "HTTP/2.0"), (11, "HTTP/3.0")):
    add(
        f"P.6.{number}",
        "RFC 9110 6.2",
        MAY,
        MAJOR,
        f"a handshake with {version}",
        "505 or another error status; INFORMATIONAL: 101, which is allowed",
        left_open(changed({}, version=version), f"{version} is accepted as HTTP/1.1"),
    )
add(
    "P.6.12",
    "RFC 6455 4.2.1",
    MUST,
    "the server MUST stop processing the client's handshake and return an HTTP response with an "
    "appropriate error code (such as 400 Bad Request). [...] An HTTP/1.1 or higher GET request",
    "a handshake with HTTP/0.0",
    "any response except 101",
    not_upgraded(changed({}, version="HTTP/0.0")),
)
