# SPDX-License-Identifier: MIT
"""Request heads as data, and the checks of their responses, for the cases of groups H and P and
some of S and T.

A case combines a function that makes the bytes of a request (`Make`) with one of the checks below.
"""

from __future__ import annotations

from typing import Callable, Mapping, Sequence, Union

from .. import wire
from ..case import Run, Test
from ..session import Session
from ..verdicts import Failed, Informational, Late, NonStrict, Skipped, Verdict, refusal
from ..wire import Connection, Ended, Garbled, Response, TimedOut

KEY = "dGhlIHNhbXBsZSBub25jZQ=="
"""The key of all requests here, from the example of RFC 6455 section 1.3."""
ACCEPT = "s3pPLMBiTxaQ9kYGzzhZRbK+xOo="
"""The Sec-WebSocket-Accept for it, from the same example."""

Change = Mapping[str, Union[str, Sequence[str], None]]
"""Changes of fields: None drops one, a string sets it, a list repeats it; new ones are last."""
Make = Callable[[Test], bytes]


# ---- making -------------------------------------------------------------------------------------


def edited(fields: wire.Fields, change: Change) -> list[tuple[str, str]]:
    values = {
        name.lower(): [] if value is None else [value] if isinstance(value, str) else list(value)
        for name, value in change.items()
    }
    result: list[tuple[str, str]] = []
    for name, value in [*fields, *((name, "") for name in change)]:
        if name.lower() in values:  # all values go where the first one was
            result += [(name, each) for each in values[name.lower()]]
            values[name.lower()] = []
        else:
            result.append((name, value))
    return result


def offered(test: Test) -> list[tuple[str, str]]:
    """Return the fields of a valid handshake with KEY, and those of the user."""
    return wire.upgrade_fields(test.settings.target, KEY)


def handshake(test: Test, change: Change = {}, **more: str) -> bytes:  # noqa: B006, read only
    """Return an opening handshake with KEY; `more` is `resource`, `method` or `version`."""
    return test.request(edited(offered(test), change), **more)


def plain(test: Test, change: Change = {}, **more: str) -> bytes:  # noqa: B006, read only
    """Return a request without Upgrade."""
    fields = [
        (name, value)
        for name, value in offered(test)
        if name.lower() not in ("upgrade", "connection") and name[:14].lower() != "sec-websocket-"
    ]
    return test.request(edited(fields, change), **more)


def changed(change: Change, **more: str) -> Make:
    """Return an opening handshake with changed fields."""
    return lambda test: handshake(test, change, **more)


def swapped(old: bytes, new: bytes, change: Change = {}) -> Make:  # noqa: B006, read only
    """Return a handshake with `old` replaced by `new` in its bytes, after `change`."""
    return lambda test: handshake(test, change).replace(old, new)


def with_line(line: bytes, change: Change = {}) -> Make:  # noqa: B006, read only
    """Return a handshake with these bytes as an additional line of the head."""
    return lambda test: handshake(test, change)[:-2] + line + b"\r\n\r\n"


def with_request_line(line: str) -> Make:
    """Return a handshake with another first line.

    In the line, {0} is the resource, {1} the authority, {2} the scheme, and {3} the scheme in
    uppercase.
    """

    def make(test: Test) -> bytes:
        target = test.settings.target
        scheme = "https" if target.tls else "http"
        first = line.format(target.resource, target.authority, scheme, scheme.upper())
        return first.encode("latin-1") + handshake(test)[len(f"GET {target.resource} HTTP/1.1") :]

    return make


# ---- responses ----------------------------------------------------------------------------------


def ask(test: Test, data: bytes) -> tuple[Connection, Response]:
    """Send a request on a new connection, and read the response head.

    Raises Failed if there is no response, and NonStrict if the server only ends the connection.
    """
    connection = test.connect()
    try:
        connection.send(data)
    except Ended:
        pass  # the server may have refused it early as too long
    return connection, answer(connection)


def ask_any(test: Test, data: bytes) -> tuple[Connection, Response]:
    """Do the same in a case about a forbidden response: NonStrict if there is no response."""
    try:
        return ask(test, data)
    except Late as error:
        raise NonStrict(str(error)) from None


