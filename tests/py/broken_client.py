# SPDX-License-Identifier: MIT
"""An echoing client that keeps to RFC 6455 and 7692, and that can be broken in one place at a time.

It measures the cases for clients of the conformance runner (--listen), as broken_server.py does
those for servers: without a switch it passes every case, and each case is failed by some switch.
Code of its own, nothing of pyws and nothing of the runner.

A switch is a name in `SWITCHES`; where its rule is kept stands `self.broken("name")`. `MANNERS` are
no faults, but other ways of right clients.

    python tests/py/broken_client.py PORT NAME [SWITCH...]
"""

import argparse
import base64
import codecs
import hashlib
import os
import re
import socket
import ssl
import struct
import time
import zlib
from typing import Dict, FrozenSet, Iterable, List, Optional, Tuple

from broken_client_switches import MANNERS, SWITCHES

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
HEAD_LIMIT = 256 << 10
LIMIT = 32 << 20
PATIENCE = 20.0  # seconds for anything
END_SECONDS = 4.0  # a connection stays open so long after the end of TCP, with a switch
DEFLATE = "permessage-deflate"
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
FLAGS = ("server_no_context_takeover", "client_no_context_takeover")
BITS = ("server_max_window_bits", "client_max_window_bits")

Parameters = Dict[str, Optional[str]]

OFFERS = {
    "offers-nothing": "",
    "offers-plainly": DEFLATE,
    "offers-limits": f"{DEFLATE}; server_max_window_bits=12; server_no_context_takeover",
}


class Refused(Exception):
    """The server's handshake is not as it must be."""


class Failure(Exception):
    """The connection has to be failed (RFC 6455 section 7.1.7)."""

    def __init__(self, code: int) -> None:
        self.code = code


class Ended(Exception):
    """TCP is at its end."""


