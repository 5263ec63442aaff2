# SPDX-License-Identifier: MIT
"""P9: a server that drains on SIGTERM, or the first SIGINT (`drain_on_signal`)."""

import os
import signal
import textwrap
import time
from contextlib import ExitStack
from typing import List

import pytest
from peer import Peer, close_frame, eventually, frame, upgraded
from worker_programs import is_free, peers_of_all, start

from pyws import App

SIGNALS = [signal.SIGINT, signal.SIGTERM]
PROGRAM = """
import asyncio
app = App(drain_on_signal=DRAIN)
async def echo(ws, message, opcode):
    ws.send(message)
def plain(ws, message, opcode):
    if message == "hang":
        print("hangs")
        while True:
            time.sleep(0.01)
    ws.send(message)
app.ws("/*", open=lambda ws: ws.send(str(os.getpid())), message=KIND,
       close=lambda ws, code, reason: print("closed", code))
listen()
try:
    RUN
except KeyboardInterrupt:
    print("KeyboardInterrupt")
print("returned")
"""
# Says when a signal was noted: signals that come together count as one.
NOTED = """
import pyws._core.signals
note = pyws._core.signals.Signals.note
def noted(self, *arguments):
    try:
        note(self, *arguments)
    finally:
        os.write(1, b"noted\\n")
pyws._core.signals.Signals.note = noted
"""
KINDS = {
    "run": ("plain", "app.run()"),
    "coroutines": ("echo", "app.run()"),
    "serve": ("plain", "asyncio.run(app.serve(signals=True))"),
    "workers": ("plain", "app.run(workers=2)"),
}


def program(kind: str, drain: float = 600) -> str:
    handler, run = KINDS[kind]
    text = textwrap.dedent(PROGRAM).replace("DRAIN", str(drain))
    return text.replace("KIND", handler).replace("RUN", run)


def peers_of(kind: str, port: int, stack: ExitStack) -> List[Peer]:
    count = 2 if kind == "workers" else 1
    return [one for some in peers_of_all(port, count, stack).values() for one in some]


def refused(port: int) -> bool:
    try:
        Peer(port).socket.close()
    except OSError:
        return True
    return False


def echo(client: Peer) -> None:
    client.send(frame(b"x"))
    assert client.frame().payload == b"x"


def leave(client: Peer, code: int = 1000) -> None:
    client.send(close_frame(code))
    assert client.frame().close_code == code
    assert client.at_end()


@pytest.mark.parametrize("number", SIGNALS)
@pytest.mark.parametrize("kind", KINDS)
def test_p9_the_first_signal_lets_clients_finish(kind: str, number: int) -> None:
    with start(program(kind)) as running, ExitStack() as stack:
        port = int(running.line())
        peers = peers_of(kind, port, stack)
        running.process.send_signal(number)
        eventually(lambda: refused(port))
        for client in peers:
            echo(client)
        for client in peers:
            leave(client)
        lines = [running.line() for _ in range(len(peers) + 1)]
        assert lines == ["closed 1000"] * len(peers) + ["returned"]
        assert running.wait() == 0
        assert "draining for at most 600 s" in running.error_text()
    assert is_free(port)


@pytest.mark.parametrize("second", SIGNALS)
@pytest.mark.parametrize("kind", KINDS)
def test_p9_a_second_signal_ends_the_drain(kind: str, second: int) -> None:
    with start(program(kind)) as running, ExitStack() as stack:
        port = int(running.line())
        peers = peers_of(kind, port, stack)
        running.process.send_signal(signal.SIGTERM)
        eventually(lambda: refused(port))
        for client in peers:
            echo(client)
        running.process.send_signal(second)
        for client in peers:
            assert client.frame().close_code == 1001
            client.send(close_frame(1001))
        lines = [running.line() for _ in range(len(peers) + 1)]
        assert lines == ["closed 1001"] * len(peers) + ["returned"]
        assert running.wait() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_p9_a_third_signal_drops_everything(kind: str) -> None:
    with start(program(kind)) as running, ExitStack() as stack:
        port = int(running.line())
        peers = peers_of(kind, port, stack)
        running.process.send_signal(signal.SIGINT)
        eventually(lambda: refused(port))
        for client in peers:
            echo(client)
        running.process.send_signal(signal.SIGINT)
        for client in peers:
            assert client.frame().close_code == 1001
        running.process.send_signal(signal.SIGINT)  # no client answers
        lines = [running.line() for _ in range(len(peers) + 2)]
        assert lines == ["closed 1001"] * len(peers) + ["KeyboardInterrupt", "returned"]
        assert running.wait() == 0


@pytest.mark.parametrize("kind", KINDS)
def test_p9_after_the_drain_a_signal_drops_everything(kind: str) -> None:
    with start(program(kind, 0.2)) as running, ExitStack() as stack:
        port = int(running.line())
        peers = peers_of(kind, port, stack)
        running.process.send_signal(signal.SIGTERM)
        for client in peers:
            assert client.frame().close_code == 1001
        running.process.send_signal(signal.SIGINT)
        lines = [running.line() for _ in range(len(peers) + 2)]
        assert lines == ["closed 1001"] * len(peers) + ["KeyboardInterrupt", "returned"]
        assert running.wait() == 0


@pytest.mark.parametrize("first", ["parent", "workers"])
def test_p9_a_signal_to_all_processes_of_a_service(first: str) -> None:
    """systemd sends SIGTERM to each of them: that is one signal."""
    with start(program("workers")) as running, ExitStack() as stack:
        port = int(running.line())
        of_worker = peers_of_all(port, 2, stack)
        everyone = [running.process.pid, *of_worker]
        if first == "workers":
            everyone.reverse()
        for pid in everyone:
            os.kill(pid, signal.SIGTERM)
        eventually(lambda: refused(port))
        time.sleep(0.1)  # for what should not happen
        peers = [one for some in of_worker.values() for one in some]
        for client in peers:
            echo(client)
        running.process.send_signal(signal.SIGTERM)
        for client in peers:
            assert client.frame().close_code == 1001
            client.send(close_frame(1001))
        assert [running.line() for _ in peers] == ["closed 1001"] * len(peers)
        assert running.line() == "returned"
        assert running.wait() == 0


def test_p9_workers_whose_parent_died_do_not_drain() -> None:
    with start(program("workers")) as running, ExitStack() as stack:
        port = int(running.line())
        peers = [one for some in peers_of_all(port, 2, stack).values() for one in some]
        running.process.kill()
        for client in peers:
            assert client.frame().close_code == 1001
            client.send(close_frame(1001))
        eventually(lambda: is_free(port))


@pytest.mark.parametrize("kind", ["run", "serve", "workers"])
def test_p9_two_sigints_interrupt_a_handler_that_hangs(kind: str) -> None:
    with start(program(kind).replace("listen()", NOTED + "listen()")) as running:
        port = int(running.line())
        with upgraded(port) as client:
            client.frame()
            client.send(frame(b"hang"))
            assert running.line() == "hangs"
            for _ in range(3 if kind == "workers" else 2):  # the parent does not know
                running.process.send_signal(signal.SIGINT)
                while running.line() != "noted":
                    pass
            while running.line() != "KeyboardInterrupt":
                pass
            assert running.line() == "returned"
            assert running.wait() == 0


def test_p9_drain_on_signal_is_checked() -> None:
    with pytest.raises(ValueError, match="drain_on_signal must be from 0"):
        App(drain_on_signal=-1)
    with pytest.raises(TypeError, match="drain_on_signal must be a number"):
        App(drain_on_signal="1")  # type: ignore[arg-type]
