# SPDX-License-Identifier: MIT
"""What test_hosts.py runs on each host: two workers and a broker.

    python hosts_program.py ADDRESS BROKER

Every client gets what is published. A client that sends "numbers" is told its worker and the
counters of that; anything else is published.
"""

import os
import sys

from pyws import App, OpCode, WebSocket

address, broker = sys.argv[1:]
app = App(broker=broker)


def on_open(ws: "WebSocket[None]") -> None:
    ws.subscribe("all")


def on_message(ws: "WebSocket[None]", message: "str | bytes", opcode: OpCode) -> None:
    if message == "numbers":
        ws.send({"worker": os.getpid(), **app.stats()})
    else:
        app.publish("all", message)


app.ws("/", open=on_open, message=on_message, max_backpressure=0)
app.listen(0, host=address, callback=lambda place: print(f"listening on {place}", flush=True))
app.run(workers=2)
