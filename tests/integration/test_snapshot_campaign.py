"""Snapshots, uploads, merges and rollbacks of one VM, with moultd killed at one step after the other: every restore point that is listed is what the
disk was, and every file beside the disk belongs to something. A real QEMU without a guest; the store is a directory."""

import os
import random
import sqlite3

import moult
import vm as vms
from disk_machine import SIZE, MIB, Machine, qemu_img
from snapshot_lab import SEED, SOAK, add

ROUNDS = 100 if SOAK else 4
POINTS = ("snapshot-make", "snapshot-place", "snapshot-switch", "layer-made", "layer-placed", "snapshot-layer-up", "snapshot-manifest", "share-chunk-put",
          "merge-copy", "merge-recorded", "merge-swept", "rollback-make", "rollback-place", "layer-place")
CHAIN_MAX = 4


class Campaign:
    def __init__(self, directory):
        self.random = random.Random(SEED)
        self.machine = Machine(directory, "blockdev").start()
        self.host = moult.Host(directory / "host")
        self.host.start()
        add(self.host, self.machine)
        self.references = {}
        self.kills = 0
        self.directory = directory

    def stop(self):
        self.host.stop()
        if self.machine.process.poll() is None:
            self.machine.kill()

    def write(self):
        for _ in range(self.random.randint(1, 3)):
            self.machine.write(self.random.randrange(SIZE // MIB), self.random.randint(0, 250))

    def dies(self):
        return self.host.process.poll() is not None

    def finish(self, command=None):
        """moultd is there again if it has died, and everything that was under way has ended."""
        deadline = vms.Deadline(120, "the end of what is under way")
        while True:
            if self.dies():
                assert self.host.process.returncode == -9
                self.kills += 1
                self.host.start()
            if (command is None or command.poll() is not None) and not self.under_way():
                break
            deadline.left()
        return command.returncode if command else 0

    def under_way(self):
        code, out, _ = self.host.run("jobs", "--json")
        return code != 0 or out.strip() not in ("[]", "")

    def listed(self):
        return self.host.json("snapshot", "list", "web-1")

    def create(self, name):
        self.references[name] = dict(self.machine.written)
        self.finish(self.host.spawn("snapshot", "create", "web-1", "--name", name))
        if name not in [s["name"] for s in self.listed()]:
            del self.references[name]

    def roll_back(self):
        target = self.random.choice(list(self.references))
        last = dict(self.machine.written)
        self.machine.kill()
        known = {s["name"] for s in self.listed()}
        code = self.finish(self.host.spawn("snapshot", "rollback", "web-1", "--to", target))
        new = [s["name"] for s in self.listed() if s["name"] not in known]
        assert new, f"{target}: {code}"
        self.references[new[0]] = last
        self.machine.written = dict(self.references[target])
        self.machine.expect(self.machine.disk, self.machine.written)
        self.machine.start()

    def check(self, names):
        for name in names:
            path = self.directory / "export.qcow2"
            path.unlink(missing_ok=True)
            self.host.moult("snapshot", "export", "web-1", name, "--output", path)
            self.machine.expect(path, self.references[name])
        path.unlink(missing_ok=True)

    def check_files(self):
        with sqlite3.connect(f"file:{self.host.state}/catalogue.db?mode=ro", uri=True) as db:
            known = {f for (f,) in db.execute("SELECT file FROM layers WHERE file IS NOT NULL")}
            for row in db.execute("SELECT upper_file, lower_file FROM merges"):
                known |= set(row)
        top = os.stat(self.machine.disk).st_ino
        for path in self.machine.dir.glob("web-1.qcow2.*"):
            assert str(path) in known or path.stat().st_ino == top, f"{path.name} belongs to nothing"
            if path.stat().st_ino != top:
                qemu_img("check", "-q", "-f", "qcow2", path)
        assert self.machine.chain_length() <= CHAIN_MAX


def test_whatever_step_moultd_dies_at_every_restore_point_is_what_the_disk_was(tmp_path):
    c = Campaign(tmp_path)
    try:
        for n in range(ROUNDS):
            point = c.random.choice(POINTS)
            c.host.stop()
            c.host.start({"MOULT_FAULT": f"{point}:{c.random.randint(1, 3)}=kill"})
            c.write()
            c.create(f"s{n}")
            c.write()
            c.create(f"t{n}")
            if c.random.random() < 0.4:
                c.roll_back()
            c.finish()
            c.check(c.random.sample(sorted(c.references), min(2, len(c.references))))
            c.check_files()
            c.machine.expect(c.machine.disk, c.machine.written)
        c.check(sorted(c.references))
        c.host.moult("store", "verify", "--shared")
        listed = {s["name"] for s in c.listed()}
        assert listed == set(c.references)
        print(f"seed {SEED}: moultd killed {c.kills} times in {ROUNDS} rounds, {len(listed)} restore points, all as they were")
        assert c.kills >= ROUNDS // 3
    finally:
        c.stop()
