"""Finds and loads libpyws.so and declares what is in it; the only module that imports ctypes.

`SIGNATURES` and the structures follow ws.h line by line, in its order. tools/check_native.py
compares the two. Pointers to payloads are POINTER(c_char), to be sliced ``p[:n]``: a c_char_p would
end at the first zero byte.
"""

from __future__ import annotations

import ctypes
import os
import sys
from _thread import get_ident
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
from typing import Any, Callable, NoReturn, Sequence

from . import places
from .errors import exception_for

__all__ = ["ABI", "SIGNATURES", "VERSION", "fail", "lib"]

VERSION = "0.1.0"  # WS_VERSION and WS_ABI of the ws.h that this module mirrors
ABI = 4

# ---- callbacks ----------------------------------------------------------------------------------

chars = POINTER(c_char)  # borrowed bytes with a length beside them

resize_function = CFUNCTYPE(c_void_p, c_void_p, c_void_p, c_size_t, c_size_t)
clock_function = CFUNCTYPE(c_uint64, c_void_p)
log_function = CFUNCTYPE(None, c_void_p, c_int, chars, c_size_t)
plain_function = CFUNCTYPE(None, c_void_p)
request_function = CFUNCTYPE(None, c_void_p, c_void_p)
response_function = CFUNCTYPE(None, c_void_p, c_int, c_size_t, chars, c_size_t, c_void_p)
conn_function = CFUNCTYPE(None, c_void_p, c_void_p)
message_function = CFUNCTYPE(None, c_void_p, chars, c_size_t, c_int, c_void_p)
control_function = CFUNCTYPE(None, c_void_p, chars, c_size_t, c_void_p)
subscription_function = CFUNCTYPE(None, c_void_p, chars, c_size_t, c_uint32, c_uint32, c_void_p)
close_function = CFUNCTYPE(None, c_void_p, c_int, chars, c_size_t, c_void_p)
closed_function = CFUNCTYPE(None, c_void_p, c_bool, c_int, chars, c_size_t, c_void_p)

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
        ("log", log_function),
        ("before_wait", plain_function),
        ("after_wait", plain_function),
        ("max_memory", c_size_t),
        ("max_connections", c_uint32),
        ("max_header_size", c_uint32),
        ("max_headers", c_uint32),
        ("recv_buffer_size", c_uint32),
        ("handshake_timeout", c_uint32),
        ("keep_alive_timeout", c_uint32),
        ("upgrade_timeout", c_uint32),
    ]


class ws_listen_options(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("host", c_char_p),
        ("path", c_char_p),
        ("mode", c_uint32),
        ("port", c_uint16),
        ("reuse_port", c_bool),
        ("backlog", c_int),
        ("fd", c_int),
    ]


class ws_stats(Structure):
    _fields_ = [
        ("size", c_size_t),
        ("accepted", c_uint64),
        ("opened", c_uint64),
        ("closed", c_uint64),
        ("refused", c_uint64),
        ("turns", c_uint64),
        ("blocked", c_uint64),
        ("memory", c_size_t),
        ("compression_memory", c_size_t),
        ("connections", c_uint32),
        ("open", c_uint32),
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
        ("subprotocols", POINTER(c_char_p)),
        ("origins", POINTER(c_char_p)),
    ]


STRUCTURES: tuple[type[Structure], ...] = (ws_config, ws_listen_options, ws_stats, ws_behavior)


# Of bridge.h.
class ws_python(Structure):
    _fields_ = [
        ("Py_IncRef", c_void_p),
        ("Py_DecRef", c_void_p),
        ("PyObject_Type", c_void_p),
        ("PyBytes_FromStringAndSize", c_void_p),
        ("PyBytes_AsStringAndSize", c_void_p),
        ("PyUnicode_DecodeUTF8", c_void_p),
        ("PyUnicode_AsUTF8AndSize", c_void_p),
        ("PyObject_Vectorcall", c_void_p),
        ("PyObject_VectorcallMethod", c_void_p),
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
        ("PyEval_SaveThread", c_void_p),
        ("PyEval_RestoreThread", c_void_p),
    ]


class ws_bridge(Structure):
    _fields_ = [
        ("owner", c_ulong),
        ("thread", c_void_p),
        ("none", py_object),
        ("str_type", py_object),
        ("bytes_type", py_object),
        ("text", py_object),
        ("binary", py_object),
        ("status", py_object * 3),
        ("flag", py_object * 2),
        ("compress", py_object),
        ("send", py_object),
        ("failed", py_object),
        ("returned", py_object),
    ]


