#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run all cases against pyws and servers by other authors, and compare the results.

    python tools/conformance/compare.py --build build --autobahn
    python tools/conformance/compare.py --build build --only ws --folder /tmp/compare

The other servers are the programs in `peers/`. Their packages are installed with pip and npm into a
folder, and with apt-get, which needs root. The folder keeps one JSON report for each server, so
--only updates some rows and keeps the others. The tables go between marks in docs/conformance.md,
which also mentions servers that cannot be installed or die. With --autobahn, the Autobahn suite
tests every server too (`peers/autobahn.py`). With --runs, all cases run several times, and a table
lists those whose results differ.
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
from typing import Any, Dict, NamedTuple, Sequence

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from conformance import report
from conformance.case import natural

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent
DOCUMENT = ROOT / "docs/conformance.md"
MARKS = ("<!-- begin: compare.py -->", "<!-- end: compare.py -->")
MARKS_RULES = ("<!-- begin: compare.py rules -->", "<!-- end: compare.py rules -->")
MARKS_RUNS = ("<!-- begin: compare.py --runs -->", "<!-- end: compare.py --runs -->")
MARKS_AUTOBAHN = ("<!-- begin: compare.py --autobahn -->", "<!-- end: compare.py --autobahn -->")
INSTALL = 600.0  # seconds for pip, and for npm
LARGEST = 16 * 1024 * 1024  # bytes of a message, as in the programs in peers/


class Failed(Exception):
    """A server cannot be run; the text says why."""


class Server(NamedTuple):
    """A row of the table; `kind` selects how the server is installed and started."""

    kind: str
    """"c", "pyws" and SECURE are from this checkout; the others are programs in peers/."""
    package: str
    """The name, which with pip and npm is also the package."""
    options: tuple[str, ...] = ()
    note: str = ""
    needs: tuple[str, ...] = ()
    """Additional packages; with apt all packages, the first of which has the server's version."""
    program: str = ""
    """The file in peers/; by default echo_PACKAGE.py or .js."""
    build: tuple[str, ...] = ()
    """The command that makes {program} from {source}."""
    start: tuple[str, ...] = ("{program}",)


SECURE = ("c-tls", "pyws-tls")
DEDICATED = ("--compression", "dedicated")
LIMITS = ("--max-payload", str(LARGEST), "--max-backpressure", str(8 * LARGEST))
CXX = ("g++", "-std=c++14", "-O2", "-o", "{program}", "{source}", "-pthread")
GO = ("env", "GO111MODULE=off", "GOPATH=/usr/share/gocode", "go", "build")
TOMCAT = ":".join(
    f"/usr/share/java/{name}.jar"
    for name in (
        "tomcat10-embed-core",
        "tomcat10-embed-websocket",
        "tomcat10-annotations-api",
    )
)
SERVERS = {
    "pyws-c": Server("c", "pyws", (), "C"),
    "pyws-c-deflate": Server("c", "pyws", DEDICATED, "C, deflate"),
    "pyws-python": Server("pyws", "pyws", (), "Python"),
    "pyws-python-deflate": Server("pyws", "pyws", DEDICATED, "Python, deflate"),
    "pyws-c-openssl": Server("c-tls", "pyws", LIMITS + DEDICATED, "C, OpenSSL", program="echo_tls"),
    "pyws-c-mbedtls": Server("c-tls", "pyws", (), "C, Mbed TLS", program="echo_mbedtls"),
    "pyws-python-tls": Server("pyws-tls", "pyws", DEDICATED, "Python, TLS"),
    "websockets": Server("pip", "websockets"),
    "aiohttp": Server("pip", "aiohttp"),
    "tornado": Server("pip", "tornado"),
    "uvicorn": Server(
        "pip",
        "uvicorn",
        ("uvicorn",),
        "websockets",
        needs=("httptools", "uvloop", "websockets"),
        program="echo_asgi.py",
    ),
    "uvicorn-wsproto": Server(
        "pip",
        "uvicorn",
        ("uvicorn-wsproto",),
        "wsproto",
        needs=("httptools", "uvloop", "wsproto"),
        program="echo_asgi.py",
    ),
    "granian": Server("pip", "granian", ("granian",), program="echo_asgi.py"),
    "socketify": Server("pip", "socketify"),
    "picows": Server("pip", "picows"),
    "ws": Server("npm", "ws"),
    "websocket": Server("npm", "websocket"),
    "faye": Server("npm", "faye-websocket", needs=("permessage-deflate",)),
    "beast": Server(
        "apt",
        "Boost.Beast",
        needs=("libboost-dev", "g++"),
        program="echo_beast.cpp",
        build=CXX,
    ),
    "websocketpp": Server(
        "apt",
        "websocketpp",
        needs=("libwebsocketpp-dev", "libboost-dev", "zlib1g-dev", "g++"),
        program="echo_websocketpp.cpp",
        build=(*CXX, "-lz"),
    ),
    "gorilla": Server(
        "apt",
        "gorilla",
        needs=("golang-github-gorilla-websocket-dev", "golang-go"),
        program="echo_gorilla.go",
        build=(*GO, "-o", "{program}", "{source}"),
    ),
    "tomcat": Server(
        "apt",
        "Tomcat",
        needs=("libtomcat10-embed-java", "libtomcat10-java", "default-jdk-headless"),
        program="EchoTomcat.java",
        build=("javac", "-cp", TOMCAT, "-d", "{program}", "{source}"),
        start=("java", "-cp", "{program}:" + TOMCAT, "EchoTomcat"),
    ),
    "mojolicious": Server(
        "apt",
        "Mojolicious",
        needs=("libmojolicious-perl",),
        program="echo_mojolicious.pl",
        start=("perl", "{source}"),
    ),
}


