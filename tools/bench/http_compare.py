#!/usr/bin/env python3
"""What a request costs: pyws, other HTTP servers, and the least that is possible.

    python tools/bench/compare.py --install build-peers
    python tools/bench/http_compare.py --build build
    python tools/bench/http_compare.py --build build --servers floor,c --loads text --rounds 15
    python tools/bench/http_compare.py --from run.json --markdown docs/performance.md

The server has one core and the load generator another, which never sleeps. The servers take turns
in every round, each in a fresh process with all loads, and the output shows medians, as that of
compare.py.
"""

from __future__ import annotations

import argparse
import os
import pathlib
import sys
import tempfile

import harness
import http_rows
import results
import servers
import tables
from compare import PEERS, show_progress
from harness import BenchError
from http_rows import EXPECTED, GOALS, LOADS, Goal, Row
from results import Cell, Results

SUMMARY = "CPU us of the server for each request, and the ratio to the first row:"


# ---- measuring ----------------------------------------------------------------------------------


def run_round(options: argparse.Namespace, name: str, row: Row, run: Results) -> None:
    """Apply all loads to a fresh process of one row."""

    def fill(words: tuple[str, ...]) -> list[str]:
        return [word.replace("{folder}", options.folder) for word in words]

    cells = {load: run.cases[load].setdefault(name, Cell()) for load in options.loads}
    loads = [load for load in options.loads if load in row.loads and not cells[load].errors]
    if not loads:
        return
    load = loads[0]
    more = ["--seconds", str(options.seconds), "--warmup", str(min(options.seconds / 2, 0.5))]
    try:
        with harness.running(
            fill(row.command),
            core=options.server_core,
            nice=options.nice,
            environment=row.environment,
        ) as server:
            for load in loads:
                arguments = [*fill(LOADS[load].arguments), *more]
                report = harness.run_load(
                    options.load, server, arguments, core=options.client_core, nice=options.nice
                )
                cells[load].reports.append(report)
    except BenchError as error:
        cells[load].errors.append(str(error))


def run_all(options: argparse.Namespace, rows: dict[str, Row]) -> Results:
    run = Results(machine=harness.stamp(), rounds=options.rounds, seconds=options.seconds)
    run.known = LOADS
    run.versions = {row.about: row.about for row in rows.values() if row.about}
    run.cases = {load: {} for load in options.loads}
    names = list(rows)
    for turn in range(options.rounds):
        shift = turn % len(names)
        for name in names[shift:] + names[:shift]:
            show_progress(f"{turn + 1}/{options.rounds} {name}")
            run_round(options, name, rows[name], run)
    show_progress("")
    for load, cells in run.cases.items():  # in the order of `rows`, without what was not measured
        known = [name for name in names if name in cells]
        run.cases[load] = {
            name: cells[name] for name in known if cells[name].reports or cells[name].errors
        }
    return run


# ---- goals --------------------------------------------------------------------------------------


def goal_line(shown: Results, goal: Goal) -> list[str]:
    """Return the line of a goal; empty if its rows were not measured."""
    cells = shown.cases.get(goal.load, {})
    if goal.row not in cells or goal.base not in cells:
        return []
    ratio = cells[goal.row].ratio([cells[goal.base]], LOADS[goal.load].metric)
    if ratio is None:
        return []
    met = "yes" if ratio <= goal.most else "no"
    what = f"{goal.row} / {goal.base}"
    return [goal.load, what, f"{goal.most:.2f}", f"{ratio:.2f}", met]


def goals(shown: Results) -> list[list[str]]:
    """Return the table of all goals."""
    lines = [goal_line(shown, goal) for goal in GOALS]
    return [["load", "rows", "goal", "ratio", "met"], *filter(None, lines)]


def markdown(shown: Results) -> str:
    summary, mark, details = tables.markdown(shown, SUMMARY).partition("\n### ")
    told = "The goals; a ratio is the median of those of the rounds:"
    lines = [summary, told, "", *tables.markdown_table(goals(shown))]
    return "\n".join(lines) + "\n" + mark + details


# ---- options ------------------------------------------------------------------------------------


def new_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="Compare HTTP servers in one run.")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--build", type=pathlib.Path, help="measure with this meson build folder")
    what.add_argument(
        "--from",
        dest="files",
        type=pathlib.Path,
        nargs="+",
        metavar="FILE",
        help="measure nothing, show files of --json; later files replace loads of earlier ones",
    )
    parser.add_argument("--servers", help="default: all that are installed")
    parser.add_argument("--loads", default=",".join(LOADS), help="default: %(default)s")
    parser.add_argument(
        "--peers",
        type=pathlib.Path,
        default=PEERS,
        help="the folder of compare.py --install (%(default)s)",
    )
    parser.add_argument("--rounds", type=int, default=7, help="default %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=0.4, help="length of a measurement (%(default)s)"
    )
    parser.add_argument("--nice", type=int, default=0, help="e.g. -15 on a busy machine")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="store all reports")
    parser.add_argument(
        "--markdown",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write tables as Markdown, with FILE between its marks",
    )
    return parser


def parse_options() -> argparse.Namespace:
    parser = new_parser()
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    options.loads = options.loads.split(",")
    for load in options.loads:
        if load not in LOADS:
            parser.error(f"unknown load {load}: choose from {', '.join(LOADS)}")
    options.peers = servers.Folder(options.peers)
    return options


def choose(options: argparse.Namespace) -> dict[str, Row]:
    """Return the wanted rows that can run, and list the others, or raise BenchError."""
    known = http_rows.find(options.build, options.peers)
    wanted = options.servers.split(",") if options.servers else list(known)
    chosen = {}
    for name in wanted:
        if name not in known:
            raise BenchError(f"unknown server {name}: choose from {', '.join(known)}")
        missing = http_rows.lacks(known[name], options.peers)
        if missing:
            advice = f"compare.py --install {options.peers.path}"
            print(f"{name} is left out: no {', '.join(missing)} ({advice})", file=sys.stderr)
        else:
            chosen[name] = known[name]
    if not chosen:
        raise BenchError("no servers")
    return chosen


def run(options: argparse.Namespace) -> Results:
    options.build = options.build.resolve()
    options.load = harness.find_tool(options.build, "http_load")
    cores = sorted(os.sched_getaffinity(0))
    pinned = len(cores) > 1
    options.server_core, options.client_core = (cores[0], cores[1]) if pinned else (None, None)
    if not pinned:
        print("there is only one core, shared by server and load generator", file=sys.stderr)
    with tempfile.TemporaryDirectory() as folder:
        # A worker of nginx that was started by root becomes another user.
        pathlib.Path(folder).chmod(0o755)
        for name, content in EXPECTED.items():
            (pathlib.Path(folder) / name).write_bytes(content)
        options.folder = folder
        return run_all(options, choose(options))


def present(options: argparse.Namespace, shown: Results) -> None:
    if options.json:
        shown.save(options.json)
    if options.markdown is None:
        tables.print_text(shown)
        tables.print_table(goals(shown))
    elif options.markdown == "-":
        print(markdown(shown))
    else:
        tables.put(pathlib.Path(options.markdown), markdown(shown), "http_compare.py")
    for line in shown.errors():
        print(line)


def main() -> int:
    options = parse_options()
    try:
        shown = results.load(options.files, LOADS) if options.files else run(options)
        present(options, shown)
    except BenchError as error:
        harness.fail(str(error))
    return int(shown.failed())


if __name__ == "__main__":
    sys.exit(main())
