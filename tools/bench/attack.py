#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Measure the echo times of an honest client during attacks.

    python tools/bench/attack.py --build build
    python tools/bench/attack.py --build build --kinds tables,plain --attackers 8,32 --seconds 5
    python tools/bench/attack.py --server "python tools/bench/peers/peer_pyws.py --port 0 --deflate"

Each attacker sends one kind of legal traffic as fast as the server accepts it; see KINDS. The
honest client sends short messages one after the other. The output shows its slowest echo, the 99th
percentile and the median, and the CPU time of the server for each byte that the attackers sent.
Everything runs over loopback.
"""

from __future__ import annotations

import argparse
import contextlib
import multiprocessing
import os
import pathlib
import random
import selectors
import shlex
import socket
import struct
import time
import zlib
from typing import Any, Callable, Dict, Iterable, Tuple

from harness import BenchError, Server, fail

MESSAGE = 1000 * 1000  # bytes of one compressed message, below the server's limit of 1 MiB

HANDSHAKE = (
    b"GET / HTTP/1.1\r\nHost: t\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
    b"Sec-WebSocket-Extensions: permessage-deflate\r\n\r\n"
)


class Bits:
    """A bit string packed like DEFLATE data (RFC 1951 3.1.1)."""

    def __init__(self) -> None:
        self.value = 0
        self.count = 0

    def put(self, value: int, count: int) -> None:
        self.value |= value << self.count
        self.count += count

    def code(self, value: int, count: int) -> None:
        """Add a Huffman code, first bit first."""
        for i in reversed(range(count)):
            self.put(value >> i & 1, 1)


def table_block() -> Bits:
    """Return a dynamic block without content (RFC 1951 3.2.7).

    Its 23 bytes make inflate build a table of 257 codes: 255 of 8 bits and two of 9 bits, the last
    of which ends the block.
    """
    bits = Bits()
    bits.put(0b100, 3)  # BFINAL 0, BTYPE 2
    bits.put(0, 5)  # 257 literal and length codes
    bits.put(0, 5)  # 1 distance code
    bits.put(7 - 4, 4)  # lengths of the codes for: 16, 17, 18, 0, 8, 7, 9
    for length in (1, 0, 0, 3, 2, 0, 3):
        bits.put(length, 3)
    repeat, eight, zero, nine = (0b0, 1), (0b10, 2), (0b110, 3), (0b111, 3)
    bits.code(*eight)
    for _ in range(42):  # "6 times the same again"
        bits.code(*repeat)
        bits.put(3, 2)
    for symbol in (eight, eight, nine, nine, zero):
        bits.code(*symbol)
    bits.code(0b111111111, 9)  # the end of the block
    return bits


def repeated(block: Bits, size: int) -> bytes:
    """Return about `size` bytes of copies of a block, without the tail (RFC 7692 7.2.1)."""
    one = f"{block.value:0{block.count}b}"
    count = size * 8 // block.count
    value = int(one * count, 2)
    length = block.count * count
    return value.to_bytes((length + 3 + 7) // 8, "little")  # 3 bits: an empty stored block


def fixed_block() -> Bits:
    bits = Bits()
    bits.put(0b010, 3)  # BFINAL 0, BTYPE 1
    bits.put(0, 7)
    return bits


def deflated(data: bytes) -> bytes:
    stream = zlib.compressobj(9, zlib.DEFLATED, -15)
    return (stream.compress(data) + stream.flush(zlib.Z_SYNC_FLUSH))[:-4]


def frame(first: int, payload: bytes) -> bytes:
    """Return a client's frame with a masking key of zero."""
    n = len(payload)
    if n < 126:
        return struct.pack("!BB4x", first, 0x80 | n) + payload
    if n < 65536:
        return struct.pack("!BBH4x", first, 0x80 | 126, n) + payload
    return struct.pack("!BBQ4x", first, 0x80 | 127, n) + payload


def noise(size: int, alphabet: bytes) -> bytes:
    return bytes(random.Random(1).choices(alphabet, k=size))


