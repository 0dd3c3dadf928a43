#!/usr/bin/env bash
# Builds two kernels for User Mode Linux from Debian's source of 6.1: `linux-base` as it is, and `linux-reverted`, in which
# the compensation of 467dc47ea99c ("btrfs: fix space_info bytes_may_use underflow after nocow buffered write") is taken
# out of the fallback from NOCOW to COW. Nothing is installed but what builds it, and all files are below DIRECTORY.
set -euo pipefail
if [ $# != 1 ]; then
    echo "usage: scripts/reverted-kernel.sh DIRECTORY     (2 GiB; about 10 minutes on two cores)" >&2
    exit 2
fi
here=$(cd "$(dirname "$0")" && pwd)
# shellcheck source=scripts/needs.sh
. "$here/needs.sh"
needs=()
need gcc cc
need flex flex
need bison bison
need bc bc
need make make
need xz-utils xz
install_missing

mkdir -p "$1"
cd "$1"
if [ ! -e linux-source-6.1/Makefile ]; then
    compgen -G "linux-source-6.1_*.deb" >/dev/null || apt-get -qq download linux-source-6.1
    dpkg-deb --fsys-tarfile linux-source-6.1_*.deb | tar -xO --wildcards '*.tar.xz' | xz -dc | tar -x
fi
cd linux-source-6.1

make_linux() { make -s ARCH=um -j"$(nproc)" "$@"; }
make_linux defconfig
scripts/config -e BTRFS_FS -e BLK_DEV_NBD -e BLK_DEV_INITRD -d MODULES -d INET -d WIRELESS -d WLAN -d SOUND -d DEBUG_INFO
make_linux olddefconfig

# The patch goes in last and out first, so that a second run begins with the source as it was.
in_cow=fs/btrfs/inode.c
[ ! -e "$in_cow.base" ] || mv "$in_cow.base" "$in_cow"
touch "$in_cow"
make_linux linux
cp linux ../linux-base

# What no write reserved is counted as nothing, so it is neither added to bytes_may_use nor does it lose EXTENT_NORESERVE. The
# inodes of the free space cache and of relocation, which are another commit's (2166e5edce9a), are left.
cp -p "$in_cow" "$in_cow.base"
sed -i '/^static int fallback_to_cow(/,/^}/ s/^\tif (count > 0 || is_space_ino || is_reloc_ino) {$/\tcount = 0;\n&/' "$in_cow"
if cmp -s "$in_cow" "$in_cow.base"; then
    echo "fallback_to_cow in $in_cow is not what it was: nothing to take out" >&2
    exit 1
fi
make_linux linux
cp linux ../linux-reverted
mv "$in_cow.base" "$in_cow"
touch "$in_cow"
echo "made $PWD/../linux-base and $PWD/../linux-reverted" >&2
