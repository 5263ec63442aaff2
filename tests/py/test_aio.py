"""Coroutine handlers, and serving inside a loop of asyncio (1.1, 1.3 and 1.4 of the contract)."""

import asyncio
import functools
import gc
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from types import SimpleNamespace
from typing import Any, Callable, Coroutine, Dict, List, Optional, Tuple

import peer
import pytest
from common import ROOT, TIMEOUT
from conftest import Server
from peer import Peer, close_frame, frame, upgraded
from program import Program

from pyws import App, AppOptions, OpCode, Request, Response, SendStatus, WebSocket
from pyws._core import signals as signals_module
from pyws._native import lib

websockets = pytest.importorskip("websockets")

Serve = Callable[..., Server]
PING, PONG = 9, 10


class Oops(Exception):
    pass


class Gate:
    """An asyncio.Event that other threads may set; `entered` counts who came to it."""

    def __init__(self) -> None:
        self.entered = 0
        self.opened = threading.Event()

    def open(self) -> None:
        self.opened.set()

    async def wait(self) -> None:
        self.entered += 1
        while not self.opened.is_set():
            await asyncio.sleep(0.002)


def host_of(app: App) -> Any:
    """The event loop that an app runs in, and its tasks."""
    return app._runtime.host


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """A test that is a coroutine."""

    @functools.wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        asyncio.run(asyncio.wait_for(test(*args, **kwargs), 30))

    return run


async def until(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + TIMEOUT
    while not condition():
        assert time.monotonic() < deadline, "the condition never came true"
        await asyncio.sleep(0.002)


async def in_thread(fn: Callable[..., Any], *args: Any) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, functools.partial(fn, *args))


class Place:
    """Where an app listens: for `serve`, `serving` and `listen`."""

    def __init__(self, app: App) -> None:
        self.port = 0
        app.listen({"host": "127.0.0.1"}, self._listening)

    def _listening(self, place: Any) -> None:
        self.port = place.port

    @property
    def url(self) -> str:
        return f"ws://127.0.0.1:{self.port}"


async def echo(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    await asyncio.sleep(0)
    ws.send(message, opcode)


def texts(client: Peer, count: int) -> List[bytes]:
    return [client.frame().payload for _ in range(count)]


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


# ---- bounds -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings, size, waiting",
    [
        ({"max_pending_messages": 4}, 1, 4),
        ({"max_pending_messages": 1}, 1, 1),
        ({}, 1, 16),
        ({"max_payload_length": 1000}, 600, 2),
        ({"max_payload_length": 1000}, 1000, 1),
    ],
)
def test_the_queue_is_bounded(
    serve: Serve, settings: Dict[str, Any], size: int, waiting: int
) -> None:
    gate = Gate()
    sockets: List[WebSocket] = []
    seen: List[str] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        seen.append(message)
        await gate.wait()

    def waits() -> int:
        """How many wait behind the first one, when no more are read."""
        queue = sockets and gate.entered and sockets[0]._paused and sockets[0]._queue
        return queue.received if queue else 0

    server = serve(open=sockets.append, message=on_message, **settings)
    sent = [str(i % 10) * size for i in range(60)]
    with upgraded(server.port) as client:
        client.send(b"".join(frame(text.encode()) for text in sent))
        peer.eventually(waits)
        before = waits()
        assert before in (waiting - 1, waiting)
        for _ in range(3):  # what the program does does not change that
            server.call(sockets[0].pause)
            server.call(sockets[0].resume)
            time.sleep(0.01)
            assert waits() == before
        gate.open()
        client.send(frame(b"p", PING))
        assert client.frame().opcode == PONG
        peer.eventually(lambda: len(seen) == 60)
    assert seen == sent


@pytest.mark.parametrize("code", [1000, None])
def test_messages_before_a_reset_are_handled(serve: Serve, code: Optional[int]) -> None:
    """The socket is paused, as more messages wait than may, when its peer resets the connection."""
    gate = Gate()
    sockets: List[WebSocket] = []
    seen: List[str] = []
    closed: List[Tuple[int, str]] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        ws.send(message)
        await gate.wait()
        seen.append(message)

    server = serve(
        open=sockets.append,
        message=on_message,
        close=lambda ws, code, reason: closed.append((code, reason)),
    )
    client = upgraded(server.port)
    client.send(
        b"".join(frame(b"%d" % i) for i in range(100)) + (close_frame(code) if code else b"")
    )
    peer.eventually(lambda: sockets and sockets[0]._paused)
    client.reset()
    peer.eventually(lambda: server.call(sockets[0].send, "x") is SendStatus.DROPPED)
    assert not sockets[0].closed
    gate.open()
    peer.eventually(lambda: closed)
    assert seen == [str(i) for i in range(100)]
    assert closed == [(1000, "") if code else (1006, "connection reset by peer")]


