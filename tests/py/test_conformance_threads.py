# SPDX-License-Identifier: MIT
"""tools/conformance: cases that run side by side, again, alone, and only for a time."""

import io
import socket
import sys
import threading
import time
from dataclasses import replace
from typing import Any, Callable, Dict, List, Sequence

import pytest
from common import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cli, progress, runner, wire
from conformance.case import CASES, MAY, SHOULD, Case, Manners, Result, Settings, Test, run
from conformance.verdicts import Failed, Informational, Late, NonStrict, Skipped, Verdict
from conformance_peers import fake, flood, make_case
from delay_proxy import DelayProxy

# ---- the threads --------------------------------------------------------------------------------


def never(seconds: float) -> str:
    """The peer has not ended."""
    return ""


def run_all(cases: Sequence[Case], jobs: int = 8, **more: Any) -> runner.Outcome:
    settings = Settings(wire.Target("127.0.0.1", 9, "/", False), **more)
    work = runner.Runner(settings, jobs, 60.0, never, str)
    return work.run(cases, progress.observer(len(cases), io.StringIO()))


def test_what_runs_side_by_side() -> None:
    """Tags limit it, and no case is lost."""
    lock = threading.Lock()
    now: List[str] = []
    seen: List[List[str]] = []

    def body(kind: str) -> Callable[[Test], None]:
        def run(test: Test) -> None:
            with lock:
                now.append(kind)
                seen.append(sorted(now))
            time.sleep(0.01)
            with lock:
                now.remove(kind)

        return run

    kinds = ["alone", "limits", "slow", "deflate"] * 12
    cases = [make_case(f"1.{i}", body(kind), kind) for i, kind in enumerate(kinds)]
    outcome = run_all(cases)
    assert [result.case.id for result in outcome.results] == [f"1.{i}" for i in range(48)]
    assert not outcome.not_run
    assert max(running.count("limits") for running in seen) <= runner.LIMITS
    assert max(running.count("slow") for running in seen) <= 4
    assert max(map(len, seen)) > 1
    assert all(running == ["alone"] for running in seen if "alone" in running)
    assert seen[-12:] == [["alone"]] * 12


def test_verdicts() -> None:
    def fails(test: Test) -> None:
        raise Failed("no")

    def breaks(test: Test) -> None:
        raise RecursionError("deep")

    def skips(test: Test) -> None:
        raise Skipped("not now")

    def goes_on(test: Test) -> None:
        test.lax = "a little"
        if test.case.id == "H.4":
            raise Failed("no")

    cases = [
        make_case("10.1", fails),
        make_case("2.1", fails, level=SHOULD),
        make_case("H.2", breaks),
        make_case("1.10", skips),
        make_case("1.9", lambda test: None),
        make_case("H.3", goes_on),
        make_case("H.4", goes_on),
    ]
    got = [(r.case.id, r.verdict.value) for r in run_all(cases, jobs=2).results]
    assert got == [
        ("1.9", "OK"),
        ("1.10", "SKIPPED"),
        ("2.1", "NON-STRICT"),
        ("10.1", "FAILED"),
        ("H.2", "SKIPPED"),
        ("H.3", "NON-STRICT"),
        ("H.4", "FAILED"),
    ]


def test_what_was_late_beside_other_cases_is_run_again_alone() -> None:
    """Its peer may have been busy; where it comes to the same a few times, it is not asked more."""
    runs: Dict[str, int] = {}
    beside = threading.Barrier(2)

    def busy(test: Test) -> None:
        runs[test.case.id] = runs.get(test.case.id, 0) + 1
        if runs[test.case.id] == 1:
            beside.wait(10)
            raise Late("expected an echo, but received nothing for 2.0 s")

    def dead(test: Test) -> None:
        runs[test.case.id] = runs.get(test.case.id, 0) + 1
        raise Late("expected an echo, but received nothing for 2.0 s")

    def wrong(test: Test) -> None:
        runs[test.case.id] = runs.get(test.case.id, 0) + 1
        raise Failed("expected an echo, but received another message")

    cases = [make_case("1.1", busy), make_case("1.2", busy), make_case("4.1", wrong)]
    cases += [replace(make_case(f"3.{i}", dead), quote="another quote") for i in range(1, 21)]
    results = {r.case.id: r.verdict.value for r in run_all(cases, jobs=2).results}
    assert (results["1.1"], results["1.2"], results["4.1"]) == ("OK", "OK", "FAILED")
    assert {results[f"3.{i}"] for i in range(1, 21)} == {"FAILED"}
    assert sum(runs[f"3.{i}"] for i in range(1, 21)) == 20 + runner.CONFIRMED
    assert runs["4.1"] == 1


