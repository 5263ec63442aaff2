# SPDX-License-Identifier: MIT
"""Clients that speak TLS, with the standard library: every wait is bounded."""

import socket
import ssl
from typing import Optional

from authority import Authority, authority
from common import TIMEOUT
from peer import Peer, handshake

CRYPTIC = (ssl.SSLError, ConnectionError, EOFError)  # what a refused client sees


def connected(port: int) -> socket.socket:
    """A connection without TLS."""
    return socket.create_connection(("127.0.0.1", port), TIMEOUT)


def client_context(version: Optional[ssl.TLSVersion] = None) -> ssl.SSLContext:
    """The context of a client that trusts the authority, with one version of TLS."""
    context = authority().client_context()
    if version is not None:
        context.minimum_version = context.maximum_version = version
    return context


def tls_peer(
    port: int,
    context: Optional[ssl.SSLContext] = None,
    name: str = "localhost",
    session: Optional[ssl.SSLSession] = None,
) -> Peer:
    """A peer whose TLS handshake is complete. A connection that is cut off is an error to it."""
    connection = connected(port)
    try:
        context = client_context() if context is None else context
        secure = context.wrap_socket(
            connection, server_hostname=name, session=session, suppress_ragged_eofs=False
        )
    except BaseException:
        connection.close()
        raise
    return Peer.over(secure)


def tls_of(peer: Peer) -> ssl.SSLSocket:
    """The socket of a peer that speaks TLS."""
    assert isinstance(peer.socket, ssl.SSLSocket)
    return peer.socket


def opened(peer: Peer, path: str = "/") -> Peer:
    """The peer, after its opening handshake."""
    peer.send(handshake(path))
    response = peer.response()
    assert response.status == 101, response
    return peer


def name_of(peer: Peer) -> str:
    """The name in the certificate of the server."""
    certificate = tls_of(peer).getpeercert()
    assert certificate
    return dict(item[0] for item in certificate["subject"])["commonName"]  # type: ignore[misc]


def trusting(other: Authority) -> ssl.SSLContext:
    """The context of a client that trusts another authority."""
    return other.client_context()
