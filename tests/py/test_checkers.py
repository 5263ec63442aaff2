# SPDX-License-Identifier: MIT
"""The checkers of tools/ fail on planted errors, and pass on trees without."""

import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest
from common import ROOT

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
    "csrc/conn.c": '#include "conn.h"\n#include <errno.h>\nint code = errno;\n'
    "static int own;\nenum { BOTH };\nstruct pair {\n    int a;\n};\nstatic void once(void)\n{\n}\n"
    "void ws__conn_free(int a)\n{\n    own = a;\n}\n",
    "csrc/request.c": '#include "request.h"\n#include "conn.h"\n#include "http.h"\n',
    "csrc/send.c": '#include "send.h"\nstatic int total = 2;\nvoid ws__send_one(void)\n{\n}\n'
    "void ws__send_two(void)\n{\n    ws__conn_free(total);\n}\n",
    "csrc/send.h": "void ws__send_one(void);\nvoid ws__send_two(void);\n",
    "csrc/protocol.h": '#include "frame.h"\n#include "buffer.h"\n',
    "csrc/http.c": '#include "http.h"\n/* errno, #include "conn.h" */\nconst char *s = "errno";\n',
    "csrc/buffer.h": '#include "ws.h"\n',
    "csrc/utf8.c": '#include "utf8.h"\n#include "buffer.h"\n',
    "csrc/net.c": '#include "net.h"\n#include "buffer.h"\n#include "text.h"\n#include <time.h>\n',
    "csrc/sha1.h": "#include <stdint.h>\nvoid ws__sha1(int a);\n",
    "csrc/sha1.c": '#include "sha1.h"\n#include <string.h>\n/* int ws__sha1(int); */\n'
    "int ws__sha1(int a)\n{\n    ws__a();\n    return ws__b(a) + a * ws__c(a);\n}\n"
    "int (*table)(int) = ws__sha1;\n",
    "csrc/buffer.c": '#include "buffer.h"\n#include <stdlib.h>\n',
    "csrc/deflate.c": '#include "deflate.h"\n#include <zlib.h>\n#include <stdio.h>\n',
    "csrc/bridge.c": '#include "bridge.h"\n#include <pthread.h>\n',
    # Each .c file that is planted below has a header.
    "csrc/bridge.h": "",
    "csrc/tls_openssl.h": '#include "tls_names.h"\n#include "ws_openssl.h"\n',
    "csrc/tls_mbedtls.c": '#include "ws_mbedtls.h"\n#include <mbedtls/ssl.h>\n',
    "csrc/deflate.h": "",
    "csrc/frame.h": "",
    "csrc/handshake.h": "",
    "csrc/http.h": "",
    "csrc/loop.h": "",
    "csrc/net.h": "",
    "csrc/request.h": "",
    "csrc/router.h": "",
    "csrc/stream.h": "",
    "csrc/utf8.h": "",
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
        ("csrc/stream.c", '#include "ws_openssl.h"', "of layer 8, above layer 3"),
        ("csrc/ws_mbedtls.h", "#include <mbedtls/ssl.h>", "only tls_mbedtls.c may"),
        ("csrc/tls_mbedtls.c", '#include "text.h"', "must go through ws.h alone"),
        ("csrc/tls_openssl.c", '#include "net.h"', "must go through ws.h alone"),
        ("csrc/tls_openssl.c", "#include <openssl/ssl.h>", "only tls_openssl_linked.c may"),
        ("csrc/loop.c", '#include "frame.h"', "nothing of WebSocket"),
        ("csrc/net.c", '#include "utf8.h"', "nothing of WebSocket"),
        ("csrc/loop.h", '#include "net.h"', "nothing of WebSocket"),
        ("csrc/ws.h", '#include "buffer.h"', "compiled alone"),
        ("csrc/bridge.c", '#include "conn.h"', "through ws.h alone"),
        ("csrc/bridge.h", '#include "buffer.h"', "through ws.h alone"),
        ("csrc/http.c", "#include <errno.h>", "not on the list"),
        ("csrc/http.c", "#include <time.h>", "not on the list"),
        ("csrc/frame.c", "#include <sys/socket.h>", "not on the list"),
        ("csrc/router.c", "#include <sys/epoll.h>", "not on the list"),
        ("csrc/handshake.c", "#include <netinet/in.h>", "not on the list"),
        ("csrc/router.c", "#include <stdlib.h>", "not on the list"),
        ("csrc/utf8.h", "#include <sys/never_heard_of.h>", "not on the list"),
        ("csrc/http.c", "char quote = '\"'; /* \" */\n#include <math.h>", "not on the list"),
        ("csrc/protocol.c", "#include <zlib.h>", "only deflate.c may"),
        ("csrc/send.c", "#include <zlib.h>", "only deflate.c may"),
        ("csrc/conn.c", "int ws__frame_size(int a);", "declares ws__frame_size itself"),
        ("csrc/net.c", "extern struct a *ws__a_new(\n    int a);", "declares ws__a_new itself"),
        ("csrc/send.c", "void f(void)\n{\n    int ws__g(void);\n}", "declares ws__g itself"),
        ("csrc/utf8.c", "int a;\nint ws__g(void) __attribute__((cold));", "declares ws__g itself"),
        ("csrc/protocol.c", "int fail(void)\n{\n    return errno;\n}", "errno is not for"),
        ("csrc/frame.c", "#include HEADER", "written out"),
        ("csrc/topics.c", "int a;", "has no topics.h"),
        (
            "csrc/http.c",
            "int f(void)\n{\n    return ws__send_one();\n}",
            "of layer 4, above layer 1",
        ),
        ("csrc/conn.c", "void ws__conn_free(int a)\n{\n    ws__send_one();\n}", "after conn in"),
        (
            "csrc/stream.c",
            "void f(void)\n{\n    table.end = ws__send_two;\n}",
            "of send.c is of layer",
        ),
        (
            "csrc/send.c",
            "void ws__send_two(void)\n{\n}\nvoid ws__send_one(void)\n{\n}",
            "ws__send_one comes after ws__send_two",
        ),
        ("csrc/utf8.c", "static int total = 1;", "total is defined in send.c, too"),
        ("csrc/router.c", "struct pair {\n    int a;\n};", "pair is defined in conn.c, too"),
        ("csrc/router.c", "enum { ALONE, BOTH = 2 };", "BOTH is defined in conn.c, too"),
        ("csrc/router.c", "static int once(void)\n{\n}", "once is defined in conn.c, too"),
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


