# SPDX-License-Identifier: MIT
"""examples/compose: its files fit together, and new versions are rolled out as the docs say.

There are no containers here. The same programs run with the same command line and configuration,
except for addresses, and a DNS server of the test stands for that of Docker. Without HAProxy or
redis-server, the tests that need them are skipped; with CI=true they fail instead.
"""

import json
import random
import re
import select
import shutil
import signal
import socket
import struct
import subprocess
import sys
import threading
import time
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any, Dict, Iterator, List, Optional, Tuple

import pytest
from common import ROOT, TIMEOUT, show_figures
from peer import Peer, close_frame, eventually, frame, handshake, request, upgraded
from program import Program
from redis_server import RedisServer, free_port
from test_proxies import program, started

from pyws import App, Request, Response
from pyws.testing import running

EXAMPLE = ROOT / "examples" / "compose"
COMPOSE = (EXAMPLE / "compose.yaml").read_text(encoding="utf-8")
BALANCER = (EXAMPLE / "haproxy.cfg").read_text(encoding="utf-8")
PAGE = ROOT / "docs" / "deployment" / "rollout.md"

DRAIN = 2  # seconds, shorter than in the example
CLIENTS = 8
INTERVAL = 0.05  # seconds between what a client says


def listed(key: str) -> List[List[str]]:
    """The values of this key of compose.yaml that are lists of strings."""
    found = re.findall(rf"^ +{key}: (\[.*?\])$", COMPOSE, re.M | re.S)
    return [json.loads(text) for text in found]


# ---- the files ----------------------------------------------------------------------------------


def test_there_is_time_for_the_shutdown() -> None:
    command, _ = listed("command")
    drain = int(command[command.index("--drain") + 1])
    (grace,) = re.findall(r"stop_grace_period: (\d+)s", COMPOSE)
    assert int(grace) >= drain + 8  # 5 seconds of `run`, and 3 until workers are killed


def test_the_command_of_the_image_is_that_of_the_services() -> None:
    text = (EXAMPLE / "Dockerfile").read_text(encoding="utf-8")
    (image,) = re.findall(r"^CMD (.*)$", text, re.M)
    command, _ = listed("command")
    assert command[: len(json.loads(image))] == json.loads(image)
    (copied,) = re.findall(r"^COPY (\S+) (\S+)$", text, re.M)
    assert (EXAMPLE.parent / copied[0]).exists()
    assert copied[1] == command[1]


def test_the_balancer_knows_all_services() -> None:
    apps = re.findall(r"^  (\w+): \*app$", COMPOSE, re.M)
    port = listed("command")[0][listed("command")[0].index("--port") + 1]
    servers = re.findall(r"^    server (\w+) (\S+)$", BALANCER, re.M)
    assert servers == [(app, f"{app}:{port}") for app in apps]
    assert re.findall(r"for app in (.*?); do", PAGE.read_text(encoding="utf-8")) == [" ".join(apps)]


def test_each_service_builds_an_image_of_its_own() -> None:
    """Two builds of one name at the same time fail ("image already exists")."""
    (shared,) = re.findall(r"^x-app: &app\n((?: .*\n)+)", COMPOSE, re.M)
    assert "  build:" in shared
    assert "image:" not in shared
    assert "up --build --detach --no-deps --wait $app" in PAGE.read_text(encoding="utf-8")


def test_the_health_check_fails_without_an_answer() -> None:
    """It has the exit status that Docker looks at, and runs in the Python of the image."""
    _, python, option, code = listed("test")[0]
    assert (python, option) == ("python", "-c")
    for status in (200, 503):
        app = App()
        app.get("/health", partial(answer, status))
        with running(app) as url:
            place = url.replace("ws://", "")
            assert code.count("127.0.0.1:8000") == 1
            command = [sys.executable, option, code.replace("127.0.0.1:8000", place)]
            done = subprocess.run(command, stderr=subprocess.DEVNULL, timeout=TIMEOUT)
            assert done.returncode == (0 if status == 200 else 1)


def answer(status: int, res: Response, req: Request) -> None:
    res.send("", status)


# ---- what Docker does ---------------------------------------------------------------------------


