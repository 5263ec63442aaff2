# SPDX-License-Identifier: MIT
"""The client behind trusted proxies (W5), and the limits of one address (W6)."""

import ipaddress
import random
import socket
from typing import Any, Callable, Dict, List, Tuple

import pytest
from common import plain_only
from peer import Peer, Response, eventually, handshake, upgraded
from worker_programs import start

from pyws import App, AppListenOptions, AppOptions, Request, WebSocket

pytestmark = pytest.mark.usefixtures("read_by_h11")

HEADER = b"PROXY TCP4 192.0.2.7 192.0.2.8 4711 80\r\n"


def who(res: Any, req: Request) -> None:
    res.send([res.get_remote_address(), req.scheme])


def asked(peer: Peer, *fields: str) -> Response:
    peer.send("\r\n".join(["GET /who HTTP/1.1", "Host: h", *fields, "", ""]).encode())
    return peer.response()


def trusting(*proxies: str, **more: Any) -> AppOptions:
    return AppOptions(trusted_proxies=list(proxies), **more)


# ---- settings -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value",
    [
        "10.0.0.0/8", b"::1", 5, [5], [b"::1"], [""], ["10.0.0.5/8"], ["10.0.0.0/33"], ["*"],
        ["localhost"], ["10.0.0.1:80"], ["[::1]"], ["fe80::1%lo"], ["unix:"], ["10.0.0"],
    ],
)  # fmt: skip
def test_w5_what_is_no_proxy(value: Any) -> None:
    is_text = isinstance(value, list) and isinstance(value[0], str)
    error = ValueError if is_text else TypeError
    with pytest.raises(error, match="^trusted_proxies must"):
        AppOptions(trusted_proxies=value)


@pytest.mark.parametrize(
    "value",
    [
        "10.0.0.5", "10.0.0.0/8", "10.0.0.0/255.0.0.0", "::1", "fd00::/8", "unix", "0.0.0.0/0",
        "::/0", "::ffff:10.0.0.0/104", "::ffff:10.0.0.5",
    ],
)  # fmt: skip
def test_w5_what_is_a_proxy(value: str) -> None:
    options = AppOptions(trusted_proxies=[value])
    assert options.trusted_proxies == (value,)
    App(options)  # C understands it, too
    App(trusted_proxies=[])


# ---- requests and sockets -----------------------------------------------------------------------


@plain_only("its clients are made without TLS, or it expects ws")
def test_w5_requests_have_their_client(serve: Callable[..., Any]) -> None:
    server = serve(lambda app: app.get("/who", who), trusting("127.0.0.1"))
    with Peer(server.port) as peer:
        forwarded = 'Forwarded: for="[2001:db8::1]:80";proto=https'
        assert asked(peer, forwarded).body == b'["2001:db8::1","https"]'
        assert asked(peer, "X-Forwarded-For: 192.0.2.7").body == b'["192.0.2.7","http"]'
        assert asked(peer).body == b'["127.0.0.1","http"]'


