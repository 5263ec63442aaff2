# SPDX-License-Identifier: MIT
"""`pyws.publish_to` and the command `pyws publish`, for programs that serve nothing themselves."""

import asyncio
import gc
import io
import json
import os
import signal
import subprocess
import sys
import warnings
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Dict, Iterator, List, Sequence, Tuple

import pytest
from coroutines import in_loop, in_thread, until
from keeping_checks import Member, data_of
from memory_broker import Hub, MemoryBroker, Node
from nats_server import NatsServer
from peer import eventually
from program import Program
from redis_server import RedisServer, free_port

import pyws
from pyws import App, History, OpCode, end_at, publish_to
from pyws import __main__ as command
from pyws._core import envelope, outlet
from pyws._core.urls import broker_of

HEADS = {code: envelope.head(envelope.NO_ORIGIN, code) for code in (1, 2, 0x101, 0x102)}


@pytest.fixture(params=["redis", "nats"])
def server(request: Any, tmp_path: Path) -> Iterator[Any]:
    """A broker that the test may stop."""
    kind: Callable[[Path], Any] = RedisServer if request.param == "redis" else NatsServer
    with kind(tmp_path) as one:
        yield one


# ---- what is published --------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "more", "data"),
    [
        ("text", {}, HEADS[1] + b"text"),
        ("", {}, HEADS[1]),
        (b"\0\xff", {}, HEADS[2] + b"\0\xff"),
        (bytearray(b"x"), {}, HEADS[2] + b"x"),
        ({"a": ["ü", 1.5, None]}, {}, HEADS[1] + '{"a":["ü",1.5,null]}'.encode()),
        (5, {}, HEADS[1] + b"5"),
        (b"text", {"opcode": OpCode.TEXT}, HEADS[1] + b"text"),
        ("text", {"opcode": 2, "compress": True}, HEADS[0x102] + b"text"),
    ],
)
def test_messages(message: Any, more: Dict[str, Any], data: bytes) -> None:
    hub = Hub()
    broker = MemoryBroker(hub)
    for topic in ("topic", b"topic"):
        publish_to(broker, topic, message, **more)
    assert hub.published == [(b"topic", data)] * 2
    assert hub.members == []
    assert broker.closed == 2


@in_loop
async def test_b5_it_reaches_apps(server: Any) -> None:
    topics = ["news", "a b", "*", "\0", ""]
    one, other = Node(server.url), Node(server.url)
    async with one.running(), other.running():
        for node in (one, other):
            await node.client("a", *topics)
            await node.settled()
        for topic in topics:
            for message in ("text", b"\0\xff", {"a": 1}):
                await in_thread(publish_to, server.url, topic, message)
            await in_thread(publish_to, server.url, topic + "x", "to no one")
        for node in (one, other):
            for _ in topics:
                assert [await node.first("a") for _ in range(3)] == ["text", b"\0\xff", '{"a":1}']
            assert await node.got("a") == []


# ---- what is kept -------------------------------------------------------------------------------


def test_a_message_is_kept() -> None:
    hub = Hub()
    history = History("chat/*", messages=5)
    publish_to(MemoryBroker(hub), "chat/1", "x", history=history)
    publish_to(MemoryBroker(hub), "chat/1", "y")
    assert hub.published == [(b"chat/1", HEADS[1] + b"y")]
    assert [one.data for one in hub.appended[b"chat/1"]] == [HEADS[1] + b"x"]
    assert hub.members == []


def test_a_broker_that_keeps_nothing() -> None:
    broker = MemoryBroker(Hub())
    broker.keeps = False
    with pytest.raises(ValueError, match="MemoryBroker keeps no messages, which history needs"):
        publish_to(broker, "topic", "x", history=History("topic"))


