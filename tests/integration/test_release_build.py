"""moult release build, show and verify as an operator uses them: real trees, real tools beside it, bad days."""

import hashlib
import json
import os
import pathlib
import shutil
import signal
import socket
import stat
import subprocess
import sys

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import moult  # noqa: E402
import trees  # noqa: E402

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="devices and owners need root")

OK, USAGE, NOT_FOUND, REFUSED, CONFLICT, UNTRUSTED, NO_SPACE, CANCELLED, CORRUPT = 0, 2, 3, 4, 8, 9, 10, 12, 13


def run(*words, cwd=None, env=None):
    return subprocess.run([str(moult.MOULT), *[str(w) for w in words]], check=False, stdin=subprocess.DEVNULL,
                          capture_output=True, text=True, errors="surrogateescape", timeout=300, cwd=cwd,
                          env=os.environ | {"SOURCE_DATE_EPOCH": "1700000000"} | (env or {}))


def must(*words, **options):
    done = run(*words, **options)
    assert done.returncode == OK, done.stderr
    return done


@pytest.fixture
def key(tmp_path):
    must("key", "new", "--out", tmp_path / "ops")
    (tmp_path / "trust").mkdir()
    shutil.copy(tmp_path / "ops.pub", tmp_path / "trust")
    return tmp_path / "ops.key"


class Builder:
    """Builds packs with the test's key."""

    def __init__(self, directory, key_file):
        self.dir, self.key, self.trust = directory, key_file, directory / "trust"

    def words(self, new, old=None, options=(), out="r.moult"):
        return ["release", "build", new, *(["--from", old] if old else []), "--name", "app", "--version", "2",
                "--sign", self.key, *options, "-o", self.dir / out]

    def build(self, new, old=None, options=(), out="r.moult"):
        self.report = json.loads(must(*self.words(new, old, ("--json", *options), out)).stdout)
        return self.dir / out

    def entries(self, pack):
        shown = json.loads(must("release", "show", pack, "--entries", "--json").stdout)
        return {e["path"]: e for e in shown["entries"]}

    def verify(self, pack):
        return run("release", "verify", pack, "--trust", self.trust)


@pytest.fixture
def builder(tmp_path, key):
    return Builder(tmp_path, key)


@pytest.fixture
def every_kind(tmp_path):
    """A tree with each kind of entry, in the given corners."""
    root = tmp_path / "every"
    trees.write(root, "usr/bin/tool", "#!/bin/sh\n", 0o4755)
    os.link(root / "usr/bin/tool", root / "usr/bin/alias")
    os.link(root / "usr/bin/tool", root / "usr/a-first-name")
    (root / "usr/bin/link").symlink_to("../bin/tool")
    (root / "usr/dangling").symlink_to("/nowhere/at all")
    trees.write(root, "empty", "")
    trees.write(root, "exactly-a-block", b"x" * 4096)
    trees.write(root, "big", os.urandom(3 * 1024 * 1024 + 5))
    trees.write(root, "same-as-big", (root / "big").read_bytes())
    with open(trees.write(root, "sparse", ""), "r+b") as sparse:
        sparse.truncate(64 * 1024 * 1024 + 1)
        sparse.seek(8 * 1024 * 1024)
        sparse.write(b"island")
        sparse.seek(64 * 1024 * 1024)
        sparse.write(b"!")
    with open(trees.write(root, "only-a-hole", ""), "r+b") as hole:
        hole.truncate(5 * 1024 * 1024)
    os.mkfifo(root / "fifo", 0o620)
    os.mknod(root / "null", 0o666 | stat.S_IFCHR, os.makedev(1, 3))
    os.mknod(root / "disk", 0o660 | stat.S_IFBLK, os.makedev(8, 300))
    os.chown(root / "big", 12345, 54321)
    os.lchown(root / "usr/dangling", 7, 8)
    (root / "sticky").mkdir()
    (root / "sticky").chmod(0o1777)
    os.setxattr(root / "empty", "user.mine", b"\x00\xff")
    capability = bytes.fromhex("0100000200200000000000000000000000000000")
    os.setxattr(root / "same-as-big", "security.capability", capability)
    trees.write(root, os.fsdecode(b"name-\xff\xfe\n"), "odd name")
    trees.set_times(root, 1600000000)
    return root


