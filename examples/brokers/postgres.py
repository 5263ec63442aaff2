# SPDX-License-Identifier: MIT
"""PostgreSQL as a broker, by LISTEN and NOTIFY and psycopg 3.2 (pip install "psycopg[binary]").

    app = App(broker=PostgresBroker("postgresql://user:password@host/database"))

NOTIFY carries at most 7,999 bytes of text, which are 5,994 bytes in base64: longer messages reach
only the machine that publishes them, and count as lost. A channel is the hash of a topic.
"""

import asyncio
from base64 import b64decode, b64encode
from hashlib import sha256

from psycopg import AsyncConnection

from pyws.brokers import Broker

NOTIFY = "SELECT pg_notify(c, p) FROM unnest(%s::text[], %s::text[]) AS messages(c, p)"


class PostgresBroker(Broker):
    max_size = 5994

    def __init__(self, url):
        self.url, self.task, self.connections = url, None, []

    async def connect(self, link):
        self.link, self.topics = link, {}
        for _ in range(2):  # one that listens and one that publishes
            self.connections.append(await AsyncConnection.connect(self.url, autocommit=True))
        self.task = asyncio.create_task(self.listen())

    async def listen(self):
        try:
            async for one in self.connections[0].notifies():
                if one.channel in self.topics:
                    self.link.receive(self.topics[one.channel], b64decode(one.payload[3:]))
        except Exception as error:
            self.link.lost(error)

    async def subscribe(self, topics, command="LISTEN"):
        self.topics.update((channel(topic), topic) for topic in topics)
        self.task.cancel()  # notifies() keeps the connection for itself
        await asyncio.wait([self.task])
        commands = "; ".join(f"{command} {channel(topic)}" for topic in topics)
        await self.connections[0].execute(commands)
        self.task = asyncio.create_task(self.listen())

    async def unsubscribe(self, topics):
        await self.subscribe(topics, "UNLISTEN")
        for topic in topics:
            del self.topics[channel(topic)]

    async def publish(self, messages):
        # With a number, because NOTIFY leaves out what is the same twice in one transaction.
        texts = [f"{n:3}{b64encode(data).decode()}" for n, (_, data) in enumerate(messages)]
        await self.connections[1].execute(NOTIFY, ([channel(one) for one, _ in messages], texts))

    async def close(self):
        if self.task is not None:
            self.task.cancel()
        while self.connections:
            await self.connections.pop().close()


def channel(topic):
    return "pyws_" + sha256(topic).hexdigest()[:40]
