# SPDX-License-Identifier: MIT
"""HTTP hygiene (RFC 9110, RFC 9112), the second part of group P: P.7 data after a request, P.8
responses, P.9 chunked bodies. See http_bodies.py; other bodies are in bodies.py.
"""

from __future__ import annotations

import time
from typing import NamedTuple

from .. import wire
from ..case import MAY, MUST, SHOULD, Run, Test, add, case
from ..verdicts import Failed, Informational, Late, NonStrict, Skipped
from ..wire import Connection, Ended, Response, TimedOut
from .heads import (
    ACCEPT,
    Change,
    Make,
    answer,
    ask,
    ask_any,
    changed,
    expect_error,
    expect_one_answer,
    handshake,
    is_silent,
    plain,
    read_body,
    swapped,
    tokens,
    whole_body,
)
from .http_bodies import BODY, LENGTH
from .http_heads import GRAMMAR, NO_UPGRADE

# ---- P.7: data after a request ------------------------------------------------------------------

AFTER_CLOSE = (
    'A server that sends a "close" connection option MUST initiate closure of the connection (see '
    'below) after it sends the response containing the "close" connection option. The server '
    "MUST NOT process any further requests received on that connection."
)


@case(
    "P.7.1",
    "RFC 9112 6.3",
    MUST,
    LENGTH,
    sends="a handshake with two different Content-Length, and a valid one in the same segment",
    expects="one error response, then the end of the connection",
)
def behind_bad_framing(test: Test) -> None:
    bad = handshake(test, {"Content-Length": ["0", "7"]})
    connection, response = ask(test, bad + handshake(test))
    if response.status == 101:
        raise Skipped("the first handshake was accepted, see P.1.13")
    expect_one_answer(test, connection, response, ends=True)
    expect_error(response, 400)


def only_if_open(test: Test, first: bytes, second: bytes) -> None:
    """Expect an answer to a second request only if the first response keeps the connection."""
    try:
        connection, response = ask(test, first + second)
    except Late as error:
        raise Skipped(str(error)) from None
    if response.status == 101:
        raise Skipped("the first handshake, which is invalid, was accepted")
    if "close" in tokens(response, "Connection"):
        return expect_one_answer(test, connection, response)
    read_body(connection, response)
    try:
        later = answer(connection)
    except NonStrict:
        return
    except Failed as error:
        raise Informational(
            f"the connection was kept open; for the second request {error}"
        ) from None
    raise Informational(f"the connection was kept open, and the second request got {later.status}")


for number, what, change in (
    (2, "without a key", {"Sec-WebSocket-Key": None}),
    (3, "with version 99", {"Sec-WebSocket-Version": "99"}),
    (4, "with a space before a colon", {"X-Name ": "x"}),
):

    def refused_first(test: Test, change: Change = change) -> None:
        only_if_open(test, handshake(test, change), handshake(test))

    add(
        f"P.7.{number}",
        "RFC 9112 9.6",
        MUST,
        AFTER_CLOSE,
        f"a handshake {what}, and a valid one in the same segment",
        "an error with Connection: close, and nothing after it; INFORMATIONAL: the connection is "
        "kept open; SKIPPED: the first one is accepted",
        refused_first,
    )


@case(
    "P.7.5",
    "RFC 6455 4.2.2",
    MUST,
    "the server MUST abort the WebSocket handshake described in this section",
    sends="a handshake with version 99, and a frame in the same segment",
    expects="an error status, and no frame after it; SKIPPED: 101",
)
def frame_behind_refusal(test: Test) -> None:
    data = handshake(test, {"Sec-WebSocket-Version": "99"}) + wire.frame(b"smuggled")
    connection, response = ask(test, data)
    if response.status == 101:
        raise Skipped("the handshake, which is invalid, was accepted")
    read_body(connection, response)
    is_silent(connection, test.seconds(0.2))
    if connection.buffer and not connection.buffer.startswith(b"HTTP/1."):
        raise Failed(f"received {wire.shown(bytes(connection.buffer))} after the response")


FRAMES = "Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2."


def as_one_frame(request: bytes) -> bytes:
    """Return a request with enough content to complete the frame that its first octets begin.

    Its first octet has reserved bits, and the second one is a length below 126 without a mask.
    """
    return request.ljust(2 + request[1], b"x")


