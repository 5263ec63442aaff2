# SPDX-License-Identifier: MIT
"""What uvloop does otherwise than the loops of asyncio itself.

docs/testing.md says how all tests of coroutine handlers run under it.
"""

import signal

import pytest
from peer import close_frame, frame, upgraded
from program import Program

LOOPS = {
    "asyncio": "asyncio.set_event_loop_policy(asyncio.DefaultEventLoopPolicy())",
    "uvloop": """
import uvloop
asyncio.set_event_loop_policy(uvloop.EventLoopPolicy())
""",
}

PROGRAM = """
import asyncio, signal, sys
LOOP
from pyws import App

async def on_message(ws, message, opcode):
    if message == "usr1":
        asyncio.get_running_loop().add_signal_handler(signal.SIGUSR1, print, "signal")
    ws.send(f"{message} {type(asyncio.get_running_loop()).__module__}")

async def on_close(ws, code, reason):
    print("close", code, reason, flush=True)

app = App()
app.ws("/*", message=on_message, close=on_close)
app.listen({"host": "127.0.0.1"}, lambda place: print(place.port, flush=True))
RUN
"""


@pytest.fixture(params=LOOPS)
def loop(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    if name == "uvloop":
        pytest.importorskip("uvloop")
    return name


def start(loop: str, run: str) -> Program:
    return Program("-c", PROGRAM.replace("LOOP", LOOPS[loop]).replace("RUN", run))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("workers", [1, 2])
def test_a_signal_ends_an_idle_server(loop: str, number: int, workers: int) -> None:
    """Without any socket there is no event but the signal."""
    with start(loop, f"app.run({workers})") as program:
        port = int(program.line())
        with upgraded(port) as client:  # now the loop, or a worker, is there for certain
            client.send(frame(b"in"))
            answer = client.frame().payload.decode()
            assert answer.startswith("in uvloop" if loop == "uvloop" else "in asyncio"), answer
            client.send(close_frame(1000))
            assert program.line() == "close 1000 "
        assert program.stop(number) == 0
        assert program.error_text() == ""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_sends_a_close_to_idle_clients(loop: str, number: int) -> None:
    with start(loop, "app.run()") as program:
        with upgraded(int(program.line())) as client:
            program.process.send_signal(number)
            assert client.frame().close_code == 1001
            client.send(close_frame(1001))
            assert client.at_end()
        assert program.wait() == 0
        assert program.rest() == "close 1001 server shutting down\n"
        assert program.error_text() == ""


def test_sigint_ends_serve_while_idle() -> None:
    pytest.importorskip("uvloop")
    with start("uvloop", "uvloop.run(app.serve())") as program:
        with upgraded(int(program.line())) as client:
            program.process.send_signal(signal.SIGINT)
            assert client.frame().close_code == 1001
            client.send(close_frame(1001))
        assert program.wait() in (-signal.SIGINT, 130)
        assert program.rest() == "close 1001 server shutting down\n"
        assert program.error_text().endswith("KeyboardInterrupt\n")


def test_signal_handlers_of_the_loop_still_work(loop: str) -> None:
    """uvloop has a wakeup descriptor of its own for them, before pyws has one."""
    with start(loop, "app.run()") as program:
        with upgraded(int(program.line())) as client:
            client.send(frame(b"usr1"))
            assert client.frame().payload.startswith(b"usr1 ")
            program.process.send_signal(signal.SIGUSR1)
            assert program.line() == "signal"
            program.process.send_signal(signal.SIGTERM)
            assert client.frame().close_code == 1001
            client.send(close_frame(1001))
        assert program.wait() == 0
        assert program.error_text() == ""


def test_a_wakeup_descriptor_of_the_program_still_receives_signals() -> None:
    run = """
import socket
reading, writing = socket.socketpair()
writing.setblocking(False)
signal.set_wakeup_fd(writing.fileno())
app.run()
print(list(reading.recv(9)), signal.set_wakeup_fd(-1) == writing.fileno())
"""
    with start("asyncio", run) as program:
        with upgraded(int(program.line())) as client:
            client.send(close_frame(1000))
            program.line()
        assert program.stop(signal.SIGTERM) == 0
        assert program.rest() == f"[{int(signal.SIGTERM)}] True\n"
