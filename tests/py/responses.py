"""h11 as an independent reader of every response: is it valid, and where does it end?"""

from __future__ import annotations

from typing import Any, Dict, Iterable, List, NamedTuple, Tuple

import h11

UPGRADE = "UPGRADE"
"""As a method: a GET that may be answered with a 101."""
UPGRADING = [("Connection", "Upgrade"), ("Upgrade", "websocket")]


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


def read_answer(data: bytes, method: str, ended: bool) -> Tuple[Answer, bytes]:
    """The first response in `data`, which answers a request with that method, and what is left.

    `ended` says that the connection ended after `data`. Raises h11.RemoteProtocolError if the
    response is not valid, and EOFError if it is not complete.
    """
    connection = h11.Connection(h11.CLIENT)
    fields = [("Host", "h")] + (UPGRADING if method == UPGRADE else [])
    connection.send(
        h11.Request(method="GET" if method == UPGRADE else method, target="/", headers=fields)
    )
    connection.send(h11.EndOfMessage())
    connection.receive_data(data)
    if ended:
        connection.receive_data(b"")
    head: Any = None
    content, interim = b"", []  # type: bytes, List[int]
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA or (event is h11.PAUSED and head is None):
            raise EOFError(f"no complete response: {data!r}")
        if isinstance(event, h11.InformationalResponse) and event.status_code != 101:
            interim.append(event.status_code)
        elif isinstance(event, (h11.Response, h11.InformationalResponse)):
            head = event
            if head.status_code == 101:
                break
        elif isinstance(event, h11.Data):
            content += bytes(event.data)
        else:
            break
    keeps = head.status_code != 101 and connection.their_state is not h11.MUST_CLOSE
    names = [(name.decode(), value.decode("latin-1")) for name, value in head.headers]
    rest = connection.trailing_data[0]
    return Answer(head.status_code, names, content, interim, keeps), rest


def read_answers(data: bytes, methods: Iterable[str], ended: bool = True) -> List[Answer]:
    """All responses: at most one for each method, and nothing after them but frames after a 101."""
    answers: List[Answer] = []
    for method in methods:
        if not data:
            break
        answer, data = read_answer(data, method, ended)
        answers.append(answer)
        if answer.status == 101:
            return answers
        if not answer.keeps:
            break
    assert not data, f"more than the answers: {data!r}"
    return answers
