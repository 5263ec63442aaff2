"""One WebSocket connection, as handlers see it."""

from __future__ import annotations

import codecs
import socket
from typing import TYPE_CHECKING, Any, Callable, Coroutine, NamedTuple

from . import options
from ._core import mistakes
from ._core.bridge import Handle, shorten
from ._core.calls import address_bytes, thread_ident, topic_names
from ._core.logs import peer_name
from ._native import fail, lib
from .enums import OpCode, SendStatus
from .errors import ErrorCode

if TYPE_CHECKING:
    import asyncio
    from contextvars import Context

    from ._core.aio import Queue
    from ._core.callbacks import Route
    from .app import App

__all__ = ["CloseFrame", "CloseInfo", "WebSocket"]

_TEXT, _BINARY = OpCode.TEXT, OpCode.BINARY
_DROPPED = SendStatus.DROPPED
_STATUS = (SendStatus.BACKPRESSURE, SendStatus.SUCCESS, SendStatus.DROPPED)
_COMPRESS = 0x100  # WS_COMPRESS
BY_USER, BY_QUEUE = 1, 2  # who has paused a socket
_JSON_TYPES = (dict, list, tuple, int, float)  # bool is an int

_send = lib.ws_conn_send
_send_fragment = lib.ws_conn_send_fragment


def pack(message: Any) -> tuple[bytes, OpCode]:
    """The bytes of a message, and the opcode that suits its type. TypeError, ValueError."""
    if isinstance(message, str):
        return options.encode("message", message), _TEXT
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
        f"not {options.type_name(message)}"
    )


def pack_publication(message: Any, opcode: Any, compress: Any) -> tuple[bytes, int]:
    """Payload and opcode, as the library wants them, of a publish. TypeError, ValueError."""
    options.flag("compress", compress)
    data, suited = pack(message)
    number = int(suited) if opcode is None else options.opcode(opcode)
    if number not in (OpCode.TEXT, OpCode.BINARY):
        raise ValueError("the opcode of a publish must be TEXT or BINARY")
    if number == OpCode.TEXT and suited is _BINARY:
        check_text(data)
    return data, number | _COMPRESS if compress else number


def json_text(message: Any) -> bytes:
    """`message` as JSON. TypeError, ValueError: what JSON cannot express, NaN for one."""
    import json

    return json.dumps(message, allow_nan=False).encode()


def check_text(data: bytes) -> None:
    """ValueError unless `data` may be the payload of a TEXT message (RFC 6455 section 5.6)."""
    if not lib.ws_utf8_valid(data, len(data)):
        options.decode("message", data)
        raise ValueError("message is not valid UTF-8")


def check_stack(depth: int = 40) -> None:
    """RecursionError here, before the library calls back and has no stack to do it on.

    CPython 3.8 ends the process at 50 calls beyond the limit, where a program goes on after one.
    """
    if depth:
        check_stack(depth - 1)


def address_text(packed: bytes) -> str:
    """An IP address as text, "" for no bytes."""
    family = socket.AF_INET if len(packed) == 4 else socket.AF_INET6
    return socket.inet_ntop(family, packed) if packed else ""


class CloseFrame(NamedTuple):
    """What a Close frame said (RFC 6455 section 5.5.1)."""

    code: int | None
    """None: it had none."""
    reason: str


class CloseInfo:
    """How a connection ended, seen from both sides (`WebSocket.close_info`)."""

    __slots__ = ("clean", "local", "received", "sent")

    sent: CloseFrame | None
    """The Close frame of this side; None: none was sent."""
    received: CloseFrame | None
    """The Close frame of the client; None: none came, or not yet."""
    clean: bool | None
    """The closing handshake was completed (RFC 6455 section 7.1.4); None while this side waits for
    the client's Close."""
    local: bool
    """This side began: `end`, `close`, a timeout, or the client broke a rule or a limit."""

    def __init__(self, code: int, reason: str, local: bool) -> None:
        """As the close handler gets them."""
        frame = None if code == _BROKEN else CloseFrame(_frame_code(code), reason)
        self.local = local
        self.received = None if local else frame
        # A Close is answered with its code alone (RFC 6455 section 5.5.1).
        self.sent = frame if local or frame is None else CloseFrame(frame.code, "")
        # After a Close of the client's, or without any, there is nothing to wait for.
        self.clean = None if local and frame is not None else frame is not None

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in _INFO_FIELDS)
        return f"CloseInfo({fields})"


