#!/bin/sh
# debian-erofs/build.sh - the debian guest with /usr on a read-only erofs.
exec "$(dirname "$0")/../debian/build.sh" erofs
