# SPDX-License-Identifier: MIT
"""contextvars: all that runs for one socket, or one request, runs in a context of its own (P4)."""

import asyncio
import contextvars
import logging
import sys
import threading
from contextvars import ContextVar
from typing import Any, AsyncIterator, Callable, Dict, List, Union

import peer
import pytest
from common import TIMEOUT
from conftest import Server
from peer import Peer, close_frame, eventually, frame, upgraded

from pyws import App, AppOptions, OpCode, Request, Response, SendStatus, WebSocket
from pyws._core.contexts import is_current, run_in

Serve = Callable[..., Server]

user: ContextVar[str] = ContextVar("user", default="nobody")


def later(handler: Any) -> Any:
    """The same as a coroutine handler, with an await before and after."""

    async def run(*args: Any) -> None:
        await asyncio.sleep(0)
        handler(*args)
        await asyncio.sleep(0)

    return run


@pytest.fixture(params=["plain", "coroutine"])
def form(request: pytest.FixtureRequest) -> Any:
    """What makes a handler plain, or a coroutine function."""
    return later if request.param == "coroutine" else lambda handler: handler


def accept(res: Response, req: Request, context: Any) -> None:
    res.upgrade(
        req.get_header("sec-websocket-key") or "",
        req.get_header("sec-websocket-protocol"),
        req.get_header("sec-websocket-extensions"),
        context,
    )


# ---- one socket ---------------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [False, True])
def test_what_open_sets_is_there_in_all_events_of_that_socket_alone(
    serve: Serve, form: Any, cut: bool
) -> None:
    """P4, whatever the segments: a message may come with the handshake, or alone."""
    seen: List[Any] = []

    def on_open(ws: WebSocket) -> None:
        seen.append(("open", user.get()))
        user.set(ws.path)
        ws.subscribe("t")

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        ws.send(user.get())
        user.set(user.get() + message)

    def note(name: str) -> Any:
        return lambda ws, *args: seen.append((name, user.get()))

    server = serve(
        open=form(on_open),
        message=form(on_message),
        ping=form(note("ping")),
        pong=form(note("pong")),
        close=form(note("close")),
        subscription=form(note("subscription")),
    )
    more = b"" if cut else frame(b"1")
    with upgraded(server.port, "/a", more=more) as a, upgraded(server.port, "/b", more=more) as b:
        for client in (a, b):
            if cut:
                client.send(frame(b"1"))
            client.send(frame(b"2"))
        assert [client.frame().payload for client in (a, a, b, b)] == [b"/a", b"/a1", b"/b", b"/b1"]
        a.send(frame(b"", 9) + frame(b"", 10) + close_frame(1000))
        eventually(lambda: ("close", "/a12") in seen)
        b.send(frame(b"3"))
        assert b.frame().payload == b"/b12"
    eventually(lambda: ("close", "/b123") in seen)
    assert seen.count(("open", "nobody")) == 2
    assert {("ping", "/a12"), ("pong", "/a12"), ("subscription", "/a12")} <= set(seen)
    assert all(value.startswith(("/a", "/b")) for name, value in seen if name != "open")
    assert server.call(user.get) == "nobody"


def test_upgrade_open_and_message_share_a_context(serve: Serve, form: Any) -> None:
    def on_upgrade(res: Response, req: Request, context: Any) -> None:
        user.set("upgrade")
        accept(res, req, context)
        user.set(user.get() + " after")

    def on_open(ws: WebSocket) -> None:
        user.set(user.get() + " open")

    def on_message(ws: WebSocket, *args: Any) -> None:
        ws.send(user.get())

    server = serve(upgrade=form(on_upgrade), open=on_open, message=on_message)
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().payload == b"upgrade open after"
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().payload == b"upgrade open after"


