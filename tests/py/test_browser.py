# SPDX-License-Identifier: MIT
"""The built-in page in a headless Chromium."""

import json
import queue
import signal
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Callable, Iterator, List, Tuple
from urllib.parse import quote

import pytest
from chromium import TIMEOUT, Browser, Page, launched
from common import HTTP
from peer import Peer, frame, upgraded
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


def start(port: int = 0, *more: str) -> Tuple[Program, int]:
    """The command itself."""
    program = Program("-m", "pyws", "--port", str(port), *more)
    try:
        return program, int(program.line().rsplit(":", 1)[1])
    except BaseException:
        program.__exit__()
        raise


# ---- the echo -----------------------------------------------------------------------------------


def test_echo(browser: Browser) -> None:
    program, port = start()
    with program:
        browser.open(f"http://127.0.0.1:{port}/#/echo")
        browser.wait_for(STATE, "open")
        assert browser.evaluate(text("#echo .state")) == "Connected"
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


def test_l1_over_tls(tmp_path: Path) -> None:
    """`pyws --self-signed`: the sockets of a page that came by https are wss."""
    pytest.importorskip("trustme")
    program, port = start(0, "--self-signed")
    with program, launched("--ignore-certificate-errors") as browser:
        browser.open(f"https://127.0.0.1:{port}/#/echo")
        browser.wait_for(STATE, "open")
        browser.enter("Hello")
        browser.wait_for(text("#received"), "1")
        assert browser.evaluate("location.protocol") == "https:"
        browser.screenshot(tmp_path / "over-tls.png")


def test_many_and_long_messages(browser: Browser) -> None:
    program, port = start()
    with program:
        browser.open(f"http://127.0.0.1:{port}/#/echo")
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
    browser.open(f"{HTTP}://127.0.0.1:{server.port}/#/echo")
    browser.wait_for(STATE, "open")
    browser.click("#toggle")
    assert closed.get(timeout=TIMEOUT) == (3001, "closed by this page")
    browser.wait_for(STATE, "closed")
    assert browser.evaluate(text("#echo .detail")) == "closed: 3001 closed by this page"
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
        browser.open(f"http://127.0.0.1:{port}/#/echo")
        browser.wait_for(STATE, "open")
        browser.enter("before")
        browser.wait_for(text("#received"), "1")
        program.stop(number)
        browser.wait_for("state !== 'open'", True)
        assert browser.evaluate(TEXTS)[-1] == shown
    browser.wait_for("state", "waiting")
    told = text("#echo .state")  # between two attempts
    browser.wait_for(f"{told}.startsWith('Disconnected, next try in ')", True)
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


# ---- the chat -----------------------------------------------------------------------------------

CHAT_STATE = "document.getElementById('chat').dataset.state"
# What the log shows: [class, name, text] of what was said, [class, text] of the rest.
LINES = """[...document.querySelectorAll('#chat li')].map(item => [item.className].concat(
    item.matches('.say') ? ['bdi', 'p'].map(tag => item.querySelector(tag).textContent)
        : [item.textContent]))"""
PEOPLE = text("#people")
# How many pixels of the window, of a log or of a line are cut off at its right edge.
WIDER = """Math.max(...[...document.querySelectorAll('html, .pane, .log, li, li p')].map(
    item => item.scrollWidth - item.clientWidth))"""
NO_CODE = "document.querySelectorAll('img, li script, li b, iframe').length"

HOSTILE = [
    "<img src=x onerror=\"document.title='hacked'\">",
    "</p><script>document.title='hacked'</script>",
    "&lt;b&gt; &amp; {{7*7}} ${7*7} javascript:alert(1)",
    "\U0001f600\U0001f468\u200d\U0001f469\u200d\U0001f467\U0001f1e9\U0001f1ea e\u0301 \u4e16\u754c",
    "W" * 500,
    "\u0645\u0631\u062d\u0628\u0627 \u0628\u0627\u0644\u0639\u0627\u0644\u0645, hello!",
    "\u202egnihton skcah siht",
    "Z" + "\u0335\u0310\u0343\u0321" * 100,
]


@contextmanager
def talking(browser: Browser, port: int, *people: Tuple[str, str]) -> Iterator[List[Page]]:
    """A window for each name and room, all of them connected."""
    with browser.windows(len(people)) as pages:
        for page, (name, room) in zip(pages, people):
            page.open(f"http://127.0.0.1:{port}/#/chat/{quote(room, safe='')}")
            page.enter(name, "name")
            page.wait_for(CHAT_STATE, "open")
            page.wait_for("document.activeElement.id", "words")
            page.wait_for(f"{PEOPLE} !== ''", True)
        yield pages


def wait_for_last(page: Page, *line: str) -> None:
    page.wait_for(f"{LINES}.slice(-1)[0]", list(line))


class Talker:
    """A raw client in a room, for what the page would never send."""

    def __init__(self, port: int, name: str, room: str) -> None:
        self.peer: Peer = upgraded(port, "/chat")
        self.send({"type": "join", "name": name, "room": room})

    def __enter__(self) -> "Talker":
        return self

    def __exit__(self, *error: object) -> None:
        self.peer.socket.close()

    def send(self, message: Any) -> None:
        self.peer.send(frame(json.dumps(message).encode()))


