#!/usr/bin/python3
"""Writes the seed corpora of the fuzz targets manifest and pack, from docs/pack-format.md.

A name says what a reader must do: accept-*.bin or refuse-*.bin (tests/integration/test_pack_format.py holds both
readers to it). Run it after a change of the format that a fuzzer should know of; the files are committed.
usage: make_pack_corpus.py [DIRECTORY]      (default: corpus/ beside this script)
"""
import hashlib
import pathlib
import re
import struct
import sys
import zlib

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "support"))

from packread import verity, verity_digest  # noqa: E402

FILE, DIRECTORY, SYMLINK, HARDLINK, CHAR, BLOCK, FIFO, DELETE = range(8)


def varint(n):
    n &= (1 << 64) - 1
    out = bytearray()
    while n >= 0x80:
        out.append(n & 0x7F | 0x80)
        n >>= 7
    out.append(n)
    return bytes(out)


def msg(*fields):
    """Fields as (number, value): int is a varint, bytes are length-delimited."""
    out = b""
    for number, value in fields:
        if isinstance(value, int):
            out += varint(number << 3) + varint(value)
        else:
            out += varint(number << 3 | 2) + varint(len(value)) + value
    return out


def blob(offset=4096, stored=7, size=7, storage=0, table=(), tree=None):
    fields = [(1, offset), (2, stored), (3, size), (4, storage)]
    if table:
        fields.append((5, b"".join(map(varint, table))))
    return 10, msg(*fields, *([] if tree is None else [(6, tree)]))


def raw(size, tree=None, offset=4096):
    return blob(offset, size, size, tree=tree)


def of_size(path, size, blob_number=1):
    return file_entry(path, b"", blob_number, size=size)


def entry(path, kind=DIRECTORY, *more, mode=0o755):
    return 11, msg((1, path), (2, kind), *([(3, mode)] if mode else []), *more)


def file_entry(path, content=b"content", blob_number=1, *more, size=None):
    size = len(content) if size is None else size
    return entry(path, FILE, (8, size), (9, verity_digest(content)), (10, blob_number), *more, mode=0o644)


RELEASE = [(1, 1), (2, b"seed"), (3, b"1.0")]


def manifest(*fields, release=RELEASE):
    return msg(*release, *fields)


def deleted(path):
    return entry(path, DELETE, mode=0)


