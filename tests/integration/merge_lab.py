"""A bench for merges, without an agent and without a VM: a root with files that cannot be written, in mounts of a test's own."""

import contextlib
import ctypes
import functools
import os
import pathlib
import select
import subprocess
import sys
import time
import traceback

import pytest
from engine_lab import BUILD, snapshot

TOOL, TARGETFS = BUILD / "tests/merge_tool", BUILD / "fuse-overlay/targetfs/moult-targetfs"
SECOND = 1_000_000_000
OLD_TIME, NEW_TIME = 1_600_000_000 * SECOND, 1_700_000_000 * SECOND

CLONE_NEWNS = 0x00020000
MS_REC, MS_PRIVATE, MS_SHARED = 0x4000, 1 << 18, 1 << 20
PR_SET_PDEATHSIG, SIGKILL = 1, 9
libc = ctypes.CDLL(None, use_errno=True)

# As on kernels without MOVE_MOUNT_BENEATH: each call that asks for it is told no.
WAYS = {"beneath": "", "propagation": "mount-beneath:*=skip"}


def checked(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def own_mounts():
    checked(libc.unshare(CLONE_NEWNS))
    checked(libc.mount(None, b"/", None, MS_REC | MS_PRIVATE, None))


def unmount_all():
    """A server of a union lives in the namespace, and would keep it, and itself, for as long as it is mounted."""
    table = [line.split() for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines()]
    inherited = set(pathlib.Path(f"/proc/{os.getppid()}/mountinfo").read_text().split("\n"))
    points = {line.split()[4] for line in inherited if line}
    for mount in reversed(table):
        if mount[4] not in points:
            libc.umount2(os.fsencode(mount[4]), 2)


def in_own_mounts(test):
    """The test runs in a child with a mount namespace of its own: whatever it leaves behind goes with it."""

    @functools.wraps(test)
    def wrapper(*args, **kwargs):
        if os.geteuid() != 0:
            pytest.skip("needs root: mounts")
        sys.stdout.flush()
        sys.stderr.flush()
        reading, writing = os.pipe()
        child = os.fork()
        if child == 0:
            verdict = "failed:"
            try:
                os.close(reading)
                own_mounts()
                test(*args, **kwargs)
                verdict = "passed:"
            except pytest.skip.Exception as e:
                verdict = f"skipped:{e}"
            except BaseException:       # also what pytest raises for a failed assertion
                verdict = "failed:" + traceback.format_exc()
            finally:
                unmount_all()
                with os.fdopen(writing, "w") as f:
                    f.write(verdict)
                os._exit(0)
        os.close(writing)
        with os.fdopen(reading) as f:
            verdict, _, text = f.read().partition(":")
        os.waitpid(child, 0)
        if verdict == "skipped":
            pytest.skip(text)
        assert verdict == "passed", text or "the test's process died"

    return wrapper


def run(*words, **options):
    return subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True, **options).stdout


def put(root, path, data="", mode=0o644, owner=(0, 0), xattrs=None, time=NEW_TIME):
    full = pathlib.Path(root) / path
    full.parent.mkdir(parents=True, exist_ok=True)
    full.write_bytes(data.encode() if isinstance(data, str) else data)
    os.chown(full, *owner)
    full.chmod(mode)
    for name, value in (xattrs or {}).items():
        os.setxattr(full, name, value)
    os.utime(full, ns=(time, time))
    return full


def all_times(root, time):
    for directory, directories, files in os.walk(root, topdown=False):
        for name in files + directories:
            os.utime(os.path.join(directory, name), ns=(time, time), follow_symlinks=False)
    os.utime(root, ns=(time, time))


def mounts(below):
    """(point, root, type, source, options, shared) of each mount below a folder, in the table's order."""
    result = []
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        f = line.split()
        dash = f.index("-", 6)
        if f[4] == str(below) or f[4].startswith(f"{below}/"):
            shared = any(x.startswith("shared:") for x in f[6:dash])
            result.append((f[4], f[3], f[dash + 1], f[dash + 2], f[5], shared))
    return result


