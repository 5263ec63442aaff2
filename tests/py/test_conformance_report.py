# SPDX-License-Identifier: MIT
"""tools/conformance: one fault of a peer is one finding, in every report."""

import json
import re
import subprocess
import sys
import xml.etree.ElementTree as ElementTree
import zipfile
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Dict, Iterator, List

import pytest
from common import ROOT
from conformance_runs import HOSTILE_RUNS, VERDICTS, case, hostile_run, run_of

sys.path.insert(0, str(ROOT / "tools"))

import conformance
from conformance import (
    cli,
    decode,
    findings,
    github,
    html_report,
    markdown,
    profiles,
    report,
    runner,
    summary,
    wire,
)
from conformance.case import (
    Settings,
)
from conformance_results import BAD, FAILING, HELLO, OPEN, REQUEST, RESPONSE, events, result

# ---- findings -----------------------------------------------------------------------------------


def test_shape() -> None:
    """Numbers and quoted bytes differ from case to case of the same fault; words do not."""
    alike = [
        "expected the echo of 'a', but received nothing for 2.0 s",
        "expected the echo of 'it\\'s \\x00'... (65536 bytes), but received nothing for 12.6 s",
        'expected the echo of "it\'s", but received nothing for 0.1 s',
    ]
    assert {findings.shape(text) for text in alike} == {
        "expected the echo of '...', but received nothing for N s"
    }
    assert findings.shape("it closed with 1002") == findings.shape("it closed with 1007")
    assert findings.shape("the server's end") == "the server's end"
    assert findings.shape("Text 'x' came") != findings.shape("Binary 'x' came")
    assert findings.shape("permessage-deflate of RFC7692") == "permessage-deflate of RFC7692"


def test_ranges() -> None:
    ids = ["D.5.1", "3.4", "3.2", "3.3", "10.1.1", "4.1.2", "close", "4.1.4", "4.1.3"]
    assert findings.ranges(ids) == "3.2-4, 4.1.2-4, 10.1.1, D.5.1, close"
    assert findings.ranges(["1.1.1", "1.2.2", "1.1.1"]) == "1.1.1, 1.2.2"
    assert findings.ranges([]) == ""


def test_one_fault_is_one_finding() -> None:
    """Whatever numbers came; another rule, verdict or reason is another finding."""
    cases = [
        *(case(f"4.{i}", "FAILED", f"Text 'a{i}' came") for i in range(1, 30)),
        case("5.1", "FAILED", "Text 'x' came", quote="another"),
        case("5.2", "FAILED", "Text 'x' came", section="RFC 6455 9"),
        case("5.3", "NON-STRICT", "Text 'x' came"),
        case("5.4", "FAILED", "nothing came"),
        case("1.1"),
    ]
    found = run_of(cases)["findings"]
    assert [(one["verdict"], one["range"]) for one in found] == [
        ("FAILED", "4.1-29"),
        ("FAILED", "5.1"),
        ("FAILED", "5.2"),
        ("FAILED", "5.4"),
        ("NON-STRICT", "5.3"),
    ]
    first = found[0]
    assert (first["count"], len(first["ids"])) == (29, 29)
    assert (first["section"], first["level"], first["quote"]) == ("RFC 6455 5.1", "MUST", "a quote")
    example = {"id": "4.1", "sends": "things", "expects": "others", "came": "Text 'a1' came"}
    assert first["example"] == example


def test_what_was_not_judged_is_one_finding_by_its_reason() -> None:
    cases = [case(f"12.{i}", "UNIMPLEMENTED", "no deflate", quote=f"q{i}") for i in range(1, 9)]
    (one,) = run_of(cases)["findings"]
    assert (one["count"], one["range"], one["quote"]) == (8, "12.1-8", "")


