# SPDX-License-Identifier: MIT
"""tools/conformance before its first case: what it learns of a server, and whom it cannot test."""

import socket
import sys
import threading
from typing import Any, Callable, Iterator, List

import pytest
from common import ROOT
from conformance_peers import Handler, Reports, echo, fake, greet, read_frame, upgrade
from delay_proxy import DelayProxy

sys.path.insert(0, str(ROOT / "tools"))

from conformance import arguments, cli, probe, wire
from conformance.case import MUST, Case, Settings, Test, run
from conformance.verdicts import Verdict

Test.__test__ = False  # type: ignore[attr-defined]  # it is no class of tests
PATIENCE = 5.0  # seconds; only a server that never answers needs them


def target(port: int, **more: Any) -> wire.Target:
    return wire.Target("127.0.0.1", port, "/", False, **more)


def fail_with(body: bytes) -> Handler:
    """An echo server that fails connections with a Close of this body."""

    def handler(connection: socket.socket) -> None:
        upgrade(connection)
        while True:
            opcode, payload = read_frame(connection)
            known = opcode in (wire.TEXT, wire.CLOSE)
            answer = (payload, opcode) if known else (body, wire.CLOSE)
            connection.sendall(wire.frame(*answer, key=None))

    return handler


# ---- manners ------------------------------------------------------------------------------------


def test_an_ordinary_server() -> None:
    with fake(echo) as port:
        manners = probe.learn(target(port), PATIENCE)
        assert (manners.greetings, manners.one_connection) == (0, False)
        assert probe.failure_code(target(port), PATIENCE) == 1002


def test_messages_that_nobody_asked_for() -> None:
    with fake(greet) as port:
        assert probe.learn(target(port), PATIENCE).greetings == 1


@pytest.mark.parametrize(("body", "code"), [(b"", None), (b"\x03\xf3", 1011)])
def test_how_a_connection_is_failed(body: bytes, code: Any) -> None:
    with fake(fail_with(body)) as port:
        assert probe.failure_code(target(port), PATIENCE) == code


def test_a_connection_that_is_failed_without_a_close() -> None:
    def handler(connection: socket.socket) -> None:
        upgrade(connection)
        read_frame(connection)
        connection.close()

    with fake(handler) as port, pytest.raises(probe.Unfit, match="sends no Close frame"):
        probe.failure_code(target(port), PATIENCE)


def one_at_a_time() -> Handler:
    turn = threading.Lock()

    def handler(connection: socket.socket) -> None:
        with turn:
            echo(connection)

    return handler


def test_one_connection_at_a_time(reports: Reports) -> None:
    """Is found out, and cases that need more are left out with this reason."""
    with fake(one_at_a_time()) as port:
        assert probe.learn(target(port), 1.0).one_connection
        few = ["--include", "1.1.[1-2]", "--include", "B.1.6", "--timeout", "1"]
        assert cli.main([f"ws://127.0.0.1:{port}/", *few, *reports.options]) == cli.FINE
    verdicts = {case["id"]: (case["verdict"], case["came"]) for case in reports.run()["cases"]}
    assert verdicts["1.1.1"][0] == verdicts["1.1.2"][0] == "OK"
    assert verdicts["B.1.6"] == ("SKIPPED", "the server serves one connection at a time")


def test_a_server_that_is_far_away() -> None:
    """The round trip is measured, and every wait of a case is longer by some of it."""
    with fake(echo) as port, DelayProxy(port, 0.1) as proxy:
        manners = probe.learn(target(proxy.port), PATIENCE)
    assert 0.2 <= manners.round_trip < PATIENCE
    settings = Settings(target(proxy.port), timeout=0.1, manners=manners)
    test = Test(settings, make_case(lambda test: None))
    assert test.timeout > 0.1 + 2 * manners.round_trip
    assert test.seconds(0.2) > 0.2 + manners.round_trip
    assert test.trace.deadline - test.trace.began > settings.limit + 10 * manners.round_trip


# ---- servers that cannot be tested --------------------------------------------------------------


def say(data: bytes) -> Handler:
    """The same for every message."""

    def handler(connection: socket.socket) -> None:
        upgrade(connection)
        while True:
            read_frame(connection)
            connection.sendall(data)

    return handler


def answer(head: bytes) -> Handler:
    def handler(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b"HTTP/1.1 " + head + b"\r\nContent-Length: 0\r\n\r\n")
        connection.close()

    return handler


@pytest.mark.parametrize(
    ("handler", "words"),
    [
        (say(b"\x81\x05hello"), "does not echo: after Text 'conformance 0', it sent Text"),
        (say(b""), ", received nothing for 1."),
        (say(b"\x88\x02\x03\xf0"), ", it sent Close 1008 ''"),
        (answer(b"401 Unauthorized"), "with 401 Unauthorized: log in with --header"),
        (answer(b"404 Not Found"), "with 404 Not Found: is the path correct?"),
        (answer(b"301 Moved\r\nLocation: /ws"), "with 301 Moved, to '/ws'"),
    ],
    ids=["other messages", "nothing", "a Close", "login", "no such path", "redirect"],
)
def test_no_echo_server(handler: Handler, words: str, reports: Reports) -> None:
    """One sentence, and a status that tells it from failures."""
    with fake(handler) as port:
        url = f"ws://127.0.0.1:{port}/"
        few = ["--timeout", "1", "--include", "1.1.*"]
        assert cli.main([url, *few, *reports.options]) == cli.INCOMPLETE
    run = reports.run()
    assert words in run["ended"]
    assert "\n" not in run["ended"]
    assert (run["cases"], len(run["not_run"])) == ([], 12)


