# SPDX-License-Identifier: MIT
"""Header values that are empty, not UTF-8, or too long: what handlers get and what they send on."""

import json
import logging
import os
import pickle
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
from peer import KEY, Peer, handshake

from pyws import App, AppOptions, CompressOptions, Request, Response, WebSocket
from pyws._native import lib

pytestmark = pytest.mark.usefixtures("read_by_h11")

Serve = Callable[..., Any]


def ask(port: int, *fields: bytes, line: bytes = b"GET / HTTP/1.1") -> Any:
    """The response to one request with these fields."""
    with Peer(port) as peer:
        peer.send(b"\r\n".join([line, b"Host: localhost", *fields, b"", b""]))
        return peer.response()


# ---- the upgrade handler of the manual ----------------------------------------------------------


def manual(res: Response, req: Request, socket_context: Any) -> None:
    key = req.get_header("sec-websocket-key")
    protocol = req.get_header("sec-websocket-protocol")
    extensions = req.get_header("sec-websocket-extensions")
    res.upgrade(key or "", protocol, extensions, socket_context)


async def manual_later(res: Response, req: Request, socket_context: Any) -> None:
    manual(res, req, socket_context)


EMPTY = (",, ,", ",", " , ", "", " ")


@pytest.mark.parametrize("subprotocols", [(), ("chat", "superchat")])
@pytest.mark.parametrize("value", EMPTY)
def test_h12_a_list_without_a_token_selects_no_subprotocol(
    serve: Serve, value: str, subprotocols: Tuple[str, ...]
) -> None:
    server = serve(upgrade=manual, subprotocols=subprotocols)
    for fields in (
        [("Sec-WebSocket-Protocol", value)],
        [("Sec-WebSocket-Protocol", value), ("Sec-WebSocket-Protocol", ",")],
        [("Sec-WebSocket-Protocol", value), ("Sec-WebSocket-Extensions", value)],
        [("Sec-WebSocket-Extensions", value)],
    ):
        with Peer(server.port) as peer:
            peer.send(handshake("/", fields))
            response = peer.response()
        assert response.status == 101
        assert "sec-websocket-protocol" not in response.headers
        assert "sec-websocket-extensions" not in response.headers


@pytest.mark.parametrize("value", EMPTY)
def test_h12_empty_elements_beside_a_token(serve: Serve, value: str) -> None:
    server = serve(upgrade=manual, subprotocols=("chat",))
    with Peer(server.port) as peer:
        fields = [("Sec-WebSocket-Protocol", value), ("Sec-WebSocket-Protocol", ", chat,")]
        peer.send(handshake("/", fields))
        assert peer.response().headers["sec-websocket-protocol"] == "chat"


@pytest.mark.parametrize("handed", [None, *EMPTY])
def test_no_protocol_handed_to_upgrade(serve: Serve, handed: Optional[str]) -> None:
    """None and lists without a token leave the choice to the route."""

    def upgrade(res: Response, req: Request, socket_context: Any) -> None:
        res.upgrade(KEY, handed, None, socket_context)

    server = serve(upgrade=upgrade, subprotocols=("chat",))
    with Peer(server.port) as peer:
        peer.send(handshake("/", [("Sec-WebSocket-Protocol", "superchat, chat")]))
        response = peer.response()
    assert (response.status, response.headers["sec-websocket-protocol"]) == (101, "chat")


@pytest.mark.skipif(not lib.ws_compression_available(), reason="built without zlib")
@pytest.mark.parametrize("handed", [None, *EMPTY])
def test_no_extensions_handed_to_upgrade(serve: Serve, handed: Optional[str]) -> None:
    def upgrade(res: Response, req: Request, socket_context: Any) -> None:
        res.upgrade(KEY, None, handed, socket_context)

    server = serve(upgrade=upgrade, compression=CompressOptions.SHARED_COMPRESSOR)
    with Peer(server.port) as peer:
        peer.send(handshake("/", [("Sec-WebSocket-Extensions", "permessage-deflate")]))
        response = peer.response()
    assert response.status == 101
    assert "sec-websocket-extensions" not in response.headers


