# SPDX-License-Identifier: MIT
"""HTTP requests and responses, plain ones and opening handshakes."""

from __future__ import annotations

import re
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Dict,
    Iterable,
    List,
    Mapping,
    Optional,
    Tuple,
    Union,
)

from ._core import cookies, foreign, mistakes, values
from ._core.bridge import Documented
from ._core.calls import address_bytes, short_text
from ._core.encryption import TlsInfo
from ._core.events import EventStream
from ._core.facts import COOKIE, headers_of, user_data_of
from ._core.fields import Latin1, Parameters, Query, list_elements, path_parameters
from ._core.forms import Form, UploadFile
from ._core.hints import CookieOptionsDict, HeaderValue, Message, Unpack
from ._core.messages import pack
from ._core.reading import BodyOfRequest, DataOfResponse
from ._core.served import Files
from ._core.writing import PartsOfResponse
from ._native import lib
from .enums import OpCode

if TYPE_CHECKING:  # it takes long to import
    from .app import App  # app.py sets it, for typing.get_type_hints

__all__ = ["EventStream", "Form", "Parameters", "Query", "Request", "Response", "UploadFile"]

# Written by the library itself; a second one would contradict it.
_RESERVED = ("content-length", "connection", "date", "upgrade", "transfer-encoding")
_JSON, _PLAIN = "application/json", "text/plain; charset=utf-8"
_REDIRECTS = "301, 302, 303, 307 or 308"
_CONTROL = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_STATUS_LINE = re.compile(r"([2-5]\d\d)(?: ([\t -~]*))?\Z")

# ---- request ------------------------------------------------------------------------------------


@foreign.explained(foreign.NOT_IN_REQUEST)
class Request(BodyOfRequest, metaclass=foreign.Explained):
    """What the client asked for.

    It may be read during its handler; in a coroutine handler, and after ``res.on_aborted(...)``,
    until the response is given. Afterwards every method raises RuntimeError, unless `preserve` was
    called in time. Until then it belongs to the thread of ``app.run()``.
    """

    __slots__ = ()
    __reduce_ex__ = values.no_copy

    @property
    def app(self) -> App:
        """The App that serves the request. Raises RuntimeError after it was freed."""
        app: App = self._runtime.app
        return app

    def preserve(self) -> Request:
        """Copy everything now, so that the request may be read at any later time.

        Returns:
            The request itself.

        Raises:
            RuntimeError: The request is over already, or called from another thread.
        """
        self._preserve()
        return self

    @property
    def user_data(self) -> Any:
        """What the program keeps with the request; None until it is set.

        A `before` function of a router sets it, and the handler reads it. In a handshake it becomes
        the user data of the WebSocket, unless ``res.upgrade`` is given other data.
        """
        return self._user_data

    @user_data.setter
    def user_data(self, value: Any) -> None:
        self._user_data = value

    def get_method(self) -> str:
        """The method as sent: "GET"."""
        return str(self._get("method"))

    @property
    def scheme(self) -> str:
        """The scheme of the URL: "http" or "ws", or with TLS "https" or "wss".

        Behind a proxy of ``App(trusted_proxies=[...])`` it is what the proxy says.
        """
        return str(self._get("scheme"))

    @property
    def tls(self) -> Optional[TlsInfo]:
        """What is known of the TLS connection, as `WebSocket.tls`; None without TLS."""
        info: Optional[TlsInfo] = self._get("tls")
        return info

    def get_url(self) -> str:
        """The path as sent, without the query: "/chat/blue%20room"."""
        return str(self._get("path"))

    def get_full_url(self) -> str:
        """The target as sent, with the query."""
        return str(self._get("target"))

    def get_header(self, lower_case_name: Union[str, bytes]) -> Optional[str]:
        """The value of a header field; None without it.

        Repeated fields are joined by ", " (RFC 9110 section 5.3), cookies by "; ". Values are
        decoded as UTF-8, or as ISO-8859-1 if they are not valid UTF-8.

        Args:
            lower_case_name: The name as str or bytes; upper case is accepted, too.

        Raises:
            TypeError, ValueError: The name is not a str, nor bytes in UTF-8.
        """
        name = values.text("the name of a header", lower_case_name)
        return self.get_headers().get(name.lower())

    def get_headers(self) -> Dict[str, str]:
        """All header fields by lower-case name, decoded and joined as by `get_header`."""
        return self._get_headers()

    def for_each_header(self, fn: Callable[[str, str], object]) -> None:
        """Call ``fn(lower_case_name, value)`` for each header field, in the order received.

        Args:
            fn: A plain function; its exceptions propagate.

        Raises:
            TypeError: `fn` is not a plain function, or returned a coroutine.
        """
        values.function("fn", fn)
        for name, value in self._get("headers"):
            mistakes.check_result("the function of for_each_header", fn, fn(name, value))

    def get_query(self, key: str) -> Optional[str]:
        """The first value of a key of the query, percent-decoded; None without it.

        Args:
            key: Its name, decoded; case matters.
        """
        return self.query.get(key)

    def get_queries(self) -> Dict[str, List[str]]:
        """All keys of the query with all their values, percent-decoded.

        Bytes that are not UTF-8 become U+FFFD.
        """
        query = self.query
        return {key: query.get_all(key) for key in query}

    @property
    def query(self) -> Query:
        """The query: ``req.query["token"]``, ``req.query.get("token")``, ``req.query.get_all()``.

        Raises:
            RuntimeError: The request is over.
        """
        return Query(self._get("query"))

    def get_parameter(self, which: Union[int, str]) -> Optional[str]:
        """What matched a part of the pattern, percent-decoded; None if there is no such part.

        Args:
            which: The name of a ":name", or the index of a ":name" or "*", from 0.

        Raises:
            TypeError, ValueError: It is neither a name nor an index.
        """
        if not isinstance(which, str):
            which = values.integer("index of a parameter", which, 0, values.MAX_COUNT)
        found: Optional[str] = self.parameters.get(which)
        return found

    def get_parameters(self) -> List[str]:
        """What matched each ":name" or "*" of the pattern, percent-decoded.

        Bytes that are not UTF-8 become U+FFFD.
        """
        return list(self.parameters.values())

    @property
    def parameters(self) -> Parameters:
        """What matched each ":name" or "*": ``req.parameters["room"]``, ``req.parameters[0]``.

        Raises:
            RuntimeError: The request is over.
        """
        return path_parameters(self._get("pattern"), self._get("path"))

    def get_cookie(self, name: str) -> Optional[str]:
        """The value of a cookie; None without it.

        Args:
            name: Its name; case matters.
        """
        return self.get_cookies().get(name)

    def get_cookies(self) -> Dict[str, str]:
        """All cookies by name (RFC 6265 section 5.4); the first one of a name counts.

        They are decoded as by `get_header`, all together, and not percent-decoded.
        """
        return cookies.received(self.get_header(COOKIE) or "")


