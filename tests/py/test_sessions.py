# SPDX-License-Identifier: MIT
"""P2: sessions, and the tasks of a socket."""

import asyncio
import gc
import sys
import weakref
from contextvars import ContextVar
from typing import Any, List

import peer
import pytest
from coroutines import PING, PONG, Gate, Serve, texts
from handlers import Oops
from peer import close_frame, frame, upgraded

from pyws import App, ConnectionClosed, OpCode, Request, Response, WebSocket

# ---- messages -----------------------------------------------------------------------------------


async def echo(ws: WebSocket) -> None:
    async for message in ws:
        ws.send(message)


def test_p2_async_for_gets_every_message_and_ends_with_the_socket(serve: Serve) -> None:
    seen: List[Any] = []

    async def session(ws: WebSocket) -> None:
        async for message in ws:
            seen.append(message)
            ws.send(message)
        seen.append(("end", ws.closed, ws.close_info.received))  # type: ignore[union-attr]

    server = serve(lambda app: app.ws("/*", session))
    with upgraded(server.port, more=frame(b"a") + frame(b"b", 2)) as client:
        assert [client.frame()[1:] for _ in range(2)] == [(1, b"a"), (2, b"b")]
        client.send(frame(b"") + frame(b"c"))
        assert texts(client, 2) == [b"", b"c"]
        client.send(frame(b"d") + close_frame(4000, b"bye"))
        assert client.frame().payload == b"d"
        assert client.frame().close_code == 4000
    peer.eventually(lambda: len(seen) == 6)
    assert seen == ["a", b"b", "", "c", "d", ("end", True, (4000, "bye"))]


@pytest.mark.parametrize("sleeps", [False, True])
def test_p2_recv_and_what_a_session_waits_for_between(serve: Serve, sleeps: bool) -> None:
    async def session(ws: WebSocket) -> None:
        first = await ws.recv()
        if sleeps:
            await asyncio.sleep(0.01)
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(ws.recv(), 0.01)
        ws.send(first)
        second = await asyncio.wait_for(ws.recv(), 10)
        third, fourth = await ws.recv(), await ws.recv()
        ws.send([second, third, fourth])

    server = serve(lambda app: app.ws("/*", session))
    with upgraded(server.port, more=frame(b"1")) as client:
        assert client.frame().payload == b"1"
        client.send(frame(b"2") + frame(b"3"))
        client.send(frame(b"4"))
        assert client.frame().payload == b'["2","3","4"]'
        assert client.frame().close_code == 1000


@pytest.mark.parametrize("how", ["at once", "later"])
def test_p2_a_cancel_scope_of_anyio_ends_a_wait_for_a_message(serve: Serve, how: str) -> None:
    anyio = pytest.importorskip("anyio")

    async def session(ws: WebSocket) -> None:
        if how == "later":
            await asyncio.sleep(0)
        with pytest.raises(TimeoutError), anyio.fail_after(0.01):
            await ws.recv()
        ws.send("late")
        ws.send(await ws.recv())

    server = serve(lambda app: app.ws("/*", session))
    with upgraded(server.port) as client:
        assert client.frame().payload == b"late"
        client.send(frame(b"1"))
        assert client.frame().payload == b"1"


def test_p2_a_session_that_returns_ends_the_socket_with_1000(serve: Serve) -> None:
    closed: List[Any] = []

    async def session(ws: WebSocket) -> None:
        ws.send("hello")

    server = serve(
        lambda app: app.ws("/*", session, close=lambda ws, code, reason: closed.append(code))
    )
    with upgraded(server.port) as client:
        assert client.frame().payload == b"hello"
        assert client.frame().close_code == 1000
    peer.eventually(lambda: closed == [1000])


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_p2_a_session_that_raises_ends_the_socket_with_1011(
    serve: Serve, caplog: pytest.LogCaptureFixture, later: bool, keep: bool
) -> None:
    errors: List[Any] = []

    async def session(ws: WebSocket) -> None:
        message = await ws.recv()
        if later:
            await asyncio.sleep(0)
        raise Oops(message)

    def configure(app: App) -> None:
        app.ws("/*", session, close_on_error=not keep)
        app.on_error(lambda error, source: errors.append((type(error), type(source))))

    server = serve(configure)
    with upgraded(server.port, more=frame(b"a") + frame(b"b")) as client:
        assert client.frame() == (True, 8, b"\x03\xf3the session handler failed")
    assert errors == [(Oops, WebSocket)]
    assert "exception in the session handler of /*" in caplog.text
    assert "test_sessions.py" in caplog.text
    assert "_core" not in caplog.text


