# SPDX-License-Identifier: MIT
"""client.js in a headless Chromium: connections that come back, and those that do not."""

import json
from typing import Any, Callable, Iterator, List

import pytest
from chromium import Browser, launched
from common import HTTP
from peer import request

from pyws import App, AppOptions, WebSocket
from pyws.browser import client_js, client_source

pytestmark = pytest.mark.timeout(240)

# `log` has [name, values...] of everything that was called; `slow` counts the URLs asked for.
PAGE = """<!DOCTYPE html><title>page</title><script src="/client.js"></script><script>
const log = [], names = ["open", "message", "close", "state"];
let socket, asked = 0, delays = [];
function start(url, more = {}) {
  const on = {};
  for (const name of names) {
    on[name] = (...values) => {
      if (name === "close") values = [values[0].code, values[0].reason, values[1]];
      if (values[0] === "waiting") delays.push(values.pop());
      log.push([name, ...values]);
      more[name]?.();
    };
  }
  socket = connect(url, on);
}
</script>"""
STATES = "log.filter(line => line[0] === 'state').map(line => line[1]).join(' ')"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with launched() as browser:
        yield browser


@pytest.fixture
def server(serve: Callable[..., Any], browser: Browser) -> Any:
    """A server whose page is open, and which closes connections when it is asked to."""

    def on_message(ws: WebSocket, message: Any, opcode: Any) -> None:
        wish = json.loads(message)
        if wish == "drop":
            ws.close()
        elif isinstance(wish, list):
            ws.end(*wish)
        else:
            ws.send({"path": ws.path, "echo": wish})

    def configure(app: App) -> None:
        app.get("/", lambda res, req: res.send(PAGE, headers={"Content-Type": "text/html"}))
        app.get("/client.js", client_js)
        app.ws("/deep/*", message=on_message)
        app.ws("/refusing", upgrade=lambda res, req, socket_context: refuse(res))

    def refuse(res: Any) -> None:
        res.send("no", 403)

    server = serve(configure, AppOptions(keep_alive_timeout=60))
    browser.open(f"{HTTP}://127.0.0.1:{server.port}/")
    return server


def say(browser: Browser, what: Any) -> None:
    assert browser.evaluate(f"socket.send({json.dumps(json.dumps(what))})") is True


def lines(browser: Browser, *names: str) -> List[Any]:
    found: List[Any] = browser.evaluate("log")
    return [line for line in found if line[0] in names]


def test_client_js_is_served(server: Any) -> None:
    answer = request(server.port, "GET /client.js HTTP/1.1")
    assert (answer.status, answer.body) == (200, client_source())
    assert answer.headers["content-type"] == "text/javascript; charset=utf-8"
    assert answer.headers["x-content-type-options"] == "nosniff"


def test_a_lost_connection_comes_back(browser: Browser, server: Any) -> None:
    browser.evaluate("start('deep/er')")  # relative to the page
    browser.wait_for(STATES, "connecting open")
    say(browser, 1)
    browser.wait_for("log.length", 4)
    assert json.loads(lines(browser, "message")[0][1]) == {"path": "/deep/er", "echo": 1}
    say(browser, "drop")
    browser.wait_for(STATES, "connecting open waiting connecting open")
    say(browser, [1012, "restart"])
    browser.wait_for(STATES, "connecting open" + 2 * " waiting connecting open")
    assert lines(browser, "close") == [
        ["close", 1006, "", False],
        ["close", 1012, "restart", False],
    ]
    first, second = browser.evaluate("delays")  # that time the connection did not last
    assert 0.75 * 250 <= first <= 1.25 * 250
    assert 0.75 * 500 <= second <= 1.25 * 500


def test_delays_grow_and_are_random(browser: Browser, server: Any) -> None:
    """As no attempt succeeds; time is not waited for."""
    browser.evaluate("setTimeout = fn => { if (delays.length < 12) queueMicrotask(fn); };")
    browser.evaluate("start('/refusing')")
    browser.wait_for("delays.length", 12)
    delays = browser.evaluate("delays")
    for number, delay in enumerate(delays):
        middle = min(250 * 2**number, 10000)
        assert 0.75 * middle <= delay <= 1.25 * middle
    assert len({round(delay) for delay in delays[6:]}) > 1


def test_close_is_final_until_open(browser: Browser, server: Any) -> None:
    browser.evaluate("start('/deep/')")
    browser.wait_for(STATES, "connecting open")
    browser.evaluate("socket.close(4001, 'enough')")
    browser.wait_for(STATES, "connecting open closed")
    assert lines(browser, "close") == [["close", 4001, "", True]]
    assert browser.evaluate("socket.send('lost')") is False
    browser.evaluate("socket.open()")
    browser.wait_for(STATES, "connecting open closed connecting open")
    # While it waits, too.
    say(browser, "drop")
    browser.wait_for("log[log.length - 1][1]", "waiting")
    browser.evaluate("socket.close()")
    assert browser.evaluate(STATES).endswith("open waiting closed")
    assert browser.evaluate("delays.length") == 1


def test_the_close_handler_may_stay_away(browser: Browser, server: Any) -> None:
    """Such as with a code that says that the login has failed."""
    browser.evaluate("start('/deep/', {close: () => socket.close()})")
    browser.wait_for(STATES, "connecting open")
    say(browser, [4003, "wrong token"])
    browser.wait_for(STATES, "connecting open closed")
    assert lines(browser, "close") == [["close", 4003, "wrong token", False]]
    assert browser.evaluate("delays.length") == 0


def test_a_new_url_for_each_attempt(browser: Browser, server: Any) -> None:
    browser.evaluate(
        """start(async () => {
            if (++asked === 2) throw new Error("the ticket office is closed");
            return `/deep/${asked}`;
        })"""
    )
    browser.wait_for(STATES, "connecting open")
    say(browser, "drop")
    browser.wait_for(STATES, "connecting open waiting connecting waiting connecting open")
    say(browser, "x")
    browser.wait_for("log.filter(line => line[0] === 'message').length", 1)
    assert json.loads(lines(browser, "message")[0][1])["path"] == "/deep/3"


def test_close_while_the_url_is_asked_for(browser: Browser, server: Any) -> None:
    browser.evaluate("start(() => new Promise(answer => { window.answer = answer; }))")
    browser.evaluate("socket.close()")
    browser.evaluate("answer('/deep/')")
    assert browser.evaluate("socket.send('x')") is False
    assert browser.evaluate(STATES) == "connecting closed"
    assert server.call(server.app.stats)["opened"] == 0
