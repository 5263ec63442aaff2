# SPDX-License-Identifier: MIT
"""A run: the selection of cases, their threads, the end of the run, and which failures count.

Cases run concurrently, with three exceptions. Cases tagged "limits" move so much data that only a
few of them fit into memory at a time. Cases tagged "slow" wait, and must not occupy all threads.
Cases tagged "alone" measure, and run last, one at a time. A run that cannot continue keeps its
results so far.
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

from .case import Case, Result, Settings, natural, run
from .findings import CLOSE, shape
from .profiles import PROFILES
from .verdicts import Verdict

GRACE = 1.0  # seconds besides a timeout for running cases when a run ends early
LIMITS = 2  # concurrent cases with that tag
CRASHES = 10  # after which a run ends
AFTER = 3.0  # seconds for the server to exit after a case that may have crashed it
LATER = 1.0  # seconds for the server to exit after any other case
RECENT = 2.0  # seconds before a crash, in which the case that caused it may have ended
SEARCHING = 30.0  # seconds for finding that case
NAMED = 40  # cases that a report names for a crash
CRASHED = "the server ended: "
NO_PEER = "cannot connect"
CONFIRMING = 60.0  # seconds for repeating cases that timed out and do so again
CONFIRMED = 3  # repeated cases about the same rule that must have the same result
STEADY = (Verdict.OK, Verdict.UNIMPLEMENTED)  # need no second run
AT_FAULT = (Verdict.FAILED, Verdict.NON_STRICT)  # verdicts of cases that may have crashed a server
STREAK = 8  # consecutive failures after which the peer is probed


# ---- selection ----------------------------------------------------------------------------------


def matches(case: Case, pattern: str) -> bool:
    """Match a glob of ids or of their prefixes (5, 1.1, [1-7]), or a @TAG."""
    if pattern.startswith("@"):
        return pattern[1:] in case.tags
    return fnmatchcase(case.id, pattern) or fnmatchcase(case.id, f"{pattern}.*")


def patterns(values: Iterable[str]) -> list[str]:
    """Split comma-separated lists; a comma in brackets is part of a glob."""
    found = [part.strip() for value in values for part in re.split(r",(?![^\[]*\])", value)]
    return [pattern for pattern in found if pattern]


def select(
    cases: Iterable[Case], include: Sequence[str], exclude: Sequence[str], profile: str = "strict"
) -> list[Case]:
    """Return the selected cases of the profile in natural order; all if `include` is empty.

    Raises ValueError if a pattern matches no case, or if no case is left.
    """
    cases = sorted(cases, key=lambda case: natural(case.id))
    include, exclude = patterns(include), patterns(exclude)
    for pattern in (*include, *exclude):
        if not any(matches(case, pattern) for case in cases):
            raise ValueError(f"no case matches {pattern!r}")
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


# ---- failures that count ------------------------------------------------------------------------


def failing(text: str) -> frozenset[str]:
    """Parse the value of --fail-on, which includes FAILED unless it is "none".

    Raises ValueError for an unknown result.
    """
    names = [name.strip().upper().replace("_", "-") for name in text.split(",") if name.strip()]
    if names == ["NONE"]:
        return frozenset()
    known = [verdict.value for verdict in Verdict if verdict != Verdict.OK]
    for name in names:
        if name not in known:
            raise ValueError(f"unknown result {name!r}, must be one of {', '.join(known)}")
    return frozenset([Verdict.FAILED.value, *names])


class Baseline(NamedTuple):
    """The cases that may fail."""

    known: frozenset[str] = frozenset()
    """Ids of cases, and CLOSE for the closing of any."""
    flaky: frozenset[str] = frozenset()
    """The ids for which any verdict is accepted."""


def read_baseline(text: str, fail_on: frozenset[str]) -> Baseline:
    """Read a JSON report or a list with one id, or an id and "flaky", in each line.

    Raises ValueError if it is neither.
    """
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
    """Read a baseline that is a list, or raise ValueError for an invalid line."""
    known, flaky = set(), set()
    for number, line in enumerate(text.splitlines(), 1):
        words = line.split("#")[0].split()
        if words[1:] not in ([], ["flaky"]):
            raise ValueError(f"line {number}: must be an id, or an id and `flaky`, not {line!r}")
        known.update(words[:1])
        if words[1:]:
            flaky.add(words[0])
    return Baseline(frozenset(known), frozenset(flaky))


def baseline_of(results: Iterable[Result], fail_on: frozenset[str]) -> str:
    """Return a list of the ids that fail always or sometimes."""
    lines = ["# Known failures: the first word of each line. `flaky` accepts any result."]
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
    """Make glibc return large payloads to the system as soon as they are freed.

    By default it keeps them in one heap per thread, several times as much as is in use.
    """
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
        # Daemon threads: whatever a peer does to a case, the program can exit.
        for _ in range(min(jobs, len(cases))):
            threading.Thread(target=self._work, daemon=True).start()

    def kind(self, case: Case) -> str:
        return next((kind for kind in self.KINDS if kind in case.tags), "")

    def stop(self) -> None:
        """Start no further cases."""
        with self.changed:
            for cases in self.waiting.values():
                cases.clear()
            self.changed.notify_all()

    def ids(self) -> list[str]:
        """Return the ids of the running cases."""
        with self.changed:
            return [case.id for case in self.running]

    def _work(self) -> None:
        while True:
            case = self._take()
            if case is None:
                return
            result = run(case, self.settings)
            self.results.put(result)  # first, so that a case is always running or in the queue
            with self.changed:
                self.running.remove(case)
                self.changed.notify_all()

    def _take(self) -> Case | None:
        """Wait for a case that may start, and return it; None if no case is left."""
        with self.changed:
            while any(self.waiting.values()):
                case = self._next()
                if case is not None:
                    self.running.append(case)
                    return case
                self.changed.wait()
            return None

    def _next(self) -> Case | None:
        """Return a case that may start now, long ones first, so that the run does not end late."""
        kinds = [self.kind(case) for case in self.running]
        for kind, cap in self.caps.items():
            if self.waiting[kind] and kinds.count(kind) < cap:
                return self.waiting[kind].popleft()
        if not any(self.waiting[kind] for kind in self.caps) and not self.running:
            return self.waiting["alone"].popleft()
        return None


# ---- a run --------------------------------------------------------------------------------------


class Observer(Protocol):
    """Receives the progress of a run."""

    def add(self, result: Result) -> None:
        """A case has finished."""

    def drop(self, result: Result) -> None:
        """A result no longer counts, because the case is run again."""

    def tick(self) -> None:
        """Time has passed."""

    def end(self) -> None:
        """The run has ended."""


@dataclass
class Outcome:
    """The outcome of a run."""

    results: list[Result] = field(default_factory=list)
    """The results in natural order of the ids."""
    not_run: list[str] = field(default_factory=list)
    ended: str = ""
    """Why the run ended before its last case."""
    crashes: list[str] = field(default_factory=list)
    """Crashes that no single case reproduces, with the cases before them."""
    interrupted: bool = False
    seconds: float = 0.0


class Runner:
    """Runs cases until they are done, the peer or the time ends, or the user interrupts.

    The death of a peer that can be restarted does not end the run. The cases that may have caused
    it run again, and one that crashes a peer that has run no other case is FAILED.
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
        """Prepare a run.

        Args:
            settings: the settings of all cases.
            jobs: the number of concurrent cases.
            max_time: the seconds for the run; 0 means no limit.
            ended: waits so many seconds for the peer to exit, and returns why the run cannot
                continue, or ""; it is cheap and called often.
            gone: waits a few seconds for an answer of the peer, and returns why there is none, or
                ""; called when many cases fail, and after timeouts.
            restart: restarts the peer, and returns why that failed, or "".
            retry: how often a case that is not OK is run again.
        """
        self.settings = settings
        self.jobs = jobs
        self.max_time = max_time
        self.ended = ended
        self.gone = gone
        self.restart = restart
        self.retry = retry
        self.ran: deque[tuple[float, Case]] = deque(maxlen=400)
        """The last cases since the peer was started, and when they ended."""
        self.busy = False
        """Whether a case has timed out since the peer last answered."""

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
                part.results = []
                if self.restart and self.ended(0.0):
                    crashes += 1
                    self._recover(part.suspects, outcome, observer, crashes)
                done = {result.case.id for result in outcome.results}
                left = [case for case in left if case.id not in done]
            if self.jobs > 1:
                self._confirm(outcome, observer)
            for number in range(self.retry):
                self._again(outcome, observer, number + 1)
            if self.restart and not outcome.ended:
                outcome.ended = self._ended_after_all()
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
        """Restart the peer, and find the case that crashes it.

        The suspects run again alone, because the crash may have affected their results. If none of
        them crashes the peer, an earlier case is searched for.
        """
        crash = f"{self.ended(0.0)}\n{self.before(suspects)}"
        recent = self.recent()
        ids = [case.id for case in suspects]
        for result in [r for r in outcome.results if r.case.id in ids]:
            drop(result, outcome, observer)
        if crashes > CRASHES:
            outcome.ended = f"{crash}\nThat was its crash number {crashes}."
            return
        outcome.ended = self._restarted()
        found, noted = False, len(outcome.crashes)
        for case in suspects:
            if outcome.ended or time.monotonic() > self.end:
                break
            result, death = self._alone(case, outcome)
            if not is_vain(result):
                found = found or bool(death)
                outcome.results.append(result)
                observer.add(result)
        culprits = [] if found else self._culprits([*recent, *suspects], outcome)
        if culprits:
            del outcome.crashes[noted:]  # the same cases caused them
        elif not found:
            outcome.crashes[noted:] = [f"{crash} None crashes it alone."]
        ids = [culprit.case.id for culprit in culprits]
        for result in [r for r in outcome.results if r.case.id in ids]:
            drop(result, outcome, observer)
        for culprit in culprits:
            outcome.results.append(culprit)
            observer.add(culprit)

    def _culprits(self, cases: Sequence[Case], outcome: Outcome) -> list[Result]:
        """Find all cases that crash the peer, perhaps some time after they have ended."""
        left = {case.id: case for case in cases}
        end = min(self.end, time.monotonic() + SEARCHING * self.settings.scale)
        found = []
        while left:
            culprit = self._search(list(left.values()), outcome, end)
            if culprit is None:
                break
            found.append(culprit)
            del left[culprit.case.id]
        return found

    def _search(self, cases: Sequence[Case], outcome: Outcome, end: float) -> Result | None:
        """Find a case that crashes the peer, or return None.

        This runs all cases. If the peer crashes, it runs the later half of them, then a half of the
        half that crashes the peer, and so on. The last case must do it on a peer that has run no
        other case.
        """
        if not self._run_until_death(cases, outcome, end)[1]:
            return None
        while len(cases) > 1:
            middle = len(cases) // 2
            part = cases[middle:]
            death = self._run_until_death(part, outcome, end)[1]
            cases = part if death else cases[:middle]
        outcome.ended = outcome.ended or self._restarted()
        result, death = self._run_until_death(cases, outcome, end)
        return result if result and death and blame(result, death) else None

    def _run_until_death(
        self, cases: Sequence[Case], outcome: Outcome, end: float
    ) -> tuple[Result | None, str]:
        """Run cases, one after the other, and restart the peer if it ends.

        Returns the last result and how the peer ended, or "".
        """
        result = None
        for case in cases:
            if outcome.ended or time.monotonic() > end:
                return None, ""
            result = run(case, self.settings)
            self.note(result)
            if self.ended(0.0):
                break
        death = self.ended(LATER)
        if death:
            outcome.ended = self._restarted()
        return result, death

    def _confirm(self, outcome: Outcome, observer: Observer) -> None:
        """Repeat cases that timed out alone: the peer may have been busy with other cases.

        If a few cases with the same symptom have the same result again, the other ones are not
        repeated. Repetitions without a new result take at most CONFIRMING seconds together. Rare
        symptoms come first: what the peer does in many cases is hardly chance.
        """
        late = [i for i, result in enumerate(outcome.results) if result.late and is_odd(result)]
        counts = Counter(symptom(outcome.results[i]) for i in late)
        confirmed: Counter[tuple[str, ...]] = Counter()
        left = CONFIRMING * self.settings.scale
        heavy = {i: "limits" in outcome.results[i].case.tags for i in late}  # may delay others
        for i in sorted(late, key=lambda i: (heavy[i], counts[symptom(outcome.results[i])])):
            old = outcome.results[i]
            seen = symptom(old)
            if confirmed[seen] >= CONFIRMED:
                continue
            if outcome.ended or left < 0 or time.monotonic() > self.end:
                return
            began = time.monotonic()
            result, _ = self._alone(old.case, outcome, old.verdict)
            if is_vain(result):
                continue
            if (result.verdict, result.close) == (old.verdict, old.close):
                confirmed[seen] += 1
                left -= time.monotonic() - began
            observer.drop(old)
            observer.add(result)
            outcome.results[i] = result

    def _again(self, outcome: Outcome, observer: Observer, number: int) -> None:
        """Run each case that is not OK once more, alone; the last verdict counts.

        `number` counts the runs before this one.
        """
        for i, old in enumerate(outcome.results):
            if outcome.ended or old.flaky or old.verdict in STEADY:
                continue
            if time.monotonic() > self.end:
                outcome.ended = f"the run took more than {self.max_time:g} s"
                return
            crashed = old.came.startswith(CRASHED)
            result, _ = self._alone(old.case, outcome, None if crashed else old.verdict)
            if is_vain(result):
                outcome.ended = outcome.ended or self.gone()
                continue
            if result.verdict != old.verdict:
                result.flaky = (*[old.verdict] * number, result.verdict)
            observer.drop(old)
            observer.add(result)
            outcome.results[i] = result

    def _alone(
        self, case: Case, outcome: Outcome, before: Verdict | None = None
    ) -> tuple[Result, str]:
        """Run a case while no other case runs; returns the result and how it ended the peer, or "".

        This first waits for a peer that may still be busy with earlier cases.

        If the peer ends after it has run other cases, the case runs again on a new one. If that
        does not end, an earlier case was the cause. `before` is the verdict of an earlier run that
        the peer survived. If the verdict is the same again, this does not wait for the peer to
        exit.
        """
        how = self.ended(0.0) if self.restart else ""
        if how:
            outcome.crashes.append(f"{how}\n{self.before()}")
            outcome.ended = self._restarted()
        elif self.busy:
            self.busy = False
            self.gone()
        is_first = not self.ran  # since the peer was started
        result, death = self._observed(case, before)
        if not death:
            return result, ""
        crash = f"{death}\n{self.before()}"
        outcome.ended = self._restarted()
        if is_first and blame(result, death):
            return result, death
        if outcome.ended:
            return Result(case, Verdict.SKIPPED, NO_PEER, 0.0, result.trace), ""
        result, death = self._observed(case, None, LATER)
        if death:
            outcome.ended = self._restarted()
        if not (death and blame(result, death)):
            outcome.crashes.append(crash)
            death = ""
        return result, death

    def _observed(
        self, case: Case, before: Verdict | None, patience: float = 0.1
    ) -> tuple[Result, str]:
        """Run a case and wait a moment for the peer to exit; returns the result and how it did."""
        result = run(case, self.settings)
        self.note(result)
        wait = patience if result.verdict == Verdict.OK else AFTER
        wait = 0.0 if result.verdict == before else wait
        return result, self.ended(wait) if self.restart else ""

    def _restarted(self) -> str:
        """Restart the peer; returns why that failed, or ""."""
        assert self.restart
        self.ran.clear()
        return self.restart()

    def _ended_after_all(self) -> str:
        """Return how the peer ended after the last case that was run alone, or ""."""
        since = time.monotonic() - self.ran[-1][0] if self.ran else LATER
        how = self.ended(max(LATER - since, 0.0))
        return f"{how}\n{self.before()}" if how else ""

    def note(self, result: Result) -> None:
        """Remember that a case has run, unless it could not connect."""
        self.busy = self.busy or result.late
        if not is_vain(result):
            self.ran.append((result.trace.began + result.seconds, result.case))

    def recent(self) -> list[Case]:
        """Return the cases that had ended shortly before the peer did."""
        last = max((at for at, _ in self.ran), default=0.0)
        since = min(last, time.monotonic()) - RECENT * self.settings.scale
        return [case for at, case in self.ran if at >= since]

    def before(self, running: Sequence[Case] = ()) -> str:
        """Return a sentence that names the last cases before the peer ended, the latest last."""
        cases = [*self.recent()[-NAMED:], *running]
        ids = list(dict.fromkeys(case.id for case in reversed(cases)))[::-1]
        return f"That was during or after {', '.join(ids)}." if ids else ""


