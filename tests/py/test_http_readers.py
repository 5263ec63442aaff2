# SPDX-License-Identifier: MIT
"""The reader of request heads against h11, llhttp (httptools) and the grammar of RFC 9112.

Whoever disagrees with another reader about a request can be made to see another request than a
proxy saw (RFC 9112 section 11.2). So each request that pyws takes must be the same one for every
reader that takes it, and each request that only some of them take must be one that docs/protocol.md
decides about, "Other readers of requests".

    HTTP_READERS_EXAMPLES=1000000 python -m pytest tests/py/test_http_readers.py

tries so many random requests, which takes minutes, instead of a few that are the same each time.
"""

from __future__ import annotations

import os
import re
import struct
import subprocess
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Optional, Tuple

import pytest
from common import ROOT
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

h11 = pytest.importorskip("h11", exc_type=ImportError)
httptools = pytest.importorskip("httptools", exc_type=ImportError)

EXAMPLES = int(os.environ.get("HTTP_READERS_EXAMPLES", "0"))
pytestmark = pytest.mark.timeout(120 + EXAMPLES)
some = settings(
    deadline=None,
    derandomize=not EXAMPLES,
    max_examples=EXAMPLES or 3000,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)

Fields = List[Tuple[bytes, bytes]]


class Request(NamedTuple):
    """What a reader takes some bytes for."""

    method: bytes
    target: bytes
    fields: Fields  # names in lower case
    content: bytes


class Verdict(NamedTuple):
    """What a reader says of some bytes: `request` or `refusal`, or that they are not complete."""

    request: Optional[Request] = None
    length: int = 0  # of the request
    refusal: str = ""  # a status, or a text


# ---- the readers --------------------------------------------------------------------------------


class Ours:
    """tests/c/http_reader.c."""

    def __init__(self, program: Path) -> None:
        pipe = subprocess.PIPE
        self._process = subprocess.Popen([str(program)], stdin=pipe, stdout=pipe)

    def read(self, data: bytes) -> Verdict:
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write(struct.pack("<I", len(data)) + data)
        process.stdin.flush()
        result, *facts = process.stdout.readline().split()
        length = int(result)
        if length <= 0:
            return Verdict(refusal=str(-length) if length else "")
        content, method, target, *fields = (unhex(span) for span in facts[1:])
        names = (name.lower() for name in fields[::2])
        return Verdict(Request(method, target, list(zip(names, fields[1::2])), content), length)

    def close(self) -> None:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.close()
        self._process.stdout.close()
        assert self._process.wait(timeout=60) == 0


def unhex(span: bytes) -> bytes:
    return b"" if span == b"-" else bytes.fromhex(span.decode())


@pytest.fixture(scope="module")
def ours(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Ours]:
    program = tmp_path_factory.mktemp("reader") / "http_reader"
    sources = ["tests/c/http_reader.c", "csrc/http.c", "csrc/body.c", "csrc/text.c"]
    flags = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-I", str(ROOT / "csrc")]
    command = ["cc", *flags, *(str(ROOT / source) for source in sources), "-o", str(program)]
    sanitizers = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
    done = subprocess.run([*command, *sanitizers], timeout=300)
    if done.returncode:  # the compiler has none
        assert os.environ.get("CI") != "true"
        subprocess.run(command, check=True, timeout=300)
    reader = Ours(program)
    yield reader
    reader.close()


def read_by_h11(data: bytes) -> Verdict:
    connection = h11.Connection(h11.SERVER, max_incomplete_event_size=16384)
    connection.receive_data(data)
    content = b""
    head = None
    try:
        while True:
            event = connection.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED):
                return Verdict()
            if isinstance(event, h11.Request):
                head = event
            elif isinstance(event, h11.Data):
                content += event.data
            else:
                break
    except h11.RemoteProtocolError as error:
        return Verdict(refusal=str(error))
    assert head is not None
    fields = [(bytes(name), bytes(value)) for name, value in head.headers]
    request = Request(bytes(head.method), bytes(head.target), fields, content)
    return Verdict(request, len(data) - len(connection.trailing_data[0]))


