#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Count the system calls of a server.

It may need one call to receive and one to send an echoed message, and one call to send to each
subscriber what was published in one turn of the loop.

    python tools/bench/syscalls.py --build build
    python tools/bench/syscalls.py --build build --server "node other.js" --limit 2 --cases echo

Exits with status 1 if a family of calls exceeds the limit. Needs strace.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
import shlex
import shutil
import sys
import tempfile
import time
from dataclasses import dataclass

import harness

FAMILIES = {
    "receive": {"read", "readv", "recv", "recvfrom", "recvmsg", "recvmmsg"},
    "send": {"write", "writev", "send", "sendto", "sendmsg", "sendmmsg"},
    "wait": {"epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6"},
    "other": set(),
}


@dataclass(frozen=True)
class Case:
    """Arguments of the load generator, and the number of messages per `unit`.

    Each unit may cost one call of the `limited` families.
    """

    arguments: str
    unit: str
    messages: float
    limited: tuple[str, ...]


PATIENCE = 60  # seconds
WINDOW, SUBSCRIBERS = 16, 50
CASES = {
    "echo": Case("--conns 10", "message", 1, ("receive", "send")),
    # The window is sent in one segment, so the server reads it in one turn.
    "broadcast": Case(
        f"--broadcast {SUBSCRIBERS} --pipeline {WINDOW}",
        "turn and subscriber",
        WINDOW / SUBSCRIBERS,
        ("send",),
    ),
}
# A line of the table of strace -c: share, seconds, microseconds per call, calls, errors, name.
LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$")


def count_sockets(pid: int) -> int:
    """Return how many sockets a process has."""
    count = 0
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(FileNotFoundError):  # it was closed just now
            count += os.readlink(entry).startswith("socket:")
    return count


def await_end(pid: int, sockets: int) -> None:
    """Wait until the server has seen that the load generator has left, and has so many sockets.

    Otherwise it would send a Close to each connection when it is stopped, or not: what a run costs
    besides its messages would depend on who gets the processor first.
    """
    deadline = time.monotonic() + PATIENCE
    while count_sockets(pid) > sockets:
        if time.monotonic() > deadline:
            raise harness.BenchError(f"connections are still open {PATIENCE} s after their end")
        time.sleep(0.01)


def count(options: argparse.Namespace, case: Case, messages: int) -> dict[str, int]:
    """Return all system calls of a server for a run with that many messages."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "strace"
        with harness.running(
            options.server,
            environment=harness.server_environment(options.build),
            wrapper=["strace", "-f", "-c", "-o", str(path)],
        ) as server:
            arguments = [*case.arguments.split(), "--messages", str(messages)]
            before = count_sockets(server.pid)
            harness.run_load(options.load, server, arguments)
            await_end(server.pid, before)
        lines = path.read_text().splitlines()
    calls = {}
    for line in lines:
        match = LINE.match(line)
        if match and match.group(2) != "total":
            calls[match.group(2)] = int(match.group(1))
    if not calls:
        harness.fail("strace counted nothing")
    return calls


def sum_families(few: dict[str, int], many: dict[str, int], units: float) -> dict[str, float]:
    """Return the calls per unit; startup, handshakes and shutdown cancel out."""
    sums = dict.fromkeys(FAMILIES, 0.0)
    for name, calls in many.items():
        family = next((key for key, names in FAMILIES.items() if name in names), "other")
        sums[family] += (calls - few.get(name, 0)) / units
    return sums


def check(options: argparse.Namespace, name: str) -> bool:
    """Count one case and print it; returns False if it exceeds the limit."""
    case = CASES[name]
    few = count(options, case, options.messages // 10)
    many = count(options, case, options.messages + options.messages // 10)
    sums = sum_families(few, many, options.messages / case.messages)
    for family, calls in sums.items():
        print(f"{name:10} {family:8} {calls:6.3f} calls per {case.unit}")
    above = [family for family in case.limited if sums[family] > options.limit]
    for family in above:
        print(f"syscalls.py: {name}: {family}: {sums[family]:.3f} is above {options.limit}")
    return not above


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Count the system calls of a server per message.")
    parser.add_argument("--build", type=pathlib.Path, required=True, help="meson build folder")
    parser.add_argument("--server", help="command (default: the C example)")
    parser.add_argument("--cases", default=",".join(CASES), help="of: %(default)s")
    parser.add_argument("--messages", type=int, default=1600, help="default %(default)s")
    parser.add_argument("--limit", type=float, default=1.05, help="default %(default)s")
    options = parser.parse_args()
    options.cases = options.cases.split(",")
    for name in options.cases:
        if name not in CASES:
            parser.error(f"unknown case {name}: choose from {', '.join(CASES)}")
    options.build = options.build.resolve()
    options.load = harness.find_tool(options.build, "load")
    known = harness.known_servers(options.build)
    options.server = known.get(options.server or "c") or shlex.split(options.server)
    return options


def main() -> int:
    options = parse_options()
    if shutil.which("strace") is None:
        harness.fail("strace is not installed")
    good = True
    for name in options.cases:
        try:
            good = check(options, name) and good
        except harness.BenchError as error:
            harness.fail(f"{name}: {error}")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
