"""Echo server with pyws. Messages to /broadcast go to all clients there."""

import sys
from typing import Union

from pyws import App, AppListenOptions, CompressOptions, OpCode, WebSocket

DEFLATE = "--deflate" in sys.argv
TOPIC = "all"


def echo(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
    ws.send(message, opcode)


def echo_compressed(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
    ws.send(message, opcode, compress=True)


def join(ws: WebSocket) -> None:
    ws.subscribe(TOPIC)


def spread(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None:
    ws.publish(TOPIC, message, opcode)


def main() -> None:
    app = App()
    shared = CompressOptions.SHARED_COMPRESSOR | CompressOptions.SHARED_DECOMPRESSOR
    app.ws(
        "/*",
        {
            "compression": shared if DEFLATE else CompressOptions.DISABLED,
            "max_payload_length": 1024 * 1024,
            "message": echo_compressed if DEFLATE else echo,
        },
    )
    app.ws("/broadcast", {"open": join, "message": spread})
    app.listen(
        AppListenOptions(host="127.0.0.1", port=0),
        lambda place: print(f"listening on 127.0.0.1:{place.port}", flush=True),
    )
    app.run()


if __name__ == "__main__":
    main()
