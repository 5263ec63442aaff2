# SPDX-License-Identifier: MIT
"""The App: listening, running, stopping, its settings, threads, the end of the interpreter."""

import ctypes
import errno
import gc
import inspect
import itertools
import os
import re
import socket
import subprocess
import sys
import threading
import time
import weakref
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import peer
import pytest
from common import ROOT, TIMEOUT
from websockets.sync.client import connect

from pyws import (
    App,
    AppListenOptions,
    AppOptions,
    CompressOptions,
    OpCode,
    WebSocket,
)
from pyws._core import callbacks, runtime
from pyws._core.settings import BEHAVIOR_KEYS, Behavior
from pyws._core.values import HANDLERS
from pyws._native import lib

# ---- listening ----------------------------------------------------------------------------------


def test_listen_tells_the_real_port() -> None:
    seen: List[AppListenOptions] = []
    with App() as app:
        assert app.listen(0, seen.append) is app
        app.listen({"port": 0, "host": "127.0.0.1"}, seen.append)
        app.listen(AppListenOptions(host="::1"), seen.append)
    assert all(place.port > 0 for place in seen)
    assert [place.host for place in seen] == [None, "127.0.0.1", "::1"]


def test_listen_on_a_taken_port() -> None:
    with socket.socket() as other, App() as app:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(OSError, match=f"cannot listen on 127.0.0.1:{port}: ") as caught:
            app.listen({"port": port, "host": "127.0.0.1"})
        assert caught.value.errno == errno.EADDRINUSE
        assert os.strerror(errno.EADDRINUSE) in str(caught.value)


def test_listen_is_exclusive_unless_reuse_port() -> None:
    ports: List[int] = []
    with App() as one, App() as two:
        one.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))
        with pytest.raises(OSError, match="cannot listen"):
            two.listen({"host": "127.0.0.1", "port": ports[0], "reuse_port": True})
        one.listen({"host": "127.0.0.1", "reuse_port": True}, lambda p: ports.append(p.port))
        two.listen({"host": "127.0.0.1", "port": ports[1], "reuse_port": True})


def test_listen_errors_leave_nothing_behind() -> None:
    with App() as app:
        for host in ("192.0.2.1", "no.such.host.invalid"):
            with pytest.raises(OSError, match=f"cannot listen on {host}:0") as caught:
                app.listen({"host": host})
            assert caught.value.errno
        with pytest.raises(OSError, match="cannot listen on /nonexistent/socket"):
            app.listen({"path": "/nonexistent/socket"})
        with pytest.raises(TypeError, match="callback must be callable"):
            app.listen(0, 5)  # type: ignore[arg-type]


def test_unix_socket(serve: Callable[..., Any], tmp_path: Path) -> None:
    path = tmp_path / "socket"
    seen: List[Any] = []

    def configure(app: App) -> None:
        app.ws("/*", open=lambda ws: seen.append((ws.get_remote_address(), ws.remote_port)))
        app.listen({"path": path, "mode": 0o600}, lambda place: seen.append(place.port))

    serve(configure)
    assert path.stat().st_mode & 0o777 == 0o600
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(TIMEOUT)
        client.connect(str(path))
        client.sendall(peer.handshake())
        assert client.recv(1000).startswith(b"HTTP/1.1 101 ")
    peer.eventually(lambda: len(seen) == 2)
    assert seen == [0, ("", 0)]


def test_listen_on_a_descriptor(serve: Callable[..., Any]) -> None:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        port = listener.getsockname()[1]

        def configure(app: App) -> None:
            app.ws("/*", open=lambda ws: ws.send("fd"))
            app.listen({"fd": listener.fileno()})

        serve(configure)
        with peer.upgraded(port) as client:
            assert client.frame().payload == b"fd"


# ---- running and stopping -----------------------------------------------------------------------


def test_run_returns_after_close(serve: Callable[..., Any]) -> None:
    closed: List[Any] = []
    server = serve(close=lambda ws, code, reason: closed.append((code, reason)))
    with peer.upgraded(server.port) as client:
        server.app.defer(server.app.close, 4000, "gone", 5.0)
        assert client.frame() == (True, 8, b"\x0f\xa0gone")
        client.send(peer.close_frame(4000))
        assert client.at_end()
    server.join()
    assert server.error is None
    assert closed == [(4000, "gone")]
    with pytest.raises(ConnectionRefusedError):
        peer.Peer(server.port)