class Stream:
    """Bytes of a socket; what was read too far is kept."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.buffer = bytearray()
        self.reads = 0

    def more(self) -> None:
        """Ended."""
        try:
            data = self.sock.recv(65536)
        except OSError:
            data = b""
        if not data:
            raise Ended
        self.reads += 1
        self.buffer += data

    def read(self, n: int) -> bytes:
        while len(self.buffer) < n:
            self.more()
        data = bytes(self.buffer[:n])
        del self.buffer[:n]
        return data

    def read_head(self) -> bytes:
        """Without its last empty line. Ended, Refused."""
        while b"\r\n\r\n" not in self.buffer:
            if len(self.buffer) > HEAD_LIMIT:
                raise Refused
            self.more()
        head, _, rest = bytes(self.buffer).partition(b"\r\n\r\n")
        self.buffer = bytearray(rest)
        return head


class Client:
    """Connects, echoes until the server closes, and connects again."""

    def __init__(
        self,
        port: int,
        switches: Iterable[str] = (),
        context: Optional[ssl.SSLContext] = None,
        host: str = "127.0.0.1",
    ) -> None:
        """ValueError: there is no such switch."""
        self.port = port
        self.host = host
        self.context = context
        self.switches: FrozenSet[str] = frozenset(switches)
        unknown = self.switches - set(SWITCHES) - set(MANNERS)
        if unknown:
            raise ValueError(f"no switch {sorted(unknown)[0]}")
        self.masks = 0

    def broken(self, switch: str) -> bool:
        assert switch in SWITCHES or switch in MANNERS
        return switch in self.switches

    # ---- connections ----

    def run(self, name: str, path: str = "/runCase?case={}&agent={}") -> None:
        """All cases of the runner at that port."""
        for number in range(1, int(self.ask("/getCaseCount")[0]) + 1):
            self.echo(path.format(number, name))
        self.ask(f"/updateReports?agent={name}")

    def ask(self, path: str) -> List[str]:
        """The text messages that come."""
        texts: List[str] = []
        self.visit(path, texts)
        return texts

    def echo(self, path: str) -> None:
        self.visit(path, None)

    def visit(self, path: str, texts: Optional[List[str]]) -> None:
        with socket.create_connection(("127.0.0.1", self.port), PATIENCE) as plain:
            # Without it a Close may wait for an ACK, and be dropped when the socket is closed.
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            sock = plain
            if self.context:
                name = None if self.broken("no-server-name") else self.host
                sock = self.context.wrap_socket(plain, server_hostname=name)
            with sock:
                sock.settimeout(PATIENCE)
                try:
                    Connection(self, sock, path).serve(texts)
                except (Ended, Refused, OSError):
                    pass


class Connection:
    """One of them."""

    def __init__(self, client: Client, sock: socket.socket, path: str) -> None:
        self.client = client
        self.broken = client.broken
        self.sock = sock
        self.stream = Stream(sock)
        self.path = path
        self.inflater: Optional[zlib._Decompress] = None
        offers = [text for manner, text in OFFERS.items() if self.broken(manner)]
        self.offer = offers[0] if offers else f"{DEFLATE}; client_max_window_bits"
        self.protocols = [] if self.broken("offers-nothing") else ["chat", "superchat"]

    def serve(self, texts: Optional[List[str]]) -> None:
        """From the opening handshake to the end."""
        key = self.ask()
        self.check(key, self.read_answer())
        if self.broken("deaf"):
            while True:
                self.stream.more()
        try:
            self.converse(texts)
        except Failure as failure:
            if self.broken("resets"):
                self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            elif not self.broken("ends-without-close"):
                self.close(failure.code)

    # ---- the request ----

    def ask(self) -> str:
        """Send the handshake; its key."""
        nonce = os.urandom(15 if self.broken("key-short") else 16)
        key = base64.b64encode(bytes(16) if self.broken("key-constant") else nonce).decode()
        host = f"{self.client.host}:{self.client.port}"
        if self.broken("host-with-user"):
            host = f"user@{host}"
        fields = [] if self.broken("host-missing") else [f"Host: {host}"]
        if not self.broken("upgrade-missing"):
            fields.append("Upgrade: websocket")
        name = "Connection " if self.broken("space-before-colon") else "Connection"
        value = "keep-alive" if self.broken("connection-missing") else "Upgrade"
        fields.append(f"{name}: {value}")
        if not self.broken("key-missing"):
            fields.append(f"Sec-WebSocket-Key: {key}")
        fields.append(f"Sec-WebSocket-Version: {8 if self.broken('version-8') else 13}")
        fields += self.lists()
        if self.broken("body-announced"):
            fields.append("Content-Length: 1")
        origin = "http://127.0.0.1/" if self.broken("origin-with-path") else "http://127.0.0.1"
        fields.append(f"Origin: {origin}")
        for switch, start in (
            ("host", "Host"),
            ("key", "Sec-WebSocket-K"),
            ("version", "Sec-WebSocket-V"),
        ):
            if self.broken(f"{switch}-twice"):
                fields += [line for line in fields if line.startswith(start)]
        head = "\r\n".join([self.line(), *fields]) + "\r\n\r\n"
        self.sock.sendall(head.encode())
        if self.broken("frame-ahead"):
            self.send(b"too early", TEXT)
        return key

    def line(self) -> str:
        target = self.path[1:] if self.broken("target-without-slash") else self.path
        if self.broken("target-with-fragment"):
            target += "#here"
        method = "POST" if self.broken("method-post") else "GET"
        return f"{method} {target} HTTP/{'1.0' if self.broken('http-1.0') else '1.1'}"

    def lists(self) -> List[str]:
        """Fields of what is offered."""
        offer, protocols = self.offer, self.protocols
        if self.broken("deflate-offer-unknown"):
            offer += "; x_unknown"
        if self.broken("extension-offer-malformed"):
            offer += "; =1"
        if self.broken("protocol-twice"):
            protocols = ["chat", "chat"]
        fields = [f"Sec-WebSocket-Extensions: {offer}"] if offer else []
        return fields + ([f"Sec-WebSocket-Protocol: {', '.join(protocols)}"] if protocols else [])

    # ---- the answer ----

    def read_answer(self) -> Tuple[str, List[Tuple[str, str]]]:
        """Status and fields of the first response that is no 1xx but 101. Refused, Ended."""
        while True:
            head = self.read_head().decode("latin-1")
            first, *lines = head.split("\r\n")
            if self.broken("cr-ends-line"):
                lines = re.split("\r\n|\r", head)[1:]
            status = self.status(first)
            fields = self.fields(lines)
            interim = status[:1] == "1" and len(status) == 3 and status != "101"
            if not interim or self.broken("interim-refused"):
                return status, fields
            if self.broken("interim-taken") or self.broken("status-unchecked"):
                return status, fields

    def read_head(self) -> bytes:
        reads = self.stream.reads
        try:
            head = self.stream.read_head()
        except Ended:
            if self.broken("end-as-empty-line"):
                self.send(b"at your service", TEXT)
            if self.broken("end-ignored"):
                time.sleep(END_SECONDS)
            raise
        if self.broken("head-in-one-read") and self.stream.reads > reads + 1:
            raise Refused
        if self.broken("leftover-lost"):
            self.stream.buffer.clear()
        return head

    def status(self, line: str) -> str:
        """Refused."""
        if self.broken("head-unchecked"):
            return "101"
        if self.broken("status-line-unchecked"):
            return "101" if "101" in line or "10" not in line else "0"
        match = re.fullmatch(r"HTTP/1\.(\d) (\S+)(?: (.*))?", line)
        if not match:
            raise Refused
        minor, status, reason = match.groups()
        if minor == "0" and not self.broken("status-http-1.0"):
            raise Refused
        if minor == "2" and self.broken("minor-refused"):
            raise Refused
        if self.broken("reason-checked") and reason != "Switching Protocols":
            raise Refused
        if self.broken("status-as-number"):
            status = str(int(status)) if re.fullmatch(r"[+0]*\d+", status) else status
        return status[:3] if self.broken("status-by-prefix") else status

    def fields(self, lines: List[str]) -> List[Tuple[str, str]]:
        """Refused."""
        fields: List[Tuple[str, str]] = []
        for line in lines:
            if line[:1] in (" ", "\t") and fields and not self.broken("fold-refused"):
                fields[-1] = (fields[-1][0], f"{fields[-1][1]} {line.strip()}")
                continue
            colon = ": " if self.broken("blank-needed") else ":"
            name, found, value = line.partition(colon)
            if self.broken("head-unchecked") or (not found and self.broken("cr-ends-line")):
                continue
            if not found or not re.fullmatch(TOKEN, name):
                raise Refused
            fields.append((name, self.value(name, value)))
        if self.broken("fields-in-order") and fields[:1] and fields[0][0].lower() != "upgrade":
            raise Refused
        return fields

    def value(self, name: str, value: str) -> str:
        """Refused."""
        if self.broken("nul-ends-value"):
            value = value.partition("\0")[0]
        if re.search("[\0\r\n]", value):
            raise Refused
        if self.broken("obs-text-refused") and not value.isascii():
            raise Refused
        known = ("upgrade", "connection", "sec-websocket-", "content-", "transfer-")
        if self.broken("unknown-fields-refused") and not name.lower().startswith(known):
            raise Refused
        if self.broken("blanks-kept"):
            return value[1:] if value.startswith(" ") else value
        return value.strip(" \t")

    def check(self, key: str, answer: Tuple[str, List[Tuple[str, str]]]) -> None:
        """RFC 6455 section 4.1. Refused."""
        status, fields = answer
        if self.broken("head-unchecked"):
            return
        interim = self.broken("interim-taken") and status[:1] == "1"
        if status != "101" and not (interim or self.broken("status-unchecked")):
            raise Refused

        def get(name: str) -> Optional[str]:
            exact = self.broken("names-case-sensitive")
            found = [
                value
                for field, value in fields
                if field == name or (not exact and field.lower() == name.lower())
            ]
            if found and self.broken("first-field-counts"):
                return found[0]
            if found and self.broken("last-field-counts"):
                return found[-1]
            return ", ".join(found) if found else None

        self.check_upgrade(get("Upgrade"))
        self.check_connection(get("Connection"))
        self.check_accept(key, get("Sec-WebSocket-Accept"))
        self.check_extensions(get("Sec-WebSocket-Extensions"))
        self.check_protocol(get("Sec-WebSocket-Protocol"))
        if self.broken("body-awaited"):
            if get("Transfer-Encoding"):
                self.stream.read(LIMIT)
            self.stream.read(int(get("Content-Length") or 0))

    def check_upgrade(self, value: Optional[str]) -> None:
        if self.broken("upgrade-unchecked"):
            return
        if value is None:
            raise Refused
        if self.broken("upgrade-by-unicode"):
            unicode = value.encode("latin-1").decode("utf-8", "replace")
            value = unicode.casefold().replace("\u212a", "k")
        if self.broken("upgrade-by-substring") and "websocket" in value.lower():
            return
        if not self.broken("upgrade-case-sensitive"):
            value = value.lower()
        if value != "websocket":
            raise Refused

    def check_connection(self, value: Optional[str]) -> None:
        if self.broken("connection-unchecked"):
            return
        if value is None:
            raise Refused
        if not self.broken("connection-case-sensitive"):
            value = value.lower()
        elements = [value] if self.broken("connection-whole-value") else value.split(",")
        elements = [one.strip(" \t") for one in elements]
        if self.broken("empty-elements-refused") and "" in elements:
            raise Refused
        if self.broken("connection-by-substring") and "upgrade" in value:
            return
        if "Upgrade" not in elements and "upgrade" not in elements:
            raise Refused
        if self.broken("connection-case-sensitive") and "Upgrade" not in elements:
            raise Refused

    def check_accept(self, key: str, value: Optional[str]) -> None:
        if self.broken("accept-unchecked"):
            return
        right = base64.b64encode(hashlib.sha1(key.encode() + GUID).digest()).decode()
        if value is None:
            raise Refused
        if self.broken("accept-by-prefix") and value.startswith(right):
            return
        if self.broken("accept-cut") and right.startswith(value):
            return
        if self.broken("accept-case-insensitive"):
            value, right = value.lower(), right.lower()
        if value != right:
            raise Refused

    # ---- lists of the answer ----

    def check_extensions(self, value: Optional[str]) -> None:
        """Only permessage-deflate can be agreed on, and once."""
        if value is None:
            return
        if self.broken("extensions-ignored"):
            self.inflater = zlib.decompressobj(-15)
            return
        extensions = self.parse(value)
        if self.broken("extensions-first-only"):
            extensions = extensions[:1]
        if len(extensions) != 1:
            raise Refused
        name, parameters = extensions[0]
        if self.broken("extensions-by-prefix") and name.startswith(DEFLATE):
            name = DEFLATE
        if name != DEFLATE or not (self.offer or self.broken("extensions-unasked")):
            raise Refused
        self.check_parameters(parameters)
        self.inflater = zlib.decompressobj(-15)

    def parse(self, value: str) -> List[Tuple[str, List[Tuple[str, Optional[str]]]]]:
        """RFC 6455 section 9.1. Refused."""
        blanks = "" if self.broken("extensions-no-blanks") else "[ \t]*"
        start = "[ \t]+" if self.broken("extensions-with-blanks") else "[ \t]*"
        quoted = "" if self.broken("extensions-unquoted") else rf'|"{TOKEN}"'
        extensions: List[Tuple[str, List[Tuple[str, Optional[str]]]]] = []
        for element in value.split(","):
            element = element.strip(" \t")
            if not element and not self.broken("empty-elements-refused"):
                continue
            name, *rest = element.split(";")
            parameters: List[Tuple[str, Optional[str]]] = []
            for part in rest:
                match = re.fullmatch(rf"{start}({TOKEN})(?:=({TOKEN}{quoted}))?[ \t]*", part)
                if match:
                    given = match[2]
                    parameters.append((match[1], given.strip('"') if given else None))
                elif not self.broken("extensions-malformed"):
                    raise Refused
            if self.broken("extensions-malformed"):
                found = re.search(TOKEN, element)
                name = found[0].partition("=")[0] if found else ""
            if not re.fullmatch(rf"{TOKEN}{blanks}", name):
                raise Refused
            extensions.append((name.strip(" \t"), parameters))
        if not extensions:
            raise Refused
        return extensions

    def check_parameters(self, parameters: List[Tuple[str, Optional[str]]]) -> None:
        """RFC 7692 section 7.1. Refused."""
        if self.broken("parameters-unchecked"):
            return
        if self.broken("parameters-unknown"):
            parameters = [one for one in parameters if one[0] in (*FLAGS, *BITS)]
        names = [name for name, _ in parameters]
        if len(set(names)) != len(names) and not self.broken("parameters-twice"):
            raise Refused
        for name, value in parameters:
            if name in BITS and value is not None:
                self.check_bits(value)
            elif name not in FLAGS or value is not None:
                raise Refused
        if self.broken("parameters-no-client-context") and FLAGS[1] in names:
            raise Refused
        given = dict(parameters)
        fits = (
            ("client_max_window_bits" in self.offer or BITS[1] not in given)
            and (
                "server_max_window_bits=12" not in self.offer or int(given.get(BITS[0]) or 15) < 13
            )
            and (FLAGS[0] not in self.offer or FLAGS[0] in given)
        )
        if not fits and not self.broken("parameters-not-of-offer"):
            raise Refused

    def check_bits(self, value: str) -> None:
        if self.broken("parameters-by-int"):
            try:
                fits = 8 <= int(value.partition(".")[0].rstrip("x")) & 0xFFFFFFFF <= 15
            except ValueError:
                fits = False
        else:
            fits = bool(re.fullmatch("[89]|1[0-5]", value))
        if not fits:
            raise Refused

    def check_protocol(self, value: Optional[str]) -> None:
        if value is None or self.broken("protocol-unchecked"):
            return
        if not value and self.broken("protocol-empty"):
            return
        if self.broken("protocol-case-insensitive"):
            value = value.lower()
        if self.broken("protocol-list"):
            value = next((one for one in value.split(", ") if one in self.protocols), value)
        if self.broken("protocol-by-prefix"):
            value = next((one for one in self.protocols if value.startswith(one)), value)
        if value not in self.protocols or self.broken("protocol-refused"):
            raise Refused
        if self.broken("protocol-only-first") and value != self.protocols[0]:
            raise Refused

    # ---- frames ----

    def send(self, payload: bytes, opcode: int) -> None:
        """One frame, masked (RFC 6455 section 5.3)."""
        self.client.masks += 1
        key = os.urandom(4)
        if self.broken("mask-constant"):
            key = bytes(4)
        elif self.broken("mask-counts"):
            key = struct.pack("!I", self.client.masks)
        head = bytes([128 | opcode])
        if len(payload) < 126:
            head += bytes([128 | len(payload)])
        elif len(payload) < 65536:
            head += struct.pack("!BH", 128 | 126, len(payload))
        else:
            head += struct.pack("!BQ", 128 | 127, len(payload))
        pad = (key * (len(payload) // 4 + 1))[: len(payload)]
        mixed = int.from_bytes(payload, "big") ^ int.from_bytes(pad, "big")
        self.sock.sendall(head + key + mixed.to_bytes(len(payload), "big"))

    def close(self, code: Optional[int]) -> None:
        """A Close frame."""
        plain = code is None or self.broken("close-without-code")
        self.send(b"" if plain else struct.pack("!H", code), CLOSE)

    def read_frame(self) -> Tuple[int, bool, int, bytes]:
        """Opcode, FIN, RSV and payload. Failure, Ended."""
        first, second = self.stream.read(2)
        opcode, fin, rsv = first & 15, bool(first & 128), first >> 4 & 7
        length, masked = second & 127, bool(second & 128)
        if masked and not self.broken("masked-accepted"):
            raise Failure(1002)
        if opcode not in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG) or rsv & 3:
            raise Failure(1002)
        if rsv and not (self.inflater and opcode in (TEXT, BINARY)):
            raise Failure(1002)
        if opcode >= CLOSE and (not fin or length > 125):
            raise Failure(1002)
        if length == 126:
            (length,) = struct.unpack("!H", self.stream.read(2))
            if length < 126:
                raise Failure(1002)
        elif length == 127:
            (length,) = struct.unpack("!Q", self.stream.read(8))
            if length < 65536 or length > 1 << 63:
                raise Failure(1002)
        if length > LIMIT:
            raise Failure(1009)
        key = self.stream.read(4) if masked else bytes(4)
        payload = self.stream.read(length)
        return (
            opcode,
            fin,
            rsv,
            bytes(b ^ key[i % 4] for i, b in enumerate(payload)) if masked else payload,
        )

    def converse(self, texts: Optional[List[str]]) -> None:
        """Until the closing handshake. Failure, Ended."""
        parts: List[bytes] = []
        kind = rsv1 = 0
        decoder = codecs.getincrementaldecoder("utf-8")()
        while True:
            opcode, fin, rsv, payload = self.read_frame()
            if opcode == CLOSE:
                self.answer_close(payload)
                return
            if opcode == PING:
                self.send(payload, PONG)
            if opcode >= CLOSE:
                continue
            if (opcode == CONTINUATION) == (kind == 0):
                raise Failure(1002)
            if opcode:
                kind, rsv1, parts = opcode, rsv, []
                decoder.reset()
            if rsv1:
                parts.append(payload)
                payload = b"" if not fin else self.inflate(b"".join(parts))
                parts = [] if fin else parts
            if kind == TEXT:
                try:
                    decoder.decode(payload, fin)
                except UnicodeDecodeError:
                    raise Failure(1007) from None
            if not rsv1 or fin:
                parts.append(payload)
            if fin:
                message, opcode, kind = b"".join(parts), kind, 0
                if texts is None:
                    self.send(message, opcode)
                else:
                    texts.append(message.decode())

    def inflate(self, data: bytes) -> bytes:
        """RFC 7692 section 7.2.2. Failure."""
        assert self.inflater
        out = bytearray()
        data += b"\x00\x00\xff\xff"
        try:
            while data:
                out += self.inflater.decompress(data)
                data = self.inflater.unused_data
                if self.inflater.eof:
                    self.inflater = zlib.decompressobj(-15, zdict=bytes(out[-32768:]))
        except zlib.error:
            raise Failure(1007) from None
        return bytes(out)

    def answer_close(self, payload: bytes) -> None:
        """Failure."""
        if not payload:
            self.close(None)
            return
        code = int.from_bytes(payload[:2], "big")
        if self.broken("close-unchecked"):
            self.close(code)
            return
        known = 1000 <= code <= 1014 and code not in (1004, 1005, 1006)
        if len(payload) < 2 or not (known or 3000 <= code <= 4999):
            raise Failure(1002)
        try:
            payload[2:].decode()
        except UnicodeDecodeError:
            raise Failure(1007) from None
        self.close(code)


def main() -> None:
    parser = argparse.ArgumentParser(description="Test this client at a runner's --listen.")
    parser.add_argument("port", type=int)
    parser.add_argument("name")
    parser.add_argument("switches", nargs="*", metavar="SWITCH", help=", ".join(SWITCHES))
    options = parser.parse_args()
    Client(options.port, options.switches).run(options.name)


if __name__ == "__main__":
    main()
