# SPDX-License-Identifier: MIT
"""The command: what it runs, its output, its exit status."""

from __future__ import annotations

import argparse
import datetime
import importlib
import os
import shlex
import signal
import ssl
import sys
import textwrap
import time
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any, Callable, NoReturn, Sequence, TextIO

from . import (
    findings,
    github,
    html_report,
    listen,
    markdown,
    pack,
    probe,
    progress,
    report,
    runner,
    secure,
    summary,
    testee,
    tls,
)
from .arguments import FAILED, FORMS, report_parser, run_parser
from .case import CASES, Case, Manners, Settings, natural
from .verdicts import Verdict
from .wire import Target, hidden

FINE, FAILURES, USAGE, INCOMPLETE, INTERRUPTED = 0, 1, 2, 3, 130


# ---- requests to the peer -----------------------------------------------------------------------


def secrets(args: argparse.Namespace) -> tuple[str, ...]:
    """Return the credentials in the options, which must not appear in reports."""
    values = [value for name, value in args.header if name.lower() != "host"]
    values += [pair.partition("=")[2] for pair in (*args.cookie, *args.query)]
    # Shorter values would also match unrelated text.
    return tuple(sorted({value for value in values if len(value) > 3}, key=len, reverse=True))


def told_of(manners: Manners) -> list[str]:
    """Describe the properties of the peer that affect the run."""
    told = [f"TLS: {manners.tls}"] if manners.tls else []
    if manners.one_connection:
        told.append("the server serves one connection at a time: cases that need more are SKIPPED")
    if manners.greetings:
        count = "1 message" if manners.greetings == 1 else f"{manners.greetings} messages"
        told.append(f"each connection begins with {count} from the server")
    if manners.close_code != 1000:
        how = f"with {manners.close_code}" if manners.close_code else "without a code"
        told.append(f"a Close with 1000 is answered {how}: only cases about the code report that")
    if manners.round_trip:
        told.append(f"an echo takes {manners.round_trip * 1000:.0f} ms: timeouts are extended")
    return told


def trusted(args: argparse.Namespace) -> ssl.SSLContext:
    """Return the context for connections to a server, or raise ValueError for wrong options."""
    may_be_secure = args.serve is not None or (args.url is not None and args.url.tls)
    for option in ("--ca", "--insecure", "--cut-records"):
        given = getattr(args, option[2:].replace("-", "_"))
        if given and not may_be_secure:
            raise ValueError(f"{option} needs wss://HOST[:PORT] or --serve CMD")
    if args.tls and args.serve is None:
        raise ValueError("--tls needs --serve CMD; a URL says it with wss://")
    if args.ca and args.insecure:
        raise ValueError("give only one of --ca FILE and --insecure")
    return secure.client_context(args.ca, args.insecure)


# ---- descriptions of the cases ------------------------------------------------------------------


def all_cases() -> list[Case]:
    """Return all cases in natural order."""
    importlib.import_module(f"{__package__}.cases")
    return sorted(CASES.values(), key=lambda case: natural(case.id))


def list_cases(cases: Sequence[Case]) -> int:
    width = max(len(case.id) for case in cases)
    for case in cases:
        tags = f"  @{' @'.join(sorted(case.tags))}" if case.tags else ""
        print(f"{case.id:{width}}  {case.level:6}  {case.sends}{tags}")
    return FINE


def show_case(parser: argparse.ArgumentParser, id: str) -> int:
    case = CASES.get(id)
    if case is None:
        parser.error(f"there is no case {id!r}: see --list")
    print(f"{case.id}  {report.title(case.group)}")
    for line in report.explained(case_data(case)).splitlines():
        print(textwrap.fill(line, 78, initial_indent="  ", subsequent_indent="            "))
    if case.tags:
        print(f"  tags:     {' '.join(f'@{tag}' for tag in sorted(case.tags))}")
    return FINE


def case_data(case: Case) -> dict[str, Any]:
    return {key: getattr(case, key) for key in ("section", "level", "quote", "sends", "expects")}


# ---- a run --------------------------------------------------------------------------------------


