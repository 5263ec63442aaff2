# SPDX-License-Identifier: MIT
"""A TCP proxy that holds all bytes for a fixed time each way: a peer on this machine is as far
away as one on another continent. Bytes stay in order, and FIN and RST are passed on as late.

    with DelayProxy(port_of_server, 0.3) as proxy:
        connect to proxy.port
"""

import asyncio
import socket
import struct
import threading
from collections import deque
from typing import Callable, Deque, Optional, Set

HELD = 4 << 20  # bytes under way each way; then no more are read, as by a network that is full
WRITING = 65536  # bytes that a slow reader leaves here before the other side waits


class DelayProxy:
    """Listens on 127.0.0.1 from the beginning; `close` ends it, as does its `with` block."""

    def __init__(self, port: int, delay: float) -> None:
        self.upstream = port
        self.delay = delay
        self.loop = asyncio.new_event_loop()
        self.ends: Set[End] = set()
        listener = socket.create_server(("127.0.0.1", 0), backlog=128)
        self.port: int = listener.getsockname()[1]
        self.server = self.loop.run_until_complete(
            self.loop.create_server(lambda: Near(self), sock=listener)
        )
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self.thread.start()

    def __enter__(self) -> "DelayProxy":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        self.loop.call_soon_threadsafe(self._stop)
        self.thread.join()
        self.loop.close()

    def _stop(self) -> None:
        self.server.close()
        for end in list(self.ends):
            if end.transport:
                end.transport.abort()
        self.loop.call_soon(self.loop.stop)  # when what was aborted has been closed


class End(asyncio.Protocol):
    """One of the two connections of a pair. What it receives, the other one sends later."""

    def __init__(self, proxy: DelayProxy, other: "Optional[End]" = None) -> None:
        self.proxy = proxy
        self.other = other
        self.transport: Optional[asyncio.Transport] = None
        self.under_way: Deque[Callable[[], None]] = deque()
        self.held = 0
        self.is_full = False  # the other one cannot send
        self.has_sent_fin = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)
        transport.set_write_buffer_limits(WRITING)
        self.transport = transport
        self.proxy.ends.add(self)

    def connection_lost(self, error: Optional[Exception]) -> None:
        self.proxy.ends.discard(self)
        if error:
            self.later(lambda end: end.reset())

    def data_received(self, data: bytes) -> None:
        self.held += len(data)

        def pass_on(end: End) -> None:
            self.held -= len(data)
            if end.transport and not end.has_sent_fin:
                end.transport.write(data)
            self.wait_or_go_on()

        self.later(pass_on)
        self.wait_or_go_on()

    def eof_received(self) -> bool:
        self.later(lambda end: end.finish())
        return True  # the way back stays open

    def pause_writing(self) -> None:
        self.other_waits(True)

    def resume_writing(self) -> None:
        self.other_waits(False)

    def other_waits(self, waits: bool) -> None:
        if self.other:
            self.other.is_full = waits
            self.other.wait_or_go_on()

    def wait_or_go_on(self) -> None:
        """Read only while there is room for it."""
        if not self.transport or self.transport.is_closing():
            return
        if self.is_full or self.held >= HELD:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def later(self, act: "Callable[[End], None]") -> None:
        """Do it to the other end. Timers of the same time may swap: each takes what is first."""
        other = self.other
        if other:
            self.under_way.append(lambda: act(other))
            self.proxy.loop.call_later(self.proxy.delay, lambda: self.under_way.popleft()())

    def finish(self) -> None:
        """Send FIN; the second of the two closes the pair."""
        if not self.transport or self.transport.is_closing():
            return
        self.has_sent_fin = True
        try:
            self.transport.write_eof()
        except OSError:  # it has been reset meanwhile
            pass
        if self.other and self.other.has_sent_fin:
            self.transport.close()
            if self.other.transport:
                self.other.transport.close()

    def reset(self) -> None:
        if not self.transport:
            return
        raw = self.transport.get_extra_info("socket")
        if raw.fileno() >= 0:
            raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.transport.abort()


class Near(End):
    """The one that was accepted: makes the other."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self.is_full = True
        self.wait_or_go_on()
        self.making = self.proxy.loop.create_task(self.make())

    async def make(self) -> None:
        self.other = far = End(self.proxy, self)
        try:
            await self.proxy.loop.create_connection(lambda: far, "127.0.0.1", self.proxy.upstream)
        except OSError:
            return self.reset()
        self.is_full = False
        self.wait_or_go_on()
