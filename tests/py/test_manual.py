"""The promises S1-S51 of the reference manual, one test each and in its order.

Each is short; where a promise has corners, they are tested elsewhere under the same id.
"""

import functools
import inspect
import re
import socket
import sys
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import peer
import pytest
from common import ROOT, TIMEOUT
from program import Program
from test_topics import Room
from websockets.sync.client import connect

import pyws
from pyws import App, CompressOptions, OpCode, Request, Response, SendStatus, WebSocket
from pyws._core.settings import BEHAVIOR_KEYS, Behavior
from pyws._core.values import HANDLERS
from pyws._native import lib

DEFLATE = [("Sec-WebSocket-Extensions", "permessage-deflate; client_max_window_bits")]
PROGRAM = ROOT / "examples" / "py" / "upgrade.py"

with_zlib = pytest.mark.skipif(
    not lib.ws_compression_available(), reason="built without compression"
)


def echo(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    ws.send(message, opcode)


def accept(res: Response, req: Request, socket_context: Any, user_data: Any = None) -> None:
    """As the manual does it."""
    key = req.get_header("sec-websocket-key")
    protocol = req.get_header("sec-websocket-protocol")
    extensions = req.get_header("sec-websocket-extensions")
    res.upgrade(key, protocol, extensions, socket_context, user_data)  # type: ignore[arg-type]


def fill(ws: WebSocket, size: int = 30_000) -> List[SendStatus]:
    """Send until the kernel takes no more; what each send said."""
    statuses = [ws.send(b"x" * size)]
    while statuses[-1] == SendStatus.SUCCESS:
        statuses.append(ws.send(b"x" * size))
        assert len(statuses) < 5000, "the kernel takes everything"
    return statuses


def read_until(client: peer.Peer, condition: Callable[[], object]) -> None:
    """Read and forget until `condition()` holds."""
    client.socket.settimeout(0.01)

    def done() -> object:
        try:
            client.fill()
        except socket.timeout:
            pass
        client.buffer = b""
        return condition()

    peer.eventually(done)


# ---- registration and configuration -------------------------------------------------------------


def test_s01_routes_are_registered_similarly() -> None:
    with App() as app:
        assert app.ws("/chat", {"message": echo}) is app
        assert app.get("/chat", print) is app
        assert app.any("/*", print) is app


def test_s02_pattern_matching_as_for_http(serve: Callable[..., Any]) -> None:
    def upgrade(name: str, res: Response, req: Request, socket_context: Any) -> None:
        accept(res, req, socket_context, f"{name} {req.get_parameter(0)}")

    def configure(app: App) -> None:
        for pattern in ("/*", "/chat/:room", "/chat/lobby"):
            app.ws(
                pattern,
                upgrade=functools.partial(upgrade, pattern),
                open=lambda ws: ws.send(ws.get_user_data()),
            )

    server = serve(configure)
    for path, text in [
        ("/chat/lobby", b"/chat/lobby None"),
        ("/chat/blue", b"/chat/:room blue"),
        ("/x/y", b"/* x/y"),
    ]:
        with peer.upgraded(server.port, path) as client:
            assert client.frame().payload == text


def test_s03_a_whole_set_of_callbacks() -> None:
    names = "open close upgrade message drain subscription ping pong dropped"
    assert set(HANDLERS) == set(names.split())
    with App() as app:
        for number, name in enumerate(HANDLERS):
            app.ws(f"/{number}", {name: print})


def test_s04_idle_timeout(serve: Callable[..., Any]) -> None:
    begun = time.monotonic()
    server = serve(idle_timeout=0.3)
    with peer.upgraded(server.port) as client:
        assert client.frame().opcode == OpCode.PING
        assert client.at_end()
    assert time.monotonic() - begun >= 0.3  # never early


def test_s05_idle_timeout_0_is_no_policy(serve: Callable[..., Any]) -> None:
    def configure(app: App) -> None:
        app.ws("/stale", idle_timeout=0, message=echo).ws("/idle", idle_timeout=0.3)

    assert Behavior({"idle_timeout": 0}, {}).c_fields()["idle_timeout"] == 0
    server = serve(configure)
    with peer.upgraded(server.port, "/stale") as stale:
        with peer.upgraded(server.port, "/idle") as idle:
            idle.frame()
            assert idle.at_end()
        stale.send(peer.frame(b"no Ping came"))
        assert stale.frame() == (True, OpCode.TEXT, b"no Ping came")


def test_s06_open(serve: Callable[..., Any]) -> None:
    seen: List[str] = []

    def on_open(ws: WebSocket) -> None:
        seen.append("open")
        ws.send("welcome")

    server = serve(open=on_open, message=lambda ws, message, opcode: seen.append(message))
    with peer.upgraded(server.port, more=peer.frame(b"in the segment of the request")) as client:
        assert client.frame().payload == b"welcome"
    peer.eventually(lambda: len(seen) == 2)
    assert seen == ["open", "in the segment of the request"]


def test_s07_close(serve: Callable[..., Any]) -> None:
    seen: List[Tuple[Any, ...]] = []
    server = serve(close=lambda *args: seen.append(args))
    for number, data in enumerate([peer.close_frame(4001, b"bye"), peer.frame(b"", 8), b""]):
        with peer.upgraded(server.port, more=data):
            pass
        peer.eventually(lambda n=number: len(seen) > n)  # type: ignore[misc]
    assert [args[1] for args in seen] == [4001, 1005, 1006]
    assert [args[2] for args in seen[:2]] == ["bye", ""]
    assert {tuple(map(type, args)) for args in seen} == {(WebSocket, int, str)}
    assert [ws.close_info.local for ws, _, _ in seen] == [False] * 3


def test_s08_upgrade(serve: Callable[..., Any]) -> None:
    def on_upgrade(*args: Any) -> None:
        res, req, _ = args
        if req.get_url() == "/no":
            res.write_status(403).end("no")
        else:
            accept(*args)

    server = serve(upgrade=on_upgrade)
    with peer.Peer(server.port) as client:
        client.send(peer.handshake("/no"))
        assert client.response().status == 403
    peer.upgraded(server.port, "/yes").socket.close()


def test_s09_message(serve: Callable[..., Any]) -> None:
    seen: List[Tuple[Any, ...]] = []
    server = serve(message=lambda ws, *args: seen.append(args))
    with connect(server.url) as client:
        client.send("text")
        client.send(b"\0\xff")
        client.send(["frag", "ments"])
        peer.eventually(lambda: len(seen) == 3)
    text, binary = OpCode.TEXT, OpCode.BINARY
    assert seen == [("text", text), (b"\0\xff", binary), ("fragments", text)]
    assert all(type(opcode) is OpCode for _, opcode in seen)


def test_s10_drain(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []
    with Room(serve, drain=lambda *args: seen.append(args)) as room:
        for _ in room.call(fill, room.sockets[0]):
            room.clients[0].frame()
        peer.eventually(lambda: seen)
        assert seen == [(room.sockets[0],)]


def test_s11_names_of_the_settings() -> None:
    manual = "compression max_payload_length idle_timeout open message close upgrade drain"
    assert {*manual.split(), "subscription"} < set(BEHAVIOR_KEYS)
    with App() as app, pytest.raises(TypeError, match="did you mean 'max_payload_length'"):
        app.ws("/", {"maxPayloadLength": 5})


@with_zlib
def test_s12_shared_compressor(serve: Callable[..., Any]) -> None:
    assert int(CompressOptions.SHARED_COMPRESSOR) == 1
    text = b"compressed only when asked for; " * 10
    server = serve(
        compression=CompressOptions.SHARED_COMPRESSOR,
        message=lambda ws, message, opcode: ws.send(text, opcode, compress=message == "yes"),
    )
    with peer.Peer(server.port) as client:
        client.send(peer.handshake("/", DEFLATE))
        accepted = client.response().headers["sec-websocket-extensions"]
        assert "server_no_context_takeover" in accepted
        assert "client_no_context_takeover" in accepted
        client.send(peer.frame(b"no") + peer.frame(b"yes"))
        assert client.frame().payload == text
        assert len(client.frame().payload) < len(text) / 2


def test_s13_max_payload_length(serve: Callable[..., Any]) -> None:
    limit = 16 * 1024 * 1024
    server = serve(
        max_payload_length=limit,
        message=lambda ws, message, opcode: ws.send(str(len(message))),
    )
    with peer.upgraded(server.port) as client:
        client.send(peer.frame(bytes(limit), 2))
        assert client.frame().payload == b"%d" % limit
        client.send(peer.frame(bytes(limit + 1), 2)[:100])
        assert client.frame().close_code == 1009


def test_s14_a_client_that_answers_pings_stays(serve: Callable[..., Any]) -> None:
    with App() as app:
        app.ws("/", {"idle_timeout": 12})
    pongs: List[bytes] = []
    server = serve(idle_timeout=1.8, message=echo, pong=lambda ws, data: pongs.append(data))
    with connect(server.url) as client:
        peer.eventually(lambda: len(pongs) == 2)
        client.send("here")
        assert client.recv(TIMEOUT) == "here"


def test_s15_subscription(serve: Callable[..., Any]) -> None:
    seen: List[Tuple[Any, ...]] = []
    with Room(serve, clients=2, subscription=lambda *args: seen.append(args)) as room:
        one, two = room.sockets
        room.call(lambda: [ws.subscribe("news") for ws in (one, two)])
        room.call(one.unsubscribe, "news")
        room.call(two.end)
    assert seen == [
        (one, "news", 1, 0),
        (two, "news", 2, 1),
        (one, "news", 1, 2),
        (two, "news", 0, 1),
    ]


def test_s16_names_to_import() -> None:
    names = (
        "App WebSocket OpCode CompressOptions SendStatus Request Response AppOptions "
        "AppListenOptions"
    )
    for name in names.split():
        assert inspect.isclass(getattr(pyws, name))


# ---- user data ----------------------------------------------------------------------------------


def recorded(serve: Callable[..., Any], user_data: Any) -> List[Tuple[str, Any]]:
    """What get_user_data() gave in each handler of one connection."""
    seen: List[Tuple[str, Any]] = []

    def handler(name: str) -> Callable[..., None]:
        return lambda ws, *args: seen.append((name, ws.get_user_data()))

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        seen.append(("message", ws.get_user_data()))
        for _ in fill(ws):
            pass

    server = serve(
        {name: handler(name) for name in ("open", "drain", "ping", "close")},
        message=on_message,
        upgrade=functools.partial(accept, user_data=user_data),
    )
    with peer.upgraded(server.port, more=peer.frame(b"", 9) + peer.frame(b"x")) as client:
        read_until(client, lambda: len(seen) == 4)
    peer.eventually(lambda: len(seen) == 5)
    return seen


def test_s17_user_data(serve: Callable[..., Any]) -> None:
    user_data = {"user_id": 1}
    assert all(found is user_data for _, found in recorded(serve, user_data))


def test_s18_from_user_data_to_the_socket(serve: Callable[..., Any]) -> None:
    users: List[Dict[str, Any]] = []

    def upgrade(res: Response, req: Request, socket_context: Any) -> None:
        users.append({})
        accept(res, req, socket_context, users[-1])

    def on_open(ws: WebSocket) -> None:
        ws.get_user_data()["ws"] = ws

    server = serve(upgrade=upgrade, open=on_open)
    with peer.upgraded(server.port) as client:
        peer.eventually(lambda: users and "ws" in users[0])
        server.call(lambda: users[0]["ws"].send("found you"))
        assert client.frame().payload == b"found you"


def test_s19_user_data_is_valid_while_the_socket_is(serve: Callable[..., Any]) -> None:
    class User:
        pass

    seen = recorded(serve, User())
    assert [name for name, _ in seen] == ["open", "ping", "message", "drain", "close"]
    assert all(type(found) is User for _, found in seen)


def test_s20_whether_the_socket_is_still_valid(serve: Callable[..., Any]) -> None:
    inside: List[bool] = []
    with Room(serve, close=lambda ws, *args: inside.append(ws.closed)) as room:
        (ws,) = room.sockets
        assert not ws.closed
        assert ws
        room.call(ws.close)
        assert ws.closed
        assert not ws
        assert inside == [True]


def run_program(tmp_path: Path, source: str) -> Tuple[Program, int]:
    """The program of a manual, at a port that the kernel picks."""
    script = tmp_path / "program.py"
    here = "app.listen(0, lambda place: print(place.port, flush=True))"
    assert source.count("app.listen(9001)") == 1
    script.write_text(source.replace("app.listen(9001)", here))
    program = Program(str(script))
    try:
        return program, int(program.line())
    except BaseException:
        program.__exit__()
        raise


def test_s21_the_second_program_runs(tmp_path: Path) -> None:
    program, port = run_program(tmp_path, PROGRAM.read_text())
    with program:
        for number in (1, 2):
            with peer.upgraded(port) as client:
                assert client.frame() == (True, OpCode.TEXT, b"Hello, world!")
                client.send(peer.frame(b"hi") + peer.close_frame(1000))
                assert client.frame().close_code == 1000
            for line in (" connected", ": hi", " closed"):
                assert program.line() == f"ws {number}{line}"
        assert program.stop(15) == 0
        assert program.error_text() == ""


def test_s21_the_first_programs_stub_is_a_500(tmp_path: Path) -> None:
    """The first program is the same, but for its upgrade handler, a stub that never answers."""
    source, count = re.subn(
        r"(?s)def on_upgrade.*?\n\n", "def on_upgrade(*args): pass\n\n", PROGRAM.read_text()
    )
    assert count == 1
    source = "import logging; logging.basicConfig()\n" + source
    program, port = run_program(tmp_path, source)
    with program, peer.Peer(port) as client:
        client.send(peer.handshake())
        assert client.response().status == 500
        peer.eventually(lambda: "did not answer the request" in program.error_text())
        assert program.error_text().count("\n") == 1


def test_s22_headers_by_lower_case_name(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def upgrade(res: Response, req: Request, socket_context: Any) -> None:
        names = ("sec-websocket-key", "sec-websocket-protocol", "x-case")
        seen.extend(req.get_header(name) for name in names)
        res.upgrade(seen[0], None, None, socket_context)

    with peer.upgraded(serve(upgrade=upgrade).port, "/", [("X-CASE", "a B")]):
        pass
    assert seen == [peer.KEY, None, "a B"]


def test_s23_send_in_open(serve: Callable[..., Any]) -> None:
    with connect(serve(open=lambda ws: ws.send("Hello, world!")).url) as client:
        assert client.recv(TIMEOUT) == "Hello, world!"


def test_s24_user_data_in_every_handler(serve: Callable[..., Any]) -> None:
    assert [found["user_id"] for _, found in recorded(serve, {"user_id": 7})] == [7] * 5


# ---- validity -----------------------------------------------------------------------------------


def test_s25_sockets_live_from_open_to_close(serve: Callable[..., Any]) -> None:
    def everything(ws: WebSocket, *args: Any) -> None:
        ws.send("x")
        ws.ping()
        ws.subscribe("news")
        ws.publish("news", "x")
        ws.get_buffered_amount()
        ws.get_remote_address()
        ws.get_topics()
        done.append(ws.closed)

    done: List[bool] = []
    server = serve(dict.fromkeys(("open", "message", "ping", "close"), everything))
    with peer.upgraded(server.port, more=peer.frame(b"x") + peer.frame(b"", 9)):
        peer.eventually(lambda: len(done) == 3)
    peer.eventually(lambda: len(done) == 4)
    assert done == [False, False, False, True]


@pytest.mark.parametrize("how", ["end", "close"])
def test_s26_no_messages_outside_of_open_and_close(serve: Callable[..., Any], how: str) -> None:
    seen: List[str] = []

    def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        seen.append(message)
        getattr(ws, how)()

    server = serve(
        open=lambda ws: seen.append("open"),
        message=on_message,
        close=lambda ws, code, reason: seen.append("close"),
    )
    with peer.upgraded(server.port) as client:
        client.send(peer.frame(b"one") + peer.frame(b"two"))
        peer.eventually(lambda: len(seen) == 3)
    server.call(lambda: None)
    assert seen == ["open", "one", "close"]


def test_s27_end_and_close_call_the_handler_at_once(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        if message == "end":
            ws.end(1000, "x")
        else:
            ws.close()
        seen.append("returned")
        ws.end()
        ws.close()

    server = serve(message=on_message, close=lambda ws, code, reason: seen.append(code))
    for how in (b"end", b"close"):
        with peer.upgraded(server.port) as client:
            client.send(peer.frame(how))
            if how == b"end":
                assert client.frame() == (True, OpCode.CLOSE, b"\x03\xe8x")
                client.send(peer.close_frame(1000))
            assert client.at_end()
    peer.eventually(lambda: len(seen) == 4)
    assert seen == [1000, "returned", 1006, "returned"]


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
    names = [name for name in vars(sys.modules[__name__]) if re.match(r"test_s\d\d_", name)]
    assert {int(name[6:8]) for name in names} == set(range(1, 53)) - {47}
