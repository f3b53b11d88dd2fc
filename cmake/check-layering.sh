#!/bin/sh
# cmake/check-layering.sh - which folder may include which (docs/architecture.md): every violation on its own line.
cd "$(dirname "$0")/.." || exit 2

# folder -> folders whose headers it may include
allowed() {
        case $1 in
        common) echo common ;;
        proto) echo common proto ;;
        shm) echo common proto shm ;;
        fuse-overlay) echo common proto shm fuse-overlay ;;
        guest-agent/upgrade) echo common proto shm fuse-overlay guest-agent/upgrade ;;
        guest-agent) echo common proto shm fuse-overlay guest-agent guest-agent/upgrade ;;
        host-service) echo common proto shm host-service ;;
        esac
}

# The folder that a path of ours belongs to; nothing for other paths.
folder() {
        case $1 in
        guest-agent/upgrade/*) echo guest-agent/upgrade ;;
        common/* | proto/* | shm/* | fuse-overlay/* | guest-agent/* | host-service/*) echo "${1%%/*}" ;;
        esac
}

bad=$(find common proto shm fuse-overlay guest-agent host-service -name '*.[ch]' | sort |
        xargs grep -Hn '^[[:space:]]*#[[:space:]]*include[[:space:]]*"' | while IFS=: read -r file line text; do
        header=${text#*\"}
        header=${header%%\"*}
        from=$(folder "$file")
        to=$(folder "$header")
        if [ -z "$to" ]; then
                echo "$file:$line: \"$header\" is not named from the root of the tree"
        elif ! allowed "$from" | tr ' ' '\n' | grep -qxF "$to"; then
                echo "$file:$line: $from must not include $to ($header)"
        fi
done)
[ -z "$bad" ] || { echo "$bad"; exit 1; }
