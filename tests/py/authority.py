# SPDX-License-Identifier: MIT
"""Certificates for tests: an authority, servers, clients."""

import os
import shutil
import ssl
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple, Optional, Sequence

import pytest
from common import TIMEOUT, without_sanitizer

PASSWORD = "correct horse"


class Pair(NamedTuple):
    """A certificate and its key, in files."""

    cert: str
    key: str


class ByCommand:
    """An authority of the openssl command."""

    def __init__(self, folder: Path, name: str) -> None:
        self.folder = folder
        self._count = 0
        self._key("ca.key")
        self._openssl(
            "req", "-x509", "-new", "-key", "ca.key", "-sha256", "-days", "30",
            "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign,cRLSign",
            "-out", "ca.pem",
        )  # fmt: skip

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(
            ["openssl", *arguments],
            cwd=self.folder,
            check=True,
            timeout=TIMEOUT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            env=without_sanitizer(),
        )

    def _key(self, file: str, password: Optional[str] = None) -> None:
        curve = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:prime256v1")
        cipher = () if password is None else ("-aes256", "-pass", f"pass:{password}")
        self._openssl("genpkey", *curve, *cipher, "-out", file)

    def issue(self, base: str, hosts: Sequence[str], password: Optional[str]) -> None:
        """Make BASE.pem and BASE.key."""
        self._count += 1
        extensions = [
            "basicConstraints=CA:FALSE",  # Python 3.13 wants all that RFC 5280 wants
            "keyUsage=digitalSignature",
            "extendedKeyUsage=serverAuth,clientAuth",
            "subjectKeyIdentifier=hash",
            "authorityKeyIdentifier=keyid",
            "subjectAltName="
            + ",".join(f"{'IP' if host[-1].isdigit() else 'DNS'}:{host}" for host in hosts),
        ]
        (self.folder / f"{base}.ext").write_text("\n".join(extensions))
        self._key(f"{base}.key", password)
        secret = () if password is None else ("-passin", f"pass:{password}")
        self._openssl(
            "req", "-new", "-key", f"{base}.key", *secret, "-subj", f"/CN={hosts[0]}",
            "-out", f"{base}.csr",
        )  # fmt: skip
        self._openssl(
            "x509", "-req", "-in", f"{base}.csr", "-CA", "ca.pem", "-CAkey", "ca.key",
            "-set_serial", str(self._count), "-days", "20", "-sha256",
            "-extfile", f"{base}.ext", "-out", f"{base}.pem",
        )  # fmt: skip


class ByTrustme:
    """An authority of trustme, where there is no such command."""

    def __init__(self, folder: Path, name: str) -> None:
        trustme = pytest.importorskip("trustme", reason="neither openssl nor trustme")
        self.folder = folder
        self._ca = trustme.CA(organization_name=name)
        self._ca.cert_pem.write_to_path(folder / "ca.pem")

    def issue(self, base: str, hosts: Sequence[str], password: Optional[str]) -> None:
        """Make BASE.pem and BASE.key."""
        from cryptography.hazmat.primitives import serialization

        made = self._ca.issue_cert(*hosts, common_name=hosts[0])
        made.cert_chain_pems[0].write_to_path(self.folder / f"{base}.pem")
        key = made.private_key_pem.bytes()
        if password is not None:
            encryption = serialization.BestAvailableEncryption(password.encode())
            key = serialization.load_pem_private_key(key, None).private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encryption
            )
        (self.folder / f"{base}.key").write_bytes(key)


class Authority:
    """A certificate authority whose files are in a folder of its own."""

    def __init__(self, name: str = "authority") -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="pyws-tls-")
        self._count = 0
        self.path = Path(self._folder.name)
        self.cert = str(self.path / "ca.pem")
        backend = ByCommand if shutil.which("openssl") else ByTrustme
        self._backend: Any = backend(self.path, name)

    def issue(self, *hosts: str, password: Optional[str] = None) -> Pair:
        """A certificate for these server names and addresses, or with the name of a client."""
        self._count += 1
        base = f"{self._count}-{hosts[0].replace('*', 'star').replace(':', '')}"
        self._backend.issue(base, hosts, password)
        return Pair(str(self.path / f"{base}.pem"), str(self.path / f"{base}.key"))

    def client_context(self, pair: Optional[Pair] = None) -> ssl.SSLContext:
        """What a client needs that trusts this authority, and shows the certificate if asked."""
        context = ssl.create_default_context(cafile=self.cert)
        if pair is not None:
            context.load_cert_chain(*pair)
        return context

    def server_context(self, *hosts: str, clients: bool = False) -> ssl.SSLContext:
        """The context of a server with a certificate for these names.

        With `clients`, it takes only those that show a certificate of this authority.
        """
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*self.issue(*(hosts or ("localhost", "127.0.0.1"))))
        if clients:
            context.load_verify_locations(self.cert)
            context.verify_mode = ssl.CERT_REQUIRED
        return context


@lru_cache(maxsize=None)
def _authority(pid: int) -> Authority:
    return Authority()


def authority() -> Authority:
    """The authority of this process."""
    return _authority(os.getpid())


@lru_cache(maxsize=None)
def localhost() -> Pair:
    """Its certificate for 127.0.0.1 and localhost."""
    return authority().issue("localhost", "127.0.0.1")
