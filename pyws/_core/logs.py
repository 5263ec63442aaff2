"""What pyws writes to the log, and how: the loggers `pyws`, `pyws.server` and `pyws.access`.

What a peer has chosen (paths, reasons) is escaped here, so that it cannot forge a line.
"""

from __future__ import annotations

import logging
import time
from typing import TYPE_CHECKING, Any

from .._native import lib
from . import mistakes
from .calls import short_text, text

if TYPE_CHECKING:
    from types import TracebackType

    from ..websocket import WebSocket

__all__ = ["Traffic", "log_failure", "logger", "server_logger"]

logger = logging.getLogger("pyws")
server_logger = logging.getLogger("pyws.server")
access_logger = logging.getLogger("pyws.access")

_LONGEST = 200  # characters of a path in a line

# Modules that call handlers: their frames at the start of a traceback say nothing about a failure.
_CALLERS = frozenset(
    f"{__package__}.{module}" for module in ("aio", "callbacks", "contexts", "mistakes", "timers")
) | {"pyws.app", "_contextvars"}  # the latter is where PyPy has Context.run


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
        if traceback.tb_frame.f_globals.get("__name__") not in _CALLERS:
            break
        traceback = traceback.tb_next
    return traceback


class Traffic:
    """Log lines of connections and responses, made only while they are wanted."""

    def __init__(self, access: bool) -> None:
        self._debug = server_logger.isEnabledFor(logging.DEBUG)
        self._access = access and access_logger.isEnabledFor(logging.INFO)
        self._opened: dict[int, float] = {}  # id of a socket -> time

    def __bool__(self) -> bool:
        return self._debug or self._access

    def opened(self, ws: WebSocket) -> None:
        """The opening handshake is over."""
        self._opened[ws.id] = time.monotonic()
        if self._debug:
            facts = ws._facts()
            server_logger.debug("opened %s %s", facts["peer"], escaped(ws.path), extra=facts)

    def closed(self, ws: WebSocket, code: int, reason: str) -> None:
        """The close event has come."""
        duration = time.monotonic() - self._opened.pop(ws.id, time.monotonic())
        facts = {**ws._facts(), "path": ws.path, "code": code, "duration": duration}
        peer, path = facts["peer"], escaped(ws.path)
        if self._debug:
            line = 'closed %s %s %d "%s" after %.3f s'
            server_logger.debug(line, peer, path, code, escaped(reason), duration, extra=facts)
        if self._access:
            facts["status"] = 101
            access_logger.info('%s "GET %s" 101 %d %.3f', peer, path, code, duration, extra=facts)

    def answered(self, request: int, status: int, length: int, why: str | None) -> None:
        """A response was sent; `why`: by the library itself."""
        address = short_text(lib.ws_request_remote_address, request)
        peer = peer_name(address, lib.ws_request_remote_port(request))
        method, path = (
            (text(function, request) or b"-").decode("latin-1")
            for function in (lib.ws_request_method, lib.ws_request_path)
        )
        facts = {"peer": peer, "method": method, "path": path, "status": status, "size": length}
        if self._debug and (why is not None or lib.ws_request_is_upgrade(request)):
            what = f"{status} {why or ''}".rstrip()
            server_logger.debug("refused %s %s: %s", peer, escaped(path), what, extra=facts)
        if self._access:
            line = '%s "%s %s" %d %d'
            access_logger.info(
                line, peer, escaped(method), escaped(path), status, length, extra=facts
            )


def escaped(chosen: str) -> str:
    """What a peer has chosen, in printable ASCII without quotation marks, and not too long."""
    if len(chosen) > _LONGEST:
        chosen = chosen[:_LONGEST] + "..."
    return chosen.encode("unicode_escape").decode().replace('"', '\\"')


def peer_name(address: str, port: int) -> str:
    """A peer as log lines show it: "127.0.0.1:50000", "[2001:db8::1]:50000", "unix:"."""
    if not address:
        return "unix:"  # one word, as in the logs of nginx
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
