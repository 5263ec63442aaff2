# SPDX-License-Identifier: MIT
"""Programs that fork while they hold an App: the child lets go of it, the parent notices nothing.

Each program runs in a process of its own. T76.
"""

import os
import signal
import socket
import textwrap
from typing import Any, Callable, List

import peer
import pytest
from peer import close_frame, frame, upgraded
from program import Program

from pyws._core.descriptors import is_open, let_go

BEGIN = """
import asyncio, atexit, multiprocessing, os, signal, subprocess, sys, threading, time
from pyws import App

def wait(pid):
    return os.waitpid(pid, 0)[1]

def error_of(fn, *args):
    try:
        return fn(*args)
    except BaseException as error:
        return f"{type(error).__name__}: {error}"

def serve(app, path="/*", **behavior):
    app.ws(path, **behavior)
    app.listen({"host": "127.0.0.1"}, lambda place: print(place.port))
    app.run()
    print("the end")
"""
FORKED = (
    "RuntimeError: this app belongs to the process that made it: "
    "a forked child needs an App of its own"
)


def start(text: str) -> Program:
    return Program("-c", BEGIN + textwrap.dedent(text))


def echoed(client: peer.Peer, text: bytes = b"still here") -> None:
    client.send(frame(text))
    assert client.frame().payload == text


def ended(program: Program, errors: str = "") -> None:
    """A shutdown of the parent, which knows nothing of all this."""
    assert program.stop(signal.SIGTERM) == 0
    assert program.rest() == "the end\n"
    assert program.error_text() == errors


# ---- in a handler -------------------------------------------------------------------------------


def test_t76_every_call_is_refused_in_the_child() -> None:
    program = start("""
        def message(ws, message, opcode):
            if message != "fork":
                ws.send(message)
                return
            pid = os.fork()
            if pid == 0:
                for call in [
                    lambda: ws.send("from the child"),
                    lambda: ws.send(b"from the child", 9),
                    lambda: ws.send_first_fragment("from the child"),
                    lambda: ws.publish("topic", "from the child"),
                    lambda: app.publish("topic", "from the child"),
                    lambda: ws.cork_send("from the child"),
                    lambda: ws.subscribe("more"),
                    lambda: ws.get_buffered_amount(),
                    lambda: ws.get_remote_address(),
                    ws.end,
                    ws.close,
                    ws.pause,
                    app.close,
                    app.stats,
                    app.run,
                    lambda: app.run(workers=2),
                    lambda: app.ws("/more", {}),
                    lambda: app.get("/more", print),
                    lambda: app.listen(0),
                    lambda: app.defer(print, "from the child"),
                    lambda: app.call_later(0, print, "from the child"),
                    lambda: app.num_subscribers("topic"),
                    timer.cancel,
                    lambda: asyncio.run(app.serve()),
                ]:
                    print(error_of(call))
                print(bool(ws), ws.closed)
                os._exit(0)
            print("status", wait(pid))

        app = App()
        timer = app.call_later(100, print)
        serve(app, message=message, open=lambda ws: ws.subscribe("topic"))
    """)
    with program:
        port = int(program.line())
        with upgraded(port) as client, upgraded(port) as other:
            client.send(frame(b"fork"))
            for _ in range(24):
                assert program.line() == FORKED
            assert program.line() == "True False"
            assert program.line() == "status 0"
            echoed(client)
            echoed(other)
        ended(program)


def test_the_child_holds_nothing_open() -> None:
    """What the parent closes is closed, and its port is free, while the child lives."""
    program = start("""
        def message(ws, message, opcode):
            if os.fork() == 0:
                print(os.getpid())
                signal.pause()
                os._exit(0)

        app = App()
        app.get("/drop", lambda req, res: None)
        serve(app, message=message, pong=lambda ws, data: ws.close())
    """)
    with program:
        port = int(program.line())
        with upgraded(port) as client, upgraded(port) as other:
            client.send(frame(b"fork"))
            child = int(program.line())
            try:
                other.send(frame(b"drop me", 10))
                assert other.at_end()
                program.process.send_signal(signal.SIGTERM)
                assert client.frame().close_code == 1001
                client.send(close_frame(1001))
                assert client.at_end()
                client.socket.close()
                assert program.line() == "the end"
                with socket.socket() as again:
                    again.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    again.bind(("127.0.0.1", port))
                    again.listen()
            finally:
                os.kill(child, signal.SIGTERM)  # which does what it does in any program
        assert program.wait() == 0


