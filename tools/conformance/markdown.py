# SPDX-License-Identifier: MIT
"""The report as a Markdown document: a summary, the findings, a table of groups, the settings."""

from __future__ import annotations

from typing import Any, Sequence

from . import findings, progress, report
from .report import cell

FINDINGS = 100  # per run; further ones are only counted
SHOWN = 400  # characters of a text


def text(runs: Sequence[dict[str, Any]]) -> str:
    """Return the report of one run, or of several for comparison."""
    parts = ["# WebSocket conformance", *map(summary, runs)]
    parts += ["## Groups", report.markdown_text(runs).rstrip()]
    for run in runs:
        of = f" of {cell(run['peer'])}" if len(runs) > 1 else ""
        parts += [f"## Findings{of}", *found(run)]
        parts += [f"## Settings{of}", settings(run)]
    return "\n\n".join(parts) + "\n"


def summary(run: dict[str, Any]) -> str:
    """Return the counts of a run and how it ended."""
    counts = progress.counted(run["counts"]) or "no case was run"
    lines = [f"**{cell(run['peer'])}**: {counts} in {run['seconds']:.1f} s."]
    if findings.worst_close(run) != "OK":
        lines.append(f"Close of the connections: {progress.counted(run['close_counts'])}.")
    flaky = [case["id"] for case in run["cases"] if case["flaky"]]
    if flaky:
        lines.append(f"Flaky (several runs had different results): {findings.ranges(flaky)}.")
    lines += [f"The server exited by itself: {cell(crash)}" for crash in run["crashes"]]
    if run["ended"]:
        missing = len(run["not_run"])
        early = f"The run ended early, {missing} cases were not run"
        lines.append(f"{early if missing else 'All cases were run, but'}: {cell(run['ended'])}")
    return "\n".join(lines)


def found(run: dict[str, Any]) -> list[str]:
    """Return a paragraph for each finding."""
    shown, more = run["findings"][:FINDINGS], run["findings"][FINDINGS:]
    parts = [of_finding(finding) for finding in shown]
    if more:
        cases = sum(finding["count"] for finding in more)
        parts.append(f"{len(more)} more findings in {cases} cases are not shown.")
    return parts or ["Nothing was found."]


def of_finding(finding: dict[str, Any]) -> str:
    example = finding["example"]
    lines = [f"**{finding['verdict']}**, {cell(findings.title(finding))}", ""]
    if findings.rule(finding):
        lines += [f"> {short(findings.rule(finding))}", ""]
    lines += [
        f"- {cell(example['id'])} sent {short(example['sends'])}",
        f"- expected {short(example['expects'])}",
        f"- got {short(example['came'])}",
    ]
    return "\n".join(lines)


def settings(run: dict[str, Any]) -> str:
    rows = [f"| {cell(name)} | {cell(value)} |" for name, value in report.described(run)]
    return "\n".join(["| | |", "|---|---|", *rows])


def short(text: str) -> str:
    return cell(text if len(text) <= SHOWN else f"{text[:SHOWN]} ...")
