# SPDX-License-Identifier: MIT
"""tools/conformance with a program of its own (--serve), and with clients (--listen)."""

import errno
import io
import json
import os
import re
import signal
import socket
import sys
import threading
import time
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple

import pytest
from common import ROOT, TIMEOUT
from peer import eventually
from program import Program

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cli, listen, progress, report, testee, wire
from conformance.case import (
    Result,
    Settings,
    Test,
)
from conformance_peers import QUICK, Reports, script, usage_error

PYTHON_ECHO = f"{sys.executable} -m pyws echo --port 0"


# ---- --serve ------------------------------------------------------------------------------------

# Says where it listens, and dies in its own way of a frame of 126 bytes or more.
MORTAL = f"""
import os, signal, sys, threading
sys.path[:0] = [{str(ROOT / "tests" / "py")!r}, {str(ROOT / "tools")!r}]
from conformance_peers import LongFrame, echo, fake
died = threading.Event()
def mortal(connection):
    try:
        echo(connection)
    except LongFrame:
        died.set()
with fake(mortal) as port:
    print("port is <%d>" % port, flush=True)
    died.wait()
for i in range(1000):
    print("line", i, file=sys.stderr, flush=True)
"""
PATTERN = ["--port-pattern", r"port is <(\d+)>"]


@pytest.mark.parametrize(
    ("death", "words"),
    [("sys.exit(7)", "exited with 7"), ("os.kill(0, signal.SIGABRT)", "was killed by SIGABRT")],
)
def test_served_dies(death: str, words: str, reports: Reports, tmp_path: Path) -> None:
    """The case that brings it down is told from those beside it, and the run goes on."""
    command = script(tmp_path, MORTAL + death)
    some = ["--include", "1.1.[1-49]", "--timeout", "5", "--retry", "1", *reports.options]
    assert cli.main(["--serve", command, *PATTERN, *some]) == cli.FAILURES
    run = reports.run()
    assert not any(case["flaky"] for case in run["cases"])
    failed = {case["id"]: case["came"] for case in run["cases"] if case["verdict"] == "FAILED"}
    assert {case["id"] for case in run["cases"]} - set(failed) == {"1.1.1", "1.1.2", "1.1.9"}
    assert set(failed) == {"1.1.3", "1.1.4"}
    assert (run["ended"], run["not_run"], run["crashes"]) == ("", [], [])
    for came in failed.values():
        assert came.startswith("the server ended: ")
        assert words in came
        assert "\n    line 999" in came
        assert "line 900" not in came


@pytest.mark.parametrize(
    ("end", "status", "words"),
    [
        ("os._exit(0)", cli.FINE, ""),
        ("print('leaks', file=sys.stderr); os._exit(23)", cli.INCOMPLETE, "exited with 23"),
        ("os.abort()", cli.INCOMPLETE, "was killed by SIGABRT"),
        ("os._exit(128 + 15)", cli.FINE, ""),
    ],
)
def test_served_ends_badly(
    end: str, status: int, words: str, reports: Reports, tmp_path: Path
) -> None:
    """All cases were OK, but the program fails when it is stopped."""
    text = f"""
import os, signal, sys
sys.path[:0] = [{str(ROOT / "tests" / "py")!r}, {str(ROOT / "tools")!r}]
def stop(*_):
    {end}
signal.signal(signal.SIGTERM, stop)
import broken_server
sys.argv = ["broken_server.py"]
broken_server.main()
"""
    command = script(tmp_path, text)
    options = ["--include", "1.1.1", "--timeout", "10", *reports.options]
    assert cli.main(["--serve", command, *options]) == status
    run = reports.run()
    assert words in run["ended"]
    assert [case["verdict"] for case in run["cases"]] == ["OK"]
    assert run["not_run"] == []


@pytest.mark.parametrize(
    ("command", "words"),
    [
        ("/no/such/program", "No such file"),
        ("true", "exited with 0"),
        ("sh -c 'echo oh no >&2; exit 3'", "exited with 3; its last lines:\n    oh no"),
        ("sh -c 'echo listening on nothing; sleep 100'", "printed no port in 1.5 s"),
        ("sh -c 'echo listening on 127.0.0.1:99999; exec sleep 100'", "printed no port"),
        ("sh -c 'exec >&-; exec sleep 100'", "printed no port"),
    ],
)
def test_served_never_starts(command: str, words: str, reports: Reports) -> None:
    assert cli.main(["--serve", command, *QUICK, *reports.options]) == cli.INCOMPLETE
    assert words in reports.run()["ended"]


