# SPDX-License-Identifier: MIT
"""Routers with a prefix and functions that run before handlers, and custom 404 and 405 (W4)."""

import asyncio
import logging
import signal
from pathlib import Path
from typing import Any, Callable, List

import peer
import pytest
from program import Program

from pyws import App, Request, Response, Router, WebSocket

pytestmark = pytest.mark.usefixtures("read_by_h11")

Serve = Callable[..., Any]


def ask(port: int, path: str, method: str = "GET", fields: str = "") -> peer.Response:
    with peer.Peer(port) as client:
        client.send(f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n".encode())
        return client.response()


def page(res: Response, req: Request) -> None:
    res.end(f"{req.get_url()} {list(req.parameters.items())} {req.user_data}")


async def later(res: Response, req: Request) -> None:
    await asyncio.sleep(0)
    page(res, req)


# ---- prefixes -----------------------------------------------------------------------------------


def test_w4_routers_have_a_prefix(serve: Serve) -> None:
    def configure(app: App) -> None:
        api = app.router("/api/:version")
        assert isinstance(api, Router)
        assert api.get("", page).get("/", page).get("/users/:name", page) is api
        api.any("*", page)
        inner = api.router("/inner")

        @inner.post("/x")
        def post(res: Response, req: Request) -> None:
            page(res, req)

        app.get("/other", page)

    port = serve(configure).port
    assert ask(port, "/api/2").body == b"/api/2 [('version', '2')] None"
    assert ask(port, "/api/2/").body == b"/api/2/ [('version', '2')] None"
    users = ask(port, "/api/2/users/Ann").body
    assert users == b"/api/2/users/Ann [('version', '2'), ('name', 'Ann')] None"
    rest = ask(port, "/api/2/any/thing", "PUT").body
    assert rest == b"/api/2/any/thing [('version', '2'), ('*', 'any/thing')] None"
    assert ask(port, "/api/2/inner/x", "POST").status == 200
    assert ask(port, "/other").status == 200
    assert ask(port, "/users/Ann").status == 404


@pytest.mark.parametrize("method", ["get", "post", "put", "patch", "delete", "options", "head"])
def test_w4_a_router_has_all_methods(serve: Serve, method: str) -> None:
    server = serve(lambda app: getattr(app.router("/api"), method)("/x", page))
    if method != "head":
        assert ask(server.port, "/api/x", method.upper()).status == 200
    assert ask(server.port, "/api/x", "FOO").status == 405


def test_w4_sockets_below_a_prefix(serve: Serve) -> None:
    def configure(app: App) -> None:
        chat = app.router("/chat")
        chat.ws("/:room", message=lambda ws, message, opcode: ws.send(ws.parameters["room"]))

        @chat.ws("", max_payload_length=100)
        async def session(ws: WebSocket) -> None:
            async for message in ws:
                ws.send(message)

    port = serve(configure).port
    for path, answer in (("/chat/blue", b"blue"), ("/chat", b"hi")):
        with peer.Peer(port) as client:
            client.send(peer.handshake(path) + peer.frame(b"hi"))
            assert client.response().status == 101
            assert client.frame().payload == answer


@pytest.mark.parametrize(
    ("prefix", "error", "message"),
    [
        ("api", ValueError, "did you mean '/api'"),
        ("/api/", ValueError, "did you mean '/api'"),
        ("/", ValueError, 'or "" for none'),
        ("/api/*", ValueError, "did you mean '/api'"),
        ("/{version}", ValueError, "a parameter is written with a colon"),
        ("/a b", ValueError, "as they are sent"),
        (None, TypeError, "prefix must be a str, not None"),
        (b"/api", TypeError, "prefix must be a str, not bytes"),
    ],
)
def test_w4_wrong_prefixes(prefix: Any, error: Any, message: str) -> None:
    with App() as app, pytest.raises(error, match=message):
        app.router(prefix)


def test_w4_wrong_patterns_in_a_router() -> None:
    with App() as app:
        api = app.router("/api")
        with pytest.raises(ValueError, match="in a router it begins with"):
            api.get("users", page)
        with pytest.raises(ValueError, match="each name"):
            app.router("/:id").get("/:id", page)
        api.get("/x", page)
        with pytest.raises(ValueError, match="'/api/x'"):
            app.get("/api/x", page)
        with pytest.raises(TypeError, match=r"a router is made by a method: app\.router"):
            Router("/api")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="pattern"):
            api.get(5, page)  # type: ignore[call-overload]


