# SPDX-License-Identifier: MIT
"""Building, installing and depending on pyws, each way that packaging/README.md promises.

Everything happens offline in copies under a temporary directory.
"""

import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import List, Set

import pytest
from builds import (
    CONSUMER_C,
    MESON,
    OPTIONAL,
    apply_builds,
    copy_tree,
    has_module,
    has_programs,
    python,
    run,
    version,
)
from chromium import unavailable
from common import ROOT
from peer import close_frame, frame, upgraded
from shared import made_once

WHERE = "import pyws, pyws._native; print(pyws.__file__)"


# ---- the lists in the build files -------------------------------------------------------------


def listed(build_file: str) -> Set[str]:
    return set(re.findall(r"'([^'\n]*)'", (ROOT / build_file).read_text()))


def test_every_source_is_built() -> None:
    assert {p.name for p in (ROOT / "csrc").glob("*.c")} <= listed("csrc/meson.build")
    tests = {p.stem[len("test_") :] for p in (ROOT / "tests" / "c").glob("test_*.c")}
    assert tests <= listed("tests/c/meson.build")


def test_every_module_is_installed() -> None:
    files = (path for path in (ROOT / "pyws").rglob("*.*") if path.suffix not in (".in", ".pyc"))
    assert {str(path.relative_to(ROOT)) for path in files} <= listed("meson.build")


def test_one_version() -> None:
    assert f'#define WS_VERSION "{version()}"' in (ROOT / "csrc" / "ws.h").read_text()


# ---- meson install ----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prefix that holds the C library and the Python package."""

    def make(folder: Path) -> None:
        source = copy_tree(folder / "pyws")
        setup = ["setup", "build", f"--prefix={folder / 'prefix'}", "--libdir=lib"]
        run([*MESON, *setup, "-Dpython=system", "-Dtests=false", "-Dtools=false"], source)
        run([*MESON, "install", "-C", "build"], source)

    return made_once(tmp_path_factory, "system", make) / "prefix"


@apply_builds
def test_installed_files(installed: Path) -> None:
    files = {str(p.relative_to(installed)) for p in installed.rglob("*") if not p.is_dir()}
    assert {
        "include/pyws/ws.h",
        "include/pyws/ws_cluster.h",
        "include/pyws/ws_http.h",
        "include/pyws/ws_openssl.h",
        "include/pyws/ws_tls.h",
        "lib/libpyws.so",
        "lib/libpyws.so.0",
        f"lib/libpyws.so.{version()}",
        "lib/libpyws_openssl.so",
        "lib/pkgconfig/pyws.pc",
    } <= files
    assert not [name for name in files if name.endswith((".a", ".in", "meson.build"))]


def api_functions(*headers: str) -> Set[str]:
    text = "".join((ROOT / "csrc" / name).read_text() for name in headers)
    return set(re.findall(r"^WS_API [^;(]*?(\w+)\(", text, re.MULTILINE))


API = api_functions("ws.h", "ws_http.h", "ws_cluster.h", "ws_tls.h", "bridge.h", "bridge_http.h")


@apply_builds
@pytest.mark.skipif(not has_programs("nm", "readelf"), reason="needs binutils")
def test_exported_symbols(installed: Path) -> None:
    library = str(installed / "lib" / "libpyws.so")
    lines = run(["nm", "-D", "--defined-only", library]).splitlines()
    assert {line.split()[-1] for line in lines} == API
    assert "[libpyws.so.0]" in run(["readelf", "-d", library])


@apply_builds
@pytest.mark.skipif(not has_programs("nm", "readelf"), reason="needs binutils")
def test_openssl_is_not_linked(installed: Path) -> None:
    library = str(installed / "lib" / "libpyws_openssl.so")
    lines = run(["nm", "-D", "--defined-only", library]).splitlines()
    assert {line.split()[-1] for line in lines} == api_functions("ws_openssl.h") - {
        "ws_openssl_linked"
    }
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", run(["readelf", "-d", library]))
    assert [name for name in needed if not name.startswith(("libc.", "ld-linux"))] == []


@apply_builds
def test_installed_package(installed: Path, tmp_path: Path) -> None:
    package = next(installed.rglob("pyws/__init__.py")).parent
    path = str(package.parent)
    assert python(WHERE, tmp_path, PYTHONPATH=path) == str(package / "__init__.py")
    other = tmp_path / "other.so"
    shutil.copy(str(installed / "lib" / "libpyws.so"), str(other))
    mapped = f"{WHERE}; print('/other.so' in open('/proc/self/maps').read())"
    assert python(mapped, tmp_path, PYTHONPATH=path, PYWS_LIBRARY=str(other)).endswith("True")
    assert python(mapped, tmp_path, PYTHONPATH=path).endswith("False")


