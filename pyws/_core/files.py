# SPDX-License-Identifier: MIT
"""Files as responses: types, conditions, ranges and encodings (RFC 9110), and the way to a file.

Nothing here knows of requests.
"""

from __future__ import annotations

import errno
import os
import re
import stat
import time
from typing import Mapping, NamedTuple, Optional
from urllib.parse import quote

from .fields import list_elements

__all__ = [
    "ENCODINGS",
    "UNSATISFIABLE",
    "Found",
    "Opened",
    "attachment",
    "condition",
    "content_type",
    "encodings",
    "entity_tag",
    "found",
    "http_date",
    "is_missing",
    "is_unchanged",
    "open_beneath",
    "open_file",
    "part",
    "path_segments",
    "reopen",
]

# ---- what a file is -----------------------------------------------------------------------------

# The system's tables differ from each other, and name types that browsers do not run as scripts.
_TYPES = {
    ".avif": "image/avif", ".bin": "application/octet-stream", ".bmp": "image/bmp",
    ".br": "application/octet-stream", ".bz2": "application/x-bzip2", ".css": "text/css",
    ".csv": "text/csv", ".gif": "image/gif", ".gz": "application/gzip", ".htm": "text/html",
    ".html": "text/html", ".ico": "image/x-icon", ".ics": "text/calendar", ".jpeg": "image/jpeg",
    ".jpg": "image/jpeg", ".js": "text/javascript", ".json": "application/json",
    ".map": "application/json", ".md": "text/markdown", ".mjs": "text/javascript",
    ".mp3": "audio/mpeg", ".mp4": "video/mp4", ".ogg": "audio/ogg", ".otf": "font/otf",
    ".pdf": "application/pdf", ".png": "image/png", ".svg": "image/svg+xml",
    ".tar": "application/x-tar", ".ttf": "font/ttf", ".txt": "text/plain", ".wasm":
    "application/wasm", ".wav": "audio/wav", ".webm": "video/webm", ".webmanifest":
    "application/manifest+json", ".webp": "image/webp", ".woff": "font/woff", ".woff2":
    "font/woff2", ".xml": "application/xml", ".xz": "application/x-xz", ".zip": "application/zip",
    ".zst": "application/zstd",
}  # fmt: skip


def content_type(name: str) -> str:
    """The media type of a file, by its name; of text, in UTF-8."""
    kind = _TYPES.get(os.path.splitext(name)[1].lower())
    if kind is None:
        import mimetypes  # it takes long to import

        kind = mimetypes.guess_type("x" + os.path.splitext(name)[1])[0]
    kind = kind or "application/octet-stream"
    return kind + "; charset=utf-8" if kind.startswith("text/") else kind


def entity_tag(status: os.stat_result, encoding: str = "") -> str:
    """A strong ETag: a change of the file makes another one."""
    return f'"{status.st_mtime_ns:x}-{status.st_size:x}{encoding and "-" + encoding}"'


def attachment(name: str) -> str:
    """The value of Content-Disposition that has a browser save the file (RFC 6266)."""
    plain = re.sub(r"[^ !#-\[\]-~]|%", "_", name)
    extended = "" if plain == name else f"; filename*=UTF-8''{quote(name, safe='')}"
    return f'attachment; filename="{plain}"{extended}'


_DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def http_date(seconds: int) -> str:
    """An IMF-fixdate (RFC 9110 section 5.6.7), in any locale."""
    at = time.gmtime(seconds)
    day, month = _DAYS[at.tm_wday], _MONTHS[at.tm_mon - 1]
    return time.strftime(f"{day}, %d {month} %Y %H:%M:%S GMT", at)


def _seconds(date: str) -> Optional[int]:
    """The time of an HTTP-date; None if it is none."""
    from datetime import datetime, timezone  # they take long to import
    from email.utils import parsedate

    try:
        parsed = parsedate(date)
        moment = parsed and datetime(*parsed[:6], tzinfo=timezone.utc)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return None
    return int(moment.timestamp()) if moment else None


# ---- conditions (RFC 9110 section 13) -----------------------------------------------------------

_TAG = re.compile(r'(?:W/)?"[^"\x00-\x20\x7f]*"')


def _has_tag(value: str, tag: str, weak: bool) -> bool:
    """Whether a list of entity tags has this strong one, or is "*"."""
    if value.strip() == "*":
        return True
    return any(found == tag or (weak and found == "W/" + tag) for found in _TAG.findall(value))


