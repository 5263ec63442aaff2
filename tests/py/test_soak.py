# SPDX-License-Identifier: MIT
"""A live App under random use, and after 100,000 connections (T55, T66, T68, T74, T93).

Hypothesis looks for a sequence of calls whose outcome a model does not predict: every event, every
frame and every count. ``PYWS_SOAK_SECONDS=30`` tells for how long, instead of 8 seconds;
``PYWS_SOAK_SEED=7`` begins elsewhere.
"""

import json
import os
import queue
import random
import signal
import socket
import struct
import subprocess
import time
import zlib
from collections import deque
from itertools import count
from pathlib import Path
from typing import Any, Callable, Deque, Dict, Iterator, List, Optional, Set, Tuple, Union

import peer
import pytest
from common import TIMEOUT
from conftest import Server
from hypothesis import HealthCheck, Phase, seed, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from program import Program

from pyws import App, CompressOptions, OpCode, SendStatus, WebSocket
from pyws._core.requests import exchanges
from pyws._core.sockets import sockets as open_sockets
from pyws._native import lib

SECONDS = float(os.environ.get("PYWS_SOAK_SECONDS", "8"))
SEED = int(os.environ.get("PYWS_SOAK_SEED", "1"))
SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")
TOPICS = ["", "news", "news/1", "\u20ac"]
MOST = 10  # connections at a time
COMPRESSIONS = {
    "plain": CompressOptions.DISABLED,
    "shared": CompressOptions.SHARED_COMPRESSOR,
    "dedicated": CompressOptions.DEDICATED_COMPRESSOR_4KB,
}

Message = Union[str, bytes]


# ---- the server ---------------------------------------------------------------------------------


