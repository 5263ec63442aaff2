# SPDX-License-Identifier: MIT
"""tools/conformance: runs that are compared with a baseline, and cases that waver."""

import io
import sys
import threading
import time
from typing import Callable, Dict, List

import pytest
from common import ROOT
from conformance_runs import case, run_of

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cli, progress, report, runner, summary, wire
from conformance.case import Case, Settings, Test
from conformance.verdicts import Failed, Informational, Skipped, Unimplemented, Verdict
from conformance_results import BAD, FAILING, result

Test.__test__ = False  # type: ignore[attr-defined]  # it is no class of tests
ENDS = {kind.verdict: kind for kind in (Failed, Informational, Skipped, Unimplemented)}


# ---- the baseline -------------------------------------------------------------------------------


def test_a_baseline_has_flaky_cases_and_the_close() -> None:
    text = runner.baseline_of(
        [
            result("1.1", "FAILED"),
            result("1.2", "OK", flaky=(Verdict.FAILED, Verdict.OK)),
            result("1.3", "OK", flaky=(Verdict.INFORMATIONAL, Verdict.OK)),
            result("1.4", "NON-STRICT", close=Verdict.FAILED, close_came="open"),
        ],
        FAILING,
    )
    lines = [line.split() for line in text.splitlines()[1:]]
    assert [words[0] for words in lines] == ["1.1", "1.2", "close"]
    assert lines[1][1] == "flaky"
    known = runner.read_baseline(text, FAILING)
    assert known == runner.Baseline(frozenset({"1.1", "1.2", "close"}), frozenset({"1.2"}))
    assert runner.read_baseline(report.json_text([BAD]), FAILING) == runner.Baseline(
        frozenset({*(f"4.{i}" for i in range(1, 8)), "5.1", "close"}), frozenset({"5.1"})
    )
    with pytest.raises(ValueError, match="line 2: must be an id, or an id and `flaky`"):
        runner.read_baseline("1.1\n1.2 shaky # why\n", FAILING)


def test_what_the_console_tells_of_a_baseline() -> None:
    run = run_of([case("1.1", "FAILED", "x"), case("1.2"), case("1.3", "FAILED", "y"), case("1.4")])
    lines = summary.of_baseline(run, {"1.1", "1.2", "1.4", "close"}, {"1.4"}, ["1.1", "1.3"])
    assert lines == [
        "baseline: 1 failures are known, 1 are new",
        "new: 1.3",
        "no longer failing: 1.2 close",
        "marked as flaky: 1.4 is OK",
    ]


# ---- cases that waver ---------------------------------------------------------------------------


def test_retry() -> None:
    """What is not OK is run again, alone, until its verdict changes; the last one counts."""
    runs: Dict[str, int] = {}
    beside: List[str] = []
    lock = threading.Lock()

    def coming_to(*verdicts: str) -> Callable[[Test], None]:
        def body(test: Test) -> None:
            id = test.case.id
            with lock:
                runs[id] = runs.get(id, 0) + 1
                beside.append(id)
                if runs[id] > 1:
                    assert beside == [id]
            time.sleep(0.01)
            with lock:
                beside.remove(id)
            verdict = Verdict(verdicts[min(runs[id], len(verdicts)) - 1])
            if verdict != Verdict.OK:
                raise ENDS[verdict]("x")

        return body

    bodies = {
        "1.1": coming_to("FAILED", "OK"),
        "1.2": coming_to("FAILED"),
        "1.3": coming_to("INFORMATIONAL", "INFORMATIONAL", "FAILED"),
        "1.4": coming_to("OK", "FAILED"),
        "1.5": coming_to("UNIMPLEMENTED", "OK"),
        "1.6": coming_to("SKIPPED", "OK"),
    }
    cases = [Case(id, "s", "MUST", "q", "t", "e", body) for id, body in bodies.items()]
    settings = Settings(wire.Target("127.0.0.1", 9, "/", False))
    stream = io.StringIO()
    work = runner.Runner(settings, 8, 60.0, lambda wait: "", str, retry=3)
    outcome = work.run(cases, progress.observer(len(cases), stream))
    got = {r.case.id: (r.verdict.value, [v.value for v in r.flaky]) for r in outcome.results}
    assert got == {
        "1.1": ("OK", ["FAILED", "OK"]),
        "1.2": ("FAILED", []),
        "1.3": ("FAILED", ["INFORMATIONAL", "INFORMATIONAL", "FAILED"]),
        "1.4": ("OK", []),
        "1.5": ("UNIMPLEMENTED", []),
        "1.6": ("OK", ["SKIPPED", "OK"]),
    }
    assert runs == {"1.1": 2, "1.2": 4, "1.3": 3, "1.4": 1, "1.5": 1, "1.6": 2}
    assert stream.getvalue().endswith("3 OK, 2 FAILED, 1 UNIMPLEMENTED\n")
    assert len(stream.getvalue().splitlines()) == 6 + 3  # the cases, and what has changed
    assert not outcome.ended


