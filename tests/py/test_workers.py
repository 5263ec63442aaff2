# SPDX-License-Identifier: MIT
"""``app.run(workers=N)``: several processes that share what the app listens on.

Each program runs in a process of its own; what it prints comes from all of its processes."""

import asyncio
import os
import signal
import socket
import textwrap
import threading
import time
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any, List, Set

import pytest
from common import ROOT
from peer import Peer, eventually, frame, handshake, upgraded
from program import Program
from worker_programs import RUN, gone, is_free, peers_of_all, pids, start

from pyws import App
from pyws._core.workers import FIRST_DELAY, LONGEST_DELAY, backlog, next_delay, reason, twin

# ---- serving ------------------------------------------------------------------------------------


def test_connections_are_spread() -> None:
    with start(RUN) as program:
        port = int(program.line())
        found = pids(port, 120)
        assert len(found) == 3
        assert min(found.values()) >= 5
        assert program.process.pid not in found
        with upgraded(port) as peer:
            peer.frame()
            peer.send(frame(b"echo"))
            assert peer.frame().payload == b"echo"
        assert program.stop(signal.SIGTERM) == 0
        assert program.rest() == f"returned {program.process.pid}\n"
        assert all(map(gone, found))
        assert is_free(port)


def test_nothing_is_lost_that_came_before(tmp_path: Path) -> None:
    """What connects between listen() and run() is served, too."""
    text = """
        listen()
        while not os.path.exists(sys.argv[1]):
            time.sleep(0.01)
        app.run(workers=2)
    """
    go = tmp_path / "go"
    with start(text, str(go)) as program, ExitStack() as stack:
        port = int(program.line())
        peers = [stack.enter_context(Peer(port)) for _ in range(40)]
        go.touch()
        for peer in peers:
            peer.send(handshake())
            assert peer.response().status == 101


@pytest.mark.parametrize("places", [1, 12])
def test_many_places(places: int, tmp_path: Path) -> None:
    """More ports than each worker could have twice, and a Unix socket."""
    path = str(tmp_path / "socket")
    text = f"""
        for _ in range({places}):
            listen()
        app.listen({{"path": sys.argv[1]}}, lambda place: print("path"))
        app.run(workers=2)
    """
    with start(text, path) as program:
        ports = [int(program.line()) for _ in range(places)]
        assert program.line() == "path"
        for port in ports:
            assert len(pids(port, 1)) == 1
        found: Set[bytes] = set()
        for _ in range(20):
            with socket.socket(socket.AF_UNIX) as one:
                one.settimeout(10)
                one.connect(path)
                one.sendall(handshake())
                data = b""
                while b"\r\n\r\n" not in data or data.endswith(b"\r\n\r\n"):
                    data += one.recv(4096)
                found.add(data.split(b"\r\n\r\n")[1][2:])
        assert program.process.pid not in {int(pid) for pid in found}
        assert program.stop(signal.SIGINT) == 0
        assert not os.path.exists(path)


def test_all_interfaces() -> None:
    """One dual-stack socket, IPv4 and IPv6."""
    text = """
        app.listen(0, lambda place: print(place.port))
        app.run(workers=2)
    """
    with start(text) as program:
        port = int(program.line())
        with ExitStack() as stack:
            peers_of_all(port, 2, stack)


def test_one_worker_is_this_process() -> None:
    with start("listen()\napp.run(workers=1)") as program:
        assert set(pids(int(program.line()), 5)) == {program.process.pid}


def test_coroutine_handlers() -> None:
    text = """
        async def message(ws, message, opcode):
            await asyncio.sleep(0.01)
            ws.send(f"{os.getpid()} {id(asyncio.get_running_loop()) != 0}")

        async def get(res, req):
            await asyncio.sleep(0.01)
            res.end(str(os.getpid()))

        app.ws("/slow", message=message).get("/", get)
        listen()
        app.run(workers=2)
    """
    with start(text) as program:
        port = int(program.line())
        found: Set[bytes] = set()
        for _ in range(30):
            with upgraded(port, "/slow") as peer:
                peer.send(frame(b"?"))
                found.add(peer.frame().payload.split()[0])
        assert len(found) == 2
        assert program.stop(signal.SIGTERM) == 0


def test_what_was_put_off_runs_in_each_worker() -> None:
    text = """
        timer = app.call_later(100, print)
        app.call_later(0.1, lambda: print("later", os.getpid()))
        app.defer(timer.cancel)
        app.defer(lambda: print("deferred", os.getpid()))
        listen()
        app.run(workers=2)
        print("returned", os.getpid())
    """
    with start(text) as program:
        program.line()
        lines = sorted(program.line() for _ in range(4))
        assert [line.split()[0] for line in lines] == ["deferred"] * 2 + ["later"] * 2
        numbers = {int(line.split()[1]) for line in lines}
        assert len(numbers) == 2
        assert program.process.pid not in numbers
        os.kill(min(numbers), signal.SIGKILL)
        again = sorted(program.line().split() for _ in range(2))
        assert [line[0] for line in again] == ["deferred", "later"]
        assert again[0][1] == again[1][1]
        assert int(again[0][1]) not in numbers
        assert program.stop(signal.SIGTERM) == 0
        assert program.rest() == f"returned {program.process.pid}\n"


