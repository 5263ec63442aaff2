# SPDX-License-Identifier: MIT
"""The response head for the opening handshake of a client: forms of a valid one that a client has
to accept (C.2), frames together with it (C.3), the status line (C.4), the fields of RFC 6455
section 4.1 (C.5), and responses that are malformed or incomplete HTTP (C.8).

If the RFC leaves open whether a client accepts a response, the case is INFORMATIONAL.
"""

from __future__ import annotations

import base64
import hashlib
import re
import time
from typing import Callable

from .. import wire
from ..case import MUST, SHOULD, Run, Test, add, case
from ..listen import ClientTest
from ..session import Session
from ..verdicts import Failed, Informational, NonStrict
from ..wire import CLOSE, CONTINUATION, PING, Ended, Garbled, TimedOut
from .client import OPENING
from .client_answers import (
    ACCEPT,
    CONFORM,
    EMPTY,
    ESTABLISHED,
    FRAMES,
    HELLO,
    OPEN,
    REFUSED,
    TAKEN,
    Change,
    Make,
    behind,
    head,
    in_parts,
    not_opened,
    open_question,
    plain,
    put,
    ready,
    refused,
    swapped,
    taken,
    taken_or,
    what_came,
    with_line,
)
from .steps import expect_pong_and_echo, text

# ---- C.2: forms of a valid response -------------------------------------------------------------

ANY_CASE = "all header field names in both HTTP requests and HTTP responses are case-insensitive."
IGNORED_SPACE = (
    "a field parsing implementation MUST exclude such whitespace prior to evaluating the field "
    "value."
)
REASON = "A client SHOULD ignore the reason-phrase content"
UNKNOWN = "Other recipients SHOULD ignore unrecognized header and trailer fields."
TOKEN_CASE = (
    "the |Connection| header field doesn't contain a token that is an ASCII case-insensitive match"
    ' for the value "Upgrade"'
)
UPGRADE_CASE = (
    'contains a value that is not an ASCII case-insensitive match for the value "websocket"'
)
COMBINED = (
    "When a field name is repeated within a section, its combined field value consists of the list "
    "of corresponding field line values within that section"
)
OCTETS = (
    "A recipient MUST parse an HTTP message as a sequence of octets in an encoding that is a "
    "superset of US-ASCII"
)
HIGHER_MINOR = (
    "A recipient that receives a message with a major version number that it implements and a "
    "minor version number higher than what it implements SHOULD process the message as if it were "
    "in the highest minor version within that major version to which the recipient is conformant."
)
OBS_TEXT = (
    "A recipient SHOULD treat other allowed octets in field content (i.e., obs-text) as opaque "
    "data."
)
OTHERS: Change = {
    "Server": "conformance",
    "Date": "Sun, 06 Nov 1994 08:49:37 GMT",
    "Set-Cookie": "a=b",
    "Sec-WebSocket-Version": "13",
    "X-Unknown": "",
}


def rewritten(change: Callable[[bytes], bytes]) -> Make:
    """Return a response whose field lines are changed."""

    def make(test: ClientTest) -> bytes:
        first, *fields = head()(test)[:-4].split(b"\r\n")
        return b"\r\n".join([first, *map(change, fields)]) + b"\r\n\r\n"

    return make


def reordered(test: ClientTest) -> bytes:
    """Return a response with the fields in reverse order."""
    first, *fields = head()(test)[:-4].split(b"\r\n")
    return b"\r\n".join([first, *fields[::-1]]) + b"\r\n\r\n"


def lower(line: bytes) -> bytes:
    """Convert the name of a field to lowercase."""
    name, colon, value = line.partition(b":")
    return name.lower() + colon + value


def upper(line: bytes) -> bytes:
    name, colon, value = line.partition(b":")
    return name.upper() + colon + value