def test_w5_sockets_have_their_client(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def facts(ws: WebSocket[Any]) -> Tuple[Any, ...]:
        return ws.get_remote_address(), ws.get_remote_address_bytes(), ws.remote_port, ws.scheme

    def on_upgrade(res: Any, req: Request, context: Any) -> None:
        seen.append((res.get_remote_address(), req.scheme))
        res.upgrade(user_data=req.preserve())

    def on_close(ws: WebSocket[Any], code: int, reason: str) -> None:
        seen.append((facts(ws), ws.user_data.scheme))

    behavior = {"upgrade": on_upgrade, "open": lambda ws: seen.append(facts(ws))}
    server = serve({**behavior, "close": on_close}, trusting("127.0.0.0/8"))
    fields = [("Forwarded", 'for="192.0.2.7:4711";proto=https, for=127.0.0.9')]
    upgraded(server.port, headers=fields).reset()
    eventually(lambda: len(seen) == 3)
    expected = ("192.0.2.7", b"\xc0\0\2\7", 4711, "wss")
    assert seen == [("192.0.2.7", "wss"), expected, (expected, "wss")]


@plain_only("its clients are made without TLS, or it expects ws")
def test_w5_a_stranger_is_who_it_is(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []
    server = serve(
        {"open": lambda ws: seen.append((ws.get_remote_address(), ws.scheme))},
        trusting("127.0.0.2", "unix"),
    )
    for name in ("Forwarded", "X-Forwarded-For"):
        fields = [(name, "for=192.0.2.7"), ("X-Forwarded-Proto", "https")]
        with upgraded(server.port, headers=fields) as peer:
            eventually(lambda: seen)
            assert seen.pop() == ("127.0.0.1", "ws")
            peer.reset()


def test_w5_unix_sockets(serve: Callable[..., Any], tmp_path: Any) -> None:
    path = str(tmp_path / "socket")

    def configure(app: App) -> None:
        app.get("/who", who)
        app.listen(path=path)

    for proxies, expected in (["unix"], b"192.0.2.7"), (["127.0.0.1"], b""):
        server = serve(configure, trusting(*proxies))
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(path)  # which listens since the server was made
            connection.settimeout(20)
            connection.sendall(b"GET /who HTTP/1.1\r\nHost: h\r\nForwarded: for=192.0.2.7\r\n\r\n")
            assert b'["%s","http"]' % expected in connection.recv(1000)
        server.stop()


# ---- against a model ----------------------------------------------------------------------------

TRUSTED = [ipaddress.ip_network(text) for text in ("127.0.0.1", "10.0.0.0/8", "fd00::/8")]
NODES = [
    "10.0.0.1", "10.1.2.3:80", "192.0.2.7", "192.0.2.7:4711", "[2001:db8::1]", "[fd00::1]:9",
    "[2001:db8::1]:80", "unknown", "_hidden", "", "10.0.0", "1.2.3.4:x", "[::1", "::1]",
]  # fmt: skip


def parsed(node: str) -> str:
    """The address of a node; "" if it has none. An independent, and slower, way to read it."""
    host, _, port = node.rpartition(":") if node.count(":") == 1 or "]:" in node else (node, "", "")
    if host.startswith("[") != host.endswith("]"):
        return ""
    try:
        address = ipaddress.ip_address(host.strip("[]"))
        return str(address) if not port or 0 <= int(port) < 65536 else ""
    except ValueError:
        return ""


def model(nodes: List[str]) -> str:
    client = "127.0.0.1"
    for node in reversed(nodes):
        if not any(ipaddress.ip_address(client) in network for network in TRUSTED):
            break
        address = parsed(node)
        if not address:
            break
        client = address
    return client


def test_w5_random_lists_against_a_model(serve: Callable[..., Any]) -> None:
    options = trusting(*map(str, TRUSTED))
    server = serve(lambda app: app.get("/who", who), options)
    chance = random.Random(1)
    with Peer(server.port) as peer:
        for _ in range(2000):
            nodes = [chance.choice(NODES) for _ in range(chance.randrange(6))]
            if chance.random() < 0.5:
                name, parts = "x-forwarded-for", [node for node in nodes if node]
                nodes = parts
            else:
                name = "Forwarded"
                parts = [chance.choice(['for="%s"', 'proto=http;For="%s"']) % n for n in nodes]
            lines, rest = [], parts
            while rest:  # over several fields
                cut = chance.randrange(1, len(rest) + 1)
                lines.append(f"{name}: " + chance.choice([",", ", ", " ,\t"]).join(rest[:cut]))
                rest = rest[cut:]
            got = asked(peer, *lines).body.decode()
            assert got.split('"')[1] == model(nodes), lines


# ---- PROXY protocol -----------------------------------------------------------------------------


def behind_header(serve: Callable[..., Any], **options: Any) -> Tuple[Any, int]:
    """A server, and the port that expects PROXY headers."""
    places: List[AppListenOptions] = []

    def configure(app: App) -> None:
        app.get("/who", who)
        app.ws("/*", open=lambda ws: ws.send(f"{ws.get_remote_address()}:{ws.remote_port}"))
        app.listen({"host": "127.0.0.1", "proxy_protocol": True}, places.append)

    server = serve(configure, AppOptions(**options))
    eventually(lambda: places)
    return server, places[0].port


def test_w5_a_proxy_header(serve: Callable[..., Any]) -> None:
    server, port = behind_header(serve)
    with Peer(port) as peer:
        peer.send(HEADER + handshake())
        assert peer.response().status == 101
        assert peer.frame().payload == b"192.0.2.7:4711"
    with Peer(port) as peer:
        peer.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        assert peer.at_end()
    with Peer(server.port) as peer:
        peer.send(HEADER)
        assert peer.response().status == 400


def test_w5_who_may_send_a_proxy_header(serve: Callable[..., Any]) -> None:
    _, port = behind_header(serve, trusted_proxies=["127.0.0.2"])
    with Peer(port) as peer:
        assert peer.at_end()
    with socket.create_connection(("127.0.0.1", port), 20, ("127.0.0.2", 0)) as connection:
        connection.sendall(HEADER)
        assert asked(Peer.over(connection)).body == b'["192.0.2.7","http"]'


def test_w5_workers_expect_proxy_headers() -> None:
    """On the sockets that they share, and on those of their own."""
    text = """
        app.get("/who", lambda res, req: res.end(res.get_remote_address()))
        listen(proxy_protocol=True)
        listen()
        app.run(workers=2)
    """
    with start(text) as program:
        port, plain = int(program.line()), int(program.line())
        for _ in range(20):
            with Peer(port) as peer:
                peer.send(HEADER)
                assert asked(peer).body == b"192.0.2.7"
            with Peer(plain) as peer:
                assert asked(peer).body == b"127.0.0.1"


# ---- limits -------------------------------------------------------------------------------------


@plain_only("its clients are made without TLS, or it expects ws")
def test_w6_connections_of_one_address(serve: Callable[..., Any]) -> None:
    server = serve({}, AppOptions(max_connections_per_address=2))
    with upgraded(server.port), upgraded(server.port) as second:
        with Peer(server.port) as third:
            response = third.response()
            assert (response.status, response.headers["retry-after"]) == (503, "1")
            assert third.at_end()
        other = socket.create_connection(("127.0.0.1", server.port), 20, ("127.0.0.3", 0))
        with Peer.over(other) as peer:
            peer.send(handshake())
            assert peer.response().status == 101
        second.reset()
        eventually(lambda: server.call(server.app.stats)["connections"] == 1)
        with upgraded(server.port):
            stats: Dict[str, int] = server.call(server.app.stats)
            assert stats["limited"] == 1
            assert "pyws_clients_limited_total 1\n" in server.call(server.app.metrics)


def test_w6_t14_a_flood_of_handshakes_reaches_no_handler(serve: Callable[..., Any]) -> None:
    upgrades: List[str] = []

    def on_upgrade(res: Any, req: Request, context: Any) -> None:
        upgrades.append(res.get_remote_address())
        res.upgrade()

    options = trusting("127.0.0.1", max_handshakes_per_second_per_address=1)
    server = serve({"upgrade": on_upgrade}, options)
    statuses = []
    for number in range(300):
        with Peer(server.port) as peer:
            peer.send(handshake(headers=[("X-Forwarded-For", f"2001:db8::{number:x}")]))
            response = peer.response()
            statuses.append(response.status)
            assert response.status == 101 or response.headers["retry-after"] == "1"
    assert set(statuses) == {101, 429}
    assert len(upgrades) == statuses.count(101)  # one /64: one a second
    with upgraded(server.port, headers=[("X-Forwarded-For", "192.0.2.7")]):
        assert upgrades[-1] == "192.0.2.7"
