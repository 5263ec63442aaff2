# SPDX-License-Identifier: MIT
"""What an app answers where no route takes the request."""

from __future__ import annotations

from typing import TypeVar

from ..router import Router
from ..typing import RequestHandler
from . import callbacks, calls, mistakes, requests
from .routes import Fallback, Route
from .settings import Behavior

__all__ = ["Fallbacks"]

AnyHandler = TypeVar("AnyHandler", bound=RequestHandler)


class Fallbacks(Router):
    """A Router with the methods of `App` for that."""

    def on_not_found(self, handler: AnyHandler) -> AnyHandler:
        """Answer requests for paths that have no route; may be used as a decorator.

        ``handler(res, req)`` is like a handler of `get`, with the status 404 set already. It also
        answers for the files that a path of `static` does not have.

        Args:
            handler: A function or a coroutine function. A later call replaces it.

        Returns:
            `handler`.

        Raises:
            TypeError: It is no function of two arguments.
            RuntimeError: As for `ws`.
        """
        self._fall_back(404, "on_not_found", handler)
        return handler

    def on_method_not_allowed(self, handler: AnyHandler) -> AnyHandler:
        """Answer requests whose path has routes, but for other methods; may be a decorator.

        ``handler(res, req)`` is like a handler of `get`, with the status 405 and the field Allow
        set already. A GET of a path that is for WebSocket alone gets a 426 from pyws.

        Args:
            handler: As for `on_not_found`.

        Returns:
            `handler`.

        Raises:
            TypeError, RuntimeError: As for `on_not_found`.
        """
        self._fall_back(405, "on_method_not_allowed", handler)
        return handler

    def _fall_back(self, status: int, name: str, handler: RequestHandler) -> None:
        runtime = self._runtime
        runtime.check_server()
        mistakes.check_handler("handler", handler, mistakes.REQUEST_PARAMETERS)
        runner = self._request_handler("handler", handler, name)
        fallbacks = runtime.fallbacks
        fallbacks[status] = Fallback(Route(runtime, name, Behavior(None, {}), runner), handler)
        for other in (404, 405):  # C calls one function for both
            if other not in fallbacks:
                route = Route(runtime, "*", Behavior(None, {}), requests.refuse)
                fallbacks[other] = Fallback(route, requests.refuse)
        self._set_fallback()

    def _set_fallback(self) -> None:
        """Have C call what there is; a worker does this again, with a new server."""
        runtime = self._runtime
        if runtime.fallbacks:
            calls.set_fallback(runtime.server, callbacks.ON_FALLBACK, runtime.key)
