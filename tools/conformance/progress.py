# SPDX-License-Identifier: MIT
"""The progress of a run: a bar on a terminal, occasional lines anywhere else."""

from __future__ import annotations

import os
import shutil
import time
from collections import Counter
from typing import TextIO

from .case import Result
from .verdicts import Verdict

COLORS = {
    "OK": "32",
    "NON-STRICT": "33",
    "INFORMATIONAL": "36",
    "FAILED": "31;1",
    "UNIMPLEMENTED": "35",
    "SKIPPED": "90",
}


def is_terminal(stream: TextIO) -> bool:
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def painted(verdict: str, stream: TextIO, width: int = 0) -> str:
    """Return a verdict in its color if the stream is a terminal."""
    text = verdict.ljust(width)
    if not is_terminal(stream) or "NO_COLOR" in os.environ:
        return text
    return f"\033[{COLORS[verdict]}m{text}\033[0m"


def counted(counts: Counter[str]) -> str:
    """Return the counts in the order of the verdicts, such as "12 OK, 1 FAILED"."""
    return ", ".join(f"{counts[v.value]} {v.value}" for v in Verdict if counts[v.value])


def plain(text: str) -> str:
    """Escape control characters of a terminal, because a peer may have written the text."""
    return "".join(c if c.isprintable() or c == "\n" else repr(c)[1:-1] for c in text)


class Lines:
    """Prints a line whenever another tenth of the cases is done."""

    def __init__(self, total: int, stream: TextIO) -> None:
        self.total = total
        self.stream = stream
        self.done = 0
        self.counts: Counter[str] = Counter()
        self.closes: Counter[str] = Counter()
        self.shown = ""
        self.began = time.monotonic()

    def count(self, result: Result, by: int) -> None:
        self.done += by
        self.counts[result.verdict.value] += by
        self.closes[result.close.value] += by

    def counted(self) -> str:
        """Return the verdicts so far, and those of closing if they are not all OK."""
        closes = counted(self.closes)
        also = f"; close: {closes}" if set(+self.closes) - {"OK"} else ""
        return counted(self.counts) + also

    def add(self, result: Result) -> None:
        self.count(result, 1)
        step = max(self.total // 10, 1)
        counted = self.counted()
        if (self.done % step == 0 or self.done == self.total) and counted != self.shown:
            self.shown = counted  # a repeated case usually changes nothing
            self.show()

    def drop(self, result: Result) -> None:
        """Remove the result of a case that is run again."""
        self.count(result, -1)

    def tick(self) -> None:
        pass

    def end(self) -> None:
        pass

    def show(self) -> None:
        seconds = time.monotonic() - self.began
        width = len(str(self.total))
        text = f"{self.done:{width}}/{self.total}  {seconds:5.1f} s  {self.counted()}"
        print(text, file=self.stream, flush=True)


class Bar(Lines):
    """Redraws a single line."""

    drawn = 0.0

    def add(self, result: Result) -> None:
        self.count(result, 1)
        self.tick()

    def tick(self) -> None:
        """Redraw at most ten times a second."""
        now = time.monotonic()
        if now - self.drawn >= 0.1:
            self.drawn = now
            self.show()

    def show(self) -> None:
        full = 24 * self.done // max(self.total, 1)
        seconds = time.monotonic() - self.began
        bar = "#" * full + "." * (24 - full)
        text = f"[{bar}] {self.done}/{self.total}  {seconds:.0f} s  {self.counted()}"
        width = shutil.get_terminal_size().columns - 1
        self.stream.write(f"\r{text[:width]}\033[K")
        self.stream.flush()

    def end(self) -> None:
        """Erase the bar before the summary is printed."""
        self.stream.write("\r\033[K")
        self.stream.flush()


def observer(total: int, stream: TextIO) -> Lines:
    """Return a bar for a terminal and lines for anything else."""
    return (Bar if is_terminal(stream) else Lines)(total, stream)
