# SPDX-License-Identifier: MIT
"""Handlers that run inside each other: every close event comes, once, however deep they are."""

import gc
import logging
import threading
from typing import Any, Callable, List, Union

import peer
import pytest
from common import TIMEOUT

from pyws import App, WebSocket
from pyws._core import sockets as socket_events
from pyws._core.sockets import sockets as open_sockets

MANY = 300


def connect(server: Any, count: int) -> List[peer.Peer]:
    return [peer.upgraded(server.port) for _ in range(count)]


def test_s25_each_close_handler_closes_the_next_socket(serve: Callable[..., Any]) -> None:
    """S25, S27, T60: a chain that is longer than Python's stack."""
    sockets: List[WebSocket] = []
    closed: List[WebSocket] = []

    def close(ws: WebSocket, code: int, reason: str) -> None:
        closed.append(ws)
        assert ws.get_user_data() is None
        for other in sockets:
            if not other.closed:
                other.close()
                break

    server = serve(open=sockets.append, close=close)
    clients = connect(server, MANY)
    peer.eventually(lambda: len(sockets) == MANY)
    server.call(lambda: sockets[0].close())
    peer.eventually(lambda: len(closed) == MANY)
    assert len(set(closed)) == MANY
    assert all(ws.closed for ws in sockets)
    stats = server.call(server.app.stats)
    assert (stats["opened"], stats["closed"]) == (MANY, MANY)
    assert not [ws for ws in open_sockets.values() if ws._runtime is server.app._runtime]
    for client in clients:
        client.socket.close()


def test_t71_handlers_without_end(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """T71: a subscription handler that always subscribes again: told, and 1011."""
    codes: List[int] = []

    def subscription(ws: WebSocket, topic: str, now: int, before: int) -> None:
        if now > before:
            ws.subscribe(topic + "x")

    server = serve(
        message=lambda ws, message, opcode: ws.subscribe("x"),
        subscription=subscription,
        close=lambda ws, code, reason: codes.append(code),
    )
    with caplog.at_level(logging.ERROR, "pyws"), peer.upgraded(server.port) as client:
        client.send(peer.frame(b"go"))
        assert client.frame().close_code == 1011
        peer.eventually(lambda: codes == [1011])
    assert "handlers run inside each other, more than 20 deep" in caplog.text


def test_s25_close_with_no_stack_left(serve: Callable[..., Any]) -> None:
    """S25: RecursionError before anything has happened, and the socket is as it was."""
    seen: List[str] = []

    def dive(ws: WebSocket, depth: int) -> None:
        try:
            dive(ws, depth + 1)
        except RecursionError:
            if not ws.closed:
                ws.close()

    def message(ws: WebSocket, text: Union[str, bytes], opcode: int) -> None:
        gc.collect()
        gc.disable()  # finalizers of what other tests left would have no stack, either
        try:
            dive(ws, 0)
        except RecursionError:
            seen.append("no stack")
        finally:
            gc.enable()
        seen.append(f"closed {ws.closed}")

    server = serve(message=message, close=lambda ws, code, reason: seen.append(f"event {code}"))
    with peer.upgraded(server.port) as client:
        client.send(peer.frame(b"go"))
        peer.eventually(lambda: "closed True" in seen)
    assert seen.count("event 1006") == 1
    assert seen[-1] == "closed True"


class Interrupted(Exception):
    """Raised by a signal handler, say."""


def test_the_report_of_a_failing_handler_is_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    """The failure is told first, to the peer, too; then the exception comes out of run()."""
    ports: List[int] = []
    codes: List[int] = []
    original = WebSocket._end

    def interrupted(ws: WebSocket, *args: Any) -> Any:
        monkeypatch.setattr(WebSocket, "_end", original)
        raise Interrupted

    def message(ws: WebSocket, text: Union[str, bytes], opcode: int) -> None:
        monkeypatch.setattr(WebSocket, "_end", interrupted)
        raise ValueError("planted")

    def talk_to_the_end() -> None:
        with peer.upgraded(ports[0]) as client:
            client.send(peer.frame(b"go"))
            codes.append(client.frame().close_code)

    app = App()
    app.ws("/", message=message)
    app.listen({"host": "127.0.0.1", "port": 0}, lambda place: ports.append(place.port))
    client = threading.Thread(target=talk_to_the_end)
    client.start()
    with pytest.raises(Interrupted):
        app.run()
    client.join(TIMEOUT)
    assert codes == [1011]


@pytest.mark.parametrize(
    ("owner", "function"), [(WebSocket, "_end_here"), (socket_events, "_run_close")]
)
def test_s25_a_close_event_that_is_interrupted(
    monkeypatch: pytest.MonkeyPatch, owner: Any, function: str
) -> None:
    """S25, T72: the handler runs all the same, once; the exception comes out of run()."""
    seen: List[str] = []
    sockets: List[WebSocket] = []
    ports: List[int] = []
    original = getattr(owner, function)

    def interrupted(ws: WebSocket, *args: Any) -> Any:
        monkeypatch.setattr(owner, function, original)
        raise Interrupted

    def message(ws: WebSocket, text: Union[str, bytes], opcode: int) -> None:
        monkeypatch.setattr(owner, function, interrupted)
        ws.close()

    app = App()
    app.ws("/", open=sockets.append, message=message, close=lambda ws, *args: seen.append("close"))
    app.listen({"host": "127.0.0.1", "port": 0}, lambda place: ports.append(place.port))
    client = threading.Thread(target=lambda: talk(ports[0]))
    client.start()
    with pytest.raises(Interrupted):
        app.run()
    client.join(TIMEOUT)
    assert seen == ["close"]
    assert sockets[0].closed
    assert not [ws for ws in open_sockets.values() if ws._runtime is app._runtime]
    with app:
        pass


def talk(port: int) -> None:
    client = peer.upgraded(port, "/")
    client.send(peer.frame(b"go"))
    client.at_end()
    client.socket.close()