def test_p7_a_decorator_of_a_router_above_nothing() -> None:
    with App() as app:
        app.router("/api").get("/x")
        app.listen(0)
        with pytest.raises(RuntimeError, match="has no handler"):
            app.run()


# ---- before -------------------------------------------------------------------------------------


def log_in(res: Response, req: Request) -> None:
    user = req.get_header("x-user")
    if user is None:
        res.send("who are you?", 401)
    else:
        req.user_data = user


async def log_in_later(res: Response, req: Request) -> None:
    await asyncio.sleep(0)
    log_in(res, req)


@pytest.mark.parametrize("handler", [page, later])
@pytest.mark.parametrize("hook", [log_in, log_in_later])
def test_w4_before_functions_answer_or_let_pass(serve: Serve, hook: Any, handler: Any) -> None:
    server = serve(lambda app: app.router("/api", before=[hook]).get("/x", handler))
    refused = ask(server.port, "/api/x")
    assert (refused.status, refused.body) == (401, b"who are you?")
    assert ask(server.port, "/api/x", fields="X-User: Ann\r\n").body == b"/api/x [] Ann"


@pytest.mark.parametrize("waits", [False, True])
def test_w4_before_functions_run_in_order(serve: Serve, waits: bool) -> None:
    seen: List[str] = []

    def note(name: str) -> Any:
        def hook(res: Response, req: Request) -> None:
            seen.append(name)
            res.write_header("X-Seen", name)

        async def hook_later(res: Response, req: Request) -> None:
            await asyncio.sleep(0)
            hook(res, req)

        return hook_later if waits and name != "2" else hook

    def configure(app: App) -> None:
        outer = app.router("/a", before=[note("1"), note("2")])
        inner = outer.router("/b", before=note("3"))
        inner.get("/c", page)
        outer.get("/d", page)
        app.get("/e", page)

    port = serve(configure).port
    assert ask(port, "/a/b/c").headers["x-seen"]
    assert seen == ["1", "2", "3"]
    del seen[:]
    ask(port, "/a/d")
    assert seen == ["1", "2"]
    ask(port, "/e"), ask(port, "/a/none")
    assert seen == ["1", "2"]


@pytest.mark.parametrize("hook", [log_in, log_in_later])
@pytest.mark.parametrize("own", [False, True])
def test_w4_before_functions_of_sockets(serve: Serve, hook: Any, own: bool) -> None:
    """They run before the upgrade handler; what they find out is the user data."""

    def upgrade(res: Response, req: Request, socket_context: Any) -> None:
        res.upgrade(user_data=req.user_data.upper())

    def on_open(ws: WebSocket) -> None:
        ws.send(ws.user_data)

    handlers = {"open": on_open, "upgrade": upgrade} if own else {"open": on_open}
    server = serve(lambda app: app.router("", before=[hook]).ws("/chat", handlers))
    with peer.Peer(server.port) as client:
        client.send(peer.handshake("/chat"))
        assert client.response().status == 401
    with peer.Peer(server.port) as client:
        client.send(peer.handshake("/chat", [("X-User", "Ann")]))
        assert client.response().status == 101
        assert client.frame().payload == (b"ANN" if own else b"Ann")


def test_user_data_of_a_request(serve: Serve) -> None:
    found: List[Any] = []

    def handler(res: Response, req: Request) -> None:
        found.append((req.user_data, res.request.user_data))
        req.user_data = {"a": 1}
        found.append((req.user_data, res.request.user_data))
        res.end()

    ask(serve(lambda app: app.get("/", handler)).port, "/")
    assert found == [(None, None), ({"a": 1}, {"a": 1})]


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("result", [False, {"user": "Ann"}, "no", 0])
def test_w4_a_refusal_that_is_no_answer_lets_no_one_in(
    serve: Serve, caplog: Any, result: Any, waits: bool
) -> None:
    """Middleware of other libraries returns False; here this would be without effect."""
    called: List[Any] = []

    def hook(res: Response, req: Request) -> Any:
        return result

    async def hook_later(res: Response, req: Request) -> Any:
        return result

    def handler(res: Response, req: Request) -> None:
        called.append(req)

    before = hook_later if waits else hook
    server = serve(lambda app: app.router("", before=before).get("/", handler))
    with caplog.at_level(logging.ERROR):
        assert ask(server.port, "/").status == 500
    assert not called
    assert "refuses a client by an answer" in caplog.text