# ---- layers of Python -------------------------------------------------------------------------

PYTHON_GOOD = {
    "pyws/__init__.py": "from ._native import lib as _lib\nfrom .app import App\n",
    "pyws/_native.py": "import ctypes\nfrom ._core.library import load\nlib = load()\n",
    "pyws/app.py": "from ._core import callbacks, runtime\nfrom .options import AppOptions\n"
    "class App:\n    def __init__(self): self._runtime = runtime.Runtime()\n"
    "    def run(self):\n        from ._core import aio\n        aio.run(self._runtime)\n",
    "pyws/options.py": "class AppOptions: pass\n",
    "pyws/websocket.py": "from ._core.sockets import Socket\n"
    "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .app import App\n"
    "class WebSocket(Socket):\n    def end(self): self._conn = 0\n",
    "pyws/_core/__init__.py": "",
    "pyws/_core/aio.py": "from . import runtime, sockets\n"
    "class Queue:\n    def __init__(self, ws): self._conn = ws\n",
    "pyws/_core/bridge.py": "import ctypes\nfrom .._native import lib\nctypes.pythonapi\n",
    "pyws/_core/callbacks.py": "import pyws._native\nfrom ..websocket import WebSocket\n",
    "pyws/_core/library.py": "import ctypes\n"
    "def load():\n    a = ctypes.CDLL('a')\n    return a._name, a._handle, a._fields_\n",
    "pyws/_core/runtime.py": "from .. import options\nfrom ..options import AppOptions\n"
    "class Runtime:\n    def _free(self): self._free()\n"
    "def end(r):\n    r._free()\n    r.__class__\n",
    "pyws/_core/sockets.py": "from .runtime import Runtime\n"
    "class Socket:\n    __slots__ = ('_conn', '_queue')\n"
    "def conn_of(ws): return ws._conn or ws._queue\n",
}


def test_python_layers_accepts_the_map(tmp_path: Path) -> None:
    plant(tmp_path, PYTHON_GOOD)
    assert run("check_python_layers.py", tmp_path) == []


