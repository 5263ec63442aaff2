# SPDX-License-Identifier: MIT
"""The manners of unusual_server.py that are about requests: how they are refused, and the 101."""

import re
import time
from typing import List, Optional, Tuple

from broken_handshake import REASONS, Handshake
from broken_parts import (
    Refused,
    Stream,
)
from broken_server import Server
from unusual_manners import LATE, LOGIN, manner

# ---- requests that are refused, or no handshake -------------------------------------------------


class Courteous(Handshake):
    """Knows whether a request could be read, before it looks at Upgrade."""

    def __init__(self, server: Server, stream: Stream, seconds: float) -> None:
        super().__init__(server, stream, seconds)
        self.is_http = False

    def is_upgrade(self) -> bool:
        self.is_http = True
        return super().is_upgrade()

    def respond(self, status: int, content: bytes, *fields: str) -> None:
        reason = REASONS[status]
        lines = [f"HTTP/1.1 {status} {reason}", "Content-Type: text/plain", *fields]
        if "Upgrade: websocket" in fields:  # RFC 9110 section 7.8
            lines.append("Connection: Upgrade")
        upgrade = ["Upgrade"] if "Upgrade: websocket" in fields else []
        lines.append(f"Connection: {', '.join([*upgrade, 'close'])}")
        if self.method == "HEAD":
            content = b""
        self.stream.write(("\r\n".join(lines) + "\r\n\r\n").encode() + content)


@manner("page-for-others", "what asks for no upgrade gets a page")
class Page(Courteous):
    """RFC 9110 section 7.8: "A server MAY ignore a received Upgrade header field"."""

    def refuse(self, refused: Refused) -> None:
        if not self.is_http or refused.status not in self.ignored():
            return super().refuse(refused)
        if self.method in ("GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS"):
            allow = "Allow: GET, HEAD, POST, PUT, DELETE, OPTIONS"
            return self.respond(200, b"a page\n", "Content-Length: 7", allow)
        self.respond(501, b"what?\n", "Content-Length: 6")

    def ignored(self) -> List[int]:
        return [405, 426] if self.plain or self.method != "GET" else []


@manner("ignores-upgrade", "what is no good handshake gets a page")
class PageAlways(Page):
    def ignored(self) -> List[int]:
        return [400, 405, 426]


@manner("keeps-alive", "connections are kept behind errors")
class KeepsAlive(Courteous):
    """RFC 9112 section 9.3."""

    def refuse(self, refused: Refused) -> None:
        closes = "close" in [element.lower() for element in self.elements("Connection")]
        self.kept = self.is_http and self.minor > 0 and not closes
        super().refuse(refused)


@manner("reads-bodies", "bodies are read, and connections kept behind them")
class ReadsBodies(Handshake):
    """RFC 9112 section 9.3."""

    def reads_content(self) -> bool:
        return not self.all("Upgrade")

    def reads_chunks(self) -> bool:
        return True


@manner("ends-behind-bodies", "bodies are read, and connections end behind them")
class EndsBehindBodies(ReadsBodies):
    def read_content(self) -> None:
        super().read_content()
        self.kept = False


@manner("chunked-errors", "errors have chunked content")
class Chunked(Courteous):
    """Chunks are for HTTP/1.1 only (RFC 9112 section 6.1)."""

    def refuse(self, refused: Refused) -> None:
        if not self.is_http or not self.minor:
            return super().refuse(refused)
        content = b"3;x=1\r\nno \r\n1\r\n!\r\n0\r\nX-Trailer: 1\r\n\r\n"
        self.respond(refused.status, content, "Transfer-Encoding: chunked", *refused.fields)


@manner("errors-to-the-end", "the end of TCP ends errors")
class ToTheEnd(Courteous):
    """RFC 9112 section 6.3: the content is what comes before the end of TCP."""

    def refuse(self, refused: Refused) -> None:
        self.respond(refused.status, b"no.\n", *refused.fields)


@manner("all-400", "all that is refused is refused with 400")
class One400(Handshake):
    """The fields with which another status must be sent stay."""

    def refuse(self, refused: Refused) -> None:
        super().refuse(Refused(400, *refused.fields))


