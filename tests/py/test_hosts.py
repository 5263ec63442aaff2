# SPDX-License-Identifier: MIT
"""Apps on several hosts, whose topics a broker connects (B1, B2, B4).

The hosts are network namespaces. Without the right to make them, or without a broker, the tests are
skipped.
"""

import json
import os
import select
import shutil
import signal
import subprocess
import sys
import time
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Set

import pytest
from chromium import unavailable
from common import ROOT, TIMEOUT, show_figures
from namespaces import Host, Network
from peer import Peer, eventually, frame

CHAT = ROOT / "examples" / "py" / "chat.py"
PROGRAM = ROOT / "tests" / "py" / "hosts_program.py"


@contextmanager
def running(command: List[str]) -> Iterator[Any]:
    """A process, ended by SIGTERM."""
    process: Any = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    try:
        yield process
        process.send_signal(signal.SIGTERM)
        process.wait(TIMEOUT)
    finally:
        process.kill()
        process.wait(TIMEOUT)
        process.stdout.close()


def redis_command(host: Host, folder: Path) -> List[str]:
    program = shutil.which("redis-server") or unavailable("no redis-server here")
    settings = ["--protected-mode", "no", "--save", "", "--dir", str(folder)]
    return [program, "--bind", host.address, "--port", "6379", "--loglevel", "warning", *settings]


def nats_command(host: Host, folder: Path) -> List[str]:
    program = shutil.which("nats-server") or unavailable("no nats-server here")
    return [program, "-a", host.address, "-p", "4222", "-l", str(folder / "nats.log")]


BROKERS: Dict[str, Any] = {"redis": (redis_command, 6379), "nats": (nats_command, 4222)}


@contextmanager
def serving(host: Host, program: Path, *words: str) -> Iterator[int]:
    """A program on this host; gives the port that it listens on."""
    with running(host.command(sys.executable, "-u", str(program), *words)) as process:
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        yield int(line.rpartition(":")[2])


def said(peer: Peer, wanted: Callable[[Dict[str, Any]], bool]) -> Dict[str, Any]:
    """The next message that is wanted."""
    while True:
        message: Dict[str, Any] = json.loads(peer.frame().payload)
        if wanted(message):
            return message


def text_of(peer: Peer) -> str:
    """The next text that someone has said, except for those of `meet`."""
    message = said(peer, lambda message: message.get("text", "?") != "?")
    return f"{message['name']}: {message['text']}"


def meet(speaker: Peer, listener: Peer) -> None:
    """Until what one says reaches the other: their servers are connected to the broker."""
    deadline = time.monotonic() + TIMEOUT
    while not (listener.buffer or select.select([listener.socket], [], [], 0.05)[0]):
        assert time.monotonic() < deadline
        speaker.send(frame(b"?"))
    said(listener, lambda message: message.get("text") == "?")


