# SPDX-License-Identifier: MIT
"""NATS as a broker; imported only where a URL names one.

nats-py connects, with TLS, passwords and keys, through a `Wire` of this module instead of a
transport of its own. Then the connection is only lines of text (docs.nats.io, "Client Protocol"),
which the wire writes and reads itself: nats-py has a queue for each subscription, and cannot wait
until the server has accepted a batch of messages.
"""

from __future__ import annotations

import asyncio
import os
import re
import ssl
from collections import deque
from hashlib import sha256
from typing import Any, Callable, Deque, Dict, Iterable, List, Optional, Sequence, Tuple, TypeVar
from urllib.parse import quote, unquote, urlsplit

from nats.aio.client import Client
from nats.aio.transport import Transport
from nats.errors import Error

from ..brokers import Broker, Link, Page, Refused
from ..history import History, history_of
from . import nats_history
from .outages import reason_of
from .places import certificates, check_file, check_options, place_of, public_url
from .transports import Connection, Direct

__all__ = ["NatsBroker", "subject_of"]

T = TypeVar("T")

PREFIX = "pyws"
PORT = 4222
LONGEST = 1000  # characters of an encoded topic; a line of the protocol has at most 4096 bytes
CONNECT_TIME = 5  # seconds
PATIENCE = 4  # seconds until the peer must have said that it is NATS
NEVER = 10**9  # seconds
MOST_AT_ONCE = 100  # messages that are delivered in one callback of the loop
MOST_LINE = 64 * 1024  # bytes of a line; INFO has the addresses of the whole cluster

OPTIONS = ("prefix", "credentials", "ca")  # after the "?" of a URL
TOKENS = re.compile(r"[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)*")
MOST_EARLY = 4 * 1024 * 1024  # bytes of messages that wait for an earlier one
LATE = 1.0  # seconds by which a kept message may come after one with a larger number

NOT_ALL = "it has not passed on all that it keeps"
NOT_NATS = "it does not speak the protocol of NATS"
API = "$JS.API."
KEPT = b"k"  # what ids of subscriptions to kept messages end with
ANSWERS = b"a"  # the id of the subscription to answers
PING, PONG = b"PING\r\n", b"PONG\r\n"


def subject_of(prefix: str, topic: bytes) -> str:
    """The subject of a topic.

    It is the prefix, "topic" and the topic in percent-encoding (RFC 3986 section 2.1), in which all
    bytes but letters, digits, "-", "_" and "~" are encoded. If that is empty, or longer than 1,000
    characters, it is the prefix, "sha256" and the SHA-256 of the topic in hexadecimal digits.
    """
    text = quote(topic, safe="").replace(".", "%2E")
    if 0 < len(text) <= LONGEST:
        return f"{prefix}.topic.{text}"
    return f"{prefix}.sha256.{sha256(topic).hexdigest()}"


