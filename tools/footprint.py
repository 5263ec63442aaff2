#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure what csrc/ takes on small machines: bytes of code, of stack, and of memory.

    python3 tools/footprint.py                    # each target whose compiler is installed
    python3 tools/footprint.py --check            # the same, compared with footprint.json
    python3 tools/footprint.py --update           # write what was measured plus 2 %
    python3 tools/footprint.py --markdown         # as the tables of docs/embedding.md
    python3 tools/footprint.py --targets armv7 --profiles 'full,no HTTP'

Everything is compiled by -Os, with link-time optimization and with the flags of meson.build. What
is measured:

    library     bytes of the stripped shared library, without the functions for Python and without
                the gap of RELRO, which is less than a page
    server      bytes of a stripped static echo server (SERVER below) with musl, C library included
    writable    bytes of static data that are not constant, those of the C library not counted
    frame       bytes of stack of the function that takes most
    connection  bytes of memory that a WebSocket connection takes while it is idle
    resident    KiB of memory of the static server after one message (Rss), where it runs natively

Programs for other machines run by qemu-user. What is not installed is left out and named; with
--check that is a failure unless --targets leaves it out.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import re
import shutil
import socket
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Iterable

ROOT = Path(__file__).resolve().parent.parent
NAME = Path(sys.argv[0]).stem  # embedded.py in bench/ uses some of this, too
BUDGETS = Path(__file__).with_name("footprint.json")
HEAD_ROOM = 1.02
# No budget is above these.
LIMITS = {"armv7/no HTTP/library": 48 * 1024, "armv7/no resolver/server": 72 * 1024}
PAGES = 8  # KiB by which the resident set varies from run to run
SECONDS = 300

FLAGS = (
    *("-std=c11", "-Os", "-flto", "-DWS_BUILDING", "-fvisibility=hidden", "-fstack-usage", "-w"),
    *("-fno-asynchronous-unwind-tables", "-fno-unwind-tables"),
    *("-ffunction-sections", "-fdata-sections"),
)
# gcc reports frames when it links. Fat objects also have the sections of static data.
SHARED = ("-fPIC", "-ffat-lto-objects")
# With RELRO the file would have a gap of up to a page, which hides what is saved or grows.
LINK = (
    *("-Wl,--gc-sections", "-Wl,-z,noseparate-code", "-Wl,-Bsymbolic-functions"),
    "-Wl,-z,norelro",
)
# The bridge is for Python, and TLS comes in libraries of its own.
LEFT_OUT = re.compile(r"bridge|tls_(?!none)")

# Each profile has the switches of those before it, too.
PROFILES = {
    "full": "",
    "no deflate": "WS_NO_DEFLATE",
    "no resolver": "WS_NO_RESOLVER",
    "no files": "WS_NO_HTTP_FILES",
    "no cluster": "WS_NO_CLUSTER",
    "no TLS": "WS_NO_TLS",
    "no proxies": "WS_NO_PROXIES",
    "no address limits": "WS_NO_ADDRESS_LIMITS",
    "no topics": "WS_NO_TOPICS",
    "no HTTP": "WS_NO_HTTP",
}


@dataclass(frozen=True)
class Target:
    """Compilers for glibc and for musl (or ""), and what runs programs of another machine."""

    name: str
    compiler: str
    musl: str = ""
    emulator: str = ""

    @property
    def strip(self) -> str:
        compiler = self.compiler.split()[0]
        return compiler.replace("-gcc", "-strip") if "-gcc" in compiler else "strip"

    @property
    def size(self) -> str:
        return self.strip.replace("strip", "size")


ZIG = f"{sys.executable} -m ziglang cc"
TARGETS = [
    Target("x86_64", "gcc", "musl-gcc"),
    Target("i386", "i686-linux-gnu-gcc -march=i686"),
    Target(
        "armv7",
        "arm-linux-gnueabihf-gcc -march=armv7-a+fp -mthumb",
        f"{ZIG} -target thumb-linux-musleabihf -mcpu=cortex_a7",
        "qemu-arm",
    ),
    Target("mips", "mips-linux-gnu-gcc", "", "qemu-mips"),
]

SERVER = r"""
#include "ws.h"

#include <stdio.h>

static void on_message(ws_conn *conn, char *data, size_t length, int opcode, void *user)
{
    ws_conn_send(conn, data, length, opcode);
}

int main(void)
{
    ws_server *server;
    ws_behavior behavior;
    ws_listen_options options;
    ws_behavior_init(&behavior, sizeof behavior);
    ws_listen_options_init(&options, sizeof options);
    behavior.on_message = on_message;
    options.host = "127.0.0.1";
    if (ws_server_new(&server, NULL) || ws_server_ws(server, "/", &behavior))
        return 1;
    printf("%d\n", ws_server_listen(server, &options));
    fflush(stdout);
    return ws_server_run(server);
}
"""

