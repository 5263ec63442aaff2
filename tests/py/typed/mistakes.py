# SPDX-License-Identifier: MIT
"""A program full of mistakes, for type checkers; it is never run.

A line with "mistake:" must be reported, by each checker, and no other line. Those with "unseen:"
are mistakes that types cannot find, with the reason; pyws reports them when the line runs.
"""

import asyncio
from typing import Any, Coroutine, Iterator, Union

import pyws
from pyws import (
    App,
    AppListenOptions,
    AppOptions,
    OpCode,
    Request,
    Response,
    WebSocket,
    WebSocketOptions,
)


class User:
    name = "anyone"


def on_open(ws: WebSocket) -> None: ...


def on_message(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> None: ...


def two(ws: WebSocket, message: Union[str, bytes]) -> None: ...


def swapped(ws: WebSocket, opcode: OpCode, message: Union[str, bytes]) -> None: ...


def only_text(ws: WebSocket, message: str, opcode: OpCode) -> None: ...


def answer(ws: WebSocket, message: Union[str, bytes], opcode: OpCode) -> str:
    return "pong"


def generator(ws: WebSocket) -> Iterator[int]:
    yield 1


def text_ping(ws: WebSocket, data: str) -> None: ...


def old_subscription(ws: WebSocket, now: int, before: int, topic: str) -> None: ...


def upgrade_swapped(req: Request, res: Response, socket_context: Any) -> None: ...


def close_text(ws: WebSocket, code: str, reason: str) -> None: ...


def close_alone(ws: WebSocket) -> None: ...


def page(res: Response, req: Request) -> None: ...


def page_swapped(req: Request, res: Response) -> None: ...


def page_alone(res: Response) -> None: ...


async def session(ws: WebSocket) -> None: ...


def hidden(ws: WebSocket) -> Coroutine[Any, Any, None]:
    return session(ws)


def setup() -> None: ...


app = App()

# ---- app.ws with a dict -------------------------------------------------------------------------

app.ws("/", {"mesage": on_message})  # mistake: no such key
app.ws("/", {"max_payload_length": "1 MiB"})  # mistake: a str
app.ws("/", {"idle_timeout": None})  # mistake: 0 means forever
app.ws("/", {"subprotocols": "chat"})  # mistake: a str is a list of letters
app.ws("/", {"message": two})  # mistake: a parameter is missing
app.ws("/", {"message": swapped})  # mistake: the order
app.ws("/", {"close": close_alone})  # mistake: parameters are missing
app.ws("/", {"open": on_message})  # mistake: too many parameters
app.ws("/", {"message": lambda ws, message: None})  # mistake: a parameter is missing

# ---- app.ws with keywords -----------------------------------------------------------------------

app.ws("/", mesage=on_message)  # mistake: no such keyword
app.ws("/", message=on_message, max_payload_length=1e6)  # mistake: a float
app.ws("/", message=on_message, origins="https://example.org")  # mistake: a list
app.ws("/", message=two)  # mistake: a parameter is missing
app.ws("/", message=only_text)  # mistake: BINARY arrives as bytes
app.ws("/", message=answer)  # mistake: what is returned is not sent
app.ws("/", open=generator)  # mistake: it would run nothing
app.ws("/", open=setup())  # mistake: the result of a call
app.ws("/", ping=text_ping)  # mistake: the payload is bytes
app.ws("/", subscription=old_subscription)  # mistake: the order
app.ws("/", upgrade=upgrade_swapped)  # mistake: the order
app.ws("/", close=close_text)  # mistake: the code is an int
app.ws("/", WebSocketOptions(mesage=on_message))  # mistake: no such option
app.ws("/", on_message)  # mistake: not a session
app.ws(b"/", message=on_message)  # mistake: the pattern is text


@app.ws("/", max_payload_length=1)  # mistake: a session is a coroutine function
def plain(ws: WebSocket) -> None: ...


# ---- HTTP ---------------------------------------------------------------------------------------

app.get("/", page_alone)  # mistake: a parameter is missing
app.post("/", page_swapped)  # mistake: the order
app.any("/", setup())  # mistake: the result of a call


@app.get("/")  # mistake: a parameter is missing
def decorated(res: Response) -> None: ...


def answers(res: Response, req: Request) -> None:
    req.get_header("host").lower()  # mistake: it may be missing
    res.set_cookie("a", "b", same_site="lax")  # mistake: "Lax"
    res.set_cookie("a", "b", maxAge=1)  # mistake: max_age
    res.write_status(200.0)  # mistake: an int, or text
    res.upgrade(user=User())  # mistake: user_data
    res.end(None)  # mistake: nothing to send
    req.app.lisen(8000)  # mistake: no such method
    res.app.lisen(8000)  # mistake: no such method


# ---- sockets ------------------------------------------------------------------------------------


def sockets(ws: WebSocket[User]) -> None:
    ws.get_user_data().nmae  # mistake: no such attribute  # noqa: B018
    ws.user_data = 5  # mistake: a User
    ws.send(None)  # mistake: nothing to send
    ws.send({1, 2})  # mistake: a set is no JSON
    ws.send("text", "TEXT")  # mistake: an OpCode
    ws.send("text", True)  # mistake: compress is the next one
    ws.end("bye")  # mistake: the code comes first
    ws.publish("text")  # mistake: the topic comes first
    ws.subscribe("a", "b")  # mistake: one topic at a time
    ws.close(1000)  # mistake: that is end
    ws.app.publsh("topic", "text")  # mistake: no such method
    ws.app.publish("text")  # mistake: the topic comes first
    ws.wait_closed()  # mistake: not awaited
    ws.drained()  # mistake: not awaited
    ws.parameters.get("room").upper()  # mistake: it may be missing


async def receiving(ws: WebSocket[User]) -> None:
    for message in ws:  # mistake: async for
        print(message)
    async for text in ws:
        text.encode()  # mistake: it may be bytes


# ---- the app ------------------------------------------------------------------------------------

App(max_conections=5)  # mistake: no such setting
App({"max_connections": "many"})  # mistake: an int
AppOptions(1000)  # mistake: by name
WebSocketOptions(1000)  # mistake: by name
AppListenOptions(hostname="localhost")  # mistake: host
app.listen("8000")  # mistake: an int
app.listen(8000, address="127.0.0.1")  # mistake: host
app.listen({"prot": 8000})  # mistake: port
app.call_later("1", print)  # mistake: a number
app.add_reader("0", print)  # mistake: a descriptor
app.end("t", "1000")  # mistake: a number
app.count("t") + 1  # mistake: it must be awaited
app.remove_writer(None)  # mistake: a descriptor
app.on_error(lambda error: None)  # mistake: two arguments
app.router("/x", before=[lambda res: None])  # mistake: two arguments
app.router("/x").get("/y", lambda ws, message, opcode: None)  # mistake: two arguments
app.static("/x", 5)  # mistake: a path
app.static("/x", ".", index=True)  # mistake: a name
app.on_not_found(lambda res: None)  # mistake: two arguments
app.on_start(lambda app: None)  # mistake: no arguments
app.publish("topic", object())  # mistake: no message
print(pyws.sendfile)  # mistake: there is no such name
app.run("0.0.0.0")  # mistake: listen says where
asyncio.run(app.serve("8000"))  # mistake: an int
asyncio.run(app.serve(8000, address="127.0.0.1"))  # mistake: host
app.serving(prot=8000)  # mistake: port

# ---- what types cannot find ---------------------------------------------------------------------

app.run(8000)  # unseen: a range
app.ws("/{room}", message=on_message)  # unseen: a pattern is any str
app.ws("/", message=on_message, idle_timeout=-1)  # unseen: a range
app.ws("/", message=on_message, max_payload_length=True)  # unseen: a bool is an int
app.ws("/", message=on_message, origins=["example.org"])  # unseen: an origin is any str
app.ws("/", open=hidden)  # unseen: "async def" has the same type
app.ws("/", max_payload_length=1)  # unseen: it may be a decorator of something
app.get("/")  # unseen: likewise
