"""Check an installation of pyws with one server, one client and one echoed message.

    python packaging/smoke.py

Needs only pyws. Prints the versions and exits with 0, or fails with a traceback.
"""

from __future__ import annotations

import platform
import socket
import threading

import pyws

REQUEST = (
    b"GET / HTTP/1.1\r\nHost: localhost\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
# "hi" as a text frame, masked with zeros, and the expected reply.
FRAME = b"\x81\x82\x00\x00\x00\x00hi"
REPLY = b"\x81\x02hi"


def talk(port: int, received: list[bytes]) -> None:
    with socket.create_connection(("127.0.0.1", port), timeout=10) as peer:
        peer.sendall(REQUEST + FRAME)
        data = b""
        while not data.endswith(REPLY):
            chunk = peer.recv(4096)
            if not chunk:
                break
            data += chunk
        received.append(data)


def main() -> None:
    received: list[bytes] = []
    app = pyws.App()
    app.ws(
        "/",
        {
            "message": lambda ws, message, opcode: ws.send(message, opcode),
            "close": lambda ws, code, message: app.close(),
        },
    )
    ports: list[int] = []
    app.listen(
        pyws.AppListenOptions(port=0, host="127.0.0.1"), lambda options: ports.append(options.port)
    )
    client = threading.Thread(target=talk, args=(ports[0], received), daemon=True)
    client.start()
    app.run()
    client.join(10)
    assert received, "the client got no answer"
    assert received[0].startswith(b"HTTP/1.1 101 "), received[0]
    assert received[0].endswith(REPLY), received[0]
    print(f"pyws {pyws.__version__} on {platform.python_implementation()}", end=" ")
    print(f"{platform.python_version()}, {pyws.__file__}")


if __name__ == "__main__":
    main()
