# SPDX-License-Identifier: MIT
"""What a client asked for, as text: header fields, the parts of a path, the query."""

from __future__ import annotations

import re
from typing import Any, Dict, Iterator, List, Mapping, Optional, TypeVar, Union, overload

__all__ = [
    "Latin1",
    "Parameters",
    "Query",
    "header_text",
    "list_elements",
    "path_parameters",
    "with_parameters",
]

T = TypeVar("T")

# ---- header fields ------------------------------------------------------------------------------


class Latin1(str):
    """A header value that is not UTF-8; sent in a response, it becomes the same bytes again."""

    __slots__ = ()

    def __reduce__(self) -> Any:
        return str, (str(self),)


def header_text(data: bytes) -> str:
    """Decode bytes of a request head: UTF-8, else ISO-8859-1, where each byte is a character."""
    try:
        return data.decode()
    except UnicodeDecodeError:
        return Latin1(data, "latin-1")


def list_elements(value: str | None) -> list[str]:
    """The elements of a comma-separated list of tokens (RFC 9110 section 5.6.1)."""
    return [item.strip(" \t") for item in (value or "").split(",") if item.strip(" \t")]


# Blanks belong to one place only, so that the time is linear.
_PARAMETER = re.compile(r';[ \t]*(?:([^\s;=]+)[ \t]*)?=[ \t]*("(?:[^"\\]|\\.)*"|[^;]*)')


def with_parameters(value: str | None) -> tuple[str, dict[str, str]]:
    """A value that parameters follow, like that of Content-Type (RFC 9110 section 5.6.6).

    Returns:
        The value in lower case, and the parameters by their names in lower case; the first of a
        name counts.
    """
    main, _, _ = (value or "").partition(";")
    parameters: dict[str, str] = {}
    for match in _PARAMETER.finditer((value or "")[len(main) :]):
        text = match[2].strip()
        if len(text) > 1 and text[0] == '"':
            # Browsers write a backslash in the name of a file as it is.
            text = text[1:-1].replace("\\\\", "\\").replace('\\"', '"')
        parameters.setdefault((match[1] or "").lower(), text)
    return main.strip().lower(), parameters


# ---- targets ------------------------------------------------------------------------------------


class Parameters(Mapping[str, str]):
    """What matched each ":name" and "*" of a pattern, percent-decoded.

    ``parameters["room"]`` and ``parameters[0]`` are the same for the pattern "/chat/:room"; the
    name of a "*" is "*". This is a mapping from names, in the order of the pattern, so that
    ``dict(parameters)`` works; `get` returns None for what the pattern does not have. Bytes that
    are not UTF-8 become U+FFFD.
    """

    __slots__ = ("_items",)

    def __init__(self, items: Dict[str, str]) -> None:
        self._items = items

    def __getitem__(self, which: Union[int, str]) -> str:
        """
        Args:
            which: The name of a ":name", or the index of a ":name" or "*", from 0.

        Raises:
            KeyError, IndexError: The pattern has no such part.
        """
        found: str | None = self.get(which)
        if found is None:
            error = IndexError if isinstance(which, int) else KeyError
            names = ", ".join(map(repr, self._items)) or "none"
            raise error(f"there is no parameter {which!r}, the pattern has {names}")
        return found

    @overload
    def get(self, which: Union[int, str]) -> Optional[str]: ...
    @overload
    def get(self, which: Union[int, str], default: T) -> Union[str, T]: ...
    def get(self, which: Union[int, str], default: Any = None) -> Any:
        """The same as ``parameters[which]``; `default` if the pattern has no such part."""
        if isinstance(which, int):
            return [*self._items.values()][which] if 0 <= which < len(self) else default
        return self._items.get(which, default)

    def __iter__(self) -> Iterator[str]:
        return iter(self._items)

    def __len__(self) -> int:
        return len(self._items)

    def __repr__(self) -> str:
        return f"Parameters({self._items})"


def path_parameters(pattern: str, path: str) -> Parameters:
    """What the parts of a pattern match in a path, which the library has found to match."""
    names = ("/*" if pattern == "*" else pattern).split("/")
    parts = path.split("/", len(names) - 1)
    items = {}
    for name, part in zip(names, parts):
        if name == "*" or name[:1] == ":":
            from urllib.parse import unquote  # it takes long to import

            items[name if name == "*" else name[1:]] = unquote(part)
    return Parameters(items)


class Query(Mapping[str, str]):
    """The query of a URL: its keys with their first values, percent-decoded.

    ``query["token"]`` is the first value of the key, ``query.get_all("token")`` all of them; `get`
    returns None for a key that the query does not have. This is a mapping from keys, in the order
    received. Bytes that are not UTF-8 become U+FFFD.
    """

    __slots__ = ("_values",)

    def __init__(self, text: str) -> None:
        """
        Args:
            text: What follows the "?", as it was sent.
        """
        from urllib.parse import parse_qs  # it takes long to import

        self._values = parse_qs(text, keep_blank_values=True) if text else {}

    def __getitem__(self, key: str) -> str:
        """
        Raises:
            KeyError: The query has no such key.
        """
        return self._values[key][0]

    def get_all(self, key: str) -> List[str]:
        """All values of a key, in the order received; none without it."""
        return list(self._values.get(key, ()))

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def __repr__(self) -> str:
        return f"Query({self._values})"
