# SPDX-License-Identifier: MIT
"""What a socket, a request or a timer needs of its app.

A `Runtime` owns the C server, and knows the state of the app, its thread, what was deferred, and
who hears of failures. It knows no routes; the event loop and the workers are a `Host` and a `Crew`.
"""

from __future__ import annotations

import atexit
import logging
import math
import threading
import time
import warnings
import weakref
from collections import deque
from contextvars import Context, copy_context
from functools import partial
from itertools import count
from typing import Any, Callable, Tuple, TypeVar

from .. import _native
from .._native import fail, lib
from ..errors import ErrorCode
from ..options import AppListenOptions, AppOptions
from . import bridge, calls, mistakes
from .bus import Member
from .calls import thread_ident
from .contexts import run_in
from .descriptors import let_go, watched
from .encryption import Encryptions
from .logs import Traffic, complain, log_failure, logger, server_logger
from .messages import Json
from .relays import Relay
from .state import BUSY, OPEN, REFUSALS, State
from .timers import Timers
from .values import Handler
from .watches import Watches

__all__ = ["GOING_AWAY", "SHUTDOWN_REASON", "Crew", "Deferred", "Host", "Runtime"]

GOING_AWAY, SHUTDOWN_REASON = 1001, "server shutting down"  # RFC 6455 section 7.4.1
# Seconds until C is asked again for a call: a signal handler may raise in place of a callback, and
# ctypes may have no memory for it.
PATIENCE = 1.0

T = TypeVar("T")
Deferred = Tuple[Context, Handler, Tuple[Any, ...]]  # the context, what to call, its arguments

# ---- what is above, as seen from here -----------------------------------------------------------


class Host:
    """An event loop that the app runs in, as `aio.Host` implements it.

    Attributes:
        loop: The asyncio loop.
        home: A context of no socket, to create tasks in.
        has_steps: C can run steps of coroutines.
    """

    loop: Any
    home: Context
    has_steps: bool

    def withdraw(self) -> Any:
        """The Stepper that C ran a handler as; C must not do so any more."""
        raise NotImplementedError

    def take(self, kind: Callable[[Host], T]) -> T:
        """A Stepper of this kind whose task is idle."""
        raise NotImplementedError

    def give_back(self, stepper: Any) -> None:
        """A Stepper has run a coroutine without its task."""
        raise NotImplementedError

    def release(self, stepper: Any) -> None:
        """Callbacks have run the last step of a Stepper's work."""
        raise NotImplementedError

    def adopt(self, stepper: Any) -> None:
        """The task of a Stepper has work; the end of the app waits for it."""
        raise NotImplementedError

    def create_task(self, ws: Any, coroutine: Any, name: str | None) -> Any:
        """Start a task that belongs to a socket; returns it."""
        raise NotImplementedError

    def cancelled(self, report: Callable[..., Any], *about: Any) -> None:
        """Call ``report(*about)`` for a cancelled handler, unless the app ends."""
        raise NotImplementedError

    def stop_within(self, seconds: float) -> None:
        """The app shuts down: cancel the tasks that are left after this time."""
        raise NotImplementedError

    def is_lost(self) -> bool:
        """Whether the loop was closed while the app ran in it."""
        raise NotImplementedError

    def leave(self) -> None:
        """The tasks will never run again."""
        raise NotImplementedError

    def forget(self) -> list[int]:
        """This is a forked child; returns the descriptors that the loop waits with."""
        raise NotImplementedError


class Crew:
    """The worker processes of an app, as `workers.Crew` implements them."""

    def stop(self, seconds: float, drain: float = 0) -> None:
        """End all workers soon, and kill those that are left long after this time.

        Args:
            seconds: The time.
            drain: Seconds before that in which clients may finish.
        """
        raise NotImplementedError

    def reload(self, order: str) -> None:
        """Use new certificates in this process and in all workers, as `tls.order` says."""
        raise NotImplementedError

    def let_go(self) -> None:
        """This is a forked child that is no worker."""
        raise NotImplementedError


