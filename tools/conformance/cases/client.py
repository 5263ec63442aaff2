# SPDX-License-Identifier: MIT
"""The opening handshake of a client, group C, for --listen: what a client sends (C.1), how it masks
frames, and how it reacts to masked frames (C.9). Which responses a client has to accept or refuse
is in client_answers.py.

Each case checks the request of its own connection, and then ends the connection.
"""

from __future__ import annotations

import base64
import binascii
import re
from typing import Callable
from urllib.parse import urlsplit

from .. import deflate, wire
from ..case import MUST, SHOULD, Run, Test, add, case
from ..listen import ClientTest
from ..verdicts import Failed, Informational, NonStrict, Skipped, Unimplemented
from ..wire import BINARY, CLOSE, CONTINUATION, PING, TEXT

OPENING = "RFC 6455 4.1"
PROTOCOL, EXTENSIONS = "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions"
TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+")
A_HANDSHAKE = "its opening handshake is checked"
FIELD_LINE = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[\t\x20-\x7e\x80-\xff]*")


def client(test: Test) -> ClientTest:
    """Raise Skipped if a server is tested."""
    if not isinstance(test, ClientTest):
        raise Skipped("this case tests clients only")
    return test


# ---- C.1: what a client sends -------------------------------------------------------------------


def lines_of(test: ClientTest) -> list[str]:
    """Return the lines of the head, starting with the request line."""
    return test.asked.head.decode("latin-1").split("\r\n")


def values(test: ClientTest, name: str) -> list[str]:
    """Return the values of all fields with that name."""
    found = (line.partition(":") for line in lines_of(test)[1:])
    named = ((field.strip(" \t").lower(), value.strip(" \t")) for field, _, value in found)
    return [value for field, value in named if field == name.lower()]


def elements(test: ClientTest, name: str) -> list[str]:
    """Return the elements of a list in all fields with that name."""
    return [one.strip(" \t") for value in values(test, name) for one in value.split(",")]


def one_value(test: ClientTest, name: str) -> str:
    """Return the value of the first field with that name, or raise Failed if there is none."""
    found = values(test, name)
    if not found:
        raise Failed(f"the handshake has no {name}")
    return found[0]


def sends(
    id: str,
    quote: str,
    subject: str,
    expects: str,
    check: Run,
    section: str = OPENING,
    level: str = MUST,
) -> None:
    """Add a case that checks the request, then answers and closes."""

    def run(test: Test) -> None:
        try:
            check(test)
        finally:
            client(test).dismiss()

    add(id, section, level, quote, f"nothing; this case checks {subject}", expects, run, ["client"])


def asked(check: Callable[[ClientTest], None]) -> Run:
    return lambda test: check(client(test))


def method(test: ClientTest) -> None:
    line = lines_of(test)[0]
    if line.split(" ")[0] != "GET":
        raise Failed(f"the request line is {line!r}")


def version(test: ClientTest) -> None:
    line = lines_of(test)[0]
    if not re.fullmatch(r"HTTP/(1\.[1-9]|[2-9]\.\d)", line.split(" ")[-1]):
        raise Failed(f"the request line is {line!r}")


def target(test: ClientTest) -> None:
    """Check the target: origin form, or absolute form with the same host as Host."""
    line = lines_of(test)[0]
    words = line.split(" ")
    if len(words) != 3 or not re.fullmatch(r"[\x21-\x7e]+", words[1]):
        raise Failed(f"the request line is {line!r}")
    if words[1].startswith("/"):
        return
    try:
        parts = urlsplit(words[1])
        host = (parts.hostname or "").lower()
    except ValueError:
        raise Failed(f"the target is {words[1]!r}") from None
    if parts.scheme.lower() not in ("http", "https") or not host:
        raise Failed(f"the target is {words[1]!r}")
    if parts.netloc.lower() != one_value(test, "Host").lower():
        raise Failed(f"the target is {words[1]!r}, and Host {one_value(test, 'Host')!r}")


def no_fragment(test: ClientTest) -> None:
    if "#" in lines_of(test)[0]:
        raise Failed(f"the request line is {lines_of(test)[0]!r}")


def host(test: ClientTest) -> None:
    one_value(test, "Host")


HOST = re.compile(r"(?:\[[0-9A-Fa-f:.]+(?:%25[\w.~-]+)?\]|[\w.~!$&'()*+,;=%-]+)(?::(?P<port>\d*))?")


def authority(test: ClientTest) -> None:
    """Check that Host is only host and port, and that the port is ours unless it is forwarded."""
    if not values(test, "Host"):
        raise Skipped("the handshake has no Host")
    value = one_value(test, "Host")
    match = HOST.fullmatch(value)
    if not match:
        raise Failed(f"Host is {value!r}")
    default = "443" if test.is_secure else "80"
    port = match["port"] or default
    if test.port and int(port) != test.port:
        raise Informational(f"Host is {value!r}, but the port here is {test.port}: forwarded?")


