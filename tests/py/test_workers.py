"""``app.run(workers=N)``: several processes that share what the app listens on.

Each program runs in a process of its own; what it prints comes from all of its processes.
"""

import asyncio
import os
import signal
import socket
import textwrap
import threading
import time
from collections import Counter
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest
from common import ROOT
from peer import Peer, close_frame, eventually, frame, handshake, upgraded
from program import Program

from pyws import App
from pyws._core.workers import FIRST_DELAY, LONGEST_DELAY, backlog, next_delay, reason, twin

BEGIN = """
import asyncio, logging, os, signal, socket, sys, threading, time
from pyws import App

logging.basicConfig(level="INFO", format="%(message)s")

def print(*things):
    # In one write: lines of several processes must not mix.
    os.write(1, (" ".join(map(str, things)) + "\\n").encode())

app = App()
app.ws("/*", open=lambda ws: ws.send(str(os.getpid())), message=lambda ws, m, o: ws.send(m))

def listen(**options):
    app.listen({"host": "127.0.0.1", **options}, lambda place: print(place.port))
"""
RUN = """
listen()
app.run(workers=3)
print("returned", os.getpid())
"""


@contextmanager
def start(text: str, *arguments: str) -> Iterator[Program]:
    """No process of it is left afterwards."""
    with Program("-c", BEGIN + textwrap.dedent(text), *arguments) as program:
        yield program
        if program.process.poll() is None:
            program.stop(signal.SIGTERM)
    eventually(lambda: not program.reader.is_alive())  # all have closed stdout


def pid_of(peer: Peer) -> int:
    return int(peer.frame().payload)


def pids(port: int, count: int) -> Dict[int, int]:
    """How many of so many connections each process got."""
    found: Counter[int] = Counter()
    for _ in range(count):
        with upgraded(port) as peer:
            found[pid_of(peer)] += 1
    return found


def peers_of_all(port: int, count: int, stack: ExitStack) -> Dict[int, List[Peer]]:
    """Connections to so many processes, some to each."""
    peers: Dict[int, List[Peer]] = {}
    for number in range(220):
        if number >= 20 and len(peers) == count:
            break
        if number >= 20:
            time.sleep(0.05)  # one of them begins late
        peer = stack.enter_context(upgraded(port))
        peers.setdefault(pid_of(peer), []).append(peer)
    assert len(peers) == count
    return peers


def all_in(peers: Dict[int, List[Peer]]) -> List[Peer]:
    return [peer for some in peers.values() for peer in some]


