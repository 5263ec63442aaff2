"""tools/bench: the guards of the hot path can fail, and the load generator believes nothing."""

import itertools
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, Iterator, List, NamedTuple, Sequence, Tuple

import peer
import pytest
from conftest import ROOT

BENCH = ROOT / "tools" / "bench"

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not shutil.which("cc"), reason="needs cc"),
]

SEND = "int ws_conn_send(ws_conn *conn, const void *data, size_t length, int opcode)\n{\n"
PUBLISHED = "    conclude(p);\n"


TOOLS = {
    "load": "load.c options.c client.c audience.c measure.c accept.c records.c",
    "zlib_cost": "zlib_cost.c measure.c records.c",
}


class Plant(NamedTuple):
    """`code` comes right behind `place` in a source of the library."""

    file: str
    place: str
    code: str


SLOW = Plant("send.c", SEND, "for (volatile int i = 0; i < 100; i++) continue;\n")
CHATTY = Plant("send.c", SEND, "ws__net_write(conn->fd, NULL, 0);\n")
SWEEPING = Plant(
    "send.c",
    SEND,
    "ws_stats s;\n"
    "ws_server_stats(ws_conn_server(conn), &s, sizeof s);\n"
    "for (volatile unsigned i = 0; i < s.connections; i++) continue;\n",
)
IMPATIENT = Plant("publish.c", PUBLISHED, "    ws__publish_flush(hub);\n")


