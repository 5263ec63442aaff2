# SPDX-License-Identifier: MIT
"""Echo server as an ASGI application for the named server, with its defaults.

python echo_asgi.py uvicorn|uvicorn-wsproto|granian
"""

import os
import socket
import sys
import threading
import time
from typing import Any


async def app(scope: Any, receive: Any, send: Any) -> None:
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 400, "headers": []})
        await send({"type": "http.response.body", "body": b""})
    elif scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        while True:
            event = await receive()
            if event["type"] == "websocket.disconnect":
                return
            await send({**event, "type": "websocket.send"})


def uvicorn(implementation: str) -> None:
    from uvicorn import Config, Server  # type: ignore[import-not-found, unused-ignore]

    place = socket.create_server(("127.0.0.1", 0))
    print(f"listening on 127.0.0.1:{place.getsockname()[1]}", flush=True)
    config = Config(app, ws=implementation, lifespan="off", log_level="critical")
    Server(config).run(sockets=[place])


def granian() -> None:
    from granian import Granian  # type: ignore[import-not-found, unused-ignore]

    with socket.create_server(("127.0.0.1", 0)) as place:  # it does not report its port
        port = place.getsockname()[1]
    threading.Thread(target=announce, args=[port], daemon=True).start()
    Granian("echo_asgi:app", "127.0.0.1", port, interface="asginl", log_enabled=False).serve()


def announce(port: int) -> None:
    """Print the port when the server accepts connections, which is later than on_startup."""
    while socket.socket().connect_ex(("127.0.0.1", port)):
        time.sleep(0.1)
    print(f"listening on 127.0.0.1:{port}", flush=True)


if __name__ == "__main__":
    os.chdir(os.path.dirname(os.path.abspath(__file__)))
    if sys.argv[1] == "granian":
        granian()
    else:
        uvicorn("wsproto" if sys.argv[1].endswith("wsproto") else "auto")