def safe(path):
    """As the program shows a path: what is not printable text is \\xNN."""
    out = ""
    for c in path:
        code = ord(c)
        out += f"\\x{code - 0xdc00:02x}" if 0xdc80 <= code <= 0xdcff else "\\x0a" if c == "\n" else c
    return out


def verity_digest(path):
    """The fs-verity digest, computed anew from its definition."""
    data, level = path.read_bytes(), []
    for at in range(0, len(data), 4096):
        level.append(hashlib.sha256(data[at:at + 4096].ljust(4096, b"\0")).digest())
    while len(level) > 1:
        level = [hashlib.sha256(b"".join(level[i:i + 128]).ljust(4096, b"\0")).digest() for i in range(0, len(level), 128)]
    root = (level[0] if level else bytes(32)).ljust(64, b"\0")
    descriptor = bytes([1, 1, 12, 0]) + bytes(4) + len(data).to_bytes(8, "little") + root
    return hashlib.sha256(descriptor.ljust(256, b"\0")).hexdigest()


def kind_of(st):
    return {stat.S_IFREG: "file", stat.S_IFDIR: "directory", stat.S_IFLNK: "symlink", stat.S_IFCHR: "char-device",
            stat.S_IFBLK: "block-device", stat.S_IFIFO: "fifo"}[stat.S_IFMT(st.st_mode)]


def test_every_kind_of_entry_is_taken_with_all_its_metadata(builder, every_kind):
    entries = builder.entries(builder.build(every_kind))
    seen, leaders = set(), {}
    paths = sorted(os.path.relpath(os.path.join(d, n), every_kind)
                   for d, ds, fs in os.walk(every_kind) for n in ds + fs)
    for path in sorted(paths, key=os.fsencode):
        st, e = os.lstat(every_kind / path), entries[safe(path)]
        seen.add(safe(path))
        if stat.S_ISREG(st.st_mode) and st.st_ino in leaders:
            assert (e["type"], e["link_target"]) == ("hardlink", safe(leaders[st.st_ino]))
            continue
        leaders[st.st_ino] = path
        assert e["type"] == kind_of(st), path
        assert (e["uid"], e["gid"], e["mtime"]) == (st.st_uid, st.st_gid, int(st.st_mtime)), path
        assert e["mode"] == (0 if stat.S_ISLNK(st.st_mode) else stat.S_IMODE(st.st_mode)), path
        if e["type"] == "file":
            assert e["size"] == st.st_size
            assert e["digest"] == verity_digest(every_kind / path), path
        if e["type"] == "symlink":
            assert e["link_target"] == os.readlink(every_kind / path)
        if "device" in e["type"]:
            assert (e["major"], e["minor"]) == (os.major(st.st_rdev), os.minor(st.st_rdev))
        have = {x: os.getxattr(every_kind / path, x, follow_symlinks=False).hex()
                for x in os.listxattr(every_kind / path, follow_symlinks=False)}
        assert e.get("xattrs", {}) == have, path
    assert seen == set(entries)
    assert builder.verify(builder.dir / "r.moult").returncode == OK


def test_holes_and_equal_contents_cost_nothing(builder, every_kind):
    pack = builder.build(every_kind, options=("--compress", "none"))
    entries = builder.entries(pack)
    assert entries["sparse"]["data_bytes"] <= 3 * 4096
    assert entries["only-a-hole"]["data_bytes"] == 0
    assert entries["big"]["blob"] == entries["same-as-big"]["blob"]
    assert pack.stat().st_size < 3 * 1024 * 1024 + 200 * 1024


