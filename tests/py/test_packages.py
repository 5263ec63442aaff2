# SPDX-License-Identifier: MIT
"""What packaging/ and csrc/ offer to other build systems: each is true, and builds where it can."""

import ast
import fnmatch
import hashlib
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Dict, List, Set

import pytest
from builds import (
    CONSUMER_C,
    MESON,
    OPTIONAL,
    apply_builds,
    copy_tree,
    has_programs,
    python,
    run,
    version,
)
from chromium import unavailable
from common import ROOT
from peer import close_frame, frame, upgraded

EXAMPLES = ROOT / "examples" / "c"
SWITCHES = [n.replace("WS_NO", "PYWS") for n in ("WS_NO_DEFLATE", *OPTIONAL.values())]
PACKAGING = ROOT / "packaging"
BUILDROOT, OPENWRT, YOCTO = (PACKAGING / name for name in ("buildroot", "openwrt", "yocto"))


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
        ([f"-D{switch}=OFF" for switch in SWITCHES], ""),
        (["-DBUILD_SHARED_LIBS=ON"], "zlib.h"),
        (["-DPYWS_OPENSSL=ON"], "openssl/ssl.h"),
    ],
    ids=["libc alone", "as small as it gets", "shared", "OpenSSL"],
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


@apply_builds
def test_mbedtls_by_pkg_config(tmp_path: Path) -> None:
    """Mbed TLS 3 has a file for each of its libraries, which names the others for static ones."""
    need_program("pkg-config")
    need_header("mbedtls/ssl.h")
    below = {"mbedtls": "mbedcrypto mbedx509", "mbedx509": "mbedcrypto", "mbedcrypto": ""}
    for name, others in below.items():
        text = f"Name: {name}\nDescription: -\nVersion: 3.6\nLibs: -l{name}\n"
        (tmp_path / f"{name}.pc").write_text(f"{text}Requires.private: {others}\n")
    source = copy_tree(tmp_path / "pyws")
    options = ["-Dpython=none", "-Dtests=false", "-Dtools=false", "-Dtls=mbedtls"]
    setup = [*MESON, "setup", "build", *options, "-Doptimization=0"]
    said = run(setup, source, PKG_CONFIG_PATH=str(tmp_path))
    assert "mbedtls found: YES 3.6" in said
    run([*MESON, "compile", "-C", "build"], source)


# ---- Buildroot, OpenWrt, Yocto ----------------------------------------------------------------


def files_of(*folders: Path) -> List[Path]:
    return sorted(path for folder in folders for path in folder.rglob("*") if path.is_file())


def texts_of(*folders: Path) -> Dict[str, str]:
    return {str(path.relative_to(ROOT)): path.read_text() for path in files_of(*folders)}


def test_packages_have_the_version() -> None:
    texts = texts_of(BUILDROOT, OPENWRT)
    named = re.findall(r"(?:PYWS|PKG)_VERSION ?:?= ?(.*)", "".join(texts.values()))
    named += [path.stem.split("_")[1] for path in YOCTO.rglob("*.bb")]
    assert named == [version()] * 5


def test_packages_have_the_checksum_of_the_license() -> None:
    license_file = (ROOT / "LICENSE").read_bytes()
    texts = texts_of(BUILDROOT, YOCTO)
    hashes = [text for name, text in texts.items() if name.endswith(".hash")]
    sums = re.findall(r"^sha256  (\w+)  LICENSE$", "".join(hashes), re.MULTILINE)
    assert sums == [hashlib.sha256(license_file).hexdigest()] * 2
    md5 = re.findall(r"file://LICENSE;md5=(\w+)", "".join(texts.values()))
    assert md5 == [hashlib.md5(license_file).hexdigest()]


def choices() -> Dict[str, Set[str]]:
    """The options of meson_options.txt, each with its values."""
    found = {}
    for name, rest in re.findall(
        r"^option\(\s*'(\w+)',(.*?)\)$", (ROOT / "meson_options.txt").read_text(), re.M | re.S
    ):
        (kind,) = re.findall(r"type: '(\w+)'", rest)
        listed = re.search(r"choices: (\[.*?\])", rest)
        values = {"boolean": {"true", "false"}, "feature": {"enabled", "disabled", "auto"}}
        found[name] = set(ast.literal_eval(listed.group(1))) if listed else values[kind]
    return found


def test_packages_name_options_that_exist() -> None:
    known = choices()
    assert {"python", "deflate", "tls", "tests"} <= set(known)
    texts = texts_of(BUILDROOT, OPENWRT, YOCTO)
    texts["README.md"] = (PACKAGING / "README.md").read_text()
    for name, text in texts.items():
        for option, value in re.findall(r"-D([a-z]\w+)=(\w*)", text):
            if option == "default_library":  # one of meson's own
                continue
            assert option in known, f"{name}: -D{option}"
            assert value in known[option] | {""}, f"{name}: -D{option}={value}"


