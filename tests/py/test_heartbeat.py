# SPDX-License-Identifier: MIT
"""Heartbeats through Python: only the order of events is asserted, exact times are C's tests'."""

import socket
from typing import Any, Callable, List, Tuple

import peer
import pytest
from common import TIMEOUT
from handlers import open_socket
from websockets.sync.client import connect

from pyws import App, WebSocket

TICK = 0.02  # seconds between the sends of the tests that keep something alive

# ---- Pings --------------------------------------------------------------------------------------


def test_s38_s39_s40_a_ping_goes_out_and_the_pong_keeps_it_open(serve: Callable[..., Any]) -> None:
    pongs: List[bytes] = []
    closed: List[int] = []
    _server, ws, client = open_socket(
        serve,
        idle_timeout=1.8,
        pong=lambda ws, data: pongs.append(data),
        close=lambda ws, code, reason: closed.append(code),
    )
    with client:
        for number in range(3):  # in all longer than the timeout
            ping = client.frame()
            assert (ping.fin, ping.opcode) == (True, 9)
            assert not closed
            client.send(peer.frame(ping.payload, 10))
            peer.eventually(lambda n=number: len(pongs) > n)  # type: ignore[misc]
        assert not ws.closed


def test_s14_s40_a_client_that_answers_pings_stays(serve: Callable[..., Any]) -> None:
    pongs: List[bytes] = []
    server = serve(
        idle_timeout=1,
        ping_interval=0.1,
        pong=lambda ws, data: pongs.append(data),
        message=lambda ws, message, opcode: ws.send(message, opcode),
    )
    with connect(server.url) as client:
        peer.eventually(lambda: len(pongs) >= 12)
        client.send("still here")
        assert client.recv(TIMEOUT) == "still here"


def test_s4_s41_a_client_that_does_not_answer_is_dropped(serve: Callable[..., Any]) -> None:
    closed: List[Tuple[int, str]] = []
    _server, ws, client = open_socket(
        serve, idle_timeout=0.3, close=lambda ws, *args: closed.append(args)
    )
    with client:
        assert client.frame().opcode == 9
        assert client.at_end()
    peer.eventually(lambda: closed)
    assert closed == [(1006, "idle timeout")]
    info = ws.close_info
    assert (info.sent, info.received, info.clean, info.local) == (None, None, False, True)


def test_s5_idle_timeout_0_never_pings_nor_closes(serve: Callable[..., Any]) -> None:
    closed: List[str] = []

    def configure(app: App) -> None:
        app.ws(
            "/forever",
            idle_timeout=0,
            message=lambda ws, message, opcode: ws.send(message, opcode),
            close=lambda ws, code, reason: closed.append("forever"),
        )
        app.ws("/short", idle_timeout=0.3, close=lambda *args: closed.append("short"))

    server = serve(configure)
    with peer.upgraded(server.port, "/forever") as forever:
        for _ in range(2):
            with peer.upgraded(server.port, "/short") as short:
                assert short.frame().opcode == 9
                assert short.at_end()
        forever.send(peer.frame(b"hello"))
        assert forever.frame() == (True, 1, b"hello")
        assert closed == ["short", "short"]


def test_ping_interval_and_ping_timeout(serve: Callable[..., Any]) -> None:
    closed: List[Tuple[int, str]] = []
    _server, _ws, client = open_socket(
        serve,
        idle_timeout=0,
        ping_interval=0.1,
        ping_timeout=0.6,
        close=lambda ws, *args: closed.append(args),
    )
    with client:
        for _ in range(3):
            ping = client.frame()
            assert ping.opcode == 9
            client.send(peer.frame(ping.payload, 10))
        assert not closed
        while not client.at_end():
            assert client.frame().opcode == 9
    peer.eventually(lambda: closed)
    assert closed == [(1006, "ping timeout")]


@pytest.mark.parametrize("setting", [{"send_pings_automatically": False}, {"ping_interval": 0}])
def test_s38_without_pings(serve: Callable[..., Any], setting: Any) -> None:
    closed: List[Tuple[int, str]] = []
    _server, _ws, client = open_socket(
        serve, idle_timeout=0.3, close=lambda ws, *args: closed.append(args), **setting
    )
    with client:
        assert client.at_end()
    peer.eventually(lambda: closed)
    assert closed == [(1006, "idle timeout")]


# ---- what ends a silence ------------------------------------------------------------------------


def outlast(port: int, act: Callable[[], Any]) -> None:
    """Call `act` every TICK until two silent clients, one after the other, have been dropped."""
    for _ in range(2):
        with peer.upgraded(port, "/silent") as silent:
            silent.socket.settimeout(TICK)
            while True:
                act()
                try:
                    if not silent.fill():
                        break
                except socket.timeout:
                    pass


def test_s51_pings_of_the_client_keep_it_open(serve: Callable[..., Any]) -> None:
    pings: List[bytes] = []

    def configure(app: App) -> None:
        app.ws("/silent", {}, idle_timeout=1.5)
        app.ws("/active", idle_timeout=1.5, ping=lambda ws, data: pings.append(data))

    server = serve(configure)
    with peer.upgraded(server.port, "/active") as active:

        def ping() -> None:
            active.send(peer.frame(b"here", 9))
            answer = active.frame()
            while answer.opcode == 9:  # the machine was busy, and the server sent one, too
                answer = active.frame()
            assert answer == (True, 10, b"here")

        outlast(server.port, ping)
    assert set(pings) == {b"here"}


