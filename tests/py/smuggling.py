# SPDX-License-Identifier: MIT
"""Tricks of request smuggling (RFC 9112 section 11.2) by their public names, as bytes, with what a
reader that keeps to the RFC makes of them.

Each trick makes two readers disagree about where a request ends, if one of them is careless, so
that a part of it becomes a request of its own: one for /smuggled. A strict reader never sees that.
What the sender means as a further request asks for /next.
"""

from __future__ import annotations

from typing import Dict, List, NamedTuple

NEXT = b"GET /next HTTP/1.1\r\nHost: h\r\n\r\n"
SMUGGLED = b"GET /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"
ZERO = b"0\r\n\r\n"
REFUSED, UNKNOWN = "400 end", "501 end"
SERVED = "POST / hello, GET /next "


class Trick(NamedTuple):
    """Bytes on a connection, and the answers to them.

    Each answer is a status, or what the handlers of the test answer with a 200: the method, the
    target and the content; "end" says that the connection ends.
    """

    name: str
    data: bytes
    answers: str = REFUSED
    """With handlers that read the body before they answer."""
    unread: str = ""
    """With those that answer without reading it; if empty, the same but for the content."""
    early: str = ""
    """With those that answer at its first byte; if empty, the same as `unread`."""

    def expected(self, kind: str) -> str:
        """The answers of handlers of that kind: read, unread or early."""
        if kind == "read" or not self.unread:
            return self.answers if kind == "read" else without_content(self.answers)
        return self.early if kind == "early" and self.early else self.unread


def without_content(answers: str) -> str:
    """Method, target and "end"."""
    parts = (answer.split(" ") for answer in answers.split(", "))
    return ", ".join(
        " ".join(words[:2] + words[-1:] * (len(words) > 2 and words[-1] == "end"))
        if words[0].isalpha()
        else " ".join(words)
        for words in parts
    )


def post(fields: bytes, body: bytes, line: bytes = b"POST / HTTP/1.1") -> bytes:
    """A request with these lines (each with its end) and this body, and one for /next after it."""
    return line + b"\r\nHost: h\r\n" + fields + b"\r\n" + body + NEXT


TRICKS: List[Trick] = []


def add(name: str, data: bytes, answers: str = REFUSED, unread: str = "", early: str = "") -> None:
    TRICKS.append(Trick(name, data, answers, unread, early))


# ---- two lengths --------------------------------------------------------------------------------

# The content by Content-Length is whole, or the chunks are, with a request in the rest.
SPILLED = ZERO + SMUGGLED
LONG = b"Content-Length: %d\r\n" % len(SPILLED)
SHORT = b"Content-Length: 4\r\n"
INNER = b"%x\r\n%s\r\n" % (len(SMUGGLED), SMUGGLED)
TE = b"Transfer-Encoding: chunked\r\n"

add("CL.TE", post(LONG + TE, SPILLED))
add("CL.TE, the other order", post(TE + LONG, SPILLED))
add("TE.CL", post(SHORT + TE, INNER + ZERO))
add("TE.CL, the other order", post(TE + SHORT, INNER + ZERO))
add("CL.TE with Content-Length: 0", post(b"Content-Length: 0\r\n" + TE, ZERO))
add("CL.TE with a Content-Length that fits", post(b"Content-Length: 5\r\n" + TE, ZERO))
add("CL.TE in a GET", post(LONG + TE, SPILLED, b"GET / HTTP/1.1"))
add("CL.TE in HTTP/1.0", post(LONG + TE, SPILLED, b"POST / HTTP/1.0"))
add("TE in HTTP/1.0", post(TE, ZERO, b"POST / HTTP/1.0"))
add("TE in HTTP/1.0 with keep-alive",
    post(b"Connection: keep-alive\r\n" + TE, ZERO, b"POST / HTTP/1.0"))  # fmt: skip
add("CL.CL", post(b"Content-Length: 5\r\nContent-Length: %d\r\n" % (5 + len(SMUGGLED)), b"hello"))
add("CL.CL, the larger one first",
    post(b"Content-Length: 42\r\nContent-Length: 5\r\n", b"hello"))  # fmt: skip
