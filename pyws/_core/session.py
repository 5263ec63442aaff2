# SPDX-License-Identifier: MIT
"""Sessions, ``async def session(ws)``, and the tasks of a socket; imported only for these.

While a session waits in `recv`, its task waits for a `Parking`: a message resumes the coroutine
inside the callback of the message, without a turn of the asyncio loop (see `stepper`).
"""

from __future__ import annotations

import asyncio
import types
from collections import deque
from typing import Any, Coroutine, Generator

from ..errors import ConnectionClosed
from . import sockets, values
from .bridge import address_of
from .logs import logger
from .messages import size
from .routes import returned
from .runtime import Host
from .settings import Behavior
from .sockets import BY_SESSION, Socket
from .stepper import AWAITS, Stepper, cancellation, current_task
from .values import Handler

__all__ = ["Session", "SocketTask", "wrap_session"]


def wrap_session(behavior: Behavior) -> None:
    """Have the session of a route begin after its open handler, and get the messages."""
    assert behavior.session is not None
    kind = _AsyncOpen if values.is_coroutine_handler(behavior.open) else _Open
    behavior.open = kind(behavior.open, behavior.session, behavior.close_on_error)
    behavior.message = _on_message


def _on_message(ws: Socket, message: Any, opcode: int) -> None:
    session = sockets.session_of(ws)
    if session is not None:
        session.on_message(message)


class _Open:
    """The open handler of a route with a session."""

    def __init__(self, handler: Handler | None, session: Handler, close_on_error: bool) -> None:
        self.__wrapped__ = session if handler is None else handler
        self._handler = handler
        self._session = session
        self._close_on_error = close_on_error

    def __call__(self, ws: Socket) -> Any:
        session = _new_session(ws)
        if session is None:
            return None
        result = None
        try:
            if self._handler is not None:
                result = self._handler(ws)
        except BaseException as error:
            self._failed(ws, error)
        session.begin(self._session)
        return result

    def _failed(self, ws: Socket, error: BaseException) -> None:
        """The session begins nevertheless, if the socket stays open."""
        if self._close_on_error or not isinstance(error, Exception):
            sockets.set_session(ws, None)
            raise error
        sockets.failed(ws, "open", error)


class _AsyncOpen(_Open):
    """Messages wait for the session while the open handler, a coroutine, is under way."""

    async def __call__(self, ws: Socket) -> Any:
        session = _new_session(ws)
        if session is None:
            return None
        result = None
        try:
            assert self._handler is not None
            result = await self._handler(ws)
        except Exception as error:
            self._failed(ws, error)
        session.start_later(self._session)
        return result


def _new_session(ws: Socket) -> Session | None:
    host = sockets.runtime_of(ws).host
    if host is None:
        logger.error("no event loop runs: the session of %r is left out", ws)
        return None
    session = Session(host)
    session.ws, session.context = ws, sockets.context_of(ws)
    sockets.set_session(ws, session)
    return session


