# SPDX-License-Identifier: MIT
"""Chat rooms: a client of ws://127.0.0.1:9001/ROOM?name=NAME joins the room ROOM.

A text is sent to everyone in the room as {"name", "text"}. Joining and leaving is announced as
{"name", "event", "people"} with the number of people in the room. A room is a topic, so there is no
state to keep. Servers with the same --broker (redis://HOST or nats://HOST) share their rooms; the
number of people is then that of the server that announces it. With --history N the broker keeps
the last N texts and announcements of each room for an hour: clients that come back get what they
have missed, if they say what they have (docs/history.md).

GET /health is for load balancers: 200 once clients may come, with a --broker only after it has been
reached. examples/compose runs two of these servers.
"""

import argparse
from typing import Any

from pyws import App, History, OpCode, Request, Response, WebSocket

parser = argparse.ArgumentParser(description="Serve chat rooms.")
parser.add_argument("--host", default="127.0.0.1")
parser.add_argument("--port", type=int, default=9001, help="0 picks a free one")
parser.add_argument("--broker", metavar="URL", help="shares the rooms with other servers")
parser.add_argument("--drain", type=float, default=0, help="seconds to finish after SIGTERM")
parser.add_argument("--history", type=int, metavar="N", help="messages of each room to keep")
options = parser.parse_args()
if options.history and not options.broker:
    parser.error("--history needs --broker")
app = App(broker=options.broker, drain_on_signal=options.drain)
is_ready = options.broker is None


def on_upgrade(res: Response, req: Request, socket_context: Any) -> None:
    room, name = req.get_parameter("room") or "", req.get_query("name") or ""
    if not (0 < len(room) <= 32 and 0 < len(name) <= 24):
        res.send("connect to /ROOM?name=NAME, up to 32 and 24 characters\n", 400)
        return
    res.upgrade(user_data=(room, name))


def on_open(ws: WebSocket) -> None:
    room, _ = ws.user_data
    ws.subscribe(room)


def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    room, name = ws.user_data
    if opcode == OpCode.TEXT:
        ws.publish(room, {"name": name, "text": message})
    else:
        ws.send({"error": "only text goes to the room"})


def on_subscription(ws: WebSocket, room: str, people: int, before: int) -> None:
    _, name = ws.user_data
    event = "join" if people > before else "leave"
    app.publish(room, {"name": name, "event": event, "people": people})


@app.on_broker
def on_broker(up: bool) -> None:
    global is_ready
    is_ready = is_ready or up  # later, too, while the broker is away: all servers miss it then


def on_health(res: Response, req: Request) -> None:
    if is_ready:
        res.send("ok\n")
    else:
        res.send("not connected to the broker yet\n", 503)


app.get("/health", on_health)
app.ws(
    "/:room",
    upgrade=on_upgrade,
    open=on_open,
    message=on_message,
    subscription=on_subscription,
    max_payload_length=2000,
    max_backpressure=256 * 1024,  # slow readers miss messages
    history=History("*", messages=options.history) if options.history else None,
)
app.listen(
    {"host": options.host, "port": options.port},
    lambda place: print(f"listening on {place}", flush=True),
)
app.run()