for number, level, section, quote, sends, make in (
    (1, MUST, OPENING, ESTABLISHED, "a valid response", head()),
    (2, MUST, OPENING, ESTABLISHED, "a valid response with its fields in reverse order", reordered),
    (3, MUST, OPENING, ANY_CASE, "all field names in lowercase", rewritten(lower)),
    (4, MUST, OPENING, ANY_CASE, "all field names in uppercase", rewritten(upper)),
    (5, MUST, OPENING, UPGRADE_CASE, "Upgrade: WebSocket", head({"Upgrade": "WebSocket"})),
    (6, MUST, OPENING, UPGRADE_CASE, "Upgrade: WEBSOCKET", head({"Upgrade": "WEBSOCKET"})),
    (7, MUST, OPENING, TOKEN_CASE, "Connection: upgrade", head({"Connection": "upgrade"})),
    (12, MUST, OPENING, "ignoring any leading and trailing whitespace",
     "spaces and tabs around the Accept value", head({ACCEPT: lambda value: f" \t {value} \t "})),
    (13, MUST, "RFC 9110 5.5", IGNORED_SPACE, "no spaces after the colons",
     rewritten(lambda line: line.replace(b": ", b":"))),
    (14, MUST, "RFC 9110 5.5", IGNORED_SPACE, "spaces and tabs after all values",
     rewritten(lambda line: line + b" \t")),
    (15, SHOULD, "RFC 9112 4", REASON, "a status line without a reason",
     head(line="HTTP/1.1 101 ")),
    (16, SHOULD, "RFC 9112 4", REASON, "the reason 404 OK", head(line="HTTP/1.1 101 404 OK")),
    (17, SHOULD, "RFC 9112 4", REASON, "a reason with non-ASCII letters",
     head(line="HTTP/1.1 101 \xdcbergang")),
    (18, SHOULD, "RFC 9110 5.1", UNKNOWN, "many more fields", head(OTHERS)),
    (19, SHOULD, "RFC 9110 5.5", OBS_TEXT, "a field with non-ASCII letters",
     head({"X-Name": "J\xfcrgen"})),
    (20, SHOULD, "RFC 9110 6.2", HIGHER_MINOR, "HTTP/1.2",
     head(line="HTTP/1.2 101 Switching Protocols")),
):  # fmt: skip
    put(f"C.2.{number}", quote, sends, taken(make), TAKEN, level, section)
for number, section, quote, given in (
    (8, OPENING, TOKEN_CASE, "keep-alive, Upgrade"),
    (9, OPENING, TOKEN_CASE, "Upgrade,keep-alive"),
    (10, "RFC 9110 5.2", COMBINED, ["keep-alive", "Upgrade"]),
    (11, "RFC 9110 5.6.1.2", EMPTY, ", Upgrade ,"),
):
    # RFC 6455 section 4.2.2 requires only "Upgrade" from a server, so this is only NON-STRICT.
    told = (
        f"Connection: {given}"
        if isinstance(given, str)
        else "two Connection fields, which form a list"
    )
    put(
        f"C.2.{number}", quote, told, taken_or(NonStrict, head({"Connection": given})), TAKEN,
        section=section,
    )  # fmt: skip
for number, sends, parts, pause in (
    (21, "octet by octet", lambda data: [data[i : i + 1] for i in range(len(data))], 0.002),
    (22, "line by line", lambda data: data.splitlines(keepends=True), 0.02),
    (23, "line by line, each LF in the write of the next line",
     lambda data: re.split(rb"(?=\n)", data), 0.02),
    (24, "in two halves with a pause", lambda data: [data[:60], data[60:]], 0.5),
    (25, "in one write except for its last octet", lambda data: [data[:-1], data[-1:]], 0.1),
):  # fmt: skip
    put(
        f"C.2.{number}", OCTETS, f"a valid response {sends}", in_parts(parts, pause), TAKEN,
        section="RFC 9112 2.2",
    )  # fmt: skip
LARGE = (
    "A client MAY discard or truncate received field lines that are larger than the client wishes "
    "to process"
)
for number, sends, make in (
    (31, "a field of 4 KiB", head({"X-Large": "x" * 4096})),
    (32, "a field of 16 KiB", head({"X-Large": "x" * 16384})),
    (33, "a field of 64 KiB", head({"X-Large": "x" * 65536})),
    (34, "100 more fields", head({f"X-Field-{i}": "x" for i in range(100)})),
    (35, "1000 more fields", head({f"X-Field-{i}": "x" for i in range(1000)})),
    (36, "16 fields of 64 KiB", head({f"X-Field-{i}": "x" * 65536 for i in range(16)})),
):
    open_question(f"C.2.{number}", "RFC 9110 5.4", LARGE, f"a response with {sends}", make)

# ---- C.3: frames together with the response -----------------------------------------------------

AT_ONCE = "in the segment of the response"


def expect_echoes(count: int) -> Callable[[Session], None]:
    def check(session: Session) -> None:
        for _ in range(count):
            session.expect_message(HELLO)
        session.close()

    return check


