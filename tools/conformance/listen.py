# SPDX-License-Identifier: MIT
"""The runner as a server that tests clients (--listen), over the same cases.

Each connection of a client is one case. The client connects to /case/N (or to
/runCase?case=N&agent=NAME, like programs written for the Autobahn suite), echoes every message, and
connects again for the next case. /getCaseCount returns the number of cases, and with
/updateReports?agent=NAME the client reports that it has finished.

A test of a client differs from a test of a server in two places: `ClientTest.open` answers an
opening handshake where `Test.open` starts one, and `ClientSession` sends what a server may send and
expects what a client must do. Cases that make requests, or are about masking or which side ends
TCP, are for servers only. Group C is for clients only: what they send in an opening handshake, and
which responses they accept.
"""

from __future__ import annotations

import collections
import errno
import json
import select
import socket
import ssl
import threading
import time
from dataclasses import dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any, Callable, Iterable, NamedTuple, Sequence
from urllib.parse import parse_qs, unquote, urlsplit

from . import deflate, tls, wire
from .case import Case, Manners, Result, Settings, Test, judge, natural
from .probe import NEAR
from .runner import Observer, Outcome
from .secure import Secure
from .session import Session
from .verdicts import Failed, Late, NonStrict, Skipped, Unimplemented, Verdict
from .wire import CLOSE, TEXT, Connection, Ended, Frame, Garbled, Target, TimedOut

GROUPS = ("1", "2", "3", "4", "5", "6", "7", "9", "10", "12", "13")
PARTS = (
    *("B.2.[1-4]", "D.4.*", "D.5.*", "D.6.*", "D.10.*", "D.11.1?", "D.12.*"),
    *("S.2.?", "S.2.1[0-8]", "S.4.?", "S.4.1[0-6]", "T.3.*", "T.5.*"),
)
"""Cases of other groups that use one connection and are about frames and messages."""
SERVER_ONLY = ("1.3.*", "4.3.*", "4.6.2", "D.4.29", "D.4.41")
"""Exceptions: masking, that a server does not wait to end TCP (RFC 6455 7.1.1), and cases that
need a second connection."""
REFUSING = "In group C, correct clients refuse many, see --exclude C."
LINGER = 1.0  # seconds for a client to end TCP after an answer to its query
PATIENCE = 10.0  # seconds for a client's request
ATTEMPTS = 16  # to find a port that is free at all addresses


def fits_client(case: Case) -> bool:
    """Return whether a case applies to clients."""
    chosen = case.group in GROUPS or any(fnmatchcase(case.id, pattern) for pattern in PARTS)
    return "client" in case.tags or (
        chosen
        and "server" not in case.tags
        and not any(fnmatchcase(case.id, pattern) for pattern in SERVER_ONLY)
    )


def for_clients(cases: Iterable[Case]) -> list[Case]:
    return [case for case in cases if fits_client(case)]


def for_servers(cases: Iterable[Case]) -> list[Case]:
    return [case for case in cases if "client" not in case.tags]


# ---- the other side of a connection -------------------------------------------------------------


class Accepted(Connection):
    """A connection from a client."""

    def __init__(
        self,
        accepted: socket.socket | Secure,
        timeout: float,
        trace: wire.Trace,
        first: bytes = b"",
    ) -> None:
        """Wrap a socket from which `first` was already received."""
        self.timeout = timeout
        self.trace = trace
        self.target = Target("", 0, "/", False)
        self.buffer = bytearray()
        self.begin()
        self.socket = accepted
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if first:
            trace.add("received", first)
            self.buffer += first


class Request(NamedTuple):
    """The parts of a client's request that matter here."""

    path: str
    query: dict[str, str]
    fields: dict[str, str]
    """Values by lowercase name; the last one if a name is repeated."""
    head: bytes = b""
    """The raw head without its final empty line."""
    name: str | None = None
    """The Server Name Indication of the TLS handshake."""

    @property
    def key(self) -> str:
        return self.fields.get("sec-websocket-key", "")

    @property
    def is_handshake(self) -> bool:
        """Whether it can be answered with a 101; group C finds other errors."""
        return self.head.startswith(b"GET ") and bool(self.key)


