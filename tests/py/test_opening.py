# SPDX-License-Identifier: MIT
"""What a socket knows of its opening handshake: ws.request, ws.parameters, ws.query (P1)."""

import asyncio
import gc
import json
import sys
from contextlib import ExitStack
from typing import Any, Callable, List
from urllib.parse import quote, unquote

import peer
import pytest
from common import ROOT
from coroutines import Gate
from handlers import accept
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peer import upgraded

from pyws import App, AppOptions, OpCode, Parameters, Query, Request, Response, WebSocket
from pyws._core.facts import Facts

COOKIE = [("Cookie", "sid=7"), ("X-Who", "me")]
IS_OVER = "the opening handshake of this socket is over"


def facts(ws: WebSocket) -> List[Any]:
    request = ws.request
    return [
        request.get_url(),
        request.get_method(),
        request.get_header("x-who"),
        request.get_cookie("sid"),
        request.get_parameter("room"),
        request.get_query("a"),
    ]


FACTS = ["/chat/blue", "GET", "me", "7", "blue", "1"]


# ---- parameters and query -----------------------------------------------------------------------


def test_p1_parameters_by_name_and_by_position(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def look(ws: WebSocket, *event: Any) -> None:
        found = ws.parameters
        assert isinstance(found, Parameters)
        seen.append((found["room"], found[0], found["*"], found[1], found.get("x"), found.get(2)))
        seen.append((dict(found), list(found.values()), len(found), repr(found)))
        with pytest.raises(KeyError, match="no parameter 'rom', the pattern has 'room', '\\*'"):
            found["rom"]
        for index in (2, -1):
            with pytest.raises(IndexError, match=f"no parameter {index}, the pattern has"):
                found[index]

    server = serve(pattern="/chat/:room/*", open=look, message=look, close=look)
    with upgraded(server.port, "/chat/a%20b%FF/c/d%2Fe") as client:
        client.send(peer.frame(b"x", 1))
        peer.eventually(lambda: len(seen) == 4)
    peer.eventually(lambda: len(seen) == 6)
    assert not server.error
    room, rest = "a b\ufffd", "c/d/e"
    both = {"room": room, "*": rest}
    assert seen[::2] == [(room, room, rest, rest, None, None)] * 3
    assert seen[1::2] == [(both, [room, rest], 2, f"Parameters({both})")] * 3


def test_p1_query_by_name(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def look(ws: WebSocket, *event: Any) -> None:
        found = ws.query
        assert isinstance(found, Query)
        seen.append((found["a"], found.get("b"), found.get("none"), found.get_all("a")))
        seen.append((dict(found), len(found), found.get_all("none"), repr(found), ws.path))
        with pytest.raises(KeyError):
            found["none"]

    server = serve(pattern="/*", open=look, message=look, close=look)
    with upgraded(server.port, "/x?a=1%202&b=&a=%C3%A9&c=%FF?") as client:
        client.send(peer.frame(b"x", 1))
        peer.eventually(lambda: len(seen) == 4)
    peer.eventually(lambda: len(seen) == 6)
    assert seen[::2] == [("1 2", "", None, ["1 2", "é"])] * 3
    first = {"a": "1 2", "b": "", "c": "\ufffd?"}
    text = "Query({'a': ['1 2', 'é'], 'b': [''], 'c': ['\ufffd?']})"
    assert seen[1::2] == [(first, 3, [], text, "/x")] * 3


def test_p1_without_parameters_and_query_both_are_empty(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []
    server = serve(pattern="/a", open=lambda ws: seen.append((dict(ws.parameters), dict(ws.query))))
    for path in ("/a", "/a?"):
        with upgraded(server.port, path):
            pass
    peer.eventually(lambda: len(seen) == 2)
    assert seen == [({}, {})] * 2


def test_p1_requests_of_http_offer_the_same(serve: Callable[..., Any]) -> None:
    def get(res: Response, req: Request) -> None:
        res.end([dict(req.parameters), req.parameters[0], dict(req.query), req.query.get_all("a")])

    server = serve(lambda app: app.get("/get/:what", get))
    found = peer.request(server.port, "GET /get/it%21?a=1&a=2 HTTP/1.1")
    assert json.loads(found.body) == [{"what": "it!"}, "it!", {"a": "1"}, ["1", "2"]]


def test_p1_the_absolute_form_of_a_target(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []
    server = serve(
        pattern="/*", open=lambda ws: seen.append((ws.path, dict(ws.parameters), dict(ws.query)))
    )
    targets = ["http://x/a/b?c=1", "http://x?c=1", "http://x", "http://x/?/?"]
    for target in targets:
        with upgraded(server.port, target):
            pass
    peer.eventually(lambda: len(seen) == 4)
    assert seen == [
        ("/a/b", {"*": "a/b"}, {"c": "1"}),
        ("/", {"*": ""}, {"c": "1"}),
        ("/", {"*": ""}, {}),
        ("/", {"*": ""}, {"/?": ""}),
    ]


PATTERNS = ["*", "/*", "/:a", "/:a/:b", "/x/:a/*", "/:a/x", "/:a/x/:b/*"]
segments = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x17F), max_size=5)


def test_p1_parameters_are_what_the_library_has_matched(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def look(pattern: str) -> Callable[[WebSocket], None]:
        return lambda ws: seen.append((pattern, ws.path, ws.parameters))

    server = serve(lambda app: [app.ws(pattern, open=look(pattern)) for pattern in PATTERNS[1:]])

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(segments | st.just("x"), min_size=1, max_size=5))
    def check(parts: List[str]) -> None:
        path = "".join("/" + quote(part, safe="") for part in parts)
        with upgraded(server.port, path):
            peer.eventually(lambda: seen)
        pattern, found, parameters = seen.pop()
        assert found == path
        # Put back into the pattern, they make the path.
        names = pattern.split("/")
        assert [*parameters] == [
            name.replace(":", "", 1) for name in names if name[:1] in (":", "*")
        ]
        values = iter(parameters.values())
        made = "/".join(next(values) if name[:1] in (":", "*") and name else name for name in names)
        assert made == unquote(path)

    check()


def test_p1_two_colons_make_another_name(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []
    server = serve(pattern="/:a/::a", open=lambda ws: seen.append(dict(ws.parameters)))
    with upgraded(server.port, "/1/2"):
        peer.eventually(lambda: seen)
    assert seen == [{"a": "1", ":a": "2"}]


# ---- the request --------------------------------------------------------------------------------


def test_p1_the_request_is_there_while_open_runs(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []

    def later(ws: WebSocket, *event: Any) -> None:
        with pytest.raises(RuntimeError, match=IS_OVER):
            ws.request  # noqa: B018
        with pytest.raises(RuntimeError, match="this request is over"):
            kept[0].get_url()
        seen.append("over")

    kept: List[Request] = []

    def opened(ws: WebSocket) -> None:
        assert isinstance(ws.request, Request)
        kept.append(ws.request)
        seen.append(facts(ws))
        ws.close()  # and also when the socket is closed already
        seen.append(facts(ws))

    server = serve(pattern="/chat/:room", open=opened, close=lambda ws, *why: seen.append("closed"))
    with peer.Peer(server.port) as client:
        client.send(peer.handshake("/chat/blue?a=1", COOKIE))
        peer.eventually(lambda: len(seen) == 3)
    assert seen == [FACTS, "closed", FACTS]
    kept.clear()
    server = serve(pattern="/chat/:room", open=lambda ws: kept.append(ws.request), message=later)
    with upgraded(server.port, "/chat/blue?a=1", COOKIE) as client:
        client.send(peer.frame(b"x", 1))
        peer.eventually(lambda: seen[3:])
    assert seen[3:] == ["over"]


def test_p1_the_request_is_there_while_upgrade_runs(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []
    sockets: List[WebSocket] = []

    def opened(ws: WebSocket) -> None:
        sockets.append(ws)
        seen.append(facts(ws))

    def upgrade(res: Response, req: Request, context: Any) -> None:
        res.upgrade(user_data={"user": 1})
        seen.append(facts(sockets[0]))
        assert req.get_cookie("sid") == "7"

    def message(ws: WebSocket, *event: Any) -> None:
        with pytest.raises(RuntimeError, match=IS_OVER):
            ws.request  # noqa: B018
        seen.append(ws.user_data)

    server = serve(pattern="/chat/:room", upgrade=upgrade, open=opened, message=message)
    with upgraded(server.port, "/chat/blue?a=1", COOKIE) as client:
        client.send(peer.frame(b"x", 1))
        peer.eventually(lambda: len(seen) == 3)
    assert seen == [FACTS, FACTS, {"user": 1}]


def test_p1_the_request_belongs_to_the_thread_of_the_app(serve: Callable[..., Any]) -> None:
    sockets: List[WebSocket] = []
    server = serve(keep_request=True, open=sockets.append)
    with upgraded(server.port):
        peer.eventually(lambda: sockets)
        with pytest.raises(RuntimeError, match=r"the thread of app\.run"):
            sockets[0].request  # noqa: B018


UPGRADES = {"no handler": None, "upgrade": accept}


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("asks", [False, True])
def test_p1_a_request_that_could_not_be_kept_is_over(
    serve: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, asks: bool, upgrade: Any
) -> None:
    """A signal handler raised, or there was no memory: C has freed the request all the same."""
    monkeypatch.setattr(sys, "unraisablehook", lambda what: None)
    seen: List[Request] = []

    def fail(facts: Facts) -> None:
        raise MemoryError

    monkeypatch.setattr(Facts, "_preserve", fail)

    def on_open(ws: WebSocket) -> None:
        if asks:
            seen.append(ws.request)

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        with pytest.raises(RuntimeError, match="is over"):
            ws.request.get_header("host")
        for request in seen:
            with pytest.raises(RuntimeError, match="is over"):
                request.get_header("host")
        ws.send("over")

    more = {} if upgrade is None else {"upgrade": upgrade}
    server = serve(keep_request=True, open=on_open, message=on_message, **more)
    with peer.upgraded(server.port, more=peer.frame(b"x")) as client:
        assert client.frame().payload == b"over"


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
@pytest.mark.parametrize("setting", ["keep_request", "keep_headers"])
def test_p1_keep_request_keeps_headers_and_cookies(
    serve: Callable[..., Any], setting: str, upgrade: Any
) -> None:
    seen: List[Any] = []

    def look(ws: WebSocket, *event: Any) -> None:
        assert ws.headers is not None
        seen.append([*facts(ws), ws.headers["x-who"]])

    behavior = {"open": look, "message": look, "close": look, "upgrade": upgrade}
    options = AppOptions(keep_headers=setting == "keep_headers")
    behavior = {key: value for key, value in behavior.items() if value}
    if setting == "keep_request":
        behavior["keep_request"] = True
    server = serve(behavior, options, pattern="/chat/:room")
    with upgraded(server.port, "/chat/blue?a=1", COOKIE) as client:
        client.send(peer.frame(b"x", 1))
        peer.eventually(lambda: len(seen) == 2)
    peer.eventually(lambda: len(seen) == 3)
    assert seen == [[*FACTS, "me"]] * 3


# ---- coroutine handlers -------------------------------------------------------------------------


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
def test_p1_a_coroutine_open_handler_has_the_request(
    serve: Callable[..., Any], upgrade: Any
) -> None:
    seen: List[Any] = []
    gate = Gate()

    async def opened(ws: WebSocket) -> None:
        seen.append(facts(ws))
        await gate.wait()
        seen.append(facts(ws))

    def look(ws: WebSocket, *event: Any) -> None:
        try:
            seen.append(ws.request)
        except RuntimeError as error:
            seen.append(str(error)[: len(IS_OVER)])
        seen.append((ws.parameters["room"], ws.query["a"]))

    behavior = {"open": opened, "message": look, "close": look}
    if upgrade:
        behavior["upgrade"] = upgrade
    server = serve(behavior, pattern="/chat/:room")
    with upgraded(server.port, "/chat/blue?a=1", COOKIE) as client:
        peer.eventually(lambda: seen)
        gate.open()
        peer.eventually(lambda: len(seen) == 2)
        server.call(lambda: None)
        client.send(peer.frame(b"x", 1))
        peer.eventually(lambda: len(seen) == 4)
    peer.eventually(lambda: len(seen) == 6)
    assert seen == [FACTS, FACTS, *[IS_OVER, ("blue", "1")] * 2]


def test_p1_a_coroutine_upgrade_handler(serve: Callable[..., Any]) -> None:
    seen: List[Any] = []
    gate = Gate()

    async def upgrade(res: Response, req: Request, context: Any) -> None:
        await asyncio.sleep(0)
        res.upgrade(user_data=req.get_query("a"))
        await gate.wait()

    async def opened(ws: WebSocket) -> None:
        seen.append(facts(ws))
        await asyncio.sleep(0)
        seen.append(facts(ws))

    server = serve(pattern="/chat/:room", upgrade=upgrade, open=opened)
    with upgraded(server.port, "/chat/blue?a=1", COOKIE):
        peer.eventually(lambda: len(seen) == 2)
        gate.open()
    assert seen == [FACTS] * 2


@pytest.mark.parametrize("upgrade", UPGRADES.values(), ids=UPGRADES)
def test_p1_a_session_has_the_request_that_it_has_read(
    serve: Callable[..., Any], upgrade: Any
) -> None:
    seen: List[Any] = []
    sockets: List[WebSocket] = []

    async def reads(ws: WebSocket) -> None:
        sockets.append(ws)
        seen.append(facts(ws))
        async for _ in ws:
            seen.append(facts(ws))

    async def does_not(ws: WebSocket) -> None:
        async for _ in ws:
            with pytest.raises(RuntimeError, match=IS_OVER):
                ws.request  # noqa: B018
            seen.append("over")

    more = {"upgrade": upgrade} if upgrade else {}
    server = serve(
        lambda app: app.ws("/chat/:room", reads, **more).ws("/not/:room", does_not, **more)
    )
    for path, count in (("/chat/blue?a=1", 2), ("/not/blue?a=1", 3)):
        with upgraded(server.port, path, COOKIE) as client:
            client.send(peer.frame(b"x", 1))
            peer.eventually(lambda: seen[count - 1 :])  # noqa: B023
            client.send(peer.close_frame(1000))
            assert client.frame().close_code == 1000
    assert seen == [FACTS, FACTS, "over"]
    with pytest.raises(RuntimeError, match=IS_OVER):
        server.call(lambda: sockets[0].request)


# ---- memory -------------------------------------------------------------------------------------


def per_connection(server: Any, path: str, many: int = 200) -> float:
    """Bytes that pyws takes for one idle connection, in Python."""
    tracemalloc = pytest.importorskip("tracemalloc")

    def opened() -> Any:
        return server.call(server.app.stats)["open"]

    with ExitStack() as stack:
        stack.enter_context(upgraded(server.port, path))
        server.call(gc.collect)
        tracemalloc.start()
        try:
            for _ in range(many):
                stack.enter_context(upgraded(server.port, path))
            peer.eventually(lambda: opened() == many + 1)
            server.call(gc.collect)
            taken = tracemalloc.take_snapshot()
        finally:
            tracemalloc.stop()
    peer.eventually(lambda: opened() == 0)
    mine = taken.filter_traces([tracemalloc.Filter(True, str(ROOT / "pyws" / "*"))])
    return float(sum(line.size for line in mine.statistics("filename"))) / many


def test_p1_what_a_route_does_not_ask_for_takes_no_memory(serve: Callable[..., Any]) -> None:
    """P1: parameters cost nothing, a query its own length, what open reads is not kept."""

    def reads(ws: WebSocket) -> None:
        ws.request.get_headers()
        dict(ws.parameters)
        dict(ws.query)

    async def reads_later(ws: WebSocket) -> None:
        reads(ws)
        await asyncio.sleep(0)

    async def session(ws: WebSocket) -> None:
        async for _ in ws:
            pass

    server = serve(
        lambda app: (
            app.ws("/plain/abc", open=lambda ws: None)
            .ws("/reads/:abc", open=reads)
            .ws("/upgrade/:a", open=reads, upgrade=lambda res, req, context: res.upgrade())
            .ws("/later/:abc", open=reads_later)
            .ws("/session/:a", session, upgrade=lambda res, req, context: accept(res, req, context))
            .ws("/keeps/:abc", {}, keep_request=True)
        )
    )
    plain = per_connection(server, "/plain/abc")
    assert per_connection(server, "/reads/abc") < plain + 16
    assert per_connection(server, "/reads/abc?" + 40 * "a") < plain + 41 + 16
    assert per_connection(server, "/upgrade/a?" + 40 * "a") < plain + 41 + 16
    assert per_connection(server, "/later/abc") < plain + 64  # tasks may leave a few bytes
    with_session = per_connection(server, "/session/a")
    assert per_connection(server, "/session/a?" + 40 * "a") < with_session + 41 + 64
    assert per_connection(server, "/keeps/abc") > plain + 500


def test_p1_the_setting_is_checked() -> None:
    wanted = "keep_request must be True or False, not str"
    with App() as app, pytest.raises(TypeError, match=wanted):
        app.ws("/*", keep_request="yes")  # type: ignore[arg-type]
