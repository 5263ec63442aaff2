# SPDX-License-Identifier: MIT
"""The headers of csrc/ in ctypes: callbacks, structures, prototypes, and `lib`.

Everything follows ws.h, ws_http.h, ws_cluster.h, ws_tls.h and bridge.h line by line, in their
order; tools/check_native.py compares them.
Pointers to payloads are POINTER(c_char), to be sliced ``p[:n]``: a c_char_p would end at the first
zero byte.
"""

from __future__ import annotations

import ctypes
from ctypes import (
    CFUNCTYPE,
    POINTER,
    Structure,
    c_bool,
    c_char,
    c_char_p,
    c_int,
    c_size_t,
    c_ssize_t,
    c_uint,
    c_uint8,
    c_uint16,
    c_uint32,
    c_uint64,
    c_ulong,
    c_void_p,
    py_object,
)
from typing import Any, Callable, NoReturn

from ._core.library import load
from .errors import exception_for

__all__ = ["ABI", "SIGNATURES", "VERSION", "fail", "lib"]

VERSION = "0.1.0"  # WS_VERSION and WS_ABI of the ws.h that this module mirrors
ABI = 11

# ---- callbacks ----------------------------------------------------------------------------------

chars = POINTER(c_char)  # borrowed bytes; their length is the next argument

resize_function = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_size_t, c_size_t)
clock_function = CFUNCTYPE(c_uint64, c_void_p)
random_function = CFUNCTYPE(None, c_void_p, c_void_p, c_size_t)
log_function = CFUNCTYPE(None, c_void_p, c_int, chars, c_size_t)
plain_function = CFUNCTYPE(None, c_void_p)
watch_function = CFUNCTYPE(None, c_int, c_uint, c_void_p)
request_function = CFUNCTYPE(None, c_void_p, c_void_p)
body_function = CFUNCTYPE(None, c_void_p, chars, c_size_t, c_bool, c_void_p)
response_function = CFUNCTYPE(None, c_void_p, c_int, c_size_t, chars, c_size_t, c_void_p)
fallback_function = CFUNCTYPE(None, c_void_p, c_int, c_void_p)
conn_function = CFUNCTYPE(None, c_void_p, c_void_p)
message_function = CFUNCTYPE(None, c_void_p, chars, c_size_t, c_int, c_void_p)
control_function = CFUNCTYPE(None, c_void_p, chars, c_size_t, c_void_p)
subscription_function = CFUNCTYPE(None, c_void_p, chars, c_size_t, c_uint32, c_uint32, c_void_p)
close_function = CFUNCTYPE(None, c_void_p, c_int, chars, c_size_t, c_void_p)
closed_function = CFUNCTYPE(None, c_void_p, c_bool, c_int, chars, c_size_t, c_void_p)
topic_function = CFUNCTYPE(None, chars, c_size_t, c_bool, c_void_p)
publish_function = CFUNCTYPE(None, chars, c_size_t, chars, c_size_t, c_int, c_void_p)
end_function = CFUNCTYPE(None, chars, c_size_t, c_int, chars, c_size_t, c_void_p)
take_function = CFUNCTYPE(c_bool, chars, c_size_t, chars, c_size_t, c_int, c_void_p)
member_function = CFUNCTYPE(None, c_uint32, chars, c_size_t, c_void_p)

# ---- structures ---------------------------------------------------------------------------------


class ws_allocator(Structure):
    _fields_ = [
        ("resize", resize_function),
        ("context", c_void_p),
    ]


class ws_config(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("allocator", ws_allocator),
        ("user", c_void_p),
        ("clock", clock_function),
        ("wall_clock", clock_function),
        ("random", random_function),
        ("log", log_function),
        ("before_wait", plain_function),
        ("after_wait", plain_function),
        ("max_memory", c_size_t),
        ("max_response_backpressure", c_size_t),
        ("max_connections", c_uint32),
        ("max_header_size", c_uint32),
        ("max_headers", c_uint32),
        ("recv_buffer_size", c_uint32),
        ("cork_size", c_uint32),
        ("handshake_timeout", c_uint32),
        ("keep_alive_timeout", c_uint32),
        ("body_timeout", c_uint32),
        ("upgrade_timeout", c_uint32),
        ("max_connections_per_address", c_uint32),
        ("max_handshakes_per_second_per_address", c_uint32),
        ("trusted_proxies", POINTER(c_char_p)),
        ("log_refusals", c_bool),
    ]


