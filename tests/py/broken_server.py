"""An echo server that keeps to RFC 6455 and 7692, and that can be broken in one place at a time.

It measures the conformance runner: without a switch every case must pass, with one exactly those
cases must fail that are about the broken rule. So it is written to be read and not to be fast, one
thread for each connection, with code of its own, nothing of pyws and nothing of the runner.

A switch is a name in `SWITCHES`. Where its rule is kept stands `self.broken("name")`.

    python tests/py/broken_server.py [--port N] [SWITCH...]
    python tests/py/broken_server.py --list
"""

import argparse
import base64
import binascii
import codecs
import fcntl
import hashlib
import re
import select
import socket
import struct
import sys
import termios
import threading
import time
import zlib
from email.utils import formatdate
from typing import (
    Any,
    Callable,
    Dict,
    FrozenSet,
    Iterable,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Set,
    Tuple,
    Type,
    TypeVar,
)
from urllib.parse import unquote

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0, 1, 2, 8, 9, 10
RSV1 = 4
GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"  # RFC 6455 section 1.3
TAIL = b"\x00\x00\xff\xff"  # RFC 7692 section 7.2.1
LIMIT = 16 << 20  # bytes of a message, before and after decompression
LOW_LIMIT = 32 << 10  # with a switch
HEAD_SECONDS = 2.0  # for a whole request head
NEXT_SECONDS = 0.5  # for one behind an error
TCP_CLOSE = 7  # of a socket that was reset: linux/tcp_states.h
LINGER_SECONDS = 1.0  # for the peer to take what was sent last
NAME = "permessage-deflate"
T = TypeVar("T")