def condition(headers: Mapping[str, str], tag: str, modified: int) -> int:
    """What the conditions of a GET or HEAD make of the response: 200, 304 or 412.

    Args:
        headers: The fields of the request, by lower-case name.
        tag: The ETag of the file.
        modified: When it was modified, in seconds.
    """
    if "if-match" in headers:
        if not _has_tag(headers["if-match"], tag, weak=False):
            return 412
    elif "if-unmodified-since" in headers:
        since = _seconds(headers["if-unmodified-since"])
        if since is not None and modified > since:
            return 412
    if "if-none-match" in headers:
        return 304 if _has_tag(headers["if-none-match"], tag, weak=True) else 200
    if "if-modified-since" in headers:
        since = _seconds(headers["if-modified-since"])
        if since is not None and modified <= since:
            return 304
    return 200


# ---- ranges (RFC 9110 section 14) ---------------------------------------------------------------

UNSATISFIABLE = (0, -1)
_RANGE = re.compile(r"bytes=[ \t]*([0-9]*)-([0-9]*)[ \t]*\Z", re.IGNORECASE)
_LARGE = 10**19  # no file is so large


def _number(digits: str) -> int:
    return (
        int(digits)
        if len(digits) < 20
        else int(digits[-20:])
        if not digits[:-20].strip("0")
        else _LARGE
    )


def part(
    headers: Mapping[str, str], size: int, tag: str, modified: int
) -> Optional[tuple[int, int]]:
    """The part of a file that a GET asks for: offset and length.

    Returns:
        None for the whole file: also for several ranges, and for a Range that is malformed, or for
        another version of the file (If-Range). UNSATISFIABLE if it is beyond the end.
    """
    match = _RANGE.match(headers.get("range", ""))
    if match is None or not _is_current(headers.get("if-range"), tag, modified):
        return None
    first, last = match.groups()
    if not first:
        if not last:
            return None
        count = min(_number(last), size)
        if not count:  # an empty file has no last bytes, which is no error
            return None if last.strip("0") else UNSATISFIABLE
        return size - count, count
    begin, end = _number(first), _number(last) if last else size - 1
    if last and end < begin:
        return None
    if begin >= size:
        return UNSATISFIABLE
    return begin, min(end, size - 1) - begin + 1


def _is_current(value: Optional[str], tag: str, modified: int) -> bool:
    """Whether If-Range names this version of the file, or is missing (section 13.1.5)."""
    if value is None:
        return True
    value = value.strip()
    return value == tag if '"' in value else value == http_date(modified)


# ---- encodings (RFC 9110 section 12.5.3) --------------------------------------------------------

ENCODINGS = {"br": ".br", "gzip": ".gz"}  # the best one first
_WEIGHT = re.compile(r"(?:0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)\Z")


def encodings(accepted: Optional[str]) -> list[str]:
    """Those of ENCODINGS that a client takes rather than none, its favourite one first.

    Args:
        accepted: Its Accept-Encoding; None without one.
    """
    weights: dict[str, float] = {}
    for element in list_elements(accepted):
        name, *parameters = (item.strip(" \t").lower() for item in element.split(";"))
        weight = 1.0
        for parameter in parameters:
            key, _, value = parameter.partition("=")
            if key.strip() == "q":
                weight = float(value) if _WEIGHT.match(value.strip()) else 0.0
        weights["gzip" if name == "x-gzip" else name] = weight
    rest, least = weights.get("*", 0.0), weights.get("identity", 0.0)
    wanted = [(-weights.get(name, rest), name) for name in ENCODINGS]
    return [name for weight, name in sorted(wanted) if weight < 0 and -weight >= least]


# ---- the way to a file --------------------------------------------------------------------------


class Opened(NamedTuple):
    """A regular file that is open.

    Attributes:
        fd: Its descriptor.
        status: What fstat says of it.
        is_direct: No symbolic link was followed below the directory.
    """

    fd: int
    status: os.stat_result
    is_direct: bool = True


_PERCENT = re.compile(rb"%([0-9A-Fa-f]{2})")
_CONTROL = re.compile(rb"[\x00-\x1f\x7f/\\]")


def path_segments(path: bytes) -> Optional[list[bytes]]:
    """The names in a path of a URL, decoded once, that may be looked for below a directory.

    The last one is b"" if the path ends with a slash, or is empty. None for what no file is served
    for: "..", names that begin with a dot, empty names within the path, encoded slashes,
    backslashes, control characters, and a "%" that encodes nothing.
    """
    names = path.split(b"/")
    decoded = []
    for index, name in enumerate(names):
        if not name and index < len(names) - 1:
            return None
        if name.count(b"%") != len(_PERCENT.findall(name)):
            return None
        plain = _PERCENT.sub(lambda match: bytes((int(match[1], 16),)), name)
        if plain[:1] == b"." or _CONTROL.search(plain):
            return None
        decoded.append(plain)
    return decoded


# PyPy has no O_PATH; without it, directories must be readable, too.
_DIRECTORY = getattr(os, "O_PATH", 0) | os.O_DIRECTORY | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
_MISSING = (
    errno.EACCES, errno.EISDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOTDIR,
    errno.ENXIO, errno.EPERM,
)  # fmt: skip