class ws_listen_options(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("host", c_char_p),
        ("path", c_char_p),
        ("mode", c_uint32),
        ("port", c_uint16),
        ("reuse_port", c_bool),
        ("proxy_protocol", c_bool),
        ("backlog", c_int),
        ("fd", c_int),
        ("tls", c_void_p),
        ("device", c_char_p),
    ]


class ws_stats(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("accepted", c_uint64),
        ("opened", c_uint64),
        ("closed", c_uint64),
        ("refused", c_uint64),
        ("limited", c_uint64),
        ("turns", c_uint64),
        ("blocked", c_uint64),
        ("messages_in", c_uint64),
        ("messages_out", c_uint64),
        ("bytes_in", c_uint64),
        ("bytes_out", c_uint64),
        ("dropped", c_uint64),
        ("backpressure", c_uint64),
        ("closed_with", c_uint64 * 18),
        ("refused_status", c_uint16 * 24),
        ("refused_with", c_uint64 * 24),
        ("memory", c_size_t),
        ("compression_memory", c_size_t),
        ("connections", c_uint32),
        ("open", c_uint32),
        ("topics", c_size_t),
    ]


class ws_behavior(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("user", c_void_p),
        ("on_upgrade", request_function),
        ("on_open", conn_function),
        ("on_message", message_function),
        ("on_drain", conn_function),
        ("on_dropped", message_function),
        ("on_ping", control_function),
        ("on_pong", control_function),
        ("on_subscription", subscription_function),
        ("on_close", close_function),
        ("on_closed", closed_function),
        ("max_payload_length", c_size_t),
        ("max_backpressure", c_size_t),
        ("close_timeout", c_uint32),
        ("compression", c_uint32),
        ("idle_timeout", c_uint32),
        ("ping_interval", c_uint32),
        ("ping_timeout", c_uint32),
        ("max_lifetime", c_uint32),
        ("max_topics", c_uint32),
        ("max_topic_length", c_uint32),
        ("close_on_backpressure_limit", c_bool),
        ("reset_idle_timeout_on_send", c_bool),
        ("origin_optional", c_bool),
        ("user_is_place", c_bool),
        ("subprotocols", POINTER(c_char_p)),
        ("origins", POINTER(c_char_p)),
    ]


class ws_relay(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("user", c_void_p),
        ("on_topic", topic_function),
        ("on_publish", publish_function),
        ("on_end", end_function),
        ("on_take", take_function),
    ]


class ws_bus_options(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("self", c_uint32),
        ("count", c_uint32),
        ("epoch", c_uint32),
        ("inbox", c_int),
        ("inboxes", POINTER(c_int)),
        ("key", c_uint64 * 2),
        ("max_queue", c_size_t),
        ("on_message", member_function),
        ("user", c_void_p),
    ]


class ws_bus_stats(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("sent", c_uint64),
        ("received", c_uint64),
        ("lost", c_uint64),
        ("bytes_out", c_uint64),
        ("bytes_in", c_uint64),
        ("queued", c_size_t),
        ("members", c_uint32),
    ]


STRUCTURES: tuple[type[Structure], ...] = (
    ws_config,
    ws_listen_options,
    ws_stats,
    ws_behavior,
    ws_relay,
    ws_bus_options,
    ws_bus_stats,
)


# The structures of bridge.h.
class ws_python(Structure):
    _fields_ = [
        ("Py_IncRef", c_void_p),
        ("Py_DecRef", c_void_p),
        ("PyObject_Type", c_void_p),
        ("PyObject_GetAttrString", c_void_p),
        ("PyLong_AsVoidPtr", c_void_p),
        ("PyLong_FromVoidPtr", c_void_p),
        ("PyLong_FromUnsignedLong", c_void_p),
        ("PyBytes_FromStringAndSize", c_void_p),
        ("PyBytes_AsStringAndSize", c_void_p),
        ("PyUnicode_DecodeUTF8", c_void_p),
        ("PyUnicode_AsUTF8AndSize", c_void_p),
        ("PyObject_Vectorcall", c_void_p),
        ("PyObject_VectorcallMethod", c_void_p),
        ("PyType_GenericAlloc", c_void_p),
        ("PyDict_SetItem", c_void_p),
        ("PyDict_DelItem", c_void_p),
        ("PyTuple_Size", c_void_p),
        ("PyTuple_GetItem", c_void_p),
        ("PyErr_GetRaisedException", c_void_p),
        ("PyErr_Fetch", c_void_p),
        ("PyErr_NormalizeException", c_void_p),
        ("PyException_SetTraceback", c_void_p),
        ("PyErr_Clear", c_void_p),
        ("PyErr_WriteUnraisable", c_void_p),
        ("PyErr_BadArgument", c_void_p),
        ("PyContext_Enter", c_void_p),
        ("PyContext_Exit", c_void_p),
        ("PyContext_Copy", c_void_p),
        ("PyIter_Send", c_void_p),
        ("PyEval_SaveThread", c_void_p),
        ("PyEval_RestoreThread", c_void_p),
    ]


