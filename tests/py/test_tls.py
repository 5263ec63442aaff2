# SPDX-License-Identifier: MIT
"""TLS: connections, server names, client certificates (L1), and what peers may do wrong (L2, L4).

These tests need nothing but pytest and the openssl command, so that they run with every Python.
"""

import gc
import socket
import ssl
import threading
import time
from contextlib import suppress
from typing import Any, Callable, Dict, List

import pytest
from authority import PASSWORD, Authority, authority
from common import TIMEOUT
from peer import Peer, close_frame, eventually, frame, handshake
from tls_clients import (
    CRYPTIC,
    client_context,
    connected,
    name_of,
    opened,
    tls_of,
    tls_peer,
)
from tls_server import CONTEXTS, Secure, files, with_contexts

from pyws import App, AppOptions, WebSocket

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


# ---- connections --------------------------------------------------------------------------------


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_l1_an_echo(secure: Callable[..., Secure], version: ssl.TLSVersion) -> None:
    server = secure()
    with opened(tls_peer(server.port, client_context(version))) as peer:
        for size in (0, 1, 125, 126, 16_000):
            peer.send(frame(b"m" * size, 2))
            assert peer.frame().payload == b"m" * size
        peer.send(frame(b"a") + frame(b"b") + frame(b"c"))
        assert [peer.frame().payload for _ in range(3)] == [b"a", b"b", b"c"]
        tls = tls_of(peer)
        (info,) = server.infos
        assert info is not None
        assert info.version == tls.version()
        assert (info.cipher,) == tls.cipher()[:1]  # type: ignore[index]
        assert info.server_name == "localhost"
        assert info.alpn_protocol is None
        assert info.peer_certificate is None
        assert not info.session_reused
        peer.send(frame(b"close"))
        assert peer.frame().close_code == 1000
        peer.send(close_frame(1000))
        assert peer.at_end()  # with close_notify: anything else is an error here
    assert server.closed == [(1000, "bye")]


@pytest.mark.parametrize("kind", ["context", "mapping", "function", "password"])
def test_l1_every_way_to_give_a_certificate(secure: Callable[..., Secure], kind: str) -> None:
    settings: Dict[str, Any]
    if kind == "password":
        cert_file, key_file = authority().issue("localhost", password=PASSWORD)
        settings = {"cert_file": cert_file, "key_file": key_file, "key_password": PASSWORD}
    elif not CONTEXTS:
        pytest.skip("this Python hides its OpenSSL")
    elif kind == "context":
        settings = {"ssl": authority().server_context()}
    elif kind == "mapping":
        settings = {"ssl": {"*": authority().server_context()}}
    else:
        settings = {"ssl": authority().server_context}
    server = secure(**settings)
    del settings
    gc.collect()  # the contexts live on
    server.check()
    assert server.app.url == f"wss://127.0.0.1:{server.port}"


def test_l2_requests_and_their_scheme(secure: Callable[..., Secure]) -> None:
    server = secure()
    with tls_peer(server.port) as peer:
        for _ in range(2):
            peer.send(b"GET /scheme HTTP/1.1\r\nHost: h\r\n\r\n")
            assert peer.response().body == b'["https",true]'
        opened(peer)
        eventually(lambda: server.sockets)
        assert server.call(lambda: server.sockets[0].scheme) == "wss"


def test_l2_a_large_message(secure: Callable[..., Secure]) -> None:
    server = secure()

    def send(ws: WebSocket) -> None:
        ws.send(b"x" * 3_000_000)

    with opened(tls_peer(server.port)) as peer:
        eventually(lambda: server.sockets)
        server.call(send, server.sockets[0])
        assert peer.frame().payload == b"x" * 3_000_000


def test_l2_alpn(secure: Callable[..., Secure]) -> None:
    server = secure()
    context = client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with opened(tls_peer(server.port, context)) as peer:
        assert tls_of(peer).selected_alpn_protocol() == "http/1.1"
        eventually(lambda: server.infos)
        assert server.infos[0] is not None
        assert server.infos[0].alpn_protocol == "http/1.1"


