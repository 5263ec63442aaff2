"""What all tests share: where the project is, and how long they wait."""

import os
from pathlib import Path
from typing import Dict

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 20.0  # seconds; generous, as only a failing test waits that long


def without_sanitizer() -> Dict[str, str]:
    """The environment for other programs: the runtime of a sanitizer is for Python alone."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def show_figures(what: str, sent: int, delivered: int, lost: int) -> None:
    """Print a row of the table in docs/reliability.md (pytest -s)."""
    print(f"\n| {what} | {sent} | {delivered} | {lost} |")