class ws_bridge_stepper(Structure):
    _fields_ = [
        ("task", c_void_p),
        ("parking", c_void_p),
        ("coroutine", c_void_p),
        ("busy", c_bool),
        ("changed", c_bool),
    ]


class ws_bridge(Structure):
    _fields_ = [
        ("owner", c_ulong),
        ("server", c_void_p),
        ("thread", c_void_p),
        ("none", py_object),
        ("str_type", py_object),
        ("bytes_type", py_object),
        ("text", py_object),
        ("binary", py_object),
        ("status", py_object * 3),
        ("flag", py_object * 2),
        ("optional", py_object * 3),
        ("send", py_object),
        ("publish", py_object),
        ("socket_type", py_object),
        ("sockets", py_object),
        ("opened", py_object),
        ("closing", py_object),
        ("closed", py_object),
        ("failed", py_object),
        ("returned", py_object),
        ("runtime", c_void_p),
        ("context", py_object),
        ("request_type", py_object),
        ("response_type", py_object),
        ("end", py_object),
        ("ended", py_object),
        ("handled", py_object),
        ("raised", py_object),
        ("current", c_void_p),
        ("loop", py_object),
        ("enter_task", py_object),
        ("leave_task", py_object),
        ("spare", POINTER(ws_bridge_stepper)),
        ("weak_references", c_ssize_t),
        ("queued", c_ulong),
        ("outcome", py_object * 3),
    ]


class ws_bridge_route(Structure):
    _fields_ = [
        ("bridge", POINTER(ws_bridge)),
        ("route", c_void_p),
        ("message", py_object),
        ("coroutine", py_object),
        ("request", py_object),
    ]


class ws_bridge_socket(Structure):
    _fields_ = [
        ("conn", c_void_p),
        ("bridge", POINTER(ws_bridge)),
        ("context", c_void_p),
        ("stepper", POINTER(ws_bridge_stepper)),
        ("key", c_void_p),
        ("id", c_uint64),
        ("latency", c_uint32),
        ("settled", c_bool),
    ]


class ws_bridge_request(Structure):
    _fields_ = [
        ("request", c_void_p),
        ("body", c_void_p),
        ("known", c_void_p),
        ("preserved", c_void_p),
        ("runtime", c_void_p),
        ("user_data", c_void_p),
    ]


class ws_bridge_response(Structure):
    _fields_ = [
        ("key", c_void_p),
        ("bridge", POINTER(ws_bridge)),
        ("status", c_int),
        ("aborted", c_bool),
        ("deferred", c_bool),
        ("last", c_bool),
        ("responded", c_bool),
        ("upgrades", c_bool),
        ("abort_handler", c_void_p),
        ("before_release", c_void_p),
        ("context", c_void_p),
        ("headers", c_void_p),
        ("later", c_void_p),
        ("parts", c_void_p),
        ("reason", c_void_p),
        ("remote", c_void_p),
        ("asked", c_void_p),
        ("route", c_void_p),
        ("runtime", c_void_p),
        ("socket", c_void_p),
        ("user_data", c_void_p),
    ]


# ---- prototypes ---------------------------------------------------------------------------------


def fail(code: int) -> NoReturn:
    """Raise the exception for a negative result (ws_error)."""
    errno = ctypes.get_errno()
    raise exception_for(code, lib.ws_strerror(code).decode(), errno)


def check(result: int, function: object, arguments: object) -> int:
    """The errcheck of functions whose negative results become exceptions."""
    if result < 0:
        fail(result)
    return result