def test_a_flood_of_pings_is_bounded_too(serve: Serve) -> None:
    gate = Gate()
    sockets: List[WebSocket] = []
    pings: List[bytes] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        await gate.wait()

    server = serve(
        open=sockets.append, message=on_message, ping=lambda ws, data: pings.append(data)
    )
    with upgraded(server.port) as client:
        client.send(frame(b"x") + b"".join(frame(b"%d" % i, PING) for i in range(100)))
        peer.eventually(lambda: gate.entered and sockets[0]._paused)
        time.sleep(0.05)
        assert sockets[0]._queue and 15 <= len(sockets[0]._queue.events) <= 16
        gate.open()
        peer.eventually(lambda: len(pings) == 100)
    assert pings == [b"%d" % i for i in range(100)]


def test_dropped_and_drain_events_do_not_pile_up(serve: Serve) -> None:
    gate = Gate()
    sockets: List[WebSocket] = []
    counts = {"dropped": 0, "drain": 0}

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        await gate.wait()

    def count(name: str) -> Any:
        def add(*args: Any) -> None:
            counts[name] += 1

        return add

    server = serve(
        open=sockets.append,
        message=on_message,
        dropped=count("dropped"),
        drain=count("drain"),
        max_backpressure=1000,
    )
    size = 8 * 2**20
    with upgraded(server.port, more=frame(b"x")) as client:
        # Else the kernel might learn to hold the second one whole.
        client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
        peer.eventually(lambda: gate.entered)
        for _ in range(2):
            assert server.call(sockets[0].send, bytes(size)) == SendStatus.BACKPRESSURE
            for _ in range(30):
                assert server.call(sockets[0].send, "more") == SendStatus.DROPPED
            assert len(client.frame().payload) == size
            peer.eventually(lambda: server.call(sockets[0].get_buffered_amount) == 0)
        gate.open()
        peer.eventually(lambda: counts == {"dropped": 16, "drain": 1})


def test_the_idle_clock_stands_still_while_the_socket_is_not_read(serve: Serve) -> None:
    gate = Gate()
    closed: List[Any] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        await gate.wait()
        ws.send(message)

    server = serve(
        message=on_message,
        close=lambda ws, code, reason: closed.append((code, reason)),
        idle_timeout=0.3,
        send_pings_automatically=False,
        max_pending_messages=2,
    )
    with upgraded(server.port) as client:
        client.send(b"".join(frame(b"%d" % i) for i in range(5)))
        peer.eventually(lambda: gate.entered)
        time.sleep(0.8)
        assert closed == []
        gate.open()
        assert texts(client, 5) == [b"%d" % i for i in range(5)]
        assert client.at_end()  # now it counts
    peer.eventually(lambda: closed == [(1006, "idle timeout")])


@pytest.mark.parametrize(
    "settings, size",
    [({"max_pending_messages": 8}, 1), ({"max_payload_length": 800}, 100)],
    ids=["messages", "bytes"],
)
def test_reading_goes_on_when_half_of_the_queue_is_left(
    serve: Serve, settings: Dict[str, int], size: int
) -> None:
    """The Ping behind the messages is read then, neither earlier nor later."""
    gate = Gate()
    sockets: List[WebSocket] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        ws.send(message[0])
        await gate.wait()
        for _ in range(20):  # turns of the loop
            await asyncio.sleep(0)

    server = serve(open=sockets.append, message=on_message, **settings)
    with upgraded(server.port, more=frame(b"0")) as client:
        assert client.frame().payload == b"0"
        waiting = b"".join(frame(b"%d" % i * size) for i in range(1, 9))
        client.send(waiting + frame(b"p", PING))
        peer.eventually(lambda: sockets[0]._paused)
        assert sockets[0]._queue and sockets[0]._queue.received == 8
        gate.open()
        assert texts(client, 9) == [b"1", b"2", b"3", b"4", b"p", b"5", b"6", b"7", b"8"]


def test_pause_holds_what_was_received_already(serve: Serve) -> None:
    sockets: List[WebSocket] = []
    seen: List[str] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        await asyncio.sleep(0.01)
        seen.append(message)
        ws.pause()

    server = serve(open=sockets.append, message=on_message)
    with upgraded(server.port) as client:
        client.send(b"".join(frame(b"%d" % i) for i in range(40)))
        for i in range(5):
            peer.eventually(lambda: len(seen) > i)  # noqa: B023
            time.sleep(0.03)
            assert len(seen) == i + 1
            server.call(sockets[0].resume)
        server.call(sockets[0].end)
        assert client.frame().close_code == 1000
    peer.eventually(lambda: sockets[0]._queue is None)
    assert seen == [str(i) for i in range(len(seen))]
    assert len(seen) <= 6


# ---- the end of sockets -------------------------------------------------------------------------


def ending(serve: Serve, **more: Any) -> Tuple[Server, Gate, List[Any], List[WebSocket]]:
    """A server whose first message waits at a gate, and whose close handler is a coroutine."""
    gate = Gate()
    seen: List[Any] = []
    sockets: List[WebSocket] = []

    def on_open(ws: WebSocket) -> None:
        sockets.append(ws)
        ws.user_data = "data"

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        await gate.wait()
        seen.append((message, ws.closed, ws.user_data))

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        await asyncio.sleep(0.01)
        seen.append((code, reason, ws.closed, ws.user_data))

    handlers = {"open": on_open, "message": on_message, "close": on_close, **more}
    server = serve(**{name: handler for name, handler in handlers.items() if handler is not None})
    return server, gate, seen, sockets