def test_chat_in_rooms(browser: Browser) -> None:
    program, port = start()
    people = [("Ann", "lobby"), ("Bob", "lobby"), ("Cid", "tea & cake/\u00e9")]
    with program, talking(browser, port, *people) as (ann, bob, cid):
        for page, count in ((ann, "2 people"), (bob, "2 people"), (cid, "1 person")):
            page.wait_for(PEOPLE, count)
        assert ann.evaluate(LINES) == [["event", "Ann joined"], ["event", "Bob joined"]]
        ann.enter("Hello, Bob", "words")
        wait_for_last(bob, "say", "Ann", "Hello, Bob")
        wait_for_last(ann, "say own", "Ann", "Hello, Bob")
        bob.enter("Hello, Ann", "words")
        wait_for_last(ann, "say", "Bob", "Hello, Ann")
        cid.enter("Anybody?", "words")
        wait_for_last(cid, "say own", "Cid", "Anybody?")
        assert cid.evaluate(LINES) == [["event", "Cid joined"], ["say own", "Cid", "Anybody?"]]
        assert ann.evaluate(LINES)[-1] == ["say", "Bob", "Hello, Ann"]

        bob.evaluate("location.hash = " + json.dumps("/chat/" + quote(people[2][1], safe="")))
        bob.wait_for(PEOPLE, "2 people")
        cid.wait_for(PEOPLE, "2 people")
        wait_for_last(cid, "event", "Bob joined")
        ann.wait_for(PEOPLE, "1 person")
        wait_for_last(ann, "event", "Bob left")
        bob.enter("Cake?", "words")
        wait_for_last(cid, "say", "Bob", "Cake?")

        bob.click("#rooms a")  # lobby, whose log is still there
        wait_for_last(bob, "event", "Bob joined")
        assert ["say own", "Bob", "Hello, Ann"] in bob.evaluate(LINES)
        ann.wait_for(PEOPLE, "2 people")
        cid.wait_for(PEOPLE, "1 person")
        assert ann.evaluate(LINES)[-1] == ["event", "Bob joined"]


def test_chat_leaving(browser: Browser) -> None:
    program, port = start()
    people = [("Ann", "lobby"), ("Bob", "lobby"), ("Cid", "lobby")]
    with program, talking(browser, port, *people) as (ann, bob, cid):
        ann.wait_for(PEOPLE, "3 people")
        bob.click("#leave")
        bob.wait_for(CHAT_STATE, "closed")
        assert bob.evaluate(text("#chat .detail")) == "closed: 1000 closed by this page"
        assert bob.evaluate(PEOPLE) == ""
        ann.wait_for(PEOPLE, "2 people")
        wait_for_last(ann, "event", "Bob left")
        cid.open("about:blank")
        ann.wait_for(PEOPLE, "1 person")
        wait_for_last(ann, "event", "Cid left")
        cid.back()
        ann.wait_for(PEOPLE, "2 people")
        cid.wait_for(f"{CHAT_STATE} + {PEOPLE}", "open2 people")
        wait_for_last(ann, "event", "Cid joined")
        cid.leave()
        ann.wait_for(PEOPLE, "1 person")

        bob.evaluate("document.getElementById('name').value = ''")
        bob.enter("Robert", "name")
        wait_for_last(ann, "event", "Robert joined")
        ann.reload()  # a reload stays in the room
        ann.wait_for(f"{CHAT_STATE} + {PEOPLE}", "open2 people")
        wait_for_last(bob, "event", "Ann joined")


def test_chat_with_the_keyboard_alone(browser: Browser) -> None:
    program, port = start()
    with program, browser.windows(1) as (page,):
        page.open(f"http://127.0.0.1:{port}/")
        page.enter("Ann", "name")
        page.enter("one", "words")
        wait_for_last(page, "say own", "Ann", "one")
        page.type("two", "words")
        page.press("Tab", 9)
        assert page.evaluate("document.activeElement.textContent") == "Send"
        page.press("Enter", 13, "\r")
        wait_for_last(page, "say own", "Ann", "two")
        page.evaluate("document.getElementById('to-echo').focus()")
        page.press("Tab", 9)
        assert page.evaluate("document.activeElement.textContent") == "lobby"
        page.press("Tab", 9)
        page.press("Enter", 13, "\r")
        page.wait_for("location.hash + document.title", "#/chat/coffeecoffee \u00b7 pyws")
        page.wait_for("document.activeElement.id", "words")
        wait_for_last(page, "event", "Ann joined")
        current = "[...document.querySelectorAll('[aria-current=page]')].map(a => a.textContent)"
        assert page.evaluate(current) == ["Chat", "coffee"]


