# SPDX-License-Identifier: MIT
"""The servers and the kinds of load of http_compare.py."""

from __future__ import annotations

import os
import pathlib
import shutil
import sys
from dataclasses import dataclass, field

import harness
from cases import Case
from servers import PEERS, Folder, tool_version

TEXT = b"Hello, world!\n"
FILE = bytes((7 * i + i // 251) % 256 for i in range(64 * 1024))
READ, DROP = 1024, 1024 * 1024  # bytes of an upload
# What every response must contain, by the name of a file below {folder}.
EXPECTED = {
    "text": TEXT,
    "file": FILE,
    "read": str(READ).encode(),
    "drop": str(DROP).encode(),
}


def _load(title: str, path: str, arguments: str) -> Case:
    words = f"--path /{path} --expect {{folder}}/{path} --spin {arguments}"
    return Case(title, "cpu_us_per_request", "CPU us/request", tuple(words.split()))


LOADS: dict[str, Case] = {
    "text": _load("GET of 14 bytes, 100 connections", "text", "--conns 100"),
    "text16": _load("the same, 16 requests in flight on each", "text", "--conns 100 --pipeline 16"),
    "file": _load("GET of a file of 64 KiB, 10 connections", "file", "--conns 10"),
    "read": _load(
        "POST of 1 KiB that the handler reads, 100 connections",
        "read",
        f"--conns 100 --upload {READ}",
    ),
    "drop": _load(
        "POST of 1 MiB that the handler discards, 10 connections",
        "drop",
        f"--conns 10 --upload {DROP}",
    ),
}


@dataclass(frozen=True)
class Row:
    """A server; {folder} in its command is where the files of EXPECTED are."""

    command: tuple[str, ...]
    environment: dict[str, str] = field(default_factory=dict)
    loads: tuple[str, ...] = tuple(LOADS)
    needs: tuple[str, ...] = ()  # packages, or a program
    about: str = ""  # its version


@dataclass(frozen=True)
class Goal:
    """A row costs at most `most` times as much as another one, under one load."""

    load: str
    row: str
    base: str
    most: float


GOALS = (
    Goal("text", "c", "floor", 1.15),
    Goal("text", "python", "floor", 1.4),
    Goal("text", "python", "uvicorn", 1 / 3),
    Goal("text", "python", "granian", 1),
    Goal("file", "c", "nginx", 1.2),
    Goal("drop", "c", "floor", 1.2),
)


def find(build: pathlib.Path, folder: Folder) -> dict[str, Row]:
    """Return all rows, by name, in the order of the tables."""
    tools = build / "tools" / "bench"
    own = harness.server_environment(build)
    python = str(folder.python)
    # pyws on the Python of the others, where that is there.
    mine = python if folder.python.exists() else sys.executable
    pyws = (mine, str(PEERS / "http_pyws.py"), "{folder}")
    asgi = (python, str(PEERS / "http_asgi.py"), "{folder}")

    def about(*packages: str) -> str:
        return ", ".join(f"{package} {folder.version(package)}" for package in packages)

    def peer(name: str, *packages: str) -> Row:
        command = (python, str(PEERS / f"http_{name}.py"), "{folder}")
        return Row(command, needs=packages, about=about(*packages))

    uvicorn = ("uvicorn", "httptools", "uvloop", "starlette")
    granian = ("granian", "uvloop", "starlette")
    return {
        "floor": Row((str(tools / "floor_http"), "{folder}/file")),
        "c": Row((str(tools / "http_pyws"), "{folder}/file")),
        "python": Row(pyws, own),
        "coroutine": Row((*pyws, "--coroutine"), own),
        "nginx": Row(
            (sys.executable, str(PEERS / "http_nginx.py"), "{folder}"),
            loads=("text", "text16", "file"),
            needs=("nginx",),
            about="nginx " + tool_version("nginx", "-v").rpartition("/")[2],
        ),
        # When long uploads overlap, CFFI aborts it: a handle of on_data is freed already.
        "socketify": Row(
            (python, str(PEERS / "http_socketify.py"), "{folder}"),
            loads=("text", "text16", "file", "read"),
            needs=("socketify",),
            about=about("socketify"),
        ),
        "node": Row(
            ("node", str(PEERS / "http_node.js"), "{folder}"),
            needs=("node",),
            about=f"Node {tool_version('node')}",
        ),
        "granian": Row((*asgi, "--granian"), needs=granian, about=about("granian")),
        "granian-rsgi": Row((*asgi, "--rsgi"), needs=granian),
        "aiohttp": peer("aiohttp", "aiohttp", "uvloop"),
        "uvicorn": Row(asgi, needs=uvicorn, about=about(*uvicorn)),
    }


def program_of(name: str) -> str | None:
    """Return the file of a program; nginx is in a folder that only root searches."""
    return shutil.which(name) or shutil.which(name, path=f"/usr/sbin{os.pathsep}/sbin")


def lacks(row: Row, folder: Folder) -> list[str]:
    """Return what has to be installed for a row."""
    programs = ("nginx", "node")
    return [
        name
        for name in row.needs
        if not (program_of(name) if name in programs else folder.version(name))
    ]