# ---- response -----------------------------------------------------------------------------------


_REQUESTED: Any = values.LeftOut()  # an argument of `upgrade` that was left out


@foreign.explained(foreign.NOT_IN_RESPONSE)
class Response(PartsOfResponse, DataOfResponse, Files, metaclass=Documented):
    """The answer to one request, given once: by `end`, `send`, `redirect` or `upgrade`.

    It may be given in parts, by `write`, `stream` or `events`.

    A handler that wants to answer later is a coroutine, or calls `on_aborted` or `on_data` before
    it returns.
    All methods belong to the thread of ``app.run()``; in another thread they raise RuntimeError.
    """

    __slots__ = ()

    __reduce_ex__ = values.no_copy

    @property
    def app(self) -> App:
        """The App that serves the request. Raises RuntimeError after it was freed."""
        app: App = self._runtime.app
        return app

    @property
    def request(self) -> Request:
        """What the client asked for."""
        return self._request  # type: ignore[return-value]

    @property
    def aborted(self) -> bool:
        """Whether the client has left, or the time for the answer (upgrade_timeout) is over."""
        return self._aborted

    @property
    def has_responded(self) -> bool:
        """Whether the answer was given, or the connection dropped."""
        return self._is_answered()

    def get_remote_address(self) -> str:
        """The IP address of the client as text; "" for a Unix socket.

        Behind a proxy of ``App(trusted_proxies=[...])`` it is the address that the proxy tells.
        """
        self._runtime.check_thread()
        if self._remote is None:
            self._remote = short_text(lib.ws_request_remote_address, self._ptr) if self._ptr else ""
        return self._remote

    def get_remote_address_bytes(self) -> bytes:
        """The IP address of the client in network order: 4 or 16 bytes, 0 for a Unix socket."""
        return address_bytes(self.get_remote_address())

    # ---- head -----------------------------------------------------------------------------------

    def write_status(self, status: Union[int, str, bytes]) -> Response:
        """Set the status, which is 200 otherwise.

        Args:
            status: 200 to 599 as an int, or as text with a reason phrase: "404 Not Found".

        Returns:
            The response itself.

        Raises:
            RuntimeError: The request is answered already, or the head was sent with a part, or this
                was called from another thread.
            TypeError, ValueError: The status is wrong. Nothing was changed.
        """
        self._check_head()
        if isinstance(status, bytes):
            status = values.text("status", status)
        if isinstance(status, str):
            match = _STATUS_LINE.match(status)
            if not match:
                hint = " (a media type is passed as content_type=...)" if "/" in status else ""
                raise ValueError(
                    'status must be 200 to 599 and may have a phrase, like "404 Not Found", '
                    f"not {status!r}{hint}"
                )
            self._status = int(match[1])
            self._reason = match[2].encode() if match[2] else None
        else:
            self._status = values.integer("status", status, 200, 599)
            self._reason = None
        return self

    def write_header(self, name: Union[str, bytes], value: HeaderValue) -> Response:
        """Add a header field, also to the answer to a handshake.

        Args:
            name: A token (RFC 9110 section 5.6.2) that pyws does not write itself.
            value: A str is sent in UTF-8, unless it is the value of a request in ISO-8859-1, which
                is sent as it was received. Control characters other than tabs are refused.

        Returns:
            The response itself.

        Raises:
            RuntimeError: The request is answered already, or the head was sent with a part, or this
                was called from another thread.
            TypeError, ValueError: The name or the value is wrong. Nothing was added.
        """
        self._check_head()
        name = values.text("the name of a header", name)
        if not values.is_token(name):
            raise ValueError(f"the name of a header must be a token (RFC 9110 5.6.2), not {name!r}")
        if name.lower() in _RESERVED or name.lower().startswith("sec-websocket-"):
            hint = ", see content_length()" if name.lower() == "content-length" else ""
            raise ValueError(f"the header {name} is written by pyws itself{hint}")
        data = self._header_value(name, value)
        self._add_header(name.encode(), data)
        return self

    @staticmethod
    def _header_value(name: str, value: Any) -> bytes:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, Latin1):
            value = value.encode("latin-1")
        elif isinstance(value, str):
            value = values.encode("value of the header " + name, value)
        if not isinstance(value, bytes):
            raise TypeError(
                f"the value of the header {name} must be str, bytes or int, "
                f"not {values.type_name(value)}"
            )
        if _CONTROL.search(value):
            raise ValueError(
                f"the value of the header {name} must not contain control characters other than "
                f"tabs (RFC 9110 5.5): {value!r}"
            )
        return value

    def set_cookie(
        self,
        name: str,
        value: str,
        options_: Optional[CookieOptionsDict] = None,
        **more: Unpack[CookieOptionsDict],
    ) -> Response:
        """Add a Set-Cookie field (RFC 6265 section 4.1).

        Args:
            name: A token.
            value: Printable ASCII without space, quote, comma, semicolon and backslash. Other text
                has to be encoded, as by urllib.parse.quote.
            options_: Attributes as a dict: path, domain, max_age (seconds), expires (datetime, or
                text), secure, http_only, same_site ("Strict", "Lax" or "None"). None leaves an
                attribute out.
            more: Attributes as keywords, which win.

        Returns:
            The response itself.

        Raises:
            TypeError, ValueError: An argument is wrong, or browsers would ignore the cookie, as one
                with ``same_site="None"`` that is not secure. Nothing was added.
        """
        self._runtime.check_thread()
        line = cookies.set_cookie(name, value, {**(options_ or {}), **more})
        return self.write_header("Set-Cookie", line)

    # ---- answers --------------------------------------------------------------------------------

    def end(self, body: Message = b"", end_connection: bool = False) -> Response:
        """Answer with `body`. Nothing happens if the client has left.

        After `write`, it sends the last part of the answer.

        Args:
            body: str or bytes-like; dict, list, tuple and numbers are sent as JSON.
            end_connection: Close the connection after the answer.

        Returns:
            The response itself.

        Raises:
            RuntimeError: The request is answered already, or called from another thread.
            TypeError, ValueError: The body cannot be sent. Nothing was changed.
        """
        self._runtime.check_thread()
        data, opcode = pack(body, self._runtime.json)
        is_json = opcode is OpCode.TEXT and not isinstance(body, str)
        self._last = values.flag("end_connection", end_connection)
        self._answer(data, _JSON if is_json else None)
        return self

    def cork_end(self, body: Message = b"", end_connection: bool = False) -> Response:
        """The same as `end`: an answer always leaves in one write."""
        return self.end(body, end_connection)

    def send(
        self,
        body: Message,
        status: Union[int, str, bytes] = 200,
        headers: Union[
            Mapping[str, HeaderValue],
            Mapping[bytes, HeaderValue],
            Iterable[Tuple[Union[str, bytes], HeaderValue]],
            None,
        ] = None,
        *,
        content_type: Union[str, bytes, None] = None,
        end_connection: bool = False,
    ) -> Response:
        """Answer with `body`, `status` and further header fields.

        Args:
            body: As for `end`; the Content-Type says text or JSON, unless a field does already.
            status: As for `write_status`.
            headers: Names and values, as for `write_header`.
            content_type: The value of Content-Type.
            end_connection: Close the connection after the answer.

        Returns:
            The response itself.

        Raises:
            RuntimeError: The request is answered already, or called from another thread.
            TypeError, ValueError: An argument is wrong. Nothing was changed.
        """
        self._runtime.check_thread()
        data, opcode = pack(body, self._runtime.json)
        last = values.flag("end_connection", end_connection)
        if status != 200 or headers is not None or content_type is not None:
            self._write_all(status, () if headers is None else headers, content_type)
        self._last = last
        text_type = _PLAIN if isinstance(body, str) else _JSON
        self._answer(data, text_type if opcode is OpCode.TEXT else None)
        return self

    def _write_all(self, status: Any, headers: Any, content_type: Any) -> None:
        """Set the status and add the fields; nothing is changed if one of them is wrong."""
        if isinstance(headers, Mapping):
            headers = headers.items()
        elif isinstance(headers, (str, bytes)) or not hasattr(headers, "__iter__"):
            what = values.type_name(headers)
            raise TypeError(f"headers must be a dict or a list of pairs, not {what}")
        before = self._status, self._reason, self._headers and list(self._headers)
        try:
            if status != 200:  # the default leaves an earlier write_status alone
                self.write_status(status)
            for name, value in headers:
                self.write_header(name, value)
            if content_type is not None:
                self.write_header("Content-Type", content_type)
        except BaseException:
            self._status, self._reason, self._headers = before
            raise

    def cork_send(self, *args: Any, **more: Any) -> Response:
        """The same as `send`: an answer always leaves in one write."""
        return self.send(*args, **more)

    def redirect(self, url: str, code: int = 302) -> Response:
        """Answer that the resource is at `url` (RFC 9110 section 15.4).

        Args:
            url: The value of Location.
            code: 301, 302, 303, 307 or 308.

        Returns:
            The response itself.

        Raises:
            RuntimeError, TypeError, ValueError: As for `send`.
        """
        status = values.whole("code", code, _REDIRECTS)
        if status not in (301, 302, 303, 307, 308):
            raise ValueError(f"code must be {_REDIRECTS}, not {values.shown(status)}")
        return self.send(b"", status, {"Location": url})

    def upgrade(
        self,
        key: Optional[str] = _REQUESTED,
        protocol: Optional[str] = _REQUESTED,
        extensions: Optional[str] = _REQUESTED,
        socket_context: Any = None,
        user_data: Any = _REQUESTED,
        *,
        sec_web_socket_key: Optional[str] = _REQUESTED,
        sec_web_socket_protocol: Optional[str] = _REQUESTED,
        sec_web_socket_extensions: Optional[str] = _REQUESTED,
    ) -> None:
        """Accept the opening handshake; the ``open`` handler runs before this returns.

        ``res.upgrade(user_data=user)`` is enough: key, protocol and extensions that are left out
        are those of the request. Nothing happens if the client has left.

        Args:
            key: The Sec-WebSocket-Key of the request.
            protocol: The list of the client (then the first name in it that the route speaks is
                selected), one name of that list, or None.
            extensions: The Sec-WebSocket-Extensions of the request; None means no compression.
            socket_context: What the handler received; it is not used.
            user_data: What ``ws.get_user_data()`` will return; if it is left out, the user data of
                the request.
            sec_web_socket_key, sec_web_socket_protocol, sec_web_socket_extensions: Other names of
                key, protocol and extensions.

        Raises:
            RuntimeError: This is no handshake, it is answered, or called from another thread.
            TypeError, ValueError: An argument is wrong, or differs from the request.
        """
        self._runtime.check_thread()
        if not self._upgrades:
            raise RuntimeError("upgrade() needs an opening handshake on a route of app.ws")
        if self._is_answered():
            raise RuntimeError("this request is answered already")
        if self._aborted:
            return
        key = _either("key", key, sec_web_socket_key)
        protocol = _either("protocol", protocol, sec_web_socket_protocol)
        extensions = _either("extensions", extensions, sec_web_socket_extensions)
        if key is not _REQUESTED:
            self._check_key(key)
        if protocol is _REQUESTED:
            protocol = headers_of(self._request).get("sec-websocket-protocol")
        if extensions is _REQUESTED:
            extensions = headers_of(self._request).get("sec-websocket-extensions")
        if extensions is not None and not isinstance(extensions, str):
            what = values.type_name(extensions)
            raise TypeError(f"extensions must be a str or None, not {what}")
        name = self._select(protocol)
        if not list_elements(extensions):
            lib.ws_request_decline_extensions(self._ptr)
        self._write_head()
        if user_data is _REQUESTED:
            user_data = user_data_of(self._request)
        self._user_data = user_data
        try:
            data = None if name is None else name.encode()
            self._answered(
                lib.ws_request_upgrade(self._ptr, data, 0 if data is None else len(data), None)
            )
        finally:
            self._user_data = None

    def _check_key(self, key: Any) -> None:
        if not isinstance(key, str):
            raise TypeError(f"key must be a str, not {values.type_name(key)}")
        if key != headers_of(self._request).get("sec-websocket-key"):
            raise ValueError("key differs from the request's Sec-WebSocket-Key")

    def _select(self, protocol: Any) -> Optional[str]:
        """The subprotocol for the library; None leaves the choice to it."""
        if protocol is not None and not isinstance(protocol, str):
            raise TypeError(f"protocol must be a str or None, not {values.type_name(protocol)}")
        offered = list_elements(headers_of(self._request).get("sec-websocket-protocol"))
        wanted = list_elements(protocol)
        if not wanted:  # nor may the list of a client that has no token in it
            return None
        if wanted == offered and offered:
            return None if self._route.behavior.subprotocols else offered[0]
        if len(wanted) != 1 or wanted[0] not in offered:
            raise ValueError(
                f"the client did not offer the subprotocol {protocol!r}; "
                f"it offered {', '.join(offered) or 'none'}"
            )
        return wanted[0]

    def close(self) -> None:
        """Drop the connection without an answer; does nothing if the request is answered.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        self._drop()

    def on_aborted(self, fn: Callable[[Response], object]) -> Response:
        """Answer later, after the handler has returned.

        Args:
            fn: ``fn(res)`` runs if the client leaves before the answer.

        Returns:
            The response itself.

        Raises:
            TypeError: `fn` is not a plain function.
            RuntimeError: Called from another thread.
        """
        values.function("fn", fn)
        self._runtime.check_thread()
        self._abort_handler = fn
        return self

    def cork(self, fn: Callable[[Response], object]) -> Response:
        """Run ``fn(res)``; everything that it writes leaves in one write.

        Args:
            fn: A plain function; its exceptions propagate.

        Returns:
            The response itself.

        Raises:
            TypeError: `fn` is not a plain function, or returned a coroutine.
            RuntimeError: Called from another thread.
        """
        values.function("fn", fn)
        self._runtime.check_thread()
        mistakes.check_result("the function of cork", fn, fn(self))
        return self


def _either(name: str, value: Any, other: Any) -> Any:
    """The value of an argument that has two names. Raises TypeError if both are given."""
    if other is _REQUESTED:
        return value
    if value is not _REQUESTED:
        raise TypeError(f"upgrade() got {name} twice, also as sec_web_socket_{name}")
    return other


for _type in (EventStream, Form, Parameters, Query, UploadFile):
    _type.__module__ = __name__  # where programs import them from
