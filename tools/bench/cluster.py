#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What a message costs that is published in one process and received by subscribers in another one.

    python tools/bench/cluster.py --install build-peers
    python tools/bench/cluster.py --build build
    python tools/bench/cluster.py --build build --servers local,bus --loads one --rounds 15
    python tools/bench/cluster.py --from run.json --markdown docs/performance.md

One message at a time is a chain of processes that wait for each other, so all of them share one
core: on a virtual machine, waking up another core would cost more than the rest. In "steady", the
load generator has another core and never sleeps. The servers take turns in every round, and the
output shows medians, as that of compare.py.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time
from typing import Iterator, Sequence

import cluster_rows
import cluster_tables
import command
import harness
import results
import servers
import tables
from cluster_rows import LOADS, SUBSCRIBERS, Row
from compare import show_progress
from harness import BenchError, Report
from results import Cell, Results

CALLS = re.compile(r"publish calls (\d+) slow (\d+) p999 (\S+) max (\S+)")
WAIT = 20.0  # seconds for a broker, or for a line of a server
ATTEMPTS = 3  # a broker may find its port taken


# ---- brokers ------------------------------------------------------------------------------------


class Broker:
    """A running message broker with its URL."""

    def __init__(self, kind: str, folder: str, core: int | None, nice: int) -> None:
        program = cluster_rows.program_of(kind)
        assert program is not None
        for _ in range(ATTEMPTS):
            with socket.socket() as finder:
                finder.bind(("127.0.0.1", 0))
                port = finder.getsockname()[1]
            options = ["--bind", "127.0.0.1", "--port", str(port), "--save", "", "--dir", folder]
            if kind == "nats":
                options = ["-a", "127.0.0.1", "-p", str(port)]
            self.url = f"{kind}://127.0.0.1:{port}"
            self._process = subprocess.Popen(
                [program, *options],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                preexec_fn=harness.placement(core, nice),
            )
            self.pid = self._process.pid
            if self._accepts(port):
                return
            self.stop()
        raise BenchError(f"{program} does not listen")

    def _accepts(self, port: int) -> bool:
        deadline = time.monotonic() + WAIT
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError):
                socket.create_connection(("127.0.0.1", port), 1).close()
                return True
            time.sleep(0.01)
        return False

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()


