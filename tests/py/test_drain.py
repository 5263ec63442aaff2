# SPDX-License-Identifier: MIT
"""P9: a shutdown in which clients may finish, and the open connections of an app."""

import asyncio
import logging
import os
import signal
import threading
from contextlib import ExitStack
from typing import Any, Callable, Dict, List

import pytest
from common import TIMEOUT
from coroutines import in_loop
from peer import Peer, close_frame, eventually, frame, handshake, upgraded
from worker_programs import is_free, peers_of_all, start

from pyws import App, WebSocket

pytestmark = pytest.mark.usefixtures("read_by_h11")

Serve = Callable[..., Any]
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
LONG = 600.0  # seconds: no test waits that long


def echoing(serve: Serve, **more: Any) -> Any:
    return serve(message=lambda ws, message, opcode: ws.send(message), **more)


def refused(port: int) -> bool:
    try:
        Peer(port).socket.close()
    except OSError:
        return True
    return False


def echo(client: Peer, text: bytes = b"x") -> None:
    client.send(frame(text))
    assert client.frame().payload == text


def leave(client: Peer) -> None:
    client.send(close_frame(1000))
    assert client.frame().close_code == 1000
    assert client.at_end()
    client.socket.close()


# ---- draining -----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_p9_clients_finish_during_a_drain(serve: Serve, kind: str) -> None:
    """Nothing new is accepted, and run() returns once the last one has left."""

    async def echo_later(ws: WebSocket, message: Any, opcode: int) -> None:
        ws.send(message)

    server = serve(message=echo_later) if kind == "coroutine" else echoing(serve)
    with upgraded(server.port) as first, upgraded(server.port) as second:
        server.call(server.app.close, 1001, "bye", 5.0, LONG)
        assert refused(server.port)
        echo(first)
        leave(first)
        echo(second)
        assert server.thread.is_alive()
        leave(second)
        server.join()
    assert server.error is None


def test_p9_after_the_drain_the_closes_go_out(serve: Serve) -> None:
    server = echoing(serve)
    with upgraded(server.port) as client:
        server.call(server.app.close, 1012, "restart", 5.0, 0.2)
        echo(client)
        received = client.frame()
        assert (received.close_code, received.payload[2:]) == (1012, b"restart")
        client.send(close_frame(1012))
        server.join()


@pytest.mark.parametrize("drain", [0.0, 0.1])
def test_p9_a_second_close_cuts_a_drain_short(serve: Serve, drain: float) -> None:
    server = echoing(serve)
    with upgraded(server.port) as client:
        server.call(server.app.close, 1001, "", 5.0, LONG)
        echo(client)
        server.call(server.app.close, 1012, "now", 5.0, drain)
        assert client.frame().close_code == 1012
        client.send(close_frame(1012))
        server.join()


def test_p9_http_connections_end_after_their_response(serve: Serve) -> None:
    held: List[Any] = []

    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.end("page"))
        app.get("/held", lambda res, req: held.append(res.on_aborted(lambda res: None)))
        app.ws("/ws", {})

    server = serve(configure)
    with Peer(server.port) as idle, Peer(server.port) as busy, upgraded(server.port, "/ws") as ws:
        idle.send(GET)
        assert "connection" not in idle.response().headers
        busy.send(GET.replace(b"/ ", b"/held "))
        eventually(lambda: held)
        server.call(server.app.close, 1001, "", 5.0, LONG)
        assert idle.at_end()
        server.call(lambda: held[0].end("late"))
        response = busy.response()
        assert (response.status, response.body) == (200, b"late")
        assert response.headers["connection"] == "close"
        assert busy.at_end()
        for client in (idle, busy):
            client.socket.close()
        eventually(lambda: server.call(server.app.stats)["connections"] == 1)
        leave(ws)
    server.join()


def test_p9_a_handshake_during_a_drain(serve: Serve) -> None:
    server = echoing(serve)
    with upgraded(server.port) as client, Peer(server.port) as late:
        before = server.call(server.app.stats)["bytes_in"]
        late.send(handshake()[:20])
        eventually(lambda: server.call(server.app.stats)["bytes_in"] == before + 20)
        server.call(server.app.close, 1001, "", 5.0, LONG)
        late.send(handshake()[20:])
        assert late.response().status == 503
        leave(client)
    server.join()