for number, method in ((6, "GET"), (7, "POST")):

    def request_behind_101(test: Test, method: str = method) -> None:
        early = as_one_frame(plain(test, method=method))
        connection, response = ask(test, handshake(test) + early)
        if response.status != 101:
            raise NonStrict(f"the handshake was refused with {response.status}")
        session = test.session(connection, response)
        if not session.comes():
            raise NonStrict("the data sent together with the handshake is dropped")
        if connection.buffer.startswith(b"HTTP/"):
            raise Failed("the data after the handshake was answered as a request")
        session.expect_failure(1002)

    add(
        f"P.7.{number}",
        "RFC 6455 6.2",
        MUST,
        FRAMES,
        f"a handshake and a {method} in the same segment, although a client has to wait",
        "101, then the connection is failed with 1002, because that is neither a frame nor a "
        "request; NON-STRICT: it is dropped, or everything is refused",
        request_behind_101,
    )


@case(
    "P.7.8",
    "RFC 9112 9.3.2",
    MUST,
    "it MUST send the corresponding responses in the same order that the requests were received.",
    sends="a plain GET and a handshake in the same segment",
    expects="the answer to the GET, then 101, or the end of the connection; INFORMATIONAL: another "
    "answer",
)
def handshake_behind_get(test: Test) -> None:
    connection, response = ask(test, plain(test) + handshake(test))
    if response.status == 101:
        raise Failed("the second request was answered first")
    if "close" in tokens(response, "Connection"):
        return expect_one_answer(test, connection, response)
    read_body(connection, response)
    try:
        second = answer(connection)
    except NonStrict:
        return
    if second.status != 101:
        raise Informational(f"the handshake after it is answered with {second.status}")


def body_is_no_request(make: Make) -> Run:
    """Send a request whose body is a whole handshake, which must never be answered."""

    def run(test: Test) -> None:
        try:
            connection, response = ask_any(test, make(test))
        except Late as error:  # there is no response
            raise NonStrict(str(error)) from None
        if response.get("Sec-WebSocket-Accept") == ACCEPT:
            raise Failed("the handshake in the body was accepted")
        if response.status == 101:
            raise Skipped("a handshake with a body was accepted, see P.2 and H.1")
        read_body(connection, response)
        is_silent(connection, test.seconds(0.2))
        if connection.buffer.startswith(b"HTTP/"):
            raise Failed("the body was answered as a request")

    return run


def with_body(test: Test, method: str, upgrade: bool, chunked: bool) -> bytes:
    """Return a request whose body is a whole handshake."""
    body = handshake(test)
    framing: Change = {"Content-Length": str(len(body))}
    if chunked:
        framing = {"Transfer-Encoding": "chunked"}
        body = b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)
    if upgrade:
        key = wire.random_key(test.random)
        return handshake(test, {**framing, "Sec-WebSocket-Key": key}, method=method) + body
    return plain(test, framing, method=method) + body


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
        f"{what}, whose body is a whole handshake",
        "one response, and none for the body",
        body_is_no_request(hidden),
    )

# ---- P.8: responses -----------------------------------------------------------------------------


def without_key(test: Test) -> tuple[Connection, Response]:
    """Return the response to a handshake that servers refuse, or raise Skipped."""
    connection, response = ask(test, handshake(test, {"Sec-WebSocket-Key": None}))
    if response.status == 101:
        raise Skipped("a handshake without a key was accepted, see H.6.1")
    return connection, response


@case(
    "P.8.1",
    "RFC 9112 9.3",
    MUST,
    "In order to remain persistent, all messages on a connection need to have a self-defined "
    "message length (i.e., one not defined by closure of the connection), as described in Section "
    "6.",
    sends="a handshake without a key",
    expects="a complete response: with Content-Length, chunked, or until the end of the connection",
)
def framed(test: Test) -> None:
    connection, response = without_key(test)
    if len(set(response.all("Content-Length"))) > 1:
        raise Failed("the response has several Content-Length fields")
    if response.get("Content-Length") is not None and response.get("Transfer-Encoding"):
        raise Failed("the response has both Content-Length and Transfer-Encoding")
    whole_body(connection, response)


@case(
    "P.8.2",
    "RFC 9110 9.3.2",
    MUST,
    "The HEAD method is identical to GET except that the server MUST NOT send content in the "
    "response.",
    sends="a plain HEAD",
    expects="a response head, and nothing after it",
)
def head(test: Test) -> None:
    connection, _ = ask_any(test, plain(test, method="HEAD"))
    is_silent(connection, test.seconds(0.1))
    if connection.buffer:
        raise Failed(f"received {wire.shown(bytes(connection.buffer))} after the head")


@case(
    "P.8.3",
    "RFC 9110 6.6.1",
    SHOULD,
    "An origin server with a clock (as defined in Section 5.6.7) MUST generate a Date header field "
    "in all 2xx (Successful), 3xx (Redirection), and 4xx (Client Error) responses",
    sends="a handshake without a key",
    expects="one Date such as Sun, 06 Nov 1994 08:49:37 GMT, except from a server without a clock",
)
def date(test: Test) -> None:
    response = without_key(test)[1]
    if response.status >= 500:
        raise Informational(f"a response with {response.status} does not need a Date")
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
    connection, response = ask(test, plain(test, {"Connection": "close"}) + handshake(test))
    expect_one_answer(test, connection, response, ends=True)


