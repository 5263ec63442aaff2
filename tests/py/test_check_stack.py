# SPDX-License-Identifier: MIT
"""tools/check_stack.py finds what takes too much stack."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from chromium import unavailable
from test_checkers import TOOLS, plant, run

pytestmark = pytest.mark.skipif(not shutil.which("gcc"), reason="needs gcc")

STACK_GOOD = """
struct table { void (*on_input)(int n); };
extern const struct table protocol;
void use(char *bytes);
void ws__small(void (*fn)(int n), int n);
__attribute__((noinline)) void ws__small(void (*fn)(int n), int n)
{
    char bytes[1000];
    use(bytes);
    fn(n);
}
__attribute__((noinline)) static void input(int n)
{
    char bytes[1000];
    use(bytes);
    ws__small(0, n);
}
const struct table protocol = {
    .on_input = input,
};
void ws_server_step(const struct table *table);
void ws_server_step(const struct table *table)
{
    char bytes[1000];
    use(bytes);
    table[1].on_input(1);
}
"""


@pytest.mark.parametrize(
    ("old", "new", "want"),
    [
        ("", "", ""),
        ("char bytes[1000];", "char bytes[3000];", "takes 30.. bytes of stack, at most 2048"),
        (
            "char bytes[1000];",
            "char bytes[1500];",
            r"4.* to a callback, .*ws_server_step .* > input",
        ),
        ("char bytes[1000];", "char bytes[n];", "an amount of stack that has no limit"),
        ("    fn(n);", "    fn(n);\n    protocol.on_input(n);", ""),
    ],
    ids=["good", "a large frame", "a long way", "no limit", "a circle"],
)
def test_stack(tmp_path: Path, old: str, new: str, want: str) -> None:
    text = STACK_GOOD.replace(old, new) if old else STACK_GOOD
    if new == "char bytes[n];":
        text = STACK_GOOD.replace(old, new, 1)
    plant(tmp_path, {"csrc/ws.c": text})
    found = run("check_stack.py", tmp_path)
    assert bool(want) == bool(found), found
    assert not want or re.search(want, " ".join(found)), found


@pytest.mark.parametrize("bits", [32, 64])
def test_stack_of_another_cpu(tmp_path: Path, bits: int) -> None:
    """A frame that is too large with 32 bits only, and one that is with 64 bits only."""
    if not shutil.which("arm-linux-gnueabihf-gcc"):
        unavailable("no arm-linux-gnueabihf-gcc here")
    size = f"[8 * sizeof(void *) == {bits} ? 2100 : 500]"
    text = STACK_GOOD.replace("[1000]", size, 1).replace("[1000]", "[500]")
    plant(tmp_path, {"csrc/ws.c": text})
    found = run("check_stack.py", tmp_path, "--cc", "arm-linux-gnueabihf-gcc -mthumb")
    assert [line.split(" takes ")[0] for line in found] == ["ws__small"] * (bits == 32), found


@pytest.mark.parametrize("compiler", ["no-such-gcc -m32", ""])
def test_stack_needs_a_compiler(compiler: str) -> None:
    command = [sys.executable, str(TOOLS / "check_stack.py"), "--cc", compiler]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert f"--cc: there is no program {compiler.split(' ')[0]!r}\n" in done.stderr


def test_stack_needs_sources(tmp_path: Path) -> None:
    (tmp_path / "csrc").mkdir()
    assert run("check_stack.py", tmp_path) == ["csrc: no C functions found"]
