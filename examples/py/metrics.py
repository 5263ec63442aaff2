# SPDX-License-Identifier: MIT
"""An echo server with numbers for Prometheus at http://127.0.0.1:9001/metrics.

docs/metrics.md explains the numbers. A server on the internet should not show them to everyone:
listen on a second address for them, or let a proxy refuse the path.
"""

from pyws import App, OpCode, Request, Response, WebSocket

app = App()


def on_message(ws: WebSocket, message: "str | bytes", opcode: OpCode) -> None:
    ws.send(message, opcode)


def show_metrics(res: Response, req: Request) -> None:
    content_type = "text/plain; version=0.0.4; charset=utf-8"
    res.send(app.metrics(), headers={"Content-Type": content_type})


app.ws("/*", message=on_message)
app.get("/metrics", show_metrics)
app.listen(9001)
print("listening on port 9001")
app.run()
