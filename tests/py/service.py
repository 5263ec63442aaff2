# SPDX-License-Identifier: MIT
"""Programs as systemd starts them: with sockets that listen, and where to report.

sd_listen_fds(3), sd_notify(3), sd_watchdog_enabled(3).
"""

from __future__ import annotations

import json
import os
import socket
from typing import Sequence

from common import TIMEOUT
from program import Program

# Becomes the program. Its sockets are the descriptors from 3 on: for each of them it prints the
# port, or the path. "PID" in a variable is its own id.
START = """
import fcntl, json, os, socket, sys

paths, variables, command = json.loads(sys.argv[1])
sockets = []
for path in paths:
    if path:
        sockets.append(socket.create_server(path, family=socket.AF_UNIX))
    else:
        sockets.append(socket.create_server(("127.0.0.1", 0)))
    print(path or sockets[-1].getsockname()[1])
copies = [fcntl.fcntl(one, fcntl.F_DUPFD, 100) for one in sockets]
for number, copy in enumerate(copies, 3):
    os.dup2(copy, number)
    os.close(copy)
for name, value in variables.items():
    os.environ[name] = value.replace("PID", str(os.getpid()))
os.execv(command[0], command)
"""


class Service(Program):
    """A program that was started so.

    Attributes:
        places: The ports or paths of its sockets.
    """

    def __init__(
        self, command: Sequence[str], sockets: Sequence[str] = ("",), **variables: str
    ) -> None:
        """Start it.

        Args:
            command: The program and its arguments.
            sockets: The paths of Unix sockets; "" is one of TCP, at a free port.
            variables: What is added to the environment, or differs from what systemd sets.
        """
        passed = {"LISTEN_FDS": str(len(sockets)), "LISTEN_PID": "PID", **variables}
        super().__init__("-c", START, json.dumps([sockets, passed, command]))
        self.places = [self.line() for _ in sockets]


class Reports:
    """The socket that services report to; `address` is for NOTIFY_SOCKET."""

    def __init__(self, address: str) -> None:
        """Bind it: to a path, or to an abstract name that begins with "@"."""
        self.address = address
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.settimeout(TIMEOUT)
        self.socket.bind(address.replace("@", "\0", 1) if address[0] == "@" else address)

    def __enter__(self) -> Reports:
        return self

    def __exit__(self, *error: object) -> None:
        self.socket.close()

    def next(self) -> str:
        """The next report."""
        return self.socket.recv(1000).decode()

    def next_other(self, than: str) -> str:
        """The next report that is another one."""
        while True:
            report = self.next()
            if report != than:
                return report


def address_of_reports(kind: str, folder: str) -> str:
    """A free address of that kind: "path" or "abstract"."""
    return f"@pyws-{os.getpid()}" if kind == "abstract" else f"{folder}/reports"
