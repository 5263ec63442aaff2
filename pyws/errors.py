"""The error codes of the C library and the Python exceptions that they become."""

from __future__ import annotations

import os
from enum import IntEnum
from typing import Any

__all__ = ["ConnectionClosed", "ErrorCode", "exception_for"]


class ConnectionClosed(Exception):
    """`WebSocket.recv` was called, and the connection has closed.

    Attributes:
        close_info: How the connection ended: a `CloseInfo`.
    """

    def __init__(self, close_info: Any) -> None:
        super().__init__(close_info)
        self.close_info = close_info

    def __str__(self) -> str:
        return f"the connection has closed: {self.close_info}"


class ErrorCode(IntEnum):
    """Negative results of the C library (``WS_ERROR_MAP`` of ws.h)."""

    ENOMEM = -1
    EINVAL = -2
    EBUSY = -3
    ECLOSED = -4
    EORDER = -5
    EEXIST = -6
    EABI = -7
    ESTOPPED = -8
    ESYSTEM = -9
    ENOTSUP = -10
    ELIMIT = -11
    EFORKED = -12


_EXCEPTIONS: dict[int, type[Exception]] = {
    ErrorCode.ENOMEM: MemoryError,
    ErrorCode.EINVAL: ValueError,
    ErrorCode.EEXIST: ValueError,
    ErrorCode.EABI: ImportError,
}


def exception_for(code: int, text: str, errno: int = 0) -> Exception:
    """The exception for a negative result.

    Args:
        code: The result, an ErrorCode.
        text: What it means (ws_strerror).
        errno: Why a system call failed, for ESYSTEM.
    """
    if code == ErrorCode.ESYSTEM:
        return OSError(errno, os.strerror(errno) if errno else text)
    return _EXCEPTIONS.get(code, RuntimeError)(text)
