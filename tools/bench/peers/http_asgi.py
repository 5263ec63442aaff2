# SPDX-License-Identifier: MIT
"""What http.py measures of uvicorn and granian: an application without a framework.

sys.argv[1] is the folder of the file. It runs on uvicorn with httptools and uvloop, or with
--granian on granian; with --rsgi through the interface of granian itself.
"""

import os
import sys
from typing import Any

import uvloop  # type: ignore[import-not-found, unused-ignore]
from serving import serve_granian, serve_uvicorn

FILE = os.path.join(sys.argv[1], "file")
TEXT = b"Hello, world!\n"


async def answer(send: Any, content: bytes) -> None:
    length = str(len(content)).encode()
    headers = [(b"content-type", b"text/plain"), (b"content-length", length)]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})


async def asgi(scope: Any, receive: Any, send: Any) -> None:
    path = scope["path"]
    if path == "/text":
        await answer(send, TEXT)
        return
    if path == "/file":
        await send_file(scope, receive, send)
        return
    parts, size, more = [], 0, True
    while more:
        event = await receive()
        chunk = event.get("body", b"")
        more = event.get("more_body", False)
        size += len(chunk)
        if path == "/read":
            parts.append(chunk)
    await answer(send, str(len(b"".join(parts)) if parts else size).encode())


async def send_file(scope: Any, receive: Any, send: Any) -> None:
    from starlette.responses import (  # type: ignore[import-not-found, unused-ignore]
        FileResponse,
    )

    await FileResponse(FILE)(scope, receive, send)


async def rsgi(scope: Any, protocol: Any) -> None:
    headers = [("content-type", "text/plain")]
    if scope.path == "/text":
        protocol.response_bytes(200, headers, TEXT)
    elif scope.path == "/file":
        size = os.stat(FILE).st_size
        protocol.response_file(200, [*headers, ("content-length", str(size))], FILE)
    elif scope.path == "/read":
        protocol.response_str(200, headers, str(len(await protocol())))
    else:
        size = 0
        async for chunk in protocol:
            size += len(chunk)
        protocol.response_str(200, headers, str(size))


if __name__ == "__main__":
    if "--rsgi" in sys.argv:
        uvloop.run(serve_granian(rsgi, "RSGI"))
    else:
        uvloop.run(serve_granian(asgi) if "--granian" in sys.argv else serve_uvicorn(asgi))