@pytest.mark.parametrize(
    ("leave", "status", "errors"),
    [
        ("os._exit(3)", 3, ""),
        ("sys.exit(3)", 3, ""),
        ("return", 0, ""),
        ("raise ValueError('of the child')", 0, "ValueError: of the child"),
    ],
)
@pytest.mark.parametrize("event", ["message", "get", "coroutine"])
def test_leaving_the_handler(event: str, leave: str, status: int, errors: str) -> None:
    """A child that comes back from the handler gets out of run(); its peers are the parent's."""
    program = start(f"""
        def handler(*args):
            pid = os.fork()
            if pid == 0:
                {leave}
            print("status", wait(pid) >> 8)
            if {event!r} == "get":
                args[0].end("parent")

        {"async " if event == "coroutine" else ""}def message(ws, message, opcode):
            ws.send(message)
            if message == "fork":
                handler(ws)

        atexit.register(lambda: print("atexit") if os.getpid() != parent else None)
        parent = os.getpid()
        app = App()
        app.get("/", handler)
        app.ws("/*", message=message, close=lambda *args: print("close", os.getpid() == parent))
        app.listen({{"host": "127.0.0.1"}}, lambda place: print(place.port))
        try:
            app.run()
        except RuntimeError as error:
            print(error)
            print(error_of(app.stats))
            os._exit(0)
        print("the end")
    """)
    with program:
        port = int(program.line())
        with upgraded(port, "/other") as other:
            if event == "get":
                assert peer.request(port, "GET / HTTP/1.1").body == b"parent"
            else:
                with upgraded(port, "/other") as client:
                    echoed(client, b"fork")
                    echoed(client)
            lines: List[str] = []
            while not lines or not lines[-1].startswith("status"):
                lines.append(program.line())
            assert lines.pop() == f"status {status}"
            if leave.startswith("os"):
                assert lines == []
            elif leave.startswith("sys"):
                assert "atexit" in lines
            else:
                assert lines[-2:] == [FORKED.split(": ", 1)[1], FORKED]
            echoed(other)
        assert program.stop(signal.SIGTERM) == 0
        text = program.error_text()
        assert errors in text
        # "... did not answer the request", and what asyncio says of a loop that ends in its midst
        assert text == "" or errors or event != "message"
        assert "Exception ignored" not in text


def test_t76_multiprocessing_in_a_handler() -> None:
    program = start("""
        def work(pipe):
            pipe.send((os.getpid() != parent, error_of(app.stats)))
            pipe.close()

        def message(ws, message, opcode):
            mine, theirs = context.Pipe()
            process = context.Process(target=work, args=(theirs,))
            process.start()
            print(*mine.recv())
            process.join()
            print(process.exitcode)
            ws.send(message)
            process = context.Process(target=time.sleep, args=(1000,))
            process.start()
            process.terminate()
            process.join()
            print(process.exitcode)

        parent = os.getpid()
        context = multiprocessing.get_context("fork")
        app = App()
        serve(app, message=message)
    """)
    with program:
        with upgraded(int(program.line())) as client:
            for _ in range(2):
                echoed(client)
                assert program.line() == f"True {FORKED}"
                assert program.line() == "0"
                assert program.line() == "-15"
        ended(program)


def test_multiprocessing_in_a_coroutine() -> None:
    program = start("""
        def work(queue):
            queue.put(error_of(app.stats))

        async def message(ws, message, opcode):
            queue = context.SimpleQueue()
            process = context.Process(target=work, args=(queue,))
            process.start()
            print(queue.get())
            process.join()
            await asyncio.sleep(0.01)
            print(process.exitcode)
            ws.send(message)

        context = multiprocessing.get_context("fork")
        app = App()
        serve(app, message=message)
    """)
    with program:
        with upgraded(int(program.line())) as client:
            echoed(client)
            assert program.line() == FORKED
            assert program.line() == "0"
        ended(program)


def test_t76_a_program_run_in_a_handler_inherits_nothing() -> None:
    program = start("""
        def message(ws, message, opcode):
            code = "import os; print(sorted(map(int, os.listdir('/proc/self/fd'))))"
            subprocess.run([sys.executable, "-c", code], close_fds=False, check=True)
            subprocess.run([sys.executable, "-c", code], preexec_fn=time.time, check=True)
            ws.send(message)

        serve(App(), message=message)
    """)
    with program:
        port = int(program.line())
        with upgraded(port) as client, upgraded(port):
            echoed(client)
            for _ in range(2):
                assert program.line() == "[0, 1, 2, 3]"  # 3: of listdir
        ended(program)


def test_an_app_of_the_childs_own() -> None:
    program = start("""
        def child():
            own = App().ws("/*", message=lambda ws, message, opcode: ws.send(message[::-1]))
            own.listen({"host": "127.0.0.1"}, lambda place: print(place.port))
            own.run()
            print("the end of the child")

        children = []

        def message(ws, message, opcode):
            if message != "fork":
                ws.send(message)
                return
            children.append(multiprocessing.get_context("fork").Process(target=child))
            children[0].start()

        app = App()
        app.ws("/*", message=message)
        app.listen({"host": "127.0.0.1"}, lambda place: print(place.port))
        app.run()
        children[0].terminate()
        children[0].join()
        print(children[0].exitcode)
        print("the end")
    """)
    with program:
        port = int(program.line())
        with upgraded(port) as client:
            client.send(frame(b"fork"))
            with upgraded(int(program.line())) as other:
                other.send(frame(b"abc"))
                assert other.frame().payload == b"cba"
                echoed(client)
                other.send(close_frame(1000))
                assert other.frame().close_code == 1000
        assert program.stop(signal.SIGTERM) == 0
        assert program.rest() == "the end of the child\n0\nthe end\n"
        assert program.error_text() == ""


