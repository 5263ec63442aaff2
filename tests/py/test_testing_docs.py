# SPDX-License-Identifier: MIT
"""The examples of docs/testing_apps.md are files that run and pass (P10)."""

import importlib
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest
from common import ROOT
from doc_blocks import all_blocks

PAGE = "docs/testing_apps.md"
FILES: Dict[str, str] = {
    block.file: block.text for block in all_blocks() if block.page == PAGE and block.file
}
PYTEST = ["-m", "pytest", "-q", "-p", "no:cacheprovider"]
RUNS: Dict[str, List[str]] = {
    "test_chat.py": PYTEST,
    "test_chat_async.py": PYTEST,
    "test_chat_http.py": PYTEST,
    "test_chat_unittest.py": ["-X", "dev"],
    "test_handlers.py": PYTEST,
}


def test_every_example_is_run() -> None:
    assert {*RUNS, "chat.py"} == {*FILES}


def needed(module: str) -> None:
    """Skip the test without a module, unless CI says that it must be there."""
    if os.environ.get("CI") == "true":
        importlib.import_module(module)
    else:
        pytest.importorskip(module)


def run(folder: Path, name: str, text: str) -> "subprocess.CompletedProcess[str]":
    env = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{folder}"}
    if "PYWS_LIBRARY" in env:  # it may be a relative path
        env["PYWS_LIBRARY"] = os.path.abspath(env["PYWS_LIBRARY"])
    (folder / "chat.py").write_text(FILES["chat.py"])
    (folder / name).write_text(text)
    return subprocess.run(
        [sys.executable, *RUNS[name], name],
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        encoding="utf-8",
        timeout=50,
    )


@pytest.mark.parametrize("name", RUNS)
def test_p10_the_examples_pass(name: str, tmp_path: Path) -> None:
    if name == "test_chat_async.py":
        needed("pytest_asyncio")
    tests = len(re.findall(r"^ *(?:async )?def test_", FILES[name], re.MULTILINE))
    result = run(tmp_path, name, FILES[name])
    assert result.returncode == 0, result.stdout
    assert re.search(rf"\b{tests} passed|Ran {tests} tests", result.stdout), result.stdout


def test_an_example_that_is_wrong_fails(tmp_path: Path) -> None:
    text = FILES["test_handlers.py"].replace('== ["tea"]', '== ["cake"]')
    result = run(tmp_path, "test_handlers.py", text)
    assert result.returncode == 1
    assert "1 failed, 4 passed" in result.stdout
