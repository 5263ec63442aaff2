"""The opening handshake (RFC 6455 section 4), group H: what a server has to take, what it has to
refuse, and what its answer has to look like.

H.0 is about what makes a request an opening handshake at all, H.1 to H.7 follow the items of
section 4.2.1 (method, version of HTTP, Host, Upgrade, Connection, key, version), then come plain
requests (H.8), Origin (H.9), the 101 (H.10), subprotocols (H.11), lists (H.12), malformed lists
(H.13) and other protocols to upgrade to (H.27). Requests that are no good HTTP are in group P.

A server that just ends the connection where an error status is due is NON-STRICT: nobody gets in,
but nobody learns why either.
"""

from __future__ import annotations

from .. import wire
from ..case import (
    MAY,
    MUST,
    SHOULD,
    Failed,
    Informational,
    NonStrict,
    Run,
    Skipped,
    Test,
    add,
    case,
)
from .heads import (
    ACCEPT,
    KEY,
    Change,
    Make,
    accepted,
    answer,
    ask,
    changed,
    expect_accepted,
    expect_error,
    handshake,
    left_open,
    may_be_refused,
    not_upgraded,
    plain,
    read_body,
    refused,
    swapped,
    tokens,
    with_line,
)

READING = "RFC 6455 4.2.1"
ANSWERING = "RFC 6455 4.2.2"
MALFORMED = (
    "the server MUST stop processing the client's handshake and return an HTTP response with an "
    "appropriate error code (such as 400 Bad Request)."
)
ORDER = "the order of the header fields is not important"
IS_ACCEPTED = "101, and the connection echoes"
IS_REFUSED = "an error status, not 101"


def accept(id: str, section: str, level: str, quote: str, sends: str, change: Change) -> None:
    add(id, section, level, quote, sends, IS_ACCEPTED, accepted(changed(change)))


def refuse(
    id: str, quote: str, sends: str, change: Change, *statuses: int, section: str = READING
) -> None:
    best = " or ".join(map(str, statuses))
    add(
        id,
        section,
        MUST,
        f"{MALFORMED} [...] {quote}" if section == READING else quote,
        sends,
        f"{IS_REFUSED}; {best} fits best" if best else IS_REFUSED,
        refused(changed(change), *statuses),
    )


# ---- H.0: what is a handshake -------------------------------------------------------------------


def reordered(test: Test) -> bytes:
    """The fields in the opposite order."""
    fields = wire.upgrade_fields(test.settings.target, KEY)
    return test.request(fields[::-1])


def recased(upper: bool) -> Run:
    """The names of the fields in capitals, or in small letters."""

    def run(test: Test) -> None:
        fields = wire.upgrade_fields(test.settings.target, KEY)
        cased = [(name.upper() if upper else name.lower(), value) for name, value in fields]
        expect_accepted(test, test.request(cased)).close()

    return run


CASELESS = "Each field line consists of a case-insensitive field name followed by a colon"
for number, upper in ((2, True), (3, False)):
    add(
        f"H.0.{number}",
        "RFC 9112 5",
        MUST,
        CASELESS,
        f"a handshake with all field names in {'upper' if upper else 'lower'} case",
        "101",
        recased(upper),
    )
add(
    "H.0.1", READING, MUST, ORDER, "a handshake, its fields backwards", IS_ACCEPTED,
    accepted(reordered),
)  # fmt: skip

OTHERS: Change = {
    "User-Agent": "conformance",
    "Accept-Encoding": "gzip, deflate",
    "Cookie": "a=b; c=d",
    "Authorization": "Basic eDp5",
    "X-Unknown": "1",
    "Sec-WebSocket-Unknown": "2",
}
UNKNOWN = "Unknown header fields are ignored"
WHITESPACE = "A field line value might be preceded and/or followed by optional whitespace (OWS)"
OBS_TEXT = (
    "A recipient SHOULD treat other allowed octets in field content (i.e., obs-text) as opaque "
    "data."
)
accept("H.0.4", READING, MUST, UNKNOWN, "a handshake with many more fields", OTHERS)
accept("H.0.5", READING, MUST, UNKNOWN, "a field with an empty value", {"X-Empty": ""})
accept(
    "H.0.6", "RFC 9110 5.5", SHOULD, OBS_TEXT, "a field with letters beyond ASCII",
    {"X-Name": "J\xfcrgen"},
)  # fmt: skip
for number, old, new, what in (
    (7, b": ", b":", "without whitespace behind the colons"),
    (8, b": ", b": \t ", "with tabs and spaces behind the colons"),
    (9, b": websocket\r\n", b": websocket \t \r\n", "with trailing whitespace"),
):
    add(
        f"H.0.{number}",
        "RFC 9112 5.1",
        MUST,
        WHITESPACE,
        f"a handshake {what}",
        IS_ACCEPTED,
        accepted(swapped(old, new)),
    )

