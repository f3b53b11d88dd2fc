"""Files that cannot be written: one transaction over writable places and merged ones, on real read-only file systems.

The measure of "merged right" is the engine itself: the tree that is seen is the one that the same release gives where everything
can be written."""

import contextlib
import ctypes
import json
import os
import pathlib
import shutil
import stat
import subprocess
import threading

import pytest

from engine_lab import (NEW_TIME, OK, OLD_TIME, REFUSED, ROLLED_BACK, Lab, copy_tree, difference, every_kind, put, set_times, snapshot)

KINDS = ["squashfs", "erofs", "ext4-ro", "bind-ro"]


@pytest.fixture(scope="module", autouse=True)
def own_mounts():
    """What is mounted here is seen by nobody else, and goes with the last process."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0, os.strerror(ctypes.get_errno())
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


@contextlib.contextmanager
def read_only(kind, source, point, directory):
    """The tree `source`, read-only, at `point`."""
    directory = pathlib.Path(directory)
    image = directory / f"{kind}.image"
    point.mkdir(parents=True, exist_ok=True)
    if kind == "squashfs":
        subprocess.run(["mksquashfs", str(source), str(image), "-quiet", "-no-progress", "-noappend"], check=True, capture_output=True)
        how = ["-t", "squashfs", "-o", "loop,ro", str(image)]
    elif kind == "erofs":
        subprocess.run(["mkfs.erofs", "-E", "force-inode-extended", str(image), str(source)], check=True, capture_output=True)
        how = ["-t", "erofs", "-o", "loop,ro", str(image)]
    elif kind == "ext4-ro":
        with open(image, "wb") as f:
            f.truncate(64 << 20)
        subprocess.run(["mkfs.ext4", "-q", str(image)], check=True)
        subprocess.run(["mount", "-o", "loop", str(image), str(point)], check=True)
        copy_tree(source, point)
        shutil.rmtree(point / "lost+found")
        os.utime(point, ns=(os.stat(source).st_mtime_ns,) * 2)
        subprocess.run(["umount", str(point)], check=True)
        how = ["-o", "loop,ro", str(image)]
    else:
        subprocess.run(["mount", "--bind", str(source), str(point)], check=True)
        how = ["-o", "remount,bind,ro"]
    subprocess.run(["mount", *how, str(point)], check=True)
    try:
        yield
    finally:
        subprocess.run(["umount", "-R", "-l", str(point)], check=False)


class Machine:
    """A root whose /usr is read-only, with the old tree; and what the same release makes of a writable copy."""

    def __init__(self, directory, kind, stack):
        self.dir = pathlib.Path(directory)
        self.old, self.new = every_kind(self.dir)
        self.writable = Lab(self.dir / "writable")
        copy_tree(self.old, self.writable.root)
        self.lab = Lab(self.dir / "lab")
        shutil.copy(self.dir / "writable/release.pub", self.lab.trust / "writable.pub")
        self.lab.root.mkdir(exist_ok=True)
        shutil.copytree(self.old / "etc", self.lab.root / "etc", symlinks=True, ignore=lambda *_: ["null"])
        subprocess.run(["cp", "-a", str(self.old / "etc"), str(self.lab.root)], check=True)
        stack.enter_context(read_only(kind, self.old / "usr", self.lab.root / "usr", self.dir))
        # On some formats of file system the root's time is the image's.
        self.pack = self.writable.release(self.new, old=self.old)
        self.before = self.seen()

    def seen(self, root=None):
        return comparable(snapshot(root or self.lab.root))

    def mounts(self):
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            return [w for w in map(str.split, f) if w[4].startswith(f"{self.lab.root}/")]


def comparable(tree):
    """Without what a merge cannot, or need not, keep: the times of directories that something was changed in, how many names a file has
    elsewhere, and (squashfs) parts of a second."""
    result = {}
    for path, (mode, uid, gid, size, mtime, xattrs, content, link) in tree.items():
        xattrs = tuple(x for x in xattrs if not x[0].startswith(("trusted.overlay", "security.selinux")))
        result[path] = (mode, uid, gid, size, 0 if mode.startswith("d") else mtime // 1_000_000_000, xattrs, content)
    return result


def assert_same(wanted, now):
    """Names that are not UTF-8 must not break the report."""
    what = difference(wanted, now).encode(errors="backslashreplace").decode()
    assert not what, what


@pytest.fixture(params=KINDS)
def machine(request, tmp_path):
    with contextlib.ExitStack() as stack:
        yield Machine(tmp_path, request.param, stack)


def test_what_is_seen_is_what_a_writable_machine_gets(machine):
    machine.writable.apply(machine.pack)
    wanted = machine.seen(machine.writable.root)
    said = machine.lab.apply(machine.pack)
    now = machine.seen()
    assert_same(wanted, now)
    assert "changed" in said.out
    # Again: everything is equal, nothing is mounted anew.
    mounts = machine.mounts()
    again = machine.lab.apply(machine.pack)
    assert "0 changed" in again.out, again
    assert machine.mounts() == mounts
    machine.lab.rollback()
    assert_same(machine.before, machine.seen())
    assert not [m for m in machine.mounts() if any(w.startswith("moult-") for w in m)]


def test_it_is_there_again_when_the_machine_starts(machine):
    machine.lab.apply(machine.pack)
    wanted = machine.seen()
    while any(w.startswith("moult-") for m in machine.mounts() for w in m):
        subprocess.run(["umount", "-l", str(machine.lab.root / "usr")], check=True)
    assert machine.seen() != wanted
    machine.lab.recover("--boot")
    assert_same(wanted, machine.seen())
    machine.lab.rollback()
    assert_same(machine.before, machine.seen())


@contextlib.contextmanager
def flag(path, letter):
    subprocess.run(["chattr", f"+{letter}", str(path)], check=True)
    try:
        yield
    finally:
        while subprocess.run(["umount", "-l", str(path)], check=False, capture_output=True).returncode == 0:
            pass    # what is merged over it
        subprocess.run(["chattr", f"-{letter}", str(path)], check=True)


@pytest.fixture
def lab(tmp_path):
    made = Lab(tmp_path / "lab")
    made.new = tmp_path / "new"
    yield made
    subprocess.run(["umount", "-R", "-l", str(made.state / "target/run")], check=False, capture_output=True)
    for _ in range(20):
        if subprocess.run(f"umount -l $(grep -o '{made.root}/[^ ]*' /proc/self/mountinfo)", shell=True, check=False,
                          capture_output=True).returncode:
            break


def changed_file(lab, *options, path="etc/f", content="new\n", **more):
    put(lab.new, path, content, **more)
    set_times(lab.new, NEW_TIME)
    return lab.release(lab.new, *options)


@pytest.mark.parametrize("letter", ["i", "a"])
def test_a_lone_file_is_merged_and_its_directory_stays_writable(lab, letter):
    put(lab.root, "etc/f", "old\n")
    put(lab.root, "etc/other", "other\n")
    with flag(lab.root / "etc/f", letter):
        lab.apply(changed_file(lab, mode=0o640, owner=(3, 4)))
        f = lab.root / "etc/f"
        st = f.stat()
        assert (f.read_text(), stat.S_IMODE(st.st_mode), st.st_uid, st.st_gid) == ("new\n", 0o640, 3, 4)
        put(lab.root, "etc/fresh", "still writable\n")
        (lab.root / "etc/other").rename(lab.root / "etc/moved")
        # The next ones take its place: one mount, not three.
        for n in range(2, 5):
            lab.apply(changed_file(lab, content=f"{n}\n"))
            assert f.read_text() == f"{n}\n"
        with open("/proc/self/mountinfo", encoding="utf-8") as info:
            assert sum(line.split()[4] == str(f) for line in info) == 1
        lab.rollback()
        assert f.read_text() == "3\n"
        lab.rollback()
        assert f.read_text() == "2\n"


def test_all_lone_files_go_back_to_the_original(lab):
    put(lab.root, "etc/f", "old\n")
    with flag(lab.root / "etc/f", "i"):
        lab.apply(changed_file(lab))
        lab.rollback()
        assert (lab.root / "etc/f").read_text() == "old\n"
        with open("/proc/self/mountinfo", encoding="utf-8") as info:
            assert not [line for line in info if line.split()[4] == str(lab.root / "etc/f")]


def test_overlay_delivery_merges_a_file_that_could_be_written(lab):
    put(lab.root, "etc/f", "old\n")
    inode = (lab.root / "etc/f").stat().st_ino
    said = lab.plan(changed_file(lab, "--delivery", "overlay"))
    assert "the release asks to merge it" in said.out
    lab.apply(changed_file(lab, "--delivery", "overlay"))
    assert (lab.root / "etc/f").read_text() == "new\n"
    lab.rollback()
    assert (lab.root / "etc/f").stat().st_ino == inode


def test_a_failing_health_hook_takes_both_kinds_back(machine):
    hook = put(machine.dir, "hook", "#!/bin/sh\nexit 1\n", 0o755)
    pack = machine.writable.release(machine.new, "--hook", f"health={hook}", old=machine.old)
    machine.lab.apply(pack, check=ROLLED_BACK)
    assert_same(machine.before, machine.seen())
    assert not [m for m in machine.mounts() if any(w.startswith("moult-") for w in m)]


def test_ten_releases_leave_one_mount_and_no_missing_file(machine):
    """Every file that both releases have can be opened at every moment."""
    path = machine.lab.root / "usr/bin/same"
    failed, stop = [], threading.Event()

    def read():
        while not stop.is_set():
            try:
                with open(path, "rb") as f:
                    f.read(1)
            except OSError as e:
                failed.append(e)

    machine.lab.apply(machine.pack)
    reader = threading.Thread(target=read)
    reader.start()
    try:
        for n in range(10):
            put(machine.dir / "small", "usr/bin/replaced", f"release {n}\n", 0o755)
            put(machine.dir / "small", f"usr/lib/new-{n}", f"release {n}\n")
            machine.lab.apply(machine.writable.release(machine.dir / "small"))
            assert (machine.lab.root / "usr/bin/replaced").read_text() == f"release {n}\n"
    finally:
        stop.set()
        reader.join()
    assert not failed
    assert len([m for m in machine.mounts() if any(w.startswith("moult-") for w in m)]) == 1
    # Two ways back, what they lead to, and what is seen: no more trees than that, and no object that nobody needs.
    assert len(list((machine.lab.state / "target/trees").iterdir())) <= 4


def test_a_dry_run_says_what_is_merged_and_makes_nothing(machine):
    said = machine.lab.plan(machine.pack)
    assert "merged: on " in said.out, said
    assert not (machine.lab.state / "target").exists()
    assert_same(machine.before, machine.seen())


@pytest.mark.parametrize("machine", ["squashfs"], indirect=True)
def test_a_device_that_overlayfs_takes_for_a_deletion_is_refused_before_anything_is_touched(machine):
    zero = machine.dir / "zero/usr/lib/zero"
    zero.parent.mkdir(parents=True)
    os.mknod(zero, stat.S_IFCHR | 0o600, os.makedev(0, 0))
    said = machine.lab.apply(machine.writable.release(machine.dir / "zero"), check=REFUSED)
    assert "0:0" in said.err, said
    assert_same(machine.before, machine.seen())


@pytest.mark.parametrize("machine", ["squashfs"], indirect=True)
def test_names_that_come_and_go_leave_nothing_in_the_target(machine):
    """As the versions of a shared library do. Nothing of the original is hidden by their deletion."""
    before = None
    for n in range(4):
        tree = machine.dir / f"lib-{n}"
        put(tree, f"usr/lib/lib.so.{n}", f"release {n}\n")
        machine.lab.apply(machine.writable.release(tree, old=before))
        before = tree
    assert [p.name for p in (machine.lab.root / "usr/lib").glob("lib.so.*")] == ["lib.so.3"]
    newest = max(machine.lab.state.glob("generations/*/target"), key=lambda p: int(p.parent.name))
    record = newest.read_bytes()
    assert b"lib.so.3" in record and b"lib.so.2" not in record and b"lib.so.0" not in record


def test_which_says_what_serves_a_path(machine):
    def which(path, check=OK):
        return machine.lab.agent("which", path, *machine.lab.where, check=check)
    assert ": the original, " in which("/usr/bin/same").out
    machine.lab.apply(machine.pack)
    said = which("/usr/bin/replaced").out
    assert "target file system, from test 1, generation 1, merged by overlay at /usr over " in said, said
    assert "seen through overlay at /usr" in which("/usr/bin/same").out
    assert "deleted by test 1" in which("/usr/share/single").out
    assert ": the original, " in which("/etc/acl").out
    assert which("/usr/no/such", check=None).code == 3
    said = machine.lab.agent("which", "--json", "/usr/bin/setuid", *machine.lab.where, check=OK)
    assert json.loads(said.out)["merged"] is True


def start(machine, *options):
    """The machine starts: no mount of ours is left."""
    unmerge(machine)
    return machine.lab.recover("--boot", *options)


def unmerge(machine):
    while any(w.startswith("moult-") for m in machine.mounts() for w in m):
        subprocess.run(["umount", "-l", str(machine.lab.root / "usr")], check=True)
    subprocess.run(["umount", "-R", "-l", str(machine.lab.state / "target/run")], check=False, capture_output=True)


def test_a_release_with_which_the_machine_never_gets_healthy_is_rolled_back(machine):
    machine.lab.apply(machine.pack)
    wanted = machine.seen()
    for _ in range(3):
        start(machine, "--count-boots")
        assert_same(wanted, machine.seen())
    said = start(machine, "--count-boots")
    assert "was started 3 times with it and did not get healthy" in said.err
    assert_same(machine.before, machine.seen())
    assert not [m for m in machine.mounts() if any(w.startswith("moult-") for w in m)]


def test_one_good_start_ends_the_count(machine):
    machine.lab.apply(machine.pack)
    wanted = machine.seen()
    start(machine, "--count-boots")
    machine.lab.agent("boot-ok", *machine.lab.where, check=OK)
    for _ in range(5):
        start(machine, "--count-boots")
    assert_same(wanted, machine.seen())


def test_a_start_whose_health_check_fails_rolls_back(machine):
    hook = put(machine.dir, "hook", '#!/bin/sh\ntest ! -e "$MOULT_ROOT/etc/ill"\n', 0o755)
    machine.lab.apply(machine.writable.release(machine.new, "--hook", f"health={hook}", old=machine.old))
    put(machine.lab.root, "etc/ill", "")
    start(machine, "--count-boots")
    machine.lab.agent("boot-ok", *machine.lab.where, check=ROLLED_BACK)
    (machine.lab.root / "etc/ill").unlink()
    assert_same(machine.before, machine.seen())


def test_a_start_with_a_damaged_store_falls_back_to_the_release_before(machine):
    machine.lab.apply(machine.pack)
    first = machine.seen()
    put(machine.dir / "small", "usr/bin/replaced", "second\n", 0o755)
    machine.lab.apply(machine.writable.release(machine.dir / "small", version="2"))
    newest = max((machine.lab.state / "target/trees").iterdir(), key=lambda p: p.stat().st_ctime_ns)
    unmerge(machine)
    shutil.rmtree(newest)
    for o in (machine.lab.state / "target/objects").rglob("*"):
        if o.is_file() and o.read_bytes() == b"second\n":
            o.unlink()
    said = machine.lab.recover("--boot")
    assert "rolled back at the start of the machine" in said.err, said
    assert_same(first, machine.seen())


def test_a_damaged_object_is_found_and_fetched_again(machine):
    machine.lab.apply(machine.pack)
    wanted = machine.seen()
    path = machine.lab.root / "usr/bin/replaced"
    damaged = [o for o in (machine.lab.state / "target/objects").rglob("*") if o.is_file() and o.read_bytes() == path.read_bytes()]
    with open(damaged[0], "r+b") as f:
        f.write(b"X")
    os.utime(damaged[0], ns=(NEW_TIME, NEW_TIME))
    with open("/proc/sys/vm/drop_caches", "w", encoding="ascii") as f:
        f.write("2")
    said = machine.lab.plan(machine.pack)
    assert "its object in the store is damaged" in said.out, said
    machine.lab.apply(machine.pack)
    assert_same(wanted, machine.seen())


@pytest.mark.parametrize("machine", ["squashfs"], indirect=True)
def test_objects_are_read_once_at_each_start_and_not_by_who_has_just_written_them(machine):
    def read_by(action):
        trace = machine.dir / "trace"
        trace.unlink(missing_ok=True)
        action(environment={"MOULT_FAULT_TRACE": str(trace)})
        return trace.read_text().split().count("object-read")
    n = len({f.stat().st_ino for f in (machine.new / "usr").rglob("*") if f.is_file() and not f.is_symlink()})
    assert read_by(lambda **more: machine.lab.apply(machine.pack, **more)) == 0
    unmerge(machine)
    objects = sum(o.is_file() for o in (machine.lab.state / "target/objects").rglob("*"))
    assert 10 < objects <= n
    assert read_by(lambda **more: machine.lab.recover("--boot", **more)) == objects
    # Another transaction over the same objects reads them again: nobody knows what became of them.
    put(machine.dir / "small", "usr/bin/replaced", "second\n", 0o755)
    assert read_by(lambda **more: machine.lab.apply(machine.writable.release(machine.dir / "small", version="2"), **more)) == objects - 1