SWITCHES: Dict[str, str] = {
    # ---- requests (RFC 9110 and 9112)
    "line-unchecked": "a request line may be anything with three words",
    "line-of-two-words": "a request line may lack the version, or the target",
    "target-unchecked": "any target is the one resource that there is",
    "absolute-form-refused": "a target must begin with a slash",
    "absolute-form-case": "HTTP:// in capitals is not known in a target",
    "version-of-http-unchecked": "any HTTP/x.y is taken for HTTP/1.1",
    "empty-line-refused": "an empty line ahead of a request is an error",
    "garbage-awaited": "what cannot be a request is read to the end of its first line",
    "small-head-only": "lines above 1000 bytes and more than 20 fields are refused",
    "head-unlimited": "request heads may have any size",
    "head-in-one-read": "a head that does not come as a whole is an error, 500",
    "blank-before-colon": "a blank before the colon is taken off",
    "folds-as-fields": "an indented line is a field of its own",
    "cr-as-line-end": "a CR alone ends a line",
    "controls-dropped": "control characters in values are dropped",
    "nul-ends-value": "what stands behind a NUL is dropped",
    "bad-fields-skipped": "a line that is no field is skipped",
    "length-unchecked": "an invalid Content-Length counts as 0",
    "length-first-wins": "of different Content-Length the first counts",
    "body-length-32-bits": "of Content-Length the lower 32 bits count",
    "body-left": "a body is not refused, and its bytes are taken for frames or requests",
    "coding-unchecked": "Transfer-Encoding is ignored",
    "coding-by-substring": "a Transfer-Encoding with chunked in it is read as chunked",
    "error-then-more": "behind an error response the next request is answered",
    "error-left-open": "behind an error response the connection stays open",
    "error-then-frames": "behind a refused handshake frames are echoed",
    "error-without-date": "error responses have no Date",
    "error-as-http-1.0": "error responses are of HTTP/1.0",
    "error-of-two-lengths": "error responses have two different Content-Length",
    "error-body-too-short": "error responses have less content than they say",
    "head-with-content": "the answer to a HEAD has content",
    "target-in-response": "the decoded target stands in a field of the response",
    "continue-late": "a request with Expect gets its 100 behind the 101",
    "body-awaited": "a handshake with a body is accepted, and what comes then is its body",
    "plain-answered-twice": "behind the response to a plain request comes another one",
    "kept-and-deaf": "a response to a plain request keeps the connection, and no other follows",
    # With each of these, chunked bodies are read, and the connection is kept behind them.
    "chunks-in-one-read": "a chunked body that does not come together with its head is refused",
    "chunks-of-one": "a body of more than one chunk is refused",
    "chunk-size-capitals": "the size of a chunk must not have capitals",
    "chunk-size-lenient": "the size of a chunk may be written in any way that begins a number",
    "chunk-size-32-bits": "of the size of a chunk the lower 32 bits count",
    "chunk-extensions-refused": "a chunk with extensions is refused",
    "chunk-trailers-left": "trailers are taken for the next request",
    "chunk-end-unchecked": "what stands behind the data of a chunk is not looked at",
    "chunk-line-by-lf": "LF alone ends the line with the size of a chunk",
    # ---- the opening handshake: what is taken (RFC 6455 section 4.2.1)
    "method-unchecked": "a handshake by POST, or any other method, is accepted",
    "http-1.0-accepted": "an Upgrade in an HTTP/1.0 request is followed",
    "http-minor-refused": "HTTP/1.2 is refused",
    "host-not-needed": "a request without Host is taken",
    "host-twice-accepted": "a request with two fields Host is taken",
    "host-unchecked": "any value of Host is taken",
    "field-names-case-sensitive": "field names are known in their usual spelling only",
    "blanks-kept": "blanks around values and around elements of lists belong to them",
    "unknown-fields-refused": "a request with a field that the server does not know is refused",
    "obs-text-refused": "a field with an octet above 7F is refused",
    "upgrade-not-needed": "a request without Upgrade: websocket is upgraded",
    "upgrade-case-sensitive": "Upgrade: WebSocket is not known",
    "upgrade-by-substring": "Upgrade: x-websocket will do",
    "upgrade-whole-value": "Upgrade is no list",
    "connection-not-needed": "a request without Connection: Upgrade is upgraded",
    "connection-case-sensitive": "Connection: upgrade is not known",
    "connection-by-substring": "Connection: Upgraded will do",
    "connection-whole-value": "Connection is no list",
    "list-lines-first-wins": "of a list over several lines the first line counts",
    "empty-elements-refused": "empty elements of a list are an error",
    "key-not-needed": "a handshake without Sec-WebSocket-Key is accepted",
    "key-unchecked": "any value of Sec-WebSocket-Key is accepted",
    "key-twice-accepted": "two keys are accepted, the first counts",
    "key-pad-bits-checked": "a key whose pad bits are not zero is refused",
    "key-of-zeros-refused": "a key that decodes to zeros is refused",
    "version-not-needed": "a handshake without Sec-WebSocket-Version is accepted",
    "version-unchecked": "any one Sec-WebSocket-Version is accepted",
    "version-by-number": "Sec-WebSocket-Version: 013 and +13 will do",
    "version-list-accepted": "one version 13 among several is enough",
    "query-refused": "a resource with a query is not found",
    "protocol-unchecked": "a malformed Sec-WebSocket-Protocol is ignored",
    "extensions-unchecked": "a malformed Sec-WebSocket-Extensions is ignored",
    "extensions-token-only": "a parameter of an extension must be a token, never quoted",
    "ignores-early-data": "bytes that come together with the handshake are lost",
    "answers-early-request": "a request that comes together with the handshake is answered",
    # ---- the opening handshake: what is answered (RFC 6455 section 4.2.2)
    "accept-wrong": "Sec-WebSocket-Accept is made without the GUID",
    "accept-of-decoded-key": "Sec-WebSocket-Accept is made of the decoded and encoded key",
    "101-without-upgrade": "the 101 has no Upgrade",
    "101-without-connection": "the 101 has no Connection",
    "101-upgrade-capitals": "the 101 has Upgrade: WebSocket",
    "101-with-length": "the 101 has Content-Length: 0",
    "101-with-chunked": "the 101 has Transfer-Encoding: chunked",
    "101-with-extension": "the 101 has an extension nobody asked for",
    "101-with-protocol": "the 101 has a subprotocol nobody asked for",
    "101-as-http-1.0": "the status line of the 101 says HTTP/1.0",
    "101-for-everything": "a plain request and other protocols get a 101, too",
    "101-bad-field": "a field name of the 101 has a blank behind it",
    "protocol-all": "all subprotocols that were offered are answered",
    "protocol-in-other-case": "a subprotocol is answered in letters of the other case",
    "extension-first": "the first extension is answered, whatever it is",
    "101-with-content": "behind the head of the 101 come two lines of text",
    "200-for-error": "what is refused is refused with 200",
    "500-for-error": "what is refused is refused with 500",
    "no-error-response": "what is refused is refused by the end of TCP",
    "405-without-allow": "the 405 has no Allow",
    "426-without-upgrade": "the 426 has no Upgrade",
    "426-without-version": "the 426 has no Sec-WebSocket-Version",
    # ---- frames (RFC 6455 sections 5.1, 5.2 and 5.3)
    "unmasked-accepted": "frames without a mask are taken",
    "mask-of-first-frame": "the first masking key is used for all frames",
    "mask-restarts": "the masking key starts anew after 61 bytes of a payload",
    "mask-zero-refused": "a masking key of zeros is refused",
    "end-in-one-read": "a Close, or a bad frame, that does not come in one read is skipped",
    "rsv-ignored": "reserved bits are ignored",
    "rsv1-ignored": "RSV1 is ignored where no extension was agreed on",
    "rsv2-ignored": "RSV2 is ignored",
    "rsv3-ignored": "RSV3 is ignored",
    "data-opcodes-ignored": "frames of opcodes 3 to 7 are skipped",
    "data-opcodes-as-binary": "frames of opcodes 3 to 7 are binary messages",
    "control-opcodes-ignored": "frames of opcodes 11 to 15 are skipped",
    "long-lengths-accepted": "lengths may be longer than they need to be",
    "length-16-signed": "lengths from 32768 to 65535 are taken for negative and refused",
    "length-64-refused": "lengths of 64 bits are refused",
    "length-32-bits": "of a length of 64 bits the lower 32 count",
    "length-63-bits": "the highest bit of a length is ignored",
    "sends-masked": "Pongs are sent masked",
    "sends-rsv3": "RSV3 is set in Pongs",
    "sends-rsv1": "RSV1 is set in empty messages that are not compressed",
    "sends-length-16": "125 bytes are sent with a length of 16 bits",
    "sends-length-64": "126 to 65535 bytes are sent with a length of 64 bits",
    # ---- messages and fragments (RFC 6455 sections 5.4, 5.6 and 6)
    "text-as-binary": "text is echoed as binary",
    "binary-as-text": "binary is echoed as text",
    "type-of-last-frame": "a message of several frames is echoed as binary",
    "empty-not-echoed": "empty messages are dropped",
    "echo-by-frame": "every frame is echoed as a message",
    "echo-in-bad-fragments": "an echo above 1000 bytes is sent as two text frames, FIN 0 and 1",
    "echo-without-end": "an echo above 1000 bytes is sent in fragments, the last with FIN 0",
    "continuation-alone-ignored": "a Continuation without a beginning is skipped",
    "continuation-alone-as-text": "a Continuation without a beginning begins a text message",
    "new-message-within-replaces": "a new message replaces one that is not finished",
    "new-message-within-continues": "a new message within another continues it",
    "fragmented-control-accepted": "FIN of control frames is ignored",
    "control-within-refused": "control frames between fragments are refused",
    "empty-fragments-refused": "empty fragments are refused",
    "fragments-limited": "a message of more than 64 fragments is refused",
    "fragments-reversed": "fragments are put together in the opposite order",
    "fragments-stay": "what was in a message of several frames stays for the next such message",
    "stops-after-100": "after 100 messages the connection is closed",
    "low-limit-as-1000": "messages above 32 KiB are refused, with 1000",
    "echo-cut": "the last byte of an echo above 100 bytes is missing",
    # ---- Ping and Pong (RFC 6455 sections 5.5, 5.5.2 and 5.5.3)
    "long-control-accepted": "control frames may be longer than 125 bytes",
    "ping-unanswered": "Pings are not answered",
    "pong-empty": "Pongs are empty",
    "pong-late": "a Ping within a message is answered behind it",
    "pong-cut": "Pongs carry 124 bytes at most",
    "ping-as-text": "a Ping that is no UTF-8 is refused",
    "pongs-limited": "after eight Pongs no more are sent",
    "pong-answered": "Pongs are answered by Pongs",
    "pong-refused": "Pongs that nobody asked for are refused",
    "control-early": "a Ping is answered when its header has come, with zeros",
    # ---- Close and failures (RFC 6455 sections 5.5.1, 7.1 and 7.4)
    "close-unanswered": "a Close is answered by the end of TCP alone",
    "close-ignored": "a Close without a code is not answered at all",
    "tcp-left-open": "a Close with a reason is answered, and TCP stays open",
    "tcp-never-ended": "behind a Close TCP stays open, and behind a failure",
    "close-unchecked": "a Close that is not as it must be is answered as a good one",
    "close-answer-1005": "a Close without a code is answered with 1005",
    "close-answer-1001": "a Close with a code above 1000 is answered with 1001",
    "close-then-more": "what comes behind a Close is answered, too",
    "close-waits-for-message": "a Close within a message is answered behind it",
    "close-one-byte-accepted": "a Close with one byte is taken",
    "reason-unchecked": "a reason need not be UTF-8",
    "reason-refused": "a Close with a reason is refused",
    "code-below-1000-accepted": "codes below 1000 are taken",
    "code-1004-accepted": "1004 is taken",
    "code-1005-accepted": "1005 and 1006 are taken",
    "code-1015-accepted": "1015 is taken",
    "code-1016-accepted": "codes from 1016 to 2999 are taken",
    "code-1007-refused": "codes from 1007 to 1014 are refused",
    "code-1001-refused": "codes from 1001 to 1003 are refused",
    "code-3000-refused": "codes from 3000 to 3999 are refused",
    "code-4000-refused": "codes from 4000 to 4999 are refused",
    "failure-as-1000": "failures are told as 1000",
    "failure-without-close": "failures end TCP without a Close",
    "failure-then-more": "what comes behind a failure is answered, too",
    "failure-lost": "a failure is told by no Close when there is more to be read",
    "failure-waits": "after a failure TCP is ended only when a Close has come",
    "failure-of-all": "a failure ends all other connections, too",
    # ---- connections (RFC 6455 sections 7.1.1, 7.2.3 and 10.4)
    "one-at-a-time": "a connection is served when the one before has ended",
    "connections-limited": "after 40 connections no more are served",
    "reset-ends-all": "an open connection that is reset takes all others with it",
    "half-close-kept": "a connection whose other side has ended is kept",
    "half-head-kept": "a connection that ends within a request is kept",
    "end-as-reset": "TCP is ended by a reset",
    "crash-by-opcode-11": "a frame of opcode 11 ends the whole server",
    "unwritten-cut": "when the peer does not read, the last byte of an answer is lost",
    "echo-64-waits": "the 64th echo waits for the next message",
    "echo-300-cut": "from the 300th message on the last byte of echoes is missing",
    # ---- UTF-8 (RFC 6455 sections 5.6 and 8.1)
    "utf8-unchecked": "text need not be UTF-8",
    "utf8-late": "text is checked when the message is complete",
    "utf8-at-frame-end": "text is checked when a frame is complete",
    "utf8-each-frame": "each frame must be valid by itself",
    "utf8-state-stays": "a character that is cut at the end of a message goes on in the next",
    "utf8-surrogates": "surrogates are taken",
    "utf8-overlong": "overlong forms are taken",
    "utf8-above-10ffff": "numbers above U+10FFFF in four octets are taken",
    "utf8-long-forms": "forms of five and six octets are taken",
    "utf8-cut-accepted": "text may end within a character",
    "utf8-stray-accepted": "continuation octets alone are taken",
    "utf8-fe-ff": "the octets FE and FF are taken",
    "utf8-leads-accepted": "a lead may be followed by anything",
    "utf8-noncharacters": "U+FFFE, U+FFFF and their like are refused",
    "utf8-bmp-only": "characters beyond U+FFFF are refused",
    "utf8-ascii-only": "characters beyond ASCII are refused",
    "utf8-control-refused": "text with a NUL is refused",
    "utf8-as-1002": "text that is no UTF-8 is told as 1002",
    "utf8-binary-checked": "binary messages must be UTF-8, too",
    "utf8-ping-counted": "a Ping within a text message is part of the text",
    "utf8-compressed-unchecked": "compressed text need not be UTF-8",
    "utf8-bom-dropped": "a byte order mark is dropped",
    # ---- the negotiation of permessage-deflate (RFC 7692 sections 5 and 7.1)
    "deflate-unasked-bits": "client_max_window_bits is answered though it was not offered",
    "deflate-drops-server-flag": "server_no_context_takeover is not answered",
    "deflate-drops-server-bits": "server_max_window_bits is not answered",
    "deflate-drops-server-bits-15": "server_max_window_bits=15 is not answered",
    "deflate-larger-server-bits": "server_max_window_bits is answered with 15",
    "deflate-bits-without-value": "client_max_window_bits is answered without a value",
    "deflate-answers-twice": "two offers are answered with two extensions",
    "deflate-unknown-accepted": "parameters that do not exist are ignored",
    "deflate-any-bits": "the value of window bits is not checked",
    "deflate-bits-lenient": "the value of window bits may be written in any way that is a number",
    "deflate-flag-value": "the value of a flag is ignored",
    "deflate-twice-accepted": "a parameter may be there twice",
    "deflate-server-bits-alone": "server_max_window_bits needs no value",
    "deflate-similar-names": "an extension whose name begins like this one is taken for it",
    "deflate-first-offer-only": "only the first extension is looked at",
    "deflate-fallback-refused": "an offer that cannot be accepted is an error",
    # ---- compressed messages (RFC 7692 sections 6 and 7.2)
    "deflate-sends-plain-marked": "echoes are marked as compressed and are not",
    "deflate-unmarked": "echoes are compressed and not marked",
    "deflate-tail-kept": "00 00 ff ff is not taken off",
    "deflate-keeps-window": "server_no_context_takeover is answered and ignored",
    "deflate-window-15": "server_max_window_bits is answered and ignored",
    "deflate-marks-all-frames": "echoes are sent in two fragments, both with RSV1",
    "deflate-forgets": "the client's window is not taken over",
    "deflate-short-window": "of the client's window 256 bytes are taken over",
    "deflate-plain-in-window": "messages that are not compressed go into the window, too",
    "deflate-empty-clears": "an empty message empties the client's window",
    "deflate-ping-clears": "a Ping empties the client's window",
    "deflate-windows-shared": "all connections have one window",
    "deflate-rsv1-later": "RSV1 is ignored in later fragments",
    "deflate-rsv1-control": "RSV1 is ignored in control frames",
    "deflate-final-refused": "a block with BFINAL is refused",
    "deflate-final-ends": "what follows a block with BFINAL is dropped",
    "deflate-by-frame": "each fragment is decompressed by itself",
    "deflate-errors-ignored": "where data is broken, what came out before is the message",
    "deflate-incomplete-accepted": "compressed data may end anywhere",
    "deflate-broken-as-1000": "broken data is told as 1000",
    "deflate-broken-unanswered": "broken data ends TCP, without a Close",
    "deflate-broken-dropped": "a message whose data is broken is dropped, and nothing else happens",
    "deflate-limit-as-1008": "a message that is too large after decompression is told as 1008",
    "deflate-ratio-limit": "a message that grows more than a hundredfold is refused",
    "deflate-plain-refused": "where compression was agreed on, plain messages are refused",
    "deflate-blocks-limited": "a message of more than 1000 bytes of empty blocks is refused",
}

