# SPDX-License-Identifier: MIT
"""What .ci/run uses: which tests were skipped, and where, and which are left out."""

import subprocess
import sys
from pathlib import Path
from typing import Dict, List

import pytest
from builds import has_programs
from common import ROOT

CASE = '<testcase classname="{}" name="{}">{}</testcase>'
SKIPPED = '<skipped type="pytest.skip" message="no node here"/>'
HERE = "tests.py.test_ci"


def report(path: Path, cases: Dict[str, str]) -> str:
    """A JUnit file with tests of this module."""
    lines = [CASE.format(HERE, name, result) for name, result in cases.items()]
    path.write_text(f"<testsuites><testsuite>{''.join(lines)}</testsuite></testsuites>")
    return str(path)


def listed(*arguments: str) -> List[str]:
    done = subprocess.run(
        [sys.executable, str(ROOT / ".ci" / "skipped.py"), *arguments],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    return done.stdout.splitlines()


def test_what_was_skipped_in_every_run(tmp_path: Path) -> None:
    skips = {"test_a": SKIPPED, "test_b[1.5]": SKIPPED}
    first = report(tmp_path / "first.xml", {**skips, "test_c": ""})
    second = report(tmp_path / "second.xml", {"test_a": "", "test_c": SKIPPED})
    third = report(tmp_path / "third.xml", {"test_a": "<failure/>"})
    both = ["tests/py/test_ci.py::test_a", "tests/py/test_ci.py::test_b[1.5]"]
    assert listed(first) == both
    assert listed(first, second) == listed(first, third) == both[1:]
    assert listed("--reasons", first, second) == [f"{both[1]}: no node here"]


@pytest.mark.parametrize(
    ("place", "name", "want"),
    [
        (f"{HERE}.TestX", "test_a", "tests/py/test_ci.py::TestX::test_a"),
        ("", HERE, "tests/py/test_ci.py"),
        ("tests.py.test_gone", "test_a", "no file has the test test_a of tests.py.test_gone"),
    ],
)
def test_how_it_names_tests(tmp_path: Path, place: str, name: str, want: str) -> None:
    path = tmp_path / "report.xml"
    path.write_text(f"<testsuites>{CASE.format(place, name, SKIPPED)}</testsuites>")
    assert listed(str(path)) == [want]


LEAVE_OUT = """
source <(sed -n '/^leave_out()/,/^}/p' .ci/run)
leave_out options "$@"
echo "${options[@]}"
"""


@pytest.mark.skipif(not has_programs("bash"), reason="needs bash")
@pytest.mark.parametrize(
    ("place", "code", "want"),
    [
        ("tests/py/test_ci.py", 0, "--ignore tests/py/test_ci.py"),
        ("tests/py/test_c.py", 1, "there is no file tests/py/test_c.py"),
        ("tests/py/test_ci.py::", 1, "there is no file tests/py/test_ci.py::"),
        ("tests/py/test_ci.py::test_x", 1, "there is no file tests/py/test_ci.py::test_x"),
        ("tests/py", 1, "there is no file tests/py"),
        ("", 1, "there is no file"),
    ],
)
def test_only_a_file_can_be_left_out(place: str, code: int, want: str) -> None:
    done = subprocess.run(
        ["bash", "-c", LEAVE_OUT, "leave_out", place],
        cwd=str(ROOT),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.strip()) == (code, want)
