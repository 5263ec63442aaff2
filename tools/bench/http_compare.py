#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
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

import command
import harness
import http_rows
import results
import tables
from compare import show_progress
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


def parse_options() -> argparse.Namespace:
    parser = command.new_parser("Compare HTTP servers in one run.", "loads", installs=False)
    command.add_measuring(parser, rounds=7, seconds=0.4, installer="compare.py")
    return command.parse_with_loads(parser, LOADS)


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
        known = http_rows.find(options.build, options.peers)
        return run_all(options, command.choose(options, known, http_rows.lacks, "compare.py"))


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
