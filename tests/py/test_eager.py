# SPDX-License-Identifier: MIT
"""P5: a coroutine handler begins at once, inside a callback, and is a task all the same."""

import asyncio
import functools
import platform
import sys
from typing import Any, Callable, Dict, List

import peer
import pytest
from coroutines import Gate, Place, Serve, echo, host_of, in_loop, in_thread, texts
from handlers import Oops
from peer import Peer, close_frame, frame, upgraded

from pyws import App, OpCode, Request, Response, WebSocket
from pyws._core import stepper
from pyws._core.coroutines import Queue
from pyws._core.session import Session
from pyws._core.stepper import Stepper
from pyws._native import lib

pytestmark = pytest.mark.usefixtures("read_by_h11")

try:
    import anyio
except ImportError:
    anyio = None  # type: ignore[assignment, unused-ignore]
try:
    import sniffio  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    sniffio = None

CPYTHON = platform.python_implementation() == "CPython"


def count_tasks(monkeypatch: pytest.MonkeyPatch) -> List[str]:
    """A list that gets an item for each task that is made for handlers."""
    made: List[str] = []
    renew = Stepper.renew

    def spy(self: Stepper) -> None:
        renew(self)
        made.append(type(self).__name__)

    monkeypatch.setattr(Stepper, "renew", spy)
    return made


# ---- no task and no turn ------------------------------------------------------------------------


def test_p5_a_handler_that_does_not_suspend_needs_no_turn_of_the_loop(serve: Serve) -> None:
    """What the loop runs next comes after all messages of a packet, and there is no task."""
    seen: List[Any] = []

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        if message == "0":
            asyncio.get_running_loop().call_soon(seen.append, "turn")
        seen.append(message)
        assert len(asyncio.all_tasks()) == 1  # the one that serves
        ws.send(message)

    server = serve(message=on_message)
    numbers = [b"%d" % i for i in range(10)]
    with upgraded(server.port, more=b"".join(map(frame, numbers))) as client:
        assert texts(client, 10) == numbers
        peer.eventually(lambda: len(seen) == 11)
    assert seen == [*(str(i) for i in range(10)), "turn"]