def once(name: str) -> Callable[[ClientTest], None]:
    def check(test: ClientTest) -> None:
        found = values(test, name)
        if not found:
            raise Skipped(f"the handshake has no {name}")
        if len(found) > 1:
            raise Failed(f"the handshake has {len(found)} {name} fields")

    return check


def has_element(name: str, wanted: str) -> Callable[[ClientTest], None]:
    def check(test: ClientTest) -> None:
        one_value(test, name)
        if wanted.lower() not in (one.lower() for one in elements(test, name)):
            raise Failed(f"{name} is {', '.join(values(test, name))!r}")

    return check


def key(test: ClientTest) -> None:
    value = one_value(test, "Sec-WebSocket-Key")
    try:
        decoded = base64.b64decode(value.encode("latin-1"), validate=True)
    except binascii.Error:
        raise Failed(f"the key is not base64: {value!r}") from None
    if len(decoded) != 16:
        raise Failed(f"the key has {len(decoded)} bytes: {value!r}")


def fresh_key(test: ClientTest) -> None:
    if not test.asked.key:
        raise Skipped("the handshake has no Sec-WebSocket-Key")
    value = one_value(test, "Sec-WebSocket-Key")
    if test.keys[value] > 1:
        raise Failed(f"{test.keys[value]} connections had the key {value!r}")
    if sum(test.keys.values()) < 2:
        raise Skipped("the client has made no earlier connection")


def websocket_version(test: ClientTest) -> None:
    value = one_value(test, "Sec-WebSocket-Version")
    if value != "13":
        raise Failed(f"Sec-WebSocket-Version is {value!r}")


def offered(test: ClientTest, name: str) -> list[str]:
    """Return the values of an optional field, or raise Unimplemented if there is none."""
    found = values(test, name)
    if not found:
        raise Unimplemented(f"the client sends no {name}")
    return found


def protocols(test: ClientTest) -> None:
    offered(test, PROTOCOL)
    names = elements(test, PROTOCOL)
    bad = [name for name in names if not TOKEN.fullmatch(name)]
    if bad:
        raise Failed(f"{bad[0]!r} is not a subprotocol name")
    if len(set(names)) != len(names):
        raise Failed(f"a subprotocol is repeated: {', '.join(names)}")


def extensions(test: ClientTest) -> None:
    value = ", ".join(offered(test, EXTENSIONS))
    try:
        found = deflate.parse(value)
    except deflate.Malformed:
        raise Failed(f"{EXTENSIONS}: {value} is malformed") from None
    for extension in found:
        for name, given in extension.parameters:
            if given is not None and not TOKEN.fullmatch(given):
                raise Failed(f"the value of {name} is not a token: {given!r}")


def deflate_offer(test: ClientTest) -> None:
    value = ", ".join(offered(test, EXTENSIONS))
    try:
        found = [one for one in deflate.parse(value) if one.name == deflate.NAME]
    except deflate.Malformed:
        raise Skipped(f"{EXTENSIONS}: {value} is malformed") from None
    if not found:
        raise Unimplemented(f"the client does not offer {deflate.NAME}")
    for extension in found:
        unknown = [n for n, _ in extension.parameters if n not in (*deflate.FLAGS, *deflate.BITS)]
        if unknown:
            raise Failed(f"{EXTENSIONS}: {value}: {unknown[0]} is not a known parameter")
        problem = deflate.fault(extension, in_offer=True)
        if problem:
            raise NonStrict(f"a server has to decline {EXTENSIONS}: {value}: {problem}")


def head(test: ClientTest) -> None:
    """Check that lines end with CRLF, and that each except the first is a field."""
    for line in lines_of(test)[1:]:
        if not FIELD_LINE.fullmatch(line):
            raise Failed(f"a line of the head is {line!r}")


def no_body(test: ClientTest) -> None:
    """Check that no body is announced, which would be data before the response."""
    length, coding = values(test, "Content-Length"), values(test, "Transfer-Encoding")
    if coding or any(value.strip("0") for value in length):
        raise Failed("the handshake announces a body")


def waits(test: ClientTest) -> None:
    """Check that the client sends nothing before the response."""
    connection = test.connections[0]
    try:
        if not connection.buffer:
            connection.fill(connection.deadline(test.seconds(0.3)))
    except wire.TimedOut:
        return
    except wire.Ended as error:
        raise Failed(f"the client does not wait for the response: {error}") from None
    came = wire.shown(bytes(connection.buffer))
    raise Failed(f"the client does not wait for the response: received {came}")


