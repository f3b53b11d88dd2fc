#!/bin/sh
# tiny-static/build.sh - the tiny guest with the static agent, and without any shared library.
exec "$(dirname "$0")/../tiny/build.sh" static
