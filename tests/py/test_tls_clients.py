# SPDX-License-Identifier: MIT
"""L2: clients that are not of these tests: websockets, curl, asyncio, the openssl command."""

import asyncio
import shutil
import ssl
import subprocess
from pathlib import Path
from typing import Any, Callable, List, Optional

import pytest
from authority import Pair, authority
from common import TIMEOUT, without_sanitizer
from curl import curl
from peer import frame, handshake
from tls_clients import CRYPTIC, client_context, connected, opened, tls_peer
from tls_server import Secure, files, with_contexts

from pyws import App, TlsInfo
from pyws.testing import running


@pytest.fixture(autouse=True)
def without_the_authority(monkeypatch: pytest.MonkeyPatch) -> None:
    """With PYWS_TEST_TLS=1 all clients would trust it."""
    for name in ("SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


def test_l2_websockets(secure: Callable[..., Secure]) -> None:
    connect = pytest.importorskip("websockets.sync.client").connect
    server = secure()
    url = f"wss://localhost:{server.port}/chat"
    with connect(url, ssl=client_context(), open_timeout=TIMEOUT) as client:
        for message in ("text", b"bytes", "", "x" * 10_000):
            client.send(message)
            assert client.recv(TIMEOUT) == message
    with pytest.raises(ssl.SSLError, match="(?i)verif"):
        connect(url, ssl=ssl.create_default_context(), open_timeout=TIMEOUT)
    server.check()


@pytest.mark.parametrize(
    "more",
    [
        [], ["--http1.0"], ["--http1.1"], ["--no-alpn"], ["--tlsv1.3"], ["--tls-max", "1.2"],
        ["--no-sessionid"],
    ],
    ids=lambda more: " ".join(more),
)  # fmt: skip
def test_l2_curl(secure: Callable[..., Secure], more: List[str]) -> None:
    server = secure()
    url = f"https://localhost:{server.port}/scheme"
    assert curl("--cacert", authority().cert, *more, url) == b'["https",true]'
    with pytest.raises(subprocess.CalledProcessError) as info:
        curl(url)
    assert info.value.returncode == 60  # it does not know the authority


NAME = "chat.example"  # what the clients ask for who show a certificate


@pytest.fixture
def strict(secure: Callable[..., Secure]) -> Secure:
    """A server that wants a certificate of all who ask for NAME."""
    mine = authority().server_context(NAME, clients=True)
    return secure(ssl={NAME: mine, "*": authority().server_context()})


def check_info(info: Optional[TlsInfo], shown: Pair) -> None:
    """What ws.tls or req.tls says of such a client."""
    assert info is not None
    assert info.server_name == NAME
    expected = ssl.PEM_cert_to_DER_cert(Path(shown.cert).read_text(encoding="ascii"))
    assert info.peer_certificate == expected


@with_contexts
def test_l1_l2_curl_with_a_certificate(strict: Secure) -> None:
    url = f"https://{NAME}:{strict.port}/scheme"
    pair = authority().issue("jane.example")
    known = ["--cacert", authority().cert, "--resolve", f"{NAME}:{strict.port}:127.0.0.1"]
    assert curl(*known, "--cert", pair.cert, "--key", pair.key, url) == b'["https",true]'
    check_info(strict.asked[-1], pair)
    with pytest.raises(subprocess.CalledProcessError):
        curl(*known, url)
    assert len(strict.asked) == 1


@with_contexts
def test_l1_l2_websockets_with_a_certificate(strict: Secure) -> None:
    connect = pytest.importorskip("websockets.sync.client").connect
    from websockets.exceptions import WebSocketException

    url = f"wss://{NAME}:{strict.port}/chat"
    pair = authority().issue("jane.example")
    shown = authority().client_context(pair)
    with connect(url, sock=connected(strict.port), ssl=shown, open_timeout=TIMEOUT) as client:
        client.send("hello")
        assert client.recv(TIMEOUT) == "hello"
    check_info(strict.infos[-1], pair)
    with pytest.raises((*CRYPTIC, WebSocketException)):  # with TLS 1.3 it learns of it late
        connect(url, sock=connected(strict.port), ssl=client_context(), open_timeout=TIMEOUT)
    assert len(strict.infos) == 1


def test_l2_asyncio(secure: Callable[..., Secure]) -> None:
    server = secure()

    async def run() -> bytes:
        reader, writer = await asyncio.open_connection(
            "localhost", server.port, ssl=client_context(), server_hostname="localhost"
        )
        writer.write(handshake() + frame(b"x" * 100))
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 101 ")
        data = await reader.readexactly(102)
        writer.close()
        return data[2:]

    assert asyncio.run(asyncio.wait_for(run(), TIMEOUT)) == b"x" * 100


def s_client(port: int, sent: bytes, *more: str) -> Any:
    return subprocess.run(
        ["openssl", "s_client", "-connect", f"127.0.0.1:{port}", "-servername", "localhost",
         "-CAfile", authority().cert, *more],
        input=sent, capture_output=True, timeout=TIMEOUT, env=without_sanitizer(),
    )  # fmt: skip


@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
def test_l2_the_openssl_command(secure: Callable[..., Secure]) -> None:
    """It verifies the chain, and is refused with versions and a renegotiation of other times."""
    server = secure()
    request = b"GET /scheme HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    done = s_client(server.port, request, "-quiet", "-verify_return_error")
    assert done.returncode == 0, done.stderr
    for version in ("-tls1", "-tls1_1"):
        done = s_client(server.port, request, version, "-cipher", "ALL:@SECLEVEL=0")
        assert done.returncode != 0
        assert b"https" not in done.stdout
    done = s_client(server.port, b"R\n", "-tls1_2")  # asks for a renegotiation
    assert done.returncode != 0
    assert b"no renegotiation" in done.stderr
    server.check()


@with_contexts
@pytest.mark.skipif(not shutil.which("openssl"), reason="no openssl here")
def test_l4_t86_keys_that_cost_much_to_exchange(secure: Callable[..., Secure]) -> None:
    """A context of the program has all groups of OpenSSL, but FFDHE is not computed."""
    server = secure(ssl=authority().server_context())
    request = b"GET /scheme HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n"
    done = s_client(server.port, request, "-tls1_3", "-groups", "P-521", "-ign_eof")
    assert done.returncode == 0 and b"https" in done.stdout, done.stderr
    for groups in ("ffdhe8192", "ffdhe2048"):
        done = s_client(server.port, request, "-tls1_3", "-groups", groups)
        if b"-groups" in done.stderr:
            pytest.skip("this openssl has no FFDHE in TLS 1.3")
        assert done.returncode != 0
        assert b"handshake failure" in done.stderr
    server.check()


def test_l2_coroutine_handlers() -> None:
    """An app in the loop of asyncio."""
    app = App()

    async def echo(ws: Any, message: Any, opcode: Any) -> None:
        await asyncio.sleep(0)
        ws.send([message, ws.tls.version])

    app.ws("/slow", message=echo)
    app.listen(0, host="127.0.0.1", **files())
    with running(app) as url:
        assert url.startswith("wss://")
        with opened(tls_peer(app.port), "/slow") as peer:
            for _ in range(3):
                peer.send(frame(b"x"))
                assert peer.frame().payload == b'["x","TLSv1.3"]'
