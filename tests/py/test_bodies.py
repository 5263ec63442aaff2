# SPDX-License-Identifier: MIT
"""Bodies of requests in Python: how they are read, refused, limited, left alone (W1, H25, H26)."""

import asyncio
import gc
import hashlib
import logging
import time
import weakref
from pathlib import Path
from typing import Any, Callable, Dict, List

import peer
import pytest
from common import HTTP, TIMEOUT, TLS_MEMORY
from coroutines import Gate, in_loop, in_thread
from curl import curl
from peer import Peer, eventually

from pyws import (
    App,
    AppOptions,
    ClientDisconnect,
    Request,
    Response,
)

pytestmark = pytest.mark.usefixtures("read_by_h11")

Serve = Callable[..., Any]

FORM = "Content-Type: application/x-www-form-urlencoded\r\n"


def typed(kind: str) -> str:
    return f"Content-Type: {kind}\r\n"


def head(path: str, more: str = "", method: str = "POST") -> bytes:
    return f"{method} {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode()


def post(path: str, body: bytes, more: str = "") -> bytes:
    """A request whose body has a known length."""
    return head(path, f"Content-Length: {len(body)}\r\n{more}") + body


def chunked(path: str, *chunks: bytes, more: str = "", end: bytes = b"0\r\n\r\n") -> bytes:
    parts = b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks if chunk)
    return head(path, "Transfer-Encoding: chunked\r\n" + more) + parts + end


def ask(port: int, data: bytes) -> peer.Response:
    with Peer(port) as client:
        client.send(data)
        return client.response()


# ---- what handlers get --------------------------------------------------------------------------


def digest(data: bytes) -> Dict[str, Any]:
    return {"size": len(data), "sha1": hashlib.sha1(data).hexdigest()}


async def by_body(res: Response, req: Request) -> None:
    data = await req.body()
    assert await req.body() is data
    res.end(data)


async def by_stream(res: Response, req: Request) -> None:
    pieces = [chunk async for chunk in req.stream()]
    assert all(pieces)
    res.end(b"".join(pieces))


async def by_get_data(res: Response, req: Request) -> None:
    res.end((await res.get_data()).read())


def by_function(res: Response, req: Request) -> None:
    pieces: List[bytes] = []

    def on_data(same: Response, chunk: bytes, is_last: bool) -> None:
        assert same is res
        pieces.append(chunk)
        if is_last:
            res.end(b"".join(pieces))

    assert res.on_data(on_data) is res


WAYS: Dict[str, Callable[..., Any]] = {
    "body": by_body,
    "stream": by_stream,
    "get_data": by_get_data,
    "on_data": by_function,
}
READERS: Dict[str, Callable[..., Any]] = {**WAYS, "plain": by_function}


@pytest.fixture(params=READERS)
def reader(request: pytest.FixtureRequest, serve: Serve) -> Any:
    """A server that echoes bodies, read in each way; "plain" runs without asyncio."""

    def configure(app: App) -> None:
        app.any("/*", READERS[request.param])
        if request.param != "plain":
            app.get("/asyncio", by_body)

    return serve(configure, AppOptions(max_body_size=3 * 1024 * 1024))


BODIES = {
    "short": b"hello",
    "nothing": b"",
    "binary": bytes(range(256)) * 40,
    "long": bytes(range(251)) * 12_000,
}


