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
need util-linux fstrim blkdiscard findmnt
install_missing

# The release that the settings in deny.toml were written for.
deny=0.20.2
tools=${CARGO_TARGET_DIR:-target}/tools
if ! cargo deny --version 2>/dev/null | grep -q " $deny$"; then
    PATH="$PWD/$tools/bin:$tools/bin:$PATH"
    cargo deny --version 2>/dev/null | grep -q " $deny$" ||
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
if cargo nextest --version >/dev/null 2>&1; then
    step cargo nextest run --workspace --locked --no-fail-fast
    step cargo test --workspace --locked --doc --quiet
else
    step cargo test --workspace --locked --no-fail-fast
fi
step bash nbd-server/suites/run
