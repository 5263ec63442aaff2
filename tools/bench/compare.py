#!/usr/bin/env python3
"""Compares echo servers in one run: CPU time per message, as a ratio to the bare floor server.

    python tools/bench/compare.py --build build
    python tools/bench/compare.py --build build --extra "other=node other.js" --cases p1,p16

Every measurement starts a fresh server on one core and the load generator on another. The servers
take turns round by round, so a slow spell of the machine hits all of them; shown are medians, and
the median of the ratios of each round.
"""

from __future__ import annotations

import argparse
import json
import os
import pathlib
import shlex
import statistics
import sys
from dataclasses import dataclass, field
from typing import Dict, Sequence

import harness
from harness import BenchError, Report


@dataclass(frozen=True)
class Side:
    """What a case measures instead of the servers that were asked for.

    `server` is one of `harness.known_servers` with options to add, or empty: then `tool`, a program
    of this folder, prints the report by itself. `arguments` go to the load generator or the tool.
    """

    server: str
    options: tuple[str, ...]
    arguments: tuple[str, ...]
    tool: str = "load"


@dataclass(frozen=True)
class Case:
    """One kind of load.

    `metric` is the key of the report that is compared; `arguments` go to the load generator. With
    `sides` the case has rows of its own, and ratios are to the sum of those named in `base`.
    `same` is a key that must have the same value on these sides, or they did not do the same work.
    """

    title: str
    metric: str
    unit: str
    arguments: tuple[str, ...]
    timed: bool = True  # --seconds applies
    sides: dict[str, Side] = field(default_factory=dict)
    base: tuple[str, ...] = ()
    same: tuple[str, tuple[str, ...]] = ("", ())


def _echo(title: str, arguments: str) -> Case:
    return Case(title, "cpu_us_per_message", "CPU us/message", tuple(arguments.split()))


_BROADCAST = ("--broadcast", "500", "--pipeline", "16", "--spin")

CASES: dict[str, Case] = {
    "p1": _echo("64 B text, 100 connections", "--conns 100 --size 64"),
    "p16": _echo("64 B text, 100 connections, 16 in flight", "--conns 100 --size 64 --pipeline 16"),
    "1k": _echo("1 KiB text, 100 connections", "--conns 100 --size 1024"),
    "64k": _echo("64 KiB binary, 10 connections", "--conns 10 --size 65536 --binary"),
    "connect": Case(
        "open, handshake, close; 100 at a time",
        "cpu_us_per_connect",
        "CPU us/connect",
        ("--conns", "100", "--connects", "10000"),
        timed=False,
    ),
    "idle": Case(
        "2000 idle connections",
        "rss_bytes_per_connection",
        "B/connection",
        ("--idle", "2000"),
    ),
    "broadcast": Case(
        "64 B text to 500 subscribers, one publisher, 16 messages in flight",
        "cpu_us_per_delivery",
        "CPU us/delivery",
        (),
        sides={name: Side(name, (), _BROADCAST) for name in ("floor", "c")},
        base=("floor",),
    ),
    "deflate": Case(
        "1 KiB of JSON, 100 connections: compressed, to plain and zlib alone together",
        "cpu_us_per_message",
        "CPU us/message",
        (),
        sides={
            "plain": Side("c", (), ("--size", "1024", "--records")),
            "zlib": Side("", (), ("--size", "1024", "--messages", "100"), tool="zlib_cost"),
            "deflate": Side(
                "c", ("--compression", "shared"), ("--size", "1024", "--deflate", "--spin")
            ),
        },
        base=("plain", "zlib"),
        same=("reply_size", ("zlib", "deflate")),
    ),
}


@dataclass
class Cell:
    """What was measured for one server in one case: a report per round, or errors."""

    reports: list[Report] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def median(self, key: str) -> float | None:
        values = [report[key] for report in self.reports if key in report]
        return statistics.median(values) if values else None

    def spread(self, key: str) -> float | None:
        """Largest less smallest value, as a share of the median."""
        values = [report[key] for report in self.reports if key in report]
        middle = statistics.median(values) if values else 0
        return (max(values) - min(values)) / middle if middle else None

    def best(self, key: str) -> float | None:
        return min((report[key] for report in self.reports if key in report), default=None)

    def ratio(self, base: Sequence[Cell], key: str) -> float | None:
        """To the sum of `base`; the median of the ratios round by round: what slows all down in a
        round cancels."""
        rounds = zip(self.reports, *(cell.reports for cell in base))
        pairs = [(mine[key], sum(other[key] for other in others)) for mine, *others in rounds]
        ratios = [mine / other for mine, other in pairs if other]
        return statistics.median(ratios) if ratios else None

    def limits(self) -> str:
        """Which side had no time left, over the rounds."""
        return "/".join(sorted({report["limit"] for report in self.reports if "limit" in report}))


