# SPDX-License-Identifier: MIT
"""tools/conformance/compare.py: what it makes of the reports of several runs, without a server."""

import json
import sys
from pathlib import Path
from typing import Any, Dict, List

import pytest
from common import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from conformance import compare


def write(path: Path, verdicts: Dict[str, str], peer: str = "ws 8.23.0") -> None:
    """A report with these results: OK, or FAILED,OK as --retry writes them."""
    cases: List[Dict[str, Any]] = []
    for id, seen in verdicts.items():
        every = seen.split(",")
        cases.append({"id": id, "verdict": every[-1], "flaky": every if every[1:] else []})
    path.write_text(json.dumps({"runs": [{"peer": peer, "cases": cases}]}))


@pytest.fixture
def place(tmp_path: Path) -> compare.Place:
    return compare.Place(tmp_path, tmp_path)


def rows(place: compare.Place) -> List[str]:
    return compare.table_runs(place).splitlines()[2:]


def test_cases_with_other_results_in_another_run_are_listed(place: compare.Place) -> None:
    fine = {"1.1.1": "OK", "P.5.7": "OK", "P.5.8": "OK", "7.1.6": "NON-STRICT"}
    write(place.report("ws"), fine)
    for number in (2, 3):
        write(place.report("ws", number), fine)
    assert rows(place) == ["| ws 8.23.0 | 3 | none |"]
    write(place.report("ws", 10), {**fine, "P.5.7": "INFORMATIONAL", "P.5.8": "INFORMATIONAL"})
    write(place.report("ws", 4), {**fine, "7.1.6": "OK"})
    assert rows(place) == ["| ws 8.23.0 | 5 | INFORMATIONAL, OK: P.5.7-8; NON-STRICT, OK: 7.1.6 |"]


def test_what_a_repetition_saw_and_what_was_not_run_count(place: compare.Place) -> None:
    write(place.report("ws"), {"1.1.1": "FAILED,OK", "1.1.2": "OK"})
    write(place.report("ws", 2), {"1.1.1": "OK"})
    assert rows(place) == ["| ws 8.23.0 | 2 | FAILED, OK: 1.1.1; OK, not run: 1.1.2 |"]


def test_a_server_with_one_run_has_no_row(place: compare.Place) -> None:
    write(place.report("faye"), {"1.1.1": "OK"}, "faye-websocket 0.11.4")
    with pytest.raises(compare.Failed, match="several runs"):
        compare.table_runs(place)
    write(place.report("ws"), {"1.1.1": "OK"})
    write(place.report("ws", 2), {"1.1.1": "OK"})
    write(place.report("ws", 3), {})  # it did not start
    assert rows(place) == ["| ws 8.23.0 | 2 | none |"]


def test_reports_of_a_server_do_not_mix_with_those_of_a_similar_name(place: compare.Place) -> None:
    for name in ("pyws-c", "pyws-c-deflate"):
        write(place.report(name), {"1.1.1": "OK"}, name)
        write(place.report(name, 2), {"1.1.1": "OK"}, name)
    assert [path.name for path in sorted(place.reports("pyws-c"))] == [
        "pyws-c.2.json",
        "pyws-c.json",
    ]
    assert rows(place) == ["| pyws-c | 2 | none |", "| pyws-c-deflate | 2 | none |"]


def test_consecutive_ids_are_a_range() -> None:
    ids = ["5.10", "5.1", "5.2", "5.3", "5.9", "D.1.2"]
    assert compare.ranges(ids) == ["5.1-3", "5.9-10", "D.1.2"]
