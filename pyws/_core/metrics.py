# SPDX-License-Identifier: MIT
"""The numbers of an app in the text format of Prometheus, version 0.0.4."""

from __future__ import annotations

from typing import Iterable, Mapping, Tuple

from .._native import VERSION
from .calls import Counts

__all__ = ["CONTENT_TYPE", "metrics_text"]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Labels = Tuple[Tuple[str, str], ...]
Samples = Iterable[Tuple[Labels, float]]

NO_BROKER: Mapping[str, int] = {}

_COUNTERS = {
    # key of Counts.numbers: (name, help)
    "accepted": ("connections_accepted", "TCP connections accepted, HTTP included."),
    "refused": ("connections_refused", "TCP connections refused: max_connections or no memory."),
    "limited": ("clients_limited", "Connections and handshakes beyond the limits of an address."),
    "opened": ("websockets_opened", "WebSocket connections opened."),
    "messages_in": ("messages_received", "WebSocket messages received."),
    "messages_out": ("messages_sent", "WebSocket messages sent, once for each receiver."),
    "dropped": ("messages_dropped", "WebSocket messages dropped because of max_backpressure."),
    "bytes_in": ("received_bytes", "Bytes read from sockets, HTTP and frame headers included."),
    "bytes_out": ("sent_bytes", "Bytes written to sockets, HTTP and frame headers included."),
    "backpressure": ("backpressure", "Times that the kernel's send buffer of a socket was full."),
    "turns": ("loop_turns", "Turns of the event loop."),
    "blocked": ("loop_blocked", "Turns of the event loop that took longer than a second."),
    "bus_sent": ("bus_messages_sent", "Messages sent to other workers, once for each of them."),
    "bus_received": ("bus_messages_received", "Messages received from other workers."),
    "bus_lost": ("bus_messages_lost", "Messages lost because another worker did not keep up."),
    "bus_bytes_out": ("bus_sent_bytes", "Bytes written to the sockets of other workers."),
    "bus_bytes_in": ("bus_received_bytes", "Bytes read from the socket that other workers use."),
}
_GAUGES = {
    "connections": ("connections", "TCP connections now, HTTP included."),
    "open": ("websockets", "Open WebSocket connections now."),
    "topics": ("topics", "Topics that have subscribers now."),
    "memory": ("memory_bytes", "Memory held for connections, routes and buffers."),
    "compression_memory": ("compression_memory_bytes", "The part of it that zlib holds."),
    "bus_queued": ("bus_queued_bytes", "What waits for other workers now."),
    "bus_members": ("bus_workers", "Other workers that are connected now."),
}
_BROKER = {
    # the same of App.stats, where the app has a broker: (name, type, help)
    "broker_published": ("published_total", "counter", "Messages that the broker has accepted."),
    "broker_kept": ("kept_total", "counter", "Messages of this app that the broker keeps."),
    "broker_received": ("received_total", "counter", "Messages of other apps from the broker."),
    "broker_replayed": ("replayed_total", "counter", "Messages sent to clients that missed them."),
    "broker_incomplete": ("incomplete_total", "counter", "Times that some were not kept any more."),
    "broker_lost": ("lost_total", "counter", "Messages that may not have reached other machines."),
    "broker_ignored": ("ignored_total", "counter", "Messages from the broker that are not valid."),
    "broker_reconnects": ("reconnects_total", "counter", "Times that the broker came back."),
    "broker_up": ("up", "gauge", "Whether the broker is connected."),
    "broker_queued": ("queued_bytes", "gauge", "What waits for the broker."),
    "broker_lag": ("lag_seconds", "gauge", "How long the first of that has waited."),
}


def metrics_text(counts: Counts, worker: int = 0, broker: Mapping[str, int] = NO_BROKER) -> str:
    """All numbers, each with its help and type.

    Args:
        counts: The numbers.
        worker: The number of the worker, which becomes a label; 0 without workers.
        broker: What `App.stats` says of the broker, if there is one.
    """
    common: Labels = (("worker", str(worker)),) if worker else ()
    lines = _metric("info", "gauge", "The version of pyws.", [((("version", VERSION),), 1)], common)
    for key, (name, about) in _COUNTERS.items():
        lines += _metric(f"{name}_total", "counter", about, [((), counts.numbers[key])], common)
    for name, label, about, table in (
        ("websockets_closed", "code", "WebSocket connections closed, by close code.", counts.codes),
        ("refused", "status", "Handshakes and other requests refused, by status.", counts.statuses),
    ):
        samples = [(((label, text),), number) for text, number in table.items()]
        lines += _metric(f"{name}_total", "counter", about, samples, common)
    for key, (name, about) in _GAUGES.items():
        lines += _metric(name, "gauge", about, [((), counts.numbers[key])], common)
    for key, number in broker.items():
        name, kind, about = _BROKER[key]
        value = number / 1000 if key == "broker_lag" else number
        lines += _metric(f"broker_{name}", kind, about, [((), value)], common)
    return "\n".join(lines) + "\n"


def _metric(name: str, kind: str, about: str, samples: Samples, common: Labels) -> list[str]:
    name = f"pyws_{name}"
    lines = [f"# HELP {name} {about}", f"# TYPE {name} {kind}"]
    return lines + [f"{name}{_label_text((*common, *own))} {value}" for own, value in samples]


def _label_text(labels: Labels) -> str:
    pairs = ",".join(f'{name}="{escaped(value)}"' for name, value in labels)
    return f"{{{pairs}}}" if pairs else ""


def escaped(value: str) -> str:
    """The value of a label between its quotation marks."""
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