def test_a_server_that_leaves_tcp_open_is_one_finding() -> None:
    cases = [case(f"1.{i}", **OPEN) for i in range(1, 1184)]
    run = run_of(cases)
    (one,) = run["findings"]
    assert (one["about"], one["count"], one["range"]) == ("close", 1183, "1.1-1183")
    assert one["section"] == "RFC 6455 5.5.1"
    assert "MUST close the underlying TCP connection" in one["quote"]
    assert run["counts"]["FAILED"] == 0
    assert run["close_counts"]["FAILED"] == 1183
    assert findings.failing_ids(run, FAILING) == ["close"]
    assert findings.failing_ids(run_of([case("1.1", close="NON-STRICT")]), FAILING) == []


@pytest.mark.parametrize(
    ("came", "words"),
    [
        ("the server does not end TCP after the closing handshake", "MUST close the underlying"),
        ("expected a Close with 1000, but received Close 1001 ''", "typically echos"),
        ("expected a Close with 1000, but received nothing for 2.0 s", "MUST send a Close frame"),
        ("expected a Close with 1000, but the connection was closed", "MUST send a Close frame"),
    ],
)
def test_the_rule_of_a_close(came: str, words: str) -> None:
    (one,) = run_of([case("1.1", close="FAILED", close_came=came)])["findings"]
    assert words in one["quote"]


# ---- every report -------------------------------------------------------------------------------


def test_findings_are_in_every_report() -> None:
    root = ElementTree.fromstring(report.junit_text([BAD], FAILING).encode())
    (whole,) = [suite for suite in root if suite.get("name") == "a server: the run"]
    told = whole.findtext("system-out") or ""
    for text in (told, report.tap_text([BAD], FAILING), markdown.text([BAD])):
        assert "7 cases: 4.1-7" in text
        assert "close of 8 cases: 4.1-7, 5.1" in text
        assert "a quote" in text
    stored = json.loads(report.json_text([BAD]))["runs"][0]["findings"]
    assert [one["range"] for one in stored] == ["4.1-7, 5.1", "4.1-7", "5.2"]
    page = html_report.data_of([BAD])
    assert [one["range"] for one in page["runs"][0]["findings"]] == ["4.1-7, 5.1", "4.1-7", "5.2"]
    assert page["cases"][0]["results"][0]["findings"] == [1, 0]
    lines = "\n".join(summary.of_run(BAD, sys.stdout, verbose=False))
    assert "7 cases: 4.1-7" in lines and "close of 8 cases: 4.1-7, 5.1" in lines
    assert "a quote" in lines and "4.1 sent: things" in lines and "Text 'a1' came" in lines
    assert lines.count("FAILED") == 5  # two findings, the flaky case, two counts
    assert "4.3" not in lines
    many = run_of([case(f"4.{i}", "FAILED", "x", quote=f"q{i}") for i in range(1, 100)])
    lines = "\n".join(summary.of_run(many, sys.stdout, verbose=False))
    assert "59 more findings in 59 cases: see --verbose" in lines
    lines = "\n".join(summary.of_run(BAD, sys.stdout, verbose=True))
    assert "4.3" in lines and "5.2 sent: things" in lines


def test_junit_and_tap_have_the_close_as_a_test() -> None:
    root = ElementTree.fromstring(report.junit_text([BAD], FAILING).encode())
    (close,) = root.findall(".//testcase[@name='close']")
    failure = close.find("failure")
    assert failure is not None and "does not end TCP" in (failure.get("message") or "")
    said = [element.text or "" for element in root.findall(".//testcase/system-out")]
    assert sum("close: FAILED" in text for text in said) == 8
    assert sum("flaky: FAILED, OK" in text for text in said) == 1
    tap = report.tap_text([BAD], FAILING).splitlines()
    assert tap[1] == "1..10"
    assert [line for line in tap if re.match("not ok 10 - close", line)]
    assert [line for line in tap if "(close: FAILED: the server" in line and line.startswith("ok")]

    known = {**BAD, "known": ["close"]}
    root = ElementTree.fromstring(report.junit_text([known], FAILING).encode())
    (close,) = root.findall(".//testcase[@name='close']")
    assert close.find("failure") is None and close.find("skipped") is not None
    tap = report.tap_text([known], FAILING).splitlines()
    assert [line for line in tap if re.match("not ok 10 - close.*# TODO", line)]
    fine = run_of([case("1.1")])
    assert "<failure" not in report.junit_text([fine], FAILING)
    assert "ok 2 - close\n" in report.tap_text([fine], FAILING)


