# SPDX-License-Identifier: MIT
"""What os.fork does to apps: in the child, everything belongs to the parent."""

from __future__ import annotations

import os
import signal

from .calls import thread_ident
from .descriptors import let_go
from .requests import abort_all
from .runtime import runtimes
from .signals import watching

__all__ = ["register"]

_masks: dict[int, set[int]] = {}  # thread -> its signal mask, while it forks


def _before_fork() -> None:
    """Block signals until the child has restored the handlers from before `run`."""
    if watching:
        wait = (signal.SIGINT, signal.SIGTERM)
        _masks[thread_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, wait)


def _after_fork() -> None:
    mask = _masks.pop(thread_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    """Leave all servers to the parent; the child handles its own signals.

    The peers see nothing of it, and nothing leaves the epoll sets, because the parent shares them.
    A child that continues must not read what wakes the parent, either.
    """
    wakes = [fd for signals in watching[::-1] for fd in signals.forget()]
    _after_fork()
    for runtime in list(runtimes.values()):
        runtime.abandon()
    abort_all()
    if wakes:
        let_go(wakes, True)


def register() -> None:
    """Do this at every fork from now on."""
    os.register_at_fork(
        before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
    )