def request() -> bytes:
    fields = "".join(f"X-{i}: {i}\r\n" for i in range(98))
    return f"POST / HTTP/1.1\r\nHost: t\r\n{fields}\r\n".encode()


def text(size: int) -> bytes:
    """Return non-ASCII text, so that the server has to check every byte."""
    return ("aä€😀" * (size // 10)).encode()


Kinds = Dict[str, Tuple[str, Callable[[], bytes]]]

# What an attacker sends repeatedly, compressed messages first.
KINDS: Kinds = {
    "tables": (
        "dynamic blocks without content",
        lambda: frame(0xC2, repeated(table_block(), MESSAGE)),
    ),
    "fixed": (
        "fixed blocks without content",
        lambda: frame(0xC2, repeated(fixed_block(), MESSAGE)),
    ),
    "stored": (
        "stored blocks without content",
        lambda: frame(0xC2, b"\0\0\0\xff\xff" * (MESSAGE // 5) + b"\0"),
    ),
    "last": ("final blocks (BFINAL)", lambda: frame(0xC2, b"\3\0" * (MESSAGE // 2))),
    "bombs": ("1 KiB that inflates to 1 MiB", lambda: frame(0xC2, deflated(bytes(MESSAGE)))),
    "short": ("8 KiB of dynamic blocks", lambda: frame(0xC2, repeated(table_block(), 8192)) * 8),
    "json": (
        "ordinary compressed messages",
        lambda: frame(0xC1, deflated(noise(1024, b'{"a": 1}'))),
    ),
    "plain": ("64 bytes of text", lambda: frame(0x81, bytes(64)) * 1000),
    "utf8": ("1 MiB of non-ASCII text", lambda: frame(0x81, text(MESSAGE))),
    "large": (
        "1 MiB of noise, which the server compresses",
        lambda: frame(0x82, noise(MESSAGE, b"ab")),
    ),
    "empty": ("empty messages", lambda: frame(0x82, b"") * 10000),
    "fragments": (
        "empty fragments",
        lambda: frame(0x02, b"") + frame(0, b"") * 10000 + frame(0x80, b""),
    ),
    "pings": ("Pings", lambda: frame(0x89, bytes(4)) * 10000),
    "requests": ("HTTP requests with 99 fields, answered with 405", lambda: request() * 50),
}


def connect(port: int, handshake: bool) -> socket.socket:
    peer = socket.create_connection(("127.0.0.1", port), timeout=30)
    peer.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    if handshake:
        peer.sendall(HANDSHAKE)
        head = b""
        while b"\r\n\r\n" not in head:
            part = peer.recv(4096)
            if not part:
                raise BenchError("the handshake was refused")
            head += part
    return peer


def attack(port: int, kind: str, count: int, cores: Iterable[int], sent: Any) -> None:
    """Attack in a separate process until it is stopped.

    Args:
        sent: shared; counts the bytes that the kernel accepted.
    """
    os.sched_setaffinity(0, cores)
    data = memoryview(KINDS[kind][1]())
    selector = selectors.DefaultSelector()
    at = [0] * count  # offset in `data` for each connection
    peers = [connect(port, kind != "requests") for _ in range(count)]
    for i, peer in enumerate(peers):
        peer.setblocking(False)
        selector.register(peer, selectors.EVENT_READ | selectors.EVENT_WRITE, i)
    while True:
        for key, events in selector.select():
            with contextlib.suppress(BlockingIOError):
                if events & selectors.EVENT_READ and not peers[key.data].recv(1 << 18):
                    return  # which `measure` notices
                if events & selectors.EVENT_WRITE:
                    n = peers[key.data].send(data[at[key.data] :])
                    at[key.data] = (at[key.data] + n) % len(data)
                    sent.value += n


def echoes(peer: socket.socket, seconds: float) -> list[float]:
    """Return round trips in seconds."""
    times = []
    end = time.monotonic() + seconds
    message = frame(0x81, b"honest")
    while time.monotonic() < end:
        start = time.monotonic()
        peer.sendall(message)
        answer = b""
        while len(answer) < 2 or len(answer) < 2 + answer[1]:
            part = peer.recv(4096)
            if not part:
                raise BenchError("the server closed the honest client's connection")
            answer += part
        times.append(time.monotonic() - start)
        time.sleep(0.002)
    return times


def cpu_time(pid: int) -> float:
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def honest(port: int) -> socket.socket:
    return connect(port, True)


def measure(
    options: argparse.Namespace,
    client: Callable[[int], Any],
    attackers: Callable[..., None],
    kind: Any,
    count: int,
    unit: float,
) -> str:
    """Run a server, attackers and the honest client; returns the columns of the table.

    Args:
        options: `command`, `nice` and `seconds`.
        client: Returns a connection to a port, after the opening handshake.
        attackers: As `attack`; what it counts is what the last column is about.
        kind: The kind of attack, passed to `attackers`.
        count: How many there are; 0 for none.
        unit: The units of the last column in a second.
    """
    cores = sorted(os.sched_getaffinity(0))
    context = multiprocessing.get_context("fork")
    with Server(options.command, core=cores[0], nice=options.nice) as server:
        peer = client(server.port)
        done = context.Value("Q", 0)
        arguments = (server.port, kind, count, cores[1:] or cores, done)
        child = context.Process(target=attackers, args=arguments, daemon=True)
        if count:
            child.start()
        os.nice(options.nice)
        try:
            echoes(peer, 0.5)  # until all attackers have connected
            before, cpu_before = done.value, cpu_time(server.pid)
            times = sorted(echoes(peer, options.seconds))
            cpu = cpu_time(server.pid) - cpu_before
            counted = done.value - before
            if count and not child.is_alive():
                raise BenchError("the attackers have ended: the server may have closed one of them")
        finally:
            os.nice(-options.nice)
            peer.close()
            if count:
                child.terminate()
                child.join()
    each = f"{cpu / counted * unit:9.2f}" if counted else f"{'-':>9}"
    late, median = times[len(times) * 99 // 100], times[len(times) // 2]
    return f"{1000 * times[-1]:9.2f} {1000 * late:9.2f} {1000 * median:9.2f} {each}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--build", type=pathlib.Path, help="meson build folder with the echo server"
    )
    parser.add_argument("--server", help="another server's command; it must compress")
    parser.add_argument("--kinds", default=",".join(KINDS), help=f"of: {','.join(KINDS)}")
    parser.add_argument("--attackers", default="8,32", help="attacker counts (8,32)")
    parser.add_argument("--nice", type=int, default=0, help="niceness of server and client (0)")
    parser.add_argument("--seconds", type=float, default=3, help="length of each measurement (3)")
    options = parser.parse_args()
    kinds = options.kinds.split(",")
    unknown = [kind for kind in kinds if kind not in KINDS]
    if unknown:
        parser.error(f"--kinds: {unknown[0]!r} is not one of {', '.join(KINDS)}")
    if bool(options.build) == bool(options.server):
        parser.error("one of --build and --server is needed")
    options.command = shlex.split(options.server or "")
    if options.build:
        echo = options.build / "examples" / "c" / "echo"
        options.command = [str(echo), "--compression", "shared", "--max-payload", str(1 << 20)]
    print(f"{'attackers':<62} {'worst ms':>9} {'p99 ms':>9} {'median ms':>9} {'ns a byte':>9}")
    try:
        print(f"{'none':<62} {measure(options, honest, attack, 'plain', 0, 1e9)}", flush=True)
        for kind in kinds:
            for count in map(int, options.attackers.split(",")):
                name = f"{count} sending {KINDS[kind][0]}"
                print(
                    f"{name:<62} {measure(options, honest, attack, kind, count, 1e9)}", flush=True
                )
    except (BenchError, OSError) as error:
        fail(str(error))


if __name__ == "__main__":
    main()