Results = Dict[str, Dict[str, Cell]]


# ---- measuring -----------------------------------------------------------------------------------


def measure(
    options: argparse.Namespace, command: Sequence[str], case: Case, side: Side | None
) -> Report:
    """One server, or one side of a case that has sides, once."""
    arguments = list(side.arguments if side else case.arguments)
    if case.timed:
        arguments += ["--seconds", str(options.seconds)]
    if side and not side.server:
        return harness.run_report(
            [*command, *arguments], core=options.server_core, nice=options.nice
        )
    with harness.running(
        command,
        core=options.server_core,
        nice=options.nice,
        environment=harness.server_environment(options.build),
    ) as server:
        return harness.run_load(
            options.load, server, arguments, core=options.client_core, nice=options.nice
        )


def find_sides(options: argparse.Namespace, case: Case) -> dict[str, list[str]]:
    """The commands of a case that has its own."""
    known = harness.known_servers(options.build)
    return {
        name: [*known[side.server], *side.options]
        if side.server
        else [str(harness.find_tool(options.build, side.tool))]
        for name, side in case.sides.items()
    }


def check_same(case: Case, cells: dict[str, Cell]) -> None:
    """Sides that did different work are no measure of each other."""
    key, names = case.same
    values = {report[key] for name in names for report in cells[name].reports}
    if len(values) > 1:
        cells[names[-1]].errors.append(f"{key} is not that of {names[0]}: {sorted(values)}")


def show_progress(text: str) -> None:
    if sys.stderr.isatty():
        print(f"\r{text:40}\r", end="", file=sys.stderr)


def run_all(options: argparse.Namespace, servers: dict[str, list[str]]) -> Results:
    """All cases; within one, the servers take turns and another one begins each round."""
    results: Results = {}
    for case in options.cases:
        sides = CASES[case].sides
        commands = find_sides(options, CASES[case]) if sides else servers
        names = list(commands)
        results[case] = {name: Cell() for name in names}
        for turn in range(options.rounds):
            shift = turn % len(names)
            for name in names[shift:] + names[:shift]:
                show_progress(f"{case} {turn + 1}/{options.rounds} {name}")
                cell = results[case][name]
                if cell.errors:
                    continue  # it failed in an earlier round
                try:
                    side = sides.get(name)
                    cell.reports.append(measure(options, commands[name], CASES[case], side))
                except BenchError as error:
                    cell.errors.append(str(error))
        check_same(CASES[case], results[case])
    show_progress("")
    return results


# ---- showing -------------------------------------------------------------------------------------

HEADER = (
    "server",
    "median",
    "ratio",
    "best",
    "spread",
    "rate/s",
    "p50 us",
    "p99 us",
    "server CPU",
    "waits",
    "limit",
)


def show(value: float | None, form: str) -> str:
    return "-" if value is None else form.format(value)


def row(name: str, case: Case, cell: Cell, base: Sequence[Cell]) -> list[str]:
    """One line of a table, in the order of HEADER."""
    if cell.errors:
        return [name, "failed"] + ["-"] * (len(HEADER) - 2)
    is_time = case.metric.startswith("cpu_us")
    form = "{:.2f}" if is_time else "{:.0f}"
    # The floor spends next to nothing on an idle connection: a ratio would tell nothing.
    ratio = cell.ratio(base, case.metric) if is_time else None
    return [
        name,
        show(cell.median(case.metric), form),
        show(ratio, "{:.2f}"),
        show(cell.best(case.metric), form),
        show(cell.spread(case.metric), "{:.0%}"),
        show(cell.median("rate"), "{:.0f}"),
        show(cell.median("latency_us_p50"), "{:.0f}"),
        show(cell.median("latency_us_p99"), "{:.0f}"),
        show(cell.median("server_cpu_fraction"), "{:.1%}"),
        show(cell.median("server_wait_fraction"), "{:.1%}"),
        cell.limits() or "-",
    ]


def print_text(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[i]) for line in rows) for i in range(len(HEADER))]
    for line in rows:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        print("  " + "  ".join(cells))


