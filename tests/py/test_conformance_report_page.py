# SPDX-License-Identifier: MIT
"""tools/conformance: the HTML report in a browser."""

import sys
from pathlib import Path

import pytest
from common import ROOT
from conformance_results import HELLO, REQUEST, RESPONSE, events
from conformance_runs import HOSTILE_RUNS, case, run_of

sys.path.insert(0, str(ROOT / "tools"))

from conformance import html_report

ROWS = "[...document.querySelectorAll('.case:not([hidden])')].map(row => row.cells[0].innerText)"
FOUND = "[...document.querySelectorAll('.found .about')].map(one => one.textContent)"


@pytest.mark.timeout(240)
def test_page(tmp_path: Path) -> None:
    """It sorts, filters and unfolds, and runs nothing of a peer's."""
    from chromium import launched

    path = tmp_path / "report.html"
    path.write_text(html_report.text(HOSTILE_RUNS), encoding="utf-8")
    with launched() as browser:
        browser.open(path.as_uri())
        browser.wait_for(ROWS, ["8.1", "9.1", "10.1", "11.1", "12.1", "13.1"])
        assert browser.evaluate("document.querySelectorAll('.run').length") == 2
        assert browser.evaluate("document.querySelectorAll('.run .ended').length") == 4
        assert browser.evaluate("document.querySelectorAll('#groups tbody tr').length") == 6

        browser.evaluate("document.querySelector('#cases').scrollIntoView()")
        browser.click("#cases th:nth-child(5) button")  # by the verdicts of the first server
        assert browser.evaluate(ROWS) == ["11.1", "9.1", "12.1", "13.1", "10.1", "8.1"]
        browser.click("#cases th:nth-child(5) button")
        assert browser.evaluate(ROWS)[0] == "8.1"
        browser.click("#cases th:first-child button")

        browser.evaluate("byId('tools').scrollIntoView()")
        browser.click(".toggle[data-verdict=FAILED]")
        assert browser.evaluate(ROWS) == ["8.1", "11.1"]
        browser.click("#differ")
        assert browser.evaluate(ROWS) == ["8.1"]
        assert browser.evaluate("document.getElementById('count').innerText") == "1 of 6 cases"
        browser.evaluate("reset()")
        assert len(browser.evaluate(ROWS)) == 6
        browser.evaluate("byId('search').focus()")
        browser.type("@limits 11.1", "search")
        browser.wait_for(ROWS, ["11.1"])
        browser.evaluate("reset()")

        browser.evaluate("document.querySelector('#cases').scrollIntoView()")
        browser.click(".case:first-child .id button")
        browser.wait_for("document.querySelectorAll('.detail .trace li').length", 6)
        shown = browser.evaluate("document.querySelector('.detail').innerText")
        assert "70000 bytes, the first" in shown
        assert "40 41 42" in shown
        assert "<img src=x onerror='document.title=1'>" in shown
        assert "close: FAILED" in shown
        browser.click(".case:first-child .id button")
        assert browser.evaluate("document.querySelector('.detail').hidden") is True

        assert browser.evaluate("document.title") == "WebSocket conformance"
        assert browser.evaluate("document.images.length") == 0
        browser.open(path.as_uri() + "#case-13.1")
        browser.wait_for("document.querySelectorAll('.detail').length", 1)
        browser.look(390, 800, "dark")
        assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth") is True


@pytest.mark.timeout(240)
def test_page_opens_on_what_failed(tmp_path: Path) -> None:
    """Findings lead to their cases, groups to theirs, and traces show frames."""
    from chromium import launched

    trace = events(
        ("sent", REQUEST),
        ("received", RESPONSE + b"\x88\x07\x03\xeasorry"),
        ("sent", HELLO),
    )
    open_tcp = {"close": "FAILED", "close_came": "the server does not end TCP"}
    cases = [
        *(case(f"4.{i}", "FAILED", f"Text 'a{i}' came", trace=trace) for i in range(1, 5)),
        *(case(f"5.{i}", "OK", **open_tcp) for i in range(1, 10)),
        case("6.1", "NON-STRICT", "late"),
    ]
    path = tmp_path / "report.html"
    path.write_text(html_report.text([run_of(cases)]), encoding="utf-8")
    with launched() as browser:
        browser.open(path.as_uri())
        browser.wait_for("document.querySelectorAll('.case').length", 14)
        assert browser.evaluate(FOUND) == ["close of 9 cases", "4 cases", "1 case"]
        top = browser.evaluate("document.querySelector('.found').getBoundingClientRect().top")
        assert top < 700  # it is seen without scrolling
        assert browser.evaluate("document.querySelector('.more').open") is False

        browser.evaluate("document.querySelectorAll('.found')[1].open = true")
        browser.evaluate("document.querySelectorAll('.found')[1].scrollIntoView()")
        browser.click(".found[open] button:nth-of-type(2)")
        browser.wait_for(ROWS, ["4.1", "4.2", "4.3", "4.4"])
        browser.click("#finding")
        browser.wait_for(f"{ROWS}.length", 14)
        browser.evaluate("document.querySelectorAll('.found')[1].scrollIntoView()")
        browser.click(".found[open] button")
        browser.wait_for("document.querySelectorAll('.detail .trace li').length", 3)
        lines = browser.evaluate(
            "[...document.querySelectorAll('.frame-line')].map(line => line.innerText)"
        )
        text = [" ".join(line.split()) for line in lines]
        assert text == [
            'Close FIN=1 RSV=000 opcode=8 no mask length=7 1002 "sorry"',
            'Text FIN=1 RSV=000 opcode=1 mask=37fa213d length=5 "hello"',
        ]
        head = browser.evaluate("document.querySelector('.detail pre.head').innerText")
        assert head.splitlines()[0] == "GET / HTTP/1.1"
        browser.evaluate("document.querySelector('.trace details').open = true")
        browser.wait_for("document.querySelectorAll('.trace details pre').length", 1)

        browser.evaluate("document.querySelector('#groups').scrollIntoView()")
        browser.click("#groups tbody tr:nth-child(2) button")
        browser.wait_for(f"{ROWS}.length", 9)
        for width in (400, 1280):
            browser.look(width, 900, "light")
            assert browser.evaluate("document.documentElement.scrollWidth <= innerWidth") is True
