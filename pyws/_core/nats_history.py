# SPDX-License-Identifier: MIT
"""Messages that NATS keeps: one stream of JetStream for all topics.

The stream PREFIX_history has the subjects PREFIX.history.>, and the server passes on what it keeps
at PREFIX.kept.>, with its number in the stream. The id of a message is the time at which the stream
was made, in milliseconds, and that number: they do not begin anew if somebody deletes the stream. A
position in a topic without messages also has the time at which there were none.

The stream has one pair of limits: those of the largest History that any app has had, and a day
longer. Messages that are too old are not returned, but show for this day that nothing was missed in
a topic that was quiet meanwhile.

Messages are read by STREAM.MSG.GET, one after another; its answer comes from the leader of the
stream, while a follower, which may answer DIRECT.GET, might not have the last messages yet.

Nothing in a stream says whether there once was a message in front of one. But the oldest messages
of a topic go first. So a reader has missed none if a message is there that is not after its id. It
has not either if its id is a position, all messages after that must be young enough, and they are
fewer than are kept.
"""

from __future__ import annotations

import json
import re
import time
from base64 import b64decode
from datetime import datetime, timezone
from typing import Any, Dict, Generator, List, NamedTuple, Sequence, Tuple, TypeVar

from ..history import PAGE, PAGE_BYTES, History, Page

__all__ = [
    "NO_STREAM",
    "Queries",
    "Stream",
    "loaded",
    "new_stream",
    "number_of",
    "numbers_of",
    "refusal_of",
]

NANO = 10**9
DAY = 24 * 60 * 60  # seconds
MOST_SKEW = 60.0  # seconds that clocks may differ
NOT_FOUND, NAME_IN_USE = 10059, 10058  # JSApiError.err_code
NO_MESSAGE = 404

NO_STREAM = "no JetStream answers, which history needs: is it enabled there (nats-server -js)?"
ID = re.compile(rb"([0-9]{1,15})-([0-9]{1,18})(?:-([0-9]{1,15}))?")
NUMBER = re.compile(rb"\r\nNats-Sequence:\s*([0-9]+)\r\n")
NUMBER_BEFORE = re.compile(rb"\r\nNats-Last-Sequence:\s*([0-9]+)\r\n")

T = TypeVar("T")
Query = Tuple[str, bytes]  # what follows $JS.API., and the request
Answer = Dict[str, Any]
Queries = Generator[Sequence[Query], Sequence[Answer], T]


class Message(NamedTuple):
    """A message of the stream."""

    number: int
    data: bytes
    time: float


