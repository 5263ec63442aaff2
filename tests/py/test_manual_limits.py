# SPDX-License-Identifier: MIT
"""The promises S28-S52 of the reference manual, one test each and in its order: backpressure,
heartbeats, settings. And that each promise has its test."""

import re
import socket
import time
from typing import Any, Callable, List

import peer
import pytest
from common import ROOT, TIMEOUT, plain_only
from handlers import echo
from manual_sockets import DEFLATE, fill, read_until, with_zlib
from room import Room
from websockets.sync.client import connect

from pyws import App, CompressOptions, OpCode, SendStatus, WebSocket

# ---- backpressure -------------------------------------------------------------------------------


def test_s28_get_buffered_amount(serve: Callable[..., Any]) -> None:
    with Room(serve) as room:
        (ws,) = room.sockets
        assert room.call(ws.get_buffered_amount) == 0
        room.call(fill, ws)
        amount = room.call(ws.get_buffered_amount)
        assert type(amount) is int
        assert 0 < amount <= 30_004


@pytest.mark.parametrize("is_coroutine", [False, True])
def test_s28_the_loop_of_the_manual(serve: Callable[..., Any], is_coroutine: bool) -> None:
    """100 MB to a reader that pauses: in the handler until the kernel refuses, then in `drain`."""
    chunk, bound, total, rounds = b"x" * 10_000, 50_000, 100_000_000, []
    left = total // len(chunk)

    def send_below_bound(ws: WebSocket) -> None:
        nonlocal left
        rounds.append(left)
        while left and ws.get_buffered_amount() < bound:
            assert ws.send(chunk) != SendStatus.DROPPED
            left -= 1

    def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        send_below_bound(ws)

    async def on_message_later(ws: WebSocket, message: str, opcode: OpCode) -> None:
        send_below_bound(ws)

    server = serve(message=on_message_later if is_coroutine else on_message, drain=send_below_bound)
    with peer.upgraded(server.port) as client:
        client.send(peer.frame(b"go"))
        peer.eventually(lambda: rounds)
        size, received = total // len(chunk) * (len(chunk) + 4), len(client.buffer)
        while received < size:
            time.sleep(0.001)
            data = client.socket.recv(1 << 20)
            assert data, "the server has closed"
            received += len(data)
        assert received == size
    assert len(rounds) > 1, "the kernel takes everything"


def test_s29_send_returns_a_status(serve: Callable[..., Any]) -> None:
    with Room(serve) as room:
        (ws,) = room.sockets
        messages: List[Any] = ["x", b"x", {}, 5]
        statuses = [room.call(ws.send, message) for message in messages]
        statuses.append(room.call(ws.send, "x", OpCode.PING))
        room.call(ws.close)
        statuses.append(room.call(ws.send, "x"))
        assert statuses == [SendStatus.SUCCESS] * 5 + [SendStatus.DROPPED]
        assert {type(status) for status in statuses} == {SendStatus}


def test_s30_drain_is_a_handler_of_the_route(serve: Callable[..., Any]) -> None:
    assert not hasattr(WebSocket, "on_writable")
    drained: List[WebSocket] = []
    with Room(serve, clients=2, drain=drained.append) as room:
        for number in (1, 0):
            for _ in room.call(fill, room.sockets[number]):
                room.clients[number].frame()
            peer.eventually(lambda n=number: room.sockets[n] in drained)  # type: ignore[misc]


def test_s31_drain_is_only_a_hint(serve: Callable[..., Any]) -> None:
    """Inside the amount may be anything; it comes after each BACKPRESSURE that was drained."""
    amounts: List[int] = []

    def on_drain(ws: WebSocket) -> None:
        amounts.append(ws.get_buffered_amount())
        if len(amounts) < 3:
            fill(ws)

    with Room(serve, drain=on_drain) as room:
        room.call(fill, room.sockets[0])
        read_until(room.clients[0], lambda: len(amounts) == 3)
        assert room.call(room.sockets[0].get_buffered_amount) == 0


def test_s32_send_status() -> None:
    assert [(int(status), status.name) for status in SendStatus] == [
        (0, "BACKPRESSURE"),
        (1, "SUCCESS"),
        (2, "DROPPED"),
    ]


