# SPDX-License-Identifier: MIT
"""B1 to B4 and B6 with workers: topics span all of them, whatever happens to one."""

import json
import os
import random
import signal
import time
from collections import defaultdict
from contextlib import ExitStack
from functools import partial
from typing import Any, Dict, Iterator, List, Set, Tuple

import pytest
from common import TIMEOUT, show_figures
from peer import Frame, close_frame, eventually, frame, handshake, request, upgraded
from peer import Peer as RawPeer
from program import Program
from worker_programs import gone, start

from pyws import App

PROGRAM = """
import json
from pyws._core.descriptors import is_open

COUNT = WORKERS
log = logging.getLogger("pyws")

def on_open(ws):
    ws.subscribe("everyone")
    ws.send_json(["done", os.getpid()])

def do(ws, what, *args):
    if what == "subscribe":
        return sum(ws.subscribe(topic) for topic in args)
    if what == "unsubscribe":
        return sum(ws.unsubscribe(topic) for topic in args)
    if what == "subscribe many":
        return sum(ws.subscribe(f"{args[0]} {number}") for number in range(args[1]))
    if what == "publish":
        return app.publish(*args)
    if what == "publish many":
        topic, text, count = args
        return sum(app.publish(topic, f"{text} {number}") for number in range(count))
    if what == "publish by socket":
        return ws.publish(*args)
    if what == "publish bytes":
        return app.publish(args[0], os.urandom(1) * args[1])
    if what == "defer":
        app.defer(app.publish, *args)
    if what == "later":
        app.call_later(0, app.publish, *args)
    if what == "end":
        return app.end(*args)
    if what == "stats":
        return app.stats()
    if what == "metrics":
        return app.metrics()
    if what == "subscribers":
        return app.num_subscribers(*args)
    if what == "fork":
        descriptors = app._runtime.member.descriptors
        reads, writes = os.pipe()
        if os.fork() == 0:
            left = [fd for fd in descriptors if is_open(fd)]
            left = [fd for fd in left if os.readlink(f"/proc/self/fd/{fd}") != "/dev/null"]
            os.write(writes, str((len(descriptors), left)).encode())
            os._exit(0)
        os.wait()
        return os.read(reads, 1000).decode()

def on_message(ws, message, opcode):
    ws.send_json(["done", do(ws, *json.loads(message))])

async def on_question(ws, message, opcode):
    what, *args = json.loads(message)
    await asyncio.sleep(0)
    ws.send_json(["done", await app.count(*args) if what == "count" else do(ws, what, *args)])

def publish_by_http(res, req):
    res.end(str(app.publish(req.parameters["topic"], "by HTTP")))

settings = dict(open=on_open, max_topics=200_000, max_backpressure=64 * 2**20)
app.ws("/bus", message=on_message, **settings)
if ASYNCIO:
    app.ws("/ask", message=on_question, **settings)
app.get("/publish/:topic", publish_by_http)
listen()
app.run(workers=COUNT)
print("returned")
"""


class Client(RawPeer):
    """A connection to one of the workers, which does what it is asked."""

    def __init__(self, port: int, path: str) -> None:
        super().__init__(port)
        self.received: List[str] = []  # published messages
        self.send(handshake(path))
        assert self.response().status == 101
        self.pid: int = self.answer()

    def answer(self) -> Any:
        """What the worker answers; published messages that come before are kept."""
        while True:
            text = self.text()
            if text.startswith('["done"'):
                return json.loads(text)[1]
            self.received.append(text)

    def text(self) -> str:
        got: Frame = self.frame()
        assert got.opcode in (1, 2), got
        return got.payload.decode("latin-1" if got.opcode == 2 else "utf-8")

    def ask(self, what: str, *args: Any) -> None:
        self.send(frame(json.dumps([what, *args]).encode()))

    def do(self, what: str, *args: Any) -> Any:
        self.ask(what, *args)
        return self.answer()

    def next(self) -> str:
        """The next published message."""
        return self.received.pop(0) if self.received else self.text()