# ---- the runtime --------------------------------------------------------------------------------

_keys = count(1)  # what C passes back as `user`; never 0
runtimes: weakref.WeakValueDictionary[int, Runtime] = weakref.WeakValueDictionary()
at_end: list[Callable[[Runtime], None]] = []  # called by `end_lost`


class Runtime:
    """All of an app but its routes.

    Attributes:
        options: The settings of the app.
        state: Where the app is in its life; only `set_state` changes it.
        refusal: Why nothing works in this process, or "".
        server: The address of the ws_server; 0 once it has been freed.
        bridge: The ws_bridge of the server; None without the bridge.
        key: What C passes back to find this object.
        owner: The thread that may call; 0: none.
        context: What the contexts of sockets and requests are copied from.
        addresses: Where the app listens, until `run` has returned.
        listeners: The sockets that listen, by descriptor, with what the server of a worker needs to
            know of them: fields of ws_listen_options.
        encryptions: TLS of the addresses that have it.
        host: The event loop, while the app runs in one.
        relay: The connection to the broker; None without one.
        crew: The workers, while this process watches over them.
        member: What connects this worker to the others; None without workers.
        worker: The number of the worker, from 1; 0 in a process that is no worker.
        tell_parent: In a worker, passes a reload of certificates (`tls.order`) to the others.
        signal_mask: What `Signals` sets once it handles signals; None: nothing.
        traffic: Writes log lines of connections, while the app runs and they are wanted.
        nested: How many handlers run inside each other.
        json: How the app writes and reads JSON.
        timers: The delayed calls.
        watches: The descriptors that the program has the loop watch.
        deferred: The deferred calls that have not run yet.
        error_handler: What `App.on_error` was given.
        fallbacks: The routes for requests that no other one takes, by status: 404, 405.
    """

    def __init__(self, app: Any, options: AppOptions, bridge_: Any, on_response: Any) -> None:
        """
        Args:
            app: The app, for programs that ask a socket or a request for it.
            options: The settings of the app.
            bridge_: The ws_bridge of the server, or None.
            on_response: The C callback for responses, installed while log lines are wanted.

        Raises:
            MemoryError, OSError: There is no memory or descriptor for a server.
        """
        self._app = weakref.ref(app)  # which owns this object
        self.options = options
        self.state = State.IDLE
        self.refusal = ""
        self.server = 0
        self.bridge = bridge_
        self.bridge_address = 0 if bridge_ is None else bridge.address_of(bridge_)
        self.key = next(_keys)
        self.set_context(copy_context())
        self.addresses: list[AppListenOptions] = []
        self.listeners: dict[int, dict[str, Any]] = {}
        self.encryptions = Encryptions()
        self.host: Host | None = None
        self.relay: Relay | None = None
        self.crew: Crew | None = None
        self.member: Member | None = None
        self.worker = 0
        self.tell_parent: Callable[[str], None] | None = None
        self.signal_mask: Any = None
        self.traffic: Traffic | None = None
        self.nested = 0
        self.deferred: deque[Deferred] = deque()
        self.error_handler: Handler | None = None
        self.fallbacks: dict[int, Any] = {}
        self.json = Json(options.json_dumps, options.json_loads)
        self.timers = self._new_timers()
        self.watches = self._new_watches()
        self._on_response = on_response
        self._lock = threading.RLock()  # guards state, server and deferred calls against `defer`
        self._woken = 0.0  # when C was asked to call _on_deferred; 0: it need not
        self._stashed: BaseException | None = None
        self._creator = thread_ident()
        self.own(self._creator)
        runtimes[self.key] = self
        if bridge_ is not None:
            bridge_.runtime = id(self)
        self._set_server(self._new_server())

    def _new_server(self) -> int:
        return calls.new_server(LOG, self.bridge, self.options.c_fields())

    def _set_server(self, server: int) -> None:
        self.server = server
        if self.bridge is not None:
            self.bridge.server = server

    def _new_timers(self) -> Timers:
        return Timers(self.check_thread, self.handler_failed, self._set_alarm)

    def _new_watches(self) -> Watches:
        return Watches(self.handler_failed, self._set_watch)

    def set_state(self, state: State) -> None:
        """Change the state; the only place that does. A forked child can become IDLE alone."""
        if state is self.state or (self.state is State.FORKED and state is not State.IDLE):
            return
        before, self.state = self.state, state
        self.refusal = REFUSALS.get(state, "")
        if logger.isEnabledFor(logging.DEBUG):
            line = partial(logger.debug, "app %d: %s -> %s", self.key, before.value, state.value)
            self.report("logging", line)

    @property
    def app(self) -> Any:
        """The app. Raises RuntimeError after it was freed."""
        app = self._app()
        if app is None:
            raise RuntimeError("the app was freed")
        return app

    @property
    def is_busy(self) -> bool:
        """Whether something runs the app."""
        return self.state in BUSY

    def set_context(self, context: Context) -> None:
        """From now on the contexts of sockets and requests are copies of this one."""
        self.context = context
        if self.bridge is not None:
            self.bridge.context = context

    # ---- who may call ---------------------------------------------------------------------------

    def own(self, thread: int) -> None:
        """From now on calls belong to this thread."""
        self.owner = thread
        if self.bridge is not None:
            self.bridge.owner = thread

    def check_thread(self) -> None:
        """Raise RuntimeError in a thread that is not the owner."""
        if thread_ident() != self.owner:
            self.check_process()
            raise RuntimeError(
                "this call belongs to the thread of app.run(); "
                "from another thread use app.defer(fn, *args)"
            )

    def check_process(self) -> None:
        """Raise RuntimeError in a process that must not use the app."""
        if self.refusal:
            raise RuntimeError(self.refusal)

    def check_server(self) -> None:
        """Raise RuntimeError in another thread, or after the server was freed."""
        self.check_thread()
        self._check_alive()

    def check_idle(self) -> None:
        """Raise RuntimeError if something runs the app already."""
        self.leave_closed_loop()
        self.check_process()
        if self.is_busy:
            raise RuntimeError("the app is already running: by run(), serve() or serving()")
        self._check_alive()

    def _check_alive(self) -> None:
        if not self.server:
            raise RuntimeError("this app is closed: its server has been freed")

    # ---- the life of a run ----------------------------------------------------------------------

    def begin(self, host: Host | None, listens: bool = True) -> None:
        """From now on this thread runs the app.

        Args:
            host: The event loop that it runs in, or None.
            listens: The app must listen already.

        Raises:
            RuntimeError: Something runs the app already, or it must listen and does not.
        """
        with self._lock:
            self.check_idle()
            if listens and not self.addresses:
                raise RuntimeError(
                    "the app listens nowhere: call app.listen(port), or pass a port to serve()"
                )
            self.set_state(State.RUNNING)
            self.own(thread_ident())
        self.host = host
        self.set_context(copy_context())
        self._watch_traffic()
        self.encryptions.rotate(self.timers)

    def _watch_traffic(self) -> None:
        """Find out whether log lines of connections are wanted; otherwise they cost nothing."""
        traffic = Traffic(self.options.access_log)
        self.traffic = traffic if traffic else None
        calls.set_on_response(self.server, self._on_response if traffic else None, self.key)

    def finish(self) -> None:
        """Refuse further deferred calls, run those that were accepted, and stop."""
        with self._lock:
            self.set_state(State.FINISHING)
        self.run_all_deferred()
        self.timers.clear()
        self.watches.clear()
        self.host = None
        self.addresses.clear()
        with self._lock:
            self.set_state(State.STOPPED)
            self.own(0 if self.refusal else self._creator)
        if not self.refusal:
            server_logger.info("stopped serving")

    def close(self, code: int, reason: bytes, limit_ms: int, drain: float = 0) -> None:
        """`App.close`. Raises RuntimeError."""
        if self.crew is not None:  # called by a signal handler of the parent
            self.crew.stop(limit_ms / 1000, drain)
            return
        self.leave_closed_loop()
        self.check_server()
        if drain:
            self._drain(drain, code, reason, limit_ms)
        else:
            self.shutdown(code, reason, limit_ms)

    def go_away(self, limit_ms: int = 5000, drain: float = 0) -> None:
        """`close` with the code and reason that clients get by default. Raises RuntimeError."""
        self.close(GOING_AWAY, SHUTDOWN_REASON.encode(), limit_ms, drain)

    def _drain(self, seconds: float, code: int, reason: bytes, limit_ms: int) -> None:
        """Accept no more connections, and shut the server down after this time."""
        server_logger.info("draining for at most %g s", seconds)
        lib.ws_server_drain(self.server)
        # If the last client leaves earlier, it has shut down, and the timer is cleared.
        self.timers.add(math.ceil(seconds * 1e9), self.shutdown, (code, reason, limit_ms))
        if self.host is not None:
            self.host.stop_within(seconds + limit_ms / 1000)

    def shutdown(self, code: int, reason: bytes, limit_ms: int) -> None:
        """Shut the server down within `limit_ms`."""
        lib.ws_server_shutdown(self.server, code, reason, len(reason), limit_ms)
        if self.host is not None:
            self.host.stop_within(limit_ms / 1000)

    def leave_closed_loop(self) -> None:
        """End the run here if the asyncio loop was closed while the app ran in it.

        The connections are dropped; their close handlers run, except those that are coroutines.
        """
        host = self.host
        if host is None or self.refusal or not host.is_lost():
            return
        self.host = None
        self.own(thread_ident())
        host.leave()
        logger.error(
            "the asyncio loop was closed while the app ran in it, all connections are dropped: "
            "cancel serve(), or call app.close(), and wait for its end before"
        )
        self.give_up()
        self.finish()

    def give_up(self) -> None:
        """Stop listening and drop all connections, while nothing runs turns."""
        if self.refusal:
            return
        lib.ws_server_shutdown(self.server, GOING_AWAY, None, 0, 0)
        while lib.ws_server_run(self.server) > 0:  # a signal interrupts it
            pass

    def free(self) -> None:
        """Drop all connections and free the server."""
        if self.refusal or self.state is State.FREED:
            return
        with self._lock:  # `defer` must not touch the server any more
            never_ran = self.addresses if self.state is State.IDLE else []
            self.set_state(State.FREED)
            server = self.server
            self._set_server(0)
        self.timers.clear()
        self.watches.clear()
        if server:
            lib.ws_server_free(server)
        self.encryptions.free()
        self.run_all_deferred()
        if never_ran:
            addresses, self.addresses = ", ".join(map(str, never_ran)), []
            message = f"an app listened on {addresses} and was never run: app.run() is missing"
            warnings.warn(message, ResourceWarning, stacklevel=3, source=self)

    # ---- deferred calls -------------------------------------------------------------------------

    def defer(self, fn: Callable[..., Any], *args: Any) -> None:
        """`App.defer`; may be called from any thread. Raises RuntimeError."""
        with self._lock:
            if self.state not in OPEN:
                raise RuntimeError(self.refusal or "run() has returned, nothing can be deferred")
            self.postpone(fn, *args)

    def postpone(self, fn: Callable[..., Any], *args: Any) -> None:
        """As `defer`, but also while the app ends: `finish` and `free` run what is left."""
        with self._lock:
            self.deferred.append((copy_context(), fn, args))
            result = self._wake()
            # WS_ESTOPPED: the shutdown is over, and `finish` will run it.
            if result < 0 and result != ErrorCode.ESTOPPED:
                self.deferred.pop()
                fail(result)

    def _wake(self) -> int:
        """Have C call `run_deferred`; returns what it does. Its call may be lost: see PATIENCE."""
        now = time.monotonic()
        if not self.server or (self._woken and now < self._woken + PATIENCE):
            return 0
        result: int = lib.ws_server_defer(self.server, ON_DEFERRED, self.key)
        self._woken = now if result == 0 else 0.0
        return result

    def run_deferred(self) -> None:
        """C calls: run what was deferred until now; what these calls defer comes later."""
        with self._lock:
            self._woken = 0.0
            waiting = len(self.deferred)
        try:
            self._run_deferred(waiting)
        finally:
            with self._lock:
                if self.deferred:  # it was interrupted, or these calls have deferred others
                    self._wake()

    def end_lost(self) -> None:
        """The server has no connections any more: end what has not heard of that."""
        for end in () if self.refusal else at_end:
            try:
                end(self)
            except BaseException as error:
                self.stash(error)

    def run_all_deferred(self) -> None:
        """The server has shut down: run what was deferred, and what these calls defer."""
        self.end_lost()
        while self.deferred:
            self._run_deferred(len(self.deferred))

    def _run_deferred(self, how_many: int) -> None:
        for _ in range(how_many):
            context, fn, args = self.deferred.popleft()
            try:
                mistakes.check_result("a deferred function", fn, context.run(fn, *args))
            except BaseException as error:
                self.handler_failed("a deferred function", error, fn, context)

    def _set_alarm(self, delay: int | None) -> None:
        """Have C call in `delay` nanoseconds; None: not any more."""
        if self.server:
            alarm = None if delay is None else ON_ALARM
            calls.set_alarm(self.server, delay or 0, alarm, self.key)

    def _set_watch(self, fd: int, events: int) -> None:
        """Have C call when a descriptor is ready for these events; 0: not any more."""
        if self.server:
            calls.watch(self.server, fd, events, ON_WATCH if events else None, self.key)

    # ---- failures -------------------------------------------------------------------------------

    def handler_failed(
        self,
        what: str,
        error: BaseException,
        handler: Any,
        context: Context,
        source: Any = None,
        facts: Callable[[], dict[str, Any]] = dict,
    ) -> None:
        """Report in its context what a handler raised; beyond Exception, keep it and shut down.

        Args:
            what: What failed, for the log.
            error: The exception.
            handler: The function that raised it.
            context: What it ran in.
            source: What it was about, for the error handler: a WebSocket, a Response, or None.
            facts: Returns the attributes of the log record.
        """
        if not isinstance(error, Exception):
            self.stash(error)
            return
        log = partial(log_failure, what, error, handler, facts())
        run_in(context, self.report, "logging", log)
        if self.error_handler is not None:
            hook = partial(_run_hook, self.error_handler, error, source)
            run_in(context, self.report, "the error handler", hook)

    def report(self, what: str, report: Callable[[], Any]) -> None:
        """Run a report, which is the program's code itself, and may fail."""
        try:
            report()
        except Exception as error:
            try:
                logger.error("exception in %s", what, exc_info=error)
            except Exception:
                complain(error)
        except BaseException as error:
            self.stash(error)

    def stash(self, error: BaseException) -> None:
        """Keep the first such exception for `run` to raise, and shut down."""
        if self._stashed is None:
            self._stashed = error
        if self.server and self.state in OPEN:
            self.shutdown(GOING_AWAY, SHUTDOWN_REASON.encode(), 5000)

    def raise_stashed(self) -> None:
        """Raise the exception that was kept, if there is one."""
        stashed, self._stashed = self._stashed, None
        if stashed is not None:
            raise stashed

    # ---- other processes ------------------------------------------------------------------------

    def supervise(self, crew: Crew) -> None:
        """From now on the workers serve, and this process only watches over them."""
        self.crew = crew
        self.set_state(State.SUPERVISING)
        self.own(0)

    def end_supervision(self) -> None:
        """The workers have ended, and `finish` follows."""
        self.crew = None
        self.deferred.clear()
        self.set_state(State.FINISHING)
        lib.ws_server_run(self.server)  # ends the shutdown: it may listen and run again

    def abandon(self) -> None:
        """This is the child of a fork: leave the server to the parent."""
        if not self.server or self.state is State.FORKED:
            return
        busy = self.is_busy and self.crew is None  # the child may be inside a call of C
        if self.crew is not None:
            self.crew.let_go()
        self.crew, self._lock = None, threading.RLock()  # another thread may have held it
        self.set_state(State.FORKED)
        self.own(0)
        self.deferred, self.timers = deque(), self._new_timers()
        epoll_fd = lib.ws_server_fd(self.server)
        theirs = self.watches.descriptors()  # the program's, which may need them here
        ours = {*watched(epoll_fd), epoll_fd, *(self.member.descriptors if self.member else ())}
        self.watches, self.member = self._new_watches(), None
        let_go([fd for fd in ours if fd not in theirs], busy)
        if self.host is not None:
            let_go(self.host.forget(), True)

    def renew(
        self,
        worker: int,
        add_routes: Callable[[], Any],
        listeners: list[dict[str, Any]],
        timers: Timers,
        watches: Watches,
        deferred: deque[Deferred],
    ) -> None:
        """This is a worker: make a server of its own.

        Args:
            worker: Its number, from 1.
            add_routes: Prepares the server and adds the routes of the app to it.
            listeners: What to listen on: fields of ws_listen_options.
            timers: What was delayed before the fork.
            watches: The descriptors that were watched before the fork.
            deferred: What was deferred before the fork.
        """
        self.set_state(State.IDLE)
        self.worker = worker
        self._creator = thread_ident()
        self.own(self._creator)
        self._woken, self.nested, self._stashed = 0.0, 0, None
        self._set_server(self._new_server())
        add_routes()
        for settings in listeners:
            calls.listen(self.server, settings)
        self.timers = timers
        timers.move()
        self.watches = watches
        watches.move()
        for context, fn, args in deferred:
            context.run(self.postpone, fn, *args)