class NatsBroker(Broker, Direct):
    """A connection to a NATS server, or to one of a cluster."""

    keeps = True

    def __init__(self, url: str) -> None:
        """Understand the URL; nothing connects yet.

        Args:
            url: As in docs/scaling.md.

        Raises:
            ValueError: It is wrong.
        """
        self._name = public_url(url)
        try:
            self._prefix, self._servers, self._options = _understood(url)
        except ValueError as error:
            raise ValueError(f"the broker {self._name}: {error}") from None
        self._client: Any = None
        self._wire: Wire | None = None
        self._ids: Dict[bytes, bytes] = {}  # topic -> id of its subscription
        self._last_id = 0
        self._stream: nats_history.Stream | None = None

    def __str__(self) -> str:
        return self._name

    async def connect(self, link: Link) -> None:
        """Connect. Raises ConnectionError with advice."""
        errors: list[BaseException] = []

        async def on_error(error: BaseException) -> None:
            errors.append(error)

        self._ids.clear()
        kind = KeepingWire if self.histories else Wire
        wire = self._wire = kind(link, self._servers[0].startswith("tls"))
        client = self._client = Client()
        client._transport = wire
        try:
            await client.connect(
                self._servers,
                error_cb=on_error,
                name="pyws",
                no_echo=True,
                allow_reconnect=False,
                max_reconnect_attempts=1,  # 0 is no limit
                reconnect_time_wait=0,
                connect_timeout=CONNECT_TIME,
                ping_interval=NEVER,
                **self._options,
            )
            if not client.is_connected:
                raise Error(NOT_NATS)
            wire.begin()
        except (Error, OSError, asyncio.TimeoutError) as error:
            # An error of a server says more than that none is left.
            raise ConnectionError(_advice(errors[-1] if errors else error)) from error
        self.max_size = client.max_payload
        if isinstance(wire, KeepingWire):
            wire.listen(f"{self._prefix}.reply.{os.urandom(12).hex()}.")
            asking = nats_history.new_stream(self._prefix, self.histories)
            (wire.stream,) = await self._answered([asking])

    async def subscribe(self, topics: Sequence[bytes]) -> None:
        """Subscribe, and wait until the server has done so."""
        wire = self._wire
        assert wire is not None
        lines = []
        for topic in topics:
            self._last_id += 1
            number = b"%d" % self._last_id
            self._ids[topic] = number
            wire.topics[number] = topic
            lines.append(f"SUB {subject_of(self._prefix, topic)} {self._last_id}\r\n".encode())
            if isinstance(wire, KeepingWire) and history_of(self.histories, topic) is not None:
                number += KEPT
                wire.kept[number] = topic
                subject = subject_of(f"{self._prefix}.kept", topic)
                lines.append(b"SUB %b %b\r\n" % (subject.encode(), number))
        await wire.ask(lines)

    async def unsubscribe(self, topics: Sequence[bytes]) -> None:
        """Unsubscribe, and wait until the server has done so."""
        wire = self._wire
        assert wire is not None
        lines = []
        for topic in topics:
            number = self._ids.pop(topic)
            del wire.topics[number]
            lines.append(b"UNSUB %b\r\n" % number)
            if isinstance(wire, KeepingWire) and wire.forget(number + KEPT):
                lines.append(b"UNSUB %b\r\n" % (number + KEPT))
        await wire.ask(lines)

    async def publish(self, messages: Sequence[Tuple[bytes, bytes]]) -> None:
        """Publish in one write, and wait until the server has all messages."""
        assert self._wire is not None
        await self._wire.ask(self._commands(messages))

    def begin_publish(
        self, messages: Sequence[Tuple[bytes, bytes]], done: Callable[[], object]
    ) -> None:
        """Publish in one write; `done` is called when the server has all messages."""
        assert self._wire is not None
        self._wire.begin_asking(self._commands(messages), done)

    def _commands(self, messages: Sequence[Tuple[bytes, bytes]]) -> List[bytes]:
        prefix = self._prefix
        return [
            b"PUB %b %d\r\n%b\r\n" % (subject_of(prefix, topic).encode(), len(data), data)
            for topic, data in messages
        ]

    async def append(self, messages: Sequence[Tuple[bytes, bytes, History]]) -> None:
        """Publish to the stream in one write, and wait for all confirmations."""
        prefix = f"{self._prefix}.history"
        requests = [(subject_of(prefix, topic), data) for topic, data, _ in messages]
        answers = await self._keeping.answers(requests)
        refusals = list(filter(None, map(nats_history.refusal_of, answers)))
        if refusals:
            raise Refused(refusals[0], len(refusals))

    async def read(
        self, requests: Sequence[Tuple[bytes, Optional[bytes], History]]
    ) -> Sequence[Page]:
        """Read from the stream, for all topics at the same time."""
        prefix, wire = f"{self._prefix}.history", self._keeping
        stream = wire.stream
        assert stream is not None
        pages = await self._answered(
            [
                stream.read(subject_of(prefix, topic), after, history)
                for topic, after, history in requests
            ]
        )
        for (topic, after, _), page in zip(requests, pages):
            if after is not None and not page.more and topic in self._ids:
                wire.ends[topic] = nats_history.number_of(page.id)
        return pages

    @property
    def _keeping(self) -> KeepingWire:
        assert isinstance(self._wire, KeepingWire)
        return self._wire

    async def _answered(self, asking: Sequence[nats_history.Queries[T]]) -> List[T]:
        """Send what generators ask for, round after round, until all have returned."""
        results: Dict[int, T] = {}
        queries = {index: list(next(one)) for index, one in enumerate(asking)}
        while queries:
            flat = [(API + place, data) for some in queries.values() for place, data in some]
            answers = map(nats_history.loaded, await self._keeping.answers(flat))
            for index, some in list(queries.items()):
                try:
                    queries[index] = list(asking[index].send([next(answers) for _ in some]))
                except StopIteration as end:
                    results[index] = end.value
                    del queries[index]
                except (LookupError, TypeError, ValueError) as error:
                    raise ConnectionError(
                        f"it answers what JetStream does not: {error!r}"
                    ) from None
        return [results[index] for index in range(len(asking))]

    def fileno(self) -> int:
        """The descriptor of the socket; -1 without one."""
        return -1 if self._wire is None else self._wire.fileno()

    async def close(self) -> None:
        """Close the socket; what it has not sent is dropped."""
        client, wire, self._client, self._wire = self._client, self._wire, None, None
        if wire is not None:
            wire.close()
            await client.close()  # it has tasks


