# SPDX-License-Identifier: MIT
"""A client for each program in README.md and docs/, which checks what the page says about it."""

import hmac
import json
import os
import signal
import sys
from typing import Any, Callable, Dict, List, Optional, Tuple
from urllib.parse import quote

from doc_blocks import Client
from peer import Peer, close_frame, frame, handshake, request, upgraded
from program import Program

CLIENTS: Dict[str, Client] = {}


def client(name: str) -> Callable[[Client], Client]:
    def register(function: Client) -> Client:
        assert name not in CLIENTS, name
        CLIENTS[name] = function
        return function

    return register


def receive(peer: Peer) -> str:
    """The next message, which is a text."""
    got = peer.frame()
    assert got.opcode == 1, got
    return got.payload.decode()


def receive_json(peer: Peer) -> Any:
    return json.loads(receive(peer))


def say(peer: Peer, what: Any) -> None:
    peer.send(frame((what if isinstance(what, str) else json.dumps(what)).encode()))


def leave(peer: Peer, code: int = 1000) -> None:
    """Close the connection, which the server answers."""
    peer.send(close_frame(code))
    assert peer.frame().close_code == code
    peer.socket.close()


def closed(peer: Peer) -> Tuple[int, str]:
    """The code and the reason of the server's Close frame, which is answered."""
    got = peer.frame()
    assert got.opcode == 8, got
    peer.send(close_frame(got.close_code))
    return got.close_code, got.payload[2:].decode()


def refused(
    port: int, path: str, headers: Optional[List[Tuple[str, str]]] = None
) -> Tuple[int, str]:
    """The status and the body of the answer to a handshake that is refused."""
    with Peer(port) as peer:
        peer.send(handshake(path, headers))
        response = peer.response()
        return response.status, response.body.decode()


def echoes(port: int, path: str) -> None:
    with upgraded(port, path) as peer:
        say(peer, "one")
        assert receive(peer) == "one"
        peer.send(frame(b"\0\xff", 2))
        assert peer.frame().payload == b"\0\xff"
        leave(peer)


# ---- README.md, index and getting started -------------------------------------------------------


@client("readme")
def readme(program: Program, port: int) -> None:
    with upgraded(port, "/chat/blue") as peer:
        assert receive(peer) == "welcome to blue"
        say(peer, "one")
        assert receive(peer) == "one"
        leave(peer, 3001)
    assert program.line() == "closed: 3001 "
    assert request(port, "GET / HTTP/1.1").body == b"a page"


@client("index")
def index(program: Program, port: int) -> None:
    echoes(port, "/echo")


@client("echo")
def echo(program: Program, port: int) -> None:
    with upgraded(port, "/echo") as peer:
        assert program.line() == "a client has connected"
        assert receive(peer) == "hello"
        say(peer, "one")
        assert receive(peer) == "one"
        leave(peer)
    assert program.line() == "a client has left: 1000 "
    assert request(port, "GET / HTTP/1.1").body == b"This server echoes on /echo.\n"


@client("http")
def http(program: Program, port: int) -> None:
    assert request(port, "GET / HTTP/1.1").body == b"Hello!"
    answer = request(port, "GET /users/ada?verbose=1 HTTP/1.1")
    assert json.loads(answer.body) == {"name": "ada", "verbose": True}
    assert request(port, "GET /users/bob HTTP/1.1").status == 404
    assert request(port, "GET /old HTTP/1.1").headers["location"] == "/users/ada"


def posted(
    port: int, path: str, body: bytes, *headers: str, method: str = "POST"
) -> Tuple[int, bytes]:
    """The status and the body of the answer to a request with a body."""
    with Peer(port) as peer:
        lines = [f"{method} {path} HTTP/1.1", "Host: x", f"Content-Length: {len(body)}", *headers]
        peer.send("\r\n".join([*lines, "", ""]).encode() + body)
        answer = peer.response()
        return answer.status, answer.body


