# SPDX-License-Identifier: MIT
"""Files over the wire: `app.static` and `res.send_file` (W3)."""

import asyncio
import ctypes
import gzip
import logging
import os
import random
import shutil
import threading
import time
from pathlib import Path
from typing import Any, Callable, Dict, List, NamedTuple, Tuple

import peer
import pytest
from common import TIMEOUT
from test_files import TRAVERSALS

from pyws import App, Request, Response

pytestmark = pytest.mark.usefixtures("read_by_h11")

Serve = Callable[..., Any]


class Answer(NamedTuple):
    status: int
    headers: Dict[str, str]
    body: bytes


def ask(port: int, path: str, method: str = "GET", **fields: str) -> Answer:
    """The response, read to the end of the connection by a reader that knows nothing of HEAD."""
    lines = "".join(f"{name.replace('_', '-')}: {value}\r\n" for name, value in fields.items())
    with peer.Peer(port) as client:
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{lines}\r\n"
        client.send(head.encode("latin-1"))
        while client.fill():
            pass
        head_bytes, body = client.buffer.split(b"\r\n\r\n", 1)
    first, *rest = head_bytes.decode("latin-1").split("\r\n")
    headers = {name.lower(): value for name, value in (line.split(": ", 1) for line in rest)}
    if method != "HEAD" and headers.get("content-length"):
        assert len(body) == int(headers["content-length"])
    return Answer(int(first.split()[1]), headers, body)


CONTENT = random.Random(1).getrandbits(8 * 300_000).to_bytes(300_000, "little")


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    (root / "a" / "b").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "index.html").write_text("<h1>Home</h1>")
    (root / "a" / "index.html").write_text("<h1>A</h1>")
    (root / "a" / "b" / "x.txt").write_text("x")
    (root / "a.txt").write_text("a")
    (root / ".hidden").write_text("secret")
    (root / "empty").write_bytes(b"")
    (root / "big.bin").write_bytes(CONTENT)
    (root / "ä b%.txt").write_text("name")
    return root


@pytest.fixture
def port(serve: Serve, site: Path) -> int:
    """That of a server with the site at /s."""
    server = serve(lambda app: app.static("/s", str(site)))
    return int(server.port)


# ---- which file ---------------------------------------------------------------------------------


def test_w3_a_directory_is_served(port: int) -> None:
    home = ask(port, "/s/")
    assert (home.status, home.body) == (200, b"<h1>Home</h1>")
    assert home.headers["content-type"] == "text/html; charset=utf-8"
    assert home.headers["cache-control"] == "no-cache"
    assert home.headers["accept-ranges"] == "bytes"
    assert "content-encoding" not in home.headers
    assert "vary" not in home.headers
    assert ask(port, "/s/index.html").body == home.body
    assert ask(port, "/s/a/").body == b"<h1>A</h1>"
    assert ask(port, "/s/a/b/x.txt?query").body == b"x"
    assert ask(port, "/s/%C3%A4%20b%25.txt").body == b"name"
    assert ask(port, "/s/big.bin").body == CONTENT
    empty = ask(port, "/s/empty")
    assert (empty.status, empty.body, empty.headers["content-length"]) == (200, b"", "0")


def test_w3_directories_end_with_a_slash(port: int) -> None:
    for path, target in (
        ("/s", "/s/"),
        ("/s?x=1", "/s/?x=1"),
        ("/s/a", "/s/a/"),
        ("/s/a?x=%20&y", "/s/a/?x=%20&y"),
        ("/s/%61", "/s/%61/"),
    ):
        answer = ask(port, path)
        assert (answer.status, answer.headers["location"]) == (301, target)
    for path in ("/s/a/b", "/s/a/b/", "/s/a.txt/", "/s/a.txt/x", "/s/none", "/s/none/"):
        assert ask(port, path).status == 404, path


@pytest.mark.parametrize("path", ["/s//evil.example", "//evil.example/s/a", "/s/%2f%2fevil/"])
def test_w3_no_redirect_leads_to_another_site(port: int, path: str) -> None:
    answer = ask(port, path)
    assert answer.status == 404 and "location" not in answer.headers


