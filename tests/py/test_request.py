# SPDX-License-Identifier: MIT
"""Routes, and the Request object of upgrade and HTTP handlers."""

import functools
from typing import Any, Callable, Dict, List

import peer
import pytest
from handlers import accept

from pyws import App, Request, Response

pytestmark = pytest.mark.usefixtures("read_by_h11")

# ---- routes -------------------------------------------------------------------------------------


def test_s1_s2_routes_by_specificity(serve: Callable[..., Any]) -> None:
    def handler(name: str) -> Any:
        return lambda ws: ws.send(f"{name} {ws.path}")

    def configure(app: App) -> None:
        assert app.ws("/*", {"open": handler("rest")}) is app
        app.ws("/chat/:room", {"open": handler("room")})
        app.ws("/chat/lobby", {"open": handler("lobby")})
        app.ws("/:one", {"open": handler("one")})

    server = serve(configure)
    for path, name in [
        ("/chat/lobby", "lobby"),
        ("/chat/other", "room"),
        ("/chat", "one"),
        ("/chat/a/b", "rest"),
        ("/", "rest"),
    ]:
        with peer.upgraded(server.port, path) as client:
            assert client.frame().payload.decode() == f"{name} {path}"


def test_s2_upgrades_fall_through_to_http_only_as_plain(serve: Callable[..., Any]) -> None:
    def configure(app: App) -> None:
        app.ws("/both", open=lambda ws: ws.send("ws"))
        app.get("/both", lambda res, req: res.end("http"))
        app.get("/plain", lambda res, req: res.end("plain"))

    server = serve(configure)
    with peer.upgraded(server.port, "/both") as client:
        assert client.frame().payload == b"ws"
    assert peer.request(server.port, "GET /both HTTP/1.1").body == b"http"
    assert peer.request(server.port, "GET /plain HTTP/1.1").body == b"plain"


def test_s2_parameters(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def upgrade(res: Response, req: Request, context: Any) -> None:
        seen.append(
            [
                req.get_parameter(0),
                req.get_parameter(1),
                req.get_parameter(2),
                req.get_parameter(3),
                req.get_parameter("room"),
                req.get_parameter("user"),
                req.get_parameter("*"),
                req.get_parameter("none"),
                req.get_parameters(),
            ]
        )
        for wrong in (-1, True, 1.5, None, 2**64):
            with pytest.raises((TypeError, ValueError)):
                req.get_parameter(wrong)  # type: ignore[arg-type]
        accept(res, req, context)

    server = serve(pattern="/chat/:room/:user/*", upgrade=upgrade)
    with peer.upgraded(server.port, "/chat/blue%20room/%E2%82%AC/a/b?x=1"):
        pass
    values = ["blue room", "\u20ac", "a/b"]
    assert seen == [[*values, None, *values, None, values]]


@pytest.mark.parametrize(
    "pattern", ["", "chat", "/a b", "/\u00e9", "/:/x", "/*/x", "/:a/:a", "/a\0"]
)
def test_wrong_patterns(pattern: str) -> None:
    with App() as app:
        adders: List[Callable[[str], object]] = [
            functools.partial(app.ws, behavior={}),
            functools.partial(app.get, handler=print),
        ]
        for add in adders:
            with pytest.raises(ValueError, match="^pattern ") as caught:
                add(pattern)
            why = str(caught.value)
            assert repr(pattern) in why
            assert any(part in why for part in ("NUL", "/chat/:room", "as they are sent"))


def test_a_pattern_twice_is_refused() -> None:
    with App() as app:
        app.ws("/:a", {}).get("/:a", print)
        with pytest.raises(ValueError, match="'/:b'.*already registered"):
            app.ws("/:b", {})
        with pytest.raises(ValueError, match="already registered"):
            app.get("/:b", print)
        app.post("/:b", print)
        for wrong in (None, 5, b"/x"):
            with pytest.raises(TypeError, match="pattern must be a str"):
                app.ws(wrong, {})  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="handler must be (a function|callable)"):
                app.get("/x", wrong)  # type: ignore[call-overload]


# ---- the request --------------------------------------------------------------------------------


