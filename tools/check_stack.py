#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Check how much stack csrc/ needs: no function too much, and no way to a callback too much.

    python3 tools/check_stack.py [--root DIR] [--cc GCC] [--flags FLAGS] [--show]
    python3 tools/check_stack.py --cc 'arm-linux-gnueabihf-gcc -mthumb' --flags -Os

The limits are 2 KiB for one function and 4 KiB for the frames of all functions that are under way
when a function of the application is called: a handler, the clock, the allocator. Calls through
pointers are followed where a function of csrc/ is assigned to a member of that name; all others are
callbacks. Functions that call each other in a circle count once each. What the C library and zlib
need comes on top.

gcc tells the frames and the calls (-fcallgraph-info, from version 10 on), also one for another CPU,
with -DWS_NO_DEFLATE in FLAGS if that one has no zlib.h. Prints one line per violation and exits 1
if there is any; --show prints the longest way, too.
"""

import argparse
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Dict, Iterator, List, NamedTuple, Set, Tuple

import csource

FRAME_MAX = 2048
PATH_MAX = 4096
# They stand on ws.h, and what they call is Python's, or a TLS library's.
APART = ("bridge", "tls_mbedtls", "tls_names", "tls_openssl")
# Members that hold a function of csrc/ unless the application has put its own there.
HOOKS = {"clock", "resize", "wall_clock"}

NODE = re.compile(r'node: \{ title: "([^"]+)" label: "[^"]*\\n(\d+) bytes \(([^)]*)\)')
EDGE = re.compile(r'edge: \{ sourcename: "([^"]+)" targetname: "([^"]+)" label: "([^"]*)"')
INDIRECT = "__indirect_call"
ASSIGNED = re.compile(r"(?:\.|->)(\w+) = &?(\w+)[,;]")
CALLED = re.compile(r"(?<!table)(?:->|\.)(\w+)\(")
CALLED_BY_MACRO = re.compile(r"\bWS__CALL\([^,]+, (?:\w+(?:->|\.))*(\w+)")


class Calls(NamedTuple):
    """What gcc and the sources tell; functions have the titles that gcc gives them."""

    frames: Dict[str, int]
    dynamic: Set[str]  # functions whose frame has no limit
    targets: Dict[str, Set[str]]
    calling_back: Set[str]


def name_of(title: str) -> str:
    """Return the name in the source: "csrc/ws.c:turn.part.0" is turn."""
    return title.rpartition(":")[2].split(".")[0]


def compile_all(sources: List[Path], gcc: List[str], to: Path) -> List[Path]:
    """Return the call graphs of the files."""
    running = []
    for source in sources:
        command = [*gcc, "-std=c11", "-D_GNU_SOURCE", "-DWS_BUILDING", "-w"]
        output = to / f"{source.stem}.o"
        command += ["-fcallgraph-info=su", "-c", str(source), "-o", str(output)]
        running.append(subprocess.Popen(command))
        if len(running) % 2 == 0:
            running[-2].wait()
    codes = [process.wait() for process in running]
    if any(codes):
        sys.exit("check_stack.py: csrc/ does not compile with this gcc")
    return sorted(to.glob("*.ci"))


def assigned(sources: List[Path], known: Dict[str, Set[str]]) -> Dict[str, Set[str]]:
    """Return the functions of csrc/ that a member of each name may hold."""
    found: Dict[str, Set[str]] = {}
    for source in sources:
        for match in ASSIGNED.finditer(csource.without_comments(csource.read(source))):
            if match.group(2) in known:
                found.setdefault(match.group(1), set()).update(known[match.group(2)])
    return found


def members_in(place: str) -> Set[str]:
    """Return the members through which functions are called at FILE:LINE:COLUMN."""
    name, line, _ = place.rsplit(":", 2)
    text = csource.read(Path(name)).splitlines()[int(line) - 1]
    macro = CALLED_BY_MACRO.search(text)
    return {macro.group(1)} if macro else set(CALLED.findall(text))


def read_calls(graphs: List[Path], sources: List[Path]) -> Calls:
    calls = Calls({}, set(), {}, set())
    indirect: List[Tuple[str, str]] = []
    for graph in graphs:
        for line in graph.read_text().splitlines():
            node, edge = NODE.match(line), EDGE.match(line)
            if node:
                calls.frames[node.group(1)] = int(node.group(2))
                if node.group(3) == "dynamic":
                    calls.dynamic.add(node.group(1))
            elif edge and edge.group(2) == INDIRECT:
                indirect.append((edge.group(1), edge.group(3)))
            elif edge:
                calls.targets.setdefault(edge.group(1), set()).add(edge.group(2))
    known: Dict[str, Set[str]] = {}
    for title in calls.frames:
        known.setdefault(name_of(title), set()).add(title)
    holds = assigned(sources, known)
    for caller, place in indirect:
        members = members_in(place)
        targets = {target for member in members for target in holds.get(member, ())}
        calls.targets.setdefault(caller, set()).update(targets)
        if not targets or members & HOOKS:
            calls.calling_back.add(caller)
    return calls


# ---- the longest way --------------------------------------------------------------------------


def circles(calls: Calls) -> List[List[str]]:
    """Return the functions in groups that call each other in a circle, those that are called first
    (Tarjan's strongly connected components)."""
    index: Dict[str, int] = {}
    low: Dict[str, int] = {}
    path: List[str] = []
    groups: List[List[str]] = []

    def visit(title: str) -> None:
        index[title] = low[title] = len(index)
        path.append(title)
        for target in calls.targets.get(title, ()):
            if target not in calls.frames:
                continue
            if target not in index:
                visit(target)
            if target in path:
                low[title] = min(low[title], low[target])
        if low[title] == index[title]:
            at = path.index(title)
            groups.append(path[at:])
            del path[at:]

    sys.setrecursionlimit(10000)
    for title in sorted(calls.frames):
        if title not in index:
            visit(title)
    return groups


Way = Tuple[int, List[str]]  # bytes, and the functions


def ways(calls: Calls) -> List[Way]:
    """Return the longest way to a callback from each group of functions that leads to one."""
    group_of: Dict[str, int] = {}
    found: Dict[int, Way] = {}
    for number, group in enumerate(circles(calls)):
        group_of.update((title, number) for title in group)
        below = {
            group_of[target]
            for title in group
            for target in calls.targets.get(title, ())
            if target in calls.frames
        }
        further = [found[other] for other in below if other in found]
        if any(title in calls.calling_back for title in group):
            further.append((0, []))
        if further:
            size, names = max(further)
            own = sum(calls.frames[title] for title in group)
            text = ", ".join(sorted(name_of(title) for title in group))
            found[number] = own + size, [f"{text} {own}", *names]
    return list(found.values())


def violations(calls: Calls) -> Iterator[str]:
    for title, size in sorted(calls.frames.items()):
        if size > FRAME_MAX:
            yield f"{name_of(title)} takes {size} bytes of stack, at most {FRAME_MAX} are allowed"
    for title in sorted(calls.dynamic):
        yield f"{name_of(title)} takes an amount of stack that has no limit"
    size, names = max(ways(calls), default=(0, []))
    if size > PATH_MAX:
        way = " > ".join(names)
        yield f"{size} bytes of stack to a callback, at most {PATH_MAX} are allowed: {way}"


def main() -> int:
    parser = argparse.ArgumentParser(description="Check how much stack csrc/ needs.")
    parser.add_argument("--root", type=Path, default=Path(__file__).resolve().parent.parent)
    parser.add_argument("--cc", default="gcc", help="a gcc for any CPU, with options (gcc)")
    parser.add_argument("--flags", default="-O2", help="its options (-O2)")
    parser.add_argument("--show", action="store_true", help="print the longest way")
    options = parser.parse_args()
    gcc = [*options.cc.split(), *options.flags.split()]
    name = options.cc.partition(" ")[0]
    if not shutil.which(name):
        parser.error(f"--cc: there is no program {name!r}")
    files = sorted((options.root / "csrc").glob("*.[ch]"))
    sources = [path for path in files if not path.stem.startswith(APART)]
    with tempfile.TemporaryDirectory() as folder:
        compiled = [path for path in sources if path.suffix == ".c"]
        graphs = compile_all(compiled, gcc, Path(folder))
        calls = read_calls(graphs, sources)
    if not calls.frames:
        print("csrc: no C functions found")
        return 1
    found = list(violations(calls))
    for line in found:
        print(line)
    if options.show:
        size, names = max(ways(calls), default=(0, []))
        print(f"{size} bytes to a callback, the longest way:", *names, sep="\n    ")
        print(f"{max(calls.frames.values())} bytes, the largest frame")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