CONSUMER_MESON = """project('consumer', 'c')
executable('consumer', 'main.c', dependencies: dependency('pyws', version: '>=0.1'))
"""


def consumer(folder: Path) -> Path:
    folder.mkdir()
    (folder / "main.c").write_text(CONSUMER_C)
    (folder / "meson.build").write_text(CONSUMER_MESON)
    return folder


def build_consumer(folder: Path, *options: str, **extra: str) -> None:
    run([*MESON, "setup", "build", *options], folder, **extra)
    run([*MESON, "compile", "-C", "build"], folder)
    run([str(folder / "build" / "consumer")], folder, **extra)


@apply_builds
@pytest.mark.skipif(not has_programs("pkg-config"), reason="needs pkg-config")
def test_dependency_through_pkg_config(installed: Path, tmp_path: Path) -> None:
    build_consumer(
        consumer(tmp_path / "consumer"),
        PKG_CONFIG_PATH=str(installed / "lib" / "pkgconfig"),
        LD_LIBRARY_PATH=str(installed / "lib"),
    )


@apply_builds
@pytest.mark.parametrize("kind", ["shared", "static"])
def test_dependency_as_a_subproject(tmp_path: Path, kind: str) -> None:
    folder = consumer(tmp_path / "consumer")
    copy_tree(folder / "subprojects" / "pyws")
    shutil.copy(str(ROOT / "packaging" / "pyws.wrap"), str(folder / "subprojects" / "pyws.wrap"))
    options = [f"-Ddefault_library={kind}", "--wrap-mode=nodownload", "-Doptimization=0"]
    build_consumer(folder, *options, PKG_CONFIG_LIBDIR=str(tmp_path))
    assert not (folder / "build" / "subprojects" / "pyws" / "_build.py").exists()


# Switches that go together.
NEEDED = {"-DWS_NO_TOPICS": ["-DWS_NO_CLUSTER"]}


@apply_builds
@pytest.mark.parametrize(("definitions", "libraries"), [(["-DWS_NO_DEFLATE"], []), ([], ["-lz"])])
@pytest.mark.parametrize(
    ("option", "switch"),
    [("", ""), ("-Os", ""), *(("", f"-D{switch}") for switch in OPTIONAL.values())],
)
def test_e2_vendored_sources(
    tmp_path: Path, definitions: List[str], libraries: List[str], option: str, switch: str
) -> None:
    """The compiler alone builds the library, with no option: all files of csrc/, and one path.

    With a switch, those for Python must be left out, and an error says so. -Os doubles the time of
    a compilation: it is tried with all files, and with switches in test_one_file.py.
    """
    if libraries and not Path("/usr/include/zlib.h").exists():
        pytest.skip("needs zlib.h")
    (tmp_path / "main.c").write_text(CONSUMER_C)
    left_out = "bridge" if switch else "nothing"
    files = sorted((ROOT / "csrc").glob("*.c"))
    sources = [str(path) for path in files if not path.name.startswith(left_out)]
    switches = [*option.split(), *switch.split(), *NEEDED.get(switch, [])]
    flags = ["-std=c11", *definitions, "-I", str(ROOT / "csrc"), *switches]
    run(["cc", *flags, "-o", "main", "main.c", *sources, *libraries], tmp_path)
    run([str(tmp_path / "main")])
    if switch:
        bridge = str(ROOT / "csrc" / "bridge.c")
        with pytest.raises(AssertionError, match="#error .*leave bridge.* out"):
            run(["cc", *flags, "-c", bridge, "-o", "bridge.o"], tmp_path)


@apply_builds
@pytest.mark.parametrize("option", OPTIONAL)
def test_e2_python_needs_all_of_it(tmp_path: Path, option: str) -> None:
    """A library without any of its parts but compression is for C alone."""
    source = copy_tree(tmp_path / "pyws")
    setup = [*MESON, "setup", "-Dtests=false", "-Dtools=false", f"-D{option}=false"]
    setup += ["-Dcluster=false"] if option == "topics" else []
    run([*setup, "auto"], source)
    assert not (source / "auto" / "_build.py").exists()
    with pytest.raises(AssertionError, match="or set -Dpython=none"):
        run([*setup, "-Dpython=system", "system"], source)


