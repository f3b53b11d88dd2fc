#!/bin/sh
# tiny/build.sh - the guest of most tests: Debian's cloud kernel, busybox, the agent. Boots in seconds.
#
#   tiny/build.sh [ro|static]      ro: with an application on disks that cannot be written, one per kind: /ro/squashfs, /ro/erofs,
#                                  /ro/ext4, /ro/verity
#                                  static: with the static agent, and not one shared library
#
# Prints the image's folder: disk.img (ext4), vmlinuz, initrd.img. The agent comes from $MOULT_BUILD, else
# build/faults, else build/release; a sanitizer build works too, its libraries are copied along.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
TOP=$(cd "$here/../.." && pwd)
. "$here/../lib.sh"

case ${1:-} in
'') name=tiny ;;
ro) name=tiny-ro ;;
static) name=tiny-static ;;
*) die "a tiny guest \"$1\"? (nothing, ro or static)" ;;
esac
apt_ready
work_dir
build=$(agent_build)
agent=$build/guest-agent/moult-agent
[ $name != tiny-static ] || agent=$agent-static
[ -x "$agent" ] || die "there is no $agent: cmake --preset faults && ninja -C build/faults"
targetfs=$(targetfs "$build")
kernel

recover=$TOP/guest-agent/moult-recover.init
boot_ok=$TOP/guest-agent/moult-boot-ok.init
image=$IMAGES/$name-$(key "$(basename "$KERNEL_DIR")" "@$agent" ${targetfs:+"@$targetfs"} "$(ldd "$agent" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p' |
        sort | xargs sha256sum | sha256sum)" "@$here/build.sh" "@$here/inittab" "@$here/rcS" "@$recover" "@$boot_ok" "@$here/run-agent" \
        "@$here/../exec-server" "@$here/../lib.sh" "$(dpkg-query -W busybox-static attr libcap2-bin tar \
        squashfs-tools erofs-utils e2fsprogs cryptsetup-bin)" "@$TOP/tests/support/trees.py")
if [ ! -e "$image/disk.img" ]; then
        say "making the $name guest"
        r=$WORK/root
        out=$WORK/image
        mkdir -p "$out" "$r"
        for d in bin sbin usr/bin usr/sbin etc/init.d etc/moult/trusted.d proc sys dev run tmp root var/lib var/log srv \
                home mnt opt usr/lib/moult-test lib/modules; do
                mkdir -p "$r/$d"
        done
        chmod 1777 "$r/tmp"
        chmod 700 "$r/root"
        cp /bin/busybox "$r/bin/busybox"
        for applet in $(/bin/busybox --list-full); do
                mkdir -p "$r/$(dirname "$applet")"
                [ -e "$r/$applet" ] || ln -s /bin/busybox "$r/$applet"
        done
        ln -sf /bin/busybox "$r/sbin/init"
        if [ $name != tiny-static ]; then
                # Independent witnesses of metadata that busybox has no tool for, and a tar that keeps all of it.
                rm -f "$r/bin/tar" "$r/usr/bin/tar"
                copy_program "$r" /usr/bin/tar
                copy_program "$r" /usr/bin/getfattr
                copy_program "$r" /usr/bin/setfattr
                copy_program "$r" /usr/sbin/getcap
                copy_program "$r" /usr/bin/lsattr
                copy_program "$r" /usr/bin/chattr
        fi
        copy_program "$r" "$agent" /usr/sbin/moult-agent
        [ -z "$targetfs" ] || copy_program "$r" "$targetfs" /usr/sbin/moult-targetfs
        ln -s ../sbin/moult-agent "$r/usr/bin/moult-agent"
        cp "$here/inittab" "$r/etc/inittab"
        cp "$here/rcS" "$r/etc/init.d/rcS"
        install -m 755 "$recover" "$r/etc/init.d/moult-recover"
        install -m 755 "$boot_ok" "$r/etc/init.d/moult-boot-ok"
        cp "$here/run-agent" "$here/../exec-server" "$r/usr/lib/moult-test/"
        chmod 755 "$r/etc/init.d/rcS" "$r"/usr/lib/moult-test/*
        printf 'NAME="moult tiny"\nID=moult-tiny\nVERSION_ID="1"\n' >"$r/etc/os-release"
        printf 'root::0:0:root:/root:/bin/sh\nnobody:x:65534:65534:nobody:/:/bin/false\n' >"$r/etc/passwd"
        printf 'root:x:0:\nnogroup:x:65534:\n' >"$r/etc/group"
        printf 'virtio_console\nvirtio_net\noverlay\nfuse\nloop\nvirtio_pmem\nnd_pmem\n' >"$r/etc/modules"
        if [ $name = tiny-ro ]; then
                # What tests change: the old half of the application that they make releases of. Everything is under app/;
                # mnt/ is for a file system mounted below.
                /usr/bin/python3 "$TOP/tests/support/trees.py" application "$WORK/application" app
                ro=$WORK/application/old
                mkdir "$ro/mnt"
                for kind in squashfs erofs ext4 verity; do
                        mkdir -p "$r/ro/$kind"
                        fs=$kind
                        [ $kind != verity ] || fs=ext4
                        readonly_disk $fs "$ro" "$out/$kind.img"
                        echo "ro-$kind $kind.img" >>"$out/disks"
                        echo "$kind $fs" >>"$r/etc/ro-disks"
                done
                # The hashes lie behind the data of the same disk; the root hash is what a boot loader would vouch for.
                copy_program "$r" /usr/sbin/veritysetup
                chmod 644 "$out/verity.img"
                size=$(stat -c %s "$out/verity.img")
                root_hash=$(veritysetup format --hash-offset="$size" --salt=6d6f756c74 \
                        --uuid=6d6f756c-7400-4000-8000-000000000003 "$out/verity.img" "$out/verity.img" |
                        sed -n 's/^Root hash:[[:space:]]*//p')
                [ -n "$root_hash" ] || die "veritysetup made no root hash"
                chmod 444 "$out/verity.img"
                sed -i "s/^verity .*/& $size $root_hash/" "$r/etc/ro-disks"
                printf 'squashfs\nerofs\ndm_verity\n' >>"$r/etc/modules"
        fi
        mkdir -p "$r/lib/modules/$KVER"
        for m in $(module_files "$KERNEL_DIR/tree" $(cat "$r/etc/modules") btrfs); do
                target=$r/lib/modules/$KVER/${m#*/"$KVER"/}
                mkdir -p "$(dirname "$target")"
                cp "$m" "$target"
        done
        cp "$KERNEL_DIR/modules/$KVER/modules.order" "$KERNEL_DIR/modules/$KVER/modules.builtin" \
                "$KERNEL_DIR/modules/$KVER/modules.builtin.modinfo" "$r/lib/modules/$KVER/"
        depmod -b "$r" "$KVER"
        disk "$r" 3G "$out/disk.img"
        chmod 444 "$out/disk.img"
        ln -s "../$(basename "$KERNEL_DIR")/vmlinuz" "$out/vmlinuz"
        ln -s "../$(basename "$KERNEL_DIR")/initrd.img" "$out/initrd.img"
        echo "$KVER" >"$out/kernel-version"
        publish "$out" "$image"
fi
used "$image" "$KERNEL_DIR"
ln -sfn "$(basename "$image")" "$IMAGES/$name"
echo "$image"