def answer(connection: Connection) -> Response:
    """Read the head of the next response, see `ask`."""
    try:
        return connection.read_response()
    except Ended as error:
        came = bytes(connection.buffer)
        how = f"after {wire.shown(came)}" if came else "without one"
        raise NonStrict(f"expected an HTTP response, but {error} {how}") from None
    except TimedOut as error:
        raise Late(f"expected an HTTP response, but {error}") from None
    except Garbled as error:
        raise Failed(f"expected an HTTP response, but {error}") from None


def has_content(response: Response, method: str = "GET") -> bool:
    """Return whether a body may follow (RFC 9112 section 6.3)."""
    return method != "HEAD" and response.status >= 200 and response.status not in (204, 304)


def read_body(connection: Connection, response: Response, method: str = "GET") -> bytes:
    """Read a body by its framing (RFC 9112 section 6.3), or raise Skipped if it is incomplete."""
    try:
        return whole_body(connection, response, method)
    except Failed as error:
        raise Skipped(f"{error}; case P.8.1 tests that") from None


def whole_body(connection: Connection, response: Response, method: str = "GET") -> bytes:
    """Read a body in a case about its framing, or raise Failed."""
    try:
        if not has_content(response, method):
            return b""
        if (response.get("Transfer-Encoding") or "").lower() == "chunked":
            return read_chunks(connection)
        length = response.get("Content-Length")
        return connection.read(int(length)) if length is not None else read_to_end(connection)
    except (Ended, TimedOut, ValueError) as error:
        raise Failed(f"the body of the response is incomplete: {error}") from None


def read_line(connection: Connection) -> bytes:
    """Read a line without its CRLF."""
    line = b""
    while not line.endswith(b"\r\n"):
        line += connection.read(1)
    return line[:-2]


def read_chunks(connection: Connection) -> bytes:
    """Read a chunked body (RFC 9112 section 7.1)."""
    body = b""
    while True:
        size = int(read_line(connection).split(b";")[0], 16)
        if not size:
            break
        body += connection.read(size)
        read_line(connection)
    while read_line(connection):
        pass
    return body


def read_to_end(connection: Connection, timeout: float | None = None) -> bytes:
    """Read until the peer ends TCP, or raise TimedOut, Garbled, or Ended if it is reset."""
    deadline = connection.deadline(timeout)
    try:
        while True:
            connection.fill(deadline)
    except Ended as error:
        if error.reset:
            raise
    data = bytes(connection.buffer)
    connection.buffer.clear()
    return data


def tokens(response: Response, name: str) -> list[str]:
    """Return the elements of a list field in lowercase."""
    return [part.strip().lower() for part in (response.get(name) or "").split(",")]


def expect_error(response: Response, *statuses: int) -> None:
    """Require a 4xx or 5xx, or raise Failed, or NonStrict if it is not in `statuses`."""
    if response.status == 101:
        raise Failed("the handshake was accepted")
    if response.status < 400:
        raise Failed(f"expected an error status, but received {response.status}")
    if statuses and response.status not in statuses:
        wanted = " or ".join(map(str, statuses))
        raise NonStrict(f"expected {wanted}, but received {response.status}")


def expect_turned_down(response: Response, lax: str = "") -> None:
    """Raise Failed for a 101, or NonStrict with the reason `lax`, and NonStrict for other non-4xx.

    Any server may ignore Upgrade (RFC 9110 section 7.8) and answer as if it were absent, but then
    the client does not learn what is wrong.
    """
    if response.status == 101:
        text = "the handshake was accepted"
        raise NonStrict(f"{text}; {lax}") if lax else Failed(text)
    if not 400 <= response.status < 500:
        raise NonStrict(f"expected a 4xx status, but received {response.status}")


def expect_accepted(test: Test, data: bytes, key: str = KEY) -> Session:
    """Require that the opening handshake succeeded, or raise Failed."""
    connection, response = ask(test, data)
    if response.status != 101:
        raise refusal(response.status)
    if response.get("Sec-WebSocket-Accept") != wire.accept_value(key):
        raise Failed(f"Sec-WebSocket-Accept is not {wire.accept_value(key)}")
    return test.session(connection, response)


