# SPDX-License-Identifier: MIT
"""Forms with files: multipart/form-data of real clients, of liars, and in every split (W1)."""

import os
from pathlib import Path
from typing import Any, Callable, Dict, Iterable, List, Tuple

import pytest
from common import HTTP
from curl import curl
from peer import Peer, eventually
from test_bodies import FORM, ask, chunked, head, post, typed

from pyws import App, AppOptions, Form, Request, Response, UploadFile
from pyws._core import forms
from pyws._core.fields import with_parameters
from pyws.errors import BadRequest

pytestmark = pytest.mark.usefixtures("read_by_h11")

pytest.importorskip("python_multipart")

Serve = Callable[..., Any]
KIND = typed("multipart/form-data; boundary=B0und'ary")


def part(disposition: str, body: bytes, *more: str) -> bytes:
    lines = [f"Content-Disposition: form-data; {disposition}", *more, "", ""]
    return b"--B0und'ary\r\n" + "\r\n".join(lines).encode() + body + b"\r\n"


def form_of(*parts: bytes, end: bytes = b"--B0und'ary--\r\n") -> bytes:
    return b"".join(parts) + end


async def show(res: Response, req: Request) -> None:
    form = await req.form()
    assert await req.form() is form
    shown: Dict[str, List[Any]] = {}
    for name in form:
        for value in form.get_all(name):
            if isinstance(value, UploadFile):
                data = await value.read()
                assert len(data) == value.size
                text = data.decode("latin-1") if len(data) < 1000 else f"{len(data)} bytes"
                shown.setdefault(name, []).append([value.filename, value.content_type, text])
            else:
                shown.setdefault(name, []).append(value)
    res.end(shown)


async def show_fields(res: Response, req: Request) -> None:
    res.end(await res.get_form_urlencoded())


@pytest.fixture
def server(serve: Serve) -> Any:
    def configure(app: App) -> None:
        app.post("/form", show)
        app.post("/get_form", show_fields)
        app.get("/", lambda res, req: res.end("still here"))

    return serve(configure, AppOptions(max_body_size=64 * 1024 * 1024))


def answer_to(server: Any, body: bytes, kind: str = KIND) -> Any:
    import json

    answer = ask(server.port, post("/form", body, kind))
    return (
        json.loads(answer.body) if answer.status == 200 else (answer.status, answer.body.decode())
    )


GOOD: Dict[str, Tuple[bytes, Any]] = {
    "nothing": (form_of(), {}),
    "a field": (form_of(part('name="a"', b"1")), {"a": ["1"]}),
    "fields": (
        form_of(part('name="a"', b"1"), part('name="a"', "é".encode()), part("name=b", b"")),
        {"a": ["1", "é"], "b": [""]},
    ),
    "a file": (
        form_of(part('name="f"; filename="a.txt"', b"\0\xff", "Content-Type: text/x")),
        {"f": [["a.txt", "text/x", "\0\xff"]]},
    ),
    "no type": (form_of(part('name="f"; filename="a"', b"x")), {"f": [["a", "", "x"]]}),
    "an empty file": (form_of(part('name="f"; filename="a"', b"")), {"f": [["a", "", ""]]}),
    "no file chosen": (form_of(part('name="f"; filename=""', b"")), {}),
    "names of browsers": (
        form_of(part('name="a%22%0D%0Ab"; filename="C:\\dir\\ü.txt"', b"")),
        {'a"\r\nb': [["C:\\dir\\ü.txt", "", ""]]},
    ),
    "names of curl": (
        form_of(part('name="a\\"b"; filename="c\\\\d"', b"")),
        {'a"b': [["c\\d", "", ""]]},
    ),
    "a semicolon": (
        form_of(part('name="a;b=c"; filename="d;e"', b"")),
        {"a;b=c": [["d;e", "", ""]]},
    ),
    "a boundary inside": (
        form_of(part('name="a"', b"\r\n--B0und'arx\r\n-\r\n--B0und")),
        {"a": ["\r\n--B0und'arx\r\n-\r\n--B0und"]},
    ),
    "more afterwards": (form_of(part('name="a"', b"1")) + b"epilogue", {"a": ["1"]}),
    "case": (
        form_of(part('name="a"', b"1").replace(b"Content-D", b"cONTENT-d")),
        {"a": ["1"]},
    ),
}


