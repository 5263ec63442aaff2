# SPDX-License-Identifier: MIT
"""The declarations against ws.h, and how the library is found and checked (T73, T77)."""

import os
import shutil
import subprocess
import sys
import zipapp
from pathlib import Path
from typing import Any, Dict, Optional

import pytest
from common import ROOT

from pyws import _native
from pyws._native import ABI
from pyws.errors import ErrorCode, exception_for

PACKAGE = ROOT / "pyws"
CHECKER = ROOT / "tools" / "check_native.py"

# ---- the checker --------------------------------------------------------------------------------


def check(**files: Path) -> "subprocess.CompletedProcess[str]":
    arguments = [item for name, path in files.items() for item in (f"--{name}", str(path))]
    return subprocess.run(
        [sys.executable, str(CHECKER), *arguments], capture_output=True, text=True, timeout=60
    )


def test_t73_native_mirrors_the_header() -> None:
    result = check()
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


PLANTED = [
    # file, its text, what stands there instead, part of the complaint
    ("native", f"ABI = {ABI}", f"ABI = {ABI + 1}", f"WS_ABI is {ABI}, ABI is {ABI + 1}"),
    ("native", 'VERSION = "', 'VERSION = "9', "WS_VERSION is"),
    (
        "native",
        '"ws_conn_send": (c_int, (c_void_p, c_char_p, c_size_t, c_int), None)',
        '"ws_conn_send": (c_int, (c_void_p, c_char_p, c_uint64, c_int), None)',
        "ws_conn_send: the parameter 3 is size_t in ws.h, not uint64",
    ),
    (
        "native",
        '"ws_conn_send": (c_int, (c_void_p, c_char_p, c_size_t, c_int), None)',
        '"ws_conn_send": (c_size_t, (c_void_p, c_char_p, c_size_t, c_int), None)',
        "ws_conn_send: the result is int in ws.h, not size_t",
    ),
    (
        "native",
        '"ws_conn_send": (c_int, (c_void_p, c_char_p, c_size_t, c_int), None)',
        '"ws_conn_send": (c_int, (c_void_p, c_char_p, c_size_t), None)',
        "ws_conn_send has 4 parameters, not 3",
    ),
    ("native", '"ws_conn_cork"', '"ws_conn_kork"', "function ws_conn_cork of ws.h is missing"),
    (
        "native",
        '"ws_server_http": (c_int, (c_void_p, c_char_p, c_char_p,',
        '"ws_server_http": (c_int, (c_void_p, c_void_p, c_char_p,',
        "ws_server_http: the parameter 2 is string in ws.h, not handle",
    ),
    (
        "native",
        '"ws_server_find": (c_void_p, (c_void_p,',
        '"ws_server_find": (c_char_p, (c_void_p,',
        "ws_server_find: the result is handle in ws.h, not string",
    ),
    (
        "native",
        '"ws_conn_cork": (None, (c_void_p,)',
        '"ws_conn_cork": (None, (POINTER(c_void_p),)',
        "ws_conn_cork: the parameter 1 is handle in ws.h, not pointer to handle",
    ),
    (
        "native",
        '"ws_strerror": (c_char_p,',
        '"ws_strerror": (c_void_p,',
        "ws_strerror: the result is string in ws.h, not handle",
    ),
    (
        "native",
        '"ws_request_path": (chars,',
        '"ws_request_path": (c_char_p,',
        "ws_request_path: the result is bytes in ws.h, not string",
    ),
    (
        "native",
        '"ws_server_stats": (c_int, (c_void_p, POINTER(ws_stats)',
        '"ws_server_stats": (c_int, (c_void_p, POINTER(ws_config)',
        "ws_server_stats: the parameter 2 is pointer to ws_stats in ws.h",
    ),
    (
        "native",
        "message_function = CFUNCTYPE(None, c_void_p, chars,",
        "message_function = CFUNCTYPE(None, c_void_p, c_char_p,",
        "ws_behavior.on_message is",
    ),
    ("native", '("host", c_char_p)', '("host", c_void_p)', "ws_listen_options.host is string"),
    (
        "native",
        '"ws_server_free": (c_int, (c_void_p,), check)',
        '"ws_server_free": (c_int, (c_void_p,), None)',
        "ws_server_free: the errcheck is None, not check",
    ),
    (
        "native",
        '"ws_server_free": (c_int, (c_void_p,), check)',
        '"ws_server_free": (c_int, (c_void_p,), fail)',
        "ws_server_free: the errcheck is fail, not check",
    ),
    (
        "native",
        '"ws_server_fd": (c_int, (c_void_p,), None)',
        '"ws_server_fd": (c_int, (c_void_p,), check)',
        "ws_server_fd: the errcheck is check, not None",
    ),
    (
        "native",
        '"ws_conn_buffered_amount": (c_size_t, (c_void_p,), None)',
        '"ws_conn_buffered_amount": (c_size_t, (c_void_p,), check)',
        "ws_conn_buffered_amount: the errcheck is check, not None",
    ),
    (
        "native",
        '"ws_server_set_alarm": (None, (c_void_p, c_uint64, plain_function,',
        '"ws_server_set_alarm": (None, (c_void_p, c_uint64, request_function,',
        "ws_server_set_alarm: the parameter 3 is pointer(void, handle) in ws.h",
    ),
    (
        "native",
        "closed_function = CFUNCTYPE(None, c_void_p, c_bool, c_int,",
        "closed_function = CFUNCTYPE(None, c_void_p, c_int, c_int,",
        "ws_behavior.on_closed is",
    ),
    (
        "native",
        '"ws_conn_subscribe": (c_int, (c_void_p, c_char_p, c_size_t), None)',
        '"ws_conn_subscribe": (c_int, (c_void_p, c_char_p, c_size_t), check)',
        "ws_conn_subscribe: the errcheck is check, not None",
    ),
    ("native", 'BLOCKING = frozenset(("ws_server_listen", ', "BLOCKING = frozenset((", "BLOCKING"),
    ("native", "BLOCKING = frozenset((", 'BLOCKING = frozenset(("ws_conn_send", ', "BLOCKING is"),
    ("native", "BLOCKING = ", "UNBLOCKED = ", "BLOCKING is [], not"),
    ("header", "WS_API int ws_server_fd(", "WS_API int ws_fd(", "ws_server_fd is on the list"),
    ("native", '("port", c_uint16)', '("port", c_uint32)', "ws_listen_options.port is uint16"),
    ("native", '("port", c_uint16)', '("prt", c_uint16)', "port of ws.h is missing"),
    ("native", '("on_open", conn_function)', '("on_open", close_function)', "ws_behavior.on_open"),
    ("errors", "ENOMEM = -1", "ENOMEM = -11", "ErrorCode.ENOMEM is -1 in ws.h, not -11"),
    ("errors", "EBUSY = -3", "", "ErrorCode.EBUSY is -3 in ws.h, not None"),
    ("enums", "PONG = 10", "PONG = 11", "OpCode.PONG is 10 in ws.h, not 11"),
    ("enums", "DROPPED = 2", "DROPPED = 3", "SendStatus.DROPPED is 2 in ws.h, not 3"),
    ("header", "int opcode, void *user);", "void *user);", "ws_behavior.on_message is"),
    ("header", "    void *user;", "    void *used;", "used of ws.h is missing"),
    ("header", "WS_API int ws_abi(void);", "", "function ws_abi of _native.py is not in ws.h"),
    ("bridge", "*none;", "*nothing;", "nothing of ws.h is missing"),
    ("bridge", "unsigned long owner;", "int owner;", "ws_bridge.owner is int in ws.h, not ulong"),
    ("bridge", "*status[3];", "*status;", "ws_bridge.status is handle in ws.h"),
    ("native", '("text", py_object)', '("text", c_int)', "ws_bridge.text is handle in ws.h"),
    (
        "native",
        '("PyErr_Clear", c_void_p),\n        ("PyErr_WriteUnraisable", c_void_p),',
        '("PyErr_WriteUnraisable", c_void_p),\n        ("PyErr_Clear", c_void_p),',
        "ws_python: PyErr_WriteUnraisable of _native.py is in another position",
    ),
    ("native", '("Py_IncRef", c_void_p)', '("Py_IncRef", c_int)', "ws_python.Py_IncRef is"),
]


