# SPDX-License-Identifier: MIT
"""JSON: what is sent, what another library may do, and what is read (P11)."""

import importlib
import json
import math
import os
from types import SimpleNamespace
from typing import Any, Callable, Dict, List, Tuple

import peer
import pytest
from handlers import open_socket
from peer import upgraded

from pyws import App, AppOptions, Request, Response, SendStatus, WebSocket
from pyws._core.messages import Json

pytestmark = pytest.mark.usefixtures("read_by_h11")

TEXT = 1
VALUE = {"name": "Zoë", "list": [1, 2.5, True, None], "more": {"a": "\u2028</>"}}
COMPACT = '{"name":"Zoë","list":[1,2.5,true,null],"more":{"a":"\u2028</>"}}'.encode()


def needed(name: str) -> Any:
    """The module; the test is skipped without it, unless CI says that it must be there."""
    if os.environ.get("CI") == "true":
        return importlib.import_module(name)
    return pytest.importorskip(name)


def sent_by(serve: Callable[..., Any], options: Any, *calls: Callable[[Any], Any]) -> List[bytes]:
    """The messages that a client gets when `open` runs these calls with the socket."""

    def opened(ws: WebSocket) -> None:
        ws.subscribe("all")
        for call in calls:
            call(ws)

    with upgraded(serve({"open": opened}, options).port) as client:
        frames = [client.frame() for _ in calls]
    assert {frame.opcode for frame in frames} == {TEXT}
    return [frame.payload for frame in frames]


# ---- what is sent -------------------------------------------------------------------------------


def test_p11_json_is_compact_and_utf_8_everywhere(serve: Callable[..., Any]) -> None:
    sent = sent_by(
        serve,
        None,
        lambda ws: ws.send(VALUE),
        lambda ws: ws.send_json(VALUE),
        lambda ws: ws.publish("all", VALUE),
        lambda ws: ws.app.publish("all", VALUE),
        lambda ws: (ws.send_first_fragment(VALUE), ws.send_last_fragment("")),
    )
    fragments = sent.pop()
    assert sent == [COMPACT] * 4
    assert fragments == COMPACT


def test_p11_json_of_http_is_the_same(serve: Callable[..., Any]) -> None:
    def get(res: Response, req: Request) -> None:
        (res.end if req.get_url() == "/end" else res.send)(VALUE)

    server = serve(lambda app: app.get("/:how", get))
    for how in ("end", "send"):
        response = peer.request(server.port, f"GET /{how} HTTP/1.1")
        assert response.body == COMPACT
        assert response.headers["content-type"] == "application/json"


@pytest.mark.parametrize("value", ["text", None, 5, False, "é", [], {"1": ()}])
def test_p11_send_json_takes_any_value(serve: Callable[..., Any], value: Any) -> None:
    (sent,) = sent_by(serve, None, lambda ws: ws.send_json(value))
    assert json.loads(sent) == (value if value != {"1": ()} else {"1": []})


def test_p11_send_json_reports_what_became_of_it(serve: Callable[..., Any]) -> None:
    server, ws, client = open_socket(serve)
    with client:
        assert server.call(ws.send_json, {"a": 1}, True) is SendStatus.SUCCESS
        assert client.frame().payload == b'{"a":1}'
        with pytest.raises(TypeError, match="^compress must be True or False"):
            server.call(ws.send_json, {}, 1)
        with pytest.raises(RuntimeError, match=r"app\.defer"):
            ws.send_json({})
        server.call(ws.end)
        assert server.call(ws.send_json, {}) is SendStatus.DROPPED


CIRCLE: List[Any] = []
CIRCLE += [CIRCLE, CIRCLE, math.nan]
BAD: Dict[str, Tuple[Any, str]] = {
    "nan": ({"a": [1, (2.0, math.nan)]}, "this cannot be written as JSON: JSON has no nan$"),
    "key": ({-math.inf: math.inf}, "this cannot be written as JSON: JSON has no -inf, inf$"),
    "circle": (CIRCLE, "this cannot be written as JSON: Circular reference"),
    "surrogate": (["\ud800"], "JSON cannot be encoded: .*surrogates not allowed"),
    "object": ([object()], "object is not JSON serializable"),
    "bytes": ({"a": b""}, "bytes is not JSON serializable"),
}


@pytest.mark.parametrize("value, match", BAD.values(), ids=BAD)
def test_p11_what_json_cannot_express_is_an_error(
    serve: Callable[..., Any], value: Any, match: str
) -> None:
    server, ws, client = open_socket(serve)
    with client:
        for call in (ws.send, ws.send_json):
            with pytest.raises((TypeError, ValueError), match=match):
                server.call(call, value)
        with pytest.raises((TypeError, ValueError), match=match):
            server.call(server.app.publish, "all", value)
        server.call(ws.send, "after")
        assert client.frame().payload == b"after"  # nothing was sent before


