#!/bin/sh
# bench/run.sh - installs what the peers need, builds the release preset, runs the benchmarks, prints the tables.
# Options go to bench.py: --rounds N, --work many,one, --methods LIST, --part transfer,native,fleet,idle,merge,switch,sysext,instant,agents,capture,
# snapshot-bytes,snapshot-stall,snapshot-rollback, --json FILE.
set -eu
cd "$(dirname "$0")/../.."
./build-aux/packages.sh build image bench
cmake --preset release >/dev/null
cmake --build --preset release
exec /usr/bin/python3 tests/bench/bench.py "$@"
