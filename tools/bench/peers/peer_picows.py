# SPDX-License-Identifier: MIT
"""Echo server with the core of `picows` on uvloop: frames, no messages, and no compression.

Messages to /broadcast go to all clients there.
"""

import asyncio
from typing import Any, Set

import secure
import uvloop  # type: ignore[import-not-found, unused-ignore]
from picows import (  # type: ignore[import-not-found, unused-ignore]
    WSListener,
    WSMsgType,
    ws_create_server,
)

members: Set[Any] = set()


class Echo(WSListener):  # type: ignore[misc, unused-ignore]
    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
        else:
            transport.send(frame.msg_type, frame.get_payload_as_memoryview())


class Spread(WSListener):  # type: ignore[misc, unused-ignore]
    def on_ws_connected(self, transport: Any) -> None:
        members.add(transport)

    def on_ws_disconnected(self, transport: Any) -> None:
        members.discard(transport)

    def on_ws_frame(self, transport: Any, frame: Any) -> None:
        if frame.msg_type == WSMsgType.CLOSE:
            transport.send_close(frame.get_close_code(), frame.get_close_message())
            transport.disconnect()
            return
        payload = frame.get_payload_as_bytes()
        for member in members:
            member.send(frame.msg_type, payload)


def choose(request: Any) -> Any:
    return Spread() if request.path == b"/broadcast" else Echo()


async def main() -> None:
    options: Any = {"max_frame_size": 1024 * 1024, "ssl": secure.context()}
    server = await ws_create_server(choose, "127.0.0.1", 0, **options)
    print(f"listening on 127.0.0.1:{server.sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


if __name__ == "__main__":
    uvloop.run(main())