@pytest.mark.parametrize(
    ("key", "protocol", "extensions", "error"),
    [
        (None, None, None, TypeError),
        ("", None, None, ValueError),
        (KEY, b"chat", None, TypeError),
        (KEY, "unheard", None, ValueError),
        (KEY, "chat, unheard", None, ValueError),
        (KEY, None, b"permessage-deflate", TypeError),
        (KEY, None, 0, TypeError),
    ],
)
def test_wrong_arguments_of_upgrade(
    serve: Serve, key: Any, protocol: Any, extensions: Any, error: Any
) -> None:
    def upgrade(res: Response, req: Request, socket_context: Any) -> None:
        with pytest.raises(error):
            res.upgrade(key, protocol, extensions, socket_context)
        res.send("refused", 403)

    server = serve(upgrade=upgrade, subprotocols=("chat",))
    with Peer(server.port) as peer:
        peer.send(handshake("/", [("Sec-WebSocket-Protocol", "chat")]))
        assert peer.response().status == 403


# ---- text that is not UTF-8 ---------------------------------------------------------------------

LATIN_1 = "Zoë Müller".encode("latin-1")
UTF_8 = "Zoë Müller €".encode()
CUT = "Zoë".encode()[:3] + b"\xe2\x82"  # an unfinished character
EVERY = bytes(range(0x80, 0x100))


@pytest.mark.parametrize("value", [LATIN_1, UTF_8, CUT, EVERY, b"plain"])
def test_w7_a_header_value_can_be_sent_on(serve: Serve, value: bytes) -> None:
    """As a header in the same bytes, and as text wherever text goes."""
    seen: List[str] = []

    def page(res: Response, req: Request) -> None:
        got = req.get_header("x-name")
        assert got is not None and req.get_headers()["x-name"] == got
        req.for_each_header(lambda name, text: seen.append(text) if name == "x-name" else None)
        seen.append(got)
        json.dumps(got), pickle.dumps(got), os.fsencode(got), got.encode()
        res.write_header("X-Name", got)
        res.end(got)

    server = serve(lambda app: app.get("/", page))
    response = ask(server.port, b"X-Name: " + value)
    try:
        text = value.decode()
    except UnicodeDecodeError:
        text = value.decode("latin-1")
    assert seen == [text, text]
    assert response.headers["x-name"].encode("latin-1") == value
    assert response.body.decode() == text


def test_w7_a_value_made_of_text_is_utf_8(serve: Serve) -> None:
    def page(res: Response, req: Request) -> None:
        got = req.get_header("x-name") or ""
        res.write_header("X-Part", got[:3]).write_header("X-New", "ë €").write_header(
            "X-Bytes", b"\xeb"
        )
        res.write_header("X-All", ", ".join(value for value in req.get_headers().values()))
        res.end()

    server = serve(lambda app: app.get("/", page))
    headers = ask(server.port, b"X-Name: " + LATIN_1).headers
    assert headers["x-part"].encode("latin-1") == "Zoë".encode()
    assert headers["x-new"].encode("latin-1") == "ë €".encode()
    assert headers["x-bytes"] == "\xeb"
    assert headers["x-all"].encode("latin-1") == "localhost, Zoë Müller".encode()


def test_w7_repeated_fields_of_both_kinds(serve: Serve) -> None:
    seen: Dict[str, str] = {}

    def page(res: Response, req: Request) -> None:
        seen.update(req.get_headers())
        res.write_header("X-Name", seen["x-name"]).end(seen["x-name"])

    server = serve(lambda app: app.get("/", page))
    response = ask(server.port, b"X-Name: \xeb", b"X-Name: \xe2\x82\xac", b"X-Name: a")
    assert seen["x-name"] == "ë, €, a"
    assert response.body.decode() == "ë, €, a"
    assert response.headers["x-name"].encode("latin-1").decode() == "ë, €, a"


