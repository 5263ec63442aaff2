# SPDX-License-Identifier: MIT
"""Several hosts on one machine: network namespaces, connected by a bridge in one of their own.

Nothing of them is visible outside, so their addresses and ports disturb no one. It needs root, and
ip of iproute2; otherwise the tests are skipped.
"""

import ctypes
import os
import shutil
import socket
import subprocess
import threading
import time
from contextlib import ExitStack
from typing import Any, List

import pytest
from common import TIMEOUT
from peer import Peer, handshake

CLONE_NEWNET = 0x40000000  # sched.h
NETWORK = "10.64.0."


def ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True, timeout=TIMEOUT, capture_output=True, text=True)


def make_namespace(name: str) -> None:
    if shutil.which("ip") is None:
        pytest.skip("there is no ip of iproute2")
    try:
        ip("netns", "add", name)
    except subprocess.CalledProcessError as error:
        pytest.skip(f"network namespaces are not possible here: {error.stderr.strip()}")


class Host:
    """A namespace with one address. `cut` takes it off the network, `connect` brings it back."""

    def __init__(self, name: str, number: int, switch: str) -> None:
        self.name = name
        self.address = f"{NETWORK}{number}"
        self._switch = switch
        self._port = f"port{number}"
        own = ["-n", name]
        ip("link", "add", "eth0", "netns", name, "type", "veth", "peer", "name", self._port,
           "netns", switch)  # fmt: skip
        ip("-n", switch, "link", "set", self._port, "master", "bridge", "up")
        ip(*own, "address", "add", f"{self.address}/24", "dev", "eth0")
        ip(*own, "link", "set", "eth0", "up")
        ip(*own, "link", "set", "lo", "up")

    def cut(self) -> None:
        """What is sent to it, or by it, is lost."""
        ip("-n", self._switch, "link", "set", self._port, "down")

    def connect(self) -> None:
        ip("-n", self._switch, "link", "set", self._port, "up")

    def command(self, *words: str) -> List[str]:
        """A command that runs on this host. The process is the same, so it may be signalled."""
        return ["ip", "netns", "exec", self.name, *words]

    def dial(self, port: int) -> socket.socket:
        """Connect, from this host to itself."""
        found: List[Any] = []

        def connect() -> None:  # in a thread, because a namespace belongs to a thread
            with open(f"/run/netns/{self.name}") as namespace:
                libc = ctypes.CDLL(None, use_errno=True)
                if libc.setns(namespace.fileno(), CLONE_NEWNET):
                    found.append(OSError(ctypes.get_errno(), "setns"))
                    return
            try:
                found.append(socket.create_connection((self.address, port), TIMEOUT))
            except OSError as error:
                found.append(error)

        thread = threading.Thread(target=connect)
        thread.start()
        thread.join(2 * TIMEOUT)
        if isinstance(found[0], OSError):
            raise found[0]
        one: socket.socket = found[0]
        return one

    def wait_for(self, port: int, process: Any) -> None:
        """Until a server listens there."""
        deadline = time.monotonic() + TIMEOUT
        while True:
            assert process.poll() is None, f"it ended with status {process.returncode}"
            try:
                self.dial(port).close()
                return
            except OSError:
                assert time.monotonic() < deadline
                time.sleep(0.01)

    def upgraded(self, port: int, path: str) -> Peer:
        """A WebSocket client on this host, of a server there."""
        peer = Peer.over(self.dial(port))
        peer.send(handshake(path))
        assert peer.response().status == 101
        return peer


class Network:
    """So many hosts, removed at the end of the with block."""

    def __init__(self, count: int) -> None:
        self._count = count
        self._stack = ExitStack()
        self.hosts: List[Host] = []

    def __enter__(self) -> "Network":
        with ExitStack() as stack:
            switch = self._namespace(stack, "switch")
            ip("-n", switch, "link", "add", "bridge", "type", "bridge")
            ip("-n", switch, "link", "set", "bridge", "up")
            for number in range(1, self._count + 1):
                name = self._namespace(stack, f"host{number}")
                self.hosts.append(Host(name, number, switch))
            self._stack = stack.pop_all()
        return self

    def _namespace(self, stack: ExitStack, what: str) -> str:
        name = f"pyws-{os.getpid()}-{what}"
        make_namespace(name)
        stack.callback(ip, "netns", "delete", name)
        return name

    def __exit__(self, *error: object) -> None:
        self._stack.close()
