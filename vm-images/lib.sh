# vm-images/lib.sh - what the image recipes share: package download, kernel, initramfs, disk, and the content key.
#
# Sourced by the recipes (/bin/sh), which set TOP. No root mounts, no loop devices, nothing binary in the tree: everything is made
# in $IMAGES (build/images) from the package mirror that this machine's own apt uses. Each product lies in a folder
# named after the key of its inputs, and is made only when there is none with that key.


IMAGES=${MOULT_IMAGES:-$TOP/build/images}

die() { echo "vm-images: $*" >&2; exit 1; }
say() { echo "vm-images: $*" >&2; }

# key TEXT-or-@FILE...: one short name for all inputs.
key() {
        for k; do
                case $k in
                @*) sha256sum <"${k#@}" ;;
                *) printf '%s\n' "$k" ;;
                esac
        done | sha256sum | cut -c1-16
}

# The lists may be missing on a machine where all packages came with the installation.
apt_ready() {
        [ -n "$(apt-cache madison base-files 2>/dev/null)" ] || apt-get -q update >&2 ||
                die "apt-get update failed: the images are made from the Debian mirror; check /etc/apt/sources.list*"
}

# Debian 12's own sources as this machine has them (mirror, proxies and trust included), one deb line each.
apt_sources() {
        apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT) $(SIGNED_BY) $(TRUSTED)' \
                'Created-By: Packages' | sort -u | while read -r uri release component signed trusted; do
                case $release in bookworm | bookworm-*) ;; *) continue ;; esac
                case $signed in /*) ;; *) signed=/usr/share/keyrings/debian-archive-keyring.gpg ;; esac
                [ "$component" = main ] && echo "deb [signed-by=$signed] $uri $release $component"
        done
}

# package_versions NAME: what the archive offers, oldest first.
package_versions() {
        sorted=
        for v in $(apt-cache madison "$1" | cut -d'|' -f2 | tr -d ' ' | sort -u); do
                before= after=
                for w in $sorted; do
                        if dpkg --compare-versions "$w" lt "$v"; then before="$before $w"; else after="$after $w"; fi
                done
                sorted="$before $v $after"
        done
        [ -n "$sorted" ] || die "the package mirror has no $1"
        printf '%s\n' $sorted
}

# package_version NAME oldest|newest
package_version() {
        case $2 in
        oldest) package_versions "$1" | head -n 1 ;;
        newest) package_versions "$1" | tail -n 1 ;;
        esac
}

# download DIR NAME[=VERSION]...: .deb files into DIR.
download() {
        dir=$1; shift
        mkdir -p "$dir"
        # The sandbox user _apt cannot write here; as root apt says so on every file and goes on.
        (cd "$dir" && apt-get -q -o APT::Sandbox::User=root download "$@") >&2 || die "cannot download $*"
}

# publish TMP FINAL: makes a finished product appear at once; of two makers the first wins.
publish() {
        mv -T "$1" "$2" 2>/dev/null || rm -rf "$1"
        [ -d "$2" ] || die "cannot make $2"
}

# used PRODUCT...: marks them, and removes products that no run has used for three days.
used() {
        touch "$@"
        find "$IMAGES" -mindepth 1 -maxdepth 1 -type d -mtime +2 -exec rm -rf {} +
}

# work_dir: a temporary folder beside the products, removed when the recipe ends.
work_dir() {
        mkdir -p "$IMAGES"
        WORK=$(mktemp -d "$IMAGES/.work.XXXXXX")
        trap 'rm -rf "$WORK"' EXIT
        trap 'exit 130' INT TERM HUP
}

# kernel: Debian's cloud kernel with its modules, and an initramfs that finds the disk. Sets KERNEL_DIR, KVER.
kernel() {
        package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: \(linux-image-.*\)/\1/p' | head -n 1)
        [ -n "$package" ] || die "the package mirror has no linux-image-cloud-amd64"
        version=$(package_version "$package" newest)
        KVER=${package#linux-image-}
        KERNEL_DIR=$IMAGES/kernel-$(key "$package" "$version" "@$TOP/vm-images/initramfs-init" "@$TOP/vm-images/lib.sh")
        [ ! -e "$KERNEL_DIR/vmlinuz" ] || return 0
        say "unpacking $package $version"
        download "$WORK/kernel-deb" "$package=$version"
        k=$WORK/kernel
        mkdir -p "$k/root"
        dpkg-deb -x "$WORK"/kernel-deb/*.deb "$k/root"
        mkdir -p "$k/modules"
        mv "$k/root/boot/vmlinuz-$KVER" "$k/vmlinuz"
        mv "$k/root/lib/modules/$KVER" "$k/modules/$KVER"
        rm -rf "$k/root"
        # An unpacked kernel package has no modules.dep.
        mkdir -p "$k/tree/lib"
        ln -s ../../modules "$k/tree/lib/modules"
        depmod -b "$k/tree" "$KVER"

        i=$WORK/initramfs
        mkdir -p "$i/bin" "$i/proc" "$i/sys" "$i/dev" "$i/root" "$i/modules"
        cp /bin/busybox "$i/bin/busybox"
        cp "$TOP/vm-images/initramfs-init" "$i/init"
        chmod 755 "$i/init"
        n=10
        # In the order in which they depend on each other.
        for m in $(module_files "$k/tree" virtio_pci virtio_blk virtio_rng erofs squashfs); do
                cp "$m" "$i/modules/$n-${m##*/}"
                n=$((n + 1))
        done
        (cd "$i" && find . | sort | cpio --quiet -o -H newc | gzip -1) >"$k/initrd.img"
        publish "$k" "$KERNEL_DIR"
}

