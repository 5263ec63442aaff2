# SPDX-License-Identifier: MIT
"""Group the results of a run by cause: one fault, one finding.

The same fault of a peer shows in many cases. A finding contains the cases with the same verdict and
the same sentence of the RFC whose `came` differs only in numbers and quoted bytes. The closing of
the connections has a separate verdict (`case.Result.close`) and separate findings.
"""

from __future__ import annotations

import re
from itertools import groupby
from typing import Any, Callable, Iterable, Sequence

from .case import natural
from .verdicts import Verdict

ORDER = ("FAILED", "NON-STRICT", "UNIMPLEMENTED", "SKIPPED", "INFORMATIONAL")
"""Verdicts, worst first."""
UNJUDGED = ("UNIMPLEMENTED", "SKIPPED")
"""These are grouped by `came` only, because the reason is unrelated to the rule."""
CLOSE = "close"
"""The id that stands for all close verdicts of a run; they count as one failure."""

_CLOSE_RULES = {
    "ends": (
        "MUST",
        "After both sending and receiving a Close message, an endpoint considers the WebSocket "
        "connection closed and MUST close the underlying TCP connection.",
    ),
    "answers": (
        "MUST",
        "If an endpoint receives a Close frame and did not previously send a Close frame, the "
        "endpoint MUST send a Close frame in response.",
    ),
    "echoes": (
        "SHOULD",
        "When sending a Close frame in response, the endpoint typically echos the status code it "
        "received.",
    ),
}

Cases = Sequence["dict[str, Any]"]


# ---- the shape of a text ------------------------------------------------------------------------

_LITERAL = re.compile(
    r"""(?<!\w)b?(?:'(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")(?:\.\.\. \(\d+ bytes\))?""", re.DOTALL
)
_NUMBER = re.compile(r"(?<!\w)[+-]?(?:0x[0-9a-fA-F]+|\d+(?:[.,:]\d+)*)")


def shape(text: str) -> str:
    """Replace what is specific to one case in a text: quoted bytes and numbers."""
    return _NUMBER.sub("N", _LITERAL.sub("'...'", text)).strip()


def ranges(ids: Iterable[str]) -> str:
    """Return ids in natural order with consecutive ones as a range: "3.2-4, D.5.1"."""

    def split(id: str) -> tuple[str, int]:
        start, dot, last = id.rpartition(".")
        return (start + dot, int(last)) if last.isdecimal() else (id, -1)

    parts = [split(id) for id in sorted(set(ids), key=natural)]
    texts = []
    for _, run in groupby(enumerate(parts), lambda p: (p[1][0], p[1][1] - p[0])):
        (start, first), *others = [part for _, part in run]
        text = start if first < 0 else f"{start}{first}"
        texts.append(f"{text}-{others[-1][1]}" if others else text)
    return ", ".join(texts)


# ---- findings -----------------------------------------------------------------------------------


def of(
    run: dict[str, Any], wanted: Callable[[str, str], bool] = lambda id, verdict: True
) -> list[dict[str, Any]]:
    """Return the findings of a run, worst and largest first, without those that are OK.

    Args:
        run: the run as in a JSON report.
        wanted: called with each id (CLOSE for the closing of any case) and its verdict; selects
            what becomes part of a finding.
    """
    heaps: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for case in run["cases"]:
        verdict, close = case["verdict"], case["close"]
        if verdict != Verdict.OK and wanted(case["id"], verdict):
            rule = ("", "") if verdict in UNJUDGED else (case["section"], case["quote"])
            heaps.setdefault(("case", verdict, *rule, shape(case["came"])), []).append(case)
        if close != Verdict.OK and wanted(CLOSE, close):
            heaps.setdefault((CLOSE, close, "", "", shape(case["close_came"])), []).append(case)
    found = [_finding(about, verdict, heap) for (about, verdict, *_), heap in heaps.items()]
    return sorted(found, key=_rank)


def _rank(finding: dict[str, Any]) -> tuple[Any, ...]:
    return ORDER.index(finding["verdict"]), -finding["count"], natural(finding["ids"][0])


def _finding(about: str, verdict: str, heap: Cases) -> dict[str, Any]:
    ids = sorted((case["id"] for case in heap), key=natural)
    first = next(case for case in heap if case["id"] == ids[0])
    came = first["close_came"] if about == CLOSE else first["came"]
    section, level, quote = _rule(about, verdict, came, heap[0])
    return {
        "about": about,
        "verdict": verdict,
        "section": section,
        "level": level,
        "quote": quote,
        "shape": shape(came),
        "count": len(ids),
        "ids": ids,
        "range": ranges(ids),
        "example": {
            "id": ids[0],
            "sends": first["sends"],
            "expects": "the connection to be closed" if about == CLOSE else first["expects"],
            "came": came,
        },
    }


def _rule(about: str, verdict: str, came: str, case: dict[str, Any]) -> tuple[str, str, str]:
    """Return section, level and quote, or empty texts if no rule decided."""
    if about == CLOSE:
        return ("RFC 6455 5.5.1", *_CLOSE_RULES[_close_rule(came)])
    if verdict in UNJUDGED:
        return "", "", ""
    return case["section"], case["level"], case["quote"]


def _close_rule(came: str) -> str:
    if "does not end TCP" in came:
        return "ends"
    return "echoes" if re.search(r"but (received )?Close ", came) else "answers"


# ---- findings that count ------------------------------------------------------------------------


def failing_ids(run: dict[str, Any], fail_on: Iterable[str]) -> list[str]:
    """Return the ids whose verdict is a failure, and CLOSE if the closing of any case failed."""
    fail_on = set(fail_on)
    ids = [case["id"] for case in run["cases"] if case["verdict"] in fail_on]
    return ids + [CLOSE] * any(case["close"] in fail_on for case in run["cases"])


def worst_close(run: dict[str, Any]) -> str:
    """Return the worst close verdict of a run."""
    closes = {case["close"] for case in run["cases"]}
    return next((verdict for verdict in ORDER if verdict in closes), "OK")


# ---- text ---------------------------------------------------------------------------------------


def title(finding: dict[str, Any]) -> str:
    """Return a title such as "12 cases: 3.2-4, D.5.1-9"."""
    count, what = finding["count"], "close of " if finding["about"] == CLOSE else ""
    return f"{what}{count} {'case' if count == 1 else 'cases'}: {finding['range']}"


def rule(finding: dict[str, Any]) -> str:
    """Return a rule such as `RFC 6455 5.2, MUST: ...`, or "" if no rule decided."""
    if not finding["quote"]:
        return ""
    return f"{finding['section']}, {finding['level']}: {finding['quote']}"
