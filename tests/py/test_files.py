# SPDX-License-Identifier: MIT
"""What a file is as a response: types, conditions, ranges, encodings, and which file it is (W3)."""

import email.utils
import errno
import os
import random
import stat
from pathlib import Path
from typing import Any, Dict, List, Optional, Tuple
from urllib.parse import unquote_to_bytes

import pytest

from pyws._core import files
from pyws._core.files import UNSATISFIABLE, condition, encodings, part, path_segments

pytestmark = pytest.mark.usefixtures("read_by_h11")

TAG, MODIFIED = '"1-a"', 1_700_000_000
DATE = files.http_date(MODIFIED)

# ---- types, tags, names -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("index.html", "text/html; charset=utf-8"),
        ("a.HTML", "text/html; charset=utf-8"),
        ("app.js", "text/javascript; charset=utf-8"),
        ("app.mjs", "text/javascript; charset=utf-8"),
        ("app.js.map", "application/json"),
        ("app.js.gz", "application/gzip"),
        ("app.js.br", "application/octet-stream"),
        ("style.css", "text/css; charset=utf-8"),
        ("a.wasm", "application/wasm"),
        ("a.svg", "image/svg+xml"),
        ("archive.tar.gz", "application/gzip"),
        ("photo.jpeg", "image/jpeg"),
        ("README", "application/octet-stream"),
        ("a.html.nonsense", "application/octet-stream"),
        ("notes.txt", "text/plain; charset=utf-8"),
        ("page.xhtml", "application/xhtml+xml"),
    ],
)
def test_w3_content_types(name: str, expected: str) -> None:
    assert files.content_type(name) == expected


def test_w3_a_change_makes_another_etag(tmp_path: Path) -> None:
    path = tmp_path / "a"
    tags = set()
    for content, at in ((b"a", 5), (b"b", 6), (b"ab", 6), (b"ab", 6_000_000_001)):
        path.write_bytes(content)
        os.utime(path, ns=(at, at))
        status = path.stat()
        tags |= {files.entity_tag(status), files.entity_tag(status, "gzip")}
    assert len(tags) == 8
    assert all(tag[0] == tag[-1] == '"' for tag in tags)


@pytest.mark.parametrize("seconds", [0, 1, 951_782_400, MODIFIED, 2_000_000_000, -1])
def test_http_dates(seconds: int) -> None:
    assert files.http_date(seconds) == email.utils.formatdate(seconds, usegmt=True)


def test_w3_names_of_downloads() -> None:
    assert files.attachment("a b.txt") == 'attachment; filename="a b.txt"'
    assert (
        files.attachment("ä.txt") == "attachment; filename=\"_.txt\"; filename*=UTF-8''%C3%A4.txt"
    )
    for name in ('a"b', "a\\b", "a\r\nX: y", "a%22", "a\0"):
        value = files.attachment(name)
        assert value.isprintable() and value.isascii()
        assert '"' not in value[len('attachment; filename="') :].split('"', 1)[0]


# ---- conditions ---------------------------------------------------------------------------------

LATER, EARLIER = files.http_date(MODIFIED + 1), files.http_date(MODIFIED - 1)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 200),
        ({"if-none-match": TAG}, 304),
        ({"if-none-match": f'"x", {TAG}'}, 304),
        ({"if-none-match": f"W/{TAG}"}, 304),
        ({"if-none-match": "*"}, 304),
        ({"if-none-match": '"x"'}, 200),
        ({"if-none-match": ""}, 200),
        ({"if-none-match": TAG[:-1]}, 200),
        ({"if-none-match": TAG.strip('"')}, 200),
        ({"if-none-match": '"x"', "if-modified-since": LATER}, 200),
        ({"if-none-match": TAG, "if-modified-since": EARLIER}, 304),
        ({"if-modified-since": DATE}, 304),
        ({"if-modified-since": LATER}, 304),
        ({"if-modified-since": EARLIER}, 200),
        ({"if-modified-since": "yesterday"}, 200),
        ({"if-modified-since": ""}, 200),
        ({"if-modified-since": "Tue, 99 Nov 2023 99:99:99 GMT"}, 200),
        ({"if-modified-since": "Tuesday, 14-Nov-23 22:13:20 GMT"}, 304),  # RFC 850
        ({"if-modified-since": "Tue Nov 14 22:13:20 2023"}, 304),  # asctime
        ({"if-match": TAG}, 200),
        ({"if-match": "*"}, 200),
        ({"if-match": f"W/{TAG}"}, 412),
        ({"if-match": '"x"'}, 412),
        ({"if-match": '"x"', "if-none-match": TAG}, 412),
        ({"if-match": TAG, "if-unmodified-since": EARLIER}, 200),
        ({"if-unmodified-since": EARLIER}, 412),
        ({"if-unmodified-since": DATE}, 200),
        ({"if-unmodified-since": "never"}, 200),
    ],
)
def test_w3_conditions(headers: Dict[str, str], status: int) -> None:
    assert condition(headers, TAG, MODIFIED) == status


