# SPDX-License-Identifier: MIT
"""Building blocks of the cases about permessage-deflate (group D): registration, common sentences
of the RFCs, and common steps.
"""

from __future__ import annotations

from typing import Callable, Tuple

from ..case import MUST, Run, Test, add
from ..deflate import CLIENT_NO_CONTEXT, RSV1, Blocks, Channel, Deflater, open_channel
from ..session import Session
from ..verdicts import Closed, Cut, Informational, Late, NonStrict, Unimplemented
from ..wire import BINARY, CONTINUATION, TEXT
from .compression import STARTS_EMPTY, TAKES_OVER

CORRUPT = (1007, 1002)  # RFC 7692 names no code; both fit their description in RFC 6455 7.4.1
HELLO = bytes.fromhex("f248cdc9c90700")  # RFC 7692 7.2.3.1
AGAIN = Blocks().fixed((5, 5)).message()  # "Hello" again, if the window ends with it

Quote = Tuple[str, str]
"""A section and a quote from it."""

_RECEIVE = "An endpoint MUST use the following algorithm to receive a message in the form of"
INFLATE = (
    "RFC 7692 6.2",
    f"{_RECEIVE} a compressed message. ... Decompress the concatenation by following the "
    "decompression procedure of the PMCE.",
)
JOIN = (
    "RFC 7692 6.2",
    f"{_RECEIVE} a compressed message. ... Concatenate the payload data portion of the received "
    "frames of the compressed message.",
)
PLAIN = ("RFC 7692 6.2", f"{_RECEIVE} an uncompressed message.")
TAKEN_OVER = (f"RFC 7692 {TAKES_OVER[0]}", TAKES_OVER[1])
FRESH = (f"RFC 7692 {STARTS_EMPTY[0]}", STARTS_EMPTY[1])
VALIDATED = ("RFC 6455 10.7", "Incoming data MUST always be validated by both clients and servers.")
NOT_NEGOTIATED = (
    "RFC 6455 5.2",
    "If a nonzero value is received and none of the negotiated extensions defines the meaning of "
    "such a nonzero value, the receiving endpoint MUST _Fail the WebSocket Connection_.",
)


def put(
    id: str,
    quote: Quote,
    sends: str,
    expects: str,
    run: Run,
    level: str = MUST,
    tags: tuple[str, ...] = (),
) -> None:
    """Register a case of this group."""
    section, text = quote
    add(id, section, level, text, sends, expects, run, tags=("deflate", *tags))


def named(
    id: str,
    quote: Quote,
    sends: str,
    expects: str,
    level: str = MUST,
    tags: tuple[str, ...] = (),
) -> Callable[[Run], Run]:
    """Register a case; this is `put` as a decorator."""

    def register(run: Run) -> Run:
        put(id, quote, sends, expects, run, level, tags)
        return run

    return register


# ---- data ---------------------------------------------------------------------------------------


def stored(data: bytes, size: int = 65535) -> Blocks:
    """Encode data in stored blocks of that size."""
    blocks = Blocks()
    for i in range(0, len(data), size):
        blocks.stored(data[i : i + size])
    return blocks


def split(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


def fragments(channel: Channel, parts: list[bytes]) -> list[bytes]:
    """Return the frames of a compressed Text message in these fragments."""
    last = len(parts) - 1
    return [
        channel.session.frame(
            part, CONTINUATION if i else TEXT, fin=i == last, rsv=0 if i else RSV1
        )
        for i, part in enumerate(parts)
    ]


# ---- steps --------------------------------------------------------------------------------------


def taking_over(test: Test) -> Channel:
    """Require that the server takes the client's window over, or raise Unimplemented."""
    channel = open_channel(test)
    if channel.terms.client_no_context:
        raise Unimplemented(f"the server insists on {CLIENT_NO_CONTEXT}")
    return channel


def beside(test: Test) -> Channel | None:
    """Open another connection that must continue to work; None if only one is possible."""
    return None if test.settings.manners.one_connection else open_channel(test)


def crossed(channel: Channel, data: bytes, payload: bytes) -> None:
    """Send compressed data, and expect the echo of the inflated data, or raise Failed."""
    channel.send_data(data)
    channel.expect(payload)


def plain(channel: Channel, payload: bytes, opcode: int = TEXT) -> None:
    """Send an uncompressed message, and expect its echo, or raise Failed."""
    channel.session.send(channel.session.message(payload, opcode))
    channel.expect(payload, opcode)


def finish(channel: Channel | None) -> None:
    """Check that a normal message is still echoed, and close the connection."""
    if channel:
        channel.deflater = Deflater(channel.terms)
        channel.echo(b"and then this")
        channel.close()


def how(closed: Closed) -> str:
    """Describe the code of a Close frame."""
    return "without a code" if closed.code is None else f"with {closed.code}"


def beginning(session: Session) -> bytes:
    """Send the first fragment of a compressed message."""
    return session.frame(HELLO[:3], TEXT, fin=False, rsv=RSV1)


def take_or_refuse(channel: Channel, data: bytes, payload: bytes) -> None:
    """Send Binary data that may be accepted as `payload`, or may fail the connection.

    Raises Informational for a Close frame, NonStrict if TCP ends without one (RFC 6455 7.1.7) or
    nothing arrives at all, and Failed if something else is delivered.
    """
    channel.send_data(data, BINARY)
    try:
        channel.expect(payload, BINARY)
    except Closed as closed:
        raise Informational(f"the server refuses it {how(closed)}") from None
    except (Cut, Late) as error:
        raise NonStrict(str(error)) from None


def expect_refusal(session: Session) -> None:
    """Expect that data which cannot be inflated fails the connection.

    Raises Failed if something is delivered, and NonStrict if nothing arrives: the data MUST be
    validated, and the rest is a SHOULD.
    """
    if not session.answers(2.0):
        raise NonStrict("the server does not deliver it, but leaves the connection open")
    session.expect_failure(*CORRUPT)