Errcheck = Callable[[int, object, object], int]
SIGNATURES: dict[str, tuple[Any, tuple[Any, ...], Errcheck | None]] = {
    # name: (restype, argtypes, errcheck)
    "ws_strerror": (c_char_p, (c_int,), None),
    "ws_abi": (c_int, (), None),
    "ws_version": (c_char_p, (), None),
    "ws_struct_size": (c_size_t, (c_char_p,), None),
    "ws_utf8_valid": (c_bool, (c_char_p, c_size_t), None),
    "ws_compression_available": (c_bool, (), None),
    "ws_config_init": (c_int, (POINTER(ws_config), c_size_t), check),
    "ws_server_new": (c_int, (POINTER(c_void_p), POINTER(ws_config)), check),
    "ws_server_free": (c_int, (c_void_p,), check),
    "ws_listen_options_init": (c_int, (POINTER(ws_listen_options), c_size_t), check),
    "ws_server_listen": (c_int, (c_void_p, POINTER(ws_listen_options)), check),
    "ws_server_unlisten": (c_bool, (c_void_p,), None),
    "ws_server_adopt": (c_int, (c_void_p, c_int, c_char_p, c_size_t), check),
    "ws_server_run": (c_int, (c_void_p,), None),
    "ws_server_step": (c_int, (c_void_p, c_int), check),
    "ws_server_fd": (c_int, (c_void_p,), None),
    "ws_server_set_interrupt_fd": (c_int, (c_void_p, c_int), check),
    "ws_server_watch": (c_int, (c_void_p, c_int, c_uint, watch_function, c_void_p), check),
    "ws_server_shutdown": (c_int, (c_void_p, c_int, c_char_p, c_size_t, c_uint32), check),
    "ws_server_drain": (c_int, (c_void_p,), check),
    "ws_server_wakeup": (None, (c_void_p,), None),
    "ws_server_defer": (c_int, (c_void_p, plain_function, c_void_p), None),
    "ws_server_find": (c_void_p, (c_void_p, c_uint64), None),
    "ws_server_set_alarm": (None, (c_void_p, c_uint64, plain_function, c_void_p), None),
    "ws_server_set_on_response": (None, (c_void_p, response_function, c_void_p), None),
    "ws_server_set_fallback": (None, (c_void_p, fallback_function, c_void_p), None),
    "ws_server_stats": (c_int, (c_void_p, POINTER(ws_stats), c_size_t), check),
    "ws_behavior_init": (c_int, (POINTER(ws_behavior), c_size_t), check),
    "ws_server_ws": (c_int, (c_void_p, c_char_p, POINTER(ws_behavior)), check),
    "ws_server_http": (c_int, (c_void_p, c_char_p, c_char_p, request_function, c_void_p), check),
    "ws_conn_get_id": (c_uint64, (c_void_p,), None),
    "ws_conn_server": (c_void_p, (c_void_p,), None),
    "ws_conn_user": (c_void_p, (c_void_p,), None),
    "ws_conn_set_user": (None, (c_void_p, c_void_p), None),
    "ws_conn_request": (c_void_p, (c_void_p,), None),
    "ws_conn_send": (c_int, (c_void_p, c_char_p, c_size_t, c_int), None),
    "ws_conn_send_fragment": (c_int, (c_void_p, c_char_p, c_size_t, c_int, c_bool), None),
    "ws_conn_cork": (None, (c_void_p,), None),
    "ws_conn_uncork": (None, (c_void_p,), None),
    "ws_conn_end": (c_int, (c_void_p, c_int, c_char_p, c_size_t), check),
    "ws_conn_close": (None, (c_void_p,), None),
    "ws_conn_closed_by_peer": (c_bool, (c_void_p,), None),
    "ws_conn_pause": (None, (c_void_p,), None),
    "ws_conn_pause_messages": (None, (c_void_p,), None),
    "ws_conn_resume": (None, (c_void_p,), None),
    "ws_conn_latency": (c_uint32, (c_void_p,), None),
    "ws_conn_buffered_amount": (c_size_t, (c_void_p,), None),
    "ws_conn_compression": (c_size_t, (c_void_p, c_char_p, c_size_t), None),
    "ws_conn_remote_address": (c_size_t, (c_void_p, c_char_p, c_size_t), None),
    "ws_conn_remote_address_bytes": (c_size_t, (c_void_p, POINTER(c_uint8)), None),
    "ws_conn_remote_port": (c_uint16, (c_void_p,), None),
    "ws_conn_scheme": (c_char_p, (c_void_p,), None),
    "ws_conn_subscribe": (c_int, (c_void_p, c_char_p, c_size_t), None),
    "ws_conn_unsubscribe": (c_int, (c_void_p, c_char_p, c_size_t), None),
    "ws_conn_is_subscribed": (c_bool, (c_void_p, c_char_p, c_size_t), None),
    "ws_conn_topic_at": (chars, (c_void_p, c_size_t, POINTER(c_size_t)), None),
    "ws_server_subscribers": (c_uint32, (c_void_p, c_char_p, c_size_t), None),
    "ws_server_publish": (c_int, (c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_int), check),
    "ws_conn_publish": (
        c_int,
        (c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_int, c_bool),
        check,
    ),
    "ws_request_method": (chars, (c_void_p, POINTER(c_size_t)), None),
    "ws_request_target": (chars, (c_void_p, POINTER(c_size_t)), None),
    "ws_request_path": (chars, (c_void_p, POINTER(c_size_t)), None),
    "ws_request_query": (chars, (c_void_p, POINTER(c_size_t)), None),
    "ws_request_header": (chars, (c_void_p, c_char_p, POINTER(c_size_t)), None),
    "ws_request_header_at": (
        c_bool,
        (c_void_p, c_size_t, POINTER(chars), POINTER(c_size_t), POINTER(chars), POINTER(c_size_t)),
        None,
    ),
    "ws_request_parameter": (chars, (c_void_p, c_size_t, POINTER(c_size_t)), None),
    "ws_request_pattern": (c_char_p, (c_void_p,), None),
    "ws_request_is_upgrade": (c_bool, (c_void_p,), None),
    "ws_request_subprotocol": (chars, (c_void_p, POINTER(c_size_t)), None),
    "ws_request_remote_address": (c_size_t, (c_void_p, c_char_p, c_size_t), None),
    "ws_request_remote_port": (c_uint16, (c_void_p,), None),
    "ws_request_scheme": (c_char_p, (c_void_p,), None),
    "ws_request_track": (None, (c_void_p, POINTER(c_void_p)), None),
    "ws_request_add_header": (c_int, (c_void_p, c_char_p, c_size_t, c_char_p, c_size_t), check),
    "ws_request_close_after": (None, (c_void_p,), None),
    "ws_request_respond": (c_int, (c_void_p, c_int, c_char_p, c_char_p, c_size_t), None),
    "ws_request_decline_extensions": (None, (c_void_p,), None),
    "ws_request_upgrade": (c_int, (c_void_p, c_char_p, c_size_t, c_void_p), None),
    "ws_request_defer": (c_int, (c_void_p, request_function, c_void_p), None),
    "ws_request_refusal": (c_int, (c_void_p,), check),
    "ws_request_read_body": (c_int, (c_void_p, c_uint64, body_function, c_void_p), None),
    "ws_request_pause_body": (None, (c_void_p,), None),
    "ws_request_resume_body": (None, (c_void_p,), None),
    "ws_request_begin": (c_int, (c_void_p, c_int, c_char_p, c_uint64), None),
    "ws_request_write": (c_int, (c_void_p, c_char_p, c_size_t), None),
    "ws_request_on_writable": (None, (c_void_p, request_function, c_void_p), None),
    "ws_request_finish": (c_int, (c_void_p,), None),
    "ws_request_respond_static": (
        c_int,
        (c_void_p, c_int, c_char_p, c_char_p, c_size_t),
        None,
    ),
    "ws_request_respond_file": (
        c_int,
        (c_void_p, c_int, c_char_p, c_int, c_uint64, c_uint64),
        None,
    ),
    "ws_request_abort": (c_int, (c_void_p,), None),
    "ws_relay_init": (c_int, (POINTER(ws_relay), c_size_t), check),
    "ws_server_set_relay": (c_int, (c_void_p, POINTER(ws_relay)), check),
    "ws_server_next_topic": (chars, (c_void_p, c_char_p, c_size_t, POINTER(c_size_t)), None),
    "ws_server_deliver": (c_int, (c_void_p, c_char_p, c_size_t, c_char_p, c_size_t, c_int), check),
    "ws_server_end_topic": (
        c_int,
        (c_void_p, c_char_p, c_size_t, c_int, c_char_p, c_size_t),
        check,
    ),
    "ws_server_end_topic_here": (
        c_int,
        (c_void_p, c_char_p, c_size_t, c_int, c_char_p, c_size_t),
        check,
    ),
    "ws_conn_take_labels": (c_int, (c_void_p,), None),
    "ws_bus_options_init": (c_int, (POINTER(ws_bus_options), c_size_t), check),
    "ws_server_join": (c_int, (c_void_p, POINTER(ws_bus_options)), check),
    "ws_server_tell": (c_int, (c_void_p, c_uint32, c_char_p, c_size_t), check),
    "ws_server_bus_stats": (c_int, (c_void_p, POINTER(ws_bus_stats), c_size_t), check),
    "ws_bus_announce_end": (c_int, (POINTER(c_int), c_uint32, c_uint32, c_uint32), check),
    "ws_conn_tls": (c_void_p, (c_void_p,), None),
    "ws_request_tls": (c_void_p, (c_void_p,), None),
}

# These may block, so they are called without the GIL. With the bridge, the last two are called with
# the GIL held, and bridge.c releases it around each wait.
BLOCKING = frozenset(("ws_server_listen", "ws_server_run", "ws_server_step"))

lib = load(SIGNATURES, BLOCKING, STRUCTURES, ABI, VERSION)
