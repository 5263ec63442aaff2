# SPDX-License-Identifier: MIT
"""Print the tests that were skipped in every run that knows them, as pytest takes their names.

    python3 .ci/skipped.py [--reasons] REPORT...

Each REPORT is a JUnit file of pytest. With --reasons, each name is followed by why.
"""

from __future__ import annotations

import argparse
import sys
import xml.etree.ElementTree as xml
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]


def name_of(case: xml.Element) -> str:
    """The test `test_c` of `tests.py.test_a.TestB` is tests/py/test_a.py::TestB::test_c."""
    place, test = case.get("classname", ""), case.get("name", "")
    parts = (place or test).split(".")  # a module that is skipped as a whole has no place
    for count in range(len(parts), 0, -1):
        file = Path(*parts[:count]).with_suffix(".py")
        if (ROOT / file).is_file():
            return "::".join([str(file), *parts[count:], *([test] if place else [])])
    sys.exit(f"no file has the test {test} of {place}")


def skipped(reports: list[str]) -> dict[str, str]:
    """The tests, each with the reason."""
    reasons: dict[str, str] = {}
    ran: set[str] = set()
    for report in reports:
        for case in xml.parse(report).iter("testcase"):
            why = case.find("skipped")
            if why is None:
                ran.add(name_of(case))
            else:
                reasons[name_of(case)] = why.get("message", "")
    return {name: reason for name, reason in reasons.items() if name not in ran}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--reasons", action="store_true", help="print why, too")
    parser.add_argument("reports", nargs="+", metavar="REPORT")
    args = parser.parse_args()
    for name, reason in sorted(skipped(args.reports).items()):
        print(f"{name}: {reason}" if args.reasons else name)


if __name__ == "__main__":
    main()
