"""The pack format as written down, against the pack format as implemented.

tests/support/packread.py was written from docs/pack-format.md alone. Here it reads what `moult release build` wrote,
and both are compared with the directory that went in and with the `fsverity` tool. Then both readers judge the same
hostile packs, and must agree.
"""

import json
import os
import pathlib
import random
import shutil
import stat
import subprocess
import sys

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
sys.path[:0] = [str(TOP / "tests/support"), str(TOP / "tests/fuzz")]

import make_pack_corpus  # noqa: E402
import packread  # noqa: E402

BUILD = pathlib.Path(os.environ.get("MOULT_HOST_BUILD", TOP / "build/dev"))
MOULT = BUILD / "host-service/moult"
CAPABILITY = bytes.fromhex("0100000200040000000000000000000000000000")  # cap_net_bind_service+ep
ACL = bytes.fromhex("02000000" "01000600ffffffff" "020004006f000000" "04000400ffffffff" "10000400ffffffff" "20000000ffffffff")

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can make devices and owners")


def moult(*words, **options):
    return subprocess.run(
        [MOULT, *map(str, words)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, **options
    )


@pytest.fixture
def key(tmp_path):
    done = moult("key", "new", "--out", tmp_path / "ops")
    assert done.returncode == 0, done.stderr
    (tmp_path / "trust").mkdir()
    shutil.copy(tmp_path / "ops.pub", tmp_path / "trust")
    return tmp_path / "ops.key"


def set_xattr(path, name, value, supported):
    try:
        os.setxattr(path, name, value, follow_symlinks=False)
        supported.append(name)
    except OSError:
        pass  # the file system of the temporary directory may not have it


def fill(top):
    """A tree with every type and every kind of metadata. Returns the xattr names that this file system took."""
    noise, taken = random.Random(1), []
    (top / "usr/lib").mkdir(parents=True)
    (top / "empty-dir").mkdir(mode=0o1777)
    os.chmod(top / "empty-dir", 0o1777)
    for size in (0, 1, 4095, 4096, 4097, (1 << 20) - 1, 1 << 20, (1 << 20) + 1):
        (top / f"usr/lib/noise-{size}").write_bytes(noise.randbytes(size))
        (top / f"usr/lib/text-{size}").write_bytes((b"the same line\n" * (size // 14 + 1))[:size])
    (top / "usr/lib/large").write_bytes(b"0123456789abcdef" * (5 << 16) + noise.randbytes(3 << 20))
    (top / "usr/lib/copy").write_bytes((top / "usr/lib/large").read_bytes())
    with open(top / "sparse", "wb") as f:
        f.truncate((9 << 20) + 77)
        f.seek(3 << 20)
        f.write(noise.randbytes(1 << 20))
        f.seek(9 << 20)
        f.write(b"end")
    with open(top / "hole", "wb") as f:
        f.truncate(5 << 20)
    os.link(top / "usr/lib/large", top / "usr/lib/second-name")
    os.symlink("../nowhere", top / "usr/dangling")
    os.symlink("/etc", top / "absolute")
    os.mkfifo(top / "pipe", 0o620)
    os.mknod(top / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(top / "loop", 0o660 | stat.S_IFBLK, os.makedev(7, 300))
    (top / "usr/program").write_bytes(b"\x7fELF" + bytes(500))
    os.chown(top / "usr/program", 12, 34)
    os.chmod(top / "usr/program", 0o6755)
    set_xattr(top / "usr/program", "security.capability", CAPABILITY, taken)
    set_xattr(top / "usr/program", "system.posix_acl_access", ACL, taken)
    set_xattr(top / "usr/lib", "user.note", b"with\0nul", taken)
    set_xattr(top / "usr/lib", "trusted.note", b"", taken)
    with open(os.fsencode(top) + b"/odd \xff\n-name", "wb") as f:
        f.write(b"odd")
    os.utime(top / "usr/program", ns=(0, 1234567890_123456789))
    os.utime(top / "sparse", ns=(0, -5_000000001))
    return taken


def build(source, out, key, *more):
    done = moult("release", "build", source, "--name", "all-types", "--version", "1.0~rc1", "--sign", key, "-o", out, *more)
    assert done.returncode == 0, done.stderr
    return out


def walk(top):
    """Paths below, as bytes, relative."""
    base = os.fsencode(top)
    for directory, names, files in os.walk(base):
        for name in names + files:
            yield os.path.relpath(os.path.join(directory, name), base)


TYPE_OF = {
    stat.S_IFREG: packread.FILE,
    stat.S_IFDIR: packread.DIRECTORY,
    stat.S_IFLNK: packread.SYMLINK,
    stat.S_IFCHR: packread.CHAR,
    stat.S_IFBLK: packread.BLOCK_DEVICE,
    stat.S_IFIFO: packread.FIFO,
}


def expect_metadata(entry, path):
    st = os.lstat(path)
    assert entry["type"] == TYPE_OF[stat.S_IFMT(st.st_mode)]
    assert (entry["uid"], entry["gid"]) == (st.st_uid, st.st_gid)
    assert entry["mtime_s"] * 10**9 + entry["mtime_ns"] == st.st_mtime_ns
    if entry["type"] != packread.SYMLINK:
        assert entry["mode"] == stat.S_IMODE(st.st_mode)
    else:
        assert entry["link_target"] == os.readlink(path)
    if entry["type"] in (packread.CHAR, packread.BLOCK_DEVICE):
        assert (entry["dev_major"], entry["dev_minor"]) == (os.major(st.st_rdev), os.minor(st.st_rdev))
    xattrs = {x["name"]: x["value"] for x in entry["xattrs"]}
    names = os.listxattr(path, follow_symlinks=False)
    assert xattrs == {os.fsencode(n): os.getxattr(path, n, follow_symlinks=False) for n in names}


def fsverity_says(path, scratch):
    """The digest of a file, and its Merkle tree as the kernel would store it; nothing if it has no data."""
    tree = scratch / "merkle-tree"
    words = ["fsverity", "digest", "--compact", f"--out-merkle-tree={tree}", path]
    done = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    has_data = os.stat(path).st_blocks > 0
    return bytes.fromhex(done.stdout.strip()), tree.read_bytes() if has_data else b""


@needs_root
@pytest.mark.parametrize("compress", ["3", "none"])
def test_a_tree_of_every_type_is_read_back_from_the_document_alone(tmp_path, key, compress):
    source = tmp_path / "tree"
    source.mkdir()
    taken = fill(source)
    pack_path = build(source, tmp_path / "p.moult", key, "--compress", compress)
    pack = packread.Pack(pack_path.read_bytes(), [packread.raw_public_key(tmp_path / "ops.pub")])

    m = pack.manifest
    assert (m["name"], m["version"]) == (b"all-types", b"1.0~rc1")
    assert [e["path"] for e in m["entries"]] == sorted(walk(source))
    linked = {b"usr/lib/large", b"usr/lib/second-name"}
    for entry in m["entries"]:
        path = os.path.join(os.fsencode(source), entry["path"])
        if entry["type"] == packread.HARDLINK:
            assert {entry["path"], entry["link_target"]} == linked
            continue
        expect_metadata(entry, path)
        if entry["type"] == packread.FILE:
            with open(path, "rb") as f:
                assert pack.content(entry) == f.read(), entry["path"]
            assert (entry["digest"], pack.tree(entry) or b"") == fsverity_says(path, tmp_path), entry["path"]
    assert sum(e["type"] == packread.HARDLINK for e in m["entries"]) == 1

    by_path = {e["path"]: e for e in m["entries"]}
    assert by_path[b"usr/lib/copy"]["blob"] == max(by_path[p]["blob"] for p in linked)  # equal contents, one blob
    assert by_path[b"hole"]["blob"] == 0
    assert sum(x["length"] for x in by_path[b"sparse"]["extents"]) < 2 << 20
    storages = {b["storage"] for b in m["blobs"]}
    assert storages == ({0, 1} if compress == "3" else {0})
    assert "security.capability" in taken and "system.posix_acl_access" in taken


@needs_root
def test_the_c_reader_says_the_same(tmp_path, key):
    source = tmp_path / "tree"
    source.mkdir()
    fill(source)
    pack_path = build(source, tmp_path / "p.moult", key)
    pack = packread.Pack(pack_path.read_bytes(), [packread.raw_public_key(tmp_path / "ops.pub")])
    done = moult("release", "verify", pack_path, "--trust", tmp_path / "trust")
    assert done.returncode == 0, done.stderr
    shown = json.loads(moult("release", "show", pack_path, "--json").stdout)
    assert shown["manifest_digest"] == pack.digest.hex()
    assert shown["entries_total"] == len(pack.manifest["entries"])
    for number, name in enumerate(packread.TYPES):
        assert shown["entries_by_type"][name] == sum(e["type"] == number for e in pack.manifest["entries"]), name
    assert shown["signatures"][0]["key_id"] == pack.key_id.hex()


def test_a_release_from_two_trees_lists_what_is_gone_and_what_was_there(tmp_path, key):
    old, new = tmp_path / "old", tmp_path / "new"
    for top in (old, new):
        (top / "etc").mkdir(parents=True)
        (top / "etc/same").write_text("same")
    (old / "etc/gone").write_text("gone")
    (old / "etc/changed").write_text("old")
    (new / "etc/changed").write_text("new!")
    pack = packread.Pack(build(new, tmp_path / "p.moult", key, "--from", old).read_bytes())
    changed, gone = pack.entry(b"etc/changed"), pack.entry(b"etc/gone")
    assert pack.content(changed) == b"new!"
    assert packread.verity_digest(b"old") in changed["old_digests"]
    assert gone["type"] == packread.DELETE and packread.verity_digest(b"gone") in gone["old_digests"]
    assert not any(e["path"] == b"etc/same" for e in pack.manifest["entries"])


@needs_root
def test_a_directory_that_becomes_something_else_is_read_back(tmp_path, key):
    """What was in it is listed as DELETE below a path that is no directory any more."""
    old, new = tmp_path / "old", tmp_path / "new"
    for top in (old, new):
        top.mkdir()
        fill(top)
    for name in ("dir-to-link", "dir-to-file", "dir-to-nothing"):
        (old / name / "below").mkdir(parents=True)
        (old / name / "below/file").write_text("old")
    (new / "dir-to-link").symlink_to("usr")
    (new / "dir-to-file").write_text("new")
    path = build(new, tmp_path / "p.moult", key, "--from", old)
    pack = packread.Pack(path.read_bytes(), [packread.raw_public_key(tmp_path / "ops.pub")])
    types = {e["path"]: e["type"] for e in pack.manifest["entries"]}
    assert types[b"dir-to-link"] == packread.SYMLINK and types[b"dir-to-file"] == packread.FILE
    assert pack.content(pack.entry(b"dir-to-file")) == b"new"
    for name in (b"dir-to-link", b"dir-to-file", b"dir-to-nothing"):
        assert types[name + b"/below"] == types[name + b"/below/file"] == packread.DELETE
    done = moult("release", "verify", path, "--trust", tmp_path / "trust")
    assert done.returncode == 0, done.stderr


def test_a_release_is_built_with_hash_trees_or_without(tmp_path, key):
    source = tmp_path / "tree"
    source.mkdir()
    (source / "large").write_bytes(random.Random(2).randbytes(600000))
    (source / "copy").write_bytes((source / "large").read_bytes())
    (source / "small").write_bytes(b"x" * 4096)
    said = {}
    for name, words in (("with", []), ("without", ["--no-trees"])):
        path = build(source, tmp_path / f"{name}.moult", key, *words)
        pack = packread.Pack(path.read_bytes(), [packread.raw_public_key(tmp_path / "ops.pub")])
        shown = json.loads(moult("release", "show", path, "--json", "--entries").stdout)
        done = moult("release", "verify", path, "--trust", tmp_path / "trust", "--json")
        assert done.returncode == 0, done.stderr
        trees = {e["path"] for e in pack.manifest["entries"] if pack.tree(e) is not None}
        assert {e["path"].encode() for e in shown["entries"] if "tree_bytes" in e} == trees
        said[name] = (trees, shown["tree_bytes"], shown["files_without_tree"], json.loads(done.stdout)["trees"])
    # 147 blocks: two hash blocks and the root's, once for both names of the content.
    assert said["with"] == ({b"large", b"copy"}, 3 * 4096, 0, 1)
    assert said["without"] == (set(), 0, 2, 0)


def test_the_same_tree_gives_the_same_pack(tmp_path, key):
    source = tmp_path / "tree"
    source.mkdir()
    for i in range(200):
        (source / f"file-{i}").write_bytes(random.Random(i).randbytes(i * 999))
    out = []
    for name in ("a.moult", "b.moult"):
        done = moult(
            "release", "build", source, "--name", "n", "--version", "1", "--sign", key, "-o", tmp_path / name,
            env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"},
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        out.append((tmp_path / name).read_bytes())
    assert out[0] == out[1]


# --- two readers, the same hostile packs ---

SEEDS = TOP / "tests/fuzz/corpus"


def python_accepts(data, keys):
    try:
        pack = packread.Pack(data, keys)
        for entry in pack.manifest["entries"]:
            if entry["type"] == packread.FILE:
                pack.content(entry)
        return True
    except packread.Refused:
        return False


@pytest.fixture
def seed_trust(tmp_path):
    """The tests' own key, as a trust directory and as raw bytes."""
    from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

    public = make_pack_corpus.signing_key().public_key()
    trust = tmp_path / "seed-trust"
    trust.mkdir()
    (trust / "test.pub").write_bytes(public.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo))
    return trust, public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def c_accepts(tmp_path, data, trust):
    path = tmp_path / "seed.moult"
    path.write_bytes(data)
    done = moult("release", "verify", path, "--trust", trust)
    assert done.returncode in range(0, 64), f"{done.returncode}: {done.stderr}"  # no signal, no sanitizer
    assert "Sanitizer" not in done.stderr, done.stderr
    return done.returncode == 0


@pytest.mark.parametrize("name", sorted(p.name for p in (SEEDS / "pack").iterdir()))
def test_both_readers_judge_a_pack_as_its_name_says(tmp_path, seed_trust, name):
    trust, raw = seed_trust
    data = (SEEDS / "pack" / name).read_bytes()
    expected = name.startswith("accept-")
    assert c_accepts(tmp_path, data, trust) == expected
    assert python_accepts(data, [raw]) == expected


@pytest.mark.parametrize("name", sorted(p.name for p in (SEEDS / "manifest").iterdir()))
def test_both_readers_judge_a_list_as_its_name_says(tmp_path, seed_trust, name):
    # Signed by the trusted key: only the rules of the list can refuse it. Contents are not looked at.
    listing = (SEEDS / "manifest" / name).read_bytes()
    data = make_pack_corpus.pack(listing, bytes(1 << 20), make_pack_corpus.signing_key())
    expected = name.startswith("accept-")
    path = tmp_path / "seed.moult"
    path.write_bytes(data)
    done = moult("release", "show", path)
    assert "Sanitizer" not in done.stderr, done.stderr
    assert (done.returncode == 0) == expected, done.stderr
    try:
        packread.Pack(data, [seed_trust[1]])
        accepted = True
    except packread.Refused:
        accepted = False
    assert accepted == expected