def gone(pid: int) -> bool:
    """No such process, or it is one that nobody has waited for."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return True
    return text.rsplit(")", 1)[1].split()[0] == "Z"


def is_free(port: int) -> bool:
    with socket.socket() as one:
        one.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            one.bind(("127.0.0.1", port))
            one.listen()
        except OSError:
            return False
    return True


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


# ---- deaths -------------------------------------------------------------------------------------


def test_a_worker_that_is_killed_is_replaced() -> None:
    """T85: and no connection is refused meanwhile."""
    with start(RUN) as program, ExitStack() as stack:
        port = int(program.line())
        peers = peers_of_all(port, 3, stack)
        victim = min(peers)
        os.kill(victim, signal.SIGKILL)
        for peer in peers.pop(victim):
            assert peer.at_end()
        found: Set[int] = set()

        def replaced() -> bool:  # no connection fails meanwhile
            found.update(pids(port, 1))
            return len(found - {victim}) == 3

        eventually(replaced)
        assert victim not in found
        for others in peers.values():
            for peer in others:
                peer.send(frame(b"unharmed"))
                assert peer.frame().payload == b"unharmed"
                peer.socket.close()
        assert f"(pid {victim}) ended by SIGKILL, the next one starts in 0.1 s" in (
            program.error_text()
        )
        assert program.stop(signal.SIGTERM) == 0
        assert all(map(gone, found))


@pytest.mark.parametrize("how", ["sys.exit(3)", "os._exit(3)"])
def test_workers_that_die_at_once_do_not_spin(how: str) -> None:
    text = f"""
        app.defer(lambda: {how})
        listen()
        app.run(workers=2)
        print("returned")
    """
    with start(text) as program:
        program.line()
        eventually(lambda: program.error_text().count("starts in 0.4 s") == 2)
        lines = [line for line in program.error_text().splitlines() if "ended by" in line]
        for number in (1, 2):
            delays = [line for line in lines if line.startswith(f"worker {number} ")]
            wanted = ["0.1", "0.2", "0.4"]
            for line, delay in zip(delays, wanted):
                assert line.endswith(f"ended by exit status 3, the next one starts in {delay} s")
        assert program.stop(signal.SIGTERM) == 0
        assert program.rest() == "returned\n"


def test_a_long_life_makes_the_delay_short_again() -> None:
    text = """
        from pyws._core import workers

        workers.LONG_LIFE = 0.0  # every life is a long one
        app.ws("/die", open=lambda ws: os._exit(3))
        listen()
        app.run(workers=2)
    """
    with start(text) as program:
        port = int(program.line())
        for count in range(1, 6):  # one of the two dies three times
            with Peer(port) as peer:
                peer.send(handshake("/die"))
                assert peer.at_end()
            eventually(lambda: program.error_text().count("started") == 2 + count)  # noqa: B023
        lines = [line for line in program.error_text().splitlines() if "ended by" in line]
        assert len(lines) == 5
        for line in lines:
            assert line.endswith("ended by exit status 3, the next one starts in 0.1 s")
        assert program.stop(signal.SIGTERM) == 0


def test_others_serve_while_one_keeps_dying(tmp_path: Path) -> None:
    """Nobody waits for a worker that does not come."""
    text = """
        def first():
            try:
                os.mkdir(sys.argv[1])  # the first worker, and it alone, may live
            except FileExistsError:
                os._exit(1)

        app.defer(first)
        listen()
        app.run(workers=2)
    """
    with start(text, str(tmp_path / "taken")) as program:
        port = int(program.line())
        eventually(lambda: "starts in 1.6 s" in program.error_text())
        assert len(pids(port, 20)) == 1


def test_exit_statuses_are_logged() -> None:
    text = """
        steps = [lambda: sys.exit(7), lambda: sys.exit("said"), app.close,
                 lambda: os.kill(os.getpid(), signal.SIGTERM)]
        app.ws("/die/:how", open=lambda ws: steps[int(ws.path[5:])]())
        listen()
        app.run(workers=2)
    """
    with start(text) as program:
        port = int(program.line())
        for number, status in enumerate([7, 1, 0, 0]):
            before = program.error_text().count(f"exit status {status},")
            with upgraded(port, f"/die/{number}"):
                pass

            def logged(status: int = status, before: int = before) -> bool:
                return program.error_text().count(f"exit status {status},") == before + 1

            eventually(logged)
        assert "\nsaid\n" in program.error_text()


def test_a_worker_that_cannot_listen() -> None:
    """An exception in the making of a worker: logged, tried again, and it can be stopped."""
    text = """
        from pyws._core import calls
        parent, new_server = os.getpid(), calls.new_server

        def broken(*arguments):
            if os.getpid() != parent:
                raise OSError("no server today")
            return new_server(*arguments)

        calls.new_server = broken
    """
    with start(textwrap.dedent(text) + RUN) as program:
        program.line()
        eventually(lambda: program.error_text().count("starts in 0.2 s") == 3)
        assert "OSError: no server today" in program.error_text()
        assert program.stop(signal.SIGTERM) == 0


def test_fork_that_fails() -> None:
    text = """
        fork, parent, failures = os.fork, os.getpid(), []

        def failing():
            if len(failures) < 4:
                failures.append(1)
                raise OSError(11, "Resource temporarily unavailable")
            return fork()

        os.fork = failing
    """
    with start(textwrap.dedent(text) + RUN) as program:
        port = int(program.line())
        assert len(pids(port, 60)) >= 1
        assert "worker 1 cannot start: [Errno 11]" in program.error_text()


def test_one_socket_for_all_where_no_other_can_be_had() -> None:
    """A port that was bound with privileges that are gone, for one."""
    text = """
        from pyws._core import workers

        class Refusing(workers.Socket):
            def bind(self, address):
                raise PermissionError(13, "Permission denied")

        workers.Socket = Refusing
    """
    with start(textwrap.dedent(text) + RUN) as program:
        port = int(program.line())
        assert len(pids(port, 60)) >= 1
        assert f"all workers share one socket at 127.0.0.1 port {port}: " in program.error_text()


def test_t76_orphans_end() -> None:
    """The parent dies without a word."""
    with start(RUN) as program, ExitStack() as stack:
        port = int(program.line())
        found = peers_of_all(port, 3, stack)
        peers = all_in(found)
        program.process.kill()
        for peer in peers:
            assert peer.frame().close_code == 1001
            peer.socket.close()
        eventually(lambda: all(map(gone, found)))
        assert is_free(port)


# ---- the end ------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all(number: int) -> None:
    with start(RUN) as program, ExitStack() as stack:
        port = int(program.line())
        found = peers_of_all(port, 3, stack)
        peers = all_in(found)
        program.process.send_signal(number)
        for peer in peers:
            assert peer.frame().close_code == 1001
            peer.send(close_frame(1001))
            assert peer.at_end()
            peer.socket.close()
        assert program.wait() == 0
        assert all(map(gone, found))
        assert is_free(port)
        assert program.rest() == f"returned {program.process.pid}\n"
        assert "killed" not in program.error_text()


def test_ctrl_c_reaches_the_workers_as_well() -> None:
    """A terminal sends SIGINT to all processes at once; that is still one Ctrl-C."""
    with start(RUN) as program, ExitStack() as stack:
        port = int(program.line())
        found = peers_of_all(port, 3, stack)
        peers = all_in(found)
        program.process.send_signal(signal.SIGINT)
        for peer in peers[:1]:  # its worker shuts down already
            assert peer.frame().close_code == 1001
        for pid in found:
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGINT)
        for peer in peers[1:]:
            assert peer.frame().close_code == 1001
        for peer in peers:
            peer.send(close_frame(1001))
            assert peer.at_end()
            peer.socket.close()
        assert program.wait() == 0
        assert "Traceback" not in program.error_text()


def test_a_worker_with_a_pool_of_threads_ends() -> None:
    """Its threads wait for work until the interpreter says that no more comes."""
    text = """
        from concurrent.futures import ThreadPoolExecutor

        pool = ThreadPoolExecutor(2)

        def message(ws, message, opcode):
            pool.submit(app.defer, ws.send, "done")

        app.ws("/pool", message=message)
        listen()
        app.run(workers=2)
    """
    with start(text) as program:
        port = int(program.line())
        for _ in range(8):
            with upgraded(port, "/pool") as peer:
                peer.send(frame(b"work"))
                assert peer.frame().payload == b"done"
        program.process.send_signal(signal.SIGTERM)
        assert program.wait() == 0
        assert "killed" not in program.error_text()


def test_a_signal_waits_until_a_worker_heeds_it() -> None:
    """The program has done something else with it before."""
    text = """
        from pyws._core.runtime import Runtime

        signal.signal(signal.SIGTERM, lambda *_: None)
        renew = Runtime.renew

        def slow(*arguments):
            print("starts", os.getpid())
            time.sleep(0.5)
            renew(*arguments)

        Runtime.renew = slow
        listen()
        app.run(workers=2)
    """
    with start(text) as program:
        int(program.line())
        started = {program.line().split()[0] for _ in range(2)}
        assert started == {"starts"}
        program.process.send_signal(signal.SIGTERM)
        assert program.wait() == 0
        assert "killed" not in program.error_text()


def test_a_fork_of_the_parent_lets_go() -> None:
    text = """
        def fork(*_):
            if os.fork() == 0:
                print("child", os.getpid())
                time.sleep(30)
                os._exit(0)

        signal.signal(signal.SIGUSR1, fork)
        listen()
        app.run(workers=2)
    """
    with start(text) as program, ExitStack() as stack:
        port = int(program.line())
        workers = peers_of_all(port, 2, stack)
        program.process.send_signal(signal.SIGUSR1)
        child = int(program.line().split()[1])
        try:
            program.process.kill()  # what the child kept would keep the workers
            eventually(lambda: all(map(gone, workers)))
            assert is_free(port)
        finally:
            os.kill(child, signal.SIGKILL)


@pytest.mark.parametrize("leave", ["return", "sys.exit(3)", "raise ValueError"])
def test_t76_a_fork_of_the_parent_that_comes_back(leave: str) -> None:
    """The workers are not the child's to watch and to end."""
    text = f"""
        def fork(*_):
            if os.fork() == 0:
                print("child", os.getpid())
                {leave}

        signal.signal(signal.SIGUSR1, fork)
        listen()
        try:
            app.run(workers=2)
        except BaseException as error:
            print(type(error).__name__, error)
    """
    with start(text) as program, ExitStack() as stack:
        port = int(program.line())
        workers = peers_of_all(port, 2, stack)
        program.process.send_signal(signal.SIGUSR1)
        child = int(program.line().split()[1])
        error = program.line()
        if leave == "return":
            assert error == (
                "RuntimeError this app belongs to the process that made it: "
                "a forked child needs an App of its own"
            )
        eventually(lambda: gone(child))
        for peer in all_in(workers):
            peer.send(frame(b"still here"))
            assert peer.frame().payload == b"still here"
        assert "ended by" not in program.error_text()
        program.process.send_signal(signal.SIGTERM)
        assert program.wait() == 0


