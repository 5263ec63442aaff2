# SPDX-License-Identifier: MIT
"""Types: what checkers find in a user's program, and what annotations say at run time (P6)."""

import ast
import builtins
import importlib.util
import inspect
import os
import pydoc
import re
import shutil
import subprocess
import sys
import types
import typing
from pathlib import Path
from types import FunctionType
from typing import Any, Callable, Dict, Iterator, List, Set, Tuple
from unittest import mock

import peer
import pytest
from chromium import unavailable
from common import ROOT
from shared import made_once

import pyws
from pyws import OpCode, SendStatus, WebSocket
from pyws._native import lib

TYPED = ROOT / "tests" / "py" / "typed"

# ---- type checkers ------------------------------------------------------------------------------

# mypy says nothing of pyws itself, as where it is installed; the project's own run checks that.
MYPY = ["mypy", "--strict", "--no-incremental", "--follow-imports=silent"]
CHECKERS = {"mypy": (MYPY, r":(\d+): error: "), "pyright": (["pyright"], r":(\d+):\d+ - error: ")}


def prepare_pyright(folder: Path) -> None:
    """Called for the first time, pyright installs itself: by one process, which may try twice."""
    command = [sys.executable, "-m", "pyright", "--version"]
    if subprocess.run(command, cwd=folder, capture_output=True, timeout=120).returncode != 0:
        subprocess.run(command, cwd=folder, check=True, timeout=120)


@pytest.fixture(params=CHECKERS)
def checker(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> str:
    """The name of a type checker that is there."""
    name = str(request.param)
    if importlib.util.find_spec(name) is None:
        unavailable(f"{name} is not installed")
    if name == "pyright":
        made_once(tmp_path_factory, "pyright", prepare_pyright)
    return name


def check_types(checker: str, path: Path, folder: Path) -> str:
    """What it says of a program that is outside this project."""
    shutil.copy(path, folder)
    (folder / "pyws").symlink_to(ROOT / "pyws")
    command = [sys.executable, "-m", *CHECKERS[checker][0], path.name]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=280)
    assert done.returncode in (0, 1), done.stdout + done.stderr
    return done.stdout


@pytest.mark.packaging
@pytest.mark.timeout(300)
def test_p6_a_right_program_passes(checker: str, tmp_path: Path) -> None:
    output = check_types(checker, TYPED / "right.py", tmp_path)
    assert re.fullmatch(r"Success: no issues.*|0 errors, 0 warnings.*", output.strip()), output


@pytest.mark.packaging
@pytest.mark.timeout(300)
def test_p6_each_mistake_is_found(checker: str, tmp_path: Path) -> None:
    """An error at each line that has one, and at no other."""
    path = TYPED / "mistakes.py"
    output = check_types(checker, path, tmp_path)
    lines = path.read_text(encoding="utf-8").splitlines()
    planted = {number for number, line in enumerate(lines, 1) if "# mistake: " in line}
    found = {int(number) for number in re.findall("mistakes.py" + CHECKERS[checker][1], output)}
    assert len(planted) >= 28
    assert (planted - found, found - planted) == (set(), set())


def test_p6_the_right_program_runs() -> None:
    code = "import right\nwith right.make_app() as app: right.listen(app)"
    environment = {**os.environ, "PYWS_LIBRARY": lib.path, "PYTHONPATH": f"{ROOT}:{TYPED}"}
    command = [sys.executable, "-W", "ignore::ResourceWarning", "-c", code]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert done.returncode == 0, done.stderr


# ---- annotations at run time --------------------------------------------------------------------


def exports() -> Iterator[Tuple[str, Any]]:
    """What programs import: from the package, and from its public modules."""
    for name in pyws.__all__:
        yield name, getattr(pyws, name)
    for path in sorted((ROOT / "pyws").glob("[a-z]*.py")):
        module = importlib.import_module(f"pyws.{path.stem}")
        for name in getattr(module, "__all__", ()):
            yield f"{path.stem}.{name}", getattr(module, name)


def public_functions() -> Iterator[Tuple[str, Callable[..., Any]]]:
    """All functions of the public interface, and those of its classes."""
    for name, value in exports():
        if inspect.isfunction(value):
            yield name, value
        for key in dir(value) if inspect.isclass(value) else ():
            member = inspect.getattr_static(value, key)
            if isinstance(member, property):
                member = member.fget
            function = getattr(member, "__func__", member)
            own = getattr(function, "__module__", None) or ""
            is_public = not key.startswith("_") or key in ("__init__", "__enter__", "__exit__")
            if is_public and isinstance(function, FunctionType) and own.startswith("pyws"):
                yield f"{name}.{key}", function


FUNCTIONS = dict(public_functions())


def is_newer(annotation: str) -> bool:
    """Whether Python 3.8 does not understand it: `int | None`, `list[int]`."""
    nodes = list(ast.walk(ast.parse(annotation)))
    generic = [node.value for node in nodes if isinstance(node, ast.Subscript)]
    names = [value.id for value in generic if isinstance(value, ast.Name)]
    return any(isinstance(node, ast.BinOp) for node in nodes) or any(
        hasattr(builtins, name) for name in names
    )


def test_p6_newer_annotations_are_known() -> None:
    newer = ("int | None", "list[int]", "Optional[dict[str, int]]", "Callable[[int | str], None]")
    assert all(map(is_newer, newer))
    assert not any(map(is_newer, ("int", "Optional[int]", "List[int]", "Callable[..., None]")))


