# SPDX-License-Identifier: MIT
"""An App in a loop of asyncio that runs already, and after that loop was closed."""

import asyncio
import functools
import gc
import subprocess
import sys
import threading
import time
from typing import Any, List, Tuple

import peer
import pytest
from common import ROOT, TIMEOUT
from coroutines import Gate, Place, echoing, host_of, in_loop, in_thread, until
from handlers import Oops
from peer import Peer, close_frame, frame, upgraded

from pyws import App, OpCode, WebSocket
from pyws._native import lib

pytestmark = pytest.mark.usefixtures("read_by_h11")

websockets = pytest.importorskip("websockets")


# ---- inside another loop ------------------------------------------------------------------------


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
async def test_serving_takes_the_options_of_listen_as_keywords() -> None:
    app, _ = echoing()
    async with app.serving(host="127.0.0.1"):
        assert app.url == f"ws://127.0.0.1:{app.port}"
    async with app.serving({"port": 0, "host": "::1"}, host="127.0.0.1"):
        assert app.url.startswith("ws://127.0.0.1:")
    app.call_later(0.01, app.close)
    await asyncio.wait_for(app.serve(port=0, host="127.0.0.1"), TIMEOUT)
    with pytest.raises(TypeError, match="did you mean 'host'"):
        await app.serve(hots="127.0.0.1")  # type: ignore[call-arg]
    with pytest.raises(TypeError, match="did you mean 'port'"):
        async with app.serving(prot=0):  # type: ignore[call-arg]
            pass
    with pytest.raises(RuntimeError, match="listens nowhere"):
        await app.serve()


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


@pytest.mark.parametrize("freed", [False, True])
def test_no_handler_runs_as_a_task_of_a_closed_loop(freed: bool) -> None:
    """Not even in C, which ran handlers as a task that may have been freed since."""
    loops: List[Any] = []

    async def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        task: Any = asyncio.current_task()
        loops.append(task.get_loop())
        ws.send(message)

    app = App()
    app.ws("/*", message=on_message)

    async def talk() -> None:
        async with websockets.connect(f"ws://127.0.0.1:{Place(app).port}") as client:
            for word in ("a", "b", "c"):
                await client.send(word)
                assert await client.recv() == word

    async def main() -> None:
        async with app.serving():
            await talk()

    app.listen({"host": "127.0.0.1"})
    loop = asyncio.new_event_loop()
    task: Any = loop.create_task(app.serve())
    loop.run_until_complete(asyncio.wait_for(talk(), TIMEOUT))
    loop.close()
    assert loops == [loop] * 3
    task._log_destroy_pending = False
    host: Any = app._runtime.host
    app.close()
    if freed:
        host = task = None
        gc.collect()
    app.listen({"host": "127.0.0.1"})
    asyncio.run(main())
    assert loop not in loops[3:]
    del host, task


def test_an_old_task_may_be_freed_after_the_coroutine_that_it_awaits() -> None:
    """The garbage collector ends the coroutines of a cycle in any order."""

    async def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        await asyncio.sleep(1000)

    app, _, client, task = lost_app(message=on_message)
    with client, app:
        loop = task.get_loop()
        (handling,) = asyncio.all_tasks(loop) - {task}
        handling._log_destroy_pending = False  # type: ignore[attr-defined]
        stepper: Any = handling.get_coro()
        inner = stepper._work.cr_await.gi_frame.f_locals["coroutine"]
        inner.close()
        stepper.close()


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
