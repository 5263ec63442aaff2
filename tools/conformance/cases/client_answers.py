# SPDX-License-Identifier: MIT
"""Responses to the opening handshake of a client as data, and the checks of the client's reaction,
for the cases of group C except C.1.

After a response that must be refused, a message is sent. A client that echoes it has accepted the
response: FAILED. A client that ends TCP, or fails the connection with a Close frame, has refused
it. A client that does neither is NON-STRICT: it does not use the connection, but RFC 6455 section
7.1.7 requires it to close the connection.
"""

from __future__ import annotations

import time
from typing import Any, Callable, Mapping, Sequence, Union

from .. import listen, wire
from ..case import MAY, MUST, Run, Test, add
from ..listen import ClientTest
from ..session import Session
from ..verdicts import Closed, Cut, Failed, Informational, Judged, NonStrict
from ..wire import CLOSE, TEXT, Connection, Ended, Garbled, TimedOut
from .client import OPENING, client

ACCEPT = "Sec-WebSocket-Accept"
CONFORM = (
    "If the server's response does not conform to the requirements for the server's handshake as "
    "defined in this section and in Section 4.2.2, the client MUST _Fail the WebSocket Connection_."
)
ESTABLISHED = (
    "If the server's response is validated as provided for above, it is said that _The WebSocket "
    "Connection is Established_ and that the WebSocket Connection is in the OPEN state."
)
EMPTY = "A recipient MUST parse and ignore a reasonable number of empty list elements"
FRAMES = "Incoming data MUST be parsed as WebSocket frames as defined in Section 5.2."
HELLO = b"Is anybody there?"
SWITCHING = "HTTP/1.1 101 Switching Protocols"
TAKEN = "the client accepts it and echoes a message"
REFUSED = "the client ends TCP or fails the connection, and echoes nothing"

Value = Union[None, str, Sequence[str], Callable[[str], Union[str, Sequence[str]]]]
Change = Mapping[str, Value]
"""Changes of the fields of a valid response: None drops one, a string sets it, a list repeats it, a
function makes it from Sec-WebSocket-Accept; new ones are last."""
Make = Callable[[ClientTest], bytes]


# ---- answers ------------------------------------------------------------------------------------


def head(change: Change = {}, line: str = SWITCHING) -> Make:  # noqa: B006, read only
    """Return a response with changed fields or another status line."""

    def make(test: ClientTest) -> bytes:
        good = dict(listen.answer(test.asked).fields)
        lines = [line]
        for name in [*good, *(name for name in change if name not in good)]:
            value = change[name] if name in change else good[name]
            if callable(value):
                value = value(good[ACCEPT])
            values = [] if value is None else [value] if isinstance(value, str) else value
            lines += [f"{name}: {each}" for each in values]
        return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")

    return make


def swapped(old: bytes, new: bytes) -> Make:
    """Return a valid response with `old` replaced by `new`."""
    return lambda test: head()(test).replace(old, new)


def behind(before: bytes) -> Make:
    """Return a valid response with these bytes before it."""
    return lambda test: before + head()(test)


def with_line(line: bytes) -> Make:
    """Return a valid response with these bytes as an additional line."""
    return lambda test: head()(test)[:-2] + line + b"\r\n\r\n"


def ready(test: Test) -> ClientTest:
    """Return the test if its client's handshake can be answered, or raise Skipped."""
    mine = client(test)
    mine.require_handshake()
    return mine


def plain(payload: bytes, opcode: int = TEXT, **more: Any) -> bytes:
    """Return a frame of a server."""
    return wire.frame(payload, opcode, key=None, **more)


# ---- reactions of a client ----------------------------------------------------------------------


def hello(test: ClientTest, session: Session) -> None:
    """Expect an echo, then close the connection, or raise Failed."""
    session.send(session.message(HELLO))
    session.expect_message(HELLO)
    session.close()


def taken(make: Make) -> Run:
    def run(test: Test) -> None:
        mine = ready(test)
        hello(mine, mine.accept(make(mine)))

    return run


