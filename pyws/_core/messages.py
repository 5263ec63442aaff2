# SPDX-License-Identifier: MIT
"""Messages on their way out: from what a program sends to bytes and an opcode."""

from __future__ import annotations

import math
import re
from functools import lru_cache
from typing import Any, Callable, Iterator

from .._native import lib
from ..enums import OpCode
from . import values

__all__ = [
    "COMPRESS",
    "LABELLED",
    "NOTICE",
    "Json",
    "check_text",
    "pack",
    "pack_publication",
    "size",
]

COMPRESS = 0x100  # WS_COMPRESS, or-ed with an opcode
LABELLED, NOTICE = 0x200, 0x400  # WS_LABELLED, WS_NOTICE, likewise
_TEXT, _BINARY = OpCode.TEXT, OpCode.BINARY
_JSON_TYPES = (dict, list, tuple, int, float)  # bool is an int
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")  # an escape that should be half of a pair


# ---- JSON ---------------------------------------------------------------------------------------


class Json:
    """How an app writes and reads JSON: as the standard library does, or as its options say."""

    __slots__ = ("_dumps", "_loads")

    def __init__(
        self, dumps: Callable[[Any], Any] | None = None, loads: Callable[[Any], Any] | None = None
    ) -> None:
        """
        Args:
            dumps: Returns the JSON text of a value as str or bytes.
            loads: Returns the value of a JSON text, a str or bytes.
        """
        self._dumps = dumps
        self._loads = loads

    def dumps(self, value: Any) -> bytes:
        """The JSON text of a value, in UTF-8.

        Raises:
            TypeError, ValueError: JSON cannot express it, or the text is not UTF-8.
        """
        text = _dumps(value) if self._dumps is None else self._dumps(value)
        if isinstance(text, str):
            return values.encode("JSON", text)
        if not isinstance(text, (bytes, bytearray)):
            raise TypeError(f"json_dumps must return str or bytes, not {values.type_name(text)}")
        if not text.isascii():
            check_text(bytes(text), "the result of json_dumps")
        return bytes(text)

    def loads(self, text: str | bytes) -> Any:
        """The value of a JSON text.

        Raises:
            ValueError: It is no JSON: also if it contains NaN, Infinity or half of a pair of
                surrogates, is no UTF-8, or is nested too deeply.
        """
        if self._loads is not None:
            return self._loads(text)
        if not isinstance(text, str):
            text = values.decode("JSON", bytes(text))
        try:
            value = _json_functions()[1](text)
            if _SURROGATE.search(text):
                _check_surrogates(value)
            return value
        except RecursionError:
            raise ValueError("JSON is nested too deeply") from None


def _check_surrogates(value: Any) -> None:
    """Raise ValueError for text that no encoding has, and that could not be sent or stored."""
    import json

    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValueError("JSON has a lone surrogate (RFC 8259 8.2)") from None


@lru_cache(maxsize=None)
def _json_functions() -> tuple[Callable[[Any], str], Callable[[str], Any]]:
    import json  # it takes long to import

    def refuse(name: str) -> Any:
        raise ValueError(f"JSON has no {name}")

    write = json.JSONEncoder(ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return write.encode, json.JSONDecoder(parse_constant=refuse).decode


def _dumps(value: Any) -> str:
    """Compact JSON text. Raises TypeError, ValueError."""
    try:
        return _json_functions()[0](value)
    except ValueError as error:
        why = str(error)
        if "ircular" not in why:  # older versions of Python do not say which number it is
            why = f"JSON has no {', '.join(sorted(set(_no_numbers(value))))}"
        raise ValueError(f"this cannot be written as JSON: {why}") from None


def _no_numbers(value: Any) -> Iterator[str]:
    """The floats in a value that JSON has no form of: nan, inf and -inf."""
    if isinstance(value, float) and not math.isfinite(value):
        yield str(value)
    elif isinstance(value, dict):
        yield from _no_numbers([*value, *value.values()])
    elif isinstance(value, (list, tuple)):
        for item in value:
            yield from _no_numbers(item)


# ---- messages -----------------------------------------------------------------------------------


def pack(message: Any, json: Json) -> tuple[bytes, OpCode]:
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
        return json.dumps(message), _TEXT
    raise TypeError(
        "message must be str, bytes, bytearray, memoryview, dict, list, tuple, int, float or bool, "
        f"not {values.type_name(message)}"
    )


def pack_publication(message: Any, opcode: Any, compress: Any, json: Json) -> tuple[bytes, int]:
    """The bytes of a message to publish, and its opcode with flags as the library takes it.

    Raises TypeError, ValueError.
    """
    values.flag("compress", compress)
    data, suited = pack(message, json)
    code = int(suited) if opcode is None else values.opcode(opcode)
    if code not in (OpCode.TEXT, OpCode.BINARY):
        name = OpCode(code).name
        raise ValueError(f"opcode must be OpCode.TEXT or OpCode.BINARY for publish, not {name}")
    if code == OpCode.TEXT and suited is _BINARY:
        check_text(data)
    return data, code | COMPRESS if compress else code


def check_text(data: bytes, name: str = "message") -> None:
    """Raise ValueError unless a TEXT message may consist of `data` (RFC 6455 section 5.6)."""
    if not lib.ws_utf8_valid(data, len(data)):
        values.decode(name, data)
        raise ValueError(f"{name} is not valid UTF-8")


def is_text(data: bytes) -> bool:
    """Whether this is UTF-8."""
    return data.isascii() or bool(lib.ws_utf8_valid(data, len(data)))


def size(message: str | bytes) -> int:
    """Bytes of a message."""
    if isinstance(message, bytes) or message.isascii():
        return len(message)
    return len(message.encode())
