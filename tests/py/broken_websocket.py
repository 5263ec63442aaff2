# SPDX-License-Identifier: MIT
"""An open connection of broken_server.py: frames, messages and the closing handshake (RFC 6455
sections 5 to 8).
"""

import select
import struct
import time
from typing import Iterator, List, NamedTuple, Optional, Tuple

from broken_deflate import Deflater, Inflater, Terms
from broken_parts import (
    BINARY,
    CLOSE,
    CONTINUATION,
    LIMIT,
    LOW_LIMIT,
    PING,
    PONG,
    TEXT,
    Failure,
    Gone,
    Part,
    Stream,
    Switchboard,
    xor,
)
from broken_utf8 import Utf8

RSV1 = 4
# First and last code, and the switch that makes them right, or wrong.
CODES = [
    (0, 999, "code-below-1000-accepted"),
    (1001, 1003, "code-1001-refused"),
    (1004, 1004, "code-1004-accepted"),
    (1005, 1006, "code-1005-accepted"),
    (1007, 1014, "code-1007-refused"),
    (1015, 1015, "code-1015-accepted"),
    (1016, 2999, "code-1016-accepted"),
    (3000, 3999, "code-3000-refused"),
    (4000, 4999, "code-4000-refused"),
]


class Header(NamedTuple):
    """RFC 6455 section 5.2."""

    fin: bool
    rsv: int
    opcode: int
    length: int
    key: Optional[bytes]

    @property
    def is_control(self) -> bool:
        return self.opcode >= CLOSE


class Message:
    """One that is coming in."""

    def __init__(self, opcode: int, compressed: bool, utf8: Utf8) -> None:
        self.opcode = opcode
        self.compressed = compressed
        self.utf8 = utf8
        self.frames: List[bytearray] = []
        self.size = 0  # of its frames
        self.length = 0  # of what is in them

    def payload(self) -> bytes:
        return b"".join(self.frames)


