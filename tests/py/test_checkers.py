"""The checkers of tools/ fail on planted errors, and pass on trees without."""

import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest

ROOT = Path(__file__).resolve().parents[2]
TOOLS = ROOT / "tools"


def plant(root: Path, files: Dict[str, str]) -> None:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


def run(checker: str, root: Path, *arguments: str) -> List[str]:
    """The violations that a checker prints; its exit code must agree with them."""
    command = [sys.executable, str(TOOLS / checker), "--root", str(root), *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.stderr == ""
    assert done.returncode in (0, 1)
    return done.stdout.splitlines() if done.returncode else []


# ---- layers -----------------------------------------------------------------------------------

LAYERS_GOOD = {
    "csrc/ws.h": "#include <stdint.h>\n",
    "csrc/ws.c": '#include "ws.h"\n#include "conn.h"\n#include "loop.h"\n#include <errno.h>\n',
    "csrc/conn.h": '#include "protocol.h"\n',
    "csrc/conn.c": '#include "conn.h"\n#include <errno.h>\nint code = errno;\n',
    "csrc/request.c": '#include "conn.h"\n#include "http.h"\n',
    "csrc/protocol.h": '#include "frame.h"\n#include "buffer.h"\n',
    "csrc/http.c": '#include "http.h"\n/* errno, #include "conn.h" */\nconst char *s = "errno";\n',
    "csrc/buffer.h": '#include "ws.h"\n',
    "csrc/utf8.c": '#include "utf8.h"\n#include "buffer.h"\n',
    "csrc/net.c": '#include "net.h"\n#include "ws.h"\n#include "buffer.h"\n#include <time.h>\n',
}


def test_layers_accepts_the_map(tmp_path: Path) -> None:
    plant(tmp_path, LAYERS_GOOD)
    assert run("check_layers.py", tmp_path) == []


@pytest.mark.parametrize(
    ("name", "text", "want"),
    [
        ("csrc/frame.c", '#include "protocol.h"', "above"),
        ("csrc/protocol.c", '#include "conn.h"', "above"),
        ("csrc/protocol.c", "#include <conn.h>", "above"),
        ("csrc/buffer.c", '#  include  "frame.h"', "above"),
        ("csrc/conn.c", '#include "../csrc/conn.h"\n#include "zebra.h"', "not in the layer map"),
        ("csrc/http.c", '#include "frame.h"', "same layer"),
        ("csrc/protocol.h", '#include "handshake.h"', "same layer"),
        ("csrc/utf8.c", '#include "sha1.h"', "same layer"),
        ("csrc/loop.c", '#include "frame.h"', "nothing of WebSocket"),
        ("csrc/net.c", '#include "utf8.h"', "nothing of WebSocket"),
        ("csrc/loop.h", '#include "net.h"', "nothing of WebSocket"),
        ("csrc/ws.h", '#include "buffer.h"', "compiled alone"),
        ("csrc/http.c", "#include <errno.h>", "no sockets"),
        ("csrc/http.c", "#include <time.h>", "no sockets"),
        ("csrc/frame.c", "#include <sys/socket.h>", "no sockets"),
        ("csrc/router.c", "#include <sys/epoll.h>", "no sockets"),
        ("csrc/handshake.c", "#include <netinet/in.h>", "no sockets"),
        ("csrc/protocol.c", "int fail(void)\n{\n    return errno;\n}", "errno is not for"),
        ("csrc/frame.c", "#include HEADER", "written out"),
        ("csrc/extra.c", "int extra;", "is not in the layer map"),
    ],
)
def test_layers_finds(tmp_path: Path, name: str, text: str, want: str) -> None:
    plant(tmp_path, {**LAYERS_GOOD, name: text + "\n"})
    found = run("check_layers.py", tmp_path)
    assert len(found) == 1
    assert found[0].startswith(name + ":")
    assert want in found[0]


def test_layers_refuses_an_empty_tree(tmp_path: Path) -> None:
    assert run("check_layers.py", tmp_path) == ["csrc: no C sources found"]


# ---- functions --------------------------------------------------------------------------------


def c_function(name: str, length: int) -> str:
    """A function of so many lines from brace to brace."""
    return f"static int {name}(int a,\n    int b)\n{{\n" + "    a++;\n" * (length - 2) + "}\n"


# Braces where they do not count: literals, comments, macros, structs, initializers.
NOISE = """/* { */ // {
#define OPEN \\
    {
struct pair {
    int a[2];
};
static const char table[] = {'{', '"', '}'};
static const char *text = "{ \\" {";
"""


def test_functions_accepts_the_limits(tmp_path: Path) -> None:
    text = NOISE + c_function("f", 40) + "int last;\n"
    plant(tmp_path, {"csrc/a.c": text, "csrc/b.c": c_function("state", 80)})
    assert run("check_functions.py", tmp_path, "--allow", "csrc/b.c:state") == []


@pytest.mark.parametrize("length", [41, 80, 200])
def test_functions_finds_a_long_function(tmp_path: Path, length: int) -> None:
    text = c_function("fine", 40) + NOISE + c_function("grown", length)
    plant(tmp_path, {"csrc/a.c": text})
    assert run("check_functions.py", tmp_path) == [
        f"csrc/a.c:grown: {length} lines, at most 40 are allowed"
    ]


def test_functions_finds_an_exception_above_its_limit(tmp_path: Path) -> None:
    plant(tmp_path, {"csrc/a.c": c_function("state", 81)})
    assert run("check_functions.py", tmp_path, "--allow", "csrc/a.c:state") == [
        "csrc/a.c:state: 81 lines, at most 80 are allowed"
    ]


@pytest.mark.parametrize("name", ["csrc/a.c:short", "csrc/a.c:gone"])
def test_functions_finds_a_needless_exception(tmp_path: Path, name: str) -> None:
    plant(tmp_path, {"csrc/a.c": c_function("short", 40)})
    assert run("check_functions.py", tmp_path, "--allow", name) == [
        f"{name}: is on the list of exceptions without need"
    ]


@pytest.mark.parametrize(("lines", "want"), [(700, 0), (701, 1)])
@pytest.mark.parametrize("name", ["csrc/a.h", "tools/bench/load.c", "examples/c/echo.c"])
def test_functions_measures_files(tmp_path: Path, name: str, lines: int, want: int) -> None:
    plant(tmp_path, {"csrc/b.c": c_function("f", 3), name: "int a;\n" * lines})
    assert len(run("check_functions.py", tmp_path)) == want


def test_functions_refuses_an_empty_tree(tmp_path: Path) -> None:
    assert run("check_functions.py", tmp_path) == ["no C functions found"]


# ---- the requirement table --------------------------------------------------------------------

sys.path.insert(0, str(TOOLS))
from check_protocol_docs import REQUIRED  # noqa: E402


def test_docs_knows_the_requirements() -> None:
    assert len(REQUIRED) == 28 + 18 + 10 + 15
    assert "H" + "26" not in REQUIRED


def table(rows: List[str]) -> str:
    head = ["# Protocol", "| id | requirement | functions | tests |", "|---|---|---|---|"]
    return "\n".join(head + rows) + "\n"


def row(ids: str, functions: str = "", tests: str = "") -> str:
    functions = functions or "`csrc/frame.c:decode`, `csrc/frame.c:ws__frame_encode`"
    tests = tests or "`tests/py/test_wire.py::test_all[one]` `tests/c/test_frame.c` \"all of them\""
    return f"| {ids} | what it says | {functions} | {tests} |"


def docs_tree(root: Path, rows: List[str]) -> None:
    ids = " ".join(REQUIRED)
    plant(
        root,
        {
            "docs/protocol.md": table(rows),
            "csrc/frame.c": c_function("decode", 3) + c_function("ws__frame_encode", 3),
            "tests/c/test_frame.c": f'ok(1, "all "\n   "of them {ids}");\n',
            "tests/py/test_wire.py": "class TestWire:\n    def test_all(self): pass\n",
        },
    )


def test_docs_accepts_a_full_table(tmp_path: Path) -> None:
    docs_tree(tmp_path, [row(", ".join(REQUIRED[:2])), *map(row, REQUIRED[2:])])
    assert run("check_protocol_docs.py", tmp_path) == []


@pytest.mark.parametrize("missing", ["H0", "H28", "F1", "F18", "C1", "C10", "X1", "X15"])
def test_docs_finds_a_missing_row(tmp_path: Path, missing: str) -> None:
    docs_tree(tmp_path, [row(i) for i in REQUIRED if i != missing])
    assert run("check_protocol_docs.py", tmp_path) == [f"docs/protocol.md: {missing} is missing"]


@pytest.mark.parametrize(
    ("functions", "tests", "want"),
    [
        ("`csrc/frame.c:gone`", "", "no function gone in csrc/frame.c"),
        ("`csrc/lost.c:decode`", "", "no file csrc/lost.c"),
        ("`csrc/frame.c:decode`, `csrc/frame.c:gone`", "", "no function gone in csrc/frame.c"),
        ("the frame decoder", "", "names no function"),
        ("`csrc/frame.c:decode`, `decode()`", "", "cannot read the functions"),
        ("", "`tests/py/test_wire.py::test_gone`", "no test test_gone in tests/py/test_wire.py"),
        ("", "`tests/py/test_lost.py::test_all`", "no file tests/py/test_lost.py"),
        ("", '`tests/c/test_frame.c` "never said"', 'no test "never said" in tests/c/test_frame.c'),
        ("", "`tests/c/test_frame.c`", "names no test"),
        ("", "all of them", "names no test"),
    ],
)
def test_docs_finds(tmp_path: Path, functions: str, tests: str, want: str) -> None:
    first, *others = REQUIRED
    docs_tree(tmp_path, [row(first, functions, tests), *map(row, others)])
    found = run("check_protocol_docs.py", tmp_path)
    assert found
    assert all(line.startswith(f"docs/protocol.md:4: {first}: ") for line in found)
    assert want in found[0]


def test_docs_finds_an_untested_requirement(tmp_path: Path) -> None:
    docs_tree(tmp_path, [row(i) for i in REQUIRED])
    name = "tests/c/test_frame.c"
    text = (tmp_path / name).read_text().replace(" F" + "5 ", " xF" + "5 ")
    plant(tmp_path, {name: text})
    assert run("check_protocol_docs.py", tmp_path) == ["tests: no test names F" + "5"]


def test_docs_counts_the_name_of_a_python_test(tmp_path: Path) -> None:
    docs_tree(tmp_path, [row(i) for i in REQUIRED])
    name = "tests/c/test_frame.c"
    text = (tmp_path / name).read_text().replace(" F" + "5 ", " ")
    plant(tmp_path, {name: text, "tests/py/test_more.py": "def test_f5_length(): pass\n"})
    assert run("check_protocol_docs.py", tmp_path) == []


def test_docs_refuses_a_tree_without_the_table(tmp_path: Path) -> None:
    assert run("check_protocol_docs.py", tmp_path) == ["no file docs/protocol.md"]