def test_w3_conditions_of_any_bytes() -> None:
    """Nothing raises, and nothing but a condition that holds has an effect."""
    source = random.Random(3)
    letters = '"W/*, \t0123456789abcGMTNov:-\xe4'
    for _ in range(3000):
        value = "".join(source.choices(letters, k=source.randrange(30)))
        for name in ("if-modified-since", "if-none-match", "if-match", "if-unmodified-since"):
            assert condition({name: value}, TAG, MODIFIED) in (200, 304, 412)


# ---- ranges -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("bytes=0-", (0, 10)),
        ("bytes=0-0", (0, 1)),
        ("bytes=3-5", (3, 3)),
        ("BYTES=3-5", (3, 3)),
        ("bytes= 3-5 ", (3, 3)),
        ("bytes=9-", (9, 1)),
        ("bytes=5-99", (5, 5)),
        ("bytes=5-99999999999999999999999", (5, 5)),
        ("bytes=-1", (9, 1)),
        ("bytes=-10", (0, 10)),
        ("bytes=-99", (0, 10)),
        ("bytes=-" + "9" * 5000, (0, 10)),
        ("bytes=00000000000000000000000003-5", (3, 3)),
        ("bytes=10-", UNSATISFIABLE),
        ("bytes=10-20", UNSATISFIABLE),
        ("bytes=18446744073709551616-", UNSATISFIABLE),
        ("bytes=" + "9" * 5000 + "-", UNSATISFIABLE),
        ("bytes=-0", UNSATISFIABLE),
        ("bytes=5-3", None),
        ("bytes=", None),
        ("bytes=-", None),
        ("bytes=a-b", None),
        ("bytes=3", None),
        ("bytes=3-5-7", None),
        ("bytes=+3-5", None),
        ("bytes=3-\u0665", None),
        ("bytes 3-5", None),
        ("items=3-5", None),
        ("bytes=0-1,3-4", None),
        ("bytes=0-1,0-1", None),
        ("bytes=" + ",".join(f"{i}-" for i in range(1000)), None),
        ("bytes=" + ",".join(["0-"] * 1000), None),
        ("", None),
    ],
)
def test_w3_ranges(value: str, expected: Optional[Tuple[int, int]]) -> None:
    assert part({"range": value}, 10, TAG, MODIFIED) == expected


@pytest.mark.parametrize(
    ("value", "expected"),
    [("bytes=0-", UNSATISFIABLE), ("bytes=0-0", UNSATISFIABLE), ("bytes=-1", None)],
)
def test_w3_ranges_of_an_empty_file(value: str, expected: Optional[Tuple[int, int]]) -> None:
    assert part({"range": value}, 0, TAG, MODIFIED) == expected
    assert part({"range": "bytes=-0"}, 0, TAG, MODIFIED) == UNSATISFIABLE


@pytest.mark.parametrize(
    ("value", "applies"),
    [
        (TAG, True),
        (f"W/{TAG}", False),
        ('"x"', False),
        ("*", False),
        (DATE, True),
        (LATER, False),
        (EARLIER, False),
        ("", False),
    ],
)
def test_w3_if_range(value: str, applies: bool) -> None:
    found = part({"range": "bytes=1-2", "if-range": value}, 10, TAG, MODIFIED)
    assert found == ((1, 2) if applies else None)


def test_w3_ranges_are_slices() -> None:
    """Against Python's slices, all of a small file."""
    content = bytes(range(6))
    for first in range(9):
        for last in range(9):
            found = part({"range": f"bytes={first}-{last}"}, 6, TAG, MODIFIED)
            if last < first:
                assert found is None
            elif first >= 6:
                assert found == UNSATISFIABLE
            else:
                assert found is not None
                offset, length = found
                assert content[offset : offset + length] == content[first : last + 1]


