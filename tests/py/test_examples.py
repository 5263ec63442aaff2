# SPDX-License-Identifier: MIT
"""The programs in examples/py do what they say."""

import hmac
import json
import signal
from pathlib import Path
from typing import List, Tuple

import pytest
from common import ROOT
from doc_clients import next_chunk, posted
from peer import Frame, Peer, close_frame, eventually, frame, request, upgraded
from program import Program

EXAMPLES = ROOT / "examples" / "py"

# Runs a source from a file with its own port replaced by one that the kernel picks.
RUN_ELSEWHERE = """
import sys
path, *changes = sys.argv[1:]
source = open(path).read()
changes += ["app.listen(9001)", "app.listen(0, lambda place: print(place.port))"]
for old, new in zip(changes[::2], changes[1::2]):
    assert source.count(old) == 1, old
    source = source.replace(old, new)
exec(compile(source, path, "exec"), {"__name__": "__main__"})
"""


def text_of(received: Frame) -> Tuple[int, bytes]:
    return received.opcode, received.payload


# ---- echo.py ------------------------------------------------------------------------------------


@pytest.mark.parametrize("options", [[], ["--host", "127.0.0.1"]])
def test_echo(options: List[str]) -> None:
    with Program(str(EXAMPLES / "echo.py"), "--port", "0", *options) as program:
        beginning, port = program.line().rsplit(":", 1)
        assert beginning == "listening on 127.0.0.1"
        with upgraded(int(port), "/any/path") as peer:
            peer.send(frame(b"text") + frame(b"\0\xff", 2))
            assert text_of(peer.frame()) == (1, b"text")
            assert text_of(peer.frame()) == (2, b"\0\xff")
            peer.send(close_frame(1000))
            assert peer.frame().close_code == 1000
        assert program.stop(signal.SIGINT) == 0
        assert program.rest() == program.error_text() == ""


# ---- upgrade.py, the second program of the manual -----------------------------------------------


def start_elsewhere(tmp_path: Path, example: str, *changes: str) -> Tuple[Program, int]:
    runner = tmp_path / "run_elsewhere.py"
    runner.write_text(RUN_ELSEWHERE)
    program = Program(str(runner), str(EXAMPLES / example), *changes)
    try:
        return program, int(program.line())
    except BaseException:
        program.__exit__()
        raise


def greeted(port: int, path: str = "/") -> Peer:
    peer = upgraded(port, path)
    assert text_of(peer.frame()) == (1, b"Hello, world!")
    return peer


def test_user_data_in_every_handler(tmp_path: Path) -> None:
    """S8, S16, S17, S19, S21-S24: the manual's program, two clients at a time."""
    program, port = start_elsewhere(tmp_path, "upgrade.py")
    with program:
        with greeted(port) as first:
            assert program.line() == "ws 1 connected"
            with greeted(port, "/another/path") as second:
                assert program.line() == "ws 2 connected"
                first.send(frame(b"from one"))
                assert program.line() == "ws 1: from one"
                second.send(frame("zwei ü".encode()))
                assert program.line() == "ws 2: zwei ü"
                second.send(close_frame(1000))
                assert second.frame().close_code == 1000
                assert program.line() == "ws 2 closed"
            first.send(frame(b"still here"))
            assert program.line() == "ws 1: still here"
        assert program.line() == "ws 1 closed"  # by the end of its TCP connection
        assert program.stop(signal.SIGTERM) == 0
        assert program.rest() == program.error_text() == ""


def test_user_data_in_drain(tmp_path: Path) -> None:
    """S10, S24, S31: a client that reads late lets the drain handler run."""
    size = 16 * 2**20
    hello = "ws.send('Hello, world!')"
    more = f"{hello}; ws.send(bytes({size}))"
    program, port = start_elsewhere(tmp_path, "upgrade.py", hello, more)
    with program, greeted(port) as peer:
        assert program.line() == "ws 1 connected"
        received = peer.frame()
        assert (received.opcode, len(received.payload)) == (2, size)
        assert program.line() == "ws 1 backpressure: 0"


def test_user_data_at_shutdown(tmp_path: Path) -> None:
    """S19, S24: the close handler runs with its user data when the program is stopped."""
    program, port = start_elsewhere(tmp_path, "upgrade.py")
    with program, greeted(port) as peer:
        assert program.line() == "ws 1 connected"
        program.process.send_signal(signal.SIGINT)
        assert peer.frame().close_code == 1001
        peer.send(close_frame(1001))
        assert program.wait() == 0
        assert program.rest() == "ws 1 closed\n"


