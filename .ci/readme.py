"""Runs the first two sh blocks of a checkout's README.md, each on a bare Debian 12 of its own.

    python3 .ci/readme.py CHECKOUT REPORTS

A bare machine is a directory made by debootstrap (variant minbase), entered by chroot as root, with
a copy of CHECKOUT in it and nothing of this machine but the way to the outside: its Debian mirror,
proxies, private certificate authorities and the settings of pip. The first block must start a
server, which has to answer and then to leave on SIGINT with status 0. The second must end with
status 0. The JUnit reports of its tests go to the directory REPORTS.

Mounts live in a mount namespace and processes in a process namespace, so both vanish with the
process that made them, however it ends.
"""

from __future__ import annotations

import ast
import configparser
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Iterator

SUITE = "bookworm"
MINUTES_TO_BOOTSTRAP = 5
MINUTES_TO_INSTALL = 5
MINUTES_TO_TEST = 12
TESTS = ("testlog.junit.xml", "pytest-py.xml", "pytest-packaging.xml")

# With the process that runs this ends everything in it, and no mount is left.
ALONE = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--"),
)

# $1 is the machine, $2 the block; what follows are pairs of a path and where to show it, read-only.
# The shell stays, because the first process of a namespace has to reap orphans.
ENTER = r"""
set -e
machine=$1 block=$2
shift 2
mount -t proc proc "$machine/proc"
mount -t tmpfs -o mode=1777 shm "$machine/dev/shm"
while [ $# -gt 0 ]; do
    mount --bind "$1" "$2"
    mount -o remount,bind,ro "$2"
    shift 2
done
set +e
chroot "$machine" /bin/bash -euo pipefail -c "cd /root/pyws; $block"
exit $?
"""


# ---- what this machine uses to reach the outside ------------------------------------------------


def output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def mirror() -> list[str]:
    """Where apt takes Debian from; nothing where it is not used: debootstrap has a default."""
    if not shutil.which("apt-get"):
        return []
    # Also before the first `apt-get update`.
    targets = ["apt-get", "indextargets", "--no-release-info"]
    lines = output(*targets, "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)").splitlines()
    found = [line.split()[2] for line in lines if line.startswith(f"{SUITE} main ")]
    return found[:1]


def apt_settings() -> str:
    """How apt fetches here: proxies above all."""
    if not shutil.which("apt-config"):
        return ""
    lines = output("apt-config", "dump", "Acquire").splitlines()
    return "".join(line + "\n" for line in lines if "::IndexTargets" not in line)


def pip_settings() -> configparser.RawConfigParser:
    """The files that pip reads here, as one; the environment is passed on as it is."""
    settings = configparser.RawConfigParser()
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "config", "list"], stdout=subprocess.PIPE, text=True
    )
    for line in listed.stdout.splitlines():  # section.name='value'
        place, _, value = line.partition("=")
        section, _, name = place.rpartition(".")
        if section == ":env:":
            continue
        if not settings.has_section(section):
            settings.add_section(section)
        settings.set(section, name, ast.literal_eval(value))
    return settings


def environment() -> dict[str, str]:
    """That of a fresh login as root, and what leads outside."""
    kept = re.compile(r"(PIP_\w+|(http|https|ftp|all|no)_proxy)", re.IGNORECASE)
    return {
        "HOME": "/root",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        **{name: value for name, value in os.environ.items() if kept.fullmatch(name)},
    }


def local_paths(texts: list[str]) -> set[Path]:
    """Directories and files of this machine that settings name, outside of /etc/ssl.

    An index's pages link to files beside it, so that it takes its parent.
    """
    found = set()
    for word in " ".join(texts).split():
        path = Path(word[len("file://") :] if word.startswith("file://") else word)
        if word.startswith("file://") and len(path.parts) > 2:
            path = path.parent
        if path.is_absolute() and path.exists() and Path("/etc/ssl") not in path.parents:
            found.add(path)
    return found


# ---- the machines -------------------------------------------------------------------------------


def bootstrap(machine: Path) -> None:
    command = ["debootstrap", "--variant=minbase", SUITE, str(machine), *mirror()]
    print("+", *command, flush=True)
    variables = dict(os.environ)
    proxy = re.search(r'^Acquire::http::Proxy "(.+)";$', apt_settings(), re.MULTILINE)
    if proxy:
        variables.setdefault("http_proxy", proxy.group(1))
    made = subprocess.run(
        [*ALONE, *command],
        env=variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=60 * MINUTES_TO_BOOTSTRAP,
    )
    if made.returncode != 0:
        sys.exit(f"{made.stdout}debootstrap left with status {made.returncode}")


