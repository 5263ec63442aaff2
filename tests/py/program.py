# SPDX-License-Identifier: MIT
"""Programs as child processes: read line by line, stopped by signals, every wait bounded."""

import os
import queue
import subprocess
import sys
import tempfile
import threading
from typing import Optional, TypeVar

from common import ROOT, TIMEOUT

P = TypeVar("P", bound="Program")


class Program:
    """A Python program with the pyws of this tree; killed at the end of its with block."""

    def __init__(self, *arguments: str) -> None:
        paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
        self.errors = tempfile.TemporaryFile("w+", encoding="utf-8")
        self.process = subprocess.Popen(
            [sys.executable, "-u", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=self.errors,
            encoding="utf-8",
            env={
                **os.environ,
                "PYTHONPATH": os.pathsep.join(filter(None, paths)),
                "PYTHONIOENCODING": "utf-8",
            },
        )
        self.lines: queue.Queue[Optional[str]] = queue.Queue()  # None: no more
        self.reader = threading.Thread(target=self._read, daemon=True)
        self.reader.start()

    def _read(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))
        self.lines.put(None)

    def __enter__(self: P) -> P:
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.wait()
        self.errors.close()
        assert self.process.stdout
        self.process.stdout.close()

    def line(self) -> str:
        """The next line of its output."""
        try:
            line = self.lines.get(timeout=TIMEOUT)
        except queue.Empty:
            raise AssertionError(f"nothing printed; stderr: {self.error_text()}") from None
        assert line is not None, f"no more output; stderr: {self.error_text()}"
        return line

    def rest(self) -> str:
        """What it printed after the last `line`; only once it has ended."""
        return "".join(line + "\n" for line in iter(self.lines.get_nowait, None))

    def wait(self) -> int:
        """Its exit status."""
        status = self.process.wait(TIMEOUT)
        self.reader.join(TIMEOUT)
        return status

    def stop(self, number: int) -> int:
        """Send a signal and wait; its exit status."""
        self.process.send_signal(number)
        return self.wait()

    def error_text(self) -> str:
        """What it has written to stderr.

        Without the lines about a loop that was blocked for a second or more: on a busy machine,
        any program may wait as long for a processor.
        """
        self.errors.seek(0)
        lines = self.errors.read().splitlines(keepends=True)
        return "".join(line for line in lines if not line.startswith("loop blocked for"))


class Executable(Program):
    """The same for a program that is not in Python."""

    def __init__(self, path: str, *arguments: str) -> None:
        become = "import os, sys; os.execv(sys.argv[1], sys.argv[1:])"
        super().__init__("-c", become, path, *arguments)