add("CL.CL, the same twice", post(b"Content-Length: 5\r\nContent-Length: 5\r\n", b"hello"))
add("CL.CL as a list", post(b"Content-Length: 5, 5\r\n", b"hello"))
add("CL.CL as a list of two lengths", post(b"Content-Length: 5, 39\r\n", b"hello"))
add("CL.CL, one of them empty", post(b"Content-Length: \r\nContent-Length: 5\r\n", b"hello"))

# ---- TE.TE: one of two readers does not know the coding -----------------------------------------

# With Content-Length as well, so that there is a length for the reader that does not know it.
for title, line in (
    ("a space before the colon", b"Transfer-Encoding : chunked"),
    ("a tab before the colon", b"Transfer-Encoding\t: chunked"),
    ("a space before the name", b" Transfer-Encoding: chunked"),
    ("a vertical tab before the value", b"Transfer-Encoding:\x0bchunked"),
    ("a form feed before the value", b"Transfer-Encoding: \x0cchunked"),
    ("a NUL after the name", b"Transfer-Encoding\0: chunked"),
    ("a NUL before the value", b"Transfer-Encoding: \0chunked"),
    ("a NUL after the value", b"Transfer-Encoding: chunked\0"),
    ("a DEL after the value", b"Transfer-Encoding: chunked\x7f"),
    ("a backspace in the name", b"Transfer-Encoding\x08: chunked"),
    ("a no-break space after the name", b"Transfer-Encoding\xa0: chunked"),
    ("an octet above 7F in the name", b"Transfer\xadEncoding: chunked"),
    ("a letter that becomes ASCII in other case", "Tran\u017ffer-Encoding: chunked".encode()),
    ("a space in the name", b"Transfer Encoding: chunked"),
    ("no colon", b"Transfer-Encoding chunked"),
    ("a colon before the name", b":Transfer-Encoding: chunked"),
    ("quotes around the name", b'"Transfer-Encoding": chunked'),
    ("a bare LF before it", b"X: x\nTransfer-Encoding: chunked"),
    ("a bare CR before it", b"X: x\rTransfer-Encoding: chunked"),
    ("CR LF CR before it", b"X: x\r\n\rTransfer-Encoding: chunked"),
    ("CR CR LF before it", b"X: x\r\r\nTransfer-Encoding: chunked"),
    ("LF CR before it", b"X: x\n\rTransfer-Encoding: chunked"),
    ("a fold in the value", b"Transfer-Encoding:\r\n chunked"),
    ("a fold by a tab", b"Transfer-Encoding:\r\n\tchunked"),
    ("a fold before the colon", b"Transfer-Encoding\r\n : chunked"),
    ("a fold after the value", b"Transfer-Encoding: chunked\r\n "),
    ("a bare LF as fold", b"Transfer-Encoding:\n chunked"),
    ("a line that only has a colon", b":\r\nTransfer-Encoding: chunked"),
):
    # Each is malformed, with and without a Content-Length.
    add(f"TE.TE: {title}", post(line + b"\r\n" + LONG, SPILLED))
    add(f"TE.TE: {title}, alone", post(line + b"\r\n", ZERO))

