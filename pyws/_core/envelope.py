"""The format of the messages that apps send each other through a broker.

A header of 16 bytes, then the payload:

    0   "pyws"
    4   version of the format: 1
    5   kind: 1 is a message to the subscribers of the topic, 2 ends their connections
    6   opcode of a message: 1 for text, 2 for binary; 0 for kind 2
    7   flags of a message: 1 asks for compression; 0 for kind 2
    8   origin: 8 bytes, the same in all messages of one app and different from those of all others;
        8 zero bytes in messages of other programs

The payload of kind 1 is the message; that of kind 2 the close code, two bytes with the most
significant one first, and the reason in UTF-8, as in a Close frame (RFC 6455 section 5.5.1).

docs/scaling.md describes it for other languages.
"""

from __future__ import annotations

import os

from .messages import COMPRESS

__all__ = ["END", "HEADER", "NO_ORIGIN", "PUBLISH", "head", "new_origin", "pack_end", "unpack"]

PUBLISH, END = 1, 2  # kinds
HEADER = 16  # bytes
NO_ORIGIN = bytes(8)

_MAGIC = b"pyws\x01"
_CODES = {
    # what follows the magic: the opcode, with the flag of the library
    bytes((PUBLISH, 1, 0)): 1,
    bytes((PUBLISH, 1, 1)): 1 | COMPRESS,
    bytes((PUBLISH, 2, 0)): 2,
    bytes((PUBLISH, 2, 1)): 2 | COMPRESS,
    bytes((END, 0, 0)): 0,
}
_KINDS = {code: kind for kind, code in _CODES.items()}


def new_origin() -> bytes:
    """An origin that no other app has."""
    return os.urandom(8)


def head(origin: bytes, opcode: int) -> bytes:
    """The header of a message. Raises KeyError for another opcode than WS_TEXT and WS_BINARY.

    Args:
        origin: Where it comes from.
        opcode: WS_TEXT or WS_BINARY, and WS_COMPRESS; 0 for the header of an END.
    """
    return _MAGIC + _KINDS[opcode] + origin


def pack_end(origin: bytes, code: int, reason: bytes) -> bytes:
    """The envelope that ends connections with this close code and reason."""
    return head(origin, 0) + code.to_bytes(2, "big") + reason


def unpack(data: bytes) -> tuple[bytes, int, bytes] | None:
    """Take an envelope apart.

    Returns:
        The origin, the opcode with the flag of the library (0 for an END), and the payload; None if
        this is no envelope. The payload may be anything: the text of a message may not be UTF-8.
    """
    opcode = _CODES.get(data[5:8])
    if opcode is None or data[:5] != _MAGIC or len(data) < HEADER:
        return None
    if opcode == 0 and len(data) < HEADER + 2:
        return None
    return data[8:HEADER], opcode, data[HEADER:]
