# SPDX-License-Identifier: MIT
"""Bodies of requests in Python: what they contain, what is wrong with them, mistakes (W1, P11)."""

import asyncio
import logging
from typing import Any, Callable, Dict, List, Tuple

import pytest
from peer import Peer, eventually
from test_bodies import FORM, ask, head, post, typed

from pyws import App, AppOptions, BadRequest, Request, Response

pytestmark = pytest.mark.usefixtures("read_by_h11")

Serve = Callable[..., Any]

# ---- what is wrong with a body ------------------------------------------------------------------


def converting(app: App) -> None:
    async def text(res: Response, req: Request) -> None:
        text = await req.text()
        assert await req.text() == text
        res.end(text)

    async def json(res: Response, req: Request) -> None:
        value = await req.json()
        assert await req.json() is value
        res.end(repr(value))

    async def form(res: Response, req: Request) -> None:
        form = await req.form()
        assert await req.form() is form
        assert list(form) == [name for name, _ in form.items()]
        res.end({name: form.get_all(name) for name in form})

    async def get_json(res: Response, req: Request) -> None:
        res.end(repr(await res.get_json()))

    async def get_text(res: Response, req: Request) -> None:
        res.end(await res.get_text("latin-1"))

    async def get_form(res: Response, req: Request) -> None:
        res.end(await res.get_form_urlencoded())

    for handler in (text, json, form, get_json, get_text, get_form):
        app.post(f"/{handler.__name__}", handler)


GOOD: Dict[str, Tuple[str, str, bytes, bytes]] = {
    "text": ("text", "", "Zoë".encode(), "Zoë".encode()),
    "latin": ("text", typed("text/plain; charset=iso-8859-1"), b"Zo\xeb", "Zoë".encode()),
    "quoted": ("text", typed('text/plain;x=";";charset="Windows-1252"'), b"\x80", "€".encode()),
    "utf-16": ("text", typed("text/plain; CHARSET=UTF-16"), "é".encode("utf-16"), "é".encode()),
    "json": ("json", "", b' {"a": [1, null]} ', b"{'a': [1, None]}"),
    "null": ("json", "", b"null", b"None"),
    "pairs": ("json", "", b'"\\ud83d\\ude00 \\\\ud800"', b"'\xf0\x9f\x98\x80 \\\\ud800'"),
    "form": (
        "form",
        FORM,
        b"a=1&b=%C3%A9+x&a=2&c=",
        '{"a":["1","2"],"b":["é x"],"c":[""]}'.encode(),
    ),
    "empty form": ("form", FORM, b"", b"{}"),
    "get_json": ("get_json", "", b"[1]", b"[1]"),
    "get_text": ("get_text", "", b"\xeb", "ë".encode()),
    "get_form": ("get_form", "", b"a=1&a=2&b=", b'{"a":["1","2"],"b":[""]}'),
}


def test_w1_unknown_charsets_leave_nothing_in_memory(serve: Serve) -> None:
    """The module encodings remembers each name that it was asked for and does not have."""
    import encodings

    known: Any = getattr(encodings, "_cache")  # noqa: B009, of CPython and PyPy
    with Peer(serve(converting).port) as client:
        before = len(known)
        for i in range(20):
            client.send(post("/text", b"", typed(f"text/plain; charset=x-{'a' * 9000}-{i}")))
            assert client.response().status == 415
        assert len(known) == before


@pytest.mark.parametrize(
    "charset", ["US-ASCII", "latin1", "koi8-u", "cp874", "windows-1252", "Shift_JIS", "utf-8-sig"]
)
def test_w1_charsets(serve: Serve, charset: str) -> None:
    answer = ask(
        serve(converting).port, post("/text", b"a", typed(f"text/plain; charset={charset}"))
    )
    assert (answer.status, answer.body) == (200, b"a")


@pytest.mark.parametrize("path, more, body, want", GOOD.values(), ids=GOOD)
def test_w1_what_a_body_contains(
    serve: Serve, path: str, more: str, body: bytes, want: bytes
) -> None:
    answer = ask(serve(converting).port, post(f"/{path}", body, more))
    assert (answer.status, answer.body) == (200, want)


