#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare the instructions per message, counted by callgrind, with a budget.

Covers the C echo example, requests to the C device example, and a Python echo handler, and checks
that idle connections do not make the example's messages more expensive. The cases with TLS need a
build with -Dtls=openssl and are left out without it; they do not count the instructions of OpenSSL,
which depend on the CPU and are not this project's, nor those of other libraries.

    python tools/bench/budget.py --build build             # compare with budgets.json
    python tools/bench/budget.py --build build --update    # write what was measured plus 5 %

Unlike times, counts do not depend on what else the machine does. Each case runs with two message
counts, and the difference in instructions is divided by the difference in messages, so that startup
and shutdown cancel out. What is above its budget or has none is counted again: the kernel may have
split a message. The counts do depend on the compiler, the C library and the build of Python:
budgets are for the default build type and the packages of Debian 12. Needs valgrind.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import pathlib
import re
import shlex
import shutil
import socket
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import harness

BUDGETS = pathlib.Path(__file__).with_name("budgets.json")
HEAD_ROOM = 1.05
PYTHON = "/usr/bin/python3"


@dataclass(frozen=True)
class Case:
    """Arguments of the load generator, the option that takes a count, and the two counts.

    `each` is the number of deliveries of a message, and `beside` the number of idle connections.
    `server` is one of the servers of harness.py, or "device", used without --server. A `request`
    is sent, and its answer received, as often as the counts say, on one connection. With `tls`,
    the server is "c_tls", and only instructions of what the build folder has are counted.
    """

    arguments: str
    option: str
    few: int
    many: int
    each: int = 1
    beside: int = 0
    server: str = "c"
    request: str = ""
    tls: bool = False

    def quick(self) -> Case:
        """A tenth of the work, much less exact."""
        part = 10
        return replace(
            self, few=self.few // part, many=self.many // part, beside=self.beside // part
        )


FIELDS = "Host: localhost\r\nUser-Agent: budget\r\nAccept: */*\r\nAccept-Encoding: gzip\r\n"
GET = f"GET / HTTP/1.1\r\n{FIELDS}\r\n"
PAGE = GET.replace("GET /", "GET /page")
POST = f"POST /upload HTTP/1.1\r\n{FIELDS}Content-Length: 1024\r\n\r\n{'x' * 1024}"
CASES = {
    "echo64": Case("--conns 1 --size 64", "--messages", 1000, 3000),
    "echo64p16": Case("--conns 1 --size 64 --pipeline 16", "--messages", 4000, 12000),
    "echo1k": Case("--conns 1 --size 1024", "--messages", 1000, 3000),
    "echo64k": Case("--conns 1 --size 65536 --binary", "--messages", 100, 300),
    "connect": Case("--conns 1", "--connects", 200, 600),
    "tls64": Case("--conns 1 --size 64", "--messages", 1000, 3000, tls=True),
    "tls64p16": Case("--conns 1 --size 64 --pipeline 16", "--messages", 4000, 12000, tls=True),
    "tls4k": Case("--conns 1 --size 4096", "--messages", 500, 1500, tls=True),
    "tlsconnect": Case("--conns 1", "--connects", 50, 150, tls=True),
    # A page from memory, and a body that is read.
    "get": Case("", "", 500, 1500, server="device", request=GET),
    "post1k": Case("", "", 500, 1500, server="device", request=POST),
    "broadcast": Case("--broadcast 50 --pipeline 16", "--messages", 320, 960, each=50),
    "python64": Case("--conns 1 --size 64", "--messages", 1000, 3000, server="python"),
    "python64p16": Case(
        "--conns 1 --size 64 --pipeline 16", "--messages", 4000, 12000, server="python"
    ),
    "coroutine64": Case("--conns 1 --size 64", "--messages", 1000, 3000, server="coroutine"),
    "coroutine64p16": Case(
        "--conns 1 --size 64 --pipeline 16", "--messages", 4000, 12000, server="coroutine"
    ),
    "session64": Case("--conns 1 --size 64", "--messages", 1000, 3000, server="session"),
    "session64p16": Case(
        "--conns 1 --size 64 --pipeline 16", "--messages", 4000, 12000, server="session"
    ),
    # Both run a handler for open and one for close, the second one an upgrade handler, too.
    "pythonconnect": Case("--conns 1", "--connects", 200, 600, server="python"),
    "pythonupgrade": Case("--conns 1 --path /upgrade", "--connects", 200, 600, server="python"),
    "pythonget": Case("", "", 500, 1500, server="python", request=PAGE),
    "pythonpost": Case("", "", 500, 1500, server="python", request=POST),
    # One delivery, by ws.publish and by app.publish.
    "pythonpublish": Case(
        "--broadcast 500 --pipeline 16", "--messages", 80, 320, each=500, server="python"
    ),
    "pythonapp": Case(
        "--broadcast 500 --pipeline 16 --path /app", "--messages", 80, 320, 500, server="python"
    ),
    # Handshakes vary by a few instructions from run to run, thousands of them by more, which must
    # be small compared with the messages.
    "beside10": Case("--conns 1 --size 64", "--messages", 1000, 31000, beside=10),
    "beside5000": Case("--conns 1 --size 64", "--messages", 1000, 31000, beside=5000),
}
# In the second case, a message may cost at most this factor of the first. These cases have no
# budget, because echo64 covers their absolute cost.
EQUALS = {("beside10", "beside5000"): 1.05}


