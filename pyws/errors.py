# SPDX-License-Identifier: MIT
"""The error codes of the C library and the Python exceptions that they become."""

from __future__ import annotations

import os
from enum import IntEnum
from typing import Any, Optional

__all__ = ["BadRequest", "ClientDisconnect", "ConnectionClosed", "ErrorCode", "exception_for"]


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


class BadRequest(ValueError):
    """A request is wrong: what `Request.json` and the like raise, and handlers may raise, too.

    If the handler of the request does not catch it, the client gets `status` with the message in
    one line of text. That is no failure of the handler: it is not logged, except at level DEBUG,
    and not reported to the error handler.

    Attributes:
        status: The status of the answer, 400 to 499.
    """

    def __init__(self, message: str = "", status: int = 400) -> None:
        """
        Args:
            message: What is wrong. The client gets it.
            status: See above.

        Raises:
            ValueError: The status is none of those.
        """
        if not isinstance(status, int) or not 400 <= status <= 499:
            raise ValueError(f"status must be from 400 to 499, not {status!r}")
        super().__init__(message)
        self.status = status


class ClientDisconnect(Exception):
    """The rest of a body will not arrive: the client has left, or was refused with 413 or 408.

    A handler that does not catch it ends without a report, as there is nothing left to answer.

    Attributes:
        status: The status of the answer that the client got from pyws: 413 for a body that is too
            long, 408 for one that came too slowly, 400 for one that is malformed, 503 if the
            handler took too long; None if the client has left.
    """

    def __init__(self, status: Optional[int] = None) -> None:
        """
        Args:
            status: See above.
        """
        why = "" if status is None else f": the client got a {status}"
        super().__init__("the request ended before its body was complete" + why)
        self.status = status


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
