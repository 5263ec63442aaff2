# SPDX-License-Identifier: MIT
"""Lives: how connections end, pauses, and shutdown from everywhere."""

import gc
import socket
import threading
import weakref
from typing import Any, Callable, List, Optional, Tuple

import peer
import pytest
from common import TIMEOUT, TLS
from handlers import fail, open_socket

from pyws import App, OpCode, Request, Response, SendStatus, WebSocket
from pyws._core.sockets import sockets as open_sockets

# ---- close_info ---------------------------------------------------------------------------------


def answer_with(data: bytes) -> Callable[[Any, peer.Peer], None]:
    """Wait for a Close frame and answer."""

    def work(ws: Any, client: peer.Peer) -> None:
        while client.frame().opcode != OpCode.CLOSE:
            pass
        client.send(data)
        assert client.at_end()
        client.socket.close()

    return work


def shut(ws: Any, client: peer.Peer) -> None:
    client.socket.close()


class End:
    """How a connection ends, and what `close_info` says of it in the close handler and later."""

    def __init__(
        self,
        sent: Any,
        received: Any,
        clean: bool,
        local: bool,
        begin: Callable[[WebSocket], Any] = lambda ws: None,
        client: bytes = b"",
        finish: Callable[[Any, peer.Peer], None] = shut,
        **behavior: Any,
    ) -> None:
        self.sent, self.received, self.clean, self.local = sent, received, clean, local
        self.begin, self.client, self.finish, self.behavior = begin, client, finish, behavior


def both(*names: str) -> Callable[[WebSocket], Any]:
    return lambda ws: [getattr(ws, name)() for name in names]


LONG = "x" * 122 + "\u20ac"
ENDS = {
    "end, answered": End(
        (1000, "x"), (1000, ""), True, True,
        lambda ws: ws.end(1000, "x"), finish=answer_with(peer.close_frame(1000)),
    ),
    "end, answered otherwise": End(
        (4000, ""), (4001, "why"), True, True,
        lambda ws: ws.end(4000), finish=answer_with(peer.close_frame(4001, b"why")),
    ),
    "end, answered without a code": End(
        (None, ""), (None, ""), True, True,
        lambda ws: ws.end(0), finish=answer_with(peer.frame(b"", 8)),
    ),
    "end, cut reason": End(
        (1000, "x" * 122), (1000, ""), True, True,
        lambda ws: ws.end(1000, LONG), finish=answer_with(peer.close_frame(1000)),
    ),
    "end, never answered": End(
        (1000, ""), None, False, True,
        lambda ws: ws.end(), finish=lambda ws, client: None, close_timeout=0.1,
    ),
    "end, then close": End(
        (1000, ""), None, False, True, both("end", "close", "end"),
    ),
    "end, then EOF": End((1000, ""), None, False, True, lambda ws: ws.end()),
    "end, then a broken rule": End(
        (1000, ""), None, False, True,
        lambda ws: ws.end(), finish=answer_with(b"\xff\xff"),
    ),
    "close": End(None, None, False, True, lambda ws: ws.close()),
    "close, then end": End(None, None, False, True, both("close", "end")),
    "peer": End((1000, ""), (1000, "bye"), True, False, client=peer.close_frame(1000, b"bye")),
    "peer, like a failure": End(
        (1009, ""), (1009, "message too big"), True, False,
        client=peer.close_frame(1009, b"message too big"),
    ),
    "peer, like a lifetime": End(
        (1000, ""), (1000, "please reconnect"), True, False,
        client=peer.close_frame(1000, b"please reconnect"),
    ),
    "peer without a code": End((None, ""), (None, ""), True, False, client=peer.frame(b"", 8)),
    "EOF": End(None, None, False, False),
    "reset": End(None, None, False, False, finish=lambda ws, client: client.reset()),
    "1002": End(
        (1002, ...), None, False, True, client=b"\xff\xff",
        finish=answer_with(peer.close_frame(1002)),
    ),
    "1007": End((1007, ...), None, False, True, client=peer.frame(b"\xff")),
    "1009": End(
        (1009, ...), None, False, True, client=peer.frame(b"too long"), max_payload_length=5
    ),
    "1011": End(
        (1011, "the message handler failed"), (1011, ""), True, True,
        client=peer.frame(b"x"), finish=answer_with(peer.close_frame(1011)), message=fail,
    ),
    "idle timeout": End(
        None, None, False, True, finish=lambda ws, client: None, idle_timeout=0.1
    ),
    "close in message": End(
        None, None, False, True, client=peer.frame(b"x") + peer.close_frame(1000),
        message=lambda ws, message, opcode: ws.close(),
    ),
    "end in ping, Close behind it": End(
        (4000, ""), (1000, ""), True, True, client=peer.frame(b"x", 9) + peer.close_frame(1000),
        ping=lambda ws, data: ws.end(4000),
    ),
    "end in subscription, when the peer closed": End(
        (1000, ""), (1000, ""), True, False, lambda ws: ws.subscribe("x"),
        client=peer.close_frame(1000),
        subscription=lambda ws, topic, now, before: now or ws.end(4000),
    ),
    "close in subscription, when the peer closed": End(
        (1000, ""), (1000, ""), True, False, lambda ws: ws.subscribe("x"),
        client=peer.close_frame(1000),
        subscription=lambda ws, topic, now, before: now or ws.close(),
    ),
}  # fmt: skip