@client("bodies")
def bodies(program: Program, port: int) -> None:
    assert posted(port, "/users", b'{"name":"ada"}') == (201, b'{"added":"ada"}')
    assert posted(port, "/users", b"[]")[0] == 422
    status, why = posted(port, "/users", b"nothing")
    assert status == 400 and why.startswith(b"400 Bad Request: the body is not JSON: ")
    right = hmac.new(b"secret", b"[1]", "sha256").hexdigest()
    assert posted(port, "/webhook", b"[1]", f"X-Signature: {right}") == (204, b"")
    assert program.line() == "the webhook says [1]"
    assert posted(port, "/webhook", b"[2]", f"X-Signature: {right}")[0] == 403
    assert posted(port, "/webhook", b"[2]", "X-Signature: \u00ff")[0] == 403
    body = bytes(5_000_000)
    assert posted(port, "/files/x", body, method="PUT") == (200, b'{"size":5000000}')


@client("forms")
def forms(program: Program, port: int) -> None:
    assert b"multipart/form-data" in request(port, "GET / HTTP/1.1").body
    head = 'Content-Disposition: form-data; name="'
    title, photo = (
        f'--B\r\n{head}title"\r\n\r\nsea\r\n',
        f'--B\r\n{head}photo"; filename="a"\r\n\r\n',
    )
    body = f"{title}{photo}12345\r\n--B--\r\n".encode()
    kind = "Content-Type: multipart/form-data; boundary=B"
    assert posted(port, "/photos", body, kind) == (200, b'{"title":"sea","sizes":[5]}')
    assert posted(port, "/photos", b"--B--\r\n", kind)[0] == 400


@client("http_files")
def http_files(program: Program, port: int) -> None:
    page = request(port, "GET / HTTP/1.1")
    assert page.body == b"<h1>Hello</h1>"
    same = request(port, f"GET / HTTP/1.1\nIf-None-Match: {page.headers['etag']}")
    assert same.status == 304
    script = request(port, "GET /assets/app.3f2a.js HTTP/1.1")
    assert script.headers["cache-control"] == "max-age=31536000"
    part = request(port, "GET /report HTTP/1.1\nRange: bytes=0-3")
    assert (part.status, part.body) == (206, b"name")
    assert part.headers["content-disposition"] == 'attachment; filename="Report 2026.csv"'
    assert request(port, "GET /../report.csv HTTP/1.1").status == 404
    assert request(port, "GET /%2e%2e/report.csv HTTP/1.1").status == 404


def body_in_chunks(peer: Peer) -> bytes:
    """The body of an answer, whose head was read; nothing follows it.

    It is taken apart once it is there: a client that is slow for longer than keep_alive_timeout
    finds the connection closed.
    """
    last = b"0\r\n\r\n"
    while peer.buffer != last and not peer.buffer.endswith(b"\r\n" + last):
        assert peer.fill()
    data, peer.buffer = peer.buffer, b""
    body = []
    at = 0
    while not data.startswith(last, at):
        start = data.index(b"\r\n", at) + 2
        size = int(data[at:start], 16)
        body.append(data[start : start + size])
        at = start + size + 2
    return b"".join(body)


def next_chunk(peer: Peer) -> bytes:
    while b"\r\n" not in peer.buffer:
        assert peer.fill()
    size, peer.buffer = peer.buffer.split(b"\r\n", 1)
    return peer.read(int(size, 16) + 2)[:-2]


@client("parts")
def parts(program: Program, port: int) -> None:
    with Peer(port) as peer:
        for path, want in (
            ("/numbers", "".join(f"{number}\n" for number in range(100_000))),
            ("/rows", "id,name\n0,name 0\n1,name 1\n2,name 2\n"),
        ):
            peer.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
            assert peer.response().headers["transfer-encoding"] == "chunked"
            assert body_in_chunks(peer) == want.encode()
        peer.send(b"POST /upper HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabc")
        peer.response()
        assert body_in_chunks(peer) == b"ABC"


@client("events")
def events(program: Program, port: int) -> None:
    with Peer(port) as peer, upgraded(port, "/chat") as chat:
        peer.send(b"GET /events HTTP/1.1\r\nHost: x\r\nLast-Event-ID: 6\r\n\r\n")
        assert peer.response().headers["content-type"] == "text/event-stream"
        first = next_chunk(peer)
        if first == b"retry: 3000\n\n":
            first = next_chunk(peer)
        assert first == b"event: hello\ndata: you have seen 6\n\n"
        say(chat, "hello")
        assert next_chunk(peer) == b"id: 7\ndata: hello\n\n"
        leave(chat)


