"""What the power-cut campaign upgrades, and how one of its crash states becomes a machine that has just started.

Written: everything that the releases change lies on the recorded disk. Merged: /usr is a read-only squashfs, and one file of
/etc is immutable, so each release is one transaction over exchanges and merges; the recorded disk has what is written, and
the store that the merges are made of."""

import contextlib
import ctypes
import os
import pathlib
import subprocess
import time

import tree
import versions

STATE = "var/lib/moult"
CLONE_NEWNS, MS_REC, MS_SLAVE = 0x00020000, 0x4000, 1 << 19


def run(*command, **kwargs):
    return subprocess.run([str(c) for c in command], check=True, **kwargs)


class Written:
    name = "written"
    # What the guest does, and the tree (a version) that each step leaves.
    steps = [("apply release-2", 2), ("rollback", 1), ("apply release-2", 2), ("apply release-3", 3), ("rollback", 2)]
    recover = ["recover"]
    method = "auto"

    def make_tree(self, root, version):
        versions.make(str(root), version)

    def snapshot(self, root):
        return tree.snapshot(str(root), skip=("var", "proc"))

    def seed(self, work):
        """The folder that the disk is made of: tree 1."""
        seed = work / "seed"
        run("cp", "-a", work / "tree1", seed)
        os.makedirs(seed / STATE, mode=0o700)
        os.makedirs(seed / "proc")
        return seed

    def prepare_guest(self, guest, root, work):
        """The disk is mounted at root, and recorded from here on."""

    def prepare_host(self):
        """Before the first state is judged. What is mounted here is seen by nobody else, and goes with this process. Nobody can
        copy it, either: a copy of a mount, in the mount namespace of a test beside this one, keeps the file system of its state
        alive, and the next state would be read from what the kernel still has of it. That we copy goes where it came from."""
        libc = ctypes.CDLL(None, use_errno=True)
        if libc.unshare(CLONE_NEWNS) or libc.mount(None, b"/", None, MS_REC | MS_SLAVE, None):
            raise OSError(ctypes.get_errno(), "a mount namespace of our own")

    @contextlib.contextmanager
    def mounted(self, image, root, fs, _work):
        run("mount", "-t", fs, "-o", "loop", image, root)
        try:
            yield root
        finally:
            run("umount", root)


class Merged(Written):
    name = "merged"
    pinned = "etc/app/pinned.conf"
    # "start" is what a reboot does, with its count of starts, but for the reboot: what it writes is in the record, too.
    steps = [("apply release-2", 2), ("start", 2), ("rollback", 1), ("apply release-2", 2), ("apply release-3", 3),
             ("start", 3), ("rollback", 2)]
    recover = ["recover", "--boot", "--count-boots"]

    def __init__(self, method="auto"):
        self.method = method

    def make_tree(self, root, version):
        versions.make(str(root), version)
        versions.make_program(str(root), "opt", version)
        versions.write(str(root), self.pinned, f"pinned {version}\n".encode(), mtime=1_700_000_000 + version)

    def snapshot(self, root):
        return tree.snapshot(str(root), skip=("var", "proc"), links=False)

    def seed(self, work):
        seed = super().seed(work)
        run("mksquashfs", seed / "usr", work / "usr.img", "-quiet", "-no-progress", stdout=subprocess.DEVNULL)
        run("rm", "-rf", seed / "usr")
        os.mkdir(seed / "usr")
        return seed

    def prepare_guest(self, guest, root, work):
        guest.write_file("/tmp/usr.img", (work / "usr.img").read_bytes())
        guest.exec(f"mount -t squashfs -o loop,ro /tmp/usr.img {root}/usr && chattr +i {root}/{self.pinned} && sync")

    @contextlib.contextmanager
    def mounted(self, image, root, fs, work):
        usr = work / "usr"
        if not os.path.ismount(usr):
            usr.mkdir(exist_ok=True)
            run("mount", "-t", "squashfs", "-o", "loop,ro", work / "usr.img", usr)
        run("mount", "-t", fs, "-o", "loop", image, root)
        try:
            run("mount", "--bind", usr, root / "usr")
            yield root
        finally:
            run("umount", "-R", root)
            self._wait_without_servers(root)

    @staticmethod
    def _wait_without_servers(root):
        """Of merges by union. They end by themselves, but hold the disk until then."""
        until = time.monotonic() + 60
        while any(os.fsencode(f"--root={root}") in words for words in _command_lines()):
            if time.monotonic() > until:
                raise TimeoutError(f"moult-targetfs still serves {root}, a minute after it was unmounted")
            time.sleep(0.01)                    # they are nobody's children that we could wait for


def _command_lines():
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            yield (process / "cmdline").read_bytes().split(b"\0")