for title, value, alone in (
    ("xchunked", b"xchunked", UNKNOWN),
    ("chunk", b"chunk", UNKNOWN),
    ("chunkedx", b"chunkedx", UNKNOWN),
    ("identity", b"identity", UNKNOWN),
    ("identity, chunked", b"identity, chunked", UNKNOWN),
    ("cow, chunked", b"cow, chunked", UNKNOWN),
    ("gzip, chunked", b"gzip, chunked", UNKNOWN),
    ("chunked, identity", b"chunked, identity", REFUSED),  # it is not the last one
    ("chunked, cow", b"chunked, cow", REFUSED),  # it is not the last one
    ("chunked chunked", b"chunked chunked", REFUSED),  # it is not the last one
    ("chunked, chunked", b"chunked, chunked", REFUSED),
    ("chunked in quotes", b'"chunked"', REFUSED),
    ("chunked in single quotes", b"'chunked'", UNKNOWN),
    ("chunked in brackets", b"(chunked)", REFUSED),
    ("a parameter", b"chunked;q=1", REFUSED),
    ("a semicolon", b"chunked;", REFUSED),
    ("an octet above 7F before it", b"\xa0chunked", REFUSED),
    ("a byte order mark", b"\xef\xbb\xbfchunked", REFUSED),
    ("a letter that becomes ASCII in other case", "chun\u212aed".encode(), UNKNOWN),
    ("nothing", b"", REFUSED),
    ("only a comma", b",", REFUSED),
):
    line = b"Transfer-Encoding: " + value + b"\r\n"
    add(f"TE.TE: the value: {title}", post(line + LONG, SPILLED))
    add(f"TE.TE: the value: {title}, alone", post(line, ZERO), alone)

for title, lines, alone in (
    ("chunked and identity", TE + b"Transfer-Encoding: identity\r\n", REFUSED),
    ("identity and chunked", b"Transfer-Encoding: identity\r\n" + TE, UNKNOWN),
    ("chunked and cow", TE + b"Transfer-encoding: cow\r\n", REFUSED),
    ("cow and chunked", b"Transfer-encoding: cow\r\n" + TE, UNKNOWN),
):
    add(f"TE.TE in two lines: {title}", post(lines + LONG, SPILLED))
    add(f"TE.TE in two lines: {title}, alone", post(lines, ZERO), alone)
add("TE.TE in two lines: chunked twice", post(TE + TE, ZERO))

HELLO = b"5\r\nhello\r\n0\r\n\r\n"
for title, line in (
    ("other case", b"TRANSFER-encoding: chUNKed"),
    ("no space", b"Transfer-Encoding:chunked"),
    ("tabs around it", b"Transfer-Encoding:\tchunked\t"),
    ("many spaces", b"Transfer-Encoding:" + b" " * 50 + b"chunked" + b" " * 50),
    ("empty elements", b"Transfer-Encoding: ,chunked,"),
    (
        "Connection: Transfer-Encoding",
        b"Connection: Transfer-Encoding\r\nTransfer-Encoding: chunked",
    ),
):
    # They are valid, but some readers do not know them.
    add(f"TE.TE: {title}", post(line + b"\r\n", HELLO), SERVED)
    add(f"TE.TE: {title}, with a length", post(line + b"\r\n" + LONG, SPILLED))

# ---- names that are not those of the fields -----------------------------------------------------

HIDING = b"Content-Length: %d\r\n" % len(SPILLED)
HIDDEN = f"POST / {SPILLED.decode()}, GET /next "
for title, line in (
    ("an underscore", b"Transfer_Encoding: chunked"),
    ("a dot", b"Transfer.Encoding: chunked"),
    ("an X- before it", b"X-Transfer-Encoding: chunked"),
    ("no hyphen", b"TransferEncoding: chunked"),
    ("another field", b"Content-Encoding: chunked"),
    ("TE", b"TE: chunked"),
    ("a value of another field", b"X: Transfer-Encoding: chunked"),
):
    # Only Content-Length frames these; a server that normalizes names would see chunks.
    add(f"name: {title}", post(HIDING + line + b"\r\n", SPILLED), HIDDEN)

for title, line in (
    ("an underscore", b"Content_Length: 37"),
    ("an X- before it", b"X-Content-Length: 37"),
    ("another field", b"Content-Lenght: 37"),
):
    add(f"name of the length: {title}", post(line + b"\r\n", b""), "POST / , GET /next ")

# ---- Content-Length -----------------------------------------------------------------------------

