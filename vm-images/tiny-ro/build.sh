#!/bin/sh
# tiny-ro/build.sh - the tiny guest with file systems that cannot be written, below /ro.
exec "$(dirname "$0")/../tiny/build.sh" ro
