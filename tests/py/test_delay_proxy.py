# SPDX-License-Identifier: MIT
"""delay_proxy.py: what other tests take for a far network is one."""

import socket
import struct
import threading
import time
from contextlib import contextmanager
from typing import Callable, Iterator

import pytest
from delay_proxy import HELD, DelayProxy

DELAY = 0.1


@contextmanager
def through_proxy(
    handler: Callable[[socket.socket], object], delay: float = DELAY
) -> Iterator[socket.socket]:
    """A connection to a server for one connection, through a proxy."""

    def serve() -> None:
        with listener.accept()[0] as connection:
            connection.settimeout(10)
            handler(connection)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve)
        thread.start()
        with DelayProxy(listener.getsockname()[1], delay) as proxy:
            with socket.create_connection(("127.0.0.1", proxy.port), 10) as connection:
                yield connection
            thread.join(10)
            assert not thread.is_alive()


def echo(connection: socket.socket) -> None:
    while True:
        data = connection.recv(65536)
        if not data:
            return
        connection.sendall(data)


def read_to_end(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_bytes_come_late_and_in_order() -> None:
    data = b"".join(b"%d " % i for i in range(20000))
    with through_proxy(echo) as connection:
        began = time.monotonic()
        for i in range(0, len(data), 97):
            connection.sendall(data[i : i + 97])
        first = connection.recv(1)
        assert time.monotonic() - began >= 2 * DELAY
        connection.shutdown(socket.SHUT_WR)
        ended = time.monotonic()
        assert first + read_to_end(connection) == data
        assert time.monotonic() - ended >= 2 * DELAY


def test_the_way_back_stays_open() -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(read_to_end(connection) + b"!")

    with through_proxy(answer) as connection:
        connection.sendall(b"all")
        connection.shutdown(socket.SHUT_WR)
        assert read_to_end(connection) == b"all!"


def test_a_reset_is_passed_on() -> None:
    came = []

    def wait(connection: socket.socket) -> None:
        came.append(connection.recv(10))
        with pytest.raises(ConnectionResetError):
            connection.recv(10)
        came.append(b"reset")

    with through_proxy(wait) as connection:
        connection.sendall(b"data")
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
    assert came == [b"data", b"reset"]


def test_who_does_not_read_holds_up_the_other() -> None:
    over = threading.Event()
    got = []

    def late(connection: socket.socket) -> None:
        assert over.wait(10)
        got.append(len(read_to_end(connection)))

    with through_proxy(late, 0.01) as connection:
        connection.settimeout(0.5)
        sent = 0
        with pytest.raises(socket.timeout):
            while sent < 16 * HELD:
                sent += connection.send(bytes(65536))
        over.set()
        connection.shutdown(socket.SHUT_WR)
    assert got == [sent]


def test_nobody_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # so that nobody listens there, not even the proxy
        with DelayProxy(taken.getsockname()[1], 0.01) as proxy:
            address = ("127.0.0.1", proxy.port)
            reset = pytest.raises(ConnectionResetError)
            with reset, socket.create_connection(address, 10) as one:
                one.recv(1)
