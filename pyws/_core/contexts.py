"""Contexts of contextvars: all that runs for one socket, or for one request, runs in its own."""

from __future__ import annotations

from contextvars import Context, ContextVar
from typing import Any, Callable

__all__ = ["is_current", "is_entered", "run_in"]

_probe: ContextVar[object] = ContextVar("pyws.probe")


def run_in(context: Context, fn: Callable[..., Any], *args: Any) -> Any:
    """``fn(*args)`` in this context, and what it returns.

    A context cannot be entered twice. So what happens to a socket inside a handler of that
    socket runs in the context as it is. When another one has been entered since (a handler of A
    closes B, whose handler closes A), or in another greenlet, it runs in a copy.
    """
    try:
        return context.run(fn, *args)
    except RuntimeError:
        if not is_entered(context):
            raise  # by `fn`
    return fn(*args) if is_current(context) else context.copy().run(fn, *args)


def is_entered(context: Context) -> bool:
    """Something of this thread runs in it, perhaps further down in the stack."""
    try:
        context.run(int)
    except RuntimeError:
        return True
    return False


def is_current(context: Context) -> bool:
    """It is the one that this code runs in."""
    mark = object()
    token = _probe.set(mark)
    found = context.get(_probe)
    _probe.reset(token)
    return found is mark