@pytest.mark.parametrize("path", TRAVERSALS)
def test_w3_t_no_path_leads_out(port: int, path: str) -> None:
    answer = ask(port, "/s/" + path)
    assert answer.status in (400, 404)
    assert b"secret" not in answer.body and b"root:" not in answer.body


def test_w3_methods(port: int) -> None:
    assert ask(port, "/s/a.txt", "POST").headers["allow"] == "GET, HEAD"
    assert ask(port, "/s/a.txt", "DELETE").status == 405


@pytest.mark.parametrize("path", ["/s/", "/s/big.bin", "/s/empty", "/s/a", "/s/none"])
def test_w3_head_is_get_without_a_body(port: int, path: str) -> None:
    got, head = ask(port, path), ask(port, path, "HEAD")
    assert head.body == b""
    assert head.status == got.status
    assert {**head.headers, "date": ""} == {**got.headers, "date": ""}


def test_w3_other_routes_win(serve: Serve, site: Path) -> None:
    def configure(app: App) -> None:
        app.static("/", site)
        app.get("/a.txt", lambda res, req: res.end("route"))
        app.ws("/chat", {})
        app.post("/login", lambda res, req: res.end("in"))

    port = serve(configure).port
    assert ask(port, "/").body == b"<h1>Home</h1>"
    assert ask(port, "/a.txt").body == b"route"
    assert ask(port, "/login", "POST").body == b"in"
    assert ask(port, "/login").status == ask(port, "/chat").status == 404
    with peer.upgraded(port, "/chat"):
        pass


def test_w3_without_an_index(serve: Serve, site: Path) -> None:
    port = serve(lambda app: app.static("/s/", site, index=None, max_age=60)).port
    for path in ("/s", "/s/", "/s/a", "/s/a/"):
        assert ask(port, path).status == 404
    assert ask(port, "/s/index.html").headers["cache-control"] == "max-age=60"


def test_w4_w3_files_of_a_router(serve: Serve, site: Path) -> None:
    def log_in(res: Response, req: Request) -> None:
        if req.get_cookie("user") is None:
            res.send("who are you?", 401)

    async def log_in_later(res: Response, req: Request) -> None:
        await asyncio.sleep(0)
        log_in(res, req)

    def configure(app: App) -> None:
        app.router("/:team", before=log_in).static("/files", site)
        app.router("/later", before=log_in_later).static("/files", site)

    port = serve(configure).port
    for path in ("/red/files/a.txt", "/later/files/a.txt"):
        assert ask(port, path).status == 401
        assert ask(port, path, Cookie="user=Ann").body == b"a"
        assert ask(port, path + "x", Cookie="user=Ann").status == 404
    assert ask(port, "/red/files", Cookie="user=Ann").headers["location"] == "/red/files/"


def test_w4_w3_all_of_a_router_is_a_directory(serve: Serve, site: Path) -> None:
    """As in the patterns of a router, "" is its prefix itself, here with the redirect."""

    def configure(app: App) -> None:
        app.router("/private", before=lambda res, req: None).static("", site)
        app.router("/other").get("", lambda res, req: res.send("no file")).static("/", site)

    port = serve(configure).port
    assert ask(port, "/private").headers["location"] == "/private/"
    assert ask(port, "/private/a.txt").body == b"a"
    assert ask(port, "/other").body == b"no file"
    assert ask(port, "/other/a.txt").body == b"a"


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("guarded", [False, True])
def test_w4_w3_missing_files_get_the_404_of_the_app(
    serve: Serve, site: Path, waits: bool, guarded: bool
) -> None:
    def not_found(res: Response, req: Request) -> None:
        res.write_header("Cache-Control", "no-store").send_file(site / "a.txt")

    async def not_found_later(res: Response, req: Request) -> None:
        await asyncio.sleep(0)
        not_found(res, req)

    async def pass_later(res: Response, req: Request) -> None:
        await asyncio.sleep(0)

    def configure(app: App) -> None:
        app.router("", before=[pass_later] if guarded else []).static("/s", site)
        app.on_not_found(not_found_later if waits else not_found)

    port = serve(configure).port
    for path in ("/s/none", "/none", "/s/.hidden", "/s/a/b"):
        answer = ask(port, path, Range="bytes=0-0", If_None_Match="*")
        assert (answer.status, answer.body) == (404, b"a"), path
        assert answer.headers["cache-control"] == "no-store"


