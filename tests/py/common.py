"""What all tests share: where the project is, and how long they wait."""

from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TIMEOUT = 20.0  # seconds; generous, as only a failing test waits that long


def show_figures(what: str, sent: int, delivered: int, lost: int) -> None:
    """Print a row of the table in docs/reliability.md (pytest -s)."""
    print(f"\n| {what} | {sent} | {delivered} | {lost} |")