class Round:
    """Cases that run concurrently, until all have finished or the run cannot continue."""

    def __init__(self, work: Runner, cases: Sequence[Case], observer: Observer) -> None:
        self.work = work
        self.cases = {case.id: case for case in cases}
        self.observer = observer
        self.results: list[Result] = []
        self.suspects: list[Case] = []
        """The cases that may have crashed the peer, or whose results a crash may have affected."""
        self.pool = Pool(cases, work.settings, work.jobs)

    def run(self) -> str:
        """Run the cases; returns why the round ended early, or ""."""
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
        if reason and self.suspects:
            reason = f"{reason}\n{self.work.before(self.suspects)}"
        return reason

    def _watch(self) -> str:
        """Collect results until the last one; returns why the run cannot continue, or ""."""
        work, streak, longest = self.work, 0, max(STREAK, self.work.jobs)
        while len(self.results) < len(self.cases):
            reason = work.ended(0.0) or (streak >= longest and work.gone()) or ""
            if reason:
                self.suspects = self._suspects()
                return work.ended(AFTER) or reason  # it may stop listening before it exits
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
        reason = work.ended(AFTER if any(map(is_at_fault, self.results[-work.jobs :])) else LATER)
        if not reason and any(map(is_vain, self.results)):
            reason = work.gone()
            reason = reason and (work.ended(AFTER) or reason)
        if reason:
            self.suspects = self._suspects()
        return reason

    def _add(self, result: Result) -> None:
        self.results.append(result)
        self.observer.add(result)
        self.work.note(result)

    def _suspects(self) -> list[Case]:
        """Return the cases that run or have just had another result than OK.

        This leaves out cases that could not connect, of which there may be many by now.
        """
        running = self.pool.ids()
        while not self.pool.results.empty():
            self._add(self.pool.results.get())
        ran = [result for result in self.results if not is_vain(result)]
        last = {r.case.id for r in ran[-2 * self.work.jobs :] if r.verdict not in STEADY}
        last |= {r.case.id for r in ran[-2 * self.work.jobs :] if is_at_fault(r)}
        done = {result.case.id for result in self.results}
        return [self.cases[id] for id in sorted({*last, *running} - (done - last), key=natural)]

    def _collect(self, interrupted: bool) -> None:
        """Wait a moment for running cases, and drop those that could not connect."""
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
    """Return whether the case may have crashed the peer."""
    return result.verdict in AT_FAULT or result.close in AT_FAULT


def is_odd(result: Result) -> bool:
    """Return whether chance may have made the verdict worse than it should be."""
    return result.verdict not in STEADY or result.close in AT_FAULT


def symptom(result: Result) -> tuple[str, ...]:
    """Return what all cases have in common in which the peer behaved alike."""
    came = (shape(result.came), shape(result.close_came))
    return (result.case.section, result.case.quote, result.verdict, result.close, *came)


def is_vain(result: Result) -> bool:
    """Return whether the case could not connect to the peer."""
    return result.verdict == Verdict.SKIPPED and result.came.startswith(NO_PEER)


def blame(result: Result, death: str) -> bool:
    """Make a case FAILED because it ended the peer; returns False if it could not connect."""
    if is_vain(result):
        return False
    result.verdict, result.came = Verdict.FAILED, f"{CRASHED}{death}"
    return True


def drop(result: Result, outcome: Outcome, observer: Observer) -> None:
    """Remove a result that no longer counts."""
    outcome.results.remove(result)
    observer.drop(result)