# ---- H.1: the method ----------------------------------------------------------------------------

GET = "An HTTP/1.1 or higher GET request"
for number, method in enumerate(("POST", "HEAD", "OPTIONS", "PUT", "DELETE", "get", "BREW"), 1):
    add(
        f"H.1.{number}",
        READING,
        MUST,
        f"{MALFORMED} [...] {GET}",
        f"a handshake with the method {method}",
        f"{IS_REFUSED}; 405, 501 or 400 fits best",
        refused(changed({}, method=method), 405, 501, 400),
    )


@case(
    "H.1.8",
    "RFC 9110 15.5.6",
    MUST,
    "The origin server MUST generate an Allow header field in a 405 response containing a list of "
    "the target resource's currently supported methods.",
    sends="a handshake with the method POST",
    expects="if that is answered with 405: the field Allow, and GET in it",
)
def allow(test: Test) -> None:
    response = ask(test, handshake(test, method="POST"))[1]
    if response.status != 405:
        raise Informational(f"the answer is {response.status}")
    if "get" not in tokens(response, "Allow"):
        raise Failed(f"a 405 with Allow: {response.get('Allow')}")


# ---- H.2: the version of HTTP -------------------------------------------------------------------

IGNORED_IN_10 = (
    "A server that receives an Upgrade header field in an HTTP/1.0 request MUST ignore that "
    "Upgrade field."
)
HIGHER_MINOR = (
    "A recipient that receives a message with a major version number that it implements and a "
    "minor version number higher than what it implements SHOULD process the message as if it were "
    "in the highest minor version within that major version to which the recipient is conformant."
)
for number, version, section, quote in (
    (1, "HTTP/1.0", "RFC 9110 7.8", IGNORED_IN_10),
    (2, "HTTP/0.9", READING, GET),
):
    add(
        f"H.2.{number}",
        section,
        MUST,
        quote,
        f"a handshake with {version}",
        "any response but 101",
        not_upgraded(changed({}, version=version)),
    )
add(
    "H.2.3",
    "RFC 9110 7.8",
    MUST,
    IGNORED_IN_10,
    "a handshake with HTTP/1.0 and Connection: keep-alive, Upgrade",
    "any response but 101",
    not_upgraded(changed({"Connection": "keep-alive, Upgrade"}, version="HTTP/1.0")),
)
for number, version in ((4, "HTTP/1.2"), (5, "HTTP/1.9")):
    add(
        f"H.2.{number}",
        "RFC 9110 6.2",
        SHOULD,
        HIGHER_MINOR,
        f"a handshake with {version}",
        IS_ACCEPTED,
        accepted(changed({}, version=version)),
    )

# ---- H.3: Host ----------------------------------------------------------------------------------

HOST = (
    "A server MUST respond with a 400 (Bad Request) status code to any HTTP/1.1 request message "
    "that lacks a Host header field and to any request message that contains more than one Host "
    "header field line or a Host header field with an invalid field value."
)
for number, what, change in (
    (1, "without Host", {"Host": None}),
    (2, "with two fields Host that differ", {"Host": ["one.example", "two.example"]}),
    (3, "with the same Host twice", {"Host": ["one.example", "one.example"]}),
    (4, "with a space in Host", {"Host": "one.example two.example"}),
    (5, "with a path in Host", {"Host": "one.example/path"}),
    (6, "with user information in Host", {"Host": "user@one.example"}),
    (7, "with a list in Host", {"Host": "one.example, two.example/"}),
):
    add(
        f"H.3.{number}",
        "RFC 9112 3.2",
        MUST,
        HOST,
        f"a handshake {what}",
        "an error status; 400 fits best",
        refused(changed(change), 400),
    )
AUTHORITY = "A |Host| header field containing the server's authority."
for number, what, host in (
    (8, "with an empty Host", ""),
    (9, "with the Host of another server", "another.example"),
    (10, "with a Host in capitals and a port", "ANOTHER.EXAMPLE:81"),
    (11, "with an IPv6 address as Host", "[2001:db8::1]:8080"),
):
    add(
        f"H.3.{number}",
        READING,
        MAY,
        AUTHORITY,
        f"a handshake {what}",
        "101, or an error status: a server may know its names or not",
        may_be_refused(changed({"Host": host})),
    )

# ---- H.4: Upgrade -------------------------------------------------------------------------------

UPGRADE = (
    'An |Upgrade| header field containing the value "websocket", treated as an ASCII '
    "case-insensitive value."
)
for number, value in ((1, "WebSocket"), (2, "WEBSOCKET")):
    accept(
        f"H.4.{number}", READING, MUST, UPGRADE, f"a handshake with Upgrade: {value}",
        {"Upgrade": value},
    )  # fmt: skip