def test_the_same_input_gives_the_same_bytes(builder, every_kind):
    """Another copy of the tree, read in another order, other inode numbers, other threads."""
    first = builder.build(every_kind, options=("--jobs", 1), out="first.moult")
    copy = builder.dir / "copy"
    copy.mkdir()
    for name in sorted(os.listdir(every_kind), reverse=True):
        subprocess.run(["cp", "-a", str(every_kind / name), str(copy)], check=True)
    os.utime(copy, (1, 1))
    second = builder.build(copy, options=("--jobs", 8), out="second.moult")
    assert first.read_bytes() == second.read_bytes()


def test_the_same_difference_gives_the_same_bytes(builder, every_kind):
    old = builder.dir / "older"
    subprocess.run(["cp", "-a", str(every_kind), str(old)], check=True)
    trees.write(every_kind, "big", b"other", mtime=1600000001)
    (old / "gone").mkdir()
    packs = [builder.build(every_kind, old, options=("--jobs", jobs), out=f"{jobs}.moult") for jobs in (1, 8)]
    assert packs[0].read_bytes() == packs[1].read_bytes()
    assert set(builder.entries(packs[0])) == {"big", "gone"}


def test_the_time_of_creation_is_the_only_thing_that_a_clock_decides(builder, every_kind):
    builder.build(every_kind, out="a.moult")
    must(*builder.words(every_kind, out="b.moult"), env={"SOURCE_DATE_EPOCH": "1700000001"})
    a, b = (json.loads(must("release", "show", builder.dir / n, "--entries", "--json").stdout)
            for n in ("a.moult", "b.moult"))
    assert (a.pop("created"), b.pop("created")) == (1700000000, 1700000001)
    assert a.pop("manifest_digest") != b.pop("manifest_digest")
    assert a == b


def make_package(directory, name, files, version):
    """A real .deb of these files, unpacked again by dpkg-deb."""
    source = directory / f"{name}-source"
    for path, (data, mode) in files.items():
        trees.write(source, path, data, mode)
    trees.write(source, "DEBIAN/control", f"Package: {name}\nVersion: {version}\nArchitecture: all\n"
                                          "Maintainer: nobody <nobody@localhost>\nDescription: test\n")
    subprocess.run(["dpkg-deb", "--root-owner-group", "-b", str(source), str(directory / f"{name}.deb")], check=True,
                   stdout=subprocess.DEVNULL)
    subprocess.run(["dpkg-deb", "-x", str(directory / f"{name}.deb"), str(directory / name)], check=True)
    return directory / name


def test_the_difference_of_two_packages_is_what_is_put_in(builder):
    old = make_package(builder.dir, "old", {"usr/bin/a": ("one", 0o755), "usr/bin/b": ("same", 0o755),
                                            "usr/lib/gone/x": ("x", 0o644), "etc/conf": ("c", 0o644)}, "1")
    new = make_package(builder.dir, "new", {"usr/bin/a": ("two", 0o755), "usr/bin/b": ("same", 0o755),
                                            "usr/lib/come/y": ("y", 0o644), "etc/conf": ("c", 0o600)}, "2")
    entries = builder.entries(builder.build(new, old))
    assert {p: e["type"] for p, e in entries.items()} == {
        "usr/bin/a": "file", "etc/conf": "file", "usr/lib/come": "directory", "usr/lib/come/y": "file",
        "usr/lib/gone": "delete", "usr/lib/gone/x": "delete"}
    assert entries["usr/bin/a"]["old_digests"] == [verity_digest(old / "usr/bin/a")]
    assert entries["usr/lib/gone/x"]["old_must_exist"]
    assert entries["usr/lib/gone/x"]["old_digests"] == [verity_digest(old / "usr/lib/gone/x")]
    assert "old_digests" not in entries["usr/lib/come/y"]
    assert builder.report["changes"] == {"create": 2, "content": 1, "metadata": 1, "type": 0, "links": 0, "delete": 2}
    assert builder.report["unchanged"] == 5
    assert (builder.report["bytes_before"], builder.report["bytes_after"]) == (5, 5)
    assert builder.verify(builder.dir / "r.moult").returncode == OK


