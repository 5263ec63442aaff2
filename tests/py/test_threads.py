# SPDX-License-Identifier: MIT
"""Which methods other threads may call, and what ``app.defer`` does for them."""

import inspect
import json
import threading
from typing import Any, Callable, Coroutine, Dict, List, Set, Tuple

import peer
import pytest
from common import TIMEOUT
from handlers import open_socket

from pyws import App, Request, Response, WebSocket

# ---- threads ------------------------------------------------------------------------------------

# What may be used in any thread, and why. All that is public and not here must raise.
ANY_THREAD: Dict[Any, Set[str]] = {
    App: {
        "defer",  # that is what it is for
        "run", "serve", "serving",  # make their thread the owner
        "app_options", "port", "url",  # plain attributes
    },
    # Plain attributes: nothing of C is asked.
    WebSocket: {
        "id", "path", "subprotocol", "compression", "closed", "close_info",
        "parameters", "query", "app",
    },
}  # fmt: skip


class Nothing(Coroutine[Any, Any, None]):
    """A coroutine that may be closed any number of times."""

    def send(self, value: Any) -> Any:
        raise StopIteration

    def throw(self, *error: Any) -> Any:
        raise StopIteration

    def close(self) -> None:
        pass

    def __await__(self) -> Any:
        return iter(())


class NoConnection:
    """What `App.adopt` takes for a socket."""

    def fileno(self) -> int:
        return 0

    def detach(self) -> int:
        return 0


ARGUMENTS: Dict[str, Tuple[Any, ...]] = {
    "adopt": (NoConnection(),),
    "add_reader": (0, print),
    "add_writer": (0, print),
    "any": ("/x", print),
    "call_later": (1, print),
    "cork": (print,),
    "count": ("x",),
    "cork_send": ("x",),
    "create_task": (Nothing(),),
    "delete": ("/x", print),
    "find": (1,),
    "for_each_topic": (print,),
    "get": ("/x", print),
    "head": ("/x", print),
    "is_subscribed": ("x",),
    "json_serializer": (json,),
    "listen": (0,),
    "num_subscribers": ("x",),
    "on_broker": (print,),
    "on_method_not_allowed": (print,),
    "on_not_found": (print,),
    "on_error": (print,),
    "on_start": (print,),
    "on_stop": (print,),
    "set_error_handler": (print,),
    "options": ("/x", print),
    "patch": ("/x", print),
    "post": ("/x", print),
    "publish": ("x", "y"),
    "put": ("/x", print),
    "remove_reader": (0,),
    "remove_writer": (0,),
    "router": ("/x",),
    "send": ("x",),
    "send_first_fragment": ("x",),
    "send_json": ("x",),
    "send_fragment": ("x",),
    "static": ("/x", "."),
    "subscribe": ("x",),
    "unsubscribe": ("x",),
    "ws": ("/x", {}),
}


OF_APP: Dict[str, Tuple[Any, ...]] = {"end": ("x",)}  # the same for an App, if it differs

# What is refused even in the right thread, and why.
REFUSED = {
    "create_task": "there is no asyncio loop",
    "recv": "only a session receives",
    "send_fragment": "order",
    "send_last_fragment": "order",
}


def public_names(cls: type, instance: Any) -> List[str]:
    names = {name for name in dir(cls) if not name.startswith("_") and hasattr(cls, name)}
    names |= {name for name in getattr(instance, "__dict__", {}) if not name.startswith("_")}
    return sorted(names - ANY_THREAD[cls])


def use(instance: Any, name: str) -> Any:
    """Call the method, or read the property."""
    if not inspect.isroutine(getattr(type(instance), name)):
        return getattr(instance, name)
    arguments = ARGUMENTS.get(name, ())
    if isinstance(instance, App):
        arguments = OF_APP.get(name, arguments)
    result = getattr(instance, name)(*arguments)
    if inspect.iscoroutine(result):
        result.close()  # it was not refused: nothing more is asked
    return result


@pytest.mark.parametrize("ended", [False, True])
def test_t74_every_method_refuses_other_threads(serve: Callable[..., Any], ended: bool) -> None:
    server, ws, client = open_socket(serve)
    with client:
        if ended:
            server.call(ws.end)
        for instance in (server.app, ws):
            names = public_names(type(instance), instance)
            assert len(names) > 15
            for name in names:
                with pytest.raises(RuntimeError, match=r"app\.defer\(fn, \*args\)"):
                    print(name, use(instance, name))
            for name in ANY_THREAD[type(instance)] - {"defer", "run", "serve", "serving"}:
                getattr(instance, name)
        with pytest.raises(RuntimeError, match=r"app\.defer\(fn, \*args\)"):
            ws.user_data = 5
        assert server.call(server.app.stats)["open"] == (not ended)
        assert not ended or server.call(ws.get_topics) == []


def test_t74_every_method_works_in_the_right_thread(serve: Callable[..., Any]) -> None:
    """The arguments of the test above are none that are refused anyway."""
    server, ws, client = open_socket(serve, keep_request=True)
    with client:
        for name in public_names(WebSocket, ws):
            try:
                server.call(use, ws, name)
            except RuntimeError as error:
                assert REFUSED[name] in str(error), name


def test_t74_requests_refuse_other_threads(serve: Callable[..., Any]) -> None:
    kept: List[Tuple[Response, Request]] = []

    def handler(res: Response, req: Request) -> None:
        res.on_aborted(print)
        kept.append((res, req))

    server = serve(lambda app: app.get("/", handler))
    with peer.Peer(server.port) as client:
        client.send(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        peer.eventually(lambda: kept)
        res, req = kept[0]
        calls: List[Callable[[], Any]] = [
            res.end, res.close, res.get_remote_address, req.get_url, req.get_headers, req.preserve,
            lambda: res.send("x"), lambda: res.write_status(200), lambda: res.redirect("/"),
            lambda: res.write_header("a", "b"), lambda: res.set_cookie("a", "b"),
            lambda: res.cork(print), lambda: res.on_aborted(print),
        ]  # fmt: skip
        for call in calls:
            with pytest.raises(RuntimeError, match="defer"):
                call()
        server.call(res.end, "fine")
        assert client.response().body == b"fine"


def test_t74_defer_from_4_threads_with_churn(serve: Callable[..., Any]) -> None:
    """Sends and publishes in order for each thread, none lost, while clients come and go."""
    rounds = 300
    sockets: List[WebSocket] = []

    def on_open(ws: WebSocket) -> None:
        ws.subscribe("news")
        if ws.path == "/stays":
            sockets.append(ws)

    server = serve(open=on_open, max_backpressure=0)
    stop = threading.Event()

    def churn() -> None:
        while not stop.is_set():
            with peer.upgraded(server.port) as client:
                client.send(peer.frame(b"x") + peer.close_frame(1000))

    def work(number: int) -> None:
        for i in range(rounds):
            if i % 2:
                server.app.defer(sockets[0].send, f"{number} {i}")
            else:
                server.app.defer(server.app.publish, "news", f"{number} {i}")

    with peer.upgraded(server.port, "/stays") as client:
        peer.eventually(lambda: sockets)
        churner = threading.Thread(target=churn)
        churner.start()
        threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
        for thread in threads:
            thread.start()
        seen: List[List[int]] = [[], [], [], []]
        for _ in range(4 * rounds):
            number, i = client.frame().payload.split()
            seen[int(number)].append(int(i))
        for thread in threads:
            thread.join(TIMEOUT)
        stop.set()
        churner.join(TIMEOUT)
    assert seen == [list(range(rounds))] * 4