@client("http_router")
def http_router(program: Program, port: int) -> None:
    assert json.loads(request(port, "GET /api/time HTTP/1.1").body) == {"time": "late"}
    preflight = request(port, "OPTIONS /api/me HTTP/1.1")
    assert preflight.status == 204
    assert preflight.headers["access-control-allow-origin"] == "https://example.org"
    assert request(port, "GET /api/me HTTP/1.1").status == 401
    mine = request(port, "GET /api/me HTTP/1.1\nAuthorization: Bearer s3cret")
    assert json.loads(mine.body) == {"name": "Ann"}
    assert refused(port, "/api/me/chat")[0] == 401
    with upgraded(port, "/api/me/chat?token=s3cret") as peer:
        say(peer, "hi")
        assert receive(peer) == "Ann: hi"
        leave(peer)


@client("http_errors")
def http_errors(program: Program, port: int) -> str:
    missing = request(port, "GET /<none> HTTP/1.1")
    assert (missing.status, missing.body) == (404, b"<h1>There is no /&lt;none&gt;</h1>\n")
    wrong = request(port, "DELETE /divide/6/3 HTTP/1.1")
    assert (wrong.status, wrong.headers["allow"]) == (405, "GET, HEAD")
    assert json.loads(request(port, "GET /divide/6/3 HTTP/1.1").body) == 2
    failed = request(port, "GET /divide/6/0 HTTP/1.1")
    assert (failed.status, json.loads(failed.body)) == (400, {"error": "division by zero"})
    return "ZeroDivisionError: division by zero"


@client("settings")
def settings(program: Program, port: int) -> None:
    echoes(port, "/echo")
    with upgraded(port, "/echo") as peer:
        peer.send(frame(bytes(1024 * 1024 + 1), 2))
        assert closed(peer)[0] == 1009


@client("workers")
def workers(program: Program, port: int) -> None:
    echoes(port, "/")


@client("lobby")
def lobby(program: Program, port: int) -> None:
    def comes_to(people: int) -> None:
        while receive_json(ann) != {"people": people}:  # of the others who come or go
            pass

    with upgraded(port) as ann:
        comes_to(1)
        with upgraded(port), upgraded(port):
            comes_to(3)
        comes_to(1)


# ---- rooms and authentication -------------------------------------------------------------------


@client("rooms")
def rooms(program: Program, port: int) -> None:
    tea = "/chat/tea%20%26%20cake?name="
    with upgraded(port, tea + "Ann") as ann, upgraded(port, "/chat/other") as cid:
        assert receive_json(ann) == {"name": "Ann", "event": "join", "people": 1}
        assert receive_json(cid)["name"] == "somebody"
        with upgraded(port, tea + "Bob") as bob:
            for peer in (ann, bob):
                assert receive_json(peer) == {"name": "Bob", "event": "join", "people": 2}
            say(ann, "Hello, Bob")
            for peer in (ann, bob):
                assert receive_json(peer) == {"name": "Ann", "text": "Hello, Bob"}
            leave(bob)
        assert receive_json(ann) == {"name": "Bob", "event": "leave", "people": 1}
        leave(cid)  # who has got none of that


@client("cookie")
def cookie(program: Program, port: int) -> None:
    origin = ("Origin", "https://example.org")
    assert refused(port, "/", [origin]) == (401, "Log in first.\n")
    answer = request(port, "GET /login/Ann HTTP/1.1")
    session, *attributes = answer.headers["set-cookie"].split("; ")
    assert sorted(attributes) == ["HttpOnly", "Path=/", "SameSite=Lax"]
    with upgraded(port, "/", [origin, ("Cookie", session)]) as peer:
        assert receive(peer) == "Hello, Ann"
        leave(peer)
    for forged in (session[:-1], session.replace("Ann", "Bob"), "session=", "session=é.b"):
        assert refused(port, "/", [origin, ("Cookie", forged)])[0] == 401
    elsewhere = ("Origin", "https://evil.example")
    assert refused(port, "/", [elsewhere, ("Cookie", session)])[0] == 403


@client("token")
def token(program: Program, port: int) -> None:
    with upgraded(port, "/", [("Authorization", "Bearer s3cret")]) as peer:
        assert program.line() == "robot is here"
        leave(peer)
    for path, header in (("/", "Bearer wrong"), ("/", "Basic s3cret"), ("/?ticket=x", "")):
        headers = [("Authorization", header)] if header else None
        assert refused(port, path, headers) == (401, "Who are you?\n")
    ticket = json.loads(request(port, "GET /ticket HTTP/1.1").body)["ticket"]
    with upgraded(port, f"/?ticket={ticket}") as peer:
        assert program.line() == "Ann is here"
        leave(peer)
    assert refused(port, f"/?ticket={ticket}")[0] == 401  # the second time