@pytest.mark.parametrize("how", sorted(ENDS))
def test_s7_close_info(serve: Callable[..., Any], how: str) -> None:
    """SPEC S7: both sides, in the close handler and when all is over."""
    end = ENDS[how]
    inside: List[Any] = []

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        info = ws.close_info
        assert info is not None
        inside.append((info.sent, info.received, info.clean, info.local))
        assert info.sent is None or type(info.sent.reason) is str
        frame = info.sent if info.local else info.received
        expected = (1006, reason) if frame is None else (frame.code or 1005, frame.reason)
        assert (code, reason) == expected

    server, ws, client = open_socket(serve, close=on_close, **end.behavior)
    before = ws.close_info
    assert before is None
    with client:
        server.call(end.begin, ws)
        client.send(end.client)
        if end.client:
            peer.eventually(lambda: inside)
        end.finish(ws, client)
        peer.eventually(lambda: ws.close_info and ws.close_info.clean is not None)
    info = ws.close_info
    sent = end.sent
    if sent is not None and sent[1] is ...:
        assert info.sent.reason
        sent = (sent[0], info.sent.reason)
    assert (info.sent, info.received, info.clean, info.local) == (
        sent, end.received, end.clean, end.local,
    )  # fmt: skip
    if info.sent:
        assert (info.sent.code, info.sent.reason) == sent
    assert len(inside) == 1
    assert inside[0][::3] == (sent, end.local)
    if end.local and how not in ("close", "idle timeout"):
        assert inside[0][1] is None
    assert f"local={end.local}" in repr(info)


def test_close_info_at_shutdown(serve: Callable[..., Any]) -> None:
    server, ws, client = open_socket(serve)
    with client:
        server.app.defer(server.app.close)
        client.frame()
        client.send(peer.close_frame(1001, b"see you"))
        assert client.at_end()
    server.join()
    info = ws.close_info
    assert (info.sent, info.received) == ((1001, "server shutting down"), (1001, "see you"))
    assert (info.clean, info.local) == (True, True)


def test_t70_a_socket_lives_until_its_closing_is_over(serve: Callable[..., Any]) -> None:
    references: List[Any] = []
    server = serve(open=lambda ws: references.append(weakref.ref(ws)), close_timeout=1000)
    with peer.upgraded(server.port) as client:
        peer.eventually(lambda: references)
        server.call(lambda: references[0]().end())
        gc.collect()
        assert references[0]() is not None
        assert references[0]().close_info.clean is None
        client.send(peer.close_frame(1000))

        def gone() -> bool:
            gc.collect()
            return references[0]() is None

        peer.eventually(gone)
    assert not [ws for ws in open_sockets.values() if ws._runtime is server.app._runtime]