@pytest.mark.parametrize("how", ["end", "close"])
def test_s27_messages_that_wait_are_discarded_after_a_local_end(serve: Serve, how: str) -> None:
    server, gate, seen, sockets = ending(serve)
    with upgraded(server.port, more=frame(b"a") + frame(b"b") + frame(b"p", PING)) as client:
        peer.eventually(lambda: sockets and sockets[0]._queue)
        peer.eventually(lambda: gate.entered)
        ws = sockets[0]
        assert server.call(lambda: (getattr(ws, how)(), ws.closed, ws.user_data)[1:]) == (
            True,
            "data",
        )
        assert server.call(ws.send, "late") == SendStatus.DROPPED
        gate.open()
        peer.eventually(lambda: len(seen) == 2)
        client.send(frame(b"c"))
    code = (1000, "") if how == "end" else (1006, "closed by the server")
    assert seen == [("a", True, "data"), (*code, True, "data")]
    peer.eventually(lambda: ws._queue is None)
    assert server.call(ws.get_user_data) is None


def test_s27_messages_before_a_close_of_the_peer_are_delivered(serve: Serve) -> None:
    server, gate, seen, sockets = ending(serve)
    packet = frame(b"a") + frame(b"b") + frame(b"c") + close_frame(4000, b"bye")
    with upgraded(server.port, more=packet) as client:
        assert client.frame().close_code == 4000
        assert server.call(lambda: (sockets[0].closed, sockets[0].user_data)) == (True, "data")
        gate.open()
        peer.eventually(lambda: len(seen) == 4)
    assert seen == [
        ("a", True, "data"),
        ("b", True, "data"),
        ("c", True, "data"),
        (4000, "bye", True, "data"),
    ]
    peer.eventually(lambda: server.call(sockets[0].get_user_data) is None)


def test_user_data_lasts_for_the_queue_without_a_close_handler(serve: Serve) -> None:
    server, gate, seen, sockets = ending(serve, close=None)
    with upgraded(server.port, more=frame(b"a") + frame(b"b") + close_frame(1000)) as client:
        assert client.frame().close_code == 1000
        gate.open()
        peer.eventually(lambda: sockets[0]._queue is None)
    assert seen == [("a", True, "data"), ("b", True, "data")]
    assert server.call(sockets[0].get_user_data) is None


def test_s27_a_plain_close_handler_runs_before_end_returns(serve: Serve) -> None:
    """Unless a coroutine is under way: then it waits, as all events of the socket do."""
    order: List[str] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        ws.end()
        order.append("message ends")

    def end(ws: WebSocket, data: bytes) -> None:
        ws.end()
        order.append("ping ends")

    server = serve(
        message=on_message, ping=end, close=lambda ws, code, reason: order.append("close")
    )
    with upgraded(server.port, more=frame(b"x", PING)) as client:
        assert client.frame().opcode == PONG
        assert client.frame().close_code == 1000
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().close_code == 1000
    peer.eventually(lambda: len(order) == 4)
    assert order == ["close", "ping ends", "message ends", "close"]


@pytest.mark.parametrize("how", ["peer", "end", "close", "reset"])
def test_wait_closed(serve: Serve, how: str) -> None:
    infos: List[Any] = []
    tasks: List[Any] = []

    async def wait(ws: WebSocket) -> None:
        infos.append(await ws.wait_closed())
        assert ws.close_info is infos[-1]

    async def on_open(ws: WebSocket) -> None:
        tasks.extend(asyncio.ensure_future(wait(ws)) for _ in range(2))

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        if how in ("end", "close"):
            getattr(ws, how)()
        await wait(ws)

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        await wait(ws)
        await wait(ws)  # it is over
        infos.append("end")

    server = serve(open=on_open, message=on_message, close=on_close)
    with upgraded(server.port, more=frame(b"x")) as client:
        if how == "peer":
            client.send(close_frame(4000, b"bye"))
        if how in ("peer", "end"):
            code = client.frame().close_code
            time.sleep(0.02)
            assert (len(infos), code) == ((0, 1000) if how == "end" else (len(infos), 4000))
            client.send(close_frame(1000, b"mine"))
    peer.eventually(lambda: len(infos) == 6)
    infos.remove("end")
    info = infos[0]
    assert all(other is info for other in infos)
    assert info.clean is (how in ("peer", "end"))
    received = {"peer": (4000, "bye"), "end": (1000, "mine")}.get(how)
    assert info.received == received
    assert info.local is (how in ("end", "close"))


