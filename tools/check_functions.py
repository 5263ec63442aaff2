#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check the size of C functions (40 lines, brace to brace), of files (700 lines) and of lines.

Files are checked in every folder, in C, Python and JavaScript. Of the tests, functions are not
checked; ruff checks lines of Python.

    python3 tools/check_functions.py [--root DIR] [--allow FILE:FUNCTION ...]

Prints one line per violation and exits 1 if there is any; otherwise prints one line of statistics.
"""

import argparse
import statistics
import sys
from pathlib import Path
from typing import Dict, Iterable, List, Set

import csource

MAX_FUNCTION = 40
MAX_EXCEPTION = 80
MAX_FILE = 700
MAX_COLUMNS = 100
FOLDERS = ("csrc", "examples/c", "tools/bench")
EVERYWHERE = (".ci", "csrc", "docs", "examples", "packaging", "pyws", "tests", "tools")
SUFFIXES = (".c", ".h", ".py", ".js")

# State switches that are clearer in one piece. Remove a name when it no longer needs this.
ALLOWED: Set[str] = {"csrc/http.c:handle_byte"}


def sources(root: Path) -> List[Path]:
    found = (path for folder in FOLDERS for path in (root / folder).rglob("*.[ch]"))
    return sorted(found)


def all_files(root: Path) -> List[Path]:
    found = (path for folder in EVERYWHERE for path in (root / folder).rglob("*.*"))
    return sorted(path for path in found if path.suffix in SUFFIXES and path.is_file())


def judge(lengths: Dict[str, int], allowed: Iterable[str]) -> List[str]:
    """Return the violations among functions {"file:name": length}, except the allowed names."""
    allowed = set(allowed)
    violations = []
    for name, length in lengths.items():
        limit = MAX_EXCEPTION if name in allowed else MAX_FUNCTION
        if length > limit:
            violations.append(f"{name}: {length} lines, at most {limit} are allowed")
    for name in sorted(allowed):
        if lengths.get(name, 0) <= MAX_FUNCTION:
            violations.append(f"{name}: does not need to be on the list of exceptions")
    return violations


def measure(root: Path) -> Dict[str, int]:
    """Return {"file:name": lines} for every function."""
    return {
        f"{path.relative_to(root)}:{function.name}": function.length
        for path in sources(root)
        for function in csource.functions(csource.read(path))
    }


def check_files(root: Path) -> List[str]:
    violations = []
    for path in all_files(root):
        name, length = path.relative_to(root), len(csource.read(path).splitlines())
        if length > MAX_FILE:
            violations.append(f"{name}: {length} lines, at most {MAX_FILE} are allowed")
    return violations


def check_columns(root: Path) -> List[str]:
    """Return the lines of C that are too long; ruff checks those of Python."""
    violations: List[str] = []
    for path in [*sources(root), *sorted((root / "tests").rglob("*.[ch]"))]:
        name, lines = path.relative_to(root), csource.read(path).splitlines()
        violations += (
            f"{name}:{number}: {len(line)} columns, at most {MAX_COLUMNS} are allowed"
            for number, line in enumerate(lines, 1)
            if len(line) > MAX_COLUMNS
        )
    return violations


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the size of C functions and files.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--allow", nargs="*", default=[], metavar="FILE:FUNCTION")
    options = parser.parse_args()
    lengths = measure(options.root)
    here = {name for name in ALLOWED if (options.root / name.split(":")[0]).exists()}
    violations = judge(lengths, here | set(options.allow)) + check_files(options.root)
    violations += check_columns(options.root)
    if not lengths:
        violations.append("no C functions found")
    for line in violations:
        print(line)
    if not violations:
        median = statistics.median(lengths.values())
        print(f"{len(lengths)} functions, median {median:g} lines, longest {max(lengths.values())}")
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
