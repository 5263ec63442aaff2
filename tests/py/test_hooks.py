# SPDX-License-Identifier: MIT
"""P9: functions that run before the first connection and after the last one."""

import asyncio
import contextvars
import logging
import os
import signal
import sys
import threading
import time
from typing import Any, Callable, Iterator, List

import pytest
from common import TIMEOUT
from coroutines import in_loop
from handlers import Oops
from peer import Peer, close_frame, eventually, frame, upgraded
from program import Program
from worker_programs import is_free, pids, start

from pyws import App, WebSocket

Events = List[str]


class Hooked:
    """An app whose start and stop functions, and close handler, write down that they run."""

    def __init__(self, kind: str, *names: str) -> None:
        self.events: Events = []
        self.port = 0
        self.app = App()
        self.app.ws("/*", close=lambda ws, code, reason: self.events.append("close"))
        for name in names:
            self.app.on_start(self.function(kind, f"start {name}"))
            self.app.on_stop(self.function(kind, f"stop {name}"))
        self.app.listen({"host": "127.0.0.1"}, self.listening)

    def listening(self, place: Any) -> None:
        self.port = place.port

    def function(self, kind: str, event: str) -> Callable[[], Any]:
        async def later() -> None:
            await asyncio.sleep(0.01)
            self.note(event)

        return later if kind == "coroutine" else lambda: self.note(event)

    def note(self, event: str) -> None:
        accepted = self.app.stats()["accepted"]
        assert self.app.stats()["connections"] == 0
        self.events.append(event if event.startswith("stop") else f"{event} {accepted}")


@pytest.fixture(params=["plain", "coroutine"])
def kind(request: pytest.FixtureRequest) -> Iterator[str]:
    yield str(request.param)


def visit(port: int, app: App) -> None:
    """Connect; the app closes while the client is there."""
    with upgraded(port) as client:
        app.defer(app.close)
        assert client.frame().close_code == 1001
        client.send(close_frame(1001))
        client.at_end()


# ---- order --------------------------------------------------------------------------------------


def test_p9_start_in_order_stop_in_reverse_order(kind: str) -> None:
    """Before the first connection, though clients wait already, and after the last one."""
    hooked = Hooked(kind, "a", "b")
    with Peer(hooked.port):  # it is in the backlog
        thread = threading.Thread(target=visit, args=(hooked.port, hooked.app))
        thread.start()
        hooked.app.run()
        thread.join(TIMEOUT)
    assert hooked.events == ["start a 0", "start b 0", "close", "stop b", "stop a"]


def test_p9_each_run_runs_them_again(kind: str) -> None:
    hooked = Hooked(kind, "a")
    for _ in range(2):
        hooked.app.defer(hooked.app.close)
        hooked.app.run()
        hooked.app.listen({"host": "127.0.0.1"})
    assert hooked.events == ["start a 0", "stop a"] * 2


@in_loop
async def test_p9_serve_and_serving_run_them() -> None:
    hooked = Hooked("coroutine", "a")
    async with hooked.app.serving() as app:
        assert hooked.events == ["start a 0"]
        _reader, writer = await asyncio.open_connection("127.0.0.1", hooked.port)
        writer.close()
    assert hooked.events == ["start a 0", "stop a"]
    app.on_start(lambda: app.defer(app.close))
    await app.serve({"host": "127.0.0.1"})
    assert hooked.events == ["start a 0", "stop a", "start a 1", "stop a"]


def test_p9_as_decorators() -> None:
    app = App()

    @app.on_start
    def begin() -> str:
        return "begun"

    @app.on_stop
    async def end() -> str:
        return "ended"

    assert begin() == "begun"
    assert asyncio.run(end()) == "ended"


def test_p9_without_coroutines_there_is_no_asyncio() -> None:
    text = """
import sys
before = "asyncio" in sys.modules  # where the tests run under uvloop
from pyws import App
app = App()
app.on_start(lambda: app.defer(app.close))
app.on_stop(lambda: print("stop", ("asyncio" in sys.modules) == before))
app.listen({"host": "127.0.0.1"})
app.run()
"""
    with Program("-c", text) as program:
        assert program.line() == "stop True"
        assert program.wait() == 0


