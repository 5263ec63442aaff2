# SPDX-License-Identifier: MIT
"""HAProxy, nginx and Caddy in front of pyws, configured as docs/proxies.md says.

Where one of them is not installed its tests are skipped; with CI=true they fail instead.
"""

import json
import os
import re
import shutil
import socket
import ssl
import subprocess
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Tuple

import pytest
from chromium import unavailable
from common import ROOT, TIMEOUT
from peer import Peer, close_frame, eventually, frame, handshake, request, upgraded

from pyws import App, AppOptions, Response, WebSocket

pytestmark = pytest.mark.timeout(120)

DOCS = ROOT / "docs" / "proxies.md"
TUNNEL = 3  # seconds of silence that the proxies allow


def configuration(language: str, number: int = 0) -> str:
    """What docs/proxies.md shows."""
    text = DOCS.read_text(encoding="utf-8")
    blocks: List[str] = re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
    return blocks[number]


def program(name: str) -> str:
    path = shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin")
    return path or unavailable(f"no {name} here")


def replaced(text: str, *pairs: Tuple[str, str]) -> str:
    for old, new in pairs:
        assert old in text, f"docs/proxies.md no longer says {old!r}"
        text = text.replace(old, new)
    return text


@contextmanager
def started(command: List[str], log: Path, *inherited: int) -> Iterator[Any]:
    """A proxy in the foreground; killed at the end by its process id."""
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            pass_fds=inherited,
        )
    try:
        yield process
    finally:
        process.kill()
        process.wait(TIMEOUT)


class Proxy:
    """A running proxy: its port, its process, and for HAProxy the socket for its commands."""

    def __init__(self, name: str, port: int, process: Any, commands: Path) -> None:
        self.name = name
        self.port = port
        self.process = process
        self.commands = commands

    def stop(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT)

    def health(self) -> Tuple[str, str]:
        """What came of HAProxy's last check of the server: ("L7OK", "200")."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(TIMEOUT)
            if connection.connect_ex(str(self.commands)):
                return "", ""  # not yet
            connection.sendall(b"show stat pyws 4 -1\n")
            lines = b"".join(iter(lambda: connection.recv(4096), b"")).decode().splitlines()
        row = dict(zip(lines[0].lstrip("# ").split(","), lines[1].split(",")))
        # "* " leads the result of the last check while the next one is under way.
        return row["check_status"].lstrip("* "), row["check_code"]


@contextmanager
def haproxy(
    server: int,
    folder: Path,
    *changes: Tuple[str, str],
    check: str = "option httpchk GET /health",
) -> Iterator[Proxy]:
    path, commands = program("haproxy"), folder / "commands"
    with socket.create_server(("127.0.0.1", 0)) as public:
        text = replaced(
            configuration("haproxy"),
            ("127.0.0.1:9001 check", f"127.0.0.1:{server} check inter 100ms rise 1 fall 1000"),
            ("bind 127.0.0.1:8000", f"bind fd@{public.fileno()}"),
            ("timeout tunnel 150s", f"timeout tunnel {TUNNEL}s"),
            (
                "    option httpchk GET /health\n",
                "".join(f"    {line}\n" for line in check.split("\n")),
            ),
            *changes,
        )
        settings = (
            f"global\n    stats socket {commands} level user\n    maxconn 200\n    nbthread 1\n\n"
        )
        (folder / "haproxy.cfg").write_text(settings + text)
        command = [path, "-db", "-f", str(folder / "haproxy.cfg")]
        with started(command, folder / "haproxy.log", public.fileno()) as process:
            proxy = Proxy("haproxy", public.getsockname()[1], process, commands)
            # On a busy machine a check may take too long: a later one need not.
            eventually(lambda: proxy.health() == ("L7OK", "200"))
            yield proxy


def accepts(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


NGINX = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
events {{ worker_connections 200; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body;
    proxy_temp_path {folder}/proxy;
    fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi;
    scgi_temp_path {folder}/scgi;
{text}
}}
"""


