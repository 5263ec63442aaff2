"""What is easily got wrong in permessage-deflate (RFC 7692; group D).

D.1 offers that can be accepted, D.2 offers that must be declined, D.3 malformed ones; D.4 RSV1 and
its neighbours; D.5 DEFLATE data of every shape; D.6 compressed messages in fragments; D.7 windows
taken over from message to message, or not; D.8 references as far back as the window reaches;
D.9 broken data; D.10 UTF-8 inside compressed text; D.11 bombs and floods; D.12 sizes.

Where the RFC leaves the choice to the server, the case is INFORMATIONAL and tells which it made.
A new row goes to the end of its table: ids are the rows' numbers, and gaps are left for more.
"""

from __future__ import annotations

import functools
import zlib
from typing import Callable, List, Tuple

from ..case import (
    MUST,
    SHOULD,
    Closed,
    Failed,
    Informational,
    NonStrict,
    Refused,
    Run,
    Session,
    Test,
    Unimplemented,
    add,
)
from ..deflate import (
    CLIENT_BITS,
    CLIENT_NO_CONTEXT,
    FIXED,
    HUFFMAN_ONLY,
    NAME,
    RLE,
    RSV1,
    SERVER_BITS,
    SERVER_NO_CONTEXT,
    TAIL,
    Blocks,
    Channel,
    Deflater,
    agree,
    open_channel,
    require,
)
from ..wire import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Ended,
    TimedOut,
    close_payload,
    random_key,
    upgrade_fields,
)
from .compression import STARTS_EMPTY, TAKES_OVER, WITHIN_WINDOW, noise, words

FIELD = "Sec-WebSocket-Extensions"
CORRUPT = (1007, 1002)  # RFC 7692 names no code; either fits what RFC 6455 7.4.1 says of them
HELLO = bytes.fromhex("f248cdc9c90700")  # RFC 7692 7.2.3.1

Quote = Tuple[str, str]
"""A section, and its words."""

INFLATE = ("RFC 7692 7.2.2", "Decompress the resulting data using DEFLATE.")
TAKEN_OVER = (f"RFC 7692 {TAKES_OVER[0]}", TAKES_OVER[1])


def put(id: str, quote: Quote, sends: str, expects: str, run: Run, level: str = MUST) -> None:
    """Register a case of this group."""
    section, text = quote
    add(id, section, level, text, sends, expects, run, tags=("deflate",))


def named(
    id: str, quote: Quote, sends: str, expects: str, level: str = MUST
) -> Callable[[Run], Run]:
    """`put` as a decorator."""

    def register(run: Run) -> Run:
        put(id, quote, sends, expects, run, level)
        return run

    return register


def stored(data: bytes, size: int = 65535) -> Blocks:
    """In stored blocks of that size."""
    blocks = Blocks()
    for i in range(0, len(data), size):
        blocks.stored(data[i : i + size])
    return blocks


def finish(channel: Channel) -> None:
    """Nothing was left behind: an ordinary message passes, and the connection closes."""
    channel.deflater = Deflater(channel.terms)
    channel.echo(b"and then this")
    channel.close()


# ---- D.1: offers that can be accepted -----------------------------------------------------------

LISTED = ("RFC 6455 4.2.2", "Extensions not listed by the client MUST NOT be listed.")
FRESH = (
    "RFC 7692 7.1.1.1",
    'A server accepts an extension negotiation offer that includes the "server_no_context_takeover"'
    ' extension parameter by including the "server_no_context_takeover" extension parameter',
)
SMALLER = (
    "RFC 7692 7.1.2.1",
    "A server accepts an extension negotiation offer with this parameter by including the "
    '"server_max_window_bits" extension parameter in the extension negotiation response to send '
    "back to the client with the same or smaller value as the offer.",
)
HINT = ("RFC 7692 7.1.2.2", "with a value equal to or smaller than the received value")
UNASKED = (
    "RFC 7692 7.1.2.2",
    'If a received extension negotiation offer doesn\'t have the "client_max_window_bits" extension'
    " parameter, the corresponding extension negotiation response to the offer MUST NOT include the"
    ' "client_max_window_bits" extension parameter.',
)
QUOTED = (
    "RFC 6455 9.1",
    "When using the quoted-string syntax variant, the value after quoted-string unescaping MUST "
    "conform to the 'token' ABNF.",
)
LINES = (
    "RFC 6455 9.1",
    "Note that like other HTTP header fields, this header field MAY be split or combined across "
    "multiple lines.",
)
EMPTY = (
    "RFC 9110 5.6.1.2",
    "A recipient MUST parse and ignore a reasonable number of empty list elements",
)


def check_offer(
    test: Test, values: list[str], meaning: str, declined: Callable[[str], Exception]
) -> None:
    """The answer must be one to the offer, and what the server sends must keep to it."""
    session = test.open(fields=[(FIELD, value) for value in values])
    terms = agree(meaning, session.response.get(FIELD))
    if terms is None:
        require(test)
        raise declined(f"the server declines this offer, but accepts {NAME}")
    channel = Channel(session, terms)
    # Further back than the window, if the server looks beyond it; and twice, if it should forget.
    block = noise(test.random, min(1 << terms.server_bits, 16384) + 300)
    channel.echo(block + block[:200], BINARY)
    channel.echo(block[-300:], BINARY)
    channel.close()


def add_offers(
    first: int,
    quote: Quote,
    rows: list[tuple[str, list[str], str | None]],
    declined: Callable[[str], Exception],
) -> None:
    """Rows: what is special, the field values, and what they mean (None: the same)."""
    for number, (told, values, meaning) in enumerate(rows, first):
        put(
            f"D.1.{number}",
            quote,
            sends=f"{told}: " + " and ".join(f"{FIELD}: {value}" for value in values),
            expects="an answer that RFC 7692 7.1 allows for this offer, or none; then echoes that "
            "keep to what was agreed on",
            run=functools.partial(
                check_offer, values=values, meaning=meaning or ", ".join(values), declined=declined
            ),
        )


def one(text: str, told: str = "an offer") -> tuple[str, list[str], str | None]:
    """A row with a single field."""
    return (told, [text], None)


