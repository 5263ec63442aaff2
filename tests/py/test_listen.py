# SPDX-License-Identifier: MIT
"""Where an App listens: options that stay the caller's, its port, descriptors, names."""

import asyncio
import copy
import errno
import os
import signal
import socket
import threading
from pathlib import Path
from typing import Any, Callable, Dict, List

import peer
import pytest
from common import TIMEOUT
from program import Program

from pyws import App, AppListenOptions, AppOptions

# ---- the caller's options -----------------------------------------------------------------------


def test_listen_never_changes_the_options_of_the_caller(tmp_path: Path) -> None:
    given = AppListenOptions(host="127.0.0.1")
    mapping: Dict[str, Any] = {"host": "127.0.0.1", "port": 0}
    unix = AppListenOptions(path=tmp_path / "socket")
    unix.path = tmp_path / "socket"
    before = copy.copy(given)
    with App() as app, App() as other:
        for _ in range(2):  # with its port written into it, the second time would be EADDRINUSE
            app.listen(given).listen(mapping)  # type: ignore[arg-type]
        other.listen(given)
        app.listen(unix)
    assert given == before
    assert mapping == {"host": "127.0.0.1", "port": 0}
    assert unix.path == tmp_path / "socket" and isinstance(unix.path, Path)


def test_the_callback_gets_a_copy_with_the_real_port() -> None:
    given = AppListenOptions(host="127.0.0.1", backlog=5)
    seen: List[AppListenOptions] = []

    def callback(place: AppListenOptions) -> None:
        assert app.port == place.port
        seen.append(copy.copy(place))
        place.port = 1  # it is the program's to change

    with App() as app:
        app.listen(given, callback)
        assert seen[0].port == app.port > 1
        assert (seen[0].host, seen[0].backlog) == ("127.0.0.1", 5)
    assert given.port == 0


def test_options_that_became_wrong_are_refused_again() -> None:
    given = AppListenOptions()
    given.port = 70000
    with App() as app, pytest.raises(ValueError, match="port must be from 0 to 65535"):
        app.listen(given)


def test_an_app_keeps_a_copy_of_its_options() -> None:
    given = AppOptions(max_connections=7)
    with App(given) as app:
        given.max_connections = 8
        given.keep_headers = True
        assert app.app_options.max_connections == 7
        assert not app.app_options.keep_headers


def test_a_route_keeps_copies_of_its_settings(serve: Callable[..., Any]) -> None:
    names, origins = ["one", "two"], ["https://example.org"]
    behavior = {"subprotocols": names, "origins": origins, "open": lambda ws: ws.send("open")}
    server = serve(behavior)
    before = dict(behavior)
    names.clear()
    origins.append("https://example.com")
    behavior.clear()
    offer = [("Sec-WebSocket-Protocol", "two, one"), ("Origin", "https://example.org")]
    with peer.upgraded(server.port, headers=offer) as client:
        assert client.frame().payload == b"open"
    with peer.Peer(server.port) as client:
        client.send(peer.handshake(headers=[("Origin", "https://example.com")]))
        assert client.response().status == 403
    assert before["subprotocols"] is names  # listing them did not replace them


# ---- app.port -----------------------------------------------------------------------------------


def test_port_is_that_of_the_first_tcp_place(tmp_path: Path) -> None:
    ports: List[int] = []
    with App() as app:
        assert app.port == 0
        app.listen({"path": tmp_path / "socket"})
        assert app.port == 0
        app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))
        app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))
        assert app.port == ports[0] != ports[1]
        with pytest.raises(AttributeError):
            app.port = 5  # type: ignore[misc]
    assert app.port == 0


def test_port_while_it_runs_and_afterwards() -> None:
    app = App()
    app.ws("/", open=lambda ws: ws.send(str(app.port)))
    for _ in range(2):
        app.listen({"host": "127.0.0.1"})
        thread = threading.Thread(target=app.run)
        thread.start()
        port = app.port  # any thread may read it
        with peer.upgraded(port) as client:
            assert client.frame().payload == str(port).encode()
        app.defer(app.close)
        thread.join(TIMEOUT)
        assert not thread.is_alive()
        assert app.port == 0


