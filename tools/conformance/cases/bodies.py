# SPDX-License-Identifier: MIT
"""Bodies of requests (RFC 9110, RFC 9112), the last part of group P: P.10 Content-Length, P.11
100-continue, P.12 malformed bodies. P.9, about valid chunks, is in exchanges.py.

A server may answer a POST as it likes, with 404 or 405 for example. What counts is where it
believes that the body ends: a handshake follows in the same connection and is served, or must not
be. A server that ends the connection after every body, perhaps without a response, shows nothing,
which is INFORMATIONAL.
"""

from __future__ import annotations

from typing import Callable

from .. import wire
from ..case import MAY, MUST, SHOULD, Run, Test, add, case
from ..verdicts import Failed, Informational, NonStrict, Skipped
from ..wire import Connection, Ended, Response, TimedOut
from .exchanges import PLAIN_BODY, Behind, behind_chunks
from .heads import Change, answer, handshake, is_silent, plain, read_body, tokens
from .http_bodies import BODY, BOTH, LENGTH, NOT_LAST
from .http_heads import GRAMMAR

HELLO = b"hello"
OF_HELLO: Change = {"Content-Length": "5"}
WRONG = (400, 408, 500, 501)
"""Statuses that say that the server could not read a request."""
SERVED = (
    "101 for the handshake after it; INFORMATIONAL: the connection ends; SKIPPED: the handshake is "
    "refused even after the simplest body"
)
NOT_SERVED = "an error, or the end of the connection: the handshake after it is not served"


def post(test: Test, change: Change, body: bytes, method: str = "POST", **more: str) -> bytes:
    return plain(test, change, method=method, **more) + body


def send_all(test: Test, data: bytes, cut: int = 0, pause: float = 0.0) -> Connection:
    """Send these octets and a handshake on a new connection.

    From `cut` octets before the end of the data on, pause before each octet.
    """
    connection = test.connect()
    try:
        if cut:
            connection.send(data[:-cut])
            test.pause(pause)
            connection.send(data[-cut:], 1, pause * test.settings.scale)
            connection.send(handshake(test))
        else:
            connection.send(data + handshake(test))
    except Ended:
        pass  # the server may have answered before
    return connection


def first_answer(connection: Connection) -> Response:
    """Read the first response, or raise Failed, or Informational if the server only ends TCP."""
    try:
        return answer(connection)
    except NonStrict as error:
        raise Informational(str(error)) from None


def best(test: Test, send: Callable[[], Connection], method: str = "POST") -> Behind:
    """Return the best of three tries, see `exchanges.best_behind`."""
    for _ in range(3):
        came = behind_chunks(test, send(), test.timeout, method)
        if not came.over:
            break
    return came


def usual_status(test: Test) -> int:
    """Return the status for the simplest body.

    Raises Informational or Skipped if no handshake is served after it.
    """
    data = post(test, OF_HELLO, HELLO)
    try:
        simplest = best(test, lambda: send_all(test, data))
    except NonStrict as error:
        raise Informational(f"for the simplest body {error}") from None
    if simplest.over:
        raise Informational("the connection ends after every body")
    if simplest.second != 101:
        came = simplest.second or "no answer"
        raise Skipped(f"after the simplest body a handshake got {came}")
    return simplest.status


def judge_position(this: Behind, usual: int | None = None) -> None:
    """Raise Failed if the server has missed the end of the body.

    `usual` is the status for the simplest body; if it is None, the body may be refused.
    """
    if usual is not None and this.status in WRONG and this.status != usual:
        raise Failed(f"a request with a valid body got {this.status}")
    if this.over:
        raise Informational(f"the connection ends after this body, which got {this.status}")
    if this.second != 101:
        raise Failed(f"a handshake after this body got {this.second or 'no answer'}")


# ---- P.10: Content-Length -----------------------------------------------------------------------

DECIMAL = (
    "If a valid Content-Length header field is present without Transfer-Encoding, its decimal "
    "value defines the expected message body length in octets."
)
NONE = (
    "If this is a request message and none of the above are true, then the message body length is "
    "zero (no message body is present)."
)
IN_ORDER = (
    "it MUST send the corresponding responses in the same order that the requests were received."
)


