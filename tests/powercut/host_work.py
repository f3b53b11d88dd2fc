"""What moultd and a QEMU do on the recorded disk, and what must be true from which moment on.

Each step is told twice: before it begins (from then on its outcome may be there, or not) and when it was acknowledged (from then on
it must be there). Facts are numbered; the number is written into the record at that place."""

import copy
import random
from dataclasses import dataclass, field

from disk_machine import MIB, SIZE

BLOCKS = SIZE // MIB


@dataclass
class Facts:
    """disk: per MiB, the patterns of which each of its sectors has one; several contents, if it may be one or the other."""
    step: str = "start"
    disks: list = field(default_factory=list)
    must: set = field(default_factory=set)      # restore points that are listed
    may: set = field(default_factory=set)       # that may be, besides
    uploaded: set = field(default_factory=set)  # that the store has
    before: dict = None                         # what the restore point holds that a rollback makes, and names, itself

    def allows(self, name):
        return any(name == m or (m.endswith("*") and name.startswith(m[:-1])) for m in self.must | self.may)


def exactly(written):
    return [frozenset([written.get(at, 0)]) for at in range(BLOCKS)]


class Work:
    """Takes the VM through its life. references: what each restore point holds."""

    def __init__(self, host, machine, mark, seed):
        self.host, self.machine, self.write_mark = host, machine, mark
        self.random = random.Random(seed)
        self.facts, self.references = [], {}
        self.now = Facts(disks=[exactly(machine.written)])
        self.tell("start")

    def tell(self, step):
        self.now.step = step
        self.facts.append(copy.deepcopy(self.now))
        self.write_mark(len(self.facts) - 1)

    # -- steps

    def write(self, flush=True):
        at, pattern = self.random.randrange(BLOCKS), self.random.randrange(1, 250)
        if not flush:
            at = BLOCKS - 1                     # not another one's that was flushed
        disk = self.now.disks[0]
        disk[at] = disk[at] | {pattern}
        self.tell(f"writes {pattern} to {at}")
        self.machine.write(at, pattern, flush=flush)
        if flush:
            self.now.disks = [exactly(self.machine.written)]
            self.tell("flushed")

    def create(self, name, *options):
        self.references[name] = dict(self.machine.written)
        self.now.may.add(name)
        self.tell(f"create {name}")
        self.host.moult("snapshot", "create", "web-1", "--name", name, *options)
        self.now.may.discard(name)
        self.now.must.add(name)
        self.now.disks = [exactly(self.machine.written)]    # all that was written before a layer is sealed is on the disk
        self.tell(f"created {name}")

    def uploads(self):
        self.settle()
        self.now.uploaded = {s["name"] for s in self.host.json("snapshot", "list", "web-1") if s["uploaded"]}
        self.tell(f"uploaded {len(self.now.uploaded)}")

    def settle(self):
        while jobs := self.host.json("jobs"):
            for job in jobs:
                self.host.run("jobs", "wait", job["id"])

    def merge(self):
        self.tell("merge")
        self.host.moult("snapshot", "merge", "web-1")
        self.tell("merged")

    def rollback(self, to, live=False):
        last, target = dict(self.machine.written), dict(self.references[to])
        known = {s["name"] for s in self.host.json("snapshot", "list", "web-1")}
        if not live:
            self.machine.kill()
        self.now.before = last
        self.now.may.add("before-*")            # its name is moultd's
        self.now.disks = [exactly(last), exactly(target)]
        self.tell(f"rollback to {to}")
        self.host.moult("snapshot", "rollback", "web-1", "--to", to, *(["--restart"] if live else []))
        (before,) = {s["name"] for s in self.host.json("snapshot", "list", "web-1")} - known
        self.references[before] = last
        self.now.may.discard("before-*")
        self.now.must.add(before)
        self.machine.written = target
        self.now.disks = [exactly(target)]
        self.tell(f"rolled back to {to}")
        if not live:
            self.machine.start()

    def prune(self, *rules):
        removed = {o["name"] for o in self.host.json("snapshot", "prune", "web-1", *rules, "--dry-run")["result"]["removed"]}
        self.now.must -= removed
        self.now.uploaded -= removed
        self.now.may |= removed
        self.tell(f"prune {len(removed)}")
        self.host.moult("snapshot", "prune", "web-1", *rules)
        self.now.may -= removed
        self.tell(f"pruned {len(removed)}")

    def run(self):
        self.create("empty")                    # nothing was ever written: a layer of no chunks
        self.write()
        self.create("one", "--no-upload")
        self.write()
        self.write(flush=False)
        self.create("two")
        self.uploads()                          # and what is merged after them
        self.write()
        self.create("three")
        self.write(flush=False)
        self.uploads()
        self.merge()
        self.rollback("empty")                  # its file has gone: from the store
        self.write()
        self.create("four")
        self.uploads()
        self.rollback("three", live=True)
        self.write()
        self.create("five")
        self.uploads()
        self.prune("--keep-last", "2")
        self.write(flush=False)
        self.create("six", "--no-upload")
        self.settle()
        self.tell("end")
