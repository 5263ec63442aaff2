# SPDX-License-Identifier: MIT
"""nats-server as a child process, on a port that the kernel picks; ended by its process id."""

import json
import os
import shutil
import signal
import subprocess
import urllib.request
from pathlib import Path
from typing import Any, Dict, List

from chromium import unavailable
from common import TIMEOUT
from peer import eventually

CONFIGURATION = """
host: 127.0.0.1
port: {port}
http: "127.0.0.1:{monitor}"
ports_file_dir: "{folder}"
{settings}
"""
ANY = -1  # the kernel picks a port


class NatsServer:
    """One server, which may be killed, started again, stopped and continued."""

    def __init__(self, folder: Path, settings: str = "") -> None:
        path = os.environ.get("PATH", "") + ":/usr/sbin"
        self.program = shutil.which("nats-server", path=path) or unavailable("no nats-server here")
        self.folder = folder
        self.settings = settings
        self.port = self.monitor = ANY
        self.process: Any = None
        self.start()

    @property
    def url(self) -> str:
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Start it; a second time on the same port."""
        values = {"port": self.port, "monitor": self.monitor, "settings": self.settings}
        file = self.folder / "nats.conf"
        file.write_text(CONFIGURATION.format(folder=self.folder, **values))
        with (self.folder / "nats.log").open("ab") as log:
            self.process = subprocess.Popen(
                [self.program, "-c", str(file)], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        eventually(self._is_ready)

    def _is_ready(self) -> bool:
        assert self.process.poll() is None, (self.folder / "nats.log").read_text()
        try:
            places = self.folder / f"nats-server_{self.process.pid}.ports"
            ports = json.loads(places.read_text())
        except (OSError, ValueError):  # not yet, or in the midst of it
            return False
        self.port = int(ports["nats"][0].rpartition(":")[2])
        self.monitor = int(ports["monitoring"][0].rpartition(":")[2])
        return True

    def kill(self) -> None:
        self.process.kill()
        self.process.wait(TIMEOUT)

    def stop(self) -> None:
        self.process.send_signal(signal.SIGSTOP)
        stat = Path(f"/proc/{self.process.pid}/stat")
        eventually(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T")

    def go_on(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def connections(self, subscriptions: bool = True) -> List[Dict[str, Any]]:
        """Its clients, with counters, and with what they have subscribed to."""
        url = f"http://127.0.0.1:{self.monitor}/connz?subs={int(subscriptions)}&limit=1024"
        with urllib.request.urlopen(url, timeout=TIMEOUT) as response:
            found: List[Dict[str, Any]] = json.load(response)["connections"]
        return found

    def subjects(self) -> List[str]:
        """What its clients have subscribed to."""
        return sorted(
            subject for one in self.connections() for subject in one.get("subscriptions_list", [])
        )

    def __enter__(self) -> "NatsServer":
        return self

    def __exit__(self, *error: object) -> None:
        if self.process.poll() is None:
            self.kill()


class Outlet:
    """The transport of a connection without a server, which keeps what is written."""

    def __init__(self) -> None:
        self.written = b""

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None: ...

    def get_extra_info(self, name: str) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...
