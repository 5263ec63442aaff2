# SPDX-License-Identifier: MIT
"""Programs that were written for socketify: names that they use."""

import pydoc
import re
from pathlib import Path
from typing import Any, Callable, Dict, List, Optional

import peer
import pytest
from handlers import fail
from room import Room

import pyws
from pyws import App, AppListenOptions, Request, Response, WebSocket
from pyws._core import foreign
from pyws.testing import FakeWebSocket

EXPLAINED: Dict[type, Dict[str, str]] = {
    App: foreign.NOT_IN_APP,
    Request: foreign.NOT_IN_REQUEST,
    Response: foreign.NOT_IN_RESPONSE,
    WebSocket: foreign.NOT_IN_WEBSOCKET,
}

# What the classes of socketify 0.0.31 have.
OF_SOCKETIFY: Dict[type, str] = {
    App: "on_shutdown router register template static get post options "
    "delete patch put head connect trace any get_native_handle num_subscribers publish "
    "remove_server_name add_server_name missing_server_name ws listen run close on_error "
    "set_error_handler trigger_error dispose json_serializer on_start loop run_async lifespan",
    Request: "get_cookie get_cookies get_url get_full_url get_method for_each_header get_headers "
    "get_header get_queries get_query get_parameters get_parameter preserve set_yield get_yield "
    "is_ancient trigger_for_each_header_handler app",
    Response: "cork set_cookie trigger_aborted trigger_data_handler trigger_writable_handler "
    "run_async get_form_urlencoded get_text get_json send_chunk get_data grab_aborted_handler "
    "redirect write_offset close try_end cork_end render get_remote_address_bytes "
    "get_remote_address get_proxied_remote_address_bytes get_proxied_remote_address cork_send send "
    "end pause resume write_continue write_status write_header end_without_body write "
    "get_write_offset has_responded on_aborted on_data upgrade on_writable get_native_handle "
    "aborted app",
    WebSocket: "clone trigger_for_each_topic_handler get_user_data_uuid get_user_data "
    "get_buffered_amount subscribe unsubscribe is_subscribed publish get_topics for_each_topic "
    "get_remote_address_bytes get_remote_address send_fragment send_last_fragment "
    "send_first_fragment cork_send send cork_end end close cork app",
}

# ---- names that are not here --------------------------------------------------------------------


@pytest.mark.parametrize("cls", OF_SOCKETIFY, ids=lambda cls: cls.__name__)
def test_every_name_of_socketify_works_or_is_explained(cls: type) -> None:
    for name in OF_SOCKETIFY[cls].split():
        assert hasattr(cls, name) != (name in EXPLAINED[cls]), name


@pytest.mark.parametrize("cls", EXPLAINED, ids=lambda cls: cls.__name__)
def test_a_missing_name_says_what_to_do(cls: type) -> None:
    for name, sentence in EXPLAINED[cls].items():
        with pytest.raises(AttributeError) as caught:
            getattr(cls, name)
        assert str(caught.value) == f"{cls.__name__} has no attribute {name!r}: {sentence}"


NAMES = "ASGI AppExtension Loop MiddlewareRouter RequestTask SSGI TaskFactory WSGI create_task"


def test_a_missing_name_of_the_package_says_what_to_do() -> None:
    """An ImportError, since ``from pyws import ...`` replaces the message of an AttributeError."""
    assert set(NAMES.split()) | {"AppRequest", "AppResponse", "middleware", "sendfile"} == set(
        foreign.NOT_IN_PACKAGE
    )
    for name, sentence in foreign.NOT_IN_PACKAGE.items():
        with pytest.raises(ImportError) as caught:
            exec(f"from pyws import {name}", {})
        assert str(caught.value) == f"pyws has no {name}: {sentence}"
    with pytest.raises(ImportError, match="cannot import name 'nothing'"):
        exec("from pyws import nothing", {})
    assert not hasattr(pyws, "nothing")


def test_an_error_handler_of_socketify_is_told_its_method() -> None:
    with App() as app, pytest.raises(TypeError, match=r"^handler must take 2.*\bset_error_handler"):
        app.on_error(lambda error, res, req: None)  # type: ignore[misc, arg-type]


