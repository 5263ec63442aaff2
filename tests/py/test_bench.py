# SPDX-License-Identifier: MIT
"""tools/bench: the guards of the hot path can fail, and the load generator believes nothing."""

import argparse
import itertools
import json
import os
import shutil
import signal
import subprocess
import sys
import xml.etree.ElementTree as xml
from pathlib import Path
from typing import Any, Iterator, List, Sequence, Tuple

import peer
import pytest
from common import ROOT, without_sanitizer
from shared import made_once

from pyws import App
from pyws._native import lib

BENCH = ROOT / "tools" / "bench"

pytestmark = [
    pytest.mark.packaging,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not shutil.which("cc"), reason="needs cc"),
]

TOOLS = {
    "load": "load.c options.c client.c audience.c measure.c report.c accept.c records.c",
    "span": "span.c client.c audience.c measure.c report.c accept.c records.c",
    "http_load": "http_load.c measure.c report.c",
    "floor_http": "floor_http.c",
    "floor_tls": "floor.c accept.c",
    "zlib_cost": "zlib_cost.c measure.c records.c",
}
COMPRESSES = ("load", "span", "zlib_cost")
SECURE = ("load", "span", "floor_tls")


# What BENCH_PLANT plants into the library: a file, the text behind which it goes, and the code.
SEND = "int ws_conn_send(ws_conn *conn, const void *data, size_t length, int opcode)\n{\n"
SEND_ALL = "static ssize_t send_all(struct ws__stream *s, struct source *from)\n{\n"
PUBLISHED = "    conclude(p);\n"
PLANTS = {
    "slow": ("send.c", SEND, "for (volatile int i = 0; i < 100; i++) continue;"),
    "chatty": ("send.c", SEND, "ws__net_write(conn->stream.fd, NULL, 0);"),
    "sweeping": (
        "send.c",
        SEND,
        "ws_stats s;"
        "ws_server_stats(ws_conn_server(conn), &s, sizeof s);"
        "for (volatile unsigned i = 0; i < s.connections; i++) continue;",
    ),
    "slow_tls": ("tls.c", SEND_ALL, "for (volatile int i = 0; i < 100; i++) continue;"),
    "impatient": ("publish.c", PUBLISHED, "ws__share_flush(hub);"),
}
READ_PLANT = """
#include <stdlib.h>
#include <string.h>
static const char *planted;
__attribute__((constructor)) static void read_plant(void) { planted = getenv("BENCH_PLANT"); }
"""


def run(*command: Any, plant: str = "") -> Tuple[int, str]:
    environment = without_sanitizer()
    done = subprocess.run(
        [str(part) for part in command],
        env={**environment, "BENCH_PLANT": plant} if plant else environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=200,
    )
    return done.returncode, done.stdout


def compile_c(output: Path, *sources: Path, link: Sequence[str] = ()) -> None:
    output.parent.mkdir(parents=True, exist_ok=True)
    flags = ["-std=c11", "-O2", "-D_GNU_SOURCE", "-DWS_BUILDING", "-fvisibility=hidden"]
    include = [f"-I{sources[0].parent}", f"-I{BENCH}"]
    code, text = run("cc", *flags, *include, *sources, "-o", output, *link)
    assert code == 0, text


def build_tool(folder: Path, name: str, zlib: bool) -> None:
    """What meson.build does."""
    sources = TOOLS[name].split()
    if name in COMPRESSES:
        sources.append("pack.c" if zlib else "pack_none.c")
    link = ["-lm", *(["-lz"] if zlib else [])]
    if name in SECURE:
        sources.append("secure.c" if has_openssl() else "secure_none.c")
        link += ["-lssl", "-lcrypto"] if has_openssl() else []
    output = folder / "tools" / "bench" / name
    flags = ["-DFLOOR_TLS"] if name == "floor_tls" else []
    compile_c(output, *(BENCH / source for source in sources), link=[*flags, *link])


