#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Compare pyws with other C libraries: bytes of the library, and of an idle connection.

    python tools/bench/embedded.py --mongoose DIR    # with mongoose.c and mongoose.h
    python tools/bench/embedded.py --libraries pyws,wslay

Prints the table of docs/embedding.md. What is measured:

    library     bytes of the stripped shared library: of Debian's package, or compiled here, like
                those of tools/footprint.py
    connection  growth of the anonymous memory of an echo server (peers/embedded_*.c) from 100 to
                500 idle WebSockets, divided by 400

A library that is not installed is left out and named.
"""

from __future__ import annotations

import argparse
import contextlib
import pathlib
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass

import harness

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
import footprint
from footprint import MissingError, run

BENCH = pathlib.Path(__file__).resolve().parent
FEW, MANY = 100, 500  # connections
SETTLE = 0.5  # seconds until threads of a server have done what follows a handshake
PROFILE = "no deflate"  # of footprint.py


@dataclass(frozen=True)
class Library:
    """What a row says; `link` is the name for the linker of what comes in a package of Debian."""

    what: str
    link: str = ""
    package: str = ""
    beside: tuple[str, ...] = ()  # what the server is compiled with


LIBRARIES = {
    "pyws": Library("server: WebSocket and HTTP"),
    "mongoose": Library(
        "server and client for many protocols; GPLv2 or commercial license; hands on text that is "
        "not UTF-8 and frames without a mask"
    ),
    "civetweb": Library(
        "web server with a thread for each connection", "civetweb", "libcivetweb-dev"
    ),
    "libwebsockets": Library(
        "server and client for many protocols; Debian builds it with all its options",
        "websockets",
        "libwebsockets-dev",
    ),
    "wslay": Library(
        "frames and messages alone: handshake, sockets and loop are the program's; the bytes are "
        "those of a context",
        "wslay",
        "libwslay-dev",
        ("accept.c",),
    ),
}


@dataclass(frozen=True)
class Built:
    """A library with its version, and the echo server that uses it."""

    title: str
    size: int
    server: pathlib.Path


# ---- building -----------------------------------------------------------------------------------


def build_pyws(csrc: pathlib.Path, folder: pathlib.Path) -> Built:
    compiler = ["gcc", *footprint.FLAGS, *footprint.SHARED]
    objects = footprint.Objects(csrc, folder / "objects", compiler)
    size = footprint.measure_library(footprint.TARGETS[0], objects, PROFILE)["library"]
    echo = (harness.ROOT / "examples" / "c" / "echo.c").read_text()
    server = objects.program("echo", echo, footprint.switches_of(PROFILE, csrc) or ())
    return Built("pyws, without compression", size, server)


def build_mongoose(source: pathlib.Path | None, folder: pathlib.Path) -> Built:
    if source is None:
        raise MissingError("--mongoose DIR says where its sources are")
    library = folder / "libmongoose.so"
    # It uses POSIX, and does not mark what it exports.
    flags = [*footprint.FLAGS, *footprint.SHARED, *footprint.LINK]
    flags += ["-std=gnu11", "-fvisibility=default"]
    run(["gcc", *flags, "-shared", "-o", str(library), str(source / "mongoose.c")])
    sources = [peer("mongoose"), str(source / "mongoose.c")]
    run(["cc", "-Os", "-w", "-I", str(source), "-o", str(folder / "mongoose"), *sources])
    _, _, version = (source / "mongoose.h").read_text().partition("#define MG_VERSION ")
    title = f"mongoose {version.split()[0]}".replace('"', "")
    return Built(title, footprint.stripped("strip", library), folder / "mongoose")


def build_packaged(name: str, folder: pathlib.Path) -> Built:
    library = LIBRARIES[name]
    path = pathlib.Path(run(["cc", f"-print-file-name=lib{library.link}.so"]).strip())
    if not path.is_absolute():
        raise MissingError(f"Debian's package {library.package} is not installed")
    sources = [peer(name), *(str(BENCH / source) for source in library.beside)]
    server = folder / name
    run(["cc", "-Os", f"-I{BENCH}", "-o", str(server), *sources, f"-l{library.link}"])
    copy = folder / path.name
    shutil.copy(path, copy)
    return Built(f"{name} {version_of(library.package)}", footprint.stripped("strip", copy), server)


def peer(name: str) -> str:
    return str(BENCH / "peers" / f"embedded_{name}.c")


def version_of(package: str) -> str:
    """Return the version of a package of Debian, without that of its packaging."""
    command = ["dpkg-query", "--show", "--showformat=${Version}", package]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True)
    except (OSError, subprocess.SubprocessError):
        return "of an unknown version"
    return done.stdout.partition("-")[0].partition("+")[0]


# ---- measuring and showing ----------------------------------------------------------------------


def bytes_of_connection(server: harness.Server) -> int:
    footprint.echo_once(server.port)
    with contextlib.ExitStack() as stack:
        peers: list[socket.socket] = []
        held = []
        for count in (FEW, MANY):
            while len(peers) < count:
                peers.append(stack.enter_context(footprint.opened(server.port)))
            time.sleep(SETTLE)
            held.append(footprint.memory(server.pid, "Anonymous"))
    return (held[1] - held[0]) * 1024 // (MANY - FEW)


def rounded(number: int) -> str:
    """Three digits; pages of 4 KiB allow no more."""
    return f"{int(float(f'{number:.3g}')):,}"


def measure(name: str, options: argparse.Namespace) -> str:
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        if name == "pyws":
            built = build_pyws(options.csrc, folder)
        elif name == "mongoose":
            built = build_mongoose(options.mongoose, folder)
        else:
            built = build_packaged(name, folder)
        with harness.running([str(built.server)]) as server:
            connection = rounded(bytes_of_connection(server))
    return f"| {built.title} | {built.size:,} | {connection} | {LIBRARIES[name].what} |"


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--libraries", default=",".join(LIBRARIES), help="of: %(default)s")
    parser.add_argument("--mongoose", type=pathlib.Path, metavar="DIR", help="its sources")
    parser.add_argument("--csrc", type=pathlib.Path, default=harness.ROOT / "csrc")
    options = parser.parse_args()
    options.libraries = options.libraries.split(",")
    for name in options.libraries:
        if name not in LIBRARIES:
            parser.error(f"--libraries: '{name}' is not one of {', '.join(LIBRARIES)}")
    if options.mongoose and not (options.mongoose / "mongoose.c").exists():
        parser.error(f"--mongoose: there is no mongoose.c in {options.mongoose}")
    if not (options.csrc / "ws.h").exists():
        parser.error(f"--csrc: there is no ws.h in {options.csrc}")
    options.csrc = options.csrc.resolve()
    return options


def main() -> int:
    options = parse_options()
    print("| | library | of a connection | what it is |\n|---|---:|---:|---|")
    for name in options.libraries:
        try:
            print(measure(name, options), flush=True)
        except MissingError as error:
            print(f"{name} is left out: {error}", file=sys.stderr)
        except (harness.BenchError, OSError) as error:
            harness.fail(f"{name}: {error}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
