# SPDX-License-Identifier: MIT
"""What new users write, and what they learn from the answer: HTTP (P7)."""

import inspect
from pathlib import Path
from typing import Any, Callable, Dict, List

import peer
import pytest

from pyws import App, Form, Request, Response, UploadFile
from pyws._core import cookies

pytestmark = pytest.mark.usefixtures("read_by_h11")

Serve = Callable[..., Any]


def page(res: Response, req: Request) -> None:
    res.end("page")


# ---- routes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name", ["any", "delete", "get", "head", "options", "patch", "post", "put"]
)
@pytest.mark.parametrize(
    ("wrong", "meant"),
    [
        ("handlr", "did you mean 'handler'?"),
        ("callback", "did you mean 'handler'?"),
        ("path", "did you mean 'pattern'?"),
        ("max_body", "did you mean 'max_body_size'?"),
        ("maxBodySize", "did you mean 'max_body_size'?"),
        ("methods", "each method has its own, as app.get and app.post"),
        ("before", "what runs before handlers is app.router(prefix, before=[function])"),
        ("dependencies", "what runs before handlers is app.router(prefix, before=[function])"),
        ("xyz", "it has pattern, handler, max_body_size"),
    ],
)
def test_p7_a_wrong_argument_of_a_route_is_explained(name: str, wrong: str, meant: str) -> None:
    with App() as app, pytest.raises(TypeError) as caught:
        getattr(app, name)("/x", **{wrong: page})
    assert str(caught.value).startswith(f"app.{name}() has no argument {wrong!r}")
    assert meant in str(caught.value)


def test_p7_a_wrong_argument_of_routers_and_files_is_explained(tmp_path: Path) -> None:
    with App() as app:
        with pytest.raises(
            TypeError, match=r"app.router\(\) has no argument 'befor', did you mean"
        ):
            app.router("/x", befor=page)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=r"has no argument 'before': what runs before handlers"):
            app.static("/", ".", before=[page])  # type: ignore[call-arg]
        with pytest.raises(TypeError, match=r"app.static\(\) has no argument 'maxage', did you m"):
            app.static("/x", tmp_path, maxage=5)  # type: ignore[call-arg]
        with pytest.raises(TypeError, match="missing 1 required positional argument: 'pattern'"):
            app.get()  # type: ignore[call-overload]
    assert "max_body_size" in inspect.signature(App.post).parameters
    assert App.post.__name__ == "post" and App.post.__doc__


def test_w3_other_methods_are_405_whether_there_is_a_file_or_not(
    serve: Serve, tmp_path: Path
) -> None:
    """RFC 9110 section 15.5.6: no resource there takes them; nothing looks at the files."""
    (tmp_path / "a").write_text("a")

    def configure(app: App) -> None:
        app.static("/", tmp_path)
        app.post("/login", page)

    port = serve(configure).port
    for path in ("/a", "/none", "/none/at/all", "/.hidden"):
        response = peer.request(port, f"POST {path} HTTP/1.1\nContent-Length: 0")
        assert (response.status, response.headers["allow"]) == (405, "GET, HEAD")
    assert peer.request(port, "POST /login HTTP/1.1\nContent-Length: 0").body == b"page"
    assert peer.request(port, "GET /none HTTP/1.1").status == 404


# ---- cookies ------------------------------------------------------------------------------------

IGNORED: List[Dict[str, Any]] = [
    {"name": "a", "same_site": "None"},
    {"name": "a", "SameSite": "None", "secure": False},
    {"name": "__Secure-a"},
    {"name": "__secure-a", "path": "/"},
    {"name": "__Host-a", "path": "/"},
    {"name": "__Host-a", "secure": True},
    {"name": "__Host-a", "secure": True, "path": "/x"},
    {"name": "__Host-a", "secure": True, "path": "/", "domain": "x.org"},
]
TAKEN: List[Dict[str, Any]] = [
    {"name": "a", "same_site": "None", "secure": True},
    {"name": "a", "same_site": None},
    {"name": "a", "same_site": "Lax"},
    {"name": "__Secure-a", "secure": True, "domain": "x.org"},
    {"name": "__Host-a", "secure": True, "path": "/"},
    {"name": "__a"},
    {"name": "Host-a"},
]


@pytest.mark.parametrize("cookie", IGNORED, ids=str)
def test_w4_a_cookie_that_browsers_would_ignore_is_refused(cookie: Dict[str, Any]) -> None:
    attributes = {key: value for key, value in cookie.items() if key != "name"}
    with pytest.raises(ValueError, match="or browsers ignore it"):
        cookies.set_cookie(cookie["name"], "b", attributes)


