# SPDX-License-Identifier: MIT
"""What the console shows at the end of a run: findings, counts, and the baseline."""

from __future__ import annotations

import textwrap
from collections import Counter
from typing import Any, Iterable, Sequence, TextIO

from . import findings, progress
from .case import natural

WIDTH = 300  # characters of what the peer did
SHOWN = {"FAILED": 40, "NON-STRICT": 15}  # findings shown for each verdict without --verbose


def short(text: str, width: int = WIDTH) -> str:
    """Shorten a text to one line without control characters for a terminal."""
    return textwrap.shorten(progress.plain(text), width, placeholder=" ...")


# ---- findings -----------------------------------------------------------------------------------


def of_run(run: dict[str, Any], stream: TextIO, verbose: bool) -> list[str]:
    """Return lines for the console."""
    lines = cases(run, stream) if verbose else []
    for verdict in findings.ORDER:
        found = [one for one in run["findings"] if one["verdict"] == verdict]
        most = len(found) if verbose else SHOWN.get(verdict, len(found))
        lines += [line for one in found[:most] for line in of_finding(one, stream, verbose)]
        if found[most:]:
            count = sum(one["count"] for one in found[most:])
            more = f"{len(found) - most} more findings in {count} cases: see --verbose, --html"
            lines.append(f"{progress.painted(verdict, stream, 13)}  {more}")
    lines += flaky(run)
    if run["cases"]:
        counts = progress.counted(Counter(case["verdict"] for case in run["cases"]))
        lines.append(f"{short(run['peer'])}: {counts} in {run['seconds']:.1f} s")
    if findings.worst_close(run) != "OK":
        counts = progress.counted(Counter(case["close"] for case in run["cases"]))
        lines.append(f"close of the connections: {counts}; counted as one failure, `close`")
    lines += [progress.plain(f"The server exited by itself: {crash}") for crash in run["crashes"]]
    if run["ended"]:
        missing = len(run["not_run"])
        early = f"The run ended early, {missing} cases were not run:"
        lines += [early if missing else "All cases were run, but:", progress.plain(run["ended"])]
    return lines


def of_finding(finding: dict[str, Any], stream: TextIO, verbose: bool) -> list[str]:
    """Return the cases and what the peer did; for FAILED also the rule and what was sent."""
    whole = finding["verdict"] == "FAILED" or (verbose and finding["quote"])
    verdict, example = finding["verdict"], finding["example"]
    if verdict == "INFORMATIONAL":
        return []
    painted = progress.painted(verdict, stream, 13)
    head = f"{painted}  {short(findings.title(finding), 200)}"
    if not whole:
        head += f"  ({finding['section']})" if finding["section"] else ""
        return [head, f"    {short(example['came'])}"]
    lines = [head, f"    {short(findings.rule(finding))}"]
    lines.append(f"    {example['id']} sent: {short(example['sends'], 160)}")
    lines.append(f"      expected: {short(example['expects'], 160)}")
    lines.append(f"      got: {short(example['came'])}")
    return lines


def cases(run: dict[str, Any], stream: TextIO) -> list[str]:
    """Return a line for each case that is not OK or INFORMATIONAL."""
    width = max((len(case["id"]) for case in run["cases"]), default=0)
    lines = []
    for case in run["cases"]:
        verdicts = [
            (case["verdict"], case["came"]),
            (case["close"], f"close: {case['close_came']}"),
        ]
        for verdict, came in verdicts:
            if verdict not in ("OK", "INFORMATIONAL"):
                painted = progress.painted(verdict, stream, 13)
                lines.append(f"{painted}  {case['id']:{width}}  {short(came)}")
    return lines


def flaky(run: dict[str, Any]) -> list[str]:
    """Return a line for each case whose verdict changed when it was run again."""
    return [
        f"flaky: {case['id']} was {', '.join(case['flaky'])}"
        for case in run["cases"]
        if case["flaky"]
    ]


# ---- the baseline -------------------------------------------------------------------------------


def of_baseline(
    run: dict[str, Any], known: Iterable[str], wavering: Iterable[str], failed: Sequence[str]
) -> list[str]:
    """Return what is new, what no longer fails, and the results of the cases marked as flaky."""
    known, wavering = set(known), set(wavering)
    ran = {case["id"] for case in run["cases"]}
    ran |= {findings.CLOSE} if ran else set()
    new = [id for id in failed if id not in known]
    mended = sorted((known & ran) - set(failed) - wavering, key=natural)
    lines = [f"baseline: {len(failed) - len(new)} failures are known, {len(new)} are new"]
    if new:
        lines.append(f"new: {' '.join(new)}")
    if mended:
        lines.append(f"no longer failing: {' '.join(mended)}")
    verdicts = {case["id"]: case["verdict"] for case in run["cases"]}
    verdicts[findings.CLOSE] = findings.worst_close(run)
    marked = sorted(wavering & ran, key=natural)
    if marked:
        lines.append("marked as flaky: " + ", ".join(f"{id} is {verdicts[id]}" for id in marked))
    return lines
