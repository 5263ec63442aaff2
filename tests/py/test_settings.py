# SPDX-License-Identifier: MIT
"""The table of settings, and all that must say the same."""

import dataclasses
import os
import subprocess
import sys
from typing import Any, Tuple

import pytest
from common import ROOT

from pyws import AppListenOptions, AppOptions
from pyws._core.settings import ROUTE_SETTINGS, Behavior, Setting
from pyws._native import lib, ws_behavior, ws_config, ws_listen_options
from pyws.options import APP_SETTINGS, LISTEN_SETTINGS

TABLES: Tuple[Any, ...] = (
    (AppOptions, APP_SETTINGS, ws_config),
    (AppListenOptions, LISTEN_SETTINGS, ws_listen_options),
    (Behavior, ROUTE_SETTINGS, ws_behavior),
)
ALL = [(kind, one, struct) for kind, table, struct in TABLES for one in table]


@pytest.mark.parametrize(("kind", "one", "struct"), ALL, ids=[one.name for _, one, _ in ALL])
def test_a_setting_is_complete(kind: Any, one: Setting, struct: Any) -> None:
    """Its default passes its check, C has its field, and there is one sentence about it."""
    if one.default is not None:
        assert one.check(one.name, one.default) == one.default
    else:
        assert one.may_be_none
    assert not one.field or one.field in dict(struct._fields_)
    assert one.text and not one.text.endswith(".")
    assert isinstance(one.default, (int, float)) <= bool(
        one.unit or "bool" in one.type or one.field
    )


@pytest.mark.parametrize(("kind", "table", "struct"), TABLES)
def test_every_field_of_a_class_is_a_setting(kind: Any, table: Any, struct: Any) -> None:
    assert [field.name for field in dataclasses.fields(kind)] == [one.name for one in table]
    for one in table:
        assert getattr(kind, one.name) == one.default


# What C has, and Python does not hand on as a setting of that name.
NOT_SETTINGS = {
    "size", "allocator", "user", "clock", "log", "before_wait", "after_wait", "recv_buffer_size",
    "origin_optional", "tls", "wall_clock", "random", "cork_size", "log_refusals", "user_is_place",
}  # fmt: skip


@pytest.mark.parametrize(("kind", "table", "struct"), TABLES)
def test_every_field_of_c_is_a_setting(kind: Any, table: Any, struct: Any) -> None:
    names = {name for name, _ in struct._fields_ if not name.startswith("on_")}
    assert names - NOT_SETTINGS == {one.field for one in table if one.field}


def test_page_and_docstring_say_what_the_table_says() -> None:
    command = [sys.executable, str(ROOT / "tools" / "settings_page.py"), "--check"]
    environment = {**os.environ, "PYWS_LIBRARY": lib.path}
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment)
    assert (done.stdout, done.stderr, done.returncode) == ("", "", 0)
