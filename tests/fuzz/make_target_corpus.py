#!/usr/bin/python3
"""Writes the seed corpus of the fuzz target `target`: records of targets, without the digest in front.

Run it after a change of fuse-overlay/target.proto that a fuzzer should know of; the files are committed.
usage: make_target_corpus.py [DIRECTORY]      (default: corpus/ beside this script)
"""
import pathlib
import sys

from make_proto_corpus import msg

FILE, DIRECTORY, SYMLINK, CHAR_DEVICE, DELETE = 0, 1, 2, 4, 7
DIGEST = bytes(range(32))
RELEASE = msg((1, b"app 1"), (2, 1), (3, DIGEST))


def entry(path, kind, *more):
    own = {FILE: [(3, 0o644), (9, DIGEST)], DIRECTORY: [(3, 0o755)], SYMLINK: [(11, b"a")]}
    return msg((1, path), (2, kind), *own.get(kind, []), *more)


def item(path, kind, *more, mount=b"usr", entry_more=()):
    return (3, msg((1, entry(path, kind, *entry_more)), (4, mount), *more))


def merge(path, reach=0, mount=b"usr"):
    return (4, msg((1, path), (2, reach), (3, mount)))


def target(*fields, releases=1):
    return msg((1, 1), *[(2, RELEASE)] * releases, *fields)


CAPABILITY = (14, msg((1, b"security.capability"), (2, b"\1\0\0\2" + bytes(16))))
RECORDS = {
    "none": msg((1, 1)),
    "whole": target(item(b"etc/f", FILE, (3, 1), mount=b""), item(b"usr/a", FILE, entry_more=(CAPABILITY,)),
                    item(b"usr/d", DIRECTORY, (5, 1)), item(b"usr/d/l", SYMLINK), item(b"usr/d-e", DELETE),
                    merge(b"etc/f", 1, b""), merge(b"usr")),
    "nested-mounts": target(item(b"usr/a", DELETE), item(b"usr/local/b", FILE, mount=b"usr/local"),
                            merge(b"usr"), merge(b"usr/local", 0, b"usr/local")),
    "newline-in-path": target(item(b"usr/a\n", FILE), item(b"usr/a\nb", DIRECTORY)),
    "long-name": target(item(b"usr/" + b"n" * 255, FILE), merge(b"usr")),
    "deep": target(item(b"usr" + b"/d" * 2000, DELETE), merge(b"usr")),
    "refuse-order": target(item(b"usr/d-e", DELETE), item(b"usr/d/a", DELETE)),
    "refuse-below-whiteout": target(item(b"usr/d", DELETE), item(b"usr/d/a", FILE)),
    "refuse-merge-in-merge": target(item(b"usr/d/e/a", FILE), merge(b"usr/d"), merge(b"usr/d/e")),
    "refuse-device-zero": target(item(b"usr/a", CHAR_DEVICE)),
    "refuse-dotdot": target(item(b"usr/../a", FILE)),
    "refuse-no-entry": target((3, b"")),
    "refuse-no-release": target(item(b"usr/a", FILE), releases=0),
    "refuse-unused-release": target(item(b"usr/a", FILE), releases=2),
    "refuse-empties": msg((1, 1), *[(3, b"")] * 3000),
    "refuse-cut": target(item(b"usr/a", FILE))[:-9],
}


def main():
    base = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "corpus"
    directory = base / "target"
    directory.mkdir(parents=True, exist_ok=True)
    for name, record in RECORDS.items():
        (directory / name).write_bytes(record)


if __name__ == "__main__":
    main()