class ws_bridge_route(Structure):
    _fields_ = [
        ("bridge", POINTER(ws_bridge)),
        ("message", py_object),
        ("closed", closed_function),
    ]


class ws_bridge_socket(Structure):
    _fields_ = [
        ("conn", c_void_p),
        ("bridge", POINTER(ws_bridge)),
        ("context", c_void_p),
    ]


# ---- prototypes ---------------------------------------------------------------------------------


def fail(code: int) -> NoReturn:
    """Raise the exception of a negative result."""
    errno = ctypes.get_errno()
    raise exception_for(code, lib.ws_strerror(code).decode(), errno)


def check(result: int, function: object, arguments: object) -> int:
    """errcheck of the functions that return a negative ws_error."""
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
    "ws_server_run": (c_int, (c_void_p,), None),
    "ws_server_step": (c_int, (c_void_p, c_int), check),
    "ws_server_fd": (c_int, (c_void_p,), None),
    "ws_server_set_interrupt_fd": (c_int, (c_void_p, c_int), check),
    "ws_server_shutdown": (c_int, (c_void_p, c_int, c_char_p, c_size_t, c_uint32), check),
    "ws_server_wakeup": (None, (c_void_p,), None),
    "ws_server_defer": (c_int, (c_void_p, plain_function, c_void_p), None),
    "ws_server_find": (c_void_p, (c_void_p, c_uint64), None),
    "ws_server_set_alarm": (None, (c_void_p, c_uint64, plain_function, c_void_p), None),
    "ws_server_set_on_response": (None, (c_void_p, response_function, c_void_p), None),
    "ws_server_stats": (c_int, (c_void_p, POINTER(ws_stats), c_size_t), check),
    "ws_behavior_init": (c_int, (POINTER(ws_behavior), c_size_t), check),
    "ws_server_ws": (c_int, (c_void_p, c_char_p, POINTER(ws_behavior)), check),
    "ws_server_http": (c_int, (c_void_p, c_char_p, c_char_p, request_function, c_void_p), check),
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
    "ws_request_add_header": (c_int, (c_void_p, c_char_p, c_size_t, c_char_p, c_size_t), check),
    "ws_request_respond": (c_int, (c_void_p, c_int, c_char_p, c_char_p, c_size_t), None),
    "ws_request_decline_extensions": (None, (c_void_p,), None),
    "ws_request_upgrade": (c_int, (c_void_p, c_char_p, c_size_t, c_void_p), None),
    "ws_request_defer": (c_int, (c_void_p, request_function, c_void_p), None),
    "ws_request_abort": (c_int, (c_void_p,), None),
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
    "ws_conn_resume": (None, (c_void_p,), None),
    "ws_conn_latency": (c_uint32, (c_void_p,), None),
    "ws_conn_buffered_amount": (c_size_t, (c_void_p,), None),
    "ws_conn_compression": (c_size_t, (c_void_p, c_char_p, c_size_t), None),
    "ws_conn_remote_address": (c_size_t, (c_void_p, c_char_p, c_size_t), None),
    "ws_conn_remote_address_bytes": (c_size_t, (c_void_p, POINTER(c_uint8)), None),
    "ws_conn_remote_port": (c_uint16, (c_void_p,), None),
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
}

# These may block; all others are called with the GIL held, which is faster and leaves no gap
# between a check in Python and the call in C. With the bridge the last two keep it, too: it is let
# go around the wait alone.
BLOCKING = frozenset(("ws_server_listen", "ws_server_run", "ws_server_step"))

# ---- finding and loading ------------------------------------------------------------------------


def open_library(path: str) -> Any:
    """The library at `path` by the loader of the system. OSError."""
    if os.sep in path and not os.path.exists(path):
        raise OSError("no such file")
    return ctypes.CDLL(path, use_errno=True)


def find_library(paths: Sequence[str]) -> Any:
    """The first of `paths` that can be loaded. ImportError names them all."""
    tried = []
    for path in paths:
        try:
            return open_library(path)
        except OSError as error:
            tried.append(f"  {path}: {error}")
    raise ImportError(
        f"pyws cannot load its C library {places.NAME} (machine: {os.uname().machine}), tried:\n"
        + "\n".join(tried)
    )


def mismatch(library: Any, what: str) -> ImportError:
    """The ImportError for a library that is not the one of this package."""
    theirs = "unknown"
    try:
        function = library.ws_version
        function.restype = c_char_p
        theirs = function().decode("ascii", "replace")
    except AttributeError:
        pass
    return ImportError(
        f"{library._name}: {what} (library version {theirs}, pyws version {VERSION})"
    )


