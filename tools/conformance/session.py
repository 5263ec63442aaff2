# SPDX-License-Identifier: MIT
"""An open WebSocket connection to the peer, with which cases send, receive, and expect."""

from __future__ import annotations

import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Iterator

from . import wire
from .verdicts import Closed, Cut, Failed, Informational, Late, Limited, NonStrict, Verdict
from .wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Connection, Ended, Frame, TimedOut

if TYPE_CHECKING:
    from .case import Test

TAKEN = 16384
"""The message size in bytes that every server must accept; it may answer a larger one with 1009."""


class Session:
    """An open WebSocket connection to a peer that is expected to echo messages."""

    def __init__(self, test: Test, connection: Connection, response: wire.Response) -> None:
        self.test = test
        self.connection = connection
        self.response = response
        self.key = bytes(test.random.randrange(256) for _ in range(4))
        self.pings: set[bytes] = set()
        """Payloads of the Pings that were built here."""
        self.parts: list[Frame] = []
        """The frames of an incomplete message."""
        self.received = 0
        """Their size in bytes."""
        self.greetings: list[tuple[int, int, bytes]] = []
        """The messages that the peer sent first: opcode, RSV bits and payload."""
        self.kept: list[bytes] | None = None
        """Pongs to send after the parts of a frame, or None."""
        self.ahead: Frame | None = None
        """The frame that `read` returns next."""

    # ---- sending ----

    def send(self, data: bytes, pieces: int | None = None, pause: float = 0.0) -> None:
        """Send raw bytes; if the peer has ended TCP, the next read finds out."""
        try:
            self.connection.send(data, pieces, pause)
        except Ended:
            self.test.trace.note("the peer accepts no more data")

    def pour(self, data: bytes | memoryview, pieces: int = 65536) -> None:
        """Send much data while receiving, until the peer closes, or raise TimedOut or Garbled."""
        try:
            self.connection.pour(data, pieces)
        except Ended:
            self.test.trace.note("the peer accepts no more data")

    def frame(self, payload: bytes = b"", opcode: int = TEXT, **more: Any) -> bytes:
        """Build a masked frame, see `wire.frame`."""
        more.setdefault("key", self.key)
        return self.built(payload, opcode, **more)

    def built(self, payload: bytes, opcode: int, **more: Any) -> bytes:
        if opcode == PING and (payload or more.get("length") is None):
            self.pings.add(payload)
        return wire.frame(payload, opcode, **more)

    def message(
        self, payload: bytes, opcode: int = TEXT, size: int | None = None, rsv: int = 0
    ) -> bytes:
        """Build a message of frames with `size` bytes of payload (None: one frame).

        `rsv` sets the reserved bits of the first frame.
        """
        size = size or max(len(payload), 1)
        parts = [payload[i : i + size] for i in range(0, len(payload), size)] or [b""]
        return b"".join(
            self.frame(
                part, CONTINUATION if i else opcode, fin=i == len(parts) - 1, rsv=0 if i else rsv
            )
            for i, part in enumerate(parts)
        )

    # ---- receiving ----

    def read(self, wanted: str, timeout: float | None = None, every: bool = False) -> Frame:
        """Read the next message, Close, or Pong for a Ping (see `next`), or raise Failed."""
        try:
            return self.next(self.connection.deadline(timeout), every)
        except Ended as error:
            raise Cut(f"expected {wanted}, but {error}") from None
        except TimedOut as error:
            raise Late(f"expected {wanted}, but {error}") from None

    def next(self, deadline: float, every: bool = False) -> Frame:
        """Read the next message, Close or Pong, or raise Ended, TimedOut or Failed.

        A peer may send messages in fragments, with Pings and Pongs between them. Pings are
        answered. Unless `every` is set, unsolicited Pongs are skipped, because they "MAY be sent
        unsolicited" (RFC 6455 section 5.5.3).
        """
        frame, self.ahead = self.ahead, None
        while frame is None:
            left = deadline - time.monotonic()
            frame = self.connection.read_frame(max(left, 0.0))
            self.check(frame)
            if frame.opcode == PONG and (every or frame.payload in self.pings):
                return frame
            if frame.opcode in (PING, PONG):
                if left < 0:
                    raise TimedOut("received only Pings and Pongs in time")
                if frame.opcode == PING:
                    self.answer(self.frame(frame.payload, PONG))
                frame = None
            elif frame.opcode < CLOSE:
                frame = self.joined(frame)
                if frame is None and (left < 0 or self.received > self.test.trace.longest):
                    raise TimedOut("received a message that never ends")
        return frame

    def answer(self, pong: bytes) -> None:
        """Send a Pong, or keep it while the parts of a frame are sent."""
        if self.kept is None:
            self.send(pong)
        else:
            self.kept.append(pong)

    @contextmanager
    def in_parts(self) -> Iterator[None]:
        """Postpone Pongs while parts of frames are sent in the with block."""
        kept: list[bytes] = []
        self.kept = kept
        try:
            yield
        finally:
            self.kept = None
        for pong in kept:
            self.send(pong)

    def joined(self, frame: Frame) -> Frame | None:
        """Add a data frame and return the message if it is complete, else None, or raise Failed."""
        if (frame.opcode == CONTINUATION) != bool(self.parts):
            wanted = "the rest of a message" if self.parts else "a message"
            raise Failed(f"expected {wanted}, but received {frame}")
        self.parts.append(frame)
        self.received += len(frame.payload)
        if not frame.fin:
            return None
        parts, self.parts, self.received = self.parts, [], 0
        if len(parts) == 1:
            return frame
        return parts[0]._replace(fin=True, payload=b"".join(part.payload for part in parts))

    def check(self, frame: Frame) -> None:
        """Check the rules for every frame of a server (RFC 6455 sections 5.1, 5.2, 5.5)."""
        if frame.masked:
            raise Failed(f"the server masked a frame: {frame}")
        if not frame.minimal:
            raise Failed(f"the length of a frame is not minimally encoded: {frame}")
        if frame.rsv & 3 or (frame.rsv and frame.opcode not in (TEXT, BINARY)):
            raise Failed(f"reserved bits are set: {frame}")
        if frame.opcode >= CLOSE and (not frame.fin or len(frame.payload) > 125):
            raise Failed(f"a control frame is fragmented or too long: {frame}")
        if frame.opcode == CLOSE and not wire.is_close_payload(frame.payload):
            raise Closed(f"the Close frame is invalid: {frame}", frame.close_code)

    def comes(self, seconds: float | None = None) -> bool:
        """Return whether anything arrives or TCP ends within that time (default: an answer's)."""
        limit = None if seconds is None else self.test.seconds(seconds)
        try:
            if not self.connection.buffer:
                self.connection.fill(self.connection.deadline(limit))
        except TimedOut:
            self.test.waited = True
            return False
        except Ended:
            pass
        return True

    def answers(self, seconds: float | None = None) -> bool:
        """Return whether `read` returns anything within that time, or raise Failed."""
        limit = None if seconds is None else self.test.seconds(seconds)
        try:
            self.ahead = self.next(self.connection.deadline(limit))
        except TimedOut:
            self.test.waited = True
            return False
        except Ended:
            pass
        return True

    def read_but_pongs(self, wanted: str, timeout: float | None = None) -> Frame:
        """Read the next message or Close, or raise Failed."""
        deadline = self.connection.deadline(timeout)
        while True:
            frame = self.read(wanted, max(deadline - time.monotonic(), 0.0))
            if frame.opcode != PONG:
                return frame

    def read_message(self, wanted: str, timeout: float | None = None) -> tuple[int, int, bytes]:
        """Read opcode, RSV bits and payload of the next message, or raise Failed."""
        return self.read_rest(self.read_but_pongs(wanted, timeout), wanted, timeout)

    def read_rest(
        self, frame: Frame, wanted: str, timeout: float | None = None
    ) -> tuple[int, int, bytes]:
        """Read the rest of a message whose first frame has arrived, or raise Failed."""
        if frame.opcode == CLOSE:
            raise Closed(f"expected {wanted}, but received {frame}", frame.close_code)
        if frame.opcode not in (TEXT, BINARY):
            raise Failed(f"expected {wanted}, but received {frame}")
        if not frame.fin:
            self.joined(frame)
            frame = self.read_but_pongs(f"the rest of {wanted}", timeout)
            return self.read_rest(frame, wanted, timeout)
        return frame.opcode, frame.rsv, frame.payload

    def expect_message(
        self, payload: bytes, opcode: int = TEXT, timeout: float | None = None
    ) -> None:
        """Expect the uncompressed echo of a message, or raise Failed.

        For a message above TAKEN bytes: Informational if the server closes with 1009 instead, and
        Limited if it ends the connection in another way.
        """
        wanted = f"the echo of {wire.shown(payload)}"
        frame = self.read_large(wanted, len(payload), timeout)
        got, rsv, data = self.read_rest(frame, wanted, timeout)
        if (got, rsv, data) != (opcode, 0, payload):
            came = Frame(True, rsv, got, data)
            raise Failed(f"expected {wanted} with opcode {opcode}, but received {came}")

    def read_large(self, wanted: str, size: int, timeout: float | None = None) -> Frame:
        """Read the answer to a message of that size, or raise Failed, Informational or Limited.

        The answer may be a Close for a reason other than a limit.
        """
        try:
            frame = self.read_but_pongs(wanted, timeout)
        except Cut as error:
            if size > TAKEN:
                raise Limited(f"for a message of {size} bytes, {error}") from None
            raise
        self.allow_limit(frame, size)
        return frame

    def allow_limit(self, frame: Frame, size: int) -> None:
        """Check whether a Close answers a message of that size above TAKEN because of a limit.

        Raises Informational for 1009, and otherwise Limited, because the code is a SHOULD (RFC 6455
        section 7.1.7). Raises nothing for a code that means that the message is wrong.
        """
        if frame.opcode == CLOSE and is_refusable(size, frame.close_code):
            came = f"the server's limit is lower: it answered {size} bytes with {frame}"
            if frame.close_code == 1009:
                raise Informational(came)
            raise Limited(came, frame.close_code)

    def expect_large(self, payload: bytes, opcode: int = TEXT) -> None:
        """Expect an echo with a timeout for that many bytes."""
        self.expect_message(payload, opcode, self.test.timeout * (2 + len(payload) / 2**20))

    def expect_pong(self, payload: bytes = b"") -> None:
        """Expect this Pong, perhaps after ones that "MAY be sent unsolicited", or raise Failed."""
        wanted, other = f"a Pong with {wire.shown(payload)}", ""
        deadline = self.connection.deadline()
        while True:
            left = deadline - time.monotonic()
            frame = self.read(wanted + other, max(left, 0.0), every=True)
            if frame.opcode != PONG or left < 0:
                raise Failed(f"expected {wanted}, but received {frame}")
            if frame.payload == payload:
                return
            other = f" after {frame}"

    def expect_silence(self, seconds: float = 0.2) -> None:
        """Expect no message, no Pong for a Ping, and no end of the connection, or raise Failed."""
        try:
            frame = self.next(self.connection.deadline(self.test.seconds(seconds)))
        except TimedOut:
            return
        except Ended as error:
            raise Failed(f"expected nothing, but {error}") from None
        raise Failed(f"expected nothing, but received {frame}")

    # ---- closing ----

    def expect_failure(self, *codes: int, refused: bool = False) -> None:
        """Expect the peer to fail the connection (RFC 6455 section 7.1.7) with one of these codes.

        Raises Failed for a data frame. Raises NonStrict for another code, or if TCP ends without a
        Close frame, because the code is a SHOULD. `refused` means that the peer was sent a bad
        Close frame; then Failed is raised if it is answered like a valid one.
        """
        wanted = "the connection to be failed with " + " or ".join(map(str, codes))
        try:
            frame = self.next(self.connection.deadline())
            while frame.opcode == PONG and not frame.payload:  # perhaps unsolicited
                frame = self.next(self.connection.deadline())
        except TimedOut:
            raise Failed(f"expected {wanted}, but the connection stays open") from None
        except Ended as error:
            raise NonStrict(f"expected {wanted}, but {error} without a Close frame") from None
        if frame.opcode != CLOSE:
            raise Failed(f"expected {wanted}, but received {frame}")
        self.send(self.frame(frame.payload[:2], CLOSE))
        self.expect_end()
        code = frame.close_code
        if refused and self.is_ordinary(code):
            raise Failed(f"expected {wanted}, but {frame} answered the Close frame")
        if code not in codes:
            told = "without a code" if code is None else f"with {code}"
            raise NonStrict(f"expected {wanted}, but it closed {told}")

    def is_ordinary(self, code: int | None) -> bool:
        """Return whether a Close with this code shows that the peer accepted a Close as valid.

        1000, no code and the code of all its answers show that, unless the peer fails every
        connection with that code.
        """
        manners = self.test.settings.manners
        return code in (None, 1000, manners.close_code) and code != manners.failure_code

    def is_answer(self, code: int | None, sent: int | None = 1000) -> bool:
        """Return whether a Close with this code answers one with the code `sent`.

        An endpoint only "typically echos the status code" (RFC 6455 section 5.5.1). If the peer
        always answers with another code or none, only the cases about the code (7.3, 7.7) report
        that. But if it fails connections with the same code, every case does.
        """
        manners = self.test.settings.manners
        usual = code == manners.close_code and code != 1000
        return code == sent or (usual and (code is None or code != manners.failure_code))

    def expect_close(self, code: int | None, reason: bytes | None = None) -> None:
        """Expect a Close frame and the end of TCP, see `expect_end`, or raise Failed.

        Raises NonStrict for another code (None: no code), see `is_answer`, or another reason.
        """
        wanted = "a Close without a code" if code is None else f"a Close with {code}"
        frame = self.read_but_pongs(wanted)
        if frame.opcode != CLOSE:
            raise Failed(f"expected {wanted}, but received {frame}")
        self.expect_end()
        if not self.is_answer(frame.close_code, code):
            raise NonStrict(f"expected {wanted}, but received {frame}")
        if reason is not None and frame.payload[2:] != reason:
            raise NonStrict(f"expected the reason {wire.shown(reason)}, but received {frame}")

    def expect_failure_after(self, payload: bytes, *codes: int, early_counts: bool = True) -> None:
        """Expect the echo of a text message, and then the same as `expect_failure`.

        Raises NonStrict if the peer fails the connection before it echoes, unless that does not
        count.
        """
        wanted = f"the echo of {wire.shown(payload)}"
        try:
            frame = self.read_but_pongs(wanted)
        except Cut:
            return self.expect_failure(*codes)
        early = frame.opcode == CLOSE
        if early:
            self.ahead = frame
        elif (frame.opcode, frame.rsv, frame.payload) != (TEXT, 0, payload):
            raise Failed(f"expected {wanted}, but received {frame}")
        self.expect_failure(*codes)
        if early and early_counts:
            raise NonStrict("the connection was failed before the preceding message was echoed")

    def expect_end(self) -> None:
        """Expect the server to end TCP first (RFC 6455 section 7.1.1), or raise Failed.

        Leaving TCP open does not affect the verdict of this case: see `Test.closing`.
        """
        try:
            self.require_end(self.close_timeout)
        except Late as error:
            self.test.close_fault(Verdict.FAILED, str(error))

    @property
    def close_timeout(self) -> float | None:
        """Return a short timeout if an earlier connection did not end, else None.

        Cases may open dozens of connections.
        """
        failed = self.test.closing[0] == Verdict.FAILED
        return self.test.seconds(0.1) if failed else None

    def require_end(self, timeout: float | None = None) -> None:
        """Expect the end of TCP in a case about it, or raise Failed, or Late if it stays open."""
        if self.connection.at_end(timeout):
            return
        if self.connection.buffer:
            more = wire.shown(bytes(self.connection.buffer))
            raise Failed(f"expected the end of TCP after the Close, but received {more}")
        raise Late("the server does not end TCP after the closing handshake")

    def close(self, code: int | None = 1000, reason: bytes = b"") -> None:
        """Perform the closing handshake at the end of a case about something else.

        Raises Failed if something other than a Close arrives, and NonStrict for a Close that does
        not answer this one. A missing Close does not affect the verdict: see `Test.closing`.
        """
        self.send(self.frame(wire.close_payload(code, reason), CLOSE))
        try:
            frame = self.read_but_pongs("a Close", self.close_timeout)
        except (Closed, Cut, Late) as error:
            return self.test.close_fault(Verdict.FAILED, str(error))
        if frame.opcode != CLOSE:
            raise Failed(f"expected a Close, but received {frame}")
        self.expect_end()
        if self.is_answer(frame.close_code, code):
            return
        if frame.close_code not in (None, self.test.settings.manners.close_code):
            raise NonStrict(f"expected a Close with {code}, but received {frame}")
        self.test.close_fault(Verdict.NON_STRICT, f"a Close with {code} got {frame}")

    def require_close(self, code: int | None = 1000, reason: bytes = b"") -> None:
        """Perform the closing handshake in a case about it, or raise Failed or NonStrict."""
        self.send(self.frame(wire.close_payload(code, reason), CLOSE))
        self.expect_close(code)


def is_refusable(size: int, code: int | None) -> bool:
    """Return whether a Close with this code can mean that a message of that size is too large."""
    return size > TAKEN and code not in (1002, 1003, 1007)
