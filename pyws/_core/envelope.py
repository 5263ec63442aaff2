# SPDX-License-Identifier: MIT
"""The format of the messages that apps send each other through a broker.

A header of 16 bytes, then the payload:

    0   "pyws"
    4   version of the format: 1
    5   kind: 1 is a message to the subscribers of the topic, 2 ends their connections, 3 asks for
        their number, 4 is an answer to that
    6   opcode of a message: 1 for text, 2 for binary; 0 for other kinds
    7   flags of a message: 1 asks for compression; 0 for other kinds
    8   origin: 8 bytes, the same in all messages of one app and different from those of all others;
        8 zero bytes in messages of other programs

The payload of kind 1 is the message; that of kind 2 the close code, two bytes with the most
significant one first, and the reason in UTF-8, as in a Close frame (RFC 6455 section 5.5.1).

A question (kind 3) goes to the topic in question. Its payload is 8 bytes by which who asks knows
the answers, and the topic that they should be sent to. An answer (kind 4) has these 8 bytes, 8
bytes that are different for each process, and the number of subscribers in the process, 8 bytes
with the most significant one first.

docs/scaling.md describes it for other languages.
"""

from __future__ import annotations

import os
import struct

from .messages import COMPRESS

__all__ = [
    "ANSWER",
    "END",
    "HEADER",
    "LONGEST_REPLY",
    "NO_ORIGIN",
    "PUBLISH",
    "QUESTION",
    "head",
    "new_origin",
    "pack_answer",
    "pack_end",
    "pack_question",
    "unpack",
    "unpack_answer",
]

PUBLISH, END, QUESTION, ANSWER = 1, 2, 3, 4  # kinds
HEADER = 16  # bytes
LONGEST_REPLY = 256  # bytes of the topic for answers
NO_ORIGIN = bytes(8)

_MAGIC = b"pyws\x01"
_CODES = {
    # what follows the magic: the opcode, with the flag of the library; less than 0 for what is no
    # message, and 0 for an END
    bytes((PUBLISH, 1, 0)): 1,
    bytes((PUBLISH, 1, 1)): 1 | COMPRESS,
    bytes((PUBLISH, 2, 0)): 2,
    bytes((PUBLISH, 2, 1)): 2 | COMPRESS,
    bytes((END, 0, 0)): 0,
    bytes((QUESTION, 0, 0)): -QUESTION,
    bytes((ANSWER, 0, 0)): -ANSWER,
}
_KINDS = {code: kind for kind, code in _CODES.items()}
_ANSWER = struct.Struct(">8s8sQ")


def new_origin() -> bytes:
    """An origin that no other app has."""
    return os.urandom(8)


def head(origin: bytes, opcode: int) -> bytes:
    """The header of a message. Raises KeyError for an unknown opcode.

    Args:
        origin: Where it comes from.
        opcode: WS_TEXT or WS_BINARY, and WS_COMPRESS; otherwise what `unpack` returns.
    """
    return _MAGIC + _KINDS[opcode] + origin


def pack_end(origin: bytes, code: int, reason: bytes) -> bytes:
    """The envelope that ends connections with this close code and reason."""
    return head(origin, 0) + code.to_bytes(2, "big") + reason


def pack_question(origin: bytes, number: bytes, reply: bytes) -> bytes:
    """The envelope that asks for the number of subscribers, and wants the answers at `reply`."""
    return head(origin, -QUESTION) + number + reply


def pack_answer(origin: bytes, number: bytes, process: bytes, subscribers: int) -> bytes:
    """The envelope of an answer to a question with this number."""
    return head(origin, -ANSWER) + _ANSWER.pack(number, process, subscribers)


def unpack_answer(payload: bytes) -> tuple[bytes, bytes, int]:
    """The number of the question, the process and its subscribers."""
    number, process, subscribers = _ANSWER.unpack(payload)
    return number, process, subscribers


def unpack(data: bytes) -> tuple[bytes, int, bytes] | None:
    """Take an envelope apart.

    Returns:
        The origin, the opcode with the flag of the library (0 for an END, -QUESTION, -ANSWER), and
        the payload; None if this is no envelope. The payload may be anything: the text of a message
        may not be UTF-8.
    """
    opcode = _CODES.get(data[5:8])
    if opcode is None or data[:5] != _MAGIC or len(data) < HEADER:
        return None
    if opcode <= 0 and not _has_right_length(opcode, len(data) - HEADER):
        return None
    return data[8:HEADER], opcode, data[HEADER:]


def _has_right_length(opcode: int, length: int) -> bool:
    """Whether the payload of what is no message can be so long."""
    if opcode == -QUESTION:
        return 8 < length <= 8 + LONGEST_REPLY
    return length == _ANSWER.size if opcode == -ANSWER else length >= 2
