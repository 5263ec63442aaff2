# SPDX-License-Identifier: MIT
"""Finds libpyws.so, loads it, and checks that it is the one that this package was written for.

What the library must contain (prototypes, structures, ABI) comes from the caller, `pyws._native`.
"""

from __future__ import annotations

import ctypes
import glob
import importlib
import os
import sys
from typing import Any, Collection, Iterator, Mapping, Sequence

__all__ = ["Library", "beside", "find_library", "load"]

NAME = "libpyws.so"
_PACKAGE = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))

# ---- finding ------------------------------------------------------------------------------------


def libraries_in(folder: str) -> list[str]:
    """All files named libpyws.so* in `folder`; without any, the path that was expected."""
    found = sorted(glob.glob(os.path.join(glob.escape(folder), NAME + "*")))
    return found or [os.path.join(folder, NAME)]


def build_module() -> Any:
    """pyws._build, which the build system may have generated; None without one."""
    try:
        return importlib.import_module("pyws._build")
    except ImportError:
        return None


def candidates() -> Iterator[str]:
    """Paths where the library may be, the preferred one first.

    Beside the package, in the folders of a wheel and of an editable install, in LIBDIR of the build
    system, in a build folder of a checkout, and where the system's loader looks.
    """
    yield from libraries_in(_PACKAGE)
    build = build_module()
    build_folder = os.path.dirname(os.path.abspath(build.__file__)) if build else _PACKAGE
    if build_folder != _PACKAGE:
        yield from libraries_in(build_folder)
        yield from libraries_in(os.path.dirname(build_folder))
    parent = os.path.dirname(_PACKAGE)
    for folder in (".pyws_server.mesonpy.libs", ".pyws-server.mesonpy.libs"):
        yield from libraries_in(os.path.join(parent, folder))
    libdir = getattr(build, "LIBDIR", "")  # empty in a wheel
    if libdir:
        yield from libraries_in(libdir)
    builds = glob.glob(os.path.join(glob.escape(parent), "build*", NAME))
    builds = [path for path in builds if os.path.exists(path)]  # a link may lead nowhere yet
    yield from sorted(builds, key=os.path.getmtime, reverse=True)
    yield NAME + ".0"


def open_library(path: str) -> Any:
    """Load `path` with the system's loader. Raises OSError."""
    if os.sep in path and not os.path.exists(path):
        raise OSError("no such file")
    return ctypes.CDLL(path, use_errno=True)


def archive() -> str | None:
    """The zip file that the package was imported from; None if it is in a folder."""
    path = _PACKAGE
    while not os.path.exists(path) and path != os.path.dirname(path):
        path = os.path.dirname(path)
    return path if os.path.isfile(path) else None


def find_library(paths: Sequence[str]) -> Any:
    """Load the first of `paths` that can be loaded.

    Raises:
        ImportError: None can; the message lists every path and why it failed, or says that the
            package is in a zip file.
    """
    tried = []
    for path in paths:
        try:
            return open_library(path)
        except OSError as error:
            tried.append(f"  {path}: {error}")
    zip_file = archive()
    if zip_file and len(paths) > 1:  # one path only: it was chosen with PYWS_LIBRARY
        raise ImportError(
            f"pyws was imported from the zip file {zip_file}, but the system cannot load the C "
            f"library {NAME} from a zip file. Install pyws-server with pip, make the program with "
            "PyInstaller or shiv (which unpack it), or set PYWS_LIBRARY to the path of a "
            f"{NAME} outside of the zip file"
        )
    raise ImportError(
        f"pyws cannot load its C library {NAME} (machine: {os.uname().machine}), tried:\n"
        + "\n".join(tried)
    )