for number, what, values in (
    (3, "h2c, websocket", "h2c, websocket"),
    (4, "websocket, TLS/1.0", "websocket, TLS/1.0"),
    (5, "h2c, and another field Upgrade: websocket", ["h2c", "websocket"]),
    (6, ", websocket ,", ", websocket ,"),
):
    # A server may ignore any Upgrade (RFC 9110 section 7.8), so no more than a SHOULD.
    accept(
        f"H.4.{number}", READING, SHOULD, UPGRADE, f"a handshake with Upgrade: {what}",
        {"Upgrade": values},
    )  # fmt: skip


def not_taken(id: str, quote: str, sends: str, change: Change) -> None:
    """A request that may be taken for a plain one: any answer but 101."""
    add(id, READING, MUST, quote, sends, "any response but 101", not_upgraded(changed(change)))


for number, what, change in (
    (7, "without Upgrade", {"Upgrade": None}),
    (8, "with an empty Upgrade", {"Upgrade": ""}),
    (9, "with Upgrade: websockets", {"Upgrade": "websockets"}),
    (10, "with Upgrade: web socket", {"Upgrade": "web socket"}),
    (11, 'with Upgrade: "websocket" in quotes', {"Upgrade": '"websocket"'}),
    (12, "with Upgrade: x-websocket", {"Upgrade": "x-websocket"}),
):
    not_taken(f"H.4.{number}", UPGRADE, f"a handshake {what}", change)
add(
    "H.4.13",
    "RFC 9110 7.8",
    MAY,
    'protocol         = protocol-name ["/" protocol-version]',
    "a handshake with Upgrade: websocket/13",
    "101, or any other response",
    left_open(changed({"Upgrade": "websocket/13"}), "websocket/13 is taken for websocket"),
)

# ---- H.5: Connection ----------------------------------------------------------------------------

CONNECTION = (
    'A |Connection| header field that includes the token "Upgrade", treated as an ASCII '
    "case-insensitive value."
)
EMPTY = "A recipient MUST parse and ignore a reasonable number of empty list elements"
for number, what, values in (
    (1, "keep-alive, Upgrade", "keep-alive, Upgrade"),
    (2, "Upgrade, keep-alive", "Upgrade, keep-alive"),
    (3, "upgrade", "upgrade"),
    (4, "UPGRADE", "UPGRADE"),
    (5, "keep-alive,upgrade (no space)", "keep-alive,upgrade"),
    (6, "keep-alive, and another field Connection: Upgrade", ["keep-alive", "Upgrade"]),
):
    accept(
        f"H.5.{number}", READING, MUST, CONNECTION, f"a handshake with Connection: {what}",
        {"Connection": values},
    )  # fmt: skip
accept(
    "H.5.7", "RFC 9110 5.6.1.2", MUST, EMPTY, "a handshake with Connection: , ,Upgrade,,",
    {"Connection": ", ,Upgrade,,"},
)  # fmt: skip
for number, what, change in (
    (8, "without Connection", {"Connection": None}),
    (9, "with Connection: keep-alive", {"Connection": "keep-alive"}),
    (10, "with Connection: close", {"Connection": "close"}),
    (11, "with Connection: Upgraded", {"Connection": "Upgraded"}),
    (12, "with Connection: keep-alive Upgrade (no comma)", {"Connection": "keep-alive Upgrade"}),
    (13, "with an empty Connection", {"Connection": ""}),
):
    not_taken(f"H.5.{number}", CONNECTION, f"a handshake {what}", change)
add(
    "H.5.14",
    READING,
    MAY,
    CONNECTION,
    "a handshake with Connection: Upgrade, close",
    "101, or an error status",
    may_be_refused(changed({"Connection": "Upgrade, close"})),
)

# ---- H.6: the key -------------------------------------------------------------------------------

