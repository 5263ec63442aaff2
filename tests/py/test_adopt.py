# SPDX-License-Identifier: MIT
"""`App.adopt`: connections that were accepted by the program, or came from another process."""

import array
import gc
import signal
import socket
import ssl
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple

import pytest
from common import TIMEOUT, plain_only
from peer import Peer, close_frame, eventually, frame, handshake
from program import Program

from pyws import App

pytestmark = plain_only("what is adopted speaks no TLS")


@contextmanager
def connected(unix: bool = False) -> Iterator[Tuple[Peer, socket.socket]]:
    """A client, and the other end of its connection."""
    if unix:
        client, served = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as listener:
            client = socket.create_connection(listener.getsockname(), TIMEOUT)
            served = listener.accept()[0]
    client.settimeout(TIMEOUT)
    with served, Peer.over(client) as peer:
        yield peer, served


def check_echo(peer: Peer) -> None:
    peer.send(frame(b"text") + frame(b"\0\xff", 2))
    assert (peer.frame().payload, peer.frame().payload) == (b"text", b"\0\xff")


def echo(ws: Any, message: Any, opcode: Any) -> None:
    ws.send(message, opcode)


@pytest.mark.parametrize("unix", [False, True], ids=["TCP", "Unix"])
@pytest.mark.parametrize("kind", [bytes, bytearray])
def test_e5_what_was_read_already(serve: Callable[..., Any], unix: bool, kind: Any) -> None:
    addresses: List[str] = []

    def on_open(ws: Any) -> None:
        addresses.append(ws.get_remote_address())

    server = serve(open=on_open, message=echo)
    sent = handshake() + frame(b"early")
    for cut in (0, 1, 50, len(handshake()), len(sent) - 1, len(sent)):
        with connected(unix) as (peer, served):
            peer.send(sent)
            data = served.recv(cut) if cut else b""
            server.call(server.app.adopt, served, kind(data))
            assert served.fileno() == -1  # it is the app's
            assert peer.response().status == 101
            assert peer.frame().payload == b"early"
            check_echo(peer)
            peer.send(close_frame(1000))
            assert peer.frame().close_code == 1000
    assert set(addresses) == {"" if unix else "127.0.0.1"}


def test_an_app_that_accepts_itself(serve: Callable[..., Any]) -> None:
    """A port that speaks two protocols, in the loop of the app."""
    listener = socket.create_server(("127.0.0.1", 0))
    server = serve(lambda app: app.ws("/", message=echo))

    def on_readable() -> None:
        connection = listener.accept()[0]
        data = connection.recv(65536)
        if data.startswith(b"GET "):
            server.app.adopt(connection, data)
        else:
            with connection:
                connection.sendall(b"another protocol")

    with listener:
        server.call(server.app.add_reader, listener, on_readable)
        port = listener.getsockname()[1]
        with Peer(port) as peer:
            peer.send(handshake())
            assert peer.response().status == 101
            check_echo(peer)
        with Peer(port) as peer:
            peer.send(b"HELLO")
            assert peer.read(16) == b"another protocol"
        server.call(server.app.remove_reader, listener)


def test_another_process(serve: Callable[..., Any], tmp_path: Path) -> None:
    """It sends the descriptor of a connection, and what it has read."""
    server = serve(message=echo)
    path = str(tmp_path / "way")
    program = (
        "import array, socket, sys\n"
        "way = socket.socket(socket.AF_UNIX)\n"
        "way.connect(sys.argv[1])\n"
        "with socket.create_server(('127.0.0.1', 0)) as listener:\n"
        "    print(listener.getsockname()[1])\n"
        "    connection = listener.accept()[0]\n"
        "data = connection.recv(65536)\n"
        "kinds = socket.SOL_SOCKET, socket.SCM_RIGHTS\n"
        "way.sendmsg([data], [(*kinds, array.array('i', [connection.fileno()]))])\n"
    )
    listener = socket.create_server(path, family=socket.AF_UNIX)
    with listener, Program("-c", program, path) as other, listener.accept()[0] as way:
        with Peer(int(other.line())) as peer:
            peer.send(handshake() + frame(b"early"))
            data, ancillary, _, _ = way.recvmsg(65536, socket.CMSG_SPACE(4))
            fd = array.array("i", ancillary[0][2])[0]
            server.call(server.app.adopt, socket.socket(fileno=fd), data)
            assert peer.response().status == 101
            assert peer.frame().payload == b"early"
            check_echo(peer)
        assert other.wait() == 0
        assert other.error_text() == ""


# ---- what is refused ----------------------------------------------------------------------------


def refused(app: App, connection: Any, *data: Any) -> str:
    with pytest.raises((OSError, RuntimeError, TypeError, ValueError)) as info:
        app.adopt(connection, *data)
    return f"{type(info.value).__name__}: {info.value}"


