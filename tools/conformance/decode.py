# SPDX-License-Identifier: MIT
"""Find the frames and HTTP heads in a trace, for people who examine a case.

A trace keeps only the first bytes of each read and write. If they include the header of a frame,
the frame and what follows its payload are found, as long as all headers in between were kept. After
a missing header, the rest of that direction is shown as bytes, because a guess would be worse.
"""

from __future__ import annotations

import re
from typing import Any, Sequence

PARTS = 40  # the maximum for one read or write
UPGRADED = re.compile(rb"HTTP/1\.\d 101\b")
INTERIM = re.compile(rb"HTTP/1\.\d 1\d\d\b")

HEAD, FRAME, MORE, RAW = "head", "frame", "more", "raw"
"""An HTTP head; a frame; the rest of a payload; bytes of unknown meaning."""
BODY = "body"
"""The mode after the head of a response other than 101; no part has this kind."""

# A part is a list that begins with its kind. HEAD, MORE and RAW add the offset where they begin.
# FRAME adds the offset of its payload, its first octet, the length of the payload, and the masking
# key in hexadecimal digits.


class Stream:
    """One direction of a connection."""

    def __init__(self) -> None:
        self.mode = HEAD
        self.left = 0
        """The bytes that are left of the last frame's payload."""
        self.pending = b""
        """An incomplete head or frame header."""
        self.answer = b""
        """The status line of a final response that has just arrived."""

    def feed(self, data: bytes, missing: int) -> list[list[Any]]:
        """Return the parts of the data; `missing` more bytes followed and were not kept."""
        parts: list[list[Any]] = []
        at = 0
        while at < len(data):
            if self.mode == BODY and at == 0 and data.startswith(b"HTTP/1."):
                self.mode = HEAD
            step = {HEAD: self._head, FRAME: self._frame}.get(self.mode, self._raw)
            at = step(data, at, parts)
        if missing:
            self._skip(missing)
        if len(parts) > PARTS:
            parts[PARTS:] = [[RAW, parts[PARTS][1]]]
        return parts

    def answered(self, line: bytes) -> None:
        """Set the mode after a response to the request in this direction."""
        mode = FRAME if UPGRADED.match(line) else HEAD
        if mode != self.mode:
            self.mode, self.left, self.pending = mode, 0, b""

    def _skip(self, missing: int) -> None:
        if self.mode == FRAME and missing <= self.left:
            self.left -= missing
        else:
            self.mode = RAW

    def _raw(self, data: bytes, at: int, parts: list[list[Any]]) -> int:
        parts.append([RAW, at])
        return len(data)

    def _head(self, data: bytes, at: int, parts: list[list[Any]]) -> int:
        if not self.pending and not (32 <= data[at] < 127 or data[at] in b"\r\n\t"):
            self.mode = RAW  # not HTTP, perhaps TLS
            return at
        parts.append([HEAD, at])
        before = len(self.pending)
        self.pending += data[at:]
        end = self.pending.find(b"\r\n\r\n")
        if end < 0:
            return len(data)
        head, self.pending = self.pending[:end], b""
        if UPGRADED.match(head) or (head.startswith(b"HTTP/") and not INTERIM.match(head)):
            self.answer = head[:12]
            self.mode = FRAME if UPGRADED.match(head) else BODY
        elif is_handshake(head):
            self.mode = FRAME  # until it is refused, what follows can only be frames
        return at + end + 4 - before

    def _frame(self, data: bytes, at: int, parts: list[list[Any]]) -> int:
        if self.left:
            parts.append([MORE, at])
            step = min(self.left, len(data) - at)
            self.left -= step
            return at + step
        header = self.pending + data[at : at + 14]
        size = header_size(header)
        if len(header) < size:
            self.pending = header
            parts.append([MORE, at])
            return len(data)
        start = at + size - len(self.pending)
        self.pending = b""
        length = payload_length(header)
        key = header[size - 4 : size].hex() if header[1] & 0x80 else ""
        parts.append([FRAME, start, header[0], length, key])
        step = min(length, len(data) - start)
        self.left = length - step
        return start + step


def is_handshake(head: bytes) -> bool:
    """Return whether a request asks for WebSocket."""
    return not head.startswith(b"HTTP/") and b"upgrade: websocket" in head.lower()


def header_size(header: bytes) -> int:
    """Return the size of a frame header, or 2 while its first two bytes are incomplete."""
    if len(header) < 2:
        return 2
    extended = {126: 2, 127: 8}.get(header[1] & 127, 0)
    return 2 + extended + (4 if header[1] & 0x80 else 0)


def payload_length(header: bytes) -> int:
    length = header[1] & 127
    if length == 126:
        return int.from_bytes(header[2:4], "big")
    return int.from_bytes(header[2:10], "big") if length == 127 else length


def parts_of(trace: Sequence[dict[str, Any]]) -> list[list[list[Any]]]:
    """Return the parts of each event of a trace; a note has no parts."""
    streams: dict[tuple[int, str], Stream] = {}
    found: list[list[list[Any]]] = []
    for event in trace:
        if event["what"] == "note":
            found.append([])
            continue
        number, what = event["connection"], event["what"]
        stream = streams.setdefault((number, what), Stream())
        data = bytes.fromhex(event["hex"])
        found.append(stream.feed(data, event["length"] - len(data)))
        if stream.answer:
            other = "sent" if what == "received" else "received"
            streams.setdefault((number, other), Stream()).answered(stream.answer)
            stream.answer = b""
    return found