class Names:
    """A DNS server (RFC 1035) with the addresses of the containers that are running."""

    def __init__(self) -> None:
        self.addresses: Dict[str, str] = {}
        self.socket = socket.socket(type=socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]
        self.thread = threading.Thread(target=self._serve)
        self.thread.start()

    def _serve(self) -> None:
        while True:
            query, sender = self.socket.recvfrom(4096)
            if not query:
                return
            self.socket.sendto(self._answer(query), sender)

    def _answer(self, query: bytes) -> bytes:
        labels, at = [], 12
        while query[at]:
            labels.append(query[at + 1 : at + 1 + query[at]].decode())
            at += 1 + query[at]
        question = query[12 : at + 5]
        (kind,) = struct.unpack("!H", query[at + 1 : at + 3])
        address = self.addresses.get(".".join(labels))
        status = 0x8180 if address else 0x8183  # NXDOMAIN
        answers = int(bool(address) and kind == 1)  # A; an empty answer for AAAA
        answer = query[:2] + struct.pack("!5H", status, 1, answers, 0, 0) + question
        if answers and address:
            answer += struct.pack("!3HIH", 0xC00C, 1, 1, 1, 4) + socket.inet_aton(address)
        return answer

    def __enter__(self) -> "Names":
        return self

    def __exit__(self, *error: object) -> None:
        with socket.socket(type=socket.SOCK_DGRAM) as last:
            last.sendto(b"", ("127.0.0.1", self.port))
        self.thread.join(TIMEOUT)
        self.socket.close()


