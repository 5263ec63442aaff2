# SPDX-License-Identifier: MIT
"""L3: certificates that are replaced while the app runs, in one process and in all workers."""

import os
import signal
from pathlib import Path
from typing import Any, Callable, Dict, List, Set

import pytest
from authority import Pair, authority
from peer import eventually, frame
from program import Program
from tls_clients import name_of, opened, tls_peer
from tls_server import Secure, with_contexts
from worker_programs import start

from pyws import App


def copy(pair: Pair, to: Pair) -> None:
    """Replace two files, as certbot does."""
    for source, target in zip(pair, to):
        Path(target + ".new").write_bytes(Path(source).read_bytes())
        os.replace(target + ".new", target)


@pytest.fixture(scope="module")
def first() -> Pair:
    return authority().issue("localhost", "first.example")


@pytest.fixture(scope="module")
def second() -> Pair:
    return authority().issue("second.example", "localhost")


@pytest.fixture
def files(tmp_path: Path, first: Pair) -> Pair:
    """Two files, which have the first certificate."""
    pair = Pair(str(tmp_path / "cert.pem"), str(tmp_path / "key.pem"))
    copy(first, pair)
    return pair


def given(pair: Pair) -> Dict[str, Any]:
    return {"cert_file": pair.cert, "key_file": pair.key}


def names(port: int, count: int = 1) -> Set[str]:
    """The names in the certificates of so many connections."""
    found = set()
    for _ in range(count):
        with opened(tls_peer(port)) as peer:
            found.add(name_of(peer))
    return found


# ---- one process --------------------------------------------------------------------------------


def test_l3_the_same_files_again(secure: Callable[..., Secure], files: Pair, second: Pair) -> None:
    server = secure(**given(files))
    with opened(tls_peer(server.port)) as old:
        assert name_of(old) == "localhost"
        copy(second, files)
        assert names(server.port) == {"localhost"}  # not before it is said
        server.call(server.app.reload_tls)
        assert names(server.port) == {"second.example"}
        old.send(frame(b"unharmed"))
        assert old.frame().payload == b"unharmed"


def test_l3_other_files(secure: Callable[..., Secure], files: Pair, second: Pair) -> None:
    server = secure(**given(files))
    server.call(lambda: server.app.reload_tls(**given(second)))
    assert names(server.port) == {"second.example"}
    server.call(server.app.reload_tls)  # those are the files now
    assert names(server.port) == {"second.example"}


@with_contexts
def test_l3_a_function_is_called_again(secure: Callable[..., Secure]) -> None:
    hosts = iter([("localhost",), ("second.example", "localhost")])
    server = secure(ssl=lambda: authority().server_context(*next(hosts)))
    assert names(server.port) == {"localhost"}
    server.call(server.app.reload_tls)
    assert names(server.port) == {"second.example"}
    with pytest.raises(StopIteration):
        server.call(server.app.reload_tls)
    assert names(server.port) == {"second.example"}


@with_contexts
def test_l3_new_contexts(secure: Callable[..., Secure]) -> None:
    server = secure(ssl=authority().server_context())
    with pytest.raises(RuntimeError, match="contexts, which cannot be read again"):
        server.call(server.app.reload_tls)
    new = authority().server_context("second.example", "localhost")
    server.call(lambda: server.app.reload_tls({"localhost": new, "*": new}))
    assert names(server.port) == {"second.example"}


def test_l3_errors_leave_the_old_ones(
    secure: Callable[..., Secure], files: Pair, second: Pair, tmp_path: Path
) -> None:
    server = secure(**given(files))
    wrong: List[Any] = [
        ({"cert_file": str(tmp_path / "gone.pem")}, FileNotFoundError),
        ({"cert_file": second.cert, "key_file": files.key}, ValueError),
        ({"key_file": files.key}, ValueError),
        ({"where": 1}, ValueError),
        ({"where": 1.5}, TypeError),
        ({"ssl": "cert.pem"}, TypeError),
        ({"ssl": {}}, ValueError),
    ]
    for arguments, error in wrong:
        with pytest.raises(error):
            server.call(lambda given=arguments: server.app.reload_tls(**given))
        assert names(server.port) == {"localhost"}
    Path(files.cert).write_text("nothing")
    with pytest.raises(ValueError, match="cert_file has no certificate"):
        server.call(server.app.reload_tls)
    assert names(server.port) == {"localhost"}


def test_l3_one_of_several_addresses(files: Pair, second: Pair, first: Pair) -> None:
    app = App()
    app.listen(0, host="127.0.0.1")
    app.listen(0, host="127.0.0.1", **given(files))
    app.listen(0, host="127.0.0.1", **given(first))
    plain, one, other = (place.port for place in app._runtime.addresses)
    with pytest.raises(ValueError, match="say which, by where="):
        app.reload_tls(**given(second))
    with pytest.raises(ValueError, match=f"does not listen with TLS on {plain}"):
        app.reload_tls(**given(second), where=plain)
    app.reload_tls(**given(second), where=one)
    app.reload_tls()
    server = Secure.__new__(Secure)
    server.begin(app)
    assert names(one) == {"second.example"}
    assert names(other) == {"localhost"}
    server.stop()


def test_l3_an_app_without_tls() -> None:
    app = App()
    with pytest.raises(RuntimeError, match="does not listen with TLS"):
        app.reload_tls()
    app.listen(0, host="127.0.0.1")
    with pytest.raises(RuntimeError, match="does not listen with TLS"):
        app.reload_tls()
    app._runtime.free()