def read_request(connection: Connection) -> Request:
    """Read the request of a client, or raise Ended, TimedOut or Garbled if there is none."""
    deadline = connection.deadline(PATIENCE)
    while b"\r\n\r\n" not in connection.buffer:
        if len(connection.buffer) > 65536:
            raise Garbled("a request head of more than 64 KiB")
        connection.fill(deadline)
    head, _, rest = bytes(connection.buffer).partition(b"\r\n\r\n")
    connection.buffer = bytearray(rest)
    first, *lines = head.decode("latin-1").split("\r\n")
    words = first.split(" ")
    fields = {name.lower(): value.strip() for name, _, value in (s.partition(":") for s in lines)}
    if len(words) < 2:
        raise Garbled(f"not a request: {wire.shown(head)}")
    try:
        parts = urlsplit(words[1])
    except ValueError:
        raise Garbled(f"not a request target: {words[1]!r}") from None
    query = {name: values[-1] for name, values in parse_qs(parts.query).items()}
    name = getattr(connection.socket, "asked_name", None)
    path = "/" + unquote(parts.path).lstrip("/")  # group C finds errors in it
    return Request(path, query, fields, head, name)


def answer(request: Request, extensions: str = "") -> wire.Response:
    """Return the response to an opening handshake (RFC 6455 section 4.2.2)."""
    accept = wire.accept_value(request.key)
    fields = [("Upgrade", "websocket"), ("Connection", "Upgrade"), ("Sec-WebSocket-Accept", accept)]
    protocol = request.fields.get("sec-websocket-protocol", "").split(",")[0].strip()
    if protocol:  # some clients, such as browsers, require one
        fields.append(("Sec-WebSocket-Protocol", protocol))
    if extensions:
        fields.append(("Sec-WebSocket-Extensions", extensions))
    return wire.Response(101, "Switching Protocols", fields)


def written(response: wire.Response) -> bytes:
    lines = [f"HTTP/1.1 {response.status} {response.reason}"]
    lines += [f"{name}: {value}" for name, value in response.fields]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("latin-1")


# ---- compression --------------------------------------------------------------------------------

# Cases are written from the point of view of a client that tests a server. Here the roles change.
SWAPPED = {
    deflate.SERVER_NO_CONTEXT: deflate.CLIENT_NO_CONTEXT,
    deflate.CLIENT_NO_CONTEXT: deflate.SERVER_NO_CONTEXT,
    deflate.SERVER_BITS: deflate.CLIENT_BITS,
    deflate.CLIENT_BITS: deflate.SERVER_BITS,
}


def offers_of(value: str) -> list[deflate.Parameters]:
    """Return the valid offers of permessage-deflate in a value of Sec-WebSocket-Extensions."""
    try:
        found = deflate.parse(value)
    except deflate.Malformed:
        return []
    return [
        dict(extension.parameters)
        for extension in found
        if extension.name == deflate.NAME and deflate.fault(extension, in_offer=True) is None
    ]


def terms(wanted: str, offered: str) -> deflate.Parameters | None:
    """Negotiate a case's offers with those of a client; None if none of them fit together.

    The returned parameters have the names that the case expects.
    """
    for mine in offers_of(wanted):
        for theirs in offers_of(offered):
            agreed = {SWAPPED[n]: v for n, v in theirs.items() if n != deflate.CLIENT_BITS}
            if deflate.SERVER_NO_CONTEXT in mine:
                agreed[deflate.SERVER_NO_CONTEXT] = None
            bits = mine.get(deflate.SERVER_BITS)
            if bits and deflate.CLIENT_BITS in theirs:
                most = theirs[deflate.CLIENT_BITS] or "15"
                agreed[deflate.SERVER_BITS] = min(bits, most, key=int)
            differs = (deflate.misfit, deflate.laxness, deflate.liberty)
            if not any(differ(mine, agreed) for differ in differs):
                return agreed
    return None


def extension(parameters: deflate.Parameters) -> str:
    """Return an element of Sec-WebSocket-Extensions."""
    parts = [name if value is None else f"{name}={value}" for name, value in parameters.items()]
    return "; ".join([deflate.NAME, *parts])


# ---- a case -------------------------------------------------------------------------------------


WITHOUT = 0  # no code: the client ends TCP without a Close frame