class Session:
    """One call of the command, from checking its options to its exit status."""

    def __init__(
        self, parser: argparse.ArgumentParser, args: argparse.Namespace, argv: Sequence[str]
    ) -> None:
        self.parser = parser
        self.args = args
        self.argv = argv
        wants_output = any(getattr(args, form) == "-" for form in FORMS)
        self.console: TextIO = sys.stderr if wants_output else sys.stdout
        self.baseline = runner.Baseline()

    def say(self, text: str = "") -> None:
        print(text, file=self.console, flush=True)

    def prepare(self) -> list[Case]:
        """Check the options before anything is started; exits with USAGE on an error."""
        args = self.args
        given = sum(peer is not None for peer in (args.url, args.serve, args.listen))
        if given == 0:
            self.parser.error("a URL, --serve CMD or --listen PORT is needed")
        if given > 1:
            self.parser.error("give only one of URL, --serve CMD, --listen PORT (see --path)")
        if args.retry and args.listen:
            self.parser.error("--retry does not work with --listen: clients choose their cases")
        try:
            self.context = tls.context_for(args.listen, args.cert, args.key)
            self.trusted = trusted(args)
            chosen = runner.select(all_cases(), args.include, args.exclude, args.profile)
            cases = listen.for_clients(chosen) if args.listen else listen.for_servers(chosen)
            if chosen and not cases and not args.listen:
                self.parser.error("these cases are for clients: see --listen")
            if not cases:
                self.parser.error("no case is left")
        except ValueError as error:
            self.parser.error(str(error))
        if args.baseline:
            try:
                text = Path(args.baseline).read_text(encoding="utf-8")
                self.baseline = runner.read_baseline(text, args.fail_on)
            except (OSError, ValueError) as error:
                self.parser.error(f"--baseline {args.baseline}: {error}")
        check_folders(self.parser, args)
        return cases

    def run(self) -> int:
        cases = self.prepare()
        started = datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
        if self.args.listen:
            return self.run_listener(cases, started)
        began = time.monotonic()
        self.where = str(self.asked(self.args.url)) if self.args.url else ""
        settings = Settings(
            self.asked(self.args.url or Target("", 0, self.args.path, False)),
            self.args.timeout,
            self.args.timeout_scale,
            self.args.seed,
            full=self.args.full,
        )
        try:
            outcome = self.attempt(cases, settings)
        except testee.Unreachable as error:
            outcome = runner.Outcome(not_run=[case.id for case in cases], ended=str(error))
        except KeyboardInterrupt:
            outcome = runner.Outcome(not_run=[case.id for case in cases], ended="interrupted")
            outcome.interrupted = True
        outcome.seconds = time.monotonic() - began
        program = Path(shlex.split(self.args.serve)[0]).name if self.args.serve else ""
        name = self.args.name or program
        return self.finish([name or self.where], self.where, settings, [outcome], started)

    def attempt(self, cases: Sequence[Case], settings: Settings) -> runner.Outcome:
        """Start the peer for --serve, probe it, and run, or raise Unreachable."""
        patience = settings.timeout * settings.scale
        with ExitStack() as stack:
            program = None
            if self.args.serve is not None:
                program = stack.enter_context(
                    testee.Testee(
                        self.args.serve, self.args.port_pattern, self.args.path, self.args.tls
                    )
                )
            self.learn(program, settings)
            one = settings.manners.one_connection
            work = runner.Runner(
                settings,
                1 if one else self.args.jobs,
                self.max_time() * settings.scale,
                program.ended if program else lambda seconds: "",
                lambda: probe.is_gone(settings.target, patience),
                (lambda: self.restart(program, settings)) if program else None,
                self.args.retry,
            )
            observer = progress.observer(len(cases), self.console)
            try:
                outcome = work.run(cases, observer)
            finally:
                observer.end()
            if program and not outcome.ended:
                outcome.ended = program.stop()
            return outcome

    def learn(self, program: testee.Testee | None, settings: Settings) -> None:
        """Find the peer's address and probe it, or raise Unreachable if it does not answer."""
        patience = settings.timeout * settings.scale
        if program:
            place = program.target(5 * patience)
            settings.target = self.asked(place)
        self.where = str(settings.target)
        try:
            settings.manners = probe.learn(settings.target, patience)
        except probe.Unfit as error:
            death = program.ended(0.5) if program else ""
            raise testee.Unreachable(death or str(error)) from None
        settings.manners = replace(
            settings.manners, failure_code=self.failure_code(program, settings)
        )
        for told in told_of(settings.manners):
            self.say(told)

    def failure_code(self, program: testee.Testee | None, settings: Settings) -> int | None:
        """Return the code with which the peer fails a connection; if it crashes, restart it."""
        patience = settings.timeout * settings.scale + 3 * settings.manners.round_trip
        try:
            return probe.failure_code(settings.target, patience)
        except probe.Unfit:
            if program and program.ended(runner.AFTER):
                problem = self.restart(program, settings)
                if problem:
                    raise testee.Unreachable(problem) from None
            return settings.manners.failure_code

    def restart(self, program: testee.Testee, settings: Settings) -> str:
        """Restart the peer; returns the reason if that failed, or an empty string."""
        try:
            program.stop()
            program.start()
            settings.target = self.asked(program.target(5 * settings.timeout * settings.scale))
        except testee.Unreachable as error:
            return str(error)
        return ""

    def asked(self, target: Target) -> Target:
        """Add what the options put into every request."""
        args = self.args
        fields = list(args.header)
        for name, value in (("Origin", args.origin), ("Sec-WebSocket-Protocol", args.protocol)):
            fields += [(name, value)] if value else []
        if args.cookie:
            fields.append(("Cookie", "; ".join(args.cookie)))
        resource = target.resource
        if args.query:
            resource += ("&" if "?" in resource else "?") + "&".join(args.query)
        return target._replace(
            resource=resource,
            fields=tuple(fields),
            secrets=secrets(args),
            context=self.trusted if target.tls else None,
            cut=args.cut_records,
        )

    # ---- clients ----

    def run_listener(self, cases: Sequence[Case], started: str) -> int:
        """Test clients, one run for each."""
        args = self.args
        settings = Settings(
            Target("", 0, "/", False), args.timeout, args.timeout_scale, args.seed, full=args.full
        )
        host, port, _ = args.listen

        def observe(name: str) -> progress.Lines:
            self.say(f"{progress.plain(name)} begins")
            return progress.observer(len(cases), self.console)

        try:
            listener = listen.Listener(
                (host, port), cases, settings, observe, self.say, self.context
            )
        except OSError as error:
            self.parser.error(f"cannot listen on {host}:{port}: {error}")
        # A certificate is for a name, so show the name unless it is a wildcard.
        shown = host if self.context and host not in testee.ANY else listener.place[0]
        where = str(Target(shown, listener.place[1], "/", self.context is not None))
        self.say(f"listening on {where} with {len(cases)} cases")
        interrupted, late = False, ""
        try:
            late = listener.run(args.agents, (args.max_time or 1e9) * settings.scale)
        except KeyboardInterrupt:
            interrupted = True
        agents = list(listener.agents.values())
        for agent in agents:
            agent.observer.end()
        outcomes = [agent.outcome(cases, interrupted) for agent in agents]
        missing = len([agent for agent in agents if agent.done]) < args.agents
        if agents and missing and not interrupted:
            self.say(late)
        names = [args.name or agent.name for agent in agents]
        if not agents:
            ended = "interrupted" if interrupted else f"no client came: {late}"
            everything = [case.id for case in cases]
            outcomes = [runner.Outcome([], everything, ended, interrupted=interrupted)]
            names = [args.name or "no client"]
        status = self.finish(names, where, settings, outcomes, started)
        return INCOMPLETE if missing and status in (FINE, FAILURES) else status

    # ---- the end ----

    def finish(
        self,
        names: Sequence[str],
        where: str,
        settings: Settings,
        outcomes: Sequence[runner.Outcome],
        started: str,
    ) -> int:
        """Print summaries, write reports, and return the exit status."""
        runs = [
            report.of_run(
                name, where, settings, outcome, started, self.baseline.known, self.options(settings)
            )
            for name, outcome in zip(names, outcomes)
        ]
        new = [id for run in runs for id in self.judge(run)]
        ended = any(outcome.ended for outcome in outcomes)
        try:
            write_reports(self.args, runs)
            if self.args.write_baseline and not ended:
                results = [result for outcome in outcomes for result in outcome.results]
                text = runner.baseline_of(results, self.args.fail_on)
                report.write(self.args.write_baseline, text)
        except OSError as error:
            print(f"{self.parser.prog}: {error}", file=sys.stderr)
            return USAGE
        if self.args.github:
            for line in github.annotated(runs, self.args.fail_on, self.baseline.known):
                self.say(line)
        if any(outcome.interrupted for outcome in outcomes):
            return INTERRUPTED
        if ended or any(outcome.crashes for outcome in outcomes):
            return INCOMPLETE
        return FAILURES if new else FINE

    def options(self, settings: Settings) -> dict[str, Any]:
        """Return the options that reports show besides `settings`."""
        args = self.args
        words = [hidden(word.encode("utf-8", "replace"), secrets(args)) for word in self.argv]
        return {
            "arguments": [word.decode("utf-8", "replace") for word in words],
            "profile": args.profile,
            "jobs": 1 if settings.manners.one_connection else args.jobs,
            "retry": args.retry,
            "max_time": self.max_time(),
            "fail_on": [verdict.value for verdict in Verdict if verdict in args.fail_on],
        }

    def max_time(self) -> float:
        """Return the seconds for the run; 0 means no limit."""
        usual = 7200.0 if self.args.full else 600.0
        return float(self.args.max_time or (0.0 if self.args.listen else usual))

    def judge(self, run: dict[str, Any]) -> list[str]:
        """Summarize a run; returns the failing ids that are not in the baseline."""
        failed = findings.failing_ids(run, self.args.fail_on)
        lines = summary.of_run(run, self.console, self.args.verbose)
        if run["ended"] and self.args.write_baseline:
            lines.append("No baseline was written.")
        if self.args.baseline:
            known, flaky = self.baseline
            lines += summary.of_baseline(run, known, flaky, failed)
        for line in lines:
            self.say(line)
        return [id for id in failed if id not in self.baseline.known]