MANY = """
import os, sys
from pyws import App

def size():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

def reload(count):
    for _ in range(count):
        app.reload_tls()

def measure():
    reload(50)
    before = size()
    reload(250)
    print(size() - before)
    app.close()

app = App()
app.listen(0, host="127.0.0.1", cert_file=sys.argv[1], key_file=sys.argv[2])
app.defer(measure)
app.run()
"""


def test_l3_hundreds_of_times(files: Pair, monkeypatch: pytest.MonkeyPatch) -> None:
    """Old contexts are freed: the process does not grow by one for each."""
    # AddressSanitizer would keep what is freed for a while, 256 MB of it.
    kept = os.environ.get("ASAN_OPTIONS", "")
    monkeypatch.setenv("ASAN_OPTIONS", f"{kept}:quarantine_size_mb=1")
    with Program("-c", MANY, *files) as program:
        assert int(program.line()) < 250 * 8192  # a context has more
        assert program.wait() == 0
        assert program.error_text() == ""


# ---- workers ------------------------------------------------------------------------------------

WORKERS = """
    def reload(res, req):
        app.reload_tls()
        res.end("reloaded")

    app.get("/reload", reload)
    app.get("/pid", lambda res, req: res.end(str(os.getpid())))
    signal.signal(signal.SIGHUP, lambda number, frame: app.reload_tls())
    app.listen(
        0, lambda place: print(place.port), host="127.0.0.1", cert_file=sys.argv[1],
        key_file=sys.argv[2],
    )
    app.run(workers=3)
"""


def all_have(port: int, name: str) -> bool:
    return names(port, 25) == {name}


def asked(port: int, path: str) -> bytes:
    with tls_peer(port) as peer:
        peer.send(b"GET %s HTTP/1.1\r\nHost: h\r\n\r\n" % path.encode())
        return peer.response().body


def begun(program: Program) -> int:
    return int(program.line())


@pytest.mark.parametrize("how", ["worker", "hangup"])
def test_l3_all_workers(files: Pair, second: Pair, how: str) -> None:
    with start(WORKERS, *files) as program:
        port = begun(program)
        with opened(tls_peer(port)) as old:
            old.frame()
            assert all_have(port, "localhost")
            copy(second, files)
            if how == "worker":
                assert asked(port, "/reload") == b"reloaded"
            else:
                program.process.send_signal(signal.SIGHUP)
            eventually(lambda: all_have(port, "second.example"))
            old.send(frame(b"unharmed"))
            assert old.frame().payload == b"unharmed"
        # Those that replace others have them, too.
        before = {asked(port, "/pid") for _ in range(30)}
        for pid in before:
            os.kill(int(pid), signal.SIGKILL)
        eventually(lambda: len({asked_again(port) for _ in range(20)} - before - {b""}) == 3)
        assert all_have(port, "second.example")
        assert program.stop(signal.SIGTERM) == 0


def asked_again(port: int) -> bytes:
    try:
        return asked(port, "/pid")
    except (OSError, EOFError):
        return b""


def test_l3_errors_in_workers_leave_the_old_ones(files: Pair) -> None:
    with start(WORKERS, *files) as program:
        port = begun(program)
        assert all_have(port, "localhost")  # it has begun to watch over them
        Path(files.cert).write_text("nothing")
        program.process.send_signal(signal.SIGHUP)
        eventually(lambda: "the certificates were not replaced" in program.error_text())
        assert all_have(port, "localhost")
        with tls_peer(port) as peer:
            peer.send(b"GET /reload HTTP/1.1\r\nHost: h\r\n\r\n")
            assert peer.response().status == 500  # it has raised ValueError
        assert all_have(port, "localhost")
        assert program.stop(signal.SIGTERM) == 0


@with_contexts
def test_l3_a_context_stays_in_its_process(files: Pair) -> None:
    text = """
        import ssl

        def reload(res, req):
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(*sys.argv[1:3])
            try:
                app.reload_tls(context)
            except RuntimeError as error:
                res.end(str(error))

        app.get("/reload", reload)
        app.listen(
            0, lambda place: print(place.port), host="127.0.0.1", cert_file=sys.argv[1],
            key_file=sys.argv[2],
        )
        app.run(workers=2)
    """
    with start(text, *files) as program:
        port = begun(program)
        assert b"cannot be passed to the other workers" in asked(port, "/reload")
        assert program.stop(signal.SIGTERM) == 0


# ---- the command --------------------------------------------------------------------------------


def test_l3_sighup_reloads_in_the_command(files: Pair, second: Pair) -> None:
    with Program("-m", "pyws", "--port", "0", "--cert", files.cert, "--key", files.key) as program:
        line = program.line()
        assert line.startswith("listening on https://127.0.0.1:")
        port = int(line.rpartition(":")[2])

        def name() -> str:
            with opened(tls_peer(port), "/echo") as peer:
                return name_of(peer)

        assert name() == "localhost"
        copy(second, files)
        program.process.send_signal(signal.SIGHUP)
        eventually(lambda: name() == "second.example")
        Path(files.key).write_text("nothing")
        program.process.send_signal(signal.SIGHUP)
        eventually(lambda: "the certificate was not replaced: key_file" in program.error_text())
        assert name() == "second.example"
        assert program.stop(signal.SIGTERM) == 0
