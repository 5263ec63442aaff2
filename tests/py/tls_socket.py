# SPDX-License-Identifier: MIT
"""A TLS connection that two threads of a test may use at once, such as those of `websockets.sync`.

OpenSSL allows one thread at a time, and Python before 3.13.1 leaves that to the program: a read
then fails with an error of the write, waits for what has arrived, or ends the process.
"""

import select
import socket
import ssl
import threading
import time
from typing import Any, Callable, Optional


class SharedSocket(ssl.SSLSocket):
    """Reads and writes take turns; none of them waits for the network in its turn."""

    def read(self, len: int = 1024, buffer: Any = None) -> Any:
        return self._in_turns(lambda: super(SharedSocket, self).read(len, buffer))

    def send(self, data: Any, flags: int = 0) -> int:
        sent: int = self._in_turns(lambda: super(SharedSocket, self).send(data, flags))
        return sent

    def _in_turns(self, act: Callable[[], Any]) -> Any:
        turns = self.__dict__.setdefault("_turns", threading.Lock())
        deadline = None
        while True:
            with turns:
                timeout = self.gettimeout()
                if timeout == 0:
                    return act()
                if timeout and deadline is None:
                    deadline = time.monotonic() + timeout
                self.settimeout(0)
                try:
                    return act()
                except ssl.SSLWantReadError:
                    event = select.POLLIN
                except ssl.SSLWantWriteError:
                    event = select.POLLOUT
                finally:
                    self.settimeout(timeout)
            self._wait(event, deadline)

    def _wait(self, event: int, deadline: Optional[float]) -> None:
        poll = select.poll()
        poll.register(self.fileno(), event)
        left = None if deadline is None else max(deadline - time.monotonic(), 0) * 1000
        if not poll.poll(left):
            raise socket.timeout("timed out")