# Not broken either: what a server may do, a limit for instance, and that is told, as INFORMATIONAL.
LIMITS: Dict[str, str] = {
    "pings-end-tcp": "more than 64 Pings at once end TCP, without a Close",
    "fragments-16384": "a message of more than 16384 fragments is refused, with 1008",
    "deflate-blocks-as-1009": "a message of more than 1000 bytes of empty blocks is too large",
    "deflate-larger-client-bits": "client_max_window_bits is answered with 15 for less",
}


class Gone(Exception):
    """The peer has ended the connection, or does not read any more."""


class Refused(Exception):
    """The request is answered with an error."""

    def __init__(self, status: int, *fields: str) -> None:
        super().__init__(status)
        self.status = status
        self.fields = fields


class Failure(Exception):
    """_Fail the WebSocket Connection_ (RFC 6455 section 7.1.7) with this code."""

    def __init__(self, code: int, reason: str) -> None:
        super().__init__(reason)
        self.code = code


# ---- bytes --------------------------------------------------------------------------------------


class Stream:
    """A socket with a buffer."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.buffer = bytearray()
        self.deadline = float("inf")
        self.is_open = False  # the opening handshake is over
        self.pings = 0  # since there was nothing left in the buffer
        self.reads = 0  # for the frame that is read now
        self.was_reset = False
        self.has_taken = False  # others with it
        self.loses = 0.0  # after so many seconds without room for what is to be sent
        self.on_data: Callable[[], object] = lambda: None

    def fill(self) -> None:
        """Wait for more. Gone."""
        self.pings = 0
        self.reads += 1
        left = self.deadline - time.monotonic()
        if left <= 0:
            raise Gone
        try:
            self.socket.settimeout(None if left == float("inf") else left)
            data = self.socket.recv(65536)
        except OSError as error:
            self.was_reset = isinstance(error, ConnectionError)
            raise Gone from None
        if not data:
            raise Gone
        self.on_data()
        self.buffer += data

    def peek(self) -> int:
        while not self.buffer:
            self.fill()
        return self.buffer[0]

    def some(self, most: int) -> bytes:
        """What is there, at least one byte."""
        self.peek()
        data = bytes(self.buffer[:most])
        del self.buffer[:most]
        return data

    def read(self, n: int) -> bytes:
        while len(self.buffer) < n:
            self.fill()
        return self.some(n) if n else b""

    def skip(self, n: int) -> None:
        while n:
            n -= len(self.some(min(n, 65536)))

    def line(self, most: int) -> Optional[bytes]:
        """With its LF; None when it is longer."""
        at = 0
        while True:
            end = self.buffer.find(b"\n", at)
            if end >= 0 and end < most:
                return self.some(end + 1)
            if len(self.buffer) >= most:
                return None
            at = len(self.buffer)
            self.fill()

    def write(self, data: bytes) -> None:
        try:
            if self.loses and not select.select([], [self.socket], [], self.loses)[1]:
                data = data[:-1]
            self.socket.settimeout(30)
            self.socket.sendall(data)
        except OSError as error:
            self.was_reset = isinstance(error, ConnectionError)
            raise Gone from None

    def end(self) -> None:
        """End TCP so that the peer can read what was sent last: no RST ahead of it."""
        try:
            self.socket.shutdown(socket.SHUT_WR)
            self.deadline = time.monotonic() + LINGER_SECONDS
            while True:
                self.buffer.clear()
                self.fill()
        except Gone:
            pass
        except OSError:
            self.was_reset = True
        self.socket.close()

    def reset(self) -> None:
        """End TCP by RST, but not before the peer's side has got all that was sent."""
        end = time.monotonic() + 10 * LINGER_SECONDS
        while time.monotonic() < end and self.unsent():
            time.sleep(0.001)
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def is_dead(self) -> bool:
        """Whether the kernel has given up TCP, though the thread of it may not know yet."""
        try:
            return self.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0] == TCP_CLOSE
        except OSError:
            return False

    def unsent(self) -> int:
        """Bytes that are not yet acknowledged."""
        buffer = bytearray(4)
        fcntl.ioctl(self.socket, termios.TIOCOUTQ, buffer)
        return int.from_bytes(buffer, sys.byteorder)