def _understood(url: str) -> Tuple[str, list[str], Dict[str, Any]]:
    """The prefix, the servers, and other arguments of `Client.connect`.

    Raises:
        ValueError: The URL is wrong, or a file that it names.
    """
    place = place_of(url)
    options = place.options
    check_options(options, OPTIONS, ())
    if place.path not in ("", "/"):
        raise ValueError(f"there is nothing at a path, like {place.path!r}")
    if not place.hosts:
        raise ValueError("a host is missing")
    prefix = options.get("prefix", PREFIX)
    if not TOKENS.fullmatch(prefix):
        raise ValueError(
            f"prefix must be letters, digits, '_' and '-', and dots between them, not {prefix!r}"
        )
    arguments: Dict[str, Any] = {}
    name, colon, password = place.login.partition(":")
    if colon:
        arguments.update(user=unquote(name), password=unquote(password))
    elif name:
        arguments["token"] = unquote(name)
    if "credentials" in options:
        check_file("credentials", options["credentials"])
        arguments["user_credentials"] = options["credentials"]
    if "ca" in options:
        arguments["tls"] = certificates("ca", options["ca"])
    return prefix, [_server(place.scheme, host) for host in place.hosts], arguments


def _server(scheme: str, host: str) -> str:
    """The URL of one server."""
    has_port = urlsplit(f"{scheme}://{host}").port is not None
    return f"{scheme}://{host}" if has_port else f"{scheme}://{host}:{PORT}"


def _advice(error: BaseException) -> str:
    """What went wrong, and what may help."""
    if isinstance(error, asyncio.TimeoutError):
        return f"it has not answered for {CONNECT_TIME} s"
    if isinstance(error, OSError):
        return reason_of(error)
    text = str(error).replace("nats: ", "", 1).strip("'")
    if "authorization violation" in text.lower():
        return f"{text} (check the user and the password, or the token, in the URL)"
    return text or type(error).__name__


def _check_greeting(line: bytes) -> None:
    """Raise ConnectionError if the first line of a peer is not one of NATS."""
    if line.startswith((b"INFO ", b"-ERR '")):
        return
    if line.startswith((b"+", b"-")):
        raise ConnectionError(f"{NOT_NATS}, but probably that of Redis (redis://)")
    raise ConnectionError(f"{NOT_NATS}, but HTTP" if line.startswith(b"HTTP/") else NOT_NATS)