def ask(port: int, request: bytes, number: int) -> None:
    """Send a request again and again, each time after the whole answer to the one before."""
    with socket.create_connection(("127.0.0.1", port), timeout=60) as connection:
        for _ in range(number):
            connection.sendall(request)
            answer = b""
            while b"\r\n\r\n" not in answer:
                answer += receive(connection)
            head, body = answer.split(b"\r\n\r\n", 1)
            length = re.search(rb"Content-Length: (\d+)", head)
            if not head.startswith(b"HTTP/1.1 200") or length is None:
                raise harness.BenchError(f"not the right answer: {head!r}")
            while len(body) < int(length.group(1)):
                body += receive(connection)


def receive(connection: socket.socket) -> bytes:
    received = connection.recv(65536)
    if not received:
        raise harness.BenchError("the server has closed the connection")
    return received


def count(options: argparse.Namespace, case: Case, number: int) -> int:
    """Return the instructions of a server from its start to its end."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "callgrind"
        words = options.server or command(options, "c_tls" if case.tls else case.server)
        if case.tls:
            words = [*words, *harness.make_certificate(pathlib.Path(folder))]
        with harness.running(
            words,
            environment={**harness.server_environment(options.build), "PYTHONHASHSEED": "0"},
            wrapper=[
                "valgrind",
                "--tool=callgrind",
                "--trace-children=yes",
                f"--callgrind-out-file={path}",
            ],
            timeout=60.0,
        ) as server:
            if case.request:
                ask(server.port, case.request.encode(), number)
            else:
                arguments = [*case.arguments.split(), case.option, str(number)]
                arguments += ["--tls"] if case.tls else []
                arguments += ["--timeout", "120", "--beside", str(case.beside)]
                harness.run_load(options.load, server, arguments)
        if not path.exists():
            raise harness.BenchError("callgrind wrote nothing")
        text = path.read_text()
    if case.tls:
        return count_own(text, options.build)
    match = re.search(r"^(?:summary|totals):\s*(\d+)", text, re.MULTILINE)
    if match is None:
        raise harness.BenchError("callgrind reported no total")
    return int(match.group(1))


def count_own(text: str, build: pathlib.Path) -> int:
    """Return the instructions in a file of callgrind that programs and libraries of `build` have.

    The file names the object of what follows ("ob=(3) /path", later "ob=(3)"). A line that begins
    with a position has the instructions of one line of the source, except after "calls=": then they
    are those of the function that is called.
    """
    paths: dict[str, str] = {}
    total, is_own, is_call = 0, False, False
    for line in text.splitlines():
        named = re.match(r"(c?ob)=(\(\d+\))(?: (.*))?$", line)
        if named:
            kind, number, path = named.groups()
            paths.setdefault(number, path)
            if kind == "ob":
                is_own = paths[number].startswith(f"{build}/")
        elif line.startswith("calls="):
            is_call = True
        elif re.match(r"[\d+*-]", line):
            total += int(line.split()[-1]) if is_own and not is_call else 0
            is_call = False
    if not total:
        raise harness.BenchError(f"callgrind has seen no instruction of {build}")
    return total


def command(options: argparse.Namespace, server: str) -> list[str]:
    """Return the server's command; Python is Debian's, not that of a test environment."""
    if server == "device":
        return [str(options.build / "examples" / "c" / "device"), "--port", "0"]
    words = harness.known_servers(options.build)[server]
    if words[0] == sys.executable and os.access(PYTHON, os.X_OK):
        words[0] = PYTHON
    return words


def measure(options: argparse.Namespace, name: str, enough: float) -> float:
    """Return the instructions per message, the least of some attempts while above `enough`."""
    case = CASES[name].quick() if options.quick else CASES[name]
    # The first one may compile the modules of Python.
    few = min(count(options, case, case.few) for _ in range(options.repeat))
    many = []
    for _ in range(options.repeat):
        many.append(count(options, case, case.many))
        per_message = (min(many) - few) / ((case.many - case.few) * case.each)
        if per_message <= enough:
            break
    return per_message


def read_budgets(path: pathlib.Path) -> dict[str, int]:
    try:
        budgets: dict[str, int] = json.loads(path.read_text())
    except FileNotFoundError:
        return {}
    except ValueError as error:
        harness.fail(f"{path}: {error}")
    return budgets


def has_no_budget(name: str) -> bool:
    return any(name in pair for pair in EQUALS)


def judge(name: str, counted: float, budgets: dict[str, int]) -> bool:
    """Print one line; returns False if the case exceeds its budget or has none."""
    if has_no_budget(name):
        print(f"{name:10} {counted:10.0f}")
        return True
    if name not in budgets:
        print(f"{name:10} {counted:10.0f}  no budget: see --update")
        return False
    share = counted / budgets[name]
    verdict = "" if share <= 1 else "  ABOVE BUDGET"
    print(f"{name:10} {counted:10.0f}  of {budgets[name]} ({share:.1%}){verdict}")
    return share <= 1


def judge_equals(counted: dict[str, float]) -> bool:
    """Print a line for each measured pair; returns False if one exceeds its factor."""
    good = True
    for (first, second), limit in EQUALS.items():
        if first in counted and second in counted:
            factor = counted[second] / counted[first]
            verdict = "" if factor <= limit else "  NOT THE SAME"
            print(f"{second} is {factor:.3f} times {first}, at most {limit}{verdict}")
            good = good and factor <= limit
    return good


def default_cases(build: pathlib.Path) -> list[str]:
    with_tls = (build / "examples" / "c" / "echo_tls").exists()
    return [name for name, case in CASES.items() if with_tls or not case.tls]


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Instructions of an echo server per message.")
    parser.add_argument("--build", type=pathlib.Path, required=True, help="meson build folder")
    parser.add_argument("--server", help="command (default: the server of each case)")
    parser.add_argument("--cases", help=f"of: {','.join(CASES)} (default: all that were built)")
    parser.add_argument("--budgets", type=pathlib.Path, default=BUDGETS, help="default %(default)s")
    parser.add_argument(
        "--repeat", type=int, default=2, help="runs of a case, at most (%(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=2, help="cases at a time (%(default)s)")
    parser.add_argument("--quick", action="store_true", help="a tenth of the work, not exact")
    parser.add_argument("--update", action="store_true", help="write the budgets")
    options = parser.parse_args()
    options.build = options.build.resolve()
    options.cases = options.cases.split(",") if options.cases else default_cases(options.build)
    for name in options.cases:
        if name not in CASES:
            parser.error(f"unknown case {name}: choose from {', '.join(CASES)}")
    for option in ("jobs", "repeat"):
        if getattr(options, option) < 1:
            parser.error(f"--{option} must be 1 or more, not {getattr(options, option)}")
    if options.quick and options.update:
        parser.error("budgets must be exact: use --update without --quick")
    options.load = harness.find_tool(options.build, "load")
    if options.server:
        known = harness.known_servers(options.build)
        options.server = known.get(options.server) or shlex.split(options.server)
    return options


def main() -> int:
    options = parse_options()
    if shutil.which("valgrind") is None:
        harness.fail("valgrind is not installed")
    budgets = read_budgets(options.budgets)
    counted: dict[str, float] = {}
    good = True
    with ThreadPoolExecutor(options.jobs) as pool:
        enough = {} if options.update else budgets
        running = {
            name: pool.submit(measure, options, name, enough.get(name, 0)) for name in options.cases
        }
        for name, result in running.items():
            try:
                counted[name] = result.result()
            except harness.BenchError as error:
                for rest in running.values():
                    rest.cancel()
                harness.fail(f"{name}: {error}")
            if options.update and not has_no_budget(name):
                budgets[name] = math.ceil(counted[name] * HEAD_ROOM)
            good = judge(name, counted[name], budgets) and good
    good = judge_equals(counted) and good
    if options.update:
        options.budgets.write_text(json.dumps(budgets, indent=2) + "\n")
    return int(not good)


if __name__ == "__main__":
    sys.exit(main())
