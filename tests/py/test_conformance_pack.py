# SPDX-License-Identifier: MIT
"""tools/conformance as one file, and in a container: without pyws, and without a checkout."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
import threading
import zipfile
from pathlib import Path
from typing import Any, Iterator, List

import pytest
from broken_server import Server
from common import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from conformance import arguments, pack

FOLDER = ROOT / "tools" / "conformance"
CONTAINER = ROOT / "packaging" / "conformance" / "Containerfile"
ENVIRONMENT = {"PATH": os.environ.get("PATH", ""), "HOME": "/nonexistent", "LC_ALL": "C"}


def pythons() -> List[str]:
    """The oldest and the newest CPython that are here, PyPy, and the one that runs this test."""
    found = {sys.executable}
    versions = Path.home() / ".pyenv" / "versions"
    for name in ("python3.8", "python3.13", "pypy3"):
        installed = [str(path) for path in versions.glob(f"*/bin/{name}")]
        found.update([*installed, shutil.which(name) or sys.executable])
    return sorted(path for path in found if works(path))


def works(python: str) -> bool:
    """A shim of pyenv is there without what it stands for."""
    return subprocess.run([python, "-c", ""], stderr=subprocess.DEVNULL).returncode == 0


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("packed") / "conformance.pyz"
    subprocess.run([sys.executable, str(FOLDER), "pack", str(path)], check=True, timeout=60)
    return path


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    server = Server([])
    yield server.port
    server.close()


def run(python: str, path: Path, cwd: Path, *arguments: str) -> str:
    done = subprocess.run(
        [python, "-I", str(path), *arguments],
        cwd=str(cwd),
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, done.stdout
    return done.stdout


# ---- one file -----------------------------------------------------------------------------------


def test_the_same_sources_are_the_same_bytes(packed: Path, tmp_path: Path) -> None:
    """Whatever the times and modes of the files, and whichever Python packs them."""
    copy = tmp_path / "elsewhere"
    ignored = shutil.ignore_patterns("__pycache__", ".*_cache")
    shutil.copytree(str(FOLDER), str(copy), ignore=ignored)
    for path in copy.rglob("*"):
        os.utime(str(path), (1, 1))
        path.chmod(0o700)
    for i, python in enumerate(pythons()):
        other = tmp_path / f"{i}.pyz"
        subprocess.run([python, str(copy), "pack", str(other)], check=True, timeout=60)
        assert other.read_bytes() == packed.read_bytes(), python


def test_only_what_a_run_needs_is_packed(packed: Path) -> None:
    with zipfile.ZipFile(str(packed)) as archive:
        names = set(archive.namelist())
    modules = {path.relative_to(FOLDER) for path in [*FOLDER.glob("*.py"), *FOLDER.glob("cases/*")]}
    modules = {path for path in modules if path.suffix == ".py"} - {Path("compare.py")}
    data = {name for name in names if name.endswith((".html", ".json"))}
    assert "pyws_conformance/report.html" in data
    assert names - data == {"__main__.py"} | {f"pyws_conformance/{path}" for path in modules}
    assert os.access(str(packed), os.X_OK)


@pytest.mark.parametrize("python", pythons())
def test_it_runs_with_nothing_but_python(
    python: str, packed: Path, port: int, tmp_path: Path
) -> None:
    """From another folder, isolated: neither pyws nor a module of the checkout can be found."""
    reports = ("--json", "report.json", "--html", "report.html", "--junit", "report.xml")
    run(python, packed, tmp_path, f"ws://127.0.0.1:{port}/", "--include", "1", *reports)
    (found,) = json.loads((tmp_path / "report.json").read_text())["runs"]
    assert len(found["cases"]) > 30
    assert {case["verdict"] for case in found["cases"]} == {"OK"}
    assert "</html>" in (tmp_path / "report.html").read_text()
    side_by_side = run(python, packed, tmp_path, "report", "report.json", "--markdown", "-")
    assert "Framing" in side_by_side
    assert re.match(r"1\.1\.1 .*\n", run(python, packed, tmp_path, "--list", "--include", "1.1.1"))
    assert re.search(r"\d+\.\d+\.\d+\n", run(python, packed, tmp_path, "--version"))


def test_no_module_of_the_checkout_is_loaded(packed: Path, tmp_path: Path) -> None:
    code = (
        "import runpy, sys\n"
        "sys.argv = [sys.argv[1], '--list', '--include', '1.1.1']\n"
        "try: runpy.run_path(sys.argv[0], run_name='__main__')\n"
        "except SystemExit: pass\n"
        "print([getattr(m, '__file__', None) for m in list(sys.modules.values())])\n"
    )
    done = subprocess.run(
        [sys.executable, "-I", "-c", code, str(packed)],
        cwd=str(tmp_path),
        env=ENVIRONMENT,
        stdout=subprocess.PIPE,
        text=True,
        timeout=50,
        check=True,
    )
    assert f"{packed}/pyws_conformance/case.py" in done.stdout
    assert str(FOLDER) not in done.stdout


def test_an_old_python_gets_a_sentence(packed: Path) -> None:
    with zipfile.ZipFile(str(packed)) as archive:
        main = archive.read("__main__.py").decode()
    first = main[: main.index("from ")]
    with pytest.raises(SystemExit, match="needs Python 3.8 or later, this is 3.7"):
        exec(
            first.replace("import sys", ""), {"sys": OldSys}
        )  # what only Python 3.8 can read follows


class OldSys:
    version_info = (3, 7, 17, "final", 0)
    exit = sys.exit


def test_a_packed_file_cannot_pack(packed: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, str(packed), "pack", "x"],
        cwd=str(tmp_path),
        stderr=subprocess.PIPE,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 2
    assert "this is already a packed file: copy it" in done.stderr
    with pytest.raises(SystemExit):
        pack.main("x", [str(tmp_path / "no such folder" / "x")])


# ---- with a login -------------------------------------------------------------------------------


class Login:
    """In front of a server: lets in who shows in the request's head that it may come."""

    def __init__(self, port: int, wanted: bytes) -> None:
        self.port, self.wanted = port, wanted
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=100)
        self.place = f"ws://127.0.0.1:{self.listener.getsockname()[1]}/"
        self.thread = threading.Thread(target=self.accept, daemon=True)
        self.thread.start()

    def accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.check, args=[connection], daemon=True).start()

    def check(self, connection: socket.socket) -> None:
        with connection, socket.create_connection(("127.0.0.1", self.port)) as behind:
            head = b""
            while b"\r\n\r\n" not in head:
                data = connection.recv(65536)
                if not data:
                    return
                head += data
            if self.wanted not in head:
                connection.sendall(b"HTTP/1.1 401 Unauthorized\r\nContent-Length: 0\r\n\r\n")
                return
            behind.sendall(head)
            back = threading.Thread(target=pump, args=[behind, connection], daemon=True)
            back.start()
            pump(connection, behind)
            back.join(20)

    def close(self) -> None:
        self.listener.shutdown(socket.SHUT_RDWR)
        self.thread.join(20)
        self.listener.close()


