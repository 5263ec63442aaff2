# SPDX-License-Identifier: MIT
"""Redis and Valkey as brokers; imported only where a URL names one.

redis-py connects, with TLS and passwords, in version 3 of the protocol, which lets one connection
publish and subscribe. Then the connection is only a stream of commands and replies, which hiredis
packs and parses: the reader of redis-py would cost several times as much for each message.
"""

from __future__ import annotations

import asyncio
import re
from typing import Any, Callable, Iterable, Optional, Sequence, Tuple
from urllib.parse import urlencode

import hiredis
from redis import AuthenticationError, RedisError
from redis.asyncio.connection import Connection, parse_url

from ..brokers import Broker, Link, Page, Refused
from ..history import History
from . import redis_history
from .outages import reason_of
from .places import Place, certificates, check_file, check_options, place_of, public_url
from .transports import Connection as AnyConnection
from .transports import Direct

__all__ = ["RedisBroker"]

SCHEMES = {
    # scheme: that of redis-py
    "redis": "redis",
    "rediss": "rediss",
    "redis+unix": "unix",
    "valkey": "redis",
    "valkeys": "rediss",
    "valkey+unix": "unix",
}
PREFIX = "pyws:"
# Options, after the "?" of a URL, and further ones for TLS; but for the first one, of redis-py.
OPTIONS = (
    "prefix",
    "client_name",
    "db",
    "health_check_interval",
    "password",
    "socket_connect_timeout",
    "socket_keepalive",
    "socket_timeout",
    "username",
)
TLS_OPTIONS = (
    "ssl_ca_certs",
    "ssl_ca_data",
    "ssl_ca_path",
    "ssl_cert_reqs",
    "ssl_certfile",
    "ssl_check_hostname",
    "ssl_ciphers",
    "ssl_keyfile",
    "ssl_min_version",
    "ssl_password",
)
MOST_AT_ONCE = 100  # messages that are delivered in one callback of the loop

pack: Any = hiredis.pack_command
PING = pack((b"PING",))
HELLO = pack((b"HELLO",))
NOT_REDIS = "it does not speak the protocol of Redis"
# What the first byte that is no part of the protocol may be.
OTHERS = {"I": ", but probably that of NATS (nats://)", "H": ", but probably HTTP"}
FULL = "OOM command not allowed"  # the server has no memory for what it should keep
NOT_COMPLETE: Any = object()  # what the parser returns without a complete reply


