"""A run: which cases, in which threads, until when, and which failures count.

Cases run side by side, but for those that ask not to: "limits" moves so much data that only few of
them fit into memory at a time, "slow" waits and must not take all the threads, "alone" measures and
comes last, one by one. A run that cannot go on keeps what it has got.
"""

from __future__ import annotations

import ctypes
import json
import queue
import re
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Callable, Iterable, NamedTuple, Protocol, Sequence

from .case import Case, Result, Settings, Verdict, natural, run
from .findings import CLOSE
from .profiles import PROFILES

GRACE = 1.0  # seconds for what runs when a run ends early, besides a timeout; or for the peer
LIMITS = 2  # cases with that tag at a time
CRASHES = 10  # of the server after which a run ends
AFTER = 3.0  # seconds for the server to end after a case that may have brought it down
CRASHED = "the server ended: "
CONFIRMING = 30.0  # seconds in which cases that were late are run again
CONFIRMED = 3  # of them about the same rule that come to the same again
STEADY = (Verdict.OK, Verdict.UNIMPLEMENTED)  # need no second run
AT_FAULT = (Verdict.FAILED, Verdict.NON_STRICT)  # of cases that may have brought a server down
STREAK = 8  # failures in a row after which the peer is asked whether it is still there


# ---- selection ----------------------------------------------------------------------------------


def matches(case: Case, pattern: str) -> bool:
    """A pattern is a glob of ids or of their beginnings (5, 1.1, [1-7]), or @TAG."""
    if pattern.startswith("@"):
        return pattern[1:] in case.tags
    return fnmatchcase(case.id, pattern) or fnmatchcase(case.id, f"{pattern}.*")


def patterns(values: Iterable[str]) -> list[str]:
    """Those of comma lists; a comma between brackets is one of a glob."""
    found = [part.strip() for value in values for part in re.split(r",(?![^\[]*\])", value)]
    return [pattern for pattern in found if pattern]


def select(
    cases: Iterable[Case], include: Sequence[str], exclude: Sequence[str], profile: str = "strict"
) -> list[Case]:
    """Those of the profile, in the natural order of their ids; without `include` all of them.

    ValueError: a pattern fits no case at all, or no case is left.
    """
    cases = sorted(cases, key=lambda case: natural(case.id))
    include, exclude = patterns(include), patterns(exclude)
    for pattern in (*include, *exclude):
        if not any(matches(case, pattern) for case in cases):
            raise ValueError(f"no case fits {pattern!r}")
    chosen = [
        case
        for case in cases
        if PROFILES[profile].holds(case)
        and (not include or any(matches(case, pattern) for pattern in include))
        and not any(matches(case, pattern) for pattern in exclude)
    ]
    if not chosen:
        raise ValueError("no case is left")
    return chosen


# ---- which failures count -----------------------------------------------------------------------


def failing(text: str) -> frozenset[str]:
    """The value of --fail-on: FAILED is always among them, but for "none". ValueError."""
    names = [name.strip().upper().replace("_", "-") for name in text.split(",") if name.strip()]
    if names == ["NONE"]:
        return frozenset()
    known = [verdict.value for verdict in Verdict if verdict != Verdict.OK]
    for name in names:
        if name not in known:
            raise ValueError(f"no verdict to fail on: {name!r}; these are: {', '.join(known)}")
    return frozenset([Verdict.FAILED.value, *names])


class Baseline(NamedTuple):
    """What may fail."""

    known: frozenset[str] = frozenset()
    """Ids of cases, and CLOSE for the closing of any."""
    flaky: frozenset[str] = frozenset()
    """Those of them whose verdict wavers: any is accepted."""


def read_baseline(text: str, fail_on: frozenset[str]) -> Baseline:
    """Of a JSON report, or of a list: an id in each line, and "flaky" after it. ValueError."""
    if not text.lstrip().startswith("{"):
        return listed(text)
    try:
        cases = [case for run in json.loads(text)["runs"] for case in run["cases"]]
        flaky = {case["id"] for case in cases if case.get("flaky")}
        known = flaky | {case["id"] for case in cases if case["verdict"] in fail_on}
        if any(case.get("close") in fail_on for case in cases):
            known.add(CLOSE)
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"neither a JSON report nor a list of ids: {error!r}") from None
    return Baseline(frozenset(known), frozenset(flaky))


def listed(text: str) -> Baseline:
    """A baseline that is a list. ValueError."""
    known, flaky = set(), set()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if words[1:] not in ([], ["flaky"]):
            raise ValueError(f"line {number}: an id, or an id and `flaky`, not {line!r}")
        known.update(words[:1])
        if words[1:]:
            flaky.add(words[0])
    return Baseline(frozenset(known), frozenset(flaky))


