"""Settings and their validation: nothing that is out of range or of a wrong type reaches C.

Every complaint names the key, the value and what is allowed.
"""

from __future__ import annotations

import copy
import functools
import inspect
import math
import operator
import os
import re
import sys
from dataclasses import dataclass
from typing import Any, Callable, Mapping, NoReturn, Sequence, TypeVar

from ._core import mistakes
from ._core.calls import function_address
from .enums import COMPRESSOR_BITS, DECOMPRESSOR_BITS, CompressOptions, OpCode

__all__ = ["AppListenOptions", "AppOptions", "Behavior"]

Handler = Callable[..., Any]

MAX_BYTES = 2**31 - 1
MAX_COUNT = 2**31 - 1
MAX_SECONDS = 4_000_000  # the library counts milliseconds in 32 bits
MAX_CONTROL = 125  # bytes, RFC 6455 section 5.5

_DERIVED = 2**32 - 1  # WS_DERIVED

HANDLERS = (
    "upgrade",
    "open",
    "message",
    "drain",
    "dropped",
    "ping",
    "pong",
    "subscription",
    "close",
)

# Those that may be C functions, which C then calls without Python, and what they get there.
NATIVE = {
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

# ---- single values ------------------------------------------------------------------------------


def no_copy(self: object, protocol: object) -> NoReturn:
    """``__reduce_ex__`` of what stands for one object in C."""
    raise TypeError(f"{type_name(self)} objects cannot be copied or pickled")


def type_name(value: object) -> str:
    """What to call the type of `value` in a complaint."""
    return "None" if value is None else type(value).__name__


def whole(name: str, value: Any, allowed: str) -> int:
    """`value` as an int; a bool is none. TypeError says that it must be `allowed`."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be {allowed}, not {type_name(value)}")
    return operator.index(value)


def shown(number: float) -> str:
    """`number` in a complaint: Python refuses to write very long ints in decimal."""
    return str(number) if isinstance(number, float) or abs(number) < 10**20 else hex(number)


def integer(name: str, value: Any, low: int, high: int) -> int:
    """`value` as an int from `low` to `high`; a bool is none. TypeError, ValueError."""
    number = whole(name, value, f"an int from {low} to {high}")
    if not low <= number <= high:
        raise ValueError(f"{name} must be from {low} to {high}, not {shown(number)}")
    return number


def seconds(name: str, value: Any, low: float = 0, high: float = MAX_SECONDS) -> float:
    """`value` as a finite number from `low` to `high`. TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be a number from {low} to {high}, not {type_name(value)}")
    if not low <= value <= high:  # false for a NaN, too
        raise ValueError(f"{name} must be from {low} to {high}, not {shown(value)}")
    return value


def milliseconds(value: float) -> int:
    """For the library: rounded up, so that a short time never becomes 'off'."""
    return math.ceil(value * 1000)


def _or_derived(value: float | None) -> int:
    """Milliseconds; None: what the library derives from idle_timeout."""
    return _DERIVED if value is None else milliseconds(value)


def flag(name: str, value: Any) -> bool:
    """`value`, which must be a bool. TypeError."""
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, not {type_name(value)}")
    return value


def is_coroutine_handler(value: Any) -> bool:
    """`value` is an ``async def``, a partial of one, or an object with ``async def __call__``."""
    while isinstance(value, functools.partial):
        value = value.func
    call = type(value).__call__ if callable(value) else None
    return inspect.iscoroutinefunction(value) or inspect.iscoroutinefunction(call)


def handler(name: str, value: Any) -> Handler:
    """`value`, any callable, or a coroutine function, that takes what `name` gets. TypeError."""
    mistakes.check_handler(name, value, mistakes.PARAMETERS[name])
    return value  # type: ignore[no-any-return]


def native_handler(name: str, value: Any) -> bool:
    """`value` is a C function, fit for the event `name`. TypeError, ValueError."""
    address = function_address(value)
    if address is None:
        return False
    if name not in NATIVE:
        raise TypeError(f"{name} cannot be a C function, only {', '.join(NATIVE)} can")
    if not _LEAST_ADDRESS <= address <= 2 * sys.maxsize + 1:
        raise ValueError(f"{name} must be a C function, and there is none at {address:#x}")
    types = getattr(value, "argtypes", None)
    if types is not None and len(types) != len(NATIVE[name]):
        raise TypeError(f"{name} must be a C function void f({', '.join(NATIVE[name])})")
    return True


def function(name: str, value: Any) -> Handler:
    """`value`, which must be callable, and not a coroutine function. TypeError."""
    if is_coroutine_handler(value):
        raise TypeError(f"{name} must be a plain function, not a coroutine function")
    if not callable(value):
        raise TypeError(f"{name} must be callable, not {type_name(value)}")
    return value  # type: ignore[no-any-return]


def strings(name: str, value: Any) -> tuple[str, ...]:
    """`value` as a tuple of str; one str is refused, it would be a list of letters. TypeError."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a list of str, not {type_name(value)}")
    items = tuple(value)
    for item in items:
        if not isinstance(item, str):
            raise TypeError(f"{name} must hold only str, not {type_name(item)}")
    return items


def subprotocols(name: str, value: Any) -> tuple[str, ...]:
    """A list of tokens (RFC 6455 section 4.1). TypeError, ValueError."""
    items = strings(name, value)
    for item in items:
        if not is_token(item):
            raise ValueError(f"{name} must hold only tokens (RFC 9110 5.6.2), not {item!r}")
    return items


def origins(name: str, value: Any) -> tuple[str | None, ...]:
    """Origin values; None among them is a handshake without one. TypeError, ValueError."""
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"{name} must be a list of str, not {type_name(value)}")
    items = tuple(value)
    if not items:
        raise ValueError(f"{name} must not be empty: no client could connect; None lets in all")
    for item in strings(name, [item for item in items if item is not None]):
        mistakes.check_origin(name, item)
    return items


def compression(name: str, value: Any) -> int:
    """Bits of at most one compressor and one decompressor. TypeError, ValueError."""
    bits = whole(name, value, _COMPRESSIONS)
    known = {int(option) for option in CompressOptions}
    parts = (bits & COMPRESSOR_BITS, bits & DECOMPRESSOR_BITS)
    if sum(parts) != bits or not known.issuperset(parts):
        raise ValueError(f"{name} must be {_COMPRESSIONS}, not {shown(bits)}")
    return bits


def is_token(text: str) -> bool:
    """`text` is a token (RFC 9110 section 5.6.2): no space, control character or separator."""
    return _TOKEN.match(text) is not None


def encode(name: str, text: str) -> bytes:
    """`text` in UTF-8. ValueError for lone surrogates."""
    try:
        return text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"{name} cannot be encoded: {error}") from None


def c_string(name: str, value: Any) -> bytes:
    """`value`, a str without NUL, in UTF-8. TypeError, ValueError."""
    if not isinstance(value, str):
        raise TypeError(f"{name} must be a str, not {type_name(value)}")
    if "\0" in value:
        raise ValueError(f"{name} must not contain NUL: {value!r}")
    return encode(name, value)


def topic(value: Any) -> bytes:
    """The name of a topic, any str, in UTF-8. TypeError, ValueError for lone surrogates."""
    if not isinstance(value, str):
        raise TypeError(f"topic must be a str, not {type_name(value)}")
    return encode("topic", value)


def pick(
    mapping: Mapping[str, Any],
    known: Sequence[str],
    what: str,
    others: Mapping[str, str] = mistakes.NO_OTHERS,
) -> dict[str, Any]:
    """A copy of `mapping`, all keys of which must be `known`. TypeError says what may be meant.

    others: what other libraries call things, see `mistakes.unknown_key`.
    """
    if not isinstance(mapping, Mapping):
        raise TypeError(f"{what} must be a dict, not {type_name(mapping)}")
    for key in mapping:
        if key not in known:
            raise TypeError(mistakes.unknown_key(what, key, known, others))
    return dict(mapping)


# ---- closing ------------------------------------------------------------------------------------


def close_arguments(code: Any, reason: Any) -> tuple[int, bytes]:
    """Code and UTF-8 reason for a Close frame (RFC 6455 section 7.4). TypeError, ValueError.

    0 and 1005 stand for a Close without a code, which cannot have a reason.
    """
    number = whole("code", code, _CLOSE_CODES)
    empty = number in (0, 1005)
    if not (empty or _is_close_code(number)):
        raise ValueError(f"code must be {_CLOSE_CODES}, not {shown(number)}")
    if isinstance(reason, str):
        data = encode("message", reason)
    elif isinstance(reason, bytes):
        data = encode("message", decode("message", reason))
    else:
        raise TypeError(f"message must be str or bytes, not {type_name(reason)}")
    if empty and data:
        raise ValueError("a Close without a code cannot have a message")
    return number, data


def shutdown_arguments(code: Any, reason: Any) -> tuple[int, bytes]:
    """The same for a Close that must have a code. TypeError, ValueError."""
    allowed = "1000-1003, 1007-1014 or 3000-4999"
    number = whole("code", code, allowed)
    if not _is_close_code(number):
        raise ValueError(f"code must be {allowed}, not {shown(number)}")
    return close_arguments(number, reason)


def _is_close_code(number: int) -> bool:
    return 1000 <= number <= 1003 or 1007 <= number <= 1014 or 3000 <= number <= 4999


def decode(name: str, data: bytes) -> str:
    """`data` as UTF-8. ValueError."""
    try:
        return data.decode()
    except UnicodeDecodeError as error:
        raise ValueError(f"{name} is not valid UTF-8: {error}") from None


def opcode(value: Any) -> int:
    """`value`, an opcode that `send` takes. TypeError, ValueError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"opcode must be {_OPCODES}, not {type_name(value)}")
    if value == OpCode.CLOSE:
        raise ValueError("a Close frame is sent by end(code, message), not by send()")
    if value not in (0, 1, 2, 9, 10):
        raise ValueError(f"opcode must be {_OPCODES}, not {shown(value)}")
    return value