def test_what_was_late_for_an_unusual_reason_is_run_again_first() -> None:
    """Even if the peer is always late in another way in many cases about the same rule."""
    again: List[str] = []
    ran: List[str] = []

    def dead(test: Test) -> None:
        (again if test.case.id in ran else ran).append(test.case.id)
        raise Late("expected a Close, but received nothing for 2.0 s")

    def busy(test: Test) -> None:
        if test.case.id in ran:
            return again.append(test.case.id)
        ran.append(test.case.id)
        raise Late("expected an HTTP response, but received nothing for 2.0 s")

    cases = [make_case(f"3.{i}", dead) for i in range(1, 21)]
    cases += [make_case("3.21", busy), make_case("3.22", busy)]
    results = {r.case.id: r.verdict.value for r in run_all(cases, jobs=2).results}
    assert again == ["3.21", "3.22", "3.1", "3.2", "3.3"]
    assert (results["3.20"], results["3.21"], results["3.22"]) == ("FAILED", "OK", "OK")


def test_whatever_a_timeout_led_to_is_late() -> None:
    """Also where the case says something else about it."""

    def body(last: Exception) -> Callable[[Test], None]:
        def run(test: Test) -> None:
            try:
                try:
                    raise wire.TimedOut("received nothing for 2.0 s")
                except wire.TimedOut as error:
                    raise Failed(f"expected an echo, but {error}") from None
            except Failed:
                raise last from None

        return run

    target = wire.Target("127.0.0.1", 9, "/", False)
    for last in (Failed("a"), NonStrict("b"), Informational("c"), Skipped("d"), Late("e")):
        assert run(make_case("1.1", body(last)), Settings(target)).late

    def wrong(test: Test) -> None:
        raise Skipped("it cannot do that")

    assert not run(make_case("1.1", wrong), Settings(target)).late


def test_what_was_late_is_run_again_whatever_the_verdict() -> None:
    """Because otherwise its verdict would depend on what the other cases do."""
    ran: List[str] = []

    def busy(test: Test) -> None:
        ran.append(test.case.id)
        if ran.count(test.case.id) > 1:
            return
        try:
            raise wire.TimedOut("received nothing for 2.0 s")
        except wire.TimedOut as error:
            kind = Skipped if test.case.id == "1.2" else Failed
            raise kind(f"expected an HTTP response, but {error}") from None

    cases = [make_case("1.1", busy, level=MAY), make_case("1.2", busy)]
    results = {r.case.id: r.verdict.value for r in run_all(cases, jobs=2).results}
    assert (results, sorted(ran)) == ({"1.1": "OK", "1.2": "OK"}, ["1.1", "1.1", "1.2", "1.2"])


def test_a_busy_peer_must_answer_before_a_case_is_run_again() -> None:
    """Otherwise what kept it busy at first, or another repetition, could delay the case again."""
    events: List[str] = []

    def gone() -> str:
        events.append("answers")
        return ""

    def late(test: Test) -> None:
        events.append(test.case.id)
        raise Late("expected a Close, but received nothing for 2.0 s")

    def once(test: Test) -> None:
        events.append(test.case.id)
        if events.count(test.case.id) == 1:
            raise Late("expected an HTTP response, but received nothing for 2.0 s")

    cases = [make_case("1.1", late, "limits"), make_case("1.2", once), make_case("1.3", once)]
    settings = Settings(wire.Target("127.0.0.1", 9, "/", False))
    work = runner.Runner(settings, 2, 60.0, never, gone)
    work.run(cases, progress.observer(len(cases), io.StringIO()))
    assert events[3:] == ["answers", "1.2", "1.3", "1.1"]
    work = runner.Runner(settings, 1, 60.0, never, gone, retry=2)
    del events[:]
    work.run(cases, progress.observer(len(cases), io.StringIO()))
    assert sorted(events[:3]) == ["1.1", "1.2", "1.3"]
    assert events[3:] == ["answers", "1.1", "answers", "1.2", "1.3", "1.1"]


