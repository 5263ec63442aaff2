#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare echo servers in one run: CPU time per message as a ratio to the minimal floor server.

    python tools/bench/compare.py --install build-peers
    python tools/bench/compare.py --build build
    python tools/bench/compare.py --build build --extra "other=node other.js" --cases p1,p16
    python tools/bench/compare.py --build build --tls
    python tools/bench/compare.py --from run.json --markdown docs/performance.md --plot plot.svg

Every measurement starts a fresh server on one core and the load generator on another. The servers
take turns in every round, so a slow phase of the machine affects all of them. The output shows
medians, and the median of the ratios of each round.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import shlex
import sys
import tempfile
from dataclasses import dataclass, field
from typing import Sequence

import command
import harness
import plot
import results
import servers
import tables
from cases import CASES, Case
from harness import BenchError, Report
from results import Cell, Results
from servers import Server

DEFAULT = ["floor", "c", "python", "python-ctypes", *servers.names()[: -len(servers.ASGI)]]


# ---- measuring ----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Job:
    """A row of a case: a server with the generator's `arguments`, or a tool."""

    command: Sequence[str]
    arguments: Sequence[str]
    environment: dict[str, str] = field(default_factory=dict)
    is_tool: bool = False


def find_jobs(options: argparse.Namespace, case: Case, chosen: dict[str, Server]) -> dict[str, Job]:
    """Return the rows of a case: its sides, and the servers that support it."""
    jobs = {}
    for name, side in case.sides.items():
        if side.server:
            server = servers.own(options.build)[side.server]
            jobs[name] = Job(server.command, side.arguments, server.environment)
        else:
            tool = str(harness.find_tool(options.build, side.tool))
            jobs[name] = Job([tool], side.arguments, is_tool=True)
    for name, server in chosen.items():
        command = find_command(options, case, server, is_floor=name == "floor")
        if command and (server.group or not case.group):
            arguments = [*case.arguments, *(["--tls"] if options.tls else [])]
            jobs[name] = Job(command, arguments, server.environment)
    return jobs


def find_command(
    options: argparse.Namespace, case: Case, server: Server, is_floor: bool
) -> list[str]:
    """Return the command of a server, or nothing if it does not support the case."""
    if options.tls:
        more = case.floor if is_floor else ()
        return [*server.tls, *options.tls, *more] if server.tls is not None else []
    flags = server.deflate if case.deflate else ()
    return [*server.command, *flags] if flags is not None else []


def measure(options: argparse.Namespace, case: Case, job: Job) -> Report:
    """Measure one row once."""
    arguments = [*job.arguments, *(["--seconds", str(options.seconds)] if case.timed else [])]
    if job.is_tool:
        command = [*job.command, *arguments]
        return harness.run_report(command, core=options.server_core, nice=options.nice)
    with harness.running(
        job.command,
        core=options.server_core,
        nice=options.nice,
        environment=job.environment,
    ) as server:
        return harness.run_load(
            options.load, server, arguments, core=options.client_core, nice=options.nice
        )


def show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:40}\r", end="", file=sys.stderr)


