#!/usr/bin/python3
"""The host's side of the power-cut campaign: moultd's state directory, the store and the directory of a VM's disks.

1. A real moultd and a real QEMU (without a guest; its disk is written to through QEMU's own block layer) create, upload, merge, roll
   back and prune (host_work.py) on three file systems of one disk that records every write and flush (recorded_disk.py).
2. blklog.py makes crash states of the record: each flush point, and at each one subsets of what was not flushed.
3. Each state is mounted, a new moultd is started on it (with the VM off, or started before it from the disk's path), and judged:
     * the disk holds what was flushed last, or what was written since;
     * each restore point that was acknowledged is listed, none is that was never made or is removed; what was uploaded still is;
     * `snapshot verify --deep` finds each one good, and each one holds what the disk held when it was taken;
     * each file beside the disk belongs to something and is whole inside, each manifest in the store to a restore point;
     * the chain is complete, and never longer than four files.

    host_campaign.py [--fs ext4|xfs] [--states N] [--points N] [--step TEXT] [--seed N] [--fault NAME:*=skip] [--keep DIR]

Ends with 0 when as many states as were asked for were judged and none was wrong; --fault turns that around: a sync that is left out must be noticed."""

import argparse
import contextlib
import os
import pathlib
import random
import shutil
import sqlite3
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parents[1] / "tests/support")]

import blklog  # noqa: E402
import moult  # noqa: E402
import recorded_disk  # noqa: E402
import scenarios  # noqa: E402
import vm as vms  # noqa: E402
from disk_machine import MIB, Machine, qemu_img  # noqa: E402
from host_work import Work, exactly  # noqa: E402

SECTOR = 512
CHAIN_MAX = 4


class Wrong(Exception):
    """What a crash state must not be."""


def require(fine, text):
    if not fine:
        raise Wrong(text)


class Lab:
    """A machine and a moultd whose files lie on three file systems."""

    def __init__(self, work, fs, fault):
        self.work, self.fault = work, fault
        self.host = moult.Host(work / "host", options=["--shared-store", work / "store"])
        points = {"state": self.host.state, "store": work / "store", "vms": work / "vms"}
        for point in points.values():
            point.mkdir()
        self.partitions = recorded_disk.Partitions(fs, points)
        self.marks_at = self.partitions.size + SECTOR
        self.machine = self.done = None

    def record(self, image, log, seed):
        """Leaves in @image what the disk was in the beginning."""
        now = f"{image}.now"
        self.partitions.make(image)
        blklog.copy_sparse(image, now)
        with recorded_disk.Recorder(now, log, f"{image}.device", self.partitions.size) as r:
            self.partitions.mount(r.device)
            try:
                self.machine = Machine(self.work / "vms", "blockdev").start()
                self.host.start({"MOULT_FAULT": self.fault} if self.fault else None)
                self.host.moult("vm", "add", "web-1", "--qmp", self.machine.qmp_socket, "--agent", self.machine.no_agent)
                os.sync()
                self.done = Work(self.host, self.machine, r.mark, seed)
                self.done.run()
                # The record ends here: what an orderly end would flush must not hide what was not flushed.
                r.end()
                self.host.kill()
                self.machine.kill()
                entries = blklog.read_log(log)
            finally:
                self.stop()
                self.partitions.unmount()
        os.unlink(now)
        return entries

    def stop(self):
        with contextlib.suppress(Exception):
            self.host.kill()
        if self.machine and self.machine.process and self.machine.process.poll() is None:
            self.machine.kill()

    # -- judging

    def judge(self, image, facts, starts_first):
        self.partitions.mount(image)
        try:
            self.look_at_disk(facts, "before moultd")
            if starts_first:
                self.machine.start()
            self.host.start()
            self.done.settle()
            listed = self.look_at_list(facts)
            self.look_at_points(listed, facts)
            self.look_at_files()
            self.look_at_manifests()
            if starts_first:
                require(self.machine.chain_length() <= CHAIN_MAX, "the chain is too long")
                self.host.moult("snapshot", "create", "web-1", "--no-upload", "--name", "afterwards")
                self.machine.kill()
            self.look_at_disk(facts, "after moultd")
            self.host.stop()
        except (moult.CommandError, vms.VmError, subprocess.CalledProcessError, AssertionError, OSError) as e:
            raise Wrong(f"{e}\n{getattr(e, 'stderr', '') or ''}") from e
        finally:
            self.stop()
            self.partitions.unmount()

    def content(self, path):
        raw = self.work / "content.raw"
        qemu_img("convert", "-U", "-f", "qcow2", "-O", "raw", path, raw)
        return raw.read_bytes()

    def look_at_disk(self, facts, when):
        data = self.content(self.machine.disk)
        wrong = [differs(data, disk) for disk in facts.disks]
        require(None in wrong, f"the disk {when}: {wrong}")

    def look_at_list(self, facts):
        listed = {s["name"]: s for s in self.host.json("snapshot", "list", "web-1")}
        require(facts.must <= set(listed), f"not listed: {sorted(facts.must - set(listed))}")
        for name, s in listed.items():
            require(facts.allows(name), f"{name} is listed")
            require(s["uploaded"] or name not in facts.uploaded, f"{name} is not uploaded any more")
        return listed

    def look_at_points(self, listed, facts):
        if not listed:
            return
        self.host.moult("snapshot", "verify", "web-1", "--deep", "--scratch", self.work)
        for name in listed:
            path = self.work / "export.qcow2"
            path.unlink(missing_ok=True)
            self.host.moult("snapshot", "export", "web-1", name, "--output", path)
            why = differs(self.content(path), exactly(self.done.references.get(name, facts.before)))
            require(why is None, f"{name}: {why}")

    def rows(self, sql):
        with contextlib.closing(sqlite3.connect(f"file:{self.host.state}/catalogue.db?mode=ro", uri=True)) as db:
            return db.execute(sql).fetchall()

    def look_at_files(self):
        known = {f for (f,) in self.rows("SELECT file FROM layers WHERE file IS NOT NULL")}
        for row in self.rows("SELECT upper_file, lower_file FROM merges"):
            known |= set(row)
        top = os.stat(self.machine.disk).st_ino
        for path in self.machine.dir.glob("web-1.qcow2*"):
            require(str(path) in known or path.stat().st_ino == top, f"{path.name} belongs to nothing")
            done = subprocess.run(["qemu-img", "check", "-q", "-U", "-f", "qcow2", path], check=False, capture_output=True, text=True)
            # 3: nothing but leaked clusters, which whoever is cut while it writes leaves behind, and which harm nobody.
            require(done.returncode in (0, 3), f"{path.name}: {done.stdout}{done.stderr}")

    def look_at_manifests(self):
        known = {i for (i,) in self.rows("SELECT id FROM snapshots UNION SELECT snapshot FROM removals")}
        for path in (self.work / "store/snapshots").rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                require(path.name.removesuffix(".json") in known, f"the manifest {path.name} belongs to no restore point")


