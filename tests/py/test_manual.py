# SPDX-License-Identifier: MIT
"""The promises S1-S27 of the reference manual, one test each and in its order.

Each is short; where a promise has corners, they are tested elsewhere under the same id."""

import functools
import inspect
import re
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import peer
import pytest
from common import ROOT, TIMEOUT
from handlers import accept, echo
from manual_sockets import DEFLATE, fill, read_until, with_zlib
from program import Program
from room import Room
from websockets.sync.client import connect

import pyws
from pyws import App, CompressOptions, OpCode, Request, Response, WebSocket
from pyws._core.settings import BEHAVIOR_KEYS, Behavior
from pyws._core.values import HANDLERS

PROGRAM = ROOT / "examples" / "py" / "upgrade.py"


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
            app.ws(f"/{number}", {name: print})  # type: ignore[arg-type]


def test_s04_idle_timeout(serve: Callable[..., Any]) -> None:
    begun = time.monotonic()
    server = serve(idle_timeout=0.3)
    with peer.upgraded(server.port) as client:
        assert client.frame().opcode == OpCode.PING
        assert client.at_end()
    assert time.monotonic() - begun >= 0.3  # never early


def test_s05_idle_timeout_0_is_no_policy(serve: Callable[..., Any]) -> None:
    def configure(app: App) -> None:
        app.ws("/stale", idle_timeout=0, message=echo).ws("/idle", {}, idle_timeout=0.3)

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
        app.ws("/", {"maxPayloadLength": 5})  # type: ignore[arg-type]


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