def plant_all(sources: Path) -> None:
    """Each comes to life by its name in BENCH_PLANT; without, it costs one comparison."""
    for name, (file, place, code) in PLANTS.items():
        path = sources / file
        text = path.read_text()
        assert text.count(place) == 1
        code = f'if (planted != NULL && strcmp(planted, "{name}") == 0) {{ {code} }}\n'
        text = text.replace(place, place + code)
        path.write_text(text if READ_PLANT in text else READ_PLANT + text)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build folder that has the programs with all plants."""
    return made_once(tmp_path_factory, "bench", build)


def build(folder: Path) -> None:
    """With zlib where that is there."""
    zlib, sources, core = has_zlib(), folder / "csrc", folder / "core.o"
    shutil.copytree(ROOT / "csrc", sources)
    plant_all(sources)
    link = ["-lz"] if zlib else ["-DWS_NO_DEFLATE"]
    compile_c(core, *sources.glob("*.c"), link=["-r", *([] if zlib else link)])
    examples, header = ROOT / "examples" / "c", f"-I{sources}"
    compile_c(folder / "examples/c/echo", examples / "echo.c", core, link=[header, *link])
    http = BENCH / "peers" / "http_pyws.c"
    compile_c(folder / "tools/bench/http_pyws", http, core, link=[header, *link])
    for name in ("load", "span", "http_load", "floor_http"):
        build_tool(folder, name, zlib)
    if zlib:
        build_tool(folder, "zlib_cost", zlib)
    if has_openssl():
        build_tool(folder, "floor_tls", zlib)
        secure = [header, "-DWS_TLS_OPENSSL", *link, "-lssl", "-lcrypto"]
        parts = [examples / "echo_tls.c", sources / "tls_openssl_linked.c"]
        compile_c(folder / "examples/c/echo_tls", *parts, core, link=secure)


def check(tool: str, folder: Path, *arguments: Any, plant: str = "") -> Tuple[int, str]:
    return run(sys.executable, BENCH / tool, "--build", folder, *arguments, plant=plant)


@pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind")
def test_budget_fails_on_a_planted_slowdown(built: Path) -> None:
    options = ["--cases", "echo64", "--repeat", "1", "--quick"]
    code, text = check("budget.py", built, *options, plant="slow")
    assert code == 1, text
    assert "ABOVE BUDGET" in text


@pytest.mark.parametrize(
    ("counts", "enough", "measured"),
    [
        ([90000, 1000, 201000], 100, 100),
        ([1000, 1100, 231000, 201000], 100, 100),
        ([1000, 1100, 231000, 221000], 100, 110),
        ([1000, 1100, 201000, 201000], 0, 100),  # no budget
    ],
)
def test_budget_counts_again_what_is_above(
    monkeypatch: pytest.MonkeyPatch, counts: List[int], enough: float, measured: float
) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    import budget  # type: ignore[import-not-found, unused-ignore]

    left = list(counts)
    monkeypatch.setattr(budget, "count", lambda options, case, number: left.pop(0))
    options = argparse.Namespace(repeat=2, quick=False)
    assert budget.measure(options, "echo64", enough) == measured
    assert left == []


@pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind")
@pytest.mark.parametrize("plant", ["", "sweeping"])
def test_budget_fails_on_a_planted_sweep_over_idle_connections(built: Path, plant: str) -> None:
    options = ["--cases", "beside10,beside5000", "--repeat", "1", "--quick"]
    code, text = check("budget.py", built, *options, plant=plant)
    assert code == bool(plant), text
    assert ("NOT THE SAME" in text) == bool(plant)


@pytest.mark.skipif(not shutil.which("strace"), reason="needs strace")
@pytest.mark.parametrize(
    ("case", "plant"),
    [("echo", ""), ("echo", "chatty"), ("broadcast", ""), ("broadcast", "impatient")],
)
def test_syscalls_fail_on_a_planted_call(built: Path, case: str, plant: str) -> None:
    code, text = check("syscalls.py", built, "--cases", case, "--messages", 320, plant=plant)
    assert code == bool(plant), text
    assert (f"{case}: send: " in text) == bool(plant)


def test_load_counts_processes_below_the_server(built: Path) -> None:
    """What it is told is the shell; the server is its child."""
    command = ["sh", "-c", '"$0" --port 0 & echo "child $!"; wait', str(built / "examples/c/echo")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as shell:
        assert shell.stdout
        lines = [shell.stdout.readline(), shell.stdout.readline()]
        child = int(next(line for line in lines if "child" in line).split()[1])
        port = next(line for line in lines if "listening" in line).strip().rpartition(":")[2]
        try:
            options = ["--port", port, "--conns", 2, "--messages", 400, "--json"]
            code, text = run(built / "tools/bench/load", *options, "--pid", shell.pid)
        finally:
            os.kill(child, signal.SIGTERM)
    assert code == 0, text
    report = json.loads(text)
    assert report["messages"] == 400
    assert report["cpu_us_per_message"] > 0.2


def right(ws: Any, message: str, opcode: Any, number: int) -> None:
    ws.send(message, opcode)


def other_byte(ws: Any, message: str, opcode: Any, number: int) -> None:
    ws.send(message[:-1] + "~" if number == 7 else message, opcode)


def too_short(ws: Any, message: str, opcode: Any, number: int) -> None:
    ws.send(message[:-1] if number == 7 else message, opcode)


def other_opcode(ws: Any, message: str, opcode: Any, number: int) -> None:
    ws.send(message, 2 if number == 7 else opcode)


def dropped(ws: Any, message: str, opcode: Any, number: int) -> None:
    if number != 7:
        ws.send(message, opcode)


def doubled(ws: Any, message: str, opcode: Any, number: int) -> None:
    for _ in range(2 if number == 7 else 1):
        ws.send(message, opcode)


def reordered(ws: Any, message: str, opcode: Any, number: int) -> None:
    """The first of two that came together goes after the second."""
    if number % 2 == 0:
        ws.user_data = message
    else:
        ws.send(message, opcode)
        ws.send(ws.user_data, opcode)


@pytest.fixture(scope="module")
def load(built: Path) -> Path:
    return built / "tools" / "bench" / "load"


@pytest.mark.parametrize(
    ("echo", "said"),
    [
        (right, ""),
        (other_byte, "wrong payload"),
        (too_short, "wrong length"),
        (other_opcode, "wrong opcode byte"),
        (dropped, "timeout"),
        (doubled, "unexpected bytes"),
        (reordered, "wrong payload"),
    ],
)
def test_load_compares_what_comes_back(serve: Any, load: Path, echo: Any, said: str) -> None:
    numbers = itertools.count()
    server = serve(message=lambda ws, msg, opcode: echo(ws, msg, opcode, next(numbers)))
    # What was dropped is not waited for: that ends with the time.
    options = ["--seconds", 0, "--warmup", 0, "--timeout", 0.5 if echo is dropped else 15]
    options += ["--conns", 1, "--messages", 20, "--pipeline", 2]
    code, text = run(load, "--port", server.port, *options)
    assert code == bool(said), text
    assert said in text
    peer.eventually(lambda: server.call(server.app.stats)["open"] == 0)


def test_load_measures_the_latency_of_each_message(serve: Any, load: Path) -> None:
    """Three replies of a round come at once, the fourth is late."""
    numbers = itertools.count(1)

    def echo(ws: Any, message: str, opcode: Any) -> None:
        if next(numbers) % 4:
            ws.send(message, opcode)
        else:
            server.app.call_later(0.2, lambda: ws.send(message, opcode))

    server = serve(message=echo)
    options = ["--conns", 1, "--messages", 20, "--pipeline", 4, "--timeout", 30, "--json"]
    code, text = run(load, "--port", server.port, *options)
    assert code == 0, text
    report = json.loads(text)
    assert report["messages"] == 20
    assert report["latency_us_max"] >= 200000
    assert report["latency_us_p50"] < report["latency_us_max"] / 2


def has_zlib() -> bool:
    code, _ = run("sh", "-c", "echo '#include <zlib.h>' | cc -E - && cc -shared -o /dev/null -lz")
    return code == 0


def has_openssl() -> bool:
    code, _ = run("sh", "-c", "echo '#include <openssl/ssl.h>' | cc -E -")
    return code == 0 and shutil.which("openssl") is not None


needs_zlib = pytest.mark.skipif(not has_zlib(), reason="needs zlib")


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


@pytest.mark.skipif(not has_openssl(), reason="needs OpenSSL")
def test_compare_over_tls(built: Path, tmp_path: Path) -> None:
    """What comes back is compared; a server without TLS fails."""
    plain = f"plain={built}/examples/c/echo --port 0"
    options = ["--tls", "--cases", "p1,p16,64k", "--servers", "floor,c", "--rounds", 1]
    code, text = check("compare.py", built, *options, "--seconds", 0.1)
    assert code == 0, text
    assert text.count("  floor ") == 3 and text.count("  c ") == 3
    code, text = check("compare.py", built, *options, "--seconds", 0.1, "--extra", plain)
    assert code == 1, text
    assert "plain: " in text
    for case, said in (("deflate", "not measured with TLS"), ("nothing", "unknown case")):
        code, text = check("compare.py", built, "--tls", "--cases", case)
        assert code == 2 and said in text, text


@pytest.mark.skipif(not shutil.which("valgrind"), reason="needs valgrind")
@pytest.mark.skipif(not has_openssl(), reason="needs OpenSSL")
@pytest.mark.parametrize("plant", ["", "slow_tls"])
def test_budget_counts_tls_without_openssl(built: Path, plant: str) -> None:
    """Its budget is less than what OpenSSL needs for a message."""
    options = ["--cases", "tls64", "--repeat", "1", "--quick"]
    code, text = check("budget.py", built, *options, plant=plant)
    assert code == bool(plant), text
    assert ("ABOVE BUDGET" in text) == bool(plant)


@pytest.mark.skipif(not has_openssl(), reason="needs OpenSSL")
def test_attacks_over_tls(built: Path) -> None:
    """Every kind reaches the server, which serves the honest client meanwhile."""
    options = ["--attackers", "20", "--seconds", 0.2]
    code, text = check("tls_attack.py", built, *options)
    assert code == 0, text
    assert text.count("\n20 sending ") == 6
    assert check("tls_attack.py", built, "--kinds", "nothing")[0] == 2


@pytest.mark.skipif(not has_openssl(), reason="needs OpenSSL")
def test_load_resumes_sessions(built: Path, load: Path, tmp_path: Path) -> None:
    sys.path.insert(0, str(BENCH))
    try:
        import harness  # type: ignore[import-not-found, unused-ignore]
    finally:
        sys.path.remove(str(BENCH))
    files = harness.make_certificate(tmp_path)
    command = [str(built / "tools" / "bench" / "floor_tls"), "--port", "0", *files]
    for flags in ([], ["--release"]):
        with harness.running([*command, *flags]) as server:
            for option in ("--tls", "--resume"):
                options = ["--connects", 100, "--conns", 4, "--timeout", 60]
                code, text = run(load, "--port", server.port, option, *options)
                assert code == 0, text


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
    options = ["--seconds", 0, "--warmup", 0, "--timeout", 0.5 if change is lose else 15]
    options += ["--messages", 40, "--pipeline", 4, "--publishers", 2]
    code, text = run(load, "--port", server.port, "--broadcast", 3, *options)
    assert code == status, text
    peer.eventually(lambda: server.call(server.app.stats)["open"] == 0)


@needs_zlib
@pytest.mark.parametrize("level", [6, 1])
def test_compare_wants_the_same_compression(built: Path, tmp_path: Path, level: int) -> None:
    """The deflate case is no measure where the zlib side does other work than the server."""
    (tmp_path / "examples").symlink_to(built / "examples")
    tools = tmp_path / "tools" / "bench"
    tools.mkdir(parents=True)
    (tools / "load").symlink_to(built / "tools" / "bench" / "load")
    source = tmp_path / "zlib_cost.c"
    text = (BENCH / "zlib_cost.c").read_text()
    assert text.count(" LEVEL = 6,") == 1
    source.write_text(text.replace(" LEVEL = 6,", f" LEVEL = {level},"))
    parts = [BENCH / name for name in ("measure.c", "records.c", "pack.c")]
    compile_c(tools / "zlib_cost", source, *parts, link=["-lz"])
    options = ["--cases", "deflate", "--servers", "c", "--rounds", 1, "--seconds", 0.1]
    code, text = check("compare.py", tmp_path, *options)
    assert code == int(level != 6), text
    assert ("reply_size differs from zlib" in text) == (level != 6)


def test_compare_measures_shows_and_keeps(built: Path, tmp_path: Path) -> None:
    """What is not installed is named and left out, what does not listen fails; both are shown."""
    kept, page, again = (tmp_path / name for name in ("kept.json", "page.md", "again.md"))
    for path in (page, again):
        path.write_text("before\n<!-- begin: compare.py -->\n<!-- end: compare.py -->\nafter\n")
    options = ["--cases", "p1", "--rounds", 1, "--seconds", 0.1, "--json", kept, "--markdown", page]
    servers = ["--servers", "c,picows,ws", "--peers", tmp_path, "--extra", "dead=false"]
    code, text = check("compare.py", built, *options, *servers)
    assert code == 1, text
    assert "not installed, left out: picows, ws (compare.py --install" in text
    assert "p1, dead: false: does not listen" in text
    code, text = run(sys.executable, BENCH / "compare.py", "--from", kept, "--markdown", again)
    assert code == 1, text
    assert page.read_text() == again.read_text()
    lines = page.read_text().splitlines()
    assert lines[0] == "before" and lines[-1] == "after"
    assert any(line.startswith("| c | ") for line in lines)
    assert any(line.startswith("| dead | failed | ") for line in lines)


@pytest.fixture
def tools(built: Path, tmp_path: Path) -> Path:
    """A build folder with the load generators and the library that the tests use."""
    folder = tmp_path / "build"
    (folder / "tools").mkdir(parents=True)
    (folder / "tools" / "bench").symlink_to(built / "tools" / "bench")
    (folder / "libpyws.so").symlink_to(Path(os.fsdecode(lib.path)).resolve())
    return folder


def test_cluster_measures_topics_across_processes(tools: Path, tmp_path: Path) -> None:
    """Whatever the machine does meanwhile, the figures are possible ones."""
    kept, page, again = (tmp_path / name for name in ("kept.json", "page.md", "again.md"))
    for path in (page, again):
        path.write_text("before\n<!-- begin: cluster.py -->\n<!-- end: cluster.py -->\nafter\n")
    options = ["--rounds", 1, "--seconds", 0.1, "--peers", tmp_path, "--json", kept]
    servers = ["--servers", "local,bus,local asyncio,nchan"]
    code, text = check("cluster.py", tools, *options, *servers, "--markdown", page)
    assert code == 0, text
    assert "nchan is left out: no " in text
    results = json.loads(kept.read_text())["results"]
    assert list(results) == ["one", "ten", "steady", "fanout"]
    for load, rows in results.items():
        several = [] if load == "fanout" else ["local asyncio"]
        assert list(rows) == ["local", "bus", *several]
        for name, row in rows.items():
            assert row["errors"] == []
            [report] = row["reports"]
            assert report["messages"] > 0
            assert report["rate"] == pytest.approx(report["messages"] / report["seconds"], rel=0.01)
            assert ("receiver_us" in report) == (name == "bus")
            parts = report["publisher_us"] + report.get("receiver_us", 0)
            assert report["cpu_us_per_message"] == pytest.approx(parts, abs=0.001)
            assert report["publisher_us"] > 0.1
            assert "broker_us" not in report
            assert 0 < report["latency_us_p50"] <= report["latency_us_p99"]
            assert report["latency_us_p99"] <= report["latency_us_max"]
            if load == "steady":
                assert report["publish_calls"] >= report["messages"]
                assert 0 < report["publish_us_p999"] <= report["publish_us_max"]
    code, text = run(sys.executable, BENCH / "cluster.py", "--from", kept, "--markdown", again)
    assert code == 0, text
    assert page.read_text() == again.read_text()
    lines = page.read_text().splitlines()
    assert lines[0] == "before" and lines[-1] == "after"
    assert sum(line.startswith("| bus | ") for line in lines) == 4


@pytest.mark.parametrize(
    ("change", "said"),
    [(keep, ""), (lose, "timeout"), (double, "more messages"), (spoil, "expected message")],
)
def test_span_compares_what_is_published(serve: Any, tools: Path, change: Any, said: str) -> None:
    """One subscriber of three gets something else; probes are not counted."""
    subscribers: List[Any] = []
    numbers = itertools.count()

    def spread(ws: Any, message: Any, opcode: Any) -> None:
        probe = message.startswith("ffff")
        number = -1 if probe else next(numbers)
        for place, subscriber in enumerate(subscribers):
            for text in change(message, number) if place == 1 else [message]:
                subscriber.send(text, opcode)

    def configure(app: App) -> None:
        app.ws("/publish", message=spread)
        app.ws("/subscribe", open=subscribers.append)

    server = serve(configure)
    options = ["--here", 3, "--seconds", 0.1, "--timeout", 1 if change is lose else 15]
    code, text = run(tools / "tools" / "bench" / "span", "--port", server.port, *options)
    assert code == bool(said), text
    assert said in text
    peer.eventually(lambda: server.call(server.app.stats)["open"] == 0)


def test_http_compare_measures_all_loads(tools: Path, tmp_path: Path) -> None:
    """Every response is checked; whatever the machine does meanwhile, the figures are possible."""
    kept, page, again = (tmp_path / name for name in ("kept.json", "page.md", "again.md"))
    marks = "<!-- begin: http_compare.py -->\n<!-- end: http_compare.py -->\n"
    for path in (page, again):
        path.write_text(f"before\n{marks}after\n")
    names = ["floor", "c", "python", "coroutine"]
    options = ["--rounds", 1, "--seconds", 0.1, "--peers", tmp_path, "--json", kept]
    servers = ["--servers", ",".join([*names, "uvicorn"])]
    code, text = check("http_compare.py", tools, *options, *servers, "--markdown", page)
    assert code == 0, text
    assert "uvicorn is left out: no uvicorn, httptools, " in text
    results = json.loads(kept.read_text())["results"]
    assert list(results) == ["text", "text16", "file", "read", "drop"]
    for load, rows in results.items():
        assert list(rows) == names
        for row in rows.values():
            assert row["errors"] == []
            [report] = row["reports"]
            assert report["requests"] > 0
            assert report["cpu_us_per_request"] > 0.05
            assert report["pipeline"] == (16 if load == "text16" else 1)
            assert 0 < report["latency_us_p50"] <= report["latency_us_p99"]
    code, text = run(sys.executable, BENCH / "http_compare.py", "--from", kept, "--markdown", again)
    assert code == 0, text
    assert page.read_text() == again.read_text()
    lines = page.read_text().splitlines()
    assert lines[0] == "before" and lines[-1] == "after"
    assert sum(line.startswith("| c | ") for line in lines) == 6  # a summary, and five loads
    assert any(line.startswith("| text | python / floor | 1.40 | ") for line in lines)


def other_status(res: Any, number: int) -> None:
    res.write_status(201 if number == 7 else 200).end("right")


def longer(res: Any, number: int) -> None:
    res.end("right!" if number == 7 else "right")


def other_content(res: Any, number: int) -> None:
    res.end("wrong" if number == 7 else "right")


def no_answer(res: Any, number: int) -> None:
    if number != 7:
        res.end("right")
    else:
        res.on_aborted(lambda *_: None)


def last_answer(res: Any, number: int) -> None:
    res.end("right", end_connection=number == 7)


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (lambda res, number: res.end("right"), ""),
        (other_status, "not a 200: HTTP/1.1 201"),
        (longer, "a response of 6 bytes, not 5"),
        (other_content, "the content of a response is wrong"),
        (no_answer, "timeout"),
        (last_answer, "the server has closed the connection"),
    ],
    ids=["right", "status", "length", "content", "none", "last"],
)
def test_http_load_checks_every_response(
    serve: Any, tools: Path, tmp_path: Path, answer: Any, said: str
) -> None:
    numbers = itertools.count()

    def configure(app: App) -> None:
        app.get("/text", lambda res, req: answer(res, next(numbers)))

    expected = tmp_path / "expected"
    expected.write_text("right")
    server = serve(configure)
    options = ["--conns", 1, "--requests", 20, "--pipeline", 2, "--seconds", 0, "--warmup", 0]
    options += ["--timeout", 0.5 if answer is no_answer else 15, "--path", "/text", "--json"]
    tool = tools / "tools" / "bench" / "http_load"
    code, text = run(tool, "--port", server.port, "--expect", expected, *options)
    assert code == bool(said), text
    assert said in text
    if not said:
        assert json.loads(text)["requests"] == 20
    peer.eventually(lambda: server.call(server.app.stats)["open"] == 0)


def test_no_time_is_too_short(monkeypatch: pytest.MonkeyPatch, built: Path) -> None:
    monkeypatch.syspath_prepend(str(BENCH))
    import harness  # type: ignore[import-not-found, unused-ignore]

    with harness.Server([f"{built}/examples/c/echo", "--port", "0"]) as server:
        report = harness.run_load(built / "tools/bench/load", server, ["--seconds", "0"])
    assert report["messages"] * report["cpu_us_per_message"] >= 19_990  # of 20 ms
    options = ["--seconds", "0", "--path", "/file", "--expect", __file__]
    with harness.Server([f"{built}/tools/bench/floor_http", __file__]) as server:
        report = harness.run_load(built / "tools/bench/http_load", server, options)
    assert report["requests"] * report["cpu_us_per_request"] >= 19_990


def test_compare_draws_a_small_picture(tmp_path: Path) -> None:
    """Ten servers in all cases: well-formed, each with a bar in each panel, and below 15 KB."""
    cases = ["p1", "p16", "1k", "64k", "connect", "idle", "broadcast", "deflate"]
    keys = "cpu_us_per_message cpu_us_per_connect cpu_us_per_delivery rss_bytes_per_connection"
    names = ["floor", "c", "python", "python-ctypes", *(f"another{i}" for i in range(6))]
    rows = {
        name: {"reports": [dict.fromkeys(keys.split(), 12345.6)], "errors": []} for name in names
    }
    kept, picture = tmp_path / "kept.json", tmp_path / "picture.svg"
    machine = {"date": "2000-01-01", "cores": 2, "cpu": "", "kernel": "Linux 6.1", "python": "3"}
    sides = {"plain": rows["c"], "zlib": rows["c"]}
    results = {case: {**sides, **rows} if case == "deflate" else rows for case in cases}
    document = {"machine": machine, "rounds": 1, "seconds": 1, "versions": {}, "results": results}
    kept.write_text(json.dumps(document))
    code, text = run(sys.executable, BENCH / "compare.py", "--from", kept, "--plot", picture)
    assert code == 0, text
    root = xml.parse(picture).getroot()
    panels = [element for element in root if element.tag.endswith("}g")]
    assert len(panels) == len(cases)
    for panel in panels:
        assert sum(part.tag.endswith("}path") for part in panel) == len(rows)
    assert picture.stat().st_size < 15 * 1024
    assert (ROOT / "docs" / "performance.svg").stat().st_size < 15 * 1024


@pytest.mark.skipif(not has_zlib(), reason="needs zlib")
def test_attack_measures_others(built: Path) -> None:
    """All that the attackers send is legal: none of them is cut off, and the others are served."""
    kinds = "tables,fixed,last,bombs,fragments,requests"
    options = ["--kinds", kinds, "--attackers", "2", "--seconds", "0.2"]
    code, text = check("attack.py", built, *options)
    assert code == 0, text
    lines = text.splitlines()[1:]
    assert lines[0].startswith("none ")
    assert lines[1].startswith("2 sending dynamic blocks without content ")
    assert len(lines) == 1 + len(kinds.split(","))
    for line in lines:
        worst, late, median = map(float, line.split()[-4:-1])
        assert worst >= late >= median >= 0
