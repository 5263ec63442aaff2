# SPDX-License-Identifier: MIT
"""`app.metrics`: every line is as Prometheus reads it, and every number is right."""

import re
from typing import Any, Callable, Dict, List, Tuple

import peer
import pytest
from common import ROOT
from memory_broker import Hub, MemoryBroker
from peer import close_frame, frame, handshake, upgraded

from pyws import App, AppOptions
from pyws._core.calls import Counts
from pyws._core.metrics import CONTENT_TYPE, escaped, metrics_text

Serve = Callable[..., Any]
Metrics = Dict[str, float]

LABEL = r'[a-z]+="(?:[^"\\\n]|\\[\\"n])*"'
SAMPLE = re.compile(rf"(pyws_[a-z_]+)(?:\{{{LABEL}(?:,{LABEL})*\}})? (\d+(?:\.\d+)?)")


def parsed(text: str) -> Tuple[Metrics, Dict[str, str]]:
    """The samples, and the types of the metrics; each metric is announced once, before it."""
    samples: Metrics = {}
    types: Dict[str, str] = {}
    current = ""
    assert text.endswith("\n")
    for line in text.splitlines():
        if line.startswith("# HELP "):
            current, about = line.split(" ", 3)[2:]
            assert current not in types
            assert about
        elif line.startswith("# TYPE "):
            name, kind = line.split(" ")[2:]
            assert name == current
            types[name] = kind
        else:
            match = SAMPLE.fullmatch(line)
            assert match, line
            assert match.group(1) == current
            key = line[: match.start(2) - 1]
            assert key not in samples
            samples[key] = float(match.group(2))
    return samples, types


def metrics_of(server: Any) -> Metrics:
    return parsed(server.call(server.app.metrics))[0]


def test_each_number_of_a_new_app_is_0() -> None:
    with App() as app:
        samples, types = parsed(app.metrics())
    for name, kind in types.items():
        assert kind == ("counter" if name.endswith("_total") else "gauge")
    del samples["pyws_memory_bytes"]
    (version,) = (name for name, value in samples.items() if value)
    assert re.fullmatch(r'pyws_info\{version="\d+\.\d+\.\d+"\}', version)


def test_connections_messages_and_closes(serve: Serve) -> None:
    server = serve(
        open=lambda ws: ws.subscribe("news"),
        message=lambda ws, message, opcode: ws.send(message),
        pattern="/chat",
    )
    with upgraded(server.port, "/chat") as client:
        client.send(frame(b"hello") + frame(b"x"))
        assert [client.frame().payload for _ in range(2)] == [b"hello", b"x"]
        server.call(server.app.publish, "news", "y")
        samples = metrics_of(server)
        assert samples["pyws_connections"] == samples["pyws_websockets"] == 1
        assert samples["pyws_messages_received_total"] == 2
        assert samples["pyws_messages_sent_total"] == 3
        assert samples["pyws_topics"] == 1
        assert samples["pyws_received_bytes_total"] > len(handshake("/chat"))
        assert samples["pyws_sent_bytes_total"] > 100
        client.send(close_frame(4001))
        client.frame()
    with peer.Peer(server.port) as client:
        client.send(handshake("/none"))
        assert client.response().status == 404
    peer.eventually(lambda: metrics_of(server)["pyws_connections"] == 0)
    samples = metrics_of(server)
    assert samples["pyws_websockets"] == samples["pyws_topics"] == 0
    assert samples["pyws_websockets_opened_total"] == 1
    assert samples["pyws_connections_accepted_total"] == 2
    assert samples['pyws_websockets_closed_total{code="4xxx"}'] == 1
    assert samples['pyws_refused_total{status="404"}'] == 1


def test_slow_clients(serve: Serve) -> None:
    sockets: List[Any] = []
    server = serve(open=sockets.append)
    with upgraded(server.port):
        peer.eventually(lambda: sockets)
        dropped = 0
        while not dropped:
            dropped = server.call(lambda: sum(sockets[0].send(bytes(50_000)) == 2 for _ in "12"))
        samples = metrics_of(server)
        assert samples["pyws_messages_dropped_total"] == dropped
        assert samples["pyws_backpressure_total"] >= 1


def test_refused_connections(serve: Serve) -> None:
    server = serve({}, AppOptions(max_connections=1))
    with upgraded(server.port), peer.Peer(server.port) as client:
        assert client.response().status == 503
        samples = metrics_of(server)
    assert samples["pyws_connections_refused_total"] == 1
    assert samples['pyws_refused_total{status="503"}'] == 1


def test_a_worker_is_a_label_of_every_number() -> None:
    with App() as app:
        numbers = dict.fromkeys(app.stats(), 1)
    samples, _ = parsed(metrics_text(Counts(numbers, {"1000": 1}, {"403": 2}), 3))
    assert all('worker="3"' in name for name in samples)
    assert samples['pyws_refused_total{worker="3",status="403"}'] == 2


@pytest.mark.parametrize(
    ("value", "text"), [("a\\b", r"a\\b"), ('say "x"', r"say \"x\""), ("a\nb", r"a\nb")]
)
def test_labels_are_escaped(value: str, text: str) -> None:
    assert escaped(value) == text


def test_the_documentation_lists_every_metric() -> None:
    page = (ROOT / "docs" / "metrics.md").read_text(encoding="utf-8")
    with App(broker=MemoryBroker(Hub())) as app:
        types = parsed(app.metrics())[1]
        stats = app.stats()
    assert re.findall(r"`(pyws_[a-z_]+)", page.split("\n## ")[1]) == list(types)
    assert set(re.findall(r"^\| `pyws_\S+` \| `([a-z_]+)`", page, re.M)) == set(stats)
    assert CONTENT_TYPE in page