@case(
    "P.8.5",
    "RFC 9112 9.3",
    SHOULD,
    "The connection will close after the current response.",
    sends="a plain GET of HTTP/1.0",
    expects="one response, then the end of the connection",
)
def old_client(test: Test) -> None:
    connection, response = ask(test, plain(test, version="HTTP/1.0"))
    expect_one_answer(test, connection, response, ends=True)


@case(
    "P.8.6",
    "RFC 9112 9.6",
    MAY,
    "To avoid the TCP reset problem, servers typically close a connection in stages.",
    sends="a malformed request and 256 KiB more, before anything is read",
    expects="the error response; NON-STRICT: the end of TCP without one; a reset is also OK, as it "
    "may destroy a response by chance",
)
def error_is_readable(test: Test) -> None:
    connection = test.connect()
    try:
        connection.send(swapped(b"Host:", b"Host :")(test))
        connection.send(b"x" * (1 << 18), pieces=4096)
    except (Ended, TimedOut):
        pass
    try:
        response = connection.read_response()
    except Ended as error:
        if not error.reset:
            raise NonStrict("the connection was closed without a response") from None
        return
    expect_error(response)


@case(
    "P.8.7",
    "RFC 9110 7.8",
    MUST,
    'If a server receives both an Upgrade and an Expect header field with the "100-continue" '
    "expectation (Section 10.1.1), the server MUST send a 100 (Continue) response before sending a "
    "101 (Switching Protocols) response.",
    sends="a handshake with Expect: 100-continue and no content, then a message",
    expects="101 and the echo; a 100 only before the 101, but it may be omitted as there is no "
    "content (RFC 9110 10.1.1); INFORMATIONAL: an error status, as clients must not send that",
)
def expect_continue(test: Test) -> None:
    connection, response = ask(test, handshake(test, {"Expect": "100-continue"}))
    if response.status != 101:
        raise Informational(f"the server refuses Expect with {response.status}")
    session = test.session(connection, response)
    session.send(session.message(b"continued"))
    session.expect_message(b"continued")
    session.close()


INJECTED = "%0d%0aX-Injected:%20yes%0d%0a%0d%0a"
for number, what, without, resource in (
    (8, "in the path", False, f"/{INJECTED}"),
    (9, "in the query", False, f"/?{INJECTED}"),
    (10, "in the path of a plain request", True, f"/{INJECTED}"),
):

    def injected(test: Test, without: bool = without, resource: str = resource) -> None:
        make = changed(NO_UPGRADE if without else {}, resource=resource)
        if ask_any(test, make(test))[1].get("X-Injected") is not None:
            raise Failed("the client's data has become a header field of the response")

    add(
        f"P.8.{number}",
        "RFC 9110 2.2",
        MUST,
        "A sender MUST NOT generate protocol elements that do not match the grammar defined by the "
        "corresponding ABNF rules.",
        f"a request with percent-encoded CR and LF {what}",
        "a response without a field made up by the client",
        injected,
    )


@case(
    "P.8.11",
    "RFC 9110 6.2",
    SHOULD,
    "A server SHOULD send a response version equal to the highest version to which the server is "
    "conformant that has a major version less than or equal to the one received in the request.",
    sends="a handshake without a key",
    expects="a status line with HTTP/1.1, and Connection: close",
)
def error_line(test: Test) -> None:
    response = without_key(test)[1]
    first = response.head.split(b"\r\n")[0]
    if not first.startswith(b"HTTP/1.1 ") or first[12:13] != b" ":
        raise Failed(f"the status line is {wire.shown(first)}")
    if "close" not in tokens(response, "Connection"):
        raise Informational("the connection is kept open after a refused handshake")


@case(
    "P.8.12",
    "RFC 9112 3.2.4",
    MAY,
    'the client MUST send only "*" (%x2A) as the request-target',
    sends="OPTIONS * HTTP/1.1",
    expects="a complete response",
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
    "the same response as for the simplest chunked body, and 101 for the handshake after it; "
    "INFORMATIONAL: the connection ends; SKIPPED: the handshake is refused even after the "
    "simplest one"
)
NOT_SERVED = "an error, or the end of the connection: the handshake after it is not served"


