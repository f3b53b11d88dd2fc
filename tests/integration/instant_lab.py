"""A bench for instant mode without a VM: a real moultd, and a real agent beside it with a tree of its own whose /usr cannot be written. What
stands for the shared memory is a file behind a PCI device of a sysfs of its own; the agent itself reads over the network."""

import contextlib
import os
import pathlib
import re
import subprocess
import time

import moult
import relay
import vm as vms
from engine_lab import Lab, copy_tree, put, set_times, snapshot, NEW_TIME, OLD_TIME

AGENT = moult.HOST_BUILD / "guest-agent/moult-agent"
BOOT_ID = "/proc/sys/kernel/random/boot_id"
CHUNK = 1 << 20


def unmount(point, *options):
    while subprocess.run(["umount", *options, str(point)], check=False, capture_output=True).returncode == 0:
        pass


def trees(directory, size_mb):
    """(old, new): files that can be written, and files below /usr that cannot."""
    old, new = pathlib.Path(directory) / "old", pathlib.Path(directory) / "new"
    for root, version in ((old, 1), (new, 2)):
        put(root, "etc/version", f"{version}\n")
        put(root, "usr/version", f"{version}\n")
        for n in range(3):
            put(root, f"usr/lib/{n}", f"{version} " * 3000, 0o755, owner=(version, 0))
        put(root, "usr/lib/same-content-other-mode", f"{version} " * 3000, 0o600)
        put(root, "usr/lib/a", f"linked {version}\n")
        os.link(root / "usr/lib/a", root / "usr/lib/b")
    put(old, "usr/goes", "goes\n")
    put(new, "usr/big", os.urandom(size_mb * CHUNK))
    set_times(old, OLD_TIME)
    set_times(new, NEW_TIME)
    return old, new