class Site:
    """The App; what its handlers see goes to the queue of the connection's number."""

    def __init__(self, serve: Callable[..., Server]) -> None:
        self.queues: Dict[int, queue.Queue[Tuple[Any, ...]]] = {}
        self.errors: List[Tuple[BaseException, Any]] = []
        self.counts = {"steps": 0, "sends": 0, "publishes": 0, "dropped": 0, "frames": 0}
        self.server = serve(self._configure)
        self.app, self.call = self.server.app, self.server.call
        self.numbers = count(1)
        self.port = 0

    def _configure(self, app: App) -> None:
        for name, compression in COMPRESSIONS.items():
            app.ws(
                f"/{name}/:number",
                compression=compression if lib.ws_compression_available() else 0,
                max_backpressure=32 * 1024,
                max_payload_length=64 * 1024,
                close_timeout=TIMEOUT,
                open=lambda ws: self._tell(ws, "open", ws),
                message=self._on_message,
                drain=lambda ws: self._tell(ws, "drain"),
                dropped=lambda ws, message, opcode: self._tell(ws, "dropped", message),
                ping=lambda ws, data: self._tell(ws, "ping", data),
                pong=lambda ws, data: self._tell(ws, "pong", data),
                subscription=lambda ws, *what: self._tell(ws, "subscription", *what),
                close=lambda ws, code, reason: self._tell(ws, "close", code, reason),
            )
        app.on_error(lambda error, source: self.errors.append((error, source)))

    def listen(self) -> None:
        """A second place, whose connections have small buffers in the kernel."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 8192)
        listener.bind(("127.0.0.1", 0))
        listener.listen(64)
        self.port = listener.getsockname()[1]
        self.call(self.app.listen, {"fd": listener.detach()})

    def clear(self, left: List[socket.socket]) -> None:
        """Nobody is left, also where a check has failed: the next sequence begins anew."""
        for client in left:
            client.close()
        peer.eventually(lambda: self.call(self.app.stats)["connections"] == 0)
        peer.eventually(lambda: not self._kept())
        self.queues.clear()
        self.errors.clear()

    def _kept(self) -> List[Any]:
        """What is still open; other tests of this process may have left something of theirs."""
        known: List[Any] = [*open_sockets.values(), *exchanges.values()]
        return [one for one in known if one._runtime is self.app._runtime]

    def _tell(self, ws: WebSocket, *event: Any) -> None:
        self.queues[int(ws.path.rsplit("/", 1)[1])].put(event)

    def _on_message(self, ws: WebSocket, message: Message, opcode: OpCode) -> None:
        self._tell(ws, "message", message, ws.send(message, opcode, compress=True))


class Conn:
    """One connection: both ends, and what the model says will come."""

    def __init__(self, site: Site, kind: str) -> None:
        self.site, self.kind = site, kind
        self.number = next(site.numbers)
        self.queue = site.queues[self.number] = queue.Queue()
        self.expected: Deque[Tuple[int, Any]] = deque()  # frames to come: opcode, payload
        self.topics: Set[str] = set()
        self.stalled = False
        self.inflater = zlib.decompressobj(-15)
        extension = [("Sec-WebSocket-Extensions", "permessage-deflate")] if kind != "plain" else []
        self.peer = slow_peer(site.port)
        self.peer.send(peer.handshake(f"/{kind}/{self.number}", extension))
        assert self.peer.response().status == 101
        self.ws: WebSocket = self.event("open")[0]

    def event(self, name: str) -> Tuple[Any, ...]:
        """What comes with the next event, which must be this one; a drain may come any time."""
        try:
            found = self.queue.get(timeout=TIMEOUT)
            while found[0] == "drain" and name != "drain":
                found = self.queue.get(timeout=TIMEOUT)
        except queue.Empty:
            raise AssertionError(f"no {name} event") from None
        assert found[0] == name, found
        return found[1:]

    def note(self, status: SendStatus, message: Message) -> None:
        """The model takes notice of what `send` has returned."""
        self.site.counts["sends"] += 1
        if status == SendStatus.DROPPED:
            self.site.counts["dropped"] += 1
            assert self.event("dropped") == (message,)
            return
        self.expect(message)

    def expect(self, message: Message, number: Optional[int] = None) -> None:
        data = message.encode() if isinstance(message, str) else message
        opcode = OpCode.TEXT if isinstance(message, str) else OpCode.BINARY
        self.expected.append((number or int(opcode), data))

    def frame(self) -> Tuple[int, bytes]:
        """The next message or control frame, put together and inflated."""
        data, opcode, compressed, fin = b"", 0, False, False
        while not fin:
            first, length = self.peer.read(2)
            if length > 125:
                size = 2 if length == 126 else 8
                length = int.from_bytes(self.peer.read(size), "big")
            fin = first >= 128
            opcode = opcode or first & 15
            compressed = compressed or bool(first & 0x40)
            data += self.peer.read(length)
        self.site.counts["frames"] += 1
        if compressed:
            assert self.kind != "plain"
            if self.kind == "shared":
                self.inflater = zlib.decompressobj(-15)
            data = self.inflater.decompress(data + b"\0\0\xff\xff")
        return opcode, data

    def read(self) -> None:
        """All that is expected, in order."""
        while self.expected:
            opcode, data = self.expected.popleft()
            got = self.frame()
            assert got == (opcode, data), (self.kind, got[0], got[1][:40], opcode, data[:40])

    def read_prefix(self) -> None:
        """TCP was dropped: what still came is the beginning of what was expected."""
        try:
            while True:
                got = self.frame()
                assert self.expected and got == self.expected.popleft()
        except (EOFError, ConnectionResetError):
            pass

    def closed(self, code: int, reason: Optional[str] = None) -> None:
        """Its last events: the topics are left, then it closes."""
        left = set()
        for _ in self.topics:
            topic, now, before = self.event("subscription")
            assert now == before - 1
            left.add(topic)
        assert left == self.topics
        found = self.event("close")
        assert found[0] == code and reason in (None, found[1])
        assert self.ws.closed

    def gone(self) -> None:
        """No event follows."""
        self.peer.socket.close()
        assert self.queue.empty()
        del self.site.queues[self.number]


def slow_peer(port: int) -> peer.Peer:
    """A client with a small buffer; with larger segments its small window would stall."""
    client = peer.Peer.__new__(peer.Peer)
    client.socket = socket.socket()
    client.socket.settimeout(TIMEOUT)
    client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1400)
    client.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    client.socket.connect(("127.0.0.1", port))
    client.buffer = b""
    return client


# ---- the model ----------------------------------------------------------------------------------

site: Site

which = st.integers(0, MOST - 1)
topics = st.sampled_from(TOPICS)
times = st.integers(1, 8)
sizes = st.sampled_from([0, 1, 7, 60, 125, 126, 127, 1000, 3000, 9000, 16384, 20000, 40000])
codes = st.sampled_from([0, 1000, 1001, 1011, 3000, 4999])


def make_message(size: int, binary: bool) -> Message:
    """Of about that many bytes; no two are alike."""
    text = "".join(random.choice("abcdefgh") for _ in range(min(size, 50))) * (size // 50 + 1)
    return text[:size].encode() if binary else text[:size]


class Machine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.conns: List[Conn] = []

    def conn(self, number: int) -> Conn:
        return self.conns[number % len(self.conns)]

    def forget(self, conn: Conn) -> None:
        conn.gone()
        self.conns.remove(conn)

    def count(self, topic: str) -> int:
        return sum(topic in conn.topics for conn in self.conns)

    def unblocked(self, conn: Conn) -> bool:
        """Nothing waits for it, so that the order of what comes is known."""
        return not conn.stalled and site.call(conn.ws.get_buffered_amount) == 0

    @precondition(lambda self: len(self.conns) < MOST)
    @rule(kind=st.sampled_from(list(COMPRESSIONS)))
    def connect(self, kind: str) -> None:
        if kind != "plain" and not lib.ws_compression_available():
            kind = "plain"
        self.conns.append(Conn(site, kind))

    @rule()
    def half_a_handshake(self) -> None:
        with slow_peer(site.port) as client:
            client.send(peer.handshake()[:30])

    @precondition(lambda self: self.conns)
    @rule(number=which, topic=topics)
    def subscribe(self, number: int, topic: str) -> None:
        conn = self.conn(number)
        assert site.call(conn.ws.subscribe, topic)
        if topic not in conn.topics:
            before = self.count(topic)
            conn.topics.add(topic)
            assert conn.event("subscription") == (topic, before + 1, before)
        assert set(site.call(conn.ws.get_topics)) == conn.topics

    @precondition(lambda self: self.conns)
    @rule(number=which, topic=topics)
    def unsubscribe(self, number: int, topic: str) -> None:
        conn = self.conn(number)
        assert site.call(conn.ws.unsubscribe, topic) == (topic in conn.topics)
        if topic in conn.topics:
            before = self.count(topic)
            conn.topics.remove(topic)
            assert conn.event("subscription") == (topic, before - 1, before)

    @precondition(lambda self: self.conns)
    @rule(number=which, size=sizes, binary=st.booleans(), compress=st.booleans(), times=times)
    def send(self, number: int, size: int, binary: bool, compress: bool, times: int) -> None:
        conn = self.conn(number)
        for _ in range(times):
            message = make_message(size, binary)
            conn.note(site.call(conn.ws.send, message, None, compress), message)

    @precondition(lambda self: self.conns)
    @rule(number=which, size=sizes, binary=st.booleans())
    def hear(self, number: int, size: int, binary: bool) -> None:
        """The client sends; the echo comes back."""
        conn, message = self.conn(number), make_message(size, binary)
        data = message.encode() if isinstance(message, str) else message
        opcode = 2 if binary else 1
        half = size // 2
        if size % 2:  # in two fragments
            conn.peer.send(peer.frame(data[:half], opcode, False) + peer.frame(data[half:], 0))
        else:
            conn.peer.send(peer.frame(data, opcode))
        found = conn.queue.get(timeout=TIMEOUT)
        while found[0] == "drain":
            found = conn.queue.get(timeout=TIMEOUT)
        if found[0] == "dropped":
            assert found[1] == message
            assert conn.event("message") == (message, SendStatus.DROPPED)
            return
        assert found[:2] == ("message", message) and found[2] != SendStatus.DROPPED
        conn.expect(message)

    @precondition(lambda self: self.conns)
    @rule(
        number=which,
        topic=topics,
        size=sizes,
        compress=st.booleans(),
        by=st.integers(0, 2),
        times=times,
    )
    def publish(
        self, number: int, topic: str, size: int, compress: bool, by: int, times: int
    ) -> None:
        for _ in range(times):
            self.publish_one(self.conn(number), topic, size, compress, by)

    def publish_one(self, conn: Conn, topic: str, size: int, compress: bool, by: int) -> None:
        """By the app, by a socket, by a socket to the others."""
        message = make_message(size, size % 2 == 0)
        if by == 0:
            got = site.call(site.app.publish, topic, message, None, compress)
        else:
            got = site.call(conn.ws.publish, topic, message, None, compress, by == 2)
        receivers = [c for c in self.conns if topic in c.topics and not (by == 2 and c is conn)]
        delivered = False
        for receiver in receivers:
            if self.dropped(receiver, message):
                continue
            receiver.expect(message)
            delivered = True
        site.counts["publishes"] += 1
        assert got == delivered

    def dropped(self, conn: Conn, message: Message) -> bool:
        """The handler has said so, while the call ran."""
        found = []
        while not conn.queue.empty():
            found.append(conn.queue.get())
        drops = [event for event in found if event[0] != "drain"]
        assert drops in ([], [("dropped", message)])
        site.counts["dropped"] += len(drops)
        return bool(drops)

    @precondition(lambda self: self.conns)
    @rule(number=which, sizes=st.lists(st.integers(0, 90), min_size=1, max_size=3))
    def fragments(self, number: int, sizes: List[int]) -> None:
        """Another message comes behind the one that is sent in pieces."""
        conn = self.conn(number)
        if not self.unblocked(conn):
            return
        pieces = [str(make_message(size, False)) for size in sizes]

        def work() -> List[SendStatus]:
            statuses = [conn.ws.send_first_fragment("first", compress=True)]
            statuses.append(conn.ws.send("held back"))
            statuses += [conn.ws.send_fragment(piece) for piece in pieces]
            return [*statuses, conn.ws.send_last_fragment("last")]

        assert SendStatus.DROPPED not in site.call(work)
        conn.expect("first" + "".join(pieces) + "last")
        conn.expect("held back")

    @precondition(lambda self: self.conns)
    @rule(number=which, data=st.binary(max_size=125))
    def ping(self, number: int, data: bytes) -> None:
        conn = self.conn(number)
        if self.unblocked(conn):
            conn.peer.send(peer.frame(data, 9))
            assert conn.event("ping") == (data,)
            conn.expect(data, 10)

    @precondition(lambda self: self.conns)
    @rule(number=which, data=st.binary(max_size=125))
    def pong(self, number: int, data: bytes) -> None:
        conn = self.conn(number)
        if site.call(conn.ws.ping, data) != SendStatus.DROPPED:
            conn.expect(data, 9)
            conn.peer.send(peer.frame(data, 10))
            assert conn.event("pong") == (data,)

    @precondition(lambda self: self.conns)
    @rule(number=which)
    def stall(self, number: int) -> None:
        """From now on only `read` and the end read."""
        self.conn(number).stalled = True

    @precondition(lambda self: self.conns)
    @rule(number=which)
    def read(self, number: int) -> None:
        conn = self.conn(number)
        conn.stalled = False
        conn.read()

    @precondition(lambda self: self.conns)
    @rule(number=which)
    def pause_and_resume(self, number: int) -> None:
        conn = self.conn(number)
        site.call(conn.ws.pause)
        conn.peer.send(peer.frame(b"waits", 10))
        site.call(lambda: None)
        assert not any(event[0] == "pong" for event in list(conn.queue.queue))
        site.call(conn.ws.resume)
        assert conn.event("pong") == (b"waits",)

    @precondition(lambda self: self.conns)
    @rule(number=which, code=codes)
    def end(self, number: int, code: int) -> None:
        conn = self.conn(number)
        sent = code or 1005
        site.call(conn.ws.end, code, "the end" if code else "")
        conn.closed(sent)
        conn.expect(struct.pack("!H", code) + b"the end" if code else b"", 8)
        assert site.call(conn.ws.send, "late") == SendStatus.DROPPED
        conn.read()
        conn.peer.send(peer.close_frame(1000, b"bye"))
        assert conn.peer.at_end()
        peer.eventually(lambda: conn.ws.close_info and conn.ws.close_info.clean is not None)
        info = conn.ws.close_info
        assert info and info.clean and info.received == (1000, "bye") and info.local
        self.forget(conn)

    @precondition(lambda self: self.conns)
    @rule(number=which, code=st.sampled_from([1000, 1001, 3000, 4999]))
    def end_by_client(self, number: int, code: int) -> None:
        conn = self.conn(number)
        conn.peer.send(peer.close_frame(code, b"why"))
        conn.closed(code, "why")
        conn.expect(struct.pack("!H", code), 8)
        conn.read()
        assert conn.peer.at_end()
        self.forget(conn)

    @precondition(lambda self: self.conns)
    @rule(number=which)
    def close(self, number: int) -> None:
        conn = self.conn(number)
        site.call(conn.ws.close)
        conn.closed(1006)
        conn.read_prefix()
        self.forget(conn)

    @precondition(lambda self: self.conns)
    @rule(number=which, reset=st.booleans())
    def kill(self, number: int, reset: bool) -> None:
        conn = self.conn(number)
        hard = struct.pack("ii", reset, 0)
        conn.peer.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, hard)
        conn.peer.socket.close()
        conn.closed(1006)
        self.forget(conn)

    @precondition(lambda self: self.conns)
    @rule(number=which)
    def break_a_rule(self, number: int) -> None:
        conn = self.conn(number)
        conn.peer.send(b"\xff\xff")
        conn.closed(1002)
        opcode, data = 0, b""
        conn.read()
        opcode, data = conn.frame()
        assert opcode == 8 and data[:2] == struct.pack("!H", 1002)
        self.forget(conn)

    @invariant()
    def balanced(self) -> None:
        def look() -> Tuple[Dict[str, int], List[int]]:
            return site.app.stats(), [site.app.num_subscribers(topic) for topic in TOPICS]

        stats, numbers = site.call(look)
        assert numbers == [self.count(topic) for topic in TOPICS]
        assert stats["open"] == len(self.conns)
        assert stats["opened"] == stats["closed"] + stats["open"]
        assert not site.errors
        site.counts["steps"] += 1

    def teardown(self) -> None:
        try:
            for conn in self.conns[:]:
                conn.read()
                self.kill(0, True)
        finally:
            site.clear([conn.peer.socket for conn in self.conns])


@pytest.fixture
def soaked(
    serve: Callable[..., Server], caplog: pytest.LogCaptureFixture
) -> Iterator[Callable[[], None]]:
    global site
    site = Site(serve)
    site.listen()
    yield lambda: None
    stats = site.call(site.app.stats)
    assert stats["opened"] == stats["closed"]
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []
    print({**site.counts, "connections": stats["opened"]})


@pytest.mark.timeout(SECONDS + 400)  # a failure is made smaller for up to five minutes
def test_random_use(soaked: object) -> None:
    """T66, T68, T93: no sequence of calls has an outcome that the model does not predict."""
    deadline = time.monotonic() + SECONDS
    for number in count(SEED):
        if time.monotonic() > deadline:
            return
        print(f"PYWS_SOAK_SEED={number}")
        run_state_machine_as_test(
            seed(number)(Machine),
            settings=settings(
                max_examples=10,
                stateful_step_count=60,
                deadline=None,
                database=None,
                derandomize=False,
                phases=[Phase.generate, Phase.shrink],
                suppress_health_check=list(HealthCheck),
            ),
        )


# ---- 100,000 connections ------------------------------------------------------------------------

ECHO = """
from pyws import App
counts = {"open": 0, "close": 0}
def count(name):
    counts[name] += 1
