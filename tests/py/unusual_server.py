"""The server of broken_server.py, with manners that are right by the RFCs, and that a client seldom
meets: no case may be FAILED by one of them.

A manner is a name in `UNUSUAL`; most are made of a class that does one thing in another way.

    python tests/py/unusual_server.py [--port N] MANNER
    python tests/py/unusual_server.py --list
"""

import argparse
import re
import select
import socket
import time
from typing import Any, Callable, Dict, List, NamedTuple, Optional, Tuple, Type

from broken_handshake import REASONS, Handshake
from broken_parts import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Failure,
    Gone,
    Refused,
    Stream,
    T,
)
from broken_server import Server
from broken_websocket import Header, Message, WebSocket
from unusual_deflate import (
    FinalBlocks,
    Forgetful,
    LargeWindows,
    ManyBlocks,
    NeverCompresses,
    NoDeflate,
    NoHints,
    SmallWindows,
    SometimesCompresses,
    StoredBlocks,
)

LATE = 0.15  # seconds, of an answer that is late
SMALL = 16384  # bytes of a message; what every server is expected to take
LOGIN = "Basic dXNlcjpzZWNyZXQ="


class Manner(NamedTuple):
    """What is different."""

    told: str
    parts: Tuple[Type[Any], ...] = ()
    """Classes that do the work of their base classes in broken_server.py."""
    switches: Tuple[str, ...] = ()
    """What is right, too, though the server is called broken with it."""
    one_connection: bool = False
    most: int = 0
    """Connections at a time."""
    buffers: int = 0
    """Bytes of the buffers of the kernel."""
    distance: float = 0.0
    """Seconds each way."""
    fields: Tuple[Tuple[str, str], ...] = ()
    """That every request needs."""


UNUSUAL: Dict[str, Manner] = {
    "failure-ends-tcp": Manner(
        "failures end TCP without a Close", switches=("failure-without-close",)
    ),
    "failure-resets": Manner(
        "failures reset TCP without a Close", switches=("failure-without-close", "end-as-reset")
    ),
    "ends-by-reset": Manner("TCP is ended by a reset", switches=("end-as-reset",)),
    "refusal-ends-tcp": Manner(
        "what is refused is refused by the end of TCP", switches=("no-error-response",)
    ),
    "no-query": Manner("a query is not found", switches=("query-refused",)),
    "drops-early": Manner("what comes ahead of the 101 is lost", switches=("ignores-early-data",)),
    "text-at-the-end": Manner("text is checked in the end", switches=("utf8-late",)),
    "no-deflate": Manner("permessage-deflate is declined", (NoDeflate,)),
    "large-windows": Manner("offers with server_max_window_bits are declined", (LargeWindows,)),
    "forgetful": Manner("no context is taken over", (Forgetful,)),
    "small-windows": Manner("windows have 512 bytes", (SmallWindows,)),
    "no-hints": Manner("hints of the client are not answered", (NoHints,)),
    "never-compresses": Manner("no message is compressed", (NeverCompresses,)),
    "sometimes-compresses": Manner("each other message is", (SometimesCompresses,)),
    "stored-blocks": Manner("blocks are not compressed", (StoredBlocks,)),
    "final-blocks": Manner("messages end with BFINAL", (FinalBlocks,)),
    "many-blocks": Manner("messages have many blocks", (ManyBlocks,)),
    "small-buffers": Manner(
        "nothing is read while echoes are unsent, and buffers are small", buffers=32768
    ),
    "one-at-a-time": Manner("one connection is served, others wait", one_connection=True),
    "few-connections": Manner("503 for 16 connections", most=16),
    "far-away": Manner("bytes take 0.3 s each way", distance=0.3),
}
"""By name; below those that need a class of their own."""


def manner(name: str, told: str, *parts: Type[Any], **more: Any) -> Callable[[Type[T]], Type[T]]:
    """One that is made of the class below, perhaps with others."""

    def register(part: Type[T]) -> Type[T]:
        UNUSUAL[name] = Manner(told, (*parts, part), **more)
        return part

    return register


