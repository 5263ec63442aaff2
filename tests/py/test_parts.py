# SPDX-License-Identifier: MIT
"""Answers in parts: lengths, chunks, slow clients, clients that leave, streams (W2)."""

import asyncio
import gc
import logging
import threading
import time
import weakref
from typing import Any, AsyncIterator, Callable, Dict, Iterator, List, Tuple

import h11
import pytest
from common import TIMEOUT, TLS_MEMORY
from coroutines import in_thread
from peer import Peer, eventually
from test_bodies import head, post

from pyws import App, AppOptions, Request, Response, SendStatus

pytestmark = pytest.mark.usefixtures("read_by_h11")

Serve = Callable[..., Any]
BIG = bytes(range(256)) * 40_000  # more than the kernel takes at once


def get(path: str = "/x", more: str = "", method: str = "GET") -> bytes:
    return head(path, more, method)


class Reader:
    """An independent reader of responses: h11."""

    def __init__(self, port: int) -> None:
        self.peer = Peer(port)
        self.connection = h11.Connection(h11.CLIENT)

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self.peer.socket.close()

    def ask(self, method: str = "GET", path: str = "/x", body: bytes = b"") -> Any:
        """The response and its body."""
        headers = [("Host", "x"), ("Content-Length", str(len(body)))]
        request = h11.Request(method=method, target=path, headers=headers)
        data = self.connection.send(request) or b""
        data += self.connection.send(h11.Data(data=body)) or b""
        data += self.connection.send(h11.EndOfMessage()) or b""
        self.peer.send(data)
        return self.answer()

    def answer(self) -> Tuple[Any, bytes]:
        response, parts = None, []
        while True:
            event = self.connection.next_event()
            if event is h11.NEED_DATA:
                self.connection.receive_data(self.peer.socket.recv(65536))
            elif isinstance(event, h11.Response):
                response = event
            elif isinstance(event, h11.Data):
                parts.append(bytes(event.data))
            elif isinstance(event, h11.EndOfMessage):
                if self.connection.our_state is h11.DONE:
                    self.connection.start_next_cycle()
                return response, b"".join(parts)
            else:
                raise AssertionError(event)


def headers_of(response: Any) -> Dict[str, str]:
    return {name.decode(): value.decode() for name, value in response.headers}


# ---- lengths and chunks -------------------------------------------------------------------------


def plain_parts(res: Response, req: Request) -> None:
    assert res.write("one ") is SendStatus.SUCCESS
    res.write(b"two ")
    res.write(b"")
    res.end("three")


def known(res: Response, req: Request) -> None:
    res.write_header("X-Kind", "known").content_length(9)
    res.write("one ")
    assert res.get_write_offset() == 4
    res.end(b"three")


async def later(res: Response, req: Request) -> None:
    res.write_status(201).write("a")
    await asyncio.sleep(0.01)
    res.write({"b": 1})
    await res.drained()
    res.end()
    assert res.has_responded or res.aborted


async def numbers(res: Response, req: Request) -> None:
    async def source() -> AsyncIterator[Any]:
        for number in range(5):
            await asyncio.sleep(0)
            yield f"{number} "

    assert await res.stream(source()) != res.aborted


async def listed(res: Response, req: Request) -> None:
    assert await res.stream([b"a", "b", {"c": 1}])


async def nothing(res: Response, req: Request) -> None:
    assert await res.stream([])


def tried(res: Response, req: Request) -> None:
    assert res.try_end("hello") == (True, True)


def tried_twice(res: Response, req: Request) -> None:
    assert res.try_end("hel", 5) == (True, False)
    assert res.try_end("lo", 5) == (True, True)


async def echo(res: Response, req: Request) -> None:
    """The answer streams while the body arrives."""
    async for chunk in req.stream():
        if res.write(chunk) is not SendStatus.SUCCESS:
            await res.drained()
    res.end()


ANSWERS: Dict[str, Tuple[Callable[..., Any], int, bytes, Any]] = {
    "plain": (plain_parts, 200, b"one two three", None),
    "known": (known, 200, b"one three", 9),
    "later": (later, 201, b'a{"b":1}', None),
    "numbers": (numbers, 200, b"0 1 2 3 4 ", None),
    "listed": (listed, 200, b'ab{"c":1}', None),
    "nothing": (nothing, 200, b"", 0),
    "tried": (tried, 200, b"hello", 5),
    "tried_twice": (tried_twice, 200, b"hello", 5),
    "echo": (echo, 200, b"", None),
}


