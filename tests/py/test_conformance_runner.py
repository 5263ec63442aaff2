"""tools/conformance: the runner believes nothing, always ends, and always writes what it has."""

import errno
import io
import json
import os
import re
import shutil
import signal
import socket
import ssl
import subprocess
import sys
import threading
import time
import xml.etree.ElementTree as ElementTree
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Sequence, Tuple

import pytest
from common import ROOT, TIMEOUT
from peer import eventually
from program import Program

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cli, listen, progress, report, runner, testee, wire
from conformance.case import (
    MUST,
    SHOULD,
    Case,
    Failed,
    Late,
    Result,
    Settings,
    Skipped,
    Test,
    Verdict,
)

Test.__test__ = False  # type: ignore[attr-defined]  # it is no class of tests
Handler = Callable[[socket.socket], object]

QUICK = ["--timeout", "0.3", "--include", "1.1.*", "--include", "4.*"]
PYTHON_ECHO = f"{sys.executable} -m pyws echo --port 0"


# ---- peers --------------------------------------------------------------------------------------


@contextmanager
def fake(handler: Handler, connections: Optional[int] = None) -> Iterator[int]:
    """A server whose every connection is handled in a thread; its port. It goes after some."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=100)
    over = threading.Event()
    opened: List[socket.socket] = []

    def serve() -> None:
        while connections is None or len(opened) < connections:
            try:
                connection = listener.accept()[0]
            except OSError:
                return
            opened.append(connection)
            threading.Thread(target=handle, args=[connection], daemon=True).start()
        listener.close()

    def handle(connection: socket.socket) -> None:
        try:
            handler(connection)
        except (OSError, ValueError):
            pass

    thread = threading.Thread(target=serve, daemon=True)
    thread.start()
    try:
        yield listener.getsockname()[1]
    finally:
        over.set()
        try:
            listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass
        listener.close()
        for connection in list(opened):
            connection.close()
        thread.join(10)


def upgrade(connection: socket.socket) -> None:
    """Do the opening handshake."""
    head = b""
    while b"\r\n\r\n" not in head:
        data = connection.recv(65536)
        if not data:
            raise OSError("no request")
        head += data
    key = re.search(rb"Sec-WebSocket-Key: (\S+)", head)
    accept = wire.accept_value(key.group(1).decode() if key else "")
    connection.sendall(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
    )


def hang(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def leave(connection: socket.socket) -> None:
    upgrade(connection)
    connection.close()


def refuse(connection: socket.socket) -> None:
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
    connection.close()


class LongFrame(ValueError):
    """The header of a frame of more than 125 bytes came."""


def read_frame(connection: socket.socket) -> Tuple[int, bytes]:
    """Opcode and payload of a short masked frame."""

    def exactly(n: int) -> bytes:
        data = b""
        while len(data) < n:
            more = connection.recv(n - len(data))
            if not more:
                raise OSError("no frame")
            data += more
        return data

    head = exactly(6)
    if head[1] & 127 > 125:
        raise LongFrame("it is not read")
    return head[0] & 15, wire.masked(exactly(head[1] & 127), head[2:])


def echo(connection: socket.socket, first: bytes = b"") -> None:
    """Short messages, and the closing handshake."""
    upgrade(connection)
    connection.sendall(first)
    while True:
        opcode, payload = read_frame(connection)
        known = opcode in (wire.TEXT, wire.BINARY, wire.CLOSE)
        opcode, payload = (opcode, payload) if known else (wire.CLOSE, b"\x03\xea")
        connection.sendall(wire.frame(payload, opcode, key=None))
        if opcode == wire.CLOSE:
            connection.close()


def greet(connection: socket.socket) -> None:
    """Echo, after a message of its own."""
    echo(connection, wire.frame(b"welcome", key=None))


def turning(handler: Handler, good: int = 3, echo: Handler = echo) -> Handler:
    """Echoes on so many connections, as many as are made before the first case; then `handler`."""
    made: List[int] = []

    def turned(connection: socket.socket) -> object:
        made.append(1)
        return (echo if len(made) <= good else handler)(connection)

    return turned


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


def flood(data: bytes, greet: bool = True, first: bytes = b"") -> Handler:
    """Send the same again and again."""

    def handler(connection: socket.socket) -> None:
        if greet:
            upgrade(connection)
        connection.sendall(first)
        while True:
            connection.sendall(data)

    return handler


# ---- the command --------------------------------------------------------------------------------


class Reports:
    """The reports of a run, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options: List[str] = []
        for form in cli.FORMS:
            self.options += [f"--{form}", str(folder / form)]

    def run(self) -> Dict[str, Any]:
        """The JSON report, once all the others are sound."""
        (run,) = report.read_json((self.folder / "json").read_text())
        cases, missing = run["cases"], run["not_run"]
        root = ElementTree.parse(str(self.folder / "junit")).getroot()
        errors = bool(run["ended"]) + len(run["crashes"])
        tests = len(cases) + bool(cases)  # the last one is about all closes
        assert len(root.findall("testsuite/testcase")) == tests + errors
        assert len(root.findall(".//error")) == errors
        lines = (self.folder / "tap").read_text().splitlines()
        assert lines[:2] == ["TAP version 13", f"1..{tests + len(missing)}"]
        numbered = [re.match(r"(not )?ok (\d+) - ", line) for line in lines]
        assert [int(m.group(2)) for m in numbered if m] == list(range(1, tests + 1))
        assert lines[-1].startswith("Bail out! ") == bool(run["ended"])
        assert "</html>" in (self.folder / "html").read_text()
        for form in ("markdown", "table"):
            assert "| **All** |" in (self.folder / form).read_text()
        return run


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    return Reports(tmp_path)


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as info:
        cli.main(arguments)
    assert info.value.code == cli.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    *usage, error = captured.err.splitlines()
    assert len(usage) < 3
    return error


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        ([], "a URL, --serve CMD or --listen PORT is needed"),
        (["http://localhost"], "is not ws://HOST"),
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
        (["report", __file__, "--html", "-"], "Extra data"),
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
    parser = cli.run_parser("conformance")
    for case in cli.all_cases():
        assert cli.show_case(parser, case.id) == cli.FINE
    capsys.readouterr()
    with pytest.raises(SystemExit) as info:
        cli.main(["--help"])
    assert info.value.code == 0
    assert "130  interrupted" in capsys.readouterr().out


