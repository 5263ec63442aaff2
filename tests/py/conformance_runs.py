# SPDX-License-Identifier: MIT
"""Runs of the conformance runner made up for tests of its reports."""

import sys
from typing import Any, Dict, Sequence

from common import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from conformance import findings, report

VERDICTS = ["OK", "NON-STRICT", "INFORMATIONAL", "FAILED", "UNIMPLEMENTED", "SKIPPED"]
HOSTILE = "</script><img src=x onerror='document.title=1'>|`*\x00\x1b[2J\ud800\u2028]]>&amp;#\n"
SETTINGS = {
    "profile": "strict",
    "seed": 1,
    "timeout": 2.0,
    "timeout_scale": 1.0,
    "limit": 30.0,
    "full": False,
    "manners": {
        "round_trip": 0.0,
        "greetings": 0,
        "failure_code": 1002,
        "close_code": 1000,
        "one_connection": False,
    },
}


def case(id: str, verdict: str = "OK", came: str = "", **more: Any) -> Dict[str, Any]:
    """A case as it is in a run."""
    values = {
        "id": id,
        "group": id.split(".")[0],
        "section": "RFC 6455 5.1",
        "level": "MUST",
        "quote": "a quote",
        "sends": "things",
        "expects": "others",
        "tags": [],
        "verdict": verdict,
        "came": came,
        "close": "OK",
        "close_came": "",
        "flaky": [],
        "seconds": 0.5,
        "trace": [],
    }
    return {**values, **more}


def run_of(cases: Sequence[Dict[str, Any]], **more: Any) -> Dict[str, Any]:
    """A whole run."""
    run = {
        "peer": "a server",
        "target": "ws://127.0.0.1:9001/",
        "started": "2026-01-02T03:04:05Z",
        "seconds": 1.5,
        "tool": report.tool(),
        "settings": SETTINGS,
        "ended": "",
        "not_run": [],
        "crashes": [],
        "known": [],
        "counts": report.counted(one["verdict"] for one in cases),
        "close_counts": report.counted(one["close"] for one in cases),
        "cases": list(cases),
        **more,
    }
    return {**run, "findings": findings.of(run)}


def hostile_run(name: str, verdicts: Sequence[str]) -> Dict[str, Any]:
    """With every text, and every byte of the traces, chosen to do harm."""

    def event(what: str) -> Dict[str, Any]:
        common = {"at": 0.1, "what": what, "connection": 1}
        if what == "note":
            return {**common, "text": HOSTILE}
        return {**common, "hex": bytes(range(256)).hex(), "length": 70000}

    cases = [
        case(
            f"{i + 8}.1",
            verdict,
            "" if verdict == "OK" else HOSTILE,
            quote=HOSTILE,
            sends=f"{HOSTILE}{i}",
            expects=HOSTILE,
            tags=["limits"],
            close="FAILED" if i % 3 == 0 else "OK",
            close_came=HOSTILE if i % 3 == 0 else "",
            flaky=["FAILED", verdict] if i == 1 else [],
            seconds=i,
            trace=[event("sent"), event("received"), event("note")],
        )
        for i, verdict in enumerate(verdicts)
    ]
    texts = dict.fromkeys(("target", "started", "ended"), HOSTILE)
    settings = {**SETTINGS, "arguments": [HOSTILE, "--include", HOSTILE]}
    more = {"not_run": ["1.1"], "known": ["13.1"], "crashes": [HOSTILE], "settings": settings}
    return run_of(cases, peer=name, **texts, **more)


HOSTILE_RUNS = [hostile_run("one", VERDICTS), hostile_run(HOSTILE, ["FAILED", *VERDICTS[1:4]])]
