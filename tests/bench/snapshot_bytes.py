#!/usr/bin/python3
"""Bytes stored, and time, for daily snapshots of a VM that receives real package upgrades, and for one snapshot of each of some siblings: moult
against restic, borg, virtnbdbackup and full copies of the same disks. Needs root.

    snapshot_bytes.py BUILD [--days 10] [--siblings 5] [--tools LIST] [--disks DIR] [--json FILE]

The disks are made first (upgraded_disks.py). moult's VM is a real QEMU in which no guest runs: what a day has changed is written by QEMU's own block
layer, block by block, then `moult snapshot create` and `upload` are measured: from the first command until the restore point is in the store and
on record. What it merges afterwards, which hinders nobody, is a column of its own. virtnbdbackup has a VM of the same kind, with libvirt and dirty bitmaps.

restic and borg are given the day's disk as a sparse raw file in the page cache, which costs them nothing; all of them write to a directory. "Stored" is
the sum of the files' sizes, and what is new of it is what would be sent. Each tool's compression is zstd at level 3, as moult's, where it can be chosen
(restic: auto, which is about that; max as well). borg: its default chunks, chunks of a fixed size for disks, and small ones, as somebody would choose who wants the
fewest bytes. restic encrypts always; nobody else here does. Full copies are made of the first and the last day and counted as if each was
their mean. Whose turn it is first changes from day to day."""

import argparse
import contextlib
import json
import os
import pathlib
import shutil
import statistics
import subprocess
import sys
import tempfile
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[0] / "support"), str(HERE)]

import snapshot_lab
import upgraded_disks as disks
from upgraded_disks import run


def tree_bytes(*folders):
    return sum(f.stat().st_size for folder in folders for f in pathlib.Path(folder).rglob("*") if f.is_file())


def machine_of(directory, golden, number=0, start=True):
    """A QEMU without a guest whose disk is an overlay of the golden image."""
    from disk_machine import Machine, qemu_img

    class Upgraded(Machine):
        def __init__(self):
            folder = directory / f"vm{number}"
            folder.mkdir(parents=True)
            super().__init__(folder, "blockdev")
            self.base.unlink(missing_ok=True)
            self.disk.unlink(missing_ok=True)
            qemu_img("create", "-q", "-f", "qcow2", "-b", golden, "-F", "qcow2", self.disk)

    machine = Upgraded()
    return machine.start() if start else machine


def write_changes(monitor, target, before, after, scratch):
    """What a day has changed goes into a VM's disk by QEMU's own block layer. Returns the bytes. @monitor: runs a line of the monitor for people."""
    total = 0
    with open(after, "rb") as source:
        for at, size in disks.changes(before, after):
            for offset in range(at, at + size, 16 << 20):
                n = min(16 << 20, at + size - offset)
                source.seek(offset)
                scratch.write_bytes(source.read(n))
                said = monitor(f'qemu-io {target} "write -q -s {scratch} {offset} {n}"')
                if said.strip():
                    raise RuntimeError(f"writing {n} bytes at {offset}: {said}")
                total += n
    said = monitor(f'qemu-io {target} "flush"')
    if said.strip():
        raise RuntimeError(said)
    return total