def expect_large(session: Session) -> None:
    session.expect_large(text(65536))
    session.close()


def expect_pong(session: Session) -> None:
    session.expect_pong(b"here?")
    session.close()


def expect_pong_between(session: Session) -> None:
    expect_pong_and_echo(session, b"here?", HELLO)
    session.close()


def expect_closed(session: Session) -> None:
    session.expect_close(1000)


def expect_failed(session: Session) -> None:
    session.expect_failure(1002)


def with_answer(frames: bytes, check: Callable[[Session], None]) -> Run:
    return lambda test: check(ready(test).accept(ahead=frames))


for number, sends, frames, expects, check in (
    (1, "a message", plain(HELLO), "its echo", expect_echoes(1)),
    (2, "a Ping", plain(b"here?", PING), "a Pong", expect_pong),
    (3, "100 messages", plain(HELLO) * 100, "their echoes", expect_echoes(100)),
    (4, "a message in two frames with a Ping between them",
     plain(HELLO[:4], fin=False) + plain(b"here?", PING) + plain(HELLO[4:], CONTINUATION),
     "a Pong and the echo", expect_pong_between),
    (5, "a message of 64 KiB", plain(text(65536)), "its echo", expect_large),
    (6, "a Close", plain(wire.close_payload(1000), CLOSE), "a Close with the same code",
     expect_closed),
    (7, "a frame with a reserved bit", plain(HELLO, rsv=2), "the connection is failed with 1002",
     expect_failed),
):  # fmt: skip
    add(
        f"C.3.{number}", "RFC 6455 6.2", MUST, FRAMES, f"{sends} {AT_ONCE}", expects,
        with_answer(frames, check), ["client"],
    )  # fmt: skip


@case(
    "C.3.8",
    "RFC 6455 6.2",
    MUST,
    FRAMES,
    sends="a message whose first octet is in the segment of the response",
    expects="its echo",
    tags=["client"],
)
def first_octet(test: Test) -> None:
    frame = plain(HELLO)
    session = ready(test).accept(ahead=frame[:1])
    time.sleep(test.seconds(0.2))
    session.send(frame[1:])
    session.expect_message(HELLO)
    session.close()


# ---- C.4: the status line -----------------------------------------------------------------------

STATUS = (
    "The client MUST validate the server's response as follows: 1.  If the status code received "
    "from the server is not 101, the client handles the response per HTTP [RFC2616] procedures."
)
NO_CONNECTION = "the client echoes nothing: it may end TCP, follow a redirect, or ask again"
INTERIM = (
    "A client MUST be able to parse one or more 1xx responses received prior to a final response, "
    "even if the client does not expect one."
)
EMPTY_BODY: Change = {"Content-Length": "0"}


def redirect(test: ClientTest) -> bytes:
    """Return a location where a client only gets an answer."""
    change: Change = {"Location": f"/getCaseInfo?case={test.case.id}", **EMPTY_BODY}
    return head(change, "HTTP/1.1 302 Found")(test)


for number, status, change in (
    (1, "200 OK", EMPTY_BODY),
    (2, "404 Not Found", EMPTY_BODY),
    (3, "400 Bad Request", EMPTY_BODY),
    (4, "401 Unauthorized", {"WWW-Authenticate": 'Basic realm="conformance"', **EMPTY_BODY}),
    (5, "426 Upgrade Required", EMPTY_BODY),
    (6, "500 Internal Server Error", EMPTY_BODY),
    (7, "204 No Content", {}),
    (8, "100 Continue", {}),
    (9, "102 Processing", {}),
    (10, "1010 Switching Protocols", {}),
    (11, "10 Switching Protocols", {}),
    (12, "201 Switching Protocols", EMPTY_BODY),
):
    put(
        f"C.4.{number}", STATUS, f"{status}, otherwise a valid response",
        not_opened(head(change, f"HTTP/1.1 {status}")), NO_CONNECTION,
    )  # fmt: skip