def on_open(ws):
    count("open")
    ws.subscribe("all")
app = App()
app.ws("/*", {
    "open": on_open,
    "message": lambda ws, message, opcode: ws.send(message, opcode),
    "close": lambda ws, code, reason: count("close"),
})
app.listen({"host": "127.0.0.1"}, lambda place: print(place.port))
app.run()
print(counts["open"], counts["close"], app.stats()["connections"])
"""


def connect_many(load: Path, port: int, number: int) -> Dict[str, Any]:
    command = [load, "--port", port, "--connects", number, "--conns", 50, "--timeout", 150]
    done = subprocess.run(
        [*map(str, command), "--json"], capture_output=True, text=True, timeout=200, check=True
    )
    report: Dict[str, Any] = json.loads(done.stdout)
    return report


def resident(pid: int) -> int:
    """KiB."""
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


@pytest.mark.timeout(400)
@pytest.mark.skipif(SANITIZED, reason="a sanitizer keeps what is freed")
def test_memory_is_flat() -> None:
    """T55, T68: the resident set after 20,000 and after 100,000 connections."""
    load = Path(os.fsdecode(lib.path)).resolve().parent / "tools" / "bench" / "load"
    if not load.exists():
        pytest.skip("needs the load generator: meson setup -Dtools=true")
    with Program("-c", ECHO) as program:
        port, pid = int(program.line()), program.process.pid
        connect_many(load, port, 20000)
        early = resident(pid)
        connect_many(load, port, 80000)
        late = resident(pid)
        print(f"resident: {early} KiB after 20,000 connections, {late} KiB after 100,000")
        assert late - early < 1024
        assert program.stop(signal.SIGTERM) == 0
        opened, closed, left = map(int, program.rest().split())
        assert opened == closed >= 100000 and left == 0
        assert program.error_text() == ""
