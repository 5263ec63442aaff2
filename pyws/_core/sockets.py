# SPDX-License-Identifier: MIT
"""Connections as C and coroutine handlers see them; `pyws.websocket` adds what programs call.

The attributes of a `Socket` with an underscore are for this module and for `WebSocket`, its
subclass. All others use the functions at the end. No exception leaves a function that C calls.
"""

from __future__ import annotations

import sys
from contextvars import Context
from typing import Any, Callable, Optional, Union

from .._native import lib
from ..enums import OpCode
from . import calls
from .bridge import BUSY, Handle
from .close_info import CloseInfo
from .contexts import run_in
from .facts import Facts, forget_address, is_over, preserve
from .fields import header_text
from .logs import peer_name
from .requests import Exchange, after_open, exchange_at, request_of, set_socket
from .requests import context_of as context_of_exchange
from .routes import Route, returned
from .runtime import Runtime, at_end
from .waits import AnyReader, Waits, resolve

__all__ = ["Socket", "sockets"]

BY_USER, BY_PINGS, BY_QUEUE, BY_SESSION = 1, 2, 4, 8  # why a socket is paused
_NOTHING_IS_READ = BY_USER | BY_PINGS  # else it is only messages that do not come
_TEXT, _BINARY, _OPCODES = OpCode.TEXT, OpCode.BINARY, {int(code): code for code in OpCode}
# How many handlers may run inside each other, because one ends the connection of the next. Far
# less than Python's stack allows: the callbacks here need some of it, too.
DEEPEST = 20
sockets: dict[int, Socket] = {}  # address of the ws_conn -> its object, until on_closed


def check_stack(depth: int = 40) -> None:
    """Raise RecursionError here if there is too little stack left for a callback from C.

    A program can survive a RecursionError, but CPython 3.8 aborts 50 calls beyond the limit.
    """
    if depth:
        check_stack(depth - 1)


def _text(function: Any, request: int) -> str:
    """A part of the target of a request, which is ASCII."""
    return (calls.copied_bytes(function, request) or b"").decode()


# ---- the connection -----------------------------------------------------------------------------


