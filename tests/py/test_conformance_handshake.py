# SPDX-License-Identifier: MIT
"""tools/conformance, groups H and P: servers whose opening handshake is right but unusual, or wrong
in another way than the case is about, and the verdicts that they get."""

import re
import socket
import struct
import sys
import threading
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Optional

import pytest
from common import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cases, wire
from conformance.case import CASES, Result, Settings, Test, run
from conformance.cases.heads import edited
from conformance.wire import Connection, Target, Trace

assert cases  # its import registers them
Test.__test__ = False  # type: ignore[attr-defined]  # it is no class of tests

PLAIN = "HTTP/1.1 426 Upgrade Required\r\nUpgrade: websocket\r\nConnection: Upgrade, close\r\n"
CLOSED = "Connection: close\r\nContent-Length: 0\r\n\r\n"


class Peer:
    """A server that looks at less than it might, and echoes. Each method is a manner of it."""

    def __init__(self, connection: socket.socket) -> None:
        self.connection = connection
        self.unread = b""

    def talk(self) -> None:
        head = self.head()
        refusal = self.refusal(head)
        if refusal:
            self.send(refusal)
        else:
            self.send(self.accepting(head))
            self.behind()
        self.end()

    def head(self) -> str:
        while b"\r\n\r\n" not in self.unread:
            self.receive()
        head, _, self.unread = self.unread.partition(b"\r\n\r\n")
        return head.decode("latin-1")

    def refusal(self, head: str) -> str:
        """Empty: the handshake is accepted."""
        if not head.startswith("GET ") or "\r\nUpgrade: websocket" not in head:
            return f"{PLAIN}Sec-WebSocket-Version: 13\r\nContent-Length: 0\r\n\r\n"
        return ""

    def accepting(self, head: str) -> str:
        found = re.search("\r\nSec-WebSocket-Key: *([^\r]*)", head)
        accept = wire.accept_value(found.group(1) if found else "")
        return (
            "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Accept: {accept}\r\n\r\n"
        )

    def behind(self) -> None:
        """Echo frames of less than 126 bytes, answer Close, and fail what is not masked."""
        while True:
            while len(self.unread) < 2:
                self.receive()
            first, length = self.unread[0], self.unread[1] & 127
            if not self.unread[1] & 128:
                self.connection.sendall(b"\x88\x02" + struct.pack("!H", 1002))
                return
            while len(self.unread) < 6 + length:
                self.receive()
            key, masked = self.unread[2:6], self.unread[6 : 6 + length]
            self.unread = self.unread[6 + length :]
            self.connection.sendall(bytes([first, length]) + wire.masked(masked, key))
            if first == 0x88:
                return

    def end(self) -> None:
        """So that what was sent last can be read."""
        self.connection.shutdown(socket.SHUT_WR)
        while self.connection.recv(65536):
            pass

    def receive(self) -> None:
        data = self.connection.recv(65536)
        if not data:
            raise OSError("the peer has ended")
        self.unread += data

    def send(self, text: str) -> None:
        self.connection.sendall(text.encode("latin-1"))


class IgnoresUpgrade(Peer):
    """Whatever it does not like is a request for its page."""

    def refusal(self, head: str) -> str:
        good = ("GET ", "Upgrade: websocket", "Version: 13", "Key: ", "Connection: Upgrade")
        return "" if all(word in head for word in good) else f"HTTP/1.1 200 OK\r\n{CLOSED}"


class RefusesOddly(IgnoresUpgrade):
    """With a status of 4xx that no RFC proposes, and the only version that it knows."""

    def refusal(self, head: str) -> str:
        refusal = super().refusal(head)
        version = "Sec-WebSocket-Version: 13\r\n"
        return refusal and f"HTTP/1.1 418 I'm a teapot\r\n{version}{CLOSED}"


class Interim(Peer):
    """100 and 103 come ahead of every response."""

    def send(self, text: str) -> None:
        hints = "HTTP/1.1 103 Early Hints\r\nLink: </a>; rel=preload\r\n\r\n"
        super().send(f"HTTP/1.1 100 Continue\r\n\r\n{hints}{text}")


