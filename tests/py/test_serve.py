# SPDX-License-Identifier: MIT
"""serve() in other people's programs: their signals, and the cancel scopes of anyio (P9)."""

import asyncio
import functools
import signal
import time
from typing import Any, Callable, Coroutine, List

import pytest
from common import TIMEOUT
from peer import Peer, close_frame, upgraded
from program import Program

from pyws import App, WebSocket

anyio = pytest.importorskip("anyio")

# ---- signals ------------------------------------------------------------------------------------

PROGRAM = """
import asyncio, signal
from pyws import App

async def on_close(ws, code, reason):
    print("close", code, reason, flush=True)

def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]

app = App()
app.ws("/*", close=on_close)
app.listen({"host": "127.0.0.1"}, lambda place: print(place.port, flush=True))

async def serve():
    before = handlers()
    try:
        print("returned", await app.serve(signals=SIGNALS), flush=True)
    finally:
        print("restored", before == handlers(), flush=True)

RUN
"""

RUNS = {
    "asyncio": "asyncio.run(serve())",
    "uvloop": "import uvloop; uvloop.install(); asyncio.run(serve())",
    "anyio": "import anyio; anyio.run(serve)",
}


def start(run: str, signals: bool = True) -> Program:
    if run == "uvloop":
        pytest.importorskip("uvloop")
    return Program("-c", PROGRAM.replace("SIGNALS", str(signals)).replace("RUN", RUNS[run]))


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_p9_a_signal_shuts_down_gracefully(run: str, number: int) -> None:
    """P9: with `signals=True`."""
    with start(run) as program:
        with upgraded(int(program.line())) as client:
            program.process.send_signal(number)
            assert client.frame() == (True, 8, b"\x03\xe9server shutting down")
            client.send(close_frame(1001))
            assert client.at_end()
        assert program.wait() == 0
        lines = program.rest().splitlines()
        assert lines == ["close 1001 server shutting down", "returned None", "restored True"]
        assert program.error_text() == ""


@pytest.mark.parametrize("run", RUNS)
def test_the_second_sigint_drops_everything(run: str) -> None:
    with start(run) as program, upgraded(int(program.line())) as client:
        program.process.send_signal(signal.SIGTERM)
        assert client.frame().close_code == 1001
        program.process.send_signal(signal.SIGINT)
        assert program.wait() in (-signal.SIGINT, 130)
        assert program.rest().splitlines()[-1] == "restored True"
        assert program.error_text().endswith("KeyboardInterrupt\n")


TWO = """
async def two():
    other = App()
    other.ws("/*", close=on_close)
    other.listen({"host": "127.0.0.1"}, lambda place: print(place.port, flush=True))
    before = handlers()
    first, second = (app, other) if FIRST == "older" else (other, app)
    tasks = [asyncio.ensure_future(one.serve(signals=True)) for one in (app, other)]
    if FIRST != "none":
        await asyncio.sleep(0.05)
        first.close()
        while first.port:
            await asyncio.sleep(0.01)
        print("alone", flush=True)
    await asyncio.gather(*tasks)
    print("restored", before == handlers(), flush=True)
"""