class MergeLab:
    """DIR/root (usr is read-only), DIR/state on a disk of its own with nosuid,nodev,noexec, DIR/run."""

    def __init__(self, directory, shared=False, state_options="nosuid,nodev,noexec"):
        self.dir = pathlib.Path(directory)
        run("mount", "-t", "tmpfs", "lab", self.dir)
        self.root, self.state, self.run = self.dir / "root", self.dir / "state", self.dir / "run"
        self.usr = self.root / "usr"
        for d in (self.root, self.state, self.usr, self.dir / "source"):
            d.mkdir()
        self.disk("state", "48M", self.state, state_options)
        self.environment = {"MERGE_TOOL_TARGETFS": str(TARGETFS)}
        if shared:
            checked(libc.mount(None, os.fsencode(self.dir), None, MS_SHARED, None))
        self.releases = 0

    def disk(self, name, size, place, options="rw", source=None):
        """An ext4 file system in a file; all its inodes have room for attributes."""
        image = self.dir / f"{name}.ext4"
        run("truncate", "-s", size, image)
        # The top directory is as old as the file system: alike in two that are compared, whenever they are made.
        run("env", "E2FSPROGS_FAKE_TIME=1700000000", "mkfs.ext4", "-q", "-F", "-I", "256", *(["-d", source] if source else []), image)
        if place is not None:
            run("mount", "-o", f"loop,{options}", image, place)
        return image

    def mount_usr(self, kind, source, options=""):
        """What cannot be written, made of a folder."""
        more = f",{options}" if options else ""
        if kind == "squashfs":
            run("mksquashfs", source, self.dir / "usr.img", "-quiet", "-no-progress", "-noappend")
        elif kind == "erofs":
            run("mkfs.erofs", self.dir / "usr.img", source)
        elif kind == "ext4":
            self.disk("usr", "24M", None, source=source)
            (self.dir / "usr.ext4").rename(self.dir / "usr.img")
        if kind == "bind":
            run("mount", "--bind", source, self.usr)
            run("mount", "-o", f"remount,bind,ro{more}", self.usr)
        else:
            run("mount", "-o", f"loop,ro{more}", self.dir / "usr.img", self.usr)

    def release(self, files):
        """A folder with new versions: {path: content or function(full path)}."""
        self.releases += 1
        folder = self.dir / f"release-{self.releases}"
        folder.mkdir()
        for path, what in files.items():
            full = folder / path
            full.parent.mkdir(parents=True, exist_ok=True)
            if callable(what):
                what(full)
            else:
                put(folder, path, what)
        return folder

    def tool(self, *words, fault="", **environment):
        faults = ",".join(x for x in (self.environment.get("MOULT_FAULT", ""), fault) if x)
        e = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0", **self.environment, **environment}
        e.pop("MOULT_FAULT", None)
        if faults:
            e["MOULT_FAULT"] = faults
        return subprocess.run([str(w) for w in (TOOL, *words)], capture_output=True, text=True, env=e)

    def try_apply(self, release=None, merges=(), gone=(), directories=(), method="auto", **options):
        words = [f"new={release}"] if release else []
        words += [f"dir={d}" for d in directories] + [f"gone={g}" for g in gone] + list(merges)
        return self.tool("apply", self.root, self.state, self.run, method, *words, **options)

    def apply(self, *args, **kwargs):
        r = self.try_apply(*args, **kwargs)
        assert r.returncode == 0, r.stdout + r.stderr
        return r.stdout

    def refuse(self, *args, **kwargs):
        """Applies, expects a refusal, and that nothing has changed. Returns the text."""
        before = mounts(self.root)
        r = self.try_apply(*args, **kwargs)
        assert r.returncode == 1, r.stdout + r.stderr
        assert mounts(self.root) == before
        return r.stderr

    def status(self):
        r = self.tool("status", self.root, self.state, self.run)
        assert r.returncode == 0, r.stderr
        return {line.split()[0]: tuple(line.split()[1:]) for line in r.stdout.splitlines()}

    def originals(self):
        folder = self.run / "originals"
        return sorted(os.listdir(folder)) if folder.exists() else []

    def objects(self):
        return sorted(p for p in (self.state / "target/objects").glob("*/*") if p.is_file())

    def servers(self):
        """Processes that serve a union of this lab."""
        found = []
        for p in pathlib.Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                words = (p / "cmdline").read_bytes().split(b"\0")
                if os.fsencode(f"--root={self.root}") in words:
                    found.append(int(p.name))
        return found

    def wait_without_servers(self, timeout_s=60):
        """They end by themselves when nothing is mounted any more."""
        until = time.monotonic() + timeout_s
        while self.servers():
            assert time.monotonic() < until, f"still running: {self.servers()}"
            for pid in self.servers():
                with contextlib.suppress(OSError):
                    fd = os.pidfd_open(pid)
                    select.select([fd], [], [], 1)
                    os.close(fd)

    @contextlib.contextmanager
    def watched(self, *paths, slave=False):
        """Readers that open the files all the time. Afterwards none of them has found one missing."""

        def in_slave():
            checked(libc.prctl(PR_SET_PDEATHSIG, SIGKILL))
            if slave:
                checked(libc.unshare(CLONE_NEWNS))
                checked(libc.mount(None, b"/", None, MS_REC | 1 << 19, None))

        e = {**os.environ, "ASAN_OPTIONS": "detect_leaks=0"}
        reader = subprocess.Popen([str(TOOL), "watch", *map(str, paths)], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                  text=True, preexec_fn=in_slave, env=e)
        assert reader.stdout.readline() == "running\n"
        yield reader
        out, _ = reader.communicate()
        lines = out.splitlines()
        assert len(lines) == len(paths)
        for line in lines:
            assert line.endswith(" opens, 0 failed"), line


def everything(root):
    """What is to be seen of a tree. Numbers of names are left out: the store has names of its own for a file."""
    return {path: facts[:-1] for path, facts in snapshot(root, skip=()).items()}

