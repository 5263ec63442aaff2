"""What pyws writes to the log, and how: the loggers `pyws`, `pyws.server` and `pyws.access`.

What a peer has chosen (paths, reasons) is escaped here, so that it cannot forge a line.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from . import mistakes

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["log_failure", "logger"]

logger = logging.getLogger("pyws")

# Modules that call handlers: their frames at the start of a traceback say nothing about a failure.
_CALLERS = frozenset(("aio", "app", "events", "mistakes", "timers"))


def log_failure(what: str, error: BaseException, handler: Any, facts: dict[str, Any]) -> None:
    """`handler` has raised `error`; `facts` (route, socket, peer) are attributes of the record."""
    error.__traceback__ = _from_handler_on(error.__traceback__)
    place = ""
    if error.__traceback__ is None and handler is not None:  # it did not get as far as the handler
        place = f", {mistakes.location(handler)}"
    where = f" of {facts['route']}" if facts.get("route") else ""
    whom = f", socket {facts['socket']}" if facts.get("socket") else ""
    peer = f" from {facts['peer']}" if facts.get("peer") else ""
    logger.error(
        "exception in %s%s%s%s%s%s", what, where, whom, peer, place, mistakes.advice(error),
        exc_info=error, extra=facts,
    )  # fmt: skip


def _from_handler_on(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None:
        package, _, module = traceback.tb_frame.f_globals.get("__name__", "").rpartition(".")
        if package != __package__ or module not in _CALLERS:
            break
        traceback = traceback.tb_next
    return traceback


def peer_name(address: str, port: int) -> str:
    """A peer as log lines show it: "127.0.0.1:50000", "[2001:db8::1]:50000"."""
    if not address:
        return "a Unix socket"
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
