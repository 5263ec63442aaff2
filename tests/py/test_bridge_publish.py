# SPDX-License-Identifier: MIT
"""`publish` of a WebSocket and of an App through the bridge: every way to call it, right and wrong.

What they deliver is the subject of test_topics.py."""

import gc
import inspect
import sys
import threading
from typing import Any, Callable, List

import peer
import pytest
from common import TIMEOUT
from manual_sockets import with_zlib

from pyws import App, CompressOptions, OpCode, WebSocket, _native

SHARED = CompressOptions.SHARED_COMPRESSOR
DISABLED = CompressOptions.DISABLED
COMPRESSION = SHARED if _native.lib.ws_compression_available() else DISABLED
ONLY_BRIDGE = pytest.mark.skipif(not _native.lib.bridge, reason="runs without the bridge")

Publish = Callable[..., bool]


def in_handler(serve: Callable[..., Any], by_app: bool, run: Callable[[Publish], Any]) -> Any:
    """A server whose sockets subscribe to "t" and call ``run(publish)`` for a message."""
    apps: List[App] = []

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        run(apps[0].publish if by_app else ws.publish)

    server = serve(
        open=lambda ws: ws.subscribe("t"),
        message=on_message,
        compression=COMPRESSION,
    )
    apps.append(server.app)
    return server


BY = pytest.mark.parametrize("by_app", [False, True], ids=["socket", "app"])


@pytest.mark.parametrize("cls", [WebSocket, App])
def test_publish_is_documented(cls: type) -> None:
    publish = cls.publish  # type: ignore[attr-defined]
    assert str(publish.__doc__).startswith("Send one message to every subscriber")
    parameters = inspect.signature(publish).parameters.values()
    expected = [
        ("topic", inspect.Parameter.empty),
        ("message", inspect.Parameter.empty),
        ("opcode", None),
        ("compress", False),
        ("exclude_self", False),
    ]
    shown = [(item.name, item.default) for item in parameters if item.name != "self"]
    assert shown == expected[: 4 if cls is App else 5]


CALLS: List[Any] = [
    (lambda publish: publish("t", "positional"), 1, b"positional"),
    (lambda publish: publish("t", b"positional"), 2, b"positional"),
    (lambda publish: publish("t", "opcode", OpCode.TEXT), 1, b"opcode"),
    (lambda publish: publish("t", b"opcode", OpCode.BINARY), 2, b"opcode"),
    (lambda publish: publish("t", "None", None, False), 1, b"None"),
    (lambda publish: publish("t", "named", opcode=OpCode.TEXT), 1, b"named"),
    (lambda publish: publish("t", "order", compress=False, opcode=None), 1, b"order"),
    (lambda publish: publish("t", "caf\u00e9"), 1, "caf\u00e9".encode()),
    (lambda publish: publish("t", ""), 1, b""),
    (lambda publish: publish("t", b"\0"), 2, b"\0"),
]
LONG_CALLS: List[Any] = [
    (lambda publish: publish("t", "text as binary", OpCode.BINARY), 2, b"text as binary"),
    (lambda publish: publish("t", b"binary as text", OpCode.TEXT), 1, b"binary as text"),
    (lambda publish: publish("t", "int", 1), 1, b"int"),
    (lambda publish: publish(topic="t", message="named"), 1, b"named"),
    (lambda publish: publish("t", message="named"), 1, b"named"),
    (lambda publish: publish("t", bytearray(b"bytearray")), 2, b"bytearray"),
    (lambda publish: publish(type("Text", (str,), {})("t"), "subclass"), 1, b"subclass"),
    (lambda publish: publish("t", [1]), 1, b"[1]"),
    (lambda publish: publish(b"t", "bytes as topic"), 1, b"bytes as topic"),
    (lambda publish: publish("t", **{"mess" + "age": "not interned"}), 1, b"not interned"),
]


@BY
@ONLY_BRIDGE
def test_the_short_way_publishes(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, by_app: bool
) -> None:
    """Common arguments are no reason to go through Python."""
    monkeypatch.delattr(WebSocket, "_publish")
    monkeypatch.delattr(App, "_publish")
    check_calls(serve, by_app, CALLS)


@BY
def test_every_way_to_call_publish(serve: Callable[..., Any], by_app: bool) -> None:
    check_calls(serve, by_app, CALLS + LONG_CALLS)


