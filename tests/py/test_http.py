# SPDX-License-Identifier: MIT
"""Plain HTTP: methods, responses, errors, answers that come later."""

import math
import threading
from datetime import datetime, timedelta, timezone
from typing import Any, Callable, Dict, List, Tuple

import peer
import pytest
from handlers import fail

from pyws import (
    App,
    Request,
    Response,
)

pytestmark = pytest.mark.usefixtures("read_by_h11")

# ---- plain HTTP ---------------------------------------------------------------------------------


def test_http_methods(serve: Callable[..., Any]) -> None:
    names = ("get", "post", "put", "patch", "delete", "options", "head")

    def configure(app: App) -> None:
        for name in names:
            assert getattr(app, name)(f"/{name}", lambda res, req: res.end(req.get_method())) is app
        app.any("/any", lambda res, req: res.end(req.get_method()))
        app.get("/any", lambda res, req: res.end("get"))

    port = serve(configure).port
    for name in names:
        method = name.upper()
        if name != "head":
            assert peer.request(port, f"{method} /{name} HTTP/1.1").body == method.encode()
        wrong = peer.request(port, f"{'PUT' if name != 'put' else 'POST'} /{name} HTTP/1.1")
        assert wrong.status == 405
    assert peer.request(port, "BREW /any HTTP/1.1").body == b"BREW"
    assert peer.request(port, "GET /any HTTP/1.1").body == b"get"
    assert peer.request(port, "GET /none HTTP/1.1").status == 404


RESPONSES: Dict[str, Tuple[Callable[[Response], Any], int, bytes, Dict[str, str]]] = {
    "empty": (lambda res: res.end(), 200, b"", {}),
    "text": (lambda res: res.end("\u20ac"), 200, b"\xe2\x82\xac", {}),
    "bytes": (lambda res: res.end(memoryview(b"\0\xff")), 200, b"\0\xff", {}),
    "json": (
        lambda res: res.end({"a": [1, True]}),
        200,
        b'{"a":[1,true]}',
        {"content-type": "application/json"},
    ),
    "own-type": (
        lambda res: res.write_header("content-type", "text/x").end([1]),
        200,
        b"[1]",
        {"content-type": "text/x"},
    ),
    "status": (lambda res: res.write_status(404).end("no"), 404, b"no", {}),
    "status-text": (lambda res: res.write_status("418 I'm a teapot").end(), 418, b"", {}),
    "status-only": (lambda res: res.write_status("403").end(), 403, b"", {}),
    "headers": (
        lambda res: res.write_header("X-One", 1).write_header("X-Two", b"2").end(),
        200,
        b"",
        {"x-one": "1", "x-two": "2"},
    ),
    "send": (
        lambda res: res.send("hi", 201, {"X-A": "b"}),
        201,
        b"hi",
        {"x-a": "b", "content-type": "text/plain; charset=utf-8"},
    ),
    "send-pairs": (
        lambda res: res.write_status(202).send({}, headers=[("X-A", "b"), ("X-A", "c")]),
        202,
        b"{}",
        {"x-a": "b, c", "content-type": "application/json"},
    ),
    "redirect": (lambda res: res.redirect("/there"), 302, b"", {"location": "/there"}),
    "redirect-308": (lambda res: res.redirect("/x", 308), 308, b"", {"location": "/x"}),
    "cork": (lambda res: res.cork(lambda same: same.end("corked")), 200, b"corked", {}),
    "cookie": (
        lambda res: res.set_cookie(
            "a",
            "b",
            {"Max-Age": 5, "samesite": "Lax", "secure": True, "httponly": False, "domain": "x.org"},  # type: ignore[arg-type]
            expires=datetime(2030, 1, 5, 3, 4, 5, tzinfo=timezone(timedelta(hours=1))),
        ).end(),
        200,
        b"",
        {
            "set-cookie": "a=b; Max-Age=5; SameSite=Lax; Secure; Domain=x.org; "
            "Expires=Sat, 05 Jan 2030 02:04:05 GMT"
        },
    ),
}