def test_a_cancelled_wait_closed_does_not_disturb_others(serve: Serve) -> None:
    infos: List[Any] = []

    async def on_message(ws: WebSocket, *args: Any) -> None:
        tasks = [asyncio.ensure_future(ws.wait_closed()) for _ in range(3)]
        await asyncio.sleep(0)
        tasks[1].cancel()
        await asyncio.sleep(0)
        ws.close()
        infos.extend(await asyncio.gather(*tasks, return_exceptions=True))

    server = serve(message=on_message)
    with upgraded(server.port, more=frame(b"x")):
        peer.eventually(lambda: infos)
    assert isinstance(infos.pop(1), asyncio.CancelledError)
    assert infos[0] is infos[1]
    assert infos[0].clean is False


def test_wait_closed_in_another_thread(serve: Serve) -> None:
    sockets: List[WebSocket] = []
    server = serve(open=sockets.append)
    with upgraded(server.port):
        peer.eventually(lambda: sockets)
        with pytest.raises(RuntimeError, match="defer"):
            print(sockets[0].wait_closed())


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
        app.ws("/*", {"message": echo, event: fail}, close_on_error=not keep)

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
        app.ws("/*", handlers)

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


async def accept(res: Response, req: Request, context: Any, user_data: Any = None) -> None:
    await asyncio.sleep(0.001)
    key = req.get_header("sec-websocket-key") or ""
    res.write_header("X-Later", "yes")
    res.upgrade(key, None, None, context, user_data)


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
        assert client.frame().payload == b'["joe", "early"]'


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


# ---- run ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("run", [False, True])
def test_asyncio_is_imported_only_when_needed(run: bool) -> None:
    program = """
import sys
import pyws
app = pyws.App()
app.ws("/*", message=print)
app.get("/", print)
if RUN:
    app.listen({"host": "127.0.0.1"})
    app.call_later(0.01, app.close)
    app.run()
assert "asyncio" not in sys.modules
assert "json" not in sys.modules
""".replace("RUN", str(run))
    # Without PYTHONPATH, by which tests run under another loop (docs/testing.md).
    others = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=str(ROOT), timeout=TIMEOUT, env=others
    )


def test_what_coroutine_handlers_raise_has_no_context(serve: Serve) -> None:
    """Nothing of pyws was being handled when they were called."""
    errors: List[BaseException] = []

    async def fail(*args: Any) -> None:
        await asyncio.sleep(0)
        raise Oops

    def configure(app: App) -> None:
        app.ws("/*", open=fail, message=fail, close=fail, close_on_error=False)
        app.get("/", fail)
        app.on_error(lambda error, source: errors.append(error))

    server = serve(configure)
    with upgraded(server.port, more=frame(b"x") + close_frame(1000)) as client:
        assert client.frame().close_code == 1000
    assert peer.request(server.port, "GET / HTTP/1.1").status == 500
    peer.eventually(lambda: len(errors) == 4)
    assert [(type(error), error.__context__) for error in errors] == [(Oops, None)] * 4


def test_run_inside_of_loops_and_handlers(serve: Serve) -> None:
    errors: List[str] = []

    async def on_message(ws: WebSocket, *args: Any) -> None:
        with pytest.raises(RuntimeError, match="already running") as error:
            server.app.run()
        errors.append(str(error.value))
        with pytest.raises(RuntimeError, match="already running"):
            await server.app.serve()
        with pytest.raises(RuntimeError, match="already running"):
            async with server.app.serving():
                pass
        app = App()
        app.get("/", functools.partial(accept, context=None))
        with pytest.raises(RuntimeError, match=r"await app\.serve\(\)"):
            app.run()
        ws.send("x")

    server = serve(message=on_message)
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().payload == b"x"
        with pytest.raises(RuntimeError, match="already running"):
            server.app.run()
    assert len(errors) == 1


def test_coroutine_handlers_come_before_a_run_without(serve: Serve) -> None:
    server = serve(message=print)
    for register in (
        lambda: server.app.ws("/late", message=echo),
        lambda: server.app.ws("/late", upgrade=accept),
        lambda: server.app.get("/late", functools.partial(accept, context=None)),
    ):
        with pytest.raises(RuntimeError, match="before run"):
            server.call(register)
    assert server.call(lambda: server.app.get("/late", print)) is server.app


def test_what_cannot_be_a_coroutine() -> None:
    app = App()
    for call in (
        lambda: app.defer(echo),
        lambda: app.call_later(1, echo),
        lambda: app.on_error(echo),  # type: ignore[arg-type]
        lambda: app.listen(0, echo),  # type: ignore[arg-type]
    ):
        with pytest.raises(TypeError, match="plain function"):
            call()


def test_run_again_with_coroutines() -> None:
    app = App()
    seen: List[Any] = []
    app.ws("/*", message=echo)
    for i in range(3):
        app.listen({"host": "127.0.0.1"})
        app.call_later(0.01, seen.append, i)
        app.call_later(0.02, app.close)
        app.run()
        with pytest.raises(RuntimeError):
            app.defer(print)
    assert seen == [0, 1, 2]
    assert app._runtime.host is None


def test_an_idle_server_does_nothing(serve: Serve) -> None:
    server = serve(message=echo)
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().payload == b"x"
        time.sleep(0.1)
        before = server.call(server.app.stats)["turns"]
        used = time.process_time()
        time.sleep(0.5)
        used = time.process_time() - used
        assert server.call(server.app.stats)["turns"] - before <= 3
        assert used < 0.25