# ---- pause and resume ---------------------------------------------------------------------------


def test_pause_and_resume(serve: Callable[..., Any]) -> None:
    messages: List[str] = []

    def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        messages.append(message)
        if message == "two":
            ws.pause()
            ws.pause()

    server, ws, client = open_socket(serve, message=on_message)
    with client:
        client.send(b"".join(peer.frame(text) for text in (b"one", b"two", b"three")))
        peer.eventually(lambda: len(messages) == 2)
        client.send(peer.frame(b"four") + peer.frame(b"are you there", 9))
        with peer.upgraded(server.port, more=peer.frame(b"other")):
            peer.eventually(lambda: "other" in messages)
        assert messages == ["one", "two", "other"]
        assert server.call(ws.send, "sending goes on") == SendStatus.SUCCESS
        assert client.frame().payload == b"sending goes on"
        server.call(ws.resume)
        assert client.frame() == (True, 10, b"are you there")
        server.call(ws.resume)
        assert messages[3:] == ["three", "four"]


def test_pause_slows_the_client_down(serve: Callable[..., Any]) -> None:
    messages: List[int] = []
    server, ws, client = open_socket(
        serve,
        open=lambda ws: ws.pause(),
        message=lambda ws, message, opcode: messages.append(len(message)),
    )
    with client:
        before = server.call(server.app.stats)["memory"]
        client.socket.settimeout(0.2)
        chunk, sent = peer.frame(b"x" * 10_000) * 100, 0
        with pytest.raises(socket.timeout):
            while sent < 1 << 30:
                sent += client.socket.send(chunk[sent % len(chunk) :])
        assert messages == []
        assert server.call(server.app.stats)["memory"] - before < 1 << 20
        server.call(ws.resume)
        # Over TLS, a part of the send that has failed arrives, too.
        least, most = (n // (len(chunk) // 100) for n in (sent, sent + TLS * len(chunk)))
        peer.eventually(lambda: len(messages) >= least)
        assert least <= len(messages) <= most and set(messages) == {10_000}


@pytest.mark.parametrize("how", ["end", "close", "shutdown"])
def test_a_paused_connection_can_be_ended(serve: Callable[..., Any], how: str) -> None:
    closed: List[int] = []
    server, ws, client = open_socket(serve, close=lambda ws, code, reason: closed.append(code))
    with client:
        server.call(ws.pause)
        server.call(getattr(ws, how, server.app.close))
        if how != "close":
            assert client.frame().opcode == OpCode.CLOSE
            client.send(peer.frame(b"unread") + peer.close_frame(1000))
        assert client.at_end()
    peer.eventually(lambda: ws.close_info.clean is not None)
    assert ws.close_info.clean is (how != "close")
    assert closed == [{"end": 1000, "close": 1006, "shutdown": 1001}[how]]


# ---- shutdown -----------------------------------------------------------------------------------

STOPPERS = ("open", "message", "drain", "dropped", "ping", "pong", "subscription", "close",
            "upgrade", "http", "defer", "call_later", "on_error")  # fmt: skip


@pytest.mark.parametrize("event", STOPPERS)
def test_t67_close_from_every_handler_and_run_again(serve: Callable[..., Any], event: str) -> None:
    """Twice in a row; each socket has exactly one close event; the port is free afterwards."""
    apps: List[App] = []
    counts = {"open": 0, "close": 0}
    ports: List[int] = []
    stopped: List[int] = []

    def stop(*args: Any) -> None:
        if not stopped:
            stopped.append(1)
            apps[0].close(timeout=0.5)
            apps[0].close(timeout=0.2)

    def on_open(ws: WebSocket) -> None:
        counts["open"] += 1
        if event == "open":
            stop()

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        counts["close"] += 1
        if event == "close":
            stop()

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        if event == "message":
            stop()
        elif event == "subscription":
            ws.subscribe("x")
        elif event == "on_error":
            raise KeyError("oops")
        elif event in ("drain", "dropped"):
            while ws.send(b"x" * 50_000) == SendStatus.SUCCESS:
                pass
            while event == "dropped" and not stopped:
                ws.send(b"x" * 50_000)

    handlers = {event: stop} if event in ("upgrade", "drain", "dropped", "ping", "pong") else {}
    handlers["subscription"] = stop
    app = App().ws("/*", handlers, open=on_open, close=on_close, message=on_message)  # type: ignore[arg-type]
    app.get("/", stop).on_error(stop)
    apps.append(app)
    for _ in range(2):
        stopped.clear()
        app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))
        thread = threading.Thread(target=app.run)
        thread.start()
        clients = [peer.Peer(ports[-1]) for _ in range(3)]
        for client in clients:
            try:
                drive(client, event, app, stop)
            except (OSError, EOFError, RuntimeError):
                assert stopped  # it was shut down meanwhile
        thread.join(TIMEOUT)
        assert not thread.is_alive()
        assert stopped
        for client in clients:
            client.socket.close()
        with socket.socket() as free:
            free.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            free.bind(("127.0.0.1", ports[-1]))
            free.listen()
        assert counts["open"] == counts["close"] == app.stats()["closed"]
        assert app.stats()["connections"] == 0


