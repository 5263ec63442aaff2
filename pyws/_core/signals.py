# SPDX-License-Identifier: MIT
"""SIGINT and SIGTERM while an app runs in the main thread."""

from __future__ import annotations

import os
import signal
import socket
import time
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from .._native import lib
from .runtime import Runtime

if TYPE_CHECKING:  # it takes long to import
    from asyncio import AbstractEventLoop

__all__ = ["Signals", "watching"]


_DRAIN, _SHUT_DOWN, _DROP = 1, 2, 3  # what signals ask for


class Signals:
    """SIGINT and SIGTERM during `run` in the main thread; in other threads it does nothing.

    A signal writes to a socket that the loop watches, so that ws_server_run returns and Python
    runs the handlers. They only take notes (C would lose an exception that is raised in the midst
    of pyws); `act` does the work. An asyncio loop watches the socket itself, and calls `act`. It
    may have a wakeup descriptor of its own, for its signal handlers: that one still receives the
    numbers of all signals.
    """

    def __init__(self, runtime: Runtime, loop: AbstractEventLoop | None = None) -> None:
        """
        Args:
            runtime: What a signal shuts down.
            loop: The loop that runs it; None if that is the library's own.
        """
        self._runtime = runtime
        self._loop = loop
        self.noted = self._acted = 0  # _DRAIN, _SHUT_DOWN or _DROP
        self._drain = 0.0  # seconds of a drain that is to begin
        self._drain_ends = 0.0
        self._old: dict[int, Any] = {}
        self._pair: tuple[socket.socket, socket.socket]
        self._old_fd = -1

    def __enter__(self) -> Signals:
        self._pair = socket.socketpair()
        for end in self._pair:
            end.setblocking(False)
        if self._wake_up_by(self._pair[1].fileno()):
            self._watch(self._pair[0])
            # Ctrl-C in a terminal reaches all processes: workers do what their parent says.
            for_int = _ignore if self._runtime.worker else self.note
            self._old[signal.SIGINT] = signal.signal(signal.SIGINT, for_int)
            self._old[signal.SIGTERM] = signal.signal(signal.SIGTERM, self.note)
            watching.append(self)
        mask, self._runtime.signal_mask = self._runtime.signal_mask, None
        if mask is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        return self

    def __exit__(self, *error: Any) -> None:
        if self in watching:
            self._unwatch(self._pair[0])
        self.restore()
        for end in self._pair:
            end.close()

    def forget(self) -> list[int]:
        """This is a forked child: leave the sockets to the parent, and return their descriptors."""
        with suppress(ValueError):  # PyPy: not by a child of another thread than the main one
            self.restore()
        return [end.fileno() for end in self._pair]

    def restore(self) -> None:
        """Restore the previous handlers, or leave that to a later `Signals` that still runs."""
        if self not in watching:
            return
        later = watching[watching.index(self) + 1 :]
        watching.remove(self)
        if later:
            later[0]._inherit(self)
            return
        for number, old in self._old.items():
            if old is not None:  # None: it was not installed from Python
                signal.signal(number, old)
        current = signal.set_wakeup_fd(self._old_fd)
        if current != self._pair[1].fileno():
            signal.set_wakeup_fd(current)  # add_signal_handler of asyncio has set it meanwhile

    def _inherit(self, earlier: Signals) -> None:
        """Take over what an earlier `Signals`, which ended before this one, would have restored."""
        for number, old in earlier._old.items():
            if self._old[number] in (earlier.note, _ignore):
                self._old[number] = old
        if self._old_fd == earlier._pair[1].fileno():
            self._old_fd = earlier._old_fd

    def _wake_up_by(self, fd: int) -> bool:
        """Let the interpreter write the numbers of signals to `fd`; False outside the main thread.

        The threading module may be speaking of a greenlet, with eventlet for example.
        """
        try:
            self._old_fd = signal.set_wakeup_fd(fd, warn_on_full_buffer=False)
        except ValueError:
            return False
        return True

    def _watch(self, wakes: socket.socket) -> None:
        if self._loop is None:
            lib.ws_server_set_interrupt_fd(self._runtime.server, wakes.fileno())
        else:
            self._loop.add_reader(wakes.fileno(), self._woken, wakes)

    def _unwatch(self, wakes: socket.socket) -> None:
        if self._loop is None:
            lib.ws_server_set_interrupt_fd(self._runtime.server, -1)
        else:
            self._loop.remove_reader(wakes.fileno())

    def _woken(self, wakes: socket.socket) -> None:
        """The loop calls this after a signal, so that Python runs the signal handler, `note`.

        It must be a Python function: uvloop would call a builtin without executing any bytecode, so
        no signal handler would run.
        """
        numbers = wakes.recv(4096)
        if self._old_fd >= 0:
            with suppress(OSError):  # full or closed, which the interpreter ignores as well
                os.write(self._old_fd, numbers)

    def note(self, number: int, frame: FrameType | None) -> None:
        """The signal handler: it is for this app, and for the others of the same asyncio loop."""
        stuck = self._note(number)
        for other in watching:
            if other is not self and other._loop is self._loop and self._loop is not None:
                stuck |= other._note(number)
        if stuck and frame is not None and not _is_ours(frame):
            raise KeyboardInterrupt

    def _note(self, number: int) -> bool:
        """Take note; returns whether to interrupt what keeps the loop from acting."""
        before, seconds = self.noted, self._runtime.options.drain_on_signal
        if not before and seconds:
            self._drain, self.noted = seconds, _DRAIN
        elif before and number == signal.SIGINT and not self._is_draining():
            self.noted = _DROP
        elif not (seconds and self._runtime.worker and number == signal.SIGTERM):
            self.noted = max(before, _SHUT_DOWN)
        # else the signal was for all processes of a service: the parent says when the drain ends.

        # A handler that keeps the loop from acting is interrupted at once; a close handler of the
        # shutdown itself only by a third SIGINT.
        again = before > 0 and number == signal.SIGINT
        stuck = again and (self._acted == 0 or before == _DROP)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.act)
        return stuck

    def _is_draining(self) -> bool:
        """Whether the clients may still finish because of a signal."""
        return self.noted == self._acted == _DRAIN and time.monotonic() < self._drain_ends

    def note_drain(self, seconds: float) -> None:
        """The parent of this worker wants it to drain; called by a signal handler."""
        self._drain, self.noted = seconds, max(self.noted, _DRAIN)
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self.act)

    def note_end(self) -> None:
        """The parent of this worker is gone, or says that a drain is over; called likewise.

        Only where SIGTERM means a drain, and so cannot say that.
        """
        if self._runtime.options.drain_on_signal:
            self.noted = max(self.noted, _SHUT_DOWN)
            if self._loop is not None:
                self._loop.call_soon_threadsafe(self.act)

    def act(self) -> None:
        """Do what the signals since the last call ask for."""
        if self._drain and self.noted == _DRAIN:
            seconds, self._drain = self._drain, 0.0
            self._acted = _DRAIN
            self._drain_ends = time.monotonic() + seconds
            self._runtime.go_away(drain=seconds)
        while self._acted < self.noted:
            self._acted = self.noted
            if self._acted == _SHUT_DOWN:
                self._runtime.go_away()
            else:
                self._runtime.stash(KeyboardInterrupt())
                self._runtime.go_away(0)


watching: list[Signals] = []  # the innermost last


def _ignore(number: int, frame: FrameType | None) -> None:
    """Ignore a signal; unlike SIG_IGN, this does not survive an exec."""


def _is_ours(frame: FrameType) -> bool:
    module = str(frame.f_globals.get("__name__", ""))
    return module.split(".")[0] in ("pyws", "asyncio", "selectors")