def test_p9_what_start_sets_is_there_in_handlers(kind: str) -> None:
    variable: contextvars.ContextVar[str] = contextvars.ContextVar("variable", default="nothing")
    seen: List[str] = []
    hooked = Hooked(kind)

    def begin() -> None:
        variable.set("database")

    async def begin_later() -> None:
        begin()

    hooked.app.on_start(begin if kind == "plain" else begin_later)
    hooked.app.on_stop(lambda: seen.append(f"stop {variable.get()}"))
    hooked.app.ws("/seen", open=lambda ws: ws.send(variable.get()))

    def ask() -> None:
        with upgraded(hooked.port, "/seen") as client:
            seen.append(client.frame().payload.decode())
            hooked.app.defer(hooked.app.close)
            client.frame()

    thread = threading.Thread(target=ask)
    thread.start()
    hooked.app.run()
    thread.join(TIMEOUT)
    assert seen == ["database", "stop database"]
    assert variable.get() == "nothing"


def test_p9_deferred_calls_run_before_stop() -> None:
    hooked = Hooked("plain", "a")
    app = hooked.app

    def close() -> None:
        app.close()
        app.defer(hooked.events.append, "late")

    app.on_start(lambda: app.defer(close))
    app.run()
    assert hooked.events == ["start a 0", "late", "stop a"]


# ---- failures -----------------------------------------------------------------------------------


def fail() -> None:
    raise Oops("no database")


async def fail_later() -> None:
    await asyncio.sleep(0)
    fail()


def is_listening(port: int) -> bool:
    try:
        Peer(port).socket.close()
    except ConnectionRefusedError:
        return False
    return True


def test_p9_a_failed_start_ends_run(kind: str) -> None:
    """Nothing listens any more, no stop function runs, and the app may run again."""
    hooked = Hooked(kind, "a")
    failing = [True]

    def begin() -> None:
        if failing:
            fail()

    async def begin_later() -> None:
        begin()

    hooked.app.on_start(begin if kind == "plain" else begin_later)
    hooked.app.on_start(lambda: hooked.events.append("next"))
    with pytest.raises(Oops, match="no database"):
        hooked.app.run()
    assert hooked.events == ["start a 0"]
    assert not is_listening(hooked.port)
    failing.clear()
    hooked.app.listen({"host": "127.0.0.1"})
    hooked.app.defer(hooked.app.close)
    hooked.app.run()
    assert hooked.events == ["start a 0"] * 2 + ["next", "stop a"]


@in_loop
async def test_p9_a_failed_start_ends_serve_and_serving() -> None:
    hooked = Hooked("coroutine", "a")
    hooked.app.on_start(fail_later)
    with pytest.raises(Oops):
        await hooked.app.serve()
    assert not is_listening(hooked.port)
    with pytest.raises(Oops):
        async with hooked.app.serving({"host": "127.0.0.1"}):
            pytest.fail("it does not serve")
    assert hooked.events == ["start a 0"] * 2
    assert not hooked.app._runtime.is_busy


@pytest.mark.parametrize("error", [SystemExit, KeyboardInterrupt])
def test_p9_a_start_may_exit(kind: str, error: Any) -> None:
    hooked = Hooked(kind, "a")

    def leave() -> None:
        raise error(3)

    hooked.app.on_start(leave)
    with pytest.raises(error):
        hooked.app.run()
    assert hooked.events == ["start a 0"]
    assert not is_listening(hooked.port)