def check_abi(library: Any) -> None:
    """Refuse a library whose structures or prototypes differ from those above."""
    abi = prototype(library, "ws_abi")()
    if abi != ABI:
        raise mismatch(library, f"has ABI {abi}, pyws needs ABI {ABI}")
    struct_size = prototype(library, "ws_struct_size")
    for structure in STRUCTURES:
        name, ours = structure.__name__, ctypes.sizeof(structure)
        theirs = struct_size(name.encode())
        if theirs != ours:
            raise mismatch(library, f"struct {name} has {theirs} bytes, not {ours}")


def prototype(library: Any, name: str) -> Any:
    """The function `name` with its types set. ImportError when it is missing."""
    try:
        function = getattr(library, name)
    except AttributeError:
        raise mismatch(library, f"has no function {name}") from None
    function.restype, function.argtypes, errcheck = SIGNATURES[name]
    if errcheck:
        function.errcheck = errcheck
    return function


# ---- the bridge: csrc/bridge.c, which calls message handlers without ctypes ----------------------


def find_bridge(library: Any) -> bool:
    """Set it up, where the library has it and the interpreter what it needs.

    PYWS_BRIDGE=ctypes: do without it. PYWS_BRIDGE=c: ImportError where that would be necessary.
    """
    wish = os.environ.get("PYWS_BRIDGE", "")
    if wish not in ("", "c", "ctypes"):
        raise ImportError(f'PYWS_BRIDGE must be "c" or "ctypes", not {wish!r}')
    obstacle = "" if wish == "ctypes" else set_up_bridge(library)
    if wish == "c" and obstacle:
        raise ImportError(f"PYWS_BRIDGE=c is not possible: {obstacle}")
    return wish != "ctypes" and not obstacle


def set_up_bridge(library: Any) -> str:
    """Hand it the functions of the interpreter; "" or why that cannot be done."""
    if sys.implementation.name != "cpython":
        return "this is not CPython"
    if "t" in sys.abiflags:
        return "this Python has no global interpreter lock"
    functions = ws_python()
    for name in (field[0] for field in ws_python._fields_):
        address = interpreter_function(name)
        if address is None and name != "PyErr_GetRaisedException":
            return f"this Python has no {name}"
        setattr(functions, name, address)
    try:
        set_up = library.ws_bridge_setup
    except AttributeError:
        return f"{library._name} was built without it"
    set_up.restype, set_up.argtypes = c_int, (POINTER(ws_python), c_size_t, c_size_t)
    if set_up(functions, ctypes.sizeof(functions), object.__basicsize__):
        raise mismatch(library, f"struct ws_python has not {ctypes.sizeof(functions)} bytes")
    return ""


def interpreter_function(name: str) -> int | None:
    """Its address; None where this version has none."""
    for symbol in (name, name + "Dict"):  # PyObject_VectorcallDict, before Python 3.11
        function = getattr(ctypes.pythonapi, symbol, None)
        if function is not None:
            return ctypes.cast(function, c_void_p).value
    return None


class Library:
    """All functions of `SIGNATURES`, ready to be called, as attributes."""

    def __init__(self, library: Any) -> None:
        check_abi(library)
        self.path: str = library._name
        self.loaded = library
        quick = library
        if sys.implementation.name == "cpython":
            quick = ctypes.PyDLL(self.path, handle=library._handle, use_errno=True)
        self.bridge = find_bridge(quick)
        blocking = {"ws_server_listen"} if self.bridge else BLOCKING
        for name in SIGNATURES:
            setattr(self, name, prototype(library if name in blocking else quick, name))

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def refuse_subinterpreters() -> None:
    """ImportError: callbacks of C would run in the main interpreter (PyGILState_Ensure)."""
    functions = getattr(ctypes, "pythonapi", None)
    current = getattr(functions, "PyInterpreterState_Get", None) or getattr(
        functions, "_PyInterpreterState_Get", None
    )
    if current is None:  # not CPython
        return
    current.restype = c_void_p
    main = functions.PyInterpreterState_Main  # type: ignore[union-attr]
    main.restype = c_void_p
    if current() != main():
        raise ImportError("pyws works in the main interpreter only, not in subinterpreters")


def load() -> Library:
    """The library that PYWS_LIBRARY names, or the first one that is found. ImportError."""
    refuse_subinterpreters()
    chosen = os.environ.get("PYWS_LIBRARY")
    return Library(find_library([chosen] if chosen else list(places.candidates())))


lib = load()


class PyMemberDef(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("type", c_int),
        ("offset", c_ssize_t),
        ("flags", c_int),
        ("doc", c_char_p),
    ]


