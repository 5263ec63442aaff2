"""The opening handshake (RFC 6455 section 4), group H: what a server has to accept, what it has to
refuse, and what its response has to look like.

H.0 tests unusual but valid requests. H.1 to H.7 follow the items of section 4.2.1 (method, HTTP
version, Host, Upgrade, Connection, key, version). Then follow plain requests (H.8), Origin (H.9),
the 101 (H.10), and upgrades to other protocols (H.27). H.11 to H.13, which are about lists, are in
lists.py. Requests that are not valid HTTP are in group P.

If a server only ends the connection instead of sending an error status, it is NON-STRICT: the
client cannot connect, but does not learn why. The same applies if it answers as if the request had
no Upgrade, which any server may ignore (RFC 9110 section 7.8).
"""

from __future__ import annotations

from .. import wire
from ..case import (
    MAY,
    MUST,
    SHOULD,
    Failed,
    Informational,
    Late,
    NonStrict,
    Run,
    Skipped,
    Test,
    add,
    case,
    refusal,
)
from ..wire import BINARY, PONG, TEXT, Ended
from .heads import (
    ACCEPT,
    KEY,
    Change,
    accepted,
    answer,
    ask,
    ask_any,
    changed,
    expect_accepted,
    expect_error,
    handshake,
    left_open,
    may_be_refused,
    not_upgraded,
    offered,
    plain,
    read_body,
    refused,
    swapped,
    tokens,
    turned_down,
    with_line,
)

READING = "RFC 6455 4.2.1"
ANSWERING = "RFC 6455 4.2.2"
MALFORMED = (
    "the server MUST stop processing the client's handshake and return an HTTP response with an "
    "appropriate error code (such as 400 Bad Request)."
)
NO_ABNF = (
    "including but not limited to any violations of the ABNF grammar specified for the components "
    f"of the handshake, {MALFORMED}"
)
ORDER = "the order of the header fields is not important"
IS_ACCEPTED = "101, and the connection echoes"
IS_REFUSED = "an error status such as 400, not 101"


def accept(id: str, section: str, level: str, quote: str, sends: str, change: Change) -> None:
    add(id, section, level, quote, sends, IS_ACCEPTED, accepted(changed(change)))


def refuse(id: str, quote: str, sends: str, change: Change, lax: str = "") -> None:
    """Add a case that must be refused; `lax` is why accepting it is only NON-STRICT."""
    expects = f"{IS_REFUSED}; NON-STRICT: 101" if lax else IS_REFUSED
    run = turned_down(changed(change), lax)
    add(id, READING, MUST, f"{MALFORMED} [...] {quote}", sends, expects, run)


# ---- H.0: unusual but valid handshakes ----------------------------------------------------------


def reordered(test: Test) -> bytes:
    """Return a handshake with the fields in reverse order."""
    return test.request(offered(test)[::-1])


def recased(upper: bool) -> Run:
    """Return a handshake with the field names in upper or lower case."""

    def run(test: Test) -> None:
        fields = offered(test)
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
    "H.0.1", READING, MUST, ORDER, "a handshake with its fields in reverse order", IS_ACCEPTED,
    accepted(reordered),
)  # fmt: skip

OTHERS: Change = {
    "User-Agent": "conformance",
    "Accept-Encoding": "gzip, deflate",
    "X-Unknown": "1",
    "Sec-WebSocket-Unknown": "2",
}
FIELDS = "RFC 9110 5.1"
UNKNOWN = "Other recipients SHOULD ignore unrecognized header and trailer fields."
FIELD_LINE = 'field-line   = field-name ":" OWS field-value OWS'
WHITESPACE = (
    "When a specific version of HTTP allows such whitespace to appear in a message, a field "
    "parsing implementation MUST exclude such whitespace prior to evaluating the field value."
)
OBS_TEXT = (
    "A recipient SHOULD treat other allowed octets in field content (i.e., obs-text) as opaque "
    "data."
)
accept("H.0.4", FIELDS, SHOULD, UNKNOWN, "a handshake with many more fields", OTHERS)
accept("H.0.5", FIELDS, SHOULD, UNKNOWN, "a field with an empty value", {"X-Empty": ""})
accept(
    "H.0.6", "RFC 9110 5.5", SHOULD, OBS_TEXT, "a field with non-ASCII letters",
    {"X-Name": "J\xfcrgen"},
)  # fmt: skip
for number, old, new, what in (
    (7, b": ", b":", "without whitespace after the colons"),
    (8, b": ", b": \t ", "with tabs and spaces after the colons"),
    (9, b": websocket\r\n", b": websocket \t \r\n", "with trailing whitespace"),
):
    add(
        f"H.0.{number}",
        "RFC 9112 5" if number == 7 else "RFC 9110 5.5",
        MUST,
        FIELD_LINE if number == 7 else WHITESPACE,
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
        "any response except 101: ignoring Upgrade is allowed",
        not_upgraded(changed({}, method=method)),
    )


