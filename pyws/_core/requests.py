# SPDX-License-Identifier: MIT
"""Requests as C and coroutine handlers see them; `pyws.http` adds what programs call.

The attributes of an `Exchange` with an underscore are for this module and for `Response`, its
subclass. All others use the functions at the end.
"""

from __future__ import annotations

import os
from contextvars import Context
from functools import partial
from typing import Any, Callable, Iterable

from .._native import body_function, fail, lib, request_function
from ..enums import SendStatus
from ..errors import BadRequest, ClientDisconnect, ErrorCode
from . import mistakes
from .bodies import BY_FUNCTION, UNREAD, Body
from .bridge import ResponseHandle, current_response
from .calls import short_text
from .contexts import run_in
from .facts import (
    Facts,
    address_of,
    body_of,
    forget_address,
    preserve,
    set_body,
    track_address,
    untrack_address,
)
from .logs import escaped, logger, peer_name, phrase
from .parts import UNKNOWN_LENGTH, Parts
from .routes import Route, returned
from .runtime import Host, Runtime, at_end, runtimes
from .values import Handler

__all__ = ["Exchange", "exchanges"]

_SMALL = 8192  # bytes of a file that are copied, since that is faster
SUCCESS, DROPPED = SendStatus.SUCCESS.value, SendStatus.DROPPED.value

# The address of a ws_request -> its exchange, whose Request C may track. After an interruption, it
# stays here until the address is used again, or the server has shut down.
exchanges: dict[int, Exchange] = {}

# ---- a request and its answer -------------------------------------------------------------------