def test_t70_sockets_leave_nothing_behind(serve: Serve) -> None:
    references: List[Any] = []
    closed = 0

    async def on_open(ws: WebSocket) -> None:
        references.append(weakref.ref(ws))

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        nonlocal closed
        await asyncio.sleep(0)
        closed += 1

    server = serve(open=on_open, message=echo, close=on_close)
    for i in range(1000):
        with upgraded(server.port, more=frame(b"x")) as client:
            assert client.frame().payload == b"x"
            if i % 2:
                client.send(close_frame(1000))
                assert client.frame().opcode == 8
    peer.eventually(lambda: closed == 1000)

    def left() -> Tuple[int, int, int]:
        gc.collect()
        host = host_of(server.app)
        assert host is not None
        living = sum(reference() is not None for reference in references)
        return len(asyncio.all_tasks()), len(host.tasks), living

    peer.eventually(lambda: server.call(left) == (1, 0, 0))


def test_a_flood_does_not_starve_other_tasks() -> None:
    """A socket's share of a turn is twice 1024 messages; tasks run between any two turns."""
    between = 0
    most = 0
    total = 0

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        nonlocal between, total
        between += 1
        total += 1

    @in_loop
    async def serve() -> None:
        nonlocal between, most
        app = App()
        app.ws("/*", message=on_message)
        place = Place(app)
        async with app.serving():
            flood = frame(b"x") * 50_000
            client = await in_thread(upgraded, place.port)
            sending = asyncio.ensure_future(in_thread(client.send, flood))
            while total < 50_000:
                most = max(most, between)
                between = 0
                await asyncio.sleep(0)
            await sending
            client.__exit__()

    serve()
    assert 0 < most <= 2048


def test_other_tasks_use_the_app(serve: Serve) -> None:
    """Calls between turns take effect at once, though the loop sleeps."""
    seen: List[Any] = []

    async def work(ws: WebSocket) -> None:
        app = server.app
        ws.subscribe("t")
        await asyncio.sleep(0.05)
        app.publish("t", "published")
        await asyncio.sleep(0.05)
        ws.send("sent")
        await asyncio.sleep(0.05)
        app.call_later(0.05, seen.append, "later")
        app.defer(seen.append, "deferred")
        await until(lambda: len(seen) == 2)
        ws.pause()
        ws.resume()
        ws.end(4000)
        await ws.wait_closed()
        app.close()

    def on_open(ws: WebSocket) -> None:
        seen.clear()
        tasks.append(asyncio.ensure_future(work(ws)))

    tasks: List[Any] = []
    server = serve(open=on_open, message=echo)
    with upgraded(server.port) as client:
        assert texts(client, 2) == [b"published", b"sent"]
        assert client.frame().close_code == 4000
        client.send(close_frame(1000))
    server.join()
    assert seen == ["deferred", "later"]


# ---- shutdown -----------------------------------------------------------------------------------


def test_shutdown_waits_for_handlers(serve: Serve) -> None:
    server, gate, seen, _ = ending(serve)
    with upgraded(server.port, more=frame(b"a") + frame(b"b")) as client:
        peer.eventually(lambda: gate.entered)
        server.app.defer(server.app.close, 1001, "bye", 10)
        assert client.frame().close_code == 1001
        client.send(close_frame(1001))
        assert client.at_end()
    time.sleep(0.05)
    assert server.thread.is_alive()
    gate.open()
    server.join()
    assert seen == [("a", True, "data"), (1001, "bye", True, "data")]


