# SPDX-License-Identifier: MIT
"""SECURITY.md: its tables say what the code does."""

import ctypes
import re
from typing import Any, Dict, List

import pytest
from common import ROOT

from pyws._core.settings import ROUTE_SETTINGS
from pyws._native import lib, ws_behavior, ws_config, ws_listen_options
from pyws.options import APP_SETTINGS, LISTEN_SETTINGS

PAGE = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
SETTINGS = {
    kind: {one.name: one for one in table}
    for kind, table in (
        ("route", ROUTE_SETTINGS),
        ("app", APP_SETTINGS),
        ("listen", LISTEN_SETTINGS),
    )
}
STRUCTS: Dict[str, Any] = {
    "ws_behavior": ws_behavior,
    "ws_config": ws_config,
    "ws_listen_options": ws_listen_options,
}
PER_UNIT = {"seconds": 1000, "minutes": 60_000}  # C has milliseconds
SIZES = {"KiB": 1024, "MiB": 1024 * 1024}


def rows(head: str) -> List[List[str]]:
    """The cells of the table with this head."""
    table = PAGE.split(head)[1].split("\n\n")[0].splitlines()[2:]
    return [[cell.strip(" `") for cell in line.strip("|").split("|")] for line in table]


LIMITS = rows("| setting | of | in C | default |")
CONSTANTS = rows("| constant | in | value |")


def value_of(text: str) -> float:
    """The number that a default stands for, in the unit of the setting."""
    if text == "none":
        return 0
    number, unit = text.split(" ", 1)
    return float(number.replace(",", "")) * SIZES.get(unit, 1)


def default_in_c(struct: Any, field: str) -> int:
    filled = struct()
    assert getattr(lib, f"{struct.__name__}_init")(ctypes.byref(filled), ctypes.sizeof(filled)) == 0
    return int(getattr(filled, field))


@pytest.mark.parametrize(
    ("name", "kind", "struct", "default"), [row[:4] for row in LIMITS], ids=[r[0] for r in LIMITS]
)
def test_a_default(name: str, kind: str, struct: str, default: str) -> None:
    one = SETTINGS[kind][name]
    assert value_of(default) == one.default
    assert default == "none" or default.endswith(("iB", " " + one.unit))
    assert default != "none" or one.default == 0
    assert bool(struct) == bool(one.field)
    if struct:
        in_c = default_in_c(STRUCTS[struct], one.field)
        assert in_c == one.default * PER_UNIT.get(one.unit, 1)


def test_no_limit_is_missing() -> None:
    """Every setting whose name says that it bounds something is in the table."""
    named = {row[0] for row in LIMITS}
    bounding = re.compile(r"max_|.*_timeout$")
    for table in SETTINGS.values():
        limits = {name for name in table if bounding.match(name)}
        assert limits - named == {"ping_timeout"} & limits  # idle_timeout does the same


@pytest.mark.parametrize(
    ("name", "file", "value"), [row[:3] for row in CONSTANTS], ids=[row[0] for row in CONSTANTS]
)
def test_a_constant(name: str, file: str, value: str) -> None:
    source = (ROOT / file).read_text(encoding="utf-8")
    assert re.findall(rf"\b{name} = ([^,}}]+?)\s*[,}}]", source) == [value]