class ClientSession(Session):
    """An open connection to a client that echoes."""

    closed_with: int | None = WITHOUT

    def frame(self, payload: bytes = b"", opcode: int = TEXT, **more: Any) -> bytes:
        """Build an unmasked frame (RFC 6455 section 5.1)."""
        if "key" in more:
            raise Skipped("only clients mask")
        return self.built(payload, opcode, key=None, **more)

    def check(self, frame: Frame) -> None:
        if not frame.masked:
            raise Failed(f"the client did not mask a frame: {frame}")
        if frame.opcode == CLOSE:
            self.closed_with = frame.close_code
        super().check(frame._replace(masked=False))

    def expect_end(self) -> None:
        """End TCP and expect that the client ends it too; see `Test.closing`."""
        try:
            super().expect_end()
        except NonStrict as error:
            self.test.close_fault(Verdict.NON_STRICT, str(error))

    def require_end(self, timeout: float | None = None) -> None:
        """End TCP first, as a server does, and require that the client ends it too.

        Raises NonStrict if it takes too long: only the server has to do it "immediately" (RFC 6455
        section 5.5.1).
        """
        try:
            self.connection.finish()
        except OSError:
            return
        try:
            super().require_end(timeout)
        except Late as error:
            raise NonStrict(str(error)) from None

    def expect_failure(self, *codes: int, refused: bool = False) -> None:
        """Expect a failure, and store its code for `is_ordinary`."""
        self.closed_with = self.ahead.close_code if self.ahead else WITHOUT
        try:
            super().expect_failure(*codes, refused=refused)
        except NonStrict:
            self.remember(refused)
            raise
        self.remember(refused)

    def remember(self, refused: bool) -> None:
        if not refused and isinstance(self.test, ClientTest):
            self.test.failures.add(self.closed_with)

    def is_ordinary(self, code: int | None) -> bool:
        """Return False until the client has failed a connection with another code."""
        failures = self.test.failures if isinstance(self.test, ClientTest) else set()
        return code in (None, 1000) and bool(failures) and code not in failures


@dataclass
class ClientTest(Test):
    """A run of a case over the single connection that a client has opened for it."""

    asked: Request = field(default_factory=lambda: Request("", {}, {}))
    keys: collections.Counter[str] = field(default_factory=collections.Counter)
    """The number of connections, including this one, for each Sec-WebSocket-Key."""
    is_secure: bool = False
    port: int = 0
    """The port to which clients connect."""
    failures: set[int | None] = field(default_factory=set)
    """Codes with which the client has failed connections; None is a Close without a code."""
    is_open: bool = False

    def connect(self) -> Connection:
        """Raise Skipped: there is no way to connect to a client."""
        self.dismiss()
        raise Skipped("this case tests servers only")

    def dismiss(self) -> None:
        """Close the connection, because the case cannot be run."""
        if not self.is_open:
            self.is_open = True
            tell(self.connections[0], self.asked)

    def open(
        self,
        extensions: str | None = None,
        fields: wire.Fields = (),
        pieces: int | None = None,
        ahead: bytes = b"",
    ) -> Session:
        """Answer the opening handshake."""
        if fields or ahead or self.is_open:
            self.connect()
        self.require_handshake()
        mine = theirs = ""
        if extensions is not None:
            agreed = terms(extensions, self.asked.fields.get("sec-websocket-extensions", ""))
            if agreed is None:
                self.dismiss()
                raise Unimplemented("no offer of the client fits this case")
            mine = extension(agreed)
            theirs = extension({SWAPPED[name]: value for name, value in agreed.items()})
        self.respond(written(answer(self.asked, theirs)), pieces)
        return ClientSession(self, self.connections[0], answer(self.asked, mine))

    def require_handshake(self) -> None:
        """Raise Skipped if the request cannot be answered; group C finds out why."""
        if not self.asked.is_handshake:
            self.dismiss()
            raise Skipped("the client's request is not a GET with Sec-WebSocket-Key, see group C")

    def accept(self, data: bytes | None = None, ahead: bytes = b"") -> ClientSession:
        """Answer with these bytes (None: a valid response) and frames in the same write."""
        self.require_handshake()
        good = answer(self.asked)
        self.respond((written(good) if data is None else data) + ahead)
        return ClientSession(self, self.connections[0], good)

    def respond(self, data: bytes, pieces: int | None = None) -> None:
        """Send a response; if the client has ended TCP, the next read finds out."""
        self.is_open = True
        try:
            self.connections[0].send(data, pieces)
        except Ended:
            self.trace.note("the client accepts no more data")


def tell(connection: Connection, request: Request, text: str | None = None) -> float | None:
    """Send a message, if any, and a Close; returns the seconds until the Close is answered.

    Everything else that the client sends is ignored.
    """
    began = time.monotonic()
    data = b"" if text is None else wire.frame(text.encode(), TEXT, key=None)
    data += wire.frame(wire.close_payload(1000), CLOSE, key=None)
    try:
        connection.send(written(answer(request)) + data)
        while connection.read_frame().opcode != CLOSE:
            pass
        seconds = time.monotonic() - began
        connection.finish()
        connection.at_end(LINGER)
    except (Ended, TimedOut, Garbled, OSError):
        return None
    return seconds


