# SPDX-License-Identifier: MIT
"""Bodies of requests that broken_server.py reads with some of its switches (RFC 9112 sections 6 and
7.1). Without one it refuses every body.
"""

import re
from typing import List, Tuple

from broken_parts import Part, Refused, Stream
from broken_switches import SWITCHES

_FIELD_NAME = re.compile(r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:")
_EXTENSIONS = re.compile(
    r"([ \t]*;[ \t]*[^\s;=\"\0-\x1f]+(=([^\s;\"\0-\x1f]+|\"(\\.|[^\"\\])*\"))?)*"
)
SOME = 32768  # bytes, with a switch


class Bodies(Part):
    """Of a request whose head is known."""

    stream: Stream
    method: str
    minor: int
    fields: List[Tuple[str, str]]
    kept: bool
    earlier: int  # requests of this connection

    def all(self, name: str) -> List[str]:
        raise NotImplementedError

    def some_broken(self, prefix: str) -> bool:
        return any(self.broken(name) for name in SWITCHES if name.startswith(prefix))

    # ---- Content-Length ----

    def reads_content(self) -> bool:
        return self.some_broken("content-") and not self.all("Upgrade")

    def read_content(self) -> None:
        """A body of any kind, behind which the connection is kept. Refused."""
        codings, lengths = self.all("Transfer-Encoding"), self.all("Content-Length")
        if codings and lengths and self.broken("content-both"):
            lengths = []
        if codings and not self.minor and not self.broken("content-chunks-in-1.0"):
            raise Refused(400)
        if len(lengths) > 1 and self.broken("content-first-length"):
            lengths = lengths[:1]
        if codings:
            self.read_coded(codings, lengths)
        elif lengths or (self.method == "POST" and self.broken("content-always")):
            self.read_length(lengths)
        elif self.method == "POST" and self.broken("content-needs-length"):
            raise Refused(400)
        lasting = self.minor > 0 or self.broken("content-chunks-in-1.0")
        self.kept = lasting and "close" not in self.all("Connection")

    def read_coded(self, codings: List[str], lengths: List[str]) -> None:
        if lengths:
            raise Refused(400)
        if codings == ["identity"] and self.broken("content-identity"):
            return
        if codings != ["chunked"] and not self.broken("content-coding-lenient"):
            raise Refused(400)
        if "chunked" not in codings[0]:
            raise Refused(400)
        self.read_chunks()

    def read_length(self, lengths: List[str]) -> None:
        length = self.length(lengths)
        if self.method != "POST" and self.broken("content-of-post-only"):
            return
        if self.broken("content-one") and self.earlier:
            raise Refused(400)
        if self.broken("content-in-one-read") and len(self.stream.buffer) < length:
            raise Refused(400)
        if self.broken("content-some"):
            length = min(length, SOME)
        if self.all("Expect"):
            if self.expects_body(length):
                return
        elif len(self.stream.buffer) < length and self.broken("content-late-left"):
            return
        content = self.stream.read(length)
        if b"\r\n\r\n" in content and self.broken("content-ends-with-head"):
            end = content.index(b"\r\n\r\n") + 4
            self.stream.buffer[:0] = content[end:]

    def length(self, lengths: List[str]) -> int:
        if len(lengths) > 1:
            raise Refused(400)
        text = lengths[0] if lengths else "0"
        if self.broken("content-first-length"):
            text = text.split(",")[0]
        if self.broken("content-length-lenient"):
            text = re.sub(r"^[+]?(?:0x)?([0-9]+).*", r"\1", text)
        if not re.fullmatch("[0-9]+", text):
            raise Refused(400)
        if text.startswith("0") and self.broken("content-octal"):
            return int(text, 8)
        return max(int(text), 1) if self.broken("content-always") else int(text)

    def expects_body(self, length: int) -> bool:
        """Send what a client that waits gets ahead of its body. Returns whether it is left."""
        if self.broken("content-unexpected"):
            return True
        waits = len(self.stream.buffer) < length
        to_old = self.broken("content-continue-to-1.0")
        if waits and (self.minor or to_old) and not self.broken("content-awaited"):
            self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        return False

    # ---- chunks ----

    def reads_chunks(self) -> bool:
        return self.some_broken("chunk")

    def read_chunks(self) -> None:
        """A chunked body, and what of it may be wrong, with some switch (RFC 9112 section 7.1)."""
        if self.broken("chunks-in-one-read") and not self.stream.buffer:
            raise Refused(400)
        chunks = 0
        while True:
            size = self.chunk_size(self.chunk_line())
            if not size:
                break
            chunks += 1
            if chunks > 1 and self.broken("chunks-of-one"):
                raise Refused(400)
            self.stream.read(size)
            self.end_chunk()
        self.read_trailers()
        self.kept = True

    def end_chunk(self) -> None:
        if self.broken("chunk-end-by-lf") and self.stream.peek() == 10:
            self.stream.read(1)
        elif self.stream.read(2) != b"\r\n" and not self.broken("chunk-end-unchecked"):
            raise Refused(400)

    def chunk_line(self) -> str:
        """Without its end."""
        line = (self.stream.line(1000) or b"").decode("latin-1")
        by_lf = ";" in line and self.broken("chunk-extensions-unchecked")
        if not line.endswith("\r\n") and not by_lf and not self.broken("chunk-line-by-lf"):
            raise Refused(400)
        return re.sub("\r?\n$", "", line)

    def chunk_size(self, line: str) -> int:
        text, semicolon, rest = line.partition(";")
        if semicolon and self.broken("chunk-extensions-refused"):
            raise Refused(400)
        fine = _EXTENSIONS.fullmatch(semicolon + rest) or self.broken("chunk-extensions-unchecked")
        if text != text.lower() and self.broken("chunk-size-capitals"):
            raise Refused(400)
        if self.broken("chunk-size-lenient"):
            text = re.sub("^[+-]?(?:0x)?([0-9A-Fa-f]*).*", r"0\1", text)
        if not re.fullmatch("[0-9A-Fa-f]+", text) or not fine:
            raise Refused(400)
        size = int(text, 16)
        return size & 0xFFFFFFFF if self.broken("chunk-size-32-bits") else size

    def read_trailers(self) -> None:
        if self.broken("chunk-trailers-left") and self.stream.peek() != 13:
            return
        trailers = []
        while True:
            line = self.chunk_line()
            if not line:
                break
            if not _FIELD_NAME.match(line) and not self.broken("chunk-trailers-unchecked"):
                raise Refused(400)
            name, _, value = line.partition(":")
            trailers.append((name, value.strip(" \t")))
        if self.broken("chunk-trailers-merged"):
            self.merge(trailers)

    def merge(self, trailers: List[Tuple[str, str]]) -> None:
        self.fields += trailers
        for name, value in trailers:
            if name == "Content-Length":
                self.stream.read(int(value))
            if name == "Transfer-Encoding":
                self.read_chunks()