def test_p9_a_drain_without_connections_is_over_at_once(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "pyws.server")
    server = echoing(serve)
    server.app.defer(server.app.close, 1001, "", 5.0, LONG)
    server.join()
    lines = [record.getMessage() for record in caplog.records if record.name == "pyws.server"]
    assert lines[-2:] == ["draining for at most 600 s", "stopped serving"]


def test_p9_mistakes_in_a_drain() -> None:
    with App() as app:
        with pytest.raises(ValueError, match="drain must be from 0"):
            app.close(drain=-1)
        with pytest.raises(TypeError, match="drain must be a number"):
            app.close(drain="1")  # type: ignore[arg-type]


@in_loop
async def test_p9_cancelling_serve_cuts_a_drain_short() -> None:
    app = App().ws("/*", {})
    ports: List[int] = []
    app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))
    serving = asyncio.ensure_future(app.serve())
    loop = asyncio.get_running_loop()
    client = await loop.run_in_executor(None, upgraded, ports[0])
    app.close(drain=LONG)
    await asyncio.sleep(0.05)
    assert not serving.done()
    serving.cancel()
    assert (await loop.run_in_executor(None, client.frame)).close_code == 1001
    client.send(close_frame(1001))
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(serving, TIMEOUT)
    client.socket.close()


@in_loop
async def test_p9_handlers_are_cancelled_after_a_drain() -> None:
    """Not before the drain and the timeout of close are over, though all sockets have left."""
    app = App()
    ended: List[str] = []
    begun = asyncio.Event()

    async def on_message(ws: WebSocket, message: Any, opcode: int) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.append("cancelled")

    app.ws("/*", message=on_message)
    ports: List[int] = []
    app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))
    serving = asyncio.ensure_future(app.serve())
    loop = asyncio.get_running_loop()
    client = await loop.run_in_executor(None, upgraded, ports[0])
    client.send(frame(b"x"))
    await asyncio.wait_for(begun.wait(), TIMEOUT)
    app.close(timeout=0.1, drain=0.1)
    await asyncio.wait_for(serving, TIMEOUT)
    assert ended == ["cancelled"]
    client.socket.close()


# ---- workers ------------------------------------------------------------------------------------

WORKERS = """
    signal.signal(signal.SIGUSR1, lambda *_: app.close(drain=DRAIN))
    listen()
    app.run(workers=3)
    print("returned")
"""


def test_p9_workers_drain() -> None:
    with start(WORKERS.replace("DRAIN", "600")) as program, ExitStack() as stack:
        port = int(program.line())
        peers = [peer for some in peers_of_all(port, 3, stack).values() for peer in some]
        program.process.send_signal(signal.SIGUSR1)
        eventually(lambda: refused(port))
        for peer in peers:
            echo(peer)
        for peer in peers:
            leave(peer)
        assert program.line() == "returned"
        assert program.wait() == 0
    assert is_free(port)


AT_BIRTH = """
    import select
    from pyws._core import workers
    end_with = workers._end_with
    def end_with_later(parent, read_end, runtime):  # what the parent says comes before
        select.select([read_end], [], [], 20)
        end_with(parent, read_end, runtime)
    workers._end_with = end_with_later
    start = workers.Crew._start
    def start_and_drain(crew, slot):
        start(crew, slot)
        if slot.number == 2:
            os.kill(os.getpid(), signal.SIGUSR1)
    workers.Crew._start = start_and_drain
    signal.signal(signal.SIGUSR1, lambda *_: app.close(drain=600))
    listen()
    app.run(workers=2)
    print("returned")
"""


def test_p9_workers_that_have_just_been_forked_drain_as_well() -> None:
    with start(AT_BIRTH) as program:
        program.line()
        assert program.line() == "returned"
        assert program.error_text().count("draining for at most 600 s") == 3


@pytest.mark.parametrize("how", ["time", "signal"])
def test_p9_workers_close_after_a_drain(how: str) -> None:
    drain = "600" if how == "signal" else "0.3"
    with start(WORKERS.replace("DRAIN", drain)) as program, ExitStack() as stack:
        port = int(program.line())
        peers = [peer for some in peers_of_all(port, 3, stack).values() for peer in some]
        program.process.send_signal(signal.SIGUSR1)
        eventually(lambda: refused(port))
        if how == "signal":
            for peer in peers:
                echo(peer)
            os.kill(program.process.pid, signal.SIGTERM)
        for peer in peers:
            assert peer.frame().close_code == 1001
            peer.send(close_frame(1001))
        assert program.line() == "returned"
        assert program.wait() == 0


