#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks docs/protocol.md and docs/promises.md: every id has a row, every row is proved by tests.

    python3 tools/check_protocol_docs.py [--root DIR]

An id is a letter and a number: F5 is a rule about frames, S27 and P4 are promises of the API, T40
is an attack, E5 is for small machines. The rows of the two pages read

    | F5 | non-minimal length: 1002 | `csrc/frame.c:decode` | `tests/c/test_frame.c` "F5 16 bit" |
    | S27 | close() is immediate | `tests/py/test_websocket.py::test_s27_close` |

A test is `path::name` (a Python function) or `path` followed by text of the test's name in double
quotes: a part of a string literal, of the name of a vector, or of the title of a section of
.ci/run, whose steps are tests as well. It must name an id of its row: in that text, or in the name
or docstring of the function. Instead of tests, and of functions, a row may say "not yet: " and what
is missing; then no test may name its id.

An id that is mentioned anywhere in the project, also in a comment, must have exactly one row.
Comments prove nothing. Prints one line per violation and exits 1 if there is any.
"""

import argparse
import ast
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, List, NamedTuple, Tuple, Union

import csource

PROTOCOL = "docs/protocol.md"
PROMISES = "docs/promises.md"
REQUIRED: Dict[str, Tuple[str, ...]] = {
    PROTOCOL: (
        *(f"H{n}" for n in range(29)),
        *(f"F{n}" for n in range(1, 19)),
        *(f"C{n}" for n in range(1, 11)),
        *(f"X{n}" for n in range(1, 16)),
        *(f"L{n}" for n in range(1, 5)),
    ),
    PROMISES: (
        *(f"S{n}" for n in range(1, 53) if n != 47),
        *(f"T{n}" for n in range(1, 95) if n not in (48, 49, 59, 69)),
        *(f"P{n}" for n in range(1, 12)),
        *(f"W{n}" for n in range(1, 8)),
        *(f"B{n}" for n in range(1, 9)),
        *(f"E{n}" for n in range(1, 6)),
    ),
}
CI = ".ci/run"

# Where ids may be mentioned. The tests of this program plant some that do not exist.
PLACES = ("csrc", "pyws", "tests", "tools", "docs", "examples", "packaging", ".ci")
SUFFIXES = (".c", ".h", ".py", ".in", ".txt", ".md", ".build", ".html", ".js", ".sh", ".yml", "")
TESTS = (".c", ".py", ".txt")
PLANTED = "test_checkers.py"
# Bytes of UTF-8, and the language.
NO_IDS = frozenset({"A0", "C0", "E0", "F0", "C99"})

_ID = r"(?<![A-Za-z0-9%\\])[SHFCXTPWLBAE]\d{1,2}(?![A-Za-z0-9])"
_RANGE = re.compile(_ID + "-" + _ID)
_FUNCTION = re.compile(r"`([^`:]+):(\w+)`")
_TEST = re.compile(r'`([^`:]+)(?:::([^`]+))?`|"([^"]+)"')
_SECTION = re.compile(r"^section (['\"])(.+)\1$", re.MULTILINE)
_BACKTICKS = re.compile(r"`[^`]*`")
_NOT_YET = re.compile(r"\s*not yet: \w.*")

PythonFunction = Union[ast.FunctionDef, ast.AsyncFunctionDef]


class Row(NamedTuple):
    page: str
    line: int
    ids: List[str]
    cells: List[str]  # what the page has between the rule and the end of the line

    @property
    def tests(self) -> str:
        return self.cells[-1]

    @property
    def is_pending(self) -> bool:
        return all(_NOT_YET.fullmatch(cell) for cell in self.cells)


def rows(page: str, text: str) -> Iterator[Row]:
    """The table rows whose first cell holds ids."""
    wanted = 2 if page == PROTOCOL else 1
    for number, line in enumerate(text.splitlines(), 1):
        cells = re.split(r"(?<!\\)\|", line.strip())
        if not line.lstrip().startswith("|") or len(cells) < 3:
            continue
        ids = re.findall(_ID, cells[1])
        if ids and re.sub(_ID, "", cells[1]).strip(" ,`*") == "":
            cells += [""] * (wanted + 4 - len(cells))
            yield Row(page, number, ids, cells[3 : 3 + wanted])


@lru_cache(maxsize=None)
def defined_names(path: Path) -> FrozenSet[str]:
    """The functions that a C or Python file defines."""
    if path.suffix == ".py":
        return frozenset(python_functions(path))
    return frozenset(function.name for function in csource.functions(csource.read(path)))


@lru_cache(maxsize=None)
def python_functions(path: Path) -> Dict[str, PythonFunction]:
    """The functions that a Python file defines, methods included."""
    nodes = ast.walk(ast.parse(csource.read(path)))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return {node.name: node for node in nodes if isinstance(node, kinds)}


@lru_cache(maxsize=None)
def texts(path: Path) -> Tuple[str, ...]:
    """The string literals of a test file, the names of its vectors, or the sections of CI."""
    text = csource.read(path)
    if path.match(CI):
        return tuple(title for _, title in _SECTION.findall(text))
    if path.suffix == ".py":
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
        return tuple(node.value for node in nodes if isinstance(node.value, str))
    if path.suffix == ".txt":
        return tuple(line[2:] for line in text.splitlines() if line.startswith("# "))
    return tuple(csource.strings(text))


def ids_in(text: str) -> FrozenSet[str]:
    """The ids in a text; T16-T19 stands for four."""
    found = set(re.findall(_ID, text))
    for match in _RANGE.finditer(text):
        first, last = match.group().split("-")
        if first[0] == last[0]:
            found |= {f"{first[0]}{n}" for n in range(int(first[1:]), int(last[1:]))}
    return frozenset(found)


def ids_in_name(name: str) -> FrozenSet[str]:
    """The ids of test_f5_length: F5, and of test_s01_routes: S1."""
    if not name.startswith("test_"):
        return frozenset()
    return ids_in(re.sub(r"(?<=_[a-z])0(?=\d)", "", name).upper())


def ids_of_function(path: Path, name: str) -> FrozenSet[str]:
    """The ids in the name and the docstring of a Python test."""
    docstring = ast.get_docstring(python_functions(path)[name]) or ""
    return ids_in_name(name) | ids_in(docstring)


def check_functions(root: Path, cell: str) -> Iterator[str]:
    named = _FUNCTION.findall(cell)
    if not named and not _NOT_YET.fullmatch(cell):
        yield "names no function"
    if len(named) != len(_BACKTICKS.findall(cell)):
        yield f"cannot read the functions: {cell.strip()}"
    for name, function in named:
        path = root / name
        if not path.is_file():
            yield f"no file {name}"
        elif function not in defined_names(path):
            yield f"no function {function} in {name}"


def check_test(root: Path, ids: List[str], name: str, function: str, text: str) -> str:
    path = root / name
    plain = re.sub(r"\[.*", "", function).split("::")[-1]
    if not path.is_file():
        return f"no file {name}"
    if not function and not text:
        return f"names no test in {name}"
    if function and plain not in defined_names(path):
        return f"no test {function} in {name}"
    if text and not any(text in item for item in texts(path)):
        return f'no test "{text}" in {name}'
    named = ids_in(text) if text else ids_of_function(path, plain)
    if not named & set(ids):
        return f'the test "{text or function}" in {name} does not name it'
    return ""


def named_tests(cell: str) -> Iterator[Tuple[str, str, str]]:
    """File, function and text of each test; a file may be followed by several texts."""
    name, unnamed = "", False
    for path, function, text in _TEST.findall(cell):
        if path and unnamed:
            yield name, "", ""
        name, unnamed = path or name, bool(path and not function)
        if not unnamed:
            yield name, function, text
    if unnamed:
        yield name, "", ""


def check_tests(root: Path, ids: List[str], cell: str) -> Iterator[str]:
    named = list(named_tests(cell))
    if not named and not _NOT_YET.fullmatch(cell):
        yield "names no test"
    for name, function, text in named:
        reason = check_test(root, ids, name, function, text)
        if reason:
            yield reason


def files_under(root: Path, places: Tuple[str, ...]) -> Iterator[Path]:
    for place in places:
        for path in sorted((root / place).rglob("*")):
            if path.suffix in SUFFIXES and path.name != PLANTED and path.is_file():
                yield path
    yield from sorted(root.glob("*.md"))


def tested_ids(root: Path) -> FrozenSet[str]:
    """Ids of tests: "F5" in a literal or the title of a section, _f5_ in the name of a function."""
    found: FrozenSet[str] = frozenset()
    tests = [path for path in files_under(root, ("tests",)) if path.suffix in TESTS]
    for path in [*tests, *root.glob(CI)]:
        names = python_functions(path) if path.suffix == ".py" else ()
        found = found.union(*map(ids_in, texts(path)), *map(ids_in_name, names))
    return found


def mentioned_ids(root: Path) -> Dict[str, str]:
    """Every id that is used in the project, with the place of its first use."""
    found: Dict[str, str] = {}
    for path in files_under(root, PLACES):
        for number, line in enumerate(csource.read(path).splitlines(), 1):
            ids = frozenset(re.findall(_ID, line))
            if path.suffix == ".py":
                ids = ids.union(*map(ids_in_name, re.findall(r"\bdef (\w+)", line)))
            for identifier in ids - NO_IDS:
                found.setdefault(identifier, f"{path.relative_to(root)}:{number}")
    return found


def check_rows(root: Path, listed: List[Row]) -> Iterator[str]:
    for row in listed:
        reasons = list(check_tests(root, row.ids, row.tests))
        if row.page == PROTOCOL:
            reasons = [*check_functions(root, row.cells[0]), *reasons]
        for reason in reasons:
            yield f"{row.page}:{row.line}: {', '.join(row.ids)}: {reason}"


def check_ids(root: Path, listed: List[Row]) -> Iterator[str]:
    tested, known = tested_ids(root), set(sum(REQUIRED.values(), ()))
    row_of: Dict[str, Row] = {}
    for row in listed:
        for identifier in row.ids:
            if identifier in row_of:
                yield f"{row.page}:{row.line}: {identifier}: has a row in {row_of[identifier].page}"
            row_of[identifier] = row
            if identifier not in known:
                yield f"{row.page}:{row.line}: {identifier}: there is no such id"
            if row.is_pending and identifier in tested:
                yield f"{row.page}:{row.line}: {identifier}: is not there yet, but a test names it"
    for page, required in REQUIRED.items():
        for identifier in required:
            if identifier not in row_of:
                yield f"{page}: {identifier} is missing"
            elif identifier not in tested and not row_of[identifier].is_pending:
                yield f"tests: no test names {identifier}"
    for identifier, place in sorted(mentioned_ids(root).items()):
        if identifier not in row_of:
            yield f"{place}: {identifier} has no row in {PROTOCOL} or {PROMISES}"


def check(root: Path) -> List[str]:
    """All violations under root, as lines of text."""
    listed: List[Row] = []
    for page in REQUIRED:
        if not (root / page).is_file():
            return [f"no file {page}"]
        listed += rows(page, csource.read(root / page))
    return [*check_rows(root, listed), *check_ids(root, listed)]


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the pages of rules and promises.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    violations = check(parser.parse_args().root)
    for line in violations:
        print(line)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
