"""`App.run` with several workers: processes that serve the same places, and the one over them.

The parent has bound the places already, and goes on to hold them, but never accepts. Each worker
is a fork of it with a server of its own. It accepts from two kinds of sockets: those of the parent,
which all workers share, so that nothing is lost that came before the first or after the last of
them; and sockets of its own on the same ports (SO_REUSEPORT), among which the kernel spreads the
connections evenly. The parent makes these, too: while a worker is replaced they wait there.
"""

from __future__ import annotations

import errno
import fcntl
import os
import select
import signal
import socket
import struct
import sys
import threading
import time
from _socket import socket as Socket  # eventlet replaces the other one, and asks it for no family
from contextlib import suppress
from contextvars import copy_context
from typing import TYPE_CHECKING, Any, Callable, NoReturn, cast

from .._native import lib
from .fork import FORKED, watched
from .logs import logger
from .signals import Signals, watching

if TYPE_CHECKING:
    from ..app import App

__all__ = ["Crew", "supervise"]

FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0  # seconds until a worker is replaced; doubles
LONGEST_WAIT = 1.0  # seconds of that for connections at the sockets of its own
LONG_LIFE = 10.0  # seconds after which that begins anew
GRACE = 3.0  # seconds beyond the timeout of a shutdown, for handlers that are under way
ORPHAN_TIME = 10  # seconds that a worker has when the parent is gone

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # they pass
_DEFAULT_BACKLOG = 1024
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
_SUPERVISES = "the workers of run() serve, this process only watches over them"


def supervise(app: App, count: int) -> None:
    """`App.run` in `count` processes."""
    app._check_idle()
    _check_alone(count)
    crew = Crew(app, count)
    app._begin(None)
    try:
        app._crew = crew
        app._rest(_SUPERVISES)
        crew.run()
    finally:
        if app._crew is crew:  # else this is a forked child, by a signal handler of the program's
            crew.bury()
            app._crew, app._inert = None, ""
            app._deferred.clear()
            lib.ws_server_run(app._server)  # ends the shutdown: it may listen and run again
            app._finish()
    app._raise_stashed()


def _check_alone(count: int) -> None:
    """RuntimeError where a child would miss something that this process has."""
    asyncio = sys.modules.get("asyncio")
    if asyncio is not None and asyncio._get_running_loop() is not None:
        raise RuntimeError(f"run(workers={count}) must not be called inside an asyncio loop")
    this = threading.current_thread()
    others = ", ".join(thread.name for thread in threading.enumerate() if thread is not this)
    if others:
        raise RuntimeError(
            f"run(workers={count}) forks, where threads would be lost ({others}): "
            "start them in the workers, for example by app.defer(thread.start)"
        )


