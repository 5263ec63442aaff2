# SPDX-License-Identifier: MIT
"""Handlers that are C functions: the library calls them, Python has no part in that."""

import asyncio
import ctypes
import functools
import gc
import shutil
import signal
import subprocess
from typing import Any, Callable, Dict, List, Tuple

import peer
import pytest
from common import ROOT, without_sanitizer
from peer import close_frame, frame, upgraded
from program import Program

import pyws
from pyws import App, WebSocket
from pyws._core.settings import Behavior
from pyws._core.values import C_HANDLERS, HANDLERS
from pyws._native import (
    conn_function,
    control_function,
    lib,
    message_function,
    subscription_function,
    ws_behavior,
)

SOURCE = ROOT / "examples" / "c" / "native_handler.c"
COMPILER = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
needs_compiler = pytest.mark.skipif(COMPILER is None, reason="no C compiler")
KINDS: Dict[str, Any] = {
    "message": message_function,
    "dropped": message_function,
    "drain": conn_function,
    "ping": control_function,
    "pong": control_function,
    "subscription": subscription_function,
}


@pytest.fixture(scope="session")
def library(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("native") / "native_handler.so"
    assert COMPILER is not None
    environment = without_sanitizer()
    arguments = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run(
        [COMPILER, *arguments, f"-I{ROOT / 'csrc'}", "-o", str(path), str(SOURCE)],
        env=environment,
        check=True,
    )
    return str(path)


@pytest.fixture
def handlers(library: str) -> Any:
    ctypes.CDLL(pyws.library_path, mode=ctypes.RTLD_GLOBAL)
    loaded = ctypes.CDLL(library)
    loaded.echoed.restype = loaded.pings.restype = ctypes.c_ulong
    return loaded


class Numba:
    """As the objects of numba.cfunc."""

    def __init__(self, function: Any) -> None:
        self._function = self.ctypes = function

    def __call__(self, *arguments: Any) -> Any:
        return self._function(*arguments)

    @property
    def address(self) -> int:
        return ctypes.cast(self._function, ctypes.c_void_p).value or 0


def address(function: Any) -> Any:
    return ctypes.cast(function, ctypes.c_void_p).value


# ---- in C ---------------------------------------------------------------------------------------


@needs_compiler
@pytest.mark.parametrize("wrap", [lambda f: f, Numba])
def test_echo(serve: Callable[..., Any], handlers: Any, wrap: Callable[[Any], Any]) -> None:
    before = handlers.echoed(), handlers.pings()
    server = serve(message=wrap(handlers.echo), ping=wrap(handlers.count_ping))
    with upgraded(server.port) as client:
        client.send(frame(b"in C") + frame(b"\0\xff", 2) + frame(b"", 9))
        assert client.frame() == (True, 1, b"in C")
        assert client.frame() == (True, 2, b"\0\xff")
        assert client.frame().opcode == 10
    peer.eventually(lambda: (handlers.echoed(), handlers.pings()) == (before[0] + 2, before[1] + 1))


@needs_compiler
def test_the_library_gets_the_function_itself(
    handlers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: List[Tuple[Any, ...]] = []

    def ws(server: int, pattern: bytes, behavior: ws_behavior) -> None:
        seen.append((address(behavior.on_message), address(behavior.on_ping)))

    with App() as app, monkeypatch.context() as patch:
        patch.setattr(lib, "ws_server_ws", ws)
        app.ws("/*", message=handlers.echo, ping=Numba(handlers.count_ping))
    assert seen == [(address(handlers.echo), address(handlers.count_ping))]


@needs_compiler
def test_beside_coroutines(serve: Callable[..., Any], handlers: Any) -> None:
    """A native handler does not wait for a coroutine of the same socket."""
    seen: List[str] = []

    async def on_open(ws: WebSocket) -> None:
        await asyncio.sleep(0.05)
        ws.send("open")

    async def on_close(ws: WebSocket, code: int, reason: str) -> None:
        seen.append("close")

    server = serve(open=on_open, message=handlers.echo, close=on_close)
    with upgraded(server.port, more=frame(b"early")) as client:
        assert client.frame().payload == b"early"
        assert client.frame().payload == b"open"
    peer.eventually(lambda: seen == ["close"])


@needs_compiler
def test_the_example(library: str) -> None:
    example = str(ROOT / "examples" / "py" / "native_handler.py")
    with Program(example, library, "--port", "0") as program:
        port = int(program.line().rsplit(":", 1)[1])
        with upgraded(port) as client:
            client.send(frame(b"one") + frame(b"two") + frame(b"", 9))
            assert [client.frame().payload for _ in range(3)] == [b"one", b"two", b""]
            client.send(close_frame(1000))
            assert client.frame().close_code == 1000
        assert program.line() == "2 messages, 1 pings"
        assert program.stop(signal.SIGINT) == 0
        assert program.error_text() == ""


@needs_compiler
def test_in_workers(library: str) -> None:
    text = (
        "import sys, ctypes, pyws\n"
        "ctypes.CDLL(pyws.library_path, mode=ctypes.RTLD_GLOBAL)\n"
        "app = pyws.App().ws('/*', message=ctypes.CDLL(sys.argv[1]).echo)\n"
        "app.listen({'host': '127.0.0.1'}, lambda place: print(place.port))\n"
        "app.run(workers=2)\n"
    )
    with Program("-c", text, library) as program:
        port = int(program.line())
        for _ in range(8):
            with upgraded(port) as client:
                client.send(frame(b"worker"))
                assert client.frame().payload == b"worker"
        assert program.stop(signal.SIGTERM) == 0


# ---- made of Python by ctypes -------------------------------------------------------------------


def test_each_event(serve: Callable[..., Any]) -> None:
    seen: Dict[str, List[Tuple[Any, ...]]] = {name: [] for name in KINDS}

    def note(name: str, conn: int, *arguments: Any) -> None:
        plain = list(arguments[:-1])  # without `user`
        if name != "drain":
            plain[:2] = [plain[0][: plain[1]]]
        seen[name].append(tuple(plain))

    def on_open(ws: WebSocket) -> None:
        ws.subscribe("topic")

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        seen["close"] = [(code,)]

    functions = {name: kind(functools.partial(note, name)) for name, kind in KINDS.items()}
    server = serve(open=on_open, close=on_close, max_backpressure=1024, **functions)
    with upgraded(server.port) as client:
        client.send(frame(b"text") + frame(b"\1", 2) + frame(b"pi", 9) + frame(b"po", 10))
        assert client.frame().payload == b"pi"
        peer.eventually(lambda: seen["pong"])

        def fill() -> None:
            while not seen["dropped"]:
                server.app.publish("topic", bytes(100_000))

        server.call(fill)
        client.socket.settimeout(0.05)

        def drained() -> Any:
            try:
                client.fill()
            except OSError:
                pass
            client.buffer = b""
            return seen["drain"]

        peer.eventually(drained)
    peer.eventually(lambda: seen.get("close"))
    assert seen["message"] == [(b"text", 1), (b"\1", 2)]
    assert seen["ping"] == [(b"pi",)]
    assert seen["pong"] == [(b"po",)]
    assert seen["dropped"][0] == (bytes(100_000), 2)
    assert seen["subscription"] == [(b"topic", 1, 0), (b"topic", 0, 1)]


def test_t70_the_route_keeps_it_alive(serve: Callable[..., Any]) -> None:
    def configure(app: App) -> None:
        def echo(conn: int, data: Any, length: int, opcode: int, user: int) -> None:
            lib.ws_conn_send(conn, data[:length], length, opcode)

        app.ws("/*", message=message_function(echo))

    server = serve(configure)
    gc.collect()
    with upgraded(server.port) as client:
        client.send(frame(b"still here"))
        assert client.frame().payload == b"still here"


def test_pythons_events_go_on(serve: Callable[..., Any]) -> None:
    """Beside a native message handler all others are as ever."""
    seen: List[Tuple[Any, ...]] = []

    def echo(conn: int, data: Any, length: int, opcode: int, user: int) -> None:
        lib.ws_conn_send(conn, data[:length], length, opcode)

    server = serve(
        message=message_function(echo),
        open=lambda ws: ws.send(f"hello {ws.path}"),
        pong=lambda ws, data: seen.append((ws, data)),
        close=lambda ws, code, reason: seen.append((ws, code, reason)),
    )
    with upgraded(server.port, "/path") as client:
        assert client.frame().payload == b"hello /path"
        client.send(frame(b"x", 10) + frame(b"y"))
        assert client.frame().payload == b"y"
        client.send(close_frame(1000, b"bye"))
        assert client.frame().close_code == 1000
    (first, data), closed = seen
    assert data == b"x"
    assert closed == (first, 1000, "bye")


# ---- what is refused ----------------------------------------------------------------------------


def test_every_handler_is_one_or_the_other() -> None:
    assert set(KINDS) == set(C_HANDLERS)
    for name, kind in KINDS.items():
        function = kind(lambda *arguments: None)
        behavior = Behavior({name: function}, {})
        assert behavior.c_handlers == {name: function}
        assert getattr(behavior, name) is None
    for name in set(HANDLERS) - set(C_HANDLERS):
        function = conn_function(lambda *arguments: None)
        complaint = (
            f"^{name} cannot be a C function, only message, drain, dropped, ping, pong, "
            "subscription can$"
        )
        with pytest.raises(TypeError, match=complaint):
            Behavior({}, {name: function})


def test_wrong_number_of_arguments() -> None:
    complaint = r"^drain must be a C function void f\(ws_conn \*conn, void \*user\)$"
    with pytest.raises(TypeError, match=complaint):
        Behavior({"drain": message_function(lambda *arguments: None)}, {})


def test_no_function_there() -> None:
    class Address:
        def __init__(self, address: int) -> None:
            self.address = address

    for wrong in (message_function(), Address(8080), Address(-1), Address(1 << 70)):
        with pytest.raises(ValueError, match="message must be a C function, and there is none at"):
            Behavior({"message": wrong}, {})


def test_what_is_no_c_function() -> None:
    """An `address` of any other kind makes none."""

    class Handler:
        address: Any = "127.0.0.1"

        def __call__(self, *arguments: Any) -> None: ...

    class Function(Numba):
        def __init__(self, *arguments: Any) -> None: ...

    for address in ("127.0.0.1", None, True, 1e6, 8080, 1 << 20):
        handler = Handler()
        handler.address = address
        assert Behavior({"message": handler}, {}).message is handler
    assert Behavior({"message": Function}, {}).message is Function


def test_the_keyword_replaces_it() -> None:
    function = message_function(lambda *arguments: None)
    assert Behavior({"message": function}, {"message": print}).c_handlers == {}


def test_the_documented_prototypes_are_those_of_the_header() -> None:
    header = " ".join((ROOT / "csrc" / "ws.h").read_text().split())
    for name, arguments in C_HANDLERS.items():
        assert f"void (*on_{name})({', '.join(arguments)});" in header
