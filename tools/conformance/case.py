"""What a case is, and what it can do: the registry, the verdicts, and the two objects that a case
works with, `Test` (one run of it) and `Session` (an open WebSocket connection to the peer).

A case is a function below a `@case(...)` line. It sends, and calls `expect_...`; what is not as
expected raises `Failed`, and the level of the requirement decides what that means. To add a case,
write one more such function in the file of its group; for a row of like cases call `add` in a loop.
"""

from __future__ import annotations

import enum
import random
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Callable, Iterator, Sequence

from . import wire
from .wire import BINARY, CLOSE, CONTINUATION, PING, PONG, TEXT, Connection, Ended, Frame, TimedOut

MUST, SHOULD, MAY = "MUST", "SHOULD", "MAY"
TAKEN = 16384
"""Bytes of a message that every server is expected to take; for more it may answer 1009."""


class Verdict(str, enum.Enum):
    """Of one case."""

    OK = "OK"
    NON_STRICT = "NON-STRICT"
    """A SHOULD was not followed, or a rule was kept in a way that the RFC discourages."""
    INFORMATIONAL = "INFORMATIONAL"
    """The RFC leaves it open; what came is told."""
    FAILED = "FAILED"
    """A MUST was broken."""
    UNIMPLEMENTED = "UNIMPLEMENTED"
    """The peer does not offer what the case is about (an extension)."""
    SKIPPED = "SKIPPED"
    """It could not be judged, or was not asked for."""


class Judged(Exception):
    """Ends a case with this verdict; its text tells what came."""

    verdict = Verdict.OK


class Failed(Judged):
    """What the case is about was not as it must be: FAILED, or by its level less."""

    verdict = Verdict.FAILED


class Closed(Failed):
    """A Close frame came instead."""

    def __init__(self, text: str, code: int | None) -> None:
        super().__init__(text)
        self.code = code


class Cut(Failed):
    """TCP ended instead."""


class Late(Failed):
    """Nothing came instead, for too long."""


class Refused(Failed):
    """The opening handshake was answered with another status than 101."""

    def __init__(self, status: int) -> None:
        super().__init__(f"the opening handshake was answered with {status}")
        self.status = status


class NonStrict(Judged):
    verdict = Verdict.NON_STRICT


class Informational(Judged):
    verdict = Verdict.INFORMATIONAL


class Limited(NonStrict):
    """A message may be beyond a limit of the peer: a Close with another code than 1009, or none."""

    def __init__(self, text: str, code: int | None = None) -> None:
        super().__init__(text)
        self.code = code


class Unimplemented(Judged):
    verdict = Verdict.UNIMPLEMENTED


class Skipped(Judged):
    verdict = Verdict.SKIPPED


Run = Callable[["Test"], None]


@dataclass(frozen=True)
class Case:
    """One requirement, put to the test in one way."""

    id: str
    """Where the established suite has the same case, by the same number."""
    section: str
    """"RFC 6455 5.5.2"."""
    level: str
    """MUST, SHOULD or MAY: what a `Failed` means."""
    quote: str
    """The requirement in the RFC's words. What is of another section begins with its number, as in
    "[10.7:] Incoming data ..."."""
    sends: str
    expects: str
    run: Run
    tags: frozenset[str] = frozenset()
    """"limits": large amounts of data; "slow": waits for a timeout of the peer's; "several": needs
    more than one connection at a time; "alone": measures; "deflate": needs permessage-deflate."""

    @property
    def group(self) -> str:
        return self.id.split(".")[0]


CASES: dict[str, Case] = {}


def add(
    id: str,
    section: str,
    level: str,
    quote: str,
    sends: str,
    expects: str,
    run: Run,
    tags: Sequence[str] = (),
) -> None:
    """Register a case. ValueError: the id is taken."""
    if id in CASES:
        raise ValueError(f"case {id} exists already")
    CASES[id] = Case(id, section, level, quote, sends, expects, run, frozenset(tags))