def test_drain_and_dropped(serve: Serve) -> None:
    seen: List[Any] = []
    statuses: List[SendStatus] = []

    def on_open(ws: WebSocket) -> None:
        user.set("opened")

    def flood(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        while SendStatus.DROPPED not in statuses:
            statuses.append(ws.send(bytes(1 << 16)))

    server = serve(
        open=on_open,
        message=flood,
        dropped=lambda ws, *args: seen.append(("dropped", user.get())),
        drain=lambda ws: seen.append(("drain", user.get())),
    )
    with upgraded(server.port, more=frame(b"x")) as client:
        eventually(lambda: SendStatus.DROPPED in statuses)
        for _ in statuses[:-1]:  # of those not dropped the client gets every one
            client.frame()
        eventually(lambda: len(seen) == 2)
    assert seen == [("dropped", "opened"), ("drain", "opened")]


def test_values_set_before_run_are_there(form: Any) -> None:
    answers: List[Any] = []
    app = App()
    app.ws("/*", message=form(lambda ws, *args: ws.send(user.get())))
    app.get("/", form(lambda res, req: res.end(user.get())))
    app.listen({"host": "127.0.0.1"})

    def talk() -> None:
        with upgraded(app.port, more=frame(b"x")) as client:
            answers.append(client.frame().payload)
        answers.append(peer.request(app.port, "GET / HTTP/1.1").body)
        app.defer(app.close)

    def run() -> None:
        user.set("of run")
        thread = threading.Thread(target=talk)
        thread.start()
        app.run()
        thread.join(TIMEOUT)

    contextvars.copy_context().run(run)
    assert answers == [b"of run"] * 2


# ---- coroutines ---------------------------------------------------------------------------------


def test_everything_that_a_coroutine_awaits_is_in_the_context(serve: Serve) -> None:
    """Values cross awaits in both directions; generators, exceptions and closing work."""
    log: List[str] = []

    async def numbers() -> AsyncIterator[int]:
        try:
            for number in range(3):
                await asyncio.sleep(0)
                user.set(f"{user.get()} {number}")
                yield number
        finally:
            await asyncio.sleep(0)
            log.append(f"generator ended: {user.get()}")

    async def fail() -> None:
        await asyncio.sleep(0)
        user.set(user.get() + " fail")
        raise KeyError("x")

    async def in_task() -> str:
        before = user.get()
        user.set("a task has a copy")
        await asyncio.sleep(0)
        return before

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        user.set("start")
        generator = numbers()
        async for number in generator:
            if number == 1:
                break
        await generator.aclose()  # type: ignore[attr-defined]
        try:
            await fail()
        except KeyError:
            user.set(user.get() + " caught")
        try:
            await asyncio.wait_for(asyncio.sleep(60), 0.01)
        except asyncio.TimeoutError:
            user.set(user.get() + " timeout")
        token = user.set("for a moment")
        await asyncio.sleep(0)
        user.reset(token)
        log.append(await asyncio.get_running_loop().create_task(in_task()))
        assert asyncio.current_task() is not None
        ws.send(user.get())

    server = serve(message=on_message)
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().payload == b"start 0 1 fail caught timeout"
    assert log == ["generator ended: start 0 1", "start 0 1 fail caught timeout"]


def test_a_cancelled_coroutine_cleans_up_in_its_context(serve: Serve) -> None:
    log: List[str] = []

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        user.set("mine")
        task = asyncio.current_task()
        assert task is not None
        asyncio.get_running_loop().call_later(0.01, task.cancel)
        try:
            await asyncio.sleep(60)
        finally:
            log.append(user.get())

    server = serve(message=on_message, close=lambda ws, code, reason: log.append(user.get()))
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().close_code == 1011
    server.stop()
    assert log == ["mine", "mine"]


@pytest.mark.skipif(sys.version_info < (3, 12), reason="asyncio has no eager tasks")
def test_eager_tasks_of_the_program() -> None:
    answers: List[bytes] = []
    app = App()

    async def on_open(ws: WebSocket) -> None:
        user.set(ws.path)

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        ws.send(user.get())
        await asyncio.sleep(0)
        ws.send(user.get())

    def talk(port: int) -> None:
        for path in ("/a", "/b"):
            with upgraded(port, path) as client:
                client.send(frame(b"x"))
                answers.extend(client.frame().payload for _ in range(2))

    async def main() -> None:
        loop = asyncio.get_running_loop()
        loop.set_task_factory(asyncio.eager_task_factory)  # type: ignore
        async with app.serving({"host": "127.0.0.1"}):
            await loop.run_in_executor(None, talk, app.port)

    app.ws("/*", open=on_open, message=on_message)
    asyncio.run(main())
    assert answers == [b"/a", b"/a", b"/b", b"/b"]


# ---- handlers inside handlers -------------------------------------------------------------------


def test_a_handler_inside_a_handler_of_the_same_socket(serve: Serve) -> None:
    seen: List[str] = []

    def on_message(ws: WebSocket, *args: Any) -> None:
        user.set("message")
        ws.end()
        seen.append(user.get())

    def on_close(ws: WebSocket, *args: Any) -> None:
        seen.append(user.get())
        user.set("close")

    server = serve(message=on_message, close=on_close)
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().close_code == 1000
    assert seen == ["message", "close"]


def test_a_closes_b_whose_handler_closes_a(serve: Serve) -> None:
    """A's context is entered but not the current one: its close handler gets a copy."""
    sockets: Dict[str, WebSocket] = {}
    seen: List[Any] = []

    def on_open(ws: WebSocket) -> None:
        sockets[ws.path] = ws
        user.set(ws.path)

    def on_message(ws: WebSocket, *args: Any) -> None:
        sockets["/b"].end()
        seen.append(("message", user.get()))

    def on_close(ws: WebSocket, *args: Any) -> None:
        if ws.path == "/b":
            sockets["/a"].end()
        seen.append((ws.path, user.get()))
        user.set("changed by " + ws.path)

    server = serve(open=on_open, message=on_message, close=on_close)
    with upgraded(server.port, "/a") as a, upgraded(server.port, "/b") as b:
        eventually(lambda: len(sockets) == 2)
        a.send(frame(b"x"))
        assert b.frame().close_code == 1000
        assert a.frame().close_code == 1000
    assert seen == [("/a", "/a"), ("/b", "/b"), ("message", "/a")]


def test_run_in() -> None:
    context = contextvars.copy_context()
    assert not is_current(context)
    assert run_in(context, is_current, context) is True
    assert run_in(context, run_in, context, is_current, context) is True
    other = contextvars.copy_context()
    assert run_in(context, run_in, other, run_in, context, is_current, context) is False
    assert user.get() == "nobody"

    calls: List[str] = []

    def fail() -> None:
        calls.append("called")
        raise RuntimeError("cannot enter context: it is already entered")

    for depth in range(3):
        fn: Any = fail
        for _ in range(depth):
            fn = lambda inner=fn: run_in(context, inner)  # noqa: E731
        with pytest.raises(RuntimeError) as error:
            run_in(context, fn)
        assert error.value.__context__ is None
    assert calls == ["called"] * 3  # never again because of what it raised


# ---- requests, and what is put off --------------------------------------------------------------


def test_each_request_has_its_own(serve: Serve, form: Any) -> None:
    """P4: what one request sets is not there in the next."""

    def answer(res: Response, req: Request) -> None:
        before = user.get()
        user.set("set by a request")
        res.end(before)

    server = serve(lambda app: app.get("/", form(answer)))
    with Peer(server.port) as client:
        for _ in range(3):
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.response().body == b"nobody"


def test_the_aborted_handler_has_that_of_its_request(serve: Serve) -> None:
    seen: List[str] = []

    def answer(res: Response, req: Request) -> None:
        user.set("request")
        res.on_aborted(lambda res: seen.append(user.get()))
        seen.append("waits")

    server = serve(lambda app: app.get("/", answer))
    with Peer(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        eventually(lambda: seen)
    eventually(lambda: len(seen) == 2)
    assert seen == ["waits", "request"]


def test_deferred_functions_run_in_a_copy_of_where_they_come_from(serve: Serve) -> None:
    seen: List[Any] = []

    def note(name: str) -> None:
        seen.append((name, user.get()))
        user.set("changed")

    def on_message(ws: WebSocket, *args: Any) -> None:
        user.set("socket")
        server.app.defer(note, "defer")
        server.app.call_later(0, note, "call_later")
        user.set("later")

    server = serve(message=on_message)
    with upgraded(server.port, more=frame(b"x")):
        eventually(lambda: len(seen) == 2)

    def in_this_thread() -> None:
        user.set("thread")
        server.app.defer(note, "thread")

    contextvars.copy_context().run(in_this_thread)
    eventually(lambda: len(seen) == 3)
    expected = [("call_later", "socket"), ("defer", "socket"), ("thread", "thread")]
    assert sorted(seen) == expected


# ---- failures -----------------------------------------------------------------------------------


class Oops(Exception):
    pass


def test_failures_are_reported_in_the_context(
    serve: Serve, form: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """So that a filter of the log can add what belongs to the socket."""
    reported: List[str] = []
    logged: List[str] = []

    class Filter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.exc_info:
                logged.append(user.get())
            return True

    def fail(*args: Any) -> None:
        user.set("mine")
        raise Oops

    def configure(app: App) -> None:
        app.ws("/*", message=form(fail))
        app.get("/", form(fail))
        app.on_error(lambda error, source: reported.append(user.get()))

    log, spy = logging.getLogger("pyws"), Filter()
    log.addFilter(spy)
    try:
        server = serve(configure)
        with upgraded(server.port, more=frame(b"x")) as client:
            assert client.frame().close_code == 1011
        assert peer.request(server.port, "GET / HTTP/1.1").status == 500

        def put_off() -> None:
            user.set("deferred")
            server.app.defer(fail)

        contextvars.copy_context().run(put_off)
        eventually(lambda: len(reported) == 3)
    finally:
        log.removeFilter(spy)
    assert reported == logged == ["mine"] * 3


def test_lines_of_connections_and_answers_are_made_in_the_context(
    serve: Serve, form: Any, caplog: pytest.LogCaptureFixture
) -> None:
    """Of `pyws.server` and `pyws.access`: a filter may add the number of the request."""
    makers: List[str] = []

    class Filter(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if hasattr(record, "peer"):
                makers.append(user.get())
            return True

    def upgrade(res: Any, req: Any, socket_context: Any) -> None:
        user.set("socket")
        accept(res, req, socket_context)

    def refuse(res: Any, req: Any, socket_context: Any) -> None:
        user.set("refused")
        res.write_status(403).end("no")

    def page(res: Any, req: Any) -> None:
        user.set("page")
        res.end("page")

    def configure(app: App) -> None:
        app.ws("/socket", upgrade=form(upgrade), message=form(lambda ws, message, opcode: None))
        app.ws("/refused", upgrade=form(refuse))
        app.get("/page", form(page))

    names, spy = ("pyws.server", "pyws.access"), Filter()
    for name in names:
        caplog.set_level(logging.DEBUG, name)
        logging.getLogger(name).addFilter(spy)
    try:
        server = serve(configure, AppOptions(access_log=True))
        assert peer.request(server.port, "GET /page HTTP/1.1").status == 200
        with peer.Peer(server.port) as client:
            client.send(peer.handshake("/refused"))
            assert client.response().status == 403
        with upgraded(server.port, "/socket", more=frame(b"x") + close_frame(1000)) as client:
            assert client.frame().close_code == 1000
        eventually(lambda: len(makers) == 6)
    finally:
        for name in names:
            logging.getLogger(name).removeFilter(spy)
    assert makers == ["page", "refused", "refused", "socket", "socket", "socket"]


@pytest.mark.parametrize("how", ["end", "close"])
def test_exceptions_of_handlers_inside_handlers_have_no_context(serve: Serve, how: str) -> None:
    """The close handler is called while an exception of another handler is being handled."""
    errors: List[BaseException] = []

    def on_message(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
        if message == "raise":
            raise KeyError(message)
        try:
            raise KeyError(message)
        except KeyError:
            getattr(ws, how)()

    def on_close(ws: WebSocket, *args: Any) -> None:
        try:
            raise ValueError("of its own")
        except ValueError:
            raise Oops  # noqa: B904

    def configure(app: App) -> None:
        app.ws("/*", message=on_message, close=on_close)
        app.on_error(lambda error, source: errors.append(error))

    server = serve(configure)
    for text in ("raise", "handle"):
        with upgraded(server.port) as client:
            client.send(frame(text.encode()))
            eventually(lambda: any(type(error) is Oops for error in errors))
        for error in errors:
            context = error.__context__
            assert type(context) is (ValueError if type(error) is Oops else type(None))
            assert context is None or context.__context__ is None
        errors.clear()
