# SPDX-License-Identifier: MIT
"""What http.py measures of pyws in Python. sys.argv[1] is the folder of the file.

With --coroutine, the handlers are coroutine functions.
"""

import os
import sys
from typing import Callable

from pyws import App, AppListenOptions, Request, Response

MOST = 16 * 1024 * 1024
FOLDER = sys.argv[1]
FILE = os.path.join(FOLDER, "file")


def get_text(res: Response, req: Request) -> None:
    res.end("Hello, world!\n")


def post_read(res: Response, req: Request) -> None:
    parts = []

    def add(res: Response, chunk: bytes, is_last: bool) -> None:
        parts.append(chunk)
        if is_last:
            res.end(str(len(b"".join(parts))))

    res.on_data(add)


def post_drop(res: Response, req: Request) -> None:
    size = 0

    def count(res: Response, chunk: bytes, is_last: bool) -> None:
        nonlocal size
        size += len(chunk)
        if is_last:
            res.end(str(size))

    res.on_data(count)


async def get_text_later(res: Response, req: Request) -> None:
    res.end("Hello, world!\n")


async def get_file_later(res: Response, req: Request) -> None:
    res.send_file(FILE)


async def post_read_later(res: Response, req: Request) -> None:
    res.end(str(len(await req.body())))


async def post_drop_later(res: Response, req: Request) -> None:
    size = 0
    async for chunk in req.stream():
        size += len(chunk)
    res.end(str(size))


def add_plain(app: App) -> None:
    app.get("/text", get_text)
    app.static("/", FOLDER)
    app.post("/read", post_read)
    app.post("/drop", post_drop)


def add_coroutines(app: App) -> None:
    app.get("/text", get_text_later)
    app.get("/file", get_file_later)
    app.post("/read", post_read_later)
    app.post("/drop", post_drop_later)


def main() -> None:
    app = App(max_body_size=MOST)
    add: Callable[[App], None] = add_coroutines if "--coroutine" in sys.argv else add_plain
    add(app)
    app.listen(
        AppListenOptions(host="127.0.0.1", port=0),
        lambda place: print(f"listening on 127.0.0.1:{place.port}", flush=True),
    )
    app.run()


if __name__ == "__main__":
    main()
