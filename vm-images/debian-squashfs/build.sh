#!/bin/sh
# debian-squashfs/build.sh - the debian guest with /usr on a read-only squashfs.
exec "$(dirname "$0")/../debian/build.sh" squashfs
