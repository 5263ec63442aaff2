#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Masking and the check of UTF-8 never take more instructions than a loop over bytes.

    python tools/bench/byte_cost.py
    python tools/bench/byte_cost.py --cc "mips-linux-gnu-gcc -O2" --qemu qemu-mips

A CPU without unaligned access would load a word at any address as four or eight bytes, so that a
loop over words is slower than one over bytes. byte_cost.c is compiled for it with csrc/frame.c and
csrc/utf8.c. qemu-user executes it one instruction at a time and writes a line for each, so the
counts are exact and the same on every machine. Prints the worst case of each kind; the exit status
is 1 if the library takes more instructions, apart from a few for a whole call, or if it takes more
than a part of them for long data, which words are meant for.
"""

from __future__ import annotations

import argparse
import pathlib
import platform
import shlex
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator

HERE = pathlib.Path(__file__).resolve().parent
CSRC = HERE.parent.parent / "csrc"
CALL = 60  # instructions that a call may take whatever its length
LONG = 300  # bytes
PARTS = {"mask": 0.4, "ascii": 0.6, "utf8": 1.0}  # for long data


def build(cc: str, csrc: pathlib.Path, program: pathlib.Path) -> None:
    sources = [HERE / "byte_cost.c", csrc / "frame.c", csrc / "utf8.c"]
    command = [*shlex.split(cc), "-std=c11", "-g", "-static", f"-I{csrc}"]
    subprocess.run([*command, *map(str, sources), "-o", str(program)], check=True)


def trace(qemu: str, program: pathlib.Path, log: pathlib.Path) -> tuple[list[str], list[int]]:
    """Return the lines of the program, and the instructions from each mark to the next."""
    command = [*shlex.split(qemu), "-singlestep", "-d", "exec,nochain", "-D", str(log)]
    done = subprocess.run(
        [*command, str(program)], stdout=subprocess.PIPE, text=True, timeout=300, check=True
    )
    with log.open() as lines:
        return done.stdout.splitlines(), list(between_marks(lines))


def between_marks(lines: Iterable[str]) -> Iterator[int]:
    """Count the lines of "Trace" between those whose function is `mark`."""
    count = 0
    in_mark = False
    for line in lines:
        if not line.startswith("Trace"):
            continue
        was_in_mark, in_mark = in_mark, line.rstrip().endswith(" mark")
        if in_mark and not was_in_mark:
            yield count
            count = 0
        count += not in_mark


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--cc", default="cc -O2", help='the compiler with its options ("cc -O2")')
    parser.add_argument(
        "--qemu", default=f"qemu-{platform.machine()}", help="the emulator of its CPU"
    )
    parser.add_argument(
        "--csrc", type=pathlib.Path, default=CSRC, help="the sources of the library"
    )
    parser.add_argument("--verbose", action="store_true", help="print all cases")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        program = pathlib.Path(folder) / "byte_cost"
        build(options.cc, options.csrc, program)
        names, counts = trace(options.qemu, program, program.with_suffix(".log"))
    if len(counts) != 3 * len(names):
        print(f"{len(counts)} marks for {len(names)} cases", file=sys.stderr)
        return 2
    worst: dict[str, tuple[float, str]] = {}
    slower = 0
    for i, name in enumerate(names):
        library, loop = counts[3 * i + 1], counts[3 * i + 2]
        kind, offset, length = name.split()
        line = f"{kind}: {library} instructions, loop {loop} ({length} bytes at offset {offset})"
        bad = library > (PARTS[kind] * loop if int(length) >= LONG else loop + CALL)
        slower += bad
        if options.verbose or bad:
            print(line, "SLOWER" if bad else "")
        worst[kind] = max(worst.get(kind, (0.0, "")), (library / loop, line))
    for ratio, line in worst.values():
        print(f"worst, {ratio:.2f} of the loop: {line}")
    return slower > 0


if __name__ == "__main__":
    sys.exit(main())
