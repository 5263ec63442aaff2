# SPDX-License-Identifier: MIT
"""Topics: random operations against a model (T66), and publishing without memory or members."""

import logging
import random
import re
from typing import Any, Callable, List, Optional, Set

import pytest
from room import Room

from pyws import App
from pyws._native import lib

# ---- a model ------------------------------------------------------------------------------------


class Model:
    """What the topics should be; `expected` holds what each client must receive."""

    def __init__(self, clients: int) -> None:
        self.topics: List[Optional[Set[str]]] = [set() for _ in range(clients)]  # None: closed
        self.expected: List[List[bytes]] = [[] for _ in range(clients)]

    def count(self, topic: str) -> int:
        return sum(topics is not None and topic in topics for topics in self.topics)

    def publish(self, topic: str, text: bytes, but: int = -1) -> bool:
        receivers = [
            number
            for number, topics in enumerate(self.topics)
            if topics is not None and topic in topics and number != but
        ]
        for number in receivers:
            self.expected[number].append(text)
        return bool(receivers)


@pytest.mark.parametrize("seed", range(3))
def test_t66_random_operations_against_a_model(serve: Callable[..., Any], seed: int) -> None:
    chance = random.Random(seed)
    events: List[Any] = []
    model = Model(12)
    with Room(serve, clients=12, subscription=lambda *args: events.append(args)) as room:

        def step(number: int) -> None:
            i = chance.randrange(12)
            ws, mine = room.sockets[i], model.topics[i]
            topic = chance.choice("abcdef")
            what = chance.randrange(100)
            text = b"%d" % number
            count = model.count(topic)
            if what < 35:
                new = mine is not None and topic not in mine
                assert ws.subscribe(topic) == (mine is not None)
                if mine is not None:
                    mine.add(topic)
                assert events == ([(ws, topic, count + 1, count)] if new else [])
            elif what < 60:
                old = mine is not None and topic in mine
                assert ws.unsubscribe(topic) == old
                if old and mine is not None:
                    mine.remove(topic)
                assert events == ([(ws, topic, count - 1, count)] if old else [])
            elif what < 75:
                assert room.app.publish(topic, text) == model.publish(topic, text)
            elif what < 90:
                but = chance.choice((i, -1))
                wanted = mine is not None and model.publish(topic, text, but)
                assert ws.publish(topic, text, exclude_self=but == i) == wanted
            elif what < 99 or number % 3:
                ws.send(text)
                if mine is not None:
                    model.expected[i].append(text)
            else:
                ws.end(4000)
                assert sorted(event[1] for event in events) == sorted(mine or ())
                model.topics[i] = None
            events.clear()
            assert room.app.num_subscribers(topic) == model.count(topic)
            assert sorted(ws.get_topics()) == sorted(model.topics[i] or ())

        def steps(first: int) -> None:
            for number in range(first, first + 50):
                step(number)

        for first in range(0, 2000, 50):
            room.call(steps, first)
        for client, expected, ws in zip(room.clients, model.expected, room.sockets):
            for text in expected:
                assert client.frame().payload == text
            room.call(ws.send, b"end")
            assert client.frame().payload == b"end" if not ws.closed else client.frame().opcode == 8


def test_publishing_to_nobody_is_quiet(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    """T64: publish without subscribers, before run() and after it."""
    app = App()
    caplog.set_level(logging.DEBUG)
    assert app.publish("news", "x") is False
    assert app.num_subscribers("news") == 0
    app.ws("/*", {}).listen({"host": "127.0.0.1"})
    app.defer(app.close)
    app.run()
    assert app.publish("news", "x") is False
    assert app.num_subscribers("news") == 0
    lines = [line for line in caplog.records if line.name != "pyws.server"]
    assert not [line for line in lines if not re.match(r"app \d+: \w+ -> \w+$", line.getMessage())]
    with App() as over:
        pass
    calls: List[Callable[[], Any]] = [
        lambda: over.publish("a", "b"),
        lambda: over.num_subscribers("a"),
    ]
    for call in calls:
        with pytest.raises(RuntimeError, match="this app is closed"):
            call()


def test_t84_no_memory_for_a_subscription(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Room(serve) as room:
        (ws,) = room.sockets
        for name in ("subscribe", "unsubscribe"):
            with monkeypatch.context() as patch:
                patch.setattr(lib, "ws_conn_" + name, lambda *args: -1)  # WS_ENOMEM
                with pytest.raises(MemoryError):
                    room.call(getattr(ws, name), "news")
        assert room.call(ws.subscribe, "news")
