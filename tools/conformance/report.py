# SPDX-License-Identifier: MIT
"""The results of a run as data, and in machine-readable formats: JSON, JUnit XML, TAP, and a
Markdown table.

A run is a plain dict. It is the same after the run and after reading a JSON report. `of_run` and
report.schema.json describe its keys. Bytes from a peer appear as hexadecimal digits or as `repr`
shows them.
"""

from __future__ import annotations

import io
import json
import platform
import re
import xml.etree.ElementTree as ElementTree
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Any, Iterable, Iterator, Mapping, Sequence

from . import __version__, findings, wire
from .case import Result, Settings, natural
from .runner import Outcome
from .verdicts import Verdict

FORMAT = 2  # of the JSON report; changes when a key changes its meaning
NAME = "pyws-conformance"
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
    "C": "Opening handshake of a client",
    "D": "Edges of compression",
    "F": "Floods",
    "H": "Opening handshake",
    "P": "HTTP",
    "S": "Every split",
    "T": "Time and broken connections",
}


def title(group: str) -> str:
    """Return the title of a group, or its id if it has no title."""
    return GROUPS.get(group) or GROUPS.get(group.rstrip("0123456789")) or group


# ---- data ---------------------------------------------------------------------------------------


def of_run(
    peer: str,
    target: str,
    settings: Settings,
    outcome: Outcome,
    started: str,
    known: Iterable[str] = (),
    options: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return a run as a dict for JSON; `options` are set in addition to `settings`."""
    run: dict[str, Any] = {
        "peer": peer,
        "target": target,
        "started": started,
        "seconds": round(outcome.seconds, 3),
        "tool": tool(),
        "settings": {**of_settings(settings), **(options or {})},
        "ended": outcome.ended,
        "not_run": outcome.not_run,
        "crashes": outcome.crashes,
        "known": sorted(known, key=natural),
        "counts": counted(result.verdict for result in outcome.results),
        "close_counts": counted(result.close for result in outcome.results),
        "cases": [of_result(result) for result in outcome.results],
    }
    for case in run["cases"]:  # a peer may have sent back credentials
        for key in ("came", "close_came"):
            octets = case[key].encode("utf-8", "surrogatepass")
            case[key] = wire.hidden(octets, settings.target.secrets).decode("utf-8", "replace")
    return {**run, "findings": findings.of(run)}


def counted(verdicts: Iterable[str]) -> dict[str, int]:
    counts = Counter(verdicts)
    return {verdict.value: counts[verdict] for verdict in Verdict}


def tool() -> dict[str, str]:
    """Return the program that makes the report and its platform."""
    return {
        "name": NAME,
        "version": __version__,
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "platform": platform.platform(),
    }


def of_settings(settings: Settings) -> dict[str, Any]:
    manners = asdict(settings.manners)
    manners["round_trip"] = round(manners["round_trip"], 4)
    return {
        "seed": settings.seed,
        "timeout": settings.timeout,
        "timeout_scale": settings.scale,
        "limit": settings.limit,
        "full": settings.full,
        "manners": manners,
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
        "close": result.close.value,
        "close_came": result.close_came,
        "flaky": [verdict.value for verdict in result.flaky],
        "seconds": round(result.seconds, 4),
        "trace": Events(result.trace),
    }


class Events(Sequence["dict[str, Any]"]):
    """The events of a trace as dicts for JSON, which are made only while they are read."""

    def __init__(self, trace: wire.Trace) -> None:
        self.trace = trace

    def __iter__(self) -> Iterator[dict[str, Any]]:
        return map(of_event, self.trace.events)

    def __getitem__(self, index: Any) -> Any:
        return list(self)[index]

    def __len__(self) -> int:
        return len(self.trace.events)


def of_event(event: wire.Event) -> dict[str, Any]:
    """Return an event with its bytes in hexadecimal; "length" is their count before truncation."""
    common = {"at": round(event.at, 4), "what": event.what, "connection": event.connection}
    if event.what == "note":
        return {**common, "text": event.data.decode("utf-8", "replace")}
    return {**common, "hex": event.data.hex(), "length": event.length}


# ---- JSON ---------------------------------------------------------------------------------------

TEXTS = ("id", "group", "section", "level", "quote", "sends", "expects", "verdict", "came")


def json_text(runs: Sequence[dict[str, Any]]) -> str:
    stream = io.StringIO()  # json.dumps would first make a list of the smallest parts
    json.dump({"format": FORMAT, "runs": runs}, stream, indent=1, default=list)
    return stream.getvalue() + "\n"


def read_json(text: str) -> list[dict[str, Any]]:
    """Return the runs of a report of this or an older format, or raise ValueError."""
    try:
        data = json.loads(text)
        if data["format"] not in (1, FORMAT):
            raise ValueError(f"the format must be 1 to {FORMAT}, not {data['format']!r}")
        runs: list[dict[str, Any]] = data["runs"]
        for run in runs:
            if data["format"] == 1:
                upgrade(run)
            check(run)
            run["counts"] = counted(case["verdict"] for case in run["cases"])
            run["close_counts"] = counted(case["close"] for case in run["cases"])
            run["findings"] = findings.of(run)
    except (KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError(f"not a report of this program: {error!r}") from None
    return runs


def upgrade(run: dict[str, Any]) -> None:
    """Convert a run of format 1, where a connection left open made the case itself fail."""
    run["tool"] = {"name": NAME, "version": "", "python": "", "platform": ""}
    run["settings"] = {key: run.pop(key) for key in ("seed", "timeout_scale") if key in run}
    run["crashes"] = []
    for case in run["cases"]:
        case.update(close="OK", close_came="", flaky=[])
        for event in case["trace"]:
            event["connection"] = 0


def check(run: dict[str, Any]) -> None:
    """Check that a run is complete, or raise KeyError, TypeError or ValueError if it is not."""
    if not all(isinstance(run[key], str) for key in ("peer", "target", "started", "ended")):
        raise TypeError("a text of the run is missing")
    float(run["seconds"])
    dict.keys(run["settings"])
    list(map(str.strip, (run["tool"][key] for key in ("name", "version", "python", "platform"))))
    list(run["known"]), len(run["not_run"]), list(map(str.strip, run["crashes"]))
    for case in run["cases"]:
        if not all(isinstance(case[key], str) for key in (*TEXTS, "close_came")):
            raise TypeError("a text of a case is missing")
        for verdict in (case["verdict"], case["close"], *case["flaky"]):
            Verdict(verdict)
        natural(case["id"])
        float(case["seconds"])
        list(case["tags"])
        for event in case["trace"]:
            check_event(event)


def check_event(event: dict[str, Any]) -> None:
    """Check that an event of a trace is complete, in the same way."""
    float(event["at"])
    int(event["connection"])
    if event["what"] == "note":
        str.strip(event["text"])
    else:
        str.strip(event["what"])
        bytes.fromhex(event["hex"])
        int(event["length"])


# ---- text ---------------------------------------------------------------------------------------


def described(run: dict[str, Any]) -> list[tuple[str, str]]:
    """Return names and values that describe the program and its settings."""
    made = run["tool"]
    pairs = [("tool", f"{made['name']} {made['version']}".strip())]
    pairs += [(key, made[key]) for key in ("python", "platform") if made[key]]
    for key, value in run["settings"].items():
        within = value.items() if isinstance(value, dict) else [("", value)]
        pairs += [(f"{key} {name}".strip().replace("_", " "), told(one)) for name, one in within]
    return pairs


def told(value: Any) -> str:
    """Return the text of a setting."""
    if isinstance(value, list):
        return " ".join(map(str, value))
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def explained(case: dict[str, Any]) -> str:
    """Explain a case to people who examine a failure."""
    lines = [
        f"{case['section']}, {case['level']}: {case['quote']}",
        f"sent:     {case['sends']}",
        f"expected: {case['expects']}",
    ]
    return "\n".join(lines + ([f"got:      {case['came']}"] if case.get("came") else []))


def explained_finding(finding: dict[str, Any]) -> str:
    """Explain a finding: its cases, its rule, and an example."""
    example = finding["example"]
    lines = [f"{finding['verdict']}: {findings.title(finding)}", findings.rule(finding)]
    lines += [f"example:  {example['id']}", f"sent:     {example['sends']}"]
    lines += [f"expected: {example['expects']}", f"got:      {example['came']}"]
    return "\n".join(filter(None, lines))


def remarks(case: dict[str, Any]) -> str:
    """Return remarks about a case besides its verdict; usually empty."""
    said = []
    if case["close"] != "OK":
        said.append(f"close: {case['close']}: {case['close_came']}")
    if case["flaky"]:
        said.append(f"flaky: {', '.join(case['flaky'])}")
    return "; ".join(said)


# ---- JUnit --------------------------------------------------------------------------------------


def junit_text(runs: Sequence[dict[str, Any]], fail_on: frozenset[str]) -> str:
    """Return a suite for each group and one for the whole run.

    Known failures and cases without a decision are skipped tests.
    """
    root = ElementTree.Element("testsuites", name="conformance")
    for run in runs:
        for group in groups_of([run]):
            cases = [case for case in run["cases"] if case["group"] == group]
            name = xml_text(f"{run['peer']}: {title(group)}")
            suite = ElementTree.SubElement(root, "testsuite", name=name)
            for case in cases:
                suite.append(junit_case(case, fail_on, run["known"]))
            count(suite, sum(case["seconds"] for case in cases))
        root.append(junit_run(run, fail_on))
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
    out = [xml_text(remarks(case))]
    if case["verdict"] in fail_on and case["id"] not in known:
        failure = ElementTree.SubElement(element, "failure", message=said, type=case["verdict"])
        failure.text = xml_text(explained(case))
    elif case["verdict"] in fail_on:
        ElementTree.SubElement(element, "skipped", message=f"known: {said}")
    elif case["verdict"] in ("SKIPPED", "UNIMPLEMENTED"):
        ElementTree.SubElement(element, "skipped", message=said)
    elif case["verdict"] != "OK":
        out.insert(0, said)
    if any(out):
        ElementTree.SubElement(element, "system-out").text = "\n".join(filter(None, out))
    return element


def junit_run(run: dict[str, Any], fail_on: frozenset[str]) -> ElementTree.Element:
    """Return a suite with the settings, the closing of connections, and the findings.

    An incomplete run is an error in it.
    """
    suite = ElementTree.Element("testsuite", name=xml_text(f"{run['peer']}: the run"))
    properties = ElementTree.SubElement(suite, "properties")
    for name, value in described(run):
        ElementTree.SubElement(properties, "property", name=xml_text(name), value=xml_text(value))
    if run["cases"]:
        suite.append(junit_close(run, fail_on))
    if run["ended"]:
        case = ElementTree.SubElement(suite, "testcase", classname="conformance", name="the run")
        message = xml_text(f"{run['ended']} ({len(run['not_run'])} cases were not run)")
        ElementTree.SubElement(case, "error", message=message)
    for crash in run["crashes"]:
        case = ElementTree.SubElement(suite, "testcase", classname="conformance", name="a crash")
        ElementTree.SubElement(case, "error", message=xml_text(crash))
    found = "\n\n".join(map(explained_finding, run["findings"]))
    if found:
        ElementTree.SubElement(suite, "system-out").text = xml_text(found)
    count(suite, 0.0)
    return suite


def junit_close(run: dict[str, Any], fail_on: frozenset[str]) -> ElementTree.Element:
    """Return one test for all close verdicts."""
    found = [one for one in run["findings"] if one["about"] == findings.CLOSE]
    bad = [one for one in found if one["verdict"] in fail_on]
    element = ElementTree.Element(
        "testcase", classname="conformance", name=findings.CLOSE, time="0.000"
    )
    said = xml_text("; ".join(map(finding_line, bad or found)))
    if bad and findings.CLOSE in run["known"]:
        ElementTree.SubElement(element, "skipped", message=f"known: {said}")
    elif bad:
        failure = ElementTree.SubElement(element, "failure", message=said, type=bad[0]["verdict"])
        failure.text = xml_text("\n\n".join(map(explained_finding, bad)))
    elif found:
        ElementTree.SubElement(element, "system-out").text = said
    return element


def finding_line(finding: dict[str, Any]) -> str:
    return f"{finding['verdict']}, {findings.title(finding)}: {finding['example']['came']}"


def count(suite: ElementTree.Element, seconds: float) -> None:
    suite.set("tests", str(len(suite.findall("testcase"))))
    suite.set("failures", str(len(suite.findall("testcase/failure"))))
    suite.set("skipped", str(len(suite.findall("testcase/skipped"))))
    suite.set("errors", str(len(suite.findall("testcase/error"))))
    suite.set("time", f"{seconds:.3f}")


def xml_text(text: str) -> str:
    """Replace characters that XML 1.0 cannot represent, not even escaped."""
    return re.sub("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]", "\ufffd", text)


# ---- TAP ----------------------------------------------------------------------------------------

TODO = " # TODO known to fail"


def tap_text(runs: Sequence[dict[str, Any]], fail_on: frozenset[str]) -> str:
    """Return TAP 13; known failures are "todo". The last test of a run is about its closes."""
    total = sum(len(run["cases"]) + len(run["not_run"]) + bool(run["cases"]) for run in runs)
    lines = ["TAP version 13", f"1..{total}"]
    number = 0
    for run in runs:
        if len(runs) > 1:
            lines.append(f"# {one_line(run['peer'])}")
        lines += [f"# {name}: {one_line(value)}" for name, value in described(run)]
        for case in run["cases"]:
            number += 1
            lines.append(tap_line(case, number, fail_on, run["known"]))
            if lines[-1].startswith("not ok"):
                lines += ["  ---", *(f"  {line}" for line in tap_details(case)), "  ..."]
        lines += [f"# crash: {one_line(crash)}" for crash in run["crashes"]]
        if run["cases"]:
            number += 1
            lines.append(tap_close(run, number, fail_on))
        for finding in run["findings"]:
            text = explained_finding(finding).splitlines()
            lines += ["#", *(f"# {one_line(line)}" for line in text)]
        if run["ended"]:
            return "\n".join([*lines, f"Bail out! {one_line(run['ended'])}"]) + "\n"
    return "\n".join(lines) + "\n"


def tap_line(
    case: dict[str, Any], number: int, fail_on: frozenset[str], known: Sequence[str]
) -> str:
    verdict = case["verdict"]
    also = f" ({one_line(remarks(case))})" if remarks(case) else ""
    text = f"{number} - {case['id']} {one_line(case['sends'])}"
    if verdict in fail_on:
        return f"not ok {text}{also}" + (TODO if case["id"] in known else "")
    if verdict in ("SKIPPED", "UNIMPLEMENTED"):
        return f"ok {text}{also} # SKIP {verdict}: {one_line(case['came'])}"
    said = "" if verdict == "OK" else f" ({verdict}: {one_line(case['came'])})"
    return f"ok {text}{said}{also}"


def tap_close(run: dict[str, Any], number: int, fail_on: frozenset[str]) -> str:
    found = [one for one in run["findings"] if one["about"] == findings.CLOSE]
    said = f" ({one_line('; '.join(map(finding_line, found)))})" if found else ""
    if not any(one["verdict"] in fail_on for one in found):
        return f"ok {number} - {findings.CLOSE}{said}"
    todo = TODO if findings.CLOSE in run["known"] else ""
    return f"not ok {number} - {findings.CLOSE}{said}{todo}"


def tap_details(case: dict[str, Any]) -> list[str]:
    """Return lines of YAML, in which JSON strings are valid."""
    keys = ("verdict", "section", "level", "quote", "expects", "came", "close")
    return [f"{key}: {json.dumps(case[key])}" for key in keys]


def one_line(text: str) -> str:
    """Remove line ends, control characters, and the mark of a directive."""
    return "".join(c if c.isprintable() else " " for c in text).replace("#", "\\#")


# ---- Markdown -----------------------------------------------------------------------------------


def groups_of(runs: Sequence[dict[str, Any]]) -> list[str]:
    """Return the groups in natural order."""
    return sorted({case["group"] for run in runs for case in run["cases"]}, key=natural)


def markdown_text(runs: Sequence[dict[str, Any]]) -> str:
    """Return a table with a row for each group and a column for each server."""
    names = [cell(run["peer"]) for run in runs]
    lines = [f"| Group | {' | '.join(names)} |", f"|---|{'---|' * len(runs)}"]
    for group in groups_of(runs):
        name = group if title(group) == group else f"{group} {title(group)}"
        counts = [summed(run, group) for run in runs]
        lines.append(f"| {cell(name)} | {' | '.join(counts)} |")
    if any(findings.worst_close(run) != "OK" for run in runs):
        closes = [in_words(Counter(c["close"] for c in run["cases"])) for run in runs]
        lines.append(f"| Close of each case | {' | '.join(closes)} |")
    lines.append(f"| **All** | {' | '.join(f'**{summed(run)}**' for run in runs)} |")
    return "\n".join(lines) + "\n"


def summed(run: dict[str, Any], group: str | None = None) -> str:
    """Return the counts of a group, or of all cases."""
    return in_words(Counter(c["verdict"] for c in run["cases"] if group in (None, c["group"])))


def in_words(counts: Counter[str]) -> str:
    """Return counts such as "12 OK, 1 FAILED", or only a number if all are OK."""
    if not counts:
        return "-"
    if set(counts) == {"OK"}:
        return str(counts["OK"])
    return ", ".join(f"{counts[v.value]} {v.value}" for v in Verdict if counts[v.value])


def cell(text: str) -> str:
    """Escape text for a cell of a table."""
    escaped = re.sub(r"([\\|`*_<>\[\]&])", r"\\\1", one_line(text).replace("\\#", "#"))
    return escaped.strip()


# ---- files --------------------------------------------------------------------------------------


def write(path: str, text: str) -> None:
    """Write to a file, or to standard output for "-", or raise OSError if that fails."""
    if path == "-":
        print(text, end="", flush=True)
    else:
        Path(path).write_text(text, encoding="utf-8")
