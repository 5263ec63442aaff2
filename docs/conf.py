# SPDX-License-Identifier: MIT
"""The site: install the package with its extra `docs`, then ``sphinx-build -W docs build/site``."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from pygments.lexers.special import TextLexer
from sphinx.ext.napoleon import GoogleDocstring

DOCS = Path(__file__).resolve().parent
ROOT = DOCS.parent


def version_of_the_project() -> str:
    match = re.search(r"version: '([^']+)'", (ROOT / "meson.build").read_text(encoding="utf-8"))
    assert match
    return match[1]


project = "pyws"
author = "pyws contributors"
version = release = version_of_the_project()
extensions = ["myst_parser", "sphinx.ext.autodoc", "sphinx.ext.napoleon"]
highlight_language = "none"

html_theme = "furo"
html_title = f"pyws {version}"
html_copy_source = False
html_show_copyright = False
html_static_path = ["_static"]
html_css_files = ["site.css"]

myst_heading_anchors = 4

default_role = "py:obj"  # as in `name`, the form of the docstrings
autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
python_use_unqualified_type_names = True
python_maximum_signature_line_length = 88
napoleon_numpy_docstring = False
napoleon_use_ivar = True

# ---- pages --------------------------------------------------------------------------------------

# Pages that show a file of the checkout, and contain no more than its inclusion.
SHOWN = {
    "architecture": "ARCHITECTURE.md",
    "changelog": "CHANGELOG.md",
    "conformance_runner": "tools/conformance/README.md",
    "security": "SECURITY.md",
}
LINK = re.compile(r"\[([^\]]+)\]\(([^):#]+)(#[^)]*)?\)")


def show_files(_app: Any, page: str, source: list[str]) -> None:
    """Replace inclusions, and lead links to the files of SHOWN to their pages.

    Other links to files outside of docs/ become the path of the file.
    """
    shown = SHOWN.get(page)
    file = ROOT / shown if shown else DOCS / f"{page}.md"
    text = file.read_text(encoding="utf-8") if shown else source[0]
    source[0] = LINK.sub(lambda link: resolve(link, file.parent, (DOCS / page).parent), text)


def resolve(link: re.Match[str], folder: Path, page_folder: Path) -> str:
    """The text of a link in a file of `folder`, for a page of `page_folder`."""
    label, target, anchor = link.groups()
    path = Path(os.path.normpath(folder / target))
    if not path.exists():  # Sphinx reports it
        return link[0]
    relative = path.relative_to(ROOT).as_posix()
    page = next((page for page, shown in SHOWN.items() if shown == relative), None)
    if page is not None:
        path = DOCS / f"{page}.md"
    if DOCS not in path.parents:
        return label if relative in label else f"{label} (`{relative}`)"
    return f"[{label}]({os.path.relpath(path, page_folder)}{anchor or ''})"


# ---- docstrings ---------------------------------------------------------------------------------


COLON = "\ue000"  # in place of a colon that napoleon would take for the end of a type


def before_napoleon(
    app: Any, what: str, name: str, object_: Any, options: Any, lines: list[str]
) -> None:
    """Read the docstring of an attribute like that of a method: with sections, without a type."""
    if what in ("property", "attribute") and lines:
        lines[:] = GoogleDocstring(lines, app.config, app, "method", name, object_, options).lines()
        lines[0] = lines[0].replace(":", COLON)


def after_napoleon(
    _app: Any, _what: str, _name: str, _object: Any, _options: Any, lines: list[str]
) -> None:
    """Make lists of the settings and handlers in the docstring of `App.ws`."""
    lines[:] = [line.replace(COLON, ":") for line in lines]
    first = next((i for i, line in enumerate(lines) if line.startswith("Settings and")), len(lines))
    for index, line in reversed(list(enumerate(lines))):
        entry = re.match(r"(\w+(?:\([\w, ]*\))?): (.*)", line)
        if index > first and entry:
            lines[index : index + 1] = ["", f"``{entry[1]}``", f"    {entry[2]}"]
    lines[first:] = [line.replace("|", r"\|") for line in lines[first:]]


def short_signature(
    _app: Any, what: str, name: str, _object: Any, _options: Any, signature: Any, result: Any
) -> tuple[Any, Any]:
    """Leave out the arguments of classes that programs do not create, and those of all settings."""
    if name == "pyws.WebSocketOptions":
        return "(**settings)", result
    made_by_programs = ("App", "AppOptions", "AppListenOptions", "FakeWebSocket")
    hidden = what == "class" and name.rpartition(".")[2] not in made_by_programs
    return ("" if hidden else signature), result


def skip(
    _app: Any, _what: str, _name: str, object_: Any, _skipped: bool, _options: Any
) -> bool | None:
    """Leave out names that only explain what to use instead (`pyws._core.foreign`)."""
    return True if type(object_).__module__ == "pyws._core.foreign" else None


def setup(app: Any) -> None:
    app.connect("autodoc-skip-member", skip)
    app.connect("source-read", show_files)
    app.connect("autodoc-process-docstring", before_napoleon, priority=400)
    app.connect("autodoc-process-docstring", after_napoleon, priority=600)
    app.connect("autodoc-process-signature", short_signature)
    for language in ("caddy", "haproxy"):
        app.add_lexer(language, TextLexer)
