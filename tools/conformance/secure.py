# SPDX-License-Identifier: MIT
"""A TLS connection, with the methods of a socket that `wire.Connection` and the cases use.

`ssl.SSLSocket` does not suit them: it cannot end one direction without losing what is received
after that, and it hides whether the peer has ended TLS before TCP. Each write becomes at least one
record, so parts of frames arrive in separate records, and pauses between them have an effect.
"""

from __future__ import annotations

import selectors
import socket
import ssl
import time
from typing import Any

RECORD = 16384  # bytes of a record's plaintext (RFC 8446 section 5.1)
READ = 65536  # bytes to receive at a time
PARTS = (1, 2, 3, 5, 7)  # bytes of the parts of a record that is cut
CUT = 2048  # more encrypted bytes than that are not cut
ALERT, HANDSHAKE = 0x15, 0x16  # the types of record with which a TLS peer begins its answer


class NotTls(OSError):
    """The peer's answer to the ClientHello is not TLS."""


def noticing_truncation(context: ssl.SSLContext) -> ssl.SSLContext:
    """Do not take the end of TCP for that of TLS, as some versions of Python do."""
    context.options &= ~0x80  # SSL_OP_IGNORE_UNEXPECTED_EOF of OpenSSL 3
    return context


def client_context(ca: str | None = None, insecure: bool = False) -> ssl.SSLContext:
    """Return a context that trusts the certificates in the PEM file `ca`, or the system's.

    `insecure` accepts any certificate. Raises ValueError if the file cannot be used.
    """
    if insecure:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        return noticing_truncation(context)
    try:
        return noticing_truncation(ssl.create_default_context(cafile=ca))
    except ssl.SSLError:
        raise ValueError(f"--ca {ca}: no PEM certificate found") from None
    except OSError as error:
        raise ValueError(f"--ca {ca}: {error.strerror or error}") from None


