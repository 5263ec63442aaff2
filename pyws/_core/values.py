# SPDX-License-Identifier: MIT
"""Single values: nothing of a wrong type or out of range reaches C.

Every function takes the name of an argument and a value, and returns the value in the form that the
library needs, or raises TypeError or ValueError with the name, the value and what is allowed.
"""

from __future__ import annotations

import functools
import inspect
import math
import operator
import re
import sys
from types import FunctionType
from typing import Any, Callable, Mapping, NoReturn, Sequence

from ..enums import COMPRESSOR_BITS, DECOMPRESSOR_BITS, CompressOptions, OpCode
from . import foreign, mistakes
from .calls import function_address

__all__ = [
    "C_HANDLERS",
    "HANDLERS",
    "MAX_BYTES",
    "MAX_CONTROL",
    "MAX_COUNT",
    "MAX_SECONDS",
    "Handler",
    "LeftOut",
    "c_handler",
    "c_string",
    "close_arguments",
    "compression",
    "decode",
    "descriptor",
    "duration",
    "encode",
    "flag",
    "function",
    "handler",
    "integer",
    "is_coroutine_handler",
    "is_token",
    "milliseconds",
    "network",
    "no_copy",
    "opcode",
    "origins",
    "pick",
    "proxies",
    "session",
    "shown",
    "shutdown_arguments",
    "strings",
    "subprotocols",
    "topic",
    "type_name",
    "whole",
]

Handler = Callable[..., Any]

MAX_BYTES = 2**31 - 1
MAX_COUNT = 2**31 - 1
MAX_SECONDS = 4_000_000  # the library counts milliseconds in 32 bits
MAX_CONTROL = 125  # bytes, RFC 6455 section 5.5

HANDLERS = tuple(mistakes.PARAMETERS)

# The handlers that may be C functions, which C calls without Python, and the arguments they get.
C_HANDLERS = {
    "message": ("ws_conn *conn", "char *data", "size_t length", "int opcode", "void *user"),
    "drain": ("ws_conn *conn", "void *user"),
    "dropped": ("ws_conn *conn", "const char *data", "size_t length", "int opcode", "void *user"),
    "ping": ("ws_conn *conn", "const char *data", "size_t length", "void *user"),
    "pong": ("ws_conn *conn", "const char *data", "size_t length", "void *user"),
    "subscription": (
        "ws_conn *conn",
        "const char *topic",
        "size_t length",
        "uint32_t now",
        "uint32_t before",
        "void *user",
    ),
}
_LEAST_ADDRESS = 65536  # Linux maps nothing below (vm.mmap_min_addr)

_COMPRESSIONS = "a value of CompressOptions, or a compressor | a decompressor of them"
_CLOSE_CODES = "0 (none), 1000-1003, 1005 (none), 1007-1014 or 3000-4999"
_OPCODES = "OpCode.TEXT, BINARY, CONTINUATION, PING or PONG"

_TOKEN = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+\Z")  # RFC 9110 section 5.6.2


class LeftOut:
    """The default of an argument whose value None means something; help() shows `...`."""

    def __repr__(self) -> str:
        return "..."


# ---- single values ------------------------------------------------------------------------------


def no_copy(self: object, protocol: object) -> NoReturn:
    """The ``__reduce_ex__`` of objects that belong to one object in C."""
    raise TypeError(f"{type_name(self)} objects cannot be copied or pickled")


def type_name(value: object) -> str:
    """The name of the type of `value` for error messages, and what to do with a coroutine."""
    if inspect.iscoroutine(value):
        return f"a coroutine: await {value.__qualname__}() first"
    return "None" if value is None else type(value).__name__


def whole(name: str, value: Any, allowed: str) -> int:
    """`value` as an int, which a bool is not. Raises TypeError: it must be `allowed`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be {allowed}, not {type_name(value)}")
    return operator.index(value)


def shown(number: float) -> str:
    """`number` for error messages: Python refuses to write very long ints in decimal."""
    return str(number) if isinstance(number, float) or abs(number) < 10**20 else hex(number)


def integer(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int from `low` to `high`, which a bool is not. Raises TypeError, ValueError."""
    number = whole(name, value, f"an int from {low} to {high}")
    if not low <= number <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {shown(number)}")
    return number


def duration(
    name: str, value: Any, low: float = 0, high: float = MAX_SECONDS, unit: str = "seconds"
) -> float:
    """`value` as a finite number from `low` to `high`. Raises TypeError, ValueError."""
    allowed = f"from {low} to {high} {unit}"
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number {allowed}, not {type_name(value)}")
    if not low <= value <= high:  # false for a NaN, too
        raise ValueError(f"{name} must be {allowed}, not {shown(value)}")
    return value


def milliseconds(value: float) -> int:
    """For the library: rounded up, so that a short time never becomes 'off'."""
    return math.ceil(value * 1000)


