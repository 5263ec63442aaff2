# SPDX-License-Identifier: MIT
"""What all tests share: where the project is, and how long they wait."""

import os
from pathlib import Path
from typing import Dict

import pytest

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 20.0  # seconds; generous, as only a failing test waits that long

# With PYWS_TEST_TLS=1 the servers of the fixture `serve` and of worker_programs.py speak TLS, and
# so does peer.Peer.
TLS = os.environ.get("PYWS_TEST_TLS") == "1"
HTTP, WS = ("https", "wss") if TLS else ("http", "ws")
TLS_MEMORY = 400 * 1024 if TLS else 0  # bytes that a server needs once for all connections


def plain_only(reason: str) -> pytest.MarkDecorator:
    """Marks tests that make no sense over TLS, and says why."""
    return pytest.mark.skipif(TLS, reason=f"not over TLS: {reason}")


def without_sanitizer() -> Dict[str, str]:
    """The environment for other programs: the runtime of a sanitizer is for Python alone."""
    return {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}


def show_figures(what: str, sent: int, delivered: int, lost: int) -> None:
    """Print a row of the table in docs/reliability.md (pytest -s)."""
    print(f"\n| {what} | {sent} | {delivered} | {lost} |")