@pytest.mark.parametrize("body, want", GOOD.values(), ids=GOOD)
def test_w1_forms(server: Any, body: bytes, want: Any) -> None:
    assert answer_to(server, body) == want
    quoted = typed('Multipart/Form-Data; charset=x; BOUNDARY="B0und\'ary"')
    assert answer_to(server, body, quoted) == want


def test_w1_a_form_in_every_split(server: Any) -> None:
    body = form_of(part('name="a"', b"1"), part('name="f"; filename="g"', b"\r\n-", "X: y"))
    want = b'{"a":["1"],"f":[["g","","\\r\\n-"]]}'
    with Peer(server.port) as client:
        for split in range(1, len(body)):
            client.send(chunked("/form", body[:split], body[split:], more=KIND))
            assert client.response().body == want
        client.send(chunked("/form", *[body[i : i + 1] for i in range(len(body))], more=KIND))
        assert client.response().body == want


LONG = "x" * 9000
BAD: Dict[str, Tuple[bytes, int, str]] = {
    "cut": (form_of(part('name="a"', b"1"), end=b""), 400, "its last part does not end"),
    "empty": (b"", 400, "its last part does not end"),
    "no boundary": (b"a=1", 400, "the form is malformed"),
    "no name": (form_of(part('filename="a"', b"")), 400, "a part has no name"),
    "no disposition": (b"--B0und'ary\r\nX: y\r\n\r\n\r\n--B0und'ary--", 400, "has no name"),
    "other": (form_of(part('name="a"', b"").replace(b"form-data", b"file")), 400, "has no name"),
    "not UTF-8": (form_of(part('name="a"', b"\xff")), 400, "a field is not UTF-8"),
    "long header": (form_of(part('name="a"', b"", f"X: {LONG}")), 400, ""),
    "headers": (form_of(part('name="a"', b"", *[f"X{i}: y" for i in range(2000)])), 400, ""),
    "fields": (form_of(part('name="a"', b"") * 1001), 413, "at most 1000 fields and 100 files"),
    "files": (form_of(part('name="a"; filename="b"', b"") * 101), 413, "and 100 files"),
    "text": (form_of(part('name="a"', b"x" * 600_000) * 2), 413, "at most 1048576 bytes"),
}


@pytest.mark.parametrize("body, status, why", BAD.values(), ids=BAD)
def test_w1_wrong_forms(
    server: Any, caplog: pytest.LogCaptureFixture, body: bytes, status: int, why: str
) -> None:
    got = answer_to(server, body)
    assert got[0] == status
    assert why in got[1]
    assert ask(server.port, head("/", method="GET")).body == b"still here"
    assert not caplog.records


@pytest.mark.parametrize("path", ["form", "get_form"])
def test_w1_a_form_without_files_is_limited_also_where_files_may_be_long(
    server: Any, path: str
) -> None:
    """To decode 16 MiB of "%41" would take 1.3 GB, and block the loop for seconds."""
    longest = b"a=" + b"%41" * 349_524 + b"&b"  # 1 MiB
    form = ask(server.port, post(f"/{path}", longest, FORM))
    assert (form.status, len(form.body)) == (200, 349_524 + len('{"a":[""],"b":[""]}'))
    endless = chunked(f"/{path}", longest, b"c", more=FORM, end=b"")
    refused = ask(server.port, endless)
    assert refused.status == 413
    assert b"a form without files may have at most 1048576 bytes" in refused.body