class Place:
    """Where one worker belongs."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0  # 0: none is there
        self.life = -1  # writing end of a pipe: the worker ends when that is gone
        self.sockets: list[Socket] = []  # that only this worker accepts from
        self.born = 0.0
        self.delay = 0.0  # before the last start
        self.due = 0.0  # when to start one

    def let_go(self) -> None:
        """There is no worker any more."""
        os.close(self.life)
        self.pid, self.life = 0, -1

    def put_off(self, delay: float) -> None:
        """The next worker starts then."""
        self.delay, self.due = delay, time.monotonic() + delay
        if delay > LONGEST_WAIT:  # the others serve those who come meanwhile
            self.close_sockets()

    def close_sockets(self) -> None:
        for own in self.sockets:
            own.close()
        self.sockets.clear()


class Crew:
    """The workers of an App. To `Signals` it is what an asyncio loop would be."""

    def __init__(self, app: App, count: int) -> None:
        """OSError: out of descriptors."""
        self._app = app
        self._places = [Place(number) for number in range(1, count + 1)]
        self._shared = [Socket(fileno=os.dup(fd)) for fd in watched_listeners(app)]
        tcp = (socket.AF_INET, socket.AF_INET6)
        self._ports = [one for one in self._shared if one.family in tcp]
        # A child forgets those of the app.
        self._deferred, self._timers = app._deferred, app._timers
        self._wakes: tuple[int, Callable[[], Any]] | None = None  # a descriptor, what to do then
        self._calls: list[Callable[[], Any]] = []  # of signal handlers
        self._old_child: Any = None  # what SIGCHLD did before
        self._stopping = False
        self._deadline = float("inf")
        self._forks = False  # a worker: any other child is to let go of everything

    # ---- what Signals needs ---------------------------------------------------------------------

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        self._wakes = (fd, lambda: callback(*args))

    def remove_reader(self, fd: int) -> None:
        self._wakes = None

    def call_soon_threadsafe(self, callback: Callable[[], Any]) -> None:
        self._calls.append(callback)

    # ---- the parent -----------------------------------------------------------------------------

    def run(self) -> None:
        """Until all workers have ended after `stop`."""
        with Signals(self._app, cast(Any, self)):
            self._old_child = signal.signal(signal.SIGCHLD, lambda *_: None)
            try:
                self._watch()
            finally:
                signal.signal(signal.SIGCHLD, self._old_child or signal.SIG_DFL)

    def _watch(self) -> None:
        failed = False
        for place in self._places:  # all of them before any worker: none is to get more at first
            place.sockets = self._own_sockets()
        while True:
            try:
                if self._app._crew is not self:
                    raise RuntimeError(FORKED)
                while self._calls:
                    self._calls.pop(0)()
                if not self._tend():
                    return
                self._wait()
            except BaseException as error:  # from a signal handler of the program's
                if failed or self._app._crew is not self:
                    raise
                failed = True
                self._app._stash(error)
                self.stop(5)

    def _tend(self) -> bool:
        """Do what is to be done now; False: all is over."""
        for place in self._places:
            if place.pid:
                self._look_after(place)
        now = time.monotonic()
        if self._stopping:
            if now >= self._deadline:
                self._kill()
            return any(place.pid for place in self._places)
        for place in self._places:
            if not place.pid and place.due <= now:
                self._start(place)
        return True

    def _wait(self) -> None:
        """Until a signal came, or the next thing is due."""
        assert self._wakes is not None
        fd, drain = self._wakes
        due = [place.due for place in self._places if not place.pid and not self._stopping]
        rest = min([*due, self._deadline]) - time.monotonic()
        timeout = None if rest == float("inf") else max(rest, 0) + 0.001
        if _readable(fd, timeout) and self._app._crew is self:
            drain()

    def _look_after(self, place: Place) -> None:
        """Has it ended? Then another one is due, after a delay."""
        pid, status = os.waitpid(place.pid, os.WNOHANG)
        if not pid:
            return
        place.let_go()
        if self._stopping:
            if status:
                logger.info("worker %d (pid %d) ended by %s", place.number, pid, _reason(status))
            return
        long = time.monotonic() - place.born >= LONG_LIFE
        place.put_off(FIRST_DELAY if long else _next_delay(place.delay))
        logger.warning(
            "worker %d (pid %d) ended by %s, the next one starts in %.1f s",
            place.number,
            pid,
            _reason(status),
            place.delay,
        )

    def _start(self, place: Place) -> None:
        if not place.sockets:
            place.sockets = self._own_sockets()
        try:
            read_end, place.life = os.pipe()
        except OSError as error:
            place.put_off(_next_delay(place.delay))
            logger.error("worker %d cannot start: %s", place.number, error)
            return
        _flush()  # what waits there is not to be written twice
        parent = os.getpid()
        # Handlers of the parent's must not run in the child.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._forks = True
        try:
            place.pid = os.fork()
            if place.pid == 0:
                self._become_worker(place, parent, read_end, mask)
            place.born = time.monotonic()
        except OSError as error:
            place.let_go()
            place.put_off(_next_delay(place.delay))
            logger.error("worker %d cannot start: %s", place.number, error)
            return
        finally:
            self._forks = False
            os.close(read_end)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        logger.info("worker %d (pid %d) started", place.number, place.pid)

    def _own_sockets(self) -> list[Socket]:
        """One more listening socket for each port."""
        sockets: list[Socket] = []
        for shared in list(self._ports):
            try:
                sockets.append(_twin(shared))
            except OSError as error:  # it was another user's, or comes from another program
                if error.errno in _SHORTAGES:
                    break
                self._ports.remove(shared)
                place = shared.getsockname()[:2]
                logger.info("all workers share one socket at %s port %d: %s", *place, error)
        return sockets

    def stop(self, seconds: float) -> None:
        """End all workers soon; kill those that are there long after this time.

        A signal handler may call it in the midst of anything.
        """
        self._calls.append(lambda: self._stop(seconds))

    def _stop(self, seconds: float) -> None:
        if not self._stopping:
            self._stopping = True
            lib.ws_server_shutdown(self._app._server, 1001, b"", 0, 0)  # closes its listeners
            self._close_sockets()
            self._send(signal.SIGTERM)
        if seconds == 0:
            self._drop()
        self._deadline = min(self._deadline, time.monotonic() + seconds + GRACE)

    def _close_sockets(self) -> None:
        for shared in self._shared:
            shared.close()
        for place in self._places:
            place.close_sockets()

    def _send(self, number: int) -> None:
        for place in self._places:
            if place.pid:  # not waited for yet: it cannot be anybody else's
                os.kill(place.pid, number)

    def _drop(self) -> None:
        """They shall drop everything: SIGINT may come to them from elsewhere, too."""
        for place in self._places:
            if place.pid:
                with suppress(OSError):  # it has ended
                    os.write(place.life, b"!")

    def let_go(self) -> None:
        """This is a child that is no worker."""
        if self._forks:
            return
        self._close_sockets()
        for place in self._places:
            if place.life >= 0:
                os.close(place.life)
        self._places = []  # the workers are the parent's, to watch and to end

    def _kill(self) -> None:
        for place in self._places:
            if place.pid:
                logger.warning(
                    "worker %d (pid %d) did not end, it is killed", place.number, place.pid
                )
        self._send(signal.SIGKILL)
        self._deadline = float("inf")

    def bury(self) -> None:
        """Whatever has happened, nothing is left."""
        self._stop(0)
        self._send(signal.SIGKILL)
        for place in self._places:
            if place.pid:
                os.waitpid(place.pid, 0)
                place.let_go()

    # ---- the child ------------------------------------------------------------------------------

    def _become_worker(self, place: Place, parent: int, read_end: int, mask: Any) -> NoReturn:
        """Serve, and end the process: nothing of the parent's is to be done here at its exit."""
        status = 1
        try:
            signal.signal(signal.SIGCHLD, self._old_child or signal.SIG_DFL)
            for other in self._places:
                if other.life >= 0:
                    os.close(other.life)
                if other is not place:
                    other.close_sockets()
            _end_with(parent, read_end)
            listeners = [one.detach() for one in (*self._shared, *place.sockets)]
            # A signal waits until `Signals` is there: before, it would do what it did before `run`.
            args = (signal.SIG_SETMASK, mask)
            self._deferred.appendleft((copy_context(), signal.pthread_sigmask, args))
            self._app._renew(self._deferred, self._timers, listeners)
            status = _serve(self._app)
        except BaseException:
            logger.exception("worker %d (pid %d) cannot serve", place.number, os.getpid())
        finally:
            os._exit(status)