@pytest.mark.skipif(not CPYTHON, reason="the references to a task cannot be counted")
def test_p5_one_task_serves_all_handlers_that_do_not_suspend(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_tasks(monkeypatch)

    async def on_event(ws: WebSocket, *args: Any) -> None:
        assert asyncio.current_task() is not None
        ws.send("x")

    server = serve(open=on_event, message=on_event, ping=on_event, close=on_event)
    for _ in range(10):
        with upgraded(server.port, more=frame(b"x") + frame(b"y")) as client:
            texts(client, 3)
            client.send(close_frame(1000))
            assert client.frame().close_code == 1000
    assert len(made) <= 2, made  # C has one of its own


@pytest.mark.skipif(not lib.bridge or sys.version_info < (3, 10), reason="C runs no steps")
def test_p5_c_begins_handlers_and_resumes_sessions(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python is called for what is not the common case alone."""
    calls: List[str] = []

    def count(name: str, cls: Any, method: str) -> None:
        original = getattr(cls, method)

        def spy(*args: Any) -> Any:
            calls.append(name)
            return original(*args)

        monkeypatch.setattr(cls, method, spy)

    count("handled", Queue, "handle")
    count("outcome", Queue, "on_outcome")
    count("advanced", Session, "advance")
    count("outcome of session", Session, "on_outcome")

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        if message == "suspend":
            await asyncio.sleep(0)
        ws.send(message)

    async def session(ws: WebSocket) -> None:
        async for message in ws:
            await on_message(ws, message, OpCode.TEXT)

    def configure(app: App) -> None:
        app.ws("/handler", message=on_message)
        app.ws("/session", session)

    server = serve(configure)
    for path, first, late in (
        ("/handler", ["handled", "handled"], ["outcome"]),
        ("/session", ["advanced"], ["outcome of session"]),
    ):
        del calls[:]
        with upgraded(server.port, path) as client:
            for _ in range(20):
                client.send(frame(b"x"))
                assert texts(client, 1) == [b"x"]
            assert calls == first
            client.send(frame(b"suspend"))
            assert texts(client, 1) == [b"suspend"]
            assert calls == first + late


@pytest.mark.parametrize("how", ["kept", "attribute", "name", "cancelled", "weak", "callback"])
def test_p4_p5_a_task_that_a_handler_keeps_or_changes_serves_no_other(
    serve: Serve, how: str
) -> None:
    import weakref

    kept: Dict[str, Any] = {}
    names: List[str] = []
    weak: Any = weakref.WeakKeyDictionary()

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        task: Any = asyncio.current_task()
        assert not hasattr(task, "user")
        assert task not in kept.values()
        assert task not in weak
        names.append(task.get_name())
        if how == "kept":
            kept[message] = task
        elif how == "attribute":
            task.user = message
        elif how == "name":
            task.set_name("named")
        elif how == "cancelled":
            task.cancel()
        elif how == "weak":
            weak[task] = message
        elif how == "callback":
            kept[message] = None
            task.add_done_callback(lambda task: None)
        ws.send(message)

    server = serve(message=on_message)
    numbers = [b"%d" % i for i in range(4)]
    for _ in range(2):
        with upgraded(server.port, more=b"".join(map(frame, numbers))) as client:
            assert texts(client, 4) == numbers
            client.send(frame(b"4"))
            assert texts(client, 1) == [b"4"]
    if how != "callback":
        assert "named" not in names
    if CPYTHON and how != "callback":
        assert len(set(names)) == 10


# ---- the current task ---------------------------------------------------------------------------


def test_p5_a_handler_cancels_its_task_before_its_coroutine_begins(serve: Serve) -> None:
    """A function of the program may run first, and return the coroutine."""

    class Cancelling(functools.partial):  # type: ignore[type-arg]
        def __call__(self, ws: WebSocket, message: Any, opcode: OpCode) -> Any:
            task = asyncio.current_task()
            if message == "cancel" and task is not None:
                task.cancel()
            return super().__call__(ws, message, opcode)

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        task: Any = asyncio.current_task()
        if message == "wait":
            await asyncio.sleep(0)
        ws.send("done" if task.done() else message)

    server = serve(message=Cancelling(on_message))
    with upgraded(server.port) as client:
        for text in (b"a", b"b", b"c", b"cancel", b"d", b"wait"):
            client.send(frame(text))
            assert texts(client, 1) == [text]


def test_p5_the_current_task_is_the_same_in_all_steps(serve: Serve) -> None:
    found: List[Any] = []

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        found.append(asyncio.current_task())
        for _ in range(3):
            await asyncio.sleep(0)
            found.append(asyncio.current_task())
        assert found[-1] in asyncio.all_tasks()
        ws.send(message)

    async def plain() -> None:
        assert asyncio.current_task() not in found

    server = serve(message=on_message, open=lambda ws: asyncio.ensure_future(plain()))
    for _ in range(3):
        del found[:]
        with upgraded(server.port, more=frame(b"a")) as client:
            assert texts(client, 1) == [b"a"]
        assert len(set(found)) == 1
        assert isinstance(found[0], asyncio.Task)


async def forever() -> None:
    await asyncio.get_running_loop().create_future()


async def by_wait_for() -> None:
    with pytest.raises(asyncio.TimeoutError):
        await asyncio.wait_for(forever(), 0.01)


async def by_timeout() -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):  # type: ignore[attr-defined, unused-ignore]
            await forever()


async def by_task_group() -> None:
    async def fail() -> None:
        raise KeyError

    with pytest.raises(BaseException) as error:
        async with asyncio.TaskGroup() as group:  # type: ignore[attr-defined, unused-ignore]
            group.create_task(fail())
            await forever()
    assert type(error.value.exceptions[0]) is KeyError  # type: ignore[attr-defined]


async def by_anyio() -> None:
    with anyio.move_on_after(0.01) as scope:
        await anyio.sleep(60)
    assert getattr(scope, "cancelled_caught", True)
    async with anyio.create_task_group() as group:
        group.start_soon(forever)
        await anyio.sleep(0)
        group.cancel_scope.cancel()
    with anyio.CancelScope() as scope:
        scope.cancel()
        await anyio.sleep(60)
    await anyio.to_thread.run_sync(int)


async def by_sniffio() -> None:
    assert sniffio.current_async_library() == "asyncio"


async def by_cancelling_itself() -> None:
    task: Any = asyncio.current_task()
    future = asyncio.get_running_loop().create_future()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await future
    assert future.cancelled()  # as in any task
    getattr(task, "uncancel", int)()
    await asyncio.sleep(0)


async def by_a_task() -> None:
    task: Any = asyncio.current_task()
    other = asyncio.ensure_future(forever())
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await other
    assert other.cancelled()
    getattr(task, "uncancel", int)()


async def by_bad_awaitables() -> None:
    class Bad:
        def __await__(self) -> Any:
            yield "bad"

    with pytest.raises(RuntimeError, match="bad yield"):
        await Bad()


WAYS = [by_wait_for, by_cancelling_itself, by_a_task, by_bad_awaitables]
WAYS += [by_anyio] if anyio else []
WAYS += [by_sniffio] if sniffio else []
if sys.version_info >= (3, 11):
    WAYS += [by_timeout, by_task_group]


@pytest.mark.parametrize("later", [False, True])
@pytest.mark.parametrize("way", WAYS)
def test_p5_timeouts_and_cancel_scopes_work_in_the_first_step(
    serve: Serve, way: Callable[[], Any], later: bool
) -> None:
    """Begun in the first step or in a later one, twice, for sockets and requests."""

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        if later:
            await asyncio.sleep(0)
        await way()
        await way()
        ws.send(message)

    async def answer(res: Response, req: Request) -> None:
        await way()
        res.end("answer")

    def configure(app: App) -> None:
        app.ws("/*", message=on_message)
        app.get("/", answer)

    server = serve(configure)
    with upgraded(server.port, more=frame(b"a") + frame(b"b")) as client:
        assert texts(client, 2) == [b"a", b"b"]
        client.send(frame(b"c"))
        assert texts(client, 1) == [b"c"]
    assert peer.request(server.port, "GET / HTTP/1.1").body == b"answer"


def test_p5_a_handler_that_is_cancelled_in_its_first_step_has_failed(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    seen: List[Any] = []

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        if message == "raise":
            raise asyncio.CancelledError
        task: Any = asyncio.current_task()
        task.cancel()
        await asyncio.sleep(0)

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        seen.append(code)

    server = serve(message=on_message, close=on_close)
    for text in (b"raise", b"cancel"):
        with upgraded(server.port, more=frame(text) + frame(text)) as client:
            assert client.frame().close_code == 1011
    peer.eventually(lambda: len(seen) == 2)
    assert seen == [1011, 1011]
    assert caplog.text.count("exception in the message handler") == 2


# ---- steps inside steps -------------------------------------------------------------------------


@pytest.mark.parametrize("suspends", [False, True])
def test_p5_a_handler_ends_a_socket_whose_handler_is_a_coroutine(
    serve: Serve, suspends: bool
) -> None:
    """It begins inside the step of the other one, as a task of its own."""
    sockets: Dict[str, WebSocket] = {}
    seen: List[Any] = []

    async def on_open(ws: WebSocket) -> None:
        sockets[ws.path] = ws

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        task = asyncio.current_task()
        seen.append("message")
        if message == "later":
            await asyncio.sleep(0)
        sockets["/b"].end(4000)
        assert asyncio.current_task() is task
        seen.append("ended")
        await asyncio.sleep(0.01)
        assert asyncio.current_task() is task
        ws.send(message)

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        task = asyncio.current_task()
        seen.append((ws.path, code))
        if suspends:
            await asyncio.sleep(0)
        assert asyncio.current_task() is task
        seen.append(ws.path)

    server = serve(open=on_open, message=on_message, close=on_close)
    for text in (b"now", b"later"):
        del seen[:]
        with upgraded(server.port, "/a") as a, upgraded(server.port, "/b") as b:
            peer.eventually(lambda: len(sockets) == 2)
            a.send(frame(text))
            assert b.frame().close_code == 4000
            assert a.frame().payload == text
            assert seen[:2] == ["message", ("/b", 4000)]
            assert sorted(seen[2:]) == ["/b", "ended"]
        peer.eventually(lambda: len(seen) == 6)
        sockets.clear()


def test_p5_events_inside_the_first_step_come_after_the_handler(serve: Serve) -> None:
    seen: List[Any] = []

    async def on_open(ws: WebSocket) -> None:
        ws.subscribe("t")
        seen.append("opened")

    async def on_subscription(ws: WebSocket, topic: str, now: int, before: int) -> None:
        if now:
            await asyncio.sleep(0)
        seen.append((topic, now))

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        ws.end(4000)
        assert ws.closed
        assert ws.user_data == "data"
        seen.append("message")

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        seen.append((code, ws.user_data))

    async def upgrade(res: Response, req: Request, context: Any) -> None:
        key = req.get_header("sec-websocket-key") or ""
        res.upgrade(key, None, None, context, "data")

    server = serve(
        upgrade=upgrade,
        open=on_open,
        subscription=on_subscription,
        message=on_message,
        close=on_close,
    )
    with upgraded(server.port, more=frame(b"a") + frame(b"b")) as client:
        assert client.frame().close_code == 4000
        peer.eventually(lambda: len(seen) == 5)
    assert seen == ["opened", ("t", 1), "message", ("t", 0), (4000, "data")]


def test_p5_many_sockets_end_each_other(serve: Serve) -> None:
    """Each close handler, a coroutine, ends the next socket: not all of them inside each other."""
    sockets: List[WebSocket] = []
    closed: List[int] = []

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        closed.append(code)
        if sockets:
            sockets.pop().close()
        await asyncio.sleep(0)

    server = serve(open=sockets.append, close=on_close)
    clients = [upgraded(server.port) for _ in range(100)]
    try:
        peer.eventually(lambda: len(sockets) == 100)
        server.call(lambda: sockets.pop().close())
        peer.eventually(lambda: len(closed) == 100)
    finally:
        for client in clients:
            client.socket.close()


def test_p5_the_exception_of_a_first_step_is_reported_as_that_of_a_plain_handler(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    errors: List[BaseException] = []

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        try:
            raise KeyError(message)
        except KeyError:
            ws.end()

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        raise Oops(reason)

    def configure(app: App) -> None:
        app.ws("/*", message=on_message, close=on_close)
        app.on_error(lambda error, source: errors.append(error))

    server = serve(configure)
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().close_code == 1000
    peer.eventually(lambda: errors)
    assert type(errors[0]) is Oops
    assert errors[0].__context__ is None


# ---- requests -----------------------------------------------------------------------------------


@pytest.mark.skipif(not CPYTHON, reason="the references to a task cannot be counted")
def test_p5_requests_that_do_not_suspend_share_one_task(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_tasks(monkeypatch)

    async def answer(res: Response, req: Request) -> None:
        assert asyncio.current_task() is not None
        res.end(req.get_url())

    async def fail(res: Response, req: Request) -> None:
        raise Oops

    def configure(app: App) -> None:
        app.get("/", answer)
        app.get("/fail", fail)

    server = serve(configure)
    with Peer(server.port) as client:
        for path, status in ((b"/", 200), (b"/fail", 500), (b"/", 200)):
            client.send(b"GET " + path + b" HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.response().status == status
    assert len(made) <= 2, made  # C has one of its own


# ---- task factories -----------------------------------------------------------------------------


def wrapping(loop: Any, coroutine: Any, **options: Any) -> Any:
    async def run() -> Any:
        return await coroutine

    return asyncio.Task(run(), loop=loop, **options)


FACTORIES: List[Any] = [wrapping]
if sys.version_info >= (3, 12):
    FACTORIES.append(asyncio.eager_task_factory)  # type: ignore[attr-defined, unused-ignore]


@pytest.mark.parametrize("factory", FACTORIES)
@in_loop
async def test_p5_task_factories_of_the_program(factory: Any) -> None:
    gate = Gate()
    gate.open()
    app = App()

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        task = asyncio.current_task()
        assert task is not None
        if message != "0":
            await by_wait_for()
            await gate.wait()
        assert asyncio.current_task() is task
        ws.send(message)

    async def answer(res: Response, req: Request) -> None:
        await asyncio.sleep(0)
        res.end("answer")

    app.ws("/*", message=on_message)
    app.ws("/echo", message=echo)
    app.get("/", answer)
    asyncio.get_running_loop().set_task_factory(factory)
    place = Place(app)

    def talk() -> None:
        for path in ("/", "/echo"):
            with upgraded(place.port, path, more=frame(b"0") + frame(b"1")) as client:
                assert texts(client, 2) == [b"0", b"1"]
                client.send(frame(b"0") + frame(b"2"))
                assert texts(client, 2) == [b"0", b"2"]
        assert peer.request(place.port, "GET / HTTP/1.1").body == b"answer"

    async with app.serving():
        await in_thread(talk)


# ---- signal handlers that raise -----------------------------------------------------------------


def test_p5_a_signal_handler_that_raises_as_soon_as_a_task_is_entered(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The task is left again: later handlers are not inside of it."""
    enter_task = stepper.enter_task

    def interrupted(loop: Any, task: Any) -> None:
        monkeypatch.setattr(stepper, "enter_task", enter_task)
        enter_task(loop, task)
        raise Oops

    async def on_open(ws: WebSocket) -> None:
        ws.send("opened")

    server = serve(open=on_open)
    monkeypatch.setattr(stepper, "enter_task", interrupted)
    with upgraded(server.port) as client:
        assert client.frame().close_code == 1011
    assert server.call(lambda: asyncio.current_task(host_of(server.app).loop)) is None
    with upgraded(server.port) as client:
        assert client.frame().payload == b"opened"


@in_loop
async def test_p5_a_signal_handler_that_raises_as_soon_as_a_task_is_left() -> None:
    loop, task = asyncio.get_running_loop(), asyncio.current_task()

    def interrupted(loop: Any, task: Any) -> None:
        leave_task(loop, task)
        raise Oops

    leave_task = stepper.leave_task
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(stepper, "leave_task", interrupted)
        with pytest.raises(Oops):
            stepper.without_task(loop, print)
    assert asyncio.current_task() is task