def print_markdown(rows: Sequence[Sequence[str]]) -> None:
    lines = [rows[0], ["---"] + ["--:"] * (len(HEADER) - 1), *rows[1:]]
    for line in lines:
        print("| " + " | ".join(line) + " |")


def print_results(results: Results, markdown: bool) -> None:
    """A table per case; the first server is the base of the ratios, where the case names none."""
    for key, cells in results.items():
        case = CASES[key]
        base = [cells[name] for name in case.base or list(cells)[:1]]
        header = [HEADER[0], case.unit, *HEADER[2:]]
        rows = [header, *(row(name, case, cell, base) for name, cell in cells.items())]
        print(f"{'### ' if markdown else ''}{key}: {case.title}")
        if markdown:
            print()
        (print_markdown if markdown else print_text)(rows)
        print()
    for key, cells in results.items():
        for name, cell in cells.items():
            for error in cell.errors:
                print(f"{key}, {name}: {error}")


def write_json(path: str, options: argparse.Namespace, results: Results) -> None:
    document = {
        "machine": harness.stamp(),
        "rounds": options.rounds,
        "seconds": options.seconds,
        "results": {
            case: {
                name: {
                    "median": cell.median(CASES[case].metric),
                    "reports": cell.reports,
                    "errors": cell.errors,
                }
                for name, cell in cells.items()
            }
            for case, cells in results.items()
        },
    }
    pathlib.Path(path).write_text(json.dumps(document, indent=1) + "\n")


# ---- options -------------------------------------------------------------------------------------


def parse_extra(text: str) -> tuple[str, list[str]]:
    name, equals, command = text.partition("=")
    if not equals or not name or not command.strip():
        raise argparse.ArgumentTypeError("expected NAME=COMMAND")
    return name, shlex.split(command)


def default_cases(build: pathlib.Path) -> list[str]:
    """All but those whose tools were not built: zlib may be missing."""
    folder = build / "tools" / "bench"
    return [
        name
        for name, case in CASES.items()
        if all((folder / side.tool).exists() for side in case.sides.values())
    ]


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Compares echo servers in one run.")
    parser.add_argument("--build", type=pathlib.Path, required=True, help="meson build folder")
    parser.add_argument("--cases", help=f"default all: {','.join(CASES)}")
    parser.add_argument(
        "--servers",
        default="floor,c,python",
        help="of: %(default)s; the first one is the base of the ratios",
    )
    parser.add_argument(
        "--extra",
        type=parse_extra,
        action="append",
        default=[],
        metavar="NAME=COMMAND",
        help="another server; may be given repeatedly",
    )
    parser.add_argument("--rounds", type=int, default=5, help="default %(default)s")
    parser.add_argument("--seconds", type=float, default=1.5, help="of a round, %(default)s")
    parser.add_argument("--nice", type=int, default=0, help="e.g. -15 on a busy machine")
    parser.add_argument("--json", metavar="FILE", help="all reports, for later use")
    parser.add_argument("--markdown", action="store_true", help="tables for a document")
    options = parser.parse_args()
    options.build = options.build.resolve()
    options.cases = options.cases.split(",") if options.cases else default_cases(options.build)
    options.servers = [name for name in options.servers.split(",") if name]
    for case in options.cases:
        if case not in CASES:
            parser.error(f"unknown case {case}: choose from {', '.join(CASES)}")
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    return options


def choose_servers(options: argparse.Namespace) -> dict[str, list[str]]:
    known = harness.known_servers(options.build)
    unknown = [name for name in options.servers if name not in known]
    if unknown:
        harness.fail(f"unknown server {unknown[0]}: choose from {', '.join(known)}, or use --extra")
    servers = {name: known[name] for name in options.servers}
    servers.update(dict(options.extra))
    if not servers:
        harness.fail("no servers")
    return servers


def main() -> int:
    options = parse_options()
    options.load = harness.find_tool(options.build, "load")
    cores = sorted(os.sched_getaffinity(0))
    pinned = len(cores) > 1
    options.server_core, options.client_core = (cores[0], cores[1]) if pinned else (None, None)
    if not pinned:
        print("only one core: server and load generator share it", file=sys.stderr)
    results = run_all(options, choose_servers(options))
    print_results(results, options.markdown)
    if options.json:
        write_json(options.json, options, results)
    return int(any(cell.errors for cells in results.values() for cell in cells.values()))


if __name__ == "__main__":
    sys.exit(main())
