#!/usr/bin/env python3
"""Checks that the files of csrc/ include each other only as the layer map allows.

    python3 tools/check_layers.py [--root DIR]

Prints one line per violation and exits 1 if there is any. See ARCHITECTURE.md for the map.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Tuple

import csource

LAYERS: Dict[str, int] = {
    "buffer": 0, "utf8": 0, "sha1": 0, "text": 0, "words": 0,
    "http": 1, "frame": 1, "router": 1, "topics": 1, "deflate": 1, "loop": 1, "net": 1,
    "handshake": 2, "protocol": 2,
    "conn": 3, "heartbeat": 3, "hub": 3, "inflate": 3, "listen": 3, "pong": 3,
    "publish": 3, "request": 3, "route": 3, "send": 3,
    "bridge": 4, "ws": 4,
}  # fmt: skip

# Files that do the work of another name: which one is built, the build system picks. zlib.h is
# zlib_ng/zlib.h, what deflate.c includes where zlib-ng is in its native form.
STANDS_FOR = {"deflate_none": "deflate", "zlib": "deflate"}
# Headers that everything may include.
COMMON = {"ws", "buffer", "text", "words"}
# Ten files, one layer: a routed request becomes a connection, which sends; all need conn.h.
ONE_MODULE = {
    "conn", "heartbeat", "hub", "inflate", "listen", "pong", "publish", "request", "route", "send",
}  # fmt: skip
# The only modules below layer 3 that make system calls; they know nothing of WebSocket.
SYSTEM = {"loop", "net"}
# Code that turns bytes into events needs no more than these: no sockets, clocks, files or errno.
PURE_LAYER = 2
PURE = {
    "inttypes.h", "limits.h", "stdarg.h", "stdbool.h", "stddef.h", "stdint.h",
    "stdio.h",  # for snprintf
    "string.h",
}  # fmt: skip
# What one file is there to hide from the others: the heap, and zlib.
PURE_BUT = {"buffer.c": {"stdlib.h"}, "deflate.c": {"zlib.h"}, "zlib.h": {"zlib-ng.h"}}
# A declaration of an internal function; it belongs into the header of its module.
PROTOTYPE = re.compile(
    r"(?:\A|[;{}])\s*(?:__attribute__\s*\(\(.*?\)\)\s*)?(?!(?:return|else|goto|case|do)\b)"
    r"(?:\w+[\s*]+)+(ws__\w+)\s*\([^;{}]*\)\s*(?=;)",
    re.DOTALL,
)

Violation = Tuple[int, str]


def judge_project_include(module: str, target: str) -> str:
    """Why `module` must not include the header of `target`; "" when it may."""
    if target in (module, "ws") and module != "ws":
        return ""
    if module == "ws" and target == "ws":
        return ""
    if module == "bridge":
        return "bridge must go through ws.h alone"
    if module in SYSTEM and target not in ("buffer", "text"):
        return f"{module} must know nothing of WebSocket, only ws.h, buffer.h and text.h"
    if target in COMMON or {module, target} <= ONE_MODULE:
        return ""
    if LAYERS[target] == LAYERS[module]:
        return f"{target}.h is of the same layer {LAYERS[module]}"
    if LAYERS[target] > LAYERS[module]:
        return f"{target}.h is of layer {LAYERS[target]}, above layer {LAYERS[module]}"
    return ""


def module_of(path: Path) -> str:
    return STANDS_FOR.get(path.stem, path.stem)


def is_pure(module: str) -> bool:
    return LAYERS[module] <= PURE_LAYER and module not in SYSTEM


def judge_include(path: Path, argument: str) -> str:
    """Why the file must not hold `#include argument`; "" when it may."""
    module = module_of(path)
    match = re.match(r'["<]([^">]+)[">]', argument)
    if not match:
        return "the name of an include must be written out"
    name = match.group(1)
    target = Path(name).stem
    if target in LAYERS and name.endswith(".h") and "sys/" not in name:
        if path.name == "ws.h":
            return f"ws.h is compiled alone, it must not include {name}"
        return judge_project_include(module, target)
    if argument.startswith('"'):
        return f"{name} is not in the layer map"
    if name == "zlib.h" and path.name != "deflate.c":
        return "only deflate.c may include zlib.h"
    if is_pure(module) and name not in PURE | PURE_BUT.get(path.name, set()):
        return f"<{name}> is not on the list for layers 0 to {PURE_LAYER}"
    return ""


def check_file(path: Path) -> Iterator[Violation]:
    text = csource.read(path)
    if module_of(path) not in LAYERS:
        yield 1, "is not in the layer map of tools/check_layers.py"
        return
    lines = csource.without_comments(text).splitlines()
    for number, line in enumerate(lines, 1):
        match = re.match(r"\s*#\s*include\s*(\S.*)", line)
        reason = judge_include(path, match.group(1)) if match else ""
        if reason:
            yield number, reason
    if is_pure(module_of(path)):
        for number, line in enumerate(csource.code_only(text).splitlines(), 1):
            if re.search(r"\berrno\b", line) and not line.lstrip().startswith("#"):
                yield number, f"errno is not for layers 0 to {PURE_LAYER}"
    if path.suffix == ".c":
        yield from own_prototypes(text)


def own_prototypes(text: str) -> Iterator[Violation]:
    code = csource.declarations(text)
    for match in PROTOTYPE.finditer(code):
        number = code.count("\n", 0, match.start(1)) + 1
        yield number, f"declares {match.group(1)} itself, a header must do that"


def check(root: Path) -> List[str]:
    """All violations under root, as lines of text."""
    sources = sorted(p for p in (root / "csrc").rglob("*") if p.suffix in (".c", ".h"))
    if not sources:
        return ["csrc: no C sources found"]
    return [
        f"{path.relative_to(root)}:{number}: {reason}"
        for path in sources
        for number, reason in check_file(path)
    ]


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the layer map of csrc/.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    violations = check(parser.parse_args().root)
    for line in violations:
        print(line)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