def test_all_names_of_a_changed_file_come_along(builder):
    old, new = builder.dir / "old", builder.dir / "new"
    for root, text in ((old, "1"), (new, "2")):
        trees.write(root, "b", text)
        os.link(root / "b", root / "a")
        os.link(root / "b", root / "c")
        trees.write(root, "other", "same")
        trees.set_times(root)
    entries = builder.entries(builder.build(new, old))
    assert {p: e["type"] for p, e in entries.items()} == {"a": "file", "b": "hardlink", "c": "hardlink"}


def test_nothing_to_release_is_said(builder):
    trees.write(builder.dir / "one", "a", "1")
    trees.write(builder.dir / "two", "a", "1")
    (builder.dir / "empty").mkdir()
    done = run(*builder.words(builder.dir / "one", builder.dir / "two"))
    assert done.returncode == REFUSED and "do not differ" in done.stderr
    done = run(*builder.words(builder.dir / "empty"))
    assert done.returncode == REFUSED and "is empty" in done.stderr


def test_files_of_one_machine_are_refused_all_at_once(builder):
    root = builder.dir / "image"
    trees.write(root, "etc/machine-id", "0" * 32)
    trees.write(root, "etc/ssh/ssh_host_rsa_key", "secret", 0o600)
    trees.write(root, "usr/share/x", "x")
    done = run(*builder.words(root))
    assert done.returncode == REFUSED
    assert "/etc/machine-id" in done.stderr and "/etc/ssh/ssh_host_rsa_key" in done.stderr
    assert not (builder.dir / "r.moult").exists()
    pack = builder.build(root, options=("--allow-per-vm", "/etc/machine-id", "--exclude", "ssh_host_*"))
    assert set(builder.entries(pack)) == {"etc", "etc/machine-id", "etc/ssh", "usr", "usr/share", "usr/share/x"}


def test_a_file_of_one_machine_that_did_not_change_is_no_reason_to_refuse(builder):
    for root in ("old", "new"):
        trees.write(builder.dir / root, "etc/machine-id", "0" * 32)
        trees.write(builder.dir / root, "usr/x", root)
    assert set(builder.entries(builder.build(builder.dir / "new", builder.dir / "old"))) == {"usr/x"}
    (builder.dir / "new/etc/machine-id").unlink()
    done = run(*builder.words(builder.dir / "new", builder.dir / "old", out="s.moult"))
    assert done.returncode == REFUSED and "/etc/machine-id" in done.stderr, "deleting it is no better"


def test_sockets_and_mounts_are_refused_by_name(builder):
    root = builder.dir / "tree"
    trees.write(root, "a", "1")
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(root / "run.sock"))
    done = run(*builder.words(root))
    assert done.returncode == REFUSED and "run.sock is a socket" in done.stderr
    (root / "run.sock").unlink()
    (root / "mnt").mkdir()
    script = 'mount -t tmpfs none "$1/mnt" && shift && exec "$@"'
    words = [str(w) for w in builder.words(root)]
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", str(root), str(moult.MOULT), *words],
                          check=False, capture_output=True, text=True)
    assert done.returncode == REFUSED and "mnt in " in done.stderr and "mount point" in done.stderr


def leftovers(directory):
    return sorted(p.name for p in directory.iterdir())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_leaves_nothing_behind(builder, number):
    root, out = builder.dir / "big", builder.dir / "out"
    out.mkdir()
    for i in range(8):
        trees.write(root, f"f{i}", os.urandom(1 << 20) * 24)
    words = [str(w) for w in builder.words(root, options=("--compress", "19", "--progress", "json"), out="out/r.moult")]
    with subprocess.Popen([str(moult.MOULT), *words], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE, text=True) as process:
        for line in process.stderr:
            if json.loads(line)["phase"] == "packing":
                assert leftovers(out) not in ([], ["r.moult"]), "the pack grows under a temporary name"
                process.send_signal(number)
                break
        rest = process.stderr.read()
        assert process.wait() == CANCELLED, rest
    assert leftovers(out) == []