def output(command: Sequence[str], seconds: float, **environment: str) -> str:
    """Return the output of a program, or raise Failed with its last line."""
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
    """The folder with the servers and reports, and how each kind of server is started."""

    def __init__(self, folder: Path, build: Path) -> None:
        self.folder = folder
        self.build = build
        self.python = str(folder / "venv/bin/python")
        self.certificate = folder / "cert.pem"
        self.environment = {
            "PYWS_LIBRARY": str(build / "libpyws.so"),
            "PYTHONPATH": str(ROOT),
            "NODE_PATH": str(folder / "npm/node_modules"),
        }

    def report(self, name: str, number: int = 1) -> Path:
        """Return the path of the report of a run; most tables show the first run."""
        return self.folder / (f"{name}.json" if number == 1 else f"{name}.{number}.json")

    def reports(self, name: str) -> list[Path]:
        """Return the existing reports of all runs with a server."""
        return [*self.folder.glob(f"{name}.json"), *self.folder.glob(f"{name}.*.json")]

    def autobahn(self, name: str) -> Path:
        return self.folder / f"{name}.autobahn"

    def install(self, server: Server) -> str:
        """Return the installed version of a server, or raise Failed."""
        if server.kind == "pip":
            if not Path(self.python).exists():
                output([sys.executable, "-m", "venv", str(self.folder / "venv")], INSTALL)
            packages = [server.package, *server.needs]
            output([self.python, "-m", "pip", "install", "-q", "-U", *packages], INSTALL)
            code = f"import importlib.metadata as m; print(m.version({server.package!r}))"
            return output([self.python, "-c", code], INSTALL)
        if server.kind == "npm":
            return self.install_node(server.package, *server.needs)
        if server.kind == "apt":
            return self.install_debian(server)
        if server.kind in SECURE:
            self.prepare_tls(server)
        code = "import pyws; print(pyws.__version__)"
        return output([sys.executable, "-c", code], INSTALL, **self.environment)

    def prepare_tls(self, server: Server) -> None:
        """Make a certificate, or raise Failed, also if the build does not have the program."""
        if server.program and not (self.build / "examples/c" / server.program).exists():
            raise Failed("it needs a build with -Dtls=openssl,mbedtls")
        curve = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
        names = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
        files = ["-out", str(self.certificate), "-keyout", str(self.folder / "key.pem")]
        output(["openssl", "req", "-x509", "-days", "9", *curve, *names, *files], INSTALL)

    def install_node(self, package: str, *others: str) -> str:
        folder = self.folder / "npm"
        folder.mkdir(exist_ok=True)
        options = ["--no-audit", "--no-fund", "--no-save", "--prefix", str(folder)]
        # npm removes packages that are not listed.
        named = [p for s in SERVERS.values() if s.kind == "npm" for p in (s.package, *s.needs)]
        output(["npm", "install", *options, *named], INSTALL)
        text = (folder / "node_modules" / package / "package.json").read_text(encoding="utf-8")
        return str(json.loads(text)["version"])

    def install_debian(self, server: Server) -> str:
        missing = [name for name in server.needs if not debian_version(name)]
        if missing:
            root = [] if os.geteuid() == 0 else ["sudo", "-n"]
            options = ["-q", "-y", "--no-install-recommends"]
            output([*root, "apt-get", "update", "-q"], INSTALL)
            output([*root, "apt-get", "install", *options, *missing], INSTALL)
        if server.build:
            self.program(server).parent.mkdir(exist_ok=True)
            output(self.filled(server, server.build), INSTALL)
        return debian_version(server.needs[0])

    def program(self, server: Server) -> Path:
        """Return the program built from the source of a server."""
        return self.folder / "bin" / Path(server.program).stem

    def filled(self, server: Server, words: Sequence[str]) -> list[str]:
        names = {"source": HERE / "peers" / server.program, "program": self.program(server)}
        return [word.format(**names) for word in words]

    def command(self, server: Server) -> list[str]:
        if server.kind == "c":
            program = str(self.build / "examples/c/pyws-testee")
            return [program, *LIMITS, *server.options]
        files = ["--cert", str(self.certificate), "--key", str(self.folder / "key.pem")]
        if server.kind == "c-tls":
            program = str(self.build / "examples/c" / server.program)
            return [program, *files, *server.options]
        if server.kind in ("pyws", "pyws-tls"):
            more = files if server.kind in SECURE else []
            echo = ["echo", "--port", "0", *more, *server.options]
            return [sys.executable, "-m", "pyws", *echo]
        if server.kind == "npm":
            return ["node", str(HERE / f"peers/echo_{server.package}.js")]
        if server.kind == "pip":
            program = str(HERE / "peers" / (server.program or f"echo_{server.package}.py"))
            return [self.python, program, *server.options]
        return self.filled(server, server.start)


