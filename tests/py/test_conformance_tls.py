# SPDX-License-Identifier: MIT
"""tools/conformance over TLS: servers at wss://, their certificates, and what differs from TCP."""

import re
import socket
import ssl
import sys
import threading
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List, Optional

import pytest
from common import ROOT, TIMEOUT
from conftest import Server
from tls_relay import Certificate, TlsRelay, make_certificate, server_context

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cli, secure, wire
from conformance_peers import (
    QUICK,
    Handler,
    Reports,
    echo,
    fake,
    hang,
    script,
    turning,
    upgrade,
    usage_error,
)

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
FEW = "1.1.*,1.2.*,2.*,7.1.*,9.1.2,P.6.*,S.1.*,S.2.1,T.2.*,T.3.*,T.4.*,F.2.1"
"""The cases that depend on the transport: splits, the ends of connections, and large messages."""


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture
def reports(tmp_path: Path) -> Reports:
    return Reports(tmp_path)


@pytest.fixture
def echo_server(serve: Callable[..., Server]) -> Server:
    return serve(
        message=lambda ws, message, opcode: ws.send(message, opcode),
        max_payload_length=1 << 24,
        max_backpressure=1 << 27,
    )


# ---- servers with TLS ---------------------------------------------------------------------------


@pytest.mark.parametrize("cut", [False, True], ids=["whole", "cut"])
@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
def test_a_good_server(
    version: ssl.TLSVersion,
    cut: bool,
    certificate: Certificate,
    echo_server: Server,
    reports: Reports,
) -> None:
    """No case is FAILED, NON-STRICT or SKIPPED because of TLS."""
    context = server_context(certificate)
    context.minimum_version = context.maximum_version = version
    with TlsRelay(echo_server.port, context) as relay:
        url = f"wss://localhost:{relay.port}/"
        options = ["--ca", certificate.cert, "--include", FEW, "--timeout", "10"]
        options += ["--fail-on", "non-strict,skipped,informational", *reports.options]
        options += ["--cut-records"] if cut else []
        assert cli.main([url, *options]) == cli.FINE
    run = reports.run()
    assert run["target"] == url
    assert run["settings"]["manners"]["tls"].startswith(
        str(context.maximum_version.name).replace("_", ".")
    )
    assert run["counts"]["OK"] == len(run["cases"]) > 130


def test_https(certificate: Certificate, echo_server: Server, reports: Reports) -> None:
    """The address of the page is that of the WebSocket; --insecure accepts any certificate."""
    with TlsRelay(echo_server.port, server_context(certificate)) as relay:
        options = ["--insecure", "--include", "1.1.*", "--timeout", "10", *reports.options]
        assert cli.main([f"https://127.0.0.1:{relay.port}", *options]) == cli.FINE
        assert reports.run()["target"] == f"wss://127.0.0.1:{relay.port}/"
    options = ["--include", "1.1.*", "--timeout", "10", *reports.options]
    assert cli.main([f"http://127.0.0.1:{echo_server.port}", *options]) == cli.FINE


@pytest.mark.parametrize(("printed", "option"), [("wss://", []), ("", ["--tls"])])
def test_a_served_program(
    printed: str, option: List[str], certificate: Certificate, reports: Reports, tmp_path: Path
) -> None:
    text = f"""
import sys, threading
sys.path[:0] = [{str(ROOT / "tests" / "py")!r}, {str(ROOT / "tools")!r}]
import tls_relay
from conformance_peers import fake, echo
with fake(echo) as port:
    certificate = tls_relay.Certificate({certificate.cert!r}, {certificate.key!r}, "", "", "")
    relay = tls_relay.TlsRelay(port, tls_relay.server_context(certificate))
    print(f"listening on {printed}localhost:{{relay.port}}", flush=True)
    threading.Event().wait()
"""
    command = script(tmp_path, text)
    options = [*option, "--ca", certificate.cert, "--include", "1.1.1", "--timeout", "10"]
    assert cli.main(["--serve", command, *options, *reports.options]) == cli.FINE
    assert [case["verdict"] for case in reports.run()["cases"]] == ["OK"]