@pytest.mark.parametrize(("file", "text", "planted", "complaint"), PLANTED)
def test_t73_checker_finds_a_planted_error(
    tmp_path: Path, file: str, text: str, planted: str, complaint: str
) -> None:
    sources = {
        "native": PACKAGE / "_native.py",
        "errors": PACKAGE / "errors.py",
        "enums": PACKAGE / "enums.py",
        "header": ROOT / "csrc" / "ws.h",
        "bridge": ROOT / "csrc" / "bridge.h",
    }
    original = sources[file].read_text()
    assert text in original
    wrong = tmp_path / sources[file].name
    wrong.write_text(original.replace(text, planted))
    result = check(**{file: wrong})
    assert result.returncode == 1
    assert complaint in result.stdout


def test_t73_checker_knows_the_order(tmp_path: Path) -> None:
    lines = (PACKAGE / "_native.py").read_text().splitlines(True)
    first = next(i for i, line in enumerate(lines) if '"ws_conn_cork"' in line)
    lines[first], lines[first + 1] = lines[first + 1], lines[first]
    wrong = tmp_path / "_native.py"
    wrong.write_text("".join(lines))
    result = check(native=wrong)
    assert result.returncode == 1
    assert (
        "function ws_conn_uncork of _native.py is in another position than in ws.h" in result.stdout
    )