def differs(data, disk):
    """None, or where; a block of which two patterns may be there has either one in each sector."""
    for at, patterns in enumerate(disk):
        block = data[at * MIB:(at + 1) * MIB]
        if any(block == bytes([p]) * MIB for p in patterns):
            continue
        sectors = {block[i:i + SECTOR] for i in range(0, MIB, SECTOR)}
        if not sectors <= {bytes([p]) * SECTOR for p in patterns}:
            return f"at {at} MiB {sorted({s[0] for s in sectors})} instead of {sorted(patterns)}"
    return None


def campaign(fs, states, points, seed, fault, work, step=""):
    """(states judged, what was wrong). points: how many flush points, or None for each. step: only in steps that begin with this."""
    scenarios.Written().prepare_host()          # a mount namespace of our own
    lab = Lab(work, fs, fault)
    before, log, image = work / "before", work / "writes.log", work / "state"
    entries = lab.record(before, log, seed)
    facts = lab.done.facts
    runs = blklog.epochs(entries)
    started = next(n for n, writes in enumerate(runs) if any(e.offset >= lab.marks_at for e in writes))
    epochs = [n for n, writes in enumerate(runs) if n > started and any(e.offset < lab.marks_at for e in writes)]
    chosen = [n for n, mark in zip(epochs, blklog.marks_of(runs, epochs, lab.marks_at, log))
              if facts[mark].step.startswith(step)]
    rng = random.Random(seed)
    assert chosen, f"no flush point lies in a step \"{step}\""
    if points is not None:
        # The last one always: whatever was acknowledged, and not synced, is missing there.
        chosen = rng.sample(chosen[:-1], min(points - 1, len(chosen) - 1)) + chosen[-1:]
    chosen = set(chosen)
    per_epoch = max(2, -(-states // len(chosen)))
    print(f"host, {fs}: recorded {len(entries)} operations, {len(epochs)} runs of writes between flushes; "
          f"up to {per_epoch} states of each of {len(chosen)}", flush=True)
    total, wrong = 0, []
    for state in blklog.crash_states(entries, before, log, image, lab.marks_at, per_epoch, seed, only=chosen):
        if total >= states:
            break
        total += 1
        try:
            lab.judge(image, facts[state.mark], starts_first=rng.random() < 0.25)
        except Wrong as e:
            wrong.append(f"run {state.epoch}, {state.kept} of {state.pending} writes kept, after \"{facts[state.mark].step}\": {e}")
            print(f"  {wrong[-1]}", flush=True)
            if fault:
                break
    print(f"host, {fs}: {total} crash states of {len(chosen)} of {len(epochs)} flush points, {len(wrong)} wrong", flush=True)
    return total, wrong


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--fs", choices=recorded_disk.MAKE, default="ext4")
    parser.add_argument("--states", type=int, default=40)
    parser.add_argument("--points", type=int, help="how many flush points, chosen by the seed (default: each one)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--fault", help="a sync call to leave out, as in common/fault.h: NAME:*=skip")
    parser.add_argument("--step", default="", help="only what lies in steps that begin with this (host_work.py)")
    parser.add_argument("--keep", help="folder to work in, kept afterwards")
    options = parser.parse_args()
    fast = "/dev/shm" if os.path.isdir("/dev/shm") else None
    work = pathlib.Path(options.keep or tempfile.mkdtemp(prefix="moult-powercut-", dir=fast))
    work.mkdir(parents=True, exist_ok=True)
    try:
        total, wrong = campaign(options.fs, options.states, options.points, options.seed, options.fault, work, options.step)
    finally:
        if not options.keep:
            shutil.rmtree(work, ignore_errors=True)
    if options.fault:
        print("noticed" if wrong else "NOT noticed")
        return 0 if wrong else 1
    return 1 if wrong or not total else 0


if __name__ == "__main__":
    sys.exit(main())