def manifests():
    good = [blob(), entry(b"etc"), file_entry(b"etc/a")]
    yield "accept-file", manifest(*good)
    yield "accept-nothing", manifest()
    yield "accept-every-type", manifest(
        (4, 1700000000),
        (5, 3),
        (6, b"text\n"),
        (7, msg((1, b"ID"), (2, b"debian"))),
        (8, msg((1, 3), (2, b"alive"), (3, b"#!/bin/sh\n"), (4, 1000))),
        (9, b"cron.service"),
        blob(),
        blob(8192, 20, 5000, 1, [20]),
        entry(b"d", DIRECTORY, (4, 1), (5, 2), (6, 3400000000), (7, 5), (14, msg((1, b"user.x"), (2, b"v")))),
        file_entry(b"d/a"),
        file_entry(b"d/b", bytes(5000), 2),
        entry(b"d/c", CHAR, (12, 1), (13, 3)),
        entry(b"d/e", FIFO),
        entry(b"d/h", HARDLINK, (11, b"d/a"), mode=0),
        entry(b"d/l", SYMLINK, (11, b"../.."), mode=0),
        entry(b"gone", DELETE, (16, bytes(32)), (17, 1), mode=0),
        deleted(b"gone/too"),
    )
    sparse = [(15, msg((1, 4096), (2, 4096))), (15, msg((1, 16384), (2, 7)))]
    content = bytes(4096) + b"x" * 4096 + bytes(8192) + b"y" * 7
    yield "accept-sparse", manifest(blob(4096, 4103, 4103), file_entry(b"s", content, 1, *sparse))
    yield "accept-hole", manifest(file_entry(b"s", bytes(70000), 0))
    yield "accept-chunked", manifest(blob(4096, 30, (1 << 20) + 5, 1, [20, 10]), file_entry(b"c", b"", 1, size=(1 << 20) + 5))

    for name, path in {
        "dotdot-name": b"etc/../../x",
        "dotdot": b"..",
        "dot": b"./x",
        "absolute": b"/etc/x",
        "empty-part": b"etc//x",
        "trailing-slash": b"x/",
        "nul-in-path": b"x\0y",
        "empty-path": b"",
        "staging-name": b"etc/.moult/x",
        "long-component": b"x" * 256,
        "long-path": b"x/" * 2047 + b"xx",
    }.items():
        yield f"refuse-{name}", manifest(deleted(path))
    yield "refuse-duplicate", manifest(deleted(b"a"), deleted(b"a"))
    yield "refuse-unsorted", manifest(deleted(b"b"), deleted(b"a"))
    yield "refuse-below-symlink", manifest(blob(), entry(b"etc", SYMLINK, (11, b"/"), mode=0), file_entry(b"etc/a"))
    yield "refuse-below-file", manifest(blob(), file_entry(b"a"), entry(b"a/b/c"))
    yield "refuse-below-delete", manifest(deleted(b"a"), entry(b"a/b"))
    yield "accept-delete-below-symlink", manifest(entry(b"a", SYMLINK, (11, b"b"), mode=0), deleted(b"a/x"), deleted(b"a/x/y"))
    yield "accept-delete-below-file", manifest(blob(), file_entry(b"a"), deleted(b"a/x"))
    yield "refuse-hardlink-to-directory", manifest(entry(b"a"), entry(b"b", HARDLINK, (11, b"a"), mode=0))
    yield "refuse-hardlink-outside", manifest(entry(b"b", HARDLINK, (11, b"../etc/shadow"), mode=0))
    yield "refuse-hardlink-unlisted", manifest(entry(b"b", HARDLINK, (11, b"etc/shadow"), mode=0))
    yield "refuse-blob-in-header", manifest(blob(0), file_entry(b"a"))
    yield "refuse-blob-beyond", manifest(blob(4096 + (1 << 20)), file_entry(b"a"))
    yield "refuse-blob-wraps", manifest(blob((1 << 64) - 4096, 8192, 8192), file_entry(b"a", b"", 1, size=8192))
    yield "refuse-blob-unaligned", manifest(blob(4097), file_entry(b"a"))
    yield "refuse-blobs-overlap", manifest(blob(4096, 5000, 5000), blob(8192), file_entry(b"a", b"", 1, size=5000), file_entry(b"b", blob_number=2))
    yield "refuse-blob-unused", manifest(blob())
    yield "refuse-blob-storage", manifest(blob(storage=2), file_entry(b"a"))
    yield "refuse-chunk-table-short", manifest(blob(4096, 20, (1 << 20) + 1, 1, [20]), file_entry(b"a", b"", 1, size=(1 << 20) + 1))
    yield "refuse-chunk-table-sum", manifest(blob(4096, 20, 50, 1, [19]), file_entry(b"a", b"", 1, size=50))
    yield "refuse-size-not-blob-size", manifest(blob(), file_entry(b"a", size=8))
    yield "refuse-file-of-no-blob", manifest(file_entry(b"a", blob_number=9))
    yield "refuse-extents-overlap", manifest(
        blob(4096, 8192, 8192), file_entry(b"a", b"", 1, (15, msg((1, 0), (2, 4096))), (15, msg((1, 0), (2, 4096))), size=16384)
    )
    yield "refuse-extent-wraps", manifest(
        blob(4096, 4096, 4096), file_entry(b"a", b"", 1, (15, msg((1, 4096), (2, (1 << 64) - 4096))), size=16384)
    )
    yield "refuse-setuid-type-bits", manifest(entry(b"a", mode=0o104755))
    yield "refuse-uid-minus-one", manifest(entry(b"a", DIRECTORY, (4, 0xFFFFFFFF)))
    yield "refuse-type", manifest(entry(b"a", 8))
    yield "refuse-delivery", manifest(entry(b"a", DIRECTORY, (18, 3)))
    yield "refuse-xattr-namespace", manifest(entry(b"a", DIRECTORY, (14, msg((1, b"capability")))))
    yield "refuse-xattr-twice", manifest(entry(b"a", DIRECTORY, (14, msg((1, b"user.a"))), (14, msg((1, b"user.a")))))
    yield "refuse-hook-path", manifest((8, msg((2, b"../x"), (3, b"#!/bin/sh"), (4, 1))))
    yield "refuse-hook-no-interpreter", manifest((8, msg((2, b"x"), (3, b"echo"), (4, 1))))
    yield "refuse-hook-for-ever", manifest((8, msg((2, b"x"), (3, b"#!/bin/sh"), (4, 0xFFFFFFFF))))
    yield "refuse-unit-option", manifest((9, b"--force"))
    yield "refuse-unit-path", manifest((9, b"../../x"))
    yield "refuse-unknown-field", manifest((99, 1))
    yield "refuse-unknown-field-in-entry", manifest(entry(b"a", DIRECTORY, (99, 1)))
    yield "refuse-format-2", manifest(release=[(1, 2), (2, b"seed"), (3, b"1.0")])
    yield "refuse-release-name", manifest(release=[(1, 1), (2, b"../seed"), (3, b"1.0")])
    yield "refuse-no-version", manifest(release=[(1, 1), (2, b"seed")])
    yield "refuse-description-escapes", manifest((6, b"\x1b]0;x\x07"))
    yield "refuse-description-c1", manifest((6, "a\x9b2J".encode()))
    yield "refuse-requirement-c1", manifest((7, msg((1, b"ID"), (2, "\x85".encode()))))
    yield "accept-description-beyond-c1", manifest((6, "a\xa0\n\t\u2028".encode()))
    two = (1 << 20) + 5
    unpacked = msg((1, 4096), (2, 30), (3, two), (4, 1), (5, 20), (5, 10))
    yield "accept-unpacked-chunk-sizes", manifest((10, unpacked), file_entry(b"c", b"", 1, size=two))
    yield "accept-fields-in-any-order", msg(*reversed(RELEASE), deleted(b"a"))
    yield "accept-explicit-zeros", manifest((4, 0), (5, 0), (6, b""), entry(b"a", DIRECTORY, (4, 0), (17, 0), (18, 0)))
    yield "refuse-field-twice", manifest((2, b"seed"))
    yield "refuse-field-twice-in-entry", manifest(entry(b"a", DIRECTORY, (4, 1), (4, 1)))
    yield "refuse-uint32-too-large", manifest(entry(b"a", DIRECTORY, (4, 1 << 32)))
    yield "refuse-enum-too-large", manifest(blob(), entry(b"a", 1 << 32 | DIRECTORY))
    yield "refuse-bool-two", manifest(entry(b"a", DIRECTORY, (17, 2)))
    yield "refuse-number-of-65-bits", manifest() + b"\x20" + b"\x81" + b"\x80" * 8 + b"\x02"
    yield "refuse-number-not-shortest", manifest() + b"\x20\x81\x00"
    yield "refuse-key-not-shortest", manifest() + b"\xa0\x00\x01"
    yield "refuse-length-not-shortest", manifest() + b"\x32\x81\x00a"
    yield "refuse-length-of-33-bits", manifest() + b"\x32" + varint(1 << 32 | 1) + b"a"
    yield "refuse-chunk-size-too-large", manifest(blob(4096, 20, 50, 1, [1 << 32 | 20]), file_entry(b"a", b"", 1, size=50))
    yield "refuse-many-empty-entries", manifest() + msg((11, b"")) * 20000
    yield from trees()
    yield "refuse-cut-off", manifest(*good)[:-3]
    yield "refuse-group", manifest() + b"\x9b\x06\x9c\x06"


