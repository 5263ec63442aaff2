# SPDX-License-Identifier: MIT
"""Extensions (C.6) and subprotocols (C.7) in the response to a client's opening handshake."""

from __future__ import annotations

from typing import Callable, Sequence

from .. import deflate, listen
from ..case import MUST, SHOULD, Run, Test, case
from ..listen import ClientTest
from ..verdicts import NonStrict, Skipped, Unimplemented
from .client import EXTENSIONS, PROTOCOL, elements
from .client_answers import (
    CONFORM,
    EMPTY,
    ESTABLISHED,
    FRAMES,
    HELLO,
    TAKEN,
    Make,
    head,
    open_question,
    plain,
    put,
    ready,
    refused,
    taken,
)

LARGEST = deflate.Terms(False, False, 15, 15)

# ---- C.6: extensions ----------------------------------------------------------------------------

NOT_ASKED = (
    "If the response includes a |Sec-WebSocket-Extensions| header field and this header field "
    "indicates the use of an extension that was not present in the client's handshake (the server "
    "has indicated an extension not requested by the client), the client MUST _Fail the WebSocket "
    "Connection_."
)
MALFORMED = (
    "If a value is received by either the client or the server during negotiation that does not "
    "conform to the ABNF below, the recipient of such malformed data MUST immediately _Fail the "
    "WebSocket Connection_."
)
BAD_RESPONSE = (
    "A client MUST _Fail the WebSocket Connection_ if the peer server accepted an extension "
    "negotiation offer for this extension with an extension negotiation response meeting any of the"
    " following conditions:"
)
UNDEFINED, INVALID, REPEATED = (
    f"{BAD_RESPONSE} [...] The negotiation response contains {what}"
    for what in (
        "an extension parameter not defined for use in a response.",
        "an extension parameter with an invalid value.",
        "multiple extension parameters with the same name.",
    )
)
CONFLICT = (
    "A client that received a response accepting a PMCE extension negotiation offer together with "
    "such an extension MUST _Fail the WebSocket Connection_."
)
INVALID_RESPONSE = (
    "If a server gives an invalid response, such as accepting a PMCE that the client did not offer,"
    " the client MUST _Fail the WebSocket Connection_."
)


def offers(test: ClientTest) -> list[deflate.Parameters]:
    """Return the offers of permessage-deflate, or raise Unimplemented if there are none."""
    found = listen.offers_of(test.asked.fields.get(EXTENSIONS.lower(), ""))
    if not found:
        test.dismiss()
        raise Unimplemented(f"the client does not offer {deflate.NAME}")
    return found


def extension_of(test: ClientTest) -> str:
    """Return the plainest answer to the client's offers, or raise Unimplemented."""
    offers(test)
    agreed = listen.terms(deflate.NAME, test.asked.fields[EXTENSIONS.lower()])
    if agreed is None:
        test.dismiss()
        raise Unimplemented("no offer of the client fits this case")
    return listen.extension({listen.SWAPPED[name]: value for name, value in agreed.items()})


def agreeing(rest: str) -> Make:
    """Return a response that accepts permessage-deflate, followed by this text."""
    return lambda test: head({EXTENSIONS: extension_of(test) + rest})(test)


for number, value in enumerate(
    ("x-conformance", "permessage-conformance", "permessage-deflate-conformance",
     "deflate-conformance; x=1"), 1,
):  # fmt: skip
    put(f"C.6.{number}", NOT_ASKED, f"{EXTENSIONS}: {value}", refused(head({EXTENSIONS: value})))


def without_offer(test: ClientTest) -> bytes:
    """Return a response with permessage-deflate, which was not offered."""
    if deflate.NAME in test.asked.fields.get(EXTENSIONS.lower(), "").lower():
        test.dismiss()
        raise Skipped(f"the client offers {deflate.NAME}")
    return head({EXTENSIONS: deflate.NAME})(test)


put("C.6.5", NOT_ASKED, f"{EXTENSIONS}: {deflate.NAME}, which the client did not offer",
    refused(without_offer))  # fmt: skip
for number, sends, make in (
    (6, "followed by x-conformance", agreeing(", x-conformance")),
    (7, "preceded by x-conformance",
     lambda test: head({EXTENSIONS: f"x-conformance, {extension_of(test)}"})(test)),
):  # fmt: skip
    put(f"C.6.{number}", NOT_ASKED, f"{EXTENSIONS}: {deflate.NAME} {sends}", refused(make))
