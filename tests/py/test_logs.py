# SPDX-License-Identifier: MIT
"""P8: what is logged, at which level, by which logger, and what that costs when it is off."""

import logging
import re
import socket
import threading
from typing import Any, Callable, Iterator, List

import peer
import pytest
from common import ROOT, TIMEOUT
from peer import close_frame, frame, handshake, upgraded

from pyws import App, AppOptions, WebSocket
from pyws._core.logs import escaped

Serve = Callable[..., Any]
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
PEER = r"127\.0\.0\.1:\d+"


@pytest.fixture
def debug(caplog: pytest.LogCaptureFixture) -> Iterator[Callable[[], List[str]]]:
    """Lines of `pyws.server` so far."""
    caplog.set_level(logging.DEBUG, "pyws.server")
    yield lambda: [
        f"{record.levelname} {record.getMessage()}"
        for record in caplog.records
        if record.name == "pyws.server"
    ]


def answer(server: Any, request: bytes) -> int:
    with peer.Peer(server.port) as client:
        client.send(request)
        return client.response().status


def wait_for(lines: Callable[[], List[str]], pattern: str) -> None:
    peer.eventually(lambda: any(re.fullmatch(pattern, line) for line in lines()))


# ---- the server ---------------------------------------------------------------------------------


def test_p8_listening_start_and_end(debug: Callable[[], List[str]]) -> None:
    with App() as app:
        app.listen({"host": "127.0.0.1"})
        port = app.port
        app.defer(app.close)
        app.run()
    assert debug() == [
        f"INFO listening on 127.0.0.1:{port}",
        "INFO serving",
        "INFO stopped serving",
    ]


def test_p8_a_place_that_was_given_up(debug: Callable[[], List[str]]) -> None:
    def fail(place: Any) -> None:
        raise LookupError

    with App() as app, pytest.raises(LookupError):
        app.listen({"host": "127.0.0.1"}, fail)
    assert re.fullmatch(r"INFO no longer listening on 127\.0\.0\.1:\d+", debug()[-1])


def test_p8_connections_opened_and_closed(serve: Serve, debug: Callable[[], List[str]]) -> None:
    server = serve({}, pattern="/chat/:room")
    with upgraded(server.port, "/chat/x", more=close_frame(4000, b"by\xe2\x82\xac")) as client:
        client.frame()
    wait_for(debug, rf"DEBUG opened {PEER} /chat/x")
    wait_for(debug, rf'DEBUG closed {PEER} /chat/x 4000 "by\\u20ac" after \d+\.\d+ s')


@pytest.mark.parametrize(
    ("settings", "data", "line"),
    [
        ({}, b"\xff\x80aaaa", r'1002 ".*"'),
        ({"max_payload_length": 2}, frame(b"abc"), r'1009 "message of 3 bytes exceeds .*"'),
        ({}, frame(b"\xff"), r'1007 ".*"'),
        ({}, b"", '1006 "connection closed without a Close frame"'),
    ],
    ids=["1002", "1009", "1007", "1006"],
)
def test_p8_failed_connections(
    serve: Serve, debug: Callable[[], List[str]], settings: Any, data: bytes, line: str
) -> None:
    server = serve(settings)
    with upgraded(server.port, more=data):
        pass
    wait_for(debug, rf"DEBUG closed {PEER} / {line} after .*")


@pytest.mark.parametrize(
    ("request_", "status", "line"),
    [
        (handshake("/chat", [("Origin", "https://evil.example")]), 403, "/chat: 403 Origin .*"),
        (handshake("/none"), 404, "/none: 404 Not Found"),
        (handshake("/chat").replace(b": 13", b": 8"), 426, "/chat: 426 Sec-WebSocket-Version .*"),
        (handshake("/chat").replace(b"GET", b"POST"), 405, "/chat: 405 the method of .*"),
        (handshake("/chat").replace(b"==", b""), 400, "/chat: 400 Sec-WebSocket-Key .*"),
        (handshake("/" + "x" * 20000), 414, "-: 414 .+"),
        (handshake("/chat", [("X", "x" * 20000)]), 431, "-: 431 .+"),
        (b"GET / HTTP/2.0\r\n\r\n", 505, "-: 505 the request is not HTTP/1"),
        (b"\x16\x03\x01\x02", 400, "-: 400 TLS ClientHello on a port without TLS"),
        (handshake("/refuses"), 401, "/refuses: 401 Unauthorized"),
        (handshake("/silent"), 500, "/silent: 500 Internal Server Error"),
        (handshake("/a\"b"), 404, r"/a\\\"b: 404 Not Found"),
        (handshake("/odd"), 499, "/odd: 499"),
    ],
)  # fmt: skip
def test_p8_refused_handshakes(
    serve: Serve,
    debug: Callable[[], List[str]],
    caplog: pytest.LogCaptureFixture,
    request_: bytes,
    status: int,
    line: str,
) -> None:
    def configure(app: App) -> None:
        app.ws("/chat", {}, origins=[None, "https://example.org"])
        app.ws("/refuses", upgrade=lambda res, req, context: res.send("no", 401))
        app.ws("/silent", upgrade=lambda res, req, context: None)
        app.ws("/odd", upgrade=lambda res, req, context: res.send("no", 499))

    server = serve(configure)
    assert answer(server, request_) == status
    wait_for(debug, rf"DEBUG refused {PEER} {line}")
    (record,) = [one for one in caplog.records if one.getMessage().startswith("refused")]
    facts: Any = record
    assert facts.status == status
    assert facts.reason or status == 499  # which has none
    assert record.getMessage().endswith(f"{facts.status} {facts.reason}".rstrip())


