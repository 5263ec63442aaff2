# SPDX-License-Identifier: MIT
"""Cases: their registry, and `Test`, which is one run of a case.

A case is a function with a `@case(...)` decorator. It sends data and calls `expect_...` of its
`Session` (session.py). Unexpected behavior raises `Failed` (verdicts.py), and the level of the
requirement decides the verdict. To add a case, write such a function in the file of its group. For
a series of similar cases, call `add` in a loop.
"""

from __future__ import annotations

import random
import time
from dataclasses import dataclass, field
from typing import Any, Callable, Sequence

from . import wire
from .session import Session
from .verdicts import Cut, Failed, Judged, Late, Skipped, Verdict, refusal
from .wire import Connection, Ended, TimedOut

MUST, SHOULD, MAY = "MUST", "SHOULD", "MAY"

Run = Callable[["Test"], None]


@dataclass(frozen=True)
class Case:
    """One test of one requirement."""

    id: str
    """The id; it is the same as in the Autobahn suite if that has the same case."""
    section: str
    """"RFC 6455 5.5.2"."""
    level: str
    """MUST, SHOULD or MAY; it decides the verdict of a `Failed`."""
    quote: str
    """The requirement in the words of the RFC. A quote from another section begins with its number,
    as in "[10.7:] Incoming data ..."."""
    sends: str
    expects: str
    run: Run
    tags: frozenset[str] = frozenset()
    """"limits": large amounts of data; "slow": waits for a timeout of the peer; "several": needs
    several connections at a time; "alone": measures; "deflate": needs permessage-deflate."""

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
    """Register a case, or raise ValueError if the id exists."""
    if id in CASES:
        raise ValueError(f"case {id} already exists")
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
    """Register a case; this is `add` as a decorator."""

    def register(run: Run) -> Run:
        add(id, section, level, quote, sends, expects, run, tags)
        return run

    return register


def natural(id: str) -> tuple[Any, ...]:
    """Return a key that sorts ids in natural order: numbers by value, letters after them."""
    parts = []
    for part in id.split("."):
        digits = "".join(c for c in part if c.isdigit())
        letters = "".join(c for c in part if not c.isdigit())
        parts.append((letters != "", letters, int(digits or 0)))
    return tuple(parts)


# ---- one run of a case --------------------------------------------------------------------------

ONE_CONNECTION = "the server serves one connection at a time"
ROUND_TRIPS = 200  # added to the time limit of a case
WORSE = (Verdict.OK, Verdict.NON_STRICT, Verdict.FAILED)


@dataclass(frozen=True)
class Manners:
    """Behavior of the peer that the RFCs allow and cases must know: see `probe.learn`."""

    round_trip: float = 0.0
    """Seconds from a message to its echo, or 0 if they are negligible."""
    greetings: int = 0
    """The number of messages that the peer sends when a connection opens."""
    failure_code: int | None = 1002
    """The code with which the peer fails a connection; None if it sends no code."""
    close_code: int | None = 1000
    """The code with which the peer answers a Close with 1000; None if it sends no code."""
    one_connection: bool = False
    """Whether the peer serves a connection only after the previous one has ended."""
    tls: str = ""
    """The version and cipher suite of TLS, or an empty string without TLS."""


@dataclass
class Settings:
    """The settings of all cases of a run."""

    target: wire.Target
    timeout: float = 2.0
    """Seconds for an immediate answer."""
    scale: float = 1.0
    """The factor for all times on slow devices (--timeout-scale)."""
    seed: int = 1
    limit: float = 30.0
    """Seconds for a whole case, even if the peer floods it with data."""
    full: bool = False
    """Whether groups 12 and 13 send as many messages as the Autobahn suite (--full)."""
    manners: Manners = field(default_factory=Manners)