@pytest.mark.parametrize(
    ("name", "text", "want"),
    [
        ("options", "from .app import App", "imports app of layer 17, and is itself of layer 7"),
        ("options", "from . import app", "imports app of layer 17"),
        ("options", "import pyws.app", "imports app of layer 17"),
        ("options", "from pyws.app import App", "imports app of layer 17"),
        ("options", "from pyws import App", "imports __init__ of layer 18"),
        ("_core/runtime", "from ..app import App", "imports app of layer 17"),
        ("_core/runtime", "from .. import app", "imports app of layer 17"),
        ("_core/runtime", "from . import sockets", "imports _core/sockets of layer 11"),
        (
            "_core/runtime",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ..app import App",
            "imports app of layer 17",
        ),
        ("websocket", "from .app import App", "imports app of layer 17"),
        (
            "websocket",
            "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from ._core.aio import run",
            "imports _core/aio of layer 14",
        ),
        ("_core/runtime", "def f():\n    from ..app import App", "imports app of layer 17"),
        ("_core/aio", "from .callbacks import a", "imports _core/callbacks of layer 14"),
        ("_core/runtime", "from .aio import a", "imports _core/aio of layer 14"),  # a circle
        ("_core/runtime", "from .runtime import a", "imports _core/runtime of layer 8"),
        ("_core/extra", "a = 1", "is not in the map"),
        ("app", "from ._core.lost import a", "imports _core/lost/__init__, which is not in"),
        ("app", "import ctypes", "imports ctypes"),
        ("app", "from ctypes import c_int", "imports ctypes"),
        ("_core/runtime", "import ctypes.util", "imports ctypes"),
        ("_native", "import ctypes\nctypes.pythonapi", "touches ctypes.pythonapi"),
        ("_native", "import ctypes\ngetattr(ctypes, 'pythonapi')", "touches ctypes.pythonapi"),
        ("_core/callbacks", "def f(ws): ws._queue", "reads _queue, which is private"),
        ("_core/callbacks", "def f(ws): ws._queue = 1", "reads _queue, which is private"),
        ("_core/callbacks", "from .runtime import _key", "reads _key, which is private"),
        ("_core/callbacks", "import os\nos._exit(1)", "reads _exit, which is private"),
        # Its own attribute of that name does not make those of others its own.
        ("_core/aio", "class Q:\n    def f(self, ws): self._conn = ws._conn", "reads _conn"),
        ("_core/library", "def f(a): return a._name", "has a reason to read _handle"),
        (
            "_core/library",
            "def f(a): return a._handle" + ", a._name" * 31,
            "there are 32 reads of private attributes, more than 30",
        ),
    ],
)
def test_python_layers_finds(tmp_path: Path, name: str, text: str, want: str) -> None:
    plant(tmp_path, {**PYTHON_GOOD, f"pyws/{name}.py": text + "\n"})
    found = run("check_python_layers.py", tmp_path)
    assert len(found) == 1, found
    assert want in found[0]


def test_python_layers_finds_what_is_not_installed(tmp_path: Path) -> None:
    plant(tmp_path, {"pyws/enums.py": "a = 1", "pyws/_core/fields.py": "b = 1"})
    plant(tmp_path, {"meson.build": "sources('pyws/enums.py')"})
    (found,) = run("check_python_layers.py", tmp_path)
    assert found.startswith("pyws/_core/fields.py:1: is not listed in meson.build")


def test_python_layers_refuses_an_empty_tree(tmp_path: Path) -> None:
    assert run("check_python_layers.py", tmp_path) == ["pyws: no modules found"]


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
        f"{name}: does not need to be on the list of exceptions"
    ]


@pytest.mark.parametrize(("lines", "want"), [(700, 0), (701, 1)])
@pytest.mark.parametrize(
    "name",
    [
        "csrc/a.h",
        "tools/bench/load.c",
        "examples/c/echo.c",
        "tests/c/test_a.c",
        "tests/py/a.py",
        "tools/a.py",
        "tools/conformance/cases/a.py",
        "tools/bench/a.py",
        "pyws/_core/a.py",
        "examples/py/a.py",
        "packaging/a.py",
        ".ci/a.py",
        "examples/a.js",
    ],
)
def test_functions_measures_files(tmp_path: Path, name: str, lines: int, want: int) -> None:
    plant(tmp_path, {"csrc/b.c": c_function("f", 3), name: "int a;\n" * lines})
    assert len(run("check_functions.py", tmp_path)) == want