for title, line in (
    ("a sign", b"Content-Length: +5"),
    ("a minus", b"Content-Length: -5"),
    ("minus zero", b"Content-Length: -0"),
    ("hexadecimal", b"Content-Length: 0x5"),
    ("an underscore in it", b"Content-Length: 0_5"),
    ("a decimal point", b"Content-Length: 5.0"),
    ("an exponent", b"Content-Length: 5e0"),
    ("a space in it", b"Content-Length: 0 5"),
    ("a comma after it", b"Content-Length: 5,"),
    ("a semicolon after it", b"Content-Length: 5;"),
    ("a letter after it", b"Content-Length: 5a"),
    ("quotes", b'Content-Length: "5"'),
    ("nothing", b"Content-Length:"),
    ("a word", b"Content-Length: five"),
    ("2^64 + 5", b"Content-Length: 18446744073709551621"),
    ("2^128 + 5", b"Content-Length: 340282366920938463463374607431768211461"),
    ("other digits", "Content-Length: \u0665".encode()),
    ("a superscript", b"Content-Length: \xb2"),
    ("a vertical tab before it", b"Content-Length: \x0b5"),
    ("a NUL after it", b"Content-Length: 5\0"),
    ("a space before the colon", b"Content-Length : 5"),
    ("a tab before the colon", b"Content-Length\t: 5"),
    ("a NUL in the name", b"Content-Length\0: 5"),
    ("a space before the name", b" Content-Length: 5"),
    ("a space in the name", b"Content Length: 5"),
    ("a fold before it", b"Content-Length:\r\n 5"),
    ("a fold after it", b"Content-Length: 5\r\n 5"),
    ("a bare CR before it", b"X: x\rContent-Length: 5"),
    ("a bare LF before it", b"X: x\nContent-Length: 5"),
):
    add(f"CL: {title}", post(line + b"\r\n", b"hello"))
for title, line in (
    ("leading zeros", b"Content-Length: 0000000000000000000000000005"),
    ("tabs around it", b"Content-Length:\t5\t"),
    ("other case", b"CONTENT-length:5"),
    ("Connection: Content-Length", b"Connection: Content-Length\r\nContent-Length: 5"),
):
    add(f"CL: {title}", post(line + b"\r\n", b"hello"), SERVED)

# ---- one reader expects no body -----------------------------------------------------------------

LENGTH = b"Content-Length: %d\r\n" % len(SMUGGLED)
for method in (b"POST", b"GET", b"HEAD", b"OPTIONS", b"DELETE", b"TRACE", b"PUT", b"FOO"):
    told = method.decode()
    content = "" if method == b"HEAD" else f"{told} / {SMUGGLED.decode()}"
    unread = "" if method == b"HEAD" else f"{told} /"
    line = method + b" / HTTP/1.1"
    for title, data in (
        ("CL.0", post(LENGTH, SMUGGLED, line)),
        ("TE.0", post(TE, INNER + ZERO, line)),
    ):
        if method == b"HEAD":
            add(f"{title}: HEAD", data, "200, GET /next ", "200, GET /next")
        else:
            add(f"{title}: {told}", data, f"{content}, GET /next ", f"{unread}, GET /next")
add("0.CL", post(b"Content-Length: 0\r\n", b""), "POST / , GET /next ")
add(
    "CL.0 without a handler",
    post(LENGTH, SMUGGLED, b"POST /no/handler HTTP/1.1"),
    "404, GET /next ",
)
add(
    "TE.0 without a handler",
    post(TE, INNER + ZERO, b"POST /no/handler HTTP/1.1"),
    "404, GET /next ",
)
add("CL.0 with Connection: close", post(b"Connection: close\r\n" + LENGTH, SMUGGLED),
    f"POST / {SMUGGLED.decode()} end", "POST / end")  # fmt: skip
add("CL.0 in HTTP/1.0", post(LENGTH, SMUGGLED, b"POST / HTTP/1.0"),
    f"POST / {SMUGGLED.decode()} end", "POST / end")  # fmt: skip
# A client that expects a 100 need not send the body after a final answer (RFC 9110 10.1.1).
add("Expect.CL.0", post(b"Expect: 100-continue\r\n" + LENGTH, SMUGGLED),
    f"POST / {SMUGGLED.decode()}, GET /next ", "POST / end", "POST /, GET /next")  # fmt: skip
