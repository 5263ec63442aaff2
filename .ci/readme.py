"""Runs the first two sh blocks of a clone's README.md, as someone who has just cloned it would.

    python3 .ci/readme.py CLONE

The first must end in a server, which has to answer and then to leave on SIGINT with status 0. The
second must end by itself, with status 0.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import urllib.request
from pathlib import Path
from typing import IO

MINUTES_TO_INSTALL = 5
MINUTES_TO_TEST = 10


def blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def start(clone: Path, block: str) -> subprocess.Popen[str]:
    """bash with the block, in a process group of its own."""
    print(f"+ {block}", flush=True)
    command = ["bash", "-euo", "pipefail", "-c", block]
    return subprocess.Popen(
        command,
        cwd=clone,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def wait_for_url(output: IO[str]) -> str:
    for line in output:
        print(line, end="", flush=True)
        match = re.search(r"http://\S+", line)
        if match and "listening" in line:
            return match.group()
    sys.exit("the first block ended without a server")


def serve(clone: Path, block: str) -> None:
    process = start(clone, block)
    assert process.stdout
    watchdog = threading.Timer(60 * MINUTES_TO_INSTALL, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    try:
        url = wait_for_url(process.stdout)
        with urllib.request.urlopen(url, timeout=30) as answer:
            print(f"{url}: {answer.status}, {len(answer.read())} bytes")
        os.killpg(process.pid, signal.SIGINT)
        if process.wait(30) != 0:
            sys.exit(f"the server left with status {process.returncode}")
    finally:
        watchdog.cancel()


def finish(clone: Path, block: str) -> None:
    process = start(clone, block)
    assert process.stdout
    watchdog = threading.Timer(60 * MINUTES_TO_TEST, os.killpg, (process.pid, signal.SIGKILL))
    watchdog.start()
    for line in process.stdout:
        print(line, end="", flush=True)
    status = process.wait()
    watchdog.cancel()
    if status != 0:
        sys.exit(f"the second block left with status {status}")


def main() -> None:
    clone = Path(sys.argv[1])
    first, second = blocks((clone / "README.md").read_text())[:2]
    serve(clone, first)
    finish(clone, second)


if __name__ == "__main__":
    main()