def test_t73_every_function_has_its_types() -> None:
    for name, (restype, argtypes, errcheck) in _native.SIGNATURES.items():
        function = getattr(_native.lib, name)
        assert function.restype is restype, name
        assert function.argtypes == argtypes, name
        assert errcheck is None or function.errcheck == errcheck, name


# ---- finding the library ------------------------------------------------------------------------


def run(code: str, path: Path, **environment: Optional[str]) -> "subprocess.CompletedProcess[str]":
    env: Dict[str, Any] = {**os.environ, "PYTHONPATH": str(path), **environment}
    return subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={name: value for name, value in env.items() if value is not None},
        cwd="/",
    )


def copy_package(folder: Path) -> Path:
    package = folder / "pyws"
    package.mkdir(parents=True)
    for path in PACKAGE.rglob("*.py"):
        if path.name != "_build.py":
            copy = package / path.relative_to(PACKAGE)
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(path, copy)
    return package


SHOW = "import pyws._native as n; print(n.lib.path)"


@pytest.mark.parametrize(
    "place",
    [
        "pyws/libpyws.so",
        "pyws/libpyws.so.0",
        ".pyws_server.mesonpy.libs/libpyws.so",
        ".pyws-server.mesonpy.libs/libpyws.so",
        "build/libpyws.so",
        "build-asan/libpyws.so",
    ],
)
def test_places_of_the_library(tmp_path: Path, place: str) -> None:
    copy_package(tmp_path)
    (tmp_path / place).parent.mkdir(exist_ok=True)
    shutil.copy(_native.lib.path, tmp_path / place)
    result = run(SHOW, tmp_path, PYWS_LIBRARY=None)
    assert result.stdout.strip() == str(tmp_path / place), result.stderr


def test_newest_build_is_taken(tmp_path: Path) -> None:
    copy_package(tmp_path)
    for number, name in enumerate(("build-b", "build-c", "build-a")):
        (tmp_path / name).mkdir()
        shutil.copy(_native.lib.path, tmp_path / name / "libpyws.so")
        os.utime(tmp_path / name / "libpyws.so", (1000 + number, 1000 + number))
    (tmp_path / "build-d").mkdir()  # one that has not come to the library yet
    (tmp_path / "build-d" / "libpyws.so").symlink_to("libpyws.so.0")
    result = run(SHOW, tmp_path, PYWS_LIBRARY=None)
    assert result.stdout.strip() == str(tmp_path / "build-a" / "libpyws.so"), result.stderr


