"""Who still runs old code: `moult-agent stale` after upgrades and rollbacks of a tree, without a VM."""

import contextlib
import json
import mmap
import os
import pathlib
import shutil
import subprocess
import sys

import pytest

from engine_lab import NOT_FOUND, Lab, mounted, put, tmpfs

# What each way of holding a file does before it says so and waits for the end of its input.
HOLD = {
    "map": "import mmap\nwith open(path, 'rb') as f:\n  m = mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ)",
    "open": "f = open(path, 'rb')",
    "none": "pass",
}


@contextlib.contextmanager
def holder(path, how, wrap=()):
    """A process that holds `path`: yields its Popen once it does."""
    code = f"import sys\npath = sys.argv[1]\n{HOLD[how]}\nprint('holds', flush=True)\nsys.stdin.read()"
    with subprocess.Popen([*wrap, sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                          text=True) as p:
        assert p.stdout.readline() == "holds\n"
        try:
            yield p
        finally:
            p.stdin.close()
            p.wait()


class Stale:
    """One upgrade from version 1 to 2 of a library and a program, and looks at it."""

    def __init__(self, lab):
        self.lab = lab
        for version in ("1", "2"):
            tree = lab.dir / f"v{version}"
            put(tree, "usr/lib/libx.so", f"library {version} ".encode() * 400)
            put(tree, "usr/lib/liby.so", f"other {version} ".encode() * 400)
            put(tree, "usr/bin/same", b"the same " * 400, mode=0o755)
        shutil.copytree(lab.dir / "v1", lab.root, dirs_exist_ok=True)
        self.pack = lab.release(lab.dir / "v2", old=lab.dir / "v1", version="2")

    def upgrade(self):
        self.lab.apply(self.pack)

    def look(self):
        return json.loads(self.lab.agent("stale", *self.lab.where, "--json", check=0).out)

    def files(self, report=None):
        return {p["pid"]: p["files"] for p in (report or self.look())["processes"]}


@pytest.fixture
def stale(tmp_path):
    return Stale(Lab(tmp_path / "lab"))


@pytest.mark.parametrize("how", ["map", "open"])
def test_a_process_with_an_old_file_is_named_until_it_ends(stale, how):
    with holder(stale.lab.root / "usr/lib/libx.so", how) as p, holder(stale.lab.root / "usr/bin/same", how) as other:
        assert stale.lab.agent("stale", *stale.lab.where).code == NOT_FOUND     # nothing was committed yet
        stale.upgrade()
        report = stale.look()
        assert stale.files(report).get(p.pid) == ["/usr/lib/libx.so"]
        assert other.pid not in stale.files(report)
        assert report["release"] == "test 2" and report["generation"] == 1
        assert report["looked_at"] >= 2 and report["processes_total"] == len(report["processes"])
        command = next(x["command"] for x in report["processes"] if x["pid"] == p.pid)
        assert command == sys.executable        # and none of its arguments
        words = stale.lab.agent("stale", *stale.lab.where, check=0).out
        assert f"{p.pid}  {sys.executable}" in words and "/usr/lib/libx.so" in words
    with holder(stale.lab.root / "usr/lib/libx.so", how) as fresh:
        assert not {p.pid, fresh.pid} & set(stale.files())


def test_a_program_that_runs_is_named_by_its_old_path(stale):
    """An executable of two versions: by /proc/PID/exe and its mappings."""
    lab = stale.lab
    for root, tail in ((lab.root, b""), (lab.dir / "v1", b""), (lab.dir / "v2", b"2")):
        put(root, "usr/bin/waits", pathlib.Path(shutil.which("cat")).read_bytes() + tail, mode=0o755)
    pack = lab.release(lab.dir / "v2", old=lab.dir / "v1", version="3")
    with subprocess.Popen([lab.root / "usr/bin/waits"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as p:
        p.stdin.write(b"x")
        p.stdin.flush()
        assert p.stdout.read(1) == b"x"     # it is past exec
        lab.apply(pack)
        assert stale.files().get(p.pid) == ["/usr/bin/waits"]
        p.stdin.close()
    assert p.pid not in stale.files()


def test_old_code_is_still_old_when_its_way_back_is_gone(stale):
    """The old object is deleted by then: the kernel calls it by its name among the ways back."""
    lab = stale.lab
    with holder(lab.root / "usr/lib/libx.so", "map") as p:
        stale.upgrade()
        for version in "34567":
            put(lab.dir / "v2", "usr/lib/liby.so", f"other {version}".encode())
            lab.apply(lab.release(lab.dir / "v2", version=version))
        assert not (lab.root / ".moult/1").exists()
        assert stale.files().get(p.pid) == ["/usr/lib/libx.so"]


def test_after_a_rollback_those_with_the_new_files_are_named(stale):
    lab = stale.lab
    stale.upgrade()
    put(lab.dir / "v2", "usr/lib/libx.so", b"library 3")
    lab.apply(lab.release(lab.dir / "v2", version="3"))
    with holder(lab.root / "usr/lib/libx.so", "map") as third:
        lab.rollback()
        with holder(lab.root / "usr/lib/libx.so", "map") as second:
            files = stale.files()
            assert files.get(third.pid) == ["/usr/lib/libx.so"]
            assert second.pid not in files


def test_what_somebody_else_replaced_is_named_too(stale):
    lab = stale.lab
    stale.upgrade()
    with holder(lab.root / "usr/lib/libx.so", "map") as p:
        assert p.pid not in stale.files()
        put(lab.root, "usr/lib/libx.so.new", b"by hand")
        os.rename(lab.root / "usr/lib/libx.so.new", lab.root / "usr/lib/libx.so")
        assert stale.files().get(p.pid) == ["/usr/lib/libx.so"]
        os.unlink(lab.root / "usr/lib/libx.so")
        assert stale.files().get(p.pid) == ["/usr/lib/libx.so"]


def test_a_path_by_way_of_links_is_the_same_path(stale):
    lab = stale.lab
    os.symlink("usr/lib", lab.root / "lib")
    put(lab.dir / "linked", "lib/libx.so", b"library by way of /lib")
    with holder(lab.root / "lib/libx.so", "map") as p:
        lab.apply(lab.release(lab.dir / "linked", version="9"))
        assert stale.files().get(p.pid) in (["/usr/lib/libx.so"], ["/lib/libx.so"])


def test_names_that_would_mislead_are_escaped(stale):
    lab = stale.lab
    name = "usr/lib/new\nline \x1b[31m (deleted)"
    put(lab.root, name, b"old")
    put(lab.dir / "odd", name, b"new")
    with holder(lab.root / name, "map") as p:
        lab.apply(lab.release(lab.dir / "odd", version="9"))
        assert stale.files().get(p.pid) == ["/" + name] or p.pid in stale.files()
        words = stale.lab.agent("stale", *stale.lab.where, check=0).out
        assert "\x1b" not in words and "\nline" not in words and str(p.pid) in words


@pytest.mark.parametrize("fstype", ["btrfs", "xfs", "tmpfs"])
def test_file_systems_that_number_their_files_in_other_ways(tmp_path, fstype):
    if fstype == "xfs" and not shutil.which("mkfs.xfs"):
        pytest.skip("no mkfs.xfs")
    place = tmpfs(tmp_path / "fs", "size=64m") if fstype == "tmpfs" else mounted(tmp_path / "fs", fstype, 320)
    with place as point:
        stale = Stale(Lab(tmp_path / "lab", root=point / "root"))
        with holder(stale.lab.root / "usr/lib/libx.so", "map") as p, holder(stale.lab.root / "usr/bin/same", "map") as q:
            stale.upgrade()
            with holder(stale.lab.root / "usr/lib/libx.so", "map") as fresh:
                files = stale.files()
                assert files.get(p.pid) == ["/usr/lib/libx.so"]
                assert not {q.pid, fresh.pid} & set(files)


def test_processes_that_come_and_go_meanwhile_are_no_error(stale):
    stale.upgrade()
    before = stale.look()["incomplete"]     # a machine may have processes that nobody may look at
    churn = subprocess.Popen(["sh", "-c", "while :; do /bin/true; done"])
    try:
        for _ in range(20):
            assert stale.look()["incomplete"] == before
    finally:
        churn.kill()
        churn.wait()


def overlay(point, layer, original, tag):
    subprocess.run(["mount", "-t", "overlay", tag, "-o",
                    f"lowerdir={layer}:{original},index=off,metacopy=off,redirect_dir=nofollow,xino=off", str(point)],
                   check=True)


@pytest.fixture
def merged(tmp_path):
    """A tree that is merged as docs/target-file-system.md says: usr/lib of the second version over the first."""
    with tmpfs(tmp_path / "fs", "size=64m") as point:
        stale = Stale(Lab(tmp_path / "lab", root=point / "root"))
        with tmpfs(stale.lab.root / "usr/lib") as lib:
            for name in ("libx.so", "liby.so"):
                shutil.copy(stale.lab.dir / "v1/usr/lib" / name, lib)
            stale.upgrade()
            stale.original = tmp_path / "original"
            stale.original.mkdir()
            subprocess.run(["mount", "--bind", str(lib), str(stale.original)], check=True)
            try:
                yield stale
            finally:
                subprocess.run(["umount", "-l", str(stale.original)], check=False)


def layer(stale, name, content):
    put(stale.lab.dir / name, "libx.so", content)
    return stale.lab.dir / name


def test_a_file_that_a_merge_covers_is_named(merged):
    lib = merged.lab.root / "usr/lib"
    with holder(lib / "libx.so", "map") as p, holder(lib / "liby.so", "open") as untouched:
        overlay(lib, layer(merged, "one", b"merged 1" * 600), merged.original, "moult-overlay-1")
        try:
            with holder(lib / "libx.so", "map") as fresh:
                files = merged.files()
                assert files.get(p.pid) == ["/usr/lib/libx.so"]
                assert fresh.pid not in files
            assert "/usr/lib/libx.so" not in files.get(untouched.pid, [])
        finally:
            subprocess.run(["umount", "-l", str(lib)], check=True)


def test_a_file_of_a_merge_that_was_taken_off_is_named(merged):
    """The kernel then calls it by a name that is relative to the mount that nobody sees any more."""
    lib = merged.lab.root / "usr/lib"
    overlay(lib, layer(merged, "one", b"merged 1" * 600), merged.original, "moult-overlay-1")
    with holder(lib / "libx.so", "map") as mapped, holder(lib / "libx.so", "open") as opened:
        subprocess.run(["umount", "-l", str(lib)], check=True)
        overlay(lib, layer(merged, "two", b"merged 2" * 600), merged.original, "moult-overlay-2")
        try:
            files = merged.files()
            assert files.get(mapped.pid) == ["/usr/lib/libx.so"]
            assert files.get(opened.pid) == ["/usr/lib/libx.so"]
        finally:
            subprocess.run(["umount", "-l", str(lib)], check=True)


def test_a_mount_namespace_that_did_not_follow_is_named(merged):
    lib = merged.lab.root / "usr/lib"
    private = ("unshare", "--mount", "--propagation", "private")
    follows = ("unshare", "--mount", "--propagation", "slave")
    subprocess.run(["mount", "--make-shared", str(lib)], check=True)
    with holder(lib / "libx.so", "map", private) as p, holder(lib / "libx.so", "none", follows) as q:
        overlay(lib, layer(merged, "one", b"merged 1" * 600), merged.original, "moult-overlay-1")
        try:
            with holder(lib / "libx.so", "map", private) as later:
                report = merged.look()
                behind = {n["pid"]: n["mounts"] for n in report["namespaces"]}
                assert behind.get(p.pid) == [str(lib)]
                assert not {q.pid, later.pid} & set(behind)
                files = merged.files(report)
                assert files.get(p.pid) == ["/usr/lib/libx.so"]
                assert not {q.pid, later.pid} & set(files)
        finally:
            subprocess.run(["umount", "-l", str(lib)], check=True)


def test_the_same_names_in_another_root_are_another_tree(stale, tmp_path):
    """A chroot in a mount namespace of its own, as a container has: its files are its own affair."""
    stale.upgrade()
    other = tmp_path / "container"
    with tmpfs(other / "r", "size=16m") as root:
        inside = root / str(stale.lab.root)[1:]
        put(inside, "usr/lib/libx.so", b"a container's own")
        busybox = shutil.which("busybox")
        if not busybox:
            pytest.skip("no busybox")
        shutil.copy(busybox, root / "busybox")
        with subprocess.Popen(["unshare", "--mount", "chroot", str(root), "/busybox", "sh", "-c",
                               f"exec 5<{stale.lab.root}/usr/lib/libx.so; echo holds; read x"],
                              stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as p:
            assert p.stdout.readline() == "holds\n"
            assert p.pid not in stale.files()
            p.stdin.close()


def test_many_processes_are_counted_beyond_what_is_named(stale):
    with contextlib.ExitStack() as stack:
        path = stale.lab.root / "usr/lib/libx.so"
        with open(path, "rb") as f, mmap.mmap(f.fileno(), 0, prot=mmap.PROT_READ):
            read_end, write_end = os.pipe()
            pids = []
            for _ in range(300):
                pid = os.fork()
                if pid == 0:
                    os.close(write_end)
                    os.read(read_end, 1)
                    os._exit(0)
                pids.append(pid)
            stack.callback(lambda: [os.waitpid(pid, 0) for pid in pids])
            stack.callback(os.close, write_end)
            os.close(read_end)
            stale.upgrade()
            report = stale.look()
            assert report["processes_total"] >= 301
            assert 100 < len(report["processes"]) <= 256
            assert "more processes" in stale.lab.agent("stale", *stale.lab.where, check=0).out
