# SPDX-License-Identifier: MIT
"""What pyws writes to the log, and how: the loggers `pyws`, `pyws.server` and `pyws.access`.

Text from a peer (paths, reasons) is escaped here, so that it cannot forge a line.
"""

from __future__ import annotations

import logging
import sys
import time
from contextlib import suppress
from types import TracebackType
from typing import Any

from .._native import lib
from . import mistakes
from .calls import copied_bytes, short_text

__all__ = [
    "Traffic",
    "complain",
    "escaped",
    "log_failure",
    "logger",
    "peer_name",
    "phrase",
    "server_logger",
]

logger = logging.getLogger("pyws")
server_logger = logging.getLogger("pyws.server")
access_logger = logging.getLogger("pyws.access")

_LONGEST = 200  # characters of a path in a line

# Modules that call handlers: their frames at the start of a traceback say nothing about a failure.
# The last one is where PyPy has Context.run.
_CALLERS = (f"{__package__}.", "pyws.app", "_contextvars")


def log_failure(what: str, error: BaseException, handler: Any, facts: dict[str, Any]) -> None:
    """Log an exception.

    Args:
        what: What failed, such as "the message handler".
        error: The exception; its traceback is cut to begin at the handler.
        handler: The function that raised it, or None.
        facts: What it was about (route, socket, peer); attributes of the log record.
    """
    traceback = error.__traceback__ = _from_handler_on(error.__traceback__)
    defined = ""
    if traceback is None and handler is not None:  # it did not get as far as the handler
        defined = f", {mistakes.location(handler)}"
    where = f" of {facts['route']}" if facts.get("route") else ""
    whom = f", socket {facts['socket']}" if facts.get("socket") else ""
    peer = f" from {facts['peer']}" if facts.get("peer") else ""
    logger.error(
        "exception in %s%s%s%s%s%s", what, where, whom, peer, defined, mistakes.advice(error),
        exc_info=(type(error), error, traceback), extra=facts,  # PyPy may restore the attribute
    )  # fmt: skip


def _from_handler_on(traceback: TracebackType | None) -> TracebackType | None:
    while traceback is not None:
        if not str(traceback.tb_frame.f_globals.get("__name__")).startswith(_CALLERS):
            break
        traceback = traceback.tb_next
    return traceback


def complain(error: BaseException) -> None:
    """Say on stderr that the log does not work."""
    with suppress(Exception):
        sys.stderr.write(f"pyws: logging failed: {error!r}\n")


class Traffic:
    """Writes log lines of connections and responses; there is none while they are not wanted."""

    def __init__(self, access: bool) -> None:
        """
        Args:
            access: Lines of `pyws.access` are wanted, if its level allows them.
        """
        self._debug = server_logger.isEnabledFor(logging.DEBUG)
        self._access = access and access_logger.isEnabledFor(logging.INFO)
        self._opened: dict[int, float] = {}  # id of a socket -> time

    def __bool__(self) -> bool:
        return self._debug or self._access

    def opened(self, socket: int, path: str, facts: dict[str, Any]) -> None:
        """The opening handshake of the socket with this id is over."""
        self._opened[socket] = time.monotonic()
        if self._debug:
            server_logger.debug("opened %s %s", facts["peer"], escaped(path), extra=facts)

    def closed(self, socket: int, path: str, facts: dict[str, Any], code: int, reason: str) -> None:
        """The close event of the socket with this id has come."""
        duration = time.monotonic() - self._opened.pop(socket, time.monotonic())
        facts = {**facts, "path": path, "code": code, "reason": reason, "duration": duration}
        peer, path = facts["peer"], escaped(path)
        if self._debug:
            line = 'closed %s %s %d "%s" after %.3f s'
            server_logger.debug(line, peer, path, code, escaped(reason), duration, extra=facts)
        if self._access:
            facts["status"] = 101
            access_logger.info('%s "GET %s" 101 %d %.3f', peer, path, code, duration, extra=facts)

    def answered(self, request: int, status: int, length: int, why: str | None) -> None:
        """A response was sent; `why` is the reason if the library itself refused the request."""
        address = short_text(lib.ws_request_remote_address, request)
        peer = peer_name(address, lib.ws_request_remote_port(request))
        method, path = (
            (copied_bytes(function, request) or b"-").decode("latin-1")
            for function in (lib.ws_request_method, lib.ws_request_path)
        )
        facts = {"peer": peer, "method": method, "path": path, "status": status, "size": length}
        if self._debug and (why is not None or lib.ws_request_is_upgrade(request)):
            reason = why or phrase(status)
            what = f"{status} {reason}".rstrip()
            more = {**facts, "reason": reason}
            server_logger.debug("refused %s %s: %s", peer, escaped(path), what, extra=more)
        if self._access:
            line = '%s "%s %s" %d %d'
            access_logger.info(
                line, peer, escaped(method), escaped(path), status, length, extra=facts
            )


# Python has those of older standards before version 3.13.
_PHRASES = {
    413: "Content Too Large",
    414: "URI Too Long",
    416: "Range Not Satisfiable",
    422: "Unprocessable Content",
}


def phrase(status: int) -> str:
    """The words of RFC 9110 for an HTTP status; "" if it has none."""
    from http import HTTPStatus

    if status in _PHRASES:
        return _PHRASES[status]
    with suppress(ValueError):
        return HTTPStatus(status).phrase
    return ""


def escaped(chosen: str) -> str:
    """Text from a peer in printable ASCII without quotation marks, cut where it is too long."""
    if len(chosen) > _LONGEST:
        chosen = chosen[:_LONGEST] + "..."
    return chosen.encode("unicode_escape").decode().replace('"', '\\"')


def peer_name(address: str, port: int) -> str:
    """A peer as log lines show it: "127.0.0.1:50000", "[2001:db8::1]:50000", "unix:"."""
    if not address:
        return "unix:"  # one word, as in the logs of nginx
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"
