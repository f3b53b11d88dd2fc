"""A machine with a /usr that cannot be written, for tests of the engine: no virtual machine, but mounts of the test's own."""

import ctypes
import os
import shutil
import subprocess

import pytest

from engine_lab import NEW_TIME, OLD_TIME, Lab, copy_tree, put, set_times


@pytest.fixture(scope="module", autouse=True)
def own_mounts():
    """What is mounted here is seen by nobody else, and goes with the last process."""
    libc = ctypes.CDLL(None, use_errno=True)
    assert libc.unshare(0x00020000) == 0, os.strerror(ctypes.get_errno())
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)


class Machine(Lab):
    """A root whose /usr cannot be written."""

    def __init__(self, directory):
        super().__init__(directory / "lab")
        self.new, self.old, self.original = directory / "new", directory / "old", directory / "usr"
        for root, version in ((self.old, 1), (self.new, 2)):
            for top in ("etc", "usr"):
                put(root, f"{top}/f", f"{version}\n")
                (root / top / "l").symlink_to(f"v{version}")
        put(self.old, "usr/gone/x", "x\n")
        put(self.new, "usr/comes/x", "x\n")
        set_times(self.old, OLD_TIME)
        set_times(self.new, NEW_TIME)
        copy_tree(self.old / "usr", self.original)
        copy_tree(self.old, self.root)
        shutil.rmtree(self.root / "usr")
        (self.root / "usr").mkdir()
        self.usr = self.root / "usr"
        self.mount_usr()
        self.before = self.seen()

    def mount_usr(self):
        subprocess.run(["mount", "--bind", str(self.original), str(self.usr)], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", str(self.usr)], check=True)

    def unmount(self):
        """As when the machine goes down."""
        for place in (self.usr, self.state / "target/run"):
            while subprocess.run(["umount", "-R", "-l", str(place)], check=False, capture_output=True).returncode == 0:
                pass

    def pack(self, *options, version="2"):
        set_times(self.new, NEW_TIME)
        return self.release(self.new, *options, old=self.old, version=version)

    def seen(self):
        """Without the times of directories and the number of names, which are not promised of what is merged."""
        return {p: v[:4] + (0,) * v[0].startswith("d") + v[4 + v[0].startswith("d"):-1] for p, v in self.tree().items()}

    def merges(self):
        """Known by the tag that is their source: "moult-" is also in the names of directories that tests run in."""
        with open("/proc/self/mountinfo", encoding="utf-8") as f:
            return [line for line in f if f" {self.root}/" in line and line.split(" - ")[1].split()[1].startswith("moult-")]

    def assert_untouched(self):
        assert self.seen() == self.before
        assert not self.merges()
        self.assert_clean()
        left = [p for p in (self.state / "target/incoming").glob("*") if p.exists()]
        assert not left, f"left behind: {left}"


@pytest.fixture
def machine(tmp_path):
    made = Machine(tmp_path)
    yield made
    made.unmount()