# It is debatable whether the same extension again is "another extension".
put(
    "C.6.8",
    CONFLICT,
    f"{EXTENSIONS}: {deflate.NAME} twice",
    refused(
        lambda test: head({EXTENSIONS: f"{extension_of(test)}, {extension_of(test)}"})(test),
        NonStrict,
    ),
    section="RFC 7692 5",
)
for first, quote, rows in (
    (11, UNDEFINED, ("x_conformance", "x_conformance=1", "server_max_window_bit=10")),
    (21, INVALID, (
        "server_no_context_takeover=1",
        "client_no_context_takeover=true",
        "server_max_window_bits",
        "server_max_window_bits=7",
        "server_max_window_bits=16",
        "server_max_window_bits=0",
        "server_max_window_bits=010",
        "server_max_window_bits=-9",
        "server_max_window_bits=+9",
        "server_max_window_bits=9x",
        "server_max_window_bits=4294967305",
        "client_max_window_bits",
        "client_max_window_bits=7",
        "client_max_window_bits=16",
        "client_max_window_bits=08",
        "client_max_window_bits=10.0",
    )),
    (51, REPEATED, (
        "server_no_context_takeover; server_no_context_takeover",
        "client_no_context_takeover; client_no_context_takeover",
        "server_max_window_bits=12; server_max_window_bits=12",
        "server_max_window_bits=12; server_max_window_bits=11",
    )),
):  # fmt: skip
    for number, value in enumerate(rows, first):
        put(
            f"C.6.{number}", quote, f"{EXTENSIONS}: {deflate.NAME}; {value}",
            refused(agreeing(f"; {value}")), section="RFC 7692 7",
        )  # fmt: skip


def client_bits_unasked(test: ClientTest) -> bytes:
    if any(deflate.CLIENT_BITS in offer for offer in offers(test)):
        test.dismiss()
        raise Skipped(f"the client offers {deflate.CLIENT_BITS}")
    return agreeing(f"; {deflate.CLIENT_BITS}=12")(test)


def server_bits_ignored(test: ClientTest) -> bytes:
    """Ignore the smaller window that the client asks for in each offer."""
    asked = [offer.get(deflate.SERVER_BITS) for offer in offers(test)]
    if any(bits in (None, "15") for bits in asked):
        test.dismiss()
        raise Skipped(f"the client does not ask for {deflate.SERVER_BITS} below 15")
    rest = f"; {deflate.SERVER_NO_CONTEXT}" if takeover_refused(test) else ""
    return head({EXTENSIONS: deflate.NAME + rest})(test)


def takeover_refused(test: ClientTest) -> bool:
    return all(deflate.SERVER_NO_CONTEXT in offer for offer in offers(test))


def takeover_ignored(test: ClientTest) -> bytes:
    """Ignore that the client asks for no context takeover in each offer."""
    if not takeover_refused(test):
        test.dismiss()
        raise Skipped(f"the client does not ask for {deflate.SERVER_NO_CONTEXT}")
    bits = [offer.get(deflate.SERVER_BITS) for offer in offers(test)]
    rest = f"; {deflate.SERVER_BITS}={bits[0]}" if bits[0] else ""
    return head({EXTENSIONS: deflate.NAME + rest})(test)


for number, sends, make in (
    (61, "client_max_window_bits=12 for a client that does not offer it", client_bits_unasked),
    (62, "without server_max_window_bits for a client that asks for it", server_bits_ignored),
    (63, "without server_no_context_takeover for a client that asks for it", takeover_ignored),
):
    put(
        f"C.6.{number}", INVALID_RESPONSE, f"{EXTENSIONS}: {deflate.NAME}; {sends}", refused(make),
        section="RFC 7692 5",
    )  # fmt: skip


def malformed(value: str) -> Make:
    """Replace {} by the extension that the client offers, or by permessage-deflate."""

    def make(test: ClientTest) -> bytes:
        offered = listen.offers_of(test.asked.fields.get(EXTENSIONS.lower(), ""))
        good = extension_of(test) if offered else deflate.NAME
        return head({EXTENSIONS: value.format(good)})(test)

    return make


for number, value in enumerate(
    (
        "{};",
        "{}; ;",
        "; {}",
        "{}; =10",
        "{}; server_max_window_bits=",
        '{}; server_max_window_bits="10',
        '{}; server_max_window_bits=""',
        "{} server_no_context_takeover",
        "{}; server_no_context_takeover client_no_context_takeover",
        '"{}"',
        "{}=1",
        "{}; (server_no_context_takeover)",
    ),
    71,
):
    told = value.format(deflate.NAME)
    put(
        f"C.6.{number}", MALFORMED, f"{EXTENSIONS}: {told}", refused(malformed(value)),
        section="RFC 6455 9.1",
    )  # fmt: skip
open_question(
    "C.6.91",
    "RFC 6455 9.1",
    "extension-list = 1#extension",
    f"a response with an empty {EXTENSIONS}",
    head({EXTENSIONS: ""}),
)


def taken_compressed(rest: str) -> Run:
    """Expect that the client accepts the extension in this form."""

    def run(test: Test) -> None:
        mine = ready(test)
        channel = deflate.Channel(mine.accept(agreeing(rest)(mine)), LARGEST)
        channel.session.send(plain(HELLO))
        channel.expect(HELLO)
        channel.close()

    return run


