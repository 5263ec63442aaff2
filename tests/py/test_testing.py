# SPDX-License-Identifier: MIT
"""pyws.testing: a server for a block, and a socket without a client (P10)."""

import asyncio
import gc
import inspect
import os
import socket
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import pytest
from common import ROOT, TIMEOUT
from coroutines import in_loop
from peer import Peer, frame, handshake, upgraded
from websockets.asyncio.client import connect as connect_async
from websockets.exceptions import ConnectionClosed

import pyws.testing
from pyws import App, AppListenOptions, OpCode, Request, Response, SendStatus, WebSocket
from pyws import ConnectionClosed as ClosedByClient
from pyws.testing import FakeWebSocket, Published, running, serving

CLOSE = 8


def echo(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    ws.send(message, opcode)


def echo_app() -> App:
    return App().ws("/*", message=echo)


def leaves(error: BaseException) -> Callable[[WebSocket], None]:
    def leave(ws: WebSocket) -> None:
        raise error

    return leave


def visit(app: App) -> None:
    """A client comes, and waits until it is sent away."""
    with running(app), upgraded(app.port) as client:
        assert client.frame().opcode == CLOSE


def echoes(client: Peer) -> None:
    with client:
        client.send(frame(b"hi"))
        assert client.frame().payload == b"hi"


def test_p10_nothing_imports_it() -> None:
    code = "import sys, pyws, pyws.__main__; assert 'pyws.testing' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=TIMEOUT)


# ---- app.url ------------------------------------------------------------------------------------

URLS: List[Tuple[Dict[str, Any], str]] = [
    ({"port": 80}, "ws://127.0.0.1:80"),
    ({"port": 80, "host": "0.0.0.0"}, "ws://127.0.0.1:80"),
    ({"port": 80, "host": "::"}, "ws://[::1]:80"),
    ({"port": 80, "host": "::1"}, "ws://[::1]:80"),
    ({"port": 80, "host": "fe80::1%eth0"}, "ws://[fe80::1%25eth0]:80"),
    ({"port": 80, "host": "10.0.0.1"}, "ws://10.0.0.1:80"),
    ({"port": 80, "host": "localhost"}, "ws://localhost:80"),
    ({"path": "/run/a b"}, "ws+unix:///run/a%20b"),
    ({"fd": 3}, ""),
    ({"fd": 3, "port": 80}, "ws://127.0.0.1:80"),
]


@pytest.mark.parametrize("options, url", URLS)
def test_p10_the_url_of_an_address(options: Dict[str, Any], url: str) -> None:
    assert AppListenOptions(**options).url == url


def test_p10_app_url_is_that_of_the_first_address(tmp_path: Path) -> None:
    with App() as app:
        assert app.url == ""
        app.listen({"path": tmp_path / "s"})
        assert app.url == f"ws+unix://{tmp_path}/s"
        assert app.port == 0
        app.listen({"host": "127.0.0.1"})
        assert app.url == f"ws+unix://{tmp_path}/s"
        app.close()
        app.run()
        assert app.url == ""


def test_p10_app_url_of_a_descriptor() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener, App() as app:
        app.listen({"fd": listener.fileno()})
        assert app.url == f"ws://127.0.0.1:{listener.getsockname()[1]}"
        app.close()
        app.run()


# ---- serving ------------------------------------------------------------------------------------


@in_loop
async def test_p10_serving() -> None:
    app = echo_app()
    async with serving(app) as url:
        assert url == app.url == f"ws://127.0.0.1:{app.port}"
        async with connect_async(url) as client:
            await client.send("hi")
            assert await client.recv() == "hi"
    assert app.url == ""
    async with serving(app) as url, connect_async(url) as client:  # again
        await client.send("hi")
        assert await client.recv() == "hi"


@in_loop
async def test_p10_serving_ends_in_bounded_time_and_says_goodbye() -> None:
    app = echo_app()
    async with serving(app, timeout=0.2) as url:
        stuck = socket.create_connection(("127.0.0.1", app.port))  # never answers
        client = await connect_async(url)
    with pytest.raises(ConnectionClosed) as caught:
        await client.recv()
    assert caught.value.rcvd is not None
    assert caught.value.rcvd.code == 1001
    stuck.close()


@in_loop
async def test_p10_serving_where_the_app_listens_or_is_told_to(tmp_path: Path) -> None:
    app = echo_app().listen({"path": tmp_path / "first"})
    async with serving(app) as url:
        assert url == f"ws+unix://{tmp_path}/first"
    async with serving(app, {"path": tmp_path / "second"}) as url:
        assert url == f"ws+unix://{tmp_path}/second"
    wrongs: List[Any] = [-1, {"prot": 1}]
    for wrong in wrongs:
        with pytest.raises((TypeError, ValueError)):
            async with serving(app, wrong):
                pass
    with pytest.raises((TypeError, ValueError), match="timeout"):
        async with serving(app, timeout=-1):
            pass


def test_p10_serving_raises_what_is_no_exception() -> None:
    """As from any task, SystemExit ends the loop."""

    async def test() -> None:
        async with serving(App().ws("/*", open=leaves(SystemExit(7)))) as url:
            async with connect_async(url) as client:
                await client.wait_closed()
            await asyncio.sleep(TIMEOUT)

    with pytest.raises(SystemExit, match="7"):
        asyncio.run(test())
    # asyncio logs the exception of the task when that is freed. CPython 3.11 breaks if this happens
    # inside ast.parse of a later test (SystemError, gh-106905).
    gc.collect()


@in_loop
async def test_p10_serving_after_a_handler_has_closed_the_app() -> None:
    app = App()
    app.ws("/*", open=lambda ws: app.close())
    async with serving(app) as url:
        async with connect_async(url) as client:
            await client.wait_closed()
        await asyncio.sleep(0.01)


# ---- running ------------------------------------------------------------------------------------


def test_p10_running() -> None:
    threads: List[int] = []
    app = echo_app().ws("/thread", open=lambda ws: threads.append(threading.get_ident()))
    for _ in range(2):
        with running(app) as url:
            assert url == app.url == f"ws://127.0.0.1:{app.port}"
            echoes(upgraded(app.port))
            with upgraded(app.port, "/thread"):
                pass
        assert app.url == ""
        app.publish("a", "b")  # it belongs to this thread again
    assert len(threads) == 2
    assert threading.get_ident() not in threads


def test_p10_running_with_coroutine_handlers() -> None:
    async def message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        await asyncio.sleep(0)
        ws.send(message, opcode)

    app = App().ws("/*", message=message)
    with running(app):
        echoes(upgraded(app.port))


def test_p10_running_on_a_unix_socket(tmp_path: Path) -> None:
    with running(echo_app(), {"path": tmp_path / "s"}) as url:
        assert url == f"ws+unix://{tmp_path}/s"
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT)
            client.connect(os.fspath(tmp_path / "s"))
            client.sendall(handshake())
            assert client.recv(12) == b"HTTP/1.1 101"