def _run_hook(hook: Handler, error: BaseException, source: Any) -> None:
    mistakes.check_result("the error handler", hook, hook(error, source))


# ---- called by C --------------------------------------------------------------------------------


def _log(user: int, level: int, line: Any, length: int) -> None:
    try:
        logger.log(level, "%s", line[:length].decode("ascii", "replace"))
    except BaseException as error:
        complain(error)


def _run(key: int, work: Callable[[Runtime], None]) -> None:
    runtime = runtimes.get(key)
    if runtime is not None:
        try:
            work(runtime)
        except BaseException as error:  # from a signal handler of the program, or no memory
            what = "a callback of the event loop"
            runtime.handler_failed(what, error, None, runtime.context)


def _on_deferred(key: int) -> None:
    _run(key, Runtime.run_deferred)


def _on_alarm(key: int) -> None:
    _run(key, lambda runtime: runtime.timers.run())


def _on_watch(fd: int, ready: int, key: int) -> None:
    _run(key, lambda runtime: runtime.watches.run(fd, ready))


LOG = _native.log_function(_log)
ON_DEFERRED = _native.plain_function(_on_deferred)
ON_ALARM = _native.plain_function(_on_alarm)
ON_WATCH = _native.watch_function(_on_watch)

# ---- the end ------------------------------------------------------------------------------------


def _free_all() -> None:
    """At exit, while callbacks still work. A server that is inside `run` is left alone."""
    for runtime in list(runtimes.values()):
        runtime.leave_closed_loop()
        if not runtime.is_busy:
            runtime.free()


atexit.register(_free_all)
