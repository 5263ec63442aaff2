"""The report as one HTML page, of one run or of several side by side.

The page is report.html with the runs put in as JSON, which its script shows as text. Nothing else
is loaded, and a policy in the page forbids it: a peer's bytes stay bytes.
"""

from __future__ import annotations

import json
from base64 import b64encode
from collections import Counter
from hashlib import sha256
from pathlib import Path
from typing import Any, Sequence

from . import report
from .case import Verdict, natural

PAGE = Path(__file__).with_name("report.html")


def text(runs: Sequence[dict[str, Any]]) -> str:
    """The page. OSError: report.html is missing."""
    page = PAGE.read_text(encoding="utf-8")
    page = page.replace("@POLICY@", policy(page), 1)
    return page.replace("@DATA@", embedded(data_of(runs)), 1)


def policy(page: str) -> str:
    """Allows the style and the script of the page, and nothing else."""
    return (
        f"default-src 'none'; style-src {source(page, 'style')}; "
        f"script-src {source(page, 'script')}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def source(page: str, tag: str) -> str:
    """The hash of what stands in the page between two tags."""
    inner = page.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
    return f"'sha256-{b64encode(sha256(inner.encode()).digest()).decode()}'"


def embedded(data: dict[str, Any]) -> str:
    """JSON that cannot end the element around it."""
    dumped = json.dumps(data, separators=(",", ":"))  # pure ASCII
    for character in "<>&":
        dumped = dumped.replace(character, f"\\u{ord(character):04x}")
    return dumped


# ---- the data of the page -----------------------------------------------------------------------


def data_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """A row for each case of any run, with one result of each run, or None."""
    rows: dict[str, dict[str, Any]] = {}
    for index, run in enumerate(runs):
        for case in run["cases"]:
            row = rows.setdefault(case["id"], row_of(case, len(runs)))
            row["results"][index] = result_of(case)
    return {
        "runs": [summary_of(run) for run in runs],
        "groups": [[group, report.title(group)] for group in report.groups_of(runs)],
        "cases": [rows[id] for id in sorted(rows, key=natural)],
    }


def summary_of(run: dict[str, Any]) -> dict[str, Any]:
    """What stands above the table."""
    counts = Counter(case["verdict"] for case in run["cases"])
    keys = ("peer", "target", "started", "seconds", "ended")
    return {
        **{key: run[key] for key in keys},
        "not_run": len(run["not_run"]),
        "counts": {verdict.value: counts[verdict.value] for verdict in Verdict},
    }


def row_of(case: dict[str, Any], runs: int) -> dict[str, Any]:
    """What all runs have in common."""
    keys = ("id", "group", "section", "level", "quote", "sends", "expects", "tags")
    return {**{key: case[key] for key in keys}, "results": [None] * runs}


def result_of(case: dict[str, Any]) -> dict[str, Any]:
    """What differs. An event becomes a list: time, what, hexadecimal digits or text, length."""
    trace = [
        [e["at"], e["what"], e["text"] if e["what"] == "note" else e["hex"], e.get("length", 0)]
        for e in case["trace"]
    ]
    keys = ("verdict", "came", "seconds")
    return {**{key: case[key] for key in keys}, "trace": trace}
