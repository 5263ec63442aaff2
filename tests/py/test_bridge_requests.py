# SPDX-License-Identifier: MIT
"""Requests through the bridge (csrc/bridge_http.c): what it calls, references, contexts, errors.

What handlers and responses do is the subject of the tests of HTTP, which run with the bridge and
without it (PYWS_BRIDGE=ctypes). Most of this must hold without it, too."""

import contextvars
import gc
import inspect
import logging
import platform
import signal
import sys
import threading
import weakref
from typing import Any, Callable, List

import peer
import pytest
from bridge_programs import python

from pyws import App, Request, Response, _native
from pyws._core import bridge

ONLY_BRIDGE = pytest.mark.skipif(not _native.lib.bridge, reason="runs without the bridge")
ONLY_CPYTHON = pytest.mark.skipif(
    platform.python_implementation() != "CPython", reason="elsewhere objects go later"
)

Serve = Callable[..., Any]


def ask(port: int, target: str = "/", number: int = 1) -> List[peer.Response]:
    """The answers to so many requests, on one connection."""
    with peer.Peer(port) as client:
        answers = []
        for _ in range(number):
            client.send(f"GET {target} HTTP/1.1\r\nHost: h\r\n\r\n".encode())
            answers.append(client.response())
        return answers


def served(serve: Serve, handler: Callable[..., Any], number: int = 1) -> List[peer.Response]:
    """The answers of a handler."""
    return ask(serve(lambda app: app.get("/", handler)).port, "/", number)


# ---- the call -----------------------------------------------------------------------------------


@ONLY_BRIDGE
def test_c_calls_the_handler_itself(serve: Serve) -> None:
    callers: List[str] = []

    def handler(res: Response, req: Request) -> None:
        frame = inspect.currentframe()
        assert frame is not None and frame.f_back is not None
        callers.append(frame.f_back.f_code.co_name)
        res.end("ok")

    served(serve, handler)
    assert callers[0] not in ("run_in", "serve")


@ONLY_BRIDGE
def test_end_has_the_signature_and_the_words_of_the_method_in_python() -> None:
    assert inspect.isfunction(Response.end)
    assert str(inspect.signature(Response.end)).startswith("(self, body")
    assert "Answer with `body`" in (Response.end.__doc__ or "")
    method: Any = vars(type.mro(Response)[0])["end"]
    assert method is Response.end
    with pytest.raises(TypeError):
        Response.__new__(Response).end("x")  # belongs to no request
    with pytest.raises(TypeError):
        Response.__new__(Response)._respond(b"x")


@ONLY_BRIDGE
def test_other_slots_mean_ctypes() -> None:
    """C knows where the slots of the classes are; that is looked up before it is relied on."""
    assert bridge.can_make(Request, Response)

    class Other(bridge.RequestHandle):
        __slots__ = ("_another", "_body", "_known", "_preserved", "_runtime", "_user_data")

    assert not bridge.can_make(Other, Response)


ENDS = {
    "text": lambda res: res.end("text é"),
    "bytes": lambda res: res.end(b"text \xc3\xa9"),
    "bytearray": lambda res: res.end(bytearray("text é".encode())),
    "named": lambda res: res.end(body="text é"),
    "subclass": lambda res: res.end(type("Text", (str,), {})("text é")),
    "in two arguments": lambda res: res.end("text é", False),
    "with a status": lambda res: res.write_status(200).end("text é"),
    "with a phrase": lambda res: res.write_status("200 Fine").end("text é"),
    "with a field": lambda res: res.write_header("X-A", "b").end("text é"),
    "in parts": lambda res: (res.write("text "), res.end("é")),
    "corked": lambda res: res.cork_end("text é"),
    "a length": lambda res: res.content_length(7).end("text é"),
}


@pytest.mark.parametrize("end", ENDS.values(), ids=ENDS)
def test_every_way_to_end(serve: Serve, end: Callable[[Response], Any]) -> None:
    def handler(res: Response, req: Request) -> None:
        end(res)
        assert res.has_responded and not res.aborted
        with pytest.raises(RuntimeError, match="answered already"):
            res.end("again")

    with peer.Peer(serve(lambda app: app.get("/", handler)).port) as client:
        for _ in range(3):
            client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
            while b"\xc3\xa9" not in client.buffer:
                assert client.fill()
            assert client.buffer.startswith(b"HTTP/1.1 200 ")
            assert b"text " in client.buffer
            client.buffer = b""


def test_end_returns_the_response(serve: Serve) -> None:
    assert served(serve, lambda res, req: res.end("x"), 3)[2].body == b"x"
    seen: List[bool] = []
    served(serve, lambda res, req: seen.append(res.end("x") is res))
    assert seen == [True]


