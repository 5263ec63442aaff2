# SPDX-License-Identifier: MIT
"""What an app does with topics besides publishing."""

from __future__ import annotations

from typing import Any, Coroutine, Union

from .._native import lib
from . import values
from .runtime import Runtime

__all__ = ["Topics"]


class Topics:
    """The methods of `App` for that."""

    _runtime: Runtime

    def num_subscribers(self, topic: Union[str, bytes]) -> int:
        """How many connections of this app, in this process, have subscribed to `topic`.

        Args:
            topic: Any str, or bytes in UTF-8.

        Raises:
            TypeError, ValueError: The topic is wrong.
            RuntimeError: Called from another thread.
        """
        name = values.topic(topic)
        self._runtime.check_server()
        return int(lib.ws_server_subscribers(self._runtime.server, name, len(name)))

    def count(self, topic: Union[str, bytes]) -> Coroutine[Any, Any, int]:
        """How many connections have subscribed to `topic`, in all workers and at all machines.

        It is awaited: ``await app.count(topic)``.

        The workers of `run` are asked, and with a broker the apps there that have subscribers of
        the topic. Those that do not answer within a second are left out: one that is stopped or
        busy, or has just ended. While the broker is away, it is the count of this app alone.
        Without workers and broker it is `num_subscribers`. docs/scaling.md says what it costs.

        Args:
            topic: Any str, or bytes in UTF-8.

        Raises:
            TypeError, ValueError: The topic is wrong.
            RuntimeError: Called from another thread.
        """
        name = values.topic(topic)
        self._runtime.check_server()
        return self._count(name)

    async def _count(self, name: bytes) -> int:
        here, member, relay = self.num_subscribers(name), self._runtime.member, self._runtime.relay
        others = [one.count(name) for one in (member, relay) if one is not None]
        if len(others) < 2:
            return here + (await others[0] if others else 0)
        import asyncio  # a broker needs it, other programs should not wait for it

        return here + sum(await asyncio.gather(*others))

    def end(
        self, topic: Union[str, bytes], code: int = 1000, reason: Union[str, bytes] = ""
    ) -> int:
        """End every connection that has subscribed to `topic`, in all workers of `run`.

        With a broker, those of all apps there are ended, too. It is `WebSocket.end` for each of
        them: to close a room, or to log out a user everywhere whose connections have subscribed to
        a topic of the user. A connection that subscribes while this runs may stay.

        Args:
            topic: Any str, or bytes in UTF-8.
            code, reason: As for `WebSocket.end`.

        Returns:
            How many connections of this process were ended.

        Raises:
            TypeError, ValueError: An argument is wrong.
            RuntimeError: Called from another thread.
        """
        name = values.topic(topic)
        status, data = values.close_arguments(code, reason)
        self._runtime.check_server()
        server = self._runtime.server
        return int(lib.ws_server_end_topic(server, name, len(name), status, data, len(data)))