def check_folders(parser: argparse.ArgumentParser, args: argparse.Namespace) -> None:
    """Check that the folders of all reports exist, so that no run is wasted."""
    for option in (*FORMS, "write_baseline"):
        path = getattr(args, option, None)
        if path and path != "-" and not Path(path).resolve().parent.is_dir():
            parser.error(f"--{option.replace('_', '-')} {path}: there is no such folder")
        if path and Path(path).is_dir():
            parser.error(f"--{option.replace('_', '-')} {path} is a folder")


def write_reports(args: argparse.Namespace, runs: Sequence[dict[str, Any]]) -> None:
    """Write all requested reports, or raise OSError if a file cannot be written."""
    failing = getattr(args, "fail_on", FAILED)
    texts: dict[str, Callable[[], str]] = {
        "json": lambda: report.json_text(runs),
        "junit": lambda: report.junit_text(runs, failing),
        "tap": lambda: report.tap_text(runs, failing),
        "html": lambda: html_report.text(runs),
        "markdown": lambda: markdown.text(runs),
        "table": lambda: report.markdown_text(runs),
    }
    for form, text in texts.items():
        path = getattr(args, form)
        if path:
            report.write(path, text())
    if args.github:
        github.summarize(runs, os.environ)


# ---- reports of earlier runs --------------------------------------------------------------------


