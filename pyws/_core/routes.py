# SPDX-License-Identifier: MIT
"""Routes: what the callbacks of a registered pattern need, found by what C passes back."""

from __future__ import annotations

from itertools import count
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from . import bridge, mistakes
from .logs import logger
from .runtime import Runtime
from .settings import Behavior
from .values import Handler

__all__ = ["Fallback", "Route", "returned", "routes"]

_keys = count(1)  # what C passes back as `user`; never 0
routes: WeakValueDictionary[int, Route] = WeakValueDictionary()


class Route:
    """A registered pattern.

    Attributes:
        runtime: The runtime of the app.
        pattern: The pattern, as the program wrote it.
        behavior: The settings and handlers of its sockets.
        handler: The handler of requests: of plain HTTP, or `upgrade`.
        key: What C passes back to find this object; with the bridge, the address of a
            ws_bridge_route, which lives as long as this object.
        greet: Called with each new socket before its open handler; None: nothing is.
        max_body_size: The longest body of its requests, in bytes.
        keeps_requests: Its sockets keep their opening handshakes.
        is_plain: No extension or subprotocol can be selected for its sockets.
        warned: A warning was logged about a value that a handler returned.
    """

    __slots__ = (
        "__weakref__",
        "behavior",
        "bridge",
        "greet",
        "handler",
        "is_plain",
        "keeps_requests",
        "key",
        "max_body_size",
        "pattern",
        "runtime",
        "warned",
    )

    def __init__(
        self,
        runtime: Runtime,
        pattern: str,
        behavior: Behavior,
        handler: Handler | None,
        max_body_size: int | None = None,
    ) -> None:
        """
        Args:
            runtime, pattern, behavior, handler: See the attributes.
            max_body_size: None means the setting of the app.
        """
        self.runtime = runtime
        self.pattern = pattern
        self.behavior = behavior
        self.handler = handler
        limit = runtime.options.max_body_size if max_body_size is None else max_body_size
        self.max_body_size = limit
        self.greet: Handler | None = None
        self.keeps_requests = behavior.keep_request or runtime.options.keep_headers
        self.is_plain = not (behavior.subprotocols or behavior.compression)
        self.warned = False
        self.key = next(_keys)
        if runtime.bridge is not None:
            coroutine = getattr(behavior.message, "coroutine", None)
            self.bridge = bridge.new_bridge_route(
                runtime.bridge, self, behavior.message, coroutine, handler
            )
            self.key = bridge.address_of(self.bridge)
        routes[self.key] = self

    def has(self, event: str) -> bool:
        """Whether there is a Python handler for an event."""
        return getattr(self.behavior, event) is not None


class Fallback(NamedTuple):
    """What answers requests that no route takes, for one status.

    Attributes:
        route: A route that C does not know.
        handler: Its handler as the program gave it, which may be a coroutine function.
    """

    route: Route
    handler: Handler


def returned(route: Route, event: str, handler: Any, result: Any) -> None:
    """A handler has returned something other than None: warn of it, once for each route.

    Raises:
        TypeError: It is a coroutine or a generator, which nothing would ever run.
    """
    what = f"the {event} handler of {route.pattern}" if event else f"the handler of {route.pattern}"
    sender = "res" if event in ("", "upgrade") else "ws"
    warning = mistakes.result_warning(what, handler, result, sender)
    if warning and not route.warned:
        route.warned = True
        logger.warning("%s", warning)