@pytest.mark.parametrize("hook", [lambda res, req: True, lambda res, req: res.send("x", 403)])
def test_w4_true_and_the_response_are_fine(serve: Serve, caplog: Any, hook: Any) -> None:
    server = serve(lambda app: app.router("", before=hook).get("/", page))
    assert ask(server.port, "/").status in (200, 403)
    assert not caplog.records


@pytest.mark.parametrize("waits", [False, True])
def test_w4_a_before_function_that_raises(serve: Serve, caplog: Any, waits: bool) -> None:
    def hook(res: Response, req: Request) -> None:
        raise LookupError("no such user")

    async def hook_later(res: Response, req: Request) -> None:
        raise LookupError("no such user")

    called: List[Any] = []
    before = hook_later if waits else hook

    def configure(app: App) -> None:
        app.router("", before=before).get("/", lambda res, req: called.append(res))

    server = serve(configure)
    with caplog.at_level(logging.ERROR):
        assert ask(server.port, "/").status == 500
    assert not called
    assert "no such user" in caplog.text


@pytest.mark.parametrize(
    ("before", "message"),
    [
        (None, "before must be a list of functions"),
        ("auth", "before must be a list of functions"),
        ([None], "before must be a function, not None"),
        ([lambda res: None], "before must take 2 arguments"),
        ([5], "before must be callable"),
    ],
)
def test_w4_wrong_before(before: Any, message: str) -> None:
    with App() as app, pytest.raises(TypeError, match=message):
        app.router("/api", before=before)


def test_w4_a_hidden_coroutine_in_before(serve: Serve, caplog: Any) -> None:
    def hook(res: Response, req: Request) -> Any:
        return log_in_later(res, req)

    server = serve(lambda app: app.router("", before=[hook]).get("/", page))
    with caplog.at_level(logging.ERROR):
        assert ask(server.port, "/").status == 500
    assert "returned a coroutine that nothing awaits" in caplog.text


def test_w4_cors(serve: Serve) -> None:
    """As in docs/guide/http.md."""

    def allow(res: Response, req: Request) -> None:
        res.write_header("Access-Control-Allow-Origin", "https://example.org")

    def preflight(res: Response, req: Request) -> None:
        res.send(b"", 204, {"Access-Control-Allow-Methods": "GET, PUT"})

    def configure(app: App) -> None:
        api = app.router("/api", before=[allow])
        api.get("/x", page)
        api.options("/*", preflight)

    port = serve(configure).port
    for response in (ask(port, "/api/x"), ask(port, "/api/x", "OPTIONS")):
        assert response.headers["access-control-allow-origin"] == "https://example.org"


# ---- 404 and 405 --------------------------------------------------------------------------------


@pytest.mark.parametrize("waits", [False, True])
def test_w4_custom_404_and_405(serve: Serve, waits: bool) -> None:
    def not_found(res: Response, req: Request) -> None:
        res.send({"error": "not found", "path": req.get_url()})

    def not_allowed(res: Response, req: Request) -> None:
        res.send({"error": "not allowed"})

    async def not_found_later(res: Response, req: Request) -> None:
        await asyncio.sleep(0)
        not_found(res, req)

    def configure(app: App) -> None:
        app.get("/x", page).ws("/ws", {})
        handler = not_found_later if waits else not_found
        assert app.on_not_found(handler) is handler
        app.on_method_not_allowed(not_allowed)

    port = serve(configure).port
    response = ask(port, "/none")
    assert (response.status, response.body) == (404, b'{"error":"not found","path":"/none"}')
    assert response.headers["content-type"] == "application/json"
    response = ask(port, "/x", "DELETE")
    assert (response.status, response.body) == (405, b'{"error":"not allowed"}')
    assert response.headers["allow"] == "GET, HEAD"
    assert ask(port, "/ws", "PUT").status == 405
    assert ask(port, "/ws").status == 426
    assert ask(port, "/x").status == 200