_INFO_FIELDS = ("sent", "received", "clean", "local")
_NO_CODE, _BROKEN = 1005, 1006  # stand for what is not in a frame (RFC 6455 section 7.4.1)


def _frame_code(code: int) -> int | None:
    return None if code == _NO_CODE else code


class WebSocket(Handle):
    """One connection: the same object in every handler, hashable, usable as a dict key.

    Every method stays safe after the connection has closed. All of them belong to the thread of
    ``app.run()``; from another thread they raise RuntimeError.
    """

    __slots__ = (
        "__weakref__",
        "_app",
        "_close_event",
        "_close_info",
        "_compression",
        "_context",
        "_decoder",
        "_headers",
        "_id",
        "_latency",
        "_over",
        "_path",
        "_paused",
        "_queue",
        "_remote",
        "_route",
        "_subprotocol",
        "_user_data",
    )

    __reduce_ex__ = options.no_copy

    _path: str
    _subprotocol: str | None
    _compression: str | None
    _headers: dict[str, str] | None

    def __init__(self, app: App, route: Route, conn: int, context: Context) -> None:
        self._app = app
        self._route = route
        self._conn = conn  # 0 once the connection has closed
        self._bridge = app._bridge_address
        self._context = context  # what all its handlers run in
        self._context_address = id(context)  # for the bridge
        self._user_data: Any = None
        self._decoder: codecs.IncrementalDecoder | None = None
        self._remote: tuple[bytes, int] | None = None
        self._latency = 0  # microseconds, once the connection has closed
        self._close_info: CloseInfo | None = None
        self._close_event: tuple[int, str] | None = None  # what the close handler is to be told
        self._over: asyncio.Future[CloseInfo] | None = None  # for `wait_closed`
        self._paused = 0  # BY_USER | BY_QUEUE
        self._queue: Queue | None = None  # events that wait for coroutine handlers
        self._id: int = lib.ws_conn_get_id(conn)

    def __repr__(self) -> str:
        return f"<WebSocket {self._id} {self._path}{'' if self._conn else ' closed'}>"

    def __bool__(self) -> bool:
        """True while the connection is open."""
        return self._conn != 0

    @property
    def closed(self) -> bool:
        """True from the beginning of the close handler on, or earlier if that has to wait."""
        return self._conn == 0

    @property
    def close_info(self) -> CloseInfo | None:
        """How the connection ended: ``sent``, ``received``, ``clean``, ``local``.

        None until the close handler begins. When this side began, `received` and `clean` are
        filled in once the client has answered, or close_timeout is over.
        """
        return self._close_info

    # ---- sending --------------------------------------------------------------------------------

    def send(
        self,
        message: Any,
        opcode: int | None = None,
        compress: bool = False,
        fin: bool = True,
    ) -> SendStatus:
        """Send one message, or with ``fin=False`` the first fragment of one.

        opcode None: TEXT for str, BINARY for bytes-like, TEXT for dict, list, tuple, int, float and
        bool, which are sent as JSON. compress: send it compressed, if that was negotiated and makes
        it smaller. Returns what became of the message; DROPPED when closed.
        TypeError, ValueError: wrong arguments, nothing was sent.
        """
        kind = type(message)
        if fin is not True or compress is not False:
            return self._send_special(message, opcode, compress, fin)
        if kind is str and (opcode is None or opcode is _TEXT):
            try:
                data, number = message.encode(), 1
            except UnicodeEncodeError:
                data, number = pack(message)
        elif kind is bytes and (opcode is None or opcode is _BINARY):
            data, number = message, 2
        else:
            data, number = self._prepare(message, opcode)
            if number == 0:
                return self._send_fragment(data, 0, True)
        return self._send_message(data, number)

    def _send_message(self, data: bytes, number: int) -> SendStatus:
        if thread_ident() != self._app._owner:
            self._app._check_thread()
        conn = self._conn
        if not conn:
            return _DROPPED
        status: int = _send(conn, data, len(data), number)
        if status < 0:
            fail(status)
        return _STATUS[status]

    def _send_special(self, message: Any, opcode: Any, compress: Any, fin: Any) -> SendStatus:
        options.flag("compress", compress)
        options.flag("fin", fin)
        data, number = self._prepare(message, opcode)
        if number in (OpCode.PING, OpCode.PONG):
            if compress or not fin:
                raise ValueError("PING and PONG cannot be compressed or fragmented")
        elif not fin or number == 0:
            return self._send_fragment(data, number, fin, compress and number != 0)
        return self._send_message(data, number | _COMPRESS if compress else number)

    def _prepare(self, message: Any, opcode: Any) -> tuple[bytes, int]:
        """Payload and opcode of a message, both checked."""
        data, suited = pack(message)
        if opcode is None:
            return data, int(suited)
        number = options.opcode(opcode)
        if number in (OpCode.PING, OpCode.PONG):
            options.integer("length of a PING or PONG payload", len(data), 0, options.MAX_CONTROL)
        elif number == OpCode.TEXT and suited is _BINARY:
            check_text(data)
        return data, number

    def send_first_fragment(
        self, message: Any, opcode: int | None = None, compress: bool = False
    ) -> SendStatus:
        """Begin a message in pieces (RFC 6455 section 5.4); arguments as for `send`.

        Other messages to this socket wait until the last fragment. RuntimeError: one is open.
        """
        options.flag("compress", compress)
        data, suited = pack(message)
        number = suited if opcode is None else options.opcode(opcode)
        if number not in (OpCode.TEXT, OpCode.BINARY):
            raise ValueError("the opcode of a first fragment must be TEXT or BINARY")
        return self._send_fragment(data, number, False, compress)

    def send_fragment(self, message: Any) -> SendStatus:
        """Continue a message in pieces. RuntimeError: none is open."""
        return self._send_fragment(pack(message)[0], 0, False)

    def send_last_fragment(self, message: Any = b"") -> SendStatus:
        """End a message in pieces. RuntimeError: none is open."""
        return self._send_fragment(pack(message)[0], 0, True)

    def _send_fragment(
        self, data: bytes, opcode: int, fin: bool, compress: bool = False
    ) -> SendStatus:
        self._app._check_thread()
        decoder = self._check_fragment(data, opcode, fin)
        if not self._conn:
            return _DROPPED
        number = opcode | _COMPRESS if compress else opcode
        status: int = _send_fragment(self._conn, data, len(data), number, fin)
        if status < 0:
            fail(status)
        self._decoder = None if fin or (opcode and status == _DROPPED) else decoder
        return _STATUS[status]

    def _check_fragment(
        self, data: bytes, opcode: int, fin: bool
    ) -> codecs.IncrementalDecoder | None:
        """ValueError when a TEXT message's bytes so far are no UTF-8; a character may be split."""
        if opcode == OpCode.BINARY:
            return None
        decoder = codecs.getincrementaldecoder("utf-8")()
        if opcode == OpCode.CONTINUATION:
            if self._decoder is None:  # a binary message, or none: C tells
                return None
            decoder.setstate(self._decoder.getstate())
        try:
            decoder.decode(data, fin)
        except UnicodeDecodeError as error:
            raise ValueError(f"message is not valid UTF-8: {error}") from None
        return decoder

    def cork(self, fn: Callable[[WebSocket], Any]) -> None:
        """Run ``fn(ws)``; all that it sends leaves in one write. Handlers are corked already."""
        options.function("fn", fn)
        self._app._check_thread()
        conn = self._conn
        if not conn:
            mistakes.check_result("the function of cork", fn, fn(self))
            return
        lib.ws_conn_cork(conn)
        try:
            mistakes.check_result("the function of cork", fn, fn(self))
        finally:
            # Also when fn closed the socket: its memory lasts until the end of the turn, and the
            # Close frame must not stay corked.
            lib.ws_conn_uncork(conn)

    def cork_send(
        self,
        message: Any,
        opcode: int | None = None,
        compress: bool = False,
        fin: bool = True,
    ) -> SendStatus:
        """As `send`, corked."""
        statuses = []
        self.cork(lambda ws: statuses.append(ws.send(message, opcode, compress, fin)))
        return statuses[0]

    def cork_end(self, code: int = 1000, message: str = "") -> None:
        """As `end`, corked."""
        self.cork(lambda ws: ws.end(code, message))

    def ping(self, data: Any = b"") -> SendStatus:
        """Send a Ping with at most 125 bytes; the answer comes to the ``pong`` handler."""
        return self.send(data, OpCode.PING)

    def get_buffered_amount(self) -> int:
        """Bytes that wait because the kernel has refused some; 0 while it takes all.

        Messages held back between fragments count, corked bytes do not: ``while
        ws.get_buffered_amount() < bound: ws.send(...)`` goes on until the kernel refuses, and
        ``drain`` follows. Let neither the bound nor a message be above half of max_backpressure:
        nothing is dropped then. Once the client is gone all that is sent counts as refused.
        """
        self._app._check_thread()
        return lib.ws_conn_buffered_amount(self._conn) if self._conn else 0

    # ---- topics ---------------------------------------------------------------------------------

    def subscribe(self, topic: str) -> bool:
        """Take part in a topic; True when subscribed now, also when it was so before.

        False: closed, or max_topics topics already. TypeError, ValueError: no str, lone
        surrogates, longer than max_topic_length.
        """
        name = self._topic(topic)
        if not self._conn:
            return False
        result: int = lib.ws_conn_subscribe(self._conn, name, len(name))
        if result < 0 and result not in (ErrorCode.ECLOSED, ErrorCode.ELIMIT):
            fail(result)
        # The subscription handler may have ended it.
        return result >= 0 and self.is_subscribed(topic)

    def unsubscribe(self, topic: str) -> bool:
        """Leave a topic; False when not subscribed, or closed. TypeError, ValueError."""
        name = self._topic(topic)
        if not self._conn:
            return False
        result: int = lib.ws_conn_unsubscribe(self._conn, name, len(name))
        if result < 0 and result != ErrorCode.ECLOSED:
            fail(result)
        return result > 0

    def is_subscribed(self, topic: str) -> bool:
        """True when subscribed to the topic; False when closed. TypeError, ValueError."""
        name = self._topic(topic)
        return bool(self._conn and lib.ws_conn_is_subscribed(self._conn, name, len(name)))

    def _topic(self, topic: Any) -> bytes:
        self._app._check_thread()
        name = options.topic(topic)
        limit = self._route.behavior.max_topic_length
        if len(name) > limit:
            raise ValueError(f"topic has {len(name)} bytes, more than max_topic_length, {limit}")
        return name

    def get_topics(self) -> list[str]:
        """All topics of this socket, in no particular order; none when closed."""
        self._app._check_thread()
        return [name.decode() for name in topic_names(self._conn)] if self._conn else []

    def for_each_topic(self, fn: Callable[[str], Any]) -> None:
        """Call ``fn(topic)`` for each topic that there is now; it may subscribe and unsubscribe."""
        options.function("fn", fn)
        for topic in self.get_topics():
            mistakes.check_result("the function of for_each_topic", fn, fn(topic))

    def publish(
        self,
        topic: str,
        message: Any,
        opcode: int | None = None,
        compress: bool = False,
        exclude_self: bool = False,
    ) -> bool:
        """As `App.publish`, with exclude_self to all but this socket; False when closed."""
        name = options.topic(topic)
        data, number = pack_publication(message, opcode, compress)
        options.flag("exclude_self", exclude_self)
        self._app._check_thread()
        conn = self._conn
        if not conn:
            return False
        return bool(
            lib.ws_conn_publish(conn, name, len(name), data, len(data), number, exclude_self)
        )

    # ---- reading --------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading until `resume`: no events but close, and the client is slowed down by TCP.

        Meanwhile idle_timeout stands still. Nothing when closed. Messages of a client that resets
        the connection meanwhile wait for `resume`, and the close event comes after them; then
        idle_timeout ends the wait.
        """
        self._app._check_thread()
        self._pause(BY_USER)

    def resume(self) -> None:
        """Read again after `pause`."""
        self._app._check_thread()
        self._resume(BY_USER)
        if self._queue is not None:
            self._queue.start()

    def _pause(self, who: int) -> None:
        if self._conn and not self._paused:
            lib.ws_conn_pause(self._conn)
        self._paused |= who

    def _resume(self, who: int) -> None:
        if self._conn and self._paused == who:
            lib.ws_conn_resume(self._conn)
        self._paused &= ~who

    # ---- closing --------------------------------------------------------------------------------

    def end(self, code: int = 1000, message: str = "") -> None:
        """Close gracefully: a Close frame behind all queued data; the close handler runs now.

        A close handler that is a coroutine, waits for one, or would run inside 20 others, runs
        later.
        code: 1000-1003, 1007-1014, 3000-4999, else ValueError; 0 or 1005: a Close without a
        code. message: cut to 123 bytes on a character boundary. Does nothing when closed.
        """
        number, reason = options.close_arguments(code, message)
        self._app._check_thread()
        if self._conn:
            check_stack()
            lib.ws_conn_end(self._conn, number, reason, len(reason))

    def close(self) -> None:
        """Drop the connection; the close handler gets 1006, as for `end`. Nothing when closed."""
        self._app._check_thread()
        if self._conn:
            check_stack()
            lib.ws_conn_close(self._conn)

    terminate = close

    def wait_closed(self) -> Coroutine[Any, Any, CloseInfo]:
        """``info = await ws.wait_closed()``: wait until the closing handshake is over.

        At once when it is over already; the close handler may still be under way. For coroutines
        in the loop that the app runs in. RuntimeError: another thread.
        """
        self._app._check_thread()
        return self._wait_closed()

    async def _wait_closed(self) -> CloseInfo:
        if self._close_info is None or self._close_info.clean is None:
            import asyncio

            if self._over is None:
                self._over = asyncio.get_running_loop().create_future()
            return await asyncio.shield(self._over)
        return self._close_info

    # ---- facts ----------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        """Unique in this server, never used again."""
        return self._id

    @property
    def path(self) -> str:
        """Path of the opening handshake's URL."""
        return self._path

    @property
    def subprotocol(self) -> str | None:
        """The selected subprotocol, None without one."""
        return self._subprotocol

    @property
    def compression(self) -> str | None:
        """What was negotiated ("permessage-deflate; ..."), None without compression."""
        return self._compression

    @property
    def headers(self) -> dict[str, str] | None:
        """Header fields of the opening handshake with AppOptions(keep_headers=True), else None."""
        return self._headers

    def get_user_data(self) -> Any:
        """The object given to ``res.upgrade``, or set since; None after the close handler."""
        if thread_ident() != self._app._owner:
            self._app._check_thread()
        return self._user_data

    @property
    def user_data(self) -> Any:
        """As `get_user_data`; may be assigned."""
        return self.get_user_data()

    @user_data.setter
    def user_data(self, value: Any) -> None:
        self._app._check_thread()
        if self._conn:
            self._user_data = value

    def _peer(self) -> tuple[bytes, int]:
        if self._remote is None and self._conn:
            self._keep_peer(self._conn)
        return self._remote or (b"", 0)

    def _keep_peer(self, conn: int) -> None:
        if self._remote is None:
            self._remote = (address_bytes(conn), lib.ws_conn_remote_port(conn))

    def get_remote_address(self) -> str:
        """The peer's IP address as text; "" for a Unix socket."""
        return address_text(self.get_remote_address_bytes())

    def get_remote_address_bytes(self) -> bytes:
        """The peer's IP address in network order: 4 or 16 bytes, none for a Unix socket."""
        self._app._check_thread()
        return self._peer()[0]

    @property
    def remote_port(self) -> int:
        """The peer's TCP port; 0 for a Unix socket."""
        self._app._check_thread()
        return self._peer()[1]

    @property
    def latency(self) -> float | None:
        """Seconds from the last answered Ping of this side to its Pong; None without one."""
        self._app._check_thread()
        microseconds = lib.ws_conn_latency(self._conn) if self._conn else self._latency
        return microseconds / 1_000_000 if microseconds else None

    # ---- for events -----------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        """Of this socket, for the log."""
        packed, port = self._peer()
        peer = peer_name(address_text(packed), port)
        return {"route": self._route.pattern, "socket": self.id, "peer": peer}

    def _end_here(self, conn: int, code: int, reason: str, by_peer: bool) -> None:
        """The close event: never touch C again, keep what may be asked for."""
        self._conn = 0  # first: what follows may be interrupted
        self._keep_peer(conn)
        self._latency = lib.ws_conn_latency(conn)
        self._close_event = (code, reason)
        self._close_info = CloseInfo(code, reason, not by_peer)

    def _closing_is_over(self, clean: bool, code: int, reason: str) -> None:
        """No more will come from the client."""
        info = self._close_info
        assert info is not None
        info.clean = clean
        if clean:
            info.received = CloseFrame(_frame_code(code), reason)
        if self._over is not None and not self._over.done():
            self._over.set_result(info)


if lib.bridge:
    shorten(WebSocket, "send", "_send")
