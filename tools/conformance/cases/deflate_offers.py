# SPDX-License-Identifier: MIT
"""How a server answers offers of permessage-deflate (RFC 7692 sections 5 and 7.1, RFC 6455 section
9; group D): D.1 offers that can be accepted, D.2 offers that must be declined, D.3 malformed ones.

No server has to accept an offer or a handshake. So only an answer that does not match the offer
violates a MUST. Refusing the handshake because of an offer is NON-STRICT, except for malformed
offers, where it is correct.
Add new rows at the end of a table, because the ids are row numbers; there are gaps for more rows.
"""

from __future__ import annotations

import functools
from typing import NamedTuple

from ..case import Test
from ..deflate import (
    CLIENT_BITS,
    CLIENT_NO_CONTEXT,
    NAME,
    RSV1,
    SERVER_BITS,
    SERVER_NO_CONTEXT,
    Channel,
    agree,
    require,
)
from ..session import Session
from ..verdicts import Cut, Failed, Informational, Judged, NonStrict, Refused, Skipped
from ..wire import BINARY, TEXT, random_key, upgrade_fields
from .compression import noise
from .deflate_steps import HELLO, NOT_NEGOTIATED, Quote, named, put

FIELD = "Sec-WebSocket-Extensions"

# ---- D.1: offers that can be accepted -----------------------------------------------------------

CHOSEN = (
    "RFC 6455 9",
    "If extension parameters are included in negotiations between the client and the server, those "
    "parameters MUST be chosen in accordance with the specification of the extension to which the "
    "parameters apply.",
)
LISTED = ("RFC 6455 4.2.2", "Extensions not listed by the client MUST NOT be listed.")
UNASKED = (
    "RFC 7692 7.1.2.2",
    'If a received extension negotiation offer doesn\'t have the "client_max_window_bits" extension'
    " parameter, the corresponding extension negotiation response to the offer MUST NOT include the"
    ' "client_max_window_bits" extension parameter.',
)
EMPTY = (
    "RFC 9110 5.6.1.2",
    "A recipient MUST parse and ignore a reasonable number of empty list elements",
)


class Offer(NamedTuple):
    """A row of a table."""

    told: str
    """The description."""
    values: list[str]
    """The values of the fields in the request."""
    plainly: str = ""
    """The same offer in plain form; a server may decline an offer if it declines that too."""

    @property
    def meaning(self) -> str:
        return self.plainly or ", ".join(self.values)


def one(text: str, told: str = "an offer", plainly: str = "") -> Offer:
    """Return a row with a single field."""
    return Offer(told, [text], plainly)


def open_offered(test: Test, values: list[str], refused: type[Judged] = NonStrict) -> Session:
    """Perform an opening handshake with these fields; a refusal gets the verdict `refused`.

    A server may do without an extension, but has no reason to refuse the client.
    """
    try:
        return test.open(fields=[(FIELD, value) for value in values])
    except (Refused, Cut) as error:
        raise refused(f"the offer is not declined: {error}") from None


def is_accepted(test: Test, offers: str) -> bool:
    """Do this on a new connection."""
    try:
        session = test.open(offers)
    except (Refused, Cut):
        return False
    session.connection.close()
    return session.response.get(FIELD) is not None


def check_offer(
    test: Test, offer: Offer, alike: str, declined: type[Judged], refused: type[Judged]
) -> None:
    """Require an answer that matches the offer, and messages that conform to it.

    If the offer is declined but the similar offer `alike` is accepted, the verdict is `declined`.
    """
    session = open_offered(test, offer.values, refused)
    terms = agree(offer.meaning, session.response.get(FIELD))
    if terms is None:
        session.connection.close()
        require(test)
        if alike == NAME or is_accepted(test, alike):
            raise declined(f"the server declines this offer, but accepts {alike}")
        raise Informational(f"the server declines {alike} in any form, but accepts {NAME}")
    channel = Channel(session, terms)
    # The first message repeats data from beyond the window, unless the window is the largest one.
    # The second one repeats data of the first, in case the server must forget its window.
    block = noise(test.random, 300 + (1 << terms.server_bits if terms.server_bits < 15 else 1700))
    channel.echo(block + block[:200], BINARY)
    channel.echo(block[-300:], BINARY)
    channel.close()
    if terms.free:
        raise Informational(f"{terms.free}, which RFC 7692 7.2.1 allows")