def ends_there(change: Change, body: bytes, method: str = "POST", cut: int = 0) -> Run:
    """Expect that a handshake after this body is served. A body of another method than POST may be
    refused."""

    def run(test: Test) -> None:
        usual = usual_status(test)
        data = post(test, change, body, method)
        pause = 0.01 if cut else 0.0
        this = best(test, lambda: send_all(test, data, cut, pause), method)
        judge_position(this, usual if method == "POST" else None)

    return run


for number, quote, what, change, body, method, cut in (
    (1, DECIMAL, "that is sent slowly octet by octet", OF_HELLO, HELLO, "POST", 5),
    (2, DECIMAL, "of 100,000 octets", {"Content-Length": "100000"}, b"x" * 100000, "POST", 0),
    (3, DECIMAL, "that contains empty lines and the end of chunks", {"Content-Length": "13"},
     b"\r\n\r\n0\r\n\r\n\r\n\r\n", "POST", 0),
    (4, DECIMAL, "of 10 octets with Content-Length: 0010", {"Content-Length": "0010"},
     b"0123456789", "POST", 0),
    (5, DECIMAL, "of no octets with Content-Length: 0", {"Content-Length": "0"}, b"", "POST", 0),
    (6, NONE, "of no octets, without Content-Length", {}, b"", "POST", 0),
    (7, DECIMAL, "of 5 octets", OF_HELLO, HELLO, "GET", 0),
    (8, DECIMAL, "of 5 octets", OF_HELLO, HELLO, "HEAD", 0),
    (9, DECIMAL, "of 5 octets", OF_HELLO, HELLO, "DELETE", 0),
    (10, DECIMAL, "of 5 octets", OF_HELLO, HELLO, "X-7F3A", 0),
):  # fmt: skip
    add(
        f"P.10.{number}",
        "RFC 9112 6.3",
        MUST,
        quote,
        f"a {method} with a body {what}, and a handshake after it",
        SERVED + ("; INFORMATIONAL: the body is refused" if method != "POST" else ""),
        ends_there(change, body, method, cut),
    )


@case(
    "P.10.11",
    "RFC 9112 9.3.2",
    MUST,
    IN_ORDER,
    sends="three POSTs with bodies, the second one chunked if the server reads chunks, and a "
    "handshake, in one segment",
    expects="three responses, then 101; INFORMATIONAL: the connection ends; SKIPPED: the handshake "
    "is refused even after the simplest body",
)
def several_bodies(test: Test) -> None:
    usual = usual_status(test)
    one = post(test, OF_HELLO, HELLO)
    chunks = post(test, {"Transfer-Encoding": "chunked"}, PLAIN_BODY)
    alone = best(test, lambda: send_all(test, chunks))
    if alone.over or alone.second != 101:
        chunks = one
    connection = send_all(test, one + chunks + one)
    for number in (1, 2):
        response = answer(connection)
        if response.status == 101 or (response.status in WRONG and response.status != usual):
            raise Failed(f"request {number} got {response.status}")
        if "close" in tokens(response, "Connection"):
            raise Informational(f"the connection ends after request {number}")
        read_body(connection, response)
    judge_position(behind_chunks(test, connection, test.timeout), usual)


def decoy(test: Test, change: Change) -> tuple[bytes, bytes, bytes, str]:
    """Return the head of a POST, its body, which is a handshake, and another handshake.

    The last value is the Sec-WebSocket-Accept of the other one, which has another key.
    """
    body = handshake(test)
    key = wire.random_key(test.random)
    head = post(test, {**change, "Content-Length": str(len(body))}, b"")
    return head, body, handshake(test, {"Sec-WebSocket-Key": key}), wire.accept_value(key)


def expect_no_request(
    connection: Connection, response: Response, body: bytes, real: bytes, accept: str
) -> None:
    """Send a body and a handshake after the response; only that handshake may be served."""
    read_body(connection, response)
    if "close" in tokens(response, "Connection"):
        return  # P.7.9 tests that nothing follows
    try:
        connection.send(body + real)
        second = connection.read_response()
    except Ended:
        return
    except TimedOut:
        raise NonStrict("the connection stays open, but the handshake is not answered") from None
    if second.get("Sec-WebSocket-Accept") != accept:
        raise Failed(f"the body was answered as a request, with {second.status}")


