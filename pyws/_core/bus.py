# SPDX-License-Identifier: MIT
"""The local bus: what the workers of an app send each other (ws_cluster.h).

Messages reach the subscribers of other workers in C. What Python sends by itself are the questions
of `App.count`, and the answers:

    "?", number of the question (8 bytes), topic
    "=", number of the question (8 bytes), subscribers (8 bytes)
"""

from __future__ import annotations

import os
import struct
import weakref
from _socket import AF_UNIX, SOCK_CLOEXEC, SOCK_DGRAM, SOCK_NONBLOCK, socketpair
from _socket import socket as Socket  # eventlet replaces the other one
from contextlib import suppress
from itertools import count
from typing import TYPE_CHECKING, Any, Dict, Iterable

from .._native import lib, member_function
from . import calls
from .logs import complain

if TYPE_CHECKING:  # it takes long to import
    import asyncio

__all__ = ["Inboxes", "Member"]

ALL_MEMBERS = 0xFFFFFFFF  # WS_ALL_MEMBERS
LONGEST_WAIT = 1.0  # seconds for the answers of other workers

_NUMBER = struct.Struct("<Q")


class Inboxes:
    """The sockets of all members of a bus. The parent of the workers makes and keeps them."""

    def __init__(self, members: int) -> None:
        """Raises OSError if there are no descriptors left."""
        self._key = struct.unpack("<QQ", os.urandom(16))
        self._epoch = 0
        self._pairs: list[tuple[Socket, Socket]] = []  # to read from, to write to
        try:
            for _ in range(members):
                kind = SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC
                self._pairs.append(socketpair(AF_UNIX, kind))
        except BaseException:
            self.close()
            raise

    def next_epoch(self) -> int:
        """A number for the next worker, larger than those of all before it."""
        self._epoch += 1
        return self._epoch

    def announce_end(self, member: int, epoch: int) -> None:
        """A worker has ended: the others should send it nothing more."""
        inboxes = [writes.fileno() for _, writes in self._pairs]
        with suppress(OSError):  # the next worker in its place says so, too
            calls.announce_end(inboxes, member, epoch)

    def close(self) -> None:
        for pair in self._pairs:
            for end in pair:
                end.close()
        self._pairs.clear()

    def join(
        self, server: int, member: int, epoch: int, ended: Iterable[tuple[int, int]]
    ) -> Member:
        """In a worker: make its server a member, to which the sockets that it needs belong then.

        Args:
            server: The server, without subscriptions.
            member: The number of the worker, from 0.
            epoch: What `next_epoch` returned for it.
            ended: The members that have no process now, and the epochs of the last ones.
        """
        own = self._pairs[member][1]
        inbox = self._pairs[member][0].detach()
        inboxes = [
            -1 if number == member else writes.detach()
            for number, (_, writes) in enumerate(self._pairs)
        ]
        joined = Member(server, [inbox, *(fd for fd in inboxes if fd >= 0)])
        settings = {"self": member, "epoch": epoch, "inbox": inbox, "key": self._key}
        calls.join_bus(server, inboxes, settings, ON_MESSAGE, joined.key)
        for number, last in ended:  # the parent announced this when this worker was not there yet
            calls.announce_end([own.fileno()] * len(inboxes), number, last)
        self.close()  # what only the others, or the parent, need
        return joined


class Question:
    """How many subscribers has a topic in the other workers?"""

    def __init__(self, answered: asyncio.Future[None], missing: int) -> None:
        self.answered = answered
        self.missing = missing  # answers
        self.sum = 0


_keys = count(1)
_members: weakref.WeakValueDictionary[int, Member] = weakref.WeakValueDictionary()


class Member:
    """A worker as a member of the bus.

    Attributes:
        key: What C passes back to find this object.
        descriptors: The sockets, which belong to the server.
    """

    def __init__(self, server: int, descriptors: list[int]) -> None:
        self.key = next(_keys)
        self.descriptors = descriptors
        self._server = server
        self._questions: Dict[int, Question] = {}
        _members[self.key] = self

    async def count(self, topic: bytes) -> int:
        """How many subscribers the topic has in the other workers that answer in time."""
        import asyncio

        number = next(_keys)
        text = b"?" + _NUMBER.pack(number) + topic
        asked = lib.ws_server_tell(self._server, ALL_MEMBERS, text, len(text))
        if not asked:
            return 0
        question = Question(asyncio.get_running_loop().create_future(), asked)
        self._questions[number] = question
        try:
            await asyncio.wait([question.answered], timeout=LONGEST_WAIT)
        finally:
            del self._questions[number]
        return question.sum

    def take(self, member: int, data: bytes) -> None:
        """Another worker has sent this."""
        (number,) = _NUMBER.unpack_from(data, 1)
        if data[:1] == b"?":
            topic = data[1 + _NUMBER.size :]
            found = lib.ws_server_subscribers(self._server, topic, len(topic))
            text = b"=" + _NUMBER.pack(number) + _NUMBER.pack(found)
            lib.ws_server_tell(self._server, member, text, len(text))
            return
        question = self._questions.get(number)
        if question is not None:  # otherwise the answer comes too late
            question.sum += _NUMBER.unpack_from(data, 1 + _NUMBER.size)[0]
            question.missing -= 1
            if not question.missing and not question.answered.done():
                question.answered.set_result(None)


def _on_message(number: int, data: Any, length: int, key: int) -> None:
    try:
        member = _members.get(key)
        if member is not None:
            member.take(number, data[:length])
    except BaseException as error:
        complain(error)


ON_MESSAGE = member_function(_on_message)
