# SPDX-License-Identifier: MIT
"""Coroutine handlers: the order of events, what a handler that raises does, and requests."""

import asyncio
import functools
import signal
import socket
import sys
import threading
from typing import Any, Dict, List

import peer
import pytest
from common import ROOT, TIMEOUT, plain_only
from coroutines import PING, PONG, Gate, Place, Serve, accept, echo, echoing, texts
from handlers import Oops
from peer import Peer, close_frame, frame, upgraded
from program import Program

from pyws import App, AppOptions, OpCode, Request, Response, SendStatus, WebSocket

# ---- events of sockets --------------------------------------------------------------------------


class AsyncCallable:
    async def __call__(self, ws: WebSocket, message: Any, opcode: OpCode) -> None:
        await echo(ws, message, opcode)

    async def method(self, ws: WebSocket, message: Any, opcode: OpCode) -> None:
        await echo(ws, message, opcode)


async def echo_with(what: Any, ws: WebSocket, message: Any, opcode: OpCode) -> None:
    assert what == 1
    await echo(ws, message, opcode)


@pytest.mark.parametrize(
    "handler",
    [
        echo,
        functools.partial(echo_with, 1),
        functools.partial(functools.partial(echo_with), 1),
        AsyncCallable(),
        AsyncCallable().method,
        functools.partial(AsyncCallable()),
    ],
)
def test_what_is_a_coroutine_handler(serve: Serve, handler: Any) -> None:
    server = serve(message=handler)
    with upgraded(server.port, more=frame(b"a") + frame(b"b", 2)) as client:
        assert [client.frame()[1:] for _ in range(2)] == [(1, b"a"), (2, b"b")]


def test_every_handler_may_be_a_coroutine(serve: Serve) -> None:
    seen: List[Any] = []

    def handler(name: str) -> Any:
        async def note(ws: WebSocket, *args: Any) -> None:
            await asyncio.sleep(0.001)
            seen.append((name, *args))
            if name == "open":
                ws.subscribe("t")

        return note

    names = ("open", "message", "ping", "pong", "subscription", "close")
    server = serve({name: handler(name) for name in names})
    with upgraded(server.port) as client:
        peer.eventually(lambda: len(seen) == 2)
        client.send(frame(b"m") + frame(b"p", PING) + frame(b"q", PONG))
        assert client.frame() == (True, PONG, b"p")
        peer.eventually(lambda: len(seen) == 5)
        client.send(close_frame(4000, b"bye"))
        assert client.frame().close_code == 4000
    peer.eventually(lambda: seen and seen[-1][0] == "close")
    assert seen == [
        ("open",),
        ("subscription", "t", 1, 0),
        ("message", "m", OpCode.TEXT),
        ("ping", b"p"),
        ("pong", b"q"),
        ("subscription", "t", 0, 1),
        ("close", 4000, "bye"),
    ]


