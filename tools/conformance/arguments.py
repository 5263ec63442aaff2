# SPDX-License-Identifier: MIT
"""The arguments of the command: its options, and the check of each value."""

from __future__ import annotations

import argparse
import re
import shlex

from . import __version__, report, runner, testee, tls
from .profiles import PROFILES
from .wire import Target

EXITS = """\
exit status:
  0    nothing failed (see --fail-on), or only what --baseline lists
  1    something failed
  2    wrong usage, or a file that cannot be read or written
  3    the run is incomplete: the peer cannot be reached, died or hangs, or --max-time has expired
  130  interrupted (SIGINT or SIGTERM)
Except after wrong usage, the reports are always written and contain the results so far.
"""
FAILED = runner.failing("failed")
FORMS = ("json", "junit", "tap", "html", "markdown", "table")


def positive(text: str) -> float:
    """Parse a number above 0, or raise ArgumentTypeError if it is not one."""
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < 1e6:
        raise argparse.ArgumentTypeError(f"must be a number above 0, not {text!r}")
    return value


def jobs(text: str) -> int:
    """Parse the value of --jobs or --retry, or raise ArgumentTypeError if it is out of range."""
    if not text.isdecimal() or not 1 <= int(text) <= 256:
        raise argparse.ArgumentTypeError(f"must be a number from 1 to 256, not {text!r}")
    return int(text)