@apply_builds
@pytest.mark.parametrize(
    ("file", "switches", "options"),
    [
        ("publish_none.c", ["-DWS_NO_TOPICS"], ["-Dtopics=false"]),
        (
            "tls_none.c",
            ["-DWS_NO_TLS", "-DWS_TLS_OPENSSL"],
            ["-Dencryption=false", "-Dtls=openssl"],
        ),
    ],
)
def test_e2_wrong_combinations(
    tmp_path: Path, file: str, switches: List[str], options: List[str]
) -> None:
    """A part that needs another one cannot be there without it."""
    flags = ["-std=c11", "-DWS_BUILDING", "-I", str(ROOT / "csrc"), *switches]
    with pytest.raises(AssertionError, match=f"#error .*{switches[0][2:]}"):
        run(["cc", *flags, "-c", str(ROOT / "csrc" / file), "-o", str(tmp_path / "out.o")])
    with pytest.raises(AssertionError, match="ERROR: .* needs "):
        run([*MESON, "setup", "-Dpython=none", *options, "build"], copy_tree(tmp_path / "pyws"))


@apply_builds
@pytest.mark.skipif(not has_programs("gcc", "nm"), reason="needs gcc and nm")
def test_e2_what_is_left_out_is_not_exported(tmp_path: Path) -> None:
    """The linker names it to a program that needs it."""
    sources = [path for path in (ROOT / "csrc").glob("*.c") if not path.name.startswith("bridge")]
    switches = [f"-D{switch}" for switch in ("WS_NO_DEFLATE", *OPTIONAL.values())]
    flags = ["-std=c11", "-DWS_BUILDING", "-fvisibility=hidden", "-I", str(ROOT / "csrc")]
    library = str(tmp_path / "libpyws.so")
    run(["gcc", *flags, *switches, "-shared", "-fPIC", "-o", library, *map(str, sources)])
    listed = run(["nm", "-D", "--defined-only", library])
    exported = set(re.findall(r" T (ws_\w+)$", listed, re.M))
    texts = "".join(path.read_text() for path in (ROOT / "csrc").glob("ws*.h"))
    public = set(re.findall(r"^WS_API [^;(]*?\b(ws_\w+)\(", texts, re.M))
    stubs = "".join(path.read_text() for path in (ROOT / "csrc").glob("*_none.c"))
    left_out = public & set(re.findall(r"^\w[^;(]*?\b(ws_\w+)\(", stubs, re.M))
    assert {"ws_server_http", "ws_server_tell", "ws_conn_subscribe"} <= left_out
    assert "ws_request_respond_static" in exported  # for the pages of a fallback
    assert {name for name in public - exported if "openssl" not in name and "mbed" not in name} == (
        left_out
    )


@apply_builds
def test_e2_the_examples_are_built_whatever_is_left_out(tmp_path: Path) -> None:
    source = copy_tree(tmp_path / "pyws")
    parts = ["-Ddeflate=disabled", *(f"-D{option}=false" for option in OPTIONAL)]
    setup = ["setup", "build", "-Dpython=none", "-Dtests=false", "-Doptimization=0", *parts]
    run([*MESON, *setup], source)
    run([*MESON, "compile", "-C", "build"], source)
    assert (source / "build" / "examples" / "c" / "device").exists()


@apply_builds
def test_without_python(tmp_path: Path) -> None:
    source = copy_tree(tmp_path / "pyws")
    prefix = tmp_path / "prefix"
    setup = ["setup", "build", f"--prefix={prefix}", "--libdir=lib", "-Dpython=none"]
    options = ["-Dtests=false", "-Dtools=false", "-Ddefault_library=static", "-Doptimization=0"]
    run([*MESON, *setup, *options], source)
    run([*MESON, "install", "-C", "build"], source)
    files = {str(p.relative_to(prefix)) for p in prefix.rglob("*") if not p.is_dir()}
    assert files == {
        "include/pyws/ws.h",
        "include/pyws/ws_cluster.h",
        "include/pyws/ws_http.h",
        "include/pyws/ws_tls.h",
        "lib/libpyws.a",
        "lib/pkgconfig/pyws.pc",
    }


TLS_CONSUMER_C = {
    "openssl": """#include <ws_openssl.h>
int main(void)
{
    ws_openssl *openssl;
    const int error = ws_openssl_new(&openssl, ws_openssl_linked());
    ws_openssl_free(openssl);
    return error || ws_openssl_abi() != ws_abi();
}
""",
    "mbedtls": """#include <ws_mbedtls.h>
int main(void)
{
    ws_mbedtls mbedtls;
    return ws_mbedtls_init(&mbedtls, sizeof mbedtls, NULL) || ws_mbedtls_outdated(&mbedtls);
}
""",
}