def furnish(machine: Path, checkout: Path) -> None:
    """Copy what the bare machine needs from this one, except for what is mounted."""
    (machine / "etc/apt/apt.conf.d/99outside").write_text(apt_settings())
    with open(machine / "etc/pip.conf", "w") as file:
        pip_settings().write(file)
    # The package ca-certificates makes one file of Debian's authorities and those of this place.
    authorities = Path("usr/local/share/ca-certificates")
    if (Path("/") / authorities).is_dir():
        shutil.copytree(Path("/") / authorities, machine / authorities, dirs_exist_ok=True)
    bundle = Path("etc/ssl/certs/ca-certificates.crt")  # until it is installed, for apt
    if (Path("/") / bundle).exists():
        (machine / bundle).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("/") / bundle, machine / bundle)
    command = ["cp", "-r", "--no-preserve=ownership", str(checkout), str(machine / "root/pyws")]
    subprocess.run(command, check=True)


def mounts(machine: Path) -> list[str]:
    """Pairs of a path on this machine and the place where it is mounted."""
    settings = pip_settings()
    values = [value for section in settings.sections() for _, value in settings.items(section)]
    pairs = []
    for path in sorted(local_paths(values + list(environment().values()))):
        if path.is_relative_to("/root") or (machine / path.relative_to("/")).exists():
            continue
        target = machine / path.relative_to("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        if path.is_dir():
            target.mkdir()
        else:
            target.touch()
        pairs += [str(path), str(target)]
    return pairs


def start(machine: Path, block: str) -> subprocess.Popen[str]:
    """The block in a machine; whoever kills the process that is returned kills all of it."""
    print(f"\n+ {block}", flush=True)
    return subprocess.Popen(
        [*ALONE, "bash", "-c", ENTER, "enter", str(machine), block, *mounts(machine)],
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )


@contextmanager
def running(machine: Path, block: str, minutes: float) -> Iterator[subprocess.Popen[str]]:
    process = start(machine, block)
    watchdog = threading.Timer(60 * minutes, process.kill)
    watchdog.start()
    try:
        yield process
    finally:
        watchdog.cancel()
        process.kill()
        process.wait()


# ---- the blocks ---------------------------------------------------------------------------------


def blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def wait_for_url(lines: IO[str]) -> str:
    for line in lines:
        print(line, end="", flush=True)
        match = re.search(r"http://\S+", line)
        if match and "listening" in line:
            return match.group()
    sys.exit("the first block ended without a server")


def serve(machine: Path, block: str) -> None:
    with running(machine, block, MINUTES_TO_INSTALL) as process:
        assert process.stdout
        url = wait_for_url(process.stdout)
        with urllib.request.urlopen(url, timeout=30) as answer:
            print(f"{url}: {answer.status}, {len(answer.read())} bytes", flush=True)
        os.killpg(process.pid, signal.SIGINT)
        if process.wait(30) != 0:
            sys.exit(f"the server left with status {process.returncode}")


def finish(machine: Path, block: str, reports: Path) -> None:
    with running(machine, block, MINUTES_TO_TEST) as process:
        assert process.stdout
        for line in process.stdout:
            print(line, end="", flush=True)
        status = process.wait()
    logs = machine / "root/pyws/build/meson-logs"
    for name in TESTS:
        if (logs / name).exists():
            shutil.copy(logs / name, reports / f"readme-{name}")
    if status != 0:
        sys.exit(f"the second block left with status {status}")
    missing = [name for name in TESTS if not (logs / name).exists()]
    if missing:
        sys.exit(f"the second block left no {', '.join(missing)}")


def check_means() -> None:
    """Explains what is missing, if anything is."""
    if os.geteuid() != 0:
        sys.exit("the machine in which README.md is tried needs chroot and mount: run this as root")
    for program in ("debootstrap", "unshare", "setpriv", "chroot"):
        if not shutil.which(program):
            sys.exit(f"there is no {program}, which makes the machine to try README.md in")
    if subprocess.run([*ALONE, "true"]).returncode != 0:
        sys.exit("no right to mount here (a container?), so that README.md cannot be tried")


def main() -> None:
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    checkout, reports = map(Path, sys.argv[1:])
    check_means()
    first, second = blocks((checkout / "README.md").read_text())[:2]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("terminated"))
    with tempfile.TemporaryDirectory() as folder:
        bare, other = Path(folder, "first"), Path(folder, "second")
        bootstrap(bare)
        furnish(bare, checkout)
        subprocess.run(["cp", "-a", "--reflink=auto", str(bare), str(other)], check=True)
        serve(bare, first)
        finish(other, second, reports)


if __name__ == "__main__":
    main()