# ---- elsewhere ----------------------------------------------------------------------------------


@pytest.mark.parametrize("place", ["{'host': '127.0.0.1'}", "{'path': sys.argv[1]}"])
def test_before_run(tmp_path: Any, place: str) -> None:
    """The child ends as any program does; what the parent listens on stays."""
    path = str(tmp_path / "socket")
    text = f"""
        with App() as app:
            app.ws("/*", message=lambda ws, message, opcode: ws.send(message))
            app.listen({place})
            app.defer(print, "deferred", os.getpid())
            app.call_later(0, print, "later", os.getpid())
            pid = os.fork()
            if pid == 0:
                atexit.register(print, "atexit of the child")
                print(error_of(app.stats))
                print(error_of(app.run))
                fds = os.listdir("/proc/self/fd")
                print(sorted(map(int, fds)))
                sys.exit(0)
            print("status", wait(pid), os.path.exists(sys.argv[1]))
            app.defer(app.close)
            app.run()
            print("the end", os.path.exists(sys.argv[1]))
    """
    with Program("-c", BEGIN + textwrap.dedent(text), path) as program:
        assert program.line() == FORKED
        assert program.line() == FORKED
        assert program.line() == "[0, 1, 2, 3]"
        assert program.line() == "atexit of the child"
        unix = "path" in place
        assert program.line() == f"status 0 {unix}"
        pid = program.process.pid
        assert sorted([program.line(), program.line()]) == [f"deferred {pid}", f"later {pid}"]
        assert program.line() == "the end False"
        assert program.wait() == 0
        assert program.error_text() == ""


def test_from_another_thread() -> None:
    program = start("""
        import warnings

        warnings.simplefilter("ignore")  # Python 3.12 and later do not like that

        def fork():
            lock.wait()
            pid = os.fork()
            if pid == 0:
                print(error_of(app.defer, print))
                print(error_of(app.stats))
                sys.stdout.flush()
                os._exit(0)
            print("status", wait(pid))

        lock = threading.Event()
        threading.Thread(target=fork).start()

        def message(ws, message, opcode):
            lock.set()
            ws.send(message)

        app = App()
        serve(app, message=message)
    """)
    with program:
        with upgraded(int(program.line())) as client:
            echoed(client)
            assert program.line() == FORKED
            assert program.line() == FORKED
            assert program.line() == "status 0"
            echoed(client)
        ended(program)


def test_a_child_of_a_child() -> None:
    program = start("""
        app = App()
        pid = os.fork()
        if pid == 0:
            pid = os.fork()
            if pid == 0:
                print(error_of(app.stats))
                sys.exit(0)
            sys.exit(wait(pid))
        print("status", wait(pid), app.stats()["connections"])
    """)
    with program:
        assert program.line() == FORKED
        assert program.line() == "status 0 0"
        assert program.wait() == 0
        assert program.error_text() == ""


def test_many_connections_and_forks(serve: Callable[..., Any]) -> None:
    program = start("""
        def message(ws, message, opcode):
            pids = []
            for _ in range(5):
                pid = os.fork()
                if pid == 0:
                    os._exit(len(os.listdir("/proc/self/fd")) == 0)
                pids.append(pid)
            print([wait(pid) for pid in pids])
            ws.send(message)

        serve(App(), message=message)
    """)
    with program:
        port = int(program.line())
        clients = [upgraded(port) for _ in range(50)]
        for client in clients[:3]:
            echoed(client)
            assert program.line() == "[0, 0, 0, 0, 0]"
        for client in clients[3:]:
            client.send(frame(b"ping", 9))
            assert client.frame() == (True, 10, b"ping")
            client.socket.close()
        for client in clients[:3]:
            client.socket.close()
        ended(program)


@pytest.mark.parametrize("keep_numbers", [False, True])
def test_descriptors_that_only_the_parent_has_are_left_out(keep_numbers: bool) -> None:
    """A parent that has accepted a client since the fork has its socket in the shared epoll set."""
    mine = os.open(os.devnull, os.O_RDONLY)
    not_mine = os.dup(mine)
    os.close(not_mine)
    let_go([not_mine, mine], keep_numbers)
    assert not is_open(not_mine)
    assert is_open(mine) == keep_numbers
    if keep_numbers:
        os.close(mine)
