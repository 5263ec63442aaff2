# SPDX-License-Identifier: MIT
"""The bridge (csrc/bridge.c): which interpreters have it, `send`, references, what outlives what.

What handlers and `send` do is the subject of all the other files, which run with the bridge and, by
PYWS_BRIDGE=ctypes, without it."""

import gc
import importlib
import inspect
import logging
import platform
import subprocess
import sys
import textwrap
from typing import Any, Callable, List

import peer
import pytest
from bridge_programs import burst, exchange, python

from pyws import App, CompressOptions, OpCode, SendStatus, WebSocket, _native

ONLY_BRIDGE = pytest.mark.skipif(not _native.lib.bridge, reason="runs without the bridge")
ONLY_CPYTHON = pytest.mark.skipif(
    platform.python_implementation() != "CPython", reason="elsewhere objects go later"
)
HAS_ONE = platform.python_implementation() == "CPython" and sys.version_info >= (3, 9)


# ---- which interpreters -------------------------------------------------------------------------

SHOW = "import pyws._native as n; print(n.lib.bridge)"


@pytest.mark.parametrize(
    ("wish", "before", "shown"),
    [
        ("", "", HAS_ONE),
        ("c", "", HAS_ONE),
        ("ctypes", "", False),
        ("", "import sys; sys.abiflags = 't'", False),  # no global interpreter lock
        ("", "import sys; sys.implementation.name = 'pypy'", False),
    ],
)
def test_the_mode_is_chosen(wish: str, before: str, shown: bool) -> None:
    done = python(f"{before}\n{SHOW}", PYWS_BRIDGE=wish)
    if wish == "c" and not HAS_ONE:
        assert "ImportError: PYWS_BRIDGE=c is not possible: this" in done.stderr
    else:
        assert (done.stdout, done.stderr) == (f"{shown}\n", "")


WITHOUT = """
    import ctypes

    class Functions:
        def __getattr__(self, name):
            if name.startswith({name!r}):
                raise AttributeError(name)
            return getattr(real, name)

    real, ctypes.pythonapi = ctypes.pythonapi, Functions()
    """


@pytest.mark.skipif(not HAS_ONE, reason="this Python has no bridge")
@pytest.mark.parametrize(
    ("name", "bridge"),
    [
        ("PyObject_Vectorcall", False),
        ("PyUnicode_AsUTF8AndSize", False),
        ("PyEval_RestoreThread", False),
        ("PyErr_GetRaisedException", True),  # newer than the others
    ],
)
def test_a_missing_function_means_ctypes(name: str, bridge: bool) -> None:
    before = textwrap.dedent(WITHOUT.format(name=name))
    done = python(f"{before}\n{SHOW}", PYWS_BRIDGE="")
    assert (done.stdout, done.stderr) == (f"{bridge}\n", "")
    done = python(f"{before}\n{SHOW}", PYWS_BRIDGE="c")
    assert bridge or f"PYWS_BRIDGE=c is not possible: this Python has no {name}" in done.stderr


def test_a_wrong_mode_is_refused() -> None:
    done = python("import pyws", PYWS_BRIDGE="rust")
    assert 'ImportError: PYWS_BRIDGE must be "c" or "ctypes", not \'rust\'' in done.stderr


@ONLY_BRIDGE
def test_a_table_of_another_size_is_refused() -> None:
    assert _native.lib.without_gil.ws_bridge_setup(_native.ws_python(), 8, 16) < 0


SUBINTERPRETER = """
try:
    import _interpreters as interpreters
except ImportError:
    import _xxsubinterpreters as interpreters
code = "try: import pyws\\nexcept ImportError as error: print(error, flush=True)"
interpreters.run_string(interpreters.create(), code)
"""


@pytest.mark.skipif(platform.python_implementation() != "CPython", reason="of CPython alone")
def test_subinterpreters_are_refused() -> None:
    done = python(SUBINTERPRETER)
    assert "subinterpreters" in done.stdout, done.stderr


# ---- send ---------------------------------------------------------------------------------------


