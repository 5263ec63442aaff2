"""What packaging/ and csrc/ offer to other build systems: each is true, and builds where it can."""

import subprocess
from pathlib import Path
from typing import List

import pytest
from builds import CONSUMER_C, MESON, apply_builds, copy_tree, has_programs, run
from chromium import unavailable
from common import ROOT
from peer import close_frame, frame, upgraded

EXAMPLES = ROOT / "examples" / "c"


def need_program(name: str) -> None:
    if not has_programs(name):
        unavailable(f"no {name} here")


def need_header(name: str) -> None:
    if not (Path("/usr/include") / name).exists():
        pytest.skip(f"needs {name}")


def check_echo(program: Path) -> None:
    """The example `echo`, started as a program, sends back what it gets."""
    with subprocess.Popen(
        [str(program), "--print-port"], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout
            with upgraded(int(process.stdout.readline())) as peer:
                peer.send(frame(b"built elsewhere"))
                assert peer.frame().payload == b"built elsewhere"
                peer.send(close_frame(1000))
                assert peer.frame().close_code == 1000
        finally:
            process.terminate()
        assert process.wait(20) == 0


# ---- make and CMake ---------------------------------------------------------------------------


@apply_builds
@pytest.mark.parametrize("deflate", ["yes", ""], ids=["zlib", "libc alone"])
def test_examples_by_make(tmp_path: Path, deflate: str) -> None:
    need_program("make")
    if deflate:
        need_header("zlib.h")
    build = tmp_path / "build"
    make = ["make", "-C", str(EXAMPLES), f"BUILD={build}", f"DEFLATE={deflate}", "CFLAGS=-O0"]
    run(make)
    check_echo(build / "echo")
    run([*make, "clean"])
    assert not build.exists()


CMAKE = """cmake_minimum_required(VERSION 3.13)
project(consumer C)
add_subdirectory(csrc)
add_executable(consumer main.c)
target_link_libraries(consumer pyws)
add_executable(echo echo.c)
target_link_libraries(echo pyws)
"""


@apply_builds
@pytest.mark.parametrize(
    ("options", "header"),
    [
        (["-DPYWS_DEFLATE=OFF"], ""),
        (["-DBUILD_SHARED_LIBS=ON"], "zlib.h"),
        (["-DPYWS_OPENSSL=ON"], "openssl/ssl.h"),
    ],
    ids=["libc alone", "shared", "OpenSSL"],
)
def test_dependency_by_cmake(tmp_path: Path, options: List[str], header: str) -> None:
    """A project that contains csrc/ and nothing else of pyws."""
    need_program("cmake")
    if header:
        need_header(header)
    copy_tree(tmp_path / "pyws")
    (tmp_path / "pyws" / "csrc").rename(tmp_path / "csrc")
    (tmp_path / "CMakeLists.txt").write_text(CMAKE)
    (tmp_path / "main.c").write_text(CONSUMER_C)
    (tmp_path / "echo.c").write_text((EXAMPLES / "echo.c").read_text())
    run(["cmake", "-G", "Ninja", "-B", "build", *options], tmp_path)
    run(["cmake", "--build", "build"], tmp_path)
    run([str(tmp_path / "build" / "consumer")])
    check_echo(tmp_path / "build" / "echo")


# ---- pkg-config, meson ------------------------------------------------------------------------


@apply_builds
@pytest.mark.parametrize("deflate", ["enabled", "disabled"])
def test_static_by_pkg_config(tmp_path: Path, deflate: str) -> None:
    """`pkg-config --static` names all that a static program needs."""
    need_program("pkg-config")
    if deflate == "enabled":
        need_header("zlib.h")
    source, prefix = copy_tree(tmp_path / "pyws"), tmp_path / "prefix"
    options = ["-Dpython=none", "-Dtests=false", "-Dtools=false", f"-Ddeflate={deflate}"]
    setup = ["setup", "build", f"--prefix={prefix}", "--libdir=lib", "-Ddefault_library=static"]
    run([*MESON, *setup, *options, "-Doptimization=0"], source)
    run([*MESON, "install", "-C", "build"], source)
    path = str(prefix / "lib" / "pkgconfig")
    asked = ["pkg-config", "--static", "--cflags", "--libs", "pyws"]
    flags = run(asked, PKG_CONFIG_PATH=path).split()
    assert ("-lz" in flags) == (deflate == "enabled")
    (tmp_path / "main.c").write_text(CONSUMER_C)
    run(["cc", "-static", "main.c", "-o", "main", *flags], tmp_path)
    run([str(tmp_path / "main")])


WRAPPED = """project('consumer', 'c')
tls = dependency('pyws-openssl', default_options: ['tls=openssl'])
executable('consumer', 'main.c', dependencies: [dependency('pyws'), tls])
"""


@apply_builds
def test_wrap_with_tls(tmp_path: Path) -> None:
    """The wrap also names the libraries of TLS."""
    need_header("openssl/ssl.h")
    copy_tree(tmp_path / "subprojects" / "pyws")
    wrap = (ROOT / "packaging" / "pyws.wrap").read_text()
    (tmp_path / "subprojects" / "pyws.wrap").write_text(wrap)
    (tmp_path / "meson.build").write_text(WRAPPED)
    (tmp_path / "main.c").write_text(CONSUMER_C.replace("<ws.h>", "<ws_openssl.h>"))
    run([*MESON, "setup", "build", "--wrap-mode=nodownload", "-Doptimization=0"], tmp_path)
    run([*MESON, "compile", "-C", "build"], tmp_path)
    run([str(tmp_path / "build" / "consumer")])
