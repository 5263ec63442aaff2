#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Make two files of csrc/: pyws.h, the whole interface, and pyws.c, the whole library.

    python3 tools/amalgamate.py [--output DIR]

They are for programs that take the library along: `cc -c pyws.c`, with -DWS_NO_DEFLATE where there
is no zlib, is all that it takes. Files come in the order of the layers, as tools/check_layers.py
has them, which also makes sure that no name of one file clashes with that of another. Each file
keeps its comments and is introduced by its name, and #line is not used: error messages speak of the
two files.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path
from typing import Iterable

import check_layers
import csource

INTERFACE = ("ws.h", "ws_http.h", "ws_cluster.h", "ws_tls.h", "ws_openssl.h", "ws_mbedtls.h")
LEFT_OUT = {"bridge", "bridge_http"}  # they are for Python
# What begins with this is compiled only if that is defined.
OPTIONAL = {
    "tls_names": "WS_TLS_OPENSSL",
    "tls_openssl": "WS_TLS_OPENSSL",
    "tls_mbedtls": "WS_TLS_MBEDTLS",
}
LICENSE_LINE = re.compile(r"^/\* SPDX-\S+ MIT \*/\n")
INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*"([^"]+)"[^\n]*\n', re.MULTILINE)
# In one file, clang warns of functions of headers that nothing calls, as some are without a part.
CLANG = """#ifdef __clang__
#pragma clang diagnostic ignored "-Wunused-function"
#endif
"""
BEGIN = """/* SPDX-License-Identifier: MIT */
/*
 * {name}: pyws {version} in one file, made by tools/amalgamate.py: do not edit. {what}
 * https://pypi.org/project/pyws-server/
 *
{license}
 */
"""


def read(csrc: Path, name: str, taken: set[str]) -> str:
    """Return a file with each header that it includes in the place of the first include.

    The head of the whole names the license once.
    """
    taken.add(name)

    def replace(match: re.Match[str]) -> str:
        included = match.group(1)
        return "" if included in taken else read(csrc, included, taken)

    text = LICENSE_LINE.sub("", csource.read(csrc / name))
    text = INCLUDE.sub(replace, text)
    text = f"/* ======== {name} ======== */\n\n{text}\n"
    needed = OPTIONAL.get(check_layers.module_of(Path(name)))
    if needed and name not in INTERFACE:
        text = f"#ifdef {needed}\n{text}#endif\n\n"
    return text


def sources(csrc: Path) -> list[str]:
    """Return the names of the C files, those of the lowest layer first."""
    order = [module for layer in check_layers.LAYER_MAP for module in ordered(layer)]
    files = {path.stem for path in csrc.glob("*.c")} - LEFT_OUT

    def place(stem: str) -> tuple[int, str]:
        return order.index(check_layers.module_of(Path(stem))), stem

    return [f"{stem}.c" for stem in sorted(files, key=place)]


def ordered(layer: Iterable[str]) -> list[str]:
    return layer if isinstance(layer, list) else sorted(layer)


def head(root: Path, name: str, what: str) -> str:
    header = csource.read(root / "csrc" / "ws.h")
    version = re.search(r'#define WS_VERSION "([^"]+)"', header)
    assert version is not None
    license_lines = (root / "LICENSE").read_text(encoding="utf-8").splitlines()
    quoted = "\n".join(f" * {line}".rstrip() for line in license_lines)
    return BEGIN.format(name=name, version=version.group(1), what=what, license=quoted)


def amalgamate(root: Path) -> dict[str, str]:
    """Return the text of each file."""
    csrc = root / "csrc"
    taken: set[str] = set()
    interface = "".join(read(csrc, name, taken) for name in INTERFACE if name not in taken)
    begin = "".join(
        f"#ifndef {name}\n#define {name}\n#endif\n" for name in ("_GNU_SOURCE", "WS_BUILDING")
    )
    library = "".join(read(csrc, name, taken) for name in sources(csrc))
    return {
        "pyws.h": head(root, "pyws.h", "The interface.") + interface,
        "pyws.c": head(root, "pyws.c", "The library.")
        + f'\n{begin}{CLANG}#include "pyws.h"\n'
        + library,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description="Make pyws.c and pyws.h.")
    parser.add_argument("--output", type=Path, default=Path(), help="folder (the present one)")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    for name, text in amalgamate(Path(__file__).resolve().parent.parent).items():
        (options.output / name).write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
