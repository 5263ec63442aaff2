"""Where libpyws.so may be, beside the package, in a build folder or installed."""

from __future__ import annotations

import glob
import importlib
import os
from typing import Any, Iterator

__all__ = ["NAME", "candidates"]

NAME = "libpyws.so"
_HERE = os.path.dirname(os.path.abspath(__file__))


def libraries_in(folder: str) -> list[str]:
    """Files called libpyws.so* in `folder`, or the path that was missed."""
    found = sorted(glob.glob(os.path.join(glob.escape(folder), NAME + "*")))
    return found or [os.path.join(folder, NAME)]


def build_module() -> Any:
    """pyws._build, which the build system may have generated; None without one."""
    try:
        return importlib.import_module(__package__ + "._build")
    except ImportError:
        return None


def candidates() -> Iterator[str]:
    """Where the library may be, the best place first."""
    yield from libraries_in(_HERE)
    build = build_module()
    build_folder = os.path.dirname(os.path.abspath(build.__file__)) if build else _HERE
    if build_folder != _HERE:
        yield from libraries_in(build_folder)
        yield from libraries_in(os.path.dirname(build_folder))
    parent = os.path.dirname(_HERE)
    for folder in (".pyws_server.mesonpy.libs", ".pyws-server.mesonpy.libs"):
        yield from libraries_in(os.path.join(parent, folder))
    libdir = getattr(build, "LIBDIR", "")  # empty in a wheel
    if libdir:
        yield from libraries_in(libdir)
    builds = glob.glob(os.path.join(glob.escape(parent), "build*", NAME))
    builds = [path for path in builds if os.path.exists(path)]  # else: a link, not built yet
    yield from sorted(builds, key=os.path.getmtime, reverse=True)
    yield NAME + ".0"