def test_close_drops_what_does_not_answer(serve: Callable[..., Any]) -> None:
    server = serve(close_timeout=1000)
    with peer.upgraded(server.port) as client:
        server.app.defer(server.app.close, 1001, "x", 0.05)
        server.join()
        assert client.frame().close_code == 1001


def test_close_before_run_and_run_again(serve: Callable[..., Any]) -> None:
    app = App().ws("/*", open=lambda ws: ws.send("hello"))
    ports: List[int] = []
    for _ in range(3):
        app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))
        thread = threading.Thread(target=app.run)
        thread.start()
        with peer.upgraded(ports[-1]) as client:
            assert client.frame().payload == b"hello"
            client.send(peer.close_frame(1000))
            client.frame()
        app.defer(app.close)
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    assert app.stats()["opened"] == 3


@pytest.mark.parametrize(
    "arguments",
    [(999,), ("x",), (1001, None), (1001, "\ud800"), (1001, "", -1), (1001, "", float("nan"))],
)
def test_t78_close_arguments(arguments: Any) -> None:
    with App() as app, pytest.raises((TypeError, ValueError)):
        app.close(*arguments)


def test_t67_stop_from_every_handler(serve: Callable[..., Any]) -> None:
    for event in ("open", "message", "ping", "pong", "close", "upgrade"):
        apps: List[App] = []

        def stop(*args: Any, apps: List[App] = apps) -> None:
            apps[0].close(timeout=0.2)
            apps[0].close(timeout=0.1)

        server = serve(lambda app, e=event, s=stop: app.ws("/*", {e: s}))
        apps.append(server.app)
        with peer.Peer(server.port) as client:
            client.send(peer.handshake())
            if event != "upgrade":
                client.send(peer.frame(b"x") + peer.frame(b"", 9) + peer.frame(b"", 10))
                client.send(peer.close_frame(1000))
            server.join()
        assert server.error is None


def test_run_inside_run_is_refused(serve: Callable[..., Any]) -> None:
    server = serve()
    with pytest.raises(RuntimeError, match="already running"):
        server.call(server.app.run)
    with pytest.raises(RuntimeError, match="already running"):
        server.app.run()
    with pytest.raises(RuntimeError, match="running"):
        server.call(server.app.__exit__, None, None, None)


def test_context_manager_frees_the_server() -> None:
    with App() as app:
        app.listen({"host": "127.0.0.1"})
    for call in (app.run, app.stats, app.close, lambda: app.listen(0), lambda: app.ws("/", {})):
        with pytest.raises(RuntimeError, match="this app is closed"):
            call()
    with pytest.raises(RuntimeError):
        app.defer(print)
    app.__exit__(None, None, None)


def test_t70_an_app_that_is_dropped_is_collected() -> None:
    def make() -> "weakref.ref[App]":
        app = App()
        app.ws("/*", message=lambda *args: app).get("/", lambda *args: app).listen(0)  # type: ignore[arg-type]
        app.defer(print)
        return weakref.ref(app)

    reference = make()
    gc.collect()
    assert reference() is None


def test_app_options_are_checked() -> None:
    for wrong in ({"max_connections": 0}, {"max_header_size": 1}):
        with pytest.raises(ValueError, match="must be from"):
            App(wrong)  # type: ignore[arg-type]
    with App(AppOptions(max_connections=5)) as app:
        assert app.app_options.max_connections == 5
    with pytest.raises(TypeError, match="did you mean 'max_memory'"):
        App(maxMemory=1)  # type: ignore[call-arg]


# ---- nothing is lost on its way to the library --------------------------------------------------


def fields_of(structure: Any) -> Dict[str, Any]:
    """The fields of a C structure; functions as addresses, lists as lists."""
    fields: Dict[str, Any] = {}
    for name, kind in structure._fields_:
        value = getattr(structure, name)
        if name in ("subprotocols", "origins"):
            value = list(itertools.takewhile(bool, value)) if value else None
        elif hasattr(kind, "argtypes"):
            value = ctypes.cast(value, ctypes.c_void_p).value
        fields[name] = value
    return fields


def address(function: Any) -> Any:
    return ctypes.cast(function, ctypes.c_void_p).value