def test_l2_without_tls_there_is_nothing_to_say() -> None:
    found: List[Any] = []
    app = App()
    app.ws("/*", open=lambda ws: found.append((ws.tls, ws.scheme)))
    app.listen(0, host="127.0.0.1")
    thread = threading.Thread(target=app.run, daemon=True)
    thread.start()
    with opened(Peer.over(connected(app.port))):
        eventually(lambda: found)
    app.defer(app.close, 1001, "", 0.5)
    thread.join(TIMEOUT)
    assert found == [(None, "ws")]


def test_l1_what_is_known_after_the_end(secure: Callable[..., Secure]) -> None:
    """What was read before; for other sockets there is nothing left to ask."""
    server = secure()
    with opened(tls_peer(server.port)) as peer:
        peer.send(close_frame(1000))
        peer.frame()
    eventually(lambda: server.closed)
    (ws,) = server.sockets
    assert server.call(lambda: ws.tls) == server.infos[0]


# ---- server names -------------------------------------------------------------------------------


@with_contexts
def test_l1_server_names(secure: Callable[..., Secure]) -> None:
    names = ["a.example", "*.b.example", "*"]
    issued = {"*": authority().server_context("other.example", "c.b.example", "x.example")}
    for name in names[:2]:
        issued[name] = authority().server_context(name)
    server = secure(ssl=issued)
    for name, expected in (
        ("a.example", "a.example"),
        ("A.EXAMPLE", "a.example"),
        ("x.b.example", "*.b.example"),
        ("other.example", "other.example"),
    ):
        with opened(tls_peer(server.port, name=name)) as peer:
            assert name_of(peer) == expected
            assert server.infos[-1] is not None
            assert str(server.infos[-1].server_name).lower() == name.lower()
    context = client_context()
    context.check_hostname = False
    with opened(Peer.over(context.wrap_socket(connected(server.port)))) as peer:
        assert name_of(peer) == "other.example"  # it has named no server
        assert server.infos[-1] is not None
        assert server.infos[-1].server_name is None


@with_contexts
def test_l1_names_that_have_no_context(secure: Callable[..., Secure]) -> None:
    server = secure(ssl={"localhost": authority().server_context()})
    with pytest.raises(ssl.SSLError, match=r"(?i)unrecognized.name"):
        tls_peer(server.port, name="other.example")
    server.check()


# ---- certificates of clients --------------------------------------------------------------------


@with_contexts
@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_l1_client_certificates(secure: Callable[..., Secure], version: ssl.TLSVersion) -> None:
    server = secure(ssl=authority().server_context(clients=True))
    pair = authority().issue("jane.example")
    context = authority().client_context(pair)
    context.minimum_version = context.maximum_version = version
    with opened(tls_peer(server.port, context)):
        eventually(lambda: server.infos)
        assert server.infos[0] is not None
        with open(pair.cert, encoding="ascii") as file:
            expected = ssl.PEM_cert_to_DER_cert(file.read())
        assert server.infos[0].peer_certificate == expected
    strangers = Authority("strangers")
    stranger = strangers.issue("jane.example")
    for other in (client_context(version), authority().client_context(stranger)):
        other.minimum_version = other.maximum_version = version
        with pytest.raises(CRYPTIC), tls_peer(server.port, other) as peer:
            opened(peer)  # with TLS 1.3 the client learns of it late
    assert len(server.infos) == 1


# ---- ends ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["fin", "reset", "close_notify"])
def test_l2_t86_a_stream_that_is_cut_off(secure: Callable[..., Secure], how: str) -> None:
    """Without a Close frame it ends with 1006, whatever TLS says."""
    server = secure()
    peer = opened(tls_peer(server.port))
    peer.send(frame(b"x"))
    assert peer.frame().payload == b"x"
    tls = tls_of(peer)
    if how == "reset":
        peer.reset()
    elif how == "fin":
        socket.socket(fileno=tls.detach()).close()
    else:
        with pytest.raises((ssl.SSLError, OSError)):
            tls.settimeout(0)
            tls.unwrap()  # sends close_notify, and does not wait for that of the server
            raise OSError
        tls.close()
    eventually(lambda: server.closed)
    assert server.closed[0][0] == 1006
    server.check()