# Prints the memory that each of 240 connections takes. At both counts the table of slots is full.
CONNECTIONS = r"""
#include "ws.h"

#include <arpa/inet.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

static ws_server *server;
static int opened;

static void on_open(ws_conn *conn, void *user)
{
    opened++;
}

static void dial(int port)
{
    static const char request[] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\n"
                                  "Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\n"
                                  "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n";
    struct sockaddr_in to = {0};
    int fd = socket(AF_INET, SOCK_STREAM, 0);
    to.sin_family = AF_INET;
    to.sin_port = htons((uint16_t)port);
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    if (connect(fd, (struct sockaddr *)&to, sizeof to) ||
        send(fd, request, sizeof request - 1, 0) < 0)
        perror("connect");
}

static size_t memory_with(int count, int port)
{
    ws_stats stats;
    while (opened < count) {
        int before = opened;
        dial(port);
        while (opened == before)
            ws_server_step(server, 1000);
    }
    ws_server_step(server, 0);
    ws_server_stats(server, &stats, sizeof stats);
    return stats.memory;
}

int main(void)
{
    ws_behavior behavior;
    ws_listen_options options;
    ws_behavior_init(&behavior, sizeof behavior);
    ws_listen_options_init(&options, sizeof options);
    behavior.on_open = on_open;
    options.host = "127.0.0.1";
    if (ws_server_new(&server, NULL) || ws_server_ws(server, "/", &behavior))
        return 1;
    int port = ws_server_listen(server, &options);
    size_t few = memory_with(16, port), many = memory_with(256, port);
    printf("%zu\n", (many - few) / 240);
    return 0;
}
"""


class MissingError(Exception):
    """A compiler or an emulator is not installed."""