def test_p10_running_ends_in_bounded_time() -> None:
    app = echo_app()
    with running(app, timeout=0.2):
        stuck = socket.create_connection(("127.0.0.1", app.port))
    stuck.close()


def test_p10_running_needs_an_idle_app_of_this_thread() -> None:
    apps: List[App] = []
    maker = threading.Thread(target=lambda: apps.append(App()))
    maker.start()
    maker.join()
    wrong = "needs an app that was made in the same thread"
    with pytest.raises(RuntimeError, match=wrong), running(apps[0]):
        pass
    app = echo_app()
    with running(app), pytest.raises(RuntimeError, match="already running"), running(app):
        pass
    app.__exit__(None, None, None)
    with pytest.raises(RuntimeError, match="closed"), running(app):
        pass


def test_p10_running_raises_what_the_server_raised() -> None:
    error = KeyboardInterrupt("mine")
    with pytest.raises(KeyboardInterrupt) as caught:
        visit(App().ws("/*", open=leaves(error)))
    assert caught.value is error


def test_p10_running_shows_the_error_of_the_test_and_of_the_server() -> None:
    app = App().ws("/*", open=leaves(SystemExit(3)))
    with pytest.raises(SystemExit) as caught, running(app):
        with upgraded(app.port) as client:
            assert client.frame().opcode == CLOSE
        raise AssertionError("of the test")
    assert isinstance(caught.value.__context__, AssertionError)
    with pytest.raises(AssertionError, match="of the test"), running(echo_app()):
        raise AssertionError("of the test")