def taken_or(other: type[Judged], make: Make, ended: type[Judged] | None = None) -> Run:
    """Expect acceptance; a refusal gets the verdict `kind`, and the end of TCP perhaps another."""

    def run(test: Test) -> None:
        try:
            taken(make)(test)
        except Failed as error:
            kind = ended if ended and isinstance(error, (Closed, Cut)) else other
            raise kind(f"the client does not accept this response: {error}") from None

    return run


def in_parts(parts: Callable[[bytes], Sequence[bytes]], pause: float) -> Run:
    """Send a valid response in these writes."""

    def run(test: Test) -> None:
        mine = ready(test)
        first, *others = parts(head()(mine))
        session = mine.accept(first)
        began = time.monotonic()
        while others:
            time.sleep(test.seconds(pause))
            if time.monotonic() - began > test.seconds(wire.HURRY):  # clients wait no longer
                others = [b"".join(others)]
            session.send(others.pop(0))
        hello(mine, session)

    return run


ENDED, OPEN, CLOSED, SILENT, AGAIN = "ended", "open", "closed", "silent", "again"


def reaction(test: ClientTest, answer: bytes) -> tuple[str, str]:
    """Return how a client reacts to a response, and a description.

    The message is sent twice, because losing a message after the response is a different fault.
    """
    connection = test.connections[0]
    message = plain(HELLO)
    try:
        test.respond(answer)
        connection.send(message)
        try:
            connection.fill(connection.deadline(test.seconds(0.4)))
        except TimedOut:
            connection.send(message)
            connection.fill(connection.deadline())
        return what_came(connection)
    except Ended as error:
        return ENDED, str(error)
    except TimedOut as error:
        return SILENT, str(error)
    except Garbled as error:
        return AGAIN, str(error)


def what_came(connection: Connection) -> tuple[str, str]:
    """Return how the client reacts to a message, or raise Ended or TimedOut."""
    if connection.buffer[:1].isalpha():  # no client frame begins like this
        return AGAIN, f"received {wire.shown(bytes(connection.buffer))}"
    frame = connection.read_frame()
    if frame.opcode == CLOSE:
        ordinary = frame.close_code in (None, 1000)
        return (CLOSED if ordinary else ENDED), f"received {frame}"
    return OPEN, f"received {frame}"


def refused(make: Make, taken: type[Judged] = Failed) -> Run:
    """Expect that the client fails the connection; otherwise the verdict is `taken`."""

    def run(test: Test) -> None:
        mine = ready(test)
        kind, came = reaction(mine, make(mine))
        if kind == OPEN:
            raise taken(f"the client accepts this response: {came}")
        if kind == CLOSED:
            raise Informational(f"the client echoes nothing, but closes normally: {came}")
        if kind == AGAIN:
            raise NonStrict(f"the client does not end TCP: {came}")
        if kind == SILENT:
            raise NonStrict(f"the client neither ends TCP nor echoes: {came}")

    return run


def not_opened(make: Make) -> Run:
    """Expect no WebSocket connection; HTTP may continue or end."""

    def run(test: Test) -> None:
        mine = ready(test)
        kind, came = reaction(mine, make(mine))
        if kind == OPEN:
            raise Failed(f"the client accepts this response: {came}")
        if kind == CLOSED:
            raise Informational(f"the client echoes nothing, but closes normally: {came}")

    return run


def left_open(make: Make) -> Run:
    """Allow both acceptance and refusal, and report which one it was."""

    def run(test: Test) -> None:
        mine = ready(test)
        kind, came = reaction(mine, make(mine))
        if kind == OPEN:
            raise Informational("the client accepts this response")
        raise Informational(f"the client refuses this response: {came}")

    return run


def put(
    id: str, quote: str, sends: str, run: Run, expects: str = REFUSED, level: str = MUST,
    section: str = OPENING,
) -> None:  # fmt: skip
    """Register a case."""
    add(id, section, level, quote, f"{sends}, followed by a message", expects, run, ["client"])


def open_question(id: str, section: str, quote: str, sends: str, make: Make) -> None:
    """Register a case that only reports the reaction."""
    put(id, quote, sends, left_open(make), f"{TAKEN}, or refuses it", MAY, section)
