# SPDX-License-Identifier: MIT
"""UTF-8 (group 6): valid and invalid text in one frame and in fragments, how early invalid text is
detected (6.4), and the well-known stress test for decoders by sequence (6.5 to 6.23).
"""

from __future__ import annotations

from typing import Iterable

from ..case import MUST, Run, Test, add, case
from ..session import Session
from ..verdicts import NonStrict
from ..wire import BINARY, CONTINUATION, PING, TEXT
from .steps import F, deliver, echoed, expect_pong_and_echo, failed, joined, octets

TEXT_DATA = "RFC 6455 5.6 and 5.4"
SUPPORT = (
    "[5.4:] Clients and servers MUST support receiving both fragmented and unfragmented messages."
)
IS_TEXT = f'The "Payload data" is text data encoded as UTF-8. {SUPPORT}'
PARTIAL = f"a particular text frame might include a partial UTF-8 sequence {SUPPORT}"
INVALID = "RFC 6455 8.1"
FAIL = (
    "When an endpoint is to interpret a byte stream as UTF-8 but finds that the byte stream is "
    "not, in fact, a valid UTF-8 stream, that endpoint MUST _Fail the WebSocket Connection_."
)
ECHO = "its echo"
IS_FAILED = "the connection is failed with 1007"

GREEK = bytes.fromhex("ceba e1bdb9 cf83 cebc ceb5")  # five letters, the second of three octets
LATIN = "Hello-µ@ßöäüàá-UTF-8!!".encode()
SURROGATE = GREEK + b"\xed\xa0\x80" + b"edited"
TOO_HIGH = GREEK + b"\xf4\x90\x80\x80" + b"edited"


def valid(id: str, sends: str, run: Run) -> None:
    add(id, TEXT_DATA, MUST, IS_TEXT, sends, ECHO, run)


def invalid(id: str, sends: str, run: Run) -> None:
    add(id, INVALID, MUST, FAIL, sends, IS_FAILED, run)


def fragments(*payloads: bytes, opcode: int = TEXT) -> list[F]:
    """Send a message in these fragments, and expect its echo."""
    last = len(payloads) - 1
    return [
        F(payload, CONTINUATION if i else opcode, fin=i == last)
        for i, payload in enumerate(payloads)
    ]


# ---- 6.1 to 6.3: whole messages and fragments ---------------------------------------------------

valid("6.1.1", "an empty text message", echoed(b""))
valid("6.1.2", "three empty fragments", joined(fragments(b"", b"", b""), b""))
valid(
    "6.1.3",
    "three fragments, of which the first and the last are empty",
    joined(fragments(b"", b"in the middle", b""), b"in the middle"),
)
valid("6.2.1", f"{LATIN.decode()!r} in one frame", echoed(LATIN))
valid(
    "6.2.2",
    f"{LATIN.decode()!r} in two fragments, split between two characters",
    joined(fragments(LATIN[:15], LATIN[15:]), LATIN),
)
valid("6.2.3", f"{LATIN.decode()!r} in fragments of one octet", echoed(LATIN, size=1))
valid("6.2.4", f"{GREEK.decode()!r} in fragments of one octet", echoed(GREEK, size=1))
invalid("6.3.1", "text with the surrogate U+D800 in one frame", failed([F(SURROGATE)], 1007))
invalid(
    "6.3.2",
    "text with the surrogate U+D800 in fragments of one octet",
    failed(fragments(*(SURROGATE[i : i + 1] for i in range(len(SURROGATE)))), 1007),
)


# ---- 6.4: early detection -----------------------------------------------------------------------


def expect_fast_failure(session: Session, bad: bytes, rest: bytes) -> None:
    """Send `bad`, which makes the text invalid, and the rest if the peer stays silent."""
    session.expect_silence(0.1)
    session.send(bad)
    late = not session.answers(0.4)
    if late:
        session.send(rest)
    session.expect_failure(1007)
    if late:
        raise NonStrict("invalid text was found only at the end of the message")


def fast_by_frames(cut: int, end: int) -> Run:
    """Send TOO_HIGH in three fragments; the one from `cut` to `end` has the invalid octet."""

    def run(test: Test) -> None:
        session = test.open()
        first, bad, rest = fragments(TOO_HIGH[:cut], TOO_HIGH[cut:end], TOO_HIGH[end:])
        deliver(session, [first])
        expect_fast_failure(session, bad.bytes(session), rest.bytes(session))

    return run


def fast_by_chops(data: bytes, cut: int, end: int) -> Run:
    """Send the same in three writes of one frame."""

    def run(test: Test) -> None:
        session = test.open()
        frame = session.frame(data)
        head = len(frame) - len(data)
        with session.in_parts():
            session.send(frame[: head + cut])
            expect_fast_failure(session, frame[head + cut : head + end], frame[head + end :])

    return run


