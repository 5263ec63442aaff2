"""A run: which cases, in which threads, until when, and which failures count.

Cases run side by side, but for those that ask not to: "limits" moves so much data that only few of
them fit into memory at a time, "slow" waits and must not take all the threads, "alone" measures and
comes last, one by one. A run that cannot go on keeps what it has got.
"""

from __future__ import annotations

import json
import queue
import threading
import time
from collections import deque
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Callable, Iterable, Protocol, Sequence

from .case import Case, Result, Settings, Verdict, natural, run

GRACE = 1.0  # seconds for the cases that run when a run ends early, besides one timeout
LIMITS = 2  # cases with that tag at a time
STREAK = 8  # failures in a row after which the peer is asked whether it is still there


# ---- selection ----------------------------------------------------------------------------------


def matches(case: Case, pattern: str) -> bool:
    """A pattern is a glob of ids, the id of a group, or @TAG."""
    if pattern.startswith("@"):
        return pattern[1:] in case.tags
    return case.group == pattern or fnmatchcase(case.id, pattern)


def select(cases: Iterable[Case], include: Sequence[str], exclude: Sequence[str]) -> list[Case]:
    """In the natural order of their ids; without `include` all. ValueError: one fits none."""
    cases = sorted(cases, key=lambda case: natural(case.id))
    for pattern in (*include, *exclude):
        if not any(matches(case, pattern) for case in cases):
            raise ValueError(f"no case fits {pattern!r}")
    return [
        case
        for case in cases
        if (not include or any(matches(case, pattern) for pattern in include))
        and not any(matches(case, pattern) for pattern in exclude)
    ]


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


def read_baseline(text: str, fail_on: frozenset[str]) -> set[str]:
    """The ids that fail in a JSON report, or the first word of each line of a list. ValueError."""
    if not text.lstrip().startswith("{"):
        lines = (line.split("#")[0].split() for line in text.splitlines())
        return {words[0] for words in lines if words}
    try:
        runs = json.loads(text)["runs"]
        return {case["id"] for run in runs for case in run["cases"] if case["verdict"] in fail_on}
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"neither a JSON report nor a list of ids: {error!r}") from None


def baseline_of(results: Iterable[Result], fail_on: frozenset[str]) -> str:
    """A list of the ids that fail."""
    lines = [f"{r.case.id}  # {r.verdict.value}\n" for r in results if r.verdict.value in fail_on]
    return "".join(["# Cases that are known to fail, by the first word of a line.\n", *lines])


# ---- the threads --------------------------------------------------------------------------------


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
    interrupted: bool = False
    seconds: float = 0.0


class Runner:
    """Runs cases to their end, or to that of the peer, of the time, or of the user's patience."""

    def __init__(
        self,
        settings: Settings,
        jobs: int,
        max_time: float,
        ended: Callable[[], str],
        gone: Callable[[], str],
    ) -> None:
        """Two questions to the peer, answered by why the run cannot go on, or by "".

        ended: asked all the time, and cheap; gone: asked when many cases fail.
        """
        self.settings = settings
        self.jobs = jobs
        self.max_time = max_time
        self.ended = ended
        self.gone = gone

    def run(self, cases: Sequence[Case], observer: Observer) -> Outcome:
        began = time.monotonic()
        outcome = Outcome()
        pool = Pool(cases, self.settings, self.jobs)
        try:
            outcome.ended = self._watch(pool, len(cases), outcome.results, observer, began)
        except KeyboardInterrupt:
            outcome.ended, outcome.interrupted = "interrupted", True
        pool.stop()
        if outcome.ended:
            self._collect(pool, len(cases), outcome)
        outcome.results.sort(key=lambda result: natural(result.case.id))
        done = {result.case.id for result in outcome.results}
        outcome.not_run = [case.id for case in cases if case.id not in done]
        outcome.seconds = time.monotonic() - began
        return outcome

    def _watch(
        self, pool: Pool, total: int, results: list[Result], observer: Observer, began: float
    ) -> str:
        """Take results until the last, or until the run cannot go on: why not."""
        streak = 0
        while len(results) < total:
            reason = self.ended() or (streak >= max(STREAK, self.jobs) and self.gone()) or ""
            if reason:
                return self._while(pool, results, observer, self.ended() or reason)
            if streak >= max(STREAK, self.jobs):
                streak = 0
            if self.max_time and time.monotonic() - began > self.max_time:
                return f"the run took more than {self.max_time:g} s"
            observer.tick()
            try:
                result = pool.results.get(timeout=0.1)
            except queue.Empty:
                continue
            results.append(result)
            observer.add(result)
            streak = streak + 1 if result.verdict != Verdict.OK else 0
        reason = self.ended() or (any(map(is_vain, results)) and self.gone()) or ""
        return self._while(pool, results, observer, reason) if reason else ""

    def _while(self, pool: Pool, results: list[Result], observer: Observer, reason: str) -> str:
        """The reason, and the cases that may be to blame.

        Cases that found no server are not. There may be many of them before this thread runs.
        """
        running = pool.ids()
        while not pool.results.empty():
            results.append(pool.results.get())
            observer.add(results[-1])
        ran = [result for result in results if not is_vain(result)]
        last = [r.case.id for r in ran[-2 * self.jobs :] if r.verdict == Verdict.FAILED]
        done = {result.case.id for result in results}
        suspects = sorted({*last, *running} - (done - set(last)), key=natural)[:16]
        return f"{reason}\nThat was during or after {', '.join(suspects)}." if suspects else reason

    def _collect(self, pool: Pool, total: int, outcome: Outcome) -> None:
        """What ends in a moment still counts; but cases that found nobody there did not run."""
        timeout = self.settings.timeout * self.settings.scale
        end = time.monotonic() + GRACE + (0.0 if outcome.interrupted else timeout)
        while len(outcome.results) < total and (pool.ids() or not pool.results.empty()):
            try:
                outcome.results.append(pool.results.get(timeout=max(end - time.monotonic(), 0.0)))
            except queue.Empty:
                break
        if not outcome.interrupted:
            outcome.results = [r for r in outcome.results if not is_vain(r)]


def is_vain(result: Result) -> bool:
    """The case did not get as far as to the peer."""
    return result.verdict == Verdict.SKIPPED and result.came.startswith("cannot connect")
