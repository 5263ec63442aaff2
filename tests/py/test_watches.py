# SPDX-License-Identifier: MIT
"""``app.add_reader``, ``add_writer``: other descriptors in the loop of an app."""

import contextvars
import errno
import gc
import os
import signal
import socket
import tempfile
import weakref
from contextlib import ExitStack
from typing import Any, Callable, Iterator, List, Tuple

import coroutines
import handlers
import peer
import pytest
from coroutines import Place, Serve, in_loop, until
from handlers import Oops, fail
from worker_programs import pids, start

from pyws import App
from pyws._core.descriptors import watched
from pyws._native import lib

ECHOES = {"plain": handlers.echo, "asyncio": coroutines.echo}


@pytest.fixture(params=ECHOES)
def server(serve: Serve, request: pytest.FixtureRequest) -> Any:
    """A server with the loop of the library, and one in an asyncio loop."""
    return serve(message=ECHOES[request.param])


@pytest.fixture
def pair() -> Iterator[Tuple[socket.socket, socket.socket]]:
    ends = socket.socketpair()
    for end in ends:
        end.setblocking(False)
    yield ends
    for end in ends:
        end.close()


Pair = Tuple[socket.socket, socket.socket]


def fill(one: socket.socket) -> None:
    """Write until the kernel takes no more."""
    with pytest.raises(BlockingIOError):
        while True:
            one.send(bytes(65536))


# ---- readers and writers ------------------------------------------------------------------------


def test_a_reader_runs_until_everything_is_read(server: Any, pair: Pair) -> None:
    here, there = pair
    seen: List[Any] = []

    def read(*args: Any) -> None:
        seen.append((here.recv(1), *args))

    there.send(b"abc")  # before there is a reader
    server.call(server.app.add_reader, here, read, 1, "two")
    peer.eventually(lambda: len(seen) == 3)
    assert seen == [(b"a", 1, "two"), (b"b", 1, "two"), (b"c", 1, "two")]
    there.send(b"d")
    peer.eventually(lambda: len(seen) == 4)
    there.close()
    peer.eventually(lambda: len(seen) > 5)
    assert seen[4] == seen[5] == (b"", 1, "two")  # the end of file, in each turn
    with peer.upgraded(server.port) as client:  # connections are served meanwhile
        client.send(peer.frame(b"hello"))
        assert client.frame().payload == b"hello"
    assert server.call(server.app.remove_reader, here) is True
    count = len(seen)
    server.call(int)
    assert len(seen) == count
    assert server.call(server.app.remove_reader, here) is False


def test_a_writer_runs_while_there_is_room(server: Any, pair: Pair) -> None:
    here, there = pair
    seen: List[str] = []
    fill(here)

    def write() -> None:
        seen.append("writable")
        assert server.app.remove_writer(here)  # in its own call

    server.call(server.app.add_writer, here.fileno(), write)
    for _ in range(3):
        server.call(int)
    assert seen == []
    with pytest.raises(BlockingIOError):
        while True:
            there.recv(65536)
    peer.eventually(lambda: seen)
    for _ in range(3):
        server.call(int)
    assert seen == ["writable"]
    assert server.call(server.app.remove_writer, here.fileno()) is False


def test_a_reader_and_a_writer_of_one_descriptor(server: Any, pair: Pair) -> None:
    here, there = pair
    app = server.app
    seen: List[str] = []

    def read() -> None:
        seen.append("r")
        here.recv(1)

    def add() -> None:
        app.add_writer(here, seen.append, "w")
        app.add_reader(here, read)

    server.call(add)
    there.send(b"x")
    peer.eventually(lambda: "r" in seen and seen.count("w") > 3)
    assert seen.count("r") == 1
    assert server.call(app.remove_writer, here)
    seen.clear()
    there.send(b"y")
    peer.eventually(lambda: seen)
    assert seen == ["r"]
    assert server.call(app.remove_writer, here) is False
    assert server.call(app.remove_reader, here)