@case(
    "H.1.8",
    "RFC 9110 15.5.6",
    MUST,
    "The origin server MUST generate an Allow header field in a 405 response containing a list of "
    "the target resource's currently supported methods.",
    sends="a handshake with the method POST",
    expects="if the response is 405, an Allow field that includes GET",
)
def allow(test: Test) -> None:
    response = ask(test, handshake(test, method="POST"))[1]
    if response.status != 405:
        raise Informational(f"the response is {response.status}")
    if "get" not in tokens(response, "Allow"):
        raise Failed(f"a 405 with Allow: {response.get('Allow')}")


# ---- H.2: the HTTP version ----------------------------------------------------------------------

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
    (2, "HTTP/0.9", READING, f"{MALFORMED} [...] {GET}"),
):
    add(
        f"H.2.{number}",
        section,
        MUST,
        quote,
        f"a handshake with {version}",
        "any response except 101",
        not_upgraded(changed({}, version=version)),
    )
add(
    "H.2.3",
    "RFC 9110 7.8",
    MUST,
    IGNORED_IN_10,
    "a handshake with HTTP/1.0 and Connection: keep-alive, Upgrade",
    "any response except 101",
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
    (2, "with two different Host fields", {"Host": ["one.example", "two.example"]}),
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
        "an error status, best 400",
        refused(changed(change), 400),
    )
AUTHORITY = "A |Host| header field containing the server's authority."
for number, what, host in (
    (8, "with an empty Host", ""),
    (9, "with the Host of another server", "another.example"),
    (10, "with an uppercase Host and a port", "ANOTHER.EXAMPLE:81"),
    (11, "with an IPv6 address as Host", "[2001:db8::1]:8080"),
):
    add(
        f"H.3.{number}",
        READING,
        MAY,
        AUTHORITY,
        f"a handshake {what}",
        "101, or an error status: a server may or may not know its names",
        may_be_refused(changed({"Host": host})),
    )

# ---- H.4: Upgrade -------------------------------------------------------------------------------

UPGRADE = (
    'An |Upgrade| header field containing the value "websocket", treated as an ASCII '
    "case-insensitive value."
)
ANY_CASE = (
    "Although protocol names are registered with a preferred case, recipients SHOULD use "
    "case-insensitive comparison when matching each protocol-name to supported protocols."
)
# A server may ignore any Upgrade (RFC 9110 section 7.8), so these are only a SHOULD.
for number, value in ((1, "WebSocket"), (2, "WEBSOCKET")):
    accept(
        f"H.4.{number}", "RFC 9110 7.8", SHOULD, ANY_CASE, f"a handshake with Upgrade: {value}",
        {"Upgrade": value},
    )  # fmt: skip
for number, what, values in (
    (3, "h2c, websocket", "h2c, websocket"),
    (4, "websocket, TLS/1.0", "websocket, TLS/1.0"),
    (5, "h2c, and a second field Upgrade: websocket", ["h2c", "websocket"]),
    (6, ", websocket ,", ", websocket ,"),
):
    accept(
        f"H.4.{number}", READING, SHOULD, UPGRADE, f"a handshake with Upgrade: {what}",
        {"Upgrade": values},
    )  # fmt: skip


def not_taken(id: str, section: str, quote: str, sends: str, change: Change) -> None:
    """Add a case whose request may count as a plain one: any response except 101."""
    add(id, section, MUST, quote, sends, "any response except 101", not_upgraded(changed(change)))


SWITCH = (
    "A server MUST NOT switch to a protocol that was not indicated by the client in the "
    "corresponding request's Upgrade header field."
)

for number, what, change in (
    (7, "without Upgrade", {"Upgrade": None}),
    (8, "with an empty Upgrade", {"Upgrade": ""}),
    (9, "with Upgrade: websockets", {"Upgrade": "websockets"}),
    (10, "with Upgrade: web socket", {"Upgrade": "web socket"}),
    (11, 'with Upgrade: "websocket" in quotes', {"Upgrade": '"websocket"'}),
    (12, "with Upgrade: x-websocket", {"Upgrade": "x-websocket"}),
):
    not_taken(f"H.4.{number}", "RFC 9110 7.8", SWITCH, f"a handshake {what}", change)