# ---- a login ------------------------------------------------------------------------------------

SECRET = "correct-horse-battery"
LOGINS = [
    (["--header", f"Authorization: Bearer {SECRET}"], f"Authorization: Bearer {SECRET}"),
    (["--cookie", "id=7", "--cookie", f"session={SECRET}"], f"Cookie: id=7; session={SECRET}"),
    (["--query", f"token={SECRET}"], f"GET /?token={SECRET} HTTP/1.1"),
]


@pytest.mark.parametrize(("options", "line"), LOGINS, ids=["header", "cookie", "query"])
def test_a_login_is_in_every_request_and_in_no_report(
    options: List[str], line: str, reports: Reports, capsys: pytest.CaptureFixture[str]
) -> None:
    heads: List[str] = []

    def handler(connection: socket.socket) -> None:
        heads.append(connection.recv(65536, socket.MSG_PEEK).decode())
        (echo if line in heads[-1].split("\r\n") else answer(b"401 No"))(connection)

    with fake(handler) as port:
        url = f"ws://127.0.0.1:{port}/"
        few = ["--include", "1.1.[1-2]", *reports.options]
        assert cli.main([url, *few, *options]) == cli.FINE
    assert len(heads) > 4
    assert all(line in head.split("\r\n") for head in heads)
    reports.run()
    written = [path.read_text() for path in reports.folder.iterdir()]
    assert len(written) >= len(arguments.FORMS)
    for text in (*written, *capsys.readouterr()):
        assert SECRET not in text
        assert SECRET.encode().hex() not in text


def test_origin_and_subprotocols() -> None:
    heads: List[str] = []

    def handler(connection: socket.socket) -> None:
        heads.append(connection.recv(65536, socket.MSG_PEEK).decode())
        echo(connection)

    with fake(handler) as port:
        few = ["--include", "1.1.1", "--origin", "https://a.example", "--protocol", "chat, v2"]
        assert cli.main([f"ws://127.0.0.1:{port}/", *few]) == cli.FINE
    for head in heads:
        assert "\r\nOrigin: https://a.example\r\n" in head
        assert "\r\nSec-WebSocket-Protocol: chat, v2\r\n" in head


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--header", "Authorization"], "must have the form 'Name: value', not 'Authorization'"),
        (["--header", "A b: c"], "must have the form 'Name: value'"),
        (["--header", "A: b\r\nC: d"], "must be printable ASCII characters"),
        (["--cookie", ""], "must be printable ASCII characters, not ''"),
        (["--query", "a=b c"], "must not contain whitespace or '#'"),
    ],
)
def test_what_cannot_be_sent(
    arguments: List[str], words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as info:
        cli.main(["ws://127.0.0.1:9/", *arguments])
    assert info.value.code == cli.USAGE
    assert words in capsys.readouterr().err


# ---- what cases stand on ------------------------------------------------------------------------


def make_case(body: Callable[[Test], None]) -> Case:
    return Case("1.1", "RFC 6455 5.1", MUST, "a quote", "things", "others", body)


def test_sending_does_not_wait_for_a_peer_that_waits_for_its_reader() -> None:
    """As servers do that read only while they can write."""
    size = 8 << 20  # more than the buffers of both sides hold

    def handler(connection: socket.socket) -> None:
        upgrade(connection)
        connection.sendall(wire.frame(b"x" * size, wire.BINARY, key=None))
        while connection.recv(65536):
            pass

    def body(test: Test) -> None:
        session = test.open()
        session.send(session.message(b"y" * size, wire.BINARY))
        session.expect_message(b"x" * size, wire.BINARY)

    with fake(handler) as port:
        case = Case("1.1", "", MUST, "", "", "", body, frozenset({"limits"}))
        result = run(case, Settings(target(port), timeout=20.0))
    assert result.verdict == Verdict.OK, result.came


def closings() -> Iterator[Any]:
    def stay(connection: socket.socket) -> None:
        connection.recv(1)

    yield "answered", b"\x88\x02\x03\xe8", None, Verdict.OK, Verdict.OK
    yield "left open", b"\x88\x02\x03\xe8", stay, Verdict.OK, Verdict.FAILED
    yield "unanswered", b"", stay, Verdict.OK, Verdict.FAILED
    yield "cut", b"", None, Verdict.OK, Verdict.FAILED
    yield "without a code", b"\x88\x00", None, Verdict.OK, Verdict.NON_STRICT
    yield "failed", b"\x88\x02\x03\xea", None, Verdict.NON_STRICT, Verdict.OK
    yield "more behind", b"\x88\x02\x03\xe8\x81\x01x", stay, Verdict.FAILED, Verdict.OK
    yield "another echo", b"\x81\x01x\x88\x02\x03\xe8", None, Verdict.FAILED, Verdict.OK


@pytest.mark.parametrize(
    ("data", "then", "verdict", "close"), [pytest.param(*row[1:], id=row[0]) for row in closings()]
)
def test_how_a_connection_is_closed_is_a_verdict_of_its_own(
    data: bytes, then: Any, verdict: Verdict, close: Verdict
) -> None:
    def handler(connection: socket.socket) -> None:
        upgrade(connection)
        read_frame(connection)
        connection.sendall(data)
        if then:
            then(connection)
        connection.close()

    with fake(handler) as port:
        case = make_case(lambda test: test.open().close())
        result = run(case, Settings(target(port), timeout=1.0))
    assert (result.verdict, result.close) == (verdict, close), (result.came, result.close_came)
    assert bool(result.close_came) == (close != Verdict.OK)