class RedisBroker(Broker, Direct):
    """A connection to Redis, or to something that speaks its protocol."""

    keeps = True

    def __init__(self, url: str) -> None:
        """Understand the URL; nothing connects yet.

        Args:
            url: As redis-py takes it, with further schemes, and with ``?prefix=`` for what all
                channels begin with.

        Raises:
            ValueError: It is wrong.
        """
        self._name = public_url(url)
        try:
            prefix, url = _understood(url)
            self._prefix = prefix.encode()
            self._options: dict[str, Any] = {**parse_url(url), "protocol": 3}
            self._kind: Any = self._options.pop("connection_class", Connection)
            self._kind(**self._options)  # checks the values of options
        except (ValueError, TypeError, RedisError) as error:
            raise ValueError(f"the broker {self._name}: {error}") from None
        self._connection: Any = None  # of redis-py, which closes it when nothing refers to it
        self._stream: Stream | None = None

    def __str__(self) -> str:
        return self._name

    async def connect(self, link: Link) -> None:
        """Connect. Raises what redis-py raises, ConnectionError with advice."""
        self._connection = self._kind(**self._options)
        try:
            await self._connection.connect()
        except (RedisError, OSError) as error:
            raise ConnectionError(_advice(error)) from error
        transport = self._connection._writer.transport
        stream = self._stream = Stream(link, transport, self._prefix)
        transport.set_protocol(stream)
        if self.histories:
            await stream.ask([pack(redis_history.probe(self._prefix))], 1)

    async def subscribe(self, topics: Sequence[bytes]) -> None:
        """Subscribe, and wait for the confirmation."""
        await self._for_topics(b"SUBSCRIBE", topics)

    async def unsubscribe(self, topics: Sequence[bytes]) -> None:
        """Unsubscribe, and wait for the confirmation."""
        await self._for_topics(b"UNSUBSCRIBE", topics)

    async def _for_topics(self, command: bytes, topics: Sequence[bytes]) -> None:
        assert self._stream is not None
        prefix = self._prefix
        channels = (prefix + topic for topic in topics)
        await self._stream.ask([pack((command, *channels))], len(topics))

    async def publish(self, messages: Sequence[Tuple[bytes, bytes]]) -> None:
        """Publish in one write, and wait for the replies."""
        assert self._stream is not None
        await self._stream.ask(self._commands(messages), len(messages))

    def begin_publish(
        self, messages: Sequence[Tuple[bytes, bytes]], done: Callable[[], object]
    ) -> None:
        """Publish in one write; `done` is called when the last reply has arrived."""
        assert self._stream is not None
        self._stream.begin_asking(self._commands(messages), len(messages), done)

    async def publish_counted(self, messages: Sequence[Tuple[bytes, bytes]]) -> list[int] | None:
        """Publish, and return the replies: the connections that got each message."""
        server, *counts = await self._replies_to([HELLO, *self._commands(messages)])
        # A node of a cluster counts only its own connections.
        return counts if server.get(b"mode") != b"cluster" else None

    def _commands(self, messages: Sequence[Tuple[bytes, bytes]]) -> list[bytes]:
        prefix = self._prefix
        return [pack((b"PUBLISH", prefix + topic, data)) for topic, data in messages]

    async def append(self, messages: Sequence[Tuple[bytes, bytes, History]]) -> None:
        """Keep and publish messages by one call of the script: all of them or none."""
        await self._replies_to([pack(redis_history.append(self._prefix, messages))])

    async def read(
        self, requests: Sequence[Tuple[bytes, Optional[bytes], History]]
    ) -> Sequence[Page]:
        """Read pages, each by one call of the script."""
        commands = [pack(redis_history.read(self._prefix, *one)) for one in requests]
        return [redis_history.page_of(reply) for reply in await self._replies_to(commands)]

    async def _replies_to(self, commands: Sequence[bytes]) -> list[Any]:
        stream = self._stream
        assert stream is not None
        replies: list[Any] = []
        stream.replies = replies
        try:
            await stream.ask(commands, len(commands))
        finally:
            stream.replies = None
        for reply in replies:
            if isinstance(reply, hiredis.ReplyError):
                raise Refused(str(reply))
        return replies

    def fileno(self) -> int:
        """The descriptor of the socket; -1 without one."""
        return -1 if self._stream is None else self._stream.fileno()

    async def close(self) -> None:
        """Close the socket; what it has not sent is dropped."""
        stream, self._stream = self._stream, None
        if stream is not None:
            stream.close()
        connection, self._connection = self._connection, None
        if connection is not None:
            await connection.disconnect(nowait=True)


class Stream(AnyConnection):
    """Commands out, replies and messages in."""

    def __init__(self, link: Link, transport: Any, prefix: bytes) -> None:
        super().__init__(transport)
        self._link = link
        self._prefix = prefix
        self._parser: Any = hiredis.Reader(notEnoughData=NOT_COMPLETE)
        self.replies: list[Any] | None = None  # where replies should be noted
        self._missing = 0  # replies to the commands that are under way
        self._done: Callable[[], object] = self._finish  # called when none is missing
        self._watch_silence()

    def ask(self, commands: Iterable[bytes], replies: int) -> asyncio.Future[None]:
        """Send commands. The future is done after so many replies, or fails."""
        waiter = self._new_waiter()
        self.begin_asking(commands, replies, self._finish)
        return waiter

    def begin_asking(
        self, commands: Iterable[bytes], replies: int, done: Callable[[], object]
    ) -> None:
        """Send commands. `done` is called after so many replies, unless the connection ends."""
        self._missing, self._done = replies, done
        if self._error is None:
            self._transport.write(b"".join(commands))

    # ---- what the transport calls ---------------------------------------------------------------

    def data_received(self, data: bytes | memoryview) -> None:
        """Something has arrived."""
        self._parser.feed(data)
        if not self._is_paused:
            self._read()

    # ---- replies and messages -------------------------------------------------------------------

    def _read(self) -> None:
        """Handle what has arrived, but let the rest of the program run from time to time."""
        gets, receive, start = self._parser.gets, self._link.receive, len(self._prefix)
        for _ in range(MOST_AT_ONCE):
            if self._error is not None:
                return
            try:
                reply = gets()
            except hiredis.ProtocolError as error:
                self._fail(ConnectionError(_advice(error)))
                return
            if reply is NOT_COMPLETE:
                if self._is_paused:
                    self._pause(False)
                return
            if type(reply) is int:  # to PUBLISH, mostly
                self._note(reply)
            elif not isinstance(reply, list):
                self._on_reply(reply)
            elif reply[0] == b"message":
                topic, data = reply[1][start:], reply[2]
                if data[:1] == b"p":  # of an envelope; no message that is kept
                    receive(topic, data)
                    continue
                id, data = redis_history.split(data)
                receive(topic, data, id)
            else:
                self._on_array(reply)
        self._pause(True)
        self._loop.call_soon(self._read)

    def _on_reply(self, reply: Any) -> None:
        is_error = isinstance(reply, hiredis.ReplyError)
        if is_error and (self.replies is None or FULL not in str(reply)):
            self._fail(ConnectionError(_advice(reply)))
        elif reply != b"PONG":
            self._note(reply)

    def _on_array(self, reply: Any) -> None:
        # A page begins with an id. What is left is a notification.
        if reply[0] in (b"subscribe", b"unsubscribe") or reply[0][:1].isdigit():
            self._note(reply)

    def _note(self, reply: Any) -> None:
        if self.replies is not None:
            self.replies.append(reply)
        self._missing -= 1
        if self._missing == 0:
            self._done()

    # ---- the end --------------------------------------------------------------------------------

    def _ping(self) -> None:
        self._transport.write(PING)

    def _report(self, error: BaseException) -> None:
        self._link.lost(error)


