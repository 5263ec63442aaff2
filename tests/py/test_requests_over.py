# SPDX-License-Identifier: MIT
"""Responses that are kept and used after C has forgotten the request: never with its address."""

from typing import Any, Callable, List

import peer
import pytest
from peer import Peer, eventually

from pyws import App, AppOptions, BadRequest, Request, Response

Serve = Callable[..., Any]

GET = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n"
MEMORY = 2_000_000
HUGE = b"x" * (15 * MEMORY)  # more than the kernel takes at once


class Wordless(BadRequest):
    """An exception that cannot be reported as usual."""

    def __str__(self) -> str:
        raise LookupError("no words")


def use(res: Response, req: Request) -> None:
    """Whatever a program may do too late."""
    for late in (
        lambda: res.end("late"),
        lambda: res.end({"late": True}),
        lambda: res.send("late", 404, {"X-A": "b"}),
        lambda: res.write("late"),
        lambda: res.try_end("late"),
        lambda: res.events(),
        lambda: res.on_data(lambda res, chunk, last: None),
    ):
        with pytest.raises(RuntimeError, match="answered"):
            late()
    with pytest.raises(RuntimeError, match="is over"):
        req.get_url()
    res.close()
    assert res.has_responded and res.get_remote_address() == ""


def forgets(*args: Any) -> None:
    """Does not answer."""


def fails(*args: Any) -> None:
    raise Wordless("wrong")


@pytest.mark.parametrize("upgrades", [False, True], ids=["plain", "handshake"])
@pytest.mark.parametrize("handler", [forgets, fails])
def test_a_response_that_the_library_has_answered(
    serve: Serve, handler: Callable[..., Any], upgrades: bool
) -> None:
    kept: List[Any] = []

    def keep(*args: Any) -> None:
        kept[:] = args[:2]
        handler()

    def configure(app: App) -> None:
        if upgrades:
            app.ws("/", upgrade=keep)
        else:
            app.get("/", keep)

    server = serve(configure)
    with Peer(server.port) as client:
        client.send(peer.handshake("/") if upgrades else GET)
        assert client.response().status == 500
    server.call(lambda: use(*kept))


def test_a_response_of_a_handler_that_has_closed_the_app(serve: Serve) -> None:
    seen: List[str] = []

    def too_late(res: Response, req: Request) -> None:
        use(res, req)
        seen.append("used")

    def handler(res: Response, req: Request) -> None:
        res.app.defer(too_late, res, req)
        res.app.close()

    with Peer(serve(lambda app: app.get("/", handler)).port) as client:
        client.send(GET)
        while client.fill():
            pass
    eventually(lambda: seen == ["used"])


# ---- without memory -----------------------------------------------------------------------------


def fields(res: Response, number: int) -> Response:
    for index in range(number):
        res.write_header(f"x-{index}", "x" * 60_000)
    return res


def check_dropped(res: Response) -> None:
    """The connection was dropped, and nothing is left to answer."""
    assert res.aborted or res.has_responded
    assert res.get_remote_address() == ""
    if res.aborted:
        res.end("nothing happens")
    else:
        with pytest.raises(RuntimeError, match="answered already"):
            res.end("too late")
    res.close()


ANSWERS = {
    "end": lambda res, number: res.end(HUGE),
    "send": lambda res, number: res.send(HUGE, 200, {"X-A": "b"}),
    "end with fields": lambda res, number: fields(res, number).end("x"),
    "write with fields": lambda res, number: (fields(res, number).write("x"), res.end()),
}


@pytest.mark.parametrize("answer", ANSWERS.values(), ids=ANSWERS)
def test_an_answer_after_the_handler_for_which_there_is_no_memory(
    serve: Serve, answer: Callable[[Response, int], Any]
) -> None:
    """The request is over with the MemoryError."""
    outcomes: List[bool] = []

    def try_it(res: Response, req: Request) -> None:
        try:
            answer(res, 1 + 2 * len(outcomes))
        except MemoryError:
            check_dropped(res)
            with pytest.raises(RuntimeError, match="is over"):
                req.get_url()
            outcomes.append(True)
        else:
            outcomes.append(False)

    def handler(res: Response, req: Request) -> None:
        res.on_aborted(lambda res: None)
        res.app.defer(try_it, res, req)

    options = AppOptions(max_memory=MEMORY)
    server = serve(lambda app: app.get("/", handler), options)
    for number in range(1, 17):  # with so many fields, memory runs out at different places
        with Peer(server.port) as client:
            client.send(GET)
            eventually(lambda: len(outcomes) == number)  # noqa: B023
    assert any(outcomes)


def test_a_coroutine_that_ends_for_want_of_memory(serve: Serve) -> None:
    """The MemoryError is reported, and nothing is left to answer."""
    reported: List[Any] = []

    async def handler(res: Response, req: Request) -> None:
        await req.body()
        res.end(HUGE)

    def configure(app: App) -> None:
        app.get("/", handler)
        app.on_error(lambda error, source: reported.append((type(error), source)))

    server = serve(configure, AppOptions(max_memory=MEMORY))
    for number in range(1, 4):
        with Peer(server.port) as client:
            client.send(GET)
            eventually(lambda: len(reported) == number)  # noqa: B023
    assert all(kind is MemoryError and res.aborted for kind, res in reported)


def test_an_upgrade_for_which_there_is_no_memory(serve: Serve) -> None:
    outcomes: List[bool] = []

    def try_it(res: Response) -> None:
        fields(res, 1 + 2 * len(outcomes))
        try:
            res.upgrade()
        except MemoryError:
            check_dropped(res)
            outcomes.append(True)
        else:
            outcomes.append(False)

    def upgrade(res: Response, req: Request, context: Any) -> None:
        res.on_aborted(lambda res: None)
        res.app.defer(try_it, res)

    server = serve(lambda app: app.ws("/", upgrade=upgrade), AppOptions(max_memory=MEMORY))
    for number in range(1, 17):
        with Peer(server.port) as client:
            client.send(peer.handshake("/"))
            eventually(lambda: len(outcomes) == number)  # noqa: B023
    assert any(outcomes) and not all(outcomes)
