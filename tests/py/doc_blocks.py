# SPDX-License-Identifier: MIT
"""The Python in README.md and docs/: which blocks there are, and how a program among them is run.

A block of a page begins with ```python. If it is a whole program, the line above is
``<!-- program: NAME -->``, and doc_clients.py has a client NAME. A block with the line
``<!-- file: NAME -->`` is a file that some test writes and uses (test_testing_docs.py). All other
blocks are fragments, which test_doc_fragments.py uses.
"""

import ast
import re
import signal
from pathlib import Path
from typing import Callable, Dict, Iterable, Iterator, List, NamedTuple, Optional

from common import ROOT
from program import Program

# A client talks to a running program; returns what the program has to log, if anything.
Client = Callable[[Program, int], Optional[str]]

BLOCK = re.compile(r"(?:^<!-- ([^\n]*) -->\n)?^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
MARK = re.compile(r"program: (\w+)")
FILE = re.compile(r"file: ([\w.]+)")
# Without a mark, a block with one of these is a program whose mark was forgotten.
RUNS = re.compile(r"\.run\(|await app\.serve\(")


class Block(NamedTuple):
    page: str
    line: int
    mark: str
    text: str

    @property
    def place(self) -> str:
        return f"{self.page}:{self.line}"

    @property
    def name(self) -> str:
        """The name of a program; "" for a fragment."""
        match = MARK.fullmatch(self.mark)
        return match[1] if match else ""

    @property
    def file(self) -> str:
        """The name of a file; "" for other blocks."""
        match = FILE.fullmatch(self.mark)
        return match[1] if match else ""


def pages() -> Iterator[Path]:
    yield ROOT / "README.md"
    yield from sorted((ROOT / "docs").rglob("*.md"))


def blocks_of(page: str, text: str) -> Iterator[Block]:
    for match in BLOCK.finditer(text):
        yield Block(page, text[: match.start(2)].count("\n") + 1, match[1] or "", match[2])


def all_blocks() -> List[Block]:
    return [
        block
        for path in pages()
        for block in blocks_of(str(path.relative_to(ROOT)), path.read_text(encoding="utf-8"))
    ]


# ---- rules --------------------------------------------------------------------------------------


def mistakes(blocks: Iterable[Block], clients: Dict[str, Client]) -> Iterator[str]:
    """What is wrong with blocks before any of them runs."""
    places: Dict[str, str] = {}
    for block in blocks:
        if block.mark.startswith("program") and not block.name:
            yield f"{block.place}: {block.mark!r} is not 'program: NAME'"
        elif not block.name and not block.file and RUNS.search(block.text):
            yield f"{block.place}: this runs a server, but has no mark 'program: NAME'"
        elif block.name in places:
            yield f"{block.place}: {places[block.name]} is named {block.name}, too"
        elif block.name and block.name not in clients:
            yield f"{block.place}: no client {block.name} in doc_clients.py"
        if block.name:
            places[block.name] = block.place
        try:
            tree = ast.parse(block.text, feature_version=(3, 8))
            compile(tree, block.place, "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        except SyntaxError as error:
            yield f"{block.page}:{block.line + (error.lineno or 1) - 1}: {error.msg}"
    for name in sorted(set(clients) - set(places)):
        yield f"doc_clients.py: no program is named {name}"


# ---- running ------------------------------------------------------------------------------------

# Runs a program with its TCP ports replaced by ports that the kernel picks, which it prints, and
# its serial port by a terminal whose other end answers each line.
RUN_ELSEWHERE = """
import os, runpy, sys, threading
from pyws import App, AppListenOptions

listen = App.listen

def listen_elsewhere(app, where=None, *arguments, **more):
    if isinstance(where, int):
        where = {"port": where}
    elif isinstance(where, AppListenOptions):
        where = vars(where)
    where = {**(where or {}), "port": 0}
    if not (where.get("path") or where.get("fd")):
        where["host"] = "127.0.0.1"
    listen(app, where, *arguments, **more)
    print("listening elsewhere:", app.port)
    return app

App.listen = listen_elsewhere

def answer(device):
    while True:
        os.write(device, b"21.5 for " + os.read(device, 4096))

open_device = os.open

def open_elsewhere(path, *arguments, **more):
    if path != "/dev/ttyUSB0":
        return open_device(path, *arguments, **more)
    device, terminal = os.openpty()
    os.set_blocking(terminal, False)
    threading.Thread(target=answer, args=(device,), daemon=True).start()
    return terminal

os.open = open_elsewhere
sys.argv = sys.argv[1:]
os.chdir(os.path.dirname(sys.argv[0]))  # for what it writes
runpy.run_path(sys.argv[0], run_name="__main__")
"""


def run(block: Block, client: Client, folder: Path) -> None:
    """Run a program until its client is done. Raises AssertionError, also for unexpected output."""
    runner, file = folder / "run_elsewhere.py", folder / f"program_{block.name}.py"
    runner.write_text(RUN_ELSEWHERE)
    file.write_text(block.text, encoding="utf-8")
    with Program(str(runner), str(file)) as program:
        line = ""
        while not line.startswith("listening elsewhere: "):
            line = program.line()
        expected = client(program, int(line.rpartition(" ")[2]))
        if program.process.poll() is None:
            program.process.send_signal(signal.SIGTERM)
        status, errors = program.wait(), program.error_text()
        assert status == 0, f"{block.place}: status {status}: {errors}"
        if expected is None:
            assert errors == "", f"{block.place}: {errors}"
        else:
            assert expected in errors, f"{block.place}: {expected!r} is not in {errors!r}"
