#!/bin/sh
# debian/build.sh - Debian 12 with systemd, the agent as a service, and an OpenSSL, curl and time zone data that are
# behind the archive, so that a real security update can be pushed into it.
#
#   debian/build.sh [ext4|erofs|squashfs]      what /usr is on: the root's own ext4, or a read-only disk of its own
#   debian/build.sh databases                  on ext4, with PostgreSQL, MariaDB and SQLite, none of which starts by itself
#
# Prints the image's folder: disk.img (ext4), vmlinuz, initrd.img, packages, and for a read-only /usr usr.img and the
# list `disks`. The root tree without the agent is kept by itself (base-KEY): a new agent costs seconds, not another
# debootstrap.
set -eu
usr=${1:-ext4}
more=
here=$(cd "$(dirname "$0")" && pwd)
TOP=$(cd "$here/../.." && pwd)
. "$here/../lib.sh"

[ "$(id -u)" = 0 ] || die "the debian image must be made as root (mmdebstrap runs package scripts in a chroot)"
case $usr in
ext4) name=debian ;;
erofs | squashfs) name=debian-$usr ;;
databases)
        name=debian-databases
        usr=ext4
        # The last two and Python are for the clients of the tests.
        more="postgresql-15 mariadb-server sqlite3 python3-minimal python3-psycopg2 python3-pymysql"
        ;;
*) die "/usr on \"$usr\"? (ext4 erofs squashfs, or databases)" ;;
esac
apt_ready
work_dir
build=$(agent_build)
agent=$build/guest-agent/moult-agent
[ -x "$agent" ] || die "there is no $agent: cmake --preset release && ninja -C build/release"
targetfs=$(targetfs "$build")
kernel

# What is upgraded later is installed as old as the archive has it; libssl3 is also what the agent itself runs on.
# ssh and rsync are taken old as well: a newer build of them asks for a newer libssl3.
upgraded="tzdata curl libcurl4"
peers="openssh-server openssh-client openssh-sftp-server rsync"
include="systemd-sysv udev kmod iproute2 procps ca-certificates attr libcap2-bin e2fsprogs qemu-guest-agent
        libglib2.0-0 libprotobuf-c1 libzstd1 zlib1g libfuse3-3"
packages=
for p in $upgraded $peers; do packages="$packages $p=$(package_version "$p" oldest)"; done
for p in $include; do packages="$packages $p=$(package_version "$p" newest)"; done

base=$IMAGES/base-$(key "pinned $packages" "$(package_versions libssl3)" "$(apt_sources)")
if [ ! -e "$base/root.tar" ]; then
        mkdir -p "$WORK/base"
        proxy=$(apt-config dump --format '%v' Acquire::http::Proxy)
        apt_sources >"$WORK/sources.list"
        # From the oldest on, the first OpenSSL that the rest of today's archive can live with.
        for openssl in $(package_versions libssl3); do
                say "installing Debian 12 with OpenSSL $openssl into a folder (about a minute)"
                all="openssl=$openssl libssl3=$openssl $packages"
                # A version on the command line loses against the newest where the package is "required" (tzdata).
                for p in $all; do
                        printf 'Package: %s\nPin: version %s\nPin-Priority: 1001\n\n' "${p%%=*}" "${p#*=}"
                done >"$WORK/pins"
                # Nobody reads manuals in a test guest; a power cut while its tree is made costs that tree.
                mmdebstrap --quiet --variant=minbase --include="$(echo $all | tr ' ' ,)" \
                        ${proxy:+--aptopt="Acquire::http::Proxy \"$proxy\""} \
                        --aptopt='Acquire::Check-Valid-Until "false"' \
                        --setup-hook="mkdir -p \"\$1/etc/apt/preferences.d\" && cp '$WORK/pins' \"\$1/etc/apt/preferences.d/moult\"" \
                        --customize-hook='rm "$1/etc/apt/preferences.d/moult"' \
                        --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
                        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
                        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
                        bookworm "$WORK/base/root.tar" "$WORK/sources.list" >"$WORK/mmdebstrap.log" 2>&1 && break
                rm -f "$WORK/base/root.tar"
                say "that did not work: $(grep -m 1 -i 'depends\|unmet\|^E:' "$WORK/mmdebstrap.log" || echo no reason given)"
        done
        [ -s "$WORK/base/root.tar" ] || { cat "$WORK/mmdebstrap.log" >&2; die "mmdebstrap failed"; }
        # What dpkg says is there, not what was asked for.
        tar -xOf "$WORK/base/root.tar" ./var/lib/dpkg/status | awk '/^Package: /{p=$2} /^Version: /{print p "=" $2}' |
                sort >"$WORK/base/packages"
        publish "$WORK/base" "$base"
