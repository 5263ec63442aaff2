# SPDX-License-Identifier: MIT
"""curl, Chromium and websockets talk to one server on one port at the same time (W1 to W3).

one_port_program.py holds the requests in their midst until all clients are there.
"""

import array
import hashlib
import json
import shutil
import signal
import socket
import subprocess
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Dict, Iterable, List

import pytest
from chromium import (
    TIMEOUT,
    Page,
    find_chromium,
    find_client,
    launched,
    unavailable,
)
from common import ROOT, without_sanitizer
from program import Program

pytestmark = pytest.mark.timeout(300)

SIZE = 32 * 2**20  # far more than the kernel keeps for a connection
RANGE = (1000, SIZE - 2000)  # the first byte, and the one after the last
MESSAGES = 150  # that each client of the chat sends
HALF = 100  # of the events

PAGE = """<!doctype html><meta charset="utf-8"><title>page</title><script src="page.js"></script>"""
SCRIPT = """
// What test_one_port.py waits for, and what it checks.
const progress = [], events = [], chat = [], done = {};
const errors = [];
window.onerror = error => errors.push(String(error));
window.onunhandledrejection = event => errors.push(String(event.reason));

function pattern(seed) {
  const words = new Uint32Array(SIZE / 4);
  for (let i = 0; i < words.length; i++) words[i] = Math.imul(i + seed, 2654435761);
  return new Blob([words]);
}

async function sha256(parts) {
  const digest = await crypto.subtle.digest("SHA-256", await new Blob(parts).arrayBuffer());
  return [...new Uint8Array(digest)].map(byte => byte.toString(16).padStart(2, "0")).join("");
}

function uploadWithProgress() {  // fetch does not tell the progress of an upload
  const request = new XMLHttpRequest();
  request.upload.onprogress = event => progress.push([event.loaded, event.total]);
  request.onload = () => { done.xhr = [request.status, JSON.parse(request.responseText)]; };
  request.onerror = () => errors.push("the upload failed");
  request.open("PUT", "/upload/xhr");
  request.send(pattern(1));
}

async function upload() {
  const answer = await fetch("/upload/fetch", {method: "PUT", body: pattern(2)});
  done.fetch = [answer.status, await answer.json()];
}

let received = 0, readOn;
async function download() {
  const headers = {Range: `bytes=${RANGE[0]}-${RANGE[1] - 1}`};
  const answer = await fetch("/big.bin", {headers, cache: "no-store"});
  const reader = answer.body.getReader(), parts = [];
  let part = await reader.read();
  while (!part.done) {
    if (parts.push(part.value) === 1) await new Promise(resolve => readOn = resolve);
    received += part.value.length;
    part = await reader.read();
  }
  const range = answer.headers.get("content-range");
  done.download = [answer.status, range, received, await sha256(parts)];
}

function listen() {
  const source = new EventSource("/events/page");
  source.onmessage = event => events.push([event.lastEventId, JSON.parse(event.data)]);
  source.addEventListener("end", event => {
    source.close();
    done.events = event.data;
  });
}

let socket;
function join() {
  socket = new WebSocket(`ws://${location.host}/chat`);
  socket.binaryType = "arraybuffer";
  socket.onmessage = event => chat.push(
    typeof event.data === "string" ? event.data : [...new Uint8Array(event.data)]);
  socket.onclose = event => { done.chat = [event.code, event.wasClean]; };
}

function say(messages) {
  for (const message of messages)
    socket.send(typeof message === "string" ? message : new Uint8Array(message));
}

uploadWithProgress();
upload();
download();
listen();
join();
"""