put(
    "C.4.13", STATUS, "302 Found with a Location, otherwise a valid response",
    not_opened(redirect), NO_CONNECTION,
)  # fmt: skip
for number, sends, line in (
    (16, "HTTP 101", "HTTP 101 Switching Protocols"),
    (17, "ICY 101", "ICY 101 Switching Protocols"),
    (18, "a status line without a version", "101 Switching Protocols"),
    (19, "a status line without a status", "HTTP/1.1 Switching Protocols"),
    (20, "HTTP/1.1 101x", "HTTP/1.1 101x Switching Protocols"),
    (21, "HTTP/1.1101", "HTTP/1.1101 Switching Protocols"),
    (22, "HTTP/1.1 +101", "HTTP/1.1 +101 Switching Protocols"),
):
    put(f"C.4.{number}", CONFORM, f"{sends}, otherwise a valid response",
        refused(head(line=line)))  # fmt: skip
STATUS_LINE = (
    "A Status-Line with a 101 response code as per RFC 2616 [RFC2616].  Such a response could look "
    'like "HTTP/1.1 101 Switching Protocols".'
)
for number, version in ((14, "HTTP/2.0"), (15, "HTTP/0.9"), (23, "HTTP/1.0")):
    # Only this example says which HTTP version a 101 has.
    put(
        f"C.4.{number}",
        STATUS_LINE,
        f"{version} 101, otherwise a valid response",
        refused(head(line=f"{version} 101 Switching Protocols")),
        f"{REFUSED}; {version} has no 101",
        SHOULD,
        "RFC 6455 4.2.2",
    )
LENIENT = "recipients MAY instead parse on whitespace-delimited word boundaries"
for number, sends, section, quote, make in (
    (24, "no space after 101", "RFC 9112 4", LENIENT, head(line="HTTP/1.1 101")),
    (25, "two spaces before 101", "RFC 9112 4", LENIENT, head(line="HTTP/1.1  101 Switching")),
    (26, "http/1.1 101", "RFC 9112 2.3", "HTTP-version is case-sensitive.",
     head(line="http/1.1 101 Switching Protocols")),
    (27, "an empty line before the response", "RFC 9112 2.1", "An HTTP/1.1 message consists of a "
     "start-line followed by a CRLF", behind(b"\r\n")),
    (28, "lines that end with only LF", "RFC 9112 2.2", "a recipient MAY recognize a single LF as "
     "a line terminator and ignore any preceding CR.", swapped(b"\r\n", b"\n")),
):  # fmt: skip
    open_question(f"C.4.{number}", section, quote, f"a response with {sends}", make)
CONTINUE, HINTS = (
    b"HTTP/1.1 100 Continue\r\n\r\n",
    b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n",
)
for number, sends, before in (
    (31, "100", CONTINUE),
    (32, "103", HINTS),
    (33, "102, 103 and 103", b"HTTP/1.1 102 Processing\r\n\r\n" + HINTS + HINTS),
):
    # Arguably a 101 is not a final response, so a client that gives up is NON-STRICT.
    put(
        f"C.4.{number}", INTERIM, f"{sends} before a valid response",
        taken_or(NonStrict, behind(before)), TAKEN, section="RFC 9110 15.2",
    )  # fmt: skip

# ---- C.5: Upgrade, Connection, Sec-WebSocket-Accept ---------------------------------------------

LACKS_UPGRADE = (
    "If the response lacks an |Upgrade| header field or the |Upgrade| header field contains a value"
    ' that is not an ASCII case-insensitive match for the value "websocket", the client MUST _Fail '
    "the WebSocket Connection_."
)
LACKS_CONNECTION = (
    "If the response lacks a |Connection| header field or the |Connection| header field doesn't "
    'contain a token that is an ASCII case-insensitive match for the value "Upgrade", the client '
    "MUST _Fail the WebSocket Connection_."
)
LACKS_ACCEPT = (
    "If the response lacks a |Sec-WebSocket-Accept| header field or the |Sec-WebSocket-Accept| "
    "contains a value other than the base64-encoded SHA-1 of the concatenation of the "
    "|Sec-WebSocket-Key| (as a string, not base64-decoded) with the string "
    '"258EAFA5-E914-47DA-95CA-C5AB0DC85B11" but ignoring any leading and trailing whitespace, the '
    "client MUST _Fail the WebSocket Connection_."
)
for number, value in enumerate(
    (
        None,
        "",
        "h2c",
        "websockets",
        "x-websocket",
        "web socket",
        '"websocket"',
        "websocket/13",
        "websocket, h2c",
        "websoc\u212aet".encode().decode("latin-1"),  # KELVIN SIGN, whose lowercase is k
        "web\u017focket".encode().decode(
            "latin-1"
        ),  # LATIN SMALL LETTER LONG S, whose uppercase is S
    ),
    1,
):
    sends = "a response without Upgrade" if value is None else f"Upgrade: {value}"
    put(f"C.5.{number}", LACKS_UPGRADE, sends, refused(head({"Upgrade": value})))
