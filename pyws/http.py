"""HTTP requests and responses, plain ones and opening handshakes."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, Callable, Mapping

from . import options
from ._core import mistakes
from ._core.calls import header_fields, short_text, text
from ._core.logs import peer_name
from ._native import fail, lib
from .enums import OpCode
from .errors import ErrorCode
from .websocket import pack

if TYPE_CHECKING:
    from datetime import datetime

    from ._core.callbacks import Route
    from .app import App
    from .websocket import WebSocket

__all__ = ["Request", "Response"]

# Written by the library itself; a second one would contradict it.
_RESERVED = ("content-length", "connection", "date", "upgrade", "transfer-encoding")
_COOKIE_NAME = "cookie"
_COOKIE_VALUE = re.compile(r"[!#-+\--:<-\[\]-~]*\Z")  # RFC 6265 section 4.1.1
_JSON, _PLAIN = "application/json", "text/plain; charset=utf-8"
_STATUS_LINE = re.compile(r"([2-5]\d\d)(?: ([\t -~]*))?\Z")


class Latin1(str):
    """A header value that is not UTF-8; sent on as a header it is the bytes that were received."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        return str, (str(self),)


def header_text(data: bytes) -> str:
    """Bytes of a request head as str: UTF-8, or ISO-8859-1, in which every byte is a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Latin1(data, "latin-1")


def list_elements(value: str | None) -> list[str]:
    """The elements of a comma-separated list of tokens (RFC 9110 section 5.6.1)."""
    return [item.strip(" \t") for item in (value or "").split(",") if item.strip(" \t")]


# ---- request ------------------------------------------------------------------------------------


class Request:
    """What the client asked for. Valid during its handler; `preserve` makes it last.

    In a coroutine handler, and after ``res.on_aborted(...)``, it lasts until the response is given.
    RuntimeError afterwards.
    """

    __slots__ = ("_app", "_facts", "_ptr")
    __reduce_ex__ = options.no_copy

    def __init__(self, app: App, ptr: int) -> None:
        self._app = app
        self._ptr = ptr  # 0 once the request is over
        self._facts: dict[str, Any] = {}

    def _fact(self, name: str) -> Any:
        """Something of the request, read once."""
        if not self._ptr:
            if "preserved" not in self._facts:
                raise RuntimeError(
                    "this request is over: call req.preserve() in its handler to keep it"
                )
            return self._facts[name]
        if name not in self._facts:
            self._app._check_thread()
            self._facts[name] = _READERS[name](self._ptr)
        return self._facts[name]

    def preserve(self) -> Request:
        """Copy everything now, so that the request may be used at any later time."""
        for name in _READERS:
            self._fact(name)
        self._facts["preserved"] = True
        return self

    def get_method(self) -> str:
        """The method as sent: "GET"."""
        return str(self._fact("method"))

    def get_url(self) -> str:
        """The path as sent, without the query: "/chat/blue%20room"."""
        return str(self._fact("path"))

    def get_full_url(self) -> str:
        """The target as sent, with the query."""
        return str(self._fact("target"))

    def get_header(self, lower_case_name: str) -> str | None:
        """Value of a header field, None without it; repeated ones are joined by ", ".

        It is decoded as UTF-8, or as ISO-8859-1 where it is not valid UTF-8.
        """
        if not isinstance(lower_case_name, str):
            raise TypeError("the name of a header must be a str")
        return self.get_headers().get(lower_case_name.lower())

    def get_headers(self) -> dict[str, str]:
        """All header fields by lower-case name."""
        values: dict[str, list[str]] = {}
        for name, value in self._fact("headers"):
            values.setdefault(name, []).append(value)
        return {name: _joined(name, lines) for name, lines in values.items()}

    def for_each_header(self, fn: Callable[[str, str], Any]) -> None:
        """Call ``fn(lower_case_name, value)`` for each header field, in the order received."""
        options.function("fn", fn)
        for name, value in self._fact("headers"):
            mistakes.check_result("the function of for_each_header", fn, fn(name, value))

    def get_query(self, key: str) -> str | None:
        """The first value of a key of the query, decoded; None without it."""
        values = self.get_queries().get(key)
        return values[0] if values else None

    def get_queries(self) -> dict[str, list[str]]:
        """All keys of the query with all their values, decoded; U+FFFD for what is not UTF-8."""
        from urllib.parse import parse_qs  # it takes long to import

        return parse_qs(self._fact("query"), keep_blank_values=True)

    def get_parameter(self, which: int | str) -> str | None:
        """What matched a part of the pattern, percent-decoded; None without it.

        which: the name of ":name", or the index of the ":name" or "*", from 0.
        """
        names: list[str] = self._fact("names")
        if isinstance(which, str):
            if which not in names:
                return None
            index = names.index(which)
        else:
            index = options.integer("index of a parameter", which, 0, options.MAX_COUNT)
        values = self.get_parameters()
        return values[index] if index < len(values) else None

    def get_parameters(self) -> list[str]:
        """What matched each ":name" or "*" of the pattern, percent-decoded.

        U+FFFD stands for what is not UTF-8.
        """
        return list(self._fact("parameters"))

    def get_cookie(self, name: str) -> str | None:
        """The value of a cookie, None without it."""
        return self.get_cookies().get(name)

    def get_cookies(self) -> dict[str, str]:
        """All cookies (RFC 6265 section 5.4); of two with one name, the first."""
        cookies: dict[str, str] = {}
        for pair in (self.get_header(_COOKIE_NAME) or "").split(";"):
            name, equals, value = pair.partition("=")
            value = value.strip()
            if len(value) > 1 and value[0] == value[-1] == '"':
                value = value[1:-1]
            if equals:
                cookies.setdefault(name.strip(), value)
        return cookies


def _joined(name: str, lines: list[str]) -> str:
    """Repeated fields as one (RFC 9110 section 5.3; RFC 9113 section 8.2.3 for cookies)."""
    separator = "; " if name == _COOKIE_NAME else ", "
    return separator.join(lines) if len(lines) > 1 else lines[0]


def _pattern_names(ptr: int) -> list[str]:
    pattern = header_text(lib.ws_request_pattern(ptr))
    return [part.lstrip(":") for part in pattern.split("/") if part[:1] == ":" or part == "*"]


def _parameters(ptr: int) -> list[str]:
    count = len(_pattern_names(ptr))
    values = (text(lib.ws_request_parameter, ptr, i) for i in range(count))
    from urllib.parse import unquote

    return [unquote(header_text(value or b"")) for value in values]


def _read(name: str) -> Callable[[int], str]:
    function = getattr(lib, "ws_request_" + name)
    return lambda ptr: header_text(text(function, ptr) or b"")


_READERS: dict[str, Callable[[int], Any]] = {
    "method": _read("method"),
    "target": _read("target"),
    "path": _read("path"),
    "query": _read("query"),
    "headers": lambda ptr: [
        (header_text(name).lower(), header_text(value)) for name, value in header_fields(ptr)
    ],
    "names": _pattern_names,
    "parameters": _parameters,
}

# ---- response -----------------------------------------------------------------------------------


_REQUESTED: Any = object()  # an argument of `upgrade` that was left out


class Response:
    """The answer to one request, given once: by `end`, `send`, `redirect` or `upgrade`.

    A handler that wants to answer later is a coroutine, or calls `on_aborted` before it returns.
    """

    __slots__ = (
        "__weakref__",
        "_abort_handler",
        "_aborted",
        "_app",
        "_context",
        "_deferred",
        "_headers",
        "_later",
        "_ptr",
        "_reason",
        "_remote",
        "_request",
        "_responded",
        "_route",
        "_socket",
        "_status",
        "_upgrades",
        "_user_data",
    )

    __reduce_ex__ = options.no_copy

    def __init__(self, app: App, ptr: int, request: Request, route: Route, upgrades: bool) -> None:
        self._app = app
        self._ptr = ptr  # 0 once the request is over
        self._request = request
        self._route = route
        self._upgrades = upgrades  # it is an opening handshake
        self._context = app._context.copy()  # what its handlers run in, and those of its socket
        self._status: int = 200
        self._reason: bytes | None = None
        self._headers: list[tuple[bytes, bytes]] = []
        self._abort_handler: options.Handler | None = None
        self._aborted = self._responded = self._deferred = False
        self._later = False  # the handler is a coroutine
        self._remote: str | None = None
        self._user_data: Any = None
        self._socket: WebSocket | None = None

    @property
    def aborted(self) -> bool:
        """The client has left, or the time for the answer is over."""
        return self._aborted

    @property
    def has_responded(self) -> bool:
        """The answer was given, or the connection dropped."""
        return self._responded

    def get_remote_address(self) -> str:
        """The client's IP address as text; "" for a Unix socket."""
        self._app._check_thread()
        if self._remote is None:
            self._remote = short_text(lib.ws_request_remote_address, self._ptr) if self._ptr else ""
        return self._remote

    # ---- head -----------------------------------------------------------------------------------

    def write_status(self, status: int | str) -> Response:
        """Set the status: 404, or "404 Not Found"; 200 without it. TypeError, ValueError."""
        self._app._check_thread()
        if isinstance(status, str):
            match = _STATUS_LINE.match(status)
            if not match:
                raise ValueError(f'status must be like "404 Not Found", not {status!r}')
            self._status = int(match[1])
            self._reason = match[2].encode() if match[2] else None
        else:
            self._status = options.integer("status", status, 200, 599)
            self._reason = None
        return self

    def write_header(self, name: str, value: str | bytes | int) -> Response:
        """Add a header field, also to a 101. TypeError, ValueError: nothing was added.

        A str is sent in UTF-8, but a value that a request had in ISO-8859-1 as it was received.
        """
        self._app._check_thread()
        if not isinstance(name, str):
            raise TypeError(f"the name of a header must be a str, not {options.type_name(name)}")
        if not options.is_token(name):
            raise ValueError(f"the name of a header must be a token (RFC 9110 5.6.2), not {name!r}")
        if name.lower() in _RESERVED or name.lower().startswith("sec-websocket-"):
            raise ValueError(f"the header {name} is written by pyws itself")
        data = self._header_value(name, value)
        self._headers.append((name.encode(), data))
        return self

    @staticmethod
    def _header_value(name: str, value: Any) -> bytes:
        if isinstance(value, int) and not isinstance(value, bool):
            value = str(value)
        if isinstance(value, Latin1):
            value = value.encode("latin-1")
        elif isinstance(value, str):
            value = options.encode("value of the header " + name, value)
        if not isinstance(value, bytes):
            raise TypeError(
                f"the value of the header {name} must be str, bytes or int, "
                f"not {options.type_name(value)}"
            )
        if any(byte in value for byte in b"\r\n\0"):
            raise ValueError(f"the header {name} must not contain CR, LF or NUL: {value!r}")
        return value

    def set_cookie(
        self,
        name: str,
        value: str,
        options_: Mapping[str, Any] | None = None,
        **more: Any,
    ) -> Response:
        """Add a Set-Cookie field (RFC 6265 section 4.1). TypeError, ValueError.

        Options, as a dict or by keyword: path, domain, max_age (seconds), expires (datetime),
        secure, http_only, same_site ("Strict", "Lax" or "None").
        """
        self._app._check_thread()
        if not isinstance(name, str) or not options.is_token(name):
            raise ValueError(f"the name of a cookie must be a token, not {name!r}")
        if not isinstance(value, str) or not _COOKIE_VALUE.match(value):
            raise ValueError(
                f"the value of cookie {name} must be printable ASCII without space, quote, comma, "
                f"semicolon and backslash: {value!r}"
            )
        parts = [f"{name}={value}", *_cookie_attributes({**(options_ or {}), **more})]
        return self.write_header("Set-Cookie", "; ".join(parts))

    # ---- answers --------------------------------------------------------------------------------

    def end(self, body: Any = b"") -> Response:
        """Answer with `body`: str, bytes-like, or dict, list, tuple, number as JSON.

        RuntimeError when answered already; nothing happens when the client has left.
        """
        self._app._check_thread()
        data, opcode = pack(body)
        is_json = opcode is OpCode.TEXT and not isinstance(body, str)
        return self._answer(data, _JSON if is_json else None)

    def send(
        self,
        body: Any,
        status: int | str = 200,
        headers: Mapping[str, str] | list[tuple[str, str]] | None = None,
    ) -> Response:
        """Answer with `body`, `status` and further header fields, as text or JSON.

        RuntimeError when answered already. TypeError, ValueError: nothing was changed.
        """
        self._app._check_thread()
        data, opcode = pack(body)
        before = self._status, self._reason, list(self._headers)
        try:
            pairs = headers.items() if isinstance(headers, Mapping) else headers or ()
            if status != 200:  # the default leaves an earlier write_status alone
                self.write_status(status)
            for name, value in pairs:
                self.write_header(name, value)
        except BaseException:
            self._status, self._reason, self._headers = before
            raise
        text_type = _PLAIN if isinstance(body, str) else _JSON
        return self._answer(data, text_type if opcode is OpCode.TEXT else None)

    def redirect(self, url: str, code: int = 302) -> Response:
        """Answer that the resource is at `url`. code: 301, 302, 303, 307 or 308."""
        if options.integer("code", code, 300, 399) not in (301, 302, 303, 307, 308):
            raise ValueError(f"code must be 301, 302, 303, 307 or 308, not {code}")
        return self.send(b"", code, {"Location": url})

    def upgrade(
        self,
        key: str = _REQUESTED,
        protocol: str | None = _REQUESTED,
        extensions: str | None = _REQUESTED,
        socket_context: Any = None,
        user_data: Any = None,
    ) -> None:
        """Accept the opening handshake; the ``open`` handler runs before this returns.

        ``res.upgrade(user_data=user)`` is enough: key, protocol and extensions are the request's
        where they are left out.

        key: the request's Sec-WebSocket-Key. protocol: the client's own list (then the first name
        of it that the route speaks is selected), one name of that list, or None. extensions: the
        request's Sec-WebSocket-Extensions, or None: no compression. socket_context: as received.
        user_data: what ``ws.get_user_data()`` gives. ValueError, RuntimeError.
        """
        self._app._check_thread()
        if not self._upgrades:
            raise RuntimeError("upgrade() needs an opening handshake on a route of app.ws")
        if self._responded:
            raise RuntimeError("this request is answered already")
        if self._aborted:
            return
        if key is not _REQUESTED:
            self._check_key(key)
        if protocol is _REQUESTED:
            protocol = self._request.get_header("sec-websocket-protocol")
        if extensions is _REQUESTED:
            extensions = self._request.get_header("sec-websocket-extensions")
        if extensions is not None and not isinstance(extensions, str):
            what = options.type_name(extensions)
            raise TypeError(f"extensions must be a str or None, not {what}")
        name = self._select(protocol)
        if not list_elements(extensions):
            lib.ws_request_decline_extensions(self._ptr)
        self._write_head()
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
            raise TypeError(f"key must be a str, not {options.type_name(key)}")
        if key != self._request.get_header("sec-websocket-key"):
            raise ValueError("key differs from the request's Sec-WebSocket-Key")

    def _select(self, protocol: Any) -> str | None:
        """The subprotocol to name to the library; None leaves the choice to it."""
        if protocol is not None and not isinstance(protocol, str):
            raise TypeError(f"protocol must be a str or None, not {options.type_name(protocol)}")
        offered = list_elements(self._request.get_header("sec-websocket-protocol"))
        wanted = list_elements(protocol)
        if not wanted:  # nor may the list of a client that has no token in it
            return None
        if wanted == offered and offered:
            return None if self._route.behavior.subprotocols else offered[0]
        if len(wanted) != 1 or wanted[0] not in offered:
            raise ValueError(f"the client did not offer the subprotocol {protocol!r}")
        return wanted[0]

    def close(self) -> None:
        """Drop the connection without an answer."""
        self._app._check_thread()
        if self._ptr and not self._responded and not self._aborted:
            self._answered(lib.ws_request_abort(self._ptr))

    def on_aborted(self, fn: Callable[[Response], Any]) -> Response:
        """The answer comes later: keep the request; ``fn(res)`` runs if the client leaves first."""
        options.function("fn", fn)
        self._app._check_thread()
        self._abort_handler = fn
        return self

    def cork(self, fn: Callable[[Response], Any]) -> Response:
        """Run ``fn(res)``; what it writes leaves in one write."""
        options.function("fn", fn)
        self._app._check_thread()
        mistakes.check_result("the function of cork", fn, fn(self))
        return self

    # ---- inside ---------------------------------------------------------------------------------

    def _facts(self) -> dict[str, Any]:
        """Of this request, for the log."""
        facts: dict[str, Any] = {"route": self._route.pattern}
        if self._ptr:
            address = short_text(lib.ws_request_remote_address, self._ptr)
            facts["peer"] = peer_name(address, lib.ws_request_remote_port(self._ptr))
        return facts

    def _what(self) -> str:
        """What to call its handler in the log."""
        return "the upgrade handler" if self._upgrades else "the handler"

    def _answer(self, body: bytes, content_type: str | None) -> Response:
        """Answer; the type is for those who have not written one. RuntimeError."""
        if self._responded:
            raise RuntimeError("this request is answered already")
        if self._aborted:
            return self
        if content_type and not self._has_header(b"content-type"):
            self.write_header("Content-Type", content_type)
        self._write_head()
        self._answered(
            lib.ws_request_respond(self._ptr, self._status, self._reason, body, len(body))
        )
        return self

    def _has_header(self, name: bytes) -> bool:
        return any(field.lower() == name for field, _ in self._headers)

    def _write_head(self) -> None:
        """Hand the fields to the library. MemoryError: the connection was dropped."""
        headers, self._headers = self._headers, []
        try:
            for name, value in headers:
                lib.ws_request_add_header(self._ptr, name, len(name), value, len(value))
        except MemoryError:
            self.close()  # what the library has of them would travel on the answer to the error
            raise

    def _defer(self, on_aborted: Any, number: int) -> None:
        """The handler has returned, the answer comes later."""
        result: int = lib.ws_request_defer(self._ptr, on_aborted, number)
        if result < 0:
            fail(result)
        self._deferred = True

    def _answered(self, result: int) -> None:
        """After a call that answers: a deferred request is over now."""
        if result == ErrorCode.ECLOSED:
            self._aborted = True
        elif result < 0:
            fail(result)
        else:
            self._responded = True
        if self._deferred:
            self._app._release(self)

    def _fail(self) -> None:
        """A handler raised: 500, or 1011 when the handshake was accepted already."""
        if self._socket is not None and self._socket._route.behavior.close_on_error:
            self._socket.end(1011, "the upgrade handler failed")
        elif self._ptr and not self._responded and not self._aborted:
            self._status, self._reason, self._headers = 500, None, []
            self._answer(b"500 Internal Server Error\n", "text/plain")  # as the library's own

    def _over(self) -> None:
        """The library is about to forget the request."""
        self._ptr = self._request._ptr = 0


