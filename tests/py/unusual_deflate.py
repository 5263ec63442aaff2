# SPDX-License-Identifier: MIT
"""The manners of unusual_server.py that are about permessage-deflate: what is agreed on, and how
messages are compressed.
"""

import zlib
from typing import Any, Dict, List, Optional, Tuple

from broken_deflate import (
    CLIENT_BITS,
    CLIENT_FLAG,
    SERVER_BITS,
    SERVER_FLAG,
    TAIL,
    Deflater,
    Negotiation,
    Parameters,
    Terms,
)
from broken_websocket import WebSocket

Offers = List[Tuple[str, Parameters]]
Wanted = Dict[str, Optional[str]]


class NoDeflate(Negotiation):
    def run(self, offers: Offers) -> Tuple[Optional[str], Optional[Terms]]:
        return None, None


class LargeWindows(Negotiation):
    """RFC 7692 section 5: any offer may be declined."""

    def acceptable(self, parameters: Parameters) -> Optional[Wanted]:
        wanted = super().acceptable(parameters)
        return None if wanted and SERVER_BITS in wanted else wanted


class Forgetful(Negotiation):
    """RFC 7692 sections 7.1.1.1 and 7.1.1.2: both may be answered without having been offered."""

    def answer(self, wanted: Wanted, offers: int) -> Tuple[str, Terms]:
        return super().answer({**wanted, SERVER_FLAG: None, CLIENT_FLAG: None}, offers)


class SmallWindows(Negotiation):
    """RFC 7692 sections 7.1.2.1 and 7.1.2.2."""

    def answer(self, wanted: Wanted, offers: int) -> Tuple[str, Terms]:
        small = {**wanted, SERVER_BITS: "9" if wanted.get(SERVER_BITS) != "8" else "8"}
        if CLIENT_BITS in wanted and wanted[CLIENT_BITS] != "8":
            small[CLIENT_BITS] = "9"
        return super().answer(small, offers)


class NoHints(Negotiation):
    """RFC 7692 sections 7.1.1.2 and 7.1.2.2: of a client's own side an offer is but a hint."""

    def answer(self, wanted: Wanted, offers: int) -> Tuple[str, Terms]:
        hints = (CLIENT_BITS, CLIENT_FLAG)
        return super().answer({k: v for k, v in wanted.items() if k not in hints}, offers)


class NeverCompresses(WebSocket):
    """RFC 7692 section 6: each message is compressed, or not."""

    def compressed(self, payload: bytes) -> Tuple[bytes, int]:
        return payload, 0


class SometimesCompresses(WebSocket):
    def compressed(self, payload: bytes) -> Tuple[bytes, int]:
        return super().compressed(payload) if self.messages % 2 else (payload, 0)


class StoredBlocks(Deflater):
    def fresh(self) -> Any:
        return zlib.compressobj(0, zlib.DEFLATED, -15)


class FinalBlocks(Deflater):
    """RFC 7692 section 7.2.3.4; nothing refers to what is before such a block."""

    def message(self, payload: bytes) -> bytes:
        stream = self.fresh()
        data: bytes = stream.compress(payload) + stream.flush(zlib.Z_FINISH)
        return data + b"\0"


class ManyBlocks(Deflater):
    """RFC 7692 section 7.2.3.5."""

    def message(self, payload: bytes) -> bytes:
        if self.terms.server_fresh:
            self.stream = self.fresh()
        size = max(len(payload) // 5, 10)
        data = b"".join(
            self.stream.compress(payload[at : at + size]) + self.stream.flush(zlib.Z_SYNC_FLUSH)
            for at in range(0, max(len(payload), 1), size)
        )
        return data[: -len(TAIL)]
