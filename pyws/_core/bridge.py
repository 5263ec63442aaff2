# SPDX-License-Identifier: MIT
"""bridge.c, which passes messages to Python handlers and back without ctypes.

Everything that touches the C API of the interpreter (`ctypes.pythonapi`) is here.
"""

from __future__ import annotations

import ctypes
import os
import sys
from ctypes import (
    POINTER,
    Structure,
    c_char_p,
    c_int,
    c_size_t,
    c_ssize_t,
    c_uint,
    c_void_p,
    py_object,
)
from types import MappingProxyType
from typing import Any, Sequence

from .._native import (
    lib,
    ws_bridge,
    ws_bridge_request,
    ws_bridge_response,
    ws_bridge_route,
    ws_bridge_socket,
    ws_bridge_stepper,
    ws_python,
)
from .foreign import Explained

__all__ = [
    "BUSY",
    "Documented",
    "Handle",
    "RequestHandle",
    "ResponseHandle",
    "address_of",
    "bridge_function",
    "can_make",
    "current_response",
    "enable_steps",
    "install_fast_path",
    "new_bridge",
    "new_bridge_route",
    "new_stepper",
    "place_of",
    "set_spare",
    "track_socket",
]

# ---- which interpreters -------------------------------------------------------------------------


def refuse_subinterpreters() -> None:
    """Raise ImportError in a subinterpreter.

    Callbacks from C would run in the main interpreter (PyGILState_Ensure).
    """
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


def enable_bridge() -> bool:
    """Set up bridge.c if the library has it and the interpreter has all that it needs.

    PYWS_BRIDGE=ctypes does without it; PYWS_BRIDGE=c raises ImportError if it is not possible.
    """
    wish = os.environ.get("PYWS_BRIDGE", "")
    if wish not in ("", "c", "ctypes"):
        raise ImportError(f'PYWS_BRIDGE must be "c" or "ctypes", not {wish!r}')
    if wish == "ctypes":
        return False
    obstacle = set_up_bridge()
    if wish == "c" and obstacle:
        raise ImportError(f"PYWS_BRIDGE=c is not possible: {obstacle}")
    return not obstacle


_NEWER = ("PyErr_GetRaisedException", "PyIter_Send")  # functions that bridge.c can do without


def set_up_bridge() -> str:
    """Give bridge.c the functions of the interpreter; returns "", or why that is not possible."""
    if sys.implementation.name != "cpython":
        return "this is not CPython"
    if "t" in sys.abiflags:
        return "this Python has no global interpreter lock"
    functions = ws_python()
    for name in (field[0] for field in ws_python._fields_):
        address = interpreter_function(name)
        if address is None and name not in _NEWER:
            return f"this Python has no {name}"
        setattr(functions, name, address)
    try:
        set_up = lib.with_gil.ws_bridge_setup
    except AttributeError:
        return f"{lib.path} was built without it"
    set_up.restype, set_up.argtypes = c_int, (POINTER(ws_python), c_size_t, c_size_t)
    if set_up(functions, ctypes.sizeof(functions), object.__basicsize__):
        raise lib.mismatch(f"struct ws_python does not have {ctypes.sizeof(functions)} bytes")
    return ""


def interpreter_function(name: str) -> int | None:
    """The address of a function of the interpreter; None if this version does not have it."""
    for symbol in (name, name + "Dict"):  # PyObject_VectorcallDict, before Python 3.11
        function = getattr(ctypes.pythonapi, symbol, None)
        if function is not None:
            return ctypes.cast(function, c_void_p).value
    return None


refuse_subinterpreters()
lib.bridge = enable_bridge()
if lib.bridge:  # it releases the GIL itself, around each wait
    lib.declare(lib.with_gil, ("ws_server_run", "ws_server_step"))

# ---- types and methods made without a compiler --------------------------------------------------


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