def test_both_names() -> None:
    """From a checkout, and as a module."""
    for arguments in ([str(ROOT / "tools" / "conformance")], ["-m", "tools.conformance"]):
        with Program(*arguments, "--list", "--include", "1.1.1") as program:
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


def unused_port() -> int:
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return int(unused.getsockname()[1])


def check_incomplete(reports: Reports, url: str, reason: str) -> Dict[str, Any]:
    """The run ends with status 3, and with the reports."""
    began = time.monotonic()
    assert cli.main([url, *QUICK, *reports.options]) == cli.INCOMPLETE
    assert time.monotonic() - began < 40
    run = reports.run()
    assert re.search(reason, run["ended"]), run["ended"]
    return run


def test_nobody_there(reports: Reports, capsys: pytest.CaptureFixture[str]) -> None:
    run = check_incomplete(reports, f"ws://127.0.0.1:{unused_port()}", "Connection refused")
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
    ("wss", garbage, "no TLS at wss://", "no TLS"),
    ("wss", hang, "cannot connect to wss://.* timed out", "no answer to TLS"),
]


@pytest.mark.parametrize(
    ("scheme", "handler", "reason"),
    [pytest.param(*row[:3], id=row[3]) for row in BAD_FROM_THE_START],
)
def test_bad_from_the_start(scheme: str, handler: Handler, reason: str, reports: Reports) -> None:
    with fake(handler) as port:
        assert check_incomplete(reports, f"{scheme}://127.0.0.1:{port}/", reason)["cases"] == []


@pytest.fixture
def certificate(tmp_path: Path) -> ssl.SSLContext:
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("no openssl here")
    key, cert = str(tmp_path / "key.pem"), str(tmp_path / "cert.pem")
    curve = "-x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=x"
    subprocess.run(
        [openssl, "req", *curve.split(), "-keyout", key, "-out", cert],
        check=True,
        capture_output=True,
        timeout=60,
    )
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(cert, key)
    return context


def test_tls(certificate: ssl.SSLContext, reports: Reports) -> None:
    """Where none was expected; and where it was, the rest is as without."""

    def handler(connection: socket.socket) -> None:
        connection.settimeout(10)
        turned(certificate.wrap_socket(connection, server_side=True))

    turned = turning(leave, good=4)  # one of them only does the TLS handshake
    with fake(handler) as port:
        check_incomplete(reports, f"ws://127.0.0.1:{port}/", "uses TLS: is it wss://")
        options = ["--include", "1.1.[1-4]", *reports.options]
        assert cli.main([f"wss://127.0.0.1:{port}/", *options]) == cli.FAILURES
        assert "the connection was closed" in reports.run()["cases"][0]["came"]


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
        pytest.param(flood(b"\x89\x00" * 4096), "but|unasked", id="pings"),
        pytest.param(flood(b"\0\0" * 4096, first=b"\1\0"), "never ends", id="empty fragments"),
        pytest.param(flood(b"\0\x7d" + b"x" * 125, first=b"\1\0"), "never ends", id="fragments"),
        pytest.param(flood(b"\x82\x7f\x7f" + b"\0" * 7), f"of {0x7F << 56} bytes", id="huge frame"),
        pytest.param(flood(b"\x82\x7e\xff\xff" + b"x" * 65535), "but", id="frames"),
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


