# SPDX-License-Identifier: MIT
"""The library as one file, which tools/amalgamate.py makes.

The C tests pass with it, too: `meson setup -Done_file=true`.
"""

import platform
import shutil
import subprocess
import sys
from pathlib import Path
from typing import List

import pytest
from builds import OPTIONAL, has_module
from chromium import unavailable
from common import ROOT

SCRIPT = ROOT / "tools" / "amalgamate.py"
LEFT_OUT = ("bridge.c", "bridge.h", "bridge_http.c", "bridge_http.h")
WARNINGS = ["-Wall", "-Wextra", "-Wshadow", "-Wconversion", "-Wsign-conversion", "-Wundef"]
PROGRAM = """
#include "pyws.h"

int main(void)
{
    ws_config config;
    ws_server *server = 0;
    ws_listen_options options;
    if (ws_config_init(&config, sizeof config) || ws_server_new(&server, &config) ||
        ws_listen_options_init(&options, sizeof options))
        return 1;
    options.host = "127.0.0.1";
    if (ws_server_listen(server, &options) <= 0 || ws_server_step(server, 0) != 1)
        return 1;
    ws_server_free(server);
    return 0;
}
"""


def run(*command: object) -> None:
    done = subprocess.run(
        [str(word) for word in command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stdout


def need(*programs: str) -> None:
    for name in programs:
        if not shutil.which(name):
            pytest.skip(f"needs {name}")


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("one_file")
    run(sys.executable, SCRIPT, "--output", folder)
    return folder


def test_e2_it_is_two_files_that_include_none_of_the_others(made: Path) -> None:
    assert sorted(path.name for path in made.iterdir()) == ["pyws.c", "pyws.h"]
    lines = [line for path in made.iterdir() for line in path.read_text().splitlines()]
    assert [line for line in lines if line.startswith('#include "')] == ['#include "pyws.h"']


def test_e2_nothing_is_missing_and_nothing_is_there_twice(made: Path) -> None:
    text = "".join(path.read_text() for path in made.iterdir())
    for path in (ROOT / "csrc").glob("*.[ch]"):
        times = text.count(f"/* ======== {path.name} ======== */")
        assert times == (path.name not in LEFT_OUT), path


@pytest.mark.packaging
@pytest.mark.timeout(300)
@pytest.mark.parametrize(
    ("flags", "header"),
    [
        (["-DWS_NO_DEFLATE"], ""),
        (["-lz"], "zlib.h"),
        (["-DWS_NO_DEFLATE", "-DWS_TLS_OPENSSL", "-lssl", "-lcrypto"], "openssl/ssl.h"),
        (["-DWS_NO_RESOLVER", "-lz"], "zlib.h"),
        ([f"-D{switch}" for switch in ("WS_NO_DEFLATE", *OPTIONAL.values())], ""),
    ],
    ids=["libc alone", "zlib", "OpenSSL", "no resolver", "as small as it gets"],
)
def test_e2_a_program_takes_it_along(
    made: Path, tmp_path: Path, flags: List[str], header: str
) -> None:
    """A program in C, and one in C++."""
    need("cc", "c++")
    if header and not (Path("/usr/include") / header).exists():
        pytest.skip(f"needs {header}")
    library = tmp_path / "pyws.o"
    definitions = [flag for flag in flags if flag.startswith("-D")]
    libraries = [flag for flag in flags if flag.startswith("-l")]
    run("cc", "-std=c11", "-Os", *WARNINGS, "-Werror", *definitions, "-c", made / "pyws.c",
        "-o", library)  # fmt: skip
    for name, *compiler in ("main.c", "cc", "-std=c11"), ("main.cpp", "c++", "-std=c++11"):
        (tmp_path / name).write_text(PROGRAM)
        run(*compiler, *WARNINGS, "-Werror", "-I", made, tmp_path / name, library,
            "-o", tmp_path / "main", *libraries)  # fmt: skip
        run(tmp_path / "main")


@pytest.mark.packaging
@pytest.mark.timeout(300)
@pytest.mark.parametrize("compiler", ["gcc", "clang"])
def test_e1_each_part_may_be_left_out_alone(made: Path, compiler: str) -> None:
    """clang also warns of functions of headers that nothing calls, if all is one file."""
    need(compiler)
    for part in OPTIONAL.values():
        switches = ["WS_NO_DEFLATE", part, *(["WS_NO_CLUSTER"] if part == "WS_NO_TOPICS" else [])]
        definitions = [f"-D{switch}" for switch in switches]
        run(compiler, "-std=c11", *WARNINGS, "-Werror", *definitions, "-fsyntax-only",
            made / "pyws.c")  # fmt: skip


@pytest.mark.packaging
@pytest.mark.timeout(300)
def test_e1_the_oldest_glibc(made: Path, tmp_path: Path) -> None:
    """With the headers and the functions of glibc 2.17, of 2012."""
    if not has_module("ziglang"):
        unavailable("no ziglang (PyPI) here")
    main, program = tmp_path / "main.c", tmp_path / "main"
    main.write_text(PROGRAM)
    target = f"{platform.machine()}-linux-gnu.2.17"
    compiler = [sys.executable, "-m", "ziglang", "cc", "-target", target]
    flags = ["-std=c11", "-Os", *WARNINGS, "-Werror", "-DWS_NO_DEFLATE", "-I", made]
    run(*compiler, *flags, main, made / "pyws.c", "-o", program)
    run(program)
