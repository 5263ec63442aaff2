# SPDX-License-Identifier: MIT
"""The tables of compare.py, for a terminal and as Markdown in a document."""

from __future__ import annotations

import pathlib
import re
from typing import Sequence

from cases import Case
from harness import BenchError
from results import Cell, Results

SUMMARY = (
    "CPU us for each message, connection or delivery, and the ratio; bytes for each idle "
    "connection:"
)
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


def figure(case: Case, value: float | None) -> str:
    return show(value, "{:.2f}" if case.is_time else "{:.0f}")


def row(name: str, case: Case, cell: Cell, base: Sequence[Cell]) -> list[str]:
    """Return one line of a table, in the order of HEADER."""
    if cell.errors:
        return [name, "failed"] + ["-"] * (len(HEADER) - 2)
    # The floor spends almost nothing on an idle connection, so a ratio would be meaningless.
    ratio = cell.ratio(base, case.metric) if case.is_time else None
    return [
        name,
        figure(case, cell.median(case.metric)),
        show(ratio, "{:.2f}"),
        figure(case, cell.best(case.metric)),
        show(cell.spread(case.metric), "{:.0%}"),
        show(cell.median("rate"), "{:.0f}"),
        show(cell.median("latency_us_p50"), "{:.0f}"),
        show(cell.median("latency_us_p99"), "{:.0f}"),
        show(cell.median("server_cpu_fraction"), "{:.1%}"),
        show(cell.median("server_wait_fraction"), "{:.1%}"),
        cell.limits() or "-",
    ]


def table(results: Results, key: str) -> list[list[str]]:
    """Return the table of one case with its header."""
    case, base = results.known[key], results.base(key)
    rows = [row(name, case, cell, base) for name, cell in results.cases[key].items()]
    return [[HEADER[0], case.unit, *HEADER[2:]], *rows]


def summary(results: Results) -> list[list[str]]:
    """Return servers by cases, with the figure that is compared and its ratio, if any."""
    sides = {name for key in results.cases for name in results.known[key].sides}
    names = {name: None for cells in results.cases.values() for name in cells if name not in sides}
    lines = [["server", *results.cases]]
    for name in names:
        line = [name]
        for key, cells in results.cases.items():
            line.append(brief(results, key, cells[name]) if name in cells else "-")
        lines.append(line)
    return lines


def brief(results: Results, key: str, cell: Cell) -> str:
    if cell.errors:
        return "failed"
    case = results.known[key]
    ratio = cell.ratio(results.base(key), case.metric) if case.is_time else None
    return figure(case, cell.median(case.metric)) + (f" ({ratio:.2f})" if ratio else "")


def reply_sizes(results: Results, key: str) -> str:
    """Return how well replies are compressed, which explains part of the cost."""
    cells = results.cases[key]
    sizes = {name: cell.median("reply_size") for name, cell in cells.items() if name != "plain"}
    told = ", ".join(f"{name} {size:.0f}" for name, size in sizes.items() if size)
    return f"Bytes of a compressed reply: {told}."


# ---- text ---------------------------------------------------------------------------------------


def print_text(results: Results) -> None:
    for key in results.cases:
        print(f"{key}: {results.known[key].title}")
        print_table(table(results, key))
        if results.known[key].deflate:
            print(reply_sizes(results, key))
        print()


def print_table(rows: Sequence[Sequence[str]]) -> None:
    widths = [max(len(line[i]) for line in rows) for i in range(len(rows[0]))]
    for line in rows:
        cells = [line[0].ljust(widths[0])]
        cells += [cell.rjust(width) for cell, width in zip(line[1:], widths[1:])]
        print("  " + "  ".join(cells))


# ---- Markdown -----------------------------------------------------------------------------------


def markdown_table(rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [rows[0], ["---"] + ["--:"] * (len(rows[0]) - 1), *rows[1:]]
    return ["| " + " | ".join(line) + " |" for line in lines]


def conditions(results: Results) -> str:
    """Return date, machine and versions; if a run mixes machines, those of the last one."""
    machine = results.machine
    seconds = f"{results.rounds} rounds of {results.seconds:g} s"
    where = f"{machine['cores']} cores of {machine['cpu'] or 'an unknown CPU'}"
    what = f"{machine['kernel'].split(' ')[0]} {machine['kernel'].split(' ')[1].split('-')[0]}"
    versions = "; ".join(results.versions.values())
    told = f"{machine['date'][:10]}, {where}, {what}, Python {machine['python']}; {seconds}."
    return f"{told} {versions}." if versions else told


def markdown(results: Results, what: str = SUMMARY, over: str = "") -> str:
    """Return all tables; `over` is part of their headings, as one page has several runs."""
    lines = [conditions(results), "", what]
    lines += ["", *markdown_table(summary(results))]
    for key in results.cases:
        lines += [
            "",
            f"### {key}{over}: {results.known[key].title}",
            "",
            *markdown_table(table(results, key)),
        ]
        if results.known[key].deflate:
            lines += ["", reply_sizes(results, key)]
    return "\n".join(lines)


def put(document: pathlib.Path, text: str, tool: str = "compare.py") -> None:
    """Replace the text between the marks of a document, or raise BenchError if there are none."""
    begin, end = f"<!-- begin: {tool} -->", f"<!-- end: {tool} -->"
    try:
        before = document.read_text(encoding="utf-8")
    except OSError as error:
        raise BenchError(str(error)) from None
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    after, count = pattern.subn(lambda _: f"{begin}\n\n{text}\n\n{end}", before)
    if count != 1:
        raise BenchError(f"{document} must contain {begin} and {end} once")
    document.write_text(after, encoding="utf-8")
