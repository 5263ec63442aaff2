# SPDX-License-Identifier: MIT
"""What the tests of packaging share: compilers and build systems, run in copies of the tree."""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Callable, Dict, List, Optional, Set

import pytest
from common import ROOT

MESON = [sys.executable, "-m", "mesonbuild.mesonmain"]


def has_module(name: str) -> bool:
    return importlib.util.find_spec(name) is not None


def has_programs(*names: str) -> bool:
    return all(shutil.which(name) for name in names)


builds = [
    pytest.mark.packaging,
    pytest.mark.timeout(300),
    pytest.mark.skipif(not has_module("mesonbuild"), reason="needs meson"),
    pytest.mark.skipif(not has_programs("cc", "ninja"), reason="needs cc and ninja"),
]


def apply_builds(function: Callable[..., None]) -> Callable[..., None]:
    for mark in builds:
        function = mark(function)
    return function


def environment(**extra: str) -> Dict[str, str]:
    """The environment of a user: nothing that points at the build under test."""
    dropped = ("PYWS_LIBRARY", "PYTHONPATH", "PYTHONHOME", "LD_PRELOAD", "DESTDIR", "CFLAGS")
    kept = {key: value for key, value in os.environ.items() if key not in dropped}
    return {**kept, "PYTHONDONTWRITEBYTECODE": "1", **extra}


def run(command: List[str], cwd: Optional[Path] = None, **extra: str) -> str:
    done = subprocess.run(
        command,
        cwd=str(cwd) if cwd else None,
        env=environment(**extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}"
    return done.stdout


def python(code: str, cwd: Path, **extra: str) -> str:
    return run([sys.executable, "-c", code], cwd, **extra).strip()


def copy_tree(to: Path) -> Path:
    """The sources, without what builds and tools left among them."""

    def ignore(folder: str, names: List[str]) -> Set[str]:
        top = Path(folder) == ROOT
        return {
            name
            for name in names
            if name in ("__pycache__", "subprojects")
            or (top and name.startswith(("build", "dist", ".git", ".mesonpy", ".venv", "_")))
            or name.endswith("_cache")
        }

    shutil.copytree(str(ROOT), str(to), ignore=ignore)
    return to


def version() -> str:
    match = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text())
    assert match
    return match.group(1)


# Parts that the C library may be without: the options of meson, and the switches of the compiler.
OPTIONAL = dict(
    re.findall(r"^  '(\w+)': '(WS_NO_\w+)',$", (ROOT / "meson.build").read_text(), re.M)
)

# A program that shows that the library is found and that its header is of the same version.
CONSUMER_C = """#include <ws.h>
#include <string.h>
int main(void)
{
    return ws_abi() != WS_ABI || strcmp(ws_version(), WS_VERSION) != 0;
}
"""