@pytest.mark.parametrize("cls", EXPLAINED, ids=lambda cls: cls.__name__)
def test_a_missing_name_hides_nothing(cls: type) -> None:
    for base in cls.__mro__[1:]:
        assert not set(EXPLAINED[cls]) & set(base.__dict__)


@pytest.mark.parametrize("cls", EXPLAINED, ids=lambda cls: cls.__name__)
def test_a_missing_name_is_not_listed(cls: type) -> None:
    assert not set(EXPLAINED[cls]) & set(dir(cls))
    shown = pydoc.plain(pydoc.render_doc(cls))
    listed = {match[1] for match in re.finditer(r"^ \|  (\w+)(?: = .*|\(.*)?$", shown, re.M)}
    assert not set(EXPLAINED[cls]) & listed
    assert "app" in listed or cls is App
    assert not [line for line in shown.splitlines() if "_NotHere" in line or "_NotEven" in line]


def test_a_missing_name_of_an_object_is_not_listed() -> None:
    with App() as app:
        assert "template" not in dir(app)
        assert {"ws", "listen", "app_options"} <= set(dir(app))
        app.template = "mine"  # type: ignore[attr-defined]
        assert "template" in dir(app)
    ws = FakeWebSocket()
    assert not set(foreign.NOT_IN_WEBSOCKET) & set(dir(ws))
    assert {"send", "user_data"} <= set(dir(ws))

    class Application(App):
        template = "mine"

    assert "template" in dir(Application)


def test_a_missing_name_of_a_socket_cannot_be_set() -> None:
    ws: Any = FakeWebSocket()
    with pytest.raises(AttributeError, match="WebSocket has no attribute 'state': .*user_data"):
        ws.state = "mine"


# What people write who come from there.
OF_OTHERS = {
    WebSocket: {
        "Starlette": "accept send_text send_bytes receive receive_text receive_bytes receive_json "
        "iter_text iter_bytes iter_json path_params query_params cookies client url state "
        "application_state client_state",
        "aiohttp": "prepare send_str send_frame receive_str close_code match_info",
        "websockets": "remote_address request_headers close_code close_reason pong state",
        "others": "emit broadcast join leave write_message",
    },
    App: {
        "Starlette": "websocket websocket_route route include_router add_middleware middleware "
        "mount on_event state add_route add_websocket_route add_event_handler",
        "others": "broadcast emit clients stop shutdown serve_forever add_routes on_startup",
    },
    Request: {
        "Starlette": "headers cookies query_params path_params method url client",
        "others": "match_info remote args post path data files get_json",
    },
    Response: {
        "others": "status status_code set_status headers set_header body text json set_header "
        "delete_cookie del_cookie",
    },
}


@pytest.mark.parametrize(
    ("cls", "name"),
    [
        (cls, name)
        for cls, libraries in OF_OTHERS.items()
        for names in libraries.values()
        for name in names.split()
    ],
)
def test_p7_names_of_other_libraries_are_explained(cls: type, name: str) -> None:
    with pytest.raises(AttributeError, match=f"^{cls.__name__} has no attribute '{name}': "):
        getattr(cls, name)


@pytest.mark.parametrize("cls", EXPLAINED, ids=lambda cls: cls.__name__)
def test_p7_what_is_explained_names_what_exists(cls: type) -> None:
    """Such as "its name is parameters" or "it is ws.send(message)"."""
    places = {"ws": WebSocket, "app": App, "res": Response, "req": Request}
    for sentence in EXPLAINED[cls].values():
        for place, name in re.findall(r"\b(ws|app|res|req)\.(\w+)", sentence):
            assert hasattr(places[place], name), sentence
        for name in re.findall(r"^(?:its name|it) is (\w\w+)\b(?!\.)", sentence):
            assert hasattr(cls, name), sentence


def test_a_subclass_may_have_a_missing_name() -> None:
    class Application(App):
        def __init__(self) -> None:
            super().__init__()
            self.template = "mine"

        def register(self, name: str) -> str:
            return "registered " + name

    app = Application()
    assert (app.template, app.register("x")) == ("mine", "registered x")


