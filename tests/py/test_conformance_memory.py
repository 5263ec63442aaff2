"""tools/conformance: a run with large messages needs little memory itself."""

import os
import subprocess
import sys

import pytest
from broken_server import Server
from common import ROOT

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
