#!/usr/bin/env python3
"""Runs all cases against pyws and against servers by others, and shows them side by side.

    python tools/conformance/compare.py --build build
    python tools/conformance/compare.py --build build --only ws --folder /tmp/compare

The servers by others are installed by their names with pip and npm, into a folder of their own, and
are the programs in `peers/`. One JSON report for each server is kept in the folder, so that
--only renews some columns and leaves the others. The table goes between two marks in
docs/conformance.md. What cannot be installed, or dies, has that said below the table.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple, Sequence

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DOCUMENT = ROOT / "docs/conformance.md"
BEGIN, END = "<!-- begin: compare.py -->", "<!-- end: compare.py -->"
INSTALL = 600.0  # seconds for pip, and for npm
LARGEST = 16 * 1024 * 1024  # bytes of a message, as in the programs in peers/


class Failed(Exception):
    """A server cannot be run; the text tells why."""


class Server(NamedTuple):
    """A column. `kind` tells how it is installed and started."""

    kind: str
    package: str
    options: tuple[str, ...] = ()
    note: str = ""


DEDICATED = ("--compression", "dedicated")
SERVERS = {
    "pyws-c": Server("c", "pyws", (), "C"),
    "pyws-c-deflate": Server("c", "pyws", DEDICATED, "C, deflate"),
    "pyws-python": Server("pyws", "pyws", (), "Python"),
    "pyws-python-deflate": Server("pyws", "pyws", DEDICATED, "Python, deflate"),
    "websockets": Server("pip", "websockets"),
    "aiohttp": Server("pip", "aiohttp"),
    "ws": Server("npm", "ws"),
    "socketify": Server("pip", "socketify"),
    "picows": Server("pip", "picows"),
}


def output(command: Sequence[str], seconds: float, **environment: str) -> str:
    """What a program prints. Failed, with the last line that it says."""
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=seconds,
            env={**os.environ, **environment},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Failed(str(error)) from None
    if done.returncode:
        lines = done.stderr.decode("utf-8", "replace").strip().splitlines()
        said = [line for line in lines if "complete log" not in line]  # npm's last word
        raise Failed(said[-1] if said else f"{command[0]} exited with {done.returncode}")
    return done.stdout.decode("utf-8", "replace").strip()


class Place:
    """Where servers are installed and reports kept; how each kind of server is started."""

    def __init__(self, folder: Path, build: Path) -> None:
        self.folder = folder
        self.build = build
        self.python = str(folder / "venv/bin/python")
        self.environment = {
            "PYWS_LIBRARY": str(build / "libpyws.so"),
            "PYTHONPATH": str(ROOT),
            "NODE_PATH": str(folder / "npm/node_modules"),
        }

    def report(self, name: str) -> Path:
        return self.folder / f"{name}.json"

    def install(self, server: Server) -> str:
        """The version that is there now. Failed."""
        if server.kind == "pip":
            if not Path(self.python).exists():
                output([sys.executable, "-m", "venv", str(self.folder / "venv")], INSTALL)
            output([self.python, "-m", "pip", "install", "-q", "-U", server.package], INSTALL)
            code = f"import importlib.metadata as m; print(m.version({server.package!r}))"
            return output([self.python, "-c", code], INSTALL)
        if server.kind == "npm":
            return self.install_node(server.package)
        code = "import pyws; print(pyws.__version__)"
        return output([sys.executable, "-c", code], INSTALL, **self.environment)

    def install_node(self, package: str) -> str:
        folder = self.folder / "npm"
        folder.mkdir(exist_ok=True)
        options = ["--no-audit", "--no-fund", "--no-save", "--prefix", str(folder)]
        output(["npm", "install", *options, package], INSTALL)
        text = (folder / "node_modules" / package / "package.json").read_text(encoding="utf-8")
        return str(json.loads(text)["version"])

    def command(self, server: Server) -> list[str]:
        if server.kind == "c":
            program = str(self.build / "examples/c/pyws-testee")
            limits = ["--max-payload", str(LARGEST), "--max-backpressure", str(8 * LARGEST)]
            return [program, *limits, *server.options]
        if server.kind == "pyws":
            return [sys.executable, "-m", "pyws", "echo", "--port", "0", *server.options]
        if server.kind == "npm":
            return ["node", str(HERE / f"peers/echo_{server.package}.js")]
        return [self.python, str(HERE / f"peers/echo_{server.package}.py")]


# ---- a run --------------------------------------------------------------------------------------


def examine(place: Place, name: str, jobs: int, seconds: float) -> None:
    """Run all cases against a server, or write a report that tells why that cannot be."""
    server = SERVERS[name]
    path = place.report(name)
    title = f"{server.package} {server.note}".strip()
    path.unlink(missing_ok=True)
    try:
        version = place.install(server)
        title = f"{server.package} {version} {server.note}".strip()
        run(place, server, title, path, jobs, seconds)
    except (Failed, OSError, subprocess.TimeoutExpired) as error:
        path.write_text(json.dumps({"format": 1, "runs": [no_run(title, str(error))]}))


def run(place: Place, server: Server, title: str, path: Path, jobs: int, seconds: float) -> None:
    """The runner writes the report itself, whatever happens to the server. Failed."""
    command = [sys.executable, str(HERE), "--serve", shlex.join(place.command(server))]
    command += ["--name", title, "--json", str(path), "--jobs", str(jobs)]
    command += ["--max-time", str(seconds)]
    with path.with_suffix(".txt").open("wb") as said:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=said,
            env={**os.environ, **place.environment},
        )
        try:
            process.wait(seconds + 60.0)
        except subprocess.TimeoutExpired:
            pass
        finally:
            process.terminate()  # what still runs writes its report, and stops its server
            process.wait(60.0)
    if not path.exists():
        raise Failed(f"the runner exited with {process.returncode}")


def no_run(title: str, why: str) -> dict[str, Any]:
    """A report without results."""
    started = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    return {
        "peer": title,
        "target": "",
        "started": started,
        "seconds": 0.0,
        "ended": why,
        "not_run": [],
        "known": [],
        "cases": [],
    }


# ---- the table ----------------------------------------------------------------------------------


def notes(runs: Sequence[dict[str, Any]]) -> list[str]:
    """What stands below the table: when, with what, and which runs did not come to their end."""
    days = sorted({run["started"][:10] for run in runs})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    python = ".".join(map(str, sys.version_info[:3]))
    node = next((tool_version("node") for run in runs if run["peer"].startswith("ws ")), "")
    programs = f"Python {python}" + (f", Node {node}" if node else "")
    number = max(len(run["cases"]) for run in runs)
    lines = [f"{when}, {programs}; {number} cases."]
    for run in runs:
        if run["ended"] and run["cases"]:
            missing = f"{len(run['not_run'])} cases were not run"
            lines.append(
                f"The run of {run['peer']} ended early, {missing}: `{told(run['ended'])}`."
            )
        elif run["ended"]:
            lines.append(f"There was no run of {run['peer']}: `{told(run['ended'])}`.")
    return lines


def told(why: str) -> str:
    """The first line, without the folders of this machine."""
    line = (why.strip().splitlines() or ["?"])[0].replace("; its last lines:", "")
    return re.sub(r"(?<![\w:/.])/(?:[\w.+-]+/)+", "", line).replace("`", "'")


def tool_version(name: str) -> str:
    try:
        return output([name, "--version"], 30.0).lstrip("v")
    except Failed:
        return ""


def table(place: Place, page: str | None) -> str:
    """Of all reports in the folder, in the order of SERVERS. Failed."""
    paths = [place.report(name) for name in SERVERS if place.report(name).exists()]
    if not paths:
        raise Failed("there is no report")
    runs = [run for path in paths for run in json.loads(path.read_text("utf-8"))["runs"]]
    html = ["--html", page] if page else []
    command = [sys.executable, str(HERE), "report", *map(str, paths), "--table", "-", *html]
    return "\n".join([output(command, INSTALL), "", *notes(runs)])


def put(document: Path, text: str) -> None:
    """Between the marks. Failed: there are none."""
    before = document.read_text(encoding="utf-8")
    pattern = re.compile(f"{re.escape(BEGIN)}.*?{re.escape(END)}", re.DOTALL)
    after, count = pattern.subn(lambda _: f"{BEGIN}\n{text}\n{END}", before)
    if count != 1:
        raise Failed(f"{document} must have {BEGIN} and {END} once")
    document.write_text(after, encoding="utf-8")


# ---- the command --------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run all cases against pyws and others, and write the table of it."
    )
    parser.add_argument("--build", type=Path, required=True, help="a build folder with deflate")
    parser.add_argument(
        "--only", nargs="*", choices=list(SERVERS), help="run just these; none: just the table"
    )
    parser.add_argument(
        "--folder", type=Path, help="for what is installed, and the reports (a temporary one)"
    )
    parser.add_argument("--html", metavar="FILE", help="write a page as well")
    parser.add_argument(
        "--document", type=Path, default=DOCUMENT, help="what the table is put into (%(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=4, help="cases at a time (%(default)s)")
    parser.add_argument(
        "--max-time", type=float, default=600.0, help="seconds for each server (%(default)g)"
    )
    return parser.parse_args()


def main() -> int:
    args = parse()
    folder = args.folder or Path(tempfile.mkdtemp(prefix="compare-"))
    folder.mkdir(parents=True, exist_ok=True)
    place = Place(folder.resolve(), args.build.resolve())
    if args.only is not None:
        missing = [n for n in SERVERS if n not in args.only and not place.report(n).exists()]
        if missing and args.document == DOCUMENT:
            print(
                f"compare.py: {folder} has no report of {', '.join(missing)}, whose columns would "
                "be lost: run it without --only first, or put the table elsewhere by --document",
                file=sys.stderr,
            )
            return 2
    for name in SERVERS if args.only is None else args.only:
        began = time.monotonic()
        print(f"{name} ...", end=" ", flush=True)
        examine(place, name, args.jobs, args.max_time)
        print(f"{time.monotonic() - began:.0f} s", flush=True)
    print(f"reports: {folder}")
    try:
        put(args.document, table(place, args.html))
    except (Failed, OSError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