def debian_version(package: str) -> str:
    """Return the version of an installed package, or ""."""
    form = "${db:Status-Status} ${source:Upstream-Version}"
    try:
        status, _, version = output(["dpkg-query", "-W", "-f", form, package], 30.0).partition(" ")
    except Failed:
        return ""
    return version if status == "installed" else ""


# ---- a run --------------------------------------------------------------------------------------


def examine(place: Place, name: str, jobs: int, seconds: float, runs: int = 1) -> None:
    """Run all cases against a server, or write a report that says why this failed."""
    server = SERVERS[name]
    path = place.report(name)
    title = f"{server.package} {server.note}".strip()
    for old in place.reports(name):
        old.unlink()
    try:
        version = place.install(server)
        title = f"{server.package} {version} {server.note}".strip()
        for number in range(1, runs + 1):
            path = place.report(name, number)
            # Repeat alone what was not OK: a case that blocks the server must not fail other cases.
            run(place, server, title, path, jobs, seconds, retry=number == 1)
    except (Failed, OSError, subprocess.TimeoutExpired) as error:
        path.write_text(json.dumps({"format": 1, "runs": [no_run(title, str(error))]}))


def run(
    place: Place,
    server: Server,
    title: str,
    path: Path,
    jobs: int,
    seconds: float,
    retry: bool = True,
) -> None:
    """Run the runner, which writes a report whatever happens to the server, or raise Failed."""
    command = [sys.executable, str(HERE), "--serve", shlex.join(place.command(server))]
    if server.kind in SECURE:
        command += ["--tls", "--ca", str(place.certificate)]
    command += ["--name", title, "--json", str(path), "--jobs", str(jobs)]
    command += ["--max-time", str(seconds), *(["--retry", "1"] if retry else [])]
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
            process.terminate()  # the runner writes its report and stops the server
            process.wait(60.0)
    if not path.exists():
        raise Failed(f"the runner exited with {process.returncode}")