def flag(name: str, value: Any) -> bool:
    """`value`, which must be a bool. Raises TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type_name(value)}")
    return value


def is_coroutine_handler(value: Any) -> bool:
    """Whether `value` is an ``async def``, a partial of one, or has an ``async def __call__``."""
    if type(value) is FunctionType and not value.__dict__:  # nor is it marked as one
        return bool(value.__code__.co_flags & inspect.CO_COROUTINE)
    while isinstance(value, functools.partial):
        value = value.func
    call = type(value).__call__ if callable(value) else None
    return inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(call)


def handler(name: str, value: Any) -> Handler:
    """`value`, a function or coroutine function with the arguments of `name`. Raises TypeError."""
    mistakes.check_handler(name, value, mistakes.PARAMETERS[name])
    return value  # type: ignore[no-any-return]


def session(value: Any) -> Handler:
    """`value`, a coroutine function ``session(ws)``. Raises TypeError."""
    if callable(value) and not is_coroutine_handler(value):
        raise TypeError(
            "session must be a coroutine function, async def session(ws), and "
            f"{mistakes.location(value)} is not; a handler of messages is "
            "app.ws(pattern, message=on_message)"
        )
    mistakes.check_handler("session", value, ("ws",))
    return value  # type: ignore[no-any-return]


def c_handler(name: str, value: Any) -> bool:
    """Whether `value` is a C function, fit for the event `name`. Raises TypeError, ValueError."""
    address = function_address(value)
    if address is None:
        return False
    if name not in C_HANDLERS:
        raise TypeError(f"{name} cannot be a C function, only {', '.join(C_HANDLERS)} can")
    if not _LEAST_ADDRESS <= address <= 2 * sys.maxsize + 1:
        raise ValueError(f"{name} must be a C function, and there is none at {address:#x}")
    types = getattr(value, "argtypes", None)
    if types is not None and len(types) != len(C_HANDLERS[name]):
        raise TypeError(f"{name} must be a C function void f({', '.join(C_HANDLERS[name])})")
    return True


def function(name: str, value: Any) -> Handler:
    """`value`, which must be callable, and not a coroutine function. Raises TypeError."""
    if is_coroutine_handler(value):
        raise TypeError(
            f"{name} must be a plain function, not a coroutine function as "
            f"{mistakes.location(value)} is: a plain one {mistakes.START_TASK}"
        )
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type_name(value)}")
    return value  # type: ignore[no-any-return]


def descriptor(name: str, value: Any) -> int:
    """The number of an int, or of an object with ``fileno()``. Raises TypeError, ValueError."""
    allowed = "an int, the number of a descriptor, or an object with fileno()"
    fileno = getattr(value, "fileno", None)
    number = whole(name, fileno() if callable(fileno) else value, allowed)
    if not 0 <= number < 2**31:
        closed = f": {value!r} is closed" if number == -1 and callable(fileno) else ""
        raise ValueError(f"{name} must be an open descriptor, not {shown(number)}{closed}")
    return number


def strings(name: str, value: Any) -> tuple[str, ...]:
    """`value` as a tuple of str. Raises TypeError, also for a str, which is a list of letters."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a list of str, not {type_name(value)}")
    items = tuple(value)
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"{name} must hold only str, not {type_name(item)}")
    return items


def subprotocols(name: str, value: Any) -> tuple[str, ...]:
    """A list of tokens (RFC 6455 section 4.1). Raises TypeError, ValueError."""
    items = strings(name, value)
    for item in items:
        if not is_token(item):
            raise ValueError(f"{name} must hold only tokens (RFC 9110 5.6.2), not {item!r}")
    return items


def origins(name: str, value: Any) -> tuple[str | None, ...]:
    """Origin values, and None for handshakes without one. Raises TypeError, ValueError."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a list of str and None, not {type_name(value)}")
    items = tuple(value)
    if not items:
        raise ValueError(f"{name} must not be empty: no client could connect; None lets in all")
    for item in items:
        if not isinstance(item, (str, type(None))):
            raise TypeError(f"{name} must hold only str and None, not {type_name(item)}")
    for item in items:
        if item is not None:
            mistakes.check_origin(name, item)
    return items


def proxies(name: str, value: Any) -> tuple[str, ...]:
    """Addresses, networks, and "unix" for Unix sockets. Raises TypeError, ValueError."""
    items = strings(name, value)
    for item in items:
        try:
            network(item)
        except ValueError as error:
            raise ValueError(
                f'{name} must hold addresses, networks ("10.0.0.0/8") and "unix", not {item!r}: '
                f"{error}"
            ) from None
    return items


def network(text: str) -> str:
    """A network as C reads it. Raises ValueError."""
    import ipaddress  # it takes long to import

    if text == "unix":
        return text
    found = ipaddress.ip_network(text)
    mapped = getattr(found.network_address, "ipv4_mapped", None)
    if mapped is not None and found.prefixlen >= 96:  # as C sees such peers
        return f"{mapped}/{found.prefixlen - 96}"
    if "%" in text:
        raise ValueError("an address of a link has no place here")
    return str(found)


def compression(name: str, value: Any) -> int:
    """Bits of at most one compressor and one decompressor. Raises TypeError, ValueError."""
    bits = whole(name, value, _COMPRESSIONS)
    known = {int(option) for option in CompressOptions}
    parts = (bits & COMPRESSOR_BITS, bits & DECOMPRESSOR_BITS)
    if sum(parts) != bits or not known.issuperset(parts):
        raise ValueError(f"{name} must be {_COMPRESSIONS}, not {shown(bits)}")
    return bits


def is_token(text: str) -> bool:
    """Whether `text` is a token (RFC 9110 section 5.6.2), without spaces and separators."""
    return _TOKEN.match(text) is not None


def encode(name: str, text: str) -> bytes:
    """`text` in UTF-8. Raises ValueError for lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} cannot be encoded: {error}") from None


