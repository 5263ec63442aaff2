# SPDX-License-Identifier: MIT
"""examples/py/login.py: a page, a login and a chat behind it, on one port (W1, W3, W4)."""

import json
import signal
from typing import Iterator, Tuple
from urllib.parse import quote

import pytest
from chromium import launched
from common import ROOT
from peer import Peer, Response, close_frame, frame, handshake
from program import Program

pytestmark = pytest.mark.usefixtures("read_by_h11")

USERS = ("--user", "Zoë:pass word", "--user", "bob:builder")


@pytest.fixture
def example() -> Iterator[Tuple[Program, int]]:
    path = ROOT / "examples" / "py" / "login.py"
    with Program(str(path), "--port", "0", *USERS) as program:
        yield program, int(program.line().rstrip("/").rpartition(":")[2])


def ask(port: int, line: str, *fields: str, body: str = "") -> Response:
    with Peer(port) as peer:
        lines = [f"{line} HTTP/1.1", f"Host: 127.0.0.1:{port}", *fields]
        if body:
            lines.append("Content-Type: application/x-www-form-urlencoded")
        lines.append(f"Content-Length: {len(body)}")
        peer.send("\r\n".join([*lines, "", body]).encode())
        return peer.response()


def log_in(port: int, name: str, password: str, *fields: str) -> Response:
    body = f"name={quote(name)}&password={quote(password)}"
    return ask(port, "POST /login", *fields, body=body)


def cookie_of(response: Response) -> str:
    return response.headers["set-cookie"].partition(";")[0]


def test_the_login_and_the_socket_behind_it(example: Tuple[Program, int]) -> None:
    program, port = example
    assert b"<title>Chat</title>" in ask(port, "GET /").body
    assert ask(port, "GET /chat.js").headers["content-type"].startswith("text/javascript")
    assert ask(port, "GET /nothing").status == 404
    assert ask(port, "GET /../login.py").status == 404
    assert ask(port, "GET /me").status == 401
    for name, password in (("Zoë", "wrong"), ("nobody", ""), ("", ""), ("bob", "pass word")):
        assert log_in(port, name, password).status == 403
    assert log_in(port, "bob", "builder", "Origin: https://evil.example").status == 403
    response = log_in(port, "Zoë", "pass word", f"Origin: http://127.0.0.1:{port}")
    assert (response.status, response.headers["location"]) == (303, "/")
    assert "HttpOnly; SameSite=Lax" in response.headers["set-cookie"]
    cookie = cookie_of(response)
    assert json.loads(ask(port, "GET /me", f"Cookie: {cookie}").body) == {"name": "Zoë"}
    for wrong in (cookie[:-1], cookie + "0", cookie.replace("=", "=00"), "session=", "session=a.b"):
        assert ask(port, "GET /me", f"Cookie: {wrong}").status == 401
    with Peer(port) as peer:
        peer.send(handshake("/chat"))
        assert peer.response().status == 401
    with Peer(port) as peer:
        peer.send(handshake("/chat", [("Cookie", cookie), ("Origin", "https://evil.example")]))
        assert peer.response().status == 403
    with Peer(port) as peer:
        peer.send(handshake("/chat", [("Cookie", cookie)]))
        assert peer.response().status == 101
        assert json.loads(peer.frame().payload) == {"event": "Zoë is here"}
        peer.send(frame(b"hi"))
        assert json.loads(peer.frame().payload) == {"name": "Zoë", "text": "hi"}
        out = ask(port, "POST /logout", f"Cookie: {cookie}")
        assert "Max-Age=0" in out.headers["set-cookie"]
        assert peer.frame().payload == b"\x0f\xa1logged out"
        peer.send(close_frame(4001, b""))
    assert program.stop(signal.SIGTERM) == 0
    assert program.error_text() == ""


@pytest.mark.timeout(240)
def test_the_page_in_a_browser(example: Tuple[Program, int]) -> None:
    program, port = example
    url = f"http://127.0.0.1:{port}/"
    last = "document.querySelector('#log li:last-child')?.textContent"
    with launched() as browser:
        browser.open(url)
        browser.wait_for("document.getElementById('login').hidden", False)
        browser.evaluate("document.querySelector('[name=name]').value = 'Zoë'")
        browser.evaluate("document.querySelector('[name=password]').value = 'pass word'")
        browser.evaluate("document.querySelector('#login button').click()")
        browser.wait_for(last, "Zoë is here")
        assert browser.evaluate("document.getElementById('me').textContent") == "Zoë"
        assert browser.evaluate("document.cookie") == ""  # scripts do not see it
        bob = cookie_of(log_in(port, "bob", "builder"))
        with Peer(port) as peer:
            peer.send(handshake("/chat", [("Cookie", bob)]))
            assert peer.response().status == 101
            browser.wait_for(last, "bob is here")
            peer.send(frame(b"<b>hello</b>"))
            browser.wait_for(last, "bob: <b>hello</b>")
            browser.evaluate("document.getElementById('text').value = 'grüß dich'")
            browser.evaluate("document.querySelector('#say button').click()")
            browser.wait_for(last, "Zoë: grüß dich")
        browser.evaluate("document.querySelector('#chat form button').click()")
        browser.wait_for("document.getElementById('login')?.hidden", False)
    assert program.stop(signal.SIGTERM) == 0
    assert program.error_text() == ""
