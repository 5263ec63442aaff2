# SPDX-License-Identifier: MIT
"""The command `pyws`: its page, its echo socket, its output, its exit status."""

import base64
import errno
import hashlib
import http.client
import json
import os
import re
import signal
import socket
import ssl
import subprocess
import sys
import threading
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, List, Tuple

import pytest
from common import ROOT, TIMEOUT
from peer import Peer, close_frame, eventually, frame, handshake, upgraded
from program import Program
from tls_clients import opened, tls_peer

import pyws
from pyws import __main__ as command
from pyws._native import lib

PAGE = command.page()
SIGNALS = [signal.SIGINT, signal.SIGTERM]


def start(*arguments: str) -> Program:
    return Program("-m", "pyws", *arguments)


def port_of(line: str, host: str = "127.0.0.1") -> int:
    beginning = f"listening on http://{host}:"
    assert line.startswith(beginning)
    return int(line[len(beginning) :])


def get(port: int, path: str = "/", method: str = "GET") -> Tuple[int, Dict[str, str], bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT)
    try:
        connection.request(method, path)
        response = connection.getresponse()
        headers = {name.lower(): value for name, value in response.getheaders()}
        return response.status, headers, response.read()
    finally:
        connection.close()


def taken_port() -> socket.socket:
    listener = socket.socket()
    listener.bind(("127.0.0.1", 0))
    listener.listen(1)
    return listener


# ---- as a program -------------------------------------------------------------------------------


def test_page_and_echo() -> None:
    with start("--port", "0") as program:
        port = port_of(program.line())
        assert port > 0
        status, headers, body = get(port)
        assert (status, body) == (200, PAGE)
        assert headers["content-type"] == "text/html; charset=utf-8"
        assert headers["x-content-type-options"] == "nosniff"
        assert headers["content-length"] == str(len(PAGE))

        status, headers, body = get(port, method="HEAD")
        assert (status, body) == (200, b"")
        assert headers["content-length"] == str(len(PAGE))

        assert get(port, "/nothing")[0] == 404
        assert get(port, "/echo")[0] == 426
        with upgraded(port, "/echo") as peer:
            peer.send(frame(b"text") + frame(b"\0\xff", 2) + frame(b""))
            got = [peer.frame() for _ in range(3)]
            assert [(f.opcode, f.payload) for f in got] == [(1, b"text"), (2, b"\0\xff"), (1, b"")]
            peer.send(frame(b"m" * 2**20, 2))
            assert peer.frame().payload == b"m" * 2**20
            peer.send(close_frame(3001))
            assert peer.frame().close_code == 3001


@pytest.mark.parametrize("number", SIGNALS)
def test_signal_ends_quietly(number: int) -> None:
    with start("--port", "0") as program, Peer(port_of(program.line())) as peer:
        assert program.stop(number) == 0
        assert program.rest() == ""
        assert program.error_text() == ""
        assert peer.at_end()


def test_signal_closes_sockets_with_1001() -> None:
    with start("--port", "0") as program, upgraded(port_of(program.line()), "/echo") as peer:
        program.process.send_signal(signal.SIGTERM)
        assert peer.frame().close_code == 1001
        peer.send(close_frame(1001))
        assert program.wait() == 0
        assert program.error_text() == ""


def test_second_interrupt_does_not_wait() -> None:
    with start("--port", "0") as program, upgraded(port_of(program.line()), "/echo") as peer:
        program.process.send_signal(signal.SIGINT)
        assert peer.frame().close_code == 1001
        assert program.stop(signal.SIGINT) == 130
        assert program.error_text() == ""


def test_url_arrives_through_a_buffered_pipe() -> None:
    child = subprocess.Popen(
        [sys.executable, "-m", "pyws", "--port", "0"],
        stdout=subprocess.PIPE,
        text=True,
        cwd=str(Path(pyws.__file__).parents[1]),
    )
    with child:
        try:
            assert child.stdout
            port_of(child.stdout.readline().rstrip())
            child.terminate()
            assert child.wait(TIMEOUT) == 0
        finally:
            child.kill()


def test_host() -> None:
    with start("--host", "127.0.0.2", "--port", "0") as program:
        port = port_of(program.line(), "127.0.0.2")
        socket.create_connection(("127.0.0.2", port), TIMEOUT).close()


def test_host_name() -> None:
    with start("--host", "localhost", "--port", "0") as program:
        port_of(program.line(), "localhost")


def test_ipv6_host() -> None:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        pytest.skip("no IPv6 here")
    with start("--host", "::1", "--port", "0") as program:
        port = port_of(program.line(), "[::1]")
        socket.create_connection(("::1", port), TIMEOUT).close()