def run(*command: Any) -> Tuple[int, str]:
    done = subprocess.run(
        [str(part) for part in command],
        env={k: v for k, v in os.environ.items() if k != "LD_PRELOAD"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    return done.returncode, done.stdout


def compile_c(output: Path, *sources: Path, link: Sequence[str] = ()) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-std=c11", "-O2", "-g", "-D_GNU_SOURCE", "-DWS_BUILDING", "-fvisibility=hidden"]
    include = [f"-I{sources[0].parent}", f"-I{BENCH}"]
    code, text = run("cc", *flags, *include, *sources, "-o", output, "-lm", *link)
    assert code == 0, text


def build_tool(folder: Path, name: str, zlib: bool) -> None:
    """What meson.build does."""
    sources = TOOLS[name].split()
    sources.append("pack.c" if zlib else "pack_none.c")
    output = folder / "tools" / "bench" / name
    compile_c(output, *(BENCH / source for source in sources), link=["-lz"] if zlib else [])


def build(folder: Path, *plants: Plant, zlib: bool = False) -> Path:
    """The programs of a build folder."""
    sources = folder / "csrc"
    shutil.copytree(ROOT / "csrc", sources)
    for plant in plants:
        path = sources / plant.file
        text = path.read_text()
        assert text.count(plant.place) == 1
        path.write_text(text.replace(plant.place, plant.place + plant.code))
    without = "deflate_none.c" if zlib else "deflate.c"
    core = [path for path in sources.glob("*.c") if path.name != without]
    echo = ROOT / "examples" / "c" / "echo.c"
    link = ["-lz"] if zlib else []
    compile_c(folder / "examples" / "c" / "echo", *core, echo, link=link)
    build_tool(folder, "load", zlib)
    return folder


def check(tool: str, folder: Path, *arguments: str) -> Tuple[int, str]:
    return run(sys.executable, BENCH / tool, "--build", folder, *arguments)


@pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind")
def test_budget_fails_on_a_planted_slowdown(tmp_path: Path) -> None:
    code, text = check("budget.py", build(tmp_path, SLOW), "--cases", "echo64", "--repeat", "1")
    assert code == 1, text
    assert "ABOVE BUDGET" in text


@pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind")
def test_budget_fails_on_a_planted_sweep_over_idle_connections(tmp_path: Path) -> None:
    cases = ["--cases", "beside10,beside5000", "--repeat", "1"]
    code, text = check("budget.py", build(tmp_path, SWEEPING), *cases)
    assert code == 1, text
    assert "NOT THE SAME" in text


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize(("case", "plant"), [("echo", CHATTY), ("broadcast", IMPATIENT)])
def test_syscalls_fail_on_a_planted_call(tmp_path: Path, case: str, plant: Plant) -> None:
    code, text = check("syscalls.py", build(tmp_path, plant), "--cases", case)
    assert code == 1, text
    assert f"{case}: send: " in text


def faulty_servers() -> List[Any]:
    return [
        pytest.param(lambda message: message, 0, id="right"),
        pytest.param(lambda message: message[:-1] + b"!", 1, id="one byte differs"),
        pytest.param(lambda message: message[:-1], 1, id="too short"),
    ]


@pytest.fixture(scope="module")
def load(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The load generator, with zlib where that is there."""
    folder = tmp_path_factory.mktemp("load")
    build_tool(folder, "load", has_zlib())
    return folder / "tools" / "bench" / "load"


def has_zlib() -> bool:
    code, _ = run("sh", "-c", "echo '#include <zlib.h>' | cc -E - && cc -shared -o /dev/null -lz")
    return code == 0


needs_zlib = pytest.mark.skipif(not has_zlib(), reason="needs zlib")


@pytest.mark.parametrize(("change", "status"), faulty_servers())
def test_load_compares_what_comes_back(serve: Any, load: Path, change: Any, status: int) -> None:
    server = serve(message=lambda ws, msg, opcode: ws.send(change(msg.encode()), opcode))
    code, text = run(load, "--port", server.port, "--conns", 2, "--messages", 20, "--timeout", 10)
    assert code == status, text
    peer.eventually(lambda: server.call(server.app.stats)["open"] == 0)


def compressing(change: Any = None, compression: int = 1) -> Any:
    """Behavior of an echo server; `change` sees the number of the message, too."""
    numbers = itertools.count()

    def echo(ws: Any, message: str, opcode: Any) -> None:
        text = change(next(numbers), message) if change else message
        ws.send(text, opcode, compress=True)

    return {"compression": compression, "message": echo}


@needs_zlib
@pytest.mark.parametrize(
    ("behavior", "said"),
    [
        pytest.param(compressing(), "", id="right"),
        pytest.param(compressing(lambda i, text: text[:-2] + '!"'), "is not the message", id="end"),
        pytest.param(compressing(lambda i, text: text + "}"), "is not the message", id="too long"),
        pytest.param(compressing(lambda i, text: text[: 990 + i]), "is not the m", id="too short"),
        pytest.param(
            compressing(lambda i, text: text if i < 10 else text[:-2] + '!"'),
            "load: connection",
            id="later",
        ),
        pytest.param(compressing(compression=0), "was not accepted", id="not accepted"),
    ],
)
def test_load_inflates_what_comes_back(serve: Any, load: Path, behavior: Any, said: str) -> None:
    server = serve(behavior)
    options = ["--conns", 2, "--messages", 40, "--pipeline", 2, "--timeout", 10]
    code, text = run(load, "--port", server.port, "--deflate", "--size", 1024, *options)
    assert code == bool(said), text
    assert said in text
    peer.eventually(lambda: server.call(server.app.stats)["open"] == 0)


def lose(message: str, number: int) -> Iterator[str]:
    if number != 7:
        yield message


def double(message: str, number: int) -> Iterator[str]:
    yield message
    if number == 7:
        yield message


def spoil(message: str, number: int) -> Iterator[str]:
    yield message[:-1] + "~" if number == 7 else message


def keep(message: str, number: int) -> Iterator[str]:
    yield message


@pytest.mark.parametrize(("change", "status"), [(keep, 0), (lose, 1), (double, 1), (spoil, 1)])
def test_load_compares_what_is_broadcast(serve: Any, load: Path, change: Any, status: int) -> None:
    """One subscriber of three gets something else."""
    subscribers: List[Any] = []
    numbers = itertools.count()

    def spread(ws: Any, message: str, opcode: Any) -> None:
        number = next(numbers)
        for place, subscriber in enumerate(subscribers):
            for text in change(message, number) if place == 1 else [message]:
                subscriber.send(text, opcode)

    server = serve(open=subscribers.append, message=spread)
    # What was lost is not waited for: that ends with the time.
    options = ["--seconds", 0, "--warmup", 0, "--timeout", 1 if change is lose else 15]
    options += ["--messages", 40, "--pipeline", 4, "--publishers", 2]
    code, text = run(load, "--port", server.port, "--broadcast", 3, *options)
    assert code == status, text
    peer.eventually(lambda: server.call(server.app.stats)["open"] == 0)


@needs_zlib
@pytest.mark.parametrize("level", [6, 1])
def test_compare_wants_the_same_compression(tmp_path: Path, level: int) -> None:
    """The deflate case is no measure where the zlib side does other work than the server."""
    build(tmp_path, zlib=True)
    source = tmp_path / "zlib_cost.c"
    text = (BENCH / "zlib_cost.c").read_text()
    assert text.count(" LEVEL = 6,") == 1
    source.write_text(text.replace(" LEVEL = 6,", f" LEVEL = {level},"))
    parts = [BENCH / name for name in ("measure.c", "records.c", "pack.c")]
    compile_c(tmp_path / "tools" / "bench" / "zlib_cost", source, *parts, link=["-lz"])
    options = ["--cases", "deflate", "--rounds", "1", "--seconds", "0.1"]
    code, text = check("compare.py", tmp_path, *options)
    assert code == int(level != 6), text
    assert ("reply_size is not that of zlib" in text) == (level != 6)
