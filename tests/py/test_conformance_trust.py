# SPDX-License-Identifier: MIT
"""tools/conformance can be trusted: a server without faults passes every case, and one that is
broken in one place fails exactly the cases about it (broken_server.py, broken_switches.txt).

A run of pytest takes for each switch some of the cases that it fails, and some of the others; every
case is among the failing ones of at least one switch. All switches with all cases, in some minutes:

    CONFORMANCE_TRUST=complete python -m pytest tests/py/test_conformance_trust.py

After a change of cases or switches: what they come to, written as the table, to be read and judged.

    python tests/py/test_conformance_trust.py [--cases PATTERN...] [SWITCH...]
"""

import argparse
import functools
import os
import random
import re
import sys
import textwrap
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Dict, Iterable, List, Mapping, Sequence, Set, Tuple

import pytest
from broken_server import Server
from broken_switches import LIMITS, SWITCHES
from common import ROOT

sys.path.insert(0, str(ROOT / "tools"))

from conformance import cases
from conformance.case import CASES, MAY, Result, Settings, natural, run
from conformance.wire import Target

assert cases  # its import registers them

SERVERS = [id for id, case in CASES.items() if "client" not in case.tags]
"""The cases for servers; those for clients are in test_conformance_clients.py."""
TABLE = Path(__file__).with_name("broken_switches.txt")
TABLE_ZLIB = "1.2.13"
"""With which the table was made, see `is_by_chance`."""
COMPLETE = os.environ.get("CONFORMANCE_TRUST") == "complete"
THREADS = 16
OF_ROW, OF_NEAR, OF_FAR = 4, 4, 2  # cases that are run with each switch
BAD = ("FAILED", "NON-STRICT")
FINE = ""
SAME = "as"

Verdicts = Dict[str, str]
"""By id: FAILED or NON-STRICT; other cases are not there."""
Job = Tuple[str, str]
"""A switch ("": none) and the id of a case."""

# Cases that no server can fail, and why. All are MAY: what comes is told, as INFORMATIONAL.
NEVER_FAILED = {
    "7.1.17": "the client breaks a rule itself when it sends ahead of the response",
    "7.1.23": "whether messages ahead of the end of TCP are answered is the server's affair",
    "7.13.*": "the RFC says nothing of codes from 5000 on",
    "H.3.8-11": "a server may know its names, and refuse others",
    "H.5.14": "Connection: close beside Upgrade has no defined meaning",
    "H.9.*": "a server may know its origins, and refuse others, or serve browsers only",
    "H.10.11": "nothing says how many connections a server has to open at once",
    "H.13.22-23": "that a list of subprotocols is not empty, and unique, binds clients",
    "H.27.4": "what Connection lists is for the next hop, and that is the server",
    "P.1.18-19": "a Content-Length of 0 may be taken as what it is, or as a body",
    "P.4.27-28": "a server may know its names, and schemes, and refuse others",
    "P.5.2-4": "a server may have limits",
    "P.11.5": "a server may ignore expectations that it does not know",
    "P.12.25": "how long extensions of a chunk may be is the server's affair",
    "T.1.1-3": "a server may wait for a request as long as it likes",
    "T.2.11": "a server may take what comes behind the closing handshake as long as it likes",
}

# What limits and liberties make of which cases. With them, too, no case is FAILED or NON-STRICT.
LIMITED = {
    "pings-end-tcp": ["2.16", "B.1.8", "F.1.4-5", "F.1.9"],
    "fragments-16384": ["9.3.1", "9.4.1", "9.9.1"],
    "deflate-blocks-as-1009": ["D.11.11"],
    "deflate-larger-client-bits": ["D.1.48-54", "D.1.62", "D.1.72"],
}

# ---- the table ----------------------------------------------------------------------------------


def parts(id: str) -> Tuple[str, str]:
    """All but the last number of an id, and that."""
    prefix, _, last = id.rpartition(".")
    return prefix, last


