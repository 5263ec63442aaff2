# SPDX-License-Identifier: MIT
"""Descriptors of a server: what its epoll set watches, and how a forked child drops them."""

from __future__ import annotations

import os

__all__ = ["let_go", "watched"]


def watched(epoll_fd: int) -> list[int]:
    """The descriptors in an epoll set; an empty list without /proc."""
    try:
        with open(f"/proc/self/fdinfo/{epoll_fd}") as file:
            return [int(line.split()[1]) for line in file if line.startswith("tfd:")]
    except OSError:
        return []


def is_open(fd: int) -> bool:
    """Whether this process has such a descriptor."""
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


def let_go(descriptors: list[int], keep_numbers: bool) -> None:
    """Close descriptors in this process; other processes that share the files notice nothing.

    Those that are not open are left out: the parent of a fork, which shares its epoll set with the
    child, may have added some since.

    Args:
        descriptors: What to close.
        keep_numbers: Something may still use them: make them refer to /dev/null, so that no file
            that is opened later gets one of their numbers.
    """
    descriptors = [fd for fd in descriptors if is_open(fd)]
    if not keep_numbers:
        for fd in descriptors:
            os.close(fd)
        return
    null = os.open(os.devnull, os.O_RDWR)
    for fd in descriptors:
        os.dup2(null, fd, inheritable=False)
    os.close(null)
