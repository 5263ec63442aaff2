# SPDX-License-Identifier: MIT
"""The vectors of tests/vectors through a real socket and Python handlers: the events that the
handlers see, and the Close frame that the peer sees, in several ways of cutting the bytes."""

import threading
from typing import Any, Dict, List, Tuple

import peer
import pytest
import vectors
from common import TIMEOUT

VECTORS = vectors.load_all()
KINDS = {1: "TEXT", 2: "BINARY"}

Log = List[Tuple[Any, ...]]


class Recorder:
    """One route per payload limit; the events of a connection are found by its path."""

    def __init__(self, serve: Any) -> None:
        self.logs: Dict[str, Log] = {}
        self.closed = threading.Condition()
        self.count = 0
        self.server = serve(self.configure)

    def configure(self, app: Any) -> None:
        for limit in {vector.limit for vector in VECTORS}:
            app.ws(
                f"/{limit}/:number",
                max_payload_length=limit,
                close_timeout=2,
                message=lambda ws, msg, opcode: self.note(
                    ws, KINDS[opcode], 0, msg.encode() if isinstance(msg, str) else msg
                ),
                ping=lambda ws, msg: self.note(ws, "PING", 0, msg),
                pong=lambda ws, msg: self.note(ws, "PONG", 0, msg),
                close=self.on_close,
            )

    def note(self, ws: Any, *event: Any) -> None:
        self.logs.setdefault(ws.path, []).append(event)

    def on_close(self, ws: Any, code: int, reason: str) -> None:
        with self.closed:
            self.note(ws, "CLOSE", code, reason.encode())
            self.closed.notify_all()

    def run(self, vector: vectors.Vector, parts: List[bytes]) -> Tuple[Log, List[peer.Frame]]:
        """The events of a connection that gets these parts, and the frames that it sends."""
        self.count += 1
        path = f"/{vector.limit}/{self.count}"
        frames: List[peer.Frame] = []
        with peer.upgraded(self.server.port, path) as client:
            for part in parts:
                try:
                    client.send(part)
                except ConnectionError:
                    break  # the server has closed already, as it should after a violation
            if not is_ended(vector):
                client.finish()
            while not client.at_end():
                frames.append(client.frame())
        with self.closed:
            assert self.closed.wait_for(lambda: self.is_closed(path), TIMEOUT)
        return self.logs.pop(path), frames

    def is_closed(self, path: str) -> bool:
        return any(event[0] == "CLOSE" for event in self.logs.get(path, ()))


def is_ended(vector: vectors.Vector) -> bool:
    """Its last event closes the connection; otherwise it may even end inside a frame."""
    return bool(vector.events) and vector.events[-1].kind in ("CLOSE", "FAIL")


def expected(vector: vectors.Vector) -> Log:
    """The handlers' view: a violation ends in the close handler with what was sent."""
    events = [("CLOSE" if e.kind == "FAIL" else e.kind, e.code, e.data) for e in vector.events]
    if not is_ended(vector):
        events.append(("CLOSE", 1006, b"connection closed without a Close frame"))
    return events


def cuts(wire: bytes) -> List[List[bytes]]:
    """Whole, byte by byte (the front of a long one), and in two at a few places."""
    short = [wire[i : i + 1] for i in range(min(len(wire), 64))]
    places = sorted({1, 2, 3, len(wire) // 2, len(wire) - 1} & set(range(1, len(wire))))
    return [[wire], [*short, wire[64:]], *([wire[:i], wire[i:]] for i in places)]


@pytest.fixture
def recorder(serve: Any) -> Recorder:
    return Recorder(serve)


@pytest.mark.parametrize("start", range(0, len(VECTORS), 40))
def test_vectors_through_a_socket(recorder: Recorder, start: int) -> None:
    """F1-F18, C1-C3, T29: every vector gives the same events however its bytes are cut."""
    for vector in VECTORS[start : start + 40]:
        for parts in cuts(vector.wire):
            log, frames = recorder.run(vector, parts)
            assert log == expected(vector), (vector.name, len(parts))
            for pong, ping in zip(
                [f.payload for f in frames if f.opcode == 10],
                [e.data for e in vector.events if e.kind == "PING"],
            ):
                assert pong == ping, vector.name
            if is_ended(vector):
                last = vector.events[-1]
                assert frames[-1].opcode == 8, vector.name
                assert frames[-1].close_code == last.code, vector.name
                if last.kind == "FAIL":
                    assert frames[-1].payload[2:] == last.data, vector.name