def origin(test: ClientTest) -> None:
    value = ", ".join(offered(test, "Origin"))
    if value != "null" and not re.fullmatch(r"[a-z][a-z0-9+.-]*://[^\s/?#@\\,]*", value, re.I):
        raise Failed(f"Origin is {value!r}")


def server_name(test: ClientTest) -> None:
    """Check the server name; IP addresses are not sent (RFC 6066 section 3)."""
    if not test.is_secure:
        raise Skipped("this case is only for wss://, see --cert")
    name = one_value(test, "Host").rpartition(":")[0] or one_value(test, "Host")
    if re.fullmatch(r"[\d.]+|\[.*\]", name):
        raise Skipped(f"the client connects to the address {name}, not to a name")
    if test.asked.name is None:
        raise Failed("the TLS handshake has no Server Name Indication")


METHOD = "The method of the request MUST be GET, and the HTTP version MUST be at least 1.1."
VALID = "The handshake MUST be a valid HTTP request as specified by [RFC2616]."
GRAMMAR = (
    "A sender MUST NOT generate protocol elements that do not match the grammar defined by the "
    "corresponding ABNF rules."
)

sends("C.1.1", METHOD, "the method", "GET", asked(method))
sends("C.1.2", METHOD, "the HTTP version", "HTTP/1.1", asked(version))
sends(
    "C.1.3",
    'The "Request-URI" part of the request MUST match the /resource name/ defined in Section 3 (a '
    "relative URI) or be an absolute http/https URI that, when parsed, has a /resource name/, "
    "/host/, and /port/ that match the corresponding ws/wss URI.",
    "the target",
    "/..., or http:// or https:// with the value of Host",
    asked(target),
)
sends(
    "C.1.4",
    "Fragment identifiers are meaningless in the context of WebSocket URIs and MUST NOT be used on "
    "these URIs.",
    "the target",
    "no #",
    asked(no_fragment),
    "RFC 6455 3",
)
HOST_FIELD = (
    'The request MUST contain a |Host| header field whose value contains /host/ plus optionally ":"'
    " followed by /port/ (when not using the default port)."
)
sends("C.1.5", HOST_FIELD, "Host", "the field is present", asked(host))
sends("C.1.6", HOST_FIELD, "Host", "a host, and the port unless it is 80 or 443", asked(authority))
sends(
    "C.1.7",
    'The request MUST contain an |Upgrade| header field whose value MUST include the "websocket" '
    "keyword.",
    "Upgrade",
    "it includes websocket",
    asked(has_element("Upgrade", "websocket")),
)
sends(
    "C.1.8",
    'The request MUST contain a |Connection| header field whose value MUST include the "Upgrade" '
    "token.",
    "Connection",
    "it includes Upgrade",
    asked(has_element("Connection", "Upgrade")),
)
sends(
    "C.1.9",
    "The request MUST include a header field with the name |Sec-WebSocket-Key|.  The value of this "
    "header field MUST be a nonce consisting of a randomly selected 16-byte value that has been "
    "base64-encoded (see Section 4 of [RFC4648]).",
    "Sec-WebSocket-Key",
    "16 bytes in base64",
    asked(key),
)
sends(
    "C.1.10",
    "The nonce MUST be selected randomly for each connection.",
    "Sec-WebSocket-Key",
    "different from all earlier connections",
    asked(fresh_key),
)
sends(
    "C.1.11",
    "The request MUST include a header field with the name |Sec-WebSocket-Version|.  The value of "
    "this header field MUST be 13.",
    "Sec-WebSocket-Version",
    "13",
    asked(websocket_version),
)
for number, name, section, quote in (
    (
        12,
        "Sec-WebSocket-Key",
        "RFC 6455 11.3.1",
        "The |Sec-WebSocket-Key| header field MUST NOT appear more than once in an HTTP request.",
    ),
    (
        13,
        "Sec-WebSocket-Version",
        "RFC 6455 11.3.5",
        "the |Sec-WebSocket-Version| header field MUST NOT appear more than once in an HTTP "
        "request.",
    ),
    (
        14,
        "Host",
        "RFC 9110 5.3",
        "a sender MUST NOT generate multiple field lines with the same name in a message (whether "
        "in the headers or trailers) or append a field line when a field line of the same name "
        "already exists in the message, unless that field's definition allows multiple field line "
        "values to be recombined as a comma-separated list",
    ),
):
    sends(f"C.1.{number}", quote, name, "one field", asked(once(name)), section)