@pytest.mark.parametrize("how", ["peer", "reset", "end", "close"])
@pytest.mark.parametrize("waits", [True, False])
def test_p2_recv_raises_connection_closed(serve: Serve, how: str, waits: bool) -> None:
    seen: List[Any] = []
    sockets: List[WebSocket] = []
    gate = Gate()

    async def session(ws: WebSocket) -> None:
        sockets.append(ws)
        assert await ws.recv() == "a"
        if not waits:
            await gate.wait()
        try:
            seen.append(await ws.recv())
            seen.append(await ws.recv())
        except ConnectionClosed as error:
            seen.append(error.close_info)
            with pytest.raises(ConnectionClosed, match="CloseInfo"):
                await ws.recv()
            raise

    server = serve(lambda app: app.ws("/*", session))
    client = upgraded(server.port, more=frame(b"a"))
    peer.eventually(lambda: sockets and (waits or gate.entered))
    ws = sockets[0]
    if how == "peer":
        client.send(frame(b"b") + close_frame(4000))
        assert client.frame().close_code == 4000
    elif how == "reset":
        client.reset()
    else:
        if not waits:
            client.send(frame(b"b"))
            peer.eventually(lambda: ws._waits and ws._waits.session.messages)
        server.call(getattr(ws, how))
    peer.eventually(lambda: ws.closed)
    gate.open()
    peer.eventually(lambda: seen and seen[-1] is ws.close_info)
    assert seen[:-1] == (["b"] if how == "peer" else [])  # S27
    client.socket.close()


def test_p2_one_task_at_a_time_may_receive(serve: Serve) -> None:
    async def session(ws: WebSocket) -> None:
        task = asyncio.ensure_future(ws.recv())
        await asyncio.sleep(0)
        with pytest.raises(RuntimeError, match="another task is waiting"):
            await ws.recv()
        with pytest.raises(RuntimeError, match="another task is waiting"):
            async for _ in ws:
                pass
        ws.send("go")
        ws.send(await task)
        ws.send(await ws.recv())

    server = serve(lambda app: app.ws("/*", session))
    with upgraded(server.port) as client:
        assert client.frame().payload == b"go"
        client.send(frame(b"1") + frame(b"2"))
        assert texts(client, 2) == [b"1", b"2"]


def test_p2_who_may_receive(serve: Serve) -> None:
    errors: List[str] = []
    sockets: List[WebSocket] = []

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        try:
            await ws.recv()
        except RuntimeError as error:
            errors.append(str(error))

    async def session(ws: WebSocket) -> None:
        sockets.append(ws)
        await ws.recv()

    def configure(app: App) -> None:
        app.ws("/*", message=on_message)
        app.ws("/session", session)

    server = serve(configure)
    with upgraded(server.port, more=frame(b"a")):
        peer.eventually(lambda: errors)
    assert "only a session receives" in errors[0]
    with upgraded(server.port, "/session"):
        peer.eventually(lambda: sockets)
        with pytest.raises(RuntimeError, match="defer"):
            sockets[0].recv()  # type: ignore[unused-coroutine]


@pytest.mark.parametrize(
    "settings, size, waiting",
    [({"max_pending_messages": 4}, 1, 4), ({}, 1, 16), ({"max_payload_length": 1000}, 600, 2)],
)
def test_p2_while_a_session_does_not_receive_reading_pauses(
    serve: Serve, settings: Any, size: int, waiting: int
) -> None:
    gate = Gate()
    sockets: List[WebSocket] = []
    seen: List[Any] = []

    async def session(ws: WebSocket) -> None:
        sockets.append(ws)
        await gate.wait()
        async for message in ws:
            seen.append(message)
            ws.send(message)

    server = serve(lambda app: app.ws("/*", session, **settings))
    sent = [b"%d" % (i % 10) * size for i in range(60)]
    with upgraded(server.port) as client:
        client.send(b"".join(map(frame, sent)))
        peer.eventually(lambda: sockets and sockets[0]._paused)
        assert len(sockets[0]._waits.session.messages) == waiting  # type: ignore[union-attr]
        gate.open()
        assert texts(client, 60) == sent
        assert not sockets[0]._paused


def test_p2_pings_are_answered_while_a_session_does_not_receive(serve: Serve) -> None:
    gate = Gate()
    pings: List[bytes] = []

    async def session(ws: WebSocket) -> None:
        await gate.wait()
        ws.send(await ws.recv())

    server = serve(lambda app: app.ws("/*", session, ping=lambda ws, data: pings.append(data)))
    with upgraded(server.port, more=frame(b"a") + frame(b"p", PING)) as client:
        assert client.frame() == (True, PONG, b"p")
        for _ in range(30):
            client.send(frame(b"q", PING))
            assert client.frame() == (True, PONG, b"q")
        gate.open()
        assert client.frame().payload == b"a"
    assert pings == [b"p"] + [b"q"] * 30