def test_a_full_disk_leaves_nothing_behind(builder):
    root = builder.dir / "big"
    trees.write(root, "f", os.urandom(8 << 20))
    (builder.dir / "small").mkdir()
    script = ('mount -t tmpfs -o size=4m none "$1/small"; d=$1; shift; "$@"; echo "code $?"; ls -A "$d/small"')
    words = [str(w) for w in builder.words(root, out="small/r.moult")]
    done = subprocess.run(["unshare", "-m", "sh", "-c", script, "sh", str(builder.dir), str(moult.MOULT), *words],
                          check=False, capture_output=True, text=True)
    assert done.stdout == f"code {NO_SPACE}\n", done.stderr


def test_an_existing_file_is_kept_unless_told_otherwise(builder):
    trees.write(builder.dir / "tree", "a", "1")
    pack = builder.build(builder.dir / "tree")
    before = pack.read_bytes()
    trees.write(builder.dir / "tree", "a", "22")
    done = run(*builder.words(builder.dir / "tree"))
    assert done.returncode == CONFLICT and "--force" in done.stderr
    assert pack.read_bytes() == before
    builder.build(builder.dir / "tree", options=("--force",))
    assert pack.read_bytes() != before
    assert stat.S_IMODE(pack.stat().st_mode) == 0o444


@pytest.mark.parametrize("words, code, text", [
    (["release", "build"], USAGE, "needs DIR"),
    (["release", "build", "{tree}"], USAGE, "-o FILE"),
    (["release", "build", "{tree}", "-o", "{out}", "--version", "1"], USAGE, "--name"),
    (["release", "build", "{tree}", "{tree}", "-o", "{out}"], USAGE, "takes no argument"),
    (["{base}", "--delivery", "pigeon"], USAGE, "auto, overwrite, overlay"),
    (["{base}", "--compress", "99"], USAGE, "1 to 19"),
    (["{base}", "--compress", "-1"], USAGE, "1 to 19"),
    (["{base}", "--owner-map", "me"], USAGE, "numeric or root"),
    (["{base}", "--security-floor", "-1"], USAGE, "--security-floor"),
    (["{base}", "--hook", "later={hook}"], USAGE, "check, pre, post, health"),
    (["{base}", "--hook", "pre={hook},timeout=0s"], USAGE, "out of range"),
    (["{base}", "--require", "debian"], USAGE, "KEY=VALUE"),
    (["{base}", "--sing", "{key}"], USAGE, "did you mean --sign?"),
    (["{base}", "--hook", "pre={tree}/a"], REFUSED, "#!"),
    (["{base}", "--hook", "pre={tree}/nothing"], NOT_FOUND, "nothing"),
    (["{base}", "--sign", "{tree}/nothing"], NOT_FOUND, "nothing"),
    (["{base}", "--sign", "{tree}/a"], CORRUPT, "a"),
    (["{base}", "--from", "{tree}/nothing"], NOT_FOUND, "nothing"),
    (["release", "build", "{tree}/nothing", "--name", "a", "--version", "1", "-o", "{out}"], NOT_FOUND, "nothing"),
    (["release", "build", "{tree}", "--name", "a", "--version", "1", "-o", "{tree}/no/r.moult"], NOT_FOUND, "no"),
    (["release", "show", "{tree}/a"], CORRUPT, "a"),
    (["release", "show", "{tree}/nothing"], NOT_FOUND, "nothing"),
    (["release", "show", "{tree}"], None, "tree"),
    (["release", "verify", "{tree}/a", "--trust", "{tree}"], CORRUPT, "a"),
    (["key", "new"], USAGE, "NAME or --out"),
    (["key", "new", "x", "--out", "y"], USAGE, "NAME or --out"),
    (["key", "new", "{tree}/x"], USAGE, "is not a name"),
    (["key", "new", "--out", "{base-dir}/ops"], CONFLICT, "exists"),
    (["key", "new", "--out", "{tree}/no/x"], NOT_FOUND, "no/x"),
    (["key", "show", "{tree}/a"], CORRUPT, "Ed25519"),
    (["key", "show", "{tree}/nothing"], NOT_FOUND, "nothing"),
])
def test_mistakes_have_a_code_and_a_reason(builder, words, code, text):
    tree = builder.dir / "tree"
    trees.write(tree, "a", "1")
    hook = trees.write(builder.dir, "hook", "#!/bin/sh\n", 0o755)
    base = ["release", "build", tree, "--name", "a", "--version", "1", "-o", builder.dir / "out.moult"]
    places = {"tree": str(tree), "out": str(builder.dir / "out.moult"), "hook": str(hook), "key": str(builder.key),
              "base-dir": str(builder.dir)}
    full = []
    for word in words:
        if word == "{base}":
            full += base
        else:
            for name, value in places.items():
                word = word.replace("{" + name + "}", value)
            full.append(word)
    done = run(*full)
    assert text in done.stderr, done.stderr
    assert done.returncode == code if code is not None else done.returncode not in (OK, 1), done.stderr
    assert not (builder.dir / "out.moult").exists()
    assert done.stdout == ""
    as_json = run(*full, "--json")
    error = json.loads(as_json.stderr[as_json.stderr.index("{"):])["error"]
    assert error["exit_code"] == as_json.returncode == done.returncode


