# SPDX-License-Identifier: MIT
"""Echo server with `socketify`. Messages to /broadcast go to all clients there."""

import sys
from typing import Any

from socketify import (  # type: ignore[import-not-found, unused-ignore]
    App,
    AppListenOptions,
    CompressOptions,
)

DEFLATE = "--deflate" in sys.argv
TOPIC = "all"


def echo(ws: Any, message: Any, opcode: Any) -> None:
    ws.send(message, opcode)


def echo_compressed(ws: Any, message: Any, opcode: Any) -> None:
    ws.send(message, opcode, True)


def join(ws: Any) -> None:
    ws.subscribe(TOPIC)


def spread(ws: Any, message: Any, opcode: Any) -> None:
    ws.publish(TOPIC, message, opcode)  # the sender gets it too


def main() -> None:
    app = App()
    shared = CompressOptions.SHARED_COMPRESSOR
    common = {"max_payload_length": 1024 * 1024, "max_backpressure": 16 * 1024 * 1024}
    plain = {**common, "compression": CompressOptions.DISABLED}
    app.ws("/broadcast", {**plain, "open": join, "message": spread})
    if DEFLATE:
        app.ws("/*", {**common, "compression": shared, "message": echo_compressed})
    else:
        app.ws("/*", {**plain, "message": echo})
    app.listen(
        AppListenOptions(port=0, host="127.0.0.1"),
        lambda place: print(f"listening on 127.0.0.1:{place.port}", flush=True),
    )
    app.run()


if __name__ == "__main__":
    main()
