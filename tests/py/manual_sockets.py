# SPDX-License-Identifier: MIT
"""What the tests of the manual share: settings, and sockets that send until they are full."""

import socket
from typing import Callable, List

import peer
import pytest

from pyws import SendStatus, WebSocket
from pyws._native import lib

DEFLATE = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
with_zlib = pytest.mark.skipif(
    not lib.ws_compression_available(), reason="built without compression"
)


def fill(ws: WebSocket, size: int = 30_000) -> List[SendStatus]:
    """Send until the kernel takes no more; what each send said."""
    statuses = [ws.send(b"x" * size)]
    while statuses[-1] == SendStatus.SUCCESS:
        statuses.append(ws.send(b"x" * size))
        assert len(statuses) < 5000, "the kernel takes everything"
    return statuses


def read_until(client: peer.Peer, condition: Callable[[], object]) -> None:
    """Read and forget until `condition()` holds."""
    client.socket.settimeout(0.01)

    def done() -> object:
        try:
            client.fill()
        except socket.timeout:
            pass
        client.buffer = b""
        return condition()

    peer.eventually(done)
