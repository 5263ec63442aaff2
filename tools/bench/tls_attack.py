#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure the echo times of an honest client while others make a TLS server work for nothing.

    python tools/bench/tls_attack.py --build build
    python tools/bench/tls_attack.py --build build --kinds hellos --attackers 1000 --rsa

Each attacker connects again and again and does what KINDS says, which costs it no cryptography: a
ClientHello, for example, is always the same. The output shows the slowest echo of the honest
client, the 99th percentile and the median, and the CPU time of the server for each connection.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import pathlib
import random
import selectors
import socket
import ssl
import struct
import tempfile
from dataclasses import dataclass
from typing import Any, Iterable

import harness
from attack import HANDSHAKE, measure
from harness import BenchError, fail


def client_context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def client_hello() -> bytes:
    out = ssl.MemoryBIO()
    client = client_context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        client.do_handshake()
    return out.read()


@dataclass(frozen=True)
class Kind:
    """What an attacker sends, in pieces of `piece` bytes; it leaves at the answer or stays."""

    title: str
    data: bytes
    piece: int = 1 << 20
    stays: bool = False


def kinds() -> dict[str, Kind]:
    hello = client_hello()
    noise = bytes(random.Random(1).choices(range(256), k=16384))
    return {
        "hellos": Kind("a ClientHello, and leave at the answer", hello),
        "bytes": Kind("a ClientHello byte by byte", hello, piece=1),
        "silent": Kind("a ClientHello, and nothing after it", hello, stays=True),
        "half": Kind("half a ClientHello, and nothing after it", hello[: len(hello) // 2]),
        "garbage": Kind("16 KiB of noise as a record", b"\x16\x03\x01\x40\x00" + noise),
        "plain": Kind("HTTP without TLS", b"GET / HTTP/1.1\r\nHost: t\r\n\r\n"),
    }


class Attacker:
    """One connection after the other."""

    def __init__(self, port: int, kind: Kind, selector: selectors.BaseSelector) -> None:
        self.port, self.kind, self.selector = port, kind, selector
        self.connect()

    def connect(self) -> None:
        self.left = self.kind.data
        self.socket = socket.socket()
        self.socket.setblocking(False)
        # No TIME_WAIT, so that there are always ports.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.connect_ex(("127.0.0.1", self.port))
        self.selector.register(self.socket, selectors.EVENT_READ | selectors.EVENT_WRITE, self)

    def handle(self, events: int) -> bool:
        """Go on; returns True if the connection has ended, and a new one begun."""
        try:
            if events & selectors.EVENT_WRITE:
                sent = self.socket.send(self.left[: self.kind.piece])
                self.left = self.left[sent:]
                if not self.left:
                    self.selector.modify(self.socket, selectors.EVENT_READ, self)
            if events & selectors.EVENT_READ and self.socket.recv(1 << 16) and self.kind.stays:
                return False
            if not events & selectors.EVENT_READ:
                return False
        except BlockingIOError:
            return False
        except OSError:
            pass  # the server has ended it
        self.selector.unregister(self.socket)
        self.socket.close()
        self.connect()
        return True


def attack(port: int, kind: Kind, count: int, cores: Iterable[int], done: Any) -> None:
    """Attack in a separate process until it is stopped; `done` counts connections."""
    os.sched_setaffinity(0, cores)
    selector = selectors.DefaultSelector()
    for _ in range(count):
        Attacker(port, kind, selector)
    while True:
        for key, events in selector.select():
            done.value += key.data.handle(events)


def connect(port: int) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", port), timeout=30)
    plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    peer = client_context().wrap_socket(plain, server_hostname="localhost")
    peer.sendall(HANDSHAKE)
    head = b""
    while b"\r\n\r\n" not in head:
        part = peer.recv(4096)
        if not part:
            raise BenchError("the handshake was refused")
        head += part
    return peer


def run(options: argparse.Namespace, known: dict[str, Kind]) -> None:
    print(f"{'attackers':<62} {'worst ms':>9} {'p99 ms':>9} {'median ms':>9} {'us each':>9}")
    print(f"{'none':<62} {measure(options, connect, attack, known['plain'], 0, 1e6)}", flush=True)
    for name in options.kinds.split(","):
        for count in map(int, options.attackers.split(",")):
            title = f"{count} sending {known[name].title}"
            columns = measure(options, connect, attack, known[name], count, 1e6)
            print(f"{title:<62} {columns}", flush=True)


def main() -> None:
    known = kinds()
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--build", type=pathlib.Path, required=True, help="meson build folder")
    parser.add_argument("--kinds", default=",".join(known), help=f"of: {','.join(known)}")
    parser.add_argument("--attackers", default="32,1000", help="attacker counts (32,1000)")
    parser.add_argument("--rsa", action="store_true", help="a key of RSA instead of ECDSA")
    parser.add_argument("--nice", type=int, default=0, help="niceness of server and client (0)")
    parser.add_argument("--seconds", type=float, default=3, help="length of each measurement (3)")
    options = parser.parse_args()
    unknown = [kind for kind in options.kinds.split(",") if kind not in known]
    if unknown:
        parser.error(f"--kinds: {unknown[0]!r} is not one of {', '.join(known)}")
    with tempfile.TemporaryDirectory() as folder:
        try:
            key = "rsa:2048" if options.rsa else "ec"
            files = harness.make_certificate(pathlib.Path(folder), key)
            options.command = [*harness.known_servers(options.build)["c_tls"], *files]
            run(options, known)
        except (BenchError, OSError) as error:
            fail(str(error))


if __name__ == "__main__":
    main()