@pytest.mark.parametrize("body", BODIES.values(), ids=BODIES)
@pytest.mark.parametrize("form", ["length", "chunks"])
def test_w1_every_way_reads_every_body(reader: Any, form: str, body: bytes) -> None:
    if form == "length":
        request = post("/x", body)
    else:
        size = max(len(body) // 7, 1)
        request = chunked("/x", *[body[i : i + size] for i in range(0, len(body), size)])
    with Peer(reader.port) as client:
        for _ in range(3):  # the connection is kept
            client.send(request)
            answer = client.response()
            assert (answer.status, answer.body == body) == (200, True)


def test_w1_a_request_without_body(reader: Any) -> None:
    with Peer(reader.port) as client:
        for method in ("GET", "POST", "DELETE"):
            client.send(head("/x", method=method))
            answer = client.response()
            assert (answer.status, answer.body) == (200, b"")


def test_w1_the_same_in_every_split(reader: Any) -> None:
    request = chunked("/x", b"abc", b"defgh", end=b"0\r\nTrailer: dropped\r\n\r\n")
    with Peer(reader.port) as client:
        for split in range(len(request) + 1):
            client.send(request[:split])
            client.send(request[split:])
            assert client.response().body == b"abcdefgh"


def test_w1_byte_by_byte(reader: Any) -> None:
    with Peer(reader.port) as client:
        for request in (post("/x", b"0123456789"), chunked("/x", b"01234", b"56789")):
            for index in range(len(request)):
                client.send(request[index : index + 1])
            assert client.response().body == b"0123456789"


def test_w1_pipelined_bodies_are_answered_in_order(reader: Any) -> None:
    bodies = [b"one", b"", b"three" * 1000, b"4", b"five"]
    requests = [post("/x", body) if i % 2 else chunked("/x", body) for i, body in enumerate(bodies)]
    requests[1] = head("/x", method="GET")
    with Peer(reader.port) as client:
        client.send(b"".join(requests))
        assert [client.response().body for _ in bodies] == bodies


# ---- 100 (Continue) -----------------------------------------------------------------------------


def test_h25_a_client_that_waits_gets_a_100(reader: Any) -> None:
    with Peer(reader.port) as client:
        client.send(head("/x", "Content-Length: 5\r\nExpect: 100-continue\r\n"))
        assert client.response().status == 100
        client.send(b"hello")
        assert client.response().body == b"hello"


def test_h25_no_100_if_nothing_reads_the_body(serve: Serve) -> None:
    server = serve(lambda app: app.post("/x", lambda res, req: res.end("no")))
    with Peer(server.port) as client:
        client.send(head("/x", "Content-Length: 5\r\nExpect: 100-continue\r\n"))
        answer = client.response()
        assert (answer.status, answer.body) == (200, b"no")
        assert answer.headers["connection"] == "close"
        assert client.at_end()


# ---- limits -------------------------------------------------------------------------------------


def limited(app: App, handler: Callable[..., Any]) -> None:
    app.post("/default", handler)
    app.post("/less", handler, max_body_size=10)
    app.post("/more", handler, max_body_size=1000)
    app.post("/none", handler, max_body_size=0)


LIMITS = {"/default": 100, "/less": 10, "/more": 1000, "/none": 0}


@pytest.mark.parametrize("way", READERS)
@pytest.mark.parametrize("path", LIMITS)
def test_w1_h26_the_limit_of_app_and_route(
    serve: Serve, caplog: pytest.LogCaptureFixture, path: str, way: str
) -> None:
    limit = LIMITS[path]
    server = serve(lambda app: limited(app, READERS[way]), AppOptions(max_body_size=100))
    assert ask(server.port, post(path, bytes(limit))).status == 200
    assert ask(server.port, chunked(path, bytes(limit))).status == 200
    for request in (post(path, bytes(limit + 1)), chunked(path, bytes(limit + 1))):
        with Peer(server.port) as client:
            client.send(request)
            answer = client.response()
            assert answer.status == 413
            assert answer.body == b"413 Content Too Large: max_body_size is %d bytes\n" % limit
            assert answer.headers["connection"] == "close"
            assert client.at_end()
    assert server.call(server.app.stats)["open"] == 0
    assert not caplog.records  # the handler is not to blame


def test_h25_h26_a_413_comes_before_the_100(serve: Serve) -> None:
    server = serve(lambda app: limited(app, by_body))
    with Peer(server.port) as client:
        client.send(head("/less", "Content-Length: 11\r\nExpect: 100-continue\r\n"))
        assert client.response().status == 413


def test_h26_a_malformed_body_ends_the_handler(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    seen: List[ClientDisconnect] = []

    async def handler(res: Response, req: Request) -> None:
        try:
            await req.body()
        except ClientDisconnect as error:
            seen.append(error)
            assert res.aborted
            assert req.get_url() == "/x"  # the request can still be read
            raise

    server = serve(lambda app: app.post("/x", handler))
    for size in (b"g", b"-1", b"0x1", b"1 ", b"10000000000000000"):
        with Peer(server.port) as client:
            client.send(head("/x", "Transfer-Encoding: chunked\r\n") + size + b"\r\n")
            assert client.response().status == 400
    eventually(lambda: len(seen) == 5)
    assert not caplog.records
    assert [error.status for error in seen] == [400] * 5
    assert "the client got a 400" in str(seen[0])


@pytest.mark.parametrize("first", ["read", "sleep"])
def test_w1_a_handler_learns_what_its_client_got(serve: Serve, first: str) -> None:
    statuses: List[Any] = []
    begun: List[str] = []

    async def handler(res: Response, req: Request) -> None:
        begun.append(req.get_url())
        if first == "sleep":
            while not res.aborted and req.get_url() != "/long":
                await asyncio.sleep(0.002)
        with pytest.raises(ClientDisconnect) as caught:
            await req.body()
        statuses.append(caught.value.status)

    def configure(app: App) -> None:
        app.post("/*", handler, max_body_size=10)

    hasty = serve(configure, AppOptions(body_timeout=0.05, upgrade_timeout=0.05))
    for path, length, status in (
        ("/long", 11, 413),
        ("/slow", 10, 408 if first == "read" else 503),
    ):
        with Peer(hasty.port) as client:
            client.send(head(path, f"Content-Length: {length}\r\n"))
            assert client.response().status == status
    eventually(lambda: len(statuses) == 2)
    assert statuses == [413, 408 if first == "read" else 503]
    with Peer(serve(configure).port) as client:
        client.send(head("/left", "Content-Length: 10\r\n"))
        eventually(lambda: len(begun) == 3)
    eventually(lambda: len(statuses) == 3)
    assert statuses[2] is None


@pytest.mark.parametrize("wrong", [-1, 2**63, 1.5, "1", True])
def test_w1_a_wrong_limit_is_refused(wrong: Any) -> None:
    with App() as app:
        with pytest.raises((TypeError, ValueError), match="^max_body_size must be"):
            app.post("/", by_function, max_body_size=wrong)
        with pytest.raises((TypeError, ValueError), match="^max_body_size must be"):
            app.post("/", max_body_size=wrong)
    with pytest.raises((TypeError, ValueError), match="^max_body_size must be"):
        AppOptions(max_body_size=wrong)


def test_w1_a_decorator_takes_a_limit(serve: Serve) -> None:
    def configure(app: App) -> None:
        app.put("/x", max_body_size=3)(by_function)

    port = serve(configure).port
    assert ask(port, post("/x", b"abc").replace(b"POST", b"PUT")).status == 200
    assert ask(port, post("/x", b"abcd").replace(b"POST", b"PUT")).status == 413


# ---- bodies that nothing reads ------------------------------------------------------------------


def test_w1_what_nothing_reads_is_discarded_and_the_connection_kept(serve: Serve) -> None:
    async def later(res: Response, req: Request) -> None:
        await asyncio.sleep(0.01)
        res.end(req.get_url())

    def configure(app: App) -> None:
        app.post("/now", lambda res, req: res.end(req.get_url()))
        app.post("/later", later)

    server = serve(configure, AppOptions(max_body_size=10))
    with Peer(server.port) as client:
        for body in (b"", b"short", bytes(100_000)):  # the limit is for those who read
            for path in ("/now", "/later", "/nowhere"):
                client.send(post(path, body) + chunked(path, body))
                for _ in range(2):
                    answer = client.response()
                    assert answer.status == (404 if path == "/nowhere" else 200)


def test_w1_an_answer_before_the_body_is_complete(serve: Serve) -> None:
    failed: List[BaseException] = []

    async def early(res: Response, req: Request) -> None:
        async for chunk in req.stream():
            res.end(chunk)
            break
        try:
            await req.stream().__anext__()
        except RuntimeError as error:
            failed.append(error)

    server = serve(lambda app: app.post("/x", early))
    with Peer(server.port) as client:
        client.send(head("/x", "Content-Length: 10\r\n") + b"01234")
        assert client.response().body == b"01234"
        client.send(b"56789" + post("/x", b"next"))
        assert client.response().body == b"next"
    eventually(lambda: len(failed) == 2)
    assert "was read already, by stream()" in str(failed[0])


def test_w1_who_waits_learns_that_someone_else_has_answered(serve: Serve) -> None:
    failed: List[BaseException] = []

    async def handler(res: Response, req: Request) -> None:
        reading = asyncio.ensure_future(req.body())
        await asyncio.sleep(0)
        res.end("early")
        try:
            await reading
        except RuntimeError as error:
            failed.append(error)

    server = serve(lambda app: app.post("/x", handler))
    with Peer(server.port) as client:
        client.send(head("/x", "Content-Length: 10\r\n") + b"01234")
        assert client.response().body == b"early"
        eventually(lambda: failed)
    assert "answered before its body was complete" in str(failed[0])


# ---- clients that leave -------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["body", "stream", "json", "text", "form", "get_data"])
def test_w1_a_client_that_leaves_in_the_middle(
    serve: Serve, caplog: pytest.LogCaptureFixture, way: str
) -> None:
    caplog.set_level(logging.DEBUG, "pyws")
    seen: List[str] = []
    aborted: List[Response] = []

    async def handler(res: Response, req: Request) -> None:
        res.on_aborted(aborted.append)
        try:
            if way == "stream":
                async for chunk in req.stream():
                    seen.append(chunk.decode())
            else:
                await getattr(res if way == "get_data" else req, way)()
        finally:
            seen.append("finally")
        seen.append("not here")

    server = serve(lambda app: app.post("/x", handler))
    for reset in (False, True):
        seen.clear()
        aborted.clear()
        client = Peer(server.port)
        client.send(head("/x", FORM + "Content-Length: 10\r\n") + b"01234")
        eventually(lambda: server.call(server.app.stats)["accepted"])
        if way == "stream":
            eventually(lambda: seen)
        client.reset() if reset else client.socket.close()
        eventually(lambda: seen and seen[-1] == "finally")
        eventually(lambda: aborted)
        assert seen in (["finally"], ["01234", "finally"])
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


def test_w1_a_client_that_left_before_anyone_read(serve: Serve) -> None:
    gate = Gate()
    failed: List[Any] = []

    async def handler(res: Response, req: Request) -> None:
        await gate.wait()
        for call in (req.body, req.text, req.json, res.get_data):
            with pytest.raises(ClientDisconnect):
                await call()
        with pytest.raises(ClientDisconnect):
            async for _ in req.stream():
                pass
        res.on_data(lambda res, chunk, is_last: failed.append("never"))
        failed.append(res.aborted)

    server = serve(lambda app: app.post("/x", handler))
    with Peer(server.port) as client:
        client.send(post("/x", b"hello"))
        eventually(lambda: gate.entered)
    eventually(lambda: server.call(server.app.stats)["connections"] == 0)
    gate.open()
    eventually(lambda: failed)
    assert failed == [True]


def test_w1_the_time_for_a_body(serve: Serve) -> None:
    server = serve(lambda app: app.post("/x", by_body), AppOptions(body_timeout=0.1))
    with Peer(server.port) as client:
        client.send(head("/x", "Content-Length: 10\r\n") + b"01234")
        assert client.response().status == 408


# ---- backpressure -------------------------------------------------------------------------------


def test_w1_a_handler_that_does_not_take_the_body_slows_the_client_down(serve: Serve) -> None:
    gate = Gate()
    taken: List[int] = []
    size = 64 * 1024 * 1024

    async def handler(res: Response, req: Request) -> None:
        stream = req.stream()
        taken.append(len(await stream.__anext__()))
        await gate.wait()
        async for chunk in stream:
            taken.append(len(chunk))
        res.end({"size": sum(taken), "longest": max(taken)})

    server = serve(lambda app: app.post("/x", handler, max_body_size=size))
    with Peer(server.port) as client:
        client.send(head("/x", f"Content-Length: {size}\r\n"))
        sent, block = 0, bytes(1 << 16)
        client.socket.settimeout(0.3)
        try:
            while sent < size:
                sent += client.socket.send(block)
        except TimeoutError:
            pass
        except OSError as error:
            assert "timed out" in str(error)
        assert gate.entered
        assert sent < size // 2  # what the kernels hold
        assert server.call(server.app.stats)["memory"] < 512 * 1024 + TLS_MEMORY
        client.socket.settimeout(TIMEOUT)
        gate.open()
        while sent < size:
            sent += client.socket.send(block[: size - sent])
        answer = client.response()
    assert b'"size":67108864' in answer.body
    assert max(taken) <= 128 * 1024


def test_w1_pause_and_resume_of_on_data(serve: Serve) -> None:
    pieces: List[bytes] = []
    kept: List[Response] = []

    def handler(res: Response, req: Request) -> None:
        def on_data(res: Response, chunk: bytes, is_last: bool) -> None:
            pieces.append(chunk)
            res.end() if is_last else res.pause()

        res.on_data(on_data)
        kept.append(res)

    server = serve(lambda app: app.post("/x", handler))
    with Peer(server.port) as client:
        client.send(head("/x", "Content-Length: 6\r\n") + b"ab")
        eventually(lambda: pieces)
        client.send(b"cd")
        server.call(lambda: None)
        assert pieces == [b"ab"]
        server.call(kept[0].resume)
        eventually(lambda: len(pieces) == 2)
        client.send(b"ef")
        server.call(kept[0].resume)
        assert client.response().status == 200
    assert b"".join(pieces) == b"abcdef"


def test_w1_many_short_chunks_cost_little_memory(serve: Serve) -> None:
    import tracemalloc

    peaks: List[int] = []

    async def handler(res: Response, req: Request) -> None:
        tracemalloc.start()
        try:
            data = await req.body()
            peaks.append(tracemalloc.get_traced_memory()[1])
        finally:
            tracemalloc.stop()
        res.end({"size": len(data)})

    server = serve(lambda app: app.post("/x", handler))
    count = 400_000
    answer = ask(server.port, chunked("/x", *[b"a"] * count))
    assert answer.body == b'{"size":%d}' % count
    assert peaks[0] < 4 * 1024 * 1024  # the client is counted, too; as many objects need 13 MiB


# ---- leaks --------------------------------------------------------------------------------------


@pytest.mark.parametrize("way", READERS)
def test_w1_nothing_is_left_of_a_request(serve: Serve, way: str) -> None:
    """Without the help of the garbage collector."""
    references: List[Any] = []

    def handler(res: Response, req: Request) -> Any:
        references.append(weakref.ref(res))
        return READERS[way](res, req)

    async def waiting(res: Response, req: Request) -> None:
        references.append(weakref.ref(res))
        await READERS[way](res, req)

    server = serve(lambda app: app.post("/x", handler if READERS[way] is by_function else waiting))
    gc.collect()
    gc.disable()
    try:
        for request in (post("/x", b"abc"), chunked("/x", b"abc"), post("/x", bytes(2_000_000))):
            ask(server.port, request)
        with Peer(server.port) as client:
            client.send(head("/x", "Content-Length: 10\r\n") + b"01234")
            eventually(lambda: len(references) == 4)
        eventually(lambda: server.call(server.app.stats)["connections"] == 0)
        for _ in range(3):  # the tasks end in these turns
            server.call(lambda: None)
        eventually(lambda: [ref() for ref in references] == [None] * 4)
    finally:
        gc.enable()


# ---- real clients and loops ---------------------------------------------------------------------


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_w1_under_serve(loop: str) -> None:
    """In the loop of the program: `await app.serve()`."""
    module: Any = asyncio if loop == "asyncio" else pytest.importorskip("uvloop")

    async def main() -> None:
        app = App()
        for name, handler in WAYS.items():
            app.post(f"/{name}", handler)
        async with app.serving({"host": "127.0.0.1", "port": 0}):
            for name in WAYS:
                answer = await in_thread(ask, app.port, chunked(f"/{name}", b"abc", bytes(90_000)))
                assert answer.body == b"abc" + bytes(90_000)
                assert (await in_thread(ask, app.port, post(f"/{name}", b"abc"))).body == b"abc"

    runner = module.new_event_loop()
    try:
        runner.run_until_complete(asyncio.wait_for(main(), TIMEOUT))
    finally:
        runner.close()


@in_loop
async def test_w1_a_reader_may_be_cancelled_and_read_again() -> None:
    app = App()

    async def handler(res: Response, req: Request) -> None:
        try:
            await asyncio.wait_for(req.body(), 0.01)
        except asyncio.TimeoutError:
            res.end(b"late " + await req.body())

    app.post("/x", handler)
    async with app.serving({"host": "127.0.0.1"}):

        def client() -> bytes:
            with Peer(app.port) as client:
                client.send(head("/x", "Content-Length: 10\r\n") + b"01234")
                time.sleep(0.1)
                client.send(b"56789")
                return client.response().body

        assert await in_thread(client) == b"late 0123456789"


@pytest.mark.parametrize("more", [[], ["-H", "Transfer-Encoding: chunked"], ["-0"]])
def test_w1_curl_uploads_a_file(reader: Any, tmp_path: Path, more: List[str]) -> None:
    path = tmp_path / "file"
    path.write_bytes(bytes(range(256)) * 8000)
    url = f"{HTTP}://127.0.0.1:{reader.port}/x"
    assert curl("--data-binary", f"@{path}", *more, url) == path.read_bytes()