fi

# More packages go on top of that tree, which takes less than half of the time of a new one.
if [ -n "$more" ]; then
        below=$base
        packages=
        for p in $more; do packages="$packages $p=$(package_version "$p" newest)"; done
        base=$IMAGES/base-$(key "$(basename "$below")" "$packages" "$(apt_sources)" "@$here/servers")
        if [ ! -e "$base/root.tar" ]; then
                say "adding $more"
                mkdir -p "$WORK/base"
                proxy=$(apt-config dump --format '%v' Acquire::http::Proxy)
                apt_sources >"$WORK/sources.list"
                # The folder of a base is as dpkg has left it: nothing is to be set up, or to be cleaned for another system.
                mmdebstrap --quiet --variant=custom --include="$(echo $packages | tr ' ' ,)" \
                        ${proxy:+--aptopt="Acquire::http::Proxy \"$proxy\""} \
                        --aptopt='Acquire::Check-Valid-Until "false"' --aptopt='APT::Install-Recommends "false"' \
                        --setup-hook="tar -C \"\$1\" --numeric-owner --xattrs --xattrs-include='*' -xpf '$below/root.tar'" \
                        --customize-hook="chroot \"\$1\" sh -eu <'$here/servers'" \
                        --dpkgopt=force-unsafe-io --dpkgopt='path-exclude=/usr/share/man/*' --dpkgopt='path-exclude=/usr/share/doc/*' \
                        --dpkgopt='path-include=/usr/share/doc/*/copyright' \
                        --dpkgopt='path-exclude=/usr/share/locale/*' --dpkgopt='path-exclude=/usr/share/info/*' \
                        bookworm "$WORK/base/root.tar" "$WORK/sources.list" >"$WORK/mmdebstrap.log" 2>&1 ||
                        { cat "$WORK/mmdebstrap.log" >&2; die "mmdebstrap failed"; }
                cat "$below/packages" >"$WORK/base/packages"
                printf '%s\n' $packages >>"$WORK/base/packages"
                publish "$WORK/base" "$base"
        fi
        used "$below"
fi

unit=$TOP/guest-agent/moult-agent.service
recover=$TOP/guest-agent/moult-recover.service
boot_ok=$TOP/guest-agent/moult-boot-ok.service
image=$IMAGES/$name-$(key "$(basename "$base")" "$(basename "$KERNEL_DIR")" "@$agent" ${targetfs:+"@$targetfs"} "@$here/build.sh" \
        "@$here/moult-exec-server.service" "@$unit" "@$recover" "@$boot_ok" "@$here/../exec-server" "@$here/../lib.sh")