def add_offers(
    first: int, quote: Quote, rule: str, offers: list[Offer], declined: type[Judged]
) -> None:
    """Add a case for each offer; `rule` is the rule for the answer."""
    refused = Failed if quote is EMPTY else NonStrict  # a server has to understand those
    unless = "" if quote is EMPTY else "; NON-STRICT: the handshake is refused"
    for number, offer in enumerate(offers, first):
        # Compare unusual forms with their plain form, and other offers with the plainest one.
        alike = offer.plainly if offer.plainly and "," not in offer.plainly else NAME
        put(
            f"D.1.{number}",
            quote,
            sends=f"{offer.told}: " + " and ".join(f"{FIELD}: {value}" for value in offer.values),
            expects=f"an answer that matches this offer ({rule}), or none; then echoes that "
            f"conform to the agreed parameters{unless}",
            run=functools.partial(
                check_offer, offer=offer, alike=alike, declined=declined, refused=refused
            ),
        )


add_offers(
    1,
    UNASKED,
    "RFC 7692 7.1.2.2",
    [one(NAME), one(f"{NAME}; {CLIENT_NO_CONTEXT}")],
    Informational,
)
# "It is RECOMMENDED that a server supports" this parameter (RFC 7692 7.1.1.1).
add_offers(
    11,
    CHOSEN,
    f"RFC 7692 7.1.1.1: with {SERVER_NO_CONTEXT}; NON-STRICT",
    [one(f"{NAME}; {SERVER_NO_CONTEXT}"), one(f"{NAME}; {SERVER_NO_CONTEXT}; {CLIENT_NO_CONTEXT}")],
    NonStrict,
)
SMALLER = f"RFC 7692 7.1.2.1: {SERVER_BITS} with the same or a smaller value"
add_offers(
    28, CHOSEN, SMALLER, [one(f"{NAME}; {SERVER_BITS}={n}") for n in range(8, 16)], Informational
)
add_offers(
    48,
    CHOSEN,
    "RFC 7692 7.1.2.2: the value is a hint, a larger one is INFORMATIONAL",
    [one(f"{NAME}; {CLIENT_BITS}={n}") for n in range(8, 16)],
    Informational,
)
add_offers(
    61,
    CHOSEN,
    "RFC 7692 7.1",
    [
        one(f"{NAME}; {CLIENT_BITS}"),
        one(
            f"{NAME}; {CLIENT_BITS}=12; {SERVER_BITS}=11; {CLIENT_NO_CONTEXT}; {SERVER_NO_CONTEXT}",
            "all parameters",
        ),
        one(
            f"{NAME}; {SERVER_NO_CONTEXT}; {CLIENT_NO_CONTEXT}; {SERVER_BITS}=9; {CLIENT_BITS}",
            "all parameters in another order",
        ),
    ],
    Informational,
)
# Unusual forms of offers that the server accepts in plain form.
add_offers(
    71,
    CHOSEN,
    "RFC 6455 9.1: a value may be a quoted-string; NON-STRICT: only this form is declined",
    [
        one(f'{NAME}; {SERVER_BITS}="10"', "a quoted value", f"{NAME}; {SERVER_BITS}=10"),
        one(f'{NAME}; {CLIENT_BITS}="10"', "a quoted value", f"{NAME}; {CLIENT_BITS}=10"),
        one(
            f'{NAME}; {SERVER_BITS}="1\\0"',
            "a quoted value with a backslash",
            f"{NAME}; {SERVER_BITS}=10",
        ),
    ],
    NonStrict,
)
_ALL = f"{NAME}; {SERVER_NO_CONTEXT}; {SERVER_BITS}=12"
add_offers(
    81,
    CHOSEN,
    "RFC 6455 9.1: whitespace does not matter; NON-STRICT: only this form is declined",
    [
        one(f"{NAME};{SERVER_NO_CONTEXT};{SERVER_BITS}=12", "no blanks", _ALL),
        one(f"  {NAME} \t;  {SERVER_NO_CONTEXT}\t ; {SERVER_BITS}=12  ", "spaces and tabs", _ALL),
    ],
    NonStrict,
)
add_offers(
    83,
    CHOSEN,
    "RFC 7692 5: one of the valid ones; NON-STRICT: all are declined",
    [
        one(f"{NAME}; {SERVER_BITS}=10, {NAME}", "an offer and a fallback"),
        one(f"{NAME}, {NAME}, {NAME}", "one offer three times"),
        one(f"{NAME}; {SERVER_BITS}=16, {NAME}", "an invalid offer, then a valid one"),
        one(f"{NAME}; mystery, {NAME}; mystery=1, {NAME}", "two unknown offers, then a valid one"),
    ],
    NonStrict,
)
add_offers(
    87,
    LISTED,
    "no other extension; NON-STRICT: all are declined",
    [
        one(f'x-other; a=1; b="c", {NAME}', "an unknown extension first"),
        one(", ".join(f"x-other-{i}" for i in range(40)) + f", {NAME}", "40 unknown extensions"),
        one(f"{NAME}, x-other", "an unknown extension last"),
        one(f'x-other; a="b", {NAME}', "an unknown extension with a quoted value"),
    ],
    NonStrict,
)
add_offers(
    101,
    CHOSEN,
    "RFC 6455 9.1: the same as one list; NON-STRICT: all are declined",
    [
        Offer("two fields", [f"{NAME}; {SERVER_BITS}=10", NAME]),
        Offer("three fields, the last one with the offer", ["x-one", "x-two; a=b", NAME]),
    ],
    NonStrict,
)
add_offers(
    111,
    EMPTY,
    "empty elements are ignored; NON-STRICT: it is declined",
    [Offer("empty list elements", [f", ,{NAME},,"], NAME)],
    NonStrict,
)
add_offers(
    121,
    CHOSEN,
    "no RFC says whether case matters in names",
    [one("Permessage-Deflate; Server_Max_Window_Bits=10", "capital letters")],
    Informational,
)