def no_run(title: str, why: str) -> dict[str, Any]:
    """Write a report without results."""
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


def autobahn(place: Place, name: str, cases: Sequence[str]) -> str:
    """Run the Autobahn suite against a server; returns why there is no result, or ""."""
    if SERVERS[name].kind in SECURE:
        return "only without TLS"
    path = place.autobahn(name)
    path.unlink(missing_ok=True)
    serve = ["--serve", shlex.join(place.command(SERVERS[name]))]
    words = [sys.executable, str(HERE / "peers/autobahn.py"), "--folder", str(place.folder)]
    try:
        output(
            [*words, *serve, "--json", str(path), "--cases", *cases], 4000.0, **place.environment
        )
    except Failed as error:
        return str(error)
    return ""


# ---- the table ----------------------------------------------------------------------------------

Run = Dict[str, Any]  # evaluated at run time, and Python 3.8 has no dict[...]


def table(place: Place, page: str | None) -> str:
    """Return the table of all reports in the folder in the order of SERVERS, or raise Failed."""
    runs = read(place)
    if page:
        paths = [str(place.report(name)) for name in runs]
        output([sys.executable, str(HERE), "report", *paths, "--html", page], INSTALL)
    groups = report.groups_of(list(runs.values()))
    lines = [f"| Server | {' | '.join(groups)} | All |", f"|---|{'--:|' * (len(groups) + 1)}"]
    for run in runs.values():
        cells = [numbers(run, group) for group in (*groups, "")]
        lines.append(f"| {report.cell(run['peer'])} | {' | '.join(cells)} |")
    return "\n".join([*lines, "", "\n\n".join(notes(list(runs.values())))])


def read(place: Place) -> dict[str, Run]:
    """Return the existing reports by server, or raise Failed if there are none."""
    paths = {name: place.report(name) for name in SERVERS if place.report(name).exists()}
    if not paths:
        raise Failed("there is no report")
    return {name: json.loads(path.read_text("utf-8"))["runs"][0] for name, path in paths.items()}


def numbers(run: Run, group: str) -> str:
    """Return the counts of FAILED / NON-STRICT cases in a group, or in all."""
    verdicts = [case["verdict"] for case in run["cases"] if group in ("", case["group"])]
    told = {verdict: verdicts.count(verdict) for verdict in ("FAILED", "NON-STRICT")}
    if not verdicts:
        return "?"
    if set(verdicts) <= {"UNIMPLEMENTED", "SKIPPED"}:
        return "-"
    return " / ".join(map(str, told.values())) if any(told.values()) else "0"


def notes(runs: Sequence[Run]) -> list[str]:
    """Return the lines below the table: dates, versions, and incomplete runs."""
    days = sorted({run["started"][:10] for run in runs})
    when = days[0] if len(days) == 1 else f"{days[0]} to {days[-1]}"
    python = ".".join(map(str, sys.version_info[:3]))
    node = tool_version("node")
    programs = f"Python {python}" + (f", Node {node}" if node else "")
    number = max(len(run["cases"]) for run in runs)
    lines = [f"{when}, {programs}; {number} cases."]
    for run in runs:
        if run["ended"] and run["cases"]:
            missing = len(run["not_run"])
            how = f"ended early, {missing} cases were not run" if missing else "completed, but"
            lines.append(f"The run of {run['peer']} {how}: `{told(run['ended'])}`.")
        elif run["ended"]:
            lines.append(f"{run['peer']} was not run: `{told(run['ended'])}`.")
        flaky = [case["id"] for case in run["cases"] if case.get("flaky")]
        if flaky:
            lines.append(
                f"Different results when run again: {run['peer']} {', '.join(ranges(flaky))}."
            )
    return lines


