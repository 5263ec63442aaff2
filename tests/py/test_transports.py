# SPDX-License-Identifier: MIT
"""How a connection to a broker is given up."""

import asyncio
import socket

import pytest
from coroutines import in_loop

from pyws._core.transports import drop


@in_loop
async def test_what_was_not_sent_is_discarded() -> None:
    """The peer gets a reset, and not the rest."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        loop = asyncio.get_running_loop()
        place = listener.getsockname()
        transport, _ = await loop.create_connection(asyncio.Protocol, *place)
        peer, _ = listener.accept()
        with peer:
            peer.settimeout(20)
            transport.write(bytes(50_000_000))
            drop(transport)
            await asyncio.sleep(0)
            with pytest.raises(ConnectionResetError):
                while peer.recv(1 << 20):
                    pass
