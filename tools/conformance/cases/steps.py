# SPDX-License-Identifier: MIT
"""Building blocks of cases: frames as data, ways to deliver them, and complete bodies for tables of
similar cases.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Sequence

from ..case import Run, Test
from ..session import Session
from ..verdicts import Cut, Failed, Judged, NonStrict
from ..wire import CLOSE, PONG, TEXT

VALIDATED = "[10.7:] Incoming data MUST always be validated by both clients and servers."
"""Follows a rule for senders in a quote, and makes it a rule for receivers."""

BY_FRAME = 0
"""A way to deliver frames: one write for each. None is one write for all, n pieces of n bytes."""

HOW = {None: "in one write", BY_FRAME: "in one write for each frame", 1: "octet by octet"}


@dataclass(frozen=True)
class F:
    """A frame to send; see `wire.frame`."""

    payload: bytes = b""
    opcode: int = TEXT
    fin: bool = True
    rsv: int = 0
    length: int | None = None
    form: int | None = None

    def bytes(self, session: Session) -> bytes:
        return session.frame(
            self.payload,
            self.opcode,
            fin=self.fin,
            rsv=self.rsv,
            length=self.length,
            form=self.form,
        )


def deliver(session: Session, frames: Sequence[F], how: int | None = None) -> None:
    """Send frames in that way."""
    parts = [frame.bytes(session) for frame in frames]
    if how == BY_FRAME:
        for part in parts:
            session.send(part)
    else:
        session.send(b"".join(parts), how)


def text(length: int) -> bytes:
    """Return ASCII text in which a small shift is visible."""
    row = bytes(range(32, 127))
    return (row * (length // len(row) + 1))[:length]


def octets(length: int) -> bytes:
    """Return bytes that are not UTF-8."""
    row = bytes(range(250, -1, -1))
    return (row * (length // len(row) + 1))[:length]


def exchange(session: Session, messages: Sequence[tuple[bytes, int]]) -> None:
    """Send each message after the echo of the previous one, or raise Failed if an echo is wrong.

    If the peer is far away, several are in flight, so that the case ends in time.
    """
    ahead = 1 + int(session.test.settings.manners.round_trip / 0.01)
    for number in range(len(messages) + ahead - 1):
        if number < len(messages):
            session.send(session.message(*messages[number]))
        if number + 1 >= ahead:
            session.expect_message(*messages[number + 1 - ahead])


def expect_pong_and_echo(session: Session, ping: bytes, payload: bytes) -> None:
    """Expect a Pong, then the echo of a message that ended after the Ping, or raise Failed.

    Raises NonStrict for the other order, because RFC 6455 5.5.2 requires the answer "as soon as is
    practical".
    """
    session.pings.add(ping)  # it may have been built elsewhere
    frame = session.read("a Pong and an echo")
    late = frame.opcode != PONG
    if late:
        if session.read_rest(frame, "a Pong and an echo") != (TEXT, 0, payload):
            raise Failed(f"expected a Pong and an echo, but received {frame}")
        frame = session.read("a Pong")
    if (frame.opcode, frame.payload) != (PONG, ping):
        raise Failed(f"expected a Pong with {ping!r}, but received {frame}")
    if late:
        raise NonStrict("the Ping was answered after the message that ended later")
    session.expect_message(payload)


def expect_ended(session: Session) -> None:
    """Expect the end of TCP, perhaps after a Close, which is not answered, or raise Failed."""
    try:
        frame = session.read("the end of TCP")
        if frame.opcode != CLOSE:
            raise Failed(f"expected a Close or the end of TCP, but received {frame}")
        session.require_end()
    except Cut:
        pass


# ---- bodies of cases ----------------------------------------------------------------------------


def echoed(payload: bytes, opcode: int = TEXT, how: int | None = None, size: int = 0) -> Run:
    """Send a message, optionally in frames of `size` bytes, and expect its echo."""

    def run(test: Test) -> None:
        session = test.open()
        session.send(session.message(payload, opcode, size or None), how)
        session.expect_large(payload, opcode)
        session.close()

    return run


def joined(frames: Sequence[F], payload: bytes, opcode: int = TEXT, how: int | None = None) -> Run:
    """Send frames of one message, and expect only its echo."""

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, frames, how)
        session.expect_message(payload, opcode)
        session.close()

    return run


def failed(frames: Sequence[F], *codes: int, how: int | None = None) -> Run:
    """Send frames, and expect only that the connection fails with one of the codes."""

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, frames, how)
        session.expect_failure(*codes, refused=has_close(frames))

    return run


def has_close(frames: Sequence[F]) -> bool:
    return any(frame.opcode == CLOSE for frame in frames)


def failed_early(bad: F, waits: type[Judged], *codes: int, ahead: Sequence[F] = ()) -> Run:
    """Send a frame with a wrong header and without its payload, and expect a failure.

    A peer need not check the header first; if it waits, the verdict is `waits`.
    """

    def run(test: Test) -> None:
        session = test.open()
        with session.in_parts():
            deliver(session, [*ahead, bad])
            if not session.answers(0.4):
                raise waits("the server waits for the payload although the header is invalid")
            session.expect_failure(*codes, refused=has_close([bad]))

    return run


def failed_after(payload: bytes, frames: Sequence[F], *codes: int, how: int | None = None) -> Run:
    """Send frames that begin with a whole text message; expect its echo and then a failure.

    A failure before the echo counts only for a single write. Otherwise it depends on which thread
    of the peer is faster.
    """

    def run(test: Test) -> None:
        session = test.open()
        deliver(session, frames, how)
        session.expect_failure_after(payload, *codes, early_counts=how is None)

    return run
