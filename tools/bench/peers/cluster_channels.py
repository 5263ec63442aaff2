# SPDX-License-Identifier: MIT
"""Django Channels with channels_redis, on uvicorn: sys.argv[1] is the URL of Redis.

Messages to /publish go to the clients of /subscribe. With --pubsub, the layer uses the channels of
Redis; otherwise, as by default, its lists.
"""

import sys
from typing import Any, Dict

import django  # type: ignore[import-not-found, import-untyped, unused-ignore]
import uvloop  # type: ignore[import-not-found, unused-ignore]
from django.conf import settings  # type: ignore[import-not-found, import-untyped, unused-ignore]
from serving import serve_uvicorn

CORE = "channels_redis.core.RedisChannelLayer"
PUBSUB = "channels_redis.pubsub.RedisPubSubChannelLayer"
GROUP = "all"


def set_up() -> None:
    """Configure Django, which must come before the import of consumers."""
    config: Dict[str, Any] = {"hosts": [sys.argv[1]]}
    if "--pubsub" not in sys.argv:
        config["capacity"] = 10000  # beyond it, messages are dropped
    layer = PUBSUB if "--pubsub" in sys.argv else CORE
    settings.configure(CHANNEL_LAYERS={"default": {"BACKEND": layer, "CONFIG": config}})
    django.setup()


def routes() -> Any:
    from channels.generic.websocket import AsyncWebsocketConsumer  # type: ignore
    from channels.routing import URLRouter  # type: ignore
    from django.urls import path  # type: ignore

    class Publisher(AsyncWebsocketConsumer):  # type: ignore[misc, unused-ignore]
        async def receive(self, text_data: Any = None, bytes_data: Any = None) -> None:
            await self.channel_layer.group_send(GROUP, {"type": "spread", "text": text_data})

    class Subscriber(AsyncWebsocketConsumer):  # type: ignore[misc, unused-ignore]
        groups = (GROUP,)

        async def spread(self, event: Any) -> None:
            await self.send(text_data=event["text"])

    return URLRouter(
        [path("publish", Publisher.as_asgi()), path("subscribe", Subscriber.as_asgi())]
    )


if __name__ == "__main__":
    set_up()
    uvloop.run(serve_uvicorn(routes()))