if [ ! -e "$image/disk.img" ]; then
        say "making the $name guest"
        r=$WORK/root
        out=$WORK/image
        mkdir -p "$out" "$r"
        tar -C "$r" --numeric-owner --xattrs --xattrs-include='*' -xpf "$base/root.tar"

        mkdir -p "$r/etc/moult" "$r/usr/lib/moult-test" "$r/lib/modules"
        install -m 755 "$agent" "$r/usr/sbin/moult-agent"
        [ -z "$targetfs" ] || install -m 755 "$targetfs" "$r/usr/sbin/moult-targetfs"
        ln -s ../sbin/moult-agent "$r/usr/bin/moult-agent"
        install -m 644 "$unit" "$recover" "$boot_ok" "$r/lib/systemd/system/"
        install -m 755 "$here/../exec-server" "$r/usr/lib/moult-test/exec-server"
        install -m 644 "$here/moult-exec-server.service" "$r/lib/systemd/system/"
        cp -a "$KERNEL_DIR/modules/$KVER" "$r/lib/modules/"

        wants=$r/etc/systemd/system/multi-user.target.wants
        mkdir -p "$wants"
        for s in moult-agent moult-exec-server systemd-networkd; do
                ln -sf "/lib/systemd/system/$s.service" "$wants/$s.service"
        done
        mkdir -p "$r/etc/systemd/system/sysinit.target.wants"
        ln -sf /lib/systemd/system/moult-recover.service "$r/etc/systemd/system/sysinit.target.wants/"
        # ssh is for the benchmarks, which start it; its keys belong to one VM, not to a template.
        rm -f "$r"/etc/ssh/ssh_host_* "$wants/ssh.service" "$r/etc/systemd/system/sshd.service"
        mkdir -p "$r/etc/systemd/system/ssh.service.d" "$r/etc/systemd/system/serial-getty@ttyS0.service.d"
        printf '[Service]\nExecStartPre=\nExecStartPre=/bin/sh -c "test -e /etc/ssh/ssh_host_ed25519_key || ssh-keygen -q -t ed25519 -N \\"\\" -f /etc/ssh/ssh_host_ed25519_key"\n' \
                >"$r/etc/systemd/system/ssh.service.d/keys.conf"
        printf 'HostKey /etc/ssh/ssh_host_ed25519_key\nPermitRootLogin prohibit-password\nUseDNS no\n' \
                >"$r/etc/ssh/sshd_config.d/moult-test.conf"
        # The serial console of the demo is open; nothing but the host's user can reach it.
        printf '[Service]\nExecStart=\nExecStart=-/sbin/agetty --autologin root --noclear ttyS0 linux\n' \
                >"$r/etc/systemd/system/serial-getty@ttyS0.service.d/autologin.conf"
        for s in apt-daily.timer apt-daily-upgrade.timer dpkg-db-backup.timer e2scrub_all.timer e2scrub_reap.service \
                fstrim.timer systemd-pstore.service; do
                ln -sf /dev/null "$r/etc/systemd/system/$s"
        done
        mkdir -p "$r/etc/systemd/network"
        printf '[Match]\nName=en* eth*\n\n[Network]\nDHCP=ipv4\n' >"$r/etc/systemd/network/80-dhcp.network"
        printf 'virtio_console\nvirtio_net\n' >"$r/etc/modules-load.d/moult-test.conf"
        printf '/dev/vda / ext4 defaults 0 1\n' >"$r/etc/fstab"
        echo moult-debian >"$r/etc/hostname"
        printf '127.0.0.1 localhost\n127.0.1.1 moult-debian\n' >"$r/etc/hosts"
        : >"$r/etc/machine-id"

        if [ $usr != ext4 ]; then
                # As an image maker would do it: what the packages brought is read-only, the rest of the root is not.
                # The initramfs mounts it, so that systemd runs from it.
                mv "$r/usr" "$WORK/usr"
                mkdir "$r/usr"
                printf '/dev/disk/by-id/virtio-usr /usr %s ro 0 0\n' $usr >>"$r/etc/fstab"
                readonly_disk $usr "$WORK/usr" "$out/usr.img"
                echo "usr usr.img" >"$out/disks"
        fi
        disk "$r" 8G "$out/disk.img"
        chmod 444 "$out/disk.img"
        ln -s "../$(basename "$KERNEL_DIR")/vmlinuz" "$out/vmlinuz"
        ln -s "../$(basename "$KERNEL_DIR")/initrd.img" "$out/initrd.img"
        cp "$base/packages" "$out/packages"
        publish "$out" "$image"
fi
used "$image" "$base" "$KERNEL_DIR"
ln -sfn "$(basename "$image")" "$IMAGES/$name"
echo "$image"