def test_shutdown_cancels_handlers_at_the_end_of_its_time(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    seen: List[Any] = []
    forever = 3600

    async def on_message(ws: WebSocket, *args: Any) -> None:
        try:
            await asyncio.sleep(forever)
        finally:
            seen.append("message")

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        seen.append(code)
        try:
            if ws.path == "/stays":
                await asyncio.sleep(forever)
        finally:
            seen.append("close")

    async def hang(res: Response, req: Request) -> None:
        try:
            await asyncio.sleep(forever)
        finally:
            seen.append("http")

    def configure(app: App) -> None:
        app.ws("/*", message=on_message, close=on_close)
        app.get("/", hang)

    server = serve(configure)
    with Peer(server.port) as waiting, upgraded(server.port, "/stays") as client:
        waiting.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        client.send(frame(b"x") + frame(b"y"))
        peer.eventually(lambda: host_of(server.app) and len(host_of(server.app).tasks) == 2)
        server.app.defer(server.app.close, 1001, "bye", 0.1)
        assert client.frame().close_code == 1001
        assert waiting.response().status == 503
        server.join()
    assert sorted(map(str, seen)) == ["1001", "close", "http", "message"]
    assert server.error is None
    assert not [record for record in caplog.records if record.name == "pyws"]


@pytest.mark.parametrize("limits", [(3600.0, 0.05), (0.05, 3600.0)], ids=["second", "first"])
def test_the_shorter_of_two_times_to_shut_down_holds(
    serve: Serve, limits: Tuple[float, float]
) -> None:
    seen: List[str] = []

    async def hang(ws: WebSocket, *args: Any) -> None:
        try:
            seen.append("hangs")
            await asyncio.sleep(3600)
        finally:
            seen.append("cancelled")

    server = serve(message=hang)
    with upgraded(server.port, more=frame(b"x")) as client:
        peer.eventually(lambda: seen)
        for limit in limits:
            server.call(server.app.close, 1001, "bye", limit)
        assert client.frame().close_code == 1001
        client.send(close_frame(1001))
        server.join()
    assert seen == ["hangs", "cancelled"]


PROGRAM = """
import asyncio, signal, sys, time
from pyws import App
from pyws._core.signals import watching
app = App()
async def on_message(ws, message, opcode):
    print(message, flush=True)
    try:
        if message == "sleep":
            await asyncio.sleep(30)
        elif message == "block":
            while not watching[-1].noted:
                time.sleep(0.01)
            print("noted", flush=True)
            time.sleep(30)
        elif message == "usr1":
            def on_usr1():
                print("signal", flush=True)
            asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, on_usr1)
            ws.send("ready")
    except asyncio.CancelledError:
        print("cancelled", flush=True)
        raise
async def on_close(ws, code, reason):
    await asyncio.sleep(0.01)
    print("close", code, reason, flush=True)
app.ws("/*", message=on_message, close=on_close)
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
app.listen({"host": "127.0.0.1"}, lambda place: print(place.port, flush=True))
try:
    print("returned", app.run(), flush=True)
finally:
    after = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    print(before == after, signal.set_wakeup_fd(-1), flush=True)
"""


@pytest.fixture
def program() -> Any:
    with Program("-c", PROGRAM) as program:
        yield program


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_t87_first_signal_shuts_down_gracefully(program: Program, number: int) -> None:
    with upgraded(int(program.line()), more=frame(b"hello")) as client:
        assert program.line() == "hello"
        program.process.send_signal(number)
        assert client.frame().close_code == 1001
        client.send(close_frame(1001))
        assert client.at_end()
    assert program.wait() == 0
    assert program.rest() == "close 1001 server shutting down\nreturned None\nTrue -1\n"
    assert program.error_text() == ""


@pytest.mark.parametrize("what", ["sleep", "block", "nothing"])
def test_t72_second_sigint_drops_everything(program: Program, what: str) -> None:
    with upgraded(int(program.line()), more=frame(what.encode())) as client:
        assert program.line() == what
        program.process.send_signal(signal.SIGINT)
        if what == "block":
            assert program.line() == "noted"  # two signals at once count as one
        else:
            assert client.frame().close_code == 1001
        program.process.send_signal(signal.SIGINT)
        assert program.wait() in (-signal.SIGINT, 130)
    lines = program.rest().splitlines()
    assert ("cancelled" in lines) is (what == "sleep")
    assert lines[-2:] == ["close 1001 server shutting down", "True -1"]
    assert program.error_text().endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize(
    "module", ["asyncio.base_events", "selectors", "pyws._core.aio", "asyncio_x"]
)
def test_the_second_sigint_interrupts_only_the_program(module: str) -> None:
    """An exception in the midst of the loop would be lost, or end it."""
    frame: Any = SimpleNamespace(f_globals={"__name__": module})
    assert signals_module._is_ours(frame) is (module != "asyncio_x")


def test_signals_when_the_program_has_handlers_of_its_own(program: Program) -> None:
    """add_signal_handler of asyncio takes the descriptor that wakes the loop."""
    with upgraded(int(program.line()), more=frame(b"usr1")) as client:
        assert client.frame().payload == b"ready"
        assert program.line() == "usr1"
        program.process.send_signal(signal.SIGUSR1)
        assert program.line() == "signal"
        program.process.send_signal(signal.SIGTERM)
        assert client.frame().close_code == 1001
        client.send(close_frame(1001))
    assert program.wait() == 0
    assert program.error_text() == ""


# ---- inside another loop ------------------------------------------------------------------------


def echoing(**more: Any) -> Tuple[App, List[Any]]:
    app = App()
    closed: List[Any] = []

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        await asyncio.sleep(0)
        closed.append(code)

    app.ws("/*", {"message": echo, "close": on_close, "close_timeout": 0.2, **more})
    return app, closed


@in_loop
async def test_serving() -> None:
    app, closed = echoing()
    watched = lib.ws_server_fd(app._runtime.server)
    for _ in range(2):
        place = Place(app)
        async with app.serving() as same:
            assert same is app
            async with websockets.connect(place.url) as client:
                await client.send("hello")
                assert await client.recv() == "hello"
                leaving = asyncio.ensure_future(client.wait_closed())
                before = len(asyncio.all_tasks())
                await client.send(b"data")
                assert await client.recv() == b"data"
                assert len(asyncio.all_tasks()) == before
                leaving.cancel()
            client = await websockets.connect(place.url)
        await client.wait_closed()
        assert not app._runtime.is_busy
        assert app._runtime.host is None
        assert not asyncio.get_running_loop().remove_reader(watched)  # it was no more
        with pytest.raises(OSError):
            await asyncio.open_connection("127.0.0.1", place.port)
    assert closed == [1000, 1001] * 2


@in_loop
async def test_serving_listens() -> None:
    app, _ = echoing()
    async with app.serving({"host": "127.0.0.1"}):
        assert app.stats()["connections"] == 0
        with pytest.raises(RuntimeError, match="already running"):
            async with app.serving():
                pass
    other = App()
    place = Place(other)
    with pytest.raises(OSError):
        async with app.serving({"host": "127.0.0.1", "port": place.port}):
            pass
    with pytest.raises(TypeError):
        await app.serve("here")  # type: ignore[arg-type]
    assert not app._runtime.is_busy
    async with app.serving({"host": "127.0.0.1"}):
        pass


@in_loop
async def test_serving_when_the_block_fails_or_the_app_ends() -> None:
    app, closed = echoing()
    place = Place(app)
    with pytest.raises(Oops):
        async with app.serving():
            client = await websockets.connect(place.url)
            raise Oops
    await client.wait_closed()
    assert closed == [1001]
    async with app.serving({"host": "127.0.0.1"}):
        app.close()
        await until(lambda: not app._runtime.is_busy)
        with app:
            pass  # it is freed, and the end of the block asks nothing of it


@in_loop
async def test_serve_until_close() -> None:
    app, closed = echoing()
    place = Place(app)

    async def use() -> None:
        client = await websockets.connect(place.url)
        await client.send("hello")
        assert await client.recv() == "hello"
        app.close(4000)
        await client.wait_closed()

    await asyncio.gather(app.serve(), use())
    assert closed == [4000]
    assert not app._runtime.is_busy


@in_loop
async def test_serve_when_cancelled_shuts_down_gracefully() -> None:
    app, closed = echoing(close_timeout=10)
    place = Place(app)
    task = asyncio.ensure_future(app.serve())
    client = await in_thread(upgraded, place.port)
    task.cancel()
    received = await in_thread(client.frame)
    assert received == (True, 8, b"\x03\xe9server shutting down")
    await asyncio.sleep(0.02)
    assert not task.done()  # until the client answers
    client.send(close_frame(1001))
    client.__exit__()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert closed == [1001]
    assert not app._runtime.is_busy


@in_loop
async def test_serve_when_cancelled_twice_drops_everything() -> None:
    gate = Gate()

    async def hang(ws: WebSocket, *args: Any) -> None:
        await gate.wait()

    app, closed = echoing(message=hang)
    place = Place(app)
    task = asyncio.ensure_future(app.serve())
    client = await in_thread(functools.partial(upgraded, place.port, more=frame(b"x")))
    await until(lambda: gate.entered)
    task.cancel()
    await until(lambda: host_of(app) and host_of(app).stops)
    started = time.monotonic()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert time.monotonic() - started < 4  # otherwise it takes 5 seconds
    assert closed == [1001]
    client.__exit__()


def test_a_loop_that_ends_shuts_down_gracefully(caplog: pytest.LogCaptureFixture) -> None:
    """All tasks are cancelled at once, as asyncio.run does it at its end."""
    app, closed = echoing(message=hanging)
    place = Place(app)
    clients: List[Peer] = []

    async def main() -> None:
        main.task = asyncio.ensure_future(app.serve())  # type: ignore[attr-defined]
        for _ in range(5):
            packet = frame(b"x") * 3
            clients.append(await in_thread(functools.partial(upgraded, place.port, more=packet)))
        await until(lambda: host_of(app) and len(host_of(app).tasks) == 5)

    started = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - started < 4  # nothing had to be waited for
    assert closed == [1001] * 5
    assert not app._runtime.is_busy
    assert not [record for record in caplog.records if record.name == "pyws"]
    for client in clients:
        client.__exit__()


async def hanging(ws: WebSocket, *args: Any) -> None:
    await asyncio.sleep(3600)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, BaseException])