@pytest.mark.parametrize("cookie", TAKEN, ids=str)
def test_w4_a_cookie_that_browsers_take_is_sent(cookie: Dict[str, Any]) -> None:
    attributes = {key: value for key, value in cookie.items() if key != "name"}
    line = cookies.set_cookie(cookie["name"], "b", attributes)
    assert line.startswith(cookie["name"] + "=b")
    assert ("Secure" in line.split("; ")) == attributes.get("secure", False)
    assert "SameSite=None" not in line or "Secure" in line


def test_w4_a_refused_cookie_adds_nothing(serve: Serve) -> None:
    errors: List[str] = []

    def handler(res: Response, req: Request) -> None:
        for value, more in (("b", {"same_site": "None"}), ("Zoë", {}), ("a b", {})):
            with pytest.raises(ValueError) as caught:
                res.set_cookie("a", value, **more)  # type: ignore[arg-type]
            errors.append(str(caught.value))
        res.end()

    server = serve(lambda app: app.get("/", handler))
    assert "set-cookie" not in peer.request(server.port, "GET / HTTP/1.1").headers
    assert "secure=True" in errors[0]
    assert "urllib.parse.quote" in errors[1]


@pytest.mark.parametrize("waits", [False, True])
def test_p7_the_head_comes_before_the_answer(serve: Serve, waits: bool) -> None:
    """A cookie that is set too late would be lost without a word."""
    errors: List[str] = []

    def handler(res: Response, req: Request) -> None:
        res.end("page")
        calls: List[Callable[[], Any]] = [
            lambda: res.set_cookie("a", "b"),
            lambda: res.write_header("x-a", "b"),
            lambda: res.write_status(404),
        ]
        for call in calls:
            with pytest.raises(RuntimeError) as caught:
                call()
            errors.append(str(caught.value))

    async def handler_that_waits(res: Response, req: Request) -> None:
        handler(res, req)

    server = serve(lambda app: app.get("/", handler_that_waits if waits else handler))
    assert peer.request(server.port, "GET / HTTP/1.1").body == b"page"
    assert errors == ["this request is answered already"] * 3


@pytest.mark.parametrize(
    ("field", "expected"),
    [
        ("a=Zoë; b=1".encode(), {"a": "Zoë", "b": "1"}),
        ("a=Zoë; b=1".encode("latin-1"), {"a": "Zoë", "b": "1"}),
        # They are decoded together: what is not UTF-8 makes ISO-8859-1 of all.
        ("a=Zoë; ".encode() + b"b=\xff", {"a": "ZoÃ«", "b": "ÿ"}),
        (b"a=Zo%C3%AB", {"a": "Zo%C3%AB"}),
        ("名=1".encode(), {"名": "1"}),
    ],
)
def test_w7_cookies_that_are_not_ascii(
    serve: Serve, field: bytes, expected: Dict[str, str]
) -> None:
    seen: List[Dict[str, str]] = []

    def handler(res: Response, req: Request) -> None:
        seen.append(req.get_cookies())
        res.end()

    server = serve(lambda app: app.get("/", handler))
    with peer.Peer(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\nCookie: " + field + b"\r\n\r\n")
        assert client.response().status == 200
    assert seen == [expected]


# ---- forms --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("save", "`await upload.write(path)`"),
        ("chunks", "`await upload.read(size)`"),
        ("stream", "its name is file"),
        ("mimetype", "its name is content_type"),
        ("name", "its name is filename"),
        ("headers", "filename and content_type"),
    ],
)
def test_p7_names_that_files_have_elsewhere_are_explained(name: str, meant: str) -> None:
    upload = UploadFile("a.txt", "text/plain")
    with pytest.raises(AttributeError) as caught:
        getattr(upload, name)
    assert meant in str(caught.value)
    assert name not in dir(upload) and name not in dir(UploadFile)


def test_p7_names_that_forms_have_elsewhere_are_explained() -> None:
    form = Form([("a", "1"), ("a", "2")])
    for name in ("getlist", "getall", "multi_items"):
        with pytest.raises(AttributeError, match="it is get_all"):
            getattr(form, name)
    assert form.get_all("a") == ["1", "2"]
    assert "getlist" not in dir(form) and "getlist" not in dir(Form)
