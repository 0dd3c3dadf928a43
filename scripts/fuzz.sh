#!/usr/bin/env bash
# scripts/fuzz.sh [SECONDS] [TARGET…]: fuzzes all targets, or those named, for SECONDS in all (280), two at a time.
#
# libFuzzer on the stable compiler: its coverage is a pass of LLVM that needs no nightly. It starts from fuzz/corpus/ and
# collects what it finds in fuzz/work/; with KEEP=1 the least of both that covers as much becomes fuzz/corpus/, for a
# commit. It fails when a target does, and names the input under fuzz/artifacts/. JOBS=1 runs one at a time.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/needs.sh
need g++ c++
install_missing

seconds=${1:-280}
shift || true
mapfile -t all < <(sed -n 's/^path = "fuzz_targets\/\(.*\)\.rs"$/\1/p' fuzz/Cargo.toml)
targets=("$@")
[ $# -gt 0 ] || targets=("${all[@]}")

host=$(rustc -vV | sed -n 's/^host: //p')
# With --target, build scripts and macros are left alone.
flags=(
    -Cpasses=sancov-module
    -Cllvm-args=-sanitizer-coverage-level=4
    -Cllvm-args=-sanitizer-coverage-inline-8bit-counters
    -Cllvm-args=-sanitizer-coverage-pc-table
    -Cllvm-args=-sanitizer-coverage-trace-compares
    --cfg fuzzing
    -Ccodegen-units=1
)
RUSTFLAGS="${flags[*]}" cargo build --quiet --release --manifest-path fuzz/Cargo.toml --target "$host"
programs=$(cargo metadata --manifest-path fuzz/Cargo.toml --no-deps --format-version 1 |
    sed 's/.*"target_directory":"\([^"]*\)".*/\1/')/$host/release

found=fuzz/artifacts
jobs=${JOBS:-2}
each=$((seconds * jobs / ${#targets[@]}))
[ "$each" -gt 0 ] || each=1

fuzz() {
    local target=$1 corpus=fuzz/corpus/$1 work=fuzz/work/$1 log=$found/$1.log
    mkdir -p "$corpus" "$work" "$found/$target"
    if ! "$programs/$target" -max_total_time="$each" -timeout=25 -rss_limit_mb=2048 -max_len=4096 \
        -print_final_stats=1 -artifact_prefix="$found/$target/" "$work" "$corpus" >"$log" 2>&1; then
        tail -n 25 "$log" >&2
        echo "$target failed; the input is the last file in $found/$target/, and the log is $log" >&2
        return 1
    fi
    echo "$target: $(grep -o 'cov: [0-9]* ft: [0-9]* corp: [^ ]*' "$log" | tail -n 1)" \
        "$(sed -n 's/^stat::average_exec_per_sec: */exec\/s: /p' "$log")"
    [ "${KEEP:-}" = 1 ] || return 0
    local kept=fuzz/work/$target.kept
    rm -rf "$kept"
    mkdir "$kept"
    # By the code reached alone, and not by how often: for the latter libFuzzer finds its inputs again in no time.
    "$programs/$target" -set_cover_merge=1 -use_counters=0 -max_len=4096 "$kept" "$corpus" "$work" >"$log.merge" 2>&1
    rm -r "$corpus"
    mv "$kept" "$corpus"
}

export -f fuzz
export programs found each
printf '%s\n' "${targets[@]}" | xargs -P "$jobs" -I{} bash -euo pipefail -c 'fuzz {}'