_INT, _UINT, _ULONG, _BOOL, _ULONGLONG = 1, 11, 12, 14, 18  # Py_T_INT, Py_T_UINT, ...
_MEMBERS = 72  # Py_tp_members
_BASE_TYPE = 1 << 18 | 1 << 10  # Py_TPFLAGS_DEFAULT | Py_TPFLAGS_BASETYPE
_FAST_METHOD = 0x80 | 0x02  # METH_FASTCALL | METH_KEYWORDS


def keep(*structures: Structure | ctypes.Array[Any]) -> None:
    """Never free these: the interpreter points to them, even after this module is gone."""
    for structure in structures:
        ctypes.pythonapi.Py_IncRef(py_object(structure))


def new_handle_type(name: str, fields: dict[str, tuple[int, Any]], size: int) -> type:
    """Make a type like `object` with fields of a structure, which follows its header.

    Args:
        name: Its name.
        fields: Its attributes, each with the type of a PyMemberDef and a field of the structure.
        size: Of the structure, or of the part of it that is no slots of a class.
    """
    start = object.__basicsize__
    members = (PyMemberDef * (len(fields) + 1))()
    for member, (attribute, (kind, field)) in zip(members, fields.items()):
        member.name, member.type, member.offset = attribute.encode(), kind, start + field.offset
    slots = (PyType_Slot * 2)(PyType_Slot(_MEMBERS, ctypes.cast(members, c_void_p)))
    full_name = f"pyws._core.bridge.{name}".encode()
    spec = PyType_Spec(full_name, start + size, 0, _BASE_TYPE, slots)
    keep(members, slots, spec)
    make = ctypes.PYFUNCTYPE(py_object, POINTER(PyType_Spec))(("PyType_FromSpec", ctypes.pythonapi))
    return make(spec)  # type: ignore[no-any-return]


class Cell:
    """What has an address that C may forget. Here no C knows the class, but the place."""

    __slots__ = ("_cell",)
    _cell: c_void_p

    def _set_address(self, address: int) -> None:
        try:
            self._cell.value = address
        except AttributeError:
            self._cell = c_void_p(address)


class Handle(Cell):
    """What C and Python both know of one connection."""

    __slots__ = ("_bridge", "_context_address", "_id", "_latency", "_stepper")
    _bridge: int  # address of the server's ws_bridge
    _context_address: int  # of the Context that the handlers run in
    _id: int  # ws_conn_get_id
    _latency: int  # microseconds, once the connection has closed
    _stepper: int  # address of the ws_bridge_stepper of a session; BUSY; or 0

    @property
    def _conn(self) -> int:
        """The address of the ws_conn; 0 once the connection has closed."""
        return self._cell.value or 0

    @_conn.setter
    def _conn(self, address: int) -> None:
        self._set_address(address)


class RequestHandle(Cell):
    """What C and Python both know of a `Request`."""

    __slots__ = ()

    @property
    def _ptr(self) -> int:
        """The address of the ws_request; 0 once the request is over."""
        return self._cell.value or 0

    @_ptr.setter
    def _ptr(self, address: int) -> None:
        self._set_address(address)


def place_of(request: RequestHandle) -> c_void_p:
    """Where `request` has its `_ptr`, for ws_request_track."""
    if lib.bridge:
        return c_void_p.from_address(id(request) + object.__basicsize__)
    return request._cell


def track_socket(socket: Handle, conn: int) -> None:
    """Have C forget the address before the close event, whatever is interrupted here.

    The object must stay alive until then, or until ws_conn_set_user is called again. With the
    bridge, C does this itself.
    """
    cell = getattr(socket, "_cell", None)  # only in PyPy
    address = id(socket) + object.__basicsize__ if cell is None else ctypes.addressof(cell)
    lib.ws_conn_set_user(conn, address)


class ResponseHandle:
    """What C and Python both know of a `Response`."""

    __slots__ = (
        "_aborted",
        "_bridge",
        "_deferred",
        "_key",
        "_last",
        "_responded",
        "_status",
        "_upgrades",
    )
    _key: int  # the address of the ws_request, which it may outlive: to be compared only
    _bridge: int  # address of the server's ws_bridge
    _status: int
    _aborted: bool  # see ws_bridge_response
    _deferred: bool
    _last: bool
    _responded: bool
    _upgrades: bool


