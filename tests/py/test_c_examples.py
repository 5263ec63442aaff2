# SPDX-License-Identifier: MIT
"""The programs in examples/c do what they say. (echo_tls and echo_mbedtls: test_c_tls.py.)"""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import tty
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import pytest
from builds import apply_builds, has_programs, run
from chromium import unavailable
from common import ROOT, TIMEOUT
from doc_clients import posted
from peer import Frame, Peer, close_frame, eventually, frame, handshake, request, upgraded
from program import Executable
from service import Reports, Service, address_of_reports
from shared import made_once

EXAMPLES = ROOT / "examples" / "c"
STUB = ROOT / "tests" / "c" / "uloop"  # in place of libubox, which Debian does not have
PACKAGES = {"glib": "glib-2.0", "libuv": "libuv"}
FLAGS = "-O1 -Wall -Wextra -Wshadow -Wconversion -Wsign-conversion -Werror"

pytestmark = [pytest.mark.packaging, pytest.mark.timeout(300)]


def has_package(name: str) -> bool:
    command = ["pkg-config", "--exists", name]
    return has_programs("pkg-config") and subprocess.run(command, timeout=TIMEOUT).returncode == 0


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All examples, as their Makefile builds them without zlib."""
    if not has_programs("cc", "make"):
        pytest.skip("needs cc and make")
    return made_once(tmp_path_factory, "examples", build)


def build(folder: Path) -> None:
    loops = [loop for loop, package in PACKAGES.items() if has_package(package)]
    make = ["make", "-j2", "-C", str(EXAMPLES), f"BUILD={folder}", "DEFLATE=", f"CFLAGS={FLAGS}"]
    run([*make, f"LOOPS={' '.join(loops)}"])
    compile_example(folder, EXAMPLES / "loop_uloop.c", f"-I{STUB}")


def compile_example(folder: Path, source: Path, *flags: str) -> Path:
    made = folder / source.stem
    own = [f"-I{ROOT / 'csrc'}", str(source), str(folder / "libpyws.a")]
    run(["cc", "-std=c11", *FLAGS.split(), *flags, "-o", str(made), *own])
    return made


def port_of(program: Executable) -> int:
    return int(program.line().rpartition(":")[2])


def text_of(received: Frame) -> Tuple[int, bytes]:
    return received.opcode, received.payload


def check_echo(peer: Peer) -> None:
    peer.send(frame(b"text") + frame(b"\0\xff", 2))
    assert text_of(peer.frame()) == (1, b"text")
    assert text_of(peer.frame()) == (2, b"\0\xff")


def test_all_examples_are_tested() -> None:
    """What has no test here has one elsewhere."""
    text = Path(__file__).read_text(encoding="utf-8")
    others = {"echo", "echo_mbedtls", "echo_tls", "native_handler"}
    loops = {f"loop_{name}" for name in (*PACKAGES, "poll", "uloop")}
    names = {path.stem for path in EXAMPLES.glob("*.c")} - others - loops
    assert {name for name in names if f'"{name}"' not in text} == set()


# ---- a server -----------------------------------------------------------------------------------


@apply_builds
def test_minimal(built: Path, tmp_path: Path) -> None:
    """With another port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    source, text = tmp_path / "with_port.c", (EXAMPLES / "minimal.c").read_text()
    assert text.count("port = 8000;") == 1
    assert len([line for line in text.splitlines() if not line.startswith("/*")]) <= 21
    source.write_text(text.replace("port = 8000;", f"port = {port};"))
    shutil.copy(built / "libpyws.a", tmp_path)
    assert (built / "minimal").exists()
    with Executable(str(compile_example(tmp_path, source))) as program:
        eventually(lambda: answers(port))
        with upgraded(port) as peer:
            check_echo(peer)
        assert program.stop(signal.SIGTERM) == -signal.SIGTERM
        assert program.error_text() == ""


def answers(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), TIMEOUT).close()
    except ConnectionRefusedError:
        return False
    return True


@apply_builds
def test_chat(built: Path) -> None:
    """Who is in a room gets what is said there, and no one else does."""
    with Executable(str(built / "chat")) as program:
        port = port_of(program)
        page = request(port, "GET / HTTP/1.1")
        assert page.status == 200
        assert b"new WebSocket" in page.body
        one, two, other = (upgraded(port, f"/chat/{room}") for room in ("a", "a", "b"))
        with one, two, other:
            one.send(frame(b"hello"))
            assert text_of(one.frame()) == text_of(two.frame()) == (1, b"hello")
            other.send(frame(b"alone"))
            assert text_of(other.frame()) == (1, b"alone")
            program.process.send_signal(signal.SIGTERM)
            assert one.frame().close_code == two.frame().close_code == 1001
            for peer in (one, two, other):
                peer.socket.close()
        assert program.wait() == 0
        assert program.error_text() == ""


