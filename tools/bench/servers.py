# SPDX-License-Identifier: MIT
"""The servers that compare.py measures: those of this project, and other ones in peers/.

The other servers are installed with pip and npm into a separate folder. Its layout is that of
tools/conformance/compare.py, so the two tools may share one folder.
"""

from __future__ import annotations

import json
import pathlib
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from typing import Sequence

import harness
from harness import BenchError

PEERS = pathlib.Path(__file__).resolve().parent / "peers"
INSTALL = 600.0  # seconds for one call of pip or npm
# `ws` also recommends utf-8-validate, but a Node with buffer.isUtf8 does not use it.
PIP = (
    *("websockets", "picows", "socketify", "aiohttp", "uvloop"),
    *("starlette", "uvicorn", "httptools", "granian"),
)
NPM = ("ws", "bufferutil", "bun")
CLUSTER_PIP = (
    *("uvloop", "uvicorn", "httptools", "websockets", "hiredis", "python-socketio"),
    *("starlette", "broadcaster", "channels", "channels_redis", "nats-py"),
)  # of cluster.py
CLUSTER_NPM = ("socket.io", "@socket.io/redis-adapter", "ioredis")
ASGI = ("uvicorn", "granian")  # servers that run Starlette
SECURE = ("aiohttp", "bun", "picows", "uvicorn", "websockets", "ws")  # they take --cert


@dataclass(frozen=True)
class Server:
    """A row of the tables.

    `deflate` are the options that turn on compression of isolated messages; None if it has none.
    `group` says whether a message sent to /broadcast goes to all connections there.
    `tls` is the command that speaks TLS once --cert FILE --key FILE follow; None if there is none.
    """

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    deflate: tuple[str, ...] | None = None
    group: bool = False
    tls: tuple[str, ...] | None = None


# ---- servers of this project --------------------------------------------------------------------


def own(build: pathlib.Path) -> dict[str, Server]:
    known = {name: tuple(command) for name, command in harness.known_servers(build).items()}
    environment = harness.server_environment(build)
    ctypes = {**environment, "PYWS_BRIDGE": "ctypes"}
    flag = ("--deflate",)
    return {
        "floor": Server(known["floor"], group=True, tls=known["floor_tls"]),
        "c": Server(known["c"], {}, ("--compression", "shared"), True, known["c_tls"]),
        "python": Server(known["python"], environment, flag, True, known["python"]),
        "python-ctypes": Server(known["python"], ctypes, flag, True, known["python"]),
        "coroutine": Server(known["coroutine"], environment, tls=known["coroutine"]),
        "session": Server(known["session"], environment, tls=known["session"]),
    }


# ---- other servers ------------------------------------------------------------------------------


class Folder:
    """The folder where the other servers are installed."""

    def __init__(self, path: pathlib.Path) -> None:
        self.path = path.resolve()
        self.python = self.path / "venv" / "bin" / "python"
        self.modules = self.path / "npm" / "node_modules"

    def version(self, package: str) -> str:
        """Return the version of a package, or "" if it is not installed."""
        if package in (*NPM, *CLUSTER_NPM):
            try:
                text = (self.modules / package / "package.json").read_text(encoding="utf-8")
            except OSError:
                return ""
            return str(json.loads(text)["version"])
        name = package.replace("-", "_")
        found = self.path.glob(f"venv/lib/*/site-packages/{name}-*.dist-info")
        return next((path.name[len(name) + 1 : -len(".dist-info")] for path in found), "")

    def server(self, name: str) -> Server | None:
        """Return a server's command, or None if something it needs is not installed."""
        python, node = str(self.python), shutil.which("node")
        bun = str(
            self.modules / "bun" / "bin" / "bun.exe"
        )  # the program itself, with the name that npm uses
        needs, interpreter, suffix = {
            "ws": (("ws", "bufferutil"), node, "js"),
            "bun": (("bun",), bun, "js"),
            "picows": (("picows", "uvloop"), python, "py"),
            "socketify": (("socketify",), python, "py"),
            "uvicorn": (
                ("starlette", "uvicorn", "httptools", "websockets", "uvloop"),
                python,
                "py",
            ),
            "granian": (("starlette", "granian", "uvloop"), python, "py"),
        }.get(name, ((name, "uvloop"), python, "py"))
        if not interpreter or not all(map(self.version, needs)):
            return None
        program = "starlette" if name in ASGI else name
        command: tuple[str, ...] = (interpreter, str(PEERS / f"peer_{program}.{suffix}"))
        if name == "granian":
            command = (*command, "--granian")
        environment = {"NODE_PATH": str(self.modules)}
        deflate = None if name == "picows" or name in ASGI else ("--deflate",)
        return Server(command, environment, deflate, True, command if name in SECURE else None)

    def describe(self, name: str) -> str:
        """Return name and version of a server and of its runtime."""
        below = {"ws": f" (Node {tool_version('node')})", "socketify": "", "bun": ""}
        if name in ASGI:
            below[name] = f" (starlette {self.version('starlette')}, uvloop)"
        return f"{name} {self.version(name)}{below.get(name, ' (uvloop)')}"


def names() -> list[str]:
    """Return the rows of the other servers."""
    return ["bun", "socketify", "picows", "ws", "aiohttp", "websockets", *ASGI]


def tool_version(name: str, option: str = "--version") -> str:
    try:
        done = subprocess.run([name, option], capture_output=True, text=True, timeout=30)
    except (OSError, subprocess.TimeoutExpired):
        return "?"
    return (done.stdout or done.stderr).strip().lstrip("v") or "?"


def install(folder: Folder, pip: Sequence[str] = PIP, npms: Sequence[str] = NPM) -> None:
    """Install the newest versions of all packages; reports failures and continues."""
    npm = folder.path / "npm"
    npm.mkdir(parents=True, exist_ok=True)
    if not (npm / "package.json").exists():
        (npm / "package.json").write_text('{"private": true}\n', encoding="utf-8")
    if not folder.python.exists():
        attempt([sys.executable, "-m", "venv", str(folder.path / "venv")])
    for package in pip:
        attempt([str(folder.python), "-m", "pip", "install", "-q", "-U", package])
    attempt(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(npm), *npms])
    for package in (*pip, *npms):
        print(f"{package} {folder.version(package) or 'is not installed'}")


def attempt(command: Sequence[str]) -> None:
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            timeout=INSTALL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"{command[0]}: {error}", file=sys.stderr)
        return
    if done.returncode:
        print(f"{' '.join(command)}: {done.stderr.strip()}", file=sys.stderr)


# ---- selection ----------------------------------------------------------------------------------


def choose(build: pathlib.Path, folder: Folder, wanted: Sequence[str]) -> dict[str, Server]:
    """Return the wanted servers that are installed, and list missing ones, or raise BenchError."""
    known = own(build)
    chosen: dict[str, Server] = {}
    missing = []
    for name in wanted:
        if name not in known and name not in names():
            every = ", ".join([*known, *names()])
            raise BenchError(f"unknown server {name}: choose from {every}, or use --extra")
        server = known.get(name) or folder.server(name)
        if server:
            chosen[name] = server
        else:
            missing.append(name)
    if missing:
        advice = f"compare.py --install {folder.path}"
        print(f"not installed, left out: {', '.join(missing)} ({advice})", file=sys.stderr)
    return chosen
