# SPDX-License-Identifier: MIT
"""The life of a WebSocket object: bridge.c makes it, and runs the handlers of open and close.

Most of it must hold without the bridge, too."""

import gc
import logging
import ssl
import sys
import threading
from contextlib import suppress
from typing import Any, Callable, List

import peer
import pytest
from bridge_programs import python, start
from common import TIMEOUT, TLS

from pyws import SendStatus, WebSocket, _native
from pyws._core.sockets import Socket
from pyws._core.sockets import sockets as open_sockets

ONLY_BRIDGE = pytest.mark.skipif(not _native.lib.bridge, reason="runs without the bridge")

VISIT = peer.handshake() + peer.frame(b"\x03\xe8bye", 8)  # open, and close with 1000


def visit(port: int, times: int, data: bytes = VISIT) -> bytes:
    """Connect so many times, and return what the server sent to the last connection."""
    received = b""
    for _ in range(times):
        received = b""
        client = peer.Peer(port).socket
        with client, suppress(
            ConnectionError, ssl.SSLError
        ):  # the server may have closed with bytes unread
            client.sendall(data)
            while True:
                more = client.recv(4096)
                if not more:
                    break
                received += more
    return received


def those_of(server: Any) -> List[WebSocket]:
    runtime = server.app._runtime
    return [ws for ws in open_sockets.values() if ws._runtime is runtime]  # type: ignore[misc]


# ---- references ---------------------------------------------------------------------------------


# A handshake of TLS takes ten times as long as a connection.
ROUNDS = (200, 200, 200, 2_000) if TLS else (2_000, 2_000, 2_000, 20_000)