@dataclass
class Test:
    """One run of one case, which opens connections and closes them at the end."""

    settings: Settings
    case: Case
    trace: wire.Trace = field(default_factory=wire.Trace)
    connections: list[Connection] = field(default_factory=list)
    lax: str = ""
    """A reason why the case is NON-STRICT even if it completes."""
    closing: tuple[Verdict, str] = (Verdict.OK, "")
    """The separate verdict on the closing of its connections, and its reason."""
    waited: bool = False
    """Whether the case went on after it had waited in vain."""
    patience: float = 1.0
    """A factor for `timeout`, for a case whose many connections delay a busy server."""

    def __post_init__(self) -> None:
        # Every run of the same case gets the same numbers, whatever other cases do.
        self.random = random.Random(f"{self.settings.seed}/{self.case.id}")
        limit = self.settings.limit * self.settings.scale
        limit += ROUND_TRIPS * self.settings.manners.round_trip
        self.trace.deadline = self.trace.began + limit
        self.trace.secrets = self.settings.target.secrets
        if "limits" not in self.case.tags:  # only a few of those run at a time
            self.trace.longest = 4 << 20

    @property
    def timeout(self) -> float:
        """The seconds for an answer, including round trips for the data, the answer and TCP."""
        value = self.settings.timeout * self.settings.scale * self.patience
        return value + 3 * self.settings.manners.round_trip

    def seconds(self, value: float) -> float:
        """Return a timeout that is so many seconds for a near and fast peer."""
        return value * self.settings.scale + 2 * self.settings.manners.round_trip

    def pause(self, seconds: float) -> None:
        """Wait so that two writes arrive separately; the distance of the peer does not matter."""
        time.sleep(seconds * self.settings.scale)

    def connect(self) -> Connection:
        """Open a TCP connection, or raise OSError, or Skipped if the peer would not serve it."""
        if self.settings.manners.one_connection:
            for connection in self.connections:
                if connection.over:  # the peer may be waiting for this side to end TCP
                    connection.close()
            if any(connection.is_open for connection in self.connections):
                raise Skipped(ONE_CONNECTION)
        connection = Connection(self.settings.target, self.timeout, self.trace)
        self.connections.append(connection)
        return connection

    def session(self, connection: Connection, response: wire.Response) -> Session:
        """Return the session of a connection that was opened manually, or raise Failed."""
        session = Session(self, connection, response)
        for number in range(self.settings.manners.greetings):
            session.greetings.append(session.read_message(f"greeting {number + 1} from the server"))
        return session

    def close_fault(self, verdict: Verdict, came: str) -> None:
        """Record a fault in the closing of a connection, in a case about something else."""
        if WORSE.index(verdict) > WORSE.index(self.closing[0]):
            self.closing = verdict, came

    def request(self, fields: wire.Fields, **more: Any) -> bytes:
        """Return a request head for the target's resource."""
        return wire.request(more.pop("resource", self.settings.target.resource), fields, **more)

    def open(
        self,
        extensions: str | None = None,
        fields: wire.Fields = (),
        pieces: int | None = None,
        ahead: bytes = b"",
    ) -> Session:
        """Perform the opening handshake (RFC 6455 section 4), or raise Failed.

        The frames in `ahead` are sent together with the request.
        """
        connection = self.connect()
        key = wire.random_key(self.random)
        sent = wire.upgrade_fields(self.settings.target, key) + list(fields)
        if extensions is not None:
            sent.append(("Sec-WebSocket-Extensions", extensions))
        connection.send(self.request(sent) + ahead, pieces)
        response = self.expect_response(connection)
        if response.status != 101:
            raise refusal(response.status)
        if response.get("Sec-WebSocket-Accept") != wire.accept_value(key):
            raise Failed("Sec-WebSocket-Accept does not match the key")
        return self.session(connection, response)

    def expect_response(self, connection: Connection) -> wire.Response:
        """Read a response head, or raise Failed, or Cut if TCP ends instead."""
        try:
            return connection.read_response()
        except (Ended, TimedOut, wire.Garbled) as error:
            kind = Cut if isinstance(error, Ended) else Failed
            raise kind(f"expected an HTTP response, but {error}") from None

    def finish(self) -> None:
        for connection in self.connections:
            connection.close()


# ---- checking -----------------------------------------------------------------------------------


@dataclass
class Result:
    """The result of a case."""

    case: Case
    verdict: Verdict
    came: str
    """What happened, if that was not as expected."""
    seconds: float
    trace: wire.Trace
    close: Verdict = Verdict.OK
    """The verdict on the closing of connections, if the case is about something else."""
    close_came: str = ""
    flaky: tuple[Verdict, ...] = ()
    """The verdicts of all runs of the case if they differ (--retry)."""
    late: bool = False
    """Whether a timeout expired; other cases may have kept the peer busy."""


_BY_LEVEL = {MUST: Verdict.FAILED, SHOULD: Verdict.NON_STRICT, MAY: Verdict.INFORMATIONAL}


def run(case: Case, settings: Settings) -> Result:
    """Run one case; every exception except KeyboardInterrupt becomes a verdict."""
    if settings.manners.one_connection and "several" in case.tags:
        return Result(case, Verdict.SKIPPED, ONE_CONNECTION, 0.0, wire.Trace())
    return judge(Test(settings, case))


def is_late(error: BaseException | None) -> bool:
    """Return whether a timeout led to this exception."""
    while error and not isinstance(error, (Late, TimedOut)):
        error = error.__context__
    return error is not None


def judge(test: Test) -> Result:
    """Run the case of an existing Test."""
    case, settings = test.case, test.settings
    verdict, came, late = Verdict.OK, "", False
    try:
        case.run(test)
    except Failed as error:
        verdict, came, late = _BY_LEVEL[case.level], str(error), is_late(error)
    except Judged as error:
        verdict, came, late = error.verdict, str(error), is_late(error)
    except (Ended, TimedOut, wire.Garbled) as error:
        verdict, came, late = _BY_LEVEL[case.level], str(error), is_late(error)
    except OSError as error:
        verdict, came = Verdict.SKIPPED, f"cannot connect to {settings.target}: {error}"
    except Exception as error:  # an error in the case itself must not end the run
        verdict, came = Verdict.SKIPPED, f"the case raised {type(error).__name__}: {error}"
    finally:
        test.finish()
    if test.lax and verdict in (Verdict.OK, Verdict.INFORMATIONAL):
        verdict, came = Verdict.NON_STRICT, "; ".join(filter(None, (test.lax, came)))
    seconds = time.monotonic() - test.trace.began
    close, close_came = test.closing
    told = came or test.trace.last()
    late = late or test.waited or close == Verdict.FAILED
    test.trace.pack()
    return Result(case, verdict, told, seconds, test.trace, close, close_came, late=late)
