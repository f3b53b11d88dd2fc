"""A disk of this machine whose every write and flush is recorded, with file systems of the host's own on it.

There is no device-mapper in every kernel, and so no dm-log-writes. QEMU has the same as a block driver, and can show a block
device as a file: qemu-storage-daemon, `blklogwrites`, a FUSE export. Loop devices over parts of that file are the partitions.
The loop driver passes each flush of a file system on as an fsync, a FUA write as a write and a flush; the export caches nothing.

All partitions are in one record, so the order between file systems is in it as well. A flush of one is taken as one of all, as on
a disk with partitions. It hides little: what a program has not synced has mostly not been written to the device at all.
"""

import contextlib
import os
import subprocess
import time

import blklog
import vm as vms

MIB = 1 << 20
SECTOR = 512
MAKE = {"ext4": ["mke2fs", "-q", "-F", "-t", "ext4"], "xfs": ["mkfs.xfs", "-q", "-f"]}
# What nobody has synced is not written out by the way, a few seconds later: a record may take minutes on a busy machine.
OPTIONS = {"ext4": "commit=3600", "xfs": "nouuid"}
SIZES = {"ext4": {"state": 24 * MIB, "store": 24 * MIB, "vms": 64 * MIB},
         "xfs": {"state": 300 * MIB, "store": 300 * MIB, "vms": 300 * MIB}}


def run(*words, **options):
    return subprocess.run([str(w) for w in words], check=True, capture_output=True, text=True, **options).stdout


class Partitions:
    """The file systems of a disk, each at a mount point of its own: the same ones for the record and for each crash state."""

    def __init__(self, fs, points):
        """points: {partition: directory}"""
        self.fs, self.points, self.mounted = fs, points, []
        self.size = sum(SIZES[fs].values())

    def _places(self):
        at = 0
        for name, size in SIZES[self.fs].items():
            yield name, at, size
            at += size

    def make(self, image):
        """A raw image with empty file systems, and room for marks behind them."""
        with open(image, "wb") as whole:
            whole.truncate(self.size + MIB)
        for name, at, size in self._places():
            part = f"{image}.{name}"
            with open(part, "wb") as f:
                f.truncate(size)
            run(*MAKE[self.fs], part)
            blklog.copy_sparse(part, image, at)
            os.unlink(part)

    def mount(self, image):
        for name, at, size in self._places():
            options = f"loop,offset={at},sizelimit={size},{OPTIONS[self.fs]}"
            run("mount", "-t", self.fs, "-o", options, image, self.points[name])
            self.mounted.append(name)

    def unmount(self):
        while self.mounted:
            run("umount", self.points[self.mounted[-1]])
            self.mounted.pop()


class Recorder:
    """`with Recorder(image, log, place) as r`: r.device is the disk. Mounts there, as a file: wants a mount namespace of its own."""

    def __init__(self, image, log, place, spare):
        """spare: where the file systems end. The first sector there is for end(), what follows for marks."""
        self.image, self.log, self.device, self.spare = image, log, place, spare

    def __enter__(self):
        for path in (self.log, self.device):
            with open(path, "wb"):
                pass
        self.process = subprocess.Popen(
            ["qemu-storage-daemon", "--blockdev", f"driver=file,filename={self.image},node-name=file",
             "--blockdev", f"driver=file,filename={self.log},node-name=log", "--blockdev",
             "driver=blklogwrites,node-name=disk,file=file,log=log,log-sector-size=512,log-super-update-interval=1",
             "--export", f"fuse,id=export,node-name=disk,mountpoint={self.device},writable=on"],
            stdin=subprocess.DEVNULL, preexec_fn=vms._die_with_parent)
        deadline = vms.Deadline(60, "the recorded disk")
        while os.stat(self.device).st_size == 0:
            assert self.process.poll() is None, "qemu-storage-daemon has ended"
            deadline.left()
            time.sleep(0.02)  # nobody announces a mount
        return self

    def mark(self, number):
        """An acknowledgement, which lies in the record after all that was written before. It flushes nothing."""
        self._write(number, self.spare + SECTOR)

    def end(self):
        """A flush point of nobody's, for what was acknowledged last. No file system hears of it."""
        self._write(0, self.spare, flush=True)

    def _write(self, number, at, flush=False):
        fd = os.open(self.device, os.O_WRONLY)
        try:
            assert os.pwrite(fd, number.to_bytes(8, "little").ljust(SECTOR, b"\0"), at) == SECTOR
            if flush:
                os.fsync(fd)
        finally:
            os.close(fd)

    def __exit__(self, *_):
        self.process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(30)