QUOTED = "The quoted and unquoted values are equivalent."
for number, rest, section, level, quote in (
    (92, '; server_max_window_bits="10"', "RFC 9110 5.6.6", SHOULD, QUOTED),
    (93, " ;\tserver_no_context_takeover  ", "RFC 6455 9.1", SHOULD,
     "Note that this section is using ABNF syntax/rules from [RFC2616], including the \"implied "
     '*LWS rule".'),
    (94, ";server_no_context_takeover;server_max_window_bits=10", "RFC 6455 9.1", MUST,
     'extension = extension-token *( ";" extension-param )'),
    (95, "; client_no_context_takeover", "RFC 7692 7.1.1.2", MUST,
     'A client MUST support the "client_no_context_takeover" extension parameter in an extension '
     "negotiation response."),
    (96, ", ,", "RFC 9110 5.6.1.2", MUST, EMPTY),
):  # fmt: skip
    put(f"C.6.{number}", quote, f"{EXTENSIONS}: {deflate.NAME}{rest}", taken_compressed(rest),
        TAKEN, level, section)  # fmt: skip

# ---- C.7: subprotocols --------------------------------------------------------------------------

NOT_REQUESTED = (
    "If the response includes a |Sec-WebSocket-Protocol| header field and this header field "
    "indicates the use of a subprotocol that was not present in the client's handshake (the server "
    "has indicated a subprotocol not requested by the client), the client MUST _Fail the WebSocket "
    "Connection_."
)


def with_protocol(made: Callable[[list[str]], str | Sequence[str] | None]) -> Make:
    """Make a value from the client's subprotocols, or raise Unimplemented if it asks for none."""

    def make(test: ClientTest) -> bytes:
        names = [name for name in elements(test, PROTOCOL) if name]
        value = made(names) if names else None
        if value is None:
            test.dismiss()
            raise Unimplemented("no subprotocol of the client fits this case")
        return head({PROTOCOL: value})(test)

    return make


def other_case(names: list[str]) -> str | None:
    """Return the first name with its case swapped, or None if the list includes that too."""
    return None if names[0].swapcase() in names else names[0].swapcase()


def without_protocol(test: ClientTest) -> bytes:
    """Require that the client asks for subprotocols, or raise Unimplemented."""
    with_protocol(lambda names: names[0])(test)
    return head({PROTOCOL: None})(test)


put("C.7.1", NOT_REQUESTED, f"{PROTOCOL}: x-conformance",
    refused(head({PROTOCOL: "x-conformance"})))  # fmt: skip
for number, sends, made in (
    (2, "a requested one followed by -2", lambda names: f"{names[0]}-2"),
    (3, "a requested one with its case swapped", other_case),
    (4, "a requested one, x-conformance", lambda names: f"{names[0]}, x-conformance"),
    (5, "x-conformance, a requested one", lambda names: f"x-conformance, {names[0]}"),
):  # fmt: skip
    put(f"C.7.{number}", NOT_REQUESTED, f"{PROTOCOL}: {sends}", refused(with_protocol(made)))
put(
    "C.7.6",
    CONFORM,
    f"an empty {PROTOCOL}, which RFC 6455 4.2.2 does not allow",
    refused(head({PROTOCOL: ""})),
)
for number, sends, made in (
    (7, "the first requested one", lambda names: names[0]),
    (8, "the last of several requested ones", lambda names: names[-1] if names[1:] else None),
):
    put(f"C.7.{number}", ESTABLISHED, f"{PROTOCOL}: {sends}", taken(with_protocol(made)), TAKEN)
open_question(
    "C.7.10",
    "RFC 6455 4.2.2",
    "The absence of such a field is equivalent to the null value",
    "a response without a subprotocol for a client that asks for some",
    without_protocol,
)
open_question(
    "C.7.9",
    "RFC 6455 11.3.4",
    "the |Sec-WebSocket-Protocol| header field MUST NOT appear more than once in an HTTP response.",
    f"two {PROTOCOL} fields with the first requested one",
    with_protocol(lambda names: [names[0], names[0]]),
)


@case(
    "C.3.9",
    "RFC 6455 6.2",
    MUST,
    FRAMES,
    sends="a compressed message in the segment of the response that accepts permessage-deflate",
    expects="its echo",
    tags=["client", "deflate"],
)
def compressed(test: Test) -> None:
    mine = ready(test)
    agreed = extension_of(mine)
    data = deflate.Deflater(LARGEST).message(HELLO)
    frame = plain(data, rsv=deflate.RSV1)
    session = mine.accept(head({EXTENSIONS: agreed})(mine), ahead=frame)
    deflate.Channel(session, LARGEST).expect(HELLO)
    session.close()