class Socket(Handle):
    """A connection, from its open event on."""

    __slots__ = (
        "__weakref__",
        "_close_event",
        "_close_info",
        "_compression",
        "_context",
        "_decoder",
        "_paused",
        "_queue",
        "_remote",
        "_request",
        "_route",
        "_runtime",
        "_subprotocol",
        "_target",
        "_user_data",
        "_waits",
    )

    _target: str  # path and query; what programs ask for is made of it when they do
    _subprotocol: Optional[str]
    _compression: Optional[str]
    # The opening handshake: until it is asked for, its Exchange or the address of its ws_request.
    # None once it is over, unless the route keeps it.
    _request: Union[int, Exchange, Facts, None]
    _new_request: Callable[..., Facts]  # the class Request

    def __init__(self, runtime: Runtime, conn: int) -> None:
        """Make the object of a connection; with the bridge, C does that in another way."""
        self._conn = conn  # 0 once the connection has closed
        self._bridge = runtime.bridge_address
        self._id = lib.ws_conn_get_id(conn) if conn else 0  # 0: a fake of pyws.testing
        self._latency = 0
        self._stepper = 0

    def _begin(self, route: Route, context: Context, request: int) -> None:
        """Initialize the object, except for what it shares with C (`Handle`)."""
        self._runtime = route.runtime
        self._route = route
        self._user_data: Any = None
        self._decoder: Any = None  # of a TEXT message in fragments
        self._remote: tuple[bytes, int, bool] | None = None
        self._close_info: CloseInfo | tuple[Any, ...] | None = None  # see `_get_close_info`
        self._close_event: tuple[int, str] | None = None  # what the close handler will get
        self._waits: Waits | None = None
        self._paused = 0  # BY_USER | BY_PINGS | BY_QUEUE | BY_SESSION
        self._queue: Any = None  # an aio.Queue, while events wait for coroutine handlers
        self._request = request
        self._target = ""
        self._subprotocol = self._compression = None
        self._context = context  # what all its handlers run in
        self._context_address = id(context)  # for the bridge; last, so that all of it is there

    def _read_target(self, request: int) -> None:
        """Keep the target of the opening handshake."""
        target = _text(lib.ws_request_target, request)
        if target[:1] != "/":  # the absolute form (RFC 9112 section 3.2.2)
            target = _text(lib.ws_request_path, request)
            target += "?" + _text(lib.ws_request_query, request)
        self._target = target

    def _greet(self, request: int, exchange: Exchange | None) -> None:
        """Keep what was selected in the opening handshake, and what the upgrade handler left."""
        behavior = self._route.behavior
        if behavior.subprotocols or exchange is not None:
            subprotocol = calls.copied_bytes(lib.ws_request_subprotocol, request)
            self._subprotocol = None if subprotocol is None else header_text(subprotocol)
        if behavior.compression:
            self._compression = calls.short_text(lib.ws_conn_compression, self._conn) or None
        if exchange is not None:
            self._user_data, self._request = set_socket(exchange, self), exchange

    def _get_path(self) -> str:
        return self._target.partition("?")[0]

    def _get_request(self) -> Facts:
        """The opening handshake. Raises RuntimeError if it is over."""
        request = self._request
        if isinstance(request, int):
            request = self._request = self._new_request(self._runtime, request)
        elif isinstance(request, Exchange):
            request = self._request = request_of(request)
        if request is None:
            raise RuntimeError(
                "the opening handshake of this socket is over: read ws.request in upgrade or "
                "open, or let the route keep it with keep_request=True"
            )
        return request

    def _end_request(self) -> None:
        """C is about to forget the opening handshake: copy it if it is needed later."""
        has_asked = isinstance(self._request, Facts)
        if self._queue is None and session_of(self) is None:
            is_needed = False  # the handlers of it have ended
        else:  # a coroutine has asked for it, or has not begun yet
            is_needed = has_asked or (self._queue is not None and bool(self._queue.events))
        is_needed = is_needed or self._route.keeps_requests
        if is_needed:
            preserve(self._get_request())
        if isinstance(self._request, Facts):
            forget_address(self._request)
        if not is_needed:
            self._request = None

    def _forget_address(self) -> None:
        """C forgets the opening handshake, also if what should have copied it was interrupted."""
        if isinstance(self._request, Facts):
            forget_address(self._request)
        elif isinstance(self._request, int):
            self._request = None

    def _end_queue(self) -> None:
        """The last coroutine handler for now has ended, and so has the open handler."""
        self._queue = None
        if self._stepper == BUSY:
            self._stepper = 0
        self._forget_data()

    def _forget_data(self) -> None:
        """Release what no handler can need: the user data of a closed socket, the request."""
        if self._queue is not None or self._stepper == BUSY or session_of(self) is not None:
            return
        request = self._request
        if isinstance(request, Facts) and is_over(request) and not self._route.keeps_requests:
            self._request = None
        if not self._conn:
            self._user_data = None

    def _get_waits(self) -> Waits:
        if self._waits is None:
            self._waits = Waits()
        return self._waits

    def _end_waits(self, local: bool) -> None:
        """The connection is closed: end what waits for it."""
        waits = self._waits
        if waits is None:
            return
        for future in waits.drained:
            resolve(future, False)
        waits.drained.clear()
        for task in list(waits.tasks):
            task.cancel()
        if waits.session is not None:
            waits.session.on_close(local)
        reader, waits.reader = waits.reader, None
        if reader is not None:
            reader.end()

    def _peer(self) -> tuple[bytes, int, bool]:
        if self._remote is None and self._conn:
            self._remote = calls.peer_of(self._conn)
        return self._remote or (b"", 0, False)

    def _facts(self) -> dict[str, Any]:
        """The attributes of log records about this socket."""
        packed, port, _ = self._peer()
        peer = peer_name(calls.address_text(packed), port)
        return {"route": self._route.pattern, "socket": self._id, "peer": peer}

    def _log(self, event: str, *facts: Any) -> None:
        """Write the log line of an event, if such lines are wanted."""
        traffic = self._runtime.traffic
        if traffic is not None:
            write = getattr(traffic, event)

            def line() -> None:
                write(self._id, self._get_path(), self._facts(), *facts)

            run_in(self._context, self._runtime.report, "logging", line)

    def _end_here(self, code: int, reason: str, local: bool) -> None:
        """The close event: never touch C again, keep what may be asked for."""
        self._conn = 0
        self._close_event = (code, reason)
        self._close_info = (code, reason, local)

    def _get_close_info(self) -> CloseInfo | None:
        """How the connection ended; the object is made when it is asked for."""
        info = self._close_info
        if isinstance(info, tuple):
            facts, info = info, CloseInfo(*info[:3])
            if facts[3:]:
                info.complete(*facts[3:])
            self._close_info = info
        return info

    def _closing_is_over(self, clean: bool, code: int, reason: str) -> None:
        """The closing handshake is over: nothing more will come from the client."""
        info = self._close_info
        if type(info) is tuple:
            self._close_info = info + (clean, code, reason)  # noqa: RUF005
        else:
            assert isinstance(info, CloseInfo)
            info.complete(clean, code, reason)
        if self._waits is not None:
            resolve(self._waits.closed, self._get_close_info())

    def _end(self, code: int, reason: bytes) -> None:
        """Send a Close frame, after all queued data. Nothing when closed."""
        if self._conn:
            check_stack()
            lib.ws_conn_end(self._conn, code, reason, len(reason))

    def _set_paused(self, now: int) -> None:
        before, self._paused = self._paused, now
        if not self._conn or now == before:
            return
        if now & _NOTHING_IS_READ:
            lib.ws_conn_pause(self._conn)
        elif now:
            if before & _NOTHING_IS_READ:
                lib.ws_conn_resume(self._conn)
            lib.ws_conn_pause_messages(self._conn)
        else:
            lib.ws_conn_resume(self._conn)