# ---- encodings ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("accepted", "expected"),
    [
        (None, []),
        ("", []),
        ("gzip", ["gzip"]),
        ("x-gzip", ["gzip"]),
        ("GZIP", ["gzip"]),
        ("gzip, deflate, br, zstd", ["br", "gzip"]),
        ("gzip;q=1, br;q=0.5", ["gzip", "br"]),
        ("gzip;q=0.5, br; q=0.500", ["br", "gzip"]),
        ("br;q=0, gzip", ["gzip"]),
        ("*", ["br", "gzip"]),
        ("*;q=0", []),
        ("gzip, *;q=0", ["gzip"]),
        ("br;q=0, *", ["gzip"]),
        ("identity", []),
        ("identity, gzip;q=0.5", []),
        ("identity;q=0.2, gzip;q=0.5", ["gzip"]),
        ("identity;q=0, gzip;q=0.1", ["gzip"]),
        ("gzip;q=2", []),
        ("gzip;q=-1", []),
        ("gzip;q=nan", []),
        ("gzip;q=", []),
        ("gzip;q=1.000", ["gzip"]),
        ("brotli, gzipped", []),
        (",, gzip ,", ["gzip"]),
        (",".join(["gzip;q=0.1"] * 1000), ["gzip"]),
    ],
)
def test_w3_encodings(accepted: Optional[str], expected: List[str]) -> None:
    assert encodings(accepted) == expected


# ---- the path of a URL --------------------------------------------------------------------------

TRAVERSALS = [
    "../secret", "a/../../secret", "a/..", "..", ".", "./a.txt", "...", "....//secret",
    "%2e%2e/secret", "%2E%2E/secret", ".%2e/secret", "%2e./secret", "a/%2e%2e/%2e%2e/secret",
    "..%2fsecret", "..%2Fsecret", "%2e%2e%2fsecret", "a%2f..%2f..%2fsecret", "a%2fa.txt",
    "..\\secret", "..%5csecret", "%2e%2e%5csecret", "a\\..\\..\\secret",
    "%252e%252e/secret", "%252e%252e%252fsecret", "..%252fsecret", "%25%32%65%25%32%65/secret",
    "..%c0%afsecret", "%c0%ae%c0%ae/secret", "%e0%80%ae%e0%80%ae/secret", "..%ef%bc%8fsecret",
    "%uff0e%uff0e/secret", "%u002e%u002e/secret", "%2/secret", "%zz/../secret", "..%00/secret",
    "a.txt%00", "a.txt%00.png", "%00", "a%0a", "//secret", "/etc/passwd", "%2fetc%2fpasswd",
    "a//a.txt", "a/.hidden", ".hidden", "%2ehidden", ".git/config", "a/%2e/a.txt", "a/./a.txt",
    "..;/secret", "..;a=b/secret", "%2e%2e;/secret", "a.txt/../../secret", "..%01/secret",
    "~/secret", "~root", "C:/secret", "file:/etc/passwd", "a/%7f",
]  # fmt: skip


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """A directory with a secret beside it."""
    root = tmp_path / "site"
    (root / "a").mkdir(parents=True)
    (tmp_path / "secret").write_text("secret")
    (root / "a.txt").write_text("a")
    (root / "a" / "a.txt").write_text("a")
    (root / ".hidden").write_text("secret")
    (root / "a" / ".hidden").write_text("secret")
    return root


@pytest.mark.parametrize("path", TRAVERSALS)
def test_w3_no_path_leads_out(site: Path, path: str) -> None:
    names = path_segments(path.encode())
    if names is None:
        return
    assert b".." not in names and not any(b"/" in name for name in names)
    with pytest.raises(OSError) as caught:
        files.open_beneath(os.fsencode(site), names)
    assert files.is_missing(caught.value)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        (b"", [b""]),
        (b"a", [b"a"]),
        (b"a/", [b"a", b""]),
        (b"a%20b/%c3%a4.txt", [b"a b", "ä.txt".encode()]),
        (b"a%25", [b"a%"]),
        (b"a%2525", [b"a%25"]),
        (b"%e4.txt", [b"\xe4.txt"]),
        (b"\xe4.txt", [b"\xe4.txt"]),
        (b"a..b", [b"a..b"]),
        (b"a.", [b"a."]),
        (b"%41%61", [b"Aa"]),
        (b"/", None),
        (b"a//", None),
        (b"%", None),
        (b"%4", None),
        (b"a%2", None),
    ],
)
def test_w3_names_in_a_path(path: bytes, expected: Optional[List[bytes]]) -> None:
    assert path_segments(path) == expected


def test_w3_random_paths_stay_inside(site: Path) -> None:
    """Whatever is opened is in the directory, and has no name with a dot in front."""
    source = random.Random(5)
    atoms = ["..", ".", "/", "a", "a.txt", "%2e", "%2f", "%5c", "\\", "%00", "secret", "%25", "x"]
    opened = 0
    for _ in range(5000):
        path = "".join(source.choices(atoms, k=source.randrange(1, 7)))
        names = path_segments(path.encode())
        if names is None:
            continue
        assert b"/".join(names) == unquote_to_bytes(path)
        try:
            found = files.open_beneath(os.fsencode(site), names)
        except OSError as error:
            assert files.is_missing(error), path
            continue
        opened += 1
        try:
            assert os.readlink(f"/proc/self/fd/{found.fd}").startswith(str(site))
            assert os.read(found.fd, 9) == b"a", path
        finally:
            os.close(found.fd)
    assert opened > 10