AT_ONCE = "the connection is failed with 1007 at the invalid octet; NON-STRICT: at the end"


def fast(id: str, sends: str, run: Run) -> None:
    add(id, INVALID, MUST, FAIL, sends, AT_ONCE, run)


fast(
    "6.4.1",
    "text in three fragments with pauses; the second is U+110000, which is not a character",
    fast_by_frames(11, 15),
)
fast(
    "6.4.2",
    "text in three fragments; the second ends with the octet that makes the text invalid",
    fast_by_frames(12, 13),
)
fast(
    "6.4.3",
    "text in one frame, sent in three pieces; the second is U+110000, which is not a character",
    fast_by_chops(TOO_HIGH, 11, 15),
)
fast(
    "6.4.4",
    "text in one frame, sent in three pieces; the second is the octet that makes it invalid",
    fast_by_chops(TOO_HIGH, 12, 13),
)

# The last octet of each cannot follow the octets before it.
IMPOSSIBLE = [
    b"\x80",
    b"\xc0",
    b"\xc1",
    b"\xf5",
    b"\xff",
    b"\xc3A",
    b"\xe0\x9f",
    b"\xe2\x82A",
    b"\xed\xa0",
    b"\xf0\x8f",
]
for number, sequence in enumerate(IMPOSSIBLE, 5):
    end = len(GREEK + sequence)
    fast(
        f"6.4.{number}",
        f"one frame in three pieces; after valid text comes {sequence.hex(' ')}, whose last octet "
        "is impossible there and is the second piece",
        fast_by_chops(GREEK + sequence + b"edited", end - 1, end),
    )


# ---- 6.5 to 6.23: single sequences --------------------------------------------------------------


def encode(code: int, length: int) -> bytes:
    """Encode a number in the scheme of UTF-8 in so many octets, even if overlong or too high.

    RFC 3629 made lengths 5 and 6 and overlong encodings invalid.
    """
    if length == 1:
        return bytes([code])
    lead = (0xFF00 >> length & 0xFF) | code >> 6 * (length - 1)
    return bytes([lead] + [0x80 | code >> 6 * i & 0x3F for i in range(length - 2, -1, -1)])


def highest(length: int) -> int:
    """Return the highest number for that many octets."""
    return 0x7F if length == 1 else (1 << 5 * length + 1) - 1


def lonely(first: int, last: int) -> bytes:
    """Return lead octets without the octets that must follow."""
    return b"".join(bytes([lead, 0x20]) for lead in range(first, last))


def each(codes: Iterable[int]) -> list[bytes]:
    """Encode numbers in their proper lengths, including surrogates."""
    return [encode(code, 2 if code < 0x800 else 3 if code < 0x10000 else 4) for code in codes]


OVERLONG = range(2, 7)
PAIRS = [(high, low) for high in (0xD800, 0xDB7F, 0xDB80, 0xDBFF) for low in (0xDC00, 0xDFFF)]
CUT_SHORT = [encode(0, n)[:-1] for n in OVERLONG] + [encode(highest(n), n)[:-1] for n in OVERLONG]

# Number, title, and sequences of a group. Python's decoder decides which of them are valid.
SEQUENCES: list[tuple[int, str, list[bytes]]] = [
    (5, "valid", [f"hello{c}world".encode() for c in "$¢€\U00024b62"] + [GREEK]),
    (6, "a prefix of valid text", [GREEK[:n] for n in range(1, 12)]),
    (7, "the first of its length", [encode(code, n) for code, n in
                                    ((0, 1), (0x80, 2), (0x800, 3), (0x10000, 4))]),
    (8, "the first of a length that is not allowed", [encode(0x200000, 5), encode(0x4000000, 6)]),
    (9, "the last of its length", [b"\x7f", *each([0x7FF, 0xFFFF, 0x10FFFF])]),
    (10, "the last of a length", [encode(highest(n), n) for n in (4, 5, 6)]),
    (11, "at a boundary", each([0xD7FF, 0xE000, 0xFFFD, 0x10FFFF, 0x110000])),
    (12, "lone continuation octets", [b"\x80", b"\xbf"]
     + [(b"\x80\xbf" * 3)[:n] for n in range(2, 7)] + [bytes(range(0x80, 0xBF))]),
    (13, "lone lead octets", [lonely(0xC0, 0xDF), lonely(0xE0, 0xEF), lonely(0xF0, 0xF7),
                         lonely(0xF8, 0xFB), lonely(0xFC, 0xFD)]),
    (14, "without its last octet", CUT_SHORT),
    (15, "many without their last octets", [b"".join(CUT_SHORT)]),
    (16, "impossible octets", [b"\xfe", b"\xff", b"\xfe\xfe\xff\xff"]),
    (17, "an overlong slash", [encode(0x2F, n) for n in OVERLONG]),
    (18, "the highest overlong form", [encode(highest(n - 1), n) for n in OVERLONG]),
    (19, "an overlong NUL", [encode(0, n) for n in OVERLONG]),
    (20, "a surrogate", each([0xD800, 0xDB7F, 0xDB80, 0xDBFF, 0xDC00, 0xDF80, 0xDFFF])),
    (21, "a surrogate pair", [b"".join(each(pair)) for pair in PAIRS]),
    (22, "valid noncharacters", each(
        plane << 16 | last for plane in range(17) for last in (0xFFFE, 0xFFFF))),
    (23, "a special", each(range(0xFFF9, 0x10000))),
]  # fmt: skip


