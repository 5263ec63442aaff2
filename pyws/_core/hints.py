# SPDX-License-Identifier: MIT
"""What annotations need of `typing`, in every version of Python.

Type checkers know `typing_extensions` without its being installed; a program never imports it.
"""

from __future__ import annotations

import os
import sys
from typing import (
    TYPE_CHECKING,
    Any,
    Callable,
    Iterator,
    List,
    Literal,
    Mapping,
    Optional,
    Protocol,
    Tuple,
    TypedDict,
    Union,
)

from ..enums import OpCode

__all__ = [
    "AnyOpCode",
    "CookieOptionsDict",
    "FileDescriptor",
    "HeaderValue",
    "Items",
    "Message",
    "StrPath",
    "Task",
    "TlsContexts",
    "Unpack",
    "UserData",
    "dataclass_transform",
]

if TYPE_CHECKING:
    import asyncio
    from datetime import datetime
    from ssl import SSLContext

    from typing_extensions import TypeVar, Unpack, dataclass_transform

    UserData = TypeVar("UserData", default=Any)
    StrPath = Union[str, os.PathLike[str]]
    Task = asyncio.Task[Any]
else:
    from typing import TypeVar

    datetime = SSLContext = Task = Any  # the modules take long to import

    if sys.version_info >= (3, 11):
        from typing import Unpack
    else:

        class Unpack:
            """``**options: Unpack[Keys]`` are the keys of a TypedDict as keywords."""

            def __class_getitem__(cls, keys: Any) -> Any:
                return keys

    def dataclass_transform(**_: object) -> Callable[[Any], Any]:
        """The real decorator is for type checkers alone."""
        return lambda function: function

    UserData = TypeVar("UserData")
    StrPath = Union[str, os.PathLike]

Message = Union[
    str, bytes, bytearray, memoryview, Mapping[Any, Any], List[Any], Tuple[Any, ...], float
]
"""What `send` takes; all but the first four become JSON."""

AnyOpCode = Union[OpCode, Literal[0, 1, 2, 9, 10]]
"""An OpCode, or its number."""

HeaderValue = Union[str, bytes, int]
"""The value of a header field of a response."""


SomeTlsContexts = Union[SSLContext, Mapping[str, SSLContext]]
TlsContexts = Union[SomeTlsContexts, Callable[[], SomeTlsContexts]]
"""TLS contexts: one, several by server name, or a function that returns them."""


class HasFileno(Protocol):
    """A socket, a file, a pipe."""

    def fileno(self) -> int: ...


FileDescriptor = Union[int, HasFileno]
"""The number of a descriptor, or an object that has one."""


class CookieOptionsDict(TypedDict, total=False):
    """The attributes of `Response.set_cookie`."""

    path: Optional[str]
    domain: Optional[str]
    max_age: Optional[int]
    expires: Union[datetime, str, None]
    secure: bool
    http_only: bool
    same_site: Optional[Literal["Strict", "Lax", "None"]]


Item = TypeVar("Item", covariant=True)


class Items(Protocol[Item]):
    """A list, a tuple or a set, but no str: that would be a list of letters."""

    def __contains__(self, item: object, /) -> bool: ...

    def __iter__(self) -> Iterator[Item]: ...