def test_a_worker_that_ends_does_not_spin() -> None:
    """The parent keeps its sockets: connections to them wait for the next worker."""
    text = """
        def message(ws, message, opcode):
            turns = app.stats()["turns"]
            app.call_later(0.5, lambda: print(app.stats()["turns"] - turns))
            os.kill(os.getpid(), signal.SIGTERM)

        app.ws("/end", message=message)
        listen()
        app.run(workers=2)
    """
    with start(text) as program, ExitStack() as stack:
        port = int(program.line())
        client = stack.enter_context(upgraded(port, "/end"))
        client.send(frame(b"now"))
        assert client.frame().close_code == 1001  # which stays without an answer
        for _ in range(20):  # some of them to the sockets of that worker
            other = stack.enter_context(socket.socket())
            other.setblocking(False)
            with suppress(BlockingIOError):
                other.connect(("127.0.0.1", port))
        assert int(program.line()) < 100


def test_a_shortage_of_descriptors_passes() -> None:
    """A worker dies while the parent can open nothing; the others serve on."""
    text = """
        import resource

        limits = resource.getrlimit(resource.RLIMIT_NOFILE)

        def short(*_):
            resource.setrlimit(resource.RLIMIT_NOFILE, (3, limits[1]))

        def enough(*_):
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)

        signal.signal(signal.SIGUSR1, short)
        signal.signal(signal.SIGUSR2, enough)
        listen()
        app.run(workers=2)
    """
    with start(text) as program, ExitStack() as stack:
        port = int(program.line())
        workers = peers_of_all(port, 2, stack)
        program.process.send_signal(signal.SIGUSR1)
        os.kill(next(iter(workers)), signal.SIGKILL)
        eventually(lambda: "cannot start" in program.error_text())
        program.process.send_signal(signal.SIGUSR2)
        eventually(lambda: program.error_text().count("started") == 3)
        program.process.send_signal(signal.SIGTERM)
        assert program.wait() == 0


