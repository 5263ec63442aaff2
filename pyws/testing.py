# SPDX-License-Identifier: MIT
"""For the tests of programs that use pyws: a server for a block, and a socket without a client.

Nothing else of pyws imports this module. docs/testing_apps.md has complete examples.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Coroutine as AbstractCoroutine
from contextlib import asynccontextmanager, contextmanager
from itertools import count
from typing import (
    Any,
    AsyncIterator,
    Coroutine,
    Iterable,
    Iterator,
    List,
    Mapping,
    NamedTuple,
    Optional,
    Union,
)

from ._core import values
from ._core.calls import thread_ident
from ._core.facts import made
from ._core.hints import Task
from ._core.messages import COMPRESS, pack_publication
from ._core.routes import Route
from ._core.settings import Behavior
from ._native import fail
from .app import App
from .enums import OpCode, SendStatus
from .errors import ConnectionClosed, ErrorCode
from .http import Request
from .options import AppListenOptions
from .typing import AnyOpCode, AppListenOptionsDict, Message
from .websocket import CloseInfo, TlsInfo, WebSocket

__all__ = ["FakeWebSocket", "Published", "running", "serving"]

_LOOPBACK: AppListenOptionsDict = {"host": "127.0.0.1"}  # on a port that the kernel chooses
_PATIENCE = 5.0  # seconds that a handler may take to return, after connections were dropped

# ---- servers ------------------------------------------------------------------------------------


@asynccontextmanager
async def serving(
    app: App,
    where: Union[int, AppListenOptions, AppListenOptionsDict, None] = None,
    *,
    timeout: float = 1.0,
) -> AsyncIterator[str]:
    """Serve during a block, in the asyncio loop that runs: ``async with serving(app) as url``.

    Args:
        app: The app, which does not run yet.
        where: As for `App.listen`; None means a free port of 127.0.0.1, or where the app listens
            already.
        timeout: Seconds for clients to answer the Close frame at the end of the block, and for
            coroutine handlers to end.

    Returns:
        A context manager that gives the URL, as `App.url`.

    Raises:
        RuntimeError: The app runs already, or belongs to another thread.
        OSError, TypeError, ValueError: As for `App.listen`.
        BaseException: What a handler raised that is no Exception, at the end of the block.
    """
    seconds = values.duration("timeout", timeout)
    place = _LOOPBACK if where is None and not app.url else where
    async with app.serving(place):
        try:
            yield app.url
        finally:
            app.close(timeout=seconds)


@contextmanager
def running(
    app: App,
    where: Union[int, AppListenOptions, AppListenOptionsDict, None] = None,
    *,
    timeout: float = 1.0,
) -> Iterator[str]:
    """Serve during a block, in a thread of its own: ``with running(app) as url``.

    In the block the app belongs to that thread: the test calls it by `App.defer`, and the handlers
    run there. Afterwards it belongs to the thread that made it again, and may run again.

    Args:
        app: The app, which was made in this thread and does not run yet.
        where: As for `App.listen`; None means a free port of 127.0.0.1, or where the app listens
            already.
        timeout: Seconds for clients to answer the Close frame at the end of the block, and for
            coroutine handlers to end.

    Returns:
        A context manager that gives the URL, as `App.url`.

    Raises:
        RuntimeError: The app runs already, or was made in another thread; or a handler has not
            returned at the end of the block.
        OSError, TypeError, ValueError: As for `App.listen`.
        BaseException: What `App.run` raised in its thread, at the end of the block.
    """
    seconds = values.duration("timeout", timeout)
    runtime = app._runtime
    runtime.check_idle()
    if thread_ident() != runtime.owner:
        raise RuntimeError(
            "running() needs an app that was made in the same thread: make it there, in a fixture "
            "or a function of the test"
        )
    if where is not None or not app.url:
        app.listen(_LOOPBACK if where is None else where)
    errors: list[BaseException] = []

    def run() -> None:
        try:
            app.run()
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, name="pyws.testing.running", daemon=True)
    thread.start()
    try:
        yield app.url
    finally:
        try:
            app.defer(app.close, 1001, "the test has ended", seconds)
        except RuntimeError:
            pass  # a handler has closed it
        thread.join(seconds + _PATIENCE)
        if thread.is_alive():
            late = seconds + _PATIENCE
            raise RuntimeError(f"a handler has not returned {late:g} seconds after the test")
        if errors:
            raise errors[0]


# ---- sockets ------------------------------------------------------------------------------------


class Published(NamedTuple):
    """What a handler has published (`FakeWebSocket.published`)."""

    topic: str
    message: Union[str, bytes]


_ids = count(1)
_of_thread = threading.local()


def _common_app() -> App:
    """The app of this thread for fakes without one; each app needs descriptors."""
    app: Optional[App] = getattr(_of_thread, "app", None)
    if app is None or app._runtime.refusal:  # after a fork
        app = _of_thread.app = App()
    return app


def _check_messages(messages: Any) -> Iterable[Union[str, bytes]]:
    """The messages of a client. Raises TypeError, also for a str, which is a list of letters."""
    if isinstance(messages, (str, bytes)) or not hasattr(messages, "__iter__"):
        raise TypeError(f"messages must be a list of str and bytes, not {type(messages).__name__}")
    items = list(messages)
    for item in items:
        if not isinstance(item, (str, bytes)):
            raise TypeError(
                f"messages must hold only str and bytes, not {type(item).__name__}: "
                "JSON is sent as text, json.dumps(...)"
            )
    return items


class FakeWebSocket(WebSocket[Any]):
    """A `WebSocket` without a client, for tests that call a handler themselves.

    It records what it would send, and checks all arguments as a `WebSocket` does. It calls no
    handlers: ``on_message(ws, "hi", OpCode.TEXT)`` is a line of the test. It belongs to the thread
    that made it.

    Attributes:
        sent: The messages: str for TEXT, bytes for BINARY; JSON as its text; one in fragments when
            its last fragment was sent.
        dropped: Those that were not sent, since `status` was DROPPED.
        published: What was published, as pairs of topic and message.
        pings, pongs: The payloads of control frames.
        status: What `send` returns while the socket is open; the test may change it. Only a message
            that waits for the last fragment of another one gets BACKPRESSURE.
        buffered_amount: What `get_buffered_amount` returns while the socket is open; the test may
            change it.
        paused: Whether `pause` was called, and no `resume` since.
        messages: What a session will receive.
        tasks: What `create_task` has started: tasks of the running asyncio loop, which are
            cancelled when the socket closes.
    """

    def __init__(
        self,
        target: str = "/",
        *,
        messages: Iterable[Union[str, bytes]] = (),
        pattern: str = "*",
        headers: Optional[Mapping[str, str]] = None,
        user_data: Any = None,
        subprotocol: Optional[str] = None,
        tls: Optional[TlsInfo] = None,
        app: Optional[App] = None,
    ) -> None:
        """
        Args:
            target: Path and query of the opening handshake: "/chat/blue?token=x".
            messages: What a session receives: ``await session(ws)``. After the last one the client
                leaves with 1000, so that the session ends.
            pattern: The pattern of the route: "/chat/:room".
            headers: The header fields of the opening handshake; the route keeps them.
            user_data: What `get_user_data` returns.
            subprotocol: The selected subprotocol.
            tls: What is known of its TLS connection; None means that it has none.
            app: The app; its route of that pattern, if there is one, decides about limits.

        Raises:
            TypeError: `messages` does not hold str and bytes.
            ValueError: The path does not match the pattern.
        """
        self._app = _common_app() if app is None else app  # held here: the runtime does not
        runtime = self._app._runtime
        path, _, query = target.partition("?")
        _check_path(pattern, path)
        super().__init__(runtime, 0)
        self._begin(self._find_route(pattern, headers), runtime.context.copy(), 0)
        self._id = next(_ids)
        self._target = target
        self._subprotocol, self._compression = subprotocol, None
        self._user_data = user_data
        self._remote = (b"\x7f\0\0\1", 50_000, tls is not None)
        self._tls = tls
        fields = [(name.lower(), value) for name, value in (headers or {}).items()]
        self._request = made(
            Request,
            runtime,
            {
                "method": "GET",
                "scheme": "ws" if tls is None else "wss",
                "tls": tls,
                "target": target,
                "path": path,
                "query": query,
                "headers": fields,
                "pattern": "/*" if pattern == "*" else pattern,
            },
        )
        self._open = True
        self.messages = deque(_check_messages(messages))
        self.tasks: List[Task] = []
        self._topics: dict[str, None] = {}  # in the order of subscribing
        self._fragments: list[bytes] | None = None  # of a message that has begun
        self._begun = 0  # its opcode
        self._held: list[tuple[bytes, int]] = []  # messages that wait for its end
        self.sent: list[str | bytes] = []
        self.dropped: list[str | bytes] = []
        self.published: list[Published] = []
        self.pings: list[bytes] = []
        self.pongs: list[bytes] = []
        self.status = SendStatus.SUCCESS
        self.buffered_amount = 0

    def _find_route(self, pattern: str, headers: Mapping[str, str] | None) -> Route:
        runtime = self._app._runtime
        for route in self._app._routes:
            if route.pattern == pattern and (route.handler is None or route.behavior.upgrade):
                return route
        behavior = Behavior({"keep_request": headers is not None}, {})
        return Route(runtime, pattern, behavior, None)

    # ---- what the test does ---------------------------------------------------------------------

    @property
    def paused(self) -> bool:
        return bool(self._paused)

    def lose(self, code: int = 1006, reason: str = "") -> None:
        """The client has left: from now on the socket is closed, as in its close handler.

        Args:
            code: The code of its Close frame; 1006 means that the connection was lost.
            reason: The reason in it.

        Raises:
            TypeError, ValueError: The code or the reason is wrong.
        """
        if code != 1006:
            values.close_arguments(code, reason)
        self._finish(code, reason, local=False)

    # ---- what WebSocket does in C ---------------------------------------------------------------

    def __bool__(self) -> bool:
        return self._open

    @property
    def closed(self) -> bool:
        return not self._open

    def _send_message(self, data: bytes, code: int) -> SendStatus:
        self._runtime.check_thread()
        if not self._open:
            return SendStatus.DROPPED
        opcode = code & ~COMPRESS
        if opcode == OpCode.PING:
            self.pings.append(data)
        elif opcode == OpCode.PONG:
            self.pongs.append(data)
        elif self.status is SendStatus.DROPPED:
            self.dropped.append(_payload(data, opcode))
        elif self._fragments is None:
            self.sent.append(_payload(data, opcode))
        else:
            self._held.append((data, opcode))
            return SendStatus.BACKPRESSURE
        return self.status

    def _send_fragment(
        self, data: bytes, opcode: int, fin: bool, compress: bool = False
    ) -> SendStatus:
        self._runtime.check_thread()
        decoder = self._check_fragment(data, opcode, fin)
        if not self._open:
            return SendStatus.DROPPED
        if (opcode == OpCode.CONTINUATION) is (self._fragments is None):
            fail(ErrorCode.EORDER)
        if self._fragments is None:
            if self.status is SendStatus.DROPPED:
                self.dropped.append(_payload(data, opcode))
                return self.status
            self._fragments, self._begun = [], opcode
        self._fragments.append(data)
        self._decoder = None if fin else decoder
        if fin:
            message, self._fragments = b"".join(self._fragments), None
            held, self._held = self._held, []
            self.sent += [_payload(*one) for one in ((message, self._begun), *held)]
        return self.status

    def _receive(self, iterates: bool) -> Any:
        self._runtime.check_thread()
        return self._next_message(iterates)

    def __anext__(self) -> Coroutine[Any, Any, Union[str, bytes]]:
        return self._receive(True)  # type: ignore[no-any-return]

    async def _next_message(self, iterates: bool) -> Union[str, bytes]:
        if not self.messages:
            self.lose(1000)
            if iterates:
                raise StopAsyncIteration
            raise ConnectionClosed(self._close_info)
        return self.messages.popleft()

    async def _drained(self) -> bool:
        self.buffered_amount = 0
        return self._open

    def create_task(self, coroutine: Coroutine[Any, Any, Any], name: Optional[str] = None) -> Task:
        if not isinstance(coroutine, AbstractCoroutine):
            return super().create_task(coroutine, name)  # which raises TypeError
        import asyncio

        try:
            self._runtime.check_thread()
            loop = asyncio.get_running_loop()
        except RuntimeError:
            coroutine.close()
            raise
        task = loop.create_task(coroutine, name=name)
        self.tasks.append(task)
        if not self._open:
            task.cancel()
        return task

    @property
    def tls(self) -> Optional[TlsInfo]:
        self._runtime.check_thread()
        return self._tls

    def get_buffered_amount(self) -> int:
        self._runtime.check_thread()
        return self.buffered_amount if self._open else 0

    def subscribe(self, topic: Union[str, bytes]) -> bool:
        name = self._topic(topic).decode()
        if not self._open:
            return False
        if len(self._topics) < self._route.behavior.max_topics:
            self._topics[name] = None
        return name in self._topics

    def unsubscribe(self, topic: Union[str, bytes]) -> bool:
        name = self._topic(topic).decode()
        known = name in self._topics
        self._topics.pop(name, None)
        return known

    def is_subscribed(self, topic: Union[str, bytes]) -> bool:
        return self._topic(topic).decode() in self._topics

    def get_topics(self) -> List[str]:
        self._runtime.check_thread()
        return list(self._topics)

    def publish(
        self,
        topic: Union[str, bytes],
        message: Message,
        opcode: Optional[AnyOpCode] = None,
        compress: bool = False,
        exclude_self: bool = False,
    ) -> bool:
        name = values.topic(topic).decode()
        data, code = pack_publication(message, opcode, compress, self._runtime.json)
        values.flag("exclude_self", exclude_self)
        self._runtime.check_thread()
        if not self._open:
            return False
        self.published.append(Published(name, _payload(data, code & ~COMPRESS)))
        return name in self._topics and not exclude_self

    def _end(self, code: int, reason: bytes) -> None:
        self._finish(code or 1005, reason[:123].decode("utf-8", "ignore"), local=True)

    def close(self) -> None:
        self._runtime.check_thread()
        self._finish(1006, "", local=True)

    terminate = close

    def _finish(self, code: int, reason: str, local: bool) -> None:
        if not self._open:
            return
        self._open = False
        self._topics.clear()
        self._fragments = None
        if local:
            self.messages.clear()
        for task in self.tasks:
            task.cancel()
        self._close_info = CloseInfo(code, reason, local)
        self._closing_is_over(code != 1006, code, "" if local else reason)

    @property
    def user_data(self) -> Any:
        return self.get_user_data()

    @user_data.setter
    def user_data(self, value: Any) -> None:
        self._runtime.check_thread()
        if self._open:
            self._user_data = value


def _payload(data: bytes, opcode: int) -> str | bytes:
    return data.decode() if opcode == OpCode.TEXT else data


def _check_path(pattern: str, path: str) -> None:
    """Raise ValueError unless the pattern matches the path."""
    names = ("/*" if pattern == "*" else pattern).split("/")
    parts = path.split("/", len(names) - 1)
    same = len(names) == len(parts) and (names[-1] == "*" or "/" not in parts[-1])
    for name, part in zip(names, parts):
        same = same and (name == part or name == "*" or (name[:1] == ":" and part != ""))
    if not same:
        raise ValueError(f"the path {path!r} does not match the pattern {pattern!r}")