def test_send_is_documented() -> None:
    """With the bridge, too, where sockets have a function of C."""
    assert str(WebSocket.send.__doc__).startswith("Send one message")
    assert inspect.isfunction(WebSocket.send)
    parameters = inspect.signature(WebSocket.send).parameters.values()
    assert [(item.name, item.default) for item in parameters if item.name != "self"] == [
        ("message", inspect.Parameter.empty),
        ("opcode", None),
        ("compress", False),
        ("fin", True),
    ]


FLAGS = [
    pytest.param(lambda ws: ws.send("x" * 99, OpCode.TEXT, True), b"\xc1", id="third"),
    pytest.param(lambda ws: ws.send("x" * 99, compress=True), b"\xc1", id="named"),
    pytest.param(lambda ws: ws.send(b"x" * 99, OpCode.BINARY, compress=True), b"\xc2", id="bytes"),
    pytest.param(lambda ws: ws.send("x" * 99, OpCode.TEXT, False), b"\x81", id="third False"),
    pytest.param(lambda ws: ws.send("x" * 99, compress=False), b"\x81", id="named False"),
]


@ONLY_BRIDGE
@pytest.mark.parametrize(("call", "first"), FLAGS)
def test_the_short_way_compresses(
    call: Callable[[Any], Any],
    first: bytes,
    serve: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """`compress` alone is no reason to go through Python."""
    monkeypatch.delattr(WebSocket, "_send")
    server = serve(open=call, compression=CompressOptions.SHARED_COMPRESSOR)
    offer = [("Sec-WebSocket-Extensions", "permessage-deflate")]
    with peer.upgraded(server.port, headers=offer) as client:
        assert client.read(1) == first


def test_every_way_to_call_send(serve: Callable[..., Any]) -> None:
    calls: List[Callable[[Any], SendStatus]] = [
        lambda ws: ws.send("positional"),
        lambda ws: ws.send(b"positional"),
        lambda ws: ws.send("opcode", OpCode.TEXT),
        lambda ws: ws.send(b"opcode", OpCode.BINARY),
        lambda ws: ws.send("str as binary", OpCode.BINARY),
        lambda ws: ws.send(b"bytes as text", OpCode.TEXT),
        lambda ws: ws.send("int", 1),
        lambda ws: ws.send(b"int", 2),
        lambda ws: ws.send("None", None),
        lambda ws: ws.send(message="keyword"),
        lambda ws: ws.send("keyword", opcode=OpCode.TEXT),
        lambda ws: ws.send("all", OpCode.TEXT, False, True),
        lambda ws: ws.send("all", opcode=OpCode.TEXT, compress=False, fin=True),
        lambda ws: ws.send(compress=False, message="order"),
        lambda ws: ws.send("flag", OpCode.TEXT, True),
        lambda ws: ws.send(b"flag", OpCode.BINARY, compress=True),
        lambda ws: ws.send("fin", OpCode.TEXT, fin=True),
        lambda ws: WebSocket.send(ws, "of the class"),
        lambda ws: getattr(ws, "send")("bound"),  # noqa: B009
        lambda ws: ws.send(*["star"], opcode=1),
        lambda ws: ws.send(bytearray(b"bytearray")),
        lambda ws: ws.send(type("Text", (str,), {})("subclass")),
        lambda ws: ws.send({"json": 1}),
        lambda ws: ws.send("caf\u00e9 \U0001f600"),
        lambda ws: ws.send(""),
        lambda ws: ws.send(b"\0"),
    ]
    results: List[Any] = []

    def run(ws: WebSocket) -> None:
        for call in calls:
            results.append(call(ws))

    server = serve(open=run)
    with peer.upgraded(server.port) as client:
        frames = [client.frame() for _ in calls]
    assert [(frame.opcode, frame.payload) for frame in frames] == [
        (1, b"positional"),
        (2, b"positional"),
        (1, b"opcode"),
        (2, b"opcode"),
        (2, b"str as binary"),
        (1, b"bytes as text"),
        (1, b"int"),
        (2, b"int"),
        (1, b"None"),
        (1, b"keyword"),
        (1, b"keyword"),
        (1, b"all"),
        (1, b"all"),
        (1, b"order"),
        (1, b"flag"),
        (2, b"flag"),
        (1, b"fin"),
        (1, b"of the class"),
        (1, b"bound"),
        (1, b"star"),
        (2, b"bytearray"),
        (1, b"subclass"),
        (1, b'{"json":1}'),
        (1, "caf\u00e9 \U0001f600".encode()),
        (1, b""),
        (2, b"\0"),
    ]
    assert results == [SendStatus.SUCCESS] * len(calls)
    assert all(result is SendStatus.SUCCESS for result in results)


WRONG: List[Any] = [
    (lambda ws: ws.send(), TypeError, "message"),
    (lambda ws: ws.send(None), TypeError, "message must be str"),
    (lambda ws: ws.send("a", 1, False, True, 5), TypeError, "argument"),
    (lambda ws: ws.send(*"abcdefghijklm"), TypeError, "argument"),
    (lambda ws: ws.send("a", **dict.fromkeys("abcdefghijkl", 1)), TypeError, "argument"),
    (lambda ws: ws.send("a", message="b"), TypeError, "message"),
    (lambda ws: ws.send("a", wrong=1), TypeError, "wrong"),
    (lambda ws: ws.send("a", 3), ValueError, "opcode"),
    (lambda ws: ws.send("a", "TEXT"), TypeError, "opcode"),
    (lambda ws: ws.send("a\udc80"), ValueError, "surrogates"),
    (lambda ws: ws.send(b"\xff", OpCode.TEXT), ValueError, "UTF-8"),
    (lambda ws: type(ws).send("a"), TypeError, ""),
    (lambda ws: type(ws).send(object(), "a"), (TypeError, AttributeError), ""),
    (lambda ws: WebSocket.__new__(WebSocket).send("a"), (TypeError, AttributeError), ""),
]


@pytest.mark.parametrize("number", range(len(WRONG)))
def test_wrong_calls_of_send(serve: Callable[..., Any], number: int) -> None:
    call, kind, text = WRONG[number]
    errors: List[BaseException] = []

    def run(ws: WebSocket) -> None:
        try:
            call(ws)
        except Exception as error:
            errors.append(error)
        ws.send("on it goes")

    server = serve(open=run)
    with peer.upgraded(server.port) as client:
        assert client.frame().payload == b"on it goes"
    assert len(errors) == 1
    assert isinstance(errors[0], kind)
    assert text in str(errors[0])


# ---- references ---------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks"), reason="of CPython alone")
def test_a_million_messages_leave_nothing_behind(serve: Callable[..., Any]) -> None:
    """Whole messages, callbacks with errors, and sends that take the long way."""
    fails = [False]

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        ws.send(message, opcode)
        if message == "\u00e9rror":
            fails[0] = True
            ws.send(message, opcode=opcode)
            raise ValueError("planned")

    server = serve(message=on_message, close_on_error=False)
    logging.getLogger("pyws").disabled = True
    try:
        data = burst(9_999, [b"0123456789abcdef", b"a" * 300, b"x"])
        answer = 9_999 // 3 * (18 + 304 + 3)
        wrong = peer.frame("\u00e9rror".encode())
        with peer.upgraded(server.port) as client:
            counts = []
            for _ in range(3):
                exchange(client, data, answer, 10)
                exchange(client, wrong, 2 * 8, 100)
                gc.collect()
                counts.append((sys.getallocatedblocks(), len(gc.get_objects())))
            exchange(client, data, answer, 70)
            exchange(client, wrong, 2 * 8, 1000)
            gc.collect()
            blocks, objects = sys.getallocatedblocks(), len(gc.get_objects())
    finally:
        logging.getLogger("pyws").disabled = False
    assert fails[0]
    assert blocks <= max(count[0] for count in counts) + 200
    assert objects <= max(count[1] for count in counts) + 50


@pytest.mark.skipif(not hasattr(sys, "getrefcount"), reason="of CPython alone")
def test_reference_counts_stay(serve: Callable[..., Any]) -> None:
    sockets: List[WebSocket] = []

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> SendStatus:
        return ws.send(message, opcode)

    watched: List[Any] = [
        OpCode.TEXT, OpCode.BINARY, *SendStatus, on_message, str, bytes,
        WebSocket, WebSocket.send,
    ]  # fmt: skip
    server = serve(message=on_message, open=sockets.append)
    with peer.upgraded(server.port) as client:
        data = burst(1000, [b"ab", b"cd"])
        exchange(client, data, 4 * 1000, 1)
        watched.append(sockets[0])
        before = [sys.getrefcount(item) for item in watched]
        exchange(client, data, 4 * 1000, 5)
        gc.collect()
        after = [sys.getrefcount(item) for item in watched]
    differences = [abs(b - a) for a, b in zip(before, after)]
    assert max(differences) < 100  # of 5,000; other threads hold some for a moment


@ONLY_CPYTHON
def test_the_object_outlives_a_handler_that_drops_it(serve: Callable[..., Any]) -> None:
    """It is closed, and nothing else holds it, while the handler runs or its result is dropped."""
    over: List[int] = []

    class Result:
        """What the handler returns; when it goes, it closes the connection."""

        def __init__(self, ws: WebSocket) -> None:
            self.ws = ws

        def __del__(self) -> None:
            self.ws.close()

    server = serve(
        message=lambda ws, message, opcode: Result(ws),
        close=lambda ws, code, reason: over.append(code),
    )
    direct = serve(message=close_and_forget)
    for port in (server.port, direct.port):
        for _ in range(20):
            with peer.upgraded(port) as client:
                client.send(peer.frame(b"a") * 3)
                assert client.at_end()
    peer.eventually(lambda: len(over) == 20)


def close_and_forget(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    ws.terminate()
    del ws
    gc.collect()


def test_a_builtin_as_handler(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []
    server = serve(message=type("Seen", (), {"__call__": lambda self, *args: seen.append(args)})())
    with peer.upgraded(server.port, more=peer.frame(b"a") + peer.frame(b"b", 2)):
        peer.eventually(lambda: len(seen) == 2)
    assert [args[1:] for args in seen] == [("a", OpCode.TEXT), (b"b", OpCode.BINARY)]
    direct = serve(message=WebSocket.send)  # ws.send(message, opcode)
    with peer.upgraded(direct.port, more=peer.frame(b"a")) as client:
        assert client.frame().payload == b"a"


# ---- what outlives what -------------------------------------------------------------------------

PROGRAM = """
    import functools, gc, importlib, operator, os, signal, sys, threading, time
    import peer, pyws
    import pyws._core.bridge, pyws._core.calls, pyws._core.sockets

    app = pyws.App()
    ports = []
    kept = []

    def serve(client, **behavior):
        app.ws("/*", behavior)
        app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))

        def work():
            client()
            try:
                app.defer(app.close)
            except RuntimeError:
                pass

        threading.Thread(target=work).start()
        app.run()

    def talk(count=1):
        with peer.upgraded(ports[-1], more=peer.frame(b"a") * count) as end:
            for _ in range(count):
                kept.append(end.frame())

    def echo(ws, message, opcode):
        kept.append(ws)
        ws.send(message, opcode)
    """


def program(code: str, **environment: str) -> "subprocess.CompletedProcess[str]":
    return python(textwrap.dedent(PROGRAM) + textwrap.dedent(code), **environment)


def test_send_outlives_its_module() -> None:
    """The interpreter points to the definition of the method for ever."""
    code = """
    def reload(ws):
        importlib.reload(pyws._core.bridge)
        gc.collect()
        kept.append([bytearray(32 + i % 32) for i in range(100000)])  # where something was

    serve(lambda: talk(100), message=echo, open=reload)
    print(len(kept))
    """
    done = program(code, PYTHONMALLOC="debug")
    assert (done.stdout, done.returncode) == ("201\n", 0), done.stderr


def test_a_call_from_a_destructor_at_exit() -> None:
    code = """
    class Late:
        def __init__(self, ws):
            self.ws = ws

        def __del__(self):
            try:
                self.ws.send("late")
            except Exception:
                pass

    serve(talk, message=echo)
    sys.late = Late(kept[0])
    print("end")
    """
    done = program(code, PYTHONMALLOC="debug")
    assert (done.stdout, done.returncode) == ("end\n", 0), done.stderr


def test_an_interrupted_end_leaves_no_address_behind() -> None:
    """A signal handler raises in the close event, and again where that is noticed."""
    code = """
    sys.unraisablehook = lambda what: None

    def interrupted(*arguments):
        raise LookupError

    pyws.WebSocket._end_here = interrupted
    try:
        serve(talk, message=echo)
    except LookupError:
        pass
    app.__exit__(None, None, None)
    ws = next(item for item in kept if isinstance(item, pyws.WebSocket))
    print(ws._conn, ws.closed, pyws._core.sockets.sockets, int(ws.send("late")))
    """
    done = program(code)
    assert done.stdout.split() == ["0", "True", "{}", "2"], done.stdout + done.stderr


@ONLY_BRIDGE
def test_what_c_has_seen_of_a_route_stays() -> None:
    """Ctrl-C in the midst of app.ws(), when the library has the route already."""
    code = """
    add_route = pyws._core.calls.add_route

    def interrupted(*arguments):
        add_route(*arguments)
        raise KeyboardInterrupt

    pyws._core.calls.add_route = interrupted
    try:
        app.ws("/a", message=echo)
    except KeyboardInterrupt:
        print(len(app._routes))
    """
    assert program(code).stdout == "1\n"


def test_a_route_that_is_refused_leaves_nothing() -> None:
    app = App()
    for _ in range(2):
        with pytest.raises(ValueError, match="pattern"):
            app.ws("no slash", {})
    assert app._routes == []
    assert app._registrations == []


@ONLY_BRIDGE
def test_a_signal_does_not_hide_an_error() -> None:
    """It arrives when a handler without a frame of Python has failed; both errors are told."""
    code = """
    import ctypes, logging

    def note(number, frame):
        raise LookupError("from the signal handler")

    signal.signal(signal.SIGUSR1, note)
    shoot = ctypes.PyDLL(None)["raise"]
    shoot.argtypes = [ctypes.c_int] + [ctypes.py_object] * 3
    shoot.restype = functools.partial(operator.truediv, 1)  # 1 / 0
    logging.basicConfig()

    def client():
        with peer.upgraded(ports[0], more=peer.frame(b"a")) as end:
            print(end.frame().close_code)

    try:
        serve(client, message=functools.partial(shoot, signal.SIGUSR1))
    except LookupError as error:
        print(error)
    """
    done = program(code)
    assert "from the signal handler" in done.stdout + done.stderr
    assert done.stdout.startswith("1011\n"), done.stderr
    assert "ZeroDivisionError" in done.stderr


@pytest.mark.parametrize("copy", ["copy.copy", "copy.deepcopy", "pickle.dumps"])
def test_nothing_of_a_connection_can_be_copied(serve: Callable[..., Any], copy: str) -> None:
    """A copy would keep an address of C that nobody clears."""
    module, name = copy.split(".")
    function = getattr(importlib.import_module(module), name)
    errors: List[str] = []

    def refuse(what: object) -> None:
        try:
            function(what)
        except TypeError as error:
            errors.append(str(error))

    def on_upgrade(res: Any, req: Any, context: Any) -> None:
        refuse(res)
        refuse(req)
        res.upgrade(req.get_header("sec-websocket-key"), None, None, context)

    server = serve(upgrade=on_upgrade, open=refuse)
    with peer.upgraded(server.port):
        peer.eventually(lambda: len(errors) == 3)
    refuse(server.app)
    assert errors == [
        f"{kind} objects cannot be copied or pickled"
        for kind in ("Response", "Request", "WebSocket", "App")
    ]


def test_a_forked_child_handles_no_further_messages() -> None:
    """It comes back from its handler, with more messages of the same read waiting."""
    code = """
    parent = os.getpid()

    def message(ws, message, opcode):
        where = "parent" if os.getpid() == parent else "child"
        os.write(1, f"{message} {where}\\n".encode())
        if message == "1" and os.fork() == 0:
            return
        ws.send(message)

    def client():
        frames = b"".join(peer.frame(b"%d" % number) for number in range(1, 4))
        with peer.upgraded(ports[0], more=frames) as end:
            for _ in range(3):
                end.frame()

    try:
        serve(client, message=message)
    except RuntimeError:
        os._exit(0)
    os.wait()
    """
    done = program(code)
    assert sorted(done.stdout.split("\n")) == ["", "1 parent", "2 parent", "3 parent"], done.stderr
