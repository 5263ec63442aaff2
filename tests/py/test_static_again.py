# SPDX-License-Identifier: MIT
"""Files that `app.static` has served before (W3): what is kept, and what ends that at once."""

import errno
import gc
import gzip
import os
import shutil
from pathlib import Path
from typing import Any, Callable, Dict, List, Tuple

import peer
import pytest
from test_static import Answer, ask

from pyws import App, Request, Response
from pyws._core import files, served

pytestmark = pytest.mark.usefixtures("read_by_h11")

Serve = Callable[..., Any]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    (root / "a" / "b").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "index.html").write_text("<h1>Home</h1>")
    (root / "a.txt").write_text("a")
    (root / "a" / "b" / "x.txt").write_text("x")
    (root / "big.bin").write_bytes(bytes(range(256)) * 256)
    (root / "app.js").write_text("let a = 1;\n" * 100)
    (root / "app.js.gz").write_bytes(gzip.compress(b"let a = 1;\n" * 100))
    for name in ("app.js", "app.js.gz"):
        os.utime(root / name, (1_700_000_000, 1_700_000_000))
    return root


@pytest.fixture
def port(serve: Serve, site: Path, monkeypatch: pytest.MonkeyPatch) -> int:
    """That of a server with the site at /s, which keeps what it has found for the whole test."""
    monkeypatch.setattr(served, "_SECONDS", 3600.0)
    return int(serve(lambda app: app.static("/s", str(site))).port)


def without_date(answer: Answer) -> Answer:
    return answer._replace(headers={**answer.headers, "date": ""})


REQUESTS: List[Tuple[str, str, Dict[str, str]]] = [
    (path, method, fields)
    for path in ("/s/", "/s/a.txt", "/s/a/b/x.txt", "/s/big.bin", "/s/app.js", "/s/none", "/s/a/")
    for method in ("GET", "HEAD")
    for fields in (
        {},
        {"Accept_Encoding": "gzip"},
        {"Accept_Encoding": "gzip;q=0"},
        {"Range": "bytes=0-0"},
        {"Range": "bytes=999999-"},
        {"If_None_Match": "*"},
        {"If_Match": '"x"'},
        {"If_Modified_Since": "Fri, 01 Jan 2100 00:00:00 GMT"},
        {"If_Unmodified_Since": "Sat, 01 Jan 2000 00:00:00 GMT"},
    )
]


def test_w3_every_response_is_the_same_the_next_time(port: int) -> None:
    first = [without_date(ask(port, path, method, **more)) for path, method, more in REQUESTS]
    for _ in range(2):
        for expected, (path, method, more) in zip(first, REQUESTS):
            assert without_date(ask(port, path, method, **more)) == expected, (path, method, more)
    assert {answer.status for answer in first} == {200, 206, 304, 404, 412, 416}


def test_w3_two_fields_of_encodings_are_one_list(port: int) -> None:
    def send(*values: str) -> bytes:
        lines = "".join(f"Accept-Encoding: {value}\r\n" for value in values)
        with peer.Peer(port) as client:
            client.send(f"GET /s/app.js HTTP/1.1\r\nHost: x\r\n{lines}\r\n".encode())
            return client.response().headers.get("content-encoding", "").encode()

    assert send("gzip") == send("gzip") == b"gzip"
    assert send("gzip", "gzip;q=0") == b""