class LateContinue(Peer):
    """100 comes behind the 101."""

    def accepting(self, head: str) -> str:
        return f"{super().accepting(head)}HTTP/1.1 100 Continue\r\n\r\n"


class DropsEarly(Peer):
    """What comes together with a handshake is lost."""

    def head(self) -> str:
        head = super().head()
        self.unread = b""
        return head


class RefusesEarly(Peer):
    """So is the handshake."""

    def refusal(self, head: str) -> str:
        return f"HTTP/1.1 400 Bad Request\r\n{CLOSED}" if self.unread else super().refusal(head)


class AnswersEarly(Peer):
    """A request behind the 101 is answered as one."""

    def behind(self) -> None:
        if self.unread[:4] in (b"GET ", b"POST"):
            self.send(PLAIN + "\r\n")
        else:
            super().behind()


class Login(Peer):
    """Without a cookie nobody gets in, nor without a subprotocol that it knows."""

    def refusal(self, head: str) -> str:
        if not re.search("\r\nCookie: .*token=7f3a", head):
            return f"HTTP/1.1 401 Unauthorized\r\n{CLOSED}"
        if not re.search("\r\nSec-WebSocket-Protocol: .*soap", head):
            return f"HTTP/1.1 400 Bad Request\r\n{CLOSED}"
        return super().refusal(head)

    def accepting(self, head: str) -> str:
        return super().accepting(head)[:-2] + "Sec-WebSocket-Protocol: soap\r\n\r\n"


class AwaitsBody(Peer):
    """Of a handshake, too."""

    def head(self) -> str:
        head = super().head()
        length = re.search("\r\nContent-Length: *([0-9]+)", head)
        while length and len(self.unread) < int(length.group(1)):
            self.receive()
        return head


class Resets(Peer):
    """An error is not sent, or is lost in a reset: from outside it looks the same."""

    def refusal(self, head: str) -> str:
        return "."

    def send(self, text: str) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    def end(self) -> None:
        self.connection.close()


class Busy(Peer):
    """Handshakes beside an open connection are refused."""

    turn = threading.Lock()

    def talk(self) -> None:
        if not self.turn.acquire(blocking=False):
            self.head()
            self.send(f"HTTP/1.1 503 Service Unavailable\r\n{CLOSED}")
            return self.end()
        try:
            super().talk()
        finally:
            self.turn.release()