# ---- events, called by C ------------------------------------------------------------------------


def opened(ws: Socket, route: Route, request: int, target: str | None) -> None:
    """A connection was opened: initialize its object, and call the open handler.

    Args:
        ws: The object, which is in the table, and whose address C has.
        route: Where the handshake came to.
        request: The address of its ws_request.
        target: The target of the request, or None: read it.
    """
    runtime, handler = route.runtime, route.behavior.open
    exchange = exchange_at(request)  # None: there was no upgrade handler
    context = runtime.context.copy() if exchange is None else context_of_exchange(exchange)
    ws._begin(route, context, request)
    failure = None
    try:
        if target is None:
            ws._read_target(request)
        else:
            ws._target = target
        if exchange is not None or not route.is_plain:
            ws._greet(request, exchange)
        if route.greet is not None:
            route.greet(ws)
        if runtime.traffic is not None:
            ws._log("opened")
        if handler is not None:
            # Without an upgrade handler, nothing can have entered the context.
            run: Any = run_in if exchange is not None else Context.run
            result = run(context, handler, ws)
            if result is not None:
                returned(route, "open", handler, result)
    except BaseException as error:
        failure = error
    try:
        if exchange is None:
            ws._end_request()
        else:
            after_open(exchange, ws._end_request)
        if failure is not None:
            _report(ws, "open", failure)
    finally:
        failure = None  # it refers to this frame
        if exchange is None and ws._request is not None:
            ws._forget_address()


def enter(ws: Socket, conn: int) -> None:
    """Put the object of a new connection into the table; with the bridge, C does."""
    before = sockets.get(conn)
    sockets[conn] = ws
    if before is not None:  # C has freed its connection, but `on_closed` was interrupted
        before._runtime.postpone(closed, before, False, 0, "")


