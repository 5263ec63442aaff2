"""What os.fork does to an App: in the child everything belongs to the parent."""

from __future__ import annotations

import os
import signal

from . import callbacks
from .calls import thread_ident
from .signals import watching

__all__ = ["FORKED", "let_go", "watched"]

FORKED = "this app belongs to the process that made it: a forked child needs an App of its own"


def watched(epoll_fd: int) -> list[int]:
    """The descriptors in an epoll set; none without /proc."""
    try:
        with open(f"/proc/self/fdinfo/{epoll_fd}") as file:
            return [int(line.split()[1]) for line in file if line.startswith("tfd:")]
    except OSError:
        return []


def let_go(descriptors: list[int], keep_numbers: bool) -> None:
    """Close them here; whoever shares them notices nothing.

    keep_numbers: something may still use them, and must not hit upon a file opened since.
    """
    if not keep_numbers:
        for fd in descriptors:
            os.close(fd)
        return
    null = os.open(os.devnull, os.O_RDWR)
    for fd in descriptors:
        os.dup2(null, fd, inheritable=False)
    os.close(null)


_masks: dict[int, set[int]] = {}  # thread -> its signal mask, while it forks


def _before_fork() -> None:
    """A signal for the child must wait until it does there what it did before `run`."""
    if watching:
        wait = (signal.SIGINT, signal.SIGTERM)
        _masks[thread_ident()] = signal.pthread_sigmask(signal.SIG_BLOCK, wait)


def _after_fork() -> None:
    mask = _masks.pop(thread_ident(), None)
    if mask is not None:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)


def _after_fork_in_child() -> None:
    """Its signals are its own, all servers stay with the parent.

    Nothing is said to the peers, and nothing is taken out of the parent's epoll sets: that would
    be seen there. What wakes the parent up must not be read by a child that goes on, either.
    """
    wakes = [fd for signals in watching[::-1] for fd in signals.forget()]
    _after_fork()
    for app in list(callbacks.apps.values()):
        app._abandon()
    for response in callbacks.responses.values():
        response._aborted = True
    if wakes:
        let_go(wakes, True)


os.register_at_fork(
    before=_before_fork, after_in_parent=_after_fork, after_in_child=_after_fork_in_child
)
