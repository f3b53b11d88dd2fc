#!/usr/bin/python3
"""Instant mode: how soon a release of 1 GiB can be read, against the same release copied first. Needs root.

The clock starts with `moult push`; it stops when a program, which tries all the time, has read the first bytes of the release through
the merge, and they are right. With --instant that is before the copy. In two places:

guest     a tiny-ro guest, new for each push, over ivshmem, hot-plugged
native    moultd and the agent side by side on this machine; a file behind a PCI device of a sysfs of its own stands for the window,
          so there is no hot-plug. Against `moult-agent apply` of the same pack, which is a copy with no transport at all.

    instant.py [--where guest,native] [--work one,many] [--rounds N] [--size BYTES] [--keep-logs FOLDER]
"""

import argparse
import os
import pathlib
import re
import shutil
import statistics
import subprocess
import threading
import time

import bench
import natively
import vm as vms
import workload

PLACE = "ro/ext4/app"


def make_tree(name, root, size):
    """Below PLACE, which is read-only in the guest; (file to be read first, its first bytes)."""
    made = root / "made"
    made.mkdir()
    if name == "one":
        workload.one(str(made), size)
    else:
        workload.many(str(made), count=2000, total=size)
    tree = root / name
    (tree / PLACE).mkdir(parents=True)
    (made / "usr/lib/bench").rename(tree / PLACE / "bench")
    shutil.rmtree(made)
    first = min(p for p in (tree / PLACE / "bench").rglob("*") if p.is_file())
    text = "new: read me first"
    with open(first, "r+b") as f:
        f.write(text.encode())
    return first.relative_to(tree), text


class Guest:
    """A new guest for one push."""

    def __init__(self, host, work, release, logs):
        self.host, self.work, self.release, self.logs = host, work, release, logs
        self.vm = vms.Vm("tiny-ro", memory_mb=2048)

    def start(self):
        self.vm.start()
        self.vm.write_file("/etc/moult/trusted.d/bench.pub", (self.work / "bench.pub").read_bytes())
        self.vm.write_file("/root/first_read", (self.work / "first_read").read_bytes(), 0o755)
        self.host.add("bench", self.vm)
        self.vm.wait_for("moult-agent status")

    def wait(self, first, text):
        self.vm.exec(f"/root/first_read '/{first}' '{text}'", timeout=600)

    def push(self, instant):
        self.host.moult("push", self.release, "bench", "--transport", "ivshmem", *(["--instant"] if instant else []), "--wait", timeout=900)
        if self.logs:
            self.logs.mkdir(exist_ok=True)
            name = f"{self.release}-{'instant' if instant else 'copied'}"
            (self.logs / f"{name}-agent.log").write_bytes(self.vm.exec("cat /run/moult-agent.log").out)
            (self.logs / f"{name}-console.log").write_text(self.vm.log_tail("console.log", 1 << 20), encoding="utf-8")

    def stop(self):
        self.vm.stop()
        self.host.moult("vm", "remove", "bench")