def expect_one_answer(
    test: Test,
    connection: Connection,
    response: Response,
    ends: bool = False,
    method: str = "GET",
) -> None:
    """Expect only the end of the connection after a response that closes it, or raise Failed.

    `ends` means that the case is about that end. In other cases, it counts separately.
    """
    read_body(connection, response, method)
    try:
        if not connection.buffer:
            connection.fill(connection.deadline())
    except Ended:
        return
    except TimedOut:
        if ends:
            raise Failed("the connection stays open after the response") from None
        test.close_fault(Verdict.FAILED, "the connection stays open after the response")
        return
    raise Failed(f"received more after the response: {wire.shown(bytes(connection.buffer))}")


def expect_served(test: Test) -> None:
    """Open another connection, expect an echo, and close it, or raise Failed."""
    session = test.open()
    session.send(session.message(b"others"))
    session.expect_message(b"others")
    session.close()


# ---- checks -------------------------------------------------------------------------------------


def accepted(make: Make, key: str = KEY) -> Run:
    """Expect that the handshake succeeds and the connection echoes."""

    def run(test: Test) -> None:
        session = expect_accepted(test, make(test), key)
        session.send(session.message(b"accepted"))
        session.expect_message(b"accepted")
        session.close()

    return run


def refused(make: Make, *statuses: int, closes: bool = False) -> Run:
    """Send invalid HTTP, and expect an error status and, if `closes` is set, the end of TCP."""

    def run(test: Test) -> None:
        connection, response = ask(test, make(test))
        if closes and response.status >= 400:
            expect_one_answer(test, connection, response)
        expect_error(response, *statuses)

    return run


def turned_down(make: Make, lax: str = "") -> Run:
    """Send valid HTTP that is not a valid handshake, see `expect_turned_down`."""

    def run(test: Test) -> None:
        expect_turned_down(ask(test, make(test))[1], lax)

    return run


def not_upgraded(make: Make, ends: bool = False) -> Run:
    """Expect any response except 101, because the request may count as a plain one.

    `ends` means that TCP must end then, and that the case is about this. Raises NonStrict if there
    is no response.
    """

    def run(test: Test) -> None:
        connection, response = ask_any(test, make(test))
        if response.status == 101:
            raise Failed("the handshake was accepted")
        if ends:
            expect_one_answer(test, connection, response, ends=True)

    return run


def left_open(make: Make, accepts: str, key: str = KEY) -> Run:
    """Expect a refusal, or raise Informational if the request is accepted."""

    def run(test: Test) -> None:
        connection, response = ask(test, make(test))
        if response.status != 101:
            return
        session = test.session(connection, response)
        if response.get("Sec-WebSocket-Accept") != wire.accept_value(key):
            raise Failed(f"Sec-WebSocket-Accept is not {wire.accept_value(key)}")
        session.send(session.message(b"accepted"))
        session.expect_message(b"accepted")
        raise Informational(accepts)

    return run


def may_be_refused(make: Make, key: str = KEY) -> Run:
    """Expect success, or raise Informational if the request is refused."""

    def run(test: Test) -> None:
        response = ask(test, make(test))[1]
        if response.status != 101:
            raise Informational(f"the server refuses it with {response.status}")
        if response.get("Sec-WebSocket-Accept") != wire.accept_value(key):
            raise Failed(f"Sec-WebSocket-Accept is not {wire.accept_value(key)}")

    return run


def is_silent(connection: Connection, seconds: float) -> bool:
    """Return whether nothing arrives in that time; received data stays in the buffer."""
    try:
        connection.fill(connection.deadline(seconds))
    except TimedOut:
        return True
    except Ended:
        pass
    return False


def ended(connection: Connection, seconds: float) -> bool:
    """Return whether the server ends TCP in that time, or raise Garbled if it sends too much."""
    deadline = connection.deadline(seconds)
    try:
        while True:
            connection.fill(deadline)
    except Ended:
        return True
    except TimedOut:
        return False