def test_drain_and_dropped_as_coroutines(serve: Serve) -> None:
    seen: List[Any] = []
    size = 8 * 2**20

    async def on_open(ws: WebSocket) -> None:
        assert ws.send(bytes(size)) == SendStatus.BACKPRESSURE  # the kernel took some of it
        assert ws.send("too much") == SendStatus.DROPPED
        await asyncio.sleep(0)
        seen.append("opened")

    async def dropped(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        seen.append(("dropped", message, opcode))

    async def drain(ws: WebSocket) -> None:
        seen.append("drain")
        ws.send("now")

    server = serve(open=on_open, dropped=dropped, drain=drain, max_backpressure=1000)
    with upgraded(server.port) as client:
        peer.eventually(lambda: len(seen) == 2)
        assert len(client.frame().payload) == size
        assert client.frame().payload == b"now"
    assert seen == ["opened", ("dropped", "too much", OpCode.TEXT), "drain"]


def test_events_of_a_socket_in_order_and_sockets_side_by_side(serve: Serve) -> None:
    gate = Gate()
    under_way: Dict[WebSocket, int] = {}
    most = 0

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        nonlocal most
        under_way[ws] = under_way.get(ws, 0) + 1
        assert under_way[ws] == 1
        most = max(most, sum(under_way.values()))
        if message == "wait":
            await gate.wait()
        await asyncio.sleep(0.001 if message.endswith("7") else 0)
        under_way[ws] -= 1
        ws.send(message)

    server = serve(message=on_message)
    numbers = [b"%d" % i for i in range(200)]
    with upgraded(server.port) as slow, upgraded(server.port) as fast:
        slow.send(frame(b"wait") + b"".join(map(frame, numbers)))
        peer.eventually(lambda: gate.entered)
        fast.send(b"".join(map(frame, numbers)))
        assert texts(fast, 200) == numbers
        gate.open()
        assert texts(slow, 201) == [b"wait", *numbers]
    assert most == 2


def test_plain_functions_wait_behind_coroutines(serve: Serve) -> None:
    """While a coroutine of a socket is under way all events of it wait, else functions run now."""
    seen: List[str] = []
    gate = Gate()

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        seen.append("message begins")
        await gate.wait()
        ws.send("x")
        seen.append("message ends")

    server = serve(
        open=lambda ws: seen.append(f"open {ws._queue}"),
        message=on_message,
        ping=lambda ws, data: seen.append("ping"),
        close=lambda ws, code, reason: seen.append(f"close {code}"),
    )
    with upgraded(server.port) as client:
        client.send(frame(b"x") + frame(b"p", PING) + close_frame(1000))
        assert client.frame().opcode == PONG
        assert client.frame().close_code == 1000
        peer.eventually(lambda: gate.entered)
        assert seen == ["open None", "message begins"]
        gate.open()
    peer.eventually(lambda: len(seen) == 5)
    assert seen == ["open None", "message begins", "message ends", "ping", "close 1000"]


def segments(client: Peer) -> int:
    """How many pieces of data it has received: tcpi_data_segs_in of the kernel."""
    info = client.socket.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return int.from_bytes(info[152:156], sys.byteorder)


@plain_only("it counts segments of TCP")
def test_what_a_coroutine_sends_between_two_awaits_is_corked(serve: Serve) -> None:
    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        for _ in range(2):
            for _ in range(20):
                ws.send("abc")
            await asyncio.sleep(0)
        ws.send("last")
        ws.end(1000)

    server = serve(message=on_message)
    with upgraded(server.port, more=frame(b"x")) as client:
        assert texts(client, 41) == [b"abc"] * 40 + [b"last"]
        assert client.frame().close_code == 1000
        assert segments(client) <= 4, "the 101, two times twenty messages, the last one"


# ---- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("event", ["open", "message", "ping", "close"])
@pytest.mark.parametrize("keep", [False, True])
def test_t71_a_coroutine_that_raises(
    serve: Serve, caplog: pytest.LogCaptureFixture, event: str, keep: bool
) -> None:
    errors: List[Any] = []

    async def fail(ws: WebSocket, *args: Any) -> None:
        await asyncio.sleep(0)
        raise Oops(event)

    def configure(app: App) -> None:
        app.on_error(lambda error, source: errors.append((error, source)))
        app.ws("/*", {"message": echo, event: fail}, close_on_error=not keep)  # type: ignore[arg-type]

    server = serve(configure)
    with upgraded(server.port, more=frame(b"a", PING if event == "ping" else 1)) as client:
        if event == "ping":
            assert client.frame().opcode == PONG
        if event == "close" or keep:
            if event in ("open", "close"):
                assert texts(client, 1) == [b"a"]
            client.send(close_frame(1000))
            assert client.frame().close_code == 1000
        else:
            assert client.frame() == (True, 8, b"\x03\xf3the %b handler failed" % event.encode())
        peer.eventually(lambda: errors)
    ((error, source),) = errors
    assert type(error) is Oops
    assert isinstance(source, WebSocket)
    assert f"exception in the {event} handler" in caplog.text
    assert "test_aio.py" in caplog.text  # the traceback


def test_a_coroutine_that_is_cancelled_has_failed(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def on_message(ws: WebSocket, *args: Any) -> None:
        other = asyncio.ensure_future(asyncio.sleep(100))
        other.cancel()
        await other

    server = serve(message=on_message)
    with upgraded(server.port, more=frame(b"a")) as client:
        assert client.frame().close_code == 1011
        with upgraded(server.port):
            pass
    assert "exception in the message handler" in caplog.text
    assert "CancelledError" in caplog.text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, BaseException])
