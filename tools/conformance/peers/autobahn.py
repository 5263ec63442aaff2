#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run the Autobahn suite against a server, for compare.py.

    python tools/conformance/peers/autobahn.py --folder DIR --json FILE --serve CMD

The suite (`autobahntestsuite` on PyPI) needs Python 2.7: `python2.7` in the PATH, or one of pyenv.
pip installs it into the folder with pinned versions. FILE receives the results by case.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from conformance import testee

LIMIT = 3600  # seconds; groups 12 and 13 have 216 cases of 1,000 messages each
# The folder is a site folder: zope.interface is found by a .pth file.
CODE = """\
import os, site
site.addsitedir(os.environ["PYTHONPATH"])
import autobahntestsuite.wstest
autobahntestsuite.wstest.run()
"""


def python2() -> str:
    """Return the path of a working Python 2.7, or raise LookupError if there is none."""
    named = [shutil.which("python2.7") or "", shutil.which("python2") or ""]
    named += map(str, sorted((Path.home() / ".pyenv/versions").glob("2.7.*/bin/python2.7")))
    for path in filter(None, named):
        done = subprocess.run([path, "--version"], capture_output=True)
        if done.returncode == 0:
            return path
    raise LookupError("the Autobahn suite needs Python 2.7, which was not found")


def install(python: str, folder: Path) -> dict[str, str]:
    """Install the suite and return the environment that finds it, or raise CalledProcessError."""
    place = folder / "autobahn"
    environment = {**os.environ, "PYTHONPATH": str(place), "PYTHONWARNINGS": "ignore"}
    if not (place / "autobahntestsuite").is_dir():
        options = ["-q", "--disable-pip-version-check", "--target", str(place)]
        subprocess.run(
            [python, "-m", "pip", "install", *options, "autobahntestsuite"],
            check=True,
            timeout=600,
            env={**os.environ, "PYTHONWARNINGS": "ignore"},
        )
    return environment


def examine(command: list[str], environment: dict[str, str], url: str, cases: list[str]) -> object:
    """Return the result of each case from the suite's index, or raise OSError or ValueError."""
    with tempfile.TemporaryDirectory() as folder:
        specification = {
            "outdir": folder,
            "servers": [{"agent": "server", "url": url}],
            "cases": cases,
            "exclude-cases": [],
            "exclude-agent-cases": {},
        }
        path = Path(folder) / "specification.json"
        path.write_text(json.dumps(specification))
        subprocess.run(
            [*command, "-m", "fuzzingclient", "-s", str(path)],
            env=environment,
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            timeout=LIMIT,
            check=True,
        )
        (index,) = json.loads((Path(folder) / "index.json").read_text()).values()
    return {id: [case["behavior"], case["behaviorClose"]] for id, case in index.items()}


def main() -> int:
    parser = argparse.ArgumentParser(description="Run the Autobahn suite against a server.")
    parser.add_argument("--folder", type=Path, required=True, help="where the suite is installed")
    parser.add_argument("--serve", required=True, help="the command of the server")
    parser.add_argument("--json", type=Path, required=True, help="what the results are written to")
    parser.add_argument("--cases", nargs="*", default=["*"], help="globs (all)")
    args = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("stopped"))  # also stop the server
    try:
        python = python2()
        environment = install(python, args.folder.resolve())
        with testee.Testee(args.serve) as server:
            url = f"ws://127.0.0.1:{server.target(20.0).port}/"
            found = examine([python, "-c", CODE], environment, url, args.cases)
    except (LookupError, OSError, ValueError, subprocess.SubprocessError) as error:
        print(error, file=sys.stderr)
        return 1
    except testee.Unreachable as error:
        print(error, file=sys.stderr)
        return 1
    args.json.write_text(json.dumps(found, indent=1, sort_keys=True))
    return 0


if __name__ == "__main__":
    sys.exit(main())