@manner("lenient-http", "odd lines are put right")
class Lenient(Handshake):
    """What RFC 9112 sections 2.2, 3 and 5.2, and RFC 9110 section 5.5, allow."""

    def line(self, most: int, status: int) -> str:
        line = self.stream.line(most)
        if line is None:
            raise Refused(status)
        return re.sub("\r?\n$", "", line.decode("latin-1"))

    def words(self, line: str) -> Tuple[str, ...]:
        return super().words(re.sub("[ \t\v\f\r]+", " ", line).strip(" "))

    def read_fields(self) -> None:
        fields: List[str] = []
        while True:
            line = re.sub("[\r\0]", " ", self.line(16384, 431))
            if not line:
                break
            if not line.startswith((" ", "\t")):
                fields.append(line)
            elif fields:
                fields[-1] += " " + line.lstrip(" \t")
        if len(fields) > 100:
            raise Refused(431)
        for field in fields:
            self.read_field(field)


@manner("any-key", "any one key will do")
class AnyKey(Handshake):
    """RFC 6455 section 4.2.2: "It is not necessary for the server to base64-decode" it."""

    def is_key(self, key: str) -> bool:
        return bool(key)


@manner("login", "401 for who does not log in", fields=(("Authorization", LOGIN),))
class Login(Handshake):
    def read_fields(self) -> None:
        super().read_fields()
        if LOGIN not in self.all("Authorization"):
            raise Refused(401, 'WWW-Authenticate: Basic realm="echo"')


@manner("knows-host", "other names in Host are refused")
class KnowsHost(Handshake):
    def check_host(self) -> None:
        super().check_host()
        if self.all("Host") and self.all("Host") != [f"127.0.0.1:{self.server.port}"]:
            raise Refused(421)


@manner("knows-origin", "other origins are refused")
class KnowsOrigin(Handshake):
    """RFC 6455 section 4.2.2 item 4."""

    def check_resource(self) -> None:
        super().check_resource()
        if self.all("Origin"):
            raise Refused(403)


@manner("small-head", "heads above 4000 bytes are refused")
class SmallHead(Handshake):
    """RFC 6585 section 5."""

    size = 0

    def line(self, most: int, status: int) -> str:
        line = super().line(2000, 431)
        self.size += len(line) + 2
        if self.size > 4000:
            raise Refused(431)
        return line


# ---- the 101 ------------------------------------------------------------------------------------


@manner("refuses-early", "more behind a handshake is an error")
class RefusesEarly(Handshake):
    def accept(self, protocol: Optional[str], extension: Optional[str]) -> None:
        if self.stream.buffer:
            raise Refused(400)
        super().accept(protocol, extension)


@manner("interim", "100 and 103 come first")
class Interim(Handshake):
    """RFC 9110 section 15.2: a client must be able to parse those, even if it expects none."""

    def hint(self) -> None:
        if self.method and self.minor:
            hints = b"HTTP/1.1 103 Early Hints\r\nLink: </style.css>; rel=preload\r\n\r\n"
            self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n" + hints)

    def accept(self, protocol: Optional[str], extension: Optional[str]) -> None:
        self.hint()
        super().accept(protocol, extension)

    def refuse(self, refused: Refused) -> None:
        self.hint()
        super().refuse(refused)


@manner("slow-handshake", "the 101 comes after a moment")
class Slow(Handshake):
    def accept(self, protocol: Optional[str], extension: Optional[str]) -> None:
        time.sleep(2 * LATE)
        super().accept(protocol, extension)


@manner("small-letters", "the 101 has another spelling")
class SmallLetters(Handshake):
    def upgrade_lines(self) -> List[str]:
        return [
            "HTTP/1.1 101 switching protocols",
            "connection: keep-alive, upgrade",
            "upgrade: websocket",
        ]


@manner("many-fields", "the 101 has other fields, too")
class ManyFields(Handshake):
    """A list over two lines, no reason, and fields that belong to no handshake."""

    def upgrade_lines(self) -> List[str]:
        return [
            "HTTP/1.1 101 ",
            "Date: Sat, 01 Jan 2022 00:00:00 GMT",
            "Server: echo/1.0 (unusual)",
            "Set-Cookie: a=b; Path=/",
            "Set-Cookie: c=d",
            "X-Empty:",
            "Connection:Keep-Alive \t",
            "Connection: \t Upgrade",
            "Upgrade:websocket",
            "Sec-WebSocket-Version: 13",
            "Sec-WebSocket-Server-Name: J\xfcrgen",
        ]


@manner("any-protocol", "the first subprotocol is agreed on")
class AnyProtocol(Handshake):
    def protocol(self) -> Optional[str]:
        super().protocol()
        return next(iter(self.elements("Sec-WebSocket-Protocol")), None)


@manner("no-protocol", "no subprotocol is known")
class NoProtocol(Handshake):
    def protocol(self) -> Optional[str]:
        super().protocol()
        return None
