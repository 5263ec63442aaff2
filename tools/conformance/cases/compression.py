# SPDX-License-Identifier: MIT
"""Compressed messages of every kind and size (groups 12 and 13).

The ids are those of the Autobahn suite: 12.K.N sends payload kind K, 13.P.N sends JSON with the
parameter set P, and N is the row of `SERIES`: the size and number of messages, and the size of the
fragments of their compressed data. The suite sends 1000 messages in every case. This runner sends 2
to 20, which is enough for a window to be taken over and to slide, and takes a few seconds in all.
With --full it also sends 1000.

Group 12 offers the extension without parameters, so that the client also takes its window over if
the server allows it. The suite makes the same offer as in 13.1 there, with both hints of a client.
"""

from __future__ import annotations

import functools
import json
import random
import threading
from typing import Callable, Iterator

from ..case import MUST, Test, add
from ..deflate import NAME, open_channel
from ..wire import BINARY, TEXT

# Size of a message, number of messages, size of the fragments (0: none).
SERIES = [
    (16, 20, 0),
    (64, 20, 0),
    (256, 20, 0),
    (1024, 16, 0),
    (4096, 12, 0),
    (8192, 8, 0),
    (16384, 6, 0),
    (32768, 4, 0),
    (65536, 3, 0),
    (131072, 3, 0),
    (8192, 6, 256),
    (16384, 4, 256),
    (32768, 3, 256),
    (65536, 2, 256),
    (131072, 2, 256),
    (131072, 2, 1024),
    (131072, 2, 4096),
    (131072, 2, 32768),
]
FULL = 1000
"""Messages of every case with --full."""
FULL_SECONDS = 480.0
"""The time limit of a case then; the suite has the same limit for large messages."""

# ---- payloads -----------------------------------------------------------------------------------

AMOUNT = 192 * 1024  # bytes of each kind; messages are successive slices of them


def noise(generator: random.Random, n: int) -> bytes:
    """Return bytes that cannot be compressed."""
    return generator.getrandbits(8 * n).to_bytes(n, "little") if n else b""


def words(generator: random.Random, n: int) -> str:
    """Return random words."""
    syllables = ("ka", "ro", "ti", "len", "sü", "mar", "do", "vé", "ni", "schö", "ba", "tur", "e")
    made = ["".join(generator.choices(syllables, k=generator.randint(1, 4))) for _ in range(n)]
    return " ".join(made)


def make_json(generator: random.Random) -> bytes:
    def record(i: int) -> dict[str, object]:
        return {
            "id": i,
            "name": words(generator, 2).title(),
            "balance": round(generator.uniform(-1000, 1000), 2),
            "tags": generator.sample(["red", "green", "blue", "größe", "名前", "😀"], 3),
            "active": generator.random() < 0.5,
            "about": words(generator, 12),
        }

    return json.dumps([record(i) for i in range(900)], ensure_ascii=False, indent=1).encode()