BAD: Dict[str, Tuple[str, str, bytes, int, str]] = {
    "text": ("text", "", b"\xff", 400, "the body is not valid text: 'utf-8' codec"),
    "charset": ("text", typed("text/plain; charset=klingon"), b"", 415, "klingon is not supported"),
    "codec": ("text", typed("text/plain; charset=base64"), b"", 415, "base64 is not supported"),
    "slow": ("text", typed("text/plain; charset=punycode"), b"", 415, "punycode is not supp"),
    "NUL": ("text", typed("text/plain; charset=\x7f"), b"", 400, ""),
    "json": ("json", "", b"{", 400, "the body is not JSON: Expecting property name"),
    "no json": ("json", "", b"", 400, "the body is not JSON: Expecting value"),
    "NaN": ("json", "", b"NaN", 400, "the body is not JSON: JSON has no NaN"),
    "latin json": ("json", "", b'"\xe9"', 400, "the body is not JSON: JSON is not valid UTF-8"),
    "half a pair": ("json", "", b'["\\ud83d\\ude00 \\uD800"]', 400, "JSON has a lone surrogate"),
    "the other half": ("get_json", "", b'{"\\uDFFF": 1}', 400, "JSON has a lone surrogate"),
    "deep": ("json", "", b"[" * 100_000, 400, "JSON is nested too deeply"),
    "no form": ("form", "", b"a=1", 415, "the body is no form"),
    "json form": ("form", typed("application/json"), b"{}", 415, "the body is no form"),
    "fields": ("form", FORM, b"a=&" * 1001, 413, "a form may have at most 1000 fields"),
    "bytes": ("form", FORM, b"a=%ff", 400, "the form is malformed: it is not utf-8"),
    "raw": ("form", FORM, b"a=\xff", 400, "the form is malformed: it is not utf-8"),
    "get_json": ("get_json", "", b"x", 400, "the body is not JSON: Expecting value"),
    "get_form": ("get_form", "", b"a=%ff", 400, "the form is malformed: it is not utf-8"),
}


@pytest.mark.parametrize("path, more, body, status, why", BAD.values(), ids=BAD)
def test_w1_a_wrong_body_is_answered_and_not_logged(
    serve: Serve,
    caplog: pytest.LogCaptureFixture,
    path: str,
    more: str,
    body: bytes,
    status: int,
    why: str,
) -> None:
    server = serve(converting)
    with Peer(server.port) as client:
        client.send(post(f"/{path}", body, more))
        answer = client.response()
        assert answer.status == status
        assert why in answer.body.decode()
        assert answer.body.endswith(b"\n") and answer.body.count(b"\n") == 1
        assert answer.headers["content-type"].startswith("text/plain")
        if why:  # otherwise the head was refused
            client.send(post("/text", b"next"))
            assert client.response().body == b"next"
    assert not caplog.records


