# SPDX-License-Identifier: MIT
"""How a connection ended: what `WebSocket.close_info` tells."""

from __future__ import annotations

from typing import NamedTuple, Optional

__all__ = ["CloseFrame", "CloseInfo"]


class CloseFrame(NamedTuple):
    """What a Close frame said (RFC 6455 section 5.5.1)."""

    code: Optional[int]
    """None if the frame had no code."""
    reason: str


class CloseInfo:
    """How a connection ended, seen from both sides (`WebSocket.close_info`)."""

    __slots__ = ("clean", "local", "received", "sent")

    sent: Optional[CloseFrame]
    """The Close frame of this side; None if none was sent."""
    received: Optional[CloseFrame]
    """The Close frame of the client; None if none came, or not yet."""
    clean: Optional[bool]
    """Whether the closing handshake is complete (RFC 6455 section 7.1.4); None until then."""
    local: bool
    """Whether this side began: by `end`, `close`, a timeout, or because the client broke a rule or
    exceeded a limit."""

    def __init__(self, code: int, reason: str, local: bool) -> None:
        """
        Args:
            code, reason: What the close handler gets.
            local: Whether this side began.
        """
        frame = None if code == _BROKEN else CloseFrame(_frame_code(code), reason)
        self.local = local
        self.received = None if local else frame
        # A Close is answered with its code alone (RFC 6455 section 5.5.1).
        self.sent = frame if local or frame is None else CloseFrame(frame.code, "")
        # After a Close of the client, or without any, there is nothing to wait for.
        self.clean = None if local and frame is not None else frame is not None

    def complete(self, clean: bool, code: int, reason: str) -> None:
        """The closing handshake is over; `code` and `reason` are the client's if it was clean."""
        self.clean = clean
        if clean:
            self.received = CloseFrame(_frame_code(code), reason)

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={getattr(self, name)!r}" for name in _INFO_FIELDS)
        return f"CloseInfo({fields})"


_INFO_FIELDS = ("sent", "received", "clean", "local")
_NO_CODE, _BROKEN = 1005, 1006  # mean what no frame can say (RFC 6455 section 7.4.1)


def _frame_code(code: int) -> int | None:
    return None if code == _NO_CODE else code