@pytest.mark.parametrize(("host", "name"), [("localhost", "localhost"), ("127.0.0.1", None)])
def test_server_name_indication(host: str, name: Optional[str], certificate: Certificate) -> None:
    """The host of the URL, if it is a name (RFC 6066 section 3)."""
    asked: List[Optional[str]] = []
    context = server_context(certificate)
    context.sni_callback = lambda connection, name, context: asked.append(name)
    with fake(lambda connection: context.wrap_socket(connection, server_side=True)) as port:
        trust = secure.client_context(certificate.cert)
        target = wire.Target(host, port, "/", True, context=trust)
        wire.Connection(target, TIMEOUT, wire.Trace()).close()
    assert asked == [name]


# ---- servers that cannot be tested --------------------------------------------------------------


def refusing_tls(connection: socket.socket) -> None:
    """The answer of a server without TLS to a ClientHello."""
    connection.recv(65536)
    connection.sendall(b"HTTP/1.1 400 Bad Request\r\nConnection: close\r\n\r\n")
    connection.close()


def check_unfit(reports: Reports, url: str, *options: str) -> str:
    assert cli.main([url, *QUICK, *options, *reports.options]) == cli.INCOMPLETE
    assert reports.run()["cases"] == []
    return str(reports.run()["ended"])


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        pytest.param(refusing_tls, "no TLS at wss://.*'HTTP/1.1 400.*: is it ws://", id="http"),
        pytest.param(lambda peer: peer.sendall(b"\0\xff<\r\n"), "no TLS at wss://", id="garbage"),
        pytest.param(socket.socket.close, "no TLS at|reset|closed", id="closes"),
        pytest.param(hang, "cannot connect to wss://.* timed out", id="hangs"),
        pytest.param(
            lambda peer: (peer.recv(65536), peer.sendall(b"\x15\x03\x03\0\x02\x02\x28")),
            "refuses the TLS handshake .*handshake failure",
            id="alert",
        ),
    ],
)
def test_a_server_without_tls(handler: Handler, reason: str, reports: Reports) -> None:
    with fake(handler) as port:
        assert re.search(reason, check_unfit(reports, f"wss://127.0.0.1:{port}/"))


@pytest.mark.parametrize("answers", [False, True], ids=["silent", "400"])
def test_a_server_with_tls_where_none_is(
    answers: bool, certificate: Certificate, reports: Reports
) -> None:
    """Even if the server answers plain HTTP, for example that it wants https."""
    context = server_context(certificate)

    def handler(connection: socket.socket) -> None:
        if connection.recv(1, socket.MSG_PEEK) == b"\x16":
            context.wrap_socket(connection, server_side=True)
        elif answers:
            refusing_tls(connection)
        else:
            connection.close()

    with fake(handler) as port:
        assert "uses TLS: is it wss://?" in check_unfit(reports, f"ws://127.0.0.1:{port}/")


def test_a_certificate_that_is_not_trusted(
    certificate: Certificate, echo_server: Server, reports: Reports
) -> None:
    """The message names the options that help."""
    with TlsRelay(echo_server.port, server_context(certificate)) as relay:
        ended = check_unfit(reports, f"wss://localhost:{relay.port}/")
        assert re.search(r"is not trusted \(self.signed certificate\)", ended)
        assert "with --ca FILE, or use --insecure" in ended
        ended = check_unfit(
            reports, f"wss://localhost:{relay.port}/", "--ca", certificate.other_cert
        )
        assert "is not trusted" in ended


def test_a_certificate_of_another_name(
    certificate: Certificate, echo_server: Server, reports: Reports
) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.other_cert, certificate.other)
    trust = ["--ca", certificate.other_cert]
    with TlsRelay(echo_server.port, context) as relay:
        for host in ("localhost", "127.0.0.1"):
            ended = check_unfit(reports, f"wss://{host}:{relay.port}/", *trust)
            assert f"is not for {host!r}: use a name that it has in the URL, or --ins" in ended