class Moult:
    name = "moult"

    def __init__(self, work):
        import moult
        self.dir = work / "moult"
        self.host = moult.Host(self.dir / "host").start()
        self.machines, self.merged = {}, []

    def begin(self, vm, golden):
        self.machines[vm] = m = machine_of(self.dir, golden, vm)
        self.host.moult("vm", "add", f"web-{vm}", "--qmp", m.qmp_socket, "--agent", m.no_agent)

    def receive(self, vm, before, after):
        m = self.machines[vm]
        d = m.drive()
        write_changes(lambda line: m.qmp.command("human-monitor-command", **{"command-line": line}, timeout=600),
                      d["device"] or f"-d {d['qdev']}", before, after, self.dir / "scratch")

    def backup(self, vm, _, day):
        name, start = f"day-{day}", time.monotonic()
        self.host.moult("snapshot", "create", f"web-{vm}", "--name", name, "--no-quiesce", "--no-upload")
        self.host.moult("snapshot", "upload", f"web-{vm}", name)
        end = time.monotonic()
        snapshot_lab.wait_jobs(self.host)
        self.merged.append(time.monotonic() - end)
        return end - start

    def stored(self):
        return tree_bytes(self.host.state / "objects")

    def check(self, vm, raw, day):
        """The restore point is the disk."""
        out = self.dir / "export.qcow2"
        self.host.moult("snapshot", "export", f"web-{vm}", f"day-{day}", "--output", out)
        run("qemu-img", "compare", "-f", "qcow2", "-F", "raw", out, raw)
        out.unlink()

    def end(self):
        for m in self.machines.values():
            m.kill()
        self.host.stop()


class Command:
    """A tool whose backup is one command, over a repository of its own."""

    def __init__(self, work, name, init, backup, environment=None):
        self.name, self.words, self.repository = name, backup, work / name.replace(" ", "-").replace(",", "-")
        self.environment = os.environ | {"HOME": str(work), "RESTIC_PASSWORD": "bench", "BORG_UNKNOWN_UNENCRYPTED_REPO_ACCESS_IS_OK": "yes",
                                         "BORG_RELOCATED_REPO_ACCESS_IS_OK": "yes", **(environment or {})}
        self.run(init)

    def run(self, words, **more):
        run(*[str(w).format(repository=self.repository, **more) for w in words], env=self.environment)

    def begin(self, vm, golden):
        pass

    def receive(self, vm, before, after):
        pass

    def backup(self, vm, raw, day):
        start = time.monotonic()
        self.run(self.words, raw=raw, name=f"vm{vm}-{day}")
        return time.monotonic() - start

    def stored(self):
        return tree_bytes(self.repository)

    def end(self):
        pass


class Copy:
    """A copy of the whole disk, of the first and the last one only."""

    def __init__(self, work, name, words):
        self.name, self.words, self.file, self.sizes = name, words, work / "copy", []

    def begin(self, vm, golden):
        pass

    def receive(self, vm, before, after):
        pass

    def backup(self, vm, raw, day):
        start = time.monotonic()
        run(*[w.format(raw=raw, out=self.file) for w in self.words])
        seconds = time.monotonic() - start
        self.sizes.append(self.file.stat().st_size)
        self.file.unlink()
        return seconds

    def end(self):
        pass


class VirtNbdBackup:
    """Of a libvirt domain; the first one is full, the others are what its dirty bitmaps name. lz4 is the only compression that it has."""

    name = "virtnbdbackup, lz4"

    def __init__(self, work):
        import libvirt
        self.lab, self.dir = libvirt, work / "virtnbdbackup"
        self.dir.mkdir()
        self.virt, self.disks = libvirt.Libvirtd(self.dir / "libvirt").start(), {}

    def begin(self, vm, golden):
        disk = self.dir / f"vm{vm}.qcow2"
        run("qemu-img", "create", "-q", "-f", "qcow2", "-b", golden, "-F", "qcow2", disk)
        devices = (f"<disk type='file' device='disk'><driver name='qemu' type='qcow2'/><source file='{disk}'/>"
                   "<target dev='vda' bus='virtio'/></disk>")
        self.virt.define(self.lab.domain_xml(f"web-{vm}", devices=devices, memory=32))
        self.virt.virsh("start", f"web-{vm}", "--paused")

    def receive(self, vm, before, after):
        target = next(f"-d {d['qdev']}" for d in self.virt.monitor(f"web-{vm}", "query-block") if d.get("inserted"))
        write_changes(lambda line: self.virt.monitor(f"web-{vm}", "human-monitor-command", **{"command-line": line}),
                      target, before, after, self.dir / "scratch")

    def backup(self, vm, _, day):
        out, start = self.dir / f"backup{vm}", time.monotonic()
        run("virtnbdbackup", "-U", f"qemu:///system?socket={self.virt.socket}", "-d", f"web-{vm}", "-l", "inc" if out.exists() else "full", "-z", "-n", "-o", out,
            "-S", self.dir, "-f", self.dir / "nbd.sock", cwd=self.dir)
        return time.monotonic() - start

    def stored(self):
        return tree_bytes(*self.dir.glob("backup*"))

    def end(self):
        self.virt.stop()


