# SPDX-License-Identifier: MIT
"""Request smuggling: the tricks of smuggling.py, however they are cut, whatever the handlers do
with bodies, and through real proxies.
"""

from __future__ import annotations

import asyncio
import contextlib
import re
import select
from pathlib import Path
from typing import Counter, Iterable, Iterator, List, Sequence, Tuple

import peer
import pytest

pytest.importorskip("h11", exc_type=ImportError)

from c_server import KINDS, CServer, exchange, settled
from responses import read_answers
from smuggling import INNER, LENGTH, NEXT, SMUGGLED, TE, TRICKS, ZERO, Trick, post
from test_proxies import haproxy, nginx, program

from pyws import App, Request, Response

pytestmark = pytest.mark.timeout(600)  # with sanitizers, on a busy machine
LONG = 600  # bytes: not each split of a longer one is tried


def methods(answers: str) -> List[str]:
    """The method of each answered request, "GET" where it does not matter."""
    words = [answer.split(" ")[0] for answer in answers.split(", ")]
    return ["GET" if word.isdigit() else word for word in words]


def told(received: bytes, ended: bool, trick: Trick) -> str:
    """In the words of `Trick.answers`; h11 reads them."""
    asked = methods(trick.answers)
    if trick.data.startswith(b"HEAD "):
        asked[0] = "HEAD"
    answers = [
        answer.content.decode("latin-1") if answer.status == 200 and answer.content
        else str(answer.status)
        for answer in read_answers(received, asked, ended)
    ]  # fmt: skip
    return ", ".join(answers) + (" end" if ended else "")


def cuts(data: bytes) -> Iterator[List[bytes]]:
    """Byte by byte, and in two at every place."""
    step = 1 if len(data) <= LONG else 97
    yield [data[i : i + 1] for i in range(len(data))]
    for i in range(1, len(data), step):
        yield [data[:i], data[i:]]


@pytest.mark.parametrize("kind", KINDS)
def test_h19_h26_no_trick_smuggles_a_request(kind: str) -> None:
    with CServer(kind) as server:
        wrong = {}
        for trick in TRICKS:
            came = told(*server.exchange([trick.data]), trick)
            if came != trick.expected(kind):
                wrong[trick.name] = (came, trick.expected(kind))
    assert wrong == {}
    assert not [target for _, target in server.seen if "smuggled" in target]


@pytest.mark.parametrize("kind", KINDS)
def test_t2_tricks_in_every_split(kind: str) -> None:
    with CServer(kind) as server:
        for trick in TRICKS:
            whole, ended = server.exchange([trick.data])
            for parts in cuts(trick.data):
                received, over = server.exchange(parts)
                same = (settled(received), over) == (settled(whole), ended)
                assert same, (trick.name, len(parts[0]))


# ---- handlers in Python -------------------------------------------------------------------------


class AppServer:
    """An App whose coroutine handlers read bodies; it takes its turns as a CServer does."""

    def __init__(self, way: str) -> None:
        self.way = way
        self.seen: List[Tuple[str, str]] = []

    def __enter__(self) -> AppServer:
        self._loop = asyncio.new_event_loop()
        app = App()
        for pattern in ("/", "/:one"):
            app.any(pattern, self._handle)
        app.ws("/ws", {})
        self._serving = app.serving({"host": "127.0.0.1"})
        self._loop.run_until_complete(self._serving.__aenter__())
        self.port = app.port
        return self

    def __exit__(self, *error: object) -> None:
        try:
            self._loop.run_until_complete(self._serving.__aexit__(None, None, None))
        finally:
            self._loop.close()

    async def _handle(self, res: Response, req: Request) -> None:
        method, target = req.get_method(), req.get_full_url()
        self.seen.append((method, target))
        if self.way == "body":
            content = await req.body()
        else:
            content = b"".join([piece async for piece in req.stream()])
        res.end(f"{method} {target} ".encode() + content)

    def exchange(self, parts: Sequence[bytes]) -> Tuple[bytes, bool]:
        """See CServer.exchange."""
        return exchange(self.port, parts, self._turn)

    def _turn(self) -> None:
        self._loop.run_until_complete(self._pause())

    @staticmethod
    async def _pause() -> None:
        for _ in range(3):
            await asyncio.sleep(0)


@pytest.mark.parametrize("way", ["body", "stream"])
def test_h19_h26_t2_no_trick_smuggles_a_request_past_a_handler_in_python(way: str) -> None:
    """Whole and byte by byte."""
    wrong = {}
    with AppServer(way) as server:
        for trick in TRICKS:
            whole = server.exchange([trick.data])
            bytewise = server.exchange([trick.data[i : i + 1] for i in range(len(trick.data))])
            came = told(*whole, trick)
            if came != trick.answers:
                wrong[trick.name] = (came, trick.answers)
            if (settled(bytewise[0]), bytewise[1]) != (settled(whole[0]), whole[1]):
                wrong[trick.name + ", byte by byte"] = (told(*bytewise, trick), trick.answers)
    assert wrong == {}
    assert len(server.seen) > len(TRICKS) // 2
    assert not [target for _, target in server.seen if "smuggled" in target]