@pytest.mark.parametrize("which", ["on_not_found", "on_method_not_allowed"])
def test_w4_one_of_both(serve: Serve, which: str) -> None:
    """The other answer is what it was."""

    def handler(res: Response, req: Request) -> None:
        res.end(f"{req.parameters} ours")

    def answers(port: int) -> List[Any]:
        found = (ask(port, "/none"), ask(port, "/x", "DELETE"))
        return [(r.status, r.body, {**r.headers, "date": ""}) for r in found]

    plain = answers(serve(lambda app: app.get("/x", page)).port)
    ours = answers(serve(lambda app: getattr(app.get("/x", page), which)(handler)).port)
    index = which == "on_method_not_allowed"
    assert ours[not index] == plain[not index]
    assert ours[index][0] == plain[index][0]
    assert ours[index][1] == b"Parameters({}) ours"


def test_w4_an_error_in_the_404_handler(serve: Serve, caplog: Any) -> None:
    def not_found(res: Response, req: Request) -> None:
        raise LookupError("no page")

    server = serve(lambda app: app.on_not_found(not_found))
    with caplog.at_level(logging.ERROR):
        assert ask(server.port, "/none").status == 500
    assert "no page" in caplog.text


def test_w4_the_connection_is_kept_after_a_custom_404(serve: Serve) -> None:
    server = serve(lambda app: app.on_not_found(lambda res, req: res.end("no")))
    with peer.Peer(server.port) as client:
        for _ in range(3):
            client.send(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.response().status == 404


@pytest.mark.parametrize("handler", [None, lambda res: None, 5])
def test_w4_wrong_404_handlers(handler: Any) -> None:
    with App() as app:
        for register in (app.on_not_found, app.on_method_not_allowed):
            with pytest.raises(TypeError, match="^handler must "):
                register(handler)


WORKERS = """
import sys
from pyws import App
app = App()
app.router("/api", before=lambda res, req: None).static("/files", sys.argv[1])
app.on_not_found(lambda res, req: res.end("ours"))
app.listen(0, lambda place: print(place.port, flush=True), host="127.0.0.1")
app.run(workers=2)
"""


def test_w3_w4_workers_have_all_of_it(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(WORKERS)
    with Program(str(program), str(tmp_path)) as running:
        port = int(running.line())
        for _ in range(10):
            assert ask(port, "/none").body == ask(port, "/api/files/none").body == b"ours"
            assert ask(port, "/api/files/program.py").body.decode() == WORKERS
            assert ask(port, "/api/files/program.py", "PUT").status == 405
        assert running.stop(signal.SIGTERM) == 0
        assert running.error_text() == ""


@pytest.mark.parametrize("kind", ["asyncio", "uvloop"])
def test_w3_w4_in_a_loop_of_the_program(tmp_path: Path, kind: str) -> None:
    (tmp_path / "a.txt").write_text("file")
    app = App()
    app.router("/api", before=[log_in_later]).get("/x", later).static("/files", tmp_path)

    @app.on_not_found
    async def not_found(res: Response, req: Request) -> None:
        await asyncio.sleep(0)
        res.send_file(tmp_path / "a.txt")

    async def main() -> List[Any]:
        async with app.serving(0, host="127.0.0.1"):
            loop = asyncio.get_running_loop()
            asked = [
                loop.run_in_executor(None, ask, app.port, path, "GET", fields)
                for path, fields in (
                    ("/api/x", ""),
                    ("/api/x", "X-User: Ann\r\n"),
                    ("/api/files/a.txt", "X-User: Ann\r\n"),
                    ("/api/files/none", "X-User: Ann\r\n"),
                    ("/none", ""),
                )
            ]
            return [(answer.status, answer.body) for answer in await asyncio.gather(*asked)]

    if kind == "uvloop":
        uvloop = pytest.importorskip("uvloop")
        loop = uvloop.new_event_loop()
    else:
        loop = asyncio.new_event_loop()
    try:
        answers = loop.run_until_complete(main())
    finally:
        loop.close()
    assert answers == [
        (401, b"who are you?"),
        (200, b"/api/x [] Ann"),
        (200, b"file"),
        (404, b"file"),
        (404, b"file"),
    ]
