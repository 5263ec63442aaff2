# SPDX-License-Identifier: MIT
"""One message for a broker, from a program that has no app; imported only for it."""

from __future__ import annotations

import asyncio

from ..brokers import Broker, Link
from ..history import History
from .outages import reason_of

__all__ = ["publish"]

CLOSE_TIME = 1.0  # seconds for Broker.close


def publish(
    broker: Broker, topic: bytes, data: bytes, history: History | None, seconds: float
) -> None:
    """Connect, publish and disconnect. Raises ConnectionError, TimeoutError, ValueError."""
    running = Outlet(broker, history).run(topic, data, seconds)
    try:
        asyncio.run(running)
    finally:
        running.close()  # after a Ctrl-C before it began


class Outlet(Link):
    """A link that leaves out what arrives, and ends the task when the connection is lost."""

    def __init__(self, broker: Broker, history: History | None) -> None:
        """
        Args:
            broker: What connects.
            history: The bounds of what the broker should keep; None: it only passes it on.
        """
        broker.histories = () if history is None else (history,)
        self._broker = broker
        self._history = history
        self._error: BaseException | None = None  # why the connection is lost
        self._is_published = False

    async def run(self, topic: bytes, data: bytes, seconds: float) -> None:
        """Publish within so many seconds. Raises ConnectionError, TimeoutError, ValueError."""
        self._task = asyncio.get_running_loop().create_task(self._publish(topic, data))
        try:
            await asyncio.wait([self._task], timeout=seconds)
            in_time = self._task.done()
        finally:  # also after Ctrl-C
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CLOSE_TIME)
            error = self._outcome()
        if not in_time:
            raise TimeoutError(f"the broker {self._broker} has not answered for {seconds:g} s")
        if isinstance(error, ValueError):
            raise error
        if error is not None:
            raise ConnectionError(f"the broker {self._broker}: {reason_of(error)}") from error

    def _outcome(self) -> BaseException | None:
        """What the task has failed with."""
        if self._error is not None or not self._task.done():
            return self._error
        if self._task.cancelled():
            return ConnectionError("it was cancelled")
        return self._task.exception()

    async def _publish(self, topic: bytes, data: bytes) -> None:
        broker = self._broker
        try:
            await broker.connect(self)
            if 0 < broker.max_size < len(data):
                raise ValueError(
                    f"the message has {len(data)} bytes with its header, but the broker {broker} "
                    f"takes at most {broker.max_size}"
                )
            if self._history is None:
                await broker.publish([(topic, data)])
            else:
                await broker.append([(topic, data, self._history)])
            self._is_published = True
        finally:
            try:
                await asyncio.wait_for(broker.close(), CLOSE_TIME)
            except Exception:  # the message is published, or there is an error to report already
                pass

    def receive(self, topic: bytes, data: bytes, id: bytes = b"") -> None:
        """Leave it out: nothing has subscribed here."""

    def refused(self, error: BaseException) -> None:
        """It is the message that was refused."""
        self.lost(error)

    def lost(self, error: BaseException) -> None:
        """End the task, which may wait for an answer that never comes."""
        if self._error is None and not self._is_published:
            self._error = error
            self._task.cancel()