class Secure:
    """A TLS connection over a connected socket, which it owns."""

    def __init__(
        self,
        raw: socket.socket,
        context: ssl.SSLContext,
        name: str | None = None,
        server_side: bool = False,
    ) -> None:
        """Prepare a connection; `name` is the server's, for its certificate and the SNI."""
        self.raw = raw
        self.cut = False
        """Whether to send records in parts of a few bytes, wherever these are cut."""
        self.part = 0
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side, name)
        self.unsent = bytearray()
        """Encrypted bytes that the kernel has not accepted."""
        self.plain = bytearray()
        """Decrypted bytes that were not received yet."""
        self.notified = False
        """Whether the peer has ended TLS with close_notify."""
        self.over = False
        """Whether the peer has ended TCP."""
        self.finished = False
        """Whether this side has sent close_notify."""
        self.fin = False
        """Whether to send FIN as soon as `unsent` is empty."""
        self.broken: OSError | None = None
        """A fatal error, raised after everything before it was received."""
        self.lost: OSError | None = None
        """An error of a send during a receive, which finds out what the peer sent before it."""
        self.version = self.cipher = ""
        """The version of TLS ("TLSv1.3") and the cipher suite, after the handshake."""
        self.heard = False
        """Whether the peer has sent anything."""
        raw.setblocking(False)
        self.timeout: float | None = None

    # ---- as a socket ----

    def settimeout(self, timeout: float | None) -> None:
        """Set the timeout of `recv`; `send` never waits."""
        self.timeout = timeout

    def setsockopt(self, level: int, option: int, value: Any) -> None:
        self.raw.setsockopt(level, option, value)

    def getpeername(self) -> Any:
        return self.raw.getpeername()

    def fileno(self) -> int:
        return self.raw.fileno()

    def close(self) -> None:
        """Close the socket, without close_notify."""
        self.raw.close()

    def shutdown(self, how: int) -> None:
        """End this direction with close_notify (RFC 8446 section 6.1) and FIN, or raise OSError.

        The other direction stays open. With TLS 1.2, the peer has to end it too (RFC 5246 section
        7.2.1), but what it sends before that is received.
        """
        assert how == socket.SHUT_WR
        self.notify()
        self.fin = True
        self.push()

    def send(self, data: memoryview | bytes) -> int:
        """Encrypt a record and return its length, or raise OSError.

        What the kernel does not accept is sent by later calls of any method. Until then,
        BlockingIOError is raised. After close_notify there is no TLS, so the bytes are sent as they
        are: to a server that has ended TLS they are trailing bytes, encrypted or not.
        """
        self.push()
        if self.unsent:
            raise BlockingIOError
        if not data:
            return 0
        if self.finished:
            return self.raw.send(data)
        sent = self.tls.write(data[:RECORD])
        self.push()
        return sent

    def recv(self, most: int) -> bytes:
        """Receive bytes, none at the end of TCP, or raise socket.timeout or OSError.

        Bytes after close_notify are ignored (RFC 8446 section 6.1).
        """
        deadline = None if self.timeout is None else time.monotonic() + self.timeout
        while not self.plain:
            if self.broken:
                raise self.broken
            if self.over and self.lost:
                raise self.lost
            if self.over:
                return b""
            self.receive(deadline)
            self.decrypt()
        data = bytes(self.plain[:most])
        del self.plain[:most]
        return data

    # ---- TLS ----

    @property
    def asked_name(self) -> str | None:
        """The client's Server Name Indication (RFC 6066 section 3), if a callback has stored it."""
        return getattr(self.tls, "asked_name", None)

    def handshake(self, timeout: float) -> None:
        """Perform the TLS handshake, or raise NotTls, ssl.SSLError, socket.timeout or OSError."""
        deadline = time.monotonic() + timeout
        while True:
            try:
                self.tls.do_handshake()
                self.version = self.tls.version() or ""
                self.cipher = (self.tls.cipher() or ("",))[0]
                self.push()
                return self.decrypt()  # data that has arrived together with the handshake
            except ssl.SSLWantReadError:
                self.push()
            except ssl.SSLError:
                self.try_push()  # the alert
                raise
            self.receive(deadline)

    def receive(self, deadline: float | None) -> None:
        """Wait for encrypted bytes or the end of TCP, and send meanwhile, or raise OSError."""
        while True:
            try:
                data = self.raw.recv(READ)
                break
            except BlockingIOError:
                self.wait(deadline)
        if not data:
            self.over = True
            self.incoming.write_eof()
        elif not self.notified:
            if not self.heard and data[0] not in (ALERT, HANDSHAKE):
                raise NotTls(f"received {data[:40]!r}")
            self.heard = True
            self.incoming.write(data)

    def wait(self, deadline: float | None) -> None:
        """Wait until bytes can be received or sent, or raise socket.timeout."""
        left = None if deadline is None else deadline - time.monotonic()
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if self.unsent else 0)
        with selectors.DefaultSelector() as selector:
            selector.register(self.raw, events)
            if not selector.select(left):
                raise socket.timeout("timed out")
        self.try_push()

    def decrypt(self) -> None:
        """Decrypt everything that was received."""
        try:
            while not self.notified:
                data = self.tls.read(READ)
                self.plain += data
                self.notified = not data
        except ssl.SSLWantReadError:
            pass
        except ssl.SSLZeroReturnError:
            self.notified = True
        except ssl.SSLError as error:
            if not self.over:
                self.broken = error
                self.try_push()
                return
        if self.notified and not self.over:
            self.notify()  # TLS 1.2 requires it, and a server may wait for it before it ends TCP
        self.try_push()

    def notify(self) -> None:
        """Send close_notify, once."""
        if not self.finished:
            self.finished = True
            try:
                self.tls.unwrap()
            except ssl.SSLError:  # SSLWantReadError: the peer has not sent its own yet
                pass

    def push(self) -> None:
        """Send encrypted bytes without waiting, then FIN if asked to, or raise OSError."""
        self.unsent += self.outgoing.read()
        while self.unsent:
            try:
                sent = self.raw.send(self.next_part())
            except BlockingIOError:
                return
            del self.unsent[:sent]
        if self.fin:
            self.fin = False
            self.raw.shutdown(socket.SHUT_WR)

    def next_part(self) -> bytearray:
        """Return what to send next."""
        if not self.cut or len(self.unsent) > CUT:
            return self.unsent
        self.part = (self.part + 1) % len(PARTS)
        return self.unsent[: PARTS[self.part]]

    def try_push(self) -> None:
        """Send as `push` does, but keep its error until what the peer has sent is received."""
        try:
            self.push()
        except OSError as error:
            self.lost = error
            self.unsent.clear()