# ---- the behavior of a WebSocket route ----------------------------------------------------------


class Behavior:
    """The validated second argument of ``app.ws``. Times in seconds unless said otherwise."""

    compression: int = CompressOptions.DISABLED
    max_payload_length: int = 16 * 1024
    """Bytes of the largest message."""
    idle_timeout: float = 120
    ping_interval: float | None = None
    ping_timeout: float | None = None
    max_backpressure: int = 64 * 1024
    """Bytes; 0: no limit."""
    max_topics: int = 1000
    max_topic_length: int = 1024
    """Bytes."""
    max_pending_messages: int = 16
    close_on_backpressure_limit: bool = False
    reset_idle_timeout_on_send: bool = False
    send_pings_automatically: bool = True
    max_lifetime: float = 0
    """Minutes; 0: off."""
    subprotocols: tuple[str, ...] = ()
    origins: tuple[str | None, ...] | None = None
    """None among them: a handshake without Origin."""
    close_on_error: bool = True
    close_timeout: float = 5

    upgrade: Handler | None = None
    open: Handler | None = None
    message: Handler | None = None
    drain: Handler | None = None
    dropped: Handler | None = None
    ping: Handler | None = None
    pong: Handler | None = None
    subscription: Handler | None = None
    close: Handler | None = None

    def __init__(self, behavior: Mapping[str, Any] | None, more: Mapping[str, Any]) -> None:
        self.natives: dict[str, Any] = {}  # C functions that are handlers, kept alive here
        given = pick(
            behavior if behavior is not None else {},
            BEHAVIOR_KEYS,
            "behavior",
            mistakes.OTHERS_OF_ROUTE,
        )
        given.update(pick(more, BEHAVIOR_KEYS, "behavior", mistakes.OTHERS_OF_ROUTE))
        for key, value in given.items():
            if key in HANDLERS and native_handler(key, value):
                self.natives[key] = value
            elif value is not None or key not in _MAY_BE_NONE:
                setattr(self, key, _CHECKS[key](key, value))
        self._check_times()

    def _check_times(self) -> None:
        """Of silence: none of them may be without effect. ValueError."""
        timeout, idle = self.ping_timeout, self.idle_timeout
        interval = self.ping_interval if self.send_pings_automatically else 0
        if interval and idle and interval >= idle:
            raise ValueError(
                f"ping_interval {interval:g} must be shorter than idle_timeout {idle:g}, which "
                "drops the client before the first Ping (0: never)"
            )
        if timeout and not (idle if interval is None else interval):
            raise ValueError(
                f"ping_timeout {timeout:g} needs Pings, which this route never sends: "
                "set ping_interval"
            )
        if timeout and interval and idle and interval + timeout > idle:
            raise ValueError(
                f"ping_interval {interval:g} + ping_timeout {timeout:g} must not be longer than "
                f"idle_timeout {idle:g}, which drops the client before (0: never)"
            )

    def native(self) -> dict[str, Any]:
        """The fields of the library's ws_behavior, but for its callbacks."""
        pings = self.ping_interval if self.send_pings_automatically else 0
        return {
            "max_payload_length": self.max_payload_length,
            "max_backpressure": self.max_backpressure,
            "close_timeout": milliseconds(self.close_timeout),
            "compression": int(self.compression),
            "idle_timeout": milliseconds(self.idle_timeout),
            "ping_interval": _or_derived(pings),
            "ping_timeout": _or_derived(self.ping_timeout),
            "max_lifetime": milliseconds(self.max_lifetime * 60),
            "max_topics": self.max_topics,
            "max_topic_length": self.max_topic_length,
            "close_on_backpressure_limit": self.close_on_backpressure_limit,
            "reset_idle_timeout_on_send": self.reset_idle_timeout_on_send,
            "subprotocols": self.subprotocols or None,
            "origins": _without_none(self.origins),
            "origin_optional": None in (self.origins or ()),
        }