class Exchange(ResponseHandle):
    """A request and its answer.

    With the bridge, C makes the `Response` to a plain request, in the same way as `__init__`.
    """

    __slots__ = (
        "__weakref__", "_abort_handler", "_before_release", "_context", "_headers", "_later",
        "_parts", "_reason", "_remote", "_request", "_route", "_runtime", "_socket", "_user_data",
    )  # fmt: skip

    def __init__(self, route: Route, request: Facts, upgrades: bool) -> None:
        self._runtime = route.runtime
        self._route = route
        self._request = request
        self._key = address_of(request)  # in `exchanges`
        self._bridge = self._runtime.bridge_address
        self._upgrades = upgrades  # it is an opening handshake
        self._context = self._runtime.context.copy()  # of its handlers, and those of its socket
        self._status = 200
        self._reason: bytes | None = None
        self._headers: list[tuple[bytes, bytes]] | None = None
        self._abort_handler: Handler | None = None
        self._aborted = self._responded = self._deferred = False
        self._last = False  # the connection closes after the answer
        self._later: Any = None  # the Stepper of its handler, which is a coroutine
        self._parts: Parts | None = None  # of its answer
        self._remote: str | None = None
        self._user_data: Any = None
        self._socket: Any = None  # the WebSocket that it became
        self._before_release: Callable[[], Any] | None = None  # of that WebSocket

    @property
    def _ptr(self) -> int:
        """The address of the ws_request; 0 once the request is over."""
        return self._request._ptr

    def _is_answered(self) -> bool:
        """Whether the request is answered, or was given up by what has interrupted the answer."""
        return self._responded or not (self._aborted or self._ptr)

    def _facts(self) -> dict[str, Any]:
        """The attributes of log records about this request."""
        facts: dict[str, Any] = {"route": self._route.pattern}
        if self._ptr:
            address = short_text(lib.ws_request_remote_address, self._ptr)
            facts["peer"] = peer_name(address, lib.ws_request_remote_port(self._ptr))
        return facts

    def _defer(self) -> None:
        """Let the request last until it is answered. Raises MemoryError."""
        if not (self._deferred or self._responded or self._aborted):
            deferred: int = lib.ws_request_defer(self._ptr, ON_ABORTED, self._route.key)
            if deferred < 0:
                fail(deferred)
            if exchanges.get(self._key) is self:  # otherwise C does that after the handler
                track_address(self._request)
            _enter(self)
            self._deferred = True

    def _is_waiting(self) -> bool:
        """Whether something other than a coroutine handler may still answer."""
        body, parts = body_of(self._request), self._parts
        return (
            self._abort_handler is not None
            or (body is not None and body.how == BY_FUNCTION)
            or (parts is not None and parts.is_awaited)
        )

    def _has_begun(self) -> bool:
        """Whether the head of an answer in parts was sent."""
        return self._parts is not None and self._parts.begun

    def _handler_failed(self, error: BaseException, handler: Any) -> None:
        """Report what the handler raised, and answer if it did not: 500, or 1011 after a 101."""
        if isinstance(error, ClientDisconnect) and self._aborted:
            return
        unanswered = not (is_over(self) or self._has_begun())
        if isinstance(error, BadRequest) and unanswered:
            try:
                self._refuse(error)
                return
            except Exception as failure:  # its __str__, or there is no memory
                error = failure
        broken = self._has_begun() and not is_over(self)
        self._aborted = self._aborted or broken  # what the error handler sends must not follow
        what = "the upgrade handler" if self._upgrades else "the handler"
        context = self._context
        self._status, self._reason, self._headers = 200, None, None  # the error handler may answer
        self._runtime.handler_failed(what, error, handler, context, self, self._facts)
        if not broken:
            self._fail()
        elif self._ptr:
            lib.ws_request_abort(self._ptr)
            self._release()

    def _answer(self, body: bytes, content_type: str | None) -> None:
        """Answer; the type is for answers without one. Raises RuntimeError, MemoryError."""
        if self._is_answered():
            raise RuntimeError("this request is answered already")
        if self._aborted:
            return
        if self._has_begun():
            self._finish(body)
            return
        if content_type and not (self._headers and "content-type" in field_names(self)):
            self._add_header(b"Content-Type", content_type.encode())
        if self._parts is not None and self._parts.length is not None:
            self._finish(body)
            return
        fields, self._headers = self._headers or (), None
        self._answered(-self._respond(body, *[part for field in fields for part in field]))

    def _respond(self, body: bytes, *fields: bytes) -> int:
        """Give an answer to C; with the bridge, this is a function of C.

        Args:
            body: The body.
            fields: The names of header fields, each before its value.

        Returns:
            The negative of what C returns. The connection was dropped if that is ENOMEM.
        """
        try:
            for name, value in zip(fields[::2], fields[1::2]):
                lib.ws_request_add_header(self._ptr, name, len(name), value, len(value))
        except MemoryError:  # C would send the fields that it has with the answer to the error
            lib.ws_request_abort(self._ptr)
            return -ErrorCode.ENOMEM
        if self._last:
            lib.ws_request_close_after(self._ptr)
        about = self._ptr, self._status, self._reason
        result: int = lib.ws_request_respond(*about, body, len(body))
        return -result

    def _answer_file(self, fd: int, offset: int, length: int) -> None:
        """Answer with a part of a file, which is closed in any case. Raises as `_answer`."""
        try:
            self._check_head()
            if self._aborted:
                return
            small = os.pread(fd, length, offset) if length <= _SMALL else None
            if small is not None and len(small) < length:
                raise RuntimeError("the file has become shorter")
            self._write_head()
            if self._last:
                lib.ws_request_close_after(self._ptr)
            about = self._ptr, self._status, self._reason
            if small is not None:  # one segment, with the head
                result = lib.ws_request_respond(*about, small, length)
            else:  # to close what is the server's by now would close another file
                given, fd = fd, -1
                result = lib.ws_request_respond_file(*about, given, offset, length)
                if result != 0:
                    fd = given
            self._answered(result)
        finally:
            if fd >= 0:
                os.close(fd)

    def _check_head(self) -> None:
        """Raise RuntimeError if the head of the answer was sent, or this is another thread."""
        self._runtime.check_thread()
        if self._is_answered():
            raise RuntimeError("this request is answered already")
        if self._parts is not None and self._parts.begun and not self._aborted:
            raise RuntimeError("the head of the answer was sent with its first part")

    def _add_header(self, name: bytes, value: bytes) -> None:
        """Add a header field that is known to be valid."""
        if self._headers is None:
            self._headers = []
        self._headers.append((name, value))

    def _write_head(self) -> None:
        """Give the header fields to C. Raises MemoryError, after it dropped the connection."""
        headers, self._headers = self._headers or (), None
        try:
            for name, value in headers:
                lib.ws_request_add_header(self._ptr, name, len(name), value, len(value))
        except MemoryError:
            self._drop()  # the fields that C has would be sent with the answer to the error
            raise

    def _begin(self) -> Parts:
        """The answer in parts; sends its head, unless that was done. Raises MemoryError."""
        parts = self._parts = self._parts or Parts()
        if parts.begun or self._aborted:
            return parts
        self._defer()
        self._write_head()
        if self._last:
            lib.ws_request_close_after(self._ptr)
        length = UNKNOWN_LENGTH if parts.length is None else parts.length
        result = lib.ws_request_begin(self._ptr, self._status, self._reason, length)
        if result < 0:
            self._answered(result)
        else:
            parts.begun = True
        return parts

    def _write(self, data: bytes) -> int:
        """Send a part. Returns the number of a SendStatus. Raises ValueError, MemoryError."""
        parts = self._begin()
        result = ErrorCode.ECLOSED.value
        if not self._aborted:
            result = lib.ws_request_write(self._ptr, data, len(data))
        if result == ErrorCode.ECLOSED:
            parts.blocked = not self._aborted  # otherwise `on_aborted` will run
            return DROPPED
        if result == ErrorCode.EINVAL:
            total = parts.offset + len(data)
            raise ValueError(f"the body has more than its {parts.length} bytes: {total}")
        if result < 0:
            fail(result)
        if result != DROPPED:
            parts.offset += len(data)
        if result != SUCCESS and not parts.blocked:
            parts.blocked = True
            lib.ws_request_on_writable(self._ptr, ON_WRITABLE, self._route.key)
        return result

    def _finish(self, data: bytes) -> None:
        """End an answer in parts; what there is no room for is sent later. Raises ValueError."""
        parts = self._begin()
        if data and self._write(data) == DROPPED and not self._aborted:
            parts.rest = data
            self._responded = True
            return
        if self._aborted:
            return
        result = lib.ws_request_finish(self._ptr)
        if result == ErrorCode.EINVAL:
            self._aborted = True
            self._release()
            raise ValueError(
                f"the body has {parts.offset} of its {parts.length} bytes: the connection was "
                "dropped"
            )
        self._answered(result)

    def _answered(self, result: int) -> None:
        """After a call that answers; a deferred request is over now, unless that was EINVAL.

        Raises:
            MemoryError: The connection was dropped.
        """
        if result == ErrorCode.EINVAL:
            fail(result)
        if result < 0:
            self._aborted = True
        else:
            self._responded = True
        if self._deferred:
            self._release()
        if result == ErrorCode.ENOMEM:
            fail(result)

    def _ended(self, error: int) -> Any:
        """C has answered, and returned the negative of `error`. Raises MemoryError."""
        self._answered(-error)
        return self

    def _drop(self) -> None:
        """Drop the connection, unless the request was answered."""
        if self._ptr and not self._responded and not self._aborted:
            self._answered(lib.ws_request_abort(self._ptr))

    def _fail(self) -> None:
        """A handler raised: answer 500, or close with 1011 after the handshake was accepted."""
        if self._socket is not None and self._route.behavior.close_on_error:
            self._socket.end(1011, "the upgrade handler failed")
        elif self._has_begun():
            self._drop()
        elif self._ptr and not self._responded and not self._aborted:
            self._status, self._reason, self._headers = 500, None, None
            self._answer(b"500 Internal Server Error\n", "text/plain")  # as C answers

    def _refuse(self, error: BadRequest) -> None:
        """The handler has found that the request is wrong."""
        status, why = error.status, str(error)
        logger.debug("the handler of %s refused a request: %d %s", self._route.pattern, status,
                     escaped(why), exc_info=error)  # fmt: skip
        self._status, self._reason, self._headers = status, None, None
        line = " ".join(f"{status} {phrase(status)}{': ' if why else ''}{why}".split())
        self._answer(line.encode("utf-8", "replace") + b"\n", "text/plain; charset=utf-8")

    def _release(self, refusal: int = 0) -> None:
        """The request is over: C is about to forget it, also if something here is interrupted.

        Args:
            refusal: The status that C answers with; 0 if it does not.
        """
        try:
            body = body_of(self._request)
            if body is not None:
                body.end(self._aborted, refusal)
            elif self._aborted:
                set_body(self._request, Body(None, UNREAD, status=refusal))
            if self._parts is not None:
                self._parts.end(self._aborted)
            if self._before_release is not None:
                self._before_release()
        finally:
            self._responded = self._responded or not self._aborted  # C answers for the handler
            if self._deferred or not lib.bridge:
                untrack_address(self._request)
            forget_address(self._request)
            if exchanges.get(self._key) is self:
                del exchanges[self._key]


