# SPDX-License-Identifier: MIT
"""What http.py measures of socketify. sys.argv[1] is the folder of the file."""

import os
import sys
from typing import Any

from socketify import (  # type: ignore[import-not-found, unused-ignore]
    App,
    AppListenOptions,
    sendfile,
)

FILE = os.path.join(sys.argv[1], "file")


def get_text(res: Any, req: Any) -> None:
    res.end("Hello, world!\n")


async def get_file(res: Any, req: Any) -> None:
    await sendfile(res, req, FILE)


def post_read(res: Any, req: Any) -> None:
    parts = []

    def add(res: Any, chunk: Any, is_last: bool) -> None:
        parts.append(chunk)
        if is_last:
            res.end(str(len(b"".join(parts))))

    res.on_data(add)


def post_drop(res: Any, req: Any) -> None:
    size = 0

    def count(res: Any, chunk: Any, is_last: bool) -> None:
        nonlocal size
        size += len(chunk)
        if is_last:
            res.end(str(size))

    res.on_data(count)


def main() -> None:
    app = App()
    app.get("/text", get_text)
    app.get("/file", get_file)
    app.post("/read", post_read)
    app.post("/drop", post_drop)
    app.listen(
        AppListenOptions(port=0, host="127.0.0.1"),
        lambda place: print(f"listening on 127.0.0.1:{place.port}", flush=True),
    )
    app.run()


if __name__ == "__main__":
    main()
