# SPDX-License-Identifier: MIT
"""A headless Chromium, driven through its DevTools protocol; every wait is bounded.

Without a Chromium the tests are skipped; with CI=true in the environment they fail instead.
"""

import base64
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
from typing import Any, Callable, Iterator, List, NoReturn, Optional, Sequence, Tuple

import pytest
from common import TLS, without_sanitizer

TIMEOUT = 60.0  # seconds; generous, only a failing test waits that long
NAMES = ("chromium", "chromium-browser", "google-chrome-stable", "google-chrome")
FLAGS = (
    "--headless=new",
    "--no-sandbox",
    *(["--ignore-certificate-errors"] if TLS else []),
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


class DevTools:
    """The protocol: calls to the browser, or to one of its pages."""

    def __init__(self, connection: Any) -> None:
        self.connection = connection
        self.calls = 0

    def call(self, method: str, session: Optional[str] = None, **parameters: Any) -> Any:
        """The result of a method."""
        self.calls += 1
        message = {"id": self.calls, "method": method, "params": parameters}
        if session:
            message["sessionId"] = session
        self.connection.send(json.dumps(message))
        deadline = time.monotonic() + TIMEOUT
        while True:  # events come between
            answer = json.loads(self.connection.recv(timeout=deadline - time.monotonic()))
            if answer.get("id") == self.calls:
                assert "error" not in answer, answer
                return answer["result"]


class Page:
    """A window with one page."""

    def __init__(self, tools: DevTools) -> None:
        self.tools = tools
        target = tools.call("Target.createTarget", url="about:blank", newWindow=True)
        self.target: Optional[str] = target["targetId"]
        attached = tools.call("Target.attachToTarget", targetId=self.target, flatten=True)
        self.session: str = attached["sessionId"]
        self.call("Emulation.setFocusEmulationEnabled", enabled=True)

    def call(self, method: str, **parameters: Any) -> Any:
        """The result of a method of the DevTools protocol."""
        return self.tools.call(method, self.session, **parameters)

    def leave(self) -> None:
        """Close the window, unless that is done."""
        target, self.target = self.target, None
        if target:
            self.tools.call("Target.closeTarget", targetId=target)

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

    def reload(self) -> None:
        """Load the page again."""
        self.evaluate("window.isOld = true")
        self.call("Page.reload")
        self.wait_for("window.isOld || document.readyState", "complete")

    def back(self) -> None:
        """Return to the last page before about:blank."""
        history = self.call("Page.getNavigationHistory")["entries"]
        entry = next(entry for entry in reversed(history) if entry["url"] != "about:blank")
        self.call("Page.navigateToHistoryEntry", entryId=entry["id"])
        self.wait_for("location.href + document.readyState", entry["url"] + "complete")

    def type(self, text: str, field: str = "text") -> None:
        """Type into a field, by its id, which has got the focus by itself."""
        self.wait_for("document.activeElement.id", field)
        self.call("Input.insertText", text=text)
        self.wait_for("document.activeElement.value", text)

    def enter(self, text: str, field: str = "text") -> None:
        """Type, and press Enter."""
        self.type(text, field)
        self.press("Enter", 13, "\r")

    def press(self, key: str, number: int, text: str = "") -> None:
        """Press a key and let it go; its number is that of Windows."""
        for kind in ("keyDown", "keyUp"):
            self.call(
                "Input.dispatchKeyEvent",
                type=kind,
                key=key,
                code=key,
                text=text if kind == "keyDown" else "",
                windowsVirtualKeyCode=number,
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

    def look(self, width: int, height: int, scheme: str) -> None:
        """Show it in a size, "dark" or "light"."""
        self.call(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=width < 600,
        )
        features = [{"name": "prefers-color-scheme", "value": scheme}]
        self.call("Emulation.setEmulatedMedia", features=features)

    def screenshot(self, path: Path) -> None:
        """Write what it shows to a PNG file."""
        path.write_bytes(base64.b64decode(self.call("Page.captureScreenshot")["data"]))


class Browser(Page):
    """A Chromium with its first page; stopped by its process id."""

    def __init__(self, path: str, client: Any, folder: str, flags: Sequence[str] = ()) -> None:
        self.stack = ExitStack()
        self.output = self.stack.enter_context(open(Path(folder, "output"), "w+"))
        self.process = subprocess.Popen(
            [path, *FLAGS, *flags, f"--user-data-dir={folder}/profile", "about:blank"],
            stdin=subprocess.DEVNULL,
            stdout=self.output,
            stderr=subprocess.STDOUT,
            env={**without_sanitizer(), "HOME": folder},
        )
        try:
            port, address = self._wait_for_port(Path(folder, "profile", "DevToolsActivePort"))
            # A ready socket: no proxy of the environment is asked.
            connection = client.connect(
                f"ws://127.0.0.1:{port}{address}",
                sock=socket.create_connection(("127.0.0.1", port), TIMEOUT),
                max_size=None,
            )
            super().__init__(DevTools(self.stack.enter_context(connection)))
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

    @contextmanager
    def windows(self, number: int) -> Iterator[List[Page]]:
        """Further windows, closed at the end."""
        pages: List[Page] = []
        try:
            for _ in range(number):
                pages.append(Page(self.tools))
            yield pages
        finally:
            for page in pages:
                page.leave()

    def close(self) -> None:
        """Let it end by itself, or make it."""
        try:
            self.tools.call("Browser.close")
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
def launched(*flags: str, prepare: Optional[Callable[[Path], None]] = None) -> Iterator[Browser]:
    """A Browser with a home and a profile of its own, gone at the end.

    Args:
        flags: More arguments of the command line.
        prepare: Called with the home before it starts; the profile is the folder `profile` in it.
    """
    path, client = find_chromium(), find_client()
    folder = tempfile.mkdtemp(prefix="pyws-browser-")
    try:
        if prepare is not None:
            prepare(Path(folder))
        browser = Browser(path, client, folder, flags)
        try:
            yield browser
        finally:
            browser.close()
    finally:
        shutil.rmtree(folder, ignore_errors=True)  # its helpers may still be writing
