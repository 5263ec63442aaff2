"""What came of a run, as data and in the forms that other programs read: JSON, JUnit XML, TAP, and
a Markdown table.

A run is a plain dict, the same right after the run as when it is read from a JSON report: see
`of_run` for its keys. What a peer sent is in there as hexadecimal digits or as `repr` shows it.
"""

from __future__ import annotations

import json
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from pathlib import Path
from typing import Any, Iterable, Sequence

from . import wire
from .case import Result, Settings, Verdict, natural
from .runner import Outcome

FORMAT = 1  # of the JSON report; another number when a key changes its meaning
GROUPS = {
    "1": "Framing",
    "2": "Pings and pongs",
    "3": "Reserved bits",
    "4": "Opcodes",
    "5": "Fragmentation",
    "6": "UTF-8",
    "7": "Closing",
    "9": "Limits",
    "10": "Sizes of frames and messages",
    "12": "Compression",
    "13": "Compression parameters",
    "B": "Backpressure and slow readers",
    "D": "Edges of compression",
    "F": "Floods",
    "H": "Opening handshake",
    "P": "HTTP",
    "S": "Every split",
    "T": "Time and broken connections",
}


def title(group: str) -> str:
    """Of a group; its id when it has none."""
    return GROUPS.get(group) or GROUPS.get(group.rstrip("0123456789")) or group


# ---- as data ------------------------------------------------------------------------------------


def of_run(
    peer: str,
    target: str,
    settings: Settings,
    outcome: Outcome,
    started: str,
    known: Iterable[str] = (),
) -> dict[str, Any]:
    """A run as a dict that JSON can hold."""
    counts = Counter(result.verdict.value for result in outcome.results)
    return {
        "peer": peer,
        "target": target,
        "started": started,
        "seconds": round(outcome.seconds, 3),
        "seed": settings.seed,
        "timeout_scale": settings.scale,
        "ended": outcome.ended,
        "not_run": outcome.not_run,
        "crashes": outcome.crashes,
        "known": sorted(known, key=natural),
        "counts": {verdict.value: counts[verdict.value] for verdict in Verdict},
        "cases": [of_result(result) for result in outcome.results],
    }


def of_result(result: Result) -> dict[str, Any]:
    case = result.case
    return {
        "id": case.id,
        "group": case.group,
        "section": case.section,
        "level": case.level,
        "quote": case.quote,
        "sends": case.sends,
        "expects": case.expects,
        "tags": sorted(case.tags),
        "verdict": result.verdict.value,
        "came": result.came,
        "seconds": round(result.seconds, 4),
        "trace": [of_event(event) for event in result.trace.events],
    }


def of_event(event: wire.Event) -> dict[str, Any]:
    """Bytes in hexadecimal; "length" tells how many there were before they were cut."""
    common = {"at": round(event.at, 4), "what": event.what}
    if event.what == "note":
        return {**common, "text": event.data.decode("utf-8", "replace")}
    return {**common, "hex": event.data.hex(), "length": event.length}


# ---- JSON ---------------------------------------------------------------------------------------

TEXTS = ("id", "group", "section", "level", "quote", "sends", "expects", "verdict", "came")


def json_text(runs: Sequence[dict[str, Any]]) -> str:
    return json.dumps({"format": FORMAT, "runs": runs}, indent=1) + "\n"


def read_json(text: str) -> list[dict[str, Any]]:
    """The runs of a report. ValueError: it is none."""
    try:
        data = json.loads(text)
        if data["format"] != FORMAT:
            raise ValueError(f"its format is {data['format']!r}, not {FORMAT}")
        runs: list[dict[str, Any]] = data["runs"]
        for run in runs:
            check(run)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"no report of this program: {error!r}") from None
    return runs


def check(run: dict[str, Any]) -> None:
    """All that a report is made of is there. KeyError, TypeError, ValueError."""
    if not all(isinstance(run[key], str) for key in ("peer", "target", "started", "ended")):
        raise TypeError("no text")
    float(run["seconds"])
    list(run["known"]), len(run["not_run"])
    for case in run["cases"]:
        if not all(isinstance(case[key], str) for key in TEXTS):
            raise TypeError("no text in a case")
        Verdict(case["verdict"])
        natural(case["id"])
        float(case["seconds"])
        list(case["tags"])
        for event in case["trace"]:
            check_event(event)


def check_event(event: dict[str, Any]) -> None:
    """The same of a line of a trace."""
    float(event["at"])
    if event["what"] == "note":
        str.strip(event["text"])
    else:
        str.strip(event["what"])
        bytes.fromhex(event["hex"])
        int(event["length"])


# ---- JUnit --------------------------------------------------------------------------------------


def junit_text(runs: Sequence[dict[str, Any]], fail_on: frozenset[str]) -> str:
    """A suite for each group. What fails but is known to, and what was not judged, is skipped."""
    root = ElementTree.Element("testsuites", name="conformance")
    for run in runs:
        for group in groups_of([run]):
            cases = [case for case in run["cases"] if case["group"] == group]
            name = xml_text(f"{run['peer']}: {title(group)}")
            suite = ElementTree.SubElement(root, "testsuite", name=name)
            for case in cases:
                suite.append(junit_case(case, fail_on, run["known"]))
            count(suite, cases)
        if run["ended"]:
            junit_end(root, run)
    return '<?xml version="1.0" encoding="utf-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def junit_case(
    case: dict[str, Any], fail_on: frozenset[str], known: Sequence[str]
) -> ElementTree.Element:
    element = ElementTree.Element(
        "testcase",
        classname=xml_text(f"conformance.{case['group']}"),
        name=xml_text(f"{case['id']} {case['sends']}"),
        time=f"{case['seconds']:.3f}",
    )
    said = xml_text(f"{case['verdict']}: {case['came']}" if case["came"] else case["verdict"])
    if case["verdict"] in fail_on and case["id"] not in known:
        failure = ElementTree.SubElement(element, "failure", message=said, type=case["verdict"])
        failure.text = xml_text(explained(case))
    elif case["verdict"] in fail_on:
        ElementTree.SubElement(element, "skipped", message=f"known: {said}")
    elif case["verdict"] in ("SKIPPED", "UNIMPLEMENTED"):
        ElementTree.SubElement(element, "skipped", message=said)
    elif case["verdict"] != "OK":
        ElementTree.SubElement(element, "system-out").text = said
    return element