# ---- what callbacks and coroutine handlers do ---------------------------------------------------


def serve(exchange: Exchange, request: Any) -> None:
    """Give a request to its handler; see that it is answered, now or later.

    With the bridge, C does this for plain requests, up to `handled` or `raised`. The handler gets
    the exchange, and the request, to read from.
    """
    route, res = exchange._route, exchange
    if res._key in exchanges:
        _enter(res)
    else:
        exchanges[res._key] = res
    handler = route.handler
    try:
        assert handler is not None
        if not lib.bridge:
            track_address(res._request)
        args = (res, request, route.pattern) if res._upgrades else (res, request)
        try:
            result = run_in(res._context, handler, *args)
        except BaseException as error:
            try:
                res._handler_failed(error, handler)
            finally:
                _leave(res)
        else:
            handled(res, result)
    finally:
        if not res._deferred:  # whatever was interrupted: this is no call, and cannot be
            res._request._ptr = 0


def handled(exchange: Exchange, result: Any) -> None:
    """The handler has returned `result`: see that the request is answered, now or later."""
    route, res = exchange._route, exchange
    try:
        if result is not None and result is not res:  # as in `lambda res, req: res.end("")`
            returned(route, "upgrade" if res._upgrades else "", route.handler, result)
        if res._abort_handler or res._later:
            res._defer()
        elif res._deferred and not (is_over(res) or res._is_waiting()):
            report_unanswered(res)
    except BaseException as error:
        res._handler_failed(error, route.handler)
    finally:  # C forgets the request, whatever has happened here
        _leave(res)