def test_p10_running_reports_a_handler_that_does_not_return(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pyws.testing, "_PATIENCE", 0.1)
    entered, gate = threading.Event(), threading.Event()

    def handler(res: Response, req: Request) -> None:
        entered.set()
        gate.wait(TIMEOUT)
        res.end("late")

    before = set(threading.enumerate())
    app, late = App().get("/", handler), r"a handler has not returned 0\.3 seconds after the test"
    with pytest.raises(RuntimeError, match=late), running(app, timeout=0.2):  # noqa: SIM117
        with socket.create_connection(("127.0.0.1", app.port)) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert entered.wait(TIMEOUT)
    gate.set()
    for thread in set(threading.enumerate()) - before:
        thread.join(TIMEOUT)


def test_p10_running_after_a_handler_has_closed_the_app() -> None:
    app = App()
    visit(app.ws("/*", open=lambda ws: app.close()))


# ---- a fake socket: the same as a real one ------------------------------------------------------

PUBLIC = [name for name in dir(WebSocket) if not name.startswith("_") and hasattr(WebSocket, name)]


@pytest.mark.parametrize("name", PUBLIC)
def test_p10_a_fake_has_every_attribute_with_its_signature(name: str) -> None:
    real, fake = getattr(WebSocket, name), getattr(FakeWebSocket, name)
    assert type(fake) is type(real) or callable(fake)
    if callable(real):
        wanted = [(one.name, one.default) for one in inspect.signature(real).parameters.values()]
        found = [(one.name, one.default) for one in inspect.signature(fake).parameters.values()]
        assert found == wanted
    assert inspect.getdoc(fake)
    assert isinstance(FakeWebSocket(), WebSocket)


LONG = "x" * 126
CALLS: List[Tuple[str, Tuple[Any, ...]]] = [
    ("send", ("text",)),
    ("send", (b"bytes",)),
    ("send", (bytearray(b"x"), None, True)),
    ("send", ({"a": 1},)),
    ("send", ("text", OpCode.BINARY)),
    ("send", (b"\xff", OpCode.TEXT)),
    ("send", ("\ud800",)),
    ("send", (object(),)),
    ("send", ()),
    ("send", ("text", 3)),
    ("send", ("text", OpCode.CLOSE)),
    ("send", ("text", "TEXT")),
    ("send", ("text", None, 1)),
    ("send", (LONG, OpCode.PING)),
    ("send", ("x", OpCode.PING, True)),
    ("send", ("x", OpCode.CONTINUATION)),
    ("send_json", (None,)),
    ("send_json", (float("nan"),)),
    ("ping", ("x",)),
    ("ping", (LONG,)),
    ("send_fragment", ("x",)),
    ("send_last_fragment", ()),
    ("send_first_fragment", ("x", OpCode.PING)),
    ("send_first_fragment", (5.0,)),
    ("cork", (None,)),
    ("cork", (lambda ws: None,)),
    ("cork_send", ("x",)),
    ("cork_send", (object(),)),
    ("get_buffered_amount", ()),
    ("subscribe", ("a",)),
    ("subscribe", (b"a",)),
    ("subscribe", (5,)),
    ("subscribe", ("x" * 1025,)),
    ("unsubscribe", ("nothing",)),
    ("unsubscribe", (None,)),
    ("is_subscribed", ("nothing",)),
    ("is_subscribed", ("\ud800",)),
    ("get_topics", ()),
    ("for_each_topic", (print,)),
    ("for_each_topic", (3,)),
    ("publish", ("nothing", "x")),
    ("publish", (5, "x")),
    ("publish", ("a", object())),
    ("publish", ("a", "x", OpCode.PING)),
    ("publish", ("a", "x", None, False, "yes")),
    ("pause", ()),
    ("resume", ()),
    ("end", (1005, "why")),
    ("end", (1004,)),
    ("end", (1000, 5)),
    ("end", (1000, "\ud800")),
    ("end", (2**80,)),
    ("get_user_data", ()),
    ("get_remote_address", ()),
]


