# SPDX-License-Identifier: MIT
"""tools/conformance calls no server wrong that is right in an unusual way (unusual_server.py).

A run of pytest takes for each manner some of the cases that are most concerned, and some others;
all manners with all cases, in half an hour:

    CONFORMANCE_TRUST=complete python -m pytest tests/py/test_conformance_unusual.py

What is not OK, for one manner or several, to be read:

    python tests/py/test_conformance_unusual.py [--cases PATTERN...] MANNER...
"""

import argparse
import functools
import random
import sys
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from typing import Dict, Iterable, Iterator, List, Set

import pytest
from common import ROOT
from delay_proxy import DelayProxy
from test_conformance_trust import COMPLETE, SERVERS, expand, without
from unusual_manners import UNUSUAL
from unusual_server import UnusualServer

sys.path.insert(0, str(ROOT / "tools"))

from conformance.case import CASES, Manners, Result, Settings, run
from conformance.probe import Unfit, failure_code, learn
from conformance.verdicts import Verdict
from conformance.wire import Target

OF_ABOUT, OF_OTHERS = 40, 15  # cases that are run with each manner
THREADS = 12
TIMEOUT = 2.0  # seconds
SKIPS = {
    "codeless-limits", "failure-ends-tcp", "failure-resets", "few-connections", "limits-end-tcp",
    "one-at-a-time", "refusal-ends-tcp", "sheds-load", "small-messages",
}  # fmt: skip
"""Manners with which cases may be SKIPPED: they need what such a server does not have."""