add_offers(1, UNASKED, [one(NAME), one(f"{NAME}; {CLIENT_NO_CONTEXT}")], Unimplemented)
add_offers(
    11,
    FRESH,
    [one(f"{NAME}; {SERVER_NO_CONTEXT}"), one(f"{NAME}; {SERVER_NO_CONTEXT}; {CLIENT_NO_CONTEXT}")],
    Informational,
)
add_offers(28, SMALLER, [one(f"{NAME}; {SERVER_BITS}={n}") for n in range(8, 16)], Informational)
add_offers(48, HINT, [one(f"{NAME}; {CLIENT_BITS}={n}") for n in range(8, 16)], Informational)
add_offers(
    61,
    SMALLER,
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
# Other ways to write what the server takes when it is written plainly.
add_offers(
    71,
    QUOTED,
    [
        one(f'{NAME}; {SERVER_BITS}="10"', "a quoted value"),
        one(f'{NAME}; {CLIENT_BITS}="10"', "a quoted value"),
        one(f'{NAME}; {SERVER_BITS}="1\\0"', "a quoted value with a backslash"),
    ],
    NonStrict,
)
add_offers(
    81,
    LISTED,
    [
        one(f"{NAME};{SERVER_NO_CONTEXT};{SERVER_BITS}=12", "no blanks"),
        one(f"  {NAME} \t;  {SERVER_NO_CONTEXT}\t ; {SERVER_BITS}=12  ", "blanks and tabs"),
        one(f"{NAME}; {SERVER_BITS}=10, {NAME}", "an offer, and what will do instead"),
        one(f"{NAME}, {NAME}, {NAME}", "one offer three times"),
        one(f"{NAME}; {SERVER_BITS}=16, {NAME}", "an invalid offer, then a valid one"),
        one(f"{NAME}; mystery, {NAME}; mystery=1, {NAME}", "two unknown offers, then a valid one"),
        one(f'x-other; a=1; b="c", {NAME}', "an unknown extension first"),
        one(", ".join(f"x-other-{i}" for i in range(40)) + f", {NAME}", "40 unknown extensions"),
        one(f"{NAME}, x-other", "an unknown extension last"),
        one(f'x-other; a="b", {NAME}', "an unknown extension with a quoted value"),
    ],
    NonStrict,
)
add_offers(
    101,
    LINES,
    [
        ("two fields", [f"{NAME}; {SERVER_BITS}=10", f"{NAME}"], None),
        ("three fields, the last one with the offer", ["x-one", "x-two; a=b", NAME], None),
    ],
    NonStrict,
)
add_offers(111, EMPTY, [("empty elements of the list", [f", ,{NAME},,"], NAME)], NonStrict)
add_offers(
    121,
    LISTED,
    [one("Permessage-Deflate; Server_Max_Window_Bits=10", "capital letters")],
    Informational,
)


# ---- D.2: offers that must be declined ----------------------------------------------------------

_DECLINE = "A server MUST decline an extension negotiation offer for this extension if"
UNKNOWN = (
    "RFC 7692 7",
    f"{_DECLINE} ... The negotiation offer contains an extension parameter not defined for use in "
    "an offer.",
)
INVALID = (
    "RFC 7692 7",
    f"{_DECLINE} ... The negotiation offer contains an extension parameter with an invalid value.",
)
TWICE = (
    "RFC 7692 7",
    f"{_DECLINE} ... The negotiation offer contains multiple extension parameters with the same "
    "name.",
)

NO_BITS = ["0", "7", "16", "08", "015", "-9", "+9", "9.0", "0x9", "10a", "a", "110", "4294967305"]

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
    (LISTED, "x-other"),
    (LISTED, "permessage-deflat"),
    (LISTED, "permessage-deflate1"),
    (LISTED, "x-webkit-deflate-frame"),
    (LISTED, f"x-other; {SERVER_NO_CONTEXT}"),
]


def open_declined(test: Test, offer: str) -> Session:
    """An opening handshake whose offer is to be declined. Failed.

    NonStrict when the handshake is refused with 4xx: that goes further than to decline the offer.
    """
    require(test)
    try:
        return test.open(offer)
    except Refused as error:
        if 400 <= error.status < 500:
            raise NonStrict(str(error)) from None
        raise


def check_declined(test: Test, offer: str) -> None:
    """No extension; and messages pass without one."""
    session = open_declined(test, offer)
    answer = session.response.get(FIELD)
    if answer is not None:
        raise Failed(f"the server accepts it: {FIELD}: {answer}")
    session.send(session.message(b"Hello"))
    session.expect_message(b"Hello")
    session.close()


for _number, (_quote, _offer) in enumerate(DECLINED, 1):
    put(
        f"D.2.{_number}",
        _quote,
        sends=f"{FIELD}: {_offer}",
        expects="the opening handshake succeeds without an extension, and messages pass; "
        "NON-STRICT: it is refused with 4xx",
        run=functools.partial(check_declined, offer=_offer),
    )

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


def check_malformed(test: Test, offer: str) -> None:
    require(test)
    connection = test.connect()
    fields = upgrade_fields(test.settings.target, random_key(test.random))
    connection.send(test.request([*fields, (FIELD, offer)]))
    response = test.expect_response(connection)
    if response.status == 101:
        answer = response.get(FIELD)
        raise Failed(f"the opening handshake succeeds, {FIELD}: {answer or 'none'}")
    if not 400 <= response.status < 500:
        raise NonStrict(f"expected a status of 4xx, but {response.status} came")


for _number, _offer in enumerate(BROKEN_OFFERS, 1):
    put(
        f"D.3.{_number}",
        MALFORMED,
        sends=f"{FIELD}: {_offer}",
        expects="the opening handshake is refused with an HTTP status of 4xx, best 400",
        run=functools.partial(check_malformed, offer=_offer),
    )


# ---- D.4: RSV1 and its neighbours ---------------------------------------------------------------

NOT_NEGOTIATED = (
    "RFC 6455 5.2",
    "If a nonzero value is received and none of the negotiated extensions defines the meaning of "
    "such a nonzero value, the receiving endpoint MUST _Fail the WebSocket Connection_.",
)
NOT_FIRST = (
    "RFC 7692 6",
    'An endpoint MUST NOT set the "Per-Message Compressed" bit of control frames and non-first '
    "fragments of a data message. An endpoint receiving such a frame MUST _Fail the WebSocket "
    "Connection_.",
)
OPCODES = (
    "RFC 6455 5.2",
    "If an unknown opcode is received, the receiving endpoint MUST _Fail the WebSocket "
    "Connection_.",
)
MASKED = (
    "RFC 6455 5.1",
    "The server MUST close the connection upon receiving a frame that is not masked.",
)
FRAGMENTED = (
    "RFC 6455 5.4",
    "The fragments of one message MUST NOT be interleaved between the fragments of another message",
)

Frames = Callable[[Session], bytes]

WITHOUT: list[tuple[str, Frames]] = [
    ("a Text frame with RSV1", lambda s: s.frame(HELLO, TEXT, rsv=RSV1)),
    ("a Binary frame with RSV1", lambda s: s.frame(HELLO, BINARY, rsv=RSV1)),
    ("an empty Text frame with RSV1", lambda s: s.frame(b"", TEXT, rsv=RSV1)),
    ("a Ping with RSV1", lambda s: s.frame(b"", PING, rsv=RSV1)),
]


def beginning(session: Session) -> bytes:
    """The first fragment of a compressed message."""
    return session.frame(HELLO[:3], TEXT, fin=False, rsv=RSV1)