@pytest.mark.parametrize(
    ("arguments", "more", "error", "message"),
    [
        (("s", "."), {}, ValueError, 'prefix must be a path like "/assets"'),
        (("", "."), {}, ValueError, 'prefix must be a path like "/assets"'),
        (("/s/*", "."), {}, ValueError, "prefix must be a path"),
        ((5, "."), {}, TypeError, "prefix must be a str"),
        (("/s", "/nothing/here"), {}, ValueError, "directory must be an existing directory"),
        (("/s", __file__), {}, ValueError, "directory must be an existing directory"),
        (("/s", None), {}, TypeError, "NoneType"),
        (("/s", "."), {"index": "a/b"}, ValueError, "index must be the name of a file"),
        (("/s", "."), {"index": ""}, ValueError, "index must be the name of a file"),
        (("/s", "."), {"max_age": -1}, ValueError, "max_age must be"),
        (("/s", "."), {"max_age": 1.5}, TypeError, "max_age must be"),
        (("/s", "."), {"precompressed": 1}, TypeError, "precompressed must be True or False"),
    ],
)
def test_w3_wrong_arguments(arguments: Any, more: Any, error: Any, message: str) -> None:
    with App() as app, pytest.raises(error, match=message):
        app.static(*arguments, **more)


def test_w3_a_prefix_that_is_taken(site: Path) -> None:
    with App() as app:
        app.static("/s", site)
        with pytest.raises(ValueError, match=r"pattern '/s/\*'"):
            app.static("/s/", site)


# ---- conditions and ranges ----------------------------------------------------------------------


def test_w3_conditional_requests(port: int, site: Path) -> None:
    first = ask(port, "/s/a.txt")
    tag, date = first.headers["etag"], first.headers["last-modified"]
    for fields in ({"If_None_Match": tag}, {"If_Modified_Since": date}, {"If_None_Match": "*"}):
        same = ask(port, "/s/a.txt", **fields)
        assert (same.status, same.body) == (304, b"")
        assert (same.headers["etag"], same.headers["cache-control"]) == (tag, "no-cache")
        assert "content-type" not in same.headers
        assert ask(port, "/s/a.txt", "HEAD", **fields).status == 304
    assert ask(port, "/s/a.txt", If_Match='"x"').status == 412
    (site / "a.txt").write_text("new")
    os.utime(site / "a.txt", (5, 5))
    for fields in ({"If_None_Match": tag}, {"If_Match": tag}, {"If_Unmodified_Since": date}):
        answer = ask(port, "/s/a.txt", **fields)
        assert answer.status == (412 if "If_Match" in fields else 200)
    assert ask(port, "/s/a.txt", If_None_Match=tag).headers["etag"] != tag


def test_w3_a_date_in_the_future_is_not_sent(port: int, site: Path) -> None:
    """RFC 9110 section 8.8.2.1."""
    os.utime(site / "a.txt", (time.time() + 86400,) * 2)
    headers = ask(port, "/s/a.txt").headers
    assert headers["last-modified"][:16] == headers["date"][:16]