def check_calls(serve: Callable[..., Any], by_app: bool, calls: List[Any]) -> None:
    results: List[Any] = []
    run = lambda publish: results.extend(call(publish) for call, _, _ in calls)  # noqa: E731
    server = in_handler(serve, by_app, run)
    with peer.upgraded(server.port, more=peer.frame(b"go")) as client:
        frames = [client.frame() for _ in calls]
    assert [(frame.opcode, frame.payload) for frame in frames] == [call[1:] for call in calls]
    assert results == [True] * len(calls)
    assert all(result is True for result in results)


@BY
def test_publish_without_subscribers(serve: Callable[..., Any], by_app: bool) -> None:
    results: List[bool] = []
    server = in_handler(serve, by_app, lambda publish: results.append(publish("other", "a")))
    with peer.upgraded(server.port, more=peer.frame(b"go")):
        peer.eventually(lambda: results == [False])
    assert results[0] is False


def test_exclude_self_through_the_short_way(serve: Callable[..., Any]) -> None:
    calls: List[Callable[[Publish], bool]] = [
        lambda publish: publish("t", "a", exclude_self=True),
        lambda publish: publish("t", "a", None, False, True),
        lambda publish: publish("t", "b", None, False, False),
        lambda publish: publish("t", "c", compress=False, exclude_self=False),
    ]
    results: List[bool] = []
    server = in_handler(
        serve, False, lambda publish: results.extend(call(publish) for call in calls)
    )
    with peer.upgraded(server.port, more=peer.frame(b"go")) as client:
        assert [client.frame().payload for _ in range(2)] == [b"b", b"c"]
    assert results == [False, False, True, True]


@BY
@ONLY_BRIDGE
@with_zlib
@pytest.mark.parametrize("compress", ["positional", "named"])
def test_the_short_way_publishes_compressed(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, by_app: bool, compress: str
) -> None:
    monkeypatch.delattr(WebSocket, "_publish")
    monkeypatch.delattr(App, "_publish")

    def run(publish: Publish) -> None:
        if compress == "named":
            publish("t", "x" * 99, compress=True)
        else:
            publish("t", "x" * 99, None, True)

    server = in_handler(serve, by_app, run)
    offer = [("Sec-WebSocket-Extensions", "permessage-deflate")]
    with peer.upgraded(server.port, headers=offer, more=peer.frame(b"go")) as client:
        assert client.read(1) == b"\xc1"


WRONG: List[Any] = [
    (lambda publish: publish(), TypeError, "topic"),
    (lambda publish: publish("t"), TypeError, "message"),
    (lambda publish: publish("t", None), TypeError, "message must be str"),
    (lambda publish: publish(5, "a"), TypeError, "topic must be"),
    (lambda publish: publish("\udc80", "a"), ValueError, "topic"),
    (lambda publish: publish("t", "\udc80"), ValueError, "surrogates"),
    (lambda publish: publish("t", b"\xff", OpCode.TEXT), ValueError, "UTF-8"),
    (lambda publish: publish("t", "a", OpCode.PING), ValueError, "PING"),
    (lambda publish: publish("t", "a", 3), ValueError, "opcode"),
    (lambda publish: publish("t", "a", None, 1), TypeError, "compress must be True or False"),
    (lambda publish: publish("t", "a", compress=None), TypeError, "compress must be True or"),
    (lambda publish: publish("t", "a", None, opcode=None), TypeError, "opcode"),
    (lambda publish: publish("t", "a", topic="t"), TypeError, "topic"),
    (lambda publish: publish("t", "a", wrong=1), TypeError, "wrong"),
    (lambda publish: publish("t", "a", None, False, False, False), TypeError, "argument"),
    (lambda publish: publish(*"abcdefghijkl"), TypeError, "argument"),
    (lambda publish: publish("t", **dict.fromkeys("abcdefghijkl", 1)), TypeError, "argument"),
]


@BY
def test_wrong_calls_of_publish(serve: Callable[..., Any], by_app: bool) -> None:
    errors: List[BaseException] = []

    def run(publish: Publish) -> None:
        for call, _, _ in WRONG:
            try:
                call(publish)
            except Exception as error:
                errors.append(error)
        publish("t", "on it goes")

    server = in_handler(serve, by_app, run)
    with peer.upgraded(server.port, more=peer.frame(b"go")) as client:
        assert client.frame().payload == b"on it goes"
    assert len(errors) == len(WRONG)
    for error, (_, kind, text) in zip(errors, WRONG):
        assert isinstance(error, kind), error
        assert text in str(error)


def test_flags_of_publish_are_checked(serve: Callable[..., Any]) -> None:
    errors: List[str] = []

    def run(publish: Publish) -> None:
        for wrong in (1, 0, None, "no"):
            try:
                publish("t", "a", exclude_self=wrong)
            except TypeError as error:
                errors.append(str(error))
        publish("t", "on it goes")

    server = in_handler(serve, False, run)
    with peer.upgraded(server.port, more=peer.frame(b"go")) as client:
        assert client.frame().payload == b"on it goes"
    assert len(errors) == 4
    assert all(error.startswith("exclude_self must be True or False") for error in errors)