@pytest.mark.parametrize("replaces", [False, True])
def test_a_reader_may_remove_the_writer(server: Any, pair: Pair, replaces: bool) -> None:
    """Both are due in the same turn: what was removed or replaced does not run."""
    here, there = pair
    app = server.app
    seen: List[str] = []

    def read() -> None:
        here.recv(1)
        if replaces:
            app.add_writer(here, seen.append, "another")
        else:
            app.remove_writer(here)
        app.remove_reader(here)
        seen.append("read")

    def add() -> None:
        there.send(b"x")
        app.add_reader(here, read)
        app.add_writer(here, seen.append, "written")

    server.call(add)
    peer.eventually(lambda: len(seen) > replaces)
    assert seen[:2] == (["read", "another"] if replaces else ["read"])
    server.call(app.remove_writer, here)


def test_a_second_reader_replaces_the_first(server: Any, pair: Pair) -> None:
    here, there = pair
    seen: List[str] = []
    server.call(server.app.add_reader, here, seen.append, "first")
    server.call(server.app.add_reader, here, lambda: seen.append(here.recv(1).decode()))
    there.send(b"x")
    peer.eventually(lambda: seen)
    assert seen == ["x"]
    assert server.call(server.app.remove_reader, here) is True
    assert server.call(server.app.remove_reader, here) is False


def open_terminal() -> Tuple[int, int]:
    """A pseudo-terminal, as far as the system has them: a bare chroot has not."""
    try:
        return os.openpty()
    except OSError:
        pytest.skip("there are no pseudo-terminals here")


@pytest.mark.parametrize("open_both", [os.pipe, open_terminal])
def test_a_pipe_and_a_terminal(server: Any, open_both: Callable[[], Tuple[int, int]]) -> None:
    seen: List[bytes] = []
    with ExitStack() as stack:
        for ends in (open_both(), open_both()):
            stack.callback(os.close, ends[0])
            stack.callback(os.close, ends[1])
            os.write(ends[1], b"line\n")
            server.call(
                server.app.add_reader, ends[0], lambda fd=ends[0]: seen.append(os.read(fd, 100))
            )
        peer.eventually(lambda: len(seen) >= 2)
        assert {text.strip() for text in seen} == {b"line"}
        for fd in server.app._runtime.watches.descriptors():
            assert server.call(server.app.remove_reader, fd)


# ---- what its functions may do ------------------------------------------------------------------