def test_l2_a_shutdown_says_close_notify(secure: Callable[..., Secure]) -> None:
    server = secure()
    with opened(tls_peer(server.port)) as peer:
        server.app.defer(server.app.close)
        assert peer.frame().close_code == 1001
        peer.send(close_frame(1001))
        assert peer.at_end()


# ---- mistakes and attacks -----------------------------------------------------------------------


def test_l2_t86_plain_http_gets_a_readable_answer(secure: Callable[..., Secure]) -> None:
    server = secure()
    for data in (b"GET / HTTP/1.1\r\nHost: h\r\n\r\n", handshake(), b"POST /x HTTP/1.0\r\n\r\n"):
        with Peer.over(connected(server.port)) as peer:
            peer.send(data)
            response = peer.response()
            assert response.status == 400
            assert b"TLS" in response.body and b"https" in response.body
            assert peer.at_end()
    server.check()


def test_l2_tls_on_a_plain_port() -> None:
    app = App()
    app.listen(0, host="127.0.0.1")
    thread = threading.Thread(target=app.run, daemon=True)
    port = app.port
    thread.start()
    with pytest.raises(CRYPTIC):
        tls_peer(port)
    app.defer(app.close, 1001, "", 0.5)
    thread.join(TIMEOUT)
    assert not thread.is_alive()


@pytest.mark.parametrize(
    "data",
    [
        b"\0" * 64, b"\x16" * 64, b"\x16\x03\x01\x02\x00" + b"\xff" * 512, b"\x80" * 100,
        b"SSH-2.0\r\n", b"\x16\x03\x01\xff\xff" + b"x" * 70_000,
        b"\x15\x03\x03\x00\x02\x02\x28", b"\xff",
    ],
    ids=["zeros", "0x16", "noise", "ssl2", "ssh", "long", "alert", "byte"],
)  # fmt: skip
def test_l4_t86_garbage(secure: Callable[..., Secure], data: bytes) -> None:
    server = secure()
    for _ in range(3):
        with Peer.over(connected(server.port)) as peer:
            try:
                peer.send(data)
            except ConnectionError:
                continue
            try:
                while peer.fill():
                    pass
            except ConnectionError:
                pass
    server.check()
    assert server.infos[:-1] == []


def only_group(name: str) -> ssl.SSLContext:
    """The context of a client that knows no other group for the exchange of keys."""
    context = client_context()
    context.set_ecdh_curve(name)
    return context


def test_l4_groups_that_cost_much_are_refused(secure: Callable[..., Secure]) -> None:
    """Otherwise each message of a client could take milliseconds."""
    server = secure()
    for name in ("prime256v1", "secp384r1"):
        with opened(tls_peer(server.port, only_group(name))):
            pass
    with pytest.raises(ssl.SSLError, match="(?i)handshake.failure"):
        tls_peer(server.port, only_group("secp521r1"))
    server.check()


class Flights:
    """The client's side of a handshake, whose flights are sent by the test."""

    def __init__(self, port: int, version: ssl.TLSVersion) -> None:
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        context = client_context(version)
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_hostname="localhost")
        self.peer = Peer.over(connected(port))

    def next(self) -> bytes:
        """What the client sends next; b"" after the handshake."""
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            pass
        return self.outgoing.read()

    def receive(self) -> None:
        """Take what the server has sent."""
        data = self.peer.socket.recv(65536)
        if not data:
            raise EOFError
        self.incoming.write(data)

    def is_complete(self) -> bool:
        try:
            self.tls.do_handshake()
        except ssl.SSLWantReadError:
            return False
        return True


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
def test_l4_t86_a_byte_at_a_time(secure: Callable[..., Secure], version: ssl.TLSVersion) -> None:
    server = secure()
    flights = Flights(server.port, version)
    with flights.peer as peer:
        while True:
            data = flights.next()
            for index in range(len(data)):
                peer.send(data[index : index + 1])
                if index % 16 == 0:
                    time.sleep(0.001)
            if flights.is_complete():
                break
            flights.receive()
        flights.tls.write(b"GET /scheme HTTP/1.1\r\nHost: h\r\n\r\n")
        data = flights.outgoing.read()
        for index in range(len(data)):
            peer.send(data[index : index + 1])
        answer = b""
        while b"https" not in answer:
            try:
                answer += flights.tls.read(4096)
            except ssl.SSLWantReadError:
                flights.receive()


