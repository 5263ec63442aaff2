# SPDX-License-Identifier: MIT
"""Signal handlers that raise in the midst of pyws: no object keeps the address of what is freed.

Python runs signal handlers between any two bytecodes. Here a trace function stands for one: it
raises at the first event of a call into pyws, in the next round at the second one, and so on.
"""

import contextlib
import dis
import ssl
import sys
from pathlib import Path
from types import FrameType
from typing import Any, Callable, Dict, Iterator, List, Optional

import peer
import pytest
from common import ROOT
from peer import Peer, eventually

from pyws import App, AppOptions, Request, Response

Serve = Callable[..., Any]
Act = Callable[[Response], Any]

# Where a callback of C is interrupted.
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")

PACKAGE = str(ROOT / "pyws")
IS_CPYTHON = sys.implementation.name == "cpython"
GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
MEMORY = 2_000_000
FILE = Path(__file__)


class Interrupted(Exception):
    """What the signal handler raises."""


class Interruption:
    """A trace function that raises once, at the nth event inside pyws."""

    def __init__(self, number: int, within: str = "") -> None:
        """
        Args:
            number: Which event, from 1.
            within: Only events in a function with this name count, and in what it calls.
        """
        self.number = number
        self.events = 0
        self._within = within
        self._operations: Dict[FrameType, str] = {}  # the last one in each frame
        self._is_inside = not within

    @property
    def happened(self) -> bool:
        return self.events >= self.number

    def __call__(self, frame: FrameType, event: str, argument: Any) -> Optional["Interruption"]:
        if not frame.f_code.co_filename.startswith(PACKAGE):
            return None
        if frame.f_code.co_name == self._within:
            self._is_inside = event != "return"
        frame.f_trace_opcodes = IS_CPYTHON
        if self._is_inside and self._is_after_a_change(frame, event):
            self.events += 1
            if self.events == self.number:
                raise Interrupted
        return self

    def _is_after_a_change(self, frame: FrameType, event: str) -> bool:
        """Whether the state may be another one than at the event before."""
        if not IS_CPYTHON or event != "opcode":
            return event == "call" or (event == "line" and not IS_CPYTHON)
        before = self._operations.get(frame, "")
        self._operations[frame] = dis.opname[frame.f_code.co_code[frame.f_lasti]]
        return before.startswith(("CALL", "STORE", "DELETE"))

    @contextlib.contextmanager
    def around(self) -> Iterator[None]:
        sys.settrace(self)
        try:
            yield
        except Interrupted:
            pass
        finally:
            sys.settrace(None)


def everything(client: Peer) -> bool:
    """Read what the server has sent; returns whether it has ended the connection."""
    client.socket.settimeout(0)
    try:
        while client.fill():
            pass
    except (BlockingIOError, ssl.SSLWantReadError):
        return False
    except OSError:  # it was reset
        pass
    return True


def touch(res: Response, req: Request) -> None:
    """Call all that would use the address of a request."""
    for use in (
        req.get_url,
        req.get_headers,
        res.get_remote_address,
        lambda: res.on_data(lambda res, chunk, last: None),
        res.pause,
        res.resume,
        lambda: res.write("late"),
        lambda: res.try_end("late"),
        res.events,
        lambda: res.send_file(FILE),
        lambda: res.send("late", 404, {"X-A": "b"}),
        lambda: res.end("late"),
        res.close,
    ):
        with contextlib.suppress(RuntimeError, ValueError):
            use()