# ---- pauses -------------------------------------------------------------------------------------


def head_and_body(framing: str) -> Tuple[bytes, bytes]:
    """Of a request whose body is a request."""
    body = SMUGGLED if framing == "length" else INNER + ZERO
    return post(LENGTH if framing == "length" else TE, b"")[: -len(NEXT)], body


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_h22_a_body_that_comes_too_late_is_no_request(kind: str, framing: str) -> None:
    """Pause-based: a server that no longer waits for a body ends the connection."""
    head, body = head_and_body(framing)
    server = CServer(kind, body_timeout=50)
    with server, server.running(), peer.Peer(server.port) as client:
        client.send(head)
        assert client.response().status == (200 if kind == "unread" else 408)
        assert client.at_end()
        with contextlib.suppress(ConnectionError):
            client.send(body + NEXT)
        assert client.at_end()
    assert server.seen == [("POST", "/")]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("framing", ["length", "chunks"])
def test_w1_a_body_that_comes_after_the_answer_is_no_request(kind: str, framing: str) -> None:
    head, body = head_and_body(framing)
    server = CServer(kind)
    with server, server.running(), peer.Peer(server.port) as client:
        client.send(head)
        if kind == "unread":
            assert client.response().body == b"POST /"
        client.send(body + NEXT)
        if kind != "unread":
            assert client.response().status == 200
        assert client.response().body.rstrip() == b"GET /next"
    assert server.seen == [("POST", "/"), ("GET", "/next")]


# ---- proxies ------------------------------------------------------------------------------------


@contextlib.contextmanager
def logging(name: str, server: int, folder: Path) -> Iterator[Tuple[int, Path]]:
    """A proxy that shares its connections to the server among all clients: its port, and the log
    of the requests that it has seen, each a line with the target at its end."""
    program(name)
    if name == "haproxy":
        front = '    log-format "%HM %HU"\n    log stdout format raw local0\n'
        changes = [
            ("    default_backend pyws\n", f"{front}    default_backend pyws\n"),
            ("backend pyws\n    ", "backend pyws\n    http-reuse always\n    "),
        ]
        with haproxy(server, folder, *changes) as proxy:
            yield proxy.port, folder / "haproxy.log"
    else:
        log = folder / "requests.log"
        form = "log_format requests '$request_method $request_uri';\n"
        changes = [
            ("upstream pyws {", f"{form}upstream pyws {{"),
            ("        proxy_pass", f"        access_log {log} requests;\n        proxy_pass"),
        ]
        with nginx(server, folder, *changes) as proxy:
            yield proxy.port, log


def marked(targets: Iterable[str]) -> Counter[str]:
    """Those that belong to one trick or user."""
    return Counter(target for target in targets if re.match(r"/(smug|n|v)\d+$", target))


def logged(log: Path) -> Counter[str]:
    return marked(line.split(" ")[-1] for line in log.read_text("latin-1").split("\n"))


def numbered(data: bytes, number: int) -> bytes:
    """With paths of its own, of the same length."""
    data = data.replace(b"/smuggled", b"/smug%04d" % number)
    return data.replace(b"/next", b"/n%03d" % number)


def poke(port: int, batch: Sequence[Tuple[int, Trick]]) -> None:
    """Send each trick on a connection of its own, and read until nothing more comes."""
    with contextlib.ExitStack() as stack:
        clients = []
        for number, trick in batch:
            attacker = stack.enter_context(peer.Peer(port))
            attacker.send(numbered(trick.data, number))
            clients.append(attacker.socket)
        while clients:
            ready, _, _ = select.select(clients, [], [], 0.2)
            if not ready:
                break
            for client in ready:
                try:
                    data = client.recv(1 << 16)
                except ConnectionError:
                    data = b""
                if not data:
                    clients.remove(client)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("name", ["haproxy", "nginx"])
def test_h19_no_trick_smuggles_a_request_past_a_proxy(tmp_path: Path, name: str, kind: str) -> None:
    """What the proxy takes for one request is one for pyws, too: the other users of the proxy's
    connections get their own answers, and pyws sees only requests that the proxy has in its log."""
    server = CServer(kind)
    tricks = list(enumerate(TRICKS))
    with server, server.running(), logging(name, server.port, tmp_path) as (port, log):
        for first in range(0, len(tricks), 50):
            poke(port, tricks[first : first + 50])
            for user in range(10):
                path = f"/v{first + user}"
                answer = peer.request(port, f"GET {path} HTTP/1.1")
                assert answer.body.rstrip() == f"GET {path}".encode()
        peer.eventually(lambda: not marked(target for _, target in server.seen) - logged(log))
    seen = marked(target for _, target in server.seen)
    assert len(seen) > len(tricks) // 5