class WebSocket(Part):
    """Reads frames, and echoes messages."""

    def __init__(self, server: Switchboard, stream: Stream, terms: Optional[Terms]) -> None:
        super().__init__(server)
        self.stream = stream
        self.deflater = server.part(Deflater)(server, terms) if terms else None
        self.inflater = Inflater(server, terms.client_fresh) if terms else None
        self.message: Optional[Message] = None
        self.utf8 = Utf8(server)
        self.length_due: Optional[int] = None  # the form of a length that is not yet read
        self.key_due = False
        self.left = 0  # bytes of the payload that is being read
        self.first_key: Optional[bytes] = None
        self.late: List[bytes] = []  # Pings, or a Close, to be answered later
        self.stale = bytearray()
        self.messages = self.pongs = 0
        self.limit = LOW_LIMIT if self.broken("low-limit-as-1000") else LIMIT
        self.open = True

    def run(self) -> None:
        """Until the connection is to be ended. Gone."""
        try:
            while self.open:
                self.stream.reads = int(bool(self.stream.buffer))
                try:
                    self.read_frame()
                except Failure as failure:
                    if self.is_skipped():
                        self.skip()
                    else:
                        self.fail(failure)
            if self.broken("tcp-never-ended"):
                self.server.ended.wait()
        except Gone:
            if self.broken("half-close-kept"):
                self.server.ended.wait()
            raise

    def fail(self, failure: Failure) -> None:
        """RFC 6455 section 7.1.7."""
        if self.broken("failure-of-all"):
            self.server.drop_others(self.stream)
        code = 1000 if self.broken("failure-as-1000") else failure.code
        lost = self.broken("failure-lost") and self.has_more()
        if not lost and not self.broken("failure-without-close"):
            self.tell(code, str(failure))
        self.open = False
        if self.broken("failure-then-more"):
            self.answer_more()
        if self.broken("failure-waits"):
            self.wait_for_close()

    def tell(self, code: int, reason: str) -> None:
        self.send_frame(struct.pack("!H", code) + reason.encode(), CLOSE)

    def has_more(self) -> bool:
        """Whether anything comes behind the frame that is read now."""
        self.read_plain_length()
        if select.select([self.stream.socket], [], [], 0.1)[0]:
            self.stream.fill()
        return len(self.stream.buffer) > self.left + 4 * self.key_due

    def is_skipped(self) -> bool:
        """Whether the frame that is read now does not end the connection, as it must."""
        return self.stream.reads > 1 and self.broken("end-in-one-read")

    def skip(self) -> None:
        """What is due of the frame that is being read."""
        self.read_plain_length()
        if self.key_due:
            self.key_due = False
            self.stream.read(4)
        while self.left:
            self.left -= len(self.stream.some(self.left))

    def answer_more(self) -> None:
        """What no endpoint does after a Close or a failure: go on, here for 0.2 s."""
        self.stream.deadline = time.monotonic() + 0.2
        self.message = None
        try:
            self.skip()
            while True:
                self.read_frame()
        except (Gone, Failure):
            pass

    def wait_for_close(self) -> None:
        try:
            self.skip()
            while self.read_header().opcode != CLOSE:
                self.skip()
        except Failure:
            self.server.ended.wait()

    # ---- reading ----

    def read_frame(self) -> None:
        """One frame, and what it is answered with. Failure, Gone."""
        header = self.read_header()
        if header.is_control:
            self.on_control(header)
        elif header.opcode > BINARY:
            self.on_unknown(header)
        else:
            self.on_data(header)

    def read_header(self) -> Header:
        """What can be judged by the header is judged before the payload comes."""
        first, second = self.stream.read(2)
        fin, rsv, opcode = bool(first & 128), first >> 4 & 7, first & 15
        self.length_due, self.key_due = second & 127, bool(second & 128)
        if not self.key_due and not self.broken("unmasked-accepted"):
            raise Failure(1002, "a frame that is not masked")
        self.check_bits(fin, rsv, opcode)
        self.read_length()
        self.check_length(opcode)
        return Header(fin, rsv, opcode, self.left, self.read_key() if self.key_due else None)

    def check_bits(self, fin: bool, rsv: int, opcode: int) -> None:
        """RFC 6455 section 5.2; RSV1 is RFC 7692 section 6."""
        if opcode == 11 and self.broken("crash-by-opcode-11"):
            self.server.crash()
            raise Gone
        if self.is_reserved(rsv, opcode):
            raise Failure(1002, "a reserved bit is set")
        if 2 < opcode < 8 and not self.broken_opcodes():
            raise Failure(1002, f"opcode {opcode}")
        if opcode > PONG and not self.broken("control-opcodes-ignored"):
            raise Failure(1002, f"opcode {opcode}")
        if opcode >= CLOSE and not fin and not self.broken("fragmented-control-accepted"):
            raise Failure(1002, "a fragmented control frame")
        if opcode >= CLOSE and self.message and self.broken("control-within-refused"):
            raise Failure(1002, "a control frame within a message")

    def broken_opcodes(self) -> bool:
        return self.broken("data-opcodes-ignored") or self.broken("data-opcodes-as-binary")

    def is_reserved(self, rsv: int, opcode: int) -> bool:
        """Whether a bit is set that means nothing there."""
        if self.broken("rsv-ignored"):
            return False
        if self.broken("rsv2-ignored"):
            rsv &= ~2
        if self.broken("rsv3-ignored"):
            rsv &= ~1
        if self.inflater is None:
            return bool(rsv & ~RSV1 if self.broken("rsv1-ignored") else rsv)
        meant = RSV1 if opcode in (TEXT, BINARY) else 0
        if opcode == CONTINUATION and self.message and self.broken("deflate-rsv1-later"):
            meant = RSV1
        if opcode in (CLOSE, PING, PONG) and self.broken("deflate-rsv1-control"):
            meant = RSV1
        return bool(rsv & ~meant)

    def read_plain_length(self) -> None:
        """Unless it has been read."""
        form, self.length_due = self.length_due, None
        if form is not None:
            size = {126: 2, 127: 8}.get(form, 0)
            self.left = int.from_bytes(self.stream.read(size), "big") if size else form

    def read_length(self) -> None:
        """The shortest form, 63 bits at most (RFC 6455 section 5.2)."""
        form = self.length_due
        self.read_plain_length()
        if form == 126 and self.left > 32767 and self.broken("length-16-signed"):
            raise Failure(1002, "a negative length")
        shortest = self.left > {126: 125, 127: 65535}.get(form or 0, -1)
        if form == 127:
            self.left = self.wide_length(self.left)
        if not shortest and not self.broken("long-lengths-accepted"):
            raise Failure(1002, "a length that is not in its shortest form")

    def wide_length(self, length: int) -> int:
        if self.broken("length-64-refused"):
            raise Failure(1009, "a length of 64 bits")
        if self.broken("length-32-bits"):
            length &= (1 << 32) - 1
        if self.broken("length-63-bits"):
            length &= (1 << 63) - 1
        if length >> 63:
            raise Failure(1002, "a length of 64 bits")
        return length

    def check_length(self, opcode: int) -> None:
        if opcode >= CLOSE:
            if self.left > 125 and not self.broken("long-control-accepted"):
                raise Failure(1002, "a control frame of more than 125 bytes")
            return
        size = self.left + (self.message.size if self.message else 0)
        if size > self.limit:
            raise Failure(1000 if self.broken("low-limit-as-1000") else 1009, "too large")

    def read_key(self) -> bytes:
        self.key_due = False
        key = self.stream.read(4)
        if self.broken("mask-zero-refused") and key == bytes(4):
            raise Failure(1002, "a masking key of zeros")
        self.first_key = self.first_key or key
        return self.first_key if self.broken("mask-of-first-frame") else key

    def payload(self, header: Header) -> Iterator[bytes]:
        """Unmasked, in pieces as they come."""
        while self.left:
            offset = header.length - self.left
            data = self.stream.some(min(self.left, 61 - offset % 61 if self.restarts() else 65536))
            self.left -= len(data)
            if self.restarts():
                offset %= 61
            yield data if header.key is None else xor(data, header.key, offset)

    def restarts(self) -> bool:
        return self.broken("mask-restarts")

    # ---- data frames ----

    def on_unknown(self, header: Header) -> None:
        payload = b"".join(self.payload(header))
        if self.broken("data-opcodes-as-binary"):
            self.echo(BINARY, payload)

    def on_data(self, header: Header) -> None:
        """A message, or a part of one (RFC 6455 sections 5.4 and 5.6)."""
        message = self.message_of(header)
        if message is None:
            return self.skip()
        message.size += header.length
        message.frames.append(bytearray())
        self.check_fragment(header, message)
        if message.compressed and self.broken("deflate-by-frame"):
            self.begin_inflating()
        for piece in self.payload(header):
            self.add(message, piece)
        self.end_frame(header, message)

    def message_of(self, header: Header) -> Optional[Message]:
        """The one that the frame belongs to; None: the frame is skipped. Failure."""
        if header.opcode == CONTINUATION and not self.message:
            return self.without_beginning(header)
        if header.opcode != CONTINUATION and self.message:
            if self.broken("new-message-within-continues"):
                return self.message
            if not self.broken("new-message-within-replaces"):
                raise Failure(1002, "a new message within a message")
        if header.opcode != CONTINUATION:
            self.message = self.begin(header.opcode, header.rsv)
        return self.message

    def without_beginning(self, header: Header) -> Optional[Message]:
        if self.broken("continuation-alone-ignored"):
            return None
        if not self.broken("continuation-alone-as-text"):
            raise Failure(1002, "a Continuation with nothing to continue")
        self.message = self.begin(TEXT, header.rsv)
        return self.message

    def begin(self, opcode: int, rsv: int) -> Message:
        compressed = bool(rsv & RSV1) and self.inflater is not None
        if self.inflater and not compressed and self.broken("deflate-plain-refused"):
            raise Failure(1002, "a message that is not compressed")
        if not self.broken("utf8-state-stays"):
            self.utf8 = Utf8(self.server)
        if compressed:
            self.begin_inflating()
        return Message(opcode, compressed, self.utf8)

    def begin_inflating(self) -> None:
        assert self.inflater
        self.inflater.begin()

    def check_fragment(self, header: Header, message: Message) -> None:
        fragment = header.opcode == CONTINUATION or not header.fin
        if fragment and not header.length and self.broken("empty-fragments-refused"):
            raise Failure(1002, "an empty fragment")
        if len(message.frames) > 64 and self.broken("fragments-limited"):
            raise Failure(1008, "too many fragments")
        if len(message.frames) > 16384 and self.broken("fragments-16384"):
            raise Failure(1008, "too many fragments")

    def add(self, message: Message, data: bytes) -> None:
        """Bytes of a message. Failure."""
        if not message.compressed:
            return self.add_plain(message, data)
        assert self.inflater
        for piece in self.inflater.feed(data):
            self.add_plain(message, piece)

    def add_plain(self, message: Message, data: bytes) -> None:
        message.length += len(data)
        if message.length > self.limit:
            code = 1008 if self.broken("deflate-limit-as-1008") else 1009
            raise Failure(1000 if self.broken("low-limit-as-1000") else code, "too large")
        message.frames[-1] += data
        if self.is_checked(message) and not self.is_checked_late():
            message.utf8.feed(data)

    def is_checked(self, message: Message) -> bool:
        """Whether it must be UTF-8."""
        if self.broken("utf8-unchecked"):
            return False
        if message.compressed and self.broken("utf8-compressed-unchecked"):
            return False
        return message.opcode == TEXT or self.broken("utf8-binary-checked")

    def is_checked_late(self) -> bool:
        return self.broken("utf8-late") or self.broken("utf8-at-frame-end")

    def end_frame(self, header: Header, message: Message) -> None:
        """What is due when a frame is complete. Failure."""
        if message.compressed and (header.fin or self.broken("deflate-by-frame")):
            assert self.inflater
            for piece in self.inflater.finish():
                self.add_plain(message, piece)
        self.check_text(header.fin, message)
        if self.broken("echo-by-frame") and not header.fin:
            self.echo(message.opcode, bytes(message.frames[-1]))
            message.frames[-1].clear()
        if header.fin:
            self.message = None
            self.end_message(message)

    def check_text(self, fin: bool, message: Message) -> None:
        """What of a text message is checked at the end of a frame."""
        if not self.is_checked(message):
            return
        if self.broken("utf8-late"):
            if fin:
                message.utf8.feed(message.payload(), True)
            return
        last = bytes(message.frames[-1]) if self.is_checked_late() else b""
        each = self.broken("utf8-each-frame")
        final = fin and not self.broken("utf8-state-stays")
        message.utf8.feed(last, final or each)

    def end_message(self, message: Message) -> None:
        if message.compressed and self.inflater and self.inflater.dropped:
            return
        payload = self.joined(message)
        if message.compressed or not self.inflater:
            self.note_empty(payload)
        elif self.broken("deflate-plain-in-window"):
            self.inflater.restart((self.inflater.window + payload)[-32768:])
        if self.broken("utf8-bom-dropped") and message.opcode == TEXT:
            payload = payload.replace("\ufeff".encode(), b"")
        opcode = message.opcode
        if self.broken("type-of-last-frame") and len(message.frames) > 1:
            opcode = BINARY
        self.echo(opcode, payload)
        self.answer_late()

    def joined(self, message: Message) -> bytes:
        """The frames of a message, put together."""
        if self.broken("fragments-reversed"):
            message.frames.reverse()
        payload = message.payload()
        if self.broken("fragments-stay") and len(message.frames) > 1:
            self.stale += payload
            payload = bytes(self.stale)
        return payload

    def note_empty(self, payload: bytes) -> None:
        if self.inflater and not payload and self.broken("deflate-empty-clears"):
            self.inflater.restart(b"")

    # ---- control frames ----

    def on_control(self, header: Header) -> None:
        if header.opcode == PING and self.broken("control-early"):
            self.send_frame(bytes(header.length), PONG)
        payload = b"".join(self.payload(header))
        if header.opcode == CLOSE:
            self.on_close(payload)
        elif header.opcode == PING:
            self.on_ping(payload)
        elif header.opcode == PONG:
            self.on_pong(payload)

    def on_ping(self, payload: bytes) -> None:
        """RFC 6455 section 5.5.2."""
        if self.broken("ping-unanswered") or self.broken("control-early"):
            return
        self.stream.pings += 1
        if self.stream.pings > 64 and self.broken("pings-end-tcp"):
            raise Gone
        if self.broken("ping-as-text"):
            Utf8(self.server).feed(payload, True)
        if self.message and self.message.opcode == TEXT and self.broken("utf8-ping-counted"):
            self.message.utf8.feed(payload)
        if self.inflater and self.broken("deflate-ping-clears"):
            self.inflater.restart(b"")
        if self.broken("pong-empty"):
            payload = b""
        if self.broken("pong-cut"):
            payload = payload[:124]
        if self.message and self.broken("pong-late"):
            self.late.append(payload)
            return
        self.pong(payload)

    def pong(self, payload: bytes) -> None:
        self.pongs += 1
        if self.pongs > 8 and self.broken("pongs-limited"):
            return
        self.send_frame(payload, PONG)

    def on_pong(self, payload: bytes) -> None:
        """Nothing is due (RFC 6455 section 5.5.3)."""
        if self.broken("pong-answered"):
            self.send_frame(payload, PONG)
        if self.broken("pong-refused"):
            raise Failure(1002, "a Pong that nobody asked for")

    def answer_late(self) -> None:
        for payload in self.late:
            self.send_frame(payload, PONG)
        self.late.clear()

    # ---- Close ----

    def on_close(self, payload: bytes) -> None:
        """RFC 6455 section 5.5.1."""
        if self.broken("failure-then-more") and not self.open:
            raise Gone
        try:
            self.check_close(payload)
        except Failure:
            if not self.broken("close-unchecked"):
                raise
            payload = b"\x03\xe8"
        if self.is_skipped():
            return
        if not payload and self.broken("close-ignored"):
            return
        if self.message and self.broken("close-waits-for-message"):
            while self.message:
                self.read_frame()
        self.open = False
        if not self.broken("close-unanswered"):
            self.answer_close(payload)
        if self.broken("close-then-more"):
            return self.answer_more()
        if len(payload) > 2 and self.broken("tcp-left-open"):
            self.server.ended.wait()

    def answer_close(self, payload: bytes) -> None:
        """With the same code."""
        answer = payload[:2]
        if not payload and self.broken("close-answer-1005"):
            answer = struct.pack("!H", 1005)
        if answer > b"\x03\xe8" and self.broken("close-answer-1001"):
            answer = struct.pack("!H", 1001)
        self.send_frame(answer, CLOSE)

    def check_close(self, payload: bytes) -> None:
        """Failure."""
        if len(payload) == 1 and not self.broken("close-one-byte-accepted"):
            raise Failure(1002, "a Close with one byte")
        if len(payload) < 2:
            return
        if not self.is_code(int.from_bytes(payload[:2], "big")):
            raise Failure(1002, "a code that may not be sent")
        if len(payload) > 2 and self.broken("reason-refused"):
            raise Failure(1002, "a reason")
        if not self.broken("reason-unchecked"):
            Utf8(self.server).feed(payload[2:], True)

    def is_code(self, code: int) -> bool:
        """Whether it may be sent (RFC 6455 section 7.4, and the registry of IANA)."""
        fine = 1000 <= code <= 1014 or 3000 <= code <= 4999
        if code in (1004, 1005, 1006):
            fine = False
        for first, last, switch in CODES:
            if first <= code <= last and self.broken(switch):
                return not fine
        return fine

    # ---- sending ----

    def echo(self, opcode: int, payload: bytes) -> None:
        """A message, compressed where that was agreed on."""
        self.messages += 1
        if self.messages > 100 and self.broken("stops-after-100"):
            raise Failure(1008, "enough")
        if not payload and self.broken("empty-not-echoed"):
            return
        if self.broken("text-as-binary"):
            opcode = BINARY
        if self.broken("binary-as-text"):
            opcode = TEXT
        if len(payload) > 100 and self.broken("echo-cut"):
            payload = payload[:-1]
        if self.messages > 299 and self.broken("echo-300-cut"):
            payload = payload[:-1]
        rsv = RSV1 if not payload and self.broken("sends-rsv1") else 0
        if self.deflater:
            payload, rsv = self.compressed(payload)
        if self.messages == 64 and self.broken("echo-64-waits"):
            self.stream.peek()
            self.read_frame()
        self.send_message(opcode, payload, rsv)

    def compressed(self, payload: bytes) -> Tuple[bytes, int]:
        """And whether it is marked so."""
        assert self.deflater
        if self.broken("deflate-sends-plain-marked"):
            return payload, RSV1
        data = self.deflater.message(payload)
        return data, 0 if self.broken("deflate-unmarked") else RSV1

    def send_message(self, opcode: int, payload: bytes, rsv: int) -> None:
        """In one frame."""
        half = len(payload) // 2
        if rsv & RSV1 and self.broken("deflate-marks-all-frames"):
            self.send_frame(payload[:half], opcode, False, rsv)
            self.send_frame(payload[half:], CONTINUATION, True, rsv)
        elif len(payload) > 1000 and self.broken("echo-in-bad-fragments"):
            self.send_frame(payload[:half], opcode, False, rsv)
            self.send_frame(payload[half:], opcode, True, 0)
        elif len(payload) > 1000 and self.broken("echo-without-end"):
            self.send_frame(payload[:half], opcode, False, rsv)
            self.send_frame(payload[half:], CONTINUATION, False, 0)
        else:
            self.send_frame(payload, opcode, True, rsv)

    def send_frame(self, payload: bytes, opcode: int, fin: bool = True, rsv: int = 0) -> None:
        """RFC 6455 section 5.2."""
        if opcode == PONG and self.broken("sends-rsv3"):
            rsv = 1
        head = bytes([fin << 7 | rsv << 4 | opcode])
        length = len(payload)
        mask = 0x80 if opcode == PONG and self.broken("sends-masked") else 0
        if length < 126 and not (length == 125 and self.broken("sends-length-16")):
            head += bytes([mask | length])
        elif length < 65536 and not self.broken("sends-length-64"):
            head += struct.pack("!BH", mask | 126, length)
        else:
            head += struct.pack("!BQ", mask | 127, length)
        if mask:
            head += bytes(4)
        self.stream.write(head + payload)
