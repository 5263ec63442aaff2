# SPDX-License-Identifier: MIT
"""tools/conformance: what cases quote, and what they make of peers with manners of their own.

Whole servers with such manners are in unusual_server.py; here are the parts that cases are made of.
"""

import re
import socket
import sys
import threading
from dataclasses import replace
from typing import Callable, List

import pytest
from broken_server import Server
from common import ROOT
from conformance_peers import Handler, fake, make_case, upgrade
from delay_proxy import DelayProxy

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cases, wire
from conformance.case import CASES, MAY, Case, Manners, Result, Settings, run
from conformance.session import Session

assert cases  # its import registers them

GROUPS = ("1", "2", "3", "4", "5", "6", "7", "9", "10")


# ---- quotes -------------------------------------------------------------------------------------

# In small letters, or in other words.
OTHER_WORDS = {"2.7": "is not expected", "2.8": "is not expected", "2.18": "is not expected"}
OTHER_WORDS["2.19"] = "must have identical"


def ours() -> List[Case]:
    return [case for case in CASES.values() if case.group in GROUPS]


def test_a_quote_carries_the_level_of_its_case() -> None:
    """A MAY is what a case makes INFORMATIONAL, whatever the sentence is about."""
    lacking = {
        case.id: case.quote
        for case in ours()
        if case.level not in (MAY, *re.findall("[A-Z]+", case.quote))
        and OTHER_WORDS.get(case.id, "\0") not in case.quote
    }
    assert lacking == {}


def test_no_quote_says_what_only_clients_must_do() -> None:
    about_clients = re.compile(r"(?<!and )\b[Cc]lients? (MUST|SHOULD)|chosen .* by the client")
    assert [c.id for c in ours() if c.level != MAY and about_clients.search(c.quote)] == []


def test_quotes_of_several_sections_name_them() -> None:
    """As "RFC 6455 5.4 and 10.7" and "... [10.7:] ..."."""
    for case in CASES.values():
        others = re.findall(r"\[([\d.]+):\]", case.quote)
        assert case.section.split(" and ")[1:] == others, case.id


# ---- what is read -------------------------------------------------------------------------------


def with_session(handler: Handler, body: Callable[[Session], None]) -> Result:
    """A case that opens a connection to such a server."""
    with fake(handler) as port:
        return run(make_case("1.1", lambda test: body(test.open())), settings(port))


def settings(port: int, timeout: float = 5.0) -> Settings:
    return Settings(wire.Target("127.0.0.1", port, "/", False), timeout=timeout)


def sends(*parts: bytes) -> Handler:
    """A server that sends these, and reads until a Close comes."""

    def handler(connection: socket.socket) -> None:
        upgrade(connection)
        for part in parts:
            connection.sendall(part)
        data = connection.recv(65536)
        while data and data[0] != 0x88:
            data = connection.recv(65536)

    return handler


PARTS = (b"\x01\x02He", b"\x89\x01?", b"\x8a\x04beat", b"\x00\x02ll", b"\x8a\x00", b"\x80\x01o")


def test_a_message_may_have_control_frames_between_its_fragments() -> None:
    def body(session: Session) -> None:
        assert session.read_message("a message") == (1, 0, b"Hello")

    result = with_session(sends(*PARTS), body)
    assert result.verdict.value == "OK", result.came
    assert any(event.what == "sent" and event.data[0] == 0x8A for event in result.trace.events)


def test_the_beginning_of_a_message_is_no_answer() -> None:
    """A server may echo as it receives."""

    def body(session: Session) -> None:
        session.expect_silence(0.05)
        session.expect_failure(1002)

    result = with_session(sends(*PARTS[:4], b"\x88\x02\x03\xea"), body)
    assert result.verdict.value == "FAILED"  # a Close came while silence was expected
    assert "Close" in result.came
    result = with_session(sends(*PARTS[:4], b"\x88\x02\x03\xea"), lambda s: s.expect_failure(1002))
    assert result.verdict.value == "OK", result.came
    result = with_session(sends(*PARTS), lambda s: s.expect_failure(1002))
    assert result.verdict.value == "FAILED"


def test_pongs_for_pings_are_no_heartbeat() -> None:
    def body(session: Session) -> None:
        session.send(session.frame(b"mine", 9))
        session.expect_message(b"")

    result = with_session(sends(b"\x8a\x04beat", b"\x81\x00"), body)
    assert result.verdict.value == "OK", result.came

    def silence(session: Session) -> None:
        session.send(session.frame(b"mine", 9))
        session.expect_silence(5.0)

    assert with_session(sends(b"\x8a\x04mine"), silence).verdict.value == "FAILED"


