# SPDX-License-Identifier: MIT
"""The lists of an opening handshake (RFC 6455 sections 4.2 and 9.1): the rest of group H, see
handshake_requests.py. H.11 subprotocols, H.12 lists of extensions and empty elements, H.13
malformed lists.
"""

from __future__ import annotations

from ..case import MAY, MUST, Run, Test, add
from ..verdicts import Failed, Informational, NonStrict, Refused
from .handshake_requests import ANSWERING, EMPTY, IS_ACCEPTED, IS_REFUSED, NO_ABNF, READING, accept
from .heads import (
    Make,
    accepted,
    ask,
    changed,
    expect_accepted,
    expect_turned_down,
    handshake,
    may_be_refused,
    offered,
)

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
    """Check that the subprotocol of the response, if any, is one of these."""

    def run(test: Test) -> None:
        response = ask(test, make(test))[1]
        if response.status != 101:
            raise Informational(f"it answers {response.status} if it knows no subprotocol")
        chosen = response.all(NAME)
        if len(chosen) > 1 or any(name not in names for name in chosen):
            raise Failed(f"{NAME}: {', '.join(chosen)}")

    return run


for number, what, names, among in (
    (1, "chat, superchat", "chat, superchat", ["chat", "superchat"]),
    (2, "an unknown name", "x-7f3a-unheard-of", ["x-7f3a-unheard-of"]),
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
        f"101 with exactly one of these in {NAME}, or without that field",
        chosen_among(changed({NAME: names}), among),
    )

# ---- H.12: lists --------------------------------------------------------------------------------

UNKNOWN_EXTENSIONS = "Extensions not listed by the client MUST NOT be listed."
EXTENSIONS = "Sec-WebSocket-Extensions"


def declined(make: Make) -> Run:
    """Expect a handshake without any extension, or raise NonStrict if it is refused."""

    def run(test: Test) -> None:
        try:
            session = expect_accepted(test, make(test))
        except Refused as error:  # the quote does not cover that
            raise NonStrict(str(error)) from None
        if session.response.get(EXTENSIONS) is not None:
            raise Failed(f"{EXTENSIONS}: {session.response.get(EXTENSIONS)}")
        session.send(session.message(b"plain"))
        session.expect_message(b"plain")
        session.close()

    return run


for number, what, offer in (
    (1, "two fields", ["x-7f3a-one", "x-7f3a-two; a=1"]),
    (2, "an unknown extension", "x-7f3a"),
    (3, "many parameters", "x-7f3a; a; b=1; c=2; d=three; e=four"),
    (4, "a quoted parameter", 'x-7f3a; a="quoted"; b="with\\-escape"'),
    (5, "no whitespace", 'x-7f3a;a=1;b="2",x-7f3b;c'),
    (6, "much whitespace", "x-7f3a \t; a=1 \t,\t x-7f3b"),
    (7, "the same extension twice", "x-7f3a; a=1, x-7f3a"),
    (8, "100 of them", ", ".join(f"x-{i}" for i in range(100))),
):
    add(
        f"H.12.{number}",
        ANSWERING,
        MUST,
        UNKNOWN_EXTENSIONS,
        f"a handshake that offers unknown extensions: {what}",
        f"101 without {EXTENSIONS}, and the connection echoes",
        declined(changed({EXTENSIONS: offer})),
    )


def with_gaps(test: Test) -> bytes:
    """A name for lists of subprotocols: the user's, if there is one."""
    names = [value for name, value in offered(test) if name == NAME] or ["chat ,,superchat"]
    return handshake(test, {NAME: f",, {' ,,'.join(names)},"})


add(
    "H.12.9", "RFC 9110 5.6.1.2", MUST, EMPTY, f"a handshake with {NAME}: ,, chat ,,superchat,",
    IS_ACCEPTED, accepted(with_gaps),
)  # fmt: skip
accept(
    "H.12.10", "RFC 9110 5.6.1.2", MUST, EMPTY, f"a handshake with {EXTENSIONS}: , ,x-7f3a,,",
    {EXTENSIONS: ", ,x-7f3a,,"},
)  # fmt: skip

# ---- H.13: malformed lists ----------------------------------------------------------------------

GRAMMAR = (
    "If a value is received by either the client or the server during negotiation that does not "
    "conform to the ABNF below, the recipient of such malformed data MUST immediately _Fail the "
    "WebSocket Connection_."
)
NOT_LOOKED_AT = "NON-STRICT: 101 from a server that ignores this field"


def malformed_offer(value: str) -> Run:
    """Send extensions that no server may accept, or ignore if it supports any."""

    def run(test: Test) -> None:
        connection, response = ask(test, handshake(test, {EXTENSIONS: value}))
        connection.close()
        lax = ""
        if response.status == 101 and response.get(EXTENSIONS) is None:
            good = ask(test, handshake(test, {EXTENSIONS: "permessage-deflate"}))[1]
            if good.get(EXTENSIONS) is None:
                lax = "the server does not support extensions"
        expect_turned_down(response, lax)

    return run


def malformed_names(value: str) -> Run:
    """Send subprotocols that no server may accept."""

    def run(test: Test) -> None:
        response = ask(test, handshake(test, {NAME: value}))[1]
        chosen = response.get(NAME)
        expect_turned_down(response, "no subprotocol was selected" if chosen is None else "")

    return run


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
        f"{IS_REFUSED}; {NOT_LOOKED_AT}",
        malformed_offer(value),
    )
for number, value in enumerate(
    ("two words", "a/b", "chat, (x)", 'chat, "quoted"', "chat; super", "j\xfcrgen", "a=b"), 15
):
    add(
        f"H.13.{number}",
        READING,
        MUST,
        NO_ABNF,
        f"a handshake with {NAME}: {value}",
        f"{IS_REFUSED}; {NOT_LOOKED_AT}",
        malformed_names(value),
    )
for number, what, value in ((22, "an empty list", ""), (23, "the same name twice", "chat, chat")):
    add(
        f"H.13.{number}",
        "RFC 6455 4.1",
        MAY,
        "The elements that comprise this value MUST be non-empty strings with characters in the "
        "range U+0021 to U+007E not including separator characters as defined in [RFC2616] and "
        "MUST all be unique strings.",
        f"a handshake with {NAME}: {value}, {what}",
        "an error status, or 101, because that rule is for clients",
        may_be_refused(changed({NAME: value})),
    )