def trees():
    """Where Merkle trees may lie. The blob area is 1 MiB (tests/integration/test_pack_format.py)."""
    end = 4096 + (1 << 20)
    two_levels = 600000  # 147 blocks: two of level 1, the root's
    yield "accept-tree", manifest(raw(5000, 12288), of_size(b"a", 5000))
    yield "accept-tree-explicit-none", manifest(raw(5000, 0), of_size(b"a", 5000))
    yield "accept-tree-at-the-end", manifest(raw(two_levels, end - 3 * 4096), of_size(b"a", two_levels))
    yield "refuse-tree-leaves-by-a-block", manifest(raw(two_levels, end - 2 * 4096), of_size(b"a", two_levels))
    yield "refuse-tree-beyond", manifest(raw(5000, end), of_size(b"a", 5000))
    yield "refuse-tree-far-beyond", manifest(raw(5000, (1 << 64) - 4096), of_size(b"a", 5000))
    yield "refuse-tree-unaligned", manifest(raw(5000, 12289), of_size(b"a", 5000))
    yield "refuse-tree-over-its-blob", manifest(raw(5000, 8192), of_size(b"a", 5000))
    yield "refuse-tree-of-one-block", manifest(raw(4096, 12288), of_size(b"a", 4096))
    pair = (of_size(b"a", 5000), of_size(b"b", 5001, 2))
    yield "accept-trees", manifest(raw(5000, 20480), raw(5001, 24576, 12288), *pair)
    yield "accept-second-tree-only", manifest(raw(5000), raw(5001, 20480, 12288), *pair)
    yield "refuse-tree-over-next-blob", manifest(raw(5000, 12288), raw(5001, None, 12288), *pair)
    yield "refuse-tree-between-blobs", manifest(raw(5000, 12288), raw(5001, None, 16384), *pair)
    yield "refuse-trees-overlap", manifest(raw(5000, 20480), raw(5001, 20480, 12288), *pair)
    yield "refuse-trees-unsorted", manifest(raw(5000, 24576), raw(5001, 20480, 12288), *pair)
    same = file_entry(b"a", bytes(5000)), file_entry(b"b", bytes(5000))
    yield "accept-tree-shared", manifest(raw(5000, 12288), *same)
    other = file_entry(b"b", b"x" * 5000)
    yield "refuse-tree-of-two-contents", manifest(raw(5000, 12288), same[0], other)
    extent = (15, msg((1, 4096), (2, 904)))
    yield "accept-tree-over-a-hole", manifest(raw(904, 8192), file_entry(b"a", bytes(5000), 1, extent))
    huge = (15, msg((1, 0), (2, 4096)))
    yield "refuse-tree-of-a-hole-of-terabytes", manifest(raw(4096, 8192), file_entry(b"a", b"", 1, huge, size=1 << 44))
    yield "refuse-tree-twice", manifest((10, msg((1, 4096), (2, 5000), (3, 5000), (6, 12288), (6, 12288))), of_size(b"a", 5000))


