# SPDX-License-Identifier: MIT
"""Requests of broken_server.py: the opening handshake (RFC 6455 section 4.2), and what is refused
(RFC 9110, RFC 9112).
"""

import base64
import binascii
import hashlib
import re
import time
from email.utils import formatdate
from typing import Iterator, List, Optional, Tuple
from urllib.parse import unquote

from broken_bodies import Bodies
from broken_deflate import Negotiation, Parameters, Terms
from broken_parts import Refused, Stream, Switchboard

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
_TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
_REQUEST_LINE = re.compile(rf"({_TOKEN}) ([\x21-\x7e]+) HTTP/([0-9])\.([0-9])")
_FIELD = re.compile(rf"({_TOKEN}):[ \t]*((?:[\x21-\x7e\x80-\xff](?:[\t\x20-\x7e\x80-\xff]*))?)")
_HOST = re.compile(r"(\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9\-._~%!$&'()*+;=]*)(:[0-9]*)?")
_PART = re.compile(
    rf'[ \t]*({_TOKEN})(?:[ \t]*=[ \t]*(?:({_TOKEN})|"((?:\\[\t -~]|[^"\\])*)"))?[ \t]*([;,]|$)'
)
REASONS = {
    200: "OK",
    400: "Bad Request",
    401: "Unauthorized",
    403: "Forbidden",
    404: "Not Found",
    405: "Method Not Allowed",
    414: "URI Too Long",
    421: "Misdirected Request",
    426: "Upgrade Required",
    431: "Request Header Fields Too Large",
    500: "Internal Server Error",
    501: "Not Implemented",
    505: "HTTP Version Not Supported",
}
KNOWN = {
    "Host", "Upgrade", "Connection", "Sec-WebSocket-Key", "Sec-WebSocket-Version",
    "Sec-WebSocket-Protocol", "Sec-WebSocket-Extensions", "Origin", "Content-Length",
    "Transfer-Encoding",
}  # fmt: skip
PROTOCOLS = ("chat", "superchat")


