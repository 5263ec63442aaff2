# SPDX-License-Identifier: MIT
"""Servers for the tests: each runs in a thread of its own, on a port that the kernel picks."""

import logging
import os
import signal
import ssl
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from common import ROOT, TIMEOUT, TLS
from peer import secure_ports
from tls_socket import SharedSocket

sys.path.insert(0, str(ROOT))

from pyws import App, AppOptions

# A shell starts its background jobs with SIGINT ignored, which the programs of the tests would
# inherit: Python and asyncio leave it ignored then.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

ssl.SSLContext.sslsocket_class = SharedSocket

# On a busy machine, any loop may wait for a processor for a second, which servers log.
logging.getLogger("pyws").addFilter(
    lambda record: not record.getMessage().startswith("loop blocked for")
)


def tls_options() -> Dict[str, Any]:
    """What `listen` is given for TLS; nothing without PYWS_TEST_TLS=1."""
    if not TLS:
        return {}
    from authority import authority, localhost

    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS"):
        os.environ[name] = authority().cert  # clients trust it
    cert_file, key_file = localhost()
    return {"cert_file": cert_file, "key_file": key_file}


class Server:
    """An App and the thread that runs it."""

    def __init__(self, configure: Callable[[App], Any], options: Optional[AppOptions]) -> None:
        self.error: Optional[BaseException] = None
        self.port = 0
        self.app = App(options)
        configure(self.app)
        self.app.listen(0, self._listening, host="127.0.0.1", **tls_options())
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _listening(self, place: Any) -> None:
        self.port = place.port
        if TLS:
            secure_ports.add(self.port)

    def _run(self) -> None:
        try:
            self.app.run()
        except BaseException as error:
            self.error = error

    @property
    def url(self) -> str:
        return f"{'wss' if TLS else 'ws'}://127.0.0.1:{self.port}"

    def call(self, fn: Callable[..., Any], *args: Any) -> Any:
        """What ``fn(*args)`` returns in the server's thread."""
        done = threading.Event()
        results: List[Tuple[Any, Optional[Exception]]] = []

        def run() -> None:
            try:
                results.append((fn(*args), None))
            except Exception as error:
                results.append((None, error))
            done.set()

        self.app.defer(run)
        assert done.wait(TIMEOUT), "the server's thread does not answer"
        result, error = results[0]
        if error is not None:
            raise error
        return result

    def join(self) -> None:
        self.thread.join(TIMEOUT)
        assert not self.thread.is_alive(), "run() does not return"

    def stop(self) -> None:
        secure_ports.discard(self.port)
        if self.thread.is_alive():
            try:
                self.app.defer(self.app.close, 1001, "server shutting down", 0.5)
            except RuntimeError:
                pass  # it ended meanwhile
            self.join()


@pytest.fixture
def serve() -> Iterator[Callable[..., Server]]:
    """``serve({...})``, ``serve(message=...)`` or ``serve(configure)`` starts a Server."""
    servers: List[Server] = []

    def start(
        what: Any = None,
        app_options: Optional[AppOptions] = None,
        pattern: str = "/*",
        **behavior: Any,
    ) -> Server:
        def configure(app: App) -> None:
            app.ws(pattern, what, **behavior)

        servers.append(Server(what if callable(what) else configure, app_options))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture
def secure() -> Iterator[Callable[..., Any]]:
    """``secure(cert_file=...)`` starts a tls_server.Secure, which has a certificate by itself."""
    from tls_server import Secure

    servers: List[Secure] = []

    def start(options: Optional[AppOptions] = None, **tls: Any) -> Secure:
        servers.append(Secure(options, **tls))
        return servers[-1]

    yield start
    for server in servers:
        server.stop()


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, Dict[str, Any]], Any]:
    """``node(script, arguments)`` runs a script of Node that may use the package ws."""
    from node_ws import Node

    return Node(tmp_path_factory)


@pytest.fixture
def balance() -> Iterator[Dict[str, int]]:
    """Counts that a test may keep of opens and closes; they must agree at its end (T68)."""
    counts = {"open": 0, "close": 0}
    yield counts
    assert counts["open"] == counts["close"]


@pytest.fixture
def read_by_h11(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Has h11, where it is installed, read every response that a peer.Peer receives."""
    try:
        from responses import watching
    except ImportError:
        yield
        return
    with watching(monkeypatch):
        yield


@pytest.fixture
def reports(tmp_path: Path) -> Any:
    """The reports of a run of the conformance runner, which only its tests import."""
    from conformance_peers import Reports

    return Reports(tmp_path)