def test_functions_measures_lines(tmp_path: Path) -> None:
    widest = "/* " + "─" * 94 + " */\n"
    plant(tmp_path, {"csrc/a.c": c_function("f", 3) + widest})
    assert run("check_functions.py", tmp_path) == []
    plant(tmp_path, {"csrc/a.c": widest + "/* " + "x" * 95 + " */\n" + c_function("f", 3)})
    assert run("check_functions.py", tmp_path) == [
        "csrc/a.c:2: 101 columns, at most 100 are allowed"
    ]
    plant(tmp_path, {"csrc/a.c": c_function("f", 3), "tests/c/test_a.c": "x" * 101})
    assert run("check_functions.py", tmp_path) == [
        "tests/c/test_a.c:1: 101 columns, at most 100 are allowed"
    ]


def test_functions_refuses_an_empty_tree(tmp_path: Path) -> None:
    assert run("check_functions.py", tmp_path) == ["no C functions found"]


# ---- rules and promises -----------------------------------------------------------------------

sys.path.insert(0, str(TOOLS))
from check_protocol_docs import PROMISES, PROTOCOL, REQUIRED  # noqa: E402

RULES, PROMISED = REQUIRED[PROTOCOL], REQUIRED[PROMISES]


def test_docs_knows_what_is_required() -> None:
    assert len(RULES) == 29 + 18 + 10 + 15 + 4
    assert len(PROMISED) == 51 + 90 + 11 + 7 + 8 + 5
    assert not {"S47", "T48"} & set(PROMISED)
    assert [i for i in PROMISED if i[0] == "E"] == ["E1", "E2", "E3", "E4", "E5"]


def table(head: str, rows: List[str]) -> str:
    return "\n".join(["# Page", head, "|---|---|---|", *rows]) + "\n"


def row(ids: str, functions: str = "", tests: str = "") -> str:
    functions = functions or "`csrc/frame.c:decode`, `csrc/frame.c:ws__frame_encode`"
    return promise(ids, tests).replace("says |", f"says | {functions} |", 1)


def promise(ids: str, tests: str = "") -> str:
    tests = tests or f'`tests/c/test_frame.c` "{ids.split(",")[0]} is kept"'
    return f"| {ids} | what it says | {tests} |"


# H0 and S1 are the first rows. What proves them, and what does not:
COMMENTS = '/* H0 said in a comment */ // "H0 quoted there"\nint H0_code;\n'
PYTHON_TESTS = """
class TestWire:
    def test_all(self):
        '''H0: a docstring, S1-S3'''
    def test_h0_named(self): pass
    def test_s01_named(self): pass
    def test_other(self):
        # H0 in a comment
        '''H1: of another row'''
        ok = 'H0 in a '  'literal'
"""


def docs_tree(root: Path, rules: List[str], promises: List[str]) -> None:
    literals = "".join(f'ok(1, "all: {i} " /* , */\n  "is kept");\n' for i in (*RULES, *PROMISED))
    plant(
        root,
        {
            PROTOCOL: table("| id | rule | functions | tests |", rules),
            PROMISES: table("| id | promise | tests |", promises),
            "csrc/frame.c": c_function("decode", 3) + c_function("ws__frame_encode", 3),
            "tests/c/test_frame.c": literals + COMMENTS,
            "tests/py/test_wire.py": PYTHON_TESTS,
            "tests/vectors/a.txt": "# H0 a vector\n> frame H0 no name\n",
            ".ci/run": "section 'H0: a section'\nstep true 'H0 of a step'\n# 'H0 a comment'\n",
        },
    )


def test_docs_accepts_full_tables(tmp_path: Path) -> None:
    rules = [row(", ".join(RULES[:2])), *map(row, RULES[2:])]
    docs_tree(tmp_path, rules, [promise(", ".join(PROMISED[:2])), *map(promise, PROMISED[2:])])
    assert run("check_protocol_docs.py", tmp_path) == []