def make_picture(generator: random.Random) -> bytes:
    """Return rows of 512 gray values: slow gradients with noise."""
    grain = noise(generator, AMOUNT)
    return bytes(((i % 512 * 3 + i // 512 * 5) // 16 + (grain[i] & 7)) & 255 for i in range(AMOUNT))


def make_prose(generator: random.Random) -> bytes:
    """Return verses in an 8-bit character set, which is not UTF-8."""
    lines = (words(generator, generator.randint(4, 9)).capitalize() for _ in range(6000))
    return "\r\n".join(lines).encode("latin-1")


def make_document(generator: random.Random) -> bytes:
    """Return compressed streams with some structure around them."""
    parts = []
    for i in range(AMOUNT // 4000 + 1):
        head = f"{i} 0 obj\n<< /Length 4000 /Filter /FlateDecode >>\nstream\n"
        parts.append(head.encode() + noise(generator, 4000) + b"\nendstream\nendobj\n")
    return b"".join(parts)


def make_html(generator: random.Random) -> bytes:
    rows = (
        f'<tr class="{"odd" if i & 1 else "even"}"><td>{i}</td>'
        f'<td><a href="/item/{i}">{words(generator, 3)}</a></td>'
        f"<td>{words(generator, 10)} &mdash; €&nbsp;{generator.randint(1, 999)}</td></tr>\n"
        for i in range(1500)
    )
    return ("<!DOCTYPE html>\n<table>\n" + "".join(rows) + "</table>\n").encode()


# What 12.K sends: description, opcode, function.
KINDS: list[tuple[str, int, Callable[[random.Random], bytes]]] = [
    ("JSON", TEXT, make_json),
    ("a grey picture", BINARY, make_picture),
    ("prose in Latin-1", BINARY, make_prose),
    ("a document of compressed streams", BINARY, make_document),
    ("HTML", TEXT, make_html),
]


making = threading.Lock()  # cases run concurrently, but each kind must be made only once


def material(kind: int) -> bytes:
    """Return AMOUNT bytes of a kind twice: a slice may start anywhere in the first copy."""
    with making:
        return make_material(kind)


@functools.lru_cache(maxsize=None)
def make_material(kind: int) -> bytes:
    name, _, make = KINDS[kind]
    made = make(random.Random(name))[:AMOUNT]
    if len(made) < AMOUNT:
        raise ValueError(f"only {len(made)} bytes of {name}")
    return made + made


def whole_characters(data: bytes) -> bytes:
    """Return the same length of valid UTF-8, with spaces in place of truncated characters."""
    return data.decode(errors="ignore").encode().ljust(len(data))


def payloads(kind: int, size: int, count: int, at: int) -> Iterator[bytes]:
    """Return successive slices of the material as messages, starting at the offset `at`."""
    data, opcode = material(kind), KINDS[kind][1]
    for i in range(count):
        cut = (at + i * size) % AMOUNT
        part = data[cut : cut + size]
        yield whole_characters(part) if opcode == TEXT else part


# ---- the cases ----------------------------------------------------------------------------------


def run(test: Test, offers: str, kind: int, row: tuple[int, int, int]) -> None:
    """Send each message after the echo of the previous one."""
    size, count, fragment = row
    opcode = KINDS[kind][1]
    if test.settings.full:
        count = FULL
        test.trace.deadline = test.trace.began + test.seconds(FULL_SECONDS)
    channel = open_channel(test, offers)
    for payload in payloads(kind, size, count, test.random.randrange(AMOUNT)):
        channel.echo(payload, opcode, fragment or None)
    channel.close()


def add_series(prefix: str, quote: str, section: str, offers: str, told: str, kind: int) -> None:
    """Add a case for every row of SERIES."""
    for i, row in enumerate(SERIES, 1):
        size, count, fragment = row
        cut = f", each in fragments of {fragment} bytes" if fragment else ""
        add(
            f"{prefix}.{i}",
            section,
            MUST,
            quote,
            sends=f"{count} compressed messages (with --full {FULL}) of {size} bytes of "
            f"{KINDS[kind][0]}{cut}; {told}",
            expects="every echo, with the same bytes and opcode, within the agreed parameters",
            run=functools.partial(run, offers=offers, kind=kind, row=row),
            tags=("deflate",),
        )


TAKES_OVER = (
    "7.2.2",
    'If the "agreed parameters" contain the "client_no_context_takeover" extension parameter, the '
    "server MAY decompress each new message with an empty LZ77 sliding window. Otherwise, the "
    "server MUST decompress each new message using the LZ77 sliding window used to process the "
    "last compressed message.",
)
STARTS_EMPTY = (
    "7.2.1",
    'If the "agreed parameters" contain the "server_no_context_takeover" extension parameter, the '
    "server MUST start compressing each new message with an empty LZ77 sliding window.",
)
WITHIN_WINDOW = (
    "7.2.1",
    'If the "agreed parameters" contain the "server_max_window_bits" extension parameter with a '
    "value of w, the server MUST NOT use an LZ77 sliding window longer than the w-th power of 2 "
    "bytes to compress messages to send.",
)

HINTS = f"{NAME}; client_no_context_takeover; client_max_window_bits"
FRESH = f"{HINTS}; server_no_context_takeover"

# The offer of 13.P and its rule.
OFFERS = [
    (HINTS, TAKES_OVER),
    (FRESH, STARTS_EMPTY),
    (f"{HINTS}; server_max_window_bits=9", WITHIN_WINDOW),
    (f"{HINTS}; server_max_window_bits=15", WITHIN_WINDOW),
    (f"{FRESH}; server_max_window_bits=9", WITHIN_WINDOW),
    (f"{FRESH}; server_max_window_bits=15", STARTS_EMPTY),
    (f"{FRESH}; server_max_window_bits=9, {FRESH}, {HINTS}", TAKES_OVER),
]

for _kind in range(len(KINDS)):
    _section, _quote = TAKES_OVER
    _told = f"offer: {NAME}"
    add_series(f"12.{_kind + 1}", _quote, f"RFC 7692 {_section}", NAME, _told, _kind)

for _number, (_offers, (_section, _quote)) in enumerate(OFFERS, 1):
    _told = f"offer: {_offers}"
    add_series(f"13.{_number}", _quote, f"RFC 7692 {_section}", _offers, _told, 0)