def test_wrong_arguments() -> None:
    with App() as app, connected() as (_, served):
        assert refused(app, 3) == "TypeError: connection must be a socket, not int"
        assert refused(app, None) == "TypeError: connection must be a socket, not None"
        assert refused(app, served, "GET /") == "TypeError: data must be bytes, not str"
        assert refused(app, served, None) == "TypeError: data must be bytes, not None"
        assert served.fileno() >= 0
        served.close()
        assert refused(app, served).startswith("ValueError: connection must be an open descriptor")


def test_sockets_that_cannot_be_served() -> None:
    """They stay the caller's."""
    with App() as app, connected() as (_, served):
        for kind, why in (
            (socket.SOCK_STREAM, "it is not connected"),
            (socket.SOCK_DGRAM, "it is not a stream socket"),
        ):
            with socket.socket(socket.AF_INET, kind) as wrong:
                text = refused(app, wrong, b"GET / ")
                assert text.startswith("OSError: [Errno ") and why in text
                assert wrong.fileno() >= 0
        with open("/dev/null", "rb") as file:
            assert "it is not a socket" in refused(app, file)
            assert not file.closed
        app.add_reader(served, print)
        assert "the app has it already, or a reader" in refused(app, served)
        app.remove_reader(served)
        app.adopt(served)


def test_a_socket_of_tls() -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    with App() as app, connected() as (_, served):
        secure = context.wrap_socket(served, server_side=True, do_handshake_on_connect=False)
        assert "only app.listen() speaks TLS" in refused(app, secure)
        assert secure.fileno() >= 0
        secure.close()


def test_an_app_that_shuts_down(serve: Callable[..., Any]) -> None:
    server = serve(message=echo)
    with connected() as (_, served):

        def stop() -> str:
            server.app.close()
            return refused(server.app, served)

        assert "shutting down" in server.call(stop)
        assert served.fileno() >= 0


def test_above_max_connections() -> None:
    """The first ones get a 503; of many, the program learns."""
    with App(max_connections=1) as app:
        peers = []
        for _ in range(65):
            client, served = socket.socketpair()
            app.adopt(served)
            peers.append(client)
        assert b" 503 " in peers[1].recv(1000)
        client, served = socket.socketpair()
        assert "max_connections" in refused(app, served)
        for one in (*peers, client, served):
            one.close()


def test_other_threads(serve: Callable[..., Any]) -> None:
    server = serve(message=echo)
    with connected() as (_, served):
        assert "app.defer" in refused(server.app, served)
        assert served.fileno() >= 0


# ---- before run ---------------------------------------------------------------------------------


def test_before_run() -> None:
    """It is served once the app runs."""
    app = App().ws("/", message=echo).listen(0, host="127.0.0.1")
    with app, connected() as (peer, served):
        app.adopt(served, handshake())
        gc.collect()
        results: List[Any] = []

        def client() -> None:
            results.append(peer.response().status)
            check_echo(peer)
            peer.send(close_frame(1000))
            results.append(peer.frame().close_code)
            app.defer(app.close)

        thread = threading.Thread(target=client)
        thread.start()
        app.run()
        thread.join(TIMEOUT)
        assert results == [101, 1000]


def test_before_workers() -> None:
    """The process that watches over the workers would serve no one."""
    app = App().ws("/", message=echo).listen(0, host="127.0.0.1")
    with app, connected() as (_, served):
        app.adopt(served)
        with pytest.raises(RuntimeError, match=r"has adopted 1 connection.*adopt in the workers"):
            app.run(workers=2)


def test_in_workers() -> None:
    """Each of them may."""
    text = (
        "import socket, pyws\n"
        "from pyws import App\n"
        "app = App().ws('/', message=lambda ws, message, opcode: ws.send(message, opcode))\n"
        "listener = socket.create_server(('127.0.0.1', 0))\n"
        "listener.setblocking(False)\n"
        "print(listener.getsockname()[1])\n"
        "def on_readable():\n"
        "    try:\n"
        "        connection = listener.accept()[0]\n"
        "    except BlockingIOError:\n"
        "        return\n"
        "    app.adopt(connection)\n"
        "app.add_reader(listener, on_readable)\n"
        "app.listen(0, host='127.0.0.1')\n"
        "app.run(workers=2)\n"
    )
    with Program("-c", text) as program:
        port = int(program.line())
        for _ in range(8):
            with Peer(port) as peer:
                peer.send(handshake())
                assert peer.response().status == 101
                check_echo(peer)
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


def test_in_an_asyncio_loop(serve: Callable[..., Any]) -> None:
    async def slow_echo(ws: Any, message: Any, opcode: Any) -> None:
        ws.send(message, opcode)

    server = serve(message=slow_echo)
    with connected() as (peer, served):
        server.call(server.app.adopt, served, handshake())
        assert peer.response().status == 101
        check_echo(peer)
        eventually(lambda: server.call(server.app.stats)["open"] == 1)
