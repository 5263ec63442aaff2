# SPDX-License-Identifier: MIT
"""TLS of --listen: the certificate and the handshake with a client, which may not speak TLS.

A port uses either TLS or plain HTTP. The first octet from a client shows which one the client
uses, so the error can name a wrong scheme in its URL instead of a failed handshake.
"""

from __future__ import annotations

import re
import socket
import ssl
from typing import Any, NamedTuple

from .secure import HANDSHAKE, READ, Secure

DISTRUST = ("UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_UNKNOWN", "CERTIFICATE_EXPIRED")
PLAIN_ANSWER = (
    b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: 26\r\n"
    b"Connection: close\r\n\r\nThis port speaks only TLS\n"
)


class Place(NamedTuple):
    """The address to listen on."""

    host: str
    port: int
    secure: bool | None
    """Whether to use TLS; None means if there is a certificate."""

    @classmethod
    def parse(cls, text: str) -> Place:
        """Parse [HOST:]PORT, or a URL with both, or raise ValueError if it is neither."""
        match = re.fullmatch(r"(?:(wss?)://)?(?:([^/]*):)?(\d{1,5})/?", text)
        if not match or int(match[3]) > 65535 or (match[1] and not match[2]):
            raise ValueError(f"must be [HOST:]PORT or wss://HOST:PORT, not {text!r}")
        secure = None if match[1] is None else match[1] == "wss"
        return cls((match[2] or "").strip("[]") or "127.0.0.1", int(match[3]), secure)


class Mismatch(Exception):
    """The client uses TLS instead of plain HTTP, or the other way round, or its TLS fails."""


def context_for(
    place: Place | None, certificate: str | None, key: str | None
) -> ssl.SSLContext | None:
    """Return the context for --listen, --cert and --key, or None if there is no TLS.

    Raises ValueError if the options do not fit together.
    """
    if place is None and (certificate or key):
        raise ValueError("--cert and --key need --listen")
    if key and not certificate:
        raise ValueError("--key needs a certificate: --cert FILE")
    if place is None or not certificate:
        if place and place.secure:
            raise ValueError("--listen wss://... needs a certificate: --cert FILE --key FILE")
        return None
    if place.secure is False:
        raise ValueError("--cert needs wss://, but --listen has ws://")
    return server_context(certificate, key)


def server_context(certificate: str, key: str | None) -> ssl.SSLContext:
    """Load PEM files; without `key` the private key is in the certificate's file.

    Raises ValueError if a file cannot be read or used.
    """

    def no_password() -> str:
        raise ValueError(f"--key {key or certificate}: the private key is encrypted")

    for option, file in (("--cert", certificate), ("--key", key)):
        if file is not None:
            check_readable(option, file)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.options &= ~0x80  # see secure.noticing_truncation
    context.sni_callback = note_name
    try:
        context.load_cert_chain(certificate, key, no_password)
    except ssl.SSLError as error:
        if error.reason == "KEY_VALUES_MISMATCH":
            raise ValueError(f"--key {key}: this is not the key of {certificate}") from None
        if key is None:
            told = f"--cert {certificate}: no PEM certificate and private key found (see --key)"
        else:
            told = f"--cert {certificate} --key {key}: no PEM certificate and key found"
        raise ValueError(told) from None
    return context


def check_readable(option: str, file: str) -> None:
    """Raise a ValueError that names the file, which `load_cert_chain` would not."""
    try:
        with open(file, "rb"):
            pass
    except OSError as error:
        raise ValueError(f"{option} {file}: {error.strerror or error}") from None


def note_name(connection: Any, name: str | None, context: ssl.SSLContext) -> None:
    """Store the name that the client asks for; called during the handshake."""
    connection.asked_name = name


def opened(
    accepted: socket.socket, context: ssl.SSLContext | None, timeout: float
) -> tuple[socket.socket | Secure, bytes]:
    """Return a client's connection and its first bytes, decrypted; no bytes if it has ended.

    The timeout applies to the whole TLS handshake, and again to the first bytes. Raises Mismatch
    if the client uses the wrong protocol or its handshake fails, and OSError.
    """
    accepted.settimeout(timeout)
    first = accepted.recv(1, socket.MSG_PEEK)
    speaks_tls = first[:1] == bytes([HANDSHAKE])
    if not first:
        return accepted, b""
    if context is None:
        if speaks_tls:
            raise Mismatch("a client uses TLS, but this is ws://, not wss:// (see --cert)")
        return accepted, accepted.recv(READ)
    if not speaks_tls:
        refuse(accepted)
        raise Mismatch("a client does not use TLS, but this is wss://, not ws://")
    secured = Secure(accepted, context, server_side=True)
    secured.settimeout(timeout)
    try:
        secured.handshake(timeout)
        # With TLS 1.3, a client refuses the certificate only after the handshake.
        return secured, secured.recv(READ)
    except OSError as error:
        secured.close()
        raise Mismatch(f"the TLS handshake with a client failed: {explained(error)}") from None


def refuse(accepted: socket.socket) -> None:
    """Answer a client that uses plain HTTP, and let it read the answer before TCP ends."""
    accepted.sendall(PLAIN_ANSWER)
    accepted.shutdown(socket.SHUT_WR)
    accepted.settimeout(1.0)
    for _ in range(4):
        if not accepted.recv(65536):
            break


def explained(error: OSError) -> str:
    """Return the reason from OpenSSL or the system, and what it means."""
    reason = getattr(error, "reason", None) or ""
    told = reason.replace("_", " ").lower() or error.strerror or str(error)
    distrusts = any(word in reason for word in DISTRUST)
    return f"{told} (it does not trust the certificate)" if distrusts else told
