# SPDX-License-Identifier: MIT
"""What the tests of the conformance runner share: peers of all kinds, and a look at its reports."""

import re
import socket
import sys
import threading
import xml.etree.ElementTree as ElementTree
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from common import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from conformance import arguments, cli, report, wire
from conformance.case import (
    MUST,
    Case,
    Test,
)

Test.__test__ = False  # type: ignore[attr-defined]  # it is no class of tests
Handler = Callable[[socket.socket], object]
QUICK = ["--timeout", "0.3", "--include", "1.1.*", "--include", "4.*"]


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


def flood(data: bytes, greet: bool = True, first: bytes = b"") -> Handler:
    """Send the same again and again."""

    def handler(connection: socket.socket) -> None:
        if greet:
            upgrade(connection)
        connection.sendall(first)
        while True:
            connection.sendall(data)

    return handler


class Reports:
    """The reports of a run, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.options: List[str] = []
        for form in arguments.FORMS:
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


def usage_error(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    with pytest.raises(SystemExit) as info:
        cli.main(arguments)
    assert info.value.code == cli.USAGE
    captured = capsys.readouterr()
    assert captured.out == ""
    *usage, error = captured.err.splitlines()
    assert len(usage) < 3
    return error


def script(folder: Path, text: str) -> str:
    path = folder / "server.py"
    path.write_text(text)
    return f"{sys.executable} {path}"


def make_case(id: str, run: Callable[[Test], None], *tags: str, level: str = MUST) -> Case:
    return Case(id, "RFC 6455 5.1", level, "a quote", "things", "others", run, frozenset(tags))