MISUSES: list[tuple[Quote, str, Frames]] = [
    (
        NOT_FIRST,
        "RSV1 on a fragment in the middle of a compressed message",
        lambda s: beginning(s) + s.frame(HELLO[3:5], CONTINUATION, fin=False, rsv=RSV1),
    ),
    (
        NOT_FIRST,
        "RSV1 on the last fragment of a compressed message",
        lambda s: beginning(s) + s.frame(HELLO[3:], CONTINUATION, rsv=RSV1),
    ),
    (
        NOT_FIRST,
        "RSV1 on an empty last fragment",
        lambda s: beginning(s) + s.frame(b"", CONTINUATION, rsv=RSV1),
    ),
    (
        NOT_FIRST,
        "RSV1 on the second fragment of a message that began without it",
        lambda s: s.frame(b"Hel", fin=False) + s.frame(HELLO[3:], CONTINUATION, rsv=RSV1),
    ),
    (
        NOT_FIRST,
        "RSV1 on a Continuation with no message to continue",
        lambda s: s.frame(HELLO, CONTINUATION, rsv=RSV1),
    ),
    (NOT_FIRST, "a Ping with RSV1", lambda s: s.frame(HELLO, PING, rsv=RSV1)),
    (NOT_FIRST, "an empty Ping with RSV1", lambda s: s.frame(b"", PING, rsv=RSV1)),
    (NOT_FIRST, "a Pong with RSV1", lambda s: s.frame(HELLO, PONG, rsv=RSV1)),
    (NOT_FIRST, "a Close with RSV1", lambda s: s.frame(close_payload(1000), CLOSE, rsv=RSV1)),
    (
        NOT_FIRST,
        "a Ping with RSV1 within a compressed message",
        lambda s: beginning(s) + s.frame(b"", PING, rsv=RSV1),
    ),
    (NOT_NEGOTIATED, "a Text frame with RSV2", lambda s: s.frame(b"Hello", rsv=2)),
    (NOT_NEGOTIATED, "a Text frame with RSV3", lambda s: s.frame(b"Hello", rsv=1)),
    (NOT_NEGOTIATED, "a compressed Text frame with RSV2", lambda s: s.frame(HELLO, rsv=RSV1 | 2)),
    (NOT_NEGOTIATED, "a compressed Text frame with RSV3", lambda s: s.frame(HELLO, rsv=RSV1 | 1)),
    (NOT_NEGOTIATED, "a Text frame with all three bits", lambda s: s.frame(HELLO, rsv=7)),
    (
        NOT_NEGOTIATED,
        "RSV2 on the second fragment of a compressed message",
        lambda s: beginning(s) + s.frame(HELLO[3:], CONTINUATION, rsv=2),
    ),
    (OPCODES, "a frame of opcode 3 with RSV1", lambda s: s.frame(HELLO, 3, rsv=RSV1)),
    (OPCODES, "a frame of opcode 11 with RSV1", lambda s: s.frame(b"", 11, rsv=RSV1)),
    (
        MASKED,
        "a compressed Text frame that is not masked",
        lambda s: s.frame(HELLO, TEXT, rsv=RSV1, key=None),
    ),
    (
        FRAGMENTED,
        "a compressed message within an unfinished one",
        lambda s: beginning(s) + s.frame(HELLO, TEXT, rsv=RSV1),
    ),
    (
        FRAGMENTED,
        "an uncompressed message within an unfinished compressed one",
        lambda s: beginning(s) + s.frame(b"Hello", TEXT),
    ),
]


def check_misuse(test: Test, frames: Frames, offered: bool) -> None:
    session = open_channel(test).session if offered else test.open()
    session.send(frames(session))
    session.expect_failure(1002)


for _number, (_told, _frames) in enumerate(WITHOUT, 1):
    put(
        f"D.4.{_number}",
        NOT_NEGOTIATED,
        sends=f"{_told}, without any extension offered",
        expects="the connection is failed with 1002",
        run=functools.partial(check_misuse, frames=_frames, offered=False),
    )

for _number, (_quote, _told, _frames) in enumerate(MISUSES, 11):
    put(
        f"D.4.{_number}",
        _quote,
        sends=_told,
        expects="the connection is failed with 1002",
        run=functools.partial(check_misuse, frames=_frames, offered=True),
    )


@named(
    "D.4.41",
    NOT_NEGOTIATED,
    "a compressed message, after an offer that has to be declined",
    "the connection is failed with 1002; NON-STRICT: the handshake is refused with 4xx",
)
def rsv1_after_decline(test: Test) -> None:
    session = open_declined(test, f"{NAME}; {SERVER_BITS}=7")
    session.send(session.frame(HELLO, TEXT, rsv=RSV1))
    session.expect_failure(1002)


# ---- D.5: DEFLATE data of every shape -----------------------------------------------------------

BFINAL = (
    "RFC 7692 7.2.3.4",
    'implementors can choose to flush data using DEFLATE blocks with "BFINAL" set to 1',
)
BLOCKS = ("RFC 7692 7.2.3.5", "Two or more DEFLATE blocks may be used in one message.")
PADDING = (
    "RFC 7692 7.2.1",
    'When any DEFLATE block with the "BFINAL" bit set to 1 doesn\'t end at a byte boundary, an '
    "endpoint MUST add minimal padding bits of 0 to make it end at a byte boundary. The next "
    "DEFLATE block follows the padded data if any.",
)

FIXED_HELLO = Blocks().fixed(b"Hello").message()

SHAPES: list[tuple[Quote, str, bytes, bytes]] = [
    (INFLATE, "the RFC's example of one block", HELLO, b"Hello"),
    (INFLATE, "a stored block", Blocks().stored(b"Hello").message(), b"Hello"),
    (BFINAL, "a block with BFINAL", bytes.fromhex("f348cdc9c9070000"), b"Hello"),
    (BLOCKS, "two blocks", bytes.fromhex("f248050000 00ffffcac9c90700"), b"Hello"),
    (INFLATE, "an empty message: 00", b"\x00", b""),
    (INFLATE, "an empty message: an empty fixed block", Blocks().fixed().message(), b""),
    (INFLATE, "an empty message: an empty stored block", Blocks().stored().message(), b""),
    (
        BFINAL,
        "an empty message: an empty block with BFINAL",
        Blocks().fixed(final=True).align().message(),
        b"",
    ),
    (INFLATE, "padding bits of 1 before the tail", Blocks().bits(0, 3).align(0xFF).data(), b""),
    (INFLATE, "five stored blocks of one byte", stored(b"Hello", 1).message(), b"Hello"),
    (
        BLOCKS,
        "empty stored blocks between others",
        Blocks().stored().fixed(b"Hel").stored().stored().stored(b"lo").stored().message(),
        b"Hello",
    ),
    (
        BLOCKS,
        "empty fixed blocks between others",
        Blocks().fixed().fixed().fixed(b"Hel").fixed().fixed(b"lo").fixed().message(),
        b"Hello",
    ),
    (
        BLOCKS,
        "a block that refers back to the one before",
        Blocks().stored(b"Hello, ").fixed((5, 7)).message(),
        b"Hello, Hello",
    ),
    (
        PADDING,
        "a block with BFINAL, then another",
        Blocks().fixed(b"Hel", final=True).align().fixed(b"lo").message(),
        b"Hello",
    ),
    (
        PADDING,
        "three blocks with BFINAL",
        Blocks()
        .fixed(b"He", final=True)
        .align()
        .stored(b"ll", final=True)
        .fixed(b"o", final=True)
        .align()
        .message(),
        b"Hello",
    ),
    (
        BFINAL,
        "a stored block with BFINAL",
        Blocks().stored(b"Hello", final=True).message(),
        b"Hello",
    ),
    (
        INFLATE,
        "references of every length at distance 1",
        Blocks().fixed(b"x", *((n, 1) for n in range(3, 259))).message(),
        b"x" * (1 + sum(range(3, 259))),
    ),
    (
        INFLATE,
        "references that overlap what they write",
        Blocks().fixed(b"abc", (258, 3), (100, 2), (3, 258)).message(),
        (b"abc" * 87)[:261] + b"bc" * 50 + (b"abc" * 87 + b"bc" * 50)[361 - 258 : 364 - 258],
    ),
    (INFLATE, "every literal byte", Blocks().fixed(bytes(range(256))).message(), bytes(range(256))),
    (INFLATE, "a message that is the tail, 00 00 ff ff", Blocks().stored(TAIL).message(), TAIL),
    (INFLATE, "a message of many tails", Blocks().stored(TAIL * 100).message(), TAIL * 100),
    (
        INFLATE,
        "a message that ends with 00 and the tail",
        Blocks().fixed(b"Hello\x00" + TAIL).message(),
        b"Hello\x00" + TAIL,
    ),
]


