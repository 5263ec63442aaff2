# SPDX-License-Identifier: MIT
"""tools/conformance: a run needs little memory itself, with large messages and with many cases."""

import gc
import os
import subprocess
import sys
import weakref
from typing import List

import pytest
from broken_server import Server
from common import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from conformance import report, wire
from conformance.case import Settings, Test, run
from conformance_peers import make_case

MOST = 150  # MiB at any time, of which an interpreter with all cases has about 35
LARGE = ["9.1", "9.2", "B.1.10"]  # up to 16 MiB in a message, and 24 MiB that wait to be read

RUN = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from conformance import cli
status = cli.main(sys.argv[1:])
(peak,) = [line.split()[1] for line in open("/proc/self/status") if line.startswith("VmHWM")]
print(status, int(peak) >> 10)
"""


@pytest.mark.skipif("asan" in os.environ.get("LD_PRELOAD", ""), reason="it keeps what is freed")
def test_large_messages_do_not_fill_the_memory() -> None:
    """They are not copied more often than need be, and what is freed goes back to the system."""
    with Server() as server:
        url = f"ws://127.0.0.1:{server.port}/"
        command = [sys.executable, "-c", RUN, str(ROOT / "tools"), url, "--timeout-scale", "5"]
        command += [word for pattern in LARGE for word in ("--include", pattern)]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True, timeout=100)
    status, peak = map(int, done.stdout.split()[-2:])
    assert status == 0
    assert peak < MOST


def test_nothing_of_a_case_is_kept_but_its_trace() -> None:
    """An exception that is stored where it was raised would keep all that the case has used."""
    used: List[weakref.ref[wire.Connection]] = []

    def body(test: Test) -> None:
        session = test.open()
        used.append(weakref.ref(session.connection))
        session.send(session.frame(b"", 3))
        session.expect_failure(1002)
        session.read("more")  # there is no more

    gc.collect()
    gc.disable()
    try:
        with Server() as server:
            settings = Settings(wire.Target("127.0.0.1", server.port, "/", False), timeout=5.0)
            result = run(make_case("1.1", body), settings)
        assert result.came.startswith("expected more, but")
        assert [connection() for connection in used] == [None]
    finally:
        gc.enable()
    assert result.trace.events[0].what == "sent"


def test_a_packed_trace_is_the_same() -> None:
    trace = wire.Trace()
    trace.pack()
    assert trace.events == []
    trace = wire.Trace()
    trace.add("sent", bytes(range(256)) * 9, 1)
    trace.note("a note")
    before = list(trace.events)
    trace.pack()
    trace.pack()
    assert trace.events == before
    assert trace.last() == "nothing was received"
    as_json = report.Events(trace)
    assert (len(as_json), as_json[1]["text"]) == (2, "a note")
    assert [event["what"] for event in as_json] == ["sent", "note"]