class Wire(Connection, Transport):
    """The socket: what nats-py needs to connect, then commands out and messages in.

    The server handles commands in their order. Only PING has an answer: its PONG confirms all
    commands before it.
    """

    def __init__(self, link: Link, needs_tls: bool) -> None:
        super().__init__(None)
        self.topics: Dict[bytes, bytes] = {}  # id of a subscription -> topic
        self._link = link
        self._needs_tls = needs_tls
        self._data = bytearray()  # what has arrived and is not handled
        self._least = 0  # bytes of it without which its first message is not complete
        self._arrival: asyncio.Future[None] | None = None  # nats-py waits for a line
        self._has_greeted = False  # the peer has sent a line
        self._has_begun = False  # nats-py has connected
        self._pongs: Deque[Callable[[], object]] = deque()  # called for the next ones
        self._refused: set[str] = set()  # kinds of commands that the user may not, and reported

    # ---- for nats-py, until it has connected ----------------------------------------------------

    async def connect(self, uri: Any, buffer_size: int, connect_timeout: float) -> None:
        """Connect to a server."""
        connecting = self._loop.create_connection(lambda: self, uri.hostname, uri.port)
        self._transport, _ = await asyncio.wait_for(connecting, connect_timeout)
        self._loop.call_later(PATIENCE, self._provoke)

    def _provoke(self) -> None:
        """Make a silent peer say something: NATS speaks first, unlike Redis and HTTP."""
        if self._error is None and not self._has_greeted:
            self._transport.write(PING)

    async def connect_tls(
        self, uri: Any, ssl_context: ssl.SSLContext, buffer_size: int, connect_timeout: float
    ) -> None:
        """Encrypt the connection; `uri` is the name of the host."""
        starting = self._loop.start_tls(self._transport, self, ssl_context, server_hostname=uri)
        self._transport = await asyncio.wait_for(starting, connect_timeout)
        self._needs_tls = False

    def write(self, payload: bytes) -> None:
        """Send a line."""
        if self._needs_tls:
            raise ConnectionError("it offers no TLS (tls://)")
        self._transport.write(payload)

    def writelines(self, payload: Sequence[bytes]) -> None:
        """Send lines."""
        self.write(b"".join(payload))

    async def drain(self) -> None:
        """Nothing to wait for: these are a few lines."""

    async def readline(self) -> bytes:
        """Receive a line. Raises OSError."""
        while b"\n" not in self._data:
            if self._error is not None:
                raise self._error
            if len(self._data) > MOST_LINE:
                raise ConnectionError(NOT_NATS)
            self._arrival = self._loop.create_future()
            await self._arrival
        end = self._data.index(b"\n") + 1
        line = bytes(self._data[:end])
        del self._data[:end]
        if not self._has_greeted:
            self._has_greeted = True
            _check_greeting(line)
        return line

    async def read(self, buffer_size: int) -> bytes:
        """Nothing any more, until nats-py is closed."""
        return await self._loop.create_future()  # type: ignore[no-any-return]

    def at_eof(self) -> bool:
        """Nothing has ended for nats-py."""
        return False

    async def wait_closed(self) -> None:
        """Nothing to wait for: the connection is dropped."""

    def __bool__(self) -> bool:
        return True  # or nats-py would make a transport of its own

    # ---- commands -------------------------------------------------------------------------------

    def begin(self) -> None:
        """Read messages from now on; nats-py has connected."""
        self._has_begun = True
        self._watch_silence()
        self._read()

    def ask(self, commands: Iterable[bytes]) -> asyncio.Future[None]:
        """Send commands. The future is done once the server has handled them, or fails."""
        waiter = self._new_waiter()
        self.begin_asking(commands, self._finish)
        return waiter

    def begin_asking(self, commands: Iterable[bytes], done: Callable[[], object]) -> None:
        """Send commands. `done` is called when they are handled, unless the connection ends."""
        if self._error is None:
            self._pongs.append(done)
            self._transport.write(b"".join([*commands, PING]))

    # ---- what the transport calls ---------------------------------------------------------------

    def data_received(self, data: bytes | memoryview) -> None:
        """Something has arrived."""
        self._data += data
        if not self._has_begun:
            self._wake()
        elif not self._is_paused and len(self._data) >= self._least:
            self._read()

    # ---- messages -------------------------------------------------------------------------------

    def _read(self) -> None:
        """Handle what has arrived, but let the rest of the program run from time to time."""
        data, at = bytes(self._data), 0
        try:
            for _ in range(MOST_AT_ONCE):
                length = self._handle(data, at)
                at += length
                if not length or self._error is not None:
                    break
        except (ValueError, IndexError):
            self._fail(ConnectionError(NOT_NATS))
        del self._data[:at]
        if self._error is None:
            self._pause(length > 0)
            if length:
                self._loop.call_soon(self._read)

    def _handle(self, data: bytes, at: int) -> int:
        """Handle the line, or the message, that begins there.

        Returns:
            Its length; 0 if it is not complete.

        Raises:
            ValueError, IndexError: It is malformed.
        """
        end = data.find(b"\r\n", at)
        if end < 0:
            if len(data) - at > MOST_LINE:
                raise ValueError
            self._least = 0
            return 0
        fields = data[at:end].split()
        if fields[0] not in (b"MSG", b"HMSG"):
            self._on_line(fields[0], data[at:end])
            return end + 2 - at
        start = end + 2
        stop = start + int(fields[-1])
        if len(data) < stop + 2:
            self._least = stop + 2 - at
            return 0
        if fields[0] == b"HMSG":  # with headers first
            start += int(fields[-2])
        topic = self.topics.get(fields[2])
        if topic is not None:
            self._link.receive(topic, data[start:stop])
        else:
            self._on_other(fields, data[end:start], data[start:stop])
        return stop + 2 - at

    def _on_other(self, fields: List[bytes], head: bytes, data: bytes) -> None:
        """A message that is on its way since before the UNSUB, or of a subclass.

        Args:
            fields: Those of its line.
            head: From the end of that line to the end of the headers.
            data: The data.
        """

    def _on_line(self, kind: bytes, line: bytes) -> None:
        """A line that is not a message."""
        if kind == b"PONG":
            self._pongs.popleft()()
        elif kind == b"PING":
            self._transport.write(PONG)
        elif kind == b"-ERR":
            self._on_refusal(line[4:].strip(b" '").decode("utf-8", "replace"))
        elif kind not in (b"INFO", b"+OK"):
            raise ValueError

    def _on_refusal(self, text: str) -> None:
        """The server refuses a command; after most errors it closes the connection."""
        if text.lower().startswith("permissions violation"):
            kind = text.partition(" to ")[0]
            if kind not in self._refused:
                self._refused.add(kind)
                self._link.refused(ConnectionError(text))
        else:
            self._fail(ConnectionError(text))

    # ---- the end --------------------------------------------------------------------------------

    def _ping(self) -> None:
        self._pongs.append(bool)  # does nothing
        self._transport.write(PING)

    def _report(self, error: BaseException) -> None:
        if self._has_begun:
            self._link.lost(error)

    def _on_end(self, error: BaseException) -> None:
        self._wake()
        self._pongs.clear()

    def _wake(self) -> None:
        """Let `readline` look again."""
        if self._arrival is not None and not self._arrival.done():
            self._arrival.set_result(None)