# Cases that are most concerned.
FAILURES = "3.* 4.3.* 4.5.* 5.9-18 7.3.* 7.5.* 7.9.* D.4.11-20 D.5.61-64 D.7.15-17 D.8.*"
REFUSALS = "H.1.* H.2.* H.3.* H.4.* H.5.* H.6.* H.7.* H.8.* H.13.* P.1.* P.4.* T.1.11-13"
OPENINGS = "1.1.1 2.1-2 7.1.1-6 12.1.1 D.1.* H.0.* H.10.* H.11.* H.12.* S.3.* P.7.* P.8.* T.1.9"
CLOSINGS = "7.1.* 7.3.* 7.5.* 7.7.* 7.9.* T.2.* S.2.19-31"
BODIES = "P.7.* P.9.* P.10.* P.11.* P.12.*"
TERMS = "D.1.* D.2.* D.5.* 12.1.1-4 13.1.1-4 D.6.1-10"
ABOUT: Dict[str, str] = {
    "codeless-failures": FAILURES,
    "codeless-answers": CLOSINGS,
    "codeless-closes": CLOSINGS,
    "answers-1000": CLOSINGS,
    "answers-with-reason": CLOSINGS,
    "echoes-reason": CLOSINGS,
    "other-codes": FAILURES,
    "failure-ends-tcp": FAILURES,
    "failure-resets": FAILURES,
    "ends-by-reset": CLOSINGS,
    "hasty": f"{CLOSINGS} {REFUSALS}",
    "late-end": CLOSINGS,
    "late-close": CLOSINGS,
    "other-code": f"{CLOSINGS} B.1.6 F.2.* T.4.*",
    "refusal-ends-tcp": f"{REFUSALS} {BODIES} D.2.* D.3.*",
    "page-for-others": REFUSALS,
    "ignores-upgrade": REFUSALS,
    "keeps-alive": f"{REFUSALS} {BODIES}",
    "reads-bodies": BODIES,
    "ends-behind-bodies": BODIES,
    "chunked-errors": f"{REFUSALS} P.8.*",
    "errors-to-the-end": f"{REFUSALS} P.8.*",
    "all-400": REFUSALS,
    "lenient-http": "P.10.* P.12.* P.2.* P.3.* P.4.* P.6.* S.1.*",
    "any-key": "H.6.* F.2.7 P.7.* T.4.*",
    "login": f"{OPENINGS} {REFUSALS}",
    "knows-host": "H.3.* H.9.* P.4.*",
    "knows-origin": "H.3.* H.9.* P.4.*",
    "no-query": "H.8.* P.5.*",
    "small-head": "P.5.* H.8.* S.1.*",
    "drops-early": "P.7.* S.3.* 2.22 7.1.17 7.1.23",
    "refuses-early": "P.7.* S.3.* 2.22 7.1.17 7.1.23",
    "interim": f"{OPENINGS} {REFUSALS} {BODIES}",
    "slow-handshake": OPENINGS,
    "small-letters": OPENINGS,
    "many-fields": OPENINGS,
    "any-protocol": "H.11.* H.13.*",
    "no-protocol": "H.11.* H.13.*",
    "no-deflate": TERMS,
    "large-windows": TERMS,
    "forgetful": TERMS,
    "small-windows": TERMS,
    "no-hints": TERMS,
    "never-compresses": TERMS,
    "sometimes-compresses": TERMS,
    "stored-blocks": TERMS,
    "final-blocks": TERMS,
    "many-blocks": TERMS,
    "greets": f"{OPENINGS} {CLOSINGS} T.3.*",
    "greets-twice": f"{OPENINGS} {TERMS} D.6.25 D.11.14 D.12.*",
    "echoes-later": "2.* 5.* 7.1.* S.2.* B.1.9 F.1.*",
    "closes-at-once": "4.* 5.* 7.1.* S.2.* D.5.* T.3.* T.5.*",
    "pongs-late": "2.* 5.6-8 5.19-20 10.* B.1.8-9 F.1.*",
    "closes-behind-message": f"{CLOSINGS} D.6.24 F.1.2 T.5.4",
    "closes-before-pongs": "2.* 5.* 7.1.* S.2.*",
    "newest-pong": "2.* 5.* S.2.* F.1.*",
    "pings": "2.* 5.1-20 7.1.* B.2.* T.3.* D.6.*",
    "pongs": "2.* 4.5.* 5.* 7.1.* B.2.* T.3.* D.6.*",
    "fragments": "1.* 6.2.* 9.1.1 D.6.* D.8.* 12.1.1-9",
    "streams": "3.* 4.1.* 4.2.* 5.* 6.3.* 6.4.* 6.25.* 7.1.* 10.2.* D.4.* F.1.2 S.2.*",
    "whole-frames": "2.15 3.* 4.* 5.* 6.4.* 7.* D.4.*",
    "text-at-the-end": "6.3.* 6.4.*",
    "bytewise": f"{BODIES} {OPENINGS} {CLOSINGS}",
    "batches": f"{OPENINGS} {CLOSINGS}",
    "small-buffers": "9.1.1-4 9.2.1-4 B.* F.* S.4.* T.5.*",
    "small-messages": "9.1.* 9.3.1 B.* S.4.* D.8.*",
    "codeless-limits": "1.1.* 9.1.* 9.3.1 10.1.* B.* S.4.* D.8.*",
    "limits-end-tcp": "1.1.* 9.1.* 9.3.1 10.1.* B.* S.4.* D.8.*",
    "few-fragments": "5.* 9.3.1-2 F.1.*",
    "few-pings": "2.* B.1.8-9 F.1.4-9",
    "one-at-a-time": "P.10.* P.11.* B.1.* F.2.* T.2.12 T.4.* S.1.10",
    "few-connections": "B.1.* F.2.* T.2.12 T.4.*",
    "sheds-load": f"{OPENINGS} {REFUSALS} B.1.* F.2.* T.4.*",
    "far-away": "P.10.* P.11.* 1.1.* 2.* 5.1-20 7.1.* T.* S.1.*",
}


