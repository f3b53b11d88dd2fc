"""A bench for the agent's engine, without a daemon and without a VM: trees, packs, `moult-agent apply` and what it left."""

import contextlib
import hashlib
import os
import pathlib
import shutil
import stat
import subprocess

import pytest

TOP = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("MOULT_BUILD", TOP / "build/dev"))
AGENT, MOULT = BUILD / "guest-agent/moult-agent", BUILD / "host-service/moult"
OLD_TIME, NEW_TIME = 1_600_000_000_123_456_789, 1_700_000_000_987_654_321

OK, FAILED, USAGE, NOT_FOUND, REFUSED, ROLLED_BACK = 0, 1, 2, 3, 4, 5
BUSY, UNTRUSTED = 8, 9


def set_time(path, ns):
    os.utime(path, ns=(ns, ns), follow_symlinks=False)


def set_times(root, ns):
    """The same time on everything, directories after what is in them."""
    for directory, directories, files in os.walk(root, topdown=False):
        for name in files + directories:
            set_time(os.path.join(directory, name), ns)
    set_time(root, ns)


def put(root, path, data=b"", mode=0o644, owner=(0, 0), xattrs=None):
    full = pathlib.Path(root) / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_bytes(data.encode() if isinstance(data, str) else data)
    os.chown(full, *owner)
    full.chmod(mode)
    for name, value in (xattrs or {}).items():
        os.setxattr(full, name, value)
    return full


def snapshot(root, skip=("var/lib/moult",)):
    """{path: everything about it} of a tree. Hard links are named by the first of their names, so that groups compare.
    Change times are left out: nobody can set them."""
    result, first_name = {}, {}
    root = os.fspath(root)

    def look(path, rel):
        st = os.lstat(path)
        try:
            xattrs = tuple(sorted((x, os.getxattr(path, x, follow_symlinks=False))
                                  for x in os.listxattr(path, follow_symlinks=False)))
        except OSError:     # a file system without them
            xattrs = ()
        content = ""
        if stat.S_ISREG(st.st_mode):
            with open(path, "rb") as f:
                content = hashlib.sha256(f.read()).hexdigest()
        elif stat.S_ISLNK(st.st_mode):
            content = os.readlink(path)
        elif stat.S_ISCHR(st.st_mode) or stat.S_ISBLK(st.st_mode):
            content = f"{os.major(st.st_rdev)}:{os.minor(st.st_rdev)}"
        link = ""
        if not stat.S_ISDIR(st.st_mode) and st.st_nlink > 1:
            link = f"{st.st_nlink} names, first {first_name.setdefault((st.st_dev, st.st_ino), rel)}"
        size = st.st_size if stat.S_ISREG(st.st_mode) else 0
        result[rel] = (stat.filemode(st.st_mode), st.st_uid, st.st_gid, size, st.st_mtime_ns, xattrs, content, link)

    def visit(directory, prefix):
        for name in sorted(os.listdir(directory)):
            path, rel = os.path.join(directory, name), os.path.join(prefix, name)
            if rel in skip or name in (".moult", "lost+found"):
                continue
            look(path, rel)
            if stat.S_ISDIR(os.lstat(path).st_mode):
                visit(path, rel)

    look(root, ".")
    visit(root, "")
    return result


def difference(a, b, limit=12):
    lines = [f"{p}:\n    {a.get(p)}\n    {b.get(p)}" for p in sorted(set(a) | set(b)) if a.get(p) != b.get(p)]
    return "\n".join(lines[:limit])


class Result:
    def __init__(self, process):
        self.code, self.out, self.err = process.returncode, process.stdout, process.stderr

    def __repr__(self):
        return f"status {self.code}\n{self.out}{self.err}"