def test_exceptions_are_reported(
    serve: Serve, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    errors: List[Any] = []
    server = serve(lambda app: app.on_error(lambda *args: errors.append(args)))
    here, there = pair

    def read() -> None:
        here.recv(1)
        fail()

    def write() -> None:
        server.app.remove_writer(here)
        fail()

    server.call(server.app.add_reader, here, read)
    server.call(server.app.add_writer, here, write)
    there.send(b"x")
    peer.eventually(lambda: len(errors) == 2)
    there.send(b"y")
    peer.eventually(lambda: len(errors) == 3)
    assert {(type(error), source) for error, source in errors} == {(Oops, None)}
    assert caplog.text.count("exception in a function of add_reader") == 2
    assert caplog.text.count("exception in a function of add_writer") == 1


def test_a_coroutine_that_nothing_awaits_is_reported(
    serve: Serve, pair: Pair, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve()
    here, there = pair

    async def read() -> None:
        raise AssertionError

    def call() -> Any:
        server.app.remove_reader(here)
        return read()

    there.send(b"x")
    server.call(server.app.add_reader, here, call)
    peer.eventually(lambda: "a function of add_reader returned a coroutine" in caplog.text)


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_a_reader_may_end_run(serve: Serve, pair: Pair, kind: Any) -> None:
    server = serve()

    def leave() -> None:
        raise kind("leaving")

    pair[1].send(b"x")
    server.call(server.app.add_reader, pair[0], leave)
    server.join()
    assert isinstance(server.error, kind)


def test_a_reader_runs_in_the_context_of_its_call(server: Any, pair: Pair) -> None:
    variable = contextvars.ContextVar("variable", default="none")
    seen: List[str] = []
    here, there = pair

    def read() -> None:
        here.recv(1)
        seen.append(variable.get())
        variable.set("of the reader")

    def add() -> None:
        variable.set("of the call")
        server.app.add_reader(here, read)
        variable.set("later")

    there.send(b"xy")
    server.call(add)
    peer.eventually(lambda: len(seen) == 2)
    assert seen == ["of the call", "of the reader"]
    assert server.call(variable.get) == "none"


def test_a_reader_publishes_sends_and_closes(serve: Serve, pair: Pair) -> None:
    here, there = pair

    def configure(app: App) -> None:
        app.ws("/", open=lambda ws: ws.subscribe("topic"))
        app.add_reader(here, read)  # before `run`

    def read() -> None:
        text = here.recv(100).decode()
        server.app.publish("topic", text)
        for ws in server.app.connections:
            ws.end(4000, "over")

    server = serve(configure)
    with peer.upgraded(server.port) as client:
        peer.eventually(lambda: server.call(server.app.num_subscribers, "topic") == 1)
        there.send(b"news")
        assert client.frame().payload == b"news"
        assert client.frame().close_code == 4000


# ---- mistakes -----------------------------------------------------------------------------------


def test_arguments(pair: Pair) -> None:
    async def coroutine() -> None: ...

    with App() as app:
        for add in (app.add_reader, app.add_writer):
            for wrong in ("1", None, True, 1.0, object()):
                with pytest.raises(TypeError, match=r"fd must be an int.* or an object with file"):
                    add(wrong, print)  # type: ignore[arg-type]
            for number in (-1, -(2**70), 2**31, 2**70):
                with pytest.raises(ValueError, match="fd must be an open descriptor, not -?[0-9]"):
                    add(number, print)
            for fn in (None, 5, "print"):
                with pytest.raises(TypeError, match="fn must be callable"):
                    add(pair[0], fn)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="fn must be a plain function, not a coroutine"):
                add(pair[0], coroutine)
        for remove in (app.remove_reader, app.remove_writer):
            with pytest.raises(TypeError, match="fd must be an int"):
                remove("1")  # type: ignore[arg-type]
            assert remove(12345) is False
        closed = socket.socket()
        closed.close()
        with pytest.raises(ValueError, match=r"not -1: <socket.* is closed"):
            app.add_reader(closed, print)
    with pytest.raises(RuntimeError, match="this app is closed"):
        app.add_reader(pair[0], print)
    with pytest.raises(RuntimeError, match="this app is closed"):
        app.remove_reader(pair[0])


def test_what_cannot_be_watched() -> None:
    with App() as app:
        app.listen({"host": "127.0.0.1"})
        always = pytest.raises(PermissionError, match="files and folders are always ready")
        with tempfile.TemporaryFile() as file, always:
            app.add_reader(file, print)
        gone = os.dup(0)
        os.close(gone)
        with pytest.raises(OSError, match=f"cannot watch descriptor {gone}: it is not open") as why:
            app.add_writer(gone, print)
        assert why.value.errno == errno.EBADF
        for fd in watched(lib.ws_server_fd(app._runtime.server)):
            with pytest.raises(FileExistsError, match="the server watches it itself"):
                app.add_reader(fd, print)
        assert app._runtime.watches.descriptors() == []
        app.close()


def test_it_belongs_to_the_thread_of_the_app(server: Any, pair: Pair) -> None:
    app = server.app
    server.call(int)  # it runs
    for method, args in (
        (app.add_reader, (pair[0], print)),
        (app.add_writer, (pair[0], print)),
        (app.remove_reader, (pair[0],)),
        (app.remove_writer, (pair[0],)),
    ):
        with pytest.raises(RuntimeError, match="app.defer"):
            method(*args)


# ---- closed descriptors -------------------------------------------------------------------------


def test_a_descriptor_may_be_closed_before_its_reader_is_removed(server: Any) -> None:
    app = server.app

    def close() -> int:
        read_end, write_end = os.pipe()
        app.add_reader(read_end, fail)
        app.add_writer(write_end, fail)
        os.close(read_end)
        os.close(write_end)
        assert app.remove_writer(write_end) is True
        return read_end

    number = server.call(close)
    server.call(int)
    assert server.call(app.remove_reader, number) is True
    assert server.call(app.remove_reader, number) is False


def test_a_number_that_belongs_to_another_descriptor(server: Any) -> None:
    """The reader of the new one runs, and not the writer of the old one."""
    app = server.app
    seen: List[str] = []

    def replace() -> Tuple[int, Any]:
        old = socket.socketpair()
        number = old[0].fileno()
        app.add_reader(number, seen.append, "old")
        app.add_writer(number, seen.append, "old")
        new = socket.socketpair()
        for end in old:
            end.close()
        os.dup2(new[0].fileno(), number)
        new[0].close()
        app.add_reader(number, read, number)
        return number, new[1]

    def read(number: int) -> None:
        seen.append(os.read(number, 1).decode())

    number, other = server.call(replace)
    seen.clear()
    other.send(b"x")
    peer.eventually(lambda: "x" in seen)
    server.call(int)
    assert server.call(app.remove_reader, number) is True
    other.close()
    os.close(number)


# ---- runs ---------------------------------------------------------------------------------------


def test_readers_and_the_next_run(pair: Pair) -> None:
    here, there = pair
    seen: List[str] = []
    app = App()

    def read(what: str) -> None:
        seen.append(what + here.recv(1).decode())
        app.close()

    number = here.fileno()
    app.add_reader(here, read, "first ")
    app.on_stop(lambda: seen.append(f"stop: {app._runtime.watches.descriptors() == [number]}"))
    there.send(b"a")
    app.listen({"host": "127.0.0.1"})
    app.run()
    assert seen == ["first a", "stop: True"]
    assert app.remove_reader(here) is False  # it has ended with `run`
    app.on_start(lambda: app.add_reader(here, read, "second "))
    there.send(b"b")
    app.listen({"host": "127.0.0.1"})
    app.run()
    assert seen[2:] == ["second b", "stop: True"]
    app.add_reader(here, read, "third ")  # after a run, before `listen`
    there.send(b"c")
    app.listen({"host": "127.0.0.1"})
    app.run()
    assert seen[4] == "second c"  # on_start has replaced it


@in_loop
async def test_serve_in_asyncio(pair: Pair) -> None:
    """Readers may be added and removed between turns, by tasks of the loop."""
    here, there = pair
    seen: List[bytes] = []
    app = App()
    place = Place(app)
    async with app.serving():
        app.add_reader(here, lambda: seen.append(here.recv(1)))
        there.send(b"x")
        await until(lambda: seen)
        assert app.remove_reader(here)
        there.send(b"y")
        app.add_writer(here, seen.append, b"writable")
        await until(lambda: len(seen) > 3)
        app.remove_writer(here)
        assert seen[:2] == [b"x", b"writable"]
    assert place.port


@pytest.mark.parametrize("policy", ["DefaultEventLoopPolicy", "uvloop"])
@pytest.mark.parametrize("run", ["app.run()", "asyncio.run(app.serve(signals=True))"])
def test_under_every_loop(policy: str, run: str) -> None:
    if policy == "uvloop":
        pytest.importorskip("uvloop")
        policy = "__import__('uvloop').EventLoopPolicy()"
    else:
        policy = "asyncio.DefaultEventLoopPolicy()"
    text = f"""
        asyncio.set_event_loop_policy({policy})

        async def slow(ws, message, opcode):
            ws.send(type(asyncio.get_running_loop()).__module__)

        def read():
            data = os.read(read_end, 100)
            print("read", data.decode())
            if data == b"once":
                app.add_writer(write_end, write)

        def write():
            os.write(write_end, b"written")
            app.remove_writer(write_end)

        app.ws("/slow", message=slow)
        read_end, write_end = os.pipe()
        app.add_reader(read_end, read)
        app.call_later(0.05, os.write, write_end, b"once")
        listen()
        {run}
        print("returned")
    """
    with start(text) as program:
        assert program.line().isdigit()
        assert program.line() == "read once"
        assert program.line() == "read written"
        assert program.stop(signal.SIGTERM) == 0
        assert program.line() == "returned"
        assert program.error_text().count("Error") == 0


def test_an_app_with_readers_is_collected(pair: Pair) -> None:
    app = App()
    app.add_reader(pair[0], app.close)
    reference = weakref.ref(app)
    del app
    gc.collect()
    assert reference() is None
    assert pair[1].send(b"x") == 1  # which does not close the descriptor


# ---- processes ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_readers_of_workers(kind: str) -> None:
    """What was added before `run` is in each worker, and in those that replace one."""
    text = f"""
        async def slow(ws, message, opcode):
            pass

        if {kind == "coroutine"}:
            app.ws("/slow", message=slow)

        def read():
            assert app.remove_reader(read_end)
            print("reader", os.getpid())
            app.call_later(0, print, "later")

        read_end, write_end = os.pipe()
        os.write(write_end, b"never read")
        app.add_reader(read_end, read)
        listen()
        app.run(workers=3)
        print("returned", app.remove_reader(read_end))
    """
    with start(text) as program:
        port = int(program.line())
        lines = [program.line() for _ in range(6)]
        readers = {line for line in lines if line.startswith("reader ")}
        assert len(readers) == 3 and lines.count("later") == 3
        killed = readers.pop().split()[1]
        os.kill(int(killed), signal.SIGKILL)
        assert program.line() not in {f"reader {killed}", *readers}
        assert len(pids(port, 10)) >= 1
        assert program.line() == "later"
        assert program.stop(signal.SIGTERM) == 0
        assert program.line() == "returned False"


def test_a_listening_socket_of_the_program() -> None:
    """Workers do not take it for one of the server's."""
    text = """
        own = socket.create_server(("127.0.0.1", 0))
        own.setblocking(False)

        def accept():
            try:
                connection, _ = own.accept()
            except BlockingIOError:
                return  # another worker was faster
            connection.sendall(b"this is another service")
            connection.close()

        app.add_reader(own, accept)
        listen()
        print(own.getsockname()[1])
        app.run(workers=2)
    """
    with start(text) as program:
        port, other = int(program.line()), int(program.line())
        for _ in range(20):
            with socket.create_connection(("127.0.0.1", other), 10) as connection:
                assert connection.recv(100, socket.MSG_WAITALL) == b"this is another service"
        assert program.process.pid not in pids(port, 20)
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text().count("Traceback") == 0


def test_a_forked_child_keeps_the_descriptors_of_the_program() -> None:
    text = """
        read_end, write_end = os.pipe()

        def read():
            print(os.read(read_end, 100).decode())

        def fork(ws, message, opcode):
            if os.fork() == 0:
                try:
                    app.remove_reader(read_end)
                except RuntimeError as error:
                    os.write(write_end, str(error)[:33].encode())
                os._exit(0)

        app.ws("/fork", message=fork)
        app.add_reader(read_end, read)
        app.add_writer(write_end, app.remove_writer, write_end)
        listen()
        app.run()
    """
    with start(text) as program:
        port = int(program.line())
        for _ in range(2):
            with peer.upgraded(port, "/fork") as client:
                client.send(peer.frame(b"now"))
                assert program.line() == "this app belongs to the process that"[:33]
        assert program.stop(signal.SIGTERM) == 0


def test_the_parent_of_workers_refuses() -> None:
    text = """
        def on_signal(number, frame):
            try:
                app.add_reader(0, print)
            except RuntimeError as error:
                print(error)

        signal.signal(signal.SIGUSR1, on_signal)
        listen()
        app.on_start(lambda: print("started"))
        app.run(workers=2)
    """
    with start(text) as program:
        assert program.line().isdigit()
        assert [program.line() for _ in range(2)] == ["started"] * 2
        program.process.send_signal(signal.SIGUSR1)
        assert "only watches over them" in program.line()
        assert program.stop(signal.SIGTERM) == 0
