# SPDX-License-Identifier: MIT
"""The report of one run, or of several for comparison, as one HTML page.

The page is report.html with the runs embedded as JSON, which its script shows as text. It loads
nothing else, and its content security policy forbids that, so bytes from a peer cannot do harm. A
page of one run has at most 2 MB. It includes the traces that fit, those of failed cases first.
"""

from __future__ import annotations

import json
import pkgutil
from base64 import b64encode
from collections import Counter
from hashlib import sha256
from typing import Any, Iterable, Sequence

from . import decode, findings, report
from .case import natural
from .verdicts import Verdict

LARGEST = 2_000_000  # bytes of a page of one run
EACH = 1_000_000  # more bytes for each further run
SHOWN = 1000  # characters of a text of a case
KEPT = (1024, 256, 96, 32)  # bytes of a read or write; fewer if there is less room
MOST, LEAST = 16384, 512  # bytes of the trace of a case


def text(runs: Sequence[dict[str, Any]]) -> str:
    """Return the page, or raise OSError if report.html is missing."""
    page = (pkgutil.get_data(__package__, "report.html") or b"").decode("utf-8")  # also from a zip
    page = page.replace("@POLICY@", policy(page), 1)
    data = data_of(runs)
    room = LARGEST + EACH * (len(runs) - 1) - len(page.encode()) - len(embedded(data))
    add_traces(data, runs, room)
    return page.replace("@DATA@", embedded(data), 1)


def policy(page: str) -> str:
    """Return a policy that allows only the style and the script of the page."""
    return (
        f"default-src 'none'; style-src {source(page, 'style')}; "
        f"script-src {source(page, 'script')}; img-src data:; "
        "base-uri 'none'; form-action 'none'"
    )


def source(page: str, tag: str) -> str:
    """Return the hash of an element's content."""
    inner = page.split(f"<{tag}>")[1].split(f"</{tag}>")[0]
    return f"'sha256-{b64encode(sha256(inner.encode()).digest()).decode()}'"


def embedded(data: Any) -> str:
    """Return JSON that cannot end the element around it."""
    dumped = json.dumps(data, separators=(",", ":"))  # pure ASCII
    for character in "<>&":
        dumped = dumped.replace(character, f"\\u{ord(character):04x}")
    return dumped


# ---- the data of the page -----------------------------------------------------------------------


class Texts:
    """Texts that cases share, each with an index."""

    def __init__(self) -> None:
        self.numbers: dict[str, int] = {}

    def number(self, text: str) -> int:
        return self.numbers.setdefault(text, len(self.numbers))