@pytest.mark.parametrize("name, version", [("", "1"), ("App", "1"), ("-a", "1"), ("a b", "1"), ("a" * 65, "1"),
                                           ("a", ""), ("a", "-1"), ("a", "1 2"), ("a", "1/2"), ("a", "1" * 65)])
def test_names_that_no_reader_accepts_are_refused(builder, name, version):
    trees.write(builder.dir / "tree", "a", "1")
    done = run("release", "build", builder.dir / "tree", f"--name={name}", f"--version={version}", "-o",
               builder.dir / "r.moult")
    assert done.returncode not in (OK, 1), done.stderr
    assert not (builder.dir / "r.moult").exists()
    assert leftovers(builder.dir) == ["ops.key", "ops.pub", "tree", "trust"]


def test_hooks_units_and_requirements_are_in(builder):
    trees.write(builder.dir / "tree", "a", "1")
    hook = trees.write(builder.dir, "check-web", "#!/bin/sh\nexit 0\n", 0o755)
    pack = builder.build(builder.dir / "tree", options=(
        "--hook", f"health={hook},timeout=90s", "--hook", f"pre={hook},name=first", "--restart", "nginx.service",
        "--require", "ID=debian", "--require", "ARCH=x86_64", "--security-floor", "7", "--description", "Über\nzwei",
        "--delivery", "overwrite", "--owner-map", "root"))
    shown = json.loads(must("release", "show", pack, "--entries", "--json").stdout)
    assert [(h["stage"], h["name"], h["timeout_ms"]) for h in shown["hooks"]] == [("health", "check-web", 90000),
                                                                                 ("pre", "first", 30000)]
    assert shown["restart_units"] == ["nginx.service"]
    assert sorted(shown["requires"]) == ["ARCH=x86_64", "ID=debian"]
    assert (shown["security_floor"], shown["description"]) == (7, "Über\nzwei")
    assert all(e["delivery"] == "overwrite" and (e["uid"], e["gid"]) == (0, 0) for e in shown["entries"])


def test_owners_become_root_only_when_asked_for(builder):
    file = trees.write(builder.dir / "tree", "a", "1")
    os.chown(file, 1000, 1000)
    assert builder.entries(builder.build(builder.dir / "tree"))["a"]["uid"] == 1000
    mapped = builder.build(builder.dir / "tree", options=("--owner-map", "root"), out="m.moult")
    assert builder.entries(mapped)["a"]["uid"] == 0


def test_every_flipped_byte_is_noticed(builder):
    """At places in each part of the pack; the blobs' padding holds nothing, and says nothing."""
    root = builder.dir / "tree"
    trees.write(root, "a", os.urandom(5000))
    trees.write(root, "b", b"text " * 4000)
    pack = builder.build(root)
    data, size = bytearray(pack.read_bytes()), pack.stat().st_size
    bad = builder.dir / "bad.moult"
    manifest = int.from_bytes(data[40:48], "little")
    places = [0, 8, 16, 100, 4092, 4096, 4096 + 4999, manifest, manifest + 40, size - 70, size - 1]
    for place in places:
        data[place] ^= 1
        bad.write_bytes(data)
        assert builder.verify(bad).returncode in (CORRUPT, UNTRUSTED), place
        data[place] ^= 1
    bad.write_bytes(data[:-1])
    assert builder.verify(bad).returncode == CORRUPT
    bad.write_bytes(data)
    assert builder.verify(bad).returncode == OK