@functools.lru_cache(maxsize=None)
def siblings(prefix: str) -> List[str]:
    """The last numbers of the cases that begin with this, in order."""
    ids = sorted((id for id in CASES if parts(id)[0] == prefix), key=natural)
    return [parts(id)[1] for id in ids]


def expand(pattern: str) -> List[str]:
    """`P.*`: all below P. `P.1,3-5`: these and those between. `P.*!3`: all P.N but 3.

    ValueError when there is no such case.
    """
    if pattern.endswith(".*"):
        ids = [id for id in CASES if id.startswith(pattern[:-1])]
    else:
        prefix, last = parts(pattern)
        every, but = siblings(prefix), last.startswith("*!")
        named = {n for word in last.lstrip("*!").split(",") for n in numbers(word, every)}
        ids = [f"{prefix}.{n}" for n in every if (n in named) != but]
    if not ids:
        raise ValueError(f"no case fits {pattern}")
    return ids


def numbers(word: str, every: Sequence[str]) -> Sequence[str]:
    """`3`, or `3-5`: those from 3 to 5 that there are. ValueError."""
    first, _, last = word.partition("-")
    return every[every.index(first) : every.index(last or first) + 1]


def compact(ids: Iterable[str]) -> List[str]:
    """Patterns that `expand` to these."""
    chosen, patterns = set(ids), []
    groups = sorted({id.split(".")[0] for id in chosen}, key=natural)
    for group in groups:
        whole = [id for id in CASES if id.startswith(f"{group}.")]
        if len(whole) > 1 and chosen.issuperset(whole):
            patterns.append(f"{group}.*")
            continue
        prefixes = {parts(id)[0] for id in chosen if id.startswith(f"{group}.")}
        patterns += [compact_one(prefix, chosen) for prefix in sorted(prefixes, key=natural)]
    return patterns


def compact_one(prefix: str, chosen: Set[str]) -> str:
    every = siblings(prefix)
    missing = [n for n in every if f"{prefix}.{n}" not in chosen]
    if not missing:
        return f"{prefix}.*" if len(every) > 1 else f"{prefix}.{every[0]}"
    named = ranges([n for n in every if n not in missing], every)
    others = ranges(missing, every)
    return f"{prefix}.{named}" if len(named) < len(others) + 24 else f"{prefix}.*!{others}"


def ranges(some: Sequence[str], every: Sequence[str]) -> str:
    words: List[List[str]] = []
    for n in some:
        if words and every.index(n) == every.index(words[-1][-1]) + 1:
            words[-1].append(n)
        else:
            words.append([n])
    return ",".join(run[0] if len(run) == 1 else f"{run[0]}-{run[-1]}" for run in words)


def read_table(text: str) -> Dict[str, Verdicts]:
    """ValueError when something in it does not exist, or is there twice."""
    table: Dict[str, Verdicts] = {}
    row: Verdicts = {}
    verdict = ""
    for word in re.sub(r"(?m)^#.*$", "", text).split():
        if word.endswith(":"):
            if word[:-1] in table:
                raise ValueError(f"{word} is there twice")
            row = table[word[:-1]] = {}
        elif word in (*BAD, SAME):
            verdict = word
        elif verdict == SAME:
            row.update(table[word])
        else:
            row.update(dict.fromkeys(expand(word), verdict))
    return table


def write_table(table: Mapping[str, Verdicts]) -> str:
    """Below the comment that is there."""
    text = "".join(re.findall(r"(?m)^#.*\n", TABLE.read_text())) + "\n"
    written: Dict[str, str] = {}
    for name in SWITCHES:
        row = row_of(table[name])
        same = written.setdefault(row, name) if len(row) > 200 else name
        text += wrapped(f"{name}: {row if same == name else f'{SAME} {same}'}")
    return text


def row_of(verdicts: Verdicts) -> str:
    """In one line."""
    words = []
    for verdict in BAD:
        patterns = compact(id for id, got in verdicts.items() if got == verdict)
        words += [verdict, *patterns] if patterns else []
    return " ".join(words)


def wrapped(line: str) -> str:
    """Cut at blanks only."""
    wrapper = textwrap.TextWrapper(98, subsequent_indent="    ", break_on_hyphens=False)
    return wrapper.fill(line) + "\n"