def xor(data: bytes, key: bytes, offset: int = 0) -> bytes:
    """Masked or unmasked (RFC 6455 section 5.3), from that byte of the payload on."""
    key = key[offset % 4 :] + key[: offset % 4]
    pad = (key * (len(data) // 4 + 1))[: len(data)]
    value = int.from_bytes(data, "big") ^ int.from_bytes(pad, "big")
    return value.to_bytes(len(data), "big")


# ---- the opening handshake ----------------------------------------------------------------------

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

Parameters = List[Tuple[str, Optional[str]]]


class Part:
    """What knows which switches are on."""

    def __init__(self, server: "Server") -> None:
        self.server = server
        self.broken = server.broken


class Handshake(Part):
    """Reads a request, and answers it (RFC 6455 section 4.2, RFC 9110, RFC 9112)."""

    def __init__(self, server: "Server", stream: Stream, seconds: float) -> None:
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

    def run(self) -> Optional["Terms"]:
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
        """No request of this server has a body (RFC 9112 section 6.3)."""
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
            codings = self.read_chunks()
        if self.broken("coding-by-substring") and "chunked" in self.lines("Transfer-Encoding"):
            codings = self.skip_chunks()
        if self.broken("coding-unchecked"):
            codings = []
        if codings and not lengths and self.minor and self.lines("Transfer-Encoding") != "chunked":
            raise Refused(501)
        if codings or any(length != "0" for length in lengths):
            raise Refused(400)

    def reads_chunks(self) -> bool:
        return any(self.broken(name) for name in SWITCHES if name.startswith("chunk"))

    def read_chunks(self) -> List[str]:
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
            if self.stream.read(2) != b"\r\n" and not self.broken("chunk-end-unchecked"):
                raise Refused(400)
        self.read_trailers()
        self.kept = True
        return []

    def chunk_line(self) -> str:
        """Without its end."""
        line = (self.stream.line(1000) or b"").decode("latin-1")
        if not line.endswith("\r\n") and not self.broken("chunk-line-by-lf"):
            raise Refused(400)
        return line.rstrip("\r\n")

    def chunk_size(self, line: str) -> int:
        text, semicolon, _ = line.partition(";")
        if semicolon and self.broken("chunk-extensions-refused"):
            raise Refused(400)
        if text != text.lower() and self.broken("chunk-size-capitals"):
            raise Refused(400)
        if self.broken("chunk-size-lenient"):
            text = re.sub("^[+-]?(?:0x)?([0-9A-Fa-f]*).*", r"0\1", text)
        if not re.fullmatch("[0-9A-Fa-f]+", text):
            raise Refused(400)
        size = int(text, 16)
        return size & 0xFFFFFFFF if self.broken("chunk-size-32-bits") else size

    def read_trailers(self) -> None:
        if self.broken("chunk-trailers-left") and self.stream.peek() != 13:
            return
        while self.chunk_line():
            pass

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
        if self.broken("no-error-response"):
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


def decoded(key: str) -> bytes:
    try:
        return base64.b64decode(key)
    except binascii.Error:
        return b""


# ---- the negotiation of permessage-deflate ------------------------------------------------------

SERVER_FLAG, CLIENT_FLAG = "server_no_context_takeover", "client_no_context_takeover"
SERVER_BITS, CLIENT_BITS = "server_max_window_bits", "client_max_window_bits"


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


# ---- compressed messages ------------------------------------------------------------------------


class Deflater(Part):
    """Compresses messages (RFC 7692 section 7.2.1)."""

    def __init__(self, server: "Server", terms: Terms) -> None:
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

    def __init__(self, server: "Server", fresh: bool) -> None:
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


# ---- UTF-8 --------------------------------------------------------------------------------------

UTF8_SWITCHES = (
    "utf8-surrogates", "utf8-overlong", "utf8-above-10ffff", "utf8-long-forms",
    "utf8-stray-accepted", "utf8-fe-ff", "utf8-leads-accepted",
)  # fmt: skip


class Utf8(Part):
    """Checks text as it comes (RFC 3629); Python's decoder where it need not be lenient."""

    def __init__(self, server: "Server") -> None:
        super().__init__(server)
        self.strict = codecs.getincrementaldecoder("utf-8")()
        self.lenient = any(self.broken(switch) for switch in UTF8_SWITCHES)
        self.left = 0  # continuation octets that are due
        self.low, self.high = 0x80, 0xBF  # of the next one

    def feed(self, data: bytes, final: bool = False) -> None:
        """Failure."""
        fine = self.feed_lenient(data, final) if self.lenient else self.feed_strict(data, final)
        if not fine:
            raise Failure(1002 if self.broken("utf8-as-1002") else 1007, "no UTF-8")

    def feed_strict(self, data: bytes, final: bool) -> bool:
        if final and self.broken("utf8-cut-accepted"):
            final = False
        try:
            text = self.strict.decode(data, final)
        except UnicodeDecodeError:
            return False
        return self.can_go_on(self.strict.getstate()[0]) and not self.is_refused(text)

    def can_go_on(self, waiting: bytes) -> bool:
        """Whether the beginning of a character is one: Python's decoder waits for more of some."""
        self.left, self.low, self.high = 0, 0x80, 0xBF
        return all(map(self.octet, waiting))

    def is_refused(self, text: str) -> bool:
        """Characters that are valid, and that some switch does not like."""
        refused: Dict[str, Callable[[str], bool]] = {
            "utf8-noncharacters": lambda c: ord(c) & 0xFFFE == 0xFFFE,
            "utf8-bmp-only": lambda c: ord(c) > 0xFFFF,
            "utf8-ascii-only": lambda c: ord(c) > 0x7F,
            "utf8-control-refused": lambda c: c == "\0",
        }
        return any(self.broken(switch) and any(map(test, text)) for switch, test in refused.items())

    def feed_lenient(self, data: bytes, final: bool) -> bool:
        return all(map(self.octet, data)) and not (final and self.left)

    def octet(self, octet: int) -> bool:
        """Whether it may come next; the table of RFC 3629 section 4."""
        if self.left:
            if not self.low <= octet <= self.high:
                if not self.broken("utf8-leads-accepted"):
                    return False
                self.left = 0
                return self.lead(octet)
            self.left -= 1
            self.low, self.high = 0x80, 0xBF
            return True
        return self.lead(octet)

    def lead(self, octet: int) -> bool:
        if octet < 0x80:
            return True
        if octet < 0xC0:
            return self.broken("utf8-stray-accepted")
        if octet >= 0xFE:
            return self.broken("utf8-fe-ff")
        if octet >= 0xF8:
            self.left = 4 if octet < 0xFC else 5
            return self.broken("utf8-long-forms")
        self.left = 1 if octet < 0xE0 else 2 if octet < 0xF0 else 3
        return self.narrow(octet)

    def narrow(self, octet: int) -> bool:
        """What the lead means for the octet behind it."""
        lowest = {0xE0: 0xA0, 0xF0: 0x90}
        if not self.broken("utf8-overlong"):
            self.low = lowest.get(octet, 0x80)
            if octet < 0xC2:
                return False
        if octet == 0xED and not self.broken("utf8-surrogates"):
            self.high = 0x9F
        if octet >= 0xF4 and not self.broken("utf8-above-10ffff"):
            self.high = 0x8F
            return octet == 0xF4
        return True


# ---- a WebSocket connection ---------------------------------------------------------------------


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

    def __init__(self, server: "Server", stream: Stream, terms: Optional[Terms]) -> None:
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


# ---- the server ---------------------------------------------------------------------------------


class Server:
    """Listens on 127.0.0.1 from the beginning; `close` ends it, as does its `with` block."""

    def __init__(self, switches: Iterable[str] = (), port: int = 0, patience: float = 1.0) -> None:
        """A request may take `patience` times as long. ValueError: there is no such switch."""
        self.patience = patience
        self.switches: FrozenSet[str] = frozenset(switches)
        unknown = self.switches - set(SWITCHES) - set(LIMITS)
        if unknown:
            raise ValueError(f"no switch: {', '.join(sorted(unknown))}")
        self.window = b""  # with a switch, of all connections
        self.served = 0
        self.turn = threading.Lock()  # with a switch
        self.ended = threading.Event()
        self.streams: Set[Stream] = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port: int = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def part(self, kind: Type[T]) -> Type[T]:
        """The class that does the work of this one: of an unusual server another one."""
        return kind

    def broken(self, switch: str) -> bool:
        """Whether a switch is on."""
        assert switch in SWITCHES or switch in LIMITS, switch
        return switch in self.switches

    def crash(self) -> None:
        """What is left is a port on which nothing listens."""
        self.ended.set()
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has crashed before
        self.drop_others(None)  # of an unusual server the thread itself may serve one

    def close(self) -> None:
        self.crash()
        self.thread.join()
        self.listener.close()
        self.drop_others(None)

    def drop_others(self, stream: Optional[Stream]) -> None:
        """End all connections but this one."""
        with self.lock:
            others = [each for each in self.streams if each is not stream]
        for other in others:
            try:
                other.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended

    def _notice_resets(self) -> None:
        """A reset counts before data that comes after it, whichever thread runs first."""
        if self.broken("reset-ends-all"):
            with self.lock:
                dead = [each for each in self.streams if each.is_open and each.is_dead()]
            for stream in dead:
                self._take_along(stream)

    def _take_along(self, stream: Stream) -> None:
        with self.lock:
            first, stream.has_taken = not stream.has_taken, True
        if first:
            self.drop_others(None)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self._start(connection)

    def _start(self, connection: socket.socket) -> None:
        threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = self.part(Stream)(connection)
        stream.on_data = self._notice_resets
        if self.broken("unwritten-cut"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            stream.loses = 0.1 * self.patience
        with self.lock:
            self.streams.add(stream)
            self.served += 1
        try:
            self._take_turns(stream)
        except Gone:
            pass
        finally:
            self._notice_resets()
            with self.lock:
                self.streams.discard(stream)
            if self.broken("end-as-reset"):
                stream.reset()
            else:
                stream.end()
            if stream.is_open and stream.was_reset and self.broken("reset-ends-all"):
                self._take_along(stream)

    def _take_turns(self, stream: Stream) -> None:
        if self.served > 40 and self.broken("connections-limited"):
            self.ended.wait()
        if not self.broken("one-at-a-time"):
            return self._talk(stream)
        stream.peek()
        with self.turn:
            self._talk(stream)

    def _talk(self, stream: Stream) -> None:
        """Requests, and if one of them is a handshake, frames. Gone."""
        seconds = HEAD_SECONDS * self.patience
        while True:
            handshake = self.part(Handshake)(self, stream, seconds)
            seconds = NEXT_SECONDS * self.patience
            try:
                terms = handshake.run()
            except Refused as refused:
                handshake.refuse(refused)
                if handshake.plain and self.broken("plain-answered-twice"):
                    handshake.refuse(refused)
                if self.broken("error-then-frames") and not handshake.plain:
                    return WebSocket(self, stream, None).run()
            except Gone:
                if self.broken("half-head-kept"):
                    self.ended.wait()
                raise
            else:
                early = bytes(stream.buffer[:4])
                if self.broken("answers-early-request") and early in (b"GET ", b"POST"):
                    continue
                stream.skip(handshake.body)
                return self.part(WebSocket)(self, stream, terms).run()
            if self.broken("error-left-open") or (handshake.kept and self.broken("kept-and-deaf")):
                self.ended.wait()
            if not self.broken("error-then-more") and not handshake.kept:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="print the switches")
    parser.add_argument("switches", nargs="*", choices=[[], *SWITCHES, *LIMITS], metavar="SWITCH")
    options = parser.parse_args()
    if options.list:
        for name, told in {**SWITCHES, **LIMITS}.items():
            print(f"{name:30} {told}")
        return
    server = Server(options.switches, options.port)
    print(f"listening on 127.0.0.1:{server.port}", flush=True)
    server.thread.join()


if __name__ == "__main__":
    main()
