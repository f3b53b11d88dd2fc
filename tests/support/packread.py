"""packread: a second reader of packs, written from docs/pack-format.md alone.

It shares no code with the C reader: the protobuf wire format, the header, the rules and the verity digest are done
again here, with hashlib, zlib, libzstd and PyCA's Ed25519. Slow and plain on purpose: it is the oracle.

  packread.py PACK [--key PUB.pem]...   prints the list as JSON
"""

import ctypes
import hashlib
import json
import re
import struct
import sys
import zlib

CHUNK = 1 << 20
BLOCK = 4096


class Refused(Exception):
    """The pack breaks a rule of the format."""


def need(condition, why):
    if not condition:
        raise Refused(why)


# --- protobuf wire format ---


def varint(data, at):
    value = shift = 0
    while True:
        need(at < len(data) and shift < 70, "protobuf: varint is cut off or too long")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            need(byte != 0 or shift == 7, "protobuf: varint is not in its shortest form")
            need(value < 1 << 64, "protobuf: varint has more than 64 bits")
            return value, at


def fields(data):
    """(number, wire type, value) of a message; bytes for length-delimited fields."""
    at = 0
    while at < len(data):
        key, at = varint(data, at)
        number, wire = key >> 3, key & 7
        if wire == 0:
            value, at = varint(data, at)
        elif wire == 2:
            length, at = varint(data, at)
            need(length <= len(data) - at, "protobuf: field leaves the message")
            value, at = data[at : at + length], at + length
        else:
            raise Refused(f"protobuf: wire type {wire} is in no schema of ours")
        yield number, wire, value


def zigzag(n):
    return n >> 1 ^ -(n & 1)


def unpack(schema, data):
    """schema: number -> (name, kind); kinds: those of NUMBERS, bytes, message schema, and [kind] for repeated."""
    out = {name: [] if isinstance(kind, list) else default(kind) for name, kind in schema.values()}
    seen = set()
    for number, wire, value in fields(data):
        need(number in schema, f"unknown field {number}")
        name, kind = schema[number]
        repeated = isinstance(kind, list)
        if repeated:
            kind = kind[0]
        need(repeated or name not in seen, f"field {name} is there twice")
        seen.add(name)
        is_number = not isinstance(kind, dict) and kind in NUMBERS
        if is_number and wire == 2 and repeated:  # packed
            at = 0
            while at < len(value):
                one, at = varint(value, at)
                out[name].append(scalar(kind, one))
            continue
        need((wire == 0) == is_number, f"field {name} has the wrong wire type")
        one = unpack(kind, value) if isinstance(kind, dict) else scalar(kind, value)
        if repeated:
            out[name].append(one)
        else:
            out[name] = one
    return out


NUMBERS = {"uint": 1 << 64, "sint": 1 << 64, "uint32": 1 << 32, "enum": 1 << 31, "bool": 2}  # kind -> end of its range


def scalar(kind, value):
    if kind == "bytes":
        return value
    need(value < NUMBERS[kind], "protobuf: number does not fit its field")
    return zigzag(value) if kind == "sint" else value


def default(kind):
    return b"" if kind == "bytes" else 0


