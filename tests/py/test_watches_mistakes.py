# SPDX-License-Identifier: MIT
"""Functions of ``app.add_reader`` and ``add_writer`` that fail, and those that are no functions."""

import re
import socket
import time
from typing import Any, Iterator, List, Tuple
from unittest import mock

import coroutines
import handlers
import peer
import pytest
from coroutines import Serve
from handlers import Oops, fail

from pyws import App
from pyws._core import watches

ECHOES = {"plain": handlers.echo, "asyncio": coroutines.echo}
Pair = Tuple[socket.socket, socket.socket]


@pytest.fixture(params=ECHOES)
def server(serve: Serve, request: pytest.FixtureRequest) -> Any:
    """A server with the loop of the library, and one in an asyncio loop."""
    return serve(message=ECHOES[request.param])


@pytest.fixture
def pair() -> Iterator[Pair]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


# ---- functions that fail again and again --------------------------------------------------------


def test_failures_in_a_row_are_reported_once_in_a_while(
    server: Any, pair: Pair, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end of file is found in each turn."""
    monkeypatch.setattr(watches, "FIRST_PAUSE", 0.05)
    monkeypatch.setattr(watches, "LONGEST_PAUSE", 0.1)
    here, there = pair
    calls: List[bytes] = []
    errors: List[BaseException] = []

    def read() -> None:
        data = here.recv(10)
        calls.append(data)
        int(data)

    server.call(server.app.on_error, lambda error, source: errors.append(error))
    server.call(server.app.add_reader, here, read)
    there.send(b"x")
    peer.eventually(lambda: len(errors) == 1)
    there.send(b"1")
    peer.eventually(lambda: len(calls) == 2)
    there.send(b"y")  # it has worked in between
    peer.eventually(lambda: len(errors) == 2)
    there.close()
    peer.eventually(lambda: len(errors) >= 15)
    assert server.call(server.app.remove_reader, here)
    assert len(calls) > 2 * len(errors)
    lines = [text for text in caplog.messages if "add_reader" in text]
    assert len(lines) == len(errors)
    assert ["in a row" in line for line in lines[:13]] == [False] * 11 + [True] * 2
    assert all(re.search(r"add_reader \([\d,]+ times in a row\)", one) for one in lines[11:])


def test_pauses_between_reports_grow() -> None:
    reports: List[Tuple[float, str]] = []
    now = 0.0

    def failed(what: str, *more: Any) -> None:
        reports.append((now, what))

    all_watches = watches.Watches(failed, lambda fd, events: None)
    with mock.patch.object(time, "monotonic", lambda: now):
        all_watches.add(0, watches.READABLE, fail, ())
        for turn in range(20_000):
            now = max(0, turn - 10) / 100
            all_watches.run(0, watches.READABLE)
    assert [what for _, what in reports[:10]] == ["a function of add_reader"] * 10
    assert [round(at) for at, _ in reports[10:]] == [0, 1, 3, 7, 15, 31, 63, 123, 183]
    assert reports[11][1] == "a function of add_reader (111 times in a row)"


def test_what_is_no_exception_ends_the_run_at_once(pair: Pair) -> None:
    """It is never taken for one of many failures."""
    raised: List[BaseException] = [Oops("first"), SystemExit(3)]

    def read() -> None:
        raise raised[0] if len(raised) > 1 else SystemExit(3)

    with App() as app:
        app.listen(0, host="127.0.0.1")
        app.add_reader(pair[0], read)
        app.call_later(0.01, raised.pop)
        pair[1].send(b"x")
        with pytest.raises(SystemExit):
            app.run()


def test_a_coroutine_function_is_explained(server: Any, pair: Pair) -> None:
    """Without going in a circle."""

    async def load() -> None: ...

    place = rf"{re.escape(load.__qualname__)} \(.*test_watches_mistakes.py:\d+\)"
    task = r"may start a task with asyncio.ensure_future\(...\), in an app that has coroutine .*"
    app = App()
    for add in (app.add_reader, app.call_later, app.add_writer):
        first: Any = 1.0 if add == app.call_later else pair[0]
        with pytest.raises(
            TypeError, match=f"^fn must be a plain .* as {place} is: a plain one {task}"
        ):
            add(first, load)
    errors: List[BaseException] = []
    server.call(server.app.on_error, lambda error, source: errors.append(error))
    server.call(server.app.add_writer, pair[0], lambda: load())
    peer.eventually(lambda: errors)
    server.call(server.app.remove_writer, pair[0])
    text = str(errors[0])
    assert re.match(rf"a function of add_writer returned a coroutine .*: .*<lambda>.* {task}", text)