class Handshake(Bodies):
    """Reads a request, and answers it (RFC 6455 section 4.2, RFC 9110, RFC 9112)."""

    def __init__(self, server: Switchboard, stream: Stream, seconds: float) -> None:
        super().__init__(server)
        self.stream = stream
        self.seconds = seconds
        self.method = ""
        self.target = ""
        self.minor = 1
        self.fields: List[Tuple[str, str]] = []
        self.plain = False  # it is no handshake
        self.kept = False  # the connection, behind an error
        self.body = 0  # bytes that follow, where a body is taken
        self.earlier = stream.requests  # of this connection
        stream.requests += 1

    def run(self) -> Optional[Terms]:
        """Answer with 101: the terms of compression, if any. Refused, Gone."""
        if not self.broken("head-unlimited") and not self.broken("garbage-awaited"):
            self.stream.deadline = time.monotonic() + self.seconds
        self.check_beginning()
        self.read_request_line()
        self.read_fields()
        self.check_host()
        self.check_framing()
        if not self.is_upgrade():
            self.refuse_plain()
        self.check_method()
        self.check_connection()
        self.check_version()
        self.check_key()
        self.check_resource()
        protocol = self.protocol()
        extension, terms = self.server.part(Negotiation)(self.server).run(self.extensions())
        self.accept(protocol, extension)
        self.stream.deadline = float("inf")
        return terms

    # ---- reading ----

    def check_beginning(self) -> None:
        """TLS, frames and zeros have no end of a line that could be waited for."""
        first = self.stream.peek()
        if self.broken("head-in-one-read") and b"\r\n\r\n" not in self.stream.buffer:
            raise Refused(500)
        if first in b"\r\n" or re.match(_TOKEN, chr(first)) or self.broken("garbage-awaited"):
            return
        raise Refused(400)

    def line(self, most: int, status: int) -> str:
        """The next one, without its end."""
        if self.broken("head-unlimited"):
            most = 1 << 30
        if self.broken("small-head-only"):
            most = 1000
        line = self.stream.line(most)
        if line is None:
            raise Refused(status)
        text = line.decode("latin-1")
        if not text.endswith("\r\n"):
            raise Refused(400)
        return text[:-2]

    def read_request_line(self) -> None:
        self.stream.peek()
        line = self.line(8192, 414)
        if not line and not self.broken("empty-line-refused"):  # RFC 9112 section 2.2
            line = self.line(8192, 414)
        self.method, self.target, major, minor = self.words(line)
        self.minor = int(minor)
        if self.broken("version-of-http-unchecked"):
            self.minor = 1
            return
        if major != "1" and (major, minor) != ("0", "9"):
            raise Refused(505)
        if major == "0":
            self.minor = 0
        if self.minor > 1 and self.broken("http-minor-refused"):
            raise Refused(505)

    def words(self, line: str) -> Tuple[str, ...]:
        """Method, target, and the two numbers of the version. Refused."""
        match = _REQUEST_LINE.fullmatch(line)
        if match:
            return match.groups()
        words = line.split(" ")
        if self.broken("line-unchecked") and len(words) > 2:
            return "GET", "/", "1", "1"
        if self.broken("line-of-two-words") and line.startswith("GET") and len(words) < 3:
            return "GET", "/", "1", "1"
        raise Refused(400)

    def read_fields(self) -> None:
        most = 20 if self.broken("small-head-only") else 100
        while True:
            line = self.line(16384, 431)
            if not line:
                return
            if len(self.fields) == most and not self.broken("head-unlimited"):
                raise Refused(431)
            lines = line.split("\r") if self.broken("cr-as-line-end") else [line]
            for each in lines:
                self.read_field(each)

    def read_field(self, line: str) -> None:
        if self.broken("blank-before-colon"):
            line = re.sub("[ \t]+:", ":", line, count=1)
        if self.broken("folds-as-fields"):
            line = line.lstrip(" \t")
        if self.broken("controls-dropped"):
            line = re.sub("[\0-\x08\x0a-\x1f\x7f]", "", line)
        if self.broken("nul-ends-value"):
            line = line.partition("\0")[0]
        match = _FIELD.fullmatch(line)
        if match:
            self.add_field(*match.groups())
        elif not self.broken("bad-fields-skipped"):
            raise Refused(400)

    def add_field(self, name: str, value: str) -> None:
        if name not in KNOWN and self.broken("unknown-fields-refused"):
            raise Refused(400)
        if not value.isascii() and self.broken("obs-text-refused"):
            raise Refused(400)
        if not self.broken("blanks-kept"):
            value = value.rstrip(" \t")
        self.fields.append((name, value))

    def all(self, name: str) -> List[str]:
        """The values of the fields with that name, in any case."""
        if self.broken("field-names-case-sensitive"):
            return [value for field, value in self.fields if field == name]
        return [value for field, value in self.fields if field.lower() == name.lower()]

    def lines(self, name: str) -> str:
        """Of a list, which may be split over several lines (RFC 9110 section 5.3)."""
        values = self.all(name)
        if self.broken("list-lines-first-wins"):
            values = values[:1]
        return ",".join(values)

    def elements(self, name: str) -> List[str]:
        """Of a list; empty ones are ignored (RFC 9110 section 5.6.1.2)."""
        if not self.all(name):
            return []
        blanks = "" if self.broken("blanks-kept") else " \t"
        elements = [element.strip(blanks) for element in self.lines(name).split(",")]
        if self.broken("empty-elements-refused") and "" in elements:
            raise Refused(400)
        return [element for element in elements if element]

    # ---- checks ----

    def check_host(self) -> None:
        hosts = self.all("Host")
        if not hosts and self.minor and not self.broken("host-not-needed"):
            raise Refused(400)
        if len(hosts) > 1 and not self.broken("host-twice-accepted"):
            raise Refused(400)
        if self.broken("host-unchecked"):
            return
        if any(not _HOST.fullmatch(host) for host in hosts):
            raise Refused(400)

    def check_framing(self) -> None:
        """No request of this server has a body, but with some switches (RFC 9112 section 6.3)."""
        if self.reads_content():
            return self.read_content()
        codings, lengths = self.all("Transfer-Encoding"), self.all("Content-Length")
        if self.broken("length-unchecked"):
            lengths = [length for length in lengths if re.fullmatch("[0-9]+", length)]
        if self.broken("length-first-wins"):
            lengths = lengths[:1]
        if self.broken("body-left") and len(lengths) == 1 and re.fullmatch("[0-9]+", lengths[0]):
            lengths = []
        numbers = [length for length in lengths if re.fullmatch("[0-9]+", length)]
        if numbers and self.broken("body-length-32-bits"):
            lengths = [str(int(number) & 0xFFFFFFFF) for number in numbers]
        awaited = self.broken("body-awaited") and self.is_upgrade() and not codings
        if awaited and len(lengths) == len(numbers) == 1:
            self.body = int(lengths.pop())
        if codings == ["chunked"] and not lengths and self.minor and self.reads_chunks():
            self.read_chunks()
            codings = []
        if self.broken("coding-by-substring") and "chunked" in self.lines("Transfer-Encoding"):
            codings = self.skip_chunks()
        if self.broken("coding-unchecked"):
            codings = []
        if codings and not lengths and self.minor and self.lines("Transfer-Encoding") != "chunked":
            raise Refused(501)
        if codings or any(length != "0" for length in lengths):
            raise Refused(400)

    def skip_chunks(self) -> List[str]:
        """A chunked body (RFC 9112 section 7.1)."""
        while True:
            try:
                size = int((self.stream.line(100) or b"").split(b";")[0], 16)
            except ValueError:
                raise Refused(400) from None
            self.stream.read(size)
            if self.stream.line(2) != b"\r\n":
                raise Refused(400)
            if not size:
                return []

    def is_upgrade(self) -> bool:
        """Whether Upgrade lists websocket; HTTP/1.0 knows no Upgrade (RFC 9110 section 7.8)."""
        if not self.minor and not self.broken("http-1.0-accepted"):
            return False
        if self.broken("101-for-everything") or self.broken("upgrade-not-needed"):
            return True
        return self.lists("upgrade", "Upgrade", "websocket")

    def lists(self, switch: str, name: str, wanted: str) -> bool:
        """Whether a field lists a token; four switches for each field."""
        elements = self.elements(name)
        if self.broken(f"{switch}-whole-value") and elements:
            elements = [self.lines(name)]
        if self.broken(f"{switch}-by-substring"):
            return any(wanted.lower() in element.lower() for element in elements)
        if self.broken(f"{switch}-case-sensitive"):
            return wanted in elements
        return any(wanted.lower() == element.lower() for element in elements)

    def refuse_plain(self) -> None:
        self.plain = True
        if self.minor and "close" not in self.elements("Connection"):
            self.kept = self.kept or self.broken("kept-and-deaf")
        if self.method not in ("GET", "HEAD"):
            self.refuse_method()
        self.check_path()
        self.refuse_version()

    def refuse_method(self) -> None:
        fields = () if self.broken("405-without-allow") else ("Allow: GET, HEAD",)
        raise Refused(405, *fields)

    def refuse_version(self) -> None:
        """RFC 6455 section 4.2.2 and RFC 9110 section 15.5.22."""
        fields = []
        if not self.broken("426-without-upgrade"):
            fields.append("Upgrade: websocket")
        if not self.broken("426-without-version"):
            fields.append("Sec-WebSocket-Version: 13")
        raise Refused(426, *fields)

    def check_method(self) -> None:
        if self.method != "GET" and not self.broken("method-unchecked"):
            self.refuse_method()

    def check_connection(self) -> None:
        if self.broken("101-for-everything") or self.broken("connection-not-needed"):
            return
        if not self.lists("connection", "Connection", "Upgrade"):
            raise Refused(400)

    def check_version(self) -> None:
        versions = self.all("Sec-WebSocket-Version")
        if self.broken("101-for-everything"):
            return
        if not versions and self.broken("version-not-needed"):
            return
        if self.broken("version-list-accepted") and "13" in self.elements("Sec-WebSocket-Version"):
            return
        if self.broken("version-unchecked") and len(versions) == 1:
            return
        if self.broken("version-by-number") and len(versions) == 1:
            versions = [versions[0].lstrip("+0")]
        if versions != ["13"]:
            self.refuse_version()

    def check_key(self) -> None:
        keys = self.all("Sec-WebSocket-Key")
        if self.broken("101-for-everything"):
            return
        if not keys and self.broken("key-not-needed"):
            return
        if len(keys) > 1 and self.broken("key-twice-accepted"):
            return
        if len(keys) != 1:
            raise Refused(400)
        if not self.is_key(keys[0]) and not self.broken("key-unchecked"):
            raise Refused(400)

    def is_key(self, key: str) -> bool:
        """16 bytes in base64. Pad bits may be anything: the RFC's own example has some."""
        if not re.fullmatch("[A-Za-z0-9+/]{22}==", key):
            return False
        decoded = base64.b64decode(key)
        if self.broken("key-of-zeros-refused") and decoded == bytes(16):
            return False
        exact = base64.b64encode(decoded).decode() == key
        return exact or not self.broken("key-pad-bits-checked")

    def check_path(self) -> None:
        target = self.target
        if not self.broken("absolute-form-refused"):  # RFC 9112 section 3.2.2
            flags = 0 if self.broken("absolute-form-case") else re.IGNORECASE
            target = re.sub("^(?:https?|wss?)://[^/?#]+", "", target, flags=flags) or "/"
        path, query, _ = target.partition("?")
        if self.broken("target-unchecked"):
            return
        if not target.startswith("/") or "#" in target:
            raise Refused(400)
        if path != "/" or (query and self.broken("query-refused")):
            raise Refused(404)

    def check_resource(self) -> None:
        if not self.broken("101-for-everything"):
            self.check_path()

    # ---- lists of the client ----

    def protocol(self) -> Optional[str]:
        """The first that is known here (RFC 6455 section 4.2.2)."""
        offered = self.elements("Sec-WebSocket-Protocol")
        malformed = any(not re.fullmatch(_TOKEN, name) for name in offered)
        if malformed and not self.broken("protocol-unchecked"):
            raise Refused(400)
        known = [name for name in offered if name in PROTOCOLS]
        if self.broken("protocol-all") and offered:
            return ", ".join(offered)
        if self.broken("101-with-protocol"):
            return "chat"
        if self.broken("protocol-in-other-case") and offered:
            return offered[0].swapcase()
        return known[0] if known else None

    def extensions(self) -> List[Tuple[str, Parameters]]:
        """What is offered, in order (RFC 6455 section 9.1)."""
        self.elements("Sec-WebSocket-Extensions")
        try:
            return list(self.parse(self.lines("Sec-WebSocket-Extensions")))
        except ValueError:
            if self.broken("extensions-unchecked"):
                return []
            raise Refused(400) from None

    def parse(self, text: str) -> Iterator[Tuple[str, Parameters]]:
        """ValueError when the list is malformed."""
        at = 0
        name, parameters = "", []  # type: str, Parameters
        while at < len(text):
            if not name and text[at] in " \t,":  # an empty element
                at += 1
                continue
            match = _PART.match(text, at)
            if not match:
                raise ValueError(text)
            word, token, quoted, end = match.groups()
            value = token if quoted is None else self.unquoted(quoted)
            if not name and value is None:
                name = word
            elif name:
                parameters.append((word, value))
            else:
                raise ValueError(text)
            at = match.end()
            if end != ";":
                yield name, parameters
                name, parameters = "", []
        if name:
            raise ValueError(text)  # there is nothing behind the last ;

    def unquoted(self, text: str) -> str:
        value = re.sub(r"\\(.)", r"\1", text)
        if not re.fullmatch(_TOKEN, value) or self.broken("extensions-token-only"):
            raise ValueError(text)
        return value

    # ---- answers ----

    def accept(self, protocol: Optional[str], extension: Optional[str]) -> None:
        """RFC 6455 section 4.2.2."""
        self.stream.is_open = True
        lines = self.upgrade_lines()
        lines.append(f"Sec-WebSocket-Accept: {self.accept_value()}")
        if protocol:
            lines.append(f"Sec-WebSocket-Protocol: {protocol}")
        if extension:
            lines.append(f"Sec-WebSocket-Extensions: {extension}")
        lines += self.wrong_fields()
        self.stream.write(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        if self.broken("101-with-content"):
            self.stream.write(b"\r\nSwitching\n")
        if self.all("Expect") and self.broken("continue-late"):
            self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        if self.broken("ignores-early-data"):
            self.stream.buffer.clear()

    def upgrade_lines(self) -> List[str]:
        """The first ones of a 101."""
        version = "1.0" if self.broken("101-as-http-1.0") else "1.1"
        lines = [f"HTTP/{version} 101 Switching Protocols"]
        if not self.broken("101-without-upgrade"):
            capitals = self.broken("101-upgrade-capitals")
            lines.append("Upgrade: WebSocket" if capitals else "Upgrade: websocket")
        if not self.broken("101-without-connection"):
            lines.append("Connection: Upgrade")
        return lines

    def accept_value(self) -> str:
        key = (self.all("Sec-WebSocket-Key") or [""])[0]
        if self.broken("accept-of-decoded-key"):
            key = base64.b64encode(decoded(key)).decode()
        guid = "" if self.broken("accept-wrong") else GUID
        digest = hashlib.sha1((key + guid).encode("latin-1")).digest()
        return base64.b64encode(digest).decode()

    def wrong_fields(self) -> List[str]:
        """What a 101 must not have (RFC 9110 section 8.6, RFC 9112 sections 5.1 and 6.1)."""
        wrong = {
            "101-with-length": "Content-Length: 0",
            "101-with-chunked": "Transfer-Encoding: chunked",
            "101-bad-field": "X-Blank : 1",
        }
        lines = [line for switch, line in wrong.items() if self.broken(switch)]
        return lines + self.injected()

    def injected(self) -> List[str]:
        if not self.broken("target-in-response"):
            return []
        target = unquote(self.target, "latin-1")
        return [f"X-Target: {target}".rstrip("\r\n")]

    def refuse(self, refused: Refused) -> None:
        """An error response, behind which the connection ends."""
        silent = self.broken("content-then-nothing") and self.all("Expect")
        if self.broken("no-error-response") or silent:
            return
        status = refused.status
        if self.broken("200-for-error"):
            status = 200
        if self.broken("500-for-error"):
            status = 500
        content = f"{status} {REASONS[status]}\n".encode()
        options = [] if self.kept else ["close"]
        if "Upgrade: websocket" in refused.fields:
            options.insert(0, "Upgrade")
        version = "1.0" if self.broken("error-as-http-1.0") else "1.1"
        lines = [
            f"HTTP/{version} {status} {REASONS[status]}",
            "Content-Type: text/plain",
            f"Content-Length: {len(content)}",
            *([f"Connection: {', '.join(options)}"] if options else []),
            *refused.fields,
            *self.injected(),
        ]
        if not self.broken("error-without-date"):
            lines.append(f"Date: {formatdate(usegmt=True)}")
        if self.broken("error-of-two-lengths"):
            lines.append("Content-Length: 0")
        if self.method == "HEAD" and not self.broken("head-with-content"):
            content = b""
        if self.broken("error-body-too-short"):
            content = content[:-1]
        self.stream.write(("\r\n".join(lines) + "\r\n\r\n").encode() + content)
        if self.all("Expect") and self.broken("content-continue-late"):
            self.stream.write(b"HTTP/1.1 100 Continue\r\n\r\n")


def decoded(key: str) -> bytes:
    try:
        return base64.b64decode(key)
    except binascii.Error:
        return b""