WRONG = {
    "a type": (lambda res: res.end(object()), TypeError),
    "no UTF-8": (lambda res: res.end("\ud800"), ValueError),
    "a name": (lambda res: res.end(text="x"), TypeError),
    "two bodies": (lambda res: res.end("x", body="x"), TypeError),
    "too many": (lambda res: res.end("x", True, 1), TypeError),
    "very many": (lambda res: res.end(*"0123456789"), TypeError),
    "a flag": (lambda res: res.end("x", 2), TypeError),
}


@pytest.mark.parametrize(("end", "error"), WRONG.values(), ids=WRONG)
def test_a_wrong_end_changes_nothing(serve: Serve, end: Any, error: Any) -> None:
    def handler(res: Response, req: Request) -> None:
        with pytest.raises(error):
            end(res)
        assert not res.has_responded
        res.end("right")

    assert [answer.body for answer in served(serve, handler, 2)] == [b"right"] * 2


def test_end_in_another_thread_is_refused(serve: Serve) -> None:
    errors: List[str] = []

    def end(res: Response) -> None:
        try:
            res.end("x")
        except RuntimeError as error:
            errors.append(str(error))

    def handler(res: Response, req: Request) -> None:
        thread = threading.Thread(target=end, args=(res,))
        thread.start()
        thread.join()
        res.end("mine")

    assert served(serve, handler)[0].body == b"mine"
    assert "belongs to the thread of app.run()" in errors[0]


def test_head_and_statuses_without_content(serve: Serve) -> None:
    def configure(app: App) -> None:
        app.any("/", lambda res, req: res.end("content"))
        app.get("/empty", lambda res, req: res.write_status(204).end("content"))

    with peer.Peer(serve(configure).port) as client:
        client.send(b"HEAD / HTTP/1.1\r\nHost: h\r\n\r\nGET /empty HTTP/1.1\r\nHost: h\r\n\r\n")
        while client.buffer.count(b"\r\n\r\n") < 2:
            assert client.fill()
        assert b"Content-Length: 7\r\n" in client.buffer
        assert client.buffer.endswith(b"\r\n\r\n") and b"content\r\n" not in client.buffer
        assert b"HTTP/1.1 204 " in client.buffer