@pytest.mark.parametrize(
    "missing",
    [
        *("H0", "H28", "F1", "F18", "C1", "C10", "X1", "X15", "L1", "L4", "S1", "S52", "T1", "T94"),
        *("P1", "P11", "W1", "W7", "B1", "B8", "E1", "E2", "E3", "E4", "E5"),
    ],
)
def test_docs_finds_a_missing_row(tmp_path: Path, missing: str) -> None:
    docs_tree(
        tmp_path,
        [row(i) for i in RULES if i != missing],
        [promise(i) for i in PROMISED if i != missing],
    )
    page = PROTOCOL if missing in RULES else PROMISES
    found = run("check_protocol_docs.py", tmp_path)
    assert found[0] == f"{page}: {missing} is missing"
    assert all(f" {missing} has no row in " in line for line in found[1:])


@pytest.mark.parametrize(
    ("functions", "tests", "want"),
    [
        ("`csrc/frame.c:gone`", "", "no function gone in csrc/frame.c"),
        ("`csrc/lost.c:decode`", "", "no file csrc/lost.c"),
        ("`csrc/frame.c:decode`, `csrc/frame.c:gone`", "", "no function gone in csrc/frame.c"),
        ("the frame decoder", "", "names no function"),
        ("`csrc/frame.c:decode`, `decode()`", "", "cannot read the functions"),
        ("not yet: decode", "not yet: a test", "is not there yet, but a test names it"),
        ("not yet: ", "", "names no function"),
    ],
)
def test_docs_finds_in_a_rule(tmp_path: Path, functions: str, tests: str, want: str) -> None:
    first, *others = RULES
    rules = [row(first, functions, tests), *map(row, others)]
    docs_tree(tmp_path, rules, list(map(promise, PROMISED)))
    found = run("check_protocol_docs.py", tmp_path)
    assert found
    assert all(line.startswith(f"docs/protocol.md:4: {first}: ") for line in found)
    assert want in found[0]


BAD_TESTS = [
    ("`tests/py/test_wire.py::test_gone`", "no test test_gone in tests/py/test_wire.py"),
    ("`tests/py/test_lost.py::test_all`", "no file tests/py/test_lost.py"),
    ('`tests/c/test_frame.c` "never said"', 'no test "never said" in tests/c/test_frame.c'),
    ("`tests/c/test_frame.c`", "names no test in tests/c/test_frame.c"),
    ("all of them", "names no test"),
    ("not yet: ", "names no test"),
    ('`tests/c/test_frame.c` "is kept"', 'test "is kept" in tests/c/test_frame.c does not'),
    ('`tests/c/test_frame.c` "H1 is kept"', "does not name it"),
    ('`tests/c/test_frame.c` "ID is kept" "never said"', 'no test "never said"'),
    ('`tests/c/test_frame.c` `tests/c/test_frame.c` "ID is kept"', "names no test in tests/c"),
    ('`tests/c/test_frame.c` "H0 said in a comment"', 'no test "H0 said'),
    ('`tests/c/test_frame.c` "H0 quoted there"', 'no test "H0 quoted'),
    ('`tests/c/test_frame.c` "H0_code"', 'no test "H0_code'),
    ('`tests/vectors/a.txt` "H0 no name"', 'no test "H0 no name"'),
    ('`tests/py/test_wire.py` "H0 in a comment"', 'no test "H0 in a comment"'),
    ('`.ci/run` "H0 of a step"', 'no test "H0 of a step" in .ci/run'),
    ('`.ci/run` "a section"', 'the test "a section" in .ci/run does not name it'),
    ("`tests/py/test_wire.py::TestWire::test_other`", "does not name it"),
]


@pytest.mark.parametrize(("tests", "want"), BAD_TESTS)
@pytest.mark.parametrize("page", [PROTOCOL, PROMISES])
def test_docs_finds(tmp_path: Path, page: str, tests: str, want: str) -> None:
    (first, *rules), (second, *promises) = RULES, PROMISED
    wrong = first if page == PROTOCOL else second
    tests = tests.replace("ID", wrong)
    docs_tree(
        tmp_path,
        [row(first, "", tests if wrong == first else ""), *map(row, rules)],
        [promise(second, tests if wrong == second else ""), *map(promise, promises)],
    )
    found = run("check_protocol_docs.py", tmp_path)
    assert found
    assert all(line.startswith(f"{page}:4: {wrong}: ") for line in found)
    assert want in found[0]