# ---- with other handlers ------------------------------------------------------------------------


@pytest.mark.parametrize("plain", [True, False])
def test_p2_a_session_begins_after_open_and_beside_other_handlers(
    serve: Serve, plain: bool
) -> None:
    seen: List[Any] = []

    def on_open(ws: WebSocket) -> None:
        ws.subscribe("t")
        ws.user_data = "data"
        seen.append("open")

    async def on_open_later(ws: WebSocket) -> None:
        await asyncio.sleep(0.02)
        on_open(ws)

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        seen.append(("close", code, ws.user_data))

    async def on_ping(ws: WebSocket, data: bytes) -> None:
        await asyncio.sleep(0)
        seen.append(data)

    async def session(ws: WebSocket) -> None:
        seen.append(ws.user_data)
        try:
            async for message in ws:
                seen.append(message)
                ws.publish("t", message)
        finally:
            await asyncio.sleep(0.02)
            seen.append(("session", ws.user_data))

    server = serve(
        lambda app: app.ws(
            "/*",
            session,
            open=on_open if plain else on_open_later,
            ping=on_ping,
            close=on_close,
        )
    )
    with upgraded(server.port, more=frame(b"a") + frame(b"b")) as client:
        assert texts(client, 2) == [b"a", b"b"]
        client.send(frame(b"p", PING))
        assert client.frame().opcode == PONG
        peer.eventually(lambda: seen[-1] == b"p")
        client.send(close_frame(4000))
        assert client.frame().close_code == 4000
    peer.eventually(lambda: len(seen) == 7)
    assert seen == ["open", "data", "a", "b", b"p", ("close", 4000, "data"), ("session", "data")]


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("keep", [False, True])
def test_p2_an_open_handler_that_raises(serve: Serve, later: bool, keep: bool) -> None:
    begun: List[Any] = []

    def on_open(ws: WebSocket) -> None:
        raise Oops

    async def on_open_later(ws: WebSocket) -> None:
        await asyncio.sleep(0)
        raise Oops

    async def session(ws: WebSocket) -> None:
        begun.append(ws)
        ws.send(await ws.recv())

    handler: Any = on_open_later if later else on_open
    server = serve(lambda app: app.ws("/*", session, open=handler, close_on_error=not keep))
    with upgraded(server.port, more=frame(b"a")) as client:
        if keep:
            assert client.frame().payload == b"a"
        assert client.frame().close_code == (1000 if keep else 1011)
    assert len(begun) == keep


def test_p2_message_and_a_session_exclude_each_other() -> None:
    app = App()
    with pytest.raises(TypeError, match="session"):
        app.ws("/*", echo, message=lambda ws, message, opcode: None)


def test_p4_a_session_and_its_tasks_run_in_the_context_of_the_socket(serve: Serve) -> None:
    user: ContextVar[str] = ContextVar("user", default="nobody")
    seen: List[Any] = []

    def upgrade(res: Response, req: Request, context: Any) -> None:
        user.set(req.get_url())
        key = req.get_header("sec-websocket-key") or ""
        res.upgrade(key, None, None, context, None)

    async def work(ws: WebSocket) -> None:
        before = user.get()
        await asyncio.sleep(0)
        user.set("task")
        ws.send(before)

    async def session(ws: WebSocket) -> None:
        async for message in ws:
            ws.send(user.get())
            if message == "sleep":
                await asyncio.sleep(0)
                ws.send(user.get())
                user.set(user.get() + "!")
            if message == "task":
                await ws.create_task(work(ws))
                ws.send(user.get())
        seen.append(user.get())

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        seen.append(user.get())

    server = serve(lambda app: app.ws("/*", session, upgrade=upgrade, close=on_close))
    with upgraded(server.port, "/a") as a, upgraded(server.port, "/b") as b:
        a.send(frame(b"x") + frame(b"sleep") + frame(b"x"))
        b.send(frame(b"x"))
        assert texts(a, 4) == [b"/a", b"/a", b"/a", b"/a!"]
        assert texts(b, 1) == [b"/b"]
        a.send(frame(b"task"))
        assert texts(a, 3) == [b"/a!", b"/a!", b"task"]
        b.send(frame(b"x"))
        assert texts(b, 1) == [b"/b"]
    peer.eventually(lambda: len(seen) == 4)
    assert sorted(seen) == ["/b", "/b", "task", "task"]


