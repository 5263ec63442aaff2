#!/bin/bash
# SPDX-License-Identifier: MIT
# Build pyws for other CPUs and test it there, under the emulators of qemu-user:
#
#     packaging/cross/check.sh [--brief] [--jobs N] [--keep DIR] TARGET...
#
# A target is the name of a .ini file in this folder, "native" for this machine, "often" for those
# that the project's CI checks or "all". Each is built with -Werror; then the unit tests run, a
# client sends messages to the example `echo`, the instructions of masking and of the check of UTF-8
# are compared with loops over bytes, and tools/conformance tests the example. With --brief, long
# tests are left out. The last lines are a table. With --keep, the builds and a log of each target
# stay in DIR.
#
# Needs meson and ninja, Debian's cross compilers and qemu-user, which it names if they are missing,
# for "musl" and "musl-armv7" the Python package ziglang, and the network, for the source of zlib.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)

brief=
jobs=2
kept=
targets=()
while [ $# -gt 0 ]; do
    case $1 in
    --brief) brief=yes ;;
    --jobs) jobs=$2 && shift ;;
    --keep) kept=$2 && shift ;;
    often) targets+=(armv7 mips musl) ;;
    all)
        targets+=(native armv7 mips riscv64 i386 musl musl-armv7)
        targets+=(aarch64 s390x powerpc armv5 mipsel)
        ;;
    -*) echo "unknown option $1" >&2 && exit 2 ;;
    *) targets+=("$1") ;;
    esac
    shift