def c_string(name: str, value: Any) -> bytes:
    """`value`, a str without NUL, in UTF-8. Raises TypeError, ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type_name(value)}")
    if "\0" in value:
        raise ValueError(f"{name} must not contain NUL: {value!r}")
    return encode(name, value)


def topic(value: Any) -> bytes:
    """The name of a topic in UTF-8. Raises TypeError, and ValueError for what is not UTF-8."""
    return encode("topic", text("topic", value))


def text(name: str, value: str | bytes) -> str:
    """A str, or the text of bytes in UTF-8. Raises TypeError, ValueError."""
    if isinstance(value, str):
        return value
    if not isinstance(value, bytes):
        raise TypeError(f"{name} must be a str or bytes, not {type_name(value)}")
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} must be UTF-8, not {value!r}: {error.reason}") from None


def pick(
    mapping: Mapping[str, Any],
    known: Sequence[str],
    what: str,
    others: Mapping[str, str] = foreign.NO_OTHERS,
    kind: str = "key",
) -> dict[str, Any]:
    """A copy of `mapping`, whose keys must all be `known`.

    Args:
        mapping: What to copy.
        known: The keys that there are.
        what: The name of `mapping` in error messages.
        others: What other libraries name things, see `foreign.unknown_key`.
        kind: What error messages call a key.

    Raises:
        TypeError: A key is unknown; the message suggests what may be meant.
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{what} must be a dict, not {type_name(mapping)}")
    for key in mapping:
        if key not in known:
            raise TypeError(foreign.unknown_key(what, key, known, others, kind))
    return dict(mapping)


# ---- closing ------------------------------------------------------------------------------------


def close_arguments(code: Any, reason: Any) -> tuple[int, bytes]:
    """Code and UTF-8 reason of a Close frame (RFC 6455 section 7.4).

    0 and 1005 mean a Close frame without a code, which cannot have a reason.

    Args:
        code: The code.
        reason: The reason.

    Raises:
        TypeError, ValueError: One of them is wrong.
    """
    status = whole("code", code, _CLOSE_CODES)
    empty = status in (0, 1005)
    if not (empty or _is_close_code(status)):
        raise ValueError(f"code must be {_CLOSE_CODES}, not {shown(status)}")
    if isinstance(reason, str):
        data = encode("reason", reason)
    elif isinstance(reason, bytes):
        data = encode("reason", decode("reason", reason))
    else:
        raise TypeError(f"reason must be str or bytes, not {type_name(reason)}")
    if empty and data:
        raise ValueError("a Close without a code cannot have a reason")
    return status, data


def shutdown_arguments(code: Any, reason: Any) -> tuple[int, bytes]:
    """Code and reason of a Close frame that must have a code. Raises TypeError, ValueError."""
    allowed = "1000-1003, 1007-1014 or 3000-4999"
    status = whole("code", code, allowed)
    if not _is_close_code(status):
        raise ValueError(f"code must be {allowed}, not {shown(status)}")
    return close_arguments(status, reason)


def _is_close_code(code: int) -> bool:
    return 1000 <= code <= 1003 or 1007 <= code <= 1014 or 3000 <= code <= 4999


def decode(name: str, data: bytes) -> str:
    """`data` as UTF-8. Raises ValueError."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not valid UTF-8: {error}") from None


def opcode(value: Any) -> int:
    """`value`, an opcode that `send` takes. Raises TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"opcode must be {_OPCODES}, not {type_name(value)}")
    if value == OpCode.CLOSE:
        raise ValueError(
            f"opcode must be {_OPCODES}, not CLOSE: end(code, reason) sends a Close frame"
        )
    if value not in (0, 1, 2, 9, 10):
        raise ValueError(f"opcode must be {_OPCODES}, not {shown(value)}")
    return value
