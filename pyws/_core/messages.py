"""Messages on their way out: from what a program sends to bytes and an opcode."""

from __future__ import annotations

from typing import Any

from .._native import lib
from ..enums import OpCode
from . import values

__all__ = ["COMPRESS", "check_text", "pack", "pack_publication"]

COMPRESS = 0x100  # WS_COMPRESS, or-ed with an opcode
_TEXT, _BINARY = OpCode.TEXT, OpCode.BINARY
_JSON_TYPES = (dict, list, tuple, int, float)  # bool is an int


def pack(message: Any) -> tuple[bytes, OpCode]:
    """The bytes of a message, and the opcode that suits its type. Raises TypeError, ValueError."""
    if isinstance(message, str):
        return values.encode("message", message), _TEXT
    if isinstance(message, (bytes, bytearray)):
        return bytes(message), _BINARY
    if isinstance(message, memoryview):
        if not message.c_contiguous:
            raise ValueError("message must be a C-contiguous memoryview; bytes(view) makes a copy")
        return bytes(message), _BINARY
    if isinstance(message, _JSON_TYPES):
        return json_text(message), _TEXT
    raise TypeError(
        "message must be str, bytes, bytearray, memoryview, dict, list, tuple, int, float or bool, "
        f"not {values.type_name(message)}"
    )


def pack_publication(message: Any, opcode: Any, compress: Any) -> tuple[bytes, int]:
    """The bytes of a message to publish, and its opcode with flags as the library takes it.

    Raises TypeError, ValueError.
    """
    values.flag("compress", compress)
    data, suited = pack(message)
    code = int(suited) if opcode is None else values.opcode(opcode)
    if code not in (OpCode.TEXT, OpCode.BINARY):
        name = OpCode(code).name
        raise ValueError(f"opcode must be OpCode.TEXT or OpCode.BINARY for publish, not {name}")
    if code == OpCode.TEXT and suited is _BINARY:
        check_text(data)
    return data, code | COMPRESS if compress else code


def json_text(message: Any) -> bytes:
    """`message` as JSON. Raises TypeError, ValueError for what JSON cannot express, such as NaN."""
    import json

    return json.dumps(message, allow_nan=False).encode()


def check_text(data: bytes) -> None:
    """Raise ValueError unless a TEXT message may consist of `data` (RFC 6455 section 5.6)."""
    if not lib.ws_utf8_valid(data, len(data)):
        values.decode("message", data)
        raise ValueError("message is not valid UTF-8")