def test_t78_every_setting_of_a_route_reaches_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: List[Dict[str, Any]] = []
    monkeypatch.setattr(lib, "ws_server_ws", lambda s, p, b: seen.append(fields_of(b)))
    monkeypatch.setattr(lib, "ws_compression_available", lambda: True)
    settings: Dict[str, Any] = {
        "max_payload_length": 1001,
        "max_backpressure": 1002,
        "max_topics": 1004,
        "max_topic_length": 1005,
        "close_timeout": 1.0025,
        "idle_timeout": 1.006,
        "ping_interval": 0.007,
        "ping_timeout": 0.0081,
        "max_lifetime": 0.5,
        "compression": CompressOptions.DEDICATED_COMPRESSOR_4KB,
        "close_on_backpressure_limit": True,
        "reset_idle_timeout_on_send": True,
        "subprotocols": ["one", "two"],
        "origins": ["https://example.org", None, "null"],
    }
    app = App()
    app.ws("/", settings, **dict.fromkeys(HANDLERS, print)).ws("/none", {})  # type: ignore[arg-type]
    app.ws("/off", {}, idle_timeout=0, ping_timeout=0, send_pings_automatically=False)
    app.ws("/no-pings", {}, ping_interval=5, send_pings_automatically=False)
    app.ws("/zero", {}, ping_interval=0)
    full, plain, off, *no_pings = seen
    assert full.pop("size") == plain.pop("size") > 0
    assert full.pop("user") == app._routes[0].key
    assert plain.pop("user") == app._routes[1].key
    assert full.pop("user_is_place") == plain.pop("user_is_place") == (not lib.bridge)
    always = {name: address(fn) for name, fn in callbacks.ALWAYS.items()}
    assert set(always) == {"on_open", "on_drain", "on_close", "on_closed"}
    optional = ("upgrade", "message", "dropped", "ping", "pong", "subscription")
    assert [off[name] for name in ("idle_timeout", "ping_timeout", "ping_interval")] == [0, 0, 0]
    assert [fields["ping_interval"] for fields in no_pings] == [0, 0]
    assert full == {
        **settings,
        "close_timeout": 1003,
        "idle_timeout": 1006,
        "ping_interval": 7,
        "ping_timeout": 9,
        "max_lifetime": 30_000,
        "compression": 146,
        "subprotocols": [b"one", b"two"],
        "origins": [b"https://example.org", b"null"],
        "origin_optional": True,
        **always,
        **{"on_" + name: address(callbacks.OPTIONAL[name]) for name in optional},
    }
    assert plain == {
        "max_payload_length": 16 * 1024,
        "max_backpressure": 64 * 1024,
        "max_topics": 1000,
        "max_topic_length": 1024,
        "close_timeout": 5000,
        "idle_timeout": 120_000,
        "ping_interval": 2**32 - 1,
        "ping_timeout": 2**32 - 1,
        "max_lifetime": 0,
        "compression": 0,
        "close_on_backpressure_limit": False,
        "reset_idle_timeout_on_send": False,
        "subprotocols": None,
        "origins": None,
        "origin_optional": False,
        **always,
        **dict.fromkeys(("on_" + name for name in optional), None),
    }


def test_t78_every_app_option_reaches_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: List[Dict[str, Any]] = []
    new = lib.ws_server_new

    def spy(server: Any, config: Any) -> int:
        seen.append(fields_of(config))
        return int(new(server, config))

    monkeypatch.setattr(lib, "ws_server_new", spy)
    settings = {
        "max_connections": 1001,
        "max_memory": 10**8,
        "max_header_size": 2003,
        "max_headers": 101,
        "max_response_backpressure": 102,
        "max_connections_per_address": 7,
        "max_handshakes_per_second_per_address": 8,
    }
    times = {"handshake_timeout": 1.5, "keep_alive_timeout": 2.5, "upgrade_timeout": 3.5}
    times["body_timeout"] = 4.5
    networks = ["10.0.0.0/8", "::1/128"]
    proxies = {"trusted_proxies": ["10.0.0.0/8", "::1", "unix"]}
    App({**settings, **times, **proxies})  # type: ignore[arg-type]
    App()
    assert [text.decode() for text in seen[0].pop("trusted_proxies")[:3]] == [*networks, "unix"]
    assert not seen[1].pop("trusted_proxies")
    for name in (
        "size",
        "allocator",
        "clock",
        "user",
        "before_wait",
        "after_wait",
        "wall_clock",
        "random",
    ):
        seen[0].pop(name), seen[1].pop(name)  # not for Python
    assert seen[0].pop("recv_buffer_size") == seen[1].pop("recv_buffer_size") > 0
    assert seen[0].pop("cork_size") == seen[1].pop("cork_size") > 0
    assert not seen[0].pop("log_refusals") and not seen[1].pop("log_refusals")
    assert seen[0].pop("log") == seen[1].pop("log") == address(runtime.LOG)
    in_milliseconds = {name: int(seconds * 1000) for name, seconds in times.items()}
    assert seen[0] == {**settings, **in_milliseconds}
    assert seen[1] == {
        "max_connections": 1_000_000,
        "max_memory": 0,
        "max_header_size": 16 * 1024,
        "max_headers": 100,
        "max_response_backpressure": 1024 * 1024,
        "max_connections_per_address": 0,
        "max_handshakes_per_second_per_address": 0,
        "handshake_timeout": 10_000,
        "keep_alive_timeout": 10_000,
        "upgrade_timeout": 30_000,
        "body_timeout": 30_000,
    }


