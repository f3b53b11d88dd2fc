#!/bin/sh
# tests/run.sh - installs what is needed, builds, runs every test. The last line is "N passed, N failed, N skipped".
#
#   ./tests/run.sh [--quick] [--soak] [-k PATTERN]
#
# --quick leaves the virtual machines out; --soak runs the long campaigns; -k runs only tests whose name has PATTERN.
# Results of single tests: build/test-results/*.xml.
cd "$(dirname "$0")/.." || exit 1
build-aux/packages.sh build test image package || { echo "0 passed, 1 failed, 0 skipped"; exit 1; }
exec /usr/bin/python3 tests/support/run.py "$@"
