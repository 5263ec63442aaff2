# SPDX-License-Identifier: MIT
"""P7: mistakes of the program that uses pyws speak up, and say what to write."""

import asyncio
import functools
import gc
import logging
import subprocess
import sys
import threading
import warnings
from typing import Any, Callable, Iterator, List

import peer
import pytest
from common import ROOT
from peer import close_frame, frame, upgraded

from pyws import App, Response, WebSocket
from pyws._core import mistakes
from pyws._core.settings import Behavior
from pyws._core.values import HANDLERS

Serve = Callable[..., Any]
GET = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"


def behavior(**settings: Any) -> Behavior:
    return Behavior(settings, {})


# ---- running ------------------------------------------------------------------------------------


def test_p7_run_needs_a_place_to_listen_on() -> None:
    with App() as app:
        app.ws("/", {})
        for _ in range(2):
            with pytest.raises(RuntimeError, match=r"listens nowhere: call app\.listen\(port\)"):
                app.run()
        with pytest.raises(RuntimeError, match="listens nowhere"):
            app.run(workers=2)
        with pytest.raises(RuntimeError, match="listens nowhere"):
            asyncio.run(app.serve())
        app.listen({"host": "127.0.0.1"}).defer(app.close)
        app.run()
        with pytest.raises(RuntimeError, match="listens nowhere"):
            app.run()  # the shutdown has closed the place


def test_p7_coroutine_handlers_need_a_place_as_well() -> None:
    async def answer(res: Any, req: Any) -> None: ...

    with App() as app:
        app.get("/", answer)
        with pytest.raises(RuntimeError, match="listens nowhere"):
            app.run()


def test_p7_an_app_that_listened_and_never_ran() -> None:
    def make() -> None:
        App().listen({"host": "127.0.0.1"})

    with pytest.warns(ResourceWarning, match=r"listened on 127\.0\.0\.1:\d+ and was never run"):
        make()
        gc.collect()
    with pytest.warns(ResourceWarning, match="never run"), App() as app:
        app.listen({"host": "127.0.0.1"})


def test_p7_an_app_that_never_ran_is_warned_of_at_exit() -> None:
    program = "from pyws import App; app = App(); app.listen({'host': '127.0.0.1'})"
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-c", program],
        cwd=str(ROOT),
        stderr=subprocess.PIPE,
        text=True,
        timeout=60,
        check=True,
    )
    assert "ResourceWarning: an app listened on 127.0.0.1:" in done.stderr


def test_p7_no_warning_of_an_app_that_ran_or_never_listened() -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with App() as app:
            app.listen({"host": "127.0.0.1"})
            app.defer(app.close)
            app.run()
        with App() as app:
            app.ws("/", {})
    assert not [warning for warning in caught if "never run" in str(warning.message)]


def test_p7_run_inside_of_an_asyncio_loop() -> None:
    async def main() -> None:
        with App() as app:
            app.ws("/", message=lambda ws, message, opcode: None)
            app.listen({"host": "127.0.0.1"})
            with pytest.raises(RuntimeError, match=r"asyncio loop.*`await app\.serve\(\)`"):
                app.run()
            app.close()
            await app.serve()

    asyncio.run(main())


# ---- asyncio in plain handlers ------------------------------------------------------------------