@case(
    "P.10.12",
    "RFC 9112 9.3",
    MUST,
    BODY,
    sends="the head of a POST with Content-Length, after an answer or a moment its body, which is "
    "a handshake, and another handshake",
    expects="101 for the second handshake, or the end of the connection",
)
def late_body(test: Test) -> None:
    head, body, real, accept = decoy(test, {})
    connection = test.connect()
    connection.send(head)
    if is_silent(connection, test.seconds(0.3)):
        try:
            connection.send(body)
        except Ended:
            return
        body = b""
    expect_no_request(connection, first_answer(connection), body, real, accept)


# ---- P.11: 100-continue -------------------------------------------------------------------------

AT_ONCE = (
    "Upon receiving an HTTP/1.1 (or later) request that has a method, target URI, and complete "
    "header section that contains a 100-continue expectation and an indication that request "
    "content will follow, an origin server MUST send either: an immediate response with a final "
    "status code, if that status can be determined by examining just the method, target URI, and "
    "header fields, or an immediate 100 (Continue) response to encourage the client to send the "
    "request content."
)
ULTIMATELY = (
    "A server that sends a 100 (Continue) response MUST ultimately send a final status code, once "
    "it receives and processes the request content, unless the connection is closed prematurely."
)
EXPECT: Change = {"Expect": "100-continue"}


def first_head(connection: Connection) -> Response:
    """Read a response head, perhaps a 100, or raise Failed, or Informational if TCP ends."""
    deadline = connection.deadline()
    try:
        response = connection.read_head(deadline)
        while 101 < response.status < 200:
            response = connection.read_head(deadline)
    except TimedOut as error:
        raise Failed(f"expected a 100 or a final response, but {error}") from None
    except Ended as error:
        raise Informational(f"expected a 100 or a final response, but {error}") from None
    return response


@case(
    "P.11.1",
    "RFC 9110 10.1.1",
    MUST,
    AT_ONCE,
    sends="the head of a POST with Content-Length and Expect: 100-continue",
    expects="100, or a final response, before the body is sent",
)
def waits_for_100(test: Test) -> None:
    connection = test.connect()
    connection.send(post(test, {**OF_HELLO, **EXPECT}, b""))
    first_head(connection)


@case(
    "P.11.2",
    "RFC 9110 10.1.1",
    MUST,
    ULTIMATELY,
    sends="the head of a POST with Expect: 100-continue, and after a 100 its body and a handshake",
    expects="a final response, then 101; INFORMATIONAL: the connection ends after the response, or "
    "there is no 100",
)
def after_100(test: Test) -> None:
    connection = test.connect()
    connection.send(post(test, {**OF_HELLO, **EXPECT}, b""))
    response = first_head(connection)
    if response.status != 100:
        raise Informational(f"the server answers with {response.status} at once")
    try:
        connection.send(HELLO + handshake(test))
    except Ended:
        pass  # there may be a final response
    judge_position(behind_chunks(test, connection, test.timeout))


@case(
    "P.11.3",
    "RFC 9112 9.3",
    MUST,
    BODY,
    sends="the head of a POST with Expect: 100-continue, and after a final response its body, "
    "which is a handshake, and another handshake",
    expects="101 for the second handshake, or the end of the connection; INFORMATIONAL: 100",
)
def body_without_100(test: Test) -> None:
    head, body, real, accept = decoy(test, EXPECT)
    connection = test.connect()
    connection.send(head)
    response = first_head(connection)
    if response.status == 100:
        raise Informational("the server wants the body")
    expect_no_request(connection, response, body, real, accept)


@case(
    "P.11.4",
    "RFC 9110 15.2",
    MUST,
    "Since HTTP/1.0 did not define any 1xx status codes, a server MUST NOT send a 1xx response to "
    "an HTTP/1.0 client.",
    sends="a POST of HTTP/1.0 with Expect: 100-continue, and after a moment its body",
    expects="a final response without a 100 before it, or no response",
)
def expect_in_10(test: Test) -> None:
    connection = test.connect()
    connection.send(post(test, {**OF_HELLO, **EXPECT}, b"", version="HTTP/1.0"))
    try:
        if is_silent(connection, test.seconds(0.2)):
            connection.send(HELLO)
        response = connection.read_head(connection.deadline())
    except (Ended, TimedOut):
        return
    if response.status < 200:
        raise Failed(f"a client of HTTP/1.0 got {response.status}")