def test_port_under_serving_and_serve() -> None:
    async def ask(app: App) -> bytes:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(None, peer.request, app.port, "GET / HTTP/1.1")
        return answer.body

    async def main() -> None:
        app = App().get("/", lambda res, req: res.end("here"))
        async with app.serving(0):
            assert await ask(app) == b"here"
        assert app.port == 0
        task = asyncio.ensure_future(app.serve({"host": "127.0.0.1"}))
        while not app.port:
            await asyncio.sleep(0.01)
        assert await ask(app) == b"here"
        app.close()
        await asyncio.wait_for(task, TIMEOUT)
        assert app.port == 0

    asyncio.run(main())


def test_port_in_workers() -> None:
    program = """
from pyws import App
app = App().get("/", lambda res, req: res.end(str(app.port)))
app.listen({"host": "127.0.0.1"})
print(app.port)
app.run(workers=2)
print(app.port)
"""
    with Program("-c", program) as running:
        port = int(running.line())
        for _ in range(5):
            assert peer.request(port, "GET / HTTP/1.1").body == str(port).encode()
        running.process.terminate()
        assert running.line() == "0"


# ---- descriptors --------------------------------------------------------------------------------


def stream(family: int = socket.AF_INET) -> socket.socket:
    return socket.socket(family, socket.SOCK_STREAM)


def answers(app: App, port: int) -> bool:
    """It serves there."""
    thread = threading.Thread(target=app.run)
    thread.start()
    try:
        return peer.request(port, "GET / HTTP/1.1").body == b"fd"
    finally:
        app.defer(app.close)
        thread.join(TIMEOUT)


def fd_app() -> App:
    return App().get("/", lambda res, req: res.end("fd"))


@pytest.mark.parametrize("listens", [False, True])
def test_a_given_descriptor_stays_the_callers(listens: bool) -> None:
    with stream() as listener:
        listener.bind(("127.0.0.1", 0))
        if listens:
            listener.listen()
        port = listener.getsockname()[1]
        for _ in range(2):  # the first app does not take it along
            app = fd_app().listen({"fd": listener.fileno()})
            assert app.port == port
            assert answers(app, port)
            app.__exit__(None, None, None)
        assert listener.getsockname()[1] == port
        assert listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) == 1


def copies(of: socket.socket) -> List[int]:
    """All descriptors of this process that are that socket."""
    names = {int(name): f"/proc/self/fd/{name}" for name in os.listdir("/proc/self/fd")}
    target = os.readlink(names[of.fileno()])
    return [fd for fd in names if os.path.exists(names[fd]) and os.readlink(names[fd]) == target]


def test_the_duplicate_is_not_inherited_and_closed_at_the_end() -> None:
    app = App()
    with stream() as listener:
        listener.bind(("127.0.0.1", 0))
        app.listen({"fd": listener.fileno()})
        found = copies(listener)
        assert len(found) == 2
        assert not any(os.get_inheritable(fd) for fd in found)
        app.close()
        app.run()
        assert copies(listener) == [listener.fileno()]


def test_unix_descriptors(tmp_path: Path) -> None:
    path = str(tmp_path / "socket")
    with stream(socket.AF_UNIX) as listener, stream(socket.AF_UNIX) as client:
        listener.bind(path)
        listener.listen()
        app = fd_app().listen({"fd": listener.fileno()})
        assert app.port == 0
        thread = threading.Thread(target=app.run)
        thread.start()
        client.settimeout(TIMEOUT)
        client.connect(path)
        client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
        client.close()
        app.defer(app.close)
        thread.join(TIMEOUT)
        assert os.path.exists(path)  # whoever made it removes it


