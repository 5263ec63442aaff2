# SPDX-License-Identifier: MIT
"""P5 and W1: a coroutine handler that waits for the body of its request goes on in a callback."""

import asyncio
import contextvars
import logging
import platform
import sys
from typing import Any, Callable, List

import pytest
from coroutines import Gate, Serve
from handlers import Oops
from peer import Peer, eventually
from test_bodies import chunked, head, post
from test_eager import count_tasks

from pyws import App, ClientDisconnect, Request, Response

pytestmark = pytest.mark.usefixtures("read_by_h11")

try:
    import anyio
except ImportError:
    anyio = None  # type: ignore[assignment, unused-ignore]

CPYTHON = platform.python_implementation() == "CPython"


@pytest.mark.skipif(not CPYTHON, reason="the references to a task cannot be counted")
def test_p5_w1_requests_that_wait_for_their_bodies_share_one_task(
    serve: Serve, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = count_tasks(monkeypatch)
    turns: List[str] = []

    async def by_body(res: Response, req: Request) -> None:
        asyncio.get_running_loop().call_soon(turns.append, "turn")
        turns.append("begin")
        data = await req.body()
        turns.append("end")
        res.end(data)

    async def by_stream(res: Response, req: Request) -> None:
        res.end(b"".join([chunk async for chunk in req.stream()]))

    async def fail(res: Response, req: Request) -> None:
        await req.body()
        raise Oops

    def configure(app: App) -> None:
        app.post("/body", by_body)
        app.post("/stream", by_stream)
        app.post("/fail", fail)

    server = serve(configure)
    with Peer(server.port) as client:
        client.send(post("/body", b"hello"))
        assert client.response().body == b"hello"
        eventually(lambda: len(turns) == 3)
        assert turns == ["begin", "end", "turn"]  # it was all there
        for _ in range(3):
            for path in ("/body", "/stream"):
                client.send(chunked(path, b"hello ", b"world"))
                assert client.response().body == b"hello world"
                client.send(head(path, "Content-Length: 10\r\n") + b"01234")
                server.call(len, turns)  # a turn is over
                client.send(b"56789")
                assert client.response().body == b"0123456789"
            client.send(post("/fail", b"x"))
            assert client.response().status == 500
    assert len(made) <= 2, made  # C has one of its own


async def by_wait_for(req: Request) -> None:
    await asyncio.wait_for(req.body(), 0.01)


async def by_timeout(req: Request) -> None:
    async with asyncio.timeout(0.01):  # type: ignore[attr-defined, unused-ignore]
        await req.body()


async def by_anyio(req: Request) -> None:
    with anyio.fail_after(0.01):
        await req.body()


async def by_itself(req: Request) -> None:
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().call_soon(task.cancel)
    try:
        await req.body()
    except asyncio.CancelledError:
        uncancel: Any = getattr(task, "uncancel", int)
        uncancel()
        raise asyncio.TimeoutError from None


async def by_itself_at_once(req: Request) -> None:
    task = asyncio.current_task()
    assert task is not None
    task.cancel()
    try:
        await req.body()
    except asyncio.CancelledError:
        uncancel: Any = getattr(task, "uncancel", int)
        uncancel()
        raise asyncio.TimeoutError from None


@pytest.mark.parametrize("begins", ["at once", "later"])
@pytest.mark.parametrize(
    "way",
    [
        by_wait_for,
        pytest.param(
            by_timeout,
            marks=pytest.mark.skipif(sys.version_info < (3, 11), reason="it is new in 3.11"),
        ),
        pytest.param(by_anyio, marks=pytest.mark.skipif(anyio is None, reason="needs anyio")),
        by_itself,
        by_itself_at_once,
    ],
)
def test_p5_w1_the_wait_for_a_body_can_be_cancelled(
    serve: Serve, way: Callable[[Request], Any], begins: str
) -> None:
    """And the body can be read afterwards, in the same task."""
    gate = Gate()

    async def handler(res: Response, req: Request) -> None:
        task = asyncio.current_task()
        if begins == "later":
            await asyncio.sleep(0)
        with pytest.raises((asyncio.TimeoutError, TimeoutError)):
            await way(req)
        gate.entered = True
        data = await req.body()
        assert asyncio.current_task() is task
        await asyncio.sleep(0)
        assert asyncio.current_task() is task
        res.end(data)

    server = serve(lambda app: app.post("/x", handler))
    for _ in range(3):
        gate.entered = False
        with Peer(server.port) as client:
            client.send(head("/x", "Content-Length: 10\r\n") + b"01234")
            eventually(lambda: gate.entered)
            client.send(b"56789")
            assert client.response().body == b"0123456789"


def test_p5_w1_a_handler_that_is_cancelled_while_it_waits_has_failed(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    tasks: List[Any] = []

    async def handler(res: Response, req: Request) -> None:
        tasks.append(asyncio.current_task())
        res.end(await req.body())

    server = serve(lambda app: app.post("/x", handler))
    with Peer(server.port) as client:
        client.send(head("/x", "Content-Length: 10\r\n") + b"01234")
        eventually(lambda: tasks)
        server.call(tasks[0].cancel)
        assert client.response().status == 500
    assert "the handler was cancelled" in caplog.text
    eventually(lambda: tasks[0].done())
    with Peer(server.port) as client:  # another one has a task of its own
        client.send(post("/x", b"hello"))
        assert client.response().body == b"hello"
    assert tasks[1] is not tasks[0]


def test_p5_w1_a_task_that_a_handler_keeps_ends_with_it(serve: Serve) -> None:
    ended: List[Any] = []
    kept: List[Any] = []

    async def handler(res: Response, req: Request) -> None:
        task = asyncio.current_task()
        assert task is not None
        kept.append(task)
        task.add_done_callback(ended.append)
        res.end(await req.body())

    server = serve(lambda app: app.post("/x", handler))
    with Peer(server.port) as client:
        for count in (1, 2):
            client.send(post("/x", b"hello"))
            assert client.response().body == b"hello"
            eventually(lambda: len(ended) == count)  # noqa: B023
    assert ended == kept and kept[0] is not kept[1]


def test_p5_w1_several_tasks_wait_for_one_body(serve: Serve) -> None:
    async def handler(res: Response, req: Request) -> None:
        other = asyncio.ensure_future(req.body())
        await asyncio.sleep(0)
        mine = await req.body()
        assert await other is mine
        res.end(mine)

    server = serve(lambda app: app.post("/x", handler))
    with Peer(server.port) as client:
        client.send(head("/x", "Content-Length: 10\r\n") + b"01234")
        server.call(int)
        client.send(b"56789")
        assert client.response().body == b"0123456789"


def test_p5_p6_w1_the_context_is_the_same_after_the_body(serve: Serve) -> None:
    user: contextvars.ContextVar[str] = contextvars.ContextVar("user", default="nobody")

    async def handler(res: Response, req: Request) -> None:
        user.set(req.get_url())
        pieces = []
        async for chunk in req.stream():
            assert user.get() == req.get_url()
            pieces.append(chunk)
        res.end(user.get())

    server = serve(lambda app: app.post("/*", handler))
    with Peer(server.port) as one, Peer(server.port) as two:
        one.send(head("/one", "Content-Length: 10\r\n") + b"01234")
        two.send(head("/two", "Content-Length: 10\r\n") + b"01234")
        server.call(int)
        one.send(b"56789")
        two.send(b"56789")
        assert one.response().body == b"/one"
        assert two.response().body == b"/two"


def test_p5_w1_a_handler_that_waits_learns_that_the_app_ends(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    seen: List[str] = []

    async def handler(res: Response, req: Request) -> None:
        seen.append("begin")
        try:
            await req.body()
        except ClientDisconnect:
            seen.append("disconnect")
            await asyncio.sleep(0)
            seen.append("end")

    server = serve(lambda app: app.post("/x", handler))
    with Peer(server.port) as client:
        client.send(head("/x", "Content-Length: 10\r\n") + b"01234")
        eventually(lambda: seen)
        server.call(server.app.close)
        eventually(lambda: seen[-1] == "end")
    assert seen == ["begin", "disconnect", "end"]
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_p5_w1_a_slow_handler_of_a_stream_slows_the_client_down(serve: Serve) -> None:
    """It takes one piece in the callback, and is then away for long."""
    gate = Gate()
    sizes: List[int] = []

    async def handler(res: Response, req: Request) -> None:
        async for chunk in req.stream():
            sizes.append(len(chunk))
            if len(sizes) == 2:
                await gate.wait()
        res.end(str(sum(sizes)))

    total = 16 << 20

    def configure(app: App) -> None:
        app.post("/x", handler, max_body_size=total)

    server = serve(configure)
    with Peer(server.port) as client:
        client.send(head("/x", f"Content-Length: {total}\r\n"))
        client.socket.settimeout(0.5)
        sent = 0
        try:
            while sent < total:
                sent += client.socket.send(b"x" * 65536)
        except OSError:
            pass  # the buffers of the kernel are full
        assert sent < total
        assert len(sizes) == 2
        gate.open()
        client.socket.settimeout(30)
        client.send(b"x" * (total - sent))
        assert client.response().body == b"%d" % total
    assert max(sizes) <= 3 * 65536