def run_case(options: argparse.Namespace, key: str, jobs: dict[str, Job]) -> dict[str, Cell]:
    """Measure the rows in turn; each round starts with another one."""
    names = list(jobs)
    cells = {name: Cell() for name in names}
    for turn in range(options.rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            show_progress(f"{key} {turn + 1}/{options.rounds} {name}")
            cell = cells[name]
            if cell.errors:
                continue  # it failed in an earlier round
            try:
                cell.reports.append(measure(options, CASES[key], jobs[name]))
            except BenchError as error:
                cell.errors.append(str(error))
    return cells


def run_all(options: argparse.Namespace, chosen: dict[str, Server]) -> Results:
    run = Results(machine=harness.stamp(), rounds=options.rounds, seconds=options.seconds)
    peers = [name for name in chosen if name in servers.names()]
    run.versions = {name: options.peers.describe(name) for name in peers}
    for key in options.cases:
        jobs = find_jobs(options, CASES[key], chosen)
        if not jobs:
            continue
        run.cases[key] = run_case(options, key, jobs)
        run.check_same(CASES[key], run.cases[key])
    show_progress("")
    return run


# ---- options ------------------------------------------------------------------------------------


def parse_extra(text: str) -> tuple[str, Server]:
    name, equals, command = text.partition("=")
    if not equals or not name or not command.strip():
        raise argparse.ArgumentTypeError("expected NAME=COMMAND")
    words = tuple(shlex.split(command))
    return name, Server(words, tls=words)


def default_cases(build: pathlib.Path, tls: bool) -> list[str]:
    """Return all cases whose tools were built; zlib may be missing."""
    folder = build / "tools" / "bench"
    return [
        name
        for name, case in CASES.items()
        if all((folder / side.tool).exists() for side in case.sides.values())
        and not (case.deflate if tls else case.only_tls)
    ]


def new_parser() -> argparse.ArgumentParser:
    parser = command.new_parser("Compare echo servers in one run.", "cases")
    command.add_measuring(parser, rounds=5, seconds=1.5)
    parser.add_argument("--cases", help=f"default: {','.join(CASES)}")
    parser.add_argument(
        "--servers",
        default=",".join(DEFAULT),
        help="default: %(default)s; the first one is the base of the ratios",
    )
    parser.add_argument(
        "--extra",
        type=parse_extra,
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another server; can be repeated",
    )
    parser.add_argument(
        "--tls",
        action="store_true",
        help="everything over TLS 1.3 (AES-128-GCM), for servers that know it and --extra",
    )
    parser.add_argument("--plot", type=pathlib.Path, metavar="FILE", help="draw an SVG")
    return parser


def parse_options() -> argparse.Namespace:
    parser = new_parser()
    options = command.parse(parser)
    if options.build:
        options.build = options.build.resolve()
        options.cases = (
            options.cases.split(",") if options.cases else default_cases(options.build, options.tls)
        )
        options.servers = [name for name in options.servers.split(",") if name]
        for case in options.cases:
            if case not in CASES:
                parser.error(f"unknown case {case}: choose from {', '.join(CASES)}")
            if CASES[case].deflate if options.tls else CASES[case].only_tls:
                parser.error(f"case {case} is {'not measured' if options.tls else 'only'} with TLS")
    return options


def run(options: argparse.Namespace) -> Results:
    chosen = servers.choose(options.build, options.peers, options.servers)
    chosen.update(dict(options.extra))
    if not chosen:
        raise BenchError("no servers")
    options.load = harness.find_tool(options.build, "load")
    cores = sorted(os.sched_getaffinity(0))
    pinned = len(cores) > 1
    options.server_core, options.client_core = (cores[0], cores[1]) if pinned else (None, None)
    if not pinned:
        print("there is only one core, shared by server and load generator", file=sys.stderr)
    if not options.tls:
        return run_all(options, chosen)
    with tempfile.TemporaryDirectory() as folder:
        options.tls = harness.make_certificate(pathlib.Path(folder))
        return run_all(options, chosen)


def present(options: argparse.Namespace, shown: Results) -> None:
    over, tool = (" over TLS", "compare.py --tls") if options.tls else ("", "compare.py")
    if options.json:
        shown.save(options.json)
    if options.markdown is None:
        tables.print_text(shown)
    elif options.markdown == "-":
        print(tables.markdown(shown, over=over))
    else:
        tables.put(pathlib.Path(options.markdown), tables.markdown(shown, over=over), tool)
    if options.plot:
        options.plot.write_text(plot.draw(shown), encoding="utf-8")
    for line in shown.errors():
        print(line)


def main() -> int:
    options = parse_options()
    try:
        if options.install:
            servers.install(servers.Folder(options.install))
            return 0
        shown = results.load(options.files) if options.files else run(options)
        present(options, shown)
    except BenchError as error:
        harness.fail(str(error))
    return int(shown.failed())


if __name__ == "__main__":
    sys.exit(main())