@contextmanager
def served(manner: Callable[[socket.socket], Peer]) -> Iterator[int]:
    """Its port."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    opened: List[socket.socket] = []

    def handle(connection: socket.socket) -> None:
        try:
            manner(connection).talk()
        except OSError:
            pass
        connection.close()

    def serve() -> None:
        while True:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            connection.settimeout(20)
            opened.append(connection)
            threading.Thread(target=handle, args=[connection], daemon=True).start()

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        listener.shutdown(socket.SHUT_RDWR)
        listener.close()
        for connection in opened:
            connection.close()
        thread.join(10)


def judged(manner: Callable[[socket.socket], Peer], id: str, scale: float = 1.0) -> Result:
    with served(manner) as port:
        target = Target("127.0.0.1", port, "/", False)
        return run(CASES[id], Settings(target, timeout=1.0, scale=scale))


MANNERS: Dict[Callable[[socket.socket], Peer], Dict[str, str]] = {
    Peer: {
        "OK": "H.0.1 H.1.1 H.1.7 H.8.1 H.10.1 H.10.3 H.10.9 H.11.1 H.12.2 H.27.1 P.8.2 P.8.4",
        # Nothing is looked at but the method and Upgrade.
        "NON-STRICT": "H.6.2 H.6.3 H.6.6 H.6.8 H.6.10 H.6.13 H.6.14 H.6.15 H.7.13 H.7.14 H.7.15 "
        "H.13.1 H.13.14 H.13.15 H.13.21",
        "FAILED": "H.2.2 H.5.8 H.6.1 H.7.1 H.7.3 H.7.12 H.3.1 P.2.1",
        "SKIPPED": "P.1.14 P.1.16 P.7.2 P.7.3 P.7.5 P.8.1 P.8.3 P.8.11",
    },
    IgnoresUpgrade: {
        "OK": "H.1.1 H.1.3 H.1.6 H.4.7 H.5.8 H.8.1 H.27.1 P.7.2 P.7.3 P.7.5 P.7.11",
        "NON-STRICT": "H.6.1 H.7.1 H.7.3 H.7.18",
    },
    RefusesOddly: {"OK": "H.1.1 H.1.3 H.6.1 H.7.1 H.7.3 P.7.2", "NON-STRICT": "H.7.18"},
    Interim: {"OK": "H.0.1 H.1.1 H.8.1 H.10.1 H.10.9 H.10.10 H.11.2 P.7.11 P.8.2 P.8.7"},
    LateContinue: {"FAILED": "H.10.10 P.8.7"},
    DropsEarly: {"NON-STRICT": "P.7.6 P.7.7"},
    RefusesEarly: {"NON-STRICT": "P.7.6 P.7.7"},
    AnswersEarly: {"FAILED": "P.7.6 P.7.7"},
    AwaitsBody: {"INFORMATIONAL": "P.1.14 P.1.15 P.1.16"},
    Resets: {"OK": "P.8.6"},
    Busy: {"INFORMATIONAL": "H.10.11"},
}
JOBS = [
    (manner, id, verdict)
    for manner, wanted in MANNERS.items()
    for verdict, ids in wanted.items()
    for id in ids.split()
]


@pytest.mark.parametrize(("manner", "id", "verdict"), JOBS)
def test_the_verdict_for_a_manner(
    manner: Callable[[socket.socket], Peer], id: str, verdict: str
) -> None:
    result = judged(manner, id)
    if result.verdict.value != verdict:  # a busy machine perhaps
        result = judged(manner, id, scale=5.0)
    assert (result.verdict.value, result.came) == (verdict, result.came)


WITH_LOGIN = {
    "OK": "H.0.1 H.0.4 H.9.5 H.10.8 H.12.9 P.5.2 P.7.6 P.7.9 P.8.2",
    "INFORMATIONAL": "H.1.8 H.11.1",  # which offers other subprotocols
    "FAILED": "H.6.1 P.3.1",
}


@pytest.mark.parametrize("verdict", WITH_LOGIN)
def test_a_server_with_a_login(verdict: str) -> None:
    fields = (("Cookie", "token=7f3a"), ("Sec-WebSocket-Protocol", "soap"))
    with served(Login) as port:
        settings = Settings(Target("127.0.0.1", port, "/", False, fields), timeout=5.0)
        ids = WITH_LOGIN[verdict].split()
        told = {id: run(CASES[id], settings).verdict.value for id in ids}
    assert told == dict.fromkeys(ids, verdict)


def test_a_field_of_the_user_is_sent_in_each_request() -> None:
    fields = [("Host", "a"), ("cookie", "b"), ("Cookie", "c"), ("Upgrade", "d")]
    assert edited(fields, {}) == fields
    assert edited(fields, {"Cookie": ["1", "2"], "Upgrade": None, "New": "3"}) == [
        ("Host", "a"), ("cookie", "1"), ("cookie", "2"), ("New", "3"),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("data", "status", "rest"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 101 S\r\nA: 1\r\n\r\n\x81", 101, b"\x81"),
        (b"HTTP/1.1 199 A\r\nLink: x\r\n\r\n" * 50 + b"HTTP/1.1 404 No\r\n\r\nno", 404, b"no"),
        (b"HTTP/1.1 101 S\r\n\r\nHTTP/1.1 100 Continue\r\n\r\n", 101, None),
    ],
)  # fmt: skip
def test_interim_responses_are_skipped(data: bytes, status: int, rest: Optional[bytes]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        target = Target("127.0.0.1", listener.getsockname()[1], "/", False)
        connection = Connection(target, 10.0, Trace())
        with listener.accept()[0] as peer:
            peer.sendall(data)
            response = connection.read_response()
            assert response.status == status
            assert rest is None or bytes(connection.buffer) == rest
        connection.close()
