# SPDX-License-Identifier: MIT
"""Processes that lack what others have: standard descriptors, or room in their address space."""

import os
import struct
import subprocess
import sys
from contextlib import ExitStack
from pathlib import Path
from select import select

import pytest
from common import ROOT, TIMEOUT
from peer import Peer, eventually, frame, upgraded

SANITIZED = "libasan" in os.environ.get("LD_PRELOAD", "")

# Standard descriptors are closed where the program is to run without them, so a file has the port.
PROGRAM = """
import os, resource, sys
import pyws

def message(ws, text, opcode):
    print("a line that no client may get", flush=True)
    print("nor this one", file=sys.stderr, flush=True)
    ws.send(text)

def listening(place):
    with open(sys.argv[1] + ".new", "w") as file:
        file.write(str(place.port))
    os.rename(sys.argv[1] + ".new", sys.argv[1])

app = pyws.App()
app.ws("/*", message=message, max_payload_length=1 << 26)
app.listen({"host": "127.0.0.1", "port": 0}, listening)
if len(sys.argv) > 2:
    with open("/proc/self/statm") as file:
        used = int(file.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + int(sys.argv[2]),) * 2)
app.run()
"""


class Process:
    """The program above, killed at the end of its with block."""

    def __init__(self, tmp_path: Path, redirections: str, *arguments: str) -> None:
        self.port_file = tmp_path / "port"
        script = tmp_path / "program.py"
        script.write_text(PROGRAM)
        command = f'exec "$0" "$@" {redirections}'
        self.process = subprocess.Popen(
            ["/bin/sh", "-c", command, sys.executable, script, self.port_file, *arguments],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
        )

    def port(self) -> int:
        eventually(lambda: self.port_file.exists() or self.process.poll() is not None)
        return int(self.port_file.read_text())

    def __enter__(self) -> "Process":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait(TIMEOUT)


def echoes(client: Peer) -> bool:
    client.send(frame(b"hello"))
    return client.frame().payload == b"hello"


def test_t88_without_standard_descriptors(tmp_path: Path) -> None:
    """Sockets take the numbers 0 to 2, and what Python would print reaches no client."""
    with Process(tmp_path, "<&- >&- 2>&-") as program:
        with ExitStack() as stack:
            clients = [stack.enter_context(upgraded(program.port())) for _ in range(4)]
            for _ in range(3):
                assert all(map(echoes, clients))
        program.process.terminate()
        assert program.process.wait(TIMEOUT) == 0


@pytest.mark.skipif(SANITIZED, reason="a sanitizer ends the process where memory is short")
def test_t88_a_limit_of_address_space(tmp_path: Path) -> None:
    """Who needs more memory than there is is closed with 1011, and the server goes on."""
    head = struct.pack("!BBQ", 0x82, 0xFF, 40 << 20) + bytes(4)
    part = head + bytes(30 << 20)  # the rest never comes
    command = "<&- >/dev/null 2>&1"
    with Process(tmp_path, command, str(100 << 20)) as program, ExitStack() as stack:
        client = stack.enter_context(upgraded(program.port()))
        assert echoes(client)
        hungry = [stack.enter_context(upgraded(program.port())) for _ in range(6)]
        for one in hungry:
            one.send(part)
        answered, _, _ = select([one.socket for one in hungry], [], [], TIMEOUT)
        assert answered
        for one in hungry:
            if one.socket in answered:
                assert one.frame().close_code == 1011
            one.socket.close()
        assert echoes(client)
        assert echoes(stack.enter_context(upgraded(program.port())))
        assert program.process.poll() is None