def test_s33_backpressure_means_queued(serve: Callable[..., Any]) -> None:
    drained: List[WebSocket] = []
    with Room(serve, drain=drained.append) as room:
        statuses = room.call(fill, room.sockets[0])
        assert statuses[-1] == SendStatus.BACKPRESSURE
        assert not drained
        for _ in statuses:
            assert len(room.clients[0].frame().payload) == 30_000
        peer.eventually(lambda: drained)


def test_s34_max_backpressure_is_enforced(serve: Callable[..., Any]) -> None:
    with Room(serve, max_backpressure=100_000) as room:
        (ws,) = room.sockets

        def work() -> None:
            fill(ws, 20_000)
            while ws.send(b"x" * 20_000) != SendStatus.DROPPED:
                assert ws.get_buffered_amount() <= 100_000
            assert 80_000 - 20 < ws.get_buffered_amount() <= 100_000

        room.call(work)


def test_s35_dropped_is_not_queued(serve: Callable[..., Any]) -> None:
    dropped: List[Any] = []
    with Room(
        serve, max_backpressure=50_000, dropped=lambda ws, *args: dropped.append(args)
    ) as room:
        (ws,) = room.sockets

        def work() -> int:
            sent = len(fill(ws))
            before = ws.get_buffered_amount()
            assert ws.send("y" * 60_000) == SendStatus.DROPPED
            assert ws.get_buffered_amount() == before
            return sent

        for _ in range(room.call(work)):
            assert room.clients[0].frame().payload == b"x" * 30_000
        room.call(ws.send, "end")
        assert room.clients[0].frame().payload == b"end"
        assert dropped == [("y" * 60_000, OpCode.TEXT)]


def test_s36_a_slow_subscriber(serve: Callable[..., Any]) -> None:
    dropped: List[WebSocket] = []
    with Room(
        serve, clients=3, max_backpressure=50_000, dropped=lambda ws, *args: dropped.append(ws)
    ) as room:
        room.subscribe(0, 1, 2)
        number = 0
        while len(dropped) < 5:
            text = b"%08d" % number + b"x" * 30_000
            assert room.call(room.app.publish, "news", text)
            assert room.call(room.sockets[0].get_buffered_amount) <= 80_000
            for client in room.clients[1:]:
                assert client.frame().payload == text
            number += 1
            assert number < 5000, "the kernel takes everything"
        assert set(dropped) == {room.sockets[0]}


def test_s37_the_limit_is_per_socket(serve: Callable[..., Any]) -> None:
    with Room(serve, clients=3) as room:

        def work(ws: WebSocket) -> int:
            fill(ws, 10_000)
            while ws.send(b"x" * 10_000) != SendStatus.DROPPED:
                pass
            return ws.get_buffered_amount()

        for ws in room.sockets:  # the default is 64 KiB
            assert 64 * 1024 - 10_004 < room.call(work, ws) <= 64 * 1024


# ---- heartbeats ---------------------------------------------------------------------------------


def test_s38_pings_go_out_by_themselves(serve: Callable[..., Any]) -> None:
    with peer.upgraded(serve(idle_timeout=0.3).port) as client:
        assert client.frame().opcode == OpCode.PING
    with peer.upgraded(serve(idle_timeout=0.3, send_pings_automatically=False).port) as client:
        assert client.at_end()


def test_s39_the_ping_comes_before_the_timeout(serve: Callable[..., Any]) -> None:
    """Received data postpones it; the times themselves (104 s, 8 s) are for a virtual clock."""
    closed: List[int] = []
    server = serve(
        idle_timeout=2.4,
        message=echo,
        close=lambda ws, code, reason: closed.append(code),
    )
    with peer.upgraded(server.port) as client:
        client.socket.settimeout(0.1)
        for number in range(20):  # in all longer than the 1.6 seconds to a Ping
            client.send(peer.frame(b"%d" % number))
            with pytest.raises(socket.timeout):
                while True:
                    assert client.frame().opcode == OpCode.TEXT
        client.socket.settimeout(TIMEOUT)
        assert client.frame().opcode == OpCode.PING
        assert not closed
        assert client.at_end()


