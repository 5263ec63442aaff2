# SPDX-License-Identifier: MIT
"""Output for GitHub Actions: annotations and a summary of the job."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Iterable, Mapping, Sequence

from . import findings, markdown, report

ANNOTATIONS = 10  # GitHub drops any further ones of a step
SUMMARY = 1000 * 1024  # bytes; GitHub accepts 1 MiB from a step


def annotated(
    runs: Sequence[dict[str, Any]], fail_on: Iterable[str], known: Iterable[str]
) -> list[str]:
    """Return a line for each finding that counts as a failure, and for each incomplete run."""
    fail_on, known = set(fail_on), set(known)
    lines = []
    for run in runs:
        peer = run["peer"]
        for one in findings.of(run, lambda id, verdict: verdict in fail_on and id not in known):
            title = f"{peer}: {one['verdict']}, {findings.title(one)}"
            lines.append(annotation("error", title, report.explained_finding(one)))
        for crash in run["crashes"]:
            lines.insert(0, annotation("error", f"{peer}: the server exited by itself", crash))
        if run["ended"]:
            missing = f"({len(run['not_run'])} cases were not run)"
            title = f"{peer}: the run is incomplete"
            lines.insert(0, annotation("error", title, f"{run['ended']} {missing}"))
    if len(lines) > ANNOTATIONS:
        more = len(lines) - ANNOTATIONS + 1
        text = f"{more} more findings are in the reports and in the summary of the job."
        lines[ANNOTATIONS - 1 :] = [annotation("error", f"{more} more findings", text)]
    return lines


def annotation(kind: str, title: str, text: str) -> str:
    """Return a workflow command."""
    return f"::{kind} title={escaped(shortened(title), ':,')}::{escaped(text)}"


def shortened(title: str, most: int = 200) -> str:
    return title if len(title) <= most else f"{title[: most - 4]} ..."


def escaped(text: str, more: str = "") -> str:
    """Escape what would end a command or one of its properties as percent and two digits."""
    text = "".join(c if c.isprintable() or c in "\r\n" else " " for c in text)
    for character in f"%\r\n{more}":
        text = text.replace(character, f"%{ord(character):02X}")
    return text


def summarize(runs: Sequence[dict[str, Any]], environment: Mapping[str, str]) -> None:
    """Append to the summary of the job, if there is one, or raise OSError if that fails."""
    path = environment.get("GITHUB_STEP_SUMMARY")
    if not path:
        return
    text = markdown.text(runs)
    if len(text.encode()) > SUMMARY:
        text = text.encode()[:SUMMARY].decode("utf-8", "ignore") + "\n\nThe rest is truncated.\n"
    with Path(path).open("a", encoding="utf-8") as file:
        file.write(text)