def place(text: str) -> tls.Place:
    """Parse the value of --listen, or raise ArgumentTypeError if it is not an address."""
    try:
        return tls.Place.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def target(text: str) -> Target:
    """Parse the URL of the server, or raise ArgumentTypeError if it is not one."""
    try:
        return Target.parse(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def fail_on(text: str) -> frozenset[str]:
    """Parse the value of --fail-on, or raise ArgumentTypeError if it names an unknown result."""
    try:
        return runner.failing(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from None


def port_pattern(text: str) -> re.Pattern[str]:
    """Compile the value of --port-pattern, or raise ArgumentTypeError if it has no group."""
    try:
        pattern = re.compile(text)
    except re.error as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if not pattern.groups:
        raise argparse.ArgumentTypeError(f"{text!r} has no group for the port")
    return pattern


def command(text: str) -> str:
    """Check the value of --serve, or raise ArgumentTypeError if it is not a command."""
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
    if not words:
        raise argparse.ArgumentTypeError("the command is empty")
    return text


def field_value(text: str) -> str:
    """Check the value of a header field, or raise ArgumentTypeError if it is not ASCII."""
    odd = next((char for char in text if not (char.isascii() and char.isprintable())), None)
    if odd is not None:  # the rest may be a secret
        raise argparse.ArgumentTypeError(
            f"must be printable ASCII characters, but number {text.index(odd) + 1} is {odd!r}"
        )
    if not text:
        raise argparse.ArgumentTypeError("must be printable ASCII characters, not ''")
    return text.strip()


def header(text: str) -> tuple[str, str]:
    """Parse the value of --header, or raise ArgumentTypeError if it is not a field."""
    name, colon, value = text.partition(":")
    if not colon or not re.fullmatch(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+", name):
        raise argparse.ArgumentTypeError(f"must have the form 'Name: value', not {text!r}")
    return name, field_value(value)


def query(text: str) -> str:
    """Check the value of --query, or raise ArgumentTypeError if it cannot be part of a URL."""
    if re.search(r"[\s#]", field_value(text)):
        raise argparse.ArgumentTypeError(f"must not contain whitespace or '#': {text!r}")
    return text


def add_reports(parser: argparse.ArgumentParser) -> None:
    """Add the options for reports."""
    group = parser.add_argument_group("reports", "FILE may be - for standard output")
    kinds = ("a JSON report", "JUnit XML", "TAP", "an HTML page", "Markdown", "a Markdown table")
    for form, kind in zip(FORMS, kinds):
        group.add_argument(f"--{form}", metavar="FILE", help=f"write {kind}")
    group.add_argument(
        "--github",
        action="store_true",
        help="write annotations for GitHub Actions and a summary of the job",
    )


def run_parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=name,
        usage="%(prog)s (URL | --serve CMD | --listen [HOST:]PORT | --list | --show ID) [options]",
        description="Test whether a WebSocket echo server conforms to RFC 6455 and 7692.",
        epilog=f"{EXITS}\nTo compare several JSON reports: {name} report --help\n"
        f"To make a single file of this program: {name} pack --help",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add_version(parser)
    parser.add_argument("url", nargs="?", type=target, help="ws://HOST[:PORT][/PATH] or wss://...")
    add_peer(parser)
    add_choice(parser)
    add_pace(parser)
    add_reports(parser)
    return parser


def add_version(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--version", action="version", version=f"{report.NAME} {__version__}")


def add_peer(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the peer")
    group.add_argument(
        "--serve",
        metavar="CMD",
        type=command,
        help="start this server and stop it afterwards (without a shell)",
    )
    group.add_argument(
        "--port-pattern",
        metavar="REGEX",
        type=port_pattern,
        default=testee.PORT,
        help="a regular expression that finds the port in a line of its output, in the group "
        '`port` or the first one (default: "listening on HOST:PORT", or a line with only a port)',
    )
    group.add_argument(
        "--path", default="/", help="the path where --serve CMD echoes (%(default)s)"
    )
    group.add_argument(
        "--tls",
        action="store_true",
        help="the server of --serve CMD uses TLS; not needed if it prints wss://HOST:PORT",
    )
    group.add_argument(
        "--ca",
        metavar="FILE",
        help="with TLS: trust these PEM certificates instead of those of the system",
    )
    group.add_argument(
        "--insecure", action="store_true", help="with TLS: accept any certificate of the server"
    )
    group.add_argument(
        "--cut-records",
        action="store_true",
        help="with TLS: send records of up to 2 KiB in parts of 1 to 7 bytes",
    )
    group.add_argument(
        "--header",
        metavar="'NAME: VALUE'",
        type=header,
        action="append",
        default=[],
        help="add a header field to every request, e.g. for a login; can be repeated",
    )
    group.add_argument(
        "--cookie",
        metavar="NAME=VALUE",
        type=field_value,
        action="append",
        default=[],
        help="add a cookie to every request; can be repeated",
    )
    group.add_argument(
        "--query",
        metavar="NAME=VALUE",
        type=query,
        action="append",
        default=[],
        help="add this to the URL without escaping it; can be repeated",
    )
    group.add_argument("--origin", type=field_value, help="the Origin of every request")
    group.add_argument(
        "--protocol", type=field_value, help="the subprotocols that every handshake offers"
    )
    group.add_argument(
        "--listen",
        metavar="[HOST:]PORT",
        type=place,
        help="test clients instead, which connect to this address once for each case and echo; "
        "with TLS for wss://HOST:PORT, see --cert",
    )
    group.add_argument(
        "--cert", metavar="FILE", help="with --listen: use TLS with this PEM certificate"
    )
    group.add_argument("--key", metavar="FILE", help="the key of --cert, if it is in another file")
    group.add_argument(
        "--agents",
        metavar="N",
        type=jobs,
        default=1,
        help="with --listen: the number of clients to wait for (%(default)s)",
    )
    group.add_argument("--name", help="the name of the peer in reports")


def add_choice(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "the cases",
        "PATTERNS is a comma-separated list of ids, prefixes or globs (5, 1.1, [1-7], D.*.2) and "
        "tags (@limits)",
    )
    group.add_argument(
        "--profile",
        choices=list(PROFILES),
        default="strict",
        help="; ".join(f"{name}: {one.purpose}" for name, one in PROFILES.items()),
    )
    for name, what in (("--include", "run only these cases"), ("--exclude", "skip these cases")):
        group.add_argument(
            name,
            metavar="PATTERNS",
            action="append",
            default=[],
            help=f"{what}; can be repeated",
        )
    group.add_argument(
        "--full",
        action="store_true",
        help="send 1000 messages in every case of 12 and 13 like the Autobahn suite; takes long",
    )
    group.add_argument("--list", action="store_true", help="print the cases instead")
    group.add_argument("--show", metavar="ID", help="explain a case instead")
    group.add_argument(
        "--fail-on",
        metavar="RESULTS",
        type=fail_on,
        default=FAILED,
        help="results that count as failures besides FAILED: non-strict,unimplemented,... or none",
    )
    group.add_argument(
        "--baseline",
        metavar="FILE",
        help="a JSON report or a list of ids (also `close`) that may fail",
    )
    group.add_argument("--write-baseline", metavar="FILE", help="write the ids that fail")


def add_pace(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group("the run")
    group.add_argument("--jobs", type=jobs, default=8, help="concurrent cases (%(default)s)")
    group.add_argument(
        "--timeout", type=positive, default=2.0, help="seconds for an answer (%(default)g)"
    )
    group.add_argument(
        "--timeout-scale", type=positive, default=1.0, help="factor for all times on slow devices"
    )
    group.add_argument(
        "--max-time",
        type=positive,
        help="seconds for the run (600, with --full 7200, with --listen unlimited)",
    )
    group.add_argument(
        "--retry",
        metavar="N",
        type=jobs,
        default=0,
        help="run cases that are not OK again, alone, up to N times; the last result counts",
    )
    group.add_argument("--verbose", action="store_true", help="print each case that is not OK")
    group.add_argument("--seed", type=int, default=1, help="seed for random data (%(default)s)")


def report_parser(name: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"{name} report",
        usage="%(prog)s FILE... [options], see --help",
        description="Make reports that compare several runs.",
        allow_abbrev=False,
    )
    add_version(parser)
    parser.add_argument("files", nargs="+", metavar="FILE", help="a JSON report")
    add_reports(parser)
    return parser