@apply_builds
def test_device(built: Path) -> None:
    with Executable(str(built / "device")) as program:
        port = port_of(program)
        assert b"XMLHttpRequest" in request(port, "GET / HTTP/1.1").body
        data = bytes(range(256)) * 1000
        total = 2166136261
        for byte in data:
            total = (total ^ byte) * 16777619 % 2**32
        answer = f"{len(data)} bytes, checksum {total:08x}\n".encode()
        assert posted(port, "/upload", data) == (200, answer)
        with socket.create_connection(("127.0.0.1", port), TIMEOUT) as client:
            client.sendall(b"GET /log HTTP/1.0\r\n\r\n")
            received = b"".join(iter(lambda: client.recv(65536), b""))
        assert received.endswith(b"line 99999 of the log\nline 100000 of the log\n")
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


# ---- in other loops -----------------------------------------------------------------------------


@apply_builds
@pytest.mark.parametrize("loop", ["glib", "libuv", "uloop"])
def test_loop(built: Path, loop: str) -> None:
    """The server and a timer in one loop, until a signal ends both."""
    if loop in PACKAGES and not has_package(PACKAGES[loop]):
        unavailable(f"no {PACKAGES[loop]} here")
    with Executable(str(built / f"loop_{loop}")) as program:
        with upgraded(port_of(program)) as peer:
            check_echo(peer)
            assert text_of(peer.frame()) == (1, b"tick")
            check_echo(peer)
            assert text_of(peer.frame()) == (1, b"tick")
            program.process.send_signal(signal.SIGTERM)
            assert peer.frame().close_code == 1001
            peer.send(close_frame(1001))
            assert peer.at_end()
        assert program.wait() == 0
        assert program.error_text() == ""


@apply_builds
def test_loop_poll(built: Path) -> None:
    """What is typed goes to all clients."""
    command = [str(built / "loop_poll")]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as program:
        try:
            assert program.stdin and program.stdout
            port = int(program.stdout.readline().rpartition(b":")[2])
            with upgraded(port) as peer, upgraded(port) as other:
                check_echo(peer)
                program.stdin.write(b"typed\n")
                program.stdin.flush()
                assert text_of(peer.frame()) == text_of(other.frame()) == (2, b"typed\n")
                program.stdin.close()
                check_echo(peer)
                program.send_signal(signal.SIGINT)
                assert peer.frame().close_code == other.frame().close_code == 1001
                peer.socket.close()
                other.socket.close()
            assert program.wait(TIMEOUT) == 0
        finally:
            program.kill()


# ---- a serial port ------------------------------------------------------------------------------


@pytest.fixture
def terminal() -> Iterator[Tuple[int, str]]:
    """A pair of terminals instead of a device: the end that is the device, and the path."""
    device, slave = os.openpty()
    tty.setraw(slave)
    path = os.ttyname(slave)
    os.close(slave)
    os.set_blocking(device, False)
    try:
        yield device, path
    finally:
        os.close(device)


def read_all(device: int, size: int) -> bytes:
    """So many bytes that the program has written to the device."""
    received = bytearray()

    def more() -> bool:
        try:
            received.extend(os.read(device, 65536))
        except BlockingIOError:
            pass
        return len(received) >= size

    eventually(more)
    return bytes(received)


@apply_builds
def test_serial(built: Path, terminal: Tuple[int, str]) -> None:
    """Bytes in both directions, unchanged, for any number of clients."""
    device, path = terminal
    with Executable(str(built / "serial"), path) as program:
        port = port_of(program)
        assert b"new WebSocket" in request(port, "GET / HTTP/1.1").body
        with upgraded(port, "/port") as one, upgraded(port, "/port") as two:
            os.write(device, bytes(range(256)))
            for peer in (one, two):
                received = b""
                while len(received) < 256:
                    received += peer.frame().payload
                assert received == bytes(range(256))
            one.send(frame(bytes(range(256)), 2))
            two.send(frame(b"text\r\n"))
            assert len(read_all(device, 262)) == 262
            program.process.send_signal(signal.SIGTERM)
            assert one.frame().close_code == two.frame().close_code == 1001
            one.socket.close()
            two.socket.close()
        assert program.wait() == 0
        assert program.error_text() == ""