add("Expect.CL.0: an unknown expectation", post(b"Expect: y 100-continue\r\n" + LENGTH, SMUGGLED),
    "417 end")  # fmt: skip
add("Expect.CL.0: two expectations",
    post(b"Expect: 100-continue\r\nExpect: x\r\n" + LENGTH, SMUGGLED), "417 end")  # fmt: skip
add("Expect.CL.0: a space before the colon", post(b"Expect : 100-continue\r\n" + LENGTH, SMUGGLED))
add("Expect.0.CL: a GET without a body",
    post(b"Expect: 100-continue\r\n", b"", b"GET / HTTP/1.1"), "GET / , GET /next ")  # fmt: skip

# ---- chunks -------------------------------------------------------------------------------------

for title, body, early in (
    ("TERM.EXT: a bare LF in an extension", b"5;\nhello\r\n0\r\n\r\n", REFUSED),
    ("TERM.EXT: a bare LF in the value of one", b"5;a=b\nhello\r\n0\r\n\r\n", REFUSED),
    ("EXT.TERM: a bare CR in an extension", b"5;a\rhello\r\n0\r\n\r\n", REFUSED),
    ("an LF in a quoted value", b'5;a="\nb"\r\nhello\r\n0\r\n\r\n', REFUSED),
    ("a quoted value without an end", b'5;a="b\r\nhello\r\n0\r\n\r\n', REFUSED),
    ("a CR LF in a quoted value", b'5;a="\r\n"\r\nhello\r\n0\r\n\r\n', REFUSED),
    ("a NUL in an extension", b"5;a\0\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("an extension without a semicolon", b"5 a=b\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("an empty extension", b"5;\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("4 KiB of extensions", b"5;a=" + b"b" * 4097 + b"\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("TERM.SPILL: a bare LF after the content", b"5\r\nhello\n0\r\n\r\n", "POST / end"),
    ("a bare CR after the content", b"5\r\nhello\r0\r\n\r\n", "POST / end"),
    ("SPILL.TERM: two bytes more than the size", b"5\r\nhelloXX0\r\n\r\n", "POST / end"),
    ("ONE.TWO: one byte ends the content", b"5\r\nhello\n5\r\nhello\r\n0\r\n\r\n", "POST / end"),
    ("TWO.ONE: one byte more than the size", b"5\r\nhelloX\r\n0\r\n\r\n", "POST / end"),
    ("ZERO.TWO: nothing ends the content", b"5\r\nhello0\r\n\r\n", "POST / end"),
    ("TWO.ZERO: one byte less than the size", b"5\r\nhell\r\n0\r\n\r\n", "POST / end"),
    ("a bare LF after the size", b"5\nhello\r\n0\r\n\r\n", REFUSED),
    ("a bare CR after the size", b"5\rhello\r\n0\r\n\r\n", REFUSED),
    ("CR CR LF after the size", b"5\r\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("a space before the size", b" 5\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("a space after the size", b"5 \r\nhello\r\n0\r\n\r\n", REFUSED),
    ("a plus before the size", b"+5\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("a minus before the size", b"-5\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("0x before the size", b"0x5\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("an underscore in the size", b"0_5\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("no size", b"\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("an extension instead of the size", b";a\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("a letter after the size", b"5g\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("a point after the size", b"5.0\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("an octet above 7F in the size", b"\xb25\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("a NUL after the size", b"5\0\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("a size of 2^64 + 5", b"10000000000000005\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("a size of 2^128 + 5", b"1" + b"0" * 31 + b"5\r\nhello\r\n0\r\n\r\n", REFUSED),
    ("minus zero at the end", b"5\r\nhello\r\n-0\r\n\r\n", "POST / end"),
    ("a bare LF at the end", b"5\r\nhello\r\n0\n\n", "POST / end"),
    ("a bare LF after the last size", b"5\r\nhello\r\n0\n\r\n", "POST / end"),
    ("a bare LF after the trailers", b"5\r\nhello\r\n0\r\n\n", "POST / end"),
    ("a bare CR after the trailers", b"5\r\nhello\r\n0\r\n\r", "POST / end"),
    ("no end after the last chunk", b"5\r\nhello\r\n0\r\n", "POST / end"),
    ("0x0 at the end", b"5\r\nhello\r\n0x0\r\n\r\n", "POST / end"),
    ("TRAILER: a request line", b"5\r\nhello\r\n0\r\n" + SMUGGLED, "POST / end"),
    ("TRAILER: a bare LF", b"5\r\nhello\r\n0\r\nA: b\n\r\n", "POST / end"),
    ("TRAILER: a bare CR", b"5\r\nhello\r\n0\r\nA: b\rC: d\r\n\r\n", "POST / end"),
    ("TRAILER: a fold", b"5\r\nhello\r\n0\r\nA: b\r\n c\r\n\r\n", "POST / end"),
    ("TRAILER: a space first", b"5\r\nhello\r\n0\r\n A: b\r\n\r\n", "POST / end"),
    ("TRAILER: a space before the colon", b"5\r\nhello\r\n0\r\nA : b\r\n\r\n", "POST / end"),
    ("TRAILER: no colon", b"5\r\nhello\r\n0\r\nA\r\n\r\n", "POST / end"),
    ("TRAILER: a NUL", b"5\r\nhello\r\n0\r\nA: \0\r\n\r\n", "POST / end"),
):
    add(f"chunks: {title}", post(TE, body), REFUSED, "POST / end", early)

for title, body in (
    ("an extension", b"5;a\r\nhello\r\n0\r\n\r\n"),
    ("a quoted semicolon", b'5;a=";0";b\r\nhello\r\n0\r\n\r\n'),
    ("a quoted size", b'5;a="\\"0"\r\nhello\r\n0;b=c\r\n\r\n'),
    ("a blank before the semicolon", b"5 ;a\r\nhello\r\n0\r\n\r\n"),
    ("leading zeros", b"0000000000005\r\nhello\r\n00000\r\n\r\n"),
    ("other case, and two chunks", b"1\r\nh\r\n04;A\r\nello\r\n0\r\n\r\n"),
    ("TRAILER: Content-Length", b"5\r\nhello\r\n0\r\n" + LENGTH + b"\r\n"),
    ("TRAILER: Transfer-Encoding", b"5\r\nhello\r\n0\r\n" + TE + b"\r\n"),
    ("TRAILER: Host", b"5\r\nhello\r\n0\r\nHost: evil\r\n\r\n"),
    ("TRAILER: Connection: close", b"5\r\nhello\r\n0\r\nConnection: close\r\n\r\n"),
    ("TRAILER: Expect", b"5\r\nhello\r\n0\r\nExpect: 100-continue\r\n\r\n"),
    ("TRAILER: Upgrade", b"5\r\nhello\r\n0\r\nUpgrade: websocket\r\nConnection: upgrade\r\n\r\n"),
):
    add(f"chunks: {title}", post(TE, body), SERVED)
add("chunks in the content", post(TE, INNER + ZERO), f"POST / {SMUGGLED.decode()}, GET /next ")

# ---- heads --------------------------------------------------------------------------------------

for title, data in (
    ("two Hosts", b"GET / HTTP/1.1\r\nHost: h\r\nHost: evil\r\n\r\n"),
    ("the same Host twice", b"GET / HTTP/1.1\r\nHost: h\r\nHost: h\r\n\r\n"),
    ("two Hosts, one with a space", b"GET / HTTP/1.1\r\nHost: h\r\nHost : evil\r\n\r\n"),
    ("two Hosts, one folded", b"GET / HTTP/1.1\r\nHost: h\r\n Host: evil\r\n\r\n"),
    ("no Host", b"GET / HTTP/1.1\r\n\r\n"),
    ("a list in Host", b"GET / HTTP/1.1\r\nHost: h, evil\r\n\r\n"),
    ("a slash in Host", b"GET / HTTP/1.1\r\nHost: h/evil\r\n\r\n"),
    ("user information in Host", b"GET / HTTP/1.1\r\nHost: evil@h\r\n\r\n"),
    ("a fragment in Host", b"GET / HTTP/1.1\r\nHost: h#evil\r\n\r\n"),
    ("a fold in the first line", b"GET / HTTP/1.1\r\n X: x\r\nHost: h\r\n\r\n"),
    ("bare LFs", b"GET / HTTP/1.1\nHost: h\n\n"),
    ("bare CRs", b"GET / HTTP/1.1\rHost: h\r\r"),
    ("a bare LF at the end", b"GET / HTTP/1.1\r\nHost: h\r\n\n"),
    ("CR CR LF at the end", b"GET / HTTP/1.1\r\nHost: h\r\n\r\r\n"),
    ("two spaces", b"GET  / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("a tab", b"GET\t/ HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("a space after the version", b"GET / HTTP/1.1 \r\nHost: h\r\n\r\n"),
    ("a space in the target", b"GET / /smuggled HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("a space first", b" GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("a NUL first", b"\0GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("two empty lines first", b"\r\n\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("an LF first", b"\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("two versions", b"GET / HTTP/1.1 HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("HTTP/0.9", b"GET /\r\n\r\n"),
    ("HTTP/1.10", b"GET / HTTP/1.10\r\nHost: h\r\n\r\n"),
    ("http/1.1 in small letters", b"GET / http/1.1\r\nHost: h\r\n\r\n"),
    ("a fragment", b"GET /#/smuggled HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("user information in absolute-form", b"GET http://h@evil/ HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("no authority in absolute-form", b"GET http:///smuggled HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("authority-form", b"GET h:80 HTTP/1.1\r\nHost: h\r\n\r\n"),
    ("a backslash", b"GET \\smuggled HTTP/1.1\r\nHost: h\r\n\r\n"),
):  # fmt: skip
    add(f"head: {title}", data + NEXT)
add("head: HTTP/2.0", b"GET / HTTP/2.0\r\nHost: h\r\n\r\n" + NEXT, "505 end")
add("head: CONNECT", b"CONNECT h:80 HTTP/1.1\r\nHost: h\r\n\r\n" + NEXT)
add("head: a target that looks like an authority",
    b"GET //evil/smuggled HTTP/1.1\r\nHost: h\r\n\r\n" + NEXT, "404, GET /next ")  # fmt: skip
for title, data, target in (
    ("absolute-form and another Host", b"GET http://h/ HTTP/1.1\r\nHost: evil\r\n\r\n", "http://h/"),
    ("an empty line first", b"\r\nGET / HTTP/1.1\r\nHost: h\r\n\r\n", "/"),
    ("another method in a field",
     b"GET / HTTP/1.1\r\nHost: h\r\nX-HTTP-Method-Override: POST\r\n\r\n", "/"),
    ("Upgrade: h2c",
     b"GET / HTTP/1.1\r\nHost: h\r\nConnection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\n"
     b"HTTP2-Settings: AAMAAABkAARAAAAAAAIAAAAA\r\n\r\n", "/"),
):  # fmt: skip
    add(f"head: {title}", data + NEXT, f"GET {target} , GET /next ")

# ---- opening handshakes -------------------------------------------------------------------------

UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: h\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
for title, data, answers in (
    ("a wrong version", UPGRADE.replace(b": 13", b": 777") + SMUGGLED, "426 end"),
    ("no key", UPGRADE.replace(b"Key", b"Kez") + SMUGGLED, REFUSED),
    ("a body", UPGRADE[:-2] + LENGTH + b"\r\n" + SMUGGLED, REFUSED),
    ("chunks", UPGRADE[:-2] + TE + b"\r\n" + INNER + ZERO, REFUSED),
    ("another method", UPGRADE.replace(b"GET", b"PUT") + SMUGGLED, "405 end"),
):
    add(f"websocket: {title}", data, answers)

BY_NAME: Dict[str, Trick] = {trick.name: trick for trick in TRICKS}
assert len(BY_NAME) == len(TRICKS)