@client("first_message")
def first_message(program: Program, port: int) -> None:
    with upgraded(port) as peer, upgraded(port) as silent:
        say(peer, {"token": "s3cret"})
        assert receive_json(peer) == {"hello": "Ann"}
        say(peer, "hi")
        assert receive(peer) == "Ann says: hi"
        wrong: Any
        for wrong in ({"token": "wrong"}, {"token": []}, [], "no JSON"):
            with upgraded(port) as other:
                say(other, wrong)
                assert closed(other) == (4003, "wrong token")
        assert closed(silent) == (4001, "no login in time")
        say(peer, "still here")
        assert receive(peer) == "Ann says: still here"
        leave(peer)


# ---- errors and backpressure --------------------------------------------------------------------


@client("errors")
def errors(program: Program, port: int) -> str:
    for path in ("/", "/robust"):
        with upgraded(port, path) as peer:
            say(peer, [6, 3])
            assert receive_json(peer) == {"result": 2}
            for wrong in ("no JSON", [1], None):
                say(peer, wrong)
                assert receive_json(peer) == {"error": "send two numbers in a JSON list"}
            say(peer, [1, 0])
            if path == "/":
                assert closed(peer)[0] == 1011
            else:
                say(peer, [1, 2])
                assert receive_json(peer) == {"result": 0.5}
                leave(peer)
            assert program.line() == "reported: ZeroDivisionError('division by zero')"
    return "ZeroDivisionError: division by zero"


@client("state")
def state(program: Program, port: int) -> None:
    with upgraded(port) as slow, upgraded(port) as peer:
        assert receive_json(peer) == {"x": 0}
        for count in range(1, 4):
            say(peer, "move")
            assert receive_json(peer) == {"x": count}
        assert [receive_json(slow)["x"] for _ in range(4)] == [0, 1, 2, 3]
        leave(peer)