def signing_key():
    from cryptography.hazmat.primitives import serialization

    text = (HERE.parent / "support/packs.c").read_text()
    body = re.search(r"-----BEGIN PRIVATE KEY-----\\n\"\s*\"(\S+)\\n", text).group(1)
    pem = f"-----BEGIN PRIVATE KEY-----\n{body}\n-----END PRIVATE KEY-----\n".encode()
    return serialization.load_pem_private_key(pem, None)


def signature_block(key, digest, size):
    """Over the list's digest and its size; `size` None: over the digest alone, which is not enough."""
    from cryptography.hazmat.primitives import serialization

    raw = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    signed = b"moult pack v1\n" + digest + (b"" if size is None else struct.pack("<Q", size))
    return msg((1, msg((1, hashlib.sha256(raw).digest()), (2, key.sign(signed)))))


def pack(listing, blobs=b"", key=None, signature=None, **header):
    """A pack around a list; keyword arguments overrule header fields, the checksum fits."""
    blobs = blobs.ljust(-(-len(blobs) // 4096) * 4096, b"\0")
    digest = hashlib.sha256(listing).digest()
    signature = signature or (signature_block(key, digest, len(listing)) if key else b"")
    h = {
        "magic": b"MOULTPK1",
        "format": 1,
        "flags": 0,
        "blobs_offset": 4096,
        "blobs_size": len(blobs),
        "manifest_offset": 4096 + len(blobs),
        "manifest_size": len(listing),
        "signature_offset": 4096 + len(blobs) + len(listing),
        "signature_size": len(signature),
        "digest": digest,
    }
    h["pack_size"] = h["signature_offset"] + len(signature)
    h.update(header)
    head = h["magic"] + struct.pack("<II", h["format"], h["flags"])
    names = ("pack_size", "blobs_offset", "blobs_size", "manifest_offset", "manifest_size", "signature_offset")
    head += struct.pack("<7Q", *(h[name] for name in names), h["signature_size"]) + h["digest"]
    head = head.ljust(4092, b"\0")
    return head + struct.pack("<I", zlib.crc32(head)) + blobs + listing + signature


def zstd_frame(content):
    import subprocess

    return subprocess.run(["zstd", "-cq"], input=content, stdout=subprocess.PIPE, check=True).stdout


def packs():
    key = signing_key()
    simple = manifest(blob(), entry(b"etc"), file_entry(b"etc/a"))
    yield "accept-raw", pack(simple, b"content", key)
    frame = zstd_frame(b"a" * 5000)
    squeezed = manifest(blob(4096, len(frame), 5000, 1, [len(frame)]), file_entry(b"a", b"a" * 5000))
    yield "accept-zstd", pack(squeezed, frame, key)
    yield "accept-padding", pack(simple, b"content", key) + bytes(1000)
    yield "accept-nothing", pack(manifest(), b"", key)
    parts = b"x" * 4096 + b"y" * 7
    extents = [(15, msg((1, 4096), (2, 4096))), (15, msg((1, 16384), (2, 7)))]
    sparse = manifest(blob(4096, 4103, 4103), file_entry(b"s", bytes(4096) + parts[:4096] + bytes(8192) + b"y" * 7, 1, *extents))
    yield "accept-sparse", pack(sparse, parts, key)
    text = b"".join(b"%07d\n" % i for i in range(70000))  # 137 blocks: a tree of two levels
    tree = verity(text)[1]
    with_tree = manifest(raw(len(text), 4096 + 137 * 4096), file_entry(b"t", text))
    blobs = text.ljust(137 * 4096, b"\0")
    yield "accept-tree", pack(with_tree, blobs + tree, key)
    short = bytes(range(250)) * 20
    yield "accept-small-tree", pack(
        manifest(raw(5000, 12288), file_entry(b"t", short)), short.ljust(8192, b"\0") + verity(short)[1], key
    )
    for name, at in (("root", 0), ("leaf", 4096), ("last-leaf", 8192 + 9 * 32 - 1), ("padding", len(tree) - 1)):
        damaged = bytearray(tree)
        damaged[at] ^= 1
        yield f"refuse-tree-{name}-damaged", pack(with_tree, blobs + damaged, key)
    yield "refuse-other-content", pack(simple, b"Content", key)
    yield "refuse-not-zstd", pack(squeezed, bytes(len(frame)), key)
    yield "refuse-two-frames", pack(
        manifest(blob(4096, 2 * len(frame), 10000, 1, [2 * len(frame)]), file_entry(b"a", b"a" * 10000)), frame * 2, key
    )
    short = manifest(blob(4096, len(frame), 5001, 1, [len(frame)]), file_entry(b"a", b"a" * 5001))
    yield "refuse-short-frame", pack(short, frame, key)
    bomb = zstd_frame(bytes(1 << 24))
    yield "refuse-bomb", pack(manifest(blob(4096, len(bomb), 100, 1, [len(bomb)]), file_entry(b"a", b"a" * 100)), bomb, key)
    yield "refuse-unsigned", pack(simple, b"content")
    yield "refuse-bad-list", pack(manifest(deleted(b"../x")), b"", key)
    yield "refuse-magic", pack(simple, b"content", key, magic=b"MOULTPK2")
    yield "refuse-format", pack(simple, b"content", key, format=2)
    yield "refuse-flags", pack(simple, b"content", key, flags=1)
    yield "refuse-blobs-wrap", pack(simple, b"content", key, blobs_size=(1 << 64) - 4096)
    yield "refuse-manifest-in-header", pack(simple, b"content", key, manifest_offset=0)
    yield "refuse-manifest-huge", pack(simple, b"content", key, manifest_size=1 << 40)
    yield "refuse-manifest-in-blobs", pack(simple, b"content", key, blobs_size=8192)
    yield "refuse-signature-overlap", pack(simple, b"content", key, signature_offset=8192)
    yield "refuse-signature-huge", pack(simple, b"content", key, signature_size=1 << 32)
    yield "refuse-digest", pack(simple, b"content", key, digest=bytes(32))
    yield "refuse-cut-off", pack(simple, b"content", key)[:-1]
    yield "refuse-header-only", pack(simple, b"content", key)[:4096]
    digest = hashlib.sha256(simple).digest()
    yield "refuse-signed-for-another-size", pack(simple, b"content", key, signature_block(key, digest, len(simple) + 1))
    yield "refuse-signed-without-size", pack(simple, b"content", key, signature_block(key, digest, None))
    good = signature_block(key, digest, len(simple))
    yield "accept-signed-twice", pack(simple, b"content", key, good * 2)
    forged = signature_block(key, digest, len(simple) + 1)
    yield "accept-second-signature-of-the-key-is-good", pack(simple, b"content", key, forged + good)
    yield "refuse-signature-field-twice", pack(simple, b"content", key, msg((1, good[2:] + msg((2, bytes(64))))))
    whole = bytearray(pack(simple, b"content", key))
    whole[-1] ^= 1
    yield "refuse-signature-bit", bytes(whole)


def main(argv):
    top = pathlib.Path(argv[1]) if len(argv) > 1 else HERE / "corpus"
    for target, seeds in (("manifest", manifests()), ("pack", packs())):
        folder = top / target
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in seeds:
            (folder / f"{name}.bin").write_bytes(data)


if __name__ == "__main__":
    main(sys.argv)
