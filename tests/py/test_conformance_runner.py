# SPDX-License-Identifier: MIT
"""tools/conformance: the runner believes nothing, always ends, and always writes what it has."""

import re
import signal
import socket
import sys
import time
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Dict, Iterator, List, Tuple

import pytest
from common import ROOT
from program import Program

sys.path.insert(0, str(ROOT / "tools"))

from conformance import arguments, cli, report, runner, wire
from conformance_peers import (
    QUICK,
    Handler,
    LongFrame,
    Reports,
    fake,
    flood,
    hang,
    read_frame,
    script,
    turning,
    upgrade,
    usage_error,
)

# ---- peers --------------------------------------------------------------------------------------


def leave(connection: socket.socket) -> None:
    upgrade(connection)
    connection.close()


def refuse(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    connection.close()


def leave_cases(connection: socket.socket) -> None:
    """Echoes what is sent before the first case, and leaves in all cases."""
    upgrade(connection)
    while True:
        try:
            opcode, payload = read_frame(connection)
        except LongFrame:
            return connection.close()
        if opcode == wire.TEXT and payload.startswith(b"conformance "):
            connection.sendall(wire.frame(payload, opcode, key=None))
        else:
            connection.close()


def garbage(connection: socket.socket) -> None:
    connection.sendall(b"\x00\xff<script>\r\n\r\n" * 10)
    hang(connection)


# ---- the command --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "a URL, --serve CMD or --listen PORT is needed"),
        (["ftp://localhost"], "is not ws://HOST"),
        (["ws://"], "is not ws://HOST"),
        (["ws://localhost:x/"], "the port must be 1 to 65535"),
        (["ws://localhost:0/"], "the port must be 1 to 65535"),
        (["ws://localhost:65536/"], "the port must be 1 to 65535"),
        (["ws://localhost", "--serve", "x"], "give only one of"),
        (["--serve", "'"], "No closing quotation"),
        (["--serve", " "], "the command is empty"),
        (["ws://localhost", "--include", "nothing.*"], "no case matches 'nothing.*'"),
        (["ws://localhost", "--exclude", "@limit"], "no case matches '@limit'"),
        (["ws://localhost", "--include", "1.1.1", "--exclude", "1"], "no case is left"),
        (["ws://localhost", "--fail-on", "awful"], "unknown result 'AWFUL'"),
        (["ws://localhost", "--jobs", "0"], "must be a number from 1 to 256"),
        (["ws://localhost", "--timeout-scale", "0"], "must be a number above 0"),
        (["ws://localhost", "--max-time", "nan"], "must be a number above 0"),
        (["ws://localhost", "--port-pattern", "("], "--port-pattern"),
        (["ws://localhost", "--port-pattern", "port"], "has no group"),
        (["ws://localhost", "--json", "/no/such/folder/x"], "there is no such folder"),
        (["ws://localhost", "--html", "/"], "is a folder"),
        (["ws://localhost", "--baseline", "/no/such/file"], "No such file"),
        (["ws://localhost", "--baseline", str(ROOT / ".ci")], "Is a directory"),
        (["ws://localhost", "--baseline", "BAD"], "BAD: neither a JSON report nor a list of ids"),
        (["--show", "0.0"], "there is no case '0.0'"),
        (["--list", "--include", "x"], "no case matches 'x'"),
        (["report", "/no/such/file", "--html", "-"], "No such file"),
        (["report", __file__, "--html", "-"], "Expecting value"),
        (["report", __file__], "is needed"),
    ],
)
def test_usage(
    arguments: List[str],
    text: str,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("BAD").write_text('{"runs": [{"cases": [1]}]}')
    assert text in usage_error(capsys, *arguments)


@pytest.mark.parametrize(
    "text", ["{", "[]", "{}", '{"runs": 1}', '{"format": 1, "runs": [{"cases": [[]]}]}', "\ufeff{}"]
)
def test_a_file_that_is_no_report(text: str) -> None:
    with pytest.raises(ValueError):
        report.read_json(text)


def test_list_and_show(capsys: pytest.CaptureFixture[str]) -> None:
    assert cli.main(["--list", "--include", "1.1.*"]) == cli.FINE
    listed = [line.split()[:2] for line in capsys.readouterr().out.splitlines()]
    assert ["1.1.1", "MUST"] in listed
    assert all(id.startswith("1.1.") for id, _ in listed)
    assert cli.main(["--show", "1.1.1"]) == cli.FINE
    shown = capsys.readouterr().out
    assert shown.startswith("1.1.1  Framing\n")
    assert "RFC 6455" in shown and "expected:" in shown
    parser = arguments.run_parser("conformance")
    for case in cli.all_cases():
        assert cli.show_case(parser, case.id) == cli.FINE
    capsys.readouterr()
    with pytest.raises(SystemExit) as info:
        cli.main(["--help"])
    assert info.value.code == 0
    assert "130  interrupted" in capsys.readouterr().out


def test_both_names() -> None:
    """From a checkout, and as a module."""
    for words in ([str(ROOT / "tools" / "conformance")], ["-m", "tools.conformance"]):
        with Program(*words, "--list", "--include", "1.1.1") as program:
            assert program.line().startswith("1.1.1")
            assert program.wait() == 0


def test_a_good_peer(reports: Reports, capsys: pytest.CaptureFixture[str], serve: Any) -> None:
    sizes = {"max_payload_length": 1 << 20, "max_backpressure": 1 << 24}
    server = serve(message=lambda ws, message, opcode: ws.send(message, opcode), **sizes)
    url = f"ws://127.0.0.1:{server.port}/"
    assert cli.main([url, *QUICK, "--timeout", "5", *reports.options, "--name", "p"]) == cli.FINE
    run = reports.run()
    assert (run["peer"], run["target"], run["ended"], run["not_run"]) == ("p", url, "", [])
    assert run["counts"]["OK"] == len(run["cases"]) > 5
    ids = [case["id"] for case in run["cases"]]
    assert ids == sorted(ids, key=lambda id: [int(part) for part in id.split(".")])
    whats = {event["what"] for event in run["cases"][0]["trace"]}
    assert whats == {"sent", "received", "note"}
    output = capsys.readouterr().out
    assert f"{len(ids)}/{len(ids)}" in output
    assert f"p: {len(ids)} OK in " in output


# ---- peers that cannot be tested ----------------------------------------------------------------


@contextmanager
def unused_port() -> Iterator[int]:
    """A port on which nobody listens; it stays bound, so that no other program takes it."""
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        yield unused.getsockname()[1]


def check_incomplete(reports: Reports, url: str, reason: str) -> Dict[str, Any]:
    """The run ends with status 3, and with the reports."""
    began = time.monotonic()
    assert cli.main([url, *QUICK, *reports.options]) == cli.INCOMPLETE
    assert time.monotonic() - began < 40
    run = reports.run()
    assert re.search(reason, run["ended"]), run["ended"]
    return run


def test_nobody_there(reports: Reports, capsys: pytest.CaptureFixture[str]) -> None:
    with unused_port() as port:
        run = check_incomplete(reports, f"ws://127.0.0.1:{port}", "Connection refused")
    assert run["cases"] == []
    assert len(run["not_run"]) > 5
    assert "Connection refused" in capsys.readouterr().out


@pytest.mark.parametrize("host", ["no-such-host.invalid", "192.0.2.1"])
def test_no_such_host(host: str, reports: Reports) -> None:
    check_incomplete(reports, f"ws://{host}:9", "cannot connect to")


BAD_FROM_THE_START: List[Tuple[str, Handler, str, str]] = [
    ("ws", hang, "does not answer the opening handshake: received nothing", "hangs"),
    ("ws", socket.socket.close, "does not answer .* the connection was", "closes"),
    ("ws", garbage, "not an HTTP/1 status line", "garbage"),
    ("ws", flood(b"HTTP/1.1 200 OK", greet=False), "more than 64 KiB", "flood of one line"),
]


@pytest.mark.parametrize(
    ("scheme", "handler", "reason"),
    [pytest.param(*row[:3], id=row[3]) for row in BAD_FROM_THE_START],
)
def test_bad_from_the_start(scheme: str, handler: Handler, reason: str, reports: Reports) -> None:
    with fake(handler) as port:
        assert check_incomplete(reports, f"{scheme}://127.0.0.1:{port}/", reason)["cases"] == []


# ---- peers that fail ----------------------------------------------------------------------------


def closing(connection: socket.socket) -> None:
    upgrade(connection)
    connection.sendall(b"\x88\x02\x03\xe8")
    connection.close()


@pytest.mark.parametrize(
    ("handler", "came"),
    [
        pytest.param(refuse, "answered with 404", id="404"),
        pytest.param(leave, "the connection was", id="leaves"),
        pytest.param(closing, "Close 1000", id="closes"),
        pytest.param(flood(b"\x89\x00" * 4096), "but|unexpected bytes", id="pings"),
        pytest.param(flood(b"\0\0" * 4096, first=b"\1\0"), "never ends", id="empty fragments"),
        pytest.param(flood(b"\0\x7d" + b"x" * 125, first=b"\1\0"), "never ends", id="fragments"),
        pytest.param(flood(b"\x82\x7f\x7f" + b"\0" * 7), f"of {0x7F << 56} bytes", id="huge frame"),
        pytest.param(flood(b"\x82\x7e\xff\xff" + b"x" * 65535), "but|unexpected", id="frames"),
        pytest.param(flood(b"\xff\xff\xff\xff\xff\xff\xff\xff"), "frame of", id="bits"),
    ],
)
def test_a_bad_peer(
    handler: Handler, came: str, reports: Reports, capsys: pytest.CaptureFixture[str]
) -> None:
    """Every case gets its verdict, in bounded time."""
    with fake(turning(handler)) as port:
        url = f"ws://127.0.0.1:{port}/"
        few = ["--timeout", "3", "--include", "1.1.[1-4]", "--jobs", "4"]
        assert cli.main([url, *few, *reports.options]) == cli.FAILURES
    run = reports.run()
    assert run["counts"]["FAILED"] == len(run["cases"]) == 4
    assert re.search(came, "\n".join(case["came"] for case in run["cases"]))
    assert max(case["seconds"] for case in run["cases"]) < 30
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("id", ["9.2.6", "T.1.5"])
def test_a_flood_does_not_fill_the_memory(id: str, reports: Reports) -> None:
    """Nobody reads what comes while much is sent, or while the end is waited for."""

    def handler(connection: socket.socket) -> None:
        whole = b"Sec-WebSocket-Key" in connection.recv(65536, socket.MSG_PEEK)
        flood(b"\x82\x7e\xff\xff" + b"x" * 65535, greet=whole)(connection)

    with fake(turning(handler)) as port:
        cli.main([f"ws://127.0.0.1:{port}/", "--include", id, *reports.options])
    (case,) = reports.run()["cases"]
    assert "sent more than" in case["came"]


def test_goes_away(reports: Reports) -> None:
    """Refused in many cases in a row: the run ends, and keeps what came before."""
    with fake(turning(leave), connections=8) as port:
        run = check_incomplete(reports, f"ws://127.0.0.1:{port}/", "cannot connect to")
    assert run["cases"]
    assert len(run["not_run"]) > 20
    verdicts = {case["verdict"] for case in run["cases"]}
    assert "FAILED" in verdicts <= {"FAILED", "NON-STRICT"}
    assert "That was during or after" in run["ended"]


def test_stops_answering(reports: Reports) -> None:
    greeted: List[int] = []

    def handler(connection: socket.socket) -> None:
        greeted.append(1)
        (leave if len(greeted) < 5 else hang)(connection)

    with fake(turning(handler)) as port:
        url = f"ws://127.0.0.1:{port}/"
        arguments = [url, "--timeout", "0.3", *reports.options]
        assert cli.main(arguments) == cli.INCOMPLETE
    run = reports.run()
    assert "does not answer the opening handshake" in run["ended"]
    assert run["cases"]
    assert run["not_run"]


# ---- an end before the end ----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(number: signal.Signals, reports: Reports) -> None:
    """Cases that wait do not keep it, and its testee does not stay."""
    served = f"""
import sys, time
sys.path[:0] = [{str(ROOT / "tests" / "py")!r}, {str(ROOT / "tools")!r}]
from conformance_peers import echo, fake, greet, hang, turning
with fake(turning(hang, echo=greet)) as port:
    print(port, flush=True)
    time.sleep(1000)
"""
    command = script(reports.folder, served)
    arguments = ["--serve", command, "--timeout", "20", "--timeout-scale", "0.5", *reports.options]
    with Program(str(ROOT / "tools" / "conformance"), *arguments) as program:
        assert "begins with 1 message" in program.line()
        time.sleep(0.3)
        began = time.monotonic()
        program.process.send_signal(number)
        assert program.process.wait(60) == cli.INTERRUPTED
        assert time.monotonic() - began < 30
    run = reports.run()
    assert run["ended"] == "interrupted"
    assert run["not_run"]


def test_max_time(reports: Reports) -> None:
    def handler(connection: socket.socket) -> None:
        upgrade(connection)
        hang(connection)

    with fake(turning(handler)) as port:
        url = f"ws://127.0.0.1:{port}/"
        quick = ["--timeout", "0.5", "--max-time", "1", "--jobs", "2"]
        assert cli.main([url, *quick, *reports.options]) == cli.INCOMPLETE
    run = reports.run()
    assert run["ended"] == "the run took more than 1 s"
    assert run["cases"] and run["not_run"]


# ---- which failures count -----------------------------------------------------------------------


def test_fail_on() -> None:
    assert runner.failing("failed") == {"FAILED"}
    assert runner.failing(" Non_strict, skipped") == {"FAILED", "NON-STRICT", "SKIPPED"}
    assert runner.failing("none") == frozenset()
    for text in ("ok", "none,failed", "x"):
        with pytest.raises(ValueError, match="unknown result"):
            runner.failing(text)


def test_baseline(reports: Reports, capsys: pytest.CaptureFixture[str]) -> None:
    """A list or a report; only what is new fails."""
    with fake(leave_cases) as port:
        run = [f"ws://127.0.0.1:{port}/", "--timeout", "5", "--include", "1.1.*"]
        ids = str(reports.folder / "ids")
        assert cli.main([*run, "--json", str(reports.folder / "j"), "--write-baseline", ids]) == 1
        assert cli.main([*run, "--fail-on", "none"]) == cli.FINE
        capsys.readouterr()
        for known in (ids, str(reports.folder / "j")):
            assert cli.main([*run, "--baseline", known, *reports.options]) == cli.FINE
            assert "0 are new" in capsys.readouterr().out
        assert "# TODO known to fail" in (reports.folder / "tap").read_text()
        assert "<failure" not in (reports.folder / "junit").read_text()
        lines = Path(ids).read_text().splitlines()
        Path(ids).write_text("\n".join([*lines[2:], "4.1.1", ""]))
        assert cli.main([*run, "--baseline", ids]) == cli.FAILURES
        output = capsys.readouterr().out
        assert "1 are new" in output
        assert "new: 1.1.1\n" in output
        assert "no longer" not in output  # 4.1.1 did not run


def test_no_baseline_of_half_a_run(tmp_path: Path) -> None:
    baseline = tmp_path / "baseline"
    baseline.write_text("kept")
    with unused_port() as port:
        url = f"ws://127.0.0.1:{port}/"
        assert cli.main([url, "--write-baseline", str(baseline)]) == cli.INCOMPLETE
    assert baseline.read_text() == "kept"