def test_p9_a_failed_stop_is_reported_and_the_others_run(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    hooked = Hooked(kind, "a")
    sources: List[Any] = []
    hooked.app.on_stop(fail if kind == "plain" else fail_later)
    hooked.app.on_stop(lambda: hooked.events.append("stop last"))
    hooked.app.on_error(lambda error, source: sources.append((type(error), source)))
    hooked.app.defer(hooked.app.close)
    hooked.app.run()
    assert hooked.events == ["start a 0", "stop last", "stop a"]
    assert sources == [(Oops, None)]
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "exception in an on_stop function"


def test_p9_a_stop_may_exit() -> None:
    hooked = Hooked("plain", "a")
    hooked.app.on_stop(lambda: sys.exit(3))
    hooked.app.defer(hooked.app.close)
    with pytest.raises(SystemExit):
        hooked.app.run()
    assert hooked.events == ["start a 0", "stop a"]


@pytest.mark.parametrize("name", ["on_start", "on_stop"])
def test_p9_mistakes(name: str) -> None:
    app = App()
    add = getattr(app, name)
    with pytest.raises(TypeError, match=f"{name} takes a function, not int"):
        add(1)
    with pytest.raises(TypeError, match=f"^the {name} function must take no arguments"):
        add(lambda app: None)
    assert app.on_start(print) is print


def test_p9_a_hidden_coroutine_is_a_mistake() -> None:
    app = App()
    app.on_start(lambda: fail_later())
    app.listen({"host": "127.0.0.1"})
    with pytest.raises(TypeError, match="an on_start function returned a coroutine"):
        app.run()


def test_p9_too_late() -> None:
    hooked = Hooked("plain", "a")
    errors: List[str] = []

    def add() -> None:
        for call, fn in ((hooked.app.on_start, print), (hooked.app.on_stop, fail_later)):
            try:
                call(fn)
            except RuntimeError as error:
                errors.append(str(error))
        hooked.app.on_stop(lambda: hooked.events.append("stop first"))
        hooked.app.close()

    hooked.app.defer(add)
    hooked.app.run()
    assert "already" in errors[0]
    assert "without asyncio" in errors[1]
    assert hooked.events == ["start a 0", "stop first", "stop a"]


# ---- shutdown while they run --------------------------------------------------------------------


def test_p9_close_in_start(kind: str) -> None:
    """The app serves no one, but both kinds of functions run."""
    hooked = Hooked(kind, "a")
    hooked.app.on_start(hooked.app.close)
    hooked.app.run()
    assert hooked.events == ["start a 0", "stop a"]


@in_loop
async def test_p9_a_start_that_hangs_can_be_cancelled() -> None:
    hooked = Hooked("coroutine", "a")
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    hooked.app.on_start(hang)
    task = asyncio.ensure_future(hooked.app.serve())
    await asyncio.wait_for(begun.wait(), TIMEOUT)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, TIMEOUT)
    assert hooked.events == ["start a 0"]
    assert not is_listening(hooked.port)
    hooked.app.listen({"host": "127.0.0.1"})
    begun.clear()
    task = asyncio.ensure_future(hooked.app.serve())
    await asyncio.wait_for(begun.wait(), TIMEOUT)
    hooked.app.close(timeout=0.05)
    await asyncio.wait_for(task, TIMEOUT)
    assert hooked.events == ["start a 0"] * 2


@in_loop
async def test_p9_a_stop_that_hangs_is_cancelled_by_the_second_cancellation() -> None:
    hooked = Hooked("coroutine", "a")
    begun = asyncio.Event()

    async def hang() -> None:
        begun.set()
        await asyncio.Event().wait()

    hooked.app.on_stop(hang)
    task = asyncio.ensure_future(hooked.app.serve())
    await asyncio.sleep(0.05)
    task.cancel()
    await asyncio.wait_for(begun.wait(), TIMEOUT)
    await asyncio.sleep(0.05)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, TIMEOUT)
    assert hooked.events == ["start a 0", "stop a"]


PROGRAM = """
import asyncio, time
from pyws import App

app = App()
app.listen({"host": "127.0.0.1"})

@app.on_start
KIND def begin():
    print("start", flush=True)
    SLEEP

app.on_stop(lambda: print("stop", flush=True))
app.run()
print("returned", flush=True)
"""


def test_p9_a_signal_during_start() -> None:
    """A plain function ends first, a coroutine is cancelled when the time of a shutdown is over."""
    text = PROGRAM.replace("KIND ", "").replace("SLEEP", "time.sleep(0.5)")
    with Program("-c", text) as program:
        assert program.line() == "start"
        assert program.stop(signal.SIGTERM) == 0
        assert program.rest() == "stop\nreturned\n"
    text = PROGRAM.replace("KIND", "async").replace("SLEEP", "await asyncio.sleep(600)")
    with Program("-c", text) as program:
        assert program.line() == "start"
        program.process.send_signal(signal.SIGINT)
        time.sleep(0.2)
        assert program.stop(signal.SIGINT) != 0
        assert "KeyboardInterrupt" in program.error_text()


