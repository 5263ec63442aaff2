"""Lives: how connections end, pauses, timers, threads, and shutdown from everywhere."""

import gc
import inspect
import random
import socket
import threading
import time
import weakref
from typing import Any, Callable, Dict, List, Optional, Tuple

import peer
import pytest
from common import TIMEOUT
from test_websocket import open_socket

from pyws import App, OpCode, Request, Response, SendStatus, WebSocket
from pyws._core.sockets import sockets as open_sockets
from pyws._native import lib

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


def fail(*args: Any) -> None:
    raise KeyError("oops")


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
        peer.eventually(lambda: len(messages) == sent // (len(chunk) // 100))


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


# ---- call_later ---------------------------------------------------------------------------------


def test_call_later_runs_in_the_order_of_time(serve: Callable[..., Any]) -> None:
    server = serve()
    seen: List[Any] = []
    begun = time.monotonic()

    def start() -> None:
        later = server.app.call_later
        later(0.15, seen.append, "last")
        later(0.05, lambda *args: seen.append(args), 1, 2)
        later(0, seen.append, "first")
        later(0.1, lambda: seen.append(threading.get_ident()))

    server.call(start)
    peer.eventually(lambda: len(seen) == 4)
    assert time.monotonic() - begun >= 0.15  # never early
    assert seen == ["first", (1, 2), server.thread.ident, "last"]


def test_call_later_keeps_the_order_of_equal_times(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    seen: List[int] = []

    def start() -> None:
        now = time.monotonic_ns()
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic_ns", lambda: now)
            for number in range(100):
                server.app.call_later(0.02, seen.append, number)

    server.call(start)
    peer.eventually(lambda: len(seen) == 100)
    assert seen == list(range(100))


def test_call_later_again_and_again(serve: Callable[..., Any]) -> None:
    """A call that puts itself off by 0 does not keep the others from running."""
    server = serve(message=lambda ws, message, opcode: ws.send(message))
    turns: List[int] = []

    def again() -> None:
        turns.append(1)
        if len(turns) < 1_000_000 and not done:
            server.app.call_later(0, again)

    done: List[int] = []
    with peer.upgraded(server.port) as client:
        server.call(again)
        for number in range(10):
            client.send(peer.frame(b"%d" % number))
            assert client.frame().payload == b"%d" % number
        peer.eventually(lambda: len(turns) > 1000)
        done.append(1)


def test_cancelled_calls_do_not_run(serve: Callable[..., Any]) -> None:
    server = serve()
    seen: List[str] = []
    kept: Dict[str, Any] = {}

    def start() -> None:
        later = server.app.call_later
        kept["first"] = later(0.02, seen.append, "first")
        kept["canceller"] = later(0.04, lambda: kept["same time"].cancel())
        kept["same time"] = later(0.04, seen.append, "same time")
        kept["behind it"] = later(0.04, seen.append, "behind it")
        kept["last"] = later(0.06, seen.append, "last")
        kept["first"].cancel()
        kept["first"].cancel()
        time.sleep(0.05)  # all but the last one are due in one turn

    server.call(start)
    peer.eventually(lambda: len(seen) == 2)
    assert seen == ["behind it", "last"]
    server.call(lambda: [timer.cancel() for timer in kept.values()])
    assert (server.app._runtime.timers.heap, server.app._runtime.timers.cancelled) == ([], 0)
    with pytest.raises(RuntimeError, match="defer"):
        kept["last"].cancel()


def test_cancelled_calls_leave_no_memory(serve: Callable[..., Any]) -> None:
    server = serve()
    timers = server.app._runtime.timers

    class Payload:
        pass

    def churn() -> Tuple[int, Any]:
        longest = 0
        payload = Payload()
        server.app.call_later(1000, print)
        for _ in range(20_000):
            server.app.call_later(2000, print, payload).cancel()
            longest = max(longest, len(timers.heap))
        return longest, weakref.ref(payload)

    longest, reference = server.call(churn)
    assert longest < 200
    gc.collect()
    assert reference() is None
    handles = server.call(lambda: [server.app.call_later(500 + n, print) for n in range(1000)])
    random.Random(5).shuffle(handles)
    server.call(lambda: [handle.cancel() for handle in handles])
    assert len(timers.heap) < 200

    def last() -> Any:
        payload = Payload()
        handles.append(server.app.call_later(0, id, payload))
        return weakref.ref(payload)

    reference = server.call(last)
    peer.eventually(lambda: gc.collect() is not None and reference() is None)


def test_an_early_alarm_is_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's clock is read once in a turn: it may be ahead of the time of a call."""
    alarms: List[int] = []
    with App() as app:
        app.call_later(1000, print)
        with monkeypatch.context() as patch:
            patch.setattr(lib, "ws_server_set_alarm", lambda s, delay, *more: alarms.append(delay))
            app._runtime.timers.run()
            app._runtime.timers.run()
    assert [delay // 10**9 for delay in alarms] == [999, 999]


def test_cancelling_the_first_call_moves_the_alarm(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.3: no timer without need. Only the first call that is still wanted has an alarm."""
    alarms: List[int] = []
    set_alarm = lib.ws_server_set_alarm

    def spy(server: int, delay: int, function: Any, argument: int) -> None:
        alarms.append(delay // 10**9 if function else -1)
        set_alarm(server, delay, function, argument)

    monkeypatch.setattr(lib, "ws_server_set_alarm", spy)
    with App() as app:
        handles = [app.call_later(seconds + 0.5, print) for seconds in (50, 40, 60, 40)]
        for handle in handles:
            handle.cancel()
    assert alarms == [50, 40, 40, -1]


def test_call_later_errors_are_reported(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    errors: List[Any] = []
    server = serve(lambda app: app.on_error(lambda *args: errors.append(args)))
    seen: List[int] = []

    def start() -> None:
        server.app.call_later(0.01, fail)
        server.app.call_later(0.01, seen.append, 1)

    server.call(start)
    peer.eventually(lambda: seen)
    assert [(type(error), source) for error, source in errors] == [(KeyError, None)]
    assert "exception in a function of call_later" in caplog.text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_t72_call_later_may_end_run(serve: Callable[..., Any], kind: Any) -> None:
    server = serve()

    def leave() -> None:
        raise kind("leaving")

    server.call(server.app.call_later, 0.01, leave)
    server.join()
    assert isinstance(server.error, kind)


def test_t73_call_later_arguments() -> None:
    with App() as app:
        for wrong in ("1", None, True, b"1"):
            with pytest.raises(TypeError, match="seconds must be a number"):
                app.call_later(wrong, print)  # type: ignore[arg-type]
        for number in (-1, -0.001, float("nan"), float("inf"), 2**64, 4_000_001):
            with pytest.raises(ValueError, match="seconds must be from 0 to "):
                app.call_later(number, print)
        for fn in (None, 5, "print"):
            with pytest.raises(TypeError, match="fn must be callable"):
                app.call_later(1, fn)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="this app is closed"):
        app.call_later(1, print)


def test_call_later_and_the_next_run() -> None:
    """What is not due when run() returns never runs; the second run starts clean."""
    app = App()
    seen: List[str] = []
    timers: List[Any] = []

    def close() -> None:
        app.close()
        timers.append(app.call_later(0.05, seen.append, "too late"))

    app.listen({"host": "127.0.0.1"})
    app.call_later(0.01, seen.append, "made before run")
    app.call_later(0.02, close)
    app.run()
    assert seen == ["made before run"]
    assert (app._runtime.timers.heap, app._runtime.timers.cancelled) == ([], 0)
    app.listen({"host": "127.0.0.1"})
    app.call_later(0.1, app.close)
    app.call_later(0.01, seen.append, "second")
    app.run()
    assert seen == ["made before run", "second"]
    timers[0].cancel()
    app.call_later(0.01, app.close)
    app.listen({"host": "127.0.0.1"})  # after the call
    app.run()


def test_an_app_with_timers_is_collected() -> None:
    app = App()
    app.call_later(1000, app.close)
    reference = weakref.ref(app)
    del app
    gc.collect()
    assert reference() is None


# ---- threads ------------------------------------------------------------------------------------

# What may be used in any thread, and why. All that is public and not here must raise.
ANY_THREAD = {
    App: {
        "defer",  # that is what it is for
        "run", "serve", "serving",  # make their thread the owner
        "app_options", "port",  # plain attributes
    },
    # Plain attributes: nothing of C is asked.
    WebSocket: {
        "id", "path", "subprotocol", "compression", "headers", "closed", "close_info",
    },
}  # fmt: skip
ARGUMENTS: Dict[str, Tuple[Any, ...]] = {
    "any": ("/x", print),
    "call_later": (1, print),
    "cork": (print,),
    "cork_send": ("x",),
    "delete": ("/x", print),
    "for_each_topic": (print,),
    "get": ("/x", print),
    "head": ("/x", print),
    "is_subscribed": ("x",),
    "listen": (0,),
    "num_subscribers": ("x",),
    "on_error": (print,),
    "options": ("/x", print),
    "patch": ("/x", print),
    "post": ("/x", print),
    "publish": ("x", "y"),
    "put": ("/x", print),
    "send": ("x",),
    "send_first_fragment": ("x",),
    "send_fragment": ("x",),
    "subscribe": ("x",),
    "unsubscribe": ("x",),
    "ws": ("/x", {}),
}


def public_names(cls: type, instance: Any) -> List[str]:
    names = {name for name in dir(cls) if not name.startswith("_")}
    names |= {name for name in getattr(instance, "__dict__", {}) if not name.startswith("_")}
    return sorted(names - ANY_THREAD[cls])


def use(instance: Any, name: str) -> Any:
    """Call the method, or read the property."""
    if not inspect.isroutine(getattr(type(instance), name)):
        return getattr(instance, name)
    result = getattr(instance, name)(*ARGUMENTS.get(name, ()))
    if inspect.iscoroutine(result):
        result.close()  # it was not refused: nothing more is asked
    return result


@pytest.mark.parametrize("ended", [False, True])
def test_t74_every_method_refuses_other_threads(serve: Callable[..., Any], ended: bool) -> None:
    server, ws, client = open_socket(serve)
    with client:
        if ended:
            server.call(ws.end)
        for instance in (server.app, ws):
            names = public_names(type(instance), instance)
            assert len(names) > 15
            for name in names:
                with pytest.raises(RuntimeError, match=r"app\.defer\(fn, \*args\)"):
                    print(name, use(instance, name))
            for name in ANY_THREAD[type(instance)] - {"defer", "run", "serve", "serving"}:
                getattr(instance, name)
        with pytest.raises(RuntimeError, match=r"app\.defer\(fn, \*args\)"):
            ws.user_data = 5
        assert server.call(server.app.stats)["open"] == (not ended)
        assert not ended or server.call(ws.get_topics) == []


def test_t74_every_method_works_in_the_right_thread(serve: Callable[..., Any]) -> None:
    """The arguments of the test above are none that are refused anyway."""
    server, ws, client = open_socket(serve)
    with client:
        for name in public_names(WebSocket, ws):
            try:
                server.call(use, ws, name)
            except RuntimeError as error:
                assert name in ("send_fragment", "send_last_fragment"), name
                assert "order" in str(error)


def test_t74_requests_refuse_other_threads(serve: Callable[..., Any]) -> None:
    kept: List[Tuple[Response, Request]] = []

    def handler(res: Response, req: Request) -> None:
        res.on_aborted(print)
        kept.append((res, req))

    server = serve(lambda app: app.get("/", handler))
    with peer.Peer(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        peer.eventually(lambda: kept)
        res, req = kept[0]
        calls: List[Callable[[], Any]] = [
            res.end, res.close, res.get_remote_address, req.get_url, req.get_headers, req.preserve,
            lambda: res.send("x"), lambda: res.write_status(200), lambda: res.redirect("/"),
            lambda: res.write_header("a", "b"), lambda: res.set_cookie("a", "b"),
            lambda: res.cork(print), lambda: res.on_aborted(print),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(RuntimeError, match="defer"):
                call()
        server.call(res.end, "fine")
        assert client.response().body == b"fine"


def test_t74_defer_from_4_threads_with_churn(serve: Callable[..., Any]) -> None:
    """Sends and publishes in order for each thread, none lost, while clients come and go."""
    rounds = 300
    sockets: List[WebSocket] = []

    def on_open(ws: WebSocket) -> None:
        ws.subscribe("news")
        if ws.path == "/stays":
            sockets.append(ws)

    server = serve(open=on_open, max_backpressure=0)
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            with peer.upgraded(server.port) as client:
                client.send(peer.frame(b"x") + peer.close_frame(1000))

    def work(number: int) -> None:
        for i in range(rounds):
            if i % 2:
                server.app.defer(sockets[0].send, f"{number} {i}")
            else:
                server.app.defer(server.app.publish, "news", f"{number} {i}")

    with peer.upgraded(server.port, "/stays") as client:
        peer.eventually(lambda: sockets)
        churner = threading.Thread(target=churn)
        churner.start()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        seen: List[List[int]] = [[], [], [], []]
        for _ in range(4 * rounds):
            number, i = client.frame().payload.split()
            seen[int(number)].append(int(i))
        for thread in threads:
            thread.join(TIMEOUT)
        stop.set()
        churner.join(TIMEOUT)
    assert seen == [list(range(rounds))] * 4


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
    app = App().ws("/*", handlers, open=on_open, close=on_close, message=on_message)
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
            before = getattr(ws, name) if name != "latency" else None
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