# ---- how connections end ------------------------------------------------------------------------


@manner("codeless-failures", "failures are told by a Close without a code")
class Codeless(WebSocket):
    """RFC 6455 section 7.1.7: "an appropriate status code" is a SHOULD."""

    def tell(self, code: int, reason: str) -> None:
        self.send_frame(b"", CLOSE)


@manner("codeless-answers", "a Close is answered without a code")
class CodelessAnswer(WebSocket):
    """RFC 6455 section 5.5.1: "typically echos the status code"."""

    def answer_close(self, payload: bytes) -> None:
        self.send_frame(b"", CLOSE)


@manner("codeless-closes", "no Close has a code")
class CodelessAlways(Codeless, CodelessAnswer):
    pass


@manner("answers-1000", "a Close with a code is answered with 1000")
class Answers1000(WebSocket):
    def answer_close(self, payload: bytes) -> None:
        self.send_frame(b"\x03\xe8" if payload else b"", CLOSE)


@manner("answers-with-reason", "answers have a reason")
class AnswersWithReason(WebSocket):
    def answer_close(self, payload: bytes) -> None:
        self.send_frame(payload[:2] + b"goodbye" if payload else b"", CLOSE)


@manner("echoes-reason", "a Close is answered with its reason")
class EchoesReason(WebSocket):
    def answer_close(self, payload: bytes) -> None:
        self.send_frame(payload, CLOSE)


@manner("other-codes", "1011 for 1002, and 1008 for 1007")
class OtherCodes(WebSocket):
    def tell(self, code: int, reason: str) -> None:
        super().tell({1002: 1011, 1007: 1008}.get(code, code), reason)


@manner("hasty", "TCP is ended, whatever is unread")
class Hasty(Stream):
    """What has not been read makes a reset of the end, which may overtake what was sent."""

    def end(self) -> None:
        self.socket.close()


@manner("late-end", "TCP is ended a moment after the Close")
class LateEnd(WebSocket):
    def run(self) -> None:
        super().run()
        time.sleep(LATE)


@manner("late-close", "a Close is answered after a moment")
class LateClose(WebSocket):
    def answer_close(self, payload: bytes) -> None:
        time.sleep(LATE)
        super().answer_close(payload)


@manner("closes-behind-message", "a Close within a message is answered behind it, if it ends soon")
class ClosesBehindMessage(WebSocket):
    def on_close(self, payload: bytes) -> None:
        stream = self.stream
        while self.message and (stream.buffer or select.select([stream.socket], [], [], LATE)[0]):
            self.read_frame()
        super().on_close(payload)


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


# ---- when, and in which pieces ------------------------------------------------------------------


class Idle(Stream):
    """Does what was put off when nothing is left to be read."""

    def __init__(self, connection: socket.socket) -> None:
        super().__init__(connection)
        self.put_off: List[Callable[[], None]] = []

    def fill(self) -> None:
        self.catch_up()
        super().fill()

    def catch_up(self) -> None:
        put_off, self.put_off = self.put_off, []
        for act in put_off:
            act()


class Later(WebSocket):
    """Puts things off."""

    def idle(self) -> Idle:
        assert isinstance(self.stream, Idle)
        return self.stream


@manner("echoes-later", "Pongs overtake echoes", Idle)
class EchoesLater(Later):
    """As of an application with threads of its own: Pongs overtake echoes, a Close does not."""

    def echo(self, opcode: int, payload: bytes) -> None:
        self.idle().put_off.append(lambda: WebSocket.echo(self, opcode, payload))

    def on_close(self, payload: bytes) -> None:
        self.idle().catch_up()
        super().on_close(payload)


@manner("closes-at-once", "a Close overtakes echoes", Idle)
class ClosesAtOnce(Later):
    """The same, and echoes that are under way are dropped when the connection is closed."""

    def echo(self, opcode: int, payload: bytes) -> None:
        self.idle().put_off.append(lambda: WebSocket.echo(self, opcode, payload))

    def on_close(self, payload: bytes) -> None:
        self.idle().put_off.clear()
        super().on_close(payload)

    def fail(self, failure: Failure) -> None:
        self.idle().put_off.clear()
        super().fail(failure)