BUILDROOT_RULES = """qstrip = $(strip $(subst ",,$(1)))
empty :=
space := $(empty) $(empty)
comma := ,
include $(BR2_EXTERNAL_PYWS_PATH)/external.mk
print-%:
\t@echo "$($*)"
%/.stamp_target_installed:
\t$(PYTHON_PYWS_INSTALL_TARGET_CMDS)
"""


def buildroot(folder: Path, target: str, **variables: object) -> str:
    """What make says, which reads the packages with these rules in place of Buildroot's."""
    need_program("make")
    (folder / "Makefile").write_text(BUILDROOT_RULES)
    settings = {"BR2_EXTERNAL_PYWS_PATH": BUILDROOT, **variables}
    assigned = [f"{name}={value}" for name, value in settings.items()]
    return run(["make", "--no-print-directory", "-C", str(folder), target, *assigned])


@pytest.mark.packaging
def test_buildroot_options(tmp_path: Path) -> None:
    """Those of the C library follow what was chosen."""
    fixed = ["-Dpython=none", "-Dtests=false", "-Dtools=false"]
    plain = buildroot(tmp_path, "print-PYWS_CONF_OPTS").split()
    assert plain == [*fixed, "-Ddeflate=disabled", "-Dtls="]
    chosen = {f"BR2_PACKAGE_PYWS_{name}": "y" for name in ("DEFLATE", "OPENSSL", "MBEDTLS")}
    full = buildroot(tmp_path, "print-PYWS_CONF_OPTS", **chosen).split()
    assert full == [*fixed, "-Ddeflate=enabled", "-Dtls=openssl,mbedtls"]
    less = "-Dresolver=false -Dproxies=false"
    small = buildroot(tmp_path, "print-PYWS_CONF_OPTS", BR2_PACKAGE_PYWS_OPTIONS=f'"{less}"')
    assert small.split() == [*plain, *less.split()]


@pytest.mark.packaging
@pytest.mark.parametrize("package", ["PYWS", "PYTHON_PYWS"])
def test_buildroot_leaves_builds_behind(tmp_path: Path, package: str) -> None:
    """What was built in the checkout does not take the place of what Buildroot builds."""
    said = buildroot(tmp_path, f"print-{package}_OVERRIDE_SRCDIR_RSYNC_EXCLUSIONS")
    flag, pattern = shlex.split(said)
    assert (flag, pattern[0]) == ("--exclude", "/")
    assert fnmatch.filter(["build", "build-asan"], pattern[1:]) == ["build", "build-asan"]
    sources = run(["git", "-C", str(ROOT), "ls-files"]).split("\n")
    assert fnmatch.filter((name.split("/")[0] for name in sources), pattern[1:]) == []


@pytest.mark.packaging
@pytest.mark.parametrize("name", ["buildroot-build", "build"])
def test_build_folder_of_buildroot(tmp_path: Path, name: str) -> None:
    """Until the release 2025.02.3, it is build/."""
    (tmp_path / name).mkdir()
    said = buildroot(tmp_path, f"{tmp_path}/.stamp_target_installed", MESON="echo")
    assert f" -C {tmp_path / name} " in said


@apply_builds
def test_python_package_apart(tmp_path: Path) -> None:
    """As Buildroot builds and installs it: its library is its own, and no headers come along.

    Modules are compiled by Buildroot itself, if they are wanted.
    """
    source, prefix = copy_tree(tmp_path / "pyws"), tmp_path / "prefix"
    options = buildroot(tmp_path, "print-PYTHON_PYWS_CONF_OPTS").split()
    setup = ["setup", "buildroot-build", f"--prefix={prefix}", "-Doptimization=0", *options]
    run([*MESON, *setup], source)
    run([*MESON, "compile", "-C", "buildroot-build"], source)
    buildroot(tmp_path, f"{source}/.stamp_target_installed", MESON=" ".join(MESON))
    package = next(prefix.rglob("pyws/__init__.py")).parent
    top = {package, prefix / "lib" / "pyws"}
    files = [path for path in files_of(prefix) if not top & set(path.parents)]
    assert files == []
    assert list(package.rglob("__pycache__")) == []
    names = {path.name for path in (prefix / "lib" / "pyws").iterdir()}
    libraries = ("libpyws.so", "libpyws_openssl.so")
    assert names == {f"{name}.{end}" for name in libraries for end in ("0", version())}
    shown = "import pyws; print(pyws._native.lib.path)"
    path = python(shown, tmp_path, PYTHONPATH=str(package.parent))
    assert Path(path).parent == prefix / "lib" / "pyws"