def test_p8_a_503_of_max_connections(serve: Serve, debug: Callable[[], List[str]]) -> None:
    server = serve({}, AppOptions(max_connections=1))
    with upgraded(server.port), peer.Peer(server.port) as client:
        assert client.response().status == 503
    wait_for(debug, rf"DEBUG refused {PEER} -: 503 Service Unavailable")


def test_p8_plain_answers_are_no_refusals(serve: Serve, debug: Callable[[], List[str]]) -> None:
    server = serve(lambda app: app.get("/", lambda res, req: res.send("no", 404)))
    assert answer(server, GET) == 404
    assert answer(server, GET.replace(b"/ ", b"/none ")) == 404
    wait_for(debug, rf"DEBUG refused {PEER} /none: 404 Not Found")
    assert sum("refused" in line for line in debug()) == 1


def test_p8_records_carry_the_facts(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pyws.server")
    sockets: List[WebSocket] = []
    server = serve({"open": sockets.append}, pattern="/:x")
    with upgraded(server.port, "/y", more=close_frame(1000)) as client:
        client.frame()
        port = client.socket.getsockname()[1]
    peer.eventually(lambda: any("closed" in record.getMessage() for record in caplog.records))
    record: Any = next(r for r in caplog.records if r.getMessage().startswith("closed"))
    assert (record.route, record.path, record.code) == ("/:x", "/y", 1000)
    assert record.reason == ""
    assert (record.socket, record.peer) == (sockets[0].id, f"127.0.0.1:{port}")
    assert record.duration >= 0


def test_p8_nothing_is_made_while_nobody_reads_it(serve: Serve) -> None:
    """C is not even asked for its responses, and sockets keep no time."""
    server = serve({})
    with upgraded(server.port):
        assert server.app._runtime.traffic is None
    assert answer(server, handshake("/none", [])) == 101


# ---- access -------------------------------------------------------------------------------------


def access(caplog: pytest.LogCaptureFixture) -> List[str]:
    return [record.getMessage() for record in caplog.records if record.name == "pyws.access"]


def test_p8_access_log(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, "pyws.access")

    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.end("hello")).ws("/chat", {})

    server = serve(configure, AppOptions(access_log=True))
    assert answer(server, GET) == 200
    assert answer(server, GET.replace(b"/ ", b"/none ")) == 404
    assert answer(server, b"\x00\r\n\r\n") == 400
    with upgraded(server.port, "/chat", more=close_frame(1000)) as client:
        client.frame()
    peer.eventually(lambda: len(access(caplog)) == 4)
    patterns = (
        rf'{PEER} "GET /" 200 5',
        rf'{PEER} "GET /none" 404 14',
        rf'{PEER} "- -" 400 \d+',
        rf'{PEER} "GET /chat" 101 1000 \d+\.\d+',
    )
    for line, pattern in zip(access(caplog), patterns):
        assert re.fullmatch(pattern, line), line
    record: Any = next(record for record in caplog.records if record.name == "pyws.access")
    assert (record.method, record.path, record.status, record.size) == ("GET", "/", 200, 5)