def check_data(test: Test, data: bytes, payload: bytes) -> None:
    """As Binary, and as Text where it is that."""
    channel = open_channel(test)
    opcodes = (BINARY, TEXT) if payload.isascii() else (BINARY,)
    for opcode in opcodes:
        channel.send_data(data, opcode)
        channel.expect(payload, opcode)
    finish(channel)


for _number, (_quote, _told, _data, _payload) in enumerate(SHAPES, 1):
    put(
        f"D.5.{_number}",
        _quote,
        sends=f"compressed data of this shape: {_told}",
        expects="the echo of what it inflates to, and of a message after it",
        run=functools.partial(check_data, data=_data, payload=_payload),
    )

COMPRESSORS = [
    ("level 0 (stored blocks)", 0, 8, 0),
    ("level 1", 1, 8, 0),
    ("level 9", 9, 8, 0),
    ("the least memory (many small blocks)", 6, 1, 0),
    ("the most memory (few large blocks)", 9, 9, 0),
    ("no references (Huffman codes only)", 6, 8, HUFFMAN_ONLY),
    ("references of distance 1 only", 6, 8, RLE),
    ("fixed codes only", 6, 8, FIXED),
]


def check_compressor(test: Test, level: int, memory: int, strategy: int) -> None:
    """Messages of several kinds, the same window all the time."""
    channel = open_channel(test)
    channel.deflater = Deflater(channel.terms, level, memory, strategy)
    for payload in (
        words(test.random, 800).encode(),
        b"",
        b"a" * 3000,
        words(test.random, 800).encode(),
    ):
        channel.echo(payload)
    channel.echo(noise(test.random, 3000), BINARY)
    channel.close()


for _number, (_told, *_settings) in enumerate(COMPRESSORS, 41):
    _level, _memory, _strategy = _settings
    put(
        f"D.5.{_number}",
        INFLATE,
        sends=f"messages that were compressed with {_told}",
        expects="their echoes",
        run=functools.partial(check_compressor, level=_level, memory=_memory, strategy=_strategy),
    )

TAIL_RULE = ("RFC 7692 7.2.1", "Remove 4 octets (that are 0x00 0x00 0xff 0xff) from the tail end.")
# What a sender should not send, and no sentence tells a receiver what to do with.
ODDITIES: list[tuple[Quote, str, bytes, bytes]] = [
    (TAIL_RULE, "the tail 00 00 ff ff was not taken off", FIXED_HELLO + TAIL, b"Hello"),
    (TAIL_RULE, "no data at all", b"", b""),
    (
        BFINAL,
        "a block with BFINAL, and no beginning of another after it",
        Blocks().fixed(b"Hello", final=True).data(),
        b"Hello",
    ),
    (
        PADDING,
        "a reference back into a block with BFINAL",
        Blocks().stored(b"Hello, ", final=True).fixed((5, 7)).message(),
        b"Hello, Hello",
    ),
]


def check_oddity(test: Test, data: bytes, payload: bytes) -> None:
    """Taken or refused, but nothing else is delivered."""
    channel = open_channel(test)
    channel.send_data(data, BINARY)
    try:
        channel.expect(payload, BINARY)
    except Closed as closed:
        raise Informational(f"the server refuses it with {closed.code}") from None
    try:
        finish(channel)
    except Closed as closed:
        told = f"the server takes it, but refuses the next message with {closed.code}"
        raise Informational(told) from None
    raise Informational("the server takes it")


for _number, (_quote, _told, _data, _payload) in enumerate(ODDITIES, 61):
    put(
        f"D.5.{_number}",
        _quote,
        sends=f"compressed data of this shape: {_told}",
        expects="the echo of what it inflates to, or a connection that is failed: the RFC tells "
        "the sender only",
        run=functools.partial(check_oddity, data=_data, payload=_payload),
    )


# ---- D.6: compressed messages in fragments ------------------------------------------------------

FRAGMENTS = (
    "RFC 6455 5.4",
    "A fragmented message consists of a single frame with the FIN bit clear and an opcode other "
    "than 0, followed by zero or more frames with the FIN bit clear and the opcode set to 0, and "
    "terminated by a single frame with the FIN bit set and an opcode of 0.",
)
AMID = (
    "RFC 6455 5.4",
    "An endpoint MUST be capable of handling control frames in the middle of a fragmented message",
)
MARKED = (
    "RFC 7692 6",
    "On a WebSocket connection where a PMCE is in use, this bit indicates whether a message is "
    "compressed or not.",
)


def fragments(channel: Channel, parts: list[bytes], between: bytes = b"") -> bytes:
    """A compressed Text message in these fragments, with other frames between them."""
    last = len(parts) - 1
    frames = [
        channel.session.frame(
            part, CONTINUATION if i else TEXT, fin=i == last, rsv=0 if i else RSV1
        )
        for i, part in enumerate(parts)
    ]
    return between.join(frames)


def split(data: bytes, size: int) -> list[bytes]:
    return [data[i : i + size] for i in range(0, len(data), size)]


Cut = Callable[[bytes], List[bytes]]

CUTS: list[tuple[str, Cut]] = [
    *((f"fragments of {n} bytes", functools.partial(split, size=n)) for n in (1, 2, 3, 16, 126)),
    ("an empty first fragment", lambda data: [b"", data]),
    ("an empty last fragment", lambda data: [data, b""]),
    ("many empty first fragments", lambda data: [b""] * 50 + [data]),
    ("many empty last fragments", lambda data: [data] + [b""] * 50),
    ("an empty fragment after each byte", lambda data: [x for b in data for x in (b"%c" % b, b"")]),
    ("the last byte in a fragment of its own", lambda data: [data[:-1], data[-1:]]),
]


