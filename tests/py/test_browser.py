"""The built-in page in a headless Chromium, driven through its DevTools protocol.

Without a Chromium the tests are skipped; with CI=true in the environment they fail instead.
"""

import importlib
import json
import os
import queue
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Callable, Iterator, NoReturn, Optional, Tuple

import pytest
from program import Program

from pyws import App, WebSocket
from pyws.__main__ import ECHO, show_page

pytestmark = pytest.mark.timeout(240)

TIMEOUT = 60.0  # seconds; generous, only a failing test waits that long
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
    "--no-default-browser-check",
    "--no-proxy-server",
    "--window-size=900,700",
    "--remote-debugging-port=0",
)


def unavailable(what: str) -> NoReturn:
    if os.environ.get("CI") == "true":
        pytest.fail(what)
    pytest.skip(what)


def find_chromium() -> str:
    path = next(filter(None, map(shutil.which, NAMES)), None)
    return path or unavailable("no Chromium here: " + ", ".join(NAMES))


def find_client() -> Any:
    try:
        return importlib.import_module("websockets.sync.client")
    except ImportError as error:
        unavailable(f"no client for the DevTools protocol: {error}")


class Browser:
    """A Chromium with one page, stopped by its process id."""

    def __init__(self, path: str, client: Any, folder: str) -> None:
        # The runtime of a sanitizer is for the Python processes only.
        kept = {key: value for key, value in os.environ.items() if key != "LD_PRELOAD"}
        self.stack = ExitStack()
        self.output = self.stack.enter_context(open(Path(folder, "output"), "w+"))
        self.process = subprocess.Popen(
            [path, *FLAGS, f"--user-data-dir={folder}/profile", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env={**kept, "HOME": folder},
        )
        self.calls = 0
        self.session: Optional[str] = None
        try:
            port, address = self._wait_for_port(Path(folder, "profile", "DevToolsActivePort"))
            # A ready socket: no proxy of the environment is asked.
            connection = client.connect(
                f"ws://127.0.0.1:{port}{address}",
                sock=socket.create_connection(("127.0.0.1", port), TIMEOUT),
                max_size=None,
            )
            self.connection = self.stack.enter_context(connection)
            target = self.call("Target.createTarget", url="about:blank")["targetId"]
            attached = self.call("Target.attachToTarget", targetId=target, flatten=True)
            self.session = attached["sessionId"]
            self.call("Emulation.setFocusEmulationEnabled", enabled=True)
        except BaseException:
            self.kill()
            raise

    def _wait_for_port(self, file: Path) -> Tuple[int, str]:
        """Where Chromium listens; the second line is written with the first."""
        deadline = time.monotonic() + TIMEOUT
        while not (file.exists() and len(file.read_text().split()) == 2):
            assert self.process.poll() is None, f"Chromium ended: {self._output_text()}"
            assert time.monotonic() < deadline, f"Chromium does not start: {self._output_text()}"
            time.sleep(0.05)
        port, address = file.read_text().split()
        return int(port), address

    def _output_text(self) -> str:
        self.output.seek(0)
        return self.output.read()

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a method of the DevTools protocol."""
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": parameters}
        if self.session:
            message["sessionId"] = self.session
        self.connection.send(json.dumps(message))
        deadline = time.monotonic() + TIMEOUT
        while True:  # events come between
            answer = json.loads(self.connection.recv(timeout=deadline - time.monotonic()))
            if answer.get("id") == self.calls:
                assert "error" not in answer, answer
                return answer["result"]

    def evaluate(self, expression: str) -> Any:
        """The value of a JavaScript expression."""
        answer = self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    def wait_for(self, expression: str, wanted: Any) -> None:
        """Until an expression has a value; fails after a bounded time."""
        deadline = time.monotonic() + TIMEOUT
        got = self.evaluate(expression)
        while got != wanted:
            assert time.monotonic() < deadline, f"{expression} is {got!r}, not {wanted!r}"
            time.sleep(0.05)
            got = self.evaluate(expression)

    def open(self, url: str) -> None:
        """Load a page."""
        # Nothing of the page before can be mistaken for this one.
        self.call("Page.navigate", url="about:blank")
        self.wait_for("location.href", "about:blank")
        assert "errorText" not in self.call("Page.navigate", url=url)
        self.wait_for("location.href + document.readyState", url + "complete")

    def type(self, text: str) -> None:
        """Type into the message field, which has got the focus by itself."""
        self.wait_for("document.activeElement.id", "text")
        self.call("Input.insertText", text=text)
        self.wait_for("document.activeElement.value", text)

    def enter(self, text: str) -> None:
        """Type, and press Enter."""
        self.type(text)
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key="Enter",
                code="Enter",
                text="\r" if kind == "keyDown" else "",
                windowsVirtualKeyCode=13,
            )

    def click(self, selector: str) -> None:
        """Press the left mouse button in the middle of an element."""
        middle = self.evaluate(
            f"(r => [r.x + r.width / 2, r.y + r.height / 2])"
            f"(document.querySelector({selector!r}).getBoundingClientRect())"
        )
        for kind in ("mousePressed", "mouseReleased"):
            self.call(
                "Input.dispatchMouseEvent",
                type=kind,
                x=middle[0],
                y=middle[1],
                button="left",
                clickCount=1,
            )

    def close(self) -> None:
        """Let it end by itself, or make it."""
        self.session = None
        try:
            self.call("Browser.close")
            self.process.wait(TIMEOUT)
        finally:
            self.kill()

    def kill(self) -> None:
        """End its process in any case."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait(TIMEOUT)
        self.stack.close()


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    path, client = find_chromium(), find_client()
    folder = tempfile.mkdtemp(prefix="pyws-browser-")
    try:
        chromium = Browser(path, client, folder)
        try:
            yield chromium
        finally:
            chromium.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # its helpers may still be writing


def text(selector: str) -> str:
    return f"document.querySelector({selector!r}).textContent"


STATE = "document.getElementById('echo').dataset.state"
CLASSES = "[...document.querySelectorAll('#log li')].map(item => item.className)"
TEXTS = "[...document.querySelectorAll('#log li span')].map(item => item.textContent)"
# How far the last line of the log lies below its lower edge.
BELOW = """Math.max(0, Math.round(log.lastChild.getBoundingClientRect().bottom
    - log.parentElement.getBoundingClientRect().bottom))"""


def start(port: int = 0) -> Tuple[Program, int]:
    """The command itself."""
    program = Program("-m", "pyws", "--port", str(port))
    try:
        return program, int(program.line().rsplit(":", 1)[1])
    except BaseException:
        program.__exit__()
        raise


# ---- tests --------------------------------------------------------------------------------------


def test_echo(browser: Browser) -> None:
    program, port = start()
    with program:
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait_for(STATE, "open")
        assert browser.evaluate(text("#state")) == "Connected"
        browser.enter("Grüße, <b>Welt</b>")
        browser.wait_for(text("#received"), "1")
        assert browser.evaluate(CLASSES) == ["event", "sent", "received"]
        assert browser.evaluate(TEXTS) == ["connected"] + 2 * ["Grüße, <b>Welt</b>"]
        trip = browser.evaluate(text("#trip"))
        assert trip.endswith(" ms")
        assert float(trip.split()[0]) >= 0
        assert browser.evaluate(text("#log li:last-child small")) == trip

        browser.evaluate("document.getElementById('kind').value = 'Binary'")
        browser.type("aü")
        browser.click("#send")
        browser.wait_for(text("#received"), "2")
        assert browser.evaluate(CLASSES)[3:] == ["sent binary", "received binary"]
        assert browser.evaluate(TEXTS)[3:] == 2 * ["61 c3 bc"]
        assert browser.evaluate(text("#log li:last-child small")).startswith("3 bytes, ")
        assert browser.evaluate(text("#sent")) == "2"
        assert browser.evaluate(text("#connections")) == "1"


def test_many_and_long_messages(browser: Browser) -> None:
    program, port = start()
    with program:
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait_for(STATE, "open")
        browser.evaluate(
            """for (let i = 0; i < 300; i++) {
                document.getElementById('text').value = i ? `${i}` : 'x'.repeat(100000);
                document.getElementById('composer').dispatchEvent(new Event('submit'));
            }"""
        )
        browser.wait_for(text("#received"), "300")
        assert browser.evaluate("document.querySelectorAll('#log li').length") == 500
        assert browser.evaluate(TEXTS)[-300:] == [
            f"{'x' * 2000} … and 98000 more",
            *map(str, range(1, 300)),
        ]
        assert browser.evaluate(BELOW) == 0
        browser.evaluate("log.parentElement.scrollTop = -1000")
        browser.evaluate("document.getElementById('composer').dispatchEvent(new Event('submit'))")
        browser.wait_for(text("#received"), "301")
        assert browser.evaluate(BELOW) > 900  # who has scrolled up stays there


def test_close_with_code_and_reason(browser: Browser, serve: Callable[..., Any]) -> None:
    """S7: the close handler gets the code and the reason that the page has given."""
    closed: queue.Queue[Tuple[int, str]] = queue.Queue()

    def on_close(ws: WebSocket, code: int, reason: str) -> None:
        closed.put((code, reason))

    def configure(app: App) -> None:
        app.get("/", show_page)
        app.ws("/echo", ECHO, close=on_close)

    server = serve(configure)
    browser.open(f"http://127.0.0.1:{server.port}/")
    browser.wait_for(STATE, "open")
    browser.click("#toggle")
    assert closed.get(timeout=TIMEOUT) == (3001, "closed by this page")
    browser.wait_for(STATE, "closed")
    assert browser.evaluate(text("#detail")) == "closed: 3001 closed by this page"
    assert browser.evaluate("document.getElementById('send').disabled") is True
    assert closed.empty()  # a close that was asked for is not undone ...

    browser.click("#toggle")  # ... but by the same button
    browser.wait_for(STATE, "open")
    assert browser.evaluate(text("#connections")) == "2"
    browser.click("#text")
    browser.enter("again")
    browser.wait_for(text("#received"), "1")


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (signal.SIGTERM, "closed: 1001 server shutting down"),
        (signal.SIGKILL, "closed: 1006 connection lost"),
    ],
)
def test_reconnects(browser: Browser, number: int, shown: str) -> None:
    """S43: the page comes back by itself when the server does."""
    program, port = start()
    with program:
        browser.open(f"http://127.0.0.1:{port}/")
        browser.wait_for(STATE, "open")
        browser.enter("before")
        browser.wait_for(text("#received"), "1")
        program.stop(number)
        browser.wait_for("state !== 'open'", True)
        assert browser.evaluate(TEXTS)[-1] == shown
    browser.wait_for("state", "waiting")
    assert browser.evaluate(text("#state")).startswith("Disconnected, next try in ")
    with start(port)[0]:
        browser.wait_for(STATE, "open")
        assert browser.evaluate(text("#connections")) == "2"
        browser.enter("after")
        browser.wait_for(text("#received"), "2")
        assert browser.evaluate(TEXTS) == [
            "connected",
            *2 * ["before"],
            shown,
            "connected",
            *2 * ["after"],
        ]