def test_docs_finds_a_second_row(tmp_path: Path) -> None:
    docs_tree(tmp_path, list(map(row, RULES)), [*map(promise, PROMISED), promise("F1")])
    found = run("check_protocol_docs.py", tmp_path)
    assert found == [f"docs/promises.md:{4 + len(PROMISED)}: F1: has a row in docs/protocol.md"]


@pytest.mark.parametrize(
    "test",
    [
        '`tests/c/test_frame.c` "H0 is kept"',
        '`tests/c/test_frame.c` "H0 is kept" "all: H0"',
        '`tests/vectors/a.txt` "H0 a vector"',
        '`.ci/run` "H0: a section"',
        '`tests/py/test_wire.py` "H0 in a literal"',
        "`tests/py/test_wire.py::TestWire::test_all[one]`",
        "`tests/py/test_wire.py::test_h0_named`",
    ],
)
def test_docs_accepts(tmp_path: Path, test: str) -> None:
    first, *others = RULES
    docs_tree(tmp_path, [row(first, "", test), *map(row, others)], list(map(promise, PROMISED)))
    assert run("check_protocol_docs.py", tmp_path) == []


@pytest.mark.parametrize(
    ("identifier", "test", "proves"),
    [
        ("S1", "`tests/py/test_wire.py::test_s01_named`", True),
        ("S1", "`tests/py/test_wire.py::test_all`", True),
        ("S2", "`tests/py/test_wire.py::test_all`", True),
        ("S3", "`tests/py/test_wire.py::test_all`", True),
        ("S4", "`tests/py/test_wire.py::test_all`", False),
    ],
)
def test_docs_knows_names_and_ranges(
    tmp_path: Path, identifier: str, test: str, proves: bool
) -> None:
    promises = [promise(i, test if i == identifier else "") for i in PROMISED]
    docs_tree(tmp_path, list(map(row, RULES)), promises)
    assert (run("check_protocol_docs.py", tmp_path) == []) == proves


def test_docs_accepts_what_is_not_there_yet(tmp_path: Path) -> None:
    rules = [row(i, "not yet: bodies", "not yet: bodies") if i == "H26" else row(i) for i in RULES]
    promises = [promise(i, "not yet: TLS") if i == "T86" else promise(i) for i in PROMISED]
    docs_tree(tmp_path, rules, promises)
    frame = tmp_path / "tests/c/test_frame.c"
    frame.write_text(frame.read_text().replace(": H26 ", ": ").replace(": T86 ", ": "))
    assert run("check_protocol_docs.py", tmp_path) == []


# F5 and S5, taken out of the literals; the rows that need them go with others.
OTHERS = [row("F4, F5"), promise("S4, S5")]


