#!/bin/sh
# build-aux/package.sh - makes the Debian packages moult-agent (for guests) and moult (for hosts), and the static agent as one archive.
#
#   build-aux/package.sh [--version VERSION] [DIR]      into DIR, build/debs if it is not named
#
# Prints the files that it has made. Nothing but build/ is written to: debian/ is copied, the programs come from build/release.
set -eu
top=$(cd "$(dirname "$0")/.." && pwd)
die() { echo "package.sh: $*" >&2; exit 1; }

version=
[ "${1:-}" != --version ] || { version=${2:?a version}; shift 2; }
case ${1:-} in -*) die "usage: $0 [--version VERSION] [DIR]" ;; esac
mkdir -p "${1:-$top/build/debs}"
out=$(cd "${1:-$top/build/debs}" && pwd)
"$top/build-aux/packages.sh" build package

work=$(mktemp -d "$top/build/.package.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 130' INT TERM HUP
cp -a "$top/debian" "$work/debian"
cd "$work"
theirs=$(dpkg-parsechangelog -S Version)
ours=$(sed -n 's/^project(moult VERSION \([0-9.]*\).*/\1/p' "$top/CMakeLists.txt")
[ "$theirs" = "$ours" ] || die "debian/changelog says $theirs, CMakeLists.txt $ours: they must be the same"
if [ -n "$version" ]; then
        dpkg --validate-version "$version" || die "\"$version\" is no version of a package"
        { printf 'moult (%s) bookworm; urgency=medium\n\n  * Built by package.sh.\n\n -- moult developers <moult@localhost>  %s\n\n' "$version" "$(date -R)"
                cat debian/changelog; } >changelog
        mv changelog debian/changelog
fi

root=
[ "$(id -u)" = 0 ] || root=fakeroot
MOULT_TOP=$top MOULT_BUILD=$top/build/release MOULT_DEBS=$work/debs
export MOULT_TOP MOULT_BUILD MOULT_DEBS
mkdir "$work/debs"
{ debian/rules build && $root debian/rules binary; } >"$work/log" 2>&1 || { tail -n 60 "$work/log" >&2; die "debian/rules failed, see above"; }

# The static agent for all other guests: unpacked at / it is where the package's files are.
ninja -C "$MOULT_BUILD" moult-agent-static >"$work/log" 2>&1 || { tail -n 60 "$work/log" >&2; die "moult-agent-static was not built"; }
s=$work/static
mkdir "$s"
(cd debian/moult-agent && tar -cf - --exclude=./DEBIAN --exclude=./usr/share/doc .) | tar -C "$s" -xf -
install -s -m 755 "$MOULT_BUILD/guest-agent/moult-agent-static" "$s/usr/sbin/moult-agent"
mkdir -p "$s/usr/share/doc/moult-agent"
cp "$top"/guest-agent/*.init "$top/LICENSE" "$s/usr/share/doc/moult-agent/"
v=${version:-$theirs}
tar -C "$s" --numeric-owner --owner=0 --group=0 --sort=name -cJf "$work/debs/moult-agent-static_${v}_amd64.tar.xz" .

for f in "$work"/debs/*; do
        mv -f "$f" "$out/"
        echo "$out/${f##*/}"
done
