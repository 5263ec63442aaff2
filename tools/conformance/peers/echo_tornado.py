# SPDX-License-Identifier: MIT
"""Echo server with `tornado`: its defaults, a limit of 16 MiB, and permessage-deflate."""

import asyncio
from typing import Any, Dict, Union

from tornado.httpserver import HTTPServer  # type: ignore[import-not-found, unused-ignore]
from tornado.netutil import bind_sockets  # type: ignore[import-not-found, unused-ignore]
from tornado.web import Application  # type: ignore[import-not-found, unused-ignore]
from tornado.websocket import (  # type: ignore[import-not-found, unused-ignore]
    WebSocketHandler,
)


class Echo(WebSocketHandler):  # type: ignore[misc, unused-ignore]
    def get_compression_options(self) -> Dict[str, Any]:
        return {}

    async def on_message(self, message: Union[str, bytes]) -> None:
        await self.write_message(message, binary=isinstance(message, bytes))


async def main() -> None:
    sockets = bind_sockets(0, "127.0.0.1")
    application = Application([(".*", Echo)], websocket_max_message_size=16 * 1024 * 1024)
    HTTPServer(application).add_sockets(sockets)
    print(f"listening on 127.0.0.1:{sockets[0].getsockname()[1]}", flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
