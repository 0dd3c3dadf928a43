#!/usr/bin/env bash
# The usual way to try `btrfs/fallocate-then-pwrite`, as a script: see bench/usual.c, whose arguments it has, and which does the parts
# that want exact numbers.
#
#   sudo bash bench/usual.sh USUAL DIR COUNT FIRST STEP
set -euo pipefail
usual=$1 directory=$2 count=$3 first=$4 step=$5
if [ -z "${BENCH_ALONE:-}" ]; then
    exec env BENCH_ALONE=1 unshare --mount bash "$0" "$@"
fi
mkdir -p "$directory/mount"
for ((trial = 0; trial < count; trial++)); do
    cell=$((first + trial * step))
    blocks=$((cell / 17)) record=$((4096 + cell % 17 * 16000))
    rm -f "$directory/image"
    truncate -s 128M "$directory/image"
    loop=$(losetup --find --show --direct-io=on "$directory/image")
    mkfs.btrfs --quiet --force --nodiscard "$loop" >/dev/null 2>&1
    mount "$loop" "$directory/mount"
    "$usual" fill "$directory/mount" "$blocks"
    echo "$blocks blocks, $record B: $("$usual" steps "$directory/mount" "$record")"
    umount "$directory/mount"
    losetup --detach "$loop"
done
