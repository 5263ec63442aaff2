#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that the files of csrc/ use each other only as the layer map allows.

    python3 tools/check_layers.py [--root DIR]

An include, and every mention of a function, must lead to a lower layer, or to an earlier file of a
layer whose files stand in an order. Every foo.c has a foo.h, whose functions it defines in their
order; no file-local name stands for two things, so that all files can be compiled as one.
Prints one line per violation and exits 1 if there is any. See ARCHITECTURE.md for the map.
"""

import argparse
import re
import sys
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set, Tuple, Union

import csource

# From the bottom to the top. The files of a set know nothing of each other; those of a list may use
# the files before them in it.
LAYER_MAP: Tuple[Union[Set[str], List[str]], ...] = (
    {"buffer", "utf8", "sha1", "words", "text"},
    {
        "http",
        "frame",
        "router",
        "topics",
        "deflate",
        "loop",
        "net",
        "random",
        "sendfile",
        "interest",
        "record",
    },
    {"body", "handshake", "protocol", "hub", "forwarded", "proxy", "quota"},
    ["stream", "input", "tls", "watch", "outbox", "bus"],
    [
        "heartbeat",
        "conn",
        "label",
        "share",
        "pong",
        "send",
        "relay",
        "publish",
        "inflate",
        "close",
        "receive",
    ],
    [
        "route",
        "source",
        "request",
        "methods",
        "respond",
        "answer",
        "ending",
        "upload",
        "admit",
        "serve",
    ],
    ["config", "listen", "ws"],
    ["bridge", "bridge_http"],
    ["tls_names", "tls_openssl", "ws_mbedtls"],
)
LAYERS = {module: number for number, layer in enumerate(LAYER_MAP) for module in layer}
# The position in an ordered layer; 0 in others.
POSITIONS = {
    module: position
    for layer in LAYER_MAP
    if isinstance(layer, list)
    for position, module in enumerate(layer)
}

# Files that do the work of another name: which one is built, the build system picks. zlib.h is
# zlib_ng/zlib.h, what deflate.c includes where zlib-ng is in its native form. The parts of ws.h are
# headers of their own. resolve.c is a part of net.c that may be left out.
PARTS = ("ws_http", "ws_cluster", "ws_tls")
STANDS_FOR = {
    "answer_none": "answer",
    "bus_none": "bus",
    "deflate_none": "deflate",
    "forwarded_none": "forwarded",
    "inflate_none": "inflate",
    "label_none": "label",
    "methods_none": "methods",
    "proxy_none": "proxy",
    "publish_none": "publish",
    "quota_none": "quota",
    "relay_none": "relay",
    "share_none": "share",
    "tls_none": "tls",
    "topics_none": "topics",
    "upload_none": "upload",
    "zlib": "deflate",
    "sendfile_none": "sendfile",
    "resolve": "net",
    **dict.fromkeys(PARTS, "ws"),
}
# What connects a TLS library is a library of its own, which the server does not know. Its files
# are one module, and so is its public header.
TLS = ("tls_names", "tls_openssl", "ws_mbedtls")
TLS_FILES = {
    "tls_mbedtls": "ws_mbedtls",
    "ws_openssl": "tls_openssl",
    "tls_openssl_contexts": "tls_openssl",
    "tls_openssl_linked": "tls_openssl",
    "tls_openssl_tickets": "tls_openssl",
}
STANDS_FOR.update(TLS_FILES)
# Headers that everything may include.
COMMON = {"ws", "buffer", "text", "words"}
# The only modules of layers 0 to 2 that make system calls; they know nothing of WebSocket.
SYSTEM = {"loop", "net", "random", "sendfile"}
# What all streams share is no code that turns bytes into events.
IMPURE = SYSTEM | {"hub"}
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


def why_not(module: str, target: str) -> str:
    """Why `module` must not use `target`, another module; "" when it may."""
    here, there = LAYERS[module], LAYERS[target]
    if there == here and target not in POSITIONS:
        return f"is of the same layer {here}"
    if there > here:
        return f"is of layer {there}, above layer {here}"
    if there == here and POSITIONS[target] > POSITIONS[module]:
        return f"comes after {module} in layer {here}"
    return ""


def judge_project_include(module: str, target: str) -> str:
    """Why `module` must not include the header of `target`; "" when it may."""
    if target in (module, "ws"):
        return ""
    of_bridge = module.startswith("bridge") and target != "bridge"
    if of_bridge or (module in TLS and target not in TLS):
        return f"{module} must go through ws.h alone"
    if module in SYSTEM and target not in ("buffer", "text"):
        return f"{module} must know nothing of WebSocket, only ws.h, buffer.h and text.h"
    if target in COMMON:
        return ""
    reason = why_not(module, target)
    return f"{target}.h {reason}" if reason else ""


def module_of(path: Path) -> str:
    return STANDS_FOR.get(path.stem, path.stem)


def is_pure(module: str) -> bool:
    return LAYERS[module] <= PURE_LAYER and module not in IMPURE


def judge_include(path: Path, argument: str) -> str:
    """Why the file must not hold `#include argument`; "" when it may."""
    module = module_of(path)
    match = re.match(r'["<]([^">]+)[">]', argument)
    if not match:
        return "the name of an include must be written out"
    name = match.group(1)
    stem = Path(name).stem
    stands = stem in PARTS or stem in TLS_FILES or stem == "resolve"
    target = module_of(Path(name)) if stands else stem
    if target in LAYERS and name.endswith(".h") and "sys/" not in name:
        if path.name == "ws.h" and name != "ws_http.h":
            return f"ws.h is compiled alone, it must not include {name}"
        return judge_project_include(module, target)
    if argument.startswith('"'):
        return f"{name} is not in the layer map"
    if name == "zlib.h" and path.name != "deflate.c":
        return "only deflate.c may include zlib.h"
    if name.startswith("openssl/") and path.name != "tls_openssl_linked.c":
        return "only tls_openssl_linked.c may include headers of OpenSSL"
    if name.startswith("mbedtls/") and path.name != "tls_mbedtls.c":
        return "only tls_mbedtls.c may include headers of Mbed TLS"
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


# ---- functions ------------------------------------------------------------------------------


class Source(NamedTuple):
    """A file of csrc/, and what it defines."""

    path: Path
    module: str
    code: str  # without comments, literals and directives
    functions: List[csource.Function]


def definitions(sources: List[Source]) -> Dict[str, str]:
    """The module of every function that more than one file can name."""
    return {
        function.name: source.module
        for source in sources
        for function in source.functions
        if source.path.suffix == ".h" or not function.is_static
    }


def check_calls(sources: List[Source]) -> Iterator[Tuple[Path, int, str]]:
    """Every mention of another module's function: a call, or a pointer that is installed."""
    home = definitions(sources)
    for source in sources:
        local = {function.name for function in source.functions if function.is_static}
        bodies = csource.bodies(source.code)
        for match in re.finditer(r"\b\w+\b", bodies):
            target = home.get(match.group(), source.module)
            if target in COMMON | {source.module} or match.group() in local:
                continue
            reason = why_not(source.module, target)
            if reason:
                number = bodies.count("\n", 0, match.start()) + 1
                yield source.path, number, f"{match.group()} of {target}.c {reason}"