def test_publish_of_what_is_not_initialized() -> None:
    classes: List[Any] = [WebSocket, App]
    for cls in classes:
        empty = cls.__new__(cls)
        with pytest.raises((TypeError, AttributeError)):
            empty.publish("t", "a")
        with pytest.raises((TypeError, AttributeError)):
            cls.publish(object(), "t", "a")
        with pytest.raises(TypeError):
            cls.publish()


@BY
def test_publish_in_another_thread_is_refused_while_a_handler_runs(
    serve: Callable[..., Any], by_app: bool
) -> None:
    """The handler gives the interpreter away: the other thread must not touch the server."""
    errors: List[str] = []

    def run(publish: Publish) -> None:
        def intrude() -> None:
            try:
                publish("t", "a")
            except RuntimeError as error:
                errors.append(str(error))

        thread = threading.Thread(target=intrude)
        thread.start()
        thread.join(TIMEOUT)
        publish("t", "own")

    server = in_handler(serve, by_app, run)
    with peer.upgraded(server.port, more=peer.frame(b"go")) as client:
        assert client.frame().payload == b"own"
    assert len(errors) == 1
    assert "app.defer" in errors[0]


def test_publish_of_a_closed_socket(serve: Callable[..., Any]) -> None:
    results: List[bool] = []

    def close(ws: WebSocket, code: int, reason: str) -> None:
        results.append(ws.publish("t", "late"))

    server = serve(open=lambda ws: ws.subscribe("t"), close=close)
    with peer.upgraded(server.port) as other:
        with peer.upgraded(server.port):
            pass
        peer.eventually(lambda: results == [False])
        server.call(server.app.publish, "t", "after")
        assert other.frame().payload == b"after"


def test_publish_of_a_freed_app() -> None:
    app = App()
    assert app.publish("t", "a") is False
    with app:
        pass
    with pytest.raises(RuntimeError, match="its server has been freed"):
        app.publish("t", "a")


def test_a_subclass_may_override_publish() -> None:
    class Loud(App):
        def publish(self, topic: Any, *args: Any, **more: Any) -> bool:
            return super().publish(topic.upper(), *args, **more)

    with Loud() as app:
        assert app.publish("t", "a") is False


def test_handlers_inside_publish_may_close_anything(serve: Callable[..., Any]) -> None:
    """A receiver at its limit: its dropped handler drops the publisher and itself."""
    sockets: List[WebSocket] = []
    results: List[Any] = []

    def dropped(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        for each in sockets:
            each.close()
        gc.collect()

    def on_message(ws: WebSocket, message: str, opcode: OpCode) -> None:
        for each in sockets:
            each.subscribe("t")
        for _ in range(200):
            results.append(ws.publish("t", "x" * 60_000))
        results.append("over")

    server = serve(
        open=sockets.append, message=on_message, dropped=dropped, max_backpressure=200_000
    )
    with peer.upgraded(server.port), peer.upgraded(server.port) as client:
        peer.eventually(lambda: len(sockets) == 2)
        client.send(peer.frame(b"go"))
        peer.eventually(lambda: results[-1:] == ["over"])
    assert results[0] is True
    assert results[-2] is False
    assert all(ws.closed for ws in sockets)


@BY
@pytest.mark.skipif(not hasattr(sys, "getallocatedblocks"), reason="of CPython alone")
def test_many_publishes_leave_nothing_behind(serve: Callable[..., Any], by_app: bool) -> None:
    counts: List[Any] = []
    topic, text, data = "caf\u00e9" * 3, "\u00e9" * 100, b"\0" * 100

    def run(publish: Publish) -> None:
        watched: List[Any] = [OpCode.TEXT, OpCode.BINARY, topic, text, data, str, bytes]
        for _ in range(3):
            for _ in range(20_000):
                publish(topic, text)
                publish(topic, data, OpCode.BINARY, compress=False)
                publish(topic, text, 1)
            gc.collect()
            counts.append((sys.getallocatedblocks(), [sys.getrefcount(item) for item in watched]))

    server = in_handler(serve, by_app, run)
    with peer.upgraded(server.port, more=peer.frame(b"go")):
        peer.eventually(lambda: len(counts) == 3)
    assert counts[2][0] <= counts[1][0] + 200
    assert all(abs(a - b) < 100 for a, b in zip(counts[1][1], counts[2][1]))