add(
    "H.4.13",
    "RFC 9110 7.8",
    MAY,
    'protocol         = protocol-name ["/" protocol-version]',
    "a handshake with Upgrade: websocket/13",
    "101 or any other response",
    left_open(changed({"Upgrade": "websocket/13"}), "websocket/13 is accepted as websocket"),
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
    (6, "keep-alive, and a second field Connection: Upgrade", ["keep-alive", "Upgrade"]),
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
    not_taken(
        f"H.5.{number}", READING, f"{MALFORMED} [...] {CONNECTION}", f"a handshake {what}", change
    )
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
OTHER_KEY = "AQIDBAUGBwgJCgsMDQ4PEC=="
NOT_DECODED = (
    "RFC 6455 4.2.2: It is not necessary for the server to base64-decode the |Sec-WebSocket-Key| "
    "value."
)
NOT_TWICE = "the rule that it appears once binds the client (RFC 6455 11.3)"
for number, what, value in (
    (2, "that is empty", ""),
    (3, "of 15 bytes", "AAAAAAAAAAAAAAAAAAAA"),
    (4, "of 17 bytes", "AAAAAAAAAAAAAAAAAAAAAAA="),
    (5, "of 16 bytes without padding", "dGhlIHNhbXBsZSBub25jZQ"),
    (6, "of 24 characters that are not base64", "dGhlIHNhbXBs*SBub25jZQ=="),
    (7, "in base64url", "_-_-_-_-_-_-_-_-_-_-_w=="),
    (8, "with a space in it", "dGhlIHNhbXBs ZSBub25jZQ=="),
    (9, "that is 16 characters of plain text", "the sample nonce"),
    (10, "of 32 bytes", "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA="),
    (11, "with one excess =", "dGhlIHNhbXBsZSBub25jZQ==="),
    (12, "with junk after the padding", "dGhlIHNhbXBsZSBub25jZQ==x"),
):
    refuse(
        f"H.6.{number}", KEY_RULE, f"a handshake with a key {what}",
        {"Sec-WebSocket-Key": value}, NOT_DECODED,
    )  # fmt: skip
refuse("H.6.1", KEY_RULE, "a handshake without Sec-WebSocket-Key", {"Sec-WebSocket-Key": None})
for number, what, keys in (
    (13, "that differ", [KEY, OTHER_KEY]),
    (14, "that are the same", [KEY, KEY]),
):
    refuse(
        f"H.6.{number}", KEY_RULE, f"a handshake with two keys {what}",
        {"Sec-WebSocket-Key": keys}, NOT_TWICE,
    )  # fmt: skip
refuse(
    "H.6.15", KEY_RULE, "a handshake with two keys in one field",
    {"Sec-WebSocket-Key": f"{KEY}, {OTHER_KEY}"}, NOT_DECODED,
)  # fmt: skip
for number, what, key in (
    (16, "of 16 zero bytes", "AAAAAAAAAAAAAAAAAAAAAA=="),
    (17, "made of / and +", "/+/+/+/+/+/+/+/+/+/+/w=="),
    (18, "with nonzero pad bits, as in the example of section 4.1", OTHER_KEY),
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

# ---- H.7: the WebSocket version -----------------------------------------------------------------

VERSION = "A |Sec-WebSocket-Version| header field, with a value of 13."
for number, value in enumerate(("", "x", "0", "12", "14", "255", "256", "013", "+13", "13.0"), 2):
    refuse(
        f"H.7.{number}", VERSION, f"a handshake with Sec-WebSocket-Version: {value}",
        {"Sec-WebSocket-Version": value},
    )  # fmt: skip
refuse(
    "H.7.1", VERSION, "a handshake without Sec-WebSocket-Version", {"Sec-WebSocket-Version": None}
)
refuse(
    "H.7.12", VERSION, "a handshake with Sec-WebSocket-Version: 13, 8",
    {"Sec-WebSocket-Version": "13, 8"},
)  # fmt: skip
for number, what, versions in (
    (13, "with two versions, 13 and 8", ["13", "8"]),
    (14, "with two versions, 8 and 13", ["8", "13"]),
    (15, "with Sec-WebSocket-Version: 13 twice", ["13", "13"]),
):
    refuse(
        f"H.7.{number}", VERSION, f"a handshake {what}", {"Sec-WebSocket-Version": versions},
        NOT_TWICE,
    )  # fmt: skip
for number, value in ((16, "8"), (17, "7")):
    add(
        f"H.7.{number}",
        ANSWERING,
        MAY,
        "If this version does not match a version understood by the server, the server MUST abort "
        "the WebSocket handshake",
        f"a handshake with the draft Sec-WebSocket-Version: {value}",
        "426, or 101 if the server also supports that draft",
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
    expects="an error status, best 426, and Sec-WebSocket-Version that includes 13; NON-STRICT: "
    "404 or no error status, as for a request without Upgrade",
)
def mismatch(test: Test) -> None:
    response = ask(test, handshake(test, {"Sec-WebSocket-Version": "99"}))[1]
    if response.status != 101 and (response.status < 400 or response.status == 404):
        raise NonStrict(f"{response.status}, as if the request had no Upgrade")
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
    expects="if the response is 426, Upgrade: websocket, and Connection that includes upgrade",
)
def upgrade_required(test: Test) -> None:
    response = ask(test, handshake(test, {"Sec-WebSocket-Version": "99"}))[1]
    expect_upgrade_field(response)


def expect_upgrade_field(response: wire.Response) -> None:
    """Check the fields of a 426, or raise Failed, or Informational for another status."""
    if response.status != 426:
        raise Informational(f"the response is {response.status}")
    if "websocket" not in tokens(response, "Upgrade"):
        raise Failed(f"a 426 with Upgrade: {response.get('Upgrade')}")
    if "upgrade" not in tokens(response, "Connection"):  # RFC 9110 section 7.8
        raise Failed(f"Upgrade is present, but not in Connection: {response.get('Connection')}")


@case(
    "H.7.20",
    "RFC 6455 4.4",
    MAY,
    "The client now repeats the handshake that conforms to version 13:",
    sends="a handshake with version 99, then a valid one if the connection stays open",
    expects="a refusal, then 101, or the end of the connection",
)
def second_try(test: Test) -> None:
    connection, response = ask(test, handshake(test, {"Sec-WebSocket-Version": "99"}))
    expect_error(response)
    read_body(connection, response)
    try:
        connection.send(handshake(test))
        second = answer(connection)
    except (Ended, NonStrict):
        return
    if second.status != 101:
        raise Failed(f"the second handshake was answered with {second.status}")


# ---- H.8: plain requests ------------------------------------------------------------------------


@case(
    "H.8.1",
    "RFC 9110 7.8",
    MUST,
    SWITCH,
    sends="a plain GET to the resource",
    expects="an HTTP response other than 101",
)
def plain_get(test: Test) -> None:
    if ask_any(test, plain(test))[1].status == 101:
        raise Failed("a plain request was answered with 101")


@case(
    "H.8.2",
    "RFC 9110 15.5.22",
    MAY,
    "the server refuses to perform the request using the current protocol but might be willing to "
    "do so after the client upgrades to a different protocol.",
    sends="a plain GET to the resource",
    expects="426 with Upgrade: websocket if the server has nothing else there",
)
def plain_required(test: Test) -> None:
    expect_upgrade_field(ask(test, plain(test))[1])


@case(
    "H.8.3",
    "RFC 6455 4.2.2",
    MAY,
    "If the requested service is not available, the server MUST send an appropriate HTTP error "
    "code (such as 404 Not Found) and abort the WebSocket handshake.",
    sends="a handshake for a resource that is unlikely to exist",
    expects="404, or 101 if the server echoes everywhere",
)
def unknown_resource(test: Test) -> None:
    response = ask(test, handshake(test, resource="/no/such/resource/7f3a"))[1]
    if response.status == 101:
        raise Informational("every resource is accepted")
    expect_error(response)


RESOURCE = 'including a "Request-URI" [RFC2616] that should be interpreted as a /resource name/'
for number, what, query in (
    (4, "with a query", "a=b&c=d"),
    (5, "with percent-encoded octets in a query", "%00%0d%0a%ff%20%2f"),
    (6, "with every character allowed in a query", "a/b?c:d@e!f$g'h(i)j*k+l,m;n=o~p-q._"),
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
    (3, "with an invalid Origin", "no origin"),
    (4, "with two Origin fields", ["http://one.example", "http://two.example"]),
):
    add(
        f"H.9.{number}",
        "RFC 6455 10.2",
        MAY,
        ORIGIN,
        f"a handshake {what}",
        "101, or 403 if the server is for certain sites",
        may_be_refused(changed({"Origin": origins})),
    )
add(
    "H.9.5",
    READING,
    MAY,
    "Optionally, an |Origin| header field. This header field is sent by all browser clients.",
    "a handshake without Origin",
    "101, or an error status if the server is only for browsers",
    may_be_refused(changed({"Origin": None})),
)

# ---- H.10: the 101 ------------------------------------------------------------------------------

REPLY = (
    "If the server chooses to accept the incoming connection, it MUST reply with a valid HTTP "
    "response indicating the following. [...]"
)


@case(
    "H.10.1",
    ANSWERING,
    MUST,
    f"{REPLY} The value of this header field is constructed by concatenating /key/, defined above "
    'in step 4 in Section 4.2.2, with the string "258EAFA5-E914-47DA-95CA-C5AB0DC85B11", taking '
    "the SHA-1 hash of this concatenated value to obtain a 20-byte value and base64-encoding (see "
    "Section 4 of [RFC4648]) this 20-byte hash.",
    sends="a handshake with the key of the example in RFC 6455 section 1.3",
    expects=f"Sec-WebSocket-Accept: {ACCEPT}",
)
def sample_key(test: Test) -> None:
    response = expect_accepted(test, handshake(test)).response
    if response.all("Sec-WebSocket-Accept") != [ACCEPT]:
        raise Failed(f"Sec-WebSocket-Accept: {response.get('Sec-WebSocket-Accept')}")


@case(
    "H.10.2",
    ANSWERING,
    MUST,
    f"{REPLY} taking the SHA-1 hash of this concatenated value to obtain a 20-byte value",
    sends="20 handshakes with random keys",
    expects="the correct Sec-WebSocket-Accept each time",
)
def random_keys(test: Test) -> None:
    for _ in range(20):
        key = wire.random_key(test.random)
        session = expect_accepted(test, handshake(test, {"Sec-WebSocket-Key": key}), key)
        session.connection.close()


@case(
    "H.10.3",
    ANSWERING,
    MUST,
    f'{REPLY} An |Upgrade| header field with value "websocket" as per RFC 2616 [RFC2616].',
    sends="a handshake",
    expects="one Upgrade field with the value websocket",
)
def upgrade_answered(test: Test) -> None:
    response = expect_accepted(test, handshake(test)).response
    if set(tokens(response, "Upgrade")) != {"websocket"}:
        raise Failed(f"Upgrade: {response.get('Upgrade')}")
    if response.all("Upgrade") != ["websocket"]:
        raise NonStrict(f"Upgrade: {response.get('Upgrade')}")


@case(
    "H.10.4",
    ANSWERING,
    MUST,
    f'{REPLY} A |Connection| header field with value "Upgrade".',
    sends="a handshake",
    expects="one Connection field that includes upgrade in any case",
)
def connection_answered(test: Test) -> None:
    response = expect_accepted(test, handshake(test)).response
    if "upgrade" not in tokens(response, "Connection"):
        raise Failed(f"Connection: {response.get('Connection')}")
    if len(response.all("Connection")) > 1:
        raise NonStrict(f"Connection, in several fields: {response.get('Connection')}")


def absent(id: str, section: str, quote: str, name: str) -> None:
    """Add a case: the 101 lacks a field, or has one of the values that the user offered."""

    def run(test: Test) -> None:
        response = expect_accepted(test, handshake(test)).response
        offers = [value for field, value in offered(test) if field.lower() == name.lower()]
        names = [part.strip() for value in offers for part in value.split(",")]
        if any(value not in names for value in response.all(name)):
            raise Failed(f"the 101 has {name}: {response.get(name)}")

    add(id, section, MUST, quote, "a handshake that offers nothing", f"no {name}", run)


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
    "H.10.7", ANSWERING, "Extensions not listed by the client MUST NOT be listed.",
    "Sec-WebSocket-Extensions",
)  # fmt: skip
absent(
    "H.10.8", ANSWERING,
    "If the client's handshake did not contain such a header field or if the server does not agree "
    "to any of the client's requested subprotocols, the only acceptable value is null. The absence "
    "of such a field is equivalent to the null value (meaning that if the server does not wish to "
    "agree to one of the suggested subprotocols, it MUST NOT send back a |Sec-WebSocket-Protocol| "
    "header field in its response).", "Sec-WebSocket-Protocol",
)  # fmt: skip


