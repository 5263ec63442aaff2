# SPDX-License-Identifier: MIT
"""Echo server with `socketify`: messages of up to 16 MiB, compressed where that was agreed on."""

from typing import Any

from socketify import (  # type: ignore[import-not-found, unused-ignore]
    App,
    AppListenOptions,
    CompressOptions,
)


def echo(ws: Any, message: Any, opcode: Any) -> None:
    ws.send(message, opcode, True)


def main() -> None:
    app = App()
    behavior = {
        "compression": CompressOptions.DEDICATED_COMPRESSOR,
        "max_payload_length": 16 * 1024 * 1024,
        "max_backpressure": 128 * 1024 * 1024,
        "message": echo,
    }
    app.ws("/*", behavior)
    app.listen(
        AppListenOptions(port=0, host="127.0.0.1"),
        lambda place: print(f"listening on 127.0.0.1:{place.port}", flush=True),
    )
    app.run()


main()
