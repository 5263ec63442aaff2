# SPDX-License-Identifier: MIT
"""Callbacks that never run: ctypes had no memory to call them, or a signal handler raised before.

C does not notice. Python must forget the memory that C frees at once, and run the handlers that
should have run when the app ends, at the latest.
"""

import pytest
from bridge_programs import python

LOSES = """
    import sys, threading
    import peer, pyws
    from pyws import _native
    from pyws._core import callbacks, requests, sockets

    def lose(event, kind):
        '''C calls a function that raises, in place of the callback of this event.'''
        def fail(address, *arguments):
            lost.append(event)
            addresses.append(address)
            raise MemoryError
        callbacks.ALWAYS[event] = getattr(_native, kind)(fail)

    lost, addresses, ports = [], [], []
    sys.unraisablehook = lambda what: None
    if sys.version_info < (3, 8) or sys.implementation.name != "cpython":
        sys.stderr = open("/dev/null", "w")

    def use_again(table, address):
        '''What is left in the table is at this address, as if its memory were used again.'''
        for key in list(table):
            table[address] = table.pop(key)

    def fail_once(cls, function, error):
        '''The next call of this method raises; those after it work again.'''
        def fail(*arguments):
            setattr(cls, function, original)
            lost.append(1)
            raise error

        original = getattr(cls, function)
        setattr(cls, function, fail)

    def run(app, client):
        def work():
            try:
                client(ports[0])
            finally:
                app.defer(app.close)

        app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))
        thread = threading.Thread(target=work)
        thread.start()
        app.run()
        thread.join()
    """


def program(code: str) -> str:
    """Run a program without the bridge; with it, C itself does what these callbacks do."""
    done = python(LOSES + code, PYWS_BRIDGE="ctypes")
    assert done.returncode == 0, done.stderr
    return done.stdout


ENDS = {"on_close": "close_function", "on_closed": "closed_function"}
END_OF = """
    {lose}
    app, kept, seen = pyws.App(), [], []
    app.ws("/*", open=kept.append, close=lambda ws, code, reason: seen.append((code, reason)))

    def client(port):
        peer.upgraded(port).socket.close()
        peer.eventually(lambda: len(lost) == {count})
        found = []
        app.defer(lambda: found.append((kept[0].closed, kept[0].send("late").name)))
        peer.eventually(lambda: found)
        print(*found[0])

    run(app, client)
    print(*seen[0], len(seen), len(sockets.sockets), kept[0].close_info.clean)
    """


@pytest.mark.parametrize("events", [("on_close",), ("on_closed",), ("on_close", "on_closed")])
def test_an_end_that_is_lost(events: "tuple[str, ...]") -> None:
    """The object must not lead to the connection, which C has freed; its close handler runs."""
    lose = "; ".join(f"lose({event!r}, {ENDS[event]!r})" for event in events)
    reason = "connection closed without a Close frame"
    if "on_close" in events:
        reason = "the close event was interrupted"
    output = program(END_OF.format(lose=lose, count=len(events)))
    assert output == f"True DROPPED\n1006 {reason} 1 0 False\n"


TASKS = """
    import asyncio

    lose("on_close", "close_function")
    lose("on_closed", "closed_function")
    app, seen = pyws.App(), []

    async def session(ws):
        async def wait():
            try:
                await asyncio.sleep(1000)
            finally:
                seen.append("task")

        ws.create_task(wait())
        async for message in ws:
            pass
        seen.append(f"session {ws.close_info.sent}")

    app.ws("/*", session=session)
    original = sockets.enter

    def enter(ws, conn):
        use_again(sockets.sockets, conn)
        original(ws, conn)

    sockets.enter = enter

    def client(port):
        with peer.upgraded(port) as first:
            first.socket.close()
        peer.eventually(lambda: lost == ["on_close", "on_closed"])
        with peer.upgraded(port):
            peer.eventually(lambda: len(seen) == 2)
            print(*sorted(seen))

    run(app, client)
    print(len(sockets.sockets))
    """


def test_what_waits_for_an_end_that_is_lost() -> None:
    """The session and the tasks end when the memory of the connection is used again."""
    assert program(TASKS) == "session None task\n0\n"


STRANGER = """
    lose("on_closed", "closed_function")
    app, seen = pyws.App(), []
    app.ws("/*", message=lambda *args: seen.append(args), close=lambda *args: seen.append("close"))
    lose("on_open", "conn_function")
    app.ws("/stranger", message=lambda ws, *args: seen.append(args))

    def client(port):
        with peer.upgraded(port) as first:
            first.socket.close()
        peer.eventually(lambda: lost == ["on_closed"])
        with peer.upgraded(port, "/stranger") as other:
            peer.eventually(lambda: lost == ["on_closed", "on_open"])
            use_again(sockets.sockets, addresses[1])
            other.send(peer.frame(b"secret"))
            print(other.frame().close_code)

    run(app, client)
    print(*seen, len(sockets.sockets))
    """


