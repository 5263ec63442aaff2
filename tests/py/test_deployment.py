# SPDX-License-Identifier: MIT
"""What docs/deployment says about systemd, containers and restarts."""

import os
import re
import shutil
import signal
import socket
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path
from typing import Callable, Iterator, List

import pytest
from chromium import unavailable
from common import ROOT, TIMEOUT, without_sanitizer
from doc_blocks import all_blocks
from peer import Peer, eventually, frame, handshake, upgraded
from program import Program

pytestmark = pytest.mark.usefixtures("read_by_h11")

PAGES = ROOT / "docs" / "deployment"
PROGRAMS = {block.name: block.text for block in all_blocks() if block.name}


def saved(name: str, folder: Path, *changes: str) -> Path:
    """A program of the documentation as a file, with changes in pairs of old and new."""
    text = PROGRAMS[name]
    for old, new in zip(changes[::2], changes[1::2]):
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    file = folder / f"program_{name}.py"
    file.write_text(text)
    return file


# ---- systemd ------------------------------------------------------------------------------------


def units(folder: Path, *changes: str) -> List[str]:
    """The units of the page as files."""
    text = (PAGES / "systemd.md").read_text(encoding="utf-8")
    found = re.findall(r"^`/etc/systemd/system/(\S+)`:\n\n```ini\n(.*?)```", text, re.M | re.S)
    for name, unit in found:
        for old, new in zip(changes[::2], changes[1::2]):
            unit = unit.replace(old, new)
        (folder / name).write_text(unit)
    return sorted(str(folder / name) for name, _ in found)


def complaints(files: List[str]) -> str:
    verify = shutil.which("systemd-analyze") or unavailable("no systemd-analyze here")
    return subprocess.run(
        [verify, "verify", "--man=no", *files],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=TIMEOUT,
        env=without_sanitizer(),
    ).stdout


def test_units_of_systemd(tmp_path: Path) -> None:
    python = "/srv/chat/.venv/bin/python"
    files = units(tmp_path, python, sys.executable)
    assert [Path(name).name for name in files] == ["chat.service", "chat.socket"]
    assert complaints(files) == ""
    files = units(tmp_path, python, sys.executable, "LimitNOFILE", "LimitNOFILES")
    assert "Unknown key" in complaints(files)


def test_units_for_c(tmp_path: Path) -> None:
    for path in (ROOT / "packaging" / "systemd").iterdir():
        text = path.read_text(encoding="utf-8")
        (tmp_path / path.name).write_text(text.replace("/usr/local/bin/activation", sys.executable))
    files = sorted(map(str, tmp_path.iterdir()))
    assert [Path(name).name for name in files] == ["activation.service", "activation.socket"]
    assert complaints(files) == ""
    (tmp_path / "activation.service").write_text("[Service]\nExecStart=/no/such/program\n")
    assert "/no/such/program" in complaints(files)


class Activated:
    """What systemd does: holds a listening socket, and starts a program with it as descriptor 3."""

    def __init__(self, program: Path) -> None:
        self.program = program
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self.socket.getsockname()[1]

    @contextmanager
    def started(self) -> Iterator["subprocess.Popen[bytes]"]:
        listener = self.socket.fileno()
        process = subprocess.Popen(
            [
                sys.executable,
                "-c",
                f"import os, sys; os.dup2({listener}, 3); "
                "os.execv(sys.executable, [sys.executable, *sys.argv[1:]])",
                str(self.program),
            ],
            pass_fds=[listener],
            env={**os.environ, "LISTEN_FDS": "1", "PYTHONPATH": str(ROOT)},
        )
        try:
            yield process
        finally:
            process.kill()
            process.wait(TIMEOUT)


def test_no_client_is_refused_while_the_server_restarts(tmp_path: Path) -> None:
    service = Activated(saved("activated", tmp_path))
    with service.socket, Peer(service.port) as peer:  # it is not running yet
        for number in range(2):
            peer.send(handshake("/echo") + frame(b"waiting"))
            with service.started() as process:
                assert peer.response().status == 101
                assert peer.frame().payload == b"waiting"
                process.send_signal(signal.SIGTERM)
                assert peer.frame().close_code == 1001
                peer.socket.close()
                assert process.wait(TIMEOUT) == 0
            if number == 0:
                peer.__init__(service.port)  # type: ignore[misc]


# ---- containers ---------------------------------------------------------------------------------


def children(pid: int) -> List[int]:
    text = Path(f"/proc/{pid}/task/{pid}/children").read_text()
    return [int(word) for word in text.split()]


@pytest.mark.parametrize("workers", [1, 2])
def test_process_1_handles_sigterm(tmp_path: Path, workers: int) -> None:
    """It has no default handlers for signals, and has to wait for its own children."""
    alone = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--kill-child", "--"]
    if not shutil.which("unshare") or subprocess.run([*alone, "true"], timeout=TIMEOUT).returncode:
        unavailable("no unshare here, or it is not permitted")
    listen = 'app.listen({"host": "127.0.0.1"}, lambda place: print(place.port, flush=True))'
    changes = "app.listen(8000)  # started by hand", listen, "app.run()", f"app.run({workers})"
    file = saved("activated", tmp_path, *changes)
    with subprocess.Popen(
        [*alone, sys.executable, str(file)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout
            with upgraded(int(process.stdout.readline()), "/echo") as peer:
                (first,) = children(process.pid)
                assert f"\t{first}\t1\n" in Path(f"/proc/{first}/status").read_text()  # NSpid
                os.kill(first, signal.SIGTERM)
                assert peer.frame().close_code == 1001
            assert process.wait(TIMEOUT) == 0
        finally:
            process.kill()


def test_commands_of_containers_are_lists() -> None:
    """A shell as process 1 would not pass SIGTERM on."""
    text = (PAGES / "containers.md").read_text(encoding="utf-8")
    (command,) = re.findall(r"^CMD (.*)$", text, re.M)
    assert command == '["python", "/srv/chat.py"]'


# ---- restarts -----------------------------------------------------------------------------------


def test_two_servers_on_one_port(tmp_path: Path) -> None:
    with socket.socket() as reserved:  # the port, without listening on it
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        file = str(saved("reuse_port", tmp_path, '"port": 8000', f'"port": {port}'))

        def answers(program: Program) -> Callable[[], bool]:
            def check() -> bool:
                try:
                    with upgraded(port) as peer:
                        return str(program.process.pid).encode() in peer.frame().payload
                except ConnectionRefusedError:
                    return False

            return check

        with Program(file) as old:
            eventually(answers(old))
            with Program(file) as new:
                eventually(answers(new))
                assert old.stop(signal.SIGTERM) == 0
                for _ in range(20):
                    assert answers(new)()
                assert new.stop(signal.SIGTERM) == 0
