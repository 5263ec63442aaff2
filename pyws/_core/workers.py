# SPDX-License-Identifier: MIT
"""`App.run` with several workers: processes that serve the same addresses, and the parent of them.

The parent has bound the addresses already and still holds them, but never accepts. Each worker is a
fork of it with a server of its own. It accepts from two kinds of sockets: those of the parent,
which all workers share, so that no connection is lost that comes before the first worker or after
the last; and sockets of its own on the same ports (SO_REUSEPORT), among which the kernel spreads
connections evenly. The parent makes these, too: there connections wait while a worker is replaced.
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
from typing import Any, Callable, NamedTuple, NoReturn, Sequence, cast

from .._native import lib
from . import calls
from . import runtime as base
from .bus import Inboxes
from .descriptors import watched
from .life import Life
from .logs import logger, server_logger
from .runtime import Runtime
from .signals import Signals, watching

__all__ = ["Crew", "supervise"]

FIRST_DELAY, LONGEST_DELAY = 0.1, 5.0  # seconds until a worker is replaced; doubles
LONGEST_WAIT = 1.0  # seconds of that for connections at the sockets of its own
LONG_LIFE = 10.0  # seconds after which that begins anew
GRACE = 3.0  # seconds beyond the timeout of a shutdown, for handlers that are under way
ORPHAN_TIME = 10  # seconds that a worker has when the parent is gone

_SHORTAGES = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)  # they pass
_DEFAULT_BACKLOG = 1024
_SO_BINDTODEVICE = getattr(socket, "SO_BINDTODEVICE", 25)  # PyPy does not have it
_DEVICE_SIZE = 16  # IFNAMSIZ
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGCHLD)
_FAILURE, _RELOAD = "failure", "reload"  # what workers announce


def supervise(
    runtime: Runtime, life: Life, count: int, add_routes: Callable[[], Any], run: Callable[[], Any]
) -> None:
    """`App.run` in several processes.

    Args:
        runtime: The runtime of the app.
        life: Its start and stop functions.
        count: How many workers there are.
        add_routes: Adds the routes of the app to the server of a worker.
        run: `App.run` in a worker.

    Raises:
        RuntimeError: Something runs the app, an asyncio loop runs here, there are other threads, or
            connections that were adopted.
        OSError: There are no descriptors left.
    """
    runtime.check_idle()
    _check_alone(count)
    adopted = calls.counts(runtime.server).numbers["connections"]
    if adopted:
        raise RuntimeError(
            f"run(workers={count}) serves in other processes, and this one has adopted {adopted} "
            "connection(s): adopt in the workers, as in an on_start function"
        )
    crew = Crew(runtime, life, count, add_routes, run)
    runtime.begin(None)
    try:
        runtime.supervise(crew)
        server_logger.info("serving")
        crew.run()
    finally:
        if runtime.crew is crew:  # otherwise a signal handler of the program forked this child
            crew.bury()
            runtime.end_supervision()
            runtime.finish()
    runtime.raise_stashed()


def _check_alone(count: int) -> None:
    """Raise RuntimeError if this process has something that a child would miss."""
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


class Listener(NamedTuple):
    """A listening socket.

    Attributes:
        socket: The socket.
        settings: The fields of ws_listen_options for it, without `fd`.
    """

    socket: Socket
    settings: dict[str, Any]


class Slot:
    """One worker, or the next one in its stead.

    Attributes:
        number: From 1, for the log.
        pid: The process; 0 while there is none.
        life: The writing end of a pipe; the worker ends when it is closed. -1: there is none.
        epoch: What tells the worker from others in this slot.
        sockets: The sockets that only this worker accepts from.
        has_started: A worker has been here whose start functions did not fail.
        born: When the worker was started, as time.monotonic().
        delay: Seconds that the last start was delayed.
        due: When to start the next one, as time.monotonic().
    """

    def __init__(self, number: int) -> None:
        self.number = number
        self.pid = 0
        self.life = -1
        self.epoch = 0
        self.sockets: list[Listener] = []
        self.has_started = False
        self.born = 0.0
        self.delay = 0.0
        self.due = 0.0

    def let_go(self) -> None:
        """The worker has ended."""
        os.close(self.life)
        self.pid, self.life = 0, -1

    def put_off(self, delay: float) -> None:
        """Start the next worker after `delay` seconds."""
        self.delay, self.due = delay, time.monotonic() + delay
        if delay > LONGEST_WAIT:  # the others serve whoever comes meanwhile
            self.close_sockets()

    def close_sockets(self) -> None:
        for own in self.sockets:
            own.socket.close()
        self.sockets.clear()


class Crew(base.Crew):
    """The workers of an app. It takes the part of an asyncio loop for `Signals`."""

    def __init__(
        self,
        runtime: Runtime,
        life: Life,
        count: int,
        add_routes: Callable[[], Any],
        run: Callable[[], Any],
    ) -> None:
        """See `supervise`. Raises OSError if there are no descriptors left."""
        self._runtime = runtime
        self._life = life
        self._add_routes = add_routes
        self._run = run
        self._slots = [Slot(number) for number in range(1, count + 1)]
        self._shared = [
            Listener(Socket(fileno=os.dup(fd)), runtime.listeners.get(fd, {}))
            for fd in watched_listeners(runtime)
        ]
        tcp = (socket.AF_INET, socket.AF_INET6)
        self._ports = [one for one in self._shared if one.socket.family in tcp]
        # A child forgets those of its runtime.
        self._deferred, self._timers = runtime.deferred, runtime.timers
        self._watches = runtime.watches
        self._inboxes = Inboxes(0)
        self._wakes: tuple[int, Callable[[], Any]] | None = None  # a descriptor, what to do then
        self._calls: list[Callable[[], Any]] = []  # of signal handlers
        self._old_child: Any = None  # what SIGCHLD did before
        self._failures: dict[int, str] = {}  # number of a slot -> why its worker cannot start
        self._news: tuple[int, ...] = ()  # a pipe: workers write there why, and what they reload
        self._stopping = self._draining = False
        self._deadline = float("inf")
        self._forks = False  # a worker; any other child leaves everything to this process

    # ---- what Signals needs ---------------------------------------------------------------------

    def add_reader(self, fd: int, callback: Callable[..., Any], *args: Any) -> None:
        self._wakes = (fd, lambda: callback(*args))

    def remove_reader(self, fd: int) -> None:
        self._wakes = None

    def call_soon_threadsafe(self, callback: Callable[[], Any]) -> None:
        self._calls.append(callback)

    # ---- the parent -----------------------------------------------------------------------------

    def run(self) -> None:
        """Start and replace workers until all have ended after `stop`."""
        with Signals(self._runtime, cast(Any, self)):
            self._old_child = signal.signal(signal.SIGCHLD, lambda *_: None)
            try:
                self._watch()
            finally:
                signal.signal(signal.SIGCHLD, self._old_child or signal.SIG_DFL)

    def _watch(self) -> None:
        failed = False
        self._news = os.pipe()
        self._inboxes = Inboxes(len(self._slots))
        for slot in self._slots:  # before any worker starts, so that each gets its share
            slot.sockets = self._own_sockets()
        while True:
            try:
                if self._runtime.crew is not self:
                    raise RuntimeError(self._runtime.refusal)  # a forked child has come back
                while self._calls:
                    self._calls.pop(0)()
                if not self._tend():
                    return
                self._wait()
            except BaseException as error:  # from a signal handler of the program
                if failed or self._runtime.crew is not self:
                    raise
                failed = True
                self._runtime.stash(error)
                self.stop(5)

    def _tend(self) -> bool:
        """Do what is due now; returns False once everything has ended."""
        for slot in self._slots:
            if slot.pid:
                self._look_after(slot)
        now = time.monotonic()
        if self._stopping:
            if now >= self._deadline:
                self._kill()
            return any(slot.pid for slot in self._slots)
        for slot in self._slots:
            if not slot.pid and slot.due <= now:
                self._start(slot)
        return True

    def _wait(self) -> None:
        """Wait for a signal, or until something is due."""
        assert self._wakes is not None
        fd, drain = self._wakes
        news = self._news[0]
        due = [slot.due for slot in self._slots if not slot.pid and not self._stopping]
        rest = min([*due, self._deadline]) - time.monotonic()
        timeout = None if rest == float("inf") else max(rest, 0) + 0.001
        ready = _readable((fd, news), timeout)
        if self._runtime.crew is self:
            if fd in ready:
                drain()
            if news in ready:
                self._read_news()

    def _look_after(self, slot: Slot) -> None:
        """If the worker has ended, start another one after a delay."""
        pid, status = os.waitpid(slot.pid, os.WNOHANG)
        if not pid:
            return
        slot.let_go()
        self._inboxes.announce_end(slot.number - 1, slot.epoch)
        self._read_news()
        failure = self._failures.pop(slot.number, "")
        if failure and not slot.has_started and not self._stopping:
            what = f"worker {slot.number} (pid {pid}) cannot start: {failure}"
            self._runtime.stash(RuntimeError(what))
            self._stop(5)
        slot.has_started |= not failure
        if self._stopping:
            if status:
                logger.info("worker %d (pid %d) ended by %s", slot.number, pid, reason(status))
            return
        long = time.monotonic() - slot.born >= LONG_LIFE
        slot.put_off(FIRST_DELAY if long else next_delay(slot.delay))
        logger.warning(
            "worker %d (pid %d) ended by %s, the next one starts in %.1f s",
            slot.number,
            pid,
            reason(status),
            slot.delay,
        )

    def _read_news(self) -> None:
        if not _readable((self._news[0],), 0):  # eventlet's read would wait
            return
        for line in os.read(self._news[0], 65536).decode("utf-8", "replace").splitlines():
            kind, number, text = line.split(" ", 2)
            if kind == _FAILURE:
                self._failures[int(number)] = text
            elif not self._stopping:
                self._reload(text, int(number))

    def reload(self, order: str) -> None:
        """Use new certificates in this process and in all workers, as `tls.order` says.

        A signal handler may call it at any moment.
        """
        self._calls.append(lambda: self._reload(order))

    def _reload(self, order: str, done_by: int = 0) -> None:
        """Do so, except in the worker that has done it already."""
        from . import tls  # it takes long to import

        if tls.obey(self._runtime, order):
            others = [slot for slot in self._slots if slot.number != done_by]
            self._tell(b"reload %s\n" % order.encode(), others)

    def _start(self, slot: Slot) -> None:
        if not slot.sockets:
            slot.sockets = self._own_sockets()
        try:
            read_end, slot.life = os.pipe()
        except OSError as error:
            slot.put_off(next_delay(slot.delay))
            logger.error("worker %d cannot start: %s", slot.number, error)
            return
        _flush()  # or the child would write it again
        parent, slot.epoch = os.getpid(), self._inboxes.next_epoch()
        # Handlers of the parent must not run in the child.
        mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        self._forks = True
        try:
            slot.pid = os.fork()
            if slot.pid == 0:
                self._become_worker(slot, parent, read_end, mask)
            slot.born = time.monotonic()
        except OSError as error:
            slot.let_go()
            slot.put_off(next_delay(slot.delay))
            logger.error("worker %d cannot start: %s", slot.number, error)
            return
        finally:
            self._forks = False
            os.close(read_end)
            signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        logger.info("worker %d (pid %d) started", slot.number, slot.pid)

    def _own_sockets(self) -> list[Listener]:
        """Make one more listening socket for each port."""
        sockets: list[Listener] = []
        for shared in list(self._ports):
            try:
                sockets.append(Listener(twin(shared.socket), shared.settings))
            except OSError as error:  # another user or another program has bound it
                if error.errno in _SHORTAGES:
                    break
                self._ports.remove(shared)
                address = shared.socket.getsockname()[:2]
                logger.info("all workers share one socket at %s port %d: %s", *address, error)
        return sockets

    def stop(self, seconds: float, drain: float = 0) -> None:
        """End all workers soon, and kill those that are left long after this time.

        A signal handler may call it at any moment.

        Args:
            seconds: The time.
            drain: Seconds before that in which clients may finish.
        """
        self._calls.append(lambda: self._stop(seconds, drain))

    def _stop(self, seconds: float, drain: float = 0) -> None:
        if not self._stopping:
            self._stopping = self._draining = True
            # This closes the listening sockets; there are no connections.
            lib.ws_server_shutdown(self._runtime.server, base.GOING_AWAY, b"", 0, 0)
            self._close_sockets()
            if drain:
                server_logger.info("draining for at most %g s", drain)
        if drain:
            self._tell(b"%f\n" % drain)
        elif self._draining:
            self._draining = False
            if self._runtime.options.drain_on_signal:
                self._tell(b"end\n")
            else:
                self._signal_all(signal.SIGTERM)
        if seconds == 0 and not drain:
            self._drop()
        self._deadline = min(self._deadline, time.monotonic() + drain + seconds + GRACE)

    def _close_sockets(self) -> None:
        for shared in self._shared:
            shared.socket.close()
        for slot in self._slots:
            slot.close_sockets()

    def _signal_all(self, number: int) -> None:
        for slot in self._slots:
            if slot.pid:  # not waited for yet, so no other process can have it
                os.kill(slot.pid, number)

    def _drop(self) -> None:
        """Make the workers drop everything. Not by SIGINT, which a terminal sends them, too."""
        self._tell(b"drop\n")

    def _tell(self, what: bytes, slots: Sequence[Slot] | None = None) -> None:
        """Write a line to these workers, or to all; `_end_with` reads it."""
        for slot in self._slots if slots is None else slots:
            if slot.pid:
                with suppress(OSError):  # it has ended
                    os.write(slot.life, what)

    def let_go(self) -> None:
        """This is a forked child that is no worker."""
        if self._forks:
            return
        self._close_sockets()
        self._close_news()
        self._inboxes.close()
        for slot in self._slots:
            if slot.life >= 0:
                os.close(slot.life)
        self._slots = []  # it is for the parent to watch and to end the workers

    def _kill(self) -> None:
        for slot in self._slots:
            if slot.pid:
                logger.warning(
                    "worker %d (pid %d) did not end, it is killed", slot.number, slot.pid
                )
        self._signal_all(signal.SIGKILL)
        self._deadline = float("inf")

    def bury(self) -> None:
        """End all workers, whatever has happened."""
        self._stop(0)
        self._signal_all(signal.SIGKILL)
        for slot in self._slots:
            if slot.pid:
                os.waitpid(slot.pid, 0)
                slot.let_go()
        self._close_news()
        self._inboxes.close()

    def _close_news(self) -> None:
        for end in self._news:
            os.close(end)

    # ---- the child ------------------------------------------------------------------------------

    def _become_worker(self, slot: Slot, parent: int, read_end: int, mask: Any) -> NoReturn:
        """Serve, and end the process without what the parent does at its exit."""
        status = 1
        try:
            signal.signal(signal.SIGCHLD, self._old_child or signal.SIG_DFL)
            for other in self._slots:
                if other.life >= 0:
                    os.close(other.life)
                if other is not slot:
                    other.close_sockets()
            _end_with(parent, read_end, self._runtime)
            listeners = [
                {**settings, "fd": one.detach()} for one, settings in (*self._shared, *slot.sockets)
            ]
            self._runtime.tell_parent = lambda line: self._announce(_RELOAD, slot, line)
            # A signal waits until `Signals` handles it, and not as it was handled before `run`.
            self._runtime.signal_mask = mask
            self._runtime.renew(
                slot.number,
                lambda: self._prepare(slot),
                listeners,
                self._timers,
                self._watches,
                self._deferred,
            )
            status = _run_app(self._run)
            error = self._life.failure
            if error is not None:
                failure = " ".join(f"{type(error).__name__}: {error}".split())[:500]
                self._announce(_FAILURE, slot, failure)
        except BaseException:
            logger.exception("worker %d (pid %d) cannot serve", slot.number, os.getpid())
        finally:
            os._exit(status)

    def _announce(self, kind: str, slot: Slot, text: str) -> None:
        """Write a line to the parent; `_read_news` reads it."""
        os.write(self._news[1], f"{kind} {slot.number} {text}\n".encode("utf-8", "replace"))

    def _prepare(self, slot: Slot) -> None:
        """Connect the new server of a worker to the others, and add the routes."""
        runtime = self._runtime
        ended = [
            (other.number - 1, other.epoch)
            for other in self._slots
            if other is not slot and other.epoch and not other.pid
        ]
        runtime.member = self._inboxes.join(runtime.server, slot.number - 1, slot.epoch, ended)
        self._add_routes()


def watched_listeners(runtime: Runtime) -> list[int]:
    """The descriptors on which a server listens. Raises OSError without /proc."""
    descriptors = watched(lib.ws_server_fd(runtime.server))
    if not descriptors:
        raise OSError("run() with workers needs /proc, to find the sockets that listen")
    theirs = runtime.watches.descriptors()  # the program's
    return [fd for fd in descriptors if fd not in theirs and _listens(fd)]


def _listens(fd: int) -> bool:
    copy = os.dup(fd)
    try:
        one = Socket(fileno=copy)
    except OSError:  # it is no socket
        os.close(copy)
        return False
    try:
        return one.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) != 0
    finally:
        one.close()


def twin(shared: Socket) -> Socket:
    """Another socket that listens on the same port. Raises OSError."""
    shared.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    copy = Socket(shared.family, socket.SOCK_STREAM)
    try:
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        if shared.family == socket.AF_INET6:
            only = shared.getsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY)
            copy.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, only)
        device = shared.getsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, _DEVICE_SIZE)
        if device:
            copy.setsockopt(socket.SOL_SOCKET, _SO_BINDTODEVICE, device)
        copy.bind(shared.getsockname())
        copy.listen(backlog(shared))
    except BaseException:
        copy.close()
        raise
    return copy


def backlog(listener: Socket) -> int:
    """The backlog of a listening socket, which tcpi_sacked is there (tcp(7))."""
    offset = 8 + 5 * 4
    info = listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, offset + 4)
    known = len(info) == offset + 4
    return (struct.unpack_from("@I", info, offset)[0] if known else 0) or _DEFAULT_BACKLOG


def _readable(fds: Sequence[int], timeout: float | None) -> list[int]:
    """Wait until one of them is readable, and return those that are.

    With gevent and eventlet, other greenlets run meanwhile.
    """
    if not hasattr(select, "poll"):  # eventlet takes it away
        return select.select(fds, [], [], timeout)[0]
    poll = select.poll()
    for fd in fds:
        poll.register(fd, select.POLLIN)
    return [fd for fd, _ in poll.poll(None if timeout is None else int(timeout * 1000))]


def next_delay(delay: float) -> float:
    return min(max(2 * delay, FIRST_DELAY), LONGEST_DELAY)


def reason(status: int) -> str:
    """The meaning of a status of waitpid, for the log."""
    if not os.WIFSIGNALED(status):
        return f"exit status {os.WEXITSTATUS(status)}"
    number = os.WTERMSIG(status)
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal
        return f"signal {number}"


def _end_with(parent: int, read_end: int, runtime: Runtime) -> None:
    """Do what the parent says in the pipe: "end", "drop", "reload", or the seconds of a drain.

    Shut down when the parent has ended: the kernel closes the other end of the pipe then.
    """

    def on_pipe(number: int, frame: Any) -> None:
        with suppress(BlockingIOError):
            said = os.read(read_end, 65536)
            for line in said.splitlines() if watching else ():
                word, _, rest = line.partition(b" ")
                if word == b"end":
                    watching[-1].note_end()
                elif word == b"drop":
                    watching[-1].note(signal.SIGINT, frame)
                elif word == b"reload":
                    with suppress(RuntimeError):  # it has ended
                        runtime.defer(_obey, runtime, rest.decode())
                else:
                    watching[-1].note_drain(float(line))
            if said:
                return
            if watching:
                watching[-1].note_end()
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(ORPHAN_TIME)  # nothing else would end a handler that never returns
            os.kill(os.getpid(), signal.SIGTERM)

    signal.signal(signal.SIGIO, on_pipe)
    fcntl.fcntl(read_end, fcntl.F_SETOWN, os.getpid())
    fcntl.fcntl(read_end, fcntl.F_SETFL, os.O_ASYNC | os.O_NONBLOCK)
    if _readable((read_end,), 0):  # since the fork; there is no signal for that
        os.kill(os.getpid(), signal.SIGIO)
    if os.getppid() != parent:
        os._exit(1)


def _obey(runtime: Runtime, order: str) -> None:
    from . import tls  # it takes long to import

    tls.obey(runtime, order)


def _run_app(run: Callable[[], Any]) -> int:
    """Run the app; returns the exit status, as the interpreter would choose it."""
    status = 0
    try:
        run()
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
        with suppress(Exception):  # there may be no stream, or no one who reads it
            stream.flush()


def _exit_status(code: Any) -> int:
    if code is None:
        return 0
    if isinstance(code, int):
        return code & 0xFF
    print(code, file=sys.stderr)
    return 1
