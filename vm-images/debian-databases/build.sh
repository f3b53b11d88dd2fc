#!/bin/sh
# debian-databases/build.sh - the debian guest with PostgreSQL, MariaDB and SQLite.
exec "$(dirname "$0")/../debian/build.sh" databases
