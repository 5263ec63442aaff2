# SPDX-License-Identifier: MIT
"""``python tools/conformance`` from a checkout, ``python -m pyws_conformance`` once installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def package() -> str:
    """Return the name of this package; a folder run as a program becomes a package first."""
    if __package__:
        return __package__
    folder = Path(__file__).resolve().parent
    # Replace the folder itself: its modules must be imported only through the package.
    sys.path[0] = str(folder.parent)
    return folder.name


if __name__ == "__main__":
    sys.exit(importlib.import_module(f"{package()}.cli").main())