@pytest.mark.parametrize(
    ("settings", "answer"),
    [
        ({"lifespan": False}, "see app.on_start() and app.on_stop()"),
        ({"websocket_factory_max_items": 100}, "there are no pools of objects"),
        ({"idle_relaxation_time": 0.01}, "sleeps until there is something to do"),
    ],
)
def test_arguments_of_app_that_are_not_here(settings: Dict[str, Any], answer: str) -> None:
    with pytest.raises(TypeError) as caught:
        App(**settings)
    assert answer in str(caught.value)


# ---- names that are the same --------------------------------------------------------------------


def test_app_of_a_socket_and_of_a_request(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def upgrade(res: Response, req: Request, context: Any) -> None:
        seen.extend((res.app, req.app, res.request.app))
        res.upgrade()

    server = serve(upgrade=upgrade, open=lambda ws: seen.append(ws.app))
    with peer.upgraded(server.port):
        peer.eventually(lambda: len(seen) == 4)
    assert all(app is server.app for app in seen)


def test_app_of_a_socket_after_it_was_freed(serve: Callable[..., Any]) -> None:
    sockets: List[WebSocket] = []
    server = serve(open=sockets.append)
    with peer.upgraded(server.port):
        peer.eventually(lambda: len(sockets) == 1)
    server.stop()
    server.app = None
    del server
    ws = sockets[0]
    try:
        ws.app.stats()  # something else holds the app
    except RuntimeError as error:
        assert "freed" in str(error)


def test_keyword_names_of_ws(serve: Callable[..., Any]) -> None:
    server = serve(lambda app: app.ws(path="/room", behavior={"open": lambda ws: ws.send("hi")}))
    with peer.upgraded(server.port, "/room") as client:
        assert client.frame().payload == b"hi"
    wrong: List[Dict[str, Any]] = [{}, {"pattern": "/a", "path": "/a"}]
    for arguments in wrong:
        with pytest.raises(TypeError, match=r"ws\(\) needs a pattern, once"):
            App().ws(**arguments, message=print)


def test_keyword_names_of_upgrade(serve: Callable[..., Any]) -> None:
    def upgrade(res: Response, req: Request, context: Any) -> None:
        key = req.get_header("sec-websocket-key")
        with pytest.raises(TypeError, match="got key twice, also as sec_web_socket_key"):
            res.upgrade(key, sec_web_socket_key=key)
        with pytest.raises(ValueError, match="key differs"):
            res.upgrade(sec_web_socket_key="x")
        res.upgrade(
            sec_web_socket_key=key,
            sec_web_socket_protocol=req.get_header("sec-websocket-protocol"),
            sec_web_socket_extensions=req.get_header("sec-websocket-extensions"),
            socket_context=context,
            user_data={"name": "x"},
        )

    server = serve(
        upgrade=upgrade, subprotocols=["chat"], open=lambda ws: ws.send(ws.get_user_data())
    )
    with peer.Peer(server.port) as client:
        client.send(peer.handshake("/", [("Sec-WebSocket-Protocol", "chat")]))
        assert client.response().headers["sec-websocket-protocol"] == "chat"
        assert client.frame().payload == b'{"name":"x"}'


@pytest.mark.parametrize("name", ["end", "cork_end", "send", "cork_send"])
@pytest.mark.parametrize("last", [True, False])
def test_end_connection(serve: Callable[..., Any], name: str, last: bool) -> None:
    server = serve(
        lambda app: app.get("/", lambda res, req: getattr(res, name)("x", end_connection=last))
    )
    with peer.Peer(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
        response = client.response()
        assert response.body == b"x"
        assert (response.headers.get("connection") == "close") == last
        if last:
            assert client.at_end()
        else:
            client.send(b"GET / HTTP/1.1\r\nHost: t\r\n\r\n")
            assert client.response().body == b"x"


def test_content_type_of_send(serve: Callable[..., Any]) -> None:
    def handler(res: Response, req: Request) -> None:
        with pytest.raises(ValueError, match=r"not 'text/html' \(a media type is passed as cont"):
            res.send("x", "text/html")
        res.send(b"<p>", content_type=b"text/html", status=b"201 Made", headers={b"X-A": b"b"})

    port = serve(lambda app: app.get("/", handler)).port
    response = peer.request(port, "GET / HTTP/1.1")
    assert (response.status, response.body) == (201, b"<p>")
    assert response.headers["content-type"] == "text/html"
    assert response.headers["x-a"] == "b"


def test_remote_address_bytes_of_a_response(serve: Callable[..., Any], tmp_path: Path) -> None:
    def handler(res: Response, req: Request) -> None:
        res.end(res.get_remote_address_bytes().hex())

    server = serve(lambda app: app.get("/", handler))
    assert peer.request(server.port, "GET / HTTP/1.1").body == b"7f000001"


def test_header_names_as_bytes(serve: Callable[..., Any]) -> None:
    def handler(res: Response, req: Request) -> None:
        with pytest.raises(ValueError, match="the name of a header must be UTF-8, not "):
            req.get_header(b"\xff")
        with pytest.raises(ValueError, match="must be a token"):
            res.write_header(b"X Y", "")
        res.write_header(b"X-Host", req.get_header(b"Host") or "").end()

    port = serve(lambda app: app.get("/", handler)).port
    assert peer.request(port, "GET / HTTP/1.1").headers["x-host"] == "localhost"


def test_topics_as_bytes(serve: Callable[..., Any]) -> None:
    with Room(serve) as room:
        ws, app = room.sockets[0], room.app
        assert room.call(ws.subscribe, "\u20ac".encode())
        assert room.call(ws.is_subscribed, "\u20ac")
        assert room.call(ws.get_topics) == ["\u20ac"]
        assert room.call(app.num_subscribers, "\u20ac".encode()) == 1
        assert room.call(ws.publish, "\u20ac".encode(), "one")
        assert room.call(app.publish, "\u20ac".encode(), "two")
        assert [room.clients[0].frame().payload for _ in range(2)] == [b"one", b"two"]
        assert room.call(ws.unsubscribe, "\u20ac".encode())


def test_fragments_that_all_say_compress(serve: Callable[..., Any]) -> None:
    with Room(serve) as room:
        ws, client = room.sockets[0], room.clients[0]
        room.call(lambda: ws.send_first_fragment("a", compress=True))
        room.call(lambda: ws.send_fragment("b", compress=True))
        room.call(lambda: ws.send_last_fragment("c", compress=True))
        assert [client.frame().payload for _ in range(3)] == [b"a", b"b", b"c"]


def test_domain_is_the_path_of_a_unix_socket(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    for options in (AppListenOptions(domain=path), AppListenOptions.of({"domain": path})):  # type: ignore[call-arg]
        assert options.path == options.domain == path
    with pytest.raises(TypeError, match="AppListenOptions got path twice, also as domain"):
        AppListenOptions(path=path, domain=path)  # type: ignore[call-arg]
    with App() as app:
        app.ws("/", {})
        app.listen({"domain": path})
        assert Path(path).is_socket()
        app.close()
        app.run()


# ---- set_error_handler --------------------------------------------------------------------------


def test_set_error_handler_may_answer(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def on_error(error: BaseException, res: Optional[Response], req: Optional[Request]) -> None:
        seen.append((type(error), req and req.get_url()))
        if res is not None:
            res.write_status(503).end("sorry")

    def configure(app: App) -> None:
        app.set_error_handler(on_error)
        app.get("/fails", fails_late)
        app.ws("/ws", upgrade=fail)
        app.ws("/open", open=fail)

    def fails_late(res: Response, req: Request) -> None:
        res.write_status(201).write_header("X-Part", "of the answer that failed")
        raise ZeroDivisionError

    port = serve(configure).port
    response = peer.request(port, "GET /fails HTTP/1.1")
    assert (response.status, response.body) == (503, b"sorry")
    assert "x-part" not in response.headers
    with peer.Peer(port) as client:
        client.send(peer.handshake("/ws"))
        assert client.response().body == b"sorry"
    with peer.upgraded(port, "/open") as client:
        assert client.frame().close_code == 1011
    assert [url for _, url in seen] == ["/fails", "/ws", None]


def test_set_error_handler_that_does_not_answer(serve: Callable[..., Any]) -> None:
    def configure(app: App) -> None:
        app.set_error_handler(lambda error, res, req: None)
        app.get("/", fail)

    assert peer.request(serve(configure).port, "GET / HTTP/1.1").status == 500


def test_set_error_handler_checks_its_function() -> None:
    with pytest.raises(TypeError, match=r"handler must take 3 arguments, handler\(error, res, req"):
        App().set_error_handler(lambda error, source: None)  # type: ignore[arg-type, misc]