class Lab:
    """One machine's root and state below a directory of its own, and releases for it."""

    def __init__(self, directory, root=None, state=None):
        self.dir = pathlib.Path(directory)
        self.dir.mkdir(parents=True, exist_ok=True)
        self.root = pathlib.Path(root or self.dir / "root")
        self.state = pathlib.Path(state or self.dir / "state")
        self.trust = self.dir / "trust"
        self.root.mkdir(exist_ok=True)
        self.trust.mkdir(exist_ok=True)
        self.environment = {}
        self.prefix = []
        self._packs = 0
        if not (self.dir / "release.key").exists():
            self._moult("key", "new", "release")
            shutil.copy(self.dir / "release.pub", self.trust)

    def _moult(self, *words):
        r = subprocess.run([str(MOULT), *map(str, words)], cwd=self.dir, capture_output=True, text=True)
        assert r.returncode == 0, f"moult {words}: {r.stdout}{r.stderr}"
        return r.stdout

    def release(self, new, *options, old=None, name="test", version="1"):
        """A signed pack of the tree `new`, or of its difference to `old`."""
        self._packs += 1
        path = self.dir / f"{self._packs}.moult"
        words = ["release", "build", new, "--name", name, "--version", version, "--sign", "release.key", "-o", path]
        if old is not None:
            words += ["--from", old, "--mtime"]
        self._moult(*words, *options)
        return path

    def agent(self, *words, check=None, timeout=120, environment=None):
        r = subprocess.run([*self.prefix, str(AGENT), *map(str, words)], capture_output=True, text=True,
                           errors="backslashreplace", timeout=timeout,
                           env=os.environ | {"LC_ALL": "C.UTF-8"} | self.environment | (environment or {}))
        result = Result(r)
        assert "Sanitizer" not in r.stderr and "runtime error" not in r.stderr, result
        assert check is None or r.returncode == check, result
        return result

    @property
    def where(self):
        return ["--root", self.root, "--state", self.state]

    def apply(self, pack, *options, check=OK, **more):
        return self.agent("apply", pack, "--trust", self.trust, *self.where, *options, check=check, **more)

    def plan(self, pack, *options, check=OK):
        return self.agent("plan", pack, "--trust", self.trust, *self.where, *options, check=check)

    def recover(self, *options, check=OK, **more):
        return self.agent("recover", *self.where, *options, check=check, **more)

    def rollback(self, *options, check=OK, **more):
        return self.agent("rollback", "--offline", *self.where, *options, check=check, **more)

    def history(self, *options):
        return self.agent("history", "--offline", *self.where, *options, check=OK).out

    def tree(self):
        return snapshot(self.root)

    def assert_tree(self, expected, what=""):
        now = self.tree()
        assert now == expected, f"{what}: the tree is not as expected:\n{difference(expected, now)}"

    def assert_clean(self):
        """Nothing of the engine is left outside its state directory."""
        left = [p for p in self.root.rglob(".moult")]
        assert not left, f"left behind: {[str(x) for p in left for x in p.rglob('*')]}"


@contextlib.contextmanager
def mounted(directory, fstype="ext4", size_mb=64, options="", mkfs=()):
    """A file system in a file, on a loop device, at `directory`/mnt."""
    base = pathlib.Path(directory)
    base.mkdir(parents=True, exist_ok=True)
    image, point = base / "disk", base / "mnt"
    point.mkdir(exist_ok=True)
    with open(image, "wb") as f:
        f.truncate(size_mb << 20)
    subprocess.run([f"mkfs.{fstype}", "-q", *mkfs, str(image)], check=True, capture_output=True)
    subprocess.run(["mount", "-o", ",".join(filter(None, ["loop", options])), str(image), str(point)], check=True)
    try:
        yield point
    finally:
        subprocess.run(["umount", "-R", "-l", str(point)], check=False)


@contextlib.contextmanager
def tmpfs(point, options="size=16m"):
    pathlib.Path(point).mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "none", str(point)], check=True)
    try:
        yield pathlib.Path(point)
    finally:
        subprocess.run(["umount", "-l", str(point)], check=False)


@contextlib.contextmanager
def bind(source, point, options=None):
    subprocess.run(["mount", "--bind", str(source), str(point)], check=True)
    try:
        if options:
            subprocess.run(["mount", "-o", f"remount,bind,{options}", str(point)], check=True)
        yield pathlib.Path(point)
    finally:
        subprocess.run(["umount", "-l", str(point)], check=False)