@client("transfer")
def transfer(program: Program, port: int) -> None:
    with upgraded(port) as peer:
        size, fragments = 0, 0
        got = peer.frame()
        while got.opcode == 2:
            size += len(got.payload)
            fragments += 1
            got = peer.frame()
        assert (got.opcode, got.payload[2:].decode()) == (8, f"{size} bytes")
        assert fragments == -(-size // (64 * 1024))


@client("drained")
def drained(program: Program, port: int) -> None:
    with upgraded(port) as peer:
        size = 0
        got = peer.frame()
        while got.opcode == 2:
            size += len(got.payload)
            got = peer.frame()
        assert got.close_code == 1000
        assert size == os.path.getsize(sys.executable)


# ---- asyncio, shutdown and threads --------------------------------------------------------------


@client("session")
def session(program: Program, port: int) -> str:
    with upgraded(port, "/sum") as peer:
        for word, total in (("1", "1"), ("40", "41")):
            say(peer, word)
            assert receive(peer) == total
        say(peer, "x")
        assert closed(peer)[0] == 1011
    for answers in (True, False):
        with upgraded(port, "/greet") as peer:
            assert receive(peer) == "What is your name?"
            if answers:
                say(peer, "Ann")
                assert receive(peer) == "Hello, Ann!"
                assert closed(peer) == (1000, "")
            else:
                leave(peer, 1001)
    assert program.line().startswith("no answer, but CloseInfo(")
    return "ValueError: invalid literal for int() with base 10: 'x'"


@client("task")
def task(program: Program, port: int) -> None:
    with upgraded(port, "/clock") as peer:
        assert receive(peer).count(":") == 2
        say(peer, "0.1")
        for _ in range(3):
            assert receive(peer).count(":") == 2
        peer.send(close_frame(1000))
        while peer.frame().opcode != 8:
            pass


@client("coroutines")
def coroutines(program: Program, port: int) -> None:
    assert refused(port, "/?token=wrong") == (401, "Who are you?\n")
    with upgraded(port, "/?token=s3cret") as peer:
        for word in ("one", "two", "three"):
            say(peer, word)
        for word in ("one", "two", "three"):
            assert receive(peer) == f"Ann: {word}"
        leave(peer)
    assert request(port, "GET / HTTP/1.1").body == b"a page\n"


@client("serve")
def serve(program: Program, port: int) -> None:
    with upgraded(port) as peer:
        assert receive(peer).count(":") == 2
        program.process.send_signal(signal.SIGTERM)
        assert closed(peer)[0] == 1001
    program.wait()  # a second SIGTERM kills an interpreter that is about to exit


@client("shutdown")
def shutdown(program: Program, port: int) -> None:
    with upgraded(port) as peer, upgraded(port) as other:
        for word in ("one", "two", "shut down"):
            say(peer, word)
        for each in (peer, other):
            assert closed(each) == (1001, "back in a minute")
        assert program.line() == "2 messages"
        assert program.wait() == 0


@client("drain")
def drain(program: Program, port: int) -> None:
    with upgraded(port) as peer:
        program.process.send_signal(signal.SIGTERM)
        for word in ("still", "served"):
            say(peer, word)
            assert receive(peer) == word
        leave(peer)
    assert program.wait() == 0


@client("pool")
def pool(program: Program, port: int) -> None:
    with upgraded(port) as peer:
        say(peer, "loud")
        assert receive(peer) == "LOUD"
        leave(peer)


@client("thread")
def thread(program: Program, port: int) -> None:
    with upgraded(port) as peer:
        assert receive(peer).count(":") == 2
        program.process.send_signal(signal.SIGTERM)
        while peer.frame().opcode != 8:
            pass
        peer.send(close_frame(1001))
    program.wait()


@client("pipe")
def pipe(program: Program, port: int) -> None:
    with upgraded(port) as peer:
        assert receive(peer).count(":") >= 2
        assert receive(peer).endswith("\n")
        leave(peer)


@client("serial")
def serial(program: Program, port: int) -> None:
    with upgraded(port) as one, upgraded(port) as two:
        say(one, "temperature")
        for peer in (one, two):
            assert receive(peer) == "21.5 for temperature"
        say(two, "pressure")
        assert receive(one) == "21.5 for pressure"
        leave(one)


@client("browser")
def browser(program: Program, port: int) -> None:
    page = request(port, "GET / HTTP/1.1")
    assert page.headers["content-type"] == "text/html"
    assert b'<script src="/client.js"></script>' in page.body
    assert b"function connect(" in request(port, "GET /client.js HTTP/1.1").body
    with upgraded(port, "/clicks") as one, upgraded(port, "/clicks") as two:
        for peer in (one, two):
            assert receive(peer) == "0"
        say(two, "click")
        for peer in (one, two):
            assert receive(peer) == "1"
        leave(one)


@client("history")
def history(program: Program, port: int) -> None:
    assert b"history: true" in request(port, "GET / HTTP/1.1").body
    with upgraded(port, "/chat?history=%7B%7D") as one, upgraded(port, "/chat") as other:
        assert '"complete":true' in receive(one)
        say(one, "first")
        label, _, text = receive(one).partition("\n")
        assert (text, receive(other)) == ("first", "first")
        leave(one)
        last = json.loads(label[1:])["id"]
        say(other, "second")
        assert receive(other) == "second"
        ids = quote(json.dumps({"chat": last}))
        with upgraded(port, "/chat?history=" + ids) as back:
            assert receive(back) == f'\0{{"topic":"chat","id":"{last}","complete":true}}\n'
            assert receive(back).endswith("\nsecond")
            leave(back)
        leave(other)


# ---- deployment ---------------------------------------------------------------------------------


@client("activated")
def activated(program: Program, port: int) -> None:
    echoes(port, "/echo")
    assert request(port, "GET /health HTTP/1.1").body == b"ok\n"


@client("reuse_port")
def reuse_port(program: Program, port: int) -> None:
    with upgraded(port) as peer:
        assert receive(peer) == f"This is process {program.process.pid}."
        leave(peer)


@client("limits")
def limits(program: Program, port: int) -> None:
    echoes(port, "/")


@client("typed")
def typed(program: Program, port: int) -> None:
    with upgraded(port, "/?name=Ann") as peer:
        for count in (1, 2):
            say(peer, "hi")
            assert receive_json(peer) == {"name": "Ann", "messages": count}
        leave(peer)