BORG = ("borg", "create", "--compression", "zstd,3", "--sparse", "--files-cache", "disabled")
TOOLS = {
    "moult": Moult,
    "restic": lambda work: Command(work, "restic", ("restic", "-q", "init", "--repository-version", "2", "-r", "{repository}"),
                                   ("restic", "-q", "-r", "{repository}", "backup", "--force", "--compression", "auto", "{raw}")),
    "restic-max": lambda work: Command(work, "restic, max", ("restic", "-q", "init", "--repository-version", "2", "-r", "{repository}"),
                                       ("restic", "-q", "-r", "{repository}", "backup", "--force", "--compression", "max", "{raw}")),
    "borg": lambda work: Command(work, "borg", ("borg", "init", "-e", "none", "{repository}"), (*BORG, "{repository}::{name}", "{raw}")),
    "borg-fixed": lambda work: Command(work, "borg, fixed 4 MiB", ("borg", "init", "-e", "none", "{repository}"),
                                       (*BORG, "--chunker-params", "fixed,4194304", "{repository}::{name}", "{raw}")),
    "borg-small": lambda work: Command(work, "borg, fixed 64 KiB", ("borg", "init", "-e", "none", "{repository}"),
                                       (*BORG, "--chunker-params", "fixed,65536", "{repository}::{name}", "{raw}")),
    "virtnbdbackup": VirtNbdBackup,
    "convert": lambda work: Copy(work, "qemu-img convert -c, zstd", ("qemu-img", "convert", "-c", "-o", "compression_type=zstd", "-f", "raw", "-O", "qcow2", "{raw}", "{out}")),
    "zstd": lambda work: Copy(work, "zstd -3 -T0", ("zstd", "-q", "-3", "-T0", "{raw}", "-o", "{out}")),
}


def measure(names, work, golden, turns):
    """@turns: [(vm, what it was, what it is, day)]. {name: {seconds: [], new_bytes: [], ...}}"""
    rows = {}
    with contextlib.ExitStack() as stack:
        tools = []
        for name in names:
            tools.append(TOOLS[name](work))
            stack.callback(tools[-1].end)
        rows = {tool.name: {"seconds": [], "new_bytes": []} for tool in tools}
        for number, (vm, before, after, day) in enumerate(turns):
            for tool in tools[number % len(tools):] + tools[:number % len(tools)]:
                if isinstance(tool, Copy) and number not in (0, len(turns) - 1):
                    continue
                if day == 1:
                    tool.begin(vm, golden)
                tool.receive(vm, before, after)
                had = sum(rows[tool.name]["new_bytes"])
                seconds = tool.backup(vm, after, day)
                rows[tool.name]["seconds"].append(seconds)
                rows[tool.name]["new_bytes"].append(tool.sizes[-1] if isinstance(tool, Copy) else tool.stored() - had)
                print(f"vm {vm} day {day}: {tool.name}: {seconds:.2f} s, {rows[tool.name]['new_bytes'][-1]:,} bytes, load {os.getloadavg()[0]:.1f}", flush=True)
        for tool in tools:
            if isinstance(tool, Moult):
                vm, _, after, day = turns[-1]
                tool.check(vm, after, day)
                rows[tool.name]["merged"] = tool.merged
            if isinstance(tool, Copy):
                for values in rows[tool.name].values():
                    values[1:1] = [statistics.mean(values)] * (len(turns) - 2)
    return rows