def forget_unless_begun(ws: Socket, conn: int) -> None:
    """End a connection whose object `opened` has not initialized, since it was interrupted."""
    if not getattr(ws, "_context_address", 0):
        ws._conn = 0
        lib.ws_conn_set_user(conn, None)  # it leads to the object, which nothing else may hold
        sockets.pop(conn, None)
        lib.ws_conn_end(conn, 1011, b"", 0)


def _socket_at(conn: int) -> Socket | None:
    """The object of an open connection; None if the callback of its open event was interrupted."""
    ws = sockets.get(conn)  # perhaps that of an older connection, whose end was interrupted, too
    return ws if ws is not None and ws._conn == conn else None


def on_message(conn: int, data: Any, length: int, opcode: int, key: int) -> None:
    """A message came; with the bridge, bridge.c does this."""
    ws = _socket_at(conn)
    if ws is None:
        lib.ws_conn_end(conn, 1011, b"", 0)
        return
    if ws._runtime.refusal:  # the child of a fork has come back from a handler
        return
    try:
        handler: Any = ws._route.behavior.message
        if opcode == 1:
            result = run_in(ws._context, handler, ws, data[:length].decode(), _TEXT)
        else:
            result = run_in(ws._context, handler, ws, data[:length], _BINARY)
    except BaseException as error:
        message_failed(ws, error)
    else:
        if result is not None:
            message_returned(ws, result)


def message_returned(ws: Socket, result: Any) -> None:
    """The message handler has returned something; bridge.c calls this, too."""
    try:
        returned(ws._route, "message", ws._route.behavior.message, result)
    except BaseException as error:
        message_failed(ws, error)


def message_failed(ws: Socket, error: BaseException) -> None:
    """The message handler has raised `error`; bridge.c calls this, too."""
    try:
        failed(ws, "message", error)
    except BaseException as again:  # from a signal handler of the program
        try:
            failed(ws, "message", error)
        finally:
            ws._runtime.stash(again)


def on_dropped(conn: int, data: Any, length: int, opcode: int, key: int) -> None:
    """A message was dropped."""

    def arguments() -> tuple[str | bytes, OpCode]:
        payload: bytes = data[:length]
        return payload.decode("utf-8", "replace") if opcode == _TEXT else payload, _OPCODES[opcode]

    _call(_socket_at(conn), "dropped", arguments)


def on_drain(conn: int, key: int) -> None:
    """The queue of a slow client is empty again."""
    ws = _socket_at(conn)
    waits = None if ws is None else ws._waits
    if waits is not None:
        drained, waits.drained = waits.drained, []
        for future in drained:
            resolve(future, True)
    if ws is not None and ws._route.has("drain"):
        _call(ws, "drain", lambda: ())


def on_ping(conn: int, data: Any, length: int, key: int) -> None:
    """A Ping came."""
    _call(_socket_at(conn), "ping", lambda: (data[:length],))


def on_pong(conn: int, data: Any, length: int, key: int) -> None:
    """A Pong came."""
    _call(_socket_at(conn), "pong", lambda: (data[:length],))


def on_subscription(conn: int, topic: Any, length: int, now: int, before: int, key: int) -> None:
    """The socket has subscribed to a topic or unsubscribed."""
    _call(_socket_at(conn), "subscription", lambda: (topic[:length].decode(), now, before))


def on_close(conn: int, code: int, reason: Any, length: int, key: int) -> None:
    """The connection has ended; with the bridge, bridge.c does this."""
    ws = sockets.get(conn)  # which C has made forget the address already
    if ws is None or ws._id != lib.ws_conn_get_id(conn):  # as in `_socket_at`
        return
    ws._latency = lib.ws_conn_latency(conn)
    text = reason[:length].decode("utf-8", "replace")
    closing(ws, code, text, lib.ws_conn_closed_by_peer(conn), *calls.peer_of(conn))