class Parts:
    """What llhttp calls."""

    def __init__(self) -> None:
        self.fields: Fields = []
        self.target = self.content = b""
        self.in_body = self.is_complete = False

    def on_url(self, part: bytes) -> None:
        self.target += part

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.in_body:  # otherwise it is a trailer
            self.fields.append((name.lower(), value.rstrip(b" \t")))

    def on_headers_complete(self) -> None:
        self.in_body = True

    def on_body(self, part: bytes) -> None:
        self.content += part

    def on_message_complete(self) -> None:
        self.is_complete = True


def read_by_llhttp(data: bytes) -> Verdict:
    """Byte by byte, because it does not say where the request ends."""
    parts = Parts()
    parser = httptools.HttpRequestParser(parts)
    length = 0
    try:
        while not parts.is_complete and length < len(data):
            length += 1
            parser.feed_data(data[length - 1 : length])
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError as error:
        return Verdict(refusal=str(error))
    if not parts.is_complete:
        return Verdict()
    request = Request(parser.get_method(), parts.target, parts.fields, parts.content)
    return Verdict(request, length)


# ---- the grammar --------------------------------------------------------------------------------

TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
LINE = re.compile(
    rb"(?P<method>%b) (?P<target>[!-~]+) HTTP/(?P<major>\d)\.(?P<minor>\d)\r\n" % TOKEN
)
FIELD = re.compile(rb"(?P<name>%b):[ \t]*(?P<value>[\t -~\x80-\xff]*?)[ \t]*\r\n" % TOKEN)
EXTENSION = (
    rb"[ \t]*;[ \t]*%b([ \t]*=[ \t]*(%b|\"([\t !#-\[\]-~\x80-\xff]|\\[\t -~\x80-\xff])*\"))?"
)
CHUNK = re.compile(rb"(?P<size>[0-9A-Fa-f]{1,16})(%b)*\r\n" % (EXTENSION % (TOKEN, TOKEN)))
# Any VCHAR is taken in a path and a query, as by all other readers.
ORIGIN_FORM = re.compile(rb"/[^?#]*(\?[^#]*)?")
ABSOLUTE_FORM = re.compile(
    rb"[A-Za-z][A-Za-z0-9+.-]*://(?!:)[!$%&'()*+,.0-9:;=@A-Z_a-z~\[\]-]+(/[^?#]*)?(\?[^#]*)?"
)
AUTHORITY = re.compile(rb"[!$%&'()*+,.0-9:;=@A-Z_a-z~\[\]-]*")


def expected(data: bytes) -> Verdict:
    """What RFC 9112 says of a request. Written without a look at csrc/."""
    at = 2 if data.startswith(b"\r\n") else 0
    line = LINE.match(data, at)
    if not line:
        return Verdict(refusal="the request line")
    at = line.end()
    fields: Fields = []
    while not data.startswith(b"\r\n", at):
        field = FIELD.match(data, at)
        if not field:
            return Verdict(refusal="a field line")
        fields.append((field["name"].lower(), field["value"]))
        at = field.end()
    reason = reason_to_refuse(line, fields)
    if reason:
        return Verdict(refusal=reason)
    names = dict(fields)
    if b"transfer-encoding" in names:
        content, length = dechunked(data, at + 2)
        if not length:
            return Verdict(refusal="a chunk")
    else:
        length = at + 2 + int(names.get(b"content-length", b"0"))
        content = data[at + 2 : length]
        if length > len(data):
            return Verdict()
    return Verdict(Request(line["method"], line["target"], fields, content), length)


def dechunked(data: bytes, at: int) -> Tuple[bytes, int]:
    """The content, and where it ends; 0 if it is malformed, or not complete."""
    content = b""
    while True:
        chunk = CHUNK.match(data, at)
        if not chunk:
            return b"", 0
        size, at = int(chunk["size"], 16), chunk.end()
        if size == 0:
            break
        if data[at + size : at + size + 2] != b"\r\n":
            return b"", 0
        content += data[at : at + size]
        at += size + 2
    while not data.startswith(b"\r\n", at):
        field = FIELD.match(data, at)
        if not field:
            return b"", 0
        at = field.end()
    return content, at + 2


def reason_to_refuse(line: re.Match[bytes], fields: Fields) -> str:
    target = line["target"]
    if line["major"] != b"1":
        return "the version"
    if line["method"] == b"CONNECT":
        return "the method"
    if target == b"*":
        if line["method"] != b"OPTIONS":
            return "the target"
    elif not (ORIGIN_FORM.fullmatch(target) or ABSOLUTE_FORM.fullmatch(target)):
        return "the target"
    return reason_in(fields, line["minor"])


