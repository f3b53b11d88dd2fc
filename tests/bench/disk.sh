#!/bin/sh
# bench/disk.sh - copying and comparing a disk of 2 GiB of random data: ours, qemu-img's, nbdcopy's, in turn. Needs 4 GiB in DIR.
#
#   tests/bench/disk.sh DIR [ROUNDS]      DIR: where the images lie: a disk's file system, or one in memory (/dev/shm)
set -eu
dir=${1:?usage: $0 DIR [ROUNDS]}/moult-bench-disk
rounds=${2:-3}
cd "$(dirname "$0")/../.."
./build-aux/packages.sh build image bench
cmake --preset release >/dev/null
cmake --build --preset release --target bench_disk_copy >/dev/null
ours=build/release/tests/bench_disk_copy
mkdir "$dir"
trap 'rm -rf "$dir"' EXIT
head -c 2147483648 /dev/zero | openssl enc -aes-128-ctr -pass pass:x -nosalt 2>/dev/null | dd of="$dir/raw" bs=1M status=none
qemu-img convert -f raw -O qcow2 "$dir/raw" "$dir/a.qcow2"
rm "$dir/raw"

measure() {
        name=$1
        shift
        command time -f "$name: %e s, CPU %U + %S s" "$@"
}
copy() {
        rm -f "$dir/b.qcow2"
        qemu-img create -q -f qcow2 "$dir/b.qcow2" 2G
        sync
        measure "$@"
}
for round in $(seq "$rounds"); do
        copy "copy, ours" "$ours" copy "$dir/a.qcow2" "$dir/b.qcow2"
        copy "copy, nbdcopy" nbdcopy --flush -- [ qemu-nbd -r -f qcow2 "$dir/a.qcow2" ] [ qemu-nbd -f qcow2 "$dir/b.qcow2" ]
        copy "copy, qemu-img convert" qemu-img convert -n -t writeback -f qcow2 -O qcow2 "$dir/a.qcow2" "$dir/b.qcow2"
        measure "compare, ours" "$ours" compare "$dir/a.qcow2" "$dir/b.qcow2"
        measure "compare, qemu-img" qemu-img compare -q -f qcow2 -F qcow2 "$dir/a.qcow2" "$dir/b.qcow2"
done
