"""tools/bench: the guards of the hot path can fail, and the load generator believes nothing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, List, Tuple

import peer
import pytest
from conftest import ROOT

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not shutil.which("cc"), reason="needs cc"),
]

SLOW = "for (volatile int i = 0; i < 100; i++) continue;"
CHATTY = "ws__net_write(conn->fd, NULL, 0);"


def run(*command: Any) -> Tuple[int, str]:
    done = subprocess.run(
        [str(part) for part in command],
        env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    return done.returncode, done.stdout


def compile_c(output: Path, *sources: Path) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-std=c11", "-O2", "-g", "-D_GNU_SOURCE", "-DWS_BUILDING", "-fvisibility=hidden"]
    code, text = run("cc", *flags, f"-I{sources[0].parent}", *sources, "-o", output, "-lm")
    assert code == 0, text


def build(folder: Path, planted: str = "") -> Path:
    """The programs of a build folder; `planted` is run by every ws_conn_send."""
    sources = folder / "csrc"
    shutil.copytree(ROOT / "csrc", sources)
    send = sources / "send.c"
    begin = "int ws_conn_send(ws_conn *conn, const void *data, size_t length, int opcode)\n{\n"
    text = send.read_text()
    assert text.count(begin) == 1
    send.write_text(text.replace(begin, begin + planted + "\n"))
    echo = ROOT / "examples" / "c" / "echo.c"
    core = [path for path in sources.glob("*.c") if path.name != "deflate.c"]
    compile_c(folder / "examples" / "c" / "echo", *core, echo)
    bench = ROOT / "tools" / "bench"
    parts = [bench / name for name in ("load.c", "client.c", "measure.c", "accept.c")]
    compile_c(folder / "tools" / "bench" / "load", *parts)
    return folder


def check(tool: str, folder: Path, *arguments: str) -> Tuple[int, str]:
    return run(sys.executable, ROOT / "tools" / "bench" / tool, "--build", folder, *arguments)


@pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind")
def test_budget_fails_on_a_planted_slowdown(tmp_path: Path) -> None:
    code, text = check("budget.py", build(tmp_path, SLOW), "--cases", "echo64", "--repeat", "1")
    assert code == 1, text
    assert "ABOVE BUDGET" in text


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
def test_syscalls_fail_on_a_planted_call(tmp_path: Path) -> None:
    code, text = check("syscalls.py", build(tmp_path, CHATTY))
    assert code == 1, text


def faulty_servers() -> List[Any]:
    return [
        pytest.param(lambda message: message, 0, id="right"),
        pytest.param(lambda message: message[:-1] + b"!", 1, id="one byte differs"),
        pytest.param(lambda message: message[:-1], 1, id="too short"),
    ]


@pytest.mark.parametrize(("change", "status"), faulty_servers())
def test_load_compares_what_comes_back(
    serve: Any, tmp_path: Path, change: Any, status: int
) -> None:
    server = serve(message=lambda ws, msg, opcode: ws.send(change(msg.encode()), opcode))
    load = build(tmp_path) / "tools" / "bench" / "load"
    code, text = run(load, "--port", server.port, "--conns", 2, "--messages", 20, "--timeout", 10)
    assert code == status, text
    peer.eventually(lambda: server.call(server.app.stats)["open"] == 0)