class Crew:
    """A program with workers, and clients of each of them."""

    def __init__(self, stack: ExitStack, workers: int, path: str, asyncio: bool) -> None:
        text = PROGRAM.replace("WORKERS", str(workers)).replace("ASYNCIO", str(asyncio))
        self.program: Program = stack.enter_context(start(text))
        self.stack = stack
        self.path = path
        self.port = int(self.program.line())
        self.spare: Dict[int, List[Client]] = defaultdict(list)
        self.find(workers)
        # The kernel may choose one worker often, so that another one is not known to it yet.
        for clients in self.spare.values():
            eventually(partial(self.knows, clients[0], workers - 1))

    @staticmethod
    def knows(client: Client, others: int) -> bool:
        """Whether its worker knows so many others."""
        members: int = client.do("stats")["bus_members"]
        return members == others

    def find(self, workers: int) -> None:
        """Connect until there are clients of so many workers."""
        deadline = time.monotonic() + TIMEOUT
        while len(self.spare) < workers:
            assert time.monotonic() < deadline
            try:
                self.connect()
            except (ConnectionError, EOFError):  # by a worker that ends
                pass
            time.sleep(0.01)

    def successor(self, pid: int, others: Set[int]) -> Client:
        """A client of the worker that takes the place of this one, which has been killed."""
        eventually(lambda: gone(pid))
        del self.spare[pid]
        self.find(len(others) + 1)
        (found,) = set(self.spare) - others
        return self.one_of(found)

    def connect(self) -> Client:
        client = Client(self.port, self.path)
        self.stack.enter_context(client)
        self.spare[client.pid].append(client)
        return client

    def one_of(self, pid: int) -> Client:
        """A client of this worker that no one else uses."""
        deadline = time.monotonic() + TIMEOUT
        while not self.spare[pid]:
            assert time.monotonic() < deadline
            self.connect()
            time.sleep(0.01)
        return self.spare[pid].pop()

    def one_of_each(self) -> List[Client]:
        return [self.one_of(pid) for pid in sorted(self.spare)]

    def stop(self) -> str:
        """End it; returns its log."""
        assert self.program.stop(signal.SIGTERM) == 0
        log = self.program.error_text()
        assert "Traceback" not in log, log
        return log


def is_unwanted(client: Client, topic: str) -> bool:
    """Its worker knows of no subscriber."""
    return client.do("publish", topic, "x") is False


def go_on(pid: int) -> None:
    """The end of a SIGSTOP."""
    if not gone(pid):
        os.kill(pid, signal.SIGCONT)


@pytest.fixture
def stack() -> Iterator[ExitStack]:
    with ExitStack() as stack:
        yield stack


@pytest.fixture(params=["plain", "asyncio"])
def crew(stack: ExitStack, request: pytest.FixtureRequest) -> Crew:
    """Three workers, with each kind of loop."""
    asyncio = request.param == "asyncio"
    return Crew(stack, 3, "/ask" if asyncio else "/bus", asyncio)


# ---- B1, B2 -------------------------------------------------------------------------------------


def test_b1_a_message_reaches_the_subscribers_of_all_workers(crew: Crew) -> None:
    clients = crew.one_of_each()
    for client in clients:
        assert client.do("subscribe", "news", "other") == 2
    for number, client in enumerate(clients):
        assert client.do("publish", "news", f"from {number}") is True
        for reader in clients:
            assert reader.next() == f"from {number}"
    assert clients[0].do("publish by socket", "news", "by a socket") is True
    assert [reader.next() for reader in clients] == ["by a socket"] * 3
    clients[1].do("defer", "news", "deferred")
    assert [reader.next() for reader in clients] == ["deferred"] * 3
    clients[2].do("later", "news", "later")
    assert [reader.next() for reader in clients] == ["later"] * 3
    assert request(crew.port, "GET /publish/news HTTP/1.1").body == b"True"
    assert [reader.next() for reader in clients] == ["by HTTP"] * 3
    assert clients[0].do("publish", "nobody", "x") is False
    assert request(crew.port, "GET /publish/nobody HTTP/1.1").body == b"False"
    assert [client.received for client in clients] == [[]] * 3  # nothing came twice
    crew.stop()


def test_b1_who_has_subscribed_is_reached(crew: Crew) -> None:
    """A client that knows of a subscription anywhere may publish anywhere."""
    one, two, _ = crew.one_of_each()
    for number in range(200):
        reader, writer = (one, two) if number % 2 else (two, one)
        assert reader.do("subscribe", f"t{number}") == 1
        assert writer.do("publish", f"t{number}", f"m{number}") is True
        assert reader.next() == f"m{number}"
        assert reader.do("unsubscribe", f"t{number}") == 1
        if number % 20 == 0:  # the end of a subscription becomes known as well
            eventually(partial(is_unwanted, writer, f"t{number}"))