for number, value in enumerate(
    (None, "", "keep-alive", "close", "Upgraded", "no-upgrade", "keep-alive Upgrade", '"Upgrade"'),
    21,
):
    sends = "a response without Connection" if value is None else f"Connection: {value}"
    put(f"C.5.{number}", LACKS_CONNECTION, sends, refused(head({"Connection": value})))


def digest(data: str) -> str:
    """Hash like Sec-WebSocket-Accept, but without the GUID."""
    return base64.b64encode(hashlib.sha1(data.encode("latin-1")).digest()).decode()


def with_accept(made: Callable[[str], str | None]) -> Make:
    """Return a response whose Sec-WebSocket-Accept is made from the key."""
    return lambda test: head({ACCEPT: made(test.asked.key)})(test)


def of_decoded(key: str) -> str:
    """Decode the key before hashing it."""
    try:
        decoded = base64.b64decode(key)
    except ValueError:
        decoded = b""
    return base64.b64encode(hashlib.sha1(decoded + wire.GUID).digest()).decode()


def of_other_hash(key: str) -> str:
    return base64.b64encode(hashlib.sha256(key.encode("latin-1") + wire.GUID).digest()).decode()


def hexadecimal(key: str) -> str:
    return hashlib.sha1(key.encode("latin-1") + wire.GUID).hexdigest()


GUID = wire.GUID.decode()
OTHER_KEY = "Y29uZm9ybWFuY2Uta2V5IQ=="
for number, sends, make in (
    (41, "a response without Sec-WebSocket-Accept", with_accept(lambda key: None)),
    (42, "an empty value", with_accept(lambda key: "")),
    (43, "the value for another key", with_accept(lambda key: wire.accept_value(OTHER_KEY))),
    (44, "the key", with_accept(lambda key: key)),
    (45, "a value made without the GUID", with_accept(digest)),
    (46, "a value made from the decoded key", with_accept(of_decoded)),
    (47, "a value made with the GUID in lowercase",
     with_accept(lambda key: digest(key + GUID.lower()))),
    (48, "a value made with the GUID before the key", with_accept(lambda key: digest(GUID + key))),
    (49, "a value made with SHA-256", with_accept(of_other_hash)),
    (50, "a value in hexadecimal digits", with_accept(hexadecimal)),
    (51, "the correct value with upper and lower case swapped", head({ACCEPT: str.swapcase})),
    (52, "the correct value without its padding", head({ACCEPT: lambda value: value.rstrip("=")})),
    (53, "the correct value without its last five characters",
     head({ACCEPT: lambda value: value[:-5]})),
    (54, "the correct value followed by more", head({ACCEPT: lambda value: f"{value}AAAA"})),
    (55, "the correct value in quotes", head({ACCEPT: lambda value: f'"{value}"'})),
    (56, "the correct value and a wrong one in two fields",
     head({ACCEPT: lambda value: [value, wire.accept_value("")]})),
    (57, "a wrong value and the correct one in two fields",
     head({ACCEPT: lambda value: [wire.accept_value(""), value]})),
):  # fmt: skip
    put(f"C.5.{number}", LACKS_ACCEPT, f"{ACCEPT}: {sends}", refused(make))
open_question(
    "C.5.58",
    "RFC 6455 11.3.3",
    "The |Sec-WebSocket-Accept| header MUST NOT appear more than once in an HTTP response.",
    "a response with the correct Sec-WebSocket-Accept twice",
    head({ACCEPT: lambda value: [value, value]}),
)
open_question(
    "C.5.59", OPENING, UPGRADE_CASE, "a response with Upgrade: websocket twice",
    head({"Upgrade": ["websocket", "websocket"]}),
)  # fmt: skip

# ---- C.8: malformed and incomplete HTTP ---------------------------------------------------------

NUL = (
    "a recipient of CR, LF, or NUL within a field value MUST either reject the message or replace "
    "each of those characters with SP before further processing"
)
FOLD = (
    "A user agent that receives an obs-fold in a response message that is not within a "
    '"message/http" container MUST replace each received obs-fold with one or more SP octets prior '
    "to interpreting the field value."
)
NO_BODY = "is always terminated by the first empty line after the header fields"


