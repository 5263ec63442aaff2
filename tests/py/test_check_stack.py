"""tools/check_stack.py finds what takes too much stack."""

import re
import shutil
from pathlib import Path

import pytest
from test_checkers import plant, run

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


def test_stack_needs_sources(tmp_path: Path) -> None:
    (tmp_path / "csrc").mkdir()
    assert run("check_stack.py", tmp_path) == ["csrc: no C functions found"]