# ---- D.2: offers that must be declined ----------------------------------------------------------

_DECLINE = (
    "A server MUST decline an extension negotiation offer for this extension if any of the "
    "following conditions are met: ..."
)
UNKNOWN = (
    "RFC 7692 7",
    f"{_DECLINE} The negotiation offer contains an extension parameter not defined for use in an "
    "offer.",
)
INVALID = (
    "RFC 7692 7",
    f"{_DECLINE} The negotiation offer contains an extension parameter with an invalid value.",
)
TWICE = (
    "RFC 7692 7",
    f"{_DECLINE} The negotiation offer contains multiple extension parameters with the same name.",
)
REGISTERED = (
    "RFC 6455 9.1",
    "Any extension-token used MUST be a registered token (see Section 11.4).",
)

NO_BITS = ["0", "7", "16", "08", "015", "-9", "+9", "9.0", "0x9", "10a", "a", "110", "4294967305"]
OLD = "x-webkit-deflate-frame"  # its predecessor in browsers, which some servers still support

DECLINED = [
    (UNKNOWN, f"{NAME}; mystery"),
    (UNKNOWN, f"{NAME}; mystery=1"),
    (UNKNOWN, f"{NAME}; {SERVER_BITS}=10; mystery"),
    (UNKNOWN, f"{NAME}; mystery; {SERVER_BITS}=10"),
    (UNKNOWN, f"{NAME}; server_no_context_takeove"),
    (UNKNOWN, f"{NAME}; server_no_context_takeovers"),
    (UNKNOWN, f"{NAME}; max_window_bits=10"),
    (UNKNOWN, f"{NAME}; server-max-window-bits=10"),
    (UNKNOWN, f"{NAME}; {NAME}"),
    (INVALID, f"{NAME}; {SERVER_BITS}"),
    *((INVALID, f"{NAME}; {SERVER_BITS}={value}") for value in NO_BITS),
    *((INVALID, f"{NAME}; {CLIENT_BITS}={value}") for value in NO_BITS),
    (INVALID, f'{NAME}; {SERVER_BITS}="7"'),
    (INVALID, f'{NAME}; {CLIENT_BITS}="010"'),
    (INVALID, f"{NAME}; {SERVER_NO_CONTEXT}=1"),
    (INVALID, f"{NAME}; {SERVER_NO_CONTEXT}=true"),
    (INVALID, f"{NAME}; {CLIENT_NO_CONTEXT}=1"),
    (INVALID, f'{NAME}; {CLIENT_NO_CONTEXT}="false"'),
    (TWICE, f"{NAME}; {SERVER_NO_CONTEXT}; {SERVER_NO_CONTEXT}"),
    (TWICE, f"{NAME}; {CLIENT_NO_CONTEXT}; {CLIENT_NO_CONTEXT}"),
    (TWICE, f"{NAME}; {SERVER_BITS}=10; {SERVER_BITS}=10"),
    (TWICE, f"{NAME}; {SERVER_BITS}=10; {SERVER_BITS}=12"),
    (TWICE, f"{NAME}; {CLIENT_BITS}; {CLIENT_BITS}"),
    (TWICE, f"{NAME}; {CLIENT_BITS}; {SERVER_NO_CONTEXT}; {CLIENT_BITS}=10"),
    (REGISTERED, "x-other"),
    (LISTED, "permessage-deflat"),
    (LISTED, "permessage-deflate1"),
    (LISTED, OLD),
    (REGISTERED, f"x-other; {SERVER_NO_CONTEXT}"),
]