def reason_in(fields: Fields, minor: bytes) -> str:
    hosts = [value for name, value in fields if name == b"host"]
    if len(hosts) > 1 or (not hosts and minor != b"0"):
        return "the number of Hosts"
    if hosts and not AUTHORITY.fullmatch(hosts[0]):
        return "the Host"
    lengths = [value for name, value in fields if name == b"content-length"]
    codings = [value for name, value in fields if name == b"transfer-encoding"]
    if codings and (lengths or minor == b"0"):
        return "Transfer-Encoding beside Content-Length, or in HTTP/1.0"
    if codings and b",".join(codings).strip(b", \t").lower() != b"chunked":
        return "the transfer coding"
    if lengths and not (
        len(lengths) == 1 and re.fullmatch(rb"\d+", lengths[0]) and int(lengths[0]) < 2**63
    ):
        return "the length"
    return ""


# ---- requests -----------------------------------------------------------------------------------


def mostly(usual: bytes, *others: bytes) -> Any:
    return st.sampled_from([usual] * max(4, 2 * len(others)) + list(others))


LINE_ENDS = mostly(b"\r\n", b"\n", b"\r", b"\r\n ", b"\r\r\n")
METHODS = st.sampled_from(
    [b"GET", b"POST", b"OPTIONS", b"get", b"PURGE", b"M-SEARCH", b"CONNECT", b"A", b"G(T", b""]
)
TARGETS = st.sampled_from(
    b"/|/a?b=c|*|http://h/x|h:80|/\xc3\xa9|/%zz|/#f|//x|?q|http://|/a\tb|HTTPS://h|http://h?q"
    b"|http:///x|http://:80/|/a[b]|/?a[b]=^|/{x}|/\x00|ftp://h/".split(b"|")
)
VERSIONS = mostly(
    b"HTTP/1.1", *b"HTTP/1.0 HTTP/2.0 HTTP/1.2 http/1.1 HTTP/1.10 HTTP/01.1 HTTP/1 HTTP/0.9".split()
)
NAMES = st.sampled_from(
    b"Host|Content-Length|Transfer-Encoding|X|Connection|X Y||X\x00|content-length"
    b"|Expect|X_y|transfer-encoding|HOST|Upgrade|Content\xe9|(x)".split(b"|")
)
VALUES = st.sampled_from(
    b"h||0|5|+5|5, 5|5,|0x5|chunked|gzip, chunked|chunked, chunked|identity|a b|a\x00b|\xe9| x "
    b"|close|18446744073709551616|00005|h:1|a/b|a\rb|xchunked|chunked;q=1|9223372036854775808|-1"
    b"|9223372036854775807|\x0bchunked|a\x7fb|a@b|Chunked|,chunked|chunked,|websocket|[::1]:8|1 0"
    b'|\xd9\xa3|5\t|\tchunked|"chunked"|keep-alive, x'.split(b"|")
)
SEPARATORS = mostly(b": ", b":", b" :", b":\t", b":  ", b"\t:", b"")
EDGES = b"\0\t\n\r :\x7f\x80\xff/AZaz09;,#?[%\x0b"


@st.composite
def requests(draw: Any) -> bytes:
    """A request head, right or wrong in many ways."""
    line = [
        draw(mostly(b"", b"\r\n", b"\n", b"\r\n\r\n", b" ")),
        draw(METHODS),
        draw(mostly(b" ", b"  ", b"\t", b"")),
        draw(TARGETS),
        draw(mostly(b" ", b"  ")),
        draw(VERSIONS),
        draw(LINE_ENDS),
    ]
    if draw(st.integers(0, 9)):
        line += [b"Host", draw(mostly(b": ", b":", b" :")), draw(mostly(b"h", b"", b"a b", b"h:1"))]
        line.append(draw(LINE_ENDS))
    for _ in range(draw(st.integers(0, 3))):
        line += [draw(NAMES), draw(SEPARATORS), draw(VALUES), draw(LINE_ENDS)]
    line += [draw(LINE_ENDS), draw(st.sampled_from([b"", b"12345", b"0\r\n\r\n"]))]
    return mutated(draw, b"".join(line), 0)