# ---- workers ------------------------------------------------------------------------------------


def test_p9_workers_run_them_each() -> None:
    text = """
        app.on_start(lambda: print("start", os.getpid()))
        app.on_stop(lambda: print("stop", os.getpid()))
        parent = os.getpid()
        listen()
        app.run(workers=3)
        print("returned", parent)
    """
    with start(text) as program:
        port = int(program.line())
        began = sorted(program.line().split()[1] for _ in range(3))
        assert set(map(str, pids(port, 20))) <= set(began)
        assert program.stop(signal.SIGTERM) == 0
        lines = program.rest().splitlines()
        assert sorted(lines[:3]) == [f"stop {pid}" for pid in began]
        assert lines[3:] == [f"returned {program.process.pid}"]


@pytest.mark.parametrize("kind", ["", "async "])
def test_p9_a_worker_that_cannot_start_ends_all(kind: str) -> None:
    text = f"""
        @app.on_start
        {kind}def begin():
            raise OSError("no database\\nat all")
        listen()
        try:
            app.run(workers=3)
        except RuntimeError as error:
            print(error)
    """
    with start(text) as program:
        port = int(program.line())
        assert "cannot start: OSError: no database at all" in program.line()
        assert program.wait() == 0
        assert program.error_text().count("OSError: no database") <= 3
    assert is_free(port)


def test_p9_a_replacement_that_cannot_start_is_tried_again(tmp_path: Any) -> None:
    """A database that is away for a moment does not end a service."""
    text = """
        @app.on_start
        def begin():
            if os.path.exists(sys.argv[1]):
                raise OSError("no database")
        listen()
        app.run(workers=2)
        print("returned")
    """
    away = tmp_path / "away"
    with start(text, str(away)) as program:
        port = int(program.line())
        (victim, *_), known = pids(port, 30), set(pids(port, 30))
        away.touch()
        os.kill(victim, signal.SIGKILL)
        eventually(lambda: "no database" in program.error_text())
        away.unlink()
        eventually(lambda: bool(set(pids(port, 4)) - known))
        assert program.stop(signal.SIGTERM) == 0
        assert program.rest() == "returned\n"


def test_p9_signals_are_not_blocked_in_a_worker_that_starts() -> None:
    text = """
        app.on_start(lambda: print(sorted(signal.pthread_sigmask(signal.SIG_BLOCK, ()))))
        listen()
        app.run(workers=1 + 1)
    """
    with start(text) as program:
        program.line()
        assert [program.line(), program.line()] == ["[]", "[]"]


def test_p9_the_lines_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    """ "serving" comes once the start functions have succeeded."""
    caplog.set_level(logging.INFO, "pyws.server")
    hooked = Hooked("plain")
    hooked.app.on_start(lambda: logging.getLogger("pyws.server").info("hook"))
    hooked.app.defer(hooked.app.close)
    hooked.app.run()
    lines = [record.getMessage() for record in caplog.records]
    assert lines[1:] == ["hook", "serving", "stopped serving"]


def test_p9_open_sockets_of_handlers(kind: str) -> None:
    """What start functions have made is there when the first handler runs."""
    hooked = Hooked(kind)
    things: List[str] = []

    async def later() -> None:
        await asyncio.sleep(0.05)
        things.append("made")

    def on_open(ws: WebSocket) -> None:
        ws.send(things[0])

    hooked.app.on_start(later if kind == "coroutine" else lambda: things.append("made"))
    hooked.app.ws("/open", open=on_open)

    def ask() -> None:
        with upgraded(hooked.port, "/open", more=frame(b"x")) as client:
            things.append(client.frame().payload.decode())
        hooked.app.defer(hooked.app.close)

    thread = threading.Thread(target=ask)
    thread.start()
    hooked.app.run()
    thread.join(TIMEOUT)
    assert things == ["made", "made"]
