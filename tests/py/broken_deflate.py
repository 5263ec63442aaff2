# SPDX-License-Identifier: MIT
"""permessage-deflate (RFC 7692) of broken_server.py: its negotiation, and compressed messages."""

import re
import zlib
from typing import Any, Dict, Iterator, List, NamedTuple, Optional, Tuple

from broken_parts import Failure, Gone, Part, Refused, Switchboard

TAIL = b"\x00\x00\xff\xff"  # RFC 7692 section 7.2.1
NAME = "permessage-deflate"
SERVER_FLAG, CLIENT_FLAG = "server_no_context_takeover", "client_no_context_takeover"
SERVER_BITS, CLIENT_BITS = "server_max_window_bits", "client_max_window_bits"

Parameters = List[Tuple[str, Optional[str]]]


class Terms(NamedTuple):
    """What was agreed on."""

    server_fresh: bool
    client_fresh: bool
    server_bits: int


class Negotiation(Part):
    """Finds the first offer that can be accepted (RFC 7692 sections 5 and 7.1)."""

    def run(self, offers: List[Tuple[str, Parameters]]) -> Tuple[Optional[str], Optional[Terms]]:
        """The value of Sec-WebSocket-Extensions, and what it means."""
        if self.broken("101-with-extension"):
            return "x-unasked", None
        if self.broken("extension-first") and offers and offers[0][0].lower() != NAME:
            return offers[0][0], None
        if self.broken("deflate-first-offer-only"):
            offers = offers[:1]
        for name, parameters in offers:
            wanted = self.acceptable(parameters) if self.is_deflate(name) else None
            if wanted is not None:
                return self.answer(wanted, len(offers))
            if self.broken("deflate-fallback-refused") and self.is_deflate(name):
                raise Refused(400)
        return None, None

    def is_deflate(self, name: str) -> bool:
        if self.broken("deflate-similar-names"):
            return "deflate" in name.lower() or name.lower().startswith(NAME[:-1])
        return name.lower() == NAME

    def acceptable(self, parameters: Parameters) -> Optional[Dict[str, Optional[str]]]:
        """The parameters; None: such an offer must be declined (RFC 7692 section 7)."""
        seen: Dict[str, Optional[str]] = {}
        for name, value in parameters:
            name = name.lower()
            if name in seen and not self.broken("deflate-twice-accepted"):
                return None
            if name in (SERVER_FLAG, CLIENT_FLAG):
                fine = value is None or self.broken("deflate-flag-value")
                value = None
            elif name in (SERVER_BITS, CLIENT_BITS):
                value, fine = self.bits(name, value)
            elif self.broken("deflate-unknown-accepted"):
                continue
            else:
                fine = False
            if not fine:
                return None
            seen[name] = value
        return seen

    def bits(self, name: str, value: Optional[str]) -> Tuple[Optional[str], bool]:
        """The value, and whether it may be so."""
        if value is None:
            if name == SERVER_BITS and self.broken("deflate-server-bits-alone"):
                return "15", True
            return None, name == CLIENT_BITS
        if re.fullmatch("[89]|1[0-5]", value):
            return value, True
        if self.broken("deflate-bits-lenient"):
            digits = re.match("[+]?0*([89]|1[0-5])(?![0-9])", value)
            return (digits.group(1), True) if digits else (value, False)
        return "15", self.broken("deflate-any-bits")

    def answer(self, wanted: Dict[str, Optional[str]], offers: int) -> Tuple[str, Terms]:
        """RFC 7692 section 7.1: nothing of the client's window that the offer does not name."""
        words = [NAME]
        if SERVER_FLAG in wanted and not self.broken("deflate-drops-server-flag"):
            words.append(SERVER_FLAG)
        if CLIENT_FLAG in wanted:
            words.append(CLIENT_FLAG)
        server_bits, client_bits = wanted.get(SERVER_BITS), wanted.get(CLIENT_BITS)
        if self.broken("deflate-larger-server-bits") and server_bits:
            server_bits = "15"
        if self.broken("deflate-larger-client-bits") and client_bits:
            client_bits = "15"
        dropped = self.broken("deflate-drops-server-bits")
        if server_bits == "15" and self.broken("deflate-drops-server-bits-15"):
            dropped = True
        if server_bits and not dropped:
            words.append(f"{SERVER_BITS}={server_bits}")
        if client_bits:
            words.append(f"{CLIENT_BITS}={client_bits}")
        elif self.broken("deflate-unasked-bits") and CLIENT_BITS not in wanted:
            words.append(f"{CLIENT_BITS}=15")
        elif self.broken("deflate-bits-without-value") and CLIENT_BITS in wanted:
            words.append(CLIENT_BITS)
        answer = "; ".join(words)
        if self.broken("deflate-answers-twice") and offers > 1:
            answer += f", {answer}"
        terms = Terms(SERVER_FLAG in wanted, CLIENT_FLAG in wanted, int(server_bits or 15))
        return answer, terms


