# SPDX-License-Identifier: MIT
"""The App: handlers that fail, and signals."""

import logging
import signal
from typing import Any, Callable, List, Tuple

import peer
import pytest
from handlers import Oops, fail
from program import Program

from pyws import (
    App,
    WebSocket,
)

pytestmark = pytest.mark.usefixtures("read_by_h11")

# ---- failing handlers ---------------------------------------------------------------------------

SENT = {
    "open": b"",
    "message": peer.frame(b"x"),
    "ping": peer.frame(b"", 9),
    "pong": peer.frame(b"", 10),
}


@pytest.mark.parametrize("event", sorted(SENT))
def test_t71_a_failing_handler(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture, event: str
) -> None:
    errors: List[Any] = []
    closed: List[Any] = []

    def configure(app: App) -> None:
        app.ws("/*", {event: fail}, close=lambda ws, *args: closed.append((ws, *args)))  # type: ignore[arg-type]
        app.ws("/other", message=lambda ws, message, opcode: ws.send(message))
        assert app.on_error(lambda *args: errors.append(args)) is app

    server = serve(configure)
    with peer.upgraded(server.port, "/other") as other:
        with peer.upgraded(server.port) as client:
            client.send(SENT[event])
            frames = [client.frame()]
            if frames[0].opcode == 10:
                frames.append(client.frame())
            assert frames[-1].close_code == 1011
        other.send(peer.frame(b"alive"))
        assert other.frame().payload == b"alive"
    assert len(errors) == len(closed) == 1
    assert isinstance(errors[0][0], Oops)
    assert errors[0][1] is closed[0][0]
    assert closed[0][1:] == (1011, f"the {event} handler failed")
    assert "Traceback" in caplog.text
    assert "Oops: in the handler" in caplog.text
    assert {record.name for record in caplog.records} == {"pyws"}


def test_t71_close_on_error_false_keeps_the_socket(serve: Callable[..., Any]) -> None:
    server = serve(message=fail, open=fail, close_on_error=False)
    with peer.upgraded(server.port) as client:
        client.send(peer.frame(b"x") + peer.frame(b"still here", 9))
        assert client.frame() == (True, 10, b"still here")


