#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Checks that the modules of pyws/ import each other only downwards, and respect what is private,
and that meson.build installs them all.

    python3 tools/check_python_layers.py [--root DIR]

Imports inside functions and those for type checkers alone count like all others, except those in
FOR_TYPES, each of which has a reason. Reads of a private
attribute of something else than `self` are counted where the attribute belongs to another module:
each needs a reason in REASONS. Prints one line for each violation and exits 1 if there is any.
See ARCHITECTURE.md for the map.
"""

import argparse
import ast
import sys
from pathlib import Path
from typing import Dict, Iterator, List, Set, Tuple

LAYERS: Dict[str, int] = {
    "_core/__init__": 0, "_core/close_info": 0, "_core/contexts": 0, "_core/decorators": 0,
    "_core/descriptors": 0, "_core/encryption": 0, "_core/fields": 0,
    "_core/foreign": 0, "_core/library": 0, "_core/mistakes": 0, "_core/relays": 0,
    "_core/limits": 0, "_core/state": 0, "_core/systemd": 0, "_core/transports": 0,
    "_core/waits": 0,
    "enums": 0, "errors": 0,
    "_pyinstaller/__init__": 0, "_pyinstaller/hook-pyws": 0,
    "_core/files": 1, "_core/hints": 1, "_core/parts": 1, "_native": 1,
    "_core/bridge": 2, "_core/forms": 2, "_core/openssl": 2, "_core/timers": 2,
    "_core/calls": 3, "_core/watches": 3,
    "_core/logs": 4, "_core/metrics": 4, "_core/values": 4,
    "_core/bus": 5, "_core/certificates": 5, "_core/cookies": 5, "_core/messages": 5,
    "_core/outages": 5, "_core/places": 5, "history": 5,
    "_core/nats_history": 6, "_core/outbox": 6, "_core/redis_history": 6,
    "_core/settings": 6, "brokers": 6,
    "_core/envelope": 7, "_core/nats_broker": 7, "_core/outlet": 7,
    "_core/redis_broker": 7, "options": 7,
    "_core/counting": 8, "_core/history": 8, "_core/runtime": 8, "_core/urls": 8,
    "_core/bodies": 9, "_core/facts": 9, "_core/life": 9, "_core/link": 9, "_core/routes": 9,
    "_core/signals": 9, "_core/events": 9, "_core/tls": 9, "_core/topics": 9, "_core/work": 9,
    "publishing": 9,
    "_core/requests": 10,
    "_core/before": 11, "_core/reading": 11, "_core/served": 11, "_core/sockets": 11,
    "_core/writing": 11,
    "_core/connections": 12, "_core/readers": 12, "_core/stepper": 12,
    "_core/waiting": 12, "http": 12,
    "_core/coroutines": 13, "_core/session": 13, "browser": 13, "websocket": 13,
    "_core/aio": 14, "_core/callbacks": 14, "_core/fork": 14, "_core/workers": 14,
    "typing": 14,
    "router": 15,
    "_core/fallbacks": 16, "_core/listening": 16,
    "app": 17,
    "__init__": 18, "testing": 18,
    "__main__": 19,
}  # fmt: skip

GENERATED = {"_build"}  # by the build system

# ctypes is for those who talk to C; the C API of the interpreter is for one alone.
CTYPES = {"_core/bridge", "_core/calls", "_core/library", "_core/openssl", "_native"}
PYTHONAPI = {"_core/bridge"}

# Modules whose functions work on objects of the classes next to them. What they read is their own,
# though an attribute of another module may have the same name.
FRIENDS = {"_core/facts", "_core/requests", "_core/signals", "_core/sockets", "_core/timers"}

# Imports for type checkers alone that go upwards, and why.
FOR_TYPES: Dict[Tuple[str, str], str] = {
    ("http", "app"): "req.app and res.app are of type App",
    ("websocket", "app"): "ws.app is of type App",
}

# Private attributes that a module reads though they belong to something else, and why.
REASONS: Dict[Tuple[str, str], str] = {
    ("_core/library", "_name"): "the path of a ctypes library has no other name",
    ("_core/library", "_handle"): "PyDLL needs the handle to load nothing twice",
    ("_core/openssl", "_name"): "the path of a ctypes library has no other name",
    ("_core/openssl", "_SSLContext"): "what every SSLContext begins with, and how long that is",
    ("_core/mistakes", "_get_running_loop"): "the public function raises where there is no loop",
    ("_core/nats_broker", "_transport"): "nats-py uses one that is there, and takes it nowhere",
    ("_core/redis_broker", "_writer"): "redis-py has no other way to reach the transport it made",
    ("_core/stepper", "_log_destroy_pending"): "asyncio sets it for tasks that may end unfinished",
    ("_core/stepper", "_must_cancel"): "there is no public way to see that",
    ("_core/stepper", "_register_task"): "documented for those who extend asyncio",
    ("_core/stepper", "_unregister_task"): "documented for those who extend asyncio",
    ("_core/stepper", "_enter_task"): "documented for those who extend asyncio",
    ("_core/stepper", "_leave_task"): "documented for those who extend asyncio",
    ("testing", "_routes"): "a fake socket has the settings of a route of its app",
    ("testing", "_runtime"): "a fake socket belongs to the runtime of its app, as a real one does",
    ("_core/workers", "_get_running_loop"): "the public function raises where there is no loop",
    ("_core/workers", "_exit"): "os._exit is documented, in spite of its name",
    ("_core/workers", "_shutdown"): "ends threads as the interpreter does at its exit",
}
MOST = 30  # such reads in all

Violation = Tuple[int, str]


class Module:
    """A file of the package."""

    def __init__(self, root: Path, path: Path) -> None:
        self.path = path
        self.name = path.relative_to(root / "pyws").with_suffix("").as_posix()
        self.tree = ast.parse(path.read_text(encoding="utf-8"), str(path))

    def own(self) -> Set[str]:
        """The private names that its functions and classes define, and its own variables."""
        names: Set[str] = set()
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                names.add(node.name)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                names.add(node.id)
            elif is_self(node) and isinstance(getattr(node, "ctx", None), ast.Store):
                names.add(getattr(node, "attr", ""))
            elif isinstance(node, ast.Assign) and "__slots__" in map(name_of, node.targets):
                names.update(text for text in map(text_of, ast.walk(node.value)) if text)
        return {name for name in names if is_private(name)}


def is_self(node: ast.AST) -> bool:
    """Whether this is an attribute of the object whose method is running, or of its class."""
    return isinstance(node, ast.Attribute) and name_of(node.value) in ("self", "cls")


def is_private(name: str) -> bool:
    """Whether a name is private; __dunder__ and the _fields_ of ctypes are not."""
    return name.startswith("_") and not name.endswith("_")


def name_of(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else ""


def text_of(node: ast.AST) -> str:
    value = node.value if isinstance(node, ast.Constant) else None
    return value if isinstance(value, str) else ""


# ---- imports ------------------------------------------------------------------------------------


def targets(module: Module, node: ast.AST, known: Set[str]) -> Iterator[str]:
    """The modules of the package that an import names."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            head, *parts = alias.name.split(".")
            if head == "pyws":
                yield existing("/".join(parts), known)
    elif isinstance(node, ast.ImportFrom):
        folder = base(module, node)
        if folder is None:
            return
        for alias in node.names:
            inner = f"{folder}/{alias.name}".lstrip("/")
            yield inner if inner in known else existing(folder, known)


