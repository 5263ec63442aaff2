# SPDX-License-Identifier: MIT
"""What coroutines await on a connection: the methods of `pyws.WebSocket` that return awaitables."""

from __future__ import annotations

from collections.abc import Coroutine as AbstractCoroutine
from typing import TYPE_CHECKING, Any, Coroutine, Optional, TypeVar, Union

from .._native import lib
from . import values
from .calls import thread_ident
from .close_info import CloseInfo
from .hints import Task
from .sockets import Socket

if TYPE_CHECKING:
    import asyncio

__all__ = ["WaitingSocket"]

AnySocket = TypeVar("AnySocket", bound="WaitingSocket")


class WaitingSocket(Socket):
    """A connection, and what coroutines may wait for there."""

    __slots__ = ()

    def recv(self) -> Coroutine[Any, Any, Union[str, bytes]]:
        """Wait for the next message, in a session: ``message = await ws.recv()``.

        ``async for message in ws`` does the same, and ends when the connection has closed.

        Returns:
            A str for TEXT, bytes for BINARY.

        Raises:
            ConnectionClosed: The connection has closed, and all messages that came before a Close
                frame of the client have been received.
            RuntimeError: The route has no session, or it has ended; another task waits for a
                message of this socket; or called from another thread.
        """
        return self._receive(False)  # type: ignore[no-any-return]

    def __aiter__(self: AnySocket) -> AnySocket:
        return self

    def __anext__(self) -> Coroutine[Any, Any, Union[str, bytes]]:
        waits = self._waits
        if waits is None or waits.session is None:
            self._receive(True)  # raises what is wrong
        return waits.session.receive(True)  # type: ignore[no-any-return, union-attr]

    def _receive(self, iterates: bool) -> Any:
        if thread_ident() != self._runtime.owner:
            self._runtime.check_thread()
        waits = self._waits
        if waits is None or waits.session is None:
            raise RuntimeError(
                "only a session receives, app.ws(pattern, session), and only until it has ended"
            )
        return waits.session.receive(iterates)

    def drained(self) -> Coroutine[Any, Any, bool]:
        """Wait until nothing is queued for a slow client: ``if not await ws.drained(): return``.

        It is for coroutines in the loop that the app runs in. It returns at once while
        `get_buffered_amount` is 0, and does not wait for any handler of this socket.

        Returns:
            True once the queue is empty; False once the connection has closed.

        Raises:
            RuntimeError: Called from another thread; or the drain handler is a C function.
        """
        self._runtime.check_thread()
        if "drain" in self._route.behavior.c_handlers:
            raise RuntimeError("drained() cannot wait where the drain handler is a C function")
        return self._drained()

    async def _drained(self) -> bool:
        if self._conn and lib.ws_conn_buffered_amount(self._conn):
            import asyncio

            future: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
            self._get_waits().drained.append(future)
            return await future
        return self._conn != 0

    def create_task(self, coroutine: Coroutine[Any, Any, Any], name: Optional[str] = None) -> Task:
        """Start a task that belongs to this socket.

        It runs in the context of the socket's handlers, and is cancelled when the connection
        closes, or at once if it has closed. An exception that it raises is reported like that of a
        handler, and closes the connection with 1011 (close_on_error).

        Args:
            coroutine: What the task runs.
            name: The name of the task.

        Returns:
            The task.

        Raises:
            TypeError: `coroutine` is not a coroutine.
            RuntimeError: The app does not run in an asyncio loop; or called from another thread.
        """
        if not isinstance(coroutine, AbstractCoroutine):
            what = values.type_name(coroutine)
            raise TypeError(f"coroutine must be a coroutine, as function() returns it, not {what}")
        host = self._runtime.host
        try:
            self._runtime.check_thread()
            if host is None:
                raise RuntimeError(
                    "there is no asyncio loop for the task: it needs coroutine handlers, a "
                    "session, or `await app.serve()`"
                )
        except RuntimeError:
            coroutine.close()
            raise
        task: Task = host.create_task(self, coroutine, name)
        return task

    def wait_closed(self) -> Coroutine[Any, Any, CloseInfo]:
        """Wait until the closing handshake is over: ``info = await ws.wait_closed()``.

        It is for coroutines in the loop that the app runs in. Returns at once if the closing
        handshake is over already; the close handler may still be running.

        Returns:
            How the connection ended, as `close_info`.

        Raises:
            RuntimeError: Called from another thread.
        """
        self._runtime.check_thread()
        return self._wait_closed()

    async def _wait_closed(self) -> CloseInfo:
        info = self._get_close_info()
        if info is None or info.clean is None:
            import asyncio

            waits = self._get_waits()
            if waits.closed is None:
                waits.closed = asyncio.get_running_loop().create_future()
            closed: CloseInfo = await asyncio.shield(waits.closed)
            return closed
        return info