# ---- runs ---------------------------------------------------------------------------------------


def judged(job: Job, patience: float = 1.0) -> Result:
    """Of a case with a server of its own: some switches make connections fail each other."""
    switch, id = job
    with Server([switch] if switch else [], patience=patience) as server:
        target = Target("127.0.0.1", server.port, "/", False)
        return run(CASES[id], Settings(target, timeout=1.0, scale=patience))


def judged_twice(job: Job) -> Result:
    """The same; where it took long, on a busy machine perhaps too long, once more with patience."""
    result = judged(job)
    return judged(job, patience=3.0) if result.seconds > 0.5 and verdict_of(result) else result


def verdict_of(result: Result) -> str:
    return result.verdict.value if result.verdict.value in BAD else FINE


def differing(jobs: Iterable[Job], table: Mapping[str, Verdicts]) -> List[str]:
    """What does not come to what the table says, in words. Late answers on a busy machine are no
    differences: such cases are run once or twice more, alone and with patience."""
    jobs = list(jobs)
    random.Random(0).shuffle(jobs)  # those that wait spread among those that do not
    with ThreadPoolExecutor(THREADS) as pool:
        results = list(pool.map(judged, jobs))
    differences = []
    for job, result in zip(jobs, results):
        wanted = table.get(job[0], {}).get(job[1], FINE)
        for patience in (3.0, 6.0):
            if verdict_of(result) != wanted:
                result = judged(job, patience)
        if verdict_of(result) != wanted or result.came.startswith("the case raised"):
            told = f"{result.verdict.value} ({result.came})"
            differences.append(
                f"{job[0] or 'no switch'}, case {job[1]}: {told}, not {wanted or 'fine'}"
            )
    return sorted(differences)


def without(ids: Iterable[str], tag: str) -> List[str]:
    return [id for id in ids if tag not in CASES[id].tags]


def owners(table: Mapping[str, Verdicts]) -> Set[Job]:
    """Each case with the switch that fails it and the fewest others."""
    jobs: Dict[str, Job] = {}
    for switch in sorted(table, key=lambda switch: len(table[switch])):
        for id in table[switch]:
            jobs.setdefault(id, (switch, id))
    return set(jobs.values())


def is_race(job: Job) -> bool:
    """Whether the verdict depends on time: what one side does not read for a while may be just as
    much as the kernel keeps."""
    switch, id = job
    certain = ("B.1.10", "B.2.1", "B.2.2")
    return switch == "unwritten-cut" and id.startswith("B.") and id not in certain


def is_by_chance(job: Job, table: Mapping[str, Verdicts]) -> bool:
    """Whether the verdict depends on where this very zlib makes references: with a window that is
    too short, or by the frame, only some messages of a series in groups 12 and 13 fail."""
    switch, id = job
    prefix = parts(id)[0]
    verdicts = {table[switch].get(f"{prefix}.{n}", FINE) for n in siblings(prefix)}
    return CASES[id].group in ("12", "13") and len(verdicts) > 1


def chosen(table: Mapping[str, Verdicts]) -> Set[Job]:
    """What is run; always the same."""
    jobs = {(switch, id) for switch in table for id in SERVERS} if COMPLETE else sampled(table)
    jobs = {job for job in jobs if not is_race(job)}
    if zlib.ZLIB_RUNTIME_VERSION == TABLE_ZLIB:
        return jobs
    return {job for job in jobs if not is_by_chance(job, table)}


def sampled(table: Mapping[str, Verdicts]) -> Set[Job]:
    """Always the same: each case with its owner; of each row some cases, some of the other cases
    next to those, and some from far away, none with large amounts of data or long waits."""
    jobs = owners(table)
    for switch, row in table.items():
        generator = random.Random(switch)
        near = {
            f"{prefix}.{n}" for prefix in {parts(id)[0] for id in row} for n in siblings(prefix)
        }
        kinds = ((OF_ROW, set(row)), (OF_NEAR, near - set(row)), (OF_FAR, set(SERVERS) - near))
        for count, kind in kinds:
            some = without(without(sorted(kind), "limits"), "slow")
            jobs |= {(switch, id) for id in generator.sample(some, min(count, len(some)))}
    return jobs


