# SPDX-License-Identifier: MIT
"""The tables of cluster.py, for a terminal and as Markdown in a document."""

from __future__ import annotations

import statistics

from cluster_rows import LOADS, SUBSCRIBERS
from results import Cell, Cells, Results
from tables import conditions, markdown_table, print_table, show

COST = (
    "server",
    "publisher",
    "receiver",
    "broker",
    "all",
    "beyond local",
    "ratio",
    "spread",
    "rate/s",
)
STEADY = ("server", "rate/s", "p50 us", "p99 us", "CPU us", "publish p99.9 us", "max", "slow")
FANOUT = ("server", "CPU us/message", "CPU us/delivery", "ratio", "spread")

# The row of one process to which another one is compared.
BASES = {
    "bus": "local",
    **{
        f"{broker} {loop}": f"local {loop}"
        for broker in ("redis", "nats")
        for loop in ("asyncio", "uvloop")
    },
}


def beyond(cell: Cell, base: Cell) -> float | None:
    """Return the median of the differences in each round."""
    key = "cpu_us_per_message"
    pairs = zip(cell.reports, base.reports)
    differences = [mine[key] - other[key] for mine, other in pairs]
    return statistics.median(differences) if differences else None


def cost_row(name: str, cells: Cells) -> list[str]:
    """CPU microseconds for each message; the ratio is to the local bus."""
    cell, key = cells[name], "cpu_us_per_message"
    base, bus = cells.get(BASES.get(name, "")), cells.get("bus")
    return [
        name,
        show(cell.median("publisher_us"), "{:.1f}"),
        show(cell.median("receiver_us"), "{:.1f}"),
        show(cell.median("broker_us"), "{:.1f}"),
        show(cell.median(key), "{:.1f}"),
        show(beyond(cell, base) if base else None, "{:.1f}"),
        show(cell.ratio([bus], key) if bus else None, "{:.1f}"),
        show(cell.spread(key), "{:.0%}"),
        show(cell.median("rate"), "{:.0f}"),
    ]


def steady_row(name: str, cells: Cells) -> list[str]:
    """Times of delivery, and of the calls of publish where the server has measured them."""
    cell = cells[name]
    calls = sum(report.get("publish_calls", 0) for report in cell.reports)
    slow = sum(report.get("publish_slow", 0) for report in cell.reports)
    return [
        name,
        show(cell.median("rate"), "{:.0f}"),
        show(cell.median("latency_us_p50"), "{:.0f}"),
        show(cell.median("latency_us_p99"), "{:.0f}"),
        show(cell.median("cpu_us_per_message"), "{:.1f}"),
        show(cell.median("publish_us_p999"), "{:.0f}"),
        show(cell.median("publish_us_max"), "{:.0f}"),
        f"{slow:.0f} of {calls:.0f}" if calls else "-",
    ]


def fanout_row(name: str, cells: Cells) -> list[str]:
    """The ratio is to the local row; twice as many subscribers should cost twice as much."""
    cell, key = cells[name], "cpu_us_per_message"
    base = cells.get(BASES.get(name, ""))
    times = 2 if base else 1
    cost = cell.median(key)
    ratio = cell.ratio([base], key) if base else None
    return [
        name,
        show(cost, "{:.0f}"),
        show(cost / times / SUBSCRIBERS if cost else None, "{:.2f}"),
        show(ratio / times if ratio else None, "{:.2f}"),
        show(cell.spread(key), "{:.0%}"),
    ]


ROWS = {"steady": (STEADY, steady_row), "fanout": (FANOUT, fanout_row)}


def table(results: Results, load: str) -> list[list[str]]:
    """Return the table of one load with its header."""
    header, row = ROWS.get(load, (COST, cost_row))
    cells = results.cases[load]
    lines = [
        [name, "failed", *["-"] * (len(header) - 2)] if cell.errors else row(name, cells)
        for name, cell in cells.items()
    ]
    return [list(header), *lines]


def print_text(results: Results) -> None:
    for load in results.cases:
        print(f"{load}: {LOADS[load].title}")
        print_table(table(results, load))
        print()


def markdown(results: Results) -> str:
    lines = [conditions(results)]
    for load in results.cases:
        title = f"### {load}: {LOADS[load].title}"
        lines += ["", title, "", *markdown_table(table(results, load))]
    return "\n".join(lines)