@apply_builds
@pytest.mark.skipif(not has_programs("pkg-config"), reason="needs pkg-config")
@pytest.mark.parametrize("kind", ["shared", "static"])
@pytest.mark.parametrize("library", list(TLS_CONSUMER_C))
def test_tls_for_c(tmp_path: Path, library: str, kind: str) -> None:
    if not Path(f"/usr/include/{library}/ssl.h").exists():
        pytest.skip(f"needs the headers of {library}")
    source = copy_tree(tmp_path / "pyws")
    prefix = tmp_path / "prefix"
    setup = ["setup", "build", f"--prefix={prefix}", "--libdir=lib", "-Dpython=none"]
    options = [f"-Dtls={library}", "-Dtests=false", "-Dtools=false", f"-Ddefault_library={kind}"]
    run([*MESON, *setup, *options, "-Doptimization=0"], source)
    run([*MESON, "install", "-C", "build"], source)
    folder = consumer(tmp_path / "consumer")
    (folder / "main.c").write_text(TLS_CONSUMER_C[library])
    project = (folder / "meson.build").read_text().replace("'pyws'", f"'pyws-{library}'")
    (folder / "meson.build").write_text(project)
    build_consumer(
        folder,
        PKG_CONFIG_PATH=str(prefix / "lib" / "pkgconfig"),
        LD_LIBRARY_PATH=str(prefix / "lib"),
    )


@apply_builds
def test_devenv(tmp_path: Path) -> None:
    source = copy_tree(tmp_path / "pyws")
    options = ["-Dtests=false", "-Dtools=false", "-Doptimization=0"]
    run([*MESON, "setup", "build", *options], source)
    run([*MESON, "compile", "-C", "build"], source)
    devenv = [*MESON, "devenv", "-C", "build", "-w", str(tmp_path)]
    shown = run([*devenv, sys.executable, "-c", WHERE], source)
    assert str(source / "pyws" / "__init__.py") in shown
    # Without devenv, run from the checkout: the newest build directory is found.
    assert python(WHERE, source) == str(source / "pyws" / "__init__.py")


# ---- pip --------------------------------------------------------------------------------------

needs_mesonpy = pytest.mark.skipif(not has_module("mesonpy"), reason="needs meson-python")
needs_wheel_tools = pytest.mark.skipif(
    not has_module("mesonpy") or not has_programs("git", "patchelf"),
    reason="needs meson-python, patchelf and git",
)
PIP = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--quiet"]


@pytest.fixture(scope="module")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An unpacked source distribution."""

    def make(folder: Path) -> None:
        source = copy_tree(folder / "pyws")
        git = ["git", "-c", "user.name=test", "-c", "user.email=test@localhost"]
        run(["git", "init", "--quiet"], source)
        run(["git", "add", "--all"], source)
        run([*git, "commit", "--quiet", "--message=all"], source)
        code = f"import mesonpy; print(mesonpy.build_sdist({str(folder)!r}))"
        run([sys.executable, "-c", code], source)
        shutil.unpack_archive(str(folder / f"pyws_server-{version()}.tar.gz"), str(folder))

    return made_once(tmp_path_factory, "sdist", make) / f"pyws_server-{version()}"


@pytest.fixture(scope="module")
def wheel(sdist: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel that is built from the source distribution."""
    options = ["--no-build-isolation", "--no-deps", "--no-index"]
    folder = made_once(
        tmp_path_factory,
        "wheel",
        lambda folder: run([*PIP, "wheel", *options, "--wheel-dir", str(folder), str(sdist)]),
    )
    return next(folder.glob("*.whl"))


@apply_builds
@needs_wheel_tools
def test_sdist_is_clean(sdist: Path) -> None:
    files = {str(p.relative_to(sdist)) for p in sdist.rglob("*") if p.is_file()}
    assert {"LICENSE", "README.md", "PKG-INFO", "csrc/ws.h", "pyws/__init__.py"} <= files
    junk = re.compile(r"\.(so|o|a|pyc|whl)\b|__pycache__|_cache|^build|^\.git/")
    assert not [name for name in files if junk.search(name)]