def table(rows, first):
    """The first one has all of the disk in it, the others what is new."""
    best_bytes, best_first, best_rest = (min(key(r) for name, r in rows.items() if name != "moult") for key in (
        lambda r: sum(r["new_bytes"]), lambda r: r["seconds"][0], lambda r: statistics.median(r["seconds"][1:])))
    print(f"\n| what | bytes stored | of the best other | {first}, bytes | each further, bytes (median) | {first}, s | of the best other | each further, s (median) | least | most | of the best other |")
    print("|---|---|---|---|---|---|---|---|---|---|---|")
    for name, r in rows.items():
        total, seconds = sum(r["new_bytes"]), r["seconds"]
        rest = statistics.median(seconds[1:])
        print(f"| {name} | {total:,.0f} | {total / best_bytes:.2f} | {r['new_bytes'][0]:,.0f} | {statistics.median(r['new_bytes'][1:]):,.0f} | {seconds[0]:.1f} | "
              f"{seconds[0] / best_first:.2f} | {rest:.2f} | {min(seconds[1:]):.2f} | {max(seconds[1:]):.2f} | {rest / best_rest:.2f} |")
    if "moult" in rows:
        merged = rows["moult"]["merged"]
        print(f"\nmoult's merges afterwards: median {statistics.median(merged):.2f} s, at most {max(merged):.2f} s")


def made(path, source, *changes):
    """A disk that is made once: from another one, by functions that are given its file."""
    if not path.exists():
        part = disks.copy(source, path.with_suffix(".part"))
        for change in changes:
            change(part)
        part.rename(path)
    return path


def daily(folder, golden, steps, days):
    before, turns = golden, []
    for day, today in enumerate(disks.days_of(steps(), days), 1):
        after = made(folder / f"day{day}.raw", before, lambda disk, today=today: disks.upgraded(disk, today))
        turns.append((0, before, after, day))
        changed = sum(size for _, size in disks.changes(before, after))
        print(f"day {day}: {', '.join(f'{s.name} {s.version}' for s in today)}; {changed:,} bytes of blocks changed", flush=True)
        before = after
    return turns


def siblings(folder, golden, steps, count):
    return [(n, golden, made(folder / f"sibling{n}.raw", golden, lambda disk, n=n: disks.personal(disk, n), lambda disk: disks.upgraded(disk, steps())), 1)
            for n in range(1, count + 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("build")
    parser.add_argument("--days", type=int, default=10)
    parser.add_argument("--siblings", type=int, default=5)
    parser.add_argument("--tools", default=",".join(TOOLS), help="a list of: " + ", ".join(TOOLS))
    parser.add_argument("--disks", help="the folder of the disks, which stay there and are made if they are not there yet (default: made, and removed)")
    parser.add_argument("--json", help="all figures go to this file as well")
    options = parser.parse_args()
    os.environ["MOULT_HOST_BUILD"] = os.environ["MOULT_BUILD"] = os.path.abspath(options.build)
    work = pathlib.Path(tempfile.mkdtemp(prefix="moult-bench-", dir=os.environ.get("MOULT_BENCH_DIR", "/var/tmp")))
    work.chmod(0o755)
    folder = pathlib.Path(options.disks or work / "disks").resolve()
    folder.mkdir(exist_ok=True)
    names, results = options.tools.split(","), {}
    try:
        golden, steps = disks.golden(folder)
        image = work / "golden.qcow2"
        run("qemu-img", "convert", "-f", "raw", "-O", "qcow2", golden, image)
        for what, make, count in (("daily", daily, options.days), ("siblings", siblings, options.siblings)):
            if count > 1:
                (work / what).mkdir()
                results[what] = measure(names, work / what, image, make(folder, golden, steps, count))
                shutil.rmtree(work / what)
        for what, rows in results.items():
            print(f"\n{what}:")
            table(rows, "the first")
        if options.json:
            pathlib.Path(options.json).write_text(json.dumps(results))
    finally:
        shutil.rmtree(work, ignore_errors=True)


if __name__ == "__main__":
    main()