@pytest.mark.parametrize("resets", [False, True])
def test_s50_messages_to_the_client_count_only_when_asked(
    serve: Callable[..., Any], resets: bool
) -> None:
    """S50: the server sends all the time, the client is silent."""
    closed: List[Tuple[int, str]] = []
    server, ws, client = open_socket(
        serve,
        idle_timeout=1.5,
        send_pings_automatically=False,
        reset_idle_timeout_on_send=resets,
        close=lambda ws, *args: closed.append(args),
    )
    enough = 180  # ticks: more than twice the timeout
    sent: List[Any] = []

    def tick() -> None:
        sent.append(ws.send("tick"))
        if len(sent) < enough and not closed:
            server.app.call_later(TICK, tick)

    with client:
        server.call(tick)
        peer.eventually(lambda: closed or len(sent) == enough)
        assert closed == ([] if resets else [(1006, "idle timeout")])
        if resets:
            assert [client.frame().payload for _ in range(enough)] == [b"tick"] * enough


def test_a_byte_ends_a_silence(serve: Callable[..., Any]) -> None:
    """Bytes count, not messages: a frame that never gets whole keeps the connection open."""
    closed: List[str] = []

    def configure(app: App) -> None:
        app.ws("/silent", idle_timeout=1.5, send_pings_automatically=False,
               close=lambda *args: closed.append("silent"))  # fmt: skip
        app.ws("/slow", idle_timeout=1.5, close=lambda *args: closed.append("slow"))

    server = serve(configure)
    with peer.upgraded(server.port, "/slow") as slow:
        slow.send(b"\x82\xfe\x10\x00\0\0\0\0")
        outlast(server.port, lambda: slow.send(b"x"))
        peer.eventually(lambda: len(closed) == 2)
        assert closed == ["silent", "silent"]


# ---- the other times ----------------------------------------------------------------------------


def test_max_lifetime(serve: Callable[..., Any]) -> None:
    closed: List[Tuple[int, str]] = []
    _server, ws, client = open_socket(
        serve, max_lifetime=0.2 / 60, close=lambda ws, *args: closed.append(args)
    )
    with client:
        assert client.frame() == (True, 8, b"\x03\xe8please reconnect")
        client.send(peer.close_frame(1000))
        assert client.at_end()
    assert closed == [(1000, "please reconnect")]
    peer.eventually(lambda: ws.close_info.clean is not None)
    info = ws.close_info
    assert info.sent == (1000, "please reconnect")
    assert (info.received, info.clean, info.local) == ((1000, ""), True, True)


def test_latency(serve: Callable[..., Any]) -> None:
    pongs: List[Any] = []

    def on_pong(ws: WebSocket, data: bytes) -> None:
        pongs.append((data, ws.latency))

    server, ws, client = open_socket(serve, pong=on_pong)

    def latency() -> Any:
        return server.call(lambda: ws.latency)

    with client:
        assert latency() is None
        client.send(peer.frame(b"unasked", 10))
        peer.eventually(lambda: pongs)
        assert latency() is None
        server.call(ws.ping, b"one")
        assert client.frame() == (True, 9, b"one")
        client.send(peer.frame(b"another", 10))
        peer.eventually(lambda: len(pongs) == 2)
        assert latency() is None
        client.send(peer.frame(b"one", 10))
        peer.eventually(lambda: len(pongs) == 3)
        known = latency()
        assert type(known) is float
        assert 0 < known < TIMEOUT
        assert pongs[2] == (b"one", known)
    peer.eventually(lambda: ws.closed)
    assert latency() == known


def test_latency_of_automatic_pings(serve: Callable[..., Any]) -> None:
    server, ws, client = open_socket(serve, ping_interval=0.05)
    with client:
        client.send(peer.frame(client.frame().payload, 10))
        peer.eventually(lambda: server.call(lambda: ws.latency))


def test_pause_stops_the_idle_clock(serve: Callable[..., Any]) -> None:
    closed: List[str] = []
    messages: List[str] = []

    def configure(app: App) -> None:
        app.ws("/paused", idle_timeout=0.3, open=paused.append,
               message=lambda ws, message, opcode: messages.append(message),  # type: ignore[arg-type]
               close=lambda ws, code, reason: closed.append(reason))  # fmt: skip
        app.ws("/silent", idle_timeout=0.3, close=lambda *args: closed.append("other"))

    paused: List[WebSocket] = []
    server = serve(configure)
    with peer.upgraded(server.port, "/paused") as client:
        peer.eventually(lambda: paused)
        server.call(paused[0].pause)
        for _ in range(2):
            with peer.upgraded(server.port, "/silent") as silent:
                assert silent.frame().opcode == 9
                assert silent.at_end()
        peer.eventually(lambda: len(closed) == 2)
        assert closed == ["other", "other"]
        client.send(peer.frame(b"waited"))
        server.call(paused[0].resume)
        peer.eventually(lambda: messages)
        assert client.frame().opcode == 9  # the clock runs again
        assert client.at_end()
    peer.eventually(lambda: len(closed) == 3)
    assert closed[2] == "idle timeout"
