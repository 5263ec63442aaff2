# SPDX-License-Identifier: MIT
"""``app.run(workers=N)``: workers that die, signals, and the end of all of them."""

import os
import signal
import socket
import textwrap
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Dict, List, Set, Tuple

import pytest
from peer import Peer, close_frame, eventually, frame, handshake, upgraded
from worker_programs import RUN, gone, is_free, peers_of_all, pids, start


def all_in(peers: Dict[int, List[Peer]]) -> List[Peer]:
    return [peer for some in peers.values() for peer in some]


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