KEY_RULE = (
    "A |Sec-WebSocket-Key| header field with a base64-encoded (see Section 4 of [RFC4648]) value "
    "that, when decoded, is 16 bytes in length."
)
ONE_KEY = "The |Sec-WebSocket-Key| header field MUST NOT appear more than once in an HTTP request."
OTHER_KEY = "AQIDBAUGBwgJCgsMDQ4PEC=="
for number, what, value in (
    (2, "that is empty", ""),
    (3, "of 15 bytes", "AAAAAAAAAAAAAAAAAAAA"),
    (4, "of 17 bytes", "AAAAAAAAAAAAAAAAAAAAAAA="),
    (5, "of 16 bytes without padding", "dGhlIHNhbXBsZSBub25jZQ"),
    (6, "of 24 characters that are no base64", "dGhlIHNhbXBs*SBub25jZQ=="),
    (7, "in base64url", "_-_-_-_-_-_-_-_-_-_-_w=="),
    (8, "with a space in it", "dGhlIHNhbXBs ZSBub25jZQ=="),
    (9, "that is 16 characters of text", "the sample nonce"),
    (10, "of 32 bytes", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    (11, "with one = too many", "dGhlIHNhbXBsZSBub25jZQ==="),
    (12, "with junk behind the padding", "dGhlIHNhbXBsZSBub25jZQ==x"),
):
    refuse(
        f"H.6.{number}", KEY_RULE, f"a handshake with a key {what}",
        {"Sec-WebSocket-Key": value}, 400,
    )  # fmt: skip
refuse("H.6.1", KEY_RULE, "a handshake without Sec-WebSocket-Key", {"Sec-WebSocket-Key": None}, 400)
for number, what, keys in (
    (13, "that differ", [KEY, OTHER_KEY]),
    (14, "that are the same", [KEY, KEY]),
):
    refuse(
        f"H.6.{number}", ONE_KEY, f"a handshake with two keys {what}",
        {"Sec-WebSocket-Key": keys}, 400, section="RFC 6455 11.3.1",
    )  # fmt: skip
refuse(
    "H.6.15", KEY_RULE, "a handshake with two keys in one field",
    {"Sec-WebSocket-Key": f"{KEY}, {OTHER_KEY}"}, 400,
)  # fmt: skip
for number, what, key in (
    (16, "of 16 zero bytes", "AAAAAAAAAAAAAAAAAAAAAA=="),
    (17, "with all of / and +", "/+/+/+/+/+/+/+/+/+/+/w=="),
    (18, "whose pad bits are not zero, as in the example of section 4.1", OTHER_KEY),
):
    add(
        f"H.6.{number}",
        READING,
        SHOULD if key == OTHER_KEY else MUST,
        KEY_RULE,
        f"a handshake with a key {what}",
        f"101 and Sec-WebSocket-Accept: {wire.accept_value(key)}",
        accepted(changed({"Sec-WebSocket-Key": key}), key),
    )

# ---- H.7: the version of WebSocket --------------------------------------------------------------

VERSION = "A |Sec-WebSocket-Version| header field, with a value of 13."
ONE_VERSION = (
    "the |Sec-WebSocket-Version| header field MUST NOT appear more than once in an HTTP request."
)
for number, value in enumerate(("", "x", "0", "12", "14", "255", "256", "013", "+13", "13.0"), 2):
    refuse(
        f"H.7.{number}", VERSION, f"a handshake with Sec-WebSocket-Version: {value}",
        {"Sec-WebSocket-Version": value}, 426, 400,
    )  # fmt: skip
refuse(
    "H.7.1", VERSION, "a handshake without Sec-WebSocket-Version",
    {"Sec-WebSocket-Version": None}, 426, 400,
)  # fmt: skip
for number, what, versions in (
    (12, "with Sec-WebSocket-Version: 13, 8", "13, 8"),
    (13, "with two versions, 13 and 8", ["13", "8"]),
    (14, "with two versions, 8 and 13", ["8", "13"]),
    (15, "with Sec-WebSocket-Version: 13 twice", ["13", "13"]),
):
    refuse(
        f"H.7.{number}", ONE_VERSION, f"a handshake {what}",
        {"Sec-WebSocket-Version": versions}, 426, 400, section="RFC 6455 11.3.5",
    )  # fmt: skip
for number, value in ((16, "8"), (17, "7")):
    add(
        f"H.7.{number}",
        ANSWERING,
        MAY,
        "If this version does not match a version understood by the server, the server MUST abort "
        "the WebSocket handshake",
        f"a handshake with Sec-WebSocket-Version: {value}, of a draft",
        "426, or 101 of a server that speaks that draft, too",
        left_open(changed({"Sec-WebSocket-Version": value}), f"version {value} is accepted"),
    )

MISMATCH = (
    "the server MUST abort the WebSocket handshake described in this section and instead send an "
    "appropriate HTTP error code (such as 426 Upgrade Required) and a |Sec-WebSocket-Version| "
    "header field indicating the version(s) the server is capable of understanding."
)


@case(
    "H.7.18",
    ANSWERING,
    MUST,
    MISMATCH,
    sends="a handshake with Sec-WebSocket-Version: 99",
    expects="an error status, best 426, and Sec-WebSocket-Version with 13 in it",
)
def mismatch(test: Test) -> None:
    response = ask(test, handshake(test, {"Sec-WebSocket-Version": "99"}))[1]
    expect_error(response)
    versions = response.get("Sec-WebSocket-Version")
    if "13" not in tokens(response, "Sec-WebSocket-Version"):
        raise Failed(f"{response.status} with Sec-WebSocket-Version: {versions}")
    expect_error(response, 426)


@case(
    "H.7.19",
    "RFC 9110 15.5.22",
    MUST,
    "The server MUST send an Upgrade header field in a 426 response to indicate the required "
    "protocol(s)",
    sends="a handshake with Sec-WebSocket-Version: 99",
    expects="if the answer is 426: Upgrade: websocket, and upgrade in Connection",
)
def upgrade_required(test: Test) -> None:
    response = ask(test, handshake(test, {"Sec-WebSocket-Version": "99"}))[1]
    expect_upgrade_field(response)


def expect_upgrade_field(response: wire.Response) -> None:
    """Of a 426. Failed."""
    if response.status != 426:
        raise Informational(f"the answer is {response.status}")
    if "websocket" not in tokens(response, "Upgrade"):
        raise Failed(f"a 426 with Upgrade: {response.get('Upgrade')}")
    if "upgrade" not in tokens(response, "Connection"):  # RFC 9110 section 7.8
        raise Failed(f"Upgrade is there, but not in Connection: {response.get('Connection')}")


@case(
    "H.7.20",
    "RFC 6455 4.4",
    MAY,
    "The client now repeats the handshake that conforms to version 13:",
    sends="a handshake with version 99, and if the connection stays open a good one on it",
    expects="a refusal, then 101, or the end of the connection",
)
def second_try(test: Test) -> None:
    connection, response = ask(test, handshake(test, {"Sec-WebSocket-Version": "99"}))
    expect_error(response)
    read_body(connection, response)
    connection.send(handshake(test))
    try:
        second = answer(connection)
    except NonStrict:
        return
    if second.status != 101:
        raise Failed(f"the second handshake was answered with {second.status}")


# ---- H.8: plain requests ------------------------------------------------------------------------


@case(
    "H.8.1",
    "RFC 9110 7.8",
    MUST,
    "A server MUST NOT switch to a protocol that was not indicated by the client in the "
    "corresponding request's Upgrade header field.",
    sends="a plain GET to the resource",
    expects="a whole HTTP response that is not 101",
)
def plain_get(test: Test) -> None:
    connection, response = ask(test, plain(test))
    read_body(connection, response)
    if response.status == 101:
        raise Failed("a plain request was answered with 101")


@case(
    "H.8.2",
    "RFC 9110 15.5.22",
    MAY,
    "the server refuses to perform the request using the current protocol but might be willing to "
    "do so after the client upgrades to a different protocol.",
    sends="a plain GET to the resource",
    expects="426 with Upgrade: websocket of a server that has nothing else there",
)
def plain_required(test: Test) -> None:
    expect_upgrade_field(ask(test, plain(test))[1])


@case(
    "H.8.3",
    "RFC 6455 4.2.2",
    MAY,
    "If the requested service is not available, the server MUST send an appropriate HTTP error "
    "code (such as 404 Not Found) and abort the WebSocket handshake.",
    sends="a handshake for a resource that hardly exists",
    expects="404, or 101 of a server that echoes everywhere",
)
def unknown_resource(test: Test) -> None:
    response = ask(test, handshake(test, resource="/no/such/resource/7f3a"))[1]
    if response.status == 101:
        raise Informational("any resource is accepted")
    expect_error(response)


RESOURCE = 'including a "Request-URI" [RFC2616] that should be interpreted as a /resource name/'
for number, what, query in (
    (4, "with a query", "a=b&c=d"),
    (5, "with percent-encoded octets in a query", "%00%0d%0a%ff%20%2f"),
    (6, "with all that a query may hold", "a/b?c:d@e!f$g'h(i)j*k+l,m;n=o~p-q._"),
):

    def with_query(test: Test, query: str = query) -> None:
        resource = test.settings.target.resource
        joint = "&" if "?" in resource else "?"
        expect_accepted(test, handshake(test, resource=f"{resource}{joint}{query}")).close()

    add(
        f"H.8.{number}",
        READING,
        SHOULD,
        RESOURCE,
        f"a handshake for the resource {what}",
        "101",
        with_query,
    )

# ---- H.9: Origin --------------------------------------------------------------------------------

ORIGIN = (
    "Servers that are not intended to process input from any web page but only for certain sites "
    "SHOULD verify the |Origin| field is an origin they expect."
)
for number, what, origins in (
    (1, "with the Origin of some page", "http://page.example"),
    (2, "with Origin: null", "null"),
    (3, "with an Origin that is none", "no origin"),
    (4, "with two fields Origin", ["http://one.example", "http://two.example"]),
):
    add(
        f"H.9.{number}",
        "RFC 6455 10.2",
        MAY,
        ORIGIN,
        f"a handshake {what}",
        "101, or 403 of a server for certain sites",
        may_be_refused(changed({"Origin": origins})),
    )
add(
    "H.9.5",
    READING,
    MUST,
    "Optionally, an |Origin| header field. This header field is sent by all browser clients.",
    "a handshake without Origin",
    "101, or an error status of a server for browsers only",
    may_be_refused(changed({})),
)

# ---- H.10: the 101 ------------------------------------------------------------------------------


@case(
    "H.10.1",
    ANSWERING,
    MUST,
    "The value of this header field is constructed by concatenating /key/, defined above in step "
    '4 in Section 4.2.2, with the string "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", taking the SHA-1 '
    "hash of this concatenated value to obtain a 20-byte value and base64-encoding (see Section 4 "
    "of [RFC4648]) this 20-byte hash.",
    sends="a handshake with the key of the example in RFC 6455 section 1.3",
    expects=f"Sec-WebSocket-Accept: {ACCEPT}",
)
def sample_key(test: Test) -> None:
    response = ask(test, handshake(test))[1]
    if response.all("Sec-WebSocket-Accept") != [ACCEPT]:
        raise Failed(f"Sec-WebSocket-Accept: {response.get('Sec-WebSocket-Accept')}")


@case(
    "H.10.2",
    ANSWERING,
    MUST,
    "taking the SHA-1 hash of this concatenated value to obtain a 20-byte value",
    sends="20 handshakes with random keys",
    expects="the right Sec-WebSocket-Accept each time",
)
def random_keys(test: Test) -> None:
    for _ in range(20):
        key = wire.random_key(test.random)
        session = expect_accepted(test, handshake(test, {"Sec-WebSocket-Key": key}), key)
        session.connection.close()


def answered(field: str, value: str, exactly: bool) -> Run:
    """The 101 has the field once, and it is, or lists, the value in any case."""

    def run(test: Test) -> None:
        response = expect_accepted(test, handshake(test)).response
        if len(response.all(field)) != 1 or value not in tokens(response, field):
            raise Failed(f"{field}: {response.get(field)}")
        if exactly and response.get(field) != value:
            raise NonStrict(f"{field}: {response.get(field)}")

    return run


add(
    "H.10.3", ANSWERING, MUST, 'An |Upgrade| header field with value "websocket" as per RFC 2616.',
    "a handshake", "one field Upgrade, and its value is websocket",
    answered("Upgrade", "websocket", True),
)  # fmt: skip
add(
    "H.10.4", ANSWERING, MUST, 'A |Connection| header field with value "Upgrade".',
    "a handshake", "one field Connection, and upgrade in it, in any case",
    answered("Connection", "upgrade", False),
)  # fmt: skip


def absent(id: str, section: str, quote: str, *names: str) -> None:
    """The 101 to a bare handshake has none of these fields."""

    def run(test: Test) -> None:
        response = expect_accepted(test, handshake(test)).response
        for name in names:
            if response.get(name) is not None:
                raise Failed(f"the 101 has {name}: {response.get(name)}")

    expects = "no " + " and no ".join(names)
    add(id, section, MUST, quote, "a handshake that offers nothing", expects, run)


absent(
    "H.10.5", "RFC 9110 8.6",
    "A server MUST NOT send a Content-Length header field in any response with a status code of "
    "1xx (Informational) or 204 (No Content).", "Content-Length",
)  # fmt: skip
absent(
    "H.10.6", "RFC 9112 6.1",
    "A server MUST NOT send a Transfer-Encoding header field in any response with a status code "
    "of 1xx (Informational) or 204 (No Content).", "Transfer-Encoding",
)  # fmt: skip
absent(
    "H.10.7", "RFC 6455 4.1",
    "If the response includes a |Sec-WebSocket-Extensions| header field and this header field "
    "indicates the use of an extension that was not present in the client's handshake [...] the "
    "client MUST _Fail the WebSocket Connection_.", "Sec-WebSocket-Extensions",
)  # fmt: skip
absent(
    "H.10.8", "RFC 6455 4.1",
    "If the response includes a |Sec-WebSocket-Protocol| header field and this header field "
    "indicates the use of a subprotocol that was not present in the client's handshake [...] the "
    "client MUST _Fail the WebSocket Connection_.", "Sec-WebSocket-Protocol",
)  # fmt: skip


@case(
    "H.10.9",
    "RFC 9112 4",
    MUST,
    "status-line = HTTP-version SP status-code SP [ reason-phrase ]",
    sends="a handshake",
    expects="a head that begins with HTTP/1.1 101 and one space, and is good HTTP in every line",
)
def status_line(test: Test) -> None:
    connection = test.connect()
    connection.send(handshake(test))
    answer(connection)
    head = b"".join(event.data for event in test.trace.events if event.what == "received")
    lines = head.partition(b"\r\n\r\n")[0].split(b"\r\n")
    if not lines[0].startswith(b"HTTP/1.1 101 "):
        raise Failed(f"the status line is {wire.shown(lines[0])}")
    for line in lines:
        if b"\n" in line or b"\r" in line or b"\0" in line:
            raise Failed(f"no good line of a head: {wire.shown(line)}")
    for line in lines[1:]:
        name = line.partition(b":")[0].decode("latin-1")
        if not name or any(c <= " " or c in '"(),/:;<=>?@[\\]{}\x7f' for c in name):
            raise Failed(f"no good field name: {wire.shown(line)}")


@case(
    "H.10.10",
    ANSWERING,
    MUST,
    "the server considers the WebSocket connection to be established",
    sends="a handshake, then nothing for a while, then a message",
    expects="no data that was not asked for behind the 101, then the echo",
)
def nothing_behind(test: Test) -> None:
    session = expect_accepted(test, handshake(test))
    session.comes(0.1)
    first = bytes(session.connection.buffer[:1])
    if first in (b"\x81", b"\x82"):
        raise Skipped("the server greets with a message of its own: no echo server")
    if first not in (b"", b"\x89"):
        raise Failed(f"behind the 101 came {wire.shown(bytes(session.connection.buffer))}")
    session.send(session.message(b"first"))
    session.expect_message(b"first")
    session.close()


@case(
    "H.10.11",
    ANSWERING,
    MUST,
    "the server considers the WebSocket connection to be established",
    sends="16 handshakes at once, each on its own connection, then all are read",
    expects="101 for each",
)
def many_at_once(test: Test) -> None:
    connections = [test.connect() for _ in range(16)]
    for connection in connections:
        connection.send(handshake(test))
    for connection in connections:
        if answer(connection).status != 101:
            raise Failed("a handshake beside others was refused")


# ---- H.11: subprotocols -------------------------------------------------------------------------

PROTOCOL = (
    "The value chosen MUST be derived from the client's handshake, specifically by selecting one "
    "of the values from the |Sec-WebSocket-Protocol| field that the server is willing to use"
)
ONE_PROTOCOL = (
    "the |Sec-WebSocket-Protocol| header field MUST NOT appear more than once in an HTTP response."
)
NAME = "Sec-WebSocket-Protocol"


def chosen_among(make: Make, names: list[str]) -> Run:
    """The subprotocol of the answer, if there is any, is one of these."""

    def run(test: Test) -> None:
        chosen = expect_accepted(test, make(test)).response.all(NAME)
        if len(chosen) > 1 or any(name not in names for name in chosen):
            raise Failed(f"{NAME}: {', '.join(chosen)}")

    return run


for number, what, offered, among in (
    (1, "chat, superchat", "chat, superchat", ["chat", "superchat"]),
    (2, "a name nobody knows", "x-7f3a-unheard-of", ["x-7f3a-unheard-of"]),
    (3, "CHAT, in capitals", "CHAT", ["CHAT"]),
    (4, "chat and superchat in two fields", ["chat", "superchat"], ["chat", "superchat"]),
    (5, "100 names", ", ".join(f"p{i}" for i in range(100)), [f"p{i}" for i in range(100)]),
    (6, "a name of every token character", "!#$%&'*+-.^_`|~0aZ", ["!#$%&'*+-.^_`|~0aZ"]),
):
    add(
        f"H.11.{number}",
        "RFC 6455 11.3.4" if number == 4 else ANSWERING,
        MUST,
        ONE_PROTOCOL if number == 4 else PROTOCOL,
        f"a handshake that offers the subprotocols {what}",
        f"101 with one of these, spelled the same, in {NAME}; or without that field",
        chosen_among(changed({NAME: offered}), among),
    )

# ---- H.12: lists --------------------------------------------------------------------------------

SEVERAL = (
    "The |Sec-WebSocket-Extensions| header field MAY appear multiple times in an HTTP request "
    "(which is logically the same as a single |Sec-WebSocket-Extensions| header field that "
    "contains all values."
)
UNKNOWN_EXTENSIONS = "Extensions not listed by the client MUST NOT be listed."
EXTENSIONS = "Sec-WebSocket-Extensions"


def declined(make: Make) -> Run:
    """The handshake succeeds, without any extension."""

    def run(test: Test) -> None:
        session = expect_accepted(test, make(test))
        if session.response.get(EXTENSIONS) is not None:
            raise Failed(f"{EXTENSIONS}: {session.response.get(EXTENSIONS)}")
        session.send(session.message(b"plain"))
        session.expect_message(b"plain")
        session.close()

    return run


for number, quote, what, offer in (
    (1, SEVERAL, "two fields", ["x-7f3a-one", "x-7f3a-two; a=1"]),
    (2, UNKNOWN_EXTENSIONS, "an unknown one", "x-7f3a"),
    (3, UNKNOWN_EXTENSIONS, "many parameters", "x-7f3a; a; b=1; c=2; d=three; e=four"),
    (4, UNKNOWN_EXTENSIONS, "a quoted parameter", 'x-7f3a; a="quoted"; b="with\\-escape"'),
    (5, UNKNOWN_EXTENSIONS, "no whitespace", 'x-7f3a;a=1;b="2",x-7f3b;c'),
    (6, UNKNOWN_EXTENSIONS, "much whitespace", "x-7f3a \t; a=1 \t,\t x-7f3b"),
    (7, UNKNOWN_EXTENSIONS, "the same one twice", "x-7f3a; a=1, x-7f3a"),
    (8, UNKNOWN_EXTENSIONS, "100 of them", ", ".join(f"x-{i}" for i in range(100))),
):
    add(
        f"H.12.{number}",
        "RFC 6455 11.3.2" if quote is SEVERAL else ANSWERING,
        MUST,
        quote,
        f"a handshake that offers extensions nobody knows: {what}",
        f"101 without {EXTENSIONS}, and the connection echoes",
        declined(changed({EXTENSIONS: offer})),
    )
for number, field, value in (
    (9, NAME, ",, chat ,,superchat,"),
    (10, EXTENSIONS, ", ,x-7f3a,,"),
):
    accept(
        f"H.12.{number}", "RFC 9110 5.6.1.2", MUST, EMPTY, f"a handshake with {field}: {value}",
        {field: value},
    )  # fmt: skip

# ---- H.13: malformed lists ----------------------------------------------------------------------

GRAMMAR = (
    "If a value is received by either the client or the server during negotiation that does not "
    "conform to the ABNF below, the recipient of such malformed data MUST immediately _Fail the "
    "WebSocket Connection_."
)
for number, value in enumerate(
    (
        "x-7f3a;",
        "x-7f3a; ; a",
        "x-7f3a y",
        "x-7f3a; a b",
        "x-7f3a; a=",
        "x-7f3a; =1",
        'x-7f3a; a="1',
        'x-7f3a; a=""',
        'x-7f3a; a="two words"',
        'x-7f3a; a="1"2',
        "(x-7f3a)",
        "x-7f3a; a=1=2",
        "; a=1",
        "x-7f3a\xe9",
    ),
    1,
):
    add(
        f"H.13.{number}",
        "RFC 6455 9.1",
        MUST,
        GRAMMAR,
        f"a handshake with {EXTENSIONS}: {value}",
        f"{IS_REFUSED}; 400 fits best",
        refused(changed({EXTENSIONS: value}), 400),
    )
TOKENS = "Sec-WebSocket-Protocol-Client = 1#token"
for number, value in enumerate(
    ("two words", "a/b", "chat, (x)", 'chat, "quoted"', "chat; super", "j\xfcrgen", "a=b"), 15
):
    refuse(
        f"H.13.{number}", TOKENS, f"a handshake with {NAME}: {value}", {NAME: value}, 400,
        section="RFC 6455 4.3",
    )  # fmt: skip
for number, what, value in ((22, "an empty list", ""), (23, "the same name twice", "chat, chat")):
    add(
        f"H.13.{number}",
        "RFC 6455 4.1",
        MAY,
        "The elements that comprise this value MUST be non-empty strings with characters in the "
        "range U+0021 to U+007E not including separator characters as defined in [RFC2616] and "
        "MUST all be unique strings.",
        f"a handshake with {NAME}: {value}, {what}",
        "an error status, or 101: that rule is for clients",
        may_be_refused(changed({NAME: value})),
    )

# ---- H.27: other protocols ----------------------------------------------------------------------

IGNORE = (
    "A server MAY ignore a received Upgrade header field if it wishes to continue using the "
    "current protocol on that connection."
)
for number, protocol in ((1, "h2c"), (2, "TLS/1.0"), (3, "x-7f3a/1")):

    def other(test: Test, protocol: str = protocol) -> None:
        change: Change = {"Upgrade": protocol, "Connection": "Upgrade, HTTP2-Settings"}
        data = handshake(test, {**change, "HTTP2-Settings": "AAMAAABkAAQAAP__"})
        connection, response = ask(test, data)
        if response.status == 101 and protocol.lower() not in tokens(response, "Upgrade"):
            raise Failed(f"101 to {protocol} with Upgrade: {response.get('Upgrade')}")
        if response.status == 101:
            raise Informational(f"the server speaks {protocol}")
        read_body(connection, response)

    add(
        f"H.27.{number}",
        "RFC 9110 7.8",
        MUST,
        "A server MUST NOT switch to a protocol that was not indicated by the client in the "
        f"corresponding request's Upgrade header field. [...] {IGNORE}",
        f"a request with Upgrade: {protocol} beside the fields of a handshake",
        "a whole HTTP response; no 101 to websocket",
        other,
    )
add(
    "H.27.4",
    "RFC 9110 7.6.1",
    MUST,
    "the sender MUST list the corresponding field name within the Connection header field",
    "a handshake whose Connection lists Sec-WebSocket-Key, too",
    "101, or an error status: the field is then only for the next hop, which this server is",
    may_be_refused(changed({"Connection": "Upgrade, Sec-WebSocket-Key"})),
)
add(
    "H.27.5",
    READING,
    MUST,
    UNKNOWN,
    "a handshake with the fields of drafts before RFC 6455",
    IS_ACCEPTED,
    accepted(with_line(b"Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nSec-WebSocket-Draft: 2")),
)
