"""A QEMU that runs no guest, whose disk is written to through QEMU's own block layer: for tests of what happens to disks."""

import contextlib
import os
import pathlib
import subprocess
import tempfile
import time

import vm as vms

MIB = 1 << 20
SIZE = 16 * MIB


class Machine:
    """A QEMU with one disk over a base image; it has a monitor for moultd and one for the test."""

    user = None  # as whom it runs: as the test
    format = "qcow2"  # of the disk's file when QEMU is started
    more = ()  # options of QEMU

    def __init__(self, directory, kind):
        self.dir, self.kind, self.process = pathlib.Path(directory), kind, None
        self.base, self.disk = self.dir / "base.qcow2", self.dir / "web-1.qcow2"
        self.sockets = tempfile.TemporaryDirectory(prefix="moult-snap-", dir="/tmp")
        self.qmp_socket, self.own = f"{self.sockets.name}/qmp", f"{self.sockets.name}/own"
        self.no_agent = f"{self.sockets.name}/no-agent"  # where none listens; short, as a socket's path has to be
        qemu_img("create", "-q", "-f", "qcow2", self.base, str(SIZE))
        qemu_io(self.base, "write -q -P 9 8M 1M")
        self.renew()

    def renew(self):
        """Off, with a disk in which nothing was written over the base, and no layers."""
        if self.process and self.process.poll() is None:
            self.kill()
        for path in (self.disk, *(self.dir / name for name in self.layers())):
            path.unlink(missing_ok=True)
        qemu_img("create", "-q", "-f", "qcow2", "-b", self.base, "-F", "qcow2", self.disk)
        self.written = {8: 9}  # MiB -> pattern
        return self

    def start(self):
        drive = {
            "drive": ["-drive", f"file={self.disk},format={self.format},if=virtio,id=disk0"],
            "blockdev": ["-blockdev", f"driver=file,filename={self.disk},node-name=f0", "-blockdev",
                         f"driver={self.format},file=f0,node-name=d0", "-device", "virtio-blk-pci,drive=d0,id=disk0"],
        }[self.kind]
        self.process = subprocess.Popen(
            ["qemu-system-x86_64", "-accel", "tcg", "-nodefaults", "-display", "none", "-m", "32", "-qmp",
             f"unix:{self.qmp_socket},server=on,wait=off", "-qmp", f"unix:{self.own},server=on,wait=off", *drive, *self.more],
            stdin=subprocess.DEVNULL, preexec_fn=vms._die_with_parent, user=self.user, group=self.user)
        deadline = vms.Deadline(60, "QEMU's monitor")
        while True:
            try:
                self.qmp = vms.Qmp(self.own)  # the second one: then the first one listens, too
                return self
            except OSError:
                assert self.process.poll() is None
                deadline.left()
                time.sleep(0.02)  # nobody announces a listening socket

    def kill(self):
        self.qmp.close()
        self.process.kill()
        self.process.wait()
        for name in (self.qmp_socket, self.own):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(name)

    def drive(self):
        return next(d for d in self.qmp.command("query-block") if d.get("inserted"))

    def write(self, at, pattern, flush=True):
        d = self.drive()
        target = d["device"] or f"-d {d['qdev']}"
        if self.kind == "drive":
            target = "disk0"
        self.qmp.command("human-monitor-command", **{"command-line": f'qemu-io {target} "write -P {pattern} {at}M 1M"'})
        if flush:
            self.qmp.command("human-monitor-command", **{"command-line": f'qemu-io {target} "flush"'})
        self.written[at] = pattern

    def node_files(self):
        return {n["file"] for n in self.qmp.command("query-named-block-nodes", flat=True)}

    def chain_length(self):
        image, n = self.drive()["inserted"]["image"], 0
        while image:
            image, n = image.get("backing-image"), n + 1
        return n

    def running(self):
        return self.qmp.command("query-status")["running"]

    def expect(self, path, written):
        """What a VM that is started from @path finds."""
        commands = [f"read -q -P {written.get(at, 0)} {at}M 1M" for at in range(SIZE // MIB)]
        qemu_io(path, *commands, options=("-r", "-U"))

    def layers(self):
        return sorted(p.name for p in self.dir.glob("web-1.qcow2.moult-*"))


def qemu_img(*words):
    return subprocess.run(["qemu-img", *map(str, words)], check=True, capture_output=True, text=True).stdout


def qemu_io(path, *commands, options=()):
    words = ["qemu-io", *options, "-f", "qcow2", str(path)]
    for command in commands:
        words += ["-c", command]
    done = subprocess.run(words, check=False, capture_output=True, text=True)
    assert done.returncode == 0 and "failed" not in done.stdout, f"{path}: {done.stdout}{done.stderr}"