# ---- the server ---------------------------------------------------------------------------------


@dataclass
class Agent:
    """A client and its results."""

    name: str
    observer: Observer
    failures: set[int | None] = field(default_factory=set)
    """See `ClientTest`."""
    results: dict[str, Result] = field(default_factory=dict)
    began: float = field(default_factory=time.monotonic)
    seconds: float = 0.0
    done: bool = False

    def outcome(self, cases: Sequence[Case], interrupted: bool) -> Outcome:
        results = sorted(self.results.values(), key=lambda result: natural(result.case.id))
        missing = [case.id for case in cases if case.id not in self.results]
        ended = "the client did not ask for all cases" if missing else ""
        if missing and missing[0].startswith("C."):
            ended += f"; does it continue after it refuses a handshake? {REFUSING}"
        if missing and interrupted:
            ended = "interrupted"
        return Outcome(results, missing, ended, interrupted=interrupted, seconds=self.seconds)


def listening_at(host: str, port: int) -> list[socket.socket]:
    """Return non-blocking sockets for all local addresses of a host, with the same port.

    Port 0 stands for any that is free at all of them.
    Raises OSError if there are no addresses, or one of them cannot be bound.
    """
    found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys((one[0], one[4][0]) for one in found))
    # A port that the kernel picked for the first address may be in use at another one.
    for _ in range(ATTEMPTS - 1 if port == 0 else 0):
        try:
            return bound(addresses, port)
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
    return bound(addresses, port)


def bound(addresses: Iterable[tuple[int, Any]], port: int) -> list[socket.socket]:
    """Return sockets for those addresses that belong to this machine, or raise OSError."""
    sockets: list[socket.socket] = []
    missing = OSError(errno.EADDRNOTAVAIL, "no address")
    try:
        for family, address in addresses:
            try:
                sockets.append(socket.create_server((address, port), family=family, backlog=100))
            except OSError as error:
                if error.errno not in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
                    raise
                missing = error
                continue
            sockets[-1].setblocking(False)
            port = sockets[-1].getsockname()[1]
        if not sockets:
            raise missing
    except BaseException:
        for one in sockets:
            one.close()
        raise
    return sockets