REQUIREMENT = {1: ("key", "bytes"), 2: ("value", "bytes")}
HOOK = {1: ("stage", "enum"), 2: ("name", "bytes"), 3: ("script", "bytes"), 4: ("timeout_ms", "uint32")}
BLOB = {
    1: ("offset", "uint"),
    2: ("stored_size", "uint"),
    3: ("size", "uint"),
    4: ("storage", "enum"),
    5: ("chunk_sizes", ["uint32"]),
    6: ("tree_offset", "uint"),
}
XATTR = {1: ("name", "bytes"), 2: ("value", "bytes")}
EXTENT = {1: ("offset", "uint"), 2: ("length", "uint")}
ENTRY = {
    1: ("path", "bytes"),
    2: ("type", "enum"),
    3: ("mode", "uint32"),
    4: ("uid", "uint32"),
    5: ("gid", "uint32"),
    6: ("mtime_s", "sint"),
    7: ("mtime_ns", "uint32"),
    8: ("size", "uint"),
    9: ("digest", "bytes"),
    10: ("blob", "uint32"),
    11: ("link_target", "bytes"),
    12: ("dev_major", "uint32"),
    13: ("dev_minor", "uint32"),
    14: ("xattrs", [XATTR]),
    15: ("extents", [EXTENT]),
    16: ("old_digests", ["bytes"]),
    17: ("old_must_exist", "bool"),
    18: ("delivery", "enum"),
    19: ("conffile", "bool"),
}
MANIFEST = {
    1: ("format", "uint32"),
    2: ("name", "bytes"),
    3: ("version", "bytes"),
    4: ("created_unix_s", "uint"),
    5: ("security_floor", "uint"),
    6: ("description", "bytes"),
    7: ("requires", [REQUIREMENT]),
    8: ("hooks", [HOOK]),
    9: ("restart_units", ["bytes"]),
    10: ("blobs", [BLOB]),
    11: ("entries", [ENTRY]),
}
SIGNATURE = {1: ("key_id", "bytes"), 2: ("ed25519", "bytes")}
SIGNATURE_BLOCK = {1: ("signatures", [SIGNATURE])}

TYPES = ["file", "directory", "symlink", "hardlink", "char-device", "block-device", "fifo", "delete"]
FILE, DIRECTORY, SYMLINK, HARDLINK, CHAR, BLOCK_DEVICE, FIFO, DELETE = range(8)

# --- the digest ---


def sha256(data):
    return hashlib.sha256(data).digest()


def verity(content):
    """The digest, and the tree as it is stored: the root's level first."""
    level = [content[i : i + BLOCK].ljust(BLOCK, b"\0") for i in range(0, len(content), BLOCK)]
    tree = b""
    while len(level) > 1:
        hashes = b"".join(map(sha256, level))
        level = [hashes[i : i + BLOCK].ljust(BLOCK, b"\0") for i in range(0, len(hashes), BLOCK)]
        tree = b"".join(level) + tree
    root = sha256(level[0]) if level else bytes(32)
    return sha256(b"\x01\x01\x0c\x00" + bytes(4) + struct.pack("<Q", len(content)) + root + bytes(208)), tree


def verity_digest(content):
    return verity(content)[0]