def test_a_status_with_a_phrase_and_fields(serve: Serve) -> None:
    def handler(res: Response, req: Request) -> None:
        headers = {"X-A": "é", "X-B": "b"}
        res.write_header("x-first", 1)
        res.send({"a": [1]}, "299 Any phrase", headers, end_connection=True)

    with peer.Peer(serve(lambda app: app.get("/", handler)).port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        while client.fill():
            pass
        head, body = client.buffer.split(b"\r\n\r\n")
        first, *lines = head.split(b"\r\n")
        assert first == b"HTTP/1.1 299 Any phrase"
        assert lines[1:] == [
            b"Content-Length: 9",
            b"Connection: close",
            b"x-first: 1",
            b"X-A: \xc3\xa9",
            b"X-B: b",
            b"Content-Type: application/json",
        ]
        assert body == b'{"a":[1]}'


def test_a_wrong_send_changes_nothing(serve: Serve) -> None:
    wrong: List[Any] = [
        ("x", 99, None, False),
        ("x", 404, {"Date": "now"}, False),
        ("x", 404, "X-A: b", False),
        ("x", 404, {"X-A": "b"}, 2),
    ]

    def handler(res: Response, req: Request) -> None:
        for body, status, headers, last in wrong:
            with pytest.raises((TypeError, ValueError)):
                res.send(body, status, headers, end_connection=last)
        res.send("right")

    (answer,) = served(serve, handler)
    assert (answer.status, answer.body) == (200, b"right")
    assert "x-a" not in answer.headers and "connection" not in answer.headers


# ---- the end of a request -----------------------------------------------------------------------


def test_a_request_that_is_over_is_safe(serve: Serve) -> None:
    kept: List[Any] = []

    def handler(res: Response, req: Request) -> None:
        kept[:] = res, req, kept[2] if len(kept) > 2 else req.preserve()
        res.end("ok")

    server = serve(lambda app: app.get("/", handler))
    ask(server.port, "/?a=b", 2)
    res, req, first = kept

    def look() -> None:
        assert res.has_responded and res.get_remote_address() == "" and res.request is req
        with pytest.raises(RuntimeError, match="answered already"):
            res.end("late")
        with pytest.raises(RuntimeError, match="answered already"):
            res.write("late")
        with pytest.raises(RuntimeError, match="is over: call req.preserve"):
            req.get_method()
        assert first.get_query("a") == "b" and first.get_header("host") == "h"
        res.close()

    server.call(look)


@ONLY_CPYTHON
def test_nothing_is_left_of_a_request(serve: Serve) -> None:
    kept: List[Any] = []

    def handler(res: Response, req: Request) -> None:
        kept.append(weakref.ref(res))
        res.end(req.get_url())

    def count() -> int:
        gc.collect()
        return sum(isinstance(item, (Request, Response)) for item in gc.get_objects())

    before, none = count(), sys.getrefcount(None)
    gc.disable()
    try:
        served(serve, handler, 500)
        peer.eventually(lambda: not any(reference() for reference in kept))
    finally:
        gc.enable()
    assert len(kept) == 500 and count() == before
    assert abs(sys.getrefcount(None) - none) < 300


def test_each_request_has_a_context_of_its_own(serve: Serve) -> None:
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("number", default=0)
    later: List[int] = []

    def handler(res: Response, req: Request) -> None:
        variable.set(variable.get() + 1)
        res.app.defer(lambda: later.append(variable.get()))
        res.end(str(variable.get()))

    server = serve(lambda app: app.get("/", handler))
    assert [answer.body for answer in ask(server.port, "/", 3)] == [b"1"] * 3
    peer.eventually(lambda: later == [1, 1, 1])


def test_an_answer_after_the_handler(serve: Serve) -> None:
    def handler(res: Response, req: Request) -> None:
        res.on_aborted(lambda res: None)
        res.app.call_later(0.001, lambda: res.end("later"))

    answers = served(serve, handler, 3)
    assert [answer.body for answer in answers] == [b"later"] * 3


def test_a_body_that_is_read_by_a_function(serve: Serve) -> None:
    def handler(res: Response, req: Request) -> None:
        res.on_data(lambda res, chunk, last: res.end(chunk) if last else None)

    server = serve(lambda app: app.post("/", handler))
    with peer.Peer(server.port) as client:
        for _ in range(3):
            client.send(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc")
            assert client.response().body == b"abc"


# ---- errors -------------------------------------------------------------------------------------


def test_what_a_handler_raises_is_reported_and_answered(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    seen: List[Any] = []

    def handler(res: Response, req: Request) -> None:
        raise LookupError("a mistake")

    def configure(app: App) -> None:
        app.get("/", handler)
        app.on_error(lambda error, source: seen.append((error, source, sys.exc_info()[1])))

    with caplog.at_level(logging.ERROR):
        answers = ask(serve(configure).port, "/", 2)
    assert [answer.status for answer in answers] == [500, 500]
    assert [type(source) for _, source, _ in seen] == [Response, Response]
    assert all(error is current for error, _, current in seen)
    assert "a mistake" in caplog.text and "LookupError" in caplog.text


def test_a_handler_that_answers_and_then_raises(serve: Serve) -> None:
    def handler(res: Response, req: Request) -> None:
        res.end("first")
        raise LookupError

    assert [answer.body for answer in served(serve, handler, 2)] == [b"first"] * 2


@pytest.mark.parametrize("answers", [False, True])
def test_a_handler_that_returns_something_wrong(
    serve: Serve, caplog: pytest.LogCaptureFixture, answers: bool
) -> None:
    def handler(res: Response, req: Request) -> Any:
        if answers:
            res.end("x")
        return 7

    with caplog.at_level(logging.WARNING):
        (answer,) = served(serve, handler)
    assert answer.status == (200 if answers else 500)
    assert "the handler of / returned" in caplog.text


SIGNAL = """
    import signal, sys, threading, peer, pyws

    app = pyws.App()

    def handler(res, req):
        res.end("x")
        signal.raise_signal(signal.SIGUSR1)

    class Stop(BaseException):
        pass

    def stop(*args):
        raise Stop

    signal.signal(signal.SIGUSR1, stop)
    app.get("/", handler)
    ports = []
    app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))

    def work():
        with peer.Peer(ports[0]) as client:
            client.send(b"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n")
            print(client.response().body)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        app.run()
    except Stop:
        print("stopped")
    thread.join()
    """


def test_an_exception_of_a_signal_handler_ends_the_app() -> None:
    assert hasattr(signal, "SIGUSR1")
    done = python(SIGNAL)
    assert (sorted(done.stdout.splitlines()), done.stderr) == (["b'x'", "stopped"], "")


@ONLY_BRIDGE
def test_without_memory_for_the_objects_the_client_gets_a_500() -> None:
    done = python(
        """
        import threading, peer, pyws
        from pyws._core import bridge

        app = pyws.App()
        app.get("/", lambda res, req: res.end("x"))
        ports = []
        app.listen({"host": "127.0.0.1"}, lambda place: ports.append(place.port))
        own = app._runtime.bridge
        right = own.context
        own.context = object()  # of which there is no copy

        def work():
            for _ in range(2):
                with peer.Peer(ports[0]) as client:
                    client.send(b"GET / HTTP/1.1\\r\\nHost: h\\r\\n\\r\\n")
                    print(client.response().status)
                own.context = right
            app.defer(app.close)

        threading.Thread(target=work).start()
        app._runtime.set_context = lambda context: None
        app.run()
        """
    )
    assert done.stdout.split() == ["500", "200"]
    assert "TypeError" in done.stderr and "Exception ignored in" in done.stderr