def test_w3_parts_of_a_file(port: int) -> None:
    for value, first, last in (
        ("bytes=0-0", 0, 0),
        ("bytes=100000-200000", 100_000, 200_000),
        ("bytes=299999-", 299_999, 299_999),
        ("bytes=-5", 299_995, 299_999),
        ("bytes=-999999999", 0, 299_999),
        ("bytes=0-", 0, 299_999),
        ("bytes=5-99999999999999999999", 5, 299_999),
    ):
        answer = ask(port, "/s/big.bin", Range=value)
        assert answer.status == 206
        assert answer.headers["content-range"] == f"bytes {first}-{last}/300000"
        assert answer.body == CONTENT[first : last + 1]
        head = ask(port, "/s/big.bin", "HEAD", Range=value)
        assert (head.status, head.headers["content-length"]) == (200, "300000")
    beyond = ask(port, "/s/big.bin", Range="bytes=300000-")
    assert (beyond.status, beyond.body) == (416, b"")
    assert beyond.headers["content-range"] == "bytes */300000"
    assert ask(port, "/s/empty", Range="bytes=0-").headers["content-range"] == "bytes */0"
    assert ask(port, "/s/empty", Range="bytes=-5").status == 200


def test_w3_abuse_of_ranges(port: int) -> None:
    """Several ranges are the whole file, once, however many there are and however they overlap."""
    for value in (
        "bytes=" + ",".join(f"{i}-" for i in range(1000)),
        "bytes=" + ",".join(["0-299999"] * 500),
        "bytes=" + ",".join(f"-{i}" for i in range(1, 1000)),
        "bytes=0-1,300000-",
        "bytes=x",
    ):
        answer = ask(port, "/s/big.bin", Range=value)
        assert (answer.status, answer.body == CONTENT) == (200, True)
        assert "content-range" not in answer.headers


def test_w3_if_range(port: int) -> None:
    headers = ask(port, "/s/big.bin").headers
    for value, status in (
        (headers["etag"], 206),
        (headers["last-modified"], 206),
        ('"other"', 200),
        ("Wed, 01 Jan 2020 00:00:00 GMT", 200),
    ):
        assert ask(port, "/s/big.bin", Range="bytes=1-2", If_Range=value).status == status


# ---- precompressed files ------------------------------------------------------------------------


@pytest.fixture
def compressed(site: Path) -> Path:
    """app.js with app.js.br, which is no real one, and app.js.gz."""
    script = site / "app.js"
    script.write_text("let a = 1;\n" * 100)
    (site / "app.js.br").write_bytes(b"brotli")
    (site / "app.js.gz").write_bytes(gzip.compress(script.read_bytes()))
    for name in ("app.js", "app.js.br", "app.js.gz"):
        os.utime(site / name, (1_700_000_000, 1_700_000_000))
    return script


def test_w3_precompressed_files(port: int, compressed: Path) -> None:
    tags = set()
    for accepted, encoding, path in (
        ("gzip, deflate, br", "br", "app.js.br"),
        ("gzip, br;q=0.5", "gzip", "app.js.gz"),
        ("gzip;q=0", None, "app.js"),
        ("identity", None, "app.js"),
        ("zstd", None, "app.js"),
    ):
        answer = ask(port, "/s/app.js", Accept_Encoding=accepted)
        assert answer.headers.get("content-encoding") == encoding
        assert answer.headers["vary"] == "Accept-Encoding"
        assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
        assert answer.body == (compressed.parent / path).read_bytes()
        tag = answer.headers["etag"]
        tags.add(tag)
        same = ask(port, "/s/app.js", Accept_Encoding=accepted, If_None_Match=tag)
        assert (same.status, same.headers["vary"]) == (304, "Accept-Encoding")
    assert len(tags) == 3
    assert ask(port, "/s/app.js").headers["vary"] == "Accept-Encoding"
    part = ask(port, "/s/app.js", Accept_Encoding="gzip", Range="bytes=0-1")
    assert (part.body, part.headers["content-encoding"]) == (b"\x1f\x8b", "gzip")
    itself = ask(port, "/s/app.js.gz", Accept_Encoding="gzip")
    assert itself.headers["content-type"] == "application/gzip"
    assert "content-encoding" not in itself.headers