def raised(exchange: Exchange, error: BaseException) -> None:
    """C has called the handler, which has raised `error`."""
    try:
        raise error
    except BaseException:  # for what asks sys.exc_info()
        exchange._handler_failed(error, exchange._route.handler)
    finally:
        _leave(exchange)


def _leave(exchange: Exchange) -> None:
    """The callback of the request ends; if it is not answered, C logs that and sends a 500."""
    if not exchange._deferred:
        exchange._release()


def current_exchange(runtime: Runtime, ptr: int) -> Exchange | None:
    """The exchange of a request whose handler was called, and which is not over."""
    exchange = exchange_at(ptr) or _current(runtime)
    return exchange if exchange is not None and exchange._ptr == ptr != 0 else None


def exchange_at(ptr: int) -> Exchange | None:
    """The exchange of a request that C may be tracking, by its address; None if it has none."""
    exchange = exchanges.get(ptr)
    return exchange if exchange is not None and exchange._ptr == ptr else None


def read_body(request: Facts, how: str, on_chunk: Handler | None, res: Exchange | None) -> Body:
    """Read the body of a request from now on, for the first time; see `Body`.

    Raises:
        RuntimeError: The request is answered.
        MemoryError: The connection was dropped.
    """
    ptr = request._ptr
    res = res or current_exchange(request._runtime, ptr)
    if res is None or res._responded or not ptr:
        raise RuntimeError("this request is over: its body can be read until it is answered")
    res._defer()
    body = Body(partial(address_of, request), how, on_chunk, res._later)
    set_body(request, body)
    limit, key = res._route.max_body_size, res._route.key
    result = lib.ws_request_read_body(ptr, limit, ON_BODY, key)
    if result < 0 and result != ErrorCode.ECLOSED:  # that is a 413: `on_aborted` has run
        fail(result)
    return body