# module_files TREE MODULE...: paths of the modules with what they need, in load order. What is built in has none.
module_files() {
        tree=$1; shift
        for m; do
                modprobe --show-depends -d "$tree" -S "$KVER" "$m" 2>/dev/null |
                        sed -n 's/^insmod \([^ ]*\).*/\1/p'
        done | awk '!seen[$0]++'
}

# copy_program ROOT SOURCE [TARGET]: a program with every shared library it is linked with.
copy_program() {
        mkdir -p "$1$(dirname "${3:-$2}")"
        cp -L "$2" "$1${3:-$2}"
        ldd "$2" | sed -n 's/.*=> \(\/[^ ]*\).*/\1/p; s/^[[:space:]]*\(\/[^ ]*\) (.*/\1/p' | while read -r lib; do
                [ -e "$1$lib" ] || { mkdir -p "$1$(dirname "$lib")"; cp -L "$lib" "$1$lib"; }
        done
}

# disk ROOT SIZE FILE: an ext4 disk image with the tree ROOT.
disk() {
        : >"$3"
        truncate -s "$2" "$3"
        mke2fs -q -t ext4 -L moult-root -U clear -E hash_seed=6d6f756c-7400-4000-8000-000000000000,lazy_itable_init=1 \
                -d "$1" "$3" || die "mke2fs failed for $3"
}

# readonly_disk erofs|squashfs|ext4 ROOT FILE: a disk image with the tree ROOT that nothing can write to.
readonly_disk() {
        case $1 in
        erofs) mkfs.erofs -zlz4hc,1 --preserve-mtime --quiet -U 6d6f756c-7400-4000-8000-000000000001 "$3" "$2" >&2 ;;
        squashfs) mksquashfs "$2" "$3" -comp zstd -Xcompression-level 3 -noappend -no-progress -quiet >&2 ;;
        ext4)
                # Without a journal a mount has nothing to write; dm-verity wants blocks as large as its own.
                truncate -s 16M "$3" &&
                        mke2fs -q -t ext4 -b 4096 -O ^has_journal -m 0 -U 6d6f756c-7400-4000-8000-000000000002 -d "$2" "$3"
                ;;
        esac || die "cannot make a $1 of $2"
        # QEMU wants whole sectors.
        truncate -s %4096 "$3"
        chmod 444 "$3"
}

# targetfs BUILD: the file system server that belongs to that agent, where this build has one.
targetfs() {
        find "$1/fuse-overlay" -name moult-targetfs -type f -perm -100 2>/dev/null
}

# agent_build: folder of the agent to put in; MOULT_BUILD overrides.
agent_build() {
        if [ -n "${MOULT_BUILD:-}" ]; then
                echo "$MOULT_BUILD"
        elif [ -x "$TOP/build/faults/guest-agent/moult-agent" ]; then
                echo "$TOP/build/faults"
        else
                echo "$TOP/build/release"
        fi
}