@case(
    "P.11.5",
    "RFC 9110 10.1.1",
    MAY,
    "A server that receives an Expect field value containing a member other than 100-continue MAY "
    "respond with a 417 (Expectation Failed) status code to indicate that the unexpected "
    "expectation cannot be met.",
    sends="a POST with Expect: x-7f3a and a body",
    expects="417; INFORMATIONAL: another status",
)
def unknown_expectation(test: Test) -> None:
    connection = send_all(test, post(test, {**OF_HELLO, "Expect": "x-7f3a"}, HELLO))
    response = first_answer(connection)
    if response.status != 417:
        raise Informational(f"the server answers with {response.status}")


@case(
    "P.11.6",
    "RFC 9110 15.2",
    MUST,
    "The 1xx (Informational) class of status code indicates an interim response for communicating "
    "connection status or request progress prior to completing the requested action and sending a "
    "final response.",
    sends="a POST with Expect: 100-continue whose body is in the same segment, and a handshake",
    expects="a final response, perhaps after a 100, then 101 without a 100 before it; "
    "INFORMATIONAL: the connection ends; SKIPPED: the handshake is refused even after the simplest "
    "body",
)
def late_100(test: Test) -> None:
    usual_status(test)
    connection = send_all(test, post(test, {**OF_HELLO, **EXPECT}, HELLO))
    response = answer(connection)
    if "close" in tokens(response, "Connection"):
        raise Informational(f"the connection ends after {response.status}")
    read_body(connection, response)
    try:
        second = connection.read_head(connection.deadline())
    except Ended:
        raise Informational(f"the connection ends after {response.status}") from None
    if second.status != 101:
        raise Failed(f"the final response was followed by {second.status}")


# ---- P.12: malformed bodies ---------------------------------------------------------------------


def is_not_served(
    change: Change, body: bytes, method: str = "POST", version: str = "HTTP/1.1"
) -> Run:
    """Expect that the server does not find the end of the body where another parser might."""

    def run(test: Test) -> None:
        connection = send_all(test, post(test, change, body, method, version=version))
        try:
            response = connection.read_response(test.seconds(0.5))
            if response.status == 101:
                raise Failed("the request was answered with 101")
            if "close" in tokens(response, "Connection"):
                return
            read_body(connection, response)
            second = connection.read_response(test.seconds(0.3))
        except (Ended, TimedOut):
            return
        if second.status == 101:
            raise Failed("the body was read, and the handshake after it was accepted")

    return run


for number, what, lengths in (
    (1, "two Content-Length fields, 5 and 6", ["5", "6"]),
    (2, "Content-Length: 5, 6", ["5, 6"]),
    (3, "Content-Length: +5", ["+5"]),
    (4, "Content-Length: 0x5", ["0x5"]),
    (5, "Content-Length: 5x", ["5x"]),
    (6, "Content-Length: 5 5", ["5 5"]),
):
    add(
        f"P.12.{number}",
        "RFC 9112 6.3",
        MUST,
        LENGTH,
        f"a POST with {what}, a body of 5 octets, and a handshake after it",
        NOT_SERVED,
        is_not_served({"Content-Length": lengths}, HELLO),
    )
for number, length in ((7, "5"), (8, str(len(PLAIN_BODY)))):
    add(
        f"P.12.{number}",
        "RFC 9112 6.1",
        MUST,
        BOTH,
        f"a chunked POST with Content-Length: {length}, and a handshake after the chunks",
        NOT_SERVED,
        is_not_served({"Transfer-Encoding": "chunked", "Content-Length": length}, PLAIN_BODY),
    )
for number, coding, body in (
    (9, "chunked, gzip", PLAIN_BODY),
    (10, "xchunked", PLAIN_BODY),
    (11, "identity", b""),
    (12, "chunked;q=1", PLAIN_BODY),
):
    add(
        f"P.12.{number}",
        "RFC 9112 6.3",
        MUST,
        NOT_LAST,
        f"a POST with Transfer-Encoding: {coding}, {'chunks' if body else 'no body'}, and a "
        "handshake after it",
        NOT_SERVED,
        is_not_served({"Transfer-Encoding": coding}, body),
    )
