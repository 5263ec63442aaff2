# SPDX-License-Identifier: MIT
"""Coroutine handlers: the order of a socket's events, and requests; imported only for these.

A coroutine handler begins inside the callback of its event, and most end there. While one is under
way, the later events of its socket wait in its `Queue`.
"""

from __future__ import annotations

import asyncio
import functools
import sys
import types
from collections import deque
from typing import Any, Coroutine, Generator

from . import requests, sockets, values
from .contexts import is_current
from .logs import logger
from .messages import size
from .requests import Exchange
from .routes import returned
from .runtime import Host
from .settings import Behavior
from .sockets import BY_PINGS, BY_QUEUE, BY_USER, Socket, detach
from .stepper import AWAITS, RAISED, RETURNED, Stepper, cancellation
from .values import Handler

__all__ = ["Later", "Queue", "on_awaits", "on_raised", "on_returned", "wrap_handlers"]

_RECEIVED = frozenset(("message", "ping", "pong"))
_USELESS = frozenset((*_RECEIVED, "drain"))  # once this side has ended the connection


@types.coroutine
def resumed(coroutine: Coroutine[Any, Any, Any], awaited: Any) -> Generator[Any, Any, Any]:
    """Await a coroutine that has begun, and waits for `awaited`."""
    resume: Any
    while True:
        try:
            argument = yield awaited
            resume = coroutine.send
        except GeneratorExit:  # freed with its task; `coroutine` may be closed by then: no throw()
            coroutine.close()
            raise
        except BaseException as error:
            argument, resume = error, coroutine.throw
        try:
            awaited = resume(argument)
        except StopIteration as stop:
            return stop.value


# ---- events of sockets --------------------------------------------------------------------------


def wrap_handlers(behavior: Behavior) -> None:
    """Pass the events of a route with coroutine handlers through the queues of its sockets.

    A plain drain handler runs at once: the coroutine that is under way may wait for what it does.
    """
    for event in values.HANDLERS:
        handler = getattr(behavior, event)
        if handler is None or event == "upgrade":
            continue
        if event == "message" and behavior.session is not None:  # which has a queue of its own
            continue
        is_coroutine = values.is_coroutine_handler(handler)
        if is_coroutine or event != "drain":
            setattr(behavior, event, _Queued(event, handler, is_coroutine))


class _Beginner(Stepper):
    """Runs a coroutine whose first step may have run in a callback."""

    __slots__ = ()

    def _continue(self, work: Coroutine[Any, Any, None]) -> None:
        """Have the task run `work`, which first awaits what that step did."""
        self.set_work(work)
        self.wait(work.send(None))


class _Queued:
    """A handler that waits for its turn."""

    __slots__ = ("__wrapped__", "coroutine", "event", "handler", "is_coroutine")

    def __init__(self, event: str, handler: Handler, is_coroutine: bool) -> None:
        self.event = event
        self.handler = self.__wrapped__ = handler
        self.is_coroutine = is_coroutine
        self.coroutine = handler if is_coroutine else None  # for the bridge

    def __call__(self, ws: Socket, *args: Any) -> Any:
        queue = sockets.queue_of(ws)
        if queue is not None:
            queue.add(self, args)
        elif sockets.is_busy(ws):
            Queue.hold(ws).add(self, args)
        elif not self.is_coroutine:
            return self.handler(ws, *args)
        else:
            host = sockets.runtime_of(ws).host
            if host is not None:
                host.take(Queue).handle(ws, self, args)
            else:
                logger.error("no event loop runs: handlers of %r are left out", ws)
        return None