def test_chat_shows_hostile_text_as_text(browser: Browser) -> None:
    program, port = start()
    people = [("<b>Eve</b>", "<i>&amp;"), ("Bob", "<i>&amp;")]
    with program, talking(browser, port, *people) as (eve, bob):
        bob.look(390, 844, "light")
        for words in HOSTILE:
            eve.enter(words, "words")
            wait_for_last(bob, "say", "<b>Eve</b>", words)
            wait_for_last(eve, "say own", "<b>Eve</b>", words)
            assert bob.evaluate(WIDER) <= 0
        with Talker(port, "\u202eeve\nBob:", "<i>&amp;") as raw:
            wait_for_last(bob, "event", "\u202eeve\nBob: joined")
            for number in (1, 1, 2):  # sent again after a lost connection: shown once
                raw.send({"type": "say", "id": f"id {number}", "text": f"text {number}"})
            wait_for_last(bob, "say", "\u202eeve\nBob:", "text 2")
            assert bob.evaluate(LINES)[-2][2] == "text 1"
            assert bob.evaluate(LINES)[-3][1] == "\u202eeve\nBob: joined"
        for page in (eve, bob):
            assert page.evaluate(NO_CODE) == 0
            assert page.evaluate("document.title") == "<i>&amp; \u00b7 pyws"
        bob.evaluate("say({id: 'x', text: ' '})")
        wait_for_last(bob, "event error", '"text" must be a text of 1 to 500 characters')
        assert eve.evaluate(LINES)[-1] == ["event", "\u202eeve\nBob: left"]
        html = "document.body.innerHTML"
        refused = f"(() => {{ try {{ {html} = 'x'; }} catch (error) {{ return error.name; }} }})()"
        assert bob.evaluate(refused) == "TypeError"  # by the policy


@pytest.mark.parametrize(
    ("number", "shown"),
    [
        (signal.SIGTERM, "closed: 1001 server shutting down"),
        (signal.SIGKILL, "closed: 1006 connection lost"),
    ],
)
def test_chat_reconnects(browser: Browser, number: int, shown: str) -> None:
    """S43: both windows come back to their room by themselves, and what was said meanwhile too."""
    program, port = start()
    with program, talking(browser, port, ("Ann", "den"), ("Bob", "den")) as (ann, bob):
        ann.enter("before", "words")
        wait_for_last(bob, "say", "Ann", "before")
        program.stop(number)
        for page in (ann, bob):
            page.wait_for(f"{CHAT_STATE} === 'open'", False)
            assert page.evaluate(LINES)[-1] == ["event", shown]
            assert page.evaluate(PEOPLE) == ""
        for words in ("first", "second"):
            ann.enter(words, "words")
            wait_for_last(ann, "say own waiting", "Ann", words)
        bob.type("half a", "words")
        bob.wait_for(CHAT_STATE, "waiting")
        told = text("#chat .state")  # between two attempts
        bob.wait_for(f"{told}.startsWith('Disconnected, next try in ')", True)
        with start(port)[0]:
            for page in (ann, bob):
                page.wait_for(f"{CHAT_STATE} + {PEOPLE}", "open2 people")
            bob.press("Enter", 13, "\r")
            wait_for_last(ann, "say", "Bob", "half a")
            said = [["say own", "Ann", words] for words in ("before", "first", "second")]
            assert [line for line in ann.evaluate(LINES) if "own" in line[0]] == said
            ann.enter("after", "words")
            wait_for_last(bob, "say", "Ann", "after")
            wait_for_last(ann, "say own", "Ann", "after")


@pytest.mark.parametrize("scheme", ["dark", "light"])
@pytest.mark.parametrize(("width", "height"), [(1280, 800), (390, 844)])
def test_looks(browser: Browser, tmp_path: Path, width: int, height: int, scheme: str) -> None:
    """Nothing is wider than the window; the pictures in tmp_path are for people."""
    program, port = start()

    def shoot(page: Page, name: str) -> None:
        assert page.evaluate(WIDER) <= 0
        page.screenshot(tmp_path / f"{name}-{width}-{scheme}.png")

    with program, browser.windows(1) as (fresh,):
        fresh.look(width, height, scheme)
        fresh.open(f"http://127.0.0.1:{port}/")
        shoot(fresh, "entry")
        with talking(browser, port, ("Ann", "lobby"), ("Bob", "lobby")) as (ann, bob):
            ann.look(width, height, scheme)
            bob.enter("Did the release go out?", "words")
            wait_for_last(ann, "say", "Bob", "Did the release go out?")
            ann.enter("Yes, an hour ago. Everything is green.", "words")
            wait_for_last(ann, "say own", "Ann", "Yes, an hour ago. Everything is green.")
            shoot(ann, "chat")
            for words in HOSTILE:
                bob.enter(words, "words")
            ann.enter("Nice try, Bob.", "words")
            wait_for_last(ann, "say own", "Ann", "Nice try, Bob.")
            shoot(ann, "hostile")
            ann.evaluate("location.hash = '/echo'")
            ann.wait_for(STATE, "open")
            ann.enter("Hello")
            ann.wait_for(text("#received"), "1")
            shoot(ann, "echo")
            ann.evaluate("location.hash = '/chat/' + 'w'.repeat(40)")
            ann.wait_for(PEOPLE, "1 person")
            program.stop(signal.SIGTERM)
            ann.wait_for(CHAT_STATE, "waiting")
            ann.enter("Is anybody there?", "words")
            shoot(ann, "waiting")
