#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Writes what follows from the table of settings and the list of handlers: docs/settings.md, their
part of the docstring of App.ws, and their types in pyws/typing.py.

    PYWS_LIBRARY=build/libpyws.so python3 tools/settings_page.py [--check]

The table is in pyws/options.py and pyws/_core/settings.py, the list in pyws/_core/mistakes.py; a
test checks that all three are as they say.
With --check nothing is written; prints what differs and exits 1 if anything does.
"""

import argparse
import re
import sys
import textwrap
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pyws._core.mistakes import PARAMETERS, REQUEST_PARAMETERS  # noqa: E402
from pyws._core.settings import ROUTE_SETTINGS, Setting  # noqa: E402
from pyws._core.values import C_HANDLERS  # noqa: E402
from pyws.enums import CompressOptions  # noqa: E402
from pyws.options import APP_SETTINGS, LISTEN_ALIASES, LISTEN_SETTINGS  # noqa: E402

PAGE = ROOT / "docs" / "settings.md"
ROUTER = ROOT / "pyws" / "router.py"
TYPES = ROOT / "pyws" / "typing.py"
BEGIN = "        Settings and their defaults:\n\n"
END = "\n        Handlers, each of them optional"

INTRODUCTION = """# Settings

A value of a wrong type raises TypeError, and one out of range ValueError, both with the name, the
value and what is allowed. An unknown name raises TypeError with a suggestion. A route of HTTP
requests has one setting, `max_body_size`: `app.post(pattern, handler, max_body_size=1024)`. (This
page is made by `tools/settings_page.py` from the table in `pyws/options.py` and
`pyws/_core/settings.py`.)
"""


def default(one: Setting) -> str:
    """The default value, as people write it."""
    value: Any = one.default
    if isinstance(value, CompressOptions):
        return value.name
    if one.unit == "bytes" and value and value % 1024 == 0:
        return f"{value >> 20} MiB" if value % (1 << 20) == 0 else f"{value >> 10} KiB"
    if one.unit == "bits":
        return f"0o{value:o}"
    if type(value) is int and value >= 10_000:
        return f"{value:,}"
    return repr(value)


def amount(one: Setting) -> str:
    """The default value with its unit."""
    bare = one.default is None or one.unit in ("", "bits", "descriptor", "port")
    shown = default(one)
    return shown if bare or shown.endswith("iB") else f"{shown} {one.unit}"


def sentence(one: Setting) -> str:
    return one.text[0].upper() + one.text[1:] + "."


def plain_type(annotation: str) -> str:
    """The type as people write it who have a new Python."""
    for inside in (r"[^\[\]]*", ".*"):  # the inner one first
        annotation = re.sub(rf"Optional\[({inside})\]", r"\1 | None", annotation)
    annotation = re.sub(r"Union\[(\w+), (\w+)\]", r"\1 | \2", annotation)
    for alias_, meaning in (
        ("Items[", "list["),
        ("StrPath", "str | os.PathLike"),
        ("TlsContexts", "SSLContext | dict[str, SSLContext] | function"),
    ):
        annotation = annotation.replace(alias_, meaning)
    return annotation


def table(title: str, text: str, settings: "tuple[Setting, ...]") -> str:
    lines = [
        f"\n## {title}\n",
        f"{text}\n",
        "| name | type | default | unit | |",
        "|---|---|---|---|---|",
    ]
    for one in settings:
        kind = plain_type(one.type).replace("|", "\\|")
        unit = one.unit if one.unit not in ("bits", "descriptor", "port") else ""
        words = sentence(one).replace("|", "\\|")
        lines.append(f"| `{one.name}` | `{kind}` | `{default(one)}` | {unit} | {words} |")
    return "\n".join(lines) + "\n"


def page() -> str:
    """The text of docs/settings.md."""
    return INTRODUCTION + "".join(
        (
            table(
                "Of a WebSocket route",
                "`app.ws(pattern, {...})`, or as keywords, or `WebSocketOptions(...)`; handlers "
                "are among them.",
                ROUTE_SETTINGS,
            ),
            table(
                "Of the app",
                "`App(max_connections=...)`, `App(AppOptions(...))`, or a dict of them.",
                APP_SETTINGS,
            ),
            table(
                "Of a listening socket",
                "`app.listen(port, host=...)`, `app.listen(AppListenOptions(...))`, or a dict of "
                "them.",
                LISTEN_SETTINGS,
            ),
        )
    )


def docstring() -> str:
    """What the docstring of App.ws says of settings."""
    lines: List[str] = []
    for one in ROUTE_SETTINGS:
        text = f"{one.name}: {sentence(one)} Default: {amount(one)}."
        lines += textwrap.wrap(
            text, 100, initial_indent=" " * 8, subsequent_indent=" " * 12, break_on_hyphens=False
        )
    return "\n".join(lines) + "\n"


# ---- types --------------------------------------------------------------------------------------

# The types of the parameters of handlers.
KINDS = {
    "code": "int",
    "data": "bytes",
    "message": "Union[str, bytes]",
    "opcode": "OpCode",
    "reason": "str",
    "req": "Request",
    "res": "Response",
    "socket_context": "Any",
    "subscriptions": "int",
    "subscriptions_before": "int",
    "topic": "str",
    "ws": "WebSocket[Any]",
}
BEGIN_TYPES = "# ---- made by tools/settings_page.py "


def alias(event: str) -> str:
    """The name of the type of a handler."""
    return event.title() + "Handler"


def handler_types() -> str:
    lines: List[str] = []
    for event, names in {**PARAMETERS, "request": REQUEST_PARAMETERS}.items():
        arguments = ", ".join(KINDS[name] for name in names)
        kind = f"Callable[[{arguments}], HandlerResult]"
        if event in C_HANDLERS:
            kind = f"Union[{kind}, NativeHandler]"
        line = f"{alias(event)} = {kind}"
        if len(line) > 100:
            line = f"{alias(event)} = Union[\n    {kind[len('Union[') : -1]},\n]"
            line = line.replace("HandlerResult], Nat", "HandlerResult],\n    Nat")
        lines += [
            line,
            f'"""``{event if event in PARAMETERS else "handler"}({", ".join(names)})``"""',
        ]
    return "\n".join(lines) + "\n"


def typed_dict(name: str, text: str, keys: Dict[str, str]) -> str:
    lines = [f"class {name}(TypedDict, total=False):", f'    """{text}"""', ""]
    return "\n".join(lines + [f"    {key}: {kind}" for key, kind in keys.items()]) + "\n"


def keys(settings: "tuple[Setting, ...]") -> Dict[str, str]:
    return {one.name: one.type for one in settings}


def types() -> str:
    """What pyws/typing.py says of handlers and of settings."""
    events = [*PARAMETERS, "session"]
    listen = keys(LISTEN_SETTINGS)
    parts = (
        handler_types(),
        typed_dict(
            "WebSocketOptionsDict",
            "The settings and handlers of `App.ws` as a dict.",
            {**keys(ROUTE_SETTINGS), **{event: alias(event) for event in events}},
        ),
        typed_dict("AppOptionsDict", "The settings of `App` as a dict.", keys(APP_SETTINGS)),
        typed_dict(
            "AppListenOptionsDict",
            "The settings of `App.listen` as a dict.",
            {**listen, **{other: listen[name] for other, name in LISTEN_ALIASES.items()}},
        ),
    )
    return "\n\n".join(parts)


# ---- files --------------------------------------------------------------------------------------


def texts() -> Dict[Path, str]:
    """The files, as they should be."""
    source = ROUTER.read_text(encoding="utf-8")
    before, rest = source.split(BEGIN)
    after = rest.split(END, 1)[1]
    by_hand, line = re.split(f"({BEGIN_TYPES}-+\n)", TYPES.read_text(encoding="utf-8"))[:2]
    return {
        PAGE: page(),
        ROUTER: before + BEGIN + docstring() + END + after,
        TYPES: by_hand + line + "\n" + types(),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description="Write docs/settings.md, and a docstring.")
    parser.add_argument("--check", action="store_true", help="write nothing, say what differs")
    check = parser.parse_args().check
    differs = [
        path
        for path, text in texts().items()
        if not path.exists() or path.read_text(encoding="utf-8") != text
    ]
    for path in differs:
        if check:
            print(f"{path.relative_to(ROOT)} is not as tools/settings_page.py would write it")
        else:
            path.write_text(texts()[path], encoding="utf-8")
    return 1 if check and differs else 0


if __name__ == "__main__":
    sys.exit(main())
