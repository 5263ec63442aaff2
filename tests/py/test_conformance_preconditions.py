# SPDX-License-Identifier: MIT
"""tools/conformance: what a case needs of a server before it can be about anything. Where that does
not hold, the case is SKIPPED and tells why; where the RFC leaves it open, it is INFORMATIONAL."""

import socket
import sys
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import List, Set

import pytest
from broken_server import Server
from common import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cases, wire
from conformance.case import (
    CASES,
    ONE_CONNECTION,
    Case,
    Manners,
    Result,
    Settings,
    Test,
    natural,
    run,
)
from conformance.cases import flow
from conformance.wire import Target
from conformance_peers import fake, hang, make_case, read_frame, upgrade

assert cases  # its import registers them

ONE = Manners(one_connection=True)


def result_of(switches: List[str], case: Case, manners: Manners, timeout: float = 1.0) -> Result:
    with Server(switches) as server:
        target = Target("127.0.0.1", server.port, "/", False)
        return run(case, Settings(target, timeout=timeout, manners=manners))


# ---- several connections ------------------------------------------------------------------------


def asks_for_more(case: Case) -> bool:
    """Whether the case, untagged, asks for a connection while it has one."""
    untagged = replace(case, tags=case.tags - {"several"})
    for timeout in (1.0, 5.0):  # on a busy machine it may not get as far
        result = result_of([], untagged, ONE, timeout)
        if (result.verdict.value, result.came) == ("SKIPPED", ONE_CONNECTION):
            return True
        if result.verdict.value == "OK":
            break
    return False


@pytest.mark.timeout(180)
def test_what_needs_several_connections_is_tagged_so() -> None:
    some = sorted(CASES.values(), key=lambda case: natural(case.id))
    with ThreadPoolExecutor(16) as pool:
        asking = list(pool.map(asks_for_more, some))
    several: Set[str] = {case.id for case, asks in zip(some, asking) if asks}
    tagged = {case.id for case in some if "several" in case.tags}
    assert sorted(several - tagged, key=natural) == []
    assert sorted(tagged - several, key=natural) == []
    assert len(tagged) > 40


def test_a_server_with_one_connection_is_not_asked_for_more() -> None:
    result = result_of([], CASES["T.4.1"], ONE)
    assert (result.verdict.value, result.came) == ("SKIPPED", ONE_CONNECTION)
    assert result.trace.events == []


@pytest.mark.parametrize("id", ["S.1.10", "S.1.12", "S.2.19", "S.2.20", "S.3.13"])
def test_cuts_are_tried_one_by_one_where_only_one_is_served(id: str) -> None:
    result = result_of(["one-at-a-time"], CASES[id], ONE, timeout=3.0)
    assert result.verdict.value == "OK", result.came


# ---- what others are about ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("switch", "id", "told"),
    [
        ("key-not-needed", "F.2.7", "a handshake without a key is accepted"),
        ("key-not-needed", "T.4.4", "a handshake without a key is accepted"),
        ("101-for-everything", "T.1.11", "a plain GET: a request without Upgrade was answered"),
        ("error-body-too-short", "T.1.13", "the body of the response is incomplete"),
        ("rsv-ignored", "T.2.7", "expected the connection to be failed, but received Text 'x'"),
        ("failure-without-close", "T.2.9", "the server fails connections without a Close"),
        ("long-control-accepted", "S.2.24", "in one write: a control frame is fragmented"),
        ("unmasked-accepted", "S.2.31", "in one write: expected a Close or the end of TCP"),
    ],
)
def test_a_case_is_about_its_own_subject(switch: str, id: str, told: str) -> None:
    result = result_of([switch], CASES[id], Manners())
    assert (result.verdict.value, result.came[: len(told)]) == ("SKIPPED", told)


@pytest.mark.parametrize(
    ("switch", "id"),
    [
        ("one-at-a-time", "F.2.3"),  # how many are served at a time
        ("one-at-a-time", "F.2.4"),
        ("stops-after-100", "F.1.7"),  # a limit for floods
        ("pings-end-tcp", "F.1.9"),
    ],
)
def test_what_is_left_open_is_told(switch: str, id: str) -> None:
    assert result_of([switch], CASES[id], Manners()).verdict.value == "INFORMATIONAL"


@pytest.mark.parametrize("id", ["S.3.7", "S.3.8", "S.3.12"])
def test_early_data_may_be_lost(id: str) -> None:
    result = result_of(["ignores-early-data"], CASES[id], Manners())
    assert result.verdict.value == "NON-STRICT", result.came


def test_echoes_after_a_pause_are_not_out_of_order() -> None:
    """A busy server may pause for longer than a timeout; its echoes are still the right ones."""
    payloads = flow.numbered(10, 20)

    def body(test: Test) -> None:
        session = test.open()
        session.send(bytes(flow.binary(session, payloads)))
        flow.expect_echoes(session, payloads)

    def pausing(connection: socket.socket) -> None:
        upgrade(connection)
        for payload in payloads[:5]:
            connection.sendall(wire.frame(payload, wire.BINARY, key=None))
        asked = 0
        while asked < 2:
            asked += read_frame(connection)[1] == b"the last one"
        for payload in (*payloads[5:], b"the last one"):
            connection.sendall(wire.frame(payload, wire.BINARY, key=None))
        hang(connection)

    with fake(pausing) as port:
        settings = Settings(Target("127.0.0.1", port, "/", False), timeout=0.3)
        result = run(make_case("1.1", body), settings)
    assert result.came == "the last echoes are missing or late"
    assert (result.verdict.value, result.late) == ("INFORMATIONAL", True)


@pytest.mark.parametrize(
    "body, came",
    [(b"<!doctype html>", "after '<!doctype html>'"), (b"", "without one")],
    ids=["body", "nothing"],
)
def test_a_body_without_a_head_is_shown(body: bytes, came: str) -> None:
    """Tomcat sends such a body after a request without a version."""

    def handler(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(body)
        connection.shutdown(socket.SHUT_WR)
        hang(connection)

    with fake(handler) as port:
        result = run(CASES["P.4.12"], Settings(Target("127.0.0.1", port, "/", False)))
    assert result.verdict.value == "NON-STRICT"
    assert result.came == f"expected an HTTP response, but the connection was closed {came}"


def test_a_verdict_after_a_wait_in_vain_is_late() -> None:
    """A busy server, too, may wait for the end of a message, so the case is run again alone."""
    result = result_of(["utf8-late"], CASES["6.4.1"], Manners())
    assert (result.verdict.value, result.late) == ("NON-STRICT", True)


@pytest.mark.parametrize("id", ["T.2.3", "T.2.4", "T.2.5", "T.2.9", "T.2.10"])
def test_a_reset_after_the_close_is_no_matter(id: str) -> None:
    result = result_of(["end-as-reset"], CASES[id], Manners())
    assert result.verdict.value == "OK", result.came
