# SPDX-License-Identifier: MIT
"""Opening handshakes in Python: the upgrade handler, user data, subprotocols, later answers."""

import asyncio
import base64
import os
from typing import Any, Callable, List

import peer
import pytest
from common import ROOT, TIMEOUT
from handlers import accept
from websockets.sync.client import connect

from pyws import App, AppOptions, CompressOptions, OpCode, Request, Response, WebSocket

pytestmark = pytest.mark.usefixtures("read_by_h11")


def answer(port: int, path: str = "/", headers: Any = None) -> peer.Response:
    with peer.Peer(port) as client:
        client.send(peer.handshake(path, headers))
        return client.response()


# ---- upgrade ------------------------------------------------------------------------------------


def test_s8_s22_upgrade_instead_of_the_automatic_one(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def upgrade(*args: Any) -> None:
        res, req, _context = args
        seen.append((len(args), type(res), type(req), req.get_header("x-none")))
        accept(*args)
        assert res.has_responded

    server = serve(upgrade=upgrade, open=lambda ws: seen.append("open"))
    with peer.upgraded(server.port):
        pass
    assert seen == [(3, Response, Request, None), "open"]


def test_s8_upgrade_may_answer_http(serve: Callable[..., Any]) -> None:
    opened: List[Any] = []

    def upgrade(res: Response, req: Request, context: Any) -> None:
        res.write_status("403 Nobody Home").write_header("X-Why", "because").end("no")

    server = serve(upgrade=upgrade, open=opened.append)
    response = answer(server.port)
    assert (response.status, response.body) == (403, b"no")
    assert response.headers["x-why"] == "because"
    assert not opened


def test_t71_an_upgrade_handler_that_does_not_answer(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(pattern="/room", upgrade=lambda res, req, context: None)
    assert answer(server.port, "/room").status == 500
    server.stop()
    assert [record.getMessage() for record in caplog.records] == [
        "the handler of /room did not answer the request"
    ]


def test_t71_an_upgrade_handler_that_raises(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def upgrade(res: Response, req: Request, context: Any) -> None:
        res.write_header("X-Secret", "5")
        raise LookupError("no such user")

    errors: List[Any] = []

    def configure(app: App) -> None:
        app.ws("/*", upgrade=upgrade).on_error(lambda error, source: errors.append((error, source)))

    server = serve(configure)
    response = answer(server.port)
    assert (response.status, response.body) == (500, b"500 Internal Server Error\n")
    assert response.headers["content-type"] == "text/plain"
    assert "x-secret" not in response.headers
    peer.eventually(lambda: errors)
    assert isinstance(errors[0][0], LookupError)
    assert isinstance(errors[0][1], Response)
    assert "LookupError: no such user" in caplog.text
    assert "Traceback" in caplog.text


def test_t71_raising_after_the_upgrade_closes_with_1011(serve: Callable[..., Any]) -> None:
    closed: List[Any] = []

    def upgrade(res: Response, req: Request, context: Any) -> None:
        accept(res, req, context)
        raise LookupError

    server = serve(upgrade=upgrade, close=lambda ws, code, reason: closed.append(code))
    with peer.upgraded(server.port) as client:
        assert client.frame().close_code == 1011
    assert closed == [1011]


def test_s17_s18_s19_s24_user_data_is_the_same_object(serve: Callable[..., Any]) -> None:
    given: List[Any] = []
    seen: List[Any] = []

    def upgrade(res: Response, req: Request, context: Any) -> None:
        given.append({"name": "x"})
        accept(res, req, context, given[-1])

    def event(name: str) -> Callable[..., None]:
        def handler(ws: WebSocket, *args: Any) -> None:
            seen.append((name, ws.get_user_data() is given[0], ws.user_data is given[0]))
            if name == "open":
                ws.get_user_data()["ws"] = ws
            elif name == "message":
                ws.get_user_data()["ws"].send("from user data")

        return handler

    server = serve(
        {name: event(name) for name in ("open", "message", "ping", "pong", "close")},
        upgrade=upgrade,
    )
    with peer.upgraded(server.port) as client:
        client.send(peer.frame(b"x") + peer.frame(b"", 9) + peer.frame(b"", 10))
        assert client.frame().payload == b"from user data"
        peer.eventually(lambda: len(seen) == 4)
    peer.eventually(lambda: len(seen) == 5)
    assert seen == [(name, True, True) for name in ("open", "message", "ping", "pong", "close")]
    assert server.call(lambda: given[0]["ws"].get_user_data()) is None


def test_s17_user_data_may_be_anything_and_is_settable(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def on_open(ws: WebSocket) -> None:
        seen.append(ws.user_data)
        ws.user_data = [ws.user_data]
        seen.append(ws.get_user_data())

    server = serve(upgrade=lambda res, req, c: accept(res, req, c, 0), open=on_open)
    with peer.upgraded(server.port):
        peer.eventually(lambda: len(seen) == 2)
    assert seen == [0, [0]]


def test_s17_none_without_user_data(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []
    server = serve(open=lambda ws: seen.append(ws.get_user_data()))
    with peer.upgraded(server.port):
        peer.eventually(lambda: seen)
    assert seen == [None]


def test_upgrade_checks_its_arguments(serve: Callable[..., Any]) -> None:
    def upgrade(res: Response, req: Request, context: Any) -> None:
        key = req.get_header("sec-websocket-key")
        other = base64.b64encode(os.urandom(16)).decode()
        for wrong, kind in ((other, ValueError), (None, TypeError), (b"x", TypeError)):
            with pytest.raises(kind, match="key"):
                res.upgrade(wrong, None, None, context)  # type: ignore[arg-type]
        for protocol in ("soap", "chat, soap", "a\r\nb", "chat,chat"):
            with pytest.raises(ValueError, match="did not offer"):
                res.upgrade(key, protocol, None, context)
        with pytest.raises(TypeError, match="protocol"):
            res.upgrade(key, 5, None, context)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="extensions"):
            res.upgrade(key, None, 5, context)  # type: ignore[arg-type]
        res.upgrade(key, None, None, context)
        with pytest.raises(RuntimeError, match="answered already"):
            res.upgrade(key, None, None, context)
        with pytest.raises(RuntimeError, match="answered already"):
            res.end("x")

    server = serve(upgrade=upgrade, open=lambda ws: ws.send("open"))
    with peer.upgraded(server.port, headers=[("Sec-WebSocket-Protocol", "chat, super")]) as client:
        assert client.frame().payload == b"open"
        client.send(peer.close_frame(1000))
        assert client.frame().close_code == 1000


@pytest.mark.parametrize("later", [False, True])
def test_upgrade_takes_what_is_left_out_from_the_request(
    serve: Callable[..., Any], later: bool
) -> None:
    seen: List[Any] = []

    def on_open(ws: WebSocket) -> None:
        seen.append((ws.user_data, ws.subprotocol, ws.compression is not None))

    def short(res: Response, req: Request, socket_context: Any) -> None:
        res.upgrade(user_data={"name": "ann"})

    def chosen(res: Response, req: Request, socket_context: Any) -> None:
        res.upgrade(protocol="b", extensions=None)

    def form(handler: Any) -> Any:
        async def run(*args: Any) -> None:
            await asyncio.sleep(0)
            handler(*args)

        return run if later else handler

    def configure(app: App) -> None:
        settings: Any = {"compression": CompressOptions.SHARED_COMPRESSOR, "open": on_open}
        app.ws("/short", upgrade=form(short), **settings)
        app.ws("/known", upgrade=form(short), subprotocols=["b", "c"], **settings)
        app.ws("/chosen", upgrade=form(chosen), **settings)

    server = serve(configure)
    offers = [
        ("Sec-WebSocket-Protocol", "a, b"),
        ("Sec-WebSocket-Extensions", "permessage-deflate"),
    ]
    for path in ("/short", "/known", "/chosen"):
        assert answer(server.port, path, offers).status == 101
    assert answer(server.port, "/short").status == 101
    peer.eventually(lambda: len(seen) == 4)
    assert seen == [
        ({"name": "ann"}, "a", True),
        ({"name": "ann"}, "b", True),
        (None, "b", False),
        ({"name": "ann"}, None, False),
    ]


def test_upgrade_of_a_plain_request(serve: Callable[..., Any]) -> None:
    def handler(res: Response, req: Request) -> None:
        with pytest.raises(RuntimeError, match="opening handshake"):
            res.upgrade("x", None, None, None)
        res.end("fine")

    server = serve(lambda app: app.get("/", handler))
    assert peer.request(server.port, "GET / HTTP/1.1").body == b"fine"


@pytest.mark.parametrize(
    ("route", "offered", "argument", "selected"),
    [
        ((), "a, b", "own", "a"),
        ((), "a, b", "b", "b"),
        ((), "a, b", None, None),
        ((), None, "own", None),
        (("b", "c"), "a, b", "own", "b"),
        (("b", "c"), "a, b", None, "b"),
        (("b", "c"), "a, b", "a", "a"),
        (("c",), "a, b", "own", None),
        (("c",), "a", "own", None),
        (("a",), "a", "own", "a"),
    ],
)
def test_h11_subprotocols(
    serve: Callable[..., Any], route: Any, offered: Any, argument: Any, selected: Any
) -> None:
    seen: List[Any] = []

    def upgrade(res: Response, req: Request, context: Any) -> None:
        own = req.get_header("sec-websocket-protocol")
        accept(res, req, context, None, own if argument == "own" else argument)

    server = serve(upgrade=upgrade, open=lambda ws: seen.append(ws.subprotocol), subprotocols=route)
    headers = [("Sec-WebSocket-Protocol", offered)] if offered else []
    response = answer(server.port, headers=headers)
    assert response.status == 101
    assert response.headers.get("sec-websocket-protocol") == selected
    peer.eventually(lambda: seen)
    assert seen == [selected]


def test_h11_subprotocol_without_upgrade_handler(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []
    server = serve(subprotocols=["chat"], open=lambda ws: seen.append(ws.subprotocol))
    with connect(server.url, subprotocols=["other", "chat"]) as client:  # type: ignore[list-item]
        assert client.subprotocol == "chat"
    assert seen == ["chat"]


def test_h9_t12_origins(serve: Callable[..., Any]) -> None:
    called: List[Any] = []

    def upgrade(res: Response, req: Request, context: Any) -> None:
        called.append(1)
        accept(res, req, context)

    server = serve(origins=["https://example.org"], upgrade=upgrade)
    assert answer(server.port, headers=[("Origin", "https://evil.example")]).status == 403
    assert not called
    assert answer(server.port, headers=[("Origin", "https://example.org")]).status == 101


def test_headers_travel_on_the_101(serve: Callable[..., Any]) -> None:
    def upgrade(res: Response, req: Request, context: Any) -> None:
        res.write_header("X-One", "1").set_cookie("session", "abc", path="/", http_only=True)
        accept(res, req, context)

    response = answer(serve(upgrade=upgrade).port)
    assert response.status == 101
    assert response.headers["x-one"] == "1"
    assert response.headers["set-cookie"] == "session=abc; Path=/; HttpOnly"


def test_s12_compression_is_accepted(serve: Callable[..., Any]) -> None:
    server = serve(
        compression=CompressOptions.SHARED_COMPRESSOR,
        message=lambda ws, message, opcode: ws.send(message, opcode, True),
    )
    with connect(server.url) as client:
        client.send("x" * 1000)
        assert client.recv(TIMEOUT) == "x" * 1000


def test_keep_headers(serve: Callable[..., Any]) -> None:
    """Without it they are there while open runs, and then raise as ws.request does."""
    seen: List[Any] = []

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        try:
            seen.append(ws.headers["x-kept"])
        except RuntimeError as error:
            seen.append(str(error))
        ws.send("done")

    behavior = {"open": lambda ws: seen.append(ws.headers["x-kept"]), "message": on_message}
    plain = serve(behavior)
    keeping = serve(behavior, AppOptions(keep_headers=True))
    for server in (plain, keeping):
        with peer.upgraded(
            server.port, headers=[("X-Kept", "yes")], more=peer.frame(b"x")
        ) as client:
            assert client.frame().payload == b"done"
    assert seen.pop(1).startswith("the opening handshake of this socket is over: ")
    assert seen == ["yes"] * 3


# ---- later answers ------------------------------------------------------------------------------


def test_upgrade_later(serve: Callable[..., Any]) -> None:
    kept: List[Any] = []

    def upgrade(res: Response, req: Request, context: Any) -> None:
        res.on_aborted(lambda res: kept.append("aborted"))
        kept.append((res, req, context))

    server = serve(
        upgrade=upgrade,
        open=lambda ws: ws.send(ws.get_user_data()),
        message=lambda ws, message, opcode: ws.send(message),
    )
    with peer.Peer(server.port) as client:
        client.send(peer.handshake("/x", [("X-Late", "yes")]) + peer.frame(b"early"))
        peer.eventually(lambda: kept)
        res, req, context = kept[0]
        assert not res.has_responded
        server.call(lambda: accept(res, req, context, req.get_header("x-late")))
        assert client.response().status == 101
        assert [client.frame().payload, client.frame().payload] == [b"yes", b"early"]
        assert res.has_responded
        with pytest.raises(RuntimeError, match="this request is over"):
            server.call(req.get_url)
        with pytest.raises(RuntimeError, match="answered already"):
            server.call(res.end)
    assert len(kept) == 1


def test_refuse_later_and_abort(serve: Callable[..., Any]) -> None:
    kept: List[Any] = []
    aborted: List[Any] = []

    def upgrade(res: Response, req: Request, context: Any) -> None:
        res.on_aborted(aborted.append)
        kept.append((res, req, context))

    server = serve(upgrade=upgrade)
    with peer.Peer(server.port) as client:
        client.send(peer.handshake())
        peer.eventually(lambda: kept)
        res = kept.pop()[0]
        assert server.call(res.get_remote_address) == "127.0.0.1"
        server.call(lambda: res.write_status(401).end({"error": "who?"}))
        response = client.response()
        assert (response.status, response.body) == (401, b'{"error":"who?"}')
        assert response.headers["content-type"] == "application/json"
    with peer.Peer(server.port) as client:
        client.send(peer.handshake())
        peer.eventually(lambda: kept)
    res, req, context = kept.pop()
    peer.eventually(lambda: aborted)
    assert aborted == [res]
    assert res.aborted
    server.call(res.end, "too late")
    server.call(res.close)
    with pytest.raises(RuntimeError, match="over"):
        server.call(req.get_url)
    server.call(lambda: res.upgrade(peer.KEY, None, None, context))
    assert not res.has_responded


def test_upgrade_timeout(serve: Callable[..., Any]) -> None:
    aborted: List[Any] = []
    server = serve(
        {"upgrade": lambda res, req, context: res.on_aborted(aborted.append)},
        AppOptions(upgrade_timeout=0.05),
    )
    assert answer(server.port).status == 503
    peer.eventually(lambda: aborted)


def test_on_aborted_then_an_answer_at_once(serve: Callable[..., Any]) -> None:
    def upgrade(res: Response, req: Request, context: Any) -> None:
        res.on_aborted(print)
        accept(res, req, context)

    server = serve(upgrade=upgrade, open=lambda ws: ws.send("open"))
    with peer.upgraded(server.port) as client:
        assert client.frame().payload == b"open"


def test_t71_aborted_handler_that_raises(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    called: List[Any] = []

    def aborted(res: Response) -> None:
        called.append(res)
        raise LookupError("in aborted")

    server = serve(upgrade=lambda res, req, context: called.append(res.on_aborted(aborted)))
    with peer.Peer(server.port) as client:
        client.send(peer.handshake())
        peer.eventually(lambda: called)
    peer.eventually(lambda: "LookupError: in aborted" in caplog.text)
    server.call(lambda: None)


def test_close_without_an_answer(serve: Callable[..., Any]) -> None:
    server = serve(upgrade=lambda res, req, context: res.close())
    with peer.Peer(server.port) as client:
        client.send(peer.handshake())
        assert client.at_end()


# ---- the manual's programs ----------------------------------------------------------------------

PROGRAM = ROOT / "examples" / "py" / "upgrade.py"


def test_s21_s23_s24_the_manuals_second_program(
    serve: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    def configure(app: App) -> None:
        text = PROGRAM.read_text().replace("app = App()", "")
        exec(text.split("app.listen(")[0], {"app": app})

    server = serve(configure)
    for number in (1, 2):
        with connect(server.url) as client:
            assert client.recv(TIMEOUT) == "Hello, world!"
            client.send("hi")
        peer.eventually(lambda: server.call(server.app.stats)["open"] == 0)
        assert capsys.readouterr().out.splitlines() == [
            f"ws {number} connected",
            f"ws {number}: hi",
            f"ws {number} closed",
        ]


def test_the_manuals_first_program_answers_500(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def on_upgrade(res: Response, req: Request, socket_context: Any) -> None:
        pass

    server = serve(
        {
            "compression": CompressOptions.SHARED_COMPRESSOR,
            "max_payload_length": 16 * 1024 * 1024,
            "idle_timeout": 12,
            "open": lambda ws: None,
            "message": lambda ws, message, opcode: None,
            "close": lambda ws, code, message: None,
            "upgrade": on_upgrade,
            "drain": lambda ws: None,
            "subscription": lambda ws, topic, subscriptions, subscriptions_before: None,
        }
    )
    assert answer(server.port).status == 500
    peer.eventually(lambda: "did not answer the request" in caplog.text)