@pytest.mark.parametrize("kind", ["redis", "nats"])
@in_loop
async def test_real_brokers_keep_it(kind: str, tmp_path: Path) -> None:
    """By the function, and by the command: with an id for those who have subscribed."""
    history = History("chat/*", messages=5)
    settings = f'jetstream {{ store_dir: "{tmp_path}/store" }}'
    with RedisServer(tmp_path) if kind == "redis" else NatsServer(tmp_path, settings) as own:
        async with Member(lambda: broker_of(own.url), history) as one:
            await one.broker.subscribe([b"chat/1"])
            begin = (await one.read(b"chat/1", None)).id
            await in_thread(lambda: publish_to(own.url, "chat/1", "x", history=history))
            call = in_thread(lambda: publish(own.url, "chat/1", "y", "--messages=5"))
            assert await call == (0, "")
            page = await one.read(b"chat/1", begin)
            assert (data_of(page), page.complete) == ([HEADS[1] + b"x", HEADS[1] + b"y"], True)
            await until(lambda: len(one.got) == 2)
            assert [(id, data) for _, data, id in one.got] == page.messages


def test_nats_without_jetstream(tmp_path: Path) -> None:
    with NatsServer(tmp_path) as own:
        code, text = publish(own.url, "t", "m", "--messages=5")
        assert code == 1
        assert text.startswith(f"pyws: the broker {own.url}: no JetStream answers, which history")


# ---- what goes wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "more", "error"),
    [
        ((5, "topic", "x"), {}, "^url must be a URL like .* not int"),
        (("foo://h", "topic", "x"), {}, "^url must be a URL that begins with"),
        (("redis://h:port", "topic", "x"), {}, "^the broker redis://h:port: "),
        (("nats://h", 5, "x"), {}, "^topic must be a str or bytes, not int"),
        (("nats://h", b"\xff", "x"), {}, "^topic must be UTF-8"),
        (("nats://h", "topic", object()), {}, "^message must be str"),
        (("nats://h", "topic", float("nan")), {}, "JSON has no nan"),
        (("nats://h", "topic", b"\xff"), {"opcode": 1}, "UTF-8"),
        (("nats://h", "topic", "x"), {"opcode": 9}, "^opcode must be OpCode.TEXT or"),
        (("nats://h", "topic", "x"), {"timeout": 0}, "^timeout must be from 0.001 to .* not 0"),
        (("nats://h", "topic", "x"), {"timeout": "1"}, "^timeout must be a number"),
        (("nats://h", "topic", "x"), {"history": 5}, "^history must be a History or None, not int"),
        (
            ("nats://h", "topic", "x"),
            {"history": History("chat/*")},
            r"^the topic 'topic' is none of History\('chat/\*', messages=1000",
        ),
    ],
)
def test_wrong_arguments(arguments: Tuple[Any, ...], more: Dict[str, Any], error: str) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        publish_to(*arguments, **more)


@in_loop
async def test_inside_a_loop() -> None:
    hub = Hub()
    with pytest.raises(RuntimeError, match=r"publish_to\(\) would block .*asyncio.to_thread"):
        publish_to(MemoryBroker(hub), "topic", "x")
    await in_thread(publish_to, MemoryBroker(hub), "topic", "x")
    assert len(hub.published) == 1


class Odd(MemoryBroker):
    """It fails in one method, or is lost there."""

    def __init__(self, where: str, what: Any) -> None:
        super().__init__(Hub())
        self.where, self.what = where, what

    async def _at(self, where: str) -> None:
        if where != self.where:
            return
        if isinstance(self.what, BaseException):
            raise self.what
        if self.what == "lost":
            assert self.link
            self.link.lost(ConnectionError("it has gone"))
        await asyncio.sleep(3600)

    async def connect(self, link: Any) -> None:
        await super().connect(link)
        await self._at("connect")

    async def publish(self, messages: Sequence[Tuple[bytes, bytes]]) -> None:
        await self._at("publish")
        await super().publish(messages)

    async def close(self) -> None:
        await super().close()
        await self._at("close")

    def __str__(self) -> str:
        return "Odd"


# ---- ends of topics -----------------------------------------------------------------------------


@in_loop
async def test_b6_the_end_of_a_topic(server: Any) -> None:
    one, other = Node(server.url), Node(server.url)
    async with one.running(), other.running():
        for node in (one, other):
            await node.client("a", "user/7")
            await node.client("b", "user/8")
            await node.settled()
        await in_thread(end_at, server.url, "user/7", 4001, "logged out: " + "ü" * 60)
        for node in (one, other):
            client = node.clients["a"]
            await asyncio.wait_for(client.wait_closed(), 20)
            assert (client.close_code, client.close_reason) == (4001, "logged out: " + "ü" * 55)
            assert await node.got("b") == []