def all_answers(app: App) -> None:
    for name, (handler, *_) in ANSWERS.items():
        app.any(f"/{name}", handler)


@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_w2_answers_in_parts(serve: Serve, method: str, caplog: pytest.LogCaptureFixture) -> None:
    with Reader(serve(all_answers).port) as reader:
        for _ in range(2):  # the connection is kept
            for name, (_, status, body, length) in ANSWERS.items():
                response, got = reader.ask(method, f"/{name}")
                assert (response.status_code, got) == (status, b"" if method == "HEAD" else body)
                headers = headers_of(response)
                if name == "echo":
                    continue  # without a body it ends at once, or in chunks
                assert headers.get("content-length") == (None if length is None else str(length))
                assert headers.get("transfer-encoding") == ("chunked" if length is None else None)
    assert not caplog.records


def test_w2_http_1_0_ends_with_the_connection(serve: Serve) -> None:
    with Peer(serve(all_answers).port) as client:
        client.send(b"GET /plain HTTP/1.0\r\n\r\n")
        while client.fill():
            pass
    top, body = client.buffer.split(b"\r\n\r\n", 1)
    assert body == b"one two three"
    assert b"Transfer-Encoding" not in top and b"Connection: close" in top


def test_w2_head_needs_no_parts(serve: Serve) -> None:
    def handler(res: Response, req: Request) -> None:
        res.content_length(1000)
        res.end()

    with Reader(serve(lambda app: app.head("/x", handler)).port) as reader:
        for _ in range(2):
            response, body = reader.ask("HEAD")
            assert (headers_of(response)["content-length"], body) == ("1000", b"")


def test_w2_an_upload_is_echoed_while_it_arrives(serve: Serve) -> None:
    port = serve(lambda app: app.post("/x", echo, max_body_size=len(BIG))).port
    with Reader(port) as reader:
        sender = threading.Thread(target=reader.peer.send, args=(post("/x", BIG),))
        reader.connection.send(h11.Request(method="GET", target="/", headers=[("Host", "x")]))
        reader.connection.send(h11.EndOfMessage())
        sender.start()
        _, body = reader.answer()
        sender.join(TIMEOUT)
        assert body == BIG


# ---- slow clients -------------------------------------------------------------------------------


async def slow_stream(res: Response, req: Request) -> None:
    await res.stream(BIG[i : i + 50_000] for i in range(0, len(BIG), 50_000))


async def slow_drained(res: Response, req: Request) -> None:
    for begin in range(0, len(BIG), 50_000):
        status = res.write(BIG[begin : begin + 50_000])
        if status is not SendStatus.SUCCESS and not await res.drained():
            return
    res.end()


def slow_writable(res: Response, req: Request) -> None:
    def go_on(res: Response, offset: int) -> bool:
        ok, _ = res.try_end(BIG[offset:], len(BIG))
        return ok

    res.on_writable(go_on)
    go_on(res, 0)


def slow_end(res: Response, req: Request) -> None:
    """The last part waits for room."""
    assert res.write(BIG[:9_000_000]) is SendStatus.BACKPRESSURE
    assert res.write(BIG[9_000_000:]) is SendStatus.DROPPED
    res.end(BIG[9_000_000:])
    assert res.has_responded


SLOW = [slow_stream, slow_drained, slow_writable, slow_end]


@pytest.mark.parametrize("handler", SLOW, ids=lambda handler: handler.__name__)
def test_w2_a_slow_client_gets_everything(
    serve: Serve, handler: Any, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda app: app.get("/x", handler).get("/y", plain_parts))
    with Reader(server.port) as reader:
        threading.Event().wait(0.05)
        _, body = reader.ask()
        assert body == BIG
        assert reader.ask(path="/y")[1] == b"one two three"
    assert not caplog.records


