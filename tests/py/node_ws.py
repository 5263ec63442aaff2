"""Node and its package ws as clients.

Without Node, npm or its registry the tests are skipped; with CI=true they fail instead.
"""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any, Dict, List

from chromium import TIMEOUT, unavailable
from common import without_sanitizer


def run(command: List[str], folder: Path, **more: Any) -> "subprocess.CompletedProcess[str]":
    """A child with a bounded time, killed behind it."""
    # The runtime of a sanitizer is for the Python processes only.
    kept = without_sanitizer()
    return subprocess.run(
        command, cwd=folder, env=kept, capture_output=True, encoding="utf-8", **more
    )


class Node:
    """Runs scripts in a folder that has the package ws."""

    def __init__(self, folder: Path) -> None:
        node, npm = shutil.which("node"), shutil.which("npm")
        if not node or not npm:
            unavailable("no node or no npm here")
        self._node, self._folder = node, folder
        options = ["--prefix", str(folder), "--ignore-scripts", "--no-audit", "--no-fund"]
        install = [npm, "install", *options, "ws@8"]
        try:
            done = run(install, folder, stdin=subprocess.DEVNULL, timeout=90)
        except subprocess.TimeoutExpired:
            unavailable("npm install ws takes too long")
        if done.returncode != 0:
            unavailable("npm install ws: " + done.stderr[:200])

    def __call__(self, script: str, arguments: Dict[str, Any]) -> Any:
        """What a script prints, which reads its arguments from standard input; both are JSON."""
        command = [self._node, "-e", script]
        done = run(command, self._folder, input=json.dumps(arguments), timeout=TIMEOUT)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