def case(
    id: str,
    section: str,
    level: str,
    quote: str,
    sends: str,
    expects: str,
    tags: Sequence[str] = (),
) -> Callable[[Run], Run]:
    """The same as a decorator."""

    def register(run: Run) -> Run:
        add(id, section, level, quote, sends, expects, run, tags)
        return run

    return register


def natural(id: str) -> tuple[Any, ...]:
    """Key that sorts ids as people do: numbers by value, letters after them."""
    parts = []
    for part in id.split("."):
        digits = "".join(c for c in part if c.isdigit())
        letters = "".join(c for c in part if not c.isdigit())
        parts.append((letters != "", letters, int(digits or 0)))
    return tuple(parts)


# ---- one run of a case --------------------------------------------------------------------------

ONE_CONNECTION = "the server serves one connection at a time"
ROUND_TRIPS = 200  # that a case may need besides its limit of seconds
WORSE = (Verdict.OK, Verdict.NON_STRICT, Verdict.FAILED)


@dataclass(frozen=True)
class Manners:
    """What a peer does that is its own affair, and that cases have to know: see `probe.learn`."""

    round_trip: float = 0.0
    """Seconds from a message to its echo, where that takes long enough to matter."""
    greetings: int = 0
    """Messages that come without being asked for once a connection is open."""
    failure_code: int | None = 1002
    """Of the Close frame by which it fails a connection; None: such Closes have no code."""
    one_connection: bool = False
    """Another connection is served only when the one before is over."""


@dataclass
class Settings:
    """What holds for all cases of a run."""

    target: wire.Target
    timeout: float = 2.0
    """Seconds for an answer that is due at once."""
    scale: float = 1.0
    """Of all times, for slow devices (--timeout-scale)."""
    seed: int = 1
    limit: float = 30.0
    """Seconds for a whole case: no flood of the peer's makes it any longer."""
    full: bool = False
    """As many messages in groups 12 and 13 as the Autobahn suite sends (--full)."""
    manners: Manners = field(default_factory=Manners)


