# SPDX-License-Identifier: MIT
"""What runs before the handlers of a router: its `before` functions, one after the other."""

from __future__ import annotations

from typing import Any, Coroutine, Sequence

from . import mistakes, values
from .requests import is_over
from .values import Handler

__all__ = ["accept", "chained", "hooks_of"]


def hooks_of(value: Any) -> tuple[Handler, ...]:
    """`before` of a router as a tuple: a function, or several. Raises TypeError."""
    if callable(value):
        value = (value,)
    elif isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        what = values.type_name(value)
        raise TypeError(f"before must be a list of functions before(res, req), not {what}")
    hooks = tuple(value)
    for hook in hooks:
        mistakes.check_handler("before", hook, mistakes.REQUEST_PARAMETERS)
    return hooks


def accept(res: Any, req: Any, socket_context: Any) -> None:
    """The upgrade handler of a route that has none of its own."""
    res.upgrade()


def chained(hooks: Sequence[Handler], handler: Handler) -> Handler:
    """A handler that calls the hooks, and then `handler`, unless one of them has answered."""
    if not hooks:
        return handler
    if any(map(values.is_coroutine_handler, (*hooks, handler))):
        run = _coroutine(hooks, handler)
    else:
        run = _plain(hooks, handler)
    run.__wrapped__ = handler  # type: ignore[attr-defined]  # for what log lines say of it
    return run


def _plain(hooks: Sequence[Handler], handler: Handler) -> Handler:
    def run(res: Any, req: Any, *context: Any) -> Any:
        for hook in hooks:
            _check(hook, hook(res, req), res)
            if is_over(res):
                return None
        return handler(res, req, *context)

    return run


def _coroutine(hooks: Sequence[Handler], handler: Handler) -> Handler:
    async def run(res: Any, req: Any, *context: Any) -> Any:
        for hook in hooks:
            result = hook(res, req)
            if values.is_coroutine_handler(hook):
                result = await result
            _check(hook, result, res)
            if is_over(res):
                return None
        result = handler(res, req, *context)
        return await result if isinstance(result, Coroutine) else result

    return run


def _check(hook: Handler, result: Any, res: Any) -> None:
    """Raise TypeError for results that would otherwise let in a client by mistake."""
    if result is None or result is True or is_over(res):
        return
    mistakes.check_result("a before function", hook, result, may_wait=True)
    raise TypeError(
        f"a before function returned {values.type_name(result)} and has not answered: "
        f"{mistakes.location(hook)} refuses a client by an answer, as in res.send(text, 403); "
        "what it has found out is kept as req.user_data"
    )
