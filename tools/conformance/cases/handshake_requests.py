# SPDX-License-Identifier: MIT
"""The opening handshake (RFC 6455 section 4), group H: what a server has to accept and to refuse.

H.0 tests unusual but valid requests. H.1 to H.7 follow the items of section 4.2.1 (method, HTTP
version, Host, Upgrade, Connection, key, version). H.8 to H.10 and H.27 are in handshake_answers.py;
H.11 to H.13, which are about lists, are in lists.py. Requests that are not valid HTTP are in group
P.

If a server only ends the connection instead of sending an error status, it is NON-STRICT: the
client cannot connect, but does not learn why. The same applies if it answers as if the request had
no Upgrade, which any server may ignore (RFC 9110 section 7.8).
"""

from __future__ import annotations

from .. import wire
from ..case import MAY, MUST, SHOULD, Run, Test, add, case
from ..verdicts import Failed, Informational, NonStrict
from ..wire import Ended
from .heads import (
    KEY,
    Change,
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
    offered,
    read_body,
    refused,
    swapped,
    tokens,
    turned_down,
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
