# SPDX-License-Identifier: MIT
"""curl as a client."""

import os
import shutil
import subprocess

import pytest
from common import without_sanitizer


def curl(*arguments: str) -> bytes:
    """What it prints; the test is skipped where it is missing. Raises CalledProcessError."""
    path = shutil.which("curl")
    if path is None:
        if os.environ.get("CI") == "true":
            pytest.fail("no curl here")
        pytest.skip("no curl here")
    command = [path, "-sS", *arguments]
    return subprocess.run(
        command, capture_output=True, timeout=60, check=True, env=without_sanitizer()
    ).stdout