@pytest.fixture(params=sorted(BROKERS))
def rooms(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    """Three hosts: two with a chat, and a broker on the third one."""
    pytest.importorskip("redis" if request.param == "redis" else "nats")
    make, port = BROKERS[request.param]
    with ExitStack() as stack:
        network = stack.enter_context(Network(3))
        first, second, third = network.hosts
        broker = stack.enter_context(running(third.command(*make(third, tmp_path))))
        third.wait_for(port, broker)
        url = f"{request.param}://{third.address}:{port}"
        people = []
        for host, name in ((first, "Ann"), (second, "Bob")):
            words = ["--host", host.address, "--port", "0", "--broker", url]
            port = stack.enter_context(serving(host, CHAT, *words))
            people.append(stack.enter_context(host.upgraded(port, f"/tea?name={name}")))
        yield people


def test_b1_a_room_spans_two_hosts(rooms: Any) -> None:
    """What one says reaches both, in order and once: the broker brings the author nothing back."""
    ann, bob = rooms
    said(ann, lambda message: message.get("name") == "Ann")  # her own arrival
    said(bob, lambda message: message.get("name") == "Bob")
    meet(ann, bob)
    meet(bob, ann)
    for number in range(200):
        ann.send(frame(b"%d" % number))
    bob_heard = [text_of(bob) for _ in range(200)]
    bob.send(frame(b"end"))
    everything = [f"Ann: {number}" for number in range(200)]
    assert bob_heard == everything
    assert [text_of(ann) for _ in range(201)] == [*everything, "Bob: end"]
    assert text_of(bob) == "Bob: end"


# ---- a host that is cut off ---------------------------------------------------------------------


class Site:
    """A host with `PROGRAM`, and a client of each of its two workers."""

    def __init__(self, host: Host, stack: ExitStack, url: str) -> None:
        self.host = host
        self.sent = 0
        self.start = 0  # the first number that was sent when all sites were connected
        self.clients: List[Peer] = []
        self.heard: List[List[str]] = [[], []]  # by client: what was published anywhere
        port = stack.enter_context(serving(host, PROGRAM, host.address, url))
        workers: Set[int] = set()
        while len(workers) < 2:
            client = stack.enter_context(host.upgraded(port, "/"))
            worker = self.ask(client, [])["worker"]
            if worker not in workers:
                workers.add(worker)
                self.clients.append(client)

    def ask(self, client: Peer, heard: List[str]) -> Dict[str, Any]:
        """The counters of the worker of this client. What comes before them is added to `heard`."""
        client.send(frame(b"numbers"))
        while True:
            text = client.frame().payload.decode()
            if text.startswith("{"):
                numbers: Dict[str, Any] = json.loads(text)
                return numbers
            heard.append(text)

    def numbers(self) -> Dict[str, int]:
        """The sum of the counters of both workers."""
        each = [self.ask(client, heard) for client, heard in zip(self.clients, self.heard)]
        return {name: sum(one[name] for one in each) for name in each[0]}

    def publish(self, count: int) -> None:
        """By turns of the two workers: "ADDRESS WORKER NUMBER"."""
        for _ in range(count):
            worker = self.sent % 2
            text = f"{self.host.address} {worker} {self.sent}"
            self.clients[worker].send(frame(text.encode()))
            self.sent += 1

    def has_all_of(self, other: "Site") -> bool:
        """Whether both clients have heard the last that the other site has published until now."""
        self.numbers()
        last = range(max(other.sent - 2, 0), other.sent)  # of both workers
        return all(set(last) <= set(self.heard_of(other, client)) for client in (0, 1))

    def has_heard(self, client: int, count: int) -> bool:
        """Whether this client has heard so much of its own site."""
        self.numbers()
        return len(self.heard_of(self, client)) == count

    def heard_of(self, other: "Site", client: int) -> List[int]:
        """The numbers of what this client has heard of another site, in order of arrival."""
        words = (text.split() for text in self.heard[client])
        return [int(number) for address, _, number in words if address == other.host.address]


def test_b4_a_host_is_cut_off_under_load(tmp_path: Path) -> None:
    """Local delivery goes on, the others are not disturbed, and each loss is counted."""
    pytest.importorskip("redis")
    with ExitStack() as stack:
        network = stack.enter_context(Network(4))
        *hosts, last = network.hosts
        broker = stack.enter_context(running(last.command(*redis_command(last, tmp_path))))
        last.wait_for(6379, broker)
        url = f"redis://{last.address}:6379"
        sites = [Site(host, stack, url) for host in hosts]
        cut = sites[1]

        def all_connected() -> bool:
            """Everyone hears of everyone."""
            for site in sites:
                site.publish(2)
                site.numbers()
            return all(
                site.heard_of(other, client)
                for site in sites
                for other in sites
                for client in (0, 1)
            )

        eventually(all_connected)
        for site in sites:
            site.start = site.sent
            site.publish(300)
        eventually(lambda: all(one.has_all_of(other) for one in sites for other in sites))
        for site in sites:
            site.publish(150)
        cut.host.cut()
        for site in sites:
            site.publish(150)
        before = cut.sent
        for client in (0, 1):  # those of the same host have everything, while the broker is away
            eventually(partial(cut.has_heard, client, before))
        patiently(lambda: cut.numbers()["broker_up"] == 0)
        cut.publish(100)
        cut.host.connect()
        patiently(lambda: cut.numbers()["broker_up"] == 2)
        eventually(lambda: all(site.numbers()["broker_queued"] == 0 for site in sites))
        for site in sites:
            numbers = site.numbers()
            assert numbers["broker_published"] + numbers["broker_lost"] == site.sent
            listener = sites[0] if site is cut else cut
            there = len(listener.heard_of(site, 0))
            what = "by the host that is cut off" if site is cut else "to it by another host"
            show_figures(what, site.sent, there, numbers["broker_lost"])
            for other in sites:
                for client in (0, 1):
                    check(site, other, client, cut)
        assert cut.numbers()["broker_reconnects"] >= 2


def patiently(condition: Callable[[], bool]) -> None:
    """As `eventually`, for what takes 10 seconds by itself: so long a broker may be silent."""
    deadline = time.monotonic() + 3 * TIMEOUT
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def check(site: Site, other: Site, client: int, cut: Site) -> None:
    """What a client has heard of another site: in order of each worker, and never twice."""
    got = site.heard_of(other, client)
    assert len(set(got)) == len(got)
    for worker in (0, 1):
        of_worker = [number for number in got if number % 2 == worker]
        assert of_worker == sorted(of_worker)
    if site is other:
        assert len(got) == other.sent
    elif cut not in (site, other):  # they were connected all the time
        assert set(got) >= set(range(other.start, other.sent))