def tree_size(size):
    blocks, n = 0, -(-size // BLOCK)
    while n > 1:
        n = -(-n // 128)
        blocks += n
    return blocks * BLOCK


# --- compression ---

ZSTD = ctypes.CDLL("libzstd.so.1")
for function in (ZSTD.ZSTD_findFrameCompressedSize, ZSTD.ZSTD_decompress):
    function.restype = ctypes.c_size_t


def one_frame(stored, size):
    """The bytes of exactly one zstd frame of exactly this size."""
    length = ZSTD.ZSTD_findFrameCompressedSize(stored, ctypes.c_size_t(len(stored)))
    need(length == len(stored), "not one zstd frame")
    out = ctypes.create_string_buffer(size)
    n = ZSTD.ZSTD_decompress(out, ctypes.c_size_t(size), stored, ctypes.c_size_t(len(stored)))
    need(n == size, "frame decompresses to another size, or not at all")
    return out.raw


# --- rules ---


def check_path(path):
    need(1 <= len(path) <= 4095 and b"\0" not in path, "path: length or NUL")
    for part in path.split(b"/"):
        need(part not in (b"", b".", b"..", b".moult") and len(part) <= 255, f"path {path!r}: component {part!r}")


def is_text(value, allowed=""):
    try:
        text = value.decode("utf-8")
    except UnicodeDecodeError:
        return False
    return all(c in allowed or not (ord(c) < 0x20 or 0x7F <= ord(c) <= 0x9F) for c in text)


def unique(items):
    items = list(items)
    return len(set(items)) == len(items)


def check_release(m):
    need(m["format"] == 1, "format")
    need(re.fullmatch(rb"[a-z0-9][a-z0-9+.-]{0,63}", m["name"]), "name")
    need(re.fullmatch(rb"[A-Za-z0-9][A-Za-z0-9+.:~-]{0,63}", m["version"]), "version")
    need(m["created_unix_s"] <= 1 << 43, "created")
    need(len(m["description"]) <= 4096 and is_text(m["description"], "\n\t"), "description")
    need(len(m["requires"]) <= 64 and unique(r["key"] for r in m["requires"]), "requirements")
    for r in m["requires"]:
        need(re.fullmatch(rb"[A-Z][A-Z0-9_]{0,63}", r["key"]), "requirement key")
        need(len(r["value"]) <= 256 and is_text(r["value"]), "requirement value")
    need(len(m["hooks"]) <= 64 and unique((h["stage"], h["name"]) for h in m["hooks"]), "hooks")
    for h in m["hooks"]:
        need(h["stage"] <= 3 and re.fullmatch(rb"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}", h["name"]), "hook")
        need(3 <= len(h["script"]) <= 65536 and h["script"][:2] == b"#!", "hook script")
        need(1 <= h["timeout_ms"] <= 3600000, "hook time limit")
    need(len(m["restart_units"]) <= 256 and unique(m["restart_units"]), "units")
    for unit in m["restart_units"]:
        need(re.fullmatch(rb"[A-Za-z0-9_][A-Za-z0-9:_.@\\-]{0,254}", unit), "unit name")


def check_blobs(m, blobs_size):
    end = 4096
    for b in m["blobs"]:
        need(b["offset"] % 4096 == 0 and b["offset"] >= end, "blob: offset or order")
        end = b["offset"] + b["stored_size"]
        need(end <= 4096 + blobs_size, "blob leaves the blob area")
        need(0 < b["size"] <= 1 << 44 and b["stored_size"] > 0, "blob: size")
        need(b["storage"] in (0, 1), "blob: storage")
        if b["storage"] == 0:
            need(b["size"] == b["stored_size"] and not b["chunk_sizes"], "raw blob")
        else:
            need(len(b["chunk_sizes"]) == -(-b["size"] // CHUNK), "chunk table length")
            need(all(1 <= c <= 1052672 for c in b["chunk_sizes"]), "chunk size")
            need(sum(b["chunk_sizes"]) == b["stored_size"], "chunk table sum")


def check_trees(m, blobs_size):
    end = max((b["offset"] + b["stored_size"] for b in m["blobs"]), default=0)
    for number, b in enumerate(m["blobs"], 1):
        if b["tree_offset"] == 0:
            continue
        contents = {(e["size"], e["digest"]) for e in m["entries"] if e["blob"] == number}
        need(len(contents) == 1, "tree of a blob that files of several contents share")
        size = tree_size(contents.pop()[0])
        need(size > 0, "tree of a file of one block")
        need(b["tree_offset"] % 4096 == 0 and b["tree_offset"] >= end, "tree: offset or order")
        end = b["tree_offset"] + size
        need(end <= 4096 + blobs_size, "tree leaves the blob area")


def check_fields(e):
    kind = e["type"]
    has_mode = kind in (FILE, DIRECTORY, CHAR, BLOCK_DEVICE, FIFO)
    has_owner = has_mode or kind == SYMLINK
    need(has_mode or e["mode"] == 0, "mode")
    need(has_owner or not (e["uid"] or e["gid"] or e["mtime_s"] or e["mtime_ns"] or e["xattrs"]), "owner")
    need(kind == FILE or not (e["size"] or e["digest"] or e["blob"] or e["extents"]), "content")
    need(kind in (SYMLINK, HARDLINK) or not e["link_target"], "link target")
    need(kind in (CHAR, BLOCK_DEVICE) or not (e["dev_major"] or e["dev_minor"]), "device")


def check_metadata(e):
    need(e["mode"] <= 0o7777 and e["uid"] != 0xFFFFFFFF and e["gid"] != 0xFFFFFFFF, "mode, owner")
    need(abs(e["mtime_s"]) <= 1 << 43 and e["mtime_ns"] <= 999999999, "time")
    need(e["dev_major"] <= 4095 and e["dev_minor"] <= 1048575, "device number")
    need(len(e["xattrs"]) <= 64 and unique(x["name"] for x in e["xattrs"]), "xattrs")
    for x in e["xattrs"]:
        need(len(x["name"]) <= 255 and b"\0" not in x["name"] and len(x["value"]) <= 65536, "xattr")
        need(re.match(rb"(user|trusted|security|system)\..", x["name"], re.S), "xattr namespace")
    need(len(e["old_digests"]) <= 16 and all(len(d) == 32 for d in e["old_digests"]), "old digests")
    need(e["delivery"] <= 2, "delivery")


def check_file(e, m):
    need(e["size"] <= 1 << 44 and len(e["digest"]) == 32, "file size, digest")
    need(e["blob"] <= len(m["blobs"]), "blob is not listed")
    need(e["blob"] == 0 or e["size"] > 0, "empty file has a blob")
    need(e["blob"] != 0 or not e["extents"], "extents without blob")
    end = total = 0
    for x in e["extents"]:
        need(x["offset"] % 4096 == 0 and x["offset"] >= end and x["length"] > 0, "extent")
        end = x["offset"] + x["length"]
        need(end <= e["size"] and (x["length"] % 4096 == 0 or end == e["size"]), "extent's end")
        total += x["length"]
    if e["blob"]:
        need(m["blobs"][e["blob"] - 1]["size"] == (total if e["extents"] else e["size"]), "size of data and blob")


def check_parent(e, by_path):
    path = e["path"]
    while b"/" in path:
        path = path.rsplit(b"/", 1)[0]
        if path in by_path:
            kind = by_path[path]["type"]
            need(kind == DIRECTORY or e["type"] == DELETE, f"{e['path']!r}: parent")
            return


def check_entries(m):
    paths = [e["path"] for e in m["entries"]]
    need(paths == sorted(set(paths)), "entries: order or duplicates")
    by_path = {e["path"]: e for e in m["entries"]}
    for e in m["entries"]:
        check_path(e["path"])
        need(e["type"] < len(TYPES), "type")
        check_fields(e)
        check_metadata(e)
        check_parent(e, by_path)
        if e["type"] == FILE:
            check_file(e, m)
        elif e["type"] == SYMLINK:
            need(1 <= len(e["link_target"]) <= 4095 and b"\0" not in e["link_target"], "symlink target")
        elif e["type"] == HARDLINK:
            target = by_path.get(e["link_target"])
            need(target is not None and target["type"] == FILE, "hard link's target")
    need({e["blob"] for e in m["entries"]} >= set(range(1, len(m["blobs"]) + 1)), "a blob is not used")


class Pack:
    """A pack, checked in the order that the document gives. `trusted`: raw 32-byte Ed25519 public keys."""

    def __init__(self, data, trusted=()):
        self.data = data
        need(len(data) >= 4096, "shorter than a header")
        header = data[:4096]
        need(header[:8] == b"MOULTPK1", "magic")
        need(struct.unpack("<I", header[4092:])[0] == zlib.crc32(header[:4092]), "crc")
        fmt, flags = struct.unpack("<II", header[8:16])
        need(fmt == 1 and flags == 0 and not any(header[104:4092]), "format, flags, reserved")
        size, b_off, b_size, m_off, m_size, s_off, s_size = struct.unpack("<7Q", header[16:72])
        need(size <= len(data), "cut off")
        need(b_off == 4096 and b_size % 4096 == 0 and m_off == b_off + b_size, "blobs")
        need(1 <= m_size <= 1 << 28 and s_off == m_off + m_size, "manifest")
        need(s_size <= 4096 and size == s_off + s_size, "signature")
        self.digest = header[72:104]
        signed = b"moult pack v1\n" + header[72:104] + header[48:56]
        self.key_id = self._verify(signed, data[s_off : s_off + s_size], trusted) if trusted else None
        manifest = data[m_off : m_off + m_size]
        need(sha256(manifest) == self.digest, "manifest digest")
        self.manifest = unpack(MANIFEST, manifest)
        check_release(self.manifest)
        check_blobs(self.manifest, b_size)
        check_entries(self.manifest)
        check_trees(self.manifest, b_size)

    def _verify(self, signed, block, trusted):
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        signatures = unpack(SIGNATURE_BLOCK, block)["signatures"]
        need(1 <= len(signatures) <= 8, "number of signatures")
        keys = {sha256(raw): raw for raw in trusted}
        for s in signatures:
            need(len(s["key_id"]) == 32 and len(s["ed25519"]) == 64, "signature sizes")
        for s in signatures:
            if s["key_id"] not in keys:
                continue
            try:
                key = Ed25519PublicKey.from_public_bytes(keys[s["key_id"]])
                key.verify(s["ed25519"], signed)
                return s["key_id"]
            except InvalidSignature:
                continue
        raise Refused("no good signature by a trusted key")

    def blob(self, index):
        b = self.manifest["blobs"][index]
        stored = self.data[b["offset"] : b["offset"] + b["stored_size"]]
        if b["storage"] == 0:
            return stored
        out, at, left = [], 0, b["size"]
        for length in b["chunk_sizes"]:
            frame = stored[at : at + length]
            chunk = one_frame(frame, min(CHUNK, left))
            out.append(chunk)
            at += length
            left -= len(chunk)
        return b"".join(out)

    def content(self, entry):
        """The file's logical content; verified."""
        data = self.blob(entry["blob"] - 1) if entry["blob"] else b""
        if entry["extents"] or not entry["blob"]:
            content, at = bytearray(entry["size"]), 0
            for x in entry["extents"]:
                content[x["offset"] : x["offset"] + x["length"]] = data[at : at + x["length"]]
                at += x["length"]
            data = bytes(content)
        digest, tree = verity(data)
        need(digest == entry["digest"], f"{entry['path']!r}: digest")
        stored = self.tree(entry)
        need(stored is None or stored == tree, f"{entry['path']!r}: tree")
        return data

    def tree(self, entry):
        """The stored Merkle tree of a file, or None."""
        at = self.manifest["blobs"][entry["blob"] - 1]["tree_offset"] if entry["blob"] else 0
        return self.data[at : at + tree_size(entry["size"])] if at else None

    def entry(self, path):
        return next(e for e in self.manifest["entries"] if e["path"] == path)


def raw_public_key(pem_path):
    from cryptography.hazmat.primitives import serialization

    with open(pem_path, "rb") as f:
        key = serialization.load_pem_public_key(f.read())
    return key.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)


def printable(value):
    if isinstance(value, bytes):
        return value.decode("utf-8", "backslashreplace")
    if isinstance(value, dict):
        return {k: value[k].hex() if k in ("digest", "key_id") else printable(value[k]) for k in value}
    return [printable(v) for v in value] if isinstance(value, list) else value


def main(argv):
    keys = [raw_public_key(argv[i + 1]) for i, a in enumerate(argv) if a == "--key"]
    with open(argv[1], "rb") as f:
        pack = Pack(f.read(), keys)
    print(json.dumps({"digest": pack.digest.hex(), **printable(pack.manifest)}, indent=2))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv))