def make_socket_type() -> None:
    """Make the type of sockets; without the bridge, C knows but the place of the address."""
    global Handle
    socket = ws_bridge_socket
    fields = {
        "_conn": (_ULONG, socket.conn),
        "_bridge": (_ULONG, socket.bridge),
        "_context_address": (_ULONG, socket.context),
        "_stepper": (_ULONG, socket.stepper),
        "_id": (_ULONGLONG, socket.id),
        "_latency": (_UINT, socket.latency),
    }
    new: Any = new_handle_type
    Handle = new("Handle", fields, ctypes.sizeof(socket))  # type: ignore[misc]


def make_request_types() -> None:
    """Make the other types that C shares; without the bridge, it does not."""
    global RequestHandle, ResponseHandle
    request, response = ws_bridge_request, ws_bridge_response
    of_request = {"_ptr": (_ULONG, request.request)}
    of_response = {
        "_key": (_ULONG, response.key),
        "_bridge": (_ULONG, response.bridge),
        "_status": (_INT, response.status),
        **{
            f"_{name}": (_BOOL, getattr(response, name))
            for name in ("aborted", "deferred", "last", "responded", "upgrades")
        },
    }
    new: Any = new_handle_type
    RequestHandle = new("RequestHandle", of_request, request.body.offset)  # type: ignore[misc]
    size = response.abort_handler.offset
    ResponseHandle = new("ResponseHandle", of_response, size)  # type: ignore[misc]


if sys.implementation.name == "cpython":  # in PyPy, objects have no address
    make_socket_type()
if lib.bridge:
    make_request_types()


def has_slots(cls: Any, structure: Any, **others: str) -> bool:
    """Whether the slots of a class are where C expects them: in the order of their names.

    Args:
        cls: The class, which has no other slots.
        structure: Of what follows the header.
        others: Fields with another name than the slot has, without its underscore.
    """
    value, mark = cls.__new__(cls), object()
    for field in [name for name, kind in structure._fields_ if kind is c_void_p][1:]:
        setattr(value, "_" + others.get(field, field), mark)
        place = id(value) + object.__basicsize__ + getattr(structure, field).offset
        if c_void_p.from_address(place).value != id(mark):
            return False
    return True


def can_make(request_type: type, response_type: type) -> bool:
    """Whether C can make objects of the types `Request` and `Response`."""
    return (
        lib.bridge
        and has_slots(request_type, ws_bridge_request)
        and has_slots(response_type, ws_bridge_response, asked="request")
    )


_methods: dict[int, Any] = {}  # of Python, by the ids of those in C that are in front of them
_fast: dict[tuple[str, int], Any] = {}  # of C, by the names and ids of those of Python


class Documented(Explained):
    """The type of a class with methods in C, instead of which it shows those written in Python.

    inspect, help, unittest.mock and Sphinx ask the class, and need a signature with types. Objects
    have the methods in C: what they have is not looked up here.
    """

    def __getattribute__(cls, name: str) -> Any:
        value = super().__getattribute__(name)
        if name == "__dict__":
            return MappingProxyType(
                {key: _methods.get(id(item), item) for key, item in value.items()}
            )
        return _methods.get(id(value), value)

    def __setattr__(cls, name: str, value: Any) -> None:
        super().__setattr__(name, _fast.get((name, id(value)), value))