def told(why: str) -> str:
    """Return the first line without the folders of this machine."""
    line = (why.strip().splitlines() or ["?"])[0].replace("; its last lines:", "")
    return re.sub(r"(?<![\w:/.])/(?:[\w.+-]+/)+", "", line).replace("`", "'")


def tool_version(name: str) -> str:
    try:
        return output([name, "--version"], 30.0).lstrip("v")
    except Failed:
        return ""


# ---- the other tables ---------------------------------------------------------------------------


def table_runs(place: Place) -> str:
    """Return the cases whose results differ between the runs with a server, or raise Failed."""
    lines = ["| Server | Runs | Cases with different results |", "|---|--:|---|"]
    for name, run in read(place).items():
        runs = [json.loads(path.read_text("utf-8"))["runs"][0] for path in place.reports(name)]
        runs = [run for run in runs if run["cases"]]
        if len(runs) > 1:
            lines.append(f"| {report.cell(run['peer'])} | {len(runs)} | {unsteady(runs)} |")
    if len(lines) == 2:
        raise Failed("there is no server with several runs")
    return "\n".join(lines)


def unsteady(runs: Sequence[Run]) -> str:
    """Return the cases that have not the same result in all runs, by their results."""
    results: dict[str, set[str]] = {case["id"]: set() for run in runs for case in run["cases"]}
    for run in runs:
        cases = {case["id"]: case for case in run["cases"]}
        for id, seen in results.items():
            case = cases.get(id, {"verdict": "not run"})
            seen.update([case["verdict"], *case.get("flaky", [])])
    found: dict[str, list[str]] = {}
    for id, seen in results.items():
        if len(seen) > 1:
            found.setdefault(", ".join(sorted(seen)), []).append(id)
    said = [f"{seen}: {', '.join(ranges(ids))}" for seen, ids in sorted(found.items())]
    return "; ".join(said) or "none"


def table_rules(place: Place) -> str:
    """Return each violated sentence of the RFCs with the servers and cases, or raise Failed."""
    rules: dict[tuple[str, str], dict[str, list[str]]] = {}
    for name, run in read(place).items():
        for case in run["cases"]:
            if case["verdict"] == "FAILED":
                rule = rules.setdefault((case["section"], case["quote"]), {})
                rule.setdefault(name, []).append(case["id"])
    lines = ["| The RFC | Cases that FAILED |", "|---|---|"]
    for (section, quote), broken in sorted(rules.items(), key=first):
        said = [f"{name}: {', '.join(ranges(ids))}" for name, ids in broken.items()]
        lines.append(f"| {section}: {report.cell(quote)} | {'; '.join(said)} |")
    return "\n".join(lines)


def first(rule: tuple[tuple[str, str], dict[str, list[str]]]) -> tuple[Any, ...]:
    """Return the first case of all servers as a sort key."""
    return min(natural(id) for ids in rule[1].values() for id in ids)


def table_autobahn(place: Place) -> str:
    """Compare both suites for their common cases, or raise Failed if there are none."""
    lines = ["| Server | Both have | Same | Differ (Autobahn, here: cases) |", "|---|--:|--:|---|"]
    for name, run in read(place).items():
        if not place.autobahn(name).exists():
            continue
        theirs = json.loads(place.autobahn(name).read_text("utf-8"))
        ours = {case["id"]: case["verdict"] for case in run["cases"] if case["id"] in theirs}
        differing: dict[tuple[str, str], list[str]] = {}
        for id, verdict in ours.items():
            if theirs[id][0] != verdict:
                differing.setdefault((theirs[id][0], verdict), []).append(id)
        same = len(ours) - sum(map(len, differing.values()))
        said = [f"{a}, {b}: {', '.join(ranges(ids))}" for (a, b), ids in sorted(differing.items())]
        row = [report.cell(run["peer"]), str(len(ours)), str(same), "; ".join(said)]
        lines.append(f"| {' | '.join(row)} |")
    if len(lines) == 2:
        raise Failed("there is no result of the Autobahn suite")
    return "\n".join(lines)