class Session(Stepper):
    """A session, and the messages that wait for it.

    Once max_pending_messages, or max_payload_length bytes, wait, no message is read until half of
    that is left.

    Attributes:
        messages: The messages that wait.
    """

    __slots__ = (
        "_bytes",
        "_cancels",
        "_closed",
        "_has_received",
        "_is_over",
        "_knows",
        "_loop",
        "_receiver",
        "_timer",
        "_waits",
        "messages",
    )

    def __init__(self, host: Host) -> None:
        super().__init__(host)
        self._loop = host.loop
        self.messages: deque[Any] = deque()
        self._bytes = 0
        self._closed = False  # no further messages will come
        self._waits = False  # the session itself waits for a message
        self._receiver: asyncio.Future[None] | None = None  # another task does
        self._knows = False  # the session has seen that the socket is closed
        self._has_received = False  # since the timer of `_cancel_late` was set
        self._cancels = False  # it is cancelled because the client has left
        self._timer: asyncio.TimerHandle | None = None  # calls `_cancel_late`
        self._is_over = False

    # ---- steps ----------------------------------------------------------------------------------

    def begin(self, handler: Handler) -> None:
        """Run the first step, inside the callback of the open event."""
        if self._closed:
            self._end()
            return
        self.set_work(self._main(handler))
        self._share()
        self.advance(None)

    def _share(self) -> None:
        if self.host.has_steps:
            assert self.ws is not None
            sockets.set_stepper(self.ws, address_of(self.share()))

    def start_later(self, handler: Handler) -> None:
        """Run the first step in the next turn of the loop."""
        if self._closed:
            self._end()
        else:
            self._share()
            self.start(self._main(handler))

    def on_outcome(self, sent: int, result: Any) -> None:
        """C has run a step that is not the common case: see `Stepper.step`."""
        assert self.shared is not None
        self.shared.changed = False
        if sent == AWAITS:
            self.wait(result)
        else:
            self._failed(result)
            self._end()
            self.end_task()

    async def _main(self, handler: Handler) -> None:
        ws = self.ws
        assert ws is not None
        try:
            result = await handler(ws)
            if result is not None:
                returned(sockets.route_of(ws), "session", handler, result)
        except GeneratorExit:  # the loop is gone
            raise
        except asyncio.CancelledError as error:
            if not self._cancels:
                self.host.cancelled(self._failed, cancellation(error))
        except BaseException as error:
            if not (isinstance(error, ConnectionClosed) and self._closed):
                self._failed(error)
        else:
            sockets.end(ws, 1000, b"")
        self._end()

    def _failed(self, error: BaseException) -> None:
        assert self.ws is not None
        sockets.failed(self.ws, "session", error)
        sockets.end(self.ws, 1011, b"the session handler failed")  # no one would receive

    def _end(self) -> None:
        assert self.ws is not None
        self._is_over = True
        if self._timer is not None:
            self._timer.cancel()
        self._clear()
        if self.shared is not None and self.shared.busy:  # C runs the last step
            self._loop.call_soon(self.end_task)
        sockets.set_stepper(self.ws, 0)
        sockets.set_session(self.ws, None)

    # ---- messages -------------------------------------------------------------------------------

    def on_message(self, message: Any) -> None:
        """A message has come."""
        if self._waits and self.is_idle and not self.parking.cancelled:
            self._has_received = True
            self.advance(message)
            return
        assert self.ws is not None
        limits = sockets.route_of(self.ws).behavior
        self.messages.append(message)
        self._bytes += size(message)
        full = len(self.messages) >= limits.max_pending_messages
        if full or self._bytes >= limits.max_payload_length:
            sockets.pause(self.ws, BY_SESSION)
        if self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    @types.coroutine
    def receive(self, iterates: bool) -> Generator[Any, Any, Any]:
        """Wait for the next message.

        Args:
            iterates: Raise StopAsyncIteration when the socket is closed.

        Raises:
            ConnectionClosed: The socket is closed, and no message is left.
            RuntimeError: Another task waits for a message.
        """
        if self._waits or self._receiver is not None:
            self._check_receiver()
        if not (self.messages or self._closed) and current_task(self._loop) is self.task:
            self._waits = True
            try:
                message = yield self.parking
            finally:
                self._waits = False
            if message is not None:
                return message
        return (yield from self._receive_later(iterates))

    def _check_receiver(self) -> None:
        assert self.ws is not None
        sockets.runtime_of(self.ws).check_thread()
        raise RuntimeError("another task is waiting for a message of this socket already")

    def _receive_later(self, iterates: bool) -> Generator[Any, Any, Any]:
        """Take a message that has come already, or wait for one in another task."""
        assert self.ws is not None
        sockets.runtime_of(self.ws).check_thread()
        while not self.messages:
            if self._closed:
                self._knows = True
                assert self.ws is not None
                if iterates:
                    raise StopAsyncIteration
                raise ConnectionClosed(sockets.close_info_of(self.ws))
            self._receiver = self._loop.create_future()
            try:
                yield from self._receiver
            finally:
                self._receiver = None
        return self._take()

    def _take(self) -> Any:
        assert self.ws is not None
        message = self.messages.popleft()
        self._bytes -= size(message)
        self._has_received = True
        limits = sockets.route_of(self.ws).behavior
        few = len(self.messages) <= limits.max_pending_messages // 2
        if few and self._bytes <= limits.max_payload_length // 2:
            sockets.resume(self.ws, BY_SESSION)
        return message

    def _clear(self) -> None:
        self.messages.clear()
        self._bytes = 0

    # ---- the end --------------------------------------------------------------------------------

    def on_close(self, local: bool) -> None:
        """The socket is closed: messages that wait are discarded if this side began."""
        self._closed = True
        if local:
            self._clear()
        if self._is_over:
            return
        self._loop.call_soon(self._tell)
        self._set_timer()

    def _tell(self) -> None:
        """Resume whoever waits for a message."""
        if self._waits and self.is_idle:
            self.wake()
        elif self._receiver is not None and not self._receiver.done():
            self._receiver.set_result(None)

    def _set_timer(self) -> None:
        assert self.ws is not None
        self._has_received = False
        seconds = sockets.route_of(self.ws).behavior.close_timeout
        self._timer = self._loop.call_later(seconds, self._cancel_late)

    def _cancel_late(self) -> None:
        """Cancel the session unless it ends by itself, or still handles messages."""
        if self._is_over or self._knows:
            return
        if self._has_received:
            self._set_timer()
        else:
            self._cancels = True
            self.task.cancel()

    def drop(self) -> None:
        """The task will never continue."""
        self._end()

    def on_end(self) -> None:
        """The task has ended."""
        if not self._is_over:  # it was cancelled before it had begun
            self._end()


class SocketTask(Stepper):
    """A task that a program has started for a socket."""

    __slots__ = ("_coroutine",)

    def begin(self, ws: Socket, coroutine: Coroutine[Any, Any, Any], name: str | None) -> Any:
        """Start the task, in the next turn of the loop; returns it."""
        self.ws, self.context = ws, sockets.context_of(ws)
        self._coroutine = coroutine
        if name is not None:
            self.task.set_name(name)
        self.start(coroutine)
        if sockets.conn_of(ws):
            sockets.tasks_of(ws).add(self.task)
        else:
            self.task.cancel()
        return self.task

    def on_end(self) -> None:
        """The task has ended: report its exception."""
        assert self.ws is not None
        sockets.tasks_of(self.ws).discard(self.task)
        if self.task.cancelled():
            return
        error = self.task.exception()
        if error is not None:
            sockets.task_failed(self.ws, self.task.get_name(), error)
