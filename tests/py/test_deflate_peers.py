# SPDX-License-Identifier: MIT
"""permessage-deflate (RFC 7692) against compressors of others: Chromium, and Node's ws package.

Without Node, npm or its registry the tests are skipped; with CI=true they fail instead.
"""

import base64
import json
import queue
import random
import re
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple

import pytest
from chromium import TIMEOUT, Browser, launched
from common import HTTP, WS

from pyws import App, CompressOptions, WebSocket
from pyws._native import lib

pytestmark = [
    pytest.mark.timeout(240),
    pytest.mark.skipif(
        not lib.ws_compression_available(), reason="the library was built without zlib"
    ),
]

SHARED = CompressOptions.SHARED_COMPRESSOR
DEDICATED = CompressOptions.DEDICATED_COMPRESSOR | CompressOptions.DEDICATED_DECOMPRESSOR
MODES = {
    "shared": SHARED,
    "dedicated": DEDICATED,
    "small windows": (
        CompressOptions.DEDICATED_COMPRESSOR_3KB | CompressOptions.DEDICATED_DECOMPRESSOR_1KB
    ),
    "mixed": SHARED | CompressOptions.DEDICATED_DECOMPRESSOR,
}
with_modes = pytest.mark.parametrize("mode", MODES.values(), ids=MODES)

RECORDS = [{"id": i, "name": f"user {i * 7919 % 1000}", "tags": ["a", "b"]} for i in range(2200)]
NOISE = random.Random(7692).getrandbits(8 * 20000).to_bytes(20000, "big")
MESSAGES: List[Any] = [
    "",
    "a",
    "hello",
    "hello",
    json.dumps(RECORDS),
    "Grüße, Κόσμε, 世界, \U0001f600 " * 300,
    "\U0001f600",
    b"",
    b"\0\xff",
    bytes(range(256)) * 200,
    NOISE,  # grows when compressed: sent plain in between
    "hello",
]
PLAIN = sum(len(m.encode() if isinstance(m, str) else m) for m in MESSAGES)
assert len(MESSAGES[4]) > 100000


def packed(messages: List[Any]) -> List[Dict[str, str]]:
    """Messages as JSON: texts as they are, binary ones in base64."""
    return [
        {"text": m} if isinstance(m, str) else {"binary": base64.b64encode(m).decode()}
        for m in messages
    ]


class Echo:
    """A server that echoes compressed, and what it was told of closed sockets."""

    def __init__(self, serve: Callable[..., Any], mode: int) -> None:
        # What was negotiated, code and reason.
        self.closed: queue.Queue[Tuple[Optional[str], int, str]] = queue.Queue()
        self.mode = mode
        self.port: int = serve(self._configure).port

    def _configure(self, app: App) -> None:
        app.get("/", lambda response, request: response.end("<!doctype html>"))
        app.ws(
            "/echo",
            compression=self.mode,
            max_payload_length=1 << 20,
            message=self._message,
            close=self._close,
        )

    def _message(self, ws: WebSocket, message: Any, opcode: Any) -> None:
        if message == "end":
            ws.end(4001, "as you wish")
        else:
            ws.send(message, opcode, compress=True)

    def _close(self, ws: WebSocket, code: int, reason: str) -> None:
        self.closed.put((ws.compression, code, reason))


def check_agreed(agreed: Optional[str], mode: int, asked: Dict[str, Any]) -> None:
    """That the answer keeps to what a client asked for, and to the mode."""
    assert agreed is not None
    name, *parameters = agreed.split("; ")
    assert name == "permessage-deflate"
    found = dict(item.partition("=")[::2] for item in parameters)
    for key, isolated in (
        ("server_no_context_takeover", mode & 0xFF == CompressOptions.SHARED_COMPRESSOR),
        ("client_no_context_takeover", mode & 0xF00 in (0, CompressOptions.SHARED_DECOMPRESSOR)),
    ):
        assert (key in found) == (isolated or bool(asked.get(key))), agreed
    # RFC 7692 7.1.2: the server's limit must be confirmed, the client's needs no answer.
    for key, default in (("server_max_window_bits", 15), ("client_max_window_bits", 8)):
        assert int(found.get(key, default)) <= asked.get(key, 15), agreed


# ---- Chromium -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