@pytest.mark.parametrize("topic", ["", "\0", "a\0b", "x" * 1024, "*", "news.>", "ü€😀", " \r\n"])
def test_b1_any_name_of_a_topic(stack: ExitStack, topic: str) -> None:
    crew = Crew(stack, 2, "/bus", False)
    one, two = crew.one_of_each()
    assert one.do("subscribe", topic) == 1
    assert two.do("publish", topic + "x", "wrong") is False
    assert two.do("publish", topic, "right") is True
    assert one.next() == "right"


def test_b2_large_messages_are_whole_and_in_order(stack: ExitStack) -> None:
    crew = Crew(stack, 2, "/bus", False)
    one, two = crew.one_of_each()
    one.do("subscribe", "t")
    sizes = [0, 1, 65_000, 65_536, 70_000, 2**20, 3 * 2**20, 5, 0]
    for size in sizes:
        assert two.do("publish bytes", "t", size) is True
    for size in sizes:
        text = one.next()
        assert len(text) == size and len(set(text)) <= 1


def test_b2_order_and_once_against_a_model(stack: ExitStack) -> None:
    """8 publishers, 100 topics, 4 workers, 8 subscribers."""
    publishers, topics, rounds = 8, 100, 40
    dice = random.Random(16)
    crew = Crew(stack, 4, "/bus", False)
    pids = sorted(crew.spare)
    writers = [crew.one_of(pids[number % 4]) for number in range(publishers)]
    readers = [crew.one_of(pid) for pid in pids * 2]
    chosen = [sorted(dice.sample(range(topics), 30)) for _ in readers]
    for reader, numbers in zip(readers, chosen):
        assert reader.do("subscribe", "end", *(f"topic {number}" for number in numbers)) == 31
    sent: Dict[Tuple[int, int], List[str]] = defaultdict(list)
    for turn in range(rounds):
        for writer, client in enumerate(writers):
            for _ in range(10):
                topic = dice.randrange(topics)
                text = f"{writer} {topic} {turn} {len(sent[writer, topic])}"
                client.ask("publish", f"topic {topic}", text)
                sent[writer, topic].append(text)
    for client in writers:
        for _ in range(rounds * 10):
            client.answer()
        client.do("publish", "end", "end")
    for reader, numbers in zip(readers, chosen):
        got: Dict[Tuple[int, int], List[str]] = defaultdict(list)
        ends = 0
        while ends < publishers:
            text = reader.next()
            ends += text == "end"
            if text != "end":
                writer, topic = map(int, text.split()[:2])
                got[writer, topic].append(text)
        assert set(got) <= {(writer, topic) for writer in range(publishers) for topic in numbers}
        assert got == {key: texts for key, texts in sent.items() if key[1] in numbers}
    crew.stop()


# ---- B3 -----------------------------------------------------------------------------------------


def test_b3_a_worker_gets_only_what_it_has_subscribers_of(crew: Crew) -> None:
    one, two, three = crew.one_of_each()
    one.do("subscribe", "wanted")
    before = three.do("stats")["bus_received"]
    for number in range(100):
        assert two.do("publish", "wanted", str(number)) is True
        assert two.do("publish", "unwanted", str(number)) is False
    assert [one.next() for _ in range(100)] == [str(number) for number in range(100)]
    assert three.do("stats")["bus_received"] == before
    assert "\npyws_bus_messages_received_total{worker=" in three.do("metrics")


def test_b3_100000_topics(stack: ExitStack) -> None:
    crew = Crew(stack, 3, "/bus", False)
    one, two, three = crew.one_of_each()
    assert one.do("subscribe many", "topic", 100_000) == 100_000
    for number in (0, 1, 50_000, 99_999):
        assert two.do("publish", f"topic {number}", str(number)) is True
        assert one.next() == str(number)
    assert two.do("publish", "topic 100000", "x") is False
    assert three.do("stats")["bus_received"] == 0
    one.send(close_frame(1000))
    assert one.frame().close_code == 1000
    eventually(lambda: two.do("publish", "topic 99999", "x") is False)


# ---- B4 -----------------------------------------------------------------------------------------