@pytest.mark.parametrize("name", sorted(RESPONSES))
def test_responses(serve: Callable[..., Any], name: str) -> None:
    work, status, body, headers = RESPONSES[name]
    server = serve(lambda app: app.get("/", lambda res, req: work(res)))
    response = peer.request(server.port, "GET / HTTP/1.1")
    assert (response.status, response.body) == (status, body)
    assert headers.items() <= response.headers.items()
    assert response.headers["content-length"] == str(len(body))


WRONG: List[Tuple[Callable[[Response], Any], Any]] = [
    (lambda res: res.write_header("X-A", "a\r\nX-B: b"), ValueError),
    (lambda res: res.write_header("X-A", "a\n"), ValueError),
    (lambda res: res.write_header("X-A", b"a\0"), ValueError),
    (lambda res: res.write_header("X-A\r\n", "a"), ValueError),
    (lambda res: res.write_header("", "a"), ValueError),
    (lambda res: res.write_header("X A", "a"), ValueError),
    (lambda res: res.write_header("X-A", "\ud800"), ValueError),
    (lambda res: res.write_header("X-A", None), TypeError),  # type: ignore[arg-type]
    (lambda res: res.write_header("X-A", True), TypeError),
    (lambda res: res.write_header(5, "a"), TypeError),  # type: ignore[arg-type]
    (lambda res: res.write_header("Content-Length", 5), ValueError),
    (lambda res: res.write_header("transfer-encoding", "chunked"), ValueError),
    (lambda res: res.write_header("Connection", "close"), ValueError),
    (lambda res: res.write_header("Sec-WebSocket-Accept", "x"), ValueError),
    (lambda res: res.write_status(99), ValueError),
    (lambda res: res.write_status(101), ValueError),
    (lambda res: res.write_status(600), ValueError),
    (lambda res: res.write_status("200 OK\r\nX: y"), ValueError),
    (lambda res: res.write_status("OK"), ValueError),
    (lambda res: res.write_status("200 \u20ac"), ValueError),
    (lambda res: res.write_status(None), TypeError),  # type: ignore[arg-type]
    (lambda res: res.write_status(True), TypeError),
    (lambda res: res.write_header("X", "a\x1bb"), ValueError),
    (lambda res: res.write_header("X", b"a\x7f"), ValueError),
    (lambda res: res.send("", headers={"X": "\x01"}), ValueError),
    (lambda res: res.send("", content_type="text/\x08html"), ValueError),
    (lambda res: res.redirect("/a\r\nX: y"), ValueError),
    (lambda res: res.redirect("/a\x0bb"), ValueError),
    (lambda res: res.redirect("/a", 200), ValueError),
    (lambda res: res.redirect("/a", 304), ValueError),
    (lambda res: res.redirect("/a", "302"), TypeError),  # type: ignore[arg-type]
    (lambda res: res.send("", headers=5), TypeError),  # type: ignore[arg-type]
    (lambda res: res.send("", headers=0), TypeError),  # type: ignore[arg-type]
    (lambda res: res.send("", headers="ab"), TypeError),  # type: ignore[arg-type]
    (lambda res: res.set_cookie(5, "c"), TypeError),  # type: ignore[arg-type]
    (lambda res: res.set_cookie("a", 5), TypeError),  # type: ignore[arg-type]
    (lambda res: res.set_cookie("a", "b", path=5), TypeError),  # type: ignore[arg-type]
    (lambda res: res.set_cookie("a", "b", expires=5), TypeError),  # type: ignore[arg-type]
    (lambda res: res.set_cookie("a b", "c"), ValueError),
    (lambda res: res.set_cookie("a", "b;c"), ValueError),
    (lambda res: res.set_cookie("a", "b\r\nX: y"), ValueError),
    (lambda res: res.set_cookie("a", "b", path="/;x"), ValueError),
    (lambda res: res.set_cookie("a", "b", path="/\r\n"), ValueError),
    (lambda res: res.set_cookie("a", "b", same_site="Maybe"), ValueError),  # type: ignore[arg-type]
    (lambda res: res.set_cookie("a", "b", max_age="5"), TypeError),  # type: ignore[arg-type]
    (lambda res: res.set_cookie("a", "b", secure=1), TypeError),  # type: ignore[arg-type]
    (lambda res: res.set_cookie("a", "b", pth="/"), TypeError),  # type: ignore[call-arg]
    (lambda res: res.end(None), TypeError),  # type: ignore[arg-type]
    (lambda res: res.end("\ud800"), ValueError),
    (lambda res: res.end(object()), TypeError),  # type: ignore[arg-type]
    (lambda res: res.on_aborted(None), TypeError),  # type: ignore[arg-type]
    (lambda res: res.cork(5), TypeError),  # type: ignore[arg-type]
]


