# SPDX-License-Identifier: MIT
"""What systemd passes to a service: sockets, and where to report, without libsystemd.

The rules are those of sd_listen_fds(3), sd_notify(3) and sd_watchdog_enabled(3).
"""

from __future__ import annotations

import os

__all__ = ["notify", "passed_sockets", "watchdog_seconds"]

_FIRST = 3  # SD_LISTEN_FDS_START


def passed_sockets() -> list[int]:
    """The descriptors of the sockets that this process is to listen on; usually none.

    Raises:
        ValueError: LISTEN_FDS is not a number.
    """
    if not _is_mine("LISTEN_PID"):  # the variables may have been inherited
        return []
    return list(range(_FIRST, _FIRST + _number("LISTEN_FDS")))


def notify(report: str) -> None:
    """Report "READY=1", "STOPPING=1" or "WATCHDOG=1" to systemd, if it wants that.

    Raises:
        OSError: The report cannot be sent.
    """
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    import socket  # it takes long to import

    if address.startswith("@"):  # an abstract address
        address = "\0" + address[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
        sender.sendto(report.encode(), address)


def watchdog_seconds() -> float:
    """Within how many seconds systemd wants the next "WATCHDOG=1"; 0 if it does not want any.

    Raises:
        ValueError: WATCHDOG_USEC is not a number.
    """
    if "WATCHDOG_PID" in os.environ and not _is_mine("WATCHDOG_PID"):
        return 0
    return _number("WATCHDOG_USEC") / 1_000_000


def _is_mine(name: str) -> bool:
    return os.environ.get(name) == str(os.getpid())


def _number(name: str) -> int:
    """The number in a variable of the environment, 0 without it. Raises ValueError."""
    text = os.environ.get(name) or "0"
    if not text.isdecimal() or len(text) > 18:
        raise ValueError(f"{name} must be a number, not {text!r}")
    return int(text)
