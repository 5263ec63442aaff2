#!/usr/bin/env python3
"""Checks docs/protocol.md: every requirement has functions and tests that exist in the tree.

    python3 tools/check_protocol_docs.py [--root DIR]

A row of the table reads

    | F5 | non-minimal length: 1002 | `csrc/frame.c:decode` | `tests/c/test_frame.c` "F5 16 bit" |

A test is `path::name` (a Python function) or `path` followed by text of the test's name in double
quotes: a part of a string literal, or of the name of a vector. It must name an id of its row: in
that text, or in the name or docstring of the function. Every id must also stand in some test.
Comments prove nothing. Prints one line per violation and exits 1 if there is any.
"""

import argparse
import ast
import re
import sys
from functools import lru_cache
from pathlib import Path
from typing import Dict, FrozenSet, Iterator, List, NamedTuple, Set, Tuple, Union

import csource

DOCUMENT = "docs/protocol.md"
REQUIRED: Tuple[str, ...] = (
    *(f"H{n}" for n in range(29) if n != 26),
    *(f"F{n}" for n in range(1, 19)),
    *(f"C{n}" for n in range(1, 11)),
    *(f"X{n}" for n in range(1, 16)),
)

_ID = re.compile(r"\b[HFCX]\d+\b")
_FUNCTION = re.compile(r"`([^`:]+):(\w+)`")
_TEST = re.compile(r'`([^`:]+)(?:::([^`]+)`|`\s*"([^"]+)")')
_BACKTICKS = re.compile(r"`[^`]*`")

PythonFunction = Union[ast.FunctionDef, ast.AsyncFunctionDef]


class Row(NamedTuple):
    line: int
    ids: List[str]
    functions: str
    tests: str


def rows(text: str) -> Iterator[Row]:
    """The table rows whose first cell holds requirement ids."""
    for number, line in enumerate(text.splitlines(), 1):
        cells = re.split(r"(?<!\\)\|", line.strip())
        if not line.lstrip().startswith("|") or len(cells) < 3:
            continue
        ids = _ID.findall(cells[1])
        if ids and _ID.sub("", cells[1]).strip(" ,`*") == "":
            cells += [""] * (6 - len(cells))
            yield Row(number, ids, cells[3], cells[4])


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
    """The string literals of a test file, or the names of its vectors."""
    text = csource.read(path)
    if path.suffix == ".py":
        nodes = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.Constant)]
        return tuple(node.value for node in nodes if isinstance(node.value, str))
    if path.suffix == ".txt":
        return tuple(line[2:] for line in text.splitlines() if line.startswith("# "))
    return tuple(csource.strings(text))


def ids_in(text: str) -> FrozenSet[str]:
    return frozenset(re.findall(r"(?<![A-Za-z0-9])[HFCX]\d+(?![A-Za-z0-9])", text))


def ids_in_name(name: str) -> FrozenSet[str]:
    """The ids of test_f5_length: F5."""
    return ids_in(name.upper()) if name.startswith("test_") else frozenset()


def ids_of_function(path: Path, name: str) -> FrozenSet[str]:
    """The ids in the name and the docstring of a Python test."""
    docstring = ast.get_docstring(python_functions(path)[name]) or ""
    return ids_in_name(name) | ids_in(docstring)


def check_functions(root: Path, cell: str) -> Iterator[str]:
    named = _FUNCTION.findall(cell)
    if not named:
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
    if function and plain not in defined_names(path):
        return f"no test {function} in {name}"
    if text and not any(text in item for item in texts(path)):
        return f'no test "{text}" in {name}'
    named = ids_in(text) if text else ids_of_function(path, plain)
    if not named & set(ids):
        return f'the test "{text or function}" in {name} does not name it'
    return ""


def check_tests(root: Path, ids: List[str], cell: str) -> Iterator[str]:
    named = _TEST.findall(cell)
    if not named:
        yield "names no test"
    if len(named) != len(_BACKTICKS.findall(cell)):
        yield f"cannot read the tests: {cell.strip()}"
    for name, function, text in named:
        reason = check_test(root, ids, name, function, text)
        if reason:
            yield reason


def tested_ids(root: Path) -> FrozenSet[str]:
    """Ids that stand in a test file: "F5" in a literal, or _f5_ in the name of a Python test."""
    found: Set[str] = set()
    for path in (root / "tests").rglob("*"):
        if path.suffix not in (".c", ".py", ".txt") or path.name == "test_checkers.py":
            continue
        names = python_functions(path) if path.suffix == ".py" else ()
        found.update(*map(ids_in, texts(path)), *map(ids_in_name, names))
    return frozenset(found)


def check(root: Path) -> List[str]:
    """All violations under root, as lines of text."""
    document = root / DOCUMENT
    if not document.is_file():
        return [f"no file {DOCUMENT}"]
    violations = []
    listed = set()
    for row in rows(csource.read(document)):
        listed.update(row.ids)
        reasons = [*check_functions(root, row.functions), *check_tests(root, row.ids, row.tests)]
        violations += [f"{DOCUMENT}:{row.line}: {', '.join(row.ids)}: {r}" for r in reasons]
    tested = tested_ids(root)
    for identifier in REQUIRED:
        if identifier not in listed:
            violations.append(f"{DOCUMENT}: {identifier} is missing")
        if identifier not in tested:
            violations.append(f"tests: no test names {identifier}")
    return violations


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the requirement table of the protocol.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    violations = check(parser.parse_args().root)
    for line in violations:
        print(line)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
