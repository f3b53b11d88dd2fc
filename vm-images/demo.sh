#!/bin/sh
# vm-images/demo.sh - moult in one command: a real Debian security update goes into a running Debian guest, whose /usr is
# on a read-only file system (erofs) while /etc can be written: both are upgraded in one transaction.
#
#   vm-images/demo.sh              installs what it needs, builds, boots the guest, upgrades it, shows what happened
#   vm-images/demo.sh --moult ...  the operator's command against the demo's moultd: --moult status
#   vm-images/demo.sh --exec CMD   a command in the guest:                          --exec 'openssl version'
#   vm-images/demo.sh --console    the guest's serial console (Ctrl-] leaves it)
#   vm-images/demo.sh --stop       ends guest and moultd, removes what the demo made (not the build)
#
# For Debian 12, as root. Nothing outside of the source tree is changed but for installed packages. A second run is
# quick: it takes the upgrade back first, and pushes it again.
set -eu
TOP=$(cd "$(dirname "$0")/.." && pwd)
cd "$TOP"
DEMO=${MOULT_DEMO_DIR:-$TOP/build/demo}
LOG=$DEMO/log
MOULT=$TOP/build/release/host-service/moult
MOULTD=$TOP/build/release/host-service/moultd
VM="/usr/bin/python3 $TOP/tests/support/vm.py"
MOULT_SOCKET=$DEMO/moultd.sock
export MOULT_SOCKET

bold= plain=
if [ -t 1 ]; then
        bold=$(printf '\033[1m')
        plain=$(printf '\033[0m')
fi

die() { echo "demo: $*" >&2; exit 1; }

heading() {
        echo
        echo "$bold$*$plain"
}

# moultd's pid, or nothing: the number in the file may long be another program's.
moultd_pid() {
        pid=$(cat "$DEMO/moultd.pid" 2>/dev/null) || return 0
        if tr '\0' '\n' 2>/dev/null <"/proc/$pid/cmdline" | grep -qxF "$MOULT_SOCKET"; then echo "$pid"; fi
}

stop_all() {
        $VM stop "$DEMO/vm" || true
        pid=$(moultd_pid)
        if [ -n "$pid" ]; then
                kill "$pid"
                tail --pid="$pid" -f /dev/null
        fi
}

case ${1:-} in
--stop)
        stop_all
        rm -rf "$DEMO"
        echo "The demo's guest and moultd are gone. Images and build stay in build/."
        exit 0
        ;;
--moult) shift; exec "$MOULT" "$@" ;;
--exec) shift; exec $VM exec "$DEMO/vm" -- "$@" ;;
--console) exec $VM console "$DEMO/vm" ;;
'') ;;
*) sed -n '2,11s/^# \{0,1\}//p' "$0"; exit 2 ;;
esac

# step TEXT COMMAND...: runs it with its output in the log; on a terminal the log's last line shows that it lives.
step() {
        text=$1; shift
        started=$(date +%s)
        printf '%s' "  $text "
        "$@" >"$LOG/step" 2>&1 &
        child=$!
        if [ -t 1 ]; then
                while kill -0 $child 2>/dev/null; do
                        last=$(tail -n 1 "$LOG/step" 2>/dev/null | tr -cd '[:print:]' | cut -c1-50)
                        printf '\r  %s (%d s) %s\033[K' "$text" $(($(date +%s) - started)) "$last"
                        sleep 0.5
                done
                printf '\r  %s \033[K' "$text"
        fi
        if wait $child; then
                echo "... $(($(date +%s) - started)) s"
                cat "$LOG/step" >>"$LOG/all"
        else
                echo "... failed"
                tail -n 30 "$LOG/step" >&2
                die "\"$text\" failed; the whole output is in $LOG/step"
        fi
}

guest() { $VM exec "$DEMO/vm" -- "$@"; }

[ "$(id -u)" = 0 ] || die "run it as root: packages are installed and the guest image is made with root's rights"
grep -q '^VERSION_ID="12"' /etc/os-release && grep -q '^ID=debian' /etc/os-release ||
        die "this needs Debian 12 (bookworm); here is $(sed -n 's/^PRETTY_NAME=//p' /etc/os-release)"