def _without_none(items: tuple[str | None, ...] | None) -> tuple[str, ...] | None:
    return None if items is None else tuple(item for item in items if item is not None)


def _bytes(name: str, value: Any) -> int:
    return integer(name, value, 0, MAX_BYTES)


def _count(name: str, value: Any) -> int:
    return integer(name, value, 1, MAX_COUNT)


def _minutes(name: str, value: Any) -> float:
    return seconds(name, value, 0, MAX_SECONDS // 60)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "compression": compression,
    "max_payload_length": _bytes,
    "idle_timeout": seconds,
    "ping_interval": seconds,
    "ping_timeout": seconds,
    "max_backpressure": _bytes,
    "max_topics": _count,
    "max_topic_length": _count,
    "max_pending_messages": _count,
    "close_on_backpressure_limit": flag,
    "reset_idle_timeout_on_send": flag,
    "send_pings_automatically": flag,
    "max_lifetime": _minutes,
    "subprotocols": subprotocols,
    "origins": origins,
    "close_on_error": flag,
    "close_timeout": seconds,
    **dict.fromkeys(HANDLERS, handler),
}
_MAY_BE_NONE = frozenset(("origins", "ping_interval", "ping_timeout"))
BEHAVIOR_KEYS: list[str] = list(_CHECKS)

