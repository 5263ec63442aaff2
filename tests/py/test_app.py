"""The App: listening, running, stopping, threads, signals, failing handlers, plain HTTP."""

import ctypes
import errno
import gc
import inspect
import itertools
import logging
import math
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from datetime import datetime, timedelta, timezone
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import peer
import pytest
from common import ROOT, TIMEOUT
from program import Program
from websockets.sync.client import connect

from pyws import (
    App,
    AppListenOptions,
    AppOptions,
    CompressOptions,
    OpCode,
    Request,
    Response,
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
        app.ws("/*", message=lambda *args: app).get("/", lambda *args: app).listen(0)
        app.defer(print)
        return weakref.ref(app)

    reference = make()
    gc.collect()
    assert reference() is None


def test_app_options_are_checked() -> None:
    for wrong in ({"max_connections": 0}, {"max_header_size": 1}):
        with pytest.raises(ValueError, match="must be from"):
            App(wrong)
    with App(AppOptions(max_connections=5)) as app:
        assert app.app_options.max_connections == 5
    with pytest.raises(TypeError, match=r"did you mean App\(AppOptions\(max_memory="):
        App(max_memory=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="did you mean 'max_memory'"):
        App(maxMemory=1)  # type: ignore[arg-type]


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
    app.ws("/", settings, **dict.fromkeys(HANDLERS, print)).ws("/none", {})
    app.ws("/off", idle_timeout=0, ping_timeout=0, send_pings_automatically=False)
    app.ws("/no-pings", ping_interval=5, send_pings_automatically=False)
    app.ws("/zero", ping_interval=0)
    full, plain, off, *no_pings = seen
    assert full.pop("size") == plain.pop("size") > 0
    assert full.pop("user") == app._routes[0].key
    assert plain.pop("user") == app._routes[1].key
    always = {name: address(fn) for name, fn in callbacks.ALWAYS.items()}
    assert set(always) == {"on_open", "on_close", "on_closed"}
    optional = ("upgrade", "message", "drain", "dropped", "ping", "pong", "subscription")
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
    }
    times = {"handshake_timeout": 1.5, "keep_alive_timeout": 2.5, "upgrade_timeout": 3.5}
    App({**settings, **times})
    App()
    for name in ("size", "allocator", "clock", "user", "before_wait", "after_wait"):
        seen[0].pop(name), seen[1].pop(name)  # not for Python
    assert seen[0].pop("recv_buffer_size") == seen[1].pop("recv_buffer_size") > 0
    assert seen[0].pop("log") == seen[1].pop("log") == address(runtime.LOG)
    in_milliseconds = {name: int(seconds * 1000) for name, seconds in times.items()}
    assert seen[0] == {**settings, **in_milliseconds}
    assert seen[1] == {
        "max_connections": 1_000_000,
        "max_memory": 0,
        "max_header_size": 16 * 1024,
        "max_headers": 100,
        "handshake_timeout": 10_000,
        "keep_alive_timeout": 10_000,
        "upgrade_timeout": 30_000,
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
    app.listen(AppListenOptions(path="/run/x", mode=0o600))
    app.listen(AppListenOptions(fd=1003)).listen(0)
    defaults = {
        "port": 0,
        "host": None,
        "path": None,
        "mode": 0o660,
        "backlog": 1024,
        "reuse_port": False,
        "fd": -1,
    }
    assert all(fields.pop("size") > 0 for fields in seen)
    assert seen == [
        {**defaults, "port": 1001, "host": b"::1", "backlog": 1002, "reuse_port": True},
        {**defaults, "path": b"/run/x", "mode": 0o600},
        {**defaults, "fd": 1004},  # a duplicate
        defaults,
    ]


@pytest.mark.parametrize(
    "names, options",
    [
        ("path and port", {"path": "/run/x", "port": 80}),
        ("path and host", {"path": "/run/x", "host": "::1"}),
        ("fd and path", {"fd": 3, "path": "/run/x"}),
        ("fd and host", {"fd": 3, "host": "::1"}),
    ],
)
def test_two_places_in_one_listen_are_refused(names: str, options: Dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=f"^{names} name different addresses: call listen"):
        App().listen(options)


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
            "accepted", "opened", "closed", "refused", "turns", "blocked", "memory",
            "compression_memory",
            "connections", "open",
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


# ---- failing handlers ---------------------------------------------------------------------------


class Oops(Exception):
    pass


def fail(*args: Any) -> None:
    raise Oops("in the handler")


SENT = {
    "open": b"",
    "message": peer.frame(b"x"),
    "ping": peer.frame(b"", 9),
    "pong": peer.frame(b"", 10),
}


@pytest.mark.parametrize("event", sorted(SENT))
def test_t71_a_failing_handler(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture, event: str
) -> None:
    errors: List[Any] = []
    closed: List[Any] = []

    def configure(app: App) -> None:
        app.ws("/*", {event: fail}, close=lambda ws, *args: closed.append((ws, *args)))
        app.ws("/other", message=lambda ws, message, opcode: ws.send(message))
        assert app.on_error(lambda *args: errors.append(args)) is app

    server = serve(configure)
    with peer.upgraded(server.port, "/other") as other:
        with peer.upgraded(server.port) as client:
            client.send(SENT[event])
            frames = [client.frame()]
            if frames[0].opcode == 10:
                frames.append(client.frame())
            assert frames[-1].close_code == 1011
        other.send(peer.frame(b"alive"))
        assert other.frame().payload == b"alive"
    assert len(errors) == len(closed) == 1
    assert isinstance(errors[0][0], Oops)
    assert errors[0][1] is closed[0][0]
    assert closed[0][1:] == (1011, f"the {event} handler failed")
    assert "Traceback" in caplog.text
    assert "Oops: in the handler" in caplog.text
    assert {record.name for record in caplog.records} == {"pyws"}


def test_t71_close_on_error_false_keeps_the_socket(serve: Callable[..., Any]) -> None:
    server = serve(message=fail, open=fail, close_on_error=False)
    with peer.upgraded(server.port) as client:
        client.send(peer.frame(b"x") + peer.frame(b"still here", 9))
        assert client.frame() == (True, 10, b"still here")


def test_t71_a_failing_close_handler_is_reported_once(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    sockets: List[WebSocket] = []
    server = serve(open=sockets.append, close=fail)
    with peer.upgraded(server.port) as client:
        client.send(peer.close_frame(1000))
        assert client.frame().close_code == 1000
    peer.eventually(lambda: caplog.records)
    assert caplog.text.count("Traceback") == 1
    assert server.call(sockets[0].get_user_data) is None


def test_t71_failures_in_drain_and_dropped(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    sockets: List[WebSocket] = []
    server = serve(open=sockets.append, dropped=fail, max_backpressure=1000)
    with peer.upgraded(server.port):
        peer.eventually(lambda: sockets)

        def flood() -> None:
            for _ in range(2000):
                sockets[0].send(b"x" * 65536)
                if sockets[0].closed:
                    return
            raise AssertionError("dropped never ran")

        server.call(flood)
    assert "the dropped handler" in caplog.text


def test_t71_the_error_handler_itself_may_fail(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def configure(app: App) -> None:
        app.ws("/*", message=fail).on_error(lambda error, source: 1 // 0)

    server = serve(configure)
    with peer.upgraded(server.port, more=peer.frame(b"x")) as client:
        assert client.frame().close_code == 1011
    assert "ZeroDivisionError" in caplog.text
    assert "Oops" in caplog.text
    with App() as app, pytest.raises(TypeError, match="handler must be callable"):
        app.on_error(5)  # type: ignore[arg-type]


def test_t71_a_failing_deferred_function(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    errors: List[Any] = []
    server = serve(lambda app: app.on_error(lambda *args: errors.append(args)))
    server.app.defer(fail)
    server.call(lambda: None)
    assert [(type(error), source) for error, source in errors] == [(Oops, None)]
    assert "deferred function" in caplog.text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit])
@pytest.mark.parametrize("event", ["upgrade", "open", "message", "close", "http", "defer", "error"])
def test_t72_base_exceptions_come_out_of_run(
    serve: Callable[..., Any], kind: Any, event: str
) -> None:
    closed: List[Any] = []

    def leave(*args: Any) -> None:
        raise kind("leaving")

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        closed.append(code)
        if event == "close":
            leave()

    def configure(app: App) -> None:
        handlers = {event: leave} if event in ("upgrade", "open", "message") else {}
        if event == "error":
            app.on_error(leave)
            handlers = {"message": fail}
        app.ws("/*", handlers, close=on_close)
        app.ws("/other", close=on_close)
        app.get("/", leave)

    server = serve(configure)
    with peer.upgraded(server.port, "/other") as other, peer.Peer(server.port) as client:
        if event == "http":
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        elif event == "defer":
            server.app.defer(leave)
        else:
            client.send(peer.handshake())
            client.send(peer.frame(b"x"))
            if event == "close":
                client.response()
                client.send(peer.close_frame(1000))
        assert other.frame().close_code == 1001
        other.send(peer.close_frame(1001))
    server.join()
    assert isinstance(server.error, kind)
    assert str(server.error) == "leaving"
    assert 1001 in closed
    stats = server.app.stats()
    assert stats["opened"] == stats["closed"] == len(closed)


def test_a_log_sink_that_fails_does_no_harm(
    serve: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise Oops("in the log")

    server = serve(message=fail)
    handler = Failing()
    logging.getLogger("pyws").addHandler(handler)
    try:
        with peer.upgraded(server.port, more=peer.frame(b"x")) as client:
            assert client.frame().close_code == 1011
    finally:
        logging.getLogger("pyws").removeHandler(handler)


# ---- signals ------------------------------------------------------------------------------------

PROGRAM = """
import signal, sys, time
from pyws import App
app = App()
def on_message(ws, message, opcode):
    if message == "sleep":
        print("asleep", flush=True)
        time.sleep(30)
    elif message == "loop":
        print("looping", flush=True)
        while True:
            pass
app.ws("/*", {
    "message": on_message,
    "close": lambda ws, code, reason: print("close", code, reason, flush=True),
})
before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
EXTRA
app.listen({"host": "127.0.0.1"}, lambda place: print(place.port, flush=True))
try:
    result = app.run()
    print("returned", result, flush=True)
finally:
    print(before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)),
          signal.set_wakeup_fd(-1), flush=True)
"""


class Served(Program):
    """A server in a process of its own, in whose main thread run() runs."""

    def __init__(self, extra: str = "") -> None:
        super().__init__("-c", PROGRAM.replace("EXTRA", extra))
        self.port = int(self.line())

    def finish(self) -> Tuple[int, List[str], str]:
        """Its exit status, what it has printed, and its stderr."""
        status = self.wait()
        return status, self.rest().splitlines(), self.error_text()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_t87_first_signal_shuts_down_gracefully(number: int) -> None:
    with Served() as program:
        with peer.upgraded(program.port) as client:
            program.process.send_signal(number)
            assert client.frame() == (True, 8, b"\x03\xe9server shutting down")
            client.send(peer.close_frame(1001))
            assert client.at_end()
        code, lines, errors = program.finish()
    assert (code, lines, errors) == (
        0,
        ["close 1001 server shutting down", "returned None", "True -1"],
        "",
    )


@pytest.mark.parametrize("first", [signal.SIGINT, signal.SIGTERM])
def test_t72_second_sigint_drops_everything(first: int) -> None:
    with Served() as program, peer.upgraded(program.port) as client:
        program.process.send_signal(first)
        assert client.frame().close_code == 1001
        program.process.send_signal(signal.SIGINT)
        code, lines, errors = program.finish()
    assert code in (-signal.SIGINT, 130)
    assert lines == ["close 1001 server shutting down", "True -1"]
    assert errors.endswith("KeyboardInterrupt\n")


# Says when a signal was noted: signals that come together count as one.
NOTED = """
import os, pyws._core.signals
note = pyws._core.signals.Signals.note
def noted(self, *args):
    note(self, *args)
    os.write(1, b"noted\\n")
pyws._core.signals.Signals.note = noted
"""


@pytest.mark.parametrize("what", ["sleep", "loop"])
def test_t72_second_sigint_reaches_a_busy_handler(what: str) -> None:
    with Served(NOTED) as program, peer.upgraded(program.port) as client:
        client.send(peer.frame(what.encode()))
        assert program.line() in ("asleep", "looping")
        program.process.send_signal(signal.SIGINT)
        assert program.line() == "noted"
        program.process.send_signal(signal.SIGINT)
        code, lines, errors = program.finish()
    assert code in (-signal.SIGINT, 130)
    assert lines[-1] == "True -1"
    assert [line for line in lines if line.startswith("close")] == [
        "close 1001 server shutting down"
    ]
    assert errors.endswith("KeyboardInterrupt\n")


@pytest.mark.parametrize("what", ["sleep", "loop"])
def test_t72_third_sigint_reaches_a_busy_close_handler(what: str) -> None:
    """The second one leaves it alone: it belongs to the shutdown."""
    extra = f"""{NOTED}
app.ws("/close", close=lambda ws, code, reason: on_message(ws, {what!r}, 1))
"""
    with Served(extra) as program, peer.upgraded(program.port, "/close"):
        program.process.send_signal(signal.SIGINT)
        assert program.line() == "noted"
        assert program.line() in ("asleep", "looping")
        program.process.send_signal(signal.SIGINT)
        assert program.line() == "noted"
        program.process.send_signal(signal.SIGINT)
        code, lines, errors = program.finish()
    assert code in (-signal.SIGINT, 130)
    assert lines == ["True -1"]
    assert errors.endswith("KeyboardInterrupt\n")


def test_other_signal_handlers_run_while_the_loop_waits() -> None:
    # print() must not be called within print(), as it would be when the next signal comes early.
    extra = 'import os; signal.signal(signal.SIGUSR1, lambda *args: os.write(1, b"usr1\\n"))'
    with Served(extra) as program:
        peer.request(program.port, "GET / HTTP/1.1")  # run() is under way
        for _ in range(3):
            program.process.send_signal(signal.SIGUSR1)
            assert program.line() == "usr1"
        program.process.send_signal(signal.SIGTERM)
        assert program.finish() == (0, ["returned None", "True -1"], "")


def test_t72_a_signal_handler_that_raises_ends_run() -> None:
    extra = "signal.signal(signal.SIGUSR1, lambda *args: sys.exit(7))"
    with Served(extra) as program, peer.upgraded(program.port) as client:
        program.process.send_signal(signal.SIGUSR1)
        assert client.frame().close_code == 1001
        client.send(peer.close_frame(1001))
        client.socket.close()
        assert program.finish() == (7, ["close 1001 server shutting down", "True -1"], "")


def test_the_old_wakeup_fd_is_restored() -> None:
    extra = """
import socket
a, b = socket.socketpair(); b.setblocking(False)
signal.set_wakeup_fd(b.fileno())
app.defer(lambda: print(b.fileno(), flush=True))"""
    with Served(extra) as program:
        number = program.line()
        program.process.send_signal(signal.SIGINT)
        lines = ["returned None", f"True {number}"]
        assert program.finish() == (0, lines, "")


# ---- plain HTTP ---------------------------------------------------------------------------------


def test_http_methods(serve: Callable[..., Any]) -> None:
    names = ("get", "post", "put", "patch", "delete", "options", "head")

    def configure(app: App) -> None:
        for name in names:
            assert getattr(app, name)(f"/{name}", lambda res, req: res.end(req.get_method())) is app
        app.any("/any", lambda res, req: res.end(req.get_method()))
        app.get("/any", lambda res, req: res.end("get"))

    port = serve(configure).port
    for name in names:
        method = name.upper()
        if name != "head":
            assert peer.request(port, f"{method} /{name} HTTP/1.1").body == method.encode()
        wrong = peer.request(port, f"{'PUT' if name != 'put' else 'POST'} /{name} HTTP/1.1")
        assert wrong.status == 405
    assert peer.request(port, "BREW /any HTTP/1.1").body == b"BREW"
    assert peer.request(port, "GET /any HTTP/1.1").body == b"get"
    assert peer.request(port, "GET /none HTTP/1.1").status == 404


RESPONSES: Dict[str, Tuple[Callable[[Response], Any], int, bytes, Dict[str, str]]] = {
    "empty": (lambda res: res.end(), 200, b"", {}),
    "text": (lambda res: res.end("\u20ac"), 200, b"\xe2\x82\xac", {}),
    "bytes": (lambda res: res.end(memoryview(b"\0\xff")), 200, b"\0\xff", {}),
    "json": (
        lambda res: res.end({"a": [1, True]}),
        200,
        b'{"a": [1, true]}',
        {"content-type": "application/json"},
    ),
    "own-type": (
        lambda res: res.write_header("content-type", "text/x").end([1]),
        200,
        b"[1]",
        {"content-type": "text/x"},
    ),
    "status": (lambda res: res.write_status(404).end("no"), 404, b"no", {}),
    "status-text": (lambda res: res.write_status("418 I'm a teapot").end(), 418, b"", {}),
    "status-only": (lambda res: res.write_status("403").end(), 403, b"", {}),
    "headers": (
        lambda res: res.write_header("X-One", 1).write_header("X-Two", b"2").end(),
        200,
        b"",
        {"x-one": "1", "x-two": "2"},
    ),
    "send": (
        lambda res: res.send("hi", 201, {"X-A": "b"}),
        201,
        b"hi",
        {"x-a": "b", "content-type": "text/plain; charset=utf-8"},
    ),
    "send-pairs": (
        lambda res: res.write_status(202).send({}, headers=[("X-A", "b"), ("X-A", "c")]),
        202,
        b"{}",
        {"x-a": "b, c", "content-type": "application/json"},
    ),
    "redirect": (lambda res: res.redirect("/there"), 302, b"", {"location": "/there"}),
    "redirect-308": (lambda res: res.redirect("/x", 308), 308, b"", {"location": "/x"}),
    "cork": (lambda res: res.cork(lambda same: same.end("corked")), 200, b"corked", {}),
    "cookie": (
        lambda res: res.set_cookie(
            "a",
            "b",
            {"Max-Age": 5, "samesite": "Lax", "secure": True, "httponly": False, "domain": "x.org"},
            expires=datetime(2030, 1, 5, 3, 4, 5, tzinfo=timezone(timedelta(hours=1))),
        ).end(),
        200,
        b"",
        {
            "set-cookie": "a=b; Max-Age=5; SameSite=Lax; Secure; Domain=x.org; "
            "Expires=Sat, 05 Jan 2030 02:04:05 GMT"
        },
    ),
}


@pytest.mark.parametrize("name", sorted(RESPONSES))
def test_responses(serve: Callable[..., Any], name: str) -> None:
    work, status, body, headers = RESPONSES[name]
    server = serve(lambda app: app.get("/", lambda res, req: work(res)))
    response = peer.request(server.port, "GET / HTTP/1.1")
    assert (response.status, response.body) == (status, body)
    assert headers.items() <= response.headers.items()
    assert response.headers["content-length"] == str(len(body))


WRONG: List[Tuple[Callable[[Response], Any], Any]] = [
    (lambda res: res.write_header("X-A", "a\r\nX-B: b"), ValueError),
    (lambda res: res.write_header("X-A", "a\n"), ValueError),
    (lambda res: res.write_header("X-A", b"a\0"), ValueError),
    (lambda res: res.write_header("X-A\r\n", "a"), ValueError),
    (lambda res: res.write_header("", "a"), ValueError),
    (lambda res: res.write_header("X A", "a"), ValueError),
    (lambda res: res.write_header("X-A", "\ud800"), ValueError),
    (lambda res: res.write_header("X-A", None), TypeError),  # type: ignore[arg-type]
    (lambda res: res.write_header("X-A", True), TypeError),
    (lambda res: res.write_header(5, "a"), TypeError),  # type: ignore[arg-type]
    (lambda res: res.write_header("Content-Length", 5), ValueError),
    (lambda res: res.write_header("transfer-encoding", "chunked"), ValueError),
    (lambda res: res.write_header("Connection", "close"), ValueError),
    (lambda res: res.write_header("Sec-WebSocket-Accept", "x"), ValueError),
    (lambda res: res.write_status(99), ValueError),
    (lambda res: res.write_status(101), ValueError),
    (lambda res: res.write_status(600), ValueError),
    (lambda res: res.write_status("200 OK\r\nX: y"), ValueError),
    (lambda res: res.write_status("OK"), ValueError),
    (lambda res: res.write_status("200 \u20ac"), ValueError),
    (lambda res: res.write_status(None), TypeError),  # type: ignore[arg-type]
    (lambda res: res.write_status(True), TypeError),
    (lambda res: res.redirect("/a\r\nX: y"), ValueError),
    (lambda res: res.redirect("/a", 200), ValueError),
    (lambda res: res.redirect("/a", 304), ValueError),
    (lambda res: res.set_cookie("a b", "c"), ValueError),
    (lambda res: res.set_cookie("a", "b;c"), ValueError),
    (lambda res: res.set_cookie("a", "b\r\nX: y"), ValueError),
    (lambda res: res.set_cookie("a", "b", path="/;x"), ValueError),
    (lambda res: res.set_cookie("a", "b", path="/\r\n"), ValueError),
    (lambda res: res.set_cookie("a", "b", same_site="Maybe"), ValueError),
    (lambda res: res.set_cookie("a", "b", max_age="5"), TypeError),
    (lambda res: res.set_cookie("a", "b", secure=1), TypeError),
    (lambda res: res.set_cookie("a", "b", pth="/"), TypeError),
    (lambda res: res.end(None), TypeError),
    (lambda res: res.end("\ud800"), ValueError),
    (lambda res: res.end(object()), TypeError),
    (lambda res: res.on_aborted(None), TypeError),  # type: ignore[arg-type]
    (lambda res: res.cork(5), TypeError),  # type: ignore[arg-type]
]


def test_t10_no_response_splitting(serve: Callable[..., Any]) -> None:
    results: List[Any] = []

    def handler(res: Response, req: Request) -> None:
        for work, kind in WRONG:
            try:
                work(res)
                results.append("accepted")
            except (TypeError, ValueError) as error:
                results.append(type(error) is kind or isinstance(error, kind))
        res.write_status(200).end("clean")

    server = serve(lambda app: app.get("/", handler))
    response = peer.request(server.port, "GET / HTTP/1.1")
    assert results == [True] * len(WRONG)
    assert (response.status, response.body) == (200, b"clean")
    assert set(response.headers) <= {"content-length", "date", "connection"}


def test_t71_http_handlers_that_fail_or_stay_silent(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    def configure(app: App) -> None:
        app.get("/fail", fail).get("/silent", lambda res, req: None)
        app.get("/fine", lambda res, req: res.end("fine"))

    server = serve(configure)
    failed = peer.request(server.port, "GET /fail HTTP/1.1")
    assert "Oops: in the handler" in caplog.text
    caplog.clear()
    silent = peer.request(server.port, "GET /silent HTTP/1.1")
    assert peer.request(server.port, "GET /fine HTTP/1.1").body == b"fine"
    for response in (failed, silent):
        assert (response.status, response.body) == (500, b"500 Internal Server Error\n")
        assert response.headers["content-type"] == "text/plain"
    assert [record.getMessage() for record in caplog.records] == [
        "the handler of /silent did not answer the request"
    ]


def test_a_send_that_raises_changes_nothing(serve: Callable[..., Any]) -> None:
    def handler(res: Response, req: Request) -> None:
        res.write_status("201 Made").write_header("X-Mine", "1")
        for arguments in (
            ("text", 404, {"X-One": "1", "X-Two": "a\r\nb"}),
            ("text", 404, [("X-One", "1"), 5]),
            ("text", 404, 5),
            ("text", 99, {"X-One": "1"}),
            (object(), 404, {"X-One": "1"}),
            (math.nan, 404, {"X-One": "1"}),
            ("\ud800", 404, {"X-One": "1"}),
        ):
            with pytest.raises((TypeError, ValueError)):
                res.send(*arguments)
        with pytest.raises(ValueError, match="Location"):
            res.redirect("a\r\nb")
        res.end("clean")

    response = peer.request(serve(lambda app: app.get("/", handler)).port, "GET / HTTP/1.1")
    assert (response.status, response.body) == (201, b"clean")
    assert response.headers["x-mine"] == "1"
    assert not {"x-one", "x-two", "location", "content-type"} & set(response.headers)


def test_http_answer_later(serve: Callable[..., Any]) -> None:
    def handler(res: Response, req: Request) -> None:
        res.on_aborted(lambda res: None)
        timer = threading.Timer(0.02, server.app.defer, (res.end, "later"))
        timer.start()

    server = serve(lambda app: app.get("/", handler))
    with peer.Peer(server.port) as client:
        for _ in range(3):
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            assert client.response().body == b"later"


def test_http_pipelined(serve: Callable[..., Any]) -> None:
    server = serve(lambda app: app.get("/:n", lambda res, req: res.end(req.get_parameter(0))))
    with peer.Peer(server.port) as client:
        client.send(b"".join(b"GET /%d HTTP/1.1\r\nHost: h\r\n\r\n" % n for n in range(5)))
        assert [client.response().body for _ in range(5)] == [b"%d" % n for n in range(5)]


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