class Containers:
    """The services of compose.yaml as processes of this machine."""

    def __init__(self, folder: Path, stack: ExitStack) -> None:
        self.folder = folder
        self.stack = stack
        self.commands = folder / "commands"  # the socket for HAProxy's
        self.port = free_port()  # of all apps, each of which has an address
        self.names = stack.enter_context(Names())
        self.redis = stack.enter_context(RedisServer(folder, *listed("command")[1][1:]))
        self.apps: Dict[str, Program] = {}
        self.ended: List[Program] = []
        self.public = stack.enter_context(self._balancer())

    @contextmanager
    def _balancer(self) -> Iterator[int]:
        path = program("haproxy")
        with socket.create_server(("127.0.0.1", 0)) as public:
            text = BALANCER
            for old, new in (
                ("127.0.0.11:53", f"127.0.0.1:{self.names.port}"),
                ("bind :8000", f"bind fd@{public.fileno()}"),
                ("app1:8000", f"app1:{self.port}"),
                ("app2:8000", f"app2:{self.port}"),
            ):
                assert text.count(old) == 1, old
                text = text.replace(old, new)
            settings = (
                f"global\n    stats socket {self.commands}\n    maxconn 200\n    nbthread 1\n"
            )
            file = self.folder / "haproxy.cfg"
            file.write_text(settings + text)
            command = [path, "-db", "-f", str(file)]
            with started(command, self.folder / "haproxy.log", public.fileno()):
                yield public.getsockname()[1]

    def up(self, name: str) -> None:
        """``docker compose up --wait``: replaces a container; the new one has another address."""
        old = self.apps.pop(name, None)
        if old is not None:
            assert old.stop(signal.SIGTERM) == 0
            assert old.rest() == old.error_text() == ""
        address = "127." + ".".join(str(random.randrange(1, 255)) for _ in range(3))
        words = listed("command")[0][1:]
        for old_word, new in (
            ("/srv/chat.py", str(ROOT / "examples" / "py" / "chat.py")),
            ("0.0.0.0", address),
            ("8000", str(self.port)),
            ("redis://redis:6379", self.redis.url),
            ("20", str(DRAIN)),
        ):
            words[words.index(old_word)] = new
        app = self.apps[name] = self.stack.enter_context(Program(*words))
        assert app.line().startswith("listening on ")
        self.names.addresses[name] = address
        eventually(lambda: self.is_healthy(address))
        # Instead of the five seconds of the page, which may not be enough here.
        eventually(lambda: self.status(name) == ("UP", address))

    def join(self, name: str, person: str) -> Peer:
        """A client of this app, without the balancer."""
        address = self.names.addresses[name]
        peer = Peer.over(socket.create_connection((address, self.port), TIMEOUT))
        peer.send(handshake(f"/tea?name={person}"))
        assert peer.response().status == 101
        return peer

    def is_healthy(self, address: str) -> bool:
        with socket.create_connection((address, self.port), TIMEOUT) as connection:
            peer = Peer.over(connection)
            peer.send(b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n")
            return peer.response().status == 200

    def status(self, name: str) -> Tuple[str, str]:
        """Whether HAProxy uses this server, and the address that it knows."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            if connection.connect_ex(str(self.commands)):
                return "", ""  # not yet
            connection.sendall(b"show stat chat 4 -1\n")
            head, *lines = b"".join(iter(lambda: connection.recv(4096), b"")).decode().splitlines()
        names = head.lstrip("# ").split(",")
        for row in (dict(zip(names, line.split(","))) for line in lines):
            if row.get("svname") == name:
                return row["status"], row["addr"].rpartition(":")[0]
        return "", ""


@pytest.fixture
def containers(tmp_path: Path) -> Iterator[Containers]:
    pytest.importorskip("redis")
    program("haproxy")
    with ExitStack() as stack:
        yield Containers(tmp_path, stack)


# ---- clients ------------------------------------------------------------------------------------


class Client(threading.Thread):
    """Says numbers in the room, and comes back when the server closes, as client.js does.

    The chat sends everything back to the one who has said it. What was not sent back before the
    connection ended is said again.
    """

    def __init__(self, port: int, name: str) -> None:
        super().__init__(daemon=True)
        self.port = port
        self.name = name
        self.is_talking = True
        self.is_leaving = False
        self.refused = 0
        self.next = 0  # the next number
        self.repeated = 0
        self.unconfirmed: List[int] = []
        # Of each connection: the confirmed numbers, and what all others have said.
        self.confirmed: List[List[int]] = []
        self.heard: List[Dict[str, List[int]]] = []
        self.error: Optional[BaseException] = None

    def run(self) -> None:
        try:
            while not self.is_leaving:
                self._connect()
                time.sleep(random.uniform(0.19, 0.31))  # the first delay of client.js
        except BaseException as error:
            self.error = error

    def _connect(self) -> None:
        try:
            peer = upgraded(self.port, f"/tea?name={self.name}")
        except (OSError, EOFError, AssertionError):
            self.refused += 1
            return
        with peer:
            self.confirmed.append([])
            self.heard.append({})
            for number in self.unconfirmed:
                peer.send(frame(b"%d" % number))
            self.repeated += len(self.unconfirmed)
            self._stay(peer)

    def _stay(self, peer: Peer) -> None:
        due = time.monotonic()
        while not self.is_leaving:
            if self.is_talking and time.monotonic() >= due:
                due = time.monotonic() + INTERVAL
                self.unconfirmed.append(self.next)
                peer.send(frame(b"%d" % self.next))
                self.next += 1
            if peer.buffer or select.select([peer.socket], [], [], INTERVAL / 2)[0]:
                got = peer.frame()
                if got.opcode == 8:
                    assert got.close_code == 1001
                    peer.send(close_frame(1001))
                    assert peer.at_end()
                    return
                self._note(json.loads(got.payload))

    def _note(self, message: Dict[str, Any]) -> None:
        if "event" in message:
            return
        number = int(message["text"])
        self.heard[-1].setdefault(message["name"], []).append(number)
        if message["name"] == self.name:
            self.unconfirmed.remove(number)
            self.confirmed[-1].append(number)

    def has_said(self, number: int) -> bool:
        return self.next > number

    def has_heard(self, name: str, number: int) -> bool:
        return any(number in heard.get(name, ()) for heard in list(self.heard))

    def count(self, other: "Client", first: int) -> int:
        """How many of the numbers of another one it has heard; none twice."""
        numbers = [number for heard in self.heard for number in heard.get(other.name, ())]
        assert len(set(numbers)) == len(numbers)
        return sum(number >= first for number in numbers)

    def check(self, other: "Client") -> None:
        """While both have been connected, it has missed nothing, and heard it in order."""
        for heard in self.heard:
            for said in other.confirmed:
                got = [number for number in heard.get(other.name, ()) if number in set(said)]
                if got:
                    first = said.index(got[0])
                    assert got == said[first : first + len(got)]


def test_a_rolling_replacement_under_load(containers: Containers) -> None:
    """Clients miss what is said while they are not connected, and nothing else."""
    for name in ("app1", "app2"):
        containers.up(name)
    clients = [Client(containers.public, f"client{number}") for number in range(CLIENTS)]
    for client in clients:
        client.start()
    eventually(lambda: all(a.has_heard(b.name, b.next - 1) for a in clients for b in clients))
    starts = {client.name: client.next for client in clients}
    for name in ("app1", "app2"):
        containers.up(name)
        for client in clients:
            eventually(partial(client.has_said, client.next + 10))
    for client in clients:
        client.is_talking = False
    # The last numbers reach everyone: no one is reconnecting any more.
    eventually(lambda: all(a.has_heard(b.name, b.next - 1) for a in clients for b in clients))
    for client in clients:
        client.is_leaving = True
        client.join(TIMEOUT)
        assert client.error is None
        assert client.unconfirmed == []
    assert sum(client.refused for client in clients) == 0
    reconnects = sum(len(client.heard) - 1 for client in clients)
    assert reconnects >= CLIENTS  # each one at least once: both servers were replaced
    for client in clients:
        for other in clients:
            client.check(other)
    said = sum(client.next - starts[client.name] for client in clients)
    confirmed = sum(client.count(client, starts[client.name]) for client in clients)
    assert confirmed == said
    heard = sum(a.count(b, starts[b.name]) for a in clients for b in clients)
    repeated = sum(client.repeated for client in clients)
    # All that the servers have sent is what at least one client has heard; none of it is counted
    # as lost: that would have been logged.
    print(f"\n{reconnects} reconnections, {repeated} messages said again")
    show_figures("from clients to servers", said, confirmed, 0)
    show_figures("from servers to clients", said * CLIENTS, heard, 0)


def meet(ann: Peer, bob: Peer) -> None:
    """Until what Ann says reaches Bob: his server has subscribed to the room."""
    event = json.loads(bob.frame().payload)
    assert (event["name"], event["event"]) == ("Bob", "join")
    heard = b""
    while b'"text"' not in heard:
        while not (bob.buffer or select.select([bob.socket], [], [], INTERVAL)[0]):
            ann.send(frame(b"?"))
        heard = bob.frame().payload


def texts(peer: Peer) -> Iterator[str]:
    """What Ann says in the room, until the server closes."""
    while True:
        got = peer.frame()
        if got.opcode == 8:
            return
        message = json.loads(got.payload)
        if message["name"] == "Ann" and message.get("text", "?") != "?":
            yield message["text"]


def test_what_is_answered_was_handled_and_nothing_else(containers: Containers) -> None:
    """A client goes on saying numbers until the Close frame comes: some are then on the way."""
    for name in ("app1", "app2"):
        containers.up(name)
    app = containers.apps["app1"].process
    with containers.join("app2", "Bob") as bob, containers.join("app1", "Ann") as ann:
        meet(ann, bob)
        heard: List[str] = []  # at once: the chat drops what a slow reader does not take
        listener = threading.Thread(target=lambda: heard.extend(texts(bob)))
        listener.start()
        said, answers = 0, []
        for _ in range(200):
            ann.send(frame(b"%d" % said))
            said += 1
        for answer in texts(ann):
            answers.append(answer)
            if len(answers) == 1000:
                app.send_signal(signal.SIGTERM)
            with suppress(ConnectionError):  # the server may have closed already
                ann.send(frame(b"%d" % said))
            said += 1
        ann.socket.close()
        app.wait(TIMEOUT)
        assert answers == [str(number) for number in range(len(answers))]
        assert said > len(answers)
        eventually(lambda: len(heard) >= len(answers))
        containers.apps["app2"].process.send_signal(signal.SIGTERM)
        listener.join(2 * TIMEOUT)  # it drains before it closes
        assert heard == answers


def test_a_client_finds_the_other_server_while_one_is_killed(containers: Containers) -> None:
    """HAProxy does not know that it is dead, and finds out when the client comes."""
    for name in ("app1", "app2"):
        containers.up(name)
    app = containers.apps["app1"]
    app.process.send_signal(signal.SIGKILL)
    app.wait()
    for _ in range(4):
        assert request(containers.public, "GET /health HTTP/1.1").status == 200


def test_the_schema_of_compose_files_finds_a_mistake(tmp_path: Path) -> None:
    """The check of CI does what it is there for."""
    check = shutil.which("check-jsonschema") or pytest.skip("no check-jsonschema here")
    command = [check, "--builtin-schema", "vendor.compose-spec"]
    file = tmp_path / "compose.yaml"
    for text, status in ((COMPOSE, 0), (COMPOSE.replace("stop_grace_period", "stop_period"), 1)):
        file.write_text(text)
        done = subprocess.run([*command, str(file)], stdout=subprocess.PIPE, timeout=TIMEOUT)
        assert done.returncode == status, done.stdout
