# SPDX-License-Identifier: MIT
"""Contexts of contextvars: everything that runs for one socket or request runs in its own."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import Any, Callable

__all__ = ["is_current", "is_entered", "run_in"]

_probe: ContextVar[object] = ContextVar("pyws.probe")


def run_in(context: Context, fn: Callable[..., Any], *args: Any) -> Any:
    """Run ``fn(*args)`` in this context, and return its result.

    A context cannot be entered twice. So what happens to a socket inside a handler of that socket
    runs without entering it again. If another context has been entered since (a handler of A closes
    B, whose handler closes A), or in another greenlet, it runs in a copy.
    """
    try:
        return context.run(fn, *args)
    except RuntimeError:
        if not is_entered(context):
            raise  # by `fn`
    return fn(*args) if is_current(context) else context.copy().run(fn, *args)


def is_entered(context: Context) -> bool:
    """Whether something in this thread runs in the context, perhaps further down the stack."""
    try:
        context.run(int)
    except RuntimeError:
        return True
    return False


def is_current(context: Context) -> bool:
    """Whether this code runs in the context."""
    mark = object()
    token = _probe.set(mark)
    found = context.get(_probe)
    _probe.reset(token)
    return found is mark