def count(suite: ElementTree.Element, cases: Sequence[dict[str, Any]]) -> None:
    suite.set("tests", str(len(cases)))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    suite.set("errors", "0")
    suite.set("time", f"{sum(case['seconds'] for case in cases):.3f}")


def junit_end(root: ElementTree.Element, run: dict[str, Any]) -> None:
    """A run that did not come to its end is an error itself."""
    name = xml_text(f"{run['peer']}: the run")
    counts = {"tests": "1", "failures": "0", "skipped": "0", "errors": "1"}
    suite = ElementTree.SubElement(root, "testsuite", {"name": name, **counts})
    case = ElementTree.SubElement(suite, "testcase", classname="conformance", name="the run")
    missing = len(run["not_run"])
    message = xml_text(f"{run['ended']} ({missing} cases were not run)")
    ElementTree.SubElement(case, "error", message=message)


def xml_text(text: str) -> str:
    """XML 1.0 cannot hold every character, not even escaped."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


def explained(case: dict[str, Any]) -> str:
    """A case in words, for those who look into a failure."""
    lines = [
        f"{case['section']}, {case['level']}: {case['quote']}",
        f"sent:     {case['sends']}",
        f"expected: {case['expects']}",
    ]
    return "\n".join(lines + ([f"came:     {case['came']}"] if case.get("came") else []))


# ---- TAP ----------------------------------------------------------------------------------------


def tap_text(runs: Sequence[dict[str, Any]], fail_on: frozenset[str]) -> str:
    """TAP 13; what is known to fail is "todo"."""
    total = sum(len(run["cases"]) + len(run["not_run"]) for run in runs)
    lines = ["TAP version 13", f"1..{total}"]
    number = 0
    for run in runs:
        if len(runs) > 1:
            lines.append(f"# {one_line(run['peer'])}")
        for case in run["cases"]:
            number += 1
            lines.append(tap_line(case, number, fail_on, run["known"]))
            if lines[-1].startswith("not ok"):
                lines += ["  ---", *(f"  {line}" for line in tap_details(case)), "  ..."]
        if run["ended"]:
            return "\n".join([*lines, f"Bail out! {one_line(run['ended'])}"]) + "\n"
    return "\n".join(lines) + "\n"


def tap_line(
    case: dict[str, Any], number: int, fail_on: frozenset[str], known: Sequence[str]
) -> str:
    verdict = case["verdict"]
    text = f"{number} - {case['id']} {one_line(case['sends'])}"
    if verdict in fail_on:
        return f"not ok {text}" + (" # TODO known to fail" if case["id"] in known else "")
    if verdict in ("SKIPPED", "UNIMPLEMENTED"):
        return f"ok {text} # SKIP {verdict}: {one_line(case['came'])}"
    return f"ok {text}" + ("" if verdict == "OK" else f" ({verdict}: {one_line(case['came'])})")


def tap_details(case: dict[str, Any]) -> list[str]:
    """Lines of YAML: JSON strings are such as well."""
    keys = ("verdict", "section", "level", "quote", "expects", "came")
    return [f"{key}: {json.dumps(case[key])}" for key in keys]


def one_line(text: str) -> str:
    """Without line ends, control characters, and the mark of a directive."""
    return "".join(c if c.isprintable() else " " for c in text).replace("#", "\\#")


# ---- Markdown -----------------------------------------------------------------------------------


def groups_of(runs: Sequence[dict[str, Any]]) -> list[str]:
    """In natural order."""
    return sorted({case["group"] for run in runs for case in run["cases"]}, key=natural)


def markdown_text(runs: Sequence[dict[str, Any]]) -> str:
    """A row for each group, a column for each server."""
    names = [cell(run["peer"]) for run in runs]
    lines = [f"| Group | {' | '.join(names)} |", f"|---|{'---|' * len(runs)}"]
    for group in groups_of(runs):
        name = group if title(group) == group else f"{group} {title(group)}"
        counts = [summed(run, group) for run in runs]
        lines.append(f"| {cell(name)} | {' | '.join(counts)} |")
    lines.append(f"| **All** | {' | '.join(f'**{summed(run)}**' for run in runs)} |")
    return "\n".join(lines) + "\n"


def summed(run: dict[str, Any], group: str | None = None) -> str:
    """Like: 12 OK, 1 FAILED; only a number where all are OK."""
    counts = Counter(c["verdict"] for c in run["cases"] if group in (None, c["group"]))
    if not counts:
        return "-"
    if set(counts) == {"OK"}:
        return str(counts["OK"])
    return ", ".join(f"{counts[v.value]} {v.value}" for v in Verdict if counts[v.value])


def cell(text: str) -> str:
    """Text in a table."""
    escaped = re.sub(r"([\\|`*_<>\[\]&])", r"\\\1", one_line(text).replace("\\#", "#"))
    return escaped.strip()


# ---- files --------------------------------------------------------------------------------------


def write(path: str, text: str) -> None:
    """To a file, or for "-" to standard output. OSError."""
    if path == "-":
        print(text, end="", flush=True)
    else:
        Path(path).write_text(text, encoding="utf-8")