class Queue(_Beginner):
    """Events of one socket, from the first one for a coroutine until none is left.

    What was received and waits is bounded: once max_pending_messages, or max_payload_length bytes,
    wait, no message is read until half of that is left, nor a Ping or Pong that has to wait, too.

    Attributes:
        events: The events that wait, each with its handler.
        received: How many of them are messages, Pings and Pongs.
        waiting_bytes: The bytes of these.
    """

    __slots__ = ("_runs", "_spare", "events", "received", "waiting_bytes")

    for_bridge = True

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self.events: deque[tuple[_Queued, tuple[Any, ...]]] = deque()
        self.received = self.waiting_bytes = 0
        self._runs = False  # handlers run, or will soon
        self._spare = False  # the close handler has just begun

    def handle(self, ws: Socket, handler: _Queued, args: tuple[Any, ...]) -> None:
        """An event has happened for which a coroutine begins, while no others wait."""
        self.ws, self.context = ws, sockets.context_of(ws)
        sockets.set_queue(ws, self)
        # Only messages come from nothing but the loop. What happens inside a handler may have to
        # run in a copy of the context, which would not last.
        if handler.event != "message" and not is_current(self.context):
            self.add(handler, args)
            return
        self._runs = True
        if self._began(handler, args):
            self.go_on()

    def go_on(self) -> None:
        """A handler has ended inside a callback: run those that wait for it."""
        while self.events:
            if self._is_held():
                self._runs = False
                return
            if not self._began(*self._next()):
                return
        self._leave()
        self.context = None
        self.host.give_back(self)

    @classmethod
    def hold(cls, ws: Socket) -> Queue:
        """A queue for what happens while C runs a handler of the socket."""
        runtime = sockets.runtime_of(ws)
        assert runtime.host is not None
        queue = runtime.host.take(cls)
        queue.ws, queue.context, queue._runs = ws, sockets.context_of(ws), True
        sockets.set_queue(ws, queue)
        runtime.bridge.queued += 1
        return queue

    @classmethod
    def take_over(cls, ws: Socket) -> Queue:
        """The queue that C ran a handler as, with what has to wait for the handler."""
        host = sockets.runtime_of(ws).host
        assert host is not None
        queue: Queue = host.withdraw()
        queue.ws, queue.context, queue._runs = ws, sockets.context_of(ws), True
        holder: Queue | None = sockets.queue_of(ws)
        if holder is not None:
            queue.events, holder.events = holder.events, queue.events
            queue.received, holder.received = holder.received, 0
            queue.waiting_bytes, holder.waiting_bytes = holder.waiting_bytes, 0
            holder.ws, holder.context, holder._runs = None, None, False
            host.give_back(holder)
        sockets.set_queue(ws, queue)
        return queue

    def add(self, handler: _Queued, args: tuple[Any, ...]) -> None:
        """An event has happened, and has to wait."""
        assert self.ws is not None
        limits = sockets.route_of(self.ws).behavior
        if handler.event in _RECEIVED:
            self.received += 1
            self.waiting_bytes += size(args[0])
            full = self.received >= limits.max_pending_messages
            if full or self.waiting_bytes >= limits.max_payload_length:
                sockets.pause(self.ws, BY_QUEUE if handler.event == "message" else BY_PINGS)
        elif handler.event in ("drain", "dropped"):
            limit = 1 if handler.event == "drain" else limits.max_pending_messages
            if sum(waiting is handler for waiting, _ in self.events) >= limit:
                return
        self.events.append((handler, args))
        self.resume()

    def resume(self) -> None:
        """Continue, if something waits, may be handed out, and nothing runs."""
        if self._runs or not self.events or self._is_held():
            return
        assert self.ws is not None
        if sockets.runtime_of(self.ws).host is not self.host:
            logger.error("no event loop runs: handlers of %r are left out", self.ws)
            self.drop()
        else:
            self._runs = True
            self.start(self._handle_all())

    def drop(self) -> None:
        """The task will never continue, and nothing that happens next waits for it."""
        self.events.clear()
        self._runs = False
        self._leave()

    def on_close(self, local: bool) -> None:
        """The socket is closed, the close event follows."""
        if local:
            self.events = deque(item for item in self.events if item[0].event not in _USELESS)
        self.resume()

    def _is_held(self) -> bool:
        """Whether the program has paused the socket, so that nothing received is handed out."""
        assert self.ws is not None
        if not self.events or not sockets.is_paused(self.ws, BY_USER):
            return False
        return self.events[0][0].event in _RECEIVED

    def is_spared(self) -> bool:
        """True once while the close handler runs, which must not be cancelled at once."""
        spare, self._spare = self._spare, False
        return spare

    def _next(self) -> tuple[_Queued, tuple[Any, ...]]:
        """The event whose turn it is."""
        handler, args = self.events.popleft()
        if handler.event in _RECEIVED:
            self._took(args[0])
        return handler, args

    def _began(self, handler: _Queued, args: tuple[Any, ...]) -> bool:
        """Begin a handler, inside a callback. False: the task continues with this and the rest."""
        ws = self.ws
        assert ws is not None
        outer = None if handler.event == "message" else sys.exc_info()[1]
        coroutine = None
        try:
            result = handler.handler(ws, *args)
            if handler.is_coroutine:
                coroutine = result
                try:
                    awaited = self.step(coroutine.send, None)
                except StopIteration as stop:
                    result = stop.value
                else:
                    self._continue(self._handle_all(handler, coroutine, awaited))
                    return False
            if result is not None:
                returned(sockets.route_of(ws), handler.event, handler, result)
        except asyncio.CancelledError as error:
            self._cancelled(handler, error)
            self.start(self._handle_all())  # in the next turn, once it is known why
            return False
        except BaseException as error:
            if coroutine is not None:  # a signal handler may have raised before it began
                coroutine.close()
            detach(error, outer)
            sockets.failed(ws, handler.event, error)
        return True

    def on_outcome(self, sent: int, coroutine: Any, result: Any) -> None:
        """C has run the first step of a message handler, and left the rest to do."""
        ws = self.ws
        assert ws is not None
        handler = sockets.route_of(ws).behavior.message
        assert isinstance(handler, _Queued)
        if sent == AWAITS:
            self._continue(self._handle_all(handler, coroutine, result))
        elif sent == RAISED and isinstance(result, asyncio.CancelledError):
            self._cancelled(handler, result)
            self.start(self._handle_all())
        else:
            try:
                if sent == RAISED:
                    raise result
                if result is not None:
                    returned(sockets.route_of(ws), handler.event, handler, result)
            except BaseException as error:
                sockets.failed(ws, handler.event, error)
            self.go_on()

    async def _handle_all(
        self, handler: _Queued | None = None, coroutine: Any = None, awaited: Any = None
    ) -> None:
        """Run the handlers of all events, first the rest of a coroutine that has begun."""
        ws = self.ws
        assert ws is not None
        while handler is not None or (self.events and not self._is_held()):
            if handler is None:
                handler, args = self._next()
            self._spare = handler.event == "close"
            try:
                if coroutine is not None:
                    result = await resumed(coroutine, awaited)
                else:
                    result = handler.handler(ws, *args)
                    if handler.is_coroutine:
                        result = await result
                if result is not None:
                    returned(sockets.route_of(ws), handler.event, handler, result)
            except GeneratorExit:  # the loop is gone
                raise
            except asyncio.CancelledError as error:
                self._cancelled(handler, error)
                return  # `on_end` continues, once it is known why
            except BaseException as error:
                sockets.failed(ws, handler.event, error)
            handler = coroutine = None
        if not self.events:
            self._leave()

    def _cancelled(self, handler: _Queued, error: BaseException) -> None:
        self.host.cancelled(sockets.failed, self.ws, handler.event, cancellation(error))

    def _took(self, message: Any) -> None:
        assert self.ws is not None
        limits = sockets.route_of(self.ws).behavior
        self.received -= 1
        self.waiting_bytes -= size(message)
        few = self.received <= limits.max_pending_messages // 2
        if few and self.waiting_bytes <= limits.max_payload_length // 2:
            sockets.resume(self.ws, BY_QUEUE | BY_PINGS)

    def on_end(self) -> None:
        """The task has ended, or was cancelled before it had begun."""
        self._runs = False
        if self.ws is None:
            return
        if self.events:
            self.renew()
            self.resume()
        else:
            self._leave()

    def _leave(self) -> None:
        ws, self.ws = self.ws, None
        self._runs = False
        if ws is not None:
            sockets.set_queue(ws, None)