OPENWRT_RULES = """qstrip=$(strip $(subst ",,$(1)))
empty:=
space:=$(empty) $(empty)
comma:=,
INCLUDE_DIR:=$(TOPDIR)
CONFIG_PACKAGE_libpyws-openssl:=y
CONFIG_PACKAGE_libpyws-mbedtls:=y
CONFIG_LIBPYWS_OPTIONS:="-Dresolver=false -Dproxies=false"
define BuildPackage
$(info $(1) $(MESON_ARGS))
$(foreach name,$(PYWS_FILES),$(info $(wildcard $(name))))
$(if $(Package/$(1)/install),,$(error $(1) is not installed))
endef
all:
\t@:
"""


@pytest.mark.packaging
def test_openwrt_makefile(tmp_path: Path) -> None:
    """Read by make, with these rules in place of OpenWrt's."""
    need_program("make")
    (tmp_path / "rules.mk").write_text(OPENWRT_RULES)
    for name in ("package.mk", "meson.mk"):
        (tmp_path / name).touch()
    command = ["make", "--no-print-directory", "-C", str(OPENWRT / "libpyws"), f"TOPDIR={tmp_path}"]
    lines = run(command).splitlines()
    options = "-Dpython=none -Dtests=false -Dtools=false -Ddeflate=disabled -Dtls=openssl,mbedtls"
    options += " -Dresolver=false -Dproxies=false"
    packages = ("libpyws", "libpyws-openssl", "libpyws-mbedtls")
    files = [str(ROOT / name) for name in ("LICENSE", "csrc", "meson.build", "meson_options.txt")]
    assert lines == [line for name in packages for line in (f"{name} {options}", *files)]


# ---- linters ----------------------------------------------------------------------------------


@pytest.mark.packaging
@pytest.mark.timeout(300)
def test_yocto_lint() -> None:
    need_program("oelint-adv")
    files = [str(path) for path in files_of(YOCTO) if path.suffix in (".bb", ".conf", ".inc")]
    # Whether the home page can be reached is no question of the sources.
    options = ["--quiet", "--hide", "info", "--suppress", "oelint.vars.homepageping"]
    assert run(["oelint-adv", *options, "--release", "scarthgap", *files]) == ""


@pytest.mark.packaging
def test_shellcheck() -> None:
    need_program("shellcheck")
    scripts = [
        str(path) for path in files_of(PACKAGING) if path.read_bytes()[:10] == b"#!/bin/sh\n"
    ]
    assert scripts
    run(["shellcheck", *scripts])


def buildroot_checkout() -> str:
    checkout = os.environ.get("BUILDROOT")
    if not checkout:
        pytest.skip("needs BUILDROOT=DIR, a checkout of Buildroot")
    return checkout


@pytest.mark.packaging
@pytest.mark.timeout(300)
def test_buildroot_lint() -> None:
    """Its tool needs flake8 and python-magic."""
    command = [sys.executable, f"{buildroot_checkout()}/utils/check-package", "-b"]
    assert run([*command, *map(str, files_of(BUILDROOT))]).endswith("\n0 warnings generated\n")


@pytest.mark.packaging
@pytest.mark.timeout(300)
def test_buildroot_offers_the_packages(tmp_path: Path) -> None:
    """Each option can be chosen, and brings what it needs."""
    names = ("PYTHON3", "PYWS", "PYWS_DEFLATE", "PYWS_OPENSSL", "PYWS_MBEDTLS", "PYTHON_PYWS")
    chosen = [f"BR2_PACKAGE_{name}=y" for name in names]
    (tmp_path / ".config").write_text("\n".join(["BR2_x86_64=y", *chosen, ""]))
    folders = [f"O={tmp_path}", f"BR2_EXTERNAL={BUILDROOT}"]
    make = ["make", "--silent", "-C", buildroot_checkout(), *folders]
    run([*make, "olddefconfig"])
    assert set(chosen) <= set((tmp_path / ".config").read_text().split("\n"))
    needed = run([*make, "pyws-show-depends"]).split()
    assert {"host-meson", "host-pkgconf", "mbedtls", "openssl", "zlib"} <= set(needed)
    needed = run([*make, "python-pyws-show-depends"]).split()
    assert {"host-meson", "host-pkgconf", "python3", "zlib"} <= set(needed)


@pytest.mark.packaging
def test_e2_every_file_has_a_license() -> None:
    """The SPDX lines and REUSE.toml, with the text that they name."""
    assert (ROOT / "LICENSES" / "MIT.txt").read_bytes() == (ROOT / "LICENSE").read_bytes()
    need_program("reuse")
    run(["reuse", "--root", str(ROOT), "lint", "--quiet"])


def test_e2_sources_say_their_license() -> None:
    """Those that are copied into other projects say it themselves."""
    line = "-License-Identifier: MIT"  # with SPDX before it, reuse would read it
    for path in files_of(ROOT / "csrc", PACKAGING / "yocto", OPENWRT):
        assert line in "".join(path.read_text().splitlines(True)[:2]), path
