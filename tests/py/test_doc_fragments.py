# SPDX-License-Identifier: MIT
"""The fragments of README.md and docs/, which are no programs, do what their pages say."""

import ast
import asyncio
import contextlib
import json
import logging
import shutil
import signal
import socket
import ssl
import subprocess
import textwrap
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Callable, Dict, List
from unittest import mock

import peer
import pytest
from authority import authority, localhost
from common import ROOT, TIMEOUT, without_sanitizer
from doc_blocks import Block, all_blocks
from peer import Peer, frame, handshake, upgraded
from program import Program
from tls_clients import name_of, opened, tls_of, tls_peer

import pyws
from pyws import App, OpCode, WebSocket
from pyws._core import envelope
from pyws._native import lib
from pyws.testing import running

# Uses a fragment in the way that its page describes; may write files to the folder.
Use = Callable[[str, Path], None]

USES: Dict[str, Use] = {}  # by a phrase of the fragment
FRAGMENTS = [block for block in all_blocks() if not block.name and not block.file]


def fragment(phrase: str) -> Callable[[Use], Use]:
    def register(use: Use) -> Use:
        USES[phrase] = use
        return use

    return register


def uses_of(block: Block) -> List[Use]:
    return [use for phrase, use in USES.items() if phrase in block.text]


def test_every_fragment_is_used() -> None:
    wrong = [block.place for block in FRAGMENTS if len(uses_of(block)) != 1]
    assert not wrong, f"write a @fragment(phrase) for {wrong} that does what the page says"
    assert len(FRAGMENTS) == len(USES)


@pytest.mark.parametrize("block", FRAGMENTS, ids=lambda block: block.place)
def test_fragment(block: Block, tmp_path: Path) -> None:
    (use,) = uses_of(block)
    use(block.text, tmp_path)


# ---- helpers ------------------------------------------------------------------------------------


def executed(text: str, **names: Any) -> Dict[str, Any]:
    """The names of a page after a fragment of it."""
    exec(text, names)
    return names


def port_of(url: str) -> int:
    return int(url.rpartition(":")[2])


def received(client: Peer) -> Any:
    return json.loads(client.frame().payload)


def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    ws.send(message, opcode)


def echoes(app: App, path: str) -> None:
    with running(app) as url, upgraded(port_of(url), path, more=frame(b"x")) as client:
        assert client.frame().payload == b"x"


def program(folder: Path, *parts: str) -> Program:
    file = folder / "program.py"
    file.write_text("\n".join(textwrap.dedent(part) for part in parts))
    return Program(str(file))


# ---- the fragments ------------------------------------------------------------------------------


@fragment("CompressOptions.SHARED_COMPRESSOR")
def compression(text: str, folder: Path) -> None:
    if not lib.ws_compression_available():
        pytest.skip("without zlib")
    app = executed(text)["app"]
    offer = [("Sec-WebSocket-Extensions", "permessage-deflate")]
    with running(app) as url, Peer(port_of(url)) as client:
        client.send(handshake("/json", offer) + frame(b"a" * 100))
        assert "permessage-deflate" in client.response().headers["sec-websocket-extensions"]
        assert len(client.frame().payload) < 50


@fragment("def who_is_here(room)")
def who_is_here(text: str, folder: Path) -> None:
    app = App()
    who = executed(text, app=app)["who_is_here"]

    def on_open(ws: WebSocket) -> None:
        ws.user_data = ws.query["name"]
        ws.subscribe("room/" + ws.parameters["room"])
        ws.send(who("tea"))

    app.ws("/:room", open=on_open)
    with running(app) as url:
        port = port_of(url)
        with upgraded(port, "/tea?name=Bob") as bob, upgraded(port, "/cake?name=Eve") as eve:
            assert (received(bob), received(eve)) == (["Bob"], ["Bob"])
            with upgraded(port, "/tea?name=Ann") as ann:
                assert received(ann) == ["Ann", "Bob"]


@fragment("changed = set()")
def large_rooms(text: str, folder: Path) -> None:
    app = App()
    names = executed(text, app=app)
    on_open: Callable[[WebSocket], Any] = lambda ws: ws.subscribe("room/tea")  # noqa: E731
    app.ws("/", open=on_open, subscription=names["on_subscription"])
    with running(app) as url, upgraded(port_of(url)) as ann, upgraded(port_of(url)) as bob:
        while received(ann) != {"people": 2}:  # there may be one before Bob has come
            pass
        assert received(bob) == {"people": 2}


