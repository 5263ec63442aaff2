# SPDX-License-Identifier: MIT
"""Calls of the C library that need objects of ctypes: structures, buffers, functions."""

from __future__ import annotations

import ctypes
import socket
import sys
from _thread import get_ident
from ctypes import POINTER, c_char_p, c_int, c_size_t, c_uint8, c_ulong, c_void_p
from typing import Any, Callable, NamedTuple, Sequence

from .._native import (
    chars,
    lib,
    plain_function,
    response_function,
    watch_function,
    ws_behavior,
    ws_bridge,
    ws_bus_options,
    ws_bus_stats,
    ws_config,
    ws_listen_options,
    ws_relay,
    ws_stats,
)
from .bridge import bridge_function

__all__ = [
    "Counts",
    "add_route",
    "address_bytes",
    "address_text",
    "announce_end",
    "c_function",
    "copied_bytes",
    "counts",
    "function_address",
    "has_field",
    "header_fields",
    "join_bus",
    "listen",
    "new_server",
    "peer_of",
    "set_alarm",
    "set_fallback",
    "set_on_response",
    "set_relay",
    "short_text",
    "thread_ident",
    "topic_names",
    "watch",
]

# ---- threads ------------------------------------------------------------------------------------


def find_thread_ident() -> Callable[[], int]:
    """Find a function that returns pthread_self() of the calling thread, as bridge.c compares it.

    _thread.get_ident does, and is faster than ctypes. But gevent and eventlet may have replaced it
    by a function that returns another number for each greenlet.
    """
    library = ctypes.PyDLL if sys.implementation.name == "cpython" else ctypes.CDLL
    ident = library(None).pthread_self
    ident.restype, ident.argtypes = c_ulong, ()
    return get_ident if get_ident() == ident() else ident


thread_ident = find_thread_ident()

# ---- servers ------------------------------------------------------------------------------------


def new_server(log: Any, bridge: ws_bridge | None, settings: dict[str, Any]) -> int:
    """ws_server_new with a log callback and fields of ws_config. Raises what that does."""
    config = ws_config()
    lib.ws_config_init(config, ctypes.sizeof(config))
    config.log = log
    if bridge is not None:
        config.user = ctypes.addressof(bridge)
        config.before_wait = bridge_function(plain_function, "before_wait")
        config.after_wait = bridge_function(plain_function, "after_wait")
    for name, value in settings.items():
        setattr(config, name, string_list(value) if name == "trusted_proxies" else value)
    server = c_void_p()
    lib.ws_server_new(ctypes.byref(server), config)
    assert server.value
    return server.value


def listen(server: int, settings: dict[str, Any]) -> int:
    """ws_server_listen with fields of ws_listen_options; returns the port. Raises what it does."""
    options = ws_listen_options()
    lib.ws_listen_options_init(options, ctypes.sizeof(options))
    for name, value in settings.items():
        setattr(options, name, value)
    return int(lib.ws_server_listen(server, options))


def add_route(server: int, pattern: bytes, settings: dict[str, Any]) -> None:
    """ws_server_ws with fields of ws_behavior. Raises what that does."""
    behavior = ws_behavior()
    lib.ws_behavior_init(behavior, ctypes.sizeof(behavior))
    for name, value in settings.items():
        if name in ("subprotocols", "origins"):
            value = string_list(value)
        setattr(behavior, name, value)
    lib.ws_server_ws(server, pattern, behavior)


def string_list(names: Sequence[str] | None) -> Any:
    """A NULL-terminated array of C strings; NULL for None."""
    if names is None:
        return None
    values = [name.encode() for name in names]
    return ctypes.cast((c_char_p * (len(values) + 1))(*values, None), POINTER(c_char_p))


class Counts(NamedTuple):
    """What ws_server_stats and ws_server_bus_stats say."""

    numbers: dict[str, int]
    """The fields that are single numbers, by name; those of the bus begin with "bus_"."""
    codes: dict[str, int]
    """Connections closed, by code; "3xxx" and "4xxx" stand for a thousand codes each."""
    statuses: dict[str, int]
    """Requests refused, by HTTP status."""


def counts(server: int) -> Counts:
    """All counters of a server, without what is 0 in the tables."""
    result, bus = ws_stats(), ws_bus_stats()
    lib.ws_server_stats(server, result, ctypes.sizeof(result))
    lib.ws_server_bus_stats(server, bus, ctypes.sizeof(bus))
    fields = {name: getattr(result, name) for name, *_ in ws_stats._fields_[1:]}
    fields.update({f"bus_{name}": getattr(bus, name) for name, *_ in ws_bus_stats._fields_[1:]})
    codes = zip((*range(1000, 1016), "3xxx", "4xxx"), result.closed_with)
    statuses = zip((status or "other" for status in result.refused_status), result.refused_with)
    return Counts(
        {name: value for name, value in fields.items() if isinstance(value, int)},
        {str(code): number for code, number in codes if number},
        {str(status): number for status, number in statuses if number},
    )


def set_on_response(server: int, function: Any, argument: int) -> None:
    """ws_server_set_on_response; `function` is a response_function or None."""
    lib.ws_server_set_on_response(server, function or response_function(), argument)


def set_fallback(server: int, function: Any, argument: int) -> None:
    """ws_server_set_fallback."""
    lib.ws_server_set_fallback(server, function, argument)