@pytest.mark.parametrize("run", RUNS)
@pytest.mark.parametrize("first", ["none", "older", "younger"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_is_for_all_apps_of_the_loop(run: str, first: str, number: int) -> None:
    """Whichever of them ends before: the signals are those of the other then."""
    if run == "uvloop":
        pytest.importorskip("uvloop")
    how = RUNS[run].replace("serve()", "two()").replace("run(serve)", "run(two)")
    text = PROGRAM.replace("SIGNALS", "True").replace(
        "RUN", TWO.replace("FIRST", repr(first)) + how
    )
    with Program("-c", text) as program:
        ports = [int(program.line()) for _ in range(2)]
        if first != "none":
            assert program.line() == "alone"
            del ports[first == "younger"]
        clients = [upgraded(port) for port in ports]
        program.process.send_signal(number)
        for client in clients:
            assert client.frame().close_code == 1001
            client.send(close_frame(1001))
            assert client.at_end()
            client.socket.close()
        assert program.wait() == 0
        assert program.rest().splitlines()[-1] == "restored True"
        assert program.error_text() == ""


def test_p9_signals_are_left_alone_without_being_asked_for() -> None:
    """P9: without it."""
    with start("asyncio", signals=False) as program, upgraded(int(program.line())):
        program.process.send_signal(signal.SIGTERM)
        assert program.wait() == -signal.SIGTERM


# ---- cancellation -------------------------------------------------------------------------------


class Served:
    """An app in the loop of a test, and one client of it."""

    def __init__(self) -> None:
        self.port = 0
        self.closed: List[Any] = []
        self.app = App()
        self.app.ws("/*", close=self._on_close, close_timeout=TIMEOUT)
        self.app.listen({"host": "127.0.0.1"}, self._listening)

    def _listening(self, place: Any) -> None:
        self.port = place.port

    async def _on_close(self, ws: WebSocket, code: int, reason: str) -> None:
        info = await ws.wait_closed()
        self.closed.append((code, info.clean))

    async def connect(self) -> Peer:
        client: Peer = await in_thread(functools.partial(upgraded, self.port))
        return client


async def in_thread(fn: Callable[[], Any]) -> Any:
    return await asyncio.get_running_loop().run_in_executor(None, fn)


async def turns(count: int) -> None:
    for _ in range(count):
        await asyncio.sleep(0)


async def say_goodbye(served: Served, client: Peer) -> None:
    """The client gets its Close, and is waited for until it answers."""
    frame = await in_thread(client.frame)
    assert frame.close_code == 1001
    await turns(100)
    assert not served.closed or served.closed[0][1] is None
    assert served.app._runtime.is_busy
    client.send(close_frame(1001))
    client.__exit__()


@pytest.fixture(params=["asyncio", "uvloop"])
def run(request: pytest.FixtureRequest) -> Callable[..., None]:
    """anyio.run, for functions without arguments."""
    if request.param == "uvloop":
        pytest.importorskip("uvloop")

    def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
        anyio.run(main, backend_options={"use_uvloop": request.param == "uvloop"})

    return run


def test_a_cancelled_scope_shuts_down_gracefully(run: Callable[..., None]) -> None:
    """It cancels again in each turn of the loop, as long as anything is left in it."""
    served = Served()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(served.app.serve)
            client = await served.connect()
            goodbye = asyncio.ensure_future(say_goodbye(served, client))
            group.cancel_scope.cancel()
        await goodbye

    run(main)
    assert served.closed == [(1001, True)]


def test_a_scope_around_serving_shuts_down_gracefully(run: Callable[..., None]) -> None:
    served = Served()

    async def main() -> None:
        with anyio.CancelScope() as scope:
            async with served.app.serving():
                client = await served.connect()
                goodbye = asyncio.ensure_future(say_goodbye(served, client))
                scope.cancel()
                await anyio.sleep(TIMEOUT)
        await goodbye

    run(main)
    assert served.closed == [(1001, True)]


def test_a_scope_that_stays_cancelled_is_left_in_time(run: Callable[..., None]) -> None:
    """A client that never answers holds it up for the time of a shutdown."""
    served = Served()

    async def main() -> None:
        async with anyio.create_task_group() as group:
            group.start_soon(served.app.serve)
            client = await served.connect()
            group.cancel_scope.cancel()
        client.__exit__()

    began = time.monotonic()
    run(main)
    assert time.monotonic() - began < TIMEOUT
    assert served.closed == [(1001, False)]


@pytest.mark.parametrize("serving", [False, True])
def test_cancelling_once_more_later_drops_everything(serving: bool) -> None:
    """Not in the same turns of the loop, however often that is."""
    served = Served()

    async def serve() -> None:
        if serving:
            async with served.app.serving():
                await asyncio.sleep(3600)
        else:
            await served.app.serve()

    async def main() -> None:
        task = asyncio.ensure_future(serve())
        client = await served.connect()
        for _ in range(100):
            task.cancel()
            await turns(1)
        assert served.app._runtime.is_busy
        assert (await in_thread(client.frame)).close_code == 1001
        await turns(10)
        while not task.done():  # serving() itself was left by the first of them
            task.cancel()
            await turns(10)
        assert served.closed == [(1001, False)]
        client.__exit__()

    began = time.monotonic()
    asyncio.run(main())
    assert time.monotonic() - began < TIMEOUT