@pytest.mark.parametrize("event", ["open", "message", "close", "upgrade", "http", "task"])
def test_t72_base_exceptions_come_out_of_run(serve: Serve, kind: Any, event: str) -> None:
    if kind is BaseException and event == "task":
        pytest.skip("asyncio keeps it in the task")
    closed: List[int] = []

    async def leave(*args: Any) -> None:
        await asyncio.sleep(0)
        raise kind("leaving")

    async def start(ws: WebSocket, *args: Any) -> None:
        start.task = asyncio.ensure_future(leave())  # type: ignore[attr-defined]

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        await asyncio.sleep(0)
        closed.append(code)

    def configure(app: App) -> None:
        app.ws("/other", message=echo, close=on_close)
        app.get("/", leave)
        handlers = {event: leave} if event not in ("http", "task") else {}
        if event == "task":
            handlers["message"] = start
        app.ws("/*", handlers)  # type: ignore[arg-type]

    server = serve(configure)
    with upgraded(server.port, "/other") as other, Peer(server.port) as client:
        if event == "http":
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        else:
            client.send(peer.handshake() + frame(b"x") + close_frame(1000))
        assert other.frame().close_code == 1001
        other.send(close_frame(1001))
    server.join()
    assert type(server.error) is kind
    assert str(server.error) == "leaving"
    assert closed == [1001]


# ---- requests -----------------------------------------------------------------------------------


def test_upgrade_as_a_coroutine(serve: Serve) -> None:
    async def upgrade(res: Response, req: Request, context: Any) -> None:
        await accept(res, req, context, req.get_query("name"))

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        ws.send([ws.user_data, message])

    server = serve(upgrade=upgrade, message=on_message)
    with Peer(server.port) as client:
        client.send(peer.handshake("/?name=joe") + frame(b"early"))  # kept meanwhile
        response = client.response()
        assert (response.status, response.headers["x-later"]) == (101, "yes")
        assert client.frame().payload == b'["joe","early"]'


def test_http_handlers_as_coroutines(serve: Serve) -> None:
    async def hello(res: Response, req: Request) -> None:
        await asyncio.sleep(0.001)
        res.end("hello " + str(req.get_parameter("name")))

    def configure(app: App) -> None:
        app.get("/hello/:name", hello)
        app.any("/now", functools.partial(hello))
        app.post("/plain", lambda res, req: res.end("plain"))

    server = serve(configure)
    with Peer(server.port) as client:  # answers in the order of the requests
        for line in (b"GET /hello/joe", b"PUT /now", b"POST /plain", b"GET /hello/eve"):
            client.send(line + b" HTTP/1.1\r\nHost: h\r\nContent-Length: 0\r\n\r\n")
        bodies = [client.response().body for _ in range(4)]
    assert bodies == [b"hello joe", b"hello None", b"plain", b"hello eve"]


@pytest.mark.parametrize("upgrade", [False, True])
@pytest.mark.parametrize("how", ["silent", "raises", "cancelled"])
def test_t71_requests_without_an_answer_get_500(
    serve: Serve, caplog: pytest.LogCaptureFixture, upgrade: bool, how: str
) -> None:
    errors: List[Any] = []

    async def handler(res: Response, req: Request, *context: Any) -> None:
        res.write_header("X-Lost", "1")
        await asyncio.sleep(0)
        if how == "raises":
            raise Oops("no")
        if how == "cancelled":
            raise asyncio.CancelledError

    def configure(app: App) -> None:
        app.on_error(lambda error, source: errors.append(type(source)))
        app.ws("/*", upgrade=handler)
        app.get("/*", handler)

    server = serve(configure)
    with Peer(server.port) as client:
        client.send(peer.handshake() if upgrade else b"GET /x HTTP/1.1\r\nHost: h\r\n\r\n")
        response = client.response()
        assert response.status == 500
        assert "x-lost" not in response.headers
    peer.eventually(lambda: len(errors) == (how != "silent"))
    what = "the upgrade handler" if upgrade else "the handler"
    what = "did not answer" if how == "silent" else f"exception in {what} of /*"
    assert what in caplog.text