def test_w7_repeated_fields_can_be_sent_on(serve: Serve) -> None:
    """Unless one of them has characters in UTF-8 and another one has not: see above."""

    def page(res: Response, req: Request) -> None:
        res.write_header("X-Name", req.get_header("x-name") or "").end()

    server = serve(lambda app: app.get("/", page))
    for values in ([b"\xeb", b"\xe8"], [b"\xeb", b"a"], [b"\xc3\xa9", b"a"], [b"a", b"b"]):
        headers = ask(server.port, *[b"X-Name: " + value for value in values]).headers
        assert headers["x-name"].encode("latin-1") == b", ".join(values)


@pytest.mark.parametrize("value", [LATIN_1, UTF_8, CUT, EVERY])
@pytest.mark.parametrize("way", ["headers", "pairs", "content_type", "redirect", "file", "before"])
def test_w7_every_way_to_send_it_on(serve: Serve, value: bytes, way: str) -> None:
    def page(res: Response, req: Request) -> None:
        got = req.preserve().get_header("x-name") or ""
        if way == "headers":
            res.send("", headers={"X-Out": got})
        elif way == "pairs":
            res.send("", headers=[(b"X-Out", got)])
        elif way == "content_type":
            res.send("", content_type=got)
        elif way == "file":
            res.send_file(__file__, content_type=got)
        elif way == "redirect":
            res.redirect(got)
        else:
            res.end()

    def pass_on(res: Response, req: Request) -> None:
        if way == "before":
            res.write_header("X-Out", req.get_headers()["x-name"])

    server = serve(lambda app: app.router("", before=[pass_on]).get("/", page))
    headers = ask(server.port, b"X-Name: " + value).headers
    name = {"content_type": "content-type", "redirect": "location", "file": "content-type"}
    assert headers[name.get(way, "x-out")].encode("latin-1") == value


@pytest.mark.parametrize("value", [LATIN_1, UTF_8, EVERY])
def test_w7_headers_of_a_socket(serve: Serve, value: bytes) -> None:
    """Those that a route keeps, and what an upgrade handler sends with the 101."""
    seen: List[str] = []

    def upgrade(res: Response, req: Request, socket_context: Any) -> None:
        res.write_header("X-Name", req.get_header("x-name") or "").upgrade()

    def on_open(ws: WebSocket) -> None:
        seen.append(ws.headers["x-name"])
        seen.append(ws.request.get_header("x-name") or "")
        ws.send(ws.headers["x-name"])

    server = serve(upgrade=upgrade, open=on_open, keep_request=True)
    with Peer(server.port) as peer:
        peer.send(handshake("/").replace(b"\r\n\r\n", b"\r\nX-Name: " + value + b"\r\n\r\n"))
        assert peer.response().headers["x-name"].encode("latin-1") == value
        text = peer.frame().payload.decode()
    assert seen == [text, text]
    assert text.encode() == value or text.encode("latin-1") == value


def test_w7_cookies(serve: Serve) -> None:
    seen: Dict[str, str] = {}

    def page(res: Response, req: Request) -> None:
        seen.update(req.get_cookies())
        res.write_header("X-Cookie", req.get_cookie("a") or "").end()

    server = serve(lambda app: app.get("/", page))
    response = ask(server.port, b"Cookie: a=\xeb; b=plain")
    assert seen == {"a": "ë", "b": "plain"}
    assert response.status == 200


def test_w7_path_query_and_parameters_hold_no_surrogates(serve: Serve) -> None:
    """They are ASCII as sent; what is percent-encoded and not UTF-8 becomes U+FFFD."""
    seen: List[Any] = []

    def page(res: Response, req: Request) -> None:
        seen.extend([req.get_url(), req.get_full_url(), req.get_parameters()])
        seen.extend([req.get_query("q"), req.get_queries()])
        res.write_header("X-Parameter", req.get_parameters()[0]).end(repr(seen))

    server = serve(lambda app: app.get("/a/:name", page))
    line = b"GET /a/Zo%EB%C3%AB?q=%EB&q=%C3%AB HTTP/1.1"
    response = ask(server.port, line=line)
    assert response.status == 200
    assert seen[:2] == ["/a/Zo%EB%C3%AB", "/a/Zo%EB%C3%AB?q=%EB&q=%C3%AB"]
    assert seen[2:] == [["Zo\ufffdë"], "\ufffd", {"q": ["\ufffd", "ë"]}]
    assert ask(server.port, line=b"GET /a/\xeb HTTP/1.1").status == 400