def outcome(fn: Callable[..., Any], *args: Any) -> Any:
    """What a call returns or raises."""
    try:
        return fn(*args)
    except Exception as error:
        return type(error), str(error)


@pytest.fixture(scope="module")
def outcomes() -> Any:
    """What a real socket answers to CALLS, while it is open and when it is closed."""
    sockets: List[WebSocket] = []
    found: List[List[Any]] = []
    done = threading.Event()

    def call_all() -> None:
        (ws,) = sockets
        for _ in range(2):
            answers = []
            for name, args in CALLS:
                answers.append(outcome(getattr(ws, name), *args))
                for topic in ws.get_topics():
                    ws.unsubscribe(topic)
                outcome(ws.send_last_fragment)  # if the call has begun a message
            found.append(answers)
            ws.end()
        done.set()

    app = App().ws("/*", open=sockets.append)
    with running(app), upgraded(app.port):
        app.defer(call_all)
        assert done.wait(TIMEOUT)
    return found


@pytest.mark.parametrize("is_closed", [False, True], ids=["open", "closed"])
@pytest.mark.parametrize(
    "number", range(len(CALLS)), ids=[f"{i}-{name}" for i, (name, _) in enumerate(CALLS)]
)
def test_p10_a_fake_accepts_and_refuses_what_a_socket_does(
    outcomes: Any, number: int, is_closed: bool
) -> None:
    name, args = CALLS[number]
    fake = FakeWebSocket()
    if is_closed:
        fake.end()
    found, wanted = outcome(getattr(fake, name), *args), outcomes[is_closed][number]
    assert found == wanted
    assert type(found) is type(wanted)


def test_p10_a_fake_belongs_to_one_thread() -> None:
    fake, errors = FakeWebSocket(), []

    def use() -> None:
        for name, args in (("send", ("x",)), ("subscribe", ("a",)), ("close", ()), ("pause", ())):
            errors.append(outcome(getattr(fake, name), *args))

    thread = threading.Thread(target=use)
    thread.start()
    thread.join()
    assert {kind for kind, _ in errors} == {RuntimeError}
    assert not fake.sent


# ---- a fake socket: what it records -------------------------------------------------------------


def test_p10_a_fake_records_messages() -> None:
    ws = FakeWebSocket()
    assert ws.send("text") is SendStatus.SUCCESS
    ws.send(b"bytes")
    ws.send("text", OpCode.BINARY)
    ws.send({"a": [1]}, compress=True)
    ws.send_json("json")
    ws.cork(lambda ws: ws.send("corked"))
    ws.ping("ping")
    ws.send(b"pong", OpCode.PONG)
    assert ws.sent == ["text", b"bytes", b"text", '{"a":[1]}', '"json"', "corked"]
    assert (ws.pings, ws.pongs) == ([b"ping"], [b"pong"])


def test_p10_a_fake_puts_fragments_together() -> None:
    ws = FakeWebSocket()
    ws.send_first_fragment("é".encode()[:1], OpCode.TEXT)
    assert ws.send("waits") is SendStatus.BACKPRESSURE  # as a real one
    assert ws.ping() is SendStatus.SUCCESS
    with pytest.raises(RuntimeError, match="order"):
        ws.send_first_fragment("x")
    ws.send_fragment("é".encode()[1:])
    assert (ws.sent, ws.pings) == ([], [b""])
    ws.send_last_fragment("!")
    ws.send("a", fin=False)
    with pytest.raises(ValueError, match="not valid UTF-8"):
        ws.send_last_fragment(b"\xff")
    ws.send_last_fragment()
    assert ws.sent == ["é!", "waits", "a"]