def test_the_app_runs_again_in_the_parent() -> None:
    text = """
        listen()
        app.defer(lambda: print("in", os.getpid()))
        app.run(workers=2)
        print("returned")
        listen()
        app.defer(lambda: print("alone in", os.getpid()))
        app.run()
    """
    with start(text) as program:
        assert len(pids(int(program.line()), 30)) >= 1
        assert {program.line().split()[0] for _ in range(2)} == {"in"}
        program.process.send_signal(signal.SIGTERM)
        assert program.line() == "returned"
        port = int(program.line())
        assert program.line() == f"alone in {program.process.pid}"
        assert set(pids(port, 5)) == {program.process.pid}


# ---- the parent meanwhile -----------------------------------------------------------------------


def test_close_in_a_signal_handler_of_the_parent() -> None:
    """Nothing else is possible there."""
    text = """
        def on_signal(*_):
            for call in [app.stats, lambda: app.publish("t", "m"), app.run, lambda: app.defer(id)]:
                try:
                    call()
                except RuntimeError as error:
                    print(error)
            app.close()

        signal.signal(signal.SIGUSR1, on_signal)
    """
    with start(textwrap.dedent(text) + RUN) as program:
        port = int(program.line())
        with upgraded(port) as peer:
            peer.frame()
            program.process.send_signal(signal.SIGUSR1)
            for _ in range(4):
                assert program.line() == (
                    "the workers of run() serve, this process only watches over them"
                )
            assert peer.frame().close_code == 1001
        assert program.wait() == 0


def test_an_exception_from_a_signal_handler_of_the_parent() -> None:
    text = """
        def on_signal(*_):
            raise ValueError("from the handler")

        signal.signal(signal.SIGUSR1, on_signal)
        listen()
        try:
            app.run(workers=2)
        except ValueError as error:
            print(error)
    """
    with start(text) as program:
        port = int(program.line())
        with upgraded(port) as peer:
            peer.frame()
            eventually(lambda: "worker 2" in program.error_text())
            time.sleep(0.2)  # what is raised in the midst of logging, logging swallows
            program.process.send_signal(signal.SIGUSR1)
            assert peer.frame().close_code == 1001
        assert program.line() == "from the handler"
        assert program.wait() == 0


# ---- what is refused ----------------------------------------------------------------------------


@pytest.mark.parametrize("wrong", ["2", 2.0, None, True])
def test_workers_must_be_an_int(wrong: Any) -> None:
    with App() as app, pytest.raises(TypeError, match="^workers must be an int from 1 to 1024"):
        app.run(workers=wrong)


@pytest.mark.parametrize("wrong", [0, -1, 1025, 2**70])
def test_workers_must_be_in_range(wrong: int) -> None:
    with App() as app, pytest.raises(ValueError, match="^workers must be from 1 to 1024, not "):
        app.run(workers=wrong)


def test_no_other_threads() -> None:
    stop = threading.Event()
    thread = threading.Thread(target=stop.wait, name="the other")
    thread.start()
    try:
        with App() as app:
            complaint = r"^run\(workers=2\) forks, where threads would be lost \(.*the other.*\)"
            with pytest.raises(RuntimeError, match=complaint):
                app.run(workers=2)
            app.listen({"host": "127.0.0.1"})
            app.defer(app.close)
            app.run()  # it works as before
    finally:
        stop.set()
        thread.join()


def test_not_inside_asyncio() -> None:
    async def main(app: App) -> None:
        with pytest.raises(RuntimeError, match=r"^run\(workers=2\) must not be called inside"):
            app.run(workers=2)

    with App() as app:
        asyncio.run(main(app))


def test_not_twice() -> None:
    failures: List[BaseException] = []

    def again(app: App) -> None:
        try:
            app.run(workers=2)
        except RuntimeError as error:
            failures.append(error)
        app.close()

    with App() as app:
        app.listen({"host": "127.0.0.1"})
        app.defer(again, app)
        app.run()
    assert "already running" in str(failures[0])


# ---- parts --------------------------------------------------------------------------------------


def test_delays_double() -> None:
    delays = [next_delay(0.0)]
    while delays[-1] < LONGEST_DELAY:
        delays.append(next_delay(delays[-1]))
    assert delays == [FIRST_DELAY, 0.2, 0.4, 0.8, 1.6, 3.2, LONGEST_DELAY]
    assert next_delay(LONGEST_DELAY) == LONGEST_DELAY


def test_another_socket_at_the_same_port() -> None:
    for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::")):
        with socket.socket(family) as one:
            one.bind((host, 0))
            one.listen(7)
            assert backlog(one) == 7
            with closing(twin(one)) as other:
                assert other.getsockname() == one.getsockname()
                assert backlog(other) == 7
                assert not os.get_inheritable(other.fileno())


def test_reasons() -> None:
    assert reason(0) == "exit status 0"
    assert reason(3 << 8) == "exit status 3"
    assert reason(signal.SIGSEGV) == "SIGSEGV"
    assert reason(signal.SIGRTMIN + 3) == f"signal {signal.SIGRTMIN + 3}"


def test_the_example() -> None:
    example = str(ROOT / "examples" / "py" / "workers.py")
    with Program(example, "--port", "0", "--workers", "2") as program:
        port = int(program.line().rsplit(":", 1)[1])
        found = set()
        for _ in range(40):
            with upgraded(port) as peer:
                peer.send(frame(b"hello"))
                pid, text = peer.frame().payload.split(b": ")
                assert text == b"hello"
                found.add(pid)
        assert len(found) == 2
        assert program.stop(signal.SIGINT) == 0
        assert program.error_text() == ""
