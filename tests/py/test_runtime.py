# SPDX-License-Identifier: MIT
"""The states of an app: each way through them, and what each of them allows."""

import asyncio
import gc
import logging
import os
import re
import subprocess
import sys
from contextlib import ExitStack
from typing import Any, List

import peer
import pytest
from common import ROOT
from peer import upgraded

from pyws import App
from pyws._core.state import State
from pyws._native import lib

LOCAL = {"host": "127.0.0.1"}


@pytest.fixture
def states(caplog: pytest.LogCaptureFixture) -> Any:
    """The states that apps came to, as the log says."""
    gc.collect()  # apps of other tests
    caplog.set_level(logging.DEBUG, "pyws")

    def said() -> List[str]:
        lines = [record.getMessage() for record in caplog.records if record.name == "pyws"]
        found = [re.match(r"app \d+: \w+ -> (\w+)$", line) for line in lines]
        return [match[1] for match in found if match]

    return said


def test_states_of_run(states: Any) -> None:
    with App() as app:
        for _ in range(2):
            app.listen(LOCAL)  # type: ignore[arg-type]
            app.defer(app.close)
            app.run()
            with pytest.raises(RuntimeError, match="nothing can be deferred"):
                app.defer(print)
    one_run = ["running", "finishing", "stopped"]
    assert states() == [*one_run, "idle", *one_run, "freed"]


def test_states_of_serve(states: Any) -> None:
    async def main() -> None:
        app = App()
        async with app.serving(LOCAL):  # type: ignore[arg-type]
            assert app._runtime.state is State.RUNNING
        with pytest.raises(OSError):
            await app.serve({"host": "no.such.host.invalid"})

    asyncio.run(main())
    one_run = ["running", "finishing", "stopped"]
    assert states()[:6] == [*one_run, *one_run]


def test_states_of_a_callback_that_fails(states: Any) -> None:
    """Where nothing was listened on in the end, the state is what it was."""

    def fail(options: Any) -> None:
        raise LookupError

    with App() as app:
        app.listen(LOCAL)  # type: ignore[arg-type]
        app.defer(app.close)
        app.run()
        with pytest.raises(LookupError):
            app.listen(LOCAL, fail)  # type: ignore[arg-type]
        assert app._runtime.state is State.STOPPED
    assert states() == ["running", "finishing", "stopped", "idle", "stopped", "freed"]


FORKED = """
import os
from pyws import App
from pyws._core.state import State

app = App()
app.listen({"host": "127.0.0.1"})
pid = os.fork()
if pid == 0:
    app._runtime.finish()
    app.__exit__(None, None, None)
    app._runtime.free()
    os._exit(0 if app._runtime.state is State.FORKED else 1)
print(os.waitpid(pid, 0)[1], app._runtime.state.value)
app.defer(app.close)
app.run()
"""


def test_states_of_a_forked_child() -> None:
    """It stays forked, whatever it does."""
    done = subprocess.run(
        [sys.executable, "-c", FORKED],
        capture_output=True,
        text=True,
        timeout=60,
        env={**os.environ, "PYTHONPATH": str(ROOT), "PYWS_LIBRARY": lib.path},
    )
    assert (done.stdout, done.stderr, done.returncode) == ("0 idle\n", "", 0)


def test_a_log_that_fails_changes_no_state() -> None:
    class Failing(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            raise LookupError

    logger, handler = logging.getLogger("pyws"), Failing()
    level, propagate = logger.level, logger.propagate
    logger.addHandler(handler)
    logger.setLevel(logging.DEBUG)
    logger.propagate = False
    try:
        with App() as app:
            app._runtime.set_state(State.RUNNING)
            states = [app._runtime.state]
            app._runtime.set_state(State.IDLE)
        states.append(app._runtime.state)
        assert states == [State.RUNNING, State.FREED]
    finally:
        logger.removeHandler(handler)
        logger.setLevel(level)
        logger.propagate = propagate


def test_one_place_changes_the_state() -> None:
    found = [
        (path.name, line.strip())
        for path in (ROOT / "pyws").rglob("*.py")
        for line in path.read_text().splitlines()
        if re.search(r"\.state\b[^=]*[^=!<>]=(?!=)", line)
    ]
    assert found == [
        ("runtime.py", "self.state = State.IDLE"),
        ("runtime.py", "before, self.state = self.state, state"),
    ]


def test_an_idle_connection_is_small(serve: Any) -> None:
    """In Python it takes less than 500 bytes, its WebSocket and its context together."""
    tracemalloc = pytest.importorskip("tracemalloc")
    many = 200
    server = serve(open=lambda ws: None)
    with ExitStack() as stack:
        stack.enter_context(upgraded(server.port))
        server.call(gc.collect)
        tracemalloc.start()
        try:
            for _ in range(many):
                stack.enter_context(upgraded(server.port))
            peer.eventually(lambda: server.call(server.app.stats)["open"] == many + 1)
            server.call(gc.collect)
            taken = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
    mine = taken.filter_traces([tracemalloc.Filter(True, str(ROOT / "pyws" / "*"))])
    size = sum(line.size for line in mine.statistics("filename"))
    assert 100 < size / many < 500