@pytest.mark.parametrize("cut", [1, 2, 3, 5, -1])
@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"\x81\x05Hello", id="7 bits"),
        pytest.param(b"\x81\x7e\x00\x7e" + b"x" * 126, id="16 bits"),
        pytest.param(b"\x81\x7f" + (65536).to_bytes(8, "big") + b"x" * 65536, id="64 bits"),
    ],
)
def test_a_frame_that_is_waited_for_twice(data: bytes, cut: int) -> None:
    """Nothing is lost when the first wait ends within it."""
    go_on = threading.Event()

    def handler(connection: socket.socket) -> None:
        upgrade(connection)
        connection.sendall(data[:cut])
        go_on.wait(10)
        connection.sendall(data[cut:])
        connection.recv(1)

    def body(session: Session) -> None:
        assert not session.answers(0.05)
        go_on.set()
        assert session.answers(5.0)
        assert data.endswith(session.read("a message").payload)

    result = with_session(handler, body)
    assert result.verdict.value == "OK", result.came


# ---- limits -------------------------------------------------------------------------------------


def answers_first(answer: bytes) -> Handler:
    """A server that answers any message in this way, and ends TCP."""

    def handler(connection: socket.socket) -> None:
        upgrade(connection)
        connection.recv(1)
        connection.sendall(answer)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(65536):
            pass

    return handler


LIMITED = [
    ("1.1.7", b"\x88\x02\x03\xf1", "INFORMATIONAL"),  # 1009
    ("1.1.7", b"\x88\x02\x03\xf0", "NON-STRICT"),  # 1008
    ("1.1.7", b"\x88\x02\x03\xe8", "NON-STRICT"),
    ("1.1.7", b"\x88\x00", "NON-STRICT"),
    ("1.1.7", b"", "NON-STRICT"),
    ("1.1.7", b"\x88\x02\x03\xed", "FAILED"),  # 1005, which nobody may send
    ("1.1.6", b"\x88\x02\x03\xf1", "INFORMATIONAL"),
    ("1.1.5", b"\x88\x02\x03\xf1", "FAILED"),  # a message of 128 bytes is for everyone
    ("1.1.5", b"", "FAILED"),
    ("9.3.1", b"\x88\x02\x03\xf0", "INFORMATIONAL"),  # so many fragments may be called a flood
    ("7.1.6", b"\x88\x02\x03\xf1", "INFORMATIONAL"),
    ("7.1.6", b"\x88\x02\x03\xe8", "INFORMATIONAL"),
    ("7.1.6", b"\x88\x02\x03\xf0", "NON-STRICT"),
    ("7.1.6", b"", "NON-STRICT"),
]


@pytest.mark.parametrize(("id", "answer", "verdict"), LIMITED)
def test_a_limit_is_no_fault(id: str, answer: bytes, verdict: str) -> None:
    """However the server ends the connection (RFC 6455 section 10.4); the code is a SHOULD."""
    with fake(answers_first(answer)) as port:
        result = run(CASES[id], settings(port))
    assert result.verdict.value == verdict, result.came


# ---- distance -----------------------------------------------------------------------------------


def test_far_away_messages_are_under_way_side_by_side() -> None:
    """Else a thousand round trips would not fit into the time of a case."""
    manners = Manners(round_trip=0.1)
    with Server() as server, DelayProxy(server.port, 0.05) as proxy:
        result = run(CASES["1.1.11"], replace(settings(proxy.port), manners=manners))
    assert result.verdict.value == "OK", result.came
    assert result.seconds < 301 * 0.1


# ---- parts of frames ----------------------------------------------------------------------------


def test_a_ping_is_not_answered_within_a_frame() -> None:
    """What is sent then would be a part of it."""

    def body(session: Session) -> None:
        data = session.frame(b"Hello")
        with session.in_parts():
            session.send(data[:3])
            session.expect_silence(0.05)
            session.send(data[3:])
        session.expect_message(b"Hello")

    def handler(connection: socket.socket) -> None:
        upgrade(connection)
        connection.sendall(b"\x89\x01?")
        data = b""
        while len(data) < 11 + 7:  # the message, and the Pong behind it
            data += connection.recv(65536)
        if data[0] == 0x81 and data[11] == 0x8A:
            connection.sendall(b"\x81\x05Hello\x88\x00")

    assert with_session(handler, body).verdict.value == "OK"
