# SPDX-License-Identifier: MIT
"""The forms in which routes and settings are given: decorators; dicts, keywords and objects."""

import asyncio
from typing import Any, Callable, Dict, List, Tuple

import peer
import pytest

from pyws import App, AppListenOptions, AppOptions, Request, Response, WebSocket, WebSocketOptions

pytestmark = pytest.mark.usefixtures("read_by_h11")

METHODS = ["get", "post", "put", "patch", "delete", "options", "head", "any"]


def echo(ws: WebSocket, message: Any, opcode: Any) -> None:
    ws.send(message, opcode)


# ---- decorators ---------------------------------------------------------------------------------


@pytest.mark.parametrize("name", METHODS)
def test_methods_of_http_are_decorators(serve: Callable[..., Any], name: str) -> None:
    def configure(app: App) -> None:
        register = getattr(app, name)("/page")

        @register  # type: ignore[untyped-decorator]
        def page(res: Response, req: Request) -> None:
            res.end(req.get_method())

        assert callable(page)
        assert page.__name__ == "page"

    server = serve(configure)
    method = "PROPFIND" if name == "any" else name.upper()
    with peer.Peer(server.port) as client:
        client.send(f"{method} /page HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        assert client.read(13) == b"HTTP/1.1 200 "


def test_decorators_may_be_stacked_and_kept(serve: Callable[..., Any]) -> None:
    def configure(app: App) -> None:
        later = app.get("/later")

        @app.get("/a")
        @app.get("/b")
        async def page(res: Response, req: Request) -> None:
            await asyncio.sleep(0)
            res.end(req.get_url())

        assert later(page) is page

    server = serve(configure)
    for path in ("/a", "/b", "/later"):
        with peer.Peer(server.port) as client:
            client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert client.response().body == path.encode()


def test_p7_a_decorator_checks_what_it_gets() -> None:
    with App() as app:
        for wrong in (lambda res: None, None, 5):
            with pytest.raises(TypeError, match="^handler must "):
                app.get("/")(wrong)  # type: ignore[type-var]
        with pytest.raises(ValueError, match="^pattern 'x'"):
            app.get("x")(lambda res, req: None)
        with pytest.raises(ValueError, match="a parameter is written with a colon"):
            app.get("/{x}")  # at once
        with pytest.raises(TypeError, match="did you mean 'max_payload_length'"):
            app.ws("/", max_payload=5)  # type: ignore[call-arg]  # likewise
        with pytest.raises(TypeError, match="^handler must be a function, not None"):
            app.get("/", None)  # type: ignore[call-overload]


def test_p7_a_route_with_handlers_is_no_decorator() -> None:
    async def session(ws: WebSocket) -> None: ...

    with App() as app:
        with pytest.raises(TypeError, match=r"returns the app, .*: give it the session as "):
            app.ws("/", close=lambda ws, code, reason: None)(session)
        with pytest.raises(TypeError, match="^App is no function"):
            app({"type": "websocket"}, None, None)  # type: ignore[call-arg, type-var]


SILENT: List[Tuple[Callable[[App], Any], str]] = [
    (lambda app: app.get("/x"), r"app\.get\('/x'\) has no handler: write @app\.get\('/x'\) above"),
    (lambda app: app.any("/*"), r"app\.any\('/\*'\) has no handler"),
    (lambda app: app.ws("/x"), r"app\.ws\('/x'\) has no handlers: app\.ws\('/x', message=on_m"),
    (lambda app: app.ws("/x", max_lifetime=1), r"app\.ws\('/x'\) has no handlers"),
]


@pytest.mark.parametrize("number", range(len(SILENT)))
def test_p7_a_decorator_above_nothing_is_reported(number: int) -> None:
    register, why = SILENT[number]

    async def serving(app: App) -> None:
        async with app.serving(0):
            pass

    with App() as app:
        register(app)
        app.listen(0)
        runs: List[Callable[[], object]] = [
            app.run, lambda: app.run(workers=2), lambda: asyncio.run(app.serve()),
            lambda: asyncio.run(serving(app)),
        ]  # fmt: skip
        for run in runs:
            with pytest.raises(RuntimeError, match=why):
                run()
        with pytest.raises(AttributeError, match=why):
            register(app).listen(0)


def test_p7_ws_takes_no_other_function() -> None:
    def on_message(ws: WebSocket, message: Any, opcode: Any) -> None: ...

    wanted = r"^session must be a coroutine function, async def session\(ws\), and .*on_message"
    with App() as app:
        for register in (app.ws("/x"), lambda fn: app.ws("/x", fn)):
            with pytest.raises(TypeError, match=wanted):
                register(on_message)  # type: ignore[type-var]
        with pytest.raises(TypeError, match=r"^session must take 1 argument, session\(ws\)"):

            @app.ws("/x")  # type: ignore[type-var]
            async def session(ws: WebSocket, message: str) -> None: ...


# ---- dicts, keywords, objects -------------------------------------------------------------------

ROUTES = [
    lambda app: app.ws("/*", {"message": echo, "max_payload_length": 5}),
    lambda app: app.ws("/*", message=echo, max_payload_length=5),
    lambda app: app.ws("/*", WebSocketOptions(message=echo, max_payload_length=5)),
    lambda app: app.ws("/*", WebSocketOptions(message=echo), max_payload_length=5),
    lambda app: app.ws("/*", {"message": print, "max_payload_length": 5}, message=echo),
]


@pytest.mark.parametrize("number", range(len(ROUTES)))
def test_a_route_in_every_form(serve: Callable[..., Any], number: int) -> None:
    server = serve(ROUTES[number])
    with peer.upgraded(server.port) as client:
        client.send(peer.frame(b"right"))
        assert client.frame().payload == b"right"
        client.send(peer.frame(b"longer"))
        assert client.frame().close_code == 1009


def test_route_options_are_checked_and_not_changed() -> None:
    for wrong in ({"max_payload_length": -1}, {"ping_timeout": 5, "ping_interval": 0}):
        with pytest.raises(ValueError, match="must|needs"):
            WebSocketOptions(**wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^message must take 3 arguments"):
        WebSocketOptions(message=lambda ws: None)  # type: ignore[arg-type,misc]
    with pytest.raises(TypeError, match="did you mean 'message'"):
        WebSocketOptions(onMessage=echo)  # type: ignore[call-arg]
    with pytest.raises(TypeError, match=r"by name, as in WebSocketOptions\(compression="):
        WebSocketOptions(1)  # type: ignore[call-arg]
    options = WebSocketOptions(message=echo, subprotocols=["a"])
    assert options == WebSocketOptions(message=echo, subprotocols=["a"])
    assert options.idle_timeout == 120
    with App() as app:
        app.ws("/a", options).ws("/b", options)
        options.max_payload_length = -1
        with pytest.raises(ValueError, match="^max_payload_length must"):
            app.ws("/c", options)
    assert options.message is echo
    assert options.subprotocols == ["a"]


def test_options_of_an_app_in_every_form() -> None:
    options = AppOptions(max_connections=7)
    forms: List[Callable[[], App]] = [
        lambda: App(max_connections=7),
        lambda: App({"max_connections": 7}),
        lambda: App(options),
        lambda: App({"max_connections": 5, "max_headers": 100}, max_connections=7),
        lambda: App(AppOptions(), max_connections=7),
    ]
    for make in forms:
        with make() as app:
            assert app.app_options == options
            assert app.app_options is not options
    for wrong in ({"max_connections": 0}, {"max_headers": True}):
        with pytest.raises((TypeError, ValueError), match="^max_"):
            App(**wrong)
        with pytest.raises((TypeError, ValueError), match="^max_"):
            App(wrong)  # type: ignore[arg-type]


def test_addresses_in_every_form() -> None:
    options = AppListenOptions(port=0, host="127.0.0.1", backlog=5)
    places: List[AppListenOptions] = []
    with App() as app:
        app.listen(port=0, host="127.0.0.1", backlog=5, callback=places.append)
        app.listen(0, places.append, host="127.0.0.1", backlog=5)
        app.listen({"port": 0, "host": "127.0.0.1"}, places.append, backlog=5)
        app.listen(options, places.append)
        app.listen(AppListenOptions(host="127.0.0.1"), places.append, backlog=5)
        assert len({place.port for place in places}) == 5
        for place in places:
            place.port = 0
            assert place == options
        with pytest.raises(TypeError, match=r"^app\.listen\(\) needs a port, a path or options"):
            app.listen()
        with pytest.raises(TypeError, match="did you mean 'host'|: host"):
            app.listen(0, hostname="127.0.0.1")  # type: ignore[call-arg]


# ---- one word -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["end", "cork_end"])
@pytest.mark.parametrize("arguments", [{"reason": "bye"}, {"message": "bye"}])
def test_the_reason_of_a_close(
    serve: Callable[..., Any], name: str, arguments: Dict[str, str]
) -> None:
    server = serve(open=lambda ws: getattr(ws, name)(3000, **arguments))
    with peer.upgraded(server.port) as client:
        frame = client.frame()
        assert (frame.close_code, frame.payload[2:]) == (3000, b"bye")


def test_p7_a_reason_is_given_once(serve: Callable[..., Any]) -> None:
    errors: List[BaseException] = []

    def on_open(ws: WebSocket) -> None:
        try:
            ws.end(1000, "one", message="two")
        except TypeError as error:
            errors.append(error)
        ws.send("open")

    server = serve(open=on_open)
    with peer.upgraded(server.port) as client:
        assert client.frame().payload == b"open"
    assert "but not both" in str(errors[0])