@pytest.mark.parametrize("identifier", ["F5", "S5"])
@pytest.mark.parametrize(
    ("name", "text", "proves"),
    [
        ("tests/py/test_more.py", "def test_id5_length(): pass\n", True),
        ("tests/py/test_more.py", "def test_it():\n    '''ID5: a docstring'''\n", True),
        ("tests/py/test_more.py", "CASES = ['ID5 length']\n", True),
        ("tests/c/test_more.c", 'ok(1, "ID5 length");\n', True),
        ("tests/vectors/more.txt", "# ID5 length\n> 82\n", True),
        (".ci/run", "section 'ID5: lengths'\n", True),
        (".ci/run", 'section "ID5: lengths of $version"\n', True),
        ("tests/py/test_more.py", "def id5_helper(): pass  # ID5\n", False),
        ("tests/py/test_more.py", "# def test_id5_length(): pass\n", False),
        ("tests/c/test_more.c", '/* ID5 "ID5" */ // "ID5"\nint ID5;\n', False),
        ("tests/c/test_more.c", 'ok(1, "xID5 ID555");\n', False),
        ("tests/vectors/more.txt", "# length\n> ID5\n", False),
        (".ci/run", "section 'lengths'\nstep echo 'ID5'\n# section 'ID5: lengths'\n", False),
        (".ci/more.py", "ID5 = 'ID5'\n", False),
    ],
)
def test_docs_counts_what_names_an_id(
    tmp_path: Path, identifier: str, name: str, text: str, proves: bool
) -> None:
    docs_tree(
        tmp_path,
        [OTHERS[0], *(row(i) for i in RULES if i not in ("F4", "F5"))],
        [OTHERS[1], *(promise(i) for i in PROMISED if i not in ("S4", "S5"))],
    )
    frame = tmp_path / "tests/c/test_frame.c"
    frame.write_text(frame.read_text().replace(f": {identifier} ", ": "))
    letter = identifier[0]
    plant(tmp_path, {name: text.replace("ID", letter).replace("id5", letter.lower() + "5")})
    want = [] if proves else [f"tests: no test names {identifier}"]
    assert run("check_protocol_docs.py", tmp_path) == want


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("csrc/loop.c", "int a; /* L5 */\n", 1),
        ("csrc/loop.h", "/* one line,\n * T48 in another */\n", 2),
        ("pyws/app.py", '"""Sessions (P12)."""\n', 1),
        ("tests/py/test_more.py", "# W8\n", 1),
        ("tests/py/test_more.py", "def test_b9_local(): pass\n", 1),
        ("tests/c/test_more.c", 'ok(1, "X16: no such rule");\n', 1),
        ("tests/vectors/more.txt", "# F19 a vector\n", 1),
        ("tools/tool.py", "A4 = 'A4'\n", 1),
        ("docs/page.md", "One\n\nand E6.\n", 3),
        ("examples/c/echo.c", "/* C11 */\n", 1),
        ("packaging/README.md", "H29\n", 1),
        ("README.md", "S53\n", 1),
    ],
)
def test_docs_finds_an_id_without_a_row(tmp_path: Path, name: str, text: str, line: int) -> None:
    docs_tree(tmp_path, list(map(row, RULES)), list(map(promise, PROMISED)))
    plant(tmp_path, {name: text})
    (found,) = run("check_protocol_docs.py", tmp_path)
    assert found.startswith(f"{name}:{line}: ")
    assert found.endswith(" has no row in docs/protocol.md or docs/promises.md")


def test_docs_leaves_what_is_no_id(tmp_path: Path) -> None:
    docs_tree(tmp_path, list(map(row, RULES)), list(map(promise, PROMISED)))
    plant(
        tmp_path,
        {
            "csrc/a.c": "/* C99, U+E000, A0-BF, xS53, T95x, B006, E402, %E2 */\n",
            "pyws/a.py": "SIZES = {'\\A5': 0}  # %C3%A9\n",
            "tests/py/test_checkers.py": "S53\n",
        },
    )
    assert run("check_protocol_docs.py", tmp_path) == []


PROMISE_TEST = "`tests/py/test_more.py::test_p3_drained`"


@pytest.mark.parametrize(
    ("identifier", "tests", "text", "want"),
    [
        ("P3", PROMISE_TEST, "def test_p3_drained(): pass\n", []),
        ("P3", PROMISE_TEST, "def test_p3_gone(): pass\n", ["no test test_p3_drained in"]),
        ("P4", PROMISE_TEST, "def test_p3_drained(): pass\n", ["does not name it"]),
        ("P3", "not yet: drained", "def test_p3_drained(): pass\n", ["is not there yet, but"]),
        ("P12", PROMISE_TEST, "def test_p3_drained(): 'P12'\n", ["no such id"]),
    ],
)
def test_docs_checks_tests_in_python(
    tmp_path: Path, identifier: str, tests: str, text: str, want: List[str]
) -> None:
    promises = [promise(i, tests if i == identifier else "") for i in PROMISED]
    if identifier not in PROMISED:
        promises.append(promise(identifier, tests))
    docs_tree(tmp_path, list(map(row, RULES)), promises)
    plant(tmp_path, {"tests/py/test_more.py": text})
    found = run("check_protocol_docs.py", tmp_path)
    assert len(found) == len(want), found
    assert all(part in line for part, line in zip(want, found))


@pytest.mark.parametrize("page", [PROTOCOL, PROMISES])
def test_docs_refuses_a_tree_without_a_page(tmp_path: Path, page: str) -> None:
    docs_tree(tmp_path, list(map(row, RULES)), list(map(promise, PROMISED)))
    (tmp_path / page).unlink()
    assert run("check_protocol_docs.py", tmp_path) == [f"no file {page}"]