# ---- tests --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def table() -> Dict[str, Verdicts]:
    return read_table(TABLE.read_text())


def test_there_is_a_row_for_every_switch(table: Dict[str, Verdicts]) -> None:
    assert list(table) == list(SWITCHES)
    assert len(table) >= 60
    assert [switch for switch, row in table.items() if not row] == ["tcp-left-open"]


def test_an_open_connection_is_a_matter_of_the_close_verdict() -> None:
    """What that switch breaks is the subject of no case: TCP stays open behind a reason."""
    reasons = dict.fromkeys(("7.3.4", "7.3.5", "7.3.7", "7.3.8", "7.3.11"), "FAILED")
    others = dict.fromkeys(("7.1.1", "7.3.1", "7.3.3", "7.7.1", "T.2.1"), "OK")
    ids = [*reasons, *others]
    results = [judged(("tcp-left-open", id), patience=3.0) for id in ids]
    assert {r.case.id: r.close.value for r in results} == {**reasons, **others}
    assert {r.verdict.value for r in results} == {"OK"}


def test_the_table_is_written_as_it_is_read(table: Dict[str, Verdicts]) -> None:
    assert read_table(write_table(table)) == table


@pytest.mark.timeout(3600 if COMPLETE else 180)
def test_without_a_switch_nothing_fails() -> None:
    ids = SERVERS if COMPLETE else without(SERVERS, "limits")
    assert differing([("", id) for id in ids], {}) == []


@pytest.mark.timeout(6 * 3600 if COMPLETE else 180)
def test_each_switch_fails_the_cases_of_its_row(table: Dict[str, Verdicts]) -> None:
    assert differing(chosen(table), table) == []


def test_every_case_is_failed_by_a_switch(table: Dict[str, Verdicts]) -> None:
    failed = {id for row in table.values() for id in row}
    never = {id for pattern in NEVER_FAILED for id in expand(pattern)}
    assert compact(set(SERVERS) - failed) == compact(never)
    assert [id for id in never if CASES[id].level != MAY] == []


@pytest.mark.timeout(3600 if COMPLETE else 180)
@pytest.mark.parametrize("limit", LIMITS)
def test_limits_are_told(limit: str) -> None:
    ids = {id for pattern in LIMITED[limit] for id in expand(pattern)}
    others = set(SERVERS) - ids if COMPLETE else set()
    told = {id: judged((limit, id), patience=3.0).verdict.value for id in sorted(ids)}
    assert told == dict.fromkeys(sorted(ids), "INFORMATIONAL")
    assert differing([(limit, id) for id in others], {}) == []


# ---- writing ------------------------------------------------------------------------------------


def main(switches: Sequence[str], patterns: Sequence[str]) -> None:
    """Run these switches with these cases, or with all, and write what has become of their rows."""
    table = read_table(TABLE.read_text()) if TABLE.exists() else {}
    ids = [id for pattern in patterns for id in expand(pattern)] or SERVERS
    for switch in switches or SWITCHES:
        with ThreadPoolExecutor(THREADS) as pool:
            results = list(pool.map(judged_twice, [(switch, id) for id in ids]))
        row = {id: verdict for id, verdict in table.get(switch, {}).items() if id not in ids}
        for result in results:
            if result.verdict.value in BAD and not is_race((switch, result.case.id)):
                row[result.case.id] = result.verdict.value
        table[switch] = row
        print(wrapped(f"{switch}: {row_of(table[switch])}"), end="", flush=True)
    TABLE.write_text(write_table({name: table.get(name, {}) for name in SWITCHES}))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Write rows of the table.")
    parser.add_argument("--cases", action="append", default=[], metavar="PATTERN")
    parser.add_argument("switches", nargs="*", metavar="SWITCH")
    options = parser.parse_args()
    main(options.switches, options.cases)