def test_w3_a_known_file_is_not_looked_for_again(
    port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = ("/s/", "/s/a/b/x.txt", "/s/big.bin", "/s/app.js")
    first = [without_date(ask(port, path, Accept_Encoding="gzip")) for path in paths]

    def look(directory: bytes, names: List[bytes]) -> Any:
        raise OSError(errno.ENOENT, "not there")

    monkeypatch.setattr(files, "open_beneath", look)
    again = [without_date(ask(port, path, Accept_Encoding="gzip")) for path in paths]
    assert again == first
    assert ask(port, "/s/a.txt").status == 404


# ---- changes ------------------------------------------------------------------------------------


def replace(path: Path) -> None:
    new = path.with_name("new")
    new.write_text("n")
    os.replace(new, path)


def write(path: Path) -> None:
    path.write_text("n")  # of the same length
    os.utime(path, (5, 5))


def remove(path: Path) -> None:
    path.unlink()


def to_folder(path: Path) -> None:
    """One without an index."""
    path.unlink()
    path.mkdir()


def to_fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def to_link_out(path: Path) -> None:
    """To the very file that was served, which is outside now."""
    outside = Path(str(path).partition("/site/")[0]) / "moved"
    os.rename(path, outside)
    path.symlink_to(outside)


def to_device(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/null")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("name", ["a.txt", "a/b/x.txt"])
@pytest.mark.parametrize(
    ("change", "status"),
    [
        (replace, 200),
        (write, 200),
        (remove, 404),
        (to_folder, 404),
        (to_fifo, 404),
        (to_link_out, 404),
        (to_device, 404),
    ],
)
def test_w3_t_a_change_of_a_known_file_counts_at_once(
    port: int, site: Path, change: Callable[[Path], None], status: int, name: str
) -> None:
    before = [ask(port, "/s/" + name) for _ in range(2)]
    assert [answer.status for answer in before] == [200, 200]
    change(site / name)
    for _ in range(2):
        after = ask(port, "/s/" + name)
        assert after.status == status
        if status == 200:
            assert after.body == b"n"
            assert after.headers["etag"] != before[0].headers["etag"]


def folder_elsewhere(site: Path) -> None:
    """Another folder outside, with a file of the same name."""
    shutil.rmtree(site / "a")
    (site.parent / "out" / "b").mkdir(parents=True)
    (site.parent / "out" / "b" / "x.txt").write_text("secret")
    (site / "a").symlink_to(site.parent / "out")


def folder_moved(site: Path) -> None:
    """The very folder, which is outside now."""
    os.rename(site / "a", site.parent / "out")
    (site / "a").symlink_to(site.parent / "out")


def inner_folder_moved(site: Path) -> None:
    os.rename(site / "a" / "b", site.parent / "out")
    (site / "a" / "b").symlink_to(site.parent / "out")


def file_of_a_folder_moved(site: Path) -> None:
    """Another folder, which has a link to the file that was served."""
    os.rename(site / "a", site.parent / "out")
    (site / "a" / "b").mkdir(parents=True)
    (site / "a" / "b" / "x.txt").symlink_to("../../../out/b/x.txt")


@pytest.mark.parametrize(
    "change", [folder_elsewhere, folder_moved, inner_folder_moved, file_of_a_folder_moved]
)
def test_w3_t_no_link_on_a_known_way_leads_out(
    port: int, site: Path, change: Callable[[Path], None]
) -> None:
    assert [ask(port, "/s/a/b/x.txt").body for _ in range(2)] == [b"x", b"x"]
    change(site)
    for _ in range(2):
        answer = ask(port, "/s/a/b/x.txt")
        assert (answer.status, b"secret" in answer.body) == (404, False)


def test_w3_t_a_file_that_changes_after_the_look_is_not_sent(
    port: int, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another file has got the name before it is opened, or a link."""
    assert ask(port, "/s/a.txt").body == b"a"
    unchanged = files.is_unchanged

    def look(known: files.Found) -> bool:
        result = unchanged(known)
        (site / "a.txt").unlink()
        (site / "a.txt").symlink_to("../secret")
        return result

    with monkeypatch.context() as patch:
        patch.setattr(files, "is_unchanged", look)
        assert ask(port, "/s/a.txt").status == 404
    (site / "a.txt").unlink()
    (site / "a.txt").write_text("b")
    assert ask(port, "/s/a.txt").body == b"b"

    def look_again(known: files.Found) -> bool:
        result = unchanged(known)
        replace(site / "a.txt")
        return result

    monkeypatch.setattr(files, "is_unchanged", look_again)
    assert ask(port, "/s/a.txt").body == b"n"


def test_w3_files_behind_links_are_found_each_time(port: int, site: Path) -> None:
    (site / "link").symlink_to("a.txt")
    (site / "folder").symlink_to("a")
    for _ in range(2):
        assert ask(port, "/s/link").body == b"a"
        assert ask(port, "/s/folder/b/x.txt").body == b"x"
    (site / "link").unlink()
    (site / "link").symlink_to("../secret")
    (site / "folder").unlink()
    (site / "folder").symlink_to("../site2")
    os.rename(site / "a", site.parent / "site2")
    assert ask(port, "/s/link").status == ask(port, "/s/folder/b/x.txt").status == 404


def test_w3_the_directory_may_become_the_next_version(
    serve: Serve, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "_SECONDS", 3600.0)
    current = site.parent / "current"
    current.symlink_to(site)
    port = serve(lambda app: app.static("/", current)).port
    assert [ask(port, "/a.txt").body for _ in range(2)] == [b"a", b"a"]
    (site.parent / "v2").mkdir()
    (site.parent / "v2" / "a.txt").write_text("b")
    (site.parent / "next").symlink_to("v2")
    os.replace(site.parent / "next", current)
    assert ask(port, "/a.txt").body == b"b"
    assert ask(port, "/big.bin").status == 404


# ---- compressed files ---------------------------------------------------------------------------


def test_w3_a_change_of_either_file_counts_at_once(port: int, site: Path) -> None:
    def encoding() -> str:
        return ask(port, "/s/app.js", Accept_Encoding="gzip").headers.get("content-encoding", "")

    assert [encoding() for _ in range(2)] == ["gzip", "gzip"]
    os.utime(site / "app.js", (1_700_000_001, 1_700_000_001))
    assert encoding() == ""  # the compressed one is older
    os.utime(site / "app.js", (1_700_000_000, 1_700_000_000))
    assert encoding() == "gzip"
    os.unlink(site / "app.js.gz")
    assert encoding() == ""


def test_w3_a_new_compressed_file_counts_after_a_second(serve: Serve, site: Path) -> None:
    port = serve(lambda app: app.static("/", site)).port
    assert "vary" not in ask(port, "/a.txt", Accept_Encoding="gzip").headers
    shutil.copy(site / "app.js.gz", site / "a.txt.gz")

    def is_sent() -> bool:
        answer = ask(port, "/a.txt", Accept_Encoding="gzip")
        return answer.headers.get("content-encoding") == "gzip"

    peer.eventually(is_sent)


# ---- bounds, and other fields -------------------------------------------------------------------


def test_w3_t_what_is_kept_is_bounded(
    serve: Serve, site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "_MOST", 10)
    monkeypatch.setattr(served, "_SECONDS", 3600.0)
    server = serve(lambda app: app.static("/s", site))
    for number in range(30):
        (site / f"{number}.txt").write_text(str(number))
        for _ in range(2):
            assert ask(server.port, f"/s/{number}.txt").body == b"%d" % number
            ask(server.port, "/s/app.js", Accept_Encoding=f"x{number}")
    long = "/s/" + "%61" * 100 + ".txt"
    (site / ("a" * 100 + ".txt")).write_text("long")
    assert [ask(server.port, long).body for _ in range(2)] == [b"long", b"long"]
    ask(server.port, "/s/app.js", Accept_Encoding="y" * 300)
    (handler,) = (item for item in gc.get_objects() if type(item) is served.Static)
    assert len(handler._kept) == 10
    assert all(len(str(key)) < 300 for key in handler._kept)


def test_w3_w4_fields_of_the_program_win_each_time(serve: Serve, site: Path) -> None:
    def before(res: Response, req: Request) -> None:
        res.write_header("cache-control", "private").write_header("X-Frame-Options", "DENY")
        if req.get_query("status"):
            res.write_status(404)

    def configure(app: App) -> None:
        app.router("", before=before).static("/s", site)

    port = serve(configure).port
    for _ in range(3):
        answer = ask(port, "/s/big.bin")
        assert answer.headers["cache-control"] == "private"
        assert answer.headers["x-frame-options"] == "DENY"
        other = ask(port, "/s/big.bin?status=1", Range="bytes=0-0")
        assert (other.status, len(other.body)) == (404, 65536)
        assert "accept-ranges" not in other.headers


def test_w3_known_files_leave_no_descriptor(port: int, site: Path) -> None:
    paths = ("/s/", "/s/a.txt", "/s/a/b/x.txt", "/s/big.bin", "/s/app.js")
    for path in paths:
        ask(port, path)
    before = len(os.listdir("/proc/self/fd"))
    for _ in range(5):
        for path in paths:
            ask(port, path), ask(port, path, "HEAD"), ask(port, path, If_None_Match="*")
    peer.eventually(lambda: len(os.listdir("/proc/self/fd")) <= before)
