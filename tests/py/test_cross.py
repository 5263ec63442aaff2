# SPDX-License-Identifier: MIT
"""What the tests for other CPUs (packaging/cross) stand on: its checks notice what they must."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List, Set

import pytest
from builds import has_programs
from chromium import unavailable
from common import ROOT

BYTE_COST = ROOT / "tools" / "bench" / "byte_cost.py"
CHECK = ROOT / "packaging" / "cross" / "check.sh"


# ---- masking and UTF-8 against loops over bytes -----------------------------------------------


def byte_cost(csrc: Path, cc: str, qemu: str) -> "subprocess.CompletedProcess[str]":
    if not has_programs(cc.split()[0], qemu):
        unavailable(f"no {cc.split()[0]} or no {qemu} here")
    command = [sys.executable, str(BYTE_COST), "--csrc", str(csrc), "--cc", cc, "--qemu", qemu]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)


ARMV5 = ("arm-linux-gnueabi-gcc -march=armv5te -O2", "qemu-arm")


@pytest.mark.timeout(300)
def test_e3_no_slower_than_bytes() -> None:
    """E3, on a CPU where words must be aligned."""
    done = byte_cost(ROOT / "csrc", *ARMV5)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [line.split(": ")[1].strip() for line in done.stdout.splitlines()] == [
        "mask",
        "ascii",
        "utf8",
    ]


@pytest.mark.timeout(300)
def test_e3_words_at_any_address_are_noticed(tmp_path: Path) -> None:
    """The same CPU, with words that lie at any address: the compiler loads them as bytes."""
    csrc = tmp_path / "csrc"
    shutil.copytree(str(ROOT / "csrc"), str(csrc))
    words = csrc / "words.h"
    text = words.read_text()
    assert "#if !defined(WS__ALIGNED_WORDS)" in text
    words.write_text(text.replace("#if !defined(WS__ALIGNED_WORDS)", "#if 1 || defined(ANY)", 1))
    done = byte_cost(csrc, *ARMV5)
    assert done.returncode == 1, done.stdout + done.stderr
    assert re.search(r"mask: .*SLOWER", done.stdout)


# ---- system calls that fail -------------------------------------------------------------------

# What the library calls beside system calls, and system calls that cannot fail.
OF_THE_C_LIBRARY = r"""
    __\w+ free freeaddrinfo inet_ntop inet_pton mem\w+ pthread_self realloc str\w+ v?snprintf
    deflate\w* inflate\w*
    clock_gettime getpid sigaddset sigemptyset sigismember sigpending sigprocmask sigtimedwait time
"""


def system_calls(archive: Path) -> Set[str]:
    done = subprocess.run(
        ["nm", "-u", str(archive)], capture_output=True, text=True, timeout=60, check=True
    )
    names = {line.split()[-1] for line in done.stdout.splitlines() if " U " in line}
    known = "|".join([*OF_THE_C_LIBRARY.split(), "ws_\\w+", "_GLOBAL_OFFSET_TABLE_"])
    return {name for name in names if not re.fullmatch(known, name)}


def test_every_system_call_fails_once() -> None:
    """T80, T82, T85: test_faults.c wraps every system function that the library calls."""
    archive = Path(os.environ.get("PYWS_LIBRARY", "")).parent / "csrc" / "libws_core.a"
    if not archive.exists() or not has_programs("nm"):
        pytest.skip("needs the build folder of the library, and nm")
    wrapped = set(re.findall(r"^    X\((\w+),", (ROOT / "tests/c/faults.h").read_text(), re.M))
    called = {re.sub("64$", "", name) for name in system_calls(archive)}
    assert called == wrapped


# ---- check.sh ---------------------------------------------------------------------------------


def check(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [str(CHECK), *arguments], capture_output=True, text=True, timeout=60, check=False
    )


def cross_files() -> List[str]:
    return sorted(path.stem for path in CHECK.parent.glob("*.ini"))


def test_e1_all_names_every_target() -> None:
    text = CHECK.read_text()
    named: Set[str] = set()
    for line in re.findall(r"targets\+=\(([a-z0-9 -]+)\)", text):
        named |= set(line.split())
    assert named == {*cross_files(), "native"}


def test_wrong_arguments() -> None:
    assert check().returncode == 2
    unknown = check("vax")
    assert (unknown.returncode, unknown.stderr) == (2, "no target is called vax\n")
    assert check("--fast", "native").stderr == "unknown option --fast\n"