add(
    "P.12.13",
    "RFC 9112 6.1",
    MUST,
    "A server or client that receives an HTTP/1.0 message containing a Transfer-Encoding header "
    "field MUST treat the message as if the framing is faulty, even if a Content-Length is "
    "present, and close the connection after processing the message.",
    "a chunked POST of HTTP/1.0 with Connection: keep-alive, and a handshake after it",
    NOT_SERVED,
    is_not_served(
        {"Transfer-Encoding": "chunked", "Connection": "keep-alive"}, PLAIN_BODY, version="HTTP/1.0"
    ),
)
CHUNKED: Change = {"Transfer-Encoding": "chunked"}
for number, what, body in (
    (14, "a bare LF in a chunk extension", b"5;a\nhello\r\n0\r\n\r\n"),
    (15, "a bare CR in a chunk extension", b"5;a\rb\r\nhello\r\n0\r\n\r\n"),
    (16, "a chunk extension with a quote that does not end", b'5;a="b\r\nhello\r\n0\r\n\r\n'),
    (17, "a chunk that ends with only LF", b"5\r\nhello\n0\r\n\r\n"),
    (18, "a trailer that ends with only LF", b"5\r\nhello\r\n0\r\nX-One: 1\n\r\n"),
    (19, "a trailer without a colon", b"5\r\nhello\r\n0\r\nX-One\r\n\r\n"),
    (20, "a trailer with a space before the colon", b"5\r\nhello\r\n0\r\nX-One : 1\r\n\r\n"),
    (21, "a last chunk that ends with only LF", b"5\r\nhello\r\n0\n\n"),
):
    add(
        f"P.12.{number}",
        "RFC 9112 2.2",
        SHOULD,
        GRAMMAR,
        f"a chunked POST with {what}, and a handshake after it",
        NOT_SERVED,
        is_not_served(CHUNKED, body),
    )
MERGED = (
    "A recipient MUST NOT merge a received trailer field into the header section unless its "
    "corresponding header field definition explicitly permits and instructs how the trailer field "
    "value can be safely merged."
)


def trailer_is_dropped(trailer: bytes) -> Run:
    """Expect that a trailer does not change where the body ends; the request may be refused."""

    def run(test: Test) -> None:
        data = post(test, CHUNKED, PLAIN_BODY)
        try:
            simplest = best(test, lambda: send_all(test, data))
        except NonStrict as error:
            raise Informational(f"for the simplest chunked body {error}") from None
        if simplest.over:
            raise Informational("the connection ends after every chunked body")
        if simplest.second != 101:
            came = simplest.second or "no answer"
            raise Skipped(f"after the simplest chunked body a handshake got {came}")
        this = best(test, lambda: send_all(test, data[:-2] + trailer + b"\r\n"))
        if this.second == 400:  # the request was answered before its end was read
            raise Informational("this trailer is refused, after the response to its request")
        judge_position(this)

    return run


for number, field in ((22, "Content-Length: 1000"), (23, "Transfer-Encoding: chunked")):
    add(
        f"P.12.{number}",
        "RFC 9112 7.1.2",
        MUST,
        MERGED,
        f"a chunked POST with {field} as a trailer, and a handshake after it",
        f"{SERVED}, or this trailer is refused",
        trailer_is_dropped(field.encode() + b"\r\n"),
    )


@case(
    "P.12.24",
    "RFC 9112 7.1.2",
    MUST,
    MERGED,
    sends="a chunked GET whose trailers are the fields of a handshake",
    expects="any response except 101",
)
def handshake_in_trailers(test: Test) -> None:
    fields = handshake(test, {"Host": None}).partition(b"\r\n")[2]
    connection = test.connect()
    connection.send(post(test, CHUNKED, b"0\r\n" + fields, "GET"))
    if first_answer(connection).status == 101:
        raise Failed("trailers have become a handshake")


@case(
    "P.12.25",
    "RFC 9112 7.1.1",
    MAY,
    "A server ought to limit the total length of chunk extensions received in a request to an "
    "amount reasonable for the services provided",
    sends="a chunked POST with 256 KiB of chunk extensions, and a handshake after it",
    expects="an error, or the end of the connection; INFORMATIONAL: the handshake is served",
)
def long_extensions(test: Test) -> None:
    body = b"5;a=" + b"x" * (1 << 18) + b"\r\nhello\r\n0\r\n\r\n"
    try:
        is_not_served(CHUNKED, body)(test)
    except Failed:
        raise Informational("extensions of 256 KiB are accepted") from None