def test_p10_a_fake_may_be_slow() -> None:
    ws = FakeWebSocket()
    ws.status, ws.buffered_amount = SendStatus.BACKPRESSURE, 1000
    assert ws.send("queued") is SendStatus.BACKPRESSURE
    assert ws.get_buffered_amount() == 1000
    ws.status = SendStatus.DROPPED
    assert ws.send("lost") is SendStatus.DROPPED
    assert ws.send_first_fragment("part") is SendStatus.DROPPED
    assert (ws.sent, ws.dropped) == (["queued"], ["lost", "part"])


def test_p10_a_fake_records_topics_and_what_is_published() -> None:
    ws = FakeWebSocket()
    assert ws.subscribe("a")
    assert ws.subscribe(b"b")
    assert ws.subscribe("a")
    assert ws.get_topics() == ["a", "b"]
    assert ws.unsubscribe("b")
    assert ws.is_subscribed("a")
    assert not ws.is_subscribed("b")
    assert ws.publish("a", {"x": 1})
    assert not ws.publish("a", b"y", exclude_self=True)
    assert ws.published == [Published("a", '{"x":1}'), ("a", b"y")]
    ws.end()
    assert not ws.publish("a", "late")
    assert not ws.get_topics()


def test_p10_a_fake_has_the_limits_of_its_route() -> None:
    app = App().get("/a", print).ws("/a", {}, max_topics=1, max_topic_length=2)
    ws = FakeWebSocket("/a", pattern="/a", app=app)
    assert ws.app is app
    assert ws.subscribe("xx")
    assert not ws.subscribe("y")
    with pytest.raises(ValueError, match="more than max_topic_length, 2"):
        ws.subscribe("xxx")


@pytest.mark.parametrize("end", ["end", "close", "terminate", "lose", "end bare"])
def test_p10_a_fake_ends_as_a_socket_does(end: str) -> None:
    ws = FakeWebSocket(user_data=5)
    assert (bool(ws), ws.closed, ws.close_info) == (True, False, None)
    calls: Dict[str, Any] = {
        "end": lambda: ws.end(4000, "é" * 100),
        "end bare": lambda: ws.end(0),
        "lose": lambda: ws.lose(1001, "bye"),
    }
    calls.get(end, getattr(ws, end.split()[0]))()
    info = ws.close_info
    assert info is not None
    assert (bool(ws), ws.closed) == (False, True)
    assert repr(ws).endswith(" / closed>")
    wanted: Dict[str, Any] = {
        "end": ((4000, "é" * 61), (4000, ""), True),
        "end bare": ((None, ""), (None, ""), True),
        "lose": ((1001, ""), (1001, "bye"), False),
    }
    assert (info.sent, info.received, info.local) == wanted.get(end, (None, None, True))
    assert info.clean is (end in wanted)
    assert asyncio.run(ws.wait_closed()) is info
    ws.user_data = 6  # as after the close handler
    assert ws.user_data == 5
    ws.end(3000, "again")
    assert ws.close_info is info
    with pytest.raises(ValueError, match="code must be"):
        ws.lose(1004)


def test_p10_a_fake_has_an_opening_handshake() -> None:
    ws = FakeWebSocket(
        "/chat/a%20b?token=1",
        pattern="/chat/:room",
        headers={"Cookie": "sid=7", "X-Who": "me"},
        user_data="user",
        subprotocol="chat",
    )
    assert (ws.path, ws.parameters["room"], ws.query["token"]) == ("/chat/a%20b", "a b", "1")
    assert (ws.request.get_cookie("sid"), ws.request.get_parameter(0)) == ("7", "a b")
    assert ws.headers == {"cookie": "sid=7", "x-who": "me"}
    assert (ws.subprotocol, ws.compression, ws.latency) == ("chat", None, None)
    assert (ws.get_remote_address(), ws.remote_port) == ("127.0.0.1", 50000)
    assert ws.user_data == ws.get_user_data() == "user"
    ws.user_data = "other"
    assert ws.user_data == "other"
    assert FakeWebSocket().id != FakeWebSocket().id
    assert FakeWebSocket().headers == {}
    assert FakeWebSocket().request.get_headers() == {}
    assert len({FakeWebSocket(), FakeWebSocket()}) == 2