@contextlib.contextmanager
def brokers(rows: Sequence[Row], core: int | None, nice: int) -> Iterator[dict[str, Broker]]:
    """Run the brokers of all rows."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        running = {}
        for kind in sorted({row.broker for row in rows if row.broker}):
            running[kind] = Broker(kind, folder, core, nice)
            stack.callback(running[kind].stop)
        yield running


# ---- measuring ----------------------------------------------------------------------------------


class Bench:
    """What all measurements of a run share."""

    def __init__(self, options: argparse.Namespace, running: dict[str, Broker]) -> None:
        self.options = options
        self.running = running
        self.span = str(harness.find_tool(options.build, "span"))

    @contextlib.contextmanager
    def serve(self, row: Row) -> Iterator[list[harness.Server]]:
        """Run the processes of a row."""
        url = self.running[row.broker].url if row.broker else ""
        with contextlib.ExitStack() as stack:
            yield [
                stack.enter_context(
                    harness.running(
                        [word.replace("{url}", url) for word in command],
                        core=self.options.server_core,
                        nice=self.options.nice,
                        environment=row.environment,
                    )
                )
                for command in row.commands
            ]

    def measure(self, row: Row, load: str, running: Sequence[harness.Server]) -> Report:
        """Apply one load."""
        options = self.options
        first = running[0]
        arguments = ["--port", str(first.port), *row.arguments, *LOADS[load].arguments]
        core = options.server_core
        if load == "steady" and options.client_core is not None:
            core = options.client_core
            arguments.append("--spin")
        if row.is_one:
            arguments += ["--pid", str(first.pid)]
        if len(running) > 1:
            other = running[1]
            arguments += ["--other-port", str(other.port)]
            arguments += ["--pid", str(first.pid), "--other-pid", str(other.pid)]
        if row.broker:
            arguments += ["--broker", str(self.running[row.broker].pid)]
        for side in places(row, load):
            arguments += [side, str(SUBSCRIBERS if load == "fanout" else 1)]
        is_timed = load == "steady" and row.times_calls
        if is_timed:
            arguments += ["--publish", "/timed"]
        seconds = options.seconds * (2 if load == "steady" else 1)
        arguments += ["--seconds", str(seconds), "--warmup", str(min(seconds / 4, 0.2))]
        report = harness.run_report([self.span, *arguments], core=core, nice=options.nice)
        if is_timed:
            report.update(read_calls(first))
        return report


def places(row: Row, load: str) -> list[str]:
    """Return the options of the load generator for the processes that have subscribers."""
    if row.is_one:
        return ["--here"]
    return ["--here", "--there"] if load == "fanout" else ["--there"]


def read_calls(server: harness.Server) -> Report:
    """Wait for what a server prints of the calls of publish."""
    deadline = time.monotonic() + WAIT
    while time.monotonic() < deadline:
        for line in list(server.lines):
            found = CALLS.search(line)
            if found:
                names = ("publish_calls", "publish_slow", "publish_us_p999", "publish_us_max")
                return dict(zip(names, map(float, found.groups())))
        time.sleep(0.01)
    raise BenchError(f"no times of publish: {' | '.join(server.lines[-5:])}")


def run_round(bench: Bench, name: str, row: Row, run: Results) -> None:
    """Apply all loads to fresh processes of one row."""
    loads = [load for load in bench.options.loads if load in row.loads]
    cells = {load: run.cases[load].setdefault(name, Cell()) for load in loads}
    loads = [load for load in loads if not cells[load].errors]
    if not loads:
        return
    load = loads[0]
    try:
        with bench.serve(row) as running:
            for load in loads:
                cells[load].reports.append(bench.measure(row, load, running))
    except BenchError as error:
        cells[load].errors.append(str(error))


def run_all(options: argparse.Namespace, rows: dict[str, Row]) -> Results:
    run = Results(machine=harness.stamp(), rounds=options.rounds, seconds=options.seconds)
    run.known = LOADS
    texts = [cluster_rows.describe(row) for row in rows.values()]
    run.versions = {text: text for text in filter(None, texts)}  # each once
    run.cases = {load: {} for load in options.loads}
    names = list(rows)
    with brokers(list(rows.values()), options.server_core, options.nice) as running:
        bench = Bench(options, running)
        for turn in range(options.rounds):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                show_progress(f"{turn + 1}/{options.rounds} {name}")
                run_round(bench, name, rows[name], run)
    show_progress("")
    for load, cells in run.cases.items():  # in the order of `rows`
        run.cases[load] = {name: cells[name] for name in names if name in cells}
    return run


# ---- options ------------------------------------------------------------------------------------


def parse_options() -> argparse.Namespace:
    parser = command.new_parser("Measure topics that span processes.", "loads")
    command.add_measuring(parser, rounds=7, seconds=0.4)
    return command.parse_with_loads(parser, LOADS)


def run(options: argparse.Namespace) -> Results:
    options.build = options.build.resolve()
    cores = sorted(os.sched_getaffinity(0))
    pinned = len(cores) > 1
    options.server_core, options.client_core = (cores[0], cores[1]) if pinned else (None, None)
    known = cluster_rows.find(options.build, options.peers)
    return run_all(options, command.choose(options, known, cluster_rows.lacks, "cluster.py"))


def install(path: pathlib.Path) -> None:
    """Install the other servers; Nchan is unpacked from its package, without installing that."""
    folder = servers.Folder(path)
    servers.install(folder, servers.CLUSTER_PIP, servers.CLUSTER_NPM)
    nchan = folder.path / "nchan"
    nchan.mkdir(exist_ok=True)
    download = f"cd '{nchan}' && apt-get download libnginx-mod-nchan && dpkg -x *.deb ."
    servers.attempt(["sh", "-c", download])
    print("nchan", "is there" if (nchan / cluster_rows.MODULE).exists() else "is not installed")


def present(options: argparse.Namespace, shown: Results) -> None:
    if options.json:
        shown.save(options.json)
    if options.markdown is None:
        cluster_tables.print_text(shown)
    elif options.markdown == "-":
        print(cluster_tables.markdown(shown))
    else:
        text = cluster_tables.markdown(shown)
        tables.put(pathlib.Path(options.markdown), text, "cluster.py")
    for line in shown.errors():
        print(line)


def main() -> int:
    options = parse_options()
    try:
        if options.install:
            install(options.install)
            return 0
        shown = results.load(options.files, LOADS) if options.files else run(options)
        present(options, shown)
    except BenchError as error:
        harness.fail(str(error))
    return int(shown.failed())


if __name__ == "__main__":
    sys.exit(main())