def check_cut(test: Test, cut: Cut) -> None:
    channel = open_channel(test)
    for _ in range(3):
        text = words(test.random, 60).encode()
        channel.session.send(fragments(channel, cut(channel.deflater.message(text))))
        channel.expect(text)
    channel.close()


for _number, (_told, _cut) in enumerate(CUTS, 1):
    put(
        f"D.6.{_number}",
        FRAGMENTS,
        sends=f"three compressed text messages, each in {_told}",
        expects="their echoes",
        run=functools.partial(check_cut, cut=_cut),
    )


@named(
    "D.6.20", FRAGMENTS, "a compressed message in two fragments, cut at every byte", "the echoes"
)
def every_cut(test: Test) -> None:
    channel = open_channel(test)
    data = Blocks().stored(b"Hello, ").fixed((5, 7), b"\xc3\xa4!").message()
    for i in range(len(data) + 1):
        channel.session.send(fragments(channel, [data[:i], data[i:]]))
        channel.expect("Hello, Helloä!".encode())
    channel.close()


@named(
    "D.6.21",
    AMID,
    "Pings between the fragments of a compressed message",
    "their Pongs, then the echo",
)
def pings_between(test: Test) -> None:
    channel = open_channel(test)
    ping = channel.session.frame(b"are you there?", PING)
    parts = split(HELLO, 1)
    channel.session.send(fragments(channel, parts, between=ping))
    for _ in parts[1:]:
        channel.session.expect_pong(b"are you there?")
    channel.expect(b"Hello")
    channel.close()


@named(
    "D.6.22",
    AMID,
    "Pings, Pongs and empty fragments between the fragments of a compressed message",
    "a Pong for each Ping, then the echo",
)
def everything_between(test: Test) -> None:
    channel = open_channel(test)
    session = channel.session
    between = session.frame(b"1", PING) + session.frame(b"", PONG)
    between += session.frame(b"", CONTINUATION, fin=False) + session.frame(b"2", PING)
    session.send(fragments(channel, split(HELLO, 3), between))
    for _ in range(2):
        session.expect_pong(b"1")
        session.expect_pong(b"2")
    channel.expect(b"Hello")
    channel.close()


@named(
    "D.6.23",
    AMID,
    "a Ping between two fragments, the rest of the compressed message 0.1 s later",
    "the Pong at once, the echo after the rest",
)
def pong_at_once(test: Test) -> None:
    channel = open_channel(test)
    session = channel.session
    session.send(beginning(session) + session.frame(b"now", PING))
    session.expect_pong(b"now")
    session.expect_silence(0.1)
    session.send(session.frame(HELLO[3:], CONTINUATION))
    channel.expect(b"Hello")
    channel.close()


@named(
    "D.6.24",
    ("RFC 6455 5.5.1", "the endpoint MUST send a Close frame in response"),
    "a Close after the first fragment of a compressed message",
    "the closing handshake, and no message",
)
def close_amid(test: Test) -> None:
    session = open_channel(test).session
    session.send(beginning(session))
    session.close(1000)


@named("D.6.25", FRAGMENTS, "a fragmented compressed message, byte by byte over TCP", "the echo")
def bytewise(test: Test) -> None:
    channel = open_channel(test)
    text = "Grüße, schöne 😀 Welt. ".encode() * 4
    frames = channel.frames(channel.deflater.message(text), TEXT, 10)
    channel.session.send(frames, pieces=1)
    channel.expect(text)
    channel.close()


@named(
    "D.6.26",
    MARKED,
    "30 messages in one write: compressed, plain, and compressed in fragments by turns",
    "all echoes, in order",
)
def in_one_write(test: Test) -> None:
    channel = open_channel(test)
    session = channel.session
    texts = [words(test.random, 1 + i).encode() for i in range(30)]
    frames = b""
    for i, text in enumerate(texts):
        if i % 3 == 1:
            frames += session.message(text, TEXT, 7)
        else:
            frames += channel.frames(channel.deflater.message(text), TEXT, 5 if i % 3 else None)
    session.send(frames)
    for text in texts:
        channel.expect(text)
    channel.close()


# ---- D.7: windows taken over, or not ------------------------------------------------------------

RESET = (
    "RFC 7692 7.1.1.2",
    "By including this extension parameter in an extension negotiation response, a server prevents "
    "the peer client from using context takeover.",
)
VALIDATED = ("RFC 6455 10.7", "Incoming data MUST always be validated by both clients and servers.")
AGAIN = Blocks().fixed((5, 5)).message()  # "Hello" again, where the window ends with it


def taking_over(test: Test) -> Channel:
    """Where the server takes the client's window over."""
    channel = open_channel(test)
    if channel.terms.client_no_context:
        raise Unimplemented(f"the server insists on {CLIENT_NO_CONTEXT}")
    return channel


@named(
    "D.7.1",
    TAKEN_OVER,
    'the RFC\'s example: "Hello", then the same as a reference to the first message',
    "both echoes",
)
def example(test: Test) -> None:
    channel = taking_over(test)
    for data in (HELLO, bytes.fromhex("f200110000"), bytes.fromhex("f200110000")):
        channel.send_data(data)
        channel.expect(b"Hello")
    finish(channel)


# What comes between "Hello" and a reference to it, and must not touch the window.
INTERLUDES: list[tuple[str, Callable[[Channel], None]]] = [
    ("an uncompressed message", lambda c: plain(c, b"not for the window")),
    ("an uncompressed Binary message of 40000 bytes", lambda c: plain(c, b"x" * 40000, BINARY)),
    ("a compressed empty message", lambda c: crossed(c, b"\x00", b"")),
    ("an uncompressed empty message", lambda c: plain(c, b"")),
    ("a Ping", lambda c: pinged(c)),
    ("a compressed message of empty blocks", lambda c: crossed(c, empty_blocks(), b"")),
]


def plain(channel: Channel, payload: bytes, opcode: int = TEXT) -> None:
    channel.session.send(channel.session.message(payload, opcode))
    channel.expect(payload, opcode)


def crossed(channel: Channel, data: bytes, payload: bytes) -> None:
    channel.send_data(data)
    channel.expect(payload)


def pinged(channel: Channel) -> None:
    channel.session.send(channel.session.frame(b"Hello", PING))
    channel.session.expect_pong(b"Hello")


def empty_blocks() -> bytes:
    return Blocks().stored().fixed().stored().message()


def check_interlude(test: Test, interlude: Callable[[Channel], None]) -> None:
    channel = taking_over(test)
    crossed(channel, HELLO, b"Hello")
    interlude(channel)
    crossed(channel, AGAIN, b"Hello")
    finish(channel)


for _number, (_told, _interlude) in enumerate(INTERLUDES, 2):
    put(
        f"D.7.{_number}",
        TAKEN_OVER,
        sends=f'"Hello" compressed, then {_told}, then a reference to the "Hello"',
        expects="every echo",
        run=functools.partial(check_interlude, interlude=_interlude),
    )