def make_reports(name: str, argv: Sequence[str]) -> int:
    parser = report_parser(name)
    args = parser.parse_args(argv)
    if not args.github and not any(getattr(args, form) for form in FORMS):
        parser.error(f"one of --{', --'.join(FORMS)}, --github is needed")
    runs: list[dict[str, Any]] = []
    for file in args.files:
        try:
            runs += report.read_json(Path(file).read_text(encoding="utf-8"))
        except (OSError, ValueError) as error:
            parser.error(f"{file}: {error}")
    check_folders(parser, args)
    try:
        write_reports(args, runs)
    except OSError as error:
        parser.error(str(error))
    for run in runs if args.github else []:
        print("\n".join(github.annotated([run], FAILED, run["known"])), flush=True)
    return FINE


# ---- the command --------------------------------------------------------------------------------


def interrupt(number: int, frame: object) -> NoReturn:
    """SIGTERM ends a run like SIGINT: reports are written and the server is stopped."""
    raise KeyboardInterrupt


def tolerant(stream: Any) -> None:
    """Make sure that what a peer sent can be printed on any terminal."""
    if hasattr(stream, "reconfigure"):
        stream.reconfigure(errors="backslashreplace")


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command with `argv` (default sys.argv) and return the exit status."""
    tolerant(sys.stdout)
    try:
        return dispatch(list(sys.argv[1:] if argv is None else argv))
    except BrokenPipeError:  # as with `--list | head`; leave nothing to be flushed at exit
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINE


def dispatch(argv: Sequence[str]) -> int:
    """Dispatch to a subcommand, a listing, or a run."""
    name = report.NAME
    if argv[:1] == ["report"]:
        return make_reports(name, argv[1:])
    if argv[:1] == ["pack"]:
        return pack.main(name, argv[1:])
    parser = run_parser(name)
    args = parser.parse_args(argv)
    if args.show:
        all_cases()
        return show_case(parser, args.show)
    if args.list:
        try:
            chosen = runner.select(all_cases(), args.include, args.exclude, args.profile)
            return list_cases(chosen)
        except ValueError as error:
            parser.error(str(error))
    return guarded(Session(parser, args, argv).run)


def guarded(run: Callable[[], int]) -> int:
    """Handle SIGTERM like SIGINT, which a background job of a shell would ignore."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    before = [signal.signal(number, interrupt) for number in numbers]
    try:
        return run()
    except KeyboardInterrupt:  # for the second time
        return INTERRUPTED
    finally:
        for number, handler in zip(numbers, before):
            signal.signal(number, handler)
