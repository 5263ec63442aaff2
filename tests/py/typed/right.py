# SPDX-License-Identifier: MIT
"""A chat with rooms, typed by its author: no type checker finds anything in it."""

import asyncio
import socket
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, List, Union

from pyws import (
    App,
    AppListenOptions,
    AppListenOptionsDict,
    AppOptions,
    CompressOptions,
    MessageHandler,
    OpCode,
    Request,
    Response,
    Router,
    SendStatus,
    WebSocket,
    WebSocketOptions,
    WebSocketOptionsDict,
)


@dataclass
class User:
    """The user data of a socket."""

    name: str
    rooms: List[str] = field(default_factory=list)


# ---- the handlers of a route whose sockets have a User ------------------------------------------


def on_upgrade(res: Response, req: Request, socket_context: Any) -> None:
    """The manual's form, where everything that the client sent may be missing."""
    key = req.get_header("sec-websocket-key")
    protocol = req.get_header("sec-websocket-protocol")
    extensions = req.get_header("sec-websocket-extensions")
    res.upgrade(key, protocol, extensions, socket_context, User("anyone"))


def on_short_upgrade(res: Response, req: Request, _: Any) -> None:
    name = req.get_query("name")
    if name is None:
        res.send({"error": "who are you?"}, 401)
        return
    res.set_cookie("name", name, {"path": "/"}, max_age=60, same_site="Lax")
    res.upgrade(user_data=User(name))


def on_open(ws: WebSocket[User]) -> None:
    user = ws.get_user_data()
    user.rooms.append("lobby")
    ws.subscribe(user.rooms[0])
    ws.user_data = User(user.name.upper())


def on_message(ws: WebSocket[User], message: Union[str, bytes], opcode: OpCode) -> None:
    if isinstance(message, bytes):
        ws.end(1003, reason="text only")
    elif ws.send({"you said": message.strip()}) == SendStatus.DROPPED:
        ws.end(1008, message="too slow")
    ws.publish("lobby", message, opcode, exclude_self=True)


async def on_later(ws: WebSocket[User], message: Union[str, bytes], opcode: OpCode) -> None:
    await asyncio.sleep(0)
    ws.send(message, opcode)


def on_subscription(ws: WebSocket[User], topic: str, now: int, before: int) -> None:
    ws.send([topic, now, before])


def on_close(ws: WebSocket[User], code: int, reason: str) -> None:
    info = ws.close_info
    if info is not None and info.sent is not None:
        print(ws.user_data.name, info.sent.code, info.sent.reason or reason)
    ws.app.publish("lobby", ws.headers["x-name"])


# ---- other routes -------------------------------------------------------------------------------


def echo(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> SendStatus:
    return ws.send(message, opcode)


def on_pong(ws: WebSocket, data: bytes) -> None:
    ws.cork(lambda ws: ws.send(data))


def page(res: Response, req: Request) -> None:
    if req.app.num_subscribers("lobby") and res.app is req.app:
        res.write_header("X-Lobby", "open")
    res.write_header("Content-Language", "en").write_header("Age", 5).end("<p>Hello")


async def later(res: Response, req: Request) -> None:
    await asyncio.sleep(0)
    res.send({"path": req.get_url()}, headers={"Cache-Control": "no-store"})


def report(error: BaseException, source: Union[WebSocket, Response, None]) -> None:
    print(error, source)


def make_app() -> App:
    """Everything is registered in every form."""
    app = App(max_connections=1000, handshake_timeout=2.5)
    app.ws(
        "/rooms/:room",
        {
            "compression": CompressOptions.SHARED_COMPRESSOR,
            "subprotocols": ["chat"],
            "origins": ["https://example.org", None],
            "upgrade": on_upgrade,
            "open": on_open,
            "message": on_message,
            "subscription": on_subscription,
            "close": on_close,
        },
    )
    app.ws("/later", upgrade=on_short_upgrade, message=on_later, idle_timeout=10)
    app.ws("/echo", WebSocketOptions(message=echo, pong=on_pong), max_lifetime=60)
    app.ws("/lambda", message=lambda ws, message, opcode: ws.send(message, opcode))
    app.ws("/lambda/dict", {"open": lambda ws: ws.send("hello"), "close": lambda *args: None})

    settings: WebSocketOptionsDict = {"max_payload_length": 1024 * 1024}
    handler: MessageHandler = echo
    app.ws("/settings", settings, message=handler).get("/", page).post("/", later)

    @app.ws("/session", max_payload_length=1024)
    async def session(ws: WebSocket[User]) -> None:
        first: Union[str, bytes] = await ws.recv()
        ws.send(first)
        people: int = await app.count("room")
        ended: int = app.end("room", 4000, "closed") + app.end(b"room")
        print(people + ended)
        async for message in ws:
            if ws.send(message) == SendStatus.BACKPRESSURE and not await ws.drained():
                return

    app.ws("/session/again", session, idle_timeout=10)

    @app.get("/decorated")
    def decorated(res: Response, req: Request) -> None:
        res.redirect("/")

    decorated_again = app.any("/any")(decorated)
    assert decorated_again is decorated
    app.on_error(report).set_error_handler(lambda error, res, req: print(error))
    app.on_start(lambda: print("started"))
    add_routes(app)
    add_pages(app)
    return app


def check_user(res: Response, req: Request) -> None:
    req.user_data = User("Ann")


async def check_later(res: Response, req: Request) -> None:
    await asyncio.sleep(0)
    user: User = req.user_data
    res.write_header("X-User", user.name)


def add_routes(router: Router) -> None:
    """Of a part of the site, with files, and pages for errors of the whole."""
    private = router.router("/private", before=[check_user, check_later])
    private.get("/page", page).ws("/socket", message=echo)
    more: Router = private.router("/more", before=check_user).static("/files", ".", max_age=60)

    @more.get("/file")
    async def file(res: Response, req: Request) -> None:
        res.write_status(404).send_file(b"404.html", download_name="x")


def add_pages(app: App) -> App:
    @app.on_not_found
    def not_found(res: Response, req: Request) -> None:
        res.send("nothing here")

    app.on_method_not_allowed(check_later)
    return app.static("/files", Path(__file__).parent, index=None, precompressed=False)


def listen(app: App) -> None:
    address: AppListenOptionsDict = {"host": "127.0.0.1", "port": 0}
    app.listen(address, lambda place: print(place.port))
    app.listen(0, host="127.0.0.1").listen(AppListenOptions(port=0, host="127.0.0.1"))
    timer = app.call_later(0.5, app.close, 1001, "enough")
    timer.cancel()
    app.defer(print, "running")
    with socket.socket() as other:
        app.add_reader(other, other.recv, 4096)
        app.add_writer(other.fileno(), print, "writable")
        removed: bool = app.remove_reader(other) and app.remove_writer(other.fileno())
        print(removed)
    print(AppOptions(max_memory=2**30).max_memory, app.stats()["open"])


async def serve(app: App, address: AppListenOptionsDict) -> None:
    async with app.serving(address) as same:
        print(same is app)
    async with app.serving(host="127.0.0.1"):
        pass
    await app.serve(0, host="127.0.0.1", backlog=10, signals=True)
    await app.serve(port=8000)


if __name__ == "__main__":
    with make_app() as server:
        listen(server)
        server.run()