@manner("pongs-late", "Pongs come late", Idle)
class PongsLate(Later):
    """RFC 6455 section 5.5.2: "as soon as is practical" is a SHOULD."""

    waiting: Tuple[bytes, ...] = ()

    def pong(self, payload: bytes) -> None:
        if not self.waiting:
            self.idle().put_off.append(self.pong_late)
        self.waiting = (*self.waiting, payload)[-100:]

    def pong_late(self) -> None:
        time.sleep(LATE)
        waiting, self.waiting = self.waiting, ()
        for payload in waiting:
            WebSocket.pong(self, payload)

    def on_close(self, payload: bytes) -> None:
        self.idle().catch_up()
        super().on_close(payload)


@manner("closes-before-pongs", "a Close overtakes Pongs", Idle)
class ClosesBeforePongs(Later):
    """RFC 6455 section 5.5.2: no Pong is due when a Close has come already."""

    def pong(self, payload: bytes) -> None:
        self.idle().put_off.append(lambda: WebSocket.pong(self, payload))

    def on_close(self, payload: bytes) -> None:
        self.idle().put_off.clear()
        super().on_close(payload)


@manner("newest-pong", "of several Pings the last is answered")
class NewestPong(WebSocket):
    """RFC 6455 section 5.5.3."""

    def pong(self, payload: bytes) -> None:
        if self.stream.buffer[:1] != b"\x89":
            super().pong(payload)


@manner("pings", "Pings are sent, too")
class Beats(WebSocket):
    """Sends a control frame of its own ahead of all that it sends."""

    opcode = PING

    def run(self) -> None:
        self.beat()
        super().run()

    def beat(self) -> None:
        self.send_frame(bytes(125) if self.messages % 2 else b"", self.opcode)

    def send_message(self, opcode: int, payload: bytes, rsv: int) -> None:
        self.beat()
        half = len(payload) // 2
        self.send_frame(payload[:half], opcode, False, rsv)
        self.beat()
        self.send_frame(payload[half:], CONTINUATION)

    def answer_close(self, payload: bytes) -> None:
        self.beat()
        super().answer_close(payload)


@manner("pongs", "Pongs are sent unasked")
class BeatsByPong(Beats):
    """RFC 6455 section 5.5.3: "A Pong frame MAY be sent unsolicited"."""

    opcode = PONG