@pytest.mark.parametrize("path", ["form", "get_form"])
def test_w1_a_form_without_files_has_at_most_1000_fields(server: Any, path: str) -> None:
    """The client gets what it would get for a form with files."""
    most = b"&".join(b"a=%d" % i for i in range(1000))
    assert ask(server.port, post(f"/{path}", most, FORM)).status == 200
    refused = ask(server.port, post(f"/{path}", most + b"&", FORM))
    assert refused.status == 413
    assert refused.body == b"413 Content Too Large: a form may have at most 1000 fields\n"


@pytest.mark.parametrize(
    "kind",
    [
        "multipart/form-data",
        "multipart/form-data; boundary=",
        f"multipart/form-data; boundary={'x' * 71}",
    ],
)
def test_w1_a_form_needs_a_boundary(server: Any, kind: str) -> None:
    status, why = answer_to(server, form_of(), typed(kind))
    assert (status, why) == (
        400,
        "400 Bad Request: the Content-Type of the form has no valid boundary\n",
    )


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def test_w1_long_files_are_written_to_disk_and_closed(serve: Serve, tmp_path: Path) -> None:
    kept: List[Form] = []
    big = bytes(range(256)) * 20_000

    async def handler(res: Response, req: Request) -> None:
        form = await req.form()
        first, second = form.get_files("f")
        assert isinstance(first.file.fileno(), int)  # it is on disk
        short = form.get_file("short")
        assert short is not None
        with pytest.raises(OSError):
            short.file.fileno()  # it is in memory
        assert await first.read(10) == big[:10]
        assert await first.read() == big[10:]
        await first.write(tmp_path / "first")
        await short.write(tmp_path / "short")
        assert await second.read() == big
        assert form.get_text("short") is None
        assert form.get_file("none") is None and form.get_files("none") == []
        assert form.get("none", 5) == 5 and form.get("none") is None
        assert "UploadFile 'a' '', 5120000 bytes" in repr(form)
        kept.append(form)
        res.end()

    server = serve(lambda app: app.post("/form", handler), AppOptions(max_body_size=1 << 24))
    parts = part('name="f"; filename="a"', big) * 2 + part('name="short"; filename="b"', b"short")
    server.call(lambda: None)  # it has begun
    before = descriptors()
    with Peer(server.port) as client:
        for _ in range(2):
            client.send(post("/form", form_of(parts), KIND))
            assert client.response().status == 200
    assert (tmp_path / "first").read_bytes() == big
    assert (tmp_path / "short").read_bytes() == b"short"
    kept.clear()
    eventually(lambda: descriptors() == before)


def test_w1_a_client_that_leaves_leaves_no_file(serve: Serve) -> None:
    server = serve(lambda app: app.post("/form", show), AppOptions(max_body_size=1 << 24))
    server.call(lambda: None)  # it has begun
    before = descriptors()
    with Peer(server.port) as client:
        body = part('name="f"; filename="a"', bytes(5_000_000))
        client.send(head("/form", f"Content-Length: 10000000\r\n{KIND}") + body)
        eventually(lambda: descriptors() > before + 2)  # the sockets and the file
    eventually(lambda: descriptors() == before)


def test_w1_a_form_of_a_body_that_was_read(serve: Serve) -> None:
    async def handler(res: Response, req: Request) -> None:
        body = await req.body()
        form = await req.form()
        assert await req.body() is body
        res.end(form["a"] if isinstance(form["a"], str) else b"")

    server = serve(lambda app: app.post("/form", handler))
    assert ask(server.port, post("/form", form_of(part('name="a"', b"1")), KIND)).body == b"1"


def test_w1_without_python_multipart_the_error_says_what_to_install(
    server: Any, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "python_multipart", None)
    monkeypatch.setitem(sys.modules, "python_multipart.multipart", None)
    assert answer_to(server, form_of())[0] == 500
    assert "pip install 'pyws-server[forms]'" in caplog.text