def pattern(seed: int) -> bytes:
    """What pattern() of the page has, too."""
    step, mask = 2654435761, 0xFFFFFFFF
    start = seed * step
    words = array.array("I", (n & mask for n in range(start, start + SIZE // 4 * step, step)))
    assert words.itemsize == 4
    return words.tobytes()


def digest_of(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


class Curl:
    """A curl at work, whose output waits in a pipe until someone reads it."""

    def __init__(self, stack: ExitStack, *arguments: str) -> None:
        path = shutil.which("curl") or unavailable("no curl here")
        self.process = subprocess.Popen(
            [path, "-sS", "-N", "--fail", "--max-time", "240", *arguments],
            bufsize=0,  # what the test has not asked for stays in the pipe
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=without_sanitizer(),
        )
        stack.callback(self.end)

    def end(self) -> None:
        self.process.kill()  # nothing, if it has ended
        self.process.communicate(timeout=TIMEOUT)

    def output(self) -> bytes:
        """All of it."""
        output, errors = self.process.communicate(timeout=TIMEOUT)
        assert (self.process.returncode, errors) == (0, b"")
        return output


def messages_of(who: str) -> List[Any]:
    """Text and binary messages, up to a few KiB."""
    texts = [f"{who} {number} ü " + "€" * (number * 17 % 2000) for number in range(MESSAGES)]
    return [text.encode() if number % 3 == 0 else text for number, text in enumerate(texts)]


def for_the_page(messages: Iterable[Any]) -> List[Any]:
    """Binary messages are lists of numbers there."""
    return [list(each) if isinstance(each, bytes) else each for each in messages]


def join_chat(stack: ExitStack, port: int) -> Any:
    connection = socket.create_connection(("127.0.0.1", port), TIMEOUT)
    connect = find_client().connect
    client = connect(f"ws://127.0.0.1:{port}/chat", sock=connection, open_timeout=TIMEOUT)
    return stack.enter_context(client)


def talk(client: Any, who: str) -> List[Any]:
    """Send all messages; returns what came, until all have got everything."""
    for message in messages_of(who):
        client.send(message)
    return [client.recv(timeout=TIMEOUT) for _ in range(3 * MESSAGES)]


def events_text(who: str, start: int, end: bool) -> bytes:
    text = "retry: 10\n\n"
    for number in range(start + 1, start + HALF + 1):
        text += f'id: {number}\ndata: {{"who":"{who}","number":{number}}}\n\n'
    return (text + ("event: end\ndata: no more\n\n" if end else "")).encode()


def start_curls(stack: ExitStack, url: str, file: Path) -> Dict[str, Curl]:
    def upload(who: str, *more: str) -> Curl:
        return Curl(stack, "-T", str(file), *more, f"{url}/upload/{who}")

    return {
        "length": upload("length", "-H", "Expect: 100-continue"),
        "chunks": upload("chunks", "-H", "Transfer-Encoding: chunked"),
        "download": Curl(stack, f"{url}/big.bin"),
        "events": Curl(stack, f"{url}/events/curl"),
        "numbers": Curl(stack, f"{url}/numbers/curl"),
    }


def wait_for_all(page: Page) -> Any:
    """Until all are in their midst; returns what the server says of them."""
    want = [
        *("events of curl", "events of page", "numbers of curl"),
        *(f"upload of {who}" for who in ("chunks", "fetch", "length", "xhr")),
    ]
    state = {"held": want, "sockets": 3}
    held = "fetch('/held').then(r => r.json()).then(JSON.stringify)"
    page.wait_for(held, json.dumps(state, separators=(",", ":")))
    page.wait_for("typeof readOn", "function")
    page.wait_for("progress.length > 0 && progress[0][0] < progress[0][1]", True)
    assert page.evaluate("Object.keys(done)") == []
    return state


def check_page(page: Page, contents: List[bytes], big: bytes) -> None:
    """Its uploads, its download and its events are complete."""
    page.wait_for("Object.keys(done).sort().join()", "download,events,fetch,xhr")
    done = page.evaluate("done")
    for who, content in zip(("xhr", "fetch"), contents):
        assert done[who] == [201, {"who": who, "size": SIZE, "sha256": digest_of(content)}]
    first, end = RANGE
    assert done["download"] == [
        206,
        f"bytes {first}-{end - 1}/{SIZE}",
        end - first,
        digest_of(big[first:end]),
    ]
    numbers = range(1, 2 * HALF + 1)
    assert page.evaluate("events") == [[str(n), {"who": "page", "number": n}] for n in numbers]
    assert done["events"] == "no more"
    progress = page.evaluate("progress")
    assert progress == sorted(progress)
    assert len(progress) > 1
    assert progress[-1] == [SIZE, SIZE]
    assert page.evaluate("errors") == []


def check_curls(stack: ExitStack, url: str, curls: Dict[str, Curl], sent: bytes) -> None:
    for who in ("length", "chunks"):
        want = {"who": who, "size": SIZE, "sha256": digest_of(sent)}
        assert json.loads(curls[who].output()) == want
    assert curls["numbers"].output() == b"".join(b"%d\n" % number for number in range(100_000))
    assert curls["events"].output() == events_text("curl", 0, False)
    rest = Curl(stack, "-H", f"Last-Event-ID: {HALF}", f"{url}/events/curl")
    assert rest.output() == events_text("curl", HALF, True)


def check_chat(heard: Dict[str, List[Any]]) -> None:
    """All have got the same in the same order, and each one's messages in that of its own."""
    first, *others = heard.values()
    assert all(other == first for other in others)
    for who in heard:
        beginning = f"{who} ".encode()
        own = [each for each in first if bytes_of(each).startswith(beginning)]
        assert own == for_the_page(messages_of(who))


def bytes_of(message: Any) -> bytes:
    return message.encode() if isinstance(message, str) else bytes(message)


def test_w1_w2_w3_curl_chromium_and_websockets_on_one_port_at_once(tmp_path: Path) -> None:
    find_chromium(), find_client()
    contents = [pattern(1), pattern(2)]
    big, sent = (content[::-1] for content in contents)
    site, file = tmp_path / "site", tmp_path / "file"
    site.mkdir()
    (site / "big.bin").write_bytes(big)
    (site / "page.html").write_text(PAGE)
    facts = f"const SIZE = {SIZE}, RANGE = {json.dumps(RANGE)};"
    (site / "page.js").write_text(facts + SCRIPT, encoding="utf-8")
    file.write_bytes(sent)
    with ExitStack() as stack:
        page = stack.enter_context(launched())
        program = stack.enter_context(
            Program(str(ROOT / "tests" / "py" / "one_port_program.py"), str(site), str(HALF))
        )
        port = int(program.line())
        url = f"http://127.0.0.1:{port}"
        page.open(f"{url}/page.html")
        curls = start_curls(stack, url, file)
        names = ("ann", "bob")
        clients = [join_chat(stack, port) for _ in names]

        state = wait_for_all(page)
        output = curls["download"].process.stdout
        assert output
        start = output.read(1000)
        assert all(curl.process.poll() is None for curl in curls.values())

        # Now all go on at once.
        assert json.loads(Curl(stack, "-d", "", f"{url}/go").output()) == state
        page.evaluate("readOn()")
        with ThreadPoolExecutor(3) as pool:
            rest = pool.submit(curls["download"].output)
            talks = [pool.submit(talk, *each) for each in zip(clients, names)]
            page.evaluate(f"say({json.dumps(for_the_page(messages_of('page')))})")
            check_page(page, contents, big)
            check_curls(stack, url, curls, sent)
            assert start + rest.result() == big
            heard = {who: for_the_page(each.result()) for who, each in zip(names, talks)}
        page.wait_for("chat.length", 3 * MESSAGES)
        check_chat({**heard, "page": page.evaluate("chat")})

        for client in clients:
            client.close()
            assert client.protocol.close_code == 1000
        assert program.process.poll() is None
        program.process.send_signal(signal.SIGTERM)
        page.wait_for("done.chat && done.chat.join()", "1001,true")
        assert program.wait() == 0
        assert program.rest() == program.error_text() == ""
