# SPDX-License-Identifier: MIT
"""What the processes of pytest-xdist share: one of them makes it, and the others wait for it."""

import fcntl
import os
import shutil
from pathlib import Path
from typing import Callable

import pytest


class NotMade(Exception):
    """Why there is no such folder."""


def made_once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """The folder of this name, after `make` has filled it. If it raises, all processes learn so."""
    base = factory.getbasetemp()
    folder = (base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / name
    with open(f"{folder}.lock", "a+", encoding="utf-8") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        lock.seek(0)
        result = lock.read()
        if not result:
            result = made(folder, make)
            lock.write(result)
    if result != "made":
        raise NotMade(f"{name}: {result}")
    return folder


def made(folder: Path, make: Callable[[Path], object]) -> str:
    shutil.rmtree(folder, ignore_errors=True)  # of a test that ran out of time
    folder.mkdir()
    try:
        make(folder)
    except Exception as error:
        return f"{type(error).__name__}: {error}"
    return "made"