def on_body(ptr: int, data: Any, length: int, last: bool, key: int) -> None:
    """C calls: a piece of the body has arrived."""
    res = exchanges[ptr]
    body = body_of(res._request)
    if body is None:
        return
    hook = body.on_chunk
    try:
        if hook is None:
            body.add(data[:length], last)
            return
        body.is_complete = last
        result = run_in(res._context, hook, res, data[:length], last)
        mistakes.check_result("the function of on_data", hook, result)
    except BaseException as error:
        res._handler_failed(error, hook)


def on_aborted(ptr: int, key: int) -> None:
    """C calls: the client has left, or the time for the answer is over."""
    res = exchange_at(ptr)
    if res is not None:  # otherwise `_defer` was interrupted
        _abort(res)


def _abort(res: Exchange) -> None:
    ptr = res._ptr  # 0 if C has freed the request
    hook = None if res._responded else res._abort_handler
    res._aborted = not res._responded  # otherwise the rest of the answer was under way
    try:
        if res._later and ptr:  # its handler continues, and may still read the request
            preserve(res._request)
        if hook is not None:
            mistakes.check_result("the aborted handler", hook, run_in(res._context, hook, res))
    except BaseException as error:
        what, context = "the aborted handler", res._context
        res._runtime.handler_failed(what, error, hook, context, res, res._facts)
    finally:
        res._release(lib.ws_request_refusal(ptr) if ptr else 0)


def _enter(res: Exchange) -> None:
    """Put a request into the table, perhaps in place of one whose `on_aborted` was interrupted."""
    before = exchanges.get(res._key)
    exchanges[res._key] = res
    if before is not None and before is not res:
        before._runtime.postpone(_abort, before)


def end_lost(runtime: Runtime) -> None:
    """The server has no requests any more: abort those whose `on_aborted` was interrupted."""
    for res in list(exchanges.values()):
        if res._runtime is runtime and not res._ptr:
            _abort(res)


at_end.append(end_lost)


def on_writable(ptr: int, key: int) -> None:
    """C calls: the kernel has taken all that waited."""
    res = exchanges[ptr]
    parts = res._parts
    if parts is None:
        return
    parts.unblock()
    hook = parts.on_writable
    try:
        if parts.rest is not None:
            data, parts.rest, res._responded = parts.rest, None, False
            res._finish(data)
        elif hook is not None:
            result = run_in(res._context, hook, res, parts.offset)
            mistakes.check_result("the function of on_writable", hook, result)
    except BaseException as error:
        res._handler_failed(error, hook)


def is_over(exchange: Exchange) -> bool:
    """Whether the request is answered, or the client has left."""
    return exchange._aborted or exchange._is_answered()


def check_unanswered(exchange: Exchange) -> None:
    """Raise RuntimeError if the request is answered."""
    if exchange._is_answered():
        raise RuntimeError("this request is answered already")


def status_of(exchange: Exchange) -> int:
    """The status that is set, 200 otherwise."""
    return exchange._status


def field_names(exchange: Exchange) -> set[str]:
    """The names of the header fields that are set, in lower case."""
    return {name.decode().lower() for name, _ in exchange._headers or ()}


def add_field(exchange: Exchange, name: str, value: str) -> None:
    """Add a header field that is known to be valid."""
    exchange._add_header(name.encode(), value.encode("latin-1"))


def add_fields(exchange: Exchange, fields: Iterable[tuple[bytes, bytes]]) -> None:
    """Add header fields that are known to be valid, except those that the program has added."""
    there = exchange._headers or []
    if there:
        names = {name.lower() for name, _ in there}
        fields = [field for field in fields if field[0].lower() not in names]
    exchange._headers = [*there, *fields]