# ---- --serve ------------------------------------------------------------------------------------

# Says where it listens, and dies in its own way of a frame of 126 bytes or more.
MORTAL = f"""
import os, signal, sys, threading
sys.path[:0] = [{str(ROOT / "tests" / "py")!r}, {str(ROOT / "tools")!r}]
from test_conformance_runner import LongFrame, echo, fake
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


def script(folder: Path, text: str) -> str:
    path = folder / "server.py"
    path.write_text(text)
    return f"{sys.executable} {path}"


@pytest.mark.parametrize(
    ("death", "words"),
    [("sys.exit(7)", "exited with 7"), ("os.kill(0, signal.SIGABRT)", "was killed by SIGABRT")],
)
def test_served_dies(death: str, words: str, reports: Reports, tmp_path: Path) -> None:
    """The case that brings it down is told from those beside it, and the run goes on."""
    command = script(tmp_path, MORTAL + death)
    some = ["--include", "1.1.*", "--timeout", "5", "--retry", "1", *reports.options]
    assert cli.main(["--serve", command, *PATTERN, *some]) == cli.FAILURES
    run = reports.run()
    assert not any(case["flaky"] for case in run["cases"])
    failed = {case["id"]: case["came"] for case in run["cases"] if case["verdict"] == "FAILED"}
    assert {case["id"] for case in run["cases"]} - set(failed) == {"1.1.1", "1.1.2", "1.1.9"}
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
        ("listening on 127.0.0.1:80", ("127.0.0.1", 80)),
        ("listening on http://localhost:8080/x\n", ("localhost", 8080)),
        ("server: listening on [::1]:9001", ("::1", 9001)),
        ("listening on *:9001", ("127.0.0.1", 9001)),
        ("listening on 0.0.0.0:9001", ("127.0.0.1", 9001)),
        (" 4711 \n", ("127.0.0.1", 4711)),
        ("4711 things", None),
        ("0", None),
        ("listening on port", None),
    ],
)
def test_where_a_program_listens(line: str, place: Optional[Tuple[str, int]]) -> None:
    assert testee.place_in(line, testee.PORT) == place


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


def test_all_addresses_of_a_name_are_listened_at(monkeypatch: pytest.MonkeyPatch) -> None:
    found = {
        "several": ["192.0.2.1", "127.0.0.1", "127.0.0.2", "127.0.0.2"],
        "missing": ["192.0.2.1"],
    }

    def resolve(host: str, port: object, **_: Any) -> List[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in found[host]]

    create = socket.create_server

    def bind(address: Tuple[str, int], **settings: Any) -> socket.socket:
        if address[0] == "192.0.2.1":
            raise OSError(errno.EADDRNOTAVAIL, "not here")
        return create(address, **settings)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_server", bind)
    one, two = listen.listening_at("several", 0)
    with one, two:
        assert [one.getsockname()[0], two.getsockname()[0]] == ["127.0.0.1", "127.0.0.2"]
        assert one.getsockname()[1] == two.getsockname()[1]
        with pytest.raises(OSError) as caught:
            listen.listening_at("several", one.getsockname()[1])
        assert caught.value.errno == errno.EADDRINUSE
    with pytest.raises(OSError, match="not here"):
        listen.listening_at("missing", 0)


# ---- an end before the end ----------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_interrupted(number: signal.Signals, reports: Reports) -> None:
    """Cases that wait do not keep it, and its testee does not stay."""
    served = f"""
import sys, time
sys.path[:0] = [{str(ROOT / "tests" / "py")!r}, {str(ROOT / "tools")!r}]
from test_conformance_runner import echo, fake, greet, hang, turning
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
    url = f"ws://127.0.0.1:{unused_port()}/"
    assert cli.main([url, "--write-baseline", str(baseline)]) == cli.INCOMPLETE
    assert baseline.read_text() == "kept"


# ---- the threads --------------------------------------------------------------------------------


def make_case(id: str, run: Callable[[Test], None], *tags: str, level: str = MUST) -> Case:
    return Case(id, "RFC 6455 5.1", level, "a quote", "things", "others", run, frozenset(tags))


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
