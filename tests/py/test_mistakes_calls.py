# SPDX-License-Identifier: MIT
"""P7: arguments and patterns that other libraries take."""

import asyncio
import inspect
import re
import socket
from typing import Any, Callable, List

import pytest
from peer import frame, upgraded

from pyws import App, WebSocket
from pyws.testing import FakeWebSocket

Serve = Callable[..., Any]


@pytest.mark.parametrize(
    "call",
    [
        lambda app: app.run(8000),
        lambda app: app.run("127.0.0.1"),
        lambda app: app.run("127.0.0.1", 8000),
        lambda app: app.run(host="127.0.0.1", port=8000),
        lambda app: app.run(port=8000),
    ],
)
def test_p7_run_does_not_take_the_port(call: Callable[[Any], Any]) -> None:
    with App() as app:
        app.ws("/", {})
        app.listen({"host": "127.0.0.1"})
        with pytest.raises((TypeError, ValueError), match=r"app\.listen\(8000, host="):
            call(app)
        app.defer(app.close)
        app.run()


def test_p7_listen_takes_the_port_first() -> None:
    app: Any
    with App() as app:
        for call in (app.listen, lambda *where: asyncio.run(app.serve(*where))):
            with pytest.raises(TypeError, match=r"write listen\(8000, host='0\.0\.0\.0'\)"):
                call("0.0.0.0")
        with pytest.raises(TypeError, match=r"write listen\(8000, host='0\.0\.0\.0'\)"):
            app.listen("0.0.0.0", 8000)
        with pytest.raises(TypeError, match=r"write listen\(path='/run/x.sock'\)"):
            app.listen("/run/x.sock")
        for where, right in (
            ("127.0.0.1:80", "80, host='127.0.0.1'"),
            ("[::1]:443", "443, host='::1'"),
            (":9000", "9000"),
            ("::1", "8000, host='::1'"),
            ("localhost:http", "8000, host='localhost:http'"),
        ):
            with pytest.raises(TypeError, match=re.escape(f"write listen({right})")):
                app.listen(where)


def test_p7_an_unknown_host() -> None:
    with App() as app:
        with pytest.raises(socket.gaierror, match="unknown.invalid:0: unknown host") as caught:
            app.listen(host="unknown.invalid")
        assert caught.value.errno == socket.EAI_NONAME
        assert not isinstance(caught.value, FileNotFoundError)
        with pytest.raises(FileNotFoundError):
            app.listen(path="/nowhere/at/all")


def test_p7_close_with_a_code_names_end(serve: Serve) -> None:
    errors: List[str] = []

    def on_message(ws: Any, message: str, opcode: Any) -> None:
        for arguments, more in (((1000, "x"), {}), ((1000,), {}), ((), {"code": 1000})):
            with pytest.raises(TypeError, match=r"; end\(code, reason\) sends a Close") as caught:
                ws.close(*arguments, **more)
            errors.append(str(caught.value))
        ws.send("open")

    server = serve(message=on_message)
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().payload == b"open"
    assert len(errors) == 3
    assert str(inspect.signature(WebSocket.close)) == "(self) -> 'None'"


# ---- patterns -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        (r"/chat/(\d+)", "/chat/:name"),
        (r"/chat/(?P<room>\w+)/x", "/chat/:room/x"),
        (r"^/chat/([^/]+)$", "/chat/:name"),
        (r"/chat/:room(\d+)", "/chat/:room"),
        (r"/(\w+)/([a-z]+)", "/:name/:name2"),
        ("/files/.*", "/files/:name"),
        ("/(a|b)", "/:name"),
        ("/chat/:room:int", ":room"),
        ("/chat/:int:room/x", ":room"),
    ],
)
def test_p7_patterns_are_no_regular_expressions(wrong: str, right: str) -> None:
    with App() as app:
        registers: Any = (lambda: app.ws(wrong, {}), lambda: app.get(wrong, print))
        for register in registers:
            with pytest.raises(ValueError, match=f"did you mean '{right}'\\?$") as caught:
                register()
            assert str(caught.value).startswith(f"pattern {wrong!r}: ")


@pytest.mark.parametrize("wrong", [r"/chat-(\d+)", "/x(a|b)", "/:a:b", "/:a-:b", r"/a\.b"])
def test_p7_patterns_that_nothing_here_means(wrong: str) -> None:
    with App() as app, pytest.raises(ValueError, match="whole part of the path") as caught:
        app.ws(wrong, {})
    assert "did you mean" not in str(caught.value)


def test_p7_patterns_with_signs_that_paths_may_have() -> None:
    with App() as app:
        for pattern in ("/a(b)", "/a+b", "/v1/room:close", "/$x", "/a.b", "/:room/x:y", "/(a)"):
            app.ws(pattern, {})


def test_p7_a_coroutine_that_was_not_awaited_is_no_value() -> None:
    """As in ``res.send(req.json())``."""

    async def read() -> str:
        return "a"

    coroutines: Any = read(), read()
    with pytest.raises(TypeError, match=r"^message must be str, .* not a coroutine: await .*read"):
        FakeWebSocket().send(coroutines[0])
    with pytest.raises(TypeError, match=r"^max_body_size .* not a coroutine: await .*first$"):
        App(max_body_size=coroutines[1])
    for coroutine in coroutines:
        coroutine.close()


def test_p7_the_limit_of_a_body_is_none_of_a_socket() -> None:
    with App() as app, pytest.raises(TypeError, match=r"App\(\.\.\.\), or to app\.post\("):
        app.ws("/", {"max_body_size": 1})  # type: ignore[arg-type]