def beside(path: str, name: str) -> Any:
    """Load another library of this project, which was installed or built with the first one.

    Args:
        path: What the system's loader was given for the first one.
        name: The name of the file, without a version.

    Raises:
        ImportError: It cannot be loaded; the message lists every path and why it failed.
    """
    folders = dict.fromkeys(map(os.path.dirname, (path, os.path.realpath(path))))
    found = [
        other
        for folder in folders
        if folder
        for other in sorted(glob.glob(os.path.join(glob.escape(folder), name + "*")))
    ]
    tried = []
    for other in found or [name + ".0"]:
        try:
            return ctypes.CDLL(other)
        except OSError as error:
            tried.append(f"  {other}: {error}")
    where = f", which should be beside {path}" if os.sep in path else ""
    raise ImportError(f"pyws cannot load its library {name}{where}, tried:\n" + "\n".join(tried))


# ---- checking -----------------------------------------------------------------------------------


class Library:
    """The functions of the C library, ready to be called, as attributes.

    Attributes:
        path: What the system's loader was given.
        without_gil: The ctypes library, whose functions are called without the GIL.
        with_gil: The same library, whose functions are called with the GIL held, which is faster
            and leaves no gap between a check in Python and the call. PyPy has no such thing: there
            it is the same as `without_gil`.
        bridge: Whether bridge.c runs message handlers; `pyws._core.bridge` decides that.
    """

    bridge = False

    def __init__(self, loaded: Any, signatures: Mapping[str, Any], version: str) -> None:
        self.path: str = loaded._name
        self.without_gil = self.with_gil = loaded
        self._signatures = signatures
        self._version = version
        if sys.implementation.name == "cpython":
            self.with_gil = ctypes.PyDLL(self.path, handle=loaded._handle, use_errno=True)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)

    def declare(self, source: Any, names: Collection[str]) -> None:
        """Make attributes of these functions of `source`: `without_gil` or `with_gil`."""
        for name in names:
            setattr(self, name, self.prototype(source, name))

    def prototype(self, source: Any, name: str) -> Any:
        """The function `name` with its types set. Raises ImportError if it is missing."""
        try:
            function = getattr(source, name)
        except AttributeError:
            raise self.mismatch(f"has no function {name}") from None
        function.restype, function.argtypes, errcheck = self._signatures[name]
        if errcheck:
            function.errcheck = errcheck
        return function

    def check_abi(self, abi: int, structures: Sequence[type[ctypes.Structure]]) -> None:
        """Raise ImportError if the library has another ABI or structures of other sizes."""
        theirs = self.prototype(self.without_gil, "ws_abi")()
        if theirs != abi:
            raise self.mismatch(f"has ABI {theirs}, pyws needs ABI {abi}")
        struct_size = self.prototype(self.without_gil, "ws_struct_size")
        for structure in structures:
            name, ours = structure.__name__, ctypes.sizeof(structure)
            size = struct_size(name.encode())
            if size != ours:
                raise self.mismatch(f"struct {name} has {size} bytes, not {ours}")

    def mismatch(self, what: str) -> ImportError:
        """The error for a library that does not belong to this package."""
        theirs = "unknown"
        try:
            function = self.without_gil.ws_version
            function.restype = ctypes.c_char_p
            theirs = function().decode("ascii", "replace")
        except AttributeError:
            pass
        return ImportError(
            f"{self.path}: {what} (library version {theirs}, pyws version {self._version})"
        )


def load(
    signatures: Mapping[str, Any],
    blocking: Collection[str],
    structures: Sequence[type[ctypes.Structure]],
    abi: int,
    version: str,
) -> Library:
    """Load the library that PYWS_LIBRARY names, or the first one that is found.

    Args:
        signatures: Its functions: restype, argtypes and errcheck by name.
        blocking: Those that are called without the GIL.
        structures: Structures whose size the library must confirm (ws_struct_size).
        abi: WS_ABI, which the library must confirm (ws_abi).
        version: Of the package, for error messages.

    Raises:
        ImportError: There is no library, or it is another one than expected.
    """
    chosen = os.environ.get("PYWS_LIBRARY")
    loaded = find_library([chosen] if chosen else list(candidates()))
    library = Library(loaded, signatures, version)
    library.check_abi(abi, structures)
    library.declare(library.with_gil, [name for name in signatures if name not in blocking])
    library.declare(library.without_gil, blocking)
    return library
