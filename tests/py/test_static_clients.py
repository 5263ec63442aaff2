# SPDX-License-Identifier: MIT
"""Files for real clients: curl and a browser (W3)."""

import gzip
import os
from pathlib import Path
from typing import Any, Callable, List, Optional, Tuple

import peer
import pytest
from chromium import launched
from common import HTTP, plain_only
from curl import curl
from test_static import CONTENT

from pyws import App, Request, Response

Serve = Callable[..., Any]


@pytest.fixture
def site(tmp_path: Path) -> Path:
    root = tmp_path / "site"
    (root / "a").mkdir(parents=True)
    (root / "a" / "index.html").write_text("<h1>A</h1>")
    (root / "a.txt").write_text("a")
    (root / "big.bin").write_bytes(CONTENT)
    return root


def test_w3_curl(serve: Serve, site: Path, tmp_path: Path) -> None:
    script = site / "app.js"
    script.write_text("let a = 1;\n" * 100)
    (site / "app.js.gz").write_bytes(gzip.compress(script.read_bytes()))
    url = f"{HTTP}://127.0.0.1:{serve(lambda app: app.static('/s', site)).port}/s"
    assert curl(f"{url}/big.bin") == CONTENT
    assert curl("-r", "100-199", f"{url}/big.bin") == CONTENT[100:200]
    assert curl("-r", "-7", f"{url}/big.bin") == CONTENT[-7:]
    assert curl("-r", "0-1,5-6", f"{url}/big.bin") == CONTENT
    assert curl("-L", f"{url}/a") == b"<h1>A</h1>"
    assert curl("--compressed", f"{url}/app.js") == script.read_bytes()
    head = curl("-I", f"{url}/big.bin").lower()
    assert b"content-length: 300000" in head
    partial = tmp_path / "partial"
    partial.write_bytes(CONTENT[:1234])
    curl("-C", "-", "-o", str(partial), f"{url}/big.bin")  # resumes
    assert partial.read_bytes() == CONTENT
    code = ["-o", os.devnull, "-w", "%{http_code}"]
    assert curl("-z", str(script), *code, f"{url}/app.js") == b"304"
    assert curl("--path-as-is", *code, f"{url}/../secret") == b"404"
    etags = str(tmp_path / "etags")
    curl("--etag-save", etags, f"{url}/a.txt")
    assert curl("--etag-compare", etags, *code, f"{url}/a.txt") == b"304"


PAGE = """<!doctype html><title>page</title><link rel=stylesheet href=style.css>
<p id=text>no script</p><script src=app.js></script>"""
SCRIPT = "document.getElementById('text').textContent = 'script: grün';"


@plain_only("Chromium keeps no files of servers with a wrong certificate")
@pytest.mark.timeout(240)
def test_w3_chromium_shows_pages_and_downloads(serve: Serve, site: Path, tmp_path: Path) -> None:
    seen: List[Tuple[str, Optional[str]]] = []

    def note(res: Response, req: Request) -> None:
        seen.append((req.get_url(), req.get_header("if-none-match")))

    (site / "page.html").write_text(PAGE)
    (site / "style.css").write_text("p { color: rgb(1, 2, 3) }")
    (site / "app.js").write_text(SCRIPT)
    (site / "app.js.gz").write_bytes(gzip.compress(SCRIPT.encode()))

    def configure(app: App) -> None:
        app.router("", before=note).static("/", site)
        app.get("/save", lambda res, req: res.send_file(site / "big.bin", download_name="süß.bin"))

    url = f"{HTTP}://127.0.0.1:{serve(configure).port}"
    with launched() as browser:
        browser.open(url + "/page.html")
        browser.wait_for("document.getElementById('text').textContent", "script: grün")
        color = "getComputedStyle(document.getElementById('text')).color"
        assert browser.evaluate(color) == "rgb(1, 2, 3)"
        encoded = "performance.getEntriesByName(location.origin + '/app.js')[0].encodedBodySize"
        assert browser.evaluate(encoded) == (site / "app.js.gz").stat().st_size
        browser.reload()
        browser.wait_for("document.getElementById('text').textContent", "script: grün")
        assert [tag for path, tag in seen if path == "/page.html"][-1]  # it asked for a change
        fetched = "fetch('/big.bin').then(r => r.arrayBuffer()).then(b => b.byteLength)"
        assert browser.evaluate(fetched) == len(CONTENT)
        part = "fetch('/big.bin', {headers: {Range: 'bytes=5-9'}, cache: 'no-store'})"
        part += ".then(async r => r.status + ' ' + new Uint8Array(await r.arrayBuffer()).join())"
        assert browser.evaluate(part) == "206 " + ",".join(map(str, CONTENT[5:10]))
        folder = tmp_path / "downloads"
        folder.mkdir()
        browser.call("Page.setDownloadBehavior", behavior="allow", downloadPath=str(folder))
        browser.evaluate("location.href = '/save'")
        saved = folder / "süß.bin"
        peer.eventually(lambda: saved.exists() and saved.stat().st_size == len(CONTENT))
        assert saved.read_bytes() == CONTENT