def baseline_of(results: Iterable[Result], fail_on: frozenset[str]) -> str:
    """A list of the ids that fail, or do so at times."""
    lines = ["# What is known to fail, by the first word of a line; of a flaky one any verdict."]
    results = list(results)
    for result in results:
        seen = [verdict.value for verdict in result.flaky or [result.verdict]]
        if fail_on.intersection(seen):
            mark = " flaky" if result.flaky else ""
            lines.append(f"{result.case.id}{mark}  # {', '.join(seen)}")
    closes = [result.close.value for result in results if result.close.value in fail_on]
    if closes:
        lines.append(f"{CLOSE}  # {', '.join(sorted(set(closes)))} in {len(closes)} cases")
    return "\n".join(lines) + "\n"


# ---- the threads --------------------------------------------------------------------------------

M_MMAP_THRESHOLD, M_ARENA_MAX = -3, -8  # malloc.h of glibc
LARGE = 128 << 10  # bytes


def return_memory() -> None:
    """Large payloads go back to the system as soon as they are done with. By itself glibc keeps
    them, in a heap for each thread, which together are several times what is in use."""
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another libc
        return
    mallopt(M_MMAP_THRESHOLD, LARGE)
    mallopt(M_ARENA_MAX, 1)


class Pool:
    """Threads that run cases, and a queue of their results."""

    KINDS = ("alone", "limits", "slow")

    def __init__(self, cases: Sequence[Case], settings: Settings, jobs: int) -> None:
        self.settings = settings
        self.results: queue.Queue[Result] = queue.Queue()
        self.caps = {"slow": max(jobs // 2, 1), "limits": LIMITS, "": jobs}
        self.waiting: dict[str, deque[Case]] = {kind: deque() for kind in (*self.caps, "alone")}
        for case in cases:
            self.waiting[self.kind(case)].append(case)
        self.running: list[Case] = []
        self.changed = threading.Condition()
        # Daemons: what a peer does to a case never keeps the program from ending.
        for _ in range(min(jobs, len(cases))):
            threading.Thread(target=self._work, daemon=True).start()

    def kind(self, case: Case) -> str:
        return next((kind for kind in self.KINDS if kind in case.tags), "")

    def stop(self) -> None:
        """Begin no further cases."""
        with self.changed:
            for cases in self.waiting.values():
                cases.clear()
            self.changed.notify_all()

    def ids(self) -> list[str]:
        """What runs now."""
        with self.changed:
            return [case.id for case in self.running]

    def _work(self) -> None:
        while True:
            case = self._take()
            if case is None:
                return
            result = run(case, self.settings)
            self.results.put(result)  # first: a case is always either running or among these
            with self.changed:
                self.running.remove(case)
                self.changed.notify_all()

    def _take(self) -> Case | None:
        """The next case, once one may begin; None when none is left."""
        with self.changed:
            while any(self.waiting.values()):
                case = self._next()
                if case is not None:
                    self.running.append(case)
                    return case
                self.changed.wait()
            return None

    def _next(self) -> Case | None:
        """A case that may begin now. What takes long comes first, so that no long end is left."""
        kinds = [self.kind(case) for case in self.running]
        for kind, cap in self.caps.items():
            if self.waiting[kind] and kinds.count(kind) < cap:
                return self.waiting[kind].popleft()
        if not any(self.waiting[kind] for kind in self.caps) and not self.running:
            return self.waiting["alone"].popleft()
        return None


# ---- a run --------------------------------------------------------------------------------------


class Observer(Protocol):
    """Is told how a run gets on."""

    def add(self, result: Result) -> None:
        """A case is over."""

    def drop(self, result: Result) -> None:
        """This result does not count: the case is run again."""

    def tick(self) -> None:
        """Time has passed."""

    def end(self) -> None:
        """That was all."""


@dataclass
class Outcome:
    """What became of a run."""

    results: list[Result] = field(default_factory=list)
    """In natural order."""
    not_run: list[str] = field(default_factory=list)
    ended: str = ""
    """Why the run ended before its last case."""
    crashes: list[str] = field(default_factory=list)
    """Ends of the server that no case alone brings about, and the cases they may be due to."""
    interrupted: bool = False
    seconds: float = 0.0


class Runner:
    """Runs cases to their end, or to that of the peer, of the time, or of the user's patience.

    A peer that can be started again does not end the run when it dies: the cases that may be to
    blame are run once more, one at a time, and the one that brings it down is FAILED.
    """

    def __init__(
        self,
        settings: Settings,
        jobs: int,
        max_time: float,
        ended: Callable[[float], str],
        gone: Callable[[], str],
        restart: Callable[[], str] | None = None,
        retry: int = 0,
    ) -> None:
        """Two questions to the peer, answered by why the run cannot go on, or by "".

        ended: asked all the time, and cheap; waits so many seconds for it. gone: asked when many
        cases fail. restart: starts it anew; why it could not, or "". retry: how often a case that
        is not OK is run again.
        """
        self.settings = settings
        self.jobs = jobs
        self.max_time = max_time
        self.ended = ended
        self.gone = gone
        self.restart = restart
        self.retry = retry

    def run(self, cases: Sequence[Case], observer: Observer) -> Outcome:
        return_memory()
        self.end = time.monotonic() + (self.max_time or float("inf"))
        began = time.monotonic()
        outcome = Outcome()
        crashes = 0
        left = list(cases)
        try:
            while left and not outcome.ended:
                part = Round(self, left, observer)
                outcome.ended = part.run()
                outcome.results += part.results
                if self.restart and self.ended(0.0):
                    crashes += 1
                    self._recover(part.suspects(), outcome, observer, crashes)
                done = {result.case.id for result in outcome.results}
                left = [case for case in left if case.id not in done]
            if self.jobs > 1:
                self._confirm(outcome, observer)
            for number in range(self.retry):
                self._again(outcome, observer, number + 1)
        except KeyboardInterrupt:
            done = {result.case.id for result in outcome.results}
            outcome.results += [r for r in part.results if r.case.id not in done]
            outcome.ended, outcome.interrupted = "interrupted", True
        outcome.results.sort(key=lambda result: natural(result.case.id))
        done = {result.case.id for result in outcome.results}
        outcome.not_run = [case.id for case in cases if case.id not in done]
        outcome.seconds = time.monotonic() - began
        return outcome

    def _recover(
        self, suspects: Sequence[Case], outcome: Outcome, observer: Observer, crashes: int
    ) -> None:
        """Start the peer anew, and run each suspect alone to see which of them brings it down."""
        how = self.ended(0.0)
        if crashes > CRASHES:
            outcome.ended = f"{how}\nThat was the end number {crashes} of it."
            return
        outcome.ended = self._restarted()
        found = False
        for case in suspects:
            if outcome.ended or time.monotonic() > self.end:
                return
            for result in [r for r in outcome.results if r.case is case]:
                outcome.results.remove(result)
                observer.drop(result)
            result, death = self._alone(case, outcome)
            found = found or bool(death)
            outcome.results.append(result)
            observer.add(result)
        if not found:
            ids = ", ".join(case.id for case in suspects)
            outcome.crashes.append(f"{how}\nThat was during or after {ids}, by none of them alone.")

    def _confirm(self, outcome: Outcome, observer: Observer) -> None:
        """Run what was late once more, alone: a peer may have been busy with the cases beside it.

        Where that comes to the same in a few cases about a rule, the others are believed; and all
        of it takes CONFIRMING seconds at most.
        """
        confirmed: Counter[tuple[str, str]] = Counter()
        end = min(self.end, time.monotonic() + CONFIRMING * self.settings.scale)
        for i, old in enumerate(outcome.results):
            rule = (old.case.section, old.case.quote)
            if not (old.late and is_at_fault(old)) or confirmed[rule] >= CONFIRMED:
                continue
            if outcome.ended or time.monotonic() > end:
                return
            result, _ = self._alone(old.case, outcome, old.verdict)
            if is_vain(result):
                continue
            confirmed[rule] += (result.verdict, result.close) == (old.verdict, old.close)
            observer.drop(old)
            observer.add(result)
            outcome.results[i] = result

    def _again(self, outcome: Outcome, observer: Observer, number: int) -> None:
        """Run each case that is not OK once more, alone; the last verdict counts.

        number: how often all of them have been run before.
        """
        for i, old in enumerate(outcome.results):
            if outcome.ended or old.flaky or old.verdict in STEADY:
                continue
            if time.monotonic() > self.end:
                outcome.ended = f"the run took more than {self.max_time:g} s"
                return
            crashed = old.came.startswith(CRASHED)
            result, death = self._alone(old.case, outcome, None if crashed else old.verdict)
            if is_vain(result):
                if death:  # by a case before this one, too late to be seen there
                    outcome.crashes.append(f"{death}\nThat was before {old.case.id}, run again.")
                outcome.ended = outcome.ended or ("" if death else self.gone())
                continue
            if result.verdict != old.verdict:
                result.flaky = (*[old.verdict] * number, result.verdict)
            observer.drop(old)
            observer.add(result)
            outcome.results[i] = result

    def _alone(
        self, case: Case, outcome: Outcome, before: Verdict | None = None
    ) -> tuple[Result, str]:
        """Run a case with nothing beside it; and how that has ended the peer, or "".

        before: what it came to when it was run before and the peer survived that. When it comes
        to the same again, the end of the peer is not waited for.
        """
        how = self.ended(0.0) if self.restart else ""
        if how:  # by a case before this one, too late to be seen there
            outcome.crashes.append(f"{how}\nThat was before {case.id}, run again.")
            outcome.ended = self._restarted()
        result = run(case, self.settings)
        wait = 0.1 if result.verdict == Verdict.OK else AFTER
        wait = 0.0 if result.verdict == before else wait
        death = self.ended(wait) if self.restart else ""
        if death and not is_vain(result):
            result.verdict, result.came = Verdict.FAILED, f"{CRASHED}{death}"
        if death:
            outcome.ended = self._restarted()
        return result, death

    def _restarted(self) -> str:
        """Why the peer cannot be started anew; empty when it was."""
        assert self.restart
        return self.restart()


class Round:
    """Cases that run side by side, until the last of them or until the run cannot go on."""

    def __init__(self, work: Runner, cases: Sequence[Case], observer: Observer) -> None:
        self.work = work
        self.cases = {case.id: case for case in cases}
        self.observer = observer
        self.results: list[Result] = []
        self.blamed: list[str] = []
        self.pool = Pool(cases, work.settings, work.jobs)

    def run(self) -> str:
        """Why it ended early; empty when all cases were run."""
        interrupted = False
        try:
            reason = self._watch()
        except KeyboardInterrupt:
            interrupted, reason = True, "interrupted"
        self.pool.stop()
        if reason:
            self._collect(interrupted)
        if interrupted:
            raise KeyboardInterrupt
        if reason and self.blamed:
            reason = f"{reason}\nThat was during or after {', '.join(self.blamed)}."
        return reason

    def suspects(self) -> list[Case]:
        """The cases that may be to blame for the end."""
        return [self.cases[id] for id in self.blamed]

    def _watch(self) -> str:
        """Take results until the last, or until the run cannot go on: why not."""
        work, streak, longest = self.work, 0, max(STREAK, self.work.jobs)
        while len(self.results) < len(self.cases):
            reason = work.ended(0.0) or (streak >= longest and work.gone()) or ""
            if reason:
                self.blamed = self._suspects()
                return work.ended(0.0) or reason
            if streak >= longest:
                streak = 0
            if time.monotonic() > work.end:
                return f"the run took more than {work.max_time:g} s"
            self.observer.tick()
            try:
                result = self.pool.results.get(timeout=0.1)
            except queue.Empty:
                continue
            self._add(result)
            streak = streak + 1 if result.verdict != Verdict.OK else 0
        reason = work.ended(AFTER if any(map(is_at_fault, self.results[-work.jobs :])) else 0.0)
        reason = reason or (any(map(is_vain, self.results)) and work.gone()) or ""
        if reason:
            self.blamed = self._suspects()
        return reason

    def _add(self, result: Result) -> None:
        self.results.append(result)
        self.observer.add(result)

    def _suspects(self) -> list[str]:
        """Ids of cases that run, or have just failed. Those that found no server are not to blame;
        there may be many of them before this thread runs."""
        running = self.pool.ids()
        while not self.pool.results.empty():
            self._add(self.pool.results.get())
        ran = [result for result in self.results if not is_vain(result)]
        last = [r.case.id for r in ran[-2 * self.work.jobs :] if is_at_fault(r)]
        done = {result.case.id for result in self.results}
        return sorted({*last, *running} - (done - set(last)), key=natural)[:16]

    def _collect(self, interrupted: bool) -> None:
        """What ends in a moment still counts; but cases that found nobody there did not run."""
        timeout = self.work.settings.timeout * self.work.settings.scale
        end = time.monotonic() + GRACE + (0.0 if interrupted else timeout)
        while len(self.results) < len(self.cases) and (
            self.pool.ids() or not self.pool.results.empty()
        ):
            try:
                self._add(self.pool.results.get(timeout=max(end - time.monotonic(), 0.0)))
            except queue.Empty:
                break
        if not interrupted:
            for result in [r for r in self.results if is_vain(r)]:
                self.results.remove(result)
                self.observer.drop(result)


def is_at_fault(result: Result) -> bool:
    """The peer, or what has become of it."""
    return result.verdict in AT_FAULT or result.close in AT_FAULT


def is_vain(result: Result) -> bool:
    """The case did not get as far as to the peer."""
    return result.verdict == Verdict.SKIPPED and result.came.startswith("cannot connect")