def test_w3_an_older_compressed_file_is_not_sent(port: int, compressed: Path) -> None:
    os.utime(compressed, (1_700_000_001, 1_700_000_001))
    answer = ask(port, "/s/app.js", Accept_Encoding="br, gzip")
    assert answer.body == compressed.read_bytes()
    assert "content-encoding" not in answer.headers


def test_w3_compressed_files_lead_nowhere_else(port: int, site: Path, compressed: Path) -> None:
    os.unlink(site / "app.js.br")
    os.unlink(site / "app.js.gz")
    (site / "app.js.br").symlink_to("../secret")
    os.mkfifo(site / "app.js.gz")
    answer = ask(port, "/s/app.js", Accept_Encoding="br, gzip")
    assert answer.body == compressed.read_bytes()


def test_w3_without_precompressed(serve: Serve, compressed: Path) -> None:
    port = serve(lambda app: app.static("/", compressed.parent, precompressed=False)).port
    answer = ask(port, "/app.js", Accept_Encoding="br, gzip")
    assert "content-encoding" not in answer.headers and "vary" not in answer.headers


# ---- what is in the way -------------------------------------------------------------------------


@pytest.mark.timeout(60)
def test_w3_what_is_no_file_is_missing(port: int, site: Path) -> None:
    os.mkfifo(site / "fifo")
    os.mkfifo(site / "a" / "b" / "index.html")
    (site / "null").symlink_to("/dev/null")
    (site / "tty").symlink_to("/dev/tty")
    (site / "out").symlink_to("/etc")
    (site / "in").symlink_to("a.txt")
    for path in ("fifo", "null", "tty", "out/passwd", "out", "a/b/", "a/b"):
        assert ask(port, "/s/" + path).status == 404, path
    assert ask(port, "/s/in").body == b"a"


def test_w3_files_that_may_not_be_read(serve: Serve, site: Path, caplog: Any) -> None:
    """They are missing; the log says why, once."""
    if os.geteuid():
        pytest.skip("only root can stop being root in one thread")
    libc = ctypes.CDLL(None)
    os.chmod(site / "a.txt", 0o600)
    os.chmod(site / "a", 0o700)
    for parent in (site, *site.parents):
        if not os.stat(parent).st_mode & 0o001:
            os.chmod(parent, os.stat(parent).st_mode | 0o001)
            if parent == site.parent.parent.parent:
                break
    server = serve(lambda app: app.static("/s", site))
    server.call(libc.setfsuid, 65534)
    with caplog.at_level(logging.WARNING):
        for _ in range(3):
            for path in ("/s/a.txt", "/s/a/b/x.txt", "/s/a/"):
                assert ask(server.port, path).status == 404
    assert caplog.text.count("is not served") == 1
    assert "Permission denied" in caplog.text


def test_w3_a_directory_that_vanishes(port: int, site: Path) -> None:
    shutil.rmtree(site)
    assert ask(port, "/s/a.txt").status == 404
    site.mkdir()
    (site / "a.txt").write_text("new")
    assert ask(port, "/s/a.txt").body == b"new"