@fragment("async def show_people(topic)")
def large_rooms_everywhere(text: str, folder: Path) -> None:
    app = App()
    names = executed(text, app=app, asyncio=asyncio, changed={"room/tea"})

    async def on_open(ws: WebSocket) -> None:  # test_count.py counts those of others
        ws.subscribe("room/tea")
        names["tell"]("room/tea")

    app.ws("/", open=on_open)
    with running(app) as url, upgraded(port_of(url)) as ann, upgraded(port_of(url)) as bob:
        for client in (ann, bob):
            while received(client) != {"people": 2}:
                pass


@fragment('"The server restarts in five minutes."')
def private_messages(text: str, folder: Path) -> None:
    app = App()
    names = executed(text, app=app)

    def on_open(ws: WebSocket) -> None:
        ws.user_data = ws.query["name"]
        names["on_open"](ws)

    app.ws("/", open=on_open, message=lambda ws, message, opcode: exec(text, names))
    with running(app) as url:
        port = port_of(url)
        with upgraded(port, "/?name=Ann") as ann, upgraded(port, "/?name=Bob") as bob:
            bob.send(frame(b"now"))
            everybody = {"text": "The server restarts in five minutes."}
            assert (received(ann), received(ann)) == ({"text": "psst"}, everybody)
            assert received(bob) == everybody


@fragment("def add_route")
def shared_settings(text: str, folder: Path) -> None:
    app = App()
    executed(text)["add_route"](app, "/added", {"message": on_message})
    echoes(app, "/added")


@fragment('app.ws("/count", WebSocketOptions(')
def forms_of_settings(text: str, folder: Path) -> None:
    lines = ast.parse(text).body
    for line in lines:
        app = App()
        scope = {**vars(pyws), "app": app, "on_message": on_message}
        exec(compile(ast.Module([line], []), "fragment", "exec"), scope)
        echoes(app, "/count")
    assert len(lines) == 3


@fragment('logging.getLogger("pyws.server")')
def levels_of_logs(text: str, folder: Path) -> None:
    rest = """
        from pyws import App
        App().listen({"host": "127.0.0.1"}, lambda where: print(where.port)).ws("/", {}).run()
    """
    with program(folder, text, rest) as server:
        upgraded(int(server.line())).reset()
        assert server.stop(signal.SIGTERM) == 0
        for line in ("INFO:pyws.server:listening on 127", "DEBUG:pyws.server:opened 127"):
            assert line in server.error_text()


@fragment('@app.get("/metrics")')
def metrics(text: str, folder: Path) -> None:
    app = App()
    executed(text, app=app)
    with running(app) as url:
        response = peer.request(port_of(url), "GET /metrics HTTP/1.1")
    assert response.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert b"\npyws_connections_accepted_total 1\n" in response.body


LIBRARY = "pyws.library_path, mode=ctypes.RTLD_GLOBAL"


@fragment("handlers.echo")
def native_handlers(text: str, folder: Path) -> None:
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("no C compiler")
    built, source = folder / "native_handler.so", ROOT / "examples" / "c" / "native_handler.c"
    build = [compiler, "-shared", "-fPIC", "-I", str(ROOT / "csrc"), "-o", str(built), str(source)]
    environment = without_sanitizer()
    subprocess.run(build, check=True, timeout=TIMEOUT, env=environment)
    (library,) = (block.text for block in FRAGMENTS if LIBRARY in block.text)
    begin = f"import ctypes, os; from pyws import App; app = App(); os.chdir({str(folder)!r})"
    rest = """
        app.listen({"host": "127.0.0.1"}, lambda where: print(where.port))
        app.run()
    """
    on_close = "def on_close(ws, code, reason): print(code)"
    with program(folder, begin, on_close, library, text, rest) as server:
        with upgraded(int(server.line()), more=frame(b"x")) as client:
            assert client.frame().payload == b"x"
            client.send(peer.close_frame(4000))
            assert server.line() == "4000"
        assert server.stop(signal.SIGTERM) == 0


@fragment(LIBRARY)
def native_library(text: str, folder: Path) -> None:
    """It runs in `native_handlers`."""
    assert text in {block.text for block in FRAGMENTS if block.page == "docs/native_handlers.md"}


