# SPDX-License-Identifier: MIT
# User data: `upgrade` creates an object for every connection, and later handlers get it from the
# socket. Connect with any client to ws://127.0.0.1:9001/ and watch the output.
# ruff: noqa
# fmt: off
from pyws import App, WebSocket, OpCode, CompressOptions
app = App()
ID = 0

def on_open(ws: WebSocket):
    user_data = ws.get_user_data()
    print('ws %s connected' % user_data['user_id'])
    ws.send('Hello, world!')

def on_upgrade(res, req, socket_context):
    global ID
    ID += 1
    key = req.get_header("sec-websocket-key")
    protocol = req.get_header("sec-websocket-protocol")
    extensions = req.get_header("sec-websocket-extensions")
    user_data = dict(user_id=ID)
    res.upgrade(key, protocol, extensions, socket_context, user_data)

def on_message(ws: WebSocket, msg: str, opcode: OpCode):
    user_data = ws.get_user_data()
    print('ws %s: %s' % (user_data['user_id'], msg))

def on_close(ws, code, msg):
    user_data = ws.get_user_data()
    print('ws %s closed' % user_data['user_id'])

def on_drain(ws: WebSocket):
    user_data = ws.get_user_data()
    print('ws %s backpressure: %s' % (user_data['user_id'], ws.get_buffered_amount()))

app.ws("/*", {
    "compression": CompressOptions.SHARED_COMPRESSOR,
    "max_payload_length": 16 * 1024 * 1024,
    "idle_timeout": 12,
    "open": on_open, "message": on_message, "close": on_close, "upgrade": on_upgrade, "drain": on_drain,
    "subscription": lambda ws, topic, subscriptions, subscriptions_before:
        print(f'subscription/unsubscription on topic {topic} {subscriptions} {subscriptions_before}'),
})
app.listen(9001)
app.run()
