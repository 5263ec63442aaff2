# SPDX-License-Identifier: MIT
"""PostgreSQL for tests: a cluster in a folder of its own, on a Unix socket; ended by its id."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any, List

from chromium import unavailable
from common import TIMEOUT, without_sanitizer
from peer import eventually

VERSIONS = Path("/usr/lib/postgresql")  # of Debian


class PostgresServer:
    """One server, which may be killed and started again."""

    def __init__(self) -> None:
        found = sorted(VERSIONS.glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
        self.programs = found[-1].parent if found else unavailable("no PostgreSQL here")
        self.folder = Path(tempfile.mkdtemp(prefix="pyws-"))  # a short path: it has a socket
        self.prefix: List[str] = []
        if os.getuid() == 0:  # as which it does not run
            account = pwd.getpwnam("postgres")
            os.chown(str(self.folder), account.pw_uid, account.pw_gid)
            self.prefix = ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]
        self.process: Any = None
        self._run("initdb", "-D", f"{self.folder}/data", "-U", "postgres", "-A", "trust", "-N")
        self.start()

    @property
    def url(self) -> str:
        return f"postgresql://postgres@/postgres?host={self.folder}"

    def start(self) -> None:
        settings = ["listen_addresses=", f"unix_socket_directories={self.folder}", "fsync=off"]
        command = [*self.prefix, str(self.programs / "postgres"), "-D", f"{self.folder}/data"]
        for setting in settings:
            command += ["-c", setting]
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd="/",
                env=without_sanitizer(),
            )
        eventually(self._accepts)

    def _accepts(self) -> bool:
        assert self.process.poll() is None, (self.folder / "log").read_text()
        ready = [str(self.programs / "pg_isready"), "-q", "-h", str(self.folder)]
        return subprocess.run(ready, timeout=TIMEOUT, env=without_sanitizer()).returncode == 0

    def _run(self, name: str, *arguments: str) -> None:
        command = [*self.prefix, str(self.programs / name), *arguments]
        null = subprocess.DEVNULL
        subprocess.run(
            command, check=True, stdout=null, timeout=60, cwd="/", env=without_sanitizer()
        )

    def kill(self) -> None:
        """End all of its processes without waiting for clients."""
        self.process.send_signal(signal.SIGQUIT)
        self.process.wait(TIMEOUT)

    def __enter__(self) -> "PostgresServer":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()
        shutil.rmtree(str(self.folder))
