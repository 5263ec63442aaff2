# SPDX-License-Identifier: MIT
"""Echo server whose messages never reach Python: examples/c/native_handler.c handles them.

cc -shared -fPIC -I csrc -o native_handler.so examples/c/native_handler.c
python examples/py/native_handler.py ./native_handler.so
"""

import argparse
import ctypes

from pyws import App, AppListenOptions, WebSocket, library_path


def main() -> None:
    parser = argparse.ArgumentParser(description="Echo every message by a handler in C.")
    parser.add_argument("library", help="native_handler.so")
    parser.add_argument("--port", type=int, default=9001, help="0 picks a free one")
    args = parser.parse_args()

    ctypes.CDLL(library_path, mode=ctypes.RTLD_GLOBAL)  # the handlers call its functions
    handlers = ctypes.CDLL(args.library)
    handlers.echoed.restype = handlers.pings.restype = ctypes.c_ulong

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        print(f"{handlers.echoed()} messages, {handlers.pings()} pings", flush=True)

    app = App()
    app.ws("/*", message=handlers.echo, ping=handlers.count_ping, close=on_close)
    app.listen(
        AppListenOptions(host="127.0.0.1", port=args.port),
        lambda place: print(f"listening on {place}", flush=True),
    )
    app.run()


if __name__ == "__main__":
    main()
