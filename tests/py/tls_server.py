# SPDX-License-Identifier: MIT
"""Servers that speak TLS, for tests: each runs in a thread of its own."""

import threading
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
from authority import localhost
from common import TIMEOUT
from peer import eventually, frame
from tls_clients import opened, tls_peer

from pyws import App, AppOptions, Request, Response, TlsInfo, WebSocket
from pyws._core import openssl

CONTEXTS = not openssl.find().hidden
with_contexts = pytest.mark.skipif(not CONTEXTS, reason="this Python hides its OpenSSL")


class Secure:
    """A server with one port that speaks TLS, in a thread of its own.

    It echoes messages, "close" ends a socket, and it keeps what its handlers have seen.
    """

    def __init__(self, options: Optional[AppOptions] = None, **tls: Any) -> None:
        app = App(options)
        app.listen(0, host="127.0.0.1", **(tls or files()))
        self.begin(app)

    def begin(self, app: App) -> None:
        """Run an app that listens already."""
        self.infos: List[Optional[TlsInfo]] = []  # of sockets
        self.asked: List[Optional[TlsInfo]] = []  # of requests
        self.closed: List[Tuple[int, str]] = []
        self.sockets: List[WebSocket] = []
        self.error: Optional[BaseException] = None
        self.app, self.port = app, app.port
        self.app.get("/scheme", self._scheme)
        self.app.ws("/*", open=self._open, message=self._message, close=self._close)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.app.run()
        except BaseException as error:
            self.error = error

    def _scheme(self, res: Response, req: Request) -> None:
        self.asked.append(req.tls)
        res.send([req.scheme, req.tls is not None])

    def _open(self, ws: WebSocket) -> None:
        self.infos.append(ws.tls)
        self.sockets.append(ws)
        ws.user_data = ws.scheme

    def _message(self, ws: WebSocket, message: Any, opcode: Any) -> None:
        if message == "close":
            ws.end(1000, "bye")
        else:
            ws.send(message, opcode)

    def _close(self, ws: WebSocket, code: int, reason: str) -> None:
        self.closed.append((code, reason))

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """What ``fn(*args)`` returns or raises in the thread of the server."""
        results: List[Any] = []

        def run() -> None:
            try:
                results.append((fn(*args), None))
            except BaseException as error:
                results.append((None, error))

        self.app.defer(run)
        eventually(lambda: results)
        if results[0][1] is not None:
            raise results[0][1]
        return results[0][0]

    def check(self) -> None:
        """It still serves."""
        with opened(tls_peer(self.port)) as peer:
            peer.send(frame(b"still there"))
            assert peer.frame().payload == b"still there"

    def stop(self) -> None:
        try:
            self.app.defer(self.app.close, 1001, "", 0.5)
        except RuntimeError:
            pass
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive()
        assert self.error is None


def files() -> Dict[str, Any]:
    cert_file, key_file = localhost()
    return {"cert_file": cert_file, "key_file": key_file}
