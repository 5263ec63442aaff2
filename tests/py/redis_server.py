# SPDX-License-Identifier: MIT
"""redis-server as a child process, on a port of its own; ended by its process id."""

import os
import random
import shutil
import signal
import socket
import subprocess
import time
from contextlib import suppress
from pathlib import Path
from typing import Any, List

from chromium import unavailable
from common import TIMEOUT


def free_port() -> int:
    """A port that the kernel gives to no one who does not ask for it: it stays free for a while."""
    while True:
        port = random.randrange(20000, 32000)
        with socket.socket() as one, suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port


class RedisServer:
    """One server, which may be killed, started again, stopped and continued."""

    def __init__(self, folder: Path, *options: str) -> None:
        self.program = shutil.which("redis-server") or unavailable("no redis-server here")
        self.folder = folder
        self.options = options
        self.port = free_port()
        self.process: Any = None
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}"

    def start(self) -> None:
        command: List[str] = [self.program, "--bind", "127.0.0.1", "--port", str(self.port)]
        command += ["--save", "", "--appendonly", "no", "--dir", str(self.folder), *self.options]
        with (self.folder / "redis.log").open("ab") as log:
            self.process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        deadline = time.monotonic() + TIMEOUT
        while not self._answers():
            assert self.process.poll() is None, (self.folder / "redis.log").read_text()
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.01)

    def _answers(self) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", self.port), TIMEOUT) as one:
                one.sendall(b"PING\r\n")
                answer = one.recv(100)
                return answer[:1] in (b"+", b"-") and not answer.startswith(b"-LOADING")
        except OSError:
            return False

    def command(self, *words: Any) -> Any:
        """The reply to one command, by a connection of its own."""
        import redis

        with redis.Redis(port=self.port) as client:
            return client.execute_command(*words)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        deadline = time.monotonic() + TIMEOUT
        stat = Path(f"/proc/{self.process.pid}/stat")
        while stat.read_text().rpartition(")")[2].split()[0] != "T":
            assert time.monotonic() < deadline
            time.sleep(0.001)

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def __enter__(self) -> "RedisServer":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()
