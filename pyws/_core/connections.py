# SPDX-License-Identifier: MIT
"""The open connections of an app, as `App.connections` and `App.find` give them."""

from __future__ import annotations

import weakref
from typing import Any, Collection, Iterator

from .._native import lib
from . import calls
from .encryption import TlsInfo
from .facts import tls_info
from .runtime import Runtime
from .sockets import Socket, conn_of, runtime_of, sockets

__all__ = ["Connections", "find", "tls_of"]

_MOST = 2**64  # ids are less than this


class Connections(Collection[Any]):
    """The open WebSocket connections of an app in this process: a view, which is always current.

    It has a length and can be iterated over. An iteration visits the connections that were open at
    its beginning and still are, so that sockets may open and close meanwhile.
    """

    __slots__ = ("_runtime",)

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime

    def __len__(self) -> int:
        self._runtime.check_server()
        return calls.counts(self._runtime.server).numbers["open"]

    def __iter__(self) -> Iterator[Any]:
        self._runtime.check_server()
        return self._open_ones(list(sockets.values()))

    def _open_ones(self, known: list[Any]) -> Iterator[Any]:
        for ws in known:
            if conn_of(ws) and runtime_of(ws) is self._runtime:
                yield ws

    def __contains__(self, ws: object) -> bool:
        return any(ws is one for one in self)

    def __repr__(self) -> str:
        return f"<Connections: {len(self)} open>"


def find(runtime: Runtime, number: int) -> Any:
    """The open connection with this id, or None."""
    if not 0 < number < _MOST:
        return None
    conn = lib.ws_server_find(runtime.server, number)
    return sockets.get(conn) if conn else None


_tls: weakref.WeakKeyDictionary[Socket, TlsInfo] = weakref.WeakKeyDictionary()


def tls_of(ws: Socket) -> TlsInfo | None:
    """What is known of the TLS of a socket; once it has closed, only if it was asked for before."""
    found, conn = _tls.get(ws), conn_of(ws)
    if found is None and conn:
        found = tls_info(lib.ws_conn_tls(conn))
        if found is not None:
            _tls[ws] = found
    return found