@contextmanager
def served(name: str, patience: float = 1.0) -> Iterator[Target]:
    """A server of that kind."""
    manner = UNUSUAL[name]
    with ExitStack() as stack:
        server = stack.enter_context(UnusualServer(name, patience=patience))
        port = server.port
        if manner.distance:
            port = stack.enter_context(DelayProxy(port, manner.distance)).port
        yield Target("127.0.0.1", port, "/", False, manner.fields)


@functools.lru_cache(maxsize=None)
def learned(name: str) -> Manners:
    """What a run learns ahead of the first case."""
    with served(name, patience=3.0) as target:
        manners = learn(target, 3.0)
        try:
            return replace(manners, failure_code=failure_code(target, 3.0))
        except Unfit:  # no Close tells of a failure
            return manners


def judged(name: str, id: str, patience: float = 1.0) -> Result:
    """Of a case with a server of its own."""
    manners = learned(name)
    with served(name, patience) as target:
        return run(CASES[id], Settings(target, timeout=TIMEOUT, scale=patience, manners=manners))


def is_wrong(name: str, result: Result) -> bool:
    """The case, or its close, is called wrong; or it has no verdict where it should have one."""
    broke = result.came.startswith(("the case raised", "cannot connect"))
    skipped = result.verdict == Verdict.SKIPPED and name not in SKIPS
    return broke or skipped or Verdict.FAILED in (result.verdict, result.close)


def told(result: Result) -> str:
    close = f"; its close: {result.close_came}" if result.close == Verdict.FAILED else ""
    return f"{result.case.id}: {result.verdict.value} ({result.came}){close}"


def results(name: str, ids: Iterable[str]) -> Iterator[Result]:
    """On a busy machine answers may be late: a case that is called wrong is run once or twice more,
    alone and with patience."""
    ids = sorted(ids)
    random.Random(0).shuffle(ids)  # those that wait spread among those that do not
    with ThreadPoolExecutor(THREADS * (8 if UNUSUAL[name].distance else 1)) as pool:
        first = list(pool.map(lambda id: judged(name, id), ids))
    for result in first:
        for patience in (3.0, 6.0):
            if is_wrong(name, result):
                result = judged(name, result.case.id, patience)
        yield result


def wrong(name: str, ids: Iterable[str]) -> List[str]:
    """What is called wrong, in words."""
    return sorted(told(result) for result in results(name, ids) if is_wrong(name, result))


def chosen(name: str) -> Set[str]:
    """Cases to be run; always the same."""
    if COMPLETE:
        return set(SERVERS)
    about = {id for pattern in ABOUT[name].split() for id in expand(pattern)}
    generator = random.Random(name)
    ids: Set[str] = set()
    for count, kind in ((OF_ABOUT, about), (OF_OTHERS, set(SERVERS) - about)):
        some = without(without(sorted(kind), "limits"), "slow")
        ids |= set(generator.sample(some, min(count, len(some))))
    return ids


@pytest.mark.timeout(1800 if COMPLETE else 180)
@pytest.mark.parametrize("name", UNUSUAL)
def test_no_case_is_failed(name: str) -> None:
    assert wrong(name, chosen(name)) == []


def test_manners_are_about_cases() -> None:
    assert set(ABOUT) == set(UNUSUAL)
    assert [name for name in UNUSUAL if len(chosen(name)) < OF_OTHERS + 5] == []


# ---- reading ------------------------------------------------------------------------------------


def main(names: List[str], patterns: List[str]) -> None:
    ids = [id for pattern in patterns for id in expand(pattern)] or list(SERVERS)
    for name in names or UNUSUAL:
        print(f"== {name}: {UNUSUAL[name].told}")
        for result in results(name, ids):
            if result.verdict != Verdict.OK or result.close == Verdict.FAILED:
                print(told(result), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Tell what is not OK.")
    parser.add_argument("--cases", action="append", default=[], metavar="PATTERN")
    parser.add_argument("names", nargs="*", metavar="MANNER")
    options = parser.parse_args()
    main(options.names, options.cases)
