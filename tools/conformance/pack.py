"""The runner as one file: ``python tools/conformance pack conformance.pyz``.

The file is a zip archive that Python runs by itself, as those of `zipapp` are: `python
conformance.pyz --help`. Nothing has to be installed, and nothing of the checkout is needed. The
same sources make the same bytes, on every machine and with every Python: entries have no time of
their own, and are not compressed, as compression differs from one zlib to the next.
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
    """What goes in, by its name in the archive."""
    paths = [
        path
        for pattern in ("*.py", "cases/*.py", "*.html", "*.json")
        for path in HERE.glob(pattern)
        if path.name not in LEFT_OUT
    ]
    found = {f"{PACKAGE}/{path.relative_to(HERE).as_posix()}": path.read_bytes() for path in paths}
    return {**found, "__main__.py": MAIN.encode()}


def packed() -> bytes:
    """The archive."""
    stream = io.BytesIO()
    stream.write(b"#!/usr/bin/env python3\n")
    with zipfile.ZipFile(stream, "a", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(sources().items()):
            entry = zipfile.ZipInfo(name, EPOCH)
            entry.create_system = 3  # Unix, wherever this runs
            entry.external_attr = 0o100644 << 16
            archive.writestr(entry, data)
    return stream.getvalue()


def main(name: str, argv: Sequence[str]) -> int:
    """Write the archive; the exit status."""
    parser = argparse.ArgumentParser(
        prog=f"{name} pack",
        description="Write the runner as one file, which needs Python 3.8 and nothing else.",
        allow_abbrev=False,
    )
    parser.add_argument("file", type=Path, metavar="FILE", help="such as conformance.pyz")
    args = parser.parse_args(argv)
    if not HERE.is_dir():
        parser.error("this is a packed file already: copy it")
    try:
        args.file.write_bytes(packed())
        os.chmod(args.file, 0o755)
    except OSError as error:
        parser.error(str(error))
    return 0