def test_raising_after_a_later_upgrade_closes_with_1011(serve: Serve) -> None:
    async def upgrade(res: Response, req: Request, context: Any) -> None:
        await accept(res, req, context)
        raise Oops("late")

    server = serve(upgrade=upgrade)
    with upgraded(server.port) as client:
        assert client.frame() == (True, 8, b"\x03\xf3the upgrade handler failed")


def test_upgrade_timeout_of_a_coroutine(serve: Serve) -> None:
    gate = Gate()
    seen: List[Any] = []

    async def upgrade(res: Response, req: Request, context: Any) -> None:
        res.on_aborted(lambda res: seen.append(("aborted", res.aborted)))
        await gate.wait()
        seen.append((res.aborted, res.has_responded, req.get_header("host"), req.get_url()))
        await accept(res, req, context)  # nothing happens
        seen.append("end")

    server = serve(upgrade=upgrade, app_options=AppOptions(upgrade_timeout=0.1))
    with Peer(server.port) as client:
        client.send(peer.handshake("/path"))
        assert client.response().status == 503
        assert seen == [("aborted", True)]
        gate.open()
        peer.eventually(lambda: len(seen) == 3)
    assert seen[1:] == [(True, False, "localhost", "/path"), "end"]


def test_a_client_that_leaves_before_the_answer(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    seen: List[Any] = []

    async def handler(res: Response, req: Request) -> None:
        await gate.wait()
        seen.append((res.aborted, req.get_query("a"), req.get_method()))
        if req.get_query("a") == "1":
            res.end("nobody is there")

    def configure(app: App) -> None:
        app.get("/", handler)

    server = serve(configure)
    for number in (b"1", b"2"):
        with Peer(server.port) as client:
            client.send(b"GET /?a=" + number + b" HTTP/1.1\r\nHost: h\r\n\r\n")
            peer.eventually(lambda: gate.entered == int(number))  # noqa: B023
    peer.eventually(lambda: server.call(server.app.stats)["connections"] == 0)
    gate.open()
    peer.eventually(lambda: len(seen) == 2)
    assert sorted(seen) == [(True, "1", "GET"), (True, "2", "GET")]
    assert not [record for record in caplog.records if record.name == "pyws"]


def test_a_coroutine_may_leave_the_answer_to_others(serve: Serve) -> None:
    async def handler(res: Response, req: Request) -> None:
        res.on_aborted(lambda res: None)
        asyncio.get_running_loop().call_later(0.02, res.end, "others")

    server = serve(lambda app: app.get("/", handler))
    assert peer.request(server.port, "GET / HTTP/1.1").body == b"others"


# ---- the example --------------------------------------------------------------------------------


def test_a_loop_that_another_thread_goes_on_to_run(caplog: pytest.LogCaptureFixture) -> None:
    """Calls belong to that thread from then on; the log says so, once."""
    app, closed = echoing()
    place = Place(app)
    loop = asyncio.new_event_loop()
    task = loop.create_task(app.serve())
    loop.run_until_complete(asyncio.sleep(0.01))

    def run() -> None:
        loop.run_until_complete(task)

    thread = threading.Thread(target=run)
    thread.start()
    with upgraded(place.port, more=frame(b"a") + frame(b"b")) as client:
        assert texts(client, 2) == [b"a", b"b"]
        with pytest.raises(RuntimeError, match="this call belongs to the thread"):
            app.stats()
        app.defer(app.close)
        assert client.frame().close_code == 1001
        client.send(close_frame(1001))
    thread.join(TIMEOUT)
    loop.close()
    assert closed == [1001]
    assert [record.levelname for record in caplog.records if record.name == "pyws"] == ["WARNING"]


def test_the_example() -> None:
    path = ROOT / "examples" / "py" / "coroutines.py"
    with Program(str(path), "--port", "0") as program:
        beginning, port = program.line().rsplit(":", 1)
        assert beginning == "listening on 127.0.0.1"
        with upgraded(int(port), more=frame(b"one") + frame(b"two")) as client:
            got = texts(client, 5)
            assert [text for text in got if b":" not in text] == [b"one", b"two"]
            assert len(got[0]) == len("12:34:56")
            program.process.send_signal(signal.SIGINT)
            while True:
                received = client.frame()
                if received.opcode == 8:
                    break
            assert received.close_code == 1001
            client.send(close_frame(1001))
        assert program.wait() == 0
        assert program.rest() == program.error_text() == ""
