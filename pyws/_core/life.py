# SPDX-License-Identifier: MIT
"""Functions of the program that run before the first connection and after the last one."""

from __future__ import annotations

from contextvars import copy_context
from typing import Any, Callable

from . import mistakes
from .contexts import run_in
from .logs import server_logger
from .runtime import Runtime
from .values import Handler, is_coroutine_handler, type_name

__all__ = ["Life"]


class Life:
    """The start and stop functions of one app.

    They run in the context that those of sockets and requests are copied from.

    Attributes:
        failure: What a start function has raised in this run, or None.
    """

    def __init__(self, runtime: Runtime) -> None:
        self.failure: BaseException | None = None
        self._runtime = runtime
        self._start: list[Handler] = []
        self._stop: list[Handler] = []

    def add_start(self, fn: Any) -> bool:
        """Add a start function; returns whether it is a coroutine function.

        Raises:
            TypeError: It is no function without arguments.
            RuntimeError: The app runs already, or called from another thread.
        """
        is_coroutine = self._check("on_start", fn)
        if self._runtime.is_busy:
            raise RuntimeError("the app is running already: on_start functions are added before")
        self._start.append(fn)
        return is_coroutine

    def add_stop(self, fn: Any) -> bool:
        """Add a stop function; otherwise as `add_start`, but the app may be running."""
        is_coroutine = self._check("on_stop", fn)
        runtime = self._runtime
        if is_coroutine and runtime.is_busy and runtime.host is None:
            raise RuntimeError(
                "the on_stop function is a coroutine function, but run() already runs without "
                "asyncio: add it before run()"
            )
        self._stop.append(fn)
        return is_coroutine

    def _check(self, name: str, fn: Any) -> bool:
        self._runtime.check_server()
        if not callable(fn):
            raise TypeError(f"{name} takes a function, not {type_name(fn)}")
        mistakes.check_arity(f"the {name} function", fn, ())
        return is_coroutine_handler(fn)

    @property
    def is_empty(self) -> bool:
        """Whether there are no functions at all."""
        return not self._start and not self._stop

    # ---- without asyncio ------------------------------------------------------------------------

    def start(self) -> None:
        """Run the start functions.

        If one of them raises, nothing listens any more, and the exception propagates.
        """
        self.failure = None
        try:
            for fn in self._start:
                mistakes.check_result("an on_start function", fn, self._run(fn), True)
        except BaseException as error:
            self.failure = error
            self._runtime.give_up()
            raise
        server_logger.info("serving")

    def stop(self) -> None:
        """Run the stop functions, the last one first; what they raise is reported."""
        self._runtime.run_all_deferred()  # close handlers may be among them
        for fn in self._stop_order():
            try:
                mistakes.check_result("an on_stop function", fn, self._run(fn), True)
            except BaseException as error:
                self.stop_failed(fn, error)

    def _run(self, fn: Callable[[], Any]) -> Any:
        return run_in(self._runtime.context, fn)

    def _stop_order(self) -> list[Handler]:
        return [] if self._runtime.refusal else self._stop[::-1]  # a forked child has none

    def stop_failed(self, fn: Handler, error: BaseException) -> None:
        """Report what a stop function has raised."""
        runtime = self._runtime
        runtime.handler_failed("an on_stop function", error, fn, runtime.context)

    # ---- in an asyncio loop ---------------------------------------------------------------------

    async def start_all(self) -> None:
        """Run the start functions in the current task; `failure` is what one of them raised."""
        self.failure = None
        try:
            for fn in self._start:
                await _result_of("an on_start function", fn)
        except GeneratorExit:  # the loop is gone
            raise
        except BaseException as error:
            self.failure = error
            return
        self._runtime.set_context(copy_context())  # with what the functions have set
        server_logger.info("serving")

    async def stop_all(self) -> None:
        """Run the stop functions in the current task, the last one first."""
        from asyncio import CancelledError

        for fn in self._stop_order():
            try:
                await _result_of("an on_stop function", fn)
            except GeneratorExit:
                raise
            except BaseException as error:
                if isinstance(error, CancelledError):  # it could cancel something else
                    error, cause = RuntimeError("the function was cancelled"), error
                    error.__cause__ = cause
                self.stop_failed(fn, error)


async def _result_of(what: str, fn: Handler) -> None:
    result = fn()
    if is_coroutine_handler(fn):
        await result
    else:
        mistakes.check_result(what, fn, result, may_wait=True)
