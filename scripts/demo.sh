#!/usr/bin/env bash
# Installs what is missing, builds brim, and runs the 2019 report on this kernel. As root.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/needs.sh
install_missing

cargo build --release --locked
brim=${CARGO_TARGET_DIR:-target}/release/brim

"$brim" doctor
echo
"$brim" run scenarios/btrfs/fallocate-then-pwrite.toml --trials 20
echo
"$brim" run scenarios/btrfs/fallocate-then-pwrite.toml --set free="64..68 blocks"
echo
"$brim" run scenarios/btrfs/fallocate-then-pwrite.toml --set free="64..68 blocks" --filesystem ext4
echo
echo "brim is $brim"