CHUNKED = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n"
SIZES = st.sampled_from(
    b"1|2|a|A|01|0x1|+1|-1| 1|1 |1\t|\xef|00000000000000001|ffffffffffffffff|10000000000000000|1_0"
    b"|1g||fffffffffffffffff|8000000000000000".split(b"|")
)
EXTENSIONS = mostly(
    b"",
    *b';a|;a=b| ; a = b|;a="b;c\\""|;|;a=|;=b|a|;a b|;a="b|;a="\x00"|;\xe9|;a\n|;a;b=c'.split(b"|"),
)


@st.composite
def requests_with_chunks(draw: Any) -> bytes:
    """A request with a chunked body, right or wrong in many ways, and a request after it."""
    parts = [CHUNKED]
    for _ in range(draw(st.integers(0, 3))):
        content = draw(st.sampled_from([b"x", b"\r\n", b"0\r\n\r\n", b"0123456789abcdef"]))
        size = draw(st.one_of(st.just(b"%x" % len(content)), SIZES))
        parts += [size, draw(EXTENSIONS), draw(LINE_ENDS), content, draw(LINE_ENDS)]
    parts += [draw(mostly(b"0", b"00", b"000000000000000000000", b"", b"-0"))]
    parts += [draw(EXTENSIONS), draw(LINE_ENDS)]
    for _ in range(draw(st.sampled_from([0, 0, 1, 2]))):
        parts += [draw(NAMES), draw(SEPARATORS), draw(VALUES), draw(LINE_ENDS)]
    parts += [draw(LINE_ENDS), draw(st.sampled_from([b"", b"GET /2 HTTP/1.1\r\nHost: h\r\n\r\n"]))]
    return mutated(draw, b"".join(parts), len(CHUNKED))


def mutated(draw: Any, request: bytes, start: int) -> bytes:
    """With a few other bytes, from there on."""
    data = bytearray(request)
    for _ in range(draw(st.sampled_from([0, 0, 0, 1, 2]))):
        at = draw(st.integers(start, len(data) - 1))
        data[at : at + draw(st.integers(0, 1))] = draw(
            st.sampled_from([b"", *(bytes([byte]) for byte in EDGES)])
        )
    return bytes(data)


# ---- what may differ ----------------------------------------------------------------------------

# Why another reader refuses what pyws takes: see docs/protocol.md.
LLHTTP_LACKS = (
    "Invalid method encountered",  # it knows only registered ones
    "Expected space after method",
    "Invalid HTTP version",  # it knows no HTTP/1.2
    "Unexpected char in url schema",  # it knows no digits there
    "Invalid character in chunk size",  # a blank before ";"
    "Content-Length can't be present",  # in a trailer, like the next ones
    "Invalid `Transfer-Encoding`",
    "Empty Content-Length",
    "Empty Transfer-Encoding",
    "Invalid character in Content-Length",
)
H11_LACKS = (
    "no request line received",  # after an empty line
    "illegal chunk header",  # a blank before ";"
    "bad Content-Length",  # in a trailer, like the next ones
    "conflicting Content-Length",
    "Only Transfer-Encoding",
    "multiple Transfer-Encoding",
)


def comparable(verdict: Verdict) -> Verdict:
    """h11 writes the name of the coding in lower case."""
    request = verdict.request
    assert request is not None
    coding = b"transfer-encoding"
    fields = [(name, value.lower() if name == coding else value) for name, value in request.fields]
    return verdict._replace(request=request._replace(fields=fields))


def check(ours: Ours, data: bytes) -> None:
    """All readers agree, or the difference is one of those in docs/protocol.md."""
    own, rule = ours.read(data), expected(data)
    if own.refusal:
        assert rule.request is None, f"{own.refusal} to a valid request"
    elif own.request is None:
        assert rule.request is None, "it is complete"
    else:
        assert own == rule
        for read, lacks in ((read_by_h11, H11_LACKS), (read_by_llhttp, LLHTTP_LACKS)):
            other = read(data)
            if other.refusal:
                assert other.refusal.startswith(lacks), (read, other.refusal)
            else:
                assert comparable(other) == comparable(own), read


@some
@given(requests())
@example(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
def test_all_readers_see_the_same_request(ours: Ours, data: bytes) -> None:
    check(ours, data)


@some
@given(requests_with_chunks())
def test_all_readers_see_the_same_chunks(ours: Ours, data: bytes) -> None:
    check(ours, data)