def check_declined(test: Test, offer: str) -> None:
    """Expect no extension, and echoes without one."""
    require(test)
    session = open_offered(test, [offer])
    answer = session.response.get(FIELD)
    if answer is not None:
        if offer == OLD == answer.split(";")[0].strip():
            raise Informational(f"the server supports {OLD}, which was never registered")
        raise Failed(f"the server accepts it: {FIELD}: {answer}")
    session.send(session.message(b"Hello"))
    session.expect_message(b"Hello")
    session.close()


for _number, (_quote, _offer) in enumerate(DECLINED, 1):
    put(
        f"D.2.{_number}",
        _quote,
        sends=f"{FIELD}: {_offer}",
        expects="the opening handshake succeeds without an extension, and messages are echoed; "
        "NON-STRICT: it is refused",
        run=functools.partial(check_declined, offer=_offer),
    )


@named(
    "D.4.41",
    NOT_NEGOTIATED,
    "a compressed message after an offer that has to be declined",
    "the connection is failed with 1002; NON-STRICT: the handshake is refused",
)
def rsv1_after_decline(test: Test) -> None:
    require(test)
    session = open_offered(test, [f"{NAME}; {SERVER_BITS}=7"])
    if session.response.get(FIELD) is not None:
        raise Skipped("the offer was accepted, see D.2")
    session.send(session.frame(HELLO, TEXT, rsv=RSV1))
    session.expect_failure(1002)


# ---- D.3: malformed offers ----------------------------------------------------------------------

MALFORMED = (
    "RFC 6455 9.1",
    "If a value is received by either the client or the server during negotiation that does not "
    "conform to the ABNF below, the recipient of such malformed data MUST immediately _Fail the "
    "WebSocket Connection_.",
)

BROKEN_OFFERS = [
    f"{NAME};",
    f"{NAME};; {SERVER_NO_CONTEXT}",
    f"; {NAME}",
    f"{NAME} {SERVER_NO_CONTEXT}",
    f"{NAME}; {SERVER_BITS}=",
    f"{NAME}; {SERVER_BITS}=10=10",
    f"{NAME}; =10",
    f'{NAME}; {SERVER_BITS}=""',
    f'{NAME}; {SERVER_BITS}="10',
    f'{NAME}; {SERVER_BITS}=10"',
    f'{NAME}; {SERVER_BITS}="1 0"',
    f'{NAME}; {SERVER_BITS}="10"10',
    f"{NAME}=1",
    f"{NAME}; {SERVER_BITS}=(10)",
    f'"{NAME}"',
    f"{NAME}, x-other;",
]
# That these values "MUST conform to the 'token' ABNF" is a comment within the ABNF. Without that
# comment, they are invalid values, and the offer must be declined.
NO_TOKENS = (f'{NAME}; {SERVER_BITS}=""', f'{NAME}; {SERVER_BITS}="1 0"')


def check_malformed(test: Test, offer: str) -> None:
    require(test)
    connection = test.connect()
    fields = upgrade_fields(test.settings.target, random_key(test.random))
    connection.send(test.request([*fields, (FIELD, offer)]))
    try:
        response = test.expect_response(connection)
    except Cut as error:
        raise NonStrict(str(error)) from None
    if response.status != 101:
        if not 400 <= response.status < 500:
            raise NonStrict(f"expected a 4xx status, but received {response.status}")
        return
    answer = response.get(FIELD)
    told = f"the opening handshake succeeds, {FIELD}: {answer or 'none'}"
    if answer is None and offer in NO_TOKENS:
        raise NonStrict(f"{told}; the offer is declined")
    session = test.session(connection, response)
    if session.answers(0.4):
        session.expect_failure(1002)
        raise NonStrict(f"{told}; the connection is failed after it")
    raise Failed(told)


for _number, _offer in enumerate(BROKEN_OFFERS, 1):
    put(
        f"D.3.{_number}",
        MALFORMED,
        sends=f"{FIELD}: {_offer}",
        expects="the opening handshake is refused with a 4xx status, best 400; NON-STRICT: with "
        "another status, without a response, or the connection is failed right after a 101"
        + (", or the offer is declined" if _offer in NO_TOKENS else ""),
        run=functools.partial(check_malformed, offer=_offer),
    )