def test_w7_facts_of_a_socket(serve: Serve) -> None:
    def opened(ws: WebSocket) -> None:
        assert ws.headers is not None
        ws.send(ws.headers["x-name"])
        ws.send({"name": ws.headers["x-name"], "path": ws.path})
        ws.subscribe(ws.headers["x-name"])
        ws.end(4000, ws.headers["x-name"])

    server = serve(open=opened, app_options=AppOptions(keep_headers=True))
    with Peer(server.port) as peer:
        peer.send(handshake("/a%EB").replace(b"Host:", b"X-Name: " + LATIN_1 + b"\r\nHost:"))
        assert peer.response().status == 101
        assert peer.frame().payload.decode() == "Zoë Müller"
        assert json.loads(peer.frame().payload) == {"name": "Zoë Müller", "path": "/a%EB"}
        assert peer.frame().payload[2:].decode() == "Zoë Müller"


def test_w7_on_a_101(serve: Serve) -> None:
    def upgrade(res: Response, req: Request, socket_context: Any) -> None:
        res.write_header("X-Name", req.get_header("x-name") or "")
        manual(res, req, socket_context)

    server = serve(upgrade=upgrade)
    with Peer(server.port) as peer:
        peer.send(handshake("/").replace(b"Host:", b"X-Name: " + LATIN_1 + b"\r\nHost:"))
        response = peer.response()
    assert response.status == 101
    assert response.headers["x-name"].encode("latin-1") == LATIN_1


@pytest.mark.parametrize("name", ["Date", "content-length", "Connection", "Sec-WebSocket-Accept"])
def test_headers_that_pyws_writes_itself(serve: Serve, name: str) -> None:
    def page(res: Response, req: Request) -> None:
        with pytest.raises(
            ValueError,
            match=rf"^the header {name} is written by pyws itself(, see content_length\(\))?$",
        ):
            res.write_header(name, "5")
        res.end("fine")

    assert ask(serve(lambda app: app.get("/", page)).port).body == b"fine"


# ---- no memory ----------------------------------------------------------------------------------


@pytest.mark.parametrize("later", [False, True])
def test_a_header_without_memory_drops_the_connection(
    serve: Serve, caplog: pytest.LogCaptureFixture, later: bool
) -> None:
    """The fields before it are not sent with the 500 that an error of the handler leads to."""

    def page(res: Response, req: Request) -> None:
        res.write_header("Set-Cookie", "a=b").write_header("X-Large", "x" * (1 << 20))
        res.end("answer")

    async def page_later(res: Response, req: Request) -> None:
        page(res, req)

    def upgrade(res: Response, req: Request, socket_context: Any) -> None:
        res.write_header("X-Large", "x" * (1 << 20))
        manual(res, req, socket_context)

    def configure(app: App) -> None:
        app.get("/", page_later if later else page)
        app.ws("/ws", upgrade=upgrade)
        app.get("/small", lambda res, req: res.end("fine"))

    server = serve(configure, AppOptions(max_memory=1 << 20))
    with caplog.at_level(logging.ERROR):
        with Peer(server.port) as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert peer.at_end()
        with Peer(server.port) as peer:
            peer.send(handshake("/ws"))
            assert peer.at_end()
        assert ask(server.port, line=b"GET /small HTTP/1.1").body == b"fine"
    errors = [record.exc_info[0] for record in caplog.records if record.exc_info]
    assert errors == [MemoryError, MemoryError]
