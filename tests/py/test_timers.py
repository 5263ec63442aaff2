# SPDX-License-Identifier: MIT
"""``app.call_later``: order, repetition, cancelling, errors."""

import gc
import random
import threading
import time
import weakref
from typing import Any, Callable, Dict, List, Tuple

import peer
import pytest
from common import plain_only
from handlers import Oops, fail

from pyws import App
from pyws._native import lib

# ---- call_later ---------------------------------------------------------------------------------


def test_call_later_runs_in_the_order_of_time(serve: Callable[..., Any]) -> None:
    server = serve()
    seen: List[Any] = []
    begun = time.monotonic()

    def start() -> None:
        later = server.app.call_later
        later(0.15, seen.append, "last")
        later(0.05, lambda *args: seen.append(args), 1, 2)
        later(0, seen.append, "first")
        later(0.1, lambda: seen.append(threading.get_ident()))

    server.call(start)
    peer.eventually(lambda: len(seen) == 4)
    assert time.monotonic() - begun >= 0.15  # never early
    assert seen == ["first", (1, 2), server.thread.ident, "last"]


def test_call_later_keeps_the_order_of_equal_times(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    server = serve()
    seen: List[int] = []

    def start() -> None:
        now = time.monotonic_ns()
        with monkeypatch.context() as patch:
            patch.setattr(time, "monotonic_ns", lambda: now)
            for number in range(100):
                server.app.call_later(0.02, seen.append, number)

    server.call(start)
    peer.eventually(lambda: len(seen) == 100)
    assert seen == list(range(100))


def test_call_later_again_and_again(serve: Callable[..., Any]) -> None:
    """A call that puts itself off by 0 does not keep the others from running."""
    server = serve(message=lambda ws, message, opcode: ws.send(message))
    turns: List[int] = []

    def again() -> None:
        turns.append(1)
        if len(turns) < 1_000_000 and not done:
            server.app.call_later(0, again)

    done: List[int] = []
    with peer.upgraded(server.port) as client:
        server.call(again)
        for number in range(10):
            client.send(peer.frame(b"%d" % number))
            assert client.frame().payload == b"%d" % number
        peer.eventually(lambda: len(turns) > 1000)
        done.append(1)


@plain_only("keys of tickets have a timer, too")
def test_cancelled_calls_do_not_run(serve: Callable[..., Any]) -> None:
    server = serve()
    seen: List[str] = []
    kept: Dict[str, Any] = {}

    def start() -> None:
        later = server.app.call_later
        kept["first"] = later(0.02, seen.append, "first")
        kept["canceller"] = later(0.04, lambda: kept["same time"].cancel())
        kept["same time"] = later(0.04, seen.append, "same time")
        kept["behind it"] = later(0.04, seen.append, "behind it")
        kept["last"] = later(0.06, seen.append, "last")
        kept["first"].cancel()
        kept["first"].cancel()
        time.sleep(0.05)  # all but the last one are due in one turn

    server.call(start)
    peer.eventually(lambda: len(seen) == 2)
    assert seen == ["behind it", "last"]
    server.call(lambda: [timer.cancel() for timer in kept.values()])
    assert (server.app._runtime.timers.heap, server.app._runtime.timers.cancelled) == ([], 0)
    with pytest.raises(RuntimeError, match="defer"):
        kept["last"].cancel()


def test_cancelled_calls_leave_no_memory(serve: Callable[..., Any]) -> None:
    server = serve()
    timers = server.app._runtime.timers

    class Payload:
        pass

    def churn() -> Tuple[int, Any]:
        longest = 0
        payload = Payload()
        server.app.call_later(1000, print)
        for _ in range(20_000):
            server.app.call_later(2000, print, payload).cancel()
            longest = max(longest, len(timers.heap))
        return longest, weakref.ref(payload)

    longest, reference = server.call(churn)
    assert longest < 200
    gc.collect()
    assert reference() is None
    handles = server.call(lambda: [server.app.call_later(500 + n, print) for n in range(1000)])
    random.Random(5).shuffle(handles)
    server.call(lambda: [handle.cancel() for handle in handles])
    assert len(timers.heap) < 200

    def last() -> Any:
        payload = Payload()
        handles.append(server.app.call_later(0, id, payload))
        return weakref.ref(payload)

    reference = server.call(last)
    peer.eventually(lambda: gc.collect() is not None and reference() is None)


def test_an_early_alarm_is_set_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """The library's clock is read once in a turn: it may be ahead of the time of a call."""
    alarms: List[int] = []
    with App() as app:
        app.call_later(1000, print)
        with monkeypatch.context() as patch:
            patch.setattr(lib, "ws_server_set_alarm", lambda s, delay, *more: alarms.append(delay))
            app._runtime.timers.run()
            app._runtime.timers.run()
    assert [delay // 10**9 for delay in alarms] == [999, 999]


def test_cancelling_the_first_call_moves_the_alarm(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """1.3: no timer without need. Only the first call that is still wanted has an alarm."""
    alarms: List[int] = []
    set_alarm = lib.ws_server_set_alarm

    def spy(server: int, delay: int, function: Any, argument: int) -> None:
        alarms.append(delay // 10**9 if function else -1)
        set_alarm(server, delay, function, argument)

    monkeypatch.setattr(lib, "ws_server_set_alarm", spy)
    with App() as app:
        handles = [app.call_later(seconds + 0.5, print) for seconds in (50, 40, 60, 40)]
        for handle in handles:
            handle.cancel()
    assert alarms == [50, 40, 40, -1]


def test_call_later_errors_are_reported(
    serve: Callable[..., Any], caplog: pytest.LogCaptureFixture
) -> None:
    errors: List[Any] = []
    server = serve(lambda app: app.on_error(lambda *args: errors.append(args)))
    seen: List[int] = []

    def start() -> None:
        server.app.call_later(0.01, fail)
        server.app.call_later(0.01, seen.append, 1)

    server.call(start)
    peer.eventually(lambda: seen)
    assert [(type(error), source) for error, source in errors] == [(Oops, None)]
    assert "exception in a function of call_later" in caplog.text


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_t72_call_later_may_end_run(serve: Callable[..., Any], kind: Any) -> None:
    server = serve()

    def leave() -> None:
        raise kind("leaving")

    server.call(server.app.call_later, 0.01, leave)
    server.join()
    assert isinstance(server.error, kind)


def test_t73_call_later_arguments() -> None:
    with App() as app:
        for wrong in ("1", None, True, b"1"):
            with pytest.raises(TypeError, match="seconds must be a number"):
                app.call_later(wrong, print)  # type: ignore[arg-type]
        for number in (-1, -0.001, float("nan"), float("inf"), 2**64, 4_000_001):
            with pytest.raises(ValueError, match="seconds must be from 0 to "):
                app.call_later(number, print)
        for fn in (None, 5, "print"):
            with pytest.raises(TypeError, match="fn must be callable"):
                app.call_later(1, fn)  # type: ignore[arg-type]
    with pytest.raises(RuntimeError, match="this app is closed"):
        app.call_later(1, print)


def test_call_later_and_the_next_run() -> None:
    """What is not due when run() returns never runs; the second run starts clean."""
    app = App()
    seen: List[str] = []
    timers: List[Any] = []

    def close() -> None:
        app.close()
        timers.append(app.call_later(0.05, seen.append, "too late"))

    app.listen({"host": "127.0.0.1"})
    app.call_later(0.01, seen.append, "made before run")
    app.call_later(0.02, close)
    app.run()
    assert seen == ["made before run"]
    assert (app._runtime.timers.heap, app._runtime.timers.cancelled) == ([], 0)
    app.listen({"host": "127.0.0.1"})
    app.call_later(0.1, app.close)
    app.call_later(0.01, seen.append, "second")
    app.run()
    assert seen == ["made before run", "second"]
    timers[0].cancel()
    app.call_later(0.01, app.close)
    app.listen({"host": "127.0.0.1"})  # after the call
    app.run()


def test_an_app_with_timers_is_collected() -> None:
    app = App()
    app.call_later(1000, app.close)
    reference = weakref.ref(app)
    del app
    gc.collect()
    assert reference() is None
