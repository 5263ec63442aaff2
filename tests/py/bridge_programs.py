# SPDX-License-Identifier: MIT
"""What the tests of the bridge share: programs with it or without it, and bursts of messages."""

import os
import subprocess
import sys
import textwrap
from contextlib import contextmanager
from typing import Dict, Iterator, List

import peer
from common import ROOT

from pyws import _native


def variables() -> Dict[str, str]:
    """The environment of programs that use the library of these tests."""
    paths = os.pathsep.join((str(ROOT), str(ROOT / "tests" / "py")))
    return {**os.environ, "PYTHONPATH": paths, "PYWS_LIBRARY": _native.lib.path}


def python(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    """Run a program."""
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)],
        capture_output=True,
        text=True,
        timeout=60,
        env={**variables(), **environment},
    )


@contextmanager
def start(code: str) -> "Iterator[subprocess.Popen[str]]":
    """A program that runs meanwhile, with a pipe for what it prints."""
    command = [sys.executable, "-c", textwrap.dedent(code)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdout=pipe, text=True, env=variables()) as program:
        try:
            yield program
        finally:
            program.kill()


def burst(count: int, payloads: List[bytes]) -> bytes:
    """So many messages: texts, and every other one binary."""
    return b"".join(peer.frame(payloads[i % len(payloads)], 1 + i % 2) for i in range(count))


def exchange(client: peer.Peer, data: bytes, answer: int, times: int) -> None:
    """Send `data` so many times and read `answer` bytes after each."""
    for _ in range(times):
        client.send(data)
        left = answer
        while left > 0:
            received = len(client.socket.recv(1 << 20))
            assert received
            left -= received
