#!/usr/bin/env bash
# Measures device profiles with fio through a live server, beside what their sources say. Writes bench/PROFILES.md.
#
#   bash bench/profiles.sh [-t SECONDS]
#
#   -t SECONDS  how long each is measured (8)
set -euo pipefail
shopt -s inherit_errexit
cd "$(dirname "$0")/.."
seconds=8
while getopts t: option; do
    case $option in
    t) seconds=$OPTARG ;;
    *) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' "$0" >&2 && exit 2 ;;
    esac
done
. scripts/needs.sh
need fio fio
install_missing
cargo build --release --locked --package brim >&2
BRIM=$(realpath "${CARGO_TARGET_DIR:-target}/release/brim")
scratch=$(mktemp -d)
server=
trap '[ -z "$server" ] || kill "$server" 2>/dev/null || true; rm -rf "$scratch"' EXIT

start() { # PROFILE|- [SIZE]
    [ -z "$server" ] || { kill "$server" && wait "$server" || true; }
    rm -f "$scratch/socket"
    "$BRIM" serve --unix "$scratch/socket" $([ "$1" = - ] || echo "--config $1") ${2:+--size "$2"} >"$scratch/log" 2>&1 &
    server=$!
    until [ -S "$scratch/socket" ]; do
        kill -0 "$server" 2>/dev/null || { cat "$scratch/log" >&2 && exit 1; }
        sleep 0.05
    done
}
measure() { # WHAT SAYS FACTOR UNIT FIELD FIO-OPTION…: FIELD of fio's report, times FACTOR
    local what=$1 says=$2 factor=$3 unit=$4 field=$5
    shift 5
    fio --name=profile --ioengine=nbd --uri="nbd+unix:///?socket=$scratch/socket" --output-format=json \
        --output="$scratch/report" --time_based --runtime="$seconds" "$@" >"$scratch/said" 2>&1 || {
        cat "$scratch/said" >&2 && exit 1
    }
    python3 - "$scratch/report" "$what" "$says" "$factor" "$unit" "$field" <<'PYTHON'
import json, sys
report, what, says, factor, unit, field = sys.argv[1:]
job = json.load(open(report))["jobs"][0]
value = job
for part in field.split("/"):
    value = value[part]
seen = value * float(factor)
print(f"| {what} | {says} {unit} | {seen:.{0 if seen >= 1000 else 1}f} {unit} |")
PYTHON
}
fill() { # TIMES
    fio --name=fill --ioengine=nbd --uri="nbd+unix:///?socket=$scratch/socket" --rw=write --bs=1m --iodepth=16 \
        --size=100% --loops="$1" >/dev/null 2>&1
}
rows() {
    local small="--bs=4k --size=100%" large="--bs=1m --size=100%"
    start hdd-7200 64GiB
    measure "hdd-7200, random reads, 1 in flight" 80.7 1 "a second" read/iops --rw=randread $small
    measure "hdd-7200, random reads, 32 in flight" 80.7 1 "a second" read/iops --rw=randread --iodepth=32 $small
    measure "hdd-7200, reads in order" 138 1e-6 MB/s read/bw_bytes --rw=read --iodepth=4 $large
    start cloud-burst
    measure "cloud-burst, random reads, 1 in flight, median" 700 1e-3 µs 'read/clat_ns/percentile/50.000000' \
        --rw=randread $small
    measure "cloud-burst, random reads, 64 in flight" 3000 1 "a second" read/iops --rw=randread --iodepth=64 $small
    measure "cloud-burst, reads in order" 134.2 1e-6 MB/s read/bw_bytes --rw=read --iodepth=16 $large
    start sd-card-a1
    measure "sd-card-a1, random reads, 8 in flight" 1500 1 "a second" read/iops --rw=randread --iodepth=8 $small
    measure "sd-card-a1, random writes, 64 in flight" 500 1 "a second" write/iops --rw=randwrite --iodepth=64 $small
    measure "sd-card-a1, writes in order" 10 1e-6 MB/s write/bw_bytes --rw=write --iodepth=4 --size=256m --bs=1m
    start ssd-qlc-full 1GiB
    measure "ssd-qlc-full, random reads, 1 in flight, median" 102 1e-3 µs 'read/clat_ns/percentile/50.000000' \
        --rw=randread $small
    # The first write to a block also has to find memory for it.
    fill 1
    measure "ssd-qlc-full, writes in order, into the cache" 1800 1e-6 MB/s write/bw_bytes \
        --rw=write --iodepth=16 --runtime=3 $large
    fill 12
    measure "ssd-qlc-full, writes in order, past it" 100 1e-6 MB/s write/bw_bytes --rw=write --iodepth=16 $large
    start - 1GiB
    fill 1
    measure "no profile, writes in order: as fast as fio can" - 1e-6 MB/s write/bw_bytes --rw=write --iodepth=16 $large
}
table=$(rows)
cat >bench/PROFILES.md <<END
# What device profiles come to

Written by \`bash bench/profiles.sh\`: fio for $seconds s each, through a live \`brim serve --config PROFILE\`.

- processor: $(sed -n 's/^model name[[:space:]]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores
- kernel: $(uname -r)
- date: $(date -I)
- brim: $("$BRIM" --version), commit $(git rev-parse --short HEAD)
- fio: $(fio --version)

What a source says is what a profile is made from; that a disk of the kind does the same nobody has measured here. The test
\`runner/scenario/tests/profiles.rs\` holds the same figures to 1 or 2 % in a time of its own.

| what | its source says | measured |
| --- | --- | --- |
$table
END
cat bench/PROFILES.md