def pump(source: socket.socket, sink: socket.socket) -> None:
    try:
        while True:
            data = source.recv(65536)
            if not data:
                return sink.shutdown(socket.SHUT_WR)
            sink.sendall(data)
    except OSError:
        pass  # one of the two has gone


@pytest.mark.parametrize(
    ("wanted", "options"),
    [
        (b"\r\nAuthorization: Bearer s3cret\r\n", ["--header", "Authorization: Bearer s3cret"]),
        (b"\r\nCookie: session=s3cret\r\n", ["--cookie", "session=s3cret"]),
        (b"GET /?token=s3cret HTTP/1.1\r\n", ["--query", "token=s3cret"]),
        (b"\r\nOrigin: https://example.org\r\n", ["--origin", "https://example.org"]),
    ],
)
def test_a_server_that_wants_a_login(
    wanted: bytes, options: List[str], packed: Path, port: int, tmp_path: Path
) -> None:
    """As the README says: without the option it ends with 3 and the reason, with it all is well."""
    server = Login(port, wanted)
    try:
        with pytest.raises(AssertionError, match="401"):
            run(sys.executable, packed, tmp_path, server.place, "--include", "1")
        run(sys.executable, packed, tmp_path, server.place, "--include", "1.*", *options)
    finally:
        server.close()


# ---- the README ---------------------------------------------------------------------------------


# Of podman, of compare.py, and of servers that are started.
FOREIGN = {"--rm", "--network", "--userns", "--user", "--build", "--folder", "--autobahn", "--runs"}
FOREIGN |= {"--port", "--compression", "--max-payload", "--max-backpressure"}


def test_the_readme_names_options_that_there_are() -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z]+(?:-[a-z]+)*", (FOLDER / "README.md").read_text()))
    assert named > {"--header", "--cookie", "--query", "--origin", "--protocol", "--baseline"}
    assert named - FOREIGN <= set(arguments.run_parser("x")._option_string_actions)


# ---- a container --------------------------------------------------------------------------------


def instructions(path: Path) -> List[List[str]]:
    """The words of each line that is no comment."""
    lines = (line.strip() for line in path.read_text().splitlines())
    return [line.split(None, 1) for line in lines if line and not line.startswith("#")]


def test_the_container_builds_from_what_is_there(packed: Path) -> None:
    """What COPY takes exists, what it packs is what it starts, and it is not started as root."""
    told = instructions(CONTAINER)
    copied = [words.split() for name, words in told if name == "COPY"]
    own = [words for words in copied if not words[0].startswith("--from=")]
    assert own
    for *sources, _ in own:
        for source in sources:
            assert (ROOT / source).exists(), source
    last: Any = dict(told)
    assert last["USER"] == "65534:65534"
    entry = json.loads(last["ENTRYPOINT"])
    (made,) = [words for words in copied if words[0] == "--from=pack"]
    assert entry[-1] == made[-1]
    (command,) = [words for name, words in told if name == "RUN"]
    assert command.split()[-2:] == ["pack", made[1]]
    assert command.split()[1] == own[0][-1]