@contextmanager
def nginx(server: int, folder: Path, *changes: Tuple[str, str]) -> Iterator[Proxy]:
    path = program("nginx")
    with socket.socket() as reserved:  # the port, without listening on it
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        text = replaced(
            configuration("nginx"),
            ("127.0.0.1:9001", f"127.0.0.1:{server}"),
            ("127.0.0.1:8000", f"127.0.0.1:{port} reuseport"),
            ("proxy_read_timeout 150s", f"proxy_read_timeout {TUNNEL}s"),
            *changes,
        )
        (folder / "nginx.conf").write_text(NGINX.format(folder=folder, text=text))
        command = [path, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        with started(command, folder / "nginx.log") as process:
            eventually(lambda: accepts(port))
            yield Proxy("nginx", port, process, folder)


@contextmanager
def caddy(server: int, folder: Path) -> Iterator[Proxy]:
    path = program("caddy")
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        text = replaced(
            configuration("caddy"),
            ("127.0.0.1:9001", f"127.0.0.1:{server}"),
            ("example.org {", f"http://:{port} {{\n    bind 127.0.0.1"),
        )
        file = folder / "Caddyfile"
        file.write_text("{\n    admin off\n}\n" + text)
        home = f"HOME={folder}"  # where it writes files of its own
        command = ["env", home, path, "run", "--adapter", "caddyfile", "--config", str(file)]
        with started(command, folder / "caddy.log") as process:
            eventually(lambda: accepts(port))
            yield Proxy("caddy", port, process, folder)


PROXIES: Dict[str, Callable[..., Any]] = {"haproxy": haproxy, "nginx": nginx, "caddy": caddy}


@pytest.fixture(params=PROXIES)
def front(request: Any, tmp_path: Path) -> Callable[[int], Any]:
    """``front(port)``: one of the proxies before the server at `port`."""
    program(request.param)
    return lambda port: PROXIES[request.param](port, tmp_path)


# ---- the server ---------------------------------------------------------------------------------


class Seen:
    """What the handlers of the server saw."""

    def __init__(self) -> None:
        self.closes: List[Tuple[str, int, str]] = []
        self.methods: List[str] = []


def configure(app: App, seen: Seen) -> None:
    def echo(ws: WebSocket, message: Any, opcode: Any) -> None:
        if message == "end":
            ws.end(4002, "server's turn")
        else:
            ws.send(message, compress=True)

    def close(ws: WebSocket, code: int, reason: str) -> None:
        seen.closes.append((ws.path, code, reason))

    def page(res: Response, req: Any) -> None:
        seen.methods.append(req.get_method())
        res.end(f"{req.get_method()} {req.get_url()}")

    routes: Dict[str, Any] = {"message": echo, "close": close, "max_payload_length": 1 << 21}
    app.ws("/pings", ping_interval=0.1, idle_timeout=60, max_backpressure=1 << 22, **routes)
    app.ws("/silent", idle_timeout=0, max_backpressure=1 << 22, **routes)
    app.any("/", page)
    app.get("/health", page)
    app.post("/silent", page)


def data(peer: Peer) -> Any:
    """The next frame that is no Ping."""
    while True:
        got = peer.frame()
        if got.opcode != 9:
            return got


# ---- health checks ------------------------------------------------------------------------------

HTTP_11 = "option httpchk\nhttp-check send meth HEAD uri /health ver HTTP/1.1 hdr Host pyws"


@pytest.mark.parametrize(
    ("check", "method"),
    [
        ("option httpchk", "OPTIONS"),
        ("option httpchk GET /health", "GET"),
        ("option httpchk HEAD /", "HEAD"),
        ("option httpchk\nhttp-check send ver HTTP/1.0 hdr Host pyws", "OPTIONS"),
        (HTTP_11, "HEAD"),
    ],
)
def test_h3_health_checks_of_haproxy(serve: Any, tmp_path: Path, check: str, method: str) -> None:
    seen = Seen()
    server = serve(lambda app: configure(app, seen))
    with haproxy(server.port, tmp_path, check=check) as proxy:
        count = len(seen.methods)
        eventually(lambda: len(seen.methods) > count + 2)  # and again
        assert set(seen.methods) == {method}
        eventually(lambda: proxy.health() == ("L7OK", "200"))
        with Peer(proxy.port) as peer:
            peer.send(b"GET /page HTTP/1.1\r\nHost: a\r\n\r\n")
            assert peer.response().status == 404  # an answer of pyws, not the proxy's 503


# ---- WebSocket ----------------------------------------------------------------------------------


def test_h4_messages_travel_through_a_proxy(serve: Any, front: Any) -> None:
    seen = Seen()
    server = serve(lambda app: configure(app, seen))
    large = os.urandom(1 << 20)
    with front(server.port) as proxy:
        early = frame(b"with the handshake")
        late = b""
        if proxy.name == "caddy":  # drops what comes before the answer to the handshake
            early, late = late, early
        with upgraded(proxy.port, "/silent", more=early) as peer, upgraded(
            proxy.port, "/pings"
        ) as b:
            peer.send(late)
            assert data(peer).payload == b"with the handshake"
            peer.send(frame(b"frag", 1, False) + frame(b"are you there?", 9) + frame(b"ments", 0))
            assert peer.frame() == (True, 10, b"are you there?")
            assert data(peer).payload == b"fragments"
            peer.send(frame(large, 2))
            assert data(peer).payload == large
            b.send(frame(b"another"))
            assert data(b).payload == b"another"


@pytest.mark.parametrize("path", ["/silent", "/pings"])
def test_c6_closing_handshakes_through_a_proxy(serve: Any, front: Any, path: str) -> None:
    seen = Seen()
    server = serve(lambda app: configure(app, seen))
    with front(server.port) as proxy:
        with upgraded(proxy.port, path) as peer:
            peer.send(close_frame(4001, b"client's turn"))
            assert data(peer).close_code == 4001
            assert peer.at_end()
        with upgraded(proxy.port, path) as peer:
            peer.send(frame(b"end"))
            got = data(peer)
            assert (got.close_code, got.payload[2:]) == (4002, b"server's turn")
            peer.send(close_frame(4002))
            assert peer.at_end()
        with upgraded(proxy.port, path) as peer:
            peer.send(frame(b"\xff"))  # no UTF-8
            assert data(peer).close_code == 1007
            assert peer.at_end()
        upgraded(proxy.port, path).socket.close()
        eventually(lambda: len(seen.closes) == 4)
        with upgraded(proxy.port, path):
            proxy.stop()
            eventually(lambda: len(seen.closes) == 5)
    codes = [(code, reason) for _, code, reason in seen.closes]
    assert codes[:2] == [(4001, "client's turn"), (4002, "server's turn")]
    assert [code for code, _ in codes[2:]] == [1007, 1006, 1006]


def test_s38_pings_keep_an_idle_connection_through_a_proxy(serve: Any, front: Any) -> None:
    seen = Seen()
    server = serve(lambda app: configure(app, seen))
    with front(server.port) as proxy, upgraded(proxy.port, "/pings") as kept:
        with upgraded(proxy.port, "/silent") as silent:
            if proxy.name != "caddy":
                assert silent.at_end()  # the proxy cuts what is idle
        kept.send(frame(b"still there"))
        assert data(kept).payload == b"still there"
        eventually(lambda: seen.closes)
        assert [(path, code) for path, code, _ in seen.closes] == [("/silent", 1006)]


# ---- plain HTTP ---------------------------------------------------------------------------------


def test_h23_a_proxy_keeps_its_connection_for_plain_requests(serve: Any, front: Any) -> None:
    seen = Seen()
    server = serve(lambda app: configure(app, seen))
    with front(server.port) as proxy:
        with Peer(proxy.port) as peer:
            for i in range(10):
                method = ("GET", "POST", "HEAD", "DELETE")[i % 4]
                peer.send(f"{method} / HTTP/1.1\r\nHost: a\r\n\r\n".encode())
                if method == "HEAD":  # it has the length of a body that it does not have
                    while b"\r\n\r\n" not in peer.buffer:
                        assert peer.fill()
                    assert peer.buffer.startswith(b"HTTP/1.1 200 ")
                    peer.buffer = b""
                else:
                    assert peer.response().body == f"{method} /".encode()
            checks = seen.methods.count("GET") - 3  # of HAProxy, on connections of their own
            assert server.call(server.app.stats)["accepted"] <= checks + 2
        assert request(proxy.port, "GET /none HTTP/1.1").status == 404
        got = request(proxy.port, "PUT /health HTTP/1.1")
        assert (got.status, got.headers["allow"]) == (405, "GET, HEAD")


def test_h8_errors_travel_through_a_proxy(serve: Any, front: Any) -> None:
    seen = Seen()
    server = serve(lambda app: configure(app, seen))
    with front(server.port) as proxy:
        got = request(proxy.port, "PUT /silent HTTP/1.1")
        assert (got.status, got.headers["allow"]) == (405, "GET, POST")
        got = request(proxy.port, "GET /silent HTTP/1.1")
        assert (got.status, got.headers["sec-websocket-version"]) == (426, "13")
        with Peer(proxy.port) as peer:
            peer.send(handshake("/silent").replace(b"Version: 13", b"Version: 8"))
            assert peer.response().status == 426


def test_h2_nginx_without_http_1_1(serve: Any, tmp_path: Path) -> None:
    seen = Seen()
    server = serve(lambda app: configure(app, seen))
    with nginx(server.port, tmp_path, ("        proxy_http_version 1.1;\n", "")) as proxy:
        for _ in range(3):
            assert request(proxy.port, "GET /health HTTP/1.1").body == b"GET /health"
        with Peer(proxy.port) as peer:
            peer.send(handshake("/silent"))
            assert peer.response().status == 400


# ---- the client's address -----------------------------------------------------------------------

CLIENT = "127.0.0.5"  # the proxies are 127.0.0.1
LIES = [
    ("X-Forwarded-For", "192.0.2.7, 127.0.0.1"),
    ("X-Forwarded-For", '"192.0.2.7'),
    ("X-Forwarded-Proto", "https"),
    ("Forwarded", "for=192.0.2.7;proto=https"),
]


def client(port: int, address: str = CLIENT) -> Peer:
    """A client that has another address than the proxies."""
    return Peer.over(socket.create_connection(("127.0.0.1", port), TIMEOUT, (address, 0)))


def who(res: Response, req: Any) -> None:
    res.send([res.get_remote_address(), req.scheme])


def on_open(ws: WebSocket) -> None:
    ws.send([ws.get_remote_address(), ws.scheme, ws.remote_port > 0])


def configure_addresses(app: App) -> None:
    app.get("/health", who)
    app.ws("/", open=on_open)


@pytest.mark.parametrize("lies", [[], LIES, LIES[:1], LIES[3:]])
def test_w5_the_client_behind_a_proxy(serve: Any, front: Any, lies: Any) -> None:
    server = serve(configure_addresses, AppOptions(trusted_proxies=["127.0.0.1"]))
    fields = "".join(f"{name}: {value}\r\n" for name, value in lies)
    with front(server.port) as proxy, client(proxy.port) as peer:
        peer.send(f"GET /health HTTP/1.1\r\nHost: a\r\n{fields}\r\n".encode())
        assert json.loads(peer.response().body) == [CLIENT, "http"]
        with client(proxy.port) as other:
            other.send(handshake("/", lies))
            assert other.response().status == 101
            assert json.loads(other.frame().payload) == [CLIENT, "ws", False]


def test_w5_a_proxy_that_passes_on_what_it_should_remove(serve: Any, tmp_path: Path) -> None:
    server = serve(configure_addresses, AppOptions(trusted_proxies=["127.0.0.1"]))
    forgotten = ('        proxy_set_header Forwarded "";\n', "")
    with nginx(server.port, tmp_path, forgotten) as proxy, client(proxy.port) as peer:
        peer.send(handshake("/", LIES[3:]))
        assert peer.response().status == 101
        assert json.loads(peer.frame().payload) == ["127.0.0.1", "ws", True]


def test_w6_limits_count_the_clients_of_a_proxy(serve: Any, front: Any) -> None:
    options = AppOptions(trusted_proxies=["127.0.0.1"], max_connections_per_address=1)
    server = serve(configure_addresses, options)
    with front(server.port) as proxy, client(proxy.port) as first, client(proxy.port) as second:
        first.send(handshake("/"))
        assert first.response().status == 101
        second.send(handshake("/", LIES))
        assert second.response().status == 503
        with client(proxy.port, "127.0.0.6") as other:
            other.send(handshake("/", [("X-Forwarded-For", CLIENT)]))
            assert other.response().status == 101


# ---- the PROXY protocol -------------------------------------------------------------------------


@contextmanager
def tunnel(server: int, folder: Path, how: str, certificate: str = "") -> Iterator[int]:
    """HAProxy with mode tcp, as docs/proxies.md says; its port."""
    path = program("haproxy")
    with socket.create_server(("127.0.0.1", 0)) as public:
        text = replaced(
            configuration("haproxy", 1),
            ("127.0.0.1:9002 send-proxy-v2 check", f"127.0.0.1:{server} {how} check inter 100ms"),
            ("bind 127.0.0.1:8000", f"bind fd@{public.fileno()} {certificate}"),
        )
        (folder / "haproxy.cfg").write_text(f"global\n    maxconn 200\n    nbthread 1\n\n{text}")
        command = [path, "-db", "-f", str(folder / "haproxy.cfg")]
        with started(command, folder / "haproxy.log", public.fileno()):
            yield public.getsockname()[1]


def expecting_headers(serve: Any, *proxies: str) -> int:
    """The port of a server that expects PROXY headers."""
    places: List[Any] = []

    def configure(app: App) -> None:
        configure_addresses(app)
        app.listen({"host": "127.0.0.1", "proxy_protocol": True}, places.append)

    serve(configure, AppOptions(trusted_proxies=list(proxies)))
    eventually(lambda: places)
    return int(places[0].port)


@pytest.mark.parametrize("how", ["send-proxy", "send-proxy-v2", "send-proxy-v2-ssl"])
@pytest.mark.parametrize("proxies", [[], ["127.0.0.1"]])
def test_w5_proxy_headers_of_haproxy(serve: Any, tmp_path: Path, how: str, proxies: Any) -> None:
    port = expecting_headers(serve, *proxies)
    with tunnel(port, tmp_path, how) as public:
        with client(public) as peer:
            peer.send(handshake("/", LIES))
            assert peer.response().status == 101
            assert json.loads(peer.frame().payload) == [CLIENT, "ws", True]
        with client(public) as peer:  # a header of its own comes after that of the proxy
            peer.send(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n" + handshake("/"))
            assert peer.response().status == 400


STREAM = """
daemon off;
master_process off;
pid {folder}/nginx.pid;
error_log stderr;
load_module {module};
events {{ worker_connections 200; }}
{text}
"""


@contextmanager
def nginx_stream(server: int, folder: Path) -> Iterator[int]:
    """The stream module of nginx, as docs/proxies.md says; its port."""
    path = program("nginx")
    modules = os.environ.get("NGINX_MODULES", "/usr/lib/nginx/modules")
    module = Path(modules, "ngx_stream_module.so")
    if not module.exists():
        unavailable(f"no {module} here")
    with socket.socket() as reserved:
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        reserved.bind(("127.0.0.1", 0))
        port = reserved.getsockname()[1]
        text = replaced(
            configuration("nginx", 1),
            ("127.0.0.1:9002", f"127.0.0.1:{server}"),
            ("127.0.0.1:8000", f"127.0.0.1:{port} reuseport"),
        )
        (folder / "nginx.conf").write_text(STREAM.format(folder=folder, module=module, text=text))
        command = [path, "-e", "stderr", "-p", str(folder), "-c", str(folder / "nginx.conf")]
        with started(command, folder / "nginx.log"):
            eventually(lambda: accepts(port))
            yield port


def test_w5_proxy_headers_of_nginx(serve: Any, tmp_path: Path) -> None:
    server = expecting_headers(serve, "127.0.0.1")
    with nginx_stream(server, tmp_path) as public, client(public) as peer:
        peer.send(handshake("/", LIES))
        assert peer.response().status == 101
        assert json.loads(peer.frame().payload) == [CLIENT, "ws", True]


def test_w5_tls_in_proxy_headers_of_haproxy(serve: Any, tmp_path: Path) -> None:
    key, both = tmp_path / "key", tmp_path / "both.pem"
    command = [
        program("openssl"),
        "req",
        "-x509",
        "-newkey",
        "rsa:2048",
        "-nodes",
        "-subj",
        "/CN=a",
    ]
    subprocess.run(
        [*command, "-keyout", str(key), "-out", str(both)], check=True, capture_output=True
    )
    both.write_text(both.read_text() + key.read_text())
    context = ssl.create_default_context(cafile=str(both))
    port = expecting_headers(serve)
    with tunnel(port, tmp_path, "send-proxy-v2-ssl", f"ssl crt {both}") as public:
        plain = client(public).socket
        with Peer.over(context.wrap_socket(plain, server_hostname="a")) as peer:
            peer.send(handshake("/"))
            assert peer.response().status == 101
            assert json.loads(peer.frame().payload) == [CLIENT, "wss", True]


def test_w5_a_proxy_that_is_not_trusted(serve: Any, tmp_path: Path) -> None:
    port = expecting_headers(serve, "127.0.0.9")
    with tunnel(port, tmp_path, "send-proxy-v2") as public, client(public) as peer:
        peer.send(handshake("/"))
        assert peer.at_end()