@dataclass
class Test:
    """One run of one case: makes connections, and closes them at the end."""

    settings: Settings
    case: Case
    trace: wire.Trace = field(default_factory=wire.Trace)
    connections: list[Connection] = field(default_factory=list)
    lax: str = ""
    """What makes the case NON-STRICT even if it goes on to its end."""
    closing: tuple[Verdict, str] = (Verdict.OK, "")
    """How its connections were closed, which is a verdict of its own."""
    patience: float = 1.0
    """Of `timeout`: more for a case that opens so many connections that a busy server is late."""

    def __post_init__(self) -> None:
        # The same numbers in every run of the same case, whatever the others do.
        self.random = random.Random(f"{self.settings.seed}/{self.case.id}")
        limit = self.settings.limit * self.settings.scale
        limit += ROUND_TRIPS * self.settings.manners.round_trip
        self.trace.deadline = self.trace.began + limit
        self.trace.secrets = self.settings.target.secrets
        if "limits" not in self.case.tags:  # of those only few run at a time
            self.trace.longest = 4 << 20

    @property
    def timeout(self) -> float:
        """Seconds for an answer: what is asked for and its answer may need a round trip each, and
        so may TCP itself."""
        value = self.settings.timeout * self.settings.scale * self.patience
        return value + 3 * self.settings.manners.round_trip

    def seconds(self, value: float) -> float:
        """A time of so many seconds with a peer that is near, and quick."""
        return value * self.settings.scale + 2 * self.settings.manners.round_trip

    def pause(self, seconds: float) -> None:
        """Do nothing, so that what is sent comes apart; that needs no more time far away."""
        time.sleep(seconds * self.settings.scale)

    def connect(self) -> Connection:
        """TCP, nothing sent yet. OSError; Skipped when the peer would not serve it yet."""
        if self.settings.manners.one_connection:
            for connection in self.connections:
                if connection.over:  # the peer may wait for this side's end, too
                    connection.close()
            if any(connection.is_open for connection in self.connections):
                raise Skipped(ONE_CONNECTION)
        connection = Connection(self.settings.target, self.timeout, self.trace)
        self.connections.append(connection)
        return connection

    def session(self, connection: Connection, response: wire.Response) -> Session:
        """For a connection that has been opened by hand. Failed."""
        session = Session(self, connection, response)
        for number in range(self.settings.manners.greetings):
            session.greetings.append(session.read_message(f"greeting {number + 1} of the server"))
        return session

    def close_fault(self, verdict: Verdict, came: str) -> None:
        """What is wrong with how a connection is closed, in a case about something else."""
        if WORSE.index(verdict) > WORSE.index(self.closing[0]):
            self.closing = verdict, came

    def request(self, fields: wire.Fields, **more: Any) -> bytes:
        """A request head to the target's resource."""
        return wire.request(more.pop("resource", self.settings.target.resource), fields, **more)

    def open(
        self,
        extensions: str | None = None,
        fields: wire.Fields = (),
        pieces: int | None = None,
        ahead: bytes = b"",
    ) -> Session:
        """Do the opening handshake (RFC 6455 section 4). Failed.

        ahead: frames that travel together with the request.
        """
        connection = self.connect()
        key = wire.random_key(self.random)
        sent = wire.upgrade_fields(self.settings.target, key) + list(fields)
        if extensions is not None:
            sent.append(("Sec-WebSocket-Extensions", extensions))
        connection.send(self.request(sent) + ahead, pieces)
        response = self.expect_response(connection)
        if response.status != 101:
            raise Refused(response.status)
        if response.get("Sec-WebSocket-Accept") != wire.accept_value(key):
            raise Failed("Sec-WebSocket-Accept does not fit the key")
        return self.session(connection, response)

    def expect_response(self, connection: Connection) -> wire.Response:
        """A response head. Failed; Cut when TCP ends instead."""
        try:
            return connection.read_response()
        except (Ended, TimedOut, wire.Garbled) as error:
            kind = Cut if isinstance(error, Ended) else Failed
            raise kind(f"expected an HTTP response, but {error}") from None

    def finish(self) -> None:
        for connection in self.connections:
            connection.close()