def test_w2_a_client_that_does_not_read_costs_little_memory(serve: Serve) -> None:
    entered = []

    async def handler(res: Response, req: Request) -> None:
        entered.append(res)
        await res.stream(bytes(20_000) for _ in range(10_000))

    server = serve(lambda app: app.get("/x", handler))
    with Peer(server.port) as client:
        client.send(get())
        eventually(lambda: entered and server.call(entered[0].get_write_offset) > 100_000)
        before = -1
        while before != (now := server.call(entered[0].get_write_offset)):
            before = now
            threading.Event().wait(0.1)
        assert before < 100_000_000
        assert server.call(server.app.stats)["memory"] < 512 * 1024 + TLS_MEMORY
    eventually(lambda: server.call(server.app.stats)["connections"] == 0)


def test_w2_what_exceeds_max_response_backpressure_is_dropped(serve: Serve) -> None:
    seen: List[SendStatus] = []

    def handler(res: Response, req: Request) -> None:
        res.on_aborted(lambda res: None)
        while res.write(bytes(60_000)) is not SendStatus.BACKPRESSURE:
            pass
        offset = res.get_write_offset()
        seen.append(res.write(bytes(99_000)))
        seen.append(res.write(bytes(2_000)))
        assert res.get_write_offset() in (offset, offset + 99_000)

    server = serve(
        lambda app: app.get("/x", handler), AppOptions(max_response_backpressure=100_000)
    )
    with Peer(server.port) as client:
        client.send(get())
        eventually(lambda: len(seen) == 2)
        assert SendStatus.DROPPED in seen


# ---- clients that leave -------------------------------------------------------------------------


def test_w2_drained_waits_for_the_end_of_a_client_that_is_lost(serve: Serve) -> None:
    """A part that finds the client gone comes before the app learns of that."""
    seen: List[Any] = []
    has_begun = threading.Event()

    async def handler(res: Response, req: Request) -> None:
        res.write("first")
        await asyncio.sleep(0.01)  # the head leaves
        has_begun.set()
        while res.write("more") is not SendStatus.DROPPED:
            time.sleep(0.01)  # nothing else runs in this loop
        seen.append(res.aborted)
        seen.append(await res.drained())

    server = serve(lambda app: app.get("/x", handler))
    client = Peer(server.port)
    client.send(get())
    assert has_begun.wait(TIMEOUT)
    client.reset()
    eventually(lambda: len(seen) == 2)
    assert seen == [False, False]


@pytest.mark.parametrize("way", ["drained", "async", "sync", "waiting"])
def test_w2_a_client_that_leaves_stops_the_producer(
    serve: Serve, way: str, caplog: pytest.LogCaptureFixture
) -> None:
    seen: List[Any] = []

    async def source() -> AsyncIterator[bytes]:
        try:
            yield b"first"
            if way == "waiting":
                await asyncio.sleep(1000)
            while True:
                yield bytes(50_000)
        finally:
            seen.append("closed")

    def numbers() -> Iterator[bytes]:
        try:
            while True:
                yield bytes(50_000)
        finally:
            seen.append("closed")

    async def handler(res: Response, req: Request) -> None:
        if way == "drained":
            while res.write(bytes(50_000)) is SendStatus.SUCCESS or await res.drained():
                pass
            seen.append("closed")
            seen.append(False)
        else:
            seen.append(await res.stream(numbers() if way == "sync" else source()))
        assert res.aborted and not res.has_responded
        assert res.write("more") is SendStatus.DROPPED
        assert res.try_end("more") == (False, True)
        assert not await res.drained()
        assert not await res.stream(["more"])
        res.end("more")
        seen.append("end")

    server = serve(lambda app: app.get("/x", handler))
    for reset in (False, True):
        seen.clear()
        client = Peer(server.port)
        client.send(get())
        client.read(20)
        client.reset() if reset else client.socket.close()
        eventually(lambda: "end" in seen)
        assert seen == ["closed", False, "end"]
    assert not caplog.records