class PyType_Slot(Structure):
    _fields_ = [("slot", c_int), ("pfunc", c_void_p)]


class PyType_Spec(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("basicsize", c_int),
        ("itemsize", c_int),
        ("flags", c_uint),
        ("slots", POINTER(PyType_Slot)),
    ]


class PyMethodDef(Structure):
    _fields_ = [
        ("name", c_char_p),
        ("method", c_void_p),
        ("flags", c_int),
        ("doc", c_char_p),
    ]


_ULONG, _MEMBERS = 12, 72  # Py_T_ULONG, Py_tp_members
_BASE_TYPE = 1 << 18 | 1 << 10  # Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE
_FAST_METHOD = 0x80 | 0x02  # METH_FASTCALL | METH_KEYWORDS


def keep(*structures: Structure | ctypes.Array[Any]) -> None:
    """The interpreter goes on to point to them, also when this module is gone."""
    for structure in structures:
        ctypes.pythonapi.Py_IncRef(py_object(structure))


def new_handle_type() -> type:
    """A type with three attributes more than `object`: the members of a ws_bridge_socket."""
    start = object.__basicsize__
    members = (PyMemberDef * 4)(
        PyMemberDef(b"_conn", _ULONG, start + ws_bridge_socket.conn.offset),
        PyMemberDef(b"_bridge", _ULONG, start + ws_bridge_socket.bridge.offset),
        PyMemberDef(b"_context_address", _ULONG, start + ws_bridge_socket.context.offset),
    )
    slots = (PyType_Slot * 2)(PyType_Slot(_MEMBERS, ctypes.cast(members, c_void_p)))
    size = start + ctypes.sizeof(ws_bridge_socket)
    spec = PyType_Spec(b"pyws._native.Handle", size, 0, _BASE_TYPE, slots)
    keep(members, slots, spec)
    make = ctypes.PYFUNCTYPE(py_object, POINTER(PyType_Spec))(("PyType_FromSpec", ctypes.pythonapi))
    return make(spec)  # type: ignore[no-any-return]


class Handle:
    """What C and Python know of one connection in common."""

    __slots__ = ("_bridge", "_conn", "_context_address")
    _conn: int  # address of the ws_conn, 0 once it has closed
    _bridge: int  # address of the server's ws_bridge
    _context_address: int  # of the Context that its handlers run in


if lib.bridge:
    Handle = new_handle_type()  # type: ignore[misc,assignment]


def shorten(kind: type, name: str, rest: str) -> None:
    """Put ws_bridge_`name` before a method, which is called `rest` from now on."""
    method = getattr(kind, name)
    code, defaults = method.__code__, method.__defaults__
    names = code.co_varnames[1 : code.co_argcount]
    required = names[: len(names) - len(defaults)]
    optional = [f"{key}={value!r}" for key, value in zip(names[len(required) :], defaults)]
    signature = ", ".join(("$self", *required, *optional))
    function = ctypes.cast(getattr(lib.loaded, "ws_bridge_" + name), c_void_p)
    document = f"{name}({signature})\n--\n\n{method.__doc__}"
    definition = PyMethodDef(name.encode(), function, _FAST_METHOD, document.encode())
    keep(definition)
    make = ctypes.PYFUNCTYPE(py_object, py_object, POINTER(PyMethodDef))
    setattr(kind, rest, method)
    setattr(kind, name, make(("PyDescr_NewMethod", ctypes.pythonapi))(kind, definition))


def new_bridge(status: Sequence[Any], flag: Sequence[Any], **objects: Any) -> ws_bridge:
    """The ws_bridge of one server."""
    return ws_bridge(
        none=None,
        str_type=str,
        bytes_type=bytes,
        status=(py_object * 3)(*status),
        flag=(py_object * 2)(*flag),
        **objects,
    )


def new_bridge_route(bridge: ws_bridge, message: Any, closed: Any) -> ws_bridge_route:
    """The ws_bridge_route of a route with this message handler."""
    return ws_bridge_route(ctypes.pointer(bridge), message, closed)


def bridge_function(kind: Any, name: str) -> Any:
    """ws_bridge_`name`, for a field of that kind."""
    return ctypes.cast(getattr(lib.loaded, "ws_bridge_" + name), kind)


address_of = ctypes.addressof

# ---- threads ------------------------------------------------------------------------------------


def find_thread_ident() -> Callable[[], int]:
    """What returns the pthread_self() of the calling thread, as bridge.c compares it.

    _thread.get_ident does, and takes less time than ctypes, but gevent and eventlet may have
    replaced it: then it returns something else for each greenlet.
    """
    library = ctypes.PyDLL if sys.implementation.name == "cpython" else ctypes.CDLL
    ident = library(None).pthread_self
    ident.restype, ident.argtypes = c_ulong, ()
    return get_ident if get_ident() == ident() else ident