def test_s40_a_pong_keeps_the_socket_open(serve: Callable[..., Any]) -> None:
    closed: List[int] = []
    server = serve(
        idle_timeout=1, ping_interval=0.1, close=lambda ws, code, reason: closed.append(code)
    )
    with peer.upgraded(server.port) as client:
        for _ in range(12):  # in all longer than the timeout
            client.send(peer.frame(client.frame().payload, OpCode.PONG))
        assert client.frame().opcode == OpCode.PING
        assert not closed


def test_s41_no_answer_closes_by_force(serve: Callable[..., Any]) -> None:
    closed: List[Any] = []
    server = serve(idle_timeout=0.3, close=lambda ws, *args: closed.append(args))
    with peer.upgraded(server.port) as client:
        assert client.frame().opcode == OpCode.PING
        assert client.at_end()
    peer.eventually(lambda: closed)
    assert closed == [(1006, "idle timeout")]


def test_s42_everything_is_freed(serve: Callable[..., Any]) -> None:
    """Subscriptions and backpressure: after each round as much is held as after the first."""
    with Room(serve, clients=0) as room:

        def memory() -> int:
            return int(room.call(room.app.stats)["memory"])

        settled = []
        for _ in range(3):
            before, first = memory(), len(room.sockets)
            for number in range(first, first + 3):
                room.join()
                room.subscribe(number)
                room.call(room.sockets[number].subscribe, str(number))
                room.call(fill, room.sockets[number])
            assert room.count() == 3
            assert memory() > before
            for client in room.clients[first:]:
                client.reset()
            peer.eventually(lambda: room.call(room.app.stats)["connections"] == 0)
            assert room.count() == 0
            settled.append(memory())
        assert settled[1:] == [settled[0]] * 2


@plain_only("the server that comes back listens by itself")
def test_s43_clients_reconnect(serve: Callable[..., Any]) -> None:
    """What the page does in the browser, here by a client of its own: the server comes back."""
    ports: List[int] = []

    def configure(app: App) -> None:
        app.ws("/*", open=lambda ws: ws.send("welcome"))
        if ports:
            app.listen({"host": "127.0.0.1", "port": ports[0]})

    def welcomed() -> bool:
        try:
            with connect(f"ws://127.0.0.1:{ports[0]}", open_timeout=TIMEOUT) as client:
                return client.recv(TIMEOUT) == "welcome"
        except OSError:
            return False

    server = serve(configure)
    ports.append(server.port)
    assert welcomed()
    server.stop()
    assert not welcomed()
    serve(configure)
    peer.eventually(welcomed)


# ---- settings -----------------------------------------------------------------------------------


def test_s44_compression_has_three_modes() -> None:
    assert (CompressOptions.DISABLED, CompressOptions.SHARED_COMPRESSOR) == (0, 1)
    sizes = {3: 145, 4: 146, 8: 163, 16: 180, 32: 197, 64: 214, 128: 231, 256: 248}
    for size, value in sizes.items():
        assert CompressOptions[f"DEDICATED_COMPRESSOR_{size}KB"] == value


def zlib_memory(serve: Callable[..., Any], mode: int) -> int:
    """Bytes that one more connection holds for compression, after a message each way."""
    server = serve(
        compression=mode,
        message=lambda ws, message, opcode: ws.send(message * 50, opcode, compress=True),
    )

    def used() -> int:
        return int(server.call(server.app.stats)["compression_memory"])

    clients, amounts = [], []
    for _ in range(3):
        clients.append(peer.upgraded(server.port, "/", DEFLATE))
        clients[-1].send(peer.frame(b"compress me"))
        clients[-1].frame()
        amounts.append(used())
    for client in clients:
        client.socket.close()
    assert amounts[2] - amounts[1] == amounts[1] - amounts[0] or not amounts[0]
    return amounts[2] - amounts[1]


@with_zlib
def test_s45_disabled_and_shared_need_no_memory(serve: Callable[..., Any]) -> None:
    assert zlib_memory(serve, CompressOptions.DISABLED) == 0
    assert zlib_memory(serve, CompressOptions.SHARED_COMPRESSOR) == 0


