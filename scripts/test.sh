#!/usr/bin/env bash
# Installs what is missing, then: format, lints, licences, documentation, every test. As root, for the tests that mount.
#
# A test that needs something this machine has not is skipped and says what; with BRIM_TEST_REQUIRE=1 it fails.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/needs.sh
need libnbd-bin nbdinfo nbdcopy
need qemu-utils qemu-io qemu-img
need fio fio
need openssl openssl
need kmod depmod
need systemd systemd-socket-activate
# A kernel that has nbd.ko, as a program.
need user-mode-linux linux.uml
need qemu-system-x86 qemu-system-x86_64
need util-linux fstrim blkdiscard findmnt
# The reports are opened in a browser: some 100 MB, and half a minute.
need chromium chromium
# A campaign as an array job.
need munge munged
need slurm-wlm sbatch slurmctld slurmd
install_missing

# The release that the settings in deny.toml were written for.
deny=0.20.2
tools=${CARGO_TARGET_DIR:-target}/tools
if ! cargo deny --version 2>/dev/null | grep -q " $deny$"; then
    PATH="$PWD/$tools/bin:$tools/bin:$PATH"
    # Built to be had soon, not to be fast: its own settings take minutes on one core.
    cargo deny --version 2>/dev/null | grep -q " $deny$" ||
        CARGO_PROFILE_RELEASE_LTO=off CARGO_PROFILE_RELEASE_CODEGEN_UNITS=16 CARGO_PROFILE_RELEASE_OPT_LEVEL=1 \
        cargo install --quiet --locked cargo-deny --version "$deny" --root "$tools"
fi

step() { echo "== $*" >&2; "$@"; }
step cargo fmt --all --check
# The rest of fuzz/ needs a C++ compiler: scripts/fuzz.sh. The kept corpus is replayed by the tests.
step cargo fmt --manifest-path fuzz/Cargo.toml --check
step cargo clippy --workspace --all-targets --locked -- -D warnings
# Advisories are fetched from the network, which a build machine may not have: `cargo deny check advisories` by hand.
step cargo deny --log-level error check bans licenses sources
RUSTDOCFLAGS="-D warnings" step cargo doc --workspace --no-deps --locked --quiet
# A distribution's kernel for the tests with QEMU. Where it cannot be fetched they are skipped, or fail, and say what they lack.
target=$(realpath -m "${CARGO_TARGET_DIR:-target}")
export BRIM_KERNELS=${BRIM_KERNELS:-$target/kernels}
step cargo build --locked --quiet --package brim
step "$target/debug/brim" kernel add debian/6.1 || true
if cargo nextest --version >/dev/null 2>&1; then
    step cargo nextest run --workspace --locked --no-fail-fast
    step cargo test --workspace --locked --doc --quiet
else
    step cargo test --workspace --locked --no-fail-fast
fi
if [ -e "$BRIM_KERNELS/debian/6.1/vmlinuz" ]; then
    # Machines one by one: they measure how long a kernel takes to its first word.
    BRIM_TEST_PC_KERNEL="$BRIM_KERNELS/debian/6.1/vmlinuz" \
        step cargo test --locked --quiet --package brim --bin brim qemu -- --ignored --test-threads 1
fi
step bash nbd-server/suites/run
