"""A fleet without virtual machines: one moultd, and for each VM the real agent over TLS on a temporary root."""

import os
import re
import subprocess

import moult
import vm as vms

AGENT = moult.HOST_BUILD / "guest-agent/moult-agent"
OLD, NEW = b"old\n", b"new\n"


class Member:
    """One VM: a root with the release's file as it was, and moult-agent as a process."""

    def __init__(self, fleet, name, words=()):
        self.fleet, self.name, self.dir = fleet, name, fleet.dir / name
        self.root, self.process = self.dir / "root", None
        for part in ("root/srv/app", "state", "trust"):
            (self.dir / part).mkdir(parents=True)
        (self.root / "srv/app/version").write_bytes(OLD)
        (self.dir / "trust/test.pub").write_bytes(fleet.public_key)
        printed = fleet.host.moult("vm", "add", name, "--network", "--token", *words)
        self.token = re.search(r"moult1:[0-9a-f]{64}:\S+", printed).group(0)

    def start(self):
        words = [str(AGENT), "run", "--channel=none", f"--host=127.0.0.1:{self.fleet.host.tls_port}",
                 f"--token={self.token}", f"--socket={self.dir / 'agent.sock'}",
                 *(f"--{name}={self.dir / name}" for name in ("root", "state", "trust"))]
        with open(self.dir / "agent.log", "ab") as log:
            self.process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
                                            env=os.environ | {"NOTIFY_SOCKET": ""}, preexec_fn=vms._die_with_parent)
        return self

    def stop(self):
        if self.process:
            self.process.terminate()
            code = self.process.wait(120)
            self.process = None
            assert code == 0, f"{self.name}: the agent ended with {code}\n{self.log()}"

    def log(self):
        return (self.dir / "agent.log").read_text(errors="replace")[-3000:]

    def content(self):
        return (self.root / "srv/app/version").read_bytes()

    def generations(self):
        """How often something was committed here, by the agent's own records."""
        return len(re.findall(r"agent-phase: .*PHASE_COMMITTED", (self.dir / "agent.log").read_text(errors="replace")))


class Fleet:
    """N of them on one host, with the release app=2 imported."""

    def __init__(self, directory, size, options=(), labels=None, qmp=None):
        self.dir = directory
        self.host = moult.Host(directory / "host", tls=True, options=options)
        self.host.start()
        self.public_key = self.host.new_key()
        self.members = [Member(self, f"vm-{i:02}", [word for label in (labels(i) if labels else ()) for word in ("--label", label)]
                               + (["--qmp", qmp[i]] if qmp else [])) for i in range(size)]

    def release(self, version="2", content=NEW, old=OLD, options=()):
        trees = {}
        for name, data in (("old", old), ("new", content)):
            tree = trees[name] = self.dir / f"{name}-{version}"
            (tree / "srv/app").mkdir(parents=True)
            (tree / "srv/app/version").write_bytes(data)
        return self.host.release(trees["new"], trees["old"], version=version, options=options)

    def __enter__(self):
        for member in self.members:
            member.start()
        return self

    def __exit__(self, *exc):
        if exc[0]:
            print(f"--- moultd's log:\n{self.host.log_text()}")
        for member in self.members:
            member.stop()
        self.host.stop()

    def wait_connected(self, names=None):
        self.host.moult("vm", "wait", *(names or [m.name for m in self.members if m.process]), "--timeout", 120)


class Disks:
    """A QEMU without a machine: its monitor and its disk are real, and there is nothing to boot."""

    def __init__(self, directory, name, backing):
        self.qmp = directory / f"{name}.qmp"
        disk = directory / f"{name}.qcow2"
        subprocess.run(["qemu-img", "create", "-q", "-f", "qcow2", "-F", "qcow2", "-b", str(backing), str(disk)], check=True)
        self.process = subprocess.Popen(["qemu-system-x86_64", "-M", "none", "-nodefaults", "-no-user-config", "-display", "none", "-S",
                                         "-drive", f"if=none,format=qcow2,file={disk}", "-qmp", f"unix:{self.qmp},server=on,wait=off"],
                                        stdin=subprocess.DEVNULL, preexec_fn=vms._die_with_parent)
        deadline = vms.Deadline(120, f"the monitor of {name} is there")
        while not self.qmp.exists():
            assert self.process.poll() is None, "QEMU ended"
            deadline.left()

    def __enter__(self):
        return self

    def __exit__(self, *exc):
        self.process.terminate()
        self.process.wait(60)