done
[ ${#targets[@]} -gt 0 ] || { sed -n '3,/^set/s/^# \{0,1\}//p' "$0" >&2 && exit 2; }
work=$kept
if [ -z "$kept" ]; then
    work=$(mktemp -d)
    trap 'rm -rf "$work"' EXIT
fi
mkdir -p "$work"
work=$(cd "$work" && pwd)

# ---- what is needed ---------------------------------------------------------------------------

# Prints the words of a list in a cross file: what stands in quotes in the line of that name.
words() { # target, name
    [ "$1" = native ] || sed -n "s/^$2 = //p" "$here/$1.ini" | grep -o "'[^']*'" | tr -d "'"
}

missing=()
for target in "${targets[@]}"; do
    [ "$target" = native ] && continue
    [ -e "$here/$target.ini" ] || { echo "no target is called $target" >&2 && exit 2; }
    for program in $(words "$target" c | head -n 1) $(words "$target" exe_wrapper | head -n 1); do
        command -v "$program" >/dev/null || missing+=("$program")
    done
done
if [ ${#missing[@]} -gt 0 ]; then
    echo "missing: ${missing[*]}" >&2
    echo "On Debian, qemu-user has the emulators. For a compiler TRIPLET-gcc, install gcc-TRIPLET" >&2
    echo "and libc6-dev-ARCHITECTURE-cross." >&2
    exit 2
fi

# ---- zlib -------------------------------------------------------------------------------------

# Debian has no zlib for cross compilers, so its source package is compiled here.
get_zlib() {
    local apt=(-o "Dir::Etc::sourcelist=-" -o "Dir::Etc::sourceparts=$work/apt/sources"
        -o "Dir::State::lists=$work/apt/lists" -o "Dir::Cache=$work/apt/cache") list
    [ ! -e "$work/zlib/zlib.h" ] || return 0
    mkdir -p "$work"/apt/{sources,lists/partial,cache/archives/partial} "$work/zlib"
    # Where the binary packages come from, there are the sources, too.
    for list in /etc/apt/sources.list /etc/apt/sources.list.d/*; do
        [ ! -e "$list" ] ||
            sed -e 's/^Types:.*/Types: deb-src/' -e 's/^deb /deb-src /' "$list" \
                >"$work/apt/sources/$(basename "$list")"
    done
    apt-get "${apt[@]}" -q update || true # some have none
    (cd "$work/apt" && apt-get "${apt[@]}" -q source --download-only zlib)
    tar -xf "$work"/apt/zlib_*.orig.tar.* --strip-components=1 -C "$work/zlib"
}

# Makes a static zlib, and the cross file that leads to it.
build_zlib() { # target, folder
    local file compiler archiver
    mapfile -t compiler < <(words "$1" c)
    mapfile -t archiver < <(words "$1" ar)
    mkdir -p "$2"
    for file in adler32 crc32 deflate inffast inflate inftrees trees zutil; do
        "${compiler[@]}" -O2 -fPIC -w -c "$work/zlib/$file.c" -o "$2/$file.o" || return
    done
    rm -f "$2/libz.a"
    "${archiver[@]}" rcs "$2/libz.a" "$2"/*.o || return
    printf 'Name: zlib\nDescription: zlib\nVersion: 1.2.13\nCflags: -I%s\nLibs: -L%s -lz\n' \
        "$work/zlib" "$2" >"$2/zlib.pc"
    printf "[properties]\npkg_config_libdir = '%s'\n" "$2" >"$2/zlib.ini"
}

# ---- one target -------------------------------------------------------------------------------

set_up() { # target, folder
    local cross=() again=()
    if [ "$1" != native ]; then
        build_zlib "$1" "$2/zlib" || return
        cross=(--cross-file "$here/$1.ini" --cross-file "$2/zlib/zlib.ini")
    fi
    [ ! -e "$2/build/build.ninja" ] || again=(--reconfigure)
    meson setup "$2/build" "$root" ${again[@]+"${again[@]}"} --werror -Ddeflate=enabled -Dpython=none \
        -Ddefault_library=static ${cross[@]+"${cross[@]}"} &&
        ninja -C "$2/build" examples/c/echo examples/c/pyws-testee
}

# The brief form leaves out long tests, and those over TLS that also run without.
run_units() { # folder
    local names=()
    [ -z "$brief" ] || mapfile -t names < <(meson test -C "$1/build" --list --suite unit |
        sed -n 's/^unit - pyws://p' | grep -vE '_tls$|^fuzz_|^soak$')
    meson test -C "$1/build" --suite unit --timeout-multiplier 5 \
        --print-errorlogs --num-processes "$processes" ${names[@]+"${names[@]}"}
}

count_units() { # folder
    [ -e "$1/build/meson-logs/testlog.junit.xml" ] || { echo 'not built' && return; }
    python3 - "$1/build/meson-logs/testlog.junit.xml" <<'PY'
import sys
import xml.etree.ElementTree as xml

cases = list(xml.parse(sys.argv[1]).iter("testcase"))
failed = sum(case.find("failure") is not None or case.find("error") is not None for case in cases)
skipped = sum(case.find("skipped") is not None for case in cases)
print(len(cases) - failed - skipped, "passed,", failed, "failed,", skipped, "skipped")
PY
}

run_echo() { # folder, command of the emulator
    PYTHONPATH=$root/tests/py python3 - "${@:2}" "$1/build/examples/c/echo" <<'PY'
import subprocess
import sys

from peer import close_frame, frame, upgraded

command = [*sys.argv[1:], "--print-port", "--max-payload", "1000000"]
with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
    with upgraded(int(process.stdout.readline())) as peer:
        for text in (b"", b"echo", b"\xc3\xa9" * 4000, b"x" * 100_000):
            peer.send(frame(text))
            assert peer.frame().payload == text
        peer.send(close_frame(1000))
        assert peer.frame().close_code == 1000
    process.terminate()
    assert process.wait(20) == 0
PY
}

conform() { # folder, command of the emulator
    local part=()
    [ -z "$brief" ] || part=(--include '1,2,5,6.1,6.2,7.1,9.1,12.1,H.1,H.3')
    python3 "$root/tools/conformance" ${part[@]+"${part[@]}"} --timeout-scale 4 \
        --fail-on non-strict,skipped --max-time 1800 --json "$1/conformance.json" \
        --serve "${*:2} $1/build/examples/c/pyws-testee --port 0 --print-port \
            --max-payload 16777216 --max-backpressure 134217728 --compression shared"
}

# Without the sanitizers, whose instructions come on top of both.
count_instructions() { # target
    local compiler emulator
    mapfile -t compiler < <(words "$1" c | grep -v '^-fsanitize')
    mapfile -t emulator < <(words "$1" exe_wrapper)
    python3 "$root/tools/bench/byte_cost.py" \
        --cc "${compiler[*]-cc} $(words "$1" c_args | xargs) -O2" \
        --qemu "${emulator[*]:-qemu-$(uname -m)}"
}

count_verdicts() { # folder
    [ -e "$1/conformance.json" ] || { echo 'not run' && return; }
    python3 - "$1/conformance.json" <<'PY'
import json
import sys

counts = json.load(open(sys.argv[1]))["runs"][0]["counts"]
print(", ".join(f"{number} {name}" for name, number in counts.items() if number))
PY
}

# Runs one step of a target. The others run even if it fails.
step() { # folder, name, command
    printf '\n==== %s\n' "$2"
    "${@:3}" && return
    printf '!!!! failed: %s\n' "$2"
    echo "$2" >>"$1/failed"
}

outcome() { # folder, name of the step
    if grep -qsx "$2" "$1/failed"; then echo failed; else echo passed; fi
}

check() { # target
    local folder=$work/$1 emulator started=$SECONDS
    mkdir -p "$folder"
    rm -f "$folder"/{failed,conformance.json,row}
    mapfile -t emulator < <(words "$1" exe_wrapper)
    if ! set_up "$1" "$folder"; then
        echo "| $1 | | not built | | | |" >"$folder/row"
        return 1
    fi
    step "$folder" units run_units "$folder"
    step "$folder" echo run_echo "$folder" "${emulator[@]}"
    step "$folder" instructions count_instructions "$1"
    step "$folder" conformance conform "$folder" "${emulator[@]}"
    printf '| %s | %d | %s | %s | %s | %s |\n' "$1" $((SECONDS - started)) \
        "$(count_units "$folder")" "$(outcome "$folder" echo)" "$(outcome "$folder" instructions)" \
        "$(count_verdicts "$folder")" >"$folder/row"
    [ ! -e "$folder/failed" ]
}

# ---- all of them ------------------------------------------------------------------------------

get_zlib >"$work/zlib.log" 2>&1 || { cat "$work/zlib.log" && exit 1; }
processes=$((jobs < ${#targets[@]} ? 1 : $(nproc)))
code=0
running=0
for target in "${targets[@]}"; do
    if [ "$running" = "$jobs" ]; then
        wait -n || code=1
        running=$((running - 1))
    fi
    (check "$target" >"$work/$target.log" 2>&1) &
    running=$((running + 1))
done
while [ "$running" -gt 0 ]; do
    wait -n || code=1
    running=$((running - 1))
done
for target in "${targets[@]}"; do
    if [ -e "$work/$target/failed" ] || [ ! -e "$work/$target/row" ]; then
        printf '\n#### %s\n' "$target"
        cat "$work/$target.log"
    fi
done
printf '\n| target | seconds | unit tests | echo | loops over bytes | conformance |\n'
printf '|---|---|---|---|---|---|\n'
for target in "${targets[@]}"; do
    cat "$work/$target/row" 2>/dev/null || echo "| $target | | not built | | | |"
done
exit $code