def test_what_end_at_sends() -> None:
    hub = Hub()
    end_at(MemoryBroker(hub), "topic")
    end_at(MemoryBroker(hub), b"topic", 4001, b"x")
    begin = b"pyws\1\2\0\0" + bytes(8)
    assert hub.published == [
        (b"topic", begin + b"\x03\xe8"),
        (b"topic", begin + b"\x0f\xa1x"),
    ]


@pytest.mark.parametrize(
    ("arguments", "more", "error"),
    [
        (("http://x", "topic"), {}, "^url must be a URL"),
        (("nats://h", 5), {}, "^topic must be a str or bytes"),
        (("nats://h", "topic", 999), {}, "^code must be .* not 999"),
        (("nats://h", "topic", 1000, 5), {}, "^reason must be str or bytes, not int"),
        (("nats://h", "topic"), {"timeout": 0}, "^timeout must be from 0.001 to .* not 0"),
    ],
)
def test_wrong_arguments_of_end_at(
    arguments: Tuple[Any, ...], more: Dict[str, Any], error: str
) -> None:
    with pytest.raises((TypeError, ValueError), match=error):
        end_at(*arguments, **more)


@in_loop
async def test_end_at_inside_a_loop() -> None:
    with pytest.raises(RuntimeError, match=r"end_at\(\) would block .*to_thread\(pyws.end_at"):
        end_at(MemoryBroker(Hub()), "topic")


# ---- failures -----------------------------------------------------------------------------------


@pytest.mark.parametrize("where", ["connect", "publish"])
@pytest.mark.parametrize(
    ("what", "error", "text"),
    [
        ("lost", ConnectionError, "the broker Odd: it has gone"),
        (KeyError("x"), ConnectionError, "the broker Odd: KeyError: 'x'"),
        (asyncio.TimeoutError(), ConnectionError, "the broker Odd: TimeoutError"),
        (asyncio.CancelledError(), ConnectionError, "the broker Odd: it was cancelled"),
        ("silent", TimeoutError, "the broker Odd has not answered for 0.05 s"),
    ],
)
def test_a_broker_that_fails(where: str, what: Any, error: Any, text: str) -> None:
    broker = Odd(where, what)
    with pytest.raises(error) as info:
        publish_to(broker, "topic", "x", timeout=0.05 if what == "silent" else 10)
    assert str(info.value) == text
    assert broker.closed == 1


@pytest.mark.parametrize("what", ["lost", "silent", KeyError("x")])
def test_errors_after_publishing_do_not_matter(what: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outlet, "CLOSE_TIME", 0.05)
    broker = Odd("close", what)
    publish_to(broker, "topic", "x")
    assert len(broker.hub.published) == 1


def test_a_message_that_is_too_long() -> None:
    broker = MemoryBroker(Hub())
    broker.max_size = 100
    publish_to(broker, "topic", "x" * (100 - envelope.HEADER))
    with pytest.raises(ValueError, match="the message has 101 bytes .* takes at most 100"):
        publish_to(broker, "topic", "x" * (101 - envelope.HEADER))
    assert len(broker.hub.published) == 1


@pytest.mark.parametrize("scheme", ["redis", "nats"])
def test_no_server(scheme: str) -> None:
    url = f"{scheme}://127.0.0.1:{free_port()}"
    with pytest.raises(ConnectionError, match=f"^the broker {url}: Connection refused$"):
        publish_to(url.replace("//", "//me:secret@"), "topic", "x")


def test_the_url_of_the_other_broker(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pytest.importorskip("pyws._core.nats_broker"), "PATIENCE", 0.1)
    text = "^the broker {}: it does not speak the protocol of {}, but probably that of {}$"
    with RedisServer(tmp_path) as redis, NatsServer(tmp_path) as nats:
        for password in ("", "right"):
            redis.command("CONFIG", "SET", "requirepass", password)
            url = f"nats://127.0.0.1:{redis.port}"
            with pytest.raises(ConnectionError, match=text.format(url, "NATS", r"Redis \(.*\)")):
                publish_to(url, "topic", "x")
        url = f"redis://127.0.0.1:{nats.port}"
        with pytest.raises(ConnectionError, match=text.format(url, "Redis", r"NATS \(.*\)")):
            publish_to(url, "topic", "x")
        with pytest.raises(ConnectionError, match=": it offers no TLS$"):
            publish_to(url.replace("redis", "rediss"), "topic", "x")


