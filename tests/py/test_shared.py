# SPDX-License-Identifier: MIT
"""tests/py/shared.py: what several processes need is made once."""

from pathlib import Path
from typing import List

import pytest
from shared import NotMade, made_once


def test_it_is_made_once(tmp_path_factory: pytest.TempPathFactory) -> None:
    calls: List[Path] = []

    def make(folder: Path) -> None:
        calls.append(folder)
        (folder / "file").touch()

    name = f"once-{id(calls)}"
    first, second = (made_once(tmp_path_factory, name, make) for _ in range(2))
    assert calls == [first] == [second]
    assert (first / "file").exists()


def test_an_error_is_one_for_all(tmp_path_factory: pytest.TempPathFactory) -> None:
    calls: List[Path] = []

    def fail(folder: Path) -> None:
        calls.append(folder)
        raise ValueError("no such thing")

    name = f"error-{id(calls)}"
    for _ in range(2):
        with pytest.raises(NotMade, match=f"{name}: ValueError: no such thing"):
            made_once(tmp_path_factory, name, fail)
    assert len(calls) == 1


def test_what_was_left_unfinished_is_made_again(tmp_path_factory: pytest.TempPathFactory) -> None:
    name = f"again-{id(tmp_path_factory)}"

    def stop(folder: Path) -> None:
        (folder / "half").touch()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        made_once(tmp_path_factory, name, stop)
    folder = made_once(tmp_path_factory, name, lambda folder: (folder / "whole").touch())
    assert [path.name for path in folder.iterdir()] == ["whole"]