@case(
    "H.10.9",
    ANSWERING,
    MUST,
    f"{REPLY} A Status-Line with a 101 response code as per RFC 2616 [RFC2616].",
    sends="a handshake",
    expects="a head that begins with HTTP/1.1 101 and one space, and is valid HTTP in every line",
)
def status_line(test: Test) -> None:
    response = ask(test, handshake(test))[1]
    if response.status != 101:
        raise refusal(response.status)
    lines = response.head.split(b"\r\n")
    if not lines[0].startswith(b"HTTP/1.1 101 "):
        raise Failed(f"the status line is {wire.shown(lines[0])}")
    for line in lines:
        if b"\n" in line or b"\r" in line or b"\0" in line:
            raise Failed(f"not a valid line of a head: {wire.shown(line)}")
    for line in lines[1:]:
        name = line.partition(b":")[0].decode("latin-1")
        if not name or any(c <= " " or c in '"(),/:;<=>?@[\\]{}\x7f' for c in name):
            raise Failed(f"not a valid field name: {wire.shown(line)}")


@case(
    "H.10.10",
    "RFC 6455 6.1",
    MUST,
    "An endpoint MUST encapsulate the /data/ in a WebSocket frame as defined in Section 5.2.",
    sends="a handshake, then nothing for a while, then a message",
    expects="only frames after the 101, then the echo",
)
def nothing_behind(test: Test) -> None:
    session = expect_accepted(test, handshake(test))
    while session.comes(0.1):
        try:
            frame = session.read("nothing, or a Pong", test.seconds(0.1))
        except Late:  # it was a Ping
            continue
        if frame.opcode in (TEXT, BINARY):
            raise Skipped("the server sends unrequested messages")
        if frame.opcode != PONG:  # a Pong is always allowed (RFC 6455 section 5.5.3)
            raise Failed(f"received {frame} after the 101")
    session.send(session.message(b"first"))
    session.expect_message(b"first")
    session.close()