def read_everything(req: Request) -> Dict[str, Any]:
    fields: List[Any] = []
    req.for_each_header(lambda name, value: fields.append((name, value)))
    return {
        "method": req.get_method(),
        "url": req.get_url(),
        "full_url": req.get_full_url(),
        "header": req.get_header("x-twice"),
        "missing": req.get_header("x-missing"),
        "headers": req.get_headers(),
        "fields": fields,
        "query": [req.get_query("a"), req.get_query("b"), req.get_query("c")],
        "queries": req.get_queries(),
        "cookie": [req.get_cookie("one"), req.get_cookie("two"), req.get_cookie("none")],
        "cookies": req.get_cookies(),
        "parameter": [req.get_parameter(0), req.get_parameter("name")],
    }


REQUEST = """GET /u/J%C3%BCrgen?a=1&b=%20x&a=2&b HTTP/1.1
X-Twice: a
X-TWICE: b, c
Cookie: one=1; two="2"
Cookie: one=9; =x; flag
X-Raw: caf\u00e9"""


@pytest.mark.parametrize("when", ["inside", "preserved", "deferred"])
def test_request(serve: Callable[..., Any], when: str) -> None:
    kept: List[Any] = []

    def handler(res: Response, req: Request) -> None:
        if when == "inside":
            kept.append(read_everything(req))
            res.end("x")
            kept.append(read_everything(req))
        elif when == "preserved":
            assert req.preserve() is req
            res.end("x")
            kept.append(req)
        else:
            res.on_aborted(print)
            kept.append((res, req))

    server = serve(lambda app: app.get("/u/:name", handler))
    with peer.Peer(server.port) as client:
        client.send(REQUEST.replace("\n", "\r\n").encode() + b"\r\nHost: h\r\n\r\n")
        peer.eventually(lambda: kept)
        found = kept[0]
        if when == "preserved":
            client.response()
            found = read_everything(kept[0])
        elif when == "deferred":
            found = server.call(read_everything, kept[0][1])
            server.call(kept[0][0].end, "x")
            assert client.response().body == b"x"
    assert found.pop("headers") == {
        "x-twice": "a, b, c",
        "cookie": 'one=1; two="2"; one=9; =x; flag',
        "x-raw": "caf\u00e9",
        "host": "h",
    }
    assert found.pop("fields")[:2] == [("x-twice", "a"), ("x-twice", "b, c")]
    assert found == {
        "method": "GET",
        "url": "/u/J%C3%BCrgen",
        "full_url": "/u/J%C3%BCrgen?a=1&b=%20x&a=2&b",
        "header": "a, b, c",
        "missing": None,
        "query": ["1", " x", None],
        "queries": {"a": ["1", "2"], "b": [" x", ""]},
        "cookie": ["1", "2", None],
        "cookies": {"one": "1", "two": "2", "": "x"},
        "parameter": ["J\u00fcrgen", "J\u00fcrgen"],
    }


def test_a_request_after_its_handler(serve: Callable[..., Any]) -> None:
    kept: List[Request] = []

    def handler(res: Response, req: Request) -> None:
        req.get_url()
        kept.append(req)
        with pytest.raises(TypeError):
            req.get_header(5)  # type: ignore[arg-type]
        res.end()

    server = serve(lambda app: app.get("/", handler))
    assert peer.request(server.port, "GET / HTTP/1.1").status == 200
    for method in ("get_url", "get_headers", "get_queries", "get_parameters", "preserve"):
        with pytest.raises(RuntimeError, match=r"req\.preserve\(\)"):
            server.call(getattr(kept[0], method))


def test_a_request_in_another_thread(serve: Callable[..., Any]) -> None:
    kept: List[Any] = []

    def handler(res: Response, req: Request) -> None:
        kept.append((res.on_aborted(print), req))

    server = serve(lambda app: app.get("/", handler))
    with peer.Peer(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        peer.eventually(lambda: kept)
        res, req = kept[0]
        for call in (
            req.get_url,
            req.preserve,
            res.end,
            lambda: res.end("text"),
            lambda: res.end(object()),
            lambda: res.send("text", 404, {"X-One": "1"}),
            lambda: res.send({}),
            lambda: res.redirect("/x"),
            lambda: res.write_status(404),
            lambda: res.write_status(None),
            lambda: res.write_header("X-One", "1"),
            lambda: res.set_cookie("one", "1"),
            lambda: res.set_cookie("", ""),
            res.close,
            res.get_remote_address,
            lambda: res.upgrade("", None, None, None),
            lambda: res.on_aborted(print),
        ):
            with pytest.raises(RuntimeError, match="defer"):
                call()
        server.call(res.end)
        response = client.response()
        assert (response.status, response.body) == (200, b"")
        assert set(response.headers) <= {"content-length", "date", "connection"}