@pytest.mark.timeout(300)
@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks"), reason="of CPython alone")
def test_many_connections_leave_nothing_behind(serve: Callable[..., Any]) -> None:
    """Those that fail, too: a query makes both handlers raise."""
    seen = [0, 0]

    def on_open(ws: WebSocket) -> None:
        seen[0] += 1
        if ws.query:
            raise ValueError("planned")

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        seen[1] += 1
        assert ws.close_info is not None
        assert ws.close_info is ws.close_info
        if ws.query:
            raise ValueError("planned")

    server = serve(open=on_open, close=on_close, close_on_error=False)
    watched: List[Any] = [
        WebSocket, WebSocket.__dict__["send"], on_open, on_close, server.app._routes[0],
        server.app._runtime, open_sockets, bytes, str,
    ]  # fmt: skip
    logging.getLogger("pyws").disabled = True
    try:
        wrong = peer.handshake("/?fail") + peer.frame(b"\x03\xe8bye", 8)
        counts: List[List[int]] = []
        for times in ROUNDS:
            assert visit(server.port, times).startswith(b"HTTP/1.1 101 ")
            assert visit(server.port, times // 20, wrong).startswith(b"HTTP/1.1 101 ")
            peer.eventually(lambda: not those_of(server))
            gc.collect()
            counts.append(
                [sys.getallocatedblocks(), len(gc.get_objects()), *map(sys.getrefcount, watched)]
            )
    finally:
        logging.getLogger("pyws").disabled = False
    assert seen == [sum(times + times // 20 for times in ROUNDS)] * 2
    for before, after in zip(map(max, zip(*counts[:3])), counts[3]):
        assert after <= before + 300


@pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="of CPython alone")
def test_an_object_that_is_dropped_in_its_handlers(serve: Callable[..., Any]) -> None:
    """Nothing of Python holds it when a handler of open or close has closed it and returns."""
    codes: List[int] = []

    def on_open(ws: WebSocket) -> None:
        ws.close()
        del ws
        gc.collect()

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        codes.append(code)
        ws.close()
        del ws
        gc.collect()

    server = serve(open=on_open, close=on_close)
    other = serve(close=on_close)
    for port in (server.port, other.port):
        assert not visit(port, 20).endswith(b"bye") or port == other.port
    peer.eventually(lambda: len(codes) == 40)
    assert codes == [1006] * 20 + [1000] * 20


def test_an_object_outlives_its_connection(serve: Callable[..., Any]) -> None:
    kept: List[WebSocket] = []
    server = serve(open=kept.append)
    assert visit(server.port, 3)
    peer.eventually(lambda: not those_of(server))
    assert len({ws.id for ws in kept}) == 3
    for ws in kept:
        assert ws.closed
        assert server.call(ws.get_remote_address) == "127.0.0.1"
        assert server.call(lambda: ws.remote_port) > 0  # noqa: B023
        assert server.call(ws.send, "late") == SendStatus.DROPPED
        info = ws.close_info
        assert info is not None
        assert (info.sent, info.received) == ((1000, ""), (1000, "bye"))
        assert (info.clean, info.local) == (True, False)


# ---- errors, threads, nesting -------------------------------------------------------------------


def test_errors_of_open_and_close_are_reported(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    errors: List[Any] = []

    def on_open(ws: WebSocket) -> None:
        raise ValueError("in open")

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        raise KeyError(code, reason)

    server = serve(open=on_open, close=on_close)
    server.call(server.app.on_error, lambda error, source: errors.append((error, source)))
    with peer.upgraded(server.port) as client:
        assert client.frame().close_code == 1011
    peer.eventually(lambda: len(errors) == 2)
    # `open` has failed first, but its report ends with the Close, and that with the close event.
    assert sorted(type(error).__name__ for error, _ in errors) == ["KeyError", "ValueError"]
    assert all(isinstance(source, WebSocket) for _, source in errors)
    for error, _ in errors:
        assert error.__context__ is None
        names = []
        traceback = error.__traceback__
        while traceback is not None:
            names.append(traceback.tb_frame.f_code.co_name)
            traceback = traceback.tb_next
        assert names in (["on_open"], ["on_close"])
    assert "exception in the open handler" in caplog.text
    assert "exception in the close handler" in caplog.text


def test_what_run_was_called_in_is_no_context_of_an_error() -> None:
    """`run` inside an except clause: the errors of handlers have nothing to do with it."""
    code = """
    import threading
    import peer, pyws

    app = pyws.App()
    errors = []

    def on_open(ws):
        raise ValueError("in open")

    def on_close(ws, code, reason):
        try:
            raise LookupError("inner")
        except LookupError:
            raise KeyError(code)

    app.ws("/*", open=on_open, close=on_close, close_on_error=False)
    app.on_error(lambda error, source: errors.append(error))
    ports = []
    app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))

    def client():
        with peer.upgraded(ports[0]):
            pass
        peer.eventually(lambda: len(errors) == 2)
        app.defer(app.close)

    threading.Thread(target=client).start()
    try:
        raise OSError("outer")
    except OSError:
        app.run()
    print([(type(error).__name__, repr(error.__context__)) for error in errors])
    """
    done = python(code)
    expected = "[('ValueError', 'None'), ('KeyError', \"LookupError('inner')\")]\n"
    assert done.stdout == expected, done.stderr


ENDS = """
    import threading
    import peer, pyws

    app = pyws.App()

    def leave(ws, *args):
        raise SystemExit("from a handler")

    app.ws("/*", {event}=leave)
    ports = []
    app.listen({{"host": "127.0.0.1"}}, lambda place: ports.append(place.port))

    def client():
        with peer.upgraded(ports[0]) as end:
            end.send(peer.frame(b"\\x03\\xe8", 8))
            end.frame()

    threading.Thread(target=client).start()
    try:
        app.run()
    except BaseException as error:
        print(type(error).__name__, *error.args)
    """


@pytest.mark.parametrize("event", ["open", "close"])
def test_what_ends_run_comes_out_of_open_and_close(event: str) -> None:
    done = python(ENDS.format(event=event))
    assert (done.stdout, done.stderr) == ("SystemExit from a handler\n", "")


@ONLY_BRIDGE
def test_an_open_event_that_is_interrupted_at_its_beginning() -> None:
    """A signal handler raises before the object is initialized: it is forgotten, and 1011."""
    code = """
    import sys, threading
    import peer, pyws
    from pyws._core import sockets

    unraisable, seen = [], []
    sys.unraisablehook = lambda what: unraisable.append(type(what.exc_value).__name__)
    begin = pyws.WebSocket._begin

    def interrupted(*arguments):
        pyws.WebSocket._begin = begin
        raise LookupError

    pyws.WebSocket._begin = interrupted
    app = pyws.App()
    app.ws("/*", open=lambda ws: seen.append("open"), close=lambda ws, *args: seen.append("close"))
    ports = []
    app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))

    def client():
        for _ in range(2):
            with peer.upgraded(ports[0], more=peer.frame(b"ignored")) as end:
                end.send(peer.frame(b"\\x03\\xe8", 8))
                print(end.frame().close_code)
        app.defer(app.close)

    threading.Thread(target=client).start()
    app.run()
    print(unraisable, seen, sockets.sockets)
    """
    done = python(code)
    assert (done.stdout, done.stderr) == ("1011\n1000\n['LookupError'] ['open', 'close'] {}\n", "")


def test_a_socket_belongs_to_its_thread_while_open_and_close_run(
    serve: Callable[..., Any],
) -> None:
    errors: List[str] = []

    def intrude(ws: WebSocket) -> None:
        def run() -> None:
            calls: List[Callable[[], Any]] = [lambda: ws.send("a"), lambda: ws.publish("t", "a")]
            for call in calls:
                try:
                    call()
                except RuntimeError as error:
                    errors.append(str(error))

        thread = threading.Thread(target=run)
        thread.start()
        thread.join(TIMEOUT)

    server = serve(open=intrude, close=lambda ws, code, reason: intrude(ws))
    visit(server.port, 1)
    peer.eventually(lambda: len(errors) == 4)
    assert all("app.defer" in error for error in errors)


def test_s27_open_and_close_close_the_others(serve: Callable[..., Any]) -> None:
    """Every socket that opens drops all others; every one that closes drops the rest."""
    sockets: List[WebSocket] = []
    closed: List[WebSocket] = []

    def on_open(ws: WebSocket) -> None:
        for other in list(sockets):
            other.close()
        sockets.append(ws)

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        closed.append(ws)
        sockets.remove(ws)
        for other in list(sockets):
            other.end(1001)

    server = serve(open=on_open, close=on_close)
    clients = [peer.upgraded(server.port) for _ in range(30)]
    for client in clients:
        client.socket.close()
    peer.eventually(lambda: len(closed) == 30)
    assert len(set(closed)) == 30
    assert not those_of(server)


@pytest.mark.parametrize("how", ["close", "end", "terminate"])
def test_s27_a_socket_that_is_closed_while_it_opens(serve: Callable[..., Any], how: str) -> None:
    seen: List[Any] = []

    def on_open(ws: WebSocket) -> None:
        seen.append(ws)
        getattr(ws, how)()
        seen.append("opened")

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        seen.append(ws.closed)
        seen.append(code)

    server = serve(open=on_open, close=on_close)
    with peer.Peer(server.port) as client:
        client.send(peer.handshake() + peer.frame(b"too late"))
        peer.eventually(lambda: seen[-1:] == ["opened"])
    assert seen[1:] == [True, 1005 if how == "end" else 1006, "opened"] or how == "end"
    assert seen[1] is True
    peer.eventually(lambda: not those_of(server))


@ONLY_BRIDGE
def test_an_object_that_could_not_be_initialized_knows_no_server(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Something may keep it, as a hook keeps a traceback, longer than there is a server."""
    found: List[Any] = []

    def fail(ws: Any, *args: Any) -> None:
        found.append(ws)
        raise MemoryError

    monkeypatch.setattr(sys, "unraisablehook", lambda what: None)
    monkeypatch.setattr(Socket, "_begin", fail)
    server = serve()
    with peer.upgraded(server.port) as client:
        assert client.frame().close_code == 1011
    peer.eventually(lambda: found)
    assert found[0]._conn == found[0]._bridge == 0
    with pytest.raises(TypeError, match="bad argument type"):
        found[0].send("x")


# ---- memory -------------------------------------------------------------------------------------

STARVED = """
    import gc, logging, sys
    import pyws
    from pyws._core import sockets

    try:
        from _testcapi import remove_mem_hooks, set_nomemory
    except ImportError:
        sys.exit("no _testcapi")

    kept = []

    def starve(ws, message, opcode):
        remove_mem_hooks()
        if not all(other.closed and other.send("late") == 2 for other in kept):
            print("dangling")
        kept.clear()
        first, failures = map(int, message.split())
        if failures:
            set_nomemory(first, first + failures)
        else:
            app.close()

    logging.getLogger("pyws").disabled = True
    sys.unraisablehook = lambda what: None
    pyws._core.runtime.Runtime.stash = lambda runtime, error: None  # which would end it all
    app = pyws.App()
    app.ws("/starve", message=starve)
    app.ws("/*", open=kept.append, close=lambda ws, code, reason: None)
    app.listen({"host": "127.0.0.1"}, lambda place: print(place.port, flush=True))
    app.run()
    gc.collect()
    print("over", len(sockets.sockets))
    """


@pytest.mark.parametrize("failures", [1, 3])
@pytest.mark.skipif(sys.implementation.name != "cpython", reason="of CPython alone")
def test_failed_allocations_crash_nothing(failures: int) -> None:
    """Some allocations fail, anywhere near the events of a connection, perhaps of all of them."""
    with start(STARVED) as program:
        assert program.stdout is not None
        port = program.stdout.readline().strip()
        if not port:
            pytest.skip("no _testcapi")
        for number in [*range(1, 120), 0, 0]:  # the last one may fail for the one before
            with suppress(OSError, AssertionError), peer.upgraded(int(port), "/starve") as master:
                master.send(peer.frame(b"%d %d" % (number, failures if number else 0)))
                for _ in range(2 if number else 0):
                    visit(int(port), 1)
        assert program.stdout.read() == "over 0\n"
        assert program.wait(TIMEOUT) == 0
