# SPDX-License-Identifier: MIT
"""The kinds of load that compare.py measures."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(frozen=True)
class Side:
    """An additional row of a case, to which ratios refer.

    `server` is one of this project's. If it is empty, `tool`, a program of this folder, prints the
    report itself. `arguments` go to the load generator or the tool.
    """

    server: str
    arguments: tuple[str, ...]
    tool: str = "load"


@dataclass(frozen=True)
class Case:
    """One kind of load.

    `metric` is the key of the report that is compared, and `arguments` go to the load generator.
    Ratios are to the first server, or to the sum of the `sides`. `same` is a key that must have the
    same value in these rows, because otherwise they did not do the same work.
    """

    title: str
    metric: str
    unit: str
    arguments: tuple[str, ...]
    timed: bool = True  # --seconds applies
    group: bool = False  # for servers that send to groups
    deflate: bool = False  # for servers that compress
    only_tls: bool = False  # with --tls
    # More arguments for the floor, over TLS.
    floor: tuple[str, ...] = ()
    sides: dict[str, Side] = field(default_factory=dict)
    same: tuple[str, tuple[str, ...]] = ("", ())

    @property
    def is_time(self) -> bool:
        return self.metric.startswith("cpu_us")


def _echo(title: str, arguments: str) -> Case:
    return Case(title, "cpu_us_per_message", "CPU us/message", tuple(arguments.split()))


CASES: dict[str, Case] = {
    "p1": _echo("64 B text, 100 connections", "--conns 100 --size 64"),
    "p16": _echo("64 B text, 100 connections, 16 in flight", "--conns 100 --size 64 --pipeline 16"),
    "1k": _echo("1 KiB text, 100 connections", "--conns 100 --size 1024"),
    "64k": _echo("64 KiB binary, 10 connections", "--conns 10 --size 65536 --binary"),
    "connect": Case(
        "open, handshake, close; 100 at a time",
        "cpu_us_per_connect",
        "CPU us/connect",
        ("--conns", "100", "--connects", "10000"),
        timed=False,
    ),
    "resumed": Case(
        "the same, with resumed sessions",
        "cpu_us_per_connect",
        "CPU us/connect",
        ("--conns", "100", "--connects", "10000", "--resume"),
        timed=False,
        only_tls=True,
    ),
    "idle": Case(
        "10,000 idle connections",
        "rss_bytes_per_connection",
        "B/connection",
        ("--idle", "10000"),
        floor=("--release",),
    ),
    "broadcast": Case(
        "64 B text to 500 subscribers, one publisher, 16 messages in flight",
        "cpu_us_per_delivery",
        "CPU us/delivery",
        ("--broadcast", "500", "--pipeline", "16", "--spin"),
        group=True,
    ),
    "deflate": Case(
        "1 KiB of JSON, 100 connections, compressed: ratio to the sum of plain C and zlib alone",
        "cpu_us_per_message",
        "CPU us/message",
        ("--size", "1024", "--deflate", "--spin"),
        deflate=True,
        sides={
            "plain": Side("c", ("--size", "1024", "--records")),
            "zlib": Side("", ("--size", "1024", "--messages", "100"), tool="zlib_cost"),
        },
        same=("reply_size", ("zlib", "c")),
    ),
}
