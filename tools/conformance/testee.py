# SPDX-License-Identifier: MIT
"""The server program under test (--serve).

This module knows nothing about cases. It reads the program's output continuously, so that the
program never blocks on a full pipe, and keeps only the end of it.
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
from typing import IO, NamedTuple

from .wire import Target

PORT = re.compile(
    r"listening on (?:(?P<scheme>[a-z]+)://)?(?P<host>\S*):(?P<port>\d{1,5})\b|^\s*(?P<bare>\d{1,5})\s*$"
)
ANY = ("", "*", "0.0.0.0", "::")  # wildcard addresses, which are reached at 127.0.0.1
# Good statuses after SIGTERM: it shut down, the signal ended it, or (None) SIGKILL had to.
STOPPED = (0, 128 + signal.SIGINT, 128 + signal.SIGTERM, -signal.SIGINT, -signal.SIGTERM, None)
KEPT = 20  # lines of a program's stderr
LINE = 4096  # the maximum length of a line in bytes


class Unreachable(Exception):
    """The run cannot begin or continue."""


class Place(NamedTuple):
    """The address that a program has printed."""

    host: str
    port: int
    tls: bool
    """Whether it was printed with wss:// or https://."""


# ---- a program ----------------------------------------------------------------------------------


class Testee:
    """A server program in its own process group, stopped at the end of the with block."""

    def __init__(
        self, command: str, pattern: re.Pattern[str] = PORT, path: str = "/", tls: bool = False
    ) -> None:
        """Start the program, or raise Unreachable if that fails.

        `tls` means that it uses TLS, even if it does not print an address with wss:// or https://.
        """
        self.command = command
        self.pattern = pattern
        self.path = path
        self.tls = tls
        self.start()

    def start(self) -> None:
        """Start or restart the program, or raise Unreachable if that fails."""
        self.killed = False
        self.errors: deque[str] = deque(maxlen=KEPT)
        self.places: queue.Queue[Place | None] = queue.Queue()  # None: no more output
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
        """Wait for the program to print its address, or raise Unreachable if it does not."""
        try:
            place = self.places.get(timeout=timeout)
        except queue.Empty:
            raise Unreachable(f"{self.command!r} printed no port in {timeout:g} s") from None
        if place is None:
            raise Unreachable(self.ended(2.0) or f"{self.command!r} printed no port")
        return Target(place.host, place.port, self.path, self.tls or place.tls)

    def ended(self, wait: float = 0.0) -> str:
        """Return how it ended with the last lines of its stderr, or "" while it runs."""
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
        """Stop the process group with SIGTERM, or with SIGKILL if that is ignored.

        Returns "", or how the program ended if it exited by itself or failed after SIGTERM, as
        with a report of a sanitizer.
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
        """Send a signal to the group, but not after it was killed: its id may be reused then."""
        if self.killed:
            return
        self.killed = number == signal.SIGKILL
        try:
            os.killpg(self.process.pid, number)
        except (ProcessLookupError, PermissionError):
            pass  # no process is left


def place_in(line: str, pattern: re.Pattern[str]) -> Place | None:
    """Return the address in a line of output, if any."""
    match = pattern.search(line)
    if not match:
        return None
    groups = match.groupdict()
    port = groups.get("port") or groups.get("bare") or match.group(1)
    host = (groups.get("host") or "").strip("[]")
    if not (port and port.isdecimal() and 0 < int(port) < 65536):
        return None
    tls = groups.get("scheme") in ("wss", "https")
    return Place("127.0.0.1" if host in ANY else host, int(port), tls)


def name_of(number: int) -> str:
    """Return the name of a signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