class Native:
    """A root with a read-only file system and an agent of its own, beside moultd."""

    def __init__(self, host, work, release, logs):
        self.host, self.work, self.release, self.logs = host, work, release, logs
        self.machine = natively.Machine(bench.BUILD, work / "machine")
        self.pack, self.agent = work / f"{release}.moult", None

    def start(self):
        m = self.machine
        shutil.copy(self.work / "bench.pub", m.dir / "trust/host.pub")
        place = (m.root / PLACE).parent
        place.mkdir(parents=True)
        (m.dir / "original/app").mkdir(parents=True)
        natively.run("truncate", "-s", 64 << 20, m.dir / "original.ext4")
        natively.run("mkfs.ext4", "-q", "-d", m.dir / "original", m.dir / "original.ext4")
        natively.run("mount", "-o", "loop,ro", m.dir / "original.ext4", place)

    def plug(self):
        """What the kernel shows of an ivshmem device. Its memory has a power of two as size."""
        device = self.machine.dir / "pci/0000:01:00.0"
        device.mkdir(parents=True)
        for name, text in (("vendor", "0x1af4\n"), ("device", "0x1110\n"), ("enable", "0\n")):
            (device / name).write_text(text, encoding="ascii")
        shutil.copy(self.pack, device / "resource2")
        os.truncate(device / "resource2", 1 << (self.pack.stat().st_size - 1).bit_length())

    def wait(self, first, text):
        natively.run(self.work / "first_read", self.machine.root / first, text)

    def push(self, instant):
        m = self.machine
        if instant:
            self.host.moult("push", self.release, "bench", "--instant", "--wait", timeout=900)
        else:
            m.apply(self.pack)

    def run_agent(self):
        token = re.search(r"moult1:[0-9a-f]{64}:\S+", self.host.moult("vm", "add", "bench", "--network", "--token", text=True).stdout).group(0)
        m, log = self.machine, self.machine.dir / "agent.log"
        self.plug()
        with open(log, "wb") as out:
            self.agent = subprocess.Popen([m.agent, "run", "--channel=none", f"--host=127.0.0.1:{self.host.tls_port}", f"--token={token}",
                                           f"--socket={m.dir}/agent.sock", f"--pci={m.dir}/pci", f"--block={m.dir}", f"--root={m.root}",
                                           f"--state={m.state}", f"--trust={m.dir}/trust"], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        deadline = vms.Deadline(60, "the agent's session")
        while '"connected":true' not in self.host.moult("vm", "show", "bench", "--json", text=True).stdout.replace(" ", ""):
            deadline.left()
            time.sleep(0.05)  # nobody announces a session to us

    def stop(self):
        if self.agent:
            self.agent.terminate()
            self.agent.wait(60)
            self.host.moult("vm", "remove", "bench")
            if self.logs:
                self.logs.mkdir(exist_ok=True)
                shutil.copy(self.machine.dir / "agent.log", self.logs / f"native-{self.release}.log")
        natively.unmount_below(self.machine.dir)
        shutil.rmtree(self.machine.dir, ignore_errors=True)


PLACES = {"guest": Guest, "native": Native}


def push(place, first, text, instant):
    """Seconds until it could be read, and until the push was committed."""
    try:
        place.start()
        if instant and isinstance(place, Native):
            place.run_agent()
        seen = []

        def wait():
            place.wait(first, text)
            seen.append(time.monotonic())

        reader = threading.Thread(target=wait, daemon=True)
        reader.start()
        time.sleep(1)  # until the reader is at its work, which nobody announces
        started = time.monotonic()
        place.push(instant)
        committed = time.monotonic()
        reader.join(60)
        return seen[0] - started, committed - started
    finally:
        place.stop()


def measure(options, work, host):
    for name in options.work.split(","):
        first, text = make_tree(name, work, options.size)
        host.release(name, work / name, "none")
        for where in options.where.split(","):
            figures = {True: [], False: []}
            for number in range(options.rounds):
                for instant in (True, False) if number == 0 or where == "native" else (True,):
                    figures[instant].append(push(PLACES[where](host, work, name, options.keep_logs), first, text, instant))
                    print(f"{where}, {name}, {'instant' if instant else 'copied'}: readable after {figures[instant][-1][0]:.3f} s, "
                          f"committed after {figures[instant][-1][1]:.1f} s", flush=True)
            instant, copied = ([statistics.median(f[i] for f in figures[kind]) for i in (0, 1)] for kind in (True, False))
            print(f"| {where} | {name} | {instant[0] * 1000:.0f} | {copied[0] * 1000:.0f} | {copied[0] / instant[0]:.1f} | {instant[1]:.1f} |", flush=True)
        shutil.rmtree(work / name)


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--where", default="guest,native")
    parser.add_argument("--work", default="one,many")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--size", type=int, default=1 << 30)
    parser.add_argument("--keep-logs", type=pathlib.Path)
    options = parser.parse_args()
    natively.enter_own_mounts()
    os.environ.setdefault("MOULT_BUILD", str(bench.BUILD))
    print("| where | work | instant, readable after ms | copied, readable after ms | times as fast | instant, committed after s |")
    with natively.folder() as work:
        bench.run("cc", "-O2", "-static", "-o", work / "first_read", bench.HERE / "first_read.c")
        host = bench.Host(work)
        try:
            measure(options, work, host)
        finally:
            host.stop()


if __name__ == "__main__":
    main()
