"""The program that is started to be the peer under test (--serve).

Knows nothing of cases. What the program prints is read all the time, so that it never waits for a
reader, and only the end of it is kept.
"""

from __future__ import annotations

import os
import queue
import re
import shlex
import signal
import subprocess
import threading
from collections import deque
from typing import IO

from .wire import Target

PORT = re.compile(
    r"listening on (?:[a-z]+://)?(?P<host>\S*):(?P<port>\d{1,5})\b|^\s*(?P<bare>\d{1,5})\s*$"
)
ANY = ("", "*", "0.0.0.0", "::")  # who listens there is found at 127.0.0.1
# Of a program that got SIGTERM: it has shut down, or that signal has ended it; or SIGKILL had to.
STOPPED = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM, None)
KEPT = 20  # lines of a program's stderr
LINE = 4096  # bytes of one of them


class Unreachable(Exception):
    """The run cannot begin, or cannot go on."""


# ---- a program ----------------------------------------------------------------------------------


class Testee:
    """A server program in a process group of its own; stopped at the end of the with block."""

    def __init__(self, command: str, pattern: re.Pattern[str] = PORT, path: str = "/") -> None:
        """Unreachable when it cannot be started."""
        self.command = command
        self.pattern = pattern
        self.path = path
        self.start()

    def start(self) -> None:
        """Start it, for the first time or anew. Unreachable."""
        self.killed = False
        self.errors: deque[str] = deque(maxlen=KEPT)
        self.places: queue.Queue[tuple[str, int] | None] = queue.Queue()  # None: no more output
        try:
            self.process = subprocess.Popen(
                shlex.split(self.command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
            )
        except OSError as error:
            raise Unreachable(f"cannot start {self.command!r}: {error}") from None
        self.readers = [
            threading.Thread(target=self._read_output, args=[self.process.stdout], daemon=True),
            threading.Thread(target=self._read_errors, args=[self.process.stderr], daemon=True),
        ]
        for reader in self.readers:
            reader.start()

    def __enter__(self) -> Testee:
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def _read_output(self, stream: IO[bytes]) -> None:
        found = False
        for line in iter(lambda: stream.readline(LINE), b""):
            place = None if found else place_in(line.decode("utf-8", "replace"), self.pattern)
            if place:
                found = True
                self.places.put(place)
        self.places.put(None)

    def _read_errors(self, stream: IO[bytes]) -> None:
        for line in iter(lambda: stream.readline(LINE), b""):
            self.errors.append(line.decode("utf-8", "replace").rstrip("\r\n"))

    def target(self, timeout: float) -> Target:
        """Where it listens, once it has said so. Unreachable."""
        try:
            place = self.places.get(timeout=timeout)
        except queue.Empty:
            raise Unreachable(f"{self.command!r} printed no port in {timeout:g} s") from None
        if place is None:
            raise Unreachable(self.ended(2.0) or f"{self.command!r} printed no port")
        return Target(place[0], place[1], self.path, tls=False)

    def ended(self, wait: float = 0.0) -> str:
        """How it ended, with the last lines of its stderr; empty while it runs."""
        try:
            status = self.process.wait(wait) if wait else self.process.poll()
        except subprocess.TimeoutExpired:
            return ""
        if status is None:
            return ""
        self._signal(signal.SIGKILL)
        self.readers[1].join(1.0)
        how = f"was killed by {name_of(-status)}" if status < 0 else f"exited with {status}"
        said = "".join(f"\n    {line}" for line in list(self.errors))
        return f"{self.command!r} {how}" + (f"; its last lines:{said}" if said else "")

    def stop(self, patience: float = 5.0) -> str:
        """End it, and what it has started in its group: SIGTERM, and SIGKILL if that is ignored.

        Returns how it had ended by itself, or badly by SIGTERM, as sanitizers do that have
        something to tell; else "".
        """
        status = self.process.poll()
        stopped = status is None
        if stopped:
            self._signal(signal.SIGTERM)
            try:
                self.process.wait(patience)
            except subprocess.TimeoutExpired:
                pass
            status = self.process.poll()
        self._signal(signal.SIGKILL)
        self.process.wait()
        for reader in self.readers:
            reader.join(1.0)
        return "" if stopped and status in STOPPED else self.ended()

    def _signal(self, number: int) -> None:
        """To the whole group; never again once it was killed: its id may be another's then."""
        if self.killed:
            return
        self.killed = number == signal.SIGKILL
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # nobody is left


def place_in(line: str, pattern: re.Pattern[str]) -> tuple[str, int] | None:
    """Host and port in a line of output."""
    match = pattern.search(line)
    if not match:
        return None
    groups = match.groupdict()
    port = groups.get("port") or groups.get("bare") or match.group(1)
    host = (groups.get("host") or "").strip("[]")
    if not (port and port.isdecimal() and 0 < int(port) < 65536):
        return None
    return "127.0.0.1" if host in ANY else host, int(port)


def name_of(number: int) -> str:
    """Of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