def test_a_lost_end_and_a_lost_beginning() -> None:
    """An object does not get the messages of another connection at the same address."""
    assert program(STRANGER) == "1011\nclose 0\n"


ABORTED = """
    import asyncio

    requests.ON_ABORTED = _native.request_function(lambda *arguments: lost.append(1 // 0))
    app, kept, seen = pyws.App(), [], []

    def later(res, req):
        use_again(requests.exchanges, res._key)
        kept.append(req)
        res.on_aborted(lambda res: seen.append("aborted"))

    app.get("/later", later)

    async def body(res, req):
        kept.append(req)
        try:
            await req.body()
        except pyws.ClientDisconnect:
            seen.append("disconnected")

    app.post("/body", body)

    def ask(port, head):
        before, left = len(kept), []
        with peer.Peer(port) as end:
            end.send(head + b"\\r\\nHost: a\\r\\n\\r\\n")
            peer.eventually(lambda: len(kept) > before)
        while not left or left[-1]:
            app.defer(lambda: left.append(kept[-1]._ptr))
            time.sleep(0.01)

    def client(port):
        ask(port, b"POST /body HTTP/1.1\\r\\nContent-Length: 9")
        ask(port, b"GET /later HTTP/1.1")
        peer.eventually(lambda: seen)
        print(*seen)

    import time
    run(app, client)
    print(*seen, len(requests.exchanges))
    """


@pytest.mark.parametrize("bridge", ["ctypes", ""])
def test_a_request_whose_end_is_lost(bridge: str) -> None:
    """What waits for it ends when its memory is used again, or with the app."""
    done = python(LOSES + ABORTED, PYWS_BRIDGE=bridge)
    assert done.stdout == "disconnected\ndisconnected aborted 0\n", done.stderr


DEFERRED = """
    from pyws._core import runtime as module

    module.PATIENCE = 0  # seconds in which no call is deferred in vain
    app, seen = pyws.App(), []

    def begin():
        fail_once(module.Runtime, "{function}", {error})
        app.defer(seen.append, 1)
        app.defer(seen.append, 2)

    def client(port):
        app.defer(begin)
        peer.eventually(lambda: lost)
        app.defer(seen.append, 3)
        peer.eventually(lambda: len(seen) == 3)

    try:
        run(app, client)
    finally:
        print(*seen)
    """


@pytest.mark.parametrize("bridge", ["ctypes", ""])
@pytest.mark.parametrize("function", ["run_deferred", "_run_deferred"])
def test_deferred_calls_whose_callback_is_lost(function: str, bridge: str) -> None:
    """It has raised at its beginning, or later: the calls run nevertheless, in their order."""
    code = LOSES + DEFERRED.format(function=function, error="MemoryError")
    done = python(code, PYWS_BRIDGE=bridge)
    assert done.stdout == "1 2 3\n", done.stderr


TIMERS = """
    from pyws._core import timers as module

    module.PATIENCE = 0  # nanoseconds after which the alarm is taken for lost
    app, seen = pyws.App(), []

    def begin():
        app.call_later(0, seen.append, 1)
        app.call_later(0, seen.append, 2)
        fail_once(module.Timers, "{function}", {error})

    def client(port):
        app.defer(begin)
        peer.eventually(lambda: lost)
        app.defer(app.call_later, 0, seen.append, 3)
        peer.eventually(lambda: len(seen) == 3)

    try:
        run(app, client)
    finally:
        print(*seen)
    """


@pytest.mark.parametrize("bridge", ["ctypes", ""])
@pytest.mark.parametrize("function", ["run", "_pop"])
def test_timers_whose_callback_is_lost(function: str, bridge: str) -> None:
    """It has raised at its beginning, or later: the calls run nevertheless, in their order."""
    code = LOSES + TIMERS.format(function=function, error="MemoryError")
    done = python(code, PYWS_BRIDGE=bridge)
    assert done.stdout == "1 2 3\n", done.stderr


@pytest.mark.parametrize("bridge", ["ctypes", ""])
@pytest.mark.parametrize("program", [DEFERRED, TIMERS])
def test_what_ends_run_comes_out_of_callbacks(program: str, bridge: str) -> None:
    """A signal handler of the program has raised in them."""
    function = "_run_deferred" if program is DEFERRED else "_pop"
    done = python(
        LOSES + program.format(function=function, error="SystemExit(7)"), PYWS_BRIDGE=bridge
    )
    assert done.returncode == 7, done.stderr
