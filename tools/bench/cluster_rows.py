# SPDX-License-Identifier: MIT
"""The servers and the kinds of load of cluster.py."""

from __future__ import annotations

import importlib.util
import pathlib
import re
import shutil
import sys
from dataclasses import dataclass, field

import harness
from cases import Case
from servers import PEERS, Folder, tool_version

SUBSCRIBERS = 500  # of one worker in "fanout"
RATE = 10000  # messages a second in "steady"; less if a server cannot do twice as much
MODULE = "usr/lib/nginx/modules/ngx_nchan_module.so"

ENGINE = "/socket.io/?EIO=4&transport=websocket"
SOCKET_IO = (
    *("--engine", "--publish", ENGINE, "--subscribe", f"{ENGINE}&role=subscribe"),
    *("--start", '42["m","', "--end", '"]'),
)

USUAL = ("one", "ten", "steady")


def _load(title: str, arguments: str) -> Case:
    return Case(title, "cpu_us_per_message", "CPU us/message", tuple(arguments.split()))


LOADS: dict[str, Case] = {
    "one": _load("one message at a time", "--burst 1"),
    "ten": _load("ten messages at a time", "--burst 10"),
    "steady": _load(f"{RATE:,} messages per second, one at a time", f"--rate {RATE}"),
    "fanout": _load(f"one message at a time to {SUBSCRIBERS} subscribers in each process", ""),
}


@dataclass(frozen=True)
class Row:
    """One server: a process with several workers, or two processes with a broker.

    `{url}` in a command is replaced by the URL of the broker. `needs` are packages.
    """

    commands: tuple[tuple[str, ...], ...]
    broker: str = ""
    environment: dict[str, str] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()  # of the load generator
    loads: tuple[str, ...] = USUAL
    is_one: bool = False  # one process has the publisher and the subscribers
    times_calls: bool = False  # publishing to /timed prints how long the calls took
    needs: tuple[str, ...] = ()
    about: str = ""  # its version


def find(build: pathlib.Path, folder: Folder) -> dict[str, Row]:
    """Return all rows, by name, in the order of the tables."""
    return {**own(build, folder), **others(folder)}


def own(build: pathlib.Path, folder: Folder) -> dict[str, Row]:
    """pyws. Its programs run with the Python of the other servers, where that is installed."""
    python = str(folder.python) if folder.python.exists() else sys.executable
    program = (python, str(PEERS / "cluster_pyws.py"))
    environment = harness.server_environment(build)
    rows = {
        "local": Row((program,), loads=(*USUAL, "fanout"), is_one=True),
        "bus": Row(((*program, "--workers", "2"),), loads=(*USUAL, "fanout")),
    }
    packages = {"redis": ("redis", "hiredis"), "nats": ("nats-py",)}
    for loop in ("asyncio", "uvloop"):
        needs = () if loop == "asyncio" else ("uvloop",)
        rows[f"local {loop}"] = Row(((*program, f"--{loop}"),), is_one=True, needs=needs)
        for broker, more in packages.items():
            command = (*program, f"--{loop}", "--broker", "{url}")
            rows[f"{broker} {loop}"] = Row((command, command), broker, needs=(*needs, *more))
    return {
        name: Row(**{**row.__dict__, "environment": environment, "times_calls": True})
        for name, row in rows.items()
    }


def others(folder: Folder) -> dict[str, Row]:
    """All the others, each as its documentation recommends it."""
    python, uvicorn = str(folder.python), ("uvicorn", "httptools", "websockets", "uvloop")

    def asgi(
        name: str, needs: tuple[str, ...], *options: str, arguments: tuple[str, ...] = ()
    ) -> Row:
        command = (python, str(PEERS / f"cluster_{name}.py"), "{url}", *options)
        about = ", ".join(f"{package} {folder.version(package)}" for package in needs)
        needs = (*needs, *uvicorn, "redis")
        return Row((command, command), "redis", {}, arguments, needs=needs, about=about)

    node = (shutil.which("node") or "node", str(PEERS / "cluster_socketio.js"), "{url}")
    packages = ("socket.io", "@socket.io/redis-adapter", "ioredis")
    channels = ("channels", "channels_redis")
    nchan = folder.path / "nchan" / MODULE
    return {
        "broadcaster": asgi("starlette", ("starlette", "broadcaster")),
        "python-socketio": asgi("socketio", ("python-socketio",), arguments=SOCKET_IO),
        "channels pubsub": asgi("channels", channels, "--pubsub"),
        "channels": asgi("channels", channels),
        "socket.io": Row(
            (node, node),
            "redis",
            {"NODE_PATH": str(folder.modules)},
            SOCKET_IO,
            needs=packages,
            about=", ".join(f"{one} {folder.version(one)}" for one in packages)
            + f" (Node {tool_version('node')})",
        ),
        "nchan": Row(
            ((sys.executable, str(PEERS / "cluster_nchan.py"), str(nchan)),),
            # It numbers the messages of a second from 0 to 32767 and loses those beyond.
            arguments=("--answers", "--messages", "8000"),
            loads=("one", "steady"),
            needs=(str(nchan),),
            about=f"nchan ({tool_version('nginx', '-v')})",
        ),
    }


def lacks(row: Row, folder: Folder) -> list[str]:
    """Return what the row needs and is not there."""
    missing = [name for name in row.needs if not _has(name, folder)]
    if row.broker and not program_of(row.broker):
        missing.append(f"{row.broker}-server")
    return missing


def program_of(broker: str) -> str | None:
    """Return the program of a broker; Debian has that of NATS where only root looks."""
    name = f"{broker}-server"
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/usr/local/sbin")


def describe(row: Row) -> str:
    """Return the versions of what a row consists of."""
    if row.about or not row.broker:
        return row.about
    found = re.search(r"\d+(\.\d+)+", tool_version(str(program_of(row.broker))))
    return f"{row.broker}-server {found.group() if found else '?'}"


def _has(name: str, folder: Folder) -> bool:
    if name.startswith("/"):
        return pathlib.Path(name).exists() and shutil.which("nginx") is not None
    if folder.version(name):
        return True
    module = {"nats-py": "nats"}.get(name, name)
    return not folder.python.exists() and importlib.util.find_spec(module) is not None