def test_t78_every_listen_option_reaches_the_library(monkeypatch: pytest.MonkeyPatch) -> None:
    seen: List[Dict[str, Any]] = []

    def spy(server: int, place: Any) -> int:
        seen.append(fields_of(place))
        return 5

    monkeypatch.setattr(lib, "ws_server_listen", spy)
    monkeypatch.setattr(os, "dup", lambda fd: fd + 1)
    app = App()
    app.listen(AppListenOptions(port=1001, host="::1", backlog=1002, reuse_port=True))
    app.listen(AppListenOptions(path="/run/x", mode=0o600, proxy_protocol=True))
    app.listen(AppListenOptions(fd=1003)).listen(0, device="lo")
    defaults = {
        "port": 0,
        "host": None,
        "path": None,
        "mode": 0o660,
        "backlog": 1024,
        "reuse_port": False,
        "proxy_protocol": False,
        "fd": -1,
        "tls": None,
        "device": None,
    }
    assert all(fields.pop("size") > 0 for fields in seen)
    assert seen == [
        {**defaults, "port": 1001, "host": b"::1", "backlog": 1002, "reuse_port": True},
        {**defaults, "path": b"/run/x", "mode": 0o600, "proxy_protocol": True},
        {**defaults, "fd": 1004},  # a duplicate
        {**defaults, "device": b"lo"},
    ]