class InstantLab(Lab):
    """net-1, whose agent is started and ended by the test."""

    def __init__(self, directory, size_mb=4, options=()):
        super().__init__(directory / "lab")
        self.old_tree, self.new_tree = trees(directory, size_mb)
        self.host = moult.Host(directory / "host", tls=True).start()
        (self.trust / "test.pub").write_bytes(self.host.new_key())
        self.cable = relay.Relay(("127.0.0.1", self.host.tls_port))
        self.pack = self.host.build(self.new_tree, self.old_tree, options=("--mtime", *options))
        self.host.moult("release", "import", self.pack)
        printed = self.host.moult("vm", "add", "net-1", "--network", "--token")
        self.token = re.search(r"moult1:[0-9a-f]{64}:\S+", printed).group(0)
        self.pci = directory / "pci"
        self.pci.mkdir()
        self.hold = directory / "hold"
        self.process = None
        self.log = directory / "agent.log"
        self.reset()
        self.before = self.seen()

    def close(self):
        self.kill()
        self.unmount()
        self.cable.close()
        self.host.stop()

    def unmount(self):
        unmount(self.root / "usr", "-l")
        unmount(self.state / "target/run", "-R", "-l")

    def reset(self):
        self.unmount()
        subprocess.run(["find", str(self.root), "-mindepth", "1", "-delete"], check=True)
        copy_tree(self.old_tree, self.root)
        self.mount()

    def mount(self):
        """As at each start of the machine."""
        usr = str(self.root / "usr")
        subprocess.run(["mount", "--bind", usr, usr], check=True)
        subprocess.run(["mount", "-o", "remount,bind,ro", usr], check=True)

    # -- the window

    def plug(self):
        device = self.pci / "0000:01:00.0"
        device.mkdir(exist_ok=True)
        for name, text in (("vendor", "0x1af4\n"), ("device", "0x1110\n"), ("enable", "0\n")):
            (device / name).write_text(text)
        data = self.pack.read_bytes()
        (device / "resource2").write_bytes(data + bytes((1 << (len(data) - 1).bit_length()) - len(data)))

    def unplug(self):
        """As a real one goes: whoever has it mapped gets SIGBUS, and nobody finds it any more."""
        device = self.pci / "0000:01:00.0"
        os.truncate(device / "resource2", 0)
        for name in os.listdir(device):
            (device / name).unlink()
        device.rmdir()

    # -- the agent

    def start(self, fault="", trace=""):
        words = [str(AGENT), "run", "--channel=none", f"--host=127.0.0.1:{self.cable.address[1]}", f"--token={self.token}",
                 f"--socket={self.dir / 'agent.sock'}", f"--pci={self.pci}", f"--block={self.dir}", "--log-level=debug",
                 f"--root={self.root}", f"--state={self.state}", f"--trust={self.trust}", "--idle-io=false"]
        environment = os.environ | {"NOTIFY_SOCKET": "", "MOULT_FAULT": fault, "MOULT_FAULT_TRACE": str(trace),
                                    "MOULT_FAULT_HOLD": str(self.hold)}
        self.mark = self.log.stat().st_size if self.log.exists() else 0
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=environment,
                                            preexec_fn=vms._die_with_parent)
        self.wait_for("agent-ready")

    def said(self):
        """By the agent that was started last."""
        with open(self.log, "rb") as log:
            log.seek(self.mark)
            return log.read().decode(errors="replace")

    def wait(self, condition, what):
        deadline = vms.Deadline(60, what)
        while not condition():
            try:
                deadline.left()
            except vms.VmError as e:
                raise AssertionError(f"{e}\n{self.said()}\n{self.servers_said()}") from None
            time.sleep(0.02)  # of a log file and a mount nobody is told

    def wait_for(self, event):
        self.wait(lambda: f" {event}:" in self.said() or self.process.poll() is not None, event)
        return self.process.returncode is None

    def kill(self):
        if self.process:
            self.process.kill()
            self.process.wait()
        self.process = None

    def stop(self):
        """Orderly."""
        self.process.terminate()
        assert self.process.wait(60) == 0, self.said()
        self.process = None

    def wait_held(self):
        self.wait(self.hold.exists, "the fault point")

    def let_go(self):
        self.hold.unlink(missing_ok=True)

    # -- what is there

    def servers_said(self):
        log = self.state / "target/targetfs.log"
        return log.read_text(errors="replace") if log.exists() else ""

    def seen(self):
        """The tree, without what is nobody's business: times of directories in which something changed, numbers of names."""
        return {p: v[:4] + ((0,) if v[0].startswith("d") else (v[4],)) + v[5:-1] for p, v in snapshot(self.root).items()}

    def sources(self):
        """{way: bytes} that the server of /usr has read of the pack."""
        text = os.getxattr(self.root / "usr", "trusted.moult.sources").decode()
        return {k: int(v) for k, v in (word.split("=") for word in text.split())}

    def objects(self):
        return [o for o in (self.state / "target/objects").rglob("*") if o.is_file()]

    def records(self, generation):
        """Names of the journal's records."""
        journal = (self.state / f"generations/{generation}/journal").read_bytes().rstrip(b"\0")
        return [line.split()[1] for line in journal.decode(errors="replace").splitlines() if len(line.split()) > 2]

    def newest(self):
        return max(int(p.name) for p in (self.state / "generations").iterdir())

    def push(self, *options):
        return self.host.spawn("push", "app=2", "net-1", "--instant", *options)

    def wait_for_phase(self, phase):
        self.wait(lambda: f" phase={phase} " in self.said(), phase)

    def connected(self):
        self.wait(lambda: self.host.json("vm", "show", "net-1")["connected"], "the VM is connected")

    @contextlib.contextmanager
    def another_boot(self):
        """What the kernel says of which boot this is."""
        number = self.dir / "boot_id"
        number.write_text("11111111-2222-3333-4444-555555555555\n")
        subprocess.run(["mount", "--bind", str(number), BOOT_ID], check=True)
        try:
            yield
        finally:
            subprocess.run(["umount", BOOT_ID], check=True)

    def power_cut(self):
        """The machine is off: nothing is mounted any more."""
        self.kill()
        self.unmount()
        self.mount()
