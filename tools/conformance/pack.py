# SPDX-License-Identifier: MIT
"""Pack the runner into one file: ``python tools/conformance pack conformance.pyz``.

The file is a zip archive that Python runs directly, like those of `zipapp`: `python
conformance.pyz --help`. It needs neither an installation nor the checkout. The same sources make
the same bytes on every machine and with every Python: all entries have the same time, and they are
not compressed, because the output of compression depends on the version of zlib.
"""

from __future__ import annotations

import argparse
import io
import os
import zipfile
from pathlib import Path
from typing import Sequence

HERE = Path(__file__).resolve().parent
PACKAGE = "pyws_conformance"
LEFT_OUT = ("compare.py",)  # needs the checkout
EPOCH = (1980, 1, 1, 0, 0, 0)  # the oldest time that an archive can hold
MAIN = f"""\
import sys

if sys.version_info < (3, 8):
    sys.exit("pyws-conformance needs Python 3.8 or later, this is %d.%d" % sys.version_info[:2])

from {PACKAGE}.cli import main

sys.exit(main())
"""


def sources() -> dict[str, bytes]:
    """Return the contents of the archive by file name."""
    paths = [
        path
        for pattern in ("*.py", "cases/*.py", "*.html", "*.json")
        for path in HERE.glob(pattern)
        if path.name not in LEFT_OUT
    ]
    found = {f"{PACKAGE}/{path.relative_to(HERE).as_posix()}": path.read_bytes() for path in paths}
    return {**found, "__main__.py": MAIN.encode()}


def packed() -> bytes:
    """Return the archive."""
    stream = io.BytesIO()
    stream.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(sources().items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3  # always Unix, wherever this runs
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return stream.getvalue()


def main(name: str, argv: Sequence[str]) -> int:
    """Write the archive and return the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"{name} pack",
        description="Write the runner as a single file that needs only Python 3.8 or later.",
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="for example conformance.pyz")
    args = parser.parse_args(argv)
    if not HERE.is_dir():
        parser.error("this is already a packed file: copy it")
    try:
        args.file.write_bytes(packed())
        os.chmod(args.file, 0o755)
    except OSError as error:
        parser.error(str(error))
    return 0
