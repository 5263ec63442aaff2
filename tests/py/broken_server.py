# SPDX-License-Identifier: MIT
"""An echo server that keeps to RFC 6455 and 7692, and that can be broken in one place at a time.

It measures the conformance runner: without a switch every case must pass, with one exactly those
cases must fail that are about the broken rule. So it is written to be read and not to be fast, one
thread for each connection, with code of its own, nothing of pyws and nothing of the runner.

A switch is a name in `SWITCHES` (broken_switches.py). Where its rule is kept, the code asks
`self.broken("name")`: in broken_handshake.py, broken_websocket.py, broken_deflate.py and
broken_utf8.py.

    python tests/py/broken_server.py [--port N] [SWITCH...]
    python tests/py/broken_server.py --list
"""

import argparse
import socket
import threading
from typing import Iterable, Optional, Set

from broken_handshake import Handshake
from broken_parts import Gone, Refused, Stream, Switchboard
from broken_switches import LIMITS, SWITCHES
from broken_websocket import WebSocket

HEAD_SECONDS = 2.0  # for a whole request head
NEXT_SECONDS = 0.5  # for one after an error


class Server(Switchboard):
    """Listens on 127.0.0.1 from the beginning; `close` ends it, as does its `with` block."""

    def __init__(self, switches: Iterable[str] = (), port: int = 0, patience: float = 1.0) -> None:
        """A request may take `patience` times as long.

        Raises ValueError if there is no such switch.
        """
        super().__init__(switches)
        self.patience = patience
        self.served = 0
        self.turn = threading.Lock()  # with a switch
        self.streams: Set[Stream] = set()
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", port), backlog=128)
        self.port = self.listener.getsockname()[1]
        self.thread = threading.Thread(target=self._accept, daemon=True)
        self.thread.start()

    def __enter__(self) -> "Server":
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def crash(self) -> None:
        """What is left is a port on which nothing listens."""
        self.ended.set()
        try:
            self.listener.shutdown(socket.SHUT_RDWR)
        except OSError:
            pass  # it has crashed before
        self.drop_others(None)  # of an unusual server the thread itself may serve one

    def close(self) -> None:
        self.crash()
        self.thread.join()
        self.listener.close()
        self.drop_others(None)

    def drop_others(self, stream: Optional[Stream]) -> None:
        """End all connections but this one."""
        with self.lock:
            others = [each for each in self.streams if each is not stream]
        for other in others:
            try:
                other.socket.shutdown(socket.SHUT_RDWR)
            except OSError:
                pass  # it has ended

    def _notice_resets(self) -> None:
        """A reset counts before data that comes after it, whichever thread runs first."""
        if self.broken("reset-ends-all"):
            with self.lock:
                dead = [each for each in self.streams if each.is_open and each.is_dead()]
            for stream in dead:
                self._take_along(stream)

    def _take_along(self, stream: Stream) -> None:
        with self.lock:
            first, stream.has_taken = not stream.has_taken, True
        if first:
            self.drop_others(None)

    def _accept(self) -> None:
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            self._start(connection)

    def _start(self, connection: socket.socket) -> None:
        threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        stream = self.part(Stream)(connection)
        stream.on_data = self._notice_resets
        if self.broken("unwritten-cut"):
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 65536)
            stream.loses = 0.1 * self.patience
        with self.lock:
            self.streams.add(stream)
            self.served += 1
        try:
            self._take_turns(stream)
        except Gone:
            pass
        finally:
            self._notice_resets()
            with self.lock:
                self.streams.discard(stream)
            if self.broken("end-as-reset"):
                stream.reset()
            else:
                stream.end()
            if stream.is_open and stream.was_reset and self.broken("reset-ends-all"):
                self._take_along(stream)

    def _take_turns(self, stream: Stream) -> None:
        if self.served > 40 and self.broken("connections-limited"):
            self.ended.wait()
        if not self.broken("one-at-a-time"):
            return self._talk(stream)
        stream.peek()
        with self.turn:
            self._talk(stream)

    def _talk(self, stream: Stream) -> None:
        """Requests, and if one of them is a handshake, frames. Gone."""
        seconds = HEAD_SECONDS * self.patience
        while True:
            handshake = self.part(Handshake)(self, stream, seconds)
            seconds = NEXT_SECONDS * self.patience
            try:
                terms = handshake.run()
            except Refused as refused:
                handshake.refuse(refused)
                if handshake.plain and self.broken("plain-answered-twice"):
                    handshake.refuse(refused)
                if self.broken("error-then-frames") and not handshake.plain:
                    return WebSocket(self, stream, None).run()
            except Gone:
                if self.broken("half-head-kept"):
                    self.ended.wait()
                raise
            else:
                early = bytes(stream.buffer[:4])
                if self.broken("answers-early-request") and early in (b"GET ", b"POST"):
                    continue
                stream.skip(handshake.body)
                return self.part(WebSocket)(self, stream, terms).run()
            if self.broken("error-left-open") or (handshake.kept and self.broken("kept-and-deaf")):
                self.ended.wait()
            if not self.broken("error-then-more") and not handshake.kept:
                return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--list", action="store_true", help="print the switches")
    parser.add_argument("switches", nargs="*", choices=[[], *SWITCHES, *LIMITS], metavar="SWITCH")
    options = parser.parse_args()
    if options.list:
        for name, told in {**SWITCHES, **LIMITS}.items():
            print(f"{name:30} {told}")
        return
    server = Server(options.switches, options.port)
    print(f"listening on 127.0.0.1:{server.port}", flush=True)
    server.thread.join()


if __name__ == "__main__":
    main()