@manner("fragments", "echoes are fragmented")
class Fragments(WebSocket):
    def send_message(self, opcode: int, payload: bytes, rsv: int) -> None:
        size = max(len(payload) // 4, 10)
        for at in range(0, max(len(payload), 1), size):
            part = payload[at : at + size]
            self.send_frame(part, CONTINUATION if at else opcode, False, 0 if at else rsv)
        self.send_frame(b"", CONTINUATION)


@manner("streams", "fragments are echoed as they come")
class Streams(WebSocket):
    """RFC 6455 section 5.4: "a receiver doesn't have to buffer the whole frame"."""

    def end_frame(self, header: Header, message: Message) -> None:
        if self.deflater:
            return super().end_frame(header, message)
        self.check_text(header.fin, message)
        opcode = message.opcode if len(message.frames) == 1 else CONTINUATION
        self.send_frame(bytes(message.frames[-1]), opcode, header.fin)
        if header.fin:
            self.message = None


@manner("greets", "a message comes unasked")
class Greets(WebSocket):
    def run(self) -> None:
        self.send_frame(b"Welcome! This server echoes.", TEXT)
        super().run()


@manner("greets-twice", "two of them, compressed")
class GreetsTwice(WebSocket):
    def run(self) -> None:
        for opcode, payload in ((TEXT, b"Welcome, welcome, welcome!"), (BINARY, b"\xff\0")):
            rsv = 0
            if self.deflater:
                payload, rsv = self.compressed(payload)
            self.send_message(opcode, payload, rsv)
        super().run()


@manner("whole-frames", "a frame is looked at when it is complete")
class WholeFrames(WebSocket):
    """Looks at no frame before it is there as a whole, but for those that are too large."""

    def read_frame(self) -> None:
        buffer = self.stream.buffer
        while len(buffer) < 2:
            self.stream.fill()
        form = buffer[1] & 127
        size = {126: 2, 127: 8}.get(form, 0)
        while len(buffer) < 2 + size:
            self.stream.fill()
        length = int.from_bytes(buffer[2 : 2 + size], "big") if size else form
        whole = 2 + size + (4 if buffer[1] & 128 else 0) + length
        while len(buffer) < whole and length <= self.limit:
            self.stream.fill()
        super().read_frame()


@manner("bytewise", "answers come octet by octet")
class Bytewise(Stream):
    """Every octet is a write, but for those that come with many others."""

    def write(self, data: bytes) -> None:
        size = 1 if len(data) <= 300 else 1000
        for at in range(0, len(data), size):
            super().write(data[at : at + size])


@manner("batches", "answers come together")
class Batches(Stream):
    """Writes when there is nothing left to be read: the 101 with what is behind it, too."""

    unwritten = b""

    def write(self, data: bytes) -> None:
        self.unwritten += data
        if len(self.unwritten) > 65536:
            self.flush()

    def flush(self) -> None:
        data, self.unwritten = self.unwritten, b""
        super().write(data)

    def fill(self) -> None:
        self.flush()
        super().fill()

    def end(self) -> None:
        try:
            self.flush()
        except Gone:
            pass
        super().end()


# ---- limits -------------------------------------------------------------------------------------


@manner("small-messages", "1009 above 16 KiB")
class SmallMessages(WebSocket):
    def check_length(self, opcode: int) -> None:
        self.limit = SMALL
        super().check_length(opcode)


@manner("codeless-limits", "a Close without a code above 16 KiB")
class CodelessLimits(SmallMessages, Codeless):
    pass


@manner("limits-end-tcp", "the end of TCP above 16 KiB", switches=("failure-without-close",))
class LimitsEndTcp(SmallMessages):
    pass


@manner("few-fragments", "1008 for 1000 fragments")
class FewFragments(WebSocket):
    def check_fragment(self, header: Header, message: Message) -> None:
        if len(message.frames) > 1000:
            raise Failure(1008, "too many fragments")


@manner("few-pings", "1008 for 150 Pings")
class FewPings(WebSocket):
    def on_ping(self, payload: bytes) -> None:
        if self.pongs - self.messages >= 150:
            raise Failure(1008, "too many Pings")
        super().on_ping(payload)


# ---- the server ---------------------------------------------------------------------------------


class UnusualServer(Server):
    """One with manners. `distance` is for a proxy, see delay_proxy.py."""

    def __init__(self, name: str, port: int = 0, patience: float = 1.0) -> None:
        """KeyError: there is no such manner."""
        self.manner = UNUSUAL[name]
        super().__init__(self.manner.switches, port, patience)

    def part(self, kind: Type[T]) -> Type[T]:
        return next((part for part in self.manner.parts if issubclass(part, kind)), kind)

    def _start(self, connection: socket.socket) -> None:
        for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
            if self.manner.buffers:
                connection.setsockopt(socket.SOL_SOCKET, option, self.manner.buffers)
        if self.manner.one_connection:
            return self._serve(connection)
        super()._start(connection)

    def _talk(self, stream: Stream) -> None:
        with self.lock:
            count = len(self.streams)
        if self.manner.most and count > self.manner.most:
            stream.write(b"HTTP/1.1 503 Busy\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
            return
        super()._talk(stream)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="print the manners")
    parser.add_argument("manner", nargs="?", choices=[*UNUSUAL], metavar="MANNER")
    options = parser.parse_args()
    if options.list or not options.manner:
        for name, manner in UNUSUAL.items():
            print(f"{name:24} {manner.told}")
        return
    server = UnusualServer(options.manner, options.port)
    print(f"listening on 127.0.0.1:{server.port}", flush=True)
    server.thread.join()


if __name__ == "__main__":
    main()