@named(
    "D.7.10",
    TAKEN_OVER,
    "60 compressed messages that resemble each other, text and binary by turns",
    "every echo",
)
def many_alike(test: Test) -> None:
    channel = open_channel(test)
    line = words(test.random, 40)
    for i in range(60):
        channel.echo(f"{i}: {line}".encode(), BINARY if i % 3 else TEXT)
    channel.close()


@named(
    "D.7.11",
    TAKEN_OVER,
    "a compressed message in fragments that refers to one before, itself in fragments",
    "both echoes",
)
def fragments_refer(test: Test) -> None:
    channel = taking_over(test)
    for data in (HELLO, AGAIN):
        channel.session.send(fragments(channel, split(data, 1)))
        channel.expect(b"Hello")
    finish(channel)


@named(
    "D.7.12",
    MARKED,
    "only uncompressed messages, although compression was agreed on",
    "every echo, compressed or not",
)
def only_plain(test: Test) -> None:
    channel = open_channel(test)
    for payload in (b"", b"Hello", words(test.random, 300).encode(), HELLO[2:4] + b"!"):
        plain(channel, payload, BINARY)
    channel.close()


@named(
    "D.7.13",
    (f"RFC 7692 {STARTS_EMPTY[0]}", STARTS_EMPTY[1]),
    f"one message of noise five times; offer: {NAME}; {SERVER_NO_CONTEXT}",
    "every echo, none referring to one before",
)
def server_forgets(test: Test) -> None:
    channel = open_channel(test, f"{NAME}; {SERVER_NO_CONTEXT}")
    block = noise(test.random, 500)
    for _ in range(5):
        channel.echo(block, BINARY)
    channel.close()


@named(
    "D.7.14",
    (f"RFC 7692 {STARTS_EMPTY[0]}", STARTS_EMPTY[1]),
    f"text, then an empty message, then the text again; offer: {NAME}; {SERVER_NO_CONTEXT}",
    "every echo, none referring to one before",
)
def server_forgets_around_empty(test: Test) -> None:
    channel = open_channel(test, f"{NAME}; {SERVER_NO_CONTEXT}")
    text = words(test.random, 200).encode()
    for payload in (text, b"", text, b"", text):
        channel.echo(payload)
    channel.close()


@named(
    "D.7.15",
    RESET,
    f'"Hello", then a reference to it; offer: {NAME}; {CLIENT_NO_CONTEXT}',
    "the second message is refused, or inflated where the server kept the window all the same",
)
def client_refers_though_fresh(test: Test) -> None:
    channel = open_channel(test, f"{NAME}; {CLIENT_NO_CONTEXT}")
    if not channel.terms.client_no_context:
        raise Unimplemented(f"the server ignores {CLIENT_NO_CONTEXT}, as it may")
    crossed(channel, HELLO, b"Hello")
    channel.send_data(AGAIN)
    try:
        channel.expect(b"Hello")
    except Closed as closed:
        if closed.code in CORRUPT:
            return
        raise NonStrict(str(closed)) from None
    raise Informational("the server keeps the window all the same")


@named(
    "D.7.16",
    VALIDATED,
    'on one connection "Hello"; on another, as its first message, a reference to 5 bytes before',
    "the second connection is failed with 1007 or 1002: windows are not shared",
)
def not_shared(test: Test) -> None:
    first, second = open_channel(test), open_channel(test)
    crossed(first, HELLO, b"Hello")
    second.send_data(AGAIN)
    second.session.expect_failure(*CORRUPT)
    finish(first)


@named(
    "D.7.17",
    TAKEN_OVER,
    "on two connections by turns: messages that refer to the one before on the same connection",
    "every echo, each from its own window",
)
def two_windows(test: Test) -> None:
    channels = [taking_over(test), taking_over(test)]
    for channel, text in zip(channels, (b"Hello", b"Salut")):
        crossed(channel, Blocks().fixed(text).message(), text)
    for _ in range(3):
        for channel, text in zip(channels, (b"Hello", b"Salut")):
            crossed(channel, AGAIN, text)
    for channel in channels:
        finish(channel)


# ---- D.8: as far back as the window reaches -----------------------------------------------------

REACH = (
    "RFC 7692 7.1.2.2",
    "the server can receive messages compressed using an LZ77 sliding window of up to",
)


def check_reach(test: Test, bits: int) -> None:
    """Within one message: the first bytes of the window again."""
    channel = open_channel(test, f"{NAME}; {CLIENT_BITS}={bits}")
    window = 1 << channel.terms.client_bits
    block = noise(test.random, window)
    channel.send_data(stored(block, 30000).fixed((258, window), (3, window)).message(), BINARY)
    channel.expect((block * 3)[: window + 261], BINARY)
    finish(channel)


for _bits in range(8, 16):
    put(
        f"D.8.{_bits}",
        REACH,
        sends="a message that refers back exactly as far as the agreed window (32768 bytes if the "
        f"answer names none); offer: {NAME}; {CLIENT_BITS}={_bits}",
        expects="its echo",
        run=functools.partial(check_reach, bits=_bits),
    )


