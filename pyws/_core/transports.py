"""What the brokers of this package have in common."""

from __future__ import annotations

import socket
import struct
from typing import Any

__all__ = ["drop"]


def drop(transport: Any) -> None:
    """End a connection at once, by a reset.

    The kernel discards what it has not sent. Otherwise it might send that much later, when the
    network works again, among what comes on the next connection.
    """
    own = transport.get_extra_info("socket")
    if own is not None and own.fileno() >= 0:
        own.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()
