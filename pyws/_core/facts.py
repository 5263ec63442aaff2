# SPDX-License-Identifier: MIT
"""What a client asked for: `Request` as C, sockets and coroutine handlers see it.

The attributes of `Facts` with an underscore are for this module and for `Request`, its subclass.
All others use the functions at the end.
"""

from __future__ import annotations

from typing import Any, Callable

from .._native import lib
from .bridge import RequestHandle, place_of
from .calls import copied_bytes, header_fields
from .encryption import TlsInfo
from .fields import Latin1, header_text
from .runtime import Runtime

__all__ = ["COOKIE", "Facts"]

COOKIE = "cookie"


class Facts(RequestHandle):
    """The facts of a request, each read from C once, when it is needed first.

    With the bridge, C makes the `Request` of a plain request, in the same way as `__init__`.
    """

    __slots__ = ("_body", "_known", "_preserved", "_runtime", "_user_data")

    def __init__(self, runtime: Runtime, ptr: int) -> None:
        self._ptr = ptr  # of the ws_request; 0 once the request is over
        self._runtime = runtime
        self._body: Any = None  # what has arrived of it; None while nothing reads it
        self._known: dict[str, Any] | None = None
        self._preserved: bool | None = None
        self._user_data: Any = None  # what the program keeps with the request

    def _get(self, name: str) -> Any:
        """A fact, by its name in `_READERS`. Raises RuntimeError in another thread, or too late."""
        known = self._known
        if not self._ptr:
            if not self._preserved or known is None:
                raise RuntimeError(
                    "this request is over: call req.preserve() in its handler to keep it"
                )
            return known[name]
        if known is None:
            known = self._known = {}
        if name not in known:
            self._runtime.check_thread()
            known[name] = _READERS[name](self._ptr)
        return known[name]

    def _preserve(self) -> None:
        """Read everything now, to be available at any later time."""
        for name in _READERS:
            self._get(name)
        self._preserved = True

    def _get_headers(self) -> dict[str, str]:
        """All header fields by lower-case name; repeated ones are joined."""
        values: dict[str, list[str]] = {}
        for name, value in self._get("headers"):
            values.setdefault(name, []).append(value)
        return {name: _joined(name, lines) for name, lines in values.items()}


def _joined(name: str, lines: list[str]) -> str:
    """Repeated fields as one (RFC 9110 section 5.3; RFC 9113 section 8.2.3 for cookies)."""
    if len(lines) == 1:
        return lines[0]
    text = ("; " if name == COOKIE else ", ").join(lines)
    # If they are of both kinds, UTF-8 is the only encoding that has all of their characters.
    is_latin1 = all(isinstance(line, Latin1) or line.isascii() for line in lines)
    return Latin1(text) if is_latin1 and not text.isascii() else text


def _read(name: str) -> Callable[[int], str]:
    function = getattr(lib, "ws_request_" + name)
    return lambda ptr: header_text(copied_bytes(function, ptr) or b"")


def tls_info(session: int | None) -> TlsInfo | None:
    """What is known of a session; None for none, which is a connection without TLS."""
    if not session:
        return None
    from .openssl import info  # it takes long to import

    return info(session)


_READERS: dict[str, Callable[[int], Any]] = {
    "method": _read("method"),
    "target": _read("target"),
    "path": _read("path"),
    "query": _read("query"),
    "headers": lambda ptr: [
        (header_text(name).lower(), header_text(value)) for name, value in header_fields(ptr)
    ],
    "pattern": lambda ptr: lib.ws_request_pattern(ptr).decode(),
    "scheme": lambda ptr: lib.ws_request_scheme(ptr).decode(),
    "tls": lambda ptr: tls_info(lib.ws_request_tls(ptr)),
}


# ---- for other modules --------------------------------------------------------------------------


def fact(request: Facts, name: str) -> Any:
    """A fact, by its name in `_READERS`. Raises RuntimeError in another thread, or too late."""
    return request._get(name)


def headers_of(request: Facts) -> dict[str, str]:
    """All header fields by lower-case name. Raises as `fact`."""
    return request._get_headers()


def preserve(request: Facts) -> None:
    """Read everything now. Raises as `fact`."""
    request._preserve()


def runtime_of(request: Facts) -> Runtime:
    """The runtime of the app."""
    return request._runtime


def address_of(request: Facts) -> int:
    """The address of the ws_request; 0 once the request is over."""
    return request._ptr


def is_over(request: Facts) -> bool:
    """Whether the request is over."""
    return not request._ptr


def forget_address(request: Facts) -> None:
    """The request is over: C is about to forget it."""
    request._ptr = 0


def track_address(request: Facts) -> None:
    """Have C forget the address when it frees the request, whatever is interrupted here.

    The object must stay alive until then, or until `untrack_address`.
    """
    lib.ws_request_track(request._ptr, place_of(request))


def untrack_address(request: Facts) -> None:
    """Forget the address, since the object may go before C frees the request."""
    ptr, request._ptr = request._ptr, 0
    if ptr:
        lib.ws_request_track(ptr, None)


def body_of(request: Facts) -> Any:
    """What has arrived of the body; None while nothing reads it."""
    return request._body


def set_body(request: Facts, body: Any) -> None:
    """Something reads the body."""
    request._body = body


def user_data_of(request: Facts) -> Any:
    """What the program keeps with the request."""
    return request._user_data


def made(cls: type[Facts], runtime: Runtime, known: dict[str, Any]) -> Any:
    """A `Request` that never was; `known` has all facts of `_READERS`."""
    request = cls(runtime, 0)
    request._known, request._preserved = known, True
    return request
