# SPDX-License-Identifier: MIT
"""Coroutine handlers: ``app.run()`` with a loop of asyncio, and its shutdown."""

import asyncio
import functools
import gc
import os
import signal
import subprocess
import sys
import time
import weakref
from types import SimpleNamespace
from typing import Any, List, Tuple

import peer
import pytest
from common import ROOT, TIMEOUT
from coroutines import (
    Place,
    Serve,
    accept,
    echo,
    ending,
    host_of,
    in_loop,
    in_thread,
    texts,
    until,
)
from handlers import Oops
from peer import Peer, close_frame, frame, upgraded
from program import Program

from pyws import App, OpCode, Request, Response, WebSocket
from pyws._core import signals as signals_module

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
    for name, register in (
        ("message", lambda: server.app.ws("/late", message=echo)),
        ("upgrade", lambda: server.app.ws("/late", upgrade=accept)),
        ("handler", lambda: server.app.get("/late", functools.partial(accept, context=None))),
    ):
        with pytest.raises(RuntimeError, match=f"^{name} of '/late' .* add it before run"):
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
    with upgraded(int(program.line())) as client:
        client.send(frame(what.encode()))
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
