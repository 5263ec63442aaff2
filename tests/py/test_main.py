"""The command `pyws`: its page, its echo socket, its output, its exit status."""

import http.client
import os
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from peer import Peer, close_frame, eventually, frame, upgraded
from program import TIMEOUT, Program

import pyws
from pyws import __main__ as command

PAGE = Path(command.__file__).with_name("page.html").read_bytes()
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def start(*arguments: str) -> Program:
    return Program("-m", "pyws", *arguments)


def port_of(line: str, host: str = "127.0.0.1") -> int:
    beginning = f"listening on http://{host}:"
    assert line.startswith(beginning)
    return int(line[len(beginning) :])


def get(port: int, path: str = "/", method: str = "GET") -> Tuple[int, Dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()
    finally:
        connection.close()


def taken_port() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    return listener


# ---- as a program -------------------------------------------------------------------------------


def test_page_and_echo() -> None:
    with start("--port", "0") as program:
        port = port_of(program.line())
        assert port > 0
        status, headers, body = get(port)
        assert (status, body) == (200, PAGE)
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert headers["content-length"] == str(len(PAGE))

        status, headers, body = get(port, method="HEAD")
        assert (status, body) == (200, b"")
        assert headers["content-length"] == str(len(PAGE))

        assert get(port, "/nothing")[0] == 404
        assert get(port, "/echo")[0] == 426
        with upgraded(port, "/echo") as peer:
            peer.send(frame(b"text") + frame(b"\0\xff", 2) + frame(b""))
            got = [peer.frame() for _ in range(3)]
            assert [(f.opcode, f.payload) for f in got] == [(1, b"text"), (2, b"\0\xff"), (1, b"")]
            peer.send(frame(b"m" * 2**20, 2))
            assert peer.frame().payload == b"m" * 2**20
            peer.send(close_frame(3001))
            assert peer.frame().close_code == 3001


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_ends_quietly(number: int) -> None:
    with start("--port", "0") as program, Peer(port_of(program.line())) as peer:
        assert program.stop(number) == 0
        assert program.rest() == ""
        assert program.error_text() == ""
        assert peer.at_end()


def test_signal_closes_sockets_with_1001() -> None:
    with start("--port", "0") as program, upgraded(port_of(program.line()), "/echo") as peer:
        program.process.send_signal(signal.SIGTERM)
        assert peer.frame().close_code == 1001
        peer.send(close_frame(1001))
        assert program.wait() == 0
        assert program.error_text() == ""


def test_second_interrupt_does_not_wait() -> None:
    with start("--port", "0") as program, upgraded(port_of(program.line()), "/echo") as peer:
        program.process.send_signal(signal.SIGINT)
        assert peer.frame().close_code == 1001
        assert program.stop(signal.SIGINT) == 130
        assert program.error_text() == ""


def test_url_arrives_through_a_buffered_pipe() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "pyws", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=str(Path(pyws.__file__).parents[1]),
    )
    with child:
        try:
            assert child.stdout
            port_of(child.stdout.readline().rstrip())
            child.terminate()
            assert child.wait(TIMEOUT) == 0
        finally:
            child.kill()


def test_host() -> None:
    with start("--host", "localhost", "--port", "0") as program:
        port_of(program.line(), "localhost")


def test_ipv6_host() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with start("--host", "::1", "--port", "0") as program:
        port = port_of(program.line(), "[::1]")
        socket.create_connection(("::1", port), TIMEOUT).close()


def test_port_in_use() -> None:
    with taken_port() as listener:
        port = listener.getsockname()[1]
        with start("--port", str(port)) as program:
            assert program.wait() == 1
            assert program.rest() == ""
            assert program.error_text() == (
                f"pyws: cannot listen on 127.0.0.1:{port}: Address already in use "
                "(choose another with --port, or 0 for any)\n"
            )


def test_port_is_free_again_at_once() -> None:
    with start("--port", "0") as program:
        port = port_of(program.line())
        with upgraded(port, "/echo"):
            program.process.kill()
            program.wait()
    with start("--port", str(port)) as program:
        assert port_of(program.line()) == port


# ---- called -------------------------------------------------------------------------------------


def test_main_until_a_signal(capsys: pytest.CaptureFixture[str]) -> None:
    with taken_port() as listener:
        port = listener.getsockname()[1]
    seen: List[Any] = []

    def visit() -> None:
        try:
            eventually(lambda: can_connect(port))
            seen.append(get(port)[2] == PAGE)
            with upgraded(port, "/echo") as peer:
                peer.send(frame(b"hello"))
                seen.append(peer.frame().payload)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    visitor = threading.Thread(target=visit)
    visitor.start()
    assert command.main(["--port", str(port)]) == 0
    visitor.join(TIMEOUT)
    assert seen == [True, b"hello"]
    assert capsys.readouterr() == (f"listening on http://127.0.0.1:{port}\n", "")


def can_connect(port: int) -> bool:
    try:
        Peer(port).socket.close()
    except ConnectionRefusedError:
        return False
    return True


def test_main_fails_on_a_used_port(capsys: pytest.CaptureFixture[str]) -> None:
    with taken_port() as listener:
        port = listener.getsockname()[1]
        assert command.main(["--port", str(port)]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(
            f"pyws: cannot listen on 127.0.0.1:{port}: Address already in use (choose"
        )


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("no host.invalid", "unknown host"),
        ("192.0.2.1", "Cannot assign requested address"),
    ],
)
def test_main_fails_on_a_wrong_host(
    host: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--host", host, "--port", "0"]) == 1
    assert capsys.readouterr() == ("", f"pyws: cannot listen on {host}:0: {text}\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port", "65536"], "--port: must be a number from 0 to 65535, not '65536'"),
        (["--port=-1"], "--port: must be a number from 0 to 65535, not '-1'"),
        (["--port", "http"], "--port: must be a number from 0 to 65535, not 'http'"),
        (["--port"], "--port: expected one argument"),
        (["--host", ""], "host must not be empty"),
        (["--host", "a\0b"], "host"),
        (["--por", "80"], "unrecognized arguments: --por 80"),
        (["what"], "unrecognized arguments: what"),
    ],
)
def test_bad_arguments(arguments: List[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        command.main(arguments)
    assert info.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert text in captured.err
    assert "Traceback" not in captured.err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        command.main(["--version"])
    assert info.value.code == 0
    assert capsys.readouterr() == (f"pyws {pyws.__version__}\n", "")


def test_interrupt_before_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pyws.App, "listen", interrupt)
    assert command.main(["--port", "0"]) == 130


def test_page_needs_nothing_else() -> None:
    text = PAGE.decode()
    addresses = [line for line in text.splitlines() if "http://" in line or "https://" in line]
    assert all("http://www.w3.org/2000/svg" in line for line in addresses)  # the name of a format
    for tag in ("src=", "@import", "url("):
        assert tag not in text
