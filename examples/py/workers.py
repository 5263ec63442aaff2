# SPDX-License-Identifier: MIT
"""Echo server with several processes. `--help` lists its options.

Every answer begins with the id of the process that sent it.
"""

import argparse
import os
from typing import Union

from pyws import App, AppListenOptions, OpCode, WebSocket


def on_message(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
    if isinstance(message, str):
        ws.send(f"{os.getpid()}: {message}")
    else:
        ws.send(message)


def main() -> None:
    parser = argparse.ArgumentParser(description="Echo by several processes.")
    parser.add_argument("--port", type=int, default=9001, help="0 picks a free one")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    args = parser.parse_args()

    app = App()
    app.ws("/*", message=on_message)
    app.listen(
        AppListenOptions(host="127.0.0.1", port=args.port),
        lambda place: print(f"listening on {place}", flush=True),
    )
    app.run(workers=args.workers)


if __name__ == "__main__":
    main()
