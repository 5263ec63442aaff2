# SPDX-License-Identifier: MIT
"""Files as answers: `Response.send_file`, and the handlers of `App.static`."""

from __future__ import annotations

import errno
import os
import time
from typing import Any, Dict, Mapping, NamedTuple, Optional, Tuple, Union

from . import files, requests, values
from .calls import has_field
from .facts import address_of, fact, headers_of
from .fields import Latin1
from .hints import StrPath
from .logs import logger
from .requests import Exchange

__all__ = ["Files", "Static", "add_slash", "check_max_age"]

_MAX_AGE = 10 * 365 * 24 * 3600

# What `Static` keeps of the files that it has served.
_SECONDS = 1.0  # until it looks for compressed files beside them again
_MOST = 1024  # files
_LONGEST = 256  # characters of a path, and of an Accept-Encoding


_CONDITIONS = (
    b"if-match", b"if-modified-since", b"if-none-match", b"if-unmodified-since", b"range",
)  # fmt: skip


def check_max_age(value: Any) -> Optional[int]:
    """`max_age`, or None. Raises TypeError, ValueError."""
    return None if value is None else values.integer("max_age", value, 0, _MAX_AGE)


class Files(Exchange):
    """The method of `Response` for that."""

    __slots__ = ()

    def send_file(
        self,
        path: Union[StrPath, bytes],
        *,
        content_type: Union[str, bytes, None] = None,
        download_name: Optional[str] = None,
        max_age: Optional[int] = None,
    ) -> None:
        """Answer with a file, without reading it into memory (sendfile).

        A GET or HEAD with the status 200 is answered as its header fields ask: with a 304 if the
        client has the file already (ETag, Last-Modified), with the part that its Range names (206),
        or a 416 if that is beyond the end. With another status (``res.write_status(404)``), the
        whole file is sent. Opening the file is a short call that may wait for the disk.

        The path is the program's: for names that clients choose there is ``app.static``.

        Args:
            path: A regular file, which may be reached through symbolic links.
            content_type: The value of Content-Type. None: what the name of the file says.
            download_name: The name under which browsers save the file. None: they show it if they
                can.
            max_age: For how many seconds clients may use the file without asking again
                (Cache-Control). None: nothing is said about that, 0: they always ask.

        Raises:
            OSError: The file cannot be opened, as with FileNotFoundError. Nothing was changed.
            RuntimeError: The request is answered already, or called from another thread.
            TypeError, ValueError: An argument is wrong, or the file is no regular one.
        """
        self._runtime.check_thread()
        name = os.fsencode(path)
        seconds = check_max_age(max_age)
        if download_name is not None and not isinstance(download_name, str):
            raise TypeError(f"download_name must be a str, not {values.type_name(download_name)}")
        requests.check_unanswered(self)
        try:
            opened = files.open_file(name)
        except OSError as error:
            if error.errno == errno.ENXIO:
                raise ValueError(f"path must be a regular file: {path!r}") from None
            raise type(error)(error.errno, error.strerror, path) from None
        fields: dict[str, Any] = {
            "Content-Type": content_type or files.content_type(os.fsdecode(name)),
            **_caching(seconds),
        }
        if download_name is not None:
            fields["Content-Disposition"] = files.attachment(download_name)
        send(self, opened, fields)


def _caching(seconds: Optional[int]) -> dict[str, str]:
    if seconds is None:
        return {}
    return {"Cache-Control": f"max-age={seconds}" if seconds else "no-cache"}


