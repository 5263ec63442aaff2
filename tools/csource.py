# SPDX-License-Identifier: MIT
"""A minimal C reader for the checkers: comments, string literals, and the extent of functions.

It reads only the project's own style (K&R, the brace of a function body on a separate line). Text
in comments and literals is blanked, so that positions and line numbers stay correct.
"""

import re
from pathlib import Path
from typing import List, NamedTuple, Tuple

_SKIP = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""",
    re.DOTALL | re.VERBOSE,
)
_ADJACENT = re.compile(r'"((?:\\.|[^"\\\n])*)"\s*')
_DIRECTIVE = re.compile(r"^[ \t]*#(?:[^\n]*\\\n)*[^\n]*", re.MULTILINE)
_NAME = re.compile(r"\b([A-Za-z_]\w*)\s*\(")


class Function(NamedTuple):
    """A function definition: its name and the lines of its opening and closing brace."""

    name: str
    first: int
    last: int
    is_static: bool

    @property
    def length(self) -> int:
        return self.last - self.first + 1


def _blank(match: "re.Match[str]") -> str:
    return re.sub(r"[^\n]", " ", match.group())


def without_comments(text: str) -> str:
    """Return the text with its comments blanked; string literals stay."""

    def replace(match: "re.Match[str]") -> str:
        return _blank(match) if match.group().startswith("/") else match.group()

    return _SKIP.sub(replace, text)


def code_only(text: str) -> str:
    """Return the text with its comments, strings and character constants blanked."""
    return _SKIP.sub(_blank, text)


def declarations(text: str) -> str:
    """Return code_only without preprocessor directives."""
    return _DIRECTIVE.sub(_blank, code_only(text))


def strings(text: str) -> List[str]:
    """Return the string literals of a C file as written, with adjacent ones joined."""
    code = without_comments(text)
    found: List[str] = []
    end = -1
    for match in _SKIP.finditer(code):
        literal = _ADJACENT.match(code, match.start())
        if not literal:
            continue
        if match.start() == end:
            found[-1] += literal.group(1)
        else:
            found.append(literal.group(1))
        end = literal.end()
    return found


def functions(text: str) -> List[Function]:
    """Return the functions that a C file defines, in order."""
    code = declarations(text)
    found: List[Function] = []
    depth = 0
    start = opening = 0
    for match in re.finditer(r"[{};]", code):
        if match.group() == "{":
            if depth == 0:
                opening = match.start()
            depth += 1
            continue
        if match.group() == "}":
            depth -= 1
            head = _NAME.search(code, start, opening)
            if depth == 0 and head and code[start:opening].rstrip().endswith(")"):
                name = _function_name(code[start:opening])
                line = code.count("\n", 0, opening) + 1
                last = code.count("\n", 0, match.start()) + 1
                is_static = re.search(r"\bstatic\b", code[start:opening]) is not None
                found.append(Function(name, line, last, is_static))
        if depth == 0:
            start = match.end()
    return found


def bodies(code: str) -> str:
    """What stands between braces in code from declarations(); the rest is blanked."""
    found: List[str] = []
    depth = 0
    for char in code:
        depth -= char == "}"
        found.append(char if depth or char == "\n" else " ")
        depth += char == "{"
    return "".join(found)


_TAG = re.compile(r"^(?:struct|enum|union)\s+(\w+)\s*\{", re.MULTILINE)
_CONSTANT = re.compile(r"^enum\b[^{;]*\{([^}]*)\}", re.MULTILINE)
_OBJECT = re.compile(r"^static\s+[\w\s*]*?(\w+)(?:\[[^\]]*\])*\s*=", re.MULTILINE)


def file_scope_names(code: str) -> List[Tuple[str, int]]:
    """Tags, enumeration constants and static objects that code from declarations() defines, with
    their lines."""
    found = [(m.group(1), m.start(1)) for m in (*_TAG.finditer(code), *_OBJECT.finditer(code))]
    for match in _CONSTANT.finditer(code):
        for name in re.finditer(r"(\w+)\s*(?:=[^,]*)?(?:,|$)", match.group(1).strip()):
            found.append((name.group(1), match.start(1)))
    return [(name, code.count("\n", 0, at) + 1) for name, at in found]


def _function_name(head: str) -> str:
    """Return the last name before the parameter list, skipping a leading __attribute__((...))."""
    plain = re.sub(r"__attribute__\s*\(\(.*?\)\)", "", head, flags=re.DOTALL)
    match = _NAME.search(plain)
    return match.group(1) if match else ""


def read(path: Path) -> str:
    return path.read_text(encoding="utf-8")
