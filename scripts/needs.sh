# Sourced: installs what is missing on a Debian machine, and nothing else.

# need PACKAGE PROGRAM…: PACKAGE is wanted unless every PROGRAM is there. A PROGRAM with a slash is a file.
needs=()
# Packages that whoever sources this has found wanting in another way.
also=()
need() { needs+=("$*"); }

# Those of the packages in `needs` that are wanted, in `missing`.
find_missing() {
    missing=()
    local wanted package program
    for wanted in "${needs[@]}"; do
        read -r package wanted <<<"$wanted"
        for program in $wanted; do
            if ! PATH="$PATH:/usr/sbin:/sbin" command -v "$program" >/dev/null && ! [[ $program == */* && -e $program ]]; then
                missing+=("$package")
                break
            fi
        done
    done
}

install_missing() {
    find_missing
    missing+=("${also[@]}")
    [ ${#missing[@]} -gt 0 ] || return 0
    if ! command -v apt-get >/dev/null; then
        echo "please install what has these Debian packages' programs: ${missing[*]}" >&2
        exit 3
    fi
    local sudo=
    [ "$(id -u)" = 0 ] || sudo=sudo
    $sudo apt-get -qq update >&2
    # Twice: apt takes away what does not go with a package that it is told to install, such as the qemu-utils of another release.
    for _ in 1 2; do
        echo "installing ${missing[*]}" >&2
        DEBIAN_FRONTEND=noninteractive $sudo apt-get -qq install --no-install-recommends "${missing[@]}" >&2
        find_missing
        [ ${#missing[@]} -gt 0 ] || return 0
    done
    echo "apt has installed these, and their programs are still not there: ${missing[*]}" >&2
    exit 3
}

if ! command -v cargo >/dev/null; then
    echo "brim is built with Rust 1.88 or newer: install it with rustup, or your distribution's packages" >&2
    exit 3
fi
need gcc cc
need libc6-dev /usr/include/stdio.h
need btrfs-progs mkfs.btrfs
need e2fsprogs mkfs.ext4
need xfsprogs mkfs.xfs