class Listener:
    """Accepts connections until enough clients have reported that they are done."""

    def __init__(
        self,
        address: tuple[str, int],
        cases: Sequence[Case],
        settings: Settings,
        observe: Callable[[str], Observer],
        say: Callable[[str], None] = lambda text: None,
        context: ssl.SSLContext | None = None,
    ) -> None:
        """Listen at an address, or raise OSError if that fails.

        `observe` makes an observer for a new client with that name. `say` shows the user, once, why
        clients cannot start a case. `context` is for TLS.
        """
        self.cases = cases
        self.by_id = {case.id: case for case in cases}
        self.settings = settings
        self.observe = observe
        self.say = say
        self.context = context
        self.said: set[str] = set()
        self.round_trips: dict[str, float] = {}  # by the address of the client
        self.keys: collections.Counter[str] = collections.Counter()  # of all handshakes
        self.agents: dict[str, Agent] = {}
        self.lock = threading.Lock()
        self.under_way: collections.Counter[str] = collections.Counter()  # cases, by client
        self.judged = threading.Condition(self.lock)  # one of these has finished
        self.sockets = listening_at(*address)
        self.place: tuple[str, int] = self.sockets[0].getsockname()[:2]

    def run(self, agents: int, max_time: float) -> str:
        """Run until enough clients are done or the time is over; returns why it ended early."""
        end = time.monotonic() + max_time
        try:
            while sum(agent.done for agent in list(self.agents.values())) < agents:
                if time.monotonic() > end:
                    return f"the run took more than {max_time:g} s"
                for listener in select.select(self.sockets, [], [], 0.1)[0]:
                    try:
                        accepted = listener.accept()[0]
                    except BlockingIOError:  # that client has left
                        continue
                    accepted.setblocking(True)
                    threading.Thread(target=self._handle, args=[accepted], daemon=True).start()
        finally:
            for listener in self.sockets:
                listener.close()
        return ""

    # ---- one connection ----

    def _handle(self, accepted: socket.socket) -> None:
        trace = wire.Trace()
        trace.deadline = trace.began + PATIENCE + self.settings.limit * self.settings.scale
        timeout = self.settings.timeout * self.settings.scale
        connected: socket.socket | Secure = accepted
        try:
            connected, first = tls.opened(accepted, self.context, PATIENCE * self.settings.scale)
            connection = Accepted(connected, timeout, trace, first)
            request = read_request(connection)
            with self.lock:
                self.keys[request.key] += 1
            self._serve(connection, request)
        except tls.Mismatch as error:
            self._say_once(str(error))
        except (Ended, TimedOut, Garbled, OSError):
            pass  # the client cannot receive an answer
        finally:
            connected.close()

    def _say_once(self, text: str) -> None:
        with self.lock:
            new = text not in self.said
            self.said.add(text)
        if new:
            self.say(text)

    def _tell(self, connection: Accepted, request: Request, text: str | None = None) -> None:
        """Send a message and measure the round trip, which extends the timeouts of cases."""
        try:
            address = connection.socket.getpeername()[0]
        except OSError:
            address = ""
        connection.timeout = PATIENCE * self.settings.scale  # it may be far away
        seconds = tell(connection, request, text)
        if seconds is not None:
            with self.lock:
                self.round_trips[address] = min(seconds, self.round_trips.get(address, seconds))

    def _settings(self, accepted: socket.socket | Secure) -> Settings:
        """Return the settings for a case with that client."""
        try:
            seconds = self.round_trips.get(accepted.getpeername()[0], 0.0)
        except OSError:
            seconds = 0.0
        manners = Manners(round_trip=seconds if seconds > NEAR else 0.0)
        return replace(self.settings, manners=manners)

    def _serve(self, connection: Accepted, request: Request) -> None:
        name = request.query.get("agent") or request.fields.get("user-agent") or "client"
        number = request.query.get("case", "")
        if request.path.startswith("/case/"):
            number = request.path[len("/case/") :]
        case = self._case(number)
        if request.path == "/getCaseCount":
            self._tell(connection, request, str(len(self.cases)))
        elif request.path == "/updateReports":
            self._finish(name)
            self._tell(connection, request)
        elif request.path == "/getCaseInfo" and case:
            info = {"id": case.id, "description": f"Send {case.sends}. Expect {case.expects}."}
            self._tell(connection, request, json.dumps(info))
        elif request.path == "/getCaseStatus" and case:
            agent = self.agents.get(name)
            result = agent.results.get(case.id) if agent else None
            self._tell(connection, request, json.dumps({"behavior": status(result)}))
        elif case and (request.path == "/runCase" or request.path.startswith("/case/")):
            self._run(connection, request, name, case)
        else:
            connection.send(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n")

    def _case(self, text: str) -> Case | None:
        """Find a case by its number, starting at 1, or by its id."""
        if text.isdecimal() and 1 <= int(text) <= len(self.cases):
            return self.cases[int(text) - 1]
        return self.by_id.get(text)

    def _agent(self, name: str) -> Agent:
        with self.lock:
            if name not in self.agents:
                self.agents[name] = Agent(name, self.observe(name))
            return self.agents[name]

    def _run(self, connection: Accepted, request: Request, name: str, case: Case) -> None:
        with self.lock:
            self.under_way[name] += 1
        try:
            self._judge(connection, request, name, case)
        finally:
            with self.lock:
                self.under_way[name] -= 1
                self.judged.notify_all()

    def _judge(self, connection: Accepted, request: Request, name: str, case: Case) -> None:
        agent = self._agent(name)
        with self.lock:
            keys = self.keys.copy()
        test = ClientTest(
            self._settings(connection.socket),
            case,
            connections=[connection],
            asked=request,
            keys=keys,
            is_secure=self.context is not None,
            port=self.place[1],
            failures=agent.failures,
        )
        connection.timeout = test.timeout
        for event in connection.trace.events:  # the request
            test.trace.events.append(event._replace(at=0.0))
        connection.trace = test.trace
        result = judge(test)
        result.came = result.came.replace("the server", "the client")
        result.close_came = result.close_came.replace("the server", "the client")
        with self.lock:
            if case.id not in agent.results:
                agent.observer.add(result)
            agent.results[case.id] = result
            agent.seconds = time.monotonic() - agent.began

    def _finish(self, name: str) -> None:
        """Mark a client as done after its last case has finished here."""
        agent = self._agent(name)
        with self.lock:
            limit = PATIENCE + self.settings.limit * self.settings.scale
            self.judged.wait_for(lambda: not self.under_way[name], limit)
            agent.done = True


def status(result: Result | None) -> str:
    """Return the status in the words that client programs know."""
    return "UNCLEAN" if result is None else result.verdict.value
