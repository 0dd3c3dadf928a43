#!/usr/bin/env bash
# Measures how exactly a delay that was asked for is kept, beside nbdkit and qemu-nbd, and what rows of the fault table cost
# that match nothing. Writes bench/DELAYS.md.
#
#   bash bench/delays.sh [-r ROUNDS] [-t SECONDS]
#
#   -r ROUNDS   how often everything is measured; medians are told (5). A round is one time through all servers
#   -t SECONDS  how long each is measured (1)
#
# It takes about ROUNDS × 40 × (SECONDS + 0.3 s) and wants a machine that does nothing else.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=5 seconds=1
while getopts r:t: option; do
    case $option in
    r) rounds=$OPTARG ;;
    t) seconds=$OPTARG ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2 && exit 2 ;;
    esac
done
. scripts/needs.sh
need nbdkit nbdkit
need qemu-utils qemu-nbd
need gcc gcc
python3 -c 'import statistics' 2>/dev/null || also+=(python3)
install_missing
cargo build --release --locked --package brim >&2
BRIM=$(realpath "${CARGO_TARGET_DIR:-target}/release/brim")
scratch=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$scratch"' EXIT
gcc -O2 -o "$scratch/blast" bench/nbdblast.c
socket=$scratch/socket

profile() { # NAME ROW…: a device profile with these rows
    printf 'schema = 1\nname = "%s"\nabout = "a measurement"\nsource = "bench/delays.sh"\n' "$1"
    shift
    printf '[[fault]]\n%s\n' "$@"
}
for delay in 100 1000 10000; do
    profile delay "name = \"delay\"
when = {}
then = { delay = \"$delay us\" }" >"$scratch/delay-$delay.toml"
done
rows=() places=()
for row in $(seq 100); do
    rows+=("name = \"row $row\"
when = { op = \"trim\" }
then = \"hold\"")
    places+=("name = \"row $row\"
when = { range = { offset = \"$((8000 + row)) MiB\", length = \"4 KiB\" } }
then = \"hold\"")
done
profile rows "${rows[@]}" >"$scratch/rows.toml"
profile places "${places[@]}" >"$scratch/places.toml"

measure() { # SERVER ASKED DEPTH… -- COMMAND…: reads and, with ASKED "rows", writes of 4 KiB
    local name=$1 asked=$2 depths=() operations=(read)
    shift 2
    while [ "$1" != -- ]; do depths+=("$1") && shift; done
    shift
    [ "$asked" != rows ] || operations=(read write)
    rm -f "$socket"
    "$@" >/dev/null 2>&1 &
    server=$!
    for _ in $(seq 100); do [ -S "$socket" ] && break || sleep 0.02; done
    sleep 0.1
    for depth in "${depths[@]}"; do
        for operation in "${operations[@]}"; do
            echo "$name|$asked|$depth|$operation|$(timeout 60 "$scratch/blast" "$socket" "" "$operation" 4096 "$depth" "$seconds")"
        done
    done >>"$scratch/samples"
    kill "$server" && wait "$server" || true
    server=
}

for round in $(seq "$rounds"); do
    echo "round $round of $rounds" >&2
    for delay in 100 1000 10000; do
        measure brim "$delay" 1 16 64 -- "$BRIM" serve --unix "$socket" --size 1GiB --config "$scratch/delay-$delay.toml"
        measure qemu-nbd "$delay" 1 16 64 -- qemu-nbd -t -k "$socket" --image-opts "driver=null-co,size=1G,latency-ns=${delay}000"
        # nbdkit before 1.40 takes whole milliseconds.
        [ "$delay" = 100 ] ||
            measure nbdkit "$delay" 1 16 64 -- nbdkit -f -U "$socket" --filter=delay memory 1G "rdelay=$((delay / 1000))ms"
    done
    measure "no row" rows 64 -- "$BRIM" serve --unix "$socket" --size 4GiB
    measure "100 rows about trims" rows 64 -- "$BRIM" serve --unix "$socket" --size 4GiB --config "$scratch/rows.toml"
    measure "100 rows about other places" rows 64 -- "$BRIM" serve --unix "$socket" --size 4GiB --config "$scratch/places.toml"
done

version() { "$@" 2>&1 | head -n 1 || true; }
{
    echo "processor: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
    echo "kernel: $(uname -r)"
    echo "date: $(date -u +%F)"
    echo "brim: $(version "$BRIM" --version), commit $(git describe --always --dirty --exclude "*")"
    echo "nbdkit: $(version nbdkit --version)"
    echo "qemu-nbd: $(version qemu-nbd --version)"
    echo "run: $rounds interleaved rounds of $seconds s"
} >"$scratch/machine"
python3 - "$scratch/machine" "$scratch/samples" >bench/DELAYS.md <<'PYTHON'
import collections
import statistics
import sys

machine, samples = sys.argv[1:]
groups = collections.OrderedDict()
for line in open(samples, encoding="utf-8"):
    name, asked, depth, operation, told = line.rstrip("\n").split("|")
    words = told.split()
    found = [float(words[0])] + [float(words[words.index(key) + 1]) for key in ("p50", "p99")]
    groups.setdefault((asked, name, int(depth), operation), []).append(found)
median = lambda rows, at: statistics.median(row[at] for row in rows)
print("# How exactly delays are kept, and what rows cost\n\nWritten by `bash bench/delays.sh`.\n")
for line in open(machine, encoding="utf-8"):
    print("-", line.strip())
print("""
4 KiB reads by bench/nbdblast.c. The excess is what was measured by the client less what was asked for, so that it has the way
there and back, and the wake-ups of both sides. Medians of the rounds.

| asked | in flight | server | IOPS | ideal | excess, median | excess, 99th percentile |
| --- | --- | --- | --- | --- | --- | --- |""")
order = sorted((int(asked), depth, name) for asked, name, depth, _ in groups if asked != "rows")
for asked, depth, name in order:
    rows = groups[str(asked), name, depth, "read"]
    ideal = depth * 1e6 / asked
    print(f"| {asked} µs | {depth} | {name} | {median(rows, 0):.0f} | {ideal:.0f} | {median(rows, 1) - asked:.0f} µs "
          f"| {median(rows, 2) - asked:.0f} µs |")
print("""
64 requests of 4 KiB in flight on an empty disk, beside the same server without a row, pair by pair:

| table | reads a second | of those without rows | writes a second | of those without rows |
| --- | --- | --- | --- | --- |""")
for name in ("no row", "100 rows about trims", "100 rows about other places"):
    cells = []
    for operation in ("read", "write"):
        rows, alone = groups["rows", name, 64, operation], groups["rows", "no row", 64, operation]
        share = statistics.median(row[0] / other[0] for row, other in zip(rows, alone))
        cells += [f"{median(rows, 0):.0f}", f"{share:.2f}"]
    print(f"| {name} |", " | ".join(cells), "|")
PYTHON
sed -n '/^| asked/,$p' bench/DELAYS.md