def test_libdir_of_a_generated_build_module(tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    (package / "_build.py").write_text(f"LIBDIR = {str(tmp_path / 'lib')!r}\n")
    (tmp_path / "lib").mkdir()
    shutil.copy(_native.lib.path, tmp_path / "lib" / "libpyws.so.0")
    result = run(SHOW, tmp_path, PYWS_LIBRARY=None)
    assert result.stdout.strip() == str(tmp_path / "lib" / "libpyws.so.0"), result.stderr


def test_t79_no_library_names_every_path(tmp_path: Path) -> None:
    package = copy_package(tmp_path)
    (package / "_build.py").write_text("LIBDIR = '/nonexistent/lib'\n")
    (tmp_path / "build").mkdir()
    (tmp_path / "build" / "libpyws.so").write_text("not a library")
    result = run("import pyws", tmp_path, PYWS_LIBRARY=None)
    assert result.returncode == 1
    assert "ImportError: pyws cannot load its C library" in result.stderr
    assert f"machine: {os.uname().machine}" in result.stderr
    for path in (
        package / "libpyws.so: no such file",
        tmp_path / ".pyws_server.mesonpy.libs" / "libpyws.so: no such file",
        Path("/nonexistent/lib/libpyws.so: no such file"),
        tmp_path / "build" / "libpyws.so: ",
    ):
        assert str(path) in result.stderr
    assert "  libpyws.so.0: " in result.stderr


def test_t79_pyws_library_is_final(tmp_path: Path) -> None:
    copy_package(tmp_path)
    shutil.copy(_native.lib.path, tmp_path / "pyws" / "libpyws.so")
    result = run("import pyws", tmp_path, PYWS_LIBRARY=str(tmp_path / "other.so"))
    assert result.returncode == 1
    assert f"{tmp_path / 'other.so'}: no such file" in result.stderr
    assert str(tmp_path / "pyws" / "libpyws.so") not in result.stderr


def test_a_zip_file_is_explained(tmp_path: Path) -> None:
    """Neither a zipapp nor a zip file in sys.path can contain the library."""
    folder = tmp_path / "program"
    package = copy_package(folder)
    shutil.copy(_native.lib.path, package / "libpyws.so")
    (folder / "__main__.py").write_text(SHOW)
    program = tmp_path / "program.pyz"
    zipapp.create_archive(folder, program)
    result = run(f"import runpy; runpy.run_path({str(program)!r})", tmp_path, PYWS_LIBRARY=None)
    assert result.returncode == 1
    error = result.stderr.splitlines()[-1]
    assert error.startswith(f"ImportError: pyws was imported from the zip file {program}, but the ")
    assert "Install pyws-server with pip, make the program with PyInstaller or shiv" in error
    assert "or set PYWS_LIBRARY to the path of a libpyws.so outside" in error
    chosen = str(package / "libpyws.so")
    result = run(SHOW, program, PYWS_LIBRARY=chosen)
    assert result.stdout.strip() == chosen, result.stderr
    result = run(SHOW, program, PYWS_LIBRARY="/nonexistent/libpyws.so")
    assert "  /nonexistent/libpyws.so: no such file" in result.stderr


# ---- a library that is not ours -----------------------------------------------------------------


def stub(folder: Path, abi: int = _native.ABI, stats: int = 0, leave_out: str = "") -> Path:
    """A library with all names, doing nothing, of version 7.7.7."""
    import ctypes

    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        pytest.skip("no C compiler")
    known = {"ws_abi", "ws_version", "ws_struct_size"}
    sizes = "".join(
        f'if (!strcmp(name, "{structure.__name__}")) return {ctypes.sizeof(structure)} + '
        f"{stats if structure is _native.ws_stats else 0};"
        for structure in _native.STRUCTURES
    )
    lines = [
        "#include <string.h>",
        f"int ws_abi(void) {{ return {abi}; }}",
        'const char *ws_version(void) { return "7.7.7"; }',
        f"unsigned long ws_struct_size(const char *name) {{ {sizes} return 0; }}",
        *(f"int {name}(void) {{ return 0; }}" for name in _native.SIGNATURES if name not in known),
    ]
    source = folder / "stub.c"
    kept = [line for line in lines if not leave_out or f"{leave_out}(" not in line]
    source.write_text("\n".join(kept) + "\n")
    library = folder / "stub.so"
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True, timeout=60)
    return library


