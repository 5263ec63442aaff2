# SPDX-License-Identifier: MIT
"""Client with `websocket-client`, for --listen: python client_websocket_client.py URL NAME."""

import sys

import websocket  # type: ignore[import-not-found, unused-ignore]

URL, NAME = sys.argv[1].rstrip("/"), sys.argv[2]


def to(path: str) -> websocket.WebSocket:
    return websocket.create_connection(URL + path, 60, subprotocols=["chat", "superchat"])


def echo(connection: websocket.WebSocket) -> None:
    while connection.connected:
        opcode, data = connection.recv_data()
        if opcode == websocket.ABNF.OPCODE_CLOSE:
            break
        connection.send(data, opcode)


connection = to("/getCaseCount")
count = int(connection.recv())
connection.close()
for number in range(1, count + 1):
    try:
        connection = to(f"/runCase?case={number}&agent={NAME}")
    except (OSError, ValueError, websocket.WebSocketException):
        continue  # many cases expect this
    try:
        echo(connection)
    except (OSError, ValueError, websocket.WebSocketException):
        pass
    connection.shutdown()
to(f"/updateReports?agent={NAME}").close()
