# SPDX-License-Identifier: MIT
"""Connections that take labels: they know where they are in topics with history.

The query parameter `history` of the opening handshake makes a connection one: a JSON object with
the last id that the client has of each topic.
"""

from __future__ import annotations

import asyncio
import json
import re
from typing import Any, Mapping

from .._native import lib
from ..brokers import Page
from . import calls
from .fields import Query
from .history import LABELLED, Channel, Keeper, Kept, is_newer, position_before, unpacked
from .sockets import Socket, conn_of, route_of, set_reader, target_of, wait_for_drain

__all__ = ["Reader", "begin", "last_ids"]

PARAMETER = "history"
_TEXT = 1  # WS_TEXT
_BACKPRESSURE, _SUCCESS = 0, 1  # what ws_conn_send returns
_ID = re.compile(r"[0-9]{1,20}(-[0-9]{1,20}){0,3}")


def last_ids(query: str) -> dict[bytes, bytes] | None:
    """The ids that a client says it has, by topic; None if it takes no labels."""
    if PARAMETER not in query:
        return None
    text = Query(query).get(PARAMETER)
    try:
        given: Any = None if text is None else json.loads(text)
    except (ValueError, RecursionError):
        return None
    if not isinstance(given, Mapping):
        return None
    found: dict[bytes, bytes] = {}
    for topic, id in given.items():
        if not isinstance(id, str) or not _ID.fullmatch(id):
            return None
        found[topic.encode("utf-8", "replace")] = id.encode()
    return found


def begin(keeper: Keeper, ws: Socket) -> None:
    """A connection was opened: let it take labels if the client wants that."""
    ids = last_ids(target_of(ws).partition("?")[2])
    if ids is not None:
        lib.ws_conn_take_labels(conn_of(ws))
        set_reader(ws, Reader(keeper, ws, ids))


class Reader:
    """A connection that takes labels."""

    def __init__(self, keeper: Keeper, ws: Socket, ids: dict[bytes, bytes]) -> None:
        """
        Args:
            keeper: What reads for it.
            ws: The connection.
            ids: The last ids that the client has.
        """
        self.keeper = keeper
        self.ws = ws
        self.pending: dict[bytes, Replay] = {}  # subscriptions that have not begun
        self._ids = ids

    # ---- what the program does ------------------------------------------------------------------

    def subscribe(self, topic: bytes) -> bool | None:
        """The connection subscribes. None: it can do so at once, and `subscribed` follows.

        True: the subscription will begin, after what the client has missed. False: it has
        max_topics topics, with those that will begin.
        """
        if topic in self.pending:
            return True
        if not (self.pending or topic in self._ids):
            return None
        if lib.ws_conn_is_subscribed(conn_of(self.ws), topic, len(topic)):
            return None
        if self._is_full():
            return False
        channel = self.keeper.channel(topic) if topic in self._ids else None
        if channel is None:
            return None
        replay = self.pending[topic] = Replay(self, channel, self._ids.pop(topic))
        self.keeper.hold(channel)
        replay.go_on()
        return conn_of(self.ws) != 0  # the subscription handler may have ended it

    def _is_full(self) -> bool:
        """Whether the connection has max_topics, with those that have not begun."""
        others = route_of(self.ws).behavior.max_topics - len(self.pending)
        if others <= 0:
            return True
        return calls.copied_bytes(lib.ws_conn_topic_at, conn_of(self.ws), others - 1) is not None

    def subscribed(self, topic: bytes) -> None:
        """A subscription has begun: send the position of the topic."""
        channel = self.keeper.channel(topic)
        if channel is None:
            return
        if channel.frontier is None:
            channel.newcomers.add(self)
        else:
            self.on_position(channel)

    def cancel(self, topic: bytes) -> bool:
        """The connection unsubscribes: whether that ends the wait for what it has missed."""
        replay = self.pending.pop(topic, None)
        if replay is None:
            return False
        self.keeper.cancel(replay)
        self.keeper.release(replay.channel)
        return True

    def end(self) -> None:
        """The connection is closed."""
        for topic in [*self.pending]:
            self.cancel(topic)

    # ---- what the keeper reports ----------------------------------------------------------------

    def on_position(self, channel: Channel) -> None:
        """The position of a topic is known, to which it has subscribed without an id."""
        topic, conn = channel.topic, conn_of(self.ws)
        if conn and channel.frontier and lib.ws_conn_is_subscribed(conn, topic, len(topic)):
            self.send(channel.notice(channel.frontier, True), _TEXT)

    def send(self, data: bytes, opcode: int) -> int:
        """Send a message with a label; returns what ws_conn_send does."""
        conn = conn_of(self.ws)
        result: int = lib.ws_conn_send(conn, data, len(data), opcode | LABELLED) if conn else -1
        return result