@with_zlib
def test_s46_dedicated_needs_what_its_name_says(serve: Callable[..., Any]) -> None:
    """Beside it zlib's own state, the same for all sizes; zlib-ng takes more, also for its hashes
    (docs/compression.md)."""
    beside = {
        size: zlib_memory(serve, CompressOptions[f"DEDICATED_COMPRESSOR_{size}KB"]) - size * 1024
        for size in (4, 16, 64, 256)
    }
    assert min(beside.values()) > 0
    is_zlib = beside[4] < 64 * 1024
    if is_zlib:
        assert max(beside.values()) - min(beside.values()) < 256
        assert max(beside.values()) < 8 * 1024


@with_zlib
def test_s48_shared_is_isolated_dedicated_slides(serve: Callable[..., Any]) -> None:
    text = "".join(chr(33 + i * i * 7 % 90) for i in range(300))
    sizes: List[List[int]] = []
    for mode in (CompressOptions.SHARED_COMPRESSOR, CompressOptions.DEDICATED_COMPRESSOR_16KB):
        server = serve(compression=mode, message=lambda ws, *args: ws.send(text, compress=True))
        with peer.upgraded(server.port, "/", DEFLATE) as client:
            client.send(peer.frame(b"1") + peer.frame(b"2"))
            sizes.append([len(client.frame().payload) for _ in range(2)])
    (one, two), (first, second) = sizes
    assert one == two
    assert second < first / 4


@with_zlib
def test_s49_shared_for_larger_json(serve: Callable[..., Any]) -> None:
    """Advice: what it promises, that shared pays for JSON, and that disabled is the default."""
    value = [{"name": f"user {number}", "online": True} for number in range(200)]
    sizes = []
    for mode in (CompressOptions.DISABLED, CompressOptions.SHARED_COMPRESSOR):
        server = serve(compression=mode, open=lambda ws: ws.send(value, compress=True))
        with peer.upgraded(server.port, "/", DEFLATE) as client:
            sizes.append(len(client.frame().payload))
    assert sizes[1] < sizes[0] / 5
    assert App.ws.__doc__ is not None
    assert "DISABLED" in App.ws.__doc__


def test_s50_time_between_messages(serve: Callable[..., Any]) -> None:
    """Messages to the client do not count, unless reset_idle_timeout_on_send."""
    closed: List[str] = []
    sockets: List[WebSocket] = []

    def configure(app: App) -> None:
        for path, resets in (("/plain", False), ("/resets", True)):
            app.ws(
                path,
                idle_timeout=1.5,
                send_pings_automatically=False,
                reset_idle_timeout_on_send=resets,
                open=sockets.append,
                close=lambda ws, code, reason: closed.append(ws.path),
            )

    def tick(app: App) -> None:
        for ws in sockets:
            ws.send("tick")
        if "/resets" not in closed:
            app.call_later(0.02, tick, app)

    server = serve(configure)
    server.app.defer(tick, server.app)
    with peer.upgraded(server.port, "/resets"):
        for _ in range(2):  # twice as long as it would live by itself
            with peer.upgraded(server.port, "/plain") as plain:
                while plain.fill():
                    pass
        peer.eventually(lambda: len(closed) == 2)
        assert closed == ["/plain", "/plain"]


def test_s51_pings_of_clients(serve: Callable[..., Any]) -> None:
    closed: List[int] = []
    server = serve(
        idle_timeout=2,
        send_pings_automatically=False,
        close=lambda ws, code, reason: closed.append(code),
    )
    with peer.upgraded(server.port) as client:
        for number in range(25):  # in all longer than the timeout
            client.send(peer.frame(b"%d" % number, OpCode.PING))
            assert client.frame() == (True, OpCode.PONG, b"%d" % number)
            time.sleep(0.1)
        assert not closed
        assert client.at_end()


def test_s52_plugins_are_another_page() -> None:
    """The migration page says what to do instead, and README leads there."""
    assert "Plugins and extensions" in (ROOT / "docs" / "migration.md").read_text()
    assert "(docs/migration.md)" in (ROOT / "README.md").read_text()


# ---- completeness -------------------------------------------------------------------------------


def test_every_promise_has_its_test() -> None:
    """There is no promise with number 47."""
    files = (ROOT / "tests" / "py").glob("test_manual*.py")
    numbers = re.findall(r"(?m)^def test_s(\d\d)_", "".join(file.read_text() for file in files))
    assert set(map(int, numbers)) == set(range(1, 53)) - {47}