@fragment("app.adopt(connection, data)")
def adopted(text: str, folder: Path) -> None:
    app = App()
    app.ws("/", message=on_message)
    others: List[bytes] = []

    def speak_another_protocol(connection: socket.socket, data: bytes) -> None:
        others.append(data)
        connection.close()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        executed(text, app=app, listener=listener, speak_another_protocol=speak_another_protocol)
        with running(app):
            for first in (handshake(), b"HELLO"):
                with Peer(listener.getsockname()[1]) as client:
                    client.send(first)
                    if first == b"HELLO":
                        assert client.at_end()
                        break
                    assert client.response().status == 101
                    client.send(frame(b"text"))
                    assert client.frame().payload
    assert others == [b"HELLO"]


@fragment("App(trusted_proxies=[")
def forwarded(text: str, folder: Path) -> None:
    app = executed(text.replace("::1", "127.0.0.1"), App=App)["app"]
    app.ws("/", open=lambda ws: ws.send(ws.get_remote_address()))
    with running(app) as url, Peer(port_of(url)) as client:
        client.send(handshake(headers=[("X-Forwarded-For", "192.0.2.1, 10.0.0.7")]))
        client.response()
        assert client.frame().payload == b"192.0.2.1"


@fragment('"proxy_protocol": True}')
def proxy_header(text: str, folder: Path) -> None:
    app = App()
    app.ws("/", open=lambda ws: ws.send(ws.get_remote_address()))
    places: List[Any] = []
    executed(text.replace("9002", "0"), app=app, started=places.append)
    with running(app), Peer(places[0].port) as client:
        client.send(b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n" + handshake())
        client.response()
        assert client.frame().payload == b"192.0.2.1"


@fragment("App(max_connections_per_address=50")
def limits(text: str, folder: Path) -> None:
    app = executed(text, App=App)["app"]
    app.ws("/", message=on_message)
    with running(app) as url, contextlib.ExitStack() as stack:
        clients = [stack.enter_context(Peer(port_of(url))) for _ in range(50)]
        for client in clients:
            client.send(handshake())
        assert {client.response().status for client in clients} == {101, 429}


@fragment('App(broker="redis://')
def broker(text: str, folder: Path) -> None:
    pytest.importorskip("redis")
    with executed(text, App=App)["app"] as app:
        assert app.app_options.broker == "redis://10.0.0.5:6379"


@fragment("def on_broker(up)")
def on_broker(text: str, folder: Path) -> None:
    app = App()
    names = executed(text, app=app)
    app.ws(
        "/",
        open=lambda ws: ws.subscribe("status"),
        message=lambda ws, message, opcode: names["on_broker"](True),
    )
    with running(app) as url, upgraded(port_of(url), more=frame(b"the broker is back")) as client:
        assert received(client) == {"everyone": True}


@fragment("pyws.publish_to(")
def one_message(text: str, folder: Path) -> None:
    """test_publish_to.py has the brokers for it."""
    with mock.patch.object(pyws, "publish_to", autospec=True) as publish_to:
        executed(text)
    publish_to.assert_called_once_with("redis://10.0.0.5:6379", "news", {"title": "Hello"})


@fragment("pyws.end_at(")
def one_end(text: str, folder: Path) -> None:
    with mock.patch.object(pyws, "end_at", autospec=True) as end_at:
        executed(text, pyws=pyws)
    end_at.assert_called_once_with("redis://10.0.0.5:6379", "user/7", 4001, "logged out")


@fragment("redis.Redis().publish(")
def another_program(text: str, folder: Path) -> None:
    class Redis:
        def publish(self, channel: str, data: bytes) -> None:
            published.append((channel, envelope.unpack(data)))

    published: List[Any] = []
    executed(text, redis=SimpleNamespace(Redis=Redis))
    assert published == [("pyws:news", (envelope.NO_ORIGIN, OpCode.TEXT, b"Hello!"))]


@fragment('cert_file="/etc/letsencrypt/live')
def certificate(text: str, folder: Path) -> None:
    pair, app = localhost(), App()
    app.ws("/", message=on_message)
    for name, path in zip(("fullchain.pem", "privkey.pem"), pair):
        text = text.replace(f"/etc/letsencrypt/live/example.org/{name}", path)
    executed(text.replace("443", "0"), app=app)
    with running(app) as url, opened(tls_peer(port_of(url))) as client:
        assert url.startswith("wss://")
        client.send(frame(b"x"))
        assert client.frame().payload == b"x"


@fragment("signal.signal(signal.SIGHUP, on_hangup)")
def hangup(text: str, folder: Path) -> None:
    """test_tls_reload.py sends the signal."""
    app = mock.Mock()
    with mock.patch.object(signal, "signal") as install:
        executed(text, app=app)
    number, handler = install.call_args[0]
    assert number == signal.SIGHUP
    handler(number, None)
    app.reload_tls.assert_called_once_with()
    app.reload_tls.side_effect = ValueError("not a certificate")
    with mock.patch.object(logging, "error") as error:
        handler(number, None)
    assert error.called


def name_served(app: App, name: str) -> str:
    """The name in the certificate that a client gets who asks for `name`."""
    with running(app) as url, tls_peer(port_of(url), name=name) as client:
        return name_of(client)


@fragment("context.minimum_version = ssl.TLSVersion.TLSv1_3")
def context(text: str, folder: Path) -> None:
    pair, app = localhost(), App()
    text = text.replace("8443", "0").replace("cert.pem", pair.cert).replace("key.pem", pair.key)
    executed(text, app=app)
    with running(app) as url, tls_peer(port_of(url)) as client:
        assert tls_of(client).version() == "TLSv1.3"


@fragment('"*": context_for("default")')
def server_names(text: str, folder: Path) -> None:
    hosts = {"example.org": "example.org", "wildcard": "*.example.org", "default": "localhost"}
    for name, host in hosts.items():
        pair = authority().issue(host)
        shutil.copy(pair.cert, folder / f"{name}.pem")
        shutil.copy(pair.key, folder / f"{name}.key")
    text = text.replace("8443", "0").replace('f"{name}', f'f"{folder}/{{name}}')
    for name in ("example.org", "www.example.org", "localhost"):
        app = App()
        executed(text, app=app, ssl=ssl)
        assert name_served(app, name) == name.replace("www", "*")


@fragment("app.listen(8443, ssl=contexts)")
def function_of_contexts(text: str, folder: Path) -> None:
    app = App()
    executed(text.replace("8443", "0"), app=app, context_for=authority().server_context)
    app.reload_tls()
    assert name_served(app, "example.net") == "example.net"


@fragment("x509.load_der_x509_certificate")
def client_certificates(text: str, folder: Path) -> None:
    pytest.importorskip("cryptography")
    names: List[Any] = []
    server = authority().server_context("localhost")
    text = text.replace("clients-ca.pem", authority().cert)
    on_open = executed(text, context=server, ssl=ssl)["on_open"]
    app = App()

    def opens(ws: WebSocket) -> None:
        on_open(ws)
        names.append(ws.user_data)

    app.ws("/", open=opens)
    app.listen(0, host="127.0.0.1", ssl=server)
    jane = authority().client_context(authority().issue("jane.example"))
    with running(app) as url, opened(tls_peer(port_of(url), jane)):
        peer.eventually(lambda: names)
    assert names == ["CN=jane.example"]


@fragment("Strict-Transport-Security")
def strict_transport(text: str, folder: Path) -> None:
    app = App()
    names = executed(text, app=app, App=App)
    names["site"].get("/page", lambda res, req: res.end("page"))
    with running(app) as url:
        response = peer.request(port_of(url), "GET /site/page HTTP/1.1")
        assert response.headers["strict-transport-security"] == "max-age=31536000"
    with running(names["plain"]) as url:
        response = peer.request(port_of(url), "GET /chat?x=1 HTTP/1.1")
        assert response.status == 308
        assert response.headers["location"] == "https://example.org/chat?x=1"


@fragment("signal.signal(signal.SIGUSR1")
def drain_of_workers(text: str, folder: Path) -> None:
    begin = """
        import logging, signal
        from pyws import App
        logging.basicConfig(level=logging.INFO)
        app = App().ws("/", open=lambda ws: ws.send("hi"))
        app.listen({"host": "127.0.0.1"}, lambda where: print(where.port))
    """
    with program(folder, begin, text, "app.run(workers=2)") as server:
        with upgraded(int(server.line())) as client:
            assert client.frame().payload == b"hi"
            server.process.send_signal(signal.SIGUSR1)
            peer.eventually(lambda: "draining for at most 30 s" in server.error_text())
            assert server.process.poll() is None
        assert server.wait() == 0
