# SPDX-License-Identifier: MIT
"""Programs that gevent or eventlet have patched: names of threads are those of greenlets there."""

import signal

import pytest
from peer import close_frame, frame, upgraded
from program import Program

PATCH = {
    "gevent": "from gevent import monkey; monkey.patch_all()",
    "eventlet": "import eventlet; eventlet.monkey_patch()",
}
PROGRAM = """
import sys, warnings
warnings.simplefilter("ignore")
which, when = sys.argv[1:]
if when == "before":
    exec(which)
import pyws
if when == "after":
    exec(which)

def echo(ws, message, opcode):
    ws.send(message)
    ws.send(message, compress=True)

async def echo_later(ws, message, opcode):
    echo(ws, message, opcode)

app = pyws.App()
app.ws("/*", message=HANDLER)
app.listen({"host": "127.0.0.1"}, lambda place: print(place.port, flush=True))
try:
    app.run()
except KeyboardInterrupt:
    print("interrupted")
"""


@pytest.mark.parametrize("handler", ["echo", "echo_later"])
@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("which", PATCH)
def test_messages_and_signals_arrive(which: str, when: str, handler: str) -> None:
    pytest.importorskip(which)
    with Program("-c", PROGRAM.replace("HANDLER", handler), PATCH[which], when) as program:
        with upgraded(int(program.line()), more=frame(b"a") + frame(b"b", 2)) as client:
            answers = [client.frame()[1:] for _ in range(4)]
            assert answers == [(1, b"a")] * 2 + [(2, b"b")] * 2
            program.process.send_signal(signal.SIGTERM)
            assert client.frame().close_code == 1001
            client.send(close_frame(1001))
        assert program.wait() == 0
        assert program.error_text() == ""


@pytest.mark.parametrize("which", PATCH)
def test_workers(which: str) -> None:
    """`socket` and `select` are patched, too."""
    pytest.importorskip(which)
    text = PROGRAM.replace("HANDLER", "echo").replace("app.run()", "app.run(workers=2)")
    with Program("-c", text, PATCH[which], "before") as program:
        port = int(program.line())
        for _ in range(3):
            with upgraded(port, more=frame(b"a")) as client:
                assert client.frame().payload == b"a"
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


@pytest.mark.parametrize("which", PATCH)
def test_another_greenlet_of_the_thread_may_send(which: str) -> None:
    """It is the thread that counts: nothing else of it runs at the same time."""
    pytest.importorskip(which)
    spawn = {"gevent": "gevent.spawn({}).join()", "eventlet": "eventlet.spawn({}).wait()"}[which]
    handler = f"""lambda ws, message, opcode: {spawn.format("lambda: ws.send(message)")}"""
    text = PROGRAM.replace("HANDLER", handler).replace("import pyws\n", f"import pyws, {which}\n")
    with Program("-c", text, PATCH[which], "before") as program:
        with upgraded(int(program.line()), more=frame(b"a")) as client:
            assert client.frame().payload == b"a"
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


def test_another_thread_may_not_send() -> None:
    pytest.importorskip("gevent")
    in_thread = "gevent.get_hub().threadpool.apply(tried, [ws])"
    handler = f"lambda ws, message, opcode: ws.send({in_thread})"
    text = f"""
import gevent

def tried(ws):
    try:
        ws.send("from the wrong thread")
    except RuntimeError as error:
        return str(error)
{PROGRAM.replace("HANDLER", handler)}"""
    with Program("-c", text, PATCH["gevent"], "before") as program:
        with upgraded(int(program.line()), more=frame(b"a")) as client:
            assert client.frame().payload.startswith(b"this call belongs to the thread")
        assert program.stop(signal.SIGTERM) == 0
