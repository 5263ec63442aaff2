"""``python tools/conformance`` from a checkout, ``python -m pyws_conformance`` once installed."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path


def package() -> str:
    """The name of this package; a folder that is run as a program is made one first."""
    if __package__:
        return __package__
    folder = Path(__file__).resolve().parent
    # Not the folder itself: its modules are found through the package alone.
    sys.path[0] = str(folder.parent)
    return folder.name


if __name__ == "__main__":
    sys.exit(importlib.import_module(f"{package()}.cli").main())