@pytest.mark.parametrize("name", sorted(FUNCTIONS))
def test_p6_hints_of_a_function(name: str) -> None:
    """In every Python: what is too new for the oldest is found in any."""
    hints = typing.get_type_hints(FUNCTIONS[name])
    parameters = inspect.signature(FUNCTIONS[name]).parameters
    assert set(parameters) - set(hints) <= {"self", "cls", "protocol"}
    texts = FUNCTIONS[name].__annotations__.values()
    assert [text for text in texts if isinstance(text, str) and is_newer(text)] == []


def test_p6_hints_of_the_classes() -> None:
    for name, value in exports():
        if inspect.isclass(value):
            typing.get_type_hints(value)
            assert inspect.getdoc(value), name
    assert typing.get_type_hints(pyws.WebSocketOptionsDict)["message"] is pyws.MessageHandler


OTHERS = {"BytesIO", "socket"}  # of the standard library
PRIVATE = {"Items", "StrPath", "Task", "Unpack"}  # programs have no need of them


def is_variable(value: Any) -> bool:
    return isinstance(value, typing.TypeVar)


def names_in(annotation: Any) -> Set[str]:
    tree = ast.parse(annotation if isinstance(annotation, str) else "None")
    return {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}


def test_p6_what_the_interface_takes_and_returns_is_exported() -> None:
    used: Dict[str, str] = {}
    for name, function in FUNCTIONS.items():
        inner = inspect.unwrap(function)
        if name.split(".")[0] not in pyws.__all__ or name.endswith(".__init__"):
            continue
        for annotation in inner.__annotations__.values():
            found = names_in(annotation)
            variables = {one for one in found if is_variable(inner.__globals__.get(one))}
            used.update(dict.fromkeys(found - variables, name))
    known = {
        *vars(typing),
        *vars(builtins),
        *vars(types),
        "BytesIO",
        "socket",
        *pyws.__all__,
        *PRIVATE,
    }
    assert {name: where for name, where in used.items() if name not in known} == {}
    assert len(used) > 20


def test_p6_all_is_complete() -> None:
    assert len(set(pyws.__all__)) == len(pyws.__all__)
    assert set(pyws.typing.__all__) <= set(pyws.__all__)
    assert (ROOT / "pyws" / "py.typed").exists()


# ---- generic user data --------------------------------------------------------------------------


def test_p6_user_data_is_generic_at_no_cost() -> None:
    class User: ...

    def on_open(ws: WebSocket[User]) -> None: ...

    assert typing.get_type_hints(on_open)["ws"] == WebSocket[User]
    if hasattr(WebSocket, "__basicsize__"):  # not in PyPy
        assert WebSocket.__basicsize__ == WebSocket.__mro__[1].__basicsize__
    assert not hasattr(WebSocket.__new__(WebSocket), "__dict__")


# ---- send, which is a function of C -------------------------------------------------------------


def test_p6_inspect_help_and_autospec_know_send() -> None:
    parameters = inspect.signature(WebSocket.send).parameters
    assert list(parameters) == ["self", "message", "opcode", "compress", "fin"]
    assert typing.get_type_hints(WebSocket.send)["return"] is SendStatus
    text = pydoc.plain(pydoc.render_doc(WebSocket))
    text = re.sub(r"\n \|\s*", " ", text)  # Python 3.13 writes a parameter in each line
    assert re.search(r" send\( ?self, message: [^)]* fin: [^)]* = True ?\) -> ", text), text
    ws = mock.create_autospec(WebSocket, instance=True)
    ws.send("text", OpCode.TEXT, compress=True)
    for arguments in ((), (1, 2, 3, 4, 5)):
        with pytest.raises(TypeError):
            ws.send(*arguments)
    with pytest.raises(TypeError):
        ws.send("text", compres=True)


def test_p6_sphinx_documents_send() -> None:
    sphinx = pytest.importorskip("sphinx.util.inspect")
    shown = sphinx.stringify_signature(sphinx.signature(WebSocket.send, bound_method=True))
    assert shown.startswith("(message: ")


def test_p6_send_may_be_replaced(serve: Callable[..., Any]) -> None:
    """As instrumentation and tests do; sockets have a function of C with the bridge."""
    sent: List[Any] = []
    kinds: List[type] = []

    def on_message(ws: WebSocket, message: Any, opcode: OpCode) -> None:
        kinds.append(type(ws.send))
        ws.send(message, opcode)

    server = serve(message=on_message)

    def send(ws: WebSocket, message: Any, *more: Any) -> SendStatus:
        sent.append(message)
        return original(ws, message, *more)

    original = WebSocket.send
    with peer.upgraded(server.port) as client:
        client.send(peer.frame(b"none"))
        assert client.frame().payload == b"none"
        with mock.patch.object(WebSocket, "send", send):
            client.send(peer.frame(b"one"))
            assert client.frame().payload == b"one"
        client.send(peer.frame(b"two"))
        assert client.frame().payload == b"two"
    assert sent == ["one"]
    assert kinds == [kinds[0], types.MethodType, kinds[0]]
    assert (kinds[0] is types.BuiltinMethodType) == lib.bridge
    assert WebSocket.send is original