class Deflater(Part):
    """Compresses messages (RFC 7692 section 7.2.1)."""

    def __init__(self, server: Switchboard, terms: Terms) -> None:
        super().__init__(server)
        self.terms = terms
        self.stream = self.fresh()

    def fresh(self) -> Any:
        bits = 15 if self.broken("deflate-window-15") else self.terms.server_bits
        # zlib has no window of 256 bytes; without references none is needed.
        strategy = zlib.Z_HUFFMAN_ONLY if bits == 8 else zlib.Z_DEFAULT_STRATEGY
        return zlib.compressobj(6, zlib.DEFLATED, -max(bits, 9), 8, strategy)

    def message(self, payload: bytes) -> bytes:
        if self.terms.server_fresh and not self.broken("deflate-keeps-window"):
            self.stream = self.fresh()
        data: bytes = self.stream.compress(payload) + self.stream.flush(zlib.Z_SYNC_FLUSH)
        return data if self.broken("deflate-tail-kept") else data[: -len(TAIL)]


class Inflater(Part):
    """Decompresses messages as they come (RFC 7692 section 7.2.2)."""

    def __init__(self, server: Switchboard, fresh: bool) -> None:
        super().__init__(server)
        self.starts_fresh = fresh or self.broken("deflate-forgets")
        self.window = b""
        self.stream: Any = zlib.decompressobj(-15)
        self.came = self.empty = 0
        self.given = 0
        self.over = False
        self.dropped = False  # with its switch: the message

    def begin(self) -> None:
        """A message begins."""
        if self.broken("deflate-windows-shared"):
            self.restart(self.server.window)
        elif self.starts_fresh:
            self.restart(b"")
        elif self.broken("deflate-short-window"):
            self.restart(self.window[-256:])
        self.came = self.given = 0
        self.over = self.dropped = False

    def restart(self, window: bytes) -> None:
        """At a block that can refer back to this."""
        self.window = window
        if window:
            self.stream = zlib.decompressobj(-15, zdict=window)
        else:
            self.stream = zlib.decompressobj(-15)

    def keep(self, output: bytes) -> None:
        """The last 32 KiB that came out."""
        self.window = (self.window + output)[-32768:]
        self.server.window = self.window

    def feed(self, data: bytes) -> Iterator[bytes]:
        """What comes out, in pieces. Failure."""
        self.came += len(data)
        more = True
        while more and not self.over:
            try:
                piece = self.stream.decompress(data, 65536)
            except zlib.error as error:
                self.over = True
                yield from self.fail(str(error))
                return
            self.given += len(piece)
            self.check_ratio()
            self.keep(piece)
            yield piece
            data = self.stream.unconsumed_tail
            more = bool(data) or len(piece) == 65536
            if self.stream.eof:
                data = self.after_final(self.stream.unused_data)
                more = bool(data)

    def after_final(self, rest: bytes) -> bytes:
        """Behind a block with BFINAL the next begins on a byte boundary (section 7.2.3.4)."""
        if self.broken("deflate-final-refused"):
            raise Failure(1007, "a block with BFINAL")
        if self.broken("deflate-final-ends"):
            self.over = True
        self.restart(self.window)
        return rest

    def finish(self) -> Iterator[bytes]:
        """The message is complete. Failure."""
        if self.broken("deflate-final-ends") and self.over:
            return
        given = self.given
        pieces = list(self.feed(TAIL))
        if not self.over and (self.given > given or not self.is_at_boundary()):
            if self.broken("deflate-incomplete-accepted"):
                self.restart(self.window)
            else:
                pieces += self.fail("it is not complete")
        yield from pieces

    def is_at_boundary(self) -> bool:
        """A block could begin here: an empty one with BFINAL would be the end."""
        probe = self.stream.copy()
        try:
            return probe.decompress(b"\x03\x00") == b"" and bool(probe.eof)
        except zlib.error:
            return False

    def check_ratio(self) -> None:
        if self.broken("deflate-ratio-limit") and self.given > 100 * self.came + 1000:
            raise Failure(1009, "it grows too much")
        if self.broken("deflate-blocks-limited") and self.came > 1000 and not self.given:
            raise Failure(1008, "it does not grow at all")
        if self.broken("deflate-blocks-as-1009") and self.came > 1000 and not self.given:
            raise Failure(1009, "it does not grow at all")

    def fail(self, told: str) -> Iterator[bytes]:
        if self.broken("deflate-errors-ignored"):
            self.restart(self.window)
        elif self.broken("deflate-broken-dropped"):
            self.restart(self.window)
            self.dropped = True
        elif self.broken("deflate-broken-unanswered"):
            raise Gone
        else:
            code = 1000 if self.broken("deflate-broken-as-1000") else 1007
            raise Failure(code, f"the compressed data is invalid: {told}")
        yield b""