# ---- connections and find -----------------------------------------------------------------------


def test_p9_connections_of_an_app(serve: Serve) -> None:
    server, other = serve({}), serve({})
    app = server.app
    clients = [upgraded(server.port) for _ in range(3)]
    with upgraded(other.port):
        eventually(lambda: server.call(lambda: len(app.connections)) == 3)
        sockets = server.call(lambda: list(app.connections))
        assert len(set(sockets)) == 3
        assert all(isinstance(ws, WebSocket) and not ws.closed for ws in sockets)
        assert server.call(lambda: sockets[0] in app.connections)
        assert not other.call(lambda: sockets[0] in other.app.connections)
        assert server.call(lambda: repr(app.connections)) == "<Connections: 3 open>"
        leave(clients[0])
        eventually(lambda: server.call(lambda: len(app.connections)) == 2)
        assert server.call(lambda: sum(1 for _ in app.connections)) == 2
        with pytest.raises(RuntimeError, match="thread"):
            len(app.connections)
        with pytest.raises(RuntimeError, match="thread"):
            iter(app.connections)
    for client in clients[1:]:
        client.socket.close()


def test_p9_connections_may_close_while_they_are_iterated_over(serve: Serve) -> None:
    """Each that is still open is visited once."""
    closed: Dict[WebSocket, int] = {}
    server = serve(close=lambda ws, code, reason: closed.update({ws: code}))
    clients = [upgraded(server.port) for _ in range(10)]
    eventually(lambda: server.call(lambda: len(server.app.connections)) == 10)

    def visit() -> List[WebSocket]:
        visited = []
        for ws in server.app.connections:
            visited.append(ws)
            others = [other for other in server.app.connections if other is not ws]
            others[-1].close()
            ws.close()
        return visited

    visited = server.call(visit)
    assert len(visited) == len(set(visited)) == 5
    assert len(closed) == 10
    for client in clients:
        client.socket.close()


@in_loop
async def test_p9_connections_in_a_coroutine() -> None:
    """Sockets open and close during its awaits."""
    app = App().ws("/*", {})
    async with app.serving({"host": "127.0.0.1"}):
        loop = asyncio.get_running_loop()
        clients = [await loop.run_in_executor(None, upgraded, app.port) for _ in range(4)]
        visited = 0
        for ws in app.connections:
            visited += 1
            client = await loop.run_in_executor(None, upgraded, app.port)
            clients.append(client)
            ws.end()
            await asyncio.sleep(0)
        assert visited == 4
        assert len(app.connections) == 4
        for client in clients:
            client.socket.close()


def test_p9_connections_see_open_and_close_handlers(serve: Serve) -> None:
    seen: List[Any] = []

    def note(ws: WebSocket, *_: Any) -> None:
        connections = server.app.connections
        seen.append((ws in connections, len(connections), server.app.find(ws.id) is ws))

    ready = threading.Event()

    def on_open(ws: WebSocket) -> None:
        ready.wait(TIMEOUT)
        note(ws)

    server = serve(open=on_open, close=note)
    ready.set()
    with upgraded(server.port, more=close_frame(1000)) as client:
        client.frame()
    eventually(lambda: len(seen) == 2)
    assert seen == [(True, 1, True), (False, 0, False)]


def test_p9_find(serve: Serve) -> None:
    sockets: List[WebSocket] = []
    server = serve(open=sockets.append)
    find = server.app.find
    with upgraded(server.port):
        eventually(lambda: sockets)
        (ws,) = sockets
        assert f"{ws.id} /" in repr(ws)
        assert server.call(find, ws.id) is ws
        for other in (0, -1, 2**64, 2**200, ws.id + 1, ws.id + (1 << 24)):
            assert server.call(find, other) is None
        with pytest.raises(TypeError, match="id must be an int"):
            server.call(find, str(ws.id))
        with pytest.raises(RuntimeError, match="thread"):
            find(ws.id)
    eventually(lambda: ws.closed)
    assert server.call(find, ws.id) is None
    with upgraded(server.port):  # in the same slot
        eventually(lambda: len(sockets) == 2)
        assert server.call(find, ws.id) is None
        assert server.call(find, sockets[1].id) is sockets[1]
