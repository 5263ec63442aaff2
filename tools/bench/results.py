# SPDX-License-Identifier: MIT
"""The measurements of compare.py: medians and ratios, and a file that stores all of them."""

from __future__ import annotations

import json
import pathlib
import statistics
from dataclasses import dataclass, field
from typing import Dict, Mapping, Sequence

from cases import CASES, Case
from harness import BenchError, Report


@dataclass
class Cell:
    """The measurements of one server in one case: a report per round, or errors."""

    reports: list[Report] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)

    def median(self, key: str) -> float | None:
        values = [report[key] for report in self.reports if key in report]
        return statistics.median(values) if values else None

    def spread(self, key: str) -> float | None:
        """Return the range of the values divided by their median."""
        values = [report[key] for report in self.reports if key in report]
        middle = statistics.median(values) if values else 0
        return (max(values) - min(values)) / middle if middle else None

    def best(self, key: str) -> float | None:
        return min((report[key] for report in self.reports if key in report), default=None)

    def ratio(self, base: Sequence[Cell], key: str) -> float | None:
        """Return the median of the ratios to the sum of `base` in each round.

        What slows all servers down in a round cancels out.
        """
        rounds = zip(self.reports, *(cell.reports for cell in base))
        pairs = [(mine[key], sum(other[key] for other in others)) for mine, *others in rounds]
        ratios = [mine / other for mine, other in pairs if other]
        return statistics.median(ratios) if ratios else None

    def limits(self) -> str:
        """Return which side had no time left in the rounds."""
        return "/".join(sorted({report["limit"] for report in self.reports if "limit" in report}))


Cells = Dict[str, Cell]


@dataclass
class Results:
    """Cells by case and server; `versions` describes servers, the rest describes the run.

    `known` are all cases of the tool.
    """

    cases: dict[str, Cells] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)
    machine: Report = field(default_factory=dict)
    rounds: int = 0
    seconds: float = 0.0
    known: Mapping[str, Case] = field(default_factory=lambda: CASES)

    def base(self, case: str) -> list[Cell]:
        """Return the cells to which ratios refer."""
        cells = self.cases[case]
        return [cells[name] for name in self.known[case].sides or list(cells)[:1]]

    def failed(self) -> bool:
        return any(cell.errors for cells in self.cases.values() for cell in cells.values())

    def errors(self) -> list[str]:
        return [
            f"{case}, {name}: {error}"
            for case, cells in self.cases.items()
            for name, cell in cells.items()
            for error in cell.errors
        ]

    def check_same(self, case: Case, cells: Cells) -> None:
        """Report rows that did different work, because they cannot be compared."""
        key, names = case.same
        present = [name for name in names if name in cells]
        values = {report[key] for name in present for report in cells[name].reports}
        if len(values) > 1:
            cells[present[-1]].errors.append(f"{key} differs from {names[0]}: {sorted(values)}")

    def save(self, path: pathlib.Path) -> None:
        document = {
            "machine": self.machine,
            "rounds": self.rounds,
            "seconds": self.seconds,
            "versions": self.versions,
            "results": {
                case: {
                    name: {
                        "median": cell.median(self.known[case].metric),
                        "reports": cell.reports,
                        "errors": cell.errors,
                    }
                    for name, cell in cells.items()
                }
                for case, cells in self.cases.items()
            },
        }
        path.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def load(paths: Sequence[pathlib.Path], known: Mapping[str, Case] = CASES) -> Results:
    """Load several files, of which later ones replace whole cases, or raise BenchError."""
    results = Results(known=known)
    for path in paths:
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            for case, rows in document["results"].items():
                results.cases[case] = {
                    name: Cell(row["reports"], row["errors"])
                    for name, row in rows.items()
                    if case in known
                }
            results.versions.update(document["versions"])
            results.machine = document["machine"]
            results.rounds, results.seconds = document["rounds"], document["seconds"]
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BenchError(f"{path} was not written by --json: {error}") from None
    results.cases = {case: results.cases[case] for case in known if case in results.cases}
    return results