def test_b4_a_worker_that_is_killed_again_and_again(crew: Crew) -> None:
    """The others go on, and lose nothing; each worker that takes its place takes part."""
    one, two, three = crew.one_of_each()
    one.do("subscribe", "t")
    killed = three.pid
    for _ in range(5):
        two.ask("publish many", "t", "before", 500)
        os.kill(killed, signal.SIGKILL)
        two.answer()
        two.do("publish many", "t", "after", 500)
        newcomer = crew.successor(killed, {one.pid, two.pid})
        killed = newcomer.pid
        assert newcomer.do("subscribe", "t") == 1
        assert two.do("publish", "t", "for both") is True
        assert newcomer.next() == "for both"
        assert newcomer.do("publish", "t", "from the new one") is True
        got = [one.next() for _ in range(1002)]  # what it has published is on its way until then
        assert got == [
            *(f"before {number}" for number in range(500)),
            *(f"after {number}" for number in range(500)),
            "for both",
            "from the new one",
        ]
    assert one.do("stats")["bus_lost"] == two.do("stats")["bus_lost"] == 0
    show_figures("a worker is killed five times, to another one", 5 * 1002, 5 * 1002, 0)


def test_b4_nothing_waits_for_a_worker_that_ended_before(stack: ExitStack) -> None:
    """A worker learns which others are not there when it starts."""
    crew = Crew(stack, 2, "/bus", False)
    one, two = crew.one_of_each()
    other = one.pid
    for _ in range(5):  # it is replaced after 0.1, 0.2 ... 1.6 s
        os.kill(other, signal.SIGKILL)
        newest = crew.successor(other, {two.pid})
        other = newest.pid
    os.kill(other, signal.SIGKILL)
    eventually(lambda: gone(other))
    del crew.spare[other]
    os.kill(two.pid, signal.SIGKILL)
    newcomer = crew.successor(two.pid, set())
    assert newcomer.do("publish", "t", "x") is False
    assert newcomer.do("stats")["bus_sent"] == 0


def test_b4_a_stopped_worker_holds_up_no_one(stack: ExitStack) -> None:
    crew = Crew(stack, 3, "/bus", False)
    one, two, three = crew.one_of_each()
    for client in (one, two, three):
        assert client.do("subscribe", "t") == 1
    os.kill(three.pid, signal.SIGSTOP)
    stack.callback(go_on, three.pid)
    size, count = 256 * 1024, 120  # 30 MiB, and 16 MiB may wait
    for _ in range(count):
        assert two.do("publish bytes", "t", size) is True
        assert len(two.next()) == len(one.next()) == size
    stats = two.do("stats")
    assert 0 < stats["bus_lost"] < count
    assert 8 * 2**20 < stats["bus_queued"] <= 16 * 2**20 + size + 1000
    assert one.do("stats")["bus_lost"] == 0
    assert one.do("publish", "t", "from the other one") is True
    assert one.next() == two.next() == "from the other one"
    os.kill(three.pid, signal.SIGCONT)
    got = [three.next() for _ in range(count - stats["bus_lost"] + 1)]
    assert sorted(map(len, got)) == [18] + [size] * (count - stats["bus_lost"])
    assert two.do("publish", "t", "again") is True
    assert three.next() == "again"
    eventually(lambda: two.do("stats")["bus_queued"] == 0)
    lost = stats["bus_lost"]
    show_figures("a worker is stopped, messages of 256 KiB to it", count, count - lost, lost)
    assert crew.stop().count("does not keep up") == 1


def test_b4_a_worker_that_shuts_down(crew: Crew) -> None:
    """SIGTERM to one worker: the others go on, and the next one takes part."""
    one, two, three = crew.one_of_each()
    one.do("subscribe", "t")
    three.do("subscribe", "t")
    os.kill(three.pid, signal.SIGTERM)
    while three.frame().opcode != 8:
        pass
    for number in range(100):
        assert two.do("publish", "t", str(number)) is True
        assert one.next() == str(number)
    three.send(close_frame(1001))
    crew.spare.pop(three.pid, None)
    eventually(lambda: gone(three.pid))
    crew.find(3)
    assert two.do("stats")["bus_lost"] == 0


# ---- B6 -----------------------------------------------------------------------------------------