def test_a_descriptor_that_cannot_accept_is_an_error_that_names_it() -> None:
    left, right = socket.socketpair()
    with left, right, stream() as unbound, socket.socket(type=socket.SOCK_DGRAM) as udp:
        udp.bind(("127.0.0.1", 0))
        null = os.open(os.devnull, os.O_RDONLY)
        closed = 2**31 - 1  # more than the kernel allows
        cases = [
            (udp.fileno(), errno.ESOCKTNOSUPPORT, "it is not a stream socket"),
            (left.fileno(), errno.EISCONN, "it is a connection, not a listening socket"),
            (unbound.fileno(), errno.EDESTADDRREQ, "it is not bound to an address"),
            (null, errno.ENOTSOCK, "it is not a socket"),
            (closed, errno.EBADF, "it is not open"),
        ]
        with App() as app:
            for fd, number, why in cases:
                with pytest.raises(OSError, match=f"cannot listen on fd {fd}: {why}") as caught:
                    app.listen({"fd": fd})
                assert caught.value.errno == number
            assert copies(udp) == [udp.fileno()]
            assert copies(left) == [left.fileno()]
            assert app.port == 0
        os.close(null)


# ---- names --------------------------------------------------------------------------------------


def test_localhost_is_served_at_each_of_its_addresses() -> None:
    found = {info[4][0] for info in socket.getaddrinfo("127.0.0.1", 0, type=socket.SOCK_STREAM)}
    try:
        found |= {info[4][0] for info in socket.getaddrinfo("localhost", 0)}
    except OSError:
        pass  # the library does without a resolver
    app = fd_app().listen({"host": "localhost"})
    thread = threading.Thread(target=app.run)
    port = app.port
    thread.start()
    try:
        for address in sorted(str(one) for one in found):
            try:
                with stream(socket.AF_INET6 if ":" in address else socket.AF_INET) as own:
                    own.bind((address, 0))
            except OSError:
                continue  # this machine does not have it
            with socket.create_connection((address, port), TIMEOUT) as client:
                client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                assert client.recv(1000).startswith(b"HTTP/1.1 200 ")
    finally:
        app.defer(app.close)
        thread.join(TIMEOUT)


def test_twenty_places() -> None:
    with App() as app:
        ports = set()
        for _ in range(20):
            app.listen({"host": "127.0.0.1"}, lambda place: ports.add(place.port))
        assert len(ports) == 20


# ---- one network interface ----------------------------------------------------------------------


def test_a_device() -> None:
    """It is not a part of the address."""
    with App() as app:
        app.listen(0, host="127.0.0.1", device="lo")
        socket.create_connection(("127.0.0.1", app.port), TIMEOUT).close()
        with pytest.raises(
            OSError, match=r"cannot listen on 127\.0\.0\.1:0: No such device"
        ) as info:
            app.listen(0, host="127.0.0.1", device="nosuchdevice")
        assert info.value.errno == errno.ENODEV


@pytest.mark.parametrize("other", [{"path": "/run/x"}, {"fd": 3}])
def test_a_device_of_something_else(other: Dict[str, Any]) -> None:
    (name,) = other
    with pytest.raises(ValueError, match=f"^device belongs to a TCP address .*, not to {name}$"):
        AppListenOptions(device="lo", **other)


def test_the_sockets_of_workers_have_the_device() -> None:
    """Those that the parent binds, and those that each of them accepts from alone."""
    text = (
        "import os, socket\n"
        "from pyws import App\n"
        "def devices():\n"
        "    for fd in range(3, 100):\n"
        "        try:\n"
        "            one = socket.socket(fileno=os.dup(fd))\n"
        "        except OSError:\n"
        "            continue\n"
        "        with one:\n"
        "            if one.family == socket.AF_INET:\n"
        "                name = one.getsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, 16)\n"
        "                yield name.decode().rstrip('\\0')\n"
        "app = App().listen(0, host='127.0.0.1', device='lo')\n"
        "app.on_start(lambda: print(' '.join(devices()) + '\\n', end=''))\n"
        "app.run(workers=2)\n"
    )
    with Program("-c", text) as program:
        for _ in range(2):
            devices = program.line().split()
            assert len(devices) >= 2
            assert set(devices) == {"lo"}
        assert program.stop(signal.SIGTERM) == 0