def test_port_in_use() -> None:
    with taken_port() as listener:
        port = listener.getsockname()[1]
        with start("--port", str(port)) as program:
            assert program.wait() == 1
            assert program.rest() == ""
            assert program.error_text() == (
                f"pyws: cannot listen on 127.0.0.1:{port}: Address already in use "
                "(choose another with --port, or 0 for any)\n"
            )


def test_port_is_free_again_at_once() -> None:
    with start("--port", "0") as program:
        port = port_of(program.line())
        with upgraded(port, "/echo"):
            program.process.kill()
            program.wait()
    with start("--port", str(port)) as program:
        assert port_of(program.line()) == port


def test_policy_allows_what_is_in_the_page_alone() -> None:
    with start("--port", "0") as program:
        headers = get(port_of(program.line()))[1]
        assert program.stop(signal.SIGTERM) == 0
    policy = dict(part.split(" ", 1) for part in headers["content-security-policy"].split("; "))
    for kind in ("style", "script"):
        assert PAGE.count(f"<{kind}".encode()) == PAGE.count(f"</{kind}>".encode()) == 1
        text = PAGE[PAGE.index(f"<{kind}>".encode()) + len(kind) + 2 :]
        digest = hashlib.sha256(text[: text.index(f"</{kind}>".encode())]).digest()
        assert policy.pop(kind + "-src") == f"'sha256-{base64.b64encode(digest).decode()}'"
    assert policy == {
        "default-src": "'none'",
        "require-trusted-types-for": "'script'",
        "connect-src": "'self'",
        "img-src": "data:",
        "base-uri": "'none'",
        "form-action": "'none'",
        "frame-ancestors": "'none'",
    }


# ---- the chat -----------------------------------------------------------------------------------

WRONG_MESSAGES = [
    (b"", "a message must be JSON: "),
    (b"not JSON", "a message must be JSON: "),
    (b"\xff\xfe\xfd", "a message must be JSON: "),
    (b"null", "must be an object"),
    (b"[1]", "must be an object"),
    (b"{}", "must be an object"),
    (b'{"type": ["say"]}', "must be an object"),
    (b'{"type": "shout"}', "must be an object"),
    (b"[" * 8000, "a message must be JSON: "),  # its end is missing, or it is too deep
    (b"[" * 4000 + b"]" * 4000, "a message must be "),  # too deep, or no object
    (b"1" * 8000, "a message must be "),  # too long, or no object
    (b'{"type": "join"}', '"name" must be a text of 1 to 24 characters'),
    (b'{"type": "join", "name": " ", "room": "r"}', '"name" must be a text'),
    (b'{"type": "join", "name": 5, "room": "r"}', '"name" must be a text'),
    (b'{"type": "join", "name": "%s", "room": "r"}' % (b"n" * 25), '"name" must be a text'),
    (b'{"type": "join", "name": "n", "room": ""}', '"room" must be a text of 1 to 32'),
    (b'{"type": "join", "name": "n", "room": "%s"}' % (b"r" * 33), '"room" must be a text'),
    (b'{"type": "say"}', '"text" must be a text of 1 to 500 characters'),
    (b'{"type": "say", "text": "%s", "id": "1"}' % (b"t" * 501), '"text" must be a text'),
    (b'{"type": "say", "text": "t"}', '"id" must be a text of 1 to 40 characters'),
    (b'{"type": "say", "text": "t", "id": 1}', '"id" must be a text'),
]


def tell(peer: Peer, **message: Any) -> None:
    peer.send(frame(json.dumps(message).encode()))


def told(peer: Peer) -> Dict[str, Any]:
    received = peer.frame()
    assert received.opcode == 1, received
    message = json.loads(received.payload)
    assert isinstance(message, dict)
    return message


def join_of(name: str, room: str, people: int, kind: str = "join") -> Dict[str, Any]:
    return {"type": kind, "room": room, "name": name, "people": people}


def said(name: str, room: str, text: str, number: str) -> Dict[str, Any]:
    return {"type": "say", "room": room, "name": name, "text": text, "id": number}


