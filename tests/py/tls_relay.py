# SPDX-License-Identifier: MIT
"""A relay that speaks TLS to clients and passes everything on to a server without TLS.

    with TlsRelay(port_of_server, context) as relay:
        connect to relay.port

FIN and RST are passed on: close_notify and FIN of a client become FIN, and the server's FIN becomes
close_notify and FIN. The other direction stays open, as TLS 1.3 allows (RFC 8446 section 6.1).
"""

import selectors
import shutil
import socket
import ssl
import struct
import subprocess
import threading
from pathlib import Path
from typing import List, NamedTuple, Set

import pytest

READ = 65536
HELD = 1 << 20  # bytes on the way to one side; then no more are read from the other


class Certificate(NamedTuple):
    """PEM files: for localhost, 127.0.0.1 and ::1, its key, and a certificate for other.example."""

    cert: str
    key: str
    encrypted: str
    """The key, encrypted."""
    other: str
    """The key of the other certificate."""
    other_cert: str


def make_certificate(folder: Path) -> Certificate:
    """Self-signed certificates; the test is skipped if there is no openssl."""
    openssl = shutil.which("openssl")
    if not openssl:
        pytest.skip("there is no openssl")
    files = Certificate(*(str(folder / name) for name in Certificate._fields))
    new = [openssl, "req", "-x509", "-newkey", "rsa:2048", "-days", "2", "-subj", "/CN=x", "-nodes"]
    for names, cert, key in (
        ("DNS:localhost,IP:127.0.0.1,IP:::1", files.cert, files.key),
        ("DNS:other.example", files.other_cert, files.other),
    ):
        more = ["-addext", f"subjectAltName={names}", "-out", cert, "-keyout", key]
        subprocess.run([*new, *more], check=True, capture_output=True, timeout=60)
    encrypt = [openssl, "rsa", "-aes128", "-passout", "pass:x", "-in", files.key]
    encrypt += ["-out", files.encrypted]
    subprocess.run(encrypt, check=True, capture_output=True, timeout=60)
    return files


def server_context(certificate: Certificate) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.cert, certificate.key)
    return context


class TlsRelay:
    """Listens on 127.0.0.1 until the end of its with block; one thread does everything."""

    def __init__(self, port: int, context: ssl.SSLContext) -> None:
        self.upstream = port
        self.context = context
        self.pairs: Set[Pair] = set()
        self.selector = selectors.DefaultSelector()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=256)
        self.listener.setblocking(False)
        self.port: int = self.listener.getsockname()[1]
        self.waker, self.woken = socket.socketpair()
        self.selector.register(self.listener, selectors.EVENT_READ)
        self.selector.register(self.woken, selectors.EVENT_READ)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def __enter__(self) -> "TlsRelay":
        return self

    def __exit__(self, *error: object) -> None:
        self.waker.send(b"x")
        self.thread.join(10)
        assert not self.thread.is_alive()
        self.waker.close()

    def _run(self) -> None:
        while True:
            for key, _ in self.selector.select():
                if key.fileobj is self.woken:
                    return self._stop()
                if key.fileobj is self.listener:
                    self._accept()
                elif key.data in self.pairs:  # an earlier event may have ended it
                    key.data.act()

    def _accept(self) -> None:
        try:
            near = self.listener.accept()[0]
            far = socket.create_connection(("127.0.0.1", self.upstream), 10)
        except OSError:
            return
        self.pairs.add(Pair(self, near, far))

    def _stop(self) -> None:
        for pair in list(self.pairs):
            pair.end(reset=True)
        self.listener.close()
        self.woken.close()
        self.selector.close()


class Pair:
    """A client's connection and that to the server."""

    def __init__(self, relay: TlsRelay, near: socket.socket, far: socket.socket) -> None:
        self.relay = relay
        self.near, self.far = near, far
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = relay.context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.shaken = False
        self.to_near, self.to_far = bytearray(), bytearray()
        self.near_ended = self.far_ended = False  # nothing more comes from there
        self.told: List[socket.socket] = []  # those that were sent FIN
        for end in (near, far):
            end.setblocking(False)
            end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            relay.selector.register(end, selectors.EVENT_READ, self)

    def act(self) -> None:
        """Move what can be moved."""
        try:
            self._receive()
            self._give(self.near, self.to_near, self.far_ended)
            self._give(self.far, self.to_far, self.near_ended)
        except (OSError, ssl.SSLError):  # a reset, or an error of TLS, whose alert is sent
            self._try_last_words()
            return self.end(reset=True)
        if len(self.told) == 2:
            return self.end(reset=False)
        self._watch(self.near, not self.near_ended and len(self.to_far) < HELD, self.to_near)
        self._watch(self.far, not self.far_ended and len(self.to_near) < HELD, self.to_far)

    def _receive(self) -> None:
        data = self._received(self.near) if not self.near_ended else None
        if data:
            self.incoming.write(data)
        elif data is not None:
            self.near_ended = True
        self._decrypt()
        data = self._received(self.far) if self.shaken and not self.far_ended else None
        if data:
            self.tls.write(data)
        elif data is not None:
            self.far_ended = True
            self._notify()
        self.to_near += self.outgoing.read()

    def _received(self, end: socket.socket) -> "bytes | None":
        try:
            return end.recv(READ)
        except BlockingIOError:
            return None

    def _decrypt(self) -> None:
        try:
            if not self.shaken:
                self.tls.do_handshake()
                self.shaken = True
            while True:
                data = self.tls.read(READ)
                if not data:
                    break
                self.to_far += data
            self.near_ended = True
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.near_ended = True

    def _notify(self) -> None:
        try:
            self.tls.unwrap()
        except ssl.SSLWantReadError:
            pass

    def _give(self, end: socket.socket, data: bytearray, last: bool) -> None:
        while data:
            try:
                sent = end.send(data)
            except BlockingIOError:
                return
            del data[:sent]
        if last and end not in self.told:
            self.told.append(end)
            end.shutdown(socket.SHUT_WR)

    def _watch(self, end: socket.socket, reads: bool, data: bytearray) -> None:
        events = (selectors.EVENT_READ if reads else 0) | (selectors.EVENT_WRITE if data else 0)
        registered = end in self.relay.selector.get_map()
        if events and registered:
            self.relay.selector.modify(end, events, self)
        elif events:
            self.relay.selector.register(end, events, self)
        elif registered:
            self.relay.selector.unregister(end)

    def _try_last_words(self) -> None:
        try:
            self.near.send(self.outgoing.read())
        except OSError:
            pass

    def end(self, reset: bool) -> None:
        """Close both; a reset of one is passed on to the other."""
        self.relay.pairs.discard(self)
        for end in (self.near, self.far):
            if end in self.relay.selector.get_map():
                self.relay.selector.unregister(end)
            if reset:
                end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            end.close()
