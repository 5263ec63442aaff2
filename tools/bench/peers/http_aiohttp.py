# SPDX-License-Identifier: MIT
"""What http.py measures of aiohttp on uvloop. sys.argv[1] is the folder of the file."""

import asyncio
import os
import sys
from typing import Any

import uvloop  # type: ignore[import-not-found, unused-ignore]
from aiohttp import web  # type: ignore[import-not-found, unused-ignore]

FILE = os.path.join(sys.argv[1], "file")


async def get_text(request: Any) -> Any:
    return web.Response(text="Hello, world!\n")


async def get_file(request: Any) -> Any:
    return web.FileResponse(FILE)


async def post_read(request: Any) -> Any:
    return web.Response(text=str(len(await request.read())))


async def post_drop(request: Any) -> Any:
    size = 0
    async for chunk in request.content.iter_any():
        size += len(chunk)
    return web.Response(text=str(size))


async def main() -> None:
    app = web.Application(client_max_size=16 * 1024 * 1024)
    app.router.add_get("/text", get_text)
    app.router.add_get("/file", get_file)
    app.router.add_post("/read", post_read)
    app.router.add_post("/drop", post_drop)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    print(f"listening on 127.0.0.1:{runner.addresses[0][1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