def drive(client: peer.Peer, event: str, app: App, stop: Callable[[], Any]) -> None:
    """Make the server run the handler."""
    if event == "http":
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        return
    client.send(peer.handshake())
    if event == "upgrade":
        return
    client.response()  # 503 when another client has made it stop already
    client.send(peer.frame(b"x") + peer.frame(b"", 9) + peer.frame(b"", 10))
    if event == "drain":
        while client.frame().opcode != OpCode.CLOSE:
            pass
    elif event == "close":
        client.send(peer.close_frame(1000))
    elif event == "defer":
        app.defer(stop)
    elif event == "call_later":
        app.defer(app.call_later, 0.01, stop)


def test_t67_two_apps_in_two_threads(serve: Callable[..., Any]) -> None:
    """Each with traffic; one is shut down, the other goes on."""
    servers = [
        serve(
            open=lambda ws: ws.subscribe("news"),
            message=lambda ws, message, opcode: ws.publish("news", message),
        )
        for _ in range(2)
    ]
    clients = [peer.upgraded(server.port) for server in servers]
    for turn in range(100):
        for number, client in enumerate(clients):
            client.send(peer.frame(b"%d %d" % (number, turn)))
        for number, client in enumerate(clients):
            assert client.frame().payload == b"%d %d" % (number, turn)
    servers[0].stop()
    assert clients[0].frame().close_code == 1001
    clients[1].send(peer.frame(b"alone"))
    assert clients[1].frame().payload == b"alone"
    with pytest.raises(RuntimeError, match=r"app\.defer"):
        servers[1].call(servers[0].app.publish, "news", "x")
    for client in clients:
        client.socket.close()


