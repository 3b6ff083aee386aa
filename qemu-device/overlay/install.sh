#!/bin/sh
# SPDX-License-Identifier: GPL-2.0-or-later
#
# install.sh QEMU_SOURCE
#
# Puts the device into a QEMU source tree as hw/net/labnic, where QEMU's own
# build finds it. Running it again brings changed sources up to date.
set -eu

if [ $# -ne 1 ]; then
    echo "usage: install.sh QEMU_SOURCE" >&2
    exit 2
fi
device=$(cd "$(dirname "$0")/.." && pwd)
qemu=$1
target=$qemu/hw/net/labnic

for file in meson.build hw/net/meson.build hw/net/Kconfig; do
    if [ ! -f "$qemu/$file" ]; then
        echo "labnic: $qemu is no QEMU source tree: it has no $file" >&2
        exit 1
    fi
done

# Copies a file unless it is the same, so that nothing is compiled in vain.
put() {
    cmp -s "$1" "$2" || cp "$1" "$2"
}

mkdir -p "$target/include"
for file in "$device"/*.c "$device"/*.h "$device"/trace-events \
    "$device"/overlay/Kconfig "$device"/overlay/meson.build; do
    put "$file" "$target/${file##*/}"
done
put "$device/include/labnic_hw.h" "$target/include/labnic_hw.h"

grep -qx 'source labnic/Kconfig' "$qemu/hw/net/Kconfig" ||
    printf '\nsource labnic/Kconfig\n' >>"$qemu/hw/net/Kconfig"
grep -qx "subdir('labnic')" "$qemu/hw/net/meson.build" ||
    printf "\nsubdir('labnic')\n" >>"$qemu/hw/net/meson.build"
# The list of folders that have a file trace-events
if ! grep -q "'hw/net/labnic'," "$qemu/meson.build"; then
    sed -i "s|^\( *\)'hw/net',\$|&\n\1'hw/net/labnic',|" "$qemu/meson.build"
    grep -q "'hw/net/labnic'," "$qemu/meson.build" || {
        echo "labnic: $qemu/meson.build has no 'hw/net' to stand beside" >&2
        exit 1
    }
fi
