# SPDX-License-Identifier: MIT
"""The opening handshake (RFC 6455 section 4), group H: what a server answers.

Plain requests and other resources (H.8), Origin (H.9), the 101 (H.10), and upgrades to other
protocols (H.27). The fields of a request are in handshake_requests.py.
"""

from __future__ import annotations

from .. import wire
from ..case import MAY, MUST, SHOULD, Test, add, case
from ..verdicts import Failed, Informational, Late, NonStrict, Skipped, refusal
from ..wire import BINARY, PONG, TEXT
from .handshake_requests import (
    ANSWERING,
    FIELDS,
    IS_ACCEPTED,
    READING,
    SWITCH,
    UNKNOWN,
    expect_upgrade_field,
)
from .heads import (
    ACCEPT,
    Change,
    accepted,
    answer,
    ask,
    ask_any,
    changed,
    expect_accepted,
    expect_error,
    handshake,
    may_be_refused,
    offered,
    plain,
    tokens,
    with_line,
)

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