def test_only_trusted_signatures_count(builder):
    trees.write(builder.dir / "tree", "a", "1")
    must("key", "new", "--out", builder.dir / "stranger")
    (builder.dir / "nobody").mkdir()
    pack = builder.build(builder.dir / "tree")
    both = builder.build(builder.dir / "tree", options=("--sign", builder.dir / "stranger.key"), out="both.moult")
    done = must("release", "build", builder.dir / "tree", "--name", "a", "--version", "1", "-o", builder.dir / "u.moult")
    assert "not signed" in done.stderr
    assert run("release", "verify", pack, "--trust", builder.dir / "nobody").returncode == UNTRUSTED
    assert builder.verify(builder.dir / "u.moult").returncode == UNTRUSTED
    assert builder.verify(both).returncode == OK
    assert run("release", "verify", pack, "--trust", builder.dir / "missing").returncode == NOT_FOUND
    ids = [run("key", "show", builder.dir / f"ops.{kind}", "--json").stdout for kind in ("key", "pub")]
    assert json.loads(ids[0])["id"] == json.loads(ids[1])["id"]
    assert stat.S_IMODE((builder.dir / "ops.key").stat().st_mode) == 0o600


def test_progress_is_told_as_json_lines(builder):
    root = builder.dir / "tree"
    for i in range(6):
        trees.write(root, f"f{i}", os.urandom(1 << 20))
    done = must(*builder.words(root, options=("--progress", "json")))
    lines = [json.loads(line) for line in done.stderr.splitlines()]
    assert {line["phase"] for line in lines} == {"scanning", "packing"}
    assert all(set(line) == {"progress", "phase", "percent", "bytes", "total", "rate", "eta_s"} for line in lines)
    assert (lines[-1]["percent"], lines[-1]["bytes"], lines[-1]["total"], lines[-1]["eta_s"]) == (100, 6 << 20, 6 << 20, 0)
    trees.write(root, "f0", os.urandom(1 << 20) * 64)
    slow = must(*builder.words(root, options=("--progress", "json", "--force", "--compress", "12")))
    within = [line["bytes"] for line in map(json.loads, slow.stderr.splitlines()) if line["phase"] == "packing"]
    assert within == sorted(within) and within[-1] == (64 + 5) << 20, "also within one large file"
    silent = must(*builder.words(root, options=("--progress", "none", "--force")))
    assert silent.stderr == ""


def test_a_result_that_cannot_be_written_is_an_error(builder):
    with open("/dev/full", "w", encoding="utf-8") as full:
        done = subprocess.run([str(moult.MOULT), "--help"], check=False, stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == NO_SPACE, done.stderr


def test_a_very_deep_and_a_very_wide_tree(builder):
    root = builder.dir / "tree"
    wide = root / "wide"
    wide.mkdir(parents=True)
    for i in range(5000):
        (wide / f"{i}").symlink_to("x")
    # Deeper than a path may be long from here: step by step.
    fd = os.open(root, os.O_RDONLY)
    for _ in range(1500):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    entries = builder.entries(builder.build(root))
    subprocess.run(["rm", "-rf", str(root)], check=True)  # too deep for Python's own
    assert len(entries) == 1500 + 5001


def test_a_path_that_is_too_long_is_refused(builder):
    root = builder.dir / "tree"
    root.mkdir()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(20):
        os.mkdir("d" * 250, dir_fd=fd)
        below = os.open("d" * 250, os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(fd)
    done = run(*builder.words(root))
    subprocess.run(["rm", "-rf", str(root)], check=True)
    assert done.returncode == REFUSED, done.stderr
    assert not (builder.dir / "r.moult").exists()