def test_a_frozen_server(server: Any) -> None:
    server.stop()
    with pytest.raises(TimeoutError, match=r"has not answered for 0.2 s"):
        publish_to(server.url, "topic", "x", timeout=0.2)


# ---- the command --------------------------------------------------------------------------------


def publish(*arguments: Any, data: bytes = b"") -> Tuple[int, str]:
    """Exit status and errors of the command, which prints nothing else."""
    done = subprocess.run(
        [sys.executable, "-m", "pyws", "publish", *arguments],
        input=data,
        capture_output=True,
        cwd=str(Path(pyws.__file__).parents[1]),
        timeout=60,
    )
    assert done.stdout == b""
    return done.returncode, done.stderr.decode()


@in_loop
async def test_b5_the_command(server: Any) -> None:
    node = Node(server.url)
    async with node.running():
        await node.client("a", "the topic")
        await node.settled()
        call = in_thread(lambda: publish(server.url, "the topic", "hello ü"))
        assert await call == (0, "")
        assert await node.first("a") == "hello ü"


@pytest.mark.parametrize(
    ("arguments", "data", "expected"),
    [
        (["hello ü"], b"", "hello ü"),
        ([""], b"", ""),
        (["-"], "from a pipe ü\n".encode(), "from a pipe ü\n"),
        (["-", "--binary"], b"\0\xff", b"\0\xff"),
        (["--binary", "text"], b"", b"text"),
        (["--binary", os.fsdecode(b"\xff")], b"", b"\xff"),
        (["--json", '{"a": [1]}'], b"", '{"a": [1]}'),
        (["--timeout=5", "x"], b"", "x"),
        (["--messages=5", "x"], b"", "x"),
    ],
)
def test_messages_of_the_command(
    arguments: List[str], data: bytes, expected: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: List[Any] = []
    monkeypatch.setattr(command, "publish_to", lambda *a, **more: calls.append((a, more)))
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    assert command.main(["publish", "nats://x", "the topic", *arguments]) == 0
    timeout = 5 if "--timeout=5" in arguments else 10
    history = History("*", messages=5) if "--messages=5" in arguments else None
    wanted = {"timeout": timeout, "history": history}
    assert calls == [(("nats://x", "the topic", expected), wanted)]


def test_arguments_that_begin_with_a_minus(monkeypatch: pytest.MonkeyPatch) -> None:
    calls: List[Any] = []
    monkeypatch.setattr(command, "publish_to", lambda *a, **more: calls.append(a))
    assert command.main(["publish", "--", "nats://x", "-t", "-5"]) == 0
    assert command.main(["publish", "nats://x", "--", "-t", "--binary"]) == 0
    assert calls == [("nats://x", "-t", "-5"), ("nats://x", "-t", "--binary")]


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nats://127.0.0.1:1", "t", "m"], "the broker nats://127.0.0.1:1: Connection refused"),
        (["nats://me:secret@no-host.invalid", "t", "m"], "the broker nats://no-host.invalid: "),
        (["redis://me:secret@no-host.invalid", "t", "m"], "the broker redis://no-host.invalid: "),
        (["foo://x", "t", "m"], "url must be a URL that begins with one of redis://"),
        (["nats://x", "t", "{", "--json"], "the message is not JSON: "),
        (["nats://x", "t", os.fsdecode(b"\xff")], "the message is not UTF-8 (invalid start byte)"),
    ],
)
def test_errors_of_the_command(arguments: List[str], error: str) -> None:
    code, text = publish(*arguments)
    assert (code, text.count("\n")) == (1, 1)
    assert text.startswith(f"pyws: {error}")
    assert "secret" not in text


