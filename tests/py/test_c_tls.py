# SPDX-License-Identifier: MIT
"""Programs in C that speak TLS: the echo servers of examples/c, with the sources beside them."""

from __future__ import annotations

import shutil
import signal
import ssl
import subprocess
import sys
import time
from pathlib import Path

import pytest
from common import ROOT, TIMEOUT
from peer import eventually
from program import Executable
from shared import made_once
from tls_relay import Certificate, make_certificate

sys.path.insert(0, str(ROOT / "tools"))

from conformance import secure, wire
from conformance.probe import Visit

pytestmark = pytest.mark.packaging
LINKED = {
    "openssl": ["-lssl", "-lcrypto"],
    "mbedtls": ["-lmbedtls", "-lmbedx509", "-lmbedcrypto"],
}
EXAMPLES = {"openssl": "echo_tls.c", "mbedtls": "echo_mbedtls.c"}


@pytest.fixture(scope="module")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return make_certificate(tmp_path_factory.mktemp("certificate"))


@pytest.fixture(scope="module", params=list(LINKED))
def program(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The echo server with a TLS library, built without a build system."""
    library = str(request.param)
    compiler = shutil.which("cc")
    if not compiler or not Path(f"/usr/include/{library}/ssl.h").exists():
        pytest.skip(f"needs a C compiler and the headers of {library}")

    def build(folder: Path) -> None:
        flags = ["-std=c11", f"-DWS_TLS_{library.upper()}", "-DWS_NO_DEFLATE"]
        sources = [str(path) for path in (ROOT / "csrc").glob("*.c") if "bridge" not in path.stem]
        example = str(ROOT / "examples/c" / EXAMPLES[library])
        command = [compiler, *flags, f"-I{ROOT / 'csrc'}", *sources, example]
        link = ["-o", str(folder / "echo"), *LINKED[library]]
        subprocess.run([*command, *link], check=True, timeout=300)

    return made_once(tmp_path_factory, library, build) / "echo"


class Echo(Executable):
    """The program, with a certificate and key in files that a test may change."""

    def __init__(self, path: Path, folder: Path, certificate: Certificate) -> None:
        self.cert, self.key = folder / "cert.pem", folder / "key.pem"
        self.use(certificate.cert, certificate.key)
        files = ["--cert", str(self.cert), "--key", str(self.key)]
        super().__init__(str(path), *files)
        self.port = int(self.line().rpartition(":")[2])

    def use(self, cert: str, key: str) -> None:
        shutil.copy(cert, self.cert)
        shutil.copy(key, self.key)

    def visit(self) -> Visit:
        """A client's connection, which accepts any certificate."""
        context = secure.client_context(insecure=True)
        return Visit(wire.Target("localhost", self.port, "/", True, context=context), TIMEOUT)

    def shows(self, cert: str) -> bool:
        """Whether a new connection gets this certificate."""
        return shown(self.visit()) == ssl.PEM_cert_to_DER_cert(Path(cert).read_text())

    def reloaded(self) -> bool:
        self.process.send_signal(signal.SIGHUP)
        time.sleep(0.01)
        return True


def shown(visit: Visit) -> bytes:
    """The certificate of the server, after which the connection is closed."""
    with visit:
        assert isinstance(visit.connection.socket, secure.Secure)
        return visit.connection.socket.tls.getpeercert(True) or b""


def test_it_echoes(program: Path, certificate: Certificate, tmp_path: Path) -> None:
    with Echo(program, tmp_path, certificate) as server:
        with server.visit() as visit:
            assert [visit.echo(number) for number in range(3)] == [0, 0, 0]
            visit.connection.send(wire.frame(b"\x03\xe8", wire.CLOSE))
            assert visit.connection.read_frame().opcode == wire.CLOSE
            assert visit.connection.at_end()
            assert not visit.connection.truncated  # it has sent close_notify
        assert server.stop(signal.SIGTERM) == 0
        assert server.error_text() == ""


def test_a_renewed_certificate(program: Path, certificate: Certificate, tmp_path: Path) -> None:
    """New connections get it; those that exist are not disturbed."""
    with Echo(program, tmp_path, certificate) as server:
        assert server.shows(certificate.cert)
        with server.visit() as old:
            server.use(certificate.other_cert, certificate.other)
            server.reloaded()
            eventually(lambda: server.shows(certificate.other_cert))
            assert old.echo(1) == 0
        server.cert.write_text("no certificate")
        # The connection of before may not have ended there yet.
        eventually(lambda: server.reloaded() and str(server.cert) in server.error_text())
        assert server.shows(certificate.other_cert)
        server.use(certificate.cert, certificate.key)
        server.reloaded()
        eventually(lambda: server.shows(certificate.cert))
        assert server.stop(signal.SIGTERM) == 0


def test_files_that_cannot_be_used(program: Path, certificate: Certificate, tmp_path: Path) -> None:
    """The error names the file."""
    for cert, key, name in (
        ("/no/such/file", certificate.key, "/no/such/file"),
        (certificate.cert, certificate.cert, certificate.cert),
        (certificate.key, certificate.key, certificate.key),
    ):
        done = subprocess.run(
            [program, "--cert", cert, "--key", key], capture_output=True, timeout=60
        )
        assert done.returncode == 1
        assert f": {name}: " in done.stderr.decode()