def test_p8_no_access_log_without_the_option(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    server = serve({})
    assert answer(server, GET.replace(b"/ ", b"/none ")) == 426
    assert access(caplog) == []


def test_p8_a_log_that_fails_does_no_harm(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    class Broken(logging.Filter):
        def filter(self, record: logging.LogRecord) -> bool:
            if record.levelno == logging.DEBUG:
                raise LookupError("broken filter")
            return True

    log = logging.getLogger("pyws.server")
    caplog.set_level(logging.DEBUG, "pyws.server")
    broken = Broken()
    log.addFilter(broken)
    try:
        server = serve(message=lambda ws, message, opcode: ws.send(message))
        assert answer(server, handshake("/none").replace(b": 13", b": 8")) == 426
        with upgraded(server.port, more=frame(b"x") + close_frame(1000)) as client:
            assert client.frame().payload == b"x"
            assert client.frame().close_code == 1000
        peer.eventually(lambda: caplog.text.count("exception in logging") >= 3)
    finally:
        log.removeFilter(broken)


def test_p8_unix_sockets_have_no_address(tmp_path: Any, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pyws.server")
    path = str(tmp_path / "socket")

    def talk() -> None:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(TIMEOUT)
            client.connect(path)
            client.sendall(handshake("/none"))
            client.recv(1)
        app.defer(app.close)

    with App() as app:
        app.ws("/", {}).listen({"path": path})
        thread = threading.Thread(target=talk)
        app.defer(thread.start)
        app.run()
        thread.join(TIMEOUT)
    assert "refused unix: /none: 404 Not Found" in caplog.text


@pytest.mark.parametrize(
    ("chosen", "shown"),
    [
        ("/a\nb\r\x1b[31m", r"/a\nb\r\x1b[31m"),
        ('/"x"', r"/\"x\""),
        ("/caf\u00e9\udce9", r"/caf\xe9\udce9"),
        ("/" + "x" * 300, "/" + "x" * 199 + "..."),
    ],
)
def test_t89_what_a_peer_chose_is_escaped(chosen: str, shown: str) -> None:
    assert escaped(chosen) == shown


# ---- failures of handlers -----------------------------------------------------------------------


def failures(caplog: pytest.LogCaptureFixture) -> List[Any]:
    return [record for record in caplog.records if record.levelno == logging.ERROR]


@pytest.mark.parametrize("event", ["open", "message", "close"])
@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_p8_a_failed_handler_names_route_and_socket(
    serve: Serve, caplog: pytest.LogCaptureFixture, event: str, kind: str
) -> None:
    sockets: List[WebSocket] = []

    def fail(ws: WebSocket, *arguments: Any) -> None:
        sockets.append(ws)
        raise LookupError("here")

    async def fail_later(ws: WebSocket, *arguments: Any) -> None:
        fail(ws)

    server = serve({event: fail if kind == "plain" else fail_later}, pattern="/chat/:room")
    with upgraded(server.port, "/chat/x", more=frame(b"x") + close_frame(1000)) as client:
        port = client.socket.getsockname()[1]
        client.frame()
    peer.eventually(lambda: failures(caplog))
    (record,) = failures(caplog)
    assert record.name == "pyws"
    assert record.getMessage() == (
        f"exception in the {event} handler of /chat/:room, "
        f"socket {sockets[0].id} from 127.0.0.1:{port}"
    )
    assert (record.route, record.socket) == ("/chat/:room", sockets[0].id)
    assert record.peer == f"127.0.0.1:{port}"
    names = frames_of(record)
    assert names == (["fail"] if kind == "plain" else ["fail_later", "fail"])


def frames_of(record: Any) -> List[str]:
    names, traceback = [], record.exc_info[2]
    while traceback is not None:
        assert str(ROOT / "pyws") not in traceback.tb_frame.f_code.co_filename
        names.append(traceback.tb_frame.f_code.co_name)
        traceback = traceback.tb_next
    return names


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_p8_a_failed_request_names_route_and_peer(
    serve: Serve, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    def fail(res: Any, req: Any) -> None:
        raise LookupError("here")

    async def fail_later(res: Any, req: Any) -> None:
        fail(res, req)

    server = serve(lambda app: app.get("/:page", fail if kind == "plain" else fail_later))
    with peer.Peer(server.port) as client:
        client.send(GET.replace(b"/ ", b"/x "))
        assert client.response().status == 500
        port = client.socket.getsockname()[1]
    (record,) = failures(caplog)
    assert record.getMessage() == f"exception in the handler of /:page from 127.0.0.1:{port}"
    assert (record.route, record.peer) == ("/:page", f"127.0.0.1:{port}")
    assert frames_of(record)[-1] == "fail"


@pytest.mark.parametrize("kind", ["plain", "coroutine"])
def test_p8_a_failed_upgrade_says_that_it_is_one(
    serve: Serve, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    def fail(res: Any, req: Any, socket_context: Any) -> None:
        raise LookupError("here")

    async def fail_later(res: Any, req: Any, socket_context: Any) -> None:
        fail(res, req, socket_context)

    server = serve(lambda app: app.ws("/*", upgrade=fail if kind == "plain" else fail_later))
    assert answer(server, handshake("/x")) == 500
    (record,) = failures(caplog)
    assert record.getMessage().startswith("exception in the upgrade handler of /* from 127.0.0.1:")


def test_p8_a_wrong_arity_says_where_the_handler_is(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """One that could not be known at registration."""

    def on_message(ws: Any, message: Any, *more: Any) -> None: ...

    def signature_lies(ws: Any) -> None: ...

    signature_lies.__signature__ = __import__("inspect").signature(on_message)  # type: ignore
    server = serve(message=signature_lies)
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().close_code == 1011
    (record,) = failures(caplog)
    assert "signature_lies" in record.getMessage()
    assert re.search(r"test_logs\.py:\d+", record.getMessage())
    assert "positional argument" in str(record.exc_info[1])


def test_p8_calls_are_named(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    def fail() -> None:
        raise LookupError("here")

    server = serve({})
    server.app.defer(fail)
    server.call(lambda: server.app.call_later(0, fail))
    peer.eventually(lambda: len(failures(caplog)) == 2)
    for record in failures(caplog):
        assert frames_of(record) == ["fail"]