def test_chat_rooms() -> None:
    with start("--port", "0") as program, ExitStack() as stack:
        port = port_of(program.line())
        ann, bob, cid = (stack.enter_context(upgraded(port, "/chat")) for _ in range(3))
        tell(ann, type="join", name=" Ann ", room="lobby")
        assert told(ann) == join_of("Ann", "lobby", 1)
        tell(cid, type="join", name="Cid", room="\u00e9/\U0001f600")
        assert told(cid) == join_of("Cid", "\u00e9/\U0001f600", 1)
        tell(bob, type="join", name="B\ud800b", room="lobby")  # half of a character
        assert told(ann) == told(bob) == join_of("B?b", "lobby", 2)
        tell(bob, type="say", text=" <b>\u4e16</b>\n", id="1")
        assert told(ann) == told(bob) == said("B?b", "lobby", "<b>\u4e16</b>", "1")
        tell(cid, type="say", text="x" * 500, id="2")
        assert told(cid) == said("Cid", "\u00e9/\U0001f600", "x" * 500, "2")

        tell(bob, type="join", name="Bob", room="\u00e9/\U0001f600")  # one room at a time
        assert told(ann) == join_of("B?b", "lobby", 1, "leave")
        assert told(bob) == told(cid) == join_of("Bob", "\u00e9/\U0001f600", 2)
        bob.send(close_frame(1000))
        assert told(cid) == join_of("Bob", "\u00e9/\U0001f600", 1, "leave")
        cid.socket.close()
        tell(ann, type="join", name="Ann", room="\u00e9/\U0001f600")
        assert told(ann)["room"] == "\u00e9/\U0001f600"
        ann.send(close_frame(1000))
        assert ann.frame().close_code == 1000
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


def test_chat_refuses_in_words() -> None:
    """What is wrong is told to its sender alone, and nothing is logged."""
    with start("--port", "0") as program, ExitStack() as stack:
        port = port_of(program.line())
        good, bad = (stack.enter_context(upgraded(port, "/chat")) for _ in range(2))
        tell(good, type="join", name="Ann", room="r")
        assert told(good) == join_of("Ann", "r", 1)
        tell(bad, type="say", text="t", id="1")
        assert told(bad) == {"type": "error", "text": "join a room first"}
        for inside in (False, True):
            for message, reason in WRONG_MESSAGES:
                bad.send(frame(message, 2))
                answer = told(bad)
                assert (answer.pop("type"), list(answer)) == ("error", ["text"])
                assert reason in answer["text"]
            if not inside:
                tell(bad, type="join", name="Bob", room="r")
                assert told(bad) == told(good) == join_of("Bob", "r", 2)
        tell(bad, type="say", text="t", id="1")
        assert told(bad) == told(good) == said("Bob", "r", "t", "1")
        bad.send(frame(b"x" * (8 * 1024 + 1)))
        assert bad.frame().close_code == 1009
        assert told(good) == join_of("Bob", "r", 1, "leave")
        good.send(close_frame(1000))
        assert good.frame().close_code == 1000
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


def test_chat_example() -> None:
    """S15, S42: examples/py/chat.py, two people in a room and one in another."""
    with Program(str(ROOT / "examples" / "py" / "chat.py"), "--port", "0") as program:
        port = int(program.line().rsplit(":", 1)[1])
        for path in ("/r", "/r?name=", f"/r?name={'n' * 25}", f"/{'r' * 33}?name=n", "/?name=n"):
            with Peer(port) as peer:
                peer.send(handshake(path))
                assert peer.response().status == (404 if path[1] == "?" else 400)
        with ExitStack() as stack:
            ann = stack.enter_context(upgraded(port, "/r%20%C3%A9?name=Ann"))
            assert told(ann) == {"name": "Ann", "event": "join", "people": 1}
            cid = stack.enter_context(upgraded(port, "/%FF?name=Cid"))
            assert told(cid) == {"name": "Cid", "event": "join", "people": 1}
            bob = stack.enter_context(upgraded(port, "/r%20%C3%A9?name=%E4%B8%96"))
            assert told(ann) == told(bob) == {"name": "\u4e16", "event": "join", "people": 2}
            ann.send(frame(b"hello"))
            assert told(ann) == told(bob) == {"name": "Ann", "text": "hello"}
            bob.send(frame(b"hello", 2))
            assert told(bob) == {"error": "only text goes to the room"}
            bob.socket.close()
            assert told(ann) == {"name": "\u4e16", "event": "leave", "people": 1}
            for peer in (ann, cid):
                peer.send(close_frame(1000))
                assert peer.frame().close_code == 1000
        assert program.stop(signal.SIGINT) == 0
        assert program.rest() == program.error_text() == ""


# ---- the echo alone -----------------------------------------------------------------------------

OFFER = [("Sec-WebSocket-Extensions", "permessage-deflate")]


