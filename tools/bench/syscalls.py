#!/usr/bin/env python3
"""Counts the system calls of an echo server per message: one to receive, one to send, no more.

    python tools/bench/syscalls.py --build build
    python tools/bench/syscalls.py --build build --server "node other.js" --limit 2

Exit status 1 when a family of calls is above the limit. Needs strace.
"""

from __future__ import annotations

import argparse
import pathlib
import re
import shlex
import shutil
import sys
import tempfile

import harness

FAMILIES = {
    "receive": {"read", "readv", "recv", "recvfrom", "recvmsg", "recvmmsg"},
    "send": {"write", "writev", "send", "sendto", "sendmsg", "sendmmsg"},
    "wait": {"epoll_wait", "epoll_pwait", "epoll_pwait2", "poll", "ppoll", "select", "pselect6"},
    "other": set(),
}
LIMITED = ("receive", "send")
# A line of the table of strace -c: share, seconds, microseconds per call, calls, errors, name.
LINE = re.compile(r"^\s*[\d.]+\s+[\d.]+\s+\d+\s+(\d+)\s+(?:\d+\s+)?(\w+)$")


def count(options: argparse.Namespace, messages: int) -> dict[str, int]:
    """All system calls of a server that lives for so many messages."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "strace"
        with harness.running(
            options.server,
            environment=harness.server_environment(options.build),
            wrapper=["strace", "-f", "-c", "-o", str(path)],
        ) as server:
            harness.run_load(options.load, server, ["--messages", str(messages), "--conns", "10"])
        lines = path.read_text().splitlines()
    calls = {}
    for line in lines:
        match = LINE.match(line)
        if match and match.group(2) != "total":
            calls[match.group(2)] = int(match.group(1))
    if not calls:
        harness.fail("strace counted nothing")
    return calls


def sum_families(few: dict[str, int], many: dict[str, int], messages: int) -> dict[str, float]:
    """Calls per message; start, handshakes and end are in both counts and cancel."""
    sums = dict.fromkeys(FAMILIES, 0.0)
    for name, calls in many.items():
        family = next((key for key, names in FAMILIES.items() if name in names), "other")
        sums[family] += (calls - few.get(name, 0)) / messages
    return sums


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="System calls of an echo server per message.")
    parser.add_argument("--build", type=pathlib.Path, required=True, help="meson build folder")
    parser.add_argument("--server", help="command; default: the C example")
    parser.add_argument("--messages", type=int, default=2000, help="default %(default)s")
    parser.add_argument("--limit", type=float, default=1.05, help="default %(default)s")
    options = parser.parse_args()
    options.build = options.build.resolve()
    options.load = harness.find_tool(options.build, "load")
    known = harness.known_servers(options.build)
    options.server = known.get(options.server or "c") or shlex.split(options.server)
    return options


def main() -> int:
    options = parse_options()
    if shutil.which("strace") is None:
        harness.fail("strace is not installed")
    try:
        few = count(options, options.messages // 10)
        many = count(options, options.messages + options.messages // 10)
    except harness.BenchError as error:
        harness.fail(str(error))
    sums = sum_families(few, many, options.messages)
    for family, calls in sums.items():
        print(f"{family:8} {calls:6.3f} calls per message")
    above = [family for family in LIMITED if sums[family] > options.limit]
    for family in above:
        print(f"syscalls.py: {family}: {sums[family]:.3f} is above {options.limit}")
    return int(bool(above))


if __name__ == "__main__":
    sys.exit(main())
