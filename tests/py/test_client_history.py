# SPDX-License-Identifier: MIT
"""client.js with ``history: true`` in a headless Chromium: labels, duplicates, gaps, last ids."""

import json
from typing import Any, Callable, Dict, Iterator, List
from urllib.parse import parse_qs

import pytest
from chromium import Browser, launched
from common import HTTP
from memory_broker import Hub, MemoryBroker

from pyws import App, AppOptions, History, WebSocket
from pyws.browser import client_js

pytestmark = pytest.mark.timeout(240)

PAGE = """<!DOCTYPE html><title>page</title><script src="/client.js"></script><script>
const log = [], states = [];
let socket;
const shown = data => typeof data === "string" ? data : [...new Uint8Array(data)];
const start = (url, more = {history: true}) => socket = connect(url, {
  message(data, ...rest) { log.push([shown(data), ...rest]); },
  gap(...topic) { log.push(["gap", ...topic]); },
  state(name) { states.push(name); },
  ...more,
});
</script>"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


class Fake:
    """A server that sends what it is given, bytes in a list, and remembers what clients know."""

    def __init__(self, serve: Callable[..., Any], browser: Browser) -> None:
        self.known: List[Dict[str, str]] = []
        self.queries: List[str] = []
        self.browser = browser
        server = serve(self.configure, AppOptions(keep_alive_timeout=60))
        browser.open(f"{HTTP}://127.0.0.1:{server.port}/")

    def configure(self, app: App) -> None:
        app.get("/", lambda res, req: res.send(PAGE, headers={"Content-Type": "text/html"}))
        app.get("/client.js", client_js)
        app.ws("/fake", open=self.on_open, message=self.on_message, max_payload_length=1 << 20)

    def on_open(self, ws: WebSocket) -> None:
        self.queries.append(ws._target.partition("?")[2])
        self.known.append(json.loads(ws.query.get("history", "null")))

    def on_message(self, ws: WebSocket, message: Any, opcode: Any) -> None:
        for one in json.loads(message):
            if one == "drop":
                ws.close()
            else:
                ws.send(bytes(one) if isinstance(one, list) else one)

    def start(self, url: str = "/fake", more: str = "{history: true}") -> None:
        self.browser.evaluate(f"start({json.dumps(url)}, {more})")
        self.browser.wait_for("states.join(' ')", "connecting open")

    def send(self, *messages: Any) -> None:
        """Let the client get these, and a last one; it does not come if the connection ends."""
        self.browser.evaluate("log.length = 0")
        what = json.dumps(json.dumps([*messages, "the end"]))
        assert self.browser.evaluate(f"socket.send({what})") is True

    def got(self, *messages: Any) -> List[Any]:
        """What the client makes of messages."""
        self.send(*messages)
        self.browser.wait_for("log.length > 0 && log[log.length - 1][0]", "the end")
        found: List[Any] = self.browser.evaluate("log")
        return found[:-1]

    def drop(self) -> None:
        """End the connection, and wait for the next one."""
        before = len(self.known)
        self.send("drop")
        self.browser.wait_for(f"states.filter(name => name === 'open').length > {before - 1}", True)
        self.browser.wait_for("states.filter(name => name === 'open').length", before + 1)


@pytest.fixture
def fake(serve: Callable[..., Any], browser: Browser) -> Fake:
    return Fake(serve, browser)


def label(topic: str, id: str, **more: bool) -> str:
    return "\0" + json.dumps({"topic": topic, "id": id, **more}) + "\n"


def test_labels_are_removed(fake: Fake) -> None:
    fake.start()
    assert fake.known == [{}]
    facts = {"topic": "é\n", "id": "5-1"}
    binary = [*label("é\n", "5-2").encode(), 0, 10, 255]
    assert fake.got(
        "plain",
        label("é\n", "5-1") + "text\n\0",
        binary,
        [*label("é\n", "5-3").encode()],
        label("é\n", "5-4"),
        "\0\n\0text",
        [0, 10, 0, 1],
        [],
        [1, 0, 10],
        "",
    ) == [
        ["plain"],
        ["text\n\0", facts],
        [[0, 10, 255], {**facts, "id": "5-2"}],
        [[], {**facts, "id": "5-3"}],
        ["", {**facts, "id": "5-4"}],
        ["\0text"],
        [[0, 1]],
        [[]],
        [[1, 0, 10]],
        [""],
    ]


def test_without_history_messages_come_as_they_are(fake: Fake) -> None:
    fake.start("/fake?token=x", "{}")
    assert fake.queries == ["token=x"]
    assert fake.got("\0\n", label("a", "1") + "x", [0, 10]) == [
        ["\0\n"],
        [label("a", "1") + "x"],
        [[0, 10]],
    ]


def test_duplicates_are_left_out(fake: Fake) -> None:
    """Numbers are compared, of any length; each topic by itself."""
    fake.start()
    big = 2**63 - 1
    ids = [
        "9",
        "10",
        "10",
        "9",
        "10-0",
        "10-0",
        "10",
        "10-9",
        "10-10",
        f"{big}",
        f"{big}",
        f"{big + 1}",
    ]
    found = fake.got(*(label("a", id) + id for id in ids), label("b", "9") + "of b")
    assert [text for text, _ in found] == [
        *["9", "10", "10-0", "10-9", "10-10", f"{big}", f"{big + 1}"],
        "of b",
    ]


def test_the_last_ids_are_in_the_url(fake: Fake) -> None:
    fake.start("/fake?token=a%20b&history_=x")
    fake.got(
        label("a", "1") + "x",
        label("b&=%/é", "7", complete=True),
        label("__proto__", "3-1") + "x",
        label("a", "2") + "x",
        label("c", "9", complete=False),
        label("c", "4", complete=False),
    )
    fake.drop()
    assert fake.known == [{}, {"a": "2", "b&=%/é": "7", "__proto__": "3-1", "c": "4"}]
    query = parse_qs(fake.queries[1])
    assert (query["token"], query["history_"]) == (["a b"], ["x"])
    assert fake.got(label("a", "2") + "again", label("a", "3") + "new") == [
        ["new", {"topic": "a", "id": "3"}]
    ]


def test_a_url_has_limited_room(fake: Fake) -> None:
    """The topics that were used last come back; the others have a gap if something was missed."""
    fake.start()
    fake.got(*(label(f"topic {number}", "5") + "x" for number in range(1000)))
    fake.got(label("topic 7", "6") + "x")
    fake.drop()
    known = fake.known[1]
    assert 50 < len(known) < 200
    assert known == {"topic 7": "6", **{f"topic {n}": "5" for n in range(1001 - len(known), 1000)}}
    assert len(fake.queries[1]) < 4100
    assert fake.got(
        label("topic 1", "5", complete=True),
        label("topic 2", "6", complete=True),
        label("topic 2", "6", complete=True),
    ) == [["gap", "topic 2"]]


def test_gaps(fake: Fake) -> None:
    fake.start()
    assert fake.got(
        label("a", "5", complete=True),  # the first position is none
        label("a", "6") + "x",
        label("a", "6", complete=True),
        label("a", "4", complete=True),
        label("a", "9", complete=False),
        label("a", "9") + "old",
        label("a", "2", complete=False),  # the broker has lost its data
        label("a", "3") + "y",
        label("b", "1", complete=False),
    ) == [
        ["x", {"topic": "a", "id": "6"}],
        ["gap", "a"],
        ["gap", "a"],
        ["y", {"topic": "a", "id": "3"}],
        ["gap", "b"],
    ]


def test_functions_are_optional(fake: Fake) -> None:
    fake.start(more="{history: true, gap: null, message: undefined}")
    fake.send(label("a", "5", complete=False), label("a", "6") + "x")
    fake.drop()
    assert fake.known[-1] == {"a": "6"}


def test_b8_with_a_real_server(serve: Callable[..., Any], browser: Browser) -> None:
    """A page that comes back has everything, once."""
    hub = Hub()
    history = History("room", messages=50)
    server: Any = None

    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.send(PAGE, headers={"Content-Type": "text/html"}))
        app.get("/client.js", client_js)
        app.ws("/room", open=lambda ws: ws.subscribe("room"), history=history)

    server = serve(configure, AppOptions(broker=MemoryBroker(hub), keep_alive_timeout=60))
    browser.open(f"{HTTP}://127.0.0.1:{server.port}/")
    browser.evaluate("start('/room')")
    browser.wait_for("states.join(' ')", "connecting open")

    def publish(*messages: str) -> None:
        for message in messages:
            server.call(server.app.publish, "room", message)

    def drop() -> None:
        for ws in server.app.connections:
            ws.close()

    publish("1", "2")
    browser.wait_for("log.length", 2)
    server.call(drop)
    publish("3", "4")
    browser.wait_for("log.map(line => line[0]).join(' ')", "1 2 3 4")
    server.call(drop)
    publish(*map(str, range(5, 60)))
    browser.wait_for("log[log.length - 1][0]", "59")
    texts = browser.evaluate("log.map(line => line[0])")
    assert texts == ["1", "2", "3", "4", "gap", *map(str, range(10, 60))]
