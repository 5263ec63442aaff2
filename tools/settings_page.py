#!/usr/bin/env python3
"""Writes what is said of settings: docs/settings.md, and their part of the docstring of App.ws.

    PYWS_LIBRARY=build/libpyws.so python3 tools/settings_page.py [--check]

The table is in pyws/options.py and pyws/_core/settings.py; a test checks that both are as it says.
With --check nothing is written; prints what differs and exits 1 if anything does.
"""

import argparse
import sys
import textwrap
from pathlib import Path
from typing import Any, Dict, List

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from pyws._core.settings import ROUTE_SETTINGS, Setting  # noqa: E402
from pyws.enums import CompressOptions  # noqa: E402
from pyws.options import APP_SETTINGS, LISTEN_SETTINGS  # noqa: E402

PAGE = ROOT / "docs" / "settings.md"
ROUTER = ROOT / "pyws" / "router.py"
BEGIN = "        Settings and their defaults:\n\n"
END = "\n        Handlers, each of them optional"

INTRODUCTION = """# Settings

A value of a wrong type raises TypeError, and one out of range ValueError, both with the name, the
value and what is allowed. An unknown name raises TypeError with a suggestion. (This page is made by
`tools/settings_page.py` from the table in `pyws/options.py` and `pyws/_core/settings.py`.)
"""


def default(one: Setting) -> str:
    """The default value, as people write it."""
    value: Any = one.default
    if isinstance(value, CompressOptions):
        return value.name
    if one.unit == "bytes" and value and value % 1024 == 0:
        return f"{value // 1024} KiB"
    if one.unit == "bits":
        return f"0o{value:o}"
    if type(value) is int and value >= 10_000:
        return f"{value:,}"
    return repr(value)


def amount(one: Setting) -> str:
    """The default value with its unit."""
    bare = one.default is None or one.unit in ("", "bits", "descriptor", "port")
    shown = default(one)
    return shown if bare or shown.endswith("KiB") else f"{shown} {one.unit}"


def sentence(one: Setting) -> str:
    return one.text[0].upper() + one.text[1:] + "."


def table(title: str, text: str, settings: "tuple[Setting, ...]") -> str:
    lines = [
        f"\n## {title}\n",
        f"{text}\n",
        "| name | type | default | unit | |",
        "|---|---|---|---|---|",
    ]
    for one in settings:
        kind = one.type.replace("|", "\\|")
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
                "`app.ws(pattern, {...})`, or as keywords; handlers are in the same dict.",
                ROUTE_SETTINGS,
            ),
            table("Of the app", "`App(AppOptions(...))`, or a dict of them.", APP_SETTINGS),
            table(
                "Of a listening socket",
                "`app.listen(AppListenOptions(...))`, a dict of them, or a port.",
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


def texts() -> Dict[Path, str]:
    """The files, as they should be."""
    source = ROUTER.read_text(encoding="utf-8")
    before, rest = source.split(BEGIN)
    after = rest.split(END, 1)[1]
    return {PAGE: page(), ROUTER: before + BEGIN + docstring() + END + after}


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