def test_no_descriptor_is_left() -> None:
    text = """
        signal.signal(signal.SIGALRM, lambda *_: app.close(timeout=0))
        for _ in range(3):
            app.listen({"host": "127.0.0.1"})
            signal.setitimer(signal.ITIMER_REAL, 0.2)
            try:
                app.run(workers=2)
            except KeyboardInterrupt:
                pass
            print(len(os.listdir("/proc/self/fd")))
    """
    with start(text) as program:
        counts = [int(program.line()) for _ in range(3)]
        assert program.wait() == 0
        assert counts[0] == counts[1] == counts[2]


def test_the_second_sigint_drops_all() -> None:
    """And comes out of run() as KeyboardInterrupt. The clients never answer the Close."""
    text = """
        listen()
        try:
            app.run(workers=2)
        except KeyboardInterrupt:
            print("interrupted")
    """
    with start(text) as program, ExitStack() as stack:
        port = int(program.line())
        found = peers_of_all(port, 2, stack)
        peers = all_in(found)
        program.process.send_signal(signal.SIGINT)
        for peer in peers:
            assert peer.frame().close_code == 1001
        program.process.send_signal(signal.SIGINT)
        assert program.line() == "interrupted"
        assert all(map(gone, found))
        assert program.wait() == 0
        assert "killed" not in program.error_text()


def test_a_worker_that_is_stuck_is_killed() -> None:
    text = """
        from pyws._core import workers
        workers.GRACE = 0.3

        def stuck(ws):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
            print("stuck", os.getpid())
            while True:
                time.sleep(1)

        app.ws("/stuck", open=stuck)
        signal.signal(signal.SIGUSR1, lambda *_: app.close(timeout=0.1))
    """
    with start(textwrap.dedent(text) + RUN) as program:
        port = int(program.line())
        with Peer(port) as peer:
            peer.send(handshake("/stuck"))
            pid = int(program.line().split()[1])
            program.process.send_signal(signal.SIGUSR1)
            assert program.wait() == 0
            assert gone(pid)
        assert f"(pid {pid}) did not end, it is killed" in program.error_text()


@pytest.mark.parametrize("limits", [(3600, 0.1), (0.1, 3600)], ids=["second", "first"])
def test_the_shorter_of_two_times_to_shut_down_holds(limits: Tuple[float, float]) -> None:
    text = f"""
        from pyws._core import workers
        workers.GRACE = 0.3

        def stuck(ws):
            signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGINT, signal.SIGTERM])
            print("stuck")
            while True:
                time.sleep(1)

        def stop(*_):
            for limit in {limits}:
                app.close(timeout=limit)

        app.ws("/stuck", open=stuck)
        signal.signal(signal.SIGUSR1, stop)
    """
    with start(textwrap.dedent(text) + RUN) as program:
        port = int(program.line())
        with Peer(port) as peer:
            peer.send(handshake("/stuck"))
            assert program.line() == "stuck"
            program.process.send_signal(signal.SIGUSR1)
            assert program.wait() == 0
        assert "did not end, it is killed" in program.error_text()


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