def ranges(ids: Sequence[str]) -> list[str]:
    """Return ids with consecutive ones as a range: 5.1, 5.2 and 5.3 are 5.1-3."""
    found: list[list[str]] = []
    for id in sorted(ids, key=natural):
        prefix, _, last = id.rpartition(".")
        if found and found[-1][-1] == f"{prefix}.{int(last) - 1}":
            found[-1].append(id)
        else:
            found.append([id])
    ends = [(run[0], run[-1].rpartition(".")[2]) for run in found]
    return [
        first if len(run) == 1 else f"{first}-{last}" for run, (first, last) in zip(found, ends)
    ]


def put(document: Path, marks: tuple[str, str], text: str) -> None:
    """Replace the text between the marks, or raise Failed if there are none."""
    before = document.read_text(encoding="utf-8")
    begin, end = marks
    pattern = re.compile(f"{re.escape(begin)}.*?{re.escape(end)}", re.DOTALL)
    after, count = pattern.subn(lambda _: f"{begin}\n{text}\n{end}", before)
    if count != 1:
        raise Failed(f"{document} must contain {begin} and {end} once")
    document.write_text(after, encoding="utf-8")


# ---- the command --------------------------------------------------------------------------------


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description="Run all cases against pyws and other servers, and write a table."
    )
    parser.add_argument(
        "--build", type=Path, required=True, help="a build folder with deflate enabled"
    )
    parser.add_argument(
        "--only",
        nargs="*",
        choices=list(SERVERS),
        help="run only these servers; without a name, only write the table",
    )
    parser.add_argument(
        "--folder", type=Path, help="for installed packages and reports (a temporary folder)"
    )
    parser.add_argument("--html", metavar="FILE", help="also write an HTML page")
    parser.add_argument(
        "--autobahn",
        metavar="GLOB",
        nargs="*",
        help="also run the Autobahn suite with these cases (globs, default all)",
    )
    parser.add_argument(
        "--runs",
        metavar="N",
        type=int,
        default=1,
        help="run all cases N times, and list those whose results differ (%(default)s)",
    )
    parser.add_argument(
        "--document", type=Path, default=DOCUMENT, help="the file for the table (%(default)s)"
    )
    parser.add_argument("--jobs", type=int, default=4, help="concurrent cases (%(default)s)")
    parser.add_argument(
        "--max-time", type=float, default=900.0, help="seconds for each server (%(default)g)"
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
                f"compare.py: {folder} has no report of {', '.join(missing)}, so their rows would "
                "be lost: run it without --only first, or write to another file with --document",
                file=sys.stderr,
            )
            return 2
    for name in SERVERS if args.only is None else args.only:
        began = time.monotonic()
        print(f"{name} ...", end=" ", flush=True)
        examine(place, name, args.jobs, args.max_time, args.runs)
        print(f"{time.monotonic() - began:.0f} s", flush=True)
        if args.autobahn is not None:
            said = autobahn(place, name, args.autobahn or ["*"])
            print("    Autobahn:", said or f"{time.monotonic() - began:.0f} s", flush=True)
    print(f"reports: {folder}")
    try:
        put(args.document, MARKS, table(place, args.html))
        put(args.document, MARKS_RULES, table_rules(place))
        if args.runs > 1:
            put(args.document, MARKS_RUNS, table_runs(place))
        if args.autobahn is not None:
            put(args.document, MARKS_AUTOBAHN, table_autobahn(place))
    except (Failed, OSError) as error:
        print(f"compare.py: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