# ---- the app and its listeners ------------------------------------------------------------------

T = TypeVar("T")
Settings = TypeVar("Settings", "AppOptions", "AppListenOptions")


def suggesting(cls: type[T]) -> type[T]:
    """Let a dataclass say what may be meant when it is given a field that it does not have."""
    init = cls.__init__
    others = mistakes.OTHERS_OF_APP if cls.__name__ == "AppOptions" else mistakes.OTHERS_OF_LISTEN

    @functools.wraps(init)
    def checked(self: Any, *args: Any, **fields: Any) -> None:
        pick(fields, list(cls.__annotations__), cls.__name__, others)
        init(self, *args, **fields)

    cls.__init__ = checked  # type: ignore[method-assign]
    return cls


def _checked_copy(options: Settings) -> Settings:
    """Options are the caller's, who may have assigned anything to their fields since."""
    options = copy.copy(options)
    options.__post_init__()
    return options


@suggesting
@dataclass
class AppOptions:
    """Settings of an App. Sizes in bytes, times in seconds; 0 for `max_memory`: no limit.

    max_header_size limits the head of a request, and the request line to half of it; max_headers
    limits the number of its fields. Requests that exceed them are answered with 431 or 414.

    access_log: a line of the logger `pyws.access` for each HTTP response and each closed socket.
    """

    max_connections: int = 1_000_000
    max_memory: int = 0
    max_header_size: int = 16 * 1024
    max_headers: int = 100
    handshake_timeout: float = 10
    keep_alive_timeout: float = 10
    upgrade_timeout: float = 30
    keep_headers: bool = False
    access_log: bool = False

    def __post_init__(self) -> None:
        """Refuse what is out of range. TypeError, ValueError."""
        integer("max_connections", self.max_connections, 1, 16_000_000)
        integer("max_memory", self.max_memory, 0, sys.maxsize)
        integer("max_header_size", self.max_header_size, 1024, 1024 * 1024)
        integer("max_headers", self.max_headers, 1, 10_000)
        seconds("handshake_timeout", self.handshake_timeout, 0.001)
        seconds("keep_alive_timeout", self.keep_alive_timeout, 0.001)
        seconds("upgrade_timeout", self.upgrade_timeout, 0.001)
        flag("keep_headers", self.keep_headers)
        flag("access_log", self.access_log)

    @classmethod
    def known(cls, value: Mapping[str, Any]) -> dict[str, Any]:
        """A copy of `value`, all keys of which are fields of this class. TypeError."""
        return pick(value, list(cls.__annotations__), "options", mistakes.OTHERS_OF_APP)

    @classmethod
    def of(cls, value: AppOptions | Mapping[str, Any] | None) -> AppOptions:
        """A copy of `value`, as AppOptions. TypeError, ValueError."""
        if isinstance(value, AppOptions):
            return _checked_copy(value)
        return cls(**cls.known({} if value is None else value))

    def native(self) -> dict[str, int]:
        """The fields of the library's ws_config."""
        return {
            "max_connections": self.max_connections,
            "max_memory": self.max_memory,
            "max_header_size": self.max_header_size,
            "max_headers": self.max_headers,
            "handshake_timeout": milliseconds(self.handshake_timeout),
            "keep_alive_timeout": milliseconds(self.keep_alive_timeout),
            "upgrade_timeout": milliseconds(self.upgrade_timeout),
        }