@pytest.mark.parametrize("plain", [False, True])
def test_t72_base_exceptions_come_out_of_serve(kind: Any, plain: bool) -> None:
    def fail(ws: WebSocket, *args: Any) -> None:
        raise kind("leaving")

    async def fail_later(ws: WebSocket, *args: Any) -> None:
        fail(ws)

    app, closed = echoing(message=fail if plain else fail_later)
    place = Place(app)

    async def main() -> None:
        client = in_thread(functools.partial(upgraded, place.port, more=frame(b"x")))
        task = asyncio.ensure_future(client)
        try:
            await app.serve()
        finally:
            (await task).__exit__()

    with pytest.raises(kind, match="leaving"):
        asyncio.run(main())
    assert closed == [1001]
    assert not app._runtime.is_busy


@in_loop
async def test_two_apps_in_one_loop() -> None:
    apps = [echoing()[0] for _ in range(2)]
    places = [Place(app) for app in apps]
    async with apps[0].serving(), apps[1].serving():
        for place in places:
            async with websockets.connect(place.url) as client:
                await client.send("x")
                assert await client.recv() == "x"


@in_loop
async def test_many_clients_in_the_same_loop() -> None:
    app, closed = echoing()
    place = Place(app)

    async def use(number: int) -> None:
        async with websockets.connect(place.url) as client:
            for i in range(20):
                await client.send(f"{number} {i}")
                assert await client.recv() == f"{number} {i}"

    async with app.serving():
        await asyncio.gather(*map(use, range(50)))
    assert closed == [1000] * 50


