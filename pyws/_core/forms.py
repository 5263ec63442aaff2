# SPDX-License-Identifier: MIT
"""Forms: what `Request.form` returns, and how it is made of a body."""

from __future__ import annotations

import io
import logging
import os
from abc import ABCMeta
from typing import (
    IO,
    Any,
    Callable,
    Iterable,
    Iterator,
    List,
    Mapping,
    Optional,
    Tuple,
    TypeVar,
    Union,
    overload,
)

from ..errors import BadRequest
from . import foreign
from .fields import header_text, with_parameters
from .hints import StrPath

__all__ = ["LONGEST_URLENCODED", "Form", "Multipart", "UploadFile", "urlencoded"]

T = TypeVar("T")

_MOST_FIELDS, _MOST_FILES = 1_000, 100
_LONGEST_HEAD = 8 * 1024  # bytes of the header fields of a part
_IN_MEMORY = 1024 * 1024  # bytes of all fields of a form together, and of all its files together
LONGEST_URLENCODED = 1024 * 1024  # bytes as sent; to decode "%41" takes 80 times as much memory
_LONGEST_BOUNDARY = 70  # RFC 2046 section 5.1.1

_no_logger = logging.Logger("python_multipart")  # it warns of what clients do
_no_logger.disabled = True

# ---- what programs get --------------------------------------------------------------------------


@foreign.explained(foreign.NOT_IN_UPLOAD)
class UploadFile(metaclass=foreign.Explained):
    """A file that was sent with a form.

    It is kept in memory, or on disk if it is long; it has no name there, and goes with this object.

    Attributes:
        filename: Its name on the machine of the client, which may be anything: do not use it as a
            path.
        content_type: What the client says that it is, "" if it does not.
        size: Its length in bytes.
        file: A binary file, at its beginning. It may be on disk, so that its methods block.
    """

    __slots__ = ("content_type", "file", "filename", "size")

    def __init__(self, filename: str, content_type: str) -> None:
        self.filename = filename
        self.content_type = content_type
        self.size = 0
        self.file: IO[bytes] = io.BytesIO()

    async def read(self, size: int = -1) -> bytes:
        """Read `size` bytes, or everything that is left, without blocking the loop."""
        data: bytes = await self._call(self.file.read, size)
        return data

    async def seek(self, offset: int) -> None:
        """Have `read` go on from here, in bytes: ``await upload.seek(0)`` reads it again."""
        await self._call(self.file.seek, offset)

    async def write(self, path: StrPath) -> None:
        """Write a copy of the file to `path`, without blocking the loop.

        Raises:
            OSError: The path cannot be written to.
            TypeError: It is no path.
        """
        if not isinstance(path, (str, os.PathLike)):
            what = type(path).__name__
            raise TypeError(f"path must be the path of a new file, not {what}: see upload.file")
        await self._call(self._write, path)

    def close(self) -> None:
        """Forget what the file contains."""
        self.file.close()

    def _write(self, path: StrPath) -> None:
        import shutil  # it takes long to import

        self.file.seek(0)
        with open(path, "wb") as target:
            shutil.copyfileobj(self.file, target)
        self.file.seek(0)

    async def _call(self, function: Callable[..., Any], *args: Any) -> Any:
        if isinstance(self.file, io.BytesIO) and function is not self._write:
            return function(*args)
        import asyncio

        return await asyncio.get_running_loop().run_in_executor(None, function, *args)

    def __del__(self) -> None:
        self.file.close()

    def __repr__(self) -> str:
        return f"<UploadFile {self.filename!r} {self.content_type!r}, {self.size} bytes>"


class _TypeOfForm(foreign.Explained, ABCMeta):
    pass


@foreign.explained(foreign.NOT_IN_FORM)
class Form(Mapping[str, Union[str, UploadFile]], metaclass=_TypeOfForm):
    """The fields of a form, and its files.

    ``form["name"]`` is the first value of a field, ``form.get_all("name")`` all of them; `get`
    returns None for what the form does not have. A value is a str, or an `UploadFile` where a file
    was sent. This is a mapping from names, in the order received.
    """

    __slots__ = ("_values",)

    def __init__(self, pairs: Iterable[Tuple[str, Union[str, UploadFile]]]) -> None:
        """
        Args:
            pairs: The names and values of all fields.
        """
        self._values: dict[str, list[str | UploadFile]] = {}
        for name, value in pairs:
            self._values.setdefault(name, []).append(value)

    def __getitem__(self, name: str) -> Union[str, UploadFile]:
        """
        Raises:
            KeyError: The form has no such field.
        """
        return self._values[name][0]

    @overload
    def get(self, name: str) -> Union[str, UploadFile, None]: ...
    @overload
    def get(self, name: str, default: T) -> Union[str, UploadFile, T]: ...
    def get(self, name: str, default: Any = None) -> Any:
        """The first value of a field; `default` without it."""
        return self._values[name][0] if name in self._values else default

    def get_all(self, name: str) -> List[Union[str, UploadFile]]:
        """All values of a field, in the order received; none without it."""
        return list(self._values.get(name, ()))

    def get_text(self, name: str) -> Optional[str]:
        """The first value of a field that is no file; None without one."""
        values = self._values.get(name, ())
        return next((value for value in values if isinstance(value, str)), None)

    def get_file(self, name: str) -> Optional[UploadFile]:
        """The first file of a field; None without one."""
        return next(iter(self.get_files(name)), None)

    def get_files(self, name: str) -> List[UploadFile]:
        """All files of a field, in the order received."""
        return [value for value in self._values.get(name, ()) if isinstance(value, UploadFile)]

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Form({self._values})"


# ---- what clients send --------------------------------------------------------------------------