def closing(ws: Socket, code: int, reason: str, by_peer: bool, *peer: Any) -> bool:
    """The connection has ended: no more events, and no more calls of C.

    Returns:
        Whether `closed` has nothing to do if the closing handshake was completed. After a Close of
        the client it is complete already, and C calls `closed` next.
    """
    try:
        runtime = ws._runtime
        ws._remote = peer  # as calls.peer_of has it
        ws._end_here(code, reason, not by_peer)
        if runtime.traffic is not None:
            ws._log("closed", code, reason)
        if ws._queue is not None:
            ws._queue.on_close(not by_peer)
        if ws._waits is not None:
            ws._end_waits(not by_peer)
        if runtime.nested < DEEPEST:
            _run_close(ws)
        else:  # later, but not never
            runtime.postpone(_run_close, ws)
        return by_peer and ws._waits is None and ws._close_event is None
    except BaseException as error:  # from a signal handler of the program
        ws._runtime.stash(error)
        return False


def _run_close(ws: Socket) -> None:
    event, ws._close_event = ws._close_event, None
    if event is not None and ws._route.behavior.close is not None:
        _call(ws, "close", None, *event)
    ws._forget_data()  # otherwise after the last event in the queue


def on_closed(conn: int, clean: bool, code: int, reason: Any, length: int, key: int) -> None:
    """C forgets the connection after this; with the bridge, bridge.c does this."""
    ws = sockets.get(conn)
    if ws is not None and ws._id == lib.ws_conn_get_id(conn):
        del sockets[conn]
        closed(ws, clean, code, reason[:length].decode("utf-8", "replace"))


def closed(ws: Socket, clean: bool, code: int, reason: str) -> None:
    """The closing handshake is over."""
    if ws._close_info is None:  # `closing` had no stack, or was interrupted
        closing(ws, 1006, "the close event was interrupted", not clean, *ws._peer())
    if ws._close_event is not None:
        ws._runtime.postpone(_run_close, ws)
    ws._closing_is_over(clean, code, reason)


def end_lost(runtime: Runtime) -> None:
    """The server has no connections any more: end those whose `on_closed` was interrupted."""
    if lib.bridge:  # C itself removes each from the table
        return
    for conn, ws in list(sockets.items()):
        if getattr(ws, "_runtime", None) is runtime and not ws._conn:
            del sockets[conn]
            closed(ws, False, 0, "")


at_end.append(end_lost)


def _call(ws: Socket | None, event: str, convert: Callable[..., Any] | None, *args: Any) -> None:
    """Run the handler of an event that may happen inside another handler.

    Args:
        ws, event: Which handler.
        convert: Returns its arguments after the first one; what this raises is reported, too. If it
            is None, they are `args`.
        args: The arguments of `convert`.
    """
    if ws is None or ws._runtime.refusal:  # the child of a fork
        return
    runtime = ws._runtime
    runtime.nested += 1
    failure = None
    try:
        try:
            if runtime.nested > DEEPEST:
                raise RecursionError(f"handlers run inside each other, more than {DEEPEST} deep")
            handler = getattr(ws._route.behavior, event)
            if convert is not None:
                args = convert(*args)
            result = run_in(ws._context, handler, ws, *args)
            if result is not None:
                returned(ws._route, event, handler, result)
        except BaseException as error:
            failure = error
        if failure is not None:
            _report(ws, event, failure)
    finally:
        runtime.nested -= 1
        failure = None  # it refers to this frame


def _report(ws: Socket, event: str, failure: BaseException) -> None:
    """Report what a handler has raised, after the end of the `except` that has caught it."""
    detach(failure, sys.exc_info()[1])
    failed(ws, event, failure)


def detach(error: BaseException, outer: BaseException | None) -> None:
    """Remove `outer`, which was being handled when a handler was called, from the handler's error.

    The two are unrelated, although Python records `outer` as __context__.
    """
    inner, links = error, 100  # a program may have made a circle of them
    while inner.__context__ is not None and inner.__context__ is not outer and links:
        inner, links = inner.__context__, links - 1
    if inner.__context__ is outer:
        inner.__context__ = None


