"""Header fields as text."""

from __future__ import annotations

from typing import Any

__all__ = ["Latin1", "header_text", "list_elements"]


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