[ ${#DEMO} -lt 80 ] || die "$DEMO is too long a name for sockets to lie in: set MOULT_DEMO_DIR to a shorter one"
mkdir -p "$LOG" "$DEMO/trust"

heading "1. Build"
step "packages" build-aux/packages.sh build image
step "configure" cmake --preset release
step "compile" cmake --build --preset release
step "guest image: Debian 12 with an OpenSSL from last year, /usr on a read-only erofs" \
        env MOULT_BUILD="$TOP/build/release" vm-images/debian-erofs/build.sh
IMAGE=$(tail -n 1 "$LOG/step")

heading "2. A virtual machine, and moultd beside it"
# A guest of an older image would run an older agent.
if [ "$(cat "$DEMO/image" 2>/dev/null)" != "$IMAGE" ]; then
        stop_all
        rm -rf "$DEMO/vm" "$DEMO/state"
fi
echo "$IMAGE" >"$DEMO/image"
step "the guest boots" $VM start "$DEMO/vm" --image "$IMAGE"
if [ -z "$(moultd_pid)" ]; then
        setsid "$MOULTD" --state-dir "$DEMO/state" --socket "$MOULT_SOCKET" --trust "$DEMO/trust" --immutable-packs no \
                >>"$LOG/moultd" 2>&1 </dev/null &
        echo $! >"$DEMO/moultd.pid"
fi
step "moultd answers" sh -c 'n=0; until "$1" status; do n=$((n + 1)); [ $n -lt 100 ] || exit 1; sleep 0.1; done' \
        sh "$MOULT"
if [ ! -e "$DEMO/demo.key" ]; then
        step "a signing key" "$MOULT" key new --out "$DEMO/demo.key"
fi
# In a template the operator's public key is there from the start.
cp "$DEMO/demo.pub" "$DEMO/trust/"
$VM put "$DEMO/vm" "$DEMO/demo.pub" /etc/moult/trusted.d/demo.pub
if ! "$MOULT" vm show demo >/dev/null 2>&1; then
        step "moultd is told of the guest" "$MOULT" vm add demo --qmp "$DEMO/vm/qmp.sock" --agent "$DEMO/vm/agent.sock"
fi

heading "3. A release: what Debian's security team has changed since"
if ! "$MOULT" release list 2>/dev/null | grep -q debian-security; then
        rm -rf "$DEMO/trees" "$DEMO/release.moult"
        step "the packages of the guest and today's" /usr/bin/python3 tests/support/updates.py debian-update "$DEMO/trees" "$IMAGE"
        step "compare, compress, sign" "$MOULT" release build "$DEMO/trees/new" --from "$DEMO/trees/old" \
                --name debian-security --version 1 --sign "$DEMO/demo.key" -o "$DEMO/release.moult"
        step "import" "$MOULT" release import "$DEMO/release.moult"
fi
sed 's/^/  /' "$DEMO/trees/versions"
echo "  $(du -h "$DEMO/release.moult" | cut -f1) in one file, signed: build/demo/release.moult"

if guest test -e /run/demo-upgraded 2>/dev/null; then
        heading "(This guest was upgraded by an earlier run: first, back to the old files.)"
        "$MOULT" rollback demo --wait || die "the rollback failed; vm-images/demo.sh --stop, and run it again"
        guest rm /run/demo-upgraded
fi

# One file that cannot be written, and one that can: what does a process see that opens them now?
which_serves() {
        guest moult-agent which /usr/bin/openssl /etc/ssl/openssl.cnf | sed 's/^/  /'
}

look() {
        guest 'printf "  %-14s %s\n" "openssl" "$(openssl version | cut -d" " -f1-5)" \
                "time zones" "$(sed -n "s/^# version //p" /usr/share/zoneinfo/tzdata.zi)" \
                "boot id" "$(cat /proc/sys/kernel/random/boot_id)" "up since" "$(cut -d. -f1 /proc/uptime) seconds"'
}

heading "4. Before"
look | tee "$DEMO/before"
which_serves
echo "  \$ touch /usr/bin/openssl"
guest 'touch /usr/bin/openssl 2>&1; true' | sed 's/^/  /'

heading "5. The push: one transaction, the guest runs on"
"$MOULT" push debian-security=1 demo --wait || die "the push failed; the guest's side: vm-images/demo.sh --exec 'journalctl -u moult-agent'"
guest touch /run/demo-upgraded

heading "6. After"
look | tee "$DEMO/after"
boot_before=$(grep 'boot id' "$DEMO/before")
boot_after=$(grep 'boot id' "$DEMO/after")
[ "$boot_before" = "$boot_after" ] || die "the guest has rebooted"
which_serves
$VM put "$DEMO/vm" "$DEMO/trees/md5sums" /run/md5sums
echo "  Debian's own checksums of the new packages: $(guest 'cd / && md5sum -c --quiet /run/md5sums >/dev/null 2>&1 && echo all $(wc -l </run/md5sums) files right || echo WRONG')"
echo "  Same boot id: nothing was restarted but what the release asked for."

cat <<END

${bold}The guest is still up. Look around:$plain
  vm-images/demo.sh --exec 'moult-agent status'     what the guest's agent says
  vm-images/demo.sh --exec 'moult-agent history'    its generations
  vm-images/demo.sh --exec 'moult-agent which PATH' what serves a path now, and from which release
  vm-images/demo.sh --moult status                  what moultd says
  vm-images/demo.sh --moult rollback demo --wait    the old files again
  vm-images/demo.sh --console                       log in (Ctrl-] leaves)
  vm-images/demo.sh --stop                          end it all
END