def data_of(runs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return a row for each case, with its result in each run or None; without traces."""
    rows: dict[str, dict[str, Any]] = {}
    texts = Texts()
    for index, run in enumerate(runs):
        numbers = numbered(run["findings"])
        for case in run["cases"]:
            row = rows.setdefault(case["id"], row_of(case, len(runs), texts))
            row["results"][index] = result_of(case, numbers)
    return {
        "runs": [summary_of(run, texts) for run in runs],
        "groups": [group_of(group, runs) for group in report.groups_of(runs)],
        "cases": [rows[id] for id in sorted(rows, key=natural)],
        "texts": list(texts.numbers),
    }


def numbered(found: Iterable[dict[str, Any]]) -> dict[tuple[str, str], int]:
    """Return the index of the finding to which each verdict of a case belongs."""
    return {(one["about"], id): n for n, one in enumerate(found) for id in one["ids"]}


def summary_of(run: dict[str, Any], texts: Texts) -> dict[str, Any]:
    """Return the data above the table."""
    keys = ("peer", "target", "started", "seconds", "ended", "crashes")
    return {
        **{key: run[key] for key in keys},
        "not_run": len(run["not_run"]),
        "counts": counts_of(case["verdict"] for case in run["cases"]),
        "closes": counts_of(case["close"] for case in run["cases"]),
        "flaky": findings.ranges(case["id"] for case in run["cases"] if case["flaky"]),
        "settings": report.described(run),
        "findings": [finding_of(finding, texts) for finding in run["findings"]],
    }


def counts_of(verdicts: Iterable[str]) -> dict[str, int]:
    counts = Counter(verdicts)
    return {verdict.value: counts[verdict] for verdict in Verdict if counts[verdict]}


def group_of(group: str, runs: Sequence[dict[str, Any]]) -> list[Any]:
    """Return the id and title of a group, and the counts of each run."""
    counts = [counts_of(c["verdict"] for c in run["cases"] if c["group"] == group) for run in runs]
    return [group, report.title(group), counts]


def finding_of(finding: dict[str, Any], texts: Texts) -> dict[str, Any]:
    example = {key: cut(value) for key, value in finding["example"].items()}
    keys = ("about", "verdict", "section", "level", "count", "range")
    quote = texts.number(cut(finding["quote"]))
    return {**{key: finding[key] for key in keys}, "quote": quote, "example": example}


def row_of(case: dict[str, Any], runs: int, texts: Texts) -> dict[str, Any]:
    """Return a case's row with the data that all runs share."""
    row = {key: case[key] for key in ("id", "group", "section", "level", "tags")}
    row["quote"] = texts.number(cut(case["quote"]))
    row["sends"], row["expects"] = cut(case["sends"]), texts.number(cut(case["expects"]))
    return {**row, "results": [None] * runs}


def result_of(case: dict[str, Any], numbers: dict[tuple[str, str], int]) -> dict[str, Any]:
    """Return the result of a case in one run."""
    result = {"verdict": case["verdict"], "seconds": case["seconds"], "trace": []}
    result["came"] = cut(case["came"], 160 if case["verdict"] == "OK" else SHOWN)
    if case["close"] != "OK":
        result["close"], result["close_came"] = case["close"], cut(case["close_came"])
    if case["flaky"]:
        result["flaky"] = case["flaky"]
    found = [numbers.get((about, case["id"]), -1) for about in ("case", findings.CLOSE)]
    return {**result, "findings": [number for number in found if number >= 0]}


def cut(text: str, most: int = SHOWN) -> str:
    return text if len(text) <= most else f"{text[:most]} ..."


# ---- traces -------------------------------------------------------------------------------------


def add_traces(data: dict[str, Any], runs: Sequence[dict[str, Any]], room: int) -> None:
    """Add the traces that fit, most important first."""
    classes: list[list[tuple[dict[str, Any], dict[str, Any]]]] = [[], [], [], []]
    rows = {row["id"]: row for row in data["cases"]}
    for index, run in enumerate(runs):
        examples = {finding["example"]["id"] for finding in run["findings"]}
        for case in run["cases"]:
            weight = weight_of(case, case["id"] in examples)
            classes[weight].append((case, rows[case["id"]]["results"][index]))
    for weight, members in enumerate(classes):
        share = room if weight == len(classes) - 1 else room * 7 // 10
        room -= fill(members, share)


def weight_of(case: dict[str, Any], is_example: bool) -> int:
    """Return the priority of a trace, from 0 (most important) to 3."""
    if case["verdict"] == "FAILED" or is_example:
        return 0
    if case["verdict"] == "NON-STRICT":
        return 1
    return 2 if case["verdict"] == "INFORMATIONAL" or case["close"] != "OK" else 3


def fill(members: Sequence[tuple[dict[str, Any], dict[str, Any]]], room: int) -> int:
    """Add the traces of these cases with an equal limit each; returns the bytes used."""
    traces = [trace_of(case["trace"], MOST) for case, _ in members]
    sizes = [size_of(trace) for trace in traces]
    most, used = max(fair_share(sizes, room), LEAST), 0
    for (case, result), trace, size in zip(members, traces, sizes):
        if size > most:
            trace = trace_of(case["trace"], most)
            size = size_of(trace)
        if used + size <= room:
            result["trace"] = trace
            used += size
        elif case["trace"]:
            result["trace"] = 0  # left out
    return used


def fair_share(sizes: Sequence[int], room: int) -> int:
    """Return the limit for each size, so that large ones share what small ones do not need."""
    for number, size in enumerate(sorted(sizes)):
        share = room // (len(sizes) - number)
        if size > share:
            return share
        room -= size
    return MOST


def size_of(trace: list[list[Any]]) -> int:
    return len(embedded(trace)) - 2


def trace_of(trace: Sequence[dict[str, Any]], most: int) -> list[list[Any]]:
    """Limit a trace to `most` bytes of JSON: truncate its events, then drop middle ones."""
    parts = decode.parts_of(trace)
    events: list[list[Any]] = []
    for kept in KEPT:
        least = sum(min(len(event.get("hex", "")) * 2 // 3, kept * 4 // 3) for event in trace)
        if least > most and kept != KEPT[-1]:
            continue  # it cannot fit
        events = [event_of(event, its, kept) for event, its in zip(trace, parts)]
        if size_of(events) <= most:
            return events
    first: list[list[Any]] = []
    last: list[list[Any]] = []
    room = most - 100
    while events and room > 0:
        side, event = (first, events.pop(0)) if len(first) <= len(last) else (last, events.pop())
        room -= size_of([event]) + 1
        if room >= 0:
            side.append(event)
        else:
            events.append(event)
    text = f"{len(events)} reads, writes and notes are left out here"
    return [*first, [0, 2, 0, 0, text, []], *reversed(last)]


def event_of(event: dict[str, Any], parts: list[list[Any]], kept: int) -> list[Any]:
    """Return [milliseconds, 0 sent, 1 received or 2 note, connection, length, data, parts]."""
    at, number = round(event["at"] * 1000, 1), event["connection"]
    if event["what"] == "note":
        return [at, 2, number, 0, cut(event["text"]), []]
    data = bytes.fromhex(event["hex"])[:kept]
    sent = 0 if event["what"] == "sent" else 1
    return [at, sent, number, event["length"], b64encode(data).decode(), parts[: kept // 4]]
