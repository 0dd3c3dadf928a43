# Sourced: installs what is missing on a Debian machine, and nothing else.

# need PACKAGE PROGRAM…: PACKAGE is wanted unless every PROGRAM is there.
missing=()
need() {
    local package=$1 program
    shift
    for program in "$@"; do
        if ! PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null; then
            missing+=("$package")
            return
        fi
    done
}

install_missing() {
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "please install what has these Debian packages' programs: ${missing[*]}" >&2
        exit 3
    fi
    local sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    echo "installing ${missing[*]}" >&2
    $sudo apt-get -qq update >&2
    DEBIAN_FRONTEND=noninteractive $sudo apt-get -qq install --no-install-recommends "${missing[@]}" >&2
}

if ! command -v cargo >/dev/null; then
    echo "brim is built with Rust 1.88 or newer: install it with rustup, or your distribution's packages" >&2
    exit 3
fi
need gcc cc
[ -e /usr/include/stdio.h ] || missing+=(libc6-dev)
need btrfs-progs mkfs.btrfs
need e2fsprogs mkfs.ext4
need xfsprogs mkfs.xfs