class Session:
    """An open WebSocket connection. The peer is expected to echo messages."""

    def __init__(self, test: Test, connection: Connection, response: wire.Response) -> None:
        self.test = test
        self.connection = connection
        self.response = response
        self.key = bytes(test.random.randrange(256) for _ in range(4))
        self.pings: set[bytes] = set()
        """Payloads of those that were made here."""
        self.parts: list[Frame] = []
        """Of a message that has not come to its end."""
        self.received = 0
        """Bytes of that."""
        self.greetings: list[tuple[int, int, bytes]] = []
        """What came unasked at the beginning: opcode, RSV bits and payload."""
        self.kept: list[bytes] | None = None
        """Pongs, while what is sent are parts of frames."""
        self.ahead: Frame | None = None
        """What `read` returns next."""

    # ---- sending ----

    def send(self, data: bytes, pieces: int | None = None, pause: float = 0.0) -> None:
        """Bytes as they are. A peer that has ended already is found out when it is listened to."""
        try:
            self.connection.send(data, pieces, pause)
        except Ended:
            self.test.trace.note("the peer takes no more")

    def pour(self, data: bytes | memoryview, pieces: int = 65536) -> None:
        """Send much, and receive meanwhile; ends early when the peer closes. TimedOut, Garbled."""
        try:
            self.connection.pour(data, pieces)
        except Ended:
            self.test.trace.note("the peer takes no more")

    def frame(self, payload: bytes = b"", opcode: int = TEXT, **more: Any) -> bytes:
        """A masked frame, see `wire.frame`."""
        more.setdefault("key", self.key)
        return self.built(payload, opcode, **more)

    def built(self, payload: bytes, opcode: int, **more: Any) -> bytes:
        if opcode == PING and (payload or more.get("length") is None):
            self.pings.add(payload)
        return wire.frame(payload, opcode, **more)

    def message(
        self, payload: bytes, opcode: int = TEXT, size: int | None = None, rsv: int = 0
    ) -> bytes:
        """A message in frames of `size` bytes of payload; None: one frame. rsv: of the first."""
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
        """The next message, in one frame, or Close, or Pong for a Ping; see `next`. Failed."""
        try:
            return self.next(self.connection.deadline(timeout), every)
        except Ended as error:
            raise Cut(f"expected {wanted}, but {error}") from None
        except TimedOut as error:
            raise Late(f"expected {wanted}, but {error}") from None

    def next(self, deadline: float, every: bool = False) -> Frame:
        """The same. Ended, TimedOut; Failed when a frame is not as it must be.

        A peer may send messages in fragments, as it receives them perhaps, with Pings and Pongs
        between them. Pings are answered. Pongs for nothing are left out but with `every`: they
        "MAY be sent unsolicited" (RFC 6455 section 5.5.3).
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
                    raise TimedOut("only Pings and Pongs came in time")
                if frame.opcode == PING:
                    self.answer(self.frame(frame.payload, PONG))
                frame = None
            elif frame.opcode < CLOSE:
                frame = self.joined(frame)
                if frame is None and (left < 0 or self.received > self.test.trace.longest):
                    raise TimedOut("a message came that never ends")
        return frame

    def answer(self, pong: bytes) -> None:
        """Send a Pong, or keep it while a frame is sent in parts."""
        if self.kept is None:
            self.send(pong)
        else:
            self.kept.append(pong)

    @contextmanager
    def in_parts(self) -> Iterator[None]:
        """What is sent meanwhile are parts of frames: Pings are answered when that is over."""
        kept: list[bytes] = []
        self.kept = kept
        try:
            yield
        finally:
            self.kept = None
        for pong in kept:
            self.send(pong)

    def joined(self, frame: Frame) -> Frame | None:
        """A data frame, put together with those before it; None: the message goes on. Failed."""
        if (frame.opcode == CONTINUATION) != bool(self.parts):
            wanted = "the rest of a message" if self.parts else "a message"
            raise Failed(f"expected {wanted}, but {frame} came")
        self.parts.append(frame)
        self.received += len(frame.payload)
        if not frame.fin:
            return None
        parts, self.parts, self.received = self.parts, [], 0
        if len(parts) == 1:
            return frame
        return parts[0]._replace(fin=True, payload=b"".join(part.payload for part in parts))

    def check(self, frame: Frame) -> None:
        """What holds for every frame of a server (RFC 6455 sections 5.1, 5.2, 5.5)."""
        if frame.masked:
            raise Failed(f"the server masked a frame: {frame}")
        if not frame.minimal:
            raise Failed(f"the length of a frame is not in its shortest form: {frame}")
        if frame.rsv & 3 or (frame.rsv and frame.opcode not in (TEXT, BINARY)):
            raise Failed(f"reserved bits are set: {frame}")
        if frame.opcode >= CLOSE and (not frame.fin or len(frame.payload) > 125):
            raise Failed(f"a control frame is fragmented or too long: {frame}")
        if frame.opcode == CLOSE and not wire.is_close_payload(frame.payload):
            raise Closed(f"no endpoint may send such a Close frame: {frame}", frame.close_code)

    def comes(self, seconds: float | None = None) -> bool:
        """Whether anything comes, or TCP ends, within that time, or that of an answer."""
        limit = None if seconds is None else self.test.seconds(seconds)
        try:
            if not self.connection.buffer:
                self.connection.fill(self.connection.deadline(limit))
        except TimedOut:
            return False
        except Ended:
            pass
        return True

    def answers(self, seconds: float | None = None) -> bool:
        """The same of what `read` returns. Failed."""
        limit = None if seconds is None else self.test.seconds(seconds)
        try:
            self.ahead = self.next(self.connection.deadline(limit))
        except TimedOut:
            return False
        except Ended:
            pass
        return True

    def read_but_pongs(self, wanted: str, timeout: float | None = None) -> Frame:
        """The next message or Close. Failed."""
        deadline = self.connection.deadline(timeout)
        while True:
            frame = self.read(wanted, max(deadline - time.monotonic(), 0.0))
            if frame.opcode != PONG:
                return frame

    def read_message(self, wanted: str, timeout: float | None = None) -> tuple[int, int, bytes]:
        """Opcode, RSV bits and payload of the next message, put together. Failed."""
        return self.read_rest(self.read_but_pongs(wanted, timeout), wanted, timeout)

    def read_rest(
        self, frame: Frame, wanted: str, timeout: float | None = None
    ) -> tuple[int, int, bytes]:
        """The same of a message whose first frame has come."""
        if frame.opcode == CLOSE:
            raise Closed(f"expected {wanted}, but {frame} came", frame.close_code)
        if frame.opcode not in (TEXT, BINARY):
            raise Failed(f"expected {wanted}, but {frame} came")
        if not frame.fin:
            self.joined(frame)
            frame = self.read_but_pongs(f"the rest of {wanted}", timeout)
            return self.read_rest(frame, wanted, timeout)
        return frame.opcode, frame.rsv, frame.payload

    def expect_message(
        self, payload: bytes, opcode: int = TEXT, timeout: float | None = None
    ) -> None:
        """The echo of a message, uncompressed. Failed.

        Of one above TAKEN bytes: Informational when the server closes with 1009 instead, Limited
        when it ends the connection in another way.
        """
        wanted = f"the echo of {wire.shown(payload)}"
        frame = self.read_large(wanted, len(payload), timeout)
        got, rsv, data = self.read_rest(frame, wanted, timeout)
        if (got, rsv, data) != (opcode, 0, payload):
            came = Frame(True, rsv, got, data)
            raise Failed(f"expected {wanted} with opcode {opcode}, but {came} came")

    def read_large(self, wanted: str, size: int, timeout: float | None = None) -> Frame:
        """The answer to a message of that size, perhaps a Close of another kind than of a limit.

        Failed, Informational, Limited.
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
        """Whether a message of that size, above TAKEN, is answered with a Close.

        Informational with 1009, else Limited: the code is a SHOULD (RFC 6455 section 7.1.7). But
        not with a code that says that the message is wrong.
        """
        if frame.opcode == CLOSE and is_refusable(size, frame.close_code):
            came = f"the server's limit is lower: {size} bytes brought {frame}"
            if frame.close_code == 1009:
                raise Informational(came)
            raise Limited(came, frame.close_code)

    def expect_large(self, payload: bytes, opcode: int = TEXT) -> None:
        """The same with as much time as many bytes need."""
        self.expect_message(payload, opcode, self.test.timeout * (2 + len(payload) / 2**20))

    def expect_pong(self, payload: bytes = b"") -> None:
        """Failed unless this Pong comes next, but for others that "MAY be sent unsolicited"."""
        wanted, other = f"a Pong with {wire.shown(payload)}", ""
        deadline = self.connection.deadline()
        while True:
            left = deadline - time.monotonic()
            frame = self.read(wanted + other, max(left, 0.0), every=True)
            if frame.opcode != PONG or left < 0:
                raise Failed(f"expected {wanted}, but {frame} came")
            if frame.payload == payload:
                return
            other = f" after {frame}"

    def expect_silence(self, seconds: float = 0.2) -> None:
        """Failed when a whole message comes, or a Pong for a Ping, or the connection ends."""
        try:
            frame = self.next(self.connection.deadline(self.test.seconds(seconds)))
        except TimedOut:
            return
        except Ended as error:
            raise Failed(f"expected nothing, but {error}") from None
        raise Failed(f"expected nothing, but {frame} came")

    # ---- closing ----

    def expect_failure(self, *codes: int, refused: bool = False) -> None:
        """The peer fails the connection (RFC 6455 section 7.1.7) with one of these codes.

        What it sent before stays in the buffer's order: a data frame now is Failed. Another code,
        or TCP that ends without a Close frame, is NonStrict: the code is a SHOULD there.
        refused: for a Close frame; that it is answered as if it were a proper one is Failed.
        """
        wanted = "the connection to be failed with " + " or ".join(map(str, codes))
        try:
            frame = self.next(self.connection.deadline())
            while frame.opcode == PONG and not frame.payload:  # perhaps one for nothing
                frame = self.next(self.connection.deadline())
        except TimedOut:
            raise Failed(f"expected {wanted}, but the connection stays open") from None
        except Ended as error:
            raise NonStrict(f"expected {wanted}, but {error} without a Close frame") from None
        if frame.opcode != CLOSE:
            raise Failed(f"expected {wanted}, but {frame} came")
        self.send(self.frame(frame.payload[:2], CLOSE))
        self.expect_end()
        code = frame.close_code
        if refused and self.is_ordinary(code):
            raise Failed(f"expected {wanted}, but {frame} answered the Close frame")
        if code not in codes:
            told = "without a code" if code is None else f"with {code}"
            raise NonStrict(f"expected {wanted}, but it closed {told}")

    def is_ordinary(self, code: int | None) -> bool:
        """Whether a Close with this code tells that the peer took a Close for a proper one: with
        1000 or none it does, but from a peer that fails every connection with just that code."""
        return code in (None, 1000) and code != self.test.settings.manners.failure_code

    def expect_close(self, code: int | None, reason: bytes | None = None) -> None:
        """A Close frame; then TCP ends, see `expect_end`. Failed.

        With another code than this (None: without one), or another reason, it is NonStrict: an
        endpoint "typically echos the status code" (RFC 6455 section 5.5.1), and no more.
        """
        wanted = "a Close without a code" if code is None else f"a Close with {code}"
        frame = self.read_but_pongs(wanted)
        if frame.opcode != CLOSE:
            raise Failed(f"expected {wanted}, but {frame} came")
        self.expect_end()
        if frame.close_code != code:
            raise NonStrict(f"expected {wanted}, but {frame} came")
        if reason is not None and frame.payload[2:] != reason:
            raise NonStrict(f"expected the reason {wire.shown(reason)}, but {frame} came")

    def expect_failure_after(self, payload: bytes, *codes: int, early_counts: bool = True) -> None:
        """The echo of a text message, then the same as `expect_failure`.

        NonStrict when the peer fails the connection before it has echoed, unless that does not
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
            raise Failed(f"expected {wanted}, but {frame} came")
        self.expect_failure(*codes)
        if early and early_counts:
            raise NonStrict("the connection was failed before the message ahead was echoed")

    def expect_end(self) -> None:
        """The server ends TCP first (RFC 6455 section 7.1.1). Failed when more comes instead; that
        it leaves TCP open is no matter of this case: see `Test.closing`."""
        try:
            self.require_end(self.close_timeout)
        except Late as error:
            self.test.close_fault(Verdict.FAILED, str(error))

    @property
    def close_timeout(self) -> float | None:
        """Seconds for an end that did not come before; else None. Cases may open connections by
        the dozen."""
        failed = self.test.closing[0] == Verdict.FAILED
        return self.test.seconds(0.1) if failed else None

    def require_end(self, timeout: float | None = None) -> None:
        """The same in a case that is about it: `Late` when TCP stays open. Failed."""
        if self.connection.at_end(timeout):
            return
        if self.connection.buffer:
            more = wire.shown(bytes(self.connection.buffer))
            raise Failed(f"expected the end of TCP after the Close, but {more} came")
        raise Late("the server does not end TCP after the closing handshake")

    def close(self, code: int | None = 1000, reason: bytes = b"") -> None:
        """The closing handshake at the end of a case about something else.

        Failed when something else than a Close comes, NonStrict when one comes that is no answer to
        this. That none comes is no matter of this case: see `Test.closing`.
        """
        self.send(self.frame(wire.close_payload(code, reason), CLOSE))
        try:
            frame = self.read_but_pongs("a Close", self.close_timeout)
        except (Closed, Cut, Late) as error:
            return self.test.close_fault(Verdict.FAILED, str(error))
        if frame.opcode != CLOSE:
            raise Failed(f"expected a Close, but {frame} came")
        self.expect_end()
        if frame.close_code not in (code, None):
            raise NonStrict(f"expected a Close with {code}, but {frame} came")
        if frame.close_code != code:
            self.test.close_fault(Verdict.NON_STRICT, f"a Close with {code} brought {frame}")

    def require_close(self, code: int | None = 1000, reason: bytes = b"") -> None:
        """The same in a case that is about it. Failed; NonStrict for another code."""
        self.send(self.frame(wire.close_payload(code, reason), CLOSE))
        self.expect_close(code)


def is_refusable(size: int, code: int | None) -> bool:
    """Whether a Close with this code may be meant for a message of that size as too large."""
    return size > TAKEN and code not in (1002, 1003, 1007)


# ---- judging ------------------------------------------------------------------------------------


@dataclass
class Result:
    """What became of a case."""

    case: Case
    verdict: Verdict
    came: str
    """What came, where that was not as expected."""
    seconds: float
    trace: wire.Trace
    close: Verdict = Verdict.OK
    """How the connections of the case were closed, where the case is about something else."""
    close_came: str = ""
    flaky: tuple[Verdict, ...] = ()
    """The verdicts of all runs of the case, when they differ (--retry)."""
    late: bool = False
    """What was waited for did not come in time; other cases may have kept the peer busy."""


_BY_LEVEL = {MUST: Verdict.FAILED, SHOULD: Verdict.NON_STRICT, MAY: Verdict.INFORMATIONAL}


def run(case: Case, settings: Settings) -> Result:
    """Run one case. Every exception but KeyboardInterrupt becomes a verdict."""
    if settings.manners.one_connection and "several" in case.tags:
        return Result(case, Verdict.SKIPPED, ONE_CONNECTION, 0.0, wire.Trace())
    return judge(Test(settings, case))


def judge(test: Test) -> Result:
    """The same with a Test that is there already."""
    case, settings = test.case, test.settings
    verdict, came, late = Verdict.OK, "", False
    try:
        case.run(test)
    except Failed as error:
        verdict, came = _BY_LEVEL[case.level], str(error)
        late = isinstance(error, Late) or isinstance(error.__context__, TimedOut)
    except Judged as error:
        verdict, came = error.verdict, str(error)
    except (Ended, TimedOut, wire.Garbled) as error:
        verdict, came = _BY_LEVEL[case.level], str(error)
        late = isinstance(error, TimedOut)
    except OSError as error:
        verdict, came = Verdict.SKIPPED, f"cannot connect to {settings.target}: {error}"
    except Exception as error:  # a fault of the case itself must not end the run
        verdict, came = Verdict.SKIPPED, f"the case broke: {type(error).__name__}: {error}"
    finally:
        test.finish()
    if test.lax and verdict in (Verdict.OK, Verdict.INFORMATIONAL):
        verdict, came = Verdict.NON_STRICT, "; ".join(filter(None, (test.lax, came)))
    seconds = time.monotonic() - test.trace.began
    close, close_came = test.closing
    told = came or test.trace.last()
    late = late or close == Verdict.FAILED
    return Result(case, verdict, told, seconds, test.trace, close, close_came, late=late)
