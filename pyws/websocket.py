# SPDX-License-Identifier: MIT
"""One WebSocket connection, as handlers see it."""

from __future__ import annotations

import codecs
from typing import TYPE_CHECKING, Any, Callable, Dict, Generic, List, Optional, Tuple, Union

from ._core import foreign, mistakes, values
from ._core.bridge import Documented, install_fast_path
from ._core.calls import address_text, thread_ident, topic_names
from ._core.close_info import CloseFrame, CloseInfo
from ._core.connections import tls_of
from ._core.encryption import TlsInfo
from ._core.facts import headers_of
from ._core.fields import path_parameters
from ._core.hints import AnyOpCode, Message, UserData
from ._core.messages import COMPRESS, check_text, pack, pack_publication
from ._core.sockets import BY_USER, check_stack
from ._core.waiting import WaitingSocket
from ._native import fail, lib
from .enums import OpCode, SendStatus
from .errors import ErrorCode
from .http import Parameters, Query, Request

if TYPE_CHECKING:  # app.py sets it, for typing.get_type_hints
    from .app import App

__all__ = ["CloseFrame", "CloseInfo", "TlsInfo", "WebSocket"]

_TEXT, _BINARY = OpCode.TEXT, OpCode.BINARY
_DROPPED = SendStatus.DROPPED
_STATUS = (SendStatus.BACKPRESSURE, SendStatus.SUCCESS, SendStatus.DROPPED)

_MISSING: Any = values.LeftOut()  # an argument that was left out

_send = lib.ws_conn_send
_send_fragment = lib.ws_conn_send_fragment