# ---- links, directories, and what is no file ----------------------------------------------------


def opens(root: Path, *names: str) -> bytes:
    """The content of a file below the directory."""
    found = files.open_beneath(os.fsencode(root), [os.fsencode(name) for name in names])
    try:
        assert stat.S_ISREG(found.status.st_mode)
        return os.read(found.fd, 100)
    finally:
        os.close(found.fd)


def missing(root: Path, *names: str) -> int:
    """Why there is no such file."""
    with pytest.raises(OSError) as caught:
        opens(root, *names)
    assert files.is_missing(caught.value)
    return caught.value.errno or 0


def test_w3_links_that_stay_inside(site: Path) -> None:
    (site / "link").symlink_to("a.txt")
    (site / "absolute").symlink_to(site / "a" / "a.txt")
    (site / "folder").symlink_to("a")
    (site / "a" / "up").symlink_to("../a.txt")
    (site / "chain").symlink_to("folder/up")
    for names in (["link"], ["absolute"], ["folder", "a.txt"], ["a", "up"], ["chain"]):
        assert opens(site, *names) == b"a"
    with pytest.raises(IsADirectoryError):
        opens(site, "folder")


def test_w3_links_that_lead_out(site: Path, tmp_path: Path) -> None:
    sibling = tmp_path / "site2"  # its name begins with that of the directory
    sibling.mkdir()
    (sibling / "x").write_text("secret")
    (site / "out").symlink_to("../secret")
    (site / "absolute").symlink_to("/etc/passwd")
    (site / "folder").symlink_to("..")
    (site / "sibling").symlink_to(sibling)
    (site / "chain").symlink_to("folder")
    (site / "loop").symlink_to("loop")
    (site / "dangling").symlink_to("nothing")
    (site / "proc").symlink_to("/proc/self")
    for names in (
        ["out"], ["absolute"], ["folder", "secret"], ["sibling", "x"], ["chain", "secret"],
        ["loop"],
        ["loop", "x"], ["dangling"], ["proc", "environ"], ["proc", "root", "etc", "passwd"],
    ):  # fmt: skip
        assert missing(site, *names)


def test_w3_the_directory_may_be_a_link(site: Path, tmp_path: Path) -> None:
    """As where the next version is put beside the old one, and the link is changed."""
    current = tmp_path / "current"
    current.symlink_to(site)
    (site / "link").symlink_to("a.txt")
    assert opens(current, "a", "a.txt") == opens(current, "link") == b"a"
    new = tmp_path / "new"
    new.mkdir()
    (new / "a.txt").write_text("new")
    (tmp_path / "next").symlink_to(new)
    os.replace(tmp_path / "next", current)
    assert opens(current, "a.txt") == b"new"
    assert missing(current, "link") == errno.ENOENT


@pytest.mark.timeout(20)
def test_w3_what_is_no_file_neither_blocks_nor_opens(site: Path) -> None:
    os.mkfifo(site / "fifo")
    (site / "link").symlink_to("fifo")
    (site / "null").symlink_to("/dev/null")
    assert missing(site, "fifo") == missing(site, "link") == errno.ENXIO
    assert missing(site, "null") == errno.ELOOP
    with pytest.raises(OSError, match="no regular file"):
        files.open_file(b"/dev/null")
    if os.geteuid() == 0:
        try:
            os.mknod(site / "device", stat.S_IFCHR | 0o666, os.makedev(1, 3))
        except PermissionError:
            return  # in a container
        assert missing(site, "device") == errno.ENXIO


def test_w3_a_link_that_appears_on_the_way_is_not_followed(
    site: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After the look at the real path, and before the names are opened."""
    (site / "folder").symlink_to("a")
    real = os.path.realpath

    def realpath(path: Any) -> Any:
        found = real(path)
        if found.endswith(b"a.txt"):
            os.rename(site / "a", site / "b")
            (site / "a").symlink_to("..")
            (site.parent / "a.txt").write_text("secret")
        return found

    monkeypatch.setattr(os.path, "realpath", realpath)
    assert missing(site, "folder", "a.txt")


def test_w3_no_descriptor_is_left(site: Path) -> None:
    (site / "link").symlink_to("a/a.txt")
    (site / "out").symlink_to("../secret")
    os.mkfifo(site / "fifo")
    before = len(os.listdir("/proc/self/fd"))
    for names in (["a.txt"], ["link"], ["out"], ["a", "none"], ["a"], ["a.txt", "x"], ["fifo"], []):
        for _ in range(5):
            try:
                opens(site, *names)
            except OSError:
                pass
    assert len(os.listdir("/proc/self/fd")) == before
