#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""What messages between processes and topics cost, for the sizing of servers (docs/scaling.md).

    python tools/bench/sizing.py --build build

Two tables: the CPU time of the processes that a message passes on its way to another worker, or
through Redis or NATS; and the memory of a connection with more and more subscriptions. Each figure
is the least of all rounds. Brokers that are not installed are left out.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import contextlib
import json
import os
import pathlib
import resource
import shutil
import socket
import struct
import subprocess
import sys
import tempfile
import threading
import time
from typing import Any, Callable, Iterator, List, Tuple

from harness import server_environment

WARMUP = 1.0  # seconds
BURSTS = ((1, 1_000), (10, 5_000), (100, 20_000))  # messages together, and each second
PATHS = {"worker": [1], "redis": [1, 4], "nats": [1, 4]}  # to so many processes
CONNECTIONS = 5_000
DATA = "x" * 64


# ---- the server ---------------------------------------------------------------------------------


def serve(url: str, workers: int) -> None:
    from pyws import App, OpCode, WebSocket

    app = App(broker=url or None)

    async def pump(together: int, rate: int) -> None:
        due = time.monotonic()
        while True:
            due += together / rate
            await asyncio.sleep(max(0.0, due - time.monotonic()))
            for _ in range(together):
                app.publish("news", DATA)

    async def on_message(ws: WebSocket, message: str | bytes, opcode: OpCode) -> None:
        name, *words = str(message).split()
        if name == "subscribe":
            for topic in words:
                ws.subscribe(topic)
        elif name == "publish":
            ws.create_task(pump(int(words[0]), int(words[1])))
        numbers = app.stats()
        sent = numbers["broker_published"] if url else numbers["bus_sent"]
        pages = int(pathlib.Path("/proc/self/statm").read_text().split()[1])
        ws.send({"pid": os.getpid(), "sent": sent, "memory": pages * resource.getpagesize()})

    app.ws("/", message=on_message)
    app.listen({"host": "127.0.0.1", "port": 0}, lambda place: print(place.port, flush=True))
    app.run(workers=workers)


# ---- clients and processes ----------------------------------------------------------------------


