# SPDX-License-Identifier: MIT
"""What an app runs besides its handlers: calls that were deferred or delayed, other descriptors."""

from __future__ import annotations

import errno
import math
from typing import Any, Callable, Tuple

from . import values
from .hints import FileDescriptor
from .runtime import Runtime
from .timers import Timer
from .watches import READABLE, WRITABLE

__all__ = ["Work"]


class Work:
    """The methods of `App` for that."""

    _runtime: Runtime

    def call_later(self, seconds: float, fn: Callable[..., object], *args: Any) -> Timer:
        """Run ``fn(*args)`` once, after a time, in the thread of `run`.

        It runs in a copy of the contextvars.Context of this call. Calls that are due at the same
        time run in the order in which they were made. What is not due when `run` returns never
        runs; what is delayed afterwards belongs to the next `run`. An exception is reported like
        that of a handler.

        Args:
            seconds: The time, at least 0.
            fn: A plain function.
            args: Its arguments.

        Returns:
            The call; its ``cancel()`` prevents it.

        Raises:
            TypeError, ValueError: An argument is wrong.
            RuntimeError: Called from another thread.
        """
        delay = values.duration("seconds", seconds)
        values.function("fn", fn)
        self._runtime.leave_closed_loop()
        self._runtime.check_server()
        return self._runtime.timers.add(math.ceil(delay * 1_000_000_000), fn, args)

    def defer(self, fn: Callable[..., object], *args: Any) -> None:
        """Run ``fn(*args)`` in the thread of `run`, soon; may be called from any thread.

        Calls run in the order in which they were made, each in a copy of the contextvars.Context of
        its call, as with asyncio. What is accepted runs before `run` returns.

        Args:
            fn: A plain function.
            args: Its arguments.

        Raises:
            TypeError: `fn` is not a plain function.
            RuntimeError: `run` has returned.
        """
        values.function("fn", fn)
        self._runtime.defer(fn, *args)

    # ---- other descriptors ----------------------------------------------------------------------

    def add_reader(self, fd: FileDescriptor, fn: Callable[..., object], *args: Any) -> None:
        """Run ``fn(*args)`` in the thread of `run` whenever a descriptor is readable.

        It runs again in each turn of the loop until everything has been read, and also when the
        other side has hung up, so that the end of file is found. It runs in a copy of the
        contextvars.Context of this call. An exception is reported like that of a handler; when
        the function has failed ten times in a row, as it does if it does not read what there is,
        further reports follow after 1, 2, 4 ... 60 seconds.

        A second reader of the same descriptor replaces the first. A reader is removed by
        `remove_reader`, best before its descriptor is closed, or when `run` returns. With workers,
        each of them has the readers that were added before `run`.

        Args:
            fd: A socket, a pipe, a terminal ..., or its number. It should not block. Files and
                folders are always ready and cannot be watched.
            fn: A plain function.
            args: Its arguments.

        Raises:
            TypeError, ValueError: An argument is wrong.
            OSError: The descriptor cannot be watched; `errno` says why.
            RuntimeError: Called from another thread.
        """
        self._watch(fd, READABLE, fn, args)

    def add_writer(self, fd: FileDescriptor, fn: Callable[..., object], *args: Any) -> None:
        """Run ``fn(*args)`` in the thread of `run` whenever a descriptor is writable.

        As it is writable most of the time, remove the writer when there is nothing left to write.

        Args:
            fd, fn, args: As for `add_reader`.

        Raises:
            TypeError, ValueError, OSError, RuntimeError: As for `add_reader`.
        """
        self._watch(fd, WRITABLE, fn, args)

    def _watch(self, fd: Any, event: int, fn: Callable[..., Any], args: Tuple[Any, ...]) -> None:
        number = values.descriptor("fd", fd)
        values.function("fn", fn)
        runtime = self._runtime
        runtime.leave_closed_loop()
        runtime.check_server()
        try:
            runtime.watches.add(number, event, fn, args)
        except OSError as error:
            why = _NOT_WATCHED.get(error.errno or 0, error.strerror)
            raise OSError(error.errno, f"cannot watch descriptor {number}: {why}") from None

    def remove_reader(self, fd: FileDescriptor) -> bool:
        """Remove the reader of a descriptor.

        Args:
            fd: As for `add_reader`.

        Returns:
            Whether there was one.

        Raises:
            TypeError, ValueError: It is no descriptor, or an object that is closed: remove the
                reader before, or by number.
            RuntimeError: Called from another thread.
        """
        return self._unwatch(fd, READABLE)

    def remove_writer(self, fd: FileDescriptor) -> bool:
        """Remove the writer of a descriptor.

        Args:
            fd: As for `add_reader`.

        Returns:
            Whether there was one.

        Raises:
            TypeError, ValueError, RuntimeError: As for `remove_reader`.
        """
        return self._unwatch(fd, WRITABLE)

    def _unwatch(self, fd: Any, event: int) -> bool:
        number = values.descriptor("fd", fd)
        self._runtime.check_server()
        return self._runtime.watches.remove(number, event)


_NOT_WATCHED = {
    errno.EBADF: "it is not open",
    errno.EPERM: "files and folders are always ready, and cannot be watched",
    errno.EEXIST: "the server watches it itself",
}
