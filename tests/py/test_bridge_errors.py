# SPDX-License-Identifier: MIT
"""The bridge (csrc/bridge.c): errors, threads, signals."""

import sys
import threading
import time
from typing import Any, Callable, List

import peer
import pytest
from bridge_programs import burst, exchange, python
from common import TIMEOUT
from handlers import echo

from pyws import OpCode, WebSocket

# ---- errors, threads, signals -------------------------------------------------------------------


def test_errors_keep_their_traceback(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    errors: List[BaseException] = []

    def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        try:
            raise KeyError("first")
        except KeyError:
            raise ValueError("second") from None

    server = serve(message=on_message)
    server.call(server.app.on_error, lambda error, source: errors.append(error))
    with peer.upgraded(server.port, more=peer.frame(b"a")) as client:
        assert client.frame().close_code == 1011
    assert isinstance(errors[0], ValueError)
    names = []
    traceback = errors[0].__traceback__
    while traceback is not None:
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    assert names[-1] == "on_message"
    assert "ValueError: second" in caplog.text
    assert 'raise ValueError("second")' in caplog.text


def test_no_error_is_left_behind(serve: Callable[..., Any]) -> None:
    """Each call of the interpreter sees a clean slate, whatever the message before did."""

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        with pytest.raises(ValueError, match="surrogates"):
            ws.send("\udc80")
        assert sys.exc_info() == (None, None, None)
        ws.send(message)
        raise RuntimeError("planned")

    server = serve(message=on_message, close_on_error=False)
    with peer.upgraded(server.port, more=peer.frame(b"a") * 5) as client:
        assert [client.frame().payload for _ in range(5)] == [b"a"] * 5


def test_other_threads_run_while_the_loop_waits(serve: Callable[..., Any]) -> None:
    server = serve(message=echo)
    with peer.upgraded(server.port):
        begin = time.process_time()
        deadline = time.monotonic() + TIMEOUT
        while time.process_time() - begin < 0.2:  # this thread has the interpreter for itself
            assert time.monotonic() < deadline


def test_other_threads_run_while_the_loop_is_busy(serve: Callable[..., Any]) -> None:
    """A load that never lets the loop wait leaves the other threads their share."""
    server = serve(message=echo)
    stop = threading.Event()

    def load() -> None:
        data = burst(1000, [b"a"])
        with peer.upgraded(server.port) as client:
            while not stop.is_set():
                exchange(client, data, 3000, 1)

    clients = [threading.Thread(target=load) for _ in range(3)]
    for thread in clients:
        thread.start()
    turns = 0
    begin = time.process_time()
    deadline = time.monotonic() + 60
    while turns < 200 and time.monotonic() < deadline:
        time.sleep(0)
        turns += 1
    stop.set()
    for thread in clients:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert turns == 200
    assert time.process_time() > begin


def test_send_in_another_thread_is_refused_while_a_handler_runs(
    serve: Callable[..., Any],
) -> None:
    """The handler gives the interpreter away: the other thread must not touch the connection."""
    errors: List[str] = []

    def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        def intrude() -> None:
            for arguments in (("a",), (b"a",), ("a", OpCode.PING)):
                try:
                    ws.send(*arguments)
                except RuntimeError as error:
                    errors.append(str(error))

        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join(TIMEOUT)
        ws.send("own")

    server = serve(message=on_message)
    with peer.upgraded(server.port, more=peer.frame(b"a")) as client:
        assert client.frame().payload == b"own"
    assert len(errors) == 3
    assert all("app.defer" in error for error in errors)


SIGNALS = """
    import os, signal, threading, time
    import pyws

    seen = []
    app = pyws.App()

    def note(number, frame):
        seen.append(number)
        if len(seen) == 2:
            raise LookupError("from a signal handler")

    signal.signal(signal.SIGUSR1, note)
    app.listen({"host": "127.0.0.1"})

    def shoot():
        for count in (1, 2):
            os.kill(os.getpid(), signal.SIGUSR1)
            deadline = time.monotonic() + 20
            while len(seen) < count and time.monotonic() < deadline:
                time.sleep(0.001)

    threading.Thread(target=shoot).start()
    try:
        app.run()
    except LookupError as error:
        print(len(seen), error)
    """


def test_signals_of_the_program_are_handled_while_the_loop_waits() -> None:
    done = python(SIGNALS)
    assert (done.stdout, done.stderr) == ("2 from a signal handler\n", "")


BUSY = """
    import signal, sys
    import peer, pyws, threading

    def message(ws, message, opcode):
        {body}

    app = pyws.App()
    app.ws("/*", message=message)
    ports = []
    app.listen({{"host": "127.0.0.1"}}, lambda place: ports.append(place.port))

    def client():
        with peer.upgraded(ports[0], more=peer.frame(b"a")) as end:
            end.at_end()

    threading.Thread(target=client).start()
    try:
        app.run()
    except BaseException as error:
        print(type(error).__name__, *error.args)
    """


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        ("raise KeyboardInterrupt('from a handler')", "KeyboardInterrupt from a handler"),
        ("raise SystemExit(7)", "SystemExit 7"),
        ("sys.exit(8)", "SystemExit 8"),
        ("signal.raise_signal(signal.SIGINT)", ""),  # graceful
    ],
)
def test_what_ends_run_comes_out_of_it(body: str, shown: str) -> None:
    done = python(BUSY.format(body=body))
    assert (done.stdout.strip(), done.stderr) == (shown, "")


DAEMON = """
    import threading, time
    import peer, pyws

    app = pyws.App()
    app.ws("/*", message=lambda ws, message, opcode: ws.send(message, opcode))
    ports = []
    app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))
    threading.Thread(target=app.run, daemon=True).start()
    client = peer.upgraded(ports[0], more=peer.frame(b"a"))
    assert client.frame().payload == b"a"
    client.send(peer.frame(b"a") * 1000)
    """


def test_the_interpreter_ends_while_a_daemon_thread_serves() -> None:
    for _ in range(5):
        done = python(DAEMON)
        assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_two_apps_in_two_threads(serve: Callable[..., Any]) -> None:
    servers = [serve(message=echo) for _ in range(2)]
    clients = [peer.upgraded(server.port) for server in servers for _ in range(3)]
    threads = [
        threading.Thread(target=exchange, args=(client, burst(500, [b"a"]), 1500, 10))
        for client in clients
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    for client in clients:
        client.socket.close()


def test_sigint_while_messages_pour_in() -> None:
    code = """
    import os, signal, threading
    import peer, pyws

    app = pyws.App()
    app.ws("/*", message=lambda ws, message, opcode: ws.send(message, opcode))
    ports = []
    app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))

    def client():
        end = peer.upgraded(ports[0])
        for number in range(50):
            end.send(peer.frame(b"a") * 100)
            if number == 10:
                os.kill(os.getpid(), signal.SIGINT)
            while True:
                frame = end.frame()
                if frame.opcode == 8:
                    print("closed", frame.close_code)
                    return
                if not end.buffer:
                    break

    thread = threading.Thread(target=client)
    thread.start()
    app.run()
    thread.join(20)
    print("over")
    """
    done = python(code)
    assert done.stdout == "closed 1001\nover\n", done.stderr
