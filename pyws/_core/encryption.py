# SPDX-License-Identifier: MIT
"""TLS as the modules see it that work without it: what is known of a connection, and of a listener.

`tls` and `openssl`, which do the work, are imported only where an app listens with TLS.
"""

from __future__ import annotations

import math
from typing import Any, List, NamedTuple, Optional

__all__ = ["Encryption", "Encryptions", "TlsInfo"]


class TlsInfo(NamedTuple):
    """What is known of a TLS connection (`WebSocket.tls`, `Request.tls`)."""

    version: str
    """The version of the protocol: "TLSv1.2" or "TLSv1.3"."""
    cipher: str
    """The cipher suite, by OpenSSL's name: "TLS_AES_256_GCM_SHA384"."""
    alpn_protocol: Optional[str]
    """The protocol that was selected by ALPN (RFC 7301), "http/1.1"; None if the client offers
    none."""
    server_name: Optional[str]
    """The server name that the client asked for (SNI); None if it named none."""
    peer_certificate: Optional[bytes]
    """The certificate of the client in DER format; None if it has shown none. Clients show one
    where the ssl.SSLContext asks for it (verify_mode), and only one that it trusts is accepted."""
    session_reused: bool
    """Whether the client has resumed an earlier session, so that the handshake was short."""


class Encryption:
    """TLS of one listening address, as `tls.Tls` implements it.

    Attributes:
        address: The AppListenOptions of it.
        table: The address of the ws_tls.
    """

    address: Any
    table: int

    def rotate(self) -> float:
        """Use the keys of now for session tickets; returns in how many seconds to do so again."""
        raise NotImplementedError

    def free(self) -> None:
        """No server uses the table any more."""
        raise NotImplementedError


class Encryptions(List[Encryption]):
    """TLS of all addresses of an app that have it, also of those that were left."""

    _timer: Any = None

    def rotate(self, timers: Any) -> None:
        """Use the keys of now for session tickets, and later ones when they are due.

        Args:
            timers: The Timers of the app.
        """
        if self._timer is not None:
            self._timer.cancel()
        if self:
            seconds = min([one.rotate() for one in self])
            self._timer = timers.add(math.ceil(seconds * 1e9), self.rotate, (timers,))

    def free(self) -> None:
        """No server uses them any more."""
        for one in self:
            one.free()
        self.clear()