UNCANCELS = pytest.mark.skipif(sys.version_info < (3, 13), reason="of Python 3.13")


@pytest.mark.parametrize("change", ["name", "mark", pytest.param("cancel", marks=UNCANCELS)])
def test_p2_a_session_may_change_its_task(serve: Serve, change: str) -> None:
    """In its first step, which runs in Python, and in others, which C runs."""

    def change_task() -> None:
        task: Any = asyncio.current_task()
        if change == "name":
            task.set_name("name")
        elif change == "mark":
            task.mark = 1
        else:
            task.cancel()
            task.uncancel()

    async def session(ws: WebSocket) -> None:
        change_task()
        async for message in ws:
            change_task()
            ws.send(message)

    server = serve(lambda app: app.ws("/*", session))
    with upgraded(server.port) as client:
        for text in (b"1", b"2", b"3"):
            client.send(frame(text))
            assert client.frame().payload == text


# ---- the end ------------------------------------------------------------------------------------


def test_p2_a_session_that_waits_for_something_else_is_cancelled(serve: Serve) -> None:
    """`close_timeout` seconds after the end of its socket; its clean-up may take longer."""
    seen: List[Any] = []

    async def session(ws: WebSocket) -> None:
        try:
            await asyncio.sleep(60)
        finally:
            seen.append(ws.closed)
            await asyncio.sleep(0.05)
            seen.append("cleaned up")

    errors: List[Any] = []

    def configure(app: App) -> None:
        app.ws("/*", session, close_timeout=0.05)
        app.on_error(lambda error, source: errors.append(error))

    server = serve(configure)
    with upgraded(server.port) as client:
        client.send(close_frame(1000))
        assert client.frame().close_code == 1000
    peer.eventually(lambda: len(seen) == 2)
    assert seen == [True, "cleaned up"]
    assert not errors


def test_p2_a_session_that_knows_of_the_end_is_not_cancelled(serve: Serve) -> None:
    """Nor one that still handles messages; the test calls what the timer would call."""
    seen: List[Any] = []
    sockets: List[WebSocket] = []
    gates = [Gate() for _ in range(3)]

    async def session(ws: WebSocket) -> None:
        sockets.append(ws)
        async for message in ws:
            seen.append(message)
            await gates[len(seen) - 1].wait()
        seen.append("end")
        await gates[2].wait()
        seen.append("cleaned up")

    server = serve(lambda app: app.ws("/*", session, close_timeout=60))
    with upgraded(server.port) as client:
        client.send(frame(b"0") + frame(b"1") + close_frame(1000))
        assert client.frame().close_code == 1000
    peer.eventually(lambda: gates[0].entered and sockets[0].closed)
    running: Any = sockets[0]._waits.session  # type: ignore[union-attr]
    for gate, expected in zip(gates, (["0", "1"], ["0", "1", "end"])):
        gate.open()
        peer.eventually(lambda: seen == expected)  # noqa: B023
        server.call(running._cancel_late)
    gates[2].open()
    peer.eventually(lambda: seen[-1] == "cleaned up")


