# SPDX-License-Identifier: MIT
"""Programs of several workers, for tests: each runs in a process of its own."""

import signal
import socket
import textwrap
import time
from collections import Counter
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Dict, Iterator, List

from peer import Peer, eventually, upgraded
from program import Program

BEGIN = """
import asyncio, logging, os, signal, socket, sys, threading, time
from pyws import App

logging.basicConfig(level="INFO", format="%(message)s")

def print(*things):
    # In one write: lines of several processes must not mix.
    os.write(1, (" ".join(map(str, things)) + "\\n").encode())

app = App()
app.ws("/*", open=lambda ws: ws.send(str(os.getpid())), message=lambda ws, m, o: ws.send(m))

def listen(**options):
    app.listen({"host": "127.0.0.1", **options}, lambda place: print(place.port))
"""
RUN = """
listen()
app.run(workers=3)
print("returned", os.getpid())
"""


@contextmanager
def start(text: str, *arguments: str) -> Iterator[Program]:
    """No process of it is left afterwards."""
    with Program("-c", BEGIN + textwrap.dedent(text), *arguments) as program:
        yield program
        if program.process.poll() is None:
            program.stop(signal.SIGTERM)
    eventually(lambda: not program.reader.is_alive())  # all have closed stdout


def pid_of(peer: Peer) -> int:
    return int(peer.frame().payload)


def pids(port: int, count: int) -> Dict[int, int]:
    """How many of so many connections each process got."""
    found: Counter[int] = Counter()
    for _ in range(count):
        with upgraded(port) as peer:
            found[pid_of(peer)] += 1
    return found


def peers_of_all(port: int, count: int, stack: ExitStack) -> Dict[int, List[Peer]]:
    """Connections to so many processes, some to each."""
    peers: Dict[int, List[Peer]] = {}
    for number in range(220):
        if number >= 20 and len(peers) == count:
            break
        if number >= 20:
            time.sleep(0.05)  # one of them begins late
        peer = stack.enter_context(upgraded(port))
        peers.setdefault(pid_of(peer), []).append(peer)
    assert len(peers) == count
    return peers


def gone(pid: int) -> bool:
    """No such process, or it is one that nobody has waited for."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return text.rsplit(")", 1)[1].split()[0] == "Z"


def is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
            one.listen()
        except OSError:
            return False
    return True
