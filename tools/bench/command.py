# SPDX-License-Identifier: MIT
"""What the commands of this folder that compare servers have in common: arguments, and rows."""

from __future__ import annotations

import argparse
import pathlib
import sys
from typing import Callable, Collection, Mapping, Sequence, TypeVar

import harness
import servers
from harness import BenchError

PEERS = harness.ROOT / "build-peers"  # where --install puts the other servers

Row = TypeVar("Row")


def new_parser(description: str, cases: str, *, installs: bool = True) -> argparse.ArgumentParser:
    """A parser with what there is to do: --build, --install or --from.

    Args:
        description: What the command does.
        cases: What it calls its cases.
        installs: Whether it has --install.
    """
    parser = argparse.ArgumentParser(description=description)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--build", type=pathlib.Path, help="measure with this meson build folder")
    if installs:
        what.add_argument(
            "--install", type=pathlib.Path, metavar="DIR", help="install the other servers"
        )
    what.add_argument(
        "--from",
        dest="files",
        type=pathlib.Path,
        nargs="+",
        metavar="FILE",
        help=f"measure nothing, show files of --json; later files replace {cases} of earlier ones",
    )
    return parser


def add_measuring(
    parser: argparse.ArgumentParser, rounds: int, seconds: float, installer: str = ""
) -> None:
    """Add how to measure, with these defaults, and where the results go.

    Args:
        installer: The command whose --install made the folder of the other servers, if not this.
    """
    source = f"{installer} --install".strip()
    parser.add_argument(
        "--peers", type=pathlib.Path, default=PEERS, help=f"the folder of {source} (%(default)s)"
    )
    parser.add_argument("--rounds", type=int, default=rounds, help="default %(default)s")
    parser.add_argument(
        "--seconds", type=float, default=seconds, help="length of a measurement (%(default)s)"
    )
    parser.add_argument("--nice", type=int, default=0, help="e.g. -15 on a busy machine")
    parser.add_argument("--json", type=pathlib.Path, metavar="FILE", help="store all reports")
    parser.add_argument(
        "--markdown",
        nargs="?",
        const="-",
        metavar="FILE",
        help="write tables as Markdown, with FILE between its marks",
    )


def parse(parser: argparse.ArgumentParser) -> argparse.Namespace:
    """The arguments; --peers becomes a Folder."""
    options = parser.parse_args()
    if options.rounds < 1:
        parser.error("--rounds must be at least 1")
    options.peers = servers.Folder(options.peers)
    return options


def parse_with_loads(parser: argparse.ArgumentParser, loads: Collection[str]) -> argparse.Namespace:
    """The arguments of a command that has --servers and --loads, too, which are added here."""
    parser.add_argument("--servers", help="default: all that are installed")
    parser.add_argument("--loads", default=",".join(loads), help="default: %(default)s")
    options = parse(parser)
    options.loads = options.loads.split(",")
    for load in options.loads:
        if load not in loads:
            parser.error(f"unknown load {load}: choose from {', '.join(loads)}")
    return options


def choose(
    options: argparse.Namespace,
    known: Mapping[str, Row],
    lacks: Callable[[Row, servers.Folder], Sequence[str]],
    installer: str,
) -> dict[str, Row]:
    """Return the wanted rows that can run, and list the others, or raise BenchError.

    Args:
        known: All rows.
        lacks: What a row needs and is missing.
        installer: The command whose --install gets that.
    """
    wanted = options.servers.split(",") if options.servers else list(known)
    chosen = {}
    for name in wanted:
        if name not in known:
            raise BenchError(f"unknown server {name}: choose from {', '.join(known)}")
        missing = lacks(known[name], options.peers)
        if missing:
            advice = f"{installer} --install {options.peers.path}"
            print(f"{name} is left out: no {', '.join(missing)} ({advice})", file=sys.stderr)
        else:
            chosen[name] = known[name]
    if not chosen:
        raise BenchError("no servers")
    return chosen
