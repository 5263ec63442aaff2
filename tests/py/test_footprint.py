"""tools/footprint.py notices what grows, and the program of docs/embedding.md works."""

import json
import re
import shutil
import socket
import subprocess
import sys
from pathlib import Path
from typing import Dict

import pytest
from builds import OPTIONAL, apply_builds, has_programs, run
from common import ROOT
from peer import close_frame, frame, upgraded

PAGE = (ROOT / "docs" / "embedding.md").read_text()
SWITCHES = (ROOT / "packaging" / "README.md").read_text()
TOOL = ROOT / "tools" / "footprint.py"
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
