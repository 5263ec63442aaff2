# SPDX-License-Identifier: MIT
"""tools/conformance learns with which code a server answers a Close, and reports that once."""

import sys
from contextlib import contextmanager
from typing import Any, Dict, Iterator, Tuple

import pytest
from broken_websocket import WebSocket
from common import ROOT
from conformance_peers import Reports
from test_conformance_unusual import learned
from unusual_manners import UNUSUAL, Manner
from unusual_server import CodelessAnswer, OtherCode, UnusualServer

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cli
from conformance.case import CASES, Manners, Result, Settings, run
from conformance.wire import Target

ABOUT_THE_CODE = ("7.3.", "7.7.")


class FailureCode(WebSocket):
    """Answers a Close like a failure: with 1002."""

    def answer_close(self, payload: bytes) -> None:
        super().answer_close(b"\x03\xea")


class FailsAtTheEnd(OtherCode):
    """Answers with 1001, but with 1002 if there has been a Ping, which is a fault of its own."""

    pinged = False

    def on_ping(self, payload: bytes) -> None:
        super().on_ping(payload)
        self.pinged = True

    def answer_close(self, payload: bytes) -> None:
        if self.pinged:
            return self.tell(1002, "")
        super().answer_close(payload)


@contextmanager
def planted(*parts: Any, switches: Tuple[str, ...] = ()) -> Iterator[str]:
    """The name of a manner that exists only during the test."""
    UNUSUAL["a test"] = Manner("", parts, switches)
    learned.cache_clear()
    try:
        yield "a test"
    finally:
        learned.cache_clear()
        del UNUSUAL["a test"]


def result_of(name: str, id: str) -> Result:
    with UnusualServer(name) as server:
        target = Target("127.0.0.1", server.port, "/", False)
        return run(CASES[id], Settings(target, timeout=5.0, manners=learned(name)))


def report_of(name: str, reports: Reports, *options: str) -> Dict[str, Any]:
    with UnusualServer(name) as server:
        url = f"ws://127.0.0.1:{server.port}/"
        assert cli.main([url, "--timeout", "5", *options, *reports.options]) == cli.FINE
    return reports.run()


SOME = "1.1,2.[1-9],5.[1-8],6.1,7.1,7.3.[1345],7.7.[1-5],12.1.[1-3],B.1.[56],D.6.24,S.4,T.2,T.5"


@pytest.mark.parametrize(
    ("name", "code"), [("other-code", 1001), ("codeless-answers", None), ("codeless-closes", None)]
)
def test_how_a_close_is_answered_is_one_finding(
    name: str, code: Any, reports: Reports, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of the cases about the code, and of no other case and its close."""
    run = report_of(name, reports, "--include", SOME, "--exclude", "@limits,@slow")
    assert run["settings"]["manners"]["close_code"] == code
    findings = [one for one in run["findings"] if "answered with Close" in one["shape"]]
    assert len(findings) == 1
    assert findings[0]["verdict"] == "NON-STRICT"
    assert all(id.startswith(ABOUT_THE_CODE) for id in findings[0]["ids"])
    assert {"7.3.3", "7.7.3"} <= set(findings[0]["ids"])
    lax = {case["id"] for case in run["cases"] if case["verdict"] == "NON-STRICT"}
    failures = {id for id in lax if "failed with" in by_id(run)[id]["came"]}
    assert lax - failures == set(findings[0]["ids"])
    assert {case["close"] for case in run["cases"]} == {"OK"}
    assert "a Close with 1000 is answered" in capsys.readouterr().out


def by_id(run: Dict[str, Any]) -> Dict[str, Dict[str, Any]]:
    return {case["id"]: case for case in run["cases"]}


BAD_CLOSES = [
    (("close-one-byte-accepted",), "7.3.2"),
    (("reason-unchecked",), "7.5.1"),
]


@pytest.mark.parametrize(("switches", "id"), BAD_CLOSES)
@pytest.mark.parametrize("part", [OtherCode, CodelessAnswer])
def test_a_bad_close_that_is_answered_like_any_other(
    switches: Tuple[str, ...], id: str, part: Any
) -> None:
    """The code of its answers shows that the server took it for a valid one."""
    with planted(part, switches=switches) as name:
        result = result_of(name, id)
    assert (result.verdict.value, "answered the Close" in result.came) == ("FAILED", True), result


def test_another_code_than_the_usual_one_is_reported() -> None:
    with planted(FailsAtTheEnd) as name:
        assert learned(name) == Manners(close_code=1001)
        assert result_of(name, "1.1.1").verdict == "OK"
        result = result_of(name, "2.1")
    assert result.verdict == "NON-STRICT"
    assert "expected a Close with 1000, but received Close 1002" in result.came


def test_an_answer_like_a_failure_is_reported() -> None:
    """Where a Close is the subject, by the case; elsewhere as the close of a case."""
    with planted(FailureCode) as name:
        assert learned(name) == Manners(close_code=1002)
        for id in ("7.1.14", "T.2.1", "7.3.3"):
            assert result_of(name, id).verdict == "NON-STRICT"
        result = result_of(name, "1.1.1")
    assert (result.verdict, result.close) == ("OK", "NON-STRICT")
