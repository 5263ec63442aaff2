# SPDX-License-Identifier: MIT
"""Shows every client what a command prints: python examples/py/command.py vmstat 1

A client gets the last lines first. When the command ends, all clients are closed with its status.
"""

import os
import subprocess
import sys
from collections import deque

from pyws import App, WebSocket

command = subprocess.Popen(
    sys.argv[1:] or ["vmstat", "1"], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
)
assert command.stdout
output = command.stdout.fileno()
os.set_blocking(output, False)
last_lines = deque([b""], maxlen=100)  # the last one is not finished yet


def on_output() -> None:
    data = os.read(output, 65536)
    if not data:
        app.remove_reader(output)
        command.wait()
        for ws in app.connections:
            end(ws)
        return
    *lines, rest = (last_lines.pop() + data).split(b"\n")
    for line in lines:
        app.publish("lines", line.decode(errors="replace"))
    last_lines.extend([*lines, rest])


def end(ws: WebSocket) -> None:
    ws.end(1000, f"the command has ended: {command.returncode}")


def on_open(ws: WebSocket) -> None:
    ws.subscribe("lines")
    for line in list(last_lines)[:-1]:
        ws.send(line.decode(errors="replace"))
    if command.returncode is not None:
        end(ws)


app = App()
app.ws("/", open=on_open)
app.add_reader(output, on_output)
app.listen(9001)
app.run()
if command.returncode is None:
    command.terminate()