def test_p7_plain_handlers_get_no_event_loop(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    def on_message(ws: WebSocket, message: str, opcode: Any) -> None:
        asyncio.get_event_loop().call_later(0, ws.send, "never")

    server = serve(message=on_message)
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().close_code == 1011
    assert "plain handlers run without asyncio; make a handler a coroutine function" in caplog.text


LOOPS = """
import asyncio, sys, warnings
warnings.simplefilter("ignore")
from pyws import App
app = App()
kept = asyncio.new_event_loop()
asyncio.set_event_loop(kept)
def handler():
    try:
        print("got", asyncio.get_event_loop() is kept)
    except RuntimeError as error:
        print(type(error).__name__)
    if sys.argv[1] == "kept":
        kept.call_later(0, print, "never")
    app.close()
app.listen({"host": "127.0.0.1"})
app.defer(handler)
app.run()
print("after", asyncio.get_event_loop() is kept)
kept.close()
"""


@pytest.mark.parametrize("how", ["kept", "idle"])
def test_p7_the_loop_of_before_is_back_after_run(how: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", LOOPS, how],
        cwd=str(ROOT),
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout == "RuntimeError\nafter True\n"
    warned = "an asyncio loop that never ran has 1 call waiting: plain" in done.stderr
    assert warned == (how == "kept")


def test_p7_asyncio_run_works_in_a_plain_handler(serve: Serve) -> None:
    async def answer() -> str:
        await asyncio.sleep(0)
        return "answer"

    server = serve(message=lambda ws, message, opcode: ws.send(asyncio.run(answer())))
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().payload == b"answer"


# ---- handlers at registration -------------------------------------------------------------------


async def coroutine_function(*arguments: Any) -> None: ...


def test_p7_none_where_a_handler_belongs() -> None:
    for name in HANDLERS:
        match = f"^{name} must be a function, not None.*{name}=on_{name}, not.*on_{name}\\(\\)"
        with pytest.raises(TypeError, match=match):
            behavior(**{name: None})
    with App() as app, pytest.raises(TypeError, match="^handler must be a function, not None"):
        app.get("/", None)  # type: ignore[call-overload]


def test_p7_a_call_in_place_of_a_handler() -> None:
    def generator() -> Iterator[int]:
        yield 1

    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)  # "was never awaited"
        for what, value in (("a coroutine", coroutine_function()), ("a generator", generator())):
            with pytest.raises(TypeError, match=f"^message must be a function, not {what}: give"):
                behavior(message=value)
        with App() as app, pytest.raises(TypeError, match="^handler must be a function, not a co"):
            app.get("/", coroutine_function())  # type: ignore[call-overload]
        gc.collect()


def test_p7_generators_are_no_handlers() -> None:
    def plain(*arguments: Any) -> Iterator[int]:
        yield 1

    async def later(*arguments: Any) -> Any:
        yield 1

    class WithCall:
        def __call__(self, *arguments: Any) -> Iterator[int]:
            yield 1

    for value in (plain, later, functools.partial(plain, 1), WithCall(), WithCall().__call__):
        with pytest.raises(TypeError, match=r"^message must not be a generator: .*_mistakes\.py"):
            behavior(message=value)
        with App() as app, pytest.raises(TypeError, match="^handler must not be a generator"):
            app.post("/", value)  # type: ignore[arg-type]


def test_p7_generators_are_no_other_functions_either() -> None:
    """As of libraries where the code after the `yield` runs at the end."""

    def plain(*arguments: Any) -> Iterator[int]:
        yield 1

    async def later(*arguments: Any) -> Any:
        yield 1

    with App() as app:
        calls: List[Callable[[Any], Any]] = [
            app.on_start,
            app.on_stop,
            app.on_error,
            app.set_error_handler,
            lambda function: app.listen({"host": "127.0.0.1"}, function),
        ]
        for call in calls:
            for function in (plain, later):
                with pytest.raises(TypeError, match=r"must not be a generator: .*_mistakes\.py"):
                    call(function)


def test_p7_the_number_of_arguments() -> None:
    def one(ws: Any) -> None: ...
    def keyword_only(ws: Any, *, message: Any) -> None: ...

    class Methods:
        def open(self, ws: Any) -> None: ...
        def message(self, ws: Any, message: Any) -> None: ...
        async def later(self, ws: Any) -> None: ...
        def __call__(self, ws: Any, code: int, reason: str) -> None: ...

    def forgets_self(ws: Any, message: Any, opcode: Any) -> None: ...

    class Holder:
        message = forgets_self

    good: Any = [
        ("open", one),
        ("open", Methods().open),
        ("open", Methods().later),
        ("open", lambda *arguments: None),
        ("open", lambda ws, more=1: None),
        ("open", functools.partial(keyword_only, message=1)),
        ("message", print),
        ("message", max),
        ("close", Methods()),
    ]
    for name, value in good:
        assert getattr(behavior(**{name: value}), name) is value
    bad: Any = [
        ("open", lambda: None),
        ("open", lambda ws, message: None),
        ("open", keyword_only),
        ("open", Methods.open),
        ("open", Methods()),
        ("message", one),
        ("message", Methods().message),
        ("message", Holder().message),
        ("message", functools.partial(one)),
        ("upgrade", lambda res, req: None),
        ("drain", lambda ws, amount: None),
        ("dropped", one),
        ("ping", one),
        ("pong", lambda ws, data, opcode: None),
        ("subscription", lambda ws, topic: None),
        ("close", lambda ws: None),
    ]
    for name, value in bad:
        match = f"^{name} must take . argument.*{name}\\(.*test_mistakes\\.py:\\d+"
        with pytest.raises(TypeError, match=match):
            behavior(**{name: value})


def test_p7_the_message_shows_both_lists_of_parameters() -> None:
    def on_open(ws: Any, message: Any) -> None: ...

    with pytest.raises(TypeError) as caught:
        behavior(open=on_open)
    text = str(caught.value)
    assert text.startswith("open must take 1 argument, open(ws), but the parameters of ")
    assert "on_open" in text and "(ws: Any, message: Any)" in text


def test_p7_the_number_of_arguments_of_other_handlers() -> None:
    with App() as app:
        match = r"^handler must take 2 arguments, handler\(res, req\)"
        with pytest.raises(TypeError, match=match):
            app.get("/", lambda res: None)  # type: ignore[arg-type,misc]
        with pytest.raises(TypeError, match=match):
            app.any("/", lambda res, req, context: None)  # type: ignore[arg-type,misc]
        with pytest.raises(TypeError, match=r"^handler must take 2 arguments, handler\(error, so"):
            app.on_error(lambda error: None)  # type: ignore[arg-type,misc]
        app.get("/", lambda res, req: None)


def test_p7_the_number_of_arguments_of_the_callback_of_listen() -> None:
    with App() as app:
        with pytest.raises(
            TypeError, match=r"^callback must take 1 argument, callback\(options\), but"
        ):
            app.listen({"host": "127.0.0.1"}, lambda: None)  # type: ignore[arg-type, misc]
        assert app.port == 0


def test_p7_a_decorator_may_change_the_parameters() -> None:
    def with_database(handler: Any) -> Any:
        @functools.wraps(handler)
        def wrapper(*arguments: Any) -> None:
            handler(*arguments, "database")

        return wrapper

    @with_database
    def on_open(ws: Any, database: str) -> None: ...

    assert behavior(open=on_open).open is on_open


# ---- what a handler returns ---------------------------------------------------------------------


def wrapped(handler: Any) -> Any:
    @functools.wraps(handler)
    def wrapper(*arguments: Any) -> Any:
        return handler(*arguments)

    return wrapper


@pytest.mark.parametrize("event", ["open", "message", "ping"])
@pytest.mark.parametrize("beside", ["plain", "coroutine"])
def test_p7_a_coroutine_in_a_plain_wrapper(
    serve: Serve, caplog: pytest.LogCaptureFixture, event: str, beside: str
) -> None:
    """On a route of plain handlers, and of coroutines, where events may wait."""
    failed: List[BaseException] = []

    async def hidden(*arguments: Any) -> None: ...

    async def later(*arguments: Any) -> None: ...

    def configure(app: App) -> None:
        handlers = {event: wrapped(hidden)}
        if beside == "coroutine":
            handlers["pong"] = later
        app.on_error(lambda error, source: failed.append(error)).ws("/*", handlers)  # type: ignore[arg-type]

    server = serve(configure)
    with warnings.catch_warnings():
        warnings.simplefilter("error", RuntimeWarning)
        with upgraded(server.port, more=frame(b"", 9 if event == "ping" else 1)) as client:
            while client.frame().opcode == 10:
                pass
        peer.eventually(lambda: failed)
        gc.collect()
    assert isinstance(failed[0], TypeError)
    assert f"the {event} handler of /* returned a coroutine that nothing awaits" in str(failed[0])
    assert "hidden" in str(failed[0]) and "async def" in str(failed[0])
    assert "never awaited" not in caplog.text


@pytest.mark.parametrize("event", ["upgrade", "http"])
def test_p7_a_coroutine_hidden_from_a_request(serve: Serve, event: str) -> None:
    failed: List[BaseException] = []

    def configure(app: App) -> None:
        app.on_error(lambda error, source: failed.append(error))
        app.ws("/socket", upgrade=wrapped(coroutine_function))
        app.get("/", wrapped(coroutine_function))

    with peer.Peer(serve(configure).port) as client:
        client.send(peer.handshake("/socket") if event == "upgrade" else GET)
        assert client.response().status == 500
    assert "returned a coroutine that nothing awaits" in str(failed[0])


def test_p7_the_function_that_hides_a_coroutine_is_named(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """functools.wraps gives it the name of the coroutine function, which is right already."""

    async def right(ws: Any, message: Any, opcode: Any) -> None: ...

    def make() -> Any:
        def wrong(ws: Any, message: Any, opcode: Any) -> Any:
            return right(ws, message, opcode)

        return functools.wraps(right)(wrong)

    class Wrong:
        @functools.wraps(right)
        def __call__(self, ws: Any, message: Any, opcode: Any) -> Any:
            return right(ws, message, opcode)

    names = {make(): "wrong", wrapped(make()): "wrong", functools.partial(make()): "wrong"}
    for handler, name in {**names, Wrong(): "__call__"}.items():
        caplog.clear()
        server = serve(message=handler)
        with upgraded(server.port, more=frame(b"x")) as client:
            assert client.frame().close_code == 1011
        server.stop()
        assert f"awaits: {name} ({__file__}:" in caplog.text
        assert f"{right.__qualname__} ({__file__}:" in caplog.text


@pytest.mark.parametrize("event", ["open", "message", "session", "http"])
def test_p7_a_coroutine_that_a_coroutine_handler_does_not_await(
    serve: Serve, caplog: pytest.LogCaptureFixture, event: str
) -> None:
    async def lazy(*arguments: Any) -> Any:
        return coroutine_function()

    server = serve(
        lambda app: app.get("/*", lazy) if event == "http" else app.ws("/*", {event: lazy})
    )
    with peer.Peer(server.port) as client:
        client.send(GET if event == "http" else peer.handshake("/") + frame(b"x"))
        client.response()
        peer.eventually(lambda: "nothing awaits" in caplog.text)
    assert f"returned a coroutine that nothing awaits: {lazy.__qualname__} (" in caplog.text
    assert ") must await it" in caplog.text


def test_p7_a_route_that_is_no_decorator() -> None:
    async def session(ws: WebSocket) -> None: ...

    with App() as app:
        for arguments in ({"behavior": {"idle_timeout": 5}}, {"message": print}):
            route = app.ws("/" + next(iter(arguments)), **arguments)
            with pytest.raises(TypeError, match=r"or settings as keywords, @app\.ws\(pattern, "):
                route(session)


def test_p7_a_generator_that_a_handler_returns(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(message=lambda ws, message, opcode: (ws.send(text) for text in "ab"))
    with upgraded(server.port, more=frame(b"x")) as client:
        assert client.frame().close_code == 1011
    assert "returned a generator that nothing iterates over: " in caplog.text


def test_p7_coroutines_hidden_from_calls(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    server = serve({})
    server.app.defer(lambda: coroutine_function())
    server.call(lambda: server.app.call_later(0, lambda: coroutine_function()))
    peer.eventually(lambda: caplog.text.count("that nothing awaits") == 2)
    assert "exception in a deferred function" in caplog.text
    assert "exception in a function of call_later" in caplog.text


@pytest.mark.parametrize("beside", ["plain", "coroutine"])
def test_p7_a_returned_value_is_warned_of_once(
    serve: Serve, caplog: pytest.LogCaptureFixture, beside: str
) -> None:
    def echo(ws: WebSocket, message: str, opcode: Any) -> str:
        return message.upper()

    more = {"close": coroutine_function} if beside == "coroutine" else {}
    server = serve(message=echo, ping=lambda ws, data: ws.send("pinged"), **more)
    for _ in range(2):
        with upgraded(server.port, more=frame(b"a") * 3 + frame(b"", 9)) as client:
            assert client.frame().opcode == 10
            assert client.frame().payload == b"pinged"
    records = [record for record in caplog.records if record.levelno == logging.WARNING]
    assert len(records) == 1
    text = records[0].getMessage()
    assert text.startswith("the message handler of /* returned a value of type str, which is ign")
    assert "echo" in text and text.endswith("): an answer is sent by ws.send(...)")


def test_p7_a_returned_value_of_an_http_handler(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = serve(lambda app: app.get("/", lambda res, req: "hello"))
    with peer.Peer(server.port) as client:
        client.send(GET)
        assert client.response().status == 500
    assert "the handler of / returned a value of type str" in caplog.text
    assert "): an answer is sent by res.send(...)\n" in caplog.text


def test_p7_results_of_pyws_may_be_returned(serve: Serve, caplog: pytest.LogCaptureFixture) -> None:
    """``return res.end()`` ends a handler early, and a lambda returns what it calls."""

    def answer(res: Response, req: Any) -> Any:
        return res.end("hello")

    def configure(app: App) -> None:
        app.get("/", answer)
        app.ws(
            "/socket",
            open=lambda ws: ws.subscribe("x"),
            message=lambda ws, message, opcode: ws.send(message),
            close=lambda ws, code, reason: app.publish("x", "y"),
        )

    server = serve(configure)
    with peer.Peer(server.port) as client:
        client.send(GET)
        assert client.response().body == b"hello"
    with upgraded(server.port, "/socket", more=frame(b"a") + close_frame(1000)) as client:
        assert client.frame().payload == b"a"
        assert client.frame().close_code == 1000
    assert caplog.text == ""


# ---- routes -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wrong", "right"),
    [
        ("/{room}", "/:room"),
        ("/chat/<room>/x", "/chat/:room/x"),
        ("/<int:number>", "/:number"),
        ("/{name:str}/{other}", "/:name/:other"),
        ("/<>", "/:name"),
    ],
)
def test_p7_parameters_of_other_libraries(wrong: str, right: str) -> None:
    with App() as app:
        with pytest.raises(ValueError, match=f"did you mean '{right}'"):
            app.ws(wrong, {})
        with pytest.raises(ValueError, match=f"did you mean '{right}'"):
            app.get(wrong, print)
        app.ws("/a{b", {})


@pytest.mark.parametrize("wrong", ["/room-{room}/x", "/v{version}.{minor}", "/{a}/b<c>"])
def test_p7_parameters_that_are_a_part_of_a_part(wrong: str) -> None:
    """There is nothing that means the same, and "/room-:room" would be a literal."""
    with App() as app, pytest.raises(ValueError, match="is a whole part of the path") as caught:
        app.ws(wrong, {})
    assert "did you mean" not in str(caught.value)


def test_p7_patterns_are_compared_as_paths_are_sent() -> None:
    with App() as app:
        with pytest.raises(ValueError, match=r"as they are sent.* did you mean '/caf%C3%A9/:x'"):
            app.ws("/caf\u00e9/:x", {})
        with pytest.raises(ValueError, match="as they are sent.* did you mean '/a%20b'"):
            app.ws("/a b", {})
        with pytest.raises(ValueError, match=r"no query.*did you mean '/a'"):
            app.ws("/a?room=1", {})


@pytest.mark.parametrize(
    ("value", "advice"),
    [
        ("*", "leave origins out"),
        ("https://*.example.org", "there are no patterns"),
        ("https://example.org/", "'https://example.org'"),
        ("https://example.org/chat", "'https://example.org'"),
        ("https://example.org?x", "'https://example.org'"),
        ("https://user@example.org", "'https://example.org'"),
        ("https://example.org:443", "'https://example.org'"),
        ("http://example.org:80", "'http://example.org'"),
        ("http://[::1]:80", r"'http://\[::1\]'"),
        ("wss://example.org", "'https://example.org'"),
        ("ws://localhost:3000", "'http://localhost:3000'"),
        ("example.org", "did you mean 'https://example.org'"),
        ("localhost:3000", "no scheme"),
        ("//example.org", "did you mean 'https://example.org'"),
        ("file:///", "'null'"),
        ("https://", "no host"),
        ("", "printable ASCII"),
        ("https:/example.org", "did you mean 'https://example.org'"),
        ("https:example.org", "did you mean 'https://example.org'"),
        ("http:localhost", "did you mean 'http://localhost'"),
        ("https://example.org:", "'https://example.org'"),
        ("https://example.org:0443", "'https://example.org'"),
        ("http://example.org:08000", "'http://example.org:8000'"),
        ("https://example.org:99999", "a port is a number from 0 to 65535"),
        ("https://example.org:https", "a port is a number from 0 to 65535"),
        ("http://[::1]:70000", "a port is a number from 0 to 65535"),
        ("https://b\u00fccher.example", "xn--"),
    ],
)
def test_p7_origins_that_no_browser_sends(value: str, advice: str) -> None:
    with pytest.raises(ValueError, match="^origins must hold values like .*" + advice) as caught:
        behavior(origins=["https://example.net", value])
    assert repr(value) in str(caught.value)


@pytest.mark.parametrize(
    "value",
    [
        "https://example.org",
        "http://localhost:3000",
        "http://[::1]:3000",
        "http://127.0.0.1",
        "https://example.org:80",
        "HTTPS://Example.org",
        "chrome-extension://abcdefghijklmnop",
        "tauri://localhost",
        "null",
    ],
)
def test_p7_origins_that_browsers_send(value: str) -> None:
    assert behavior(origins=[value]).origins == (value,)


def test_p7_none_among_the_origins_is_a_client_without(serve: Serve) -> None:
    def configure(app: App) -> None:
        app.ws("/both", {}, origins=[None, "https://example.org"])
        app.ws("/none", {}, origins=[None])
        app.ws("/one", {}, origins=["https://example.org"])

    server = serve(configure)
    cases = {
        ("/both", ""): 101,
        ("/both", "https://example.org"): 101,
        ("/both", "https://example.net"): 403,
        ("/none", ""): 101,
        ("/none", "https://example.org"): 403,
        ("/one", ""): 403,
        ("/one", "https://example.org"): 101,
    }
    for (path, origin), status in cases.items():
        with peer.Peer(server.port) as client:
            client.send(peer.handshake(path, [("Origin", origin)] if origin else []))
            assert client.response().status == status, (path, origin)


def test_p7_a_handler_below_ws() -> None:
    with App() as app:
        with pytest.raises(
            TypeError, match=r"must be a coroutine function, .* app\.ws\(pattern, mes"
        ):

            @app.ws("/x")  # type: ignore[type-var]
            def on_message(ws: Any, message: Any, opcode: Any) -> None: ...

        app.ws("/x", {})  # it has left nothing behind
        app.ws("/y", None)  # type: ignore[arg-type]


# ---- times --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"ping_interval": 300}, "^ping_interval 300 must be shorter than idle_timeout 120"),
        ({"ping_interval": 5, "idle_timeout": 5}, "^ping_interval 5 must be shorter"),
        ({"ping_timeout": 5, "ping_interval": 0}, "^ping_timeout 5 needs Pings"),
        ({"ping_timeout": 5, "send_pings_automatically": False}, "^ping_timeout 5 needs Pings"),
        ({"ping_timeout": 5, "idle_timeout": 0}, "^ping_timeout 5 needs Pings"),
        ({"ping_timeout": 50, "ping_interval": 80}, r"^ping_interval 80 \+ ping_timeout 50 must"),
    ],
)
def test_p7_times_of_silence_that_have_no_effect(settings: Any, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        behavior(**settings)


def test_p7_times_of_silence_that_have_one() -> None:
    behavior(ping_interval=300, idle_timeout=0)
    behavior(ping_interval=60, ping_timeout=60)
    behavior(ping_timeout=5)
    behavior(ping_interval=300, send_pings_automatically=False)
    behavior(ping_timeout=300, ping_interval=5, idle_timeout=0)


def test_p7_the_loop_guard_belongs_to_one_thread() -> None:
    found: List[Any] = []

    def other() -> None:
        loop = asyncio.new_event_loop()
        asyncio.set_event_loop(loop)
        with mistakes.no_event_loop(print):
            pass
        found.append(asyncio.get_event_loop() is loop)
        loop.close()

    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == [True]
