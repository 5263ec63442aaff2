# SPDX-License-Identifier: MIT
"""Server-sent events: what is sent, clients that leave and come back (W2)."""

import asyncio
import gc
import weakref
from typing import Any, Callable, Dict, List, Optional, Tuple

import pytest
from coroutines import Gate
from peer import Peer, eventually, frame, upgraded
from test_parts import Reader, get

from pyws import App, EventStream, Request, Response, SendStatus

pytestmark = pytest.mark.usefixtures("read_by_h11")

Serve = Callable[..., Any]


def text_of(peer: Peer) -> str:
    """The next chunk of the body."""
    while b"\r\n" not in peer.buffer:
        assert peer.fill()
    size, peer.buffer = peer.buffer.split(b"\r\n", 1)
    return peer.read(int(size, 16) + 2)[:-2].decode()


def top_of(peer: Peer) -> str:
    while b"\r\n\r\n" not in peer.buffer:
        assert peer.fill()
    top, peer.buffer = peer.buffer.split(b"\r\n\r\n", 1)
    return top.decode()


EVENTS: Dict[str, Tuple[Dict[str, Any], str]] = {
    "text": ({"data": "hello"}, "data: hello\n\n"),
    "lines": ({"data": "a\nb\r\nc\rd"}, "data: a\ndata: b\ndata: c\ndata: d\n\n"),
    "separators": ({"data": "a\u2028b\x85c\x0bd"}, "data: a\u2028b\x85c\x0bd\n\n"),
    "empty": ({"data": ""}, "data: \n\n"),
    "json": ({"data": {"a": [1, "é"]}}, 'data: {"a":[1,"é"]}\n\n'),
    "bytes": ({"data": "é".encode()}, "data: é\n\n"),
    "all": ({"data": "x", "event": "price", "id": "7"}, "event: price\nid: 7\ndata: x\n\n"),
    "empty id": ({"data": "x", "id": ""}, "id: \ndata: x\n\n"),
}
WRONG: List[Dict[str, Any]] = [
    {"data": "x", "event": "a\nb"},
    {"data": "x", "event": "a\rb"},
    {"data": "x", "id": "a\0b"},
    {"data": "x", "id": 5},
    {"data": "x", "event": b"x"},
    {"data": None},
    {"data": b"\xff"},
    {"data": object()},
]


def test_w2_events(serve: Serve) -> None:
    async def handler(res: Response, req: Request) -> None:
        async with res.events(retry=2.5) as events:
            for given in WRONG:
                with pytest.raises((TypeError, ValueError)):
                    events.write(**given)
            for given, _ in EVENTS.values():
                assert await events.send(**given)
        assert events.is_closed
        assert events.write("late") is SendStatus.DROPPED
        assert not await events.send("late")
        await events.closed()
        events.end()

    with Reader(serve(lambda app: app.get("/x", handler)).port) as reader:
        for _ in range(2):
            response, body = reader.ask()
            headers = dict(response.headers)
            assert headers[b"content-type"] == b"text/event-stream"
            assert headers[b"cache-control"] == b"no-cache"
            want = "retry: 2500\n\n" + "".join(text for _, text in EVENTS.values())
            assert body.decode() == want


def test_w2_a_client_that_comes_back(serve: Serve) -> None:
    async def handler(res: Response, req: Request) -> None:
        res.write_header("Cache-Control", "no-store")
        async with res.events() as events:
            await events.send(repr(events.last_id))

    port = serve(lambda app: app.get("/x", handler)).port
    with Peer(port) as client:
        client.send(get(more="Last-Event-ID: 17\r\n") + get())
        assert "no-store" in (top := top_of(client)) and "no-cache" not in top
        assert text_of(client) == "data: '17'\n\n"
        assert text_of(client) == ""
        top_of(client)
        assert text_of(client) == "data: None\n\n"


def test_w2_head_of_events_ends_at_once(serve: Serve) -> None:
    async def handler(res: Response, req: Request) -> None:
        async with res.events(5) as events:
            await events.closed()

    with Reader(serve(lambda app: app.get("/x", handler)).port) as reader:
        for _ in range(2):
            response, body = reader.ask("HEAD")
            assert (response.status_code, body) == (200, b"")