def check_reach_over(test: Test, bits: int) -> None:
    """Over three messages, the window sliding on."""
    channel = open_channel(test, f"{NAME}; {CLIENT_BITS}={bits}")
    if channel.terms.client_no_context:
        raise Unimplemented(f"the server insists on {CLIENT_NO_CONTEXT}")
    window = 1 << channel.terms.client_bits
    history = noise(test.random, window + 100)
    for part in (history[: window // 2], history[window // 2 :]):
        channel.send_data(stored(part, 30000).message(), BINARY)
        channel.expect(part, BINARY)
    for _ in range(3):
        again = history[-window:][:100]
        channel.send_data(Blocks().fixed((100, window)).message(), BINARY)
        channel.expect(again, BINARY)
        history += again
    finish(channel)


for _bits in (9, 12, 15):
    put(
        f"D.8.{_bits + 10}",
        REACH,
        sends="messages that refer back exactly as far as the agreed window, into messages "
        f"before; offer: {NAME}; {CLIENT_BITS}={_bits}",
        expects="every echo",
        run=functools.partial(check_reach_over, bits=_bits),
    )


def check_beyond(test: Test, bits: int) -> None:
    """One byte too far."""
    channel = open_channel(test, f"{NAME}; {CLIENT_BITS}={bits}")
    if channel.terms.client_bits == 15:
        raise Unimplemented("the server leaves the window at 32768 bytes, as it may")
    window = 1 << channel.terms.client_bits
    block = noise(test.random, window + 1)
    data = stored(block).fixed((10, window + 1)).message()
    channel.send_data(data, BINARY)
    try:
        channel.expect(block + block[:10], BINARY)
    except Closed as closed:
        raise Informational(f"the server refuses it with {closed.code}") from None
    raise Informational("the server inflates it all the same")


for _bits in (9, 12):
    put(
        f"D.8.{_bits + 20}",
        (f"RFC 7692 {WITHIN_WINDOW[0]}", WITHIN_WINDOW[1].replace("server", "client")),
        sends="a reference one byte beyond the agreed window; offer: "
        f"{NAME}; {CLIENT_BITS}={_bits}",
        expects="a connection that is failed, or the echo: the RFC tells the sender only",
        run=functools.partial(check_beyond, bits=_bits),
    )

# ---- D.9: broken data ---------------------------------------------------------------------------


def dynamic(literals: int, distances: int, lengths: list[int], *codes: tuple[int, int]) -> bytes:
    """A block with Huffman codes of its own (RFC 1951 3.2.7): the counts as they are sent, lengths
    of the code lengths' codes, then codes and the bits after them."""
    blocks = Blocks().bits(2 << 1, 3).bits(literals, 5).bits(distances, 5)
    blocks.bits(len(lengths) - 4, 4)
    for length in lengths:
        blocks.bits(length, 3)
    for value, count in codes:
        blocks.bits(value, count)
    return blocks.message()


BROKEN = [
    ("a block of the reserved type 3", Blocks().bits(3 << 1, 3).message()),
    ("a block of the reserved type 3, after a good one", Blocks().fixed(b"x").bits(6, 3).message()),
    ("a stored block whose length and its complement differ", b"\x00\x05\x00\xfa\xfeHello\x00"),
    ("the invalid length symbol 286", Blocks().fixed(b"Hello").bits(2, 3).symbol(286).message()),
    (
        "the invalid distance symbol 30",
        Blocks().bits(2, 3).symbol(72).symbol(257).code(30, 5).message(),
    ),
    (
        "the invalid distance symbol 31",
        Blocks().bits(2, 3).symbol(72).symbol(257).code(31, 5).message(),
    ),
    ("a reference with nothing before", Blocks().fixed((3, 1)).message()),
    ("a reference one byte too far back", Blocks().fixed(b"Hello", (5, 6)).message()),
    ("a reference 32768 bytes back", Blocks().fixed(b"Hello", (5, 32768)).message()),
    ("too many literal codes", dynamic(30, 0, [1, 1, 1, 1])),
    ("too many distance codes", dynamic(0, 30, [1, 1, 1, 1])),
    ("more codes than there can be", dynamic(0, 0, [1, 1, 1, 1])),
    ("fewer codes than there must be", dynamic(0, 0, [0, 0, 1, 0])),
    ("a repetition of no code", dynamic(0, 0, [1, 0, 0, 1], (1, 1), (0, 2))),
    (
        "no code for the end of the block",
        dynamic(0, 0, [0, 0, 1, 1], (1, 1), (127, 7), (1, 1), (109, 7)),
    ),
    ("100 bytes of 00", bytes(100)),
    ("100 bytes of ff", b"\xff" * 100),
    ("uncompressed text with RSV1", b"This is not compressed at all."),
    ("a zlib stream", zlib.compress(b"Hello")),
    ("a gzip header", bytes.fromhex("1f8b0800000000000003") + HELLO),
]


def check_broken(test: Test, data: bytes) -> None:
    """And a connection beside it goes on."""
    other, channel = open_channel(test), open_channel(test)
    channel.send_data(data, BINARY)
    channel.session.expect_failure(*CORRUPT)
    finish(other)


for _number, (_told, _data) in enumerate(BROKEN, 1):
    put(
        f"D.9.{_number}",
        VALIDATED,
        sends=f"compressed data with a fault: {_told}",
        expects="the connection is failed with 1007 or 1002, and another one goes on",
        run=functools.partial(check_broken, data=_data),
    )

_TEXT = b"one two three two one two three " * 8
_WHOLE = zlib.compressobj(9, zlib.DEFLATED, -15)
_WHOLE_DATA = _WHOLE.compress(_TEXT) + _WHOLE.flush(zlib.Z_SYNC_FLUSH)

CUT_OFF = (
    "RFC 6455 10.7",
    "If the invalid data was received after a successful WebSocket handshake, the endpoint SHOULD "
    "send a Close frame with an appropriate status code",
)

INCOMPLETE = [
    ("a stored block with less than it says", Blocks().raw(b"\x00\x64\x00\x9b\xffHello").data()),
    ("a stored block that lacks its last 4 bytes", b"\x00\x09\x00\xf6\xffHello"),
    ("only the beginning of a stored block's length", b"\x00\x05"),
    ("compressed text without its last 8 bytes", _WHOLE_DATA[:-12]),
    ("compressed text without its second half", _WHOLE_DATA[: len(_WHOLE_DATA) // 2]),
    ("a fixed block without its end", HELLO[:4]),
    (
        "garbage after a block with BFINAL",
        Blocks().stored(b"Hello", final=True).raw(b"\xff" * 9).data(),
    ),
]

for _number, (_told, _data) in enumerate(INCOMPLETE, 41):
    put(
        f"D.9.{_number}",
        CUT_OFF,
        sends=f"compressed data that is cut or goes on too long: {_told}",
        expects="the connection is failed with 1007 or 1002, and another one goes on",
        run=functools.partial(check_broken, data=_data),
        level=SHOULD,
    )


# ---- D.10: UTF-8 inside compressed text ---------------------------------------------------------

UTF8 = (
    "RFC 6455 8.1",
    "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is not,"
    " in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_.",
)

NOT_UTF8 = [
    ("the byte ff", b"\xff"),
    ("ff after good text", b"good text " * 100 + b"\xff"),
    ("ff between good text", b"good text " * 600 + b"\xff" + b"good text " * 600),
    ("a character that is cut at the end", "good text ä".encode()[:-1]),
    ("a four-byte character that is cut at the end", "good text 😀".encode()[:-1]),
    ("a character that is cut in the middle", b"\xe2\x82 good text"),
    ("a continuation byte alone", b"good \x80 text"),
    ("a surrogate", b"\xed\xa0\x80"),
    ("an overlong form", b"\xc0\xaf"),
    ("a code point above 10ffff", b"\xf4\x90\x80\x80"),
]


def check_not_utf8(test: Test, payload: bytes, size: int | None = None) -> None:
    """As Binary it is fine."""
    channel = open_channel(test)
    channel.echo(payload, BINARY)
    channel.send(payload, TEXT, size)
    channel.session.expect_failure(1007)


for _number, (_told, _payload) in enumerate(NOT_UTF8, 1):
    put(
        f"D.10.{_number}",
        UTF8,
        sends=f"a compressed Binary, then a compressed Text message: {_told}",
        expects="the echo of the first, then the connection is failed with 1007",
        run=functools.partial(check_not_utf8, payload=_payload),
    )

put(
    "D.10.20",
    UTF8,
    sends="a compressed Text message with the byte ff, in fragments of 2 bytes",
    expects="the connection is failed with 1007",
    run=functools.partial(check_not_utf8, payload=b"good text \xff more", size=2),
)


@named(
    "D.10.21",
    UTF8,
    "an uncompressed Text message with the byte ff, where compression was agreed on",
    "the connection is failed with 1007",
)
def plain_not_utf8(test: Test) -> None:
    session = open_channel(test).session
    session.send(session.message(b"good text \xff"))
    session.expect_failure(1007)


@named(
    "D.10.22",
    UTF8,
    "a Binary message with ff, then a Text message that is a reference to it",
    "the echo of the first, then the connection is failed with 1007",
)
def refers_to_not_utf8(test: Test) -> None:
    channel = taking_over(test)
    channel.send_data(Blocks().fixed(b"ab\xffcd").message(), BINARY)
    channel.expect(b"ab\xffcd", BINARY)
    channel.send_data(AGAIN)
    channel.session.expect_failure(1007)


@named(
    "D.10.23",
    UTF8,
    "compressed text whose characters are cut by blocks, by references and by fragments",
    "the echo",
)
def cut_characters(test: Test) -> None:
    channel = open_channel(test)
    text = "ä€😀".encode()
    blocks = Blocks()
    for byte in text:
        blocks.stored(bytes([byte]))
    data = blocks.fixed((4, 9), (5, 9), (9, 9)).message()
    for size in (None, 1, 3):
        channel.send_data(data, TEXT, size)
        channel.expect(text * 3)
    finish(channel)


@named(
    "D.10.24",
    UTF8,
    "compressed text with NUL, a byte order mark, noncharacters and characters of every length",
    "its echo",
)
def strange_text(test: Test) -> None:
    channel = open_channel(test)
    text = "\0\ufeff\ufffe\uffff\x7f\x80\u07ff\u0800\ud7ff\ue000\U00010000\U0010ffff"
    channel.echo(text.encode())
    channel.close()


# ---- D.11: bombs and floods ---------------------------------------------------------------------

LIMIT = (
    "RFC 6455 10.4",
    "Implementations that have implementation- and/or platform-specific limitations regarding the "
    "frame size or total message size after reassembly from multiple frames MUST protect "
    "themselves against exceeding those limits.",
)
MIB = 1 << 20


@functools.lru_cache(maxsize=None)
def zeros() -> bytes:
    """A MiB of zeros, on its own wherever it stands."""
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return stream.compress(bytes(MIB)) + stream.flush(zlib.Z_FULL_FLUSH)


def first_opcode(channel: Channel, seconds: float) -> int | None:
    """Of the frame that comes next; None: TCP ended. A large message is not waited for."""
    connection = channel.session.connection
    deadline = connection.deadline(seconds)
    try:
        while not connection.buffer:
            connection.fill(deadline)
    except Ended:
        return None
    except TimedOut:
        raise Failed("neither a Close nor the echo came in time") from None
    return connection.buffer[0] & 15


def check_bomb(test: Test, mib: int, opcode: int, size: int | None) -> None:
    """Whatever becomes of it: a connection beside it is served."""
    other, channel = open_channel(test), open_channel(test)
    channel.send_data((zeros() * mib)[: -len(TAIL)], opcode, size)
    got = first_opcode(channel, max(test.timeout, test.seconds(15)))
    if got in (TEXT, BINARY):
        channel.session.connection.reset()
        finish(other)
        raise Informational(f"the server takes messages of {mib} MiB")
    channel.session.expect_failure(1009)
    finish(other)


BOMBS = [
    (16, BINARY, None),
    (64, BINARY, None),
    (64, TEXT, None),
    (64, BINARY, 1000),
    (256, BINARY, None),
]

for _number, (_mib, _opcode, _size) in enumerate(BOMBS, 1):
    _kind = "Text" if _opcode == TEXT else "Binary"
    _cut_told = f" in fragments of {_size} bytes" if _size else ""
    add(
        f"D.11.{_number}",
        LIMIT[0],
        MUST,
        LIMIT[1],
        sends=f"{_mib} KiB of data{_cut_told} that inflate to a {_kind} message of {_mib} MiB",
        expects="the connection is failed with 1009, and another one goes on; INFORMATIONAL where "
        "the server takes messages of that size",
        run=functools.partial(check_bomb, mib=_mib, opcode=_opcode, size=_size),
        tags=("deflate", "limits"),
    )


@named("D.11.10", BLOCKS, 'a message of 2000 empty stored blocks, and "Hello"', "the echo of Hello")
def stored_flood(test: Test) -> None:
    channel = open_channel(test)
    crossed(channel, Blocks().stored().data() * 2000 + HELLO, b"Hello")
    finish(channel)


@named(
    "D.11.11",
    PADDING,
    'a message of 4000 empty blocks with BFINAL, and "Hello"',
    "the echo of Hello; INFORMATIONAL: the server takes it for a bomb and closes with 1009",
)
def final_flood(test: Test) -> None:
    channel = open_channel(test)
    try:
        crossed(channel, Blocks().fixed(final=True).data() * 4000 + HELLO, b"Hello")
    except Closed as error:
        if error.code != 1009:
            raise
        raise Informational("the server protects itself with a Close 1009") from None
    finish(channel)


@named("D.11.12", FRAGMENTS, "a compressed message with 3000 empty fragments", "its echo")
def fragment_flood(test: Test) -> None:
    channel = open_channel(test)
    channel.session.send(fragments(channel, [HELLO[:3]] + [b""] * 3000 + [HELLO[3:]]))
    channel.expect(b"Hello")
    finish(channel)


@named(
    "D.11.13",
    INFLATE,
    "400 compressed empty messages in one write, and one that is not",
    "400 empty messages, and the last one",
)
def message_flood(test: Test) -> None:
    channel = open_channel(test)
    channel.session.send(channel.frames(b"\x00") * 400 + channel.frames(HELLO))
    for _ in range(400):
        channel.expect(b"")
    channel.expect(b"Hello")
    finish(channel)


@named(
    "D.11.14",
    INFLATE,
    "a message of 100000 zeros, in 120 bytes of data: much, but no bomb",
    "its echo",
)
def harmless(test: Test) -> None:
    channel = open_channel(test)
    channel.echo(bytes(100000), BINARY)
    channel.close()


# ---- D.12: sizes --------------------------------------------------------------------------------

SIZES = (0, 1, 2, 125, 126, 127, 128, 255, 256, 4095, 4096, 32767, 32768, 32769, 65535, 65536)


def check_size(test: Test, size: int) -> None:
    """Of noise, and of what almost vanishes."""
    channel = open_channel(test)
    channel.echo(noise(test.random, size), BINARY)
    channel.echo(b"=" * size, TEXT)
    channel.close()


for _number, _size in enumerate(SIZES, 1):
    put(
        f"D.12.{_number}",
        INFLATE,
        sends=f"{_size} bytes of noise as Binary, and as many equal letters as Text",
        expects="their echoes",
        run=functools.partial(check_size, size=_size),
    )

LENGTHS = ("RFC 6455 5.2", "the minimal number of bytes MUST be used to encode the length")


def check_wire_size(test: Test, size: int) -> None:
    """A stored block and the beginning of another are 6 bytes more than they hold."""
    channel = open_channel(test)
    payload = noise(test.random, size - 6)
    channel.send_data(Blocks().stored(payload).message(), BINARY)
    channel.expect(payload, BINARY)
    finish(channel)


for _number, _size in enumerate((125, 126, 127, 65535, 65536), 31):
    put(
        f"D.12.{_number}",
        LENGTHS,
        sends=f"a message whose compressed data has exactly {_size} bytes",
        expects="its echo",
        run=functools.partial(check_wire_size, size=_size),
    )
