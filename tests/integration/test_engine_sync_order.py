"""No step of the journal before the syncs that it relies on: the table of docs/upgrade-transaction.md as rules over a
system-call trace. And the rules have teeth: with any one sync left out, they notice."""

import os
import re
import shutil
import subprocess

import pytest

from engine_lab import BUILD, OK, Lab, copy_tree, put, set_times, NEW_TIME, OLD_TIME

CALLS = "openat,openat2,close,write,pwrite64,renameat,renameat2,rename,syncfs,fsync,fdatasync,mkdirat,linkat,symlinkat,mknodat," \
        "fchown,fchownat,fchmod,fchmodat,utimensat,fsetxattr,lsetxattr,fremovexattr,lremovexattr,ftruncate,unlinkat,sync_file_range"
LINE = re.compile(r"^(?P<pid>\d+) +(?P<call>\w+)\((?P<args>.*)\) += (?P<result>-?\d+)(?P<rest>.*)$")
UNFINISHED = re.compile(r"^(\d+) +(.*) <unfinished \.\.\.>$")
RESUMED = re.compile(r"^(\d+) +<\.\.\. (\w+) resumed>(.*)$")
PATH = re.compile(r"<(/[^>]*)>")


class Event:
    def __init__(self, call, args, rest, result):
        self.call, self.args, self.result = call, args, int(result)
        self.paths = PATH.findall(args)
        self.opened = PATH.findall(rest)

    def __repr__(self):
        return f"{self.call}({self.args})"


def parse(text):
    """Calls that succeeded, in the order in which they ended; two halves of an interrupted line are put together."""
    pending, events = {}, []
    for line in text.splitlines():
        if match := UNFINISHED.match(line):
            pending[match[1]] = match[2]
            continue
        if match := RESUMED.match(line):
            line = f"{match[1]} {pending.pop(match[1], match[2] + '(')}{match[3]}"
        match = LINE.match(line)
        if match and not match["result"].startswith("-"):
            events.append(Event(match["call"], match["args"], match["rest"], match["result"]))
    return events


class Rules:
    """Walks over the events; what is written and not yet synced is remembered, and each journal record asks."""

    def __init__(self, lab):
        self.root, self.state = os.path.realpath(lab.root), os.path.realpath(lab.state)
        self.broken = []
        self.staged_dirty = False       # data and metadata in the staging areas
        self.switched_dirty = False     # names of the live tree
        self.opened = {}                # descriptor: number of the event that made it
        self.dirty_since = None         # number of the first content or switch since the last sync of the tree
        self.now = 0
        self.state_dirty = set()        # files of the state directory
        self.names_dirty = set()        # directories of the state directory with new names
        self.record = None              # journal record written, not yet synced
        self.decided = None             # the last decision that is on the disk
        self.last = None
        self.seen = []

    def complain(self, text):
        self.broken.append(text)

    def is_staging(self, path):
        return path.startswith(self.root) and "/.moult/" in path + "/"

    def walk(self, events):
        for e in events:
            self.one(e)
        return self

    def one(self, e):
        first = e.paths[0] if e.paths else ""
        self.now += 1
        self.sort(e, first)
        if self.dirty_since is None and (self.switched_dirty or self.is_staging(first) and e.call in ("write", "pwrite64")):
            self.dirty_since = self.now

    def sort(self, e, first):
        if e.call in ("openat", "openat2"):
            self.opened[e.result] = self.now
        if first.endswith("/journal") and e.call in ("write", "pwrite64"):
            self.write_record(re.search(r'"\d+ ([a-z-]+) ', e.args)[1])
        elif first.endswith("/journal") and e.call in ("fdatasync", "fsync"):
            self.decided, self.record = self.record or self.decided, None
        elif e.call == "syncfs":
            self.synced_file_system(first, int(re.match(r"\d+", e.args)[0]))
        elif e.call in ("fsync", "fdatasync"):
            self.state_dirty.discard(first)
            self.names_dirty.discard(first)
        elif e.call in ("renameat2", "renameat", "rename"):
            self.rename(e)
        elif first.startswith(self.state):
            self.touch_state(e, first)
        elif self.is_staging(first) and e.call not in ("close", "sync_file_range", "openat2", "unlinkat"):
            self.staged_dirty = self.staged_dirty or e.call != "openat" or "O_CREAT" in e.args

    def synced_file_system(self, path, descriptor):
        """Tree and state may lie on two file systems: each counts only for what it was called on. Errors of writes are
        told only to descriptors that were open before them."""
        if path.startswith(self.state):
            self.state_dirty.clear()
            self.names_dirty.clear()
        if path.startswith(self.root) and self.opened[descriptor] > (self.dirty_since or self.now):
            self.complain(f"syncfs of {path} by a descriptor that was opened after what it is to sync")
        elif path.startswith(self.root):
            self.staged_dirty = self.switched_dirty = False
            self.dirty_since = None

    def touch_state(self, e, path):
        if e.call in ("write", "pwrite64"):
            self.state_dirty.add(path)
        elif e.call == "mkdirat" or (e.call == "openat" and "O_CREAT" in e.args):
            self.names_dirty.add(path)

    def rename(self, e):
        if any(p.startswith(self.state) for p in e.paths) and not any(self.is_staging(p) for p in e.paths):
            self.names_dirty.add(e.paths[0])
            for path in [p for p in self.state_dirty if os.path.dirname(p) == e.paths[0]]:
                if "/." in path:
                    self.complain(f"{path} is renamed before its content is synced")
            return
        if "probe-" in e.args:
            return
        if self.last in ("commit", "back") and self.decided != self.last:
            self.complain(f"a name is switched before the record \"{self.last}\" is synced")
        if self.last not in ("commit", "back"):
            self.complain(f"a name is switched after the record \"{self.last}\"")
        self.switched_dirty = True

    def write_record(self, name):
        if self.record is not None:
            self.complain(f"record \"{name}\" is written before \"{self.record}\" is synced")
        if name == "begun" and any(self.state == p or "generations" in p for p in self.names_dirty):
            self.complain(f"begun: names in {self.names_dirty} are not synced")
        if name == "staged" and self.staged_dirty:
            self.complain("staged: staged objects are not synced")
        if name == "staged" and (kept := {p for p in self.state_dirty | self.names_dirty if not p.endswith("/journal")}):
            self.complain(f"staged: {kept} are not synced")
        if name in ("switched", "rolled-back") and self.switched_dirty:
            self.complain(f"{name}: switched names are not synced")
        self.record = self.last = name
        self.seen.append(name)


