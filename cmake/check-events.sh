#!/bin/sh
# cmake/check-events.sh DIR... - every event id that the code in these folders logs has a row in docs/events.md, and
# every row's id of the agent is logged somewhere.
cd "$(dirname "$0")/.." || exit 2
logged=$(find "$@" -name '*.c' -exec cat {} + | tr -d '\n' | grep -o 'event_log([^"]*"[a-z-]*"' | grep -o '"[a-z-]*"' | tr -d '"' | sort -u)
[ -n "$logged" ] || { echo "no event found in: $*"; exit 1; }
listed=$(grep '^| `' docs/events.md | cut -d'|' -f2 | grep -o '`[a-z-]*`' | tr -d '`' | sort -u)
bad=0
for id in $logged; do
        echo "$listed" | grep -qx -- "$id" || { echo "docs/events.md lacks $id"; bad=1; }
done
for id in $(echo "$listed" | grep '^agent-'); do
        echo "$logged" | grep -qx -- "$id" || { echo "docs/events.md has $id, which nothing logs"; bad=1; }
done
exit $bad