def test_p2_a_session_that_is_cancelled_otherwise_has_failed(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    async def session(ws: WebSocket) -> None:
        task: Any = asyncio.current_task()
        asyncio.get_running_loop().call_later(0.01, task.cancel)
        await ws.recv()

    server = serve(lambda app: app.ws("/*", session))
    with upgraded(server.port) as client:
        assert client.frame().close_code == 1011
    assert "exception in the session handler" in caplog.text


@pytest.mark.parametrize("begun", [False, True])
def test_p2_a_session_that_cancels_itself_does_not_receive(serve: Serve, begun: bool) -> None:
    seen: List[Any] = []

    async def session(ws: WebSocket) -> None:
        if begun:
            seen.append(await ws.recv())
        task: Any = asyncio.current_task()
        task.cancel()
        try:
            seen.append(await ws.recv())
        except asyncio.CancelledError:
            seen.append("cancelled")
        getattr(task, "uncancel", int)()
        ws.send(await ws.recv())

    server = serve(lambda app: app.ws("/*", session))
    with upgraded(server.port) as client:
        if begun:
            client.send(frame(b"a"))
        peer.eventually(lambda: seen[-1:] == ["cancelled"])
        client.send(frame(b"b"))
        assert client.frame().payload == b"b"


def test_p2_a_shutdown_waits_for_sessions(serve: Serve) -> None:
    seen: List[Any] = []

    async def session(ws: WebSocket) -> None:
        ws.send("begun")
        async for _ in ws:
            pass
        await asyncio.sleep(0.02)
        seen.append(ws.close_info.sent.code)  # type: ignore[union-attr]

    server = serve(lambda app: app.ws("/*", session))
    with upgraded(server.port) as client:
        assert client.frame().payload == b"begun"
        server.app.defer(server.app.close)
        assert client.frame().close_code == 1001
        client.send(close_frame(1001))
        server.join()
    assert seen == [1001]


def test_p2_sessions_leave_nothing_behind(serve: Serve) -> None:
    references: List[Any] = []

    async def session(ws: WebSocket) -> None:
        references.append(weakref.ref(ws))
        async for message in ws:
            if message == "suspend":
                await asyncio.sleep(0)
            ws.send(message)

    server = serve(lambda app: app.ws("/*", session))
    for i in range(50):
        with upgraded(server.port, more=frame(b"suspend") + frame(b"b")) as client:
            assert texts(client, 2) == [b"suspend", b"b"]
            if i % 2:
                client.send(close_frame(1000))
                assert client.frame().close_code == 1000

    def left() -> Any:
        gc.collect()
        host: Any = server.app._runtime.host
        living = sum(reference() is not None for reference in references)
        return len(asyncio.all_tasks()), len(host.tasks), living

    peer.eventually(lambda: server.call(left) == (1, 0, 0))
    assert len(references) == 50


# ---- tasks of a socket --------------------------------------------------------------------------


def test_p2_create_task_is_cancelled_when_the_socket_closes(serve: Serve) -> None:
    seen: List[Any] = []

    async def tick(ws: WebSocket) -> None:
        try:
            while True:
                ws.send("tick")
                await asyncio.sleep(0.005)
        finally:
            seen.append(ws.closed)

    async def answer() -> int:
        await asyncio.sleep(0)
        return 42

    async def session(ws: WebSocket) -> None:
        task = ws.create_task(tick(ws), name="ticker")
        assert isinstance(task, asyncio.Task)
        assert task.get_name() == "ticker"
        assert await ws.create_task(answer()) == 42
        async for _ in ws:
            pass
        late = ws.create_task(tick(ws))
        await asyncio.wait([task, late])
        seen.append((task.cancelled(), late.cancelled()))

    server = serve(lambda app: app.ws("/*", session))
    with upgraded(server.port) as client:
        assert texts(client, 3) == [b"tick"] * 3
    peer.eventually(lambda: len(seen) == 2)
    assert seen == [True, (True, True)]


@pytest.mark.parametrize("keep", [False, True])
def test_p2_exceptions_of_tasks_are_reported(
    serve: Serve, caplog: pytest.LogCaptureFixture, keep: bool
) -> None:
    errors: List[Any] = []

    async def fail() -> None:
        await asyncio.sleep(0)
        raise Oops("task")

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        if message == "fail":
            ws.create_task(fail(), name="failing")
        ws.send(message)

    def configure(app: App) -> None:
        app.ws("/*", message=on_message, close_on_error=not keep)
        app.on_error(lambda error, source: errors.append((type(error), source)))

    server = serve(configure)
    with upgraded(server.port, more=frame(b"fail")) as client:
        assert client.frame().payload == b"fail"
        if keep:
            peer.eventually(lambda: errors)
            client.send(frame(b"x"))
            assert client.frame().payload == b"x"
        else:
            assert client.frame() == (True, 8, b"\x03\xf3a task failed")
    assert [kind for kind, _ in errors] == [Oops]
    assert "exception in the task 'failing' of /*" in caplog.text


def test_p2_where_tasks_cannot_be_created(serve: Serve) -> None:
    seen: List[str] = []

    async def work() -> None:
        raise AssertionError

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        for coroutine in (work(), work):
            try:
                ws.create_task(coroutine)  # type: ignore[arg-type]
            except (RuntimeError, TypeError) as error:
                seen.append(str(error))

    server = serve(message=on_message)
    with upgraded(server.port, more=frame(b"a")):
        peer.eventually(lambda: len(seen) == 2)
    assert "there is no asyncio loop" in seen[0]
    assert "must be a coroutine, as function() returns it, not function" in seen[1]


def test_p2_a_plain_handler_may_create_a_task(serve: Serve) -> None:
    async def work(ws: WebSocket) -> None:
        await asyncio.sleep(0)
        ws.send("done")

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        ws.create_task(work(ws))

    async def on_pong(ws: WebSocket, data: bytes) -> None:
        pass

    server = serve(message=on_message, pong=on_pong)
    with upgraded(server.port, more=frame(b"a")) as client:
        assert client.frame().payload == b"done"