def install_fast_path(cls: Documented, name: str, fallback: str, function_name: str = "") -> None:
    """Put a function in front of a method of `cls`, which is named `fallback` from now on.

    The function of bridge.c, ws_bridge_`name` unless it has another name, handles the common
    arguments and calls the method for all others.
    """
    method = getattr(cls, name)
    code, defaults = method.__code__, method.__defaults__ or ()
    names = code.co_varnames[1 : code.co_argcount]
    required = names[: len(names) - len(defaults)]
    optional = [f"{key}={value!r}" for key, value in zip(names[len(required) :], defaults)]
    signature = ", ".join(("$self", *required, *optional))
    symbol = "ws_bridge_" + (function_name or name)
    function = ctypes.cast(getattr(lib.without_gil, symbol), c_void_p)
    document = f"{name}({signature})\n--\n\n{method.__doc__}"
    definition = PyMethodDef(name.encode(), function, _FAST_METHOD, document.encode())
    keep(definition)
    make = ctypes.PYFUNCTYPE(py_object, py_object, POINTER(PyMethodDef))
    setattr(cls, fallback, method)
    fast = make(("PyDescr_NewMethod", ctypes.pythonapi))(cls, definition)
    setattr(cls, name, fast)
    _methods[id(fast)], _fast[name, id(method)] = method, fast


# ---- servers and routes -------------------------------------------------------------------------


def new_bridge(
    status: Sequence[Any], flag: Sequence[Any], optional: Sequence[Any], **objects: Any
) -> ws_bridge:
    """The ws_bridge of one server."""
    return ws_bridge(
        none=None,
        str_type=str,
        bytes_type=bytes,
        status=(py_object * 3)(*status),
        flag=(py_object * 2)(*flag),
        optional=(py_object * 3)(*optional),
        **objects,
    )


def new_bridge_route(
    bridge: ws_bridge, route: Any, message: Any, coroutine: Any, request: Any
) -> ws_bridge_route:
    """The ws_bridge_route of a route.

    Args:
        bridge: The ws_bridge of the server.
        route: The Route, which owns the result.
        message: The message handler.
        coroutine: The coroutine function that C may begin instead, or None.
        request: The request handler.
    """
    function = py_object() if coroutine is None else coroutine
    return ws_bridge_route(ctypes.pointer(bridge), id(route), message, function, request)


def bridge_function(kind: Any, name: str) -> Any:
    """The function ws_bridge_`name` as a callback of that kind."""
    return ctypes.cast(getattr(lib.without_gil, "ws_bridge_" + name), kind)


def current_response(bridge: ws_bridge | None) -> Any:
    """The Response whose handler C is calling; None if there is none."""
    if bridge is None or not bridge.current:
        return None
    return ctypes.cast(bridge.current, py_object).value


address_of = ctypes.addressof

# ---- coroutines ---------------------------------------------------------------------------------

BUSY = 1  # WS_BRIDGE_BUSY


def begins_with_count(value: object) -> bool:
    """Whether the first word of an object in memory changes with the count of its references."""
    word = c_ssize_t.from_address(id(value))
    before = word.value
    others = [value] * 3
    return word.value == before + len(others)


def enable_steps(bridge: ws_bridge, task_type: type, **objects: Any) -> bool:
    """Let C run steps of coroutines, if the interpreter has all that is needed.

    Args:
        bridge: The ws_bridge of the server.
        task_type: The type of the tasks.
        objects: Fields of ws_bridge.

    Returns:
        Whether C can do that.
    """
    offset = getattr(task_type, "__weakrefoffset__", 0)  # negative: in front of the object
    has_send = getattr(ctypes.pythonapi, "PyIter_Send", None) is not None
    if not offset or not has_send or not begins_with_count(object()):
        return False
    bridge.weak_references = offset
    bridge.outcome = (py_object * 3)(*objects.pop("outcome"))
    for name, value in objects.items():
        setattr(bridge, name, value)
    return True


def new_stepper(task: Any, parking: Any) -> ws_bridge_stepper:
    """The ws_bridge_stepper of a task; the caller keeps both alive."""
    return ws_bridge_stepper(id(task), id(parking))


def set_spare(bridge: ws_bridge, stepper: ws_bridge_stepper | None) -> None:
    """Set the stepper that C may run handlers as."""
    bridge.spare = POINTER(ws_bridge_stepper)() if stepper is None else ctypes.pointer(stepper)