def test_served(reports: Reports, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command `pyws echo`, with both of its lines."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    for more in ("", " --print-port"):
        command = PYTHON_ECHO + more
        assert cli.main(["--serve", command, "--include", "1.1.*", *reports.options]) == cli.FINE
        assert reports.run()["counts"]["OK"] > 5


def state_and_parent(pid: int) -> Tuple[str, int]:
    """What /proc says of a process; no state once it is gone."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return "", 0
    return fields[0], int(fields[1])


def children(pid: int) -> List[int]:
    everyone = [int(name) for name in os.listdir("/proc") if name.isdigit()]
    return [one for one in everyone if state_and_parent(one)[1] == pid]


def is_alive(pid: int) -> bool:
    return state_and_parent(pid)[0] not in ("", "Z", "X")


@pytest.mark.parametrize("ignore", [False, True])
def test_stopping_a_program_and_its_children(ignore: bool, tmp_path: Path) -> None:
    text = """
import signal, subprocess, sys, time
if %r: signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
print(80, flush=True)
time.sleep(100)
"""
    program = testee.Testee(script(tmp_path, text % ignore))
    with program:
        assert program.target(20.0).port == 80
        pids = [program.process.pid, *children(program.process.pid)]
        program.stop(patience=1.0)
    assert program.process.returncode == (-signal.SIGKILL if ignore else -signal.SIGTERM)
    assert len(pids) == 2
    for pid in pids:
        eventually(lambda pid=pid: not is_alive(pid))  # type: ignore[misc]


@pytest.mark.parametrize(
    ("line", "place"),
    [
        ("listening on 127.0.0.1:80", ("127.0.0.1", 80, False)),
        ("listening on http://localhost:8080/x\n", ("localhost", 8080, False)),
        ("listening on https://localhost:8443/x\n", ("localhost", 8443, True)),
        ("listening on wss://0.0.0.0:8443", ("127.0.0.1", 8443, True)),
        ("server: listening on [::1]:9001", ("::1", 9001, False)),
        ("listening on *:9001", ("127.0.0.1", 9001, False)),
        ("listening on 0.0.0.0:9001", ("127.0.0.1", 9001, False)),
        (" 4711 \n", ("127.0.0.1", 4711, False)),
        ("4711 things", None),
        ("0", None),
        ("listening on port", None),
    ],
)
def test_where_a_program_listens(line: str, place: Optional[Tuple[str, int, bool]]) -> None:
    found = testee.place_in(line, testee.PORT)
    assert (tuple(found) if found else None) == place


# ---- --listen -----------------------------------------------------------------------------------


class Client:
    """A program that tests itself against `--listen`; its echo is that of websockets."""

    def __init__(self, url: str, name: str) -> None:
        self.client = pytest.importorskip("websockets.sync.client")
        self.url = url
        self.name = name

    def connect(self, path: str) -> Any:
        place = wire.Target.parse(self.url)
        sock = socket.create_connection((place.host, place.port), 20)
        url = self.url.rstrip("/") + path
        return self.client.connect(url, sock=sock, max_size=None)

    def ask(self, path: str) -> List[str]:
        with self.connect(path) as connection:
            return list(connection)

    def echo(self, path: str) -> None:
        try:
            with self.connect(path) as connection:
                for message in connection:
                    connection.send(message)
        except Exception as error:
            assert "ConnectionClosed" in type(error).__name__, error

    def run(self, path: str = "/runCase?case={}&agent={}") -> None:
        (count,) = self.ask("/getCaseCount")
        for i in range(1, int(count) + 1):
            self.echo(path.format(i, self.name))
        assert self.ask(f"/updateReports?agent={self.name}") == []


def listening(reports: Reports, *arguments: str) -> Program:
    program = [str(ROOT / "tools" / "conformance"), "--listen", "0", "--jobs", "1"]
    return Program(*program, *reports.options, *arguments)


LISTENING = r"listening on (ws://127\.0\.0\.1:\d+/) with (\d+) cases"


def url_of(program: Program) -> str:
    match = re.match(LISTENING, program.line())
    assert match
    assert int(match.group(2)) > 5
    return match.group(1)


FEW = ["--include", "1.[13].*", "--include", "2.*", "--include", "12.1.*", "--include", "13.3.*"]


def test_clients(reports: Reports) -> None:
    """Two of them, by both kinds of addresses; one does not mask."""
    with listening(reports, *FEW, "--agents", "2", "--timeout", "10") as program:
        url = url_of(program)
        good = Client(url, "good")
        good.run()
        (info,) = good.ask("/getCaseInfo?case=1")
        assert json.loads(info)["id"] == "1.1.1"
        assert good.ask("/getCaseStatus?case=1&agent=good") == ['{"behavior": "OK"}']
        assert good.ask("/getCaseStatus?case=2&agent=new") == ['{"behavior": "UNCLEAN"}']
        bad = Client(url, "bad")
        target = wire.Target.parse(url)
        with socket.create_connection((target.host, target.port), 20) as raw:
            fields = wire.upgrade_fields(target, "dGhlIHNhbXBsZSBub25jZQ==")
            raw.sendall(wire.request("/case/1.1.2?agent=bad", fields))
            eventually(lambda: len(raw.recv(65536, socket.MSG_PEEK)) > 250)
            raw.sendall(wire.frame(b"not masked", key=None))
            raw.settimeout(20)
            while raw.recv(65536):
                pass
        assert bad.ask("/updateReports?agent=bad") == []
        assert program.wait() == cli.INCOMPLETE
        assert program.error_text() == ""
    runs = report.read_json((reports.folder / "json").read_text())
    by_name = {run["peer"]: run for run in runs}
    assert sorted(by_name) == ["bad", "good"]
    assert by_name["good"]["ended"] == ""
    assert by_name["good"]["counts"]["FAILED"] == 0
    assert by_name["good"]["counts"]["OK"] > 30
    assert not by_name["good"]["counts"]["UNIMPLEMENTED"]
    assert not [case for case in by_name["good"]["cases"] if case["id"].startswith("1.3")]
    (case,) = by_name["bad"]["cases"]
    assert (case["id"], case["verdict"]) == ("1.1.2", "FAILED")
    assert "the client did not mask a frame" in case["came"]
    assert by_name["bad"]["ended"] == "the client did not ask for all cases"


PLAIN = "permessage-deflate"
HINT = f"{PLAIN}; client_max_window_bits"


@pytest.mark.parametrize(
    ("wanted", "offered", "agreed"),
    [
        (PLAIN, HINT, PLAIN),
        (HINT, PLAIN, PLAIN),
        (f"{PLAIN}; server_max_window_bits=9", PLAIN, None),
        (f"{PLAIN}; server_max_window_bits=9", HINT, "; client_max_window_bits=9"),
        (f"{PLAIN}; server_max_window_bits=12", f"{HINT}=10", "; client_max_window_bits=10"),
        (f"{PLAIN}; server_no_context_takeover", HINT, "; client_no_context_takeover"),
        (PLAIN, f"{HINT}; server_no_context_takeover", "; server_no_context_takeover"),
        (HINT, f"{PLAIN}; server_max_window_bits=10", "; server_max_window_bits=10"),
        (PLAIN, f"{PLAIN}; server_max_window_bits=10", None),
        (f"{PLAIN}; server_max_window_bits=9, {PLAIN}", f"x, {PLAIN}", PLAIN),
        (HINT, "", None),
        (HINT, f"{PLAIN}; x", None),
        (HINT, ";", None),
    ],
)
def test_terms_with_a_client(wanted: str, offered: str, agreed: Optional[str]) -> None:
    """What a case offers its client has to do, and what the client wants the case has to."""
    found = listen.terms(wanted, offered)
    told = None
    if found is not None:
        told = listen.extension({listen.SWAPPED[name]: value for name, value in found.items()})
    assert told == (PLAIN + agreed if agreed and agreed != PLAIN else agreed)


def test_a_client_by_short_addresses(reports: Reports) -> None:
    with listening(reports, "--include", "1.1.*", "--timeout", "10") as program:
        Client(url_of(program), "c").run("/case/{}?agent={}")
        assert program.wait() == cli.FINE
    assert reports.run()["peer"] == "c"


def test_a_client_that_is_done_before_its_last_case(monkeypatch: pytest.MonkeyPatch) -> None:
    """It saw the end of TCP, and the thread of that case here was slow to come to a result."""
    asked = threading.Event()
    first = next(one for one in listen.for_clients(cli.all_cases()) if one.id == "1.1.1")

    def judge(test: Test) -> Result:
        result = original(test)
        asked.wait(TIMEOUT)
        time.sleep(0.2)
        return result

    def run() -> None:
        listener.run(1, TIMEOUT)

    original = listen.judge  # type: ignore[attr-defined]
    monkeypatch.setattr(listen, "judge", judge)
    settings = Settings(wire.Target("", 0, "/", False))
    observer = progress.observer(1, io.StringIO())
    listener = listen.Listener(("127.0.0.1", 0), [first], settings, lambda name: observer)
    thread = threading.Thread(target=run)
    thread.start()
    try:
        client = Client(f"ws://127.0.0.1:{listener.place[1]}/", "c")
        client.echo("/case/1?agent=c")
        asked.set()
        assert client.ask("/updateReports?agent=c") == []
    finally:
        asked.set()
        thread.join(TIMEOUT)
    assert not thread.is_alive()
    assert listener.agents["c"].outcome([first], False).not_run == []


def test_clients_that_are_none(reports: Reports) -> None:
    """Bytes, floods and silence do not disturb it, and nobody is waited for too long."""
    with listening(reports, "--include", "1.1.*", "--max-time", "3") as program:
        target = wire.Target.parse(url_of(program))
        opened = [socket.create_connection((target.host, target.port), 20) for _ in range(6)]
        kept = opened[1:]
        opened[0].close()
        kept[0].sendall(b"\x16\x03\x01\xff\r\n\r\n")
        kept[1].sendall(b"GET http://[ HTTP/1.1\r\nSec-WebSocket-Key: x\r\n\r\n")
        kept[2].sendall(wire.request("/case/99999", wire.upgrade_fields(target, "x")))
        kept[2].settimeout(20)
        assert kept[2].recv(100).startswith(b"HTTP/1.1 404 ")
        try:
            kept[3].sendall(b"x" * 10_000_000)
        except OSError:
            pass
        assert program.wait() == cli.INCOMPLETE
        assert program.rest() == (
            "a client uses TLS, but this is ws://, not wss:// (see --cert)\n"
            "The run ended early, 12 cases were not run:\n"
            "no client came: the run took more than 3 s\n"
        )
        assert program.error_text() == ""
        for connection in kept:
            connection.close()
    assert reports.run()["not_run"]


def test_a_client_is_missing(reports: Reports) -> None:
    options = ["--include", "1.1.*", "--agents", "2", "--max-time", "6"]
    with listening(reports, *options) as program:
        Client(url_of(program), "c").run("/case/{}?agent={}")
        assert program.wait() == cli.INCOMPLETE
        assert "the run took more than 6 s" in program.rest()
    assert reports.run()["peer"] == "c"


def test_no_place_to_listen(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        error = usage_error(capsys, "--listen", f"{port}")
        assert f"cannot listen on 127.0.0.1:{port}" in error
    assert "must be [HOST:]PORT" in usage_error(capsys, "--listen", "x")


Found = Dict[str, List[str]]


def make_names(monkeypatch: pytest.MonkeyPatch, found: Found) -> None:
    """Make names with these addresses, of which 192.0.2.1 belongs to another machine."""

    def resolve(host: str, port: object, **_: Any) -> List[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in found[host]]

    create = socket.create_server

    def bind(address: Tuple[str, int], **settings: Any) -> socket.socket:
        if address[0] == "192.0.2.1":
            raise OSError(errno.EADDRNOTAVAIL, "not here")
        return create(address, **settings)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_server", bind)


def test_all_addresses_of_a_name_are_listened_at(monkeypatch: pytest.MonkeyPatch) -> None:
    several = ["192.0.2.1", "127.0.1.1", "127.0.1.2", "127.0.1.2"]
    make_names(monkeypatch, {"several": several, "missing": ["192.0.2.1"]})
    one, two = listen.listening_at("several", 0)
    with one, two:
        assert [one.getsockname()[0], two.getsockname()[0]] == ["127.0.1.1", "127.0.1.2"]
        assert one.getsockname()[1] == two.getsockname()[1]
        with pytest.raises(OSError) as caught:
            listen.listening_at("several", one.getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match="not here"):
        listen.listening_at("missing", 0)


@pytest.mark.parametrize("taken", [1, 15, 16])
def test_another_port_if_the_first_is_taken_elsewhere(
    monkeypatch: pytest.MonkeyPatch, taken: int
) -> None:
    """The kernel picks a port for the first address; at the second one it may belong to others."""
    make_names(monkeypatch, {"several": ["127.0.1.1", "127.0.1.2"]})
    create = socket.create_server
    ports: List[int] = []
    opened: List[socket.socket] = []

    def bind(address: Tuple[str, int], **settings: Any) -> socket.socket:
        if address[0] == "127.0.1.2":
            ports.append(address[1])
            if len(ports) <= taken:
                raise OSError(errno.EADDRINUSE, "of another program")
        opened.append(create(address, **settings))
        return opened[-1]

    monkeypatch.setattr(socket, "create_server", bind)
    if taken == 16:
        with pytest.raises(OSError, match="of another program"):
            listen.listening_at("several", 0)
        assert len(ports) == 16
    else:
        sockets = listen.listening_at("several", 0)
        assert sockets == opened[-2:]
        assert [one.getsockname()[1] for one in sockets] == ports[-1:] * 2
        assert len(ports) == taken + 1
        for one in sockets:
            one.close()
    assert all(one.fileno() < 0 for one in opened)