class Stream:
    """The stream of a prefix, as its server has described it."""

    def __init__(self, name: str, info: Any) -> None:
        """
        Args:
            name: Its name.
            info: The answer of STREAM.INFO, CREATE or UPDATE.
        """
        config = info["config"]
        self.name = name
        self.epoch = int(_time(info["created"]) * 1000)
        self._messages = config["max_msgs_per_subject"]
        self._seconds = config["max_age"] / NANO
        self._has_other_limits = max(config["max_msgs"], config["max_bytes"]) > 0

    # ---- ids ------------------------------------------------------------------------------------

    def id(self, number: int) -> bytes:
        """The id of a message."""
        return b"%d-%d" % (self.epoch, number)

    def _position(self, number: int, ms: int) -> bytes:
        return b"%d-%d-%d" % (self.epoch, number, ms)

    # ---- reading --------------------------------------------------------------------------------

    def read(self, subject: str, after: bytes | None, history: History) -> Queries[Page]:
        """Ask for what a page needs: it yields queries, gets their answers and returns the page."""
        began = _now()
        if after is None:
            (answer,) = yield [self._last(subject)]
            last = _message(answer)
            if last is not None:
                return Page(self.id(last.number))
            return Page(self._position((yield from self._last_before(subject)), began))
        match = ID.fullmatch(after)
        epoch, number, ms = map(int, match.groups(b"0")) if match is not None else (0, 0, 0)
        if epoch != self.epoch:
            number = ms = 0
        # The last one comes first: what is kept meanwhile follows it.
        queries = [self._last(subject), self._next(subject, 1), self._next(subject, number + 1)]
        last, first, following = map(_message, (yield queries))
        is_known = epoch == self.epoch
        if is_known and (last is None or last.number < number):  # otherwise it is in the stream
            is_known = number <= (yield from self._last_number())
            if not is_known:
                number, following = 0, first
        messages, is_gap, more = yield from self._page(subject, following, last, history)
        complete = is_known and not is_gap
        if complete and (first is None or first.number > number):
            complete = self._is_young(ms)
            if complete:
                count = len(messages) if not more else (yield from self._count(subject))
                complete = count < self._messages
        page = [(self.id(one.number), one.data) for one in messages]
        if page:
            return Page(page[-1][0], page, complete, more)
        if last is not None:
            return Page(after if complete else self.id(last.number), (), complete)
        if not complete:
            number = yield from self._last_before(subject)
        return Page(self._position(number, began), (), complete)

    def _page(
        self, subject: str, following: Message | None, last: Message | None, history: History
    ) -> Queries[Tuple[List[Message], bool, bool]]:
        """The messages that begin with `following`, and whether some are missing, or follow."""
        oldest = time.time() - history.seconds
        messages: list[Message] = []
        size = rounds = 0
        is_gap = following is not None and following.time < oldest
        if is_gap:
            following = yield from self._first_since(subject, oldest, following, last)
        while following is not None:
            messages.append(following)
            size += len(following.data)
            is_last = last is None or following.number >= last.number
            if is_last or len(messages) == PAGE or size >= PAGE_BYTES:
                break
            rounds += 1
            (answer,) = yield [self._next(subject, following.number + 1)]
            following = _message(answer)
        if rounds and messages:  # were others deleted meanwhile?
            (answer,) = yield [self._next(subject, 1)]
            first = _message(answer)
            is_gap = is_gap or first is None or first.number > messages[0].number
        more = bool(messages) and last is not None and messages[-1].number < last.number
        return messages, is_gap, more and following is not None

    def _first_since(
        self, subject: str, oldest: float, start: Message | None, last: Message | None
    ) -> Queries[Message | None]:
        """The first message that is young enough, between one that is not and the last one."""
        if start is None or last is None or last.time < oldest:
            return None
        found, low, high = last, start.number + 1, last.number
        while low < high:  # what is before `low` is too old, and `found` the first from `high` on
            middle = (low + high) // 2
            (answer,) = yield [self._next(subject, middle)]
            message = _message(answer)
            if message is None:
                break
            if message.time < oldest:
                low = message.number + 1
            else:
                found, high = message, middle
        return found

    def _is_young(self, ms: int) -> bool:
        """Whether no message after a position can be too old to be there. 0 is no position."""
        age = (_now() - ms) / 1000
        is_kept = not self._seconds or age < self._seconds - MOST_SKEW
        return ms > 0 and is_kept and not self._has_other_limits

    # ---- queries --------------------------------------------------------------------------------

    def _next(self, subject: str, number: int) -> Query:
        """The first message of a subject that has at least this number."""
        return self._get(b'{"seq":%d,"next_by_subj":"%b"}' % (number, subject.encode()))

    def _last(self, subject: str) -> Query:
        return self._get(b'{"last_by_subj":"%b"}' % subject.encode())

    def _get(self, request: bytes) -> Query:
        return f"STREAM.MSG.GET.{self.name}", request

    def _last_number(self) -> Queries[int]:
        """The number of the last message of all."""
        (answer,) = yield [_info(self.name)]
        return int(_checked(answer)["state"]["last_seq"])

    def _last_before(self, subject: str) -> Queries[int]:
        """The number of the last message of all, in front of all of a subject that had none."""
        info, answer = yield [_info(self.name), self._next(subject, 1)]
        number, first = int(_checked(info)["state"]["last_seq"]), _message(answer)
        return number if first is None else min(number, first.number - 1)

    def _count(self, subject: str) -> Queries[int]:
        """How many messages of a subject are kept."""
        request = b'{"subjects_filter":"%b"}' % subject.encode()
        (answer,) = yield [(f"STREAM.INFO.{self.name}", request)]
        return int((_checked(answer)["state"].get("subjects") or {}).get(subject, 0))