thread_ident = find_thread_ident()

# ---- what needs a ctypes object -----------------------------------------------------------------


def new_server(log: Any, bridge: ws_bridge | None, settings: dict[str, int]) -> int:
    """ws_server_new with a log sink and fields of ws_config. Errors of ws_server_new."""
    config = ws_config()
    lib.ws_config_init(config, ctypes.sizeof(config))
    config.log = log
    if bridge is not None:
        config.user = ctypes.addressof(bridge)
        config.before_wait = bridge_function(plain_function, "before_wait")
        config.after_wait = bridge_function(plain_function, "after_wait")
    for name, value in settings.items():
        setattr(config, name, value)
    server = c_void_p()
    lib.ws_server_new(ctypes.byref(server), config)
    assert server.value
    return server.value


def listen(server: int, settings: dict[str, Any]) -> int:
    """ws_server_listen with fields of ws_listen_options; the port. Errors of ws_server_listen."""
    options = ws_listen_options()
    lib.ws_listen_options_init(options, ctypes.sizeof(options))
    for name, value in settings.items():
        setattr(options, name, value)
    return int(lib.ws_server_listen(server, options))


def string_list(names: Sequence[str] | None) -> Any:
    """A NULL-terminated array of C strings; NULL for None."""
    if names is None:
        return None
    values = [name.encode() for name in names]
    return ctypes.cast((c_char_p * (len(values) + 1))(*values, None), POINTER(c_char_p))


def add_route(server: int, pattern: bytes, settings: dict[str, Any]) -> None:
    """ws_server_ws with fields of ws_behavior. Errors of ws_server_ws."""
    behavior = ws_behavior()
    lib.ws_behavior_init(behavior, ctypes.sizeof(behavior))
    for name, value in settings.items():
        if name in ("subprotocols", "origins"):
            value = string_list(value)
        setattr(behavior, name, value)
    lib.ws_server_ws(server, pattern, behavior)


FUNCTION: Any = plain_function.__mro__[1]  # what all C functions of ctypes are


def native_address(value: Any) -> int | None:
    """Where the C function is that `value` stands for; None: `value` is none.

    One is a function of ctypes, and whatever has an `address` and is either no function of Python
    or, as those of numba, a function of ctypes as well.
    """
    if isinstance(value, FUNCTION):
        return ctypes.cast(value, c_void_p).value or 0
    address = None if isinstance(value, type) else getattr(value, "address", None)
    if callable(value) and not isinstance(getattr(value, "ctypes", None), FUNCTION):
        return None
    return address if type(address) is int else None


def native_function(field: str, address: int) -> Any:
    """The function there, for that field of ws_behavior."""
    kinds: Any = dict(ws_behavior._fields_)  # type: ignore[arg-type]
    return kinds[field](address)


def stats(server: int) -> dict[str, int]:
    """The fields of ws_stats, without its size."""
    result = ws_stats()
    lib.ws_server_stats(server, result, ctypes.sizeof(result))
    return {field[0]: getattr(result, field[0]) for field in ws_stats._fields_[1:]}


def text(function: Any, *arguments: Any) -> bytes | None:
    """A copy of what a getter returns by pointer and length; None for NULL."""
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


def short_text(function: Any, handle: int) -> str:
    """The text that a function writes into a buffer: an address, or ws_conn_compression."""
    buffer = ctypes.create_string_buffer(128)
    function(handle, buffer, len(buffer))
    return buffer.value.decode("ascii")


def topic_names(conn: int) -> list[bytes]:
    """Copies of the names of all topics that a connection has subscribed to."""
    names: list[bytes] = []
    while (name := text(lib.ws_conn_topic_at, conn, len(names))) is not None:
        names.append(name)
    return names


def set_on_response(server: int, function: Any, argument: int) -> None:
    """ws_server_set_on_response; `function` a response_function or None."""
    lib.ws_server_set_on_response(server, function or response_function(), argument)


def set_alarm(server: int, delay: int, function: Any, argument: int) -> None:
    """ws_server_set_alarm; `delay` in nanoseconds, `function` a plain_function or None."""
    lib.ws_server_set_alarm(server, delay, function or plain_function(), argument)


def address_bytes(conn: int) -> bytes:
    """The peer's address: 4, 16 or 0 bytes in network order."""
    buffer = (c_uint8 * 16)()
    length = lib.ws_conn_remote_address_bytes(conn, buffer)
    return bytes(buffer)[:length]