@suggesting
@dataclass
class AppListenOptions:
    """Where to listen: TCP `host` and `port`, a Unix socket `path`, or a socket `fd`.

    port: 0: the kernel picks one, `App.port` and the callback of `App.listen` tell which
    host: an address, or a name, whose addresses are all listened on, at one port (those that this
        machine does not have are left out, with a warning); None: all interfaces
    path: of a Unix socket; the file is removed at the end, unless another one has replaced it
    mode: permission bits of `path`
    backlog: how many connections may wait to be accepted
    reuse_port: share the port with other processes (SO_REUSEPORT)
    fd: the descriptor of a stream socket, TCP or Unix, that listens or is bound (it then listens
        with `backlog`), as of socket activation. It stays the caller's, to be closed whenever the
        caller likes: the App works with a duplicate, through which the socket becomes non-blocking.
    """

    port: int = 0
    host: str | None = None
    path: str | os.PathLike[str] | None = None
    mode: int = 0o660
    backlog: int = 1024
    reuse_port: bool = False
    fd: int | None = None

    def __post_init__(self) -> None:
        """Refuse what is out of range. TypeError, ValueError."""
        integer("port", self.port, 0, 65535)
        if self.host is not None and not c_string("host", self.host):
            raise ValueError("host must not be empty; None means all interfaces")
        if self.path is not None:
            self._check_path()
        integer("mode", self.mode, 0, 0o777)
        integer("backlog", self.backlog, 1, MAX_COUNT)
        flag("reuse_port", self.reuse_port)
        if self.fd is not None:
            integer("fd", self.fd, 0, MAX_COUNT)
        self._check_place()

    def _check_place(self) -> None:
        """Each call of `listen` is about one place. ValueError: these are two."""
        given = [name for name in ("fd", "path", "host") if getattr(self, name) is not None]
        if self.path is not None and self.port:
            given.append("port")
        if len(given) > 1:
            raise ValueError(
                f"{given[0]} and {given[1]} name different places: call listen() once for each"
            )

    def _check_path(self) -> None:
        self.path = os.fspath(self.path)  # type: ignore[arg-type]
        if not 1 <= len(c_string("path", self.path)) <= 107:  # sun_path, with its NUL
            raise ValueError(f"path must have 1 to 107 bytes: {self.path!r}")

    @classmethod
    def of(cls, value: int | AppListenOptions | Mapping[str, Any]) -> AppListenOptions:
        """A copy of `value`: a port, a dict or the options themselves. TypeError, ValueError."""
        if isinstance(value, AppListenOptions):
            return _checked_copy(value)
        if isinstance(value, Mapping):
            known, others = list(cls.__annotations__), mistakes.OTHERS_OF_LISTEN
            return cls(**pick(value, known, "listen options", others))
        return cls(port=integer("port", value, 0, 65535))

    def native(self) -> dict[str, Any]:
        """The fields of the library's ws_listen_options."""
        return {
            "host": None if self.host is None else self.host.encode(),
            "path": None if self.path is None else os.fsencode(self.path),
            "mode": self.mode,
            "port": self.port,
            "reuse_port": self.reuse_port,
            "backlog": self.backlog,
            "fd": -1 if self.fd is None else self.fd,
        }

    def __str__(self) -> str:
        """Where this is, for people."""
        if self.fd is not None:
            return f"fd {self.fd}"
        if self.path is not None:
            return str(self.path)
        host = "*" if self.host is None else self.host
        return f"[{host}]:{self.port}" if ":" in host else f"{host}:{self.port}"