def every_kind(directory):
    """(old, new): trees with every type of entry, every kind of metadata and every kind of change between them."""
    old, new = pathlib.Path(directory) / "old", pathlib.Path(directory) / "new"
    for root, version in ((old, 1), (new, 2)):
        put(root, "usr/bin/replaced", f"version {version}\n" * 100, 0o755)
        put(root, "usr/bin/setuid", f"su {version}\n", 0o4755, owner=(0, 33))
        put(root, "usr/bin/same", "unchanged\n", 0o755)
        put(root, "usr/bin/mode", "mode changes only\n", 0o600 if version == 1 else 0o2755, owner=(version, version))
        put(root, "usr/bin/tagged", "attributes change\n", xattrs={f"user.v{version}": b"\0value", "user.both": b"1"})
        capable = put(root, "usr/bin/capable", f"capable {version}\n", 0o755)
        capability = "cap_net_raw+ep" if version == 1 else "cap_net_bind_service+ep"
        subprocess.run(["setcap", capability, str(capable)], check=True)
        put(root, "usr/lib/big", os.urandom(3 * 1024 * 1024 + 17) if version == 1 else bytes(range(256)) * 40000)
        with open(put(root, "usr/lib/sparse"), "r+b") as f:
            f.truncate(8 << 20)
            f.seek(5 << 20)
            f.write(f"island {version}".encode())
        put(root, "usr/lib/empty", "" if version == 2 else "full\n")
        put(root, "usr/lib/l\u00e4ngenname mit blank\n und zeile", f"{version}\n")
        put(root, b"usr/lib/junk-\xff\xfe".decode(errors="surrogateescape"), f"{version}\n")
        put(root, "usr/lib/link-a", f"several names {version}\n")
        os.link(root / "usr/lib/link-a", root / "usr/lib/link-b")
        (root / "usr/lib/current").symlink_to(f"v{version}")
        os.lchown(root / "usr/lib/current", version, 0)
        acl = put(root, "etc/acl", f"acl {version}\n")
        subprocess.run(["setfacl", "-m", f"u:{version}:rw", str(acl)], check=True)
        (root / "etc/defaults").mkdir(mode=0o750)
        subprocess.run(["setfacl", "-d", "-m", f"u:{version}:rwx", str(root / "etc/defaults")], check=True)
        put(root, "etc/defaults/f", f"{version}\n")
        os.mknod(root / "etc/null", 0o666 | stat.S_IFCHR, os.makedev(1, 3 if version == 1 else 5))
    put(old, "usr/share/gone/deep/er", "goes with its directories\n")
    put(old, "usr/share/gone/too", "goes\n")
    put(old, "usr/share/single", "goes\n")
    put(old, "usr/share/file-to-link", "a file\n")
    put(old, "usr/share/file-to-dir", "a file\n")
    (old / "usr/share/link-to-file").symlink_to("nowhere")
    (new / "usr/share").mkdir(parents=True)
    (new / "usr/share/file-to-link").symlink_to("elsewhere")
    put(new, "usr/share/file-to-dir/inside/deep", "now below a directory\n", 0o640, owner=(5, 6))
    put(new, "usr/share/link-to-file", "now a file\n")
    put(old, "usr/share/dir-to-link/with/content", "goes with it\n")
    put(old, "usr/share/dir-to-file/one", "goes with it\n")
    put(old, "usr/share/dir-to-file/two", "goes with it\n")
    put(new, "usr/share/dir-to-file", "now a file\n")
    (new / "usr/share/dir-to-link").symlink_to("was-a-directory")
    put(new, "usr/share/made/a", "made\n")
    put(new, "usr/share/made/sub/b", "made\n" * 10000, 0o4711, owner=(3, 4))
    os.link(new / "usr/share/made/a", new / "usr/share/made/sub/a-again")
    os.link(new / "usr/share/made/a", new / "usr/share/a-outside")
    (new / "usr/share/made/sub/dangling").symlink_to("/no/where")
    os.mkfifo(new / "usr/share/made/fifo", 0o620)
    (new / "usr/share/made").chmod(0o2775)
    set_times(old, OLD_TIME)
    set_times(new, NEW_TIME)
    set_time(new / "usr/bin/same", OLD_TIME)
    return old, new


def copy_tree(source, target):
    subprocess.run(["cp", "-a", f"{source}/.", str(target)], check=True)
    set_time(target, os.stat(source).st_mtime_ns)


def release(lab, *options, old=None, **more):
    """A release of the lab's new tree, made when a package would be: later than what it replaces."""
    set_times(lab.new, NEW_TIME)
    return lab.release(lab.new, *options, old=old, **more)


@pytest.fixture
def lab(tmp_path):
    """A root to upgrade, and where a test puts the new and the old tree of its release. For modules to import."""
    made = Lab(tmp_path / "lab")
    made.new, made.old = tmp_path / "new", tmp_path / "old"
    return made