def run(command: list[str]) -> str:
    done = subprocess.run(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    if done.returncode != 0:
        sys.exit(f"{NAME}: {' '.join(command)}\n{done.stdout}")
    return done.stdout


def need(command: str) -> list[str]:
    """Return the words of a command whose program exists."""
    words = command.split()
    if words[0] == sys.executable:
        zig = subprocess.run([*words[:3], "version"], capture_output=True)
        if zig.returncode != 0:
            raise MissingError("ziglang (PyPI)")
    elif not shutil.which(words[0]):
        raise MissingError(words[0])
    return words


# ---- compiling ----------------------------------------------------------------------------------


class Objects:
    """The object files of csrc/ for one compiler, compiled again only where a switch matters."""

    def __init__(self, csrc: Path, folder: Path, compiler: list[str]) -> None:
        self.csrc = csrc
        self.folder = folder
        self.compiler = compiler
        self.made: dict[tuple[str, tuple[str, ...]], Path] = {}
        folder.mkdir()
        # The headers of zlib do not depend on the machine.
        for name in ("zlib.h", "zconf.h"):
            found = [*Path("/usr/include").glob(name), *Path("/usr/include").glob(f"*/{name}")]
            if found:
                shutil.copy(found[0], folder / name)

    def text_of(self, name: str, seen: set[str]) -> str:
        """Return the text of a file, and of the headers of csrc/ that it includes."""
        path = self.csrc / name
        if name in seen or not path.exists():
            return ""
        seen.add(name)
        text = path.read_text()
        included = re.findall(r'^#include "([^"]+)"', text, re.MULTILINE)
        return text + "".join(self.text_of(one, seen) for one in included)

    def compile(self, source: Path, switches: tuple[str, ...]) -> Path:
        text = self.text_of(source.name, set())
        used = tuple(switch for switch in switches if switch in text)
        if (source.stem, used) not in self.made:
            target = self.folder / f"{source.stem}{len(used)}.o"
            flags = [*(f"-D{name}" for name in used), "-I", str(self.csrc), "-I", str(self.folder)]
            run([*self.compiler, *flags, "-c", "-o", str(target), str(source)])
            self.made[source.stem, used] = target
        return self.made[source.stem, used]

    def build(self, switches: tuple[str, ...]) -> list[Path]:
        sources = [path for path in sorted(self.csrc.glob("*.c")) if not LEFT_OUT.match(path.name)]
        with ThreadPoolExecutor(os.cpu_count()) as pool:
            return list(pool.map(lambda source: self.compile(source, switches), sources))

    def program(self, name: str, text: str, switches: tuple[str, ...], *link: str) -> Path:
        source, program = self.folder / f"{name}.c", self.folder / name
        source.write_text(text)
        objects = [str(path) for path in self.build(switches)]
        compiler = [word for word in self.compiler if word != "-fstack-usage"]
        run([*compiler, "-I", str(self.csrc), "-o", str(program), str(source), *objects, *link])
        return program


def switches_of(profile: str, csrc: Path) -> tuple[str, ...] | None:
    """Return the switches of a profile, or None if csrc/ does not have the last one."""
    names = list(PROFILES)
    switches = tuple(s for s in (PROFILES[n] for n in names[: names.index(profile) + 1]) if s)
    everything = "".join(path.read_text() for path in csrc.glob("*.[ch]"))
    if switches and switches[-1] not in everything:
        return None
    return switches


# ---- measuring ----------------------------------------------------------------------------------


def stripped(strip: str, path: Path) -> int:
    small = path.with_suffix(".stripped")
    shutil.copy(path, small)
    run([strip, str(small)])
    return small.stat().st_size


def writable(size: str, objects: list[Path]) -> int:
    """Return the bytes of sections that are not constant once the program runs."""
    lines = run([size, "-A", *map(str, objects)]).splitlines()
    found = (re.match(r"\.t?(?:data|bss)(?!\.rel\.ro)\S*\s+(\d+)", line) for line in lines)
    return sum(int(match.group(1)) for match in found if match)


def largest_frame(folder: Path) -> int:
    lines = "".join(path.read_text() for path in folder.glob("*.su")).splitlines()
    return max(int(line.split("\t")[1]) for line in lines)


def opened(port: int) -> socket.socket:
    """Return a connection to a server on this machine, after the opening handshake."""
    peer = socket.create_connection(("127.0.0.1", port), timeout=20)
    peer.sendall(
        b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n"
    )
    if not read_until(peer, b"\r\n\r\n").startswith(b"HTTP/1.1 101 "):
        sys.exit(f"{NAME}: the server refused the opening handshake")
    return peer


def read_until(peer: socket.socket, end: bytes) -> bytes:
    received = b""
    while end not in received:
        part = peer.recv(4096)
        if not part:
            sys.exit(f"{NAME}: the server closed the connection after {received!r}")
        received += part
    return received


def echo_once(port: int) -> None:
    """Send one short message, and read what comes back."""
    with opened(port) as peer:
        peer.sendall(b"\x81\x85\0\0\0\0hello")
        read_until(peer, b"\x81\x05hello")


def memory(pid: int, kind: str) -> int:
    """Return KiB of a kind of memory of a process: Rss, or Anonymous."""
    # VmRSS of status is not exact: each CPU counts for itself.
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    match = re.search(rf"^{kind}:\s+(\d+) kB", rollup, re.MULTILINE)
    assert match
    return int(match.group(1))


def resident(program: Path) -> int:
    with subprocess.Popen([str(program)], stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout
            echo_once(int(process.stdout.readline()))
            return memory(process.pid, "Rss")
        finally:
            process.terminate()


def measure_library(target: Target, objects: Objects, profile: str) -> dict[str, int]:
    switches = switches_of(profile, objects.csrc)
    assert switches is not None
    made = objects.build(switches)
    library = objects.folder / f"libpyws {profile}.so"
    run([*objects.compiler, "-shared", *LINK, "-o", str(library), *map(str, made)])
    return {"library": stripped(target.strip, library), "writable": writable(target.size, made)}


def measure_connection(target: Target, objects: Objects) -> dict[str, int]:
    emulator = need(target.emulator) if target.emulator else []
    program = objects.program("connections", CONNECTIONS, ("WS_NO_DEFLATE",), "-static")
    return {"connection": int(run([*emulator, str(program)]))}


def measure_server(target: Target, objects: Objects, profile: str) -> dict[str, int]:
    switches = switches_of(profile, objects.csrc)
    assert switches is not None
    program = objects.program("server", SERVER, switches, "-static", "-Wl,--gc-sections")
    measured = {"server": stripped(target.strip, program)}
    if not target.emulator:
        measured["resident"] = resident(program.with_suffix(".stripped"))
    return measured


def measure(target: Target, profiles: list[str], csrc: Path, missing: list[str]) -> dict[str, int]:
    """Return {"target/profile/what": bytes}."""
    measured: dict[str, int] = {}

    def add(profile: str, found: dict[str, int]) -> None:
        for what, number in found.items():
            measured[f"{target.name}/{profile}/{what}"] = number

    with tempfile.TemporaryDirectory() as temporary:
        try:
            command = [*need(target.compiler), *FLAGS, *SHARED]
            objects = Objects(csrc, Path(temporary) / "shared", command)
            for profile in profiles:
                add(profile, measure_library(target, objects, profile))
            add("any", {"frame": largest_frame(objects.folder)})
            add("any", measure_connection(target, objects))
        except MissingError as error:
            missing.append(f"{target.name}: {error}")
        if not target.musl:
            return measured
        try:
            objects = Objects(csrc, Path(temporary) / "static", [*need(target.musl), *FLAGS])
            for profile in profiles:
                if profile != "full":  # that would need a zlib for musl
                    add(profile, measure_server(target, objects, profile))
        except MissingError as error:
            missing.append(f"{target.name}, static: {error}")
    return measured


# ---- judging and showing ------------------------------------------------------------------------


def judge(measured: dict[str, int], budgets: dict[str, int]) -> list[str]:
    """Return what is above its budget or has none."""
    wrong = []
    for name, number in measured.items():
        if name not in budgets:
            wrong.append(f"{name}: {number}, and no budget: see --update")
        elif number > budgets[name]:
            wrong.append(f"{name}: {number}, above the budget of {budgets[name]}")
    return wrong


def budget(what: str, number: int) -> int:
    """A little more than what was measured, where a compiler of another release may differ."""
    if what in ("writable", "connection"):
        return number
    return math.ceil(number * HEAD_ROOM) + (PAGES if what == "resident" else 0)


def table(names: list[str], measured: dict[str, int], columns: Iterable[str]) -> list[str]:
    """Return a table with a row for each of "target/profile" of which something was measured."""
    lines = []
    for name in names:
        found = [measured.get(f"{name}/{what}") for what in columns]
        if any(number is not None for number in found):
            target, _, profile = name.partition("/")
            first = [target] if profile == "any" else [target, profile]
            cells = ["-" if number is None else f"{number:,}" for number in found]
            lines.append(f"| {' | '.join(first + cells)} |")
    return lines


def markdown(measured: dict[str, int]) -> str:
    code = ("library", "server", "resident")
    memory = {"connection": "idle connection", "frame": "largest frame"}
    pairs = [f"{target.name}/{profile}" for target in TARGETS for profile in PROFILES]
    return "\n".join(
        [
            f"| target | profile | {' | '.join(code)} |",
            "|---|---|" + "---:|" * len(code),
            *table(pairs, measured, code),
            "",
            f"| target | {' | '.join(memory.values())} |",
            "|---|" + "---:|" * len(memory),
            *table([f"{target.name}/any" for target in TARGETS], measured, memory),
        ]
    )


def parse_options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Sizes and memory of csrc/ on small machines.")
    names = [target.name for target in TARGETS]
    parser.add_argument("--targets", default=",".join(names), help="of: %(default)s")
    parser.add_argument("--profiles", default=",".join(PROFILES), help="of: %(default)s")
    parser.add_argument("--csrc", type=Path, default=ROOT / "csrc", help="default %(default)s")
    parser.add_argument("--budgets", type=Path, default=BUDGETS, help="default %(default)s")
    parser.add_argument("--check", action="store_true", help="compare with the budgets")
    parser.add_argument("--update", action="store_true", help="write the budgets")
    parser.add_argument("--markdown", action="store_true", help="print tables")
    options = parser.parse_args()
    options.csrc = options.csrc.resolve()
    for name, known in (("targets", names), ("profiles", list(PROFILES))):
        chosen = getattr(options, name).split(",")
        for one in chosen:
            if one not in known:
                parser.error(f"--{name}: '{one}' is not one of {', '.join(known)}")
        setattr(options, name, chosen)
    return options


def main() -> int:
    options = parse_options()
    profiles = [name for name in options.profiles if switches_of(name, options.csrc) is not None]
    measured: dict[str, int] = {}
    missing: list[str] = []
    targets = [target for target in TARGETS if target.name in options.targets]
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        for found in pool.map(lambda one: measure(one, profiles, options.csrc, missing), targets):
            measured.update(found)
    if options.markdown:
        print(markdown(measured))
    else:
        for name, number in measured.items():
            print(f"{name:36} {number:8}")
    for name in missing:
        print(f"left out: {name} is not installed")
    budgets = json.loads(options.budgets.read_text()) if options.budgets.exists() else {}
    if options.update:
        for name, number in measured.items():
            most = budget(name.rpartition("/")[2], number)
            budgets[name] = min(most, LIMITS.get(name, most))
        options.budgets.write_text(json.dumps(budgets, indent=2) + "\n")
    wrong = judge(measured, budgets) if options.check else []
    for line in wrong:
        print(line)
    return int(bool(wrong) or (options.check and bool(missing)))


if __name__ == "__main__":
    sys.exit(main())