def set_alarm(server: int, delay: int, function: Any, argument: int) -> None:
    """ws_server_set_alarm; `delay` in nanoseconds, `function` is a plain_function or None."""
    lib.ws_server_set_alarm(server, delay, function or plain_function(), argument)


def join_bus(
    server: int, inboxes: Sequence[int], settings: dict[str, Any], function: Any, argument: int
) -> None:
    """ws_server_join; `settings` are fields of ws_bus_options, `function` its on_message."""
    options = ws_bus_options()
    lib.ws_bus_options_init(options, ctypes.sizeof(options))
    options.count, options.inboxes = len(inboxes), (c_int * len(inboxes))(*inboxes)
    options.on_message, options.user = function, argument
    for name, value in settings.items():
        setattr(options, name, value)
    lib.ws_server_join(server, options)


def announce_end(inboxes: Sequence[int], member: int, epoch: int) -> None:
    """ws_bus_announce_end. Raises what that does."""
    array = (c_int * len(inboxes))(*inboxes)
    lib.ws_bus_announce_end(array, len(inboxes), member, epoch)


def watch(server: int, fd: int, events: int, function: Any, argument: int) -> None:
    """ws_server_watch; `function` is a watch_function or None. Raises what that does."""
    lib.ws_server_watch(server, fd, events, function or watch_function(), argument)


def set_relay(
    server: int, functions: tuple[Any, Any, Any] | None, argument: int, on_take: Any = None
) -> None:
    """ws_server_set_relay with on_topic, on_publish and on_end, and on_take; None ends it."""
    if functions is None:
        lib.ws_server_set_relay(server, None)
        return
    relay = ws_relay()
    lib.ws_relay_init(relay, ctypes.sizeof(relay))
    relay.on_topic, relay.on_publish, relay.on_end = functions
    if on_take is not None:
        relay.on_take = on_take
    relay.user = argument
    lib.ws_server_set_relay(server, relay)


# ---- C functions as handlers --------------------------------------------------------------------

_FUNCTION: Any = plain_function.__mro__[1]  # the base of all C functions of ctypes


def function_address(value: Any) -> int | None:
    """The address of the C function that `value` stands for; None if it stands for none.

    It does if it is a function of ctypes, or if it has an `address` and is either no Python
    function or, like those of numba, has a function of ctypes as well.
    """
    if isinstance(value, _FUNCTION):
        return ctypes.cast(value, c_void_p).value or 0
    address = None if isinstance(value, type) else getattr(value, "address", None)
    if callable(value) and not isinstance(getattr(value, "ctypes", None), _FUNCTION):
        return None
    return address if type(address) is int else None


def c_function(field: str, address: int) -> Any:
    """The function at `address` as a value for that field of ws_behavior."""
    kinds: Any = dict(ws_behavior._fields_)  # type: ignore[arg-type]
    return kinds[field](address)


# ---- requests and connections -------------------------------------------------------------------


def copied_bytes(function: Any, *arguments: Any) -> bytes | None:
    """A copy of the bytes that a function returns as pointer and length; None for NULL."""
    length = c_size_t()
    pointer = function(*arguments, ctypes.byref(length))
    return pointer[: length.value] if pointer else None


def header_fields(request: int) -> list[tuple[bytes, bytes]]:
    """Copies of all header fields in the order received."""
    name, value, name_length, value_length = chars(), chars(), c_size_t(), c_size_t()
    pointers = [ctypes.byref(item) for item in (name, name_length, value, value_length)]
    fields: list[tuple[bytes, bytes]] = []
    while lib.ws_request_header_at(request, len(fields), *pointers):
        pair: Any = (name[: name_length.value], value[: value_length.value])
        fields.append(pair)
    return fields


_length = c_size_t()  # has_field() looks only at the pointer
_LENGTH = ctypes.byref(_length)


def has_field(request: int, name: bytes) -> bool:
    """Whether a request has a header field."""
    return bool(lib.ws_request_header(request, name, _LENGTH))


def short_text(function: Any, handle: int) -> str:
    """The text that a function writes to a buffer: an address, or ws_conn_compression."""
    buffer = ctypes.create_string_buffer(128)
    function(handle, buffer, len(buffer))
    return buffer.value.decode("ascii")


def topic_names(conn: int) -> list[bytes]:
    """Copies of the names of all topics that a connection has subscribed to."""
    names: list[bytes] = []
    while (name := copied_bytes(lib.ws_conn_topic_at, conn, len(names))) is not None:
        names.append(name)
    return names


def peer_of(conn: int) -> tuple[bytes, int, bool]:
    """The address of the client (4, 16 or 0 bytes), its port, and whether it uses TLS."""
    buffer = (c_uint8 * 16)()
    length = lib.ws_conn_remote_address_bytes(conn, buffer)
    secure = lib.ws_conn_scheme(conn) == b"wss"
    return bytes(buffer)[:length], lib.ws_conn_remote_port(conn), secure


def address_bytes(text: str) -> bytes:
    """An IP address in network order, no bytes for ""."""
    family = socket.AF_INET6 if ":" in text else socket.AF_INET
    return socket.inet_pton(family, text) if text else b""


def address_text(packed: bytes) -> str:
    """An IP address as text, "" for no bytes."""
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed) if packed else ""