def answer_empty(exchange: Exchange, status: int) -> None:
    """Answer without a body."""
    exchange._status = status
    exchange._answer(b"", None)


def answer_file(exchange: Exchange, status: int, fd: int, offset: int, length: int) -> None:
    """Answer with a part of a file, which is closed in any case; 0 keeps the status that is set."""
    if status:
        exchange._status = status
    exchange._answer_file(fd, offset, length)


_REASONS = {404: "Not Found", 405: "Method Not Allowed"}


def refuse(exchange: Exchange, request: Any) -> None:
    """Answer a request that no route takes as C does, with the status that is set."""
    status = exchange._status
    exchange._answer(f"{status} {_REASONS[status]}\n".encode(), "text/plain")


def not_found(exchange: Exchange, request: Any) -> Any:
    """A handler has nothing for this path: answer as for a path without a route.

    Returns what the handler of `App.on_not_found` has returned: a coroutine handler awaits it.
    """
    res = exchange
    res._status, res._reason = 404, None
    fallback = res._runtime.fallbacks.get(404)
    if fallback is None:
        return refuse(res, request)
    return (fallback.handler if res._later else fallback.route.handler)(res, request)


def serve_fallback(exchange: Exchange, request: Any, status: int) -> None:
    """The same as `serve`, for a request that no route takes."""
    exchange._status = status
    serve(exchange, request)


def abort_all() -> None:
    """This is a forked child: the requests are the parent's to answer."""
    for exchange in (*exchanges.values(), *map(_current, runtimes.values())):
        if exchange is not None:
            exchange._aborted = True


def _current(runtime: Runtime) -> Exchange | None:
    """The exchange whose handler C is calling."""
    current: Exchange | None = current_response(runtime.bridge)
    return current


def context_of(exchange: Exchange) -> Context:
    """The context that the handlers of the request run in, and those of its socket."""
    return exchange._context


def set_socket(exchange: Exchange, socket: Any) -> Any:
    """The handshake was accepted; returns the user data for the WebSocket."""
    exchange._socket = socket
    return exchange._user_data


def request_of(exchange: Exchange) -> Facts:
    """What the client asked for."""
    return exchange._request


def after_open(exchange: Exchange, end: Callable[[], Any]) -> None:
    """The open handler has run; call `end` before C forgets the request of the handshake.

    That is now if the answer was deferred, otherwise when the upgrade handler has ended.
    """
    if exchange._deferred:
        end()
    else:
        exchange._before_release = end


# The next functions are for handlers that are coroutines.


def host_of(exchange: Exchange) -> Host:
    """The loop to run a coroutine handler in."""
    host = exchange._runtime.host
    assert host is not None
    return host


def set_stepper(exchange: Exchange, stepper: Any) -> None:
    """The handler is a coroutine, whose steps this Stepper runs."""
    exchange._later = stepper


def handler_returned(exchange: Exchange, handler: Any, result: Any) -> None:
    """A coroutine handler has returned something. Raises TypeError, as `returned` does."""
    returned(exchange._route, "upgrade" if exchange._upgrades else "", handler, result)


def handler_failed(exchange: Exchange, error: BaseException, handler: Any) -> None:
    """A coroutine handler has raised `error`."""
    exchange._handler_failed(error, handler)


def is_unanswered(exchange: Exchange) -> bool:
    """Whether a coroutine handler, which has ended, should have answered."""
    res = exchange
    return not (res._responded or res._aborted or res._is_waiting())


def report_unanswered(exchange: Exchange) -> None:
    """A handler has ended and should have answered: answer 500, or close with 1011."""
    pattern = exchange._route.pattern
    what = "end its answer" if exchange._has_begun() else "answer the request"
    logger.error("the handler of %s did not %s", pattern, what)
    exchange._fail()


# ---- for C --------------------------------------------------------------------------------------

ON_ABORTED = request_function(on_aborted)
ON_BODY = body_function(on_body)
ON_WRITABLE = request_function(on_writable)
