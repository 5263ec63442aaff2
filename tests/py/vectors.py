# SPDX-License-Identifier: MIT
"""Reads the vectors of tests/vectors (their format: tests/vectors/README.md)."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

DIRECTORY = Path(__file__).resolve().parent.parent / "vectors"
DEFAULT_LIMIT = 16384
MASKING_KEY = bytes.fromhex("37fa213d")

FLAGS = {"fin": 0x80, "rsv1": 0x40, "rsv2": 0x20, "rsv3": 0x10}
OPCODES = {"continuation": 0, "text": 1, "binary": 2, "close": 8, "ping": 9, "pong": 10}

_ITEM = re.compile(
    r'(?:"((?:[^"\\]|\\x[0-9a-fA-F]{2}|\\["\\])*)"|((?:[0-9a-fA-F]{2})+))(?:\*(\d+))?'
)
_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|([\"\\]))")


class Event(NamedTuple):
    """What the protocol layer reports."""

    kind: str  # TEXT, BINARY, PING, PONG, CLOSE or FAIL
    code: int  # of CLOSE and FAIL, else 0
    data: bytes  # the payload, the reason, or why


class Vector(NamedTuple):
    """Bytes that a client sends, and the events that they are."""

    name: str
    limit: int  # max_payload_length in bytes
    wire: bytes
    events: tuple[Event, ...]


class FormatError(ValueError):
    """A line that does not follow the format."""


def _unescape(match: re.Match[bytes]) -> bytes:
    code, character = match.groups()
    return bytes([int(code, 16)]) if code else bytes(character)


def items(text: str) -> bytes:
    """The bytes that the items in `text` stand for."""
    out = bytearray()
    position = 0
    text = text.strip(" ")
    while position < len(text):
        match = _ITEM.match(text, position)
        if not match or text[match.end() : match.end() + 1] not in ("", " "):
            raise FormatError(text)
        string, digits, times = match.groups()
        item = bytes.fromhex(digits) if digits else _ESCAPE.sub(_unescape, string.encode())
        out += item * int(times or 1)
        position = match.end()
        while text[position : position + 1] == " ":
            position += 1
    return bytes(out)


def mask(payload: bytes, key: bytes = MASKING_KEY) -> bytes:
    """RFC 6455 section 5.3."""
    size = len(payload)
    stream = (key * (size // 4 + 1))[:size]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(stream, "big")).to_bytes(size, "big")


def frame(first: int, payload: bytes, masked: bool = True) -> bytes:
    """A frame with the shortest length form; `first`: FIN, RSV1-3 and opcode."""
    bit = 0x80 if masked else 0
    size = len(payload)
    if size < 126:
        head = bytes([first, bit | size])
    elif size < 65536:
        head = bytes([first, bit | 126]) + size.to_bytes(2, "big")
    else:
        head = bytes([first, bit | 127]) + size.to_bytes(8, "big")
    return head + MASKING_KEY + mask(payload) if masked else head + payload


def _frame_line(text: str) -> bytes:
    first = 0
    masked = True
    word, _, rest = text.partition(" ")
    while word in FLAGS or word == "unmasked":
        first |= FLAGS.get(word, 0)
        masked = masked and word != "unmasked"
        word, _, rest = rest.partition(" ")
    opcode = OPCODES[word] if word in OPCODES else int(word)
    return frame(first | opcode, items(rest), masked)


def _event_line(text: str) -> Event:
    kind, _, rest = text.partition(" ")
    if kind not in ("CLOSE", "FAIL"):
        return Event(kind, 0, items(rest))
    code, _, rest = rest.partition(" ")
    return Event(kind, int(code), items(rest))


def _parse_block(lines: list[str]) -> Vector:
    name = ""
    limit = DEFAULT_LIMIT
    wire = b""
    events: list[Event] = []
    for line in lines:
        if line.startswith("> frame "):
            wire += _frame_line(line[len("> frame ") :])
        elif line.startswith("> "):
            wire += items(line[2:])
        elif line.startswith("< "):
            events.append(_event_line(line[2:]))
        elif line.startswith("limit "):
            limit = int(line[len("limit ") :])
        elif line.startswith("#"):
            name = name or line[2:]
        else:
            raise FormatError(line)
    return Vector(name, limit, wire, tuple(events))


def _blocks(text: str) -> Iterator[list[str]]:
    block: list[str] = []
    for line in text.split("\n"):
        if line:
            block.append(line)
        elif block:
            yield block
            block = []
    if block:
        yield block


def load(path: str | Path) -> list[Vector]:
    """The vectors of one file, in order."""
    vectors = map(_parse_block, _blocks(Path(path).read_text(encoding="utf-8")))
    return [vector for vector in vectors if vector.wire]


def load_all(directory: str | Path = DIRECTORY) -> list[Vector]:
    """The vectors of all files of a directory."""
    return [vector for path in sorted(Path(directory).glob("*.txt")) for vector in load(path)]
