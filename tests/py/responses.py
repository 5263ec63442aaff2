# SPDX-License-Identifier: MIT
"""h11 as an independent reader of every response: is it valid, and where does it end?"""

from __future__ import annotations

import socket
from contextlib import contextmanager
from typing import Any, Dict, Iterable, Iterator, List, NamedTuple, Tuple

import h11
import peer
import pytest

UPGRADE = "UPGRADE"
"""As a method: a GET that may be answered with a 101."""
CUT = "closed connection without sending complete message body"
"""What h11 says of a response that is valid so far."""
UPGRADING = [("Connection", "Upgrade"), ("Upgrade", "websocket")]
PIECE = 4096


class Answer(NamedTuple):
    """A response as h11 reads it."""

    status: int
    fields: List[Tuple[str, str]]  # names in lower case
    content: bytes
    interim: List[int]  # the 1xx before it
    keeps: bool  # the connection may go on after it

    def all(self, name: str) -> List[str]:
        return [value for field, value in self.fields if field == name]

    @property
    def headers(self) -> Dict[str, str]:
        """As peer.Response has them."""
        return {name: ", ".join(self.all(name)) for name, _ in self.fields}


class Pieces:
    """An h11.Connection that reads one message, in pieces: thousands may follow it in `data`."""

    def __init__(self, role: Any, data: memoryview, ended: bool = False) -> None:
        """`ended` says that the connection ended after `data`."""
        self.connection = h11.Connection(role)
        self._data = data
        self._given = 0
        self._ended = ended

    def next_event(self) -> Any:
        while True:
            event = self.connection.next_event()
            if event is not h11.NEED_DATA or not self._give_more():
                return event

    def _give_more(self) -> bool:
        piece = bytes(self._data[self._given : self._given + PIECE])
        if not piece and not self._ended:
            return False
        self._given += len(piece)
        self._ended = self._ended and bool(piece)
        self.connection.receive_data(piece)
        return True

    def rest(self) -> memoryview:
        """What follows the message."""
        return self._data[self._given - len(self.connection.trailing_data[0]) :]


def read_answer(data: memoryview, method: str, ended: bool) -> Tuple[Answer, memoryview]:
    """The first response in `data`, which answers a request with that method, and what is left.

    `ended` says that the connection ended after `data`. Raises h11.RemoteProtocolError if the
    response is not valid, and EOFError if it is not complete.
    """
    reader = Pieces(h11.CLIENT, data, ended)
    connection = reader.connection
    fields = [("Host", "h")] + (UPGRADING if method == UPGRADE else [])
    connection.send(
        h11.Request(method="GET" if method == UPGRADE else method, target="/", headers=fields)
    )
    connection.send(h11.EndOfMessage())
    head: Any = None
    content, interim = bytearray(), []  # type: bytearray, List[int]
    while True:
        event = reader.next_event()
        if event is h11.NEED_DATA or (event is h11.PAUSED and head is None):
            raise EOFError(f"no complete response: {bytes(data)!r}")
        if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
            interim.append(event.status_code)
        elif isinstance(event, (h11.Response, h11.InformationalResponse)):
            head = event
            if head.status_code == 101:
                break
        elif isinstance(event, h11.Data):
            content += event.data
        else:
            break
    keeps = head.status_code != 101 and connection.their_state is not h11.MUST_CLOSE
    names = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
    return Answer(head.status_code, names, bytes(content), interim, keeps), reader.rest()


def read_answers(
    data: bytes, methods: Iterable[str], ended: bool = True, cut: bool = False
) -> List[Answer]:
    """All responses: at most one for each method, and nothing after them but frames after a 101.

    With `cut` the last one may be incomplete, and is left out.
    """
    answers: List[Answer] = []
    rest = memoryview(data)
    for method in methods:
        if not rest:
            break
        try:
            answer, rest = read_answer(rest, method, ended)
        except (EOFError, h11.RemoteProtocolError) as error:
            if cut and (isinstance(error, EOFError) or CUT in str(error)):
                return answers
            raise
        answers.append(answer)
        if answer.status == 101:
            return answers
        if not answer.keeps:
            break
    assert not rest, f"more than the answers: {bytes(rest)!r}"
    return answers


# ---- every response that a test receives --------------------------------------------------------


def methods_in(sent: bytes) -> Iterator[str]:
    """Those of the requests that a client has sent; for what h11 does not read one to which any
    answer is allowed."""
    rest = memoryview(sent)
    while True:
        reader = Pieces(h11.SERVER, rest)
        try:
            event = reader.next_event()
            if not isinstance(event, h11.Request):
                break
            upgrades = any(name == b"upgrade" for name, _ in event.headers)
            yield UPGRADE if upgrades else event.method.decode()
            while not isinstance(event, (h11.EndOfMessage, type(h11.NEED_DATA))):
                event = reader.next_event()
        except h11.RemoteProtocolError:
            break
        rest = reader.rest()
    while True:
        yield UPGRADE


class Watched:
    """What went through one peer.Peer."""

    def __init__(self) -> None:
        self.sent = bytearray()
        self.received = bytearray()
        self.ended = False
        self.read: List[peer.Response] = []

    def check(self) -> int:
        """How many responses h11 has read. They are those that the peer has read; what it has not
        read to the end may be incomplete."""
        methods = methods_in(bytes(self.sent))
        answers = read_answers(bytes(self.received), methods, self.ended, cut=True)
        read = [each for each in self.read if each.status == 101 or each.status >= 200]
        for mine, answer in zip(read, answers):
            assert (answer.status, answer.headers, answer.content) == mine
        assert len(read) <= len(answers)
        interim = [status for answer in answers for status in answer.interim]
        assert len(self.read) - len(read) <= len(interim)
        return len(answers)


@contextmanager
def watching(patch: pytest.MonkeyPatch) -> Iterator[None]:
    """All that peers receive within the block is read by h11 at its end, too."""
    watched: Dict[peer.Peer, Watched] = {}
    begin, send, fill, response = (
        peer.Peer._begin,
        peer.Peer.send,
        peer.Peer.fill,
        peer.Peer.response,
    )

    def on_begin(client: peer.Peer, connection: socket.socket) -> None:
        begin(client, connection)
        watched[client] = Watched()

    def on_send(client: peer.Peer, data: bytes) -> None:
        watched[client].sent += data
        send(client, data)

    def on_fill(client: peer.Peer) -> bool:
        before = len(client.buffer)
        more = fill(client)
        watched[client].received += client.buffer[before:]
        watched[client].ended = not more
        return more

    def on_response(client: peer.Peer) -> peer.Response:
        answer = response(client)
        watched[client].read.append(answer)
        return answer

    with patch.context() as patched:
        patched.setattr(peer.Peer, "_begin", on_begin)
        patched.setattr(peer.Peer, "send", on_send)
        patched.setattr(peer.Peer, "fill", on_fill)
        patched.setattr(peer.Peer, "response", on_response)
        yield
    for each in watched.values():
        each.check()
