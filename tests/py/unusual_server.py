# SPDX-License-Identifier: MIT
"""The server of broken_server.py, with manners that are right by the RFCs, and that a client seldom
meets: no case may be FAILED by one of them.

A manner is a name in `UNUSUAL`; most are made of a class that does one thing in another way.

    python tests/py/unusual_server.py [--port N] MANNER
    python tests/py/unusual_server.py --list
"""

import argparse
import select
import socket
import time
from typing import Callable, List, Tuple, Type

import unusual_handshake
from broken_parts import (
    BINARY,
    CLOSE,
    CONTINUATION,
    PING,
    PONG,
    TEXT,
    Failure,
    Gone,
    Stream,
    T,
)
from broken_server import Server
from broken_websocket import Header, Message, WebSocket
from unusual_manners import LATE, SMALL, UNUSUAL, manner

assert unusual_handshake  # its import adds manners

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


@manner("other-code", "every Close is answered with 1001")
class OtherCode(WebSocket):
    """RFC 6455 section 5.5.1: an endpoint "typically echos the status code it received"."""

    def answer_close(self, payload: bytes) -> None:
        super().answer_close(b"\x03\xe9")


@manner("closes-behind-message", "a Close within a message is answered behind it, if it ends soon")
class ClosesBehindMessage(WebSocket):
    def on_close(self, payload: bytes) -> None:
        stream = self.stream
        while self.message and (stream.buffer or select.select([stream.socket], [], [], LATE)[0]):
            self.read_frame()
        super().on_close(payload)


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
        self.served = 0
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
            self.served += 1
            sheds = self.manner.sheds and self.served % self.manner.sheds == 0
        if sheds or (self.manner.most and count > self.manner.most):
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