class KeepingWire(Wire):
    """A wire on which kept messages arrive, too, and answers to requests."""

    def __init__(self, link: Link, needs_tls: bool) -> None:
        super().__init__(link, needs_tls)
        self.stream: nats_history.Stream | None = None
        self.kept: Dict[bytes, bytes] = {}  # id of a subscription to kept messages -> topic
        self._newest = 0  # the largest number of a kept message until now
        self._newest_since = 0.0  # loop time
        self._last: Dict[bytes, int] = {}  # topic -> number of its last one
        self.ends: Dict[bytes, int] = {}  # topic -> number up to which it was read, once subscribed
        # What has come before an earlier one: topic and number of that -> number, data.
        self._early: Dict[Tuple[bytes, int], Tuple[int, bytes]] = {}
        self._early_size = 0  # bytes of data
        self._waited: set[int] = set()  # numbers that were early when `_check` was called last
        self._inbox = b""  # what subjects of answers begin with
        self._last_request = 0
        self._answers: Dict[bytes, bytes | None] = {}  # to the requests that are under way
        self._missing = 0  # of them

    def listen(self, inbox: str) -> None:
        """Subscribe to answers, at subjects that begin with this."""
        self._inbox = inbox.encode()
        self._transport.write(b"SUB %b* %b\r\n" % (self._inbox, ANSWERS))

    def forget(self, number: bytes) -> bool:
        """Whether there was a subscription to kept messages with this id."""
        topic = self.kept.pop(number, None)
        if topic is not None:
            self._last.pop(topic, None)
            self.ends.pop(topic, None)
            for key in [key for key in self._early if key[0] == topic]:
                self._early_size -= len(self._early.pop(key)[1])
        return topic is not None

    async def answers(self, requests: Sequence[Tuple[str, bytes]]) -> List[bytes]:
        """Send requests, each a subject and its data, and wait for all answers."""
        if not requests:
            return []
        lines = []
        self._answers = {}
        for subject, data in requests:
            self._last_request += 1
            reply = b"%b%d" % (self._inbox, self._last_request)
            self._answers[reply] = None
            lines.append(b"PUB %b %b %d\r\n%b\r\n" % (subject.encode(), reply, len(data), data))
        self._missing = len(requests)
        waiter = self._new_waiter()
        if self._error is None:
            self._transport.write(b"".join(lines))
        await waiter
        return [answer or b"" for answer in self._answers.values()]

    def _on_other(self, fields: List[bytes], head: bytes, data: bytes) -> None:
        if fields[2] == ANSWERS:
            self._on_answer(fields[1], head, data)
            return
        topic = self.kept.get(fields[2])
        if topic is None:  # it is on its way since before the UNSUB
            return
        number, before = nats_history.numbers_of(head)
        if number == 0 or self.stream is None:
            self._link.receive(topic, data)
        else:
            self._on_kept(topic, number, before, data)

    def _on_kept(self, topic: bytes, number: int, before: int, data: bytes) -> None:
        """Pass on the messages of a topic in the order of their numbers.

        The server numbers messages one after another, but passes those of different publishers on
        in any order, if they have come at the same moment.

        Args:
            topic, number, data: A message.
            before: The number of the message of the topic before it, or 0.
        """
        last, now = self._last.get(topic), self._loop.time()
        is_old = number <= self._newest and now - self._newest_since > LATE
        if is_old or (last is not None and number <= last):
            self._fail(ConnectionError(NOT_ALL))  # the stream was made anew, perhaps
            return
        if number > self._newest:
            self._newest, self._newest_since = number, now
        # What follows the end comes for certain: the process had subscribed when it read that.
        if before > (self.ends.get(topic, before) if last is None else last):
            self._early[topic, before] = number, data
            self._early_size += len(data)
            if self._early_size > MOST_EARLY:
                self._fail(ConnectionError(NOT_ALL))
            return
        stream = self.stream
        assert stream is not None
        while True:
            self._last[topic] = number
            self._link.receive(topic, data, stream.id(number))
            if not self._early or (topic, number) not in self._early:
                return
            number, data = self._early.pop((topic, number))
            self._early_size -= len(data)

    def _check(self) -> None:
        """An earlier message that was missing in the last look will not come any more."""
        early = {number for number, _ in self._early.values()}
        if early & self._waited:
            self._fail(ConnectionError(NOT_ALL))
        self._waited = early

    def _on_answer(self, subject: bytes, head: bytes, data: bytes) -> None:
        if self._answers.get(subject, data) is not None:  # not one that is waited for
            return
        if head[2:].startswith(b"NATS/1.0 503"):
            self._fail(ConnectionError(nats_history.NO_STREAM))
            return
        self._answers[subject] = data
        self._missing -= 1
        if self._missing == 0:
            self._finish()

    def _on_refusal(self, text: str) -> None:
        if self._missing and text.lower().startswith("permissions violation"):
            self._fail(ConnectionError(f"{text} (history needs more than other topics)"))
        else:
            super()._on_refusal(text)