@apply_builds
@needs_wheel_tools
def test_wheel_fits_every_python(wheel: Path) -> None:
    assert wheel.name.startswith(f"pyws_server-{version()}-py3-none-linux_")
    names = zipfile.ZipFile(str(wheel)).namelist()
    libraries = sorted(Path(name).name for name in names if ".so" in name)
    assert libraries == ["libpyws.so", "libpyws_openssl.so"]
    assert any(name.endswith("licenses/LICENSE") for name in names)
    assert not [name for name in names if name.endswith((".c", ".h", ".pc", ".in", ".a"))]
    modules = {Path(name).name for name in names if "/pyws/" in name and name.endswith(".py")}
    assert modules == {"_build.py"} | {p.name for p in (ROOT / "pyws").rglob("*.py")}
    runner = {name.split("/pyws_conformance/")[1] for name in names if "/pyws_conformance/" in name}
    folder = ROOT / "tools" / "conformance"
    sources = {
        str(p.relative_to(folder)) for p in folder.rglob("*") if p.suffix in (".py", ".html")
    }
    # What compares the peers is of use in a checkout only.
    assert runner == {p for p in sources if not p.startswith("peers/")} - {"compare.py"}


@apply_builds
@needs_wheel_tools
@pytest.mark.skipif(not shutil.which("strip"), reason="needs strip")
@pytest.mark.parametrize(
    ("library", "limit"), [("libpyws.so", 120_000), ("libpyws_openssl.so", 24_000)]
)
def test_the_library_is_small(wheel: Path, tmp_path: Path, library: str, limit: int) -> None:
    with zipfile.ZipFile(str(wheel)) as archive:
        (name,) = (name for name in archive.namelist() if name.endswith(f"/{library}"))
        path = Path(archive.extract(name, str(tmp_path)))
    run(["strip", str(path)])
    assert path.stat().st_size < limit


@apply_builds
@needs_wheel_tools
def test_wheel_works_without_a_compiler(wheel: Path, tmp_path: Path) -> None:
    target = tmp_path / "site"
    run([*PIP, "install", "--no-deps", "--no-index", "--target", str(target), str(wheel)])
    nothing = {"PYTHONPATH": str(target), "PATH": str(tmp_path)}
    assert python(WHERE, tmp_path, **nothing) == str(target / "pyws" / "__init__.py")
    command = [sys.executable, str(target / "bin" / "pyws-conformance"), "--list"]
    assert run([*command, "--include", "1.1.1"], tmp_path, **nothing).startswith("1.1.1 ")
    # Nor does it matter what directory one stands in.
    code = f"import sys; sys.path.insert(0, {str(target)!r}); {WHERE}"
    assert python(code, ROOT) == str(target / "pyws" / "__init__.py")


@apply_builds
@needs_mesonpy
def test_editable_install(tmp_path: Path) -> None:
    source = copy_tree(tmp_path / "pyws")
    prefix = tmp_path / "prefix"
    options = ["--no-build-isolation", "--no-deps", "--no-index", "--prefix", str(prefix)]
    run([*PIP, "install", *options, "--editable", str(source)])
    site = next(prefix.rglob("*editable.pth")).parent
    code = f"import site; site.addsitedir({str(site)!r}); {WHERE}"
    assert python(code, tmp_path) == str(source / "pyws" / "__init__.py")


# ---- PyInstaller ------------------------------------------------------------------------------

FROZEN = """from pyws import App

async def on_message(ws, message, opcode):
    ws.send(message, opcode)

app = App()
app.ws("/*", {"message": on_message, "close": lambda ws, code, reason: app.close()})
app.listen({"host": "127.0.0.1"}, lambda place: print(place.port, flush=True))
app.run()
"""


@apply_builds
@needs_wheel_tools
def test_pyinstaller_needs_no_options(wheel: Path, tmp_path: Path) -> None:
    """The hook that the entry point names collects the library."""
    if not has_module("PyInstaller"):
        unavailable("no PyInstaller here")
    site = tmp_path / "site"
    run([*PIP, "install", "--no-deps", "--no-index", "--target", str(site), str(wheel)])
    (tmp_path / "echo.py").write_text(FROZEN)
    log = run([sys.executable, "-m", "PyInstaller", "echo.py"], tmp_path, PYTHONPATH=str(site))
    (tmp_path / "dist").rename(tmp_path / "elsewhere")
    shutil.rmtree(str(site))
    with subprocess.Popen(
        [str(tmp_path / "elsewhere" / "echo" / "echo")],
        env={"PATH": "/nonexistent"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as program:
        try:
            assert program.stdout
            first = program.stdout.readline()
            assert first.strip().isdigit(), first + program.stdout.read() + log
            with upgraded(int(first)) as peer:
                peer.send(frame(b"frozen"))
                assert peer.frame().payload == b"frozen"
                peer.send(close_frame(1000))
                assert peer.frame().close_code == 1000
            assert program.wait(60) == 0
            assert program.stdout.read() == ""
        finally:
            program.kill()