@apply_builds
def test_serial_to_a_slow_device(built: Path, terminal: Tuple[int, str]) -> None:
    """What there is no room for ends its client; what was accepted arrives."""
    device, path = terminal
    with Executable(str(built / "serial"), path) as program:
        with upgraded(port_of(program), "/port") as peer:
            for number in range(100):  # far more than the kernel keeps
                peer.send(frame(b"%04d" % number * 250, 2))
            assert peer.frame().close_code == 1013
            peer.send(close_frame(1013))
            assert peer.at_end()
        received = read_all(device, 5000)
        while len(received) % 1000:
            received += read_all(device, 1)
        count = len(received) // 1000
        assert received == b"".join(b"%04d" % number * 250 for number in range(count))
        assert program.stop(signal.SIGTERM) == 0


@apply_builds
def test_serial_without_a_device(built: Path) -> None:
    device, slave = os.openpty()
    path = os.ttyname(slave)
    os.close(slave)
    with Executable(str(built / "serial"), path) as program:
        with upgraded(port_of(program), "/port") as peer:
            os.close(device)  # it is unplugged
            assert peer.frame().close_code == 1001
            peer.socket.close()
        assert program.wait() == 0
        assert program.error_text() == "serial: the device is gone\n"
    with Executable(str(built / "serial"), "/no/such/device") as program:
        assert program.wait() == 1
        assert program.error_text() == "/no/such/device: No such file or directory\n"


# ---- a service of systemd -----------------------------------------------------------------------


@apply_builds
@pytest.mark.parametrize("kind", ["path", "abstract"])
def test_activation(built: Path, tmp_path: Path, kind: str) -> None:
    """It serves the sockets that were passed, and reports what systemd wants to know."""
    path = str(tmp_path / "socket")
    with Reports(address_of_reports(kind, str(tmp_path))) as reports:
        variables = {"NOTIFY_SOCKET": reports.address, "WATCHDOG_USEC": "50000"}
        with Service([str(built / "activation")], ["", path], **variables) as service:
            assert reports.next() == "READY=1"
            assert reports.next() == reports.next() == "WATCHDOG=1"
            with upgraded(int(service.places[0])) as peer:
                check_echo(peer)
            with Peer.over(unix_client(path)) as peer:
                peer.send(handshake("/any") + frame(b"unix"))
                assert peer.response().status == 101
                assert peer.frame().payload == b"unix"
                service.process.send_signal(signal.SIGTERM)
                assert reports.next_other("WATCHDOG=1") == "STOPPING=1"
                assert peer.frame().close_code == 1001
            assert service.wait() == 0
            assert service.error_text() == ""


def unix_client(path: str) -> socket.socket:
    client = socket.socket(socket.AF_UNIX)
    client.settimeout(TIMEOUT)
    client.connect(path)
    return client


OTHERS: List[Dict[str, str]] = [
    {"LISTEN_PID": "1"},
    {"LISTEN_PID": ""},
    {"LISTEN_FDS": "0"},
]


@apply_builds
@pytest.mark.parametrize("variables", OTHERS, ids=["inherited", "no process", "no socket"])
def test_activation_by_hand(built: Path, tmp_path: Path, variables: Dict[str, str]) -> None:
    """Sockets that are another program's are left alone, and so is its watchdog."""
    with Reports(str(tmp_path / "reports")) as reports:
        variables = {"NOTIFY_SOCKET": reports.address, "WATCHDOG_PID": "1", **variables}
        variables["WATCHDOG_USEC"] = "1000"
        with Service([str(built / "activation")], [""], **variables) as service:
            beginning, _, port = service.line().rpartition(" ")
            assert beginning == "listening on port"
            assert port != service.places[0]
            with upgraded(int(port)) as peer:
                check_echo(peer)
            assert service.stop(signal.SIGTERM) == 0
            assert reports.next() == "READY=1"
            assert reports.next() == "STOPPING=1"


@apply_builds
def test_activation_without_systemd(built: Path, tmp_path: Path) -> None:
    """A report that does not arrive is no reason to end."""
    variables = {"NOTIFY_SOCKET": str(tmp_path / "nothing"), "LISTEN_FDS": "0"}
    with Service([str(built / "activation")], [], **variables) as service:
        with upgraded(int(service.line().rpartition(" ")[2])) as peer:
            check_echo(peer)
        assert service.stop(signal.SIGTERM) == 0
        assert "NOTIFY_SOCKET: No such file" in service.error_text()


@apply_builds
def test_activation_by_the_tool_of_systemd(built: Path) -> None:
    """It listens, and starts the program when the first client has come."""
    tool = shutil.which("systemd-socket-activate") or unavailable("no systemd-socket-activate here")
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
    with Executable(tool, "-l", f"127.0.0.1:{port}", str(built / "activation")) as program:
        eventually(lambda: f"Listening on 127.0.0.1:{port}" in program.error_text())
        with upgraded(port) as peer:
            check_echo(peer)
        assert program.stop(signal.SIGTERM) == 0
