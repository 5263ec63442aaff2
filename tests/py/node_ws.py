# SPDX-License-Identifier: MIT
"""Node and its package ws as clients.

Without Node, npm or its registry the tests are skipped; with CI=true they fail instead. The package
is installed for them, or taken from the folder PYWS_TEST_NODE, in which `npm install ws@8` has run.
"""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List

import pytest
from chromium import TIMEOUT, unavailable
from common import without_sanitizer
from shared import NotMade, made_once


def run(command: List[str], folder: Path, **more: Any) -> "subprocess.CompletedProcess[str]":
    """A child with a bounded time, killed behind it."""
    # The runtime of a sanitizer is for the Python processes only.
    kept = without_sanitizer()
    return subprocess.run(
        command, cwd=folder, env=kept, capture_output=True, encoding="utf-8", **more
    )


def install(folder: Path) -> None:
    """The package in a new folder. A registry may be slow, and faster the next time."""
    npm = shutil.which("npm")
    if not npm:
        raise FileNotFoundError("no npm here")
    options = ["--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
    command = [npm, "install", *options, "ws@8"]
    try:
        done = run(command, folder, stdin=subprocess.DEVNULL, timeout=90)
    except subprocess.TimeoutExpired:
        done = run(command, folder, stdin=subprocess.DEVNULL, timeout=90)
    if done.returncode != 0:
        raise OSError(done.stderr[:200])


class Node:
    """Runs scripts in a folder that has the package ws."""

    def __init__(self, factory: pytest.TempPathFactory) -> None:
        self._node = shutil.which("node") or unavailable("no node here")
        installed = os.environ.get("PYWS_TEST_NODE")
        try:
            self._folder = Path(installed) if installed else made_once(factory, "node", install)
        except NotMade as error:
            unavailable(str(error))

    def __call__(self, script: str, arguments: Dict[str, Any]) -> Any:
        """What a script prints, which reads its arguments from standard input; both are JSON."""
        command = [self._node, "-e", script]
        done = run(command, self._folder, input=json.dumps(arguments), timeout=TIMEOUT)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