@pytest.mark.parametrize("version", VERSIONS, ids=lambda version: version.name)
@pytest.mark.parametrize("flight", [0, 1, 2])
def test_l4_t86_a_stall_in_each_flight(
    secure: Callable[..., Secure], version: ssl.TLSVersion, flight: int
) -> None:
    """handshake_timeout covers the handshake of TLS: the server ends what does not go on."""
    server = secure(AppOptions(handshake_timeout=0.5))
    flights = Flights(server.port, version)
    with flights.peer as peer, suppress(ConnectionError, EOFError):
        for number in range(flight + 1):
            data = flights.next()
            if number == flight:
                data = data[: len(data) // 2]
            if data:
                peer.send(data)
            if number < flight and not flights.is_complete():
                flights.receive()
        while peer.fill():
            pass
    eventually(lambda: server.call(server.app.stats)["connections"] == 0)
    eventually(lambda: serves(server))


def serves(server: Secure) -> bool:
    """Whether it does; on a busy machine, the handshake may take longer than it may."""
    try:
        server.check()
    except (OSError, EOFError):
        return False
    return True


@pytest.mark.timeout(300)
def test_l4_t86_many_handshakes_at_once(secure: Callable[..., Secure]) -> None:
    """Those who have connected are served meanwhile, and all are served in the end."""
    server = secure(AppOptions(handshake_timeout=300))
    count = 1000
    with opened(tls_peer(server.port)) as other:
        flights: List[Flights] = []
        hello = Flights(server.port, ssl.TLSVersion.TLSv1_3)
        flights.append(hello)
        for _ in range(count - 1):
            flights.append(Flights(server.port, ssl.TLSVersion.TLSv1_3))
        for one in flights:
            one.peer.send(one.next())
        for number in range(20):
            other.send(frame(b"%d" % number))
            assert other.frame().payload == b"%d" % number
        for one in flights:
            while not one.is_complete():
                one.receive()
            one.peer.send(one.outgoing.read())
        other.send(frame(b"end"))
        assert other.frame().payload == b"end"
        eventually(lambda: server.call(server.app.stats)["connections"] == count + 1)
        for one in flights:
            one.peer.socket.close()
    eventually(lambda: server.call(server.app.stats)["connections"] == 0)
    server.check()


# ---- lives --------------------------------------------------------------------------------------


def test_l1_an_app_that_runs_again() -> None:
    """Contexts and tables live as long as they are needed, whatever runs meanwhile."""
    app = App()
    app.ws("/*", message=lambda ws, message, opcode: ws.send(message, opcode))
    for _ in range(3):
        app.listen(0, host="127.0.0.1", **files())
        port = app.port
        thread = threading.Thread(target=app.run, daemon=True)
        thread.start()
        gc.collect()
        with opened(tls_peer(port)) as peer:
            peer.send(frame(b"x"))
            assert peer.frame().payload == b"x"
        app.defer(app.close, 1001, "", 0.5)
        thread.join(TIMEOUT)
        assert not thread.is_alive()
    with app:
        pass


def test_l1_an_app_that_never_runs() -> None:
    with pytest.warns(ResourceWarning, match="was never run"), App() as app:
        app.listen(0, host="127.0.0.1", **files())


def test_l1_a_listener_that_is_given_up() -> None:
    """When the callback of listen raises, the address is gone, and so is its TLS."""
    app = App()

    def callback(place: Any) -> None:
        raise OSError("no")

    with pytest.raises(OSError, match="no"):
        app.listen(0, callback, host="127.0.0.1", **files())
    with pytest.raises(RuntimeError, match="does not listen with TLS"):
        app.reload_tls()
