"""A directory tree as a comparable value: every entry's type, metadata and content."""

import hashlib
import os
import stat

SKIP = {".moult", "lost+found"}


def snapshot(root, skip=(), links=True):
    """{relative path: tuple} of everything below root but the agent's own directories and `skip`.

    Directory times are left out: making and removing names changes them, and no release promises them. So is, without
    `links`, how many names a file has: a merged one has some in the store."""
    result = {}
    skip = set(skip)

    def visit(directory, prefix):
        for name in sorted(os.listdir(directory)):
            path, rel = os.path.join(directory, name), os.path.join(prefix, name)
            if rel in skip or (not prefix and name in SKIP):
                continue
            st = os.lstat(path)
            xattrs = tuple(sorted((x, os.getxattr(path, x, follow_symlinks=False))
                                  for x in os.listxattr(path, follow_symlinks=False)))
            content, mtime = "", st.st_mtime_ns
            if stat.S_ISREG(st.st_mode):
                with open(path, "rb") as f:
                    content = hashlib.sha256(f.read()).hexdigest()
            elif stat.S_ISLNK(st.st_mode):
                content = os.readlink(path)
            elif stat.S_ISDIR(st.st_mode):
                mtime = 0
            elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
                content = str(st.st_rdev)
            names = st.st_nlink if links and stat.S_ISREG(st.st_mode) else 0
            result[rel] = (st.st_mode, st.st_uid, st.st_gid, st.st_size if content else 0, mtime, names, xattrs, content)
            if stat.S_ISDIR(st.st_mode):
                visit(path, rel)

    visit(root, "")
    return result


def difference(a, b, limit=8):
    """Readable lines: what differs between two snapshots."""
    lines = []
    for path in sorted(set(a) | set(b)):
        if a.get(path) != b.get(path):
            lines.append(f"{path}: {a.get(path)} != {b.get(path)}")
    return lines[:limit] + ([f"... and {len(lines) - limit} more"] if len(lines) > limit else [])
