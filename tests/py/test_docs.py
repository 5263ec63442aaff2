# SPDX-License-Identifier: MIT
"""The Python in README.md and docs/ works: programs run against a client, all blocks compile."""

import inspect
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import List

import pytest
from chromium import unavailable
from common import ROOT, TIMEOUT, without_sanitizer
from doc_blocks import Block, all_blocks, blocks_of, mistakes, run
from program import Program
from redis_server import RedisServer

from pyws import App, WebSocket

pytest.register_assert_rewrite("doc_clients")
from doc_clients import CLIENTS, client, echoes  # noqa: E402

BLOCKS = all_blocks()
PROGRAMS = [block for block in BLOCKS if block.name in CLIENTS]


def test_blocks_are_marked_and_compile() -> None:
    assert list(mistakes(BLOCKS, CLIENTS)) == []
    assert len(PROGRAMS) == len(CLIENTS)


def test_every_page_is_in_the_table_of_contents() -> None:
    docs = ROOT / "docs"
    trees = re.findall(r"```{toctree}\n(.*?)```", (docs / "index.md").read_text(), re.DOTALL)
    listed = {re.sub(r".*<(.*)>", r"\1", line) for line in "".join(trees).splitlines()}
    pages = {str(path.relative_to(docs).with_suffix("")) for path in docs.rglob("*.md")}
    assert pages - listed == {"index"}


@pytest.mark.parametrize("block", PROGRAMS, ids=lambda block: block.name)
def test_program(block: Block, tmp_path: Path) -> None:
    if block.name == "serial":
        try:
            for fd in os.openpty():
                os.close(fd)
        except OSError:
            pytest.skip("there are no pseudo-terminals here")
    if block.name == "forms":
        pytest.importorskip("python_multipart")
    if block.name == "history":
        pytest.importorskip("redis")
        with RedisServer(tmp_path) as server:
            text = block.text.replace("redis://127.0.0.1:6379", server.url)
            run(block._replace(text=text), CLIENTS[block.name], tmp_path)
        return
    run(block, CLIENTS[block.name], tmp_path)


@pytest.mark.parametrize(("cls", "page"), [(App, "app"), (WebSocket, "websocket")])
def test_the_reference_is_complete(cls: type, page: str) -> None:
    names = {
        name
        for name in dir(cls)
        if not name.startswith("_")
        and type(inspect.getattr_static(cls, name)).__module__ != "pyws._core.foreign"
    }
    text = (ROOT / "docs" / "reference" / f"{page}.md").read_text(encoding="utf-8")
    listed = re.findall(rf"^\.\. auto\w+:: pyws\.{cls.__name__}\.(\w+)$", text, re.MULTILINE)
    assert sorted(listed) == sorted(names)


@pytest.mark.parametrize("page", ["guide/browser.md", "guide/getting_started.md"])
def test_scripts_compile(page: str, tmp_path: Path) -> None:
    node = shutil.which("node") or unavailable("no node here")
    text = (ROOT / "docs" / page).read_text(encoding="utf-8")
    scripts = re.findall(r"^```javascript\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)
    assert scripts
    for number, script in enumerate(scripts):
        file = tmp_path / f"{number}.js"
        file.write_text(script)
        command = [node, "--check", str(file)]
        subprocess.run(command, check=True, timeout=TIMEOUT, env=without_sanitizer())


# ---- these tests find what they are for ---------------------------------------------------------

GOOD = """from pyws import App
app = App()
app.ws("/echo", message=lambda ws, message, opcode: ws.send(message, opcode))
app.listen(8000)
app.run()
"""


def page(*blocks: str) -> str:
    return "".join(f"Some text:\n\n{block}\n" for block in blocks)


def marked(text: str, mark: str = "program: index") -> str:
    return f"<!-- {mark} -->\n```python\n{text}```\n"


@pytest.mark.parametrize(
    ("blocks", "expected"),
    [
        ([marked("def f(:\n")], "page.md:5: invalid syntax"),
        ([marked("match x:\n    case 1:\n        pass\n")], "page.md:"),
        ([f"```python\n{GOOD}```\n"], "page.md:4: this runs a server, but has no mark"),
        ([marked(GOOD, "program index")], "page.md:5: 'program index' is not 'program: NAME'"),
        ([marked(GOOD, "program: none")], "page.md:5: no client none in doc_clients.py"),
        ([marked(GOOD), marked(GOOD)], "page.md:16: page.md:5 is named index, too"),
        (["```python\nawait ws.send(f'{1}')\n```\n"], None),
        ([marked(GOOD)], None),
    ],
)
def test_mistakes_are_found(blocks: List[str], expected: str) -> None:
    clients = {"index": CLIENTS["index"]}
    found = list(mistakes(blocks_of("page.md", page(*blocks)), clients))
    found = [line for line in found if not line.endswith("no program is named index")]
    assert len(found) == (expected is not None)
    if expected:
        assert expected in found[0]


def test_a_client_without_program_is_found() -> None:
    assert list(mistakes([], {"index": CLIENTS["index"]})) == [
        "doc_clients.py: no program is named index"
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("app.run()", "app.runs()"),  # it ends with an error
        ("ws.send(message, opcode)", "ws.send(opcode, message)"),  # its handler fails
        ("ws.send(message, opcode)", "ws.send(message + message, opcode)"),  # the wrong answer
        ("/echo", "/"),
    ],
)
def test_a_broken_program_is_found(tmp_path: Path, old: str, new: str) -> None:
    (good,) = blocks_of("page.md", marked(GOOD))
    with pytest.raises((AssertionError, EOFError, OSError)):
        run(good._replace(text=GOOD.replace(old, new)), CLIENTS["index"], tmp_path)


def test_what_a_program_logs_is_found(tmp_path: Path) -> None:
    (block,) = blocks_of("page.md", marked(GOOD.replace("app.run", "print(1 / 2); app.run")))
    run(block, CLIENTS["index"], tmp_path)

    def expecting(program: Program, port: int) -> str:
        echoes(port, "/echo")
        return "a warning"

    with pytest.raises(AssertionError, match="'a warning' is not in ''"):
        run(block, expecting, tmp_path)
    text = GOOD.replace("app.run()", "import logging; logging.warning('late'); app.run()")
    with pytest.raises(AssertionError, match="WARNING:root:late"):
        run(block._replace(text=text), CLIENTS["index"], tmp_path)
    with pytest.raises(AssertionError):
        client("index")(expecting)