class Client:
    """A connection that sends a command and gets the numbers of the process."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), 20)
        key = base64.b64encode(bytes(16)).decode()
        self.socket.sendall(
            f"GET / HTTP/1.1\r\nHost: a\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            f"Sec-WebSocket-Key: {key}\r\nSec-WebSocket-Version: 13\r\n\r\n".encode()
        )
        answer = b""
        while not answer.endswith(b"\r\n\r\n"):
            answer += self.socket.recv(1)
        self.pid: int = self.ask("hello")["pid"]

    def ask(self, text: str) -> Any:
        data = text.encode()
        self.socket.sendall(struct.pack("!BB4x", 0x81, 0x80 | len(data)) + data)
        length = self._read(2)[1]
        return json.loads(self._read(length))

    def _read(self, size: int) -> bytes:
        data = b""
        while len(data) < size:
            data += self.socket.recv(size - len(data)) or sys.exit("a server has closed")
        return data

    def drain(self) -> None:
        """Read everything, in a thread of its own, until the connection ends."""
        self.socket.settimeout(None)
        threading.Thread(target=self._drain, daemon=True).start()

    def _drain(self) -> None:
        with contextlib.suppress(OSError):
            while self.socket.recv(1 << 20):
                pass


def cpu(pid: int) -> float:
    """Microseconds of CPU time of all threads of a process."""
    tasks = pathlib.Path(f"/proc/{pid}/task").iterdir()
    return sum(int((task / "schedstat").read_text().split()[0]) for task in tasks) / 1e3


@contextlib.contextmanager
def process(command: List[str], **options: Any) -> Iterator[Any]:
    child: Any = subprocess.Popen(command, stdin=subprocess.DEVNULL, **options)
    try:
        yield child
    finally:
        child.kill()
        child.wait()


@contextlib.contextmanager
def server(build: pathlib.Path, url: str = "", workers: int = 1) -> Iterator[int]:
    """The port of a server."""
    command = [sys.executable, "-u", __file__, "--serve", url, "--workers", str(workers)]
    environment = {**os.environ, **server_environment(build)}
    with process(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        yield int(child.stdout.readline())
        child.terminate()
        child.wait(20)


@contextlib.contextmanager
def broker(name: str) -> Iterator[Tuple[str, int]]:
    """The URL and the process id of a broker; an empty URL if there is none."""
    search = os.environ.get("PATH", "") + ":/usr/sbin"
    program = shutil.which(f"{name}-server", path=search)
    if program is None:
        yield "", 0
        return
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    with tempfile.TemporaryDirectory() as folder:
        options = ["-a", "127.0.0.1", "-p"]
        if name == "redis":
            options = ["--bind", "127.0.0.1", "--save", "", "--dir", folder, "--port"]
        quiet = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
        with process([program, *options, str(port)], **quiet) as child:
            while socket.socket().connect_ex(("127.0.0.1", port)):
                time.sleep(0.01)
            yield f"{name}://127.0.0.1:{port}", child.pid


# ---- measurements -------------------------------------------------------------------------------


def pass_messages(
    publisher: Client,
    receivers: List[Client],
    pids: List[int],
    burst: Tuple[int, int],
    time_: float,
) -> List[float]:
    """Microseconds of each process for a message."""
    for receiver in receivers:
        receiver.ask("subscribe news")
        receiver.drain()
    time.sleep(0.5)  # until everyone knows of it
    publisher.ask(f"publish {burst[0]} {burst[1]}")
    time.sleep(WARMUP)
    before, used = publisher.ask("how many")["sent"], [cpu(pid) for pid in pids]
    time.sleep(time_)
    count = publisher.ask("how many")["sent"] - before
    return [(cpu(pid) - first) / count for pid, first in zip(pids, used)]


def through_workers(build: pathlib.Path, burst: Tuple[int, int], time_: float) -> List[float]:
    with server(build, workers=2) as port:
        first = second = Client(port)
        while second.pid == first.pid:
            second = Client(port)
        return [*pass_messages(first, [second], [first.pid, second.pid], burst, time_), 0.0]


def through_broker(
    build: pathlib.Path, name: str, count: int, burst: Tuple[int, int], time_: float
) -> List[float]:
    with contextlib.ExitStack() as stack:
        url, pid = stack.enter_context(broker(name))
        ports = [stack.enter_context(server(build, url)) for _ in range(count + 1)]
        publisher, *receivers = [Client(port) for port in ports]
        pids = [publisher.pid, receivers[0].pid, pid]
        return pass_messages(publisher, receivers, pids, burst, time_)


def hold(build: pathlib.Path, url: str, topics: Callable[[int], List[str]]) -> Tuple[float, float]:
    """Bytes of a connection with these subscriptions: in the server, and in Redis."""
    with server(build, url) as port:
        clients = [Client(port) for _ in range(1000)]  # what the allocator has got anyway
        first, redis_first = clients[0].ask("how much")["memory"], redis_memory(url)
        for number in range(CONNECTIONS):
            client = Client(port)
            for topic in topics(number):
                client.ask("subscribe " + topic)
            clients.append(client)
        time.sleep(1.0)  # until the broker knows the topics
        last, redis_last = clients[0].ask("how much")["memory"], redis_memory(url)
        for client in clients:
            client.socket.close()
    return (last - first) / CONNECTIONS, (redis_last - redis_first) / CONNECTIONS


def redis_memory(url: str) -> int:
    if not url:
        return 0
    with socket.create_connection(("127.0.0.1", int(url.rpartition(":")[2]))) as connection:
        connection.sendall(b"INFO memory\r\n")
        text = connection.recv(1 << 16).decode()
    return int(text.partition("used_memory:")[2].split()[0])


SUBSCRIPTIONS: List[Tuple[str, Callable[[int], List[str]]]] = [
    ("none", lambda number: []),
    ("one topic of its own", lambda number: [f"user/{number:08d}"]),
    ("ten topics of its own", lambda number: [f"user/{number:08d}/{i}" for i in range(10)]),
    ("ten topics that all have", lambda number: [f"room/{i:08d}" for i in range(10)]),
]


# ---- the tables ---------------------------------------------------------------------------------


def show_cpu(build: pathlib.Path, rounds: int, time_: float) -> None:
    print("\n| through | receivers | together | publishing | receiving | broker |")
    print("|---|--:|--:|--:|--:|--:|")
    for name, counts in PATHS.items():
        if name != "worker" and not exists(name):
            continue
        for count in counts:
            for burst in BURSTS:
                results = [
                    through_workers(build, burst, time_)
                    if name == "worker"
                    else through_broker(build, name, count, burst, time_)
                    for _ in range(rounds)
                ]
                least = " | ".join(f"{min(column):.1f}" for column in zip(*results))
                print(f"| {name} | {count} | {burst[0]} | {least} |", flush=True)


def exists(name: str) -> bool:
    with broker(name) as (url, _):
        return bool(url)


def show_memory(build: pathlib.Path) -> None:
    print("\n| subscriptions | bytes | with Redis | in Redis |\n|---|--:|--:|--:|")
    for name, topics in SUBSCRIPTIONS:
        alone, _ = hold(build, "", topics)
        with broker("redis") as (url, _):
            there, in_redis = hold(build, url, topics) if url else (0.0, 0.0)
        print(f"| {name} | {alone:.0f} | {there:.0f} | {in_redis:.0f} |", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what sizing needs to know.")
    parser.add_argument("--build", type=pathlib.Path, default=pathlib.Path("build"))
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=2.0, help="of each measurement")
    parser.add_argument("--serve", metavar="URL", help=argparse.SUPPRESS)
    parser.add_argument("--workers", type=int, default=1, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve is not None:
        serve(options.serve, options.workers)
    else:
        limit = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
        show_memory(options.build)
        show_cpu(options.build, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