# ---- command.py ---------------------------------------------------------------------------------


def test_command(tmp_path: Path) -> None:
    end = tmp_path / "end"
    count = "i=0; while [ $i -lt 300 ]; do echo line $i; i=$((i + 1)); done"
    command = f"{count}; while [ ! -e {end} ]; do sleep 0.05; done; printf unfinished; exit 3"
    default = 'sys.argv[1:] or ["vmstat", "1"]'
    program, port = start_elsewhere(tmp_path, "command.py", default, f"['sh', '-c', {command!r}]")
    with program, upgraded(port) as peer:
        line = b""
        while line != b"line 299":
            line = peer.frame().payload
        end.touch()
        assert peer.frame().payload[2:] == b"the command has ended: 3"
        with upgraded(port) as late:
            assert [late.frame().payload for _ in range(99)][-1] == b"line 299"
            assert late.frame().payload[2:] == b"the command has ended: 3"
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


# ---- metrics.py ---------------------------------------------------------------------------------


def test_metrics(tmp_path: Path) -> None:
    program, port = start_elsewhere(tmp_path, "metrics.py")
    with program, upgraded(port) as client, Peer(port) as scraper:
        client.send(frame(b"counted"))
        assert text_of(client.frame()) == (1, b"counted")
        scraper.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        response = scraper.response()
        assert response.status == 200
        assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        assert b"\npyws_messages_received_total 1\n" in response.body
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


# ---- upload.py, webhook.py, events.py -----------------------------------------------------------


def test_upload(tmp_path: Path) -> None:
    """W1: a file arrives on disk; one that does not arrive completely is removed."""
    folder = tmp_path / "files"
    folder.mkdir()
    program, port = start_elsewhere(
        tmp_path, "upload.py", "sys.argv[1] if len(sys.argv) > 1 else tempfile.mkdtemp()",
        repr(str(folder)),
    )  # fmt: skip
    body = bytes(range(256)) * 20_000
    with program:
        assert b"progress" in request(port, "GET / HTTP/1.1").body
        status, answer = posted(port, "/files", body, method="PUT")
        assert status == 201
        (path,) = folder.iterdir()
        assert json.loads(answer) == {"name": path.name, "size": len(body)}
        assert path.read_bytes() == body
        with Peer(port) as peer:
            peer.send(b"PUT /files HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n01234")
            eventually(lambda: len(list(folder.iterdir())) == 2)
        eventually(lambda: list(folder.iterdir()) == [path])
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


def test_webhook(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("WEBHOOK_SECRET", "secret")
    program, port = start_elsewhere(tmp_path, "webhook.py")
    body = b'{"build": "green"}'
    right = hmac.new(b"secret", body, "sha256").hexdigest()
    with program, upgraded(port, "/events") as listener:
        assert posted(port, "/webhook", body, "X-Signature: wrong")[0] == 403
        assert posted(port, "/webhook", body)[0] == 403
        assert posted(port, "/webhook", body, f"X-Signature: {right}")[0] == 204
        assert text_of(listener.frame()) == (1, b'{"build":"green"}')
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


def test_events(tmp_path: Path) -> None:
    program, port = start_elsewhere(tmp_path, "events.py")
    with program, upgraded(port, "/chat") as chat:
        assert b"EventSource" in request(port, "GET / HTTP/1.1").body
        for last_id, want in (("", [b"one", b"two"]), ("1", [b"two"])):
            with Peer(port) as peer:
                lines = f"GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: {last_id}\r\n\r\n"
                peer.send(lines.encode())
                peer.response()
                assert next_chunk(peer) == b"retry: 1000\n\n"
                if not last_id:
                    chat.send(frame(b"one") + frame(b"two"))
                for number, text in enumerate(want, 3 - len(want)):
                    assert next_chunk(peer) == b"id: %d\ndata: %s\n\n" % (number, text)
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


# ---- all of them --------------------------------------------------------------------------------


def test_the_readme_names_every_example() -> None:
    folder = ROOT / "examples"
    text = (folder / "README.md").read_text(encoding="utf-8")
    files = [path for kind in ("c/*.c", "py/*.py", "brokers/*.py") for path in folder.glob(kind)]
    assert len(files) > 20
    assert [path for path in files if f"]({path.relative_to(folder)})" not in text] == []