@pytest.mark.parametrize("kind", ["plain", "coroutine", "source", "writable"])
def test_t71_an_exception_in_the_middle_drops_the_connection(
    serve: Serve, kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    reported: List[Any] = []

    def plain(res: Response, req: Request) -> None:
        res.write("begin")
        raise LookupError("in the middle")

    async def coroutine(res: Response, req: Request) -> None:
        res.write("begin")
        await asyncio.sleep(0.01)
        raise LookupError("in the middle")

    async def source(res: Response, req: Request) -> None:
        def parts() -> Iterator[str]:
            yield "begin"
            raise LookupError("in the middle")

        await res.stream(parts())

    def writable(res: Response, req: Request) -> None:
        res.on_writable(lambda res, offset: plain(res, req))
        while res.write(bytes(100_000)) is SendStatus.SUCCESS:
            pass

    def answer(error: BaseException, res: Any, req: Any) -> None:
        reported.append(error)
        res.write_status(500).end("sorry")

    def configure(app: App) -> None:
        app.set_error_handler(answer)
        app.get("/x", locals_[kind])

    locals_ = {"plain": plain, "coroutine": coroutine, "source": source, "writable": writable}
    server = serve(configure)
    with Peer(server.port) as client:
        client.send(get())
        try:
            while client.fill():
                pass
        except ConnectionResetError:
            pass
        assert not client.buffer.endswith(b"0\r\n\r\n") and b"sorry" not in client.buffer
    eventually(lambda: reported)
    errors = [record for record in caplog.records if record.levelno >= logging.WARNING]
    assert len(errors) == 1
    assert "exception in the handler of /x from 127.0.0.1:" in errors[0].message


@pytest.mark.parametrize("kind", ["chunks", "length", "ended early", "not answered", "closed"])
def test_w2_a_client_sees_that_an_answer_breaks_off(serve: Serve, kind: str) -> None:
    """What was written in the same turn arrives, and so do the answers before it."""

    def handler(res: Response, req: Request) -> None:
        if kind == "closed":
            res.close()
            return
        if kind in ("length", "ended early"):
            res.content_length(10)
        res.write("begin")
        if kind == "ended early":
            res.end()
        elif kind != "not answered":
            raise LookupError("in the middle")

    def configure(app: App) -> None:
        app.get("/x", handler)
        app.get("/before", lambda res, req: res.end("before"))

    server = serve(configure)
    for before in (b"", b"GET /before HTTP/1.1\r\nHost: h\r\n\r\n"):
        with Peer(server.port) as client:
            client.send(before + get())
            if before:
                assert client.response().body == b"before"
            try:
                while client.fill():
                    pass
            except ConnectionResetError:
                pass
            if kind == "closed":
                assert client.buffer == b""
                continue
            head, _, body = client.buffer.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 200 OK\r\n")
            if kind in ("length", "ended early"):
                assert b"\r\nContent-Length: 10" in head
                assert body == b"begin"
            else:
                assert b"\r\nTransfer-Encoding: chunked" in head
                assert body == b"5\r\nbegin\r\n"  # and no last chunk


def test_w2_an_answer_that_is_not_ended(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def plain(res: Response, req: Request) -> None:
        res.write("begin")

    async def coroutine(res: Response, req: Request) -> None:
        res.write("begin")

    server = serve(lambda app: app.get("/plain", plain).get("/coroutine", coroutine))
    for path in ("/plain", "/coroutine"):
        with Peer(server.port) as client:
            client.send(get(path))
            try:
                while client.fill():
                    pass
            except ConnectionResetError:
                pass
            assert b"0\r\n\r\n" not in client.buffer
        assert f"the handler of {path} did not end its answer" in caplog.text


def test_w2_a_wrong_length(serve: Serve) -> None:
    errors: List[str] = []

    def handler(res: Response, req: Request) -> None:
        res.content_length(5)
        res.write("abc")
        with pytest.raises(ValueError) as caught:
            res.write("def")
        errors.append(str(caught.value))
        with pytest.raises(ValueError) as caught:
            res.end("x")
        errors.append(str(caught.value))

    server = serve(lambda app: app.get("/x", handler))
    with Peer(server.port) as client:
        client.send(get())
        try:
            while client.fill():
                pass
        except ConnectionResetError:
            pass
    eventually(lambda: len(errors) == 2)  # the client may see the end first
    assert errors == [
        "the body has more than its 5 bytes: 6",
        "the body has 4 of its 5 bytes: the connection was dropped",
    ]


def test_w2_mistakes(serve: Serve) -> None:
    done: List[str] = []

    async def handler(res: Response, req: Request) -> None:
        for wrong in (-1, 2**63, 1.5, "1"):
            with pytest.raises((TypeError, ValueError), match="^length must be"):
                res.content_length(wrong)  # type: ignore[arg-type]
        with pytest.raises(ValueError, match=r"see content_length\(\)"):
            res.write_header("Content-Length", 5)
        for chunk in (None, object(), "\ud800"):
            with pytest.raises((TypeError, ValueError)):
                res.write(chunk)  # type: ignore[arg-type]
        for source in ("text", b"bytes", {"a": 1}, 5, None):
            with pytest.raises(TypeError, match="^source must be an iterable of chunks"):
                await res.stream(source)  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="^fn must be callable"):
            res.on_writable(5)  # type: ignore[arg-type]
        assert res.get_write_offset() == 0
        res.write("a")
        with pytest.raises(RuntimeError, match="before the first write"):
            res.content_length(5)
        with pytest.raises(RuntimeError, match="the head of the answer was sent"):
            res.write_header("X-Late", "1")
        with pytest.raises(RuntimeError, match="the head of the answer was sent"):
            res.write_status(404)
        res.end("b")
        for call in (lambda: res.write("c"), lambda: res.try_end("c"), res.events, res.end):
            with pytest.raises(RuntimeError, match="answered already"):
                call()
        done.append("done")

    server = serve(lambda app: app.get("/x", handler))
    with Reader(server.port) as reader:
        assert reader.ask()[1] == b"ab"
    eventually(lambda: done)


def test_t74_parts_belong_to_the_thread_of_the_app(serve: Serve) -> None:
    kept: List[Response] = []

    def handler(res: Response, req: Request) -> None:
        res.on_aborted(lambda res: None)
        kept.append(res)

    server = serve(lambda app: app.get("/x", handler))
    with Peer(server.port) as client:
        client.send(get())
        eventually(lambda: kept)
        res = kept[0]
        for call in (
            lambda: res.write("x"),
            lambda: res.try_end("x"),
            lambda: res.content_length(5),
            lambda: res.on_writable(print),
            res.get_write_offset,
            res.events,
            lambda: res.drained().send(None),
            lambda: res.stream([]).send(None),
        ):
            with pytest.raises(RuntimeError, match=r"app\.defer"):
                call()
        server.call(res.end)


@pytest.mark.parametrize("name", [*ANSWERS, *[handler.__name__ for handler in SLOW]])
def test_w2_nothing_is_left_of_an_answer(serve: Serve, name: str) -> None:
    """Without the help of the garbage collector."""
    references: List[Any] = []
    work = ANSWERS[name][0] if name in ANSWERS else globals()[name]

    async def waiting(res: Response, req: Request) -> None:
        references.append(weakref.ref(res))
        await work(res, req)

    def plain(res: Response, req: Request) -> None:
        references.append(weakref.ref(res))
        work(res, req)

    handler = waiting if asyncio.iscoroutinefunction(work) else plain
    server = serve(lambda app: app.get("/x", handler))
    gc.collect()
    gc.disable()
    try:
        with Reader(server.port) as reader:
            reader.ask()
        with Peer(server.port) as client:  # which leaves in the middle
            client.send(get())
            client.read(20)
        eventually(lambda: server.call(server.app.stats)["connections"] == 0)
        eventually(lambda: [ref() for ref in references] == [None] * 2)
    finally:
        gc.enable()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_w2_under_serve(loop: str) -> None:
    module: Any = asyncio if loop == "asyncio" else pytest.importorskip("uvloop")

    def ask_all(port: int) -> None:
        with Reader(port) as reader:
            for name, (_, status, body, _) in ANSWERS.items():
                response, got = reader.ask(path=f"/{name}")
                assert (response.status_code, got) == (status, body)
            for handler in SLOW:
                assert reader.ask(path=f"/{handler.__name__}")[1] == BIG

    async def main() -> None:
        app = App()
        all_answers(app)
        for handler in SLOW:
            app.get(f"/{handler.__name__}", handler)
        async with app.serving({"host": "127.0.0.1"}):
            await in_thread(ask_all, app.port)

    runner = module.new_event_loop()
    try:
        runner.run_until_complete(asyncio.wait_for(main(), TIMEOUT))
    finally:
        runner.close()
