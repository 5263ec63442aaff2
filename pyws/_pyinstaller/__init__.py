# SPDX-License-Identifier: MIT
"""What PyInstaller must know about pyws; it finds this package by the entry point `hook-dirs`."""

from __future__ import annotations

import os

__all__ = ["hook_dirs"]


def hook_dirs() -> list[str]:
    """Return the folder of the hook files."""
    return [os.path.dirname(os.path.abspath(__file__))]
