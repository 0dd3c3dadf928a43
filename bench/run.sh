#!/usr/bin/env bash
# Measures `brim serve` beside other NBD servers, and writes bench/RESULTS.md. stdout is the short table for the README.
#
#   bash bench/run.sh [-r ROUNDS] [-t SECONDS] [-s GIB] [-w "WORKLOAD…"] [-o FILE]
#
#   -r ROUNDS   how often everything is measured; medians are told (5). A round is one time through all servers
#   -t SECONDS  how long a workload runs, each time (2)
#   -s GIB      the size of the disk, all of which is written before anything is measured (4). It has to fit into memory
#               and into /dev/shm
#   -w "…"      only these workloads (all): randread-q1 randwrite-q1 randread-q64 randwrite-q64 randread-q16x4
#               seqread-256k-q16 seqwrite-256k-q16 nbdcopy-read blast-read-q1 blast-write-q1 blast-read-q64 blast-write-q64
#   -o FILE     what is written (bench/RESULTS.md)
#
# After these, the workloads with one request in flight are measured again with client and server on one processor.
#
# Beside the servers stands a ceiling, bench/ceiling.c: it keeps nothing and looks at nothing, so that what it reaches is what the
# client and the sockets of this machine leave to any server.
#
# It takes about ROUNDS × 9 servers × (16 workloads × (SECONDS + 0.7 s) + 2 × GIB seconds), which is 40 minutes with the
# defaults, and wants a machine that does nothing else. Samples during which others took more than a quarter of a
# processor are left out where three better ones are there. It fails where a sample is missing, but writes the rest.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=5 seconds=2 gib=4 out=bench/RESULTS.md workloads=()
usage() { sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//;p}' bench/run.sh; }
while getopts hr:t:s:o:w: option; do
    case $option in
    r) rounds=$OPTARG ;;
    t) seconds=$OPTARG ;;
    s) gib=$OPTARG ;;
    o) out=$OPTARG ;;
    w) workloads=(-w "$OPTARG") ;;
    h) usage && exit 0 ;;
    *) usage >&2 && exit 2 ;;
    esac
done
[ $# = $((OPTIND - 1)) ] || { usage >&2 && exit 2; }
if [ "$(df --output=avail -k /dev/shm | tail -n 1)" -lt $(((gib << 20) + 65536)) ]; then
    echo "/dev/shm has no room for a disk of $gib GiB: choose a smaller one with -s" >&2
    exit 2
fi
. scripts/needs.sh
need fio fio
need nbdkit nbdkit
need qemu-utils qemu-nbd
need nbd-server nbd-server
need libnbd-bin nbdcopy
need util-linux taskset
python3 -c 'import csv, json, statistics' 2>/dev/null || also+=(python3)
install_missing

cargo build --release --locked --package brim >&2
BRIM=$(realpath "${CARGO_TARGET_DIR:-target}/release/brim")
export BRIM
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

gcc -O2 -pthread -o "$scratch/ceiling" bench/ceiling.c
export CEILING=$scratch/ceiling

# shellcheck disable=SC2016 # compare.sh sets SOCK and SIZE
ceiling='ceiling=@exec "$CEILING" $SOCK $SIZE'
# shellcheck disable=SC2016
brim='brim=@exec "$BRIM" serve --unix $SOCK --size $SIZE'
measure() { bash bench/compare.sh -r "$rounds" -t "$seconds" -s "$gib" "$@" "$brim" "$ceiling" --baselines >"$scratch/table" || return; }
measure -o "$scratch/free.tsv" "${workloads[@]}"
# With one request in flight, which of the two processors a process wakes up on decides more than the server does.
measure -o "$scratch/same.tsv" -p same -w "randread-q1 randwrite-q1 blast-read-q1 blast-write-q1"

version() { "$@" 2>&1 | head -n 1 || true; }
{
    echo "processor: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
    echo "memory: $(awk '/MemTotal/ { printf "%d GiB", $2 / 1048576 }' /proc/meminfo)"
    echo "kernel: $(uname -r)"
    echo "date: $(date -u +%F)"
    echo "brim: $(version "$BRIM" --version), commit $(git describe --always --dirty --exclude "*")"
    echo "nbdkit: $(version nbdkit --version)"
    echo "qemu-nbd: $(version qemu-nbd --version)"
    echo "nbd-server: $(version nbd-server --version)"
    echo "fio: $(version fio --version)"
    echo "nbdcopy: $(version nbdcopy --version)"
    echo "run: $rounds interleaved rounds of $seconds s a workload, a disk of $gib GiB"
} >"$scratch/machine"
python3 bench/table.py "$scratch/machine" "$scratch/free.tsv" "$scratch/same.tsv" "$out" "$rounds"
