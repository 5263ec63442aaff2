# SPDX-License-Identifier: MIT
"""Responses of every form, by every way to send one, as h11 reads them: where they end, and that
nothing follows a response that has no content (RFC 9110 6.4.1, 9.3.2, RFC 9112 6.3)."""

from __future__ import annotations

import ctypes
import os
import tempfile
from typing import List

import pytest

pytest.importorskip("h11", exc_type=ImportError)

from c_server import CServer
from responses import Answer, read_answers

from pyws._native import lib

UNKNOWN = 2**64 - 1
CONTENT = b"0123456789" * 4000
WAYS = ("respond", "static", "file", "known", "chunked")
"""Complete, constant, from a file, and in parts of a known or unknown length."""
KEPT = ctypes.create_string_buffer(CONTENT, len(CONTENT))  # until all servers are freed


class Responder(CServer):
    """Answers /WAY with that status in that way."""

    def __init__(self, status: int) -> None:
        super().__init__("read")
        self.status = status

    def _answer(self, request: int, more: bytes) -> None:
        way = self._text(request, "target")[1:]
        arguments = (request, self.status, None)
        if way == "respond":
            result = lib.ws_request_respond(*arguments, CONTENT, len(CONTENT))
        elif way == "static":
            result = lib.ws_request_respond_static(*arguments, KEPT, len(CONTENT))
        elif way == "file":
            result = self._send_file(request)
        else:
            lib.ws_request_begin(*arguments, len(CONTENT) if way == "known" else UNKNOWN)
            for at in range(0, len(CONTENT), 15000):
                part = CONTENT[at : at + 15000]
                lib.ws_request_write(request, part, len(part))
            result = lib.ws_request_finish(request)
        assert result == 0, result

    def _send_file(self, request: int) -> int:
        with tempfile.TemporaryFile() as file:
            file.write(CONTENT)
            file.flush()
            fd = os.dup(file.fileno())
        size = len(CONTENT)
        result: int = lib.ws_request_respond_file(request, self.status, None, fd, 0, size)
        return result


def answers(status: int, method: str, way: str, version: str) -> List[Answer]:
    """To such a request, and to a GET of HTTP/1.1 in the same segment."""
    first = f"{method} /{way} HTTP/{version}\r\nHost: h\r\n\r\n"
    with Responder(status) as server:
        parts = [f"{first}GET /{way} HTTP/1.1\r\nHost: h\r\n\r\n".encode()]
        received, ended = server.exchange(parts)
    return read_answers(received, [method, "GET"], ended)


def check_framing(answer: Answer, method: str, chunks: bool) -> None:
    lengths, codings = answer.all("content-length"), answer.all("transfer-encoding")
    if answer.status == 204:  # RFC 9110 8.6, RFC 9112 6.1
        assert lengths == codings == []
    elif answer.status == 205:  # RFC 9110 15.3.6
        assert (lengths, codings) == (["0"], [])
    elif answer.status != 304:
        assert (lengths, codings) == (([], ["chunked"]) if chunks else ([str(len(CONTENT))], []))
    has_content = method != "HEAD" and answer.status not in (204, 205, 304)
    assert answer.content == (CONTENT if has_content else b"")
    assert len(answer.all("date")) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["GET", "HEAD", "POST", "OPTIONS"])
def test_h24_h23_every_response_ends_where_h11_says(method: str, way: str) -> None:
    for status in (200, 201, 204, 205, 206, 304, 404, 500):
        first, second = answers(status, method, way, "1.1")
        for answer, asked in ((first, method), (second, "GET")):
            assert (answer.status, answer.interim, answer.keeps) == (status, [], True)
            check_framing(answer, asked, way == "chunked")


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_h23_responses_to_http_1_0_end_with_the_connection(method: str, way: str) -> None:
    """RFC 9112 6.1: no chunks for a client of HTTP/1.0."""
    for status in (200, 204, 205, 304, 404):
        (answer,) = answers(status, method, way, "1.0")
        assert (answer.status, answer.keeps) == (status, False)
        assert answer.all("transfer-encoding") == []
        has_content = method == "GET" and status not in (204, 205, 304)
        assert answer.content == (CONTENT if has_content else b"")


@pytest.mark.parametrize("way", WAYS)
def test_h25_a_100_precedes_the_response(way: str) -> None:
    fields = "Expect: 100-continue\r\nTransfer-Encoding: chunked\r\n"
    with Responder(200) as server:
        parts = f"POST /{way} HTTP/1.1\r\nHost: h\r\n{fields}\r\n", "5\r\nhello\r\n0\r\n\r\n"
        received, ended = server.exchange([part.encode() for part in parts])
    (answer,) = read_answers(received, ["POST"], ended)
    assert (answer.status, answer.interim, answer.keeps, ended) == (200, [100], True, False)
    check_framing(answer, "POST", way == "chunked")
    assert received.startswith(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n")
