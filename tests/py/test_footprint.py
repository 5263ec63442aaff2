# SPDX-License-Identifier: MIT
"""The tools behind docs/embedding.md notice what grows, and its program works."""

import contextlib
import json
import os
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from threading import Thread
from typing import Dict, Iterable, Tuple

import pytest
from builds import OPTIONAL, apply_builds, has_programs, run
from common import ROOT
from peer import close_frame, frame, upgraded

PAGE = (ROOT / "docs" / "embedding.md").read_text()
SWITCHES = (ROOT / "packaging" / "README.md").read_text()
TOOL = ROOT / "tools" / "footprint.py"
SWITCHED = b"HTTP/1.1 101 Switching Protocols\r\n\r\n"
COMPARISON = ROOT / "tools" / "bench" / "embedded.py"
GROWTH = """
#include "ws.h"
WS_API const char *ws_growth(void);
const char *ws_growth(void)
{
    static const char constant[8192] = "grown";
    static int calls;
    volatile char stack[6000];
    stack[calls] = 0;
    return constant + calls++ + stack[0];
}
"""


def measure(csrc: Path, budgets: Path, option: str) -> "subprocess.CompletedProcess[str]":
    command = [sys.executable, str(TOOL), "--targets", "x86_64", "--profiles", "no deflate"]
    return subprocess.run(
        [*command, "--csrc", str(csrc), "--budgets", str(budgets), option],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=280,
        check=False,
    )


def wrong(output: str) -> Dict[str, str]:
    """The lines about budgets: what, and what is wrong with it."""
    lines = (line.partition(": ") for line in output.splitlines() if " budget" in line)
    return {name.rpartition("/")[2]: why for name, _, why in lines}


@apply_builds
@pytest.mark.skipif(not has_programs("gcc", "musl-gcc"), reason="needs gcc and musl-gcc")
def test_planted_growth_is_above_budget(tmp_path: Path) -> None:
    csrc, budgets = tmp_path / "csrc", tmp_path / "budgets.json"
    shutil.copytree(ROOT / "csrc", csrc)
    done = measure(csrc, budgets, "--update")
    assert done.returncode == 0, done.stdout
    assert json.loads(budgets.read_text())["x86_64/no deflate/writable"] == 0
    (csrc / "growth.c").write_text(GROWTH)
    conn = csrc / "conn.h"
    grown = conn.read_text().replace(
        "    struct ws__pulse pulse;\n", "    struct ws__pulse pulse;\n    char growth[32];\n"
    )
    conn.write_text(grown)
    done = measure(csrc, budgets, "--check")
    assert done.returncode == 1
    assert set(wrong(done.stdout)) == {"library", "writable", "frame", "connection"}, done.stdout


@apply_builds
@pytest.mark.skipif(not has_programs("gcc", "musl-gcc"), reason="needs gcc and musl-gcc")
def test_what_has_no_budget_is_a_failure(tmp_path: Path) -> None:
    budgets = tmp_path / "budgets.json"
    done = measure(ROOT / "csrc", budgets, "--check")
    assert done.returncode == 1
    assert set(wrong(done.stdout).values()) != set()
    assert all("no budget: see --update" in why for why in wrong(done.stdout).values())


def test_budgets_and_documentation_agree() -> None:
    """The tables of docs/embedding.md are at most the budgets."""
    budgets = json.loads(TOOL.with_suffix(".json").read_text())
    rows = re.findall(r"^\| (\w+) \| ([\w ]+) \| ([\d,]+) \| ([\d,-]+) \|", PAGE, re.MULTILINE)
    assert rows
    for target, profile, library, server in rows:
        for what, cell in (("library", library), ("server", server)):
            if cell != "-":
                assert int(cell.replace(",", "")) <= budgets[f"{target}/{profile}/{what}"]


def part(pattern: str) -> str:
    """Return what the only group of the pattern matches in docs/embedding.md."""
    found = re.search(pattern, PAGE, re.M | re.S)
    assert found, pattern
    return found[1]


def build_as_documented(folder: Path, program: str, switches: str = "") -> str:
    """Copy csrc/ and compile the program, both by the commands of the page; return its path."""
    (folder / "pyws").symlink_to(ROOT)
    (folder / "echo.c").write_text(program)
    command = part(r"^cc ([^\n]*)$")
    run(["sh", "-c", part(r"^(cp -r pyws/csrc [^\n]*)$")], folder)
    run(["sh", "-c", f"cc {command} {switches} -Wall -Wextra -Werror"], folder)
    return str(folder / "echo")


PROGRAM = part(r"<!-- file: embedding.c -->\n```c\n(.*?)^```$")