def imported(library: Path) -> str:
    """What an import says, with the bridge if the library has it: PYWS_BRIDGE=c would insist."""
    return run("import pyws", ROOT, PYWS_LIBRARY=str(library), PYWS_BRIDGE="").stderr


def test_t77_a_stub_of_the_right_shape_is_accepted(tmp_path: Path) -> None:
    assert imported(stub(tmp_path)) == ""


@pytest.mark.parametrize(
    ("settings", "complaint"),
    [
        ({"abi": 99}, f"has ABI 99, pyws needs ABI {_native.ABI}"),
        ({"stats": 8}, "struct ws_stats has "),
        ({"leave_out": "ws_conn_send"}, "has no function ws_conn_send"),
        ({"leave_out": "ws_abi"}, "has no function ws_abi"),
    ],
)
def test_t77_another_library_is_refused(
    tmp_path: Path, settings: Dict[str, Any], complaint: str
) -> None:
    error = imported(stub(tmp_path, **settings)).splitlines()[-1]
    assert error.startswith("ImportError: ")
    assert complaint in error
    assert f"(library version 7.7.7, pyws version {_native.VERSION})" in error


def test_t77_a_library_without_a_version(tmp_path: Path) -> None:
    error = imported(stub(tmp_path, leave_out="*ws_version"))
    assert "library version unknown" in error


# ---- errors -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("code", "kind"),
    [
        (ErrorCode.ENOMEM, MemoryError),
        (ErrorCode.EINVAL, ValueError),
        (ErrorCode.EEXIST, ValueError),
        (ErrorCode.EBUSY, RuntimeError),
        (ErrorCode.EORDER, RuntimeError),
        (ErrorCode.ESTOPPED, RuntimeError),
        (ErrorCode.ECLOSED, RuntimeError),
        (ErrorCode.ELIMIT, RuntimeError),
        (ErrorCode.EFORKED, RuntimeError),
        (ErrorCode.EABI, ImportError),
        (-99, RuntimeError),
    ],
)
def test_errors_become_exceptions(code: int, kind: type) -> None:
    with pytest.raises(kind) as caught:
        _native.fail(code)
    assert str(caught.value) == _native.lib.ws_strerror(code).decode()


def test_esystem_becomes_an_oserror_with_errno() -> None:
    error = exception_for(ErrorCode.ESYSTEM, "text", 13)
    assert isinstance(error, PermissionError)
    assert error.errno == 13
    error = exception_for(ErrorCode.ESYSTEM, "text", 0)
    assert isinstance(error, OSError)
    assert error.strerror == "text"


def test_utf8_of_the_library() -> None:
    assert _native.lib.ws_utf8_valid("a\0\u20ac".encode(), 5)
    assert not _native.lib.ws_utf8_valid(b"\xed\xa0\x80", 3)


def test_without_what_pypy_lacks() -> None:
    """Its os has no O_PATH. If it is installed, it imports the modules, too."""
    every = f"""
import os
vars(os).pop("O_PATH", None)
import importlib, pathlib
for one in pathlib.Path({str(PACKAGE)!r}, "_core").glob("*.py"):
    name = ".".join(one.relative_to({str(ROOT)!r}).with_suffix("").parts)
    if one.stem not in ("redis_broker", "nats_broker"):
        importlib.import_module(name)
"""
    for program in filter(None, (sys.executable, shutil.which("pypy3"))):
        done = subprocess.run(
            [program, "-c", every], cwd=ROOT, capture_output=True, text=True, timeout=60
        )
        assert (done.returncode, done.stderr) == (0, ""), program