def test_settings_are_in_every_report() -> None:
    version = f"pyws-conformance {conformance.__version__}"
    texts = [
        report.junit_text([BAD], FAILING),
        report.tap_text([BAD], FAILING),
        markdown.text([BAD]),
        json.dumps(html_report.data_of([BAD])),
    ]
    for text in texts:
        assert version in text.replace("\\_", "_")
        assert "strict" in text and "Python" in text
    assert json.loads(report.json_text([BAD]))["runs"][0]["tool"]["version"] in version


def test_hostile_bytes() -> None:
    assert report.read_json(report.json_text(HOSTILE_RUNS)) == HOSTILE_RUNS
    root = ElementTree.fromstring(report.junit_text(HOSTILE_RUNS, FAILING).encode())
    assert len(root.findall(".//failure")) == 5
    assert len(root.findall(".//error")) == 4
    tap = report.tap_text(HOSTILE_RUNS, FAILING)
    assert not [c for c in tap if not c.isprintable() and c != "\n"]
    assert not re.search(r"^(?!TAP|1\.\.|(not )?ok \d+ - |  |#|Bail out!)", tap.rstrip(), re.M)
    rows = report.markdown_text(HOSTILE_RUNS).encode().decode().splitlines()
    assert len(rows) == 2 + len(VERDICTS) + 2
    assert len({len(re.findall(r"(?<!\\)\|", row)) for row in rows}) == 1
    document = markdown.text(HOSTILE_RUNS)
    document.encode()
    assert not re.search(r"(?<!\\)<", document)
    page = html_report.text(HOSTILE_RUNS)
    assert page.count("</script>") == 2
    assert "<img" not in page
    page.encode()
    for run in HOSTILE_RUNS:
        lines = summary.of_run(run, sys.stdout, verbose=True)
        assert all(c.isprintable() or c == "\n" for line in lines for c in line)
        assert all(line.count("\n") == 0 for line in lines[:-1] if "exited" not in line)