def test_t71_a_failing_close_handler_is_reported_once(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    sockets: List[WebSocket] = []
    server = serve(open=sockets.append, close=fail)
    with peer.upgraded(server.port) as client:
        client.send(peer.close_frame(1000))
        assert client.frame().close_code == 1000
    peer.eventually(lambda: caplog.records)
    assert caplog.text.count("Traceback") == 1
    assert server.call(sockets[0].get_user_data) is None


def test_t71_failures_in_drain_and_dropped(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    sockets: List[WebSocket] = []
    server = serve(open=sockets.append, dropped=fail, max_backpressure=1000)
    with peer.upgraded(server.port):
        peer.eventually(lambda: sockets)

        def flood() -> None:
            for _ in range(2000):
                sockets[0].send(b"x" * 65536)
                if sockets[0].closed:
                    return
            raise AssertionError("dropped never ran")

        server.call(flood)
    assert "the dropped handler" in caplog.text


def test_t71_the_error_handler_itself_may_fail(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def configure(app: App) -> None:
        app.ws("/*", message=fail).on_error(lambda error, source: 1 // 0)

    server = serve(configure)
    with peer.upgraded(server.port, more=peer.frame(b"x")) as client:
        assert client.frame().close_code == 1011
    assert "ZeroDivisionError" in caplog.text
    assert "Oops" in caplog.text
    with App() as app, pytest.raises(TypeError, match="handler must be callable"):
        app.on_error(5)  # type: ignore[arg-type]


def test_t71_a_failing_deferred_function(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    errors: List[Any] = []
    server = serve(lambda app: app.on_error(lambda *args: errors.append(args)))
    server.app.defer(fail)
    server.call(lambda: None)
    assert [(type(error), source) for error, source in errors] == [(Oops, None)]
    assert "deferred function" in caplog.text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("event", ["upgrade", "open", "message", "close", "http", "defer", "error"])
def test_t72_base_exceptions_come_out_of_run(
    serve: Callable[..., Any], kind: Any, event: str
) -> None:
    closed: List[Any] = []

    def leave(*args: Any) -> None:
        raise kind("leaving")

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        closed.append(code)
        if event == "close":
            leave()

    def configure(app: App) -> None:
        handlers = {event: leave} if event in ("upgrade", "open", "message") else {}
        if event == "error":
            app.on_error(leave)
            handlers = {"message": fail}
        app.ws("/*", handlers, close=on_close)  # type: ignore[arg-type]
        app.ws("/other", close=on_close)
        app.get("/", leave)

    server = serve(configure)
    with peer.upgraded(server.port, "/other") as other, peer.Peer(server.port) as client:
        if event == "http":
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        elif event == "defer":
            server.app.defer(leave)
        else:
            client.send(peer.handshake())
            client.send(peer.frame(b"x"))
            if event == "close":
                client.response()
                client.send(peer.close_frame(1000))
        assert other.frame().close_code == 1001
        other.send(peer.close_frame(1001))
    server.join()
    assert isinstance(server.error, kind)
    assert str(server.error) == "leaving"
    assert 1001 in closed
    stats = server.app.stats()
    assert stats["opened"] == stats["closed"] == len(closed)


def test_a_log_sink_that_fails_does_no_harm(
    serve: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise Oops("in the log")

    server = serve(message=fail)
    handler = Failing()
    logging.getLogger("pyws").addHandler(handler)
    try:
        with peer.upgraded(server.port, more=peer.frame(b"x")) as client:
            assert client.frame().close_code == 1011
    finally:
        logging.getLogger("pyws").removeHandler(handler)


# ---- signals ------------------------------------------------------------------------------------

PROGRAM = """
import signal, sys, time
from pyws import App
app = App()
def on_message(ws, message, opcode):
    if message == "sleep":
        print("asleep", flush=True)
        time.sleep(30)
    elif message == "loop":
        print("looping", flush=True)
        while True:
            pass
app.ws("/*", {
    "message": on_message,
    "close": lambda ws, code, reason: print("close", code, reason, flush=True),
})
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
EXTRA
app.listen({"host": "127.0.0.1"}, lambda place: print(place.port, flush=True))
try:
    result = app.run()
    print("returned", result, flush=True)
finally:
    print(before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)),
          signal.set_wakeup_fd(-1), flush=True)
"""


class Served(Program):
    """A server in a process of its own, in whose main thread run() runs."""

    def __init__(self, extra: str = "") -> None:
        super().__init__("-c", PROGRAM.replace("EXTRA", extra))
        self.port = int(self.line())

    def finish(self) -> Tuple[int, List[str], str]:
        """Its exit status, what it has printed, and its stderr."""
        status = self.wait()
        return status, self.rest().splitlines(), self.error_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_t87_first_signal_shuts_down_gracefully(number: int) -> None:
    with Served() as program:
        with peer.upgraded(program.port) as client:
            program.process.send_signal(number)
            assert client.frame() == (True, 8, b"\x03\xe9server shutting down")
            client.send(peer.close_frame(1001))
            assert client.at_end()
        code, lines, errors = program.finish()
    assert (code, lines, errors) == (
        0,
        ["close 1001 server shutting down", "returned None", "True -1"],
        "",
    )


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_t72_second_sigint_drops_everything(first: int) -> None:
    with Served() as program, peer.upgraded(program.port) as client:
        program.process.send_signal(first)
        assert client.frame().close_code == 1001
        program.process.send_signal(signal.SIGINT)
        code, lines, errors = program.finish()
    assert code in (-signal.SIGINT, 130)
    assert lines == ["close 1001 server shutting down", "True -1"]
    assert errors.endswith("KeyboardInterrupt\n")


# Says when a signal was noted: signals that come together count as one.
NOTED = """
import os, pyws._core.signals
note = pyws._core.signals.Signals.note
def noted(self, *args):
    note(self, *args)
    os.write(1, b"noted\\n")
pyws._core.signals.Signals.note = noted
"""


@pytest.mark.parametrize("what", ["sleep", "loop"])
def test_t72_second_sigint_reaches_a_busy_handler(what: str) -> None:
    with Served(NOTED) as program, peer.upgraded(program.port) as client:
        client.send(peer.frame(what.encode()))
        assert program.line() in ("asleep", "looping")
        program.process.send_signal(signal.SIGINT)
        assert program.line() == "noted"
        program.process.send_signal(signal.SIGINT)
        code, lines, errors = program.finish()
    assert code in (-signal.SIGINT, 130)
    assert lines[-1] == "True -1"
    assert [line for line in lines if line.startswith("close")] == [
        "close 1001 server shutting down"
    ]
    assert errors.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("what", ["sleep", "loop"])
def test_t72_third_sigint_reaches_a_busy_close_handler(what: str) -> None:
    """The second one leaves it alone: it belongs to the shutdown."""
    extra = f"""{NOTED}
app.ws("/close", close=lambda ws, code, reason: on_message(ws, {what!r}, 1))
"""
    with Served(extra) as program, peer.upgraded(program.port, "/close"):
        program.process.send_signal(signal.SIGINT)
        assert program.line() == "noted"
        assert program.line() in ("asleep", "looping")
        program.process.send_signal(signal.SIGINT)
        assert program.line() == "noted"
        program.process.send_signal(signal.SIGINT)
        code, lines, errors = program.finish()
    assert code in (-signal.SIGINT, 130)
    assert lines == ["True -1"]
    assert errors.endswith("KeyboardInterrupt\n")


def test_other_signal_handlers_run_while_the_loop_waits() -> None:
    # print() must not be called within print(), as it would be when the next signal comes early.
    extra = 'import os; signal.signal(signal.SIGUSR1, lambda *args: os.write(1, b"usr1\\n"))'
    with Served(extra) as program:
        peer.request(program.port, "GET / HTTP/1.1")  # run() is under way
        for _ in range(3):
            program.process.send_signal(signal.SIGUSR1)
            assert program.line() == "usr1"
        program.process.send_signal(signal.SIGTERM)
        assert program.finish() == (0, ["returned None", "True -1"], "")


def test_t72_a_signal_handler_that_raises_ends_run() -> None:
    extra = "signal.signal(signal.SIGUSR1, lambda *args: sys.exit(7))"
    with Served(extra) as program, peer.upgraded(program.port) as client:
        program.process.send_signal(signal.SIGUSR1)
        assert client.frame().close_code == 1001
        client.send(peer.close_frame(1001))
        client.socket.close()
        assert program.finish() == (7, ["close 1001 server shutting down", "True -1"], "")


def test_the_old_wakeup_fd_is_restored() -> None:
    extra = """
import socket
a, b = socket.socketpair(); b.setblocking(False)
signal.set_wakeup_fd(b.fileno())
app.defer(lambda: print(b.fileno(), flush=True))"""
    with Served(extra) as program:
        number = program.line()
        program.process.send_signal(signal.SIGINT)
        lines = ["returned None", f"True {number}"]
        assert program.finish() == (0, lines, "")
