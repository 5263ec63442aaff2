# SPDX-License-Identifier: MIT
"""Run the first two sh blocks of a checkout's README.md, each on its own bare Debian 12.

    python3 .ci/readme.py CHECKOUT REPORTS

A bare machine is a directory made by debootstrap (variant minbase) and entered with chroot as root.
It contains a copy of CHECKOUT, and only the network settings of this machine: its Debian mirror,
proxies, private certificate authorities and the settings of pip. The first block must start a
server, which has to answer and then to exit on SIGINT with status 0. The second block must exit
with status 0. The JUnit reports of its tests are copied to the directory REPORTS. Both run at the
same time, and what the first one prints is shown at the end.

Mounts are in a mount namespace and processes in a process namespace, so both vanish with the
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
from typing import Callable, Iterator

SUITE = "bookworm"
MINUTES_TO_BOOTSTRAP = 10
MINUTES_TO_INSTALL = 5
MINUTES_TO_TEST = 30
TESTS = ("testlog.junit.xml", "pytest-py.xml", "pytest-packaging.xml")

# When the process that runs this ends, everything in it ends, and no mount remains.
ALONE = (
    *("setpriv", "--pdeathsig", "KILL", "--"),
    *("unshare", "--mount", "--pid", "--fork", "--kill-child", "--"),
)

# $1 is the machine and $2 the block. Then follow pairs of a path and its read-only mount point. The
# shell stays, because the first process of a namespace has to reap orphans.
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


# ---- the network settings of this machine -------------------------------------------------------


def output(*command: str) -> str:
    return subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout


def mirror() -> list[str]:
    """Return apt's Debian mirror, or nothing without apt: debootstrap has a default."""
    if not shutil.which("apt-get"):
        return []
    # This also works before the first `apt-get update`.
    targets = ["apt-get", "indextargets", "--no-release-info"]
    lines = output(*targets, "--format", "$(RELEASE) $(COMPONENT) $(REPO_URI)").splitlines()
    found = [line.split()[2] for line in lines if line.startswith(f"{SUITE} main ")]
    return found[:1]


def apt_settings() -> str:
    """Return the download settings of apt, mainly proxies."""
    if not shutil.which("apt-config"):
        return ""
    lines = output("apt-config", "dump", "Acquire").splitlines()
    return "".join(line + "\n" for line in lines if "::IndexTargets" not in line)


def pip_settings() -> configparser.RawConfigParser:
    """Return the configuration files of pip as one; the environment is passed on unchanged."""
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
    """Return the environment of a fresh login as root with the network settings."""
    kept = re.compile(r"(PIP_\w+|(http|https|ftp|all|no)_proxy)", re.IGNORECASE)
    return {
        "HOME": "/root",
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        **{name: value for name, value in os.environ.items() if kept.fullmatch(name)},
    }


def local_paths(texts: list[str]) -> set[Path]:
    """Return directories and files named by settings, except in /etc/ssl.

    The pages of a file: index link to files next to it, so its parent is returned.
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
        sys.exit(f"{made.stdout}debootstrap exited with status {made.returncode}")


def furnish(machine: Path, checkout: Path) -> None:
    """Copy what the bare machine needs from this one, except what is mounted."""
    (machine / "etc/apt/apt.conf.d/99outside").write_text(apt_settings())
    (machine / "etc/hosts").write_text("127.0.0.1 localhost\n::1 localhost ip6-localhost\n")
    with open(machine / "etc/pip.conf", "w") as file:
        pip_settings().write(file)
    # The package ca-certificates makes one file of Debian's authorities and the local ones.
    authorities = Path("usr/local/share/ca-certificates")
    if (Path("/") / authorities).is_dir():
        shutil.copytree(Path("/") / authorities, machine / authorities, dirs_exist_ok=True)
    bundle = Path("etc/ssl/certs/ca-certificates.crt")  # for apt, until that package is installed
    if (Path("/") / bundle).exists():
        (machine / bundle).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(Path("/") / bundle, machine / bundle)
    command = ["cp", "-r", "--no-preserve=ownership", str(checkout), str(machine / "root/pyws")]
    subprocess.run(command, check=True)


def mounts(machine: Path) -> list[str]:
    """Return pairs of a path on this machine and its mount point."""
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
    """Start the block in a machine; killing the returned process kills everything in it."""
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


class Failed(Exception):
    """What a block did not do."""


def blocks(text: str) -> list[str]:
    return re.findall(r"^```sh\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def wait_for_url(process: subprocess.Popen[str], printed: list[str]) -> str:
    assert process.stdout
    for line in process.stdout:
        printed.append(line)
        match = re.search(r"http://\S+", line)
        if match and "listening" in line:
            return match.group()
    raise Failed("the first block ended without a server")


def serve(machine: Path, block: str, printed: list[str]) -> None:
    with running(machine, block, MINUTES_TO_INSTALL) as process:
        url = wait_for_url(process, printed)
        with urllib.request.urlopen(url, timeout=30) as answer:
            printed.append(f"{url}: {answer.status}, {len(answer.read())} bytes\n")
        os.killpg(process.pid, signal.SIGINT)
        if process.wait(30) != 0:
            raise Failed(f"the server exited with status {process.returncode}")


def finish(machine: Path, block: str, reports: Path) -> None:
    print(f"\n+ {block}", flush=True)
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
        raise Failed(f"the second block exited with status {status}")
    missing = [name for name in TESTS if not (logs / name).exists()]
    if missing:
        raise Failed(f"the second block did not write {', '.join(missing)}")


def attempt(failures: list[str], function: Callable[..., None], *arguments: object) -> None:
    try:
        function(*arguments)
    except Exception as error:
        failures.append(str(error))


def run_both(bare: Path, first: str, other: Path, second: str, reports: Path) -> None:
    failures: list[str] = []
    printed = [f"\n+ {first}\n"]
    serving = threading.Thread(
        target=attempt, args=(failures, serve, bare, first, printed), daemon=True
    )
    serving.start()
    attempt(failures, finish, other, second, reports)
    serving.join()
    print("".join(printed), flush=True)
    if failures:
        sys.exit("\n".join(failures))


def check_means() -> None:
    """Exit with an explanation if a requirement is missing."""
    if os.geteuid() != 0:
        sys.exit("trying README.md needs chroot and mount: run this as root")
    for program in ("debootstrap", "unshare", "setpriv", "chroot"):
        if not shutil.which(program):
            sys.exit(f"{program} is missing, which is needed to try README.md")
    if subprocess.run([*ALONE, "true"]).returncode != 0:
        sys.exit("mounting is not permitted (in a container?), so README.md cannot be tried")


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
        run_both(bare, first, other, second, reports)


if __name__ == "__main__":
    main()