def is_missing(error: OSError) -> bool:
    """Whether this means that there is no file to be served, and not that something is broken."""
    return error.errno in _MISSING


def open_beneath(directory: bytes, names: list[bytes]) -> Opened:
    """Open a regular file below a directory, also through symbolic links that do not lead out.

    The names are opened one by one, and no link is followed on the way: what changes meanwhile
    cannot lead out either. Nothing here waits, as for the other end of a FIFO.

    Raises:
        IsADirectoryError: The file is a directory.
        OSError: There is no such file, it is no regular one, or it cannot be opened.
    """
    try:
        return _walk(directory, names)
    except OSError as error:
        if error.errno not in (errno.ELOOP, errno.ENOTDIR):
            raise
    top = os.path.realpath(directory)
    real = os.path.realpath(os.path.join(directory, *names))
    inside = real[len(top) :] if top != b"/" else real
    if real != top and not (real.startswith(top) and inside[:1] == b"/"):
        raise OSError(errno.ELOOP, "a symbolic link leads out of the directory")
    opened = _walk(top, [name for name in inside.split(b"/") if name])
    return Opened(opened.fd, opened.status, is_direct=False)


def _walk(directory: bytes, names: list[bytes]) -> Opened:
    """`open_beneath` without links. Raises OSError: ELOOP or ENOTDIR for a link."""
    fd = os.open(directory, _DIRECTORY)
    try:
        for name in names[:-1]:
            inner = os.open(name, _DIRECTORY | os.O_NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = inner
        if not names:
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR))
        return open_file(names[-1], fd)
    finally:
        os.close(fd)


def open_file(path: bytes, directory: Optional[int] = None) -> Opened:
    """Open a regular file.

    Args:
        path: Its path.
        directory: The descriptor of the directory that the path begins in. Then a link is refused.

    Raises:
        IsADirectoryError: It is a directory.
        OSError: It is no regular file, or cannot be opened.
    """
    follow = directory is None
    # To open a device may have effects, so look first.
    _check_regular(os.stat(path, dir_fd=directory, follow_symlinks=follow))
    fd = os.open(path, _FILE | (0 if follow else os.O_NOFOLLOW), dir_fd=directory)
    try:
        status = os.fstat(fd)
        _check_regular(status)
    except BaseException:
        os.close(fd)
        raise
    return Opened(fd, status)


def _check_regular(status: os.stat_result) -> None:
    if stat.S_ISREG(status.st_mode):
        return
    kind = {stat.S_IFDIR: errno.EISDIR, stat.S_IFLNK: errno.ELOOP}
    number = kind.get(stat.S_IFMT(status.st_mode))
    if number is None:
        raise OSError(errno.ENXIO, "this is no regular file")
    raise OSError(number, os.strerror(number))


# ---- the same way again -------------------------------------------------------------------------


class Found(NamedTuple):
    """A file below a directory that was opened before, without following links.

    Attributes:
        path: Its path.
        folders: The paths of the folders between the directory and the file.
        status: What fstat said of it.
    """

    path: bytes
    folders: tuple[bytes, ...]
    status: os.stat_result


def found(directory: bytes, names: list[bytes], opened: Opened) -> Found:
    """What `reopen` takes, for the result of `open_beneath`, which must be direct."""
    paths = [os.path.join(directory, *names[: i + 1]) for i in range(len(names))]
    return Found(paths[-1], tuple(paths[:-1]), opened.status)


def _identity(status: os.stat_result) -> tuple[int, ...]:
    """What changes with the file: also when another one has got its name, or its mode changes."""
    return (
        status.st_ino, status.st_dev, status.st_mode, status.st_size, status.st_mtime_ns,
        status.st_ctime_ns,
    )  # fmt: skip


def is_unchanged(known: Found) -> bool:
    """Whether the path still leads to that file, which has not changed, and through no link."""
    try:
        for folder in known.folders:
            if not stat.S_ISDIR(os.lstat(folder).st_mode):
                return False
        return _identity(os.lstat(known.path)) == _identity(known.status)
    except OSError:
        return False


def reopen(known: Found) -> Optional[Opened]:
    """Open the file again in fewer steps than `open_beneath` takes.

    Returns:
        None if anything has changed, or it cannot be opened.
    """
    if not is_unchanged(known):
        return None
    try:
        fd = os.open(known.path, _FILE | os.O_NOFOLLOW)
    except OSError:
        return None
    # The path may have changed after the look at it; the file that was found may be sent anyway.
    if _identity(os.fstat(fd)) == _identity(known.status):
        return Opened(fd, known.status)
    os.close(fd)
    return None