def test_a_server_that_wants_a_certificate(
    certificate: Certificate, echo_server: Server, reports: Reports
) -> None:
    """With TLS 1.3 this becomes known after the handshake (RFC 8446 section 4.4.2.4)."""
    context = server_context(certificate)
    context.verify_mode = ssl.CERT_REQUIRED
    with TlsRelay(echo_server.port, context) as relay:
        ended = check_unfit(reports, f"wss://localhost:{relay.port}/", "--insecure")
    assert re.search("TLS failed: .*CERTIFICATE_REQUIRED|refuses the TLS|reset", ended)


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["ws://localhost", "--insecure"], "--insecure needs wss://HOST[:PORT] or --serve CMD"),
        (["--listen", "0", "--ca", "{cert}"], "--ca needs wss://HOST[:PORT] or --serve CMD"),
        (["wss://localhost", "--ca", "{cert}", "--insecure"], "give only one of --ca FILE and"),
        (["ws://localhost", "--cut-records"], "--cut-records needs wss://HOST[:PORT]"),
        (["wss://localhost", "--ca", "missing"], "--ca missing: No such file or directory"),
        (["wss://localhost", "--ca", "{key}"], "key: no PEM certificate found"),
        (["wss://localhost", "--ca", "/"], "--ca /: "),
        (["wss://localhost", "--tls"], "--tls needs --serve CMD; a URL says it with wss://"),
        (["wss://localhost", "--cert", "{cert}"], "--cert and --key need --listen"),
    ],
)
def test_wrong_usage(
    arguments: List[str], text: str, certificate: Certificate, capsys: pytest.CaptureFixture[str]
) -> None:
    filled = [argument.format(**certificate._asdict()) for argument in arguments]
    assert text in usage_error(capsys, *filled)


# ---- what differs from TCP ----------------------------------------------------------------------


@contextmanager
def connected(
    certificate: Certificate, handler: Callable[[ssl.SSLSocket], Any], version: ssl.TLSVersion
) -> Iterator[wire.Connection]:
    """A connection to a server that handles it after the TLS handshake."""
    context = server_context(certificate)
    context.minimum_version = context.maximum_version = version
    over = threading.Event()

    def handle(connection: socket.socket) -> None:
        connection.settimeout(TIMEOUT)
        try:
            handler(context.wrap_socket(connection, server_side=True))
        finally:
            over.set()

    with fake(handle) as port:
        trust = secure.client_context(certificate.cert)
        target = wire.Target("localhost", port, "/", True, context=trust)
        connection = wire.Connection(target, TIMEOUT, wire.Trace())
        yield connection
        connection.close()
        assert over.wait(TIMEOUT)


@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
def test_what_comes_after_the_half_close_is_received(
    version: ssl.TLSVersion, certificate: Certificate
) -> None:
    """close_notify and FIN go out, and answers under way come in."""

    def handler(peer: ssl.SSLSocket) -> None:
        assert peer.recv(100) == b"last words"
        assert peer.recv(100) == b""  # close_notify, or else this is an error
        raw = socket.socket(fileno=peer.detach())
        raw.settimeout(TIMEOUT)
        assert raw.recv(1) == b""  # FIN
        raw.close()

    with connected(certificate, handler, version) as connection:
        connection.send(b"last words")
        connection.finish()
        assert connection.at_end()
        assert connection.truncated
        assert connection.ends_both_directions == (version == ssl.TLSVersion.TLSv1_2)


@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
def test_data_before_the_end_of_tls_is_received(
    version: ssl.TLSVersion, certificate: Certificate
) -> None:
    """All of it; then close_notify is answered, and the end of TCP is awaited."""
    data = bytes(range(256)) * 1000

    def handler(peer: ssl.SSLSocket) -> None:
        peer.sendall(data)
        peer.unwrap().close()  # the first one waits for the answer

    with connected(certificate, handler, version) as connection:
        assert connection.read(len(data)) == data
        assert connection.at_end()
        assert not connection.truncated
        assert connection.over and not connection.over.reset


def test_a_server_that_ends_only_tls(certificate: Certificate) -> None:
    """That is not the end of TCP, and later bytes are ignored (RFC 8446 section 6.1)."""
    go = threading.Event()

    def handler(peer: ssl.SSLSocket) -> None:
        raw = socket.socket(fileno=socket.dup(peer.fileno()))
        peer.unwrap()
        raw.sendall(b"in the clear")
        assert go.wait(TIMEOUT)
        raw.close()

    with connected(certificate, handler, ssl.TLSVersion.TLSv1_3) as connection:
        assert not connection.at_end(0.3)
        assert connection.buffer == b""
        go.set()
        assert connection.at_end()


