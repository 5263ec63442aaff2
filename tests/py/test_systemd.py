# SPDX-License-Identifier: MIT
"""The command `pyws` as a service of systemd: the sockets that it gets, and its reports."""

import os
import signal
import socket
import sys
from pathlib import Path
from typing import Dict

import pytest
from common import TIMEOUT
from peer import Peer, eventually, frame, handshake, request, upgraded
from service import Reports, Service, address_of_reports

from pyws._core import systemd

COMMAND = [sys.executable, "-u", "-m", "pyws"]


def test_the_sockets_that_systemd_passes(tmp_path: Path) -> None:
    """They take the place of --host and --port."""
    path = str(tmp_path / "socket")
    with Service([*COMMAND, "--port", "1"], ["", path]) as service:
        assert [service.line(), service.line()] == ["listening on fd 3", "listening on fd 4"]
        assert request(int(service.places[0]), "GET / HTTP/1.1").status == 200
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(TIMEOUT)
        client.connect(path)
        with Peer.over(client) as peer:
            peer.send(handshake("/echo") + frame(b"unix"))
            assert peer.response().status == 101
            assert peer.frame().payload == b"unix"
        assert service.stop(signal.SIGTERM) == 0
        assert service.error_text() == ""
        assert Path(path).exists()  # it is systemd's


def test_echo_on_a_socket_of_systemd() -> None:
    with Service([*COMMAND, "echo", "--print-port"]) as service:
        assert service.line() == service.places[0]
        with upgraded(int(service.places[0])) as peer:
            peer.send(frame(b"text"))
            assert peer.frame().payload == b"text"
        assert service.stop(signal.SIGTERM) == 0


def test_sockets_of_another_process() -> None:
    """The variables may have been inherited."""
    with Service([*COMMAND, "echo", "--print-port", "--port", "0"], LISTEN_PID="1") as service:
        assert service.line() != service.places[0]
        assert service.stop(signal.SIGTERM) == 0


@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_reports(tmp_path: Path, kind: str) -> None:
    """READY=1 once clients are served, then signs of life, and STOPPING=1."""
    with Reports(address_of_reports(kind, str(tmp_path))) as reports:
        variables = {"NOTIFY_SOCKET": reports.address, "WATCHDOG_USEC": "50000"}
        with Service([*COMMAND, "echo"], **variables) as service:
            assert reports.next_other("WATCHDOG=1") == "READY=1"
            assert reports.next() == reports.next() == "WATCHDOG=1"
            assert service.line() == "listening on fd 3"
            assert service.stop(signal.SIGTERM) == 0
            assert reports.next_other("WATCHDOG=1") == "STOPPING=1"
            assert service.error_text() == ""


def test_no_signs_of_life_for_another_process(tmp_path: Path) -> None:
    with Reports(str(tmp_path / "reports")) as reports:
        variables = {"NOTIFY_SOCKET": reports.address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": "1"}
        with Service([*COMMAND, "echo"], **variables) as service:
            assert reports.next() == "READY=1"
            assert service.stop(signal.SIGTERM) == 0
            assert reports.next() == "STOPPING=1"


def test_reports_that_do_not_arrive(tmp_path: Path) -> None:
    """They are no reason to end."""
    with Service([*COMMAND, "echo"], NOTIFY_SOCKET=str(tmp_path / "nothing")) as service:
        with upgraded(int(service.places[0])) as peer:
            peer.send(frame(b"text"))
            assert peer.frame().payload == b"text"
            eventually(service.error_text)
        assert service.stop(signal.SIGTERM) == 0
        line = "pyws: NOTIFY_SOCKET: No such file or directory\n"
        assert service.error_text() == line * 2


WRONG: Dict[str, str] = {"LISTEN_FDS": "three", "WATCHDOG_USEC": "-1"}


@pytest.mark.parametrize("name", list(WRONG))
def test_wrong_variables(name: str) -> None:
    with Service([*COMMAND, "echo"], **{name: WRONG[name]}) as service:
        assert service.wait() in (1, 2)
        assert f"{name} must be a number, not {WRONG[name]!r}" in service.error_text()
        assert "Traceback" not in service.error_text()


def test_a_socket_that_was_not_passed() -> None:
    with Service([*COMMAND, "echo"], [], LISTEN_FDS="1") as service:
        assert service.wait() == 1
        assert "pyws: cannot listen on fd 3: it is not " in service.error_text()


def test_without_systemd(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("LISTEN_PID", "LISTEN_FDS", "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"):
        monkeypatch.delenv(name, raising=False)
    assert systemd.passed_sockets() == []
    assert systemd.watchdog_seconds() == 0
    systemd.notify("READY=1")
    monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
    assert systemd.passed_sockets() == []
    monkeypatch.setenv("LISTEN_FDS", "2")
    monkeypatch.setenv("WATCHDOG_USEC", "3000000")
    assert systemd.passed_sockets() == [3, 4]
    assert systemd.watchdog_seconds() == 3