def test_t10_no_response_splitting(serve: Callable[..., Any]) -> None:
    results: List[Any] = []

    def handler(res: Response, req: Request) -> None:
        for work, kind in WRONG:
            try:
                work(res)
                results.append("accepted")
            except (TypeError, ValueError) as error:
                results.append(type(error) is kind or isinstance(error, kind))
        res.write_status(200).end("clean")

    server = serve(lambda app: app.get("/", handler))
    response = peer.request(server.port, "GET / HTTP/1.1")
    assert results == [True] * len(WRONG)
    assert (response.status, response.body) == (200, b"clean")
    assert set(response.headers) <= {"content-length", "date", "connection"}


def test_t71_http_handlers_that_fail_or_stay_silent(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def configure(app: App) -> None:
        app.get("/fail", fail).get("/silent", lambda res, req: None)
        app.get("/fine", lambda res, req: res.end("fine"))

    server = serve(configure)
    failed = peer.request(server.port, "GET /fail HTTP/1.1")
    assert "Oops: in the handler" in caplog.text
    caplog.clear()
    silent = peer.request(server.port, "GET /silent HTTP/1.1")
    assert peer.request(server.port, "GET /fine HTTP/1.1").body == b"fine"
    for response in (failed, silent):
        assert (response.status, response.body) == (500, b"500 Internal Server Error\n")
        assert response.headers["content-type"] == "text/plain"
    assert [record.getMessage() for record in caplog.records] == [
        "the handler of /silent did not answer the request"
    ]


def test_a_send_that_raises_changes_nothing(serve: Callable[..., Any]) -> None:
    def handler(res: Response, req: Request) -> None:
        res.write_status("201 Made").write_header("X-Mine", "1")
        for arguments in (
            ("text", 404, {"X-One": "1", "X-Two": "a\r\nb"}),
            ("text", 404, [("X-One", "1"), 5]),
            ("text", 404, 5),
            ("text", 99, {"X-One": "1"}),
            (object(), 404, {"X-One": "1"}),
            (math.nan, 404, {"X-One": "1"}),
            ("\ud800", 404, {"X-One": "1"}),
        ):
            with pytest.raises((TypeError, ValueError)):
                res.send(*arguments)
        with pytest.raises(ValueError, match="Location"):
            res.redirect("a\r\nb")
        res.end("clean")

    response = peer.request(serve(lambda app: app.get("/", handler)).port, "GET / HTTP/1.1")
    assert (response.status, response.body) == (201, b"clean")
    assert response.headers["x-mine"] == "1"
    assert not {"x-one", "x-two", "location", "content-type"} & set(response.headers)


def test_http_answer_later(serve: Callable[..., Any]) -> None:
    def handler(res: Response, req: Request) -> None:
        res.on_aborted(lambda res: None)
        timer = threading.Timer(0.02, server.app.defer, (res.end, "later"))
        timer.start()

    server = serve(lambda app: app.get("/", handler))
    with peer.Peer(server.port) as client:
        for _ in range(3):
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.response().body == b"later"


def test_http_pipelined(serve: Callable[..., Any]) -> None:
    server = serve(lambda app: app.get("/:n", lambda res, req: res.end(req.get_parameter(0))))
    with peer.Peer(server.port) as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(5)))
        assert [client.response().body for _ in range(5)] == [b"%d" % n for n in range(5)]