@pytest.mark.parametrize("version", VERSIONS, ids=["1.2", "1.3"])
def test_a_broken_record(version: ssl.TLSVersion, certificate: Certificate) -> None:
    """What came before it is received, and the end says what failed."""

    def handler(peer: ssl.SSLSocket) -> None:
        peer.sendall(b"before")
        raw = socket.socket(fileno=socket.dup(peer.fileno()))
        raw.sendall(b"\x17\x03\x03\x00\x20" + b"x" * 32)
        raw.settimeout(TIMEOUT)
        while raw.recv(65536):
            pass
        raw.close()

    with connected(certificate, handler, version) as connection:
        assert connection.read(6) == b"before"
        for _ in range(2):
            with pytest.raises(wire.Ended, match="TLS failed: .*") as info:
                connection.read(1)
            assert info.value.reset
        connection.close()


def test_much_is_sent_and_received_at_the_same_time(certificate: Certificate) -> None:
    """Neither side waits for the other, and nothing is lost when the kernel takes parts."""
    data = bytes(range(256)) * (4 << 12)
    received: List[int] = []

    def handler(peer: ssl.SSLSocket) -> None:
        peer.sendall(data)  # not read before all of it is accepted
        got = bytearray()
        while len(got) < len(data):
            got += peer.recv(65536)
        received.append(len(got))
        assert got == data
        peer.sendall(b"end")

    with connected(certificate, handler, ssl.TLSVersion.TLSv1_3) as connection:
        connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        connection.send(data)
        assert connection.read(len(data) + 3) == data + b"end"
    assert received == [len(data)]


def test_pieces_are_records(certificate: Certificate) -> None:
    """Octets sent one by one arrive one by one, as far as TLS tells."""
    got: List[bytes] = []

    def handler(peer: ssl.SSLSocket) -> None:
        for _ in range(5):
            got.append(peer.recv(100))

    with connected(certificate, handler, ssl.TLSVersion.TLSv1_3) as connection:
        connection.send(b"Hello", pieces=1)
    assert got == [b"H", b"e", b"l", b"l", b"o"]


def test_records_are_cut(certificate: Certificate) -> None:
    """Those of a few bytes, such as small frames; what the server reads is the same."""
    got: List[bytes] = []
    parts: List[int] = []

    def handler(peer: ssl.SSLSocket) -> None:
        got.append(peer.recv(100))

    with connected(certificate, handler, ssl.TLSVersion.TLSv1_3) as connection:
        assert isinstance(connection.socket, secure.Secure)
        cutter = connection.socket
        cutter.cut = True
        whole = cutter.next_part

        def next_part() -> bytearray:
            parts.append(len(whole()))
            return whole()

        cutter.next_part = next_part  # type: ignore[method-assign]
        connection.send(b"Hello")
    assert got == [b"Hello"]
    assert len(parts) > 5 and max(parts) <= 7


def test_a_reset_is_a_reset(certificate: Certificate) -> None:
    """The peer sees RST, and neither close_notify nor FIN."""
    errors: List[BaseException] = []

    def handler(peer: ssl.SSLSocket) -> None:
        peer.sendall(b"ready")
        raw = socket.socket(fileno=peer.detach())  # SSLSocket may hide it
        raw.settimeout(TIMEOUT)
        try:
            raw.recv(100)
        except OSError as error:
            errors.append(error)
        raw.close()

    with connected(certificate, handler, ssl.TLSVersion.TLSv1_3) as connection:
        assert connection.read(5) == b"ready"
        connection.reset()
    assert [type(error) for error in errors] == [ConnectionResetError]


def test_tls_that_ends_without_close_notify_is_not_clean(
    certificate: Certificate, reports: Reports
) -> None:
    """T.2.2: "cleanly closes the TCP connection, as well as the TLS session"."""
    context = server_context(certificate)

    def handler(connection: socket.socket) -> None:
        peer = context.wrap_socket(connection, server_side=True)
        upgrade(peer)
        frame = peer.recv(100)
        peer.sendall(wire.frame(wire.masked(frame[6:], frame[2:6]), wire.CLOSE, key=None))
        connection.close()
        peer.close()

    def good(connection: socket.socket) -> None:
        echo(context.wrap_socket(connection, server_side=True))

    with fake(turning(handler, echo=good)) as port:
        options = ["--insecure", "--include", "T.2.2", "--timeout", "10", *reports.options]
        assert cli.main([f"wss://localhost:{port}/", *options]) == cli.FINE
    (case,) = reports.run()["cases"]
    assert (case["verdict"], case["came"]) == ("NON-STRICT", "TLS ended without close_notify")