def new_stream(prefix: str, histories: Sequence[History]) -> Queries[Stream]:
    """Ask for the stream of a prefix, and make it, or raise its limits, if necessary.

    It yields queries, gets their answers and returns the stream.

    Raises:
        ConnectionError: The server refuses, or there is another stream with this name.
    """
    name = prefix.replace(".", "_") + "_history"
    wanted = _config(name, prefix, histories)
    (answer,) = yield [_info(name)]
    if _error(answer, "err_code") == NOT_FOUND:
        (answer,) = yield [_change("CREATE", wanted)]
        if _error(answer, "err_code") == NAME_IN_USE:  # another process was faster
            (answer,) = yield [_info(name)]
    found = _checked(answer)["config"]
    for key in ("subjects", "republish"):
        if found.get(key) != wanted[key]:
            raise ConnectionError(
                f"the stream {name} has {key} {found.get(key)!r}, but history needs {wanted[key]!r}"
            )
    larger = {}
    for key in ("max_msgs_per_subject", "max_age"):
        if 0 < found[key] < wanted[key]:  # 0 and -1 mean no limit
            larger[key] = wanted[key]
    if larger:
        (answer,) = yield [_change("UPDATE", {**found, **larger})]
    return Stream(name, _checked(answer))


def _config(name: str, prefix: str, histories: Sequence[History]) -> dict[str, Any]:
    """What the stream should be like."""
    seconds = max(one.seconds for one in histories) + DAY
    return {
        "name": name,
        "subjects": [f"{prefix}.history.>"],
        "republish": {"src": f"{prefix}.history.>", "dest": f"{prefix}.kept.>"},
        "max_msgs_per_subject": max(one.messages for one in histories),
        "max_age": int(seconds * NANO),
        "retention": "limits",
        "discard": "old",
        "storage": "file",
        "num_replicas": 1,
        "max_consumers": -1,
        "max_msgs": -1,
        "max_bytes": -1,
    }


def _info(name: str) -> Query:
    return f"STREAM.INFO.{name}", b""


def _change(how: str, config: dict[str, Any]) -> Query:
    return f"STREAM.{how}.{config['name']}", json.dumps(config).encode()


# ---- answers ------------------------------------------------------------------------------------


def refusal_of(answer: bytes) -> str:
    """Why the server has not kept a message; "" if it has. Raises ConnectionError."""
    if b'"seq"' in answer and b'"error"' not in answer:
        return ""
    found = loaded(answer)
    try:
        _checked(found)
    except ConnectionError as error:
        return str(error)
    raise ConnectionError("it does not confirm that it has kept a message")


def numbers_of(head: bytes) -> Tuple[int, int]:
    """The number of a message that is passed on, and that of the one before at its subject.

    Both are 0 if something else has sent it.
    """
    number, before = NUMBER.search(head), NUMBER_BEFORE.search(head)
    return (0 if number is None else int(number[1])), (0 if before is None else int(before[1]))


def number_of(id: bytes) -> int:
    """The number in an id, or in a position, of this module."""
    return int(id.split(b"-")[1])


def loaded(answer: bytes) -> Answer:
    """The object that JetStream has sent. Raises ConnectionError."""
    try:
        found = json.loads(answer)
    except (ValueError, RecursionError):
        found = None
    if not isinstance(found, dict):
        raise ConnectionError(f"it answers {answer[:100]!r}, which JetStream does not")
    return found


def _error(answer: Answer, key: str) -> int:
    """A number of the error of an answer; 0 without one."""
    return int((answer.get("error") or {}).get(key, 0))


def _checked(answer: Answer) -> Answer:
    """An answer without an error. Raises ConnectionError."""
    error = answer.get("error")
    if error:
        raise ConnectionError(f"JetStream, which history needs: {error.get('description')}")
    return answer


def _message(answer: Answer) -> Message | None:
    """The message of an answer; None if there is none. Raises ConnectionError."""
    if _error(answer, "code") == NO_MESSAGE:
        return None
    found = _checked(answer)["message"]
    return Message(found["seq"], b64decode(found.get("data", "")), _time(found["time"]))


def _time(text: str) -> float:
    """Seconds since 1970 of "2026-11-29T04:00:57.219167221Z" (RFC 3339 section 5.6)."""
    seconds = datetime.fromisoformat(text[:19]).replace(tzinfo=timezone.utc).timestamp()
    return seconds + float("0" + text[19:-1])


def _now() -> int:
    """Milliseconds since 1970."""
    return int(time.time() * 1000)
