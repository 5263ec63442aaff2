# SPDX-License-Identifier: MIT
"""uvicorn and granian on a port that the kernel picks, for the ASGI programs of this folder."""

import asyncio
import socket
from typing import Any

import secure

MOST = 1024 * 1024


async def serve_uvicorn(app: Any) -> None:
    """Serve until SIGTERM; prints the port."""
    import uvicorn  # type: ignore[import-not-found, unused-ignore]

    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    options = {"ws_max_size": MOST, "ws_per_message_deflate": False, "lifespan": "off"}
    files = {f"ssl_{name}": path for name, path in secure.files().items()}
    more = {"log_level": "error", "access_log": False, "timeout_graceful_shutdown": 1}
    server = uvicorn.Server(uvicorn.Config(app, **options, **more, **files))
    task = asyncio.ensure_future(server.serve([listener]))
    while not server.started:
        await asyncio.sleep(0.01)
    print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
    await task


async def serve_granian(app: Any, interface: str = "ASGI") -> None:
    """The same on granian."""
    from granian.constants import Interfaces  # type: ignore[import-not-found, unused-ignore]
    from granian.server.embed import Server  # type: ignore[import-not-found, unused-ignore]

    with socket.socket() as finder:
        finder.bind(("127.0.0.1", 0))
        port = finder.getsockname()[1]
    server = Server(app, "127.0.0.1", port, interface=Interfaces[interface], log_enabled=False)
    task = asyncio.ensure_future(server.serve())
    while True:
        try:
            _, writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            await asyncio.sleep(0.01)
        else:
            writer.close()
            break
    print(f"listening on 127.0.0.1:{port}", flush=True)
    await task