@pytest.mark.parametrize(
    "pattern, path",
    [("/a", "/b"), ("/:a", "/"), ("/:a", "/x/y"), ("/a/*", "/a"), ("/:a/b", "/x"), ("/a", "a")],
)
def test_p10_the_path_of_a_fake_matches_its_pattern(pattern: str, path: str) -> None:
    with pytest.raises(ValueError, match=f"the path '{path}' does not match the pattern '"):
        FakeWebSocket(path, pattern=pattern)
    for good, pattern in (("/", "*"), ("/a/", "/a/*"), ("/a/b/c", "/:x/*"), ("/a/b", "/:x/b")):
        FakeWebSocket(good, pattern=pattern)


async def session(ws: WebSocket) -> None:
    first = await ws.recv()
    async for message in ws:
        ws.send([first, message])
        await ws.drained()
    with pytest.raises(ClosedByClient):
        await ws.recv()


def test_p10_a_fake_has_messages_for_a_session() -> None:
    ws = FakeWebSocket(messages=["a", "b", "c"])
    asyncio.run(session(ws))
    assert ws.sent == ['["a","b"]', '["a","c"]']
    assert ws.close_info is not None
    assert (ws.close_info.local, ws.close_info.received) == (False, (1000, ""))


def test_p10_a_fake_that_the_session_ends_has_no_more_messages() -> None:
    async def leave(ws: WebSocket) -> None:
        async for message in ws:
            ws.send(message)
            ws.end(4000)

    ws = FakeWebSocket(messages=["a", "b"])
    asyncio.run(leave(ws))
    assert ws.sent == ["a"]
    assert ws.close_info is not None
    assert ws.close_info.local


def test_p10_a_fake_drains_at_once() -> None:
    ws = FakeWebSocket()
    ws.buffered_amount = 5
    assert asyncio.run(ws.drained())
    assert ws.get_buffered_amount() == 0
    ws.end()
    assert not asyncio.run(ws.drained())


def test_p10_the_tasks_of_a_fake_end_with_it() -> None:
    ws = FakeWebSocket()
    ended: List[str] = []

    async def wait(name: str) -> None:
        try:
            await asyncio.sleep(TIMEOUT)
        finally:
            ended.append(name)

    async def test() -> None:
        task = ws.create_task(wait("first"), name="me")
        assert ws.tasks == [task]
        await asyncio.sleep(0)
        ws.end()
        await asyncio.wait([task])
        assert task.cancelled()
        late = ws.create_task(wait("late"))
        await asyncio.wait([late])
        assert late.cancelled()

    asyncio.run(test())
    assert ended == ["first"]
    with pytest.raises(TypeError, match="coroutine must be a coroutine"):
        ws.create_task(wait)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="no running event loop"):
        ws.create_task(wait("never"))


def test_the_messages_of_a_client_are_texts_and_bytes() -> None:
    assert list(FakeWebSocket(messages=(x for x in ("a", b"b"))).messages) == ["a", b"b"]
    for wrong in ("hello", b"hello", None, 5):
        with pytest.raises(TypeError, match="^messages must be a list of str and bytes, not "):
            FakeWebSocket(messages=wrong)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"^messages must hold only str and bytes, not dict: JSON"):
        FakeWebSocket(messages=[{"text": "hello"}])  # type: ignore[list-item]


def test_p10_fakes_need_no_descriptors_of_their_own() -> None:
    fakes = [FakeWebSocket()]
    before = len(os.listdir("/proc/self/fd"))
    fakes += [FakeWebSocket() for _ in range(20)]
    assert len(os.listdir("/proc/self/fd")) == before
    pid = os.fork()
    if pid == 0:
        os._exit(FakeWebSocket().send("x") is not SendStatus.SUCCESS)
    assert os.waitpid(pid, 0)[1] == 0


def test_p10_a_paused_fake_says_so() -> None:
    ws = FakeWebSocket()
    assert not ws.paused
    ws.pause()
    assert ws.paused
    ws.resume()
    assert not ws.paused