def test_a_wrong_password(tmp_path: Path) -> None:
    with ExitStack() as stack:
        folders = [tmp_path / name for name in ("redis", "nats")]
        for folder in folders:
            folder.mkdir()
        one = stack.enter_context(RedisServer(folders[0], "--requirepass", "right"))
        other = stack.enter_context(
            NatsServer(folders[1], "authorization: {user: me, password: right}")
        )
        for server, user in ((one, ""), (other, "me")):
            url = server.url.replace("//", f"//{user}:%s@")
            code, text = publish(url % "wrong-secret", "t", "m")
            assert code == 1
            assert text.startswith(f"pyws: the broker {server.url}: ")
            assert "check the user and the password" in text
            assert "secret" not in text
            assert publish(url % "right", "t", "m") == (0, "")


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["nats://x", "t"], "the following arguments are required: MESSAGE"),
        (["nats://x", "t", "-5"], "there is no option -5 (write -- before the first argument"),
        (["nats://x", "t", "m", "--bin"], "there is no option --bin, did you mean --binary?"),
        (["nats://x", "t", "m", "x"], "unrecognized arguments: x"),
        (["nats://x", "t", "m", "--timeout", "0"], "must be from 0.001 to 3600 seconds, not '0'"),
        (["nats://x", "t", "m", "--json", "--binary"], "--json is about text"),
        *(
            (["nats://x", "t", "m", "--messages", n], f"a number from 1 to 1000000, not '{n}'")
            for n in ("0", "x", "1.5", "1000001", "")
        ),
        *(
            (["nats://x", "t", "m", "--seconds", n], f"from 1 to 4000000 seconds, not '{n}'")
            for n in ("0.5", "x", "nan", "4000001")
        ),
    ],
)
def test_wrong_arguments_of_the_command(arguments: List[str], error: str) -> None:
    code, text = publish(*arguments)
    assert code == 2
    assert error in text


def test_a_missing_package(tmp_path: Path) -> None:
    (tmp_path / "nats.py").write_text("raise ImportError('none')")
    code, text = publish_with_path(tmp_path, "nats://x", "t", "m")
    assert (code, text) == (
        1,
        "pyws: the broker nats://x needs a package that cannot be imported (none): "
        'pip install "pyws-server[nats]"\n',
    )


def publish_with_path(path: Path, *arguments: str) -> Tuple[int, str]:
    with Program("-c", RUN, str(path), *arguments) as program:
        return program.wait(), program.error_text()


RUN = """
import sys
sys.path.insert(0, sys.argv.pop(1))
from pyws.__main__ import main
sys.exit(main(["publish", *sys.argv[1:]]))
"""


def test_importing_pyws_does_not_import_asyncio() -> None:
    """Programs without coroutines start faster."""
    text = "import sys; before = set(sys.modules); import pyws; print(*set(sys.modules) - before)"
    with Program("-c", text) as program:
        assert not {"asyncio", "nats", "redis"} & set(program.line().split())


def test_ctrl_c_ends_it(server: Any) -> None:
    """While it waits for a broker that does not answer."""
    server.stop()
    with Program("-m", "pyws", "publish", server.url, "t", "m") as program:
        eventually(lambda: len(os.listdir(f"/proc/{program.process.pid}/fd")) > 5)
        assert program.stop(signal.SIGINT) == 130
        assert program.error_text() == ""


def test_ctrl_c_before_the_loop_begins(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing but KeyboardInterrupt is to be seen, as when an app runs."""

    def interrupted(coroutine: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(asyncio, "run", interrupted)
    app = App(broker=MemoryBroker(Hub()))
    app.listen(0, host="127.0.0.1")
    calls: List[Callable[[], Any]] = [app.run]
    calls.append(lambda: publish_to(MemoryBroker(Hub()), "t", "m"))
    gc.collect()  # what other tests have left
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for call in calls:
            with pytest.raises(KeyboardInterrupt):
                call()
        gc.collect()
    assert [str(one.message) for one in found] == []


def test_json_is_what_apps_send() -> None:
    hub = Hub()
    publish_to(MemoryBroker(hub), "t", {"b": 1, "a": "ü"})
    assert json.loads(hub.published[0][1][envelope.HEADER :]) == {"b": 1, "a": "ü"}
