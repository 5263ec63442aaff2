"""A headless Chromium, driven through its DevTools protocol; every wait is bounded.

Without a Chromium the tests are skipped; with CI=true in the environment they fail instead.
"""

import importlib
import json
import os
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Iterator, NoReturn, Optional, Tuple

import pytest

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
        """The value of a JavaScript expression, or of what it promises."""
        answer = self.call(
            "Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True
        )
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


@contextmanager
def launched() -> Iterator[Browser]:
    """A Browser with a profile of its own, gone at the end."""
    path, client = find_chromium(), find_client()
    folder = tempfile.mkdtemp(prefix="pyws-browser-")
    try:
        browser = Browser(path, client, folder)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # its helpers may still be writing