def test_b6_end_reaches_all_workers(crew: Crew) -> None:
    clients = crew.one_of_each() + crew.one_of_each()
    for client in clients:
        client.do("subscribe", "user 1")
    outsider = crew.connect()
    assert clients[0].do("subscribers", "user 1") == 2
    clients[0].do("publish", "user 1", "goodbye")
    clients[0].ask("end", "user 1", 4001, "logged out")
    for client in clients:
        assert client.next() == "goodbye"
        got = client.frame()
        assert got.opcode == 8 and got.close_code == 4001
        assert got.payload[2:] == b"logged out"
        client.send(close_frame(4001))
    assert outsider.do("end", "user 1", 4001, "no one is left") == 0
    outsider.ask("end", "everyone")  # itself, too, so that there is no answer
    assert outsider.frame().close_code == 1000


def test_b6_count(stack: ExitStack) -> None:
    crew = Crew(stack, 3, "/ask", True)
    one, two, three = crew.one_of_each()
    assert one.do("count", "t") == 0
    for client in (one, two, three, crew.one_of(one.pid)):
        client.do("subscribe", "t")
    for client in (one, two, three):
        assert client.do("count", "t") == 4
    assert one.do("subscribers", "t") == 2
    os.kill(three.pid, signal.SIGSTOP)
    stack.callback(go_on, three.pid)
    begun = time.monotonic()
    assert one.do("count", "t") == 3  # those that answer within a second
    assert time.monotonic() - begun >= 0.9
    os.kill(three.pid, signal.SIGCONT)
    eventually(lambda: one.do("count", "t") == 4)
    two.send(close_frame(1000))
    assert two.frame().close_code == 1000
    eventually(lambda: one.do("count", "t") == 3)
    crew.stop()


def test_b6_one_process() -> None:
    """Without workers, `end` and `count` are about this process."""
    text = """
        async def on_message(ws, message, opcode):
            ws.subscribe("t")
            ws.send(str(await app.count("t")))
            if message == "end":
                print(app.end("t", 4000, "over"), await app.count("t"))

        app.ws("/t", message=on_message)
        listen()
        app.run()
    """
    with start(text) as program:
        port = int(program.line())
        with upgraded(port, "/t") as one, upgraded(port, "/t") as two:
            one.send(frame(b"x"))
            assert one.frame().payload == b"1"
            two.send(frame(b"end"))
            assert two.frame().payload == b"2"
            for client in (one, two):
                assert client.frame().payload == b"\x0f\xa0over"
            assert program.line() == "2 0"


def test_b6_arguments() -> None:
    with App() as app:
        assert app.end("t") == app.end(b"t", 0) == 0
        for topic in (None, 5, bytearray(b"x")):
            with pytest.raises(TypeError, match="topic must be a str or bytes"):
                app.end(topic)  # type: ignore[arg-type]
            with pytest.raises(TypeError, match="topic must be a str or bytes"):
                app.count(topic).send(None)  # type: ignore[arg-type]
        for code in (1004, 1006, 2999, 5000, -1):
            with pytest.raises(ValueError, match="code must be"):
                app.end("t", code)
        with pytest.raises(ValueError, match="a Close without a code cannot have a reason"):
            app.end("t", 1005, "reason")
        with pytest.raises(TypeError, match="reason must be str or bytes"):
            app.end("t", 1000, None)  # type: ignore[arg-type]
        with pytest.raises(StopIteration) as result:
            app.count("t").send(None)
        assert result.value.value == 0
    with pytest.raises(RuntimeError, match="this app is closed"):
        app.end("t")


# ---- descriptors --------------------------------------------------------------------------------


def test_forked_children_leave_the_bus(crew: Crew) -> None:
    one, two, _ = crew.one_of_each()
    one.do("subscribe", "t")
    assert one.do("fork") == "(3, [])"
    assert two.do("publish", "t", "x") is True
    assert one.next() == "x"


def test_the_parent_closes_all_sockets() -> None:
    text = """
        def count():
            return len(os.listdir("/proc/self/fd"))

        signal.signal(signal.SIGUSR1, lambda *_: app.close(timeout=1))
        app.on_start(lambda: os.kill(os.getppid(), signal.SIGUSR1))
        before = count()
        try:
            app.run(workers=4)
        except RuntimeError as error:
            print(error)
        print(count() - before)
        for _ in range(3):
            listen()
            app.run(workers=4)
            print(count() - before)
    """
    with start(text) as program:
        assert program.line().startswith("the app listens nowhere")
        assert program.line() == "0"
        for _ in range(3):
            assert program.line().isdigit()
            assert program.line() == "0"
        assert program.wait() == 0