@pytest.mark.parametrize(
    "arguments", [["--port", "0", "echo"], ["--port", "1", "echo", "--port", "0"]]
)
def test_echo_alone(arguments: List[str]) -> None:
    with start(*arguments, "--max-payload", "1000") as program:
        beginning, port = program.line().rsplit(":", 1)
        assert beginning == "listening on 127.0.0.1"
        with Peer(int(port)) as peer:
            peer.send(handshake("/any/path", OFFER))
            response = peer.response()
            assert response.status == 101
            assert "sec-websocket-extensions" not in response.headers
            peer.send(frame(b"x" * 1000) + frame(b"\xff", 2))
            assert peer.frame() == (True, 1, b"x" * 1000)
            assert peer.frame() == (True, 2, b"\xff")
            peer.send(frame(b"x" * 1001))
            assert peer.frame().close_code == 1009
        assert program.stop(signal.SIGTERM) == 0
        assert program.rest() == program.error_text() == ""


@pytest.mark.parametrize("compression", ["shared", "dedicated"])
def test_echo_compressed(compression: str) -> None:
    with start("echo", "--port=0", "--print-port", "--compression", compression) as program:
        if not lib.ws_compression_available():
            assert program.wait() == 1
            assert program.error_text().startswith("pyws: compression needs zlib")
            return
        with Peer(int(program.line())) as peer:
            peer.send(handshake("/", OFFER))
            offered = peer.response().headers["sec-websocket-extensions"]
            assert offered.startswith("permessage-deflate")
            peer.send(frame(b"a" * 500))
            first, second = peer.read(2)
            assert (first, second < 100) == (0xC1, True)
        assert program.stop(signal.SIGINT) == 0
        assert program.rest() == program.error_text() == ""


# ---- a certificate for trying -------------------------------------------------------------------