def _cookie_attributes(given: Mapping[str, Any]) -> list[str]:
    """The attributes of a cookie, in the order given. TypeError, ValueError."""
    known = list(_ATTRIBUTES)
    plain = {str(key).lower().replace("-", "_"): value for key, value in given.items()}
    plain = {_ALIASES.get(key, key): value for key, value in plain.items()}
    parts = []
    for key, value in options.pick(plain, known, "cookie").items():
        label = _ATTRIBUTES[key]
        if key in ("secure", "http_only"):
            parts += [label] if options.flag(key, value) else []
        elif value is not None:
            parts.append(f"{label}={_attribute(key, value)}")
    return parts


_ATTRIBUTES = {
    "path": "Path",
    "domain": "Domain",
    "max_age": "Max-Age",
    "expires": "Expires",
    "secure": "Secure",
    "http_only": "HttpOnly",
    "same_site": "SameSite",
}
_ALIASES = {"maxage": "max_age", "httponly": "http_only", "samesite": "same_site"}


def _attribute(key: str, value: Any) -> str:
    if key == "max_age":
        return str(options.integer(key, value, -options.MAX_COUNT, options.MAX_COUNT))
    if key == "expires":
        from datetime import datetime, timezone

        if isinstance(value, datetime):
            # RFC 6265 section 5.1.1 wants English names, in any locale; naive times are UTC.
            moment = value if value.tzinfo is None else value.astimezone(timezone.utc)
            return _http_date(moment)
    if not isinstance(value, str) or ";" in value or not value.isprintable():
        raise ValueError(f"{key} of a cookie must be a str without semicolon: {value!r}")
    if key == "same_site" and value not in ("Strict", "Lax", "None"):
        raise ValueError(f'same_site must be "Strict", "Lax" or "None", not {value!r}')
    return value


def _http_date(moment: datetime) -> str:
    day, month = _DAYS[moment.weekday()], _MONTHS[moment.month - 1]
    return f"{day}, {moment.day:02d} {month} {moment.year:04d} {moment:%H:%M:%S} GMT"


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
