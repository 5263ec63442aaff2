# SPDX-License-Identifier: MIT
"""Check an installation of pyws with a server, clients and echoed messages, also over TLS.

    python packaging/smoke.py

Needs only pyws, and for TLS the command `openssl`, which makes a certificate. Prints the versions
and exits with 0, or fails with a traceback.
"""

from __future__ import annotations

import os
import platform
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
from typing import Any

import pyws

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# "hi" as a text frame, masked with zeros, and the expected reply.
FRAME = b"\x81\x82\x00\x00\x00\x00hi"
REPLY = b"\x81\x02hi"


def talk(port: int, received: list[bytes], authority: str | None) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        if authority is not None:
            context = ssl.create_default_context(cafile=authority)
            peer = context.wrap_socket(peer, server_hostname="localhost")
        peer.sendall(REQUEST + FRAME)
        data = b""
        while not data.endswith(REPLY):
            chunk = peer.recv(4096)
            if not chunk:
                break
            data += chunk
        received.append(data)
        peer.close()


def check(authority: str | None = None, **options: Any) -> None:
    """Echo a message; with the certificate of the server as the authority, over TLS."""
    received: list[bytes] = []
    app = pyws.App()
    app.ws(
        "/",
        {
            "message": lambda ws, message, opcode: ws.send(message, opcode),
            "close": lambda ws, code, message: app.close(),
        },
    )
    app.listen(0, host="127.0.0.1", **options)
    client = threading.Thread(target=talk, args=(app.port, received, authority), daemon=True)
    client.start()
    app.run()
    client.join(10)
    assert received, "the client got no answer"
    assert received[0].startswith(b"HTTP/1.1 101 "), received[0]
    assert received[0].endswith(REPLY), received[0]


def check_tls() -> str:
    """Echo over TLS; returns what there is to say about it."""
    if not shutil.which("openssl"):
        return "TLS not tried: no openssl"
    with tempfile.TemporaryDirectory() as folder:
        cert_file, key_file = os.path.join(folder, "cert.pem"), os.path.join(folder, "key.pem")
        command = [
            "openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1",
            "-nodes", "-days", "2", "-subj", "/CN=localhost",
            "-addext", "subjectAltName=DNS:localhost",
            "-addext", "keyUsage=digitalSignature,keyCertSign",
        ]  # fmt: skip
        subprocess.run(
            [*command, "-out", cert_file, "-keyout", key_file], check=True, capture_output=True
        )
        check(cert_file, cert_file=cert_file, key_file=key_file)
    return "and TLS"


def main() -> None:
    check()
    tls = check_tls()
    print(f"pyws {pyws.__version__} on {platform.python_implementation()}", end=" ")
    print(f"{platform.python_version()}, {pyws.__file__}, {tls}")


if __name__ == "__main__":
    main()