class Replay:
    """A subscription that begins once the client has what it has missed."""

    def __init__(self, reader: Reader, channel: Channel, after: bytes) -> None:
        """
        Args:
            reader, channel: Whose subscription, and to what.
            after: The last id that the client has.
        """
        self.channel = channel
        self.after = after
        self._reader = reader
        self._is_announced = False  # the client knows whether all that it has missed follows

    @property
    def is_over(self) -> bool:
        """Whether the subscription has begun, or is not wanted any more."""
        return self._reader.pending.get(self.channel.topic) is not self

    def go_on(self) -> None:
        """Read what is missing, or begin if nothing is."""
        if self.after == self.channel.frontier:
            self._announce(Page(self.after))
            self._begin()
        else:
            self._reader.keeper.request(self)

    def _announce(self, page: Page) -> None:
        """Tell the client from where messages follow, if that is news."""
        if not page.complete:
            self.after = position_before(page, self.after)
            self._reader.keeper.incomplete += 1
        elif self._is_announced:
            return
        self._is_announced = True
        self._reader.send(self.channel.notice(self.after, page.complete), _TEXT)

    def on_page(self, page: Page) -> None:
        """Send the messages that were read, and begin after the last ones."""
        conn = conn_of(self._reader.ws)
        if self.is_over or not conn:
            return
        if lib.ws_conn_buffered_amount(conn):
            self._wait()
            return
        lib.ws_conn_cork(conn)
        try:
            self._announce(page)
            is_complete = self._send_page(page)
        finally:
            lib.ws_conn_uncork(conn)
        if self.is_over:
            return
        if is_complete:
            self._begin()
        elif lib.ws_conn_buffered_amount(conn):
            self._wait()
        else:
            self.go_on()

    def _send_page(self, page: Page) -> bool:
        """Send messages while there is room; returns whether nothing is missing after them."""
        for id, data in page.messages:
            message = unpacked(id, data)
            if message is not None and not self._send(message):
                return False
            self.after = id
        if page.more or self.channel.arrived is None:
            return False
        if is_newer(page.id, self.after):
            self.after = page.id
        for kept in self.channel.arrived:
            if is_newer(kept[0], self.after):
                if not self._send(kept):
                    return False
                self.after = kept[0]
        return True

    def _send(self, kept: Kept) -> bool:
        """Send a message; returns whether there is room for more."""
        id, opcode, payload = kept
        status = self._reader.send(self.channel.label(id) + payload, opcode)
        if status in (_BACKPRESSURE, _SUCCESS):
            self._reader.keeper.replayed += 1
            self.after = id
        return status == _SUCCESS

    def _wait(self) -> None:
        """Go on once the queue of the client is empty."""
        drained: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        drained.add_done_callback(self._on_drain)
        wait_for_drain(self._reader.ws, drained)

    def _on_drain(self, drained: asyncio.Future[bool]) -> None:
        if not self.is_over:
            self.go_on()

    def _begin(self) -> None:
        """The subscription begins."""
        topic, reader = self.channel.topic, self._reader
        del reader.pending[topic]
        lib.ws_conn_subscribe(conn_of(reader.ws), topic, len(topic))
        reader.keeper.release(self.channel)