# ---- called by C: what a step has come to --------------------------------------------------------


def _on_outcome(sent: int, ws: Socket, coroutine: Any, result: Any) -> None:
    if sockets.route_of(ws).behavior.session is None:
        Queue.take_over(ws).on_outcome(sent, coroutine, result)
        return
    session = sockets.session_of(ws)
    if session is not None:  # otherwise it has ended
        session.on_outcome(sent, result)


on_raised = functools.partial(_on_outcome, RAISED)
on_returned = functools.partial(_on_outcome, RETURNED)
on_awaits = functools.partial(_on_outcome, AWAITS)

# ---- requests -----------------------------------------------------------------------------------


class Later:
    """A coroutine handler of requests."""

    __slots__ = ("__wrapped__", "_handler")

    def __init__(self, handler: Handler) -> None:
        self._handler = self.__wrapped__ = handler

    def __call__(self, res: Exchange, req: Any, *context: Any) -> None:
        requests.host_of(res).take(_Answer).begin(self, res, self._handler(res, req, *context))


class _Answer(_Beginner):
    """A coroutine handler of a request that is under way.

    While it waits for the body of its request, the callbacks of that resume it.
    """

    __slots__ = ()

    def begin(self, handler: Later, res: Exchange, coroutine: Coroutine[Any, Any, Any]) -> None:
        """Begin the handler, inside the callback of the request."""
        self.context = requests.context_of(res)
        requests.set_stepper(res, self)
        try:
            try:
                awaited = self.step(coroutine.send, None)
            except StopIteration as stop:
                result = stop.value
            else:
                self._continue(self._work_on(handler, res, coroutine, awaited))
                return
            self._finish(handler, res, result)
        except asyncio.CancelledError as error:
            self._cancelled(handler, res, error)
        except BaseException as error:
            requests.handler_failed(res, error, handler)
        self.context = None
        self.host.give_back(self)

    async def _work_on(
        self, handler: Later, res: Exchange, coroutine: Coroutine[Any, Any, Any], awaited: Any
    ) -> None:
        try:
            self._finish(handler, res, await resumed(coroutine, awaited))
        except GeneratorExit:
            raise
        except asyncio.CancelledError as error:
            self._cancelled(handler, res, error)
        except BaseException as error:
            requests.handler_failed(res, error, handler)

    def end_task(self) -> None:
        """A callback has run the last step."""
        self.context = None
        self.host.release(self)

    def _finish(self, handler: Later, res: Exchange, result: Any) -> None:
        if result is not None:
            requests.handler_returned(res, handler, result)
        if requests.is_unanswered(res):
            requests.report_unanswered(res)

    def _cancelled(self, handler: Later, res: Exchange, error: BaseException) -> None:
        self.host.cancelled(requests.handler_failed, res, cancellation(error), handler)
