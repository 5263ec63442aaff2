"""The built-in page in a headless Chromium."""

import queue
import signal
from typing import Any, Callable, Iterator, Tuple

import pytest
from chromium import TIMEOUT, Browser, launched
from program import Program

from pyws import App, WebSocket
from pyws.__main__ import ECHO, show_page

pytestmark = pytest.mark.timeout(240)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


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