# ---- what callbacks and coroutine handlers do ---------------------------------------------------


def failed(ws: Socket, event: str, error: BaseException) -> None:
    """The handler of an event has raised `error`: report it, and close with 1011."""
    behavior, runtime = ws._route.behavior, ws._runtime
    handler, what = getattr(behavior, event), f"the {event} handler"
    runtime.handler_failed(what, error, handler, ws._context, ws, ws._facts)
    if behavior.close_on_error and not runtime.refusal:
        ws._end(1011, f"the {event} handler failed".encode())


def runtime_of(ws: Socket) -> Runtime:
    """The runtime of the app."""
    return ws._runtime


def route_of(ws: Socket) -> Route:
    """The route that the handshake came to."""
    return ws._route


def context_of(ws: Socket) -> Context:
    """The context that the handlers run in."""
    return ws._context


def conn_of(ws: Socket) -> int:
    """The address of the ws_conn; 0 once the connection has closed."""
    return ws._conn


def target_of(ws: Socket) -> str:
    """Path and query of the opening handshake."""
    return ws._target


def set_reader(ws: Socket, reader: AnyReader) -> None:
    """The connection takes labels; `reader` knows its position in topics with history."""
    ws._get_waits().reader = reader


def wait_for_drain(ws: Socket, future: Any) -> None:
    """Set the result of a future to True once nothing is queued; to False if it closes before."""
    ws._get_waits().drained.append(future)


def queue_of(ws: Socket) -> Any:
    """The events that wait for coroutine handlers, or None."""
    return ws._queue


def set_queue(ws: Socket, queue: Any) -> None:
    """Make events wait in this queue; None: there are no more."""
    if queue is None:
        ws._end_queue()
        return
    ws._queue = queue
    if not ws._stepper:
        ws._stepper = BUSY


def is_busy(ws: Socket) -> bool:
    """Whether C runs a coroutine handler of this socket, or there is a queue."""
    return ws._stepper == BUSY


def set_stepper(ws: Socket, address: int) -> None:
    """C may resume the session of this socket by this ws_bridge_stepper; 0: it may not."""
    ws._stepper = address


def session_of(ws: Socket) -> Any:
    """The session that is under way, or None."""
    return None if ws._waits is None else ws._waits.session


def set_session(ws: Socket, session: Any) -> None:
    """A session begins; None: it has ended."""
    ws._get_waits().session = session
    if session is None:
        ws._forget_data()


def tasks_of(ws: Socket) -> set[Any]:
    """The tasks that the program has started for the socket, which its end cancels."""
    return ws._get_waits().tasks


def task_failed(ws: Socket, name: str, error: BaseException) -> None:
    """A task of the program for this socket has raised `error`."""
    runtime = ws._runtime
    runtime.handler_failed(f"the task {name!r}", error, None, ws._context, ws, ws._facts)
    if ws._route.behavior.close_on_error and not runtime.refusal:
        ws._end(1011, b"a task failed")


def close_info_of(ws: Socket) -> CloseInfo | None:
    """How the connection ended."""
    return ws._get_close_info()


def end(ws: Socket, code: int, reason: bytes) -> None:
    """Send a Close frame; nothing when closed."""
    ws._end(code, reason)


def pause(ws: Socket, why: int) -> None:
    """Stop reading: BY_USER, BY_PINGS; messages alone: BY_QUEUE, BY_SESSION."""
    ws._set_paused(ws._paused | why)


def resume(ws: Socket, why: int) -> None:
    """Read again, unless the socket is paused for another reason, too."""
    ws._set_paused(ws._paused & ~why)


def is_paused(ws: Socket, why: int) -> bool:
    """Whether the socket is open, and paused for this reason."""
    return bool(ws._conn and ws._paused & why)