def _modified(status: os.stat_result) -> int:
    """When a file was modified, in seconds; not in the future (RFC 9110 section 8.8.2.1)."""
    return min(status.st_mtime_ns // 10**9, int(time.time()))


def _fields_of(status: os.stat_result, fields: Mapping[str, Any], encoding: str) -> Dict[str, Any]:
    """All fields of a response with a whole file, given those that do not follow from it."""
    added = {
        **fields,
        "ETag": files.entity_tag(status, encoding),
        "Last-Modified": files.http_date(_modified(status)),
        "Accept-Ranges": "bytes",
    }
    if encoding:
        added["Content-Encoding"] = encoding
    return added


def send(
    res: Exchange, opened: files.Opened, fields: Mapping[str, Any], encoding: str = ""
) -> None:
    """Answer with an open file, as the request asks, and close it.

    Args:
        res: The response, whose fields win over these.
        opened: The file.
        fields: Further fields.
        encoding: The encoding that the file has, which is a field.
    """
    status = opened.status
    modified = _modified(status)
    tag = files.entity_tag(status, encoding)
    try:
        request = requests.request_of(res)
        method, headers = fact(request, "method"), headers_of(request)
        plain = method in ("GET", "HEAD") and requests.status_of(res) == 200
        code = files.condition(headers, tag, modified) if plain else 0
        whole = (0, status.st_size)
        found = files.part(headers, status.st_size, tag, modified) if code == 200 else None
        offset, length = whole if found is None or method == "HEAD" else found
        added = _fields_of(status, fields, encoding)
        if code != 200:
            del added["Accept-Ranges"]
        if length < 0:
            code, added = 416, {"Content-Range": f"bytes */{status.st_size}"}
        elif found is not None and method == "GET":
            code = 206
            added["Content-Range"] = f"bytes {offset}-{offset + length - 1}/{status.st_size}"
        elif code in (304, 412):
            keep = ("Cache-Control", "ETag", "Vary", "Last-Modified")
            added = {name: added[name] for name in keep if name in added}
        _add(res, added)
    except BaseException:
        os.close(opened.fd)
        raise
    if code in (304, 412, 416):
        os.close(opened.fd)
        requests.answer_empty(res, code)
    else:
        requests.answer_file(res, code, opened.fd, offset, length)


def _add(res: Any, fields: Mapping[str, Any]) -> None:
    """Add header fields, except those that the program has added."""
    there = requests.field_names(res)
    for name, value in fields.items():
        if there and name.lower() in there:
            continue
        if name == "Content-Type" or name == "Location":  # may be the program's, or the client's
            res.write_header(name, value)
        else:
            requests.add_field(res, name, value)


def _sent(text: str) -> bytes:
    """A part of a target as it was sent."""
    return text.encode("latin-1" if isinstance(text, Latin1) else "utf-8")


def add_slash(res: Any, req: Any) -> None:
    """Answer that this is a directory, whose address ends with a slash (301)."""
    request = requests.request_of(res)
    query = _sent(fact(request, "query"))
    _add(res, {"Location": _sent(fact(request, "path")) + b"/" + (query and b"?" + query)})
    requests.answer_empty(res, 301)


class _Kept(NamedTuple):
    """What a path has led to.

    Attributes:
        until: When it has to be looked for again, in the time of time.monotonic.
        sent: The file that is sent.
        plain: The one that it is the compressed form of, or None.
        encoding: The encoding of a compressed one.
        fields: Fields that do not follow from the file.
        lines: All fields of a response with the whole file.
    """

    until: float
    sent: files.Found
    plain: Optional[files.Found]
    encoding: str
    fields: Mapping[str, Any]
    lines: Tuple[Tuple[bytes, bytes], ...]


def _accepted(res: Exchange) -> str:
    """The Accept-Encoding of a request; "" without one."""
    return headers_of(requests.request_of(res)).get("accept-encoding", "")


class Static:
    """The handler of `App.static`.

    What was found for a path is kept for a second. In this time, a response needs only a look at
    the file, and at the folders on the way to it: whether they are what they were. No descriptor is
    kept.
    """

    __slots__ = ("_depth", "_directory", "_fields", "_index", "_kept", "_precompressed", "_warned")

    def __init__(
        self,
        depth: int,
        directory: bytes,
        index: Optional[str],
        max_age: Optional[int],
        precompressed: bool,
    ) -> None:
        """
        Args:
            depth: How many slashes are in front of the path of a file.
            directory: Where the files are.
            index, max_age, precompressed: As for `App.static`.
        """
        self._depth = depth
        self._directory = directory
        self._index = None if index is None else os.fsencode(index)
        self._fields = _caching(max_age)
        self._precompressed = precompressed
        self._warned = False
        # By path, oldest first; by path and Accept-Encoding where that matters (None by path).
        self._kept: Dict[Any, Optional[_Kept]] = {}

    def __call__(self, res: Any, req: Any) -> Any:
        path = fact(requests.request_of(res), "path")
        if path in self._kept and self._send_again(res, path):
            return None
        names = files.path_segments(_sent(path).split(b"/", self._depth)[self._depth])
        try:
            if names is None or not self._serve(res, names):
                return requests.not_found(res, req)
        except OSError as error:
            if not files.is_missing(error):
                raise
            if error.errno in (errno.EACCES, errno.EPERM):
                self._warn(path, error)
            return requests.not_found(res, req)
        return None

    def _serve(self, res: Exchange, names: list[bytes]) -> bool:
        """Answer; False if there is nothing to answer with. Raises OSError, for the same reason."""
        if not names[-1]:
            if self._index is None:
                return False
            names[-1] = self._index
        try:
            opened = files.open_beneath(self._directory, names)
        except IsADirectoryError:
            if self._index is None or names[-1] == self._index:
                return False
            os.close(files.open_beneath(self._directory, [*names, self._index]).fd)
            add_slash(res, None)
            return True
        fields: dict[str, Any] = {
            "Content-Type": files.content_type(os.fsdecode(names[-1])),
            **self._fields,
        }
        plain, encoding = opened, ""
        if self._precompressed:
            opened, encoding = self._choose(res, opened, names, fields)
        if plain.is_direct and opened.is_direct:
            self._keep(res, names, plain, opened, encoding, fields)
        send(res, opened, fields, encoding)
        return True

    def _keep(
        self,
        res: Exchange,
        names: list[bytes],
        plain: files.Opened,
        opened: files.Opened,
        encoding: str,
        fields: Mapping[str, Any],
    ) -> None:
        """Keep what was found, for the next request."""
        path, key = fact(requests.request_of(res), "path"), None
        if "Vary" in fields:
            key = path, _accepted(res)
        if len(path) > _LONGEST or (key and len(key[1]) > _LONGEST):
            return
        found = files.found(self._directory, names, plain)
        sent, original = found, None
        if encoding:
            longer = [*names[:-1], names[-1] + files.ENCODINGS[encoding].encode()]
            sent, original = files.found(self._directory, longer, opened), found
        lines = tuple(
            (name.encode(), value.encode("latin-1"))
            for name, value in _fields_of(opened.status, fields, encoding).items()
        )
        kept = self._kept
        kept.pop(key or path, None)
        kept[key or path] = _Kept(
            time.monotonic() + _SECONDS, sent, original, encoding, fields, lines
        )
        if key:
            kept.pop(path, None)
            kept[path] = None
        while len(kept) > _MOST:
            del kept[next(iter(kept))]

    def _send_again(self, res: Exchange, path: str) -> bool:
        """Answer with what was kept for a path; False if there is nothing that is still right."""
        kept = self._kept[path] or self._kept.get((path, _accepted(res)))
        if kept is None or kept.until < time.monotonic():
            return False
        if kept.plain is not None and not files.is_unchanged(kept.plain):
            return False
        opened = files.reopen(kept.sent)
        if opened is None:
            return False
        if _asks_for_all(res):
            requests.add_fields(res, kept.lines)
            requests.answer_file(res, 200, opened.fd, 0, opened.status.st_size)
        else:
            send(res, opened, kept.fields, kept.encoding)
        return True

    def _choose(
        self, res: Exchange, opened: files.Opened, names: list[bytes], fields: dict[str, Any]
    ) -> tuple[files.Opened, str]:
        """The file, or a compressed one beside it that the client takes, with its encoding."""
        path = os.path.join(self._directory, *names)
        there = [
            name
            for name, suffix in files.ENCODINGS.items()
            if os.path.lexists(path + suffix.encode())
        ]
        if not there:
            return opened, ""
        fields["Vary"] = "Accept-Encoding"
        accepted = headers_of(requests.request_of(res)).get("accept-encoding")
        for name in files.encodings(accepted):
            if name not in there:
                continue
            suffix = files.ENCODINGS[name].encode()
            try:
                smaller = files.open_beneath(self._directory, [*names[:-1], names[-1] + suffix])
            except OSError:
                continue
            if smaller.status.st_mtime_ns >= opened.status.st_mtime_ns:
                os.close(opened.fd)
                return smaller, name
            os.close(smaller.fd)  # of an older version of the file
        return opened, ""

    def _warn(self, path: str, error: OSError) -> None:
        if not self._warned:
            self._warned = True
            logger.warning(
                "a file below %s is not served: %s: %s",
                os.fsdecode(self._directory),
                path,
                error.strerror,
            )


def _asks_for_all(exchange: Exchange) -> bool:
    """Whether this is a GET that gets a whole file, since it has neither conditions nor a Range."""
    request = requests.request_of(exchange)
    ptr = address_of(request)
    if requests.status_of(exchange) != 200 or not ptr or fact(request, "method") != "GET":
        return False
    return not any(has_field(ptr, name) for name in _CONDITIONS)
