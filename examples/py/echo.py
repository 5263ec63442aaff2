# SPDX-License-Identifier: MIT
"""Echo server that sends every message back. `--help` lists its options."""

import argparse
from typing import Union

from pyws import App, AppListenOptions, OpCode, WebSocket


def on_message(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
    ws.send(message, opcode)


def main() -> None:
    parser = argparse.ArgumentParser(description="Echo every WebSocket message.")
    parser.add_argument("--host", default="127.0.0.1")
    parser.add_argument("--port", type=int, default=9001, help="0 picks a free one")
    args = parser.parse_args()

    app = App()
    app.ws(
        "/*",
        {
            "max_payload_length": 16 * 1024 * 1024,
            "max_backpressure": 64 * 1024 * 1024,
            "message": on_message,
        },
    )
    app.listen(
        AppListenOptions(host=args.host, port=args.port),
        lambda place: print(f"listening on {place}", flush=True),
    )
    app.run()


if __name__ == "__main__":
    main()