def test_t67_stopping_through_defer_from_several_threads(serve: Callable[..., Any]) -> None:
    closed: List[int] = []
    server = serve(close=lambda ws, code, reason: closed.append(code))
    with peer.upgraded(server.port) as client:

        def stop() -> None:
            try:
                server.app.defer(server.app.close, 1001, "x", 0.5)
            except RuntimeError:
                pass  # it is over

        threads = [threading.Thread(target=stop) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(TIMEOUT)
        assert client.frame().close_code == 1001
        client.send(peer.close_frame(1001))
    server.join()
    assert closed == [1001]


def test_shutdown_answers_half_open_handshakes(serve: Callable[..., Any]) -> None:
    """SPEC 1.3: 503 to a handshake that has begun, or waits for its upgrade handler."""
    waiting: List[Response] = []

    def upgrade(res: Response, req: Request, socket_context: Any) -> None:
        res.on_aborted(aborted.append)
        waiting.append(res)

    aborted: List[Optional[Response]] = []
    server = serve(upgrade=upgrade)
    with peer.Peer(server.port) as half, peer.Peer(server.port) as later:
        half.send(peer.handshake()[:-10])
        later.send(peer.handshake())
        peer.eventually(lambda: waiting)
        peer.eventually(lambda: server.call(server.app.stats)["connections"] == 2)
        server.app.defer(server.app.close)
        for client in (half, later):
            assert client.response().status == 503
            assert client.at_end()
            client.socket.close()
    server.join()
    assert aborted == waiting


def test_t87_s25_shutdown_closes_each_socket_once(serve: Callable[..., Any]) -> None:
    closed: List[Tuple[WebSocket, int]] = []
    server = serve(close=lambda ws, code, reason: closed.append((ws, code)))
    clients = [peer.upgraded(server.port) for _ in range(20)]
    peer.eventually(lambda: server.call(server.app.stats)["open"] == 20)
    server.app.defer(server.app.close, 1012, "restart", 0.3)
    for number, client in enumerate(clients):
        assert client.frame() == (True, 8, b"\x03\xf4restart")
        if number % 3 == 0:
            client.send(peer.close_frame(1012))
        elif number % 3 == 1:
            client.reset()
    server.join()
    assert [code for _, code in closed] == [1012] * 20
    assert len({ws for ws, _ in closed}) == 20
    infos = [ws.close_info for ws, _ in closed]
    assert all(info is not None and info.clean is not None for info in infos)
    for client in clients:
        client.socket.close()


# ---- what cannot be changed, and what is known when ---------------------------------------------


def test_facts_of_a_socket_cannot_be_assigned(serve: Callable[..., Any]) -> None:
    _server, ws, client = open_socket(serve)
    with client:
        for name in ("id", "path", "subprotocol", "compression", "headers", "closed", "latency"):
            before = getattr(ws, name) if name not in ("headers", "latency") else None
            with pytest.raises(AttributeError):
                setattr(ws, name, before)
    assert ws.path == "/"
    assert f"{ws.id} /" in repr(ws)


@pytest.mark.parametrize(
    ("how", "expected"),
    [
        ("peer", (True, (1000, "bye"))),
        ("broken", (False, None)),
        ("close", (False, None)),
        ("end", (None, None)),
    ],
)
def test_s7_what_the_close_handler_knows(
    serve: Callable[..., Any], how: str, expected: Any
) -> None:
    """Only where this side waits for the client's Close is the end still open."""
    inside: List[Any] = []

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        info = ws.close_info
        assert info is not None
        inside.append((info.clean, info.received))

    server, ws, client = open_socket(serve, close=on_close)
    with client:
        if how == "peer":
            client.send(peer.close_frame(1000, b"bye"))
        elif how == "broken":
            client.socket.close()
        else:
            server.call(getattr(ws, how))
        peer.eventually(lambda: inside)
    assert inside == [expected]


# ---- listening ----------------------------------------------------------------------------------


def test_a_callback_of_listen_that_raises_leaves_nothing_open() -> None:
    ports: List[int] = []

    def fail(place: Any) -> None:
        ports.append(place.port)
        raise LookupError("no")

    def listen_and_fail(place: Any) -> None:
        app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))
        fail(place)

    with App() as app:
        with pytest.raises(LookupError):
            app.listen({"host": "127.0.0.1"}, fail)
        with pytest.raises(RuntimeError, match="listens nowhere"):
            app.run()
        app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))
        with pytest.raises(LookupError):
            app.listen({"host": "127.0.0.1"}, listen_and_fail)
        with pytest.raises(TypeError, match="callback of listen returned a coroutine"):
            app.listen({"host": "127.0.0.1"}, lambda place: peer_less())
        assert [is_open(port) for port in ports] == [False, True, False, False]
        app.defer(app.close)
        app.run()


async def peer_less() -> None: ...


def is_open(port: int) -> bool:
    with socket.socket() as client:
        return client.connect_ex(("127.0.0.1", port)) == 0
