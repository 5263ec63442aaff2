# SPDX-License-Identifier: MIT
"""A room: a server and clients, all of them in the topic "news"."""

from typing import Any, Callable, List

import peer

from pyws import App, WebSocket


class Room:
    """A server and its clients; their sockets are in the order in which they came."""

    def __init__(self, serve: Callable[..., Any], clients: int = 1, **behavior: Any) -> None:
        self.sockets: List[WebSocket] = []
        self.clients: List[peer.Peer] = []
        self.opened = behavior.pop("open", None)
        self.server = serve(open=self._open, **behavior)
        self.app: App = self.server.app
        self.call: Callable[..., Any] = self.server.call
        for _ in range(clients):
            self.join()

    def _open(self, ws: WebSocket) -> None:
        self.sockets.append(ws)
        if self.opened is not None:
            self.opened(ws)

    def join(self) -> None:
        self.clients.append(peer.upgraded(self.server.port))
        peer.eventually(lambda: len(self.sockets) == len(self.clients))

    def __enter__(self) -> "Room":
        return self

    def __exit__(self, *error: Any) -> None:
        for client in self.clients:
            client.socket.close()

    def subscribe(self, *numbers: int, topic: str = "news") -> None:
        for number in numbers:
            assert self.call(self.sockets[number].subscribe, topic)

    def count(self, topic: str = "news") -> int:
        return int(self.call(self.app.num_subscribers, topic))

    def wait_for_count(self, number: int, topic: str = "news") -> None:
        peer.eventually(lambda: self.count(topic) == number)