def _understood(url: str) -> Tuple[str, str]:
    """The prefix, and the URL as redis-py understands it. Raises ValueError."""
    place = place_of(url)
    kind, options = SCHEMES[place.scheme], dict(place.options)
    if kind == "rediss":
        check_options(options, OPTIONS + TLS_OPTIONS, ())
    else:
        check_options(options, OPTIONS, TLS_OPTIONS)
    if kind == "unix":
        _check_socket(place)
    elif len(place.hosts) > 1:
        raise ValueError("there can be only one host; several are for NATS")
    elif place.path.strip("/") and not place.path.strip("/").isdigit():
        raise ValueError(f"the path must be the number of a database, not {place.path!r}")
    for name in ("ssl_ca_certs", "ssl_ca_path"):
        if name in options:
            certificates(name, options[name])
    for name in ("ssl_certfile", "ssl_keyfile"):
        if name in options:
            check_file(name, options[name])
    prefix = options.pop("prefix", PREFIX)
    place_only = url.partition("://")[2].partition("?")[0]
    return prefix, f"{kind}://{place_only}?{urlencode(options)}"


def _check_socket(place: Place) -> None:
    """Raise ValueError unless the URL has the path of a Unix socket."""
    begin = f"{place.scheme}://"
    if place.hosts:
        given = f"{begin}{','.join(place.hosts)}{place.path}"
        raise ValueError(
            f"the path of a Unix socket begins with a third slash, {begin}/run/redis.sock, "
            f"unlike {given}"
        )
    if not place.path.strip("/"):
        raise ValueError(f"the path of a Unix socket is missing: {begin}/run/redis.sock")


def _error_of_system(error: BaseException | None) -> OSError | None:
    """What redis-py has made this error from."""
    while error is not None and not (isinstance(error, OSError) and error.args):
        error = error.__cause__ or error.__context__
    return error


def _advice(error: BaseException) -> str:
    """What went wrong, and what may help."""
    system = _error_of_system(error)
    if system is not None:
        return reason_of(system)
    text = str(error) or type(error).__name__
    wrong = re.match('Protocol error(, got "(.)")?', text)
    if wrong is not None:
        return NOT_REDIS + OTHERS.get(wrong[2], "")
    if isinstance(error, AuthenticationError) or "authenticated" in text or "NOAUTH" in text:
        return f"{text} (check the user and the password in the URL)"
    if "unknown command" in text and "HELLO" in text.upper():
        return f"{text} (Redis 6 or newer is needed)"
    if "NOPERM" in text and " key" in text:
        return f"{text} (history needs ~pyws:*, or the prefix of the URL)"
    if text.startswith(("CROSSSLOT", "MOVED")):
        return f"{text} (history needs a Redis that is no cluster)"
    return text