@foreign.explained(foreign.NOT_IN_WEBSOCKET)
class WebSocket(WaitingSocket, Generic[UserData], metaclass=Documented):
    """One connection: the same object in every handler, hashable, usable as a dict key.

    For type checkers it is generic: ``WebSocket[User]`` has a User as its user data, and
    ``WebSocket`` any object.

    Every method stays safe after the connection has closed. All of them belong to the thread of
    ``app.run()``; in another thread they raise RuntimeError.
    """

    __slots__ = ()

    _new_request = Request
    __reduce_ex__ = values.no_copy

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._id} {self._get_path()}{'' if self else ' closed'}>"

    def __bool__(self) -> bool:
        """True while the connection is open."""
        return self._conn != 0

    @property
    def app(self) -> App:
        """The App that the socket belongs to. Raises RuntimeError after it was freed."""
        app: App = self._runtime.app
        return app

    @property
    def closed(self) -> bool:
        """True from the beginning of the close handler on, or earlier if that has to wait."""
        return self._conn == 0

    @property
    def close_info(self) -> Optional[CloseInfo]:
        """How the connection ended: ``sent``, ``received``, ``clean``, ``local``.

        None until the close handler begins. When this side began, `received` and `clean` are
        filled in once the client has answered, or close_timeout is over.
        """
        return self._get_close_info()

    # ---- sending --------------------------------------------------------------------------------

    def send(
        self,
        message: Message,
        opcode: Optional[AnyOpCode] = None,
        compress: bool = False,
        fin: bool = True,
    ) -> SendStatus:
        """Send one message, or with ``fin=False`` the first fragment of one.

        Args:
            message: str, bytes, bytearray or memoryview; dict, list, tuple, int, float and bool are
                sent as JSON.
            opcode: An OpCode; None means BINARY for bytes-like objects, and TEXT for all others.
            compress: Send it compressed, if that was negotiated and makes it smaller (RFC 7692).
            fin: False begins a message in fragments, as `send_first_fragment` does.

        Returns:
            What became of the message; DROPPED when the connection is closed.

        Raises:
            TypeError: An argument is of a wrong type. Nothing was sent.
            ValueError: An argument is out of range, or TEXT is not UTF-8. Nothing was sent.
            RuntimeError: Called from another thread.
        """
        kind = type(message)
        if fin is not True or compress is not False:
            return self._send_special(message, opcode, compress, fin)
        if kind is str and (opcode is None or opcode is _TEXT):
            try:
                data, code = message.encode(), 1  # type: ignore[union-attr]
            except UnicodeEncodeError:
                data, code = pack(message, self._runtime.json)
        elif kind is bytes and (opcode is None or opcode is _BINARY):
            data, code = message, 2
        else:
            data, code = self._prepare(message, opcode)
            if code == 0:
                return self._send_fragment(data, 0, True)
        return self._send_message(data, code)

    def _send_message(self, data: bytes, code: int) -> SendStatus:
        if thread_ident() != self._runtime.owner:
            self._runtime.check_thread()
        conn = self._conn
        if not conn:
            return _DROPPED
        status: int = _send(conn, data, len(data), code)
        if status < 0:
            fail(status)
        return _STATUS[status]

    def _send_special(self, message: Any, opcode: Any, compress: Any, fin: Any) -> SendStatus:
        values.flag("compress", compress)
        values.flag("fin", fin)
        data, code = self._prepare(message, opcode)
        if code in (OpCode.PING, OpCode.PONG):
            if compress or not fin:
                what = "compressed" if compress else "fragmented"
                raise ValueError(f"{OpCode(code).name} cannot be {what}")
        elif not fin or code == 0:
            return self._send_fragment(data, code, fin, compress and code != 0)
        return self._send_message(data, code | COMPRESS if compress else code)

    def _prepare(self, message: Any, opcode: Any) -> Tuple[bytes, int]:
        """Payload and opcode of a message, both checked."""
        data, suited = pack(message, self._runtime.json)
        if opcode is None:
            return data, int(suited)
        code = values.opcode(opcode)
        if code in (OpCode.PING, OpCode.PONG):
            values.integer("length of a PING or PONG payload", len(data), 0, values.MAX_CONTROL)
        elif code == OpCode.TEXT and suited is _BINARY:
            check_text(data)
        return data, code

    def send_json(self, value: Any, compress: bool = False) -> SendStatus:
        """Send any value as one message of JSON, also a str or None.

        Args:
            value: What the json module can write, or AppOptions(json_dumps=...).
            compress: As for `send`.

        Returns:
            What became of the message, as `send` does.

        Raises:
            TypeError, ValueError: JSON cannot express it, NaN for one. Nothing was sent.
            RuntimeError: Called from another thread.
        """
        values.flag("compress", compress)
        data = self._runtime.json.dumps(value)
        return self._send_message(data, OpCode.TEXT | COMPRESS if compress else OpCode.TEXT)

    def send_first_fragment(
        self, message: Message, opcode: Optional[AnyOpCode] = None, compress: bool = False
    ) -> SendStatus:
        """Begin a message in fragments (RFC 6455 section 5.4).

        Other messages to this socket wait until the last fragment.

        Args:
            message, opcode, compress: As for `send`; TEXT and BINARY only.

        Returns:
            What became of the fragment, as `send` does.

        Raises:
            RuntimeError: A message in fragments has begun already, or called from another thread.
            TypeError, ValueError: As for `send`.
        """
        values.flag("compress", compress)
        data, suited = pack(message, self._runtime.json)
        code = suited if opcode is None else values.opcode(opcode)
        if code not in (OpCode.TEXT, OpCode.BINARY):
            raise ValueError(
                "opcode must be OpCode.TEXT or OpCode.BINARY for a first fragment, "
                f"not {OpCode(code).name}"
            )
        return self._send_fragment(data, code, False, compress)

    def send_fragment(self, message: Message, compress: bool = False) -> SendStatus:
        """Continue a message in fragments.

        Args:
            message: As for `send`.
            compress: Ignored: `send_first_fragment` decides it for the whole message (RFC 7692
                section 6.1).

        Returns:
            What became of the fragment, as `send` does.

        Raises:
            RuntimeError: No message in fragments has begun, or called from another thread.
            TypeError, ValueError: As for `send`.
        """
        return self._send_fragment(pack(message, self._runtime.json)[0], 0, False)

    def send_last_fragment(self, message: Message = b"", compress: bool = False) -> SendStatus:
        """End a message in fragments; arguments, result and errors as for `send_fragment`."""
        return self._send_fragment(pack(message, self._runtime.json)[0], 0, True)

    def _send_fragment(
        self, data: bytes, opcode: int, fin: bool, compress: bool = False
    ) -> SendStatus:
        self._runtime.check_thread()
        decoder = self._check_fragment(data, opcode, fin)
        if not self._conn:
            return _DROPPED
        code = opcode | COMPRESS if compress else opcode
        status: int = _send_fragment(self._conn, data, len(data), code, fin)
        if status < 0:
            fail(status)
        self._decoder = None if fin or (opcode and status == _DROPPED) else decoder
        return _STATUS[status]

    def _check_fragment(
        self, data: bytes, opcode: int, fin: bool
    ) -> Optional[codecs.IncrementalDecoder]:
        """Raise ValueError if a TEXT message so far is not UTF-8; a character may be split."""
        if opcode == OpCode.BINARY:
            return None
        decoder = codecs.getincrementaldecoder("utf-8")()
        if opcode == OpCode.CONTINUATION:
            if self._decoder is None:  # a binary message, or none, which C reports
                return None
            decoder.setstate(self._decoder.getstate())
        try:
            decoder.decode(data, fin)
        except UnicodeDecodeError as error:
            raise ValueError(f"message is not valid UTF-8: {error}") from None
        return decoder

    def cork(self, fn: Callable[[WebSocket[UserData]], object]) -> None:
        """Run ``fn(ws)``; everything that it sends leaves in one write.

        Handlers are corked already.

        Args:
            fn: A plain function; its exceptions propagate.

        Raises:
            TypeError: `fn` is not a plain function, or returned a coroutine.
            RuntimeError: Called from another thread.
        """
        values.function("fn", fn)
        self._runtime.check_thread()
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
        message: Message,
        opcode: Optional[AnyOpCode] = None,
        compress: bool = False,
        fin: bool = True,
    ) -> SendStatus:
        """Send one message as `send` does, corked; arguments, result and errors as for `send`."""
        statuses = []
        self.cork(lambda ws: statuses.append(ws.send(message, opcode, compress, fin)))
        return statuses[0]

    def cork_end(
        self,
        code: int = 1000,
        reason: Union[str, bytes] = "",
        *,
        message: Union[str, bytes] = _MISSING,
    ) -> None:
        """Close as `end` does, corked; arguments and errors as for `end`."""
        self.cork(lambda ws: ws.end(code, reason, message=message))

    def ping(self, data: Union[str, bytes, bytearray, memoryview] = b"") -> SendStatus:
        """Send a Ping; the answer comes to the ``pong`` handler.

        Args:
            data: At most 125 bytes, as str or bytes-like (RFC 6455 section 5.5).

        Returns:
            What became of it, as `send` does.

        Raises:
            TypeError, ValueError, RuntimeError: As for `send`.
        """
        return self.send(data, OpCode.PING)

    def get_buffered_amount(self) -> int:
        """The number of bytes that wait because the kernel has refused some; 0 while it takes all.

        Messages that wait for the last fragment of another one count, corked bytes do not. So
        ``while ws.get_buffered_amount() < bound: ws.send(...)`` continues until the kernel refuses
        bytes, and ``drain`` follows. Nothing is dropped if neither the bound nor a message exceeds
        half of max_backpressure. Once the client is gone, everything that is sent counts as
        refused.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        return lib.ws_conn_buffered_amount(self._conn) if self._conn else 0

    # ---- topics ---------------------------------------------------------------------------------

    def subscribe(self, topic: Union[str, bytes]) -> bool:
        """Subscribe to a topic.

        If the topic has history, and the client has said which message of it was its last one, it
        is sent what it has missed, and then the subscription begins: see docs/history.md.

        Args:
            topic: Any str of at most max_topic_length bytes in UTF-8, or these bytes.

        Returns:
            True if the socket is subscribed now, even if it was before, or will be once it has what
            it has missed; False if it is closed, or has max_topics topics already.

        Raises:
            TypeError: `topic` is neither str nor bytes.
            ValueError: It is too long, or not UTF-8.
            RuntimeError: Called from another thread.
        """
        name = self._topic(topic)
        if not self._conn:
            return False
        reader = None if self._waits is None else self._waits.reader
        begins_later = None if reader is None else reader.subscribe(name)
        if begins_later is not None:
            return begins_later
        result: int = lib.ws_conn_subscribe(self._conn, name, len(name))
        if result < 0 and result not in (ErrorCode.ECLOSED, ErrorCode.ELIMIT):
            fail(result)
        # The subscription handler may have ended it.
        is_subscribed = result >= 0 and self.is_subscribed(topic)
        if reader is not None and result > 0 and is_subscribed:
            reader.subscribed(name)
        return is_subscribed

    def unsubscribe(self, topic: Union[str, bytes]) -> bool:
        """Unsubscribe from a topic; arguments and errors as for `subscribe`.

        Returns:
            False if the socket was not subscribed, or is closed.
        """
        name = self._topic(topic)
        if not self._conn:
            return False
        reader = None if self._waits is None else self._waits.reader
        if reader is not None and reader.cancel(name):
            return True
        result: int = lib.ws_conn_unsubscribe(self._conn, name, len(name))
        if result < 0 and result != ErrorCode.ECLOSED:
            fail(result)
        return result > 0

    def is_subscribed(self, topic: Union[str, bytes]) -> bool:
        """Whether the socket is open and subscribed to the topic; errors as for `subscribe`."""
        name = self._topic(topic)
        return bool(self._conn and lib.ws_conn_is_subscribed(self._conn, name, len(name)))

    def _topic(self, topic: Any) -> bytes:
        self._runtime.check_thread()
        name = values.topic(topic)
        limit = self._route.behavior.max_topic_length
        if len(name) > limit:
            raise ValueError(f"topic has {len(name)} bytes, more than max_topic_length, {limit}")
        return name

    def get_topics(self) -> List[str]:
        """All topics of this socket, in no particular order; none when it is closed.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        return [name.decode() for name in topic_names(self._conn)] if self._conn else []

    def for_each_topic(self, fn: Callable[[str], object]) -> None:
        """Call ``fn(topic)`` for each topic of this socket.

        Args:
            fn: A plain function, which may subscribe and unsubscribe; its exceptions propagate.

        Raises:
            TypeError: `fn` is not a plain function, or returned a coroutine.
            RuntimeError: Called from another thread.
        """
        values.function("fn", fn)
        for topic in self.get_topics():
            mistakes.check_result("the function of for_each_topic", fn, fn(topic))

    def publish(
        self,
        topic: Union[str, bytes],
        message: Message,
        opcode: Optional[AnyOpCode] = None,
        compress: bool = False,
        exclude_self: bool = False,
    ) -> bool:
        """Send one message to every subscriber of `topic`.

        Args:
            topic, message, opcode, compress: As for `App.publish`.
            exclude_self: Leave out this socket, but not if the topic has history.

        Returns:
            True if at least one subscriber on this machine gets it; False if none does, or this
            socket is closed.

        Raises:
            TypeError, ValueError, RuntimeError: As for `App.publish`.
        """
        name = values.topic(topic)
        data, code = pack_publication(message, opcode, compress, self._runtime.json)
        values.flag("exclude_self", exclude_self)
        self._runtime.check_thread()
        conn = self._conn
        if not conn:
            return False
        return bool(lib.ws_conn_publish(conn, name, len(name), data, len(data), code, exclude_self))

    # ---- reading --------------------------------------------------------------------------------

    def pause(self) -> None:
        """Stop reading until `resume`: no event but close comes, and TCP slows the client down.

        Meanwhile idle_timeout does not run. If the client resets the connection meanwhile, its
        messages wait for `resume`, and the close event comes after them; idle_timeout runs then,
        and ends the wait. Does nothing when closed.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        self._set_paused(self._paused | BY_USER)

    def resume(self) -> None:
        """Read again after `pause`. Raises RuntimeError in another thread."""
        self._runtime.check_thread()
        self._set_paused(self._paused & ~BY_USER)
        if self._queue is not None:
            self._queue.resume()

    # ---- closing --------------------------------------------------------------------------------

    def end(
        self,
        code: int = 1000,
        reason: Union[str, bytes] = "",
        *,
        message: Union[str, bytes] = _MISSING,
    ) -> None:
        """Close gracefully: a Close frame after all queued data; the close handler runs now.

        It runs later if it is a coroutine, has to wait for one, or would run inside 20 others. Does
        nothing when closed.

        Args:
            code: 1000-1003, 1007-1014 or 3000-4999 (RFC 6455 section 7.4); 0 and 1005 send a Close
                frame without a code.
            reason: The reason, cut to 123 bytes on a character boundary.
            message: Another name of `reason`.

        Raises:
            TypeError, ValueError: The code or the reason is wrong. Nothing was sent.
            RuntimeError: Called from another thread.
        """
        if message is not _MISSING:
            if reason != "":
                raise TypeError("end() takes reason or message, which are the same, but not both")
            reason = message
        status, data = values.close_arguments(code, reason)
        self._runtime.check_thread()
        self._end(status, data)

    @mistakes.explain_calls("it drops the connection; end(code, reason) sends a Close frame")
    def close(self) -> None:
        """Drop the connection without a Close frame; `end` closes gracefully.

        The close handler gets 1006, now or later as for `end`. Does nothing when closed.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        if self._conn:
            check_stack()
            lib.ws_conn_close(self._conn)

    terminate = close

    # ---- facts ----------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        """A number that no other connection of this server ever has."""
        return self._id

    @property
    def path(self) -> str:
        """The path of the opening handshake, as it was sent, without the query."""
        return self._get_path()

    @property
    def parameters(self) -> Parameters:
        """What matched each ":name" or "*" of the pattern, percent-decoded.

        For the pattern "/chat/:room", ``ws.parameters["room"]`` and ``ws.parameters[0]``.
        """
        return path_parameters(self._route.pattern, self._get_path())

    @property
    def query(self) -> Query:
        """The query of the URL, percent-decoded: ``ws.query.get("token")``, None without it."""
        return Query(self._target.partition("?")[2])

    @property
    def request(self) -> Request:
        """The opening handshake, with its header fields and cookies.

        It is there while `upgrade` and `open` run. In a coroutine `open` handler, and in a session,
        it stays until the end if it was read before the first await. If the route says
        ``keep_request=True`` it is always there.

        Raises:
            RuntimeError: The handshake is over and was not kept, or called from another thread.
        """
        self._runtime.check_thread()
        return self._get_request()  # type: ignore[return-value]

    @property
    def subprotocol(self) -> Optional[str]:
        """The selected subprotocol (RFC 6455 section 1.9); None without one."""
        return self._subprotocol

    @property
    def compression(self) -> Optional[str]:
        """What was negotiated ("permessage-deflate; ..."); None without compression."""
        return self._compression

    @property
    def headers(self) -> Dict[str, str]:
        """The header fields of the opening handshake, by lower-case name.

        They are there for as long as `request`.

        Raises:
            RuntimeError: As for `request`.
        """
        self._runtime.check_thread()
        return headers_of(self._get_request())

    def get_user_data(self) -> UserData:
        """The object given to ``res.upgrade``, or assigned since.

        None once the close handler, and the session if there is one, have ended.

        Raises:
            RuntimeError: Called from another thread.
        """
        if thread_ident() != self._runtime.owner:
            self._runtime.check_thread()
        return self._user_data  # type: ignore[no-any-return]

    @property
    def user_data(self) -> UserData:
        """The same as `get_user_data`; may be assigned. Raises RuntimeError in another thread."""
        return self.get_user_data()

    @user_data.setter
    def user_data(self, value: UserData) -> None:
        self._runtime.check_thread()
        if self:
            self._user_data = value

    def get_remote_address(self) -> str:
        """The IP address of the client as text; "" for a Unix socket.

        Behind a proxy of ``App(trusted_proxies=[...])`` it is the address that the proxy tells.

        Raises:
            RuntimeError: Called from another thread.
        """
        return address_text(self.get_remote_address_bytes())

    def get_remote_address_bytes(self) -> bytes:
        """The IP address of the client in network order: 4 or 16 bytes, 0 for a Unix socket.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        return self._peer()[0]

    @property
    def remote_port(self) -> int:
        """The TCP port of the client; 0 for a Unix socket, or if a trusted proxy does not tell it.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        return self._peer()[1]

    @property
    def scheme(self) -> str:
        """The scheme of the URL: "ws", or with TLS "wss".

        Behind a proxy of ``App(trusted_proxies=[...])`` it is what the proxy says.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        return "wss" if self._peer()[2] else "ws"

    @property
    def tls(self) -> Optional[TlsInfo]:
        """What is known of the TLS connection: version, names, the certificate of the client.

        None without TLS; TLS that ends at a proxy does not count. Once the socket has closed, it is
        there only if it was read before.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        return tls_of(self)

    @property
    def latency(self) -> Optional[float]:
        """Seconds from the last Ping of this side that was answered to its Pong; None without.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        microseconds = lib.ws_conn_latency(self._conn) if self._conn else self._latency
        return microseconds / 1_000_000 if microseconds else None


# Where programs import them from.
CloseFrame.__module__ = CloseInfo.__module__ = TlsInfo.__module__ = __name__

if lib.bridge:
    install_fast_path(WebSocket, "send", "_send")
    install_fast_path(WebSocket, "publish", "_publish")