# Sends every message and waits for its echo, then all of them at once; what came back.
PAGE = """(async (url, messages, code) => {
    const ws = new WebSocket(url);
    ws.binaryType = 'arraybuffer';
    const from = text => Uint8Array.from(atob(text), c => c.charCodeAt(0));
    const to = data => btoa(Array.from(new Uint8Array(data), c => String.fromCharCode(c)).join(''));
    const echoes = [];
    let more = () => {}, fail;
    const lost = new Promise((_, reject) => fail = reject);
    lost.catch(() => {});
    const closed = new Promise(done => ws.onclose = event => {
        done([event.code, event.reason, event.wasClean]);
        fail(new Error(`closed: ${event.code} ${event.reason}`));
    });
    ws.onmessage = ({data}) => {
        echoes.push(typeof data === 'string' ? {text: data} : {binary: to(data)});
        more();
    };
    const reach = async count => {
        while (echoes.length < count)
            await Promise.race([lost, new Promise(done => more = done)]);
    };
    const send = m => ws.send('text' in m ? m.text : from(m.binary));
    await Promise.race([lost, new Promise(done => ws.onopen = done)]);
    for (const message of messages) {
        send(message);
        await reach(echoes.length + 1);
    }
    messages.forEach(send);
    await reach(2 * messages.length);
    if (code) ws.close(code, 'grüße'); else ws.send('end');
    return {extensions: ws.extensions, echoes, closed: await closed};
})"""


@with_modes
def test_chromium(browser: Browser, serve: Callable[..., Any], mode: int) -> None:
    """X1, X5, X8, X9, X10, X13: Chromium and the server understand each other in both ways."""
    echo = Echo(serve, mode)
    browser.open(f"{HTTP}://127.0.0.1:{echo.port}/")
    for code in (4000, 0):
        arguments = (f"{WS}://127.0.0.1:{echo.port}/echo", packed(MESSAGES), code)
        got = browser.evaluate(PAGE + f"(...{json.dumps(arguments)})")
        agreed, *closed = echo.closed.get(timeout=TIMEOUT)
        check_agreed(agreed, mode, {})
        assert got["extensions"] == agreed
        assert got["echoes"] == packed(MESSAGES * 2)
        assert closed == ([4000, "grüße"] if code else [4001, "as you wish"])
        # A Close is answered with its code alone.
        assert got["closed"] == ([4000, "", True] if code else [4001, "as you wish", True])


# ---- Node's ws ----------------------------------------------------------------------------------

CLIENT = """
const WebSocket = require('ws');
const {url, messages, code, perMessageDeflate} = JSON.parse(require('fs').readFileSync(0));
const ws = new WebSocket(url, {perMessageDeflate, maxPayload: 1 << 20});
const echoes = [];
const result = {echoes};
const send = m => ws.send('text' in m ? m.text : Buffer.from(m.binary, 'base64'));
ws.on('upgrade', response => result.extensions = response.headers['sec-websocket-extensions']);
ws.on('open', () => send(messages[0]));
ws.on('message', (data, binary) => {
    echoes.push(binary ? {binary: data.toString('base64')} : {text: data.toString()});
    if (echoes.length < messages.length) send(messages[echoes.length]);  // one by one ...
    else if (echoes.length === messages.length) messages.forEach(send);  // ... and all at once
    else if (echoes.length === 2 * messages.length) {
        result.read = ws._socket.bytesRead;
        result.written = ws._socket.bytesWritten;
        if (code) ws.close(code, 'grüße'); else ws.send('end');
    }
});
ws.on('error', error => result.error = String(error));
ws.on('close', (code, reason) => {
    result.closed = [code, reason.toString()];
    console.log(JSON.stringify(result));
});
"""


CHOICES: Dict[str, Dict[str, Any]] = {
    "takeover": {},
    "no takeover": {"serverNoContextTakeover": True, "clientNoContextTakeover": True},
    "server no takeover": {"serverNoContextTakeover": True},
    "client no takeover": {"clientNoContextTakeover": True},
    "windows": {"serverMaxWindowBits": 9, "clientMaxWindowBits": 10},
    "windows, no takeover": {
        "serverNoContextTakeover": True,
        "clientNoContextTakeover": True,
        "serverMaxWindowBits": 12,
        "clientMaxWindowBits": 9,
    },
}


@with_modes
@pytest.mark.parametrize("choice", CHOICES.values(), ids=CHOICES)
def test_node_ws(
    node: Callable[[str, Dict[str, Any]], Any],
    serve: Callable[..., Any],
    choice: Dict[str, Any],
    mode: int,
) -> None:
    """X1, X2, X3, X4, X5, X8, X9, X10, X13: Node's ws with its choices, in both ways."""
    echo = Echo(serve, mode)
    for code in (4000, 0):
        got = node(
            CLIENT,
            {
                "url": f"{WS}://127.0.0.1:{echo.port}/echo",
                "messages": packed(MESSAGES),
                "code": code,
                "perMessageDeflate": {"threshold": 0, **choice},
            },
        )
        assert "error" not in got
        agreed, *closed = echo.closed.get(timeout=TIMEOUT)
        asked = {re.sub("[A-Z]", lambda m: "_" + m[0].lower(), key): choice[key] for key in choice}
        check_agreed(agreed, mode, asked)
        assert got["extensions"] == agreed
        assert got["echoes"] == packed(MESSAGES * 2)
        assert max(got["read"], got["written"]) < PLAIN  # half of what was sent each way
        assert closed == ([4000, "grüße"] if code else [4001, "as you wish"])
        assert got["closed"] == ([4000, ""] if code else [4001, "as you wish"])