sends(
    "C.1.15",
    "The elements that comprise this value MUST be non-empty strings with characters in the range "
    "U+0021 to U+007E not including separator characters as defined in [RFC2616] and MUST all be "
    "unique strings.",
    PROTOCOL,
    "unique tokens",
    asked(protocols),
)
sends(
    "C.1.16", GRAMMAR, EXTENSIONS, "a list according to RFC 6455 section 9.1", asked(extensions),
    "RFC 9110 2.2",
)  # fmt: skip
sends(
    "C.1.17",
    "The parameters supplied with any given extension MUST be defined for that extension.",
    deflate.NAME,
    "unique parameters according to RFC 7692 section 7.1",
    asked(deflate_offer),
    "RFC 6455 9.1",
)
sends("C.1.18", VALID, "the lines of the head", "fields that end with CRLF", asked(head))
sends(
    "C.1.19",
    "Once the client's opening handshake has been sent, the client MUST wait for a response from "
    "the server before sending any further data.",
    "data after the handshake",
    "nothing until it is answered",
    asked(waits),
)
sends(
    "C.1.20",
    "A client SHOULD NOT generate content in a GET request unless it is made directly to an origin "
    "server that has previously indicated",
    "Content-Length and Transfer-Encoding",
    "no body",
    asked(no_body),
    "RFC 9110 9.3.1",
    SHOULD,
)
sends("C.1.21", GRAMMAR, "Origin", "null, or scheme, host and port", asked(origin), "RFC 9110 2.2")
sends(
    "C.1.22",
    "Clients MUST use the Server Name Indication extension in the TLS handshake [RFC6066].",
    "the TLS handshake",
    "it has the name of the server",
    asked(server_name),
)

# ---- C.9: masking -------------------------------------------------------------------------------

MASKED = "A client MUST close a connection if it detects a masked frame."
KEY = b"\x37\xfa\x21\x3d"  # the example of RFC 6455 section 5.7


def masked_frame(frame: bytes, together: bool = False) -> Run:
    """Send a masked frame, perhaps with the response; the client must close the connection."""

    def run(test: Test) -> None:
        session = client(test).accept(ahead=frame if together else b"")
        if not together:
            session.send(frame)
        session.expect_failure(1002)

    return run


for number, what, data, together in (
    (1, "a masked text message", wire.frame(b"masked", key=KEY), False),
    (2, "a message masked with a key of zeros", wire.frame(b"masked", key=bytes(4)), False),
    (3, "an empty masked message", wire.frame(b"", BINARY, key=KEY), False),
    (4, "a masked Ping", wire.frame(b"masked", PING, key=KEY), False),
    (5, "a masked text message together with the response", wire.frame(b"masked", key=KEY), True),
    (
        6,
        "a message whose second frame is masked",
        wire.frame(b"not ", fin=False, key=None) + wire.frame(b"masked", CONTINUATION, key=KEY),
        False,
    ),
):
    add(
        f"C.9.{number}",
        "RFC 6455 5.1",
        MUST,
        MASKED,
        what,
        "the connection is closed with 1002 or without a Close",
        masked_frame(data, together),
        ["client"],
    )


def masking_keys(test: ClientTest, count: int) -> list[int]:
    """Return the masking keys of the echoes of short messages as integers."""
    session = test.accept()
    connection = session.connection
    session.send(session.message(b"some text") * count)
    keys: list[int] = []
    try:
        while len(keys) < count:
            first, second = connection.read(2)
            if second < 128 or second & 127 > 125 or first & 15 == CLOSE:
                raise Skipped("the client does not echo short messages")
            masking_key = connection.read(4)
            connection.read(second & 127)
            if first & 15 in (CONTINUATION, TEXT, BINARY):
                keys.append(int.from_bytes(masking_key, "big"))
    except (wire.Ended, wire.TimedOut) as error:
        raise Skipped(f"the client does not echo {count} messages: {error}") from None
    session.close()
    return keys


@case(
    "C.9.7",
    "RFC 6455 5.3",
    MUST,
    "When preparing a masked frame, the client MUST pick a fresh masking key from the set of "
    "allowed 32-bit values.",
    sends="twenty messages",
    expects="echoes with twenty different masking keys",
    tags=["client"],
)
def fresh_masks(test: Test) -> None:
    keys = masking_keys(client(test), 20)
    for one in keys:
        if keys.count(one) > 1:
            raise Failed(f"{keys.count(one)} of {len(keys)} frames have the masking key {one:08x}")


@case(
    "C.9.8",
    "RFC 6455 5.3",
    MUST,
    "the masking key for a given frame MUST NOT make it simple for a server/proxy to predict the "
    "masking key for a subsequent frame.",
    sends="twenty messages",
    expects="echoes whose masking keys do not change in constant steps",
    tags=["client"],
)
def unpredictable_masks(test: Test) -> None:
    keys = masking_keys(client(test), 20)
    steps = {(b - a) & 0xFFFFFFFF for a, b in zip(keys, keys[1:])}
    if len(steps) == 1:
        raise Failed(f"each masking key is the previous one plus {steps.pop()}, from {keys[0]:08x}")
