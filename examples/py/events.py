# SPDX-License-Identifier: MIT
"""Server-sent events beside a socket: what a client says in the chat, all pages show.

python events.py, then open http://127.0.0.1:9001/ in two windows
"""

from typing import Any, List, Set, Tuple

from pyws import App, EventStream, OpCode, Request, Response, WebSocket

PAGE = """<!doctype html><meta charset="utf-8"><title>Events</title>
<form><input autofocus></form> <ul></ul>
<script>
const [form, input, list] = document.querySelectorAll("form, input, ul");
const socket = new WebSocket(location.origin.replace("http", "ws") + "/chat");
form.onsubmit = () => { socket.send(input.value); input.value = ""; return false; };
const source = new EventSource("/events");
source.onmessage = (event) => {
    list.appendChild(document.createElement("li")).textContent = event.data;
};
</script>
"""

listeners: Set[EventStream] = set()
messages: List[Tuple[int, Any]] = []  # the last ones, with their ids
count = 0


async def listen(res: Response, req: Request) -> None:
    async with res.events(retry=1) as events:
        seen = int(events.last_id) if (events.last_id or "").isdigit() else 0
        for id, message in messages:  # what the client has missed
            if id > seen:
                events.write(message, id=str(id))
        listeners.add(events)
        try:
            await events.closed()
        finally:
            listeners.discard(events)


def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
    global count
    count += 1
    messages.append((count, message))
    del messages[:-100]
    for events in listeners:
        events.write(message, id=str(count))


app = App()
app.get("/", lambda res, req: res.send(PAGE, content_type="text/html; charset=utf-8"))
app.get("/events", listen)
app.ws("/chat", message=on_message)
app.listen(9001)
app.run()
