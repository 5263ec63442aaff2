# SPDX-License-Identifier: MIT
"""A server by the functions of ws_http.h, whose handlers read the body of each request, or not.

It takes its turns in the thread of the test, between the parts of what a client sends, so that the
parts arrive one by one without waiting.
"""

from __future__ import annotations

import ctypes
import re
import socket
import threading
from contextlib import contextmanager
from typing import Callable, Dict, Iterator, List, Sequence, Tuple

from pyws import _native
from pyws._native import lib

KINDS = ("read", "unread", "early")
"""Handlers that read the body before they answer, that do not read it, and that answer when its
first piece has come, be it the last."""
ANY_METHOD = b"*"
_VARIES = re.compile(rb"HTTP/1.1 100 Continue\r\n\r\n|Date: [^\r]*\r\n")


class CServer:
    """A 200 says what the handler saw: the method, the target and, of the kind "read", the content.

    A path of two segments gets a 404, and /ws is for WebSocket.
    """

    def __init__(self, kind: str, **config: int) -> None:
        """`config`: values for the fields of ws_config."""
        self.kind = kind
        self.seen: List[Tuple[str, str]] = []
        """Method and target of every request that had a handler."""
        self._contents: Dict[int, bytes] = {}
        self._callbacks = (
            _native.request_function(self._on_request),
            _native.body_function(self._on_body),
            _native.request_function(self._on_aborted),
        )
        settings = _native.ws_config()
        lib.ws_config_init(ctypes.byref(settings), ctypes.sizeof(settings))
        for name, value in config.items():
            setattr(settings, name, value)
        self._server = ctypes.c_void_p()
        lib.ws_server_new(ctypes.byref(self._server), ctypes.byref(settings))
        for pattern in (b"/", b"/:one"):
            lib.ws_server_http(self._server, ANY_METHOD, pattern, self._callbacks[0], None)
        behavior = _native.ws_behavior()
        lib.ws_behavior_init(ctypes.byref(behavior), ctypes.sizeof(behavior))
        lib.ws_server_ws(self._server, b"/ws", ctypes.byref(behavior))
        options = _native.ws_listen_options()
        lib.ws_listen_options_init(ctypes.byref(options), ctypes.sizeof(options))
        options.host = b"127.0.0.1"
        self.port: int = lib.ws_server_listen(self._server, ctypes.byref(options))

    def __enter__(self) -> CServer:
        return self

    def __exit__(self, *error: object) -> None:
        lib.ws_server_free(self._server)

    def turn(self, count: int = 1) -> None:
        for _ in range(count):
            lib.ws_server_step(self._server, 0)

    @contextmanager
    def running(self) -> Iterator[None]:
        """In a thread of its own, for peers that need time."""
        over = threading.Event()

        def run() -> None:
            while not over.is_set():
                lib.ws_server_step(self._server, 10)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()

    def exchange(self, parts: Sequence[bytes]) -> Tuple[bytes, bool]:
        """What comes back when these are sent, with a turn after each, and whether the server ends
        the connection."""
        return exchange(self.port, parts, self.turn)

    # ---- handlers ----

    def _on_request(self, request: int, user: object) -> None:
        self.seen.append((self._text(request, "method"), self._text(request, "target")))
        if self.kind == "unread":
            self._answer(request, b"")
            return
        self._contents[request] = b""
        lib.ws_request_defer(request, self._callbacks[2], None)
        lib.ws_request_read_body(request, 1 << 20, self._callbacks[1], None)

    def _on_body(self, request: int, data: object, length: int, last: bool, user: object) -> None:
        self._contents[request] += ctypes.string_at(data, length)  # type: ignore[arg-type]
        if last or self.kind == "early":
            content = self._contents.pop(request)
            self._answer(request, b" " + content if self.kind == "read" else b"")

    def _on_aborted(self, request: int, user: object) -> None:
        del self._contents[request]

    def _answer(self, request: int, more: bytes) -> None:
        target = self._text(request, "target")
        text = f"{self._text(request, 'method')} {target}".encode() + more
        lib.ws_request_respond(request, 200, None, text, len(text))

    def _text(self, request: int, what: str) -> str:
        length = ctypes.c_size_t()
        at = getattr(lib, f"ws_request_{what}")(request, ctypes.byref(length))
        return ctypes.string_at(at, length.value).decode("latin-1")


def exchange(port: int, parts: Sequence[bytes], turn: Callable[[], object]) -> Tuple[bytes, bool]:
    """What comes back from a server when these are sent, and whether it ends the connection.

    `turn` has the server handle what has arrived.
    """
    received = b""
    with socket.create_connection(("127.0.0.1", port)) as client:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        turn()
        for part in parts:
            try:
                client.sendall(part)
            except ConnectionError:
                break  # it has ended the connection
            turn()
        turn()
        turn()
        client.setblocking(False)
        try:
            while True:
                data = client.recv(1 << 16)  # AddressSanitizer maps more, each time anew
                if not data:
                    return received, True
                received += data
        except BlockingIOError:
            return received, False
        except ConnectionError:
            return received, True
        finally:
            client.close()
            turn()


def settled(received: bytes) -> bytes:
    """Without what depends on time, and on how the request was cut: Date, and a 100."""
    return _VARIES.sub(b"", received)