def post_chunks(test: Test, body: bytes, pause: float = 0.0) -> Connection:
    """Send a POST with this body, pausing before each of its octets, and a handshake."""
    connection = test.connect()
    head = plain(test, {"Transfer-Encoding": "chunked"}, method="POST")
    try:
        if pause:
            connection.send(head)
            time.sleep(pause)
            connection.send(body, 1, pause)
            connection.send(handshake(test))
        else:
            connection.send(head + body + handshake(test))
    except Ended:
        pass  # the server may have answered before
    return connection


class Behind(NamedTuple):
    """The answers to a POST with a body and to the handshake after it."""

    status: int
    """Status of the POST."""
    second: int | None
    """Status of the handshake; None if there was no answer in time or the connection ended."""
    over: bool
    """Whether the connection ended, as a server may do after a body (RFC 9112 section 9.3)."""


def behind_chunks(
    test: Test, connection: Connection, seconds: float, method: str = "POST"
) -> Behind:
    """Read both answers, the second one within that time, or raise Failed, NonStrict or Skipped."""
    second, over = None, False
    try:
        response = answer(connection)
        if response.status == 101:
            raise Failed("the POST itself was answered with 101")
        if "close" in tokens(response, "Connection"):
            expect_one_answer(test, connection, response, method=method)
            return Behind(response.status, None, over=True)
        read_body(connection, response, method)
        second = connection.read_response(seconds).status
    except Ended:
        over = True
    except TimedOut:
        pass
    finally:
        connection.close()  # some servers serve one at a time
    return Behind(response.status, second, over)


def best_behind(test: Test, body: bytes, pause: float = 0.0) -> Behind:
    """Return the best of three tries.

    A server may answer a POST early, and end the connection if the body has not arrived by then.
    """
    for _ in range(3):
        came = behind_chunks(test, post_chunks(test, body, pause), test.timeout)
        if not came.over:
            break
    return came


def chunks_are_read(body: bytes, pause: float = 0.0) -> Run:
    """Expect the same behavior as for the simplest chunked body."""

    def run(test: Test) -> None:
        simplest = best_behind(test, PLAIN_BODY)
        if simplest.over:
            raise Informational("the connection ends after every chunked body")
        if simplest.second != 101:
            came = simplest.second or "no answer"
            raise Skipped(f"after the simplest chunked body a handshake got {came}")
        this = best_behind(test, body, test.seconds(pause))
        if this.status != simplest.status:
            raise Failed(f"this body got {this.status}, the simplest one {simplest.status}")
        if this.over:
            raise Informational("the connection ends after this body")
        if this.second != 101:
            raise Failed(f"a handshake after this body got {this.second or 'no answer'}")

    return run


def chunks_are_refused(body: bytes, large: bool = False) -> Run:
    """Expect that the server does not find the end of the body where another parser might.

    `large` means that the server may wait for more of the body.
    """

    def run(test: Test) -> None:
        connection = post_chunks(test, body)
        if large and is_silent(connection, test.seconds(0.5)):
            return
        if behind_chunks(test, connection, test.seconds(0.3)).second == 101:
            raise Failed("the body was read, and the handshake after it was accepted")

    return run


for number, quote, section, what, body, pause in (
    (1, DECODE, "7.1", "of two chunks", b"5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", 0.0),
    (2, DECODE, "7.1", "whose size has leading zeros and uppercase digits",
     b"00A\r\n0123456789\r\n000\r\n\r\n", 0.0),
    (3, EXTENSIONS, "7.1.1", "with chunk extensions",
     b'5;name=value;flag;quoted="a \\" ; b"\r\nhello\r\n0;last\r\n\r\n', 0.0),
    (4, DECODE, "7.1", "with trailers",
     b"5\r\nhello\r\n0\r\nX-One: 1\r\nX-Two: 2\r\n\r\n", 0.0),
    (5, DECODE, "7.1", "that is sent slowly octet by octet", PLAIN_BODY, 0.01),
):  # fmt: skip
    add(
        f"P.9.{number}",
        f"RFC 9112 {section}",
        MUST,
        quote,
        f"a chunked POST with a body {what}, and a handshake after it",
        SERVED,
        chunks_are_read(body, pause),
    )
for number, power in ((11, 32), (12, 64)):
    add(
        f"P.9.{number}",
        "RFC 9112 7.1",
        MUST,
        LARGE_SIZES,
        f"a chunked POST whose chunk has the size 2**{power} + 5 but only 5 octets, and a "
        "handshake after it",
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
    (20, "whose size ends with only LF", b"5\nhello\r\n0\r\n\r\n"),
):
    add(
        f"P.9.{number}",
        "RFC 9112 2.2",
        SHOULD,
        GRAMMAR,
        f"a chunked POST with a chunk {what}, and a handshake after it",
        NOT_SERVED,
        chunks_are_refused(body),
    )