def watched_listeners(app: App) -> list[int]:
    """The descriptors on which the server of an App listens. OSError: there is no /proc."""
    descriptors = watched(lib.ws_server_fd(app._server))
    if not descriptors:
        raise OSError("run() with workers needs /proc, to find the sockets that listen")
    return [fd for fd in descriptors if _listens(fd)]


def _listens(fd: int) -> bool:
    copy = os.dup(fd)
    try:
        one = Socket(fileno=copy)
    except OSError:  # no socket
        os.close(copy)
        return False
    try:
        return one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0
    finally:
        one.close()


def _twin(shared: Socket) -> Socket:
    """Another socket that listens at the same port. OSError."""
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    twin = Socket(shared.family, socket.SOCK_STREAM)
    try:
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        twin.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if shared.family == socket.AF_INET6:
            only = shared.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            twin.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        twin.bind(shared.getsockname())
        twin.listen(_backlog(shared))
    except BaseException:
        twin.close()
        raise
    return twin


def _backlog(listener: Socket) -> int:
    """What it was given: of a socket that listens, tcpi_sacked is that (tcp(7))."""
    offset = 8 + 5 * 4
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, offset + 4)
    known = len(info) == offset + 4
    return (struct.unpack_from("@I", info, offset)[0] if known else 0) or _DEFAULT_BACKLOG


def _readable(fd: int, timeout: float | None) -> bool:
    """Wait for it. With gevent and eventlet other greenlets run meanwhile."""
    if not hasattr(select, "poll"):  # eventlet takes it away
        return bool(select.select([fd], [], [], timeout)[0])
    poll = select.poll()
    poll.register(fd, select.POLLIN)
    return bool(poll.poll(None if timeout is None else int(timeout * 1000)))


def _next_delay(delay: float) -> float:
    return min(max(2 * delay, FIRST_DELAY), LONGEST_DELAY)


def _reason(status: int) -> str:
    """What a status of waitpid means."""
    if not os.WIFSIGNALED(status):
        return f"exit status {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _end_with(parent: int, read_end: int) -> None:
    """Do what the parent says: a byte in that pipe is its second SIGINT.

    Shut down when it is gone: the kernel then closes the other end.
    """

    def told(number: int, frame: Any) -> None:
        with suppress(BlockingIOError):
            if os.read(read_end, 1):
                if watching:
                    watching[-1].note(signal.SIGINT, frame)
                return
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(ORPHAN_TIME)  # nobody else would end a handler that goes on for ever
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGIO, told)
    fcntl.fcntl(read_end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(read_end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    if os.getppid() != parent:
        os._exit(1)


def _serve(app: App) -> int:
    """Run the app; the exit status, as the interpreter would choose it."""
    status = 0
    try:
        app.run()
    except SystemExit as error:
        status = _exit_status(error.code)
    except KeyboardInterrupt:
        status = 128 + signal.SIGINT
    except BaseException:
        logger.exception("exception in worker with pid %d", os.getpid())
        status = 1
    cast(Any, threading)._shutdown()
    _flush()
    return status


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        with suppress(Exception):  # there may be none, and nobody may read it
            stream.flush()


def _exit_status(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1