def test_handlers_without_a_loop(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The loop has failed, and the server is freed: nothing can await handlers any more."""
    sockets: List[WebSocket] = []

    def on_open(ws: WebSocket) -> None:
        sockets.append(ws)
        ws.user_data = "data"
        app.call_later(0.01, print)  # there will be another turn

    app, closed = echoing(open=on_open)
    place = Place(app)
    step = lib.ws_server_step

    def fail(server: int, timeout: int) -> int:
        if sockets:
            raise OSError(5, "no loop")
        return int(step(server, timeout))

    monkeypatch.setattr(lib, "ws_server_step", fail)
    client = Peer(place.port)
    client.send(peer.handshake())
    with pytest.raises(OSError, match="no loop"):
        app.run()
    assert not app._runtime.is_busy
    with app:
        assert sockets[0].user_data == "data"
    assert closed == []
    assert sockets[0].closed
    assert sockets[0]._user_data is None
    assert "no event loop runs" in caplog.text
    client.__exit__()


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


# ---- a loop that was closed under an app --------------------------------------------------------


def lost_app(**handlers: Any) -> Tuple[App, int, Peer, Any]:
    """An App with one socket, whose loop was closed while it served; the task is still there."""
    opened: List[WebSocket] = []
    app = App()
    app.ws("/*", open=opened.append, **handlers)
    place = Place(app)
    client = Peer(place.port)
    client.send(peer.handshake() + frame(b"x"))

    async def wait() -> None:
        while not opened:
            await asyncio.sleep(0.01)
        await asyncio.sleep(0.02)

    loop = asyncio.new_event_loop()
    task = loop.create_task(app.serve())
    loop.run_until_complete(asyncio.wait_for(wait(), TIMEOUT))
    loop.close()
    task._log_destroy_pending = False  # type: ignore[attr-defined]
    assert client.response().status == 101
    return app, place.port, client, task


def test_an_app_whose_loop_was_closed_can_be_freed(caplog: pytest.LogCaptureFixture) -> None:
    closed: List[Any] = []
    app, _, client, task = lost_app(close=lambda ws, code, reason: closed.append(code))
    with client, app:
        pass
    assert closed == [1006] or closed == [1001]
    assert "the asyncio loop was closed while the app ran in it" in caplog.text
    assert not task.done()


@pytest.mark.parametrize("how", ["run", "serve"])
def test_an_app_whose_loop_was_closed_can_run_again(how: str) -> None:
    """Also while a handler waits, and when its old task ends late."""
    gate: List[int] = []

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        gate.append(1)
        if len(gate) == 1:
            await asyncio.sleep(1000)
        ws.send(message)

    app, port, client, task = lost_app(message=on_message, close=lambda ws, code, reason: None)
    assert gate == [1]
    app.close()
    assert client.frame().close_code == 1001
    assert client.at_end()
    with pytest.raises(RuntimeError, match="listens nowhere"):
        app.run()
    port = Place(app).port

    async def talk() -> None:
        nonlocal task
        task = None
        gc.collect()  # the coroutine of before ends now
        async with websockets.connect(f"ws://127.0.0.1:{port}") as other:
            await other.send("hello")
            assert await other.recv() == "hello"

    if how == "serve":

        async def main() -> None:
            async with app.serving():
                await talk()

        asyncio.run(main())
    else:
        done: List[Any] = []

        def talk_and_close() -> None:
            try:
                asyncio.run(talk())
            except BaseException as error:
                done.append(error)
            app.defer(app.close)

        thread = threading.Thread(target=talk_and_close)
        thread.start()
        app.run()
        thread.join()
        assert not done
    client.socket.close()


def test_what_an_app_gets_after_its_loop_was_closed_is_for_the_next_run() -> None:
    """It need not be told that it is over by `close` or `run` first."""
    app, old_port, client, task = lost_app(close=lambda ws, code, reason: None)
    later: List[int] = []
    app.call_later(0, later.append, 1)
    port = Place(app).port
    assert app.port == port != old_port
    app.call_later(0, app.close)
    app.run()
    assert later == [1]
    assert not task.done()
    client.socket.close()


def test_an_app_whose_loop_was_closed_is_freed_at_exit() -> None:
    program = """
import asyncio
from pyws import App
app = App()
app.ws("/", {})
loop = asyncio.new_event_loop()
task = loop.create_task(app.serve({"host": "127.0.0.1"}))
loop.run_until_complete(asyncio.sleep(0.01))
loop.close()
task._log_destroy_pending = False
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=str(ROOT),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert "the asyncio loop was closed while the app ran in it" in done.stderr
    assert "Traceback" not in done.stderr