def check_order(sources: List[Source]) -> Iterator[Tuple[Path, int, str]]:
    """A file defines the functions of its header in the order of the header."""
    headers = {source.path.stem: source for source in sources if source.path.suffix == ".h"}
    for source in sources:
        if source.path.suffix != ".c" or source.path.stem != source.module:
            continue
        header = headers.get(source.module)
        if header is None:
            yield source.path, 1, f"has no {source.module}.h"
            continue
        declared = [m.group(1) for m in PROTOTYPE.finditer(header.code)]
        last = -1
        for function in source.functions:
            if function.is_static or function.name not in declared:
                continue
            position = declared.index(function.name)
            if position < last:
                reason = f"{function.name} comes after {declared[last]}, unlike in the header"
                yield source.path, function.first, reason
            last = max(last, position)


def check_names(sources: List[Source]) -> Iterator[Tuple[Path, int, str]]:
    """File-local names of one .c file that another one defines, too."""
    seen: Dict[str, Path] = {}
    for source in sources:
        if source.path.suffix != ".c" or source.path.stem in STANDS_FOR:
            continue
        names = [(f.name, f.first) for f in source.functions if f.is_static]
        names += [(name, number) for name, number in csource.file_scope_names(source.code)]
        for name, number in names:
            other = seen.setdefault(name, source.path)
            if other != source.path:
                yield source.path, number, f"{name} is defined in {other.name}, too"


def check(root: Path) -> List[str]:
    """All violations under root, as lines of text."""
    paths = sorted(p for p in (root / "csrc").rglob("*") if p.suffix in (".c", ".h"))
    if not paths:
        return ["csrc: no C sources found"]
    found = [(path, number, reason) for path in paths for number, reason in check_file(path)]
    sources = [
        Source(path, module_of(path), csource.declarations(text), csource.functions(text))
        for path in paths
        for text in [csource.read(path)]
        if module_of(path) in LAYERS
    ]
    found += [*check_calls(sources), *check_order(sources), *check_names(sources)]
    return [f"{path.relative_to(root)}:{number}: {reason}" for path, number, reason in found]


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the layer map of csrc/.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    violations = check(parser.parse_args().root)
    for line in violations:
        print(line)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