# ---- other libraries ----------------------------------------------------------------------------

LIBRARIES = {
    "orjson": ("orjson", "dumps", "loads"),
    "msgspec": ("msgspec.json", "encode", "decode"),
    "json": ("json", "dumps", "loads"),
}


@pytest.mark.parametrize("library, dumps, loads", LIBRARIES.values(), ids=LIBRARIES)
def test_p11_another_library(
    serve: Callable[..., Any], library: str, dumps: str, loads: str
) -> None:
    module = needed(library)
    write, read = getattr(module, dumps), getattr(module, loads)
    options = AppOptions(json_dumps=write, json_loads=read)
    sent = sent_by(serve, options, lambda ws: ws.send(VALUE), lambda ws: ws.send_json([VALUE, "é"]))
    written = [write(VALUE), write([VALUE, "é"])]
    assert sent == [text if isinstance(text, bytes) else text.encode() for text in written]
    with App(options) as app:
        assert app._runtime.json.loads(sent[0]) == VALUE
        assert app._runtime.json.loads(sent[0].decode()) == VALUE


RESULTS: Dict[str, Tuple[Any, Any]] = {
    "str": ('"é"', '"é"'.encode()),
    "bytes": ('"é"'.encode(), '"é"'.encode()),
    "bytearray": (bytearray(b"1"), b"1"),
    "latin-1": (b'"\xe9"', "the result of json_dumps is not valid UTF-8"),
    "surrogate": ('"\udc80"', "JSON cannot be encoded"),
    "None": (None, "json_dumps must return str or bytes, not None"),
    "dict": ({}, "json_dumps must return str or bytes, not dict"),
}


@pytest.mark.parametrize("result, want", RESULTS.values(), ids=RESULTS)
def test_p11_the_result_of_json_dumps_is_checked(
    serve: Callable[..., Any], result: Any, want: Any
) -> None:
    errors: List[str] = []

    def send(ws: WebSocket) -> None:
        try:
            ws.send([])
        except (TypeError, ValueError) as error:
            errors.append(str(error))
            ws.send("refused")

    (sent,) = sent_by(serve, AppOptions(json_dumps=lambda value: result), send)
    if isinstance(want, bytes):
        assert (sent, errors) == (want, [])
    else:
        assert sent == b"refused"
        assert want in errors[0]


def test_p11_errors_of_json_dumps_are_the_programs(serve: Callable[..., Any]) -> None:
    def dumps(value: Any) -> str:
        raise LookupError("mine")

    server, ws, client = open_socket(
        lambda **behavior: serve(behavior, AppOptions(json_dumps=dumps))
    )
    with client, pytest.raises(LookupError, match="mine"):
        server.call(ws.send, {})


def test_p11_json_dumps_is_no_coroutine() -> None:
    async def dumps(value: Any) -> str:
        return ""

    with pytest.raises(TypeError, match="json_dumps must be a plain function"):
        AppOptions(json_dumps=dumps)  # type: ignore[arg-type]


def test_p11_json_serializer(serve: Callable[..., Any]) -> None:
    upper = SimpleNamespace(dumps=lambda value: str(value).upper(), loads=str)

    def configure(app: App) -> None:
        assert app.json_serializer(upper) is app
        app.ws("/*", open=lambda ws: ws.send(["a"]))

    with upgraded(serve(configure).port) as client:
        assert client.frame().payload == b"['A']"
    with App() as app:
        with pytest.raises(TypeError, match="serializer must have dumps and loads, not only"):
            app.json_serializer(SimpleNamespace(dumps=str))
        with pytest.raises(TypeError, match=r"serializer\.loads must be callable"):
            app.json_serializer(SimpleNamespace(dumps=str, loads=5))


# ---- what is read -------------------------------------------------------------------------------


def test_p11_json_is_read_strictly() -> None:
    json_ = Json()
    assert json_.loads(COMPACT) == json_.loads(COMPACT.decode()) == VALUE
    assert json_.loads(b" [1] ") == [1]
    wrong: Dict[Any, str] = {
        "": "Expecting value",
        "{": "Expecting property name",
        "[1] 2": "Extra data",
        "NaN": "JSON has no NaN",
        "[-Infinity]": "JSON has no -Infinity",
        b"\xff": "JSON is not valid UTF-8",
        "[" * 200_000: "JSON is nested too deeply",
    }
    for text, why in wrong.items():
        with pytest.raises(ValueError, match=why):
            json_.loads(text)
