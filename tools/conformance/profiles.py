# SPDX-License-Identifier: MIT
"""Named sets of cases (--profile) and their purposes."""

from __future__ import annotations

from fnmatch import fnmatchcase
from typing import Callable, NamedTuple

from .case import Case

# The number of cases that the Autobahn suite has with each prefix.
AUTOBAHN = {
    "1.1": 8, "1.2": 8, "2": 11, "3": 7, "4.1": 5, "4.2": 5, "5": 20,
    "6.1": 3, "6.2": 4, "6.3": 2, "6.4": 4, "6.5": 5, "6.6": 11, "6.7": 4, "6.8": 2,
    "6.9": 4, "6.10": 3, "6.11": 5, "6.12": 8, "6.13": 5, "6.14": 10, "6.15": 1, "6.16": 3,
    "6.17": 5, "6.18": 5, "6.19": 5, "6.20": 7, "6.21": 8, "6.22": 34, "6.23": 7,
    "7.1": 6, "7.3": 6, "7.5": 1, "7.7": 13, "7.9": 9, "7.13": 2,
    "9.1": 6, "9.2": 6, "9.3": 9, "9.4": 9, "9.5": 6, "9.6": 6, "9.7": 6, "9.8": 6,
    "10.1": 1, "12.1": 18, "12.2": 18, "12.3": 18, "12.4": 18, "12.5": 18,
    "13.1": 18, "13.2": 18, "13.3": 18, "13.4": 18, "13.5": 18, "13.6": 18, "13.7": 18,
}  # fmt: skip

# Globs of ids. The cases left out need a client that breaks a rule, or are edges that ordinary
# clients never reach: reserved bits and opcodes, malformed HTTP, handshakes that must be refused,
# floods, and compressed data that no compressor produces.
CORE = (
    *("1.*", "2.*", "5.*", "6.*", "7.*", "9.*", "10.*", "12.*", "13.*", "B.*"),
    *("C.1.*", "C.2.*", "C.3.*", "C.9.[78]"),
    *("D.1.*", "D.6.*", "D.7.*", "D.12.*", "F.2.*"),
    *("H.0.*", "H.4.[12]", "H.5.[1-7]", "H.8.[456]", "H.9.*", "H.10.*", "H.11.*", "H.12.*"),
    *("P.5.*", "S.1.*", "S.2.*", "S.4.*", "T.3.*", "T.4.*", "T.5.*"),
)


class Profile(NamedTuple):
    holds: Callable[[Case], bool]
    purpose: str


def is_core(case: Case) -> bool:
    return any(fnmatchcase(case.id, pattern) for pattern in CORE)


def is_autobahn(case: Case) -> bool:
    start, _, last = case.id.rpartition(".")
    return last.isdecimal() and int(last) <= AUTOBAHN.get(start, 0)


PROFILES = {
    "core": Profile(is_core, "what ordinary users of a server depend on"),
    "strict": Profile(lambda case: True, "all cases"),
    "autobahn": Profile(is_autobahn, "the cases that the Autobahn suite has under the same ids"),
}