@apply_builds
def test_the_program_of_the_documentation(tmp_path: Path) -> None:
    """docs/embedding.md: the program and the commands that build it."""
    echo = build_as_documented(tmp_path, PROGRAM.replace("port = 8000", "port = 0"))
    with subprocess.Popen([echo], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            with upgraded(int(process.stdout.readline().split()[-1])) as peer:
                peer.send(frame(b"small"))
                assert peer.frame().payload == b"small"
                peer.send(close_frame(1000))
                assert peer.frame().close_code == 1000
        finally:
            process.terminate()


@apply_builds
def test_the_program_with_limits_and_every_switch(tmp_path: Path) -> None:
    """docs/embedding.md: the settings of 8 MB, all that saves bytes, and a port that is taken."""
    limits = part(r"^```c\n(    ws_config config;.*?)^```$")
    flags = f"{part(r'`(-ffunction-sections [^`]*)`')} {part(r'optimization, `(-f[^`]*)`')}"
    switches = " ".join(re.findall(r"^\| `(-DWS_NO_\w+)`", SWITCHES, re.M))
    with socket.create_server(("", 0)) as taken:
        program = PROGRAM.replace("    int result = ws_server_new(&server, NULL);\n", limits)
        program = program.replace("port = 8000", f"port = {taken.getsockname()[1]}")
        echo = build_as_documented(tmp_path, program, f"{flags} {switches}")
        done = subprocess.run([echo], stderr=subprocess.PIPE, text=True, check=False)
    assert limits in program
    assert sorted(switches.split()) == sorted(
        f"-D{s}" for s in ("WS_NO_DEFLATE", *OPTIONAL.values())
    )
    assert (done.returncode, done.stderr) == (1, "echo: Address already in use\n")


def compare(*options: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, str(COMPARISON), *options],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )


@apply_builds
@pytest.mark.skipif(not has_programs("gcc"), reason="needs gcc")
def test_the_comparison_measures_a_connection(tmp_path: Path) -> None:
    """Planted bytes are found; an idle connection has less than 1 KiB besides."""
    shutil.copytree(ROOT / "csrc", tmp_path / "csrc")
    conn = tmp_path / "csrc" / "conn.h"
    pulse = "    struct ws__pulse pulse;\n"
    conn.write_text(conn.read_text().replace(pulse, f"{pulse}    char growth[4096];\n"))
    done = compare("--libraries", "pyws", "--csrc", str(tmp_path / "csrc"))
    assert done.returncode == 0, done.stderr
    row = re.search(r"^\| pyws, without compression \| ([\d,]+) \| ([\d,]+) \|", done.stdout, re.M)
    assert row, done.stdout
    library, connection = (int(number.replace(",", "")) for number in row.groups())
    assert 20_000 < library < 200_000
    assert 4096 < connection < 4096 + 1024


def test_the_comparison_names_what_is_not_installed(tmp_path: Path) -> None:
    """A compiler that finds no library returns the name alone."""
    (tmp_path / "cc").write_text('#!/bin/sh\necho "${1#*=}"\n')
    (tmp_path / "cc").chmod(0o755)
    path = f"{tmp_path}:{os.environ.get('PATH', '')}"
    done = compare("--libraries", "mongoose,civetweb,libwebsockets,wslay", PATH=path)
    assert (done.returncode, len(done.stdout.splitlines())) == (0, 2), done.stderr
    assert done.stderr == (
        "mongoose is left out: --mongoose DIR says where its sources are\n"
        "civetweb is left out: Debian's package libcivetweb-dev is not installed\n"
        "libwebsockets is left out: Debian's package libwebsockets-dev is not installed\n"
        "wslay is left out: Debian's package libwslay-dev is not installed\n"
    )


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (("--libraries", "pyws,lws"), "--libraries: 'lws' is not one of pyws, mongoose, civetweb,"),
        (("--mongoose", "/dev"), "--mongoose: there is no mongoose.c in /dev"),
    ],
)
def test_the_comparison_refuses(options: Tuple[str, ...], said: str) -> None:
    done = compare(*options)
    assert done.returncode == 2
    assert said in done.stderr


def answer(listener: socket.socket, parts: Iterable[bytes]) -> None:
    """Send one part for each that arrives."""
    connection, _ = listener.accept()
    with connection:
        for part in parts:
            connection.recv(4096)
            connection.sendall(part)
        connection.shutdown(socket.SHUT_WR)
        while connection.recv(4096):
            pass


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ((b"HTTP/1.1 404 Not Found\r\n\r\n",), "refused the opening handshake"),
        ((b"HTTP/1.1 101 ",), "closed the connection after b'HTTP/1.1 101 '"),
        ((SWITCHED, b"\x81\x05hallo"), "closed the connection after b'.*hallo'"),
        ((SWITCHED, b"\x81\x05hello"), ""),
    ],
    ids=["refused", "cut", "other", "right"],
)
def test_the_tools_check_the_echo(
    monkeypatch: pytest.MonkeyPatch, parts: Tuple[bytes, ...], said: str
) -> None:
    monkeypatch.syspath_prepend(TOOL.parent)
    import footprint

    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = Thread(target=answer, args=(listener, parts), daemon=True)
        server.start()
        with pytest.raises(SystemExit, match=said) if said else contextlib.nullcontext():
            footprint.echo_once(listener.getsockname()[1])
        server.join(20)
        assert not server.is_alive()


def test_the_comparison_agrees_with_the_documentation(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/embedding.md: the rows are those of the tool, and pyws has the same size as above."""
    monkeypatch.syspath_prepend(TOOL.parent)
    monkeypatch.syspath_prepend(COMPARISON.parent)
    import embedded  # type: ignore[import-not-found, unused-ignore]

    rows = re.findall(r"^\| (\w+)[^|]* \| ([\d,]+) \| [\d,]+ \| ([^|]+) \|$", PAGE, re.M)
    assert [(name, what) for name, _, what in rows] == [
        (name, library.what) for name, library in embedded.LIBRARIES.items()
    ]
    assert rows[0][1] == part(rf"^\| x86_64 \| {embedded.PROFILE} \| ([\d,]+) \|")