def test_w1_a_bad_request_of_the_program(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    reported: List[Any] = []

    async def later(res: Response, req: Request) -> None:
        await asyncio.sleep(0)
        res.write_header("X-Not", "sent")
        raise BadRequest("two\r\nlines \u2028 é", 422)

    def now(res: Response, req: Request) -> None:
        raise BadRequest

    def in_data(res: Response, req: Request) -> None:
        def on_data(res: Response, chunk: bytes, is_last: bool) -> None:
            raise BadRequest("in on_data", 409)

        res.on_data(on_data)

    async def caught(res: Response, req: Request) -> None:
        try:
            await req.json()
        except ValueError as error:
            res.write_status(400).end({"error": str(error)})

    def configure(app: App) -> None:
        app.on_error(lambda *args: reported.append(args))
        for handler in (later, now, in_data, caught):
            app.post(f"/{handler.__name__}", handler)

    caplog.set_level(logging.DEBUG, "pyws")
    port = serve(configure).port
    answer = ask(port, post("/later", b"x"))
    assert (answer.status, answer.body) == (
        422,
        "422 Unprocessable Entity: two lines é\n".encode(),
    ) or answer.body == "422 Unprocessable Content: two lines é\n".encode()
    assert "x-not" not in answer.headers
    assert ask(port, post("/now", b"x")).body == b"400 Bad Request\n"
    assert ask(port, post("/in_data", b"x")).body == b"409 Conflict: in on_data\n"
    assert ask(port, post("/caught", b"x")).body.startswith(b'{"error":"the body is not JSON')
    assert not reported
    lines = [r for r in caplog.records if "refused a request" in r.message]
    assert [record.levelno for record in lines] == [logging.DEBUG] * 3


@pytest.mark.parametrize("status", [200, 399, 500, "400", None])
def test_w1_a_bad_request_has_a_status_of_clients(status: Any) -> None:
    with pytest.raises(ValueError, match="status must be from 400 to 499"):
        BadRequest("x", status)


def test_p11_json_loads_of_another_library(serve: Serve) -> None:
    class Strange(Exception):
        """What msgspec raises is no ValueError either."""

    def loads(text: Any) -> Any:
        assert type(text) is bytes
        if text == b"wrong":
            raise Strange("strange")
        return text.decode().upper()

    async def handler(res: Response, req: Request) -> None:
        res.end(await req.json())

    port = serve(lambda app: app.post("/", handler), AppOptions(json_loads=loads)).port
    assert ask(port, post("/", b"abc")).body == b"ABC"
    answer = ask(port, post("/", b"wrong"))
    assert (answer.status, answer.body) == (
        400,
        b"400 Bad Request: the body is not JSON: strange\n",
    )


# ---- mistakes -----------------------------------------------------------------------------------


def test_w1_a_body_is_read_in_one_way(serve: Serve) -> None:
    errors: List[str] = []

    async def attempt(call: Callable[[], Any]) -> None:
        try:
            result = call()
            if asyncio.iscoroutine(result):
                await result
        except (RuntimeError, TypeError) as error:
            errors.append(str(error))

    async def handler(res: Response, req: Request) -> None:
        assert await req.body() == b"a=1"
        assert await req.text() == "a=1"
        assert (await req.form())["a"] == "1"
        await attempt(req.stream)
        await attempt(lambda: res.on_data(lambda res, chunk, last: None))
        res.end()
        assert await req.body() == b"a=1"  # it was read before

    async def streaming(res: Response, req: Request) -> None:
        async for _ in req.stream():
            pass
        await attempt(req.stream)
        await attempt(req.body)
        await attempt(lambda: res.on_data(5))  # type: ignore[arg-type]
        res.end()

    async def late(res: Response, req: Request) -> None:
        res.end()
        await attempt(req.body)

    def configure(app: App) -> None:
        for one in (handler, streaming, late):
            app.post(f"/{one.__name__}", one)

    port = serve(configure).port
    for path in ("/handler", "/streaming", "/late"):
        assert ask(port, post(path, b"a=1", FORM)).status == 200
    eventually(lambda: len(errors) == 6)
    assert errors == [
        "the body of this request was read already, by body()",
        "the body of this request was read already, by body()",
        "the body of this request was read already, by stream()",
        "the body of this request was read already, by stream()",
        "fn must be callable, not int",
        "this request is over: its body can be read until it is answered",
    ]


def test_w1_a_plain_handler_that_reads_and_does_not_answer(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(res: Response, req: Request) -> None:
        res.pause().resume()
        res.get_data().close()
        req.body().close()

    server = serve(lambda app: app.post("/x", handler))
    assert ask(server.port, post("/x", b"abc")).status == 500
    assert "the handler of /x did not answer the request" in caplog.text


def test_t71_a_function_of_on_data_that_raises(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def handler(res: Response, req: Request) -> None:
        def on_data(res: Response, chunk: bytes, is_last: bool) -> None:
            raise LookupError("in on_data")

        res.on_data(on_data)

    server = serve(lambda app: app.post("/x", handler))
    with Peer(server.port) as client:
        client.send(head("/x", "Content-Length: 10\r\n") + b"01234")
        assert client.response().status == 500
        client.send(b"56789" + post("/x", b"more"))
        assert client.response().status == 500
    records = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert len(records) == 2
    assert "exception in the handler of /x from 127.0.0.1:" in records[0].message
    assert "LookupError: in on_data" in caplog.text


def test_t74_bodies_belong_to_the_thread_of_the_app(serve: Serve) -> None:
    kept: List[Tuple[Response, Request]] = []

    def handler(res: Response, req: Request) -> None:
        res.on_aborted(lambda res: None)
        kept.append((res, req))

    server = serve(lambda app: app.post("/x", handler))
    with Peer(server.port) as client:
        client.send(post("/x", b"abc"))
        eventually(lambda: kept)
        res, req = kept[0]
        for call in (req.stream, res.pause, res.resume, lambda: res.on_data(print)):
            with pytest.raises(RuntimeError, match=r"app\.defer"):
                call()
        for method in (req.body, req.text, req.json, req.form, res.get_data, res.get_json):
            if method == req.form:
                continue  # the type of the body is looked at first
            with pytest.raises(RuntimeError, match=r"app\.defer"):
                method().send(None)
        server.call(res.end)