class Rounds:
    """One request for each event at which its answer can be interrupted."""

    def __init__(self, serve: Serve, upgrades: bool = False) -> None:
        self.kept: List[Any] = []
        self.upgrades = upgrades
        options = AppOptions(max_memory=MEMORY)
        self.server = serve(self._configure, options)

    def _configure(self, app: App) -> None:
        if self.upgrades:
            app.ws("/", upgrade=self._keep)
        else:
            app.get("/", self._keep)

    def _keep(self, res: Response, req: Request, *more: Any) -> None:
        res.on_aborted(lambda res: None)
        self.kept[:] = res, req

    def begin(self, client: Peer) -> None:
        """Send a request, whose answer is deferred."""
        self.kept.clear()
        client.send(peer.handshake("/") if self.upgrades else GET)
        eventually(lambda: self.kept)
        self.server.call(lambda: None)  # the handler has returned

    def connections(self) -> int:
        return int(self.server.call(self.server.app.stats)["connections"])

    def check(self, is_over: bool) -> None:
        """Whatever Python knows of the request, it does not use what is freed."""
        res, req = self.kept
        if is_over:
            assert res.has_responded or res.aborted
            with pytest.raises(RuntimeError, match="is over"):
                req.get_url()
        touch(res, req)


ANSWERS = {
    "end": lambda res: res.end("done"),
    "end, by Python": lambda res: res.end(bytearray(b"done")),
    "send": lambda res: res.send("done", 200, {"X-A": "b"}),
    "a short file": lambda res: res.send_file(FILE.parent / "common.py"),
    "a long file": lambda res: res.send_file(ROOT / "pyws" / "_core" / "requests.py"),
    "in parts": lambda res: (res.write("not "), res.end("done")),
    "no answer": lambda res: res.close(),
    "no memory": lambda res: res.end(b"x" * (15 * MEMORY)),
}


def is_whole(answer: bytes) -> bool:
    """Whether all of an answer has arrived."""
    head, _, body = answer.partition(b"\r\n\r\n")
    if b"Transfer-Encoding: chunked" in head:
        return body.endswith(b"0\r\n\r\n")
    name, length = b"Content-Length: ", 0
    for line in head.split(b"\r\n"):
        if line.startswith(name):
            length = int(line[len(name) :])
    return bool(head) and len(body) >= length


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_that_is_interrupted(serve: Serve, answer: Act) -> None:
    rounds = Rounds(serve)
    over, number, happened = 0, 0, True
    while happened:
        number += 1
        interruption = Interruption(number)

        def act() -> None:
            with interruption.around(), contextlib.suppress(MemoryError):  # noqa: B023
                answer(rounds.kept[0])

        with Peer(rounds.server.port) as client:
            rounds.begin(client)
            rounds.server.call(act)
            rounds.server.call(lambda: None)
            is_over = everything(client) or is_whole(client.buffer)
            rounds.server.call(rounds.check, is_over)
            over += is_over
        happened = interruption.happened
    assert 1 < over <= number


def test_an_upgrade_that_is_interrupted(serve: Serve) -> None:
    rounds = Rounds(serve, upgrades=True)
    over, number, happened = 0, 0, True
    while happened:
        number += 1
        interruption = Interruption(number)

        def act() -> None:
            with interruption.around():  # noqa: B023
                rounds.kept[0].upgrade()

        with Peer(rounds.server.port) as client:
            rounds.begin(client)
            rounds.server.call(act)
            rounds.server.call(lambda: None)
            is_over = everything(client) or bool(client.buffer)
            rounds.server.call(rounds.check, is_over)
            over += is_over
        happened = interruption.happened
    assert 1 < over <= number


def test_an_abort_that_is_interrupted(serve: Serve) -> None:
    """The client leaves, and the handler of on_aborted, or what comes before it, does not run."""
    rounds = Rounds(serve)
    number, happened = 0, True
    while happened:
        number += 1
        interruption = Interruption(number, "on_aborted")
        with Peer(rounds.server.port) as client:
            rounds.begin(client)
            rounds.server.call(sys.settrace, interruption)
            client.reset()
        eventually(lambda: rounds.connections() == 0)
        rounds.server.call(sys.settrace, None)
        rounds.server.call(rounds.check, True)
        happened = interruption.happened
    assert number > 10
