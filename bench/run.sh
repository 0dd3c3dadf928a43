#!/usr/bin/env bash
# Measures `brim serve` beside other NBD servers and writes bench/RESULTS.md: bash bench/run.sh [-r ROUNDS] [-t SECONDS]
# [-s GIB] [-w WORKLOADS] [-o FILE]. stdout is the short table for the README. The defaults take about an hour and want a quiet machine.
set -euo pipefail
cd "$(dirname "$0")/.."
rounds=5 seconds=2 gib=4 out=bench/RESULTS.md workloads=()
while getopts r:t:s:o:w: option; do
    case $option in
    r) rounds=$OPTARG ;;
    t) seconds=$OPTARG ;;
    s) gib=$OPTARG ;;
    o) out=$OPTARG ;;
    w) workloads=(-w "$OPTARG") ;;
    *) exit 2 ;;
    esac
done
. scripts/needs.sh
need fio fio
need nbdkit nbdkit
need qemu-utils qemu-nbd
need nbd-server nbd-server
need libnbd-bin nbdcopy
need util-linux taskset
need python3-minimal python3
install_missing

cargo build --release --locked --package brim >&2
BRIM=$(realpath "${CARGO_TARGET_DIR:-target}/release/brim")
export BRIM
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# shellcheck disable=SC2016 # compare.sh sets SOCK and SIZE
brim='brim=@exec "$BRIM" serve --unix $SOCK --size $SIZE'
measure() { bash bench/compare.sh -r "$rounds" -t "$seconds" -s "$gib" "$@" "$brim" --baselines >"$scratch/table" || return; }
measure -o "$scratch/free.tsv" "${workloads[@]}"
# With one request in flight, which of the two processors a process wakes up on decides more than the server does.
measure -o "$scratch/same.tsv" -p same -w "randread-q1 randwrite-q1 blast-read-q1 blast-write-q1"

version() { "$@" 2>&1 | head -n 1 || true; }
{
    echo "processor: $(sed -n 's/^model name[^:]*: //p' /proc/cpuinfo | head -n 1), $(nproc) cores"
    echo "memory: $(awk '/MemTotal/ { printf "%d GiB", $2 / 1048576 }' /proc/meminfo)"
    echo "kernel: $(uname -r)"
    echo "date: $(date -u +%F)"
    echo "brim: $(version "$BRIM" --version), commit $(git rev-parse --short HEAD)"
    echo "nbdkit: $(version nbdkit --version)"
    echo "qemu-nbd: $(version qemu-nbd --version)"
    echo "nbd-server: $(version nbd-server --version)"
    echo "fio: $(version fio --version)"
    echo "nbdcopy: $(version nbdcopy --version)"
    echo "run: $rounds interleaved rounds of $seconds s a workload, a disk of $gib GiB"
} >"$scratch/machine"
python3 bench/table.py "$scratch/machine" "$scratch/free.tsv" "$scratch/same.tsv" "$out"
echo "$out is written" >&2