def test_side_by_side(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for i, run in enumerate(HOSTILE_RUNS):
        files.append(str(tmp_path / f"{i}.json"))
        Path(files[-1]).write_text(report.json_text([run]))
    outputs = ["--html", str(tmp_path / "x"), "--markdown", str(tmp_path / "m"), "--table", "-"]
    assert cli.main(["report", *files, *outputs]) == 0
    assert capsys.readouterr().out == report.markdown_text(HOSTILE_RUNS)
    assert (tmp_path / "m").read_text() == markdown.text(HOSTILE_RUNS)
    assert (tmp_path / "x").read_text() == html_report.text(HOSTILE_RUNS)


# ---- JSON ---------------------------------------------------------------------------------------

SCHEMA = json.loads((ROOT / "tools" / "conformance" / "report.schema.json").read_text())
KINDS: Dict[str, Any] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def is_kind(value: Any, kind: str) -> bool:
    return isinstance(value, KINDS[kind]) and (kind == "boolean" or not isinstance(value, bool))


def faults(value: Any, schema: Dict[str, Any], at: str = "") -> Iterator[str]:
    """What is wrong by the part of JSON Schema that is used; and keys that are not described."""
    known = {"$ref", "type", "enum", "const", "pattern", "minimum", "properties", "required"}
    assert set(schema) <= known | {"items", "oneOf", "description", "$schema", "title", "$defs"}
    if "$ref" in schema:
        yield from faults(value, SCHEMA["$defs"][schema["$ref"].replace("#/$defs/", "")], at)
    if "oneOf" in schema:
        found = [list(faults(value, one, at)) for one in schema["oneOf"]]
        if sum(not one for one in found) != 1:
            yield f"{at}: {found}"
    kinds = schema.get("type", [])
    kinds = [kinds] if isinstance(kinds, str) else kinds
    if kinds and not any(is_kind(value, kind) for kind in kinds):
        yield f"{at}: {value!r} is no {kinds}"
        return
    if value not in schema.get("enum", [value]) or value != schema.get("const", value):
        yield f"{at}: {value!r}"
    if "pattern" in schema and not re.search(schema["pattern"], value):
        yield f"{at}: {value!r}"
    if "minimum" in schema and value < schema["minimum"]:
        yield f"{at}: {value!r}"
    for key in schema.get("required", []):
        if key not in value:
            yield f"{at}: no {key}"
    if "properties" in schema:
        for key, one in value.items():
            if key in schema["properties"]:
                yield from faults(one, schema["properties"][key], f"{at}.{key}")
            else:
                yield f"{at}: {key} is not described"
    for i, one in enumerate(value if "items" in schema else []):
        yield from faults(one, schema["items"], f"{at}[{i}]")


def test_the_schema_finds_faults() -> None:
    good = {"format": report.FORMAT, "runs": [BAD]}
    assert list(faults(good, SCHEMA)) == []
    bad: List[Dict[str, Any]] = [
        {"seconds": "1"},
        {"seconds": -1},
        {"more": 1},
        {"started": "now"},
        {"cases": [case("1.1", "FINE")]},
        {"cases": [case("1.1", trace=[{"at": 0, "what": "sent", "connection": 0}])]},
        {"counts": {"OK": True}},
    ]
    for change in bad:
        assert list(faults({"format": report.FORMAT, "runs": [{**BAD, **change}]}, SCHEMA)), change
    without = {key: value for key, value in BAD.items() if key != "findings"}
    assert list(faults({"format": report.FORMAT, "runs": [without]}, SCHEMA))


def test_a_real_report_fits_the_schema(tmp_path: Path, serve: Any) -> None:
    server = serve(message=lambda ws, message, opcode: ws.send(message, opcode))
    path = tmp_path / "json"
    options = ["--include", "1.1.*,7.1.[1-4]", "--json", str(path), "--retry", "1"]
    assert cli.main([f"ws://127.0.0.1:{server.port}/", *options]) == cli.FINE
    data = json.loads(path.read_text())
    assert list(faults(data, SCHEMA)) == []
    (run,) = data["runs"]
    assert run["settings"]["arguments"][1:] == options
    assert run["settings"]["retry"] == 1
    assert run["settings"]["profile"] == "strict"
    connections = {event["connection"] for event in run["cases"][0]["trace"]}
    assert connections == {1}


def test_format_1_is_still_read() -> None:
    old: Dict[str, Any] = {
        "peer": "p",
        "target": "t",
        "started": "s",
        "seconds": 1,
        "seed": 7,
        "timeout_scale": 1.0,
        "ended": "",
        "not_run": [],
        "known": [],
        "cases": [
            {
                key: value
                for key, value in case("1.1", "FAILED", "Text 'x' came").items()
                if key not in ("close", "close_came", "flaky")
            }
        ],
    }
    old["cases"][0]["trace"] = [{"at": 0, "what": "sent", "hex": "00", "length": 1}]
    (run,) = report.read_json(json.dumps({"format": 1, "runs": [old]}))
    assert (run["settings"]["seed"], run["cases"][0]["close"]) == (7, "OK")
    assert [one["range"] for one in run["findings"]] == ["1.1"]
    for text in (
        report.junit_text([run], FAILING),
        report.tap_text([run], FAILING),
        markdown.text([run]),
        html_report.text([run]),
    ):
        assert "1.1" in text
    with pytest.raises(ValueError, match="not a report of this program"):
        report.read_json(json.dumps({"format": 2, "runs": [old]}))
    with pytest.raises(ValueError, match="the format must be 1 to 2, not 3"):
        report.read_json('{"format": 3, "runs": []}')


# ---- GitHub -------------------------------------------------------------------------------------


def test_annotations() -> None:
    """A line for each new finding, which nothing a peer sent can end."""
    run = run_of(
        [
            case("1.1", "FAILED", "50% of\r\n::error::x", quote="a, b: c"),
            case("1.2", "FAILED", "known"),
            case("1.3", "NON-STRICT", "lax"),
            case("1.4", **OPEN),
        ],
        peer="a, b: c%",
    )
    lines = github.annotated([run], FAILING, {"1.2"})
    title = "::error title=a%2C b%3A c%25%3A FAILED%2C 1 case%3A 1.1::"
    assert lines[0].startswith(title)
    assert lines[0].endswith("got:      50%25 of%0D%0A::error::x")
    assert "close of 1 case%3A 1.4" in lines[1]
    assert len(lines) == 2
    assert not github.annotated([run], FAILING, {"1.1", "1.2", "close"})
    assert len(github.annotated([run], runner.failing("non-strict"), ())) == 4
    for line in github.annotated(HOSTILE_RUNS, FAILING, ()):
        assert line.startswith("::error title=") and line.isprintable()


def test_no_more_annotations_than_github_shows() -> None:
    run = run_of([case(f"1.{i}", "FAILED", "x", quote=f"q{i}") for i in range(1, 31)])
    lines = github.annotated([run], FAILING, ())
    assert len(lines) == github.ANNOTATIONS
    assert "21 more findings" in lines[-1]


def test_github(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, serve: Any
) -> None:
    """--github: annotations on the console, and a summary of the job."""
    path = tmp_path / "summary"
    path.write_text("earlier\n")
    monkeypatch.setenv("GITHUB_STEP_SUMMARY", str(path))
    server = serve(message=lambda ws, message, opcode: ws.send("no"))
    url = f"ws://127.0.0.1:{server.port}/"
    file = tmp_path / "json"
    file.write_text(report.json_text([BAD]))
    assert cli.main(["report", str(file), "--github"]) == cli.FINE
    assert "::error title=a server%3A FAILED" in capsys.readouterr().out
    text = path.read_text()
    assert text.startswith("earlier\n# WebSocket conformance")
    assert "4.1-7" in text
    assert url  # the server is there for a run that ends with status 3: it does not echo
    assert cli.main([url, "--github", "--include", "1.1.1"]) == cli.INCOMPLETE
    assert "the run is incomplete" in capsys.readouterr().out


def test_a_summary_has_a_limit(tmp_path: Path) -> None:
    path = tmp_path / "summary"
    many = [hostile_run("x" * 1000, VERDICTS * 50) for _ in range(40)]
    github.summarize(many, {"GITHUB_STEP_SUMMARY": str(path)})
    assert path.stat().st_size < 1024 * 1024
    github.summarize(many, {})


# ---- selection ----------------------------------------------------------------------------------


def ids_of(*include: str, exclude: str = "", profile: str = "strict") -> List[str]:
    chosen = runner.select(cli.all_cases(), include, [exclude] if exclude else [], profile)
    return [one.id for one in chosen]


def test_comma_lists_and_groups() -> None:
    groups = {id.split(".")[0] for id in ids_of("1,2")}
    assert groups == {"1", "2"}
    assert ids_of("1, 2") == ids_of("1", "2") == ids_of("[12]")
    assert {id.split(".")[0] for id in ids_of("[1-7]")} == set("1234567")
    assert ids_of("1.1") == ids_of("1.1.*")
    assert ids_of("1.1.[1,2]") == ["1.1.1", "1.1.2"]
    assert "10.1.1" in ids_of("10") and "1.1.1" not in ids_of("10")
    assert ids_of("1.1.*", exclude="1.1.[3-9],1.1.1?") == ["1.1.1", "1.1.2"]
    with pytest.raises(ValueError, match="no case matches 'x'"):
        ids_of("1,x")


def test_profiles() -> None:
    everything = {one.id for one in cli.all_cases()}
    assert set(ids_of()) == everything
    core, autobahn = set(ids_of(profile="core")), set(ids_of(profile="autobahn"))
    assert len(autobahn) == sum(profiles.AUTOBAHN.values()) == 517
    assert {"1.1.8", "2.11", "6.22.34", "7.9.9", "13.7.18"} <= autobahn
    assert not {"1.1.9", "2.12", "6.24.1", "7.9.10", "H.0.1", "9.9.1"} & autobahn
    for pattern in profiles.CORE:
        assert [id for id in core if fnmatchcase(id, pattern)], pattern
    assert {"1.1.1", "12.1.1", "H.10.1", "B.1.1"} <= core
    assert not [id for id in core if id.split(".")[0] in ("3", "4") or id.startswith("H.7.")]
    assert set(ids_of("1", profile="core")) == {id for id in core if id.startswith("1.")}
    assert set(ids_of(exclude="@slow,3", profile="core")) == core
    with pytest.raises(ValueError, match="no case is left"):
        ids_of("3", profile="core")


def test_list_profile(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list", "--profile", "autobahn", "--include", "2"]) == cli.FINE
    assert len(capsys.readouterr().out.splitlines()) == 11


# ---- the version --------------------------------------------------------------------------------


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """It is that of the project."""
    text = (ROOT / "meson.build").read_text()
    match = re.search(r"^  version: '([^']+)'", text, re.M)
    assert match and match.group(1) == conformance.__version__
    with pytest.raises(SystemExit) as info:
        cli.main(["--version"])
    assert info.value.code == 0
    assert capsys.readouterr().out == f"pyws-conformance {conformance.__version__}\n"


# ---- decoded traces -----------------------------------------------------------------------------


def test_frames_are_found() -> None:
    """With interim responses, several in a read, and split anywhere."""
    trace = events(
        ("sent", REQUEST),
        ("received", b"HTTP/1.1 103 x\r\n\r\n" + RESPONSE + b"\x81\x02hi\x89"),
        ("received", b"\x03abc\x81\x7e\x01"),
        ("received", b"\x00" + b"x" * 100),
        ("received", b"x" * 156 + b"\x88\x02\x03\xe8"),
        ("sent", HELLO + wire.frame(b"x" * 1000)),
        ("sent", HELLO),
    )
    key = "37fa213d"
    assert decode.parts_of(trace) == [
        [["head", 0]],
        [["head", 0], ["head", 18], ["frame", 44, 0x81, 2, ""], ["more", 46]],
        [["frame", 1, 0x89, 3, ""], ["more", 4]],
        [["frame", 1, 0x81, 256, ""]],
        [["more", 0], ["frame", 158, 0x88, 2, ""]],
        [["frame", 6, 0x81, 5, key], ["frame", 19, 0x81, 1000, key]],
        [["frame", 6, 0x81, 5, key]],
    ]


def test_a_trace_keeps_heads_and_no_secrets() -> None:
    """However long a secret is, and wherever the trace is cut."""
    trace = wire.Trace()
    trace.secrets = ("x" * 3000, "yyyy")
    trace.add("sent", REQUEST[:-2] + b"Cookie: yyyy; " + b"x" * 3000 + b"\r\n\r\n", 1)
    trace.add("received", RESPONSE[:-2] + b"A: " + b"b" * 300 + b"\r\n\r\n", 1)
    trace.add("received", b"\x81\x02hi" + b"z" * 300, 1)
    sent, head, frame = trace.events
    assert b"xx" not in sent.data and b"yyyy" not in sent.data
    assert len(sent.data) == wire.HEAD
    assert len(head.data) == head.length
    assert len(frame.data) == wire.RECORDED
    assert decode.parts_of([report.of_event(event) for event in trace.events])[2][0][0] == "frame"


def test_no_secrets_in_what_came() -> None:
    target = wire.Target("127.0.0.1", 9, "/", False, secrets=("s3cret",))
    one = result("1.1", "FAILED")
    one.came = "Text 's3cret' came"
    run = report.of_run("p", "t", Settings(target), runner.Outcome([one]), "s")
    assert "s3cret" not in report.json_text([run])
    assert run["cases"][0]["came"] == "Text '******' came"


def test_what_was_not_kept_is_not_guessed() -> None:
    trace = events(
        ("sent", REQUEST + b"x" * 300),
        ("received", RESPONSE),
        ("sent", HELLO * 40),  # headers are among what was cut off
        ("sent", HELLO),
    )
    parts = decode.parts_of(trace)
    assert parts[3] == [["raw", 0]]
    assert len(parts[2]) == 256 // len(HELLO) + 1


def test_a_refusal_and_another_request_on_the_connection() -> None:
    refused = b"HTTP/1.1 404 x\r\n\r\nbody"
    trace = events(
        ("sent", REQUEST), ("received", refused), ("sent", REQUEST), ("received", RESPONSE)
    )
    assert decode.parts_of(trace) == [
        [["head", 0]],
        [["head", 0], ["raw", 18]],
        [["head", 0]],
        [["head", 0]],
    ]


def test_connections_are_told_apart() -> None:
    trace = events(("sent", REQUEST), ("received", RESPONSE))
    trace += events(("sent", REQUEST), connection=2)
    trace += events(("sent", HELLO))
    trace.append({"at": 0, "what": "note", "connection": 0, "text": "end"})
    assert decode.parts_of(trace)[2:] == [
        [["head", 0]],
        [["frame", 6, 0x81, 5, "37fa213d"]],
        [],
    ]


# ---- the size of the page -----------------------------------------------------------------------


def large_run(verdict: str) -> Dict[str, Any]:
    """All cases, each with much that went over its connection."""
    trace = events(("sent", REQUEST), ("received", RESPONSE))
    trace += events(*[("sent", wire.frame(bytes(range(200))))] * 30)
    cases = [
        case(
            one.id,
            verdict,
            "expected 'x', but received nothing",
            quote=one.quote,
            sends=one.sends,
            expects=one.expects,
            section=one.section,
            trace=trace,
        )
        for one in cli.all_cases()
    ]
    return run_of(cases)


@pytest.mark.parametrize("verdict", ["OK", "FAILED"])
def test_a_page_has_at_most_2_mb(verdict: str) -> None:
    run = large_run(verdict)
    assert len(run["cases"]) > 1500
    page = html_report.text([run])
    assert 1_300_000 < len(page.encode()) <= html_report.LARGEST
    data = html_report.data_of([run])
    html_report.add_traces(data, [run], 300_000)
    kept = [row["results"][0]["trace"] for row in data["cases"]]
    assert len(html_report.embedded([trace or [] for trace in kept])) < 310_000
    examples = {finding["example"]["id"] for finding in run["findings"]}
    shown = {row["id"] for row in data["cases"] if row["results"][0]["trace"]}
    assert examples <= shown or verdict == "FAILED"


def test_a_trace_is_cut_in_its_middle() -> None:
    trace = large_run("OK")["cases"][0]["trace"]
    cut = html_report.trace_of(trace, 1024)
    assert html_report.size_of(cut) <= 1024
    assert "are left out here" in cut[len(cut) // 2][4] or "left out" in str(cut)
    assert cut[0][5] == [["head", 0]]
    assert cut[-1][5]


# ---- a single file ------------------------------------------------------------------------------


def test_reports_from_a_zip(tmp_path: Path) -> None:
    """The page and all else that a report needs is found in there."""
    archive = tmp_path / "c.zip"
    source = ROOT / "tools" / "conformance"
    with zipfile.ZipFile(archive, "w") as zipped:
        for path in [*source.glob("*.py"), *source.glob("cases/*.py"), source / "report.html"]:
            zipped.write(path, Path("conformance") / path.relative_to(source))
    file = tmp_path / "json"
    file.write_text(report.json_text([BAD]))
    code = f"import sys; sys.path.insert(0, {str(archive)!r}); from conformance import cli; "
    code += "sys.exit(cli.main(sys.argv[1:]))"
    command = [sys.executable, "-c", code, "report", str(file), "--html", str(tmp_path / "html")]
    subprocess.run(command, check=True, timeout=60, cwd=tmp_path)
    assert "</html>" in (tmp_path / "html").read_text()