@pytest.mark.parametrize(
    "names, options",
    [
        ("path='/run/x' and port=80", {"path": "/run/x", "port": 80}),
        ("path='/run/x' and host='::1'", {"path": "/run/x", "host": "::1"}),
        ("fd=3 and path='/run/x'", {"fd": 3, "path": "/run/x"}),
        ("fd=3 and host='::1'", {"fd": 3, "host": "::1"}),
    ],
)
def test_two_places_in_one_listen_are_refused(names: str, options: Dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{names} name different addresses: call listen"):
        App().listen(options)  # type: ignore[arg-type]


def test_help_names_every_setting_and_its_default() -> None:
    text = re.sub(r"\n {4}", " ", inspect.getdoc(App.ws) or "")
    lines = {line.split("(")[0].split(":")[0].strip(): line for line in text.splitlines()}
    for key in BEHAVIOR_KEYS:
        assert key in lines, key
        if key not in HANDLERS:
            value, *unit = lines[key].split("Default: ")[1].rstrip(".").split()
            default = getattr(Behavior, key)
            shown = default // 1024 if unit == ["KiB"] else default
            assert value in (str(shown), "DISABLED" if key == "compression" else ""), key


def test_t58_max_connections(serve: Callable[..., Any]) -> None:
    server = serve({"open": lambda ws: ws.send("x")}, AppOptions(max_connections=2))
    with peer.upgraded(server.port) as one, peer.upgraded(server.port) as two:
        one.frame()
        two.frame()
        with peer.Peer(server.port) as three:
            try:
                three.send(peer.handshake())
                assert three.response().status == 503
            except (EOFError, ConnectionError):
                pass
        peer.eventually(lambda: server.call(server.app.stats)["refused"] == 1)


def test_stats(serve: Callable[..., Any]) -> None:
    server = serve()
    with peer.upgraded(server.port):
        stats = server.call(server.app.stats)
        assert set(stats) == {
            "accepted", "opened", "closed", "refused", "limited", "turns", "blocked", "memory",
            "compression_memory", "messages_in", "messages_out", "bytes_in", "bytes_out",
            "connections", "open", "dropped", "backpressure", "topics",
            "bus_sent", "bus_received", "bus_lost", "bus_bytes_out", "bus_bytes_in", "bus_queued",
            "bus_members",
        }  # fmt: skip
        assert (stats["accepted"], stats["opened"], stats["open"]) == (1, 1, 1)
        assert all(isinstance(value, int) for value in stats.values())


def test_two_servers_in_two_threads(serve: Callable[..., Any]) -> None:
    servers = [serve(open=lambda ws, n=n: ws.send(str(n))) for n in range(2)]
    for number, server in enumerate(servers):
        with peer.upgraded(server.port) as client:
            assert client.frame().payload == b"%d" % number


# ---- threads ------------------------------------------------------------------------------------


def test_t74_direct_calls_from_another_thread_are_refused(serve: Callable[..., Any]) -> None:
    app = serve().app
    for call in (
        app.close,
        app.stats,
        lambda: app.listen(0),
        lambda: app.ws("/x", {}),
        lambda: app.get("/x", print),
        lambda: app.on_error(print),
    ):
        with pytest.raises(RuntimeError, match="defer"):
            call()


def test_t74_defer_keeps_the_order_of_each_thread(serve: Callable[..., Any]) -> None:
    server = serve()
    seen: List[Tuple[int, int]] = []

    def work(number: int) -> None:
        for i in range(500):
            server.app.defer(lambda pair: seen.append(pair), (number, i))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    server.call(lambda: None)
    assert len(seen) == 2000
    for number in range(4):
        assert [i for n, i in seen if n == number] == list(range(500))


def test_defer_runs_in_the_thread_of_run(serve: Callable[..., Any]) -> None:
    server = serve()
    assert server.call(threading.get_ident) == server.thread.ident


def test_defer_wakes_an_idle_server_soon(serve: Callable[..., Any]) -> None:
    server = serve()
    for _ in range(20):
        time.sleep(0.002)
        server.call(lambda: None)


def test_what_was_deferred_runs_before_run_returns() -> None:
    app = App()
    seen: List[int] = []
    refused: List[Any] = []

    def late() -> None:
        seen.append(2)
        try:
            app.defer(seen.append, 3)
        except RuntimeError as error:
            refused.append(error)

    app.listen({"host": "127.0.0.1"})
    app.defer(seen.append, 1)
    app.defer(app.close)
    app.defer(late)
    app.run()
    assert seen in ([1, 2], [1, 2, 3])
    assert len(seen) + len(refused) == 3
    with pytest.raises(RuntimeError, match="has returned"):
        app.defer(print)
    with pytest.raises(TypeError, match="fn must be callable"):
        app.defer(5)  # type: ignore[arg-type]
    app.listen({"host": "127.0.0.1"})
    app.defer(app.close)
    app.run()


def test_t74_defer_races_with_the_end_of_run() -> None:
    """Every accepted function runs, every other one is refused."""
    for _ in range(20):
        app = App()
        app.listen({"host": "127.0.0.1"})
        accepted = 0
        seen: List[int] = []
        thread = threading.Thread(target=app.run)
        thread.start()
        app.defer(app.close)
        while True:
            try:
                app.defer(seen.append, 1)
                accepted += 1
            except RuntimeError:
                break
        thread.join(TIMEOUT)
        assert not thread.is_alive()
        assert len(seen) == accepted


# ---- interpreter --------------------------------------------------------------------------------

EXITS = {
    "not run": "app.listen(0)",
    "dropped": "app.listen(0); del app",
    "daemon thread": "import threading, time; app.listen(0)\n"
    "threading.Thread(target=app.run, daemon=True).start(); time.sleep(0.05)",
    "exit in handler": "app.listen(0); app.defer(sys.exit, 0); app.run()",
}


@pytest.mark.parametrize("name", sorted(EXITS))
def test_t75_interpreter_exit(name: str) -> None:
    code = "import sys\nfrom pyws import App\napp = App()\n" + EXITS[name]
    result = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert (result.returncode, result.stdout, result.stderr) == (0, "", "")


def test_s9_echo_of_many_messages(serve: Callable[..., Any]) -> None:
    def echo(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        ws.send(message, opcode)

    server = serve(message=echo)
    with connect(server.url, compression=None) as client:
        for number in range(500):
            client.send(str(number) * (number % 50))
        for number in range(500):
            assert client.recv(TIMEOUT) == str(number) * (number % 50)


def test_many_asyncio_clients(serve: Callable[..., Any]) -> None:
    import asyncio

    from websockets.asyncio.client import connect as aconnect

    server = serve(message=lambda ws, message, opcode: ws.send(message, opcode))

    async def client(number: int) -> None:
        async with aconnect(server.url, open_timeout=TIMEOUT) as ws:
            for i in range(5):
                await ws.send(f"{number} {i}")
                assert await asyncio.wait_for(ws.recv(), TIMEOUT) == f"{number} {i}"

    async def run() -> None:
        await asyncio.gather(*(client(number) for number in range(100)))

    asyncio.run(run())
    peer.eventually(lambda: server.call(server.app.stats)["closed"] == 100)