def test_the_limit_for_repetitions_is_for_those_without_a_new_result(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(runner, "CONFIRMING", 0.0)
    ran: List[str] = []

    def busy(test: Test) -> None:
        ran.append(test.case.id)
        if ran.count(test.case.id) == 1:
            raise Late("expected an HTTP response, but received nothing for 2.0 s")

    def dead(test: Test) -> None:
        ran.append(test.case.id)
        raise Late("expected a Close, but received nothing for 2.0 s")

    cases = [make_case(f"1.{i}", busy) for i in range(1, 5)]
    cases += [make_case(f"2.{i}", dead) for i in range(1, 9)]
    results = [r.verdict.value for r in run_all(cases, jobs=2).results]
    assert results == ["OK"] * 4 + ["FAILED"] * 8
    assert len(ran) == 12 + 4 + 1


def test_a_response_that_is_late_beside_other_cases_is_asked_for_again() -> None:
    """Of a server far away: H.27.2 is NON-STRICT if there is no response, and it was only late."""
    asked: List[bytes] = []
    both = threading.Event()

    def handler(connection: socket.socket) -> None:
        head = b""
        while b"\r\n\r\n" not in head:
            head += connection.recv(65536)
        asked.append(head)
        if len(asked) == 2:
            both.set()
        if len(asked) <= 2 and b"TLS/1.0" in head:
            time.sleep(1.5)
        connection.sendall(b"HTTP/1.1 426 Upgrade Required\r\nContent-Length: 0\r\n\r\n")

    cli.all_cases()
    cases = [CASES["H.27.2"], make_case("1.1", lambda test: plain_request(test, both))]
    with fake(handler) as port, DelayProxy(port, 0.1) as proxy:
        target = wire.Target("127.0.0.1", proxy.port, "/", False)
        settings = Settings(target, timeout=0.5, manners=Manners(round_trip=0.2))
        work = runner.Runner(settings, 2, 60.0, never, str)
        outcome = work.run(cases, progress.observer(len(cases), io.StringIO()))
    assert {r.case.id: r.verdict.value for r in outcome.results} == {"1.1": "OK", "H.27.2": "OK"}
    assert sum(b"TLS/1.0" in head for head in asked) == 2


def plain_request(test: Test, both: threading.Event) -> None:
    """One that is open while another case has asked as well."""
    test.connect().send(b"GET / HTTP/1.1\r\n\r\n")
    both.wait(10)


def test_the_case_after_which_the_server_was_gone() -> None:
    """It is named however many cases found no server before the run ended."""

    def fails(test: Test) -> None:
        raise Failed("no")

    def finds_none(test: Test) -> None:
        raise Skipped("cannot connect to ws://127.0.0.1:9/")

    cases = [make_case("1.1", fails), *(make_case(f"2.{i}", finds_none) for i in range(100))]
    settings = Settings(wire.Target("127.0.0.1", 9, "/", False))
    work = runner.Runner(settings, 1, 60.0, never, lambda: "it is gone")
    outcome = work.run(cases, progress.observer(len(cases), io.StringIO()))
    assert outcome.ended.startswith("it is gone\nThat was during or after 1.1")


def test_a_case_has_a_limit() -> None:
    """However long the peer keeps it busy."""

    def endless(test: Test) -> None:
        session = test.open()
        while True:
            session.read("anything")

    with fake(flood(b"\x81\x01x")) as port:
        settings = Settings(wire.Target("127.0.0.1", port, "/", False), limit=0.5)
        work = runner.Runner(settings, 1, 60.0, never, str)
        case = make_case("1.1", endless)
        outcome = work.run([case], progress.observer(1, io.StringIO()))
    assert "the time limit of 0.5 s for the case expired" in outcome.results[0].came
    assert outcome.seconds < 20


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.delenv("NO_COLOR", raising=False)
    result = Result(make_case("1.1", lambda test: None), Verdict.OK, "", 0.1, wire.Trace())
    for stream in (io.StringIO(), Terminal()):
        shown = progress.observer(20, stream)
        for _ in range(20):
            shown.add(result)
        shown.end()
        text = stream.getvalue()
        if stream.isatty():
            assert text.startswith("\r[#")
            assert text.endswith("\r\033[K")
            assert all(len(part) < 60 for part in text.split("\r"))
            assert progress.painted("OK", stream) == "\033[32mOK\033[0m"
        else:
            assert text.count("\n") == 10
            assert text.endswith("s  20 OK\n")
            assert progress.painted("OK", stream) == "OK"
    assert progress.plain("\x1b[2Ja\u202e\n") == "\\x1b[2Ja\\u202e\n"
