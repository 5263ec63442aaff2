# SPDX-License-Identifier: MIT
"""`pyws.History`: what it accepts, and which topics it means."""

import copy
import pickle
from typing import Any

import pytest
from coroutines import in_loop
from keeping_checks import (
    any_id_against_a_model,
    anything_is_kept,
    bounds,
    completeness,
    order_of_all,
    pages,
)
from memory_broker import Hub, MemoryBroker

from pyws import History
from pyws.history import history_of


def test_what_it_holds() -> None:
    one = History("chat/*")
    assert (one.topics, one.messages, one.seconds) == (("chat/*",), 1000, 3600)
    two = History(["a", "b*"], messages=1, seconds=1.5)
    assert (two.topics, two.messages, two.seconds) == (("a", "b*"), 1, 1.5)


@pytest.mark.parametrize(
    ("topics", "inside", "outside"),
    [
        ("chat", ["chat"], ["", "chat/", "cha", "CHAT", "chat*"]),
        ("chat/*", ["chat/", "chat/1", "chat/*", "chat/é\0\n"], ["chat", "", "Chat/1"]),
        ("*", ["", "*", "anything"], []),
        ("", [""], ["a", "\0"]),
        (["a", "b*", "é*"], ["a", "b", "bc", "é", "éa"], ["ab", "c", "e"]),
        (("?", "[a]", "a.b"), ["?", "[a]", "a.b"], ["x", "a", "axb"]),
    ],
)
def test_which_topics_it_means(topics: Any, inside: Any, outside: Any) -> None:
    history = History(topics)
    for topic in inside:
        assert history.matches(topic), topic
        assert history.matches(topic.encode()), topic
    for topic in outside:
        assert not history.matches(topic), topic
        assert not history.matches(topic.encode()), topic


def test_the_first_one_wins() -> None:
    first, second = History("chat/1"), History("chat/*")
    assert history_of([first, second], b"chat/1") is first
    assert history_of([first, second], b"chat/2") is second
    assert history_of([second, first], b"chat/1") is second
    assert history_of([first, second], b"news") is None
    assert history_of([], b"news") is None


@pytest.mark.parametrize(
    ("arguments", "more", "error"),
    [
        ((5,), {}, "topics must be a str or a list of str, not int"),
        ((b"chat",), {}, "topics must be a str or a list of str, not bytes"),
        ((None,), {}, "topics must be a str or a list of str, not None"),
        ((["a", b"b"],), {}, "topics must hold only str, not bytes"),
        (([],), {}, "topics must not be empty"),
        (("a*b",), {}, r"a \* may only be at the end, not as in 'a\*b'"),
        ((["a", "**"],), {}, r"a \* may only be at the end, not as in '\*\*'"),
        (("\ud800",), {}, "topics cannot be encoded"),
        (("a",), {"messages": 0}, "messages must be from 1 to 1000000, not 0"),
        (("a",), {"messages": 10**9}, "messages must be from 1 to 1000000, not 1000000000"),
        (("a",), {"messages": 1.5}, "messages must be an int from 1 to 1000000, not float"),
        (("a",), {"messages": True}, "messages must be an int from 1 to 1000000, not bool"),
        (("a",), {"seconds": 0}, "seconds must be from 1 to 4000000 seconds, not 0"),
        (("a",), {"seconds": float("nan")}, "seconds must be from 1 to 4000000 seconds, not nan"),
        (("a",), {"seconds": "1h"}, "seconds must be a number from 1 to 4000000 seconds, not str"),
    ],
)
def test_wrong_arguments(arguments: Any, more: Any, error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        History(*arguments, **more)


def test_bounds_have_names() -> None:
    with pytest.raises(TypeError):
        History("a", 10)  # type: ignore[call-arg]


def test_it_is_a_value() -> None:
    one = History(["a", "b*"], messages=5, seconds=10)
    for other in (
        History(("a", "b*"), messages=5, seconds=10.0),
        copy.deepcopy(one),
        pickle.loads(pickle.dumps(one)),
    ):
        assert one == other
        assert hash(one) == hash(other)
        assert other.matches("b")
    assert one != History(["a", "b*"], messages=6, seconds=10)
    assert one != History(["a"], messages=5, seconds=10)
    assert one != 5
    assert repr(one) == "History(('a', 'b*'), messages=5, seconds=10)"
    assert repr(History("a*", seconds=1.5)) == "History('a*', messages=1000, seconds=1.5)"
    with pytest.raises(AttributeError, match="messages cannot be set"):
        one.messages = 6
    with pytest.raises(AttributeError, match="messages cannot be deleted"):
        del one.messages


# ---- a broker in memory keeps messages as others do ---------------------------------------------


@in_loop
async def test_a_broker_in_memory_keeps_messages() -> None:
    hub = Hub()
    for check in (order_of_all, pages, completeness, anything_is_kept, any_id_against_a_model):
        await check(lambda: MemoryBroker(hub))


@in_loop
async def test_a_broker_in_memory_forgets() -> None:
    hub = Hub()
    now = 0.0
    hub.clock = lambda: now

    async def wait(seconds: float) -> None:
        nonlocal now
        now += seconds

    await bounds(lambda: MemoryBroker(hub), wait, hub.clock)
