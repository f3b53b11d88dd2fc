#!/bin/sh
# build-aux/packages.sh - installs the Debian 12 packages of one or more groups; does nothing where they are there.
#
#   build-aux/packages.sh [--list] GROUP...      groups: build test image package bench conformance all
#
# `--list` prints the names instead of installing. apt-get update runs only if something is missing.
set -eu

build='build-essential cmake ninja-build pkg-config ccache clang-14 libclang-rt-14-dev
        libglib2.0-dev libprotobuf-c-dev protobuf-c-compiler libssl-dev libzstd-dev zlib1g-dev
        libjson-glib-dev libvirt-dev libvirt-glib-1.0-dev libxml2-dev libsoup-3.0-dev libsqlite3-dev libyaml-dev
        libcurl4-openssl-dev libarchive-dev libfuse3-dev libguestfs-dev libnbd-dev libcriterion-dev'
test='clang-14 clang-format clang-tidy git python3 python3-pytest python3-pytest-timeout python3-pytest-xdist python3-protobuf protobuf-compiler
        python3-cryptography python3-nacl python3-yaml python3-swift casync python3-prometheus-client libfsverity-dev fsverity sqlite3 zstd e2fsprogs btrfs-progs lvm2 xfsprogs libguestfs-xfs
        strace spin mandoc xz-utils libcap2-bin attr acl openssl ca-certificates curl squashfs-tools erofs-utils fuse3
        libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-utils libguestfs0'
image='qemu-system-x86 qemu-utils mmdebstrap busybox-static kmod cpio e2fsprogs python3 attr libcap2-bin
        ca-certificates debian-archive-keyring openssl xz-utils zstd erofs-utils squashfs-tools cryptsetup-bin'
package='debhelper dpkg-dev fakeroot apparmor systemd'
bench='openssh-client libnbd-bin time rsync xdelta3 casync fuse-overlayfs bindfs fio strace systemd
        restic borgbackup virtnbdbackup zstd libvirt-daemon libvirt-daemon-driver-qemu libvirt-clients'
conformance='autoconf automake perl'

list=no
[ "${1:-}" = --list ] && { list=yes; shift; }
[ $# -gt 0 ] || { echo "usage: $0 [--list] GROUP...   (build test image package bench conformance all)" >&2; exit 2; }

names=
for group; do
        case $group in
        build) names="$names $build" ;;
        test) names="$names $test" ;;
        image) names="$names $image" ;;
        package) names="$names $package" ;;
        bench) names="$names $bench" ;;
        conformance) names="$names $conformance" ;;
        all) names="$names $build $test $image $package $bench $conformance" ;;
        *) echo "$0: there is no package group \"$group\" (build test image package bench conformance all)" >&2; exit 2 ;;
        esac
done
names=$(printf '%s\n' $names | sort -u)
[ $list = no ] || { echo "$names"; exit 0; }

# One dpkg-query for all of them; what it does not know at all is missing as well.
have=$(dpkg-query -W -f '${db:Status-Status} ${Package}\n' $names 2>/dev/null | sed -n 's/^installed //p' | sort -u)
missing=$(printf '%s\n' "$names" | grep -vxF -e "${have:-none}" || true)
[ -n "$missing" ] || exit 0

if [ "$(id -u)" != 0 ]; then
        echo "$0: these packages are missing, and only root can install them:" $missing >&2
        exit 1
fi
echo "Installing" $missing
export DEBIAN_FRONTEND=noninteractive
# A dpkg that is busy elsewhere (unattended-upgrades on a fresh machine) is waited for.
apt="apt-get -q -y -o DPkg::Lock::Timeout=300 -o Dpkg::Use-Pty=0"
$apt update
$apt install --no-install-recommends $missing