def test_w3_without_descriptors(
    serve: Serve, site: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is broken is a 500, and reported."""
    port = serve(lambda app: app.static("/s", site)).port

    def no_more(*arguments: Any, **more: Any) -> int:
        raise OSError(24, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr("pyws._core.files.os.open", no_more)
        status = ask(port, "/s/a.txt").status
    assert status == 500
    assert "Too many open files" in caplog.text
    assert ask(port, "/s/a.txt").status == 200


def begin(port: int, path: str) -> Tuple[peer.Peer, int]:
    """A client that has read the head of a large response; and how long the body is."""
    client = peer.Peer(port)
    client.send(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    while b"\r\n\r\n" not in client.buffer:
        assert client.fill()
    head, client.buffer = client.buffer.split(b"\r\n\r\n", 1)
    length = next(line for line in head.split(b"\r\n") if line.startswith(b"Content-Length"))
    return client, int(length.split(b": ")[1])


LARGE = 32 * 1024 * 1024  # more than the kernel takes for a client that does not read


def test_w3_a_file_that_is_replaced_while_it_is_sent(port: int, site: Path) -> None:
    """The client gets what it has begun with."""
    (site / "large").write_bytes(b"1" * LARGE)
    client, length = begin(port, "/s/large")
    with client:
        (site / "new").write_bytes(b"2" * 100)
        os.replace(site / "new", site / "large")
        assert client.read(length).count(b"1") == LARGE
    assert ask(port, "/s/large").body == b"2" * 100


def test_w3_a_file_that_shrinks_while_it_is_sent(port: int, site: Path, caplog: Any) -> None:
    """The connection ends early, so that the client knows that something is missing."""
    (site / "large").write_bytes(b"1" * LARGE)
    client, length = begin(port, "/s/large")
    with client:
        os.truncate(site / "large", 1000)
        received = len(client.buffer)
        try:
            while client.fill():
                received += len(client.buffer)
                client.buffer = b""
        except ConnectionResetError:
            pass
        assert received < length
    assert ask(port, "/s/large").headers["content-length"] == "1000"


def test_w3_a_small_file_that_shrinks_after_it_was_opened(
    serve: Serve, site: Path, caplog: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing was sent, so the client gets an error."""
    port = serve(lambda app: app.static("/s", site)).port
    with monkeypatch.context() as patch:
        patch.setattr("pyws._core.requests.os.pread", lambda fd, length, offset: b"")
        assert ask(port, "/s/a.txt").status == 500
    assert "the file has become shorter" in caplog.text
    assert ask(port, "/s/a.txt").body == b"a"


@pytest.mark.parametrize("size", [1, 8191, 8192, 8193, 16384, 65536])
def test_w3_sizes_around_those_that_are_copied(port: int, site: Path, size: int) -> None:
    (site / "x").write_bytes(CONTENT[:size])
    assert ask(port, "/s/x").body == CONTENT[:size]
    assert ask(port, "/s/x", "HEAD").headers["content-length"] == str(size)
    assert ask(port, "/s/x", Range="bytes=1-").status == (206 if size > 1 else 416)


def test_w3_clients_that_leave_early_leave_no_descriptor(port: int, site: Path) -> None:
    (site / "large").write_bytes(b"1" * LARGE)
    ask(port, "/s/none")  # the server runs
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(10):
        client, _length = begin(port, "/s/large")
        client.reset()
    for path in ("/s/a.txt", "/s/none", "/s/a", "/s/fifo"):
        ask(port, path), ask(port, path, "HEAD")
    peer.eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


@pytest.mark.timeout(300)  # h11 reads all of them
def test_w3_ten_thousand_files(port: int, site: Path) -> None:
    """Each is found, on a connection that is kept, and with requests that do not wait."""
    many = site / "many"
    many.mkdir()
    for number in range(10_000):
        (many / f"{number}.txt").write_text(str(number))
    with peer.Peer(port) as client:
        for begin in range(0, 10_000, 100):
            numbers = range(begin, begin + 100)
            client.send(
                b"".join(b"GET /s/many/%d.txt HTTP/1.1\r\nHost: x\r\n\r\n" % n for n in numbers)
            )
            assert [client.response().body for _ in numbers] == [b"%d" % n for n in numbers]


def test_w3_many_clients_at_once(port: int) -> None:
    results: List[bool] = []

    def download() -> None:
        results.append(ask(port, "/s/big.bin").body == CONTENT)

    threads = [threading.Thread(target=download) for _ in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(TIMEOUT)
    assert results == [True] * 20


# ---- send_file ----------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["plain", "coroutine", "deferred"])
def test_w3_send_file(serve: Serve, site: Path, kind: str) -> None:
    def plain(res: Response, req: Request) -> None:
        res.write_header("X-More", "1")
        res.send_file(site / "big.bin", download_name="größe.bin", max_age=60)

    async def coroutine(res: Response, req: Request) -> None:
        await asyncio.sleep(0.01)
        plain(res, req)

    def configure(app: App) -> None:
        def deferred(res: Response, req: Request) -> None:
            res.on_aborted(lambda res: None)
            app.call_later(0.01, plain, res, req)

        app.get("/", {"plain": plain, "coroutine": coroutine, "deferred": deferred}[kind])

    port = serve(configure).port
    answer = ask(port, "/")
    assert (answer.status, answer.body == CONTENT) == (200, True)
    assert answer.headers["content-disposition"].startswith('attachment; filename="gr__e.bin"; ')
    assert answer.headers["cache-control"] == "max-age=60"
    assert answer.headers["x-more"] == "1"
    part = ask(port, "/", Range="bytes=1-3")
    assert (part.status, part.body, part.headers["x-more"]) == (206, CONTENT[1:4], "1")
    same = ask(port, "/", If_None_Match=answer.headers["etag"])
    assert (same.status, same.headers["x-more"]) == (304, "1")


def test_w3_send_file_with_fields_and_a_status(serve: Serve, site: Path) -> None:
    def own(res: Response, req: Request) -> None:
        res.write_header("content-type", "text/x").write_header("ETag", '"own"')
        res.send_file(os.fsencode(site / "a.txt"))

    def gone(res: Response, req: Request) -> None:
        res.write_status("410 So gone").send_file(str(site / "a.txt"), content_type="text/y")

    def configure(app: App) -> None:
        app.get("/own", own).get("/gone", gone).post("/own", own)

    port = serve(configure).port
    answer = ask(port, "/own")
    assert (answer.headers["content-type"], answer.headers["etag"]) == ("text/x", '"own"')
    gone_ = ask(port, "/gone", Range="bytes=5-", If_None_Match="*")
    assert (gone_.status, gone_.body, gone_.headers["content-type"]) == (410, b"a", "text/y")
    posted = ask(port, "/own", "POST", Range="bytes=5-", If_None_Match="*")
    assert (posted.status, posted.body) == (200, b"a")


def test_w3_files_that_cannot_be_sent(serve: Serve, site: Path) -> None:
    os.mkfifo(site / "fifo")
    seen: List[Any] = []

    def handler(res: Response, req: Request) -> None:
        for path, more, error in (
            (site / "none", {}, FileNotFoundError),
            (site, {}, IsADirectoryError),
            (site / "a.txt" / "x", {}, NotADirectoryError),
            (site / "fifo", {}, ValueError),
            ("/dev/null", {}, ValueError),
            ("a\0b", {}, ValueError),
            (None, {}, TypeError),
            (5, {}, TypeError),
            (site / "a.txt", {"max_age": "1"}, TypeError),
            (site / "a.txt", {"max_age": -1}, ValueError),
            (site / "a.txt", {"download_name": b"x"}, TypeError),
            (site / "a.txt", {"content_type": "a\r\nb"}, ValueError),
            (site / "a.txt", {"content_type": 5.5}, TypeError),
        ):
            with pytest.raises(error) as caught:
                res.send_file(path, **more)  # type: ignore[arg-type]
            seen.append(caught.value)
        res.send_file(site / "a.txt")
        with pytest.raises(RuntimeError, match="answered already"):
            res.send_file(site / "a.txt")

    server = serve(lambda app: app.get("/", handler))
    ask(server.port, "/none")  # it runs
    before = len(os.listdir("/proc/self/fd"))
    answer = ask(server.port, "/")
    assert (answer.status, answer.body) == (200, b"a")
    assert str(seen[0]).startswith("[Errno 2] No such file or directory: ")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"
    peer.eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)


def test_w3_a_client_that_leaves_before_the_file(serve: Serve, site: Path) -> None:
    done = threading.Event()

    async def handler(res: Response, req: Request) -> None:
        while not res.aborted:
            await asyncio.sleep(0.01)
        res.send_file(site / "a.txt")
        done.set()

    server = serve(lambda app: app.get("/", handler))
    with peer.Peer(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        server.call(lambda: None)
        client.reset()
    assert done.wait(TIMEOUT)
    assert not server.error