def test_l1_self_signed() -> None:
    """The page over https, with a certificate for what the browser may ask for."""
    pytest.importorskip("trustme")
    with start("--self-signed", "--port", "0") as program:
        line = program.line()
        assert line.startswith("listening on https://127.0.0.1:")
        port = int(line.rpartition(":")[2])
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE  # nobody can trust it
        with opened(tls_peer(port, context), "/echo") as peer:
            peer.send(frame(b"hello"))
            assert peer.frame().payload == b"hello"
        with tls_peer(port, context) as peer:
            peer.send(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
            assert peer.response().body == PAGE
        with pytest.raises(ssl.SSLCertVerificationError):
            tls_peer(port, ssl.create_default_context())
        assert program.stop(signal.SIGTERM) == 0
        assert program.error_text() == ""


WITHOUT_TRUSTME = """
import sys
sys.modules["trustme"] = None  # import raises ImportError
from pyws.__main__ import main
sys.exit(main(["--self-signed"]))
"""


def test_l1_self_signed_needs_trustme() -> None:
    with Program("-c", WITHOUT_TRUSTME) as program:
        assert program.wait() == 1
        assert program.rest() == ""
        assert program.error_text() == (
            'pyws: --self-signed needs trustme: pip install "pyws-server[tls]"\n'
        )


# ---- called -------------------------------------------------------------------------------------


def test_main_until_a_signal(capsys: pytest.CaptureFixture[str]) -> None:
    with taken_port() as listener:
        port = listener.getsockname()[1]
    seen: List[Any] = []

    def visit() -> None:
        try:
            eventually(lambda: can_connect(port))
            seen.append(get(port)[2] == PAGE)
            with upgraded(port, "/echo") as peer:
                peer.send(frame(b"hello"))
                seen.append(peer.frame().payload)
        finally:
            os.kill(os.getpid(), signal.SIGTERM)

    visitor = threading.Thread(target=visit)
    visitor.start()
    assert command.main(["--port", str(port)]) == 0
    visitor.join(TIMEOUT)
    assert seen == [True, b"hello"]
    assert capsys.readouterr() == (f"listening on http://127.0.0.1:{port}\n", "")


def can_connect(port: int) -> bool:
    try:
        Peer(port).socket.close()
    except ConnectionRefusedError:
        return False
    return True


def test_main_fails_on_a_used_port(capsys: pytest.CaptureFixture[str]) -> None:
    with taken_port() as listener:
        port = listener.getsockname()[1]
        assert command.main(["--port", str(port)]) == 1
        captured = capsys.readouterr()
        assert captured.out == ""
        assert captured.err.startswith(
            f"pyws: cannot listen on 127.0.0.1:{port}: Address already in use (choose"
        )


@pytest.mark.parametrize(
    ("host", "text"),
    [
        ("no host.invalid", "unknown host"),
        (
            "192.0.2.1",
            "Cannot assign requested address (this machine has no such address: "
            "choose another with --host)",
        ),
    ],
)
def test_main_fails_on_a_wrong_host(
    host: str, text: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["--host", host, "--port", "0"]) == 1
    assert capsys.readouterr() == ("", f"pyws: cannot listen on {host}:0: {text}\n")


@pytest.mark.parametrize(
    ("arguments", "text"),
    [
        (["--port", "65536"], "--port: must be a number from 0 to 65535, not '65536'"),
        (["--port=-1"], "--port: must be a number from 0 to 65535, not '-1'"),
        (["--port", "http"], "--port: must be a number from 0 to 65535, not 'http'"),
        (["--port"], "--port: expected one argument"),
        (["--port", "9" * 5000], "--port: must be a number from 0 to 65535, not '999"),
        (["--host", ""], "--host: must be an address or a name"),
        (["--host", "a\0b"], "host"),
        (["--por=80"], "pyws: error: there is no option --por, did you mean --port?"),
        (["--prot", "5"], "pyws: error: there is no option --prot, did you mean --port?"),
        (["--zigzag", "5"], "pyws: error: there is no option --zigzag\n"),
        (["--crt", "x"], "pyws: error: there is no option --crt, did you mean --cert?"),
        (["--key", "x"], "pyws: error: --key is the key of a certificate: --cert is missing"),
        (["echo", "--key", "x"], "--cert is missing"),
        (["--cert", "x", "--self-signed"], "leave out --cert and --key"),
        (["--cert", ""], "cert_file must not be empty"),
        (["-p", "5"], "pyws: error: there is no option -p\n"),
        (["what"], "pyws: error: there is no command 'what', only echo and publish\n"),
        (["ecko"], "pyws: error: there is no command 'ecko', did you mean echo?"),
        (["--", "what"], "pyws: error: there is no command 'what', only echo and publish\n"),
        (["-"], "pyws: error: there is no command '-', only echo and publish\n"),
        (["echo", "--por=80"], "pyws echo: error: there is no option --por, did you mean --port?"),
        (["echo", "--prot", "5"], "pyws echo: error: there is no option --prot, did you mean --po"),
        (["--port", "5", "echo", "--print"], "there is no option --print, did you mean --print-po"),
        (["echo", "twice"], "pyws echo: error: unexpected argument 'twice'"),
        (["echo", "--port", "65536"], "--port: must be a number from 0 to 65535, not '65536'"),
        (["echo", "--max-payload", "0"], "--max-payload: must be a number from 1 to 2147483647"),
        (["echo", "--compression", "zip"], "--compression: must be shared or dedicated, not 'zip'"),
        (["echo", "--compression"], "--compression: expected one argument"),
        (["echo", "--host", ""], "--host: must be an address or a name"),
    ],
)
def test_bad_arguments(arguments: List[str], text: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        command.main(arguments)
    assert info.value.code == 2
    captured = capsys.readouterr()
    assert captured.out == ""
    assert text in captured.err
    assert "Traceback" not in captured.err


@pytest.mark.parametrize("arguments", [[], ["echo"]])
def test_help(arguments: List[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        command.main([*arguments, "--help"])
    assert info.value.code == 0
    shown, errors = capsys.readouterr()
    usage = "pyws echo [-h]" if arguments else "pyws [-h] [--version] [--host HOST]"
    assert shown.startswith(f"usage: {usage}")
    assert arguments or " [COMMAND ...]\n" in shown
    assert "instead of that" not in shown
    assert errors == ""


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (errno.EADDRINUSE, "choose another with --port, or 0 for any"),
        (errno.EACCES, "ports below 1024 need privileges"),
        (errno.EADDRNOTAVAIL, "this machine has no such address"),
        (errno.ENOBUFS, ""),
    ],
)
def test_what_to_do_about_a_place(number: int, text: str) -> None:
    assert text in command.advice(OSError(number, "no"))


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as info:
        command.main(["--version"])
    assert info.value.code == 0
    shown, errors = capsys.readouterr()
    bridge = "c" if lib.bridge else "ctypes"
    assert re.fullmatch(
        rf"pyws {pyws.__version__} \(bridge: {bridge}, (permessage-deflate|no compression)\)\n",
        shown,
    )
    assert errors == ""


def test_interrupt_before_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(pyws.App, "listen", interrupt)
    assert command.main(["--port", "0"]) == 130


def test_page_needs_nothing_else() -> None:
    text = PAGE.decode()
    addresses = [line for line in text.splitlines() if "http://" in line or "https://" in line]
    assert all("http://www.w3.org/2000/svg" in line for line in addresses)  # the name of a format
    for tag in ("src=", "@import", "url("):
        assert tag not in text