def is_valid(data: bytes) -> bool:
    try:
        data.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def add_sequence(id: str, what: str, data: bytes) -> None:
    sends = f"a text message: {what}: {data.hex(' ') if len(data) < 30 else f'{len(data)} octets'}"
    if is_valid(data):
        valid(id, sends, echoed(data))
    else:
        invalid(id, sends, failed([F(data)], 1007))


for group, what, rows in SEQUENCES:
    for number, sequence in enumerate(rows, 1):
        add_sequence(f"6.{group}.{number}", what, sequence)


# ---- 6.24 and later: not in the Autobahn suite --------------------------------------------------

CHARACTERS = [c.encode() for c in "é€\U00024b62"]
for number, character in enumerate(CHARACTERS, 1):
    short = character[:-1]
    cut = f"text that ends within a character ({short.hex(' ')})"
    invalid(f"6.24.{number}", f"{cut}, in one frame", failed([F(GREEK + short)], 1007))
    invalid(
        f"6.24.{number + 3}",
        f"{cut}, whose last fragment is empty",
        failed(fragments(GREEK + short, b""), 1007),
    )
invalid(
    "6.24.7",
    "text that ends within a character, followed by a message that would complete it",
    failed([F(b"caf\xc3"), F(b"\xa9")], 1007),
)


def add_parted(number: int, character: bytes) -> None:
    @case(
        f"6.25.{number}",
        TEXT_DATA,
        MUST,
        PARTIAL,
        sends=f"{character.decode()!r} in two fragments, split after each of its octets in turn",
        expects="an echo of each",
    )
    def parted(test: Test) -> None:
        session = test.open()
        for i in range(len(character) + 1):
            deliver(session, fragments(character[:i], character[i:]))
        for _ in range(len(character) + 1):
            session.expect_message(character)
        session.close()


for number, character in enumerate(CHARACTERS, 1):
    add_parted(number, character)


@case(
    "6.25.4",
    TEXT_DATA,
    MUST,
    PARTIAL,
    sends="a fragment that ends within a character, a Ping that is not UTF-8, and the rest",
    expects="a Pong and the echo: a Ping is not part of the text",
)
def ping_within_character(test: Test) -> None:
    session = test.open()
    first, last = fragments(b"caf\xc3", b"\xa9")
    deliver(session, [first, F(b"\xff\xfe", PING), last])
    expect_pong_and_echo(session, b"\xff\xfe", b"caf\xc3\xa9")
    session.close()


for id, how, size in (("6.26.1", "one frame", 0), ("6.26.2", "fragments of 5 octets", 5)):
    add(
        id,
        TEXT_DATA,
        MUST,
        'The "Payload data" is arbitrary binary data whose interpretation is solely up to the '
        f"application layer. {SUPPORT}",
        f"a binary message that is not UTF-8, in {how}",
        ECHO,
        echoed(octets(256), BINARY, size=size),
    )

REPERTOIRES = [
    ("all characters up to U+07FF", range(0x800)),
    ("every 13th character from U+0800 to U+FFFF", range(0x800, 0x10000, 13)),
    ("every 331st character from U+10000 to U+10FFFF", range(0x10000, 0x110000, 331)),
]
for number, (what, codes) in enumerate(REPERTOIRES, 1):
    characters = "".join(chr(code) for code in codes if not 0xD800 <= code < 0xE000)
    valid(f"6.27.{number}", f"{what} in one message", echoed(characters.encode()))


@case(
    "6.27.4",
    TEXT_DATA,
    MUST,
    IS_TEXT,
    sends="text with every control character of ASCII, NUL included",
    expects="its echo, to the last octet",
)
def control_characters(test: Test) -> None:
    session = test.open()
    data = bytes(range(32)) + b"\x7f"
    session.send(session.message(data))
    session.expect_message(data)
    session.close()