def request_back(test: ClientTest) -> bytes:
    """Return the client's data, like a TCP echo server."""
    return test.asked.head + b"\r\n\r\n"


def fields_only(test: ClientTest) -> bytes:
    return head()(test).partition(b"\r\n")[2]


for number, sends, make in (
    (1, "the banner of an SSH server", lambda test: b"SSH-2.0-OpenSSH_9.2\r\n\r\n"),
    (2, "all octet values and two line ends", lambda test: bytes(range(256)) + b"\r\n\r\n"),
    (3, "a valid response without its status line", fields_only),
    (4, "its own request", request_back),
    (5, "a valid response after a line of HTML", behind(b"<html>\r\n")),
):  # fmt: skip
    put(f"C.8.{number}", CONFORM, sends, refused(make))
for number, section, sends, make in (
    (11, "RFC 9110 5.5", "Upgrade: websocket, a NUL and an x", head({"Upgrade": "websocket\0x"})),
    (12, "RFC 9110 5.5", "Upgrade: websocket, a CR and an x", head({"Upgrade": "websocket\rx"})),
    (13, "RFC 9110 5.5", f"a good {ACCEPT}, a NUL and an x", head({ACCEPT: lambda v: f"{v}\0x"})),
):
    put(f"C.8.{number}", NUL, sends, refused(make), section=section)
put(
    "C.8.14", FOLD, "a valid response with a folded field",
    taken_or(NonStrict, with_line(b"X-Folded: one\r\n two")), TAKEN, section="RFC 9112 5.2",
)  # fmt: skip
for number, sends, name, value in (
    (15, "Content-Length: 0", "Content-Length", "0"),
    (16, "Content-Length: 19", "Content-Length", str(len(plain(HELLO)))),
    (17, "Transfer-Encoding: chunked", "Transfer-Encoding", "chunked"),
):
    # No server may send that (RFC 9110 8.6), so a client may refuse it. There is no body.
    put(
        f"C.8.{number}", NO_BODY, f"a valid response with {sends}",
        taken_or(NonStrict, head({name: value}), Informational), f"{TAKEN}, or it refuses it",
        section="RFC 9112 6.3",
    )  # fmt: skip
START_SPACE = (
    "A recipient that receives whitespace between the start-line and the first header field MUST "
    "either reject the message as invalid or consume each whitespace-preceded line without further "
    "processing of it"
)
SPACE = "No whitespace is allowed between the field name and colon."
for number, section, quote, sends, make in (
    (21, "RFC 9112 5.1", SPACE, "a space before the colon of Upgrade",
     swapped(b"Upgrade:", b"Upgrade :")),
    (22, "RFC 9112 5", "Each field line consists of a case-insensitive field name followed by a "
     "colon", "a line without a colon", with_line(b"no field")),
    (23, "RFC 9110 5.5", NUL, "a field with a NUL in its value", with_line(b"X-Nul: a\0b")),
    (24, "RFC 9112 2.2", START_SPACE, "an indented line before all fields",
     swapped(b"\r\nUpgrade:", b"\r\n x: y\r\nUpgrade:")),
):  # fmt: skip
    open_question(f"C.8.{number}", section, quote, f"a valid response with {sends}", make)


def cut_short(part: Callable[[bytes], bytes]) -> Run:
    """End TCP within the response, and expect that the client ends it too."""

    def run(test: Test) -> None:
        mine = ready(test)
        connection = mine.connections[0]
        try:
            mine.respond(part(head()(mine)))
            connection.finish()
            connection.fill(connection.deadline())
            kind, came = what_came(connection)
        except Ended:
            return
        except (TimedOut, Garbled, OSError) as error:
            raise NonStrict(f"the client does not end TCP: {error}") from None
        if kind == OPEN:
            raise Failed(f"the client accepts a partial response: {came}")

    return run


for number, sends, part in (
    (31, "nothing", lambda data: b""),
    (32, "a status line", lambda data: data[: data.index(b"\r\n") + 2]),
    (33, "half of a valid response", lambda data: data[: len(data) // 2]),
    (34, "a valid response without its empty line", lambda data: data[:-2]),
    (35, "a valid response without its last octet", lambda data: data[:-1]),
):
    add(
        f"C.8.{number}", OPENING, MUST, CONFORM, f"{sends}, then the end of TCP",
        "the client ends TCP", cut_short(part), ["client"],
    )  # fmt: skip