def base(module: Module, node: ast.ImportFrom) -> "str | None":
    """Where a `from` import starts, inside the package; None if it is outside."""
    parts = node.module.split(".") if node.module else []
    if node.level == 0:
        return "/".join(parts[1:]) if parts[:1] == ["pyws"] else None
    here = ("pyws/" + module.name).split("/")[: -node.level]
    return "/".join([*here, *parts][1:])


def existing(name: str, known: Set[str]) -> str:
    """The module of a name that may be a package."""
    return name if name in known else f"{name}/__init__".lstrip("/")


def nodes_for_types(module: Module) -> Iterator[ast.AST]:
    """What only type checkers see."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.If) and name_of(node.test) == "TYPE_CHECKING":
            for statement in node.body:
                yield from ast.walk(statement)


def check_imports(module: Module, known: Set[str]) -> Iterator[Violation]:
    for_types = set(map(id, nodes_for_types(module)))
    for node in ast.walk(module.tree):
        for target in targets(module, node, known):
            line = getattr(node, "lineno", 1)
            if target in GENERATED or target == "_core/__init__":
                continue
            if target not in LAYERS:
                yield line, f"imports {target}, which is not in the map of layers"
            elif (module.name, target) in FOR_TYPES and id(node) in for_types:
                continue
            elif LAYERS[target] >= LAYERS[module.name]:
                yield (
                    line,
                    f"imports {target} of layer {LAYERS[target]}, "
                    f"and is itself of layer {LAYERS[module.name]}",
                )
        yield from check_ctypes(module, node)


def check_ctypes(module: Module, node: ast.AST) -> Iterator[Violation]:
    names: List[str] = []
    if isinstance(node, ast.Import):
        names = [alias.name for alias in node.names]
    elif isinstance(node, ast.ImportFrom) and node.level == 0:
        names = [node.module or ""]
    if any(name.split(".")[0] == "ctypes" for name in names) and module.name not in CTYPES:
        yield node.lineno, "imports ctypes"  # type: ignore[attr-defined]
    if "pythonapi" in (getattr(node, "attr", ""), text_of(node)) and module.name not in PYTHONAPI:
        yield getattr(node, "lineno", 1), "touches ctypes.pythonapi"


# ---- private attributes -------------------------------------------------------------------------


def private_reads(module: Module, owners: Dict[str, Set[str]]) -> Iterator[Tuple[int, str]]:
    """Lines and names of private attributes, and imports, that belong to another module."""
    for node in ast.walk(module.tree):
        if isinstance(node, ast.ImportFrom) and base(module, node) is not None:
            for alias in node.names:
                if is_private(alias.name) and alias.name not in ("_core", "_native", "_build"):
                    yield node.lineno, alias.name
        elif isinstance(node, ast.Attribute) and is_private(node.attr) and not is_self(node):
            homes = owners.get(node.attr, set())
            own = module.name in homes and (len(homes) == 1 or module.name in FRIENDS)
            if not own and node.attr not in ("_core", "_native"):
                yield node.lineno, node.attr


def check_privates(modules: List[Module]) -> Iterator[Tuple[Path, int, str]]:
    owners: Dict[str, Set[str]] = {}
    for module in modules:
        for name in module.own():
            owners.setdefault(name, set()).add(module.name)
    needed: Set[Tuple[str, str]] = set()
    total = 0
    for module in modules:
        for line, name in private_reads(module, owners):
            total += 1
            needed.add((module.name, name))
            if (module.name, name) not in REASONS:
                yield module.path, line, f"reads {name}, which is private to something else"
    if total > MOST:
        yield modules[0].path, 1, f"there are {total} reads of private attributes, more than {MOST}"
    names = {module.name for module in modules}
    for owner, name in sorted(set(REASONS) - needed):
        if owner in names:
            path = next(module.path for module in modules if module.name == owner)
            yield path, 1, f"has a reason to read {name} in REASONS, and does not"


# ---- installation -------------------------------------------------------------------------------


def check_installed(root: Path, paths: List[Path]) -> Iterator[Tuple[Path, int, str]]:
    """Modules that an installed package would lack."""
    build = root / "meson.build"
    text = build.read_text(encoding="utf-8") if build.exists() else None
    for path in paths:
        if text is not None and f"'{path.relative_to(root).as_posix()}'" not in text:
            yield path, 1, "is not listed in meson.build, so it would not be installed"


# ---- all ----------------------------------------------------------------------------------------


def check(root: Path) -> List[str]:
    """All violations under root, as lines of text."""
    paths = sorted(path for path in (root / "pyws").rglob("*.py") if path.stem not in GENERATED)
    if not paths:
        return ["pyws: no modules found"]
    modules = [Module(root, path) for path in paths]
    known = {module.name for module in modules}
    found: List[Tuple[Path, int, str]] = []
    for module in modules:
        if module.name not in LAYERS:
            found.append((module.path, 1, "is not in the map of tools/check_python_layers.py"))
            continue
        found += [(module.path, line, why) for line, why in check_imports(module, known)]
    found += check_privates(modules)
    found += check_installed(root, paths)
    return [f"{path.relative_to(root)}:{line}: {why}" for path, line, why in found]


def main() -> int:
    parser = argparse.ArgumentParser(description="Check the layers of pyws/.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    violations = check(parser.parse_args().root)
    for line in violations:
        print(line)
    return 1 if violations else 0


if __name__ == "__main__":
    sys.exit(main())