def urlencoded(data: bytes, charset: str) -> Form:
    """The form of a body of the type application/x-www-form-urlencoded. Raises BadRequest."""
    from urllib.parse import parse_qsl  # it takes long to import

    if len(data) > LONGEST_URLENCODED:
        raise BadRequest(f"a form without files may have at most {LONGEST_URLENCODED} bytes", 413)
    try:
        text = data.decode("ascii")
        if text.count("&") >= _MOST_FIELDS:
            raise BadRequest(f"a form may have at most {_MOST_FIELDS} fields", 413)
        pairs = parse_qsl(text, True, False, charset, "strict")
    except BadRequest:
        raise
    except ValueError as error:
        why = f"it is not {charset}" if isinstance(error, UnicodeError) else str(error)
        raise BadRequest(f"the form is malformed: {why}") from error
    return Form(pairs)


class Multipart:
    """Makes a form of a body of the type multipart/form-data (RFC 7578), as it arrives.

    It is used in a `with` block. If that ends with an exception, the files are closed.
    """

    def __init__(self, boundary: str) -> None:
        """
        Args:
            boundary: The parameter of the Content-Type.

        Raises:
            BadRequest: It is no boundary.
            RuntimeError: python-multipart is not installed.
        """
        if not 0 < len(boundary) <= _LONGEST_BOUNDARY:
            raise BadRequest("the Content-Type of the form has no valid boundary")
        try:
            from python_multipart.multipart import MultipartParser
        except ImportError:
            raise RuntimeError(
                "forms with files need python-multipart: pip install 'pyws-server[forms]'"
            ) from None
        self._pairs: list[tuple[str, str | UploadFile]] = []
        self._parser: Any = MultipartParser(
            boundary.encode("utf-8"),
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_name,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._begin_content,
                "on_part_data": self._content,
                "on_part_end": self._end,
                "on_end": self._end_all,
            },
        )
        self._parser.logger = _no_logger
        self._fields = 0
        self._uploads: list[UploadFile] = []
        self._text_size = self._file_size = 0  # bytes in memory
        self._is_complete = False

    def add(self, data: bytes) -> None:
        """A piece has arrived; what follows the last part is ignored.

        Raises:
            BadRequest: The form is malformed or too large.
            OSError: A file cannot be written to disk.
        """
        if self._is_complete:
            return
        try:
            self._parser.write(data)
        except BadRequest:
            raise
        except ValueError as error:  # the exceptions of python-multipart are such
            raise BadRequest(f"the form is malformed: {error}") from error

    def finish(self) -> Form:
        """The body is complete. Raises BadRequest."""
        if not self._is_complete:
            raise BadRequest("the form is malformed: its last part does not end")
        return Form(self._pairs)

    def __enter__(self) -> Multipart:
        return self

    def __exit__(self, error: object, *more: object) -> None:
        self._parser = None  # it refers to this object
        if error is not None:
            for upload in self._uploads:
                upload.close()

    # What the parser calls.

    def _begin(self) -> None:
        self._head: dict[str, str] = {}
        self._head_size = 0
        self._header = self._value = b""
        self._text: bytearray | None = None
        self._upload: UploadFile | None = None

    def _header_name(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]
        self._count_head(end - start)

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]
        self._count_head(end - start)

    def _count_head(self, size: int) -> None:
        self._head_size += size
        if self._head_size > _LONGEST_HEAD:
            raise BadRequest("the header fields of a part of the form are too long")

    def _header_end(self) -> None:
        self._head[header_text(self._header).lower()] = header_text(self._value)
        self._header = self._value = b""

    def _begin_content(self) -> None:
        kind, parameters = with_parameters(self._head.get("content-disposition"))
        if kind != "form-data" or "name" not in parameters:
            raise BadRequest("the form is malformed: a part has no name")
        self._name = _unescaped(parameters["name"])
        if "filename" not in parameters:
            self._fields += 1
            self._text = bytearray()
        else:
            filename = _unescaped(parameters["filename"])
            self._upload = UploadFile(filename, self._head.get("content-type", ""))
            self._uploads.append(self._upload)
        if self._fields > _MOST_FIELDS or len(self._uploads) > _MOST_FILES:
            what = f"{_MOST_FIELDS} fields and {_MOST_FILES} files"
            raise BadRequest(f"a form may have at most {what}", 413)

    def _content(self, data: bytes, start: int, end: int) -> None:
        if self._text is not None:
            self._text_size += end - start
            if self._text_size > _IN_MEMORY:
                raise BadRequest(f"the fields of a form may have at most {_IN_MEMORY} bytes", 413)
            self._text += data[start:end]
        elif self._upload is not None:
            self._add_to_file(self._upload, data[start:end])

    def _add_to_file(self, upload: UploadFile, data: bytes) -> None:
        if isinstance(upload.file, io.BytesIO):
            self._file_size += len(data)
            if self._file_size > _IN_MEMORY:
                import tempfile  # it takes long to import

                short, upload.file = upload.file, tempfile.TemporaryFile()
                upload.file.write(short.getvalue())
                self._file_size -= upload.size + len(data)
        upload.file.write(data)
        upload.size += len(data)

    def _end(self) -> None:
        if self._upload is not None:
            upload, self._upload = self._upload, None
            upload.file.seek(0)
            # Browsers send this for a file that was not chosen.
            if upload.filename or upload.size:
                self._pairs.append((self._name, upload))
        elif self._text is not None:
            text, self._text = self._text, None
            try:
                self._pairs.append((self._name, text.decode()))
            except UnicodeDecodeError:
                raise BadRequest("the form is malformed: a field is not UTF-8") from None

    def _end_all(self) -> None:
        self._is_complete = True


def _unescaped(name: str) -> str:
    """A name as it was before a browser escaped it (HTML, "multipart/form-data")."""
    return name.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")