@case(
    "H.10.11",
    "RFC 6455 4.1",
    MAY,
    "There is no limit to the number of established WebSocket connections a client can have with a "
    "single remote host. Servers can refuse to accept connections from hosts/IP addresses with an "
    "excessive number of existing connections",
    sends="16 simultaneous handshakes, each on its own connection",
    expects="101 for each; INFORMATIONAL: an error status, as there may be limits",
    tags=["several"],
)
def many_at_once(test: Test) -> None:
    connections = [test.connect() for _ in range(16)]
    for connection in connections:
        connection.send(handshake(test))
    statuses = {answer(connection).status for connection in connections}
    if statuses != {101}:
        raise Informational(f"concurrent handshakes were answered with {min(statuses - {101})}")


# ---- H.27: other protocols ----------------------------------------------------------------------

IGNORE = (
    "A server MAY ignore a received Upgrade header field if it wishes to continue using the "
    "current protocol on that connection."
)
for number, protocol in ((1, "h2c"), (2, "TLS/1.0"), (3, "x-7f3a/1")):

    def other(test: Test, protocol: str = protocol) -> None:
        change: Change = {"Upgrade": protocol, "Connection": "Upgrade, HTTP2-Settings"}
        data = handshake(test, {**change, "HTTP2-Settings": "AAMAAABkAAQAAP__"})
        response = ask_any(test, data)[1]
        if response.status == 101 and protocol.lower() not in tokens(response, "Upgrade"):
            raise Failed(f"101 for {protocol} with Upgrade: {response.get('Upgrade')}")
        if response.status == 101:
            raise Informational(f"the server supports {protocol}")

    add(
        f"H.27.{number}",
        "RFC 9110 7.8",
        MUST,
        f"{SWITCH} [...] {IGNORE}",
        f"a request with Upgrade: {protocol} and the other fields of a handshake",
        "an HTTP response, but no 101 for websocket",
        other,
    )
add(
    "H.27.4",
    "RFC 9110 7.6.1",
    MAY,
    'The "Connection" header field allows the sender to list desired control options for the '
    "current connection.",
    "a handshake whose Connection also lists Sec-WebSocket-Key",
    "101, or an error status: the field is only for the next hop, which this server is",
    may_be_refused(changed({"Connection": "Upgrade, Sec-WebSocket-Key"})),
)
add(
    "H.27.5",
    FIELDS,
    SHOULD,
    UNKNOWN,
    "a handshake with the fields of drafts before RFC 6455",
    IS_ACCEPTED,
    accepted(with_line(b"Sec-WebSocket-Key1: 4 @1  46546xW%0l 1 5\r\nSec-WebSocket-Draft: 2")),
)