def test_retries_end_with_the_time_of_the_run() -> None:
    def body(test: Test) -> None:
        time.sleep(0.2)
        raise Failed("x")

    cases = [Case(f"1.{i}", "s", "MUST", "q", "t", "e", body) for i in range(4)]
    settings = Settings(wire.Target("127.0.0.1", 9, "/", False))
    work = runner.Runner(settings, 8, 1.0, lambda wait: "", str, retry=200)
    outcome = work.run(cases, progress.observer(len(cases), io.StringIO()))
    assert outcome.ended == "the run took more than 1 s"
    assert len(outcome.results) == 4


def test_retries_can_be_interrupted() -> None:
    runs: List[str] = []

    def body(test: Test) -> None:
        runs.append(test.case.id)
        if len(runs) > 4:
            raise KeyboardInterrupt
        if len(runs) < 4:
            raise Failed("x")

    cases = [Case(f"1.{i}", "s", "MUST", "q", "t", "e", body) for i in range(3)]
    settings = Settings(wire.Target("127.0.0.1", 9, "/", False))
    work = runner.Runner(settings, 1, 60.0, lambda wait: "", str, retry=2)
    outcome = work.run(cases, progress.observer(len(cases), io.StringIO()))
    assert outcome.interrupted
    got = [(r.case.id, r.verdict.value) for r in outcome.results]
    assert got == [("1.0", "OK"), ("1.1", "FAILED"), ("1.2", "FAILED")]


def test_a_server_that_dies_late_when_cases_are_run_again() -> None:
    """The case that finds it gone is not to blame, and the run goes on with a new one."""
    alive = [True]
    runs: List[str] = []

    def body(test: Test) -> None:
        runs.append(test.case.id)
        if not alive[0]:
            raise OSError("refused")
        alive[0] = len(runs) != 5
        raise Failed("x")

    def ended(wait: float) -> str:
        # The case that brings it down has not dropped a connection: that is not waited for.
        return "" if alive[0] or (runs[-1:] == ["1.1"] and wait == 0.0) else "killed"

    def restart() -> str:
        alive[0] = True
        return ""

    cases = [Case(f"1.{i}", "s", "MUST", "q", "t", "e", body) for i in range(3)]
    settings = Settings(wire.Target("127.0.0.1", 9, "/", False))
    work = runner.Runner(settings, 1, 60.0, ended, str, restart, retry=1)
    outcome = work.run(cases, progress.observer(len(cases), io.StringIO()))
    assert runs == ["1.0", "1.1", "1.2"] * 2 + ["1.2"]
    assert [r.came for r in outcome.results] == ["x"] * 3
    assert outcome.crashes == ["killed\nThat was during or after 1.2, 1.0, 1.1."]
    assert not outcome.ended


def test_clients_are_not_asked_again(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        cli.main(["--listen", "0", "--retry", "1"])
    assert info.value.code == cli.USAGE
    assert "--retry does not work with --listen" in capsys.readouterr().err
