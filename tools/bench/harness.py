# SPDX-License-Identifier: MIT
"""Start and stop the processes of a benchmark; shared by the scripts in this folder.

A server is any command that prints a line with ``listening on HOST:PORT`` when it is ready.
"""

from __future__ import annotations

import contextlib
import json
import os
import pathlib
import queue
import re
import resource
import shlex
import subprocess
import sys
import threading
import time
from typing import (
    IO,
    Any,
    Callable,
    Dict,
    Iterator,
    Mapping,
    NoReturn,
    Sequence,
)

Report = Dict[str, Any]

ROOT = pathlib.Path(__file__).resolve().parents[2]
LISTENING = re.compile(r"listening on (\S+):(\d+)")
PROCESS = re.compile(r"^process (\d+)$")
MAX_PAYLOAD = 1024 * 1024


class BenchError(Exception):
    """An error that invalidates a measurement, described in one line for the user."""


def fail(message: str) -> NoReturn:
    """Exit the script with status 1."""
    print(f"{pathlib.Path(sys.argv[0]).name}: {message}", file=sys.stderr)
    sys.exit(1)


class Server:
    """A running server; `pid` is the process that serves, even with a `wrapper`.

    Args:
        command: program and arguments.
        core: the core to pin it to, or None.
        nice: its niceness (a negative one needs privileges).
        environment: variables to add.
        wrapper: a command that runs another one (``strace -c``); `command` is appended.
        timeout: seconds until it must listen.
    """

    def __init__(
        self,
        command: Sequence[str],
        core: int | None = None,
        nice: int = 0,
        environment: Mapping[str, str] | None = None,
        wrapper: Sequence[str] = (),
        timeout: float = 20.0,
    ) -> None:
        # The shell prints its pid and becomes the server. With a wrapper, there is no other way to
        # find the pid without /proc.
        shell = ["sh", "-c", 'echo "process $$"; exec "$@"', "sh"]
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [*wrapper, *shell, *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env={**os.environ, **(environment or {})},
            text=True,
            errors="replace",
            preexec_fn=placement(core, nice),
        )
        assert self.process.stdout is not None
        self._ready: queue.Queue[int | None] = queue.Queue()
        self.pid = self.process.pid
        self._reader = threading.Thread(target=self._read, args=[self.process.stdout], daemon=True)
        self._reader.start()
        try:
            port = self._ready.get(timeout=timeout)
        except queue.Empty:
            port = None
        if port is None:
            self.stop()
            said = " | ".join(self.lines[-5:]) or "nothing"
            raise BenchError(f"{shlex.join(command)}: does not listen; its output: {said}")
        self.port: int = port

    def _read(self, stream: IO[str]) -> None:
        """Drain the pipe while the server lives."""
        with stream:
            for line in stream:
                process, listening = PROCESS.search(line), LISTENING.search(line)
                if process:
                    self.pid = int(process.group(1))
                    continue
                if listening:
                    self._ready.put(int(listening.group(2)))
                self.lines.append(line.rstrip())
                del self.lines[:-50]
        self._ready.put(None)

    def stop(self, timeout: float = 10.0) -> None:
        """Send SIGTERM to the server itself, so that a wrapper can still write its result."""
        if self.process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 15)
        try:
            self.process.wait(timeout)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, 9)
            self.process.kill()
            self.process.wait()
        self._reader.join(timeout)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def placement(core: int | None, nice: int) -> Callable[[], None]:
    """Return what prepares a child before it becomes the program."""

    def place() -> None:
        _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
        if core is not None:
            os.sched_setaffinity(0, {core})
        if nice:
            # With autogroups, niceness counts only within a session, and each session has its own.
            os.setsid()
            with contextlib.suppress(OSError):
                os.nice(nice)
                pathlib.Path("/proc/self/autogroup").write_text(str(nice))

    return place