@pytest.fixture(scope="module")
def bench(tmp_path_factory):
    if not shutil.which("strace"):
        pytest.skip("strace is not installed")
    directory = tmp_path_factory.mktemp("order")
    lab = Lab(directory / "lab")
    old, new = directory / "old", directory / "new"
    for root, version in ((old, 1), (new, 2)):
        put(root, "etc/f", f"{version}\n")
        put(root, "etc/g", f"{version}\n", 0o640 + version)
    put(old, "etc/gone", "x\n")
    put(new, "new/h", "x\n")
    (new / "etc/l").symlink_to("f")
    set_times(old, OLD_TIME)
    set_times(new, NEW_TIME)
    lab.old, lab.pack = old, lab.release(new, old=old)
    return lab


def trace(lab, *words, environment=None):
    out = lab.dir / "strace"
    lab.prefix = ["strace", "-f", "-y", "-s", "64", "-e", f"trace={CALLS}", "-o", str(out)]
    # LeakSanitizer cannot work under ptrace
    environment = {"ASAN_OPTIONS": "detect_leaks=0"} | (environment or {})
    try:
        lab.agent(*words, check=OK, environment=environment)
    finally:
        lab.prefix = []
    return parse(out.read_text(errors="replace"))


def start(lab):
    shutil.rmtree(lab.root)
    shutil.rmtree(lab.state, ignore_errors=True)
    lab.root.mkdir()
    copy_tree(lab.old, lab.root)


def run(lab, environment=None):
    start(lab)
    rules = Rules(lab)
    rules.walk(trace(lab, "apply", lab.pack, "--trust", lab.trust, *lab.where, environment=environment))
    rules.walk(trace(lab, "rollback", "--offline", *lab.where, environment=environment))
    return rules


def test_every_record_comes_after_the_syncs_that_it_relies_on(bench):
    rules = run(bench)
    assert rules.seen == ["begun", "planned", "staged", "commit", "switched", "health", "active", "committed", "back",
                          "rolled-back"]
    assert not rules.broken, "\n".join(rules.broken)


SYNCS = ["sync-generation", "sync-staged", "sync-state", "sync-journal-commit", "sync-switched", "sync-journal-back",
         "sync-rolled-back", "sync-journal-begun", "sync-journal-planned", "sync-journal-staged", "sync-journal-switched",
         "sync-journal-health", "sync-journal-active", "atomic-file.skip-fsync"]


@pytest.mark.parametrize("sync", SYNCS)
def test_each_sync_that_is_left_out_is_noticed(bench, sync):
    if subprocess.run(["grep", "-q", "MOULT_FAULT_POINTS:BOOL=ON", str(BUILD / "CMakeCache.txt")], check=False).returncode:
        pytest.skip("this build has no fault points")
    rules = run(bench, {"MOULT_FAULT": f"{sync}:*=skip"})
    assert rules.broken, f"without {sync} the trace looks right"
    print(f"\n{sync}: {rules.broken[0]}")