@pytest.mark.parametrize("kind", ["coroutine", "plain"])
def test_w2_a_client_that_leaves_is_noticed(
    serve: Serve, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    streams: List[EventStream] = []
    seen: List[Any] = []

    async def coroutine(res: Response, req: Request) -> None:
        async with res.events() as events:
            streams.append(events)
            await events.closed()
        seen.append(res.aborted)

    def plain(res: Response, req: Request) -> None:
        streams.append(res.events())
        res.on_aborted(lambda res: seen.append(res.aborted))

    handler = coroutine if kind == "coroutine" else plain
    server = serve(lambda app: app.get("/x", handler))
    for reset in (False, True):
        seen.clear()
        streams.clear()
        client = Peer(server.port)
        client.send(get())
        top_of(client)
        assert server.call(streams[0].write, "one") is SendStatus.SUCCESS
        assert text_of(client) == "data: one\n\n"
        client.reset() if reset else client.socket.close()
        eventually(lambda: seen)
        assert seen == [True]
        assert server.call(streams[0].write, "two") is SendStatus.DROPPED
        assert streams[0].is_closed
    assert not caplog.records


def test_w2_comments_keep_the_connection_alive(serve: Serve) -> None:
    async def handler(res: Response, req: Request) -> None:
        async with res.events(keep_alive=0.01) as events:
            await events.closed()

    with Peer(serve(lambda app: app.get("/x", handler)).port) as client:
        client.send(get())
        top_of(client)
        assert [text_of(client) for _ in range(3)] == [":\n\n"] * 3


def test_w2_events_beside_a_socket(serve: Serve) -> None:
    """Functions that are no coroutines send to all who listen."""
    streams: List[EventStream] = []

    async def listen(res: Response, req: Request) -> None:
        async with res.events() as events:
            streams.append(events)
            await events.closed()

    def on_message(ws: Any, message: Any, opcode: Any) -> None:
        for events in streams:
            events.write(message)

    def configure(app: App) -> None:
        app.get("/events", listen)
        app.ws("/chat", message=on_message)

    port = serve(configure).port
    with Peer(port) as first, Peer(port) as second, upgraded(port, "/chat") as chat:
        for client in (first, second):
            client.send(get("/events"))
            top_of(client)
        chat.send(frame(b"hello"))
        assert text_of(first) == text_of(second) == "data: hello\n\n"


def test_w2_a_slow_listener_does_not_block_the_others(serve: Serve) -> None:
    streams: List[EventStream] = []
    statuses: List[Optional[SendStatus]] = []
    waited: List[bool] = []

    async def listen(res: Response, req: Request) -> None:
        async with res.events() as events:
            streams.append(events)
            if req.get_query("slow"):
                while not streams[0].is_closed and not waited:
                    waited.append(await events.send("x" * 12_000_000))
            await events.closed()

    server = serve(lambda app: app.get("/x", listen))
    with Peer(server.port) as slow, Peer(server.port) as quick:
        slow.send(get("/x?slow=1"))
        eventually(lambda: streams)
        quick.send(get())
        eventually(lambda: len(streams) == 2)
        assert not waited
        statuses += [server.call(events.write, "y" * 2_000_000) for events in streams]
        assert statuses[0] is SendStatus.DROPPED
        top_of(quick)
        assert text_of(quick) == "data: " + "y" * 2_000_000 + "\n\n"
        top_of(slow)
        assert len(text_of(slow)) == 12_000_008
        eventually(lambda: waited == [True])


def test_w2_mistakes_with_events(serve: Serve) -> None:
    gate = Gate()

    async def handler(res: Response, req: Request) -> None:
        for wrong in (-1, "5", True):
            with pytest.raises((TypeError, ValueError), match="^retry must be"):
                res.events(wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="^keep_alive must be"):
            res.events(keep_alive=0)
        events = res.events()
        with pytest.raises(RuntimeError, match="answered already"):
            res.events()
        events.end()
        gate.entered += 1

    with Reader(serve(lambda app: app.get("/x", handler)).port) as reader:
        assert reader.ask()[1] == b""
    eventually(lambda: gate.entered)


def test_w2_the_end_of_the_app_ends_events(serve: Serve) -> None:
    seen: List[bool] = []

    async def handler(res: Response, req: Request) -> None:
        async with res.events() as events:
            await events.send("one")
            await events.closed()
        seen.append(res.aborted)

    server = serve(lambda app: app.get("/x", handler))
    with Peer(server.port) as client:
        client.send(get())
        top_of(client)
        text_of(client)
        server.call(server.app.close)
        server.join()
    assert seen == [True]


def test_w2_nothing_is_left_of_events(serve: Serve) -> None:
    references: List[Any] = []

    async def handler(res: Response, req: Request) -> None:
        async with res.events() as events:
            references.extend([weakref.ref(res), weakref.ref(events)])
            if req.get_query("stay"):
                try:
                    await asyncio.wait_for(events.closed(), 0.01)
                except asyncio.TimeoutError:
                    pass
                await events.closed()

    server = serve(lambda app: app.get("/x", handler))
    gc.collect()
    gc.disable()
    try:
        for path in ("/x", "/x?stay=1"):
            with Peer(server.port) as client:
                client.send(get(path))
                top_of(client)
        eventually(lambda: server.call(server.app.stats)["connections"] == 0)
        eventually(lambda: [ref() for ref in references] == [None] * 4)
    finally:
        gc.enable()