def run_report(
    command: Sequence[str],
    core: int | None = None,
    nice: int = 0,
    timeout: float = 300.0,
) -> Report:
    """Run a program that prints one JSON object, and return the object."""
    name, *arguments = command
    name = pathlib.Path(name).name
    try:
        result = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=timeout,
            check=False,
            preexec_fn=placement(core, nice),
        )
    except subprocess.TimeoutExpired:
        what = f"{name} {shlex.join(arguments)}"
        raise BenchError(f"{what}: not done after {timeout:.0f} s") from None
    if result.returncode != 0:
        raise BenchError(result.stderr.strip() or f"{name}: exit status {result.returncode}")
    try:
        report: Report = json.loads(result.stdout)
    except ValueError as error:
        raise BenchError(f"{name}: {error}: {result.stdout.strip()}") from None
    return report


def run_load(
    load: str | pathlib.Path,
    server: Server,
    arguments: Sequence[str],
    core: int | None = None,
    nice: int = 0,
) -> Report:
    """Run the load generator against `server` and return its JSON object."""
    target = ["--port", str(server.port), "--pid", str(server.pid), "--json"]
    return run_report([str(load), *target, *arguments], core=core, nice=nice)


@contextlib.contextmanager
def running(command: Sequence[str], **options: Any) -> Iterator[Server]:
    """Run a server during a `with` block; an early exit is a BenchError."""
    with Server(command, **options) as server:
        yield server
        if server.process.poll() is not None:
            said = " | ".join(server.lines[-5:])
            raise BenchError(f"{shlex.join(command)}: exited by itself; its output: {said}")


def find_tool(build: pathlib.Path, name: str) -> pathlib.Path:
    """Return the program `name` of this folder in the build folder."""
    path = build / "tools" / "bench" / name
    if not path.exists():
        fail(f"{path} is missing: meson setup {build} -Dtools=true && meson compile -C {build}")
    return path


def known_servers(build: pathlib.Path) -> dict[str, list[str]]:
    """Return the commands of this project's servers."""
    examples, tools = build / "examples" / "c", build / "tools" / "bench"
    payload = ["--port", "0", "--max-payload", str(MAX_PAYLOAD)]
    python = [sys.executable, str(ROOT / "tools" / "bench" / "peers" / "peer_pyws.py")]
    return {
        "floor": [str(tools / "floor"), "--port", "0"],
        "floor_tls": [str(tools / "floor_tls"), "--port", "0"],
        "c": [str(examples / "echo"), *payload],
        "c_tls": [str(examples / "echo_tls"), *payload],
        "python": python,
        "coroutine": [*python, "--coroutine"],
        "session": [*python, "--session"],
    }


def make_certificate(folder: pathlib.Path, key: str = "ec") -> list[str]:
    """Make a key (ECDSA with P-256, or rsa:BITS) and a certificate in `folder`.

    Returns the arguments of servers.
    """
    curve = ["-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else []
    names = str(folder / "key.pem"), str(folder / "cert.pem")
    command = ["openssl", "req", "-x509", "-newkey", key, *curve, "-nodes", "-days", "2"]
    command += ["-subj", "/CN=localhost", "-keyout", names[0], "-out", names[1]]
    try:
        subprocess.run(command, check=True, capture_output=True, timeout=60)
    except (OSError, subprocess.SubprocessError) as error:
        raise BenchError(f"cannot make a certificate: {error}") from None
    return ["--cert", names[1], "--key", names[0]]


def server_environment(build: pathlib.Path) -> dict[str, str]:
    """Return the environment in which Python uses this source tree and the library of `build`."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")]))
    environment = {"PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
    for library in (build / "libpyws.so", build / "csrc" / "libpyws.so"):
        if library.exists():
            environment["PYWS_LIBRARY"] = str(library.resolve())
    return environment


def stamp() -> Report:
    """Return the date and machine of a measurement."""
    system = os.uname()
    model = ""
    with contextlib.suppress(OSError):
        for line in pathlib.Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                model = line.split(":", 1)[1].strip()
                break
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "kernel": f"{system.sysname} {system.release} {system.machine}",
        "cpu": model,
        "cores": os.cpu_count(),
        "python": sys.version.split()[0],
    }
