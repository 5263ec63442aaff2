# SPDX-License-Identifier: MIT
"""tools/conformance --serve: a program that crashes some time after a case, and who is blamed."""

import io
import sys
from pathlib import Path
from typing import Any, Dict, List, Set

import pytest
from common import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cli, progress, runner, wire
from conformance.case import Case, Settings, Test
from conformance.verdicts import Failed
from conformance_peers import Reports, make_case, script

# Echoes, and crashes 0.3 s after a message of 65,535 bytes. With a file, only the first time.
LATE = f"""
import os, sys, threading
from pathlib import Path
sys.path[:0] = [{str(ROOT / "tests" / "py")!r}]
import broken_server
from broken_websocket import WebSocket
once = Path(%r) if %r else None
echo = WebSocket.echo
def crash():
    print("something broke", file=sys.stderr, flush=True)
    os._exit(9)
def fatal(self, opcode, payload):
    echo(self, opcode, payload)
    if len(payload) == 65535 and not (once and once.exists()):
        if once:
            once.touch()
        threading.Timer(0.3, crash).start()
WebSocket.echo = fatal
sys.argv = ["broken_server.py"]
broken_server.main()
"""
CULPRITS = {"1.1.6", "1.2.6"}


def failed(run: Dict[str, Any]) -> Set[str]:
    return {case["id"] for case in run["cases"] if case["verdict"] == "FAILED"}


def late_server(folder: Path, once: bool = False) -> str:
    return script(folder, LATE % (str(folder / "once"), once))


@pytest.mark.parametrize("jobs", [1, 8])
def test_a_crash_after_a_case_is_blamed_on_that_case(
    jobs: int, reports: Reports, tmp_path: Path
) -> None:
    """The cases that run when the server exits, or after it, are innocent."""
    options = ["--include", "1.1,1.2,2", "--timeout", "5", "--jobs", str(jobs), *reports.options]
    assert cli.main(["--serve", late_server(tmp_path), *options]) == cli.FAILURES
    run = reports.run()
    assert failed(run) == CULPRITS
    assert (run["ended"], run["not_run"], run["crashes"]) == ("", [], [])
    for case in run["cases"]:
        if case["id"] in CULPRITS:
            assert case["came"].startswith("the server ended: ")
            assert "exited with 9; its last lines:\n    something broke" in case["came"]


@pytest.mark.parametrize("jobs", [1, 8])
@pytest.mark.parametrize("retry", [0, 1])
def test_a_crash_that_does_not_happen_again_fails_no_case(
    jobs: int, retry: int, reports: Reports, tmp_path: Path
) -> None:
    """The report names the cases before it, and the run is incomplete."""
    some = ["--include", "1.1.[1-9]", "--include", "2", "--timeout", "5", "--jobs", str(jobs)]
    some += [*["--retry", "1"][: 2 * retry], *reports.options]
    assert cli.main(["--serve", late_server(tmp_path, once=True), *some]) == cli.INCOMPLETE
    run = reports.run()
    assert failed(run) == set()
    assert run["not_run"] == []
    (crash,) = run["crashes"]
    assert "exited with 9; its last lines:\n    something broke" in crash
    assert "1.1.6" in crash


@pytest.mark.parametrize("once", [False, True])
def test_a_crash_after_the_last_case(once: bool, reports: Reports, tmp_path: Path) -> None:
    options = ["--include", "1.1.6", "--timeout", "5", *reports.options]
    status = cli.main(["--serve", late_server(tmp_path, once), *options])
    run = reports.run()
    assert status == (cli.INCOMPLETE if once else cli.FAILURES)
    assert failed(run) == (set() if once else {"1.1.6"})
    assert ["1.1.6" in crash for crash in run["crashes"]] == ([True] if once else [])
    assert run["ended"] == ""


# ---- the search, with a peer of functions -------------------------------------------------------


class Peer:
    """Crashes when so many cases have run after a fatal one."""

    def __init__(self, fatal: Set[str], after: int, crashes: int = 1000) -> None:
        self.fatal = fatal
        self.after = after
        self.crashes = crashes
        self.left = -1
        self.ran: List[str] = []

    def case(self, id: str) -> Case:
        def body(test: Test) -> None:
            self.ran.append(id)
            if self.left == 0:
                raise OSError("refused")
            self.left -= self.left > 0
            if self.left == 0:
                self.crashes -= 1
                raise Failed("the connection ended")
            if self.left < 0 and id in self.fatal and self.crashes:
                self.left = self.after

        return make_case(id, body)

    def ended(self, wait: float) -> str:
        if self.left > 0 and wait > 0.2:  # time is what it takes
            self.left = 0
            self.crashes -= 1
        return "killed" if self.left == 0 else ""

    def restart(self) -> str:
        self.left = -1
        return ""

    def run(self, count: int) -> runner.Outcome:
        cases = [self.case(f"1.{i}") for i in range(count)]
        settings = Settings(wire.Target("127.0.0.1", 9, "/", False))
        work = runner.Runner(settings, 1, 60.0, self.ended, str, self.restart)
        return work.run(cases, progress.observer(count, io.StringIO()))


@pytest.mark.parametrize("after", [1, 2, 5, 20])
def test_the_case_is_found_among_many(after: int) -> None:
    peer = Peer({"1.30"}, after)
    outcome = peer.run(60)
    assert [r.case.id for r in outcome.results if r.verdict != "OK"] == ["1.30"]
    assert len(outcome.results) == 60
    assert (outcome.ended, outcome.crashes, outcome.not_run) == ("", [], [])


def test_of_two_cases_in_a_row_no_other_one_is_blamed() -> None:
    """The first crashes the peer when the second has begun, which would crash it too."""
    outcome = Peer({"1.30", "1.31"}, 1).run(60)
    blamed = {r.case.id: r.came for r in outcome.results if r.verdict != "OK"}
    assert blamed
    assert set(blamed) <= {"1.30", "1.31"}
    assert set(blamed.values()) == {"the server ended: killed"}


def test_too_many_crashes_fail_no_innocent_case() -> None:
    outcome = Peer({f"1.{i}" for i in range(100)}, 2, crashes=11).run(5)
    assert not [r for r in outcome.results if r.came == "the connection ended"]