def test_w1_a_file_can_be_read_again_and_is_written_to_paths_alone(
    serve: Any, tmp_path: Path
) -> None:
    async def handler(res: Response, req: Request) -> None:
        upload = (await req.form()).get_file("f")
        assert upload is not None
        first, second = await upload.read(2), await upload.read()
        await upload.seek(1)
        third = await upload.read()
        with pytest.raises(TypeError, match="path must be the path of a new file, not bytes"):
            await upload.write(b"content")  # type: ignore[arg-type]
        await upload.write(tmp_path / "copy")
        assert (tmp_path / "copy").read_bytes() == first + second
        res.end(b"|".join((first, second, third)))

    server = serve(lambda app: app.post("/form", handler, max_body_size=1 << 22))
    for size in (3, 2_000_000):  # in memory, and on disk
        content = b"abc" + b"d" * (size - 3)
        body = form_of(part('name="f"; filename="x"', content))
        expected = b"ab|" + content[2:] + b"|" + content[1:]
        assert ask(server.port, post("/form", body, KIND)).body == expected


def test_w1_curl_sends_forms(server: Any, tmp_path: Path) -> None:
    path = tmp_path / 'a "b".txt'
    path.write_bytes(b"content")
    url = f"{HTTP}://127.0.0.1:{server.port}/form"
    fields = [
        "-F",
        "name=Zoë",
        "-F",
        f'file=@"{path.as_posix()}";type=text/x'.replace('"b"', '\\"b\\"'),
    ]
    got = curl(*fields, url)
    assert got == '{"name":["Zoë"],"file":[["a \\"b\\".txt","text/x","content"]]}'.encode()


# ---- parts --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value, want",
    [
        (None, ("", {})),
        ("", ("", {})),
        ("Text/HTML", ("text/html", {})),
        ("a; B=c ;d = e", ("a", {"b": "c", "d": "e"})),
        ('a;b="c;d";e="\\"f\\\\"', ("a", {"b": "c;d", "e": '"f\\'})),
        ("a;b=1;b=2", ("a", {"b": "1"})),
        ('a;b="', ("a", {"b": '"'})),
        ("a;;;=;b", ("a", {"": ""})),
    ],
)
def test_values_with_parameters(value: Any, want: Any) -> None:
    assert with_parameters(value) == want


def test_values_with_parameters_take_linear_time() -> None:
    import time

    def seconds(size: int) -> float:
        begin = time.process_time()
        with_parameters("a" + ";" * size + '="' + "\\" * size)
        with_parameters("a;" + " " * size + "b" * size)
        with_parameters('a;b="' + "c" * size)
        with_parameters("a;" + " " * size)
        with_parameters("a;b" + " " * size)
        return time.process_time() - begin

    assert seconds(80_000) < 1  # a quadratic time would be 5 s and more


def test_a_multipart_form_keeps_no_cycle() -> None:
    import gc
    import weakref

    gc.collect()
    gc.disable()
    try:
        with forms.Multipart("x") as parts:
            parts.add(b"--x--")
            assert len(parts.finish()) == 0
        reference = weakref.ref(parts)
        del parts
        assert reference() is None
        with pytest.raises(BadRequest), forms.Multipart("x") as parts:
            parts.add(b"wrong")
    finally:
        gc.enable()


def flat(pairs: Iterable[Tuple[str, Any]]) -> Form:
    return Form(pairs)


def test_a_form_is_a_mapping() -> None:
    form = flat([("a", "1"), ("b", "2"), ("a", "3")])
    assert dict(form) == {"a": "1", "b": "2"}
    assert list(form.items()) == [("a", "1"), ("b", "2")]
    assert (len(form), "a" in form, form["a"], form.get_all("a")) == (2, True, "1", ["1", "3"])
    assert form.get_text("a") == "1"
    with pytest.raises(KeyError):
        form["c"]
